//! Mapped devices taken away, with the links that lead to them.

use super::Made;
use anyhow::{Context as _, bail};
use host::Act;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Whoever looks at a device that is about to go (devd's workers) has it open for moments.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(50);

pub fn remove(_act: &Act, name: &str) -> anyhow::Result<Made> {
    let until = Instant::now() + PATIENCE;
    loop {
        match host::sys::dm::remove(name) {
            Ok(()) => break,
            Err(error) if error.kind() == ErrorKind::ResourceBusy && Instant::now() < until => {
                std::thread::sleep(PAUSE);
            }
            Err(error) if error.kind() == ErrorKind::ResourceBusy => {
                bail!("{} is in use: lsof {0} shows by whom", place(name).display())
            }
            Err(error) => return Err(error).with_context(|| format!("remove the mapped device {name}")),
        }
    }
    // A node of libdevmapper's, or a link; devd may have been faster.
    forget(&place(name))?;
    if let Some((group, volume)) = model::lvm::names_of(name) {
        let directory = Path::new("/dev").join(&group);
        let link = directory.join(volume);
        if std::fs::symlink_metadata(&link).is_ok_and(|there| there.is_symlink()) {
            forget(&link)?;
            // It stays while it holds another volume.
            let _ = std::fs::remove_dir(&directory);
        }
    }
    Ok(Made::Done)
}

fn place(name: &str) -> PathBuf {
    Path::new("/dev/mapper").join(name)
}

fn forget(path: &Path) -> anyhow::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove the link {}", path.display()))
        }
        _ => Ok(()),
    }
}
