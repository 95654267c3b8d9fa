//! Loop devices, for `mount -o loop`. One is detached by itself when what stands on it is unmounted, as
//! mount(8) has it.

use super::Made;
use anyhow::Context as _;
use host::Act;
use host::sys::loopdev::{self, AUTOCLEAR, READ_ONLY};
use std::fs::{File, OpenOptions};

/// Sizes in bytes. The device is named by what this returns.
pub fn attach(
    _act: &Act,
    file: &str,
    read_only: bool,
    offset: u64,
    size: Option<u64>,
) -> anyhow::Result<(Made, File)> {
    let backing = OpenOptions::new().read(true).write(!read_only).open(file);
    let backing = backing.with_context(|| format!("open {file}"))?;
    let flags = AUTOCLEAR | if read_only { READ_ONLY } else { 0 };
    let attached = loopdev::attach(&backing, offset, size.unwrap_or(0), flags, file);
    let (device, opened) = attached.with_context(|| format!("attach {file} to a loop device"))?;
    Ok((Made::Device(device), opened.into()))
}

pub fn detach(_act: &Act, device: &str) -> anyhow::Result<Made> {
    let opened = File::open(device).with_context(|| format!("open {device}"))?;
    match loopdev::detach(&opened) {
        // It was let go of, and went by itself.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error()) => Ok(Made::Done),
        other => other.map(|()| Made::Done).with_context(|| format!("detach {device}")),
    }
}
