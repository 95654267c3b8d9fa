//! Facts and reports to Storage. Cannot fail: what went wrong with one device is a Problem in the
//! graph, and the others are there all the same.

use crate::bcache;
use crate::content;
use crate::md;
use crate::overlay;
use crate::storage::{Array, Device, Id, Observed, Problem, Storage};
use crate::text::Untrusted;
use contract::facts::{Block, Facts, Partition};
use contract::guard::{self, Consent, Wanted};
use ondisk::table::{Entry, Reader, Table, TableKind};
use ondisk::volume::mdraid::Level;
use ondisk::volume::{Volume, firmware};
use ondisk::{DiskReport, Health, Severity, Signature, Usage};
use std::collections::{BTreeMap, BTreeSet};

/// The graph of one moment. `observed` is by kernel name (the path, for an image file); a device without one
/// was not looked at.
pub fn build(facts: Facts, observed: &BTreeMap<String, Observed>, consents: &[Consent]) -> Storage {
    build_of(facts, observed.clone(), consents)
}

/// The same, without a copy of what was seen.
pub fn build_of(facts: Facts, mut observed: BTreeMap<String, Observed>, consents: &[Consent]) -> Storage {
    let Facts { blocks, mounts, swaps, hung, problems } = facts;
    let mut storage = Storage { mounts, swaps, ..Storage::default() };
    let ids: BTreeMap<String, Id> = blocks.iter().map(|block| (block.name.clone(), id(block))).collect();
    let find = |names: &[String]| names.iter().filter_map(|name| ids.get(name).cloned()).collect::<Vec<_>>();
    for block in blocks {
        let hangs = hung.iter().find(|(seq, _)| Some(*seq) == block.diskseq);
        let report = match (hangs, observed.remove(&block.name)) {
            (Some((_, reason)), _) => Observed::Hung { reason: reason.clone() },
            (None, Some(seen)) => seen,
            (None, None) => Observed::Skipped { reason: "not looked at".to_string() },
        };
        let report = recognised(report, &block);
        let parent = block.partition.as_ref().and_then(|partition| ids.get(&partition.disk).cloned());
        storage.devices.push(Device {
            id: id(&block),
            path: block.path(),
            node: block.major != 0,
            parent,
            lower: find(&block.slaves),
            upper: find(&block.holders),
            report,
            guard: guard(&block, consents),
            block,
        });
    }
    refused_partitions(&mut storage);
    completed(&mut storage);
    arrays(&mut storage);
    storage.volumes = crate::lvm::groups(&storage.devices);
    let mut problems = problems.into_iter().map(|text| problem(None, Severity::Warning, text)).collect();
    storage.problems.append(&mut problems);
    let parts = parts(&storage);
    let own = |device: &Device| parts.get(&device.id).map_or(&[][..], Vec::as_slice);
    let of_devices: Vec<Problem> =
        storage.devices.iter().flat_map(|device| problems_of(device, own(device), &storage)).collect();
    storage.problems.extend(of_devices);
    storage.problems.extend(crate::md::problems(&storage));
    storage.problems.extend(crate::lvm::problems(&storage));
    storage.problems.extend(bcache::problems(&storage));
    storage.problems.extend(overlay::problems(&storage));
    storage.problems.sort_by_key(|problem| std::cmp::Reverse(problem.severity));
    storage
}

/// Firmware RAID tells its drives apart by what they say of themselves.
fn recognised(mut report: Observed, block: &Block) -> Observed {
    if let Observed::Examined { report } = &mut report {
        let volumes = report.signatures.iter_mut().filter_map(|signature| signature.volume.as_mut());
        for volume in volumes {
            if let Volume::Firmware(firmware) = volume {
                firmware.recognise(block.hardware.serial.as_deref().unwrap_or_default());
            }
        }
    }
    report
}

/// And tells of a volume that is made of arrays what stands on other drives.
fn completed(storage: &mut Storage) {
    let mut volumes = Vec::new();
    for device in &mut storage.devices {
        let Observed::Examined { report } = &mut device.report else { continue };
        for signature in &mut report.signatures {
            if let Some(Volume::Firmware(firmware)) = &mut signature.volume {
                volumes.extend(firmware.volumes.iter_mut());
            }
        }
    }
    firmware::complete(&mut volumes);
}

