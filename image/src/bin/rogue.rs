//! A DHCPv4 server that answers whatever it hears with everything that is no answer, for the tests of the network: run in
//! a namespace of its own beside a good server, as `rogue`, it sends each of [`ANSWERS`] at once. It grants nothing:
//! a client that has an address of 203.0.113.0/24 took one of them for good. It also is a time server with a clock of its own.

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

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().and_then(|text| text.parse().ok());
    match (address, arguments.next().and_then(|text| text.parse().ok())) {
        (Some(address), Some(seconds)) => time(address, seconds),
        _ => answers(),
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
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 67))?;
    socket.set_broadcast(true)?;
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
