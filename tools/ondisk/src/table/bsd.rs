//! The BSDs' disklabel. Its starts count from the disk's start also where it lies within a partition, so nothing is said of one that
//! leads past the device's end.

use super::{Chs, Entry, Items, Label, Slice, Table, TableKind};
use crate::bytes::{le16, le32, utf8};
use crate::format::{Extent, Geometry, Health};
use crate::read::{ReadAt, Section};

const MAGIC: u32 = 0x8256_4557;
/// LABELSECTOR and LABELOFFSET of the machines that have one, in bytes.
const PLACES: [u64; 3] = [512, 64, 128];
const MOST: usize = 16;
const FIRST: usize = 148;
const LENGTH: usize = FIRST + 16 * MOST;
/// The entry `c`, which is the whole disk or slice.
const WHOLE: usize = 2;
/// FS_UNUSED.
const UNUSED: u8 = 0;
/// What a label counts in, bytes.
const SECTOR: u64 = 512;

pub fn probe(device: &dyn ReadAt, geometry: Geometry) -> Option<Table> {
    PLACES.iter().find_map(|place| {
        let label = device.bytes(*place, LENGTH).ok()?;
        let (health, partitions) = parse(&label)?;
        // Where fdisk looks; of other machines' labels it says nothing.
        let whole = (*place == PLACES[0]).then(|| read(&label)).flatten();
        Some(Table { health, label: whole, ..Table::new(TableKind::Bsd, geometry.logical, partitions) })
    })
}

/// The label of an MBR's partition: its entries as the kernel lists them (block/partitions/msdos.c), without the
/// partition itself and without what is not within it. FreeBSD has come to count from the partition's start.
pub fn within(device: &dyn ReadAt, parent: Extent, name: &str) -> Vec<Entry> {
    let section = Section::new(device, parent.start, parent.length);
    let found = PLACES.iter().find_map(|place| {
        let label = section.bytes(*place, LENGTH).ok()?;
        let (_, entries) = parse(&label)?;
        Some((entries, le32(&label, FIRST + 16 * WHOLE + 4)?))
    });
    let Some((mut entries, whole)) = found else { return Vec::new() };
    let base = if name == "freebsd" && whole == 0 { parent.start } else { 0 };
    for entry in &mut entries {
        entry.extent.start = entry.extent.start.saturating_add(base);
        entry.within = Some(name.to_string());
        entry.name = None;
    }
    let end = |extent: &Extent| extent.start.saturating_add(extent.length);
    entries.retain(|entry| {
        entry.extent != parent && entry.extent.start >= parent.start && end(&entry.extent) <= end(&parent)
    });
    entries
}

/// All of the label, unused slices too.
fn read(label: &[u8]) -> Option<Label> {
    let number = |at: usize| le32(label, at);
    let geometry = Chs { sectors: number(44)?, heads: number(48)?, cylinders: number(52)? };
    let items = Items::Bsd {
        kind: le16(label, 4)? as i16,
        disk: utf8(label.get(8..24)?),
        pack: utf8(label.get(24..40)?),
        bytes_a_sector: number(40)?,
        sectors_a_cylinder: number(56)?,
        rpm: le16(label, 72)?,
        interleave: le16(label, 74)?,
        track_skew: le16(label, 76)?,
        cylinder_skew: le16(label, 78)?,
        head_switch: number(80)?,
        track_seek: number(84)?,
        flags: number(88)?,
    };
    let count = usize::from(le16(label, 138)?).min(MOST);
    let slice = |index: usize| {
        let at = FIRST + 16 * index;
        let fragment = number(at + 8)?;
        Some(Slice {
            number: index as u32 + 1, // below MOST
            start: number(at + 4)?.into(),
            sectors: number(at)?.into(),
            code: u32::from(*label.get(at + 12)?),
            flags: 0,
            fragment,
            // As fdisk counts, in 32 bits.
            block: fragment.wrapping_mul(u32::from(*label.get(at + 13)?)),
            cylinders_a_group: le16(label, at + 14)?,
        })
    };
    let slices = (0..count).map(slice).collect::<Option<Vec<_>>>()?;
    Some(Label::of(Some(geometry), items, slices))
}

