//! zonefs (kernel: fs/zonefs/zonefs.h), which shows each zone of a zoned device as a file.

use crate::bytes::{le32, uuid};
use crate::checksum::crc32_le;
use crate::format::{Format, Health, Magic, Signature, Usage};
use crate::read::ReadAt;

const BLOCK: usize = 4096;

pub const FORMAT: Format = Format {
    name: "zonefs",
    usage: Usage::Filesystem,
    magics: &[Magic { offset: 0, bytes: b"SFOZ" }],
    min_size: BLOCK as u64,
    probe,
};

fn probe(device: &dyn ReadAt, _magic: Option<&Magic>) -> Option<Signature> {
    let sb = device.bytes(0, BLOCK).ok()?;
    let sum = le32(&sb, 4)?;
    let should = crc32_le(crc32_le(crc32_le(u32::MAX, &sb[..4]), &[0; 4]), &sb[8..]);
    let mut found = Signature::new("zonefs", Usage::Filesystem, 0);
    found.health = Health::of_checksum(sum, should);
    found.set_label(sb.get(8..40)?);
    found.set_uuid(uuid(&sb, 40)?);
    found.set_fs_block_size(BLOCK as u32);
    found.set_block_size(BLOCK as u32);
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_verified() {
        let mut device = vec![0; 8192];
        device[..4].copy_from_slice(b"SFOZ");
        device[8..12].copy_from_slice(b"zone");
        let sum = crc32_le(u32::MAX, &device[..4096]);
        device[4..8].copy_from_slice(&sum.to_le_bytes());
        let found = probe(&device, None).unwrap();
        assert_eq!((&found.health, found.label.as_deref()), (&Health::Sound, Some("zone")));
        device[9] = b'x';
        assert!(matches!(probe(&device, None).unwrap().health, Health::Damaged(_)));
    }
}
