//! Network block devices: NBD_DISCONNECT (linux/nbd.h).

use rustix::fs::{Mode, OFlags};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

const NBD_DISCONNECT: libc::Ioctl = 0xAB08;

/// Has the kernel write out what it holds of the device at this path, and tell whoever serves it that no more comes: a server
/// of this machine, as qemu-nbd(8), ends then.
pub fn disconnect(path: &Path) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let device = rustix::fs::open(path, flags, Mode::empty())?;
    rustix::fs::fsync(&device)?;
    // SAFETY: it has no argument.
    match unsafe { libc::ioctl(device.as_raw_fd(), NBD_DISCONNECT) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
