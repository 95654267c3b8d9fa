//! The control volume of drbdmanage, and the log of DRBD's proxy (util-linux: drbdmanage.c, drbdproxy_datalog.c).

use crate::bytes::{be32, le64, utf8, uuid};
use crate::format::{Format, Magic, Signature, Usage};
use crate::read::ReadAt;

const PERSISTENCE: u64 = 4096;
const PERSISTENCE_MAGIC: &[u8] = &[0x1a, 0xdb, 0x98, 0xa2];

pub const CONTROL: Format = Format {
    name: "drbdmanage_control_volume",
    usage: Usage::Other,
    magics: &[Magic { offset: 0, bytes: b"$DRBDmgr=q" }],
    min_size: 64 << 10,
    probe,
};

pub const PROXY_LOG: Format = Format {
    name: "drbdproxy_datalog",
    usage: Usage::Filesystem,
    magics: &[Magic { offset: 0, bytes: b"DRBDdlh*" }],
    min_size: 16 << 10,
    probe: probe_log,
};

fn probe(device: &dyn ReadAt, _magic: Option<&Magic>) -> Option<Signature> {
    let header = device.bytes(0, 44).ok()?;
    let id = header.get(11..43)?;
    if !id.iter().all(u8::is_ascii_hexdigit) || *header.get(43)? != b'\n' {
        return None;
    }
    let mut found = Signature::new("drbdmanage_control_volume", Usage::Other, 0);
    found.set_uuid_text(utf8(id));
    let persistence = device.bytes(PERSISTENCE, 8).ok()?;
    if persistence.get(..4)? == PERSISTENCE_MAGIC {
        found.set_version(be32(&persistence, 4)?.to_string());
    }
    Some(found)
}

fn probe_log(device: &dyn ReadAt, _magic: Option<&Magic>) -> Option<Signature> {
    let header = device.bytes(0, 40).ok()?;
    let version = le64(&header, 8)?;
    let mut found = Signature::new("drbdproxy_datalog", Usage::Filesystem, 0);
    found.set_uuid(uuid(&header, 16)?);
    found.set_version(format!("v{version}"));
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_is_no_hex_is_no_control_volume() {
        let mut device = vec![0; 64 << 10];
        device[..44].copy_from_slice(b"$DRBDmgr=q=0123456789abcdef0123456789ABCDEF\n");
        assert_eq!(probe(&device, None).unwrap().version, None);
        device[4096..4104].copy_from_slice(&[0x1a, 0xdb, 0x98, 0xa2, 0, 0, 0, 3]);
        let found = probe(&device, None).unwrap();
        assert_eq!(found.uuid.as_deref(), Some("0123456789abcdef0123456789ABCDEF"));
        assert_eq!(found.version.as_deref(), Some("3"));
        device[20] = b'x';
        assert!(probe(&device, None).is_none());
    }

    #[test]
    fn the_proxys_log_has_a_version() {
        let mut device = vec![0; 16 << 10];
        device[8] = 2;
        device[16..32].fill(1);
        let found = probe_log(&device, None).unwrap();
        assert_eq!((found.version.as_deref(), found.uuid.is_some()), (Some("v2"), true));
    }
}
