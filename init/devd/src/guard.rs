//! The write guard's rule: which block devices are real disks (or parts of one), and what their
//! flags should be. Pure; the flags are set by workers.

use contract::facts::Block;
use contract::guard::{Consent, Extent, Guarded, Wanted, wanted};

/// Names, before their number, of devices that stand on others, in memory, or on a medium that
/// cannot be written by the block layer.
const VIRTUAL: &[&str] = &["ram", "loop", "md", "md_d", "dm-", "zram", "sr", "fd", "nbd"];

/// A real disk or a partition of one; `None` for what stands on others or in memory.
pub fn guarded(block: &Block) -> Option<Guarded> {
    let disk = block.partition.as_ref().map_or(block.name.as_str(), |partition| partition.disk.as_str());
    let is_virtual = VIRTUAL.iter().any(|prefix| {
        disk.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    });
    if is_virtual || block.md.is_some() || block.dm.is_some() || block.loop_file.is_some() {
        return None;
    }
    let extent =
        block.partition.as_ref().map(|partition| Extent { start: partition.start, length: block.size });
    Some(Guarded { diskseq: block.diskseq?, extent })
}

/// The flag to set, where it is not as it should be.
pub fn correction(block: &Block, consents: &[Consent]) -> Option<bool> {
    let read_only = wanted(guarded(block)?, consents) == Wanted::ReadOnly;
    // A drive that is read-only by itself stays so, and no error is made of it.
    (read_only && !block.read_only).then_some(true).or((!read_only && block.read_only).then_some(false))
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::facts::Partition;

    fn block(name: &str) -> Block {
        Block { name: name.to_string(), diskseq: Some(7), size: 1 << 30, ..Block::default() }
    }

    fn partition(name: &str, disk: &str) -> Block {
        let partition = Partition { disk: disk.to_string(), number: 1, start: 1 << 20 };
        Block { partition: Some(partition), ..block(name) }
    }

    #[test]
    fn real_disks_and_their_partitions_are_guarded_and_nothing_else() {
        for name in ["sda", "vda", "nvme0n1", "xvda", "mmcblk0", "cciss!c0d0"] {
            assert!(guarded(&block(name)).is_some(), "{name}");
        }
        assert!(guarded(&partition("sda1", "sda")).is_some());
        for name in ["loop0", "ram0", "zram0", "dm-3", "md127", "md_d0", "sr0"] {
            assert!(guarded(&block(name)).is_none(), "{name}");
        }
        assert!(guarded(&partition("md0p1", "md0")).is_none());
        assert!(guarded(&Block { diskseq: None, ..block("sda") }).is_none());
    }

    #[test]
    fn a_flag_is_set_where_it_is_not_and_cleared_with_consent_alone() {
        let writable = block("sda");
        let protected = Block { read_only: true, ..block("sda") };
        let consent = Consent { diskseq: 7, extent: None, by: "test".to_string() };
        assert_eq!(correction(&writable, &[]), Some(true));
        assert_eq!(correction(&protected, &[]), None);
        assert_eq!(correction(&protected, std::slice::from_ref(&consent)), Some(false));
        assert_eq!(correction(&writable, &[consent]), None);
    }
}
