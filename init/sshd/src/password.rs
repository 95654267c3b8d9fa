//! Passwords: the one-time password of a boot, and crypt(3) hashes.

use crate::settings::Settings;
use contract::password::{self, MOST_MEMORY, Method};
use rustix::fs::FlockOperation;
use sha_crypt::PasswordVerifier;
use std::fs::File;
use std::io;

/// Random bytes of a one-time password.
pub const ENTROPY: usize = 10;

/// A one-time password: 80 bits, more than six words of a list for dice have (77), as five proquints
/// (arXiv:0901.4016), five letters for sixteen bits, alternating consonants and vowels, so that it can be read aloud and typed from a console that is
/// seen through a BMC. No letter looks like a digit.
pub fn one_time(random: [u8; ENTROPY]) -> String {
    const CONSONANTS: &[u8; 16] = b"bdfghjklmnprstvz";
    const VOWELS: &[u8; 4] = b"aiou";
    let words = random.as_chunks::<2>().0.iter().map(|pair| {
        let bits = usize::from(u16::from_be_bytes(*pair));
        [
            CONSONANTS[bits >> 12],
            VOWELS[bits >> 10 & 3],
            CONSONANTS[bits >> 6 & 15],
            VOWELS[bits >> 4 & 3],
            CONSONANTS[bits & 15],
        ]
        .map(char::from)
        .iter()
        .collect::<String>()
    });
    words.collect::<Vec<_>>().join("-")
}

/// A hash whose method we know and that can be parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hash {
    text: String,
    method: Method,
}

impl Hash {
    /// The error says what is wrong without repeating the hash.
    pub fn parse(text: &str) -> Result<Hash, String> {
        let (method, first) = password::method(text)?;
        if method == Method::Yescrypt {
            let parameters: yescrypt::Params =
                first.parse().map_err(|_| "has parameters of yescrypt that are not known".to_string())?;
            if memory(&parameters) > MOST_MEMORY {
                return Err(format!("takes more than {} MiB of memory to compare with", MOST_MEMORY >> 20));
            }
        }
        Ok(Hash { text: text.to_string(), method })
    }

    pub fn matches(&self, password: &str) -> bool {
        if password.is_empty() {
            return false;
        }
        match self.method {
            Method::Sha => sha_crypt::ShaCrypt::default()
                .verify_password(password.as_bytes(), self.text.as_str())
                .is_ok(),
            Method::Yescrypt => {
                yescrypt::Yescrypt::default().verify_password(password.as_bytes(), self.text.as_str()).is_ok()
            }
        }
    }
}

/// Waits until no other password is compared with a hash, and keeps it so for as long as the file is open: each takes up to
/// [`MOST_MEMORY`] and a processor.
pub fn alone(settings: &Settings) -> io::Result<File> {
    // A file that is always there.
    let file = File::open(settings.path(contract::paths::HOST_KEY))?;
    rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
    Ok(file)
}

