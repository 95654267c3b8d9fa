//! Whether Windows is hibernated on an NTFS volume: hiberfil.sys in the root directory begins with `hibr`, or is shorter
//! than a header, on a volume that the hibernated system had mounted besides its own (ntfs-3g: libntfs-3g/volume.c,
//! ntfs_volume_check_hiberfile). ntfs3 does not look, and would write under a system that goes on later.
//!
//! Only the beginning of the directory and of the MFT are followed: a file that lies further is not found.

use crate::bytes::{Utf16, le16, le32, le64, utf16};
use crate::read::ReadAt;

const NAME: &str = "hiberfil.sys";
/// NTFS_HIBERFILE_HEADER_SIZE
const HEADER: u64 = 4096;
/// The MFT's own record, and the root directory's.
const MFT: u64 = 0;
const ROOT: u64 = 5;
const DATA: u32 = 0x80;
const INDEX_ROOT: u32 = 0x90;
const INDEX_ALLOCATION: u32 = 0xa0;
const END: u32 = u32::MAX;
/// The stride of the update sequence, whatever the sector's size.
const STRIDE: usize = 512;
/// Most pieces of a file that are followed, and blocks of a directory: Windows' root takes two or three.
const RUNS: usize = 64;
const BLOCKS: u64 = 64;
const BLOCK_MAX: u64 = 64 << 10;

/// Sizes in bytes; `mft`: where the MFT begins.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub cluster: u64,
    pub record: u64,
    pub mft: u64,
}

pub fn is_hibernated(device: &dyn ReadAt, place: Place) -> bool {
    looked(device, place).unwrap_or(false)
}

fn looked(device: &dyn ReadAt, place: Place) -> Option<bool> {
    let first = fixed(device.bytes(place.mft, usize::try_from(place.record).ok()?).ok()?, b"FILE")?;
    let mft = runs(attribute(&first, DATA)?)?;
    let record = |number: u64| {
        let at = mapped(&mft, number.checked_mul(place.record)?, place.cluster)?;
        fixed(device.bytes(at, usize::try_from(place.record).ok()?).ok()?, b"FILE")
    };
    let root = record(ROOT)?;
    let index = value(attribute(&root, INDEX_ROOT)?)?;
    let block = u64::from(le32(index, 8)?);
    let mut number = named(index, 16);
    if number.is_none()
        && let Some(pieces) = attribute(&root, INDEX_ALLOCATION).and_then(runs)
        && (512..=BLOCK_MAX).contains(&block)
    {
        number = (0..BLOCKS).find_map(|count| {
            let at = mapped(&pieces, count.checked_mul(block)?, place.cluster)?;
            let bytes = fixed(device.bytes(at, usize::try_from(block).ok()?).ok()?, b"INDX")?;
            named(&bytes, 24)
        });
    }
    let file = record(number.filter(|number| *number != MFT)?)?;
    let data = attribute(&file, DATA)?;
    if !is_apart(data) || le64(data, 48)? < HEADER {
        return Some(true);
    }
    let head = device.bytes(mapped(&runs(data)?, 0, place.cluster)?, 4).ok()?;
    Some(head.eq_ignore_ascii_case(b"hibr"))
}

/// A record or an index block with the ends of its sectors in their places; `None` where it is torn.
fn fixed(mut bytes: Vec<u8>, magic: &[u8]) -> Option<Vec<u8>> {
    let (at, count) = (usize::from(le16(&bytes, 4)?), usize::from(le16(&bytes, 6)?));
    if !bytes.starts_with(magic) || count == 0 || (count - 1).checked_mul(STRIDE)? > bytes.len() {
        return None;
    }
    let sequence: Vec<u8> = bytes.get(at..at.checked_add(2 * count)?)?.to_vec();
    for (number, own) in sequence[2..].chunks(2).enumerate() {
        let end = (number + 1) * STRIDE;
        let place = bytes.get_mut(end - 2..end)?;
        if place != &sequence[..2] {
            return None;
        }
        place.copy_from_slice(own);
    }
    Some(bytes)
}

/// The first attribute of a kind: of a directory's index there is one, of a file's data the one without a name.
fn attribute(record: &[u8], wanted: u32) -> Option<&[u8]> {
    let mut at = usize::from(le16(record, 20)?);
    loop {
        let (kind, length) = (le32(record, at)?, le32(record, at.checked_add(4)?)? as usize);
        // Each is at least 24 bytes, so the loop is short.
        if kind == END || length < 24 {
            return None;
        }
        let own = record.get(at..at.checked_add(length)?)?;
        if kind == wanted && (wanted != DATA || own[9] == 0) {
            return Some(own);
        }
        at += length;
    }
}

