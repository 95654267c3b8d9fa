//! LUKS 1 and 2 (cryptsetup's on-disk format documents). LUKS 2 has two headers with checksums; the second
//! is found by itself when the first is gone. Keys and segments are not read here.

use crate::bytes::{be16, be64, text, utf8};
use crate::format::{Format, Health, Magic, Signature, Usage};
use crate::read::ReadAt;
use sha2::Digest;

const PRIMARY: &[u8] = b"LUKS\xba\xbe";
const SECONDARY: &[u8] = b"SKUL\xba\xbe";
/// Where a second header may lie, which is how long the first one is.
const SECONDARIES: [u64; 9] =
    [0x4000, 0x8000, 0x10000, 0x20000, 0x40000, 0x80000, 0x10_0000, 0x20_0000, 0x40_0000];
const BYTES: usize = 512;
const CHECKSUM: std::ops::Range<usize> = 448..512;
/// The longest header.
const HEADER_MAX: u64 = 4 << 20;

pub const FORMAT: Format =
    Format { name: "crypto_LUKS", usage: Usage::Crypto, magics: &[], min_size: BYTES as u64, probe };

fn probe(device: &dyn ReadAt, _magic: Option<&Magic>) -> Option<Signature> {
    let Some(first) = Header::read(device, 0, PRIMARY) else {
        let (second, at) = second(device)?;
        let mut found = second.signature(device, at);
        found.damage(format!("its first header is gone; the second at {at} is sound (cryptsetup repair)"));
        return Some(found);
    };
    let mut found = first.signature(device, 0);
    if first.version != 2 {
        return Some(found);
    }
    let first_fault = first.fault(device, 0).err();
    let second = Header::read(device, first.size, SECONDARY);
    let second_fault = match &second {
        Some(second) => second.fault(device, first.size).err(),
        None => Some("it is gone".to_string()),
    };
    match (first_fault, second_fault) {
        (None, None) => {
            if second.is_some_and(|second| second.sequence != first.sequence) {
                found.note("its two headers are of different age; cryptsetup takes the newer one");
            }
        }
        (None, Some(reason)) => found
            .note(format!("its second header at {} is not sound: {reason} (cryptsetup repair)", first.size)),
        (Some(reason), None) => found.damage(format!(
            "its first header: {reason}; the second at {} is sound (cryptsetup repair)",
            first.size
        )),
        // The length that the first one says may be what is torn.
        (Some(reason), Some(_)) => match self::second(device) {
            Some((_, at)) => found.damage(format!(
                "its first header: {reason}; the second at {at} is sound (cryptsetup repair)"
            )),
            None => found.damage(format!("its first header: {reason}; no second one is sound")),
        },
    }
    Some(found)
}

/// A second header that is sound.
fn second(device: &dyn ReadAt) -> Option<(Header, u64)> {
    SECONDARIES.into_iter().find_map(|at| {
        let header = Header::read(device, at, SECONDARY)?;
        header.fault(device, at).is_ok().then_some((header, at))
    })
}

struct Header {
    version: u16,
    size: u64,
    sequence: u64,
    label: Vec<u8>,
    checksum_kind: String,
    uuid: Vec<u8>,
    subsystem: Vec<u8>,
}

impl Header {
    fn read(device: &dyn ReadAt, at: u64, magic: &[u8]) -> Option<Header> {
        let bytes = device.bytes(at, BYTES).ok()?;
        let version = be16(&bytes, 6)?;
        let offset = be64(&bytes, 256)?;
        if bytes.get(..6)? != magic || (version == 2 && offset != at) {
            return None;
        }
        Some(Header {
            version,
            size: be64(&bytes, 8)?,
            sequence: be64(&bytes, 16)?,
            label: bytes.get(24..72)?.to_vec(),
            checksum_kind: text(&bytes, 72, 32).unwrap_or_default(),
            uuid: bytes.get(168..208)?.to_vec(),
            subsystem: bytes.get(208..256)?.to_vec(),
        })
    }

    fn fault(&self, device: &dyn ReadAt, at: u64) -> Result<(), String> {
        if self.version != 2 {
            return Err(format!("version {} has no second header", self.version));
        }
        if !SECONDARIES.contains(&self.size) || self.size > HEADER_MAX {
            return Err(format!("a header has no {} bytes", self.size));
        }
        let mut bytes = device
            .bytes(at, self.size as usize) // HEADER_MAX at most
            .map_err(|error| format!("it cannot be read: {error}"))?;
        let stored: Vec<u8> = bytes[CHECKSUM].to_vec();
        bytes[CHECKSUM].fill(0);
        let sum = match self.checksum_kind.as_str() {
            "sha256" => sha2::Sha256::digest(&bytes).to_vec(),
            "sha512" => sha2::Sha512::digest(&bytes).to_vec(),
            // cryptsetup lets one choose another hash; nobody does.
            _ => return Ok(()),
        };
        if stored.starts_with(&sum) {
            Ok(())
        } else {
            Err(format!("its {} checksum does not match", self.checksum_kind))
        }
    }

