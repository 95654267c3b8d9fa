//! On which terminals the console service runs: the kernel's own consoles; and, where the command line names none, the
//! serial lines that the machine's owner is likely to sit at. That is the one that the firmware's SPCR table names
//! (Microsoft's Serial Port Console Redirection Table), those of UEFI's variable ConOut as soon as `layers` has read it
//! (`host::conout`), and each UART with somebody at its other end (DSR or carrier), as a BMC's serial-over-LAN has it. That
//! peer may as well be a switch, another machine's getty, a UPS: on such a line the console waits for a word before it says
//! or does anything. A UART without a peer is left alone.

use host::Root;
use host::conout::{self, Named};

/// One terminal, and the speed that nobody else has set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Console {
    pub device: String,
    /// Bits per second.
    pub speed: Option<u32>,
    /// Nobody named it, neither a word nor the firmware: all that is known is that something is connected.
    pub found_by_peer: bool,
}

impl Console {
    /// What its service is started with.
    pub fn arguments(self) -> impl Iterator<Item = String> {
        let waits = self.found_by_peer.then(|| contract::paths::FOUND_BY_PEER.to_string());
        [Some(self.device), self.speed.map(|speed| speed.to_string()), waits].into_iter().flatten()
    }
}

/// What a serial line that nothing is known of has: the most usual of firmwares, BMCs and boot loaders.
const USUAL_SPEED: u32 = 115_200;
/// No machine has more that are worth a shell.
const MOST_UARTS: usize = 4;
/// The kernel makes nodes for ports that may come; PORT_UNKNOWN (linux/serial_core.h) is one that is not there.
const ABSENT: u32 = 0;

pub fn all(root: &Root) -> Vec<Console> {
    let active = root.line("/sys/class/tty/console/active").unwrap_or_default();
    let words = contract::cmdline::words(&root.read_text("/proc/cmdline").unwrap_or_default());
    let mut found = named(&active);
    if contract::cmdline::last(&words, "console").is_none() {
        let port = root.read("/sys/firmware/acpi/tables/SPCR").ok().and_then(|table| spcr(&table));
        let lines = root.read_text("/proc/tty/driver/serial").unwrap_or_default();
        // Whose program at the other end reads events would be sent a banner between them.
        let taken = crate::outlet::named(&host::params::read(root));
        for console in likely(&uarts(root), port, &conout::named(root), &connected(&lines)) {
            if !taken.contains(&console.device) && !found.iter().any(|known| known.device == console.device) {
                found.push(console);
            }
        }
    }
    found
}

/// Device names from /sys/class/tty/console/active. `tty0` is whichever virtual console is shown,
/// so the first real one stands for it.
fn named(active: &str) -> Vec<Console> {
    let mut found: Vec<Console> = Vec::new();
    for name in active.split_ascii_whitespace() {
        let name = if name == "tty0" { "tty1" } else { name };
        // A name that is no plain device name can only be a damaged file; it must not become a path.
        let is_plain = name.bytes().all(|c| c.is_ascii_alphanumeric());
        if is_plain && !found.iter().any(|known| known.device == name) {
            found.push(Console { device: name.to_string(), speed: None, found_by_peer: false });
        }
    }
    found
}

/// A serial port that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Uart {
    /// Of `ttyS`.
    number: u32,
    /// In the space of I/O ports.
    port: u64,
    /// In memory.
    memory: u64,
}

impl Uart {
    fn device(&self) -> String {
        format!("ttyS{}", self.number)
    }
}

fn uarts(root: &Root) -> Vec<Uart> {
    let mut found = Vec::new();
    for name in root.list("/sys/class/tty").unwrap_or_default() {
        let Some(number) = name.to_str().and_then(|name| name.strip_prefix("ttyS")?.parse().ok()) else {
            continue;
        };
        let file = |what: &str| root.line(format!("/sys/class/tty/ttyS{number}/{what}")).unwrap_or_default();
        if file("type").parse().unwrap_or(ABSENT) != ABSENT {
            found.push(Uart {
                number,
                port: hexadecimal(&file("port")),
                memory: hexadecimal(&file("iomem_base")),
            });
        }
    }
    found.sort_by_key(|uart| uart.number);
    found
}

fn hexadecimal(text: &str) -> u64 {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap_or_default()
}

