//! State files: written whole beside their name and renamed, so that a reader sees the old or the
//! new one, never half of one.

use contract::paths;
use serde::{Serialize, de::DeserializeOwned};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Replaces `/run/lifeboat/state/NAME.json`, mode 0600.
pub fn publish<T: Serialize>(service: &str, state: &T) -> io::Result<()> {
    let text = serde_json::to_vec_pretty(state)?;
    replace(Path::new(&paths::state(service)), &text, 0o600)
}

/// Reads it; the default when the service has not written one yet or it cannot be understood.
pub fn read<T: DeserializeOwned + Default>(service: &str) -> T {
    fs::read(paths::state(service))
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default()
}

/// Writes a file beside `path` and renames it over it.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}~", std::process::id()));
    let beside = Path::new(&beside);
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(beside)?;
    file.write_all(bytes)?;
    drop(file);
    fs::rename(beside, path)
}
