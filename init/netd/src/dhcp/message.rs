//! DHCPv4 messages (RFC 2131 section 2, RFC 2132, RFC 3442, RFC 3396, RFC 3397) and the UDP and IP
//! headers around them. Whatever a server sends is hostile: lengths are checked. A value without which
//! there is no lease (address, mask, time, server) and that makes no sense is an error that names it; any
//! other option is left out and named, since it may be the only server there is.

use network::is_host;
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

pub const SERVER_PORT: u16 = 67;
pub const CLIENT_PORT: u16 = 68;
const MAGIC: [u8; 4] = [99, 130, 83, 99];
/// Options start here.
const FIXED: usize = 240;
/// Servers and relays of old drop shorter ones (RFC 951 section 3).
const SHORTEST: usize = 300;
/// Bytes, option 26: what a packet of IPv4 needs everywhere (RFC 791), and a jumbo frame.
const MTUS: std::ops::RangeInclusive<u16> = 576..=9216;
/// Bytes of a host name that the kernel takes (`__NEW_UTS_LEN`).
const LONGEST_NAME: usize = 64;
/// Most routes of option 121, name servers and search domains taken from one lease.
const MOST: usize = 32;

pub const DISCOVER: u8 = 1;
pub const OFFER: u8 = 2;
pub const REQUEST: u8 = 3;
pub const DECLINE: u8 = 4;
pub const ACK: u8 = 5;
pub const NAK: u8 = 6;

/// What we ask for: mask, routers, DNS, host name, domain, MTU, broadcast, NTP, lease, T1, T2,
/// search, classless routes. 121 first, as RFC 3442 asks.
const WANTED: &[u8] = &[121, 1, 3, 6, 12, 15, 26, 28, 42, 51, 54, 58, 59, 119];

/// What we send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    pub kind: u8,
    pub xid: u32,
    /// Seconds since we began to ask.
    pub seconds: u16,
    pub mac: [u8; 6],
    /// Our address, once we have it.
    pub client: Ipv4Addr,
    /// Option 50.
    pub requested: Option<Ipv4Addr>,
    /// Option 54.
    pub server: Option<Ipv4Addr>,
    pub hostname: Option<String>,
}

impl Outgoing {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; FIXED];
        bytes[0] = 1; // BOOTREQUEST
        bytes[1] = 1; // Ethernet
        bytes[2] = 6;
        bytes[4..8].copy_from_slice(&self.xid.to_be_bytes());
        bytes[8..10].copy_from_slice(&self.seconds.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.client.octets());
        bytes[28..34].copy_from_slice(&self.mac);
        bytes[236..240].copy_from_slice(&MAGIC);
        let mut option = |code: u8, value: &[u8]| {
            bytes.push(code);
            bytes.push(value.len() as u8); // all of ours are short
            bytes.extend_from_slice(value);
        };
        option(53, &[self.kind]);
        // Hardware type and MAC: what firmware and iPXE send as well, so the lease stays the same.
        option(61, &[&[1], &self.mac[..]].concat());
        if let Some(address) = self.requested {
            option(50, &address.octets());
        }
        if let Some(server) = self.server {
            option(54, &server.octets());
        }
        // Of which a DECLINE has none (RFC 2131 table 5).
        if self.kind != DECLINE {
            option(57, &1472_u16.to_be_bytes());
            option(60, b"lifeboat");
            if let Some(name) = self.hostname.as_ref().filter(|name| name.len() <= 63) {
                option(12, name.as_bytes());
            }
            option(55, WANTED);
        }
        bytes.push(255);
        bytes.resize(bytes.len().max(SHORTEST), 0);
        bytes
    }
}

/// What an offer or an acknowledgement grants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub address: Ipv4Addr,
    pub prefix: u8,
    pub server: Ipv4Addr,
    pub gateway: Option<Ipv4Addr>,
    /// Option 121, which replaces routers: (destination, prefix, gateway); gateway 0.0.0.0 is the link itself, also as the
    /// default route, where the server's router is the machine's own address.
    pub routes: Vec<(Ipv4Addr, u8, Ipv4Addr)>,
    pub nameservers: Vec<Ipv4Addr>,
    pub search: Vec<String>,
    pub hostname: Option<String>,
    pub mtu: Option<u16>,
    pub ntp: Vec<Ipv4Addr>,
    /// Seconds; `u32::MAX` is for ever.
    pub seconds: u32,
    pub t1: u32,
    pub t2: u32,
    /// Options that make no sense, for the log.
    #[serde(skip)]
    pub ignored: Vec<String>,
}

