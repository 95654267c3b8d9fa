//! What a person sees of names, on a captured machine of four disks: two mirrors, both called 0 by their superblocks.

use super::*;
use crate::report::Output;
use crate::tool::Terminal;
use contract::exit;
use host::Root;
use std::fs;
use std::os::unix::fs::symlink;

const FIRST: u8 = 0x11;
const SECOND: u8 = 0x22;
const MIB: u64 = 1 << 20;

/// `struct mdp_superblock_1` of version 1.2, clean, of a mirror of two (linux/raid/md_p.h).
fn superblock(array: u8, number: u8) -> Vec<u8> {
    superblock_in(array, number, false)
}

/// In the middle of a reshape to another chunk size.
fn superblock_in(array: u8, number: u8, reshape: bool) -> Vec<u8> {
    let mut bytes = vec![0; 260];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, &0xa92b_4efc_u32.to_le_bytes());
    put(4, &1_u32.to_le_bytes());
    put(16, &[array; 16]);
    put(32, b"rescue:0");
    put(72, &1_u32.to_le_bytes());
    put(80, &(8 * MIB / 512).to_le_bytes());
    put(92, &2_u32.to_le_bytes());
    put(128, &2048_u64.to_le_bytes());
    put(136, &(8 * MIB / 512).to_le_bytes());
    put(144, &8_u64.to_le_bytes());
    put(160, &u32::from(number).to_le_bytes());
    put(168, &[array + number + 1; 16]);
    put(200, &7_u64.to_le_bytes());
    put(208, &u64::MAX.to_le_bytes());
    put(220, &2_u32.to_le_bytes());
    put(258, &1_u16.to_le_bytes());
    if reshape {
        put(8, &4_u32.to_le_bytes());
        put(100, &1_u32.to_le_bytes());
        put(104, &1024_u64.to_le_bytes());
        put(120, &128_u32.to_le_bytes());
    }
    sealed(bytes)
}

/// With its sum.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes[216..220].fill(0);
    let words = bytes.chunks(4).map(|word| u64::from(u32::from_le_bytes(word.try_into().unwrap())));
    let sum: u64 = words.sum();
    bytes[216..220].copy_from_slice(&((sum & 0xffff_ffff) as u32 + (sum >> 32) as u32).to_le_bytes());
    bytes
}

fn put(root: &Path, path: &str, content: impl AsRef<[u8]>) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn machine() -> tempfile::TempDir {
    let disks = [("sda", FIRST, 0), ("sdb", FIRST, 1), ("sdc", SECOND, 0), ("sdd", SECOND, 1)];
    machine_of(disks.map(|(name, array, number)| {
        let mut content = vec![0; 10 * MIB as usize];
        content[4096..4096 + 260].copy_from_slice(&superblock(array, number));
        (name, "", content)
    }))
}

/// Disks of 10 MiB, with their serial numbers.
fn machine_of<const N: usize>(disks: [(&str, &str, Vec<u8>); N]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (index, (name, serial, content)) in disks.into_iter().enumerate() {
        put(dir.path(), &format!("dev/{name}"), content);
        let block = format!("sys/devices/pci0000:00/{name}/block/{name}");
        for (attribute, text) in [
            ("dev", format!("8:{}\n", 16 * index)),
            ("device/serial", format!("{serial}\n")),
            ("diskseq", format!("{}\n", index + 1)),
            ("queue/logical_block_size", "512\n".to_string()),
            ("ro", "1\n".to_string()),
            ("size", format!("{}\n", 10 * MIB / 512)),
        ] {
            put(dir.path(), &format!("{block}/{attribute}"), text);
        }
        for class in ["sys/block", "sys/class/block"] {
            fs::create_dir_all(dir.path().join(class)).unwrap();
            let up = "../".repeat(class.split('/').count() - 1);
            symlink(format!("{up}{}", block.trim_start_matches("sys/")), dir.path().join(class).join(name))
                .unwrap();
        }
    }
    dir
}

