//! Volume groups: which devices carry their physical volumes, which of them are to be used, and which logical volumes
//! can be activated without a byte of a disk being written. What LVM itself gets wrong at 3 a.m. is decided here, and
//! LVM is then given exactly these devices and volumes: it refuses duplicates, takes one of two groups of a
//! name, and ends with status 0 where an exported or a foreign group stays off.
//!
//! A volume that the kernel writes to as it starts (RAID, mirror, cache, thin pool, a new snapshot, ...) is activated for reading only where
//! every PV is an overlay: then nothing that is written is ever on a disk.

use crate::consent;
use crate::foreign;
use crate::overlay;
use crate::plan::{Step, word};
use crate::storage::{Device, Id, Problem, Storage, VolumeGroup};
use crate::text::Untrusted;
use ondisk::volume::Volume;
use ondisk::volume::lvm::{Area, Group, Kind, Logical, PhysicalVolume, Segment};
use ondisk::{Health, Severity};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// How device mapper's devices of LVM are known.
const LVM_UUID: &str = "LVM-";
/// LVs on LVs: a snapshot of a thin volume in a cached pool on RAID with integrity is nine deep.
const DEEPEST: usize = 32;

/// What a person asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wishes<'a> {
    /// Activated for writing.
    pub writable: bool,
    /// The group was named, not only found.
    pub named: bool,
    /// Volumes with holes too, which read as errors.
    pub partial: bool,
    /// Where PVs contradict each other, these are right.
    pub with: &'a [Id],
}

/// What is to be said of one group.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    pub uuid: String,
    /// Of LVM's characters, or empty: nothing describes it.
    pub name: String,
    pub seqno: u64,
    /// PVs of the whole group.
    pub wanted: usize,
    /// One device for each PV that is there.
    pub used: Vec<Used>,
    pub missing: Vec<Missing>,
    pub left_out: Vec<LeftOut>,
    /// Those that a person uses, in the metadata's order.
    pub volumes: Vec<Lv>,
    /// The system that it belongs to. Hostile.
    pub system_id: Option<String>,
    /// Every PV is an overlay.
    pub throwaway: bool,
    /// UUIDs of other groups that have its name.
    pub namesakes: Vec<String>,
    /// Overlays that `rescue assemble` made: only to be read.
    pub for_reading: bool,
    /// What is odd and keeps nothing from working, one line each.
    pub notes: Vec<String>,
    pub refusal: Option<Refusal>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Used {
    pub id: Id,
    /// As LVM is told it.
    pub path: String,
    pub uuid: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    pub uuid: String,
    /// Where it was last seen. Hostile.
    pub hint: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    pub id: Id,
    pub path: String,
    pub why: Why,
}

/// Why a device that carries one of the group's PVs is not used. The texts complete "PATH is left out: ".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    Damaged(String),
    /// The kernel has no node for it.
    NoNode,
    /// By what.
    InUse(String),
    /// Of the device of this path, which was asked for.
    CopyOf(String),
    /// The group's newest description does not know it.
    Removed,
    /// Of the group that was asked for: it went on by itself.
    OtherHalf,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Damaged(reason) => write!(f, "its label is damaged: {}", Untrusted(reason)),
            Why::NoNode => f.write_str("the kernel has no node for it"),
            Why::InUse(by) => write!(f, "it is in use by {by}"),
            Why::CopyOf(other) => write!(f, "it is a copy of {other}"),
            Why::Removed => f.write_str("the group went on without it"),
            Why::OtherHalf => f.write_str("it went on without the others"),
        }
    }
}

/// Why a group is not activated. The texts complete "vg is not activated: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("no PV that is there holds a sound description of it")]
    NoDescription,
    #[error("{} carry the same PV: copies of a disk, or two paths to one", list(.0))]
    Twins(Vec<String>),
    #[error("it split: {} went on without each other", list(.0))]
    Split(Vec<String>),
    #[error("another group has the same name ({})", list(.0))]
    SameName(Vec<String>),
    #[error("it was exported, for another system to import it")]
    Exported,
    #[error("it belongs to the system {}, which may be using it", Untrusted(.0))]
    Foreign(String),
    #[error("other systems share it ({}), and may be using it", Untrusted(.0))]
    Shared(String),
    #[error("all its PVs are missing")]
    NoPv,
    #[error("its description is larger than is read here, and what its volumes lie on is not all known")]
    TooLarge,
}

/// One logical volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lv {
    pub name: String,
    pub uuid: String,
    /// Bytes.
    pub size: u64,
    /// `linear`, `raid1`, `thin, snapshot of root`
    pub kind: String,
    /// The kernel's device, where it is active.
    pub active: Option<Id>,
    /// It lies on a PV that is missing.
    pub partial: bool,
    /// The kernel writes to it as it starts, even to be read, and why: so it is activated from overlays of the PVs alone.
    pub writes: Option<&'static str>,
    /// What below it the kernel takes much memory to run, by name, with bytes. Several may stand on one.
    pub memory: BTreeMap<String, u64>,
    pub refusal: Option<LvRefusal>,
}

