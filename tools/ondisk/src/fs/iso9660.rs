//! ISO 9660 with Joliet, and High Sierra before it (ECMA-119; names joined as libblkid does). A disc image that
//! boots from a disk too holds a partition table and often a FAT besides.

use crate::bytes::{Utf16, is_space, le16, le32, utf8, utf16};
use crate::format::{Extent, Format, Magic, Signature, Usage};
use crate::read::ReadAt;

const SECTOR: u64 = 2048;
const FIRST: u64 = 16 * SECTOR;
/// Volume descriptors that are looked at.
const DESCRIPTORS: u64 = 16;
const BOOT_RECORD: u8 = 0;
const PRIMARY: u8 = 1;
const SUPPLEMENTARY: u8 = 2;
const TERMINATOR: u8 = 0xff;
/// Bytes of a descriptor in which there are fields.
const FIELDS: usize = 1016;
/// High Sierra has eight bytes before each descriptor.
const HIGH_SIERRA: Magic = Magic { offset: FIRST + 9, bytes: b"CDROM" };

pub const FORMAT: Format = Format {
    name: "iso9660",
    usage: Usage::Filesystem,
    magics: &[Magic { offset: FIRST + 1, bytes: b"CD001" }, HIGH_SIERRA],
    min_size: FIRST + 8 + FIELDS as u64,
    probe,
};

/// Where the fields lie that the two standards have at different places.
struct Fields {
    set: usize,
    publisher: usize,
    preparer: usize,
    application: usize,
    created: usize,
    modified: usize,
    /// ISO 9660 dates end with a time zone.
    zone: bool,
}

const ISO: Fields = Fields {
    set: 190,
    publisher: 318,
    preparer: 446,
    application: 574,
    created: 813,
    modified: 830,
    zone: true,
};
const SIERRA: Fields = Fields {
    set: 206,
    publisher: 334,
    preparer: 462,
    application: 590,
    created: 782,
    modified: 798,
    zone: false,
};
const ID: usize = 128;

fn probe(device: &dyn ReadAt, magic: Option<&Magic>) -> Option<Signature> {
    let magic = magic?;
    let is_sierra = magic.bytes == HIGH_SIERRA.bytes;
    let (fields, shift) = if is_sierra { (&SIERRA, 8) } else { (&ISO, 0) };
    let (mut boot, mut primary, mut joliet) = (None, None, None);
    for index in 0..DESCRIPTORS {
        let Ok(descriptor) = device.bytes(FIRST + index * SECTOR + shift, FIELDS) else {
            break;
        };
        match *descriptor.first()? {
            TERMINATOR => break,
            BOOT_RECORD => boot = boot.or(Some(descriptor)),
            PRIMARY => primary = primary.or(Some(descriptor)),
            SUPPLEMENTARY if !is_sierra && joliet.is_none() => {
                let escape = descriptor.get(88..91)?;
                joliet = matches!(escape, b"%/@" | b"%/C" | b"%/E").then_some(descriptor);
            }
            _ => {}
        }
    }
    let primary = primary?;
    let joliet = joliet.as_deref();
    let block_size = u32::from(le16(&primary, 128)?);
    let size = u64::from(le32(&primary, 80)?) * u64::from(block_size);
    let mut found = Signature::new("iso9660", Usage::Filesystem, magic.offset);
    found.set_fs_block_size(block_size);
    found.set_block_size(block_size);
    found.set_fs_size(size);
    // A disc may have been written in sessions, and is no shorter for it: no damage where it runs past the end.
    found.extent = Some(Extent { start: 0, length: size });
    found.set_name("SYSTEM_ID", &joined(joliet, &primary, 8, 32)?);
    found.set_name("VOLUME_SET_ID", &joined(joliet, &primary, fields.set, ID)?);
    for (name, at) in [
        ("PUBLISHER_ID", fields.publisher),
        ("DATA_PREPARER_ID", fields.preparer),
        ("APPLICATION_ID", fields.application),
    ] {
        if let Some(text) = identifier(joliet, &primary, at)? {
            found.set_name(name, &text);
        }
    }
    let date = |at: usize| {
        let date = primary.get(at..at + 16)?;
        let is_set = date.iter().any(|byte| *byte != b'0') || (fields.zone && *primary.get(at + 16)? != 0);
        Some(date).filter(|_| is_set)
    };
    if let Some(date) =
        date(fields.modified).or_else(|| date(fields.created)).filter(|date| **date != [0; 16])
    {
        let parts =
            [&date[..4], &date[4..6], &date[6..8], &date[8..10], &date[10..12], &date[12..14], &date[14..]];
        found.set_uuid_text(parts.map(utf8).join("-"));
    }
    if let Some(boot) = &boot {
        found.set_name("BOOT_SYSTEM_ID", &utf8(boot.get(7..39)?));
    }
    if joliet.is_some() {
        found.set_version("Joliet Extension");
    } else if is_sierra {
        found.set_version("High Sierra");
    }
    found.set_label_text(&joined(joliet, &primary, 40, 32)?);
    Some(found)
}

/// A field of the primary descriptor and its Joliet version, which has half as many characters and all of Unicode.
fn joined(joliet: Option<&[u8]>, primary: &[u8], at: usize, length: usize) -> Option<String> {
    let ascii = primary.get(at..at + length)?;
    let Some(joliet) = joliet else { return Some(utf8(ascii)) };
    let wide = joliet.get(at..at + length)?;
    Some(merged(wide, ascii).map_or_else(|| utf16(wide, Utf16::Big), |bytes| utf16(&bytes, Utf16::Big)))
}

