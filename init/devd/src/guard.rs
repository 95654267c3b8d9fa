//! Which kernel flag of which device is to be changed: pure. The policy is `contract::guard`; the
//! flags are set by workers.
//!
//! The kernel shows a partition as read-only when its own flag is set or its disk's. What is known of
//! the own flag is kept beside the facts, so that a partition that was born on a guarded disk gets
//! its own one before a consent for a sibling clears the disk's.

use contract::facts::{Block, Facts};
use contract::guard::{Consent, Wanted, guarded, wanted};
use std::collections::{BTreeMap, BTreeSet};

/// The own flag of each device as it was set last, by kernel name. A device that appears has none.
pub type Own = BTreeMap<String, bool>;

/// The flags to set, by name.
pub fn corrections(facts: &Facts, own: &Own, consents: &[Consent]) -> Vec<(String, bool)> {
    let disks = facts.blocks.iter().filter(|block| block.partition.is_none() && block.read_only);
    let read_only_disks: BTreeSet<&str> = disks.map(|disk| disk.name.as_str()).collect();
    let correction = |block: &Block| {
        let read_only = wanted(guarded(block)?, consents) == Wanted::ReadOnly;
        let disk = block.partition.as_ref().map(|partition| &partition.disk);
        let hidden_by = |disk: &String| read_only_disks.contains(disk.as_str());
        let set_last = own.get(&block.name).copied();
        let is_set = match disk.is_some_and(hidden_by) {
            true => set_last,
            // A drive that is read-only by itself stays so, and no error is made of it.
            false if block.read_only && set_last == Some(false) => return None,
            false => Some(block.read_only),
        };
        (is_set != Some(read_only)).then(|| (block.name.clone(), read_only))
    };
    facts.blocks.iter().filter(|block| block.size > 0).filter_map(correction).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::facts::Partition;
    use contract::guard::Extent;

    const START: u64 = 1 << 20;
    const SIZE: u64 = 1 << 30;

    fn disk(read_only: bool) -> Block {
        Block {
            name: "sda".to_string(),
            major: 8,
            diskseq: Some(7),
            size: 8 * SIZE,
            read_only,
            ..Block::default()
        }
    }

    fn partition(number: u32, read_only: bool) -> Block {
        let partition = Partition { disk: "sda".to_string(), number, start: u64::from(number) * START };
        Block { name: format!("sda{number}"), size: SIZE, partition: Some(partition), ..disk(read_only) }
    }

    fn facts(blocks: Vec<Block>) -> Facts {
        Facts { blocks, ..Facts::default() }
    }

    fn own(flags: &[(&str, bool)]) -> Own {
        flags.iter().map(|(name, flag)| (name.to_string(), *flag)).collect()
    }

    fn changes(facts: &Facts, flags: &[(&str, bool)], consents: &[Consent]) -> Vec<(String, bool)> {
        corrections(facts, &own(flags), consents)
    }

    fn named(flags: &[(&str, bool)]) -> Vec<(String, bool)> {
        flags.iter().map(|(name, flag)| (name.to_string(), *flag)).collect()
    }

    #[test]
    fn a_disk_that_appears_is_protected_with_its_partitions_and_once() {
        let fresh = facts(vec![disk(false), partition(1, false)]);
        assert_eq!(changes(&fresh, &[], &[]), named(&[("sda", true), ("sda1", true)]));
        let done = facts(vec![disk(true), partition(1, true)]);
        assert_eq!(changes(&done, &[("sda", true), ("sda1", true)], &[]), named(&[]));
    }

    #[test]
    fn a_partition_born_on_a_guarded_disk_gets_a_flag_of_its_own() {
        // The kernel shows it read-only because of its disk.
        let born = facts(vec![disk(true), partition(1, true), partition(2, true)]);
        assert_eq!(changes(&born, &[("sda", true), ("sda1", true)], &[]), named(&[("sda2", true)]));
    }

    #[test]
    fn consent_for_a_partition_clears_it_and_its_disk_and_leaves_the_others() {
        let all = facts(vec![disk(true), partition(1, true), partition(2, true)]);
        let known = [("sda", true), ("sda1", true), ("sda2", true)];
        let extent = Some(Extent { start: START, length: SIZE });
        let consents = [Consent { diskseq: 7, extent, by: "test".to_string() }];
        assert_eq!(changes(&all, &known, &consents), named(&[("sda", false), ("sda1", false)]));
        // A devd that was restarted reads the own flags from a disk that can be written.
        let open = facts(vec![disk(false), partition(1, false), partition(2, true)]);
        assert_eq!(changes(&open, &[], &consents), named(&[]));
        assert_eq!(
            changes(&open, &[], &[]),
            named(&[("sda", true), ("sda1", true)]),
            "and takes them back without the consent"
        );
    }

    #[test]
    fn a_drive_that_is_read_only_by_itself_is_asked_once() {
        let consents = [Consent { diskseq: 7, extent: None, by: "test".to_string() }];
        let stubborn = facts(vec![disk(true)]);
        assert_eq!(changes(&stubborn, &[("sda", true)], &consents), named(&[("sda", false)]));
        assert_eq!(changes(&stubborn, &[("sda", false)], &consents), named(&[]));
    }
}
