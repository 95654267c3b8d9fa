//! What stands before a key in authorized_keys (sshd(8), AUTHORIZED_KEYS FILE FORMAT) and inside of a
//! user certificate (PROTOCOL.certkeys): who may use it, from where and until when, and what for.
//!
//! Most options take something away from whoever holds the key, so one that is not understood makes
//! the whole line refused. Differences from OpenSSH, all on the narrow side: `environment=` sets what
//! a client may set and nothing else; a key with `permitopen=` or `permitlisten=` forwards no Unix
//! sockets; X11 and tunnels are not forwarded for anybody, and no rc file is run.

use crate::program;
use contract::authorized_keys::{self, MAX_LIST};
use russh::keys::Certificate;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// The key is that of an authority whose certificates are taken, and no key to log in with.
    pub authority: bool,
    /// Names of which one must be in a certificate; without, it is the user's name.
    pub principals: Option<Vec<String>>,
    pub from: Option<Addresses>,
    /// Seconds of Unix time.
    pub expiry: Option<u64>,
    pub touch: Touch,
    pub grant: Grant,
}

/// What a key in hardware (`sk-`) must have asked of its holder.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Touch {
    pub present: bool,
    pub verified: bool,
}

impl Default for Touch {
    fn default() -> Touch {
        Touch { present: true, verified: false }
    }
}

/// What somebody who logged in may do.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    pub pty: bool,
    pub forwarding: bool,
    pub agent: bool,
    /// Runs instead of whatever is asked for.
    pub command: Option<String>,
    /// Where connections may go, if not anywhere.
    pub open: Option<Vec<Permit>>,
    /// Where may be listened on, if not anywhere.
    pub listen: Option<Vec<Permit>>,
    pub environment: Vec<(String, String)>,
}

impl Default for Grant {
    fn default() -> Grant {
        Grant {
            pty: true,
            forwarding: true,
            agent: true,
            command: None,
            open: None,
            listen: None,
            environment: Vec::new(),
        }
    }
}

impl Grant {
    fn restrict(&mut self) {
        (self.pty, self.forwarding, self.agent) = (false, false, false);
    }

    pub fn may_open(&self, host: &str, port: u16) -> bool {
        // RFC 1034: names are the same in capitals; nothing else is looked up.
        let fits = |permit: &Permit| permit.host == "*" || permit.host.eq_ignore_ascii_case(host);
        self.forwarding && permitted(self.open.as_deref(), port, fits)
    }

    pub fn may_listen(&self, host: &str, port: u16) -> bool {
        self.forwarding && permitted(self.listen.as_deref(), port, |permit| matches(&permit.host, host))
    }

    /// Unix sockets have no line of their own in the file, so a list of other places excludes them.
    pub fn may_open_unix(&self) -> bool {
        self.forwarding && self.open.is_none()
    }

    pub fn may_listen_unix(&self) -> bool {
        self.forwarding && self.listen.is_none()
    }

    /// What both allow. Two commands that differ allow nothing.
    fn and(mut self, other: Grant) -> Result<Grant, String> {
        self.pty &= other.pty;
        self.forwarding &= other.forwarding;
        self.agent &= other.agent;
        self.command = match (self.command, other.command) {
            (Some(one), Some(two)) if one != two => {
                return Err("the certificate and authorized_keys force different commands".to_string());
            }
            (one, two) => one.or(two),
        };
        Ok(self)
    }
}

fn permitted(list: Option<&[Permit]>, port: u16, fits: impl Fn(&Permit) -> bool) -> bool {
    list.is_none_or(|list| {
        list.iter().any(|permit| permit.port.is_none_or(|permitted| permitted == port) && fits(permit))
    })
}

#[derive(Clone, Debug, PartialEq)]
pub struct Permit {
    pub host: String,
    /// `None` for any.
    pub port: Option<u16>,
}

/// A list of addresses, networks and patterns, some of them forbidden.
#[derive(Clone, Debug, PartialEq)]
pub struct Addresses(Vec<(bool, Pattern)>);

