//! swapon(2), swapoff(2).

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// SWAP_FLAG_DISCARD (linux/swap.h): what is no longer used is given back, which a device in memory frees.
const DISCARD: libc::c_int = 0x10000;

/// Puts a swap area into use.
pub fn on(path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: reads the string, which lives over the call.
    match unsafe { libc::swapon(path.as_ptr(), DISCARD) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Takes a swap area out of use, which reads all of it back into memory: slow, and `ENOMEM` where
/// there is no room.
pub fn off(path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: reads the string, which lives over the call.
    match unsafe { libc::swapoff(path.as_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
