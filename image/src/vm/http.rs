//! The files of one directory over HTTP on loopback, for a machine that boots from the network: the
//! guest reaches it at the gateway of its user network, `10.0.2.2`; or at an address of the host's. It knows ranges, and on demand it dies in the middle.

use anyhow::{Context as _, Result};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
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
        Server::with(directory, Ipv4Addr::LOCALHOST, u64::MAX)
    }

    /// The same at this address of the host's.
    pub fn at(address: Ipv4Addr, directory: &Path) -> Result<Server> {
        Server::with(directory, address, u64::MAX)
    }

    /// The first answer for each file breaks off after so many bytes.
    pub fn breaking(directory: &Path, after: u64) -> Result<Server> {
        Server::with(directory, Ipv4Addr::LOCALHOST, after)
    }

    fn with(directory: &Path, address: Ipv4Addr, after: u64) -> Result<Server> {
        let listener = TcpListener::bind((address, 0)).with_context(|| format!("listen at {address}"))?;
        let port = listener.local_addr().context("ask for the port")?.port();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (directory, lines) = (directory.to_path_buf(), log.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (directory, lines) = (directory.clone(), lines.clone());
                // A client that leaves early is a client's business.
                std::thread::spawn(move || answer(stream, &directory, &lines, after).ok());
            }
        });
        Ok(Server { port, log })
    }

    /// The paths that were asked for, in order.
    pub fn asked(&self) -> Vec<String> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn answer(stream: TcpStream, directory: &Path, log: &Mutex<Vec<String>>, after: u64) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?.take(MAX_REQUEST));
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let (mut line, mut from) = (String::new(), 0);
    while reader.read_line(&mut line)? > 2 {
        from = range(&line).unwrap_or(from);
        line.clear();
    }
    let mut words = first.split_ascii_whitespace();
    let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let is_first = {
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        let known: BTreeSet<&str> = log.iter().filter_map(|line| line.split(' ').next()).collect();
        let is_first = !known.contains(target);
        log.push(if from > 0 { format!("{target} from {from}") } else { target.to_string() });
        is_first
    };
    let mut stream = stream;
    let file = named(directory, target).and_then(|path| File::open(path).ok());
    let Some(mut file) = file else {
        return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    let length = file.metadata()?.len();
    from = file.seek(SeekFrom::Start(from.min(length)))?;
    let status = match from {
        0 => "200 OK".to_string(),
        _ => format!("206 Partial Content\r\nContent-Range: bytes {from}-{}/{length}", length - 1),
    };
    let left = length - from;
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {left}\r\nConnection: close\r\n\r\n")?;
    if method == "GET" {
        let most = if is_first { after } else { u64::MAX };
        std::io::copy(&mut file.take(most), &mut stream)?;
    }
    Ok(())
}

/// `Range: bytes=100-`
fn range(line: &str) -> Option<u64> {
    let (name, value) = line.split_once(':')?;
    name.eq_ignore_ascii_case("range").then_some(())?;
    value.trim().strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
}

/// A plain name below the directory or one of its directories, and nothing else.
fn named(directory: &Path, target: &str) -> Option<PathBuf> {
    let name = target.strip_prefix('/')?.split('?').next()?;
    let plain = |part: &str| !part.is_empty() && !part.starts_with('.');
    name.split('/').all(plain).then(|| directory.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_a_number_to_begin_at() {
        assert_eq!(range("Range: bytes=100-\r\n"), Some(100));
        assert_eq!(range("range: bytes=0-9\r\n"), None);
        assert_eq!(range("Host: x\r\n"), None);
    }

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
