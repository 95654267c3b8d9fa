//! What an overlay needs beside device mapper: the file that it writes to, and btrfs's memory.

use super::Made;
use anyhow::{Context as _, ensure};
use contract::paths;
use host::Act;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// A file that takes room as it is written; one that is there is not touched.
pub fn sparse_file(_act: &Act, path: &str, size: u64) -> anyhow::Result<Made> {
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    let file = file.with_context(|| format!("create {path}"))?;
    file.set_len(size).with_context(|| format!("make {path} {size} bytes long"))?;
    Ok(Made::Done)
}

/// Of an overlay, and of nothing else.
pub fn remove_file(_act: &Act, path: &str) -> anyhow::Result<Made> {
    let own = Path::new(path).parent() == Some(Path::new(paths::OVERLAY));
    ensure!(own, "{path} is not the store of an overlay");
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {path}"))
        }
        _ => Ok(Made::Done),
    }
}

/// One that btrfs does not know, or without the module, is forgotten already.
pub fn forget(_act: &Act, device: &str) -> anyhow::Result<Made> {
    match host::sys::btrfs::forget(device) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("make btrfs forget {device}"))
        }
        _ => Ok(Made::Done),
    }
}

/// An overlay never hangs by itself; where its disk does, so does this.
pub fn scan(_act: &Act, device: &str) -> anyhow::Result<Made> {
    host::sys::btrfs::scan(device).with_context(|| format!("show {device} to btrfs"))?;
    Ok(Made::Done)
}
