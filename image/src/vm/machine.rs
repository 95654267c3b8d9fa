//! What a virtual machine is made of, before it runs.

use super::disks::{Bus, Disk};
use super::lab::Lab;
use super::programs;
use super::qemu::Vm;
use anyhow::Result;
use serde_json::json;
use std::path::{Path, PathBuf};

/// What the firmware starts.
#[derive(Clone, Debug)]
pub enum Boot {
    /// QEMU's own loader.
    Kernel { kernel: PathBuf, initrd: PathBuf, append: String },
    /// The stock iPXE ROM of the first NIC, which fetches `bootfile` from `directory` by TFTP.
    Pxe { directory: PathBuf, bootfile: String },
    /// What the first NIC's wire offers: the firmware's own PXE, or the ROM's.
    Wire,
    /// The first disk or CD.
    Disk,
}

/// Where a NIC's cable leads.
#[derive(Clone, Debug)]
pub enum Cable {
    /// Into a network of its own: DHCP, a gateway at .2, and port 22 of the guest (.15) forwarded to a port on loopback.
    Network {
        /// Network part of a /24: `10.0.2`.
        network: String,
        /// 0 lets QEMU choose one that is free.
        port: u16,
        /// What the port leads to, where it is not the address that DHCP gives.
        inside: String,
    },
    /// Into another machine: each frame is a datagram from one path to the other, so that either end may be absent.
    Wire { own: PathBuf, far: PathBuf },
    /// Into the host, by a tap interface that is there, of this name.
    Tap { name: String },
}

#[derive(Clone, Debug)]
pub struct Nic {
    pub model: String,
    /// The fifth byte of its MAC, which machines on one wire must not share; the sixth is the NIC's number.
    pub machine: u8,
    pub cable: Cable,
}

impl Nic {
    pub fn virtio(network: &str) -> Nic {
        Nic::forwarded(network, 0)
    }

    /// With port 22 at this port of loopback.
    pub fn forwarded(network: &str, port: u16) -> Nic {
        let cable = Cable::Network { network: network.into(), port, inside: String::new() };
        Nic { model: "virtio-net-pci".into(), machine: 0x34, cable }
    }

    /// One end of a wire. It has a speed, else no LACP comes about.
    pub fn wire(own: &Path, far: &Path) -> Nic {
        let cable = Cable::Wire { own: own.into(), far: far.into() };
        Nic { model: "virtio-net-pci,speed=1000,duplex=full".into(), machine: 0x34, cable }
    }

    /// At the other end of the host's tap interface of this name.
    pub fn tap(name: &str) -> Nic {
        Nic { model: "virtio-net-pci".into(), machine: 0x34, cable: Cable::Tap { name: name.into() } }
    }

    /// That of a machine's NIC of this number, from 0.
    pub fn mac(&self, number: usize) -> String {
        format!("52:54:00:12:{:02x}:{:02x}", self.machine, 0x56 + number)
    }

    /// With port 22 of this address at a port of loopback.
    pub fn at(mut self, address: &str) -> Nic {
        if let Cable::Network { inside, .. } = &mut self.cable {
            *inside = address.into();
        }
        self
    }

    /// Another card.
    pub fn model(self, model: &str) -> Nic {
        Nic { model: model.into(), ..self }
    }

    pub fn of_machine(self, machine: u8) -> Nic {
        Nic { machine, ..self }
    }
}

/// Where the lines of a machine go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serial {
    Read,
    /// Connected to something that takes 4 KiB and then no more.
    Unread,
}

/// What starts the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS.
    Bios,
    /// OVMF.
    Uefi,
    /// OVMF with Microsoft's keys enrolled, and Secure Boot on.
    SecureBoot,
    /// The same with no certificate but that of Debian's test key, which lies beside it.
    OwnKey,
}

impl Firmware {
    /// Its code and its variables, as files of Debian's package.
    fn files(self) -> Option<[&'static str; 2]> {
        match self {
            Firmware::Bios => None,
            Firmware::Uefi => Some(["OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"]),
            Firmware::SecureBoot => Some(["OVMF_CODE_4M.secboot.fd", "OVMF_VARS_4M.ms.fd"]),
            Firmware::OwnKey => Some(["OVMF_CODE_4M.secboot.fd", "OVMF_VARS_4M.snakeoil.fd"]),
        }
    }
}

/// Works everywhere.
pub const EMULATED: &str = "tcg";

/// A machine to be started.
#[derive(Clone, Debug)]
pub struct Machine {
    pub boot: Boot,
    pub firmware: Firmware,
    pub memory: u32,
    pub cpus: u32,
    pub disks: Vec<Disk>,
    pub nics: Vec<Nic>,
    /// PCI ports to plug something into later, named `slot0` and so on.
    pub slots: usize,
    pub serial: Serial,
    pub reboots: bool,
    /// The SMBIOS serial number, which the alias of the host key is made of.
    pub name: String,
    /// Start of the machine's clock, in the form of QEMU's `-rtc base=`.
    pub clock: String,
    /// As QEMU's `-accel` takes it. Tests always emulate, so that they mean the same on every host.
    pub accelerator: String,
    pub more: Vec<String>,
}

