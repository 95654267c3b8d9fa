//! The names that systemd gives to a network card (systemd.net-naming-scheme(7), src/udev/udev-builtin-net_id.c of
//! systemd 257), so that the files of an installed system, which use them, fit today's cards. By what sysfs has of
//! the device: its number by the firmware (`eno1`), its slot (`ens3`), its place on the bus (`enp3s0f1`), its MAC (`enx...`).
//!
//! Not there: names of the hardware database, of devicetree aliases and of s390.

use crate::Root;

/// Numbers by firmware above this are taken for a fault of it.
const MOST_ONBOARD: u32 = (1 << 14) - 1;
/// IFNAMSIZ less the terminating zero.
const LONGEST: usize = 15;

/// All names, the one first that systemd's default policy would give. Empty for what has no device that names it.
pub fn names(root: &Root, interface: &str) -> Vec<String> {
    let directory = format!("/sys/class/net/{interface}");
    let Some(device) = root.link(&directory).ok().and_then(|path| Device::new(&path.to_string_lossy()))
    else {
        return Vec::new();
    };
    let suffix = port(root, &directory);
    let mut names = Vec::new();
    match &device.usb {
        None => {
            names.extend(device.onboard(root).map(|name| format!("en{name}{suffix}")));
            names.extend(device.slot(root).map(|name| format!("en{name}{suffix}")));
            names.push(format!("en{}{suffix}", device.place(root)));
        }
        Some(usb) => names.push(format!("en{}{usb}", device.place(root))),
    }
    // NET_ADDR_PERM: the hardware's own.
    let mac = root
        .line(format!("{directory}/address"))
        .filter(|_| root.number::<u32>(format!("{directory}/addr_assign_type")) == Some(0));
    names.extend(mac.map(|mac| format!("enx{}", mac.replace(':', ""))));
    names.retain(|name| name.len() <= LONGEST);
    names
}

/// What tells the ports of one function apart.
fn port(root: &Root, directory: &str) -> String {
    if let Some(name) = root.line(format!("{directory}/phys_port_name")).filter(|name| !name.is_empty()) {
        return format!("n{name}");
    }
    match root.number::<u32>(format!("{directory}/dev_port")) {
        Some(port) if port > 0 => format!("d{port}"),
        _ => String::new(),
    }
}

/// A PCI function, with what is plugged into it.
struct Device {
    /// PCI addresses from the root bridge down, such as `0000:00:1c.0`; the last is the function itself.
    pci: Vec<String>,
    /// Where sysfs has each.
    paths: Vec<String>,
    /// `u1u2` and so on, for a card on USB.
    usb: Option<String>,
}

/// Domain, bus, slot and function of an address.
fn address(text: &str) -> Option<(u32, u32, u32, u32)> {
    let (bus, function) = text.split_once('.')?;
    let mut parts = bus.split(':');
    let (domain, bus, slot) = (parts.next()?, parts.next()?, parts.next()?);
    let hex = |text: &str| u32::from_str_radix(text, 16).ok();
    if parts.next().is_some() || domain.len() < 4 || bus.len() != 2 || slot.len() != 2 {
        return None;
    }
    Some((hex(domain)?, hex(bus)?, hex(slot)?, function.parse().ok()?))
}

impl Device {
    /// By the target of `/sys/class/net/IF`: `../../devices/pci0000:00/0000:00:03.0/virtio0/net/eth0`.
    fn new(target: &str) -> Option<Device> {
        let below = target.split_once("/devices/")?.1;
        let (mut pci, mut paths, mut path) = (Vec::new(), Vec::new(), "/sys/devices".to_string());
        let mut interface = None;
        for part in below.split('/') {
            path = format!("{path}/{part}");
            if address(part).is_some() {
                pci.push(part.to_string());
                paths.push(path.clone());
            } else if part.contains('-') && part.contains(':') {
                // A USB interface: `1-1.2:1.0` is bus 1, ports 1 and 2, configuration 1, interface 0.
                interface = Some(part.to_string());
            }
        }
        if pci.is_empty() {
            return None;
        }
        let usb = match interface {
            Some(interface) => Some(usb(&interface)?),
            None => None,
        };
        Some(Device { pci, paths, usb })
    }

