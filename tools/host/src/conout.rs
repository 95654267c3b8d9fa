//! The serial lines that UEFI firmware has its console on: the variable ConOut, a list of device paths (UEFI specification 2.10,
//! sections 3.3 and 10.3). A path ends in a UART, and says where that hangs by ACPI's name of it or by its place on PCI; sysfs
//! knows the kernel's ports by the same. The variable is whatever somebody wrote into it: one fault, and it names nothing.
//! Nothing is ever written to a variable.

use crate::Root;
use contract::paths;

/// Below efivarfs, which has four bytes of attributes before a variable's own.
pub const VARIABLE: &str = "ConOut-8be4df61-93ca-11d2-aa0d-00e098032b8c";
const ATTRIBUTES: usize = 4;
/// Bytes; a console's path has some seventy.
const LONGEST: usize = 16 << 10;
/// No machine has more that are worth a shell.
const MOST: usize = 4;

/// Type, sub-type, length of the whole node.
const HEAD: usize = 4;
const HARDWARE: u8 = 1;
const PCI: u8 = 1;
const ACPI: u8 = 2;
const ACPI_SHORT: u8 = 1;
const ACPI_EXPANDED: u8 = 2;
const MESSAGING: u8 = 3;
const UART: u8 = 14;
const END: u8 = 0x7f;
const END_INSTANCE: u8 = 1;
const END_ENTIRE: u8 = 0xff;

/// A name of ACPI's in 32 bits, such as PNP0501: three letters of five bits, four digits (EISA's).
const fn eisa(number: u32) -> u32 {
    const PNP: u32 = 0x41d0;
    (number << 16) | PNP
}
/// A 16550.
const COM: u32 = eisa(0x0501);
const COM_NAME: &str = "PNP0501";
/// A root bridge of PCI, and of PCI Express.
const ROOT_BRIDGES: [u32; 2] = [eisa(0x0a03), eisa(0x0a08)];

/// What a terminal may be set to, bits per second; 0 is the firmware's own, and anything else nobody's.
const SPEEDS: [u64; 11] =
    [1200, 2400, 4800, 9600, 19_200, 38_400, 57_600, 115_200, 230_400, 460_800, 921_600];

/// A line as the firmware says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub place: Place,
    /// Bits per second, where it is stated.
    pub speed: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// PNP0501, by its _UID.
    Acpi(u32),
    /// The _UID of the root bridge, then device and function of each bridge and of the port itself.
    Pci(u32, Vec<(u8, u8)>),
    /// One port of several on a card, a line over USB.
    Other,
}

/// A line as the kernel calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Such as `ttyS1`.
    pub device: String,
    /// Bits per second.
    pub speed: Option<u32>,
}

/// Node of a path, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Acpi { hid: u32, uid: u32 },
    Pci { device: u8, function: u8 },
    Uart { speed: Option<u32> },
    Other,
}

/// The serial lines in the variable as efivarfs shows it, in its order.
///
/// # Errors
///
/// What is wrong with it, to complete "ConOut ...".
pub fn parse(variable: &[u8]) -> Result<Vec<Line>, &'static str> {
    if variable.len() > LONGEST {
        return Err("is longer than any");
    }
    let mut rest = variable.get(ATTRIBUTES..).ok_or("has no attributes")?;
    let (mut lines, mut path) = (Vec::new(), Vec::new());
    loop {
        let [kind, sub, low, high, ..] = *rest else { return Err("has no end") };
        let length = usize::from(u16::from_le_bytes([low, high]));
        if length < HEAD || length > rest.len() {
            return Err("has a node that is shorter than its head or longer than what is there");
        }
        let (node, behind) = rest.split_at(length); // checked right above
        rest = behind;
        if kind != END {
            path.push(node_of(kind, sub, &node[HEAD..])?);
            continue;
        }
        if length != HEAD {
            return Err("has an end of another length than an end has");
        }
        lines.extend(line(&path));
        path.clear();
        match sub {
            END_INSTANCE => {}
            END_ENTIRE if rest.is_empty() => return Ok(lines),
            END_ENTIRE => return Err("goes on behind its end"),
            _ => return Err("has an end of an unknown kind"),
        }
    }
}

