//! A DHCPv4 server that answers whatever it hears with everything that is no answer, for the tests of the network: run in
//! a namespace of its own beside a good server, as `rogue`, it sends each of [`ANSWERS`] at once. It grants nothing:
//! a client that has an address of 203.0.113.0/24 took one of them for good. As `rogue refuses` and the like its answers are
//! well-formed and no lease comes of them, or a bad one ([`Manner`]). It also is a time server with a clock of its own.

use std::net::{Ipv4Addr, UdpSocket};

const MAGIC: [u8; 4] = [99, 130, 83, 99];
/// Options start here (RFC 2131 section 2).
const FIXED: usize = 240;
const OWN: [u8; 4] = [203, 0, 113, 1];

const OFFER: u8 = 2;
const ACK: u8 = 5;
const NAK: u8 = 6;

/// An answer that is well-formed but for what a row of [`ANSWERS`] does to it.
struct Answer {
    fixed: [u8; FIXED],
    options: Vec<(u8, Vec<u8>)>,
    /// Behind the options, instead of their end.
    tail: Vec<u8>,
}

impl Answer {
    fn new(request: &[u8; FIXED], kind: u8) -> Answer {
        let mut fixed = *request;
        fixed[0] = 2; // BOOTREPLY
        fixed[16..20].copy_from_slice(&[203, 0, 113, 66]);
        fixed[236..].copy_from_slice(&MAGIC);
        let options = [
            (53, vec![kind]),
            (54, OWN.to_vec()),
            (51, 3600_u32.to_be_bytes().to_vec()),
            (1, vec![255, 255, 255, 0]),
            (3, OWN.to_vec()),
        ];
        Answer { fixed, options: options.to_vec(), tail: vec![255] }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.fixed.to_vec();
        for (code, value) in &self.options {
            bytes.extend([*code, value.len() as u8]);
            bytes.extend(value);
        }
        bytes.extend(&self.tail);
        bytes
    }

    fn set(&mut self, code: u8, value: &[u8]) {
        self.options.retain(|(known, _)| *known != code);
        self.options.push((code, value.to_vec()));
    }

    fn unset(&mut self, code: u8) {
        self.options.retain(|(known, _)| *known != code);
    }

    fn address(&mut self, address: [u8; 4]) {
        self.fixed[16..20].copy_from_slice(&address);
    }
}

type Change = fn(&mut Answer);

/// What is wrong with each, and how it comes to be so.
const ANSWERS: &[(&str, Change)] = &[
    ("of another exchange", |a| a.fixed[4] ^= 0xff),
    ("for another machine", |a| a.fixed[33] ^= 0xff),
    ("a request", |a| a.fixed[0] = 1),
    ("without DHCP's mark", |a| a.fixed[236] = 0),
    ("without a kind", |a| a.unset(53)),
    ("of a kind of two bytes", |a| a.set(53, &[2, 5])),
    ("of an unknown kind", |a| a.set(53, &[77])),
    ("without a server", |a| a.unset(54)),
    ("of the server 0.0.0.0", |a| a.set(54, &[0; 4])),
    ("of the server 255.255.255.255", |a| a.set(54, &[255; 4])),
    ("of half a server", |a| a.set(54, &[203, 0])),
    ("of no address", |a| a.address([0; 4])),
    ("of everybody's address", |a| a.address([255; 4])),
    ("of a loopback address", |a| a.address([127, 0, 0, 1])),
    ("of a multicast address", |a| a.address([224, 0, 0, 1])),
    ("with a mask with a hole", |a| a.set(1, &[255, 0, 255, 0])),
    ("with an empty mask", |a| a.set(1, &[0; 4])),
    ("without a time", |a| a.unset(51)),
    ("for no time", |a| a.set(51, &[0; 4])),
    ("for a time of three bytes", |a| a.set(51, &[0, 1, 0])),
    ("with an option that runs over the end", |a| a.tail = vec![12, 200, b'x']),
    ("with options in fields that hold none", |a| {
        a.set(52, &[3]);
        a.fixed[44..236].fill(0xfe);
    }),
    ("a refusal of nobody", |a| {
        a.set(53, &[NAK]);
        a.unset(54);
    }),
    ("a refusal of a server that nobody asked", |a| a.set(53, &[NAK])),
];

/// What is wrong with options that a lease can be without.
const ODDITIES: &[(u8, &[u8])] =
    &[(6, &[203, 0, 113, 1, 1]), (26, &[5]), (42, &[203, 0, 113]), (119, &[9, b'x']), (121, &[24, 10, 0])];

