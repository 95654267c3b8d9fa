//! The small grammars that several sources share: addresses, masks, MACs, names, globs.

use crate::Mac;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

impl Mac {
    /// `52:54:00:12:34:56`, with dashes too, with the hardware type of PXELINUX in front too (`01-52-54-...`).
    pub fn parse(text: &str) -> Option<Mac> {
        let parts: Vec<&str> = text.split(['-', ':']).collect();
        let digits = match parts.len() {
            7 if parts[0] == "01" => &parts[1..],
            6 => &parts[..],
            _ => return None,
        };
        let byte = |part: &&str| {
            let is_hex = part.len() == 2 && part.bytes().all(|c| c.is_ascii_hexdigit());
            is_hex.then(|| u8::from_str_radix(part, 16).ok()).flatten()
        };
        let bytes: Option<Vec<u8>> = digits.iter().map(byte).collect();
        Some(Mac(bytes?.try_into().ok()?))
    }

    /// Neither zero nor a group's: something that one interface can have.
    pub fn is_one(self) -> bool {
        self.0 != [0; 6] && self.0[0] & 1 == 0
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.map(|byte| format!("{byte:02x}")).join(":"))
    }
}

/// An address, in brackets too.
pub fn address(text: &str) -> Option<IpAddr> {
    match text.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?.parse().ok().filter(IpAddr::is_ipv6),
        None => text.parse().ok(),
    }
}

/// `192.0.2.7/24`, `[2001:db8::1]/64`, `[2001:db8::1/64]`; without a length that of one host.
pub fn network(text: &str) -> Option<(IpAddr, u8)> {
    let bare: String = text.chars().filter(|c| !matches!(c, '[' | ']')).collect();
    let (host, length) = match bare.split_once('/') {
        Some((host, length)) => (address(host)?, Some(length)),
        None => (address(&bare)?, None),
    };
    let prefix = length.map_or_else(|| Some(bits(host)), |length| prefix(length, host))?;
    Some((host, prefix))
}

/// Bits of an address of this family.
pub fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// A prefix length, or for IPv4 a netmask whose ones stand together.
pub fn prefix(text: &str, of: IpAddr) -> Option<u8> {
    if text.len() <= 3 && !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit()) {
        return text.parse().ok().filter(|length| *length <= bits(of));
    }
    let mask = u32::from(text.parse::<Ipv4Addr>().ok().filter(|_| of.is_ipv4())?);
    (mask.leading_ones() + mask.trailing_zeros() == 32).then(|| mask.leading_ones() as u8)
}

/// Whether the kernel takes this as an interface's name (dev_valid_name in net/core/dev.c).
pub fn is_interface(name: &str) -> bool {
    !name.is_empty()
        && name.len() < 16
        && name != "."
        && name != ".."
        && !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control())
}

/// A host name or domain (RFC 1123): letters, digits, dashes, dots.
pub fn is_host(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.trim_end_matches('.').split('.').all(label)
}

/// Whether an address can be given to an interface.
pub fn is_host_address(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            !(v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast() || v4.octets()[0] == 0)
        }
        IpAddr::V6(v6) => !(v6.is_unspecified() || v6.is_multicast()),
    }
}

/// Whether `address` lies in the network of `of` with this length.
pub fn is_within(address: IpAddr, of: IpAddr, prefix: u8) -> bool {
    match (address, of) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            prefix == 0 || (u32::from(a) ^ u32::from(b)).leading_zeros() >= u32::from(prefix)
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            prefix == 0 || (u128::from(a) ^ u128::from(b)).leading_zeros() >= u32::from(prefix)
        }
        _ => false,
    }
}

/// The network that an address lies in.
pub fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::from((u32::from(v4) & mask).to_be_bytes())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::from((u128::from(v6) & mask).to_be_bytes())
        }
    }
}

