//! Members of Intel's firmware RAID (IMSM; mdadm: super-intel.c): an anchor in the last but one sector of the disk.

use crate::bytes::{le32, utf8};
use crate::format::{Format, Health, Magic, Signature, Usage};
use crate::read::ReadAt;

const SIGNATURE: &[u8] = b"Intel Raid ISM Cfg Sig. ";
/// Largest of what is read to verify the checksum; mdadm makes a few sectors.
const SIZE_MAX: u32 = 64 << 10;

pub const FORMAT: Format =
    Format { name: "isw_raid_member", usage: Usage::Raid, magics: &[], min_size: 0x10000, probe };

fn probe(device: &dyn ReadAt, _magic: Option<&Magic>) -> Option<Signature> {
    [512, 4096].into_iter().find_map(|sector: u64| {
        let at = (device.size() / sector).checked_sub(2)? * sector;
        let anchor = device.bytes(at, sector as usize).ok()?;
        if !anchor.starts_with(SIGNATURE) {
            return None;
        }
        let sum = le32(&anchor, 32)?;
        let size = le32(&anchor, 36)?;
        let mut found = Signature::new("isw_raid_member", Usage::Raid, at);
        found.set_version(format!("{:>6}", utf8(anchor.get(SIGNATURE.len()..32)?)));
        found.health = match device_sum(device, at, sector, &anchor, size) {
            Some(should) => Health::of_checksum(sum, should),
            None => Health::Damaged(format!("its {size} bytes cannot be read")),
        };
        Some(found)
    })
}

/// All words but the sum itself; what does not fit the anchor lies in the sectors before it.
fn device_sum(device: &dyn ReadAt, at: u64, sector: u64, anchor: &[u8], size: u32) -> Option<u32> {
    if !(40..=SIZE_MAX).contains(&size) {
        return None;
    }
    let more = u64::from(size).div_ceil(sector) - 1;
    let rest = device.bytes(at.checked_sub(more * sector)?, (more * sector) as usize).ok()?;
    let whole = [anchor, &rest].concat();
    let words = whole.get(..size as usize)?.chunks_exact(4);
    let sum = words.fold(0_u32, |sum, word| sum.wrapping_add(le32(word, 0).unwrap_or_default()));
    Some(sum.wrapping_sub(le32(anchor, 32)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_covers_the_sectors_before_the_anchor() {
        let mut device = vec![0; 1 << 20];
        let at = (1 << 20) - 1024;
        device[at..at + 30].copy_from_slice(b"Intel Raid ISM Cfg Sig. 1.3.00");
        device[at + 36..at + 40].copy_from_slice(&600_u32.to_le_bytes());
        device[at - 512] = 9;
        let words = device[at..at + 512].chunks(4).chain(device[at - 512..at - 424].chunks(4));
        let sum: u32 =
            words.map(|word| u32::from_le_bytes(word.try_into().unwrap())).fold(0, u32::wrapping_add);
        device[at + 32..at + 36].copy_from_slice(&sum.to_le_bytes());
        let found = probe(&device, None).unwrap();
        assert_eq!((&found.health, found.version.as_deref()), (&Health::Sound, Some("1.3.00")));
        device[at - 500] = 1;
        let Health::Damaged(reason) = probe(&device, None).unwrap().health else { panic!() };
        assert!(reason.starts_with("checksum "), "{reason}");
    }
}
