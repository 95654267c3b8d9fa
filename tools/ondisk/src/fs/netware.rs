//! Novell's Storage Services: a pool's superblock (util-linux: libblkid/src/superblocks/netware.c).

use crate::bytes::{le16, uuid};
use crate::format::{Format, Magic, Signature, Usage};
use crate::read::ReadAt;

const OFFSET: u64 = 4096;

pub const FORMAT: Format = Format {
    name: "nss",
    usage: Usage::Filesystem,
    magics: &[Magic { offset: OFFSET, bytes: b"SPB5" }],
    min_size: OFFSET + 640,
    probe,
};

fn probe(device: &dyn ReadAt, _magic: Option<&Magic>) -> Option<Signature> {
    let sb = device.bytes(OFFSET, 364).ok()?;
    let (major, minor) = (le16(&sb, 8)?, le16(&sb, 10)?);
    let mut found = Signature::new("nss", Usage::Filesystem, OFFSET);
    found.set_uuid(uuid(&sb, 348)?);
    found.set_version(format!("{major}.{minor:02}"));
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pools_id_and_the_mediums_version_are_read() {
        let mut device = vec![0; 8192];
        device[4096..4100].copy_from_slice(b"SPB5");
        device[4104..4108].copy_from_slice(&[8, 0, 5, 0]);
        device[4096 + 348..4096 + 364].fill(0x11);
        let found = probe(&device, None).unwrap();
        assert_eq!(found.version.as_deref(), Some("8.05"));
        assert_eq!(found.uuid.as_deref(), Some("11111111-1111-1111-1111-111111111111"));
    }
}
