//! squashfs 4, and its older versions of either byte order (kernel: fs/squashfs/squashfs_fs.h).

use crate::bytes::{be16, le16, le32, le64};
use crate::format::{Format, Magic, Signature, Usage};
use crate::read::ReadAt;

const LITTLE: Magic = Magic { offset: 0, bytes: b"hsqs" };
const BIG: Magic = Magic { offset: 0, bytes: b"sqsh" };
const BYTES: usize = 96;

pub const FORMAT: Format =
    Format { name: "squashfs", usage: Usage::Filesystem, magics: &[LITTLE], min_size: 96, probe };

pub const OLD: Format = Format {
    name: "squashfs3",
    usage: Usage::Filesystem,
    magics: &[BIG, LITTLE],
    min_size: 96,
    probe: probe_old,
};

fn probe(device: &dyn ReadAt, _magic: Option<&Magic>) -> Option<Signature> {
    let sb = device.bytes(0, BYTES).ok()?;
    let block_size = le32(&sb, 12)?;
    let major = le16(&sb, 28)?;
    let minor = le16(&sb, 30)?;
    let bytes_used = le64(&sb, 40)?;
    if major < 4 {
        return None;
    }
    let mut found = Signature::new("squashfs", Usage::Filesystem, 0);
    found.set_version(format!("{major}.{minor}"));
    found.set_fs_block_size(block_size);
    found.set_block_size(block_size);
    found.set_fs_size(bytes_used);
    found.set_length(bytes_used, device);
    Some(found)
}

fn probe_old(device: &dyn ReadAt, magic: Option<&Magic>) -> Option<Signature> {
    let sb = device.bytes(0, BYTES).ok()?;
    let big = magic?.bytes == BIG.bytes;
    let field = |offset| if big { be16(&sb, offset) } else { le16(&sb, offset) };
    let (major, minor) = (field(28)?, field(30)?);
    if major > 3 {
        return None;
    }
    let mut found = Signature::new("squashfs3", Usage::Filesystem, 0);
    found.set_version(format!("{major}.{minor}"));
    found.set_fs_block_size(1024);
    found.set_block_size(1024);
    found.tag("ENDIANNESS", if big { "BIG" } else { "LITTLE" });
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Health;

    #[test]
    fn the_version_decides_the_name() {
        let mut device = vec![0; 8192];
        device[..4].copy_from_slice(b"hsqs");
        device[12..16].copy_from_slice(&131_072_u32.to_le_bytes());
        device[28] = 4;
        device[40..48].copy_from_slice(&5000_u64.to_le_bytes());
        let found = probe(&device, None).unwrap();
        assert_eq!((found.version.as_deref(), found.extent.unwrap().length), (Some("4.0"), 5000));
        assert!(probe_old(&device, Some(&LITTLE)).is_none());
        device[40..48].copy_from_slice(&9000_u64.to_le_bytes());
        assert!(matches!(probe(&device, None).unwrap().health, Health::Damaged(_)));
        device[28] = 3;
        assert!(probe(&device, None).is_none());
        assert_eq!(probe_old(&device, Some(&LITTLE)).unwrap().version.as_deref(), Some("3.0"));
    }
}
