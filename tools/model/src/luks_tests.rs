use super::*;
use crate::build::build;
use crate::storage::Observed;
use contract::facts::{Block, Dm, Facts, Hardware};
use ondisk::volume::luks::Segment;
use ondisk::{DiskReport, Signature, Usage};
use std::collections::BTreeMap;

fn slot(number: u32, memory: Option<u64>) -> Slot {
    let kdf = match memory {
        Some(memory) => Kdf::Argon2 { kind: "argon2id".to_string(), time: 4, memory, threads: 4 },
        None => Kdf::Pbkdf2 { hash: "sha256".to_string(), iterations: 1000 },
    };
    Slot { number, kdf, on_demand: false }
}

fn header(slots: Vec<Slot>) -> Luks {
    let segment = Segment {
        kind: "crypt".to_string(),
        offset: 16 << 20,
        size: None,
        cipher: Some("aes-xts-plain64".to_string()),
        sector: 512,
        integrity: None,
    };
    Luks {
        version: 2,
        uuid: None,
        cipher: segment.cipher.clone(),
        slots,
        segments: vec![segment],
        is_apart: false,
        tokens: Vec::new(),
        requirements: Vec::new(),
    }
}

struct Machine {
    luks: Luks,
    health: Health,
    block: Block,
    opened: bool,
}

fn machine(slots: Vec<Slot>) -> Machine {
    let path = Some("pci0000:00/sda".to_string());
    let block = Block {
        name: "sda".to_string(),
        major: 8,
        diskseq: Some(1),
        size: 1 << 30,
        read_only: true,
        hardware: Hardware { path, ..Hardware::default() },
        ..Block::default()
    };
    Machine { luks: header(slots), health: Health::Sound, block, opened: false }
}

impl Machine {
    fn storage(&self) -> Storage {
        let signature = Signature {
            version: Some(self.luks.version.to_string()),
            health: self.health.clone(),
            volume: Some(Volume::Luks(self.luks.clone())),
            ..Signature::new("crypto_LUKS", Usage::Crypto, 0)
        };
        let report = DiskReport { signatures: vec![signature], ..DiskReport::default() };
        let observed = BTreeMap::from([("sda".to_string(), Observed::Examined { report: Box::new(report) })]);
        let mut blocks = vec![self.block.clone()];
        if self.opened {
            blocks[0].holders.push("dm-0".to_string());
            blocks.push(Block {
                name: "dm-0".to_string(),
                major: 254,
                dm: Some(Dm {
                    name: "sda_crypt".to_string(),
                    uuid: "CRYPT-LUKS2-x".to_string(),
                    suspended: false,
                }),
                slaves: vec!["sda".to_string()],
                ..Block::default()
            });
        }
        build(Facts { blocks, ..Facts::default() }, &observed, &[])
    }

    fn open(&self, wishes: &Wishes<'_>) -> Result<Plan, Refusal> {
        let storage = self.storage();
        super::open(&storage, storage.by_path("/dev/sda").unwrap(), wishes, "rescue open /dev/sda")
    }
}

fn texts(plan: &Plan) -> Vec<String> {
    plan.before.iter().chain(&plan.tries).map(Step::text).collect()
}

const MIB: u64 = 1 << 10;

#[test]
fn it_is_opened_for_reading_by_a_command_that_holds_no_passphrase() {
    let plan = machine(vec![slot(0, Some(64 * MIB))]).open(&Wishes::default()).unwrap();
    assert_eq!(
        texts(&plan),
        ["cryptsetup open --batch-mode --type luks2 --readonly --key-file - -- /dev/sda sda_crypt"]
    );
    assert_eq!(plan.tries[0].inverse().unwrap().text(), "cryptsetup close -- sda_crypt");
    let written = serde_json::to_string(&plan.tries[0]).unwrap();
    assert!(written.contains("secret") && !written.contains("passphrase"), "{written}");
}

