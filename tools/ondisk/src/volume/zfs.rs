//! A device of a ZFS pool, by the name-value lists of its four labels (OpenZFS: include/sys/vdev_impl.h; XDR of lib/libnvpair).
//! ZFS is recognised, not read.

use crate::bytes::{be32, be64, le64, utf8};
use crate::format::{Format, Health, Magic, Signature, Usage};
use crate::read::ReadAt;
use sha2::Digest;

const LABEL: u64 = 256 << 10;
const LIST_AT: u64 = 16 << 10;
const LIST: usize = 112 << 10;
const COUNT: usize = 4;
/// zio_eck_t, which ends it.
const CHECKSUM: usize = LIST - 40;
const MAGIC: u64 = 0x0210_da7a_b10c_7a11;
const UINT64: u32 = 8;
const STRING: u32 = 9;
const DIRECTORY: u32 = 19;
/// Names that are looked for.
const WANTED: usize = 5;
// pool_state
const SPARE: u64 = 3;
const CACHE: u64 = 4;
const LAST_STATE: u64 = 7;

pub const FORMAT: Format =
    Format { name: "zfs_member", usage: Usage::Filesystem, magics: &[], min_size: 64 << 20, probe };

/// Of the four labels the first that is whole, and what is wrong with those before it.
fn probe(device: &dyn ReadAt, _magic: Option<&Magic>) -> Option<Signature> {
    let end = device.size() - device.size() % LABEL;
    let labels = [0, LABEL, end.checked_sub(2 * LABEL)?, end.checked_sub(LABEL)?];
    let mut seen: Vec<(usize, Signature)> = Vec::new();
    let mut lost = Vec::new();
    for (index, label) in labels.into_iter().enumerate() {
        let Some(found) = read(device, label + LIST_AT) else {
            lost.push(index);
            continue;
        };
        let is_sound = found.health == Health::Sound;
        seen.push((index, found));
        if is_sound {
            break;
        }
    }
    // The last of them is sound where one is.
    let best = seen.iter().rposition(|(_, found)| found.health == Health::Sound).unwrap_or(0);
    if seen.is_empty() {
        return None;
    }
    let torn: Vec<usize> = seen[..best].iter().map(|(index, _)| *index).chain(lost).collect();
    let (index, mut found) = seen.swap_remove(best);
    let first = torn.iter().filter(|torn| **torn < index).min();
    if let Some(first) = first {
        let whose = if found.health == Health::Sound { "is sound" } else { "is used" };
        found.health = Health::Damaged(format!(
            "label {first} of {COUNT}: torn or gone; label {index} at {} {whose} (ZFS reads all four)",
            labels[index]
        ));
    }
    labels.into_iter().for_each(|label| found.owns(label, LABEL, device));
    Some(found)
}

/// What is in the label whose list lies there, and whether its checksum holds.
fn read(device: &dyn ReadAt, at: u64) -> Option<Signature> {
    // Its first bytes decide, so that four labels of nothing cost little.
    let head = device.bytes(at, 16).ok()?;
    if head[0] != 1 || head[1] > 1 || be32(&head, 12)? == 0 {
        return None;
    }
    let list = device.bytes(at, LIST).ok()?;
    let mut found = signature(&list, at)?;
    found.health = health(list, at)?;
    Some(found)
}

/// The label ends with a magic and the SHA-256 of itself, in whose place its offset stood (zio_checksum.c: ZIO_CHECKSUM_LABEL).
fn health(mut list: Vec<u8>, at: u64) -> Option<Health> {
    let magic = le64(&list, CHECKSUM)?;
    let is_little = match magic {
        MAGIC => true,
        other if other == MAGIC.swap_bytes() => false,
        _ => return Some(Health::Damaged("label: no checksum".to_string())),
    };
    let bytes = |word: u64| if is_little { word.to_le_bytes() } else { word.to_be_bytes() };
    let stored = list.get(CHECKSUM + 8..)?.to_vec();
    list.get_mut(CHECKSUM + 8..)?.fill(0);
    list.get_mut(CHECKSUM + 8..CHECKSUM + 16)?.copy_from_slice(&bytes(at));
    let sum = sha2::Sha256::digest(&list);
    let should: Vec<u8> = (0..4).filter_map(|word| be64(&sum, 8 * word)).flat_map(bytes).collect();
    Some(match stored == should {
        true => Health::Sound,
        false => Health::Damaged(format!("label at {}: its SHA-256 is wrong", at.saturating_sub(LIST_AT))),
    })
}

