//! A machine as files: what was looked at through a taped [`Root`], as the tree that shows the same to
//! the same look. Links on the way to a file become links, so that `/sys/class/block/sda` leads to
//! its device as it did.

use crate::Root;
use crate::root::{Seen, Tape};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

/// Links followed for one path; the kernel's own limit (MAXSYMLINKS, include/linux/namei.h).
const MAX_LINKS: usize = 40;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    Directory,
    Link(PathBuf),
    File(Vec<u8>),
}

/// Paths below the machine's root, without the first slash, to what stands there.
pub fn tree(root: &Root, tape: &Tape) -> BTreeMap<PathBuf, Entry> {
    let mut tree = BTreeMap::new();
    for (asked, seen) in tape.notes() {
        let is_link = matches!(seen, Seen::Link(_)) || (seen == Seen::There && root.link(&asked).is_ok());
        let Some(real) = resolve(root, &asked, !is_link, &mut tree) else { continue };
        let entry = match seen {
            Seen::File(bytes) => Entry::File(bytes),
            Seen::Link(target) => Entry::Link(target),
            Seen::Directory => Entry::Directory,
            Seen::There => match root.link(&asked) {
                Ok(target) => Entry::Link(target),
                Err(_) if root.list(&asked).is_ok() => Entry::Directory,
                // It was there, and nobody read it.
                Err(_) => Entry::File(Vec::new()),
            },
        };
        match (tree.get(&real), &entry) {
            // Read under one name, and seen under another.
            (Some(Entry::File(known)), Entry::File(new)) if new.is_empty() && !known.is_empty() => {}
            _ => drop(tree.insert(real, entry)),
        }
    }
    tree.remove(Path::new(""));
    tree
}

/// Where a path leads, its links written down; `None` where it leads nowhere, or round and round.
fn resolve(
    root: &Root,
    asked: &Path,
    follow_last: bool,
    tree: &mut BTreeMap<PathBuf, Entry>,
) -> Option<PathBuf> {
    let mut left: Vec<OsString> = words(asked).into_iter().rev().collect();
    let mut real = PathBuf::new();
    let mut links = 0;
    while let Some(word) = left.pop() {
        if word == ".." {
            real.pop();
            continue;
        }
        let next = real.join(&word);
        if (left.is_empty() && !follow_last) || root.link(&next).is_err() {
            real = next;
            continue;
        }
        let target = root.link(&next).ok()?;
        links += 1;
        if links > MAX_LINKS {
            return None;
        }
        if target.is_absolute() {
            real = PathBuf::new();
        }
        left.extend(words(&target).into_iter().rev());
        tree.insert(next, Entry::Link(target));
    }
    Some(real)
}

fn words(path: &Path) -> Vec<OsString> {
    let word = |component: Component<'_>| match component {
        Component::Normal(word) => Some(word.to_os_string()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::sync::Arc;

    #[test]
    fn what_was_read_through_links_is_read_the_same_in_the_tree() {
        let machine = tempfile::tempdir().unwrap();
        let disk = machine.path().join("sys/devices/pci/block/sda");
        std::fs::create_dir_all(disk.join("sda1")).unwrap();
        std::fs::create_dir_all(disk.join("queue")).unwrap();
        std::fs::create_dir_all(machine.path().join("sys/class/block")).unwrap();
        std::fs::write(disk.join("queue/rotational"), "1\n").unwrap();
        std::fs::write(disk.join("sda1/size"), "2048\n").unwrap();
        std::fs::write(disk.join("sda1/secret"), "not asked for\n").unwrap();
        for (name, target) in
            [("sda", "../../devices/pci/block/sda"), ("sda1", "../../devices/pci/block/sda/sda1")]
        {
            symlink(target, machine.path().join("sys/class/block").join(name)).unwrap();
        }
        let tape = Arc::new(Tape::default());
        let plain = Root::at(machine.path()).unwrap();
        let root = plain.taped(&tape);
        let look = |root: &Root| {
            (
                root.list("/sys/class/block").unwrap(),
                root.link("/sys/class/block/sda1").unwrap(),
                root.line("/sys/class/block/sda1/size"),
                root.line("/sys/class/block/sda1/../queue/rotational"),
                root.exists("/sys/class/block/sda/queue"),
                root.exists("/sys/class/block/sdb"),
            )
        };
        let seen = look(&root);
        let tree = tree(&plain, &tape);
        assert!(!tree.contains_key(Path::new("sys/devices/pci/block/sda/sda1/secret")));
        let copy = tempfile::tempdir().unwrap();
        for (path, entry) in &tree {
            let path = copy.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            match entry {
                Entry::Directory => std::fs::create_dir_all(path).unwrap(),
                Entry::Link(target) => symlink(target, path).unwrap(),
                Entry::File(bytes) => std::fs::write(path, bytes).unwrap(),
            }
        }
        assert_eq!(look(&Root::at(copy.path()).unwrap()), seen);
    }
}
