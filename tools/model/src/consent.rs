//! Consent: which real devices a command that writes needs to be writable, exactly those and no
//! others, as the steps that open them.

use crate::overlay::{self, Use};
use crate::plan::Step;
use crate::storage::{Device, Id, Observed, Storage};
use contract::guard::{Consent, Extent, Wanted};
use std::collections::BTreeSet;

/// Why a device is not made writable: one line that names it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{0} hangs: it is not touched until it answers")]
    Hangs(String),
    #[error("{0} has no disk sequence number, so that a consent could outlive it")]
    NoSequence(String),
    #[error("{0} has no node: the kernel refused this partition; blockdev --rereadpt reads the table again")]
    NoNode(String),
    #[error("{path} is open for reading only: {close} first")]
    ReadOnlyMap { path: String, close: String },
    #[error("{of} is used through its overlay {overlay}; rescue overlay --drop {of} ends that")]
    Overlaid { of: String, overlay: String },
    #[error("{0} is a copy in memory, to be read: rescue assemble --stop, then rescue assemble --rw")]
    Copy(String),
}

/// The disks and partitions that a device stands on, itself when it is one; in the graph's order.
pub fn below<'a>(storage: &'a Storage, id: &Id) -> Vec<&'a Device> {
    let mut found = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut open = vec![id.clone()];
    while let Some(id) = open.pop() {
        let Some(device) = storage.get(&id).filter(|_| seen.insert(id.clone())) else { continue };
        // What is written to an overlay reaches nothing below it.
        if overlay::is_overlay(device) {
            continue;
        }
        if device.guard.is_some() {
            found.insert(id);
        } else {
            // A partition of an array stands on what the array stands on.
            open.extend(device.lower.iter().chain(&device.parent).cloned());
        }
    }
    storage.devices.iter().filter(|device| found.contains(&device.id)).collect()
}

/// The steps that make what is below a device writable, those that are not yet. `by` is the command
/// that a person typed.
pub fn writable(storage: &Storage, id: &Id, by: &str) -> Result<Vec<Step>, Refusal> {
    if let Some(copy) = storage.get(id).filter(|device| overlay::is_for_reading(storage, device)) {
        return Err(Refusal::Copy(crate::lvm::path(copy)));
    }
    let closed = |device: &&Device| device.guard != Some(Wanted::Writable) || device.block.read_only;
    below(storage, id).into_iter().filter(closed).map(|device| open(storage, device, by)).collect()
}

/// The same, with what stands between the disks and a device: arrays that run read-only are made writable after
/// their members. A mapped device that is read-only has to be made anew, which is refused with how.
pub fn all_writable(storage: &Storage, id: &Id, by: &str) -> Result<Vec<Step>, Refusal> {
    let mut steps = writable(storage, id, by)?;
    let mut arrays = Vec::new();
    let mut seen = BTreeSet::new();
    let mut open = vec![id.clone()];
    while let Some(id) = open.pop() {
        let Some(device) = storage.get(&id).filter(|_| seen.insert(id.clone())) else { continue };
        if device.guard.is_some() || overlay::is_overlay(device) {
            continue;
        }
        if let Some(dm) = &device.block.dm
            && device.block.read_only
        {
            let close = match crate::lvm::is_volume(device) {
                true => format!("rescue assemble --stop /dev/mapper/{}", dm.name),
                false => format!("rescue close {}", dm.name),
            };
            return Err(Refusal::ReadOnlyMap { path: format!("/dev/mapper/{}", dm.name), close });
        }
        if let Some(md) = &device.block.md
            && matches!(md.array_state.as_str(), "readonly" | "read-auto")
        {
            arrays.push(Step::MdSetReadOnly { device: device.path.clone(), read_only: false });
        }
        open.extend(device.lower.iter().chain(&device.parent).cloned());
    }
    // The lowest first.
    steps.extend(arrays.into_iter().rev());
    Ok(steps)
}

fn open(storage: &Storage, device: &Device, by: &str) -> Result<Step, Refusal> {
    let path = device.path.clone();
    if matches!(device.report, Observed::Hung { .. }) {
        return Err(Refusal::Hangs(path));
    }
    if !device.node {
        return Err(Refusal::NoNode(path));
    }
    if let Some(Use::Overlay { path: overlay, of }) = overlay::across(storage, device) {
        return Err(Refusal::Overlaid { of, overlay });
    }
    let Some(diskseq) = device.block.diskseq else { return Err(Refusal::NoSequence(path)) };
    Ok(Step::SetWritable { disk: disk_of(storage, device), consent: consent(device, diskseq, by), path })
}

