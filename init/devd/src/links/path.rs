//! by-path: the way to a disk, from its controller down, as udev's path_id builtin composes it. It
//! names the place and not the drive, and so stays when a drive is replaced.

use super::parents::{Parent, chain, find};
use host::Root;

/// `pci-0000:00:1f.2-ata-1.0`, and for ATA disks the older form without the device's number.
/// `None` where the chain does not tell two disks apart for sure.
pub fn path_id(root: &Root, device: &str) -> Option<(String, Option<String>)> {
    let chain = place(root, device);
    let mut path = Composed::default();
    let mut at = 0;
    while let Some(one) = chain.get(at) {
        let subsystem = one.subsystem.as_str();
        match subsystem {
            "scsi" if one.devtype == "scsi_device" => at = scsi(root, &chain, at, &mut path)?,
            "scsi" => path.transport = true,
            "usb" => at = usb(&chain, at, &mut path),
            "nvme" => {
                if let Some(number) = chain[0].line(root, "nsid") {
                    path.prepend(&format!("nvme-{number}"));
                    (path.transport, path.parent) = (true, true);
                    at = skip(&chain, at);
                }
            }
            "virtio" => {
                path.transport = true;
                at = skip(&chain, at);
            }
            "pci" | "acpi" | "xen" | "platform" => {
                path.prepend(&format!("{subsystem}-{}", one.name));
                path.parent = true;
                path.transport |= subsystem == "platform";
                at = skip(&chain, at);
            }
            _ => {}
        }
        at += 1;
    }
    let whole = (path.parent && path.transport && !path.text.is_empty()).then_some(path.text)?;
    Some((whole, path.older))
}

/// The chain from a disk up; a namespace of a multipath NVMe subsystem takes the controller that its
/// name begins with.
fn place(root: &Root, device: &str) -> Vec<Parent> {
    let own = chain(root, device);
    if !device.starts_with("virtual/nvme-subsystem/") {
        return own;
    }
    let Some(disk) = own.first() else { return own };
    let digits = disk.name.strip_prefix("nvme").and_then(|rest| rest.split('n').next()).unwrap_or_default();
    let link = root.link(format!("/sys/class/nvme/nvme{digits}")).ok();
    let Some((_, controller)) = link.as_deref().and_then(|link| link.to_str()?.split_once("devices/")) else {
        return own;
    };
    let mut whole = vec![disk.clone()];
    whole.extend(chain(root, controller));
    whole
}

#[derive(Default)]
struct Composed {
    text: String,
    /// With the name that udev once gave ATA disks.
    older: Option<String>,
    /// A parent with a name of its own was seen, and a bus that tells its disks apart.
    parent: bool,
    transport: bool,
}

impl Composed {
    fn prepend(&mut self, part: &str) {
        self.text = before(part, &self.text);
        self.older = self.older.take().map(|older| before(part, &older));
    }
}

fn before(part: &str, rest: &str) -> String {
    if rest.is_empty() { part.to_string() } else { format!("{part}-{rest}") }
}

/// The last of those above that are in the same subsystem without a gap.
fn skip(chain: &[Parent], at: usize) -> usize {
    let same = |one: &&Parent| one.subsystem == chain[at].subsystem;
    at + chain[at..].iter().take_while(same).count() - 1
}

