//! Cards and controllers: every kind that QEMU has and a server or its hypervisor may have, in one machine.

use crate::bench::{Bench, holds};
use crate::boot::no_step_failed;
use anyhow::{Context as _, Result, ensure};
use image::vm::disks::{Bus, Disk, create};
use image::vm::machine::Nic;
use image::vm::{Ssh, Vm};
use std::fs::File;
use std::os::unix::fs::FileExt as _;

/// QEMU's name of a card, and the driver that Linux has for it. A network of its own for each, in this order.
const NICS: &[(&str, &str)] = &[
    ("virtio-net-pci", "virtio_net"),
    ("e1000", "e1000"),
    ("e1000e", "e1000e"),
    ("igb", "igb"),
    ("pcnet", "pcnet32"),
    ("rtl8139", "8139cp"),
    ("tulip", "tulip"),
    ("vmxnet3", "vmxnet3"),
];

/// A controller by the disk on it, and its driver.
const CONTROLLERS: &[(Bus, &str)] = &[
    (Bus::VirtioBlk, "virtio_blk"),
    (Bus::VirtioScsi, "virtio_scsi"),
    (Bus::Ahci, "ahci"),
    (Bus::Nvme, "nvme"),
    (Bus::Scsi("lsi53c810"), "sym53c8xx"),
    (Bus::Scsi("lsi53c895a"), "sym53c8xx"),
    (Bus::Scsi("megasas"), "megaraid_sas"),
    (Bus::Scsi("megasas-gen2"), "megaraid_sas"),
    (Bus::Scsi("mptsas1068"), "mptsas"),
    (Bus::Scsi("pvscsi"), "vmw_pvscsi"),
    (Bus::Sd, "sdhci-pci"),
    (Bus::Uas, "uas"),
    (Bus::Usb, "usb-storage"),
];

/// A power of two, since one of them is a card.
const SIZE: u64 = 16 << 20;

fn mark(number: usize) -> String {
    format!("LIFEBOAT-DISK-{number:02}")
}

pub fn all(bench: &Bench) -> Result<()> {
    let mut machine = bench.machine()?.no_nic().memory(1536);
    for (number, (model, _)) in NICS.iter().enumerate() {
        machine = machine.nic(Nic::virtio(&format!("10.0.{}", 2 + number)).model(model));
    }
    for (number, (bus, _)) in CONTROLLERS.iter().enumerate() {
        machine = machine.disk(disk(bench, number, *bus)?);
    }
    let vm = machine.start(bench)?;
    let known = vm.known_hosts_event()?;
    vm.addresses(NICS.len())?;
    for (number, (model, driver)) in NICS.iter().enumerate() {
        bench.check(&format!("{model}: a login by it"), || answers(&vm, number, &known, driver));
    }
    vm.settled_after(0)?;
    let ssh = vm.ssh(0, &known)?;
    let seen = seen(&ssh)?;
    for (number, (bus, driver)) in CONTROLLERS.iter().enumerate() {
        bench.check(&format!("{bus:?}: its disk is read, by {driver}, and guarded"), || {
            let lines: Vec<&str> = seen.lines().filter(|line| line.contains(&mark(number))).collect();
            let [line] = lines[..] else { anyhow::bail!("see its disk once in:\n{seen}") };
            holds(line, &[" ro=1 "])?;
            ensure!(line.split(' ').any(|word| word.replace('-', "_") == driver.replace('-', "_")), "{line}");
            Ok(())
        });
    }
    bench.check("rescue status counts each disk, and names it by its serial number", || {
        // Empty disks: it has nothing to offer, and says so by its status.
        let status = ssh.run("rescue status --json")?.stdout;
        holds(&status, &[&format!("\"disks\": {}", CONTROLLERS.len())])?;
        // QEMU's card has none of ours, and its stick tells it to the USB bus alone.
        let numbered = |bus: &Bus| !matches!(bus, Bus::Sd | Bus::Usb);
        for (number, _) in CONTROLLERS.iter().enumerate().filter(|(_, (bus, _))| numbered(bus)) {
            holds(&status, &[&mark(number)])?;
        }
        Ok(())
    });
    no_step_failed(bench, &vm);
    Ok(())
}

fn disk(bench: &Bench, number: usize, bus: Bus) -> Result<Disk> {
    let path = bench.path(&format!("disk{number}.img"));
    create(&path, SIZE)?;
    let file = File::options().write(true).open(&path).context("open a disk")?;
    file.write_all_at(mark(number).as_bytes(), 0).context("mark a disk")?;
    let disk = Disk::raw(path, bus, &mark(number));
    // Every SAS drive has a world-wide name, and QEMU's controller shows none without.
    Ok(if bus == Bus::Scsi("mptsas1068") { disk.wwn(0x5000_c500_0000_0001) } else { disk })
}

fn answers(vm: &Vm<'_>, number: usize, known: &str, driver: &str) -> Result<()> {
    let ssh = vm.ssh(number, known)?;
    let line = format!(
        // The nucleus's readlink, which may be the one that is there yet, takes one name.
        "ip -o -4 address | grep ' 10.0.{}.15/'; for at in /sys/class/net/*/device/driver; do readlink $at; done",
        2 + number
    );
    holds(&ssh.ok(&line)?, &[driver])
}

/// A line for each disk: its name, what stands at its beginning, its guard, and the drivers on the way to it.
fn seen(ssh: &Ssh) -> Result<String> {
    ssh.ok("for disk in /sys/block/*; do \
            name=${disk##*/}; \
            case $name in loop*|ram*|zram*|sr*|fd*) continue ;; esac; \
            echo -n \"$name $(dd if=/dev/$name bs=512 count=1 iflag=direct 2> /dev/null | head -c 16 | tr -d '\\000') ro=$(cat $disk/ro) \"; \
            at=$(readlink -f $disk/device); \
            while [ \"$at\" != /sys/devices ] && [ \"$at\" != / ]; do \
            [ -e $at/driver ] && echo -n \"$(basename $(readlink $at/driver)) \"; at=${at%/*}; done; echo; done")
}
