//! bcache: a cache or what it caches, by its superblock at 4 KiB (kernel: drivers/md/bcache/bcache_ondisk.h).

use super::Volume;
use crate::bytes::{le16, le64, uuid};
use crate::checksum::crc64_we;
use crate::format::{Format, Health, Magic, Signature, Usage, Uuid};
use crate::read::ReadAt;
use serde::{Deserialize, Serialize};

pub const OFFSET: u64 = 4096;
pub const MAGIC: &[u8] = b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81";
/// SB_JOURNAL_BUCKETS
const KEYS_MAX: u16 = 256;
const KEYS_AT: usize = 208;

/// Sectors before the data, where the superblock does not say (BDEV_DATA_START_DEFAULT).
const DATA_START: u64 = 16;
const SECTOR: u64 = 512;

/// What a superblock makes of its device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bcache {
    /// The caches and what they cache belong together by this.
    pub set: Uuid,
    pub part: Part,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    Cache,
    Backing {
        state: State,
        /// Bytes before what is cached.
        data_offset: u64,
    },
}

/// BDEV_STATE
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It has no cache.
    Alone,
    Clean,
    /// Data written to it may be in the cache alone.
    Dirty,
    /// It was started without a cache that held such data.
    Stale,
}

pub const FORMAT: Format = Format {
    name: "bcache",
    usage: Usage::Other,
    magics: &[Magic { offset: OFFSET + 24, bytes: MAGIC }],
    min_size: 8192,
    probe,
};

fn probe(device: &dyn ReadAt, _magic: Option<&Magic>) -> Option<Signature> {
    let sb = device.bytes(OFFSET, KEYS_AT + 8 * usize::from(KEYS_MAX)).ok()?;
    let sum = le64(&sb, 0)?;
    let offset = le64(&sb, 8)?;
    let version = le64(&sb, 16)?;
    let set = uuid(&sb, 56)?;
    let uuid = uuid(&sb, 40)?;
    let label = sb.get(72..104)?;
    let block_size = le16(&sb, 192)?;
    let keys = le16(&sb, 206)?;
    if offset != OFFSET / 512 || keys > KEYS_MAX {
        return None;
    }
    let mut found = Signature::new("bcache", Usage::Other, OFFSET + 24);
    found.set_version(version.to_string());
    found.set_uuid(uuid);
    found.set_label(label);
    found.set_block_size(u32::from(block_size) * 512);
    let should = crc64_we(sb.get(8..KEYS_AT + 8 * usize::from(keys))?);
    found.health = Health::of_checksum(sum, should);
    // BCACHE_SB_VERSION_BDEV, _BDEV_WITH_OFFSET, _BDEV_WITH_FEATURES; the others are of caches.
    let start = match version {
        1 => Some(DATA_START),
        4 | 6 => Some(le64(&sb, 184)?),
        _ => None,
    };
    let part = match start {
        None => Part::Cache,
        Some(start) => Part::Backing {
            state: match le64(&sb, 104)? >> 61 & 3 {
                0 => State::Alone,
                1 => State::Clean,
                2 => State::Dirty,
                _ => State::Stale,
            },
            data_offset: start.saturating_mul(SECTOR),
        },
    };
    if matches!(part, Part::Backing { state: State::Dirty, .. }) {
        found.dirty = true;
        found.note("data written to it may be in its cache alone");
    }
    found.volume = Some(Volume::Bcache(Bcache { set, part }));
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_verified() {
        let mut device = vec![0; 16 << 10];
        let sb = &mut device[4096..];
        sb[8] = 8;
        sb[16] = 1;
        sb[24..40].copy_from_slice(MAGIC);
        sb[40..56].fill(9);
        sb[111] = 2 << 5;
        sb[192] = 1;
        let sum = crc64_we(&sb[8..208]);
        sb[..8].copy_from_slice(&sum.to_le_bytes());
        let found = probe(&device, None).unwrap();
        assert_eq!((&found.health, found.version.as_deref(), found.dirty), (&Health::Sound, Some("1"), true));
        let part = Part::Backing { state: State::Dirty, data_offset: 8192 };
        assert_eq!(found.volume, Some(Volume::Bcache(Bcache { set: Uuid([0; 16]), part })));
        device[4096 + 41] = 0;
        let Health::Damaged(reason) = probe(&device, None).unwrap().health else { panic!() };
        assert!(reason.starts_with("checksum "), "{reason}");
        device[4096 + 8] = 9;
        assert!(probe(&device, None).is_none());
    }
}