/// The steps that put the guard back on what is below a device. A consent for the whole disk is
/// taken back through the disk, not through one of its partitions.
pub fn guarded(storage: &Storage, id: &Id, by: &str) -> Vec<Step> {
    let open = |device: &&Device| device.guard == Some(Wanted::Writable) || !device.block.read_only;
    below(storage, id)
        .into_iter()
        .filter(open)
        .filter_map(|device| {
            let consent = consent(device, device.block.diskseq?, by);
            Some(Step::SetGuarded { path: device.path.clone(), disk: disk_of(storage, device), consent })
        })
        .collect()
}

fn disk_of(storage: &Storage, device: &Device) -> Option<String> {
    let disk = device.parent.as_ref().and_then(|id| storage.get(id));
    disk.map(|disk| disk.path.clone())
}

fn consent(device: &Device, diskseq: u64, by: &str) -> Consent {
    let partition = device.block.partition.as_ref();
    let extent = partition.map(|partition| Extent { start: partition.start, length: device.block.size });
    Consent { diskseq, extent, by: by.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::build;
    use contract::facts::{Block, Facts, Md, Partition};
    use std::collections::BTreeMap;

    fn disk(name: &str, diskseq: u64) -> Block {
        let path = Some(format!("pci0000:00/{name}"));
        Block {
            name: name.to_string(),
            major: 8,
            minor: 16 * u32::try_from(diskseq).unwrap(),
            diskseq: Some(diskseq),
            size: 1 << 30,
            read_only: true,
            hardware: contract::facts::Hardware { path, ..Default::default() },
            ..Block::default()
        }
    }

    fn partition(disk: &Block) -> Block {
        let partition = Partition { disk: disk.name.clone(), number: 1, start: 1 << 20 };
        Block {
            name: format!("{}1", disk.name),
            minor: disk.minor + 1,
            size: 1 << 29,
            partition: Some(partition),
            ..disk.clone()
        }
    }

    fn mirror() -> Storage {
        let (sda, sdb, sdc) = (disk("sda", 1), disk("sdb", 2), disk("sdc", 3));
        let (sda1, sdb1) = (partition(&sda), partition(&sdb));
        let md0 = Block {
            name: "md0".to_string(),
            major: 9,
            diskseq: Some(9),
            size: 1 << 29,
            slaves: vec!["sda1".to_string(), "sdb1".to_string()],
            md: Some(Md::default()),
            hardware: contract::facts::Hardware {
                path: Some("virtual/block/md0".to_string()),
                ..Default::default()
            },
            ..Block::default()
        };
        let md0p1 = Block {
            name: "md0p1".to_string(),
            major: 259,
            md: None,
            slaves: Vec::new(),
            partition: Some(Partition { disk: "md0".to_string(), number: 1, start: 1 << 20 }),
            ..md0.clone()
        };
        let facts = Facts { blocks: vec![sda, sda1, sdb, sdb1, sdc, md0, md0p1], ..Facts::default() };
        build(facts, &BTreeMap::new(), &[])
    }

    fn paths(steps: &[Step]) -> Vec<&str> {
        let path = |step: &'_ Step| match step {
            Step::SetWritable { path, .. } | Step::SetGuarded { path, .. } => Some(path.clone()),
            _ => None,
        };
        steps.iter().filter_map(path).map(|path| &*path.leak()).collect()
    }

    #[test]
    fn an_array_opens_its_members_and_nothing_else() {
        let storage = mirror();
        for name in ["/dev/md0", "/dev/md0p1"] {
            let id = &storage.by_path(name).unwrap().id;
            let steps = writable(&storage, id, "mount /dev/md0 /mnt").unwrap();
            assert_eq!(paths(&steps), ["/dev/sda1", "/dev/sdb1"], "{name}");
        }
    }

    #[test]
    fn what_is_writable_already_needs_no_step() {
        let mut storage = mirror();
        for device in &mut storage.devices {
            if device.path == "/dev/sda1" {
                (device.guard, device.block.read_only) = (Some(Wanted::Writable), false);
            }
        }
        let id = storage.by_path("/dev/md0").unwrap().id.clone();
        assert_eq!(paths(&writable(&storage, &id, "test").unwrap()), ["/dev/sdb1"]);
        assert_eq!(paths(&guarded(&storage, &id, "test")), ["/dev/sda1"]);
    }

    #[test]
    fn a_member_that_hangs_is_a_refusal_that_names_it() {
        let mut storage = mirror();
        for device in &mut storage.devices {
            if device.path == "/dev/sdb1" {
                device.report = Observed::Hung { reason: "no answer".to_string() };
            }
        }
        let id = storage.by_path("/dev/md0").unwrap().id.clone();
        assert_eq!(writable(&storage, &id, "test"), Err(Refusal::Hangs("/dev/sdb1".to_string())));
    }
}