/// The partitions of each disk that has some.
pub fn parts(storage: &Storage) -> BTreeMap<&Id, Vec<&Device>> {
    let mut parts: BTreeMap<&Id, Vec<&Device>> = BTreeMap::new();
    for device in &storage.devices {
        if let Some(parent) = &device.parent {
            parts.entry(parent).or_default().push(device);
        }
    }
    parts
}

/// The partitions that the kernel has: where they start, by disk.
#[derive(Debug, Default)]
pub struct Kernels(BTreeMap<String, BTreeSet<u64>>);

impl Kernels {
    pub fn of<'a>(blocks: impl IntoIterator<Item = &'a Block>) -> Kernels {
        let mut kernels = Kernels::default();
        for partition in blocks.into_iter().filter_map(|block| block.partition.as_ref()) {
            kernels.0.entry(partition.disk.clone()).or_default().insert(partition.start);
        }
        kernels
    }

    /// Partitions that are in a disk's table and not in the kernel: refused by it, or of an image file.
    pub fn refused<'a>(&self, disk: &Block, table: &'a Table) -> impl Iterator<Item = &'a Entry> {
        let starts = self.0.get(&disk.name);
        // Of an extended partition the kernel shows two sectors, so the start alone decides.
        table
            .partitions
            .iter()
            .filter(move |entry| !starts.is_some_and(|starts| starts.contains(&entry.extent.start)))
    }
}

fn id(block: &Block) -> Id {
    Id(match (block.major, block.diskseq, &block.partition) {
        (0, _, _) => format!("file:{}", block.name),
        (_, Some(seq), None) => format!("seq:{seq}"),
        (_, Some(seq), Some(partition)) => format!("seq:{seq}@{}", partition.start),
        (major, None, _) => format!("dev:{major}:{}", block.minor),
    })
}

/// What the device's own flag should be; `None` for what has no flag of ours.
fn guard(block: &Block, consents: &[Consent]) -> Option<Wanted> {
    Some(guard::wanted(guard::guarded(block)?, consents))
}

/// `sda5`, `nvme0n1p5`: as the kernel would name it.
pub fn partition_name(disk: &str, number: u32) -> String {
    let p = if disk.ends_with(|c: char| c.is_ascii_digit()) { "p" } else { "" };
    format!("{disk}{p}{number}")
}

/// Adds a device for each refused partition, behind its disk and the disk's other partitions.
fn refused_partitions(storage: &mut Storage) {
    let kernels = Kernels::of(storage.devices.iter().map(|device| &device.block));
    let mut i = 0;
    while i < storage.devices.len() {
        let disk = &storage.devices[i];
        let entries: Vec<Device> = match disk.report() {
            Some(report) if disk.parent.is_none() => {
                let table = report.table.iter();
                table
                    .flat_map(|table| kernels.refused(&disk.block, table))
                    .map(|entry| refused_device(disk, report, entry))
                    .collect()
            }
            _ => Vec::new(),
        };
        let own = |device: &&Device| device.parent.as_ref() == Some(&disk.id);
        let behind = i + 1 + storage.devices[i + 1..].iter().take_while(own).count();
        let next = behind + entries.len();
        storage.devices.splice(behind..behind, entries);
        i = next;
    }
}

fn refused_device(disk: &Device, report: &DiskReport, entry: &Entry) -> Device {
    let section = report.sections.iter().find(|(start, _)| *start == entry.extent.start);
    let block = Block {
        name: partition_name(&disk.block.name, entry.number),
        major: 0,
        minor: 0,
        size: entry.extent.length,
        partition: Some(Partition {
            disk: disk.block.name.clone(),
            number: entry.number,
            start: entry.extent.start,
        }),
        slaves: Vec::new(),
        holders: Vec::new(),
        md: None,
        ..disk.block.clone()
    };
    Device {
        id: Id(format!("{}@{}", disk.id.0, entry.extent.start)),
        path: partition_name(&disk.path, entry.number),
        block,
        node: false,
        parent: Some(disk.id.clone()),
        lower: Vec::new(),
        upper: Vec::new(),
        report: match section {
            Some((_, report)) => Observed::Examined { report: Box::new(report.clone()) },
            None => Observed::Skipped { reason: "the kernel has no node for it".to_string() },
        },
        guard: disk.guard,
    }
}

