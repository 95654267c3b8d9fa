//! Loop devices: LOOP_CTL_GET_FREE, LOOP_CONFIGURE, LOOP_CLR_FD (linux/loop.h, loop(4)).

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

const LOOP_CONFIGURE: libc::Ioctl = 0x4C0A;
const LOOP_CLR_FD: libc::Ioctl = 0x4C01;
const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4C82;

pub const READ_ONLY: u32 = 1;
pub const AUTOCLEAR: u32 = 4;
pub const DIRECT_IO: u32 = 16;

/// Tries against others that take the free device between our two calls.
const TRIES: u32 = 16;

/// `struct loop_info64`
#[repr(C)]
#[derive(Clone, Copy)]
struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

/// Attaches a file to a free loop device.
///
/// `offset` and `size` are bytes, size 0 for the rest of the file; `flags` are those above.
/// Returns the device's path, and it opened, so that AUTOCLEAR does not end it at once.
pub fn attach(
    file: impl AsFd,
    offset: u64,
    size: u64,
    flags: u32,
    name: &str,
) -> io::Result<(String, OwnedFd)> {
    let control = rustix::fs::open("/dev/loop-control", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let mut file_name = [0; 64];
    let shown = name.as_bytes();
    let length = shown.len().min(63);
    file_name[..length].copy_from_slice(&shown[..length]);
    let info = Info {
        device: 0,
        inode: 0,
        rdevice: 0,
        offset,
        size_limit: size,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags,
        file_name,
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
    };
    let config =
        Config { fd: file.as_fd().as_raw_fd().cast_unsigned(), block_size: 0, info, reserved: [0; 8] };
    for _ in 0..TRIES {
        // SAFETY: takes no argument; returns a number or -1.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        let path = format!("/dev/loop{number}");
        let mode = if flags & READ_ONLY != 0 { OFlags::RDONLY } else { OFlags::RDWR };
        let device = rustix::fs::open(path.as_str(), mode | OFlags::CLOEXEC, Mode::empty())?;
        // SAFETY: `config` lives over the call, and has the layout that the kernel reads (tested).
        match unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &config) } {
            0 => return Ok((path, device)),
            _ if io::Error::last_os_error().raw_os_error() == Some(Errno::BUSY.raw_os_error()) => {}
            _ => return Err(io::Error::last_os_error()),
        }
    }
    Err(io::Error::new(io::ErrorKind::ResourceBusy, "no loop device stayed free"))
}

/// Detaches; one that is still open goes when its last user closes it.
pub fn detach(device: impl AsFd) -> io::Result<()> {
    // SAFETY: takes no argument.
    match unsafe { libc::ioctl(device.as_fd().as_raw_fd(), LOOP_CLR_FD) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structs_are_laid_out_as_the_kernel_has_them() {
        assert_eq!(size_of::<Info>(), 232);
        assert_eq!(size_of::<Config>(), 304);
        assert_eq!(std::mem::offset_of!(Info, file_name), 56);
    }
}
