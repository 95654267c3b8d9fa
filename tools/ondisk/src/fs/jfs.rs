//! JFS (kernel: fs/jfs/jfs_superblock.h): a superblock at 32 KiB and its copy behind it.

use crate::bytes::{le16, le32, le64, uuid};
use crate::format::{Format, Health, Magic, Signature, Usage};
use crate::read::ReadAt;

const OFFSET: u64 = 0x8000;
/// SUPER2_OFF of the smallest inode table.
const COPY: u64 = 0xf000;
const MAGIC: &[u8] = b"JFS1";

pub const FORMAT: Format = Format {
    name: "jfs",
    usage: Usage::Filesystem,
    magics: &[Magic { offset: OFFSET, bytes: MAGIC }],
    min_size: 16 << 20,
    probe: |device, _| superblock(device, OFFSET),
};

pub fn salvage(device: &dyn ReadAt) -> Option<Signature> {
    let mut found = superblock(device, COPY)?;
    found.health =
        Health::Damaged(format!("superblock: gone; its copy at {COPY} is sound (fsck.jfs uses it)"));
    Some(found)
}

fn superblock(device: &dyn ReadAt, at: u64) -> Option<Signature> {
    let sb = device.bytes(at, 184).ok()?;
    let hardware_blocks = le64(&sb, 8)?;
    let block = le32(&sb, 16)?;
    let block_log = le16(&sb, 20)?;
    let factor_log = le16(&sb, 22)?;
    let hardware = le32(&sb, 24)?;
    let hardware_log = le16(&sb, 28)?;
    let state = le32(&sb, 40)?;
    let is = |size: u32, log: u16| 1_u32.checked_shl(log.into()) == Some(size);
    if sb.get(..4)? != MAGIC
        || !is(block, block_log)
        || !is(hardware, hardware_log)
        || block_log.checked_sub(hardware_log) != Some(factor_log)
    {
        return None;
    }
    let mut found = Signature::new("jfs", Usage::Filesystem, OFFSET);
    found.set_label(sb.get(152..168)?);
    found.set_uuid(uuid(&sb, 136)?);
    found.set_fs_block_size(block);
    found.set_block_size(block);
    found.set_length(hardware_blocks.saturating_mul(hardware.into()), device);
    // FM_CLEAN is 0; mounted, dirty and a log that failed are what is not.
    found.dirty = state != 0;
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut device = vec![0; 16 << 20];
        for at in [OFFSET as usize, COPY as usize] {
            device[at..at + 4].copy_from_slice(MAGIC);
            device[at + 8..at + 16].copy_from_slice(&32000_u64.to_le_bytes());
            device[at + 16..at + 20].copy_from_slice(&4096_u32.to_le_bytes());
            device[at + 20] = 12;
            device[at + 22] = 3;
            device[at + 24..at + 28].copy_from_slice(&512_u32.to_le_bytes());
            device[at + 28] = 9;
            device[at + 136..at + 152].fill(3);
            device[at + 152..at + 155].copy_from_slice(b"old");
        }
        device
    }

    #[test]
    fn sizes_that_disagree_are_none_and_the_state_tells_the_log() {
        let mut device = sample();
        let found = superblock(&device, OFFSET).unwrap();
        assert_eq!((found.label.as_deref(), found.dirty), (Some("old"), false));
        device[OFFSET as usize + 40] = 2;
        assert!(superblock(&device, OFFSET).unwrap().dirty);
        device[OFFSET as usize + 20] = 13;
        assert!(superblock(&device, OFFSET).is_none());
        assert!(matches!(salvage(&device).unwrap().health, Health::Damaged(_)));
    }
}