/// Members by the array's UUID, and each running array with whatever is known of its members.
fn arrays(storage: &mut Storage) {
    let mut arrays: BTreeMap<String, Array> = BTreeMap::new();
    // A set is made of overlays alone or of none.
    let overlaid: BTreeSet<String> =
        storage.devices.iter().filter(|device| overlay::is_overlay(device)).flat_map(md::arrays_of).collect();
    let has_overlays = storage.devices.iter().any(overlay::is_overlay);
    let is_out = |device: &Device, uuid: &String| {
        has_overlays
            && (overlaid.contains(uuid) && !overlay::is_overlay(device)
                || overlay::across(storage, device).is_some())
    };
    for device in &storage.devices {
        for uuid in md::arrays_of(device).into_iter().filter(|uuid| !is_out(device, uuid)) {
            let empty = || Array { uuid: uuid.clone(), members: Vec::new(), device: None };
            arrays.entry(uuid.clone()).or_insert_with(empty).members.push(device.id.clone());
        }
    }
    let by_name: BTreeMap<&str, &Device> =
        storage.devices.iter().map(|device| (device.block.name.as_str(), device)).collect();
    for device in &storage.devices {
        let Some(md) = device.block.md.as_ref().filter(|md| !md::is_container(md)) else { continue };
        let member = |name: &String| by_name.get(name.as_str()).copied();
        let members: Vec<&Device> = md.members.iter().filter_map(|(name, _)| member(name)).collect();
        let is_it =
            |member: &&Device| md::arrays_of(member).into_iter().find(|uuid| md::is_array(md, member, uuid));
        let uuid = members.iter().find_map(is_it).or_else(|| md.uuid.clone());
        // An array whose members all hang is still one, under its kernel name.
        let uuid = uuid.unwrap_or_else(|| device.block.name.clone());
        let ids = || members.iter().map(|member| member.id.clone()).collect();
        let array =
            arrays.entry(uuid.clone()).or_insert_with(|| Array { uuid, members: ids(), device: None });
        array.device = Some(device.id.clone());
    }
    storage.arrays = arrays.into_values().collect();
}

fn problem(device: Option<&Device>, severity: Severity, text: String) -> Problem {
    Problem { device: device.map(|device| device.path.clone()), severity, text }
}

/// `parts`: its partitions.
fn problems_of(device: &Device, parts: &[&Device], storage: &Storage) -> Vec<Problem> {
    let path = &device.path;
    let report = match &device.report {
        // Once for the disk, not for each partition.
        Observed::Hung { reason } if !parent_hangs(device, storage) => {
            let text = format!("{reason}; this disk is not touched until it answers");
            return vec![problem(Some(device), Severity::Error, text)];
        }
        Observed::Failed { reason } => return vec![problem(Some(device), Severity::Warning, reason.clone())],
        Observed::Hung { .. } | Observed::Skipped { .. } => return Vec::new(),
        Observed::Examined { report } => report,
    };
    let mut problems = Vec::new();
    let mut add = |severity, text| problems.push(problem(Some(device), severity, text));
    match &report.errors[..] {
        [] => {}
        // What cannot be read there is a PV that is missing, which is told as such.
        _ if crate::lvm::is_hole(device) || crate::lvm::has_hole(storage, device) => {}
        [error] => add(Severity::Error, format!("{path} has read errors: {error}")),
        [error, rest @ ..] => {
            add(Severity::Error, format!("{path} has read errors: {error}, and {} more", rest.len()))
        }
    }
    let leftovers = if ambiguous(report) { Vec::new() } else { leftovers(report) };
    if let (Some(first), false) = (report.signatures.first(), leftovers.is_empty()) {
        let all: Vec<&str> = leftovers.iter().map(|signature| signature.format.as_str()).collect();
        let text = format!(
            "{path} is {}; what it looks like besides ({}) is left over from before: wipefs {path} lists where each is",
            first.format,
            all.join(", ")
        );
        add(Severity::Info, text);
    }
    // What a member shows of its array is told of the array: of a stripe the member has pieces alone.
    let of_array = report.signatures.first().is_some_and(shows_its_array);
    let own = if of_array { 1 } else { report.signatures.len() };
    for signature in report.signatures.iter().take(own).filter(|signature| !leftovers.contains(signature)) {
        if let Health::Damaged(reason) = &signature.health {
            let next = match signature.usage {
                Usage::Filesystem if content::has_checker(signature) => format!(": look with fsck -n {path}"),
                Usage::Filesystem | Usage::Raid | Usage::Crypto | Usage::Other => String::new(),
            };
            add(
                Severity::Error,
                format!("{path}: damaged {}: {}{next}", signature.format, Untrusted(reason)),
            );
        }
    }
    if report.signatures.is_empty()
        && report.errors.is_empty()
        && report.table.is_none()
        && let Some(name) = crate::status::promised(device, storage)
    {
        add(Severity::Warning, format!("{path}: the table says {name}, and no superblock of any is there"));
    }
    if ambiguous(report) {
        let all: Vec<&str> = report.signatures.iter().map(|signature| signature.format.as_str()).collect();
        let text = format!(
            "{path} looks like {}: it is not mounted without -t; wipefs {path} lists where each is",
            all.join(" and like ")
        );
        add(Severity::Warning, text);
    }
    // An extended partition's first sector is a link of the chain, which was read with the whole disk.
    if of_array || is_extended(device, storage) {
        return problems;
    }
    if let Some(table) = &report.table {
        for (severity, text) in table_problems(table) {
            add(severity, format!("{path}: {text}"));
        }
        if device.node && device.parent.is_none() {
            for text in disagreements(device, table, parts) {
                add(Severity::Warning, text);
            }
        }
    }
    for finding in &report.findings {
        add(finding.severity, format!("{path}: {}", Untrusted(&finding.text)));
    }
    problems
}

