//! GFS and GFS2 (kernel: include/uapi/linux/gfs2_ondisk.h), of a cluster: its label is the cluster's name, a colon and
//! its own.

use crate::bytes::{be32, uuid};
use crate::format::{Format, Magic, Signature, Usage};
use crate::read::ReadAt;

/// GFS2_SB_ADDR
const OFFSET: u64 = 64 << 10;
const MAGIC: Magic = Magic { offset: OFFSET, bytes: &[0x01, 0x16, 0x19, 0x70] };
const BYTES: usize = 272;
/// The least that a journal takes.
const MIN_SIZE: u64 = 32 << 20;
/// GFS2_FORMAT_SB
const KIND: u32 = 100;

pub const FORMAT: Format =
    Format { name: "gfs", usage: Usage::Filesystem, magics: &[MAGIC], min_size: MIN_SIZE, probe };

pub const GFS2: Format =
    Format { name: "gfs2", usage: Usage::Filesystem, magics: &[MAGIC], min_size: MIN_SIZE, probe: probe_2 };

fn probe(device: &dyn ReadAt, _magic: Option<&Magic>) -> Option<Signature> {
    let sb = device.bytes(OFFSET, BYTES).ok()?;
    if (be32(&sb, 24)?, be32(&sb, 28)?) != (1309, 1401) {
        return None;
    }
    let mut found = Signature::new("gfs", Usage::Filesystem, OFFSET);
    found.set_label(sb.get(160..224)?);
    found.set_uuid(uuid(&sb, 256)?);
    Some(found)
}

fn probe_2(device: &dyn ReadAt, _magic: Option<&Magic>) -> Option<Signature> {
    let sb = device.bytes(OFFSET, BYTES).ok()?;
    let format = be32(&sb, 24)?;
    let multihost = be32(&sb, 28)?;
    let block_size = be32(&sb, 36)?;
    let lock_protocol = sb.get(96..160)?;
    let lock_table = sb.get(160..224)?;
    if !(1800..1900).contains(&format) || !(1900..2000).contains(&multihost) {
        return None;
    }
    let mut found = Signature::new("gfs2", Usage::Filesystem, OFFSET);
    found.set_label(lock_table);
    found.set_uuid(uuid(&sb, 256)?);
    found.set_version("1");
    found.set_fs_block_size(block_size);
    found.set_block_size(block_size);
    if be32(&sb, 4)? != 1 {
        found.damage("the superblock's kind is not that of one");
    } else if be32(&sb, 16)? != KIND {
        found.damage("the superblock's format is not that of one");
    }
    if lock_protocol.starts_with(b"lock_dlm\0") {
        found.note("a cluster shares it");
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Health;

    fn sample(format: u32, multihost: u32) -> Vec<u8> {
        let mut device = vec![0; (OFFSET + 4096) as usize];
        let sb = &mut device[OFFSET as usize..];
        sb[..4].copy_from_slice(MAGIC.bytes);
        sb[7] = 1;
        sb[19] = KIND as u8;
        sb[24..28].copy_from_slice(&format.to_be_bytes());
        sb[28..32].copy_from_slice(&multihost.to_be_bytes());
        sb[36..40].copy_from_slice(&4096_u32.to_be_bytes());
        sb[96..104].copy_from_slice(b"lock_dlm");
        sb[160..169].copy_from_slice(b"web:files");
        sb[256..272].fill(7);
        device
    }

    #[test]
    fn the_formats_tell_the_versions_apart() {
        let found = probe(&sample(1309, 1401), None).unwrap();
        assert_eq!((found.label.as_deref(), found.version), (Some("web:files"), None));
        assert!(probe(&sample(1801, 1900), None).is_none() && probe_2(&sample(1309, 1401), None).is_none());
        let found = probe_2(&sample(1802, 1900), None).unwrap();
        assert_eq!((found.label.as_deref(), found.block_size), (Some("web:files"), Some(4096)));
        assert_eq!((found.notes.len(), &found.health), (1, &Health::Unchecked));
    }

    #[test]
    fn a_header_of_something_else_is_damage() {
        let mut device = sample(1801, 1900);
        device[OFFSET as usize + 7] = 4;
        assert!(matches!(probe_2(&device, None).unwrap().health, Health::Damaged(_)));
    }
}
