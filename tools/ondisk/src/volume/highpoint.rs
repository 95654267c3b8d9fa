//! Members of HighPoint's firmware RAID: of the 37x chips in the disk's tenth sector, of the 45x before its end
//! (util-linux: highpoint_raid.c; dmraid: hpt37x.h, hpt45x.h). No more than a magic is known, sound or marked bad.

use crate::bytes::le32;
use crate::format::{Format, Magic, Signature, Usage};
use crate::read::ReadAt;

/// 32 bytes into the superblock.
const MAGIC_37X: u64 = 9 * 512 + 32;
const BACK_45X: u64 = 11;
const OK_45X: u32 = 0x5a78_16f3;
const BAD_45X: u32 = 0x5a78_16fd;
const BAD_37X: &[u8] = &[0xfd, 0x16, 0x78, 0x5a];
const BROKEN: &str = "its controller marked it as failed";

pub const HPT37X: Format = Format {
    name: "hpt37x_raid_member",
    usage: Usage::Raid,
    magics: &[
        Magic { offset: MAGIC_37X, bytes: &[0xf0, 0x16, 0x78, 0x5a] },
        Magic { offset: MAGIC_37X, bytes: BAD_37X },
    ],
    min_size: MAGIC_37X + 480,
    probe: |device, magic| {
        let mut found = Signature::new("hpt37x_raid_member", Usage::Raid, MAGIC_37X);
        // The sector behind it is a volume's.
        found.owns(MAGIC_37X - MAGIC_37X % 512, 512, device);
        if magic?.bytes == BAD_37X {
            found.note(BROKEN);
        }
        Some(found)
    },
};

pub const HPT45X: Format =
    Format { name: "hpt45x_raid_member", usage: Usage::Raid, magics: &[], min_size: 0x10000, probe };

fn probe(device: &dyn ReadAt, _magic: Option<&Magic>) -> Option<Signature> {
    let at = (device.size() / 512).checked_sub(BACK_45X)? * 512;
    let magic = le32(&device.bytes(at, 4).ok()?, 0)?;
    let mut found = Signature::new("hpt45x_raid_member", Usage::Raid, at);
    found.owns(at, 512, device);
    match magic {
        OK_45X => Some(found),
        BAD_45X => {
            found.note(BROKEN);
            Some(found)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_its_controller_gave_up_is_told() {
        let mut device = vec![0; 0x10000];
        let at = 0x10000 - 11 * 512;
        for (magic, notes) in [(OK_45X, 0), (BAD_45X, 1)] {
            device[at..at + 4].copy_from_slice(&magic.to_le_bytes());
            assert_eq!(probe(&device, None).unwrap().notes.len(), notes);
        }
        device[at] = 0;
        assert!(probe(&device, None).is_none());
        for (magic, notes) in HPT37X.magics.iter().zip([0, 1]) {
            assert_eq!((HPT37X.probe)(&device, Some(magic)).unwrap().notes.len(), notes);
        }
    }
}
