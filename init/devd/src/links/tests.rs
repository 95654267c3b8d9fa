use super::*;
use contract::facts::{Dm, Hardware, Md, Partition};
use ondisk::table::{Entry, Table, TableKind};
use ondisk::{Extent, Signature};
use std::fs;
use std::os::unix::fs::symlink;

const MIB: u64 = 1 << 20;

/// A tree of sysfs: `file PATH CONTENT`, `link PATH TARGET`, `dev PATH SUBSYSTEM DEVTYPE` for a device.
fn machine(lines: &str) -> (tempfile::TempDir, Root) {
    let directory = tempfile::tempdir().unwrap();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut words = line.splitn(3, ' ');
        let (kind, path) = (words.next().unwrap(), words.next().unwrap());
        let rest = words.next().unwrap_or_default();
        let whole = directory.path().join("sys").join(path);
        fs::create_dir_all(whole.parent().unwrap()).unwrap();
        match kind {
            "file" => fs::write(whole, format!("{rest}\n")).unwrap(),
            "link" => symlink(rest, whole).unwrap(),
            _ => {
                let (subsystem, devtype) = rest.split_once(' ').unwrap_or((rest, ""));
                let device = directory.path().join("sys/devices").join(path);
                fs::create_dir_all(&device).unwrap();
                fs::write(device.join("uevent"), format!("DEVTYPE={devtype}\n")).unwrap();
                if !subsystem.is_empty() {
                    symlink(format!("/sys/bus/{subsystem}"), device.join("subsystem")).unwrap();
                }
            }
        }
    }
    let root = Root::at(directory.path()).unwrap();
    (directory, root)
}

const SATA: &str = "pci0000:00/0000:00:1f.2/ata3/host2/target2:0:0/2:0:0:0/block/sda";
const SATA_TREE: &str = "
    dev pci0000:00
    dev pci0000:00/0000:00:1f.2 pci
    dev pci0000:00/0000:00:1f.2/ata3
    dev pci0000:00/0000:00:1f.2/ata3/host2 scsi scsi_host
    dev pci0000:00/0000:00:1f.2/ata3/host2/target2:0:0 scsi scsi_target
    dev pci0000:00/0000:00:1f.2/ata3/host2/target2:0:0/2:0:0:0 scsi scsi_device
    dev pci0000:00/0000:00:1f.2/ata3/host2/target2:0:0/2:0:0:0/block/sda block disk
    file devices/pci0000:00/0000:00:1f.2/ata3/host2/target2:0:0/2:0:0:0/vendor ATA
    file devices/pci0000:00/0000:00:1f.2/ata3/host2/target2:0:0/2:0:0:0/model QEMU HARDDISK
    file devices/pci0000:00/0000:00:1f.2/ata3/host2/target2:0:0/2:0:0:0/type 0
    file class/ata_port/ata3/port_no 3
";

fn disk(name: &str, path: &str, seq: u64) -> Block {
    let hardware = Hardware { path: Some(path.to_string()), ..Hardware::default() };
    Block {
        name: name.to_string(),
        major: 8,
        diskseq: Some(seq),
        size: 100 * MIB,
        hardware,
        ..Block::default()
    }
}

fn partition(disk: &Block, number: u32, start: u64) -> Block {
    let path = format!("{}/{}{number}", disk.hardware.path.as_deref().unwrap(), disk.name);
    Block {
        name: format!("{}{number}", disk.name),
        partition: Some(Partition { disk: disk.name.clone(), number, start }),
        size: 10 * MIB,
        hardware: Hardware { path: Some(path), ..Hardware::default() },
        ..disk.clone()
    }
}

fn signature(format: &str, usage: Usage, uuid: &str, label: &str) -> Signature {
    Signature {
        uuid: Some(uuid.to_string()),
        label: Some(label.to_string()).filter(|label| !label.is_empty()),
        health: Health::Sound,
        ..Signature::new(format, usage, 0)
    }
}

fn holding(signatures: Vec<Signature>) -> DiskReport {
    DiskReport { signatures, ..DiskReport::default() }
}

fn reports(all: Vec<(&str, DiskReport)>) -> Reports {
    all.into_iter().map(|(name, report)| (name.to_string(), report)).collect()
}

fn facts(blocks: Vec<Block>) -> Facts {
    Facts { blocks, ..Facts::default() }
}

