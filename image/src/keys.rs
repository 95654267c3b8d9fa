//! Public keys as a person hands them over: the `.pub` that ssh-keygen wrote, or an authorized_keys (sshd(8), AUTHORIZED_KEYS
//! FILE FORMAT). Everything of the build that takes a key reads it here, before it is packed or sent anywhere: a line that is
//! no key would be named on a console far away, and a private key would be public by then. So no line is repeated in an error.

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use contract::authorized_keys::{self, TYPES};
use std::fs;
use std::path::Path;

/// FIPS 186-5 has it no more: named by itself, since old files have such keys.
const DSA: &str = "ssh-dss";

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Empty where none are said.
    pub options: String,
    kind: String,
    base64: String,
    comment: String,
}

impl Key {
    /// Type and base64, as a program is given it.
    pub fn two_fields(&self) -> String {
        format!("{} {}", self.kind, self.base64)
    }

    /// As authorized_keys has it.
    pub fn line(&self) -> String {
        let fields = [&self.options, &self.kind, &self.base64, &self.comment].map(String::as_str);
        fields.into_iter().filter(|field| !field.is_empty()).collect::<Vec<_>>().join(" ")
    }

    /// The value of `ssh_key=` on a command line, for boot loaders that know no quotes: commas for the blanks. A comment that a
    /// boot loader's shell could read as more than a word is left out. None where the key has options: their commas are theirs.
    pub fn value(&self) -> Option<String> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "@._+-:/= ".contains(c);
        let comment =
            Some(self.comment.as_str()).filter(|text| !text.is_empty() && text.chars().all(is_plain));
        let fields = [Some(self.kind.as_str()), Some(&self.base64), comment];
        let words: Vec<&str> = fields.into_iter().flatten().flat_map(str::split_whitespace).collect();
        self.options.is_empty().then(|| words.join(","))
    }
}

/// The keys of a file, at least one.
pub fn read(path: &Path) -> Result<Vec<Key>> {
    of(path, &fs::read(path).with_context(|| format!("read {}", path.display()))?)
}

/// Those of what was read from there.
pub fn of(path: &Path, bytes: &[u8]) -> Result<Vec<Key>> {
    // A comment may be of any bytes.
    let text = String::from_utf8_lossy(bytes);
    ensure!(
        !text.contains("PRIVATE KEY") && !text.starts_with("PuTTY-User-Key-File"),
        "{0} is a private key: name the public one beside it, {0}.pub",
        path.display()
    );
    let keys = parse(&text).with_context(|| format!("read public keys of {}", path.display()))?;
    ensure!(!keys.is_empty(), "{} holds no public key", path.display());
    Ok(keys)
}

/// The first key without options, for a place that takes one and has no room for them.
pub fn plain(path: &Path) -> Result<Key> {
    let first = read(path)?.into_iter().find(|key| key.options.is_empty());
    first.with_context(|| {
        format!(
            "{}: each key has options, which no command line has room for: KEYS of `make identity` takes them",
            path.display()
        )
    })
}

/// Blank lines and comments are passed over. Editors of Windows put a byte order mark before it all.
pub fn parse(text: &str) -> Result<Vec<Key>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text.lines().map(str::trim).enumerate();
    lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(index, line)| key(line).with_context(|| format!("line {}", index + 1)))
        .collect()
}

fn key(line: &str) -> Result<Key> {
    let (options, rest) = match TYPES.contains(&first_word(line)) || first_word(line) == DSA {
        true => ("", line),
        false => authorized_keys::after_options(line).context("not a public key")?,
    };
    let mut fields = rest.split_ascii_whitespace();
    let kind = fields.next().unwrap_or_default();
    ensure!(kind != DSA, "a DSA key, which a rescue does not take");
    ensure!(TYPES.contains(&kind), "not a public key");
    let base64 = fields.next().context("a type without a key")?;
    let Ok(bytes) = STANDARD.decode(base64) else { bail!("its key is cut off, or is not base64") };
    // RFC 4253 section 6.6: the type once more, behind its length.
    ensure!(
        authorized_keys::field(&mut bytes.as_slice()) == Some(kind.as_bytes()),
        "its key is of another type than it says"
    );
    let comment = fields.collect::<Vec<_>>().join(" ");
    Ok(Key { options: options.into(), kind: kind.into(), base64: base64.into(), comment })
}

