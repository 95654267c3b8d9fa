use super::*;
use crate::build::build;
use crate::mount::{self, Able, Options, Request, Source};
use crate::plan::{DmLower, Input};
use crate::storage::{Observed, Storage};
use crate::{fsck, luks};
use contract::facts::{Dm, Hardware, Md, Mount, Partition, Swap};
use contract::guard::Consent;
use ondisk::Health;
use ondisk::table::{Entry, Table, TableKind};

fn disk(name: &str, minor: u32, serial: &str) -> Block {
    Block {
        name: name.to_string(),
        major: 8,
        minor,
        diskseq: Some(u64::from(minor) + 1),
        size: 1 << 30,
        logical_block: 512,
        read_only: true,
        hardware: Hardware {
            serial: Some(serial.to_string()),
            path: Some(format!("pci/{name}")),
            ..Hardware::default()
        },
        ..Block::default()
    }
}

fn part(disk: &Block, number: u32) -> Block {
    Block {
        name: format!("{}{number}", disk.name),
        minor: disk.minor + number,
        size: 1 << 20,
        partition: Some(Partition { disk: disk.name.clone(), number, start: u64::from(number) << 20 }),
        ..disk.clone()
    }
}

fn made(name: &str, minor: u32, slaves: &[&str]) -> Block {
    let slaves = slaves.iter().map(|name| name.to_string()).collect();
    let path = Some(format!("virtual/block/{name}"));
    let hardware = Hardware { path, ..Hardware::default() };
    Block { name: name.to_string(), major: 9, minor, size: 1 << 20, slaves, hardware, ..Block::default() }
}

/// sda1 and sdb1 are md0; sda2 is opened as dm-0; sdb2 is seen through the overlay dm-1.
fn machine() -> Facts {
    let (sda, sdb) = (disk("sda", 0, "A"), disk("sdb", 16, "B"));
    let dm = |uuid: &str| Some(Dm { name: "x".to_string(), uuid: uuid.to_string(), suspended: false });
    let md0 = Block {
        md: Some(Md { uuid: Some("11:22".to_string()), ..Md::default() }),
        ..made("md0", 0, &["sda1", "sdb1"])
    };
    let opened = Block { dm: dm("CRYPT-LUKS2-x"), ..made("dm-0", 1, &["sda2"]) };
    let overlay = Block { dm: dm("LIFEBOAT-OVERLAY-x"), ..made("dm-1", 2, &["sdb2"]) };
    let looped = Block { loop_file: Some("/root/a".to_string()), ..made("loop0", 3, &[]) };
    let (sda1, sda2, sdb1, sdb2) = (part(&sda, 1), part(&sda, 2), part(&sdb, 1), part(&sdb, 2));
    let blocks = vec![sda, sda1, sda2, sdb, sdb1, sdb2, looped, md0, opened, overlay];
    Facts { blocks, ..Facts::default() }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_string).collect()
}

fn mount(source: &str, flags: &str) -> Step {
    let (target, fstype, data) = ("/mnt".to_string(), "ext4".to_string(), String::new());
    Step::Mount { source: source.to_string(), target, fstype, flags: words(flags), data }
}

/// Stops the compiler at a step that nobody thought of here; the table below has a row for each.
fn place(step: &Step) -> usize {
    match step {
        Step::Save { .. } => 0,
        Step::SetWritable { .. } => 1,
        Step::SetGuarded { .. } => 2,
        Step::Module { .. } => 3,
        Step::MdStart(_) => 4,
        Step::MdStop { .. } => 5,
        Step::MdSetReadOnly { .. } => 6,
        Step::MdFreeze { .. } => 7,
        Step::DmCreate { .. } => 8,
        Step::DmRemove { .. } => 9,
        Step::DmFreeze { .. } => 10,
        Step::DmReadOnly { .. } => 11,
        Step::BcacheRegister { .. } => 12,
        Step::BcacheHold { .. } => 13,
        Step::BcacheStop { .. } => 14,
        Step::SparseFile { .. } => 15,
        Step::RemoveFile { .. } => 16,
        Step::BtrfsForget { .. } => 17,
        Step::BtrfsScan { .. } => 18,
        Step::Loop { .. } => 19,
        Step::LoopRemove { .. } => 20,
        Step::MakeDirectory { .. } => 21,
        Step::PutBack { .. } => 22,
        Step::Mount { .. } => 23,
        Step::Umount { .. } => 24,
        Step::Run { .. } => 25,
        Step::Call { .. } => 26,
    }
}
const STEPS: usize = 27;

