//! Route netlink messages (rtnetlink(7), linux/rtnetlink.h, linux/if_link.h): pure bytes. Only what
//! netd asks and hears.

use host::sys::netlink::{self, Message, Request, u16_at, u32_at};
use network::Mac;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub const GROUP_LINK: u32 = 1;
pub const GROUP_IPV4_ADDRESS: u32 = 0x10;
pub const GROUP_IPV4_ROUTE: u32 = 0x40;
pub const GROUP_IPV6_ADDRESS: u32 = 0x100;
pub const GROUP_IPV6_ROUTE: u32 = 0x400;
/// RTNLGRP_IPV6_IFINFO
pub const GROUP_IPV6_FLAGS: u32 = 0x800;
/// RTNLGRP_ND_USEROPT
pub const GROUP_ROUTER_OPTION: u32 = 1 << 19;

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;
const RTM_NEWNDUSEROPT: u16 = 68;
const RTM_NEWLINKPROP: u16 = 108;
const RTM_DELLINKPROP: u16 = 109;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;
/// NLM_F_DUMP_INTR
const TORN: u16 = 0x10;
const REPLACE: u16 = 0x100;
const EXCLUSIVE: u16 = 0x200;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;
const IFF_UP: u32 = 1;
const IFF_LOWER_UP: u32 = 0x10000;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IFA_F_TENTATIVE: u32 = 0x40;
const IFA_F_DADFAILED: u32 = 0x08;
/// IFAPROT_KERNEL_RA (linux/if_addr.h)
const BY_ROUTER: u8 = 2;
const RT_TABLE_MAIN: u32 = 254;
const RT_TABLE_COMPAT: u8 = 252;
const RTPROT_UNSPEC: u8 = 0;
const RTPROT_KERNEL: u8 = 2;
/// What `ip route add` says where nobody says otherwise.
const RTPROT_BOOT: u8 = 3;
const RTPROT_STATIC: u8 = 4;
const RTPROT_RA: u8 = 9;
const RTN_UNICAST: u8 = 1;
const SCOPE_LINK: u8 = 253;
const RTNH_F_ONLINK: u32 = 4;
/// IF_RA_MANAGED, IF_RA_OTHERCONF (include/net/if_inet6.h).
const RA_MANAGED: u32 = 0x40;
const RA_OTHER: u32 = 0x80;

/// A network interface as the kernel tells of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    /// Other names by which the kernel knows it.
    pub names: Vec<String>,
    /// ARPHRD_*; 1 is Ethernet.
    pub hardware: u16,
    /// `vlan`, `bond`, `bridge`...; empty for a NIC.
    pub kind: String,
    pub mac: Option<Mac>,
    /// Where the hardware has one of its own.
    pub permanent: Option<Mac>,
    /// Bytes.
    pub mtu: u32,
    pub up: bool,
    pub carrier: bool,
    /// It belongs to another interface (a bond, a bridge, the virtual NIC above a cloud's fast path)
    /// that has the address.
    pub master: Option<u32>,
    /// What a VLAN stands on.
    pub below: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub link: u32,
    pub address: IpAddr,
    pub prefix: u8,
    /// Usable by others: global, and past duplicate detection.
    pub global: bool,
    /// The same for the link alone (RFC 4291 section 2.5.6).
    pub local: bool,
    /// Another machine of the link has it (RFC 4862 section 5.4).
    pub duplicate: bool,
    /// The kernel made it by a router's word.
    pub by_router: bool,
}

/// What routers say of a link (RFC 4861 section 4.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Advertised {
    /// Addresses come by DHCPv6.
    pub managed: bool,
    /// Other things come by DHCPv6.
    pub other: bool,
}

/// An option of a router advertisement (RFC 8106), with its lifetime in seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouterOption {
    Servers(Vec<Ipv6Addr>, u32),
    Search(Vec<String>, u32),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beside {
    pub route: network::Route,
    /// By a router's word (RFC 4191), not by hand.
    pub by_router: bool,
}

