//! Overlays: throw-away writable copies of devices that stay as they are. A dm-snapshot reads from the original and
//! writes to a sparse file on a tmpfs of its own; what is dropped was never on a disk.
//!
//! A device is used directly or through its overlay, never both: they carry the same UUIDs, and what is written to the
//! original under a snapshot shows through in it. So nothing on an original may be active when its overlay is
//! made, and [`across`] refuses the original to every later verb that writes. A set (an array, a btrfs of
//! several devices) is used through the overlays of all its members or directly.
//!
//! The store is dm-snapshot's persistent format, since that alone can tell "full" apart from "lost" (the `O` of `PO`):
//! a full one refuses writes and can still be read. Chunks are 8 sectors, a page and the block of nearly every
//! file system: a block that is written whole is not copied from the original first, and scattered small writes, as the
//! replay of a journal makes them, take no more memory than they are.

use crate::bcache;
use crate::build::is_extended;
use crate::consent;
use crate::md::{self, Judgement, Name, Wishes};
use crate::mount::{is_called, is_on};
use crate::plan::{DmLower, DmTarget, MADE, Step};
use crate::storage::{Array, Device, Id, Observed, Problem, Storage};
use crate::text::{Untrusted, size};
use contract::facts::OVERLAY_UUID;
use contract::paths;
use ondisk::{Severity, Usage};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Sectors; see the head of this file.
const CHUNK: u64 = 8;
const SECTOR: u64 = 512;
const MIB: u64 = 1 << 20;
/// Of the memory that is free when the first overlay is made, all stores together get this part: the rest is for the
/// programs that work on them, and for the tables by which the kernel finds the chunks (1 % of a store).
const SHARE: u64 = 2;
/// A smaller store holds no journal's replay (a log of xfs is up to 2 MiB where little was under way).
const LEAST: u64 = 8 * MIB;
/// One overlay gets at most so much of the store (in quarters): it is full before the others have nothing.
const QUARTERS: u64 = 3;
/// Longest name of an original in the name of its overlay; device mapper takes 127 bytes.
const LONGEST: usize = 100;
/// Between [`OVERLAY_UUID`] and the id: made by `mount -o ro`, and dropped by umount.
const FOR_MOUNT: &str = "MOUNT-";
/// The same, made by `rescue assemble`, and dropped by its `--stop`.
const FOR_ASSEMBLY: &str = "ASSEMBLE-";

/// How a device is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Use {
    /// What stands on it is active, and by what.
    Direct { path: String, by: String },
    /// Through this overlay.
    Overlay { path: String, of: String },
}

/// Who asked for an overlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// A person, who drops it again.
    Overlay,
    /// `mount -o ro`, to replay a log; umount drops it.
    Mount,
    /// `rescue assemble`, to read what the kernel writes to as it starts; `rescue assemble --stop` drops it.
    Assemble,
}

impl Purpose {
    fn mark(self) -> &'static str {
        match self {
            Purpose::Overlay => "",
            Purpose::Mount => FOR_MOUNT,
            Purpose::Assemble => FOR_ASSEMBLY,
        }
    }

    /// What is known of an overlay by its UUID: who made it, and the id of its original.
    fn of(uuid: &str) -> Option<(Purpose, &str)> {
        let rest = uuid.strip_prefix(OVERLAY_UUID)?;
        let marked = [Purpose::Mount, Purpose::Assemble]
            .into_iter()
            .find_map(|purpose| Some((purpose, rest.strip_prefix(purpose.mark())?)));
        Some(marked.unwrap_or((Purpose::Overlay, rest)))
    }
}

/// One that is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Overlay {
    #[serde(skip)]
    pub id: Id,
    /// `over-sda1`
    pub name: String,
    /// `/dev/mapper/over-sda1`
    pub path: String,
    /// `/dev/dm-0`
    pub node: String,
    /// The original; `None`: it is gone.
    pub of: Option<String>,
    #[serde(skip)]
    pub origin: Option<Id>,
    /// Bytes.
    pub size: u64,
    pub made_by: Purpose,
    #[serde(flatten)]
    pub room: Room,
    /// The file behind it.
    pub store: Option<String>,
    /// Mount points, and what stands on it.
    pub used_by: Vec<String>,
}

/// What the kernel says of its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Room {
    /// Bytes.
    Free {
        used: u64,
        limit: u64,
    },
    /// Writes fail; what was written before is there.
    Full,
    /// A write was lost: nothing of it can be read.
    Lost,
    Unknown,
}

/// All stores together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Store {
    /// Bytes of memory that it may take.
    pub limit: u64,
    /// Bytes that it takes.
    pub used: u64,
}

/// Why there is no overlay, or why it stays: one line that names the device and says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{path} is in use: {by}")]
    InUse { path: String, by: String },
    #[error("{of} is used through its overlay {path}; rescue overlay --drop {of} ends that")]
    Overlaid { path: String, of: String },
    #[error("{0} hangs: it is not touched until it answers")]
    Hangs(String),
    #[error("{0} has no node: the kernel refused this partition; blockdev --rereadpt reads the table again")]
    NoNode(String),
    #[error("{0} has nothing behind it")]
    Empty(String),
    #[error("{0} is an overlay itself")]
    IsOverlay(String),
    #[error("{path} runs for writing: rescue assemble --stop {path} first")]
    RunsForWriting { path: String },
    #[error("{} of memory are free, and an overlay takes {} at least", size(*.0), size(2 * LEAST))]
    Memory(u64),
    #[error("the store in memory is full: rescue overlay shows by what, and --drop makes room")]
    StoreFull,
    #[error(
        "{0} has its journal on another device, which an overlay of it does not cover: mount -o ro {0} shows it without that"
    )]
    JournalElsewhere(String),
    #[error("{0} has no overlay")]
    None(String),
    #[error(transparent)]
    Consent(#[from] consent::Refusal),
}