#[test]
fn for_writing_the_guard_is_opened_first() {
    let wishes = Wishes { writable: true, name: Some("vault"), ..Wishes::default() };
    let plan = machine(vec![slot(0, None)]).open(&wishes).unwrap();
    assert_eq!(
        texts(&plan),
        [
            "rescue writable /dev/sda",
            "cryptsetup open --batch-mode --type luks2 --key-file - -- /dev/sda vault"
        ]
    );
}

#[test]
fn a_slot_that_needs_more_than_is_free_is_said_before_it_is_tried() {
    let large = machine(vec![slot(0, Some(1024 * MIB))]);
    let wishes = Wishes { free: Some(300 * MIB), ..Wishes::default() };
    let refusal = large.open(&wishes).unwrap_err().to_string();
    assert!(refusal.starts_with("slot 0 needs 1024 MiB, 300 are free"), "{refusal}");
    let plan = machine(vec![slot(0, Some(1024 * MIB)), slot(1, None), slot(2, Some(64 * MIB))])
        .open(&wishes)
        .unwrap();
    assert_eq!((&plan.too_large[..], plan.free), (&[(0, 1024)][..], 300));
    let tried: Vec<bool> = plan
        .tries
        .iter()
        .zip(["--key-slot 1 ", "--key-slot 2 "])
        .map(|(step, slot)| step.text().contains(slot))
        .collect();
    assert_eq!(tried, [true, true]);
    let asked = Wishes { slot: Some(0), ..wishes };
    assert!(matches!(large.open(&asked), Err(Refusal::Memory { .. })));
    let absent = Wishes { slot: Some(5), ..Wishes::default() };
    assert_eq!(large.open(&absent).unwrap_err().to_string(), "/dev/sda has no keyslot 5; there is 0");
}

#[test]
fn what_would_be_written_although_it_is_opened_for_reading_is_refused() {
    let mut machine = machine(vec![slot(0, None)]);
    machine.health = Health::Damaged("its first header is gone".to_string());
    let plan = machine.open(&Wishes::default()).unwrap();
    assert_eq!(
        plan.notes,
        ["/dev/sda: its first header is gone"],
        "the guard keeps cryptsetup from mending it"
    );
    machine.block.read_only = false;
    let refusal = machine.open(&Wishes::default()).unwrap_err();
    assert!(
        refusal.to_string().ends_with("rescue protect /dev/sda first, or rescue open --rw /dev/sda"),
        "{refusal}"
    );
    assert!(machine.open(&Wishes { writable: true, ..Wishes::default() }).is_ok());
    machine.health = Health::Sound;
    assert!(machine.open(&Wishes::default()).is_ok());
    machine.luks.requirements = vec!["online-reencrypt-v2".to_string()];
    assert!(matches!(machine.open(&Wishes::default()), Err(Refusal::Reencrypting { .. })));
    machine.luks.requirements.clear();
    machine.luks.segments[0].integrity = Some("hmac(sha256)".to_string());
    assert!(matches!(machine.open(&Wishes::default()), Err(Refusal::Integrity { .. })));
}

#[test]
fn what_is_open_or_no_lock_or_has_no_name_is_told() {
    let mut machine = machine(vec![slot(0, None)]);
    for name in ["", "a/b", "-x", "a b", "..", &"x".repeat(128)] {
        let wishes = Wishes { name: Some(name), ..Wishes::default() };
        assert!(matches!(machine.open(&wishes), Err(Refusal::Name(_))), "{name}");
    }
    machine.opened = true;
    let refusal = machine.open(&Wishes::default()).unwrap_err().to_string();
    assert_eq!(refusal, "/dev/sda is open already, as /dev/mapper/sda_crypt");
    let storage = machine.storage();
    assert!(closed(&storage).is_empty());
    let opened = storage.devices.iter().find(|device| is_opened(device)).unwrap();
    assert_eq!(locked(&storage, opened).unwrap().path, "/dev/sda");
    machine.opened = false;
    assert_eq!(closed(&machine.storage()).len(), 1);
    machine.luks.slots.clear();
    assert!(matches!(machine.open(&Wishes::default()), Err(Refusal::NoSlots(_))));
}

