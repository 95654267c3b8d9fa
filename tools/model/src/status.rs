//! The whole picture on one screen: what there is, what is wrong with it, and what to type next.

use crate::bcache;
use crate::build::{ambiguous, is_extended};
use crate::content;
use crate::luks;
use crate::lvm;
use crate::md::{self, Judgement, Wishes, array_name, level_name as level};
use crate::overlay::{self, Overlay, Store};
use crate::parttype;
use crate::plan::word;
use crate::storage::{Array, Device, Observed, Problem, Storage, VolumeGroup};
use contract::facts::{Block, Space};
use ondisk::table::{Entry, TableKind};
use ondisk::volume::Volume;
use ondisk::volume::mdraid::{Role, Superblock};
use ondisk::{Health, Signature, Usage};
use serde::Serialize;

/// What `rescue status` shows, as text or as JSON.
#[derive(Debug, Serialize)]
pub struct Status {
    /// Real disks.
    pub disks: usize,
    /// Of these and their partitions, by path: what can be written.
    pub writable: Vec<String>,
    pub problems: Vec<Problem>,
    /// Disks, each followed by its partitions.
    pub drives: Vec<Line>,
    /// Arrays, mapped devices and others that stand on them.
    pub volumes: Vec<Line>,
    /// Arrays that are found and not running.
    pub stopped: Vec<Stopped>,
    /// Volume groups of LVM, active or not.
    pub groups: Vec<GroupLine>,
    pub overlays: Vec<Overlay>,
    /// The memory that overlays may take, where there are some.
    pub overlay_store: Option<Store>,
    /// The command to type next, and why.
    pub next: Next,
}

/// One device. The texts are of disks and hostile.
#[derive(Debug, PartialEq, Serialize)]
pub struct Line {
    pub path: String,
    /// As people name it: the mapped name, else the kernel's.
    pub name: String,
    /// 1 for a partition.
    pub depth: usize,
    /// Bytes.
    pub size: u64,
    /// What is on it.
    pub what: String,
    pub health: Fitness,
    pub guard: Guard,
    /// Mount points, `[swap]`, and what stands on it.
    pub used_by: Vec<String>,
    /// Room of what is mounted.
    pub space: Option<Space>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fitness {
    Good,
    /// Its log is to be replayed before it shows its last state.
    Dirty,
    Damaged,
    Hung,
    /// Not looked at, or nothing known to judge.
    Unknown,
}

/// What the kernel says now, which may be more or less than was consented to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Guard {
    Guarded,
    Writable,
    /// A virtual device: guarded by what it stands on.
    ReadOnly,
    ReadWrite,
}

/// An array that could be running.
#[derive(Debug, PartialEq, Serialize)]
pub struct Stopped {
    pub uuid: String,
    /// `host:name`, or the number that 0.90 prefers. Hostile.
    pub name: String,
    pub level: String,
    /// Members that are current, of those of a whole array.
    pub present: u32,
    pub wanted: u32,
    /// What would be used.
    pub members: Vec<String>,
    /// What would not be used: `/dev/sdb3: stale, behind by 6 events`. Hostile.
    pub left_out: Vec<String>,
    /// Why it is started, to be read, as a copy in memory alone.
    pub copy: Option<String>,
    /// Why it cannot be started as it is.
    pub refusal: Option<String>,
}

/// A volume group and its volumes.
#[derive(Debug, PartialEq, Serialize)]
pub struct GroupLine {
    pub uuid: String,
    pub name: String,
    pub present: usize,
    pub wanted: usize,
    /// Devices that are used.
    pub members: Vec<String>,
    /// `PV abc (last seen as /dev/sdb1)`. Hostile.
    pub missing: Vec<String>,
    /// Hostile.
    pub left_out: Vec<String>,
    pub notes: Vec<String>,
    pub volumes: Vec<VolumeLine>,
    /// Why none of it can be activated as it is, and what to type about it. Hostile.
    pub refusal: Option<String>,
    pub advice: Option<String>,
}

