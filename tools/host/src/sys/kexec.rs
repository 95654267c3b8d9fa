//! The next kernel: kexec_file_load(2). `reboot(2)` starts it ([`super::process::reboot`]).

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// Loads a kernel with its initramfs and command line, in the place of one that was loaded before. Both files may be
/// open for reading alone, by anybody: the kernel reads them with execve(2)'s rules, so a writer is ETXTBSY.
pub fn load(kernel: BorrowedFd<'_>, initramfs: BorrowedFd<'_>, command_line: &CStr) -> io::Result<()> {
    let length = command_line.to_bytes_with_nul().len();
    // SAFETY: two open descriptors, a string with its terminating NUL and its length, and no flags; nothing of it is
    // kept.
    let result = unsafe {
        libc::syscall(
            libc::SYS_kexec_file_load,
            kernel.as_raw_fd(),
            initramfs.as_raw_fd(),
            length,
            command_line.as_ptr(),
            0 as libc::c_ulong,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What was loaded is let go: the next reboot is one as ever.
pub fn unload() -> io::Result<()> {
    const KEXEC_FILE_UNLOAD: libc::c_ulong = 1;
    // SAFETY: with this flag the call reads nothing: no descriptors, no line.
    let result = unsafe {
        libc::syscall(
            libc::SYS_kexec_file_load,
            -1 as libc::c_int,
            -1 as libc::c_int,
            0 as libc::c_ulong,
            std::ptr::null::<libc::c_char>(),
            KEXEC_FILE_UNLOAD,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