/// What drives with these serial numbers say of Intel's firmware RAID: a volume of two of them, by its level, or none
/// (struct imsm_super: super-intel.c).
fn imsm(serials: &[&str], level: Option<u8>) -> Vec<u8> {
    let mut bytes = vec![0; 0xd8];
    bytes[..30].copy_from_slice(b"Intel Raid ISM Cfg Sig. 1.3.00");
    bytes[40] = 7; // family
    (bytes[56], bytes[57]) = (u8::try_from(serials.len()).unwrap(), u8::from(level.is_some()));
    for serial in serials {
        let mut disk = vec![0; 48];
        disk[..serial.len()].copy_from_slice(serial.as_bytes());
        bytes.extend(disk);
    }
    if let Some(level) = level {
        let members = if level == 0 { 2_u32 } else { 1 };
        let mut device = vec![0; 112 + 48 + 2 * 4];
        device[..4].copy_from_slice(b"data");
        device[16..20].copy_from_slice(&(2560 * members).to_le_bytes()); // sectors
        let map = &mut device[112..];
        map[8] = if level == 0 { 20 } else { 10 }; // stripes
        map[12] = 128; // sectors of a strip
        (map[15], map[16]) = (level, 2);
        map[48 + 4] = 1; // the second slot's drive
        bytes.extend(device);
    }
    let size = u32::try_from(bytes.len()).unwrap();
    bytes[36..40].copy_from_slice(&size.to_le_bytes());
    let words = bytes.chunks(4).map(|word| u32::from_le_bytes(word.try_into().unwrap()));
    let sum = words.fold(0, u32::wrapping_add);
    bytes[32..36].copy_from_slice(&sum.to_le_bytes());
    assert!(bytes.len() <= 512, "fits the anchor");
    let mut content = vec![0; 10 * MIB as usize];
    let at = content.len() - 1024;
    content[at..at + bytes.len()].copy_from_slice(&bytes);
    content
}

/// The first array of the machine, running as /dev/md127.
fn start_first(root: &Path) {
    let md = "sys/devices/virtual/block/md127";
    for (attribute, text) in [
        ("dev", "9:127\n"),
        ("diskseq", "9\n"),
        ("md/array_state", "readonly\n"),
        ("md/degraded", "0\n"),
        ("md/dev-sda/state", "in_sync\n"),
        ("md/dev-sdb/state", "in_sync\n"),
        ("md/level", "raid1\n"),
        ("md/raid_disks", "2\n"),
        ("queue/logical_block_size", "512\n"),
        ("ro", "1\n"),
        ("size", "16384\n"),
    ] {
        put(root, &format!("{md}/{attribute}"), text);
    }
    put(root, "dev/md127", vec![0; 8 * MIB as usize]);
    fs::create_dir_all(root.join(md).join("slaves")).unwrap();
    for class in ["sys/block", "sys/class/block"] {
        let up = "../".repeat(class.split('/').count() - 1);
        symlink(format!("{up}devices/virtual/block/md127"), root.join(class).join("md127")).unwrap();
    }
    for disk in ["sda", "sdb"] {
        symlink(
            format!("../../../../pci0000:00/{disk}/block/{disk}"),
            root.join(md).join("slaves").join(disk),
        )
        .unwrap();
        let holders = root.join(format!("sys/devices/pci0000:00/{disk}/block/{disk}/holders"));
        fs::create_dir_all(&holders).unwrap();
        symlink("../../../../virtual/block/md127", holders.join("md127")).unwrap();
    }
}

fn context(root: &Path) -> Context {
    Context {
        name: "assemble",
        verb: true,
        root: Root::at(root).unwrap(),
        environment: BTreeMap::new(),
        terminal: Terminal { interactive: false, columns: None, colour: false, utf8: true },
        beat: None,
    }
}

/// Device, link, reason and advice of each array, by UUID.
fn names(root: &Path, more: &[&str]) -> Vec<String> {
    let arguments: Vec<OsString> = ["--dry-run", "--json"].iter().chain(more).map(OsString::from).collect();
    let answer = run(&context(root), &arguments).unwrap();
    let Output::Json(text) = answer.output else { panic!("{:?}", answer.output) };
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let arrays = json["arrays"].as_array().unwrap();
    let text = |line: &serde_json::Value, key: &str| line[key].as_str().unwrap_or("-").to_string();
    arrays
        .iter()
        .map(|line| ["device", "link", "reason", "advice"].map(|key| text(line, key)).join(" | "))
        .collect()
}

fn uuid(array: u8) -> String {
    let word = format!("{array:02x}").repeat(4);
    [&*word; 4].join(":")
}

#[test]
fn without_mdadm_conf_the_superblocks_name_their_arrays_and_the_second_of_one_name_is_told() {
    let dir = machine();
    let want = ["/dev/md0 | /dev/md/0 | - | -", "/dev/md127 | - | md0 is taken by another array | -"];
    assert_eq!(names(dir.path(), &[]), want);
}