#[test]
fn status_says_what_opens_a_lock_and_what_it_costs() {
    let mut machine = machine(vec![slot(0, Some(1024 * MIB)), slot(1, None)]);
    let status = crate::status::status(&machine.storage());
    assert_eq!(status.next.command, "rescue open /dev/sda");
    let what = &status.drives[0].what;
    assert!(what.ends_with("LUKS 2 (argon2id, 1024 MiB), locked: rescue open /dev/sda"), "{what}");
    machine.opened = true;
    let status = crate::status::status(&machine.storage());
    assert_ne!(status.next.command, "rescue open /dev/sda");
    assert!(status.drives[0].what.ends_with("LUKS 2, open"), "{}", status.drives[0].what);
}

#[test]
fn a_header_that_is_apart_from_its_data_is_not_taken_for_a_lock() {
    let mut machine = machine(vec![slot(0, None)]);
    machine.luks.is_apart = true;
    let want = "cryptsetup open --readonly --header /dev/sda DATA NAME";
    for writable in [false, true] {
        let refusal = machine.open(&Wishes { writable, ..Wishes::default() }).unwrap_err().to_string();
        assert_eq!(refusal, format!("/dev/sda is a header kept apart from its data: {want}"));
    }
    let storage = machine.storage();
    assert!(closed(&storage).is_empty());
    let status = crate::status::status(&storage);
    assert_ne!(status.next.command, "rescue open /dev/sda");
    let what = &status.drives[0].what;
    assert!(what.ends_with(&format!("LUKS 2, header kept apart from its data: {want}")), "{what}");
    let refusals = [
        crate::mount::part(
            "/dev/sda",
            &crate::mount::format_of(storage.devices[0].signature().unwrap()),
            &[],
        ),
        crate::content::words(storage.devices[0].signature().unwrap()),
    ];
    assert_eq!(refusals[0], format!("/dev/sda is a header of LUKS, kept apart from its data: {want}"));
    assert_eq!(refusals[1], "LUKS 2, header kept apart from its data");
}

/// sda with these mapped devices on it, all writable: name, UUID, and what it stands on.
fn mapped(maps: &[(&str, &str, &str)]) -> Storage {
    let kernel = |name: &str| match maps.iter().position(|(map, ..)| *map == name) {
        Some(minor) => format!("dm-{minor}"),
        None => name.to_string(),
    };
    let above = |of: &str| -> Vec<String> {
        maps.iter().filter(|(_, _, below)| *below == of).map(|(name, ..)| kernel(name)).collect()
    };
    let disk = machine(Vec::new()).block;
    let mut blocks = vec![Block { holders: above("sda"), read_only: false, ..disk }];
    blocks.extend(maps.iter().zip(0..).map(|((name, uuid, below), minor)| Block {
        name: kernel(name),
        major: 254,
        minor,
        dm: Some(Dm { name: (*name).to_string(), uuid: (*uuid).to_string(), suspended: false }),
        slaves: vec![kernel(below)],
        holders: above(name),
        ..Block::default()
    }));
    let by = "rescue open --rw /dev/sda".to_string();
    let consents = vec![contract::guard::Consent { diskseq: 1, extent: None, by }];
    build(Facts { blocks, ..Facts::default() }, &BTreeMap::new(), &consents)
}

/// `maps` with their UUIDs as cryptsetup makes them: `ID` and `OTHER` are two headers'.
fn closed_as(maps: &[(&str, &str, &str)], name: &str) -> Result<Vec<String>, String> {
    let (id, other) = ("ffffffff000340008000000000000000", "ffffffff000440008000000000000000");
    let uuids: Vec<String> =
        maps.iter().map(|(_, uuid, _)| uuid.replace("ID", id).replace("OTHER", other)).collect();
    let maps: Vec<(&str, &str, &str)> =
        maps.iter().zip(&uuids).map(|((name, _, below), uuid)| (*name, uuid.as_str(), *below)).collect();
    let storage = mapped(&maps);
    let is = |device: &&Device| device.block.dm.as_ref().is_some_and(|dm| dm.name == name);
    let device = storage.devices.iter().find(is).unwrap();
    let steps = close(&storage, device, "rescue close").map_err(|refusal| refusal.to_string())?;
    let short = |step: &Step| step.text().replace("dmsetup remove --retry ", "");
    Ok(steps.iter().map(short).collect())
}