#[derive(Debug, PartialEq, Serialize)]
pub struct VolumeLine {
    pub name: String,
    /// Bytes.
    pub size: u64,
    pub kind: String,
    pub active: bool,
    /// Why it is activated, to be read, as a copy in memory alone.
    pub copy: Option<String>,
    /// Why it is not activated for reading.
    pub refusal: Option<String>,
}

fn group_line(group: &VolumeGroup, storage: &Storage) -> GroupLine {
    let judgement = lvm::judge(storage, group, &lvm::Wishes::default());
    let volume = |lv: &lvm::Lv| VolumeLine {
        name: lv.name.clone(),
        size: lv.size,
        kind: lv.kind.clone(),
        active: lv.active.is_some(),
        copy: lv.writes.filter(|_| lv.active.is_none()).map(str::to_string),
        refusal: lv.refusal.as_ref().filter(|_| lv.active.is_none()).map(ToString::to_string),
    };
    GroupLine {
        present: judgement.wanted.saturating_sub(judgement.missing.len()),
        wanted: judgement.wanted,
        members: judgement.used.iter().map(|used| used.path.clone()).collect(),
        missing: judgement.missing.iter().map(ToString::to_string).collect(),
        left_out: judgement.left_out.iter().map(|left| format!("{}: {}", left.path, left.why)).collect(),
        notes: judgement.notes.clone(),
        volumes: judgement.volumes.iter().map(volume).collect(),
        refusal: judgement.refusal.as_ref().map(ToString::to_string),
        advice: judgement.advice(),
        uuid: judgement.uuid,
        name: judgement.name,
    }
}

#[derive(Debug, PartialEq, Serialize)]
pub struct Next {
    pub command: String,
    pub why: String,
}

pub fn status(storage: &Storage) -> Status {
    let mut drives: Vec<&Device> = storage.devices.iter().filter(|device| is_drive(&device.block)).collect();
    // The kernel lists them as they were found, which differs from boot to boot.
    drives.sort_by_cached_key(|device| by_name(device));
    let volumes = storage.devices.iter().filter(|device| is_volume(&device.block));
    let writable = drives.iter().filter(|device| guard(device, storage) == Guard::Writable);
    Status {
        disks: drives.iter().filter(|device| is_disk(&device.block)).count(),
        writable: writable.map(|device| device.path.clone()).collect(),
        problems: storage.problems.clone(),
        drives: drives.iter().map(|device| line(device, storage)).collect(),
        volumes: volumes.map(|device| line(device, storage)).collect(),
        stopped: storage.arrays.iter().filter_map(|array| stopped(array, storage)).collect(),
        groups: storage.volumes.iter().map(|group| group_line(group, storage)).collect(),
        overlays: overlay::list(storage),
        overlay_store: overlay::store(storage),
        next: next(storage),
    }
}

/// `sdb` before `sdaa`, and each disk before its partitions by number.
fn by_name(device: &Device) -> (usize, String, u32) {
    let partition = device.block.partition.as_ref();
    let disk = partition.map_or(&device.block.name, |partition| &partition.disk);
    (disk.len(), disk.clone(), partition.map_or(0, |partition| partition.number))
}

/// A disk or partition with something behind it: no empty drive bay.
fn is_drive(block: &Block) -> bool {
    !block.is_virtual() && !block.hidden && block.size > 0
}

/// Peripheral device type 5 is a CD or DVD.
fn is_disk(block: &Block) -> bool {
    block.partition.is_none() && block.hardware.scsi_type != Some(5)
}

/// What stands on drives; not the image's own layers, nor memory dressed as a device.
fn is_volume(block: &Block) -> bool {
    let ours = [contract::paths::LAYERS, contract::paths::OVERLAY];
    let of_image =
        block.loop_file.as_deref().is_some_and(|file| ours.iter().any(|path| file.starts_with(path)));
    let in_memory = block.name.starts_with("ram") || block.name.starts_with("zram");
    block.is_virtual() && block.size > 0 && !of_image && !in_memory && !block.hidden
}