/// A server's message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    Offer(Lease),
    Ack(Lease),
    Nak { server: Ipv4Addr, text: String },
}

/// Reads a whole IP packet, as a packet socket gives it. `Ok(None)`: not for this exchange.
///
/// Errors: one line that names the server and what is wrong with its answer.
pub fn decode_packet(packet: &[u8], xid: u32, mac: [u8; 6]) -> Result<Option<Incoming>, String> {
    let Some(payload) = udp_payload(packet) else { return Ok(None) };
    let source = Ipv4Addr::new(packet[12], packet[13], packet[14], packet[15]); // udp_payload saw the header
    decode(payload, xid, mac)
        .map_err(|reason| format!("DHCP server {source}: {reason}: its answer is not used"))
}

/// The payload of a whole UDP packet from the server's port.
fn udp_payload(packet: &[u8]) -> Option<&[u8]> {
    let header = usize::from(packet.first()? & 15) * 4;
    let total = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
    if packet[0] >> 4 != 4 || header < 20 || *packet.get(9)? != 17 {
        return None;
    }
    // Padding of short Ethernet frames lies behind the packet.
    let udp = packet.get(header..total)?;
    let length = usize::from(u16::from_be_bytes([*udp.get(4)?, *udp.get(5)?]));
    let from = u16::from_be_bytes([udp[0], udp[1]]);
    if from != SERVER_PORT {
        return None;
    }
    // The UDP checksum is not looked at: it is not filled in yet when the server runs on the same
    // host, and the link has its own.
    udp.get(8..length)
}

/// Reads a DHCP message.
pub fn decode(bytes: &[u8], xid: u32, mac: [u8; 6]) -> Result<Option<Incoming>, String> {
    let ours = bytes.len() >= FIXED
        && bytes[0] == 2
        && bytes[4..8] == xid.to_be_bytes()
        && bytes[28..34] == mac
        && bytes[236..240] == MAGIC;
    if !ours {
        return Ok(None);
    }
    let options = Options::read(bytes)?;
    let kind = options.exact::<1>(53)?.ok_or("no message type")?[0];
    let server = options.address(54)?;
    match kind {
        OFFER | ACK => {
            let server = server.ok_or("no server identifier")?;
            if !usable(server) {
                return Err(format!("{server} is no address for a server"));
            }
            let lease = lease(bytes, &options, server)?;
            Ok(Some(if kind == OFFER { Incoming::Offer(lease) } else { Incoming::Ack(lease) }))
        }
        NAK => {
            // Mandatory (RFC 2131 table 3), and by it the word of one that nobody asked is told apart.
            let server = server.ok_or("a refusal without a server identifier")?;
            let text =
                options.get(56).map(|text| String::from_utf8_lossy(text).into_owned()).unwrap_or_default();
            Ok(Some(Incoming::Nak {
                server,
                text: text.chars().filter(|c| !c.is_control()).take(80).collect(),
            }))
        }
        _ => Ok(None),
    }
}

