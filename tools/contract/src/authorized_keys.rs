//! A line of authorized_keys (sshd(8), AUTHORIZED_KEYS FILE FORMAT), which the build and the takeover look at before the rescue
//! does: where its options end, and whether the rescue's sshd will surely let its owner in. That sshd decides by keys that it
//! has parsed; a test there holds both verdicts together.

use std::ops::RangeInclusive;

/// Types of keys that may log in. DSA's may not.
pub const TYPES: &[&str] = &[
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "sk-ssh-ed25519@openssh.com",
    "ssh-ed25519",
    "ssh-rsa",
];
/// Bits of an RSA key that may log in: fewer are refused, as ssh-audit would have it; of more no signature is verified (the
/// crate rsa, RsaPublicKey::MAX_SIZE).
pub const RSA_BITS: RangeInclusive<u32> = 2048..=8192;
/// Bytes of the longest line that is looked at; an RSA key of 16,384 bits has 2,800.
pub const LONGEST: usize = 8192;

/// Options without a value that leave a shell to the key's owner. One that nobody knows makes sshd refuse the line.
pub const PLAIN: &[&str] = &[
    "agent-forwarding",
    "no-agent-forwarding",
    "no-port-forwarding",
    "no-pty",
    "no-touch-required",
    "no-user-rc",
    "no-verify-required",
    "no-x11-forwarding",
    "port-forwarding",
    "pty",
    "restrict",
    "touch-required",
    "user-rc",
    "verify-required",
    "x11-forwarding",
];
/// Most entries of one list.
pub const MAX_LIST: usize = 256;

/// Whether a line surely lets the key's owner in, to a shell. One with `command=`, `from=`, `expiry-time=` or `cert-authority`
/// may let in nobody, or nobody from here, or not for long, or for one command alone. `decode` is base64's decoder.
pub fn lets_in(line: &str, decode: &dyn Fn(&str) -> Option<Vec<u8>>) -> bool {
    let is_key = |text: &str| TYPES.contains(&first_word(text));
    let (before, key) = match is_key(line) {
        true => (None, line),
        false => match after_options(line) {
            Some((before, key)) => (Some(before), key),
            None => return false,
        },
    };
    let mut words = key.split_whitespace();
    let (kind, blob) = (words.next().unwrap_or_default(), words.next().and_then(decode).unwrap_or_default());
    let is_open = |text| {
        options(text).is_ok_and(|options| options.len() <= MAX_LIST && options.iter().all(leaves_a_shell))
    };
    line.len() <= LONGEST && is_key(key) && is_whole(kind, &blob) && before.is_none_or(is_open)
}

fn first_word(text: &str) -> &str {
    text.split([' ', '\t']).next().unwrap_or_default()
}

fn leaves_a_shell((name, value): &(&str, Option<String>)) -> bool {
    match (name.to_ascii_lowercase().as_str(), value) {
        (name, None) => PLAIN.contains(&name),
        ("environment", Some(value)) => value.contains('='),
        ("permitopen", Some(value)) => place(value, false).is_some(),
        ("permitlisten", Some(value)) => place(value, true).is_some(),
        ("tunnel", Some(_)) => true,
        _ => false,
    }
}

/// Whether the bytes of a key are a whole one of its type that may log in (RFC 4253, section 6.6; RFC 5656, section 3.1;
/// RFC 8709, section 4; PROTOCOL.u2f).
fn is_whole(kind: &str, blob: &[u8]) -> bool {
    let (mut rest, mut fields) = (blob, Vec::new());
    while let Some(field) = field(&mut rest) {
        fields.push(field);
    }
    if !rest.is_empty() || fields.first() != Some(&kind.as_bytes()) {
        return false;
    }
    // An uncompressed point.
    let is_on = |curve: &str, name: &[u8], point: &[u8]| {
        let length = match curve {
            "nistp256" => 65,
            "nistp384" => 97,
            "nistp521" => 133,
            _ => return false,
        };
        name == curve.as_bytes() && point.len() == length && point[0] == 4
    };
    match (kind, &fields[1..]) {
        ("ssh-rsa", [exponent, modulus]) => {
            bits(exponent).is_some() && bits(modulus).is_some_and(|bits| RSA_BITS.contains(&bits))
        }
        ("ssh-ed25519", [key]) | ("sk-ssh-ed25519@openssh.com", [key, _]) => key.len() == 32,
        ("sk-ecdsa-sha2-nistp256@openssh.com", [name, point, _]) => is_on("nistp256", name, point),
        (kind, [name, point]) => {
            kind.strip_prefix("ecdsa-sha2-").is_some_and(|curve| is_on(curve, name, point))
        }
        _ => false,
    }
}

