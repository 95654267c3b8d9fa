//! The store of a dm-snapshot in its persistent format (drivers/md/dm-snap-persistent.c): which parts of the
//! original have a newer copy here. Not a row of FORMATS: it is read where it is known to be one.
//!
//! Chunk 0 is a header. From chunk 1 on, an area of exceptions (one chunk of pairs: old chunk, new
//! chunk) is followed by the chunks that it names, and so on. A pair whose new chunk is 0 ends the list: chunk 0
//! is the header's.

use crate::bytes::{le32, le64};
use crate::format::Extent;
use crate::read::{ReadAt, ReadError};
use thiserror::Error;

/// `SNAP_MAGIC`, "SnAp"
const MAGIC: u32 = 0x7041_6e53;
/// `SNAPSHOT_DISK_VERSION`
const VERSION: u32 = 1;
const SECTOR: u64 = 512;
/// `struct disk_header`: magic, valid, version, chunk size in sectors.
const HEADER: usize = 16;
/// `struct disk_exception`: two le64.
const EXCEPTION: u64 = 16;
/// Chunks are powers of two; below a sector or above this nothing makes them (lvcreate(8): 4 to 512 KiB).
const LARGEST_CHUNK: u64 = 512 << 10;
/// What is listed. A store lies in memory, and a million chunks of 4 KiB are 4 GiB.
const MOST: usize = 1 << 20;

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    #[error("{0}")]
    Read(#[from] ReadError),
    #[error("magic {0:#x} at 0")]
    Magic(u32),
    #[error("version {0} at 8")]
    Version(u32),
    #[error("chunk size of {0} sectors at 12")]
    Chunk(u32),
    #[error("exception names chunk {0}, which is beyond every device")]
    Exception(u64),
}

/// What a store holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// The kernel takes it for usable: it never ran out of room or lost a write.
    pub valid: bool,
    /// Of the original, sorted, neighbours joined. Bytes.
    pub extents: Vec<Extent>,
    /// There are more, which are not listed.
    pub more: bool,
}

impl Differences {
    /// Of all that is listed.
    pub fn bytes(&self) -> u64 {
        self.extents.iter().map(|extent| extent.length).sum()
    }
}

/// What differs from the original, as far as the kernel has written it down.
pub fn differences(store: &dyn ReadAt) -> Result<Differences, Error> {
    let header = store.bytes(0, HEADER)?;
    let field = |offset| le32(&header, offset).unwrap_or_default(); // HEADER bytes were read
    if field(0) != MAGIC {
        return Err(Error::Magic(field(0)));
    }
    if field(8) != VERSION {
        return Err(Error::Version(field(8)));
    }
    let chunk = u64::from(field(12)).saturating_mul(SECTOR);
    if !(SECTOR..=LARGEST_CHUNK).contains(&chunk) || !chunk.is_power_of_two() {
        return Err(Error::Chunk(field(12)));
    }
    let mut chunks: Vec<u64> = Vec::new();
    let mut more = false;
    let each = chunk / EXCEPTION;
    let mut at = chunk;
    // An area that is not there ends the list as an empty one does; each lies behind the one before it.
    while at.checked_add(chunk).is_some_and(|end| end <= store.size()) {
        let area = store.bytes(at, chunk as usize)?; // LARGEST_CHUNK at most
        let pairs = area.chunks_exact(EXCEPTION as usize).map(|pair| (le64(pair, 0), le64(pair, 8)));
        let used: Vec<u64> =
            pairs.take_while(|(_, new)| *new != Some(0)).filter_map(|(old, _)| old).collect();
        let full = used.len() as u64 == each;
        chunks.extend(used);
        if !full {
            break;
        }
        if chunks.len() >= MOST {
            more = true;
            break;
        }
        at = at.saturating_add(chunk.saturating_mul(each + 1));
    }
    chunks.sort_unstable();
    chunks.dedup();
    let mut extents: Vec<Extent> = Vec::new();
    for number in chunks {
        let start = number.checked_mul(chunk).ok_or(Error::Exception(number))?;
        match extents.last_mut() {
            Some(last) if last.start.saturating_add(last.length) == start => last.length += chunk,
            _ => extents.push(Extent { start, length: chunk }),
        }
    }
    Ok(Differences { valid: field(4) != 0, extents, more })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: usize = 4096;

    /// A store with these chunks of the original in it, in this order.
    fn store(old: &[u64]) -> Vec<u8> {
        let mut bytes = vec![0; CHUNK];
        for (field, value) in [MAGIC, 1, VERSION, (CHUNK / 512) as u32].iter().enumerate() {
            bytes[4 * field..4 * field + 4].copy_from_slice(&value.to_le_bytes());
        }
        // One area more than is filled, as the kernel clears the next one ahead.
        for area in old.chunks(CHUNK / 16).chain([&[][..]]) {
            let begin = bytes.len();
            bytes.resize(begin + CHUNK * (CHUNK / 16 + 1), 0);
            for (i, chunk) in area.iter().enumerate() {
                let at = begin + 16 * i;
                let new = (begin / CHUNK + 1 + i) as u64;
                bytes[at..at + 8].copy_from_slice(&chunk.to_le_bytes());
                bytes[at + 8..at + 16].copy_from_slice(&new.to_le_bytes());
            }
        }
        bytes
    }

    #[test]
    fn neighbours_are_one_extent_over_as_many_areas_as_there_are() {
        let old: Vec<u64> = (0..600).rev().chain([1000]).collect();
        let found = differences(&store(&old)).unwrap();
        assert!(found.valid && !found.more);
        let extent = |start: u64, length: u64| Extent { start: start * 4096, length: length * 4096 };
        assert_eq!(found.extents, [extent(0, 600), extent(1000, 1)]);
        assert_eq!(found.bytes(), 601 * 4096);
        assert_eq!(differences(&store(&[])).unwrap().extents, []);
    }

    #[test]
    fn a_store_that_is_none_is_named_by_its_field() {
        let with = |at: usize, value: u32| {
            let mut bytes = store(&[7]);
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            differences(&bytes)
        };
        assert_eq!(with(0, 7), Err(Error::Magic(7)));
        assert_eq!(with(8, 2), Err(Error::Version(2)));
        for chunk in [0, 3, 2048] {
            assert_eq!(with(12, chunk), Err(Error::Chunk(chunk)));
        }
        assert!(!with(4, 0).unwrap().valid);
        let mut far = store(&[7]);
        far[CHUNK..CHUNK + 8].fill(0xff);
        assert_eq!(differences(&far), Err(Error::Exception(u64::MAX)));
        assert!(matches!(differences(&vec![0; 8]), Err(Error::Read(_))));
        assert_eq!(differences(&store(&[7])[..CHUNK].to_vec()).unwrap().extents, [], "a header alone");
    }
}
