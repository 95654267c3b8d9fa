//! Public keys that may log in: the lines of authorized_keys (sshd(8), AUTHORIZED_KEYS FILE FORMAT)
//! and the values of `ssh_key=`.
//!
//! A line with an option that is not understood is refused and named, since most options take
//! something away from whoever holds the key.

use crate::options::Options;
use contract::authorized_keys::{LONGEST, RSA_BITS};
use contract::text::Untrusted;
use russh::keys::ssh_key::public::KeyData;
use russh::keys::ssh_key::{Algorithm, HashAlg, PublicKey};

/// Characters of a comment that are shown; an event has 1 KiB.
const MAX_COMMENT: usize = 64;
/// Problems named of one place, which may be a file of anything.
const MAX_PROBLEMS: usize = 10;

#[derive(Clone, Debug, PartialEq)]
pub struct Authorized {
    pub key: PublicKey,
    /// `boot parameter ssh_key`, `/root/.ssh/authorized_keys line 3`
    pub source: String,
    pub options: Options,
}

impl std::fmt::Display for Authorized {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = if self.options.authority { "certificates by key" } else { "key" };
        write!(f, "{what} {}", self.key.fingerprint(HashAlg::Sha256))?;
        let comment = self.key.comment().as_str_lossy();
        if !comment.is_empty() {
            let short: String = comment.chars().take(MAX_COMMENT).collect();
            write!(f, " ({})", Untrusted(&short))?;
        }
        write!(f, " from {}", self.source)
    }
}

/// What was found in one place: keys, and what was refused and why.
#[derive(Debug, Default, PartialEq)]
pub struct Found {
    pub keys: Vec<Authorized>,
    /// What stands in lines that were refused: a later place must not give it what its options here were to take away.
    pub refused: Vec<KeyData>,
    pub problems: Vec<String>,
}

impl Found {
    /// What came of the line or value `text`.
    fn add(&mut self, text: &str, result: Result<(PublicKey, Options), String>, source: String) {
        match result {
            Ok((key, options)) => self.keys.push(Authorized { key, source, options }),
            Err(reason) => {
                self.refused.extend(named(text));
                // The first ones say enough.
                if self.problems.len() < MAX_PROBLEMS {
                    self.problems.push(format!("{source}: {reason}"));
                }
            }
        }
    }

    /// Of a key that is there already, the earlier place's lines count alone, refused ones too: places come in the
    /// order of their precedence. Lines of one place count together, as in OpenSSH, which tries each on its own.
    pub fn append(&mut self, other: Found) {
        let accepted = self.keys.iter().map(|known| known.key.key_data());
        let known: Vec<KeyData> = accepted.chain(&self.refused).cloned().collect();
        self.keys.extend(other.keys.into_iter().filter(|new| !known.contains(new.key.key_data())));
        self.refused.extend(other.refused);
        self.problems.extend(other.problems);
    }
}

/// A whole authorized_keys file. Editors of Windows put a byte order mark before it.
pub fn file(name: &str, text: &str) -> Found {
    let mut found = Found::default();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if !line.is_empty() && !line.starts_with('#') {
            found.add(line, self::line(line), format!("{name} line {}", index + 1));
        }
    }
    found
}

/// Keys of one place that are no file's lines.
pub fn list(name: &str, lines: &[String]) -> Found {
    let mut found = Found::default();
    for (index, line) in lines.iter().enumerate() {
        let source = if lines.len() == 1 { name.to_string() } else { format!("{name}, key {}", index + 1) };
        found.add(line, self::line(line.trim()), source);
    }
    found
}

/// The values of `ssh_key=` that are no URL.
pub fn parameters<'a>(values: impl Iterator<Item = &'a str>) -> Found {
    let mut found = Found::default();
    for value in values {
        found.add(value, parameter(value), "boot parameter ssh_key".to_string());
    }
    found
}

/// Commas stand for blanks where the value has none, for boot loaders that cannot quote.
fn parameter(value: &str) -> Result<(PublicKey, Options), String> {
    let value = value.trim();
    if value.is_empty() {
        return Err("is empty: give a public key, such as ssh_key=ssh-ed25519,AAAA...,me".to_string());
    }
    if value.contains(char::is_whitespace) { line(value) } else { line(&value.replacen(',', " ", 2)) }
}