/// Why a volume is not activated. The texts complete "vg/root is not activated: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LvRefusal {
    #[error("it lies on {}, which is missing", missing(.0))]
    Partial(Vec<Missing>),
    #[error("its description contradicts itself")]
    Contradiction,
    #[error("what it lies on is not known: the description of its group is larger than is read here")]
    Cut,
}

fn missing(missing: &[Missing]) -> String {
    let shown = missing.iter().map(Missing::to_string).collect::<Vec<_>>();
    list(&shown)
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PV {}", self.uuid)?;
        match &self.hint {
            Some(hint) => write!(f, " (last seen as {})", Untrusted(hint)),
            None => Ok(()),
        }
    }
}

/// `/dev/sda1, /dev/sdb1 and /dev/sdc1`
fn list(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

impl Judgement {
    /// Whether a person means this group: by name, by UUID, or by one of its volumes (`vg/root`).
    pub fn is_called(&self, text: &str) -> bool {
        let text = text.strip_prefix("/dev/").unwrap_or(text);
        let group = text.split_once('/').map_or(text, |(group, _)| group);
        (!self.name.is_empty() && group == self.name) || text == self.uuid
    }

    /// What to type about a refusal.
    pub fn advice(&self) -> Option<String> {
        let paths = || self.used.iter().map(|used| word(&used.path)).collect::<Vec<_>>().join(" ");
        match self.refusal.as_ref()? {
            Refusal::Twins(paths) | Refusal::Split(paths) => {
                Some(format!("rescue assemble --with {}", paths.first()?))
            }
            Refusal::SameName(_) => Some(format!("rescue assemble {}", self.uuid)),
            Refusal::Exported => Some(self.by_lvm("vgimport", &paths())),
            Refusal::Foreign(_) => Some(format!("rescue assemble --rw {}", self.name)),
            Refusal::TooLarge => Some(self.by_lvm("vgchange -ay", &paths())),
            Refusal::NoDescription | Refusal::Shared(_) | Refusal::NoPv => None,
        }
    }

    /// To take a group over is to write its metadata, and to activate one of which not all is known may write anywhere: that is
    /// left to LVM, on overlays, or for good on the disks. It is shown these devices alone, since it would take the originals
    /// below overlays for copies.
    fn by_lvm(&self, command: &str, paths: &str) -> String {
        let name = match &self.namesakes[..] {
            [] => self.name.clone(),
            // Of two groups with one name LVM would take the other, or both.
            _ => format!("-S vg_uuid={}", self.uuid),
        };
        let again = if self.namesakes.is_empty() { &self.name } else { &self.uuid };
        let only: String = self.used.iter().map(|used| format!("--devices {} ", word(&used.path))).collect();
        let done = match self.refusal {
            Some(Refusal::TooLarge) => format!("{command} {only}{name}"),
            _ => format!("{command} {only}{name} && rescue assemble {again}"),
        };
        match self.throwaway {
            true => done,
            false => {
                format!(
                    "rescue overlay {paths} && rescue assemble {again}, or rescue writable {paths} && {done}"
                )
            }
        }
    }

    /// What to type about a volume that is refused.
    pub fn advice_for(&self, lv: &Lv) -> Option<String> {
        match lv.refusal.as_ref()? {
            LvRefusal::Partial(_) => Some(format!("rescue assemble --partial {}/{}", self.name, lv.name)),
            LvRefusal::Contradiction | LvRefusal::Cut => None,
        }
    }

    /// Volumes that can be activated and are not.
    pub fn to_activate(&self) -> Vec<&Lv> {
        if self.refusal.is_some() {
            return Vec::new();
        }
        self.volumes.iter().filter(|lv| lv.active.is_none() && lv.refusal.is_none()).collect()
    }
}

/// The PV that a device is, and whether its label is sound.
pub fn physical_volume(device: &Device) -> Option<(&PhysicalVolume, &Health)> {
    let signature = device.signature()?;
    match signature.volume.as_ref()? {
        Volume::Lvm(volume) => Some((volume, &signature.health)),
        Volume::Md(_) | Volume::Luks(_) | Volume::Firmware(_) | Volume::Bcache(_) => None,
    }
}

/// Devices by the group that they say they belong to; one that does not say (it holds no metadata) by the groups
/// that know it. A PV that no group has is in none.
pub fn groups(devices: &[Device]) -> Vec<VolumeGroup> {
    let mut groups: BTreeMap<&str, Vec<Id>> = BTreeMap::new();
    let mut silent = Vec::new();
    for device in devices {
        let Some((volume, _)) = physical_volume(device) else { continue };
        match &volume.group {
            Some(group) => groups.entry(&group.uuid).or_default().push(device.id.clone()),
            None => silent.push((device, &volume.uuid)),
        }
    }
    let known = |uuid: &String| {
        devices.iter().find_map(|device| {
            let group = physical_volume(device)?.0.group.as_ref()?;
            group.pvs.iter().any(|pv| pv.uuid == *uuid).then_some(group.uuid.as_str())
        })
    };
    for (device, uuid) in silent {
        if let Some(group) = known(uuid) {
            groups.entry(group).or_default().push(device.id.clone());
        }
    }
    groups.into_iter().map(|(uuid, members)| VolumeGroup { uuid: uuid.to_string(), members }).collect()
}

/// A device with a PV.
#[derive(Clone, Copy)]
struct Candidate<'a> {
    device: &'a Device,
    volume: &'a PhysicalVolume,
}

