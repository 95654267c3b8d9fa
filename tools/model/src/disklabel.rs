//! What fdisk says of a partition table beside its partitions: the geometry of the labels that count in cylinders, and the
//! fields of its expert listing (libfdisk: `fdisk_list_disklabel`).

use crate::text::Untrusted;
use ondisk::table::{Chs, Items, Label, Table, TableKind};

/// What libfdisk takes where neither a label nor the drive says: heads, sectors of a track.
const COMMON: (u32, u32) = (255, 63);
const VTOC_VERSION: u32 = 1;
const VTOC_SANITY: u32 = 0x600d_deee;
const VTOC_SLICES: u16 = 8;
/// d_type, by libfdisk's words.
const BSD_DRIVES: [&str; 11] =
    ["unknown", "SMD", "MSCP", "old DEC", "SCSI", "ESDI", "ST506", "HP-IB", "HP-FL", "type 9", "floppy"];
/// d_flags: the first that is set is shown.
const BSD_FLAGS: [(u32, &str); 3] = [(1, " removable"), (2, " ecc"), (4, " badsect")];
/// GPT attribute bits that have a name.
const ATTRIBUTES: [(u32, &str); 3] =
    [(0, "RequiredPartition"), (1, "NoBlockIOProtocol"), (2, "LegacyBIOSBootable")];
/// The bits that belong to the partition's type.
const OF_THE_TYPE: std::ops::Range<u32> = 48..64;

/// Of a disk of so many sectors; `None` for a table that has no need of one.
pub fn geometry(label: &Label, sectors: u64) -> Chs {
    label.geometry.unwrap_or_else(|| {
        let (heads, track) = COMMON;
        let cylinders = sectors / u64::from(heads * track);
        Chs { cylinders: u32::try_from(cylinders).unwrap_or(u32::MAX), heads, sectors: track }
    })
}

/// The lines `Name: value` of the expert listing; a GPT's and an MBR's identifier is among them. Harmless to a terminal.
pub fn items(table: &Table) -> Vec<(&'static str, String)> {
    let mut items: Vec<(&str, String)> = Vec::new();
    let mut add = |name, value: &dyn ToString| items.push((name, value.to_string()));
    if let Some(id) = table.id.as_deref().filter(|_| matches!(table.kind, TableKind::Gpt | TableKind::Mbr)) {
        add("Disk identifier", &Untrusted(id));
    }
    if let Some(gpt) = &table.gpt {
        let sector = u64::from(table.sector.max(1));
        let area = u64::from(gpt.entries).saturating_mul(gpt.entry_size.into()).div_ceil(sector);
        add("First usable LBA", &gpt.first_usable);
        add("Last usable LBA", &gpt.last_usable);
        add("Alternative LBA", &gpt.alternative);
        add("Partition entries starting LBA", &gpt.entries_start);
        add("Allocated partition entries", &gpt.entries);
        add("Partition entries ending LBA", &gpt.entries_start.saturating_add(area).saturating_sub(1));
    }
    let Some(label) = &table.label else { return items };
    match &label.items {
        Items::Bsd {
            kind,
            disk,
            pack,
            bytes_a_sector,
            sectors_a_cylinder,
            rpm,
            interleave,
            track_skew,
            cylinder_skew,
            head_switch,
            track_seek,
            flags,
        } => {
            let drive = usize::try_from(*kind).ok().and_then(|kind| BSD_DRIVES.get(kind));
            let of = label.geometry.unwrap_or(Chs { cylinders: 0, heads: 0, sectors: 0 });
            let flag = BSD_FLAGS.iter().find(|(bit, _)| flags & bit != 0).map_or("", |(_, name)| name);
            match drive {
                Some(name) => add("Type", name),
                None => add("Type", kind),
            }
            add("Disk", &Untrusted(disk));
            add("Packname", &Untrusted(pack));
            add("Flags", &flag);
            add("Bytes/Sector", bytes_a_sector);
            add("Tracks/Cylinder", &of.heads);
            add("Sectors/Cylinder", sectors_a_cylinder);
            add("Cylinders", &of.cylinders);
            add("Rpm", rpm);
            add("Interleave", interleave);
            add("Trackskew", track_skew);
            add("Cylinderskew", cylinder_skew);
            add("Headswitch", head_switch);
            add("Track-to-track seek", track_seek);
        }
        Items::Sgi { boot_file, extra_sectors, physical_cylinders, interleave, root: _, swap: _ } => {
            add("Physical cylinders", physical_cylinders);
            add("Extra sects/cyl", extra_sectors);
            add("Interleave", interleave);
            if !boot_file.is_empty() {
                add("Bootfile", &Untrusted(boot_file));
            }
        }
        Items::Sun {
            id,
            volume,
            rpm,
            physical_cylinders,
            extra_sectors,
            interleave,
            alternate_cylinders,
            version: _,
            slices: _,
            sanity: _,
        } => {
            for (name, text) in [("Label ID", id), ("Volume ID", volume)] {
                if !text.is_empty() {
                    add(name, &Untrusted(text));
                }
            }
            add("Rpm", rpm);
            add("Alternate cylinders", alternate_cylinders);
            add("Physical cylinders", physical_cylinders);
            add("Extra sects/cyl", extra_sectors);
            add("Interleave", interleave);
        }
    }
    items
}

