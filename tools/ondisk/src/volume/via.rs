//! Members of VIA's firmware RAID: the disk's last sector (util-linux: via_raid.c; dmraid: via.h). Its signature is that
//! of any boot sector, so its checksum has to be right.

use crate::bytes::le16;
use crate::format::{Format, Health, Magic, Signature, Usage};
use crate::read::ReadAt;

const SIGNATURE: u16 = 0xaa55;
/// Up to the checksum, which is their sum.
const SUMMED: usize = 50;

pub const FORMAT: Format =
    Format { name: "via_raid_member", usage: Usage::Raid, magics: &[], min_size: 0x10000, probe };

fn probe(device: &dyn ReadAt, _magic: Option<&Magic>) -> Option<Signature> {
    let at = (device.size() / 512).checked_sub(1)? * 512;
    let sb = device.bytes(at, SUMMED + 1).ok()?;
    let version = *sb.get(2)?;
    let sum = sb.get(..SUMMED)?.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    if le16(&sb, 0)? != SIGNATURE || version > 2 || sum != *sb.get(SUMMED)? {
        return None;
    }
    let mut found = Signature::new("via_raid_member", Usage::Raid, at);
    found.owns(at, 512, device);
    found.health = Health::Sound;
    found.set_version(version.to_string());
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_its_checksum_it_is_a_boot_sector() {
        let mut device = vec![0; 0x10000];
        device[0xfe00..0xfe04].copy_from_slice(&[0x55, 0xaa, 1, 7]);
        assert!(probe(&device, None).is_none());
        device[0xfe00 + SUMMED] = 0x55_u8.wrapping_add(0xaa).wrapping_add(8);
        let found = probe(&device, None).unwrap();
        assert_eq!((found.version.as_deref(), found.health), (Some("1"), Health::Sound));
        device[0xfe02..0xfe04].copy_from_slice(&[3, 5]);
        assert!(probe(&device, None).is_none(), "a later version");
    }
}