/// What to do, and what a person is told of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub steps: Vec<Step>,
    /// Paths of the overlays that are made or dropped, each with its original's.
    pub overlays: Vec<(String, String)>,
    /// Arrays that are stopped, by path.
    pub stopped: Vec<String>,
}

/// What a person asks for.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    pub purpose: Purpose,
    /// A disk as a whole, instead of each of its partitions.
    pub whole: bool,
    /// Bytes of memory that are free.
    pub memory: u64,
}

pub fn is_overlay(device: &Device) -> bool {
    device.block.is_overlay()
}

/// `/dev/mapper/over-sda1`, as people call a mapped device.
fn shown(device: &Device) -> String {
    let mapped = device.block.dm.as_ref().map(|dm| format!("/dev/mapper/{}", dm.name));
    mapped.unwrap_or_else(|| device.path.clone())
}

/// All that are there, in the graph's order.
pub fn list(storage: &Storage) -> Vec<Overlay> {
    storage.devices.iter().filter_map(|device| overlay(storage, device)).collect()
}

fn overlay(storage: &Storage, device: &Device) -> Option<Overlay> {
    let dm = device.block.dm.as_ref()?;
    let (made_by, id) = Purpose::of(&dm.uuid)?;
    let origin = storage.get(&Id(id.to_string()));
    let file = |id: &Id| storage.get(id)?.block.loop_file.clone();
    Some(Overlay {
        id: device.id.clone(),
        name: dm.name.clone(),
        path: shown(device),
        node: device.path.clone(),
        of: origin.map(shown),
        origin: origin.map(|origin| origin.id.clone()),
        size: device.block.size,
        made_by,
        room: room(device.block.snapshot.as_deref()),
        store: device.lower.iter().find_map(file),
        used_by: users(storage, device),
    })
}

/// snapshot_status in drivers/md/dm-snap.c: `ALLOCATED/TOTAL METADATA` in sectors, or a word.
fn room(status: Option<&str>) -> Room {
    let sectors = |text: &str| Some(text.parse::<u64>().ok()?.saturating_mul(SECTOR));
    let numbers = |text: &str| {
        let (used, limit) = text.split(' ').next()?.split_once('/')?;
        Some(Room::Free { used: sectors(used)?, limit: sectors(limit)? })
    };
    match status {
        Some("Overflow") => Room::Full,
        Some("Invalid") => Room::Lost,
        Some(text) => numbers(text).unwrap_or(Room::Unknown),
        None => Room::Unknown,
    }
}

/// The overlays that a device stands on, directly or on arrays and maps; an overlay is its own.
pub fn under(storage: &Storage, device: &Device) -> Vec<Overlay> {
    let (mut seen, mut open, mut found) = (BTreeSet::new(), vec![&device.id], Vec::new());
    while let Some(id) = open.pop() {
        let Some(device) = storage.get(id).filter(|_| seen.insert(id)) else { continue };
        match overlay(storage, device) {
            Some(overlay) => found.push(overlay),
            None => open.extend(device.lower.iter().chain(&device.parent)),
        }
    }
    found
}

/// The overlay of exactly this device.
pub fn over(storage: &Storage, id: &Id) -> Option<Overlay> {
    list(storage).into_iter().find(|overlay| overlay.origin.as_ref() == Some(id))
}

/// The store, where there is one.
pub fn store(storage: &Storage) -> Option<Store> {
    let mount = storage.mounts.iter().rfind(|mount| mount.target == paths::OVERLAY)?;
    let limit = mount.super_options.split(',').find_map(|option| option.strip_prefix("size="));
    let limit = limit.and_then(|text| text.strip_suffix('k')?.parse::<u64>().ok()).unwrap_or(0);
    let limit = limit.saturating_mul(1024);
    let used = |overlay: &Overlay| match overlay.room {
        Room::Free { used, .. } => used,
        Room::Full | Room::Lost => limit / 4 * QUARTERS,
        Room::Unknown => 0,
    };
    Some(Store { limit, used: list(storage).iter().map(used).sum() })
}

/// What is active on a device itself, in a person's words; its overlay does not count.
fn users(storage: &Storage, device: &Device) -> Vec<String> {
    let mounts = storage.mounts.iter().filter(|mount| device.node && is_on(mount, &device.block));
    let mounts = mounts.map(|mount| format!("mounted at {}", Untrusted(&mount.target)));
    let swaps = storage.swaps.iter().filter(|swap| is_called(&device.block, &swap.path));
    let swaps = swaps.map(|_| "swap".to_string());
    let above = device.upper.iter().filter_map(|id| storage.get(id)).filter(|upper| !is_overlay(upper));
    mounts.chain(swaps).chain(above.map(part_of)).collect()
}

