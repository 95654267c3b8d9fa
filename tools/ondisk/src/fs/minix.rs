//! Minix 1 to 3 (kernel: include/uapi/linux/minix_fs.h, fs/minix/minix_fs.h; disk-utils/fsck.minix.c). Its magic is two
//! bytes, so nothing is believed that its other fields do not bear out.

use crate::bytes::{be16, be32, le16, le32};
use crate::format::{Format, Magic, Signature, Usage};
use crate::read::ReadAt;

const OFFSET: u64 = 1024;
/// MINIX_BLOCK_SIZE, of which bitmaps are made in all versions.
const BLOCK: u64 = 1024;
const VALID: u16 = 1;
const ERROR: u16 = 2;

/// MINIX_SUPER_MAGIC and MINIX_SUPER_MAGIC2 (names of 14 and 30 characters), MINIX2_..., MINIX3_...
const V1: [u16; 2] = [0x137f, 0x138f];
const V2: [u16; 2] = [0x2468, 0x2478];
const V3: u16 = 0x4d5a;

pub const FORMAT: Format = Format {
    name: "minix",
    usage: Usage::Filesystem,
    magics: &[
        Magic { offset: OFFSET + 16, bytes: &[0x7f, 0x13] },
        Magic { offset: OFFSET + 16, bytes: &[0x8f, 0x13] },
        Magic { offset: OFFSET + 16, bytes: &[0x13, 0x7f] },
        Magic { offset: OFFSET + 16, bytes: &[0x13, 0x8f] },
        Magic { offset: OFFSET + 16, bytes: &[0x68, 0x24] },
        Magic { offset: OFFSET + 16, bytes: &[0x78, 0x24] },
        Magic { offset: OFFSET + 16, bytes: &[0x24, 0x68] },
        Magic { offset: OFFSET + 16, bytes: &[0x24, 0x78] },
        Magic { offset: OFFSET + 24, bytes: &[0x5a, 0x4d] },
    ],
    min_size: OFFSET + 32,
    probe,
};

struct Superblock {
    version: u8,
    inodes: u64,
    zones: u64,
    inode_map: u64,
    zone_map: u64,
    first_zone: u64,
    log_zone_size: u16,
    block_size: u32,
    state: Option<u16>,
}

fn probe(device: &dyn ReadAt, magic: Option<&Magic>) -> Option<Signature> {
    let bytes = device.bytes(OFFSET, 64).ok()?;
    let number = le16(magic?.bytes, 0)?;
    let big = V1.contains(&number.swap_bytes()) || V2.contains(&number.swap_bytes());
    let sb = match if big { number.swap_bytes() } else { number } {
        V3 => version_3(&bytes)?,
        number => old(&bytes, if V1.contains(&number) { 1 } else { 2 }, big)?,
    };
    // Where ext and erofs have their magics.
    let is_other = le16(&bytes, 0x38)? == 0xef53 || le32(&bytes, 0)? == 0xe0f5_e1e2;
    if is_other || !sb.is_plausible() {
        return None;
    }
    let mut found = Signature::new("minix", Usage::Filesystem, magic?.offset);
    found.set_version(sb.version.to_string());
    found.set_fs_block_size(sb.block_size);
    found.set_block_size(sb.block_size);
    found.tag("ENDIANNESS", if big { "BIG" } else { "LITTLE" });
    found.set_length(sb.zones * u64::from(sb.block_size), device);
    if let Some(state) = sb.state {
        if state & ERROR != 0 {
            found.check_is_due("the kernel found errors in it", "");
        } else if state & VALID == 0 {
            found.check_is_due("it was not unmounted cleanly", "");
        }
    }
    Some(found)
}

/// `struct minix_super_block`
fn old(sb: &[u8], version: u8, big: bool) -> Option<Superblock> {
    let short = |offset| if big { be16(sb, offset) } else { le16(sb, offset) };
    let inodes = short(0)?.into();
    let zones = short(2)?;
    let inode_map = short(4)?.into();
    let zone_map = short(6)?.into();
    let first_zone = short(8)?.into();
    let log_zone_size = short(10)?;
    let state = short(18)?;
    let zones_2 = if big { be32(sb, 20)? } else { le32(sb, 20)? };
    Some(Superblock {
        version,
        inodes,
        zones: if version == 1 { zones.into() } else { zones_2.into() },
        inode_map,
        zone_map,
        first_zone,
        log_zone_size,
        block_size: BLOCK as u32,
        state: Some(state),
    })
}

