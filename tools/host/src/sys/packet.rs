//! Packet sockets for DHCP before an address is there and for ARP (packet(7)), and the UDP sockets
//! beside them.

use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};

/// ETH_P_IP and ETH_P_ARP in network order.
const IP: u16 = 0x0800_u16.to_be();
const ARP: u16 = 0x0806_u16.to_be();

/// IPv4 UDP packets to one port of one interface, in and out without the Ethernet header. Does not
/// block. The kernel throws everything else away (a classic BPF program).
pub fn open(interface: u32, port: u16) -> io::Result<OwnedFd> {
    // Protocol 0 until the filter is there, so that nothing slips in before it.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::PACKET, SocketType::DGRAM, flags, None)?;
    filter(&socket, port)?;
    bind(&socket, interface, IP)?;
    Ok(socket)
}

/// All ARP packets of one interface, in and out without the Ethernet header. Does not block.
pub fn open_arp(interface: u32) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::PACKET, SocketType::DGRAM, flags, None)?;
    bind(&socket, interface, ARP)?;
    Ok(socket)
}

/// SIOCETHTOOL (linux/sockios.h), ETHTOOL_GPERMADDR (linux/ethtool.h).
const ETHTOOL: libc::Ioctl = 0x8946;
const GET_PERMANENT: u32 = 0x20;

/// `struct ethtool_perm_addr` with room for an Ethernet address.
#[repr(C)]
struct PermanentAddress {
    command: u32,
    size: u32,
    mac: [u8; 8],
}

/// The MAC that is burnt into an interface, which kernels before Linux 5.6 do not tell by netlink. `EOPNOTSUPP` where there is
/// none.
pub fn permanent_mac(interface: &str) -> io::Result<[u8; 6]> {
    let socket =
        rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    let mut asked = PermanentAddress { command: GET_PERMANENT, size: 6, mac: [0; 8] };
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_data: (&raw mut asked).cast() },
    };
    if interface.len() >= libc::IFNAMSIZ {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, byte) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = byte.cast_signed();
    }
    // SAFETY: the kernel reads the request and writes at most `size` bytes behind the pointer in it; both live over the call.
    let told = unsafe { libc::ioctl(socket.as_raw_fd(), ETHTOOL, &raw mut request) };
    match asked.mac {
        _ if told != 0 => Err(io::Error::last_os_error()),
        [0, 0, 0, 0, 0, 0, ..] => Err(rustix::io::Errno::OPNOTSUPP.into()),
        [a, b, c, d, e, f, ..] => Ok([a, b, c, d, e, f]),
    }
}

fn bind(socket: &OwnedFd, interface: u32, protocol: u16) -> io::Result<()> {
    let address = address(interface, protocol, [0; 6]);
    // SAFETY: `address` is a sockaddr_ll on the stack, and its true size is given.
    let bound = unsafe {
        libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size_of::<libc::sockaddr_ll>() as u32)
    };
    if bound == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn address(interface: u32, protocol: u16, hardware: [u8; 6]) -> libc::sockaddr_ll {
    let mut addr = [0; 8];
    addr[..6].copy_from_slice(&hardware);
    libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol,
        sll_ifindex: interface.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: addr,
    }
}

/// UDP, no later fragment, to `port`; offsets are those of the IP header.
fn filter(socket: &OwnedFd, port: u16) -> io::Result<()> {
    let op = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    use libc::{
        BPF_ABS, BPF_B, BPF_H, BPF_IND, BPF_JEQ, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_LDX, BPF_MSH, BPF_RET,
    };
    let mut program = [
        op(BPF_LD | BPF_B | BPF_ABS, 0, 0, 9),        // protocol
        op(BPF_JMP | BPF_JEQ | BPF_K, 0, 6, 17),      // UDP?
        op(BPF_LD | BPF_H | BPF_ABS, 0, 0, 6),        // flags and fragment offset
        op(BPF_JMP | BPF_JSET | BPF_K, 4, 0, 0x1fff), // a later fragment?
        op(BPF_LDX | BPF_B | BPF_MSH, 0, 0, 0),       // header length
        op(BPF_LD | BPF_H | BPF_IND, 0, 0, 2),        // destination port
        op(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, u32::from(port)),
        op(BPF_RET | BPF_K, 0, 0, 0xffff),
        op(BPF_RET | BPF_K, 0, 0, 0),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the kernel copies the program, which lives over the call; the size is the struct's.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as u32,
        )
    };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sends an IP packet to every machine on the link.
