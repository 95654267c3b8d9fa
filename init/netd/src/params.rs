//! What the boot parameters ask of the network: pure. Forms that are not known yet are named and
//! DHCP is used, since a machine without a network is lost.

use crate::dhcp::message::is_name;
use contract::cmdline::{self, Word};
use std::net::IpAddr;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// `ip=off`: no link is configured unless named.
    pub off: bool,
    /// (interface, DHCP or off), from `ip=IF:dhcp` and `ip=IF:off`.
    pub links: Vec<(String, bool)>,
    pub boot_mac: Option<[u8; 6]>,
    pub nameservers: Vec<IpAddr>,
    pub hostname: Option<String>,
    pub problems: Vec<String>,
}

impl Wishes {
    pub fn wants(&self, interface: &str) -> bool {
        self.links.iter().rev().find(|(name, _)| name == interface).map_or(!self.off, |(_, dhcp)| *dhcp)
    }
}

pub fn read(words: &[Word]) -> Wishes {
    let mut wishes = Wishes::default();
    for value in cmdline::all(words, "ip") {
        match value.split(':').collect::<Vec<&str>>()[..] {
            ["dhcp" | "on" | "any"] => wishes.off = false,
            ["off" | "none"] => wishes.off = true,
            [name, "dhcp" | "on" | "any"] if !name.is_empty() => wishes.links.push((name.to_string(), true)),
            [name, "off" | "none"] if !name.is_empty() => wishes.links.push((name.to_string(), false)),
            _ => wishes.problems.push(format!(
                "ip={}: this form is not known yet: DHCP is used (known: dhcp, off, IF:dhcp, IF:off)",
                value.escape_debug()
            )),
        }
    }
    if let Some(value) = cmdline::last(words, "BOOTIF") {
        wishes.boot_mac = mac(value);
        if wishes.boot_mac.is_none() {
            wishes.problems.push(format!(
                "BOOTIF={}: not a MAC address, such as 01-52-54-00-12-34-56",
                value.escape_debug()
            ));
        }
    }
    for value in cmdline::all(words, "nameserver") {
        match value.trim_matches(['[', ']']).parse() {
            Ok(address) => wishes.nameservers.push(address),
            Err(_) => wishes.problems.push(format!("nameserver={}: not an address", value.escape_debug())),
        }
    }
    if let Some(value) = cmdline::last(words, "rescue.hostname") {
        if is_name(value) {
            wishes.hostname = Some(value.to_string());
        } else {
            wishes.problems.push(format!("rescue.hostname={}: not a host name", value.escape_debug()));
        }
    }
    wishes
}

/// `52:54:00:12:34:56`, with dashes too, with PXELINUX's hardware type in front too.
pub fn mac(text: &str) -> Option<[u8; 6]> {
    let parts: Vec<&str> = text.split(['-', ':']).collect();
    let digits = match parts.len() {
        7 if parts[0] == "01" => &parts[1..],
        6 => &parts[..],
        _ => return None,
    };
    let bytes: Option<Vec<u8>> =
        digits.iter().map(|part| (part.len() == 2).then(|| u8::from_str_radix(part, 16).ok())?).collect();
    bytes?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::cmdline::words;

    #[test]
    fn each_form_says_which_links_are_asked_for() {
        for (line, eth0, eth1, problems) in [
            ("", true, true, 0),
            ("ip=dhcp", true, true, 0),
            ("ip=off", false, false, 0),
            ("ip=eth1:off", true, false, 0),
            ("ip=off ip=eth0:dhcp", true, false, 0),
            ("ip=10.0.0.2::10.0.0.1:255.255.255.0::eth0:off", true, true, 1),
            ("ip=", true, true, 1),
            ("ip=:off", true, true, 1),
        ] {
            let wishes = read(&words(line));
            let got = (wishes.wants("eth0"), wishes.wants("eth1"), wishes.problems.len());
            assert_eq!(got, (eth0, eth1, problems), "{line}");
        }
    }

    #[test]
    fn a_mac_is_read_in_every_form_that_firmware_passes() {
        let want = Some([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
        for text in ["01-52-54-00-12-34-56", "52:54:00:12:34:56", "52-54-00-12-34-56", "01:52:54:00:12:34:56"]
        {
            assert_eq!(mac(text), want, "{text}");
        }
        for text in
            ["", "01-", "52:54:00:12:34", "52:54:00:12:34:5g", "06-52-54-00-12-34-56", "5:54:00:12:34:56"]
        {
            assert_eq!(mac(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_address_or_name_is_a_problem() {
        let wishes = read(&words(
            "nameserver=1.1.1.1 nameserver=[2606:4700::1111] nameserver=x rescue.hostname=a/b BOOTIF=zz",
        ));
        assert_eq!((wishes.nameservers.len(), wishes.problems.len(), wishes.hostname), (2, 3, None));
    }
}
