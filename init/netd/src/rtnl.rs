//! Route netlink messages (rtnetlink(7), linux/rtnetlink.h, linux/if_link.h): pure bytes. Only what
//! netd asks and hears.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub const GROUP_LINK: u32 = 1;
pub const GROUP_IPV4_ADDRESS: u32 = 0x10;
pub const GROUP_IPV6_ADDRESS: u32 = 0x100;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;
const REPLACE: u16 = 0x100;
const EXCLUSIVE: u16 = 0x200;
const CREATE: u16 = 0x400;
const IFF_UP: u32 = 1;
const IFF_LOWER_UP: u32 = 0x10000;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const TENTATIVE_OR_FAILED: u32 = 0x40 | 0x08;
const RT_TABLE_COMPAT: u8 = 252;
const RTPROT_DHCP: u8 = 16;
const SCOPE_LINK: u8 = 253;
const RTNH_F_ONLINK: u32 = 4;

/// A network interface as the kernel tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    /// ARPHRD_*; 1 is Ethernet.
    pub kind: u16,
    pub mac: Option<[u8; 6]>,
    pub up: bool,
    pub carrier: bool,
    /// It belongs to another interface (a bond, a bridge, the virtual NIC above a cloud's fast path)
    /// that has the address.
    pub enslaved: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub link: u32,
    pub address: IpAddr,
    pub prefix: u8,
    /// Usable by others: global, and past duplicate detection.
    pub global: bool,
}

/// What the kernel said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Link(Link),
    LinkGone(u32),
    Address(Address),
    AddressGone(Address),
    /// The answer to a request: its sequence number and errno, 0 for done.
    Answer {
        sequence: u32,
        errno: i32,
    },
}

/// A request under construction.
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Message {
        let mut bytes = vec![0; 4];
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        bytes.extend_from_slice(&sequence.to_ne_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(body);
        Message(bytes)
    }

    fn attribute(mut self, kind: u16, value: &[u8]) -> Message {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self.0.extend_from_slice(&(value.len() as u16 + 4).to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self
    }

    fn number(self, kind: u16, value: u32) -> Message {
        self.attribute(kind, &value.to_ne_bytes())
    }

    fn finish(mut self) -> Vec<u8> {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        let length = self.0.len() as u32;
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0
    }
}

pub fn dump_links(sequence: u32) -> Vec<u8> {
    Message::new(RTM_GETLINK, DUMP, sequence, &[0; 16]).finish()
}

pub fn dump_addresses(sequence: u32) -> Vec<u8> {
    Message::new(RTM_GETADDR, DUMP, sequence, &[0; 8]).finish()
}

/// `struct ifinfomsg` with IFF_UP set, and an MTU where one is wanted.
pub fn link_up(sequence: u32, link: u32, mtu: Option<u16>) -> Vec<u8> {
    let mut body = vec![0; 4];
    body.extend_from_slice(&link.to_ne_bytes());
    body.extend_from_slice(&IFF_UP.to_ne_bytes());
    body.extend_from_slice(&IFF_UP.to_ne_bytes());
    let message = Message::new(RTM_NEWLINK, ACK, sequence, &body);
    match mtu {
        Some(mtu) => message.number(4, mtu.into()), // IFLA_MTU
        None => message,
    }
    .finish()
}

fn ifaddrmsg(link: u32, prefix: u8) -> Vec<u8> {
    let mut body = vec![AF_INET, prefix, 0, 0];
    body.extend_from_slice(&link.to_ne_bytes());
    body
}

/// Adds an address or renews its lifetime. `seconds` is `u32::MAX` for ever.
pub fn add_address(sequence: u32, link: u32, address: Ipv4Addr, prefix: u8, seconds: u32) -> Vec<u8> {
    let broadcast = u32::from(address) | u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
    let mut times = seconds.to_ne_bytes().to_vec(); // struct ifa_cacheinfo: preferred, valid, 0, 0
    times.extend_from_slice(&seconds.to_ne_bytes());
    times.extend_from_slice(&[0; 8]);
    let message = Message::new(RTM_NEWADDR, ACK | CREATE | REPLACE, sequence, &ifaddrmsg(link, prefix))
        .attribute(1, &address.octets()) // IFA_ADDRESS
        .attribute(2, &address.octets()) // IFA_LOCAL
        .attribute(6, &times); // IFA_CACHEINFO
    match prefix {
        31 | 32 => message,
        _ => message.attribute(4, &broadcast.to_be_bytes()), // IFA_BROADCAST
    }
    .finish()
}

pub fn remove_address(sequence: u32, link: u32, address: Ipv4Addr, prefix: u8) -> Vec<u8> {
    Message::new(RTM_DELADDR, ACK, sequence, &ifaddrmsg(link, prefix))
        .attribute(2, &address.octets())
        .finish()
}

/// One IPv4 route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    pub table: u32,
    pub destination: Ipv4Addr,
    pub prefix: u8,
    /// `None`: on the link itself.
    pub gateway: Option<Ipv4Addr>,
    /// The gateway is in no subnet of ours.
    pub on_link: bool,
    pub link: u32,
    pub source: Ipv4Addr,
    pub metric: u32,
}

