//! The write guard's policy. A consent is a file below [`crate::paths::CONSENT`], written before a
//! flag is cleared. `wanted` is pure and the only policy: devd and the verbs both call it.

use crate::facts::Block;
use serde::{Deserialize, Serialize};

/// Major numbers of drives whose medium the block layer's flag says nothing about: floppy, CD.
const NOT_DISKS: &[u32] = &[2, 11];

/// A window of a disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Extent {
    pub start: u64,
    pub length: u64,
}

/// A person typed a command that writes to this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consent {
    /// The kernel's diskseq of the whole disk: dies with it, never names another one.
    pub diskseq: u64,
    /// `None`: the disk as a whole, with partitions born later.
    pub extent: Option<Extent>,
    /// The command, for status and prompt: `mount /dev/sda1 /mnt`.
    pub by: String,
}

impl Consent {
    /// `DISKSEQ` or `DISKSEQ-START-LENGTH`.
    pub fn file_name(&self) -> String {
        match self.extent {
            None => self.diskseq.to_string(),
            Some(Extent { start, length }) => format!("{}-{start}-{length}", self.diskseq),
        }
    }
}

/// A real disk (`extent: None`) or a partition of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guarded {
    /// Of the whole disk, for a partition too.
    pub diskseq: u64,
    pub extent: Option<Extent>,
}

/// What the guard watches: real disks and their partitions. `None` for what stands on others or in
/// memory ([`Block::is_virtual`]), for floppy and CD drives, and for what has no diskseq.
pub fn guarded(block: &Block) -> Option<Guarded> {
    // An image file has no major number, and no flag.
    if block.major == 0 || NOT_DISKS.contains(&block.major) || block.is_virtual() {
        return None;
    }
    let extent =
        block.partition.as_ref().map(|partition| Extent { start: partition.start, length: block.size });
    Some(Guarded { diskseq: block.diskseq?, extent })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wanted {
    ReadOnly,
    Writable,
}

/// What the kernel's read-only flag of a device should be. A partition can be written when neither
/// its own flag nor its disk's is set (`bdev_read_only`, include/linux/blkdev.h), so a consent for
/// a partition clears the disk's flag as well, and nothing else's.
pub fn wanted(device: Guarded, consents: &[Consent]) -> Wanted {
    let covered =
        consents.iter().filter(|c| c.diskseq == device.diskseq).any(|c| match (c.extent, device.extent) {
            (None, _) | (_, None) => true,
            (Some(consented), Some(own)) => consented == own,
        });
    if covered { Wanted::Writable } else { Wanted::ReadOnly }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_and_their_partitions_are_guarded_and_nothing_else() {
        let disk = Block { name: "sda".to_string(), major: 8, diskseq: Some(7), ..Block::default() };
        assert_eq!(guarded(&disk), Some(Guarded { diskseq: 7, extent: None }));
        let partition = crate::facts::Partition { disk: "sda".to_string(), number: 1, start: SDA1.start };
        let sda1 = Block { partition: Some(partition), size: SDA1.length, ..disk.clone() };
        assert_eq!(guarded(&sda1), Some(Guarded { diskseq: 7, extent: Some(SDA1) }));
        for (label, other) in [
            ("a CD", Block { major: 11, ..disk.clone() }),
            ("a floppy", Block { major: 2, ..disk.clone() }),
            ("an image file", Block { major: 0, ..disk.clone() }),
            ("without a diskseq", Block { diskseq: None, ..disk.clone() }),
            ("an array", Block { md: Some(Default::default()), ..disk }),
        ] {
            assert_eq!(guarded(&other), None, "{label}");
        }
    }

    const SDA1: Extent = Extent { start: 1 << 20, length: 1 << 30 };
    const SDA2: Extent = Extent { start: 2 << 30, length: 1 << 30 };

    fn consent(diskseq: u64, extent: Option<Extent>) -> Consent {
        Consent { diskseq, extent, by: "mount /dev/sda1 /mnt".to_string() }
    }

    #[test]
    fn without_consent_everything_is_read_only() {
        for extent in [None, Some(SDA1)] {
            assert_eq!(wanted(Guarded { diskseq: 7, extent }, &[]), Wanted::ReadOnly);
        }
    }

    #[test]
    fn consent_for_a_partition_opens_it_and_its_disk_alone() {
        let consents = [consent(7, Some(SDA1))];
        let cases = [
            ("the partition", 7, Some(SDA1), Wanted::Writable),
            ("its disk's own flag", 7, None, Wanted::Writable),
            ("a sibling", 7, Some(SDA2), Wanted::ReadOnly),
            ("another disk", 8, None, Wanted::ReadOnly),
            ("the same extent of another disk", 8, Some(SDA1), Wanted::ReadOnly),
        ];
        for (label, diskseq, extent, want) in cases {
            assert_eq!(wanted(Guarded { diskseq, extent }, &consents), want, "{label}");
        }
    }

    #[test]
    fn consent_for_a_disk_covers_partitions_born_later() {
        let consents = [consent(7, None)];
        assert_eq!(wanted(Guarded { diskseq: 7, extent: Some(SDA2) }, &consents), Wanted::Writable);
    }
}
