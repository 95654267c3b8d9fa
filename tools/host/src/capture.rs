//! A machine as files: what was looked at through a taped [`Root`], as the tree that shows the same to
//! the same look. Links on the way to a file become links, so that `/sys/class/block/sda` leads to
//! its device as it did.

use crate::root::{Seen, Tape};
use crate::{Root, consents, shown, sysfs};
use contract::facts::Facts;
use contract::state::Sshd;
use contract::{paths, redact};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// Links followed for one path; the kernel's own limit (MAXSYMLINKS, include/linux/namei.h).
const MAX_LINKS: usize = 40;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    Directory,
    Link(PathBuf),
    File(Vec<u8>),
}

/// What the reading tools ask for besides [`sysfs::facts`] and the consents; and what tells a person more of the machine.
const ALSO: &[&str] =
    &[paths::VERSION, paths::LOCKDOWN, COMMAND_LINE, RELEASE, "/proc/meminfo", "/proc/mdstat"];
const COMMAND_LINE: &str = "/proc/cmdline";
const RELEASE: &str = "/proc/sys/kernel/osrelease";
/// Services whose state is shown.
const SERVICES: &[&str] = &["init", "netd", "layers", "sshd", "devd"];

/// What the reading tools see of a machine beside its devices' content, without secrets: sysfs, proc, the
/// states of the services.
pub fn machine(root: &Root) -> (Facts, BTreeMap<PathBuf, Entry>) {
    let tape = Arc::new(Tape::default());
    let taped = root.taped(&tape);
    let facts = sysfs::facts(&taped);
    consents::read(&taped);
    shown::keep(&taped, &facts.blocks);
    let states: Vec<String> = SERVICES.iter().map(|service| paths::state(service)).collect();
    for path in ALSO.iter().copied().chain(states.iter().map(String::as_str)) {
        // What is not there is not there in the capture either.
        let _ = taped.read(path);
    }
    let mut tree = tree(root, &tape);
    for (path, entry) in &mut tree {
        if let Entry::File(bytes) = entry {
            *bytes = without_secrets(path, std::mem::take(bytes));
        }
    }
    let nodes = shown::Shown::of(root, false);
    for block in &facts.blocks {
        if let (Some(node), Some(path)) = (nodes.node(block), &block.hardware.path) {
            let path = Path::new("sys/devices").join(path).join(shown::NODE);
            tree.insert(path, Entry::File(shown::node_text(&node).into_bytes()));
        }
        if let (Some(text), Some(path)) = (&block.snapshot, &block.hardware.path) {
            let path = Path::new("sys/devices").join(path).join(sysfs::SNAPSHOT);
            tree.insert(path, Entry::File(format!("{text}\n").into_bytes()));
        }
    }
    (facts, tree)
}

/// The kernel's release: `6.12.48+deb13-amd64`.
pub fn kernel(root: &Root) -> Option<String> {
    root.line(RELEASE)
}

/// sysfs has none; of sshd's state only what is no key.
fn without_secrets(path: &Path, bytes: Vec<u8>) -> Vec<u8> {
    if path.starts_with("sys") {
        return bytes;
    }
    let text = String::from_utf8_lossy(&bytes);
    if Path::new("/").join(path) == Path::new(COMMAND_LINE) {
        return (redact::command_line(&text) + "\n").into_bytes();
    }
    if Path::new("/").join(path) == Path::new(&paths::state("sshd")) {
        let state: Sshd = serde_json::from_slice(&bytes).unwrap_or_default();
        let Sshd { port, listening, password, problems, .. } = state;
        let state = Sshd { port, listening, password, problems, ..Sshd::default() };
        return serde_json::to_vec_pretty(&state).unwrap_or_default();
    }
    redact::text(&text).into_bytes()
}

/// Lays the tree out below a directory, for its owner alone.
pub fn write(directory: &Path, tree: &BTreeMap<PathBuf, Entry>) -> io::Result<()> {
    for (path, entry) in tree {
        let path = directory.join(path);
        let parents = if *entry == Entry::Directory { Some(path.as_path()) } else { path.parent() };
        if let Some(parents) = parents {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(parents)?;
        }
        match entry {
            Entry::Directory => {}
            Entry::Link(target) => symlink(target, path)?,
            Entry::File(bytes) => {
                let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
                file.write_all(bytes)?;
            }
        }
    }
    Ok(())
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
        write(copy.path(), &tree).unwrap();
        assert_eq!(look(&Root::at(copy.path()).unwrap()), seen);
    }
    #[test]
    fn a_machine_is_the_same_in_its_tree_but_for_its_secrets() {
        let machine = tempfile::tempdir().unwrap();
        let files = [
            ("proc/cmdline", "quiet ssh_key=AAAA rd.luks.password=w0rd\n"),
            ("proc/self/mountinfo", "40 22 0:45 / /mnt rw - cifs //nas/x rw,password=w0rd\n"),
            ("run/lifeboat/state/sshd.json", r#"{"port":22,"host_key":"ssh-ed25519 w0rd","keys":["w0rd"]}"#),
            ("run/lifeboat/sshd/host_ed25519", "w0rd\n"),
            ("run/lifeboat/sshd/password", "w0rd\n"),
            ("lifeboat/version", "1.2\n"),
            ("sys/devices/virtual/block/loop0/dev", "7:0\n"),
            ("sys/devices/virtual/block/loop0/size", "8\n"),
        ];
        for (path, text) in files {
            let path = machine.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        fs::create_dir_all(machine.path().join("sys/class/block")).unwrap();
        let link = machine.path().join("sys/class/block/loop0");
        symlink("../../devices/virtual/block/loop0", link).unwrap();
        let (facts, tree) = super::machine(&Root::at(machine.path()).unwrap());
        assert_eq!(facts.blocks.len(), 1);
        let copy = tempfile::tempdir().unwrap();
        write(copy.path(), &tree).unwrap();
        let root = Root::at(copy.path()).unwrap();
        let again = sysfs::facts(&root);
        assert_eq!(again.blocks, facts.blocks);
        assert_eq!(again.mounts[0].super_options, "rw,password=REDACTED");
        assert_eq!(root.line(paths::VERSION).as_deref(), Some("1.2"));
        assert_eq!(
            root.line(COMMAND_LINE).as_deref(),
            Some("quiet ssh_key=REDACTED rd.luks.password=REDACTED")
        );
        let held =
            |entry: &Entry| matches!(entry, Entry::File(bytes) if bytes.windows(4).any(|b| b == b"w0rd"));
        assert_eq!(tree.iter().find(|(_, entry)| held(entry)), None);
    }
}
