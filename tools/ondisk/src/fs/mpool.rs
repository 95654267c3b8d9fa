//! A drive of an mpool, Micron's store for HSE (mpool-kmod: omf.h).

use crate::bytes::{le32, uuid};
use crate::format::{Format, Health, Magic, Signature, Usage};
use crate::read::ReadAt;

/// What the checksum covers.
const SUMMED: usize = 62;

pub const FORMAT: Format = Format {
    name: "mpool",
    usage: Usage::Filesystem,
    magics: &[Magic { offset: 0, bytes: b"mpoolDev" }],
    min_size: 4096,
    probe,
};

fn probe(device: &dyn ReadAt, _magic: Option<&Magic>) -> Option<Signature> {
    let sb = device.bytes(0, SUMMED + 4).ok()?;
    let sum = le32(&sb, SUMMED)?;
    let should = crc32c::crc32c(sb.get(..SUMMED)?);
    let mut found = Signature::new("mpool", Usage::Filesystem, 0);
    found.health = Health::of_checksum(sum, should);
    found.set_label(sb.get(8..40)?);
    found.set_uuid(uuid(&sb, 40)?);
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_verified() {
        let mut device = vec![0; 8192];
        device[..11].copy_from_slice(b"mpoolDevmp1");
        device[40..56].fill(6);
        let sum = crc32c::crc32c(&device[..SUMMED]);
        device[SUMMED..SUMMED + 4].copy_from_slice(&sum.to_le_bytes());
        let found = probe(&device, None).unwrap();
        assert_eq!((&found.health, found.label.as_deref()), (&Health::Sound, Some("mp1")));
        device[10] = b'2';
        assert!(matches!(probe(&device, None).unwrap().health, Health::Damaged(_)));
    }
}