fn lease(bytes: &[u8], options: &Options, server: Ipv4Addr) -> Result<Lease, String> {
    let address = Ipv4Addr::new(bytes[16], bytes[17], bytes[18], bytes[19]); // at least FIXED bytes
    if !usable(address) {
        return Err(format!("{address} is no address for a machine"));
    }
    let prefix = match options.address(1)? {
        Some(mask) => {
            let bits = u32::from(mask);
            if bits.leading_ones() + bits.trailing_zeros() != 32 || bits == 0 {
                return Err(format!("{mask} is no netmask"));
            }
            bits.leading_ones() as u8
        }
        // RFC 2131 leaves it open; the class is what every client takes.
        None => match address.octets()[0] {
            0..=127 => 8,
            128..=191 => 16,
            _ => 24,
        },
    };
    let seconds = options.exact::<4>(51)?.map(u32::from_be_bytes).ok_or("no lease time")?;
    if seconds == 0 {
        return Err("a lease of 0 seconds".to_string());
    }
    let mut ignored = Vec::new();
    // RFC 2131 section 4.4.5; times out of order are not worth losing the lease for.
    let mut time = |code| sound(options.exact::<4>(code), &mut ignored).map(u32::from_be_bytes);
    let t1 = time(58).filter(|t| *t > 0 && *t < seconds).unwrap_or(seconds / 2);
    let t2 =
        time(59).filter(|t| *t > t1 && *t < seconds).unwrap_or((u64::from(seconds) * 7 / 8) as u32).max(t1);
    // Without them, what option 3 says counts.
    let routes: Vec<_> = sound(options.get(121).map(routes).transpose(), &mut ignored).unwrap_or_default();
    let gateway = sound(options.addresses(3), &mut ignored).into_iter().find(|gateway| usable(*gateway));
    // Who is told to be his own gateway finds everybody on the link: the kernel takes no
    // such route.
    let on_link = |gateway: Ipv4Addr| if gateway == address { Ipv4Addr::UNSPECIFIED } else { gateway };
    let own = gateway.filter(|gateway| routes.is_empty() && *gateway == address);
    let own = own.map(|_| (Ipv4Addr::UNSPECIFIED, 0, Ipv4Addr::UNSPECIFIED));
    let routes: Vec<_> =
        routes.into_iter().map(|(to, prefix, by)| (to, prefix, on_link(by))).chain(own).collect();
    let default = routes.iter().find(|(_, prefix, _)| *prefix == 0).map(|(_, _, gateway)| *gateway);
    let mut name = |code| {
        let text = String::from_utf8_lossy(options.get(code)?).trim_end_matches('\0').to_string();
        let is_name = is_host(&text);
        if !is_name && !text.is_empty() {
            ignored.push(format!("option {code} is no name"));
        }
        is_name.then_some(text)
    };
    let (domain, hostname) = (name(15), name(12));
    let (mut search, is_whole) = options.get(119).map_or((Vec::new(), true), domains);
    if !is_whole {
        ignored.push("option 119 (search domains) is cut or has what is no name".to_string());
    }
    search.extend(domain.filter(|domain| !search.contains(domain)));
    let mtu = sound(options.exact::<2>(26), &mut ignored).map(u16::from_be_bytes);
    if let Some(mtu) = mtu.filter(|mtu| !MTUS.contains(mtu)) {
        ignored.push(format!("option 26 says an MTU of {mtu}"));
    }
    Ok(Lease {
        address,
        prefix,
        server,
        // With option 121, routers are to be ignored (RFC 3442).
        gateway: if routes.is_empty() { gateway } else { default.filter(|gateway| usable(*gateway)) },
        routes,
        nameservers: sound(options.addresses(6), &mut ignored)
            .into_iter()
            .filter(|a| usable(*a) || a.is_loopback())
            .take(MOST)
            .collect(),
        search,
        // The machine's own label is a name too (at most 63 bytes, RFC 1035).
        hostname: hostname.map(|name| match name.len() {
            0..=LONGEST_NAME => name,
            _ => name.split('.').next().unwrap_or_default().to_string(),
        }),
        mtu: mtu.filter(|mtu| MTUS.contains(mtu)),
        ntp: sound(options.addresses(42), &mut ignored)
            .into_iter()
            .filter(|a| usable(*a))
            .take(MOST)
            .collect(),
        seconds,
        t1,
        t2,
        ignored,
    })
}

/// The value of an option that a lease can be without.
fn sound<T: Default>(value: Result<T, String>, ignored: &mut Vec<String>) -> T {
    value.unwrap_or_else(|reason| {
        ignored.push(reason);
        T::default()
    })
}

fn usable(address: Ipv4Addr) -> bool {
    !(address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || address.octets()[0] >= 240)
}

/// Option 121.
fn routes(mut bytes: &[u8]) -> Result<Vec<(Ipv4Addr, u8, Ipv4Addr)>, String> {
    let mut routes = Vec::new();
    while let [prefix, rest @ ..] = bytes {
        let significant = usize::from(*prefix).div_ceil(8);
        if *prefix > 32 || rest.len() < significant + 4 {
            return Err("option 121 (classless routes) is cut or has a prefix above 32".to_string());
        }
        let mut destination = [0; 4];
        destination[..significant].copy_from_slice(&rest[..significant]);
        let gateway: [u8; 4] =
            rest[significant..significant + 4].try_into().expect("four bytes, checked above");
        let mask = u32::MAX.checked_shl(32 - u32::from(*prefix)).unwrap_or(0);
        let destination = Ipv4Addr::from(u32::from_be_bytes(destination) & mask);
        // Without the default one this machine is of its own net alone, and lists have it last as often as first.
        let is_first_default = *prefix == 0 && routes.iter().all(|(_, known, _)| *known > 0);
        if routes.len() < MOST || is_first_default {
            routes.push((destination, *prefix, Ipv4Addr::from(gateway)));
        }
        bytes = &rest[significant + 4..];
    }
    Ok(routes)
}

