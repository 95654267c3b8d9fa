//! FAT12, FAT16 and FAT32 (Microsoft's FAT specification), as strictly as libblkid: there is no checksum, and its
//! weakest magic is the two bytes that end an MBR too.

use crate::bytes::{le16, le32, utf8};
use crate::format::{Format, Health, Magic, Signature, Usage};
use crate::read::ReadAt;
use crate::volume::bitlocker;

const SECTOR: usize = 512;
const ENTRY: u64 = 32;
const FAT12_MAX: u32 = 0xff4;
const FAT16_MAX: u32 = 0xfff4;
const FAT32_MAX: u32 = 0x0fff_fff6;
/// Clusters of a root directory in which the label is looked for.
const CHAIN_MAX: usize = 99;
const NO_NAME: &[u8] = b"NO NAME    ";

const ATTR_VOLUME_ID: u8 = 0x08;
const ATTR_DIRECTORY: u8 = 0x10;
const ATTR_LONG_NAME: u8 = 0x0f;
const ATTR_MASK: u8 = 0x3f;
const ENTRY_FREE: u8 = 0xe5;

/// Set while it is mounted for writing; in the first FAT entries too, which no tool trusts alone.
const DIRTY: u8 = 1;
/// BPB_BkBootSec of all volumes that anyone makes.
const BACKUP: u64 = 6;

pub const FORMAT: Format = Format {
    name: "vfat",
    usage: Usage::Filesystem,
    magics: &[
        Magic { offset: 0x52, bytes: b"MSWIN" },
        Magic { offset: 0x52, bytes: b"FAT32   " },
        Magic { offset: 0x36, bytes: b"MSDOS" },
        Magic { offset: 0x36, bytes: b"FAT16   " },
        Magic { offset: 0x36, bytes: b"FAT12   " },
        Magic { offset: 0x36, bytes: b"FAT     " },
        Magic { offset: 0, bytes: &[0xeb] },
        Magic { offset: 0, bytes: &[0xe9] },
        Magic { offset: 0x1fe, bytes: &[0x55, 0xaa] },
    ],
    min_size: SECTOR as u64,
    probe,
};

/// Whether a first sector is this and no partition table.
pub fn is(device: &dyn ReadAt) -> bool {
    let sector = || device.bytes(0, SECTOR).ok();
    let has = |sector: &[u8], magic: &Magic| {
        sector.get(magic.offset as usize..).is_some_and(|rest| rest.starts_with(magic.bytes))
    };
    sector().is_some_and(|sector| {
        let magic = FORMAT.magics.iter().find(|magic| has(&sector, magic));
        magic.is_some_and(|magic| BootSector::parse(&sector, magic.bytes.len()).is_some())
            && !bitlocker::is(device)
    })
}

fn probe(device: &dyn ReadAt, magic: Option<&Magic>) -> Option<Signature> {
    let magic = magic?;
    let sector = device.bytes(0, SECTOR).ok()?;
    let boot = BootSector::parse(&sector, magic.bytes.len())?;
    if bitlocker::is(device) {
        return None;
    }
    boot.signature(device, &sector, magic.offset)
}

/// The copy of FAT32's boot sector, where the first one is gone.
pub fn salvage(device: &dyn ReadAt) -> Option<Signature> {
    let at = BACKUP * SECTOR as u64;
    let sector = device.bytes(at, SECTOR).ok()?;
    let is_fat32 = sector.get(0x52..0x5a)? == b"FAT32   " && le16(&sector, 0x1fe)? == 0xaa55;
    let boot = BootSector::parse(&sector, 8).filter(|boot| is_fat32 && boot.sector == SECTOR as u32)?;
    let mut found = boot.signature(device, &sector, 0x52)?;
    found.health = Health::Damaged(format!(
        "boot sector: gone; its copy in sector {BACKUP} is sound (fsck.vfat uses it)"
    ));
    Some(found)
}

/// What FAT16 and FAT32 have in common, and the sizes that follow.
struct BootSector {
    sector: u32,
    cluster_sectors: u32,
    reserved: u32,
    root_entries: u32,
    /// Of one FAT, in its 16-bit and its 32-bit field.
    fat16_length: u32,
    fat32_length: u32,
    /// Sectors of all FATs.
    fats: u32,
    sectors: u32,
    clusters: u32,
}

