//! exFAT (Microsoft's exFAT specification, sections 3 and 7.3): a boot region with a checksum, and a copy of it.

use crate::bytes::{Utf16, le16, le32, le64, utf16};
use crate::format::{Format, Health, Magic, Signature, Usage};
use crate::read::ReadAt;

const NAME: &[u8] = b"EXFAT   ";
const ENTRY: u64 = 32;
const END_OF_DIRECTORY: u8 = 0;
const VOLUME_LABEL: u8 = 0x83;
const FIRST_CLUSTER: u32 = 2;
const LAST_CLUSTER: u32 = 0x0fff_fff6;
/// Entries of the root directory in which the label is looked for; it is among the first.
const ENTRIES_MAX: u64 = 1 << 16;
// VolumeFlags
const DIRTY: u16 = 2;
const MEDIA_FAILURE: u16 = 4;

pub const FORMAT: Format = Format {
    name: "exfat",
    usage: Usage::Filesystem,
    magics: &[Magic { offset: 3, bytes: NAME }],
    min_size: 24 * 512,
    probe,
};

fn probe(device: &dyn ReadAt, _magic: Option<&Magic>) -> Option<Signature> {
    let boot = Boot::read(device, 0)?;
    let Err(reason) = boot.check(device, 0) else { return Some(boot.signature(device)) };
    let copy = copy(device, [boot.sector_log]);
    let mut found = copy.as_ref().map_or(&boot, |(_, copy)| copy).signature(device);
    found.health = Health::Damaged(match copy {
        Some((sector, _)) => {
            format!("boot region: {reason}; its copy at sector {sector} is sound (fsck.exfat uses it)")
        }
        None => format!("boot region: {reason}; its copy is not sound either"),
    });
    Some(found)
}

pub fn salvage(device: &dyn ReadAt) -> Option<Signature> {
    let (sector, copy) = copy(device, 9..=12)?;
    let mut found = copy.signature(device);
    found.health = Health::Damaged(format!(
        "boot region: gone; its copy at sector {sector} is sound (fsck.exfat uses it)"
    ));
    Some(found)
}

/// The sound backup, 12 sectors behind the first.
fn copy(device: &dyn ReadAt, logs: impl IntoIterator<Item = u8>) -> Option<(u64, Boot)> {
    logs.into_iter().filter(|log| (9..=12).contains(log)).find_map(|log| {
        let at = 12_u64 << log;
        let copy = Boot::read(device, at)?;
        (copy.sector_log == log && copy.check(device, at).is_ok()).then_some((12, copy))
    })
}

struct Boot {
    start: Vec<u8>,
    sectors: u64,
    fat_offset: u32,
    fat_length: u32,
    heap_offset: u32,
    clusters: u32,
    root: u32,
    serial: [u8; 4],
    minor: u8,
    major: u8,
    flags: u16,
    sector_log: u8,
    cluster_log: u8,
    fats: u8,
    signature: u16,
}

impl Boot {
    fn read(device: &dyn ReadAt, at: u64) -> Option<Boot> {
        let bytes = device.bytes(at, 512).ok()?;
        if bytes.get(3..11)? != NAME {
            return None;
        }
        Some(Boot {
            start: bytes.get(..64)?.to_vec(),
            sectors: le64(&bytes, 72)?,
            fat_offset: le32(&bytes, 80)?,
            fat_length: le32(&bytes, 84)?,
            heap_offset: le32(&bytes, 88)?,
            clusters: le32(&bytes, 92)?,
            root: le32(&bytes, 96)?,
            serial: bytes.get(100..104)?.try_into().ok()?,
            minor: *bytes.get(104)?,
            major: *bytes.get(105)?,
            flags: le16(&bytes, 106)?,
            sector_log: *bytes.get(108)?,
            cluster_log: *bytes.get(109)?,
            fats: *bytes.get(110)?,
            signature: le16(&bytes, 510)?,
        })
    }

