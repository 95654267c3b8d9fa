//! UDF (ECMA-167 and OSTA's UDF 2.60): a recognition sequence at 32 KiB, an anchor at block 256 or 512, and the
//! descriptors that it points to. Names and the UUID are taken from them as libblkid does.

use crate::bytes::{Utf16, latin1, le16, le32, utf8, utf16};
use crate::format::{Format, Magic, Signature, Usage};
use crate::read::ReadAt;

const VSD: u64 = 0x8000;
/// Structure descriptors looked at.
const VSD_MAX: u64 = 64;
/// Descriptors of the volume looked at: mkudffs writes 16, a hostile anchor as many as fit 4 GiB.
const DESCRIPTORS_MAX: u32 = 256;
const BYTES: usize = 512;
const MAGICS: &[Magic] = &[
    Magic { offset: VSD + 1, bytes: b"BEA01" },
    Magic { offset: VSD + 1, bytes: b"BOOT2" },
    Magic { offset: VSD + 1, bytes: b"CD001" },
    Magic { offset: VSD + 1, bytes: b"CDW02" },
    Magic { offset: VSD + 1, bytes: b"NSR02" },
    Magic { offset: VSD + 1, bytes: b"NSR03" },
    Magic { offset: VSD + 1, bytes: b"TEA01" },
];

const TAG_PRIMARY: u16 = 1;
const TAG_ANCHOR: u16 = 2;
const TAG_USE: u16 = 4;
const TAG_LOGICAL: u16 = 6;
const TAG_END: u16 = 8;
const TAG_INTEGRITY: u16 = 9;

pub const FORMAT: Format =
    Format { name: "udf", usage: Usage::Filesystem, magics: MAGICS, min_size: VSD + 2048, probe };

fn probe(device: &dyn ReadAt, magic: Option<&Magic>) -> Option<Signature> {
    let (block, anchor, other) = anchor(device)?;
    let count = (le32(&anchor, 16)? / block).min(DESCRIPTORS_MAX);
    let first = le32(&anchor, 20)?;
    let mut found = Signature::new("udf", Usage::Filesystem, magic?.offset);
    let mut seen = Seen::default();
    for index in 0..count {
        let at = first.checked_add(index)?;
        let descriptor = device.bytes(u64::from(at) * u64::from(block), BYTES).ok()?;
        let tag = le16(&descriptor, 0)?;
        if matches!(tag, 0 | TAG_END) || le32(&descriptor, 12)? != at {
            break;
        }
        match tag {
            TAG_PRIMARY => seen.primary(&mut found, &descriptor)?,
            TAG_LOGICAL => seen.logical(&mut found, &descriptor)?,
            TAG_USE => seen.usage(&mut found, &descriptor)?,
            _ => {}
        }
    }
    if !seen.is_udf {
        return None;
    }
    let revision = seen.revision.max(seen.integrity_revision(device, block).unwrap_or(0));
    if revision != 0 {
        found.set_version(format!("{:x}.{:02x}", revision >> 8, revision & 0xff));
    }
    found.set_fs_block_size(block);
    found.set_block_size(block);
    if let Some(number) = other {
        found.damage(format!(
            "anchor at block 256: torn or gone; the one at block {number} is there (the kernel uses it)"
        ));
    }
    Some(found)
}

/// The block size at which the anchor lies where it says, the anchor, and its block where it is not one of the first.
fn anchor(device: &dyn ReadAt) -> Option<(u32, Vec<u8>, Option<u32>)> {
    let mut narrow = None;
    let mut structured = Vec::new();
    for block in [512_u32, 1024, 2048, 4096] {
        let step = u64::from(block.max(2048));
        let has = if block <= 2048 {
            *narrow.get_or_insert_with(|| has_structure(device, step))
        } else {
            has_structure(device, step)
        };
        if !has {
            continue;
        }
        structured.push(block);
        for number in [256_u32, 512] {
            let Ok(anchor) = device.bytes(u64::from(number) * u64::from(block), BYTES) else { continue };
            if le32(&anchor, 12)? == number && le16(&anchor, 0)? == TAG_ANCHOR {
                return Some((block, anchor, None));
            }
        }
    }
    structured.into_iter().find_map(|block| last_anchor(device, block))
}

/// One of those at the end: in the last block, or 256 before it. A sound one alone, since nothing else says that it is one.
fn last_anchor(device: &dyn ReadAt, block: u32) -> Option<(u32, Vec<u8>, Option<u32>)> {
    let last = u32::try_from(device.size() / u64::from(block)).ok()?.checked_sub(1)?;
    let read = |number: u32| {
        let anchor = device.bytes(u64::from(number) * u64::from(block), BYTES).ok()?;
        let sum = anchor[..16].iter().enumerate().filter(|(index, _)| *index != 4);
        let sum = sum.fold(0_u8, |sum, (_, byte)| sum.wrapping_add(*byte));
        let is_sound = le16(&anchor, 0)? == TAG_ANCHOR && le32(&anchor, 12)? == number && anchor[4] == sum;
        is_sound.then_some((block, anchor, Some(number)))
    };
    [last, last.checked_sub(256)?].into_iter().find_map(read)
}

