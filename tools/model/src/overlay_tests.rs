use super::*;
use crate::build::build;
use crate::foreign::exit;
use contract::facts::{Block, Dm, Facts, Hardware, Md, Mount, Partition, Swap};
use ondisk::volume::Volume;
use ondisk::volume::mdraid::{Level, Metadata, Newer, Role, Superblock};
use ondisk::{DiskReport, Health, Signature};
use std::collections::BTreeMap;

const GIB: u64 = 1 << 30;

/// A machine that a test makes up piece by piece.
#[derive(Default)]
struct Machine {
    facts: Facts,
    observed: BTreeMap<String, Observed>,
}

impl Machine {
    /// `sda` with so many partitions of 1 GiB.
    fn disk(mut self, name: &str, parts: u32) -> Machine {
        let seq = self.facts.blocks.iter().filter(|block| block.partition.is_none()).count() as u64 + 1;
        let disk = Block {
            name: name.to_string(),
            major: 8,
            minor: 16 * u32::try_from(seq).unwrap(),
            diskseq: Some(seq),
            size: 8 * GIB,
            read_only: true,
            hardware: Hardware { path: Some(format!("pci0000:00/{name}")), ..Hardware::default() },
            ..Block::default()
        };
        self.facts.blocks.push(disk.clone());
        for number in 1..=parts {
            let start = u64::from(number) << 20;
            let partition = Partition { disk: name.to_string(), number, start };
            self.facts.blocks.push(Block {
                name: format!("{name}{number}"),
                minor: disk.minor + number,
                size: GIB,
                partition: Some(partition),
                ..disk.clone()
            });
        }
        self
    }

    fn virtual_block(mut self, name: &str, slaves: &[&str], change: impl FnOnce(&mut Block)) -> Machine {
        let number = self.facts.blocks.len() as u64;
        let mut block = Block {
            name: name.to_string(),
            major: 250,
            minor: u32::try_from(number).unwrap(),
            diskseq: Some(100 + number),
            size: GIB,
            slaves: slaves.iter().map(|name| name.to_string()).collect(),
            hardware: Hardware { path: Some(format!("virtual/block/{name}")), ..Hardware::default() },
            ..Block::default()
        };
        change(&mut block);
        for lower in &mut self.facts.blocks {
            if slaves.contains(&lower.name.as_str()) {
                lower.holders.push(name.to_string());
            }
        }
        self.facts.blocks.push(block);
        self
    }

    fn array(self, name: &str, members: &[&str], state: &str) -> Machine {
        let members_of = members.iter().map(|name| (name.to_string(), "in_sync".to_string())).collect();
        let md = Md {
            level: "raid1".to_string(),
            array_state: state.to_string(),
            members: members_of,
            ..Md::default()
        };
        self.virtual_block(name, members, |block| block.md = Some(md))
    }

    /// As the steps of a plan leave it.
    fn overlay(self, of: &str, status: &str, for_mount: bool) -> Machine {
        self.overlay_by(of, status, if for_mount { Purpose::Mount } else { Purpose::Overlay })
    }

    fn overlay_by(self, of: &str, status: &str, purpose: Purpose) -> Machine {
        let built = self.build();
        let origin = built.by_path(&format!("/dev/{of}")).unwrap();
        let id = origin.id.0.clone();
        let n = self.facts.blocks.len();
        let (store, name) = (format!("loop{n}"), format!("over-{of}"));
        let file = format!("{}/{name}", paths::OVERLAY);
        let uuid = format!("{OVERLAY_UUID}{}{id}", purpose.mark());
        let dm = Dm { name, uuid, suspended: false };
        let seen = self.observed.get(of).cloned();
        let mut machine = self
            .virtual_block(&store, &[], |block| block.loop_file = Some(file))
            .virtual_block(&format!("dm-{n}"), &[of, &store], |block| {
                (block.dm, block.snapshot) = (Some(dm), Some(status.to_string()));
            });
        if let Some(seen) = seen {
            machine.observed.insert(format!("dm-{n}"), seen);
        }
        if !machine.facts.mounts.iter().any(|mount| mount.target == paths::OVERLAY) {
            machine = machine.mount("tmpfs", paths::OVERLAY, "rw,size=307200k,mode=700");
        }
        machine
    }

    fn mount(mut self, source: &str, target: &str, options: &str) -> Machine {
        self.facts.mounts.push(Mount {
            source: source.to_string(),
            target: target.to_string(),
            super_options: options.to_string(),
            ..Mount::default()
        });
        self
    }

