//! The facts below /sys/class/block, as `contract::facts`: live, or of a captured machine's tree. An attribute
//! that is not there is `None` or zero, never an error; nothing here opens a block device.
//!
//! Attributes are those of Documentation/ABI/stable/sysfs-block and testing/sysfs-block-dm; where a
//! drive's serial number and transport are found follows what lsblk(8) shows.

use crate::root::{Entered, Names};
use crate::sys::block::Limits;
use crate::{Root, proc, workers};
use contract::facts::{Block, Dm, Facts, Hardware, Md, OVERLAY_UUID, Partition};
use contract::paths;
use rustix::fs::FileType;
use std::collections::BTreeMap;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const CLASS: &str = "/sys/class/block";
/// A directory for each mounted btrfs, with a link for each of its devices.
const BTRFS: &str = "/sys/fs/btrfs";
/// The unit of `size` and `start` in sysfs, whatever the drive's sectors are.
const SECTOR: u64 = 512;

/// What is asked of each device beside its name, number, size and place. With a thousand of them the reading of
/// attributes is most of what a listing does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// Read-only, removable, rotational.
    pub flags: bool,
    /// The logical block.
    pub logical: bool,
    /// The other blocks, and alignment.
    pub sizes: bool,
    /// What stands on it.
    pub holders: bool,
    /// What the drive says of itself; its path is always there.
    pub hardware: bool,
    /// The file behind a loop device.
    pub backing: bool,
    /// Beside the devices: what is mounted, and swaps.
    pub mounts: bool,
}

impl Parts {
    pub const ALL: Parts = Parts {
        flags: true,
        logical: true,
        sizes: true,
        holders: true,
        hardware: true,
        backing: true,
        mounts: true,
    };
    pub const NONE: Parts = Parts {
        flags: false,
        logical: false,
        sizes: false,
        holders: false,
        hardware: false,
        backing: false,
        mounts: false,
    };
}

/// What the kernel says of all its block devices, mounts and swaps at this moment.
pub fn facts(root: &Root) -> Facts {
    facts_with(root, Parts::ALL)
}

/// The same without what nobody asked for, which is as if the kernel had not said it.
pub fn facts_with(root: &Root, parts: Parts) -> Facts {
    let mut facts = Facts { hung: hung(root), ..Facts::default() };
    if parts.mounts {
        (facts.mounts, facts.swaps) = (proc::mounts(root), proc::swaps(root));
    }
    let class = root.enter(CLASS).ok();
    let names = match root.list(CLASS) {
        Ok(names) => names,
        Err(error) => {
            facts.problems.push(format!("list {CLASS}: {error}"));
            return facts;
        }
    };
    for name in names.iter().filter_map(|name| name.to_str()) {
        match block(root, class.as_ref(), name, parts) {
            Some(block) => facts.blocks.push(block),
            // A leg of a multipath NVMe namespace has no node of its own, and no number.
            None if root.line(format!("{CLASS}/{name}/hidden")).as_deref() == Some("1") => {}
            // Gone between listing and reading, as a device may be.
            None => facts.problems.push(format!("{name}: no device number in sysfs")),
        }
    }
    inherit(&mut facts.blocks);
    let order: BTreeMap<String, usize> =
        proc::partitions(root).into_iter().enumerate().map(|(place, name)| (name, place)).collect();
    facts.blocks.sort_by_cached_key(|block| position(block, &order));
    facts
}

/// What [`Parts::sizes`] and [`Parts::logical`] are for, of a device that was read without.
pub fn limits(root: &Root, name: &str) -> Limits {
    let directory = root.enter(Path::new(CLASS).join(name)).ok();
    let Some(at) = directory.and_then(|directory| Attributes::of(root, directory)) else {
        return Limits::default();
    };
    Limits {
        logical_block: at.number("queue/logical_block_size").unwrap_or(0),
        physical_block: at.number("queue/physical_block_size").unwrap_or(0),
        minimum_io: at.number("queue/minimum_io_size").unwrap_or(0),
        optimal_io: at.number("queue/optimal_io_size").unwrap_or(0),
        alignment_offset: at.number("alignment_offset").unwrap_or(0),
    }
}