/// What the kernel said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Link(Link),
    LinkGone(u32),
    Address(Address),
    AddressGone(Address),
    Advertised(u32, Advertised),
    RouterOption(u32, RouterOption),
    /// The kernel's own default route, by a router's word, and its preference (RFC 4191 section 2.1): -1, 0 or 1.
    Router(u32, Ipv6Addr, i8),
    RouterGone(u32, Ipv6Addr),
    /// A prefix that is on a link, with its length: by a router's word, or an address'.
    Near(u32, (Ipv6Addr, u8)),
    NearGone(u32, (Ipv6Addr, u8)),
    /// A route of the main table on a link that is neither netd's nor the kernel's own, and no default.
    Beside(u32, Beside),
    BesideGone(u32, Beside),
    /// The kernel's lists changed under a dump: something may be left out of it.
    Torn,
    /// The answer to a request: its sequence number and errno, 0 for done.
    Answer {
        sequence: u32,
        errno: i32,
    },
}

/// About a link by its index, 0 for one that is to be made: `struct ifinfomsg`.
fn about_link(kind: u16, flags: u16, sequence: u32, index: u32, set: u32, mask: u32) -> Request {
    let mut body = vec![0; 4];
    for number in [index, set, mask] {
        body.extend_from_slice(&number.to_ne_bytes());
    }
    Request::new(kind, ACK | flags, sequence, &body)
}

pub fn dump_links(sequence: u32) -> Vec<u8> {
    Request::new(RTM_GETLINK, DUMP, sequence, &[0; 16]).finish()
}

pub fn dump_addresses(sequence: u32) -> Vec<u8> {
    Request::new(RTM_GETADDR, DUMP, sequence, &[0; 8]).finish()
}

pub fn dump_ipv4_routes(sequence: u32) -> Vec<u8> {
    dump_routes(sequence, AF_INET)
}

pub fn dump_ipv6_routes(sequence: u32) -> Vec<u8> {
    dump_routes(sequence, AF_INET6)
}

fn dump_routes(sequence: u32, family: u8) -> Vec<u8> {
    let mut body = [0; 12];
    body[0] = family;
    Request::new(RTM_GETROUTE, DUMP, sequence, &body).finish()
}

/// What of a link is to change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    Up,
    Down,
    Mtu(u32),
    Mac(Mac),
    Name(String),
    /// The link that has this one as a port.
    Master(u32),
    /// It is a port no more.
    NoMaster,
    /// One more name.
    AltName(String),
    /// One of these less.
    NoAltName(String),
}

pub fn change_link(sequence: u32, link: u32, change: &Change) -> Vec<u8> {
    let plain = |set, mask| about_link(RTM_NEWLINK, 0, sequence, link, set, mask);
    match change {
        Change::Up => plain(IFF_UP, IFF_UP),
        Change::Down => plain(0, IFF_UP),
        Change::Mtu(mtu) => plain(0, 0).number(4, *mtu), // IFLA_MTU
        Change::Mac(mac) => plain(0, 0).attribute(1, &mac.0), // IFLA_ADDRESS
        Change::Name(name) => plain(0, 0).text(3, name), // IFLA_IFNAME
        Change::Master(master) => plain(0, 0).number(10, *master), // IFLA_MASTER
        Change::NoMaster => plain(0, 0).number(10, 0),
        Change::AltName(name) => {
            // IFLA_PROP_LIST, IFLA_ALT_IFNAME
            let message = about_link(RTM_NEWLINKPROP, CREATE | EXCLUSIVE | APPEND, sequence, link, 0, 0);
            message.nest(52, |list| list.text(53, name))
        }
        Change::NoAltName(name) => {
            about_link(RTM_DELLINKPROP, 0, sequence, link, 0, 0).nest(52, |list| list.text(53, name))
        }
    }
    .finish()
}

/// Makes a link of a kind, `data` being its own attributes (IFLA_INFO_DATA).
fn make_link(
    sequence: u32,
    name: &str,
    below: Option<u32>,
    kind: &str,
    data: impl FnOnce(Request) -> Request,
) -> Vec<u8> {
    let message = about_link(RTM_NEWLINK, CREATE | EXCLUSIVE, sequence, 0, 0, 0).text(3, name); // IFLA_IFNAME
    let message = match below {
        Some(below) => message.number(5, below), // IFLA_LINK
        None => message,
    };
    // IFLA_LINKINFO: IFLA_INFO_KIND, IFLA_INFO_DATA
    message.nest(18, |info| info.attribute(1, kind.as_bytes()).nest(2, data)).finish()
}

pub fn make_vlan(sequence: u32, name: &str, below: u32, id: u16) -> Vec<u8> {
    make_link(sequence, name, Some(below), "vlan", |data| data.attribute(1, &id.to_ne_bytes())) // IFLA_VLAN_ID
}

pub fn make_bond(sequence: u32, name: &str) -> Vec<u8> {
    make_link(sequence, name, None, "bond", |data| data)
}

