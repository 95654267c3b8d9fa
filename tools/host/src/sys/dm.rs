//! Device mapper: /dev/mapper/control (linux/dm-ioctl.h).

use rustix::fs::{Mode, OFlags};
use std::io;
use std::os::fd::AsRawFd;

/// `_IOWR(DM_IOCTL, DM_DEV_REMOVE_CMD, struct dm_ioctl)`
const DM_DEV_REMOVE: libc::Ioctl = 0xC138_FD04;
/// The interface that the kernel has had since 2.6: it takes any minor version up to its own.
const VERSION: [u32; 3] = [4, 0, 0];

/// `struct dm_ioctl`
#[repr(C)]
struct Header {
    version: [u32; 3],
    data_size: u32,
    data_start: u32,
    target_count: u32,
    open_count: i32,
    flags: u32,
    event_number: u32,
    padding: u32,
    device: u64,
    name: [u8; 128],
    uuid: [u8; 129],
    data: [u8; 7],
}

/// Removes a mapped device by its name. `ResourceBusy` while anything has it open.
pub fn remove(name: &str) -> io::Result<()> {
    let mut header = Header {
        version: VERSION,
        data_size: size_of::<Header>() as u32,
        data_start: 0,
        target_count: 0,
        open_count: 0,
        flags: 0,
        event_number: 0,
        padding: 0,
        device: 0,
        name: [0; 128],
        uuid: [0; 129],
        data: [0; 7],
    };
    // The last byte stays the terminating NUL.
    let space = header.name.len() - 1;
    let Some(place) = header.name[..space].get_mut(..name.len()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    place.copy_from_slice(name.as_bytes());
    let control = rustix::fs::open("/dev/mapper/control", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    // SAFETY: the kernel reads and writes `data_size` bytes at the pointer, which are the struct's own.
    match unsafe { libc::ioctl(control.as_raw_fd(), DM_DEV_REMOVE, &raw mut header) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structs_are_laid_out_as_the_kernel_has_them() {
        assert_eq!(size_of::<Header>(), 312);
        assert_eq!(std::mem::offset_of!(Header, device), 40);
        assert_eq!(std::mem::offset_of!(Header, uuid), 176);
    }
}