/// `struct minix3_super_block`, which nobody made in the other byte order.
fn version_3(sb: &[u8]) -> Option<Superblock> {
    Some(Superblock {
        version: 3,
        inodes: le32(sb, 0)?.into(),
        inode_map: le16(sb, 6)?.into(),
        zone_map: le16(sb, 8)?.into(),
        first_zone: le16(sb, 10)?.into(),
        log_zone_size: le16(sb, 12)?,
        zones: le32(sb, 20)?.into(),
        block_size: le16(sb, 28)?.into(),
        state: None,
    })
}

impl Superblock {
    /// As fsck.minix judges.
    fn is_plausible(&self) -> bool {
        let bits = |blocks: u64| blocks * BLOCK * 8;
        self.log_zone_size == 0
            && self.inodes != 0
            && self.inodes != u64::from(u32::MAX)
            && bits(self.inode_map) > self.inodes
            && self.first_zone <= self.zones
            && bits(self.zone_map) > self.zones - self.first_zone
            && self.block_size.is_power_of_two()
            && self.state.is_none_or(|state| state & !(VALID | ERROR) == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(device: &dyn ReadAt) -> Option<Signature> {
        let has = |magic: &&Magic| device.bytes(magic.offset, 2).unwrap() == magic.bytes;
        FORMAT.magics.iter().filter(has).find_map(|magic| probe(device, Some(magic)))
    }

    /// As `mkfs.minix -1` of util-linux 2.41 makes it of 1 MiB.
    fn sample() -> Vec<u8> {
        let mut device = vec![0; 1 << 20];
        let words: [u16; 10] = [352, 1024, 1, 1, 15, 0, 0x1c00, 0x1008, V1[1], 1];
        for (number, word) in words.iter().enumerate() {
            device[1024 + 2 * number..][..2].copy_from_slice(&word.to_le_bytes());
        }
        device
    }

    #[test]
    fn each_version_and_byte_order_is_told() {
        let found = look(&sample()).unwrap();
        assert_eq!((found.version.as_deref(), found.extent.unwrap().length), (Some("1"), 1 << 20));
        let mut device = sample();
        device[1040..1042].copy_from_slice(&V2[0].to_le_bytes());
        assert!(look(&device).is_none(), "no zones in the field of version 2");
        device[1044..1048].copy_from_slice(&1024_u32.to_le_bytes());
        assert_eq!(look(&device).unwrap().version.as_deref(), Some("2"));
        let mut device = sample();
        device[1024..1044].chunks_mut(2).for_each(|word| word.reverse());
        assert_eq!(look(&device).unwrap().tags.last().unwrap().1, "BIG");
        let mut device = vec![0; 1 << 20];
        device[1024] = 200;
        device[1030..1038].copy_from_slice(&[1, 0, 1, 0, 15, 0, 0, 0]);
        device[1044..1054].copy_from_slice(&[0, 1, 0, 0, 0x5a, 0x4d, 0, 0, 0, 0x10]);
        let found = look(&device).unwrap();
        assert_eq!((found.version.as_deref(), found.block_size), (Some("3"), Some(4096)));
    }

    #[test]
    fn two_bytes_alone_are_no_minix() {
        type Change = fn(&mut Vec<u8>);
        let cases: &[(&str, Change)] = &[
            ("zones of several blocks", |device| device[1034] = 1),
            ("no inodes", |device| device[1024..1026].fill(0)),
            ("a map too small for the inodes", |device| device[1028] = 0),
            ("a first zone behind the last", |device| device[1033] = 5),
            ("a map too small for the zones", |device| device[1030] = 0),
            ("an unknown state", |device| device[1042] = 4),
            ("ext", |device| device[1024 + 0x38..1024 + 0x3a].copy_from_slice(&[0x53, 0xef])),
        ];
        for (label, change) in cases {
            let mut device = sample();
            change(&mut device);
            assert!(look(&device).is_none(), "{label}");
        }
    }

    #[test]
    fn the_state_is_told() {
        for (state, want) in [(0, "it was not unmounted cleanly"), (3, "the kernel found errors in it")] {
            let mut device = sample();
            device[1042] = state;
            assert_eq!(look(&device).unwrap().notes, [want]);
        }
    }
}