/// What a path names, links followed. Asks the directory that the path is in, never the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    Block {
        major: u32,
        minor: u32,
    },
    File {
        /// Bytes.
        size: u64,
    },
    Other,
}

pub fn node(path: &Path) -> io::Result<Node> {
    let stat = rustix::fs::stat(path)?;
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::BlockDevice => {
            Node::Block { major: rustix::fs::major(stat.st_rdev), minor: rustix::fs::minor(stat.st_rdev) }
        }
        FileType::RegularFile => Node::File { size: u64::try_from(stat.st_size).unwrap_or(0) },
        _ => Node::Other,
    })
}

/// The file behind a loop device that goes away with its last user (mount(8) shows the file instead).
pub fn file_of_passing_loop(root: &Root, name: &str) -> Option<String> {
    let directory = format!("{CLASS}/{name}/loop");
    root.line(format!("{directory}/autoclear")).filter(|flag| flag == "1")?;
    root.line(format!("{directory}/backing_file"))
}

/// Kernel names of all devices of the mounted btrfs that `source` is one of.
pub fn btrfs_devices(root: &Root, blocks: &[Block], source: &str) -> Vec<String> {
    let is = |block: &&Block| {
        let mapped =
            block.dm.as_ref().is_some_and(|dm| source.strip_prefix("/dev/mapper/") == Some(&dm.name));
        block.path() == source || mapped
    };
    let Some(own) = blocks.iter().find(is) else { return Vec::new() };
    let pools = root.list(BTRFS).unwrap_or_default();
    let devices = |pool: &std::ffi::OsString| {
        let names = root.list(Path::new(BTRFS).join(pool).join("devices")).unwrap_or_default();
        names.into_iter().filter_map(|name| name.into_string().ok()).collect::<Vec<_>>()
    };
    pools.iter().map(devices).find(|names| names.contains(&own.name)).unwrap_or_default()
}

/// Disks as /proc/partitions has them, those that it leaves out (no medium) behind them, each
/// followed by its partitions by number.
fn position(block: &Block, order: &BTreeMap<String, usize>) -> (usize, Vec<(u64, String)>, u32) {
    let disk = block.partition.as_ref().map_or(&block.name, |partition| &partition.disk);
    let number = block.partition.as_ref().map_or(0, |partition| partition.number);
    match order.get(disk) {
        Some(place) => (*place, Vec::new(), number),
        None => (usize::MAX, natural(disk), number),
    }
}

/// `sdb` before `sdaa`, `md9` before `md127`: letters by their length first, digits by their value.
pub fn natural(name: &str) -> Vec<(u64, String)> {
    let digits = |c: char| c.is_ascii_digit();
    let mut chunks = Vec::new();
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c| digits(c) != digits(first)).unwrap_or(rest.len());
        let (chunk, tail) = rest.split_at(end);
        chunks.push(
            chunk.parse().map_or_else(|_| (chunk.len() as u64, chunk.to_string()), |n| (n, String::new())),
        );
        rest = tail;
    }
    chunks
}

/// Disks that missed a deadline and still do not answer.
fn hung(root: &Root) -> Vec<(u64, String)> {
    let names = root.list(paths::HUNG).unwrap_or_default();
    let seqs = names.iter().filter_map(|name| name.to_str()?.parse().ok());
    seqs.filter_map(|seq| Some((seq, workers::hung(root, seq)?))).collect()
}