fn first_word(line: &str) -> &str {
    line.split_ascii_whitespace().next().unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// `ssh-keygen -t ed25519`, OpenSSH 9.2
    pub(crate) const ED25519: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHmDG8O1bWYxNZGdJOEEVLrFJbSCn3bQdQ1QwWh6MTpn";
    /// Of RFC 4253's form, with a key of nothing.
    const RSA: &str = "ssh-rsa AAAAB3NzaC1yc2E=";

    #[test]
    fn each_line_is_a_key_a_comment_or_nothing() {
        let text = format!(
            "\u{feff}# mine\r\n\r\n  {ED25519} me at home\r\nfrom=\"192.0.2.0/24, ::1\",command=\"a \\\" b\" {RSA}\n\
             no-pty\t{ED25519}\n"
        );
        let keys = parse(&text).unwrap();
        let lines: Vec<String> = keys.iter().map(Key::line).collect();
        assert_eq!(
            lines,
            [
                format!("{ED25519} me at home"),
                format!("from=\"192.0.2.0/24, ::1\",command=\"a \\\" b\" {RSA}"),
                format!("no-pty {ED25519}"),
            ]
        );
        assert_eq!(keys[0].two_fields(), ED25519);
    }

    #[test]
    fn what_is_no_key_is_refused_and_not_repeated() {
        let cut = &ED25519[..ED25519.len() - 2];
        let other = ED25519.replacen("ssh-ed25519", "ssh-rsa", 1);
        for (line, reason) in [
            ("two words", "not a public key"),
            ("hunter2", "not a public key"),
            ("no-pty hunter2 ssh-ed25519", "not a public key"),
            ("ssh-ed25519", "without a key"),
            ("ssh-dss AAAAB3NzaC1kc3M=", "DSA"),
            (cut, "cut off"),
            (other.as_str(), "another type"),
        ] {
            let error = format!("{:#}", parse(&format!("# mine\n{line}\n")).unwrap_err());
            assert!(error.starts_with("line 2: ") && error.contains(reason), "{line}: {error}");
            assert!(!error.contains("hunter2") && !error.contains('\n'), "{line}: {error}");
        }
    }

    #[test]
    fn a_private_key_is_refused_in_one_line_that_names_the_public_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("id");
        for private in [
            "-----BEGIN OPENSSH PRIVATE KEY-----\n",
            "PuTTY-User-Key-File-3: ssh-ed25519\n",
            "# \n-----BEGIN RSA PRIVATE KEY-----\n",
        ] {
            fs::write(&path, private).unwrap();
            let error = format!("{:#}", read(&path).unwrap_err());
            assert!(
                error.contains("private key") && error.contains("id.pub") && !error.contains('\n'),
                "{error}"
            );
        }
        fs::write(&path, "# none yet\n").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("holds no public key"));
    }

    #[test]
    fn where_one_key_has_room_it_is_the_first_without_options() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        fs::write(&path, format!("# mine\nno-pty {RSA} cut\n{ED25519} me\n{RSA}\n")).unwrap();
        assert_eq!(plain(&path).unwrap().line(), format!("{ED25519} me"));
        fs::write(&path, format!("no-pty {ED25519}\n")).unwrap();
        assert!(plain(&path).unwrap_err().to_string().contains("make identity"));
    }

    #[test]
    fn a_command_line_is_given_no_quotes_and_nothing_for_a_shell() {
        let commas = ED25519.replace(' ', ",");
        for (line, want) in [
            (format!("{ED25519} me@home"), Some(format!("{commas},me@home"))),
            (format!("{ED25519} me at home"), Some(format!("{commas},me,at,home"))),
            (format!("{ED25519} it's ${{mine}}"), Some(commas.clone())),
            (format!("{ED25519} a \"b\" || c"), Some(commas.clone())),
            (format!("no-pty {ED25519}"), None),
        ] {
            assert_eq!(key(&line).unwrap().value(), want, "{line}");
        }
    }
}
