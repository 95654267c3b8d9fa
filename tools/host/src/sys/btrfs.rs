//! btrfs's list of the devices that it has seen: /dev/btrfs-control (linux/btrfs.h).

use rustix::fs::{Mode, OFlags};
use std::io;
use std::os::fd::AsRawFd;

/// `_IOW(BTRFS_IOCTL_MAGIC, NR, struct btrfs_ioctl_vol_args)`
const SCAN_DEV: libc::Ioctl = 0x5000_9404;
const FORGET_DEV: libc::Ioctl = 0x5000_9405;

/// BTRFS_PATH_NAME_MAX
const LONGEST: usize = 4087;

/// `struct btrfs_ioctl_vol_args`
#[repr(C)]
struct Arguments {
    fd: i64,
    name: [u8; LONGEST + 1],
}

/// Reads a device and takes it into the list, as a member of its file system. Never returns on a disk that hangs.
pub fn scan(path: &str) -> io::Result<()> {
    call(SCAN_DEV, path)
}

/// Drops a device from the list; `NotFound` where it is not there, busy while it is mounted.
pub fn forget(path: &str) -> io::Result<()> {
    call(FORGET_DEV, path)
}

fn call(command: libc::Ioctl, path: &str) -> io::Result<()> {
    let mut arguments = Box::new(Arguments { fd: 0, name: [0; LONGEST + 1] });
    // The last byte stays the terminating NUL.
    let place = arguments.name[..LONGEST].get_mut(..path.len());
    place.ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(path.as_bytes());
    let control = rustix::fs::open("/dev/btrfs-control", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let arguments: *const Arguments = &*arguments;
    // SAFETY: the kernel reads the struct at the pointer, which lives over the call (its size is tested).
    match unsafe { libc::ioctl(control.as_raw_fd(), command, arguments) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_struct_is_as_large_as_the_command_says() {
        assert_eq!(size_of::<Arguments>(), 4096);
        assert_eq!(SCAN_DEV >> 16 & 0x3fff, 4096);
        assert_eq!(std::mem::offset_of!(Arguments, name), 8);
    }
}
