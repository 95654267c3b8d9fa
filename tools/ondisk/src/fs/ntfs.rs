//! NTFS: the boot sector, its copy behind the volume's end, and the file $Volume, which has the label and the
//! dirty flag (libblkid: ntfs.c; Linux: fs/ntfs3/ntfs.h).

use crate::bytes::{Utf16, le16, le32, le64, utf16};
use crate::format::{Format, Health, Magic, Signature, Usage};
use crate::fs::hiberfil::{Place, is_hibernated};
use crate::read::ReadAt;
use crate::volume::bitlocker;

const NAME: &[u8] = b"NTFS    ";
/// Windows 10 makes clusters of 2 MiB.
const CLUSTER_MAX: u32 = 2 << 20;
/// The kernel's limit of an MFT record; libblkid would take more.
const RECORD_MAX: u32 = 64 << 10;
/// The file $Volume.
const VOLUME: u64 = 3;
const ATTRIBUTE_NAME: u32 = 0x60;
const ATTRIBUTE_INFORMATION: u32 = 0x70;
const ATTRIBUTE_END: u32 = u32::MAX;
const DIRTY: u16 = 1;

pub const FORMAT: Format = Format {
    name: "ntfs",
    usage: Usage::Filesystem,
    magics: &[Magic { offset: 3, bytes: NAME }],
    min_size: 4096,
    probe,
};

/// Whether a first sector is this and no partition table.
pub fn is(device: &dyn ReadAt) -> bool {
    probe(device, None).is_some()
}

fn probe(device: &dyn ReadAt, _magic: Option<&Magic>) -> Option<Signature> {
    let sector = device.bytes(0, 512).ok().filter(|sector| sector.get(3..11) == Some(NAME))?;
    if bitlocker::is(device) {
        return None;
    }
    let copy = || last_sector(device).filter(|copy| copy.records(device).is_ok());
    let (reason, torn) = match Boot::parse(&sector) {
        Some(boot) => match boot.records(device) {
            Ok(volume) => return Some(boot.signature(device, &volume)),
            Err(reason) => (reason, Some(boot)),
        },
        None => ("a field is out of range".to_string(), None),
    };
    if let Some(copy) = copy() {
        let mut found = copy.signature(device, &copy.records(device).unwrap_or_default());
        found.health = Health::Damaged(format!(
            "boot sector: {reason}; its copy in the last sector is sound (testdisk or ntfsfix restore it)"
        ));
        return Some(found);
    }
    // With neither a copy nor an MFT there is only a name and sizes that fit.
    let mut found = torn?.signature(device, &[]);
    found.health = Health::Damaged(reason);
    Some(found)
}

pub fn salvage(device: &dyn ReadAt) -> Option<Signature> {
    let copy = last_sector(device)?;
    let mut found = copy.signature(device, &copy.records(device).ok()?);
    found.health = Health::Damaged(
        "boot sector: gone; its copy in the last sector is sound (testdisk or ntfsfix restore it)"
            .to_string(),
    );
    Some(found)
}

fn last_sector(device: &dyn ReadAt) -> Option<Boot> {
    let sector = device.bytes(device.size().checked_sub(512)? & !511, 512).ok()?;
    if sector.get(3..11)? != NAME {
        return None;
    }
    Boot::parse(&sector)
}

struct Boot {
    sector: u32,
    cluster_sectors: u32,
    sectors: u64,
    mft: u64,
    record: u32,
    serial: u64,
}

