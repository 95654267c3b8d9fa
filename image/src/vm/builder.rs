//! The machine that makes the fixtures: Debian's stock kernel, the real mdadm, mkfs and sgdisk from
//! the image's package tree, a shell script, and disks. Nothing of Lifeboat is in it, and nothing of it
//! touches the host: no loop device, no md, no mount.

use super::appliance::{Appliance, Recipe};
use super::disks::{Bus, Disk};
use super::lab::Lab;
use super::machine::Machine;
use super::qemu::{BOOT, SOON};
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// Programs of the tree, with what each is there for.
const PROGRAMS: &[(&str, &str)] = &[
    ("usr/bin/btrfs", "where btrfs has put a file"),
    ("usr/bin/btrfs-map-logical", "the same on the disk"),
    ("usr/bin/busybox", "the shell and the everyday commands"),
    ("usr/bin/kmod", "modprobe, also for what the kernel asks for"),
    ("usr/bin/ntfs-3g", "writing into ntfs"),
    ("usr/sbin/cryptsetup", "LUKS"),
    ("usr/sbin/debugfs", "damaging ext4 in a known way"),
    ("usr/sbin/dmsetup", "LVM and LUKS, when something goes wrong"),
    ("usr/sbin/fdisk", "BSD's map within an MBR"),
    ("usr/sbin/integritysetup", "dm-integrity"),
    ("usr/sbin/lvm", "LVM"),
    ("usr/sbin/mdadm", "arrays"),
    ("usr/sbin/mdmon", "arrays of firmware RAID"),
    ("usr/sbin/mke2fs", "ext4"),
    ("usr/sbin/mkfs.btrfs", "btrfs"),
    ("usr/sbin/mkfs.exfat", "exfat"),
    ("usr/sbin/mkfs.f2fs", "f2fs"),
    ("usr/sbin/mkfs.fat", "the EFI system partition"),
    ("usr/sbin/mkfs.minix", "minix"),
    ("usr/sbin/mkfs.xfs", "xfs"),
    ("usr/sbin/mkntfs", "ntfs"),
    ("usr/sbin/mkswap", "swap"),
    ("usr/sbin/mkudffs", "udf"),
    ("usr/sbin/sfdisk", "MBR"),
    ("usr/sbin/sgdisk", "GPT"),
    ("usr/sbin/veritysetup", "dm-verity"),
    ("usr/sbin/xfs_db", "damaging xfs in a known way"),
];

/// Programs that are not in the image, from the tree of the build's own tools. Their libraries are in the image.
const TOOLS: &[(&str, &str)] = &[
    ("usr/bin/mkfs.erofs", "erofs"),
    ("usr/bin/mksquashfs", "squashfs"),
    ("usr/bin/vdoformat", "VDO; lvcreate runs it"),
    ("usr/bin/xorriso", "ISO sticks"),
    ("usr/sbin/drbdmeta", "DRBD"),
    ("usr/sbin/make-bcache", "bcache"),
    ("usr/sbin/mkfs.jfs", "jfs"),
    ("usr/sbin/mkfs.nilfs2", "nilfs2"),
    ("usr/sbin/mkreiserfs", "reiserfs"),
];

/// Other names of those programs.
const LINKS: &[(&str, &str)] = &[
    ("usr/sbin/modprobe", "../bin/kmod"),
    ("usr/sbin/mkfs.ext4", "mke2fs"),
    ("bin", "usr/bin"),
    ("sbin", "usr/sbin"),
    ("lib", "usr/lib"),
    ("lib64", "usr/lib64"),
];

/// Parts of the kernel's module tree; modprobe takes what it needs from there.
const MODULES: &[&str] = &[
    "arch/x86/crypto",
    "crypto",
    "drivers/block/virtio_blk.ko.xz",
    "drivers/cdrom",
    "drivers/md",
    "drivers/scsi/scsi_common.ko.xz",
    "drivers/scsi/scsi_mod.ko.xz",
    "drivers/scsi/sd_mod.ko.xz",
    "drivers/scsi/virtio_scsi.ko.xz",
    "fs/btrfs",
    "fs/exfat",
    "fs/ext4",
    "fs/f2fs",
    "fs/fat",
    "fs/fuse",
    "fs/jbd2",
    "fs/jfs",
    "fs/mbcache.ko.xz",
    "fs/minix",
    "fs/nilfs2",
    "fs/nls",
    "fs/ntfs3",
    "fs/quota",
    "fs/reiserfs",
    "fs/udf",
    "fs/xfs",
    "lib",
];