    fn holds(mut self, name: &str, signature: Signature) -> Machine {
        let report = DiskReport { signatures: vec![signature], ..DiskReport::default() };
        self.observed.insert(name.to_string(), Observed::Examined { report: Box::new(report) });
        self
    }

    fn build(&self) -> Storage {
        build(self.facts.clone(), &self.observed, &[])
    }
}

fn signature(format: &str, usage: Usage) -> Signature {
    Signature { uuid: Some("one".to_string()), health: Health::Sound, ..Signature::new(format, usage, 0) }
}

fn ext4() -> Signature {
    signature("ext4", Usage::Filesystem)
}

fn btrfs(member: &str) -> Signature {
    Signature { member_uuid: Some(member.to_string()), ..signature("btrfs", Usage::Filesystem) }
}

fn member(slot: u32) -> Signature {
    let superblock = Superblock {
        array: ondisk::Uuid([7; 16]),
        number: slot,
        role: Role::Active(slot),
        roles: vec![Role::Active(0), Role::Active(1)],
        raid_disks: 2,
        member: Some(ondisk::Uuid([u8::try_from(slot).unwrap(); 16])),
        events: 4,
        offset: 4096,
        data_offset: MIB,
        data_size: GIB - MIB,
        component_size: GIB - MIB,
        name: "rescue:0".to_string(),
        ..Superblock::blank(Metadata::V1_2, Level::Raid1)
    };
    Signature { volume: Some(Volume::Md(superblock)), ..signature("linux_raid_member", Usage::Raid) }
}

const WISH: Wish = Wish { purpose: Purpose::Overlay, whole: false, memory: 600 * MIB };

fn id(storage: &Storage, name: &str) -> Id {
    let is = |device: &&Device| {
        device.block.name == name || device.block.dm.as_ref().is_some_and(|dm| dm.name == name)
    };
    storage.devices.iter().find(is).unwrap_or_else(|| panic!("no {name}")).id.clone()
}

fn made(storage: &Storage, names: &[&str]) -> Result<Vec<String>, Refusal> {
    let ids: Vec<Id> = names.iter().map(|name| id(storage, name)).collect();
    let plan = make(storage, &ids, &WISH)?;
    Ok(plan.overlays.into_iter().map(|(path, _)| path.replace("/dev/mapper/over-", "")).collect())
}

fn texts(steps: &[Step]) -> Vec<String> {
    steps.iter().map(Step::text).collect()
}

/// A mirror on the second partitions, with file systems on the first.
fn server() -> Machine {
    Machine::default()
        .disk("sda", 2)
        .disk("sdb", 2)
        .holds("sda1", ext4())
        .holds("sda2", member(0))
        .holds("sdb2", member(1))
}

#[test]
fn an_overlay_is_a_snapshot_over_a_bounded_file_in_memory() {
    let storage = server().build();
    let plan = make(&storage, &[id(&storage, "sda1")], &WISH).unwrap();
    assert_eq!(
        texts(&plan.steps),
        [
            "modprobe loop",
            "modprobe dm_snapshot",
            "mkdir -p /run/lifeboat/overlay",
            "mount -t tmpfs -o nosuid,nodev,noexec,size=307200k,mode=0700 overlay-store /run/lifeboat/overlay",
            // Three quarters of the 300 MiB.
            "truncate -s 235929600 /run/lifeboat/overlay/over-sda1",
            "losetup --find --show /run/lifeboat/overlay/over-sda1",
            "dmsetup create over-sda1 --uuid LIFEBOAT-OVERLAY-seq:1@1048576 --table '0 2097152 snapshot /dev/sda1 {made} PO 8'",
        ]
    );
    let undone: Vec<Step> = plan.steps.iter().rev().filter_map(Step::inverse).collect();
    assert_eq!(
        texts(&undone),
        [
            "dmsetup remove --retry over-sda1",
            "rm -f /run/lifeboat/overlay/over-sda1",
            "umount -l /run/lifeboat/overlay"
        ]
    );
}

#[test]
fn a_small_device_has_room_for_every_block_to_differ() {
    // 2048 chunks, 8 areas of their places, header, one area ahead and one to spare.
    assert_eq!(store_size(8 * MIB, GIB), (2048 + 8 + 3) * 4096);
    assert_eq!(store_size(u64::MAX, 100 * MIB), 75 * MIB);
}