fn has_structure(device: &dyn ReadAt, step: u64) -> bool {
    for index in 0..VSD_MAX {
        let Ok(descriptor) = device.bytes(VSD + index * step, 7) else { return false };
        match &descriptor[1..6] {
            b"NSR02" | b"NSR03" => return true,
            b"BEA01" | b"BOOT2" | b"CD001" | b"CDW02" | b"TEA01" => {}
            _ => return false,
        }
    }
    false
}

/// Of each name the first that is filled is taken.
#[derive(Default)]
struct Seen {
    is_udf: bool,
    revision: u16,
    /// Length in bytes, and block.
    integrity: (u32, u32),
    volume: bool,
    set: bool,
    uuid: bool,
    application: bool,
    logical: bool,
    publisher: bool,
}

impl Seen {
    fn primary(&mut self, found: &mut Signature, descriptor: &[u8]) -> Option<()> {
        if is_udf_charset(descriptor.get(200..264)?) {
            self.volume = self.volume || named(found, "VOLUME_ID", dstring(descriptor.get(24..56)?));
            let set = descriptor.get(72..200)?;
            if let Some(uuid) = uuid_of(set).filter(|_| !self.uuid) {
                found.set_uuid_text(uuid);
                self.uuid = true;
            }
            self.set = self.set || named(found, "VOLUME_SET_ID", dstring(set));
        }
        if !self.application {
            let name = |at: usize| {
                let name = utf8(descriptor.get(at..at + 23)?);
                let name = name.strip_prefix('*').map_or(name.clone(), str::to_string);
                (!name.is_empty()).then_some(name)
            };
            // The program that last wrote it, else the one that made it.
            self.application = named(found, "APPLICATION_ID", name(345).or_else(|| name(389)));
        }
        Some(())
    }

    fn logical(&mut self, found: &mut Signature, descriptor: &[u8]) -> Option<()> {
        let maps = le32(descriptor, 268)?;
        if (self.integrity.0 == 0 || self.integrity.1 == 0) && maps != 0 {
            self.integrity = (le32(descriptor, 432)?, le32(descriptor, 436)?);
        }
        if !self.is_udf && utf8(descriptor.get(217..240)?) == "*OSTA UDF Compliant" {
            self.is_udf = true;
            self.revision = le16(descriptor, 240)?;
        }
        if !self.logical
            && is_udf_charset(descriptor.get(20..84)?)
            && let Some(name) = dstring(descriptor.get(84..212)?)
        {
            found.set_label_text(&name);
            self.logical = named(found, "LOGICAL_VOLUME_ID", Some(name));
        }
        Some(())
    }

    fn usage(&mut self, found: &mut Signature, descriptor: &[u8]) -> Option<()> {
        let is_info = utf8(descriptor.get(21..44)?) == "*UDF LV Info";
        if !self.publisher && is_info && is_udf_charset(descriptor.get(52..116)?) {
            self.publisher = named(found, "PUBLISHER_ID", dstring(descriptor.get(244..280)?));
        }
        Some(())
    }

    /// The revisions that the integrity descriptor asks of a reader and of a writer.
    fn integrity_revision(&self, device: &dyn ReadAt, block: u32) -> Option<u16> {
        let (length, at) = self.integrity;
        let start = u64::from(at) * u64::from(block);
        if at == 0 || (length as usize) < BYTES {
            return None;
        }
        let descriptor = device.bytes(start, BYTES).ok()?;
        let partitions = le32(&descriptor, 72)?;
        let has_use = le32(&descriptor, 76)? >= 46;
        if le16(&descriptor, 0)? != TAG_INTEGRITY || le32(&descriptor, 12)? != at || !has_use {
            return None;
        }
        let own = device.bytes(start + 80 + 8 * u64::from(partitions), 46).ok()?;
        Some(le16(&own, 40)?.max(le16(&own, 42)?))
    }
}

fn named(found: &mut Signature, name: &str, text: Option<String>) -> bool {
    let before = found.tags.len();
    found.set_name(name, &text.unwrap_or_default());
    found.tags.len() > before
}

fn is_udf_charset(field: &[u8]) -> bool {
    field.first() == Some(&0) && utf8(&field[1..]) == "OSTA Compressed Unicode"
}

/// A field whose first byte tells the width of its characters and whose last how many bytes are used.
fn dstring(field: &[u8]) -> Option<String> {
    let [width, text @ .., length] = field else { return None };
    let used = usize::from(*length).saturating_sub(1).min(text.len());
    match width {
        8 => Some(latin1(&text[..used])),
        16 => Some(utf16(&text[..used], Utf16::Big)),
        _ => None,
    }
}

