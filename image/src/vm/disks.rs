//! Disks of a virtual machine: sparse files on the host, and how the guest sees them.

use super::programs;
use crate::packages;
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How the guest reaches a disk, and so what it calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bus {
    /// `vda`; on a PCI slot of its own.
    VirtioBlk,
    /// `sda`, on the one controller.
    VirtioScsi,
    /// `sda`, on the chip set's AHCI, six at most.
    Ahci,
    /// `nvme0n1`
    Nvme,
    /// `sda`, as a USB stick.
    Usb,
    /// `sda`, as a drive of USB 3 that speaks SCSI (UAS).
    Uas,
    /// `sda`, on a PCI controller of its own, of this kind in QEMU's words.
    Scsi(&'static str),
    /// `mmcblk0`, in a reader of its own. Its size has to be a power of two.
    Sd,
    /// `sr0`, on the last port of the chip set's AHCI; a second one on the port before.
    Cd,
}

/// What stands behind the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backing {
    Raw(PathBuf),
    Qcow2(PathBuf),
    /// A disk of so many bytes that answers no read or write within the hour.
    Hung(u64),
    /// A disk of so many bytes that answers every read with an error.
    Failing(u64),
}

/// One disk of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    pub backing: Backing,
    pub bus: Bus,
    /// The drive's serial number, and its id towards QMP.
    pub serial: String,
    /// Bytes; 512 or 4096.
    pub logical_block: u32,
    /// World-wide name; two disks with the same one are two paths to one. SCSI alone.
    pub wwn: Option<u64>,
    /// A throttle group is put in between, which [`super::Vm::throttle`] moves.
    pub throttled: bool,
    /// The drive takes no write: a switch on a card, a volume that its host gives for reading. Not on AHCI.
    pub write_protected: bool,
}

impl Disk {
    pub fn raw(path: impl Into<PathBuf>, bus: Bus, serial: &str) -> Disk {
        Disk {
            backing: Backing::Raw(path.into()),
            bus,
            serial: serial.into(),
            logical_block: 512,
            wwn: None,
            throttled: false,
            write_protected: false,
        }
    }

    pub fn hung(size: u64, bus: Bus, serial: &str) -> Disk {
        Disk { backing: Backing::Hung(size), ..Disk::raw("", bus, serial) }
    }

    pub fn failing(size: u64, bus: Bus, serial: &str) -> Disk {
        Disk { backing: Backing::Failing(size), ..Disk::raw("", bus, serial) }
    }

    pub fn throttled(self) -> Disk {
        Disk { throttled: true, ..self }
    }

    pub fn write_protected(self) -> Disk {
        Disk { write_protected: true, ..self }
    }

    pub fn logical_block(self, bytes: u32) -> Disk {
        Disk { logical_block: bytes, ..self }
    }

    pub fn wwn(self, wwn: u64) -> Disk {
        Disk { wwn: Some(wwn), ..self }
    }

    /// The chain of block nodes, lowest first; the last is named by the serial number. The same
    /// values serve `-blockdev` and QMP's `blockdev-add`.
    pub(super) fn nodes(&self) -> Vec<Value> {
        let serial = &self.serial;
        let top = |throttled| if throttled { format!("{serial}-fast") } else { serial.clone() };
        let file = |path: &Path| json!({ "driver": "file", "node-name": format!("{serial}-file"), "filename": path });
        let format = |driver| json!({ "driver": driver, "node-name": top(self.throttled), "file": format!("{serial}-file") });
        let mut nodes = match &self.backing {
            Backing::Raw(path) => vec![file(path), format("raw")],
            Backing::Qcow2(path) => vec![file(path), format("qcow2")],
            Backing::Hung(size) => vec![json!({
                "driver": "null-co", "node-name": top(self.throttled), "size": size, "read-zeroes": true,
                "latency-ns": 3_600_000_000_000u64,
            })],
            Backing::Failing(size) => vec![
                json!({
                    "driver": "null-co", "node-name": format!("{serial}-file"), "size": size, "read-zeroes": true,
                }),
                json!({
                    "driver": "blkdebug", "node-name": top(self.throttled), "image": format!("{serial}-file"),
                    "inject-error": [{ "event": "none", "iotype": "read", "errno": 5 }],
                }),
            ],
        };
        if self.write_protected {
            nodes.iter_mut().for_each(|node| node["read-only"] = json!(true));
        }
        if self.throttled {
            nodes.push(json!({
                "driver": "throttle", "node-name": serial, "throttle-group": self.throttle_group(),
                "file": top(true),
            }));
        }
        nodes
    }