#[test]
fn a_device_brings_what_belongs_to_it() {
    let pool = |machine: Machine| {
        machine.disk("sdc", 0).disk("sdd", 0).holds("sdc", btrfs("a")).holds("sdd", btrfs("b"))
    };
    let stopped = pool(server()).build();
    let running = pool(server()).array("md0", &["sda2", "sdb2"], "readonly").build();
    // Of which the kernel does not take the superblocks.
    let newer = [("sda2", 0), ("sdb2", 1)].into_iter().fold(server(), |machine, (name, slot)| {
        let mut signature = member(slot);
        let Some(Volume::Md(superblock)) = &mut signature.volume else { panic!("no superblock") };
        superblock.newer = Some(Newer { logical_block: 512, unknown: false });
        machine.holds(name, signature)
    });
    let newer = newer.array("md0", &["sda2", "sdb2"], "readonly").build();
    let cases: &[(&str, &Storage, &[&str], &[&str])] = &[
        ("a partition", &stopped, &["sda1"], &["sda1"]),
        (
            "a disk: its partitions, and the other half of the mirror",
            &stopped,
            &["sda"],
            &["sda1", "sda2", "sdb2"],
        ),
        ("a member: the set", &stopped, &["sdb2"], &["sda2", "sdb2"]),
        ("an array: its members", &running, &["md0"], &["sda2", "sdb2"]),
        ("an array that can be read alone: itself", &newer, &["md0"], &["md0"]),
        ("a member of one that runs", &running, &["sda2"], &["sda2", "sdb2"]),
        ("a device of a btrfs: the others", &stopped, &["sdd"], &["sdc", "sdd"]),
        ("twice the same", &stopped, &["sda1", "sda", "sda1"], &["sda1", "sda2", "sdb2"]),
    ];
    for (label, storage, names, want) in cases {
        assert_eq!(made(storage, names).unwrap(), *want, "{label}");
    }
    let plan = make(&running, &[id(&running, "md0")], &WISH).unwrap();
    assert_eq!(
        (&plan.steps[0].text()[..], &plan.stopped[..]),
        ("mdadm --stop /dev/md0", &["/dev/md0".to_string()][..])
    );
    let plan = make(&stopped, &[id(&stopped, "sdc")], &WISH).unwrap();
    let texts = texts(&plan.steps);
    for wanted in ["btrfs device scan --forget /dev/sdd", "btrfs device scan /dev/mapper/over-sdd"] {
        assert!(texts.contains(&wanted.to_string()), "{wanted} in {texts:?}");
    }
    let whole = Wish { whole: true, ..WISH };
    let plan = make(&stopped, &[id(&stopped, "sda")], &whole).unwrap();
    assert_eq!(plan.overlays, [("/dev/mapper/over-sda".to_string(), "/dev/sda".to_string())]);
}

#[test]
fn what_is_active_on_the_original_is_a_refusal_that_names_it() {
    let swap = |mut machine: Machine, path: &str| {
        let swap = Swap { path: path.to_string(), size: 1, used: 0, priority: 0 };
        machine.facts.swaps.push(swap);
        machine
    };
    let cases = [
        (
            "mounted",
            server().mount("/dev/sda1", "/mnt", "rw"),
            "sda1",
            "/dev/sda1 is in use: mounted at /mnt",
        ),
        (
            "its disk is",
            server().mount("/dev/sda", "/mnt", "rw"),
            "sda1",
            "/dev/sda is in use: mounted at /mnt",
        ),
        ("swap", swap(server(), "/dev/sdb1"), "sdb1", "/dev/sdb1 is in use: swap"),
        (
            "an array that is written",
            server().array("md0", &["sda2", "sdb2"], "active"),
            "sda2",
            "/dev/md0 runs for writing: rescue assemble --stop /dev/md0 first",
        ),
        (
            "an array that is mounted",
            server().array("md0", &["sda2", "sdb2"], "readonly").mount("/dev/md0", "/mnt", "ro"),
            "md0",
            "/dev/md0 is in use: mounted at /mnt",
        ),
        (
            "a volume on it",
            server().virtual_block("dm-0", &["sda1"], |block| {
                block.dm = Some(Dm { name: "vg-root".to_string(), ..Dm::default() });
            }),
            "sda1",
            "/dev/sda1 is in use: part of /dev/mapper/vg-root",
        ),
        (
            "a partition of the disk",
            server().mount("/dev/sdb1", "/a b", "ro"),
            "sdb1",
            "/dev/sdb1 is in use: mounted at /a b",
        ),
    ];
    for (label, machine, name, want) in cases {
        let storage = machine.build();
        let refusal = make(&storage, &[id(&storage, name)], &WISH).unwrap_err();
        assert_eq!(refusal.to_string(), want, "{label}");
        assert!(
            matches!(usage(&storage, storage.get(&id(&storage, name)).unwrap()), Some(Use::Direct { .. })),
            "{label}"
        );
    }
}

