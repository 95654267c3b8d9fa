//! The addresses of a name, by a question to each name server of resolv.conf(5) (RFC 1035, RFC 3596) and by hosts(5). A
//! static program must not call libc's resolver, which loads libraries at run time, and the nucleus has no other.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

const PORT: u16 = 53;
const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;
const INTERNET: u16 = 1;
const HEADER: usize = 12;
/// RFC 1035, section 2.3.4.
const LONGEST_NAME: usize = 253;
const LONGEST_LABEL: usize = 63;
/// Most addresses, and links of a chain of names, that are followed.
const MOST: usize = 16;
/// How long each server is given, and how often all are asked.
const PATIENCE: Duration = Duration::from_secs(3);
const ROUNDS: u32 = 2;
const NAME_SERVERS: usize = 3;
/// As resolv.conf(5) had it for long.
const DOMAINS: usize = 6;

/// What a person calls machines by.
#[derive(Clone, Debug, Default)]
pub struct Names {
    hosts: Vec<(IpAddr, Vec<String>)>,
    servers: Vec<SocketAddr>,
    /// Domains that a name without a dot is looked for in.
    search: Vec<String>,
}

impl Names {
    /// Of the texts of /etc/hosts and /etc/resolv.conf.
    pub fn new(hosts: &str, resolv: &str) -> Names {
        let plain = |line: &str| line.split('#').next().unwrap_or_default().to_string();
        let host = |line: &str| {
            let line = plain(line);
            let mut words = line.split_ascii_whitespace();
            let address = words.next()?.parse().ok()?;
            Some((address, words.map(str::to_ascii_lowercase).collect()))
        };
        let server = |line: &str| {
            let mut words = line.split_ascii_whitespace();
            (words.next()? == "nameserver").then_some(())?;
            host::zone::address(words.next()?, PORT)
        };
        let servers = resolv.lines().filter_map(server).take(NAME_SERVERS).collect();
        // The last line counts, of either word.
        let search = resolv.lines().rev().find_map(|line| {
            let mut words = line.split_ascii_whitespace();
            matches!(words.next()?, "search" | "domain").then_some(())?;
            let domains = words.map(|domain| domain.trim_end_matches('.').to_ascii_lowercase());
            Some(domains.filter(|domain| !domain.is_empty()).take(DOMAINS).collect())
        });
        Names { hosts: hosts.lines().filter_map(host).collect(), servers, search: search.unwrap_or_default() }
    }

    /// What a name may mean, the likeliest first.
    fn meant(&self, name: &str, whole: bool) -> Vec<String> {
        let search = if whole || name.contains('.') { &[] } else { self.search.as_slice() };
        search.iter().map(|domain| format!("{name}.{domain}")).chain([name.to_string()]).collect()
    }

    /// Errors: `NotFound` where no server knows the name, `TimedOut` where none answered.
    pub fn look_up(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse() {
            return Ok(vec![address]);
        }
        let name = host.trim_end_matches('.').to_ascii_lowercase();
        if name == "localhost" {
            // RFC 6761, section 6.3.
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        let known: Vec<IpAddr> = self
            .hosts
            .iter()
            .filter(|(_, names)| names.contains(&name))
            .map(|(address, _)| *address)
            .take(MOST)
            .collect();
        if !known.is_empty() {
            return Ok(known);
        }
        let mut error = io::Error::new(io::ErrorKind::NotFound, "no name server is known");
        let (mut silent, meant) = (false, self.meant(&name, host.ends_with('.')));
        for meant in meant {
            // A server that does not answer for one domain may for the name as it is; not for all of them in turn.
            if silent && meant != name {
                continue;
            }
            match self.ask_all(&meant) {
                Some(Ok(found)) => return Ok(found),
                Some(Err(other)) => {
                    silent |= other.kind() == io::ErrorKind::TimedOut;
                    error = other;
                }
                None => {}
            }
        }
        Err(error)
    }

    /// `None` where there is no server.
    fn ask_all(&self, name: &str) -> Option<io::Result<Vec<IpAddr>>> {
        let mut last = None;
        for _ in 0..ROUNDS {
            for server in &self.servers {
                last = Some(match ask(*server, name) {
                    Ok(found) if found.is_empty() => {
                        Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
                    }
                    Ok(found) => return Some(Ok(found)),
                    Err(other) => Err(other),
                });
            }
        }
        last
    }
}

/// Both questions at once, from a port and with numbers that nobody off the line can guess.
fn ask(server: SocketAddr, name: &str) -> io::Result<Vec<IpAddr>> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    let seed = RandomState::new().build_hasher().finish();
    let numbers = [seed as u16, (seed >> 16) as u16 ^ 1];
    for (kind, number) in [A, AAAA].into_iter().zip(numbers) {
        socket.send(&question(number, name, kind)?)?;
    }
    let until = Instant::now() + PATIENCE;
    let mut answers = [None, None];
    let mut buffer = [0; 4096];
    while answers.iter().any(Option::is_none) {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        socket.set_read_timeout(Some(left))?;
        let length = match socket.recv(&mut buffer) {
            Ok(length) => length,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                break;
            }
            Err(error) => return Err(error),
        };
        for (index, kind) in [A, AAAA].into_iter().enumerate() {
            if let Some(found) = answer(&buffer[..length], numbers[index], name, kind) {
                answers[index] = Some(found);
            }
        }
    }
    if answers.iter().all(Option::is_none) {
        return Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("name server {} does not answer", server.ip()),
        ));
    }
    // The older protocol first: where the other leads nowhere, it takes long to see that.
    Ok(answers.into_iter().flatten().flatten().take(MOST).collect())
}