/// A device, its disk and its partitions: what shares bytes with it.
fn family<'a>(storage: &'a Storage, device: &'a Device) -> impl Iterator<Item = &'a Device> {
    storage.devices.iter().filter(|other| {
        other.id == device.id
            || device.parent.as_ref() == Some(&other.id)
            || other.parent.as_ref() == Some(&device.id)
    })
}

/// How a device is used, if it is; its bytes, not only its name.
pub fn usage(storage: &Storage, device: &Device) -> Option<Use> {
    usage_but(storage, device, &[])
}

/// The same without arrays that will be stopped.
fn usage_but(storage: &Storage, device: &Device, stops: &[&Device]) -> Option<Use> {
    across(storage, device).or_else(|| direct(storage, device, stops))
}

fn direct(storage: &Storage, device: &Device, stops: &[&Device]) -> Option<Use> {
    let goes: Vec<String> = stops.iter().map(|array| part_of(array)).collect();
    family(storage, device).find_map(|one| {
        let by = users(storage, one).into_iter().find(|by| !goes.contains(by))?;
        Some(Use::Direct { path: shown(one), by })
    })
}

fn part_of(upper: &Device) -> String {
    part(&shown(upper))
}

fn part(upper: &str) -> String {
    format!("part of {upper}")
}

impl From<Use> for Refusal {
    fn from(used: Use) -> Refusal {
        match used {
            Use::Direct { path, by } => Refusal::InUse { path, by },
            Use::Overlay { path, of } => Refusal::Overlaid { path, of },
        }
    }
}

/// The overlay that stands, directly or on arrays and maps, on bytes of this device: so it cannot be
/// used itself.
pub fn across(storage: &Storage, device: &Device) -> Option<Use> {
    let shares = |one: &Device| {
        one.id == device.id
            || one.parent.as_ref() == Some(&device.id)
            || device.parent.as_ref() == Some(&one.id)
    };
    list(storage).into_iter().find_map(|overlay| {
        let origin = overlay.origin.clone()?;
        let stands = chain(storage, &origin);
        stands
            .into_iter()
            .any(shares)
            .then(|| Use::Overlay { path: overlay.path, of: overlay.of.unwrap_or_default() })
    })
}

/// A device and all that it stands on, down to an overlay: what is below that is not written through it.
fn chain<'a>(storage: &'a Storage, id: &Id) -> Vec<&'a Device> {
    let (mut seen, mut open, mut found) = (BTreeSet::new(), vec![id.clone()], Vec::new());
    while let Some(id) = open.pop() {
        let Some(device) = storage.get(&id).filter(|_| seen.insert(id)) else { continue };
        if is_overlay(device) {
            continue;
        }
        found.push(device);
        let virtual_disk = device.parent.as_ref().filter(|_| device.block.is_virtual());
        open.extend(device.lower.iter().chain(virtual_disk).cloned());
    }
    found
}

/// What would be overlaid: devices, and the arrays on them that are stopped first.
#[derive(Debug, Default)]
struct Set {
    originals: Vec<Id>,
    arrays: Vec<Id>,
}

impl Set {
    /// The devices that stand for what a person named, with everything that belongs to the same sets.
    fn of(storage: &Storage, ids: &[Id], whole: bool) -> Result<Set, Refusal> {
        let (mut set, mut seen) = (Set::default(), BTreeSet::new());
        let mut open: Vec<(Id, bool)> = ids.iter().rev().map(|id| (id.clone(), true)).collect();
        while let Some((id, named)) = open.pop() {
            let Some(device) = storage.get(&id).filter(|_| seen.insert(id)) else { continue };
            let implied = |id: &Id| (id.clone(), false);
            if is_overlay(device) {
                if named {
                    return Err(Refusal::IsOverlay(shown(device)));
                }
                continue;
            }
            let parts = || partitions(storage, device);
            if is_opened(storage, device) && device.block.partition.is_none() {
                set.arrays.push(device.id.clone());
                let members = storage.arrays.iter().find(|array| array.device.as_ref() == Some(&device.id));
                open.extend(members.into_iter().flat_map(|array| &array.members).map(implied));
                open.extend(device.lower.iter().map(implied));
            } else if let Some(array) = array_below(storage, device) {
                open.push(implied(&array.id));
            } else if !whole && device.block.partition.is_none() && !parts().is_empty() {
                open.extend(parts().iter().rev().map(|part| implied(&part.id)));
            } else if let Some(why) = unfit(device) {
                if named {
                    return Err(why);
                }
            } else {
                set.originals.push(device.id.clone());
                open.extend(siblings(storage, device).iter().map(implied));
                // An array that runs on it goes, and so do its other members.
                let arrays = device.upper.iter().filter_map(|id| storage.get(id));
                open.extend(arrays.filter(|upper| upper.block.md.is_some()).map(|upper| implied(&upper.id)));
            }
        }
        let place = |id: &Id| storage.devices.iter().position(|device| device.id == *id);
        set.originals.sort_by_key(place);
        // Those that stand on others first: they were found on the way up or down, so the graph is asked.
        set.arrays.sort_by_key(|id| std::cmp::Reverse(chain(storage, id).len()));
        Ok(set)
    }
}

/// The array that this is a partition of.
fn array_below<'a>(storage: &'a Storage, device: &Device) -> Option<&'a Device> {
    let disk = storage.get(device.parent.as_ref()?)?;
    is_opened(storage, disk).then_some(disk)
}

