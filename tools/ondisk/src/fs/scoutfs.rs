//! scoutfs of Versity, on two devices: the metadata's and the data's (scoutfs: kmod/src/format.h). Their superblocks
//! differ in one flag.

use crate::bytes::{le32, le64, uuid};
use crate::format::{Format, Health, Magic, Signature, Usage};
use crate::read::ReadAt;

const OFFSET: u64 = 64 << 10;
/// SCOUTFS_BLOCK_SM_SIZE
const BLOCK: usize = 4096;
/// SCOUTFS_BLOCK_LG_SIZE, in which metadata is kept.
const LARGE_BLOCK: u32 = 64 << 10;
/// SCOUTFS_FLAG_IS_META_BDEV
const IS_META: u64 = 1;
const MAGIC: Magic = Magic { offset: OFFSET + 4, bytes: &[0x8b, 0x42, 0x3c, 0x10] };

pub const META: Format = Format {
    name: "scoutfs_meta",
    usage: Usage::Filesystem,
    magics: &[MAGIC],
    min_size: 0x20000,
    probe: |device, _| superblock(device).filter(|found| found.format == "scoutfs_meta"),
};

pub const DATA: Format = Format {
    name: "scoutfs_data",
    usage: Usage::Filesystem,
    magics: &[MAGIC],
    min_size: 0x20000,
    probe: |device, _| superblock(device).filter(|found| found.format == "scoutfs_data"),
};

/// A magic of four bytes in the middle of a device is believed only with its checksum.
fn superblock(device: &dyn ReadAt) -> Option<Signature> {
    let sb = device.bytes(OFFSET, BLOCK).ok()?;
    let sum = le32(&sb, 0)?;
    let id = le64(&sb, 8)?;
    let version = le64(&sb, 40)?;
    let flags = le64(&sb, 48)?;
    if sum != !crc32c::crc32c(sb.get(4..)?) {
        return None;
    }
    let (name, block_size) = match flags & IS_META {
        0 => ("scoutfs_data", BLOCK as u32),
        _ => ("scoutfs_meta", LARGE_BLOCK),
    };
    let mut found = Signature::new(name, Usage::Filesystem, MAGIC.offset);
    found.health = Health::Sound;
    found.set_version(version.to_string());
    found.set_uuid(uuid(&sb, 56)?);
    found.tag("FSID", format!("{id:016x}"));
    found.set_fs_block_size(block_size);
    found.set_block_size(block_size);
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_tells_the_devices_apart_and_the_checksum_is_asked_for() {
        let mut device = vec![0; 0x20000];
        let at = OFFSET as usize;
        device[at + 4..at + 8].copy_from_slice(MAGIC.bytes);
        device[at + 8] = 0xab;
        device[at + 40] = 1;
        device[at + 56..at + 72].fill(8);
        let seal = |device: &mut [u8]| {
            let sum = !crc32c::crc32c(&device[at + 4..at + BLOCK]);
            device[at..at + 4].copy_from_slice(&sum.to_le_bytes());
        };
        assert!((DATA.probe)(&device, None).is_none());
        seal(&mut device);
        let found = (DATA.probe)(&device, None).unwrap();
        assert_eq!((found.version.as_deref(), found.block_size), (Some("1"), Some(4096)));
        assert!((META.probe)(&device, None).is_none());
        device[at + 48] = 1;
        seal(&mut device);
        assert_eq!((META.probe)(&device, None).unwrap().block_size, Some(65536));
    }
}
