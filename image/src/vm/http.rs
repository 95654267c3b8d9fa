//! The files of one directory over HTTP on loopback, for a machine that boots from the network: the
//! guest reaches it at the gateway of its user network, `10.0.2.2`.

use anyhow::{Context as _, Result};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Longest request that is read; iPXE's and curl's have a few hundred bytes.
const MAX_REQUEST: u64 = 16 << 10;

pub struct Server {
    pub port: u16,
    log: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Serves until the process ends.
    pub fn start(directory: &Path) -> Result<Server> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen on loopback")?;
        let port = listener.local_addr().context("ask for the port")?.port();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (directory, lines) = (directory.to_path_buf(), log.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (directory, lines) = (directory.clone(), lines.clone());
                // A client that leaves early is a client's business.
                std::thread::spawn(move || answer(stream, &directory, &lines).ok());
            }
        });
        Ok(Server { port, log })
    }

    /// The paths that were asked for, in order.
    pub fn asked(&self) -> Vec<String> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn answer(stream: TcpStream, directory: &Path, log: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?.take(MAX_REQUEST));
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let mut words = first.split_ascii_whitespace();
    let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    log.lock().unwrap_or_else(PoisonError::into_inner).push(target.to_string());
    let mut stream = stream;
    let file = named(directory, target).and_then(|path| File::open(path).ok());
    let Some(mut file) = file else {
        return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    let length = file.metadata()?.len();
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")?;
    if method == "GET" {
        std::io::copy(&mut file, &mut stream)?;
    }
    Ok(())
}

/// One plain name below the directory, and nothing else.
fn named(directory: &Path, target: &str) -> Option<PathBuf> {
    let name = target.strip_prefix('/')?.split('?').next()?;
    let plain = |part: &str| !part.is_empty() && !part.starts_with('.');
    name.split('/').all(plain).then(|| directory.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_below_the_directory_is_served() {
        let here = Path::new("/d");
        assert_eq!(named(here, "/vmlinuz"), Some("/d/vmlinuz".into()));
        assert_eq!(named(here, "/boot.ipxe?x=1"), Some("/d/boot.ipxe".into()));
        assert_eq!(named(here, "/layers/x"), Some("/d/layers/x".into()));
        for target in ["/", "/../x", "/a/../../x", "/a//b", "//etc/x", "/a/.ssh", "/.ssh", "vmlinuz", ""] {
            assert_eq!(named(here, target), None, "{target}");
        }
    }
}
