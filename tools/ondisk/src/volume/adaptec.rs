//! Members of Adaptec's HostRAID: the disk's last sector, with a magic at its start and one behind its middle
//! (util-linux: adaptec_raid.c; dmraid: asr.h).

use crate::bytes::be32;
use crate::format::{Format, Magic, Signature, Usage};
use crate::read::ReadAt;

/// Where the RAID table begins, in sectors, and most sectors that it has.
const TABLE: usize = 0x104;
const TABLE_SECTORS: u64 = 17;

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
    found.owns(at, 512, device);
    let table = u64::from(be32(&sb, TABLE)?) * 512;
    // In front of the block that names it; anything else would be a volume's.
    if table < at && at - table <= TABLE_SECTORS * 512 {
        found.owns(table, at - table, device);
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Extent;

    #[test]
    fn both_magics_are_asked_for() {
        let mut device = vec![0; 0x10000];
        device[0xfe00..0xfe04].copy_from_slice(&MAGIC.to_be_bytes());
        device[0xfe00 + 63] = 8;
        assert!(probe(&device, None).is_none());
        device[0xff00..0xff04].copy_from_slice(SIGNATURE);
        let own = |device: &Vec<u8>| probe(device, None).unwrap().own;
        assert_eq!(probe(&device, None).unwrap().version.as_deref(), Some("8"));
        let last = Extent { start: 0xfe00, length: 512 };
        assert_eq!(own(&device), [last]);
        device[0xfe00 + TABLE + 3] = 0x7d;
        assert_eq!(own(&device), [last, Extent { start: 0x7d * 512, length: 1024 }]);
        device[0xfe00 + TABLE + 3] = 2;
        assert_eq!(own(&device), [last], "a table that is far from there");
    }
}
