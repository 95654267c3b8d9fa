//! bcachefs: superblocks at 4 KiB, 2 MiB and before the end's last MiB (kernel: fs/bcachefs/bcachefs_format.h).

use crate::bytes::{le16, le32, le64, utf8, uuid};
use crate::checksum::crc64_we;
use crate::conceal::Edit;
use crate::format::{Extent, Format, Health, Magic, Signature, Usage};
use crate::read::ReadAt;
use crate::volume::bcache;

const MAGIC: &[u8] = b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef";
const SECTOR: u64 = 512;
const FIELDS: usize = 752;
/// 64 KiB of sectors would be 32 MiB; a superblock's own limit is far below.
const SIZE_BITS_MAX: u8 = 16;
/// Bytes of one that are read; mkfs makes a few KiB.
const SIZE_MAX: u64 = 1 << 20;
const MEMBERS: u32 = 1;
/// BCH_SB_FIELD_crypt: the key, encrypted with a passphrase unless it has none.
const CRYPT: u32 = 2;
const DISK_GROUPS: u32 = 5;

pub const FORMAT: Format =
    Format { name: "bcachefs", usage: Usage::Filesystem, magics: &[], min_size: 256 * SECTOR, probe };

fn probe(device: &dyn ReadAt, _magic: Option<&Magic>) -> Option<Signature> {
    let mut copies = places(device).filter_map(|at| Some((at, superblock(device, at)?)));
    let (at, mut found) = copies.next()?;
    let is_torn = |found: &Signature| matches!(found.health, Health::Damaged(_));
    if at == bcache::OFFSET && !is_torn(&found) {
        return Some(found);
    }
    let reason = match &found.health {
        Health::Damaged(reason) => reason.clone(),
        Health::Sound | Health::Unchecked => "superblock: gone".to_string(),
    };
    let other =
        if is_torn(&found) { copies.find(|(_, copy)| !is_torn(copy)) } else { Some((at, found.clone())) };
    let told = match other {
        Some((at, copy)) => {
            found = copy;
            format!("{reason}; its copy at {at} is sound (bcachefs fsck uses it)")
        }
        None => format!("{reason}; no copy of it is sound"),
    };
    found.health = Health::Damaged(told);
    Some(found)
}

fn places(device: &dyn ReadAt) -> impl Iterator<Item = u64> {
    let end = device.size().checked_sub(1 << 20);
    [Some(bcache::OFFSET), Some(2 << 20), end].into_iter().flatten()
}

/// By the kind that the flags say; `None` for one that is not checked.
fn checksum(kind: u8, summed: &[u8]) -> Option<u64> {
    match kind {
        1 => Some(u64::from(crc32c::crc32c(summed))),
        2 => Some(crc64_we(summed)),
        7 => Some(twox_hash::XxHash64::oneshot(0, summed)),
        _ => None,
    }
}

/// Keys, and the checksums made right again where they were.
pub fn conceal(device: &dyn ReadAt) -> Vec<Edit> {
    const WHAT: &str = "key of bcachefs";
    let mut edits = Vec::new();
    for at in places(device) {
        let Some(found) = superblock(device, at) else { continue };
        let length = device.bytes(at, FIELDS).ok().and_then(|head| le32(&head, 124)).unwrap_or(0);
        // The superblock was read: it is no longer than SIZE_MAX.
        let Ok(mut sb) = device.bytes(at, FIELDS + 8 * length as usize) else { continue };
        let mut field = FIELDS;
        let mut changed = false;
        while let (Some(words), Some(kind)) = (le32(&sb, field), le32(&sb, field + 4)) {
            let end = field.saturating_add((words as usize).saturating_mul(8)).min(sb.len());
            if words == 0 {
                break;
            }
            if kind == CRYPT && end > field + 8 {
                sb[field + 8..end].fill(0);
                changed = true;
                let extent = Extent { start: at + field as u64 + 8, length: (end - field - 8) as u64 };
                edits.push(Edit::Zero { what: WHAT, extent });
            }
            field = end;
        }
        let kind = sb.get(144).map_or(0, |flags| flags >> 2);
        if changed
            && found.health == Health::Sound
            && let Some(sum) = checksum(kind, &sb[16..])
        {
            let bytes = if kind == 1 { sum.to_le_bytes()[..4].to_vec() } else { sum.to_le_bytes().to_vec() };
            edits.push(Edit::Put { what: WHAT, start: at, bytes });
        }
    }
    edits
}

