//! SGI's volume header (kernel: block/partitions/sgi.c), big-endian. One whose checksum is wrong is shown as damaged.

use super::{Entry, Items, Label, Slice, Table, TableKind};
use crate::bytes::{be16, be32, utf8};
use crate::format::{Extent, Geometry, Health};
use crate::read::ReadAt;

const MAGIC: u32 = 0x0be5_a941;
const PARTITIONS: usize = 16;
const FIRST: usize = 312;
const CHECKSUM: usize = 504;
/// What a header counts in, bytes.
const SECTOR: u64 = 512;

pub fn probe(device: &dyn ReadAt, geometry: Geometry) -> Option<Table> {
    let header = device.bytes(0, SECTOR as usize).ok()?;
    if be32(&header, 0)? != MAGIC {
        return None;
    }
    let stored = be32(&header, CHECKSUM)?;
    // All words together are zero.
    let sum = header
        .chunks_exact(4)
        .fold(0_u32, |sum, word| sum.wrapping_add(u32::from_be_bytes([word[0], word[1], word[2], word[3]])));
    let health = Health::of_checksum(stored, stored.wrapping_sub(sum));
    let mut partitions = Vec::new();
    for index in 0..PARTITIONS {
        let at = FIRST + 12 * index;
        let sectors = be32(&header, at)?;
        let start = be32(&header, at + 4)?;
        let kind = be32(&header, at + 8)?;
        if sectors == 0 {
            continue;
        }
        let extent = Extent { start: u64::from(start) * SECTOR, length: u64::from(sectors) * SECTOR };
        partitions.push(Entry::new(index as u32 + 1, extent, format!("{kind:x}")));
    }
    let label = Some(read(&header)?);
    Some(Table { health, label, ..Table::new(TableKind::Sgi, geometry.logical, partitions) })
}

/// All of the header. It knows nothing of heads.
fn read(header: &[u8]) -> Option<Label> {
    let items = Items::Sgi {
        root: be16(header, 4)?,
        swap: be16(header, 6)?,
        boot_file: utf8(header.get(8..24)?),
        extra_sectors: *header.get(27)?,
        physical_cylinders: be16(header, 28)?,
        interleave: be16(header, 42)?,
    };
    let slice = |index: usize| {
        let at = FIRST + 12 * index;
        Some(Slice {
            number: index as u32 + 1, // below PARTITIONS
            start: be32(header, at + 4)?.into(),
            sectors: be32(header, at)?.into(),
            code: be32(header, at + 8)?,
            ..Slice::default()
        })
    };
    let slices = (0..PARTITIONS).map(slice).collect::<Option<Vec<_>>>()?;
    Some(Label::of(None, items, slices))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Vec<u8> {
        let mut header = vec![0; 512];
        header[..4].copy_from_slice(&MAGIC.to_be_bytes());
        for (index, words) in [(0, [1000_u32, 63, 0x83]), (10, [4000, 0, 6])] {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
            header[FIRST + 12 * index..FIRST + 12 * index + 12].copy_from_slice(&bytes);
        }
        let words = header.chunks(4).map(|word| u32::from_be_bytes(word.try_into().unwrap()));
        let sum = words.fold(0_u32, u32::wrapping_add);
        header[CHECKSUM..CHECKSUM + 4].copy_from_slice(&0_u32.wrapping_sub(sum).to_be_bytes());
        header
    }

    #[test]
    fn partitions_keep_their_places_in_the_header() {
        let table = probe(&header(), Geometry::default()).unwrap();
        let seen: Vec<(u32, u64)> =
            table.partitions.iter().map(|e| (e.number, e.extent.start / 512)).collect();
        assert_eq!((seen, table.health), (vec![(1, 63), (11, 0)], Health::Sound));
    }

    #[test]
    fn a_wrong_checksum_is_told() {
        let mut torn = header();
        torn[8] = b'x';
        assert!(matches!(probe(&torn, Geometry::default()).unwrap().health, Health::Damaged(_)));
    }
}
