//! What reads bytes that a stranger on the line made, for the fuzzer alone: each function takes anything, and its answer does
//! not matter.

use crate::{dhcp, dhcp6, ntp, rtnl};
use std::time::Duration;

const TRANSACTION: u32 = 0x0102_0304;
const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
const DUID: &[u8] = &[0, 3, 0, 1, 0x52, 0x54, 0, 0x12, 0x34, 0x56];
const RTM_NEWADDR: u16 = 20;
const RTM_NEWNDUSEROPT: u16 = 68;

/// Options of DHCPv4; the header is right, or nothing behind it would be looked at. And a packet.
pub fn dhcp(input: &[u8]) {
    let mut bytes = vec![0; 240];
    bytes[0] = 2;
    bytes[4..8].copy_from_slice(&TRANSACTION.to_be_bytes());
    bytes[16..20].copy_from_slice(&[10, 0, 2, 15]);
    bytes[28..34].copy_from_slice(&MAC);
    bytes[236..240].copy_from_slice(&[99, 130, 83, 99]);
    bytes.extend_from_slice(input);
    let _ = dhcp::message::decode(&bytes, TRANSACTION, MAC);
    let _ = dhcp::message::decode_packet(input, TRANSACTION, MAC);
}

/// Options of DHCPv6 behind those that make it an answer to this machine.
pub fn dhcp6(input: &[u8]) {
    for kind in [2_u32, 7] {
        let mut bytes = (kind << 24 | TRANSACTION & 0x00ff_ffff).to_be_bytes().to_vec();
        for (code, value) in [(1_u16, DUID), (2, &[0, 3, 0, 1, 1][..])] {
            bytes.extend(code.to_be_bytes());
            bytes.extend((value.len() as u16).to_be_bytes());
            bytes.extend_from_slice(value);
        }
        bytes.extend_from_slice(input);
        let _ = dhcp6::message::decode(&bytes, TRANSACTION, DUID, 1);
    }
    let _ = dhcp6::message::decode(input, TRANSACTION, DUID, 1);
}

/// An option of a router's advertisement, as the kernel hands it on; and whatever else the kernel says.
pub fn router(input: &[u8]) {
    let mut body = vec![10, 0, 0, 0]; // AF_INET6
    body.extend_from_slice(&2_u32.to_ne_bytes());
    body.extend_from_slice(&[134, 0, 0, 0, 0, 0, 0, 0]);
    body.extend_from_slice(input);
    let _ = rtnl::read(&message(RTM_NEWNDUSEROPT, &body));
    let _ = rtnl::read(&message(RTM_NEWADDR, input));
    let _ = rtnl::read(input);
}

/// netlink(7)'s header and what follows.
fn message(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = (16 + body.len() as u32).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend([0; 10]);
    bytes.extend_from_slice(body);
    bytes
}

/// An answer of a time server.
pub fn time(input: &[u8]) {
    let nonce: [u8; 8] = input.get(24..32).and_then(|bytes| bytes.try_into().ok()).unwrap_or_default();
    let (sent, received) = (Duration::from_secs(1_800_000_000), Duration::from_secs(1_800_000_001));
    let _ = ntp::answer(input, u64::from_be_bytes(nonce), sent, received, 1_795_000_000);
}
