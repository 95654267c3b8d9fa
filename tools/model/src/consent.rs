//! Consent: which real devices a command that writes needs to be writable, exactly those and no
//! others, as the steps that open them.

use crate::build::array_member;
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
    /// With the commands that open it for writing, where those that opened it are ours.
    #[error("{path} is open for reading only{}", .way.as_ref().map(|way| format!(": {way}")).unwrap_or_default())]
    ReadOnlyMap { path: String, way: Option<String> },
    #[error("{of} is used through its overlay {overlay}; rescue overlay --drop {of} ends that")]
    Overlaid { of: String, overlay: String },
    #[error("{0} is a copy in memory, to be read: rescue assemble --stop, then rescue assemble --rw")]
    Copy(String),
    #[error(
        "{path} is in the table of the RAID array that {member} is a member of: rescue assemble starts it; where that array is no more, wipefs {member} lists what is left of it"
    )]
    OfArray { path: String, member: String },
    #[error("{path} is in the table of the RAID array that {member} is a member of: did you mean {meant}?")]
    OfRunning { path: String, member: String, meant: String },
}

/// A partition that the kernel made on a member of an array, of the table that stands in the array: the array's own is
/// meant, and writing to this one would make the members differ.
pub fn of_array(storage: &Storage, device: &Device) -> Option<Refusal> {
    let member = array_member(storage, device)?;
    let path = device.path.clone();
    // A container has no bytes.
    let is_array = |upper: &&Device| upper.block.md.is_some() && upper.block.size != 0;
    let Some(array) = member.upper.iter().filter_map(|id| storage.get(id)).find(is_array) else {
        return Some(Refusal::OfArray { path, member: member.path.clone() });
    };
    let number = |device: &Device| device.block.partition.as_ref().map(|partition| partition.number);
    let is_it = |other: &&Device| other.parent.as_ref() == Some(&array.id) && number(other) == number(device);
    let meant = storage.devices.iter().find(is_it).unwrap_or(array).path.clone();
    Some(Refusal::OfRunning { path, member: member.path.clone(), meant })
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
    let below = below(storage, id);
    if let Some(refusal) = below.iter().find_map(|device| of_array(storage, device)) {
        return Err(refusal);
    }
    let closed = |device: &&Device| device.guard != Some(Wanted::Writable) || device.block.read_only;
    below.into_iter().filter(closed).map(|device| open(storage, device, by)).collect()
}