/// A shell's pattern: `*`, `?`, `[a-c]`, `[!x]`. Both are short (an interface's name), so the simple way will do.
pub fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().take(64).collect(), text.chars().take(64).collect());
    // reach[j]: the pattern so far matches the first j characters.
    let mut reach = vec![false; text.len() + 1];
    reach[0] = true;
    let mut at = 0;
    while at < pattern.len() {
        let mut next = vec![false; text.len() + 1];
        if pattern[at] == '*' {
            let first = reach.iter().position(|is| *is).unwrap_or(text.len() + 1);
            next.iter_mut().skip(first).for_each(|is| *is = true);
            at += 1;
        } else {
            let (end, matches) = class(&pattern, at);
            for (j, c) in text.iter().enumerate() {
                next[j + 1] = reach[j] && matches(*c);
            }
            at = end;
        }
        reach = next;
    }
    reach[text.len()]
}

/// Where the one-character pattern at `at` ends, and what it matches.
fn class(pattern: &[char], at: usize) -> (usize, Box<dyn Fn(char) -> bool + '_>) {
    let closing = || pattern[at + 1..].iter().skip(2).position(|c| *c == ']').map(|p| at + 3 + p);
    let short = || (pattern.get(at + 2) == Some(&']')).then_some(at + 2);
    match pattern[at] {
        '?' => (at + 1, Box::new(|_| true)),
        '[' => match short().or_else(closing) {
            Some(end) => {
                let negated = matches!(pattern[at + 1], '!' | '^') && end > at + 2;
                let set = &pattern[at + 1 + usize::from(negated)..end];
                let is_in = move |c: char| {
                    let range = |i: usize| {
                        set.get(i + 1) == Some(&'-')
                            && set.get(i + 2).is_some_and(|to| (set[i]..=*to).contains(&c))
                    };
                    set.contains(&c) || (0..set.len()).any(range)
                };
                (end + 1, Box::new(move |c| is_in(c) != negated))
            }
            None => (at + 1, Box::new(|c| c == '[')),
        },
        own => (at + 1, Box::new(move |c| c == own)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_mac_is_read_in_every_form_that_firmware_passes() {
        let want = Some(Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]));
        for text in ["01-52-54-00-12-34-56", "52:54:00:12:34:56", "52-54-00-12-34-56", "01:52:54:00:12:34:56"]
        {
            assert_eq!(Mac::parse(text), want, "{text}");
        }
        for text in [
            "",
            "01-",
            "52:54:00:12:34",
            "52:54:00:12:34:5g",
            "06-52-54-00-12-34-56",
            "5:54:00:12:34:56",
            "+1:54:00:12:34:56",
        ] {
            assert_eq!(Mac::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_mask_is_a_length_or_ones_that_stand_together() {
        let (v4, v6) = (IpAddr::from([192, 0, 2, 1]), "2001:db8::1".parse().unwrap());
        for (text, of, want) in [
            ("24", v4, Some(24)),
            ("255.255.255.0", v4, Some(24)),
            ("255.255.255.255", v4, Some(32)),
            ("0.0.0.0", v4, Some(0)),
            ("128.0.0.0", v4, Some(1)),
            ("255.0.255.0", v4, None),
            ("0.0.0.255", v4, None),
            ("33", v4, None),
            ("+8", v4, None),
            ("64", v6, Some(64)),
            ("129", v6, None),
            ("255.255.255.0", v6, None),
            ("", v4, None),
        ] {
            assert_eq!(prefix(text, of), want, "{text}");
        }
    }

    #[test]
    fn names_are_matched_as_a_shell_matches_them() {
        for (pattern, text, want) in [
            ("eth0", "eth0", true),
            ("eth0", "eth01", false),
            ("en*", "enp3s0", true),
            ("*", "", true),
            ("e*0", "eth0", true),
            ("e*0*", "eno10", true),
            ("e*x", "eno1", false),
            ("eth?", "eth1", true),
            ("eth[0-3]", "eth2", true),
            ("eth[!0]", "eth0", false),
            ("eth[!0]", "eth1", true),
            ("eth[", "eth[", true),
            ("[x]", "x", true),
        ] {
            assert_eq!(glob(pattern, text), want, "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn no_pattern_panics(pattern in "[a-c*?!\\[\\]-]{0,12}", text in "[a-c\\[\\]-]{0,12}") {
            glob(&pattern, &text);
        }
    }
}
