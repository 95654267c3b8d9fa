//! Facts: what the kernel says about its block devices, mounts and swaps, before any judgement.
//! Read by `host` from sysfs and proc (live, or of a captured machine), judged by `model`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// All of one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// In the order of /proc/partitions: each disk is followed by its partitions by number.
    pub blocks: Vec<Block>,
    pub mounts: Vec<Mount>,
    pub swaps: Vec<Swap>,
    /// diskseq of disks that missed a deadline, with why.
    pub hung: Vec<(u64, String)>,
    /// What could not be read, one line each.
    pub problems: Vec<String>,
}

impl Facts {
    /// The devices of these names, their partitions, and all that stands on them.
    pub fn above(&self, mut names: BTreeSet<String>) -> BTreeSet<String> {
        loop {
            let before = names.len();
            // In nearly every machine.
            if before == 0 {
                return names;
            }
            for block in &self.blocks {
                if block.below().any(|below| names.contains(below)) {
                    names.insert(block.name.clone());
                }
            }
            if names.len() == before {
                return names;
            }
        }
    }
}

/// One block device: a directory below /sys/class/block.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Block {
    /// The kernel's name: `sda1`, `md127`, `dm-0`, `cciss!c0d0` with its `!`.
    pub name: String,
    pub major: u32,
    pub minor: u32,
    /// Of whole disks; partitions take their disk's.
    pub diskseq: Option<u64>,
    /// Bytes.
    pub size: u64,
    pub read_only: bool,
    pub removable: bool,
    pub rotational: bool,
    /// Bytes; 512 or 4096, 0 when the kernel did not say.
    pub logical_block: u32,
    pub physical_block: u32,
    pub minimum_io: u32,
    pub optimal_io: u32,
    pub alignment_offset: i64,
    /// `hidden` multipath legs and such are not listed by classic tools.
    pub hidden: bool,
    pub partition: Option<Partition>,
    /// Names of devices this one is built on, and of those built on it.
    pub slaves: Vec<String>,
    pub holders: Vec<String>,
    pub hardware: Hardware,
    pub md: Option<Md>,
    pub dm: Option<Dm>,
    /// Of our overlays, on the running machine: what the kernel says of the snapshot, as
    /// `dmsetup status` prints it: `16/4096 16`, `Overflow`, `Invalid`.
    pub snapshot: Option<String>,
    /// Backing file of a loop device.
    pub loop_file: Option<String>,
}

impl Block {
    /// Where its node is; an image file, which has no major number, is named by its path already.
    pub fn path(&self) -> String {
        if self.major == 0 { self.name.clone() } else { format!("/dev/{}", self.name.replace('!', "/")) }
    }

    /// Made by the kernel out of others, of memory or of nothing (md, dm, loop, zram, bcache), not by a
    /// drive; a partition is what its disk is. Real although they live below `virtual`: NVMe with
    /// multipath (`virtual/nvme-subsystem`), and disks at the other end of a network (nbd, AoE).
    ///
    /// The one classification: the guard, the graph and the verbs ask here.
    pub fn is_virtual(&self) -> bool {
        if self.md.is_some() || self.dm.is_some() || self.loop_file.is_some() || !self.slaves.is_empty() {
            return true;
        }
        let path = self.hardware.path.as_deref().unwrap_or_default();
        let is_remote = |name: &str| name.starts_with("nbd") || name.starts_with("etherd!");
        path.strip_prefix("virtual/block/").is_some_and(|name| !is_remote(name))
    }

    /// Made by us, to take what is written instead of the devices below.
    pub fn is_overlay(&self) -> bool {
        self.dm.as_ref().is_some_and(|dm| dm.uuid.starts_with(OVERLAY_UUID))
    }

    /// Names of the devices right below this one: what it is built on, and the disk of a partition.
    pub fn below(&self) -> impl Iterator<Item = &String> {
        self.slaves.iter().chain(self.partition.iter().map(|partition| &partition.disk))
    }
}

/// A partition that the kernel made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Partition {
    /// Kernel name of the disk.
    pub disk: String,
    pub number: u32,
    /// Bytes from the disk's start.
    pub start: u64,
}