fn superblock(device: &dyn ReadAt, at: u64) -> Option<Signature> {
    let head = device.bytes(at, FIELDS).ok()?;
    let magic = head.get(24..40)?;
    let version = le16(&head, 16)?;
    let user_uuid = uuid(&head, 56)?;
    let label = head.get(72..104)?;
    let offset = le64(&head, 104)?;
    let block_size = u32::from(le16(&head, 120)?) * SECTOR as u32;
    let index = usize::from(*head.get(122)?);
    let devices = usize::from(*head.get(123)?);
    let length = FIELDS as u64 + 8 * u64::from(le32(&head, 124)?);
    let kind = *head.get(144)? >> 2; // six bits of the flags
    let size_bits = *head.get(257)?;
    let is_known = magic == MAGIC || (magic == bcache::MAGIC && at == bcache::OFFSET);
    if !is_known
        || offset != at / SECTOR
        || index >= devices
        || size_bits > SIZE_BITS_MAX
        || length > (SECTOR << size_bits).min(SIZE_MAX)
    {
        return None;
    }
    let sb = device.bytes(at, length as usize).ok()?; // SIZE_MAX at most
    let mut found = Signature::new("bcachefs", Usage::Filesystem, at + 24);
    let summed = sb.get(16..)?;
    let should = checksum(kind, summed);
    let sum = if kind == 1 { u64::from(le32(&sb, 0)?) } else { le64(&sb, 0)? };
    found.health = match should {
        None => Health::Unchecked,
        Some(should) if should == sum => Health::Sound,
        Some(should) => Health::Damaged(format!("superblock at {at}: checksum {sum:x} should be {should:x}")),
    };
    found.set_uuid(user_uuid);
    found.set_label(label);
    found.set_version(format!("{}.{}", version >> 10, version & 0x3ff));
    found.set_block_size(block_size);
    found.set_fs_block_size(block_size);
    let mut field = FIELDS;
    while let (Some(words), Some(kind)) = (le32(&sb, field), le32(&sb, field + 4)) {
        let length = (words as usize).saturating_mul(8);
        let Some(bytes) = sb.get(field..field.saturating_add(length)).filter(|_| length >= 8 && kind != 0)
        else {
            break;
        };
        if kind == MEMBERS && length == 8 + 56 * devices {
            let member = |index: usize| bytes.get(8 + 56 * index..8 + 56 * (index + 1));
            found.set_member_uuid(uuid(member(index)?, 0)?);
            let sectors = (0..devices)
                .filter_map(member)
                .filter_map(|member| Some(le64(member, 16)?.wrapping_mul(le16(member, 26)?.into())));
            found.set_fs_size(sectors.fold(0, u64::wrapping_add).wrapping_mul(SECTOR));
        } else if kind == DISK_GROUPS && length == 8 + 48 * devices {
            let at = 8 + 48 * index;
            found.set_name("LABEL_SUB", &utf8(bytes.get(at..at + 32)?));
        }
        field += length;
    }
    if devices > 1 {
        found.note(format!("device {index} of a file system of {devices} devices"));
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seal(device: &mut [u8]) {
        let sum = crc32c::crc32c(&device[4096 + 16..4096 + FIELDS + 64]);
        device[4096..4100].copy_from_slice(&sum.to_le_bytes());
    }

    fn sample() -> Vec<u8> {
        let mut device = vec![0; 4 << 20];
        let sb = &mut device[4096..];
        sb[16..18].copy_from_slice(&(1_u16 << 10 | 4).to_le_bytes());
        sb[24..40].copy_from_slice(MAGIC);
        sb[56..72].fill(5);
        sb[72..75].copy_from_slice(b"big");
        sb[104] = 8;
        sb[120] = 8;
        sb[123] = 1;
        sb[124] = 8;
        sb[144] = 1 << 2;
        sb[257] = 5;
        let members = &mut sb[FIELDS..];
        members[0] = 8;
        members[4] = 1;
        members[8..24].fill(6);
        members[24] = 16;
        members[34] = 1;
        members[35] = 1;
        seal(&mut device);
        device
    }

    #[test]
    fn members_give_the_size() {
        let found = probe(&sample(), None).unwrap();
        assert_eq!((&found.health, found.version.as_deref()), (&Health::Sound, Some("1.4")));
        assert_eq!(found.member_uuid.as_deref(), Some("06060606-0606-0606-0606-060606060606"));
        assert!(
            found.tags.contains(&("FSSIZE".to_string(), (16 * 257 * 512).to_string())),
            "{:?}",
            found.tags
        );
        let mut device = sample();
        device[4096 + 73] = b'x';
        let Health::Damaged(reason) = probe(&device, None).unwrap().health else { panic!() };
        assert!(reason.starts_with("superblock at 4096: checksum "), "{reason}");
        assert!(reason.ends_with("; no copy of it is sound"), "{reason}");
    }

    #[test]
    fn a_copy_of_the_superblock_is_used_and_said_so() {
        let mut device = sample();
        let copy = 2 << 20;
        device.copy_within(4096..8192, copy);
        device[copy + 104..copy + 112].copy_from_slice(&(copy as u64 / SECTOR).to_le_bytes());
        let sum = crc32c::crc32c(&device[copy + 16..copy + FIELDS + 64]);
        device[copy..copy + 4].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(probe(&device, None).unwrap().health, Health::Sound);
        device[4096 + 72] = b'x';
        let found = probe(&device, None).unwrap();
        let Health::Damaged(reason) = &found.health else { panic!() };
        assert!(reason.ends_with("; its copy at 2097152 is sound (bcachefs fsck uses it)"), "{reason}");
        assert_eq!(found.label.as_deref(), Some("big"));
        device[4096..8192].fill(0);
        let Health::Damaged(reason) = probe(&device, None).unwrap().health else { panic!() };
        assert!(reason.starts_with("superblock: gone; its copy at 2097152"), "{reason}");
    }

    #[test]
    fn the_key_is_concealed_and_the_superblock_stays_sound() {
        let mut device = sample();
        let length = u32::from_le_bytes(device[4096 + 124..4096 + 128].try_into().unwrap());
        let at = 4096 + FIELDS + 8 * length as usize;
        device[at..at + 8].copy_from_slice(&[4, 0, 0, 0, 2, 0, 0, 0]);
        device[at + 8..at + 32].fill(0xaa);
        device[4096 + 124..4096 + 128].copy_from_slice(&(length + 4).to_le_bytes());
        let sum = crc32c::crc32c(&device[4096 + 16..at + 32]);
        device[4096..4100].copy_from_slice(&sum.to_le_bytes());
        let found = probe(&device, None).unwrap();
        assert_eq!(found.health, Health::Sound);
        for edit in conceal(&device.clone()) {
            match edit {
                Edit::Zero { extent, .. } => {
                    device[extent.start as usize..(extent.start + extent.length) as usize].fill(0);
                }
                Edit::Put { start, bytes, .. } => {
                    device[start as usize..start as usize + bytes.len()].copy_from_slice(&bytes);
                }
            }
        }
        assert_eq!(probe(&device, None).unwrap(), found);
        assert!(!device.contains(&0xaa));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn no_mutated_superblock_panics(changes in proptest::collection::vec((4096usize..4096 + 820, any::<u8>()), 0..12)) {
            let mut device = sample();
            for (offset, byte) in changes {
                device[offset] = byte;
            }
            let _ = probe(&device, None);
            let _ = conceal(&device);
        }
    }
}