/// An array that is overlaid by its members. Firmware RAID runs on as it is, and is overlaid itself: its metadata cannot be
/// kept on overlays, where the drives' serial numbers are not seen. So does one of which the kernel does not take the superblocks.
fn is_opened(storage: &Storage, device: &Device) -> bool {
    device.block.md.is_some() && !md::is_firmware(storage, device) && md::newer(storage, device).is_none()
}

/// Partitions with a node and something in them.
fn partitions<'a>(storage: &'a Storage, disk: &Device) -> Vec<&'a Device> {
    let own = |device: &&Device| {
        device.node && device.parent.as_ref() == Some(&disk.id) && !is_extended(device, storage)
    };
    storage.devices.iter().filter(own).collect()
}

fn unfit(device: &Device) -> Option<Refusal> {
    let path = shown(device);
    match device.report {
        Observed::Hung { .. } => Some(Refusal::Hangs(path)),
        Observed::Examined { .. } | Observed::Skipped { .. } | Observed::Failed { .. } => {
            if !device.node {
                Some(Refusal::NoNode(path))
            } else {
                (device.block.size < CHUNK * SECTOR).then_some(Refusal::Empty(path))
            }
        }
    }
}

/// The other members of the set that a device belongs to: an array by its superblock, a volume group by its
/// metadata, a btrfs by its UUID.
fn siblings(storage: &Storage, device: &Device) -> Vec<Id> {
    let group = storage.volumes.iter().find(|group| group.members.contains(&device.id));
    if let Some(group) = group {
        let is_original = |id: &&Id| storage.get(id).is_some_and(|member| !is_overlay(member));
        return group.members.iter().filter(is_original).cloned().collect();
    }
    let array = storage.arrays.iter().find(|array| array.members.contains(&device.id));
    if let Some(array) = array {
        return array.members.clone();
    }
    let pool = |device: &'_ Device| {
        let signature = device.signature().filter(|signature| signature.format == "btrfs")?;
        Some((signature.uuid.clone()?, signature.member_uuid.clone()?))
    };
    let Some((uuid, member)) = pool(device) else { return Vec::new() };
    let is_sibling = |other: &&Device| {
        !is_overlay(other) && pool(other).is_some_and(|(of, own)| of == uuid && own != member)
    };
    storage.devices.iter().filter(is_sibling).map(|other| other.id.clone()).collect()
}

/// The steps that make overlays of these devices, and of what belongs to them. One that is there already is left as
/// it is, and is not in the plan.
pub fn make(storage: &Storage, ids: &[Id], wish: &Wish) -> Result<Plan, Refusal> {
    let set = Set::of(storage, ids, wish.whole)?;
    let stops: Vec<&Device> = set.arrays.iter().filter_map(|id| storage.get(id)).collect();
    let mut originals: Vec<&Device> = Vec::new();
    for original in set.originals.iter().filter_map(|id| storage.get(id)) {
        match over(storage, &original.id) {
            None => originals.push(original),
            // Only to be read; what a person asks for is to be written.
            Some(there) if there.made_by == Purpose::Assemble => {
                return Err(Refusal::Overlaid { path: there.path, of: shown(original) });
            }
            Some(_) => {}
        }
    }
    for original in &originals {
        free(storage, original, &stops)?;
    }
    // What replays it in memory empties it on the disk. The driver of xfs takes a log that is named, an overlay as well.
    let is_half = |device: &&&Device| {
        device.signature().is_some_and(|found| found.journal_on.is_some() && found.format != "xfs")
    };
    if let Some(half) = originals.iter().chain(&stops).find(is_half) {
        return Err(Refusal::JournalElsewhere(shown(half)));
    }
    let mut plan = Plan::default();
    if originals.is_empty() {
        return Ok(plan);
    }
    for array in &stops {
        plan.steps.push(stop(storage, array, &stops)?);
        plan.stopped.push(array.path.clone());
    }
    lay(storage, &originals, wish.purpose, wish.memory, &mut plan)?;
    Ok(plan)
}

/// Modules, store, and an overlay over each of these.
fn lay(
    storage: &Storage,
    originals: &[&Device],
    purpose: Purpose,
    memory: u64,
    plan: &mut Plan,
) -> Result<(), Refusal> {
    // The modules first: one that is not there is told before anything is made. btrfs keeps its list itself.
    let is_pool = |original: &&&Device| is_btrfs(original) && !siblings(storage, original).is_empty();
    let btrfs = originals.iter().find(is_pool).map(|_| "btrfs");
    for module in ["loop", "dm_snapshot"].into_iter().chain(btrfs) {
        plan.steps.push(Step::Module { name: module.to_string() });
    }
    let limit = match store(storage) {
        Some(store) if store.used.saturating_add(MIB) > store.limit => return Err(Refusal::StoreFull),
        Some(store) => store.limit,
        None => {
            let limit = memory / SHARE / MIB * MIB;
            if limit < LEAST {
                return Err(Refusal::Memory(memory));
            }
            plan.steps.extend(store_steps(limit));
            limit
        }
    };
    let mut taken: BTreeSet<String> =
        storage.devices.iter().filter_map(|device| Some(device.block.dm.as_ref()?.name.clone())).collect();
    for original in originals {
        let name = name(original, &mut taken);
        let path = format!("/dev/mapper/{name}");
        plan.steps.extend(one(original, &name, purpose, limit));
        if is_btrfs(original) && !siblings(storage, original).is_empty() {
            plan.steps.push(Step::BtrfsScan { device: path.clone() });
        }
        plan.overlays.push((path, shown(original)));
    }
    Ok(())
}