fn signature(list: &[u8], at: u64) -> Option<Signature> {
    let (mut guid, mut state, mut txg) = (0, u64::MAX, 0);
    let end = walk(list, |pair| {
        let number = || be64(pair.value, 8).filter(|_| pair.kind == UINT64 && pair.depth == 0);
        match (pair.name, number()) {
            (b"guid", Some(number)) => guid = number,
            (b"state", Some(number)) => state = number,
            (b"txg", Some(number)) => txg = number,
            _ => {}
        }
        true
    });
    if end.is_none() || guid == 0 || state > LAST_STATE || (!matches!(state, SPARE | CACHE) && txg == 0) {
        return None;
    }
    let mut found = Signature::new("zfs_member", Usage::Filesystem, at);
    let mut count = 0;
    walk(list, |pair| {
        let number = be64(pair.value, 8).filter(|_| pair.kind == UINT64);
        match (pair.name, pair.depth, number) {
            (b"name", 0, _) if pair.kind == STRING => {
                let length = be32(pair.value, 8).unwrap_or_default() as usize;
                match pair.value.get(12..12_usize.saturating_add(length)) {
                    Some(name) => found.set_label(name),
                    None => return false,
                }
            }
            (b"guid", 0, Some(number)) => found.set_member_uuid_text(number.to_string()),
            (b"pool_guid", 0, Some(0)) => {}
            (b"pool_guid", 0, Some(number)) => found.set_uuid_text(number.to_string()),
            (b"version", 0, Some(number)) => found.set_version(number.to_string()),
            (b"ashift", _, Some(shift)) => {
                if let Some(size) = u32::try_from(shift).ok().and_then(|shift| 1_u32.checked_shl(shift)) {
                    found.set_fs_block_size(size);
                    found.set_block_size(size);
                }
            }
            (b"hostname", 0, _) if pair.kind == STRING => {
                let name = pair.value.get(12..).map(utf8).unwrap_or_default();
                found.notes.push(format!("last used by {name}"));
                return true;
            }
            _ => return true,
        }
        count += 1;
        count < WANTED
    });
    found.tag("ENDIANNESS", if list.get(1) == Some(&1) { "LITTLE" } else { "BIG" });
    Some(found)
}

struct Pair<'a> {
    name: &'a [u8],
    kind: u32,
    /// Behind the name: the type, the number of elements, the value.
    value: &'a [u8],
    depth: u32,
}

