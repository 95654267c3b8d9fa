//! Atari's root sector (kernel: block/partitions/atari.c), big-endian. It has no magic, so everything about it has to be right, as
//! libblkid asks for it; the chain of XGM partitions and ICD's eight more are followed.

use super::{Entry, Table, TableKind, finding};
use crate::bytes::be32;
use crate::format::{Extent, Finding, Geometry, Health, Severity};
use crate::read::ReadAt;
use std::collections::BTreeSet;

const SECTOR: u64 = 512;
/// No larger disk can be described (libblkid).
const MOST_SECTORS: u64 = i32::MAX as u64;
const ICD: usize = 0x156;
const SIZE: usize = 0x1c2;
const PARTS: usize = 0x1c6;
const BAD_LIST: usize = 0x1f6;
/// XGM partitions followed (libblkid).
const CHAIN_MAX: usize = 100;
const XGM: &[u8] = b"XGM";
/// Without one of these there is no ICD table.
const COMMON: [&[u8]; 5] = [b"GEM", b"BGM", b"LNX", b"SWP", b"RAW"];

/// One entry of a root sector.
struct Slot {
    active: bool,
    id: [u8; 3],
    /// Sectors; of an XGM's data from the XGM's root sector.
    start: u32,
    count: u32,
}

impl Slot {
    fn read(root: &[u8], at: usize) -> Option<Slot> {
        let flags = *root.get(at)?;
        let id = root.get(at + 1..at + 4)?.try_into().ok()?;
        Some(Slot { active: flags & 1 != 0, id, start: be32(root, at + 4)?, count: be32(root, at + 8)? })
    }

    fn is_valid(&self, sectors: u32) -> bool {
        self.active
            && self.id.iter().all(|byte| is_alphanumeric(*byte))
            && fits(self.start, self.count, sectors)
    }

    fn is_common(&self) -> bool {
        COMMON.contains(&&self.id[..])
    }
}

/// The kernel's isalnum(3), which is that of ISO 8859-1.
fn is_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || (byte >= 0xc0 && byte != 0xd7 && byte != 0xf7)
}

fn fits(start: u32, count: u32, sectors: u32) -> bool {
    start != 0 && count != 0 && start.checked_add(count).is_some_and(|end| end <= sectors)
}

pub fn probe(device: &dyn ReadAt, geometry: Geometry, findings: &mut Vec<Finding>) -> Option<Table> {
    let sectors = device.size() / SECTOR;
    if u64::from(geometry.logical) != SECTOR || sectors > MOST_SECTORS {
        return None;
    }
    let root = device.bytes(0, SECTOR as usize).ok()?;
    let size = be32(&root, SIZE)?;
    let (bad_start, bad_count) = (be32(&root, BAD_LIST)?, be32(&root, BAD_LIST + 4)?);
    let slots = (0..4).map(|index| Slot::read(&root, PARTS + 12 * index)).collect::<Option<Vec<_>>>()?;
    let sane = size >= 2
        && u64::from(size) <= sectors
        && ((bad_start, bad_count) == (0, 0) || fits(bad_start, bad_count, size))
        && slots.iter().any(|slot| slot.is_valid(size));
    if !sane {
        return None;
    }
    let mut found: Vec<Entry> = Vec::new();
    let mut health = Health::Unchecked;
    let mut number = 0;
    for slot in &slots {
        if !slot.active {
            number += 1;
        } else if slot.id == XGM {
            if let Some(reason) = chain(device, slot.start, &mut number, &mut found) {
                findings.push(finding(Severity::Error, format!("extended partition: {reason}")));
                health = Health::Damaged(reason);
            }
        } else {
            add(&mut found, &mut number, slot, 0);
        }
    }
    let icd = (0..8).map(|index| Slot::read(&root, ICD + 12 * index)).collect::<Option<Vec<_>>>()?;
    let has_xgm = slots.iter().any(|slot| slot.active && slot.id == XGM);
    if !has_xgm && icd[0].is_common() {
        for slot in &icd {
            match slot.active && slot.is_common() {
                true => add(&mut found, &mut number, slot, 0),
                false => number += 1,
            }
        }
    }
    let (kind, sector) = (TableKind::Atari, geometry.logical);
    Some(Table { kind, id: None, sector, partitions: found, health, gpt: None, label: None })
}