    fn check(&self, device: &dyn ReadAt, at: u64) -> Result<(), String> {
        let all_fats = self.fat_length.wrapping_mul(self.fats.into());
        let checks = [
            ("signature", self.signature == 0xaa55),
            ("JumpBoot", self.start.starts_with(&[0xeb, 0x76, 0x90])),
            ("MustBeZero", self.start.iter().skip(11).all(|byte| *byte == 0)),
            ("NumberOfFats", (1..=2).contains(&self.fats)),
            ("BytesPerSectorShift", (9..=12).contains(&self.sector_log)),
            (
                "SectorsPerClusterShift",
                25_u8.checked_sub(self.sector_log).is_some_and(|most| self.cluster_log <= most),
            ),
            ("FatOffset", (24..=self.heap_offset.wrapping_sub(all_fats)).contains(&self.fat_offset)),
            (
                "ClusterHeapOffset",
                (self.fat_offset.wrapping_add(all_fats)..=1 << 31).contains(&self.heap_offset),
            ),
            ("FirstClusterOfRootDirectory", (2..=self.clusters.wrapping_add(1)).contains(&self.root)),
        ];
        if let Some((field, _)) = checks.iter().find(|(_, holds)| !holds) {
            return Err(format!("{field} is out of range"));
        }
        let sector = 1_usize << self.sector_log; // 4096 at most, checked above
        let region = device.bytes(at, 12 * sector).map_err(|error| format!("it cannot be read: {error}"))?;
        let (summed, sums) = region.split_at(11 * sector);
        let sum = boot_checksum(summed);
        match (0..sector / 4).filter_map(|index| le32(sums, 4 * index)).find(|stored| *stored != sum) {
            Some(stored) => Err(format!("checksum {stored:08x} should be {sum:08x}")),
            None => Ok(()),
        }
    }

    fn signature(&self, device: &dyn ReadAt) -> Signature {
        let mut found = Signature::new("exfat", Usage::Filesystem, 3);
        found.health = Health::Sound;
        if let Some(label) = self.label(device) {
            found.set_label_text(&label);
        }
        let [a, b, c, d] = self.serial;
        if self.serial != [0; 4] {
            found.set_uuid_text(format!("{d:02X}{c:02X}-{b:02X}{a:02X}"));
        }
        found.set_version(format!("{}.{}", self.major, self.minor));
        let sector = 1_u32.checked_shl(self.sector_log.into()).unwrap_or(0);
        found.set_fs_block_size(sector);
        found.set_block_size(sector);
        let size = self.sectors.wrapping_mul(sector.into());
        found.set_fs_size(size);
        found.set_length(size, device);
        if self.flags & DIRTY != 0 {
            found.check_is_due("it was not unmounted cleanly", ": fsck is due");
        }
        if self.flags & MEDIA_FAILURE != 0 {
            found.note("its last user found media failures");
        }
        found
    }

    fn offset(&self, cluster: u32) -> Option<u64> {
        let blocks = u64::from(cluster.checked_sub(FIRST_CLUSTER)?).checked_shl(self.cluster_log.into())?;
        let blocks = u64::from(self.heap_offset).checked_add(blocks)?;
        blocks.checked_mul(1_u64.checked_shl(self.sector_log.into())?)
    }

