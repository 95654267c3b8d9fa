//! Netlink: sockets, requests and what is read from them (netlink(7), rtnetlink(7)).

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

/// Room for the events that come while something else is done; what does not fit is lost, and
/// [`receive`] says so.
const RECEIVE_BUFFER: usize = 1 << 20;

/// A socket that does not block, and that hears what `groups` (RTMGRP_*) announce.
pub fn socket(groups: u32) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    rustix::net::sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER)?;
    rustix::net::bind(&socket, &SocketAddrNetlink::new(0, groups))?;
    Ok(socket)
}

/// Sends one request to the kernel.
pub fn send(socket: &OwnedFd, message: &[u8]) -> io::Result<()> {
    rustix::net::sendto(socket, message, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    Ok(())
}

/// Receives one datagram of messages; `None` when there is none now. `ENOBUFS`: events were lost.
pub fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    match rustix::net::recv(socket, buffer, RecvFlags::empty()) {
        Ok((length, _)) => Ok(Some(length)),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether [`receive`] says that events were lost: more came at once than there was room for.
pub fn were_lost(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error())
}

/// NLM_F_REQUEST, and NLA_F_NESTED of an attribute's kind.
const REQUEST: u16 = 1;
const NESTED: u16 = 0x8000;

/// A request to the kernel under construction: `struct nlmsghdr`, what its kind begins with, and attributes.
pub struct Request(pub Vec<u8>);

impl Request {
    /// `flags` beside NLM_F_REQUEST.
    pub fn new(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Request {
        let mut bytes = vec![0; 4];
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        bytes.extend_from_slice(&sequence.to_ne_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(body);
        Request(bytes)
    }

    pub fn attribute(mut self, kind: u16, value: &[u8]) -> Request {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self.0.extend_from_slice(&(value.len() as u16 + 4).to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self
    }

    pub fn number(self, kind: u16, value: u32) -> Request {
        self.attribute(kind, &value.to_ne_bytes())
    }

    /// With the byte that ends it.
    pub fn text(self, kind: u16, value: &str) -> Request {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attribute(kind, &bytes)
    }

    /// Attributes within one.
    pub fn nest(mut self, kind: u16, fill: impl FnOnce(Request) -> Request) -> Request {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        let start = self.0.len();
        self.0.extend_from_slice(&[0, 0]);
        self.0.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        let mut filled = fill(self);
        filled.0.resize(filled.0.len().next_multiple_of(4), 0);
        let length = (filled.0.len() - start) as u16;
        filled.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        filled
    }

    /// The message, its length written in.
    pub fn finish(mut self) -> Vec<u8> {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        let length = self.0.len() as u32;
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0
    }
}

/// What the kernel knows of a neighbour (linux/neighbour.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour(u16);

impl Neighbour {
    /// NUD_REACHABLE, NUD_DELAY, NUD_PROBE with an address that was told, NUD_PERMANENT, NUD_NOARP.
    pub fn is_answering(self) -> bool {
        self.0 & (0x02 | 0x80 | 0x40) != 0
    }

    /// NUD_STALE, NUD_DELAY: it answered once.
    pub fn is_stale(self) -> bool {
        self.0 & (0x04 | 0x08) != 0
    }

    /// NUD_FAILED
    pub fn is_failed(self) -> bool {
        self.0 & 0x20 != 0
    }
}

/// How it stands with a neighbour on an interface; `None` where the kernel knows nothing of it.
pub fn neighbour(address: IpAddr, interface: &str) -> io::Result<Option<Neighbour>> {
    const RTM_GETNEIGH: u16 = 30;
    const NLM_F_DUMP: u16 = 0x300;
    let socket =
        rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let family = if address.is_ipv4() { 2 } else { 10 };
    let index = rustix::net::netdevice::name_to_index(&socket, interface)?;
    // struct ndmsg
    let request =
        Request::new(RTM_GETNEIGH, NLM_F_DUMP, 0, &[family, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).finish();
    send(&socket, &request)?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let Some(length) = receive(&socket, &mut buffer)? else { return Ok(None) };
        match read_neighbours(&buffer[..length], address, index) {
            Neighbours::Found(state) => return Ok(Some(state)),
            Neighbours::End => return Ok(None),
            Neighbours::More => {}
        }
    }
}

/// Has one that answered once asked at once whether it is still there (NUD_PROBE); of itself the kernel does so five seconds after
/// something was sent to it (delay_first_probe_time).
pub fn ask_neighbour(address: IpAddr, interface: &str) -> io::Result<()> {
    let socket =
        rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let index = rustix::net::netdevice::name_to_index(&socket, interface)?;
    send(&socket, &neighbour_request(address, index))
}

fn neighbour_request(address: IpAddr, index: u32) -> Vec<u8> {
    const RTM_NEWNEIGH: u16 = 28;
    const NUD_PROBE: u16 = 0x10;
    const NDA_DST: u16 = 1;
    let (family, octets) = match address {
        IpAddr::V4(v4) => (2, v4.octets().to_vec()),
        IpAddr::V6(v6) => (10, v6.octets().to_vec()),
    };
    // struct ndmsg
    let mut body = vec![family, 0, 0, 0];
    body.extend_from_slice(&index.to_ne_bytes());
    body.extend_from_slice(&NUD_PROBE.to_ne_bytes());
    body.extend_from_slice(&[0, 0]);
    // No flag: neither made nor replaced. Its MAC, and that it is a router, stay as they are.
    Request::new(RTM_NEWNEIGH, 0, 0, &body).attribute(NDA_DST, &octets).finish()
}

enum Neighbours {
    Found(Neighbour),
    End,
    More,
}

fn read_neighbours(bytes: &[u8], address: IpAddr, index: u32) -> Neighbours {
    const RTM_NEWNEIGH: u16 = 28;
    const NDA_DST: u16 = 1;
    let wanted = match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    for message in messages(bytes) {
        match message.kind {
            ERROR | DONE => return Neighbours::End,
            // struct ndmsg: family, padding, ifindex, state, flags, type
            RTM_NEWNEIGH if message.body.len() >= 12 && u32_at(message.body, 4) == index => {
                let is_it = |(kind, value): &(u16, &[u8])| *kind == NDA_DST && *value == wanted;
                if attributes(&message.body[12..]).iter().any(is_it) {
                    return Neighbours::Found(Neighbour(u16_at(message.body, 8)));
                }
            }
            _ => {}
        }
    }
    Neighbours::More
}

/// NLMSG_ERROR and NLMSG_DONE.
pub const ERROR: u16 = 2;
pub const DONE: u16 = 3;

/// One message of a datagram: `struct nlmsghdr` and what follows it.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    pub kind: u16,
    pub sequence: u32,
    pub body: &'a [u8],
}

/// The messages of one datagram; what is cut is left out.
pub fn messages(mut bytes: &[u8]) -> Vec<Message<'_>> {
    let mut found = Vec::new();
    while bytes.len() >= 16 {
        let length = u32_at(bytes, 0) as usize;
        if length < 16 || length > bytes.len() {
            break;
        }
        found.push(Message { kind: u16_at(bytes, 4), sequence: u32_at(bytes, 8), body: &bytes[16..length] });
        bytes = &bytes[length.next_multiple_of(4).min(bytes.len())..];
    }
    found
}

/// `struct rtattr`, one after the other: kind and value; what is cut is left out.
pub fn attributes(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    while bytes.len() >= 4 {
        // NLA_TYPE_MASK
        let (length, kind) = (usize::from(u16_at(bytes, 0)), u16_at(bytes, 2) & 0x3fff);
        if length < 4 || length > bytes.len() {
            break;
        }
        found.push((kind, &bytes[4..length]));
        bytes = &bytes[length.next_multiple_of(4).min(bytes.len())..];
    }
    found
}

/// Numbers in the machine's own order. The caller saw the length.
pub fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_ne_bytes([bytes[offset], bytes[offset + 1], bytes[offset + 2], bytes[offset + 3]])
}

pub fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    u16::from_ne_bytes([bytes[offset], bytes[offset + 1]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_neighbour_is_asked_about_and_neither_made_nor_replaced() {
        for address in ["192.0.2.1", "2001:db8::1"].map(|text| text.parse::<IpAddr>().unwrap()) {
            let request = neighbour_request(address, 7);
            let [message] = messages(&request)[..] else { panic!("one message: {request:?}") };
            // NLM_F_REQUEST alone; struct ndmsg: ifindex, NUD_PROBE; NDA_DST.
            assert_eq!((u16_at(&request, 6), u32_at(message.body, 4), u16_at(message.body, 8)), (1, 7, 0x10));
            let octets = match address {
                IpAddr::V4(v4) => v4.octets().to_vec(),
                IpAddr::V6(v6) => v6.octets().to_vec(),
            };
            assert_eq!(attributes(&message.body[12..]), [(1, &octets[..])]);
        }
    }

    #[test]
    fn a_neighbour_is_found_by_its_address_and_interface() {
        let message = |index: u32, state: u16, address: [u8; 4]| {
            let mut bytes = 36_u32.to_ne_bytes().to_vec();
            bytes.extend_from_slice(&28_u16.to_ne_bytes());
            bytes.extend_from_slice(&[0; 10]);
            bytes.extend_from_slice(&[2, 0, 0, 0]);
            bytes.extend_from_slice(&index.to_ne_bytes());
            bytes.extend_from_slice(&state.to_ne_bytes());
            bytes.extend_from_slice(&[0, 1]);
            bytes.extend_from_slice(&8_u16.to_ne_bytes());
            bytes.extend_from_slice(&1_u16.to_ne_bytes());
            bytes.extend_from_slice(&address);
            bytes
        };
        let both = [message(3, 0x20, [10, 0, 0, 1]), message(2, 0x02, [10, 0, 0, 1])].concat();
        let of = |index| match read_neighbours(&both, IpAddr::from([10, 0, 0, 1]), index) {
            Neighbours::Found(state) => Some((state.is_answering(), state.is_failed())),
            Neighbours::End | Neighbours::More => None,
        };
        assert_eq!((of(2), of(3), of(4)), (Some((true, false)), Some((false, true)), None));
        for cut in 0..both.len() {
            read_neighbours(&both[..cut], IpAddr::from([10, 0, 0, 1]), 2);
        }
    }
}
