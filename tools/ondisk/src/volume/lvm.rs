//! Physical volumes of LVM2: a label in one of the first four sectors (LVM2: lib/format_text/layout.h). The volume
//! group's metadata is not read here. Also what LVM1 and device-mapper snapshots leave.

use crate::bytes::{le16, le32, le64, utf8};
use crate::checksum::crc32_le;
use crate::format::{Extent, Format, Health, Magic, Signature, Usage};
use crate::read::ReadAt;

const LABEL: &[u8] = b"LABELONE";
const TYPE: &[u8] = b"LVM2 001";
const SECTOR: usize = 512;
/// INITIAL_CRC of lib/misc/crc.h.
const SEED: u32 = 0xf597_a6cf;
const UUID: usize = 32;

pub const FORMAT: Format = Format {
    name: "LVM2_member",
    usage: Usage::Raid,
    magics: &[
        Magic { offset: 0x218, bytes: TYPE },
        Magic { offset: 0x018, bytes: TYPE },
        Magic { offset: 0x418, bytes: TYPE },
        Magic { offset: 0x618, bytes: TYPE },
    ],
    min_size: 4 * SECTOR as u64,
    probe,
};

pub const LVM1: Format = Format {
    name: "LVM1_member",
    usage: Usage::Raid,
    magics: &[Magic { offset: 0, bytes: b"HM" }],
    min_size: SECTOR as u64,
    probe: probe_1,
};

pub const SNAPSHOT: Format = Format {
    name: "DM_snapshot_cow",
    usage: Usage::Other,
    magics: &[Magic { offset: 0, bytes: b"SnAp" }],
    min_size: SECTOR as u64,
    probe: |_, _| Some(Signature::new("DM_snapshot_cow", Usage::Other, 0)),
};

fn probe(device: &dyn ReadAt, magic: Option<&Magic>) -> Option<Signature> {
    let magic = magic?;
    let sector = magic.offset / SECTOR as u64;
    let label = device.bytes(sector * SECTOR as u64, SECTOR).ok()?;
    let number = le64(&label, 8)?;
    let crc = le32(&label, 16)?;
    let uuid = label.get(32..32 + UUID)?;
    let size = le64(&label, 64)?;
    if label.get(..8)? != LABEL {
        return None;
    }
    let mut found = Signature::new("LVM2_member", Usage::Raid, magic.offset);
    found.set_uuid_text(dashed(uuid));
    found.set_version(utf8(magic.bytes));
    found.extent = Some(Extent { start: 0, length: size });
    let sum = crc32_le(SEED, label.get(20..)?);
    found.health = if number != sector {
        Health::Damaged(format!("the label in sector {sector} says that it lies in sector {number}"))
    } else if sum != crc {
        Health::Damaged(format!("the label's checksum {crc:08x} should be {sum:08x}"))
    } else {
        Health::Sound
    };
    Some(found)
}

fn probe_1(device: &dyn ReadAt, _magic: Option<&Magic>) -> Option<Signature> {
    let header = device.bytes(0, SECTOR).ok()?;
    let version = le16(&header, 2)?;
    if !matches!(version, 1 | 2) {
        return None;
    }
    let mut found = Signature::new("LVM1_member", Usage::Raid, 0);
    found.set_uuid_text(dashed(header.get(44..44 + UUID)?));
    Some(found)
}

/// `XXXXXX-XXXX-XXXX-XXXX-XXXX-XXXX-XXXXXX`; none when it is all zeros.
fn dashed(uuid: &[u8]) -> String {
    if uuid.iter().all(|byte| *byte == 0) {
        return String::new();
    }
    let mut out = Vec::new();
    for (index, byte) in uuid.iter().enumerate() {
        if matches!(index, 6 | 10 | 14 | 18 | 22 | 26) {
            out.push(b'-');
        }
        out.push(*byte);
    }
    utf8(&out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(sector: usize) -> Vec<u8> {
        let mut device = vec![0; 1 << 20];
        let label = &mut device[sector * 512..][..512];
        label[..8].copy_from_slice(LABEL);
        label[8] = sector as u8;
        label[20] = 32;
        label[24..32].copy_from_slice(TYPE);
        label[32..64].copy_from_slice(b"abcdefghijklmnopqrstuvwxyzABCDEF");
        label[64..72].copy_from_slice(&(1_u64 << 20).to_le_bytes());
        let sum = crc32_le(SEED, &label[20..]);
        label[16..20].copy_from_slice(&sum.to_le_bytes());
        device
    }

    fn look(device: &dyn ReadAt) -> Option<Signature> {
        let has = |magic: &&Magic| device.bytes(magic.offset, 8).unwrap() == magic.bytes;
        FORMAT.magics.iter().filter(has).find_map(|magic| probe(device, Some(magic)))
    }

    #[test]
    fn a_label_in_any_of_the_first_four_sectors_is_found() {
        for sector in 0..4 {
            let found = look(&sample(sector)).unwrap();
            assert_eq!(found.uuid.as_deref(), Some("abcdef-ghij-klmn-opqr-stuv-wxyz-ABCDEF"));
            assert_eq!((found.version.as_deref(), &found.health), (Some("LVM2 001"), &Health::Sound));
        }
        assert!(look(&sample(4)).is_none());
    }

    #[test]
    fn one_changed_field_is_damage_with_its_reason() {
        let mut device = sample(1);
        device[512 + 40] = b'x';
        let Health::Damaged(reason) = look(&device).unwrap().health else { panic!() };
        assert!(reason.starts_with("the label's checksum "), "{reason}");
        device[512 + 8] = 2;
        let Health::Damaged(reason) = look(&device).unwrap().health else { panic!() };
        assert_eq!(reason, "the label in sector 1 says that it lies in sector 2");
        device[512] = 0;
        assert!(look(&device).is_none());
    }
}
