//! Asking a service: one SEQPACKET connection, one request, one reply, one deadline.

use contract::paths;
use contract::wire::{MAX_MESSAGE, Reply};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use serde::{Serialize, de::DeserializeOwned};
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Asks `/run/lifeboat/SERVICE.sock`. `TimedOut` when no reply came in time.
pub fn ask<Q: Serialize>(service: &str, request: &Q, deadline: Duration) -> io::Result<Reply> {
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(paths::socket(service))?)?;
    rustix::net::send(&socket, &serde_json::to_vec(request)?, SendFlags::NOSIGNAL)?;
    let mut fds = [rustix::event::PollFd::new(&socket, rustix::event::PollFlags::IN)];
    let timeout = rustix::event::Timespec::try_from(deadline).map_err(io::Error::other)?;
    if rustix::event::poll(&mut fds, Some(&timeout))? == 0 {
        return Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("{service} did not answer within {deadline:?}"),
        ));
    }
    receive(&socket)
}

/// Listens at `/run/lifeboat/SERVICE.sock`, mode 0600, over a stale one of a service that died.
pub fn listen(service: &str) -> io::Result<OwnedFd> {
    let path = paths::socket(service);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(&path)?)?;
    rustix::fs::chmod(&path, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)?;
    rustix::net::listen(&socket, 16)?;
    Ok(socket)
}

/// One message as JSON.
pub fn receive<T: DeserializeOwned>(socket: &OwnedFd) -> io::Result<T> {
    let mut buffer = vec![0; MAX_MESSAGE];
    let (length, _) = rustix::net::recv(socket, &mut buffer[..], RecvFlags::empty())?;
    if length == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_slice(&buffer[..length])?)
}

/// One reply as JSON.
pub fn reply<T: Serialize>(socket: &OwnedFd, reply: &T) -> io::Result<()> {
    rustix::net::send(socket, &serde_json::to_vec(reply)?, SendFlags::NOSIGNAL)?;
    Ok(())
}