#[test]
fn an_original_with_an_overlay_is_used_by_no_verb_and_its_neighbour_is() {
    let storage = server().overlay("sda1", "16/460800 16", false).build();
    let device = |name: &str| storage.get(&id(&storage, name)).unwrap();
    for name in ["sda1", "sda"] {
        let used = Use::Overlay { path: "/dev/mapper/over-sda1".to_string(), of: "/dev/sda1".to_string() };
        assert_eq!(usage(&storage, device(name)), Some(used), "{name}");
        let refusal = consent::writable(&storage, &device(name).id, "dd").unwrap_err().to_string();
        assert!(refusal.contains("rescue overlay --drop /dev/sda1"), "{refusal}");
    }
    assert_eq!(usage(&storage, device("sda2")), None);
    assert_eq!(consent::writable(&storage, &device("sdb1").id, "dd").unwrap().len(), 1);
    // What is done to the overlay reaches no disk, and so needs no consent.
    assert_eq!(consent::writable(&storage, &id(&storage, "over-sda1"), "fsck"), Ok(Vec::new()));
    // Once more is no error, and does nothing.
    assert_eq!(made(&storage, &["sda1"]).unwrap(), [""; 0]);
    let refused = make(&storage, &[id(&storage, "over-sda1")], &WISH);
    assert_eq!(refused, Err(Refusal::IsOverlay("/dev/mapper/over-sda1".to_string())));
}

#[test]
fn an_array_is_made_of_overlays_alone() {
    let one = server().overlay("sda2", "16/460800 16", false).build();
    let over = id(&one, "over-sda2");
    assert_eq!(one.arrays[0].members, [over], "the direct half is left out");
    let both = server().overlay("sda2", "0/8 0", false).overlay("sdb2", "0/8 0", false).build();
    assert_eq!(to_start(&both).count(), 1);
    let judgement = md::judge(&both, &both.arrays[0], &Wishes::default());
    assert_eq!((judgement.present, &judgement.refusal, judgement.left_out.len()), (2, &None, 0));
    let name = md::Names::of(&both).choose(&judgement, None);
    assert_eq!(
        texts(&start(&both, &judgement, &name, Purpose::Overlay, "rescue overlay /dev/md0").unwrap()),
        [
            "modprobe raid1",
            "mdadm --assemble --run --readonly /dev/md0 /dev/dm-6 /dev/dm-8",
            "mdadm --action=frozen /dev/md0",
            "mdadm --readwrite /dev/md0",
        ]
    );
}

/// The same mirror, taken to pieces in the middle of a reshape.
fn reshaping() -> Machine {
    let reshape = ondisk::volume::mdraid::Reshape {
        position: MIB,
        delta_disks: 0,
        new_level: 1,
        new_layout: 0,
        new_chunk: 65536,
    };
    let of = |slot| {
        let mut signature = member(slot);
        if let Some(Volume::Md(superblock)) = &mut signature.volume {
            superblock.reshape = Some(reshape);
        }
        signature
    };
    server().holds("sda2", of(0)).holds("sdb2", of(1))
}

