//! The ARRAY lines of an mdadm.conf(5): which array is to have which name. A found system's file is hostile: nothing
//! of it is used but a name by its UUID, and at most a few hundred of those. What else a line may know an array by
//! (devices=, super-minor=, name=) is not believed: a UUID is the only one that the next disk does not share.

use super::name::plain;
use crate::text::Untrusted;
use std::collections::BTreeMap;
use std::fmt;

/// Where a running rescue has one, from an operator's appended cpio or copied there by hand: the first that is there.
pub const PATHS: &[&str] = &["/etc/mdadm/mdadm.conf", "/etc/mdadm.conf"];
/// More arrays than one machine has.
const MOST: usize = 512;
/// Findings that are told one by one; of a file that is something else, every line is one.
const MOST_FINDINGS: usize = 8;
/// Of a word in a finding.
const LONGEST: usize = 64;

/// What a line may begin with, cut to no less than three letters (mdadm's config.c: match_keyword); the first that fits.
const KEYWORDS: &[&str] = &[
    "devices",
    ARRAY,
    "mailaddr",
    "mailfrom",
    "program",
    "create",
    "homehost",
    "homecluster",
    "auto",
    "policy",
    "part-policy",
    "sysfs",
    "monitordelay",
];
const ARRAY: &str = "array";

/// What the file says of one array: its device or name, or to leave it alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    Named(String),
    Ignored,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Entry::Named(name) => write!(f, "{}", short(name)),
            Entry::Ignored => write!(f, "<ignore>"),
        }
    }
}

/// A line of which nothing is used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub line: usize,
    text: String,
}

impl fmt::Display for Finding {
    /// To stand behind the file's name and a colon.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.line, Untrusted(&self.text))
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conf {
    /// By UUID, in the form of `ondisk::Uuid`, with the number of the line.
    entries: BTreeMap<String, (usize, Entry)>,
    /// Bare names, by which line they were given.
    names: BTreeMap<String, usize>,
    pub findings: Vec<Finding>,
}

/// A line that is not understood says nothing, and is a finding.
pub fn parse(text: &str) -> Conf {
    let mut conf = Conf::default();
    let mut more = 0;
    for line in logical_lines(text) {
        let Err(text) = conf.read(&line) else { continue };
        if conf.findings.len() < MOST_FINDINGS {
            conf.findings.push(Finding { line: line.number, text });
        } else {
            more += 1;
        }
    }
    if let (Some(last), 1..) = (conf.findings.last_mut(), more) {
        last.text += &format!("; and {more} more lines are of no use");
    }
    conf
}

impl Conf {
    pub fn entry(&self, uuid: &str) -> Option<&Entry> {
        self.entries.get(uuid).map(|(_, entry)| entry)
    }

    pub fn name(&self, uuid: &str) -> Option<&str> {
        match self.entry(uuid)? {
            Entry::Named(name) => Some(name),
            Entry::Ignored => None,
        }
    }

    /// Whether a person means this array by the name that it has here, however either is written.
    pub fn is_called(&self, uuid: &str, text: &str) -> bool {
        self.name(uuid).is_some_and(|name| plain(name) == plain(text))
    }

    fn read(&mut self, line: &Line) -> Result<(), String> {
        let [first, words @ ..] = &line.words[..] else { return Ok(()) };
        if line.is_open {
            return Err("a quote is not closed".to_string());
        }
        let known = first.to_ascii_lowercase();
        let known = KEYWORDS.iter().find(|keyword| known.len() >= 3 && keyword.starts_with(&known));
        match known {
            None => Err(format!("{} is no keyword of mdadm.conf", short(first))),
            Some(&ARRAY) => match array(words)? {
                Some((uuid, entry)) => self.add(line.number, uuid, entry),
                None => Ok(()),
            },
            Some(_) => Ok(()),
        }
    }