/// A partition that holds the logical ones; the kernel shows two sectors of it.
pub fn is_extended(device: &Device, storage: &Storage) -> bool {
    let parent = device.parent.as_ref().and_then(|id| storage.get(id));
    let table = parent.and_then(|parent| parent.report()?.table.as_ref());
    let start = device.block.partition.as_ref().map(|partition| partition.start);
    table.is_some_and(|table| {
        table.partitions.iter().any(|entry| entry.extended && Some(entry.extent.start) == start)
    })
}

fn parent_hangs(device: &Device, storage: &Storage) -> bool {
    let parent = device.parent.as_ref().and_then(|id| storage.get(id));
    parent.is_some_and(|parent| matches!(parent.report, Observed::Hung { .. }))
}

/// More than one thing at once, as libblkid judges: a RAID member or a locked device is that, whatever else is seen of
/// what it holds or of what was there before; of file systems there may be only one, except that discs carry
/// several names for the same files. Torn ones do not count beside sound ones.
pub fn ambiguous(report: &DiskReport) -> bool {
    let mut counted = 0;
    let mut strict = false;
    for signature in &report.signatures {
        let damaged = matches!(signature.health, Health::Damaged(_));
        counted += usize::from(!damaged || counted == 0);
        if is_outer(signature) {
            // One that is torn may as well be the leftover.
            return (counted > 1 && strict) || (damaged && report.signatures.len() > 1);
        }
        strict |= !damaged && !matches!(signature.format.as_str(), "iso9660" | "udf" | "hfs");
    }
    counted > 1 && strict
}

fn is_outer(signature: &Signature) -> bool {
    matches!(signature.usage, Usage::Raid | Usage::Crypto)
}

/// Signatures of a former life below the first one.
fn leftovers(report: &DiskReport) -> Vec<&Signature> {
    let [first, rest @ ..] = &report.signatures[..] else { return Vec::new() };
    rest.iter().filter(|_| is_outer(first) && !shows_its_array(first)).collect()
}

/// A RAID superblock at a member's end (0.90, 1.0, firmware's) leaves the array's table or file system visible at its start:
/// that is how such members look.
fn shows_its_array(member: &Signature) -> bool {
    match &member.volume {
        Some(Volume::Md(superblock)) => superblock.data_offset == 0,
        Some(Volume::Firmware(_)) => true,
        Some(Volume::Lvm(_) | Volume::Luks(_) | Volume::Bcache(_)) | None => false,
    }
}

/// Bytes of the array whose start shows on a member, at most; `u64::MAX` where that is not said.
fn shown_size(member: &Signature) -> Option<u64> {
    let (superblock, size) = match &member.volume {
        Some(Volume::Md(superblock)) => (superblock, None),
        Some(Volume::Firmware(firmware)) => {
            let is_first =
                |volume: &&firmware::FirmwareVolume| volume.superblock.data_offset == 0 && volume.is_here();
            let volume = firmware.volumes.iter().find(is_first)?;
            (&volume.superblock, volume.size.or(volume.of_arrays.then_some(u64::MAX)))
        }
        Some(Volume::Lvm(_) | Volume::Luks(_) | Volume::Bcache(_)) | None => return None,
    };
    let parts = if superblock.level == Level::Raid1 { 1 } else { superblock.raid_disks };
    let made = match superblock.component_size.saturating_mul(parts.into()) {
        0 => u64::MAX,
        made => made,
    };
    (superblock.data_offset == 0).then_some(size.unwrap_or(made))
}

