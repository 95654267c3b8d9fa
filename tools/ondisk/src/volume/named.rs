//! Formats of which no more than a magic, and perhaps a UUID behind it, is known here: Ceph's BlueStore, VDO, ReFS.

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
