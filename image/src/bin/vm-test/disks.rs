//! The road from a broken server to a mended one, and the promise that looking writes nothing.

use crate::bench::{Bench, holds};
use anyhow::{Result, ensure};
use image::fixtures;
use image::packages::digest;
use image::vm::disks::Backing;
use image::vm::{Bus, Disk, qemu};
use std::path::PathBuf;

/// Copies of a set for one machine, with their disks on one bus.
pub fn set(bench: &Bench, name: &str, bus: Bus) -> Result<Vec<Disk>> {
    let fixture = fixtures::ensure(&[name])?.remove(0);
    let copies = fixture.copy_to(&bench.dir)?.into_iter().enumerate();
    let disk = |(number, path)| {
        Disk::raw(path, bus, &fixtures::serial(name, number)).logical_block(fixtures::sector(name).1)
    };
    Ok(copies.map(disk).collect())
}

/// Disks of a machine, with the SHA-256 that each had before it ran.
#[derive(Default)]
pub struct Before(Vec<(PathBuf, String)>);

impl Before {
    pub fn note(&mut self, disk: &Disk) -> Result<()> {
        if let Backing::Raw(path) = &disk.backing {
            self.0.push((path.clone(), digest(path)?));
        }
        Ok(())
    }

    /// A promise for each disk; to be held once the machine is off.
    pub fn unchanged(&self, bench: &Bench) {
        for (path, before) in &self.0 {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            bench.check(&format!("every byte of {name} is what it was"), || {
                let after = digest(path)?;
                ensure!(*before == after, "keep SHA-256 {before}: {after}");
                Ok(())
            });
        }
    }
}

pub fn mend(bench: &Bench) -> Result<()> {
    let (disks, damaged) = (set(bench, "hetzner", Bus::Ahci)?, set(bench, "damaged-ext4", Bus::VirtioBlk)?);
    let mut vm = bench.machine()?.disks(disks).disks(damaged).reboots().start(bench)?;
    let ssh = vm.login()?;
    vm.settled_after(0)?;
    bench.check("fdisk -l shows both disks and their partitions", || {
        let list = ssh.ok("fdisk -l")?;
        holds(
            &list,
            &[
                "Disk /dev/sda: 512 MiB",
                "Disklabel type: gpt",
                "/dev/sda3",
                "/dev/sdb4",
                "BIOS boot",
                "Linux RAID",
            ],
        )
    });
    bench.check("rescue assemble --rw starts the three arrays", || {
        ssh.ok("rescue assemble --rw")?;
        let mdstat = ssh.ok("cat /proc/mdstat")?;
        holds(&mdstat, &["md0 : active raid1", "md1 : active raid1", "md2 : active raid1", "[2/2] [UU]"])
    });
    bench.check("fsck -y finds the root sound", || {
        let answer = ssh.run("fsck -y /dev/md2")?;
        ensure!(answer.status == 0, "see status 0: {answer:?}");
        Ok(())
    });
    bench.check("mount, edit and umount work on the root", || {
        ssh.ok("mount /dev/md2 /mnt")?;
        holds(&ssh.ok("cat /mnt/etc/os-release")?, &["trixie"])?;
        ssh.ok("sed -i 's/^UUID=33333333-0001.*/# mended &/' /mnt/etc/fstab && umount /mnt").map(drop)
    });
    bench.check("fsck -y mends a damaged ext4, and says so by its status", || {
        let first = ssh.run("fsck -y /dev/vda1")?;
        ensure!(first.status == 1, "see status 1, errors corrected: {first:?}");
        let second = ssh.run("fsck -f -y /dev/vda1")?;
        ensure!(second.status == 0, "see status 0: {second:?}");
        holds(&ssh.ok("mount -o ro /dev/vda1 /mnt && cat /mnt/etc/fstab && umount /mnt")?, &["bbbbbbbb-0001"])
    });
    bench.check("fsck refuses a member of an array", || {
        let answer = ssh.run("fsck -y /dev/sda3")?;
        ensure!(answer.status >= 8, "be refused: {answer:?}");
        Ok(())
    });
    bench.check("fsck refuses a mounted device", || {
        ssh.ok("mount /dev/md1 /mnt")?;
        let answer = ssh.run("fsck -y /dev/md1")?;
        ssh.ok("umount /mnt")?;
        ensure!(answer.status >= 8, "be refused: {answer:?}");
        Ok(())
    });
    let (events, console) = (vm.events.mark(), vm.console.mark());
    ssh.run("reboot")?;
    let ssh = vm.login_after(events, console)?;
    vm.settled_after(events)?;
    bench.check("the next boot sees the edit", || {
        ssh.ok("rescue assemble")?;
        ssh.ok("mount -o ro /dev/md2 /mnt")?;
        holds(&ssh.ok("cat /mnt/etc/fstab")?, &["# mended UUID=33333333-0001"])?;
        ssh.ok("umount /mnt").map(drop)
    });
    bench.check("the real mdadm finds the arrays clean", || {
        for member in ["sda1", "sda2", "sda3", "sdb1", "sdb2", "sdb3"] {
            let text = ssh.ok(&format!("mdadm --examine /dev/{member}"))?;
            holds(&text, &["State : clean", "Array State : AA"])?;
        }
        Ok(())
    });
    bench.check("poweroff ends the machine", || {
        ssh.run("poweroff")?;
        vm.wait_off()
    });
    Ok(())
}