pub fn make_bridge(sequence: u32, name: &str, stp: bool) -> Vec<u8> {
    // IFLA_BR_STP_STATE, and IFLA_BR_FORWARD_DELAY: none where nothing is listened for.
    make_link(sequence, name, None, "bridge", |data| match stp {
        true => data.number(5, 1),
        false => data.number(5, 0).number(1, 0),
    })
}

pub fn unmake_link(sequence: u32, link: u32) -> Vec<u8> {
    about_link(RTM_DELLINK, 0, sequence, link, 0, 0).finish()
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { AF_INET } else { AF_INET6 }
}

/// An address that is to be given to a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given {
    pub address: IpAddr,
    pub prefix: u8,
    pub peer: Option<IpAddr>,
    /// `u32::MAX` for ever.
    pub seconds: u32,
    /// For how many of them what is new is sent from it; not more than `seconds` counts.
    pub preferred: u32,
}

fn ifaddrmsg(link: u32, address: IpAddr, prefix: u8) -> Vec<u8> {
    let mut body = vec![family(address), prefix, 0, 0];
    body.extend_from_slice(&link.to_ne_bytes());
    body
}

/// Adds an address or renews its lifetime.
pub fn add_address(sequence: u32, link: u32, given: &Given) -> Vec<u8> {
    let Given { address, prefix, peer, seconds, preferred } = *given;
    let mut times = preferred.min(seconds).to_ne_bytes().to_vec(); // struct ifa_cacheinfo: preferred, valid, 0, 0
    times.extend_from_slice(&seconds.to_ne_bytes());
    times.extend_from_slice(&[0; 8]);
    let message =
        Request::new(RTM_NEWADDR, ACK | CREATE | REPLACE, sequence, &ifaddrmsg(link, address, prefix))
            .attribute(1, &octets(peer.unwrap_or(address))) // IFA_ADDRESS
            .attribute(2, &octets(address)) // IFA_LOCAL
            .attribute(6, &times); // IFA_CACHEINFO
    match address {
        IpAddr::V4(own) if prefix < 31 && peer.is_none() => {
            let broadcast = u32::from(own) | u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
            message.attribute(4, &broadcast.to_be_bytes()) // IFA_BROADCAST
        }
        IpAddr::V4(_) | IpAddr::V6(_) => message,
    }
    .finish()
}

/// The same address may be there with another prefix: of IPv4 both are named, or the first that is found would go
/// (`inet_rtm_deladdr` of net/ipv4/devinet.c).
pub fn remove_address(sequence: u32, link: u32, gone: &network::Address) -> Vec<u8> {
    let network::Address { address, prefix, peer } = *gone;
    Request::new(RTM_DELADDR, ACK, sequence, &ifaddrmsg(link, address, prefix))
        .attribute(1, &octets(peer.unwrap_or(address))) // IFA_ADDRESS
        .attribute(2, &octets(address)) // IFA_LOCAL
        .finish()
}

/// One route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Route {
    pub table: u32,
    pub destination: IpAddr,
    pub prefix: u8,
    /// `None`: on the link itself.
    pub gateway: Option<IpAddr>,
    /// The gateway is in no subnet of ours.
    pub on_link: bool,
    pub link: u32,
    /// The address that packets are sent from, where that is said.
    pub source: Option<IpAddr>,
    pub metric: u32,
}

/// Where a route's message has its protocol: `struct nlmsghdr` and five bytes of `struct rtmsg`.
const PROTOCOL: usize = 16 + 5;

fn route(kind: u16, flags: u16, sequence: u32, route: &Route) -> Vec<u8> {
    let scope = if route.gateway.is_none() && route.destination.is_ipv4() { SCOPE_LINK } else { 0 };
    let table = u8::try_from(route.table).unwrap_or(RT_TABLE_COMPAT);
    // struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type (unicast), flags
    let mut body = vec![family(route.destination), route.prefix, 0, 0, table, RTPROT_STATIC, scope, 1];
    body.extend_from_slice(&if route.on_link { RTNH_F_ONLINK } else { 0 }.to_ne_bytes());
    let mut message = Request::new(kind, ACK | flags, sequence, &body)
        .number(15, route.table) // RTA_TABLE
        .number(4, route.link) // RTA_OIF
        .number(6, route.metric); // RTA_PRIORITY
    if let Some(source) = route.source {
        message = message.attribute(7, &octets(source)); // RTA_PREFSRC
    }
    if route.prefix > 0 {
        message = message.attribute(1, &octets(route.destination)); // RTA_DST
    }
    if let Some(gateway) = route.gateway {
        message = message.attribute(5, &octets(gateway)); // RTA_GATEWAY
    }
    message.finish()
}