fn line(line: &str) -> Result<(PublicKey, Options), String> {
    if line.len() > LONGEST {
        return Err("is too long for a public key".to_string());
    }
    if is_key_type(first_word(line)) {
        return Ok((plain(line)?, Options::default()));
    }
    match contract::authorized_keys::after_options(line) {
        Some((options, rest)) if is_key_type(first_word(rest)) => {
            // The key first: a line that is none is better named so.
            let key = plain(rest)?;
            Ok((key, Options::parse(options)?))
        }
        _ => Err("is not a public key".to_string()),
    }
}

/// The keys in a line that was refused, wherever they stand: a blank between two options, or a quote that does not end,
/// hides where the options do.
fn named(line: &str) -> Vec<KeyData> {
    let is_between = |c: char| c.is_whitespace() || matches!(c, ',' | '"');
    let words: Vec<&str> = line.split(is_between).filter(|word| !word.is_empty()).collect();
    let pairs = words.windows(2).filter(|pair| is_key_type(pair[0]));
    let keys = pairs.filter_map(|pair| PublicKey::from_openssh(&pair.join(" ")).ok());
    keys.map(|key| key.key_data().clone()).collect()
}

fn first_word(line: &str) -> &str {
    line.split([' ', '\t']).next().unwrap_or("")
}

fn is_key_type(word: &str) -> bool {
    ["ssh-", "ecdsa-", "sk-"].iter().any(|prefix| word.starts_with(prefix))
}

