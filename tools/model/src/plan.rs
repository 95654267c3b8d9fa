//! Plan: whatever changes the machine is first a list of printable steps. `tools/src/apply` is the
//! one door through which they are made; `--dry-run` prints them.

use contract::guard::Consent;
use serde::{Deserialize, Serialize};

/// One change, with everything that is needed to make it and nothing to decide.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum Step {
    /// Write the consent, then clear the kernel's read-only flag of the device and of its disk.
    SetWritable {
        path: String,
        disk: Option<String>,
        consent: Consent,
    },
    /// Take the consent away and set the flag again.
    SetGuarded {
        path: String,
        disk: Option<String>,
        consent: Consent,
    },
    /// Load a module through devd.
    Module {
        name: String,
    },
    MdStart(MdStart),
    MdStop {
        device: String,
    },
    Loop {
        file: String,
        device: Option<String>,
        read_only: bool,
        offset: u64,
        size: Option<u64>,
    },
    LoopRemove {
        device: String,
    },
    MakeDirectory {
        path: String,
    },
    Mount {
        source: String,
        target: String,
        fstype: String,
        flags: Vec<String>,
        data: String,
    },
    Umount {
        target: String,
        lazy: bool,
        force: bool,
    },
    Run {
        argv: Vec<String>,
    },
}

/// One md array to assemble by the kernel's own interface (md's sysfs and SET_ARRAY_INFO,
/// ADD_NEW_DISK, RUN_ARRAY). Sizes in bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MdStart {
    /// `/dev/md0` or `/dev/md/name`; the node's minor is in `minor`.
    pub device: String,
    pub minor: u32,
    /// Below /dev/md: `/dev/md/boot`.
    pub link: Option<String>,
    pub uuid: String,
    pub members: Vec<MdMember>,
    pub read_only: bool,
    pub metadata: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MdMember {
    pub path: String,
    pub major: u32,
    pub minor: u32,
    pub slot: Option<u32>,
    /// What was seen; applying looks again and refuses when it changed.
    pub diskseq: Option<u64>,
    pub events: u64,
}