impl BootSector {
    /// libblkid's fat_valid_superblock; its arithmetic wraps, and so does this.
    fn parse(bytes: &[u8], magic_length: usize) -> Option<BootSector> {
        let sector = u32::from(le16(bytes, 0x0b)?);
        let cluster_sectors = u32::from(*bytes.get(0x0d)?);
        let reserved = u32::from(le16(bytes, 0x0e)?);
        let fat_count = u32::from(*bytes.get(0x10)?);
        let root_entries = u32::from(le16(bytes, 0x11)?);
        let sectors16 = u32::from(le16(bytes, 0x13)?);
        let media = *bytes.get(0x15)?;
        let fat16_length = u32::from(le16(bytes, 0x16)?);
        let sectors32 = le32(bytes, 0x20)?;
        let fat32_length = le32(bytes, 0x24)?;
        let name16 = bytes.get(0x36..0x3e)?;

        if magic_length <= 2 {
            // OS/2 puts a FAT-like sector before its other file systems.
            let is_other = name16 == b"JFS     " || name16 == b"HPFS    ";
            if le16(bytes, 0x1fe)? != 0xaa55 || is_other {
                return None;
            }
        }
        let holds = fat_count != 0
            && reserved != 0
            && (media >= 0xf8 || media == 0xf0)
            && cluster_sectors.is_power_of_two()
            && sector.is_power_of_two()
            && (512..=4096).contains(&sector);
        if !holds {
            return None;
        }
        let sectors = if sectors16 == 0 { sectors32 } else { sectors16 };
        let fat_length = if fat16_length == 0 { fat32_length } else { fat16_length };
        let fats = fat_length.wrapping_mul(fat_count);
        let root_sectors = (root_entries * ENTRY as u32).div_ceil(sector);
        let before = reserved.wrapping_add(fats).wrapping_add(root_sectors);
        let clusters = sectors.wrapping_sub(before) / cluster_sectors;
        let most = match (fat16_length, fat32_length) {
            (0, 1..) => FAT32_MAX,
            _ if clusters > FAT12_MAX => FAT16_MAX,
            _ => FAT12_MAX,
        };
        (clusters <= most).then_some(BootSector {
            sector,
            cluster_sectors,
            reserved,
            root_entries,
            fat16_length,
            fat32_length,
            fats,
            sectors,
            clusters,
        })
    }

    fn signature(&self, device: &dyn ReadAt, bytes: &[u8], magic_offset: u64) -> Option<Signature> {
        let mut found = Signature::new("vfat", Usage::Filesystem, magic_offset);
        let (mut version, mut label, mut boot_label, mut serial, mut dirty) = (None, None, None, None, false);
        if self.fat16_length != 0 {
            let root = self.reserved.wrapping_add(self.fats).wrapping_mul(self.sector);
            label = label_in(device, root.into(), self.root_entries);
            let sign = *bytes.get(0x26)?;
            boot_label = bytes.get(0x2b..0x36).filter(|_| sign == 0x29);
            serial = bytes.get(0x27..0x2b).filter(|_| matches!(sign, 0x28 | 0x29));
            dirty = *bytes.get(0x25)? & DIRTY != 0;
            found.tag("SEC_TYPE", "msdos");
            version = match self.clusters {
                0..FAT12_MAX => Some("FAT12"),
                FAT12_MAX..FAT16_MAX => Some("FAT16"),
                _ => None,
            };
        } else if self.fat32_length != 0 {
            label = self.label_in_chain(device, le32(bytes, 0x2c)?);
            version = Some("FAT32");
            boot_label = bytes.get(0x47..0x52).filter(|_| bytes.get(0x42) == Some(&0x29));
            serial = bytes.get(0x43..0x47);
            dirty = *bytes.get(0x41)? & DIRTY != 0;
            let info = u64::from(le16(bytes, 0x30)?);
            if info != 0 {
                let info = device.bytes(info * u64::from(self.sector), SECTOR).ok()?;
                let first = matches!(info.get(..4)?, b"RRaA" | b"RRdA" | [0, 0, 0, 0]);
                let second = matches!(info.get(484..488)?, b"rrAa" | [0, 0, 0, 0]);
                if !first || !second {
                    return None;
                }
            }
        }
        if let Some(name) = boot_label.filter(|name| *name != NO_NAME) {
            found.set_name("LABEL_FATBOOT", &utf8(name));
        }
        if let Some(label) = label {
            found.set_label(&label);
        }
        if let Some(&[a, b, c, d]) = serial.filter(|serial| **serial != [0; 4]) {
            found.set_uuid_text(format!("{d:02X}{c:02X}-{b:02X}{a:02X}"));
        }
        if let Some(version) = version {
            found.set_version(version);
        }
        found.set_fs_block_size(self.cluster_sectors * self.sector);
        found.set_block_size(self.sector);
        let size = u64::from(self.sector) * u64::from(self.sectors);
        found.set_fs_size(size);
        found.set_length(size, device);
        if dirty {
            found.check_is_due("it was not unmounted cleanly", ": fsck is due");
        }
        Some(found)
    }

