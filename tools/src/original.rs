//! Before a classic name is handed to its original: what stands on the devices that this one may write to is saved, as
//! before a step of ours. Under the guard the original writes to none, and nothing is saved.

use crate::apply::{self, Door};
use crate::report::{Answer, HandOver, Output, notice};
use crate::tool::Context;
use contract::facts::Block;
use model::plan::Step;
use std::ffi::OsString;
use std::path::Path;

/// Those of the classic names that write, each with the flags by which it only looks.
const WRITERS: &[(&str, &[&str])] = &[
    ("fdisk", &["-l", "-x", "-s", "-h", "-V", "--list", "--list-details", "--getsz", "--help", "--version"]),
    ("fsck", &["-n", "-N", "-V", "-?", "--help", "--version"]),
    (
        "mount",
        &["-l", "-r", "-h", "-V", "--show-labels", "--read-only", "--fake", "-f", "--help", "--version"],
    ),
    ("swapon", &["-s", "--summary", "--show", "-h", "-V", "--help", "--version"]),
];

/// What stands for all that fstab names.
const ALL: &[&str] = &["-a", "-A", "--all"];

/// Whoever cannot be saved is no reason to keep a person from the original.
pub fn save_before(name: &'static str, answer: &Answer) {
    let Output::HandOver(HandOver { arguments, .. }) = &answer.output else { return };
    let Ok(context) = Context::live(name, false) else { return };
    let blocks = || host::sysfs::facts(&context.root).blocks;
    let paths = concerned(name, arguments, blocks, &|word| number(Path::new(word)));
    if paths.is_empty() {
        return;
    }
    let typed = apply::typed(name, arguments);
    let saved = Door::open(&context, &typed).and_then(|mut door| door.make(&Step::Save { paths }));
    if let Err(error) = saved {
        notice(name, &format!("not saved before: {error:#}"));
    }
}

/// Whether one of these words makes a classic name only look, or the name never writes.
pub fn looks(name: &str, words: &[String]) -> bool {
    let Some((_, looks)) = WRITERS.iter().find(|(writer, _)| *writer == name) else { return true };
    words.iter().any(|word| looks.contains(&word.as_str()))
}

/// Device numbers of the node at a path.
pub fn number(path: &Path) -> Option<(u32, u32)> {
    match host::sysfs::node(path).ok()? {
        host::sysfs::Node::Block { major, minor } => Some((major, minor)),
        host::sysfs::Node::File { .. } | host::sysfs::Node::Other => None,
    }
}

/// The devices that the words name and that can be written now; where all are meant that fstab names, all such.
fn concerned(
    name: &str,
    arguments: &[OsString],
    blocks: impl Fn() -> Vec<Block>,
    node: &dyn Fn(&str) -> Option<(u32, u32)>,
) -> Vec<String> {
    let words: Vec<String> = arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    if looks(name, &words) {
        return Vec::new();
    }
    let numbers: Vec<(u32, u32)> = words.iter().filter_map(|word| node(word)).collect();
    let all = words.iter().any(|word| ALL.contains(&word.as_str()));
    if numbers.is_empty() && !all {
        return Vec::new();
    }
    let is_meant = |block: &Block| all || numbers.contains(&(block.major, block.minor));
    let blocks = blocks();
    let open = blocks.iter().filter(|block| block.major != 0 && block.size > 0 && !block.read_only);
    open.filter(|block| is_meant(block)).map(Block::path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_original_may_write_to_is_saved_and_no_more() {
        let block = |name: &str, minor: u32, read_only: bool| Block {
            name: name.to_string(),
            major: 8,
            minor,
            size: 1,
            read_only,
            ..Block::default()
        };
        let blocks = || vec![block("sda", 0, false), block("sda1", 1, false), block("sdb", 16, true)];
        let node = |word: &str| match word {
            "/dev/sda" => Some((8, 0)),
            "/dev/disk/by-id/one" => Some((8, 1)),
            "/dev/sdb" => Some((8, 16)),
            _ => None,
        };
        for (line, want) in [
            ("fdisk /dev/sda", "/dev/sda"),
            ("fdisk -x /dev/sda", ""),
            ("fdisk -b 4096 /dev/sda", "/dev/sda"),
            ("fdisk /dev/sdb", ""),
            ("fsck -A", "/dev/sda /dev/sda1"),
            ("fsck -A -n", ""),
            ("mount -a", "/dev/sda /dev/sda1"),
            ("mount -o X-mount.owner=1 /dev/disk/by-id/one /mnt", "/dev/sda1"),
            ("lsblk -a /dev/sda", ""),
            ("fdisk /root/image", ""),
        ] {
            let mut words = line.split(' ');
            let name = words.next().unwrap();
            let arguments: Vec<OsString> = words.map(Into::into).collect();
            assert_eq!(concerned(name, &arguments, blocks, &node).join(" "), want, "{line}");
        }
    }
}