pub fn judge(storage: &Storage, group: &VolumeGroup, wishes: &Wishes<'_>) -> Judgement {
    let mut left_out = Vec::new();
    let candidates = candidates(storage, group, &mut left_out);
    let mut judgement = Judgement {
        uuid: group.uuid.clone(),
        name: String::new(),
        seqno: 0,
        wanted: 0,
        used: Vec::new(),
        missing: Vec::new(),
        left_out,
        volumes: Vec::new(),
        system_id: None,
        throwaway: false,
        namesakes: Vec::new(),
        for_reading: false,
        notes: Vec::new(),
        refusal: None,
    };
    let described = |candidate: &&Candidate<'_>| candidate.volume.group.is_some();
    let chosen = |candidate: &Candidate<'_>| wishes.with.contains(&candidate.device.id);
    let newest = candidates.iter().filter(described).max_by_key(|candidate| {
        // Of what is cut on one device and whole on another not all is known that either says.
        let is_cut = candidate.volume.group.as_ref().is_some_and(|group| group.truncated);
        (chosen(candidate), seqno(candidate), is_cut, std::cmp::Reverse(&candidate.device.path))
    });
    let Some((newest, known)) = newest.and_then(|newest| Some((newest, newest.volume.group.as_deref()?)))
    else {
        judgement.refusal = Some(Refusal::NoDescription);
        return judgement;
    };
    judgement.name = known.name.clone();
    judgement.seqno = known.seqno;
    judgement.wanted = known.pvs.len();
    judgement.system_id = known.system_id.clone();
    // Two descriptions of one number that differ: each was changed while the other was away.
    let differs = |candidate: &&Candidate<'_>| {
        candidate.volume.group.as_deref().is_some_and(|other| {
            let is_cut = known.truncated || other.truncated;
            (other.seqno == known.seqno && other != known && !is_cut)
                || (chosen(newest) && other.seqno > known.seqno)
        })
    };
    let others: Vec<Candidate<'_>> = candidates.iter().filter(differs).copied().collect();
    if !others.is_empty() && !chosen(newest) {
        let halves = std::iter::once(newest).chain(&others);
        judgement.refusal = Some(Refusal::Split(halves.map(|half| half.device.path.clone()).collect()));
    }
    let mut used: Vec<Candidate<'_>> = Vec::new();
    for candidate in &candidates {
        let of_other = others.iter().any(|other| other.device.id == candidate.device.id);
        if of_other && chosen(newest) {
            judgement.left_out.push(left(candidate, Why::OtherHalf));
        } else if !knows(known, candidate) {
            judgement.left_out.push(left(candidate, Why::Removed));
        } else {
            used.push(*candidate);
        }
    }
    one_device_for_each(&mut judgement, used, &chosen);
    judgement.wanted = judgement.wanted.max(judgement.used.len());
    for pv in &known.pvs {
        let there = judgement.used.iter().any(|used| used.uuid == pv.uuid);
        if pv.missing || !there {
            judgement.missing.push(Missing { uuid: pv.uuid.clone(), hint: pv.device.clone() });
        }
        if pv.missing && there {
            let text = format!("PV {} is back, and the group went on without it", pv.uuid);
            judgement.notes.push(text);
        }
    }
    if known.truncated {
        judgement.notes.push("it has more volumes than are shown here".to_string());
    }
    let is_throwaway = |used: &Used| storage.get(&used.id).is_some_and(|device| throwaway(storage, device));
    judgement.throwaway = !judgement.used.is_empty() && judgement.used.iter().all(is_throwaway);
    let namesakes = namesakes(storage, group, known);
    judgement.namesakes = namesakes.iter().map(|other| other.uuid.clone()).collect();
    let is_for_reading =
        |used: &Used| storage.get(&used.id).is_some_and(|device| overlay::is_for_reading(storage, device));
    judgement.for_reading = judgement.used.iter().any(is_for_reading);
    if judgement.refusal.is_none() {
        judgement.refusal = refusal(storage, group, known, &judgement, wishes);
    }
    judgement.notes.extend(belongs(&judgement, wishes));
    judgement.volumes = volumes(storage, known, &judgement, wishes);
    judgement
}

/// That another system may be using it is said also where it is activated.
fn belongs(judgement: &Judgement, wishes: &Wishes<'_>) -> Option<String> {
    let system = Untrusted(judgement.system_id.as_ref()?);
    match &judgement.refusal {
        Some(_) => None,
        None if judgement.throwaway || wishes.writable => Some(format!("it belongs to the system {system}")),
        None => Some(format!(
            "it belongs to the system {system}, which may be using it: activated for reading alone; rescue assemble --rw {} \
             for more",
            judgement.name
        )),
    }
}

/// Other groups of its name.
fn namesakes<'a>(storage: &'a Storage, group: &VolumeGroup, known: &Group) -> Vec<&'a VolumeGroup> {
    let is = |other: &&VolumeGroup| other.uuid != group.uuid && name(storage, other) == Some(&known.name);
    storage.volumes.iter().filter(is).collect()
}