#[test]
fn what_assemble_reads_as_a_copy_stands_on_overlays_of_every_member_and_is_not_written() {
    let machine = reshaping();
    let storage = machine.build();
    let judgement = md::judge(&storage, &storage.arrays[0], &Wishes::default());
    assert_eq!((judgement.writes, &judgement.refusal), (Some(md::Writes::Reshape), &None));
    let ids: Vec<Id> = judgement.members.iter().map(|member| member.id.clone()).collect();
    let plan = for_assembly(&storage, &ids, 600 * MIB).unwrap();
    let over = |name: &str| (format!("/dev/mapper/over-{name}"), format!("/dev/{name}"));
    assert_eq!(plan.overlays, [over("sda2"), over("sdb2")]);
    assert!(plan.steps.iter().any(|step| step.text().contains("LIFEBOAT-OVERLAY-ASSEMBLE-seq:")));
    let machine =
        machine.overlay_by("sda2", "0/8 0", Purpose::Assemble).overlay_by("sdb2", "0/8 0", Purpose::Assemble);
    let both = machine.build();
    assert_eq!(to_start(&both).count(), 0, "rescue overlay leaves it to rescue assemble");
    assert_eq!(for_assembly(&both, &both.arrays[0].members, 0).unwrap(), Plan::default(), "they are there");
    let found = md::judge(&both, &both.arrays[0], &Wishes::default());
    let name = md::Names::of(&both).choose(&found, None);
    assert_eq!(
        texts(&start(&both, &found, &name, Purpose::Assemble, "rescue assemble").unwrap()),
        [
            "modprobe raid1",
            "mdadm --assemble --run --readonly /dev/md0 /dev/dm-6 /dev/dm-8",
            "mdadm --action=frozen /dev/md0",
        ],
        "it stays read-only, and the reshape where it is"
    );
    let running = machine.array("md0", &["dm-6", "dm-8"], "readonly").build();
    let md0 = running.by_path("/dev/md0").unwrap();
    assert!(is_for_reading(&running, md0));
    let refusal = consent::writable(&running, &md0.id, "mount").unwrap_err().to_string();
    assert!(refusal.starts_with("/dev/md0 is a copy in memory"), "{refusal}");
    assert!(consent::writable(&running, &id(&running, "sda1"), "mount").is_ok(), "its neighbour is not");
    let refusal = make(&running, &[id(&running, "sda2")], &WISH).unwrap_err().to_string();
    assert!(refusal.contains("rescue overlay --drop /dev/sda2"), "{refusal}");
}

#[test]
fn a_copy_for_reading_is_refused_where_it_would_be_wrong_or_cannot_be() {
    let member = |storage: &Storage| id(storage, "sda2");
    let refused = |machine: Machine, memory: u64| {
        let storage = machine.build();
        for_assembly(&storage, &[member(&storage)], memory).unwrap_err().to_string()
    };
    let cases = [
        ("no memory", server(), 10 * MIB, "10M of memory are free, and an overlay takes 16M at least"),
        (
            "full store",
            server().overlay("sda1", "614400/614400 8", false),
            GIB,
            "the store in memory is full: rescue overlay shows by what, and --drop makes room",
        ),
        ("mounted", server().mount("/dev/sda2", "/mnt", "ro"), GIB, "/dev/sda2 is in use: mounted at /mnt"),
        (
            "active",
            server().virtual_block("dm-0", &["sda2"], |block| {
                block.dm = Some(Dm { name: "vg-root".to_string(), ..Dm::default() });
            }),
            GIB,
            "/dev/sda2 is in use: part of /dev/mapper/vg-root",
        ),
    ];
    for (label, machine, memory, want) in cases {
        assert_eq!(refused(machine, memory), want, "{label}");
    }
}

#[test]
fn stopping_what_was_assembled_leaves_no_overlay_of_it_and_no_other_overlay_goes() {
    let own = |machine: Machine| {
        machine.overlay_by("sda2", "0/8 0", Purpose::Assemble).overlay_by("sdb2", "0/8 0", Purpose::Assemble)
    };
    let left = |machine: &Machine, gone: &[&str]| {
        let gone = gone.iter().map(|path| path.to_string()).collect();
        texts(&left_by_assembly(&machine.build(), &gone).steps)
    };
    let set = [
        "dmsetup remove --retry over-sda2",
        "rm -f /run/lifeboat/overlay/over-sda2",
        "dmsetup remove --retry over-sdb2",
        "rm -f /run/lifeboat/overlay/over-sdb2",
    ];
    let running = own(server()).array("md0", &["dm-6", "dm-8"], "readonly");
    assert_eq!(left(&running, &[]), [""; 0], "it runs");
    let stopped = left(&running, &["/dev/md0"]);
    assert_eq!(stopped[..4], set);
    assert_eq!(stopped[4..], ["umount -l /run/lifeboat/overlay"], "nobody else has an overlay");
    assert_eq!(left(&own(server()), &[])[..4], set, "one that was stopped by hand");
    assert_eq!(left(&own(server()).overlay("sda1", "0/8 0", false), &[]), set, "a person's stays");
    let used = own(server()).mount("/dev/mapper/over-sda2", "/mnt", "ro");
    assert_eq!(left(&used, &[]), [""; 0], "all of a set or none");
}