#[test]
fn what_a_step_writes_to_is_saved_and_nothing_else() {
    let device = |path: &str| path.to_string();
    let looped =
        |file: &str, read_only| Step::Loop { file: file.to_string(), read_only, offset: 512, size: None };
    let writable = |path: &str| Step::SetWritable {
        path: path.to_string(),
        disk: None,
        consent: Consent { diskseq: 1, extent: None, by: String::new() },
    };
    let start = |read_only| {
        let member = crate::plan::MdMember {
            path: "/dev/sdb1".to_string(),
            major: 8,
            minor: 17,
            slot: None,
            diskseq: None,
            events: 0,
            data_offset: 0,
            data_size: 0,
        };
        Step::MdStart(crate::plan::MdStart {
            device: "/dev/md1".to_string(),
            minor: 1,
            link: None,
            uuid: String::new(),
            members: vec![member],
            read_only,
            metadata: "1.2".to_string(),
            bare: None,
        })
    };
    let call = |text: &str| Step::Call { argv: words(text), input: Input::Nothing };
    let on = DmLower { path: String::new(), major: 0, minor: 0, diskseq: None, size: 0 };
    let cases = [
        ("a partition, with the table it stands in", writable("/dev/sda1"), "sda sda1"),
        ("a disk, with all its partitions", writable("/dev/sda"), "sda sda1 sda2"),
        ("an array, with its members", mount("/dev/md0", ""), "sda sda1 sdb sdb1 md0"),
        ("what is mounted for reading", mount("/dev/md0", "ro nosuid"), ""),
        ("a bind", mount("/dev/sda1", "rbind"), ""),
        ("another way to spread", mount("/dev/sda1", "rslave"), ""),
        ("no device", mount("tmpfs", ""), ""),
        ("what runs from an overlay", mount("/dev/dm-1", ""), ""),
        ("a file", mount("/dev/loop0", ""), ""),
        ("members of an array that is started for writing", start(false), "sdb sdb1"),
        ("members of one that is started for reading", start(true), ""),
        (
            "a running array that is made writable",
            Step::MdSetReadOnly { device: "/dev/md0".to_string(), read_only: false },
            "sda sda1 sdb sdb1 md0",
        ),
        (
            "one that is made read-only",
            Step::MdSetReadOnly { device: "/dev/md0".to_string(), read_only: true },
            "",
        ),
        ("a program over what is guarded", call("cryptsetup open /dev/sda2 x"), ""),
        (
            "a program over what can be written",
            Step::Run { argv: words("e2fsck -y /dev/dm-0"), input: Input::Nothing },
            "sda sda2 dm-0",
        ),
        (
            "what a person asks for, a disk whole",
            Step::Save { paths: vec![device("/dev/sdb")] },
            "sdb sdb1 sdb2",
        ),
        (
            "a btrfs on several devices",
            with_data("/dev/sda1", "degraded,device=/dev/sdb1"),
            "sda sda1 sdb sdb1",
        ),
        (
            "an ext4 with its journal on another disk",
            with_data("/dev/sda1", "journal_path=/dev/sdb1,noatime"),
            "sda sda1 sdb sdb1",
        ),
        ("an xfs with its log there", with_data("/dev/sda1", "logdev=/dev/sdb1"), "sda sda1 sdb sdb1"),
        ("and what is realtime", with_data("/dev/sda1", "rtdev=/dev/sdb1"), "sda sda1 sdb sdb1"),
        ("a window of a disk", looped("/dev/sda", false), "sda"),
        ("one that is only read", looped("/dev/sda", true), ""),
        ("a window of a file", looped("/root/image", false), ""),
        ("bcache's, which are overlays", Step::BcacheRegister { device: device("/dev/dm-1") }, ""),
        ("and would not be", Step::BcacheRegister { device: device("/dev/sda1") }, "sda sda1"),
        ("the same", Step::BcacheHold { device: device("/dev/sda1") }, "sda sda1"),
        ("the same", Step::BcacheStop { device: device("/dev/sda1") }, "sda sda1"),
        // What ends, what is only memory's, and what is the kernel's own state.
        ("an array's end", Step::MdStop { device: device("/dev/md0") }, ""),
        ("its resync's", Step::MdFreeze { device: device("/dev/md0") }, ""),
        ("a mount's", Step::Umount { target: device("/mnt"), lazy: false, force: false }, ""),
        ("the guard", guarded("/dev/sda1"), ""),
        ("a module", Step::Module { name: "ext4".to_string() }, ""),
        ("a map, which writes nothing by itself", map(), ""),
        ("its end", Step::DmRemove { name: "x".to_string() }, ""),
        ("its resync's", Step::DmFreeze { name: "x".to_string() }, ""),
        ("its flag", Step::DmReadOnly { device: device("/dev/mapper/x") }, ""),
        ("a store", Step::SparseFile { path: device("/run/x"), size: 1 }, ""),
        ("its end", Step::RemoveFile { path: device("/run/x") }, ""),
        ("the kernel's list", Step::BtrfsForget { device: device("/dev/sda1") }, ""),
        ("the kernel's list", Step::BtrfsScan { device: device("/dev/sda1") }, ""),
        ("a loop device's end", Step::LoopRemove { device: device("/dev/loop0") }, ""),
        ("a directory", Step::MakeDirectory { path: device("/mnt") }, ""),
        (
            "what is put back",
            Step::PutBack {
                path: "/dev/sda2".to_string(),
                from: String::new(),
                window: guard::Extent { start: 512, length: 512 },
                sha256: String::new(),
                on,
            },
            "sda2",
        ),
    ];
    let facts = machine();
    let resolve =
        |path: &str| facts.blocks.iter().find(|block| block.path() == path).map(|block| block.name.clone());
    let mut seen = [false; STEPS];
    for (label, step, want) in cases {
        seen[place(&step)] = true;
        let found = concerned(&facts, std::slice::from_ref(&step), &resolve);
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names.join(" "), want, "{label}");
        assert!(want.is_empty() || writes(&step), "{label}");
    }
    assert_eq!(seen, [true; STEPS], "a step without a row");
}

