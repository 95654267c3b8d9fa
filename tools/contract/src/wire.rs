//! Requests and replies, as JSON in one SEQPACKET message each way (services) or one length-less
//! message over a worker's socketpair. Replies are capped by the reader.

use crate::guard::Extent;
use serde::{Deserialize, Serialize};

/// Largest message to or from a service, in bytes.
pub const MAX_MESSAGE: usize = 1 << 20;
/// Largest message to or from a worker, in bytes: what it found on a device may have a group of thousands of volumes in it.
pub const MAX_REPORT: usize = 4 << 20;
/// Most workers at once.
pub const MAX_WORKERS: usize = 32;

/// To devd, at `/run/lifeboat/devd.sock`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum DevdRequest {
    /// Answered when no event is being handled and the last coldplug has ended.
    Settle { timeout_ms: u64 },
    /// Load a module by name or alias, such as `raid456` or `fs-xfs`.
    Module { name: String },
    /// Look at the consents again and bring every flag in line with them.
    Guard,
}

/// To netd, at `/run/lifeboat/netd.sock`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum NetdRequest {
    Status,
    /// Start DHCP anew on one interface.
    Renew {
        interface: String,
    },
    /// The plan that is carried out (`network::Plan`).
    Plan,
    /// Carry this out (`network::Plan`) beside what is asked for already, its entries in the place of those about the same
    /// interfaces. With `trial`, what was before comes back after as many seconds, unless [`NetdRequest::Keep`] comes first.
    Apply {
        plan: serde_json::Value,
        trial: Option<u32>,
    },
    Keep,
    /// Back to what was before the trial.
    Revert,
}

/// Settings of the network that `rescue net --json borrow` and `seed` have found, or why not.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Offer {
    /// Where they stand, in words.
    pub origin: String,
    /// `network::Plan`.
    pub plan: Option<serde_json::Value>,
    pub reason: Option<String>,
    /// Nothing was there that could be read, and may yet come.
    pub may_come: bool,
    /// Beside that, for a person.
    pub notes: Vec<String>,
}

/// What every service answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Reply {
    Done,
    Failed { error: String },
    Value { value: serde_json::Value },
}

/// To a worker: whatever touches a block device and so may never return.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum WorkerRequest {
    /// Read the device (O_DIRECT where it can be) and report what is on it: the reply's value is an
    /// `ondisk::DiskReport`. With `sections`, partitions that have no node are read through the disk.
    Examine { path: String, logical_block: u32, size: u64, sections: Vec<Extent> },
    /// As `Examine`, the partition table alone.
    ExamineTable { path: String, logical_block: u32, size: u64 },
    /// As `Examine`, and the bytes that were read for it, `limit` of them at most and without secrets, into a new sparse
    /// file as long as the device.
    Capture { path: String, logical_block: u32, size: u64, sections: Vec<Extent>, limit: u64, into: String },
    /// As `Examine`, and the whole sectors that hold what was read for it, those of `windows` and the keys of LUKS, with
    /// their secrets, `limit` bytes of them at most, into a new sparse file as long as the device.
    Save { path: String, logical_block: u32, size: u64, windows: Vec<Extent>, limit: u64, into: String },
    /// Fails where the kernel uses the device, as `PutBack` would; nothing is written.
    Claim { path: String },
    /// Write a window of a file that `Save` made back to where it was, past the page cache, and wait until the
    /// device has it.
    PutBack { path: String, size: u64, from: String, window: Extent },
    /// BLKROSET.
    SetReadOnly { path: String, read_only: bool },
    /// Write an attribute of an md array: the kernel reads its members, or writes to them, as it does.
    SetMd { array: String, attribute: String, text: String },
}
