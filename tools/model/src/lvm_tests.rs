use super::*;
use crate::build::build;
use crate::storage::Observed;
use contract::facts::{Block, Dm, Facts, Hardware};
use ondisk::volume::lvm::{Area, AreaState, MetadataArea, Physical, Segment};
use ondisk::{DiskReport, Extent, Signature, Usage};
use proptest::prelude::*;
use std::sync::Arc;

const GIB: u64 = 1 << 30;

/// `AAAAAA-AAAA-...`, of one letter.
fn uuid(letter: char) -> String {
    let part = |length: usize| letter.to_string().repeat(length);
    [6, 4, 4, 4, 4, 4, 6].map(part).join("-")
}

fn segment(kind: Kind, on: Vec<Area>) -> Segment {
    Segment { start: 0, length: 10, kind, on, memory: 0 }
}

fn lv(name: &str, visible: bool, kind: Kind, on: Vec<Area>) -> Logical {
    let letter = name.bytes().fold(0_u8, |sum, byte| sum.wrapping_add(byte)) % 26;
    Logical {
        name: name.to_string(),
        uuid: uuid(char::from(b'a' + letter)),
        visible,
        writable: true,
        skipped: false,
        moving: false,
        segments: vec![segment(kind, on)],
    }
}

fn pv(number: u64, extent: u64) -> Area {
    Area::Pv(format!("pv{number}"), extent)
}

fn of(name: &str) -> Area {
    Area::Lv(name.to_string())
}

/// A group `vg` of so many PVs (A, B, ...), with a linear volume on each.
fn group(pvs: u64) -> Group {
    let letter = |number: u64| char::from(b'A' + u8::try_from(number).unwrap());
    let physical = |number| Physical {
        name: format!("pv{number}"),
        uuid: uuid(letter(number)),
        device: Some(format!("/dev/old{number}")),
        size: GIB,
        pe_start: 1 << 20,
        pe_count: 255,
        missing: false,
    };
    Group {
        name: "vg".to_string(),
        uuid: uuid('V'),
        seqno: 7,
        extent: 4 << 20,
        system_id: None,
        lock_type: None,
        exported: false,
        clustered: false,
        writable: true,
        pvs: (0..pvs).map(physical).collect(),
        lvs: (0..pvs).map(|n| lv(&format!("lv{n}"), true, Kind::Linear, vec![pv(n, 0)])).collect(),
        truncated: false,
    }
}

fn disk(name: &str) -> Block {
    let number = u32::from(name.as_bytes()[2] - b'a');
    let path = Some(format!("pci0000:00/{name}"));
    Block {
        name: name.to_string(),
        major: 8,
        minor: 16 * number,
        diskseq: Some(u64::from(number) + 1),
        size: GIB,
        read_only: true,
        hardware: Hardware { path, ..Hardware::default() },
        ..Block::default()
    }
}

fn mapped(minor: u32, name: &str, uuid: &str, slaves: &[&str]) -> Block {
    let path = Some(format!("virtual/block/dm-{minor}"));
    Block {
        name: format!("dm-{minor}"),
        major: 254,
        minor,
        size: GIB,
        read_only: true,
        dm: Some(Dm { name: name.to_string(), uuid: uuid.to_string(), suspended: false }),
        slaves: slaves.iter().map(|name| (*name).to_string()).collect(),
        hardware: Hardware { path, ..Hardware::default() },
        ..Block::default()
    }
}

/// What is seen of a device that carries PV `letter` of a group.
fn carries(letter: char, group: Option<Group>) -> Observed {
    let group = group.map(Arc::new);
    let state = group.as_ref().map_or(AreaState::Empty, |group| AreaState::Sound(group.seqno));
    let areas = vec![MetadataArea { extent: Extent { start: 4096, length: 1 << 20 }, state }];
    // As if the snapshot that begins on its first PV had been active before.
    let stores = if letter == 'A' { vec!["snap".to_string()] } else { Vec::new() };
    let volume = PhysicalVolume { uuid: uuid(letter), size: GIB, used: true, areas, group, stores };
    let signature = Signature {
        health: Health::Sound,
        uuid: Some(uuid(letter)),
        volume: Some(Volume::Lvm(volume)),
        ..Signature::new("LVM2_member", Usage::Raid, 512)
    };
    Observed::Examined {
        report: Box::new(DiskReport { signatures: vec![signature], ..DiskReport::default() }),
    }
}

fn machine(devices: Vec<(Block, Option<Observed>)>) -> Storage {
    let mut observed = BTreeMap::new();
    let mut blocks = Vec::new();
    for (block, seen) in devices {
        if let Some(seen) = seen {
            observed.insert(block.name.clone(), seen);
        }
        blocks.push(block);
    }
    // The kernel says both ends.
    let names: Vec<(String, Vec<String>)> =
        blocks.iter().map(|block| (block.name.clone(), block.slaves.clone())).collect();
    for block in &mut blocks {
        let above = names.iter().filter(|(_, slaves)| slaves.contains(&block.name));
        block.holders = above.map(|(name, _)| name.clone()).collect();
    }
    build(Facts { blocks, ..Facts::default() }, &observed, &[])
}