fn line(device: &Device, storage: &Storage) -> Line {
    let block = &device.block;
    let name = block.dm.as_ref().map_or_else(|| block.name.replace('!', "/"), |dm| dm.name.clone());
    let (what, health) = what(device, storage);
    Line {
        path: device.path.clone(),
        name,
        depth: usize::from(block.partition.is_some()),
        size: block.size,
        what,
        health,
        guard: guard(device, storage),
        used_by: used_by(device, storage),
        space: space(device, storage),
    }
}

/// Of where the whole of it is mounted, else any part.
fn space(device: &Device, storage: &Storage) -> Option<Space> {
    let whole = storage.mounts_of(device).find(|mount| mount.root == "/");
    let mount = whole.or_else(|| storage.mounts_of(device).next())?;
    storage.space.get(&mount.target).copied()
}

fn what(device: &Device, storage: &Storage) -> (String, Fitness) {
    let drive = overlay::told(storage, device).unwrap_or_else(|| drive(device, storage));
    let report = match &device.report {
        Observed::Examined { report } => report,
        Observed::Hung { .. } => return (join(&[drive, "hangs".to_string()]), Fitness::Hung),
        Observed::Skipped { reason } | Observed::Failed { reason } => {
            return (join(&[drive, reason.clone()]), Fitness::Unknown);
        }
    };
    let shown = report.table.as_ref().filter(|table| {
        let is_boot_sector = table.is_blank() && !report.signatures.is_empty();
        !is_extended(device, storage) && !is_boot_sector
    });
    let table = shown.map(|table| match table.kind {
        TableKind::Gpt => "GPT",
        TableKind::Mbr => "MBR",
        TableKind::Bsd => "BSD label",
        TableKind::Mac => "Apple map",
        TableKind::Sun => "Sun label",
        TableKind::Sgi => "SGI header",
        TableKind::Atari => "Atari table",
    });
    let mut fitness = match shown.map(|table| &table.health) {
        Some(Health::Damaged(_)) => Fitness::Damaged,
        Some(Health::Sound | Health::Unchecked) | None => Fitness::Good,
    };
    let Some(signature) = report.signatures.first() else {
        let empty = device.block.partition.as_ref().map(|_| kind(device, storage));
        let own = role(device, storage).unwrap_or_default().to_string();
        return (
            join(&[drive, table.unwrap_or_default().to_string(), empty.unwrap_or_default(), own]),
            fitness,
        );
    };
    let content = match &signature.volume {
        Some(Volume::Md(superblock)) => member(superblock),
        Some(Volume::Lvm(volume)) => match &volume.group {
            Some(group) if group.exported => format!("LVM physical volume of {}, exported", group.name),
            Some(group) => format!("LVM physical volume of {}", group.name),
            None => content::words(signature),
        },
        Some(Volume::Firmware(firmware)) => {
            let own = firmware.volumes.iter().filter(|volume| volume.is_here());
            let volumes: Vec<String> = own.map(|volume| member(&volume.superblock)).collect();
            join(&[content::words(signature), volumes.join("; ")])
        }
        Some(Volume::Bcache(bcache)) => bcache::words(bcache),
        Some(Volume::Luks(_)) | None => locked(device, signature, storage),
    };
    let role = role(device, storage).map(str::to_string).unwrap_or_default();
    let state = match (&signature.health, signature.dirty) {
        (Health::Damaged(reason), _) => {
            fitness = Fitness::Damaged;
            format!("damaged: {reason}")
        }
        (Health::Sound | Health::Unchecked, true) => {
            fitness = fitness.max_dirty();
            match signature.usage {
                Usage::Raid => "not stopped cleanly".to_string(),
                Usage::Filesystem | Usage::Crypto | Usage::Other => "log not replayed".to_string(),
            }
        }
        (Health::Sound | Health::Unchecked, false) => String::new(),
    };
    (join(&[drive, content, role, state, signature.notes.join(", ")]), fitness)
}