fn block(root: &Root, class: Option<&Entered<'_>>, name: &str, parts: Parts) -> Option<Block> {
    // ../../devices/pci0000:00/.../block/sda/sda1
    let path = class.and_then(|class| class.link(name).ok()).and_then(|link| below_devices(&link));
    let at = Attributes::of(root, class?.enter(name).ok()?)?;
    let Numbers { major, minor, diskseq, partition } = Numbers::of(&at)?;
    let partition = partition.map(|number| Partition {
        disk: path.as_deref().and_then(|path| nth_last(path, 1)).unwrap_or_default(),
        number,
        start: at.number::<u64>("start").unwrap_or(0).saturating_mul(SECTOR),
    });
    let flag = |name: &str| parts.flags && at.flag(name);
    let size = |name: &str| if parts.sizes { at.number(name).unwrap_or(0) } else { 0 };
    Some(Block {
        name: name.to_string(),
        major,
        minor,
        diskseq,
        size: at.number::<u64>("size").unwrap_or(0).saturating_mul(SECTOR),
        read_only: flag("ro"),
        removable: flag("removable"),
        rotational: flag("queue/rotational"),
        logical_block: if parts.logical { at.number("queue/logical_block_size").unwrap_or(0) } else { 0 },
        physical_block: size("queue/physical_block_size"),
        minimum_io: size("queue/minimum_io_size"),
        optimal_io: size("queue/optimal_io_size"),
        alignment_offset: parts.sizes.then(|| at.number("alignment_offset")).flatten().unwrap_or(0),
        // What is hidden has no number.
        hidden: flag("hidden"),
        // What has a driver's device, or a file, behind it stands on no other.
        slaves: if at.has("device") || at.has("loop") { Vec::new() } else { at.names("slaves") },
        holders: if parts.holders { at.names("holders") } else { Vec::new() },
        hardware: if partition.is_some() || !parts.hardware {
            Hardware { transport: transport_by_name(name), path, ..Hardware::default() }
        } else {
            hardware(&at, name, path)
        },
        md: md(&at),
        dm: at.line("dm/name").map(|name| Dm {
            name,
            uuid: at.line("dm/uuid").unwrap_or_default(),
            suspended: at.flag("dm/suspended"),
        }),
        snapshot: snapshot(&at),
        loop_file: parts.backing.then(|| at.line("loop/backing_file")).flatten(),
        partition,
    })
}

/// By what a device is told from others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Numbers {
    major: u32,
    minor: u32,
    diskseq: Option<u64>,
    partition: Option<u32>,
}

impl Numbers {
    /// `None` for what has no number. The kernel says them in one file too, for udev, which spares two thirds of the
    /// calls; a tape is to have the files that others than we ask for.
    fn of(at: &Attributes<'_>) -> Option<Numbers> {
        let event = if at.directory.is_taped() { None } else { at.text("uevent") };
        if let Some(numbers) = event.and_then(|text| Numbers::of_event(&text)) {
            return Some(numbers);
        }
        let dev = at.line("dev")?;
        let (major, minor) = dev.split_once(':')?;
        Some(Numbers {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
            diskseq: at.number("diskseq"),
            partition: at.number("partition"),
        })
    }

    /// `None` where not all of them are in it: DISKSEQ came with Linux 5.15 (block/genhd.c).
    fn of_event(text: &str) -> Option<Numbers> {
        let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        let numbers = Numbers {
            major: value("MAJOR")?.parse().ok()?,
            minor: value("MINOR")?.parse().ok()?,
            diskseq: Some(value("DISKSEQ")?.parse().ok()?),
            partition: value("PARTN").map(str::parse).transpose().ok()?,
        };
        ((value("DEVTYPE")? == "partition") == numbers.partition.is_some()).then_some(numbers)
    }
}