#[derive(Clone, Debug, PartialEq)]
enum Pattern {
    Network(IpAddr, u8),
    Text(String),
}

impl Addresses {
    /// `strict`: addresses and networks only.
    fn parse(list: &str, strict: bool) -> Result<Addresses, String> {
        let mut patterns = Vec::new();
        for word in list.split(',').map(str::trim) {
            let (negated, word) = match word.strip_prefix('!') {
                Some(rest) if !strict => (true, rest),
                _ => (false, word),
            };
            let pattern = match (network(word), word.contains('/')) {
                (Some((address, bits)), _) => Pattern::Network(address, bits),
                (None, false) if !strict && !word.is_empty() => Pattern::Text(word.to_string()),
                (None, _) => return Err("has no valid list of addresses".to_string()),
            };
            patterns.push((negated, pattern));
            if patterns.len() > MAX_LIST {
                return Err("has too long a list of addresses".to_string());
            }
        }
        Ok(Addresses(patterns))
    }

    /// No name is looked up: whoever owns an address could make it any name's.
    pub fn contain(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        let text = peer.to_string();
        let fits = |pattern: &Pattern| match pattern {
            Pattern::Network(address, bits) => within(peer, *address, *bits),
            Pattern::Text(pattern) => matches(pattern, &text),
        };
        let any = |wanted: bool| self.0.iter().any(|(negated, p)| *negated == wanted && fits(p));
        any(false) && !any(true)
    }
}

/// An address, or a network whose host part is zero.
fn network(word: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = match word.split_once('/') {
        Some((address, bits)) => (address, Some(bits.parse::<u8>().ok()?)),
        None => (word, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.unwrap_or(most);
    (bits <= most && masked(address, bits) == address).then_some((address, bits))
}

fn within(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    address.is_ipv4() == network.is_ipv4() && masked(address, bits) == network
}

fn masked(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            Ipv4Addr::from_bits(v4.to_bits() & mask).into()
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            Ipv6Addr::from_bits(v6.to_bits() & mask).into()
        }
    }
}

