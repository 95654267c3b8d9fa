//! Sun's disk label (kernel: block/partitions/sun.c), big-endian, with its VTOC where that is sound. Its magic is short, so
//! a label whose checksum is wrong is none.

use super::{Chs, Entry, Items, Label, Slice, Table, TableKind};
use crate::bytes::{be16, be32, utf8};
use crate::format::{Extent, Geometry};
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
    Some(Table { label: Some(read(&label)?), ..Table::new(TableKind::Sun, geometry.logical, partitions) })
}

/// All of the label, as fdisk takes it: its tags whether the VTOC is sound or not.
fn read(label: &[u8]) -> Option<Label> {
    let number = |at: usize| be16(label, at);
    let items = Items::Sun {
        id: utf8(label.get(..128)?),
        version: be32(label, 128)?,
        volume: utf8(label.get(132..140)?),
        slices: number(140)?,
        sanity: be32(label, 188)?,
        rpm: number(420)?,
        physical_cylinders: number(422)?,
        extra_sectors: number(424)?,
        interleave: number(430)?,
        alternate_cylinders: number(434)?,
    };
    let geometry =
        Chs { cylinders: number(432)?.into(), heads: number(436)?.into(), sectors: number(438)?.into() };
    let cylinder = u64::from(geometry.heads) * u64::from(geometry.sectors);
    let slice = |index: usize| {
        Some(Slice {
            number: index as u32 + 1, // below SLICES
            start: u64::from(be32(label, 444 + 8 * index)?) * cylinder,
            sectors: be32(label, 448 + 8 * index)?.into(),
            code: number(142 + 4 * index)?.into(),
            flags: number(144 + 4 * index)?,
            ..Slice::default()
        })
    };
    let slices = (0..SLICES).map(slice).collect::<Option<Vec<_>>>()?;
    Some(Label::of(Some(geometry), items, slices))
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
