//! MBR partition tables with their chains of extended boot records. A chain may loop, lead outside
//! or be torn: each is named, and what was read before still holds.

use super::{Chs, Entry, Table, TableKind, bsd, finding};
use crate::bytes::{le16, le32};
use crate::format::{Extent, Finding, Geometry, Health, Severity};
use crate::fs;
use crate::read::ReadAt;
use std::collections::BTreeSet;

/// Logical partitions followed. The kernel stops at 256 minors; nobody has made more than some dozen.
const LOGICAL_MAX: usize = 128;
const PROTECTIVE: u8 = 0xee;
const EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];
/// Kinds whose partition has a BSD label of its own.
const BSD: [(u8, &str); 3] = [(0xa5, "freebsd"), (0xa6, "openbsd"), (0xa9, "netbsd")];

/// One of the four slots of a record.
#[derive(Clone, Copy, Debug)]
struct Slot {
    boot: u8,
    kind: u8,
    /// Sectors; relative in an extended record.
    start: u32,
    count: u32,
    /// Of the first sector and of the last.
    chs: [Chs; 2],
}

impl Slot {
    fn is_extended(self) -> bool {
        EXTENDED.contains(&self.kind)
    }

    fn is_used(self) -> bool {
        self.kind != 0 && self.count != 0
    }

    /// In an extended record: where the next one is.
    fn is_link(self) -> bool {
        self.count != 0 && self.is_extended()
    }

    /// And a partition, which has a number whatever its kind.
    fn is_logical(self) -> bool {
        self.count != 0 && !self.is_extended()
    }
}

/// Whether the MBR is there to protect a GPT.
pub fn is_protective(device: &dyn ReadAt) -> bool {
    record(device, 0).is_some_and(|(slots, _)| slots.iter().any(|slot| slot.kind == PROTECTIVE))
}

/// The same as the kernel wants it, from the primary GPT on (block/partitions/efi.c: pmbr_part_valid).
pub fn protects_to_the_kernel(device: &dyn ReadAt) -> bool {
    let protects = |slot: &Slot| slot.kind == PROTECTIVE && slot.start == 1;
    record(device, 0).is_some_and(|(slots, _)| slots.iter().any(protects))
}

/// Whether an entry is there for a GPT alone. A GPT's own entries have GUIDs for kinds.
pub fn protects(entry: &Entry) -> bool {
    entry.kind == format!("{PROTECTIVE:x}")
}

/// One without partitions too: that is how a disk looks whose partitions were all deleted.
pub fn probe(device: &dyn ReadAt, geometry: Geometry, findings: &mut Vec<Finding>) -> Option<Table> {
    let (slots, bytes) = record(device, 0)?;
    if is_boot_sector(&bytes)
        || fs::vfat::is(device)
        || fs::ntfs::is(device)
        || slots.iter().any(|slot| slot.boot & 0x7f != 0)
    {
        return None;
    }
    let signature = le32(&bytes, 440)?;
    let sector = u64::from(geometry.logical);
    let entry = |number: u32, slot: Slot, start: u64| {
        let extent = Extent { start: start * sector, length: u64::from(slot.count) * sector };
        Entry {
            uuid: Some(format!("{signature:08x}-{number:02x}")),
            boot: slot.boot == 0x80,
            extended: slot.is_extended(),
            chs: Some(slot.chs),
            boot_byte: slot.boot,
            ..Entry::new(number, extent, format!("{:x}", slot.kind))
        }
    };
    let mut partitions: Vec<Entry> = Vec::new();
    let mut health = Health::Unchecked;
    for (index, slot) in slots.iter().enumerate().filter(|(_, slot)| slot.is_used()) {
        partitions.push(entry(index as u32 + 1, *slot, slot.start.into()));
    }
    if let Some(extended) = slots.iter().find(|slot| slot.is_used() && slot.is_extended()) {
        let (logical, broken) = chain(device, sector, *extended);
        for (index, (slot, start)) in logical.into_iter().enumerate() {
            partitions.push(entry(index as u32 + 5, slot, start));
        }
        if let Some(reason) = broken {
            findings.push(finding(
                Severity::Error,
                format!("extended partition: {reason}: later logical partitions are not listed"),
            ));
            health = Health::Damaged(reason);
        }
    }
    // Behind the logical ones, as the kernel numbers them.
    let mut next = partitions.iter().map(|partition| partition.number + 1).max().unwrap_or(0).max(5);
    for slot in slots.iter().filter(|slot| slot.is_used()) {
        let Some((_, name)) = BSD.iter().find(|(kind, _)| *kind == slot.kind) else { continue };
        let (start, length) = (u64::from(slot.start) * sector, u64::from(slot.count) * sector);
        for entry in bsd::within(device, Extent { start, length }, name) {
            partitions.push(Entry { number: next, ..entry });
            next += 1;
        }
    }
    for partition in &partitions {
        let end = partition.extent.start.saturating_add(partition.extent.length);
        // A disk larger than 32 bits of sectors has a protective entry of the largest size.
        if end > device.size() && !protects(partition) {
            findings.push(finding(
                Severity::Error,
                format!("partition {} runs past the disk's end", partition.number),
            ));
        }
    }
    let id = Some(format!("0x{signature:08x}"));
    Some(Table { id, health, ..Table::new(TableKind::Mbr, geometry.logical, partitions) })
}