#[test]
fn the_store_is_bounded_by_the_memory_that_is_free() {
    let storage = server().build();
    let with = |memory| make(&storage, &[id(&storage, "sda1")], &Wish { memory, ..WISH });
    assert_eq!(with(10 * MIB), Err(Refusal::Memory(10 * MIB)));
    assert!(with(16 * MIB).is_ok());
    // A second overlay takes its room from the same store, however much is free now.
    let storage = server().overlay("sda1", "16/460800 16", false).build();
    let plan = make(&storage, &[id(&storage, "sdb1")], &Wish { memory: 0, ..WISH }).unwrap();
    assert!(!plan.steps.iter().any(|step| matches!(step, Step::Mount { .. })));
    assert_eq!(store(&storage), Some(Store { limit: 300 * MIB, used: 8192 }));
    let full = server().overlay("sda1", "614400/614400 16", false).build();
    assert_eq!(make(&full, &[id(&full, "sdb1")], &WISH), Err(Refusal::StoreFull));
}

#[test]
fn a_full_and_a_lost_overlay_are_problems_with_what_to_do() {
    let cases = [("Overflow", Room::Full, "is full"), ("Invalid", Room::Lost, "is lost")];
    for (status, room, words) in cases {
        let storage = server().overlay("sda1", status, false).build();
        assert_eq!(list(&storage)[0].room, room);
        let problem = &storage.problems[0];
        assert!(problem.text.contains(words) && problem.text.contains("--drop /dev/sda1"), "{problem:?}");
    }
    assert_eq!(server().overlay("sda1", "8/80 8", false).build().problems, []);
    let both = server().overlay("sda1", "8/80 8", false).mount("/dev/sda1", "/mnt", "ro").build();
    assert!(both.problems[0].text.contains("beside its overlay"), "{:?}", both.problems);
}

/// Each of these checkers ended with "errors mended".
#[test]
fn what_a_checker_wrote_to_a_full_copy_is_trouble_whatever_it_ended_with() {
    let mended = || crate::fsck::Verdict { bits: exit::CORRECTED, lines: Vec::new() };
    let room = "8/80 8";
    let again = |of: &str| format!("says nothing of {of}; rescue overlay --drop {of}, free memory");
    let on_array = |status: &str| {
        let machine = server().overlay("sda2", room, false).overlay("sdb2", status, false);
        machine.array("md0", &["dm-6", "dm-8"], "clean")
    };
    let on_sda1 = |status: &str| server().overlay("sda1", status, false);
    let pool = |status: &str| {
        let machine = Machine::default().disk("sda", 0).disk("sdb", 0);
        let machine = machine.holds("sda", btrfs("1")).holds("sdb", btrfs("2"));
        machine.overlay("sda", room, false).overlay("sdb", status, false)
    };
    let (none, eio) = (None, Some("/dev/dm-6: Input/output error"));
    let cases = [
        ("room is left", on_sda1(room), on_sda1(room), "over-sda1", none, None),
        (
            "full",
            on_sda1(room),
            on_sda1("Overflow"),
            "over-sda1",
            none,
            Some(("over-sda1 is full, and not all that fsck.fat wrote", again("/dev/sda1"))),
        ),
        (
            "lost",
            on_sda1(room),
            on_sda1("Invalid"),
            "over-sda1",
            eio,
            Some(("over-sda1 is lost, and nothing that fsck.fat wrote", again("/dev/sda1"))),
        ),
        (
            "it was full before",
            on_sda1("Overflow"),
            on_sda1("Overflow"),
            "over-sda1",
            none,
            Some(("is full", again("/dev/sda1"))),
        ),
        (
            "the kernel does not say",
            on_sda1(room),
            on_sda1("Unknown"),
            "over-sda1",
            none,
            Some(("does not say", again("/dev/sda1"))),
        ),
        ("it is gone", on_sda1(room), server(), "over-sda1", none, Some(("is gone", again("/dev/sda1")))),
        (
            "a write failed for another reason",
            on_sda1(room),
            on_sda1(room),
            "over-sda1",
            eio,
            Some(("not all that fsck.fat wrote is there, /dev/dm-6: Input/output error", again("/dev/sda1"))),
        ),
        ("an array with room", on_array(room), on_array(room), "md0", none, None),
        (
            "an array, of one member",
            on_array(room),
            on_array("Overflow"),
            "md0",
            none,
            Some(("over-sdb2 is full", again("/dev/sdb2"))),
        ),
        (
            "the other device of a pool",
            pool(room),
            pool("Overflow"),
            "over-sda",
            none,
            Some(("over-sdb is full", again("/dev/sdb"))),
        ),
        (
            "another's copy",
            on_sda1(room).overlay("sdb1", room, false),
            on_sda1(room).overlay("sdb1", "Overflow", false),
            "over-sda1",
            none,
            None,
        ),
        ("a disk", on_sda1(room), on_sda1("Overflow"), "sdb1", none, None),
    ];
    for (label, before, after, name, failed, want) in cases {
        let (before, after) = (before.build(), after.build());
        let device = before.get(&id(&before, name)).unwrap();
        let copies = crate::fsck::copies(&before, device);
        let lost = crate::fsck::lost(&copies, &list(&after), failed, "/dev/x", "fsck.fat");
        let verdict = mended().but(lost);
        let bits = exit::CORRECTED | if want.is_some() { exit::TROUBLE } else { 0 };
        assert_eq!(verdict.bits, bits, "{label}: {:?}", verdict.lines);
        assert_eq!(verdict.lines.len(), usize::from(want.is_some()), "{label}: {:?}", verdict.lines);
        if let Some((what, todo)) = want {
            let line = &verdict.lines[0];
            assert!(line.contains(what) && line.contains(&todo), "{label}: {line}");
        }
    }
}