/// The same, with what stands between the disks and a device: arrays that run read-only are made writable after
/// their members. A mapped device that is read-only has to be made anew, which is refused with how.
pub fn all_writable(storage: &Storage, id: &Id, by: &str) -> Result<Vec<Step>, Refusal> {
    let mut steps = writable(storage, id, by)?;
    if let Some(refusal) = read_only_map(storage, id) {
        return Err(refusal);
    }
    let mut arrays = Vec::new();
    let mut seen = BTreeSet::new();
    let mut open = vec![id.clone()];
    while let Some(id) = open.pop() {
        let Some(device) = storage.get(&id).filter(|_| seen.insert(id.clone())) else { continue };
        if device.guard.is_some() || overlay::is_overlay(device) {
            continue;
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

/// The map that keeps what is below it from being written through a device, if there is one: it cannot be made writable, but
/// only anew.
pub fn read_only_map(storage: &Storage, id: &Id) -> Option<Refusal> {
    let (mut seen, mut open, mut maps) = (BTreeSet::new(), vec![id.clone()], Vec::new());
    while let Some(id) = open.pop() {
        let Some(device) = storage.get(&id).filter(|_| seen.insert(id)) else { continue };
        if device.guard.is_some() || overlay::is_overlay(device) {
            continue;
        }
        if device.block.dm.is_some() && device.block.read_only {
            maps.push(device);
        }
        open.extend(device.lower.iter().chain(&device.parent).cloned());
    }
    let path = crate::lvm::path(maps.first()?);
    Some(Refusal::ReadOnlyMap { path, way: anew(storage, &maps) })
}

/// The commands that take maps away, the uppermost first, and then make them anew for writing. `None`: one of them is
/// not made by ours.
fn anew(storage: &Storage, maps: &[&Device]) -> Option<String> {
    let (mut down, mut up) = (Vec::new(), Vec::new());
    for map in maps {
        let name = &map.block.dm.as_ref()?.name;
        let (stop, start) = if crate::lvm::is_volume(map) {
            let (group, _) = crate::lvm::names_of(name)?;
            (format!("rescue assemble --stop {group}"), format!("rescue assemble --rw {group}"))
        } else {
            let locked = crate::luks::locked(storage, map).filter(|_| crate::luks::is_unlocked(map))?;
            let named = match crate::luks::default_name(locked) == *name {
                true => String::new(),
                false => format!("--name {name} "),
            };
            let path = crate::lvm::path(locked);
            (format!("rescue close {name}"), format!("rescue open --rw {named}{path}"))
        };
        // All volumes of a group go and come with it.
        if !down.contains(&stop) {
            down.push(stop);
            up.push(start);
        }
    }
    up.reverse();
    Some([down, up].concat().join(" && "))
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
pub(crate) mod tests {
    use super::*;
    use crate::build::build;
    use contract::facts::{Block, Dm, Facts, Md, Partition};
    use std::collections::BTreeMap;

    /// A guarded one, of a GiB.
    pub(crate) fn disk(name: &str, diskseq: u64) -> Block {
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

    /// From the lowest on: name and UUID.
    type Maps<'a> = &'a [(&'a str, &'a str)];

    /// Each for reading.
    fn maps(all: Maps<'_>) -> Storage {
        let mut blocks = vec![disk("sda", 1)];
        for (number, (name, uuid)) in (10..).zip(all) {
            let below = blocks.last_mut().unwrap();
            let own = format!("dm-{number}");
            below.holders.push(own.clone());
            let dm = Dm { name: name.to_string(), uuid: uuid.to_string(), ..Dm::default() };
            let slaves = vec![below.name.clone()];
            let hardware = contract::facts::Hardware {
                path: Some(format!("virtual/block/{own}")),
                ..Default::default()
            };
            blocks.push(Block { dm: Some(dm), slaves, hardware, ..disk(&own, number) });
        }
        build(Facts { blocks, ..Facts::default() }, &BTreeMap::new(), &[])
    }

    #[test]
    fn what_is_mapped_for_reading_is_refused_with_the_commands_that_map_it_for_writing() {
        let (root, home) = (("my--vg-root", "LVM-1"), ("my--vg-root_rimage_0", "LVM-2"));
        let crypt = ("sda_crypt", "CRYPT-LUKS2-1");
        let close = "rescue close sda_crypt";
        // (maps from the lowest on, which is named, how to go on)
        let cases: [(Maps<'_>, &str, String); 6] = [
            (
                &[root],
                "my--vg-root",
                ": rescue assemble --stop my-vg && rescue assemble --rw my-vg".to_string(),
            ),
            (
                &[home, root],
                "my--vg-root",
                ": rescue assemble --stop my-vg && rescue assemble --rw my-vg".to_string(),
            ),
            (&[crypt], "sda_crypt", format!(": {close} && rescue open --rw /dev/sda")),
            (
                &[crypt, root],
                "my--vg-root",
                format!(
                    ": rescue assemble --stop my-vg && {close} && rescue open --rw /dev/sda && rescue assemble --rw my-vg"
                ),
            ),
            (
                &[root, ("secret", "CRYPT-LUKS2-1")],
                "secret",
                ": rescue close secret && rescue assemble --stop my-vg && rescue assemble --rw my-vg && \
                 rescue open --rw --name secret /dev/mapper/my--vg-root"
                    .to_string(),
            ),
            (&[("hashed", "CRYPT-VERITY-1")], "hashed", String::new()),
        ];
        for (all, name, way) in cases {
            let storage = maps(all);
            let top = storage.devices.iter().find(|device| device.upper.is_empty()).unwrap();
            let refusal = read_only_map(&storage, &top.id).unwrap();
            assert_eq!(refusal.to_string(), format!("/dev/mapper/{name} is open for reading only{way}"));
            assert_eq!(all_writable(&storage, &top.id, "test"), Err(refusal));
        }
        let mut storage = maps(&[root]);
        for device in &mut storage.devices {
            device.block.read_only = device.block.dm.is_none();
        }
        let top = storage.devices.iter().find(|device| device.upper.is_empty()).unwrap();
        assert_eq!(read_only_map(&storage, &top.id), None);
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
