//! Members of Adaptec's HostRAID: the disk's last sector, with a magic at its start and one behind its middle
//! (util-linux: adaptec_raid.c; dmraid: asr.h).

use crate::bytes::be32;
use crate::format::{Format, Magic, Signature, Usage};
use crate::read::ReadAt;

/// B0RESRVD
const MAGIC: u32 = 0x37fc_4d1e;
const SIGNATURE: &[u8] = b"DPTM";

pub const FORMAT: Format =
    Format { name: "adaptec_raid_member", usage: Usage::Raid, magics: &[], min_size: 0x10000, probe };

fn probe(device: &dyn ReadAt, _magic: Option<&Magic>) -> Option<Signature> {
    let at = (device.size() / 512).checked_sub(1)? * 512;
    let sb = device.bytes(at, 512).ok()?;
    let version = *sb.get(63)?;
    if be32(&sb, 0)? != MAGIC || sb.get(256..260)? != SIGNATURE {
        return None;
    }
    let mut found = Signature::new("adaptec_raid_member", Usage::Raid, at);
    found.set_version(version.to_string());
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_magics_are_asked_for() {
        let mut device = vec![0; 0x10000];
        device[0xfe00..0xfe04].copy_from_slice(&MAGIC.to_be_bytes());
        device[0xfe00 + 63] = 8;
        assert!(probe(&device, None).is_none());
        device[0xff00..0xff04].copy_from_slice(SIGNATURE);
        assert_eq!(probe(&device, None).unwrap().version.as_deref(), Some("8"));
    }
}
