//! ARP probes (RFC 826, RFC 5227 section 2.1.1): pure bytes, without the Ethernet header.

use std::net::Ipv4Addr;

/// Ethernet, IPv4, and their lengths.
const KIND: [u8; 6] = [0, 1, 8, 0, 6, 4];
const LENGTH: usize = 28;

/// Asks who has the address, without claiming it.
pub fn probe(mac: [u8; 6], address: Ipv4Addr) -> [u8; LENGTH] {
    let mut packet = [0; LENGTH];
    packet[..6].copy_from_slice(&KIND);
    packet[7] = 1; // request
    packet[8..14].copy_from_slice(&mac);
    packet[24..28].copy_from_slice(&address.octets());
    packet
}

/// Tells the link who has the address, so that what others remember of it is made new (RFC 5227 section 2.3).
pub fn announce(mac: [u8; 6], address: Ipv4Addr) -> [u8; LENGTH] {
    let mut packet = probe(mac, address);
    packet[14..18].copy_from_slice(&address.octets());
    packet
}

/// The MAC of another machine that has the address, or probes it as we do.
pub fn claims(packet: &[u8], mac: [u8; 6], address: Ipv4Addr) -> Option<[u8; 6]> {
    let packet: &[u8; LENGTH] = packet.get(..LENGTH)?.try_into().ok()?;
    let sender: [u8; 6] = packet[8..14].try_into().ok()?;
    let (from, to) = (&packet[14..18], &packet[24..28]);
    let has_it = from == address.octets();
    let probes_it = packet[7] == 1 && from == [0; 4] && to == address.octets();
    (packet[..6] == KIND && sender != mac && (has_it || probes_it)).then_some(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const THEIRS: [u8; 6] = [2, 0, 0, 0, 0, 2];
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);

    fn reply(sender: [u8; 6], from: Ipv4Addr) -> [u8; LENGTH] {
        let mut packet = probe(sender, Ipv4Addr::UNSPECIFIED);
        packet[7] = 2;
        packet[14..18].copy_from_slice(&from.octets());
        packet
    }

    #[test]
    fn whoever_has_or_probes_the_address_is_a_conflict_and_nobody_else() {
        let cases = [
            ("an answer", reply(THEIRS, ADDRESS).to_vec(), true),
            ("another's probe", probe(THEIRS, ADDRESS).to_vec(), true),
            ("our own probe", probe(OURS, ADDRESS).to_vec(), false),
            ("our own answer", reply(OURS, ADDRESS).to_vec(), false),
            ("another address", reply(THEIRS, Ipv4Addr::new(10, 0, 2, 16)).to_vec(), false),
            ("cut", reply(THEIRS, ADDRESS)[..27].to_vec(), false),
        ];
        for (label, packet, want) in cases {
            assert_eq!(claims(&packet, OURS, ADDRESS), want.then_some(THEIRS), "{label}");
        }
    }
}