    fn label(&self, device: &dyn ReadAt) -> Option<String> {
        let sector = 1_u64.checked_shl(self.sector_log.into())?;
        let size = sector.checked_shl(self.cluster_log.into()).filter(|size| *size >= ENTRY)?;
        let mut cluster = self.root;
        let mut at = self.offset(cluster)?;
        for _ in 0..ENTRIES_MAX {
            let entry = device.bytes(at, ENTRY as usize).ok()?;
            match *entry.first()? {
                END_OF_DIRECTORY => return None,
                VOLUME_LABEL => {
                    let length = usize::from(*entry.get(1)?) * 2;
                    return Some(utf16(entry.get(2..2 + length.min(22))?, Utf16::Little));
                }
                _ => {}
            }
            at = at.checked_add(ENTRY)?;
            if at % size == 0 {
                let fat = u64::from(self.fat_offset).checked_mul(sector)?;
                let next = device.bytes(fat.checked_add(u64::from(cluster) * 4)?, 4).ok()?;
                cluster = le32(&next, 0)?;
                if !(FIRST_CLUSTER..=LAST_CLUSTER).contains(&cluster) {
                    return None;
                }
                at = self.offset(cluster)?;
            }
        }
        None
    }
}

/// Section 3.4: VolumeFlags and PercentInUse change while it is mounted, and are left out.
fn boot_checksum(bytes: &[u8]) -> u32 {
    let kept = bytes.iter().enumerate().filter(|(index, _)| !matches!(index, 106 | 107 | 112));
    kept.fold(0_u32, |sum, (_, byte)| sum.rotate_right(1).wrapping_add(u32::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn put(device: &mut [u8], offset: usize, bytes: &[u8]) {
        device[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    fn seal(device: &mut [u8], at: usize) {
        let sum = boot_checksum(&device[at..at + 11 * 512]);
        for index in 0..128 {
            put(device, at + 11 * 512 + 4 * index, &sum.to_le_bytes());
        }
    }

    fn sample() -> Vec<u8> {
        let mut device = vec![0; 1 << 20];
        for at in [0, 12 * 512] {
            put(&mut device, at, b"\xeb\x76\x90EXFAT   ");
            put(&mut device, at + 72, &2048_u64.to_le_bytes());
            for (offset, value) in [(80, 24_u32), (84, 8), (88, 32), (92, 1000), (96, 5)] {
                put(&mut device, at + offset, &value.to_le_bytes());
            }
            put(&mut device, at + 100, &[1, 2, 3, 4, 0, 1, 0, 0, 9, 1, 1]);
            put(&mut device, at + 510, &[0x55, 0xaa]);
            seal(&mut device, at);
        }
        let root = (32 + 3 * 2) * 512;
        put(&mut device, root, &[0x81]);
        put(&mut device, root + 32, b"\x83\x03c\0a\0r\0");
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
        assert_eq!((&found.health, &found.notes), (&Health::Sound, &Vec::new()));
        assert_eq!((found.label.as_deref(), found.uuid.as_deref()), (Some("car"), Some("0403-0201")));
        assert_eq!((found.version.as_deref(), found.extent.unwrap().length), (Some("1.0"), 1 << 20));
    }

    #[test]
    fn a_torn_boot_region_names_its_copy() {
        let mut device = sample();
        device[200] = 1;
        assert!(reason(&probe(&device, None).unwrap()).starts_with("boot region: checksum "));
        device[110] = 3;
        let found = probe(&device, None).unwrap();
        assert_eq!(
            reason(&found),
            "boot region: NumberOfFats is out of range; its copy at sector 12 is sound (fsck.exfat uses it)"
        );
        device[..512].fill(0);
        assert!(reason(&salvage(&device).unwrap()).contains("gone; its copy at sector 12"));
        device[12 * 512 + 200] = 1;
        assert!(salvage(&device).is_none());
    }

    #[test]
    fn a_dirty_volume_is_told() {
        let mut device = sample();
        device[106] = 6;
        let found = probe(&device, None).unwrap();
        assert_eq!((&found.health, found.notes.len()), (&Health::Sound, 2));
        assert_eq!(found.is_due(), Some("it was not unmounted cleanly"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_mutated_boot_region_panics(changes in proptest::collection::vec((64usize..112, any::<u8>()), 0..12)) {
            let mut device = sample();
            for (offset, byte) in changes {
                device[offset] = byte;
            }
            seal(&mut device, 0);
            let _ = probe(&device, None);
        }
    }
}
