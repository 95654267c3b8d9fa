//! docs/hardware.md: the image's drivers of networks and storage, from the modules themselves. The build compares it, so
//! that it says what the image is. It is about the default image, whose kernel is built here.

use crate::build::{self, Packed};
use crate::firmware::{self, Asked, Shelf};
use crate::flavour::Flavour;
use crate::lock::{self, Set};
use crate::modules::{Kernel, Module, Place};
use crate::packages::{self, Cache};
use anyhow::{Context as _, Result, ensure};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

const FILE: &str = "docs/hardware.md";

/// Headings, and the directories below drivers/ of each.
const CHAPTERS: &[(&str, &[&str])] = &[
    ("Networks", &["net"]),
    (
        "Storage",
        &[
            "ata",
            "block",
            "firewire",
            "message",
            "misc/cardreader",
            "mmc",
            "nvdimm",
            "nvme",
            "scsi",
            "ufs",
            "usb/storage",
        ],
    ),
    ("Screens of BMCs and virtual machines", &["gpu/drm"]),
    ("BMCs and watchdogs", &["char/ipmi", "watchdog"]),
    ("Buses", &["cxl", "hv", "pci", "thunderbolt", "usb/host", "virtio", "xen"]),
];

const HEAD: &str = "\
# Hardware

Made by `make hardware` from the modules of the default image, with the [kernel](kernel.md) that is built here; its build holds it against them. What Debian's
kernel has drivers for and the image has not is in `kernel-config/modules.list` below `[not]`, each with its reason; the build stops at a NIC or
controller that no line names. With `KERNEL=debian` it has these drivers and the few of `kernel-config/custom/lacks.list`; a device or a firmware
file that a driver knows there and not here has its line in `kernel-config/custom/fewer.list`.

`nucleus`: there before any layer is, so that the network comes up by itself; `kernel`: built in. `devices`: how many patterns of devices the
driver knows. `firmware`: how many of the files that it may ask for are aboard, and in which layer; most devices need one
of them or none. `10` is `10-userland`, which `out/initramfs` holds: with that alone every wired NIC has what Debian has for it. With the
nucleus alone (`lean`) only those have it whose files are there, and fetch the layers. `30` is `30-firmware`, which the media hold (docs/boot.md)
and `boot.ipxe` loads beside `out/initramfs` unless `nofirmware` or `lean` is set. A file that no package of Debian has is named;
a driver that asked for one that is not there is named by the console and `rescue status`.

Not aboard is drivers/infiniband, and with it IP over InfiniBand: a machine that has no other network has none here. What it
needs (ib_core to mlx5_ib, hfi1) would lie in the nucleus, before any layer; the custom kernel is built without it; and netd speaks DHCP
with Ethernet's addresses only, which an InfiniBand port has not (RFC 4390). Cards that can do both (mlx4, mlx5) are reached by their
Ethernet ports.

Watchdogs: their drivers are for `wdctl` and for a person; nothing here arms one. One that was left running is stopped by its
driver, or fed by the kernel until somebody opens it, where a device asks for that driver. A BMC's own does not: it runs on over a reset and a kexec, and
`modprobe ipmi_watchdog` stops it, or `ipmitool mc watchdog off` (`get` shows it). Nor do those of Super I/O chips (w83627hf_wdt, it87_wdt, f71808e_wdt). BMCs: where `ipmi_si` or `ipmi_ssif` is loaded, so is `ipmi_devintf`, for `/dev/ipmi0`.
";

/// Makes the file.
pub fn write(source: &Path) -> Result<()> {
    let cache = Cache::open(source)?;
    let locked = lock::read(&source.join("image/packages.lock"))?;
    packages::fetch(&cache, &locked)?;
    let guest = packages::tree(&cache, &locked, Set::Guest)?;
    let debian = build::packed(&cache, &guest, &locked, Flavour::Debian)?;
    let Packed { kernel, places, .. } = build::packed(&cache, &guest, &locked, Flavour::Custom)?;
    let asked = firmware::asked(&guest, &kernel, &places)?;
    let table = table(&kernel, &places, &debian, &asked);
    fs::write(source.join(FILE), table).with_context(|| format!("write {FILE}"))
}

/// The build's: the file says what the image is. An image of other packages than the lock's may differ.
pub fn check(source: &Path, table: &str, unlocked: bool) -> Result<()> {
    let there = fs::read_to_string(source.join(FILE)).with_context(|| format!("read {FILE}"))?;
    ensure!(unlocked || there == table, "{FILE} is not what this image is: `make hardware` writes it");
    Ok(())
}

