//! md arrays through sysfs (Documentation/admin-guide/md.rst), which can all that mdadm's ioctls can, and opens no
//! device: an open one would keep an array from being stopped, and its close makes programs look at it.

use crate::{Act, Root};
use std::io;

const NEW_ARRAY: &str = "/sys/module/md_mod/parameters/new_array";
/// What is written here by anyone, and so by a worker.
const ATTRIBUTES: &[&str] = &[
    "array_size",
    "array_state",
    "bitmap/location",
    "chunk_size",
    "component_size",
    "layout",
    "level",
    "metadata_version",
    "new_dev",
    "raid_disks",
    "resync_start",
    "sync_action",
];
/// And of one member, below `dev-NAME`.
const OF_MEMBER: &[&str] = &["offset", "size", "slot"];

/// Makes the device `mdN`, with nothing behind it.
pub fn create(_act: &Act, root: &Root, name: &str) -> io::Result<()> {
    root.write(NEW_ARRAY, name)
}

/// `clear`, `inactive`, `readonly`, `clean`, ...; `None`: there is no such device.
pub fn state(root: &Root, name: &str) -> Option<String> {
    attribute(root, name, "array_state")
}

pub fn attribute(root: &Root, name: &str, attribute: &str) -> Option<String> {
    root.line(path(name, attribute))
}

/// For workers: adding a member reads it, and starting or stopping an array may write to all of them, which
/// never returns where one of them hangs.
pub fn write(root: &Root, name: &str, attribute: &str, text: &str) -> io::Result<()> {
    let plain = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || "_-!".contains(c));
    let known = match attribute.split_once('/') {
        None => ATTRIBUTES.contains(&attribute),
        Some((member, of_member)) => {
            member.starts_with("dev-") && plain(member) && OF_MEMBER.contains(&of_member)
        }
    };
    if !name.starts_with("md") || !plain(name) || !known {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no such attribute of an array"));
    }
    root.write(path(name, attribute), text)
}

fn path(name: &str, attribute: &str) -> String {
    format!("/sys/block/{name}/md/{attribute}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_an_array_is_started_by_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let md = dir.path().join("sys/block/md0/md");
        std::fs::create_dir_all(&md).unwrap();
        for attribute in ["array_state", "sync_max"] {
            std::fs::write(md.join(attribute), "clear\n").unwrap();
        }
        let root = Root::at(dir.path()).unwrap();
        write(&root, "md0", "array_state", "readonly").unwrap();
        assert!(state(&root, "md0").unwrap().starts_with("readonly"));
        for (name, attribute) in [
            ("md0", "sync_max"),
            ("md0/../md0", "array_state"),
            ("sda", "array_state"),
            ("md0", "dev-sda/state"),
            ("md0", "dev-../array_state"),
        ] {
            assert!(write(&root, name, attribute, "x").is_err(), "{name} {attribute}");
        }
        assert_eq!(state(&root, "md1"), None);
    }
}
