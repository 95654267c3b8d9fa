//! BitLocker (libbde's documentation of the format): a boot sector that points to three copies of its metadata.

use crate::bytes::{Utf16, guid, le16, le32, le64, utf16};
use crate::conceal::Edit;
use crate::format::{Extent, Format, Magic, Signature, Usage};
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
/// Of a block's header: where the three copies of the metadata begin.
const COPIES: [usize; 3] = [32, 40, 48];
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

/// Where the boot sector says that the three copies of the metadata are; none where it is none of BitLocker's.
fn places(boot: &[u8]) -> Vec<u64> {
    let first = match boot.get(..11) {
        Some(WIN7) => 176,
        Some(TO_GO) => 440,
        _ => return Vec::new(),
    };
    (0..3).filter_map(|copy| le64(boot, first + 8 * copy)).collect()
}

/// Every entry of the metadata but the description: the volume's key is in them, encrypted with what a passphrase or
/// a recovery password becomes.
pub fn conceal(device: &dyn ReadAt) -> Vec<Edit> {
    let Ok(boot) = device.bytes(0, 512) else { return Vec::new() };
    // What is torn holds keys as well; the boot sector holds none.
    let places = places(&boot).into_iter().filter(|at| *at >= 512);
    places.filter_map(|at| entries(device, at)).flatten().collect()
}

fn entries(device: &dyn ReadAt, at: u64) -> Option<Vec<Edit>> {
    let start = at.checked_add((BLOCK_HEADER + HEADER) as u64)?;
    let header = device.bytes(start - HEADER as u64, HEADER).ok()?;
    let size = le32(&header, 0)?.min(METADATA_MAX) as usize;
    let metadata = device.bytes(start, size.checked_sub(HEADER)?).ok()?;
    let mut edits = Vec::new();
    let mut at = 0;
    while let (Some(length), Some(kind)) = (le16(&metadata, at), le16(&metadata, at + 2)) {
        // What is no entry ends the list, and goes as a whole.
        let length = usize::from(length);
        let end = if length < ENTRY { metadata.len() } else { (at + length).min(metadata.len()) };
        let content = at + ENTRY;
        if kind != DESCRIPTION && content < end {
            let extent = Extent { start: start + content as u64, length: (end - content) as u64 };
            edits.push(Edit::Zero { what: "keys of BitLocker", extent });
        }
        at = end;
    }
    Some(edits)
}

fn probe(device: &dyn ReadAt) -> Option<Signature> {
    let boot = device.bytes(0, 512).ok()?;
    let mut found = Signature::new("BitLocker", Usage::Crypto, 0);
    if boot.starts_with(VISTA) {
        return Some(found);
    }
    let places = places(&boot);
    let first = *places.first()?;
    if let Some(found) = metadata(device, found.clone(), first) {
        return Some(found);
    }
    // Of a boot sector that looks like another's (FAT's and NTFS's begin like it) the first decides: a copy has to say where it
    // lies.
    let own = |at: &u64| device.bytes(*at, BLOCK_HEADER).is_ok_and(|block| le64(&block, 32) == Some(first));
    let other = places.into_iter().skip(1).filter(own);
    let (at, copy) = other.filter_map(|at| Some((at, metadata(device, found.clone(), at)?))).next()?;
    found = copy;
    found.damage(format!("metadata at {first}: torn or gone; its copy at {at} is there (Windows uses it)"));
    Some(found)
}

fn metadata(device: &dyn ReadAt, mut found: Signature, at: u64) -> Option<Signature> {
    if at == 0 || !at.is_multiple_of(64) {
        return None;
    }
    at.checked_add(u64::from(METADATA_MAX))?;
    let header = device.bytes(at, BLOCK_HEADER + HEADER).ok()?;
    let version = le16(&header, 10)?;
    let size = le32(&header, BLOCK_HEADER)?;
    let volume = guid(&header, BLOCK_HEADER + 16)?;
    if header.get(..8)? != FVE || size > METADATA_MAX {
        return None;
    }
    found.set_version(version.to_string());
    found.owns(0, 512, device);
    for copy in COPIES.into_iter().filter_map(|at| le64(&header, at)).filter(|start| *start > 0) {
        found.owns(copy, METADATA_MAX.into(), device);
    }
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
    use crate::format::Health;

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
    fn keys_are_concealed_and_the_description_is_not() {
        let mut device = sample();
        device[0x4040] = 120;
        // A key before the description, and one behind it.
        device.copy_within(0x4070..0x4080, 0x4080);
        device[0x4070..0x4080].copy_from_slice(&[16, 0, 2, 0, 8, 0, 0, 0, 9, 9, 9, 9, 9, 9, 9, 9]);
        device[0x4090..0x40a0].copy_from_slice(&[16, 0, 3, 0, 5, 0, 0, 0, 9, 9, 9, 9, 9, 9, 9, 9]);
        let mut windows = crate::Windows::new(64 << 10, 64 << 10);
        windows.note(0, &device);
        let found = probe(&windows);
        for edit in conceal(&windows) {
            let Edit::Zero { extent, .. } = edit else { panic!("{edit:?}") };
            windows.zero(extent);
        }
        assert_eq!(probe(&windows), found);
        assert_eq!(found.unwrap().label.as_deref(), Some("C:"));
        let left = windows.bytes(0, 64 << 10).unwrap();
        assert!(!left.windows(2).any(|pair| pair == [9, 9]));
    }

    #[test]
    fn a_copy_of_the_metadata_is_used_said_so_and_concealed_too() {
        let mut device = sample();
        device[184..192].copy_from_slice(&0x8000_u64.to_le_bytes());
        device[0x4020..0x4028].copy_from_slice(&0x4000_u64.to_le_bytes());
        device[0x4040] = 100;
        device[0x4080..0x4090].copy_from_slice(&[16, 0, 3, 0, 5, 0, 0, 0, 9, 9, 9, 9, 9, 9, 9, 9]);
        device.copy_within(0x4000..0x4100, 0x8000);
        assert_eq!(probe(&device).unwrap().health, Health::Unchecked);
        device[0x4000] = 0;
        let found = probe(&device).unwrap();
        let Health::Damaged(reason) = &found.health else { panic!() };
        assert_eq!(reason, "metadata at 16384: torn or gone; its copy at 32768 is there (Windows uses it)");
        assert_eq!(found.label.as_deref(), Some("C:"));
        for edit in conceal(&device.clone()) {
            let Edit::Zero { extent, .. } = edit else { panic!("{edit:?}") };
            device[extent.start as usize..(extent.start + extent.length) as usize].fill(0);
        }
        assert!(!device.windows(2).any(|pair| pair == [9, 9]));
        assert_eq!(probe(&device).unwrap(), found);
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
