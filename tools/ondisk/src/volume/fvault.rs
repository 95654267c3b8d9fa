//! FileVault 2: a physical volume of Apple's Core Storage that is encrypted (util-linux: cs_fvault2.c; cryptsetup:
//! lib/fvault2). Its magic is two letters, so its checksum has to be right.

use crate::bytes::{le16, le32, uuid};
use crate::conceal::Edit;
use crate::format::{Extent, Format, Health, Magic, Signature, Usage};
use crate::read::ReadAt;

const BYTES: usize = 512;
const MAGIC: Magic = Magic { offset: 88, bytes: b"CS" };
const BLOCK_TYPE: u16 = 0x10;
/// Of the metadata, from which the volume's key is had with the passphrase.
const KEY: std::ops::Range<usize> = 176..192;
const AES_XTS: u32 = 2;

pub const FORMAT: Format =
    Format { name: "cs_fvault2", usage: Usage::Crypto, magics: &[MAGIC], min_size: BYTES as u64, probe };

fn probe(device: &dyn ReadAt, _magic: Option<&Magic>) -> Option<Signature> {
    let header = header(device)?;
    let version = le16(&header, 8)?;
    let id = uuid(&header, 304)?;
    let mut found = Signature::new("cs_fvault2", Usage::Crypto, MAGIC.offset);
    found.health = Health::Sound;
    found.set_version(version.to_string());
    found.set_uuid(id);
    Some(found)
}

fn header(device: &dyn ReadAt) -> Option<Vec<u8>> {
    let header = device.bytes(0, BYTES).ok()?;
    let version = le16(&header, 8)?;
    let block_type = le16(&header, 10)?;
    let algorithm = le32(&header, 90)?;
    let key_bytes = le32(&header, 168)? as usize;
    let cipher = le32(&header, 172)?;
    let known = (version, algorithm, block_type, key_bytes, cipher) == (1, 1, BLOCK_TYPE, KEY.len(), AES_XTS);
    let is = known && header.get(88..90)? == MAGIC.bytes && le32(&header, 0)? == sum(&header)?;
    is.then_some(header)
}

/// crc32c from the seed that stands beside it, with neither end inverted.
fn sum(header: &[u8]) -> Option<u32> {
    Some(!crc32c::crc32c_append(!le32(header, 4)?, header.get(8..BYTES)?))
}

/// The header without its key, with a checksum that is right again.
pub fn conceal(device: &dyn ReadAt) -> Vec<Edit> {
    let without = || {
        let mut header = header(device)?;
        header.get_mut(KEY)?.fill(0);
        let sum = sum(&header)?.to_le_bytes();
        header.get_mut(..4)?.copy_from_slice(&sum);
        Some(header)
    };
    let Some(header) = without() else { return Vec::new() };
    vec![
        Edit::Put { what: "FileVault's header, without its key", start: 0, bytes: header[..4].to_vec() },
        Edit::Zero {
            what: "FileVault's key",
            extent: Extent { start: KEY.start as u64, length: KEY.len() as u64 },
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut device = vec![0; 1 << 20];
        device[4..8].fill(0xff);
        device[8..12].copy_from_slice(&[1, 0, 0x10, 0]);
        device[88..94].copy_from_slice(b"CS\x01\0\0\0");
        device[168] = 16;
        device[172] = 2;
        device[KEY].fill(0x55);
        device[304..320].fill(3);
        let sum = sum(&device[..BYTES]).unwrap();
        device[..4].copy_from_slice(&sum.to_le_bytes());
        device
    }

    #[test]
    fn two_letters_alone_are_no_volume() {
        let found = probe(&sample(), None).unwrap();
        assert_eq!((found.version.as_deref(), &found.health), (Some("1"), &Health::Sound));
        assert_eq!(found.uuid.as_deref(), Some("03030303-0303-0303-0303-030303030303"));
        for offset in [8, 10, 90, 168, 172, 400] {
            let mut device = sample();
            device[offset] ^= 4;
            assert!(probe(&device, None).is_none(), "{offset}");
        }
    }

    #[test]
    fn a_capture_has_no_key_and_shows_the_same() {
        let mut device = sample();
        let before = probe(&device, None).unwrap();
        for edit in conceal(&device.clone()) {
            match edit {
                Edit::Zero { extent, .. } => {
                    device[extent.start as usize..(extent.start + extent.length) as usize].fill(0);
                }
                Edit::Put { start, bytes, .. } => {
                    device[start as usize..][..bytes.len()].copy_from_slice(&bytes);
                }
            }
        }
        assert!(!device.contains(&0x55));
        assert_eq!(probe(&device, None).unwrap(), before);
    }
}