/// Follows the chain of extended boot records: each logical partition with its start in sectors from
/// the disk's, and why the chain could not be followed to its end. Of each record all partitions come first, wherever
/// its link stands, since DR-DOS puts that first (block/partitions/msdos.c: parse_extended).
fn chain(device: &dyn ReadAt, sector: u64, extended: Slot) -> (Vec<(Slot, u64)>, Option<String>) {
    let base = u64::from(extended.start);
    let end = base.saturating_add(extended.count.into());
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    let (mut at, mut room) = (base, u64::from(extended.count));
    loop {
        if !seen.insert(at) {
            return (found, Some(format!("the chain of boot records loops back to sector {at}")));
        }
        if found.len() >= LOGICAL_MAX || seen.len() > LOGICAL_MAX {
            return (found, Some(format!("more than {LOGICAL_MAX} logical partitions")));
        }
        let Some((slots, _)) = at.checked_mul(sector).and_then(|offset| record(device, offset)) else {
            return (found, Some(format!("no boot record at sector {at}")));
        };
        for (index, slot) in slots.iter().enumerate().filter(|(_, slot)| slot.is_logical()) {
            let (offset, count) = (u64::from(slot.start), u64::from(slot.count));
            let start = at + offset;
            // The last two slots may hold garbage.
            if index < 2 || (offset + count <= room && start + count <= end) {
                found.push((*slot, start));
            }
        }
        match slots.iter().find(|slot| slot.is_link()) {
            Some(link) => (at, room) = (base + u64::from(link.start), link.count.into()),
            None => return (found, None),
        }
    }
}

fn record(device: &dyn ReadAt, offset: u64) -> Option<([Slot; 4], Vec<u8>)> {
    let bytes = device.bytes(offset, 512).ok()?;
    if le16(&bytes, 510)? != 0xaa55 {
        return None;
    }
    let slot = |index: usize| {
        let at = 446 + 16 * index;
        Some(Slot {
            boot: *bytes.get(at)?,
            kind: *bytes.get(at + 4)?,
            chs: [chs(bytes.get(at + 1..at + 4)?)?, chs(bytes.get(at + 5..at + 8)?)?],
            start: le32(&bytes, at + 8)?,
            count: le32(&bytes, at + 12)?,
        })
    };
    let slots = [slot(0)?, slot(1)?, slot(2)?, slot(3)?];
    Some((slots, bytes))
}

/// Head, six bits of sector below two of cylinder, eight more of cylinder.
fn chs(bytes: &[u8]) -> Option<Chs> {
    let [heads, sector, cylinder] = *bytes else { return None };
    let cylinders = u32::from(sector & 0xc0) << 2 | u32::from(cylinder);
    Some(Chs { cylinders, heads: heads.into(), sectors: (sector & 0x3f).into() })
}

