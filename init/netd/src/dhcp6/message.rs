//! DHCPv6 messages (RFC 8415 section 8 and 21; RFC 3646 name servers, RFC 4075 and 5908 time servers). Whatever a server sends
//! is hostile: lengths are checked, and a value that makes no sense is an error that names it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::Ipv6Addr;

pub const CLIENT_PORT: u16 = 546;
pub const SERVER_PORT: u16 = 547;
/// All_DHCP_Relay_Agents_and_Servers.
pub const SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
/// Most addresses, name servers and search domains taken from one answer.
const MOST: usize = 32;
/// A DUID is at most 130 bytes long (RFC 8415 section 11.1).
const LONGEST_DUID: usize = 130;

const CLIENT_ID: u16 = 1;
const SERVER_ID: u16 = 2;
const IA_NA: u16 = 3;
const IA_ADDRESS: u16 = 5;
const REQUESTED: u16 = 6;
const PREFERENCE: u16 = 7;
const ELAPSED: u16 = 8;
const STATUS: u16 = 13;
const RAPID_COMMIT: u16 = 14;
const DNS: u16 = 23;
const DOMAINS: u16 = 24;
const SNTP: u16 = 31;
const NTP: u16 = 56;

/// Status codes (RFC 8415 section 21.13).
const SUCCESS: u16 = 0;
const NO_BINDING: u16 = 3;
const NOT_ON_LINK: u16 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Solicit = 1,
    Request = 3,
    Confirm = 4,
    Renew = 5,
    Rebind = 6,
    Decline = 9,
    Information = 11,
}

/// What we send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    pub kind: Kind,
    /// Three bytes.
    pub transaction: u32,
    pub client: Vec<u8>,
    pub server: Option<Vec<u8>>,
    pub identity: u32,
    /// Addresses that we have or want.
    pub addresses: Vec<Ipv6Addr>,
    /// Hundredths of a second since we began.
    pub elapsed: u16,
}

impl Outgoing {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = (self.transaction & 0x00ff_ffff | (self.kind as u32) << 24).to_be_bytes().to_vec();
        put(&mut bytes, CLIENT_ID, &self.client);
        if let Some(server) = &self.server {
            put(&mut bytes, SERVER_ID, server);
        }
        put(&mut bytes, ELAPSED, &self.elapsed.to_be_bytes());
        let is_about_addresses = self.kind != Kind::Information;
        if is_about_addresses {
            // T1 and T2 are the server's to choose.
            let mut identity = self.identity.to_be_bytes().to_vec();
            identity.extend_from_slice(&[0; 8]);
            for address in &self.addresses {
                let mut one = address.octets().to_vec();
                one.extend_from_slice(&[0; 8]);
                put(&mut identity, IA_ADDRESS, &one);
            }
            put(&mut bytes, IA_NA, &identity);
        }
        if self.kind == Kind::Solicit {
            put(&mut bytes, RAPID_COMMIT, &[]);
        }
        if !matches!(self.kind, Kind::Confirm | Kind::Decline) {
            let wanted: Vec<u8> =
                [DNS, DOMAINS, SNTP, NTP].iter().flat_map(|code: &u16| code.to_be_bytes()).collect();
            put(&mut bytes, REQUESTED, &wanted);
        }
        bytes
    }
}

fn put(bytes: &mut Vec<u8>, code: u16, value: &[u8]) {
    bytes.extend_from_slice(&code.to_be_bytes());
    bytes.extend_from_slice(&(value.len() as u16).to_be_bytes()); // all of ours are short
    bytes.extend_from_slice(value);
}

/// What a server grants.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// DUID.
    pub server: Vec<u8>,
    /// With their valid lifetime in seconds, `u32::MAX` for ever.
    pub addresses: Vec<(Ipv6Addr, u32)>,
    /// Preferred lifetimes in seconds, of those that have a shorter one: then it is for what has it already (RFC 4862 section
    /// 5.5.4).
    #[serde(default)]
    pub preferred: BTreeMap<Ipv6Addr, u32>,
    pub nameservers: Vec<Ipv6Addr>,
    pub search: Vec<String>,
    pub ntp: Vec<Ipv6Addr>,
    /// Seconds.
    pub t1: u32,
    pub t2: u32,
    /// Options that make no sense, for the log.
    #[serde(skip)]
    pub ignored: Vec<String>,
}