pub fn add_route(sequence: u32, wanted: &Route) -> Vec<u8> {
    route(RTM_NEWROUTE, CREATE | REPLACE, sequence, wanted)
}

pub fn remove_route(sequence: u32, gone: &Route) -> Vec<u8> {
    route(RTM_DELROUTE, 0, sequence, gone)
}

/// Likewise one that the kernel made itself: of any protocol, and of any metric.
pub fn remove_kernels_route(
    sequence: u32,
    link: u32,
    to: (Ipv6Addr, u8),
    router: Option<Ipv6Addr>,
) -> Vec<u8> {
    let gone = Route {
        table: RT_TABLE_MAIN,
        destination: IpAddr::V6(to.0),
        prefix: to.1,
        gateway: router.map(IpAddr::V6),
        on_link: false,
        link,
        source: None,
        metric: 0,
    };
    let mut message = route(RTM_DELROUTE, 0, sequence, &gone);
    message[PROTOCOL] = RTPROT_UNSPEC;
    message
}

/// `from ADDRESS lookup TABLE`
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rule {
    pub from: IpAddr,
    pub table: u32,
    pub priority: u32,
}

fn rule(kind: u16, flags: u16, sequence: u32, rule: Rule) -> Vec<u8> {
    // struct fib_rule_hdr: family, dst_len, src_len, tos, table, 0, 0, action (FR_ACT_TO_TBL), flags
    let table = u8::try_from(rule.table).unwrap_or(RT_TABLE_COMPAT);
    let from = octets(rule.from);
    let body = [family(rule.from), 0, from.len() as u8 * 8, 0, table, 0, 0, 1, 0, 0, 0, 0];
    Request::new(kind, ACK | flags, sequence, &body)
        .attribute(2, &from) // FRA_SRC
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
pub fn read(bytes: &[u8]) -> Vec<Said> {
    let mut said: Vec<Said> = is_torn(bytes).then_some(Said::Torn).into_iter().collect();
    for Message { kind, sequence, body } in netlink::messages(bytes) {
        match kind {
            RTM_NEWLINK => {
                said.extend(link(body).map(Said::Link));
                said.extend(advertised(body).map(|(link, says)| Said::Advertised(link, says)));
            }
            // The same for AF_INET6 and AF_BRIDGE says that the link left that family.
            RTM_DELLINK if body.len() >= 16 && body[0] == 0 => said.push(Said::LinkGone(u32_at(body, 4))),
            RTM_NEWADDR => said.extend(address(body).map(Said::Address)),
            RTM_DELADDR => said.extend(address(body).map(Said::AddressGone)),
            RTM_NEWROUTE => {
                said.extend(router(body).map(|(link, router)| Said::Router(link, router, preference(body))));
                said.extend(near(body).map(|(link, prefix)| Said::Near(link, prefix)));
                said.extend(beside(body).map(|(link, beside)| Said::Beside(link, beside)));
            }
            RTM_DELROUTE => {
                said.extend(router(body).map(|(link, router)| Said::RouterGone(link, router)));
                said.extend(near(body).map(|(link, prefix)| Said::NearGone(link, prefix)));
                said.extend(beside(body).map(|(link, beside)| Said::BesideGone(link, beside)));
            }
            RTM_NEWNDUSEROPT => {
                said.extend(router_option(body).map(|(link, option)| Said::RouterOption(link, option)));
            }
            netlink::ERROR if body.len() >= 4 => {
                said.push(Said::Answer { sequence, errno: u32_at(body, 0).cast_signed().saturating_neg() });
            }
            // A dump that failed on its way says so at its end.
            netlink::DONE => {
                let errno = if body.len() >= 4 { u32_at(body, 0).cast_signed().saturating_neg() } else { 0 };
                said.push(Said::Answer { sequence, errno });
            }
            _ => {}
        }
    }
    said
}

/// Whether a message of a datagram has the flag [`TORN`].
fn is_torn(mut bytes: &[u8]) -> bool {
    while bytes.len() >= 16 {
        let length = u32_at(bytes, 0) as usize;
        if length < 16 || length > bytes.len() {
            return false;
        }
        if u16_at(bytes, 6) & TORN != 0 {
            return true;
        }
        bytes = &bytes[length.next_multiple_of(4).min(bytes.len())..];
    }
    false
}

struct Attributes<'a>(Vec<(u16, &'a [u8])>);

