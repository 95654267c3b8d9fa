//! The running system's links, addresses and routes, as the kernel tells of them (rtnetlink(7)): bytes to values, and one
//! socket that asks. Nothing is changed.

use host::sys::netlink::{self, attributes, messages, u16_at, u32_at};
use host::sys::packet;
use network::Mac;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
/// What asks for all of a kind, behind what tells of one.
const GET: u16 = 2;
const REQUEST: u16 = 1;
const DUMP: u16 = 0x300;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const ETHERNET: u16 = 1;
const FOR_EVER: u32 = u32::MAX;
const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_SITE: u8 = 200;
/// Of IPv6; the same bit is IFA_F_SECONDARY of IPv4.
const IFA_F_TEMPORARY: u32 = 0x01;
const IFA_F_DADFAILED: u32 = 0x08;
const RT_TABLE_MAIN: u32 = 254;
const RTN_UNICAST: u8 = 1;
const RTPROT_REDIRECT: u8 = 1;
const RTPROT_KERNEL: u8 = 2;
const RTPROT_RA: u8 = 9;
const RTPROT_DHCP: u8 = 16;
const RTPROT_KEEPALIVED: u8 = 18;

/// Of a VLAN's tag (linux/if_ether.h).
const ETH_P_8021Q: [u8; 2] = [0x81, 0x00];
/// The kind of a link whose tags are of another protocol, for which there is no word of the command line.
pub const SERVICE_VLAN: &str = "802.1ad VLAN";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    /// `vlan`, `bond`, `bridge`, ...; empty for a NIC. [`SERVICE_VLAN`] is no `vlan`.
    pub kind: String,
    pub is_ethernet: bool,
    pub mac: Option<Mac>,
    /// Burnt in.
    pub permanent: Option<Mac>,
    /// Bytes.
    pub mtu: u32,
    /// The bond or bridge that has this one as a port.
    pub master: Option<u32>,
    /// What a VLAN stands on.
    pub below: Option<u32>,
    /// Its 802.1Q identifier.
    pub vlan: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub link: u32,
    pub address: IpAddr,
    pub prefix: u8,
    /// The other end of a point-to-point link.
    pub peer: Option<IpAddr>,
    /// A lease, or a router's word: it ends some day.
    pub leased: bool,
    /// Of IPv4: it came to the subnet of an earlier one of its link.
    pub secondary: bool,
    /// keepalived(8) gave it, by the protocol that it states (Linux 5.18 and later).
    pub by_keepalived: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub link: u32,
    pub destination: IpAddr,
    pub prefix: u8,
    pub gateway: Option<IpAddr>,
    /// The lower one wins.
    pub metric: u32,
    /// A DHCP client made it.
    pub leased: bool,
    /// A router said so, and will again.
    pub advertised: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    pub links: Vec<Link>,
    pub addresses: Vec<Address>,
    pub routes: Vec<Route>,
    /// How many routes stand in tables of somebody's own.
    pub elsewhere: usize,
}

/// Asks the running kernel.
pub fn read() -> io::Result<Network> {
    let socket = netlink::socket(0)?;
    let mut found = Network::default();
    for (sequence, kind) in (1..).zip([RTM_NEWLINK, RTM_NEWADDR, RTM_NEWROUTE]) {
        // struct nlmsghdr, and the longest of struct ifinfomsg, ifaddrmsg and rtmsg, of zeros: all families.
        let mut request = 32_u32.to_ne_bytes().to_vec();
        request.extend_from_slice(&(kind + GET).to_ne_bytes());
        request.extend_from_slice(&(REQUEST | DUMP).to_ne_bytes());
        request.extend_from_slice(&u32::to_ne_bytes(sequence));
        request.resize(32, 0);
        netlink::send(&socket, &request)?;
        let mut buffer = vec![0; 1 << 18];
        while !answered(&socket, &mut buffer, sequence, &mut found)? {}
    }
    // An older kernel tells it to who asks for it alone.
    for link in found.links.iter_mut().filter(|link| link.is_ethernet && link.permanent.is_none()) {
        link.permanent = packet::permanent_mac(&link.name).ok().map(Mac);
    }
    Ok(found)
}