/// The next `string` of RFC 4251, section 5; `rest` is what follows. `None` where there is no whole one.
pub fn field<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, more) = rest.split_first_chunk()?;
    let (field, more) = more.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    *rest = more;
    Some(field)
}

/// Bits of a positive `mpint` (RFC 4251, section 5), in whole bytes, as sshd counts them. `None` for another.
pub fn bits(number: &[u8]) -> Option<u32> {
    let digits = match number {
        [0, rest @ ..] => rest.first().is_some_and(|first| *first >= 0x80).then_some(rest),
        _ => number.first().is_some_and(|first| *first < 0x80).then_some(number),
    };
    u32::try_from(digits?.len()).ok()?.checked_mul(8)
}

/// What stands before a key: `NAME` and `NAME="VALUE"`, separated by commas. In a value, `\"` is a double quote. The error
/// completes "LINE: ".
pub fn options(text: &str) -> Result<Vec<(&str, Option<String>)>, &'static str> {
    let mut options = Vec::new();
    let mut rest = text;
    loop {
        let end = rest.find([',', '=']).unwrap_or(rest.len());
        let name = &rest[..end];
        if name.is_empty() {
            return Err("has options that cannot be read");
        }
        rest = &rest[end..];
        let mut value = None;
        if let Some(quoted) = rest.strip_prefix("=\"") {
            let (text, length) = unquote(quoted).ok_or("has an option whose quotes do not end")?;
            value = Some(text);
            rest = &quoted[length..];
        } else if rest.starts_with('=') {
            return Err("has an option whose value is not in double quotes");
        }
        options.push((name, value));
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None if rest.is_empty() => return Ok(options),
            None => return Err("has options that cannot be read"),
        }
    }
}

/// The text before the closing quote, and where what follows it begins.
fn unquote(text: &str) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut characters = text.char_indices().peekable();
    while let Some((index, c)) = characters.next() {
        match c {
            '\\' if characters.peek().is_some_and(|(_, next)| *next == '"') => {
                value.push('"');
                characters.next();
            }
            '"' => return Some((value, index + 1)),
            other => value.push(other),
        }
    }
    None
}

/// A host and a port, or any port: `HOST:PORT`, `[ADDRESS]:PORT`; for listening, `PORT` alone as well, on any host.
pub fn place(text: &str, bare: bool) -> Option<(&str, Option<u16>)> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, port),
        None if bare => ("*", text),
        None => return None,
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port = if port == "*" { None } else { Some(port.parse().ok().filter(|port| *port != 0)?) };
    (!host.is_empty()).then_some((host, port))
}

/// The options and what follows: they end at the first blank outside of double quotes. As in OpenSSH, a backslash is one of
/// them unless a quote follows. `None` where nothing follows.
pub fn after_options(line: &str) -> Option<(&str, &str)> {
    let (mut quoted, mut escapes) = (false, false);
    for (index, c) in line.char_indices() {
        let escaped = std::mem::replace(&mut escapes, c == '\\');
        match c {
            '"' if escaped => {}
            '"' => quoted = !quoted,
            ' ' | '\t' if !quoted => return Some((&line[..index], line[index..].trim_start())),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_cut_anywhere_or_with_more_behind_it_is_none() {
        let string = |bytes: &[u8]| [&u32::to_be_bytes(bytes.len() as u32), bytes].concat();
        let blob = [string(b"ssh-ed25519"), string(&[7; 32])].concat();
        let lets_in = |blob: &[u8]| lets_in("ssh-ed25519 AAAA me", &|_| Some(blob.to_vec()));
        assert!(lets_in(&blob));
        for cut in 0..blob.len() {
            assert!(!lets_in(&blob[..cut]), "{cut}");
        }
        assert!(!lets_in(&[&blob[..], &[0]].concat()));
        assert!(!lets_in(&[&blob[..], &string(b"x")].concat()));
    }

    #[test]
    fn options_are_sorted_and_said_once() {
        for list in [TYPES, PLAIN] {
            assert!(list.is_sorted_by(|one, next| one < next), "{list:?}");
        }
    }
}