    fn own(&self) -> (&str, &str) {
        let last = self.pci.len() - 1; // `new` takes none without
        (&self.pci[last], &self.paths[last])
    }

    fn onboard(&self, root: &Root) -> Option<String> {
        let (_, path) = self.own();
        let number = |name: &str| root.number::<u32>(format!("{path}/{name}"));
        // Zero is a number for ACPI, and none for SMBIOS.
        let index = number("acpi_index").or_else(|| number("index").filter(|index| *index > 0))?;
        (index <= MOST_ONBOARD).then(|| format!("o{index}"))
    }

    /// The nearest slot on the way up. A bridge in a slot stands for all that is behind it, and so names none of it.
    fn slot(&self, root: &Root) -> Option<String> {
        let slots = root.list("/sys/bus/pci/slots").ok()?;
        let slots: Vec<(String, String)> = slots
            .into_iter()
            .filter_map(|slot| {
                let slot = slot.into_string().ok()?;
                Some((root.line(format!("/sys/bus/pci/slots/{slot}/address"))?, slot))
            })
            .collect();
        let (own, _) = self.own();
        let (domain, _, _, function) = address(own)?;
        for (pci, path) in self.pci.iter().zip(&self.paths).rev() {
            let found = slots.iter().find(|(address, _)| pci.starts_with(address.as_str()));
            let Some(number) =
                found.and_then(|(_, slot)| slot.parse::<u32>().ok()).filter(|number| *number > 0)
            else {
                continue;
            };
            let class = root.line(format!("{path}/class")).unwrap_or_default();
            if class.trim_start_matches("0x").starts_with("0604") {
                return None;
            }
            let domain = if domain > 0 { format!("P{domain}") } else { String::new() };
            let function = self.function(root, function);
            return Some(format!("{domain}s{number}{function}"));
        }
        None
    }

    fn place(&self, root: &Root) -> String {
        let (own, _) = self.own();
        let (domain, bus, slot, function) = address(own).unwrap_or_default(); // `new` read it
        let domain = if domain > 0 { format!("P{domain}") } else { String::new() };
        format!("{domain}p{bus}s{slot}{}", self.function(root, function))
    }

    fn function(&self, root: &Root, function: u32) -> String {
        let (_, path) = self.own();
        // Bit 7 of the header type (PCI Local Bus Specification, section 6.2.1).
        let is_multiple = || {
            root.read(format!("{path}/config"))
                .is_ok_and(|bytes| bytes.get(14).is_some_and(|byte| byte & 0x80 != 0))
        };
        if function > 0 || is_multiple() { format!("f{function}") } else { String::new() }
    }
}