/// What partitions have from their disks.
fn inherit(blocks: &mut [Block]) {
    let of_partitions = blocks.iter().enumerate().filter_map(|(place, block)| {
        let partition = block.partition.as_ref()?;
        Some((partition.disk.clone(), place))
    });
    let mut of_partitions: Vec<(String, usize)> = of_partitions.collect();
    of_partitions.sort_unstable();
    for place in 0..blocks.len() {
        let name = &blocks[place].name;
        let first = of_partitions.partition_point(|(disk, _)| disk < name);
        if blocks[place].partition.is_some() {
            continue;
        }
        let own = of_partitions[first..].iter().take_while(|(disk, _)| *disk == blocks[place].name);
        for at in own.map(|(_, at)| *at).collect::<Vec<_>>() {
            // A disk and a partition are never the same.
            let Ok([disk, partition]) = blocks.get_disjoint_mut([place, at]) else { continue };
            (partition.diskseq, partition.removable) = (disk.diskseq, disk.removable);
            partition.rotational = disk.rotational;
            (partition.logical_block, partition.physical_block) = (disk.logical_block, disk.physical_block);
            (partition.minimum_io, partition.optimal_io) = (disk.minimum_io, disk.optimal_io);
        }
    }
}

fn hardware(at: &Attributes<'_>, name: &str, path: Option<String>) -> Hardware {
    let device = at.link("device");
    let hctl = device.as_deref().and_then(last).filter(|name| is_hctl(name));
    // The unit serial number page of SCSI has it where there is no plain attribute.
    let serial = ["device/serial", "serial"].iter().find_map(|name| at.padded(name));
    Hardware {
        model: at.padded("device/model"),
        vendor: at.padded("device/vendor"),
        serial: serial.or_else(|| vpd_serial(&at.read("device/vpd_pg80")?)),
        wwid: at.line("wwid").or_else(|| at.line("device/wwid")),
        revision: at.line("device/rev").or_else(|| at.line("device/firmware_rev")),
        transport: hctl
            .as_deref()
            .and_then(|hctl| scsi_transport(at, hctl, path.as_deref().unwrap_or_default()))
            .or_else(|| transport_by_name(name)),
        scsi_type: hctl.as_ref().and_then(|_| at.number("device/type")),
        state: at.line("device/state"),
        hctl,
        path,
    }
}

/// The transport of a SCSI device: the class that its host is in, and for libata's hosts the driver's
/// name.
fn scsi_transport(at: &Attributes<'_>, hctl: &str, path: &str) -> Option<String> {
    let host = hctl.split(':').next()?;
    let is = |class: &str| at.root.exists(format!("/sys/class/{class}_host/host{host}"));
    let name = if is("spi") {
        "spi"
    } else if is("fc") {
        let symbolic = at.root.line(format!("/sys/class/fc_host/host{host}/symbolic_name"))?;
        if symbolic.contains(" over ") { "fcoe" } else { "fc" }
    } else if is("sas") || at.exists("device/sas_device") {
        "sas"
    } else if at.exists("device/ieee1394_id") {
        "sbp"
    } else if is("iscsi") {
        "iscsi"
    } else if path.contains("usb") {
        "usb"
    } else {
        let driver = at.root.line(format!("/sys/class/scsi_host/host{host}/proc_name"))?;
        match driver {
            driver if driver.starts_with("ahci") || driver.starts_with("sata") => "sata",
            driver if driver.contains("ata") => "ata",
            _ => return None,
        }
    };
    Some(name.to_string())
}

fn transport_by_name(name: &str) -> Option<String> {
    const PREFIXES: [(&str, &str); 3] = [("mmcblk", "mmc"), ("nvme", "nvme"), ("vd", "virtio")];
    PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix)).map(|(_, name)| (*name).to_string())
}

/// SPC-4, 7.8.14: four bytes of header, the last two its length, then ASCII.
fn vpd_serial(page: &[u8]) -> Option<String> {
    let length = usize::from(u16::from_be_bytes([*page.get(2)?, *page.get(3)?]));
    let body = &page[4..page.len().min(4 + length)];
    let text = crate::text::text(body);
    let serial = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!serial.is_empty()).then(|| serial.to_string())
}

