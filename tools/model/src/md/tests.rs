use super::*;
use crate::build::build;
use contract::facts::{Block, Facts, Mount};
use ondisk::volume::firmware::Firmware;
use ondisk::volume::mdraid::{Bitmap, Reshape};
use ondisk::{DiskReport, Signature, Usage, Uuid};
use proptest::prelude::*;

const SET: Uuid = Uuid([0xaa; 16]);

/// A member in the making: disk `sda` is number 0.
#[derive(Clone, Debug)]
struct Made {
    name: String,
    superblock: Superblock,
    health: Health,
    block: Block,
}

fn made(number: u32, level: Level, disks: u32) -> Made {
    let letter = char::from(b'a' + u8::try_from(number).unwrap());
    let name = format!("sd{letter}");
    let superblock = Superblock {
        offset: 4096,
        array: SET,
        member: Some(Uuid([u8::try_from(number).unwrap() + 1; 16])),
        name: "host:2".to_string(),
        layout: if level == Level::Raid10 { 0x102 } else { 2 },
        chunk: 64 << 10,
        raid_disks: disks,
        component_size: 1 << 29,
        data_offset: 1 << 20,
        data_size: 1 << 29,
        number,
        role: Role::Active(number),
        roles: (0..disks).map(Role::Active).collect(),
        events: 100,
        clean: true,
        resync_offset: u64::MAX,
        ..Superblock::blank(Metadata::V1_2, level)
    };
    let block = Block {
        name: name.clone(),
        major: 8,
        minor: 16 * number,
        diskseq: Some(u64::from(number) + 1),
        size: 1 << 30,
        read_only: true,
        hardware: contract::facts::Hardware {
            path: Some(format!("pci0000:00/{name}")),
            ..Default::default()
        },
        ..Block::default()
    };
    Made { name, superblock, health: Health::Sound, block }
}

fn whole(level: Level, disks: u32) -> Vec<Made> {
    (0..disks).map(|number| made(number, level, disks)).collect()
}

/// The others' tables say that a member is gone.
fn removed_by(members: &mut [Made], gone: usize, by: &[usize]) {
    for writer in by {
        let slot = members[gone].superblock.number as usize;
        members[*writer].superblock.roles[slot] = Role::Spare;
    }
}

fn storage(members: &[Made]) -> Storage {
    let signature = |made: &Made| Signature {
        health: made.health.clone(),
        volume: Some(Volume::Md(made.superblock.clone())),
        ..Signature::new("linux_raid_member", Usage::Raid, 0)
    };
    let report = |made: &Made| Observed::Examined {
        report: Box::new(DiskReport { signatures: vec![signature(made)], ..DiskReport::default() }),
    };
    let facts = Facts { blocks: members.iter().map(|made| made.block.clone()).collect(), ..Facts::default() };
    build(facts, &members.iter().map(|made| (made.name.clone(), report(made))).collect(), &[])
}

fn judged(members: &[Made]) -> Judgement {
    judged_with(members, &[], false)
}

fn judged_with(members: &[Made], with: &[&str], writable: bool) -> Judgement {
    let storage = storage(members);
    let with: Vec<Id> = with.iter().map(|path| storage.by_path(path).unwrap().id.clone()).collect();
    judge(&storage, &storage.arrays[0], &Wishes { writable, with: &with })
}

fn used(judgement: &Judgement) -> Vec<&str> {
    judgement.members.iter().map(|member| member.path.as_str()).collect()
}

fn why<'a>(judgement: &'a Judgement, path: &str) -> Option<&'a Why> {
    judgement.left_out.iter().find(|left| left.path == path).map(|left| &left.why)
}

#[test]
fn a_whole_array_of_each_level_is_started() {
    for level in
        [Level::Linear, Level::Raid0, Level::Raid1, Level::Raid4, Level::Raid5, Level::Raid6, Level::Raid10]
    {
        let judgement = judged(&whole(level, 4));
        assert_eq!(judgement.refusal, None, "{level:?}");
        assert_eq!(used(&judgement), ["/dev/sda", "/dev/sdb", "/dev/sdc", "/dev/sdd"], "{level:?}");
        assert_eq!((judgement.present, judgement.wanted), (4, 4), "{level:?}");
    }
}

#[test]
fn a_degraded_array_is_started_where_every_block_is_there() {
    // Level, layout, slots that are gone, dirty, started.
    let near2 = 0x102;
    let far2 = 0x201;
    let offset2 = 0x10201;
    let cases: &[(Level, u32, &[usize], bool, bool)] = &[
        (Level::Linear, 0, &[3], false, false),
        (Level::Raid0, 0, &[0], false, false),
        (Level::Raid1, 0, &[0, 1, 2], true, true),
        (Level::Raid4, 0, &[0], false, true),
        (Level::Raid4, 0, &[0], true, false),
        (Level::Raid4, 0, &[3], true, true),
        (Level::Raid5, 2, &[1], false, true),
        (Level::Raid5, 2, &[1], true, false),
        (Level::Raid5, 2, &[1, 2], false, false),
        (Level::Raid6, 2, &[1, 2], false, true),
        (Level::Raid6, 2, &[1], true, false),
        (Level::Raid6, 2, &[0, 1, 2], false, false),
        (Level::Raid10, near2, &[0, 2], false, true),
        (Level::Raid10, near2, &[0, 2], true, true),
        (Level::Raid10, near2, &[0, 1], false, false),
        (Level::Raid10, far2, &[0, 2], false, true),
        (Level::Raid10, far2, &[1, 2], false, false),
        (Level::Raid10, offset2, &[0, 3], false, false),
    ];
    for (level, layout, gone, dirty, started) in cases {
        let mut members = whole(*level, 4);
        for made in &mut members {
            (made.superblock.layout, made.superblock.clean) = (*layout, !dirty);
        }
        let mut place = 0..;
        members.retain(|_| !gone.contains(&place.next().unwrap()));
        let judgement = judged(&members);
        let label = format!("{level:?} {layout:#x} without {gone:?}, dirty {dirty}: {:?}", judgement.refusal);
        assert_eq!(judgement.refusal.is_none(), *started, "{label}");
        assert_eq!(judgement.missing.iter().map(|slot| *slot as usize).collect::<Vec<_>>(), *gone, "{label}");
        if *dirty && !started {
            assert!(matches!(judgement.refusal, Some(Refusal::DirtyDegraded { .. })), "{label}");
        }
    }
}

