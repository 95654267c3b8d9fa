//! ReiserFS 3.5, 3.6 and with a relocated journal, and Reiser4, as libblkid knows them.

use crate::bytes::{le16, le32, uuid};
use crate::format::{Format, Magic, Signature, Usage};
use crate::read::ReadAt;

const OLD: u64 = 8 << 10;
const NEW: u64 = 64 << 10;
const FIELDS: u64 = 0x34;
/// REISERFS_ERROR_FS: mounted, or not unmounted.
const NOT_UNMOUNTED: u16 = 2;

pub const FORMAT: Format = Format {
    name: "reiserfs",
    usage: Usage::Filesystem,
    magics: &[
        Magic { offset: OLD + FIELDS, bytes: b"ReIsErFs" },
        Magic { offset: NEW + FIELDS, bytes: b"ReIsEr2Fs" },
        Magic { offset: NEW + FIELDS, bytes: b"ReIsEr3Fs" },
        Magic { offset: NEW + FIELDS, bytes: b"ReIsErFs" },
        Magic { offset: OLD + 20, bytes: b"ReIsErFs" },
    ],
    min_size: 128 << 10,
    probe,
};

pub const REISER4: Format = Format {
    name: "reiser4",
    usage: Usage::Filesystem,
    magics: &[Magic { offset: NEW, bytes: b"ReIsEr4" }],
    min_size: 128 << 10,
    probe: probe_4,
};

fn probe(device: &dyn ReadAt, magic: Option<&Magic>) -> Option<Signature> {
    let magic = magic?;
    let at = if magic.offset < NEW { OLD } else { NEW };
    let sb = device.bytes(at, 116).ok()?;
    let blocks = le32(&sb, 0)?;
    let journal = le32(&sb, 12)?;
    let journal_device = le32(&sb, 16)?;
    let block_size = u32::from(le16(&sb, 44)?);
    let state = le16(&sb, 50)?;
    // A superblock in the journal is a copy of long ago.
    if block_size < 512 || at as u32 / 1024 / (block_size / 512) > journal / 2 {
        return None;
    }
    let mut found = Signature::new("reiserfs", Usage::Filesystem, magic.offset);
    let kind = magic.bytes.get(6).copied();
    if matches!(kind, Some(b'2' | b'3')) {
        found.set_label(sb.get(100..116)?);
        found.set_uuid(uuid(&sb, 84)?);
    }
    found.set_version(match kind {
        Some(b'3') => "JR",
        Some(b'2') => "3.6",
        _ => "3.5",
    });
    found.set_fs_block_size(block_size);
    found.set_block_size(block_size);
    found.set_length(u64::from(blocks) * u64::from(block_size), device);
    found.dirty = state == NOT_UNMOUNTED;
    // By a number that the kernel gives anew at each start.
    found.journal_on = (journal_device != 0).then(String::new);
    Some(found)
}

fn probe_4(device: &dyn ReadAt, _magic: Option<&Magic>) -> Option<Signature> {
    let sb = device.bytes(NEW, 52).ok()?;
    let block_size = u32::from(*sb.get(19)?) * 256;
    let mut found = Signature::new("reiser4", Usage::Filesystem, NEW);
    found.set_label(sb.get(36..52)?);
    found.set_uuid(uuid(&sb, 20)?);
    found.set_version("4");
    found.set_fs_block_size(block_size);
    found.set_block_size(block_size);
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_superblock_in_the_journal_is_none() {
        let mut device = vec![0; 256 << 10];
        let at = NEW as usize;
        device[at] = 64;
        device[at + 12] = 18;
        device[at + 44..at + 46].copy_from_slice(&4096_u16.to_le_bytes());
        device[at + 50] = 2;
        device[at + 84..at + 100].fill(1);
        device[at + 100..at + 104].copy_from_slice(b"mail");
        let found = probe(&device, Some(&FORMAT.magics[1])).unwrap();
        assert_eq!(
            (found.version.as_deref(), found.label.as_deref(), found.dirty),
            (Some("3.6"), Some("mail"), true)
        );
        assert_eq!(probe(&device, Some(&FORMAT.magics[1])).unwrap().journal_on, None);
        device[at + 16] = 8;
        assert!(probe(&device, Some(&FORMAT.magics[1])).unwrap().journal_on.is_some());
        device[at + 12] = 15;
        assert!(probe(&device, Some(&FORMAT.magics[1])).is_none());
    }
}