impl<'a> Attributes<'a> {
    fn new(bytes: &'a [u8]) -> Attributes<'a> {
        Attributes(netlink::attributes(bytes))
    }

    fn get(&self, wanted: u16) -> Option<&'a [u8]> {
        self.0.iter().find(|(kind, _)| *kind == wanted).map(|(_, value)| *value)
    }

    fn number(&self, wanted: u16) -> Option<u32> {
        self.get(wanted).filter(|value| value.len() == 4).map(|value| u32_at(value, 0))
    }

    fn nested(&self, wanted: u16) -> Option<Attributes<'a>> {
        self.get(wanted).map(Attributes::new)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\0').to_string()
}

fn link(body: &[u8]) -> Option<Link> {
    // AF_UNSPEC; a message of AF_INET6 or AF_BRIDGE tells a part.
    if *body.first()? != 0 {
        return None;
    }
    let attributes = Attributes::new(body.get(16..)?);
    let mac = |kind| attributes.get(kind).and_then(|mac| Some(Mac(mac.try_into().ok()?)));
    let names = attributes.nested(52).map(|list| list.0); // IFLA_PROP_LIST
    let names = names.into_iter().flatten().filter(|(kind, _)| *kind == 53).map(|(_, name)| text(name)); // IFLA_ALT_IFNAME
    let flags = u32_at(body, 8);
    let kind = attributes.nested(18).and_then(|info| info.get(1)); // IFLA_LINKINFO, IFLA_INFO_KIND
    Some(Link {
        index: u32_at(body, 4),
        name: text(attributes.get(3)?), // IFLA_IFNAME
        names: names.collect(),
        hardware: u16_at(body, 2),
        kind: kind.map(text).unwrap_or_default(),
        mac: mac(1),        // IFLA_ADDRESS
        permanent: mac(54), // IFLA_PERM_ADDRESS
        mtu: attributes.number(4).unwrap_or(0),
        up: flags & IFF_UP != 0,
        carrier: flags & IFF_LOWER_UP != 0,
        master: attributes.number(10).filter(|master| *master != 0), // IFLA_MASTER
        below: attributes.number(5).filter(|below| *below != 0),     // IFLA_LINK
    })
}

/// IFLA_AF_SPEC of a link's message, or IFLA_PROTINFO of IPv6's own.
fn advertised(body: &[u8]) -> Option<(u32, Advertised)> {
    let attributes = Attributes::new(body.get(16..)?);
    let six = match body[0] {
        0 => attributes.nested(26)?.nested(AF_INET6.into())?,
        AF_INET6 => attributes.nested(12)?,
        _ => return None,
    };
    let flags = six.number(1)?; // IFLA_INET6_FLAGS
    let is = |bit| flags & bit != 0;
    let says = Advertised { managed: is(RA_MANAGED), other: is(RA_OTHER) };
    Some((u32_at(body, 4), says))
}

fn address(body: &[u8]) -> Option<Address> {
    let attributes = Attributes::new(body.get(8..)?);
    // IFA_LOCAL, or for IPv6 IFA_ADDRESS alone.
    let bytes = attributes.get(2).or_else(|| attributes.get(1))?;
    let address = ip(body[0], bytes)?;
    let flags = attributes.number(8).unwrap_or(body[2].into()); // IFA_FLAGS
    let is_usable = flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED) == 0;
    Some(Address {
        link: u32_at(body, 4),
        address,
        prefix: body[1],
        global: body[3] == 0 && is_usable,
        local: body[3] == SCOPE_LINK && is_usable,
        duplicate: flags & IFA_F_DADFAILED != 0,
        by_router: attributes.get(11) == Some(&[BY_ROUTER][..]), // IFA_PROTO
    })
}

fn ip(family: u8, bytes: &[u8]) -> Option<IpAddr> {
    match family {
        AF_INET => Some(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?))),
        AF_INET6 => Some(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?))),
        _ => None,
    }
}

/// A default route of the main table that the kernel made by a router's word.
fn router(body: &[u8]) -> Option<(u32, Ipv6Addr)> {
    let attributes = Attributes::new(body.get(12..)?);
    let is_default = body[0] == AF_INET6 && body[1] == 0 && body[5] == RTPROT_RA;
    let table = attributes.number(15).unwrap_or(body[4].into());
    match ip(AF_INET6, attributes.get(5)?)? {
        IpAddr::V6(gateway) if is_default && table == RT_TABLE_MAIN => Some((attributes.number(4)?, gateway)),
        _ => None,
    }
}

