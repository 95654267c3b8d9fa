//! Devices that want a module: every `modalias` below /sys/bus.

use crate::Root;

/// Buses on which devd binds devices to drivers, and not the kernel, and the modules that make them.
pub const BOUND_HERE: &[(&str, &str)] = &[("scsi", "scsi_mod"), ("virtio", "virtio")];

pub fn is_bound_here(bus: &str) -> bool {
    BOUND_HERE.iter().any(|(bound, _)| *bound == bus)
}

/// Takes the binding from the kernel on the bus that a module has just made, before it has devices
/// (`drivers_autoprobe`, drivers/base/bus.c).
pub fn hold(root: &Root, module: &str) {
    for (bus, _) in BOUND_HERE.iter().filter(|(_, made_by)| *made_by == module) {
        let switch = format!("/sys/bus/{bus}/drivers_autoprobe");
        if let Err(error) = root.write(&switch, "0") {
            crate::log!("take over {switch}: {error}");
        }
    }
}

/// The same for the buses that are there already.
pub fn hold_all(root: &Root) {
    for (bus, module) in BOUND_HERE {
        if root.exists(format!("/sys/bus/{bus}")) {
            hold(root, module);
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanting {
    pub bus: String,
    pub name: String,
    pub alias: String,
}

/// Devices without a driver that have an alias, in the order of bus and name.
pub fn without_driver(root: &Root) -> Vec<Wanting> {
    let mut found = Vec::new();
    for bus in root.list("/sys/bus").unwrap_or_default() {
        let bus = bus.to_string_lossy().into_owned();
        let directory = format!("/sys/bus/{bus}/devices");
        for name in root.list(&directory).unwrap_or_default() {
            let name = name.to_string_lossy().into_owned();
            let device = format!("{directory}/{name}");
            if let Some(alias) = root.line(format!("{device}/modalias"))
                && !root.exists(format!("{device}/driver"))
            {
                found.push(Wanting { bus: bus.clone(), name, alias });
            }
        }
    }
    found
}
