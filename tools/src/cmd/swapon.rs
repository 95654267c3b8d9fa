//! `swapon`: the original's, but not of a device under the write guard. The kernel lets swap be written to a device whose
//! read-only flag is set, and only says so in its log (bio_check_ro in block/blk-core.c).

use crate::original::{looks, number};
use crate::report::Answer;
use crate::scan::{DEADLINE, settle};
use crate::tool::Context;
use anyhow::bail;
use contract::facts::Block;
use model::text::Untrusted;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Tags, and where devd links them.
const TAGS: &[(&str, &str)] = &[
    ("LABEL", "/dev/disk/by-label"),
    ("PARTLABEL", "/dev/disk/by-partlabel"),
    ("PARTUUID", "/dev/disk/by-partuuid"),
    ("UUID", "/dev/disk/by-uuid"),
];

pub fn run(context: &Context, arguments: &[OsString]) -> anyhow::Result<Answer> {
    let words: Vec<String> = arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let is_look = looks(context.name, &words) || words.iter().any(|word| word.starts_with("--show="));
    if !is_look {
        // Until devd has looked at a drive, its flag is not set.
        settle(context, DEADLINE);
        let blocks = host::sysfs::facts(&context.root).blocks;
        if let Some(guarded) = guarded(&words, &blocks, &number) {
            bail!(
                "{} is read-only, and swap would be written to it all the same: rescue writable {} first",
                Untrusted(&guarded),
                Untrusted(&guarded)
            );
        }
    }
    Ok(Answer::classic(context.name, arguments))
}

/// The first device among the words whose read-only flag is set.
fn guarded(words: &[String], blocks: &[Block], node: &dyn Fn(&Path) -> Option<(u32, u32)>) -> Option<String> {
    let before = std::iter::once("").chain(words.iter().map(String::as_str));
    words.iter().zip(before).find_map(|(word, before)| {
        let number = node(&path(word, before))?;
        let block = blocks.iter().find(|block| (block.major, block.minor) == number)?;
        block.read_only.then(|| block.path())
    })
}

/// Where a word leads, by the word before it: `-U UUID`, `-L LABEL`, `UUID=...`, a path.
fn path(word: &str, before: &str) -> PathBuf {
    let tag = match before {
        "-U" => Some(("UUID", word)),
        "-L" => Some(("LABEL", word)),
        _ => word.split_once('='),
    };
    let linked = tag.and_then(|(tag, value)| {
        let (_, directory) = TAGS.iter().find(|(name, _)| *name == tag)?;
        Some(Path::new(directory).join(value.trim_matches('"')))
    });
    linked.unwrap_or_else(|| PathBuf::from(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guarded_device_is_found_however_it_is_named_and_a_writable_one_is_none() {
        let block = |name: &str, minor: u32, read_only: bool| Block {
            name: name.to_string(),
            major: 8,
            minor,
            size: 1 << 20,
            read_only,
            ..Block::default()
        };
        let blocks = [block("sda1", 1, true), block("sda2", 2, false)];
        let node = |path: &Path| match path.to_str()? {
            "/dev/sda1" | "/dev/disk/by-uuid/aa" | "/dev/disk/by-label/swap" => Some((8, 1)),
            "/dev/sda2" | "/dev/disk/by-uuid/bb" => Some((8, 2)),
            _ => None,
        };
        for (line, want) in [
            ("/dev/sda1", true),
            ("-p 5 /dev/sda2 /dev/sda1", true),
            ("UUID=aa", true),
            ("-U aa", true),
            ("-L swap", true),
            ("LABEL=swap", true),
            ("/dev/sda2", false),
            ("UUID=bb", false),
            ("/swapfile", false),
            ("-a", false),
        ] {
            let words: Vec<String> = line.split(' ').map(String::from).collect();
            assert_eq!(guarded(&words, &blocks, &node), want.then(|| "/dev/sda1".to_string()), "{line}");
        }
    }
}
