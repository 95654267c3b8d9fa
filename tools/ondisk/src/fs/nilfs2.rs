//! NILFS2 (kernel: include/uapi/linux/nilfs2_ondisk.h): a superblock at 1 KiB, another in the device's last 4 KiB.

use crate::bytes::{le16, le32, le64, uuid};
use crate::checksum::crc32_le;
use crate::format::{Format, Health, Magic, Signature, Usage};
use crate::read::ReadAt;

const MAGIC: u16 = 0x3434;
const OFFSET: u64 = 1024;
const BYTES: usize = 1024;
const SUM: usize = 16;
const VALID: u16 = 1;
const ERROR: u16 = 2;

pub const FORMAT: Format =
    Format { name: "nilfs2", usage: Usage::Filesystem, magics: &[], min_size: 1 << 20, probe };

fn probe(device: &dyn ReadAt, _magic: Option<&Magic>) -> Option<Signature> {
    if let Some(sb) = sound(device, OFFSET) {
        return signature(device, &sb, OFFSET);
    }
    let at = (device.size() / 512).checked_sub(8)? * 512;
    // On a disk whose last partition this is, it is the partition's.
    let sb = sound(device, at).filter(|sb| le64(sb, 32) == Some(device.size()))?;
    let mut found = signature(device, &sb, at)?;
    found.damage(format!("first superblock: torn or gone; the second at {at} is sound"));
    Some(found)
}

fn sound(device: &dyn ReadAt, at: u64) -> Option<Vec<u8>> {
    let sb = device.bytes(at, BYTES).ok()?;
    let length = usize::from(le16(&sb, 8)?);
    let seed = le32(&sb, 12)?;
    let sum = le32(&sb, SUM)?;
    let rest = sb.get(SUM + 4..length)?;
    let should = crc32_le(crc32_le(crc32_le(seed, &sb[..SUM]), &[0; 4]), rest);
    (le16(&sb, 6)? == MAGIC && sum == should).then_some(sb)
}

fn signature(device: &dyn ReadAt, sb: &[u8], at: u64) -> Option<Signature> {
    let revision = le32(sb, 0)?;
    let block_log = le32(sb, 20)?;
    let size = le64(sb, 32)?;
    let state = le16(sb, 116)?;
    let mut found = Signature::new("nilfs2", Usage::Filesystem, at + 6);
    found.health = Health::Sound;
    found.set_label(sb.get(168..248)?);
    found.set_uuid(uuid(sb, 152)?);
    found.set_version(revision.to_string());
    if let Some(size) = 1024_u32.checked_shl(block_log).filter(|_| block_log < 32) {
        found.set_fs_block_size(size);
        found.set_block_size(size);
    }
    found.set_length(size, device);
    found.dirty = state & VALID == 0;
    if state & ERROR != 0 {
        found.note("the kernel found errors in it");
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut device = vec![0; 1 << 20];
        let end = (1 << 20) - 4096;
        for at in [OFFSET as usize, end] {
            device[at] = 2;
            device[at + 6..at + 8].copy_from_slice(&MAGIC.to_le_bytes());
            device[at + 8..at + 10].copy_from_slice(&280_u16.to_le_bytes());
            device[at + 20] = 2;
            device[at + 32..at + 40].copy_from_slice(&(1_u64 << 20).to_le_bytes());
            device[at + 116] = 1;
            device[at + 152..at + 168].fill(4);
            device[at + 168..at + 172].copy_from_slice(b"snap");
            let sum = crc32_le(crc32_le(0, &device[at..at + 16]), &[0; 4]);
            let sum = crc32_le(sum, &device[at + 20..at + 280]);
            device[at + 16..at + 20].copy_from_slice(&sum.to_le_bytes());
        }
        device
    }

    #[test]
    fn the_second_superblock_is_used_where_the_first_is_torn() {
        let mut device = sample();
        let found = probe(&device, None).unwrap();
        assert_eq!((&found.health, found.dirty, found.block_size), (&Health::Sound, false, Some(4096)));
        device[1024 + 170] = 0;
        let Health::Damaged(reason) = probe(&device, None).unwrap().health else { panic!() };
        assert_eq!(reason, "first superblock: torn or gone; the second at 1044480 is sound");
        let end = device.len() - 4096;
        device[end + 170] = 0;
        assert!(probe(&device, None).is_none());
        device[end + 8] = 3;
        assert!(probe(&device, None).is_none());
    }
}