/// Each pair of the list and of those in it; `None` where it is torn. A pair has at least eight bytes, so it ends.
fn walk<'a>(list: &'a [u8], mut seen: impl FnMut(Pair<'a>) -> bool) -> Option<()> {
    const HEAD: usize = 12;
    let mut at = 12;
    let mut depth = 0_u32;
    while list.len().saturating_sub(at) > HEAD {
        let size = be32(list, at)? as usize;
        if size == 0 {
            if depth == 0 {
                break;
            }
            depth -= 1;
            at += 8;
            continue;
        }
        let pair = list.get(at..at.checked_add(size)?)?;
        let length = be32(pair, 8)? as usize;
        let name = pair.get(HEAD..HEAD.checked_add(length)?)?;
        let value = pair.get(HEAD + length.checked_next_multiple_of(4)?..)?;
        let kind = be32(value, 0)?;
        match kind {
            0 => return None,
            // Its contents follow as pairs of their own.
            DIRECTORY => {
                value.get(..16)?;
                depth += 1;
                at += HEAD + length.next_multiple_of(4) + 16;
                continue;
            }
            _ => {}
        }
        if !seen(Pair { name, kind, value, depth }) {
            break;
        }
        at += size;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pair(name: &[u8], kind: u32, value: &[u8]) -> Vec<u8> {
        let mut out = vec![0; 8];
        out.extend((name.len() as u32).to_be_bytes());
        out.extend(name);
        out.resize(out.len().next_multiple_of(4), 0);
        out.extend(kind.to_be_bytes());
        out.extend(1_u32.to_be_bytes());
        out.extend(value);
        out.resize(out.len().next_multiple_of(4), 0);
        let size = out.len() as u32;
        out[..4].copy_from_slice(&size.to_be_bytes());
        out
    }

    fn number(name: &[u8], value: u64) -> Vec<u8> {
        pair(name, UINT64, &value.to_be_bytes())
    }

    fn label() -> Vec<u8> {
        let mut list = vec![1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        list.extend(number(b"version", 5000));
        list.extend(pair(b"name", STRING, b"\0\0\0\x04tank"));
        list.extend(number(b"state", 0));
        list.extend(number(b"txg", 4));
        list.extend(number(b"pool_guid", 123));
        list.extend(number(b"guid", 456));
        let mut tree = pair(b"vdev_tree", DIRECTORY, &[0; 8]);
        tree[4..8].fill(1);
        list.extend(tree);
        list.extend(number(b"guid", 789));
        list.extend(number(b"ashift", 12));
        list.extend([0; 16]);
        list.resize(LIST, 0);
        list
    }

    /// With the checksum that it has where it lies.
    fn sealed(at: u64) -> Vec<u8> {
        let mut list = label();
        list[CHECKSUM..CHECKSUM + 8].copy_from_slice(&MAGIC.to_le_bytes());
        list[CHECKSUM + 8..CHECKSUM + 16].copy_from_slice(&at.to_le_bytes());
        let sum = sha2::Sha256::digest(&list);
        for word in 0..4 {
            let number = be64(&sum, 8 * word).unwrap();
            list[CHECKSUM + 8 + 8 * word..CHECKSUM + 16 + 8 * word].copy_from_slice(&number.to_le_bytes());
        }
        list
    }

    #[test]
    fn the_first_label_that_is_whole_is_used_and_what_is_wrong_before_it_is_said() {
        let mut device = vec![0; 64 << 20];
        for index in 0..2 {
            let at = index * LABEL as usize + LIST_AT as usize;
            device[at..at + LIST].copy_from_slice(&sealed(at as u64));
        }
        let found = probe(&device, None).unwrap();
        assert_eq!((found.magic_offset, &found.health), (LIST_AT, &Health::Sound));
        device[(LIST_AT + 2000) as usize] ^= 1;
        let found = probe(&device, None).unwrap();
        let Health::Damaged(reason) = &found.health else { panic!() };
        assert_eq!(reason, "label 0 of 4: torn or gone; label 1 at 262144 is sound (ZFS reads all four)");
        assert_eq!(found.magic_offset, LABEL + LIST_AT);
        device[LABEL as usize..].fill(0);
        let Health::Damaged(reason) = probe(&device, None).unwrap().health else { panic!() };
        assert_eq!(reason, "label at 0: its SHA-256 is wrong");
    }

    #[test]
    fn the_pool_and_the_device_are_told_apart() {
        let found = signature(&label(), 0).unwrap();
        let tags: Vec<(&str, &str)> = found.tags.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let want = [
            ("VERSION", "5000"),
            ("LABEL", "tank"),
            ("UUID", "123"),
            ("UUID_SUB", "456"),
            ("FSBLOCKSIZE", "4096"),
            ("BLOCK_SIZE", "4096"),
            ("ENDIANNESS", "LITTLE"),
        ];
        assert_eq!(tags, want);
    }

    #[test]
    fn the_last_label_is_enough_and_a_torn_one_is_none() {
        let mut device = vec![0; (64 << 20) + 5000];
        let at = (64 << 20) - (256 << 10) + (16 << 10);
        device[at..at + LIST].copy_from_slice(&label());
        assert_eq!(probe(&device, None).unwrap().magic_offset, at as u64);
        device[at + 12..at + 16].fill(0xff);
        assert!(probe(&device, None).is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn no_mutated_list_panics(changes in proptest::collection::vec((0usize..400, any::<u8>()), 0..12)) {
            let mut list = label();
            for (offset, byte) in changes {
                list[offset] = byte;
            }
            let _ = signature(&list, 0);
        }
    }
}