/// Numbers of the ports in /proc/tty/driver/serial with somebody at the other end:
/// `0: uart:16550A port:000003F8 irq:4 tx:0 rx:0 RTS|CTS|DTR|DSR|CD`.
fn connected(lines: &str) -> Vec<u32> {
    let is_there = |line: &str| line.split([' ', '|']).any(|word| matches!(word, "DSR" | "CD"));
    lines
        .lines()
        .filter(|line| is_there(line))
        .filter_map(|line| line.split(':').next()?.trim().parse().ok())
        .collect()
}

/// The port that the firmware speaks on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Port {
    place: Place,
    speed: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Memory(u64),
    Io(u64),
}

/// Offsets of the table: its header, the generic address structure (ACPI specification 5.2.3.2), the speed's code.
const SIGNATURE: &[u8] = b"SPCR";
const SPACE: usize = 40;
const ADDRESS: usize = 44;
const SPEED: usize = 58;

fn spcr(table: &[u8]) -> Option<Port> {
    if !table.starts_with(SIGNATURE) {
        return None;
    }
    let address = u64::from_le_bytes(table.get(ADDRESS..ADDRESS + 8)?.try_into().ok()?);
    let place = match table.get(SPACE)? {
        0 => Place::Memory(address),
        1 => Place::Io(address),
        _ => return None,
    };
    let speed = match table.get(SPEED)? {
        3 => Some(9600),
        4 => Some(19_200),
        6 => Some(57_600),
        7 => Some(115_200),
        // As the firmware left it, which nobody knows any more once the line was opened.
        _ => None,
    };
    // "Console redirection is off" is an address of zeros.
    (address != 0).then_some(Port { place, speed })
}

