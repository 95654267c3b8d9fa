//! Whether the next hops answer: gateways, and the name servers behind them.

use super::path::{self, Path};
use contract::state;
use serde::Serialize;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// How long a name server or a gateway may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// A hop that was asked.
#[derive(Serialize)]
pub(super) struct Hop {
    /// `gateway` or `dns`.
    pub(super) kind: &'static str,
    pub(super) address: IpAddr,
    /// By which the gateway is reached.
    pub(super) interface: Option<String>,
    pub(super) answers: bool,
    /// Of the answer.
    pub(super) milliseconds: Option<u64>,
    /// Where the way to it ends, of one that does not answer and lies behind a router.
    pub(super) path: Option<Path>,
}

/// Gateways and name servers, asked one after the other; the gateways come first, since without them the rest is idle.
pub(super) fn ask(network: &state::Netd) -> Vec<Hop> {
    let mut hops = Vec::new();
    for link in &network.links {
        for gateway in
            link.addresses.iter().filter_map(|address| address.gateway.as_ref()?.parse::<IpAddr>().ok())
        {
            if hops
                .iter()
                .any(|hop: &Hop| hop.address == gateway && hop.interface.as_ref() == Some(&link.name))
            {
                continue;
            }
            let begun = Instant::now();
            let answers = answers_for_itself(gateway, &link.name);
            let milliseconds = answers.then(|| begun.elapsed().as_millis() as u64);
            hops.push(Hop {
                kind: "gateway",
                address: gateway,
                interface: Some(link.name.clone()),
                answers,
                milliseconds,
                path: None,
            });
        }
    }
    for place in network.nameservers.iter().filter_map(|server| host::zone::address(server, 53)) {
        let server = place.ip();
        let begun = Instant::now();
        let answers = answers_dns(place);
        let milliseconds = answers.then(|| begun.elapsed().as_millis() as u64);
        let path = (!answers && is_far(network, server)).then(|| path::to(server));
        hops.push(Hop { kind: "dns", address: server, interface: None, answers, milliseconds, path });
    }
    hops
}

/// Whether a neighbour tells its MAC: every router does, also one that is silent to pings. The kernel asks as soon as
/// something is to be sent there.
fn answers_for_itself(gateway: IpAddr, interface: &str) -> bool {
    let Ok(socket) = UdpSocket::bind(match gateway {
        IpAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        IpAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    }) else {
        return false;
    };
    // Two links may have the same gateway.
    if host::sys::packet::bind_to(&socket, interface).is_err() {
        return false;
    }
    let begun = Instant::now();
    let discard = match gateway {
        IpAddr::V6(v6) if v6.is_unicast_link_local() => {
            let index = rustix::net::netdevice::name_to_index(&socket, interface).unwrap_or(0);
            SocketAddr::V6(std::net::SocketAddrV6::new(v6, 9, 0, index))
        }
        gateway => SocketAddr::new(gateway, 9),
    };
    // What comes of it does not matter, but what the kernel then knows of the neighbour.
    let _ = socket.send_to(&[], discard);
    let mut is_asked = false;
    loop {
        match host::sys::netlink::neighbour(gateway, interface) {
            Ok(Some(state)) if state.is_stale() && !is_asked => {
                is_asked = true;
                // Without it the kernel asks later than is waited for here.
                let _ = host::sys::netlink::ask_neighbour(gateway, interface);
            }
            Ok(Some(state)) if state.is_answering() => return true,
            Ok(Some(state)) if state.is_failed() => return false,
            Ok(_) if begun.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(20)),
            Ok(_) | Err(_) => return false,
        }
    }
}

/// Whether a name server answers at all, to the question for the root's name servers.
fn answers_dns(server: SocketAddr) -> bool {
    // RFC 1035 section 4.1: an identifier, recursion desired, one question: the root, NS, IN.
    const QUESTION: [u8; 17] = [0x4c, 0x42, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1];
    let any = match server {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let asked = || -> std::io::Result<bool> {
        let socket = UdpSocket::bind(any)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.connect(server)?;
        socket.send(&QUESTION)?;
        let mut answer = [0; 512];
        let length = socket.recv(&mut answer)?;
        Ok(length >= 12 && answer[..2] == QUESTION[..2])
    };
    asked().unwrap_or(false)
}

/// Behind a router, as far as the links' own networks tell.
fn is_far(network: &state::Netd, server: IpAddr) -> bool {
    let addresses = || network.links.iter().flat_map(|link| &link.addresses);
    let is_of_link = matches!(server, IpAddr::V6(six) if six.is_unicast_link_local());
    !server.is_loopback()
        && !is_of_link
        && addresses().any(|address| address.gateway.is_some())
        && !addresses().any(|address| is_beside(address, server))
}

/// Whether `other` is in the network of this address.
fn is_beside(address: &state::Address, other: IpAddr) -> bool {
    match (address.address.parse(), other) {
        (Ok(IpAddr::V4(own)), IpAddr::V4(other)) => {
            let differ = own.to_bits() ^ other.to_bits();
            differ.leading_zeros() >= u32::from(address.prefix)
        }
        (Ok(IpAddr::V6(own)), IpAddr::V6(other)) => {
            let differ = own.to_bits() ^ other.to_bits();
            differ.leading_zeros() >= u32::from(address.prefix)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(address: &str, prefix: u8, gateway: Option<&str>) -> state::Netd {
        let (address, gateway) = (address.to_string(), gateway.map(str::to_string));
        let addresses = vec![state::Address { address, prefix, gateway, ..Default::default() }];
        state::Netd { links: vec![state::Link { addresses, ..Default::default() }], ..Default::default() }
    }

    #[test]
    fn the_way_to_a_name_server_is_followed_where_a_router_is_before_it() {
        let far = |address: &str, prefix, gateway, server: &str| {
            is_far(&network(address, prefix, gateway), server.parse().unwrap())
        };
        assert!(far("192.0.2.5", 24, Some("192.0.2.1"), "203.0.113.9"));
        assert!(!far("192.0.2.5", 24, Some("192.0.2.1"), "192.0.2.1"));
        assert!(far("192.0.2.5", 32, Some("192.0.2.1"), "192.0.2.9"));
        assert!(!far("192.0.2.5", 24, None, "203.0.113.9"));
        assert!(!far("192.0.2.5", 24, Some("192.0.2.1"), "127.0.0.1"));
        assert!(far("2001:db8::5", 64, Some("fe80::1"), "2001:db8:0:1::9"));
        assert!(!far("2001:db8::5", 64, Some("fe80::1"), "2001:db8::9"));
        assert!(!far("2001:db8::5", 64, Some("fe80::1"), "fe80::9"), "it is on the link");
    }
}