/// What runs as PID 1. The script comes on a disk of its own, so that one initramfs serves all; the
/// other disks are found by their serial numbers.
const INIT: &str = r#"#!/usr/bin/busybox sh
bb=/usr/bin/busybox
$bb mkdir -p /proc /sys /dev /run /tmp /mnt /bb /var/lib /run/lock /run/lvm
$bb mount -t proc proc /proc
$bb mount -t sysfs sysfs /sys
$bb mount -t devtmpfs dev /dev
$bb --install -s /bb
export PATH=/usr/sbin:/usr/bin:/bb LC_ALL=C
ln -sf /proc/mounts /etc/mtab
/usr/sbin/modprobe -a virtio_blk virtio_scsi sd_mod md_mod raid0 raid1 raid10 raid456 dm_mod dm_crypt ext4 xfs btrfs vfat f2fs ntfs3 fuse
mkdir -p /run/disk /run/mdadm
for disk in /sys/block/vd*; do
    ln -s /dev/${disk##*/} /run/disk/$(cat $disk/serial)
done
# Drives are there a moment after their driver.
for drive in $(cat /proc/cmdline); do
    case $drive in drive=*) until cat /sys/block/sd*/device/vpd_pg80 | grep -q ${drive#*=}; do :; done ;; esac
done
for disk in /sys/block/sd*; do
    [ ! -e $disk ] || ln -s /dev/${disk##*/} /run/disk/$(tail -c +5 $disk/device/vpd_pg80)
done
tr -d '\000' < $(readlink /run/disk/script) > /run/script
sh /run/script
echo "builder: end"
poweroff -f
"#;

pub struct Builder {
    appliance: Appliance,
}

/// One set to be made in a machine.
pub struct Order<'a> {
    pub name: &'a str,
    /// Files that exist in their size; the script finds the nodes as $A, $B, ...
    pub disks: Vec<PathBuf>,
    pub script: &'a str,
    /// The machine is killed where the script ends, with everything still mounted.
    pub killed: bool,
    /// Their serial numbers, where these are to be those of SCSI drives.
    pub drives: Option<Vec<String>>,
    /// Bytes of their sectors.
    pub sector: u32,
}

impl Order<'_> {
    fn serial(&self, number: usize, disk: usize) -> String {
        let drive = self.drives.as_ref().and_then(|drives| drives.get(disk).cloned());
        drive.unwrap_or_else(|| format!("s{number}d{disk}"))
    }
}

impl Builder {
    pub fn new() -> Result<Builder> {
        let recipe = Recipe {
            name: "builder",
            programs: PROGRAMS,
            tools: TOOLS,
            links: LINKS,
            modules: MODULES,
            init: INIT,
            files: &[],
        };
        Ok(Builder { appliance: recipe.make()? })
    }

    /// Changes with the kernel, the programs and the way they are put together.
    pub fn key(&self) -> &str {
        &self.appliance.key
    }

    /// Run the scripts of several sets, one after the other in one machine. One that is killed has
    /// to come alone.
    pub fn make(&self, lab: &Lab, orders: &[Order]) -> Result<()> {
        self.make_within(lab, orders, BOOT)
    }

    /// The same for scripts that take longer: `patience` is for each of them.
    pub fn make_within(&self, lab: &Lab, orders: &[Order], patience: Duration) -> Result<()> {
        let script = lab.path("script.img");
        let mut text: String = orders.iter().enumerate().map(|(number, order)| part(number, order)).collect();
        // Whole sectors, or the end of the script stays outside the disk.
        text.push_str(&"\n".repeat(512 - text.len() % 512));
        fs::write(&script, text).with_context(|| format!("write {}", script.display()))?;

        let drives = orders.iter().filter_map(|order| order.drives.as_ref()).flatten();
        let drives: String = drives.map(|serial| format!(" drive={serial}")).collect();
        let mut machine = Machine::new(self.appliance.boot(&format!("console=ttyS0 quiet panic=-1{drives}")))
            // VDO alone takes half of it.
            .memory(2048)
            .disk(Disk::raw(&script, Bus::VirtioBlk, "script"));
        // A fixed clock, since superblocks hold times.
        machine.clock = "2026-01-01T00:00:00".into();
        for (number, order) in orders.iter().enumerate() {
            for (disk, path) in order.disks.iter().enumerate() {
                let bus = if order.drives.is_some() { Bus::VirtioScsi } else { Bus::VirtioBlk };
                let disk = Disk::raw(path, bus, &order.serial(number, disk));
                machine = machine.disk(disk.logical_block(order.sector));
            }
        }
        let mut vm = machine.start(lab)?;
        for order in orders {
            let name = order.name;
            let answer = vm.console.wait(&format!("{name} made"), 0, patience, |text| {
                ["ok", "kill", "failed"]
                    .into_iter()
                    .find(|end| text.contains(&format!("\nbuilder: {name} {end}\n")))
            })?;
            match answer {
                "ok" => {}
                "kill" => {
                    vm.kill()?;
                    return Ok(());
                }
                _ => bail!("make {name}: its script failed"),
            }
        }
        vm.console.wait_for("builder: end", 0, SOON)?;
        vm.wait_off()
    }
}

/// One set's part of the script: a shell of its own, for `set -e` means nothing inside an `if`.
/// busybox's shell takes its own applets before PATH, and its mkswap knows no UUID; of a directory (/run/lvm) it makes
/// an empty script.
fn part(number: usize, order: &Order) -> String {
    let nodes: String = ('A'..='Z')
        .zip(0..order.disks.len())
        .map(|(letter, disk)| format!("{letter}=$(readlink /run/disk/{})\n", order.serial(number, disk)))
        .collect();
    let (name, body) = (order.name, order.script);
    let end = if order.killed { "kill'; sleep 3600" } else { "ok'" };
    format!(
        "cat > /run/part-{name} <<'END OF PART'\nmkswap() {{ /usr/sbin/mkswap \"$@\"; }}\nset -eux\n{nodes}{body}\nEND OF PART\n\
         if sh /run/part-{name} 2>&1; then echo 'builder: {name} {end}; else echo 'builder: {name} failed'; fi\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::appliance;

    #[test]
    fn programs_and_modules_are_sorted_and_unique() {
        appliance::assert_sorted(PROGRAMS, TOOLS, MODULES);
    }
}
