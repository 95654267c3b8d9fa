//! VxFS of Veritas (kernel: fs/freevxfs/vxfs.h), of either byte order, each at a place of its own.

use crate::bytes::{be32, le32};
use crate::format::{Format, Magic, Signature, Usage};
use crate::read::ReadAt;

/// VXFS_SUPER_MAGIC of UnixWare, and of HP-UX.
const LITTLE: Magic = Magic { offset: 1 << 10, bytes: &[0xf5, 0xfc, 0x01, 0xa5] };
const BIG: Magic = Magic { offset: 8 << 10, bytes: &[0xa5, 0x01, 0xfc, 0xf5] };

pub const FORMAT: Format = Format {
    name: "vxfs",
    usage: Usage::Filesystem,
    magics: &[LITTLE, BIG],
    min_size: (1 << 10) + 44,
    probe,
};

fn probe(device: &dyn ReadAt, magic: Option<&Magic>) -> Option<Signature> {
    let magic = magic?;
    let sb = device.bytes(magic.offset, 44).ok()?;
    let big = magic.bytes == BIG.bytes;
    let field = |offset| if big { be32(&sb, offset) } else { le32(&sb, offset) };
    let version = field(4)?.cast_signed();
    let block_size = field(32)?;
    let blocks = field(36)?;
    let mut found = Signature::new("vxfs", Usage::Filesystem, magic.offset);
    found.set_version(version.to_string());
    found.set_fs_block_size(block_size);
    found.set_block_size(block_size);
    found.tag("ENDIANNESS", if big { "BIG" } else { "LITTLE" });
    if blocks != 0 {
        found.set_length(u64::from(blocks) * u64::from(block_size), device);
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_order_has_its_place() {
        for magic in [LITTLE, BIG] {
            let mut device = vec![0; 1 << 20];
            let at = magic.offset as usize;
            device[at..at + 4].copy_from_slice(magic.bytes);
            let fields = [(4, 7_u32), (32, 1024), (36, 1024)];
            for (offset, value) in fields {
                let bytes = if at == 1024 { value.to_le_bytes() } else { value.to_be_bytes() };
                device[at + offset..at + offset + 4].copy_from_slice(&bytes);
            }
            let found = probe(&device, Some(&magic)).unwrap();
            assert_eq!((found.version.as_deref(), found.block_size), (Some("7"), Some(1024)));
            assert_eq!(found.extent.unwrap().length, 1 << 20);
        }
    }
}
