//! The dialler: one process for one outgoing TCP connection of a forwarded channel. It looks the name
//! up, which means to parse answers from the network, and connects; so it is nobody, and its end
//! harms nobody. The connected socket goes to the transport, which waits for it beside its other work.

use crate::wire::{self, Dial, Dialled};
use anyhow::{Context, Result, ensure};
use host::sys::{inherited, process};
use rustix::process::{Resource, Rlimit};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
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

/// A static program must not call libc's resolver, which loads libraries at run time; getent(1) of the
/// image does, with /etc/hosts and all. Addresses and this host itself need nobody.
fn look_up(host: &str) -> Result<Vec<SocketAddr>> {
    if let Some(address) = host::zone::address(host, 0) {
        return Ok(vec![address]);
    }
    if host.eq_ignore_ascii_case("localhost") {
        // RFC 6761, section 6.3: no matter what a name server or a file says, or that there is none.
        return Ok(vec![(Ipv4Addr::LOCALHOST, 0).into(), (Ipv6Addr::LOCALHOST, 0).into()]);
    }
    let output = Command::new("getent")
        .args(["ahosts", "--", host])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .stdin(Stdio::null())
        .output()
        .context("look the name up with getent, of the userland layer")?;
    let addresses = addresses(&String::from_utf8_lossy(&output.stdout));
    ensure!(!addresses.is_empty(), "look the name up: no address is known for it");
    Ok(addresses)
}

/// The first column, each address once: `192.0.2.1 STREAM name`.
fn addresses(ahosts: &str) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    let words = ahosts.lines().filter_map(|line| line.split_ascii_whitespace().next());
    for address in words.filter_map(|word| host::zone::address(word, 0)) {
        if !found.contains(&address) {
            found.push(address);
        }
    }
    found
}

fn dial(host: &str, port: u16) -> Result<TcpStream> {
    let addresses: Vec<SocketAddr> = look_up(host)?
        .into_iter()
        .take(MAX_ADDRESSES)
        .map(|mut address| {
            address.set_port(port);
            address
        })
        .collect();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_of_a_name_is_taken_once_and_in_order() {
        let ahosts =
            "2001:db8::1     STREAM example.com\n2001:db8::1     DGRAM\n192.0.2.7       STREAM\ngarbage\n";
        let want = ["[2001:db8::1]:0", "192.0.2.7:0"].map(|address| address.parse().unwrap());
        assert_eq!(addresses(ahosts), want);
        assert_eq!(look_up("192.0.2.9").unwrap(), ["192.0.2.9:0".parse().unwrap()]);
    }
}