#[test]
fn a_stale_member_is_left_out_and_named() {
    // How far behind, whether the others threw it out, why it is left out.
    let cases = [
        ("one event behind and still counted on", 1, false, None),
        ("one event behind and thrown out", 1, true, Some(Why::Removed)),
        ("two behind and still counted on", 2, false, Some(Why::Behind(2))),
        ("six behind and thrown out", 6, true, Some(Why::Behind(6))),
        ("as fresh as the others and thrown out", 0, true, Some(Why::Removed)),
    ];
    for (label, behind, thrown_out, want) in cases {
        for metadata in [Metadata::V0_90, Metadata::V1_2] {
            let mut members = whole(Level::Raid1, 3);
            for made in &mut members {
                made.superblock.metadata = metadata;
                made.superblock.offset = 1 << 30;
            }
            members[1].superblock.events -= behind;
            if thrown_out {
                removed_by(&mut members, 1, &[0, 2]);
            }
            let judgement = judged(&members);
            assert_eq!(why(&judgement, "/dev/sdb"), want.as_ref(), "{label}, {metadata:?}");
            assert_eq!(judgement.refusal, None, "{label}");
            assert_eq!(judgement.present, if want.is_none() { 3 } else { 2 }, "{label}");
        }
    }
}

#[test]
fn what_is_wrong_with_an_array_is_a_problem() {
    let texts = |members: &[Made]| -> Vec<String> {
        storage(members)
            .problems
            .iter()
            .map(|problem| format!("{:?}: {}", problem.severity, problem.text))
            .collect()
    };
    assert_eq!(texts(&whole(Level::Raid1, 2)), [""; 0]);
    let mut stale = whole(Level::Raid1, 2);
    stale[1].superblock.events -= 2;
    assert_eq!(
        texts(&stale),
        [
            "Warning: array host:2 (raid1) is degraded: 1 of 2 members; /dev/sdb is left out: stale, behind by 2 events"
        ]
    );
    let mut lost = whole(Level::Raid5, 3);
    lost.truncate(1);
    assert_eq!(
        texts(&lost),
        [
            "Error: array host:2 (raid5) cannot be started as it is: 1 of 3 members are there and current, and raid5 are \
          not enough"
        ]
    );
}

#[test]
fn a_degraded_array_that_runs_is_a_problem_too() {
    let mut members = whole(Level::Raid1, 2);
    members[1].superblock.events -= 2;
    let array = |degraded: u32, action: &str| Md {
        level: "raid1".to_string(),
        array_state: "readonly".to_string(),
        sync_action: Some(action.to_string()),
        uuid: Some(SET.to_string()),
        raid_disks: 2,
        degraded,
        members: vec![("sda".to_string(), "in_sync".to_string())],
        ..Md::default()
    };
    let with = |md: Md| {
        let block = Block { name: "md2".to_string(), major: 9, minor: 2, md: Some(md), ..Block::default() };
        let mut blocks: Vec<Block> = members.iter().map(|made| made.block.clone()).collect();
        blocks[0].holders = vec!["md2".to_string()];
        blocks.push(block);
        let seen = storage(&members);
        let observed = members.iter().map(|made| {
            (made.name.clone(), seen.by_path(&format!("/dev/{}", made.name)).unwrap().report.clone())
        });
        let storage = build(Facts { blocks, ..Facts::default() }, &observed.collect(), &[]);
        storage.problems.into_iter().map(|problem| problem.text).collect::<Vec<_>>()
    };
    assert_eq!(
        with(array(1, "idle")),
        ["/dev/md2 (raid1) is degraded: 1 of 2 members; /dev/sdb carries its superblock and is not in it"]
    );
    let rebuilt = with(array(1, "recover"));
    assert!(rebuilt[0].contains("1 of 2 members, and being rebuilt;"), "{rebuilt:?}");
    assert_eq!(with(array(0, "idle")), [""; 0]);
}

#[test]
fn stale_members_do_not_make_an_array_enough() {
    let mut members = whole(Level::Raid5, 3);
    for stale in [1, 2] {
        members[stale].superblock.events -= 10;
        removed_by(&mut members, stale, &[0]);
    }
    let judgement = judged(&members);
    let few = Refusal::TooFew { level: Level::Raid5, present: 1, wanted: 3 };
    assert_eq!(judgement.refusal, Some(few));
    assert_eq!(
        judgement.refusal.as_ref().unwrap().advice(&judgement, "/dev/md2").unwrap(),
        "rescue writable /dev/sda /dev/sdb /dev/sdc && \
         mdadm --assemble --force /dev/md2 /dev/sda /dev/sdb /dev/sdc"
    );
}

#[test]
fn two_halves_that_both_went_on_wait_for_a_choice() {
    let mut members = whole(Level::Raid1, 2);
    removed_by(&mut members, 0, &[1]);
    removed_by(&mut members, 1, &[0]);
    for events in [100, 90, 120] {
        members[1].superblock.events = events;
        let judgement = judged(&members);
        let Some(Refusal::Split(halves)) = &judgement.refusal else { panic!("{events}: {judgement:?}") };
        assert_eq!(halves.len(), 2, "{events}");
        for chosen in ["/dev/sda", "/dev/sdb"] {
            let judgement = judged_with(&members, &[chosen], false);
            assert_eq!(judgement.refusal, None, "{chosen} at {events}");
            assert_eq!(used(&judgement), [chosen], "{events}");
            let other = if chosen == "/dev/sda" { "/dev/sdb" } else { "/dev/sda" };
            assert_eq!(why(&judgement, other), Some(&Why::OtherHalf), "{events}");
        }
    }
}

