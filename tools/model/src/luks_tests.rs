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
    assert_eq!(plan.tries[0].inverse().unwrap().text(), "dmsetup remove --retry sda_crypt");
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