fn links_to<'a>(plan: &'a Plan, device: &str) -> Vec<&'a str> {
    plan.links.iter().filter(|(_, target)| *target == device).map(|(link, _)| link.as_str()).collect()
}

#[test]
fn a_sata_disk_and_its_partition_have_the_names_that_udev_gives() {
    let (_dir, root) = machine(SATA_TREE);
    let page = super::identity::tests::page89("QM00005", "QEMU HARDDISK", 0x5000_c500_a1b2_c3d4);
    let device = _dir.path().join("sys/devices").join(SATA).join("../../vpd_pg89");
    fs::write(device, page).unwrap();
    let sda = disk("sda", SATA, 9);
    let sda1 = partition(&sda, 1, MIB);
    let extent = Extent { start: MIB, length: 10 * MIB };
    let entry = Entry {
        uuid: Some("0a1b2c3d-0000-4000-8000-000000000001".to_string()),
        name: Some("my root/disk".to_string()),
        ..Entry::new(1, extent, "0FC63DAF-8483-4772-8E79-3D69D8477DE4".to_string())
    };
    let table = Table::new(TableKind::Gpt, 512, vec![entry]);
    let ext4 = signature("ext4", Usage::Filesystem, "6666-77", "my root");
    let found = reports(vec![
        ("sda", DiskReport { table: Some(table), ..DiskReport::default() }),
        ("sda1", holding(vec![ext4])),
    ]);
    let plan = plan(&root, &facts(vec![sda, sda1]), &found);
    assert_eq!(
        links_to(&plan, "sda"),
        [
            "by-diskseq/9",
            "by-id/ata-QEMU_HARDDISK_QM00005",
            "by-id/wwn-0x5000c500a1b2c3d4",
            "by-path/pci-0000:00:1f.2-ata-3",
            "by-path/pci-0000:00:1f.2-ata-3.0",
        ]
    );
    assert_eq!(
        links_to(&plan, "sda1"),
        [
            "by-diskseq/9-part1",
            "by-id/ata-QEMU_HARDDISK_QM00005-part1",
            "by-id/wwn-0x5000c500a1b2c3d4-part1",
            "by-label/my\\x20root",
            "by-partlabel/my\\x20root\\x2fdisk",
            "by-partuuid/0a1b2c3d-0000-4000-8000-000000000001",
            "by-path/pci-0000:00:1f.2-ata-3-part1",
            "by-path/pci-0000:00:1f.2-ata-3.0-part1",
            "by-uuid/6666-77",
        ]
    );
}