/// Whether a PV is the group's, as far as its description tells: of a cut one the list of PVs may be gone, and those that
/// say the same, or nothing, are in it still.
fn knows(group: &Group, candidate: &Candidate<'_>) -> bool {
    let says_so = || candidate.volume.group.as_ref().is_none_or(|own| own.seqno == group.seqno);
    group.pvs.iter().any(|pv| pv.uuid == candidate.volume.uuid) || (group.truncated && says_so())
}

fn seqno(candidate: &Candidate<'_>) -> u64 {
    candidate.volume.group.as_ref().map_or(0, |group| group.seqno)
}

fn left(candidate: &Candidate<'_>, why: Why) -> LeftOut {
    LeftOut { id: candidate.device.id.clone(), path: path(candidate.device), why }
}

/// Devices that can be used; what carries the same PV below an overlay, a multipath map or an array is only what
/// that stands on.
fn candidates<'a>(
    storage: &'a Storage,
    group: &VolumeGroup,
    left_out: &mut Vec<LeftOut>,
) -> Vec<Candidate<'a>> {
    let mut all = Vec::new();
    for id in &group.members {
        if let Some(device) = storage.get(id)
            && let Some((volume, health)) = physical_volume(device)
        {
            all.push((Candidate { device, volume }, health));
        }
    }
    all.sort_by(|a, b| a.0.device.path.cmp(&b.0.device.path));
    let mut found = Vec::new();
    for (candidate, health) in &all {
        let is_below = all.iter().any(|(other, _)| {
            other.volume.uuid == candidate.volume.uuid
                && stands_on(storage, other.device, &candidate.device.id)
        });
        if is_below {
            continue;
        }
        match unusable(storage, candidate, health, &group.uuid) {
            Some(why) => left_out.push(left(candidate, why)),
            None => found.push(*candidate),
        }
    }
    found
}

fn unusable(storage: &Storage, candidate: &Candidate<'_>, health: &Health, group: &str) -> Option<Why> {
    let device = candidate.device;
    if let (Health::Damaged(reason), None) = (health, &candidate.volume.group)
        && candidate.volume.areas.is_empty()
    {
        return Some(Why::Damaged(reason.clone()));
    }
    if !device.node {
        return Some(Why::NoNode);
    }
    let foreign =
        device.upper.iter().filter_map(|id| storage.get(id)).find(|upper| !is_of_group(upper, group));
    if let Some(upper) = foreign {
        return Some(Why::InUse(path(upper)));
    }
    let numbers = (device.block.major, device.block.minor);
    let mount = storage.mounts.iter().find(|mount| (mount.major, mount.minor) == numbers);
    mount.map(|mount| Why::InUse(Untrusted(&mount.target).to_string()))
}

/// Of devices with one PV the chosen one; without a choice the group is refused.
fn one_device_for_each(
    judgement: &mut Judgement,
    candidates: Vec<Candidate<'_>>,
    chosen: &dyn Fn(&Candidate<'_>) -> bool,
) {
    let mut by_pv: BTreeMap<&str, Vec<Candidate<'_>>> = BTreeMap::new();
    for candidate in &candidates {
        by_pv.entry(&candidate.volume.uuid).or_default().push(*candidate);
    }
    for (uuid, copies) in by_pv {
        let Some(right) = copies.iter().find(|copy| chosen(copy)).or_else(|| copies.first()) else {
            continue;
        };
        if copies.len() > 1 && !chosen(right) {
            let paths = copies.iter().map(|copy| path(copy.device)).collect();
            judgement.refusal.get_or_insert(Refusal::Twins(paths));
        }
        for copy in copies.iter().filter(|copy| copy.device.id != right.device.id) {
            judgement.left_out.push(left(copy, Why::CopyOf(path(right.device))));
        }
        let id = right.device.id.clone();
        judgement.used.push(Used { id, path: path(right.device), uuid: uuid.to_string() });
    }
    judgement.used.sort_by(|a, b| a.path.cmp(&b.path));
}

fn refusal(
    storage: &Storage,
    group: &VolumeGroup,
    known: &Group,
    judgement: &Judgement,
    wishes: &Wishes<'_>,
) -> Option<Refusal> {
    let shared = known.lock_type.clone().filter(|kind| kind != "none");
    if let Some(shared) = shared.or_else(|| known.clustered.then(|| "clustered".to_string())) {
        return Some(Refusal::Shared(shared));
    }
    if known.exported {
        return Some(Refusal::Exported);
    }
    if let (Some(system), true, false, false) =
        (&known.system_id, wishes.writable, wishes.named, judgement.throwaway)
    {
        return Some(Refusal::Foreign(system.clone()));
    }
    if judgement.used.is_empty() {
        return Some(Refusal::NoPv);
    }
    // That a snapshot is being merged, or a part is RAID, may stand in what was cut: nothing of it is safe to read.
    if known.truncated {
        return Some(Refusal::TooLarge);
    }
    // Device mapper's names are made of the group's: only one of a name can be active.
    let namesakes = namesakes(storage, group, known);
    let is_active =
        |other: &&VolumeGroup| storage.devices.iter().any(|device| is_of_group(device, &other.uuid));
    let others = |groups: Vec<&VolumeGroup>| groups.iter().map(|other| other.uuid.clone()).collect();
    let active: Vec<&VolumeGroup> = namesakes.iter().copied().filter(is_active).collect();
    if !active.is_empty() {
        return Some(Refusal::SameName(others(active)));
    }
    let is_mine = storage.devices.iter().any(|device| is_of_group(device, &group.uuid));
    (!namesakes.is_empty() && !wishes.named && !is_mine).then(|| Refusal::SameName(others(namesakes)))
}

fn name<'a>(storage: &'a Storage, group: &VolumeGroup) -> Option<&'a str> {
    let described = group.members.iter().filter_map(|id| storage.get(id));
    let newest = described
        .filter_map(|device| physical_volume(device)?.0.group.as_ref())
        .max_by_key(|group| group.seqno);
    newest.map(|group| group.name.as_str())
}

