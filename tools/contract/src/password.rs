//! PASSWORD: how a one-time password is compared, which hashes of crypt(3) are, and what a console and sshd's role `password` say to each other. The role
//! says in a line what opens the door; where that is a hash, it reads what was typed until its input ends, and says in a second
//! line whether that is it.

/// The role of sshd, as its first argument.
pub const ROLE: &str = "password";
/// The second line.
pub const RIGHT: &str = "right";
pub const WRONG: &str = "wrong";
/// Most bytes of what was typed that are looked at: a console takes fewer.
pub const LONGEST: usize = 1024;

/// What opens the door to somebody who has no key with him.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opens {
    /// Nothing: a key was given.
    Nothing,
    /// The random password of this boot, in [`crate::paths::PASSWORD`] as soon as it is made.
    OneTime,
    /// What has this hash: of `rescue.password_hash=`, or from Ironic.
    Hash,
}

impl Opens {
    const ALL: [Opens; 3] = [Opens::Nothing, Opens::OneTime, Opens::Hash];

    /// The first line.
    pub fn word(self) -> &'static str {
        match self {
            Opens::Nothing => "nothing",
            Opens::OneTime => "one-time",
            Opens::Hash => "hash",
        }
    }

    pub fn parse(word: &str) -> Option<Opens> {
        Opens::ALL.into_iter().find(|opens| opens.word() == word)
    }
}

/// Compares in a time that depends on the lengths only. The hyphens, capitals and blanks that
/// people leave out, type or paste make no difference.
pub fn matches_one_time(typed: &str, expected: &str) -> bool {
    let letters = |text: &str| -> Vec<u8> {
        text.bytes()
            .filter(|b| *b != b'-' && !b.is_ascii_whitespace())
            .map(|b| b.to_ascii_lowercase())
            .collect()
    };
    let (typed, expected) = (letters(typed), letters(expected));
    // An empty file would let everybody in.
    if expected.is_empty() || typed.len() != expected.len() {
        return false;
    }
    let difference = typed.iter().zip(&expected).fold(0, |sum, (a, b)| sum | (a ^ b));
    std::hint::black_box(difference) == 0
}

/// Most memory that comparing with a hash may take, in bytes. One of `mkpasswd` takes 16 MiB, and with a cost of 8 instead of 5
/// takes 128.
pub const MOST_MEMORY: u64 = 160 << 20;

/// How a hash is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `$5$`, `$6$`
    Sha,
    /// `$y$`
    Yescrypt,
}

/// The method of a hash that is whole, and its first field: `$6$salt$hash`, `$6$rounds=N$salt$hash`, `$y$parameters$salt$hash`.
/// The error says what is wrong without repeating the hash.
pub fn method(text: &str) -> Result<(Method, &str), &'static str> {
    let method = match text.split('$').nth(1) {
        Some("5" | "6") => Method::Sha,
        Some("y") => Method::Yescrypt,
        _ => return Err("is not a hash of a known kind: it begins with $6$ or $y$"),
    };
    let fields = text.split('$').skip(2).collect::<Vec<_>>();
    let first = fields.first().copied().unwrap_or_default();
    let whole = match method {
        Method::Sha => fields.len() == if first.starts_with("rounds=") { 3 } else { 2 },
        Method::Yescrypt => fields.len() == 3,
    };
    if !whole || fields.iter().any(|field| field.is_empty()) {
        return Err("is cut or damaged: was a $ in it eaten by a shell?");
    }
    Ok((method, first))
}

/// Whether a hash surely opens the rescue, before it is handed on: sshd parses the parameters of yescrypt, and here those count
/// that crypt_gensalt(3) writes. The error is that of [`method`].
pub fn opens(text: &str) -> Result<(), &'static str> {
    match method(text)? {
        (Method::Yescrypt, parameters) if !is_light(parameters) => {
            Err("takes too much memory to compare with, or has parameters that are not known")
        }
        _ => Ok(()),
    }
}

/// `j` for yescrypt as it is, and the logarithm of N and r, each a digit of crypt(3) and at least 1 (yescrypt's
/// decode64_uint32, which takes more digits for 48 and above).
fn is_light(parameters: &str) -> bool {
    const DIGITS: &[u8; 48] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghij";
    let number = |digit: u8| DIGITS.iter().position(|known| *known == digit).map(|at| at as u64 + 1);
    let &[b'j', n, r] = parameters.as_bytes() else { return false };
    let (Some(n), Some(r)) = (number(n), number(r)) else { return false };
    // V and B of scrypt (RFC 7914, section 6), and a lane's S-boxes.
    let memory = (1 << n) * r * 128 + r * 128 + (12 << 10);
    memory <= MOST_MEMORY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_one_time_password_matches_however_it_is_typed() {
        let expected = "lusab-babad-gutih-tugad\n";
        for typed in ["lusab-babad-gutih-tugad", "lusab babad gutih tugad", "LUSABBABADGUTIHTUGAD"] {
            assert!(matches_one_time(typed, expected), "{typed}");
        }
        for typed in ["", "lusab", "lusab-babad-gutih-tugaf", "lusab-babad-gutih-tugad-x"] {
            assert!(!matches_one_time(typed, expected), "{typed}");
        }
        assert!(!matches_one_time("", ""), "an empty file opens nothing");
        assert!(!matches_one_time("-", "\n"));
    }
}