fn with_data(source: &str, data: &str) -> Step {
    let (target, fstype) = ("/mnt".to_string(), "btrfs".to_string());
    Step::Mount { source: source.to_string(), target, fstype, flags: Vec::new(), data: data.to_string() }
}

fn guarded(path: &str) -> Step {
    let consent = Consent { diskseq: 1, extent: None, by: String::new() };
    Step::SetGuarded { path: path.to_string(), disk: None, consent }
}

fn map() -> Step {
    let (name, uuid) = ("x".to_string(), String::new());
    Step::DmCreate { name, uuid, table: Vec::new(), read_only: false, on: Vec::new() }
}

/// sda1 ext4; sdb1 and sdc1 one btrfs; sdd1 and sde1 md0, which runs for writing, with xfs; sdf locked. The guard is off
/// everywhere, so that no step but those that write names what is to be saved.
fn unguarded() -> Storage {
    let mut blocks = Vec::new();
    for (number, name) in ["sda", "sdb", "sdc", "sdd", "sde", "sdf"].iter().enumerate() {
        let disk = disk(name, 16 * number as u32, name);
        blocks.extend([disk.clone(), part(&disk, 1)]);
    }
    let md = Md { array_state: "clean".to_string(), ..Md::default() };
    blocks.push(Block { md: Some(md), ..made("md0", 0, &["sdd1", "sde1"]) });
    for block in &mut blocks {
        block.read_only = false;
        if matches!(block.name.as_str(), "sdd1" | "sde1") {
            block.holders = vec!["md0".to_string()];
        }
    }
    let consents: Vec<Consent> = blocks
        .iter()
        .filter_map(|block| Some(Consent { diskseq: block.diskseq?, extent: None, by: String::new() }))
        .collect();
    let fs = |format: &str, member: &str| Signature {
        uuid: Some("pool".to_string()),
        member_uuid: Some(member.to_string()),
        health: Health::Sound,
        ..Signature::new(format, Usage::Filesystem, 0)
    };
    let seen = [
        ("sda1", fs("ext4", "a")),
        ("sdb1", fs("btrfs", "b")),
        ("sdc1", fs("btrfs", "c")),
        ("md0", fs("xfs", "d")),
    ];
    let seen = seen.map(|(name, found)| {
        let report = DiskReport { signatures: vec![found], ..DiskReport::default() };
        (name.to_string(), Observed::Examined { report: Box::new(report) })
    });
    build(Facts { blocks, ..Facts::default() }, &seen.into(), &consents)
}