/// What a signature is, and of a lock whether it is open or what opens it.
fn locked(device: &Device, signature: &Signature, storage: &Storage) -> String {
    let words = content::words(signature);
    let Some(lock) = luks::lock(device) else { return words };
    let bare = words.strip_suffix(", locked").unwrap_or(&words);
    if luks::opened(storage, device).is_some() {
        return format!("{bare}, open");
    }
    let cost = match lock {
        luks::Lock::Luks(luks) => luks::cost(luks).map(|cost| format!(" ({cost})")).unwrap_or_default(),
        luks::Lock::Header => return format!("{words}: {}", luks::with_data(&path(device))),
        luks::Lock::Torn(_) | luks::Lock::BitLocker => String::new(),
    };
    if device.upper.is_empty() && device.node {
        format!("{bare}{cost}, locked: rescue open {}", word(&path(device)))
    } else {
        format!("{bare}{cost}, locked")
    }
}

impl Fitness {
    fn max_dirty(self) -> Fitness {
        if self == Fitness::Good { Fitness::Dirty } else { self }
    }
}

fn join(parts: &[String]) -> String {
    let filled: Vec<&str> = parts.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
    filled.join(", ")
}

/// Of what `rescue assemble` started from overlays.
const COPY: &str = ", a copy in memory";

/// A drive by what is printed on it; empty for what is none.
fn drive(device: &Device, storage: &Storage) -> String {
    let block = &device.block;
    let hardware = &block.hardware;
    if block.partition.is_some() {
        return String::new();
    }
    if let Some(md) = &block.md {
        let missing = match md.degraded {
            0 => String::new(),
            n => format!(", {n} of {} missing", md.raid_disks),
        };
        let action = md.sync_action.as_deref().filter(|action| *action != "idle" && *action != "frozen");
        let action = action.map(|action| format!(", {action}")).unwrap_or_default();
        let mut words = format!("{} {}{missing}{action}", md.level, md.array_state);
        if overlay::is_for_reading(storage, device) {
            words += COPY;
        }
        return words;
    }
    if let Some(file) = &block.loop_file {
        return format!("loop over {file}");
    }
    if let Some(dm) = &block.dm {
        let kind = match dm.uuid.starts_with(bcache::MAP_UUID) {
            true => "bcache".to_string(),
            false => dm.uuid.split('-').next().unwrap_or_default().to_lowercase(),
        };
        let kind = match lvm::is_hole(device) {
            true => format!("{kind}, in the place of a PV that is missing: it cannot be read"),
            false if lvm::has_hole(storage, device) => format!("{kind}, in part on a PV that is missing"),
            false => kind,
        };
        return if overlay::is_for_reading(storage, device) { kind + COPY } else { kind };
    }
    let parts = [&hardware.transport, &hardware.vendor, &hardware.model, &hardware.serial];
    // virtio's vendor is a number, ATA's the word ATA.
    let telling = |text: &&str| !text.is_empty() && !text.starts_with("0x") && *text != "ATA";
    let words: Vec<&str> =
        parts.iter().filter_map(|part| part.as_deref()).map(str::trim).filter(telling).collect();
    words.join(" ")
}

fn member(superblock: &Superblock) -> String {
    let role = match superblock.role {
        Role::Active(slot) => format!("member {slot} of {}", superblock.raid_disks),
        Role::Spare => "spare".to_string(),
        Role::Faulty => "failed member".to_string(),
        Role::Journal => "journal".to_string(),
    };
    format!("{} {role}, {}", level(superblock.level), array_name(superblock))
}

fn entry<'a>(device: &Device, storage: &'a Storage) -> Option<(TableKind, &'a Entry)> {
    let start = device.block.partition.as_ref()?.start;
    let table = storage.get(device.parent.as_ref()?)?.report()?.table.as_ref()?;
    Some((table.kind, table.partitions.iter().find(|entry| entry.extent.start == start)?))
}

/// Types of partitions that hold a superblock at all times: members of RAID and of LVM.
const MEMBERS: &[(TableKind, &str)] = &[
    (TableKind::Gpt, "A19D880F-05FC-4D3B-A006-743F0F84911E"),
    (TableKind::Gpt, "E6D6D379-F507-44C2-A23C-238F2A3DF928"),
    (TableKind::Mbr, "fd"),
    (TableKind::Mbr, "8e"),
];