/// What the drive says of itself, with the blanks that it pads its fields with: trim before use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hardware {
    pub model: Option<String>,
    pub vendor: Option<String>,
    pub serial: Option<String>,
    pub wwid: Option<String>,
    pub revision: Option<String>,
    /// `nvme`, `sata`, `sas`, `usb`, `virtio`, ... as lsblk's TRAN names it.
    pub transport: Option<String>,
    /// The device's path below /sys/devices, for by-path links.
    pub path: Option<String>,
    /// Host:channel:target:lun of SCSI devices.
    pub hctl: Option<String>,
    /// SCSI peripheral type (0 disk, 5 rom), `None` elsewhere.
    pub scsi_type: Option<u8>,
    /// `running`, `offline`, `blocked`, ...: sysfs `device/state`.
    pub state: Option<String>,
}

/// A running (or half-assembled) md array, from /sys/block/mdX/md.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Md {
    /// `raid1`; empty for an inactive one.
    pub level: String,
    pub array_state: String,
    pub sync_action: Option<String>,
    pub metadata_version: Option<String>,
    pub uuid: Option<String>,
    pub raid_disks: u32,
    pub degraded: u32,
    /// Kernel names with their `state` text: `in_sync`, `faulty`, `spare`.
    pub members: Vec<(String, String)>,
}

/// A device-mapper device, from /sys/block/dm-N/dm.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dm {
    pub name: String,
    /// `LVM-...`, `CRYPT-LUKS2-...`, or ours `LIFEBOAT-OVERLAY-...`.
    pub uuid: String,
    pub suspended: bool,
}

impl Dm {
    /// A part of a volume, which nobody but its owner looks into: of LVM's with a word behind its UUID, and Stratis'
    /// (util-linux, lib/sysfs.c: sysfs_devno_is_dm_private).
    pub fn is_private(&self) -> bool {
        let behind = self.uuid.strip_prefix("LVM-").and_then(|uuid| uuid.rsplit_once('-'));
        behind.is_some_and(|(_, word)| !word.is_empty()) || self.uuid.starts_with("stratis-1-private")
    }
}

/// How the UUIDs of our overlays begin; the id of the original follows.
pub const OVERLAY_UUID: &str = "LIFEBOAT-OVERLAY-";

/// One line of /proc/self/mountinfo, with octal escapes resolved (bytes that are no UTF-8 as `host::text` has them).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mount {
    pub id: u32,
    pub parent: u32,
    pub major: u32,
    pub minor: u32,
    /// The part of the file system that is mounted.
    pub root: String,
    pub target: String,
    pub options: String,
    pub fstype: String,
    pub source: String,
    pub super_options: String,
}

/// Room of a mounted file system, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Space {
    pub size: u64,
    pub used: u64,
    /// For users other than root.
    pub available: u64,
}

/// One line of /proc/swaps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Swap {
    pub path: String,
    pub size: u64,
    pub used: u64,
    pub priority: i32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_volumes_are_private_and_volumes_are_not() {
        let private = |uuid: &str| Dm { uuid: uuid.into(), ..Dm::default() }.is_private();
        for part in ["LVM-AbCdEf-tdata", "LVM-AbCdEf-real", "stratis-1-private-x"] {
            assert!(private(part), "{part}");
        }
        for volume in ["LVM-AbCdEf", "LVM-AbCdEf-", "CRYPT-LUKS2-0123-name", "LIFEBOAT-OVERLAY-seq:1", ""] {
            assert!(!private(volume), "{volume}");
        }
    }

    #[test]
    fn what_stands_on_others_or_in_memory_is_virtual_and_nothing_else() {
        let cases = [
            ("virtual/block/md127", true),
            ("virtual/block/md0/md0p1", true),
            ("virtual/block/dm-3", true),
            ("virtual/block/loop0", true),
            ("virtual/block/loop0/loop0p1", true),
            ("virtual/block/zram0", true),
            ("virtual/block/ram0", true),
            ("virtual/block/bcache0", true),
            ("virtual/block/nbd0", false),
            ("virtual/block/nbd0/nbd0p1", false),
            ("virtual/block/etherd!e0.0", false),
            ("virtual/nvme-subsystem/nvme-subsys0/nvme0n1", false),
            ("virtual/nvme-subsystem/nvme-subsys0/nvme0n1/nvme0n1p1", false),
            ("pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0/block/sda/sda1", false),
            ("platform/host3/session1/target3:0:0/3:0:0:0/block/sdb", false),
            ("vbd-51712/block/xvda", false),
        ];
        for (path, want) in cases {
            let hardware = Hardware { path: Some(path.to_string()), ..Hardware::default() };
            let name = path.rsplit('/').next().unwrap().to_string();
            assert_eq!(Block { name, hardware, ..Block::default() }.is_virtual(), want, "{path}");
        }
    }
}
