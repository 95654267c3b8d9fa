//! What veritysetup and integritysetup leave on a device (cryptsetup: lib/verity/verity.c, dm-integrity.c).

use crate::bytes::{le32, uuid};
use crate::format::{Format, Magic, Signature, Usage};
use crate::read::ReadAt;

pub const VERITY: Format = Format {
    name: "DM_verity_hash",
    usage: Usage::Crypto,
    magics: &[Magic { offset: 0, bytes: b"verity\0\0" }],
    min_size: 512,
    probe: verity,
};

pub const INTEGRITY: Format = Format {
    name: "DM_integrity",
    usage: Usage::Crypto,
    magics: &[Magic { offset: 0, bytes: b"integrt\0" }],
    min_size: 512,
    probe: integrity,
};

fn verity(device: &dyn ReadAt, _magic: Option<&Magic>) -> Option<Signature> {
    let sb = device.bytes(0, 512).ok()?;
    let version = le32(&sb, 8)?;
    if version != 1 {
        return None;
    }
    let mut found = Signature::new("DM_verity_hash", Usage::Crypto, 0);
    found.set_uuid(uuid(&sb, 16)?);
    found.set_version(version.to_string());
    Some(found)
}

fn integrity(device: &dyn ReadAt, _magic: Option<&Magic>) -> Option<Signature> {
    let version = *device.bytes(0, 512).ok()?.get(8)?;
    if version == 0 {
        return None;
    }
    let mut found = Signature::new("DM_integrity", Usage::Crypto, 0);
    found.set_version(version.to_string());
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_is_not_known_is_none() {
        let mut device = vec![0; 4096];
        device[8] = 1;
        device[16..32].fill(7);
        assert_eq!(
            verity(&device, None).unwrap().uuid.as_deref(),
            Some("07070707-0707-0707-0707-070707070707")
        );
        assert_eq!(integrity(&device, None).unwrap().version.as_deref(), Some("1"));
        device[8] = 0;
        assert!(verity(&device, None).is_none() && integrity(&device, None).is_none());
    }
}