/// Option 119: names in DNS form, with compression. What is not understood is left out, and then the second is false.
fn domains(bytes: &[u8]) -> (Vec<String>, bool) {
    let mut names = Vec::new();
    let (mut position, mut is_whole) = (0, true);
    while position < bytes.len() && names.len() < MOST {
        let mut labels: Vec<String> = Vec::new();
        let (mut at, mut end) = (position, None);
        // Every pointer leads back, and a name has at most 127 labels: the loop ends.
        for _ in 0..128 {
            match bytes.get(at) {
                Some(0) => {
                    end = end.or(Some(at + 1));
                    break;
                }
                Some(length) if length & 0xc0 == 0xc0 => {
                    let Some(low) = bytes.get(at + 1) else { return (names, false) };
                    end = end.or(Some(at + 2));
                    let target = usize::from(length & 0x3f) << 8 | usize::from(*low);
                    if target >= at {
                        return (names, false);
                    }
                    at = target;
                }
                Some(length) => {
                    let Some(label) = bytes.get(at + 1..at + 1 + usize::from(*length)) else {
                        return (names, false);
                    };
                    labels.push(String::from_utf8_lossy(label).into_owned());
                    at += 1 + usize::from(*length);
                }
                None => return (names, false),
            }
        }
        let Some(end) = end else { return (names, false) };
        let name = labels.join(".");
        match is_host(&name) {
            true => names.push(name),
            false => is_whole = false,
        }
        position = end;
    }
    (names, is_whole)
}

/// Options by code; the parts of a long one joined (RFC 3396).
struct Options(Vec<(u8, Vec<u8>)>);

impl Options {
    fn read(bytes: &[u8]) -> Result<Options, String> {
        let mut options = Options(Vec::new());
        options.area(&bytes[FIXED..])?;
        // Option 52: the file and sname fields hold options too.
        let overload = options.exact::<1>(52)?.map_or(0, |value| value[0]);
        if overload & 1 != 0 {
            options.area(&bytes[108..236])?;
        }
        if overload & 2 != 0 {
            options.area(&bytes[44..108])?;
        }
        Ok(options)
    }

    fn area(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        loop {
            match bytes {
                [] | [255, ..] => return Ok(()),
                [0, rest @ ..] => bytes = rest,
                [code, length, rest @ ..] if rest.len() >= usize::from(*length) => {
                    let (value, rest) = rest.split_at(usize::from(*length));
                    match self.0.iter_mut().find(|(known, _)| known == code) {
                        Some((_, joined)) => joined.extend_from_slice(value),
                        None => self.0.push((*code, value.to_vec())),
                    }
                    bytes = rest;
                }
                [code, ..] => return Err(format!("option {code} is cut")),
            }
        }
    }

    fn get(&self, code: u8) -> Option<&[u8]> {
        self.0.iter().find(|(known, _)| *known == code).map(|(_, value)| value.as_slice())
    }

    fn exact<const N: usize>(&self, code: u8) -> Result<Option<[u8; N]>, String> {
        let Some(value) = self.get(code) else { return Ok(None) };
        value
            .try_into()
            .map(Some)
            .map_err(|_| format!("option {code} has {} bytes instead of {N}", value.len()))
    }

    fn address(&self, code: u8) -> Result<Option<Ipv4Addr>, String> {
        Ok(self.exact::<4>(code)?.map(Ipv4Addr::from))
    }

    fn addresses(&self, code: u8) -> Result<Vec<Ipv4Addr>, String> {
        let Some(value) = self.get(code) else { return Ok(Vec::new()) };
        let (whole, rest) = value.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(format!("option {code} has {} bytes, not a multiple of 4", value.len()));
        }
        Ok(whole.iter().map(|octets| Ipv4Addr::from(*octets)).collect())
    }
}