#[test]
fn dropping_takes_the_array_first_and_the_store_last() {
    let machine = server().overlay("sda2", "0/8 0", false).overlay("sdb2", "0/8 0", false);
    let machine = machine.array("md0", &["dm-6", "dm-8"], "clean").overlay("sda1", "0/8 0", false);
    let storage = machine.build();
    let ends = |names: &[&str]| {
        let ids: Vec<Id> = names.iter().map(|name| id(&storage, name)).collect();
        texts(&end(&storage, Some(&ids)).unwrap().steps)
    };
    let set = [
        "mdadm --stop /dev/md0",
        "dmsetup remove --retry over-sda2",
        "rm -f /run/lifeboat/overlay/over-sda2",
        "dmsetup remove --retry over-sdb2",
        "rm -f /run/lifeboat/overlay/over-sdb2",
    ];
    for name in ["md0", "sda2", "over-sdb2", "sdb"] {
        assert_eq!(ends(&[name]), set, "{name}");
    }
    assert_eq!(ends(&["sda1"]).len(), 2);
    let all = texts(&end(&storage, None).unwrap().steps);
    assert_eq!(all.last().unwrap(), "umount -l /run/lifeboat/overlay");
    let busy = machine.mount("/dev/md0", "/mnt", "rw").build();
    let refusal = end(&busy, Some(&[id(&busy, "sda2")])).unwrap_err().to_string();
    assert_eq!(refusal, "/dev/md0 is in use: mounted at /mnt");
    assert_eq!(end(&busy, Some(&[id(&busy, "sdb1")])), Err(Refusal::None("/dev/sdb1".to_string())));
}

#[test]
fn a_log_is_read_through_an_overlay_that_umount_takes_away() {
    let dirty = || Signature { dirty: true, ..ext4() };
    let machine = server().array("md0", &["sda2", "sdb2"], "readonly").holds("md0", dirty());
    let storage = machine.build();
    assert!(wants_replay(storage.by_path("/dev/md0").unwrap()));
    assert!(!wants_replay(storage.by_path("/dev/sda1").unwrap()));
    // The array stays as it is.
    let (plan, path) = for_reading(&storage, &id(&storage, "md0"), 600 * MIB).unwrap();
    assert_eq!((path.as_str(), plan.stopped.len()), ("/dev/mapper/over-md0", 0));
    assert!(plan.steps.iter().any(|step| step.text().contains("LIFEBOAT-OVERLAY-MOUNT-seq:")));
    let machine = machine.overlay("md0", "16/460800 16", true);
    let storage = machine.build();
    let again = for_reading(&storage, &id(&storage, "md0"), 0).unwrap();
    assert_eq!(again, (Plan::default(), path.clone()));
    assert_eq!(left_by_mount(&storage, &path), [id(&storage, "over-md0")]);
    assert_eq!(left_by_mount(&machine.mount(&path, "/mnt", "ro").build(), &path), []);
    let asked = server().overlay("sda1", "16/460800 16", false).build();
    assert_eq!(left_by_mount(&asked, "/dev/mapper/over-sda1"), [], "a person drops it");
}

