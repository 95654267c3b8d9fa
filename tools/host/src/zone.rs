//! Addresses as people and files write them: behind one of IPv6 may stand its zone, by name or by number (RFC 4007 section 11),
//! without which an address of one link is reached by none.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6, UdpSocket};

/// `None` for what is no address, and where there is no such interface.
pub fn address(text: &str, port: u16) -> Option<SocketAddr> {
    address_by(text, port, index)
}

fn address_by(text: &str, port: u16, index: impl Fn(&str) -> Option<u32>) -> Option<SocketAddr> {
    let Some((address, zone)) = text.split_once('%') else {
        return text.parse().ok().map(|address: IpAddr| SocketAddr::new(address, port));
    };
    let address = address.parse().ok()?;
    let scope = zone.parse().ok().or_else(|| index(zone))?;
    Some(SocketAddrV6::new(address, port, 0, scope).into())
}

/// An interface's number (SIOCGIFINDEX, netdevice(7)).
fn index(name: &str) -> Option<u32> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    rustix::net::netdevice::name_to_index(&socket, name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_with_its_zone() {
        let lo = |text: &str| address(text, 0).map(|address| address.to_string());
        let index = std::fs::read_to_string("/sys/class/net/lo/ifindex").unwrap();
        let index = index.trim();
        for (text, want) in [
            ("192.0.2.1", Some("192.0.2.1:0".to_string())),
            ("fe80::1", Some("[fe80::1]:0".to_string())),
            ("fe80::1%lo", Some(format!("[fe80::1%{index}]:0"))),
            ("fe80::1%7", Some("[fe80::1%7]:0".to_string())),
            ("fe80::1%", None),
            ("fe80::1%no-such-link", None),
            ("fe80::1%../net/lo", None),
            ("192.0.2.1%lo", None),
            ("example.com", None),
        ] {
            assert_eq!(lo(text), want, "{text}");
        }
    }

    #[test]
    fn a_name_server_of_one_link_is_asked_on_that_link() {
        let index = |link: &str| (link == "eth0").then_some(3);
        for (text, wanted) in [
            ("192.0.2.53", Some("192.0.2.53:53")),
            ("fe80::1%eth0", Some("[fe80::1%3]:53")),
            ("fe80::1%gone0", None),
            ("2001:db8::53", Some("[2001:db8::53]:53")),
        ] {
            let place = address_by(text, 53, index).map(|place| place.to_string());
            assert_eq!(place.as_deref(), wanted, "{text}");
        }
    }
}
