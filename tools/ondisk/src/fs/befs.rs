//! BeFS of BeOS and Haiku (kernel: fs/befs/befs_fs_types.h), of either byte order. Its UUID is an attribute of the root
//! folder (`be:volume_id`), read where it lies in the folder's inode; where it has a file of its own, there is none here.

use crate::bytes::{be16, be32, be64, le16, le32, le64};
use crate::format::{Format, Magic, Signature, Usage};
use crate::read::ReadAt;

/// At the device's start, or behind a boot sector.
const PLACES: [u64; 2] = [0, 512];
const BYTES: usize = 132;
const MAGIC1: u32 = 0x4246_5331;
const MAGIC2: u32 = 0xdd12_1031;
const MAGIC3: u32 = 0x15b6_830e;
const NATIVE_ORDER: u32 = 0x4249_4745;
const INODE_MAGIC: u32 = 0x3bbe_0ad9;
/// Of an inode, before its attributes.
const INODE: usize = 232;
/// Most that is read of the root folder's run of blocks; an inode has one block.
const INODE_MAX: u64 = 8 << 10;
const ULLG: u32 = 0x554c_4c47;
const VOLUME_ID: &[u8] = b"be:volume_id";

pub const FORMAT: Format = Format {
    name: "befs",
    usage: Usage::Filesystem,
    magics: &[
        Magic { offset: PLACES[0] + 32, bytes: b"BFS1" },
        Magic { offset: PLACES[0] + 32, bytes: b"1SFB" },
        Magic { offset: PLACES[1] + 32, bytes: b"BFS1" },
        Magic { offset: PLACES[1] + 32, bytes: b"1SFB" },
    ],
    min_size: 1440 << 10,
    probe,
};

/// How its numbers stand.
#[derive(Clone, Copy)]
struct Order {
    big: bool,
}

impl Order {
    fn u16(self, bytes: &[u8], offset: usize) -> Option<u16> {
        if self.big { be16(bytes, offset) } else { le16(bytes, offset) }
    }

    fn u32(self, bytes: &[u8], offset: usize) -> Option<u32> {
        if self.big { be32(bytes, offset) } else { le32(bytes, offset) }
    }

    fn u64(self, bytes: &[u8], offset: usize) -> Option<u64> {
        if self.big { be64(bytes, offset) } else { le64(bytes, offset) }
    }
}

fn probe(device: &dyn ReadAt, magic: Option<&Magic>) -> Option<Signature> {
    let magic = magic?;
    let sb = device.bytes(magic.offset - 32, BYTES).ok()?;
    let order = Order { big: magic.bytes == b"BFS1" };
    let name = sb.get(..32)?;
    let byte_order = order.u32(&sb, 36)?;
    let block_size = order.u32(&sb, 40)?;
    let block_shift = order.u32(&sb, 44)?;
    let blocks = order.u64(&sb, 48)?;
    let magic2 = order.u32(&sb, 68)?;
    let group_shift = order.u32(&sb, 76)?;
    let log_start = order.u64(&sb, 96)?;
    let log_end = order.u64(&sb, 104)?;
    let magic3 = order.u32(&sb, 112)?;
    let root = (order.u32(&sb, 116)?, order.u16(&sb, 120)?, order.u16(&sb, 122)?);
    if (order.u32(&sb, 32)?, byte_order, magic2, magic3) != (MAGIC1, NATIVE_ORDER, MAGIC2, MAGIC3)
        || !(10..=13).contains(&block_shift)
        || block_size != 1 << block_shift
        || group_shift.saturating_add(block_shift) >= 64
    {
        return None;
    }
    let mut found = Signature::new("befs", Usage::Filesystem, magic.offset);
    found.set_label(name);
    found.set_version(if order.big { "big-endian" } else { "little-endian" });
    let shift = |number: u64, by: u32| number.checked_mul(1_u64.checked_shl(by)?);
    let at = || {
        let group = shift(shift(root.0.into(), group_shift)?, block_shift)?;
        group.checked_add(shift(root.1.into(), block_shift)?)
    };
    let length = (u64::from(root.2) << block_shift).min(INODE_MAX);
    if let Some(id) = at().and_then(|at| volume_id(&device.bytes(at, length as usize).ok()?, order)) {
        found.set_uuid_text(format!("{id:016x}"));
    }
    found.set_fs_block_size(block_size);
    found.set_block_size(block_size);
    found.tag("ENDIANNESS", if order.big { "BIG" } else { "LITTLE" });
    found.set_length(blocks.saturating_mul(block_size.into()), device);
    found.dirty = log_start != log_end;
    Some(found)
}

