//! Text that leaves the machine (a capture) without the values of parameters and options that hold secrets. What
//! looks like a secret is taken for one.

use crate::cmdline::words;
use crate::params::PARAMS;

/// What stands in their place.
pub const GONE: &str = "REDACTED";
/// In names of parameters that are not ours: `rd.iscsi.password`, `apikey`, `auth_token`.
const SECRET: &[&str] = &["auth", "cred", "hash", "key", "pass", "psk", "pwd", "secret", "token"];
/// Names that only look so.
const PUBLIC: &[&str] = &["keymap", "keyboard", "hashdist", "hash_entries"];

/// The kernel's command line, one blank between words.
pub fn command_line(line: &str) -> String {
    let word = |word: crate::cmdline::Word| match word.value {
        None => word.name,
        Some(value) => {
            let value = value_of(&word.name, &value);
            if value.contains(char::is_whitespace) {
                format!("{}=\"{value}\"", word.name)
            } else {
                format!("{}={value}", word.name)
            }
        }
    };
    words(line).into_iter().map(word).collect::<Vec<_>>().join(" ")
}

/// `name=value` wherever it stands in a text: mount options, a command that was typed.
pub fn text(text: &str) -> String {
    let is_end = |c: char| c.is_whitespace() || matches!(c, ',' | ';' | '"' | '\'');
    let mut out = String::with_capacity(text.len());
    for piece in text.split_inclusive(is_end) {
        let word = piece.trim_end_matches(is_end);
        match word.split_once('=') {
            Some((name, value)) => {
                out.push_str(name);
                out.push('=');
                out.push_str(&value_of(name, value));
            }
            None => out.push_str(&without_login(word)),
        }
        out.push_str(&piece[word.len()..]);
    }
    out
}

fn value_of(name: &str, value: &str) -> String {
    if !value.is_empty() && is_secret(name) { GONE.to_string() } else { without_login(value) }
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    match PARAMS.iter().find(|param| param.name == name) {
        // Its value names a person.
        Some(param) => param.secret || param.name == "ssh_key",
        None => {
            SECRET.iter().any(|word| name.contains(word)) && !PUBLIC.iter().any(|word| name.contains(word))
        }
    }
}

/// `https://me:word@host/x?token=y` and `iscsi:me:word@host` without who logs in, and without the query.
fn without_login(value: &str) -> String {
    let start = value.find("://").map_or(0, |at| at + "://".len());
    let (scheme, rest) = value.split_at(start);
    let (place, query) = match rest.split_once('?') {
        Some((place, _)) if start > 0 => (place, "?REDACTED"),
        _ => (rest, ""),
    };
    let host = place.find('/').unwrap_or(place.len());
    match place[..host].rfind('@') {
        Some(at) if start > 0 || place[..at].contains(':') => {
            format!("{scheme}{GONE}{}{query}", &place[at..])
        }
        _ => format!("{scheme}{place}{query}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_that_may_be_a_secret_is_left_on_a_command_line() {
        let line = "quiet ssh_key=\"ssh-ed25519 AAAA me@home\" rescue.password_hash=$6$x root=/dev/sda1 \
            rd.iscsi.password=w0rd ip=dhcp vconsole.keymap=de ssh_key= netroot=iscsi:me:w0rd@10.0.0.1::: \
            ds=nocloud;s=https://me:w0rd@host/a?token=w0rd \"x=a b\" fetch=https://host/file?sig=w0rd mail=me@host";
        let got = command_line(line);
        assert_eq!(
            got,
            "quiet ssh_key=REDACTED rescue.password_hash=REDACTED root=/dev/sda1 \
            rd.iscsi.password=REDACTED ip=dhcp vconsole.keymap=de ssh_key= netroot=REDACTED@10.0.0.1::: \
            ds=nocloud;s=https://REDACTED@host/a?REDACTED x=\"a b\" fetch=https://host/file?REDACTED mail=me@host"
        );
    }

    #[test]
    fn options_and_commands_keep_everything_else() {
        for (given, want) in [
            (
                "40 22 0:45 / /mnt rw,relatime - cifs //nas/x rw,username=me,password=w0rd,vers=3\n",
                "40 22 0:45 / /mnt rw,relatime - cifs //nas/x rw,username=me,password=REDACTED,vers=3\n",
            ),
            (
                "{\"by\":\"mount -o passwd=w0rd /dev/sda1\"}",
                "{\"by\":\"mount -o passwd=REDACTED /dev/sda1\"}",
            ),
            (
                "36 35 8:1 / /a\\040b rw - ext4 /dev/sda1 rw\n\n",
                "36 35 8:1 / /a\\040b rw - ext4 /dev/sda1 rw\n\n",
            ),
            ("fuse https://me:w0rd@dav/x", "fuse https://REDACTED@dav/x"),
        ] {
            assert_eq!(text(given), want);
        }
    }
}