#[test]
fn every_verb_that_writes_saves_all_that_it_writes_to_although_the_guard_is_off() {
    let storage = unguarded();
    let device = |name: &str| storage.devices.iter().find(|device| device.block.name == name).unwrap();
    let mount = |name: &str, options: &str| {
        let options = Options::parse([options]).unwrap();
        let (known, helper) = ([String::new()], |fstype: &str| fstype == "ntfs-3g");
        let request = Request {
            source: Source::Device(device(name)),
            target: "/mnt",
            types: options.window.map(|_| "ext4"),
            options: &options,
            window: None,
            mkdir: false,
            by: "mount",
        };
        let able = Able { known: &known, helper: &helper, memory: None };
        mount::plan(&storage, &able, &request).unwrap().steps()
    };
    let remount = |name: &str, fstype: &str, options: &str| {
        let block = &device(name).block;
        let mounted = Mount {
            major: block.major,
            minor: block.minor,
            source: block.path(),
            target: "/mnt".to_string(),
            fstype: fstype.to_string(),
            options: "ro".to_string(),
            super_options: "ro".to_string(),
            ..Mount::default()
        };
        let options = Options::parse([options]).unwrap();
        mount::remount(&storage, &mounted, &options, true, "mount").unwrap().steps()
    };
    let fsck = |line: &str, name: &str| {
        let command = fsck::parse(&words(line)).unwrap();
        let plan = fsck::plan(&storage, fsck::Subject::Device(device(name)), &command, "fsck").unwrap();
        plan.opens.into_iter().chain([plan.run]).collect::<Vec<_>>()
    };
    let open = |writable| {
        let wishes = luks::Wishes { writable, kind: Some("tcrypt"), ..luks::Wishes::default() };
        let plan = luks::open(&storage, device("sdf1"), &wishes, "open").unwrap();
        plan.before.into_iter().chain(plan.tries).collect::<Vec<_>>()
    };
    let cases = [
        ("mount", mount("sda1", ""), "sda sda1"),
        ("mount of an array", mount("md0", ""), "sdd sdd1 sde sde1 md0"),
        ("mount of a pool", mount("sdb1", ""), "sdb sdb1 sdc sdc1"),
        ("mount of a window", mount("sda", "offset=1M"), "sda"),
        ("mount for reading", mount("sdb1", "ro"), ""),
        ("remount", remount("sda1", "ext4", "remount,rw"), "sda sda1"),
        ("remount of a pool", remount("sdb1", "btrfs", "remount,rw"), "sdb sdb1 sdc sdc1"),
        ("fsck", fsck("-y /dev/sda1", "sda1"), "sda sda1"),
        ("fsck of an array", fsck("/dev/md0", "md0"), "sdd sdd1 sde sde1 md0"),
        ("fsck of a pool", fsck("--repair /dev/sdb1", "sdb1"), "sdb sdb1 sdc sdc1"),
        ("open", open(true), "sdf sdf1"),
        ("rescue overlay, umount, close", vec![guarded("/dev/sda1")], ""),
    ];
    let blocks = storage.devices.iter().map(|device| device.block.clone()).collect();
    let facts = Facts { blocks, ..Facts::default() };
    let resolve =
        |path: &str| facts.blocks.iter().find(|block| block.path() == path).map(|block| block.name.clone());
    for (verb, steps, want) in cases {
        let found = concerned(&facts, &steps, &resolve);
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        let texts: Vec<String> = steps.iter().map(Step::text).collect();
        assert_eq!(names.join(" "), want, "{verb}: {}", texts.join("; "));
    }
}

fn extent(start: u64, length: u64) -> Extent {
    Extent { start, length }
}

fn entry(start: u64, length: u64, extended: bool) -> Entry {
    Entry { extended, ..Entry::new(1, extent(start, length), String::new()) }
}