/// Nothing on the original may be active but arrays that are stopped first.
fn free(storage: &Storage, original: &Device, stops: &[&Device]) -> Result<(), Refusal> {
    if let Some(used) = usage_but(storage, original, stops) {
        return Err(used.into());
    }
    // Of a btrfs the kernel names one device where it is mounted.
    for sibling in siblings(storage, original).iter().filter_map(|id| storage.get(id)) {
        if let Some(by) = users(storage, sibling).into_iter().find(|by| by.starts_with("mounted")) {
            return Err(Refusal::InUse { path: shown(sibling), by });
        }
    }
    Ok(())
}

/// An array may be stopped when nothing uses it and nothing was written through it.
fn stop(storage: &Storage, array: &Device, stops: &[&Device]) -> Result<Step, Refusal> {
    let overlay = family(storage, array).find_map(|one| Some((over(storage, &one.id)?, shown(one))));
    if let Some((overlay, of)) = overlay {
        return Err(Refusal::Overlaid { path: overlay.path, of });
    }
    if let Some(used) = direct(storage, array, stops) {
        return Err(used.into());
    }
    match array.block.md.as_ref().map_or("", |md| md.array_state.as_str()) {
        "" | "clear" | "inactive" | "readonly" | "read-auto" => {
            Ok(Step::MdStop { device: array.path.clone() })
        }
        _ => Err(Refusal::RunsForWriting { path: array.path.clone() }),
    }
}

fn store_steps(limit: u64) -> [Step; 2] {
    [
        Step::MakeDirectory { path: paths::OVERLAY.to_string() },
        Step::Mount {
            source: "overlay-store".to_string(),
            target: paths::OVERLAY.to_string(),
            fstype: "tmpfs".to_string(),
            flags: ["nosuid", "nodev", "noexec"].map(str::to_string).to_vec(),
            data: format!("size={}k,mode=0700", limit / 1024),
        },
    ]
}

/// Store, loop device, snapshot.
fn one(original: &Device, name: &str, purpose: Purpose, limit: u64) -> Vec<Step> {
    let file = format!("{}/{name}", paths::OVERLAY);
    let block = &original.block;
    let target = DmTarget {
        start: 0,
        length: block.size / SECTOR,
        kind: "snapshot".to_string(),
        text: format!("{} {MADE} PO {CHUNK}", original.path),
    };
    let lower = DmLower::of(original.path.clone(), block);
    let forget = is_btrfs(original).then(|| Step::BtrfsForget { device: original.path.clone() });
    let steps = [
        Step::SparseFile { path: file.clone(), size: store_size(block.size, limit) },
        Step::Loop { file, read_only: false, offset: 0, size: None },
        Step::DmCreate {
            name: name.to_string(),
            uuid: format!("{OVERLAY_UUID}{}{}", purpose.mark(), original.id.0),
            table: vec![target],
            read_only: false,
            on: vec![lower],
        },
    ];
    forget.into_iter().chain(steps).collect()
}

/// Enough for every block to differ, as far as the bound allows: a header, 256 chunks for each chunk of
/// their places, and one area ahead.
fn store_size(original: u64, limit: u64) -> u64 {
    let chunk = CHUNK * SECTOR;
    let chunks = original.div_ceil(chunk);
    let all = chunks.saturating_add(chunks.div_ceil(256)).saturating_add(3).saturating_mul(chunk);
    all.min(limit / 4 * QUARTERS / chunk * chunk)
}

/// `over-sda1`; `over-sda1-2` while the overlay of another disk of that name is there.
fn name(original: &Device, taken: &mut BTreeSet<String>) -> String {
    let own = original.block.dm.as_ref().map_or(&original.block.name, |dm| &dm.name);
    let plain = |c: char| if c == '!' || c == '/' { '-' } else { c };
    let mut end = own.len().min(LONGEST);
    while !own.is_char_boundary(end) {
        end -= 1;
    }
    let base = format!("over-{}", own[..end].chars().map(plain).collect::<String>());
    let numbered = (2..).map(|n| format!("{base}-{n}"));
    let name = std::iter::once(base.clone()).chain(numbered).find(|name| !taken.contains(name));
    let name = name.unwrap_or(base); // the numbers do not end
    taken.insert(name.clone());
    name
}

fn is_btrfs(device: &Device) -> bool {
    device.signature().is_some_and(|signature| signature.format == "btrfs")
}

/// Every device that an overlay can be made of: what has a signature, on real disks, and is not in use.
/// Those that are in use are named with why.
pub fn all(storage: &Storage) -> (Vec<Id>, Vec<Refusal>) {
    let (mut ids, mut refusals) = (Vec::new(), Vec::new());
    let is_leaf = |device: &&Device| {
        device.guard.is_some()
            && device.node
            && device.block.size >= CHUNK * SECTOR
            && (device.block.partition.is_some() || partitions(storage, device).is_empty())
            && !is_extended(device, storage)
            && device.signature().is_some()
    };
    for device in storage.devices.iter().filter(is_leaf) {
        if over(storage, &device.id).is_some() {
            continue;
        }
        // Each by itself, to find those that cannot; memory is looked at when all are made.
        let wish = Wish { purpose: Purpose::Overlay, whole: false, memory: u64::MAX };
        match make(storage, std::slice::from_ref(&device.id), &wish) {
            Ok(_) | Err(Refusal::StoreFull) => ids.push(device.id.clone()),
            Err(refusal) => refusals.push(refusal),
        }
    }
    refusals.dedup();
    (ids, refusals)
}