/// One datagram; whether it was the last of this answer.
fn answered(
    socket: &std::os::fd::OwnedFd,
    buffer: &mut [u8],
    sequence: u32,
    found: &mut Network,
) -> io::Result<bool> {
    let patience = Timespec { tv_sec: 5, tv_nsec: 0 };
    if poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&patience))? == 0 {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let Some(length) = netlink::receive(socket, buffer)? else { return Ok(false) };
    for message in messages(&buffer[..length]).into_iter().filter(|message| message.sequence == sequence) {
        match message.kind {
            netlink::DONE => return Ok(true),
            netlink::ERROR if message.body.len() >= 4 => {
                return Err(io::Error::from_raw_os_error(-u32_at(message.body, 0).cast_signed()));
            }
            kind => take(kind, message.body, found),
        }
    }
    Ok(false)
}

fn take(kind: u16, body: &[u8], found: &mut Network) {
    match kind {
        RTM_NEWLINK => found.links.extend(link(body)),
        RTM_NEWADDR => found.addresses.extend(address(body)),
        RTM_NEWROUTE => {
            found.routes.extend(route(body));
            found.elsewhere += usize::from(is_elsewhere(body));
        }
        _ => {}
    }
}

/// `struct ifinfomsg` and IFLA_*.
fn link(body: &[u8]) -> Option<Link> {
    let more = attributes(body.get(16..)?);
    let value = |wanted: u16| more.iter().find(|(kind, _)| *kind == wanted).map(|(_, value)| *value);
    let number = |wanted| value(wanted).filter(|value| value.len() >= 4).map(|value| u32_at(value, 0));
    let mac = |wanted| value(wanted).and_then(|bytes| Some(Mac(bytes.try_into().ok()?)));
    let info = value(18).map(attributes).unwrap_or_default();
    let kind = info.iter().find(|(kind, _)| *kind == 1).map(|(_, value)| text(value)).unwrap_or_default();
    let data =
        info.iter().find(|(kind, _)| *kind == 2).map(|(_, value)| attributes(value)).unwrap_or_default();
    let of_vlan = |wanted: u16| {
        data.iter().find(|(kind, value)| *kind == wanted && value.len() >= 2).map(|(_, value)| *value)
    };
    // IFLA_VLAN_PROTOCOL, in the order of the wire. A kernel before Linux 3.10 knows one alone and does not say it.
    let is_of_802_1q = of_vlan(5).is_none_or(|value| value[..2] == ETH_P_8021Q);
    let kind = if kind == "vlan" && !is_of_802_1q { SERVICE_VLAN.to_string() } else { kind };
    Some(Link {
        index: u32_at(body, 4),
        name: text(value(3)?),
        vlan: of_vlan(1).map(|value| u16_at(value, 0)).filter(|_| kind == "vlan"),
        kind,
        is_ethernet: u16_at(body, 2) == ETHERNET,
        mac: mac(1),
        permanent: mac(54),
        mtu: number(4).unwrap_or_default(),
        master: number(10),
        below: number(5),
    })
}

/// `struct ifaddrmsg` and IFA_*: what others reach the machine by, and will after the next boot.
fn address(body: &[u8]) -> Option<Address> {
    let header = body.get(..8)?;
    let (family, prefix, scope) = (header[0], header[1], header[3]);
    let more = attributes(&body[8..]);
    let value = |wanted: u16| more.iter().find(|(kind, _)| *kind == wanted).map(|(_, value)| *value);
    // IFA_FLAGS has more of them than the header.
    let flags =
        value(8).filter(|value| value.len() >= 4).map_or(u32::from(header[2]), |value| u32_at(value, 0));
    let far = value(1).and_then(|bytes| ip(family, bytes));
    let own = value(2).and_then(|bytes| ip(family, bytes)).or(far)?;
    let valid = value(6).filter(|times| times.len() >= 8).map_or(FOR_EVER, |times| u32_at(times, 4));
    let is_marked = flags & IFA_F_TEMPORARY != 0;
    let is_temporary = family == AF_INET6 && is_marked;
    let is_usable = matches!(scope, SCOPE_UNIVERSE | SCOPE_SITE) && flags & IFA_F_DADFAILED == 0;
    (is_usable && !is_temporary && !own.is_loopback()).then(|| Address {
        link: u32_at(body, 4),
        address: own,
        prefix,
        peer: far.filter(|far| *far != own),
        leased: valid != FOR_EVER,
        secondary: family == AF_INET && is_marked,
        by_keepalived: value(11) == Some(&[RTPROT_KEEPALIVED]), // IFA_PROTO
    })
}