/// Errors: `InvalidInput` for what is no name of a host.
fn question(number: u16, name: &str, kind: u16) -> io::Result<Vec<u8>> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidInput, "not a name of a host");
    if name.is_empty() || name.len() > LONGEST_NAME || !name.is_ascii() {
        return Err(wrong());
    }
    let mut packet = Vec::with_capacity(HEADER + name.len() + 6);
    packet.extend(number.to_be_bytes());
    // Recursion desired, one question.
    packet.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        if label.is_empty() || label.len() > LONGEST_LABEL {
            return Err(wrong());
        }
        packet.push(label.len() as u8);
        packet.extend(label.as_bytes());
    }
    packet.push(0);
    packet.extend(kind.to_be_bytes());
    packet.extend(INTERNET.to_be_bytes());
    Ok(packet)
}

/// The addresses in an answer to this question; `None` for any other packet. Records of other names than the one
/// that was asked for, or that it is said to stand for, do not count.
pub fn answer(packet: &[u8], number: u16, name: &str, kind: u16) -> Option<Vec<IpAddr>> {
    let word = |at: usize| Some(u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?));
    let (flags, questions, records) = (word(2)?, word(4)?, word(6)?);
    // An answer, to one question. Of one that is cut off, the records that are whole are good, where any is.
    let cut = flags & 0x0200 != 0;
    if word(0)? != number || flags & 0x8000 == 0 || questions != 1 {
        return None;
    }
    let (asked, mut at) = read_name(packet, HEADER)?;
    if asked != name || word(at)? != kind || word(at + 2)? != INTERNET {
        return None;
    }
    at += 4;
    match flags & 0xf {
        0 => {}
        // No such name.
        3 => return Some(Vec::new()),
        // The server's own trouble.
        _ => return None,
    }
    let (mut found, mut wanted) = (Vec::new(), name.to_string());
    for _ in 0..records.min(64) {
        let Some((owner, after)) = read_name(packet, at) else { break };
        let (Some(of), Some(length)) = (word(after), word(after + 8)) else { break };
        let data = after + 10;
        let end = data + usize::from(length);
        let Some(bytes) = packet.get(data..end) else { break };
        if owner == wanted && found.len() < MOST {
            match of {
                CNAME => wanted = read_name(packet, data)?.0,
                A if kind == A => found.extend(<[u8; 4]>::try_from(bytes).ok().map(IpAddr::from)),
                AAAA if kind == AAAA => found.extend(<[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)),
                _ => {}
            }
        }
        at = end;
    }
    (!cut || !found.is_empty()).then_some(found)
}

