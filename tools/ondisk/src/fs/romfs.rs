//! romfs (kernel: include/uapi/linux/romfs_fs.h; Documentation/filesystems/romfs.rst).

use crate::bytes::be32;
use crate::format::{Format, Health, Magic, Signature, Usage};
use crate::read::ReadAt;

/// ROMBSIZE
const BLOCK: u32 = 1024;
/// The first so many bytes add up to zero, word by word.
const SUMMED: u32 = 512;

pub const FORMAT: Format = Format {
    name: "romfs",
    usage: Usage::Filesystem,
    magics: &[Magic { offset: 0, bytes: b"-rom1fs-" }],
    min_size: 32,
    probe,
};

fn probe(device: &dyn ReadAt, _magic: Option<&Magic>) -> Option<Signature> {
    let sb = device.bytes(0, 32).ok()?;
    let size = be32(&sb, 8)?;
    let name = sb.get(16..32)?;
    let mut found = Signature::new("romfs", Usage::Filesystem, 0);
    found.set_label(name);
    found.set_fs_block_size(BLOCK);
    found.set_fs_size(size.into());
    found.set_block_size(BLOCK);
    found.health = match device.bytes(0, size.min(SUMMED) as usize).ok().and_then(|bytes| sum(&bytes)) {
        Some(0) => Health::Sound,
        Some(sum) => Health::Damaged(format!("its first sector adds up to {sum:08x}, and not to zero")),
        None => Health::Damaged(format!("its {size} bytes cannot be read")),
    };
    found.set_length(size.into(), device);
    Some(found)
}

/// `None` for half a word.
fn sum(bytes: &[u8]) -> Option<u32> {
    bytes.chunks(4).try_fold(0_u32, |sum, word| Some(sum.wrapping_add(be32(word, 0)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_sector_adds_up_to_zero() {
        let mut device = vec![0; 4096];
        device[..8].copy_from_slice(b"-rom1fs-");
        device[8..12].copy_from_slice(&2048_u32.to_be_bytes());
        device[16..20].copy_from_slice(b"boot");
        let rest = sum(&device[..512]).unwrap().wrapping_neg();
        device[12..16].copy_from_slice(&rest.to_be_bytes());
        let found = probe(&device, None).unwrap();
        assert_eq!((&found.health, found.label.as_deref()), (&Health::Sound, Some("boot")));
        assert_eq!(found.extent.unwrap().length, 2048);
        device[500] = 1;
        assert!(matches!(probe(&device, None).unwrap().health, Health::Damaged(_)));
        device[8..12].copy_from_slice(&30_u32.to_be_bytes());
        assert!(matches!(probe(&device, None).unwrap().health, Health::Damaged(_)), "half a word");
    }
}
