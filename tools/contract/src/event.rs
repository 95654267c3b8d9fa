//! Events: JSON lines that a service writes to its descriptor 3, and that init forwards to
//! `rescue.events=DEVICE` and to the event log without interpreting more than the kind.

use serde::{Deserialize, Serialize};

/// Longest line, in bytes with its newline; a longer one is dropped and counted.
pub const MAX_LINE: usize = 1024;
/// Most lines a second from one service; the excess is counted and reported once.
pub const MAX_RATE: u32 = 16;
/// The descriptor that a service finds its event stream on.
pub const DESCRIPTOR: i32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    Info,
    Warning,
    Error,
}

/// What happened, told outward. Never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Event {
    /// PID 1 runs.
    Boot {
        version: String,
    },
    /// A step of the boot failed; the boot goes on.
    StepFailed {
        step: String,
        error: String,
    },
    /// A service was started (again).
    Started {
        service: String,
        pid: i32,
        restarts: u32,
    },
    /// A service ended by itself.
    Exited {
        service: String,
        status: String,
    },
    /// A service does its work: sshd listens, netd and devd answer their sockets, layers are done.
    /// As `rescue`, with the entrance: somebody can log in over the network. Again when that changes.
    Ready {
        service: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        entrance: Option<Entrance>,
    },
    /// The host key of this boot: the two fields of an OpenSSH public key line.
    HostKey {
        line: String,
        fingerprint: String,
        alias: String,
        /// Its record in DNS (RFC 4255), without the name: `IN SSHFP 4 2 ...`.
        #[serde(default)]
        sshfp: String,
    },
    /// An address was configured.
    Address {
        interface: String,
        address: String,
        gateway: Option<String>,
    },
    AddressLost {
        interface: String,
        address: String,
    },
    /// A layer was mounted, or why not.
    Layer {
        name: String,
        error: Option<String>,
    },
    /// What was plugged in at power-on has its modules and its guard.
    Settled {
        disks: u32,
    },
    /// A disk came, and its guard is set, or known not to be: with `guarded` nothing can write to it.
    Disk {
        name: String,
        diskseq: u64,
        guarded: bool,
    },
    DiskGone {
        name: String,
    },
    /// Somebody logged in.
    Login {
        from: String,
        with: String,
    },
    Shutdown {
        how: String,
    },
    /// One line for a person, shown on the consoles.
    Notice {
        severity: Severity,
        text: String,
    },
}

/// Where to log in, and how to know the host there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Entrance {
    /// Eight at most, so that the event stays one.
    pub addresses: Vec<String>,
    pub port: u16,
    /// The two fields of an OpenSSH public key line, which known_hosts takes after the names.
    pub line: String,
    pub fingerprint: String,
    pub alias: String,
    /// As in [`Event::HostKey`].
    pub sshfp: String,
    /// `fresh`, `injected`, or `installed`: of the system on the disks.
    pub origin: String,
}

impl Event {
    /// A service that does its work.
    pub fn ready(service: &str) -> Event {
        Event::Ready { service: service.to_string(), entrance: None }
    }

    /// A warning, in one line that names the thing and what to do next.
    pub fn warning(text: impl Into<String>) -> Event {
        Event::Notice { severity: Severity::Warning, text: text.into() }
    }
}
