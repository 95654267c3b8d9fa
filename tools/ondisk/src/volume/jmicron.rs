//! Members of JMicron's firmware RAID: the disk's last sector (util-linux: jmicron_raid.c; dmraid: jm.h). Two letters are
//! its signature, so its checksum has to be right.

use crate::bytes::le16;
use crate::format::{Format, Health, Magic, Signature, Usage};
use crate::read::ReadAt;

const SIGNATURE: &[u8] = b"JM";
const BYTES: usize = 128;
/// The highest RAID level.
const MODES: u8 = 5;

pub const FORMAT: Format =
    Format { name: "jmicron_raid_member", usage: Usage::Raid, magics: &[], min_size: 0x10000, probe };

fn probe(device: &dyn ReadAt, _magic: Option<&Magic>) -> Option<Signature> {
    let at = (device.size() / 512).checked_sub(1)? * 512;
    let sb = device.bytes(at, BYTES).ok()?;
    let version = le16(&sb, 2)?;
    let mode = *sb.get(48)?;
    let words = sb.chunks_exact(2).map(|word| u16::from_le_bytes([word[0], word[1]]));
    // Zero, or one where a firmware does not count its own carry.
    if sb.get(..2)? != SIGNATURE || words.fold(0, u16::wrapping_add) > 1 || mode > MODES {
        return None;
    }
    let mut found = Signature::new("jmicron_raid_member", Usage::Raid, at);
    found.owns(at, 512, device);
    found.health = Health::Sound;
    found.set_version(format!("{}.{}", version >> 8, version & 0xff));
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_letters_alone_are_no_member() {
        let mut device = vec![0; 0x10000];
        device[0xfe00..0xfe04].copy_from_slice(b"JM\x02\x01");
        assert!(probe(&device, None).is_none());
        let sum = u16::from_le_bytes(*b"JM").wrapping_add(0x102).wrapping_neg();
        device[0xfe04..0xfe06].copy_from_slice(&sum.to_le_bytes());
        let found = probe(&device, None).unwrap();
        assert_eq!((found.version.as_deref(), found.health), (Some("1.2"), Health::Sound));
        device[0xfe30] = 6;
        assert!(probe(&device, None).is_none());
    }
}