#[test]
fn of_a_disk_the_table_is_put_back_and_no_byte_of_a_partition() {
    // The second begins in the middle of a sector; the last two overlap, and one is longer than the disk.
    let partitions = vec![
        entry(4096, 4096, false),
        entry(16_384, 16_384, true),
        entry(20_480 + 100, 4096, false),
        entry(40_960, 8192, false),
        entry(45_056, u64::MAX, false),
    ];
    let table = Table { health: Health::Unchecked, ..Table::new(TableKind::Mbr, 512, partitions) };
    let report = DiskReport { table: Some(table), ..DiskReport::default() };
    let layout = layout(&report, 1 << 20, 512);
    assert_eq!(layout.what, "dos table");
    let cut = layout.cut(&[extent(0, 8192), extent(16_384, 8192), extent(40_448, 1024)], 512);
    let want = [
        (extent(0, 4096), Kind::Table),
        (extent(4096, 4096), Kind::Content),
        (extent(16_384, 4096), Kind::Table),
        (extent(20_480, 4096), Kind::Content),
        (extent(40_448, 512), Kind::Table),
        (extent(40_960, 512), Kind::Content),
    ];
    assert_eq!(cut, want);
}

#[test]
fn where_nothing_is_a_table_may_come_and_is_taken_back() {
    let layout = layout(&DiskReport::default(), 1 << 20, 512);
    let cut = layout.cut(&[extent(0, 512), extent(65_536, 512), extent((1 << 20) - 512, 512)], 512);
    assert_eq!(
        cut.iter().map(|(_, kind)| *kind).collect::<Vec<_>>(),
        [Kind::Table, Kind::Content, Kind::Table]
    );
    assert_eq!(
        super::layout(&DiskReport::default(), 1024, 4096).cut(&[extent(0, 1024)], 512)[0].1,
        Kind::Table
    );
}

#[test]
fn a_signature_without_more_words_owns_its_block_alone() {
    let signature = Signature::new("bcache", Usage::Raid, 4096 + 24);
    let report = DiskReport { signatures: vec![signature], ..DiskReport::default() };
    let cut = layout(&report, 1 << 20, 512).cut(&[extent(0, 16_384)], 512);
    let want = [
        (extent(0, 4096), Kind::Content),
        (extent(4096, 4096), Kind::Header),
        (extent(8192, 8192), Kind::Content),
    ];
    assert_eq!(cut, want);
    // Where it says what is its own, that: of an HPT37x the sector behind it is a volume's.
    let own = vec![extent(9 * 512, 512), extent(12_288, 512)];
    let signature = Signature { own, ..Signature::new("hpt37x_raid_member", Usage::Raid, 9 * 512 + 32) };
    let report = DiskReport { signatures: vec![signature], ..DiskReport::default() };
    assert_eq!(asked(&report), [extent(9 * 512, 512), extent(12_288, 512)]);
    let cut = layout(&report, 1 << 20, 512).cut(&[extent(0, 16_384)], 512);
    let own: Vec<Extent> =
        cut.into_iter().filter(|(_, kind)| *kind == Kind::Header).map(|(extent, _)| extent).collect();
    assert_eq!(own, [extent(9 * 512, 512), extent(12_288, 512)]);
}

#[test]
fn a_device_is_known_again_by_what_it_is_and_not_by_its_name() {
    let facts = machine();
    let at = |facts: &Facts, name: &str| {
        identity(facts, facts.blocks.iter().find(|block| block.name == name).unwrap())
    };
    let saved = at(&facts, "sda1");
    let change = |with: &dyn Fn(&mut Block)| {
        let mut facts = machine();
        facts.blocks.iter_mut().for_each(with);
        find(&facts, &saved, &[], &[]).map(|one| one.block.name.clone())
    };
    assert_eq!(change(&|_| {}).unwrap(), "sda1");
    // It was pulled out, and came back with another number of the kernel's under another name.
    let renamed = change(&|block| {
        block.name = block.name.replace("sda", "sdz");
        block.diskseq = Some(99);
        if let Some(partition) = &mut block.partition {
            partition.disk = partition.disk.replace("sda", "sdz");
        }
    });
    assert_eq!(renamed.unwrap(), "sdz1");
    for (label, outcome, want) in [
        ("another serial", change(&|block| block.hardware.serial = Some("C".to_string())), "serial C"),
        (
            "another size",
            change(&|block| {
                if block.name == "sda1" {
                    block.size = 7
                }
            }),
            "7 bytes",
        ),
        (
            "another disk's size",
            change(&|block| {
                if block.name == "sda" {
                    block.size = 7
                }
            }),
            "another device",
        ),
        (
            "another place",
            change(&|block| {
                if let Some(partition) = &mut block.partition {
                    partition.start += 512
                }
            }),
            "from byte",
        ),
    ] {
        let refusal = outcome.unwrap_err().to_string();
        assert!(refusal.contains(want), "{label}: {refusal}");
    }
    let mut gone = machine();
    gone.blocks.retain(|block| !block.name.starts_with("sda"));
    assert_eq!(find(&gone, &saved, &[], &[]), Err(Refusal::Gone("/dev/sda1".to_string())));
    let without = |diskseq: u64| {
        let mut facts = machine();
        for block in &mut facts.blocks {
            block.hardware.serial = None;
            block.diskseq = Some(diskseq);
        }
        facts
    };
    let saved = at(&without(5), "sda");
    assert!(find(&without(5), &saved, &[], &[]).is_ok());
    let refusal = find(&without(6), &saved, &[], &[]).unwrap_err().to_string();
    assert!(refusal.contains("disk 6") && refusal.contains("disk 5"), "{refusal}");
}

