//! OCFS and OCFS2 of Oracle's clusters (kernel: fs/ocfs2/ocfs2_fs.h; OCFS: ocfs-tools, ocfsdisk.h).

use crate::bytes::{le16, le32, uuid};
use crate::format::{Format, Magic, Signature, Usage};
use crate::read::ReadAt;

const MIN_SIZE: u64 = 14_000 << 10;

/// Behind the two numbers of the version, at the device's start; libblkid's table has it 8 KiB further on.
pub const FORMAT: Format = Format {
    name: "ocfs",
    usage: Usage::Filesystem,
    magics: &[Magic { offset: 8, bytes: b"OracleCFS" }],
    min_size: MIN_SIZE,
    probe,
};

/// OCFS2_SUPER_BLOCK_BLKNO is 2, of blocks of 512 bytes to 4 KiB.
pub const OCFS2: Format = Format {
    name: "ocfs2",
    usage: Usage::Filesystem,
    magics: &[
        Magic { offset: 1 << 10, bytes: b"OCFSV2" },
        Magic { offset: 2 << 10, bytes: b"OCFSV2" },
        Magic { offset: 4 << 10, bytes: b"OCFSV2" },
        Magic { offset: 8 << 10, bytes: b"OCFSV2" },
    ],
    min_size: MIN_SIZE,
    probe: probe_2,
};

fn probe(device: &dyn ReadAt, magic: Option<&Magic>) -> Option<Signature> {
    let header = device.bytes(0, 266).ok()?;
    let minor = le32(&header, 0)?;
    let major = le32(&header, 4)?;
    let mount = header.get(136..264)?;
    let mount_length = usize::from(le16(&header, 264)?);
    let label = device.bytes(512, 132).ok()?;
    let name = label.get(48..112)?;
    let name_length = usize::from(le16(&label, 112)?);
    let mut found = Signature::new("ocfs", Usage::Filesystem, magic?.offset);
    match major {
        1 => found.tag("SEC_TYPE", "ocfs1"),
        9.. => found.tag("SEC_TYPE", "ntocfs"),
        _ => {}
    }
    if name_length < name.len() {
        found.set_label(name.get(..name_length)?);
    }
    if let Some(mount) = mount.get(..mount_length).filter(|mount| !mount.is_empty() && mount.len() < 128) {
        found.tag("MOUNT", crate::bytes::utf8(mount));
    }
    found.set_uuid(uuid(&label, 114)?);
    found.set_version(format!("{major}.{minor}"));
    Some(found)
}

fn probe_2(device: &dyn ReadAt, magic: Option<&Magic>) -> Option<Signature> {
    let magic = magic?;
    let sb = device.bytes(magic.offset, 352).ok()?;
    let clusters = le32(&sb, 20)?;
    let (major, minor) = (le16(&sb, 192)?, le16(&sb, 194)?);
    let block_bits = le32(&sb, 248)?;
    let cluster_bits = le32(&sb, 252)?;
    let label = sb.get(272..336)?;
    let mut found = Signature::new("ocfs2", Usage::Filesystem, magic.offset);
    found.set_label(label);
    found.set_uuid(uuid(&sb, 336)?);
    found.set_version(format!("{major}.{minor}"));
    if let Some(block_size) = 1_u32.checked_shl(block_bits) {
        found.set_fs_block_size(block_size);
        found.set_block_size(block_size);
    }
    // The superblock is the third block.
    if 1_u64.checked_shl(block_bits).and_then(|size| size.checked_mul(2)) != Some(magic.offset) {
        found.damage(format!("its blocks of 2^{block_bits} bytes are not those that it lies in"));
    } else if let Some(cluster) = 1_u64.checked_shl(cluster_bits) {
        found.set_length(u64::from(clusters).saturating_mul(cluster), device);
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Health;

    #[test]
    fn version_2_lies_in_its_third_block() {
        let mut device = vec![0; 16 << 20];
        let at = 8192;
        device[at..at + 6].copy_from_slice(b"OCFSV2");
        device[at + 20..at + 24].copy_from_slice(&16_u32.to_le_bytes());
        device[at + 194] = 90;
        device[at + 248] = 12;
        device[at + 252] = 20;
        device[at + 272..at + 277].copy_from_slice(b"rac 1");
        device[at + 336..at + 352].fill(5);
        let found = probe_2(&device, Some(&OCFS2.magics[3])).unwrap();
        assert_eq!((found.label.as_deref(), found.version.as_deref()), (Some("rac 1"), Some("0.90")));
        assert_eq!((found.extent.unwrap().length, &found.health), (16 << 20, &Health::Unchecked));
        for bits in [11, 40, 255] {
            device[at + 248] = bits;
            assert!(matches!(probe_2(&device, Some(&OCFS2.magics[3])).unwrap().health, Health::Damaged(_)));
        }
    }

    #[test]
    fn version_1_has_its_label_in_the_second_sector() {
        let mut device = vec![0; 16 << 20];
        device[4] = 2;
        device[8..17].copy_from_slice(b"OracleCFS");
        device[136..140].copy_from_slice(b"/u02");
        device[264] = 4;
        device[512 + 48..512 + 51].copy_from_slice(b"rac");
        device[512 + 112] = 3;
        device[512 + 114..512 + 130].fill(9);
        let found = probe(&device, Some(&FORMAT.magics[0])).unwrap();
        assert_eq!((found.label.as_deref(), found.version.as_deref()), (Some("rac"), Some("2.0")));
        assert!(found.tags.contains(&("MOUNT".to_string(), "/u02".to_string())));
        device[264..266].fill(0xff);
        device[512 + 112..512 + 114].fill(0xff);
        let found = probe(&device, Some(&FORMAT.magics[0])).unwrap();
        assert_eq!((found.label, found.tags.len()), (None, 2), "lengths that are too long");
    }
}
