//! Members of LSI's MegaRAID: a signature in the disk's last sector (util-linux: lsi_raid.c; dmraid: lsi.h).

use crate::format::{Format, Magic, Signature, Usage};
use crate::read::ReadAt;

const SIGNATURE: &[u8] = b"$XIDE$";

pub const FORMAT: Format =
    Format { name: "lsi_mega_raid_member", usage: Usage::Raid, magics: &[], min_size: 0x10000, probe };

fn probe(device: &dyn ReadAt, _magic: Option<&Magic>) -> Option<Signature> {
    let at = (device.size() / 512).checked_sub(1)? * 512;
    if device.bytes(at, SIGNATURE.len()).ok()? != SIGNATURE {
        return None;
    }
    let mut found = Signature::new("lsi_mega_raid_member", Usage::Raid, at);
    found.owns(at, 512, device);
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_in_the_last_sector() {
        let mut device = vec![0; 0x10000];
        device[0xfe00..0xfe06].copy_from_slice(SIGNATURE);
        assert_eq!(probe(&device, None).unwrap().magic_offset, 0xfe00);
        device.push(0);
        assert!(probe(&device, None).is_some(), "a piece of a sector behind it");
        device.extend([0; 512]);
        assert!(probe(&device, None).is_none());
    }
}