/// sda and sdb say the same of themselves, as bridges of one make and two paths to one drive do; counted so by the kernel.
fn twins(of_sda: u64, of_sdb: u64, wwid: Option<&str>) -> Facts {
    let mut facts = machine();
    for block in facts.blocks.iter_mut().filter(|block| block.major == 8) {
        let is_first = block.name.starts_with("sda");
        block.hardware.serial = Some("0123456789ABCDEF".to_string());
        block.hardware.wwid = wwid.map(str::to_string);
        block.diskseq = Some(if is_first { of_sda } else { of_sdb });
    }
    facts
}

#[test]
fn of_drives_with_the_same_serial_number_only_the_one_that_was_saved_is_written_to() {
    let twins = |of_sda: u64, of_sdb: u64| twins(of_sda, of_sdb, None);
    let at = |name: &str| {
        let facts = twins(1, 2);
        identity(&facts, facts.blocks.iter().find(|block| block.name == name).unwrap())
    };
    let alike = |path: &str, all: &[&str]| {
        let all = all.iter().map(|path| path.to_string()).collect();
        let name = path.trim_start_matches("/dev/");
        Err(Refusal::Alike { path: path.to_string(), what: shown(&at(name)), all, is_only: true })
    };
    for (label, facts, name, want) in [
        ("the first", twins(1, 2), "sda", Ok("sda")),
        ("the second", twins(1, 2), "sdb", Ok("sdb")),
        ("a partition of the second", twins(1, 2), "sdb2", Ok("sdb2")),
        ("they were found in the other order", twins(2, 1), "sda", Ok("sdb")),
        ("and a partition", twins(2, 1), "sda1", Ok("sdb1")),
        ("the other came again", twins(1, 3), "sda", Ok("sda")),
        ("both came again", twins(3, 4), "sdb", alike("/dev/sdb", &["/dev/sda", "/dev/sdb"])),
        ("and a partition", twins(3, 4), "sda1", alike("/dev/sda1", &["/dev/sda1", "/dev/sdb1"])),
    ] {
        let found = find(&facts, &at(name), &[], &[]).map(|one| one.block.name.as_str());
        assert_eq!(found, want, "{label}: {name}");
    }
    let refusal = find(&twins(3, 4), &at("sdb"), &[], &[]).unwrap_err().to_string();
    assert!(refusal.contains("so are /dev/sda and /dev/sdb: "), "{refusal}");
    // It is gone, and the one that is left was there beside it.
    let mut left = twins(1, 2);
    left.blocks.retain(|block| !block.name.starts_with("sdb"));
    assert_eq!(find(&left, &at("sdb"), &[], &[]), Err(Refusal::Gone("/dev/sdb".to_string())));
}