fn plain(line: &str) -> Result<PublicKey, String> {
    // Nothing of the line is repeated: somebody may have put a private key there.
    let single = line.split_whitespace().collect::<Vec<_>>().join(" ");
    let key = PublicKey::from_openssh(&single).map_err(|_| "is not a public key".to_string())?;
    match key.algorithm() {
        Algorithm::Ed25519
        | Algorithm::Ecdsa { .. }
        | Algorithm::SkEd25519
        | Algorithm::SkEcdsaSha2NistP256 => Ok(key),
        Algorithm::Rsa { .. } => {
            let bits = key.key_data().rsa().map_or(0, |rsa| rsa.key_size());
            if bits < *RSA_BITS.start() {
                return Err(format!("is an RSA key of {bits} bits: it needs {}", RSA_BITS.start()));
            }
            if bits > *RSA_BITS.end() {
                return Err(format!("is an RSA key of {bits} bits: it may have {}", RSA_BITS.end()));
            }
            Ok(key)
        }
        other => Err(format!("is a key of type {}, which is not accepted", other.as_str())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    const ED25519: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHmDG8O1bWYxNZGdJOEEVLrFJbSCn3bQdQ1QwWh6MTpn";
    /// `ssh-keygen -t ecdsa`, OpenSSH 9.2
    const ECDSA: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBMJsVWa8JvO8IwLAih/OSAOiIKkov3VSuH/08NpO9Rm0MVqxM3kHmz29+CFUwgNJEz+cTOYDXCVTILtF+rudRGQ=";
    /// `ssh-keygen -t rsa -b 2048` and `-b 1024`, OpenSSH 9.2
    const RSA_2048: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQCuxxaYFd43qEE2ViKuCrogCql7vdzaCwYpMQh233EOJhn5MfiDwvkixVd1/JcCLnl5OT9RmYdwDAzojyfHZ4teAq1ZN1LaCs7wIE7yKv+p+USVtw6PJqEFdHK16NWC5j8xLUdjN6rYaDDO+oYPJ9CWpLrttECztutnPmhM3EtUN8B7Y8quxnFUISl/FtmJEn0cdZpqMsOKqY0aAuYxzx31oG8A+W3BDZX7mbtZm5AzhwEkp3WtKe6uU8qohzYB5mj0/+d95ZAlqGGFAMBjWSXd8APDrkDvKksFgJ6QO0T2qZvDWbKPMWxzUhVsZQHRHZMSc2Lsw02wAo+r6deTRyq3";
    const ECDSA_384: &str = "ecdsa-sha2-nistp384 AAAAE2VjZHNhLXNoYTItbmlzdHAzODQAAAAIbmlzdHAzODQAAABhBNQrV0cyQ/4vl3aW/hkowgN1HJ6xxjQDyj7o4rZZllABERvCKJHowydY7s491PeowJChE9qDZ3ILzSLOQCpVG/sAmoJDsZCKnQcAFo03kxhScAUDNqwtorDG/OUSvN9lfA==";
    const ECDSA_521: &str = "ecdsa-sha2-nistp521 AAAAE2VjZHNhLXNoYTItbmlzdHA1MjEAAAAIbmlzdHA1MjEAAACFBAEKr3HLh1uHYZg4N8Z1eeiFSv65DylBODGZ7XzHumW59Fn+gsTI8dgJFKu9qTgzWzhKhRCVIS31G38L6/ah2UpBnwHZE9PjMFewgnrQ3jAvRnvLGxKl/nF8xfCxW7c32SZRnQQiF30CU52+2gqMuepuUN4JArw6d1hHHhfE2T9We04W3A==";
    const RSA_1024: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC4b/rQ5Aknrwas5c/NgPIS1Mo0YyZzCx/yjErrspCOPSjVi0fDcZFC2wjrgvhpUomleTQvZFsosyRl480vcG4wNvd3VyBupfkFkvPJqmcaxJS0UXa9I83I6UzFckNFryW+oLJDrY2n2P6H7LAWR3thtWNTZmNCs/1sBmTi6RI5pw==";

    fn problem(line: &str) -> String {
        file("keys", line).problems.join("; ")
    }

    #[test]
    fn lines_of_every_accepted_kind_are_taken() {
        let text = format!("# mine\n\n  {ED25519}  me@home here \r\n{ECDSA}\n{RSA_2048}\n");
        let found = file("keys", &text);
        assert_eq!(found.problems, [""; 0]);
        let names: Vec<String> = found.keys.iter().map(ToString::to_string).collect();
        assert!(names[0].starts_with("key SHA256:"), "{}", names[0]);
        assert!(names[0].ends_with(" (me@home here) from keys line 3"), "{}", names[0]);
        assert!(names[1].ends_with(" from keys line 4"), "{}", names[1]);
        assert_eq!(names.len(), 3);
    }

    #[test]
    fn options_stand_before_the_key() {
        for text in [
            "restrict",
            "command=\"echo \\\"hi\\\" there\",no-pty",
            "from=\"10.0.0.0/8,::1\"",
            "cert-authority,principals=\"root, admin\"",
            r#"command="echo \\" b \\" c""#,
        ] {
            let found = file("keys", &format!("{text} {ED25519} me"));
            assert_eq!(found.problems, [""; 0], "{text}");
            assert_eq!(found.keys[0].options, Options::parse(text).unwrap(), "{text}");
            assert_eq!(found.keys[0].key.comment().as_str_lossy(), "me", "{text}");
        }
        let got = problem(&format!("frobnicate {ED25519} me"));
        assert_eq!(got, "keys line 1: has an option that is not known, \"frobnicate\": the key is refused");
    }

    #[test]
    fn what_is_no_key_or_too_weak_is_refused() {
        let cases = [
            ("garbage", "is not a public key"),
            ("ssh-ed25519", "is not a public key"),
            ("ssh-ed25519 AAAA", "is not a public key"),
            ("command=\"unfinished ssh-ed25519 AAAA", "is not a public key"),
            ("-----BEGIN OPENSSH PRIVATE KEY-----", "is not a public key"),
            (RSA_1024, "is an RSA key of 1024 bits: it needs 2048"),
        ];
        for (line, want) in cases {
            assert_eq!(problem(line), format!("keys line 1: {want}"), "{line}");
        }
        let long = format!("{ED25519} {}", "x".repeat(LONGEST));
        assert!(problem(&long).contains("too long"));
    }

    /// An RSA key of so many bits, which nobody has the other half of.
    fn rsa(bits: usize) -> String {
        let modulus = [vec![0], vec![0xff; bits / 8]].concat();
        let fields: [&[u8]; 3] = [b"ssh-rsa", &[1, 0, 1], &modulus];
        let blob = fields.map(|field| [&u32::to_be_bytes(field.len() as u32), field].concat()).concat();
        format!("ssh-rsa {}", STANDARD.encode(blob))
    }

    #[test]
    fn an_rsa_key_is_taken_where_its_signatures_can_be_verified() {
        for (bits, taken) in [(2040, false), (2048, true), (8192, true), (8200, false), (16384, false)] {
            assert_eq!(file("keys", &rsa(bits)).keys.len(), usize::from(taken), "{bits}");
        }
    }

    /// The takeover counts the lines that will let somebody in by the contract's rule, before there is an sshd to ask.
    #[test]
    fn what_the_contract_says_lets_in_is_what_is_taken_here() {
        // `ssh-keygen -t ecdsa -b 384` and `-b 521`, OpenSSH 9.2; those in hardware are ED25519's and ECDSA's with an application.
        let sk = |kind: &str, line: &str| {
            let blob = STANDARD.decode(line.split(' ').nth(1).unwrap()).unwrap();
            let (length, rest) = blob.split_first_chunk().unwrap();
            let rest = &rest[u32::from_be_bytes(*length) as usize..];
            let name = [&u32::to_be_bytes(kind.len() as u32), kind.as_bytes()].concat();
            format!("{kind} {}", STANDARD.encode([&name, rest, b"\0\0\0\x04ssh:"].concat()))
        };
        let keys = [
            ED25519.to_string(),
            ECDSA.to_string(),
            ECDSA_384.to_string(),
            ECDSA_521.to_string(),
            RSA_2048.to_string(),
            RSA_1024.to_string(),
            rsa(8192),
            rsa(8200),
            sk("sk-ssh-ed25519@openssh.com", ED25519),
            sk("sk-ecdsa-sha2-nistp256@openssh.com", ECDSA),
            ED25519.replace("ssh-ed25519 ", "ssh-rsa "),
            ED25519[..50].to_string(),
            format!("{ED25519}="),
            "ssh-ed25519".into(),
            "ssh-ed25519 AAAA".into(),
            "ssh-dss AAAAB3NzaC1kc3MAAAAA".into(),
            String::new(),
        ];
        let mut lines: Vec<String> = keys.into_iter().collect();
        let plain = contract::authorized_keys::PLAIN.iter().map(|name| name.to_string());
        let more = [
            "NO-PTY,restrict",
            "frobnicate",
            "pty=\"yes\"",
            "restrict,",
            "a b",
            "environment=\"LANG=C\"",
            "environment=\"LANG\"",
            "permitopen=\"db:1\"",
            "permitopen=\"[::1]:*\"",
            "permitopen=\"db\"",
            "permitlisten=\"8080\"",
            "permitlisten=\"x:0\"",
            "tunnel=\"0\"",
            "tunnel",
            "command=\"true\"",
            "command=\"a \\\" b\"",
            "command=\"unfinished",
            "from=\"192.0.2.0/24\"",
            "expiry-time=\"20990101\"",
            "cert-authority",
        ];
        for options in plain.chain(more.map(str::to_string)) {
            lines.push(format!("{options} {ED25519} me"));
            lines.push(format!("{options}\t{ED25519}"));
        }
        lines.push(format!("{} {ED25519}", vec!["permitopen=\"a:1\""; 257].join(",")));
        lines.push(format!("{ED25519} {}", "x".repeat(LONGEST)));
        let mut seen = [0; 2];
        for line in lines {
            let found = file("keys", &line);
            let is_open = |key: &Authorized| {
                let Options { authority, from, expiry, grant, .. } = &key.options;
                !authority && from.is_none() && expiry.is_none() && grant.command.is_none()
            };
            let taken = found.keys.iter().any(is_open);
            let counted = contract::authorized_keys::lets_in(&line, &|text| STANDARD.decode(text).ok());
            assert_eq!(counted, taken, "{line}: {:?}", found.problems);
            seen[usize::from(taken)] += 1;
        }
        assert!(seen.iter().all(|count| *count > 10), "{seen:?}");
    }

    #[test]
    fn an_editor_of_windows_harms_no_key() {
        let found = file("keys", &format!("\u{feff}{ED25519} me\r\n{ECDSA}\r\n"));
        assert_eq!((found.keys.len(), found.problems), (2, vec![]));
    }

    #[test]
    fn bytes_that_are_no_text_are_a_comment_s_and_no_command_s() {
        let text = |bytes: &[u8]| host::text::text(bytes);
        let found = file("keys", &text(&[ED25519.as_bytes(), b" J\xfcrgen"].concat()));
        assert_eq!((found.keys.len(), found.problems), (1, vec![]));
        let found = file("keys", &text(&[b"command=\"echo \xfc\" ", ED25519.as_bytes()].concat()));
        assert_eq!(
            (found.keys.len(), found.problems),
            (0, vec!["keys line 1: has bytes in its options that are not UTF-8".to_string()])
        );
    }

    #[test]
    fn one_bad_line_hides_no_good_one() {
        let found = file("keys", &format!("garbage\n{ED25519}\nfrobnicate {ED25519}\n"));
        assert_eq!((found.keys.len(), found.problems.len()), (1, 2));
    }

    #[test]
    fn a_key_whose_line_is_refused_does_not_enter_by_a_later_place() {
        let with_commas = format!("from=\"10.0.0.1\",restrict,{}", ED25519.replace(' ', ","));
        let parameter = parameters([with_commas.as_str()].into_iter());
        let listed = list("a list", &[format!("frobnicate {ED25519}")]);
        let mut cases = vec![("a parameter", parameter), ("a list", listed)];
        let options = [
            "frobnicate",
            "from=\"10.0.0.1\",frobnicate",
            "from=\"10.0.0.1\", restrict",
            "command=\"unfinished",
        ];
        for line in options {
            cases.push((line, file("first", &format!("{line} {ED25519} me\n{ECDSA}\n"))));
        }
        let long = format!("command=\"{}\"", "x".repeat(LONGEST));
        cases.push(("too long", file("first", &format!("{long} {ED25519}\n"))));
        for (label, mut found) in cases {
            assert_eq!(found.problems.len(), 1, "{label}: {:?}", found.problems);
            found.append(file("second", &format!("{RSA_2048}\n{ED25519} me\n")));
            let sources: Vec<&str> = found.keys.iter().map(|key| key.source.as_str()).collect();
            assert!(!sources.contains(&"second line 2"), "{label}: {sources:?}");
            assert!(sources.contains(&"second line 1"), "{label}: others do: {sources:?}");
        }
        // Lines of one place are tried each on its own, as in OpenSSH.
        let mut found = file("first", &format!("frobnicate {ED25519}\nno-pty {ED25519}\n"));
        found.append(file("second", ED25519));
        let sources: Vec<&str> = found.keys.iter().map(|key| key.source.as_str()).collect();
        assert_eq!(sources, ["first line 2"]);
    }

    #[test]
    fn a_file_of_anything_is_not_repeated_at_length() {
        let found = file("keys", &format!("{}{ED25519} {}\n", "garbage\n".repeat(10_000), "x".repeat(4000)));
        assert_eq!((found.keys.len(), found.problems.len()), (1, MAX_PROBLEMS));
        assert!(found.keys[0].to_string().len() < 200);
    }

    #[test]
    fn commas_stand_for_blanks_in_a_boot_parameter() {
        let commas = ED25519.replace(' ', ",");
        let with_comment = format!("{commas},me,myself");
        let quoted = format!("{ED25519} me, myself");
        for (label, value, comment) in [
            ("commas", &commas, ""),
            ("comment", &with_comment, "me,myself"),
            ("quoted", &quoted, "me, myself"),
        ] {
            let found = parameters([value.as_str()].into_iter());
            assert_eq!(found.problems, [""; 0], "{label}");
            assert_eq!(found.keys[0].key.comment().as_str_lossy(), comment, "{label}");
        }
    }

    #[test]
    fn a_parameter_that_is_no_key_is_named_and_not_repeated() {
        let cases = [("", "is empty"), ("hunter2", "is not a public key")];
        for (value, want) in cases {
            let problems = parameters([value].into_iter()).problems;
            assert!(
                problems[0].starts_with("boot parameter ssh_key: ") && problems[0].contains(want),
                "{problems:?}"
            );
            assert!(!problems[0].contains("hunter2"));
        }
    }
}
