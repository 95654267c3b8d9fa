//! Formats of which no more than a magic, and perhaps a name or a UUID behind it, is known here: Ceph's BlueStore, VDO,
//! ReFS, a disk of Oracle's ASM.

use crate::bytes::uuid;
use crate::format::{Format, Magic, Signature, Usage};

pub const BLUESTORE: Format = Format {
    name: "ceph_bluestore",
    usage: Usage::Other,
    magics: &[Magic { offset: 0, bytes: b"bluestore block device" }],
    min_size: 512,
    probe: |_, _| Some(Signature::new("ceph_bluestore", Usage::Other, 0)),
};

pub const VDO: Format = Format {
    name: "vdo",
    usage: Usage::Other,
    magics: &[Magic { offset: 0, bytes: b"dmvdo001" }],
    min_size: 512,
    probe: |device, _| {
        let mut found = Signature::new("vdo", Usage::Other, 0);
        found.set_uuid(uuid(&device.bytes(40, 16).ok()?, 0)?);
        Some(found)
    },
};

pub const REFS: Format = Format {
    name: "ReFS",
    usage: Usage::Filesystem,
    magics: &[Magic { offset: 0, bytes: b"\0\0\0ReFS\0" }],
    min_size: 512,
    probe: |_, _| Some(Signature::new("ReFS", Usage::Filesystem, 0)),
};

pub const ORACLE_ASM: Format = Format {
    name: "oracleasm",
    usage: Usage::Filesystem,
    magics: &[Magic { offset: 32, bytes: b"ORCLDISK" }],
    min_size: 512,
    probe: |device, _| {
        let mut found = Signature::new("oracleasm", Usage::Filesystem, 32);
        found.set_label(&device.bytes(40, 24).ok()?);
        Some(found)
    },
};
