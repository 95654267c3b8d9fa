//! F2FS (kernel: include/linux/f2fs_fs.h): two superblocks in the first two blocks, and two checkpoint packs, of which
//! the newer sound one tells whether the volume was unmounted.

use crate::bytes::{Utf16, le16, le32, le64, utf16, uuid};
use crate::checksum::crc32_le;
use crate::format::{Format, Health, Magic, Signature, Usage, Uuid};
use crate::read::ReadAt;

const MAGIC: u32 = 0xf2f5_2010;
const COPIES: [u64; 2] = [1024, 4096 + 1024];
const BLOCK: usize = 4096;
/// CP_UMOUNT_FLAG, CP_ORPHAN_PRESENT_FLAG, CP_ERROR_FLAG, CP_FSCK_FLAG
const UNMOUNTED: u32 = 0x1;
const ORPHANS: u32 = 0x2;
const ERROR: u32 = 0x8;
const NEEDS_FSCK: u32 = 0x10;

pub const FORMAT: Format = Format {
    name: "f2fs",
    usage: Usage::Filesystem,
    magics: &[Magic { offset: COPIES[0], bytes: &MAGIC.to_le_bytes() }],
    min_size: 2 * BLOCK as u64,
    probe,
};

fn probe(device: &dyn ReadAt, _magic: Option<&Magic>) -> Option<Signature> {
    let first = Superblock::read(device, COPIES[0])?;
    let Some(reason) = first.fault.clone() else { return Some(first.signature(device)) };
    let second = Superblock::read(device, COPIES[1]).filter(|copy| copy.fault.is_none());
    let mut found = second.as_ref().unwrap_or(&first).signature(device);
    found.health = Health::Damaged(match &second {
        Some(_) => {
            format!("first superblock: {reason}; the second at {} is sound (fsck.f2fs uses it)", COPIES[1])
        }
        None => format!("first superblock: {reason}; the second is not sound either"),
    });
    Some(found)
}

pub fn salvage(device: &dyn ReadAt) -> Option<Signature> {
    let second = Superblock::read(device, COPIES[1]).filter(|copy| copy.fault.is_none())?;
    let mut found = second.signature(device);
    let text = format!("first superblock: gone; the second at {} is sound (fsck.f2fs uses it)", COPIES[1]);
    found.health = Health::Damaged(text);
    Some(found)
}

struct Superblock {
    version: (u16, u16),
    block_log: u32,
    blocks_per_segment_log: u32,
    blocks: u64,
    checkpoint: u32,
    uuid: Uuid,
    label: String,
    has_checksum: bool,
    fault: Option<String>,
}

impl Superblock {
    fn read(device: &dyn ReadAt, at: u64) -> Option<Superblock> {
        // The superblock and its checksum end with the block.
        let sb = device.bytes(at, BLOCK - 1024).ok()?;
        if le32(&sb, 0)? != MAGIC {
            return None;
        }
        let sum_at = le32(&sb, 32)? as usize;
        Some(Superblock {
            version: (le16(&sb, 4)?, le16(&sb, 6)?),
            block_log: le32(&sb, 16)?,
            blocks_per_segment_log: le32(&sb, 20)?,
            blocks: le64(&sb, 36)?,
            checkpoint: le32(&sb, 76)?,
            uuid: uuid(&sb, 108)?,
            label: utf16(sb.get(124..124 + 1024)?, Utf16::Little),
            has_checksum: sum_at != 0,
            fault: match sum_at {
                0 => None,
                at => match (at % 4 == 0).then(|| Some((sb.get(..at)?, le32(&sb, at)?))).flatten() {
                    None => Some(format!("checksum offset {at} is none")),
                    Some((summed, sum)) => {
                        let should = crc32_le(MAGIC, summed);
                        (sum != should).then(|| format!("checksum {sum:08x} should be {should:08x}"))
                    }
                },
            },
        })
    }

    fn signature(&self, device: &dyn ReadAt) -> Signature {
        let mut found = Signature::new("f2fs", Usage::Filesystem, COPIES[0]);
        if self.version == (1, 0) {
            // Its layout is not known.
            return found;
        }
        if self.has_checksum {
            found.health = Health::Sound;
        }
        found.set_label_text(&self.label);
        found.set_uuid(self.uuid);
        found.set_version(format!("{}.{}", self.version.0, self.version.1));
        if self.block_log < 32 {
            let block = 1_u32 << self.block_log;
            found.set_fs_block_size(block);
            found.set_block_size(block);
            let size = self.blocks.wrapping_mul(block.into());
            found.set_fs_size(size);
            found.set_length(size, device);
        }
        match self.checkpoint_flags(device) {
            Some(flags) => {
                found.dirty = flags & UNMOUNTED == 0;
                found.orphans = flags & ORPHANS != 0;
                if flags & (ERROR | NEEDS_FSCK) != 0 {
                    found.check_is_due("the kernel found errors in it", ": fsck is due");
                }
            }
            None => found.damage("no sound checkpoint"),
        }
        found
    }

