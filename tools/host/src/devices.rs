//! Devices that want a module: every `modalias` below /sys/bus.

use crate::Root;
use std::ffi::OsString;

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

/// Buses on which network cards are.
const NETWORK: &[&str] = &["virtio", "pci", "vmbus", "xen"];

/// Devices without a driver that have an alias, in the order of bus and name.
pub fn without_driver(root: &Root) -> Vec<Wanting> {
    let buses = root.list("/sys/bus").unwrap_or_default();
    buses.iter().flat_map(|bus| on_bus(root, &bus.to_string_lossy())).collect()
}

/// Of those, the network cards on the buses that have most of them: in a tenth of the time.
pub fn network_without_driver(root: &Root) -> Vec<Wanting> {
    let devices = NETWORK.iter().flat_map(|bus| on_bus(root, bus));
    devices.filter(|device| is_network(&device.alias)).collect()
}

fn on_bus(root: &Root, bus: &str) -> Vec<Wanting> {
    let directory = format!("/sys/bus/{bus}/devices");
    let wanting = |name: OsString| {
        let name = name.to_string_lossy().into_owned();
        let alias = root.line(format!("{directory}/{name}/modalias"))?;
        let has_driver = root.exists(format!("{directory}/{name}/driver"));
        (!has_driver).then(|| Wanting { bus: bus.to_string(), name, alias })
    };
    root.list(&directory).unwrap_or_default().into_iter().filter_map(wanting).collect()
}

/// Network cards on PCI (class 02), virtio, Xen and Hyper-V.
pub fn is_network(alias: &str) -> bool {
    let pci = alias.starts_with("pci:") && alias.contains("bc02");
    // f8615163-df3e-46c5-913f-f2d2f965ed0e (drivers/net/hyperv), as vmbus prints it
    pci || alias.starts_with("virtio:d00000001v")
        || alias == "xen:vif"
        || alias.starts_with("vmbus:635161f83edfc546913ff2d2f965ed0e")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_cards_are_known_by_their_aliases() {
        assert!(is_network("pci:v00008086d000010D3sv00008086sd0000A01Fbc02sc00i00"));
        assert!(is_network("virtio:d00000001v00001AF4"));
        assert!(!is_network("virtio:d00000002v00001AF4"));
        assert!(!is_network("pci:v00001AF4d00001001sv00001AF4sd00000002bc01sc00i00"));
    }
}
