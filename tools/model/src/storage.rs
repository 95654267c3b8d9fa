//! Storage: the one graph of devices that every tool reads and no tool builds for itself.
//!
//! `Device` holds what was observed; what is concluded is a function of `&Storage` in the
//! concluder's file. No field is added for one reader.

use contract::facts::{Block, Mount, Space, Swap};
use contract::guard::Wanted;
use ondisk::DiskReport;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

/// Key of a device in the graph, never its kernel name: `seq:7` for a disk with diskseq 7,
/// `seq:7@1048576` for its partition at that byte, `dev:9:127` for a device without one, and
/// `file:NAME` for an image. Stable while the device lives.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Id(pub String);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Storage {
    /// Disks each followed by their partitions, then virtual devices, in the kernel's order.
    pub devices: Vec<Device>,
    pub arrays: Vec<Array>,
    /// Volume groups of LVM.
    pub volumes: Vec<VolumeGroup>,
    pub mounts: Vec<Mount>,
    pub swaps: Vec<Swap>,
    /// Room of what is mounted, by mount point, where it was asked for.
    #[serde(default)]
    pub space: BTreeMap<String, Space>,
    /// What went wrong, with the device it is about: a result, not an error.
    pub problems: Vec<Problem>,
    #[serde(skip)]
    pub(crate) places: Places,
}

/// Where each device stands in the graph: noted when first asked for. A place that no longer holds is noticed, so
/// that whoever changes the devices needs to tell nobody.
#[derive(Debug, Default)]
pub(crate) struct Places(OnceLock<BTreeMap<Id, usize>>);

impl Clone for Places {
    fn clone(&self) -> Places {
        Places::default()
    }
}

impl PartialEq for Places {
    fn eq(&self, _: &Places) -> bool {
        true // follows from the devices
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Device {
    pub id: Id,
    /// `/dev/sda1`, `/dev/mapper/vg-root` is in `block.dm`.
    pub path: String,
    /// What the kernel says. For a partition that the kernel refused: made up from the table, with
    /// major 0, and `node` false.
    pub block: Block,
    pub node: bool,
    /// The whole disk that this is a partition of.
    pub parent: Option<Id>,
    pub lower: Vec<Id>,
    pub upper: Vec<Id>,
    pub report: Observed,
    pub guard: Option<Wanted>,
}

/// Whether the device's bytes are known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "seen", rename_all = "kebab-case")]
pub enum Observed {
    Examined {
        report: Box<DiskReport>,
    },
    /// Not looked at, and why: no medium, above a hung member, not a disk.
    Skipped {
        reason: String,
    },
    /// It could not be opened, or the examiner failed on it.
    Failed {
        reason: String,
    },
    /// The worker missed its deadline.
    Hung {
        reason: String,
    },
}

/// md members that say they belong together, running or not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Array {
    /// As in the superblock.
    pub uuid: String,
    pub members: Vec<Id>,
    /// The running kernel device.
    pub device: Option<Id>,
}

/// Physical volumes of LVM that say they belong together, active or not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VolumeGroup {
    /// As in the metadata.
    pub uuid: String,
    /// Every device that carries one of its PVs: copies too, and what is seen below an overlay.
    pub members: Vec<Id>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Kernel path of the device it is about, when there is one.
    pub device: Option<String>,
    pub severity: ondisk::Severity,
    /// One line that names the thing and what to do next.
    pub text: String,
}

impl Storage {
    pub fn get(&self, id: &Id) -> Option<&Device> {
        let note =
            || self.devices.iter().enumerate().map(|(place, device)| (device.id.clone(), place)).collect();
        let noted = self.places.0.get_or_init(note).get(id).and_then(|place| self.devices.get(*place));
        let holds = noted.filter(|device| device.id == *id);
        holds.or_else(|| self.devices.iter().find(|device| device.id == *id))
    }

    /// Whether a device, or something that it stands on, does not answer.
    pub fn hangs(&self, device: &Device) -> bool {
        let mut seen: BTreeSet<&Id> = BTreeSet::new();
        let mut open = vec![&device.id];
        while let Some(id) = open.pop() {
            let Some(device) = self.get(id).filter(|_| seen.insert(id)) else { continue };
            if matches!(device.report, Observed::Hung { .. }) {
                return true;
            }
            open.extend(device.lower.iter().chain(&device.parent));
        }
        false
    }

    /// Mounts of a device, in the kernel's order. btrfs has a device number of its own and is known by its source.
    pub fn mounts_of(&self, device: &Device) -> impl Iterator<Item = &Mount> {
        let mapped = device.block.dm.as_ref().map(|dm| format!("/dev/mapper/{}", dm.name));
        let (numbers, path, node) =
            ((device.block.major, device.block.minor), device.path.clone(), device.node);
        self.mounts.iter().filter(move |mount| {
            let is_source = mount.source == path || Some(&mount.source) == mapped.as_ref();
            node && ((mount.major, mount.minor) == numbers || is_source)
        })
    }

    /// By `/dev` path as the kernel names it.
    pub fn by_path(&self, path: &str) -> Option<&Device> {
        self.devices.iter().find(|device| device.path == path)
    }
}

/// The problems of each device that has some, by its path.
pub fn by_device(storage: &Storage) -> BTreeMap<&str, Vec<&Problem>> {
    let mut problems: BTreeMap<&str, Vec<&Problem>> = BTreeMap::new();
    for problem in &storage.problems {
        if let Some(path) = &problem.device {
            problems.entry(path).or_default().push(problem);
        }
    }
    problems
}

impl Device {
    pub fn report(&self) -> Option<&DiskReport> {
        match &self.report {
            Observed::Examined { report } => Some(report),
            Observed::Skipped { .. } | Observed::Failed { .. } | Observed::Hung { .. } => None,
        }
    }

    /// The same for what lists contents, as util-linux has it: nothing of the parts of a volume.
    pub fn listed(&self) -> Option<&DiskReport> {
        let is_private = self.block.dm.as_ref().is_some_and(|dm| dm.is_private());
        self.report().filter(|_| !is_private)
    }

    /// The most likely signature.
    pub fn signature(&self) -> Option<&ondisk::Signature> {
        self.report()?.signatures.first()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::build;
    use contract::facts::Facts;

    #[test]
    fn a_device_is_found_where_it_stands_now() {
        let block = |name: &str, seq| Block {
            name: name.to_string(),
            major: 8,
            diskseq: Some(seq),
            ..Block::default()
        };
        let facts = Facts { blocks: vec![block("sda", 1), block("sdb", 2)], ..Facts::default() };
        let mut storage = build(facts, &BTreeMap::new(), &[]);
        let path = |storage: &Storage, id: &str| {
            storage.get(&Id(id.to_string())).map(|device| device.path.clone()).unwrap_or_default()
        };
        assert_eq!(path(&storage, "seq:2"), "/dev/sdb");
        storage.devices.swap(0, 1);
        assert_eq!(path(&storage, "seq:2"), "/dev/sdb");
        storage.devices[0].id = Id("seq:3".to_string());
        assert_eq!((path(&storage, "seq:2").as_str(), path(&storage, "seq:3").as_str()), ("", "/dev/sdb"));
    }
}
