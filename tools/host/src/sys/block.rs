//! ioctls of block devices: BLKROSET and what the queue says of its sizes (linux/fs.h), HDIO_GETGEO (linux/hdreg.h).

use rustix::fs::{Mode, OFlags};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

const BLKROSET: libc::Ioctl = 0x125D;
const HDIO_GETGEO: libc::Ioctl = 0x0301;
const BLKSSZGET: libc::Ioctl = 0x1268;
const BLKIOMIN: libc::Ioctl = 0x1278;
const BLKIOOPT: libc::Ioctl = 0x1279;
const BLKALIGNOFF: libc::Ioctl = 0x127A;
const BLKPBSZGET: libc::Ioctl = 0x127B;

/// `struct hd_geometry`.
#[repr(C)]
#[derive(Default)]
struct HdGeometry {
    heads: u8,
    sectors: u8,
    cylinders: u16,
    start: libc::c_ulong,
}

/// As the attributes of the same names in sysfs have them, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub logical_block: u32,
    pub physical_block: u32,
    pub minimum_io: u32,
    pub optimal_io: u32,
    pub alignment_offset: i32,
}

/// Of an open block device, from the kernel's memory: in a tenth of the time that files of sysfs take.
pub fn limits(device: impl AsFd) -> io::Result<Limits> {
    let device = device.as_fd();
    let ask = |request| {
        let mut value: libc::c_int = 0;
        // SAFETY: the kernel writes one int to the pointer, which lives over the call.
        match unsafe { libc::ioctl(device.as_raw_fd(), request, &raw mut value) } {
            0 => Ok(value),
            _ => Err(io::Error::last_os_error()),
        }
    };
    Ok(Limits {
        logical_block: ask(BLKSSZGET)?.cast_unsigned(),
        physical_block: ask(BLKPBSZGET)?.cast_unsigned(),
        minimum_io: ask(BLKIOMIN)?.cast_unsigned(),
        optimal_io: ask(BLKIOOPT)?.cast_unsigned(),
        alignment_offset: ask(BLKALIGNOFF)?,
    })
}

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

/// Heads and sectors of a track, either of which may be 0. It may read the disk: for workers only.
pub fn geometry(device: BorrowedFd<'_>) -> io::Result<(u8, u8)> {
    let mut value = HdGeometry::default();
    // SAFETY: the kernel writes one hd_geometry to the pointer, which lives over the call.
    match unsafe { libc::ioctl(device.as_raw_fd(), HDIO_GETGEO, &raw mut value) } {
        0 => Ok((value.heads, value.sectors)),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_geometry_lies_as_the_kernel_lays_it() {
        assert_eq!(size_of::<HdGeometry>(), 16);
        assert_eq!(std::mem::offset_of!(HdGeometry, cylinders), 2);
        assert_eq!(std::mem::offset_of!(HdGeometry, start), 8);
    }
}
