//! PASSWORD: what a console and sshd's role `password` say to each other. The role says in a line what opens the door; where
//! that is a hash, it reads what was typed until its input ends, and says in a second line whether that is it.

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