pub fn broadcast(socket: &OwnedFd, interface: u32, packet: &[u8]) -> io::Result<()> {
    broadcast_as(socket, interface, IP, packet)
}

/// Sends an ARP packet to every machine on the link.
pub fn broadcast_arp(socket: &OwnedFd, interface: u32, packet: &[u8]) -> io::Result<()> {
    broadcast_as(socket, interface, ARP, packet)
}

fn broadcast_as(socket: &OwnedFd, interface: u32, protocol: u16, packet: &[u8]) -> io::Result<()> {
    let address = address(interface, protocol, [0xff; 6]);
    // SAFETY: both pointers are to memory that lives over the call, with their true lengths.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            packet.as_ptr().cast(),
            packet.len(),
            0,
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as u32,
        )
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Receives one packet; `None` when there is none now.
pub fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    match rustix::net::recv(socket, buffer, RecvFlags::empty()) {
        Ok((length, _)) => Ok(Some(length)),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A UDP socket of one interface: sends to a server by the routes, and keeps the kernel from
/// answering the server's replies with "port unreachable".
pub fn udp(interface: &str, address: Ipv4Addr, port: u16) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
    rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
    // Nobody reads it: the packet socket sees the same packets.
    rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 2048)?;
    bind_to(&socket, interface)?;
    rustix::net::bind(&socket, &SocketAddrV4::new(address, port))?;
    Ok(socket)
}

/// A UDP socket for IPv6 on one interface, for what is sent from and to its link-local address. Does not block.
pub fn udp6(interface: &str, port: u16) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::INET6, SocketType::DGRAM, flags, None)?;
    rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
    bind_to(&socket, interface)?;
    rustix::net::bind(&socket, &SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0))?;
    Ok(socket)
}

/// Asks the routers of a link to speak now (RFC 4861 section 4.1), as the kernel does when an interface comes up. Their answer
/// is the kernel's.
pub fn solicit_routers(name: &str, interface: u32) -> io::Result<()> {
    /// Type 133 and seven bytes of nothing; the kernel puts in the checksum (RFC 3542 section 3.1).
    const SOLICITATION: [u8; 8] = [133, 0, 0, 0, 0, 0, 0, 0];
    const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let protocol = Some(rustix::net::ipproto::ICMPV6);
    let socket = rustix::net::socket_with(AddressFamily::INET6, SocketType::RAW, flags, protocol)?;
    bind_to(&socket, name)?;
    // By this a router knows that no other one has passed it on.
    rustix::net::sockopt::set_ipv6_multicast_hops(&socket, 255)?;
    let to = SocketAddrV6::new(ALL_ROUTERS, 0, 0, interface);
    rustix::net::sendto(&socket, &SOLICITATION, rustix::net::SendFlags::empty(), &to)?;
    Ok(())
}

/// Sends one datagram to an address of an interface's link.
pub fn send_udp6(socket: &OwnedFd, interface: u32, to: (Ipv6Addr, u16), payload: &[u8]) -> io::Result<()> {
    let to = SocketAddrV6::new(to.0, to.1, 0, interface);
    rustix::net::sendto(socket, payload, rustix::net::SendFlags::empty(), &to)?;
    Ok(())
}

/// What a socket sends leaves by this interface alone, and what it hears comes by it (SO_BINDTODEVICE).
pub fn bind_to(socket: &impl AsRawFd, interface: &str) -> io::Result<()> {
    // SAFETY: the name's bytes live over the call, with their true length.
    let bound = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_BINDTODEVICE,
            interface.as_ptr().cast(),
            interface.len() as u32,
        )
    };
    if bound == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sends one datagram.
pub fn send_udp(socket: &OwnedFd, to: SocketAddrV4, payload: &[u8]) -> io::Result<()> {
    rustix::net::sendto(socket, payload, rustix::net::SendFlags::empty(), &to)?;
    Ok(())
}