/// The text of the file. A driver that is built in is in no module: what it knows is what Debian's, of the same source, says.
pub fn table(
    kernel: &Kernel,
    places: &BTreeMap<String, Place>,
    debian: &Packed,
    asked: &BTreeMap<String, Asked>,
) -> String {
    let built_in = kernel.built_in();
    let of_debian = debian.places.keys().filter(|name| built_in.contains(*name));
    let inside: Vec<&Module> = of_debian.map(|name| &debian.kernel.modules[name]).collect();
    let mut text = format!("{HEAD}\nLinux {}.\n", kernel.version);
    for (heading, directories) in CHAPTERS {
        let below = |module: &&Module| {
            directories
                .iter()
                .any(|directory| module.path.starts_with(&format!("kernel/drivers/{directory}/")))
        };
        let modules = places.keys().map(|name| &kernel.modules[name]); // places holds names of modules only
        let mut modules: Vec<&Module> = modules
            .chain(inside.iter().copied())
            .filter(below)
            .filter(|module| module.devices() > 0 || !module.firmware.is_empty())
            .collect();
        modules.sort_by(|a, b| a.path.cmp(&b.path));
        // A String takes all.
        let _ = write!(text, "\n## {heading}\n\n| driver | | devices | firmware |\n|---|---|---|---|\n");
        for module in modules {
            let place = places.get(&module.name).copied();
            let _ = writeln!(text, "{}", row(module, place, asked.get(&module.name)));
        }
    }
    text
}

/// Without a place it is built in.
fn row(module: &Module, place: Option<Place>, asked: Option<&Asked>) -> String {
    let path = module.path.trim_start_matches("kernel/drivers/").trim_end_matches(".ko");
    let place = match place {
        Some(Place::Layer) => "",
        Some(Place::Nucleus | Place::NucleusPacked) => "nucleus",
        None => "kernel",
    };
    let firmware = asked.map(|asked| {
        let number = asked.met + asked.missing.len();
        let layer = match asked.shelf {
            Shelf::Nucleus => "nucleus",
            Shelf::First => "10",
            Shelf::Own => "30",
        };
        let there = if asked.met == 0 {
            "none".to_string()
        } else {
            let older = if asked.older.is_empty() { "" } else { ", older versions in 10" };
            format!("{} of {number}, in {layer}{older}", asked.met)
        };
        match asked.missing.is_empty() {
            true => there,
            false => format!("{there}; not in Debian: {}", asked.missing.join(", ").replace('*', "\\*")),
        }
    });
    format!("| {path} | {place} | {} | {} |", module.devices(), firmware.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_where_the_driver_and_its_firmware_are() {
        let module = Module {
            path: "kernel/drivers/net/ethernet/nic.ko".to_string(),
            aliases: ["pci:v1", "pci:v2", "net-pf-1"].map(str::to_string).to_vec(),
            ..Module::default()
        };
        assert_eq!(row(&module, Some(Place::Layer), None), "| net/ethernet/nic |  | 2 |  |");
        assert_eq!(row(&module, None, None), "| net/ethernet/nic | kernel | 2 |  |");
        let asked = Asked {
            shelf: Shelf::Own,
            files: Default::default(),
            older: Default::default(),
            missing: vec!["a/*.bin".to_string()],
            met: 2,
        };
        let wanted = "| net/ethernet/nic | nucleus | 2 | 2 of 3, in 30; not in Debian: a/\\*.bin |";
        assert_eq!(row(&module, Some(Place::NucleusPacked), Some(&asked)), wanted);
        let asked = Asked { shelf: Shelf::Nucleus, older: ["x".into()].into(), missing: vec![], ..asked };
        assert!(row(&module, None, Some(&asked)).contains("| 2 of 2, in nucleus, older versions in 10 |"));
    }

    #[test]
    fn a_file_of_another_image_stops_the_build() {
        let source = tempfile::tempdir().unwrap();
        fs::create_dir(source.path().join("docs")).unwrap();
        fs::write(source.path().join(FILE), "old").unwrap();
        assert!(check(source.path(), "old", false).is_ok());
        assert!(check(source.path(), "new", true).is_ok());
        assert!(check(source.path(), "new", false).is_err());
    }
}