/// `body` is the node without its head.
fn node_of(kind: u8, sub: u8, body: &[u8]) -> Result<Node, &'static str> {
    let word = |at: usize| Some(u32::from_le_bytes(body.get(at..at + 4)?.try_into().ok()?));
    match (kind, sub) {
        (HARDWARE, PCI) => match *body {
            [function, device] => Ok(Node::Pci { device, function }),
            _ => Err("has a PCI node of another length than one has"),
        },
        (ACPI, ACPI_SHORT) => match (word(0), word(4), body.len()) {
            (Some(hid), Some(uid), 8) => Ok(Node::Acpi { hid, uid }),
            _ => Err("has an ACPI node of another length than one has"),
        },
        (ACPI, ACPI_EXPANDED) => match (word(0), word(4), body.get(12..)) {
            // Behind the third number the names as text, which count where they are not empty.
            (Some(hid), Some(uid), Some([0, 0, 0])) => Ok(Node::Acpi { hid, uid }),
            (Some(_), Some(_), Some([.., 0])) => Ok(Node::Other),
            _ => Err("has an expanded ACPI node that is too short, or whose text has no end"),
        },
        (MESSAGING, UART) => match (body.get(4..12), body.len()) {
            // Four bytes reserved, the speed, and a byte each for data bits, parity and stop bits.
            (Some(speed), 15) => {
                let speed = speed.iter().rev().fold(0, |number: u64, byte| (number << 8) | u64::from(*byte));
                let speed = SPEEDS.contains(&speed).then(|| u32::try_from(speed).ok()).flatten();
                Ok(Node::Uart { speed })
            }
            _ => Err("has a UART's node of another length than one has"),
        },
        _ => Ok(Node::Other),
    }
}

/// `None` of a screen.
fn line(path: &[Node]) -> Option<Line> {
    let (at, speed) = path.iter().enumerate().find_map(|(at, node)| match node {
        Node::Uart { speed } => Some((at, *speed)),
        Node::Acpi { .. } | Node::Pci { .. } | Node::Other => None,
    })?;
    let place = match &path[..at] {
        [.., Node::Acpi { hid: COM, uid }] => Place::Acpi(*uid),
        [Node::Acpi { hid, uid }, functions @ ..] if ROOT_BRIDGES.contains(hid) => {
            pci(functions).map_or(Place::Other, |functions| Place::Pci(*uid, functions))
        }
        _ => Place::Other,
    };
    Some(Line { place, speed })
}

fn pci(nodes: &[Node]) -> Option<Vec<(u8, u8)>> {
    let function = |node: &Node| match node {
        Node::Pci { device, function } => Some((*device, *function)),
        Node::Acpi { .. } | Node::Uart { .. } | Node::Other => None,
    };
    nodes.iter().map(function).collect::<Option<Vec<_>>>().filter(|functions| !functions.is_empty())
}

/// A port of the kernel's and where it hangs.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Port {
    device: String,
    place: Place,
}

/// The kernel's names of the lines, each once and in their order; what is not here is left out. Reads sysfs.
pub fn devices(root: &Root, lines: &[Line]) -> Vec<Named> {
    find(lines, &ports(root))
}

fn find(lines: &[Line], ports: &[Port]) -> Vec<Named> {
    let names = |uid: u32| lines.iter().any(|line| line.place == Place::Acpi(uid));
    let has = |uid: u32| ports.iter().any(|port| port.place == Place::Acpi(uid));
    // The _UIDs are to be ACPI's own. OVMF counts its ports from 0 (OvmfPkg/Library/PlatformBootManagerLib/BdsPlatform.c), and
    // the tables that QEMU gives it from 1 (hw/char/serial-isa.c): then 1 is the second port, not the first.
    let from_zero = names(0) && !has(0);
    let mut found: Vec<Named> = Vec::new();
    for line in lines {
        let place = match line.place {
            Place::Acpi(uid) if from_zero => Place::Acpi(uid.saturating_add(1)),
            Place::Other => continue,
            Place::Acpi(_) | Place::Pci(..) => line.place.clone(),
        };
        let Some(port) = ports.iter().find(|port| port.place == place) else { continue };
        if !found.iter().any(|known| known.device == port.device) {
            found.push(Named { device: port.device.clone(), speed: line.speed });
        }
    }
    found.truncate(MOST);
    found
}

fn ports(root: &Root) -> Vec<Port> {
    let names = root.list("/sys/class/tty").unwrap_or_default();
    let names = names.iter().filter_map(|name| name.to_str()).filter(|name| name.starts_with("ttyS"));
    let port = |name: &str| {
        let target = root.link(format!("/sys/class/tty/{name}")).ok()?;
        let place = place(root, target.to_str()?.split_once("/devices/")?.1)?;
        Some(Port { device: name.to_string(), place })
    };
    names.filter_map(port).collect()
}