#[test]
fn the_log_of_what_is_mounted_is_in_use_and_its_overlay_goes_with_the_mount() {
    let mounted = server().mount("/dev/sda1", "/mnt", "rw,logdev=/dev/sdb1,noquota");
    assert!(matches!(made(&mounted.build(), &["sdb1"]), Err(Refusal::InUse { .. })));
    let machine = || server().overlay("sda1", "16/1024 16", true).overlay("sdb1", "16/1024 16", true);
    let (data, log) = ("/dev/mapper/over-sda1", "/dev/mapper/over-sdb1");
    let used = machine().mount(data, "/mnt", &format!("ro,logdev={log}")).build();
    let storage = machine().build();
    for path in [data, log] {
        assert!(left_by_mount(&used, path).is_empty(), "{path}");
        assert_eq!(left_by_mount(&storage, path).len(), 1, "{path}");
    }
}

#[test]
fn a_btrfs_of_several_devices_is_overlaid_and_dropped_as_one() {
    let dirty = |member: &str| Signature { dirty: true, ..btrfs(member) };
    let machine =
        Machine::default().disk("sda", 0).disk("sdb", 0).holds("sda", dirty("a")).holds("sdb", dirty("b"));
    let storage = machine.build();
    let (plan, path) = for_reading(&storage, &id(&storage, "sdb"), GIB).unwrap();
    assert_eq!((path.as_str(), plan.overlays.len()), ("/dev/mapper/over-sdb", 2));
    let machine = machine.overlay("sda", "0/8 0", true).overlay("sdb", "0/8 0", true);
    let storage = machine.build();
    assert_eq!(left_by_mount(&storage, &path), [id(&storage, "over-sda"), id(&storage, "over-sdb")]);
    let ends = end(&storage, Some(&[id(&storage, "sda")])).unwrap();
    assert_eq!(ends.overlays.len(), 2);
    // mountinfo names one of the two.
    let mounted = machine.mount("/dev/mapper/over-sda", "/mnt", "ro").build();
    assert_eq!(left_by_mount(&mounted, &path), []);
    let names = |list: &[&str]| list.iter().map(|name| name.to_string()).collect::<Vec<_>>();
    assert_eq!(mixed(&storage, &names(&["dm-2", "dm-4"])), None);
    assert!(mixed(&storage, &names(&["dm-2", "sdb"])).is_some());
}

/// Replayed in memory, it would be emptied on the disk.
#[test]
fn what_has_its_journal_on_another_device_gets_no_overlay_to_write_to() {
    let half = || Signature { journal_on: Some("j".to_string()), ..ext4() };
    let machine = server().disk("sdc", 0).disk("sdd", 0).holds("sdc", half());
    let storage = machine.build();
    let refused = Refusal::JournalElsewhere("/dev/sdc".to_string());
    assert_eq!(made(&storage, &["sdc"]), Err(refused.clone()));
    assert_eq!(refused.to_string().lines().count(), 1);
    let (ids, refusals) = all(&storage);
    assert!(!ids.contains(&id(&storage, "sdc")) && refusals == [refused], "{refusals:?}");
    let array = server().array("md0", &["sda2", "sdb2"], "readonly").holds("md0", half()).build();
    assert_eq!(made(&array, &["md0"]), Err(Refusal::JournalElsewhere("/dev/md0".to_string())));
    // The driver of xfs takes the log that it is given, and that can be an overlay as well.
    let log = Signature { format: "xfs".to_string(), ..half() };
    assert_eq!(made(&machine.holds("sdc", log).build(), &["sdc"]), Ok(vec!["sdc".to_string()]));
}

#[test]
fn all_is_every_device_with_something_on_it_that_is_free() {
    let machine = server().disk("sdc", 0).holds("sdb1", ext4()).mount("/dev/sdb1", "/mnt", "ro");
    let storage = machine.build();
    let (ids, refusals) = all(&storage);
    assert_eq!(ids, [id(&storage, "sda1"), id(&storage, "sda2"), id(&storage, "sdb2")]);
    assert_eq!(refusals.len(), 1, "{refusals:?}");
}

#[test]
fn names_are_unique_and_fit() {
    let mut taken = BTreeSet::new();
    let mut named = |name: &str| {
        let storage = Machine::default().disk(name, 0).build();
        super::name(&storage.devices[0], &mut taken)
    };
    assert_eq!(named("cciss!c0d0"), "over-cciss-c0d0");
    assert_eq!((named("sda"), named("sda")), ("over-sda".to_string(), "over-sda-2".to_string()));
    assert!(named(&"ü".repeat(100)).len() <= 127);
}
