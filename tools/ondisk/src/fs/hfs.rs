//! HFS, and HFS+ by itself or wrapped in an HFS (Apple's Technical Note 1150; names and UUID as libblkid makes them).

use crate::bytes::{Utf16, be16, be32, utf16};
use crate::checksum::md5;
use crate::format::{Format, Health, Magic, Signature, Usage, Uuid};
use crate::read::ReadAt;

const OFFSET: u64 = 1024;
const SECTOR: u32 = 512;
const EXTENTS: usize = 8;
/// A node's header, then the longest key of the catalogue.
const LEAF_MIN: u32 = 14 + 518;
const LEAF: u8 = 0xff;
/// The parent of the root folder.
const ROOT_PARENT: u32 = 1;
const UNMOUNTED: u32 = 1 << 8;
const JOURNALED: u32 = 1 << 13;

pub const FORMAT: Format = Format {
    name: "hfs",
    usage: Usage::Filesystem,
    magics: &[Magic { offset: OFFSET, bytes: b"BD" }],
    min_size: OFFSET + 512,
    probe,
};

pub const PLUS: Format = Format {
    name: "hfsplus",
    usage: Usage::Filesystem,
    magics: &[
        Magic { offset: OFFSET, bytes: b"BD" },
        Magic { offset: OFFSET, bytes: b"H+" },
        Magic { offset: OFFSET, bytes: b"HX" },
    ],
    min_size: OFFSET + 512,
    probe: probe_plus,
};

fn is_plus(signature: Option<&[u8]>) -> bool {
    matches!(signature, Some(b"H+" | b"HX"))
}

fn probe(device: &dyn ReadAt, _magic: Option<&Magic>) -> Option<Signature> {
    let block = device.bytes(OFFSET, 512).ok()?;
    let size = be32(&block, 20)?;
    if is_plus(block.get(124..126)) || size == 0 || size % SECTOR != 0 {
        return None;
    }
    let mut found = Signature::new("hfs", Usage::Filesystem, OFFSET);
    set_uuid(&mut found, block.get(116..124)?);
    let length = usize::from(*block.get(36)?).min(27);
    found.set_label(block.get(37..37 + length)?);
    Some(found)
}

fn probe_plus(device: &dyn ReadAt, magic: Option<&Magic>) -> Option<Signature> {
    let mut header = device.bytes(OFFSET, 512).ok()?;
    let mut start = 0;
    if header.starts_with(b"BD") {
        let size = be32(&header, 20)?;
        if !is_plus(header.get(124..126)) || size < SECTOR || size % SECTOR != 0 {
            return None;
        }
        start = u64::from(be16(&header, 28)?) * 512 + u64::from(be16(&header, 126)?) * u64::from(size);
        header = device.bytes(start.checked_add(OFFSET)?, 512).ok()?;
    }
    volume(device, &header, start, magic?.offset)
}

/// The header's copy, in the last but one sector of the volume; where the volume is wrapped in an HFS, that has its own.
pub fn salvage(device: &dyn ReadAt) -> Option<Signature> {
    let at = (device.size() / 512).checked_sub(2)? * 512;
    let header = device.bytes(at, 512).ok()?;
    let size = u64::from(be32(&header, 40)?) * u64::from(be32(&header, 44)?);
    // Of a partition, it is not the disk's.
    let is_own = size <= device.size() && device.size() - size < u64::from(be32(&header, 40)?).max(512);
    if !is_plus(header.get(..2)) || !matches!(be16(&header, 2), Some(4 | 5)) || !is_own {
        return None;
    }
    let mut found = volume(device, &header, 0, at)?;
    found.health =
        Health::Damaged(format!("volume header: gone; its copy at {at} is there (fsck.hfsplus uses it)"));
    Some(found)
}

fn volume(device: &dyn ReadAt, header: &[u8], start: u64, magic: u64) -> Option<Signature> {
    let attributes = be32(header, 4)?;
    let block_size = be32(header, 40)?;
    let blocks = be32(header, 44)?;
    let extents: Vec<(u32, u32)> = (0..EXTENTS)
        .map(|index| Some((be32(header, 288 + 8 * index)?, be32(header, 292 + 8 * index)?)))
        .collect::<Option<_>>()?;
    let catalogue = start.checked_add(u64::from(extents[0].0) * u64::from(block_size))?;
    if !is_plus(header.get(..2))
        || block_size < SECTOR
        || !block_size.is_power_of_two()
        || catalogue > device.size()
    {
        return None;
    }
    let mut found = Signature::new("hfsplus", Usage::Filesystem, magic);
    set_uuid(&mut found, header.get(104..112)?);
    found.set_fs_block_size(block_size);
    found.set_block_size(block_size);
    if let Some(label) = label(device, start, block_size, &extents, catalogue) {
        found.set_label_text(&label);
    }
    if start == 0 {
        found.set_length(u64::from(blocks) * u64::from(block_size), device);
    }
    if attributes & UNMOUNTED == 0 {
        found.dirty = attributes & JOURNALED != 0;
        found.check_is_due("it was not unmounted cleanly", "");
    }
    Some(found)
}

