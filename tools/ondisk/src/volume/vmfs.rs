//! VMware's VMFS: a device of a volume, and the file system on it.

use crate::bytes::{le32, utf8, uuid};
use crate::format::{Format, Magic, Signature, Usage, Uuid};
use crate::read::ReadAt;

const VOLUME: u64 = 1 << 20;
const FS: u64 = 2 << 20;

pub const MEMBER: Format = Format {
    name: "VMFS_volume_member",
    usage: Usage::Raid,
    magics: &[Magic { offset: VOLUME, bytes: &[0x0d, 0xd0, 0x01, 0xc0] }],
    min_size: VOLUME + 1024,
    probe: member,
};

pub const FORMAT: Format = Format {
    name: "VMFS",
    usage: Usage::Filesystem,
    magics: &[Magic { offset: FS, bytes: &[0x5e, 0xf1, 0xab, 0x2f] }],
    min_size: FS + 512,
    probe,
};

fn member(device: &dyn ReadAt, _magic: Option<&Magic>) -> Option<Signature> {
    let header = device.bytes(VOLUME, 1024).ok()?;
    let mut found = Signature::new("VMFS_volume_member", Usage::Raid, VOLUME);
    found.set_member_uuid_text(dashed(uuid(&header, 130)?));
    found.set_version(le32(&header, 4)?.to_string());
    let name = utf8(header.get(532..567)?);
    found.set_uuid_text(name.trim_end_matches(crate::bytes::is_space).to_string());
    Some(found)
}

fn probe(device: &dyn ReadAt, _magic: Option<&Magic>) -> Option<Signature> {
    let header = device.bytes(FS, 512).ok()?;
    let id = uuid(&header, 9)?;
    let mut found = Signature::new("VMFS", Usage::Filesystem, FS);
    if id.0 != [0; 16] {
        found.set_uuid_text(dashed(id));
    }
    found.set_label(header.get(29..157)?);
    found.set_version(header.get(8)?.to_string());
    Some(found)
}

/// `01234567-89abcdef-0123-456789abcdef`, its first three fields little-endian.
fn dashed(Uuid(mut bytes): Uuid) -> String {
    bytes[0..4].reverse();
    bytes[4..8].reverse();
    bytes[8..10].reverse();
    let hex = |part: &[u8]| part.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    [&bytes[..4], &bytes[4..8], &bytes[8..10], &bytes[10..]].map(hex).join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_printed_as_vmware_does() {
        let mut device = vec![0; 3 << 20];
        let id: Vec<u8> = (1..=16).collect();
        let (at, fs) = (VOLUME as usize, FS as usize);
        device[at + 4] = 5;
        device[at + 130..at + 146].copy_from_slice(&id);
        device[at + 532..at + 567].copy_from_slice(b"4a5b6c7d-01234567-89ab-cdef01234567");
        device[fs + 8] = 5;
        device[fs + 9..fs + 25].copy_from_slice(&id);
        device[fs + 29..fs + 33].copy_from_slice(b"data");
        let found = member(&device, None).unwrap();
        assert_eq!(found.member_uuid.as_deref(), Some("04030201-08070605-0a09-0b0c0d0e0f10"));
        assert_eq!(found.uuid.as_deref(), Some("4a5b6c7d-01234567-89ab-cdef01234567"));
        let found = probe(&device, None).unwrap();
        assert_eq!((found.label.as_deref(), found.version.as_deref()), (Some("data"), Some("5")));
    }
}