/// As above, of fields that may name a file (`_`) or nothing in either.
fn identifier(joliet: Option<&[u8]>, primary: &[u8], at: usize) -> Option<Option<String>> {
    let ascii = primary.get(at..at + ID)?;
    let blank = |byte: &u8| is_space(char::from(*byte));
    let has_ascii = !matches!(ascii[0], 0 | b'_') && !ascii.iter().all(blank);
    let wide = joliet.and_then(|joliet| joliet.get(at..at + ID)).filter(|wide| {
        let is_blank = wide.chunks(2).all(|pair| pair[0] == 0 && pair.get(1).is_some_and(blank));
        !is_blank && !wide.starts_with(&[0, b'_'])
    });
    Some(match wide {
        Some(wide) => {
            let merged = merged(wide, ascii).filter(|_| has_ascii);
            Some(merged.map_or_else(|| utf16(wide, Utf16::Big), |bytes| utf16(&bytes, Utf16::Big)))
        }
        None => has_ascii.then(|| utf8(ascii)),
    })
}

/// libblkid's merge_utf16be_ascii: where the Unicode text is the beginning of the other (`_` stands for what
/// ASCII lacks, and the case was lost), the whole is had from both.
fn merged(wide: &[u8], ascii: &[u8]) -> Option<Vec<u8>> {
    let length = wide.len();
    let most = ID * 5 / 2;
    let mut out = Vec::new();
    let (mut a, mut u) = (0, 0);
    while u + 1 < length && a < length && out.len() + 1 < most {
        let is_pair =
            (0xd8..=0xdb).contains(&wide[u]) && u + 3 < length && (0xdc..=0xdf).contains(&wide[u + 2]);
        if is_pair {
            out.extend_from_slice(&wide[u..u + 2]);
            u += 2;
        }
        let (high, low, narrow) = (wide[u], wide[u + 1], ascii[a]);
        if narrow == b'_' {
            out.extend([high, low]);
        } else if high == 0 && low == b'_' {
            out.extend([0, narrow]);
        } else if high == 0 && narrow.eq_ignore_ascii_case(&low) {
            out.extend([0, if narrow.is_ascii_uppercase() { low } else { narrow }]);
        } else {
            // libblkid takes nothing for no match, as it does where the text ends here.
            return None;
        }
        a += 1;
        u += 2;
    }
    while a < length && out.len() + 1 < most {
        out.extend([0, ascii[a]]);
        a += 1;
    }
    (!out.is_empty()).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(device: &mut [u8], offset: usize, bytes: &[u8]) {
        device[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    fn wide(text: &str) -> Vec<u8> {
        text.encode_utf16().flat_map(u16::to_be_bytes).collect()
    }

    fn sample(joliet: bool) -> Vec<u8> {
        let mut device = vec![0; 64 << 10];
        let at = FIRST as usize;
        put(&mut device, at, b"\x01CD001\x01");
        device[at + 8..at + 72].fill(b' ');
        put(&mut device, at + 8, b"LINUX");
        put(&mut device, at + 40, b"A_LONG_LABEL_OF_A_DISC_IMAGE");
        put(&mut device, at + 80, &32_u32.to_le_bytes());
        put(&mut device, at + 128, &[0, 8]);
        device[at + 190..at + 702].fill(b' ');
        put(&mut device, at + 318, b"ACME");
        put(&mut device, at + 446, b"_FILE");
        put(&mut device, at + 813, b"2024010203040506\0");
        put(&mut device, at + 830, b"0000000000000000\0");
        let mut next = at + 2048;
        if joliet {
            put(&mut device, next, b"\x02CD001\x01");
            put(&mut device, next + 88, b"%/E");
            put(&mut device, next + 8, &wide("Linux           "));
            put(&mut device, next + 40, &wide("A long label of "));
            put(&mut device, next + 318, &wide("ÄCME"));
            next += 2048;
        }
        put(&mut device, next, b"\xffCD001\x01");
        device
    }

    fn look(device: &dyn ReadAt) -> Signature {
        probe(device, Some(&FORMAT.magics[0])).unwrap()
    }

    #[test]
    fn a_plain_disc_has_the_names_of_its_primary_descriptor() {
        let found = look(&sample(false));
        let tags: Vec<(&str, &str)> = found.tags.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let want = [
            ("FSBLOCKSIZE", "2048"),
            ("BLOCK_SIZE", "2048"),
            ("FSSIZE", "65536"),
            ("SYSTEM_ID", "LINUX"),
            ("PUBLISHER_ID", "ACME"),
            ("UUID", "2024-01-02-03-04-05-06"),
            ("LABEL", "A_LONG_LABEL_OF_A_DISC_IMAGE"),
        ];
        assert_eq!(tags, want);
    }

    #[test]
    fn joliet_gives_the_case_and_the_primary_the_rest() {
        let found = look(&sample(true));
        assert_eq!(found.version.as_deref(), Some("Joliet Extension"));
        assert_eq!(found.label.as_deref(), Some("A long label of A_DISC_IMAGE"));
        assert!(found.tags.contains(&("PUBLISHER_ID".to_string(), "ÄCME".to_string())), "{:?}", found.tags);
    }

    #[test]
    fn without_a_primary_descriptor_it_is_none() {
        let mut device = sample(false);
        device[FIRST as usize] = 3;
        assert!(probe(&device, Some(&FORMAT.magics[0])).is_none());
    }
}
