//! The monitor's part of forwarding: sockets that it opens for the transport, which has no authority
//! to open any. Nothing here waits but for a file system: TCP connections are a dialler's business, and what has a
//! path that a client names is done by a copy of the monitor.

use crate::wire::{self, Dialled, Listened, Place};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use std::fs::{self, Permissions};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Connections that wait to be accepted; OpenSSH's for forwarded ports.
const BACKLOG: i32 = 128;

/// What listens for a client.
pub struct Listening {
    pub sockets: Vec<OwnedFd>,
    /// Of TCP.
    pub port: u16,
    /// Of a Unix socket: removed when this is dropped, if it is still ours.
    pub file: Option<SocketFile>,
}

pub struct SocketFile {
    pub path: PathBuf,
    /// Device and inode.
    pub id: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.id) {
            // Somebody may have been quicker.
            let _ = fs::remove_file(&self.path);
        }
    }
}

pub fn listen(place: &Place) -> io::Result<Listening> {
    match place {
        Place::Tcp { host, port } => {
            let addresses = addresses(host)?;
            let mut port = *port;
            let mut sockets = Vec::new();
            let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
            for mut address in addresses {
                address.set_port(port);
                match listen_tcp(address) {
                    Ok(socket) => {
                        // A port that the kernel chose is the same in both families, or in one alone.
                        port = socket.local_addr()?.port();
                        sockets.push(socket.into());
                    }
                    Err(error) => last = error,
                }
            }
            if sockets.is_empty() { Err(last) } else { Ok(Listening { sockets, port, file: None }) }
        }
        Place::Unix(path) => {
            let (socket, file) = listen_unix(&absolute(path)?)?;
            Ok(Listening { sockets: vec![socket], port: 0, file: Some(file) })
        }
    }
}

/// What a client's bind address means (RFC 4254, section 7.1): nothing and `*` are every address,
/// `localhost` is what the stock client sends when it was given none.
fn addresses(host: &str) -> io::Result<Vec<SocketAddr>> {
    Ok(match host {
        "" | "*" => vec![(Ipv6Addr::UNSPECIFIED, 0).into(), (Ipv4Addr::UNSPECIFIED, 0).into()],
        "localhost" => vec![(Ipv4Addr::LOCALHOST, 0).into(), (Ipv6Addr::LOCALHOST, 0).into()],
        text => {
            let text = text.trim_start_matches('[').trim_end_matches(']');
            vec![host::zone::address(text, 0).ok_or(invalid("is no address to listen on"))?]
        }
    })
}

fn listen_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

/// Refuses a path that exists, as OpenSSH does; only root may connect.
pub fn listen_unix(path: &Path) -> io::Result<(OwnedFd, SocketFile)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    let found = fs::symlink_metadata(path)?;
    let file = SocketFile { path: path.to_path_buf(), id: (found.dev(), found.ino()) };
    // Nobody can connect before it listens.
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok((socket, file))
}

/// A listener for the agent of one connection. The number of a process that ended may come again.
pub fn listen_agent(path: &Path) -> io::Result<(OwnedFd, SocketFile)> {
    if fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        fs::remove_file(path)?;
    }
    listen_unix(path)
}

/// A connection of a Unix socket, which is there at once or not at all.
pub fn connect_unix(path: &str) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(absolute(path)?)?)?;
    Ok(socket)
}

/// Connects, and sends what came of it: a [`Dialled`].
pub fn send_connection(path: &str, to: BorrowedFd<'_>) {
    // The channel, and with it the other end, may be gone.
    let _ = match connect_unix(path) {
        Ok(socket) => wire::send(to, &Dialled { error: None }, &[socket.as_fd()]),
        Err(error) => wire::send(to, &Dialled { error: Some(error.to_string()) }, &[]),
    };
}

/// Listens, and sends what came of it: a [`Listened`]. Where nobody takes it, the file is removed.
pub fn send_listener(path: &str, to: BorrowedFd<'_>) {
    let made = absolute(path).and_then(|path| listen_unix(&path));
    let (socket, file) = match made {
        Ok(made) => made,
        Err(error) => {
            // The connection may be gone.
            let _ = wire::send(to, &Listened::Refused(error.to_string()), &[]);
            return;
        }
    };
    let (device, inode) = file.id;
    if wire::send(to, &Listened::At { device, inode }, &[socket.as_fd()]).is_ok() {
        // The monitor's now.
        std::mem::forget(file);
    }
}

fn absolute(path: &str) -> io::Result<PathBuf> {
    if path.starts_with('/') { Ok(path.into()) } else { Err(invalid("is not an absolute path")) }
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_s_file_goes_with_it_and_another_s_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let place = Place::Unix(path.to_str().unwrap().to_string());
        let listening = listen(&place).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(listen(&place).is_err(), "it exists");
        connect_unix(path.to_str().unwrap()).unwrap();
        drop(listening);
        assert!(!path.exists());
        let listening = listen(&place).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "another's").unwrap();
        drop(listening);
        assert!(path.exists());
    }

    #[test]
    fn a_file_that_was_made_too_late_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let (near, far) = host::sys::pass::pair().unwrap();
        send_listener(path.to_str().unwrap(), far.as_fd());
        assert!(path.exists());
        fs::remove_file(&path).unwrap();
        drop(near);
        send_listener(path.to_str().unwrap(), far.as_fd());
        assert!(!path.exists());
    }

    #[test]
    fn a_bind_address_means_what_the_rfc_says() {
        let tcp = |host: &str| listen(&Place::Tcp { host: host.to_string(), port: 0 });
        let loopback = tcp("localhost").unwrap();
        assert!(loopback.port > 0 && !loopback.sockets.is_empty());
        for (host, why) in [("example.com", "no address to listen on"), ("127.0.0.1 ", "no address")] {
            assert!(tcp(host).err().unwrap().to_string().contains(why), "{host}");
        }
        let error = listen(&Place::Unix("relative".to_string())).err().unwrap();
        assert!(error.to_string().contains("absolute"), "{error}");
    }
}
