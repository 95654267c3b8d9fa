//! The forms of the image, started by the firmware of a machine, each with an operator's key and parameters in it.

use crate::bench::{Bench, holds};
use crate::boot::no_step_failed;
use anyhow::{Context as _, Result, ensure};
use image::forms::{self, Form, Parts};
use image::vm::disks::{Bus, Disk};
use image::vm::machine::{Boot, Firmware, Machine, Nic};
use image::vm::{Ssh, Vm, programs};
use std::fs;
use std::path::PathBuf;

/// What the forms are made of: the image of this run, and an archive with a key.
fn parts(bench: &Bench) -> Result<Parts> {
    let key = format!("{}\n", bench.public_key()?);
    let params = "rescue.events=ttyS1\n";
    let extra =
        bench.archive_with(&[("root/.ssh/authorized_keys", &key), ("etc/lifeboat/params", params)])?;
    Parts::of(&programs::source(), &bench.image, Some(extra))
}

fn disk(path: PathBuf, bus: Bus) -> Disk {
    let disk = Disk::raw(path, bus, "MEDIUM");
    if bus == Bus::Cd { disk.write_protected() } else { disk }
}

fn machine(boot: Boot, firmware: Firmware) -> Machine {
    Machine::new(boot).firmware(firmware).memory(1024).nic(Nic::virtio("10.0.2"))
}

/// The way in; the host key is known from the machine's events.
fn login(vm: &Vm<'_>) -> Result<Ssh> {
    vm.addresses(1)?;
    vm.ssh(0, &vm.known_hosts_event()?)
}

/// One promise: this medium brings a machine of this firmware to its login.
fn starts(bench: &Bench, promise: &str, machine: Machine, firmware: Firmware) {
    bench.check(promise, || {
        let vm = machine.start(bench)?;
        let ssh = login(&vm)?;
        let is_uefi = ssh.run("test -d /sys/firmware/efi")?.status == 0;
        ensure!(is_uefi == (firmware != Firmware::Bios), "be started by {firmware:?}");
        vm.settled_after(0)
    });
}

pub fn secure(bench: &Bench) -> Result<()> {
    let stick = Form::Iso.make(&parts(bench)?, &bench.path(""))?;
    let vm = machine(Boot::Disk, Firmware::SecureBoot).disk(disk(stick, Bus::Usb)).start(bench)?;
    let ssh = login(&vm)?;
    vm.settled_after(0)?;
    bench.check("with Secure Boot and Microsoft's keys alone a stick brings a machine to its login", || {
        holds(&ssh.ok("dmesg")?, &["secureboot: Secure boot enabled", "locked down from EFI Secure Boot"])
    });
    bench.check("modules are those that the kernel's lock lets in", || {
        holds(&ssh.ok("modprobe raid456 && lsmod")?, &["raid456", "virtio_net"])
    });
    bench.check("boot entries are read, and not written", || {
        let mounted = "until grep efivarfs /proc/mounts; do sleep 0.1; done; efibootmgr";
        holds(&ssh.ok(mounted)?, &["BootCurrent", "ro,"])
    });
    no_step_failed(bench, &vm);
    Ok(())
}

pub fn every(bench: &Bench) -> Result<()> {
    let parts = parts(bench)?;
    let place = bench.path("");
    let iso = Form::Iso.make(&parts, &place)?;
    for (promise, bus, firmware) in [
        ("the ISO starts from a CD by BIOS", Bus::Cd, Firmware::Bios),
        ("the ISO starts from a stick by BIOS", Bus::Usb, Firmware::Bios),
        ("the ISO starts from a CD by UEFI", Bus::Cd, Firmware::Uefi),
    ] {
        starts(bench, promise, machine(Boot::Disk, firmware).disk(disk(iso.clone(), bus)), firmware);
    }
    let image = Form::Disk.make(&parts, &place)?;
    for (promise, bus, firmware) in [
        ("the disk image starts by BIOS", Bus::VirtioBlk, Firmware::Bios),
        ("the disk image starts by UEFI with Secure Boot", Bus::Ahci, Firmware::SecureBoot),
    ] {
        starts(bench, promise, machine(Boot::Disk, firmware).disk(disk(image.clone(), bus)), firmware);
    }
    let program = fs::read(Form::Efi.make(&parts, &place)?).context("read the EFI program")?;
    let medium = bench.path("efi.img");
    forms::fat(&parts, &medium, &[(forms::FIRST, program)], 0)?;
    let firmware = Firmware::Uefi;
    let one = machine(Boot::Disk, firmware).disk(disk(medium, Bus::VirtioBlk));
    starts(bench, "the EFI program starts by UEFI, alone on a file system", one, firmware);
    let directory = Form::Netboot.make(&parts, &place)?;
    let firmware = Firmware::SecureBoot;
    let boot = Boot::Pxe { directory, bootfile: "bootx64.efi".into() };
    starts(bench, "UEFI's own PXE starts it with Secure Boot", machine(boot, firmware), firmware);
    Ok(())
}