fn usb(interface: &str) -> Option<String> {
    let (ports, rest) = interface.split_once('-')?.1.split_once(':')?;
    let (configuration, number) = rest.split_once('.')?;
    let mut name: String = ports.split('.').map(|port| format!("u{port}")).collect();
    if configuration != "1" {
        name += &format!("c{configuration}");
    }
    if number != "0" {
        name += &format!("i{number}");
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    /// A machine: the interface's place below /sys/devices, files (path below that of the last PCI function or absolute), names.
    type Case =
        (&'static str, &'static str, &'static [(&'static str, &'static str)], &'static [&'static str]);

    const CASES: &[Case] = &[
        ("a card alone", "pci0000:00/0000:00:1c.0/0000:03:00.0/net/eth0", &[], &["enp3s0"]),
        ("virtio", "pci0000:00/0000:00:03.0/virtio0/net/eth0", &[], &["enp0s3"]),
        ("a second function", "pci0000:00/0000:00:1c.0/0000:03:00.1/net/eth0", &[], &["enp3s0f1"]),
        ("a domain", "pci10001:00/10001:03:00.0/net/eth0", &[], &["enP65537p3s0"]),
        (
            "numbered by ACPI",
            "pci0000:00/0000:00:1f.6/net/eth0",
            &[("acpi_index", "1\n"), ("index", "7\n")],
            &["eno1", "enp0s31f6"],
        ),
        (
            "numbered by SMBIOS",
            "pci0000:00/0000:00:1f.6/net/eth0",
            &[("index", "2\n")],
            &["eno2", "enp0s31f6"],
        ),
        (
            "a number that is none",
            "pci0000:00/0000:00:1f.6/net/eth0",
            &[("index", "16384\n")],
            &["enp0s31f6"],
        ),
        (
            "a slot",
            "pci0000:00/0000:00:03.0/virtio0/net/eth0",
            &[("/sys/bus/pci/slots/3/address", "0000:00:03\n")],
            &["ens3", "enp0s3"],
        ),
        (
            "the slot of a bridge",
            "pci0000:00/0000:00:02.0/0000:01:00.0/net/eth0",
            &[
                ("/sys/bus/pci/slots/5/address", "0000:00:02\n"),
                ("/sys/devices/pci0000:00/0000:00:02.0/class", "0x060400\n"),
            ],
            &["enp1s0"],
        ),
        (
            "two ports of one function",
            "pci0000:00/0000:00:1c.0/0000:03:00.0/net/eth0",
            &[("net/eth0/dev_port", "1\n")],
            &["enp3s0d1"],
        ),
        (
            "a port with a name",
            "pci0000:00/0000:00:1c.0/0000:03:00.0/net/eth0",
            &[("net/eth0/phys_port_name", "p1\n")],
            &["enp3s0np1"],
        ),
        (
            "a MAC of its own",
            "pci0000:00/0000:00:1c.0/0000:03:00.0/net/eth0",
            &[("net/eth0/addr_assign_type", "0\n"), ("net/eth0/address", "52:54:00:12:34:56\n")],
            &["enp3s0", "enx525400123456"],
        ),
        ("on USB", "pci0000:00/0000:00:14.0/usb1/1-1/1-1.2/1-1.2:1.0/net/eth0", &[], &["enp0s20u1u2"]),
        (
            "on USB, another configuration",
            "pci0000:00/0000:00:14.0/usb1/1-1/1-1:2.1/net/eth0",
            &[],
            &["enp0s20u1c2i1"],
        ),
        ("no device", "virtual/net/eth0", &[], &[]),
    ];

    #[test]
    fn each_card_has_the_names_that_systemd_gives_it() {
        for (label, place, files, want) in CASES {
            let directory = tempfile::tempdir().unwrap();
            let at = |path: &str| directory.path().join(path.trim_start_matches('/'));
            let device = at(&format!("/sys/devices/{place}"));
            fs::create_dir_all(&device).unwrap();
            fs::create_dir_all(at("/sys/class/net")).unwrap();
            symlink(format!("../../devices/{place}"), at("/sys/class/net/eth0")).unwrap();
            let function: Vec<&str> =
                place.split('/').take_while(|part| part.contains(':') && !part.contains("-")).collect();
            for (path, text) in *files {
                let path = match path.starts_with('/') {
                    true => at(path),
                    false => at(&format!("/sys/devices/{}/{path}", function.join("/"))),
                };
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            let root = Root::at(directory.path()).unwrap();
            assert_eq!(names(&root, "eth0"), *want, "{label}");
        }
    }

    #[test]
    fn a_function_that_has_others_beside_it_has_its_number_in_the_name() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("sys/devices/pci0000:00/0000:03:00.0");
        fs::create_dir_all(place.join("net/eth0")).unwrap();
        fs::create_dir_all(directory.path().join("sys/class/net")).unwrap();
        symlink(
            "../../devices/pci0000:00/0000:03:00.0/net/eth0",
            directory.path().join("sys/class/net/eth0"),
        )
        .unwrap();
        let mut config = [0; 64];
        config[14] = 0x80;
        fs::write(place.join("config"), config).unwrap();
        assert_eq!(names(&Root::at(directory.path()).unwrap(), "eth0"), ["enp3s0f0"]);
    }
}