/// Set, bus, and what is mounted read-only of it in the end.
const LOOKED_AT: &[(&str, Bus, &[&str])] = &[
    ("hetzner-broken", Bus::Ahci, &["md2"]),
    ("mixed", Bus::VirtioBlk, &["vda1", "vda2", "vda3", "vda4", "vda5"]),
    ("dirty", Bus::Nvme, &["nvme0n1p1", "nvme0n1p2"]),
    ("ovh-mbr", Bus::Usb, &["disk/by-uuid/66666666-0001-4000-8000-000000000000"]),
];

pub fn unchanged(bench: &Bench) -> Result<()> {
    let mut machine = bench.machine()?.memory(1024);
    let mut before = Before::default();
    for (name, bus, _) in LOOKED_AT {
        for disk in set(bench, name, *bus)? {
            before.note(&disk)?;
            machine = machine.disk(disk);
        }
    }
    let mut vm = machine.start(bench)?;
    let ssh = vm.login()?;
    vm.settled_after(0)?;
    bench.check("listing works with every disk guarded", || {
        holds(&ssh.ok("lsblk")?, &["sda", "sdb", "vda3", "nvme0n1p2"])?;
        // What is in the arrays is seen once they run.
        let members = "22222222-0000-0000-0000-000000000002";
        holds(&ssh.ok("blkid")?, &[members, "TYPE=\"xfs\"", "TYPE=\"ntfs\"", "LABEL=\"pool\""])?;
        holds(&ssh.ok("fdisk -l")?, &["/dev/nvme0n1p2", "Disklabel type: dos"])?;
        let guarded =
            ssh.ok("cat /sys/class/block/sda/ro /sys/class/block/vda3/ro /sys/class/block/nvme0n1/ro")?;
        ensure!(guarded.split_whitespace().all(|flag| flag == "1"), "see every flag set: {guarded}");
        Ok(())
    });
    bench.check("rescue status shows the whole picture", || {
        let text = ssh.run("rescue status")?;
        ensure!(text.status != 2, "see no trouble: {text:?}");
        Ok(())
    });
    bench.check("rescue assemble is read-only and leaves the stale member out", || {
        ssh.run("rescue assemble")?;
        let mdstat = ssh.ok("cat /proc/mdstat")?;
        holds(&mdstat, &["md0 : active (read-only)", "md2 : active (read-only)", "[2/1]"])?;
        holds(&ssh.ok("blkid /dev/md2")?, &["33333333-0002"])
    });
    for (name, _, targets) in LOOKED_AT {
        for target in *targets {
            bench.check(&format!("{target} of {name} is mounted read-only"), || {
                ssh.ok(&format!("mount -o ro /dev/{target} /mnt && ls -R /mnt > /dev/null && umount /mnt"))
                    .map(drop)
            });
        }
    }
    bench.check("a dirty journal that is not replayed is said so", || {
        for part in ["nvme0n1p1", "nvme0n1p2"] {
            let answer = ssh.run(&format!("mount -o ro /dev/{part} /mnt && umount /mnt"))?;
            holds(&(answer.stdout + &answer.stderr), &["last changes"])?;
        }
        Ok(())
    });
    bench.check("the newer half of a split mirror is what is seen", || {
        holds(
            &ssh.ok("mount -o ro /dev/md2 /mnt && cat /mnt/etc/fresh && umount /mnt")?,
            &["second disk was lost"],
        )
    });
    bench.check("a write to a guarded disk is refused by the kernel", || {
        let answer = ssh.run("dd if=/dev/zero of=/dev/vda bs=512 count=1 conv=fsync")?;
        ensure!(answer.status != 0, "be refused: {answer:?}");
        Ok(())
    });
    bench.check("poweroff ends the machine", || {
        ssh.run("poweroff")?;
        vm.wait_off()
    });
    before.unchanged(bench);
    Ok(())
}