    fn add(&mut self, line: usize, uuid: String, entry: Entry) -> Result<(), String> {
        let name = match &entry {
            Entry::Named(name) => Some(plain(name)),
            Entry::Ignored => None,
        };
        if let Some((first, before)) = self.entries.get(&uuid) {
            let same = match before {
                Entry::Named(before) => name == Some(plain(before)),
                Entry::Ignored => name.is_none(),
            };
            // `mdadm --detail --scan >> mdadm.conf` twice.
            return if same { Ok(()) } else { Err(format!("line {first} says {before} of this array")) };
        }
        if self.entries.len() >= MOST {
            return Err(format!("there are more than {MOST} arrays"));
        }
        if let Some(name) = name {
            if let Some(first) = self.names.get(&name) {
                return Err(format!("{entry} is another array's name by line {first}"));
            }
            self.names.insert(name, line);
        }
        self.entries.insert(uuid, (line, entry));
        Ok(())
    }
}

/// The words behind ARRAY; `None`: they name nothing, and mdadm would choose (mdadm's config.c: arrayline).
fn array(words: &[String]) -> Result<Option<(String, Entry)>, String> {
    let (mut name, mut id) = (None, None);
    for word in words {
        match word.split_once('=').filter(|_| !word.starts_with('/')) {
            None => match name {
                None => name = Some(word.as_str()),
                Some(first) => return Err(format!("two names, {} and {}", short(first), short(word))),
            },
            Some((key, value)) if key.eq_ignore_ascii_case("uuid") => match (uuid(value), &id) {
                (None, _) => return Err(format!("{} is no UUID", short(value))),
                (Some(_), Some(_)) => return Err("two UUIDs".to_string()),
                (found, None) => id = found,
            },
            Some(_) => {}
        }
    }
    let Some(name) = name else { return Ok(None) };
    let entry = match name {
        name if name.eq_ignore_ascii_case("<ignore>") => Entry::Ignored,
        name if is_name(name) => Entry::Named(name.to_string()),
        name => return Err(format!("{:?} is no name for an array", short(name))),
    };
    match id {
        Some(id) => Ok(Some((id, entry))),
        None => Err(format!("{entry} stands there without a UUID, by which arrays are known here")),
    }
}

/// `/dev/md/ANYTHING`, `/dev/mdN`, `/dev/md_dN`, or a word that is no path.
fn is_name(name: &str) -> bool {
    if let Some(name) = name.strip_prefix("/dev/md/") {
        return !name.is_empty();
    }
    let number = name.strip_prefix("/dev/md_d").or_else(|| name.strip_prefix("/dev/md"));
    match number {
        Some(number) => !number.is_empty() && number.bytes().all(|c| c.is_ascii_digit()),
        None => !name.is_empty() && !name.starts_with(['/', '<']),
    }
}

fn short(word: &str) -> String {
    word.chars().take(LONGEST).collect()
}

struct Line {
    /// Of the line that it begins on, from 1.
    number: usize,
    words: Vec<String>,
    /// A quote is not closed.
    is_open: bool,
}

/// A line that begins with a blank goes on with the one before it, also across empty lines and comments; `#` begins a
/// comment where a word may begin, and quotes hold a word together, not over lines (mdadm's config.c: conf_line,
/// conf_word).
fn logical_lines(text: &str) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for (index, text) in text.lines().enumerate() {
        let (words, is_open) = words(text);
        if words.is_empty() {
            continue;
        }
        match lines.last_mut() {
            Some(last) if text.starts_with([' ', '\t']) => {
                last.words.extend(words);
                last.is_open |= is_open;
            }
            _ => lines.push(Line { number: index + 1, words, is_open }),
        }
    }
    lines
}