    /// FAT32's root directory is a chain of clusters like any other.
    fn label_in_chain(&self, device: &dyn ReadAt, root: u32) -> Option<[u8; 11]> {
        let sector = u64::from(self.sector);
        let entries = u64::from(self.fat32_length) * sector / 4;
        let data = self.reserved.wrapping_add(self.fats);
        let count = self.cluster_sectors * self.sector / ENTRY as u32;
        let mut next = root;
        for _ in 0..CHAIN_MAX {
            if next == 0 || u64::from(next) >= entries {
                break;
            }
            let sectors = next.wrapping_sub(2).wrapping_mul(self.cluster_sectors);
            let at = u64::from(data.wrapping_add(sectors)) * sector;
            if let Some(label) = label_in(device, at, count) {
                return Some(label);
            }
            let at = u64::from(self.reserved) * sector + u64::from(next) * 4;
            next = le32(&device.bytes(at, 4).ok()?, 0)? & 0x0fff_ffff;
        }
        None
    }
}

/// The name of the volume among the entries of a directory.
fn label_in(device: &dyn ReadAt, at: u64, entries: u32) -> Option<[u8; 11]> {
    for index in 0..u64::from(entries) {
        let entry = device.bytes(at.checked_add(index * ENTRY)?, ENTRY as usize).ok()?;
        let mut name: [u8; 11] = entry.get(..11)?.try_into().ok()?;
        let attributes = *entry.get(11)?;
        let has_cluster = le16(&entry, 20)? != 0 || le16(&entry, 26)? != 0;
        if name[0] == 0 {
            return None;
        }
        if name[0] == ENTRY_FREE || has_cluster || attributes & ATTR_MASK == ATTR_LONG_NAME {
            continue;
        }
        if attributes & (ATTR_VOLUME_ID | ATTR_DIRECTORY) == ATTR_VOLUME_ID {
            if name[0] == 0x05 {
                name[0] = 0xe5;
            }
            return Some(name);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn put(device: &mut [u8], offset: usize, bytes: &[u8]) {
        device[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    const WEAK: Magic = Magic { offset: 0x1fe, bytes: &[0x55, 0xaa] };

    /// FAT16 of 16 MiB, labelled in its boot sector and, differently, in its root directory.
    fn fat16() -> Vec<u8> {
        let mut device = vec![0; 16 << 20];
        put(&mut device, 0, &[0xeb, 0x3c, 0x90]);
        put(&mut device, 0x0b, &[0, 2, 4, 4, 0, 2, 0, 2, 0, 0x80, 0xf8, 32, 0]);
        put(&mut device, 0x26, &[0x29, 0x78, 0x56, 0x34, 0x12]);
        put(&mut device, 0x2b, b"BOOTNAME   FAT16   ");
        put(&mut device, 0x1fe, &[0x55, 0xaa]);
        let root = (4 + 64) * 512;
        put(&mut device, root, b"\xe5ELETED    ");
        put(&mut device, root + 11, &[8]);
        put(&mut device, root + 32, b"ROOTNAME   \x08");
        device
    }

    /// FAT32 of 64 MiB.
    fn fat32() -> Vec<u8> {
        let mut device = vec![0; 64 << 20];
        for at in [0, 6 * 512] {
            put(&mut device, at, &[0xeb, 0x58, 0x90]);
            put(&mut device, at + 0x0b, &[0, 2, 1, 32, 0, 2, 0, 0, 0, 0, 0xf8, 0, 0]);
            put(&mut device, at + 0x20, &131_072_u32.to_le_bytes());
            put(&mut device, at + 0x24, &1008_u32.to_le_bytes());
            put(&mut device, at + 0x2c, &[2, 0, 0, 0, 1, 0, 6, 0]);
            put(&mut device, at + 0x42, &[0x29, 1, 2, 3, 4]);
            put(&mut device, at + 0x47, b"NO NAME    FAT32   ");
            put(&mut device, at + 0x1fe, &[0x55, 0xaa]);
        }
        put(&mut device, 512, b"RRaA");
        put(&mut device, 512 + 484, b"rrAa");
        // The root directory's first cluster is full of long names, its second has the label.
        let data = (32 + 2 * 1008) * 512;
        for entry in 0..16 {
            put(&mut device, data + entry * 32, b"Along name.\x0f");
        }
        put(&mut device, 32 * 512 + 8, &3_u32.to_le_bytes());
        put(&mut device, data + 512, b"\x05FIBOOT    \x08");
        device
    }

    fn look(device: &dyn ReadAt) -> Option<Signature> {
        probe(device, Some(&WEAK))
    }

    #[test]
    fn both_labels_of_a_fat16_are_read() {
        let found = look(&fat16()).unwrap();
        let tags: Vec<(&str, &str)> = found.tags.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let want = [
            ("SEC_TYPE", "msdos"),
            ("LABEL_FATBOOT", "BOOTNAME"),
            ("LABEL", "ROOTNAME"),
            ("UUID", "1234-5678"),
            ("VERSION", "FAT16"),
            ("FSBLOCKSIZE", "2048"),
            ("BLOCK_SIZE", "512"),
            ("FSSIZE", "16777216"),
        ];
        assert_eq!(tags, want);
        assert!(found.notes.is_empty());
    }

    #[test]
    fn a_fat32_label_is_found_along_the_chain() {
        let found = look(&fat32()).unwrap();
        assert_eq!((found.uuid.as_deref(), found.version.as_deref()), (Some("0403-0201"), Some("FAT32")));
        assert_eq!(found.label.as_deref().unwrap().chars().skip(1).collect::<String>(), "FIBOOT");
        assert!(!found.tags.iter().any(|(name, _)| name == "LABEL_FATBOOT"));
    }

    #[test]
    fn each_field_that_is_wrong_makes_it_none() {
        let cases = [
            ("no FAT", 0x10, 0),
            ("no reserved sector", 0x0e, 0),
            ("media", 0x15, 0xf1),
            ("cluster", 0x0d, 3),
        ];
        for (label, offset, byte) in cases {
            let mut device = fat16();
            device[offset] = byte;
            assert!(look(&device).is_none() && !is(&device), "{label}");
        }
        let mut device = fat16();
        put(&mut device, 0x36, b"HPFS    ");
        assert!(look(&device).is_none());
        let mut device = fat32();
        device[512] = b'X';
        assert!(look(&device).is_none(), "fsinfo");
    }

    #[test]
    fn a_protective_mbr_is_no_fat() {
        let mut disk = vec![0; 1 << 20];
        put(&mut disk, 0, &[0xeb, 0x63, 0x90]);
        put(&mut disk, 446, &[0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0xff, 7, 0, 0]);
        put(&mut disk, 0x1fe, &[0x55, 0xaa]);
        assert!(look(&disk).is_none() && !is(&disk));
    }

    #[test]
    fn a_dirty_volume_is_told_and_has_no_log() {
        let mut device = fat16();
        device[0x25] = DIRTY;
        let found = look(&device).unwrap();
        assert_eq!((found.dirty, found.notes.len()), (false, 1));
        assert_eq!(found.is_due(), Some("it was not unmounted cleanly"));
        let mut device = fat32();
        device[0x41] = DIRTY;
        assert_eq!(look(&device).unwrap().is_due(), Some("it was not unmounted cleanly"));
    }

    #[test]
    fn a_wiped_boot_sector_is_found_by_its_copy() {
        let mut device = fat32();
        device[..512].fill(0);
        let Health::Damaged(reason) = salvage(&device).unwrap().health else { panic!() };
        assert_eq!(reason, "boot sector: gone; its copy in sector 6 is sound (fsck.vfat uses it)");
        device[6 * 512 + 0x10] = 0;
        assert!(salvage(&device).is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn no_mutated_boot_sector_panics(changes in proptest::collection::vec((0usize..0x60, any::<u8>()), 0..12), wide in any::<bool>()) {
            let mut device = if wide { fat32() } else { fat16() };
            for (offset, byte) in changes {
                device[offset] = byte;
            }
            let _ = look(&device);
        }
    }
}