pub fn consent(bench: &Bench) -> Result<()> {
    let vm = bench.machine()?.disks(set(bench, "ovh-mbr", Bus::VirtioScsi)?).start(bench)?;
    let ssh = vm.login()?;
    vm.settled_after(0)?;
    // Disk, its first and its fifth partition: 1 is read-only.
    let flags = || ssh.ok("cat /sys/class/block/sda/ro /sys/class/block/sda1/ro /sys/class/block/sda5/ro");
    let are = |want: &str| -> Result<()> {
        let got = flags()?.split_whitespace().collect::<String>();
        ensure!(got == want, "see the flags {want}: {got}");
        Ok(())
    };
    bench.check("everything is guarded at first", || are("111"));
    bench.check("rescue writable opens one partition and its disk's own flag", || {
        ssh.ok("rescue writable /dev/sda1")?;
        are("001")?;
        let refused = ssh.run("dd if=/dev/zero of=/dev/sda5 bs=512 count=1 conv=fsync")?;
        ensure!(refused.status != 0, "be refused on the other partition: {refused:?}");
        Ok(())
    });
    bench.check("a restarted devd keeps to it", || {
        let mark = vm.events.mark();
        ssh.ok("kill -9 $(pidof devd)")?;
        vm.events.ready("devd", mark, qemu::SOON)?;
        are("001")
    });
    bench.check("rescue protect takes it back", || {
        ssh.ok("rescue protect /dev/sda1")?;
        are("111")
    });
    bench.check("mount for writing opens what it needs, and says so in one line", || {
        let answer = ssh.run("mount /dev/sda1 /mnt && touch /mnt/etc/touched && umount /mnt")?;
        ensure!(answer.status == 0, "write: {answer:?}");
        holds(&(answer.stdout + &answer.stderr), &["writable", "/dev/sda1"])?;
        are("001")
    });
    Ok(())
}

pub fn unguarded(bench: &Bench) -> Result<()> {
    let disks = set(bench, "ovh-mbr", Bus::VirtioScsi)?;
    let more = set(bench, "lvm", Bus::VirtioBlk)?.into_iter().chain(set(bench, "dirty-pool", Bus::Nvme)?);
    let vm = bench.machine()?.disks(disks).disks(more).append("rescue.writable").start(bench)?;
    let ssh = vm.login()?;
    vm.settled_after(0)?;
    bench.check("rescue.writable turns the guard off, and status says so", || {
        holds(&ssh.run("rescue status")?.stdout, &["writable"])?;
        ssh.ok("dd if=/dev/sda of=/dev/sda bs=512 count=1 conv=fsync").map(drop)
    });
    bench.check("what is written to is saved first all the same, whoever writes to it", || {
        for (command, devices) in [
            // Its command names the group alone.
            ("rescue assemble --rw vg", &["(/dev/vda, /dev/vda1)"][..]),
            // Which of two NVMe disks the kernel numbers first is luck.
            ("mount LABEL=pool /mnt && umount /mnt", &["/dev/nvme0n1", "/dev/nvme1n1"]),
            ("echo q | fdisk /dev/sda", &["(/dev/sda, "]),
            ("rescue undo --save /dev/nvme0n1", &["(/dev/nvme0n1)"]),
        ] {
            let answer = ssh.run(command)?;
            ensure!(answer.status == 0, "{command}: {answer:?}");
            holds(&answer.stderr, &["as it was before: /run/lifeboat/undo/"])?;
            holds(&answer.stderr, devices)?;
        }
        holds(&ssh.ok("rescue undo")?, &["rescue assemble --rw vg", "fdisk /dev/sda"])
    });
    Ok(())
}
