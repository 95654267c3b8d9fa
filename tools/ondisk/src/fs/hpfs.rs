//! HPFS of OS/2 (kernel: fs/hpfs/hpfs.h): a superblock and a spare one; label and serial number are the boot block's.

use crate::format::{Format, Magic, Signature, Usage};
use crate::read::ReadAt;

const SUPERBLOCK: u64 = 0x2000;
const SPARE: u64 = 0x2200;
const SPARE_MAGIC: &[u8] = &[0x49, 0x18, 0x91, 0xf9];
const SECTOR: u32 = 512;

pub const FORMAT: Format = Format {
    name: "hpfs",
    usage: Usage::Filesystem,
    magics: &[Magic { offset: SUPERBLOCK, bytes: &[0x49, 0xe8, 0x95, 0xf9] }],
    min_size: SPARE + SECTOR as u64,
    probe,
};

fn probe(device: &dyn ReadAt, magic: Option<&Magic>) -> Option<Signature> {
    let boot = device.bytes(0, SECTOR as usize).ok()?;
    let version = *device.bytes(SUPERBLOCK, 9).ok()?.get(8)?;
    if device.bytes(SPARE, 4).ok()? != SPARE_MAGIC {
        return None;
    }
    let mut found = Signature::new("hpfs", Usage::Filesystem, magic?.offset);
    if boot.get(510..)? == [0x55, 0xaa] && boot.get(54..58)? == b"HPFS" && *boot.get(38)? == 0x28 {
        found.set_label(boot.get(43..54)?);
        let [a, b, c, d] = [*boot.get(42)?, *boot.get(41)?, *boot.get(40)?, *boot.get(39)?];
        if [a, b, c, d] != [0; 4] {
            found.set_uuid_text(format!("{a:02X}{b:02X}-{c:02X}{d:02X}"));
        }
    }
    found.set_version(version.to_string());
    found.set_fs_block_size(SECTOR);
    found.set_block_size(SECTOR);
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spare_superblock_is_asked_for_and_the_boot_block_has_the_label() {
        let mut device = vec![0; 1 << 20];
        device[0x2000..0x2004].copy_from_slice(FORMAT.magics[0].bytes);
        device[0x2008] = 2;
        assert!(probe(&device, Some(&FORMAT.magics[0])).is_none());
        device[0x2200..0x2204].copy_from_slice(SPARE_MAGIC);
        let found = probe(&device, Some(&FORMAT.magics[0])).unwrap();
        assert_eq!((found.version.as_deref(), found.label), (Some("2"), None));
        device[38..58].copy_from_slice(b"\x28\x01\x02\x03\x04WARP 4     HPFS");
        device[510..512].copy_from_slice(&[0x55, 0xaa]);
        let found = probe(&device, Some(&FORMAT.magics[0])).unwrap();
        assert_eq!((found.label.as_deref(), found.uuid.as_deref()), (Some("WARP 4"), Some("0403-0201")));
    }
}