fn route(kind: u16, flags: u16, sequence: u32, route: &Route) -> Vec<u8> {
    let scope = if route.gateway.is_none() { SCOPE_LINK } else { 0 };
    let table = u8::try_from(route.table).unwrap_or(RT_TABLE_COMPAT);
    // struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type (unicast), flags
    let mut body = vec![AF_INET, route.prefix, 0, 0, table, RTPROT_DHCP, scope, 1];
    body.extend_from_slice(&if route.on_link { RTNH_F_ONLINK } else { 0 }.to_ne_bytes());
    let mut message = Message::new(kind, ACK | flags, sequence, &body)
        .number(15, route.table) // RTA_TABLE
        .number(4, route.link) // RTA_OIF
        .number(6, route.metric) // RTA_PRIORITY
        .attribute(7, &route.source.octets()); // RTA_PREFSRC
    if route.prefix > 0 {
        message = message.attribute(1, &route.destination.octets()); // RTA_DST
    }
    if let Some(gateway) = route.gateway {
        message = message.attribute(5, &gateway.octets()); // RTA_GATEWAY
    }
    message.finish()
}

pub fn add_route(sequence: u32, wanted: &Route) -> Vec<u8> {
    route(RTM_NEWROUTE, CREATE | REPLACE, sequence, wanted)
}

pub fn remove_route(sequence: u32, gone: &Route) -> Vec<u8> {
    route(RTM_DELROUTE, 0, sequence, gone)
}

/// `from ADDRESS lookup TABLE`
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    pub from: Ipv4Addr,
    pub table: u32,
    pub priority: u32,
}

fn rule(kind: u16, flags: u16, sequence: u32, rule: Rule) -> Vec<u8> {
    // struct fib_rule_hdr: family, dst_len, src_len, tos, table, 0, 0, action (FR_ACT_TO_TBL), flags
    let table = u8::try_from(rule.table).unwrap_or(RT_TABLE_COMPAT);
    let body = [AF_INET, 0, 32, 0, table, 0, 0, 1, 0, 0, 0, 0];
    Message::new(kind, ACK | flags, sequence, &body)
        .attribute(2, &rule.from.octets()) // FRA_SRC
        .number(6, rule.priority) // FRA_PRIORITY
        .number(15, rule.table) // FRA_TABLE
        .finish()
}

/// Answered with EEXIST when it is there already.
pub fn add_rule(sequence: u32, wanted: Rule) -> Vec<u8> {
    rule(RTM_NEWRULE, CREATE | EXCLUSIVE, sequence, wanted)
}

pub fn remove_rule(sequence: u32, gone: Rule) -> Vec<u8> {
    rule(RTM_DELRULE, 0, sequence, gone)
}

