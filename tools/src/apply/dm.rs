//! Mapped devices: what the plan was made of is looked at again, then create, load and resume, as dmsetup(8) does it.
//!
//! The node /dev/dm-N is devtmpfs's. /dev/mapper/NAME is a link to it that is made here at once, since the next step
//! uses it; devd, which makes the same link of every mapped device, comes a moment later.

use super::Made;
use super::common::{as_they_were, patiently};
use anyhow::{Context as _, bail, ensure};
use host::sys::dm::{self, Target};
use host::{Act, Root};
use model::plan::{DmLower, DmTarget};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Whoever looks at a device that is about to go (devd's workers) has it open for moments.
const PATIENCE: Duration = Duration::from_secs(5);

pub fn create(
    _act: &Act,
    root: &Root,
    name: &str,
    uuid: &str,
    table: &[DmTarget],
    read_only: bool,
    on: &[DmLower],
) -> anyhow::Result<Made> {
    ensure!(!name.is_empty() && !name.contains('/'), "{name:?} is no name of a mapped device");
    as_they_were(root, on, "rescue status")?;
    let numbers = match dm::create(name, uuid) {
        Ok(numbers) => numbers,
        Err(error) if error.kind() == ErrorKind::ResourceBusy => {
            bail!("there is a mapped device {name} already, or one over the same device")
        }
        Err(error) => return Err(error).with_context(|| format!("create the mapped device {name}")),
    };
    let target = |target: &DmTarget| Target {
        start: target.start,
        length: target.length,
        kind: target.kind.clone(),
        text: target.text.clone(),
    };
    let table: Vec<Target> = table.iter().map(target).collect();
    let started = dm::load(name, &table, read_only)
        .with_context(|| format!("load the table of {name}"))
        .and_then(|()| dm::resume(name).with_context(|| format!("let I/O through to {name}")))
        .and_then(|()| link(name, numbers.minor));
    if let Err(error) = started {
        return Err(match dm::remove(name) {
            Ok(()) => error,
            Err(left) => error.context(format!("{name} is left without content ({left})")),
        });
    }
    Ok(Made::Done)
}

pub fn remove(_act: &Act, name: &str) -> anyhow::Result<Made> {
    match patiently(PATIENCE, is_busy, || dm::remove(name)) {
        Err(error) if is_busy(&error) => {
            bail!("{} is in use: lsof {0} shows by whom", place(name).display())
        }
        removed => removed.with_context(|| format!("remove the mapped device {name}"))?,
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

fn is_busy(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::ResourceBusy
}

/// RAID of device mapper is kept from resyncing and rebuilding (raid_message in drivers/md/dm-raid.c).
pub fn freeze(_act: &Act, name: &str) -> anyhow::Result<Made> {
    let table = dm::table(name).with_context(|| format!("read the table of {name}"))?;
    // Of raid0 there is nothing to resync, and the kernel takes no such message for it.
    let resyncs = |target: &&Target| target.kind == "raid" && !target.text.starts_with("raid0");
    for target in table.iter().filter(resyncs) {
        match dm::tell(name, target.start, "frozen") {
            // There is nothing that could resync: so the kernel answers where no personality of md runs it (raid_message).
            Err(error) if error.kind() == ErrorKind::InvalidInput => {}
            told => told.with_context(|| format!("freeze {name}"))?,
        }
    }
    Ok(Made::Done)
}

fn forget(path: &Path) -> anyhow::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove the link {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn place(name: &str) -> PathBuf {
    Path::new("/dev/mapper").join(name)
}

fn link(name: &str, minor: u32) -> anyhow::Result<()> {
    let (place, target) = (place(name), format!("../dm-{minor}"));
    let linked = match std::os::unix::fs::symlink(&target, &place) {
        // Of a device that was there before under this name, or devd's.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => std::fs::remove_file(&place)
            .or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) })
            .and_then(|()| std::os::unix::fs::symlink(&target, &place)),
        other => other,
    };
    match linked {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        other => other.with_context(|| format!("link {} to {target}", place.display())),
    }
}