fn disks(groups: &[(&str, char, Option<Group>)]) -> Storage {
    let device = |(name, letter, group): &(&str, char, Option<Group>)| {
        (disk(name), Some(carries(*letter, group.clone())))
    };
    machine(groups.iter().map(device).collect())
}

fn judged(storage: &Storage, wishes: &Wishes<'_>) -> Judgement {
    judge(storage, &storage.volumes[0], wishes)
}

fn used(judgement: &Judgement) -> Vec<&str> {
    judgement.used.iter().map(|used| used.path.as_str()).collect()
}

fn id(storage: &Storage, path: &str) -> Id {
    storage.by_path(path).unwrap().id.clone()
}

fn refusals(judgement: &Judgement) -> Vec<(String, Option<String>)> {
    let refusal = |lv: &Lv| lv.refusal.as_ref().map(ToString::to_string);
    judgement.volumes.iter().map(|lv| (lv.name.clone(), refusal(lv))).collect()
}

#[test]
fn a_whole_group_is_activated_with_exactly_its_devices() {
    let storage = disks(&[("sda", 'A', Some(group(2))), ("sdb", 'B', None)]);
    let judgement = judged(&storage, &Wishes::default());
    assert_eq!(used(&judgement), ["/dev/sda", "/dev/sdb"], "one without metadata of its own is known too");
    assert_eq!((judgement.wanted, &judgement.missing, &judgement.refusal), (2, &Vec::new(), &None));
    let names: Vec<&str> = judgement.to_activate().iter().map(|lv| lv.name.as_str()).collect();
    assert_eq!(names, ["lv0", "lv1"]);
    let steps = activate(&storage, &judgement, &names, &Wishes::default(), "rescue assemble").unwrap();
    let [Step::Module { name }, Step::Call { argv, .. }] = &steps[..] else { panic!("{steps:?}") };
    assert_eq!(name, "dm-mod");
    assert!(argv[3].contains(r#"filter=["a|^/dev/sda$|","a|^/dev/sdb$|","r|.*|"]"#), "{}", argv[3]);
    assert!(argv[3].contains(r#"read_only_volume_list=["vg"]"#), "{}", argv[3]);
    assert_eq!(argv[4..], ["-y", "-ay", "-K", "vg/lv0", "vg/lv1"]);
}

#[test]
fn for_writing_the_guard_of_each_pv_is_opened_first() {
    let storage = disks(&[("sda", 'A', Some(group(2))), ("sdb", 'B', Some(group(2)))]);
    let wishes = Wishes { writable: true, ..Wishes::default() };
    let judgement = judged(&storage, &wishes);
    let steps = activate(&storage, &judgement, &["lv0"], &wishes, "rescue assemble --rw").unwrap();
    let texts: Vec<String> = steps.iter().map(Step::text).collect();
    assert_eq!(texts[..3], ["modprobe dm-mod", "rescue writable /dev/sda", "rescue writable /dev/sdb"]);
    // The command names the group alone: with the guard off already, nothing else says what it writes to.
    assert_eq!(texts[3], "rescue undo --save /dev/sda /dev/sdb");
    assert!(!texts[4].contains("read_only_volume_list") && texts[4].contains("metadata_read_only=1"));
}

#[test]
fn a_missing_pv_takes_only_what_lies_on_it() {
    let storage = disks(&[("sda", 'A', Some(group(2)))]);
    let judgement = judged(&storage, &Wishes::default());
    assert_eq!(judgement.missing, [Missing { uuid: uuid('B'), hint: Some("/dev/old1".to_string()) }]);
    let want = format!("it lies on PV {} (last seen as /dev/old1), which is missing", uuid('B'));
    assert_eq!(refusals(&judgement), [("lv0".to_string(), None), ("lv1".to_string(), Some(want))]);
    let advice = judgement.advice_for(&judgement.volumes[1]);
    assert_eq!(advice.as_deref(), Some("rescue assemble --partial vg/lv1"));
    let partial = judged(&storage, &Wishes { partial: true, ..Wishes::default() });
    assert_eq!(refusals(&partial)[1].1, None);
    let text = &storage.problems[0].text;
    assert!(text.starts_with("volume group vg: 1 of 2 PVs missing: PV BBBBBB-"), "{text}");
}

#[test]
fn the_newest_description_wins_and_one_who_is_not_in_it_is_left_out() {
    let mut newer = group(2);
    newer.seqno = 8;
    newer.pvs.truncate(1);
    newer.lvs.truncate(1);
    let storage = disks(&[("sda", 'A', Some(newer)), ("sdb", 'B', Some(group(2)))]);
    let judgement = judged(&storage, &Wishes::default());
    assert_eq!((judgement.seqno, judgement.wanted), (8, 1));
    assert_eq!((&judgement.left_out[0].path[..], &judgement.left_out[0].why), ("/dev/sdb", &Why::Removed));
    assert_eq!(refusals(&judgement).len(), 1);
}

#[test]
fn copies_of_one_pv_need_a_choice() {
    let storage = disks(&[("sda", 'A', Some(group(1))), ("sdb", 'A', Some(group(1)))]);
    let judgement = judged(&storage, &Wishes::default());
    let twins = vec!["/dev/sda".to_string(), "/dev/sdb".to_string()];
    assert_eq!(judgement.refusal, Some(Refusal::Twins(twins)));
    assert_eq!(judgement.advice().as_deref(), Some("rescue assemble --with /dev/sda"));
    assert!(judgement.to_activate().is_empty());
    let with = [id(&storage, "/dev/sdb")];
    let judgement = judged(&storage, &Wishes { with: &with, ..Wishes::default() });
    assert_eq!((judgement.refusal.as_ref(), used(&judgement)), (None, vec!["/dev/sdb"]));
    assert_eq!(judgement.left_out[0].why, Why::CopyOf("/dev/sdb".to_string()));
}

#[test]
fn halves_that_changed_without_each_other_need_a_choice() {
    let mut other = group(2);
    other.lvs[0].name = "renamed".to_string();
    let storage = disks(&[("sda", 'A', Some(group(2))), ("sdb", 'B', Some(other))]);
    let judgement = judged(&storage, &Wishes::default());
    assert!(matches!(&judgement.refusal, Some(Refusal::Split(halves)) if halves.len() == 2));
    let with = [id(&storage, "/dev/sdb")];
    let judgement = judged(&storage, &Wishes { with: &with, ..Wishes::default() });
    assert_eq!((judgement.refusal.as_ref(), used(&judgement)), (None, vec!["/dev/sdb"]));
    assert_eq!(judgement.left_out[0].why, Why::OtherHalf);
    assert_eq!(judgement.volumes[0].name, "renamed");
}

#[test]
fn of_two_groups_with_one_name_the_named_one_is_activated_and_only_one_at_a_time() {
    let mut other = group(1);
    (other.uuid, other.pvs[0].uuid) = (uuid('W'), uuid('X'));
    let storage = disks(&[("sda", 'A', Some(group(1))), ("sdb", 'X', Some(other.clone()))]);
    for group in &storage.volumes {
        let judgement = judge(&storage, group, &Wishes::default());
        assert!(matches!(&judgement.refusal, Some(Refusal::SameName(others)) if others.len() == 1));
        assert_eq!(judgement.advice(), Some(format!("rescue assemble {}", group.uuid)));
        let named = judge(&storage, group, &Wishes { named: true, ..Wishes::default() });
        assert_eq!(named.refusal, None);
    }
    assert!(
        storage.problems.iter().any(|problem| problem.text.starts_with("2 volume groups are called vg:"))
    );
    let active = mapped(0, "vg-lv0", &format!("LVM-{}{}", plain(&uuid('V')), plain(&uuid('q'))), &["sda"]);
    let storage = machine(vec![
        (disk("sda"), Some(carries('A', Some(group(1))))),
        (disk("sdb"), Some(carries('X', Some(other)))),
        (active, None),
    ]);
    let named = Wishes { named: true, ..Wishes::default() };
    assert!(matches!(judge(&storage, &storage.volumes[1], &named).refusal, Some(Refusal::SameName(_))));
    assert_eq!(
        judge(&storage, &storage.volumes[0], &Wishes::default()).refusal,
        None,
        "the running one goes on"
    );
}

#[test]
fn whose_it_is_is_respected() {
    type Change = fn(&mut Group);
    let cases: &[(&str, Change, bool, Option<&str>)] = &[
        ("exported", |group| group.exported = true, false, Some("it was exported")),
        (
            "shared",
            |group| group.lock_type = Some("sanlock".to_string()),
            false,
            Some("other systems share it (sanlock)"),
        ),
        ("local lock", |group| group.lock_type = Some("none".to_string()), false, None),
        ("clustered", |group| group.clustered = true, false, Some("other systems share it (clustered)")),
        ("foreign, for reading", |group| group.system_id = Some("web1".to_string()), false, None),
        (
            "foreign, for writing",
            |group| group.system_id = Some("web1".to_string()),
            true,
            Some("it belongs to the system web1"),
        ),
    ];
    for (label, change, writable, want) in cases {
        let mut group = group(1);
        change(&mut group);
        let storage = disks(&[("sda", 'A', Some(group))]);
        let judgement = judged(&storage, &Wishes { writable: *writable, ..Wishes::default() });
        let refusal = judgement.refusal.as_ref().map(ToString::to_string);
        match want {
            Some(want) => {
                assert!(refusal.as_ref().is_some_and(|text| text.starts_with(want)), "{label}: {refusal:?}")
            }
            None => assert_eq!(refusal, None, "{label}"),
        }
        if *writable {
            let named = judged(&storage, &Wishes { writable: true, named: true, ..Wishes::default() });
            assert_eq!(named.refusal, None, "{label}, named");
        }
    }
}

#[test]
fn of_a_group_that_is_not_known_whole_nothing_is_activated_and_lvm_is_named() {
    let mut cut = group(1);
    cut.lvs.push(lv(
        "raid",
        true,
        Kind::Raid("raid1".to_string()),
        vec![of("raid_rmeta_0"), of("raid_rimage_0")],
    ));
    cut.truncated = true;
    let storage = disks(&[("sda", 'A', Some(cut.clone()))]);
    for (writable, named) in [(false, false), (false, true), (true, true)] {
        let judgement = judged(&storage, &Wishes { writable, named, partial: named, ..Wishes::default() });
        assert_eq!(judgement.refusal, Some(Refusal::TooLarge), "{writable} {named}");
        assert!(judgement.to_activate().is_empty());
        // Of lv0 a link to a snapshot that is being merged may be among what was cut.
        let cut = "what it lies on is not known: the description of its group is larger than is read here";
        let want = [("lv0".to_string(), None), ("raid".to_string(), Some(cut.to_string()))];
        assert_eq!(refusals(&judgement), want);
    }
    let advice = |storage: &Storage| judged(storage, &Wishes::default()).advice().unwrap();
    assert_eq!(
        advice(&storage),
        "rescue overlay /dev/sda && rescue assemble vg, or rescue writable /dev/sda && vgchange -ay --devices /dev/sda vg"
    );
    let texts: Vec<String> = problems(&storage).into_iter().map(|problem| problem.text).collect();
    assert!(
        texts[0].starts_with("volume group vg: its description is larger than is read here"),
        "{texts:?}"
    );
    assert_ne!(crate::status::status(&storage).next.command, "rescue assemble", "which would do nothing");
    let mut over = mapped(0, "over-sda", "LIFEBOAT-OVERLAY-sda", &["sda"]);
    over.read_only = false;
    let storage = machine(vec![
        (disk("sda"), Some(carries('A', Some(cut.clone())))),
        (over, Some(carries('A', Some(cut)))),
    ]);
    assert_eq!(advice(&storage), "vgchange -ay --devices /dev/mapper/over-sda vg", "never the originals");
}

#[test]
fn a_group_that_is_cut_on_any_of_its_pvs_is_too_large_and_neither_split_nor_gone() {
    let whole = group(2);
    let short = Group { pvs: whole.pvs.clone(), ..whole.cut() };
    let bare = Group { pvs: Vec::new(), ..whole.cut() };
    let cases = [
        ("its PVs are known", Some(short.clone()), Some(short.clone())),
        ("nothing is", Some(bare.clone()), Some(bare.clone())),
        ("on one alone", Some(whole.clone()), Some(short.clone())),
        ("on the other alone", Some(bare.clone()), Some(whole.clone())),
        ("one says nothing", Some(short), None),
    ];
    for (label, a, b) in cases {
        let storage = disks(&[("sda", 'A', a), ("sdb", 'B', b)]);
        let judgement = judged(&storage, &Wishes { named: true, ..Wishes::default() });
        assert_eq!(judgement.refusal, Some(Refusal::TooLarge), "{label}");
        assert_eq!((used(&judgement), judgement.wanted), (vec!["/dev/sda", "/dev/sdb"], 2), "{label}");
        assert!(judgement.left_out.is_empty() && judgement.missing.is_empty(), "{label}: {judgement:?}");
        assert!(judgement.to_activate().is_empty(), "{label}");
    }
    // Who went on without it is still left out.
    let older = Group { seqno: 6, ..group(1) };
    let newer = Group { pvs: vec![whole.pvs[1].clone()], ..bare };
    let storage = disks(&[("sda", 'A', Some(older)), ("sdb", 'B', Some(newer))]);
    let judgement = judged(&storage, &Wishes::default());
    assert_eq!((used(&judgement), judgement.left_out.len()), (vec!["/dev/sdb"], 1));
}

#[test]
fn thousands_of_snapshots_are_judged_each_with_its_pool() {
    let mut many = group(1);
    many.lvs.clear();
    many.lvs.push(lv("pool", true, Kind::ThinPool, vec![of("pool_tmeta"), of("pool_tdata")]));
    many.lvs.extend((0..5000).map(|n| lv(&format!("snap{n}"), true, Kind::Thin, vec![of("pool")])));
    many.lvs.extend(["pool_tmeta", "pool_tdata"].map(|name| lv(name, false, Kind::Linear, vec![pv(0, 0)])));
    // The answer of a worker has room for another one.
    const { assert!(2 * ondisk::volume::lvm::group::BUDGET < contract::wire::MAX_REPORT) };
    let storage = disks(&[("sda", 'A', Some(many))]);
    let judgement = judged(&storage, &Wishes::default());
    assert_eq!(judgement.to_activate().len(), 5000);
    assert!(judgement.volumes.iter().all(|lv| lv.writes.is_some_and(|why| why.contains("thin pool"))));
}

#[test]
fn thousands_of_snapshots_of_one_origin_are_judged_together() {
    let mut many = group(2);
    many.lvs = vec![lv("origin", true, Kind::Linear, vec![pv(0, 0)])];
    for n in 0..4000 {
        let (store, link) = (format!("snap{n}"), format!("snapshot{n}"));
        many.lvs.push(lv(&store, false, Kind::Linear, vec![pv(u64::from(n == 7), 1)]));
        let on = vec![of("origin"), of(&store)];
        many.lvs.push(lv(&link, true, Kind::Snapshot { merging: false }, on));
    }
    many.lvs.push(lv("other", true, Kind::Linear, vec![pv(0, 2)]));
    let index = Index::of(&many);
    assert_eq!(index.families.len(), 4001);
    assert!(index.families.values().all(|first| first.name == "origin"), "their parts are gone through once");
    let whole: BTreeSet<&str> = parts(&index, &many.lvs[0]).unwrap().iter().map(|part| &*part.name).collect();
    assert_eq!(whole.len(), 8001, "{whole:?}");
    for (label, storage, partial) in [
        ("whole", disks(&[("sda", 'A', Some(many.clone())), ("sdb", 'B', Some(many.clone()))]), false),
        // The store of one of them lies there.
        ("without sdb", disks(&[("sda", 'A', Some(many.clone()))]), true),
    ] {
        let judgement = judged(&storage, &Wishes::default());
        assert_eq!(judgement.volumes.len(), 4002, "{label}");
        let (other, family) = judgement.volumes.split_last().unwrap();
        assert!(other.writes.is_none() && !other.partial, "{label}");
        for lv in family {
            assert!(lv.writes.is_some_and(|why| why.contains("not started yet")), "{label}: {lv:?}");
            assert_eq!((lv.partial, lv.refusal.is_some()), (partial, partial), "{label}: {lv:?}");
        }
    }
}

#[test]
fn an_exported_group_is_named_with_what_imports_it_and_is_never_activated() {
    let exported = Group { exported: true, ..group(1) };
    let storage = disks(&[("sda", 'A', Some(exported.clone()))]);
    for (writable, named) in [(false, false), (false, true), (true, true)] {
        let judgement = judged(&storage, &Wishes { writable, named, ..Wishes::default() });
        assert_eq!(judgement.refusal, Some(Refusal::Exported), "{writable} {named}");
        assert!(judgement.to_activate().is_empty());
    }
    let advice = |storage: &Storage| judged(storage, &Wishes::default()).advice().unwrap();
    assert_eq!(
        advice(&storage),
        "rescue overlay /dev/sda && rescue assemble vg, or rescue writable /dev/sda && vgimport --devices /dev/sda vg && \
         rescue assemble vg"
    );
    let status = crate::status::status(&storage);
    assert_eq!(status.groups[0].refusal.as_deref(), Some("it was exported, for another system to import it"));
    assert!(status.groups[0].advice.as_ref().is_some_and(|advice| advice.contains("vgimport")));
    assert!(status.drives[0].what.contains("LVM physical volume of vg, exported"), "{:?}", status.drives[0]);
    assert_ne!(status.next.command, "rescue assemble", "which would do nothing");

    let mut over = mapped(0, "over-sda", "LIFEBOAT-OVERLAY-sda", &["sda"]);
    over.read_only = false;
    let storage = machine(vec![
        (disk("sda"), Some(carries('A', Some(exported.clone())))),
        (over, Some(carries('A', Some(exported.clone())))),
    ]);
    let import = "vgimport --devices /dev/mapper/over-sda vg && rescue assemble vg";
    assert_eq!(advice(&storage), import, "never the originals");

    let mut other = group(1);
    (other.uuid, other.pvs[0].uuid) = (uuid('W'), uuid('X'));
    let storage = disks(&[("sda", 'A', Some(exported)), ("sdb", 'X', Some(other))]);
    let (by_uuid, name) = (format!("-S vg_uuid={0} && rescue assemble {0}", uuid('V')), "vgimport vg");
    assert!(advice(&storage).ends_with(&by_uuid) && !advice(&storage).contains(name), "{}", advice(&storage));
}

#[test]
fn a_group_of_another_system_is_read_and_said_so() {
    let foreign = Group { system_id: Some("web\x1b1".to_string()), ..group(1) };
    let storage = disks(&[("sda", 'A', Some(foreign))]);
    let reading = judged(&storage, &Wishes::default());
    assert_eq!((reading.to_activate().len(), reading.notes.len()), (1, 1));
    let want = "it belongs to the system web\\x1b1, which may be using it: activated for reading alone; \
                rescue assemble --rw vg for more";
    assert_eq!(reading.notes[0], want);
    assert_eq!(crate::status::status(&storage).groups[0].notes, [want]);
    let writable = judged(&storage, &Wishes { writable: true, ..Wishes::default() });
    assert!(matches!(&writable.refusal, Some(Refusal::Foreign(_))) && writable.notes.is_empty());
    assert_eq!(writable.advice().as_deref(), Some("rescue assemble --rw vg"));
    let named = judged(&storage, &Wishes { writable: true, named: true, ..Wishes::default() });
    assert_eq!(
        (named.refusal, &named.notes[..]),
        (None, &["it belongs to the system web\\x1b1".to_string()][..])
    );
}

/// One of each kind.
fn kinds() -> Group {
    let mut group = group(2);
    let raid = |name: &str| vec![of(&format!("{name}_rimage_0")), of(&format!("{name}_rimage_1"))];
    group.lvs = vec![
        lv("linear", true, Kind::Linear, vec![pv(0, 0)]),
        lv("striped", true, Kind::Striped, vec![pv(0, 1), pv(1, 1)]),
        lv("raid1", true, Kind::Raid("raid1".to_string()), raid("raid1")),
        lv("raid1_rimage_0", false, Kind::Linear, vec![pv(0, 2)]),
        lv("raid1_rimage_1", false, Kind::Linear, vec![pv(1, 2)]),
        lv("mirror", true, Kind::Mirror, vec![pv(0, 3), pv(1, 3)]),
        lv("origin", true, Kind::Linear, vec![pv(0, 4)]),
        lv("snap", false, Kind::Linear, vec![pv(0, 5)]),
        lv("snapshot0", true, Kind::Snapshot { merging: false }, vec![of("origin"), of("snap")]),
        lv("merged", true, Kind::Linear, vec![pv(0, 6)]),
        lv("store", false, Kind::Linear, vec![pv(0, 7)]),
        lv("snapshot1", true, Kind::Snapshot { merging: true }, vec![of("merged"), of("store")]),
        lv("pool", true, Kind::ThinPool, vec![of("pool_tmeta"), of("pool_tdata")]),
        lv("pool_tmeta", false, Kind::Linear, vec![pv(0, 8)]),
        lv("pool_tdata", false, Kind::Linear, vec![pv(0, 9)]),
        lv("thin", true, Kind::Thin, vec![of("pool")]),
        lv("cached", true, Kind::Cache, vec![of("cached_corig"), of("fast_cvol")]),
        lv("cached_corig", false, Kind::Linear, vec![pv(0, 10)]),
        lv("fast_cvol", false, Kind::Linear, vec![pv(0, 11)]),
        lv("on_raid", true, Kind::Linear, vec![of("raid1")]),
        lv("circle", true, Kind::Linear, vec![of("nothing")]),
        lv("vpool", true, Kind::VdoPool, vec![of("vpool_vdata")]),
        lv("vpool_vdata", false, Kind::Linear, vec![pv(0, 12)]),
        lv("deduplicated", true, Kind::Vdo, vec![of("vpool")]),
    ];
    group
}

#[test]
fn the_memory_of_a_vdo_pool_is_that_of_each_volume_on_it() {
    let mut group = kinds();
    group.extent = 1 << 38;
    let pool = group.lvs.iter_mut().find(|lv| lv.name == "vpool").unwrap();
    pool.segments[0].memory = 400 << 20;
    let storage = disks(&[("sda", 'A', Some(group.clone())), ("sdb", 'B', Some(group))]);
    let judgement = judged(&storage, &Wishes::default());
    let memory = |name: &str| &judgement.volumes.iter().find(|lv| lv.name == name).unwrap().memory;
    // Ten extents of 256 GiB are 2.75 TB, at 268 MB for each.
    assert_eq!(*memory("deduplicated"), [("vpool".to_string(), (400 << 20) + 2_748_779 * 268)].into());
    assert!(memory("thin").is_empty());
}

#[test]
fn what_the_kernel_writes_to_as_it_starts_is_read_as_a_copy() {
    let storage = disks(&[("sda", 'A', Some(kinds())), ("sdb", 'B', Some(kinds()))]);
    let judgement = judged(&storage, &Wishes::default());
    let as_they_are = judgement.to_activate().into_iter().filter(|lv| lv.writes.is_none());
    let names: Vec<&str> = as_they_are.map(|lv| lv.name.as_str()).collect();
    assert_eq!(names, ["linear", "striped", "origin", "snap"]);
    let why = |name: &str| {
        let lv = judgement.volumes.iter().find(|lv| lv.name == name).unwrap();
        let refusal = lv.refusal.as_ref().map(ToString::to_string);
        refusal.or(lv.writes.map(str::to_string)).unwrap()
    };
    let cases = [
        ("raid1", "it is RAID"),
        ("on_raid", "it is RAID"),
        ("mirror", "it is a mirror"),
        ("merged", "a snapshot is being merged"),
        ("thin", "it is in a thin pool"),
        ("cached", "it has a cache"),
        ("deduplicated", "it is VDO"),
        ("circle", "its description contradicts itself"),
    ];
    for (name, want) in cases {
        assert!(why(name).starts_with(want), "{name}: {}", why(name));
    }
    let moving = |lv: &mut Logical| lv.moving = lv.name == "linear";
    let mut group = kinds();
    group.lvs.iter_mut().for_each(moving);
    let judged =
        judged(&disks(&[("sda", 'A', Some(group.clone())), ("sdb", 'B', Some(group))]), &Wishes::default());
    let writes = judged.volumes[0].writes;
    assert!(writes.is_some_and(|why| why.contains("pvmove")), "{writes:?}");
    let kind = |name: &str| judgement.volumes.iter().find(|lv| lv.name == name).unwrap().kind.clone();
    assert_eq!((kind("snap").as_str(), kind("raid1").as_str()), ("snapshot of origin", "raid1"));
    assert!(
        !judgement
            .volumes
            .iter()
            .any(|lv| ["pool", "snapshot0", "store", "vpool"].contains(&lv.name.as_str()))
    );
}

/// The kernel writes the header of a new store, and an area of zeros, through the flags of the PV.
#[test]
fn a_snapshot_that_was_never_active_is_read_as_a_copy_with_its_origin() {
    let older = || Group { seqno: 6, ..kinds() };
    let cases: [(&str, char, Group, Option<Group>, bool); 4] = [
        ("its header was read", 'A', kinds(), Some(kinds()), false),
        ("none was", 'C', kinds(), Some(kinds()), true),
        ("by a description that is over", 'A', older(), Some(kinds()), true),
        ("the PV describes nothing", 'A', kinds(), None, false),
    ];
    for (label, letter, first, second, is_written) in cases {
        let mut groups = [Some(first), second];
        // The first PV is the one of that letter.
        for group in groups.iter_mut().flatten() {
            group.pvs[0].uuid = uuid(letter);
        }
        let [first, second] = groups;
        let storage = disks(&[("sda", letter, first), ("sdb", 'B', second)]);
        let judgement = judged(&storage, &Wishes::default());
        for lv in &judgement.volumes {
            let is_snapshots = ["origin", "snap"].contains(&lv.name.as_str());
            let is_new =
                lv.writes.is_some_and(|why| why.starts_with("it has a snapshot that was not started"));
            assert_eq!(is_new, is_snapshots && is_written, "{label}: {}: {:?}", lv.name, lv.writes);
        }
    }
    let storage = disks(&[("sda", 'A', None), ("sdb", 'B', Some(kinds()))]);
    let blind = judged(&storage, &Wishes::default());
    let origin = blind.volumes.iter().find(|lv| lv.name == "origin").unwrap();
    assert!(origin.writes.is_some(), "a PV without a description cannot be looked at");
}

#[test]
fn for_writing_and_on_overlays_every_kind_is_activated() {
    let storage = disks(&[("sda", 'A', Some(kinds())), ("sdb", 'B', Some(kinds()))]);
    let judgement = judged(&storage, &Wishes { writable: true, ..Wishes::default() });
    let refused: Vec<String> =
        refusals(&judgement).into_iter().filter(|(_, why)| why.is_some()).map(|(name, _)| name).collect();
    assert_eq!(refused, ["circle"]);
    let over = |minor, name: &str, disk: &str| {
        let mut block = mapped(minor, name, &format!("LIFEBOAT-OVERLAY-{disk}"), &[disk]);
        block.read_only = false;
        block
    };
    let storage = machine(vec![
        (disk("sda"), Some(carries('A', Some(kinds())))),
        (disk("sdb"), Some(carries('B', Some(kinds())))),
        (over(0, "over-sda", "sda"), Some(carries('A', Some(kinds())))),
        (over(1, "over-sdb", "sdb"), Some(carries('B', Some(kinds())))),
    ]);
    let judgement = judged(&storage, &Wishes::default());
    assert!(judgement.throwaway && !judgement.for_reading);
    assert!(judgement.volumes.iter().all(|lv| lv.writes.is_none()), "it is a copy already");
    assert_eq!(used(&judgement), ["/dev/mapper/over-sda", "/dev/mapper/over-sdb"], "never the originals");
    assert!(judgement.left_out.is_empty());
    let steps = activate(&storage, &judgement, &["raid1"], &Wishes::default(), "rescue assemble").unwrap();
    assert!(!steps.iter().any(|step| matches!(step, Step::SetWritable { .. })));
    assert!(!steps[1].text().contains("read_only_volume_list"));
}

#[test]
fn what_assemble_copied_is_read_and_not_taken_for_the_disks_by_what_writes() {
    let over = |minor, name: &str, id: &str, disk: &str| {
        mapped(minor, name, &format!("LIFEBOAT-OVERLAY-ASSEMBLE-{id}"), &[disk])
    };
    let storage = machine(vec![
        (disk("sda"), Some(carries('A', Some(kinds())))),
        (disk("sdb"), Some(carries('B', Some(kinds())))),
        (over(0, "over-sda", "seq:1", "sda"), Some(carries('A', Some(kinds())))),
        (over(1, "over-sdb", "seq:2", "sdb"), Some(carries('B', Some(kinds())))),
    ]);
    let judgement = judged(&storage, &Wishes::default());
    assert!(judgement.throwaway && judgement.for_reading);
    let steps = activate(&storage, &judgement, &["raid1"], &Wishes::default(), "rescue assemble").unwrap();
    assert!(steps[1].text().contains("over-sda") && !steps[1].text().contains("/dev/sda"), "{steps:?}");
    let held = hold(&storage, &judgement, &["on_raid", "thin"]);
    assert_eq!(
        held.iter().map(Step::text).collect::<Vec<_>>(),
        [
            "dmsetup message vg-raid1 0 frozen",
            "blockdev --setro /dev/mapper/vg-on_raid",
            "blockdev --setro /dev/mapper/vg-thin",
        ]
    );
    let wishes = Wishes { writable: true, ..Wishes::default() };
    let refusal = activate(&storage, &judged(&storage, &wishes), &["raid1"], &wishes, "test").unwrap_err();
    assert!(refusal.to_string().contains("a copy in memory"), "{refusal}");
    // Of twins the chosen one stays chosen through its overlay.
    let chosen = [storage.devices[0].id.clone()];
    let with = overlay::and_overlays(&storage, &chosen);
    assert_eq!(with.len(), 2);
    assert!(storage.get(&with[1]).is_some_and(overlay::is_overlay), "{with:?}");
}

#[test]
fn a_pv_in_use_by_something_else_is_left_out_and_by_its_own_volumes_is_not() {
    let own = mapped(0, "vg-lv0", &format!("LVM-{}{}", plain(&uuid('V')), plain(&lv_uuid("lv0"))), &["sda"]);
    let other = mapped(1, "x", "CRYPT-PLAIN-x", &["sdb"]);
    let storage = machine(vec![
        (disk("sda"), Some(carries('A', Some(group(2))))),
        (disk("sdb"), Some(carries('B', Some(group(2))))),
        (own, None),
        (other, None),
    ]);
    let judgement = judged(&storage, &Wishes::default());
    assert_eq!(used(&judgement), ["/dev/sda"]);
    assert_eq!(judgement.left_out[0].why, Why::InUse("/dev/mapper/x".to_string()));
    assert!(judgement.volumes[0].active.is_some() && judgement.volumes[1].active.is_none());
}

fn lv_uuid(name: &str) -> String {
    lv(name, true, Kind::Linear, Vec::new()).uuid
}

#[test]
fn status_shows_the_group_and_names_the_next_command() {
    let storage = disks(&[("sda", 'A', Some(group(2)))]);
    let status = crate::status::status(&storage);
    assert_eq!(status.next.command, "rescue assemble");
    let line = &status.groups[0];
    assert_eq!((line.name.as_str(), line.present, line.wanted), ("vg", 1, 2));
    assert!(line.missing[0].ends_with("(last seen as /dev/old1)"), "{}", line.missing[0]);
    assert!(!line.volumes[0].active && line.volumes[1].refusal.is_some());
    assert!(status.drives[0].what.contains("LVM physical volume of vg"), "{}", status.drives[0].what);
    let active =
        mapped(0, "vg-lv0", &format!("LVM-{}{}", plain(&uuid('V')), plain(&lv_uuid("lv0"))), &["sda"]);
    let storage = machine(vec![(disk("sda"), Some(carries('A', Some(group(1))))), (active, None)]);
    let status = crate::status::status(&storage);
    assert_ne!(status.next.command, "rescue assemble", "it is active already");
    assert!(status.groups[0].volumes[0].active);
}

#[test]
fn mapped_names_are_taken_apart_as_lvm_puts_them_together() {
    let cases = [
        ("vg-root", Some(("vg", "root"))),
        ("my--vg-my--root", Some(("my-vg", "my-root"))),
        ("a----b-c", Some(("a--b", "c"))),
        ("luks", None),
        ("-x", None),
        ("x-", None),
    ];
    for (mapped, want) in cases {
        let names = names_of(mapped);
        assert_eq!(names.as_ref().map(|(a, b)| (a.as_str(), b.as_str())), want, "{mapped}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_order_of_devices_decides_nothing(order in Just(vec![0, 1, 2, 3]).prop_shuffle(), seqnos in proptest::collection::vec(5u64..9, 4)) {
        let of = |number: usize| {
            let mut group = kinds();
            group.seqno = seqnos[number];
            // The fourth is a copy of the third.
            (["sda", "sdb", "sdc", "sdd"][number], ['A', 'B', 'C', 'C'][number], Some(group))
        };
        let first = disks(&[0, 1, 2, 3].map(of));
        let second = disks(&order.iter().map(|number| of(*number)).collect::<Vec<_>>());
        let (a, b) = (judged(&first, &Wishes::default()), judged(&second, &Wishes::default()));
        prop_assert_eq!(a, b);
    }

    #[test]
    fn no_description_makes_it_run_in_a_circle(edges in proptest::collection::vec((0usize..8, 0usize..9, 0usize..4), 0..24)) {
        let mut group = group(1);
        group.lvs = (0..8).map(|n| lv(&format!("lv{n}"), true, Kind::Linear, Vec::new())).collect();
        for (from, to, kind) in edges {
            let kind = [Kind::Linear, Kind::Thin, Kind::Snapshot { merging: false }, Kind::Raid("raid5".to_string())][kind].clone();
            group.lvs[from].segments.push(segment(kind, vec![of(&format!("lv{to}"))]));
        }
        let storage = disks(&[("sda", 'A', Some(group))]);
        let _ = judged(&storage, &Wishes::default());
    }
}