/// Why a server gives no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It does not know what we have.
    NoBinding,
    /// What we have belongs to another link.
    NotOnLink,
    /// Anything else, by its code; 2 is that it has no address left.
    Other(u16),
}

/// A server's message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    Advertise {
        lease: Lease,
        /// Of servers the highest is taken (section 21.8).
        preference: u8,
    },
    /// `rapid`: in answer to a Solicit.
    Reply {
        lease: Lease,
        rapid: bool,
    },
    Refused {
        server: Vec<u8>,
        why: Refusal,
        text: String,
        is_reply: bool,
    },
}

/// Reads the payload of a UDP packet. `Ok(None)`: not for this exchange.
///
/// Errors: one line that says what is wrong with the answer.
pub fn decode(
    bytes: &[u8],
    transaction: u32,
    client: &[u8],
    identity: u32,
) -> Result<Option<Incoming>, String> {
    let Some(head) = bytes.first_chunk::<4>() else { return Ok(None) };
    let (kind, head) = (head[0], u32::from_be_bytes(*head) & 0x00ff_ffff);
    if !matches!(kind, 2 | 7) || head != transaction & 0x00ff_ffff {
        return Ok(None);
    }
    let options = Options::new(&bytes[4..])?;
    if options.get(CLIENT_ID) != Some(client) {
        return Ok(None);
    }
    let server = options.get(SERVER_ID).filter(|server| (1..=LONGEST_DUID).contains(&server.len()));
    let server =
        server.ok_or("a DHCPv6 server gives no identifier of its own: its answer is not used")?.to_vec();
    let mut lease = Lease { server, ..Lease::default() };
    let mut status = options.status()?;
    for ia in options.all(IA_NA) {
        if ia.len() < 12 || ia[..4] != identity.to_be_bytes() {
            continue;
        }
        let (t1, t2) = (be32(ia, 4), be32(ia, 8));
        let within = Options::new(&ia[12..])?;
        status = status.or(within.status()?);
        for one in within.all(IA_ADDRESS).take(MOST) {
            let Some(octets) = one.first_chunk::<16>().filter(|_| one.len() >= 24) else {
                return Err("an address of a DHCPv6 server is cut: its answer is not used".to_string());
            };
            let (address, preferred, valid) = (Ipv6Addr::from(*octets), be32(one, 16), be32(one, 20));
            if valid == 0 || preferred > valid || !is_usable(address) {
                continue;
            }
            lease.addresses.push((address, valid));
            if preferred < valid {
                lease.preferred.insert(address, preferred);
            }
        }
        if t1 > t2 && t2 > 0 {
            return Err(format!("T1 of a DHCPv6 server is {t1}, above T2, {t2}: its answer is not used"));
        }
        // A server that leaves them to us says 0, and parts of the shortest preferred lifetime are meant (section 21.4); one that would have the address end before it is asked for
        // again is not believed.
        let shortest = lease.addresses.iter().map(|(_, valid)| *valid).min().unwrap_or(0);
        let preferred = lease.preferred.values().copied().filter(|preferred| *preferred > 0).min();
        let part = |number, by: u64| match preferred.unwrap_or(u32::MAX).min(shortest) {
            u32::MAX => u32::MAX,
            shortest => (u64::from(shortest) * number / by) as u32,
        };
        let counts = |time: u32| (1..shortest).contains(&time).then_some(time);
        lease.t1 = counts(t1).unwrap_or(part(1, 2).min(counts(t2).unwrap_or(u32::MAX)));
        lease.t2 = counts(t2).unwrap_or(part(4, 5).max(lease.t1));
        break;
    }
    let mut ignored = Vec::new();
    let mut addresses = |code: u16| -> Vec<Ipv6Addr> {
        let value = options.get(code).unwrap_or_default();
        if value.len() % 16 != 0 {
            ignored.push(format!("option {code} has {} bytes, not a multiple of 16", value.len()));
        }
        let found = value.chunks_exact(16).filter_map(|octets| <[u8; 16]>::try_from(octets).ok());
        found.map(Ipv6Addr::from).filter(|server| !server.is_unspecified()).take(MOST).collect()
    };
    lease.nameservers = addresses(DNS);
    lease.ntp = addresses(SNTP);
    match options.get(NTP).map(Options::new) {
        Some(Ok(ntp)) => {
            // NTP_SUBOPTION_SRV_ADDR
            let servers =
                ntp.all(1).filter_map(|octets| <[u8; 16]>::try_from(octets).ok()).map(Ipv6Addr::from);
            lease.ntp.extend(servers.take(MOST));
        }
        Some(Err(_)) => ignored.push(format!("option {NTP} (time servers) is cut")),
        None => {}
    }
    lease.ignored = ignored;
    lease.search = crate::rtnl::domains(options.get(DOMAINS).unwrap_or_default());
    let is_reply = kind == 7;
    if let Some((code, text)) = status.filter(|_| lease.addresses.is_empty()) {
        let why = match code {
            NO_BINDING => Refusal::NoBinding,
            NOT_ON_LINK => Refusal::NotOnLink,
            code => Refusal::Other(code),
        };
        return Ok(Some(Incoming::Refused { server: lease.server, why, text, is_reply }));
    }
    Ok(Some(match is_reply {
        true => Incoming::Reply { lease, rapid: options.get(RAPID_COMMIT).is_some() },
        false => {
            let preference = options.get(PREFERENCE).and_then(|value| value.first()).copied();
            Incoming::Advertise { lease, preference: preference.unwrap_or(0) }
        }
    }))
}

