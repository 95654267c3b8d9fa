//! The ARRAY lines of an mdadm.conf(5): which array is to have which name. A found system's file is hostile: nothing
//! of it is used but a name by its UUID, and at most a few hundred of those.

use std::collections::BTreeMap;

/// Where a running rescue has one: from an operator's appended cpio.
pub const PATH: &str = "/etc/mdadm/mdadm.conf";
/// More arrays than one machine has.
const MOST: usize = 512;

/// What the file says of one array: its device or name, or to leave it alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    Named(String),
    Ignored,
}

/// By UUID, in the form of `ondisk::Uuid`. A line that is not understood says nothing.
pub fn parse(text: &str) -> BTreeMap<String, Entry> {
    let mut entries = BTreeMap::new();
    for words in logical_lines(text) {
        let mut words = words.iter().map(String::as_str);
        // Keywords may be cut to three letters (mdadm's config.c: match_keyword).
        let keyword = words.next().unwrap_or_default().to_ascii_lowercase();
        if keyword.len() < 3 || !"array".starts_with(&keyword) {
            continue;
        }
        let (mut name, mut id) = (None, None);
        for word in words {
            match word.split_once('=') {
                Some((key, value)) if key.eq_ignore_ascii_case("uuid") => id = uuid(value),
                Some(_) => {}
                None if name.is_none() => name = Some(word),
                None => {}
            }
        }
        let entry = match name {
            Some(name) if name.eq_ignore_ascii_case("<ignore>") => Entry::Ignored,
            Some(name) => Entry::Named(name.to_string()),
            None => continue,
        };
        if let Some(id) = id.filter(|_| entries.len() < MOST) {
            entries.entry(id).or_insert(entry);
        }
    }
    entries
}

/// Words by line: one that begins with a blank goes on with the line before it, `#` begins a comment where a
/// word may begin, and quotes hold a word together (mdadm's dlink.c and config.c: conf_line).
fn logical_lines(text: &str) -> Vec<Vec<String>> {
    let mut lines: Vec<Vec<String>> = Vec::new();
    for line in text.lines() {
        let words = words(line);
        match lines.last_mut() {
            Some(last) if line.starts_with([' ', '\t']) => last.extend(words),
            _ => lines.push(words),
        }
    }
    lines
}

fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, ' ' | '\t') => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// `22222222:00000000:00000000:00000001`, or with dashes, or bare, as `22222222-0000-...`.
pub fn uuid(text: &str) -> Option<String> {
    let digits: String = text.chars().filter(|c| !matches!(c, ':' | '-' | '.' | ' ')).collect();
    if digits.len() != 32 || !digits.bytes().all(|c| c.is_ascii_hexdigit()) {
        return None;
    }
    let d = digits.to_ascii_lowercase();
    Some(format!("{}-{}-{}-{}-{}", &d[..8], &d[8..12], &d[12..16], &d[16..20], &d[20..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "22222222-0000-0000-0000-000000000001";

    #[test]
    fn an_array_line_names_its_array_however_it_is_written() {
        let named = |name: &str| Some(Entry::Named(name.to_string()));
        let cases = [
            (
                "plain",
                "ARRAY /dev/md/1 metadata=1.2 UUID=22222222:00000000:00000000:00000001 name=a:1",
                named("/dev/md/1"),
            ),
            (
                "continued",
                "ARRAY /dev/md1 level=raid1\n   UUID=22222222:00000000:00000000:00000001",
                named("/dev/md1"),
            ),
            ("dashes and case", "array root uuid=22222222-0000-0000-0000-000000000001", named("root")),
            ("comment", "# ARRAY /dev/md1 UUID=22222222:00000000:00000000:00000001", None),
            ("comment behind", "ARRAY /dev/md1 # UUID=22222222:00000000:00000000:00000001", None),
            ("ignored", "ARRAY <ignore> UUID=22222222:00000000:00000000:00000001", Some(Entry::Ignored)),
            ("no name", "ARRAY UUID=22222222:00000000:00000000:00000001", None),
            ("short uuid", "ARRAY /dev/md1 UUID=22222222", None),
            ("another keyword", "DEVICE /dev/sda UUID=22222222:00000000:00000000:00000001", None),
            (
                "first wins",
                "ARRAY a UUID=22222222:0:0:1\nARRAY b UUID=22222222:00000000:00000000:00000001\nARRAY c UUID=22222222:00000000:00000000:00000001",
                named("b"),
            ),
        ];
        for (label, text, want) in cases {
            assert_eq!(parse(text).get(ID).cloned(), want, "{label}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(ARRAY|#|\"|'|[ -~]|\t|\n|é){0,80}") {
            prop_assert!(parse(&text).len() <= MOST);
        }
    }
}
