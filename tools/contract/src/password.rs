//! PASSWORD: how a one-time password is compared, and what a console and sshd's role `password` say to each other. The role
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