/// What a person uses: not the parts of others, nor pools, nor the links of snapshots to their origins.
fn volumes(storage: &Storage, group: &Group, judgement: &Judgement, wishes: &Wishes<'_>) -> Vec<Lv> {
    let index = Index::of(group);
    // LVM hides a snapshot's store in its metadata, and shows it to people as the snapshot (lv_is_visible in metadata.c).
    let is_snapshot = |lv: &Logical| {
        index
            .links_of(&lv.name)
            .flat_map(|link| &link.segments)
            .any(|segment| segment.store() == Some(&lv.name))
    };
    let stores = stores(storage, judgement);
    let is_volume = |lv: &&Logical| {
        (lv.visible || is_snapshot(lv))
            && !lv.segments.iter().any(|segment| match &segment.kind {
                Kind::Snapshot { .. } | Kind::ThinPool | Kind::CachePool | Kind::VdoPool => true,
                Kind::Linear
                | Kind::Striped
                | Kind::Mirror
                | Kind::Raid(_)
                | Kind::Thin
                | Kind::Cache
                | Kind::Writecache
                | Kind::Integrity
                | Kind::Vdo
                | Kind::Error
                | Kind::Zero
                | Kind::Other(_) => false,
            })
    };
    let whole = |lv: &Logical| {
        let parts = parts(&index, lv);
        let lost = parts.as_ref().map(|parts| lost(group, judgement, parts)).unwrap_or_default();
        let contradiction = if group.truncated { LvRefusal::Cut } else { LvRefusal::Contradiction };
        let refusal = parts.is_none().then_some(contradiction);
        let as_it_is = wishes.writable || judgement.throwaway;
        let writes = parts.as_ref().filter(|_| !as_it_is).and_then(|parts| writes(parts, &stores));
        let has_holes = !lost.is_empty();
        // A mirror with a leg missing is whole, and LVM knows.
        let redundant = parts.as_ref().is_some_and(|parts| parts.iter().any(|part| is_redundant(part)));
        let holes = (has_holes && !redundant && !wishes.partial).then_some(LvRefusal::Partial(lost));
        let memory = parts.map(|parts| memory(group, &parts)).unwrap_or_default();
        Whole { partial: has_holes, writes, memory, refusal: refusal.or(holes) }
    };
    let mut wholes: BTreeMap<&str, Whole> = BTreeMap::new();
    let lv = |lv: &Logical| {
        let Whole { partial, writes, memory, refusal } = match index.families.get(lv.name.as_str()) {
            Some(first) => wholes.entry(&first.name).or_insert_with(|| whole(first)).clone(),
            None => whole(lv),
        };
        Lv {
            name: lv.name.clone(),
            uuid: lv.uuid.clone(),
            size: lv.extents().saturating_mul(group.extent),
            kind: kind(&index, lv),
            active: active(storage, &group.uuid, &lv.uuid).map(|device| device.id.clone()),
            partial,
            writes,
            memory,
            refusal,
        }
    };
    group.lvs.iter().filter(is_volume).map(lv).collect()
}

/// What is to be said of a volume with all its parts.
#[derive(Clone)]
struct Whole {
    partial: bool,
    writes: Option<&'static str>,
    memory: BTreeMap<String, u64>,
    refusal: Option<LvRefusal>,
}

/// A group's volumes by name, since there may be thousands, and each is judged with what it lies on.
struct Index<'a> {
    lvs: BTreeMap<&'a str, &'a Logical>,
    /// Links of snapshots, by the names of what they link, in the metadata's order.
    links: BTreeMap<&'a str, Vec<&'a Logical>>,
    /// Of each that links name, one of all those that are only ever active together, mostly their origin: they have the same
    /// parts, which are gone through once, since an origin may have thousands of snapshots.
    families: BTreeMap<&'a str, &'a Logical>,
}

impl<'a> Index<'a> {
    fn of(group: &'a Group) -> Index<'a> {
        let mut index = Index { lvs: BTreeMap::new(), links: BTreeMap::new(), families: BTreeMap::new() };
        for lv in &group.lvs {
            // Of two with one name the first counts.
            index.lvs.entry(&lv.name).or_insert(lv);
            let is_link = lv.segments.iter().any(|segment| matches!(segment.kind, Kind::Snapshot { .. }));
            for name in names(lv).filter(|_| is_link) {
                index.links.entry(name).or_default().push(lv);
            }
        }
        for name in index.links.values().flatten().filter_map(|link| names(link).next()) {
            let Some(first) = index.lvs.get(name) else { continue };
            let mut open = vec![name];
            while let Some(name) = open.pop() {
                if let Entry::Vacant(place) = index.families.entry(name) {
                    place.insert(first);
                    open.extend(index.links.get(name).into_iter().flatten().flat_map(|link| names(link)));
                }
            }
        }
        index
    }

    fn links_of(&self, name: &str) -> impl Iterator<Item = &'a Logical> {
        self.links.get(name).into_iter().flatten().copied()
    }
}