/// RTA_PREF, in the bits of RFC 4191 section 2.1.
fn preference(body: &[u8]) -> i8 {
    let bits = body.get(12..).and_then(|attributes| Attributes::new(attributes).get(20)?.first().copied());
    match bits {
        Some(1) => 1,
        Some(3) => -1,
        _ => 0,
    }
}

/// The kernel's own route to a prefix on a link: `addrconf_prefix_route` of net/ipv6/addrconf.c.
fn near(body: &[u8]) -> Option<(u32, (Ipv6Addr, u8))> {
    let attributes = Attributes::new(body.get(12..)?);
    let is_prefix = body[0] == AF_INET6 && (1..128).contains(&body[1]) && body[5] == RTPROT_KERNEL;
    let table = attributes.number(15).unwrap_or(body[4].into());
    match ip(AF_INET6, attributes.get(1)?)? {
        IpAddr::V6(prefix)
            if is_prefix
                && table == RT_TABLE_MAIN
                && attributes.get(5).is_none()
                && !prefix.is_unicast_link_local()
                && !prefix.is_multicast() =>
        {
            Some((attributes.number(4)?, (prefix, body[1])))
        }
        _ => None,
    }
}

/// `struct rtmsg`: family, dst_len, src_len, tos, table, protocol, scope, type, flags.
fn beside(body: &[u8]) -> Option<(u32, Beside)> {
    let attributes = Attributes::new(body.get(12..)?);
    let (family, prefix, protocol) = (body[0], body[1], body[5]);
    let table = attributes.number(15).unwrap_or(body[4].into()); // RTA_TABLE
    if prefix == 0 || table != RT_TABLE_MAIN || body[7] != RTN_UNICAST {
        return None;
    }
    let by_router = match (protocol, family) {
        (RTPROT_BOOT, _) => false,
        (RTPROT_RA, AF_INET6) => true,
        _ => return None,
    };
    let address = |kind| attributes.get(kind).and_then(|bytes| ip(family, bytes));
    let route = network::Route {
        destination: address(1)?, // RTA_DST
        prefix,
        gateway: address(5),          // RTA_GATEWAY
        metric: attributes.number(6), // RTA_PRIORITY
        source: address(7),           // RTA_PREFSRC
    };
    Some((attributes.number(4)?, Beside { route, by_router })) // RTA_OIF
}

/// `struct nduseroptmsg` and the option behind it, in units of eight bytes.
fn router_option(body: &[u8]) -> Option<(u32, RouterOption)> {
    let option = body.get(16..)?;
    let length = usize::from(*option.get(1)?) * 8;
    let option = option.get(..length).filter(|option| option.len() >= 8)?;
    let (link, lifetime) = (u32_at(body, 4), u32::from_be_bytes(option[4..8].try_into().ok()?));
    match option[0] {
        // RDNSS
        25 => {
            let servers = option[8..].chunks_exact(16).take(MOST);
            let servers = servers.filter_map(|bytes| <[u8; 16]>::try_from(bytes).ok()).map(Ipv6Addr::from);
            Some((link, RouterOption::Servers(servers.collect(), lifetime)))
        }
        // DNSSL: names as DNS has them, without compression.
        31 => Some((link, RouterOption::Search(domains(&option[8..]), lifetime))),
        _ => None,
    }
}

/// Servers and domains of one option.
const MOST: usize = 32;

