//! EXFS, a relative of XFS with its superblock's first fields (util-linux: libblkid/src/superblocks/exfs.c).

use crate::bytes::{be16, be32, be64, uuid};
use crate::format::{Format, Magic, Signature, Usage};
use crate::read::ReadAt;

const BYTES: usize = 160;
/// EXFS_MIN_AG_BLOCKS
const MIN_GROUP: u64 = 64;

pub const FORMAT: Format = Format {
    name: "exfs",
    usage: Usage::Filesystem,
    magics: &[Magic { offset: 0, bytes: b"EXFS" }],
    min_size: 512,
    probe,
};

fn probe(device: &dyn ReadAt, _magic: Option<&Magic>) -> Option<Signature> {
    let sb = device.bytes(0, BYTES).ok()?;
    let block_size = be32(&sb, 4)?;
    let blocks = be64(&sb, 8)?;
    let realtime_extent = be32(&sb, 80)?;
    let group_blocks = be32(&sb, 84)?;
    let groups = be32(&sb, 88)?;
    let sector_size = be16(&sb, 102)?;
    let inode_size = be16(&sb, 104)?;
    let name = sb.get(108..120)?;
    let [block_log, sector_log, inode_log, inodes_log] =
        [*sb.get(120)?, *sb.get(121)?, *sb.get(122)?, *sb.get(123)?];
    let inode_percent = *sb.get(127)?;
    let is = |size: u32, log: u8, logs: std::ops::RangeInclusive<u8>| logs.contains(&log) && size == 1 << log;
    let realtime = u64::from(realtime_extent) * u64::from(block_size);
    let fits = |blocks: u64| {
        let most = u64::from(groups) * u64::from(group_blocks);
        let least = u64::from(groups.checked_sub(1)?) * u64::from(group_blocks) + MIN_GROUP;
        (least..=most).contains(&blocks).then_some(())
    };
    let plausible = is(sector_size.into(), sector_log, 9..=15)
        && is(block_size, block_log, 9..=16)
        && is(inode_size.into(), inode_log, 8..=11)
        && block_log.checked_sub(inode_log) == Some(inodes_log)
        && (4 << 10..=1 << 30).contains(&realtime)
        && inode_percent <= 100
        && blocks != 0;
    if !plausible {
        return None;
    }
    fits(blocks)?;
    let mut found = Signature::new("exfs", Usage::Filesystem, 0);
    found.set_label(name);
    found.set_uuid(uuid(&sb, 32)?);
    found.set_fs_block_size(block_size);
    found.set_block_size(block_size);
    found.set_length(blocks.saturating_mul(block_size.into()), device);
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut device = vec![0; 1 << 20];
        let mut put =
            |offset: usize, bytes: &[u8]| device[offset..offset + bytes.len()].copy_from_slice(bytes);
        put(0, b"EXFS\0\0\x10\0\0\0\0\0\0\0\x01\0");
        put(32, &[4; 16]);
        put(80, &[0, 0, 0, 1, 0, 0, 0, 64, 0, 0, 0, 4]);
        put(102, &[2, 0, 1, 0, 0, 16]);
        put(108, b"scratch");
        put(120, &[12, 9, 8, 4]);
        device
    }

    #[test]
    fn its_fields_have_to_agree() {
        let found = probe(&sample(), None).unwrap();
        assert_eq!((found.label.as_deref(), found.block_size), (Some("scratch"), Some(4096)));
        assert_eq!(found.extent.unwrap().length, 1 << 20);
        for (offset, byte) in [(4, 1), (15, 1), (14, 9), (83, 0), (91, 0), (102, 3), (123, 5), (127, 101)] {
            let mut device = sample();
            device[offset] = byte;
            assert!(probe(&device, None).is_none(), "{offset}");
        }
    }
}