/// An LV with all that LVM activates with it: what it lies on, and the snapshots of it. `None`: it runs in a circle, or
/// lies on what is not there.
fn parts<'a>(index: &Index<'a>, lv: &'a Logical) -> Option<Vec<&'a Logical>> {
    let mut found: Vec<&Logical> = Vec::new();
    let mut known: BTreeSet<&str> = BTreeSet::new();
    let mut open = vec![(lv, 0)];
    while let Some((lv, depth)) = open.pop() {
        if depth > DEEPEST {
            return None;
        }
        if !known.insert(&lv.name) {
            continue;
        }
        found.push(lv);
        for area in lv.segments.iter().flat_map(|segment| &segment.on) {
            match area {
                Area::Lv(name) => open.push((index.lvs.get(name.as_str())?, depth + 1)),
                Area::Pv(..) => {}
            }
        }
        // A snapshot and its origin are only ever active together.
        open.extend(index.links_of(&lv.name).map(|link| (link, depth + 1)));
    }
    // A thin snapshot's origin is another volume of the pool; both may stand on the same parts, but none on itself.
    Some(found)
}

fn names(lv: &Logical) -> impl Iterator<Item = &str> {
    lv.segments.iter().flat_map(|segment| &segment.on).map(Area::name)
}

fn is_redundant(lv: &Logical) -> bool {
    lv.segments.iter().any(|segment| match &segment.kind {
        Kind::Mirror => true,
        Kind::Raid(level) => !level.starts_with("raid0"),
        _ => false,
    })
}

/// Stores of snapshots that have their header already, as the PVs say that describe the group as it is.
fn stores<'a>(storage: &'a Storage, judgement: &Judgement) -> BTreeSet<&'a str> {
    let pvs = judgement.used.iter().filter_map(|used| physical_volume(storage.get(&used.id)?));
    let newest = |pv: &&PhysicalVolume| {
        pv.group.as_ref().is_some_and(|group| group.uuid == judgement.uuid && group.seqno == judgement.seqno)
    };
    pvs.map(|(pv, _)| pv).filter(newest).flat_map(|pv| &pv.stores).map(String::as_str).collect()
}

/// Why activating writes, from what the kernel's targets do as they start. A snapshot is written to unless its store has
/// its header: `lvcreate -s` of an origin that is not active leaves that to the first start.
fn writes(parts: &[&Logical], stores: &BTreeSet<&str>) -> Option<&'static str> {
    if parts.iter().any(|part| part.moving) {
        return Some("it is being moved to another PV (pvmove), and going on with that writes");
    }
    parts.iter().flat_map(|part| &part.segments).find_map(|segment| match &segment.kind {
        Kind::Linear | Kind::Striped | Kind::Error | Kind::Zero => None,
        Kind::Snapshot { merging: false } => {
            (!segment.store().is_some_and(|store| stores.contains(store))).then_some(
                "it has a snapshot that was not started yet, as far as can be read, and the kernel writes to its store as it starts",
            )
        }
        Kind::Snapshot { merging: true } => {
            Some("a snapshot is being merged into it, and going on with that writes")
        }
        Kind::Mirror => Some("it is a mirror, and the kernel writes to its log and its legs as it starts"),
        Kind::Raid(_) => Some("it is RAID, and the kernel writes to its superblocks as it starts"),
        Kind::ThinPool | Kind::Thin => {
            Some("it is in a thin pool, and the kernel writes to the pool's metadata as it starts")
        }
        Kind::CachePool | Kind::Cache => {
            Some("it has a cache, and the kernel writes to the cache's metadata as it starts")
        }
        Kind::Writecache => Some("it has a write cache, and the kernel writes to it as it starts"),
        Kind::Integrity => Some("it has integrity tags, and the kernel writes to their journal as it starts"),
        Kind::VdoPool | Kind::Vdo => Some("it is VDO, which the kernel writes to as it starts"),
        Kind::Other(_) => Some("it is of a kind that is not known here, and may be written to as it starts"),
    })
}

/// Of VDO pools: what each segment tells, and 268 MB for each TB of storage (vdo.rst).
fn memory(group: &Group, parts: &[&Logical]) -> BTreeMap<String, u64> {
    let one = |segment: &Segment| {
        let storage = segment.length.saturating_mul(group.extent);
        segment.memory.saturating_add((storage / 1_000_000).saturating_mul(268))
    };
    let of = |part: &&Logical| {
        let segments = part.segments.iter().filter(|segment| segment.memory > 0);
        (part.name.clone(), segments.map(one).fold(0, u64::saturating_add))
    };
    parts.iter().map(of).filter(|(_, bytes)| *bytes > 0).collect()
}