/// How it treats clients.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Offers an address, and refuses it when it is asked for.
    Refuses,
    /// Offers one and says no more.
    Silent,
    /// Grants whoever asks for anything one that nobody asked for.
    Strays,
    /// Grants what it offered, with [`ODDITIES`].
    Odd,
}

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["refuses"] => leases(Manner::Refuses),
        ["silent"] => leases(Manner::Silent),
        ["strays"] => leases(Manner::Strays),
        ["odd"] => leases(Manner::Odd),
        [address, seconds] => match (address.parse(), seconds.parse()) {
            (Ok(address), Ok(seconds)) => time(address, seconds),
            _ => Err(std::io::Error::other("no address and seconds")),
        },
        _ => answers(),
    }
}

/// Where a DHCP server hears and answers.
fn listen() -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 67))?;
    socket.set_broadcast(true)?;
    Ok(socket)
}

/// A server that answers at once, and in its manner. Requests to another server are none of its business, as of any.
fn leases(manner: Manner) -> std::io::Result<()> {
    const DISCOVER: u8 = 1;
    const REQUEST: u8 = 3;
    let socket = listen()?;
    let mut buffer = [0; 1500];
    loop {
        let (length, _) = socket.recv_from(&mut buffer)?;
        let Some(request) = buffer[..length].first_chunk::<FIXED>() else { continue };
        let option = |code| option(&buffer[FIXED..length], code);
        let is_for_another = option(54).is_some_and(|server| server != OWN);
        let kind = match option(53) {
            Some([DISCOVER]) => OFFER,
            Some([REQUEST]) if manner == Manner::Silent || is_for_another => continue,
            Some([REQUEST]) if manner == Manner::Refuses => NAK,
            Some([REQUEST]) => ACK,
            _ => continue,
        };
        let mut answer = Answer::new(request, kind);
        match (manner, kind) {
            (Manner::Strays, ACK) => answer.address([203, 0, 113, 67]),
            (Manner::Odd, _) => ODDITIES.iter().for_each(|(code, value)| answer.set(*code, value)),
            _ => {}
        }
        println!("answered {} with {kind}", option(53).map_or(0, |kind| kind[0]));
        socket.send_to(&answer.bytes(), (Ipv4Addr::BROADCAST, 68))?;
    }
}

/// The value of an option of a client, which is well-formed.
fn option(mut bytes: &[u8], wanted: u8) -> Option<&[u8]> {
    loop {
        match bytes {
            [0, rest @ ..] => bytes = rest,
            [code, length, rest @ ..] if *code != 255 => {
                let (value, rest) = rest.split_at_checked(usize::from(*length))?;
                if *code == wanted {
                    return Some(value);
                }
                bytes = rest;
            }
            _ => return None,
        }
    }
}

/// As `rogue ADDRESS SECONDS`: a time server (RFC 5905 section 7.3, stratum 1) at one address, from which its answers come
/// too, and by whose clock it is always so many seconds after 1970.
fn time(address: Ipv4Addr, seconds: u64) -> std::io::Result<()> {
    const TO_UNIX: u64 = 2_208_988_800;
    let socket = UdpSocket::bind((address, 123))?;
    let now = ((seconds + TO_UNIX) as u32).to_be_bytes();
    let mut buffer = [0; 1500];
    loop {
        let (length, from) = socket.recv_from(&mut buffer)?;
        let Some(question) = buffer[..length].first_chunk::<48>() else { continue };
        let mut answer = [0; 48];
        answer[..4].copy_from_slice(&[4 << 3 | 4, 1, 6, 0xec]);
        for (at, bytes) in [(16, &now[..]), (24, &question[40..]), (32, &now), (40, &now)] {
            answer[at..at + bytes.len()].copy_from_slice(bytes);
        }
        socket.send_to(&answer, from)?;
        println!("asked for the time");
    }
}

fn answers() -> std::io::Result<()> {
    let socket = listen()?;
    let mut buffer = [0; 1500];
    loop {
        let (length, _) = socket.recv_from(&mut buffer)?;
        let Some(request) = buffer[..length].first_chunk::<FIXED>() else { continue };
        for kind in [OFFER, ACK] {
            for (label, change) in ANSWERS {
                let mut answer = Answer::new(request, kind);
                change(&mut answer);
                println!("{label}");
                socket.send_to(&answer.bytes(), (Ipv4Addr::BROADCAST, 68))?;
            }
        }
        let whole = Answer::new(request, OFFER).bytes();
        for length in [0, 1, 43, FIXED - 1, FIXED] {
            socket.send_to(&whole[..length], (Ipv4Addr::BROADCAST, 68))?;
        }
    }
}