/// Sixteen characters that mkudffs makes unique: as they are where they are hexadecimal, else the hexadecimal of
/// the first eight, or of the four behind eight hexadecimal ones.
fn uuid_of(set: &[u8]) -> Option<String> {
    let name = dstring(set)?;
    // libblkid decodes into 17 bytes, characters that fit as a whole.
    let mut bytes = Vec::new();
    for c in name.chars() {
        if bytes.len() + c.len_utf8() > 16 {
            break;
        }
        bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
    if bytes.len() < 8 {
        return None;
    }
    bytes.resize(16, 0);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let lower = |bytes: &[u8]| utf8(bytes).to_lowercase();
    Some(match bytes.iter().position(|byte| !byte.is_ascii_hexdigit()) {
        Some(0..8) => hex(&bytes[..8]),
        Some(_) => lower(&bytes[..8]) + &hex(&bytes[8..12]),
        None => lower(&bytes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Health;
    use proptest::prelude::*;

    fn put(device: &mut [u8], offset: usize, bytes: &[u8]) {
        device[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    fn sample() -> Vec<u8> {
        let mut device = vec![0; 1 << 20];
        for (index, id) in [b"BEA01", b"NSR03", b"TEA01"].into_iter().enumerate() {
            put(&mut device, VSD as usize + index * 2048 + 1, id);
        }
        let tag = |device: &mut Vec<u8>, block: usize, tag: u8| {
            device[block * 512] = tag;
            put(device, block * 512 + 12, &(block as u32).to_le_bytes());
            block * 512
        };
        let anchor = tag(&mut device, 256, 2);
        put(&mut device, anchor + 16, &2048_u32.to_le_bytes());
        put(&mut device, anchor + 20, &300_u32.to_le_bytes());
        let primary = tag(&mut device, 300, 1);
        put(&mut device, primary + 24, b"\x08disc");
        device[primary + 55] = 5;
        put(&mut device, primary + 72, b"\x080123456789ABCDEFrest");
        device[primary + 199] = 21;
        put(&mut device, primary + 201, b"OSTA Compressed Unicode");
        put(&mut device, primary + 389, b"*Maker");
        let logical = tag(&mut device, 301, 6);
        put(&mut device, logical + 21, b"OSTA Compressed Unicode");
        put(&mut device, logical + 84, b"\x08My disc");
        device[logical + 211] = 8;
        put(&mut device, logical + 217, b"*OSTA UDF Compliant\0\0\0\0\x01\x02");
        tag(&mut device, 302, 8);
        device
    }

    #[test]
    fn names_come_from_the_descriptors() {
        let found = probe(&sample(), Some(&MAGICS[0])).unwrap();
        let tags: Vec<(&str, &str)> = found.tags.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let want = [
            ("VOLUME_ID", "disc"),
            ("UUID", "0123456789abcdef"),
            ("VOLUME_SET_ID", "0123456789ABCDEFrest"),
            ("APPLICATION_ID", "Maker"),
            ("LABEL", "My disc"),
            ("LOGICAL_VOLUME_ID", "My disc"),
            ("VERSION", "2.01"),
            ("FSBLOCKSIZE", "512"),
            ("BLOCK_SIZE", "512"),
        ];
        assert_eq!(tags, want);
    }

    #[test]
    fn the_anchor_at_the_end_is_used_where_the_first_is_gone_and_said_so() {
        let mut device = sample();
        let last = device.len() / 512 - 1;
        device.copy_within(256 * 512..257 * 512, last * 512);
        device[256 * 512..257 * 512].fill(0);
        put(&mut device, last * 512 + 12, &(last as u32).to_le_bytes());
        // Its tag's checksum is not right yet.
        assert!(probe(&device, Some(&MAGICS[0])).is_none());
        let sum = device[last * 512..last * 512 + 16].iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        device[last * 512 + 4] = sum;
        let found = probe(&device, Some(&MAGICS[0])).unwrap();
        let Health::Damaged(reason) = &found.health else { panic!() };
        assert_eq!(
            reason,
            "anchor at block 256: torn or gone; the one at block 2047 is there (the kernel uses it)"
        );
        assert_eq!(found.label.as_deref(), Some("My disc"));
    }

    #[test]
    fn each_thing_that_is_missing_makes_it_none() {
        let cases = [("structure", VSD as usize + 2049), ("anchor", 256 * 512), ("domain", 301 * 512 + 218)];
        for (label, at) in cases {
            let mut device = sample();
            device[at] = b'x';
            assert!(probe(&device, Some(&MAGICS[0])).is_none(), "{label}");
        }
    }

    #[test]
    fn a_set_identifier_that_is_not_hexadecimal_is_encoded() {
        let field = |text: &[u8]| {
            let mut field = vec![0; 128];
            field[0] = 8;
            put(&mut field, 1, text);
            field[127] = text.len() as u8 + 1;
            field
        };
        assert_eq!(uuid_of(&field(b"LinuxUDF")).unwrap(), "4c696e7578554446");
        assert_eq!(uuid_of(&field(b"0123456789xyzabc")).unwrap(), "01234567".to_owned() + "38397879");
        assert_eq!(uuid_of(&field(b"short")), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_mutated_descriptor_panics(
            changes in proptest::collection::vec((prop_oneof![131_072usize..131_200, 153_600usize..154_700], any::<u8>()), 0..20),
        ) {
            let mut device = sample();
            for (offset, byte) in changes {
                device[offset] = byte;
            }
            let _ = probe(&device, Some(&MAGICS[0]));
        }
    }
}