/// PVs that are missing below these parts.
fn lost(group: &Group, judgement: &Judgement, parts: &[&Logical]) -> Vec<Missing> {
    let areas = parts.iter().flat_map(|part| &part.segments).flat_map(|segment| &segment.on);
    let names: BTreeSet<&str> = areas
        .filter_map(|area| match area {
            Area::Pv(name, _) => Some(name.as_str()),
            Area::Lv(_) => None,
        })
        .collect();
    let uuid = |name: &&str| group.pvs.iter().find(|pv| pv.name == *name).map(|pv| pv.uuid.as_str());
    let uuids: Vec<&str> = names.iter().filter_map(uuid).collect();
    judgement.missing.iter().filter(|missing| uuids.contains(&missing.uuid.as_str())).cloned().collect()
}

/// `linear`, `snapshot of root`
fn kind(index: &Index<'_>, lv: &Logical) -> String {
    let own: Vec<&str> = {
        let mut kinds: Vec<&str> = lv.segments.iter().map(|segment| segment.kind.name()).collect();
        kinds.dedup();
        kinds
    };
    let link = index.links_of(&lv.name).flat_map(|link| &link.segments).find(|segment| {
        matches!(segment.kind, Kind::Snapshot { .. })
            && segment.on.last().is_some_and(|store| store.name() == lv.name)
    });
    match link.and_then(|segment| segment.on.first()) {
        Some(origin) => format!("snapshot of {}", origin.name()),
        None => own.join(", "),
    }
}

/// The kernel's device of a volume, by the UUID that LVM gives it.
pub fn active<'a>(storage: &'a Storage, group: &str, lv: &str) -> Option<&'a Device> {
    let want = format!("{LVM_UUID}{}{}", plain(group), plain(lv));
    storage.devices.iter().find(|device| device.block.dm.as_ref().is_some_and(|dm| dm.uuid == want))
}

/// Whether a device is an LV, or a part of one, of this group.
pub fn is_of_group(device: &Device, group: &str) -> bool {
    let uuid = device.block.dm.as_ref().and_then(|dm| dm.uuid.strip_prefix(LVM_UUID));
    uuid.is_some_and(|uuid| uuid.starts_with(&plain(group)))
}

/// Whether a person means an active volume by its group's name, or by its own (`vg/root`).
pub fn is_called(device: &Device, text: &str) -> bool {
    let text = text.strip_prefix("/dev/").unwrap_or(text);
    let Some(dm) = device.block.dm.as_ref().filter(|_| is_volume(device)) else { return false };
    let Some((group, volume)) = names_of(&dm.name) else { return false };
    text == group
        || text == format!("{group}/{volume}")
        || text == format!("mapper/{}", dm.name)
        || (text.len() == 38 && is_of_group(device, text))
}

/// Whether a device is an LV, or a part of one, of any group.
pub fn is_volume(device: &Device) -> bool {
    device.block.dm.as_ref().is_some_and(|dm| dm.uuid.starts_with(LVM_UUID))
}

/// What LVM puts where a PV is missing (lib/activate/dev_manager.c, `add_error_area`): nothing but errors.
pub fn is_hole(device: &Device) -> bool {
    is_volume(device) && device.block.dm.as_ref().is_some_and(|dm| dm.uuid.contains("-missing_"))
}

/// A volume, some of which is such.
pub fn has_hole(storage: &Storage, device: &Device) -> bool {
    is_volume(device) && device.lower.iter().filter_map(|id| storage.get(id)).any(is_hole)
}

fn plain(uuid: &str) -> String {
    uuid.replace('-', "")
}

/// As people and LVM name it: a mapped device by its name.
pub fn path(device: &Device) -> String {
    match &device.block.dm {
        Some(dm) if !dm.name.is_empty() => format!("/dev/mapper/{}", dm.name),
        Some(_) | None => device.path.clone(),
    }
}

/// Whether all that is written to a device goes to an overlay.
pub fn throwaway(storage: &Storage, device: &Device) -> bool {
    fn looked(storage: &Storage, device: &Device, depth: usize) -> bool {
        if device.block.is_overlay() {
            return true;
        }
        let below: Vec<&Id> = device.lower.iter().chain(&device.parent).collect();
        depth < DEEPEST
            && !below.is_empty()
            && below
                .into_iter()
                .all(|id| storage.get(id).is_some_and(|lower| looked(storage, lower, depth + 1)))
    }
    looked(storage, device, 0)
}

fn stands_on(storage: &Storage, device: &Device, other: &Id) -> bool {
    let mut seen = BTreeSet::new();
    let mut open: Vec<&Id> = device.lower.iter().chain(&device.parent).collect();
    while let Some(id) = open.pop() {
        if id == other {
            return true;
        }
        if let Some(lower) = storage.get(id).filter(|_| seen.insert(id)) {
            open.extend(lower.lower.iter().chain(&lower.parent));
        }
    }
    false
}

/// The group and the volume of a mapped name: `vg-root`, with each `-` of theirs doubled.
pub fn names_of(mapped: &str) -> Option<(String, String)> {
    let bytes = mapped.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'-' {
            if bytes.get(at + 1) == Some(&b'-') {
                at += 2;
                continue;
            }
            let (group, volume) = (mapped.get(..at)?, mapped.get(at + 1..)?);
            let whole = |text: &str| text.replace("--", "-");
            return (!group.is_empty() && !volume.is_empty()).then(|| (whole(group), whole(volume)));
        }
        at += 1;
    }
    None
}