/// By the path below /sys/devices: `pnp0/00:04/00:04:0/00:04:0.0/tty/ttyS0`, `pci0000:00/0000:00:16.3/.../tty/ttyS4`.
fn place(root: &Root, path: &str) -> Option<Place> {
    let mut directory = "/sys/devices".to_string();
    let (mut bridge, mut functions) = (None, Vec::new());
    for part in path.split('/') {
        directory = format!("{directory}/{part}");
        // ACPI allows a device without _UID, which firmware calls 0.
        let uid = || match root.line(format!("{directory}/firmware_node/uid")) {
            None => Some(0),
            Some(text) => text.parse().ok(),
        };
        if root.line(format!("{directory}/firmware_node/hid")).as_deref() == Some(COM_NAME) {
            return uid().map(Place::Acpi);
        }
        if part.starts_with("pci") {
            bridge = uid();
        } else if bridge.is_some()
            && let Some(function) = function(part)
        {
            functions.push(function);
        }
    }
    Some(Place::Pci(bridge?, functions))
        .filter(|place| !matches!(place, Place::Pci(_, none) if none.is_empty()))
}

/// Device and function of `0000:00:16.3`.
fn function(name: &str) -> Option<(u8, u8)> {
    let mut parts = name.split(':');
    let (domain, bus, rest) = (parts.next()?, parts.next()?, parts.next()?);
    let (device, function) = rest.split_once('.')?;
    // What hangs at a function has names like it: `0000:00:16.3:0.0`.
    let is_plain = parts.next().is_none() && domain.len() >= 4 && bus.len() == 2 && device.len() == 2;
    is_plain.then_some((u8::from_str_radix(device, 16).ok()?, function.parse().ok()?))
}

/// Lines of a file that [`named`] reads.
pub fn text(lines: &[Named]) -> String {
    let line = |line: &Named| match line.speed {
        Some(speed) => format!("{} {speed}\n", line.device),
        None => format!("{}\n", line.device),
    };
    lines.iter().map(line).collect()
}