/// What starts where another one does is not listed twice, and keeps its number.
fn add(found: &mut Vec<Entry>, number: &mut u32, slot: &Slot, base: u64) {
    *number += 1;
    let start = (base + u64::from(slot.start)) * SECTOR;
    if found.iter().any(|entry| entry.extent.start == start) {
        return;
    }
    let extent = Extent { start, length: u64::from(slot.count) * SECTOR };
    found.push(Entry::new(*number, extent, String::from_utf8_lossy(&slot.id).into_owned()));
}

/// The data partitions of a chain of root sectors, and why it could not be followed to its end.
fn chain(device: &dyn ReadAt, first: u32, number: &mut u32, found: &mut Vec<Entry>) -> Option<String> {
    let mut at = u64::from(first);
    let mut seen = BTreeSet::new();
    loop {
        if !seen.insert(at) || seen.len() > CHAIN_MAX {
            return Some(format!("the chain of root sectors comes back to sector {at}, or does not end"));
        }
        let slots = device.bytes(at * SECTOR, SECTOR as usize).ok().and_then(|root| {
            (0..4).map(|index| Slot::read(&root, PARTS + 12 * index)).collect::<Option<Vec<_>>>()
        });
        // Data, and behind it the next root sector, or nothing active.
        let pair = slots.as_deref().and_then(|slots| {
            let data = slots[..3].iter().position(|slot| slot.active)?;
            Some((&slots[data], &slots[data + 1]))
        });
        let Some((data, next)) = pair.filter(|(data, _)| data.id != XGM) else {
            return Some(format!("no root sector at sector {at}"));
        };
        add(found, number, data, at);
        match (next.active, next.id == XGM) {
            (false, _) => return None,
            (true, true) => at = u64::from(first) + u64::from(next.start),
            (true, false) => return Some(format!("the root sector at {at} has two partitions")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(disk: &mut [u8], sector: usize, index: usize, id: &[u8], start: u32, count: u32) {
        let at = 512 * sector + PARTS + 12 * index;
        disk[at] = 1;
        disk[at + 1..at + 4].copy_from_slice(id);
        disk[at + 4..at + 8].copy_from_slice(&start.to_be_bytes());
        disk[at + 8..at + 12].copy_from_slice(&count.to_be_bytes());
    }

    /// GEM at 2, and an XGM at 100 with one partition and another XGM behind it.
    fn disk() -> Vec<u8> {
        let mut disk = vec![0; 512 * 1000];
        disk[SIZE..SIZE + 4].copy_from_slice(&1000_u32.to_be_bytes());
        put(&mut disk, 0, 0, b"GEM", 2, 98);
        put(&mut disk, 0, 1, b"XGM", 100, 900);
        put(&mut disk, 100, 0, b"BGM", 1, 99);
        put(&mut disk, 100, 1, b"XGM", 100, 200);
        put(&mut disk, 200, 0, b"RAW", 1, 99);
        disk
    }

    fn look(disk: &dyn ReadAt) -> Option<(Vec<(u32, u64)>, usize)> {
        let mut findings = Vec::new();
        let table = probe(disk, Geometry::default(), &mut findings)?;
        let starts = table.partitions.iter().map(|entry| (entry.number, entry.extent.start / 512)).collect();
        Some((starts, findings.len()))
    }

    #[test]
    fn a_chain_is_followed_and_ends_where_it_is_torn_or_loops() {
        assert_eq!(look(&disk()), Some((vec![(1, 2), (2, 101), (3, 201)], 0)));
        let mut torn = disk();
        torn[512 * 200..512 * 201].fill(0);
        assert_eq!(look(&torn), Some((vec![(1, 2), (2, 101)], 1)));
        let mut looped = disk();
        put(&mut looped, 200, 1, b"XGM", 0, 900);
        assert_eq!(look(&looped), Some((vec![(1, 2), (2, 101), (3, 201)], 1)));
    }

    #[test]
    fn what_is_not_quite_a_root_sector_is_none() {
        assert_eq!(look(&vec![0; 512 * 1000]), None);
        let mut too_large = disk();
        too_large[SIZE..SIZE + 4].copy_from_slice(&1001_u32.to_be_bytes());
        assert_eq!(look(&too_large), None);
    }
}
