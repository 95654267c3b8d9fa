//! Members of NVIDIA's MediaShield: the disk's last but one sector (util-linux: nvidia_raid.c; dmraid: nv.h).

use crate::bytes::{le16, le32};
use crate::format::{Format, Health, Magic, Signature, Usage};
use crate::read::ReadAt;

const VENDOR: &[u8] = b"NVIDIA  ";
const BYTES: usize = 120;

pub const FORMAT: Format =
    Format { name: "nvidia_raid_member", usage: Usage::Raid, magics: &[], min_size: 0x10000, probe };

fn probe(device: &dyn ReadAt, _magic: Option<&Magic>) -> Option<Signature> {
    let at = (device.size() / 512).checked_sub(2)? * 512;
    let sb = device.bytes(at, BYTES).ok()?;
    let words = le32(&sb, 8)?;
    let version = le16(&sb, 16)?;
    if sb.get(..8)? != VENDOR || words as usize != BYTES / 4 {
        return None;
    }
    let mut found = Signature::new("nvidia_raid_member", Usage::Raid, at);
    found.owns(at, 512, device);
    found.health = match sum(&sb) {
        0 => Health::Sound,
        sum => Health::Damaged(format!("its words add up to {sum:08x}, and not to zero")),
    };
    found.set_version(version.to_string());
    Some(found)
}

fn sum(sb: &[u8]) -> u32 {
    let words = sb.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
    words.fold(0, u32::wrapping_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_checksum_is_damage() {
        let mut device = vec![0; 0x10000];
        let at = 0xfc00;
        device[at..at + 8].copy_from_slice(VENDOR);
        device[at + 8] = 30;
        device[at + 16] = 100;
        let rest = sum(&device[at..at + BYTES]).wrapping_neg();
        device[at + 12..at + 16].copy_from_slice(&rest.to_le_bytes());
        let found = probe(&device, None).unwrap();
        assert_eq!((found.version.as_deref(), &found.health), (Some("100"), &Health::Sound));
        device[at + 50] = 1;
        assert!(matches!(probe(&device, None).unwrap().health, Health::Damaged(_)));
        device[at + 8] = 31;
        assert!(probe(&device, None).is_none());
    }
}