/// The lines that the firmware named, as soon as it was asked; empty before and without.
pub fn named(root: &Root) -> Vec<Named> {
    let text = root.read_text(paths::NAMED_LINES).unwrap_or_default();
    let line = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let device = words.next()?.to_string();
        Some(Named { device, speed: words.next().and_then(|speed| speed.parse().ok()) })
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const NV_BS_RT: [u8; 4] = [7, 0, 0, 0];
    const ALL: [u8; 4] = [0x7f, 0xff, 4, 0];
    const NEXT: [u8; 4] = [0x7f, 0x01, 4, 0];
    /// PciRoot(0x0).
    const ROOT: [u8; 12] = [2, 1, 12, 0, 0xd0, 0x41, 0x03, 0x0a, 0, 0, 0, 0];
    /// VenVt100Plus() and its like, as the terminal's driver writes it behind a UART.
    const TERMINAL: [u8; 20] = [
        3, 10, 20, 0, 0x0b, 0x0d, 0x6e, 0x53, 0x2c, 0xe6, 0xa1, 0x44, 0x8e, 0x37, 0x33, 0x52, 0x0d, 0x4d,
        0x1c, 0xcb,
    ];

    fn pci_node(device: u8, function: u8) -> Vec<u8> {
        vec![1, 1, 6, 0, function, device]
    }

    fn com(uid: u8) -> Vec<u8> {
        vec![2, 1, 12, 0, 0xd0, 0x41, 0x01, 0x05, uid, 0, 0, 0]
    }

    fn uart(speed: u64) -> Vec<u8> {
        [&[3, 14, 19, 0, 0, 0, 0, 0][..], &speed.to_le_bytes(), &[8, 1, 1]].concat()
    }

    fn variable(paths: &[&[&[u8]]]) -> Vec<u8> {
        let paths: Vec<Vec<u8>> = paths.iter().map(|path| path.concat()).collect();
        [&NV_BS_RT[..], &paths.join(&NEXT[..]), &ALL].concat()
    }

    /// 0: none is stated.
    fn at(place: Place, speed: u32) -> Line {
        Line { place, speed: Some(speed).filter(|speed| *speed > 0) }
    }

    #[test]
    fn the_lines_are_read_as_firmwares_write_them() {
        let (lpc, screen) = (pci_node(0x1f, 0), pci_node(1, 0));
        let (one, two, sol) = (com(0), com(1), pci_node(0x16, 3));
        // AcpiAdr(0x80010100), which ends a screen's path.
        let adr = [2, 3, 8, 0, 0, 1, 1, 0x80];
        let (usual, none, odd) = (uart(115_200), uart(0), uart(115_201));
        let name = [2, 2, 20, 0, 0xd0, 0x41, 0x08, 0x0a, 0, 0, 0, 0, 0xd0, 0x41, 0x03, 0x0a, 0, b'U', 0, 0];
        let short = [2, 2, 19, 0, 0xd0, 0x41, 0x08, 0x0a, 2, 0, 0, 0, 0xd0, 0x41, 0x03, 0x0a, 0, 0, 0];
        let card: [u8; 8] = [1, 5, 8, 0, 1, 0, 0, 0];
        type Case<'a> = (&'a str, &'a [&'a [&'a [u8]]], &'a [Line]);
        let cases: &[Case] = &[
            ("a screen alone", &[&[&ROOT, &screen, &adr]], &[]),
            (
                "OVMF: a screen and both ports, whether or not they are there",
                &[
                    &[&ROOT, &screen, &adr],
                    &[&ROOT, &lpc, &one, &usual, &TERMINAL],
                    &[&ROOT, &lpc, &two, &usual, &TERMINAL],
                ],
                &[at(Place::Acpi(0), 115_200), at(Place::Acpi(1), 115_200)],
            ),
            ("no speed stated", &[&[&ROOT, &lpc, &two, &none]], &[at(Place::Acpi(1), 0)]),
            ("a speed that nothing has", &[&[&ROOT, &lpc, &two, &odd]], &[at(Place::Acpi(1), 0)]),
            (
                "Intel AMT's serial over LAN",
                &[&[&ROOT, &sol, &usual, &TERMINAL]],
                &[at(Place::Pci(0, vec![(0x16, 3)]), 115_200)],
            ),
            (
                "a card behind a bridge of the second root",
                &[&[&short, &lpc, &sol, &usual]],
                &[at(Place::Pci(2, vec![(0x1f, 0), (0x16, 3)]), 115_200)],
            ),
            ("one port of a card's several", &[&[&ROOT, &sol, &card, &usual]], &[at(Place::Other, 115_200)]),
            ("a root by its name as text", &[&[&name, &sol, &usual]], &[at(Place::Other, 115_200)]),
            ("nothing before the UART", &[&[&usual]], &[at(Place::Other, 115_200)]),
            ("a root alone", &[&[&ROOT, &usual]], &[at(Place::Other, 115_200)]),
            ("an empty path", &[&[]], &[]),
        ];
        for (label, paths, want) in cases {
            assert_eq!(parse(&variable(paths)).as_deref(), Ok(*want), "{label}");
        }
    }

    #[test]
    fn a_fault_anywhere_makes_it_name_nothing() {
        let (lpc, one, usual) = (pci_node(0x1f, 0), com(0), uart(115_200));
        let good = variable(&[&[&ROOT, &lpc, &one, &usual, &TERMINAL], &[&ROOT, &lpc, &com(1), &usual]]);
        assert_eq!(parse(&good).map(|lines| lines.len()), Ok(2));
        for cut in 0..good.len() {
            assert!(parse(&good[..cut]).is_err(), "cut at {cut}");
        }
        assert!(parse(&[&good[..], &[0]].concat()).is_err(), "more behind the end");
        assert!(parse(&vec![0; LONGEST + 1]).is_err(), "too long");
        // In the first path: the heads of the nodes begin at these bytes.
        let heads = [4, 16, 22, 34, 53, 73];
        for head in heads {
            for length in [0, 3, 5, 0xffff_u16] {
                let mut bad = good.clone();
                bad[head + 2..head + 4].copy_from_slice(&length.to_le_bytes());
                assert!(parse(&bad).is_err(), "length {length} of the node at {head}");
            }
        }
        let mut bad = good.clone();
        bad[74] = 2;
        assert!(parse(&bad).is_err(), "an end of an unknown kind");
    }

    #[test]
    fn a_line_is_the_port_of_the_same_acpi_name_or_of_the_same_place_on_pci() {
        let port = |device: &str, place: Place| Port { device: device.into(), place };
        let acpi =
            |uids: &[u32]| -> Vec<Line> { uids.iter().map(|uid| at(Place::Acpi(*uid), 9600)).collect() };
        let amt = Place::Pci(0, vec![(0x16, 3)]);
        let by_zero =
            [port("ttyS0", Place::Acpi(0)), port("ttyS1", Place::Acpi(1)), port("ttyS4", amt.clone())];
        let by_one = [port("ttyS1", Place::Acpi(2)), port("ttyS0", Place::Acpi(1))];
        type Case<'a> = (&'a str, Vec<Line>, &'a [Port], &'a [&'a str]);
        let cases: &[Case] = &[
            ("the second", acpi(&[1]), &by_zero, &["ttyS1"]),
            ("both, in the firmware's order", acpi(&[1, 0, 1]), &by_zero, &["ttyS1", "ttyS0"]),
            ("ACPI's tables count from 1, and so does the firmware", acpi(&[2]), &by_one, &["ttyS1"]),
            ("ACPI's tables count from 1, the firmware from 0", acpi(&[0, 1]), &by_one, &["ttyS0", "ttyS1"]),
            ("the same, with one port", acpi(&[0, 1]), &by_one[1..], &["ttyS0"]),
            ("none of that name", acpi(&[7]), &by_zero, &[]),
            ("on PCI", vec![at(amt, 9600)], &by_zero, &["ttyS4"]),
            ("at another root", vec![at(Place::Pci(1, vec![(0x16, 3)]), 9600)], &by_zero, &[]),
            ("somewhere else", vec![at(Place::Other, 9600)], &by_zero, &[]),
        ];
        for (label, lines, ports, want) in cases {
            let found = find(lines, ports);
            let devices: Vec<&str> = found.iter().map(|line| line.device.as_str()).collect();
            assert_eq!(devices, *want, "{label}");
            assert!(found.iter().all(|line| line.speed == Some(9600)), "{label}");
        }
    }

    /// A machine's sysfs; a link is `path -> target`.
    fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = directory.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            match content.strip_prefix("-> ") {
                Some(target) => std::os::unix::fs::symlink(Path::new(target), path).unwrap(),
                None => std::fs::write(path, content).unwrap(),
            }
        }
        let root = Root::at(directory.path()).unwrap();
        (directory, root)
    }

    #[test]
    fn ports_are_found_by_what_sysfs_says_of_their_devices() {
        // As Linux 6.12 has them; COM2 is ttyS0, as where COM1 is switched off.
        let (_directory, root) = machine(&[
            ("sys/class/tty/ttyS0", "-> ../../devices/pnp0/00:05/00:05:0/00:05:0.0/tty/ttyS0"),
            (
                "sys/devices/pnp0/00:05/firmware_node",
                "-> ../../LNXSYSTM:00/LNXSYBUS:00/PNP0A08:00/PNP0501:01",
            ),
            ("sys/devices/LNXSYSTM:00/LNXSYBUS:00/PNP0A08:00/PNP0501:01/hid", "PNP0501\n"),
            ("sys/devices/LNXSYSTM:00/LNXSYBUS:00/PNP0A08:00/PNP0501:01/uid", "1\n"),
            (
                "sys/class/tty/ttyS1",
                "-> ../../devices/platform/serial8250/serial8250:0/serial8250:0.1/tty/ttyS1",
            ),
            (
                "sys/class/tty/ttyS4",
                "-> ../../devices/pci0000:00/0000:00:16.3/0000:00:16.3:0/0000:00:16.3:0.0/tty/ttyS4",
            ),
            ("sys/class/tty/ttyS5", "-> ../../devices/pci0000:80/0000:80:1c.0/0000:81:00.1/tty/ttyS5"),
            ("sys/devices/pci0000:80/firmware_node/hid", "PNP0A08\n"),
            ("sys/devices/pci0000:80/firmware_node/uid", "2\n"),
            ("sys/class/tty/tty1", "-> ../../devices/virtual/tty/tty1"),
        ]);
        let found = ports(&root);
        let found: Vec<(&str, Place)> =
            found.iter().map(|port| (port.device.as_str(), port.place.clone())).collect();
        let want = [
            ("ttyS0", Place::Acpi(1)),
            ("ttyS4", Place::Pci(0, vec![(0x16, 3)])),
            ("ttyS5", Place::Pci(2, vec![(0x1c, 0), (0, 1)])),
        ];
        assert_eq!(found, want);
    }

    #[test]
    fn what_is_written_down_is_what_is_read() {
        let lines = [("ttyS1", Some(9600)), ("ttyS4", None)]
            .map(|(device, speed)| Named { device: device.into(), speed });
        let (_directory, root) = machine(&[(&paths::NAMED_LINES[1..], text(&lines).as_str())]);
        assert_eq!(named(&root), lines);
        let (_directory, root) = machine(&[(&paths::NAMED_LINES[1..], "\n ttyS0 fast\n")]);
        assert_eq!(named(&root), [Named { device: "ttyS0".into(), speed: None }]);
    }
}
