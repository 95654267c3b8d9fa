//! Members of Silicon Image's Medley: the disk's last sector (util-linux: silicon_raid.c; dmraid: sil.h).

use crate::bytes::{le16, le32};
use crate::format::{Format, Health, Magic, Signature, Usage};
use crate::read::ReadAt;

const MAGIC: u32 = 0x2f00_0000;
const MAGIC_AT: usize = 0x60;
/// Up to checksum1: with it, the words add up to zero.
const SUMMED: usize = 0x13e;
const DISKS: u8 = 8;
/// Copies, and how far they lie apart.
const AREAS: u64 = 4;
const APART: u64 = 512 * 512;

pub const FORMAT: Format =
    Format { name: "silicon_medley_raid_member", usage: Usage::Raid, magics: &[], min_size: 0x10000, probe };

fn probe(device: &dyn ReadAt, _magic: Option<&Magic>) -> Option<Signature> {
    let at = (device.size() / 512).checked_sub(1)? * 512;
    let sb = device.bytes(at, SUMMED + 2).ok()?;
    let magic = le32(&sb, MAGIC_AT)?;
    let (minor, major) = (le16(&sb, 0x108)?, le16(&sb, 0x10a)?);
    let disk = *sb.get(0x116)?;
    // Three bytes of the magic are zeros.
    if magic != MAGIC || disk >= DISKS || sum(&sb) != 0 {
        return None;
    }
    let mut found = Signature::new("silicon_medley_raid_member", Usage::Raid, at + MAGIC_AT as u64);
    found.health = Health::Sound;
    for area in (0..AREAS).filter_map(|number| at.checked_sub(number * APART)) {
        // A copy is known by being one: what else lies there is a volume's.
        if device.bytes(area, SUMMED + 2).is_ok_and(|copy| copy.get(MAGIC_AT..) == sb.get(MAGIC_AT..)) {
            found.owns(area, 512, device);
        }
    }
    found.set_version(format!("{major}.{minor}"));
    Some(found)
}

fn sum(sb: &[u8]) -> u16 {
    let words = sb.chunks_exact(2).map(|word| u16::from_le_bytes([word[0], word[1]]));
    words.fold(0, u16::wrapping_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_asked_for() {
        let mut device = vec![0; 0x10000];
        let sb = &mut device[0xfe00..];
        sb[MAGIC_AT + 3] = 0x2f;
        sb[0x108..0x10c].copy_from_slice(&[1, 0, 6, 0]);
        let rest = sum(&sb[..SUMMED]).wrapping_neg();
        assert!(probe(&device, None).is_none());
        device[0xfe00 + SUMMED..0xfe00 + SUMMED + 2].copy_from_slice(&rest.to_le_bytes());
        let found = probe(&device, None).unwrap();
        assert_eq!((found.version.as_deref(), found.magic_offset), (Some("6.1"), 0xfe60));
        assert_eq!(found.own.len(), 1);
        let copied = [&device[0xfe00..], &vec![0; 511 * 512], &device[0xfe00..]].concat();
        let starts: Vec<u64> = probe(&copied, None).unwrap().own.iter().map(|own| own.start).collect();
        assert_eq!(starts, [512 * 512, 0]);
        device[0xfe00 + 0x116] = 8;
        assert!(probe(&device, None).is_none(), "a ninth disk");
    }
}
