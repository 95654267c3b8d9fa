//! DRBD 8 and 9 with internal metadata, in the device's last 4 KiB (drbd: drbd_meta_data.h).

use crate::bytes::{be32, be64};
use crate::format::{Format, Magic, Signature, Usage};
use crate::read::ReadAt;

const BLOCK: usize = 4096;
const MAGIC_08: u32 = 0x8374_026b;
const MAGIC_84_UNCLEAN: u32 = 0x8374_026c;
const MAGIC_09: u32 = 0x8374_026d;

pub const FORMAT: Format = Format { name: "drbd", usage: Usage::Raid, magics: &[], min_size: 0x10000, probe };

fn probe(device: &dyn ReadAt, _magic: Option<&Magic>) -> Option<Signature> {
    let at = device.size().checked_sub(BLOCK as u64)?;
    let block = device.bytes(at, BLOCK).ok()?;
    let magic = be32(&block, 60)?;
    let bitmap_bytes = be32(&block, 80)?;
    let (uuid, fields, version) = match magic {
        MAGIC_08 | MAGIC_84_UNCLEAN => (be64(&block, 40)?, 100, "v08"),
        MAGIC_09 => (be64(&block, 48)?, 1392, "v09"),
        _ => return None,
    };
    if bitmap_bytes != BLOCK as u32 || block.get(fields..)?.iter().any(|byte| *byte != 0) {
        return None;
    }
    let mut found = Signature::new("drbd", Usage::Raid, at + 60);
    found.owns(at, BLOCK as u64, device);
    if uuid != 0 {
        found.set_uuid_text(format!("{uuid:x}"));
    }
    found.set_version(version);
    found.dirty = magic == MAGIC_84_UNCLEAN;
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_told_apart_and_padding_has_to_be_zero() {
        for (magic, at, version) in [(MAGIC_08, 40, "v08"), (MAGIC_09, 48, "v09")] {
            let mut device = vec![0; 0x10000];
            let block = &mut device[0xf000..];
            block[60..64].copy_from_slice(&magic.to_be_bytes());
            block[82] = 16;
            block[at + 7] = 0xab;
            let found = probe(&device, None).unwrap();
            assert_eq!((found.uuid.as_deref(), found.version.as_deref()), (Some("ab"), Some(version)));
            device[0xfffe] = 1;
            assert!(probe(&device, None).is_none());
        }
    }
}
