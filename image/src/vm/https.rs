//! The files of one directory over TLS on loopback, which a guest reaches at `10.0.2.2`. Key and certificate are test data,
//! of a CA that nobody trusts: made by OpenSSL 3.0, `openssl ca -startdate 20200101000000Z -enddate 21200101000000Z`, for
//! 10.0.2.2 and 127.0.0.1, 2026-11-26; its key is not kept.

use super::programs;
use anyhow::{Context as _, Result};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Whose certificate it has.
pub const AUTHORITY: &str = include_str!("https/ca.crt");

pub struct Server {
    pub port: u16,
    child: Child,
}

impl Server {
    /// Puts key and certificate into the directory.
    pub fn start(directory: &Path) -> Result<Server> {
        for (name, text) in [
            ("server.crt", include_str!("https/server.crt")),
            ("server.key", include_str!("https/server.key")),
        ] {
            fs::write(directory.join(name), text).with_context(|| format!("write {name}"))?;
        }
        let mut child = Command::new(programs::cache()?.join("host/bin/openssl"))
            .current_dir(directory)
            .args(["s_server", "-accept", "127.0.0.1:0", "-cert", "server.crt", "-key", "server.key", "-WWW"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("run openssl")?;
        let stdout = child.stdout.take().context("read what openssl says")?;
        let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
        let port = lines.find_map(|line| line.strip_prefix("ACCEPT ")?.rsplit(':').next()?.parse().ok());
        let server = Server { port: port.unwrap_or(0), child };
        port.context("see the port that openssl listens on")?;
        std::thread::spawn(move || lines.for_each(drop));
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
