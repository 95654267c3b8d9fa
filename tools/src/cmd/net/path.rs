//! The way to an address that does not answer: packets that live for one router, for two, and so on, and who says that
//! they died there (RFC 792, RFC 4443). All are sent at once, so that a dead way costs seconds and not minutes.

use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// Routers that are asked for: a name server is nearer.
const FURTHEST: u8 = 20;
/// Between two packets to one router; some say of the first that they have no time.
const AGAIN: Duration = Duration::from_millis(700);
const PATIENCE: Duration = Duration::from_secs(2);
/// traceroute's first port, which nobody listens on: whoever is there says so.
const PORT: u16 = 33434;

#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Path {
    /// Routers that answered, the nearest first.
    routers: Vec<Router>,
    /// Who said that there is no way on, and why.
    refused: Option<Refused>,
    /// The address itself said something: only what was asked for is not there.
    arrives: bool,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Router {
    /// 1 is the gateway.
    distance: u8,
    address: IpAddr,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Refused {
    address: IpAddr,
    reason: &'static str,
}

/// The end of a line that says where the way ends.
impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.refused, self.routers.last()) {
            _ if self.arrives => write!(f, "the machine is there, no name server"),
            (Some(Refused { address, reason }), _) => write!(f, "{address} says: {reason}"),
            (None, Some(last)) => {
                write!(f, "the way ends behind {}, hop {}", last.address, last.distance)
            }
            (None, None) => write!(f, "no router on the way says anything"),
        }
    }
}

/// What an ICMP message says of a packet of ours.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It died of age.
    Age,
    Unreachable(&'static str),
    /// Nobody listens on its port, so that somebody is there.
    Port,
}

/// Where the way to `target` ends. Without the right to listen to ICMP, an empty path.
pub(super) fn to(target: IpAddr) -> Path {
    trace(target).unwrap_or_default()
}

fn trace(target: IpAddr) -> io::Result<Path> {
    let (family, protocol, any) = match target {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP, IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6, IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
    };
    let raw = rustix::net::socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, Some(protocol))?;
    // The standard library has no raw socket; to receive and to wait is the same for both.
    let ears = UdpSocket::from(raw);
    // The source port tells which packet an answer is about.
    let mut senders = BTreeMap::new();
    for distance in 1..=FURTHEST {
        let socket = UdpSocket::bind((any, 0))?;
        match target {
            IpAddr::V4(_) => socket.set_ttl(u32::from(distance))?,
            IpAddr::V6(_) => sockopt::set_ipv6_unicast_hops(&socket, Some(distance))?,
        }
        senders.insert(socket.local_addr()?.port(), (distance, socket));
    }
    let begun = Instant::now();
    let mut heard: BTreeMap<u8, (IpAddr, Verdict)> = BTreeMap::new();
    for round in 1..=2 {
        for (distance, socket) in senders.values() {
            if !heard.contains_key(distance) {
                // Where there is no way at all, an answer of nobody says so.
                let _ = socket.send_to(&[0; 12], SocketAddr::new(target, PORT));
            }
        }
        let end = if round == 1 { AGAIN } else { PATIENCE };
        while let Some(left) = end.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) {
            let mut packet = [0; 1500];
            ears.set_read_timeout(Some(left))?;
            let Ok((length, from)) = ears.recv_from(&mut packet) else { break };
            let Some((port, verdict)) = read(target, &packet[..length]) else { continue };
            if let Some((distance, _)) = senders.get(&port) {
                heard.entry(*distance).or_insert((from.ip(), verdict));
            }
        }
    }
    Ok(path(target, heard))
}

/// From what was heard of each packet, by its distance.
fn path(target: IpAddr, heard: BTreeMap<u8, (IpAddr, Verdict)>) -> Path {
    let mut path = Path::default();
    for (distance, (address, verdict)) in heard {
        match verdict {
            _ if address == target => path.arrives = true,
            Verdict::Age => path.routers.push(Router { distance, address }),
            Verdict::Port => path.arrives = true,
            Verdict::Unreachable(reason) => {
                path.refused.get_or_insert(Refused { address, reason });
            }
        }
    }
    path
}

/// The source port of our packet that a message is about, and what it says of it: of IPv4, the kernel gives its IP header,
/// too. `None` for whatever else comes, which is not about a packet to `target`.
fn read(target: IpAddr, packet: &[u8]) -> Option<(u16, Verdict)> {
    const UDP: u8 = 17;
    let (message, verdict) = match target {
        IpAddr::V4(_) => {
            let message = packet.get(4 * usize::from(packet.first()? & 15)..)?;
            (message, four(*message.first()?, *message.get(1)?)?)
        }
        IpAddr::V6(_) => (packet, six(*packet.first()?, *packet.get(1)?)?),
    };
    // RFC 792 and RFC 4443: behind 8 bytes comes the beginning of the packet.
    let inner = message.get(8..)?;
    let (protocol, to, udp) = match target {
        IpAddr::V4(_) => {
            let to: [u8; 4] = inner.get(16..20)?.try_into().ok()?;
            (*inner.get(9)?, IpAddr::from(to), inner.get(4 * usize::from(inner.first()? & 15)..)?)
        }
        IpAddr::V6(_) => {
            let to: [u8; 16] = inner.get(24..40)?.try_into().ok()?;
            (*inner.get(6)?, IpAddr::from(to), inner.get(40..)?)
        }
    };
    let ports: [u8; 4] = udp.get(..4)?.try_into().ok()?;
    let (from, there) = (u16::from_be_bytes([ports[0], ports[1]]), u16::from_be_bytes([ports[2], ports[3]]));
    (protocol == UDP && to == target && there == PORT).then_some((from, verdict))
}