/// In bytes: V and B of scrypt (RFC 7914, section 6), and the S-boxes of yescrypt, which have 12 KiB for each lane.
fn memory(parameters: &yescrypt::Params) -> u64 {
    let (n, r, p) = (parameters.n(), u64::from(parameters.r()), u64::from(parameters.p()));
    let blocks = n.saturating_add(p).saturating_mul(r.saturating_mul(128));
    blocks.saturating_add(p.saturating_mul(12 << 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_one_time_password_is_five_pronounceable_words() {
        assert_eq!(one_time([127, 0, 0, 1, 63, 84, 220, 193, 0, 0]), "lusab-babad-gutih-tugad-babab");
        assert_eq!(one_time([0xff; ENTROPY]), "zuzuz-zuzuz-zuzuz-zuzuz-zuzuz");
    }

    #[test]
    fn a_one_time_password_is_worth_six_words_of_dice() {
        let dice = 6.0 * f64::from(7776).log2();
        assert!(8.0 * ENTROPY as f64 >= dice);
        // Each bit of it makes another password.
        let mut seen = std::collections::HashSet::from([one_time([0; ENTROPY])]);
        for bit in 0..8 * ENTROPY {
            let mut random = [0; ENTROPY];
            random[bit / 8] = 1 << (bit % 8);
            assert!(seen.insert(one_time(random)), "bit {bit}");
        }
    }

    /// Test vectors of Drepper's SHA-crypt.txt, and of yescrypt's TESTS-OK.
    const HASHES: &[(&str, &str)] = &[
        (
            "Hello world!",
            "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
        ),
        (
            "Hello world!",
            "$6$rounds=10000$saltstringsaltst$OW1/O6BYHV6BcXZu8QVeXbDWra3Oeqh0sbHbbMCVNSnCM/UrjmM0Dp8vOuZeHBy/YTBmSK6H9qs/y3RnOaw5v.",
        ),
        ("Hello world!", "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"),
        ("pleaseletmein", "$y$j1../$LdJMENpBABJJ3hIHjB1Bi.$L8OQFc8mxJPd7CpUFgkS7KqJM2I9jGXu3BdqX2D.647"),
    ];

    #[test]
    fn hashes_of_crypt_are_verified() {
        for (password, hash) in HASHES {
            let parsed = Hash::parse(hash).unwrap();
            assert!(parsed.matches(password), "{hash}");
            assert!(!parsed.matches("wrong"), "{hash}");
            assert!(!parsed.matches(""), "{hash}");
        }
    }

    #[test]
    fn what_is_not_a_hash_is_refused_and_not_repeated() {
        for bad in
            ["", "secret", "$1$salt$hash", "$6$", "$6$salt", "$6$salt$", "$6$rounds=5000$salt", "$y$j9T$x"]
        {
            let error = Hash::parse(bad).unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    /// The takeover hands on a hash by the contract's rule, before there is an sshd to ask.
    #[test]
    fn what_the_contract_says_opens_is_what_is_taken_here() {
        const DIGITS: &[u8] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let agree = |text: &str| {
            let (said, taken) = (password::opens(text), Hash::parse(text));
            assert_eq!(said.is_ok(), taken.is_ok(), "{text}: {said:?} {taken:?}");
            taken.is_ok()
        };
        for (_, hash) in &HASHES[..3] {
            assert!(agree(hash), "{hash}");
        }
        for bad in [
            "",
            "secret",
            "$1$s$h",
            "$2b$05$x",
            "$gy$j9T$s$h",
            "$6$",
            "$6$s",
            "$6$s$",
            "$5$rounds=5000$s",
            "$y$j9T$s",
            "$y$$s$h",
            "$y$j$s$h",
            "$y$!!!$s$h",
        ] {
            assert!(!agree(bad), "{bad}");
        }
        // What crypt_gensalt(3) writes, of every cost, and what is near it.
        let mut taken = 0;
        for (n, r) in DIGITS[..48].iter().flat_map(|n| DIGITS[..48].iter().map(move |r| (*n, *r))) {
            taken += usize::from(agree(&format!("$y$j{}{}$salt$hash", char::from(n), char::from(r))));
        }
        assert!(taken > 100, "{taken}");
        // Longer forms open there and are not counted before.
        for more in [HASHES[3].1, "$y$j9T./$s$h"] {
            assert_eq!((password::opens(more).is_ok(), Hash::parse(more).is_ok()), (false, true), "{more}");
        }
    }

    #[test]
    fn a_hash_that_takes_more_memory_than_a_login_may_is_refused() {
        let hash = |parameters: &str| Hash::parse(&format!("$y${parameters}$salt$hash"));
        // `crypt_gensalt` of libxcrypt 4.4 with "$y$" and the counts 1, 5, 8, 9 and 11, 2026-11-27.
        for (parameters, fits) in
            [("j75", true), ("j9T", true), ("jCT", true), ("jDT", false), ("jFT", false)]
        {
            assert_eq!(hash(parameters).is_ok(), fits, "{parameters}: {:?}", hash(parameters));
        }
        // Many lanes, a number of blocks that no machine has, and no parameters at all.
        for parameters in ["j9T.wzzz", "jzT", "!", "j"] {
            assert!(hash(parameters).is_err(), "{parameters}");
        }
    }
}
