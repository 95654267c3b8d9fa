//! Sun's disk label (kernel: block/partitions/sun.c), big-endian, with its VTOC where that is sound. Its magic is short, so
//! a label whose checksum is wrong is none.

use super::{Entry, Table, TableKind};
use crate::bytes::{be16, be32};
use crate::format::{Extent, Geometry, Health};
use crate::read::ReadAt;

const MAGIC: u16 = 0xdabe;
const MAGIC_AT: usize = 508;
const SLICES: usize = 8;
const VTOC_SANITY: u32 = 0x600d_deee;
const VTOC_VERSION: u32 = 1;
/// What a label counts in, bytes.
const SECTOR: u64 = 512;

pub fn probe(device: &dyn ReadAt, geometry: Geometry) -> Option<Table> {
    let label = device.bytes(0, SECTOR as usize).ok()?;
    let sum = label.chunks_exact(2).fold(0, |sum, pair| sum ^ u16::from_be_bytes([pair[0], pair[1]]));
    if be16(&label, MAGIC_AT)? != MAGIC || sum != 0 {
        return None;
    }
    let version = be32(&label, 128)?;
    let slices = be16(&label, 140)?;
    let sanity = be32(&label, 188)?;
    let heads = be16(&label, 436)?;
    let track = be16(&label, 438)?;
    let sound = sanity == VTOC_SANITY && version == VTOC_VERSION && usize::from(slices) <= SLICES;
    // Of labels that Linux wrote in former times nothing of the VTOC is set but the tags.
    let has_tags = sound || (sanity, version, slices) == (0, 0, 0);
    let cylinder = u64::from(heads) * u64::from(track) * SECTOR;
    let mut partitions = Vec::new();
    for index in 0..if sound { usize::from(slices) } else { SLICES } {
        let start = be32(&label, 444 + 8 * index)?;
        let sectors = be32(&label, 448 + 8 * index)?;
        let (tag, flags) = match has_tags {
            true => (be16(&label, 142 + 4 * index)?, be16(&label, 144 + 4 * index)?),
            false => (0, 0),
        };
        if sectors == 0 {
            continue;
        }
        let extent = Extent { start: u64::from(start) * cylinder, length: u64::from(sectors) * SECTOR };
        let entry = Entry::new(index as u32 + 1, extent, format!("{tag:x}"));
        partitions.push(Entry { attributes: flags.into(), ..entry });
    }
    let (kind, id, gpt) = (TableKind::Sun, None, None);
    Some(Table { kind, id, sector: geometry.logical, partitions, health: Health::Sound, gpt })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label() -> Vec<u8> {
        let mut label = vec![0; 512];
        label[131] = 1;
        label[141] = 3;
        label[142..154].copy_from_slice(&[0, 0x83, 0, 0, 0, 0x82, 0, 1, 0, 5, 0, 0]);
        label[188..192].copy_from_slice(&VTOC_SANITY.to_be_bytes());
        label[437] = 4;
        label[439] = 10;
        for (slice, start, sectors) in [(0, 0, 400_u32), (1, 10_u32, 400), (2, 0, 800)] {
            let at = 444 + 8 * slice;
            label[at..at + 4].copy_from_slice(&start.to_be_bytes());
            label[at + 4..at + 8].copy_from_slice(&sectors.to_be_bytes());
        }
        label[508..510].copy_from_slice(&MAGIC.to_be_bytes());
        let sum = label.chunks(2).fold(0, |sum, pair| sum ^ u16::from_be_bytes([pair[0], pair[1]]));
        label[510..].copy_from_slice(&sum.to_be_bytes());
        label
    }

    #[test]
    fn slices_start_at_cylinders() {
        let table = probe(&label(), Geometry::default()).unwrap();
        let seen: Vec<(u32, u64, &str)> = table
            .partitions
            .iter()
            .map(|entry| (entry.number, entry.extent.start / 512, entry.kind.as_str()))
            .collect();
        assert_eq!(seen, [(1, 0, "83"), (2, 400, "82"), (3, 0, "5")]);
    }

    #[test]
    fn a_label_with_a_wrong_sum_is_none() {
        let mut torn = label();
        torn[300] ^= 1;
        assert_eq!(probe(&torn, Geometry::default()), None);
    }
}
