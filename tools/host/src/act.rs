//! The token without which no changing function of this crate can be called. Holding it is holding
//! the lock, so two changing verbs never run at once; only `tools/src/apply` begins one (a house
//! test looks), so no dry run can hold one.

use contract::paths;
use rustix::fs::{FlockOperation, Mode, OFlags};
use std::io;
use std::os::fd::OwnedFd;

#[derive(Debug)]
pub struct Act {
    _lock: OwnedFd,
}

impl Act {
    /// Takes `/run/lifeboat/lock` without waiting.
    ///
    /// Errors: `WouldBlock` while another verb changes something.
    pub fn begin() -> io::Result<Act> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
        let lock = rustix::fs::open(paths::LOCK, flags, Mode::RUSR | Mode::WUSR)?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Act { _lock: lock })
    }
}
