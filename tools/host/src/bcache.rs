//! bcache through sysfs (Documentation/admin-guide/bcache.rst). Devices go by their kernel names: `dm-3`.

use crate::{Act, Root};
use std::io;

const REGISTER: &str = "/sys/fs/bcache/register";

/// Shows a device to it, by its path.
pub fn register(_act: &Act, root: &Root, device: &str) -> io::Result<()> {
    root.write(REGISTER, device)
}

pub fn is_registered(root: &Root, name: &str) -> bool {
    root.exists(path(name))
}

/// The kernel name of the device that shows what is cached; an error: it is not joined with its cache.
pub fn shown(root: &Root, name: &str) -> io::Result<String> {
    let link = root.link(format!("{}/dev", path(name)))?;
    let shown = link.file_name().and_then(|name| name.to_str()).map(str::to_string);
    shown.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no name"))
}

/// Nothing is written back, and what is read is not cached.
pub fn hold(_act: &Act, root: &Root, name: &str) -> io::Result<()> {
    root.write(format!("{}/writeback_running", path(name)), "0")?;
    root.write(format!("{}/cache_mode", path(name)), "none")
}

/// Begins to let go of it: of what is cached alone, of a cache with its whole set.
pub fn stop(_act: &Act, root: &Root, name: &str) -> io::Result<()> {
    let set = format!("{}/set", path(name));
    let stopped = if root.exists(&set) { set } else { path(name) };
    root.write(format!("{stopped}/stop"), "1")
}

fn path(name: &str) -> String {
    format!("/sys/class/block/{name}/bcache")
}