/// What the table says that a partition is a member of.
pub(crate) fn promised(device: &Device, storage: &Storage) -> Option<&'static str> {
    let (kind, entry) = entry(device, storage)?;
    MEMBERS.contains(&(kind, entry.kind.as_str())).then(|| type_name(kind, entry)).flatten()
}

fn type_name(kind: TableKind, entry: &Entry) -> Option<&'static str> {
    match kind {
        TableKind::Gpt => parttype::gpt(&entry.kind),
        TableKind::Mbr => parttype::mbr(u8::from_str_radix(&entry.kind, 16).ok()?),
        TableKind::Bsd | TableKind::Mac | TableKind::Sun | TableKind::Sgi | TableKind::Atari => None,
    }
}

/// What its table says that an otherwise silent partition is.
fn kind(device: &Device, storage: &Storage) -> String {
    let name = entry(device, storage).and_then(|(kind, entry)| type_name(kind, entry));
    name.map_or("nothing known".to_string(), |name| format!("nothing known; the table says {name}"))
}

const ESP: &str = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B";
const XBOOTLDR: &str = "BC13C2FF-59E6-4262-A352-B275FD6F7172";
/// A /boot of its own is rarely larger; a root is rarely smaller.
const LARGEST_BOOT: u64 = 3 << 30;

/// What the forms of the image have (image/src/forms): how the GUID of the disk begins, and the ISO's label and date.
const OWN_DISK: &str = "4C494645-424F-4154-0000-";
const OWN_ISO: (&str, &str) = ("LIFEBOAT", "2000-01-01-00-00-00-00");

/// Lifeboat's own medium: a disk with all its partitions, or a CD.
fn is_own(device: &Device, storage: &Storage) -> bool {
    let disk = device.parent.as_ref().and_then(|id| storage.get(id)).unwrap_or(device);
    let table = disk.report().and_then(|report| report.table.as_ref());
    let is_own_disk = table.and_then(|table| table.id.as_ref()).is_some_and(|id| id.starts_with(OWN_DISK));
    let is_own_iso = device.signature().is_some_and(|signature| {
        signature.format == "iso9660"
            && (signature.label.as_deref(), signature.uuid.as_deref()) == (Some(OWN_ISO.0), Some(OWN_ISO.1))
    });
    is_own_disk || is_own_iso
}

/// What a file system looks like from outside; certain only for an ESP and for what is ours.
fn role(device: &Device, storage: &Storage) -> Option<&'static str> {
    if is_own(device, storage) {
        return Some("Lifeboat's own medium");
    }
    let signature = device.signature()?;
    let kind = entry(device, storage).map(|(_, entry)| entry.kind.as_str());
    let label = signature.label.as_deref().unwrap_or_default().to_lowercase();
    match (signature.usage, kind) {
        (Usage::Filesystem, Some(ESP | "ef")) => Some("EFI system partition"),
        (Usage::Filesystem, Some(XBOOTLDR)) => Some("looks like /boot"),
        (Usage::Filesystem, _) if label.contains("boot") && device.block.size <= LARGEST_BOOT => {
            Some("looks like /boot")
        }
        _ => None,
    }
}

fn guard(device: &Device, storage: &Storage) -> Guard {
    let block = &device.block;
    if block.is_virtual() {
        return if block.read_only { Guard::ReadOnly } else { Guard::ReadWrite };
    }
    // A partition can be written when neither its own flag nor its disk's is set.
    let disk = device.parent.as_ref().and_then(|id| storage.get(id));
    if block.read_only || disk.is_some_and(|disk| disk.block.read_only) {
        Guard::Guarded
    } else {
        Guard::Writable
    }
}

fn used_by(device: &Device, storage: &Storage) -> Vec<String> {
    let mapped = device.block.dm.as_ref().map(|dm| format!("/dev/mapper/{}", dm.name));
    let named = |path: &str| path == device.path || Some(path) == mapped.as_deref();
    let swaps = storage.swaps.iter().filter(|swap| named(&swap.path)).map(|_| "[swap]".to_string());
    let above =
        device.upper.iter().filter_map(|id| storage.get(id)).map(|upper| {
            upper.block.dm.as_ref().map_or_else(|| upper.block.name.clone(), |dm| dm.name.clone())
        });
    let mounts = storage.mounts_of(device).map(|mount| mount.target.clone());
    mounts.chain(swaps).chain(above).collect()
}