fn md(at: &Attributes<'_>) -> Option<Md> {
    let array_state = at.line("md/array_state")?;
    let member = |name: &String| {
        let state = at.line(format!("md/{name}/state")).unwrap_or_default();
        Some((name.strip_prefix("dev-")?.to_string(), state))
    };
    // `4 (3)` while the number of disks is being changed: the new one first.
    let raid_disks = at.line("md/raid_disks").unwrap_or_default();
    Some(Md {
        level: at.line("md/level").unwrap_or_default(),
        array_state,
        sync_action: at.line("md/sync_action"),
        metadata_version: at.line("md/metadata_version"),
        uuid: at.line("md/uuid"),
        raid_disks: raid_disks.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0),
        degraded: at.number("md/degraded").unwrap_or(0),
        members: at.names("md").iter().filter_map(member).collect(),
    })
}

/// In the place of an attribute that sysfs does not have: what a capture notes of an overlay.
pub(crate) const SNAPSHOT: &str = "dm/snapshot";

/// sysfs does not have it. Only our overlays are asked: they answer from memory.
fn snapshot(at: &Attributes<'_>) -> Option<String> {
    if !at.root.is_live() {
        return at.line(SNAPSHOT);
    }
    let ours = at.line("dm/uuid")?.starts_with(OVERLAY_UUID);
    let targets = ours.then(|| crate::sys::dm::status(&at.line("dm/name")?).ok())??;
    Some(targets.into_iter().next()?.text)
}

/// The attributes below one directory. What is not in it is not asked for: of a few dozen that a device may
/// have, most have few, and to look for one takes as long as to read it.
struct Attributes<'a> {
    root: &'a Root,
    directory: Entered<'a>,
    names: Names,
}

impl<'a> Attributes<'a> {
    fn of(root: &'a Root, directory: Entered<'a>) -> Option<Attributes<'a>> {
        let names = directory.names().ok()?;
        Some(Attributes { root, directory, names })
    }

    fn has(&self, name: &str) -> bool {
        self.may_have(Path::new(name))
    }

    fn may_have(&self, name: &Path) -> bool {
        name.iter().next().is_some_and(|first| self.names.has(first.as_bytes()))
    }

    fn read(&self, name: impl AsRef<Path>) -> Option<Vec<u8>> {
        self.may_have(name.as_ref()).then(|| self.directory.read(name).ok())?
    }

    fn text(&self, name: impl AsRef<Path>) -> Option<String> {
        Some(crate::text::text(&self.read(name)?))
    }

    fn line(&self, name: impl AsRef<Path>) -> Option<String> {
        let mut text = self.text(name)?;
        text.truncate(text.trim_end().len());
        let blank = text.len() - text.trim_start().len();
        drop(text.drain(..blank));
        (!text.is_empty()).then_some(text)
    }

    /// With the blanks that the drive pads its fields with, which fdisk(8) and lsblk(8) print too.
    fn padded(&self, name: &str) -> Option<String> {
        let text = self.text(name)?;
        let line = text.trim_end_matches('\n');
        (!line.trim().is_empty()).then(|| line.to_string())
    }

    fn link(&self, name: &str) -> Option<PathBuf> {
        self.may_have(Path::new(name)).then(|| self.directory.link(name).ok())?
    }

    fn exists(&self, name: &str) -> bool {
        self.may_have(Path::new(name)) && self.root.exists(self.directory.path().join(name))
    }

    fn number<T: std::str::FromStr>(&self, name: impl AsRef<Path>) -> Option<T> {
        std::str::from_utf8(&self.read(name)?).ok()?.trim().parse().ok()
    }

    fn flag(&self, name: &str) -> bool {
        self.number::<u32>(name).is_some_and(|n| n != 0)
    }

    fn names(&self, directory: &str) -> Vec<String> {
        if !self.may_have(Path::new(directory)) {
            return Vec::new();
        }
        let names = self.directory.list(directory).unwrap_or_default();
        names.into_iter().filter_map(|name| name.into_string().ok()).collect()
    }
}