fn words(line: &str) -> (Vec<String>, bool) {
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
    (words, quote.is_some())
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
    const UUID: &str = "UUID=22222222:00000000:00000000:00000001";
    const OTHER: &str = "UUID=22222222:00000000:00000000:00000002";

    fn findings(text: &str) -> Vec<String> {
        parse(text).findings.iter().map(Finding::to_string).collect()
    }

    #[test]
    fn an_array_line_names_its_array_however_it_is_written() {
        let named = |name: &str| Some(Entry::Named(name.to_string()));
        let cases = [
            ("plain", format!("ARRAY /dev/md/1 metadata=1.2 {UUID} name=a:1"), named("/dev/md/1")),
            ("UUID first", format!("ARRAY {UUID} /dev/md/1"), named("/dev/md/1")),
            ("cut keyword, other case", format!("arr root {}", UUID.to_lowercase()), named("root")),
            ("dashes", format!("ARRAY root UUID={ID}"), named("root")),
            ("continued", format!("ARRAY /dev/md1 level=raid1\n\t{UUID}"), named("/dev/md1")),
            (
                "across comments and empty lines",
                format!("ARRAY /dev/md1\n# old\n\n   # older\n   {UUID}"),
                named("/dev/md1"),
            ),
            ("an equals sign in a path", format!("ARRAY /dev/md/a=b {UUID}"), named("/dev/md/a=b")),
            ("quoted", format!("ARRAY \"/dev/md/my disk\" {UUID}"), named("/dev/md/my disk")),
            ("a quote in quotes", format!("ARRAY \"it's\"' \"'x {UUID}"), named("it's \"x")),
            ("a hash inside a word", format!("ARRAY /dev/md/a#b {UUID} # {OTHER}"), named("/dev/md/a#b")),
            ("Windows's line ends", format!("ARRAY /dev/md/1\r\n  {UUID}\r\n"), named("/dev/md/1")),
            ("no end of line", format!("DEVICE partitions\nARRAY 5 {UUID}"), named("5")),
            ("indented from the start", format!("  ARRAY 5 {UUID}"), named("5")),
            ("partitionable", format!("ARRAY /dev/md_d5 {UUID}"), named("/dev/md_d5")),
            ("ignored", format!("ARRAY <IGNORE> {UUID}"), Some(Entry::Ignored)),
            ("no name", format!("ARRAY metadata=imsm {UUID}"), None),
            ("commented out", format!("#ARRAY /dev/md1 {UUID}"), None),
            ("for another", format!("ARRAY /dev/md1 {OTHER}"), None),
            ("twice the same", format!("ARRAY /dev/md1 {UUID}\nARRAY /dev/md/1 {UUID}"), named("/dev/md1")),
            (
                "other lines",
                format!(
                    "DEVICE /dev/sd* {UUID}\nHOMEHOST <system>\nMAILADDR root\nAUTO -all\nPOLICY x=y\nCREATE owner=root"
                ),
                None,
            ),
        ];
        for (label, text, want) in cases {
            let conf = parse(&text);
            assert_eq!(conf.entry(ID).cloned(), want, "{label}");
            assert_eq!(conf.findings, [], "{label}");
        }
    }

    #[test]
    fn a_line_of_no_use_is_named_with_its_reason_and_the_rest_goes_on() {
        let cases = [
            ("ARRAY /dev/md1 UUID=22222222".to_string(), "22222222 is no UUID"),
            (format!("ARRAY /dev/md1 UUID={}", "é".repeat(16)), "éééééééééééééééé is no UUID"),
            (format!("ARRAY /dev/md1 {UUID} {UUID}"), "two UUIDs"),
            (format!("ARRAY /dev/md1 /dev/md2 {UUID}"), "two names, /dev/md1 and /dev/md2"),
            (format!("ARRAY /dev/sda {UUID}"), "\"/dev/sda\" is no name for an array"),
            (format!("ARRAY /dev/md {UUID}"), "\"/dev/md\" is no name for an array"),
            (format!("ARRAY '' {UUID}"), "\"\" is no name for an array"),
            (
                format!("ARRAY /dev/md1 # {UUID}"),
                "/dev/md1 stands there without a UUID, by which arrays are known here",
            ),
            (format!("ARRAY \"/dev/md1 {UUID}"), "a quote is not closed"),
            (format!("INACTIVE-ARRAY /dev/md1 {UUID}"), "INACTIVE-ARRAY is no keyword of mdadm.conf"),
            (format!("AR /dev/md1 {UUID}"), "AR is no keyword of mdadm.conf"),
            (format!("ARRAY /dev/md/3 {UUID}"), "/dev/md/3 is another array's name by line 1"),
            (format!("ARRAY /dev/md/4 {OTHER}"), "line 1 says /dev/md3 of this array"),
            (format!("ARRAY <ignore> {OTHER}"), "line 1 says /dev/md3 of this array"),
            ("\u{1b}[2J \u{202e}".to_string(), "\\x1b[2J is no keyword of mdadm.conf"),
        ];
        for (line, want) in cases {
            let text = format!("ARRAY /dev/md3 {OTHER}\n{line}\nARRAY last UUID={}", "3".repeat(32));
            assert_eq!(findings(&text), [format!("2: {want}")], "{line}");
            let conf = parse(&text);
            assert_eq!(conf.name("22222222-0000-0000-0000-000000000002"), Some("/dev/md3"), "{line}");
            assert_eq!(conf.entry(ID), None, "{line}");
            assert_eq!(conf.name("33333333-3333-3333-3333-333333333333"), Some("last"), "{line}");
        }
    }

    #[test]
    fn a_file_that_is_something_else_is_not_told_line_by_line() {
        let text = "[Unit]\n".repeat(100);
        let found = findings(&text);
        assert_eq!(
            (found.len(), found[0].as_str()),
            (MOST_FINDINGS, "1: [Unit] is no keyword of mdadm.conf")
        );
        assert_eq!(found[7], "8: [Unit] is no keyword of mdadm.conf; and 92 more lines are of no use");
        let long = findings(&"x".repeat(1 << 20));
        assert!(long[0].len() < 200, "{}", long[0].len());
        let lines = (0..600).map(|number| format!("ARRAY n{number} UUID={number:032x}\n"));
        let conf = parse(&lines.collect::<String>());
        assert_eq!(conf.entries.len(), MOST);
        assert_eq!(conf.findings[0].to_string(), "513: there are more than 512 arrays");
    }

    #[test]
    fn a_person_may_call_an_array_by_its_configured_name() {
        let conf = parse(&format!("ARRAY /dev/md/root {UUID}\nARRAY /dev/md5 {OTHER}"));
        for text in ["root", "/dev/md/root"] {
            assert!(conf.is_called(ID, text), "{text}");
        }
        for text in ["5", "md5", "/dev/md/5", "root"] {
            assert_eq!(
                conf.is_called("22222222-0000-0000-0000-000000000002", text),
                text != "root",
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(ARRAY |UUID=|[0-9a-f:]{32}|#|\"|'|[ -~]|\t|\n|é){0,80}") {
            let conf = parse(&text);
            prop_assert!(conf.entries.len() <= MOST && conf.findings.len() <= MOST_FINDINGS);
        }
    }
}