/// The name of the root folder: the first key of the catalogue's first leaf.
fn label(
    device: &dyn ReadAt,
    start: u64,
    block_size: u32,
    extents: &[(u32, u32)],
    catalogue: u64,
) -> Option<String> {
    let node = device.bytes(catalogue, 0x2000).ok()?;
    let (leaves, head, node_size) = (be32(&node, 20)?, be32(&node, 24)?, u32::from(be16(&node, 32)?));
    if node_size < LEAF_MIN || leaves == 0 {
        return None;
    }
    let mut block = head.wrapping_mul(node_size) / block_size;
    let mut first = None;
    for (extent, count) in extents {
        if *count == 0 {
            return None;
        }
        if block < *count {
            first = Some(*extent);
            break;
        }
        block -= count;
    }
    let at = (u64::from(first?) + u64::from(block)).checked_mul(block_size.into())?;
    let leaf = device.bytes(start.checked_add(at)?, node_size as usize).ok()?; // 16 bits
    let (kind, records) = (*leaf.get(8)?, be16(&leaf, 10)?);
    let (parent, length) = (be32(&leaf, 16)?, usize::from(be16(&leaf, 20)?));
    if kind != LEAF || records == 0 || parent != ROOT_PARENT || length > 255 {
        return None;
    }
    Some(utf16(leaf.get(22..22 + 2 * length)?, Utf16::Big))
}

/// Apple makes a UUID of version 3 from the eight bytes that the Finder keeps.
fn set_uuid(found: &mut Signature, id: &[u8]) {
    const NAMESPACE: [u8; 16] = *b"\xb3\xe2\x0f\x39\xf2\x92\x11\xd6\x97\xa4\x00\x30\x65\x43\xec\xac";
    if id.iter().all(|byte| *byte == 0) {
        return;
    }
    let mut uuid = md5(&[&NAMESPACE, id].concat());
    uuid[6] = 0x30 | (uuid[6] & 0x0f);
    uuid[8] = 0x80 | (uuid[8] & 0x3f);
    found.set_uuid(Uuid(uuid));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn put(device: &mut [u8], offset: usize, bytes: &[u8]) {
        device[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    fn sample() -> Vec<u8> {
        let mut device = vec![0; 1 << 20];
        put(&mut device, 1024, b"H+\0\x04\0\0\x01\0");
        put(&mut device, 1024 + 40, &4096_u32.to_be_bytes());
        put(&mut device, 1024 + 44, &256_u32.to_be_bytes());
        put(&mut device, 1024 + 104, &[1, 2, 3, 4, 5, 6, 7, 8]);
        put(&mut device, 1024 + 288, &[0, 0, 0, 10, 0, 0, 0, 8]);
        let catalogue = 10 * 4096;
        put(&mut device, catalogue + 20, &[0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0x10, 0]);
        put(
            &mut device,
            catalogue + 4096 + 8,
            &[LEAF, 1, 0, 1, 0, 0, 0, 10, 0, 0, 0, 1, 0, 3, 0, b'M', 0, b'a', 0, b'c'],
        );
        device
    }

    #[test]
    fn the_root_folder_has_the_label() {
        let mut device = sample();
        let found = probe_plus(&device, Some(&PLUS.magics[1])).unwrap();
        assert_eq!((found.label.as_deref(), found.dirty, found.notes.len()), (Some("Mac"), false, 0));
        assert_eq!(found.uuid.as_ref().unwrap().as_bytes()[14], b'3');
        put(&mut device, 1024 + 4, &JOURNALED.to_be_bytes());
        assert!(probe_plus(&device, Some(&PLUS.magics[1])).unwrap().dirty);
        put(&mut device, 1024 + 40, &100_u32.to_be_bytes());
        assert!(probe_plus(&device, Some(&PLUS.magics[1])).is_none());
    }

    #[test]
    fn the_copy_of_the_header_is_used_where_the_volume_s_own_is_gone() {
        let mut device = sample();
        let at = device.len() - 1024;
        device.copy_within(1024..1536, at);
        device[1024..1536].fill(0);
        let found = salvage(&device).unwrap();
        assert_eq!((found.label.as_deref(), found.magic_offset), (Some("Mac"), at as u64));
        let Health::Damaged(reason) = found.health else { panic!() };
        assert!(reason.contains("its copy at 1047552 is there"), "{reason}");
        // The last partition's, seen from the disk.
        let disk = [vec![0; 1 << 20], device].concat();
        assert!(salvage(&disk).is_none());
    }

    #[test]
    fn a_wrapper_is_hfsplus_and_not_hfs() {
        let mut device = vec![0; 2 << 20];
        put(&mut device, 1024, b"BD");
        put(&mut device, 1024 + 20, &4096_u32.to_be_bytes());
        put(&mut device, 1024 + 36, b"\x03old");
        assert_eq!(probe(&device, None).unwrap().label.as_deref(), Some("old"));
        assert!(probe_plus(&device, Some(&PLUS.magics[0])).is_none());
        put(&mut device, 1024 + 124, b"H+\0\x10");
        assert!(probe(&device, None).is_none());
        let inner = sample();
        put(&mut device, 16 * 4096, &inner);
        let found = probe_plus(&device, Some(&PLUS.magics[0])).unwrap();
        assert_eq!(found.label.as_deref(), Some("Mac"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]
        #[test]
        fn no_mutated_volume_panics(
            changes in proptest::collection::vec((prop_oneof![1024usize..1400, 40960usize..41000, 45056usize..45100], any::<u8>()), 0..12),
        ) {
            let mut device = sample();
            for (offset, byte) in changes {
                device[offset] = byte;
            }
            let _ = (probe(&device, None), probe_plus(&device, Some(&PLUS.magics[1])));
        }
    }
}