#[test]
fn mdadm_conf_decides_who_has_a_name_that_two_want() {
    let want =
        ["/dev/md127 | - | mdadm.conf gives the name 0 to another array | -", "/dev/md0 | /dev/md/0 | - | -"];
    let text = format!("ARRAY /dev/md/0 metadata=1.2\n   UUID={}\n", uuid(SECOND));
    for (path, options) in [
        ("etc/mdadm/mdadm.conf", &[][..]),
        ("etc/mdadm.conf", &[]),
        ("mnt/etc/mdadm/mdadm.conf", &["--config", "/mnt/etc/mdadm/mdadm.conf"]),
    ] {
        let dir = machine();
        put(dir.path(), path, &text);
        assert_eq!(names(dir.path(), options), want, "{path}");
    }
}

#[test]
fn the_file_that_a_person_names_is_the_one_that_counts() {
    let dir = machine();
    put(dir.path(), "etc/mdadm/mdadm.conf", format!("ARRAY /dev/md5 UUID={}\n", uuid(FIRST)));
    put(
        dir.path(),
        "given",
        format!("ARRAY <ignore> UUID={}\nARRAY home UUID={}\nARRAY /dev/md0\n", uuid(FIRST), uuid(SECOND)),
    );
    let advice = "rescue assemble 11111111-1111-1111-1111-111111111111";
    let second = "/dev/md127 | /dev/md/home | - | -";
    let want = [format!("- | - | mdadm.conf says to ignore it | {advice}"), second.to_string()];
    assert_eq!(names(dir.path(), &["--config", "/given"]), want);
    // By the name that it has there, and by nothing else of the other.
    assert_eq!(names(dir.path(), &["--config", "/given", "home"]), [second]);
    let error = run(&context(dir.path()), &["--config".into(), "/missing".into()]).unwrap_err();
    assert_eq!(without_errno(&format!("{error:#}")), "read /missing: No such file or directory");
}

#[test]
fn one_that_runs_under_another_name_is_told_and_left_alone() {
    let dir = machine();
    start_first(dir.path());
    put(dir.path(), "given", format!("ARRAY /dev/md/root UUID={}\n", uuid(FIRST)));
    let want = "/dev/md127 | - | runs already, so it is not /dev/md/root as mdadm.conf has it | rescue assemble --stop /dev/md127 first";
    assert_eq!(names(dir.path(), &["--config", "/given"])[0], want);
    assert_eq!(names(dir.path(), &[])[0], "/dev/md127 | - | - | -");
    fs::create_dir_all(dir.path().join("dev/md")).unwrap();
    symlink("../md127", dir.path().join("dev/md/root")).unwrap();
    assert_eq!(names(dir.path(), &["--config", "/given"])[0], "/dev/md127 | - | - | -");
}

#[test]
fn an_array_of_a_later_kernel_is_started_to_be_read_and_said_to_be_no_more_than_that() {
    let dir = machine();
    for (name, number) in [("sda", 0), ("sdb", 1)] {
        let mut superblock = superblock(FIRST, number);
        superblock[224..228].copy_from_slice(&512_u32.to_le_bytes());
        let mut content = vec![0; 10 * MIB as usize];
        content[4096..4096 + 260].copy_from_slice(&sealed(superblock));
        put(dir.path(), &format!("dev/{name}"), content);
    }
    let why = "it was written by Linux 6.19 or later (logical block size 512): this kernel only reads it";
    let second = "/dev/md127 | - | md0 is taken by another array | -";
    assert_eq!(names(dir.path(), &[]), [format!("/dev/md0 | /dev/md/0 | {why} | -"), second.to_string()]);
    assert_eq!(names(dir.path(), &["--rw"])[0], format!("- | - | {why} | -"));
    start_first(dir.path());
    assert_eq!(names(dir.path(), &[])[0], "/dev/md127 | - | - | -");
    assert_eq!(names(dir.path(), &["--rw"])[0], format!("/dev/md127 | - | {why} | -"));
}