/// What follows `devices/` in the target of a link of /sys/class/block.
fn below_devices(link: &Path) -> Option<String> {
    let text = link.to_str()?;
    Some(text.split_once("devices/")?.1.to_string())
}

fn last(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_str()?.to_string())
}

fn nth_last(path: &str, n: usize) -> Option<String> {
    path.rsplit('/').nth(n).map(str::to_string)
}

/// `2:0:0:0`
fn is_hctl(name: &str) -> bool {
    let parts: Vec<&str> = name.split(':').collect();
    parts.len() == 4 && parts.iter().all(|part| !part.is_empty() && part.bytes().all(|c| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    /// A tree with one block device, its attributes and the link in /sys/class/block.
    fn device(root: &Path, path: &str, attributes: &[(&str, &str)]) {
        let directory = root.join("sys/devices").join(path);
        let name = path.rsplit('/').next().unwrap();
        for (attribute, value) in attributes {
            let file = directory.join(attribute);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, format!("{value}\n")).unwrap();
        }
        let class = root.join("sys/class/block");
        fs::create_dir_all(&class).unwrap();
        symlink(format!("../../devices/{path}"), class.join(name)).unwrap();
    }

    fn sata_machine(root: &Path) {
        let disk = "pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0/block/sda";
        device(
            root,
            disk,
            &[
                ("dev", "8:0"),
                ("size", "2048000"),
                ("ro", "1"),
                ("removable", "0"),
                ("diskseq", "9"),
                ("queue/rotational", "1"),
                ("queue/logical_block_size", "512"),
                ("queue/physical_block_size", "4096"),
            ],
        );
        device(
            root,
            &format!("{disk}/sda1"),
            &[("dev", "8:1"), ("size", "8"), ("start", "2048"), ("partition", "1")],
        );
        let scsi = root.join("sys/devices").join(disk).parent().unwrap().parent().unwrap().to_path_buf();
        for (name, value) in
            [("model", "QEMU HARDDISK   "), ("vendor", "ATA     "), ("rev", "2.5+"), ("type", "0")]
        {
            fs::write(scsi.join(name), value).unwrap();
        }
        fs::write(scsi.join("vpd_pg80"), b"\x00\x80\x00\x08 QM00001").unwrap();
        symlink("../../../0:0:0:0", root.join("sys/devices").join(disk).join("device")).unwrap();
        fs::create_dir_all(root.join("sys/class/scsi_host/host0")).unwrap();
        fs::write(root.join("sys/class/scsi_host/host0/proc_name"), "ahci\n").unwrap();
    }

    #[test]
    fn a_sata_disk_and_its_partition_are_found_with_their_hardware() {
        let dir = tempfile::tempdir().unwrap();
        sata_machine(dir.path());
        let facts = facts(&Root::at(dir.path()).unwrap());
        assert_eq!(facts.problems, [""; 0]);
        let [disk, partition] = &facts.blocks[..] else { panic!("{facts:?}") };
        assert_eq!((disk.size, disk.read_only, disk.physical_block), (2_048_000 * 512, true, 4096));
        let hardware = &disk.hardware;
        assert_eq!(hardware.model.as_deref(), Some("QEMU HARDDISK   "));
        assert_eq!(hardware.serial.as_deref(), Some("QM00001"));
        assert_eq!(hardware.transport.as_deref(), Some("sata"));
        assert_eq!(hardware.hctl.as_deref(), Some("0:0:0:0"));
        assert_eq!(hardware.scsi_type, Some(0));
        let expected = Partition { disk: "sda".to_string(), number: 1, start: 1 << 20 };
        assert_eq!(partition.partition.as_ref(), Some(&expected));
        assert_eq!((partition.diskseq, partition.physical_block), (Some(9), 4096));
    }

    #[test]
    fn numbers_are_the_same_from_one_file_or_from_several() {
        let at = |attributes: &[(&str, &str)], disk: &[(&str, &str)]| {
            let dir = tempfile::tempdir().unwrap();
            device(dir.path(), "virtual/block/loop0", disk);
            device(dir.path(), "virtual/block/loop0/loop0p2", attributes);
            let blocks = facts(&Root::at(dir.path()).unwrap()).blocks;
            blocks
                .iter()
                .map(|one| (one.major, one.minor, one.diskseq, one.partition.clone()))
                .collect::<Vec<_>>()
        };
        let many = at(
            &[("dev", "259:1"), ("partition", "2"), ("start", "8")],
            &[("dev", "7:0"), ("diskseq", "12"), ("size", "8")],
        );
        assert_eq!(many[0], (7, 0, Some(12), None));
        assert_eq!(many[1].3.as_ref().map(|partition| (partition.number, partition.start)), Some((2, 4096)));
        let uevent = |numbers: &str, kind: &str| format!("{numbers}\nDEVNAME=x\nDEVTYPE={kind}\nDISKSEQ=12");
        let (disk, part) = (uevent("MAJOR=7\nMINOR=0", "disk"), uevent("MAJOR=259\nMINOR=1", "partition"));
        let named = format!("{part}\nPARTN=2\nPARTNAME=MAJOR=1");
        assert_eq!(at(&[("uevent", &named), ("start", "8")], &[("uevent", &disk)]), many);
        // Of an older kernel, and torn: what is missing there is asked for by itself.
        let attributes = [("dev", "259:1"), ("partition", "2"), ("start", "8"), ("uevent", &part)];
        let disk = [("dev", "7:0"), ("diskseq", "12"), ("uevent", "MAJOR=7\nMINOR=0\nDEVTYPE=disk")];
        assert_eq!(at(&attributes, &disk), many);
    }

    #[test]
    fn a_running_array_names_its_members_and_their_state() {
        let dir = tempfile::tempdir().unwrap();
        device(
            dir.path(),
            "virtual/block/md127",
            &[
                ("dev", "9:127"),
                ("md/array_state", "clean"),
                ("md/level", "raid1"),
                ("md/raid_disks", "2 (3)"),
                ("md/degraded", "1"),
                ("md/dev-sda1/state", "in_sync"),
                ("md/dev-sdb1/state", "faulty"),
            ],
        );
        let facts = facts(&Root::at(dir.path()).unwrap());
        let md = facts.blocks[0].md.as_ref().unwrap();
        assert_eq!((md.level.as_str(), md.raid_disks, md.degraded), ("raid1", 2, 1));
        let member = |name: &str, state: &str| (name.to_string(), state.to_string());
        assert_eq!(md.members, [member("sda1", "in_sync"), member("sdb1", "faulty")]);
    }

    #[test]
    fn devices_are_in_the_kernels_order_and_else_as_people_count() {
        let dir = tempfile::tempdir().unwrap();
        for (i, name) in ["sdaa", "sdb", "md127", "md9", "sda"].iter().enumerate() {
            device(dir.path(), &format!("virtual/block/{name}"), &[("dev", &format!("8:{i}"))]);
        }
        let names = |root: &Root| facts(root).blocks.into_iter().map(|block| block.name).collect::<Vec<_>>();
        let root = Root::at(dir.path()).unwrap();
        assert_eq!(names(&root), ["md9", "md127", "sda", "sdb", "sdaa"]);
        fs::create_dir_all(dir.path().join("proc")).unwrap();
        let text =
            "major minor  #blocks  name\n\n   8        1       1024 sdb\n   8        4       1024 sda\n";
        fs::write(dir.path().join("proc/partitions"), text).unwrap();
        assert_eq!(names(&root), ["sdb", "sda", "md9", "md127", "sdaa"]);
    }

    #[test]
    fn a_machine_without_sysfs_has_no_devices_and_one_problem() {
        let dir = tempfile::tempdir().unwrap();
        let facts = facts(&Root::at(dir.path()).unwrap());
        assert!(facts.blocks.is_empty());
        assert_eq!(facts.problems.len(), 1);
    }
}