/// Arrays whose members are overlays that a person made and that do not run: to be started from those alone.
pub fn to_start(storage: &Storage) -> impl Iterator<Item = &Array> {
    let is_own = |one: &Device| is_throw_away(storage, one) && !is_for_reading(storage, one);
    storage.arrays.iter().filter(move |array| {
        let mut members = array.members.iter().filter_map(|id| storage.get(id));
        array.device.is_none() && !array.members.is_empty() && members.all(is_own)
    })
}

/// Arrays on arrays on arrays; the kernel refuses loops, a captured machine need not.
const DEEPEST: usize = 8;

/// What is written to it reaches no disk: an overlay, or what stands on overlays alone.
pub fn is_throw_away(storage: &Storage, device: &Device) -> bool {
    fn looked(storage: &Storage, device: &Device, deepest: usize) -> bool {
        if is_overlay(device) || deepest == 0 {
            return is_overlay(device);
        }
        let mut below = device.lower.iter().chain(&device.parent).filter_map(|id| storage.get(id)).peekable();
        below.peek().is_some() && below.all(|lower| looked(storage, lower, deepest - 1))
    }
    looked(storage, device, DEEPEST)
}

/// Whether a device stands on overlays that `rescue assemble` made, or is one: a copy that is only there to be read.
pub fn is_for_reading(storage: &Storage, device: &Device) -> bool {
    let (mut seen, mut open) = (BTreeSet::new(), vec![&device.id]);
    while let Some(id) = open.pop() {
        let Some(device) = storage.get(id).filter(|_| seen.insert(id)) else { continue };
        match device.block.dm.as_ref().and_then(|dm| Purpose::of(&dm.uuid)) {
            Some((Purpose::Assemble, _)) => return true,
            Some((Purpose::Overlay | Purpose::Mount, _)) => {}
            None => open.extend(device.lower.iter().chain(&device.parent)),
        }
    }
    false
}

/// These devices and the overlays of them: what a person chose stays chosen.
pub fn and_overlays(storage: &Storage, ids: &[Id]) -> Vec<Id> {
    let overlays = ids.iter().filter_map(|id| over(storage, id)).map(|overlay| overlay.id);
    ids.iter().cloned().chain(overlays).collect()
}

/// The steps that start an array from overlays, without a resync, a rebuild or a reshape going on, which would write
/// every block of a member into the store: for writing where a person made them, else for reading.
pub fn start(
    storage: &Storage,
    judgement: &Judgement,
    name: &Name,
    purpose: Purpose,
    by: &str,
) -> Result<Vec<Step>, consent::Refusal> {
    let mut steps = md::assemble(storage, judgement, name, &Wishes::default(), by)?;
    steps.push(Step::MdFreeze { device: name.device.clone() });
    match purpose {
        Purpose::Overlay => {
            steps.push(Step::MdSetReadOnly { device: name.device.clone(), read_only: false });
        }
        Purpose::Mount | Purpose::Assemble => {}
    }
    Ok(steps)
}

/// The steps that put overlays over exactly these members of an array, or PVs of a group, for it to be started from them.
/// Those that are overlays already need none. One that is an array is overlaid itself, and goes on running.
pub fn for_assembly(storage: &Storage, ids: &[Id], memory: u64) -> Result<Plan, Refusal> {
    let devices = ids.iter().filter_map(|id| storage.get(id));
    let originals: Vec<&Device> = devices.filter(|device| !is_throw_away(storage, device)).collect();
    read_through(storage, &originals, Purpose::Assemble, memory)
}

fn read_through(
    storage: &Storage,
    originals: &[&Device],
    purpose: Purpose,
    memory: u64,
) -> Result<Plan, Refusal> {
    let mut plan = Plan::default();
    for original in originals {
        if let Some(why) = unfit(original) {
            return Err(why);
        }
        free(storage, original, &[])?;
    }
    if !originals.is_empty() {
        lay(storage, originals, purpose, memory, &mut plan)?;
    }
    Ok(plan)
}

/// Whether a file system's last changes are in a log that only an overlay, or a write to the disk, can show.
pub fn wants_replay(device: &Device) -> bool {
    device.signature().is_some_and(|signature| signature.dirty && signature.usage == Usage::Filesystem)
}

/// The steps that make a device readable whose log has to be replayed, and the path to mount instead of it.
/// An overlay that is there is used again.
pub fn for_reading(storage: &Storage, id: &Id, memory: u64) -> Result<(Plan, String), Refusal> {
    let device = storage.get(id).ok_or_else(|| Refusal::None(id.0.clone()))?;
    if let Some(overlay) = over(storage, id) {
        return Ok((Plan::default(), overlay.path));
    }
    // The device itself, also where it is an array that runs read-only: nothing is written to that either way.
    let mut originals = vec![device];
    originals.extend(siblings(storage, device).iter().filter_map(|id| storage.get(id)));
    let plan = read_through(storage, &originals, Purpose::Mount, memory)?;
    let path = plan.overlays.first().map(|(path, _)| path.clone()).unwrap_or_default();
    Ok((plan, path))
}

