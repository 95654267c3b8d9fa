//! Passwords: the one-time password of a boot, and crypt(3) hashes.

use sha_crypt::PasswordVerifier;

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

/// A hash whose method we know and that can be parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hash {
    text: String,
    method: Method,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    /// `$5$`, `$6$`
    Sha,
    /// `$y$`
    Yescrypt,
}

impl Hash {
    /// The error says what is wrong without repeating the hash.
    pub fn parse(text: &str) -> Result<Hash, String> {
        let method = match text.split('$').nth(1) {
            Some("5" | "6") => Method::Sha,
            Some("y") => Method::Yescrypt,
            _ => return Err("is not a hash of a known kind: it begins with $6$ or $y$".to_string()),
        };
        // `$6$salt$hash`, `$6$rounds=N$salt$hash`, `$y$parameters$salt$hash`
        let fields = text.split('$').skip(2).collect::<Vec<_>>();
        let whole = match method {
            Method::Sha => fields.len() == if fields[0].starts_with("rounds=") { 3 } else { 2 },
            Method::Yescrypt => fields.len() == 3,
        };
        if !whole || fields.iter().any(|field| field.is_empty()) {
            return Err("is cut or damaged: was a $ in it eaten by a shell?".to_string());
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
}