#[test]
fn what_cryptsetup_put_below_an_opened_device_goes_with_it_and_the_guard_is_back_on() {
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str, &'a str)], &'a str, &'a [&'a str]);
    const GUARD: &str = "rescue protect /dev/sda";
    let cases: &[Case<'_>] = &[
        (
            "integrity",
            &[
                ("in_dif", "CRYPT-INTEGRITY-ID-in_dif", "sda"),
                ("in", "CRYPT-LUKS2-ID-in", "in_dif"),
                ("vg-root", "LVM-x", "in"),
            ],
            "in",
            &["vg-root", "in", "in_dif", GUARD],
        ),
        (
            "integrity, from below, renamed, as 2.8 calls it",
            &[("x", "CRYPT-SUBDEV-ID-in_dif", "sda"), ("y", "CRYPT-LUKS2-ID-in", "x")],
            "x",
            &["y", "x", GUARD],
        ),
        (
            "cascade",
            &[
                ("in_2", "CRYPT-TCRYPT-in_2", "sda"),
                ("in_1", "CRYPT-TCRYPT-in_1", "in_2"),
                ("in", "CRYPT-TCRYPT-in", "in_1"),
            ],
            "in",
            &["in", "in_1", "in_2", GUARD],
        ),
        (
            "cascade of 2.8",
            &[("in_1", "CRYPT-SUBDEV-in_1", "sda"), ("in", "CRYPT-TCRYPT-in", "in_1")],
            "in",
            &["in", "in_1", GUARD],
        ),
        (
            "a lock in a lock",
            &[("out", "CRYPT-LUKS2-OTHER-out", "sda"), ("in", "CRYPT-LUKS2-ID-in", "out")],
            "in",
            &["in"],
        ),
        (
            "integrity that was opened by itself",
            &[("in_dif", "CRYPT-INTEGRITY-in_dif", "sda"), ("in", "CRYPT-LUKS2-ID-in", "in_dif")],
            "in",
            &["in"],
        ),
        (
            "locks with parts on one another",
            &[
                ("out_dif", "CRYPT-INTEGRITY-OTHER-out_dif", "sda"),
                ("out", "CRYPT-LUKS2-OTHER-out", "out_dif"),
                ("in_dif", "CRYPT-INTEGRITY-ID-in_dif", "out"),
                ("in", "CRYPT-LUKS2-ID-in", "in_dif"),
            ],
            "out",
            &["in", "in_dif", "out", "out_dif", GUARD],
        ),
        (
            "OPAL",
            &[("in_dif", "CRYPT-INTEGRITY-ID-in_dif", "sda"), ("in", "CRYPT-LUKS2-OPAL-ID-in", "in_dif")],
            "in",
            &["cryptsetup close -- in", GUARD],
        ),
        (
            "OPAL from below",
            &[("in_dif", "CRYPT-INTEGRITY-ID-in_dif", "sda"), ("in", "CRYPT-LUKS2-OPAL-ID-in", "in_dif")],
            "in_dif",
            &["cryptsetup close -- in", GUARD],
        ),
        (
            "helpers of a re-encryption",
            &[
                ("in-hotzone-forward", "CRYPT-SUBDEV-ID-in-hotzone-forward", "sda"),
                ("in", "CRYPT-LUKS2-ID-in", "in-hotzone-forward"),
            ],
            "in",
            &["cryptsetup close -- in", GUARD],
        ),
    ];
    for (label, maps, name, want) in cases {
        assert_eq!(closed_as(maps, name).unwrap(), *want, "{label}");
    }
    // What uses a part is not taken from under it.
    let over = [
        ("in_dif", "CRYPT-INTEGRITY-ID-in_dif", "sda"),
        ("in", "CRYPT-LUKS2-ID-in", "in_dif"),
        ("own", "", "in_dif"),
    ];
    assert_eq!(closed_as(&over, "in").unwrap_err(), "/dev/mapper/in_dif is in use by /dev/mapper/own");
}