#[test]
fn a_copy_of_a_firmware_drive_can_be_chosen_for_the_one_that_is_gone() {
    let set = imsm(&["A1", "B2"], Some(0));
    let dir = machine_of([("sda", "A1", set.clone()), ("sdb", "a copy", set)]);
    let left = &names(dir.path(), &[])[0];
    assert!(left.starts_with("- | - | 1 of 2 members are there"), "{left}");
    assert_eq!(names(dir.path(), &["--with", "/dev/sdb"]), ["/dev/md127 | /dev/md/data | - | -"]);
    let spare = machine_of([("sda", "A1", imsm(&["A1"], None))]);
    let error = run(&context(spare.path()), &["--with".into(), "/dev/sda".into()]).unwrap_err();
    assert_eq!(error.to_string(), "--with /dev/sda: it is no member of an array, and no PV");
}

#[test]
fn a_spare_of_firmware_raid_is_no_array_that_is_missed() {
    let set = imsm(&["A1", "B2"], Some(1));
    let spare = imsm(&["S3"], None);
    let mut torn = spare.clone();
    torn[10 * MIB as usize - 1024 + 60] ^= 1;
    for (label, third, want) in [("a spare", spare, exit::YES), ("torn", torn, exit::PARTLY)] {
        let dir = machine_of([("sda", "A1", set.clone()), ("sdb", "B2", set.clone()), ("sdc", "S3", third)]);
        assert_eq!(names(dir.path(), &[]), ["/dev/md127 | /dev/md/data | - | -"], "{label}");
        let answer = run(&context(dir.path()), &["--dry-run".into()]).unwrap();
        assert_eq!(answer.exit, want, "{label}");
    }
}

/// The first array in the middle of a reshape, and so much memory that is free.
fn reshaping(memory_kib: u64) -> tempfile::TempDir {
    let dir = machine();
    for (name, number) in [("sda", 0), ("sdb", 1)] {
        let mut content = vec![0; 10 * MIB as usize];
        content[4096..4096 + 260].copy_from_slice(&superblock_in(FIRST, number, true));
        put(dir.path(), &format!("dev/{name}"), content);
    }
    put(dir.path(), "proc/meminfo", format!("MemTotal: 9000000 kB\nMemAvailable: {memory_kib} kB\n"));
    dir
}

fn dry(root: &Path, more: &[&str]) -> String {
    let arguments: Vec<OsString> = ["--dry-run"].iter().chain(more).map(OsString::from).collect();
    let answer = run(&context(root), &arguments).unwrap();
    let Output::Text(text) = answer.output else { panic!("{:?}", answer.output) };
    text
}

#[test]
fn a_dry_run_of_a_copy_prints_overlays_of_every_member_and_the_start_from_these() {
    let dir = reshaping(600 << 10);
    let text = dry(dir.path(), &[&uuid(FIRST)]);
    let lines: Vec<&str> = text.lines().collect();
    for (count, what) in [
        (1, "mount -t tmpfs"),
        (1, "dmsetup create over-sda --uuid LIFEBOAT-OVERLAY-ASSEMBLE-seq:1 "),
        (1, "dmsetup create over-sdb --uuid LIFEBOAT-OVERLAY-ASSEMBLE-seq:2 "),
        (1, "mdadm --assemble --run --readonly /dev/md0 /dev/mapper/over-sda /dev/mapper/over-sdb"),
        (1, "mdadm --action=frozen /dev/md0"),
        (0, "mdadm --readwrite"),
        (0, "rescue writable"),
    ] {
        assert_eq!(lines.iter().filter(|line| line.starts_with(what)).count(), count, "{what} in {text}");
    }
    let [line, other] = &names(dir.path(), &[])[..] else { panic!("two arrays") };
    assert!(
        line.contains("a copy in memory, to be read (it was being reshaped, and going on with that writes)"),
        "{line}"
    );
    assert!(line.contains("rescue assemble --stop /dev/md0 drops it"), "{line}");
    assert!(!other.contains("copy"), "{other}");
    let refused = &names(dir.path(), &["--rw"])[0];
    assert!(
        refused.contains("going on with that writes") && refused.contains("mdadm --assemble /dev/md0"),
        "{refused}"
    );
}

#[test]
fn a_copy_for_which_there_is_no_memory_is_refused_with_the_next_command() {
    let dir = reshaping(10 << 10);
    let lines = names(dir.path(), &[]);
    let want = "- | - | it was being reshaped, and going on with that writes; there can be no copy in memory: 10M of memory \
                are free, and an overlay takes 16M at least | rescue assemble --rw 11111111-";
    assert!(lines[0].starts_with(want), "{}", lines[0]);
    assert_eq!(lines[1], "/dev/md0 | /dev/md/0 | - | -", "the other is started");
}
