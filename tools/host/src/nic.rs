//! What sysfs says about a network interface.

use crate::Root;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nic {
    /// It stands on a device: no bridge, bond, VLAN or tunnel.
    pub physical: bool,
    pub wireless: bool,
    /// Kernel module or built-in driver; empty when there is none.
    pub driver: String,
    /// The names that systemd would give, the preferred one first.
    pub names: Vec<String>,
}

/// Whether the kernel has an interface of this name.
pub fn exists(root: &Root, interface: &str) -> bool {
    !interface.is_empty() && !interface.contains('/') && root.exists(format!("/sys/class/net/{interface}"))
}

/// Whether a device of a bus (`0000:02:00.0`) says of itself that it is a network controller (PCI class 2).
pub fn is_controller(root: &Root, device: &str) -> bool {
    let is_plain = !device.contains('/') && !device.starts_with('.');
    is_plain
        && root
            .line(format!("/sys/bus/pci/devices/{device}/class"))
            .is_some_and(|class| class.starts_with("0x02"))
}

/// Mbit/s; `None` where the driver does not know, as without a cable.
pub fn speed(root: &Root, interface: &str) -> Option<u32> {
    let speed = root.number::<i64>(format!("/sys/class/net/{interface}/speed"))?;
    u32::try_from(speed).ok().filter(|speed| *speed > 0)
}

pub fn read(root: &Root, interface: &str) -> Nic {
    // The kernel's names have no slash; what was not the kernel's must not lead elsewhere.
    if interface.contains('/') || interface.starts_with('.') {
        return Nic::default();
    }
    let directory = format!("/sys/class/net/{interface}");
    let driver = root.link(format!("{directory}/device/driver")).ok();
    Nic {
        physical: root.exists(format!("{directory}/device")),
        wireless: root.exists(format!("{directory}/wireless"))
            || root.exists(format!("{directory}/phy80211")),
        driver: driver
            .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
            .unwrap_or_default(),
        names: crate::nic_names::names(root, interface),
    }
}