    /// Of the newer checkpoint of the two whose checksum holds.
    fn checkpoint_flags(&self, device: &dyn ReadAt) -> Option<u32> {
        let pack = 1_u64.checked_shl(self.blocks_per_segment_log)?;
        let starts = [u64::from(self.checkpoint), u64::from(self.checkpoint).checked_add(pack)?];
        let read = |block: u64| {
            let cp = device.bytes(block.checked_mul(BLOCK as u64)?, BLOCK).ok()?;
            let at = le32(&cp, 164)? as usize;
            let sound = crc32_le(MAGIC, cp.get(..at)?) == le32(&cp, at)?;
            Some((le64(&cp, 0)?, le32(&cp, 132)?)).filter(|_| sound)
        };
        starts.into_iter().filter_map(read).max().map(|(_, flags)| flags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn put(device: &mut [u8], offset: usize, bytes: &[u8]) {
        device[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    fn seal(device: &mut [u8]) {
        for at in [1024, 5120] {
            let sum = crc32_le(MAGIC, &device[at..at + 3068]);
            put(device, at + 3068, &sum.to_le_bytes());
        }
        for at in [512 * BLOCK, 1024 * BLOCK] {
            let sum = crc32_le(MAGIC, &device[at..at + 4092]);
            put(device, at + 4092, &sum.to_le_bytes());
        }
    }

    fn sample() -> Vec<u8> {
        let mut device = vec![0; 8 << 20];
        for at in [1024, 5120] {
            put(&mut device, at, &MAGIC.to_le_bytes());
            put(&mut device, at + 4, &[1, 0, 16, 0]);
            put(&mut device, at + 16, &[12, 0, 0, 0, 9]);
            put(&mut device, at + 32, &3068_u32.to_le_bytes());
            put(&mut device, at + 36, &2048_u64.to_le_bytes());
            put(&mut device, at + 76, &512_u32.to_le_bytes());
            put(&mut device, at + 108, &[0x44; 16]);
            put(&mut device, at + 124, b"f\x002\0");
        }
        for (at, version, flags) in [(512 * BLOCK, 7_u64, 0), (1024 * BLOCK, 8, UNMOUNTED)] {
            put(&mut device, at, &version.to_le_bytes());
            put(&mut device, at + 132, &flags.to_le_bytes());
            put(&mut device, at + 164, &4092_u32.to_le_bytes());
        }
        seal(&mut device);
        device
    }

    #[test]
    fn the_newer_sound_checkpoint_tells_whether_it_was_unmounted() {
        let mut device = sample();
        let found = probe(&device, None).unwrap();
        assert_eq!((&found.health, found.dirty), (&Health::Sound, false));
        assert_eq!((found.label.as_deref(), found.version.as_deref()), (Some("f2"), Some("1.16")));
        device[1024 * BLOCK + 4000] = 1;
        assert!(probe(&device, None).unwrap().dirty);
        device[512 * BLOCK + 4000] = 1;
        assert_eq!(probe(&device, None).unwrap().health, Health::Damaged("no sound checkpoint".to_string()));
    }

    #[test]
    fn orphans_are_those_of_the_newer_checkpoint() {
        for (older, newer, want) in [(ORPHANS, UNMOUNTED, false), (UNMOUNTED, ORPHANS, true)] {
            let mut device = sample();
            put(&mut device, 512 * BLOCK + 132, &u32::to_le_bytes(older));
            put(&mut device, 1024 * BLOCK + 132, &u32::to_le_bytes(newer));
            seal(&mut device);
            assert_eq!(probe(&device, None).unwrap().orphans, want, "{older} {newer}");
        }
    }

    #[test]
    fn a_torn_superblock_names_the_other() {
        let mut device = sample();
        device[1024 + 2000] = 1;
        let Health::Damaged(reason) = probe(&device, None).unwrap().health else { panic!() };
        assert!(reason.ends_with("the second at 5120 is sound (fsck.f2fs uses it)"), "{reason}");
        device[1024..4096].fill(0);
        assert!(salvage(&device).is_some());
        device[5120 + 2000] = 1;
        assert!(salvage(&device).is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn no_mutated_superblock_panics(changes in proptest::collection::vec((1024usize..1300, any::<u8>()), 0..40)) {
            let mut device = sample();
            for (offset, byte) in changes {
                device[offset] = byte;
            }
            seal(&mut device);
            let _ = probe(&device, None);
        }
    }
}