/// The disk of a partition that is not the disk's own: the disk is a member, and what the kernel took for its table is
/// that of the array. A table that divides more than the array has came after it.
pub fn array_member<'a>(storage: &'a Storage, partition: &Device) -> Option<&'a Device> {
    let disk = storage.get(partition.parent.as_ref()?)?;
    let report = disk.report()?;
    let size = shown_size(report.signatures.first()?)?;
    let end = report.table.as_ref()?.partitions.iter().map(|entry| entry.extent.end()).max()?;
    (end <= size).then_some(disk)
}

/// What is wrong with a table by itself. The first lines are those of fdisk(8).
pub fn table_problems(table: &Table) -> Vec<(Severity, String)> {
    let damaged = |health: &Health| match health {
        Health::Damaged(reason) => Some(Untrusted(reason).to_string()),
        Health::Sound | Health::Unchecked => None,
    };
    let copies = table.gpt.as_ref().map(|gpt| (damaged(&gpt.primary), damaged(&gpt.backup)));
    match copies {
        Some((Some(reason), None)) => vec![(
            Severity::Error,
            format!(
                "The primary GPT table is corrupt, but the backup appears OK, so that will be used. ({reason})"
            ),
        )],
        Some((None, Some(reason))) => vec![(
            Severity::Warning,
            format!(
                "The backup GPT table is corrupt, but the primary appears OK, so that will be used. ({reason})"
            ),
        )],
        Some((Some(primary), Some(backup))) => {
            vec![(
                Severity::Error,
                format!("both GPT tables are corrupt: primary {primary}; backup {backup}"),
            )]
        }
        Some((None, None)) | None => damaged(&table.health)
            .map(|reason| (Severity::Error, format!("damaged partition table: {reason}")))
            .into_iter()
            .collect(),
    }
}