/// The IP packet of a broadcast from a machine without an address.
pub fn broadcast_packet(payload: &[u8], source: Ipv4Addr) -> Vec<u8> {
    let udp_length = (8 + payload.len()) as u16; // our messages are below 576 bytes
    let mut packet = vec![0x45, 0x10, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0];
    packet.extend_from_slice(&source.octets());
    packet.extend_from_slice(&[255; 4]);
    packet[2..4].copy_from_slice(&(20 + udp_length).to_be_bytes());
    let header = checksum(&[&packet]);
    packet[10..12].copy_from_slice(&header.to_be_bytes());
    let mut udp = Vec::new();
    udp.extend_from_slice(&CLIENT_PORT.to_be_bytes());
    udp.extend_from_slice(&SERVER_PORT.to_be_bytes());
    udp.extend_from_slice(&udp_length.to_be_bytes());
    udp.extend_from_slice(&[0, 0]);
    udp.extend_from_slice(payload);
    let mut pseudo = packet[12..20].to_vec();
    pseudo.extend_from_slice(&[0, 17]);
    pseudo.extend_from_slice(&udp_length.to_be_bytes());
    let sum = match checksum(&[&pseudo, &udp]) {
        0 => 0xffff, // 0 means "none" (RFC 768)
        sum => sum,
    };
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    packet.extend_from_slice(&udp);
    packet
}