#[test]
fn other_buses_have_their_names_too() {
    let (_dir, root) = machine(
        "
        dev pci0000:00/0000:00:05.0 pci
        dev pci0000:00/0000:00:05.0/virtio2 virtio
        dev pci0000:00/0000:00:05.0/virtio2/block/vda block disk
        dev pci0000:00/0000:00:04.0 pci
        dev pci0000:00/0000:00:04.0/nvme/nvme0 nvme
        dev pci0000:00/0000:00:04.0/nvme/nvme0/nvme0n1 block disk
        file devices/pci0000:00/0000:00:04.0/nvme/nvme0/nvme0n1/nsid 1
        dev virtual/nvme-subsystem/nvme-subsys1 nvme-subsystem
        dev virtual/nvme-subsystem/nvme-subsys1/nvme1n2 block disk
        file devices/virtual/nvme-subsystem/nvme-subsys1/nvme1n2/nsid 2
        dev pci0000:00/0000:00:07.0 pci
        dev pci0000:00/0000:00:07.0/nvme/nvme1 nvme
        link class/nvme/nvme1 ../../devices/pci0000:00/0000:00:07.0/nvme/nvme1
        dev pci0000:00/0000:00:14.0 pci
        dev pci0000:00/0000:00:14.0/usb1 usb usb_device
        dev pci0000:00/0000:00:14.0/usb1/1-2 usb usb_device
        file devices/pci0000:00/0000:00:14.0/usb1/1-2/serial STICK-0
        dev pci0000:00/0000:00:14.0/usb1/1-2/1-2:1.0 usb usb_interface
        file devices/pci0000:00/0000:00:14.0/usb1/1-2/1-2:1.0/bInterfaceClass 08
        file devices/pci0000:00/0000:00:14.0/usb1/1-2/1-2:1.0/bInterfaceSubClass 06
        dev pci0000:00/0000:00:14.0/usb1/1-2/1-2:1.0/host6 scsi scsi_host
        dev pci0000:00/0000:00:14.0/usb1/1-2/1-2:1.0/host6/target6:0:0 scsi scsi_target
        dev pci0000:00/0000:00:14.0/usb1/1-2/1-2:1.0/host6/target6:0:0/6:0:0:0 scsi scsi_device
        file devices/pci0000:00/0000:00:14.0/usb1/1-2/1-2:1.0/host6/target6:0:0/6:0:0:0/vendor QEMU
        file devices/pci0000:00/0000:00:14.0/usb1/1-2/1-2:1.0/host6/target6:0:0/6:0:0:0/model QEMU HARDDISK
        file devices/pci0000:00/0000:00:14.0/usb1/1-2/1-2:1.0/host6/target6:0:0/6:0:0:0/type 0
        dev pci0000:00/0000:00:14.0/usb1/1-2/1-2:1.0/host6/target6:0:0/6:0:0:0/block/sdb block disk
        ",
    );
    let mut vda = disk("vda", "pci0000:00/0000:00:05.0/virtio2/block/vda", 1);
    vda.hardware.serial = Some("MIXED-0".to_string());
    let mut nvme = disk("nvme0n1", "pci0000:00/0000:00:04.0/nvme/nvme0/nvme0n1", 2);
    nvme.hardware.serial = Some("DIRTY-0             ".to_string());
    nvme.hardware.model = Some("QEMU NVMe Ctrl      ".to_string());
    nvme.hardware.wwid = Some("eui.0025385b11b2c3d4".to_string());
    let multipath = disk("nvme1n2", "virtual/nvme-subsystem/nvme-subsys1/nvme1n2", 3);
    let usb = "pci0000:00/0000:00:14.0/usb1/1-2/1-2:1.0/host6/target6:0:0/6:0:0:0/block/sdb";
    let plan = plan(&root, &facts(vec![vda, nvme, multipath, disk("sdb", usb, 4)]), &Reports::new());
    assert_eq!(
        links_to(&plan, "vda"),
        [
            "by-diskseq/1",
            "by-id/virtio-MIXED-0",
            "by-path/pci-0000:00:05.0",
            "by-path/virtio-pci-0000:00:05.0"
        ]
    );
    assert_eq!(
        links_to(&plan, "nvme0n1"),
        [
            "by-diskseq/2",
            "by-id/nvme-QEMU_NVMe_Ctrl_DIRTY-0",
            "by-id/nvme-QEMU_NVMe_Ctrl_DIRTY-0_1",
            "by-id/nvme-eui.0025385b11b2c3d4",
            "by-path/pci-0000:00:04.0-nvme-1",
        ]
    );
    assert_eq!(links_to(&plan, "nvme1n2"), ["by-diskseq/3", "by-path/pci-0000:00:07.0-nvme-2"]);
    assert_eq!(
        links_to(&plan, "sdb"),
        [
            "by-diskseq/4",
            "by-id/usb-QEMU_QEMU_HARDDISK_STICK-0-0:0",
            "by-path/pci-0000:00:14.0-usb-0:2:1.0-scsi-0:0:0:0",
        ]
    );
}

#[test]
fn a_members_file_system_is_not_named_and_an_array_is() {
    let (_dir, root) = machine("");
    let sda = disk("sda", "a/block/sda", 1);
    let member = partition(&sda, 1, MIB);
    let mut md = disk("md127", "virtual/block/md127", 5);
    md.md = Some(Md { members: vec![("sda1".to_string(), "in_sync".to_string())], ..Md::default() });
    md.slaves = vec!["sda1".to_string()];
    // A superblock at the end leaves the array's file system visible at the member's start.
    let raid = signature("linux_raid_member", Usage::Raid, "array", "host:0");
    let inside = signature("ext4", Usage::Filesystem, "cccc", "root");
    let found =
        reports(vec![("sda1", holding(vec![raid, inside.clone()])), ("md127", holding(vec![inside]))]);
    let plan = plan(&root, &facts(vec![sda, member, md]), &found);
    assert_eq!(links_to(&plan, "md127"), ["by-label/root", "by-uuid/cccc"]);
    assert_eq!(plan.doubled, []);
}