impl Machine {
    pub fn new(boot: Boot) -> Machine {
        Machine {
            boot,
            firmware: Firmware::Bios,
            memory: 768,
            cpus: 1,
            disks: Vec::new(),
            nics: Vec::new(),
            slots: 0,
            serial: Serial::Read,
            reboots: false,
            name: "VM0001".into(),
            clock: "utc".into(),
            accelerator: EMULATED.into(),
            more: Vec::new(),
        }
    }

    pub fn firmware(self, firmware: Firmware) -> Machine {
        Machine { firmware, ..self }
    }

    pub fn memory(self, mebibytes: u32) -> Machine {
        Machine { memory: mebibytes, ..self }
    }

    pub fn cpus(self, cpus: u32) -> Machine {
        Machine { cpus, ..self }
    }

    pub fn disk(mut self, disk: Disk) -> Machine {
        self.disks.push(disk);
        self
    }

    pub fn disks(mut self, disks: impl IntoIterator<Item = Disk>) -> Machine {
        self.disks.extend(disks);
        self
    }

    pub fn nic(mut self, nic: Nic) -> Machine {
        self.nics.push(nic);
        self
    }

    pub fn nics_of(mut self, nics: impl IntoIterator<Item = Nic>) -> Machine {
        self.nics.extend(nics);
        self
    }

    /// How many are in a network of their own, with a way in from outside.
    pub(super) fn forwards(&self) -> usize {
        self.nics.iter().filter(|nic| matches!(nic.cable, Cable::Network { .. })).count()
    }

    pub fn no_nic(mut self) -> Machine {
        self.nics.clear();
        self
    }

    pub fn slots(self, slots: usize) -> Machine {
        Machine { slots, ..self }
    }

    pub fn unread_serial(self) -> Machine {
        Machine { serial: Serial::Unread, ..self }
    }

    pub fn named(self, name: &str) -> Machine {
        Machine { name: name.into(), ..self }
    }

    /// A reset starts the machine again, instead of ending it.
    pub fn reboots(self) -> Machine {
        Machine { reboots: true, ..self }
    }

    /// More words for the kernel's command line.
    pub fn append(mut self, words: &str) -> Machine {
        if let Boot::Kernel { append, .. } = &mut self.boot {
            append.push(' ');
            append.push_str(words);
        }
        self
    }

    pub fn initrd(mut self, path: &Path) -> Machine {
        if let Boot::Kernel { initrd, .. } = &mut self.boot {
            *initrd = path.into();
        }
        self
    }