/// Its content lies in clusters.
fn is_apart(attribute: &[u8]) -> bool {
    attribute.get(8) == Some(&1)
}

fn value(attribute: &[u8]) -> Option<&[u8]> {
    let (length, at) = (le32(attribute, 16)? as usize, usize::from(le16(attribute, 20)?));
    attribute.get(at..at.checked_add(length)?).filter(|_| !is_apart(attribute))
}

/// Clusters, and where they begin on the volume; `None` for a hole.
type Run = (u64, Option<u64>);

fn runs(attribute: &[u8]) -> Option<Vec<Run>> {
    let mut at = usize::from(le16(attribute, 32).filter(|_| is_apart(attribute))?);
    let (mut found, mut begin) = (Vec::new(), 0_i64);
    while found.len() < RUNS {
        let head = *attribute.get(at)?;
        let (lengths, places) = (usize::from(head & 15), usize::from(head >> 4));
        if head == 0 {
            return Some(found);
        }
        let length = number(attribute.get(at + 1..at + 1 + lengths)?)?;
        let delta = number(attribute.get(at + 1 + lengths..at + 1 + lengths + places)?)?;
        begin = begin.checked_add(delta)?;
        let place = u64::try_from(begin).ok().filter(|_| places != 0);
        found.push((u64::try_from(length).ok()?, place));
        at += 1 + lengths + places;
    }
    Some(found)
}

/// Little-endian, with a sign; of nothing, 0.
fn number(bytes: &[u8]) -> Option<i64> {
    let Some(last) = bytes.last() else { return Some(0) };
    let mut all = [if last & 0x80 == 0 { 0 } else { 0xff }; 8];
    all.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(i64::from_le_bytes(all))
}

/// Where a byte of a file lies on the volume. A record or a block that is cut by a cluster's end lies in one piece all the
/// same, where the piece goes on.
fn mapped(runs: &[Run], offset: u64, cluster: u64) -> Option<u64> {
    let mut begin = 0_u64;
    for (length, place) in runs {
        let bytes = length.checked_mul(cluster)?;
        if offset - begin < bytes {
            return (*place)?.checked_mul(cluster)?.checked_add(offset - begin);
        }
        begin = begin.checked_add(bytes).filter(|end| *end <= offset)?;
    }
    None
}

/// The MFT record of the file, from the entries of an index header at `at`.
fn named(index: &[u8], at: usize) -> Option<u64> {
    let mut entry = at.checked_add(le32(index, at)? as usize)?;
    let end = at.checked_add(le32(index, at + 4)? as usize)?.min(index.len());
    while entry + 16 <= end {
        let (length, key) = (usize::from(le16(index, entry + 8)?), usize::from(le16(index, entry + 10)?));
        let name = index.get(entry + 16..entry + 16 + key).and_then(|key| {
            let letters = usize::from(*key.get(64)?);
            Some(utf16(key.get(66..66 + 2 * letters)?, Utf16::Little))
        });
        if name.is_some_and(|name| name.eq_ignore_ascii_case(NAME)) {
            return Some(le64(index, entry)? & ((1 << 48) - 1));
        }
        if length < 16 {
            return None;
        }
        entry += length;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn places_of_a_file_in_pieces_are_found() {
        // Two clusters at 5, a hole of one, three at 2.
        let mut attribute = vec![0; 64];
        attribute[8] = 1;
        attribute[32] = 48;
        attribute[48..57].copy_from_slice(&[0x11, 2, 5, 0x01, 1, 0x11, 3, 0xfd, 0]);
        let runs = runs(&attribute).unwrap();
        assert_eq!(
            runs,
            [(2, Some(5)), (1, Some(5)), (3, Some(2))].map(|(n, at)| (n, at.filter(|_| n != 1)))
        );
        let at = |offset| mapped(&runs, offset, 4096);
        assert_eq!((at(0), at(4097), at(8192), at(12_288)), (Some(20_480), Some(24_577), None, Some(8192)));
        assert_eq!(at(6 * 4096), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(
            bytes in proptest::collection::vec(prop_oneof![Just(0), Just(1), Just(0xff), any::<u8>()], 2048),
            magic in prop_oneof![Just(&b"FILE"[..]), Just(&b"INDX"[..])],
        ) {
            let mut bytes = bytes;
            bytes[..4].copy_from_slice(magic);
            let place = Place { cluster: 512, record: 1024, mft: 0 };
            let _ = is_hibernated(&bytes, place);
            let _ = fixed(bytes.clone(), magic);
            let _ = (attribute(&bytes, DATA).map(runs), runs(&bytes), value(&bytes), named(&bytes, 24));
        }
    }
}
