//! System V and Xenix (kernel, until 6.14: include/linux/sysv_fs.h, fs/sysv/super.c), of either byte order. Their block
//! size is a number that has to be one of three, so four bytes alone are neither.

use crate::bytes::{be32, le32};
use crate::format::{Format, Magic, Signature, Usage};
use crate::read::ReadAt;

/// The second half of one of these blocks of 1 KiB.
const PLACES: [u64; 4] = [512, 9 * 1024 + 512, 15 * 1024 + 512, 18 * 1024 + 512];
const SYSV_MAGIC: u32 = 0xfd18_7e20;
const BYTES: usize = 512;
/// s_type: blocks of 512, 1024 or 2048 bytes.
const TYPES: std::ops::RangeInclusive<u32> = 1..=3;

pub const FORMAT: Format =
    Format { name: "sysv", usage: Usage::Filesystem, magics: &[], min_size: PLACES[3] + BYTES as u64, probe };

const XENIX_OFFSET: u64 = 1024;
/// s_magic, 1016 bytes into it, where the kernel looks; libblkid's table has it eight bytes further on.
const XENIX_LITTLE: Magic = Magic { offset: XENIX_OFFSET + 1016, bytes: &[0x44, 0x55, 0x2b, 0] };
const XENIX_BIG: Magic = Magic { offset: XENIX_OFFSET + 1016, bytes: &[0, 0x2b, 0x55, 0x44] };

pub const XENIX: Format = Format {
    name: "xenix",
    usage: Usage::Filesystem,
    magics: &[XENIX_LITTLE, XENIX_BIG],
    min_size: 4096,
    probe: probe_xenix,
};

fn probe(device: &dyn ReadAt, _magic: Option<&Magic>) -> Option<Signature> {
    PLACES.into_iter().find_map(|at| {
        let sb = device.bytes(at, BYTES).ok()?;
        let name = sb.get(440..446)?;
        let is = |field: fn(&[u8], usize) -> Option<u32>| {
            Some(field(&sb, 504)? == SYSV_MAGIC && TYPES.contains(&field(&sb, 508)?))
        };
        if !is(le32)? && !is(be32)? {
            return None;
        }
        let mut found = Signature::new("sysv", Usage::Filesystem, at + 504);
        found.set_label(name);
        Some(found)
    })
}

fn probe_xenix(device: &dyn ReadAt, magic: Option<&Magic>) -> Option<Signature> {
    let sb = device.bytes(XENIX_OFFSET, 1024).ok()?;
    let name = sb.get(632..638)?;
    let big = magic?.bytes == XENIX_BIG.bytes;
    let kind = if big { be32(&sb, 1020)? } else { le32(&sb, 1020)? };
    if !TYPES.contains(&kind) {
        return None;
    }
    let mut found = Signature::new("xenix", Usage::Filesystem, magic?.offset);
    found.set_label(name);
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_and_byte_order_is_looked_at() {
        for at in PLACES.map(|at| at as usize) {
            for big in [false, true] {
                let mut device = vec![0; 64 << 10];
                device[at + 440..at + 444].copy_from_slice(b"root");
                let word = |n: u32| if big { n.to_be_bytes() } else { n.to_le_bytes() };
                device[at + 504..at + 508].copy_from_slice(&word(SYSV_MAGIC));
                assert!(probe(&device, None).is_none(), "no block size");
                device[at + 508..at + 512].copy_from_slice(&word(2));
                assert_eq!(probe(&device, None).unwrap().label.as_deref(), Some("root"), "{at}");
            }
        }
    }

    #[test]
    fn xenix_has_its_label_and_a_block_size() {
        let mut device = vec![0; 64 << 10];
        device[1024 + 632..1024 + 636].copy_from_slice(b"root");
        device[2040..2044].copy_from_slice(XENIX_LITTLE.bytes);
        assert!(probe_xenix(&device, Some(&XENIX_LITTLE)).is_none());
        device[2044] = 2;
        assert_eq!(probe_xenix(&device, Some(&XENIX_LITTLE)).unwrap().label.as_deref(), Some("root"));
        assert!(probe_xenix(&device, Some(&XENIX_BIG)).is_none());
    }
}