    pub fn start(self, lab: &Lab) -> Result<Vm<'_>> {
        Vm::start(self, lab)
    }

    /// QEMU's arguments, without those that say where the lines go.
    pub(super) fn arguments(&self, qemu_major: u32) -> Vec<String> {
        // 7.2 crashes Debian's kernels at random with cmpxchg16b; from 10 on all is well, and ERMS
        // would make the kernel copy pages bytewise, which is what TCG is slowest at.
        let cpu = match self.accelerator.split(',').next() {
            Some(EMULATED) if qemu_major >= 10 => "max,-erms",
            Some(EMULATED) => "qemu64,-cx16",
            _ => "max",
        };
        let mut args: Vec<String> =
            "-nodefaults -no-user-config -display none".split(' ').map(String::from).collect();
        let mut add = |option: &str, value: String| args.extend([option.to_string(), value]);
        // Only code in system management mode may change the variables that Secure Boot goes by.
        let is_secure = matches!(self.firmware, Firmware::SecureBoot | Firmware::OwnKey);
        add("-M", if is_secure { "q35,smm=on" } else { "q35" }.into());
        if is_secure {
            add("-global", "driver=cfi.pflash01,property=secure,value=on".into());
        }
        for (unit, file) in self.firmware.files().into_iter().flatten().enumerate() {
            // What is written to it is thrown away.
            let path = programs::firmware(file);
            add("-drive", format!("if=pflash,unit={unit},format=raw,snapshot=on,file={}", path.display()));
        }
        add("-accel", self.accelerator.clone());
        add("-cpu", cpu.into());
        add("-m", self.memory.to_string());
        add("-smp", self.cpus.to_string());
        add("-rtc", format!("base={}", self.clock));
        add("-smbios", format!("type=1,manufacturer=Lifeboat,product=Test,serial={}", self.name));
        match &self.boot {
            Boot::Kernel { kernel, initrd, append } => {
                add("-kernel", kernel.display().to_string());
                add("-initrd", initrd.display().to_string());
                add("-append", append.clone());
            }
            Boot::Pxe { .. } | Boot::Wire => add("-boot", "n".into()),
            Boot::Disk => add("-boot", "c".into()),
        }
        for (number, nic) in self.nics.iter().enumerate() {
            let boot = match &self.boot {
                Boot::Pxe { directory, bootfile } if number == 0 => {
                    format!(",tftp={},bootfile={bootfile}", directory.display())
                }
                _ => String::new(),
            };
            let net = match &nic.cable {
                Cable::Network { network, port, inside } => {
                    format!(
                        "user,id=net{number},net={network}.0/24,hostfwd=tcp:127.0.0.1:{port}-{inside}:22{boot}"
                    )
                }
                Cable::Wire { own, far } => format!(
                    "dgram,id=net{number},local.type=unix,local.path={},remote.type=unix,remote.path={}",
                    own.display(),
                    far.display()
                ),
                Cable::Tap { name } => {
                    format!("tap,id=net{number},ifname={name},script=no,downscript=no")
                }
            };
            add("-netdev", net);
            // The option ROM costs a second of SeaBIOS where nobody boots from the network.
            let boots = number == 0 && matches!(self.boot, Boot::Pxe { .. } | Boot::Wire);
            let rom = match (boots, self.firmware) {
                (false, _) => ",romfile=",
                (true, Firmware::Bios) => "",
                // OVMF has a driver and a client of its own, and would refuse a ROM that nobody signed.
                (true, _) => ",romfile=,bootindex=0",
            };
            let (model, mac) = (&nic.model, nic.mac(number));
            add("-device", format!("{model},netdev=net{number},id=nic{number},mac={mac}{rom}"));
        }
        for slot in 0..self.slots {
            add("-device", format!("pcie-root-port,id=slot{slot},chassis={slot}"));
        }
        if self.slots > 0 || self.disks.iter().any(|disk| disk.bus == Bus::VirtioScsi) {
            add("-device", "virtio-scsi-pci,id=scsi".into());
        }
        if self.disks.iter().any(|disk| matches!(disk.bus, Bus::Usb | Bus::Uas)) {
            add("-device", "qemu-xhci,id=usb".into());
        }
        let mut controllers: Vec<String> = Vec::new();
        for disk in &self.disks {
            let controller = match disk.bus {
                Bus::Uas => "usb-uas,id=uas,bus=usb.0".into(),
                Bus::Scsi(kind) => format!("{kind},id={kind}"),
                Bus::Sd => "sdhci-pci".into(),
                Bus::VirtioBlk | Bus::VirtioScsi | Bus::Ahci | Bus::Nvme | Bus::Usb | Bus::Cd => continue,
            };
            if !controllers.contains(&controller) {
                add("-device", controller.clone());
                controllers.push(controller);
            }
        }
        for (number, disk) in self.disks.iter().enumerate() {
            let place = self.disks[..number].iter().filter(|other| other.bus == disk.bus).count();
            if disk.throttled {
                add(
                    "-object",
                    json!({ "qom-type": "throttle-group", "id": disk.throttle_group() }).to_string(),
                );
            }
            for node in disk.nodes() {
                add("-blockdev", node.to_string());
            }
            let mut device = disk.device(place, None);
            // OVMF shows a loader those disks alone that it was told to start from.
            if matches!(self.boot, Boot::Disk) {
                device["bootindex"] = json!(number);
            }
            add("-device", device.to_string());
        }
        if !self.reboots {
            args.push("-no-reboot".into());
        }
        args.extend(self.more.iter().cloned());
        args
    }

    /// The command line for a person to paste: the console on the terminal, SSH on port 2222.
    pub(super) fn paste(&self) -> String {
        let program = programs::qemu().unwrap_or_else(|_| "qemu-system-x86_64".into());
        let mut args = vec![program.display().to_string()];
        args.extend(self.arguments(programs::qemu_major().unwrap_or(10)));
        args.extend(["-serial", "mon:stdio", "-serial", "file:events.log"].map(String::from));
        args.iter()
            .map(|arg| quote(&arg.replace("127.0.0.1:0-", "127.0.0.1:2222-")))
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// A word as a POSIX shell reads it, as the steps of a plan are printed.
pub use model::plan::word as quote;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_disk_has_its_nodes_and_one_device() {
        let machine = Machine::new(Boot::Disk)
            .disk(Disk::raw("/a", Bus::VirtioScsi, "A").throttled())
            .disk(Disk::raw("/b", Bus::Ahci, "B"))
            .disk(Disk::raw("/c", Bus::Ahci, "C"));
        let line = machine.arguments(10).join(" ");
        for part in ["\"bus\":\"ide.0\"", "\"bus\":\"ide.1\"", "virtio-scsi-pci,id=scsi", "A-throttle"] {
            assert!(line.contains(part), "{part} in {line}");
        }
        assert!(!line.contains("qemu-xhci"));
    }

    #[test]
    fn an_old_qemu_gets_a_processor_that_it_emulates_soundly() {
        let machine = Machine::new(Boot::Disk);
        assert!(machine.arguments(7).contains(&"qemu64,-cx16".to_string()));
        let accelerated = Machine { accelerator: "kvm,kernel-irqchip=on".into(), ..machine };
        assert!(accelerated.arguments(7).contains(&"max".to_string()));
    }

    #[test]
    fn a_pasted_word_is_one_word() {
        assert_eq!(quote("a b"), "'a b'");
        assert_eq!(quote("it's"), r"'it'\''s'");
        assert_eq!(quote("-m"), "-m");
        assert_eq!(quote(""), "''");
    }
}