    fn signature(&self, device: &dyn ReadAt, at: u64) -> Signature {
        let mut found = Signature::new("crypto_LUKS", Usage::Crypto, at);
        if self.version == 2 && self.fault(device, at).is_ok() {
            found.health = Health::Sound;
        }
        found.set_version(self.version.to_string());
        if matches!(self.version, 1 | 2) {
            found.set_uuid_text(utf8(&self.uuid).trim_end_matches(crate::bytes::is_space).to_string());
        }
        if self.version == 2 {
            found.set_label(&self.label);
            found.set_name("SUBSYSTEM", &utf8(&self.subsystem));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn put(device: &mut [u8], offset: usize, bytes: &[u8]) {
        device[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    fn seal(device: &mut [u8], at: usize) {
        device[at..][CHECKSUM].fill(0);
        let sum = sha2::Sha256::digest(&device[at..at + 0x4000]);
        put(device, at + CHECKSUM.start, &sum);
    }

    fn sample() -> Vec<u8> {
        let mut device = vec![0; 1 << 20];
        for (at, magic) in [(0, PRIMARY), (0x4000, SECONDARY)] {
            put(&mut device, at, magic);
            put(&mut device, at + 6, &[0, 2]);
            put(&mut device, at + 8, &0x4000_u64.to_be_bytes());
            put(&mut device, at + 16, &3_u64.to_be_bytes());
            put(&mut device, at + 24, b"vault");
            put(&mut device, at + 72, b"sha256");
            put(&mut device, at + 168, b"1a2b3c4d-0000-4000-8000-00000000abcd");
            put(&mut device, at + 256, &(at as u64).to_be_bytes());
            seal(&mut device, at);
        }
        device
    }

    fn reason(signature: &Signature) -> &str {
        match &signature.health {
            Health::Damaged(reason) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn both_headers_are_verified() {
        let found = probe(&sample(), None).unwrap();
        assert_eq!((&found.health, &found.notes), (&Health::Sound, &Vec::new()));
        assert_eq!((found.version.as_deref(), found.label.as_deref()), (Some("2"), Some("vault")));
        assert_eq!(found.uuid.as_deref(), Some("1a2b3c4d-0000-4000-8000-00000000abcd"));
        let mut device = sample();
        device[5000] = 1;
        assert_eq!(
            reason(&probe(&device, None).unwrap()),
            "its first header: its sha256 checksum does not match; the second at 16384 is sound (cryptsetup repair)"
        );
        device[0x4000 + 5000] = 1;
        assert!(reason(&probe(&device, None).unwrap()).ends_with("no second one is sound"));
        let mut device = sample();
        device[0x4000 + 5000] = 1;
        let found = probe(&device, None).unwrap();
        assert_eq!((&found.health, found.notes.len()), (&Health::Sound, 1));
    }

    #[test]
    fn a_first_header_that_is_gone_leaves_the_second() {
        let mut device = sample();
        device[..4096].fill(0);
        let found = probe(&device, None).unwrap();
        assert_eq!(
            reason(&found),
            "its first header is gone; the second at 16384 is sound (cryptsetup repair)"
        );
        assert_eq!((found.label.as_deref(), found.magic_offset), (Some("vault"), 0x4000));
        put(&mut device, 0x4000 + 256, &5_u64.to_be_bytes());
        assert!(probe(&device, None).is_none());
    }

    #[test]
    fn headers_of_different_age_are_said() {
        let mut device = sample();
        put(&mut device, 16, &4_u64.to_be_bytes());
        seal(&mut device, 0);
        assert_eq!(probe(&device, None).unwrap().notes.len(), 1);
    }

    #[test]
    fn version_1_has_a_uuid_and_no_checksum() {
        let mut device = vec![0; 1 << 20];
        put(&mut device, 0, PRIMARY);
        put(&mut device, 6, &[0, 1]);
        put(&mut device, 168, b"1a2b3c4d-0000-4000-8000-00000000abcd");
        let found = probe(&device, None).unwrap();
        assert_eq!((found.version.as_deref(), &found.health), (Some("1"), &Health::Unchecked));
        assert_eq!(found.uuid.as_deref(), Some("1a2b3c4d-0000-4000-8000-00000000abcd"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn no_mutated_header_panics(changes in proptest::collection::vec((6usize..512, any::<u8>()), 0..12)) {
            let mut device = sample();
            for (offset, byte) in changes {
                device[offset] = byte;
            }
            let _ = probe(&device, None);
        }
    }
}
