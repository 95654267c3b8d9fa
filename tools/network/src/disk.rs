//! A disk as a text: what tests and the fuzzer give to the sources in place of a file system.

use crate::source::Files;
use std::collections::BTreeMap;

/// `== PATH` begins a file, `== PATH -> TARGET` is a symbolic link.
#[derive(Clone, Debug, Default)]
pub struct Disk(BTreeMap<String, Entry>);

#[derive(Clone, Debug)]
enum Entry {
    File(Vec<u8>),
    Link(String),
}

impl Disk {
    pub fn of(text: &str) -> Disk {
        let mut disk = BTreeMap::new();
        for part in format!("\n{text}").split("\n== ").skip(1) {
            // A file that has no line is empty.
            let (head, content) = match part.split_once('\n') {
                Some((head, content)) if !content.is_empty() => (head, format!("{content}\n")),
                Some((head, _)) => (head, String::new()),
                None => (part, String::new()),
            };
            match head.split_once(" -> ") {
                Some((path, target)) => disk.insert(path.to_string(), Entry::Link(target.to_string())),
                None => disk.insert(head.to_string(), Entry::File(content.into_bytes())),
            };
        }
        Disk(disk)
    }
}

impl Files for Disk {
    fn read(&self, path: &str) -> Option<Vec<u8>> {
        let target = match self.0.get(path)? {
            Entry::File(content) => return Some(content.clone()),
            Entry::Link(target) if target.starts_with('/') => target.clone(),
            Entry::Link(target) => format!("{}/{target}", path.rsplit_once('/')?.0),
        };
        match self.0.get(&target)? {
            Entry::File(content) => Some(content.clone()),
            // One step is as far as it goes.
            Entry::Link(_) => None,
        }
    }

    fn list(&self, directory: &str) -> Vec<String> {
        let within = directory.trim_end_matches('/');
        let names = self.0.keys().filter_map(|path| path.strip_prefix(within)?.strip_prefix('/'));
        let mut names: Vec<String> =
            names.filter_map(|rest| rest.split('/').next()).map(str::to_string).collect();
        names.sort();
        names.dedup();
        names
    }

    fn link(&self, path: &str) -> Option<String> {
        match self.0.get(path)? {
            Entry::File(_) => None,
            Entry::Link(target) => Some(target.clone()),
        }
    }
}

/// Each case: what is read, and how the plan is to be shown.
#[cfg(test)]
pub(crate) fn check(cases: &[(&str, &str)], read: impl Fn(&str) -> String) {
    let mut wrong = String::new();
    for (text, want) in cases {
        let got = read(text);
        if got != *want {
            wrong += &format!("{text}\n  got\n{got}\n  want\n{want}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