/// What fdisk warns of on stderr.
pub fn warnings(table: &Table) -> Vec<String> {
    let is_torn = matches!(table.health, ondisk::Health::Damaged(_));
    match table.label.as_ref().map(|label| &label.items) {
        Some(Items::Sgi { .. }) if is_torn => {
            vec!["Detected an SGI disklabel with wrong checksum.".to_string()]
        }
        Some(Items::Sun { version, sanity, slices, .. }) => {
            let wrong = [
                (*version != VTOC_VERSION, format!("version [{version}]")),
                (*sanity != VTOC_SANITY, format!("vtoc.sanity [0x{sanity:08x}]")),
                (*slices != VTOC_SLICES, format!("vtoc.nparts [{slices}]")),
            ];
            let told = wrong.into_iter().filter(|(is_wrong, _)| *is_wrong);
            told.map(|(_, what)| format!("Detected sun disklabel with wrong {what}.")).collect()
        }
        Some(Items::Bsd { .. } | Items::Sgi { .. }) | None => Vec::new(),
    }
}

/// A GPT entry's attributes in libfdisk's words.
pub fn attributes(bits: u64) -> String {
    let is_set = |bit: &u32| bits >> bit & 1 != 0;
    let mut words: Vec<String> =
        ATTRIBUTES.iter().filter(|(bit, _)| is_set(bit)).map(|(_, name)| name.to_string()).collect();
    let own: Vec<String> = OF_THE_TYPE.filter(is_set).map(|bit| bit.to_string()).collect();
    if !own.is_empty() {
        words.push(format!("GUID:{}", own.join(",")));
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_named_in_libfdisk_s_order() {
        assert_eq!(attributes(0), "");
        assert_eq!(
            attributes(7 | 1 << 3 | 1 << 48 | 1 << 63),
            "RequiredPartition NoBlockIOProtocol LegacyBIOSBootable GUID:48,63"
        );
        assert_eq!(attributes(1 << 60), "GUID:60");
    }

    #[test]
    fn a_vtoc_that_is_not_sound_is_told_as_fdisk_does() {
        let items = Items::Sun {
            id: String::new(),
            version: 0,
            volume: String::new(),
            slices: 3,
            sanity: 0,
            rpm: 0,
            physical_cylinders: 0,
            extra_sectors: 0,
            interleave: 0,
            alternate_cylinders: 0,
        };
        let label = Some(Label::of(None, items, Vec::new()));
        let table = Table { label, ..Table::new(TableKind::Sun, 512, Vec::new()) };
        let said = warnings(&table);
        assert_eq!(said[1], "Detected sun disklabel with wrong vtoc.sanity [0x00000000].");
        assert_eq!(said.len(), 3);
    }
}