/// One SCSI device by its transport; returns the place in the chain to go on from.
fn scsi(root: &Root, chain: &[Parent], at: usize, path: &mut Composed) -> Option<usize> {
    path.transport = true;
    let device = &chain[at];
    let numbers: Vec<u32> = device.name.split(':').map(|n| n.parse().ok()).collect::<Option<_>>()?;
    let [host_number, bus, target, lun] = numbers[..] else { return None };
    let lun = match lun {
        0..=255 => format!("lun-{lun}"),
        _ => format!("lun-0x{:04x}{:04x}00000000", lun & 0xffff, lun >> 16),
    };
    let above = &chain[at..];
    let host = above.iter().position(|one| one.devtype == "scsi_host").map(|offset| at + offset);
    let host_parent = host.and_then(|host| chain.get(host + 1));
    let class = |class: &str, name: &str, attribute: &str| {
        root.line(format!("/sys/class/{class}/{name}/{attribute}"))
    };
    if let Some(id) = device.line(root, "ieee1394_id") {
        path.prepend(&format!("ieee1394-0x{id}"));
        path.parent = true;
        return Some(skip(chain, at));
    }
    let is_below = |part: &str| device.path.contains(part);
    if is_below("/rport-") {
        let target = find(above, "scsi", "scsi_target")?;
        path.prepend(&format!("fc-{}-{lun}", class("fc_transport", &target.name, "port_name")?));
        path.parent = true;
    } else if is_below("/end_device-") {
        path.prepend(&format!("{}-{lun}", sas(root, above)?));
        path.parent = true;
    } else if is_below("/session") {
        let session = above.iter().find(|one| one.name.starts_with("session"))?;
        let target = class("iscsi_session", &session.name, "targetname")?;
        let connection = format!("connection{}:0", session.name.trim_start_matches("session"));
        let address = class("iscsi_connection", &connection, "persistent_address")?;
        let port = class("iscsi_connection", &connection, "persistent_port")?;
        // The name comes from the target, and a slash would lead elsewhere.
        path.prepend(&format!("ip-{address}:{port}-iscsi-{}-{lun}", target.replace('/', "_")));
        path.parent = true;
    } else if is_below("/ata") {
        let port = class("ata_port", &host_parent?.name, "port_no")?;
        // Behind a port multiplier the bus counts, else master and slave.
        let place = if bus != 0 { format!("{bus}.0") } else { target.to_string() };
        path.older = Some(before(&format!("ata-{port}"), &path.text));
        path.text = before(&format!("ata-{port}.{place}"), &path.text);
    } else if is_below("/vmbus_") || is_below("/VMBUS") {
        let id = host_parent?.line(root, "device_id")?;
        let guid: String = id.chars().filter(char::is_ascii_hexdigit).collect();
        path.prepend(&format!("vmbus-{guid}-{lun}"));
    } else {
        let host = host?;
        let siblings =
            host_parent.map(|one| root.list(format!("/sys/devices/{}", one.path)).unwrap_or_default());
        let lowest = siblings
            .unwrap_or_default()
            .iter()
            .filter_map(|name| name.to_str()?.strip_prefix("host")?.parse::<u32>().ok())
            .min();
        let number = host_number.saturating_sub(lowest.unwrap_or(host_number));
        let lun = device.name.rsplit(':').next().unwrap_or_default();
        path.prepend(&format!("scsi-{number}:{bus}:{target}:{lun}"));
        return Some(host);
    }
    Some(at)
}

/// The place on a SAS fabric: the phy of the HBA or expander, or the address of a wide port.
fn sas(root: &Root, above: &[Parent]) -> Option<String> {
    let target = above.iter().position(|one| one.devtype == "scsi_target")?;
    let (end, port) = (above.get(target + 1)?, above.get(target + 2)?);
    let device = |name: &str, attribute: &str| root.line(format!("/sys/class/sas_device/{name}/{attribute}"));
    if root.line(format!("/sys/class/sas_port/{}/num_phys", port.name))? != "1" {
        return Some(format!("sas-{}", device(&end.name, "sas_address")?));
    }
    let phy = device(&end.name, "phy_identifier")?;
    let expander = above.get(target + 3).and_then(|one| device(&one.name, "sas_address"));
    Some(match expander {
        Some(address) => format!("sas-exp{address}-phy{phy}"),
        None => format!("sas-phy{phy}"),
    })
}

/// `1-1.2:1.0` is port 1.2, interface 1.0; the bus's own number changes from boot to boot.
fn usb(chain: &[Parent], at: usize, path: &mut Composed) -> usize {
    if !["usb_interface", "usb_device"].contains(&chain[at].devtype.as_str()) {
        return at;
    }
    let Some((_, port)) = chain[at].name.split_once('-') else { return at };
    path.prepend(&format!("usb-0:{port}"));
    path.transport = true;
    skip(chain, at)
}