impl Boot {
    fn parse(bytes: &[u8]) -> Option<Boot> {
        let sector = u32::from(le16(bytes, 11)?);
        let cluster = *bytes.get(13)?;
        let zeros = bytes.get(14..21)?.iter().chain(bytes.get(22..24)?).chain(bytes.get(32..36)?);
        let mut zeros = zeros.copied();
        let sectors = le64(bytes, 40)?;
        let mft = le64(bytes, 48)?;
        let mirror = le64(bytes, 56)?;
        let record = *bytes.get(64)?;
        let serial = le64(bytes, 72)?;

        let cluster_sectors = match cluster {
            1 | 2 | 4 | 8 | 16 | 32 | 64 | 128 => u32::from(cluster),
            240..=249 => 1 << (256 - u32::from(cluster)),
            _ => return None,
        };
        let holds = sector.is_power_of_two()
            && (256..=4096).contains(&sector)
            && sector * cluster_sectors <= CLUSTER_MAX
            && zeros.all(|byte| byte == 0)
            && mft <= sectors / u64::from(cluster_sectors)
            && mirror <= sectors / u64::from(cluster_sectors);
        let record = match record {
            1 | 2 | 4 | 8 | 16 | 32 | 64 => u32::from(record).checked_mul(cluster_sectors * sector)?,
            0xe1..=0xf7 => 1 << (256 - u32::from(record)),
            _ => return None,
        };
        (holds && (4..=RECORD_MAX).contains(&record)).then_some(Boot {
            sector,
            cluster_sectors,
            sectors,
            mft,
            record,
            serial,
        })
    }

    /// The record of $Volume, when it and the MFT's own are there.
    fn records(&self, device: &dyn ReadAt) -> Result<Vec<u8>, String> {
        let cluster = u64::from(self.cluster_sectors * self.sector);
        let at = self.mft.checked_mul(cluster).ok_or("the MFT's place is out of range")?;
        let read = |what: &str, at: u64| {
            let record = device
                .bytes(at, self.record as usize)
                .map_err(|error| format!("{what} cannot be read: {error}"))?;
            if record.starts_with(b"FILE") { Ok(record) } else { Err(format!("{what} at {at} is torn")) }
        };
        read("the MFT", at)?;
        read("the record of $Volume", at.saturating_add(VOLUME * u64::from(self.record)))
    }

    fn signature(&self, device: &dyn ReadAt, volume: &[u8]) -> Signature {
        let mut found = Signature::new("ntfs", Usage::Filesystem, 3);
        let (name, flags) = attributes(volume);
        if let Some(name) = name {
            found.set_label_text(&name);
        }
        let cluster = self.cluster_sectors * self.sector;
        found.set_fs_block_size(cluster);
        found.set_block_size(self.sector);
        let size = self.sectors.wrapping_mul(self.sector.into());
        found.set_fs_size(size);
        if self.serial != 0 {
            found.set_uuid_text(format!("{:016X}", self.serial));
        }
        found.set_length(size, device);
        if flags.is_some_and(|flags| flags & DIRTY != 0) {
            found.check_is_due("it is marked for a check: chkdsk in Windows, or ntfsfix", "");
        }
        let place = self.mft.checked_mul(cluster.into());
        let place = place.map(|mft| Place { cluster: cluster.into(), record: self.record.into(), mft });
        if place.is_some_and(|place| is_hibernated(device, place)) {
            found.hibernated = true;
            found.note("Windows is hibernated on it, and goes on with what it remembers of it");
        }
        found
    }
}

