//! The chain of devices above a block device, as sysfs has it.

use host::Root;

/// One device above another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    /// Below /sys/devices.
    pub path: String,
    pub name: String,
    /// `scsi`, `pci`, `usb` ...; empty where the kernel says none.
    pub subsystem: String,
    /// `scsi_device`, `usb_interface` ...
    pub devtype: String,
}

/// Longest chain followed; a disk behind four USB hubs and two PCI bridges has thirty.
const DEEPEST: usize = 64;

/// From the device itself (its path below /sys/devices) upwards. Directories that are no devices
/// (`block`, `nvme`) are left out.
pub fn chain(root: &Root, path: &str) -> Vec<Parent> {
    let mut chain = Vec::new();
    let mut rest = path;
    while !rest.is_empty() && chain.len() < DEEPEST {
        let directory = format!("/sys/devices/{rest}");
        if let Ok(uevent) = root.read_text(format!("{directory}/uevent")) {
            let devtype = uevent.lines().find_map(|line| line.strip_prefix("DEVTYPE="));
            let subsystem = root.link(format!("{directory}/subsystem")).ok();
            chain.push(Parent {
                path: rest.to_string(),
                name: last(rest).to_string(),
                subsystem: subsystem
                    .and_then(|link| Some(link.file_name()?.to_str()?.to_string()))
                    .unwrap_or_default(),
                devtype: devtype.unwrap_or_default().to_string(),
            });
        }
        rest = rest.rsplit_once('/').map_or("", |(above, _)| above);
    }
    chain
}

impl Parent {
    pub fn line(&self, root: &Root, attribute: &str) -> Option<String> {
        root.line(format!("/sys/devices/{}/{attribute}", self.path))
    }

    /// With the blanks that the drive pads it with.
    pub fn text(&self, root: &Root, attribute: &str) -> Option<String> {
        let text = root.read_text(format!("/sys/devices/{}/{attribute}", self.path)).ok()?;
        Some(text.trim_end_matches('\n').to_string())
    }

    pub fn bytes(&self, root: &Root, attribute: &str) -> Option<Vec<u8>> {
        root.read(format!("/sys/devices/{}/{attribute}", self.path)).ok()
    }
}

pub fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The first device of the chain in a subsystem, of a type where one is given.
pub fn find<'a>(chain: &'a [Parent], subsystem: &str, devtype: &str) -> Option<&'a Parent> {
    chain.iter().find(|one| one.subsystem == subsystem && (devtype.is_empty() || one.devtype == devtype))
}
