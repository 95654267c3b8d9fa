//! The dialler: one process for one outgoing TCP connection of a forwarded channel. It looks the name
//! up, which means to parse answers from the network, and connects; so it is nobody, and its end
//! harms nobody. The connected socket goes to the transport, which waits for it beside its other work.

use crate::wire::{self, Dial, Dialled};
use anyhow::{Context, Result};
use host::sys::{inherited, process};
use rustix::process::{Resource, Rlimit};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::AsFd;
use std::time::Duration;

/// How long one address may take; a name may have several.
const PATIENCE: Duration = Duration::from_secs(10);
/// The only address, or the last one, gets what the kernel would give it at most.
const LAST_PATIENCE: Duration = Duration::from_secs(60);
/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;

pub fn run() -> Result<()> {
    process::drop_privileges(super::NOBODY).context("give up root")?;
    // A name server's answer cannot make it grow or run on.
    let limit = |most| Rlimit { current: Some(most), maximum: Some(most) };
    rustix::process::setrlimit(Resource::As, limit(256 << 20)).context("limit memory")?;
    rustix::process::setrlimit(Resource::Cpu, limit(10)).context("limit time")?;
    let socket = inherited(0);
    let Some((Dial { host, port }, _)) = wire::receive::<Dial>(socket)? else { return Ok(()) };
    let result = match dial(&host, port) {
        Ok(stream) => wire::send(socket, &Dialled { error: None }, &[stream.as_fd()]),
        Err(error) => wire::send(socket, &Dialled { error: Some(format!("{error:#}")) }, &[]),
    };
    // The channel may be gone, and its end of the socket with it.
    result
        .or_else(|error| if error.kind() == std::io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })?;
    Ok(())
}

fn dial(host: &str, port: u16) -> Result<TcpStream> {
    let addresses: Vec<_> =
        (host, port).to_socket_addrs().context("look the name up")?.take(MAX_ADDRESSES).collect();
    let mut result = Err(anyhow::anyhow!("the name has no address"));
    for (index, address) in addresses.iter().enumerate() {
        let patience = if index + 1 == addresses.len() { LAST_PATIENCE } else { PATIENCE };
        result =
            TcpStream::connect_timeout(address, patience).with_context(|| format!("connect to {address}"));
        if result.is_ok() {
            break;
        }
    }
    let stream = result?;
    // As OpenSSH does for whatever it forwards.
    stream.set_nodelay(true).context("TCP_NODELAY")?;
    stream.set_nonblocking(true).context("set non-blocking")?;
    Ok(stream)
}
