//! cramfs (kernel: include/uapi/linux/cramfs_fs.h), of either byte order.

use crate::bytes::{be32, le32};
use crate::checksum::crc32_le;
use crate::format::{Format, Health, Magic, Signature, Usage};
use crate::read::ReadAt;

const LITTLE: Magic = Magic { offset: 0, bytes: &[0x45, 0x3d, 0xcd, 0x28] };
const BIG: Magic = Magic { offset: 0, bytes: &[0x28, 0xcd, 0x3d, 0x45] };
const SIGNATURE: &[u8] = b"Compressed ROMFS";
const BYTES: usize = 64;
/// CRAMFS_FLAG_FSID_VERSION_2: with a checksum over all of it.
const VERSION_2: u32 = 1;
/// Most that is read for the checksum.
const SUMMED_MAX: u32 = 64 << 10;

pub const FORMAT: Format = Format {
    name: "cramfs",
    usage: Usage::Filesystem,
    magics: &[LITTLE, BIG],
    min_size: BYTES as u64,
    probe,
};

fn probe(device: &dyn ReadAt, magic: Option<&Magic>) -> Option<Signature> {
    let sb = device.bytes(0, BYTES).ok()?;
    let big = magic?.bytes == BIG.bytes;
    let field = |offset| if big { be32(&sb, offset) } else { le32(&sb, offset) };
    let size = field(4)?;
    let flags = field(8)?;
    let signature = sb.get(16..32)?;
    let checksum = field(32)?;
    let name = sb.get(48..64)?;
    if signature != SIGNATURE {
        return None;
    }
    let mut found = Signature::new("cramfs", Usage::Filesystem, 0);
    found.set_label(name);
    found.set_fs_size(size.into());
    found.set_version(if flags & VERSION_2 == 0 { "1" } else { "2" });
    found.tag("ENDIANNESS", if big { "BIG" } else { "LITTLE" });
    if flags & VERSION_2 != 0 && (BYTES as u32..=SUMMED_MAX).contains(&size) {
        found.health = match device.bytes(0, size as usize).ok().map(|bytes| sum(&bytes)) {
            Some(should) => Health::of_checksum(checksum, should),
            None => Health::Damaged(format!("its {size} bytes cannot be read")),
        };
    }
    found.set_length(size.into(), device);
    Some(found)
}

/// With the field that holds it taken as zeros.
fn sum(bytes: &[u8]) -> u32 {
    let (before, after) = bytes.split_at(36);
    !crc32_le(crc32_le(crc32_le(u32::MAX, &before[..32]), &[0; 4]), after)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut device = vec![0; 8192];
        device[..4].copy_from_slice(LITTLE.bytes);
        device[4..8].copy_from_slice(&4096_u32.to_le_bytes());
        device[8] = 3;
        device[16..32].copy_from_slice(SIGNATURE);
        device[48..52].copy_from_slice(b"Disk");
        let checksum = sum(&device[..4096]);
        device[32..36].copy_from_slice(&checksum.to_le_bytes());
        device
    }

    #[test]
    fn the_checksum_covers_all_of_it() {
        let mut device = sample();
        let found = probe(&device, Some(&LITTLE)).unwrap();
        assert_eq!((&found.health, found.label.as_deref()), (&Health::Sound, Some("Disk")));
        device[4000] = 1;
        let Health::Damaged(reason) = probe(&device, Some(&LITTLE)).unwrap().health else { panic!() };
        assert!(reason.starts_with("checksum "), "{reason}");
        device[8] = 0;
        let found = probe(&device, Some(&LITTLE)).unwrap();
        assert_eq!((&found.health, found.version.as_deref()), (&Health::Unchecked, Some("1")));
    }

    #[test]
    fn the_signature_is_asked_for_and_the_byte_order_is_the_magics() {
        let mut device = sample();
        device[4..8].copy_from_slice(&100_000_u32.to_be_bytes());
        device[8..12].copy_from_slice(&[0, 0, 0, 1]);
        let found = probe(&device, Some(&BIG)).unwrap();
        assert_eq!(found.extent.unwrap().length, 100_000);
        assert!(matches!(found.health, Health::Damaged(_)), "longer than its device");
        device[16] = b'x';
        assert!(probe(&device, Some(&BIG)).is_none());
    }
}
