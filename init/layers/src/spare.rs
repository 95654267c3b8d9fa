//! Memory that the nucleus can give back where it is short: the drivers of network cards that this machine, which has an
//! address, has not. They are a quarter of it.

use host::Root;
use host::modules;
use std::fs;
use std::path::{Path, PathBuf};

/// Below the modules of a kernel.
const DRIVERS: &str = "kernel/drivers/net/ethernet";

/// Removes them, if that makes up for the bytes that are missing.
pub fn make_room(root: &Root, missing: u64) {
    let nucleus = Path::new(contract::paths::STACK).join("nucleus");
    // What is seen in /usr once there is an overlay would only be hidden.
    let usr = if nucleus.join("lib/modules").exists() { nucleus } else { PathBuf::from("/usr") };
    let release = root.line("/proc/sys/kernel/osrelease").unwrap_or_default();
    let idle =
        idle(&usr.join("lib/modules").join(release).join(DRIVERS), &|name| modules::is_loaded(root, name));
    let whole: u64 = idle.iter().map(|(_, length)| length).sum();
    if whole < missing {
        return;
    }
    for (path, _) in &idle {
        if let Err(error) = fs::remove_file(path) {
            host::log!("remove {}: {error}", path.display());
        }
    }
    host::log!("{} KiB of drivers for other network cards made room", whole >> 10);
}

/// Files of modules that are not loaded, and their lengths.
fn idle(directory: &Path, is_loaded: &dyn Fn(&str) -> bool) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let (path, Ok(metadata)) = (entry.path(), entry.metadata()) else { continue };
        if metadata.is_dir() {
            found.extend(idle(&path, is_loaded));
            continue;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some((name, _)) = name.split_once(".ko") else { continue };
        if metadata.is_file() && !is_loaded(name) {
            found.push((path, metadata.len()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_that_is_in_use_stays() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("intel/e1000e")).unwrap();
        fs::write(dir.path().join("intel/e1000e/e1000e.ko"), "in use").unwrap();
        fs::write(dir.path().join("intel/ice.ko.xz"), "idle").unwrap();
        fs::write(dir.path().join("intel/README"), "no module").unwrap();
        let found = idle(dir.path(), &|name| name == "e1000e");
        assert_eq!(found, [(dir.path().join("intel/ice.ko.xz"), 4)]);
    }
}
