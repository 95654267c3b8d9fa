//! /etc/fstab (fstab(5)), as `mount DIR` looks things up in it.

use crate::Root;
use crate::proc::unescape;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Most bytes of a file that is named.
const LARGEST: u64 = 16 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// A path, or a tag as written: `UUID=...`.
    pub source: String,
    pub target: String,
    pub fstype: String,
    pub options: String,
}

/// In the order of the file; a line that is not understood is left out.
pub fn read(root: &Root) -> Vec<Entry> {
    parse(&root.read_text("/etc/fstab").unwrap_or_default())
}

/// Another one, that a person names. An error: it is not there, no file, larger than 16 MiB, or cannot be read.
pub fn read_at(path: &Path) -> io::Result<Vec<Entry>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 16 MiB"));
    }
    Ok(parse(&crate::text::text(&bytes)))
}

pub fn parse(text: &str) -> Vec<Entry> {
    let entry = |line: &str| {
        let mut fields = line.split_ascii_whitespace().map(unescape);
        let (source, target, fstype) = (fields.next()?, fields.next()?, fields.next()?);
        let options = fields.next().unwrap_or_else(|| "defaults".to_string());
        Some(Entry { source, target, fstype, options })
    };
    text.lines().filter(|line| !line.trim_start().starts_with('#')).filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_short_lines_are_left_out_and_blanks_unescaped() {
        let text = "# a comment\nUUID=1 / ext4 ro 0 1\n\n/dev/sda1\t/my\\040disk auto\nnonsense\n";
        let entries = parse(text);
        assert_eq!(entries.len(), 2);
        assert_eq!((entries[0].source.as_str(), entries[0].options.as_str()), ("UUID=1", "ro"));
        assert_eq!((entries[1].target.as_str(), entries[1].options.as_str()), ("/my disk", "defaults"));
    }
}
