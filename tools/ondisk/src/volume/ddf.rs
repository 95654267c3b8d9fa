//! Members of firmware RAID by the SNIA's DDF: a header in the device's last sector, or 257 before the end.

use crate::bytes::{be32, be64, le32, le64, utf8};
use crate::format::{Format, Magic, Signature, Usage};
use crate::read::ReadAt;

const MAGIC: u32 = 0xde11_de11;
const SECTOR: u64 = 512;

pub const FORMAT: Format =
    Format { name: "ddf_raid_member", usage: Usage::Raid, magics: &[], min_size: 0x30000, probe };

fn probe(device: &dyn ReadAt, _magic: Option<&Magic>) -> Option<Signature> {
    let sectors = device.size() / SECTOR;
    [1, 257].into_iter().find_map(|back| {
        let at = sectors.checked_sub(back)? * SECTOR;
        let header = device.bytes(at, SECTOR as usize).ok()?;
        let big = be32(&header, 0)? == MAGIC;
        if !big && le32(&header, 0)? != MAGIC {
            return None;
        }
        let primary = if big { be64(&header, 96)? } else { le64(&header, 96)? };
        if primary != 0 && device.bytes(primary.checked_mul(SECTOR)?, 4).ok()? != header[..4] {
            return None;
        }
        let mut found = Signature::new("ddf_raid_member", Usage::Raid, at);
        let guid = utf8(header.get(8..32)?);
        found.set_uuid_text(guid.trim_end_matches(crate::bytes::is_space).to_string());
        found.set_version(utf8(header.get(32..40)?));
        Some(found)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_at_the_end_points_to_the_primary() {
        let mut device = vec![0; 1 << 20];
        let at = (1 << 20) - 512;
        device[at..at + 4].copy_from_slice(&MAGIC.to_be_bytes());
        device[at + 8..at + 32].copy_from_slice(b"LSI     1234567890abcdef");
        device[at + 32..at + 40].copy_from_slice(b"01.02.00");
        device[at + 103] = 5;
        assert!(probe(&device, None).is_none(), "no primary header");
        device[5 * 512..5 * 512 + 4].copy_from_slice(&MAGIC.to_be_bytes());
        let found = probe(&device, None).unwrap();
        assert_eq!(
            (found.uuid.as_deref(), found.version.as_deref()),
            (Some("LSI     1234567890abcdef"), Some("01.02.00"))
        );
    }
}
