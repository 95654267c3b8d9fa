//! Memory that the nucleus can give back where it is short: the drivers of network cards that this machine, which has an
//! address, has not. They are a quarter of it.

use contract::event::{Event, Severity};
use contract::state;
use host::Root;
use host::modules;
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Below the modules of a kernel.
const DRIVERS: &str = "kernel/drivers/net/ethernet";

/// What drivers of storage controllers need that may still be in a layer: bnx2i and bnx2fc, cxgb4i, qedi and qedf.
const NEEDED: &[&str] = &["cnic", "libcxgb", "qed"];

/// Removes them, if that makes up for the bytes that are missing, and none may be asked for at this moment.
pub fn make_room(root: &Root, missing: u64) {
    if !is_quiet(root) {
        return host::log!("drivers of network cards are being loaded: none is given up");
    }
    let nucleus = Path::new(contract::paths::STACK).join("nucleus");
    // What is seen in /usr once there is an overlay would only be hidden.
    let usr = if nucleus.join("lib/modules").exists() { nucleus } else { PathBuf::from("/usr") };
    let release = root.line("/proc/sys/kernel/osrelease").unwrap_or_default();
    let needed =
        needed(&root.read_text(format!("/usr/lib/modules/{release}/modules.dep")).unwrap_or_default());
    let stays = |name: &str| needed.contains(&normal(name)) || modules::is_loaded(root, name);
    let idle = idle(&usr.join("lib/modules").join(release).join(DRIVERS), &stays);
    let whole: u64 = idle.iter().map(|(_, length)| length).sum();
    if whole < missing {
        return;
    }
    for (path, _) in &idle {
        if let Err(error) = fs::remove_file(path) {
            host::log!("remove {}: {error}", path.display());
        }
    }
    let text =
        format!("{} KiB of drivers for network cards that this machine has not made room", whole >> 10);
    host::log!("{text}");
    host::events::tell(&Event::Notice { severity: Severity::Info, text });
}

/// Whether every network card has its driver, or never will: devd is done with the machine's devices.
fn is_quiet(root: &Root) -> bool {
    let devd: state::Devd = host::statefile::read("devd");
    let loads = || is_loading(&root.read_text("/proc/modules").unwrap_or_default());
    devd.settled || (host::devices::network_without_driver(root).is_empty() && !loads())
}

fn is_loading(modules: &str) -> bool {
    modules.lines().any(|line| line.split_ascii_whitespace().nth(4) == Some("Loading"))
}

/// By modules.dep(5): names of the drivers that modules of another kind need.
fn needed(dep: &str) -> HashSet<String> {
    let others = dep.lines().filter_map(|line| line.split_once(':'));
    let others = others.filter(|(file, _)| !file.starts_with(DRIVERS));
    let files = others.flat_map(|(_, needs)| needs.split_ascii_whitespace());
    let names = files.filter_map(|file| file.rsplit('/').next()?.split_once(".ko"));
    names.map(|(name, _)| normal(name)).chain(NEEDED.iter().map(|name| name.to_string())).collect()
}

fn normal(name: &str) -> String {
    name.replace('-', "_")
}

/// Files of modules that need not stay, and their lengths.
fn idle(directory: &Path, stays: &dyn Fn(&str) -> bool) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let (path, Ok(metadata)) = (entry.path(), entry.metadata()) else { continue };
        if metadata.is_dir() {
            found.extend(idle(&path, stays));
            continue;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some((name, _)) = name.split_once(".ko") else { continue };
        if metadata.is_file() && !stays(name) {
            found.push((path, metadata.len()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_driver_of_another_kind_needs_stays() {
        let needed = needed(
            "kernel/drivers/net/ethernet/intel/ice/ice.ko.xz: kernel/drivers/net/ethernet/intel/libie/libie.ko.xz\n\
             kernel/drivers/infiniband/hw/mlx5/mlx5-ib.ko: kernel/drivers/net/ethernet/mellanox/mlx5/mlx5-core.ko kernel/x.ko\n\
             kernel/x.ko:\n",
        );
        assert!(needed.contains("mlx5_core") && !needed.contains("libie"));
        assert!(needed.contains("cnic") && needed.contains("qed"), "whose users come with a layer");
    }

    #[test]
    fn a_module_that_is_on_its_way_in_is_seen() {
        assert!(!is_loading("e1000e 1 0 - Live 0x0\n"));
        assert!(is_loading("e1000e 1 0 - Live 0x0\nice 1 1 libie,Loading Loading 0x0\n"));
    }

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