    pub(super) fn throttle_group(&self) -> String {
        format!("{}-throttle", self.serial)
    }

    /// The device, for `-device` and QMP's `device_add`. `place` is the number of disks before it on
    /// the same bus; `slot` the PCI port to plug it into while the machine runs.
    pub(super) fn device(&self, place: usize, slot: Option<&str>) -> Value {
        let mut device =
            json!({ "drive": self.serial, "id": format!("{}-disk", self.serial), "serial": self.serial });
        let mut set = |name: &str, value: Value| device[name] = value;
        match self.bus {
            Bus::VirtioBlk => set("driver", json!("virtio-blk-pci")),
            Bus::VirtioScsi => {
                set("driver", json!("scsi-hd"));
                set("bus", json!("scsi.0"));
                if let Some(wwn) = self.wwn {
                    set("wwn", json!(wwn));
                }
            }
            Bus::Ahci => {
                set("driver", json!("ide-hd"));
                set("bus", json!(format!("ide.{place}")));
            }
            Bus::Nvme => set("driver", json!("nvme")),
            Bus::Cd => {
                set("driver", json!("ide-cd"));
                set("bus", json!(format!("ide.{}", 5_usize.saturating_sub(place))));
            }
            Bus::Usb => {
                set("driver", json!("usb-storage"));
                set("bus", json!("usb.0"));
            }
            Bus::Uas => {
                set("driver", json!("scsi-hd"));
                set("bus", json!("uas.0"));
            }
            Bus::Scsi(controller) => {
                set("driver", json!("scsi-hd"));
                set("bus", json!(format!("{controller}.0")));
                if let Some(wwn) = self.wwn {
                    set("wwn", json!(wwn));
                }
            }
            Bus::Sd => {
                set("driver", json!("sd-card"));
                set("bus", json!("sd-bus"));
            }
        }
        if let (Bus::Sd, Some(device)) = (self.bus, device.as_object_mut()) {
            device.remove("serial");
        }
        let mut set = |name: &str, value: Value| device[name] = value;
        // usb-storage takes its block size from the drive behind it, and a CD and a card have their own.
        if !matches!(self.bus, Bus::Usb | Bus::Cd | Bus::Sd) {
            set("logical_block_size", json!(self.logical_block));
            set("physical_block_size", json!(self.logical_block.max(512)));
        }
        // Else QEMU reads the first sector to guess it, before anything else, and hangs itself.
        if let (Backing::Hung(size) | Backing::Failing(size), true) =
            (&self.backing, self.bus != Bus::Nvme && self.bus != Bus::Usb)
        {
            set("cyls", json!((size / (16 * 63 * 512)).clamp(1, 16_383)));
            set("heads", json!(16));
            set("secs", json!(63));
        }
        if let Some(slot) = slot {
            set("bus", json!(slot));
        }
        device
    }
}

/// A CD of a directory, with this label, as cloud-init's and OpenStack's tools make them.
pub fn cd(label: &str, directory: &Path, target: &Path) -> Result<()> {
    let mut xorriso = Command::new(programs::cache()?.join("host/bin/xorriso"));
    xorriso
        .args(["-no_rc", "-as", "mkisofs", "-quiet", "-r", "-J", "-V", label, "-o"])
        .arg(target)
        .arg(directory);
    packages::run(&mut xorriso)
}

/// A sparse file of zeroes.
pub fn create(path: &Path, size: u64) -> Result<()> {
    let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
    file.set_len(size).with_context(|| format!("size {}", path.display()))
}

/// A copy with its holes.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp")
        .args(["--sparse=always", "--reflink=auto", "--"])
        .args([from, to])
        .status()
        .context("run cp")?;
    ensure!(status.success(), "copy {} to {}", from.display(), to.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::digest;

    #[test]
    fn a_sparse_copy_has_the_same_hash() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        create(&a, 3 << 20).unwrap();
        copy(&a, &b).unwrap();
        // head -c 3M /dev/zero | sha256sum
        let want = "bbd05cf6097ac9b1f89ea29d2542c1b7b67ee46848393895f5a9e43fa1f621e5";
        assert_eq!((digest(&a).unwrap().as_str(), digest(&b).unwrap().as_str()), (want, want));
    }
}
