//! finit_module(2).

use rustix::fs::{Mode, OFlags};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

/// MODULE_INIT_COMPRESSED_FILE (linux/module.h): the kernel unpacks it.
const COMPRESSED: libc::c_int = 4;

/// Loads a module file; does not return before the module's init has. One that is loaded already is
/// no error.
pub fn load(path: &Path, parameters: &str) -> io::Result<()> {
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let parameters = std::ffi::CString::new(parameters)?;
    let packed = path.extension().is_some_and(|extension| extension != "ko");
    let flags = if packed { COMPRESSED } else { 0 };
    // SAFETY: the descriptor and the string live over the call.
    let done = unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), parameters.as_ptr(), flags) };
    match done {
        0 => Ok(()),
        _ => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
            error => Err(error),
        },
    }
}
