//! BitLocker (libbde's documentation of the format): a boot sector that points to three copies of its metadata.

use crate::bytes::{Utf16, guid, le16, le32, le64, utf16};
use crate::format::{Format, Magic, Signature, Usage};
use crate::read::ReadAt;

const VISTA: &[u8] = b"\xeb\x52\x90-FVE-FS-";
const WIN7: &[u8] = b"\xeb\x58\x90-FVE-FS-";
const TO_GO: &[u8] = b"\xeb\x58\x90MSWIN4.1";
const FVE: &[u8] = b"-FVE-FS-";
/// Of the block's header, then of the metadata's.
const BLOCK_HEADER: usize = 64;
const HEADER: usize = 48;
/// No volume has more: 64 KiB is what is set aside for it.
const METADATA_MAX: u32 = 64 << 10;
const ENTRY: usize = 8;
const DESCRIPTION: u16 = 7;
const STRING: u16 = 2;

pub const FORMAT: Format = Format {
    name: "BitLocker",
    usage: Usage::Crypto,
    magics: &[
        Magic { offset: 0, bytes: VISTA },
        Magic { offset: 0, bytes: WIN7 },
        Magic { offset: 0, bytes: TO_GO },
    ],
    min_size: 512,
    probe: |device, _| probe(device),
};

/// FAT and NTFS look at it first, whose boot sectors it takes over.
pub fn is(device: &dyn ReadAt) -> bool {
    probe(device).is_some()
}

fn probe(device: &dyn ReadAt) -> Option<Signature> {
    let boot = device.bytes(0, 512).ok()?;
    let mut found = Signature::new("BitLocker", Usage::Crypto, 0);
    let at = match boot.get(..11)? {
        VISTA => return Some(found),
        WIN7 => le64(&boot, 176)?,
        TO_GO => le64(&boot, 440)?,
        _ => return None,
    };
    if at == 0 || at % 64 != 0 {
        return None;
    }
    let header = device.bytes(at, BLOCK_HEADER + HEADER).ok()?;
    let version = le16(&header, 10)?;
    let size = le32(&header, BLOCK_HEADER)?;
    let volume = guid(&header, BLOCK_HEADER + 16)?;
    if header.get(..8)? != FVE || size > METADATA_MAX {
        return None;
    }
    found.set_version(version.to_string());
    let metadata = device.bytes(at + BLOCK_HEADER as u64, size as usize).ok()?;
    let mut entry = HEADER;
    while entry + ENTRY < metadata.len() {
        let length = usize::from(le16(&metadata, entry)?);
        if length < ENTRY || entry + length > metadata.len() {
            return None;
        }
        if le16(&metadata, entry + 2)? == DESCRIPTION && le16(&metadata, entry + 4)? == STRING {
            found.set_label_text(&utf16(metadata.get(entry + ENTRY..entry + length)?, Utf16::Little));
            break;
        }
        entry += length;
    }
    found.set_uuid(volume);
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut device = vec![0; 64 << 10];
        device[..11].copy_from_slice(WIN7);
        device[176..184].copy_from_slice(&0x4000_u64.to_le_bytes());
        device[0x4000..0x4008].copy_from_slice(FVE);
        device[0x400a] = 2;
        device[0x4040] = 80;
        device[0x4050..0x4060].fill(0x66);
        device[0x4070..0x4076].copy_from_slice(&[16, 0, 7, 0, 2, 0]);
        device[0x4078..0x407c].copy_from_slice(b"C\0:\0");
        device
    }

    #[test]
    fn the_description_is_the_label() {
        let found = probe(&sample()).unwrap();
        assert_eq!((found.label.as_deref(), found.version.as_deref()), (Some("C:"), Some("2")));
        assert_eq!(found.uuid.as_deref(), Some("66666666-6666-6666-6666-666666666666"));
    }

    #[test]
    fn metadata_that_is_not_there_is_no_bitlocker() {
        let cases = [("place", 176, 1), ("signature", 0x4000, 0), ("size", 0x4043, 1), ("entry", 0x4070, 3)];
        for (label, at, byte) in cases {
            let mut device = sample();
            device[at] = byte;
            assert!(probe(&device).is_none(), "{label}");
        }
    }
}
