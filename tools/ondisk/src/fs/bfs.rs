//! SCO's BFS (kernel: include/uapi/linux/bfs_fs.h), of which libblkid says no more than that it is there.

use crate::bytes::le32;
use crate::format::{Format, Magic, Signature, Usage};
use crate::read::ReadAt;

/// BFS_BSIZE
const BLOCK: u32 = 512;

pub const FORMAT: Format = Format {
    name: "bfs",
    usage: Usage::Filesystem,
    magics: &[Magic { offset: 0, bytes: &[0xce, 0xfa, 0xad, 0x1b] }],
    min_size: BLOCK as u64,
    probe,
};

fn probe(device: &dyn ReadAt, magic: Option<&Magic>) -> Option<Signature> {
    let sb = device.bytes(0, BLOCK as usize).ok()?;
    let start = le32(&sb, 4)?;
    let end = le32(&sb, 8)?;
    // Data begins behind the superblock, and ends behind that (fs/bfs/inode.c, bfs_fill_super).
    if start < BLOCK || end < start {
        return None;
    }
    let mut found = Signature::new("bfs", Usage::Filesystem, magic?.offset);
    found.set_length(u64::from(end) + 1, device);
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_lies_behind_the_superblock() {
        let mut device = vec![0; 64 << 10];
        device[..4].copy_from_slice(FORMAT.magics[0].bytes);
        assert!(probe(&device, Some(&FORMAT.magics[0])).is_none());
        device[4..12].copy_from_slice(&[0, 16, 0, 0, 0xff, 0xff, 0, 0]);
        assert_eq!(probe(&device, Some(&FORMAT.magics[0])).unwrap().extent.unwrap().length, 64 << 10);
    }
}