/// The firmware's first: its table's, then its variable's.
fn likely(uarts: &[Uart], port: Option<Port>, named: &[Named], connected: &[u32]) -> Vec<Console> {
    let is_firmware_s = |uart: &Uart| match port.map(|port| port.place) {
        Some(Place::Io(address)) => uart.port == address,
        Some(Place::Memory(address)) => uart.memory == address,
        None => false,
    };
    let named = |uart: &Uart| named.iter().find(|line| line.device == uart.device());
    let console = |uart: &Uart, speed: Option<u32>, found_by_peer| Console {
        device: uart.device(),
        speed: speed.or(Some(USUAL_SPEED)),
        found_by_peer,
    };
    let first = uarts.iter().filter(|uart| is_firmware_s(uart));
    let first = first.map(|uart| console(uart, port.and_then(|port| port.speed), false));
    let rest = || uarts.iter().filter(|uart| !is_firmware_s(uart));
    let second = rest().filter_map(|uart| Some(console(uart, named(uart)?.speed, false)));
    let others = rest().filter(|uart| named(uart).is_none() && connected.contains(&uart.number));
    let others = others.map(|uart| console(uart, None, true));
    first.chain(second).chain(others).take(MOST_UARTS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices(found: &[Console]) -> Vec<(&str, Option<u32>)> {
        found.iter().map(|console| (console.device.as_str(), console.speed)).collect()
    }

    #[test]
    fn every_kernel_console_gets_one_service() {
        assert_eq!(devices(&named("tty0 ttyS0 ttyS0")), [("tty1", None), ("ttyS0", None)]);
        assert_eq!(devices(&named("hvc0")), [("hvc0", None)]);
        assert!(named("../x").is_empty() && named("").is_empty());
    }

    fn table(space: u8, address: u64, speed: u8) -> Vec<u8> {
        let mut table = b"SPCR".to_vec();
        table.resize(80, 0);
        table[SPACE] = space;
        table[ADDRESS..ADDRESS + 8].copy_from_slice(&address.to_le_bytes());
        table[SPEED] = speed;
        table
    }

    #[test]
    fn the_firmware_s_port_is_read_from_its_table() {
        assert_eq!(spcr(&table(1, 0x2f8, 6)), Some(Port { place: Place::Io(0x2f8), speed: Some(57_600) }));
        assert_eq!(
            spcr(&table(0, 0xfe00_0000, 0)),
            Some(Port { place: Place::Memory(0xfe00_0000), speed: None })
        );
        assert_eq!((spcr(&table(1, 0, 7)), spcr(&table(9, 1, 7)), spcr(b"DBG2")), (None, None, None));
        for cut in 0..SPEED + 1 {
            assert_eq!(spcr(&table(1, 0x3f8, 7)[..cut]), None, "{cut}");
        }
    }

    #[test]
    fn the_firmware_s_port_comes_first_and_those_with_a_peer_behind_it() {
        let uarts = [
            Uart { number: 0, port: 0x3f8, memory: 0 },
            Uart { number: 1, port: 0x2f8, memory: 0 },
            Uart { number: 4, port: 0, memory: 0xfe00_0000 },
        ];
        let lines = "serinfo:1.0 driver revision:\n0: uart:16550A port:000003F8 irq:4 tx:0 rx:0 RTS|CTS|DTR|DSR|CD\n\
                     1: uart:16550A port:000002F8 irq:3 tx:0 rx:0\n2: uart:unknown port:000003E8 irq:4\n\
                     4: uart:16550A mmio:0xFE000000 irq:9 tx:0 rx:0 CTS\n";
        let connected = connected(lines);
        assert_eq!(connected, [0]);
        let port = |place| Some(Port { place, speed: Some(9600) });
        let found = likely(&uarts, port(Place::Io(0x2f8)), &[], &connected);
        assert_eq!(devices(&found), [("ttyS1", Some(9600)), ("ttyS0", Some(115_200))]);
        let arguments: Vec<Vec<String>> =
            found.into_iter().map(|console| console.arguments().collect()).collect();
        assert_eq!(arguments, [vec!["ttyS1", "9600"], vec!["ttyS0", "115200", "found-by-peer"]]);
        let found = likely(&uarts, port(Place::Memory(0xfe00_0000)), &[], &connected);
        assert_eq!(devices(&found), [("ttyS4", Some(9600)), ("ttyS0", Some(115_200))]);
        assert_eq!(devices(&likely(&uarts, None, &[], &[])), []);
        assert_eq!(devices(&likely(&[], port(Place::Io(0x3f8)), &[], &[0])), []);
    }

    #[test]
    fn a_line_that_conout_names_is_as_one_that_the_table_names() {
        let uarts = [0, 1, 4].map(|number| Uart { number, port: u64::from(number) + 1, memory: 0 });
        let line = |device: &str, speed| Named { device: device.into(), speed };
        let named = [line("ttyS1", Some(57_600)), line("ttyS0", Some(9600)), line("ttyS7", None)];
        // The table's own speed counts on its line; a line that is not there gets nothing.
        let port = Some(Port { place: Place::Io(1), speed: None });
        let found = likely(&uarts, port, &named, &[0, 1, 4]);
        let want = [("ttyS0", Some(115_200)), ("ttyS1", Some(57_600)), ("ttyS4", Some(115_200))];
        assert_eq!(devices(&found), want);
        let silent: Vec<bool> = found.iter().map(|console| console.found_by_peer).collect();
        assert_eq!(silent, [false, false, true]);
        let found = likely(&uarts, None, &named[..1], &[]);
        assert_eq!(devices(&found), [("ttyS1", Some(57_600))]);
    }

    #[test]
    fn consoles_that_the_command_line_names_are_all() {
        let directory = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &[u8]| {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put("sys/class/tty/console/active", b"tty0\n");
        put("sys/class/tty/ttyS0/type", b"4\n");
        put("sys/class/tty/ttyS0/port", b"0x3F8\n");
        put("sys/class/tty/ttyS1/type", b"0\n");
        put("sys/class/tty/ttyS1/port", b"0x2F8\n");
        put("sys/firmware/acpi/tables/SPCR", &table(1, 0x3f8, 7));
        put("proc/cmdline", b"quiet\n");
        let root = Root::at(directory.path()).unwrap();
        assert_eq!(devices(&all(&root)), [("tty1", None), ("ttyS0", Some(115_200))]);
        put("sys/class/tty/ttyS2/type", b"4\n");
        put("run/lifeboat/state/lines", b"ttyS1 9600\nttyS2 9600\n");
        assert_eq!(devices(&all(&root)), [("tty1", None), ("ttyS0", Some(115_200)), ("ttyS2", Some(9600))]);
        put("proc/cmdline", b"console=tty0 quiet\n");
        assert_eq!(devices(&all(&root)), [("tty1", None)]);
        put("run/lifeboat/state/lines", b"");
        put("proc/cmdline", b"quiet\n");
        for events in ["ttyS0", "/dev/ttyS0", "virtio-ports/lifeboat,ttyS0"] {
            put("etc/lifeboat/params", format!("rescue.events={events}\n").as_bytes());
            assert_eq!(devices(&all(&root)), [("tty1", None)], "{events}");
        }
        put("etc/lifeboat/params", b"");
        // A port that the table names and that is not there.
        put("proc/cmdline", b"quiet\n");
        put("sys/firmware/acpi/tables/SPCR", &table(1, 0x2f8, 7));
        assert_eq!(devices(&all(&root)), [("tty1", None)]);
    }
}