/// `*` and `?` as in PATTERNS of ssh_config(5), without regard to capitals. Never slower than the
/// product of both lengths.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t, mut retry) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p, t));
                p += 1;
            }
            Some(c) if *c == b'?' || c.eq_ignore_ascii_case(&text[t]) => (p, t) = (p + 1, t + 1),
            _ => match retry {
                // The last star takes one more.
                Some((star, taken)) => {
                    retry = Some((star, taken + 1));
                    (p, t) = (star + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

impl Options {
    /// The text before a key. The error completes "LINE: ", and repeats no value.
    pub fn parse(text: &str) -> Result<Options, String> {
        let mut options = Options::default();
        // Another command than the one that was meant would be run.
        if text.chars().any(|c| contract::text::raw_byte(c).is_some()) {
            return Err("has bytes in its options that are not UTF-8".to_string());
        }
        for (name, value) in authorized_keys::options(text)? {
            let name = name.to_ascii_lowercase();
            match (name.as_str(), value) {
                ("cert-authority", None) => options.authority = true,
                ("restrict", None) => options.grant.restrict(),
                ("pty", None) => options.grant.pty = true,
                ("no-pty", None) => options.grant.pty = false,
                ("port-forwarding", None) => options.grant.forwarding = true,
                ("no-port-forwarding", None) => options.grant.forwarding = false,
                ("agent-forwarding", None) => options.grant.agent = true,
                ("no-agent-forwarding", None) => options.grant.agent = false,
                // Not done for anybody.
                ("x11-forwarding" | "no-x11-forwarding" | "user-rc" | "no-user-rc", None) => {}
                ("touch-required", None) => options.touch.present = true,
                ("no-touch-required", None) => options.touch.present = false,
                ("verify-required", None) => options.touch.verified = true,
                ("no-verify-required", None) => options.touch.verified = false,
                ("command", Some(value)) => once(&mut options.grant.command, "command", value)?,
                ("principals", Some(value)) => {
                    let names: Vec<String> = value.split(',').map(|name| name.trim().to_string()).collect();
                    if names.iter().any(String::is_empty) || names.len() > MAX_LIST {
                        return Err("has no valid list of principals".to_string());
                    }
                    once(&mut options.principals, "principals", names)?;
                }
                ("from", Some(value)) => {
                    once(&mut options.from, "from", Addresses::parse(&value, false)?)?;
                }
                ("expiry-time", Some(value)) => {
                    let time = time(&value).ok_or("has no valid expiry-time: it is YYYYMMDD[HHMM[SS]][Z]")?;
                    // Of several, OpenSSH takes the earliest.
                    options.expiry = Some(options.expiry.map_or(time, |known| known.min(time)));
                }
                ("environment", Some(value)) => {
                    let Some((name, value)) = value.split_once('=') else {
                        return Err("has an environment option without a value".to_string());
                    };
                    let environment = &mut options.grant.environment;
                    if program::is_accepted(name) && environment.len() < program::MAX_VARIABLES {
                        environment.push((name.to_string(), value.to_string()));
                    }
                }
                ("permitopen", Some(value)) => {
                    let permit = permit(&value, false).ok_or("has a permitopen that is not HOST:PORT")?;
                    limited(options.grant.open.get_or_insert_default(), permit)?;
                }
                ("permitlisten", Some(value)) => {
                    let permit = permit(&value, true).ok_or("has a permitlisten that is not [HOST:]PORT")?;
                    limited(options.grant.listen.get_or_insert_default(), permit)?;
                }
                // Tunnels are not forwarded for anybody.
                ("tunnel", Some(_)) => {}
                _ => {
                    let known: String = name.chars().filter(|c| c.is_ascii_graphic()).take(32).collect();
                    return Err(format!("has an option that is not known, {known:?}: the key is refused"));
                }
            }
        }
        Ok(options)
    }

    /// What a certificate that these options admit allows, to `user`. The error says why it does not.
    pub fn certified(&self, certificate: &Certificate, user: &str, peer: IpAddr) -> Result<Options, String> {
        use russh::keys::ssh_key::certificate::CertType;
        if certificate.cert_type() != CertType::User {
            return Err("is not a certificate of a user".to_string());
        }
        let names = certificate.valid_principals();
        let named = match &self.principals {
            Some(wanted) => wanted.iter().any(|wanted| names.contains(wanted)),
            // PROTOCOL.certkeys: none named are all.
            None => names.is_empty() || names.iter().any(|name| name == user),
        };
        if !named {
            return Err("is for other principals".to_string());
        }
        let mut theirs = Grant::default();
        theirs.restrict();
        let mut touch = Touch::default();
        for name in certificate.extensions().keys() {
            match name.as_str() {
                "permit-pty" => theirs.pty = true,
                "permit-port-forwarding" => theirs.forwarding = true,
                "permit-agent-forwarding" => theirs.agent = true,
                "no-touch-required" => touch.present = false,
                // An extension that is not known gives nothing.
                _ => {}
            }
        }
        for (name, value) in certificate.critical_options().iter() {
            match name.as_str() {
                "force-command" => theirs.command = Some(value.clone()),
                "source-address" if Addresses::parse(value, true)?.contain(peer) => {}
                "source-address" => return Err("is not valid from this address".to_string()),
                "verify-required" => touch.verified = true,
                _ => return Err("has a critical option that is not known".to_string()),
            }
        }
        let mut options = self.clone();
        options.grant = options.grant.and(theirs)?;
        options.touch = Touch {
            present: self.touch.present || touch.present,
            verified: self.touch.verified || touch.verified,
        };
        Ok(options)
    }
}

fn once<T>(place: &mut Option<T>, name: &str, value: T) -> Result<(), String> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("has more than one {name} option")),
    }
}

fn limited(list: &mut Vec<Permit>, permit: Permit) -> Result<(), String> {
    list.push(permit);
    if list.len() > MAX_LIST { Err("permits too many places".to_string()) } else { Ok(()) }
}

