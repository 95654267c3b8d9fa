//! Apple's partition map (kernel: block/partitions/mac.c), big-endian, in blocks whose size the first one tells. Every
//! partition is listed, that of the map itself too, as the kernel does.

use super::{Entry, Table, TableKind, finding};
use crate::bytes::{be16, be32, utf8};
use crate::format::{Extent, Finding, Geometry, Health, Severity};
use crate::read::ReadAt;

/// `ER`, of the driver descriptor.
const DRIVER: u16 = 0x4552;
/// `PM`, and `TS` of an older map.
const ENTRIES: [u16; 2] = [0x504d, 0x5453];
/// Bytes of an entry that are looked at.
const LENGTH: usize = 136;
/// As libblkid; the kernel takes as many.
const MOST: u32 = 256;

pub fn probe(device: &dyn ReadAt, geometry: Geometry, findings: &mut Vec<Finding>) -> Option<Table> {
    let driver = device.bytes(0, 8).ok()?;
    let block = be16(&driver, 2)?;
    if be16(&driver, 0)? != DRIVER || usize::from(block) < LENGTH {
        return None;
    }
    let block = u64::from(block);
    let count = be32(&entry_bytes(device, block, 1)?, 4)?;
    let mut partitions = Vec::new();
    let mut health = Health::Unchecked;
    for number in 1..=count.min(MOST) {
        let Some(bytes) = entry_bytes(device, block, number) else {
            let reason = format!("entry {number} of {count} is missing");
            findings.push(finding(Severity::Error, format!("Apple partition map: {reason}")));
            health = Health::Damaged(reason);
            break;
        };
        let start = be32(&bytes, 8)?;
        let blocks = be32(&bytes, 12)?;
        let name = utf8(bytes.get(16..48)?);
        let kind = utf8(bytes.get(48..80)?);
        let extent = Extent { start: u64::from(start) * block, length: u64::from(blocks) * block };
        let name = Some(name).filter(|name| !name.is_empty());
        partitions.push(Entry { name, ..Entry::new(number, extent, kind) });
    }
    Some(Table { health, ..Table::new(TableKind::Mac, geometry.logical, partitions) })
}

fn entry_bytes(device: &dyn ReadAt, block: u64, number: u32) -> Option<Vec<u8>> {
    let bytes = device.bytes(block * u64::from(number), LENGTH).ok()?;
    ENTRIES.contains(&be16(&bytes, 0)?).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map() -> Vec<u8> {
        let mut map = vec![0; 8192];
        map[..4].copy_from_slice(&[0x45, 0x52, 2, 0]);
        let entries = [(1_u32, 2_u32, "Apple", "Apple_partition_map"), (3, 8, "disk", "Apple_HFS")];
        for (index, (start, blocks, name, kind)) in entries.into_iter().enumerate() {
            let at = 512 * (index + 1);
            map[at..at + 2].copy_from_slice(b"PM");
            map[at + 7] = 2;
            map[at + 8..at + 12].copy_from_slice(&start.to_be_bytes());
            map[at + 12..at + 16].copy_from_slice(&blocks.to_be_bytes());
            map[at + 16..at + 16 + name.len()].copy_from_slice(name.as_bytes());
            map[at + 48..at + 48 + kind.len()].copy_from_slice(kind.as_bytes());
        }
        map
    }

    #[test]
    fn every_entry_is_a_partition() {
        let table = probe(&map(), Geometry::default(), &mut Vec::new()).unwrap();
        let seen: Vec<(u32, u64, &str)> =
            table.partitions.iter().map(|e| (e.number, e.extent.start / 512, e.kind.as_str())).collect();
        assert_eq!(seen, [(1, 1, "Apple_partition_map"), (2, 3, "Apple_HFS")]);
    }

    #[test]
    fn a_map_that_ends_early_keeps_what_came_before() {
        let mut torn = map();
        torn[1024] = 0;
        let mut findings = Vec::new();
        let table = probe(&torn, Geometry::default(), &mut findings).unwrap();
        assert_eq!((table.partitions.len(), findings.len()), (1, 1));
        assert!(matches!(table.health, Health::Damaged(_)));
    }
}
