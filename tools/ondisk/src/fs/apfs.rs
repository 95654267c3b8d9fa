//! Containers of APFS (Apple File System Reference): the superblock in block 0, with its Fletcher checksum.

use crate::bytes::{le16, le32, le64, uuid};
use crate::format::{Format, Health, Magic, Signature, Usage};
use crate::read::ReadAt;

const BLOCK: u32 = 4096;
const CONTAINER: u16 = 1;

pub const FORMAT: Format = Format {
    name: "apfs",
    usage: Usage::Filesystem,
    magics: &[Magic { offset: 32, bytes: b"NXSB" }],
    min_size: BLOCK as u64,
    probe,
};

fn probe(device: &dyn ReadAt, _magic: Option<&Magic>) -> Option<Signature> {
    let block = device.bytes(0, BLOCK as usize).ok()?;
    let sum = le64(&block, 0)?;
    let kind = le16(&block, 24)?;
    let subtype = le16(&block, 28)?;
    let padding = le16(&block, 30)?;
    let block_size = le32(&block, 36)?;
    let blocks = le64(&block, 40)?;
    if kind != CONTAINER || subtype != 0 || padding != 0 || block_size != BLOCK {
        return None;
    }
    let mut found = Signature::new("apfs", Usage::Filesystem, 32);
    found.set_uuid(uuid(&block, 72)?);
    found.set_fs_block_size(block_size);
    found.set_block_size(block_size);
    let should = fletcher64(block.get(8..)?);
    found.health = Health::of_checksum(sum, should);
    found.set_length(blocks.saturating_mul(block_size.into()), device);
    Some(found)
}

fn fletcher64(bytes: &[u8]) -> u64 {
    let modulus = u64::from(u32::MAX);
    let (mut low, mut high) = (0_u64, 0_u64);
    for word in bytes.chunks_exact(4) {
        low += u64::from(le32(word, 0).unwrap_or_default());
        high += low;
    }
    let first = !((low + high) % modulus) as u32;
    let second = !((low + u64::from(first)) % modulus) as u32;
    u64::from(second) << 32 | u64::from(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_verified() {
        let mut device = vec![0; 8192];
        device[24] = 1;
        device[32..36].copy_from_slice(b"NXSB");
        device[36..40].copy_from_slice(&BLOCK.to_le_bytes());
        device[40] = 2;
        device[72..88].fill(8);
        let sum = fletcher64(&device[8..4096]);
        device[..8].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(probe(&device, None).unwrap().health, Health::Sound);
        device[80] = 0;
        let Health::Damaged(reason) = probe(&device, None).unwrap().health else { panic!() };
        assert!(reason.starts_with("checksum "), "{reason}");
        device[24] = 2;
        assert!(probe(&device, None).is_none());
    }
}
