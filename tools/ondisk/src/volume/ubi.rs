//! UBI, as an image of a flash chip (kernel: drivers/mtd/ubi/ubi-media.h): the erase counter's header of its first block.

use crate::bytes::be32;
use crate::checksum::crc32_le;
use crate::format::{Format, Health, Magic, Signature, Usage};
use crate::read::ReadAt;

const BYTES: usize = 64;
/// UBI_VERSION; a later one is not known.
const VERSION: u8 = 1;

pub const FORMAT: Format = Format {
    name: "ubi",
    usage: Usage::Raid,
    magics: &[Magic { offset: 0, bytes: b"UBI#" }],
    min_size: BYTES as u64,
    probe,
};

fn probe(device: &dyn ReadAt, _magic: Option<&Magic>) -> Option<Signature> {
    let header = device.bytes(0, BYTES).ok()?;
    let version = *header.get(4)?;
    let sequence = be32(&header, 24)?;
    let sum = be32(&header, 60)?;
    let should = crc32_le(u32::MAX, header.get(..60)?);
    // Four letters at the start of a text are no chip.
    if sum != should && version != VERSION {
        return None;
    }
    let mut found = Signature::new("ubi", Usage::Raid, 0);
    found.health = Health::of_checksum(sum, should);
    found.set_version(version.to_string());
    if sequence != 0 {
        found.set_uuid_text(sequence.to_string());
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_verified() {
        let mut device = vec![0; 4096];
        device[..5].copy_from_slice(b"UBI#\x01");
        device[24..28].copy_from_slice(&1234_u32.to_be_bytes());
        let sum = crc32_le(u32::MAX, &device[..60]);
        device[60..64].copy_from_slice(&sum.to_be_bytes());
        let found = probe(&device, None).unwrap();
        assert_eq!((&found.health, found.uuid.as_deref()), (&Health::Sound, Some("1234")));
        device[10] = 1;
        assert!(matches!(probe(&device, None).unwrap().health, Health::Damaged(_)));
        device[4] = b' ';
        assert!(probe(&device, None).is_none());
    }
}