#[test]
fn what_is_ambiguous_or_damaged_is_not_named() {
    let (_dir, root) = machine("");
    let (sda, sdb) = (disk("sda", "a/block/sda", 1), disk("sdb", "b/block/sdb", 2));
    let two =
        vec![signature("ext4", Usage::Filesystem, "one", ""), signature("xfs", Usage::Filesystem, "two", "")];
    let damaged = Signature {
        health: Health::Damaged("checksum".into()),
        ..signature("xfs", Usage::Filesystem, "x", "")
    };
    let found = reports(vec![("sda", holding(two)), ("sdb", holding(vec![damaged]))]);
    let plan = plan(&root, &facts(vec![sda, sdb]), &found);
    assert!(plan.links.keys().all(|link| !link.starts_with("by-uuid")), "{:?}", plan.links);
}

#[test]
fn of_two_copies_the_first_in_the_machine_has_the_name_and_it_is_said() {
    let (_dir, root) = machine("");
    // Found in the other order: names of the kernel do not count.
    let (sda, sdb) = (disk("sda", "pci1/block/sda", 1), disk("sdb", "pci0/block/sdb", 2));
    let same = || holding(vec![signature("ext4", Usage::Filesystem, "same", "boot")]);
    let found = reports(vec![("sda", same()), ("sdb", same())]);
    let plan = plan(&root, &facts(vec![sda, sdb]), &found);
    assert_eq!(plan.links["by-uuid/same"], "sdb");
    let said = warnings(&plan);
    assert_eq!(said.len(), 1, "a label is no warning: {said:?}");
    assert!(said[0].starts_with("/dev/sdb and /dev/sda have the same UUID"), "{said:?}");
}

#[test]
fn of_many_copies_a_few_are_named_and_the_rest_is_counted() {
    let (_dir, root) = machine("");
    let disk = disk("sda", "pci0/block/sda", 1);
    let parts: Vec<Block> = (1..=9).map(|number| partition(&disk, number, number.into())).collect();
    let same = || holding(vec![signature("ext4", Usage::Filesystem, "same", "")]);
    let found = reports(parts.iter().map(|part| (part.name.as_str(), same())).collect());
    let said = warnings(&plan(&root, &facts([vec![disk], parts].concat()), &found));
    assert_eq!(said.len(), 1, "{said:?}");
    let want = "/dev/sda1 and /dev/sda2, /dev/sda3, /dev/sda4, /dev/sda5 and 4 others have the same UUID: ";
    assert!(said[0].starts_with(want), "{said:?}");
}

#[test]
fn an_iso_on_a_stick_is_no_copy_of_itself() {
    let (_dir, root) = machine("");
    let sda = disk("sda", "pci0/block/sda", 1);
    let (sda1, sda2) = (partition(&sda, 1, 0), partition(&sda, 2, 20 * MIB));
    let iso = || holding(vec![signature("iso9660", Usage::Filesystem, "2000-01-01-00-00-00-00", "LIFEBOAT")]);
    let found = reports(vec![("sda", iso()), ("sda1", iso())]);
    assert_eq!(plan(&root, &facts(vec![sda.clone(), sda1.clone()]), &found).doubled, []);
    // Two partitions of one disk are.
    let found = reports(vec![("sda1", iso()), ("sda2", iso())]);
    assert_eq!(warnings(&plan(&root, &facts(vec![sda, sda1, sda2]), &found)).len(), 1);
}

#[test]
fn an_overlay_has_the_name_of_what_it_stands_on_and_nobody_complains() {
    let (_dir, root) = machine("");
    let sda = disk("sda", "a/block/sda", 1);
    let mut over = disk("dm-0", "virtual/block/dm-0", 2);
    over.slaves = vec!["sda".to_string()];
    // As libdevmapper names what a person called "over lay".
    over.dm = Some(Dm { name: "over\\x20lay".to_string(), ..Dm::default() });
    let same = || holding(vec![signature("xfs", Usage::Filesystem, "same", "")]);
    let found = reports(vec![("sda", same()), ("dm-0", same())]);
    let plan = plan(&root, &facts(vec![sda, over]), &found);
    assert_eq!(plan.links["by-uuid/same"], "dm-0");
    assert_eq!(plan.links["by-id/dm-name-over\\x20lay"], "dm-0");
    assert_eq!(plan.doubled, []);
}

