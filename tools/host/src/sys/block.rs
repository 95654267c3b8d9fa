//! ioctls of block devices: BLKROSET (linux/fs.h).

use rustix::fs::{Mode, OFlags};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

const BLKROSET: libc::Ioctl = 0x125D;

/// Sets or clears the kernel's read-only flag of a disk or partition. The open may never return on
/// a disk that hangs: for workers only.
pub fn set_read_only(path: &Path, read_only: bool) -> io::Result<()> {
    let device: OwnedFd =
        rustix::fs::open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
    let value: libc::c_int = read_only.into();
    // SAFETY: the kernel reads one int from the pointer, which lives over the call.
    match unsafe { libc::ioctl(device.as_raw_fd(), BLKROSET, &raw const value) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
