//! EROFS (kernel: fs/erofs/erofs_fs.h): one superblock at 1 KiB, with a checksum over the rest of its block.

use crate::bytes::{le32, uuid};
use crate::checksum::crc32c_without;
use crate::format::{Format, Health, Magic, Signature, Usage};
use crate::read::ReadAt;

const OFFSET: u64 = 1024;
/// EROFS_FEATURE_COMPAT_SB_CHKSUM
const CHECKSUM: u32 = 1;

pub const FORMAT: Format = Format {
    name: "erofs",
    usage: Usage::Filesystem,
    magics: &[Magic { offset: OFFSET, bytes: &[0xe2, 0xe1, 0xf5, 0xe0] }],
    min_size: OFFSET + 128,
    probe,
};

fn probe(device: &dyn ReadAt, _magic: Option<&Magic>) -> Option<Signature> {
    let sb = device.bytes(OFFSET, 128).ok()?;
    let checksum = le32(&sb, 4)?;
    let compat = le32(&sb, 8)?;
    let bits = *sb.get(12)?;
    let blocks = le32(&sb, 36)?;
    let uuid = uuid(&sb, 48)?;
    let label = sb.get(64..80)?;
    if !(9..=16).contains(&bits) {
        return None;
    }
    let block_size = 1_u32 << bits;
    let mut found = Signature::new("erofs", Usage::Filesystem, OFFSET);
    found.set_label(label);
    found.set_uuid(uuid);
    found.set_fs_block_size(block_size);
    found.set_block_size(block_size);
    found.set_fs_size(u64::from(block_size) * u64::from(blocks));
    if compat & CHECKSUM != 0 {
        let rest = device.bytes(OFFSET, (block_size as usize).checked_sub(OFFSET as usize)?).ok()?;
        let sum = !crc32c_without(&rest, 4..8);
        found.health = match sum == checksum {
            true => Health::Sound,
            false => Health::Damaged(format!("superblock checksum {checksum:08x} should be {sum:08x}")),
        };
    }
    found.set_length(u64::from(block_size) * u64::from(blocks), device);
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_verified_where_there_is_one() {
        let mut device = vec![0; 8192];
        device[1024..1028].copy_from_slice(&[0xe2, 0xe1, 0xf5, 0xe0]);
        device[1024 + 12] = 12;
        device[1024 + 36] = 2;
        device[1024 + 64..1024 + 67].copy_from_slice(b"img");
        assert_eq!(probe(&device, None).unwrap().health, Health::Unchecked);
        device[1024 + 8] = 1;
        let sum = !crc32c_without(&device[1024..4096], 4..8);
        device[1028..1032].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(probe(&device, None).unwrap().health, Health::Sound);
        device[4000] = 1;
        let Health::Damaged(reason) = probe(&device, None).unwrap().health else { panic!() };
        assert!(reason.starts_with("superblock checksum "), "{reason}");
        device[1024 + 12] = 8;
        assert!(probe(&device, None).is_none());
    }
}