/// `vg-root`, with each `-` of theirs doubled.
pub fn mapped_name(group: &str, volume: &str) -> String {
    format!("{}-{}", group.replace('-', "--"), volume.replace('-', "--"))
}

/// What holds a copy that is only to be read still, once these volumes are active: RAID does not resync, which would write
/// every block into memory, and nothing can be written. LVM makes all writable, since the parts have to be.
pub fn hold(storage: &Storage, judgement: &Judgement, volumes: &[&str]) -> Vec<Step> {
    let devices = judgement.used.iter().filter_map(|used| storage.get(&used.id));
    let described = devices.filter_map(|device| physical_volume(device)?.0.group.as_ref());
    let Some(group) = described.max_by_key(|group| group.seqno) else { return Vec::new() };
    let index = Index::of(group);
    let mut known: BTreeSet<&str> = BTreeSet::new();
    let firsts = volumes.iter().filter_map(|volume| index.families.get(volume).or(index.lvs.get(volume)));
    let firsts = firsts.filter(|first| known.insert(&first.name));
    let parts = firsts.filter_map(|first| parts(&index, first)).flatten();
    let mut raids: Vec<String> = Vec::new();
    for lv in parts.filter(|lv| lv.segments.iter().any(|segment| matches!(segment.kind, Kind::Raid(_)))) {
        // Below a snapshot of it, the volume itself is a layer.
        let is_origin = index.links_of(&lv.name).flat_map(|link| &link.segments).any(|segment| {
            matches!(segment.kind, Kind::Snapshot { .. })
                && segment.on.first().is_some_and(|origin| origin.name() == lv.name)
        });
        let name = mapped_name(&group.name, &lv.name) + if is_origin { "-real" } else { "" };
        if !raids.contains(&name) {
            raids.push(name);
        }
    }
    let freeze = raids.into_iter().map(|name| Step::DmFreeze { name });
    let close = |volume: &&str| Step::DmReadOnly {
        device: format!("/dev/mapper/{}", mapped_name(&group.name, volume)),
    };
    freeze.chain(volumes.iter().map(close)).collect()
}

/// The steps that activate these volumes of a judged group. `by` is the command that a person typed.
pub fn activate(
    storage: &Storage,
    judgement: &Judgement,
    volumes: &[&str],
    wishes: &Wishes<'_>,
    by: &str,
) -> Result<Vec<Step>, consent::Refusal> {
    let mut steps = vec![Step::Module { name: "dm-mod".to_string() }];
    // A copy that is only to be read is refused there.
    if wishes.writable && (!judgement.throwaway || judgement.for_reading) {
        for used in &judgement.used {
            for step in consent::all_writable(storage, &used.id, by)? {
                if !steps.contains(&step) {
                    steps.push(step);
                }
            }
        }
    }
    if wishes.writable && !judgement.throwaway {
        // Its command names the group alone, and the guard may be off already.
        steps.push(Step::Save { paths: judgement.used.iter().map(|used| used.path.clone()).collect() });
    }
    let asked = foreign::Activation {
        group: &judgement.name,
        volumes,
        devices: judgement.used.iter().map(|used| used.path.as_str()).collect(),
        system_id: judgement.system_id.as_deref(),
        read_only: !wishes.writable && !judgement.throwaway,
        partial: wishes.partial,
    };
    steps.push(Step::Call { argv: foreign::lvchange(&asked), input: crate::plan::Input::Nothing });
    Ok(steps)
}

/// What is wrong with a group as a whole, for the first lines of `rescue status`.
pub fn problems(storage: &Storage) -> Vec<Problem> {
    let mut problems = Vec::new();
    for group in &storage.volumes {
        let judgement = judge(storage, group, &Wishes { named: true, ..Wishes::default() });
        let name = if judgement.name.is_empty() { &judgement.uuid } else { &judgement.name };
        let mut add = |severity, text| problems.push(Problem { device: None, severity, text });
        if !judgement.missing.is_empty() {
            let text = format!(
                "volume group {name}: {} of {} PVs missing: {}",
                judgement.missing.len(),
                judgement.wanted,
                missing(&judgement.missing)
            );
            add(Severity::Error, text);
        }
        if let Some(
            refusal @ (Refusal::Twins(_) | Refusal::Split(_) | Refusal::NoDescription | Refusal::TooLarge),
        ) = &judgement.refusal
        {
            let next = judgement.advice().map(|advice| format!("; {advice}")).unwrap_or_default();
            add(Severity::Warning, format!("volume group {name}: {refusal}{next}"));
        }
    }
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    for group in &storage.volumes {
        if let Some(name) = name(storage, group) {
            *names.entry(name).or_default() += 1;
        }
    }
    for (name, count) in names.into_iter().filter(|(_, count)| *count > 1) {
        problems.push(Problem {
            device: None,
            severity: Severity::Warning,
            text: format!(
                "{count} volume groups are called {name}: each is activated by its UUID, one at a time"
            ),
        });
    }
    problems
}

#[cfg(test)]
#[path = "lvm_tests.rs"]
mod tests;
