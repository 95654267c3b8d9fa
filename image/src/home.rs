//! `KEY=~/.ssh/id.pub`, of which no shell but bash makes a path where it is a word of `make`: done here, for every argument.
//! Before `make serve` becomes root, too, whose home is another.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

/// Of this program, without its name.
pub fn arguments() -> impl Iterator<Item = OsString> {
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
    std::env::args_os().skip(1).map(move |argument| expanded(argument, home.as_deref()))
}

/// With the home for a `~` before a `/`; without a home as it is.
pub fn expanded(path: OsString, home: Option<&OsStr>) -> OsString {
    match (path.as_bytes().strip_prefix(b"~/"), home) {
        (Some(rest), Some(home)) => OsString::from_vec([home.as_bytes(), b"/", rest].concat()),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tilde_before_a_slash_is_the_home() {
        for (path, home, want) in [
            ("~/.ssh/id.pub", Some("/home/me"), "/home/me/.ssh/id.pub"),
            ("~/.ssh/id.pub", None, "~/.ssh/id.pub"),
            ("~other/id.pub", Some("/home/me"), "~other/id.pub"),
            ("a~/b", Some("/home/me"), "a~/b"),
            ("--key", Some("/home/me"), "--key"),
        ] {
            assert_eq!(expanded(path.into(), home.map(OsStr::new)), OsStr::new(want), "{path}");
        }
    }
}
