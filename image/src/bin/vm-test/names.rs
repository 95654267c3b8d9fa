//! The names below /dev/disk, which people and fstab know their disks by.

use crate::bench::{Bench, holds};
use crate::disks::set;
use anyhow::{Result, ensure};
use image::vm::{Bus, Ssh};

/// A shell's wait of ten seconds for what devd makes within one.
fn within(ssh: &Ssh, condition: &str) -> Result<()> {
    let answer = ssh.run(&format!(
        "for i in $(seq 100); do {condition} && exit 0; sleep 0.1; done; ls -R /dev/disk; exit 1"
    ))?;
    ensure!(answer.status == 0, "see {condition:?} come true: {}", answer.stdout);
    Ok(())
}

pub fn disks(bench: &Bench) -> Result<()> {
    let mut machine = bench.machine()?;
    for (name, bus) in [
        ("hetzner", Bus::Ahci),
        ("dirty", Bus::Nvme),
        ("ovh-mbr", Bus::Usb),
        ("damaged-ext4", Bus::VirtioBlk),
    ] {
        machine = machine.disks(set(bench, name, bus)?);
    }
    let vm = machine.start(bench)?;
    let ssh = vm.login()?;
    vm.settled_after(0)?;
    bench.check("each bus has the names that udev gives its disks", || {
        let names = ssh.ok("cd /dev/disk/by-id && for n in *; do echo $n $(readlink $n); done")?;
        holds(
            &names,
            &[
                "ata-QEMU_HARDDISK_HETZNER-0-part3 ../../sd", // the kernel's order varies
                "nvme-QEMU_NVMe_Ctrl_DIRTY-0-part1 ../../nvme0n1p1",
                "usb-QEMU_QEMU_HARDDISK_OVH-MBR-0-0:0-part1 ../../sd",
                "virtio-DAMAGED-EXT4-0-part1 ../../vda1",
            ],
        )?;
        let paths = ssh.ok("ls /dev/disk/by-path")?;
        holds(&paths, &["-ata-1.0-part3", "-nvme-1-part1", "-usb-0:", "virtio-pci-"])
    });
    bench.check("file systems are named, members of arrays are not", || {
        let names = ssh.ok("cd /dev/disk/by-uuid && for n in *; do echo $n $(readlink $n); done")?;
        holds(&names, &["66666666-0001-4000-8000-000000000000 ../../sd", "../../nvme0n1p1"])?;
        let members = ssh.ok("readlink /dev/disk/by-id/ata-QEMU_HARDDISK_HETZNER-?-part[123]")?;
        for member in members.lines() {
            ensure!(!names.contains(&format!("{member}\n")), "name no member: {names}");
        }
        Ok(())
    });
    bench.check("partitions are named by their tables", || {
        let names = ssh.ok("cd /dev/disk/by-partuuid && for n in *; do readlink $n; done")?;
        holds(&names, &["../../nvme0n1p1", "../../vda1"])
    });
    bench.check("the names by content outlive devd", || {
        let uuid = "/dev/disk/by-uuid/66666666-0001-4000-8000-000000000000";
        let mark = vm.events.mark();
        ssh.ok(&format!("kill -9 $(pidof devd); test -e {uuid}"))?;
        vm.events.ready("devd", mark, image::vm::qemu::SOON)?;
        ssh.ok(&format!("test -e {uuid} && sleep 1 && test -e {uuid}")).map(drop)
    });
    bench.check("what somebody makes gets its name, and loses it again", || {
        ssh.ok("truncate -s 64M /tmp/a && losetup /dev/loop7 /tmp/a")?;
        ssh.ok("mkfs.ext4 -q -L 'my data' -U 12345678-0000-4000-8000-000000000001 /dev/loop7")?;
        within(
            &ssh,
            "test \"$(readlink /dev/disk/by-uuid/12345678-0000-4000-8000-000000000001)\" = ../../loop7",
        )?;
        within(&ssh, "test -e '/dev/disk/by-label/my\\x20data'")
    });
    bench.check("a copy is named, and the first keeps its name", || {
        ssh.ok("cp /tmp/a /tmp/b && losetup /dev/loop6 /tmp/b")?;
        vm.warning(&["/dev/loop6 and /dev/loop7", "same UUID"])?;
        ssh.ok("losetup -d /dev/loop6")?;
        within(
            &ssh,
            "test \"$(readlink /dev/disk/by-uuid/12345678-0000-4000-8000-000000000001)\" = ../../loop7",
        )?;
        ssh.ok("losetup -d /dev/loop7")?;
        within(&ssh, "test ! -e /dev/disk/by-uuid/12345678-0000-4000-8000-000000000001")
    });
    bench.check("a new partition table brings new names", || {
        ssh.ok("truncate -s 64M /tmp/c && losetup -P /dev/loop5 /tmp/c")?;
        ssh.ok("printf 'label: gpt\\n,,,name=\"one two\",uuid=AAAAAAAA-0000-4000-8000-000000000001\\n' | sed 's/,,,/type=L,/' | sfdisk -q /dev/loop5")?;
        within(&ssh, "test -e /dev/disk/by-partuuid/aaaaaaaa-0000-4000-8000-000000000001")?;
        within(&ssh, "test -e '/dev/disk/by-partlabel/one\\x20two'")
    });
    bench.check("a keymap can be loaded", || ssh.ok("loadkeys --parse de fr-latin9").map(drop));
    Ok(())
}