fn permit(text: &str, bare: bool) -> Option<Permit> {
    authorized_keys::place(text, bare).map(|(host, port)| Permit { host: host.to_string(), port })
}

/// YYYYMMDD[HHMM[SS]][Z] as Unix time. Without Z it is local time in OpenSSH; a rescue's is UTC.
fn time(text: &str) -> Option<u64> {
    let digits = text.strip_suffix(['Z', 'z']).unwrap_or(text);
    if !digits.bytes().all(|b| b.is_ascii_digit()) || !matches!(digits.len(), 8 | 12 | 14) {
        return None;
    }
    let field = |from: usize, to: usize| digits.get(from..to).map_or(Some(0), |d| d.parse::<u64>().ok());
    let (year, month, day) = (field(0, 4)?, field(4, 6)?, field(6, 8)?);
    let (hour, minute, second) = (field(8, 10)?, field(10, 12)?, field(12, 14)?);
    let leap = year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let length = *lengths.get(usize::try_from(month).ok()?.checked_sub(1)?)?;
    if year < 1970 || day == 0 || day > length || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let before = year - 1;
    let leaps = |year: u64| year / 4 - year / 100 + year / 400;
    let months: u64 = lengths.iter().take(usize::try_from(month - 1).ok()?).sum();
    let days = (year - 1970) * 365 + leaps(before) - leaps(1969) + months + day - 1;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Options {
        Options::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn each_option_takes_away_what_it_says() {
        let grant = |text: &str| {
            let grant = parse(text).grant;
            (grant.pty, grant.forwarding, grant.agent)
        };
        assert_eq!(grant("no-user-rc"), (true, true, true));
        assert_eq!(grant("no-pty,no-X11-forwarding"), (false, true, true));
        assert_eq!(grant("no-port-forwarding"), (true, false, true));
        assert_eq!(grant("NO-AGENT-FORWARDING"), (true, true, false));
        assert_eq!(grant("restrict"), (false, false, false));
        assert_eq!(grant("restrict,pty"), (true, false, false));
    }

    #[test]
    fn values_are_unquoted_as_in_openssh() {
        let options = parse(r#"command="echo \"a,b\" \\n",environment="LANG=C",environment="LD_PRELOAD=x""#);
        assert_eq!(options.grant.command.as_deref(), Some(r#"echo "a,b" \\n"#));
        assert_eq!(options.grant.environment, [("LANG".to_string(), "C".to_string())]);
    }

    #[test]
    fn what_is_not_understood_refuses_the_key() {
        for (text, why) in [
            ("", "cannot be read"),
            ("restrict,", "cannot be read"),
            ("frobnicate", "not known, \"frobnicate\""),
            ("command", "not known"),
            ("pty=\"yes\"", "not known"),
            ("command=ls", "not in double quotes"),
            ("command=\"ls", "do not end"),
            ("command=\"a\",command=\"b\"", "more than one command"),
            ("from=\"10.0.0.1/8\"", "no valid list of addresses"),
            ("from=\"\"", "no valid list of addresses"),
            ("expiry-time=\"20250231\"", "no valid expiry-time"),
            ("permitopen=\"80\"", "not HOST:PORT"),
            ("permitlisten=\"x:0\"", "not [HOST:]PORT"),
            ("principals=\"a,,b\"", "no valid list of principals"),
        ] {
            let error = Options::parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn addresses_are_matched_and_names_are_not() {
        let cases = [
            ("10.0.0.0/8,::1", "10.200.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8,::1", "::1", true),
            ("0.0.0.0/0", "192.0.2.1", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("10.0.0.0/8", "::ffff:10.0.0.1", true),
            ("192.0.2.?", "192.0.2.7", true),
            ("192.0.2.?", "192.0.2.77", false),
            ("*,!192.0.2.0/24", "192.0.2.7", false),
            ("*,!192.0.2.0/24", "192.0.3.7", true),
            ("!192.0.2.7", "192.0.3.7", false),
            ("localhost,*.example.com", "127.0.0.1", false),
            ("2001:db8::/32", "2001:db8:1::5", true),
        ];
        for (list, peer, want) in cases {
            let addresses = Addresses::parse(list, false).unwrap();
            assert_eq!(addresses.contain(peer.parse().unwrap()), want, "{peer} in {list}");
        }
    }

    #[test]
    fn places_are_permitted_one_by_one() {
        let grant = parse(r#"permitopen="db:5432",permitopen="[::1]:*",permitlisten="8080""#).grant;
        assert!(grant.may_open("DB", 5432) && grant.may_open("::1", 1));
        assert!(!grant.may_open("db", 5433) && !grant.may_open("db.example.com", 5432));
        assert!(grant.may_listen("localhost", 8080) && !grant.may_listen("localhost", 8081));
        assert!(!grant.may_open_unix() && !grant.may_listen_unix());
        let grant = parse(r#"permitlisten="localhost:*""#).grant;
        assert!(grant.may_open("any", 1) && grant.may_open_unix());
        assert!(grant.may_listen("localhost", 9) && !grant.may_listen("", 9));
        assert!(!parse("restrict,permitopen=\"*:1\"").grant.may_open("db", 1));
    }

    #[test]
    fn times_are_unix_times() {
        for (text, want) in [
            ("19700101", Some(0)),
            ("20240229Z", Some(1_709_164_800)),
            ("202511252215", Some(1_764_108_900)),
            ("20000301000001Z", Some(951_868_801)),
            ("20230229", None),
            ("2025", None),
            ("20251301", None),
            ("202511252460", None),
        ] {
            assert_eq!(time(text), want, "{text}");
        }
    }

    #[test]
    fn a_touch_is_waived_by_line_and_certificate_together_alone() {
        /// `ssh-keygen -s ca -I x -n root -O no-touch-required key.pub`, OpenSSH 9.2
        const WAIVES: &str = "ssh-ed25519-cert-v01@openssh.com AAAAIHNzaC1lZDI1NTE5LWNlcnQtdjAxQG9wZW5zc2guY29tAAAAIFERBCSuagjf6e6/sgUHdaZkdZ1QV5+mg3MCW3AplierAAAAIIm0uC8Xhq+PqYN5/y48w3MR/5fnyuK0iWwrHNL8YS8kAAAAAAAAAAAAAAABAAAAAXgAAAAIAAAABHJvb3QAAAAAAAAAAP//////////AAAAAAAAAJsAAAARbm8tdG91Y2gtcmVxdWlyZWQAAAAAAAAAFXBlcm1pdC1YMTEtZm9yd2FyZGluZwAAAAAAAAAXcGVybWl0LWFnZW50LWZvcndhcmRpbmcAAAAAAAAAFnBlcm1pdC1wb3J0LWZvcndhcmRpbmcAAAAAAAAACnBlcm1pdC1wdHkAAAAAAAAADnBlcm1pdC11c2VyLXJjAAAAAAAAAAAAAAAzAAAAC3NzaC1lZDI1NTE5AAAAIJgoHn5HsvpM0w3yML+IoKC4MZdObDuksAatPIJYwnQ9AAAAUwAAAAtzc2gtZWQyNTUxOQAAAECPRsHf4uC8Y4x/HNOOnu6j7rzajAJayoE2Ysr6NapQJ3uxWY7tbqBvRt0PUGjuz3B0INwV/TSneOLomdWms2cO";
        let certificate = Certificate::from_openssh(WAIVES).unwrap();
        let peer = "192.0.2.1".parse().unwrap();
        for (line, want) in [("cert-authority", true), ("cert-authority,no-touch-required", false)] {
            let options = parse(line).certified(&certificate, "root", peer).unwrap();
            assert_eq!(options.touch.present, want, "{line}");
        }
    }

    #[test]
    fn patterns_are_those_of_ssh_config() {
        for (pattern, text, want) in [
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abcb", false),
            ("*a*a*a*b", &"a".repeat(200), false),
            ("?", "", false),
            ("ABC", "abc", true),
        ] {
            assert_eq!(matches(pattern, text), want, "{pattern} {text}");
        }
    }
}