#[test]
fn of_several_that_came_again_it_is_the_one_that_is_named_or_any_path_to_one_drive() {
    const NAA: Option<&str> = Some("naa.5000c500a1b2c3d4");
    const TEXT: Option<&str> = Some("t10.ATA     BRIDGE  0123456789ABCDEF");
    const NONE: Option<&str> = Some("naa.0000000000000000");
    let (name, unplug) =
        (Err("; name the one (rescue undo N DEVICE), or unplug"), Err("; leave one alone plugged in"));
    let one = |name, paths: &'static str, is_any| Ok((name, paths, is_any));
    let cases = [
        ("none is named", None, (3, 4), "sda", "sda", "", name),
        ("one is named", None, (3, 4), "sda", "sda", "/dev/sdb", one("sdb", "", false)),
        ("and a partition", None, (3, 4), "sda1", "sda sda1", "/dev/sdb1", one("sdb1", "", false)),
        ("both are named", None, (3, 4), "sda", "sda", "/dev/sda /dev/sdb", name),
        ("none of them is named", None, (3, 4), "sda", "sda", "/dev/sda1", name),
        ("the other was saved too", None, (3, 4), "sda", "sda sdb", "/dev/sda", unplug),
        ("the saved one was left", None, (1, 4), "sda", "sda", "/dev/sdb", one("sda", "", false)),
        ("paths", NAA, (3, 4), "sda", "sda", "", one("sda", "sdb", true)),
        ("and a partition", NAA, (3, 4), "sdb2", "sdb2", "", one("sda2", "sdb2", true)),
        ("paths that were both saved", NAA, (3, 4), "sdb", "sda sdb", "/dev/sdb", one("sdb", "sda", true)),
        ("a path that is named", NAA, (3, 4), "sda", "sda", "/dev/sdb", one("sdb", "sda", false)),
        ("a path that was left", NAA, (1, 2), "sdb", "sdb", "", one("sdb", "sda", false)),
        ("a name of text", TEXT, (3, 4), "sda", "sda", "", name),
        ("a name of zeros", NONE, (3, 4), "sda", "sda", "", name),
    ];
    for (label, wwid, (of_sda, of_sdb), saved, beside, named, want) in cases {
        let (before, facts) = (twins(1, 2, wwid), twins(of_sda, of_sdb, wwid));
        let at =
            |name: &str| identity(&before, before.blocks.iter().find(|block| block.name == name).unwrap());
        let beside: Vec<Identity> = beside.split(' ').map(at).collect();
        let found = find(&facts, &at(saved), &beside.iter().collect::<Vec<_>>(), &words(named));
        match (found, want) {
            (Ok(found), Ok(want)) => {
                let paths: Vec<&str> = found.paths.iter().map(|block| block.name.as_str()).collect();
                assert_eq!((found.block.name.as_str(), &*paths.join(" "), found.is_any), want, "{label}");
            }
            (Err(refusal), Err(want)) => assert!(refusal.to_string().contains(want), "{label}: {refusal}"),
            (found, want) => panic!("{label}: {found:?}, and not {want:?}"),
        }
    }
}

#[test]
fn what_is_in_use_is_refused_with_what_ends_that() {
    let block =
        |facts: &Facts, name: &str| facts.blocks.iter().find(|block| block.name == name).unwrap().clone();
    let refused = |facts: &Facts, name: &str| {
        in_use(facts, &block(facts, name), &alone).map_err(|error| error.to_string())
    };
    let mut facts = machine();
    assert_eq!(refused(&facts, "sda"), Ok(()));
    let hold = |facts: &mut Facts, name: &str, holder: &str| {
        let block = facts.blocks.iter_mut().find(|block| block.name == name).unwrap();
        block.holders = vec![holder.to_string()];
    };
    hold(&mut facts, "sda1", "md0");
    hold(&mut facts, "sda2", "dm-0");
    hold(&mut facts, "sdb2", "dm-1");
    let minor = block(&facts, "sdb1").minor;
    facts.mounts = vec![Mount { major: 8, minor, target: "/mnt".to_string(), ..Mount::default() }];
    for (name, want) in [
        ("sda1", "/dev/sda1 is in use: rescue assemble --stop /dev/md0"),
        ("sda", "/dev/sda1 is in use: rescue assemble --stop /dev/md0"),
        ("sda2", "/dev/sda2 is in use: rescue close x"),
        ("sdb2", "/dev/sdb2 is in use: rescue overlay --drop /dev/sdb2"),
        ("sdb1", "/dev/sdb1 is in use: umount /mnt"),
    ] {
        assert_eq!(refused(&facts, name), Err(want.to_string()));
    }
    facts.swaps = vec![Swap { path: "/dev/md0".to_string(), size: 0, used: 0, priority: 0 }];
    assert_eq!(refused(&facts, "md0"), Err("/dev/md0 is in use: swapoff /dev/md0".to_string()));
}

/// A btrfs on one device.
fn alone(_: &Mount) -> Vec<String> {
    Vec::new()
}