/// RFC 1071 over parts of which all but the last have an even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u32;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use proptest::prelude::*;

    pub const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];

    /// A server's message with these options.
    pub fn reply(kind: u8, xid: u32, address: [u8; 4], options: &[(u8, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; FIXED];
        bytes[0] = 2;
        bytes[4..8].copy_from_slice(&xid.to_be_bytes());
        bytes[16..20].copy_from_slice(&address);
        bytes[28..34].copy_from_slice(&MAC);
        bytes[236..240].copy_from_slice(&MAGIC);
        bytes.extend_from_slice(&[53, 1, kind]);
        for (code, value) in options {
            bytes.push(*code);
            bytes.push(value.len() as u8);
            bytes.extend_from_slice(value);
        }
        bytes.push(255);
        bytes
    }

    const BASE: &[(u8, &[u8])] =
        &[(1, &[255, 255, 255, 0]), (3, &[10, 0, 2, 2]), (51, &[0, 0, 14, 16]), (54, &[10, 0, 2, 2])];

    fn ack(options: &[(u8, &[u8])]) -> Result<Lease, String> {
        let all: Vec<(u8, &[u8])> = BASE
            .iter()
            .filter(|(c, _)| options.iter().all(|(o, _)| o != c))
            .chain(options)
            .copied()
            .collect();
        match decode(&reply(ACK, 7, [10, 0, 2, 15], &all), 7, MAC)? {
            Some(Incoming::Ack(lease)) => Ok(lease),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_lease_is_what_the_server_granted() {
        let lease =
            ack(&[(6, &[1, 1, 1, 1, 8, 8, 8, 8]), (12, b"web1"), (15, b"example.org"), (26, &[0x05, 0x78])])
                .unwrap();
        assert_eq!((lease.address, lease.prefix), (Ipv4Addr::new(10, 0, 2, 15), 24));
        assert_eq!(lease.gateway, Some(Ipv4Addr::new(10, 0, 2, 2)));
        assert_eq!(lease.nameservers.len(), 2);
        assert_eq!(
            (lease.hostname.as_deref(), lease.search.as_slice()),
            (Some("web1"), &["example.org".to_string()][..])
        );
        assert_eq!((lease.mtu, lease.seconds, lease.t1, lease.t2), (Some(1400), 3600, 1800, 3150));
    }

    #[test]
    fn classless_routes_replace_the_router() {
        let lease = ack(&[(121, &[0, 172, 31, 1, 1, 32, 172, 31, 1, 1, 0, 0, 0, 0])]).unwrap();
        assert_eq!(lease.gateway, Some(Ipv4Addr::new(172, 31, 1, 1)));
        assert_eq!(lease.routes[1], (Ipv4Addr::new(172, 31, 1, 1), 32, Ipv4Addr::UNSPECIFIED));
    }

    #[test]
    fn a_default_route_of_the_link_itself_counts() {
        type Options = &'static [(u8, &'static [u8])];
        let cases: &[(&str, Options)] = &[
            ("RFC 3442", &[(121, &[0, 0, 0, 0, 0])]),
            ("by its own address", &[(121, &[0, 10, 0, 2, 15])]),
            ("a router with its own address", &[(3, &[10, 0, 2, 15])]),
        ];
        for (label, options) in cases {
            let lease = ack(options).unwrap();
            assert_eq!(lease.routes, [(Ipv4Addr::UNSPECIFIED, 0, Ipv4Addr::UNSPECIFIED)], "{label}");
            assert_eq!(lease.gateway, None, "{label}");
        }
    }

    #[test]
    fn a_hostile_answer_is_refused_with_its_reason() {
        type Options = &'static [(u8, &'static [u8])];
        let cases: &[(&str, Options, &str)] = &[
            ("no time", &[(51, &[0, 0, 0, 0])], "a lease of 0 seconds"),
            ("mask with holes", &[(1, &[255, 0, 255, 0])], "is no netmask"),
            ("short mask", &[(1, &[255])], "option 1 has 1 bytes instead of 4"),
            ("time of three bytes", &[(51, &[0, 14, 16])], "option 51 has 3 bytes instead of 4"),
            ("no server", &[(54, &[0, 0, 0, 0])], "0.0.0.0 is no address for a server"),
            ("every server", &[(54, &[255, 255, 255, 255])], "is no address for a server"),
            ("half a server", &[(54, &[10, 0])], "option 54 has 2 bytes instead of 4"),
            ("odd overload", &[(52, &[1, 2])], "option 52 has 2 bytes instead of 1"),
        ];
        for (label, options, want) in cases {
            let error = ack(options).unwrap_err();
            assert!(error.contains(want), "{label}: {error}");
        }
        for address in [[0, 0, 0, 0], [127, 0, 0, 1], [224, 0, 0, 1], [255, 255, 255, 255]] {
            assert!(decode(&reply(ACK, 7, address, BASE), 7, MAC).is_err(), "{address:?}");
        }
        let mut cut = reply(ACK, 7, [10, 0, 2, 15], BASE);
        cut.truncate(FIXED + 5);
        assert!(decode(&cut, 7, MAC).is_err());
    }

    #[test]
    fn an_option_that_makes_no_sense_is_left_out_and_named() {
        type Same = fn(&mut Lease);
        let whole: &[(u8, &[u8])] = &[
            (121, &[0, 10, 0, 2, 9]),
            (6, &[10, 0, 2, 3]),
            (12, b"web1"),
            (15, b"example.org"),
            (26, &[5, 0x78]),
            (42, &[10, 0, 2, 4]),
            (58, &[0, 0, 4, 0]),
            (59, &[0, 0, 8, 0]),
            (119, b"\x01a\x00"),
        ];
        let cases: &[(&str, u8, &[u8], &str, Same)] = &[
            ("cut routes", 121, &[24, 10, 0], "option 121", |lease| {
                (lease.gateway, lease.routes) = (Some([10, 0, 2, 2].into()), vec![]);
            }),
            ("a prefix of 33", 121, &[33, 10, 0, 0, 0, 0, 1, 1, 1, 1], "option 121", |lease| {
                (lease.gateway, lease.routes) = (Some([10, 0, 2, 2].into()), vec![]);
            }),
            ("odd routers", 3, &[1, 2, 3], "option 3 has 3 bytes", |_| ()),
            ("odd name servers", 6, &[1], "option 6 has 1 bytes", |lease| lease.nameservers.clear()),
            ("no host name", 12, b"a b", "option 12 is no name", |lease| lease.hostname = None),
            ("no domain", 15, b"x;y", "option 15 is no name", |lease| drop(lease.search.pop())),
            ("half an MTU", 26, &[5], "option 26 has 1 bytes instead of 2", |lease| lease.mtu = None),
            ("an MTU of 68", 26, &[0, 68], "option 26 says an MTU of 68", |lease| lease.mtu = None),
            ("odd time servers", 42, &[1, 2, 3, 4, 5], "option 42 has 5 bytes", |lease| lease.ntp.clear()),
            ("T1 of a byte", 58, &[1], "option 58 has 1 bytes instead of 4", |lease| lease.t1 = 1800),
            ("T2 of a byte", 59, &[1], "option 59 has 1 bytes instead of 4", |lease| lease.t2 = 3150),
            ("cut domains", 119, b"\x09a", "option 119", |lease| drop(lease.search.remove(0))),
            ("domains that are none", 119, b"\x01;\x00", "option 119", |lease| drop(lease.search.remove(0))),
        ];
        let good = ack(whole).unwrap();
        assert!(good.ignored.is_empty() && good.search.len() == 2 && good.t1 == 1024, "{good:?}");
        for (label, code, bytes, reason, same) in cases {
            let mut options: Vec<(u8, &[u8])> = whole.iter().filter(|(c, _)| c != code).copied().collect();
            options.push((*code, bytes));
            let mut lease = ack(&options).unwrap();
            let ignored = std::mem::take(&mut lease.ignored);
            assert!(matches!(&ignored[..], [one] if one.contains(reason)), "{label}: {ignored:?}");
            let mut want = good.clone();
            same(&mut want);
            assert_eq!(lease, want, "{label}");
        }
    }

    #[test]
    fn an_answer_by_a_relay_names_the_server_behind_it() {
        // The server is on no link of ours; giaddr is the relay's (RFC 2131 section 2), by which nothing is asked.
        let options: Vec<(u8, &[u8])> = BASE
            .iter()
            .filter(|(code, _)| *code != 54)
            .copied()
            .chain([(54, &[198, 18, 0, 2][..])])
            .collect();
        let mut bytes = reply(ACK, 7, [10, 0, 2, 15], &options);
        bytes[3] = 1; // hops
        bytes[24..28].copy_from_slice(&[10, 0, 2, 1]);
        let Ok(Some(Incoming::Ack(lease))) = decode(&bytes, 7, MAC) else { panic!("no lease") };
        assert_eq!(lease.server, Ipv4Addr::new(198, 18, 0, 2));
        assert_eq!((lease.address, lease.gateway), ([10, 0, 2, 15].into(), Some([10, 0, 2, 2].into())));
    }

    #[test]
    fn options_in_the_file_and_name_fields_are_read_once() {
        let mut overloaded =
            reply(ACK, 7, [10, 0, 2, 15], &[(52, &[3]), (51, &[0, 0, 14, 16]), (54, &[10, 0, 2, 2])]);
        // RFC 2132 section 9.3: `file` first, then `sname`; what is overloaded in there means nothing.
        overloaded[108..116].copy_from_slice(&[1, 4, 255, 255, 255, 0, 52, 1]);
        overloaded[116..118].copy_from_slice(&[3, 255]);
        overloaded[44..51].copy_from_slice(&[3, 4, 10, 0, 2, 2, 255]);
        let Ok(Some(Incoming::Ack(lease))) = decode(&overloaded, 7, MAC) else { panic!() };
        assert_eq!((lease.prefix, lease.gateway), (24, Some(Ipv4Addr::new(10, 0, 2, 2))));
        overloaded[44..46].copy_from_slice(&[3, 200]);
        assert_eq!(decode(&overloaded, 7, MAC), Err("option 3 is cut".to_string()));
    }

    #[test]
    fn giant_options_are_cut_to_what_a_machine_needs() {
        // One option in many parts (RFC 3396): 255 name servers, and as many routes and domains.
        let servers: Vec<u8> = (1..=255).flat_map(|n| [10, 0, 9, n]).collect();
        let routes: Vec<u8> = (1..=150).flat_map(|n| [24, 10, 1, n, 10, 0, 2, 2]).collect();
        let domains: Vec<u8> = (0..200).flat_map(|_| [1, b'a', 0]).collect();
        let mut options: Vec<(u8, &[u8])> = Vec::new();
        for (code, bytes) in [(6, &servers), (121, &routes), (119, &domains)] {
            options.extend(bytes.chunks(255).map(|part| (code, part)));
        }
        let lease = ack(&options).unwrap();
        assert_eq!((lease.nameservers.len(), lease.routes.len(), lease.search.len()), (MOST, MOST, MOST));
    }

    #[test]
    fn a_default_route_behind_more_routes_than_are_taken_counts() {
        let mut bytes: Vec<u8> = (1..=60).flat_map(|n| [24, 10, 1, n, 10, 0, 2, 2]).collect();
        bytes.extend([0, 10, 0, 2, 9, 0, 10, 0, 2, 8]);
        let parts: Vec<(u8, &[u8])> = bytes.chunks(255).map(|part| (121, part)).collect();
        let lease = ack(&parts).unwrap();
        assert_eq!((lease.gateway, lease.routes.len()), (Some([10, 0, 2, 9].into()), MOST + 1));
    }

    #[test]
    fn names_that_could_break_a_file_are_left_out() {
        let lease = ack(&[(12, b"a b\nnameserver 6.6.6.6"), (15, b"x;y"), (26, &[0, 68])]).unwrap();
        assert_eq!((lease.hostname, lease.search.len(), lease.mtu), (None, 0, None));
    }

    #[test]
    fn a_host_name_that_is_too_long_for_the_kernel_is_cut_to_its_first_label() {
        let domain = ".a-long-name-of-a-department.of-an-organisation.example.org";
        for (name, want) in [("web1".to_string(), "web1"), (format!("web1{domain}{domain}"), "web1")] {
            assert_eq!(ack(&[(12, name.as_bytes())]).unwrap().hostname.as_deref(), Some(want));
        }
        let just = format!("web{}", &domain[..LONGEST_NAME - 10]);
        assert_eq!(ack(&[(12, just.as_bytes())]).unwrap().hostname, Some(just));
    }

    #[test]
    fn a_time_server_that_nobody_can_be_is_not_waited_for() {
        let lease = ack(&[(42, &[0, 0, 0, 0, 255, 255, 255, 255, 224, 0, 1, 1, 10, 0, 2, 4])]).unwrap();
        assert_eq!(lease.ntp, [Ipv4Addr::new(10, 0, 2, 4)]);
    }

    #[test]
    fn compressed_search_lists_end() {
        let list = [
            3, b'e', b'n', b'g', 5, b'a', b'p', b'p', b'l', b'e', 3, b'c', b'o', b'm', 0, 2, b'm', b'k',
            0xc0, 4,
        ];
        assert_eq!(domains(&list), (vec!["eng.apple.com".to_string(), "mk.apple.com".to_string()], true));
        assert_eq!(domains(&[0xc0, 0]), (vec![], false));
    }

    #[test]
    fn somebody_elses_exchange_is_not_ours() {
        assert_eq!(decode(&reply(ACK, 8, [10, 0, 2, 15], BASE), 7, MAC), Ok(None));
        assert_eq!(decode(&reply(ACK, 7, [10, 0, 2, 15], BASE), 7, [0; 6]), Ok(None));
        assert_eq!(decode(&[], 7, MAC), Ok(None));
    }

    #[test]
    fn a_decline_names_the_address_and_the_server_and_asks_for_nothing() {
        let message = |kind| Outgoing {
            kind,
            xid: 7,
            seconds: 0,
            mac: MAC,
            client: Ipv4Addr::UNSPECIFIED,
            requested: Some([10, 0, 2, 15].into()),
            server: Some([10, 0, 2, 2].into()),
            hostname: Some("web1".to_string()),
        };
        for (kind, want) in [(DECLINE, &[53, 61, 50, 54][..]), (REQUEST, &[53, 61, 50, 54, 57, 60, 12, 55])] {
            let sent = Options::read(&message(kind).encode()).unwrap();
            assert_eq!(sent.0.iter().map(|(code, _)| *code).collect::<Vec<u8>>(), want);
        }
    }

    #[test]
    fn what_we_send_is_a_packet_that_others_take() {
        let message = Outgoing {
            kind: DISCOVER,
            xid: 7,
            seconds: 0,
            mac: MAC,
            client: Ipv4Addr::UNSPECIFIED,
            requested: None,
            server: None,
            hostname: None,
        };
        let packet = broadcast_packet(&message.encode(), Ipv4Addr::UNSPECIFIED);
        assert_eq!(checksum(&[&packet[..20]]), 0);
        assert_eq!(usize::from(u16::from_be_bytes([packet[2], packet[3]])), packet.len());
        assert!(packet.len() >= 328);
    }

    proptest! {
        #[test]
        fn no_answer_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let mut message = reply(ACK, 7, [10, 0, 2, 15], BASE);
            message.truncate(message.len() - 1);
            message.extend_from_slice(&bytes);
            // Whatever it says, it is an answer.
            let _ = decode(&message, 7, MAC);
            let _ = decode_packet(&bytes, 7, MAC);
            let _ = domains(&bytes);
        }
    }
}
