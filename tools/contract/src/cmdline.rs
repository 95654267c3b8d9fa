//! The kernel command line as words, split as the kernel splits it (`next_arg` in lib/cmdline.c):
//! white space separates, a double quote anywhere in a word suspends that, and quotes around the
//! whole word or around the whole value are dropped.

use serde::{Deserialize, Serialize};

/// Above this many bytes a boot loader's line is likely to have been cut (COMMAND_LINE_SIZE on
/// x86 is 2048 with the terminating NUL).
pub const SUSPICIOUS_LENGTH: usize = 2047;

/// One word: `name` or `name=value`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    pub name: String,
    /// `None` without `=`; `Some("")` for `name=`.
    pub value: Option<String>,
}

/// The words of one line, in order. Never fails: an open quote runs to the end, as in the kernel.
pub fn words(line: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut current = String::new();
    let mut quoted = false;
    let mut any = false;
    for c in line.chars() {
        match c {
            '"' => {
                quoted = !quoted;
                current.push(c);
                any = true;
            }
            c if c.is_ascii_whitespace() && !quoted => {
                if any {
                    words.push(word(&current));
                }
                current.clear();
                any = false;
            }
            c => {
                current.push(c);
                any = true;
            }
        }
    }
    if any {
        words.push(word(&current));
    }
    words
}

/// Words of a parameter file: one a line, `#` starts a comment line, quotes as on the command line.
pub fn file_words(text: &str) -> Vec<Word> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .flat_map(|line| match line.split_once('=') {
            // A file has one parameter a line, so blanks in its value need no quotes.
            Some((name, value)) if !name.contains([' ', '"']) => {
                vec![Word { name: name.to_string(), value: Some(unquote(value).to_string()) }]
            }
            _ => words(line),
        })
        .collect()
}

fn word(text: &str) -> Word {
    // `"name=some value"` as well as `name="some value"`, the two forms that lib/cmdline.c knows.
    let text = match text.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"').unwrap_or(rest),
        None => text,
    };
    match text.split_once('=') {
        Some((name, value)) => Word { name: name.to_string(), value: Some(unquote(value).to_string()) },
        None => Word { name: text.to_string(), value: None },
    }
}

fn unquote(value: &str) -> &str {
    match value.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"').unwrap_or(rest),
        None => value,
    }
}

/// The last value of a parameter, as most parameters mean it. `Some("")` for a bare name.
pub fn last<'a>(words: &'a [Word], name: &str) -> Option<&'a str> {
    all(words, name).last()
}

/// Every value of a repeatable parameter, in order. A bare name counts as an empty value.
pub fn all<'a>(words: &'a [Word], name: &str) -> impl Iterator<Item = &'a str> {
    words.iter().filter(move |word| word.name == name).map(|word| word.value.as_deref().unwrap_or(""))
}

/// A switch: present as a bare name, or with 1, yes, true, on (or their opposites); last one wins.
pub fn switch(words: &[Word], name: &str) -> bool {
    match last(words, name) {
        None => false,
        Some(value) => !matches!(value, "0" | "no" | "false" | "off"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pairs = &'static [(&'static str, Option<&'static str>)];

    fn pairs(line: &str) -> Vec<(String, Option<String>)> {
        words(line).into_iter().map(|w| (w.name, w.value)).collect()
    }

    #[test]
    fn words_are_split_as_the_kernel_splits_them() {
        let cases: &[(&str, Pairs)] = &[
            ("", &[]),
            ("  quiet\tro \n", &[("quiet", None), ("ro", None)]),
            ("a=b c= d", &[("a", Some("b")), ("c", Some("")), ("d", None)]),
            ("ssh_key=\"ssh-ed25519 AAAA me\" x", &[("ssh_key", Some("ssh-ed25519 AAAA me")), ("x", None)]),
            ("\"ssh_key=ssh-ed25519 AAAA\"", &[("ssh_key", Some("ssh-ed25519 AAAA"))]),
            ("a=b=c", &[("a", Some("b=c"))]),
            ("open=\"to the end", &[("open", Some("to the end"))]),
            ("ip=::1 ip=dhcp", &[("ip", Some("::1")), ("ip", Some("dhcp"))]),
        ];
        for (line, want) in cases {
            let want: Vec<_> = want.iter().map(|(n, v)| (n.to_string(), v.map(str::to_string))).collect();
            assert_eq!(pairs(line), want, "line {line:?}");
        }
    }

    #[test]
    fn file_values_keep_their_blanks() {
        let text = "# a key\nssh_key=ssh-ed25519 AAAA me\n\nrescue.writable\nip=dhcp\n";
        let words = file_words(text);
        assert_eq!(last(&words, "ssh_key"), Some("ssh-ed25519 AAAA me"));
        assert!(switch(&words, "rescue.writable"));
        assert_eq!(all(&words, "ip").collect::<Vec<_>>(), ["dhcp"]);
    }

    #[test]
    fn a_switch_can_be_taken_back() {
        assert!(!switch(&words("rescue.writable rescue.writable=0"), "rescue.writable"));
        assert!(switch(&words("rescue.writable=yes"), "rescue.writable"));
    }
}