/// Where the kernel's partitions are not those of the table, and would be if it read it again.
fn disagreements(disk: &Device, table: &Table, parts: &[&Device]) -> Vec<String> {
    let mut texts = Vec::new();
    // The kernel reads such a label within an MBR's partition only.
    if table.kind == TableKind::Bsd {
        return texts;
    }
    let kernels: Vec<&Device> = parts.iter().copied().filter(|device| device.node).collect();
    let start = |device: &Device| device.block.partition.as_ref().map(|partition| partition.start);
    let is_refused = table.gpt.as_ref().is_some_and(|gpt| gpt.refused_by.contains(&Reader::Kernel));
    // What runs past the disk's end it cuts or leaves out each time. The table's own lines tell of both.
    let is_taken = |entry: &&Entry| !is_refused && entry.extent.end() <= disk.block.size;
    for entry in table.partitions.iter().filter(is_taken) {
        // What lies within a partition may start where it does.
        let starts_there = |device: &&&Device| start(device) == Some(entry.extent.start);
        let has_number = |device: &&&Device| {
            device.block.partition.as_ref().is_some_and(|partition| partition.number == entry.number)
        };
        let mut there = kernels.iter().filter(starts_there);
        match there.clone().find(has_number).or_else(|| there.next()) {
            None => texts.push(format!(
                "{}: partition {} is in the table and the kernel has no node for it: blockdev --rereadpt {}",
                disk.path, entry.number, disk.path
            )),
            Some(device) if !entry.extended && device.block.size != entry.extent.length => {
                texts.push(format!(
                    "{} has {} bytes in the kernel and {} in the table: blockdev --rereadpt {}",
                    device.path, device.block.size, entry.extent.length, disk.path
                ))
            }
            Some(_) => {}
        }
    }
    let known =
        |device: &&Device| table.partitions.iter().any(|entry| Some(entry.extent.start) == start(device));
    for device in kernels.iter().filter(|device| !known(device)) {
        texts.push(format!(
            "{} is in the kernel and not in the table: the table changed; blockdev --rereadpt {}",
            device.path, disk.path
        ));
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::*;
    use ondisk::format::{Extent, Uuid};
    use ondisk::volume::mdraid::{Metadata, Role, Superblock};

    const MIB: u64 = 1 << 20;

    fn disk(name: &str, diskseq: u64) -> Block {
        Block {
            name: name.to_string(),
            major: 8,
            minor: u32::try_from(diskseq).unwrap() * 16,
            diskseq: Some(diskseq),
            size: 100 * MIB,
            ..Block::default()
        }
    }

    fn part(disk: &Block, number: u32, start: u64, size: u64) -> Block {
        Block {
            name: partition_name(&disk.name, number),
            minor: disk.minor + number,
            size,
            partition: Some(Partition { disk: disk.name.clone(), number, start }),
            ..disk.clone()
        }
    }

    fn entry(number: u32, start: u64, length: u64) -> Entry {
        Entry::new(number, Extent { start, length }, "83".to_string())
    }

    fn signature(format: &str, usage: Usage, volume: Option<Volume>) -> Signature {
        Signature { health: Health::Sound, volume, ..Signature::new(format, usage, 0) }
    }

    fn member(array: u8, data_offset: u64) -> Signature {
        let superblock = Superblock {
            offset: 4096,
            array: Uuid([array; 16]),
            raid_disks: 2,
            data_offset,
            role: Role::Active(0),
            events: 1,
            clean: true,
            ..Superblock::blank(Metadata::V1_2, Level::Raid1)
        };
        signature("linux_raid_member", Usage::Raid, Some(Volume::Md(superblock)))
    }

    fn table(entries: Vec<Entry>) -> Table {
        Table::new(TableKind::Mbr, 512, entries)
    }

    fn seen(report: DiskReport) -> Observed {
        Observed::Examined { report: Box::new(report) }
    }

    fn texts(storage: &Storage) -> Vec<&str> {
        storage.problems.iter().map(|problem| problem.text.as_str()).collect()
    }

    #[test]
    fn a_partition_that_the_kernel_refused_is_a_device_without_a_node() {
        let sda = disk("sda", 1);
        let sda1 = part(&sda, 1, MIB, 10 * MIB);
        let sdb = disk("sdb", 2);
        let inside = DiskReport {
            signatures: vec![signature("ext4", Usage::Filesystem, None)],
            ..DiskReport::default()
        };
        let report = DiskReport {
            table: Some(table(vec![entry(1, MIB, 10 * MIB), entry(2, 20 * MIB, 10 * MIB)])),
            sections: vec![(20 * MIB, inside)],
            ..DiskReport::default()
        };
        let facts = Facts { blocks: vec![sda, sda1, sdb], ..Facts::default() };
        let storage = build(facts, &BTreeMap::from([("sda".to_string(), seen(report))]), &[]);
        let paths: Vec<_> =
            storage.devices.iter().map(|device| (device.path.as_str(), device.node)).collect();
        assert_eq!(
            paths,
            [("/dev/sda", true), ("/dev/sda1", true), ("/dev/sda2", false), ("/dev/sdb", true)]
        );
        let refused = &storage.devices[2];
        assert_eq!(refused.id, Id("seq:1@20971520".to_string()));
        assert_eq!(refused.signature().unwrap().format, "ext4");
        assert_eq!(
            texts(&storage),
            [
                "/dev/sda: partition 2 is in the table and the kernel has no node for it: blockdev --rereadpt /dev/sda"
            ]
        );
    }

    #[test]
    fn to_read_the_table_again_is_said_only_where_that_helps() {
        let gpt = |refused_by: Vec<Reader>| ondisk::table::Gpt {
            first_usable: 34,
            last_usable: 1 << 18,
            entries: 128,
            entry_size: 128,
            entries_start: 2,
            alternative: 1 << 18,
            primary: Health::Sound,
            backup: Health::Sound,
            refused_by,
            beneath: None,
        };
        let one = || vec![entry(1, MIB, 10 * MIB)];
        let of_gpt = |refused_by, entries| Table {
            kind: TableKind::Gpt,
            gpt: Some(gpt(refused_by)),
            ..table(entries)
        };
        let beyond = || vec![entry(1, 95 * MIB, 10 * MIB)];
        for (label, table, size, want) in [
            ("one that the kernel takes", of_gpt(vec![Reader::Libblkid], one()), None, true),
            ("one that it does not", of_gpt(vec![Reader::Kernel], one()), None, false),
            ("a partition past the disk's end", of_gpt(vec![], beyond()), None, false),
            ("one that is cut there", table(beyond()), Some(5 * MIB), false),
            ("one of another size", table(one()), Some(5 * MIB), true),
        ] {
            let sda = disk("sda", 1);
            let start = table.partitions[0].extent.start;
            let sda1 = size.map(|size| part(&sda, 1, start, size));
            let report = DiskReport { table: Some(table), ..DiskReport::default() };
            let facts = Facts { blocks: std::iter::once(sda).chain(sda1).collect(), ..Facts::default() };
            let storage = build(facts, &BTreeMap::from([("sda".to_string(), seen(report))]), &[]);
            let all = texts(&storage).join("\n");
            assert_eq!(all.contains("blockdev --rereadpt"), want, "{label}: {all}");
        }
    }

    #[test]
    fn members_are_grouped_by_the_uuid_of_their_array() {
        let (sda, sdb, sdc) = (disk("sda", 1), disk("sdb", 2), disk("sdc", 3));
        let mut md = disk("md127", 4);
        md.major = 9;
        md.md = Some(contract::facts::Md {
            members: vec![("sda".to_string(), "in_sync".to_string())],
            ..contract::facts::Md::default()
        });
        let report =
            |array| seen(DiskReport { signatures: vec![member(array, 8192)], ..DiskReport::default() });
        let observed = BTreeMap::from([
            ("sda".to_string(), report(1)),
            ("sdb".to_string(), report(1)),
            ("sdc".to_string(), report(2)),
        ]);
        let facts = Facts { blocks: vec![sda, sdb, sdc, md], ..Facts::default() };
        let storage = build(facts, &observed, &[]);
        let id = |n: u32| Id(format!("seq:{n}"));
        assert_eq!(storage.arrays.len(), 2);
        assert_eq!(
            (&storage.arrays[0].members, &storage.arrays[0].device),
            (&vec![id(1), id(2)], &Some(id(4)))
        );
        assert_eq!((&storage.arrays[1].members, &storage.arrays[1].device), (&vec![id(3)], &None));
    }

    #[test]
    fn a_hung_disk_is_one_problem_and_hides_no_other() {
        let (sda, sdb) = (disk("sda", 1), disk("sdb", 2));
        let sda1 = part(&sda, 1, MIB, MIB);
        let facts = Facts {
            blocks: vec![sda, sda1, sdb],
            hung: vec![(1, "/dev/sda hangs: process 77 has been waiting for it".to_string())],
            ..Facts::default()
        };
        let observed = BTreeMap::from([("sdb".to_string(), seen(DiskReport::default()))]);
        let storage = build(facts, &observed, &[]);
        assert!(matches!(storage.devices[1].report, Observed::Hung { .. }));
        assert!(storage.devices[2].report().is_some());
        assert_eq!(
            texts(&storage),
            ["/dev/sda hangs: process 77 has been waiting for it; this disk is not touched until it answers"]
        );
    }

    #[test]
    fn the_link_at_an_extended_partitions_start_is_no_damaged_table() {
        let sda = disk("sda", 1);
        let sda2 = part(&sda, 2, 20 * MIB, 1024);
        let extended = Entry { extended: true, ..entry(2, 20 * MIB, 40 * MIB) };
        let whole = DiskReport { table: Some(table(vec![extended])), ..DiskReport::default() };
        let link = Table { health: Health::Damaged("torn chain".to_string()), ..table(Vec::new()) };
        let link = DiskReport { table: Some(link), ..DiskReport::default() };
        let observed = BTreeMap::from([("sda".to_string(), seen(whole)), ("sda2".to_string(), seen(link))]);
        let storage = build(Facts { blocks: vec![sda, sda2], ..Facts::default() }, &observed, &[]);
        assert_eq!(texts(&storage), [""; 0]);
    }

    #[test]
    fn a_device_is_ambiguous_as_libblkid_judges() {
        let fs = |name: &str| signature(name, Usage::Filesystem, None);
        let luks = || signature("crypto_LUKS", Usage::Crypto, None);
        let torn = |signature: Signature| Signature { health: Health::Damaged(String::new()), ..signature };
        let cases = [
            ("one", vec![fs("ext4")], false),
            ("two file systems", vec![fs("ext4"), fs("xfs")], true),
            ("a disc with both", vec![fs("udf"), fs("iso9660")], false),
            ("a disc that is a FAT too", vec![fs("vfat"), fs("iso9660")], true),
            ("a torn one beside a sound one", vec![fs("xfs"), torn(fs("ext4"))], false),
            ("superblock at the start over an old file system", vec![member(1, 8192), fs("ext4")], false),
            ("superblock at the end", vec![member(1, 0), fs("ext4")], false),
            ("LUKS over an old file system", vec![luks(), fs("ext4")], false),
            ("a torn LUKS and a sound file system", vec![torn(luks()), fs("ext4")], true),
            ("a cache and LUKS", vec![signature("bcache", Usage::Other, None), luks()], true),
        ];
        for (label, signatures, want) in cases {
            assert_eq!(ambiguous(&DiskReport { signatures, ..DiskReport::default() }), want, "{label}");
        }
    }

    #[test]
    fn what_is_left_of_a_former_life_is_said_and_is_no_damage() {
        let sda = disk("sda", 1);
        let old = Signature {
            health: Health::Damaged("torn".to_string()),
            ..signature("ext4", Usage::Filesystem, None)
        };
        let report = DiskReport { signatures: vec![member(1, 8192), old], ..DiskReport::default() };
        let facts = Facts { blocks: vec![sda], ..Facts::default() };
        let storage = build(facts, &BTreeMap::from([("sda".to_string(), seen(report))]), &[]);
        let want = "/dev/sda is linux_raid_member; what it looks like besides (ext4) is left over from before: wipefs /dev/sda lists where each is";
        let said: Vec<&Problem> =
            storage.problems.iter().filter(|problem| problem.device.as_deref() == Some("/dev/sda")).collect();
        let [one] = said[..] else { panic!("{:?}", storage.problems) };
        assert_eq!((one.text.as_str(), one.severity), (want, Severity::Info));
    }

    #[test]
    fn what_a_member_shows_of_its_array_is_no_problem_of_the_member() {
        let sda = disk("sda", 1);
        let torn = || Health::Damaged("torn".to_string());
        let piece = Signature { health: torn(), ..signature("ext4", Usage::Filesystem, None) };
        let table = Table { health: torn(), ..table(vec![entry(1, 20 * MIB, MIB)]) };
        let said = |offset: u64| {
            let report = DiskReport {
                signatures: vec![member(1, offset), piece.clone()],
                table: Some(table.clone()),
                ..DiskReport::default()
            };
            let facts = Facts { blocks: vec![sda.clone()], ..Facts::default() };
            build(facts, &BTreeMap::from([("sda".to_string(), seen(report))]), &[]).problems
        };
        let of_device = |problem: &&Problem| problem.device.as_deref() == Some("/dev/sda");
        assert_eq!(said(0).iter().filter(of_device).count(), 0, "{:?}", said(0));
        // Its former life, the table, and a partition without a node.
        assert_eq!(said(8192).iter().filter(of_device).count(), 3, "{:?}", said(8192));
    }

    #[test]
    fn a_partition_for_raid_without_a_superblock_is_a_problem() {
        let sda = disk("sda", 1);
        let sda1 = part(&sda, 1, 20 * MIB, MIB);
        let raid = Entry { kind: "fd".to_string(), ..entry(1, 20 * MIB, MIB) };
        let whole = DiskReport { table: Some(table(vec![raid])), ..DiskReport::default() };
        let said = |found: DiskReport| {
            let observed =
                BTreeMap::from([("sda".to_string(), seen(whole.clone())), ("sda1".to_string(), seen(found))]);
            let facts = Facts { blocks: vec![sda.clone(), sda1.clone()], ..Facts::default() };
            build(facts, &observed, &[]).problems.into_iter().map(|problem| problem.text).collect::<Vec<_>>()
        };
        assert_eq!(
            said(DiskReport::default()),
            ["/dev/sda1: the table says Linux raid autodetect, and no superblock of any is there"]
        );
        let ext = signature("ext4", Usage::Filesystem, None);
        assert_eq!(said(DiskReport { signatures: vec![ext], ..DiskReport::default() }), [""; 0]);
    }

    #[test]
    fn a_consent_shows_on_the_partition_and_on_its_disk() {
        let sda = disk("sda", 1);
        let (sda1, sda2) = (part(&sda, 1, MIB, MIB), part(&sda, 2, 2 * MIB, MIB));
        let consent = Consent {
            diskseq: 1,
            extent: Some(guard::Extent { start: MIB, length: MIB }),
            by: "mount /dev/sda1 /mnt".to_string(),
        };
        let facts = Facts { blocks: vec![sda, sda1, sda2], ..Facts::default() };
        let storage = build(facts, &BTreeMap::new(), &[consent]);
        let guards: Vec<_> = storage.devices.iter().map(|device| device.guard).collect();
        assert_eq!(guards, [Some(Wanted::Writable), Some(Wanted::Writable), Some(Wanted::ReadOnly)]);
    }
}