#[test]
fn what_is_mounted_under_another_name_or_from_several_devices_is_in_use() {
    // dm-0 is x: btrfs has a device number of its own, and is mounted by that name.
    let mounted = |fstype: &str, source: &str, options: &str| {
        let (fstype, source, super_options) = (fstype.to_string(), source.to_string(), options.to_string());
        let target = "/mnt".to_string();
        Mount { major: 0, minor: 40, target, fstype, source, super_options, ..Mount::default() }
    };
    let swap = |path: &str| Swap { path: path.to_string(), size: 0, used: 0, priority: 0 };
    let umount = |path: &str| Err(format!("{path} is in use: umount /mnt"));
    let cases = [
        ("a mapped name", Some(mounted("btrfs", "/dev/mapper/x", "rw")), None, "dm-0", umount("/dev/dm-0")),
        ("its node", Some(mounted("btrfs", "/dev/dm-0", "rw")), None, "dm-0", umount("/dev/dm-0")),
        ("another name", Some(mounted("btrfs", "/dev/mapper/y", "rw")), None, "dm-0", Ok(())),
        ("the other of a pool", Some(mounted("btrfs", "/dev/sda1", "rw")), None, "sdb1", umount("/dev/sdb1")),
        ("and its disk", Some(mounted("btrfs", "/dev/sda1", "rw")), None, "sdb", umount("/dev/sdb1")),
        ("what is no btrfs has no pool", Some(mounted("xfs", "/dev/sda1", "rw")), None, "sdb1", Ok(())),
        (
            "a log of xfs",
            Some(mounted("xfs", "/dev/sda1", "rw,logdev=/dev/sdb1")),
            None,
            "sdb1",
            umount("/dev/sdb1"),
        ),
        (
            "a mapped one",
            Some(mounted("xfs", "/dev/sda1", "rw,rtdev=/dev/mapper/x")),
            None,
            "dm-0",
            umount("/dev/dm-0"),
        ),
        (
            "mapped swap",
            None,
            Some(swap("/dev/mapper/x")),
            "dm-0",
            Err("/dev/dm-0 is in use: swapoff /dev/mapper/x".to_string()),
        ),
        ("swap elsewhere", None, Some(swap("/dev/mapper/y")), "dm-0", Ok(())),
    ];
    let pool = |_: &Mount| vec!["sda1".to_string(), "sdb1".to_string()];
    for (label, mount, swap, name, want) in cases {
        let mut facts = machine();
        // What else stands on them is not asked here.
        facts.blocks.retain(|block| block.name != "dm-1" && block.name != "md0");
        (facts.mounts, facts.swaps) = (mount.into_iter().collect(), swap.into_iter().collect());
        let block = facts.blocks.iter().find(|block| block.name == name).unwrap();
        assert_eq!(in_use(&facts, block, &pool).map_err(|refusal| refusal.to_string()), want, "{label}");
    }
}

proptest::proptest! {
    /// Whatever a disk says: nothing is lost, nothing counted twice, and what is put back lies in whole sectors outside
    /// every partition.
    #[test]
    fn cuts_cover_what_was_read_exactly(
        holes in proptest::collection::vec((0u64..5000, 0u64..5000), 0..6),
        windows in proptest::collection::vec((0u64..8, 1u64..4), 0..4),
    ) {
        let partitions = holes.iter().map(|(start, length)| entry(*start, *length, false)).collect::<Vec<_>>();
        let table = Table::new(TableKind::Gpt, 512, partitions);
        let report = DiskReport { table: Some(table), ..DiskReport::default() };
        let windows: Vec<Extent> = windows.iter().map(|(at, count)| extent(at * 512, count * 512)).collect();
        let cut = layout(&report, 8192, 512).cut(&windows, 512);
        let sum = |extents: &[Extent]| extents.iter().map(|one| one.length).sum::<u64>();
        let parts: Vec<Extent> = cut.iter().map(|(part, _)| *part).collect();
        proptest::prop_assert_eq!(sum(&parts), sum(&windows));
        for (part, _) in cut.iter().filter(|(_, kind)| *kind == Kind::Table) {
            proptest::prop_assert!(part.start % 512 == 0 && part.length % 512 == 0);
            for (start, length) in &holes {
                proptest::prop_assert!(*length == 0 || part.start + part.length <= *start || start + length <= part.start);
            }
        }
    }
}
