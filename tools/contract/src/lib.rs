//! What two processes of Lifeboat must agree on: the kernel command line's words, the names of
//! parameters and tools, events, state files, requests, consents, ledger records, exit codes,
//! the kernel's module indices and the paths below `/run/lifeboat`. No I/O and no judgement about disks: values and their text.

pub mod authorized_keys;
pub mod cmdline;
pub mod date;
pub mod event;
pub mod exit;
pub mod facts;
pub mod guard;
pub mod host_keys;
pub mod kmod;
pub mod layers;
pub mod ledger;
pub mod near;
pub mod params;
pub mod password;
pub mod paths;
pub mod redact;
pub mod state;
pub mod text;
pub mod tools;
pub mod udev;
pub mod url;
pub mod wire;