#[test]
fn a_half_that_could_not_run_alone_is_no_split() {
    let mut members = whole(Level::Raid5, 3);
    members[2].superblock.events -= 10;
    removed_by(&mut members, 2, &[0, 1]);
    removed_by(&mut members, 0, &[2]);
    removed_by(&mut members, 1, &[2]);
    let judgement = judged(&members);
    assert_eq!(judgement.refusal, None);
    assert_eq!(used(&judgement), ["/dev/sda", "/dev/sdb"]);
    assert_eq!(why(&judgement, "/dev/sdc"), Some(&Why::OtherHalf));
}

#[test]
fn the_old_half_is_started_when_a_person_asks_for_it() {
    let mut members = whole(Level::Raid1, 2);
    members[1].superblock.events -= 6;
    removed_by(&mut members, 1, &[0]);
    let judgement = judged_with(&members, &["/dev/sdb"], false);
    assert_eq!((used(&judgement), judgement.refusal.clone()), (vec!["/dev/sdb"], None));
    assert_eq!(why(&judgement, "/dev/sda"), Some(&Why::Newer));
}

#[test]
fn copies_of_one_member_are_a_conflict_until_one_is_chosen() {
    let mut members = whole(Level::Raid1, 2);
    let mut copy = members[1].clone();
    (copy.name, copy.block.name, copy.block.diskseq) = ("sdx".to_string(), "sdx".to_string(), Some(9));
    members.push(copy);
    let twins = vec!["/dev/sdb".to_string(), "/dev/sdx".to_string()];
    assert_eq!(judged(&members).refusal, Some(Refusal::Twins(twins)));
    let judgement = judged_with(&members, &["/dev/sdx"], false);
    assert_eq!((used(&judgement), judgement.refusal.clone()), (vec!["/dev/sda", "/dev/sdx"], None));
    members[2].superblock.events -= 1;
    let judgement = judged(&members);
    assert_eq!((used(&judgement), judgement.refusal.clone()), (vec!["/dev/sda", "/dev/sdb"], None));
    assert_eq!(why(&judgement, "/dev/sdx"), Some(&Why::CopyOf("/dev/sdb".to_string())));
}

#[test]
fn what_cannot_be_believed_or_had_is_left_out_with_its_reason() {
    type Change = fn(&mut Made);
    let cases: &[(&str, Change, Why)] = &[
        (
            "torn",
            |m| m.health = Health::Damaged("checksum".to_string()),
            Why::Damaged("checksum".to_string()),
        ),
        ("cut", |m| m.block.size = 1 << 29, Why::Short),
        ("failed", |m| m.superblock.role = Role::Faulty, Why::Failed),
        ("another slot", |m| m.superblock.role = Role::Active(0), Why::Slot),
        ("another layout", |m| m.superblock.layout = 5, Why::Shape),
        ("a half-taken spare", |m| m.superblock.role = Role::Spare, Why::Unfinished),
        ("a stray journal", |m| m.superblock.role = Role::Journal, Why::NoJournal),
        (
            "says that the freshest failed",
            |m| {
                m.superblock.events -= 1;
                m.superblock.roles[0] = Role::Faulty;
            },
            Why::Disagrees("/dev/sda".to_string()),
        ),
    ];
    for (label, change, want) in cases {
        let mut members = whole(Level::Raid5, 3);
        change(&mut members[1]);
        let judgement = judged(&members);
        assert_eq!(why(&judgement, "/dev/sdb"), Some(want), "{label}");
        assert_eq!((judgement.present, judgement.refusal.clone()), (2, None), "{label}");
    }
}

#[test]
fn a_member_that_is_used_by_another_is_left_out() {
    let members = whole(Level::Raid1, 2);
    let mut storage = storage(&members);
    storage.mounts.push(Mount { major: 8, minor: 16, target: "/mnt".to_string(), ..Mount::default() });
    let judgement = judge(&storage, &storage.arrays[0], &Wishes::default());
    assert_eq!(why(&judgement, "/dev/sdb"), Some(&Why::InUse("/mnt".to_string())));
}

#[test]
fn what_is_not_started_is_refused_with_its_reason() {
    let reshape = Reshape { position: 0, delta_disks: 1, new_level: 5, new_layout: 2, new_chunk: 65536 };
    type Change = fn(&mut Superblock);
    let mut cases: Vec<(&str, Change, bool, Option<Refusal>)> = vec![
        ("reshape", |s| s.reshape = None, false, None),
        ("journal gone", |s| s.journal = true, true, Some(Refusal::JournalMissing)),
        ("ppl and bad blocks", |s| (s.ppl, s.bad_blocks) = (true, true), false, None),
        ("ppl", |s| s.ppl = true, false, None),
        ("ppl, for writing", |s| s.ppl = true, true, None),
        ("cluster", |s| s.feature_map |= CLUSTERED, false, Some(Refusal::Clustered)),
        ("unknown", |s| s.feature_map |= 1 << 20, false, Some(Refusal::Features(1 << 20))),
        ("container", |s| s.level = Level::Container, false, Some(Refusal::Level(Level::Container))),
        ("multipath", |s| s.level = Level::Multipath, false, Some(Refusal::Level(Level::Multipath))),
        ("no disks", |s| s.raid_disks = 0, false, Some(Refusal::Contradiction("its number of members"))),
    ];
    for (label, change, writable, want) in cases.drain(..) {
        let mut members = whole(Level::Raid5, 3);
        members.iter_mut().for_each(|made| change(&mut made.superblock));
        assert_eq!(judged_with(&members, &[], writable).refusal, want, "{label}");
    }
    let mut members = whole(Level::Raid5, 3);
    members.iter_mut().for_each(|made| made.superblock.reshape = Some(reshape));
    let judgement = judged_with(&members, &[], true);
    assert_eq!(judgement.refusal, Some(Refusal::Reshape));
    assert_eq!(
        Refusal::Reshape.advice(&judgement, "/dev/md2").unwrap(),
        "rescue writable /dev/sda /dev/sdb /dev/sdc && mdadm --assemble /dev/md2 /dev/sda /dev/sdb /dev/sdc"
    );
}

