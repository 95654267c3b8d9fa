//! UBIFS, as an image of a UBI volume (kernel: fs/ubifs/ubifs-media.h): its first node is the superblock's.

use crate::bytes::{le32, uuid};
use crate::checksum::crc32_le;
use crate::format::{Format, Health, Magic, Signature, Usage};
use crate::read::ReadAt;

const NODE: usize = 4096;
/// UBIFS_SB_NODE
const KIND: u8 = 6;

pub const FORMAT: Format = Format {
    name: "ubifs",
    usage: Usage::Filesystem,
    magics: &[Magic { offset: 0, bytes: &[0x31, 0x18, 0x10, 0x06] }],
    min_size: NODE as u64,
    probe,
};

fn probe(device: &dyn ReadAt, _magic: Option<&Magic>) -> Option<Signature> {
    let node = device.bytes(0, NODE).ok()?;
    let sum = le32(&node, 4)?;
    let kind = *node.get(20)?;
    let block_size = le32(&node, 36)?;
    let blocks = le32(&node, 40)?;
    let version = le32(&node, 80)?;
    let read_version = le32(&node, 124)?;
    if kind != KIND {
        return None;
    }
    let should = crc32_le(u32::MAX, node.get(8..)?);
    let mut found = Signature::new("ubifs", Usage::Filesystem, 0);
    found.health = Health::of_checksum(sum, should);
    found.set_uuid(uuid(&node, 108)?);
    found.set_version(format!("w{version}r{read_version}"));
    found.set_fs_size(u64::from(block_size) * u64::from(blocks));
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_covers_the_node() {
        let mut device = vec![0; 64 << 10];
        device[..4].copy_from_slice(&[0x31, 0x18, 0x10, 0x06]);
        assert!(probe(&device, None).is_none(), "another node");
        device[20] = KIND;
        device[36..44].copy_from_slice(&[0, 0, 2, 0, 100, 0, 0, 0]);
        device[80] = 4;
        device[108..124].fill(2);
        let sum = crc32_le(u32::MAX, &device[8..NODE]);
        device[4..8].copy_from_slice(&sum.to_le_bytes());
        let found = probe(&device, None).unwrap();
        assert_eq!((&found.health, found.version.as_deref()), (&Health::Sound, Some("w4r0")));
        assert!(found.tags.contains(&("FSSIZE".to_string(), (100 << 17).to_string())));
        device[4000] = 1;
        assert!(matches!(probe(&device, None).unwrap().health, Health::Damaged(_)));
    }
}