pub fn domains(mut bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    let mut labels: Vec<String> = Vec::new();
    while let Some((&length, rest)) = bytes.split_first() {
        let length = usize::from(length);
        if length == 0 {
            let name = std::mem::take(&mut labels).join(".");
            if network::is_host(&name) && found.len() < MOST {
                found.push(name);
            }
            bytes = rest;
            continue;
        }
        let Some(label) = rest.get(..length).filter(|_| length < 64) else { break };
        labels.push(String::from_utf8_lossy(label).into_owned());
        bytes = &rest[length..];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GIVEN: Given = Given {
        address: IpAddr::V4(Ipv4Addr::new(10, 0, 2, 15)),
        prefix: 24,
        peer: None,
        seconds: 3600,
        preferred: u32::MAX,
    };

    #[test]
    fn a_dump_that_failed_or_was_torn_says_so_at_its_end() {
        let done = |flags: u16, errno: i32| {
            let answer = Request::new(netlink::DONE, flags, 9, &errno.to_ne_bytes()).finish();
            read(&answer)
        };
        assert_eq!(done(2, 0), [Said::Answer { sequence: 9, errno: 0 }]);
        assert_eq!(done(2, -12), [Said::Answer { sequence: 9, errno: 12 }]);
        assert_eq!(done(2 | TORN, 0), [Said::Torn, Said::Answer { sequence: 9, errno: 0 }]);
    }

    #[test]
    fn an_address_is_given_with_both_its_lifetimes() {
        for (preferred, wanted) in [(600, [600, 3600]), (0, [0, 3600]), (u32::MAX, [3600, 3600])] {
            let message = add_address(1, 2, &Given { preferred, ..GIVEN });
            // Behind struct nlmsghdr and struct ifaddrmsg: IFA_CACHEINFO.
            let times = Attributes::new(&message[24..]).get(6).unwrap().to_vec();
            assert_eq!([0, 4].map(|at| u32_at(&times, at)), wanted);
        }
    }

    #[test]
    fn an_address_that_is_sent_is_read_back() {
        let bytes = add_address(1, 2, &GIVEN);
        let [Said::Address(address)] = &read(&bytes)[..] else { panic!("{:?}", read(&bytes)) };
        assert_eq!((address.link, address.prefix, address.global), (2, 24, true));
        assert_eq!(address.address, IpAddr::from([10, 0, 2, 15]));
        let six = Given { address: "2001:db8::7".parse().unwrap(), prefix: 64, ..GIVEN };
        let [Said::Address(address)] = &read(&add_address(1, 2, &six))[..] else { panic!("no address") };
        assert_eq!((address.address, address.prefix), (six.address, 64));
    }

    #[test]
    fn what_the_kernel_has_by_a_routers_word_is_told_from_what_was_given() {
        let six = Given { address: "2001:db8::7".parse().unwrap(), prefix: 64, ..GIVEN };
        for (proto, want) in [(None, false), (Some(BY_ROUTER), true), (Some(3), false)] {
            let mut message = Request(add_address(1, 2, &six));
            if let Some(proto) = proto {
                message = message.attribute(11, &[proto]);
            }
            let [Said::Address(address)] = &read(&message.finish())[..] else { panic!("no address") };
            assert_eq!(address.by_router, want, "{proto:?}");
        }
        let router: Ipv6Addr = "fe80::1".parse().unwrap();
        let behind: (Ipv6Addr, u8) = ("2001:db8:aaaa::".parse().unwrap(), 48);
        let route = network::Route {
            destination: IpAddr::V6(behind.0),
            prefix: behind.1,
            gateway: Some(IpAddr::V6(router)),
            metric: Some(0),
            source: None,
        };
        let beside = Beside { route, by_router: true };
        for (to, kind, want) in [
            ((Ipv6Addr::UNSPECIFIED, 0), RTM_NEWROUTE, Said::Router(2, router, 0)),
            ((Ipv6Addr::UNSPECIFIED, 0), RTM_DELROUTE, Said::RouterGone(2, router)),
            (behind, RTM_NEWROUTE, Said::Beside(2, beside.clone())),
            (behind, RTM_DELROUTE, Said::BesideGone(2, beside)),
        ] {
            let mut message = remove_kernels_route(1, 2, to, Some(router));
            message[4..6].copy_from_slice(&kind.to_ne_bytes());
            assert_eq!(read(&message), [], "ours, or anybody's");
            message[PROTOCOL] = RTPROT_RA;
            assert_eq!(read(&message), [want]);
        }
        for (bits, want) in [(0, 0), (1, 1), (3, -1), (2, 0)] {
            let default = remove_kernels_route(1, 2, (Ipv6Addr::UNSPECIFIED, 0), Some(router));
            let mut message = Request(default).attribute(20, &[bits]).finish();
            message[4..6].copy_from_slice(&RTM_NEWROUTE.to_ne_bytes());
            message[PROTOCOL] = RTPROT_RA;
            assert_eq!(read(&message), [Said::Router(2, router, want)]);
        }
    }

    #[test]
    fn two_messages_of_one_datagram_are_both_read() {
        let mut bytes = add_address(1, 2, &GIVEN);
        let gone = network::Address { address: IpAddr::from([10, 0, 3, 15]), prefix: 24, peer: None };
        bytes.extend(remove_address(2, 3, &gone));
        assert!(matches!(&read(&bytes)[..], [Said::Address(_), Said::AddressGone(gone)] if gone.link == 3));
    }

    #[test]
    fn a_link_that_is_to_be_made_is_read_back_with_its_kind_and_what_is_below() {
        let read_back = |bytes: Vec<u8>| match &read(&bytes)[..] {
            [Said::Link(link)] => (link.name.clone(), link.kind.clone(), link.below),
            other => panic!("{other:?}"),
        };
        let want = |name: &str, kind: &str, below| (name.to_string(), kind.to_string(), below);
        assert_eq!(read_back(make_vlan(1, "eth0.5", 2, 5)), want("eth0.5", "vlan", Some(2)));
        assert_eq!(read_back(make_bond(1, "bond0")), want("bond0", "bond", None));
        assert_eq!(read_back(make_bridge(1, "br0", false)), want("br0", "bridge", None));
    }

    #[test]
    fn servers_and_domains_of_a_router_are_read_with_their_lifetime() {
        let message = |option: &[u8]| {
            let mut body = vec![AF_INET6, 0, 0, 0];
            body.extend_from_slice(&2_u32.to_ne_bytes());
            body.extend_from_slice(&[134, 0, 0, 0, 0, 0, 0, 0]);
            body.extend_from_slice(option);
            Request::new(RTM_NEWNDUSEROPT, 0, 1, &body).finish()
        };
        let server: Ipv6Addr = "2001:db8::53".parse().unwrap();
        let mut option = vec![25, 3, 0, 0, 0, 0, 0x0e, 0x10];
        option.extend_from_slice(&server.octets());
        assert_eq!(
            read(&message(&option)),
            [Said::RouterOption(2, RouterOption::Servers(vec![server], 3600))]
        );
        let option = [&[31, 3, 0, 0, 0, 0, 0, 60][..], b"\x07example\x03com\x00\x00\x00\x00"].concat();
        assert_eq!(
            read(&message(&option)),
            [Said::RouterOption(2, RouterOption::Search(vec!["example.com".to_string()], 60))]
        );
        assert_eq!(read(&message(&option[..9])), [], "cut");
    }

    #[test]
    fn routes_by_hand_and_by_routers_are_heard_and_netd_s_own_and_defaults_are_not() {
        let message = |destination: &str, prefix, table: u32, protocol, kind| {
            let made = Route {
                table,
                destination: destination.parse().unwrap(),
                prefix,
                gateway: None,
                on_link: false,
                link: 2,
                source: None,
                metric: 7,
            };
            let mut bytes = add_route(1, &made);
            (bytes[21], bytes[23]) = (protocol, kind);
            bytes
        };
        for (label, bytes, by_router) in [
            ("by hand", message("10.0.0.0", 8, 254, RTPROT_BOOT, 1), Some(false)),
            ("by a router", message("2001:db8::", 48, 254, RTPROT_RA, 1), Some(true)),
            ("netd's own", message("10.0.0.0", 8, 254, RTPROT_STATIC, 1), None),
            ("a default", message("0.0.0.0", 0, 254, RTPROT_BOOT, 1), None),
            ("of another table", message("10.0.0.0", 8, 1002, RTPROT_BOOT, 1), None),
            ("a blackhole", message("10.0.0.0", 8, 254, RTPROT_BOOT, 6), None),
            ("no such protocol", message("10.0.0.0", 8, 254, RTPROT_RA, 1), None),
        ] {
            let seen = match &read(&bytes)[..] {
                [Said::Beside(2, beside)] if beside.route.metric == Some(7) => Some(beside.by_router),
                [] => None,
                other => panic!("{label}: {other:?}"),
            };
            assert_eq!(seen, by_router, "{label}");
        }
    }

    #[test]
    fn an_errno_that_is_none_does_no_harm() {
        let answer =
            [&20_u32.to_ne_bytes()[..], &netlink::ERROR.to_ne_bytes(), &[0; 10], &i32::MIN.to_ne_bytes()];
        assert_eq!(read(&answer.concat()), [Said::Answer { sequence: 0, errno: i32::MAX }]);
    }

    proptest! {
        #[test]
        fn no_datagram_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), kind in 0u16..120) {
            let mut message = Request::new(kind, 0, 1, &bytes).finish();
            let _ = read(&message);
            message.truncate(message.len() / 2);
            let _ = read(&message);
            let _ = read(&bytes);
        }
    }
}