#[test]
fn members_of_one_btrfs_share_its_uuid_by_right() {
    let (_dir, root) = machine("");
    let member = |sub: &str| {
        let one = signature("btrfs", Usage::Filesystem, "pool", "");
        holding(vec![Signature { member_uuid: Some(sub.to_string()), ..one }])
    };
    let disks = vec![disk("sda", "a/block/sda", 1), disk("sdb", "b/block/sdb", 2)];
    let found = reports(vec![("sda", member("s1")), ("sdb", member("s2"))]);
    assert_eq!(plan(&root, &facts(disks.clone()), &found).doubled, []);
    let copied = reports(vec![("sda", member("s1")), ("sdb", member("s1"))]);
    assert_eq!(plan(&root, &facts(disks), &copied).doubled.len(), 1);
}

#[test]
fn names_that_lead_elsewhere_are_not_made() {
    let (_dir, root) = machine("");
    for hostile in ["..", ".", &"x".repeat(300)] {
        let found = reports(vec![("sda", holding(vec![signature("xfs", Usage::Filesystem, "u", hostile)]))]);
        let plan = plan(&root, &facts(vec![disk("sda", "a/block/sda", 1)]), &found);
        assert!(plan.links.keys().all(|link| !link.starts_with("by-label")), "{:?}", plan.links);
    }
}

fn tree(base: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for directory in fs::read_dir(base).into_iter().flatten().flatten() {
        for entry in fs::read_dir(directory.path()).unwrap().flatten() {
            let target = fs::read_link(entry.path()).unwrap();
            let name = entry.path().strip_prefix(base).unwrap().display().to_string();
            all.push(format!("{name} {}", target.display()));
        }
    }
    all.sort();
    all
}

#[test]
fn links_come_move_and_go_with_their_device() {
    let directory = tempfile::tempdir().unwrap();
    let links = |all: &[(&str, &str)]| -> BTreeMap<String, String> {
        all.iter().map(|(link, device)| (link.to_string(), device.to_string())).collect()
    };
    let none = BTreeSet::new();
    let base = directory.path();
    apply(&links(&[("by-uuid/a", "sda1"), ("by-path/p", "cciss!c0d0")]), &none, base);
    assert_eq!(tree(base), ["by-path/p ../../cciss/c0d0", "by-uuid/a ../../sda1"]);
    apply(&links(&[("by-uuid/a", "sdb1")]), &none, base);
    assert_eq!(tree(base), ["by-uuid/a ../../sdb1"]);
    // A devd that was restarted has not read the device yet.
    apply(&links(&[]), &BTreeSet::from(["sdb1".to_string()]), base);
    assert_eq!(tree(base), ["by-uuid/a ../../sdb1"]);
    apply(&links(&[]), &none, base);
    assert_eq!(tree(base), [""; 0]);
}

#[test]
fn mapped_devices_have_their_name_and_nodes_of_others_stay() {
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path();
    fs::write(base.join("control"), "").unwrap();
    fs::write(base.join("theirs"), "a node").unwrap();
    symlink("../dm-7", base.join("gone")).unwrap();
    let mapped = |name: &str, label: &str| {
        let dm = Some(Dm { name: label.to_string(), ..Dm::default() });
        Block { dm, ..disk(name, "virtual/block/dm-0", 1) }
    };
    let now = || facts(vec![mapped("dm-0", "vg-root"), mapped("dm-1", "theirs")]);
    map(&now(), now, base);
    assert_eq!(fs::read_link(base.join("vg-root")).unwrap(), Path::new("../dm-0"));
    assert!(!base.join("theirs").symlink_metadata().unwrap().is_symlink());
    assert!(base.join("gone").symlink_metadata().is_err());
    assert!(base.join("control").exists());
    // An overlay that was made and linked since the facts were read.
    symlink("../dm-2", base.join("over-sda1")).unwrap();
    let later = || facts(vec![mapped("dm-0", "vg-root"), mapped("dm-2", "over-sda1")]);
    map(&now(), later, base);
    assert_eq!(fs::read_link(base.join("over-sda1")).unwrap(), Path::new("../dm-2"));
    map(&now(), now, base);
    assert!(base.join("over-sda1").symlink_metadata().is_err());
}