/// The messages of one datagram; what is cut or unknown is left out.
pub fn read(mut bytes: &[u8]) -> Vec<Said> {
    let mut said = Vec::new();
    while bytes.len() >= 16 {
        let length = u32_at(bytes, 0) as usize;
        if length < 16 || length > bytes.len() {
            break;
        }
        let (kind, sequence, body) = (u16_at(bytes, 4), u32_at(bytes, 8), &bytes[16..length]);
        match kind {
            RTM_NEWLINK => said.extend(link(body).map(Said::Link)),
            RTM_DELLINK if body.len() >= 16 => said.push(Said::LinkGone(u32_at(body, 4))),
            RTM_NEWADDR => said.extend(address(body).map(Said::Address)),
            RTM_DELADDR => said.extend(address(body).map(Said::AddressGone)),
            NLMSG_ERROR if body.len() >= 4 => {
                said.push(Said::Answer { sequence, errno: -(u32_at(body, 0).cast_signed()) });
            }
            NLMSG_DONE => said.push(Said::Answer { sequence, errno: 0 }),
            _ => {}
        }
        bytes = &bytes[length.next_multiple_of(4).min(bytes.len())..];
    }
    said
}

/// Little helpers of `read`, which checks the lengths.
fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_ne_bytes([bytes[offset], bytes[offset + 1], bytes[offset + 2], bytes[offset + 3]])
}

fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    u16::from_ne_bytes([bytes[offset], bytes[offset + 1]])
}

fn attributes(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    while bytes.len() >= 4 {
        let (length, kind) = (usize::from(u16_at(bytes, 0)), u16_at(bytes, 2) & 0x3fff);
        if length < 4 || length > bytes.len() {
            break;
        }
        found.push((kind, &bytes[4..length]));
        bytes = &bytes[length.next_multiple_of(4).min(bytes.len())..];
    }
    found
}

fn link(body: &[u8]) -> Option<Link> {
    let attributes = attributes(body.get(16..)?);
    let get = |wanted| attributes.iter().find(|(kind, _)| *kind == wanted).map(|(_, value)| *value);
    let flags = u32_at(body, 8);
    Some(Link {
        index: u32_at(body, 4),
        kind: u16_at(body, 2),
        name: String::from_utf8_lossy(get(3)?).trim_end_matches('\0').to_string(), // IFLA_IFNAME
        mac: get(1).and_then(|mac| mac.try_into().ok()),                           // IFLA_ADDRESS
        up: flags & IFF_UP != 0,
        carrier: flags & IFF_LOWER_UP != 0,
        enslaved: get(10).is_some_and(|master| master != [0; 4]), // IFLA_MASTER
    })
}

fn address(body: &[u8]) -> Option<Address> {
    let attributes = attributes(body.get(8..)?);
    let get = |wanted| attributes.iter().find(|(kind, _)| *kind == wanted).map(|(_, value)| *value);
    // IFA_LOCAL, or for IPv6 IFA_ADDRESS alone.
    let bytes = get(2).or_else(|| get(1))?;
    let address = match body[0] {
        AF_INET => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        AF_INET6 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        _ => return None,
    };
    let flags = get(8).filter(|v| v.len() == 4).map_or(body[2].into(), |v| u32_at(v, 0)); // IFA_FLAGS
    let global = body[3] == 0 && flags & TENTATIVE_OR_FAILED == 0;
    Some(Address { link: u32_at(body, 4), address, prefix: body[1], global })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_address_that_is_sent_is_read_back() {
        let bytes = add_address(1, 2, Ipv4Addr::new(10, 0, 2, 15), 24, 3600);
        let [Said::Address(address)] = &read(&bytes)[..] else { panic!("{:?}", read(&bytes)) };
        assert_eq!((address.link, address.prefix, address.global), (2, 24, true));
        assert_eq!(address.address, IpAddr::from([10, 0, 2, 15]));
    }

    #[test]
    fn two_messages_of_one_datagram_are_both_read() {
        let mut bytes = add_address(1, 2, Ipv4Addr::new(10, 0, 2, 15), 24, 3600);
        bytes.extend(remove_address(2, 3, Ipv4Addr::new(10, 0, 3, 15), 24));
        assert!(matches!(&read(&bytes)[..], [Said::Address(_), Said::AddressGone(gone)] if gone.link == 3));
    }

    proptest! {
        #[test]
        fn no_datagram_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), kind in 0u16..40) {
            let mut message = Message::new(kind, 0, 1, &bytes).finish();
            let _ = read(&message);
            message.truncate(message.len() / 2);
            let _ = read(&message);
            let _ = read(&bytes);
        }
    }
}