/// The same for devices that are read together, with a path for each of them. What is in memory already is read as it is.
pub fn for_reading_together(
    storage: &Storage,
    ids: &[&Id],
    memory: u64,
) -> Result<(Plan, Vec<String>), Refusal> {
    let devices: Vec<&Device> = ids.iter().filter_map(|id| storage.get(id)).collect();
    let there = |device: &Device| match is_throw_away(storage, device) {
        true => Some(shown(device)),
        false => over(storage, &device.id).map(|overlay| overlay.path),
    };
    let originals: Vec<&Device> = devices.iter().copied().filter(|device| there(device).is_none()).collect();
    let plan = read_through(storage, &originals, Purpose::Mount, memory)?;
    let mut made = plan.overlays.iter().map(|(path, _)| path.clone());
    let paths = devices.iter().filter_map(|device| there(device).or_else(|| made.next())).collect();
    Ok((plan, paths))
}

/// The steps that end overlays, named by themselves, their originals, a disk of those, or an array on them;
/// without names: all. Arrays that stand on them are stopped.
pub fn end(storage: &Storage, ids: Option<&[Id]>) -> Result<Plan, Refusal> {
    let all = list(storage);
    let mut chosen: BTreeSet<Id> = BTreeSet::new();
    match ids {
        None => chosen.extend(all.iter().map(|overlay| overlay.id.clone())),
        Some(ids) => {
            for id in ids {
                let before = chosen.len();
                chosen.extend(all.iter().filter(|one| means(storage, one, id)).map(|one| one.id.clone()));
                if chosen.len() == before && !all.iter().any(|one| means(storage, one, id)) {
                    let path = storage.get(id).map_or_else(|| id.0.clone(), shown);
                    return Err(Refusal::None(path));
                }
            }
        }
    }
    // A set goes as a whole: an array would count the others as failed, a btrfs would take an original beside them.
    let mut arrays: Vec<&Device> = Vec::new();
    loop {
        let before = (chosen.len(), arrays.len());
        let others = |id: &Id| storage.get(id).map_or(Vec::new(), |device| set_of(storage, device));
        let more: Vec<Id> = chosen.iter().flat_map(others).collect();
        chosen.extend(more);
        let stands = |device: &&Device| {
            device.block.md.is_some()
                && device.block.partition.is_none()
                && !arrays.iter().any(|array| array.id == device.id)
                && device
                    .lower
                    .iter()
                    .any(|id| chosen.contains(id) || arrays.iter().any(|array| array.id == *id))
        };
        let more: Vec<&Device> = storage.devices.iter().filter(stands).collect();
        arrays.extend(more);
        for array in &arrays {
            let members = array.lower.iter().filter(|id| storage.get(id).is_some_and(is_overlay));
            chosen.extend(members.cloned());
        }
        if (chosen.len(), arrays.len()) == before {
            break;
        }
    }
    let mut plan = Plan::default();
    arrays.reverse();
    for array in &arrays {
        if let Some(used) = direct(storage, array, &arrays) {
            return Err(used.into());
        }
        plan.steps.push(Step::MdStop { device: array.path.clone() });
        plan.stopped.push(array.path.clone());
    }
    for overlay in all.iter().filter(|overlay| chosen.contains(&overlay.id)) {
        let Some(device) = storage.get(&overlay.id) else { continue };
        if let Some(used) = direct(storage, device, &arrays) {
            return Err(used.into());
        }
        if is_btrfs(device) {
            plan.steps.push(Step::BtrfsForget { device: overlay.path.clone() });
        }
        take_away(overlay, &mut plan);
    }
    close_store(storage, chosen.len() == all.len(), &mut plan);
    Ok(plan)
}

fn take_away(overlay: &Overlay, plan: &mut Plan) {
    plan.steps.push(Step::DmRemove { name: overlay.name.clone() });
    plan.steps.extend(overlay.store.clone().map(|path| Step::RemoveFile { path }));
    plan.overlays.push((overlay.path.clone(), overlay.of.clone().unwrap_or_default()));
}

fn close_store(storage: &Storage, is_last: bool, plan: &mut Plan) {
    if is_last && store(storage).is_some() {
        // The loop device lets go of its file a moment after the overlay is gone.
        plan.steps.push(Step::Umount { target: paths::OVERLAY.to_string(), lazy: true, force: false });
    }
}

/// The steps that end the overlays that `rescue assemble` made and that nothing stands on any more, of a set all or none.
/// `gone` are taken for stopped, by path as people know them.
pub fn left_by_assembly(storage: &Storage, gone: &BTreeSet<String>) -> Plan {
    let all = list(storage);
    let own = |one: &&Overlay| one.made_by == Purpose::Assemble;
    let is_used = |one: &Overlay| one.used_by.iter().any(|by| !gone.iter().any(|path| *by == part(path)));
    let is_left = |one: &&Overlay| {
        let set = storage.get(&one.id).map_or(Vec::new(), |device| set_of(storage, device));
        !is_used(one) && !all.iter().filter(|other| set.contains(&other.id)).any(is_used)
    };
    let left: Vec<&Overlay> = all.iter().filter(own).filter(is_left).collect();
    let mut plan = Plan::default();
    for overlay in &left {
        take_away(overlay, &mut plan);
    }
    close_store(storage, !left.is_empty() && left.len() == all.len(), &mut plan);
    plan
}