/// A name in small letters, and where it ends. A name may go on at an earlier place of the packet.
fn read_name(packet: &[u8], mut at: usize) -> Option<(String, usize)> {
    let (mut name, mut end, mut jumps) = (String::new(), None, 0);
    loop {
        match *packet.get(at)? {
            0 => return Some((name, end.unwrap_or(at + 1))),
            length @ 0xc0.. => {
                let place = usize::from(length & 0x3f) << 8 | usize::from(*packet.get(at + 1)?);
                end = end.or(Some(at + 2));
                jumps += 1;
                if jumps > MOST {
                    return None;
                }
                at = place;
            }
            length @ 1..=63 => {
                let label = packet.get(at + 1..at + 1 + usize::from(length))?;
                if !name.is_empty() {
                    name.push('.');
                }
                name.extend(label.iter().map(|byte| byte.to_ascii_lowercase() as char));
                if name.len() > 4 * LONGEST_NAME {
                    return None;
                }
                at += 1 + usize::from(length);
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An answer to the question for boot.example.net: it stands for web.example.net, which has an address.
    fn sample(kind: u16) -> Vec<u8> {
        let mut packet = question(7, "boot.example.net", kind).unwrap();
        packet[2] = 0x81;
        packet[3] = 0x80;
        packet[7] = 2;
        // `boot.example.net CNAME web.example.net`, whose tail is at byte 17.
        packet.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, 6, 3, b'w', b'e', b'b', 0xc0, 17]);
        let web = packet.len() - 6;
        packet.extend([0xc0, web as u8, 0, kind as u8, 0, 1, 0, 0, 0, 60, 0]);
        if kind == A {
            packet.extend([4, 192, 0, 2, 7]);
        } else {
            packet.extend([16, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
        }
        packet
    }

    #[test]
    fn a_chain_of_names_ends_in_its_addresses() {
        let four: IpAddr = "192.0.2.7".parse().unwrap();
        let six: IpAddr = "2001:db8::7".parse().unwrap();
        assert_eq!(answer(&sample(A), 7, "boot.example.net", A), Some(vec![four]));
        assert_eq!(answer(&sample(AAAA), 7, "boot.example.net", AAAA), Some(vec![six]));
    }

    #[test]
    fn of_an_answer_that_is_cut_off_the_whole_records_count() {
        let mut packet = sample(A);
        packet[2] |= 2;
        let address: IpAddr = "192.0.2.7".parse().unwrap();
        assert_eq!(answer(&packet, 7, "boot.example.net", A), Some(vec![address]));
        packet.truncate(packet.len() - 1);
        assert_eq!(answer(&packet, 7, "boot.example.net", A), None);
    }

    #[test]
    fn a_name_without_a_dot_is_looked_for_in_the_domains_of_the_search_list() {
        let names = Names::new("", "domain old.example\nsearch Lan. example.net\n");
        assert_eq!(names.meant("boot", false), ["boot.lan", "boot.example.net", "boot"]);
        assert_eq!(names.meant("boot.x", false), ["boot.x"]);
        assert_eq!(names.meant("boot", true), ["boot"]);
    }

    #[test]
    fn an_answer_to_another_question_is_none() {
        let packet = sample(A);
        assert_eq!(answer(&packet, 8, "boot.example.net", A), None);
        assert_eq!(answer(&packet, 7, "web.example.net", A), None);
        assert_eq!(answer(&packet, 7, "boot.example.net", AAAA), None);
        let unasked = question(7, "boot.example.net", A).unwrap();
        assert_eq!(answer(&unasked, 7, "boot.example.net", A), None);
        let mut nobody = packet.clone();
        nobody[3] = 0x83;
        assert_eq!(answer(&nobody, 7, "boot.example.net", A), Some(Vec::new()));
        // The address of a name that nobody asked for.
        let mut foreign = packet;
        let at = foreign.len() - 15;
        foreign[at] = 21; // `net`
        assert_eq!(answer(&foreign, 7, "boot.example.net", A), Some(Vec::new()));
    }

    #[test]
    fn a_name_server_of_one_link_is_read_with_its_zone() {
        let index = std::fs::read_to_string("/sys/class/net/lo/ifindex").unwrap();
        let lo = format!("[fe80::1%{}]:53", index.trim());
        for (text, want) in [
            ("192.0.2.1", Some("192.0.2.1:53")),
            ("2001:db8::1", Some("[2001:db8::1]:53")),
            ("fe80::1%lo", Some(lo.as_str())),
            ("fe80::1%7", Some("[fe80::1%7]:53")),
            ("fe80::1%", None),
            ("fe80::1%no-such-link", None),
            ("fe80::1%../net/lo", None),
            ("192.0.2.1%lo", None),
        ] {
            let names = Names::new("", &format!("nameserver {text}\n"));
            let server = names.servers.first().map(SocketAddr::to_string);
            assert_eq!(server.as_deref(), want, "{text}");
        }
    }

    #[test]
    fn hosts_and_addresses_need_no_server() {
        let names = Names::new("192.0.2.1 Boot boot.lan # here\n", "search x\nnameserver 192.0.2.53\n");
        assert_eq!(names.servers, ["192.0.2.53:53".parse().unwrap()]);
        let address = |host: &str| names.look_up(host).unwrap()[0].to_string();
        assert_eq!(address("boot.LAN."), "192.0.2.1");
        assert_eq!(address("10.0.2.2"), "10.0.2.2");
        assert_eq!(address("[2001:db8::1]"), "2001:db8::1");
        assert_eq!(address("localhost"), "127.0.0.1");
        let many = Names::new(&"192.0.2.1 many\n".repeat(40), "");
        assert_eq!(many.look_up("many").unwrap().len(), MOST);
        let error = Names::new("", "").look_up("a.example").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        for wrong in ["", "a..b", &"x".repeat(64), "ä"] {
            assert!(question(1, wrong, A).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_packet_panics(packet in proptest::collection::vec(any::<u8>(), 0..200), flips in proptest::collection::vec((0usize..80, any::<u8>()), 0..4)) {
            let _ = answer(&packet, 7, "boot.example.net", A);
            let mut changed = sample(A);
            for (at, byte) in flips {
                if let Some(place) = changed.get_mut(at) {
                    *place = byte;
                }
            }
            let _ = answer(&changed, 7, "boot.example.net", A);
        }
    }
}