#[test]
fn what_the_kernel_writes_to_as_it_starts_is_read_as_a_copy() {
    let reshape = Reshape { position: 0, delta_disks: 1, new_level: 5, new_layout: 2, new_chunk: 65536 };
    type Change<'a> = &'a dyn Fn(&mut Superblock);
    let cases: &[(&str, Change<'_>, Option<Writes>)] = &[
        ("plain", &|_| {}, None),
        ("reshape", &|s| s.reshape = Some(reshape), Some(Writes::Reshape)),
        ("ppl", &|s| s.ppl = true, None),
        ("ppl and bad blocks", &|s| (s.ppl, s.bad_blocks) = (true, true), Some(Writes::Ppl)),
    ];
    for (label, change, want) in cases {
        let mut members = whole(Level::Raid5, 3);
        members.iter_mut().for_each(|made| change(&mut made.superblock));
        let judgement = judged(&members);
        assert_eq!((judgement.writes, judgement.refusal), (*want, None), "{label}");
        assert!(want.is_none() || !judgement.bare, "{label}: a copy is started by its superblocks");
        assert_eq!(judged_with(&members, &[], true).writes, None, "{label}, for writing");
        // What is refused for itself is not copied.
        let short = judged(&members[..1]);
        assert!(matches!(short.refusal, Some(Refusal::TooFew { .. })), "{label}: {:?}", short.refusal);
    }
}

#[test]
fn an_array_that_reading_would_write_to_is_read_past_its_superblocks() {
    // Events and marks of the bitmap on the freshest member, for writing; read past the superblocks, what is said. The
    // set is at 100.
    let cases = [
        (Some(100), false, false, false, None),
        (Some(100), true, false, true, None),
        (Some(100), true, true, false, None),
        (Some(99), false, false, true, None),
        (Some(99), false, true, false, None),
        (None, true, false, true, None),
        (None, true, true, false, Some(Refusal::BitmapDamaged)),
    ];
    for (events, marked, writable, bare, want) in cases {
        let label = format!("{events:?} {marked} {writable}");
        let mut members = whole(Level::Raid1, 2);
        members[1].superblock.events = 99;
        members[0].superblock.bitmap_log = Some(Bitmap { offset: 4096, events, marked });
        let judgement = judged_with(&members, &[], writable);
        assert_eq!((judgement.bare, judgement.refusal), (bare, want), "{label}");
        // That of a member that is one event behind is not what the kernel reads.
        members.iter_mut().zip([99, 100]).for_each(|(made, events)| made.superblock.events = events);
        let judgement = judged_with(&members, &[], writable);
        assert_eq!((judgement.bare, judgement.refusal), (false, None), "{label}");
    }
    let mut members = whole(Level::Raid1, 2);
    members[0].superblock.bitmap_log = Some(Bitmap { offset: 4096, events: Some(100), marked: true });
    members[1].superblock.bad_blocks = true;
    let judgement = judged(&members);
    assert_eq!((judgement.writes, judgement.bare, judgement.refusal), (Some(Writes::Bitmap), false, None));
    assert_eq!(judged_with(&members, &[], true).refusal, None);
    // By its superblocks the kernel would not take it, and neither does a copy.
    members[0].superblock.bitmap_log = Some(Bitmap { offset: 4096, events: None, marked: true });
    assert_eq!(judged(&members).refusal, Some(Refusal::BitmapDamaged));
}

#[test]
fn superblocks_of_a_later_kernel_are_read_past_and_never_given_to_this_one() {
    let reshape = Reshape { position: 0, delta_disks: 1, new_level: 5, new_layout: 2, new_chunk: 65536 };
    let newer = Newer { logical_block: 512, unknown: false };
    type Change<'a> = &'a dyn Fn(&mut Superblock);
    let cases: &[(&str, Change<'_>, bool)] = &[
        ("plain", &|_| {}, true),
        ("ppl", &|s| s.ppl = true, true),
        ("reshape", &|s| s.reshape = Some(reshape), false),
        ("journal", &|s| s.journal = true, false),
        ("bad blocks", &|s| s.bad_blocks = true, false),
        ("odd size", &|s| s.component_size += 512, false),
    ];
    for (label, change, is_read) in cases {
        let mut members = whole(Level::Raid5, 3);
        members.iter_mut().for_each(|made| change(&mut made.superblock));
        // One that the kernel does not take is enough.
        members[1].superblock.newer = Some(newer);
        let judgement = judged(&members);
        let refusal = (!is_read).then_some(Refusal::Newer(newer));
        assert_eq!((judgement.bare, &judgement.refusal), (*is_read, &refusal), "{label}");
        let judgement = judged_with(&members, &[], true);
        assert_eq!((judgement.bare, &judgement.refusal), (false, &Some(Refusal::Newer(newer))), "{label}");
        assert_eq!(judgement.refusal.as_ref().unwrap().advice(&judgement, "/dev/md2"), None, "{label}");
    }
    assert_eq!(
        Refusal::Newer(newer).to_string(),
        "it was written by Linux 6.19 or later (logical block size 512): this kernel only reads it"
    );
    // What mdadm would do with it the kernel would not either; a choice is ours to offer.
    let mut members = whole(Level::Raid5, 3);
    members.iter_mut().for_each(|made| (made.superblock.newer, made.superblock.clean) = (Some(newer), false));
    let judgement = judged(&members[..2]);
    let Some(refusal @ Refusal::DirtyDegraded { .. }) = &judgement.refusal else { panic!("{judgement:?}") };
    assert_eq!(refusal.advice(&judgement, "/dev/md2"), None);
    let mut copy = members[1].clone();
    (copy.name, copy.block.name, copy.block.diskseq) = ("sdx".to_string(), "sdx".to_string(), Some(9));
    members.push(copy);
    let judgement = judged(&members);
    let advice = judgement.refusal.as_ref().unwrap().advice(&judgement, "/dev/md2");
    assert_eq!(advice.as_deref(), Some("rescue assemble --with /dev/sdb"));
}

#[test]
fn what_is_read_past_the_superblocks_is_told_to_the_kernel() {
    let mut members = whole(Level::Raid5, 4);
    members.iter_mut().for_each(|made| made.superblock.ppl = true);
    members[2].superblock.recovery_offset = Some(0);
    members[0].superblock.events = 101;
    let storage = storage(&members);
    let judgement = judge(&storage, &storage.arrays[0], &Wishes::default());
    let name = Names::of(&storage).choose(&judgement, None);
    let steps = assemble(&storage, &judgement, &name, &Wishes::default(), "test").unwrap();
    let Some(Step::MdStart(start)) = steps.last() else { panic!("{steps:?}") };
    let bare = start.bare.as_ref().unwrap();
    assert_eq!((bare.level.as_str(), bare.raid_disks, bare.layout, bare.chunk), ("raid5", 4, 2, 65536));
    assert_eq!((bare.component_size, bare.in_sync), (1 << 29, None));
    let slots: Vec<_> = start.members.iter().map(|member| (member.slot, member.data_offset)).collect();
    assert_eq!(slots, [(Some(1), 1 << 20), (Some(3), 1 << 20), (Some(0), 1 << 20)]);
}

#[test]
fn a_replacement_is_read_bare_only_alone_and_whole() {
    // How far the replacement of slot 1 was written, whether what it replaces is there; what the kernel is given.
    type Case<'a> = (Option<u64>, bool, &'a [(u32, &'a str)]);
    let cases: &[Case<'_>] = &[
        (Some(4096), true, &[(0, "/dev/sda"), (1, "/dev/sdb"), (2, "/dev/sdc")]),
        (Some(0), false, &[(0, "/dev/sda"), (2, "/dev/sdc")]),
        (None, true, &[(0, "/dev/sda"), (1, "/dev/sdb"), (2, "/dev/sdc")]),
        (None, false, &[(0, "/dev/sda"), (1, "/dev/sdd"), (2, "/dev/sdc")]),
    ];
    for (written, is_there, want) in cases {
        let label = format!("{written:?} {is_there}");
        let mut members = whole(Level::Raid5, 3);
        let mut new = made(3, Level::Raid5, 3);
        new.superblock.role = Role::Active(1);
        new.superblock.feature_map = REPLACEMENT;
        new.superblock.recovery_offset = *written;
        members.push(new);
        for made in &mut members {
            made.superblock.roles.push(Role::Active(1));
            made.superblock.ppl = true;
        }
        if !is_there {
            members.remove(1);
        }
        let storage = storage(&members);
        let judgement = judge(&storage, &storage.arrays[0], &Wishes::default());
        assert_eq!((judgement.bare, &judgement.refusal), (true, &None), "{label}");
        let name = Names::of(&storage).choose(&judgement, None);
        let steps = assemble(&storage, &judgement, &name, &Wishes::default(), "test").unwrap();
        let Some(Step::MdStart(start)) = steps.last() else { panic!("{label}: {steps:?}") };
        let mut given: Vec<_> =
            start.members.iter().map(|member| (member.slot.unwrap(), member.path.as_str())).collect();
        given.sort_unstable();
        assert_eq!(given, *want, "{label}");
        assert_eq!(judgement.present as usize, given.len(), "{label}: no more are counted than are read");
    }
}

#[test]
fn a_journal_is_a_member_of_an_array_that_has_one() {
    let mut members = whole(Level::Raid5, 3);
    members.push(made(3, Level::Raid5, 3));
    for made in &mut members {
        made.superblock.journal = true;
        made.superblock.roles.push(Role::Journal);
        made.superblock.clean = false;
    }
    members[3].superblock.role = Role::Journal;
    let judgement = judged(&members);
    assert_eq!((judgement.writes, judgement.refusal), (Some(Writes::Journal), None));
    assert_eq!(judgement.members.len(), 4, "the journal is read through an overlay, too");
    let judgement = judged_with(&members, &[], true);
    assert_eq!((judgement.refusal, judgement.members[3].part), (None, Part::Journal));
}

#[test]
fn spares_and_members_being_rebuilt_are_used_and_do_not_count() {
    let mut members = whole(Level::Raid5, 3);
    members.push(made(3, Level::Raid5, 3));
    members[3].superblock.role = Role::Spare;
    members[2].superblock.recovery_offset = Some(4096);
    let judgement = judged(&members);
    let parts: Vec<Part> = judgement.members.iter().map(|member| member.part).collect();
    assert_eq!(parts, [Part::InSync(0), Part::InSync(1), Part::Rebuilding(2), Part::Spare]);
    assert_eq!((judgement.present, judgement.refusal.clone()), (2, None));
    members.remove(0);
    assert!(matches!(judged(&members).refusal, Some(Refusal::TooFew { present: 1, .. })));
}

#[test]
fn a_replacement_stands_beside_what_it_replaces() {
    let mut members = whole(Level::Raid1, 2);
    let mut new = made(2, Level::Raid1, 2);
    new.superblock.role = Role::Active(1);
    new.superblock.feature_map = REPLACEMENT;
    new.superblock.recovery_offset = Some(0);
    members.push(new);
    for made in &mut members {
        made.superblock.roles.push(Role::Active(1));
    }
    let judgement = judged(&members);
    assert_eq!((judgement.refusal, judgement.members[2].part), (None, Part::Replacement(1)));
    assert_eq!(judgement.present, 2);
}

#[test]
fn firmware_raid_that_is_not_understood_is_mdadms() {
    let mut storage = storage(&whole(Level::Raid1, 2));
    let Observed::Examined { report } = &mut storage.devices[1].report else { panic!("not examined") };
    report.signatures[0].format = "isw_raid_member".to_string();
    report.signatures[0].volume = None;
    assert_eq!(external(&storage), BTreeMap::from([("Intel firmware RAID", vec!["/dev/sdb"])]));
}

#[test]
fn a_spare_of_firmware_raid_is_none_of_what_is_not_understood() {
    // Its metadata is sound, tells of a volume that could not be read; whether it is a spare.
    let cases = [(Health::Sound, false, true), (Health::Sound, true, false)];
    let torn = (Health::Damaged("checksum".to_string()), false, false);
    for (health, unread, is_spare) in cases.into_iter().chain([torn]) {
        let mut storage = storage(&whole(Level::Raid1, 2));
        let Observed::Examined { report } = &mut storage.devices[1].report else { panic!("not examined") };
        let signature = &mut report.signatures[0];
        signature.format = "ddf_raid_member".to_string();
        signature.volume = Some(Volume::Firmware(Firmware { unread, ..Firmware::default() }));
        signature.health = health.clone();
        let told = BTreeMap::from([("DDF firmware RAID", vec!["/dev/sdb"])]);
        let (mut spare, mut unknown) = (told, BTreeMap::new());
        if !is_spare {
            std::mem::swap(&mut spare, &mut unknown);
        }
        assert_eq!((spares(&storage), external(&storage)), (spare, unknown), "{health:?} {unread}");
    }
}

/// Drives that say of themselves that they are numbers of one set with two volumes, whose superblocks are those of `made`.
fn firmware(made: &[Made], serials: &[&str]) -> Storage {
    let mut storage = storage(made);
    let mut drives = storage.devices.iter_mut().filter(|device| device.report().is_some());
    for serial in serials {
        let device = drives.next().unwrap();
        device.block.hardware.serial = Some((*serial).to_string());
        let Observed::Examined { report } = &mut device.report else { panic!("not examined") };
        let signature = &mut report.signatures[0];
        let Some(Volume::Md(superblock)) = signature.volume.take() else { panic!("no superblock") };
        let volume = |number: u8| {
            let superblock = Superblock {
                metadata: Metadata::Imsm,
                array: Uuid([number; 16]),
                offset: 1 << 40,
                ..superblock.clone()
            };
            let number = u32::from(number);
            let (rebuilding, odd, of_arrays) = (Vec::new(), None, false);
            FirmwareVolume { number, size: Some(4096), rebuilding, odd, of_arrays, superblock }
        };
        let serials = ["A", "B", "C"].map(String::from).to_vec();
        let mut firmware = Firmware { serials, volumes: vec![volume(0), volume(1)], ..Firmware::default() };
        firmware.recognise(serial);
        signature.volume = Some(Volume::Firmware(firmware));
    }
    storage
}

fn of_firmware(storage: &Storage, number: u8) -> Array {
    let members = storage.devices.iter().filter(|device| !arrays_of(device).is_empty());
    let members = members.map(|device| device.id.clone()).collect();
    Array { uuid: Uuid([number; 16]).to_string(), members, device: None }
}

#[test]
fn each_volume_of_firmware_raid_is_read_past_its_metadata() {
    let storage = firmware(&whole(Level::Raid1, 2), &["A", "B"]);
    assert_eq!(arrays_of(&storage.devices[0]).len(), 2);
    for number in [0, 1] {
        let judgement = judge(&storage, &of_firmware(&storage, number), &Wishes::default());
        assert_eq!((&judgement.refusal, judgement.bare, judgement.writes), (&None, true, None));
        assert_eq!(judgement.present, 2);
        let bare = bare(&storage, &judgement).unwrap();
        assert_eq!((bare.volume, bare.size), (Some(number.into()), Some(4096)));
    }
}

#[test]
fn a_drive_of_firmware_raid_is_stale_by_the_others_word_and_not_by_its_number() {
    let mut members = whole(Level::Raid5, 3);
    members[1].superblock.events -= 5;
    let left_out = |members: &[Made]| {
        let storage = firmware(members, &["A", "B", "C"]);
        let judgement = judge(&storage, &of_firmware(&storage, 0), &Wishes::default());
        let left = judgement.left_out.into_iter().map(|left| left.why).collect::<Vec<_>>();
        (judgement.refusal, judgement.present, left)
    };
    assert_eq!(
        left_out(&members),
        (None, 3, vec![]),
        "as power was cut, its copy was the last to be written"
    );
    for at in [0, 2] {
        members[at].superblock.roles[1] = Role::Faulty;
    }
    assert_eq!(left_out(&members), (None, 2, vec![Why::Removed]));
}

#[test]
fn a_drive_that_its_firmware_does_not_know_is_left_out() {
    let storage = firmware(&whole(Level::Raid1, 2), &["A", "copied"]);
    let judgement = judge(&storage, &of_firmware(&storage, 0), &Wishes::default());
    assert_eq!((judgement.refusal, judgement.missing), (None, vec![1]));
    assert_eq!(judgement.left_out.iter().map(|left| &left.why).collect::<Vec<_>>(), [&Why::Stranger]);
}

#[test]
fn a_copy_of_a_firmware_drive_stands_in_for_the_one_that_is_gone_when_it_is_chosen() {
    let chosen = |storage: &Storage, number: usize| {
        let with = [storage.devices[number].id.clone()];
        judge(storage, &of_firmware(storage, 0), &Wishes { writable: false, with: &with })
    };
    let mut members = whole(Level::Raid0, 2);
    let storage = firmware(&members, &["A", "copied"]);
    let judgement = judge(&storage, &of_firmware(&storage, 0), &Wishes::default());
    assert!(judgement.refusal.is_some());
    let judgement = chosen(&storage, 1);
    assert_eq!((judgement.refusal.as_ref(), judgement.present), (None, 2));
    assert_eq!(
        judgement.members.iter().map(|member| member.part.slot()).collect::<Vec<_>>(),
        [Some(0), Some(1)]
    );
    let storage = firmware(&members, &["one", "another"]);
    assert_eq!(chosen(&storage, 1).present, 0, "either may be the first");
    // While all are there nobody knows which one it is a copy of.
    let mut copy = members[1].clone();
    (copy.name, copy.block.name, copy.block.diskseq) = ("sdx".to_string(), "sdx".to_string(), Some(9));
    members.push(copy);
    let storage = firmware(&members, &["A", "B", "copied"]);
    let judgement = chosen(&storage, 2);
    assert_eq!((judgement.refusal, judgement.present), (None, 2));
    assert_eq!(judgement.left_out.iter().map(|left| &left.why).collect::<Vec<_>>(), [&Why::Stranger]);
}

#[test]
fn what_only_mdadm_can_do_with_firmware_raid_is_mdadms() {
    let mut storage = firmware(&whole(Level::Raid1, 2), &["A", "B"]);
    let writable = Wishes { writable: true, with: &[] };
    let judgement = judge(&storage, &of_firmware(&storage, 0), &writable);
    let advice = |judgement: &Judgement| {
        let advice = judgement.refusal.as_ref().and_then(|refusal| refusal.advice(judgement, "/dev/md127"));
        advice.unwrap_or_else(|| panic!("no advice: {judgement:?}"))
    };
    let each = "rescue writable /dev/sda /dev/sdb && for drive in /dev/sda /dev/sdb; \
                do IMSM_NO_PLATFORM=1 mdadm --incremental $drive; done";
    assert_eq!(advice(&judgement), each);
    // One that is not complete mdadm starts when it is told to.
    let lacking = Judgement { missing: vec![2], ..judgement };
    assert_eq!(advice(&lacking), format!("{each} && IMSM_NO_PLATFORM=1 mdadm --incremental --run --scan"));
    let refused = |refusal: Refusal| Judgement { refusal: Some(refusal), ..lacking.clone() };
    let forced = format!(
        "{each}; then, by the names that this prints: mdadm --stop VOLUME; \
         IMSM_NO_PLATFORM=1 mdadm --assemble --force --run VOLUME CONTAINER"
    );
    assert_eq!(advice(&refused(Refusal::DirtyDegraded { present: 2, wanted: 3 })), forced);
    let few = refused(Refusal::TooFew { level: Level::Raid5, present: 1, wanted: 3 });
    assert_eq!(few.refusal.as_ref().unwrap().advice(&few, "/dev/md127"), None);
    for device in &mut storage.devices {
        let Observed::Examined { report } = &mut device.report else { continue };
        let Some(Volume::Firmware(firmware)) = &mut report.signatures[0].volume else { continue };
        firmware.volumes[0].odd = Some("it has a journal".to_string());
    }
    let judgement = judge(&storage, &of_firmware(&storage, 0), &Wishes::default());
    assert_eq!(judgement.refusal, Some(Refusal::Firmware("it has a journal".to_string())));
    assert_eq!(judge(&storage, &of_firmware(&storage, 1), &Wishes::default()).refusal, None);
}

#[test]
fn only_spares_or_only_torn_superblocks_start_nothing() {
    let mut members = whole(Level::Raid1, 2);
    members.iter_mut().for_each(|made| made.superblock.role = Role::Spare);
    assert_eq!(judged(&members).refusal, Some(Refusal::OnlySpares));
    members.iter_mut().for_each(|made| made.health = Health::Damaged("checksum".to_string()));
    let judgement = judged(&members);
    assert_eq!((judgement.refusal, judgement.left_out.len()), (Some(Refusal::NoMember), 2));
}

#[test]
fn an_array_gets_the_number_or_name_that_it_asks_for() {
    // Name, number of 0.90, mdadm.conf; number, link, whether it is not what was asked for.
    type Case = (&'static str, Option<u32>, Option<&'static str>, u32, Option<&'static str>, bool);
    let cases: &[Case] = &[
        ("host:2", None, None, 2, Some("/dev/md/2"), false),
        ("3", None, None, 3, Some("/dev/md/3"), false),
        ("md90", Some(90), None, 90, Some("/dev/md/90"), false),
        ("host:root", None, None, 127, Some("/dev/md/root"), false),
        ("other:root", None, None, 126, None, true),
        ("other:2", None, None, 125, None, true),
        ("", None, None, 124, None, false),
        ("host:../../etc/x y", None, None, 123, Some("/dev/md/_._.._etc_x_y"), false),
        ("host:4000000000", None, None, 122, Some("/dev/md/4000000000"), false),
        ("host:5", None, Some("/dev/md/home"), 121, Some("/dev/md/home"), false),
        ("host:6", None, Some("/dev/md7"), 7, Some("/dev/md/7"), false),
        ("md4294967295", Some(u32::MAX), None, 120, Some("/dev/md/4294967295"), false),
        ("host:9", None, None, 119, None, true),
    ];
    let mut storage = Storage::default();
    let mut block = made(0, Level::Raid1, 2).block;
    block.name = "md9".to_string();
    storage.devices = build(Facts { blocks: vec![block], ..Facts::default() }, &BTreeMap::new(), &[]).devices;
    let mut names = Names::of(&storage);
    let judgement = judged(&whole(Level::Raid1, 2));
    for (name, preferred, configured, number, link, other) in cases {
        let judgement = Judgement { name: name.to_string(), preferred: *preferred, ..judgement.clone() };
        let chosen = names.choose(&judgement, *configured);
        assert_eq!((chosen.number, chosen.link.as_deref()), (*number, *link), "{name}");
        assert_eq!(chosen.note.is_some(), *other, "{name}: {:?}", chosen.note);
    }
}

#[test]
fn what_mdadm_conf_gives_to_an_array_that_is_here_is_not_for_another() {
    let uuid = |number: u32| format!("{number:08x}-0000-0000-0000-000000000000");
    let text = format!(
        "ARRAY /dev/md/2 UUID={}\nARRAY home UUID={}\nARRAY /dev/md127 UUID={}\nARRAY /dev/md/old UUID={}",
        uuid(1),
        uuid(2),
        uuid(3),
        uuid(9)
    );
    let conf = conf::parse(&text);
    let mut storage = storage(&whole(Level::Raid1, 2));
    let array = storage.arrays[0].clone();
    storage.arrays = (1..=3).map(|number| Array { uuid: uuid(number), ..array.clone() }).collect();
    let mut names = Names::of(&storage).and_reserved(&storage, &conf);
    let judgement = judged(&whole(Level::Raid1, 2));
    // Name of the superblock, UUID; number, link, note.
    let cases = [
        ("a:2", 7, 126, None, "mdadm.conf gives the name 2 to another array"),
        ("a:home", 8, 125, None, "mdadm.conf gives the name home to another array"),
        ("a:old", 6, 124, Some("/dev/md/old"), ""),
        ("a:5", 1, 2, Some("/dev/md/2"), ""),
        ("a:home", 2, 123, Some("/dev/md/home"), ""),
        ("a:home", 3, 127, Some("/dev/md/127"), ""),
    ];
    for (name, number, device, link, note) in cases {
        let judgement = Judgement { name: name.to_string(), uuid: uuid(number), ..judgement.clone() };
        let chosen = names.choose(&judgement, conf.name(&judgement.uuid));
        let got = (chosen.number, chosen.link.as_deref(), chosen.note.as_deref().unwrap_or_default());
        assert_eq!(got, (device, link, note), "{name} {number}");
    }
}

#[test]
fn the_places_of_a_name_are_the_link_and_the_number() {
    let cases = [
        ("/dev/md/root", ["/dev/md/root", "/dev/mdroot"]),
        ("/dev/md7", ["/dev/md/7", "/dev/md7"]),
        ("a/../b", ["/dev/md/a_.._b", "/dev/mda_.._b"]),
    ];
    for (name, want) in cases {
        assert_eq!(places(name), want, "{name}");
    }
}

#[test]
fn the_plan_is_module_and_start_and_for_writing_the_consent_first() {
    let members = whole(Level::Raid5, 3);
    let storage = storage(&members);
    let judgement = judge(&storage, &storage.arrays[0], &Wishes::default());
    let name = Names::of(&storage).choose(&judgement, None);
    let texts = |wishes: &Wishes<'_>| -> Vec<String> {
        assemble(&storage, &judgement, &name, wishes, "test").unwrap().iter().map(Step::text).collect()
    };
    assert_eq!(
        texts(&Wishes::default()),
        ["modprobe raid456", "mdadm --assemble --run --readonly /dev/md2 /dev/sda /dev/sdb /dev/sdc"]
    );
    assert_eq!(
        texts(&Wishes { writable: true, with: &[] }),
        [
            "rescue writable /dev/sda",
            "rescue writable /dev/sdb",
            "rescue writable /dev/sdc",
            "modprobe raid456",
            "mdadm --assemble --run /dev/md2 /dev/sda /dev/sdb /dev/sdc"
        ]
    );
}

/// Levels, and with how few members each may be started.
fn least(level: Level, disks: usize) -> usize {
    match level {
        Level::Raid1 => 1,
        Level::Raid4 | Level::Raid5 => disks - 1,
        Level::Raid6 => disks - 2,
        Level::Raid10 => disks / 2,
        _ => disks,
    }
}

fn a_member(disks: u32) -> impl Strategy<Value = (u32, Role, Vec<Role>, u64, bool, Option<u64>, u32, bool)> {
    let role = || {
        prop_oneof![
            5 => (0..disks + 1).prop_map(Role::Active),
            1 => Just(Role::Spare),
            1 => Just(Role::Faulty),
            1 => Just(Role::Journal),
        ]
    };
    (
        0..disks + 2,
        role(),
        proptest::collection::vec(role(), 0..8),
        95u64..102,
        any::<bool>(),
        proptest::option::weighted(0.2, any::<u64>()),
        prop_oneof![6 => Just(0u32), 1 => Just(REPLACEMENT), 1 => any::<u32>()],
        proptest::bool::weighted(0.1),
    )
}

fn a_set() -> impl Strategy<Value = Vec<Made>> {
    let level = proptest::sample::select(vec![
        Level::Linear,
        Level::Raid0,
        Level::Raid1,
        Level::Raid4,
        Level::Raid5,
        Level::Raid6,
        Level::Raid10,
        Level::Container,
    ]);
    let member = (any::<bool>(), a_member(4));
    (level, any::<u32>(), proptest::collection::vec(member, 1..7)).prop_map(|(level, layout, wild)| {
        let make = |(place, (tame, wild)): (usize, &(bool, _))| {
            let mut made = made(u32::try_from(place).unwrap(), level, 4);
            if !tame {
                let (number, role, roles, events, clean, recovery_offset, feature_map, torn) = wild;
                let superblock = &mut made.superblock;
                (superblock.number, superblock.role, superblock.roles) = (*number, *role, Vec::clone(roles));
                (superblock.events, superblock.clean, superblock.feature_map) =
                    (*events, *clean, *feature_map);
                superblock.recovery_offset = *recovery_offset;
                if *torn {
                    made.health = Health::Damaged("torn".to_string());
                }
                if layout % 5 == 0 {
                    superblock.layout = layout;
                }
            }
            made
        };
        wild.iter().enumerate().map(make).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_order_of_members_decides_nothing(members in a_set(), seed in any::<u64>()) {
        let mut other = members.clone();
        let length = other.len();
        for i in 0..length {
            other.swap(i, (seed as usize).wrapping_mul(i + 7) % length);
        }
        prop_assert_eq!(judged(&members), judged(&other));
    }

    #[test]
    fn nothing_is_started_from_fewer_members_than_hold_every_block(members in a_set(), writable in any::<bool>()) {
        let judgement = judged_with(&members, &[], writable);
        let mut slots: Vec<u32> = judgement.members.iter().filter_map(|member| match member.part {
            Part::InSync(slot) | Part::Replacement(slot) => Some(slot),
            _ => None,
        }).collect();
        let in_sync = slots.len();
        slots.sort_unstable();
        slots.dedup();
        if judgement.refusal.is_none() {
            prop_assert!(slots.len() >= least(judgement.level, 4), "{:?}", judgement);
            prop_assert!(judgement.present as usize <= in_sync);
            prop_assert!(judgement.members.iter().all(|member| member.events + 1 >= 95));
        }
        let told = judgement.members.len() + judgement.left_out.len();
        prop_assert_eq!(told, members.len(), "each device is used or left out: {:?}", judgement);
    }
}