/// Label and flags of a volume's record. Each attribute is at least 8 bytes, so the loop is short.
fn attributes(record: &[u8]) -> (Option<String>, Option<u16>) {
    let mut name = None;
    let mut flags = None;
    let mut at = le16(record, 20).map_or(record.len(), usize::from);
    let allocated = le32(record, 28).unwrap_or_default() as usize;
    while at + 22 <= record.len() && at <= allocated {
        let field = |offset| le32(record, at + offset).unwrap_or_default();
        let (kind, length, value_length) = (field(0), field(4) as usize, field(16) as usize);
        let value_at = usize::from(le16(record, at + 20).unwrap_or_default());
        let start = at + value_at;
        let value = start.checked_add(value_length).and_then(|end| record.get(start..end));
        match kind {
            ATTRIBUTE_END => break,
            ATTRIBUTE_NAME if name.is_none() => name = value.map(|value| utf16(value, Utf16::Little)),
            ATTRIBUTE_INFORMATION => flags = value.and_then(|value| le16(value, 10)),
            _ => {}
        }
        if length < 8 {
            break;
        }
        at = at.saturating_add(length);
    }
    (name, flags)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn put(device: &mut [u8], offset: usize, bytes: &[u8]) {
        device[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    const MFT: usize = 4 * 4096;

    /// 1 MiB less the sector of the copy, clusters of 4 KiB.
    fn sample() -> Vec<u8> {
        let mut device = vec![0; 1 << 20];
        for at in [0, (1 << 20) - 512] {
            put(&mut device, at, b"\xeb\x52\x90NTFS    ");
            put(&mut device, at + 11, &[0, 2, 8]);
            put(&mut device, at + 21, &[0xf8]);
            put(&mut device, at + 40, &2047_u64.to_le_bytes());
            put(&mut device, at + 48, &4_u64.to_le_bytes());
            put(&mut device, at + 56, &100_u64.to_le_bytes());
            put(&mut device, at + 64, &[0xf6]);
            put(&mut device, at + 72, &0x0123_4567_89ab_cdef_u64.to_le_bytes());
        }
        put(&mut device, MFT, b"FILE");
        let volume = MFT + 3 * 1024;
        put(&mut device, volume, b"FILE");
        put(&mut device, volume + 20, &[56, 0]);
        put(&mut device, volume + 28, &1024_u32.to_le_bytes());
        for (at, kind, value) in [(56, 0x60_u8, &b"W\0i\0n\0"[..]), (88, 0x70, &[0; 12])] {
            put(&mut device, volume + at, &[kind, 0, 0, 0, if kind == 0x60 { 32 } else { 40 }]);
            put(&mut device, volume + at + 16, &[value.len() as u8, 0, 0, 0, 24, 0]);
            put(&mut device, volume + at + 24, value);
        }
        put(&mut device, volume + 128, &[0xff; 4]);
        device
    }

    fn reason(signature: &Signature) -> &str {
        match &signature.health {
            Health::Damaged(reason) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_sound_volume_says_what_blkid_says() {
        let found = probe(&sample(), None).unwrap();
        let tags: Vec<(&str, &str)> = found.tags.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let want = [
            ("LABEL", "Win"),
            ("FSBLOCKSIZE", "4096"),
            ("BLOCK_SIZE", "512"),
            ("FSSIZE", "1048064"),
            ("UUID", "0123456789ABCDEF"),
        ];
        assert_eq!(tags, want);
        assert!(found.notes.is_empty() && is(&sample()));
    }

    #[test]
    fn the_dirty_flag_is_told() {
        let mut device = sample();
        device[MFT + 3 * 1024 + 88 + 24 + 10] = 1;
        let found = probe(&device, None).unwrap();
        assert_eq!(found.notes, ["it is marked for a check: chkdsk in Windows, or ntfsfix"]);
        assert_eq!((found.is_due(), found.hibernated), (Some(found.notes[0].as_str()), false));
    }

    #[test]
    fn a_torn_boot_sector_names_its_copy() {
        let mut device = sample();
        device[13] = 3;
        assert_eq!(
            reason(&probe(&device, None).unwrap()),
            "boot sector: a field is out of range; its copy in the last sector is sound (testdisk or ntfsfix restore it)"
        );
        device[..512].fill(0);
        assert!(probe(&device, None).is_none());
        assert!(reason(&salvage(&device).unwrap()).starts_with("boot sector: gone"));
    }

    #[test]
    fn a_torn_mft_is_damage() {
        let mut device = sample();
        device[MFT] = 0;
        assert_eq!(reason(&probe(&device, None).unwrap()), "the MFT at 16384 is torn");
        let mut device = sample();
        device[MFT + 3072] = 0;
        assert_eq!(reason(&probe(&device, None).unwrap()), "the record of $Volume at 19456 is torn");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]
        #[test]
        fn no_mutated_volume_panics(
            changes in proptest::collection::vec((prop_oneof![11usize..80, MFT + 3072..MFT + 3300], any::<u8>()), 0..12),
        ) {
            let mut device = sample();
            for (offset, byte) in changes {
                device[offset] = byte;
            }
            let _ = probe(&device, None);
        }
    }
}
