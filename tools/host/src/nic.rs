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