/// What `rescue assemble` would do with an array that does not run.
fn stopped(array: &Array, storage: &Storage) -> Option<Stopped> {
    if md::running(storage, array).is_some() {
        return None;
    }
    let Judgement { uuid, name, level: of, present, wanted, members, left_out, writes, refusal, .. } =
        md::judge(storage, array, &Wishes::default());
    Some(Stopped {
        uuid,
        name,
        level: level(of),
        present,
        wanted,
        members: members.into_iter().map(|member| member.path).collect(),
        left_out: left_out.iter().map(|left| format!("{}: {}", left.path, left.why)).collect(),
        copy: writes.map(|writes| writes.to_string()),
        refusal: refusal.map(|refusal| refusal.to_string()),
    })
}

/// Arrays first, since what is on them shows only then; then what is damaged; then something to mount.
fn next(storage: &Storage) -> Next {
    let next = |command: String, why: &str| Next { command, why: why.to_string() };
    if !storage.devices.iter().any(|device| is_drive(&device.block)) {
        return next(
            "lspci -k".to_string(),
            "there is no disk: which controllers are there, and has each its driver",
        );
    }
    let stopped: Vec<Stopped> = storage.arrays.iter().filter_map(|array| stopped(array, storage)).collect();
    if stopped.iter().any(|array| array.refusal.is_none()) {
        return next("rescue assemble".to_string(), "starts the arrays that were found, read-only");
    }
    let waits =
        |group: &VolumeGroup| !lvm::judge(storage, group, &lvm::Wishes::default()).to_activate().is_empty();
    if storage.volumes.iter().any(waits) {
        return next("rescue assemble".to_string(), "activates the volume groups that were found, read-only");
    }
    if bcache::found(storage).iter().any(|one| one.device.is_none() && one.start.is_ok()) {
        return next("rescue assemble".to_string(), "starts what bcache caches, read-only");
    }
    let free: Vec<&Device> = storage
        .devices
        .iter()
        .filter(|device| device.node && (is_drive(&device.block) || is_volume(&device.block)))
        .filter(|device| used_by(device, storage).is_empty() && !is_own(device, storage))
        .filter(|device| device.report().is_some_and(|report| !ambiguous(report)))
        .filter(|device| {
            device
                .signature()
                .is_some_and(|found| found.usage == Usage::Filesystem && content::is_mountable(found))
        })
        .collect();
    let damaged = |device: &&&Device| {
        device.signature().is_some_and(|found| matches!(found.health, Health::Damaged(_)))
    };
    if let Some(device) = free.iter().find(damaged) {
        return next(
            format!("fsck -n {}", word(&device.path)),
            "says what is wrong with it, and writes nothing",
        );
    }
    let boots = |device: &&&Device| role(device, storage).is_some();
    // The largest is most likely the system, locked or not.
    let largest = free.iter().filter(|device| !boots(device)).max_by_key(|device| device.block.size);
    let locked = luks::closed(storage).into_iter().max_by_key(|device| device.block.size);
    if let Some(locked) = locked
        && largest.is_none_or(|largest| largest.block.size < locked.block.size)
    {
        return next(
            format!("rescue open {}", word(&path(locked))),
            "asks for the passphrase of the largest that is locked, and opens it read-only",
        );
    }
    match largest {
        Some(device) => next(
            format!("mount -o ro {} /mnt", word(&path(device))),
            "the largest file system that was found",
        ),
        None if !stopped.is_empty() => {
            next("rescue assemble".to_string(), "says what each array lacks, and what could be done")
        }
        None => next("lsblk -f".to_string(), "shows what is mounted where"),
    }
}

fn path(device: &Device) -> String {
    let mapped = device.block.dm.as_ref().map(|dm| format!("/dev/mapper/{}", dm.name));
    mapped.unwrap_or_else(|| device.path.clone())
}
