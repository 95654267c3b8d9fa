//! mount(2), umount2(2).

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use std::ffi::CString;
use std::io;
use std::path::Path;

/// Attaches a file system. `data` is the comma-separated option string that the file system reads.
pub fn mount(source: &str, target: &Path, fstype: &str, flags: MountFlags, data: &str) -> io::Result<()> {
    let data = CString::new(data)?;
    Ok(rustix::mount::mount(source, target, fstype, flags, data.as_c_str())?)
}

/// Makes a mount visible in a second place.
pub fn bind(source: &Path, target: &Path, recursive: bool) -> io::Result<()> {
    let bind = if recursive { rustix::mount::mount_bind_recursive } else { rustix::mount::mount_bind };
    Ok(bind(source, target)?)
}

/// Changes the flags and options of a mount that is there.
pub fn remount(target: &Path, flags: MountFlags, data: &str) -> io::Result<()> {
    let data = CString::new(data)?;
    Ok(rustix::mount::mount_remount(target, flags, data.as_c_str())?)
}

/// Moves a mount, with those below it, to another place.
pub fn shift(source: &Path, target: &Path) -> io::Result<()> {
    Ok(rustix::mount::mount_move(source, target)?)
}

/// How mounts below a place spread to its copies (mount_namespaces(7), shared subtrees).
pub fn spread(target: &Path, flags: MountPropagationFlags) -> io::Result<()> {
    Ok(rustix::mount::mount_change(target, flags)?)
}

/// Mounts of this process and its children are its own from here on: unshare(2), CLONE_NEWNS.
pub fn own_namespace() -> io::Result<()> {
    // SAFETY: the descriptor table, which the flag that this is unsafe for would split, stays shared.
    Ok(unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }?)
}

pub fn umount(target: &Path, flags: UnmountFlags) -> io::Result<()> {
    Ok(rustix::mount::unmount(target, flags)?)
}
