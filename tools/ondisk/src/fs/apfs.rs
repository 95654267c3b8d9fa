//! Containers of APFS (Apple File System Reference): the superblock in block 0, with its Fletcher checksum, and those of the
//! checkpoints, of which it is a copy.

use crate::bytes::{le16, le32, le64, uuid};
use crate::format::{Format, Health, Magic, Signature, Usage, Uuid};
use crate::read::ReadAt;

const BLOCK: u32 = 4096;
const CONTAINER: u16 = 1;
const MAGIC: &[u8] = b"NXSB";
const MAGIC_AT: u64 = 32;
/// Blocks of checkpoints looked at; a large container has some hundred.
const CHECKPOINTS_MAX: u64 = 512;
/// The same where nothing says that there are any: what was read anyway.
const NEAR: u64 = 15;

pub const FORMAT: Format = Format {
    name: "apfs",
    usage: Usage::Filesystem,
    magics: &[Magic { offset: MAGIC_AT, bytes: MAGIC }],
    min_size: BLOCK as u64,
    probe,
};

fn probe(device: &dyn ReadAt, _magic: Option<&Magic>) -> Option<Signature> {
    let first = Superblock::read(device, 0)?;
    let Some(reason) = first.fault() else { return Some(first.signature(device, None)) };
    let latest = first.checkpoints(device);
    let told = match &latest {
        Some((block, _)) => format!("superblock: {reason}; that of a checkpoint in block {block} is sound"),
        None => format!("superblock: {reason}; no checkpoint has a sound one"),
    };
    let best = latest.map_or(first, |(_, latest)| latest);
    Some(best.signature(device, Some(told)))
}

/// Where block 0 is gone, the checkpoints still are where every maker of file systems has put them.
pub fn salvage(device: &dyn ReadAt) -> Option<Signature> {
    let (block, found) = latest(device, 1, NEAR)?;
    let told = format!("superblock: gone; that of a checkpoint in block {block} is sound");
    Some(found.signature(device, Some(told)))
}

/// nx_superblock_t
struct Superblock {
    sum: u64,
    should: u64,
    transaction: u64,
    blocks: u64,
    uuid: Uuid,
    checkpoint_blocks: u32,
    checkpoint_base: u64,
}

impl Superblock {
    fn read(device: &dyn ReadAt, block: u64) -> Option<Superblock> {
        let block = device.bytes(block.checked_mul(BLOCK.into())?, BLOCK as usize).ok()?;
        let sum = le64(&block, 0)?;
        let transaction = le64(&block, 16)?;
        let kind = le16(&block, 24)?;
        let subtype = le16(&block, 28)?;
        let padding = le16(&block, 30)?;
        let magic = block.get(32..36)?;
        let block_size = le32(&block, 36)?;
        let blocks = le64(&block, 40)?;
        let uuid = uuid(&block, 72)?;
        let checkpoint_blocks = le32(&block, 104)?;
        let checkpoint_base = le64(&block, 112)?;
        if kind != CONTAINER || subtype != 0 || padding != 0 || magic != MAGIC || block_size != BLOCK {
            return None;
        }
        let should = fletcher64(block.get(8..)?);
        Some(Superblock { sum, should, transaction, blocks, uuid, checkpoint_blocks, checkpoint_base })
    }

    fn fault(&self) -> Option<String> {
        let Superblock { sum, should, .. } = self;
        (sum != should).then(|| format!("checksum {sum:016x} should be {should:016x}"))
    }

    /// The latest of the checkpoints, whose place this one, torn as it is, may have right.
    fn checkpoints(&self, device: &dyn ReadAt) -> Option<(u64, Superblock)> {
        // The high bit says that they are a tree, which nobody has made.
        let count = u64::from(self.checkpoint_blocks).min(CHECKPOINTS_MAX);
        latest(device, self.checkpoint_base, count)
    }

    fn signature(&self, device: &dyn ReadAt, damage: Option<String>) -> Signature {
        let mut found = Signature::new("apfs", Usage::Filesystem, MAGIC_AT);
        found.set_uuid(self.uuid);
        found.set_fs_block_size(BLOCK);
        found.set_block_size(BLOCK);
        found.health = damage.map_or(Health::Sound, Health::Damaged);
        found.set_length(self.blocks.saturating_mul(BLOCK.into()), device);
        found
    }
}

/// The sound one of the latest transaction.
fn latest(device: &dyn ReadAt, base: u64, count: u64) -> Option<(u64, Superblock)> {
    let read = |block: u64| Some((block, Superblock::read(device, block)?));
    let all = (0..count).filter_map(|index| read(base.checked_add(index)?));
    all.filter(|(_, found)| found.fault().is_none()).max_by_key(|(_, found)| found.transaction)
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

    fn superblock(device: &mut [u8], block: usize, transaction: u8, uuid: u8) {
        let sb = &mut device[block * 4096..(block + 1) * 4096];
        sb[16] = transaction;
        sb[24] = 1;
        sb[32..36].copy_from_slice(b"NXSB");
        sb[36..40].copy_from_slice(&BLOCK.to_le_bytes());
        sb[40] = 8;
        sb[72..88].fill(uuid);
        (sb[104], sb[112]) = (4, 1);
        let sum = fletcher64(&sb[8..]);
        sb[..8].copy_from_slice(&sum.to_le_bytes());
    }

    #[test]
    fn the_latest_checkpoint_stands_in_for_a_superblock_that_is_torn_or_gone() {
        let mut device = vec![0; 32 << 10];
        for (block, transaction, uuid) in [(0, 3, 3), (2, 2, 2), (4, 3, 3)] {
            superblock(&mut device, block, transaction, uuid);
        }
        device[2000] = 1;
        let found = probe(&device, None).unwrap();
        let Health::Damaged(reason) = &found.health else { panic!() };
        assert!(reason.ends_with("that of a checkpoint in block 4 is sound"), "{reason}");
        assert!(
            found
                .uuid
                .as_ref()
                .unwrap()
                .as_bytes()
                .iter()
                .all(|byte| *byte == b'3' || *byte == b'0' || *byte == b'-')
        );
        device[..4096].fill(0);
        device[4 * 4096 + 2000] = 1;
        let Health::Damaged(reason) = salvage(&device).unwrap().health else { panic!() };
        assert_eq!(reason, "superblock: gone; that of a checkpoint in block 2 is sound");
        device[2 * 4096 + 2000] = 1;
        assert!(salvage(&device).is_none());
    }

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
        assert!(reason.starts_with("superblock: checksum "), "{reason}");
        assert!(reason.ends_with("no checkpoint has a sound one"), "{reason}");
        device[24] = 2;
        assert!(probe(&device, None).is_none());
    }
}