fn is_usable(address: Ipv6Addr) -> bool {
    !(address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || address.is_unicast_link_local())
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]) // callers saw the length
}

struct Options<'a>(Vec<(u16, &'a [u8])>);

impl<'a> Options<'a> {
    fn new(mut bytes: &'a [u8]) -> Result<Options<'a>, String> {
        let mut found = Vec::new();
        while let Some((head, rest)) = bytes.split_first_chunk::<4>() {
            let code = u16::from_be_bytes([head[0], head[1]]);
            let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
            let value = rest.get(..length).ok_or_else(|| {
                format!("option {code} of a DHCPv6 server is longer than its answer, which is not used")
            })?;
            found.push((code, value));
            bytes = &rest[length..];
        }
        Ok(Options(found))
    }

    fn all(&self, wanted: u16) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter(move |(code, _)| *code == wanted).map(|(_, value)| *value)
    }

    fn get(&self, wanted: u16) -> Option<&'a [u8]> {
        self.all(wanted).next()
    }

    /// What is no success, with the server's words.
    fn status(&self) -> Result<Option<(u16, String)>, String> {
        let Some(value) = self.get(STATUS) else { return Ok(None) };
        let (code, text) = value
            .split_first_chunk::<2>()
            .ok_or("a status of a DHCPv6 server is cut: its answer is not used")?;
        let code = u16::from_be_bytes(*code);
        let text = String::from_utf8_lossy(text).escape_debug().take(200).collect();
        Ok((code != SUCCESS).then_some((code, text)))
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use proptest::prelude::*;

    pub const CLIENT: &[u8] = &[0, 3, 0, 1, 0x52, 0x54, 0, 0x12, 0x34, 0x56];
    pub const SERVER: &[u8] = &[0, 1, 0, 1, 9, 9];

    /// A server's message, its IA with these options.
    fn answer(kind: u8, ia: Option<(u32, u32, &[u8])>, more: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind, 0, 0, 7];
        put(&mut bytes, CLIENT_ID, CLIENT);
        put(&mut bytes, SERVER_ID, SERVER);
        if let Some((t1, t2, within)) = ia {
            let mut value = 5_u32.to_be_bytes().to_vec();
            value.extend_from_slice(&t1.to_be_bytes());
            value.extend_from_slice(&t2.to_be_bytes());
            value.extend_from_slice(within);
            put(&mut bytes, IA_NA, &value);
        }
        bytes.extend_from_slice(more);
        bytes
    }

    fn option(code: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        put(&mut bytes, code, value);
        bytes
    }

    fn address(text: &str, preferred: u32, valid: u32) -> Vec<u8> {
        let mut value = text.parse::<Ipv6Addr>().unwrap().octets().to_vec();
        value.extend_from_slice(&preferred.to_be_bytes());
        value.extend_from_slice(&valid.to_be_bytes());
        option(IA_ADDRESS, &value)
    }

    fn read(bytes: &[u8]) -> Result<Option<Incoming>, String> {
        decode(bytes, 7, CLIENT, 5)
    }

    #[test]
    fn a_reply_grants_addresses_name_servers_and_domains() {
        let servers = option(DNS, &"2001:db8::53".parse::<Ipv6Addr>().unwrap().octets());
        let domains = option(DOMAINS, b"\x07example\x03com\x00");
        let bytes = answer(
            7,
            Some((100, 160, &address("2001:db8::7", 150, 200))),
            &[servers, domains, option(RAPID_COMMIT, &[])].concat(),
        );
        let want = Lease {
            server: SERVER.to_vec(),
            addresses: vec![("2001:db8::7".parse().unwrap(), 200)],
            preferred: BTreeMap::from([("2001:db8::7".parse().unwrap(), 150)]),
            nameservers: vec!["2001:db8::53".parse().unwrap()],
            search: vec!["example.com".to_string()],
            ntp: vec![],
            t1: 100,
            t2: 160,
            ignored: vec![],
        };
        assert_eq!(read(&bytes), Ok(Some(Incoming::Reply { lease: want, rapid: true })));
    }

    #[test]
    fn times_that_the_server_leaves_to_us_are_parts_of_the_lifetime() {
        for (label, addresses, want) in [
            ("one lifetime", address("2001:db8::7", 1000, 1000), (500, 800)),
            ("a shorter preferred one", address("2001:db8::7", 600, 1000), (300, 480)),
            ("preferred no more", address("2001:db8::7", 0, 1000), (500, 800)),
            ("for ever, and preferred for a while", address("2001:db8::7", 600, u32::MAX), (300, 480)),
            (
                "of two the shortest",
                [address("2001:db8::7", 600, 1000), address("2001:db8::8", 0, 200)].concat(),
                (100, 160),
            ),
        ] {
            let Ok(Some(Incoming::Reply { lease, .. })) = read(&answer(7, Some((0, 0, &addresses)), &[]))
            else {
                panic!("{label}: no reply")
            };
            assert_eq!((lease.t1, lease.t2), want, "{label}");
        }
    }

    #[test]
    fn a_time_at_which_the_address_is_gone_already_does_not_count() {
        for (label, t1, t2, want) in [
            ("both beyond the end", 5000, 6000, Ok((500, 800))),
            ("at the end", 1000, 1000, Ok((500, 800))),
            ("never", u32::MAX, u32::MAX, Ok((500, 800))),
            ("T2 beyond the end", 600, 6000, Ok((600, 800))),
            ("T1 late and T2 beyond the end", 900, 6000, Ok((900, 900))),
            ("T2 alone", 0, 300, Ok((300, 300))),
            ("T1 alone", 900, 0, Ok((900, 900))),
            ("T1 above T2", 600, 500, Err("T1 of a DHCPv6 server is 600, above T2, 500")),
        ] {
            let addresses = [address("2001:db8::7", 1000, 1000), address("2001:db8::8", 2000, 2000)].concat();
            match (read(&answer(7, Some((t1, t2, &addresses)), &[])), want) {
                (Ok(Some(Incoming::Reply { lease, .. })), Ok(want)) => {
                    assert_eq!((lease.t1, lease.t2), want, "{label}");
                }
                (Err(error), Err(want)) => assert!(error.contains(want), "{label}: {error}"),
                (other, _) => panic!("{label}: {other:?}"),
            }
        }
    }

    #[test]
    fn an_option_of_dhcpv6_that_makes_no_sense_is_left_out_and_named() {
        let own = address("2001:db8::7", 100, 100);
        let good = option(DNS, &"2001:db8::53".parse::<Ipv6Addr>().unwrap().octets());
        for (label, odd, reason) in [
            ("cut time servers", option(NTP, &[0, 1, 0, 16, 1]), "option 56 (time servers) is cut"),
            ("half a time server", option(SNTP, &[0; 8]), "option 31 has 8 bytes, not a multiple of 16"),
        ] {
            let bytes = answer(7, Some((0, 0, &own)), &[good.clone(), odd].concat());
            let Ok(Some(Incoming::Reply { lease, .. })) = read(&bytes) else { panic!("{label}") };
            assert_eq!((lease.addresses.len(), lease.nameservers.len()), (1, 1), "{label}");
            assert_eq!((lease.ntp, lease.ignored), (vec![], vec![reason.to_string()]), "{label}");
        }
    }

    #[test]
    fn an_advertisement_without_a_preference_has_the_lowest() {
        let own = address("2001:db8::7", 100, 100);
        for (option, want) in [(vec![], 0), (option(PREFERENCE, &[9]), 9), (option(PREFERENCE, &[]), 0)] {
            let Ok(Some(Incoming::Advertise { preference, .. })) =
                read(&answer(2, Some((0, 0, &own)), &option))
            else {
                panic!("no advertisement")
            };
            assert_eq!(preference, want);
        }
    }

    #[test]
    fn what_is_not_for_us_is_not_read_and_what_is_cut_is_named() {
        let whole = answer(7, Some((0, 0, &address("2001:db8::7", 10, 10))), &[]);
        assert_eq!(decode(&whole, 8, CLIENT, 5), Ok(None), "another exchange");
        assert_eq!(decode(&whole, 7, &CLIENT[1..], 5), Ok(None), "another client");
        let Ok(Some(Incoming::Reply { lease, .. })) = decode(&whole, 7, CLIENT, 6) else {
            panic!("no reply")
        };
        assert!(lease.addresses.is_empty(), "another interface");
        assert!(read(&whole[..whole.len() - 1]).unwrap_err().contains("longer than its answer"));
        for (label, address_option) in [
            ("no longer valid", address("2001:db8::7", 0, 0)),
            ("longer preferred than valid", address("2001:db8::7", 9, 8)),
            ("of the link", address("fe80::7", 8, 8)),
            ("a group's", address("ff02::1", 8, 8)),
        ] {
            let Ok(Some(Incoming::Reply { lease, .. })) =
                read(&answer(7, Some((0, 0, &address_option)), &[]))
            else {
                panic!("{label}")
            };
            assert!(lease.addresses.is_empty(), "{label}");
        }
    }

    #[test]
    fn a_refusal_says_why() {
        let status = |code: u8| option(STATUS, &[&[0, code][..], b"no\x1b"].concat());
        for (code, want) in [(2, Refusal::Other(2)), (3, Refusal::NoBinding), (4, Refusal::NotOnLink)] {
            let Ok(Some(Incoming::Refused { why, text, .. })) =
                read(&answer(7, Some((0, 0, &status(code))), &[]))
            else {
                panic!("{code}")
            };
            assert_eq!((why, text.as_str()), (want, "no\\u{1b}"));
        }
        let bytes = answer(2, None, &status(2));
        assert!(matches!(read(&bytes), Ok(Some(Incoming::Refused { is_reply: false, .. }))));
    }

    proptest! {
        #[test]
        fn no_answer_panics(kind in prop_oneof![Just(2_u8), Just(7)], bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = read(&answer(kind, Some((1, 2, &bytes)), &[]));
            let _ = read(&answer(kind, None, &bytes));
            let _ = read(&bytes);
        }
    }
}
