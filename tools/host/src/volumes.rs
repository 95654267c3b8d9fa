//! Volumes that a hypervisor or a person made for this machine: NoCloud's (label `cidata`) and OpenStack's config drive
//! (`config-2`), on vfat or ISO 9660. `rescue` mounts one for reading, in a mount namespace of whoever asks, and small
//! files are taken from it.
//!
//! Only a whole disk or a CD counts. Whoever was root on the machine that is rescued can give a partition of its disk this
//! label, and would be believed here; a disk or a CD of their own they cannot plug in.

use crate::{Root, rescue};
use std::fs;
use std::io;
use std::path::Path;

/// As devd names what lies on a disk. vfat has capital letters.
const LABELS: &[(&str, Kind)] = &[
    ("cidata", Kind::NoCloud),
    ("CIDATA", Kind::NoCloud),
    ("config-2", Kind::ConfigDrive),
    ("CONFIG-2", Kind::ConfigDrive),
];
const BY_LABEL: &str = "/dev/disk/by-label";
/// In the namespace of whoever asks.
const MOUNT_POINT: &str = "/run/lifeboat/volume";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    NoCloud,
    ConfigDrive,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::NoCloud => "NoCloud volume",
            Kind::ConfigDrive => "config drive",
        }
    }
}

/// One that there is by its label, on a device with this path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    pub kind: Kind,
    pub path: String,
}

/// All that there are now; none is opened.
pub fn find() -> Vec<Volume> {
    let volume = |(label, kind): &(&str, Kind)| {
        let path = fs::canonicalize(Path::new(BY_LABEL).join(label)).ok()?;
        Some(Volume { kind: *kind, path: path.to_string_lossy().into_owned() })
    };
    LABELS.iter().filter_map(volume).collect()
}

impl Volume {
    /// `NoCloud volume /dev/sr0`
    pub fn source(&self) -> String {
        format!("{} {}", self.kind.name(), self.path)
    }

    /// Those of the named files that it has. The caller has a namespace of its own ([`rescue::alone`]). An error goes on
    /// after [`Volume::source`].
    pub fn read<'a>(&self, root: &Root, names: &[&'a str]) -> Result<Vec<(&'a str, Vec<u8>)>, String> {
        if !is_whole(root, &self.path) {
            return Err(
                "is not read: it is no whole disk or CD, so what ran on this machine may have made it"
                    .to_string(),
            );
        }
        let read = || -> io::Result<Vec<(&'a str, Vec<u8>)>> {
            fs::create_dir_all(MOUNT_POINT)?;
            rescue::call(&["mount", "-o", "ro", &self.path, MOUNT_POINT])?;
            // Not each of them has to be there.
            let files = Root::at(Path::new(MOUNT_POINT))
                .map(|found| names.iter().filter_map(|name| Some((*name, found.read(name).ok()?))).collect());
            rescue::call(&["umount", MOUNT_POINT])?;
            files
        };
        read().map_err(|error| format!("could not be read: {error}"))
    }
}

/// Plugged in as it is: not a partition, nor put together from something.
fn is_whole(root: &Root, path: &str) -> bool {
    let Some(name) = path.strip_prefix("/dev/") else { return false };
    let has = |what: &str| root.exists(format!("/sys/class/block/{}/{what}", name.replace('/', "!")));
    has("device") && !has("partition")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_that_anything_could_have_made_is_no_volume() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["vdb/device", "sda3/partition", "sda3/device", "dm-0/dm", "sr0/device"] {
            fs::create_dir_all(dir.path().join("sys/class/block").join(path)).unwrap();
        }
        let root = Root::at(dir.path()).unwrap();
        for (path, want) in
            [("/dev/vdb", true), ("/dev/sr0", true), ("/dev/sda3", false), ("/dev/dm-0", false)]
        {
            assert_eq!(is_whole(&root, path), want, "{path}");
        }
        let volume = Volume { kind: Kind::NoCloud, path: "/dev/sda3".to_string() };
        assert_eq!(volume.source(), "NoCloud volume /dev/sda3");
        assert!(volume.read(&root, &["user-data"]).unwrap_err().starts_with("is not read"));
    }
}