/// The overlays of the same array, volume group or btrfs.
fn set_of(storage: &Storage, overlay: &Device) -> Vec<Id> {
    let array = storage.arrays.iter().find(|array| array.members.contains(&overlay.id));
    let group = storage.volumes.iter().find(|group| group.members.contains(&overlay.id));
    let cached = bcache::set_of(storage, &overlay.id);
    let pool = |device: &Device| device.signature().and_then(|signature| signature.uuid.clone());
    let is_in = |other: &&Device| {
        let in_pool = is_btrfs(overlay) && is_btrfs(other) && pool(overlay) == pool(other);
        let in_array = array.is_some_and(|array| array.members.contains(&other.id));
        let in_group = group.is_some_and(|group| group.members.contains(&other.id));
        is_overlay(other) && (in_pool || in_array || in_group || cached.contains(&other.id))
    };
    storage.devices.iter().filter(is_in).map(|other| other.id.clone()).collect()
}

fn means(storage: &Storage, overlay: &Overlay, id: &Id) -> bool {
    let Some(device) = storage.get(&overlay.id) else { return false };
    let origin = overlay.origin.as_ref().and_then(|id| storage.get(id));
    let is_above = storage.get(id).is_some_and(|named| {
        named.block.md.is_some()
            && (named.lower.contains(&device.id)
                || named.parent.as_ref().is_some_and(|array| {
                    storage.get(array).is_some_and(|array| array.lower.contains(&device.id))
                }))
    });
    overlay.id == *id
        || is_above
        || origin.is_some_and(|origin| origin.id == *id || origin.parent.as_ref() == Some(id))
}

/// The overlays that a mount of `source` made for itself and that nobody uses any more; of a btrfs of several devices
/// all.
pub fn left_by_mount(storage: &Storage, source: &str) -> Vec<Id> {
    let all = list(storage);
    let Some(own) = all.iter().find(|overlay| overlay.path == source || overlay.node == source) else {
        return Vec::new();
    };
    let ids = storage.get(&own.id).map_or(Vec::new(), |device| set_of(storage, device));
    let set = || all.iter().filter(|other| other.id == own.id || ids.contains(&other.id));
    if set().any(|overlay| overlay.made_by != Purpose::Mount || !overlay.used_by.is_empty()) {
        return Vec::new();
    }
    set().map(|overlay| overlay.id.clone()).collect()
}

/// Of an overlay that a mount made for itself: its path, and what it is of.
pub fn made_by_mount(storage: &Storage, device: &Device) -> Option<(String, String)> {
    let overlay = overlay(storage, device).filter(|overlay| overlay.made_by == Purpose::Mount)?;
    Some((overlay.path, overlay.of?))
}

/// Of devices that one file system is made of, by kernel name: an original and an overlay side by side.
pub fn mixed(storage: &Storage, names: &[String]) -> Option<(String, String)> {
    let devices = storage.devices.iter().filter(|device| names.contains(&device.block.name));
    let (over, direct): (Vec<&Device>, Vec<&Device>) = devices.partition(|device| is_overlay(device));
    Some((shown(direct.first()?), shown(over.first()?)))
}

/// What is wrong with overlays, for the list of problems.
pub fn problems(storage: &Storage) -> Vec<Problem> {
    let mut problems = Vec::new();
    for overlay in list(storage) {
        let of = overlay.of.as_deref().unwrap_or("a device that is gone");
        let again = overlay.of.as_ref().map_or(&overlay.path, |of| of);
        let mut add = |severity, text| {
            problems.push(Problem { device: Some(overlay.path.clone()), severity, text });
        };
        match overlay.room {
            Room::Full => add(
                Severity::Error,
                format!(
                    "{} is full: it can be read and no longer written, and {of} is untouched; rescue overlay --drop {again}",
                    overlay.path
                ),
            ),
            Room::Lost => add(
                Severity::Error,
                format!(
                    "{} is lost: the memory for overlays was full; {of} is untouched; rescue overlay --drop {again}",
                    overlay.path
                ),
            ),
            Room::Free { .. } | Room::Unknown => {}
        }
        let origin = overlay.origin.as_ref().and_then(|id| storage.get(id));
        let Some(origin) = origin else {
            add(
                Severity::Warning,
                format!("{} is an overlay of {of}; rescue overlay --drop {again}", overlay.path),
            );
            continue;
        };
        if let Some(Use::Direct { path, by }) = direct(storage, origin, &[]) {
            add(
                Severity::Error,
                format!(
                    "{path} is used ({by}) beside its overlay {}: what is written shows through",
                    overlay.path
                ),
            );
        }
    }
    problems
}

/// `overlay of /dev/sda1, 2.3M of 150M written`
pub fn told(storage: &Storage, device: &Device) -> Option<String> {
    let overlay = overlay(storage, device)?;
    let of = overlay.of.unwrap_or_else(|| "a device that is gone".to_string());
    let room = match overlay.room {
        Room::Free { used, limit } => format!(", {} of {} in memory", size(used), size(limit)),
        Room::Full => ", full".to_string(),
        Room::Lost => ", lost".to_string(),
        Room::Unknown => String::new(),
    };
    let by = match overlay.made_by {
        Purpose::Overlay | Purpose::Mount => "",
        Purpose::Assemble => ", made by rescue assemble",
    };
    Some(format!("overlay of {of}{room}{by}"))
}

#[cfg(test)]
#[path = "overlay_tests.rs"]
mod tests;