/// From the attributes in an inode: type, length of the name, length of the data; the name, three bytes, the data, one
/// byte.
fn volume_id(inode: &[u8], order: Order) -> Option<u64> {
    let inode_size = order.u32(inode, 64)? as usize;
    if order.u32(inode, 0)? != INODE_MAGIC {
        return None;
    }
    let mut rest = inode.get(INODE..inode_size.min(inode.len()))?;
    loop {
        let kind = order.u32(rest, 0)?;
        let (name, data) = (usize::from(order.u16(rest, 4)?), usize::from(order.u16(rest, 6)?));
        if (kind, name, data) == (0, 0, 0) {
            return None;
        }
        if (kind, data) == (ULLG, 8) && rest.get(8..8 + name)? == VOLUME_ID {
            return order.u64(rest, 8 + name + 3).filter(|id| *id != 0);
        }
        rest = rest.get(8 + name + 3 + data + 1..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(big: bool, at: usize) -> Vec<u8> {
        let mut device = vec![0; 2 << 20];
        let word = |n: u32| if big { n.to_be_bytes() } else { n.to_le_bytes() };
        let short = |n: u16| if big { n.to_be_bytes() } else { n.to_le_bytes() };
        let mut put =
            |offset: usize, bytes: &[u8]| device[offset..offset + bytes.len()].copy_from_slice(bytes);
        put(at, b"Haiku");
        let words = [
            (32, MAGIC1),
            (36, NATIVE_ORDER),
            (40, 2048),
            (44, 11),
            (if big { 52 } else { 48 }, 1024),
            (68, MAGIC2),
            (76, 13),
            (112, MAGIC3),
        ];
        words.iter().for_each(|(offset, value)| put(at + offset, &word(*value)));
        put(at + 120, &[short(20), short(1)].concat());
        let inode = 20 * 2048;
        put(inode, &word(INODE_MAGIC));
        put(inode + 64, &word(2048));
        let attribute = |kind: u32, name: &[u8], data: &[u8]| {
            let head = [&word(kind)[..], &short(name.len() as u16), &short(data.len() as u16)].concat();
            [&head[..], name, &[0; 3], data, &[0]].concat()
        };
        let id = if big { 0xabcd_u64.to_be_bytes() } else { 0xabcd_u64.to_le_bytes() };
        let attributes = [attribute(1, b"other", b"data"), attribute(ULLG, VOLUME_ID, &id)].concat();
        put(inode + INODE, &attributes);
        device
    }

    fn look(device: &dyn ReadAt) -> Option<Signature> {
        let has = |magic: &&Magic| device.bytes(magic.offset, 4).unwrap() == magic.bytes;
        FORMAT.magics.iter().filter(has).find_map(|magic| probe(device, Some(magic)))
    }

    #[test]
    fn the_volume_id_is_an_attribute_of_the_root_folder() {
        for (big, at) in [(false, 0), (false, 512), (true, 0), (true, 512)] {
            let found = look(&sample(big, at)).unwrap();
            assert_eq!(
                (found.label.as_deref(), found.uuid.as_deref()),
                (Some("Haiku"), Some("000000000000abcd")),
                "{big} {at}"
            );
            assert_eq!((found.extent.unwrap().length, found.dirty), (2 << 20, false));
        }
    }

    #[test]
    fn all_three_magics_and_sizes_that_agree_are_asked_for() {
        for offset in [36, 40, 44, 68, 112] {
            let mut device = sample(false, 512);
            device[512 + offset] ^= 1;
            assert!(look(&device).is_none(), "{offset}");
        }
        let mut device = sample(false, 512);
        device[512 + 104] = 1;
        assert!(look(&device).unwrap().dirty, "the log is not empty");
    }

    proptest! {
        #[test]
        fn no_mutated_volume_panics(
            big: bool,
            changes in proptest::collection::vec((prop_oneof![512usize..650, 40960usize..41260], any::<u8>()), 0..12),
        ) {
            let mut device = sample(big, 512);
            for (offset, byte) in changes {
                device[offset] = byte;
            }
            let _ = look(&device);
        }
    }
}