#[test]
fn taken_down_alone_an_opened_device_takes_its_parts_along() {
    let id = "ffffffff000340008000000000000000";
    let uuid = |kind: &str| format!("CRYPT-{kind}-{id}-in");
    for (kind, want) in [
        ("LUKS2", &["dmsetup remove --retry in", "dmsetup remove --retry in_dif"][..]),
        ("LUKS2-OPAL", &["cryptsetup close -- in"]),
    ] {
        let (below, above) = (uuid("INTEGRITY"), uuid(kind));
        let storage =
            mapped(&[("in_dif", &below, "sda"), ("in", &above, "in_dif"), ("vg-root", "LVM-x", "in")]);
        let named = |name: &str| {
            let is = |device: &&Device| device.block.dm.as_ref().is_some_and(|dm| dm.name == name);
            storage.devices.iter().find(is).unwrap()
        };
        let (steps, parts) = removed(&storage, named("in")).unwrap();
        assert_eq!(steps.iter().map(Step::text).collect::<Vec<_>>(), want, "{kind}");
        assert_eq!(parts.iter().map(|part| path(part)).collect::<Vec<_>>(), ["/dev/mapper/in_dif"], "{kind}");
        assert_eq!(removed(&storage, named("vg-root")), None);
    }
}

/// sda opened as sda_crypt, with a volume on it that is mounted where `target` is given.
fn stack(read_only: bool, target: Option<&str>) -> Storage {
    let machine = machine(vec![slot(0, None)]);
    let map = |minor: u32, name: &str, uuid: &str, below: &str, above: &[&str]| Block {
        name: format!("dm-{minor}"),
        major: 254,
        minor,
        read_only,
        dm: Some(Dm { name: name.to_string(), uuid: uuid.to_string(), suspended: false }),
        slaves: vec![below.to_string()],
        holders: above.iter().map(|name| (*name).to_string()).collect(),
        ..Block::default()
    };
    let sda = Block { holders: vec!["dm-0".to_string()], read_only, ..machine.block };
    let blocks = vec![
        sda,
        map(0, "sda_crypt", "CRYPT-LUKS2-x", "sda", &["dm-1", "dm-2"]),
        map(1, "vg-root", "LVM-x", "dm-0", &[]),
        map(2, "vg-swap", "LVM-y", "dm-0", &[]),
    ];
    let mount = |target: &str| contract::facts::Mount {
        major: 254,
        minor: 1,
        target: target.to_string(),
        ..contract::facts::Mount::default()
    };
    let mounts = target.map(mount).into_iter().collect();
    let consent =
        contract::guard::Consent { diskseq: 1, extent: None, by: "rescue open --rw /dev/sda".to_string() };
    let consents = if read_only { Vec::new() } else { vec![consent] };
    build(Facts { blocks, mounts, ..Facts::default() }, &BTreeMap::new(), &consents)
}

fn closing(storage: &Storage) -> Result<Vec<String>, String> {
    let opened = storage.devices.iter().find(|device| is_opened(device)).unwrap();
    let steps = close(storage, opened, "rescue close sda_crypt").map_err(|refusal| refusal.to_string())?;
    Ok(steps.iter().map(Step::text).collect())
}

#[test]
fn what_stands_on_it_is_taken_away_before_it_is_closed() {
    let removed = ["vg-root", "vg-swap", "sda_crypt"].map(|name| format!("dmsetup remove --retry {name}"));
    assert_eq!(closing(&stack(true, None)).unwrap(), removed);
    let guarded = [&removed[..], &["rescue protect /dev/sda".to_string()]].concat();
    assert_eq!(closing(&stack(false, None)).unwrap(), guarded);
}

#[test]
fn what_is_mounted_keeps_it_open() {
    let refusal = closing(&stack(true, Some("/mnt/my disk"))).unwrap_err();
    assert_eq!(refusal, "/dev/mapper/vg-root is mounted: umount '/mnt/my disk'");
}