/// The boot sector of a FAT, exFAT or NTFS volume by its name, though torn it may be: it ends like an MBR and
/// holds code where an MBR has its table (libblkid: partitions/dos.c).
fn is_boot_sector(bytes: &[u8]) -> bool {
    let jump = matches!(bytes, [0xeb, _, 0x90, ..] | [0xe9, ..]);
    let has = |offset: usize, text: &[u8]| bytes.get(offset..offset + text.len()) == Some(text);
    let fat = has(54, b"FAT1") || has(54, b"FAT ") || has(82, b"FAT32");
    let other = has(3, b"NTFS    ") || has(3, b"EXFAT   ") || has(3, b"-FVE-FS-");
    (jump && fat && le16(bytes, 11).is_some_and(|size| size.is_power_of_two() && size >= 512)) || other
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(disk: &mut [u8], record: usize, slot: usize, boot: u8, kind: u8, start: u32, count: u32) {
        let at = record * 512 + 446 + 16 * slot;
        disk[at] = boot;
        disk[at + 4] = kind;
        disk[at + 8..at + 12].copy_from_slice(&start.to_le_bytes());
        disk[at + 12..at + 16].copy_from_slice(&count.to_le_bytes());
        disk[record * 512 + 510..record * 512 + 512].copy_from_slice(&[0x55, 0xaa]);
    }

    /// sda1, sda2 extended with sda5 and sda6.
    fn disk() -> Vec<u8> {
        let mut disk = vec![0; 1 << 20];
        disk[440..444].copy_from_slice(&0x1234_abcd_u32.to_le_bytes());
        put(&mut disk, 0, 0, 0x80, 0x83, 100, 100);
        put(&mut disk, 0, 1, 0, 0x05, 200, 800);
        put(&mut disk, 200, 0, 0, 0x83, 10, 90);
        put(&mut disk, 200, 1, 0, 0x05, 100, 200);
        put(&mut disk, 300, 0, 0, 0x82, 10, 90);
        disk
    }

    fn look(disk: &dyn ReadAt) -> (Option<Table>, Vec<String>) {
        let mut findings = Vec::new();
        let table = probe(disk, Geometry::default(), &mut findings);
        (table, findings.into_iter().map(|finding| finding.text).collect())
    }

    #[test]
    fn logical_partitions_are_numbered_from_five() {
        let (table, findings) = look(&disk());
        let table = table.unwrap();
        let starts: Vec<(u32, u64, &str)> =
            table.partitions.iter().map(|p| (p.number, p.extent.start / 512, p.kind.as_str())).collect();
        assert_eq!(starts, [(1, 100, "83"), (2, 200, "5"), (5, 210, "83"), (6, 310, "82")]);
        assert_eq!(table.id.as_deref(), Some("0x1234abcd"));
        assert_eq!(table.partitions[2].uuid.as_deref(), Some("1234abcd-05"));
        assert!(table.partitions[0].boot && findings.is_empty(), "{findings:?}");
    }

    #[test]
    fn a_chain_that_loops_ends_and_is_named() {
        let mut disk = disk();
        put(&mut disk, 300, 1, 0, 0x05, 0, 100);
        let (table, findings) = look(&disk);
        assert_eq!(table.unwrap().partitions.len(), 4);
        assert!(findings[0].contains("loops back to sector 200"), "{findings:?}");
    }

    /// As the kernel makes them: number and first sector of what is logical.
    #[test]
    fn every_partition_of_a_record_has_its_number_wherever_the_link_stands() {
        let logical = |slots: &[(usize, u8, u32, u32)]| {
            let mut disk = disk();
            disk[200 * 512 + 446..200 * 512 + 510].fill(0);
            for (slot, kind, start, count) in slots {
                put(&mut disk, 200, *slot, 0, *kind, *start, *count);
            }
            let partitions = look(&disk).0.unwrap().partitions.into_iter();
            let logical = partitions.filter(|found| found.number > 4);
            logical.map(|found| (found.number, found.extent.start / 512)).collect::<Vec<_>>()
        };
        let link = |slot: usize| (slot, 0x05, 100, 200);
        for (label, slots, want) in [
            ("the link first", &[link(0), (1, 0x83, 10, 90)][..], &[(5, 210), (6, 310)][..]),
            ("the link alone", &[link(0)], &[(5, 310)]),
            ("two links, of which the first is followed", &[link(0), (1, 0x0f, 400, 9)], &[(5, 310)]),
            (
                "all four, as OS/2 does",
                &[(0, 0x83, 10, 20), link(1), (2, 7, 40, 20), (3, 7, 60, 740)],
                &[(5, 210), (6, 240), (7, 260), (8, 310)],
            ),
            (
                "garbage in the last two",
                &[link(0), (1, 0x83, 10, 5000), (2, 7, 40, 761), (3, 7, u32::MAX, 1)],
                &[(5, 210), (6, 310)],
            ),
            ("a kind of zero", &[(0, 0, 10, 20), link(1)], &[(5, 210), (6, 310)]),
            ("a link without sectors", &[(0, 0x83, 10, 20), (1, 0x05, 100, 0)], &[(5, 210)]),
        ] {
            assert_eq!(logical(slots), want, "{label}");
        }
        // Of a later record only as much as its own link gives it.
        let mut disk = disk();
        put(&mut disk, 300, 2, 0, 7, 100, 101);
        assert_eq!(look(&disk).0.unwrap().partitions.len(), 4);
        put(&mut disk, 300, 2, 0, 7, 100, 100);
        assert_eq!(look(&disk).0.unwrap().partitions.len(), 5);
    }

    #[test]
    fn a_torn_record_leaves_what_came_before() {
        let mut disk = disk();
        disk[300 * 512 + 510] = 0;
        let (table, findings) = look(&disk);
        assert_eq!(table.unwrap().partitions.len(), 3);
        assert!(findings[0].contains("no boot record at sector 300"), "{findings:?}");
    }

    #[test]
    fn a_table_without_partitions_is_one() {
        let mut disk = vec![0; 1 << 20];
        disk[440] = 7;
        assert!(look(&disk).0.is_none());
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
        let table = look(&disk).0.unwrap();
        assert_eq!((table.partitions.len(), table.id.as_deref()), (0, Some("0x00000007")));
    }

    #[test]
    fn a_volume_without_a_table_is_not_an_mbr() {
        let mut fat = disk();
        fat[..3].copy_from_slice(&[0xeb, 0x58, 0x90]);
        fat[11..13].copy_from_slice(&512_u16.to_le_bytes());
        fat[82..90].copy_from_slice(b"FAT32   ");
        assert!(look(&fat).0.is_none());
        let mut code = disk();
        code[446] = 0x31;
        assert!(look(&code).0.is_none());
    }
}