/// `struct rtmsg` and RTA_*: the main table's routes, without those that the kernel makes of addresses; of what routers say
/// the default routes.
fn route(body: &[u8]) -> Option<Route> {
    let header = body.get(..12)?;
    let (family, prefix, protocol, kind) = (header[0], header[1], header[5], header[7]);
    let more = attributes(&body[12..]);
    let value = |wanted: u16| more.iter().find(|(kind, _)| *kind == wanted).map(|(_, value)| *value);
    let number = |wanted| value(wanted).filter(|value| value.len() >= 4).map(|value| u32_at(value, 0));
    let advertised = protocol == RTPROT_RA;
    let is_ours = kind == RTN_UNICAST
        && !matches!(protocol, RTPROT_REDIRECT | RTPROT_KERNEL)
        && (!advertised || prefix == 0)
        && number(15).unwrap_or(header[4].into()) == RT_TABLE_MAIN;
    let unspecified = match family {
        AF_INET => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AF_INET6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    // Of several ways (RTA_MULTIPATH) the first: struct rtnexthop, whose third number is the interface.
    let (link, gateway) = match (number(4), value(9)) {
        (None, Some(ways)) if ways.len() >= 8 => {
            let length = usize::from(u16_at(ways, 0)).clamp(8, ways.len());
            let way = attributes(&ways[8..length]);
            (u32_at(ways, 4), gateway(family, &way))
        }
        (link, _) => (link?, gateway(family, &more)),
    };
    is_ours.then(|| Route {
        link,
        destination: value(1).and_then(|bytes| ip(family, bytes)).unwrap_or(unspecified),
        prefix,
        gateway,
        metric: number(6).unwrap_or_default(),
        leased: protocol == RTPROT_DHCP,
        advertised,
    })
}

/// RTA_GATEWAY; or RTA_VIA, by which a route goes by a gateway of another family: struct rtvia.
fn gateway(family: u8, more: &[(u16, &[u8])]) -> Option<IpAddr> {
    let value = |wanted: u16| more.iter().find(|(kind, _)| *kind == wanted).map(|(_, value)| *value);
    let via = || {
        let bytes = value(18).filter(|bytes| bytes.len() > 2)?;
        ip(u8::try_from(u16_at(bytes, 0)).ok()?, &bytes[2..])
    };
    value(5).and_then(|bytes| ip(family, bytes)).or_else(via)
}

/// Of a table that rules lead to (ip-rule(8)).
fn is_elsewhere(body: &[u8]) -> bool {
    const RT_TABLE_LOCAL: u32 = 255;
    let Some(header) = body.get(..12) else { return false };
    let more = attributes(&body[12..]);
    let table = more.iter().find(|(kind, value)| *kind == 15 && value.len() >= 4);
    let table = table.map_or(header[4].into(), |(_, value)| u32_at(value, 0));
    header[7] == RTN_UNICAST && !matches!(table, RT_TABLE_MAIN | RT_TABLE_LOCAL)
}

fn ip(family: u8, bytes: &[u8]) -> Option<IpAddr> {
    match family {
        AF_INET => Some(<[u8; 4]>::try_from(bytes).ok()?.into()),
        AF_INET6 => Some(<[u8; 16]>::try_from(bytes).ok()?.into()),
        _ => None,
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\0').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = (value.len() as u16 + 4).to_ne_bytes().to_vec();
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn the_running_kernel_answers() {
        let found = read().unwrap();
        assert!(found.links.iter().any(|link| link.name == "lo"), "{found:?}");
        assert!(!found.addresses.iter().any(|address| address.address.is_loopback()), "{found:?}");
        // Both ways to ask tell the same, where there is something to tell.
        for link in found.links.iter().filter(|link| link.is_ethernet) {
            assert_eq!(packet::permanent_mac(&link.name).ok().map(Mac), link.permanent, "{}", link.name);
        }
        assert!(packet::permanent_mac("lo").is_err() && packet::permanent_mac("a name too long").is_err());
    }

    #[test]
    fn a_vlan_is_known_by_its_identifier_and_what_it_stands_on() {
        let data = attribute(2, &attribute(1, &7_u16.to_ne_bytes()));
        let info = attribute(18, &[attribute(1, b"vlan\0"), data].concat());
        let mut body = vec![0, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        body.extend([attribute(3, b"v7\0"), attribute(5, &2_u32.to_ne_bytes()), info].concat());
        let found = link(&body).unwrap();
        assert_eq!(
            (found.index, found.below, found.vlan, found.kind.as_str()),
            (9, Some(2), Some(7), "vlan")
        );
        for cut in 0..body.len() {
            link(&body[..cut]);
        }
        for (protocol, vlan, kind) in [
            ([0x81, 0x00], Some(7), "vlan"),
            ([0x88, 0xa8], None, SERVICE_VLAN),
            ([0x91, 0x00], None, SERVICE_VLAN),
        ] {
            let data = attribute(2, &[attribute(1, &7_u16.to_ne_bytes()), attribute(5, &protocol)].concat());
            let info = attribute(18, &[attribute(1, b"vlan\0"), data].concat());
            let found = link(&[&body[..16], &attribute(3, b"v7\0"), &info].concat()).unwrap();
            assert_eq!((found.vlan, found.kind.as_str()), (vlan, kind), "{protocol:x?}");
        }
    }

    #[test]
    fn addresses_that_others_do_not_reach_or_that_pass_are_left_out() {
        let message = |family: u8, scope: u8, flags: u32, valid: u32, own: &[u8]| {
            let mut body = vec![family, 24, 0, scope, 2, 0, 0, 0];
            let times = [7_u32, valid, 0, 0].map(u32::to_ne_bytes).concat();
            body.extend(
                [attribute(2, own), attribute(8, &flags.to_ne_bytes()), attribute(6, &times)].concat(),
            );
            address(&body).map(|found| found.leased)
        };
        let six = |last: u8| [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
        let cases: [(&str, Option<bool>, Option<bool>); 6] = [
            ("for ever", message(2, 0, 0x80, FOR_EVER, &[192, 0, 2, 5]), Some(false)),
            ("leased", message(2, 0, 0, 600, &[192, 0, 2, 5]), Some(true)),
            ("a second one of IPv4", message(2, 0, 0x81, FOR_EVER, &[192, 0, 2, 6]), Some(false)),
            ("of the link alone", message(10, 253, 0x80, FOR_EVER, &six(1)), None),
            ("temporary", message(10, 0, 1, 600, &six(2)), None),
            ("another machine's", message(10, 0, 0x88, FOR_EVER, &six(3)), None),
        ];
        for (label, found, wanted) in cases {
            assert_eq!(found, wanted, "{label}");
        }
        let of = |flags: u8, more: &[Vec<u8>]| {
            let own = attribute(2, &[192, 0, 2, 6]);
            let body = [&[2, 24, flags, 0, 2, 0, 0, 0][..], &own, &more.concat()].concat();
            address(&body).map(|found| (found.secondary, found.by_keepalived))
        };
        assert_eq!(of(0x80, &[]), Some((false, false)));
        assert_eq!(of(0x81, &[attribute(11, &[2])]), Some((true, false)));
        assert_eq!(of(0x80, &[attribute(11, &[18])]), Some((false, true)));
    }

    #[test]
    fn routes_are_those_that_an_administrator_or_a_lease_made() {
        let message = |table: u8, protocol: u8, kind: u8, more: Vec<u8>| {
            let mut body = vec![2, 0, 0, 0, table, protocol, 0, kind, 0, 0, 0, 0];
            body.extend(more);
            route(&body)
        };
        let plain = [attribute(5, &[192, 0, 2, 1]), attribute(4, &2_u32.to_ne_bytes())].concat();
        let mut way = vec![16, 0, 0, 0, 3, 0, 0, 0];
        way.extend(attribute(5, &[192, 0, 2, 9]));
        let by = |found: Option<Route>| found.map(|route| (route.link, route.gateway.unwrap().to_string()));
        assert_eq!(by(message(254, 4, 1, plain.clone())), Some((2, "192.0.2.1".into())));
        assert_eq!(by(message(254, 3, 1, attribute(9, &way))), Some((3, "192.0.2.9".into())));
        let said = message(254, 9, 1, plain.clone()).unwrap();
        assert!(said.advertised, "a router's default route");
        let mut narrower = vec![2, 24, 0, 0, 254, 9, 0, 1, 0, 0, 0, 0];
        narrower.extend(&plain);
        assert_eq!(route(&narrower), None);
        let six = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        let via =
            [attribute(18, &[&10_u16.to_ne_bytes()[..], &six].concat()), attribute(4, &2_u32.to_ne_bytes())];
        assert_eq!(by(message(254, 4, 1, via.concat())), Some((2, "fe80::1".into())));
        for (table, protocol, kind) in [(255, 2, 2), (254, 2, 1), (100, 4, 1), (254, 4, 7)] {
            assert_eq!(message(table, protocol, kind, plain.clone()), None);
        }
        let of_table = |table: u8| is_elsewhere(&[2, 0, 0, 0, table, 4, 0, 1, 0, 0, 0, 0]);
        assert_eq!([254, 255, 100].map(of_table), [false, false, true]);
    }
}