/// RFC 792, RFC 1122 section 3.2.2.1, RFC 1812 section 5.2.7.1.
fn four(kind: u8, code: u8) -> Option<Verdict> {
    Some(match (kind, code) {
        (11, 0) => Verdict::Age,
        (3, 3) => Verdict::Port,
        (3, 0 | 6 | 8 | 11) => Verdict::Unreachable("no way to that network"),
        (3, 1 | 7 | 12) => Verdict::Unreachable("that machine is not there"),
        (3, 9 | 10 | 13) => Verdict::Unreachable("forbidden by a filter"),
        (3, _) => Verdict::Unreachable("not reachable"),
        _ => return None,
    })
}

/// RFC 4443 sections 3.1 and 3.3.
fn six(kind: u8, code: u8) -> Option<Verdict> {
    Some(match (kind, code) {
        (3, 0) => Verdict::Age,
        (1, 4) => Verdict::Port,
        (1, 0) => Verdict::Unreachable("no way to that network"),
        (1, 3) => Verdict::Unreachable("that machine is not there"),
        (1, 1 | 5 | 6) => Verdict::Unreachable("forbidden by a filter"),
        (1, _) => Verdict::Unreachable("not reachable"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// An ICMP message about a packet of ours to `FAR` from port 40000, as a raw socket gives it.
    fn message(kind: u8, code: u8) -> Vec<u8> {
        let mut packet = vec![0x45; 20];
        packet.extend([kind, code, 0, 0, 0, 0, 0, 0]);
        let mut inner = [0; 20];
        (inner[0], inner[9]) = (0x45, 17);
        inner[16..].copy_from_slice(&[203, 0, 113, 9]);
        packet.extend(inner);
        packet.extend([0x9c, 0x40]);
        packet.extend(PORT.to_be_bytes());
        packet
    }

    #[test]
    fn the_last_router_that_answers_is_where_the_way_ends() {
        let heard = BTreeMap::from([
            (1, (ip("192.0.2.1"), Verdict::Age)),
            (3, (ip("198.51.100.7"), Verdict::Age)),
            (2, (ip("192.0.2.9"), Verdict::Age)),
        ]);
        assert_eq!(path(FAR, heard).to_string(), "the way ends behind 198.51.100.7, hop 3");
        assert_eq!(Path::default().to_string(), "no router on the way says anything");
    }

    #[test]
    fn who_refuses_is_named_with_his_reason() {
        let heard = BTreeMap::from([
            (1, (ip("192.0.2.1"), Verdict::Age)),
            (2, (ip("192.0.2.9"), Verdict::Unreachable("forbidden by a filter"))),
            (3, (ip("192.0.2.9"), Verdict::Unreachable("not reachable"))),
        ]);
        assert_eq!(path(FAR, heard).to_string(), "192.0.2.9 says: forbidden by a filter");
    }

    #[test]
    fn a_machine_that_says_itself_that_nobody_listens_is_there() {
        let heard = BTreeMap::from([(1, (ip("192.0.2.1"), Verdict::Age)), (2, (FAR, Verdict::Port))]);
        assert_eq!(path(FAR, heard).to_string(), "the machine is there, no name server");
    }

    #[test]
    fn a_message_is_about_our_packet_or_is_not_read() {
        assert_eq!(read(FAR, &message(11, 0)), Some((40000, Verdict::Age)));
        assert_eq!(read(FAR, &message(3, 13)), Some((40000, Verdict::Unreachable("forbidden by a filter"))));
        assert_eq!(read(FAR, &message(8, 0)), None, "an echo");
        assert_eq!(read(ip("203.0.113.8"), &message(11, 0)), None, "of somebody else's packet");
        let six = ip("2001:db8::9");
        let mut packet = vec![3, 0, 0, 0, 0, 0, 0, 0, 0x60, 0, 0, 0, 0, 20, 17, 1];
        packet.extend([0; 16]);
        packet.extend("2001:db8::9".parse::<Ipv6Addr>().unwrap().octets());
        packet.extend([0x9c, 0x40]);
        packet.extend(PORT.to_be_bytes());
        assert_eq!(read(six, &packet), Some((40000, Verdict::Age)));
    }

    #[test]
    fn a_message_that_is_cut_anywhere_is_not_read() {
        let whole = message(11, 0);
        for length in 0..whole.len() {
            assert_eq!(read(FAR, &whole[..length]), None, "{length} bytes");
        }
        // A header that says that it is longer than all there is.
        assert_eq!(read(FAR, &[0x4f; 30]), None);
    }
}