fn parse(label: &[u8]) -> Option<(Health, Vec<Entry>)> {
    if le32(label, 0)? != MAGIC || le32(label, 132)? != MAGIC {
        return None;
    }
    let stored = le16(label, 136)?;
    let count = usize::from(le16(label, 138)?).min(MOST);
    let summed = label.get(..FIRST + 16 * count)?;
    let sum = summed.chunks_exact(2).fold(0, |sum, pair| sum ^ u16::from_le_bytes([pair[0], pair[1]]));
    let mut partitions = Vec::new();
    for index in 0..count {
        let at = FIRST + 16 * index;
        let sectors = le32(label, at)?;
        let start = le32(label, at + 4)?;
        let kind = *label.get(at + 12)?;
        if kind == UNUSED || sectors == 0 {
            continue;
        }
        let extent = Extent { start: u64::from(start) * SECTOR, length: u64::from(sectors) * SECTOR };
        let name = Some(char::from(b'a' + index as u8).to_string()); // below MOST
        partitions.push(Entry { name, ..Entry::new(index as u32 + 1, extent, format!("{kind:x}")) });
    }
    Some((Health::of_checksum(stored, stored ^ sum), partitions))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(place: usize) -> Vec<u8> {
        let mut label = vec![0; LENGTH];
        for at in [0, 132] {
            label[at..at + 4].copy_from_slice(&MAGIC.to_le_bytes());
        }
        label[138] = 5;
        for (index, words, kind) in [(0, [100_u32, 16], 7), (2, [1000, 0], 0), (4, [200, 116], 1)] {
            let at = FIRST + 16 * index;
            label[at..at + 4].copy_from_slice(&words[0].to_le_bytes());
            label[at + 4..at + 8].copy_from_slice(&words[1].to_le_bytes());
            label[at + 12] = kind;
        }
        let sum = label.chunks(2).fold(0, |sum, pair| sum ^ u16::from_le_bytes([pair[0], pair[1]]));
        label[136..138].copy_from_slice(&sum.to_le_bytes());
        let mut disk = vec![0; 4096];
        disk[place..place + LENGTH].copy_from_slice(&label);
        disk
    }

    #[test]
    fn a_label_is_found_where_each_machine_has_it() {
        for place in [512, 64, 128] {
            let table = probe(&disk(place), Geometry::default()).unwrap();
            let seen: Vec<(u32, Option<&str>, u64)> = table
                .partitions
                .iter()
                .map(|entry| (entry.number, entry.name.as_deref(), entry.extent.start / 512))
                .collect();
            assert_eq!(seen, [(1, Some("a"), 16), (5, Some("e"), 116)], "{place}");
            assert_eq!(table.health, Health::Sound);
        }
    }

    #[test]
    fn entries_within_a_partition_count_from_the_disk_or_the_partition() {
        let disk = [vec![0; 8 * 512], disk(512), vec![0; 400 * 512]].concat();
        let parent = Extent { start: 8 * 512, length: 300 * 512 };
        let starts = |name: &str| {
            let entries = within(&disk, parent, name);
            entries.iter().map(|entry| entry.extent.start / 512).collect::<Vec<_>>()
        };
        // The second one leads out of the partition.
        assert_eq!(starts("freebsd"), [24]);
        assert_eq!(starts("openbsd"), [16]);
    }

    #[test]
    fn a_wrong_checksum_is_told() {
        let mut torn = disk(512);
        torn[520] ^= 1;
        assert!(matches!(probe(&torn, Geometry::default()).unwrap().health, Health::Damaged(_)));
    }
}
