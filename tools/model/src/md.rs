//! md arrays: which members of a set are current, whether what is left is enough to start it safely, and under
//! which name. The rules are those of the kernel (drivers/md/md.c: analyze_sbs, super_1_validate) and of mdadm
//! (Assemble.c), and where the two differ the stricter one. What mdadm does only with `--force` is never done
//! here: it is refused with its reason and with mdadm's own command.
//!
//! A half-told story is told: every device that carries the set's UUID is used, or left out with why.

pub mod conf;
mod name;
mod problems;

pub use name::{Name, Names, places};
pub use problems::problems;

use crate::consent;
use crate::overlay;
use crate::plan::{MdBare, MdMember, MdStart, Step};
use crate::storage::{Array, Device, Id, Observed, Storage};
use crate::text::Untrusted;
use contract::facts::Md;
use ondisk::Health;
use ondisk::volume::Volume;
use ondisk::volume::firmware::{FirmwareVolume, STRANGER};
use ondisk::volume::mdraid::{Bitmap, Level, Metadata, Newer, Role, Superblock};
use std::collections::BTreeMap;
use std::fmt;

/// The kernel lets a member be one event behind: the others were written, and it was not reached.
const EVENT_MARGIN: u64 = 1;
/// `max_disks` of version 1 (md.c: super_1_validate).
const MAX_DISKS: u32 = 1920;

// feature_map (md_p.h)
const REPLACEMENT: u32 = 16;
const CLUSTERED: u32 = 256;
/// MD_FEATURE_ALL of Linux 6.12: more is a format that this kernel does not know.
const KNOWN_FEATURES: u32 = 0x1fff;

/// What a person asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wishes<'a> {
    /// Started for writing.
    pub writable: bool,
    /// Where the members contradict each other, these are right.
    pub with: &'a [Id],
}

/// What is to be said of one set of members.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    pub uuid: String,
    /// `host:name`, as the set was named. Hostile.
    pub name: String,
    /// The number that a 0.90 superblock asks for.
    pub preferred: Option<u32>,
    pub level: Level,
    pub metadata: Metadata,
    /// Members of a whole set.
    pub wanted: u32,
    /// Slots with a member that is in sync.
    pub present: u32,
    /// Slots without one.
    pub missing: Vec<u32>,
    /// What would be used: by slot, then those without one.
    pub members: Vec<Member>,
    pub left_out: Vec<LeftOut>,
    /// The kernel is told what the superblocks say, and does not read them: it would write to what belongs to them, or
    /// not take them.
    pub bare: bool,
    /// Writes were under way when it was last used: started for writing, it resyncs.
    pub dirty: bool,
    /// The kernel writes to it as it starts, even to be read: so it is started from overlays of its members alone.
    pub writes: Option<Writes>,
    /// The kernel would not take its superblocks: it can be read past them, and nothing else.
    pub newer: Option<Newer>,
    pub refusal: Option<Refusal>,
}

/// What the kernel writes to as it starts an array. The texts complete "md2 is a copy in memory, since ".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Writes {
    #[error("it was being reshaped, and going on with that writes")]
    Reshape,
    #[error("it has a journal, which is replayed, and so written, as it starts")]
    Journal,
    #[error("it has a partial parity log, which is replayed, and so written, as it starts")]
    Ppl,
    #[error("its write-intent bitmap is written to as it starts")]
    Bitmap,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub id: Id,
    pub path: String,
    pub part: Part,
    pub events: u64,
}

/// What a member is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    InSync(u32),
    /// Written up to some point: holds its slot, and is not read beyond.
    Rebuilding(u32),
    /// Takes the place of another member of the same slot.
    Replacement(u32),
    Spare,
    Journal,
}

impl Part {
    pub fn slot(self) -> Option<u32> {
        match self {
            Part::InSync(slot) | Part::Rebuilding(slot) | Part::Replacement(slot) => Some(slot),
            Part::Spare | Part::Journal => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    pub id: Id,
    pub path: String,
    pub why: Why,
}

/// Why a device that carries the set's UUID is not used. The texts complete "PATH is left out: ".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    Damaged(String),
    /// The kernel has no node for it.
    NoNode,
    /// By what.
    InUse(String),
    /// The device is smaller than its superblock says.
    Short,
    /// By so many events.
    Behind(u64),
    /// The others went on without it.
    Removed,
    /// It takes the member of this path for failed.
    Disagrees(String),
    /// It went on without the others, too: the other half of a split set.
    OtherHalf,
    /// Of the set that was asked for: written after it.
    Newer,
    /// The freshest member gives its slot another number.
    Slot,
    /// Its level, layout, chunk size or version is another one.
    Shape,
    /// Of the member of this path, which is newer or was asked for.
    CopyOf(String),
    /// It says that it is a spare, and the others that it became a member: how far is not known.
    Unfinished,
    /// Its own superblock says that it failed.
    Failed,
    /// A journal that the set has no use for.
    NoJournal,
    /// Of firmware RAID, which knows its drives by these.
    Stranger,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Damaged(reason) => write!(f, "its superblock is damaged: {}", Untrusted(reason)),
            Why::NoNode => f.write_str("the kernel has no node for it"),
            Why::InUse(by) => write!(f, "it is in use by {by}"),
            Why::Short => f.write_str("it is smaller than its superblock says"),
            Why::Behind(1) => f.write_str("stale, behind by 1 event"),
            Why::Behind(events) => write!(f, "stale, behind by {events} events"),
            Why::Removed => f.write_str("stale, the others went on without it"),
            Why::Disagrees(other) => write!(f, "it says that {other} failed"),
            Why::OtherHalf => f.write_str("it went on without the others"),
            Why::Newer => f.write_str("it went on after what was asked for"),
            Why::Slot => f.write_str("the others know it under another slot"),
            Why::Shape => f.write_str("its superblock describes another kind of array"),
            Why::CopyOf(other) => write!(f, "it is a copy of {other}"),
            Why::Unfinished => f.write_str("it was a spare that was being taken in, and is not in sync"),
            Why::Failed => f.write_str("its superblock says that it failed"),
            Why::NoJournal => f.write_str("it is a journal, and the array has none"),
            Why::Stranger => f.write_str(
                "its metadata does not name a drive with its serial number: it is a copy of one, \
                     and can be chosen (--with) where that one alone is gone",
            ),
        }
    }
}

/// Why a set is not started. The texts complete "md2 is not started: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("no member has a sound superblock")]
    NoMember,
    #[error("there are only spares of it")]
    OnlySpares,
    #[error("{} arrays are not started here", level_name(*.0))]
    Level(Level),
    #[error("its superblock has features that are not known here ({0:#x})")]
    Features(u32),
    #[error("its superblock contradicts itself: {0}")]
    Contradiction(&'static str),
    #[error("it belongs to a cluster, whose other machines may be using it")]
    Clustered,
    #[error("it was being reshaped, and going on with that writes")]
    Reshape,
    #[error("its journal device is missing or stale: the last writes may be in it alone")]
    JournalMissing,
    #[error("its write-intent bitmap is damaged, and with it the kernel does not start it for writing")]
    BitmapDamaged,
    #[error("{} {} the same member: copies of a disk, or two paths to one", list(.0), if .0.len() == 2 { "are both" } else { "are all" })]
    Twins(Vec<String>),
    #[error("it split: {} went on without each other", halves(.0))]
    Split(Vec<Vec<String>>),
    #[error("{present} of {wanted} members are there and current, and {} are not enough", level_name(*.level))]
    TooFew { level: Level, present: u32, wanted: u32 },
    #[error(
        "{present} of {wanted} members are there, and it was being written when it stopped: what the missing one held \
         may be wrong"
    )]
    DirtyDegraded { present: u32, wanted: u32 },
    #[error("it was {0}: this kernel only reads it")]
    Newer(Newer),
    #[error("mdadm.conf says to ignore it")]
    Ignored,
    #[error("{0}: only mdadm starts such firmware RAID")]
    Firmware(String),
}

/// `/dev/sda1, /dev/sdb1 and /dev/sdc1`
fn list(paths: &[String]) -> String {
    match paths {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

fn halves(halves: &[Vec<String>]) -> String {
    let shown: Vec<String> = halves.iter().map(|half| list(half)).collect();
    shown.join(" | ")
}

impl Refusal {
    /// The command that a person may decide for; mdadm's own, where it is one that writes.
    pub fn advice(&self, judgement: &Judgement, device: &str) -> Option<String> {
        // mdadm has the superblocks read by the same kernel.
        let is_ours = matches!(self, Refusal::Twins(_) | Refusal::Split(_) | Refusal::Ignored);
        if judgement.newer.is_some() && !is_ours {
            return None;
        }
        let used: Vec<&str> = judgement.members.iter().map(|member| member.path.as_str()).collect();
        let stale =
            judgement.left_out.iter().filter(|left| matches!(left.why, Why::Behind(_) | Why::Removed));
        let with_stale: Vec<&str> =
            used.iter().copied().chain(stale.map(|left| left.path.as_str())).collect();
        let forced = |paths: &[&str]| {
            let all = paths.join(" ");
            format!("rescue writable {all} && mdadm --assemble --force {device} {all}")
        };
        let plain = |paths: &[&str]| {
            let all = paths.join(" ");
            format!("rescue writable {all} && mdadm --assemble {device} {all}")
        };
        let is_firmware = is_external(judgement.metadata);
        match self {
            Refusal::Reshape | Refusal::Clustered => Some(plain(&used)),
            Refusal::BitmapDamaged => {
                let all = used.join(" ");
                Some(format!("rescue writable {all} && mdadm --assemble --update=no-bitmap {device} {all}"))
            }
            Refusal::DirtyDegraded { .. } if is_firmware => Some(forced_by_mdadm(&used)),
            Refusal::JournalMissing | Refusal::DirtyDegraded { .. } => Some(forced(&used)),
            // mdadm does not take back what firmware's metadata says failed.
            Refusal::TooFew { .. } if is_firmware => None,
            // With stale members it may still be enough; what was written since is torn.
            Refusal::TooFew { .. } => (with_stale.len() > used.len()).then(|| forced(&with_stale)),
            Refusal::Twins(paths) => Some(format!("rescue assemble --with {}", paths.first()?)),
            Refusal::Split(halves) => Some(format!("rescue assemble --with {}", halves.first()?.first()?)),
            Refusal::Ignored => Some(format!("rescue assemble {}", judgement.uuid)),
            Refusal::Firmware(_) => Some(by_mdadm(&used, !judgement.missing.is_empty())),
            Refusal::NoMember
            | Refusal::OnlySpares
            | Refusal::Level(_)
            | Refusal::Features(_)
            | Refusal::Contradiction(_)
            | Refusal::Newer(_) => None,
        }
    }
}

/// Firmware RAID that is written: with a process of mdadm's, which keeps its metadata, and without the firmware whose word mdadm
/// would ask for. Drive by drive, since `mdadm --assemble` of 4.3 and later crashes where it meets DDF
/// (md-raid-utilities/mdadm, issue 157); so it starts what is complete, and the rest when it is told to.
fn by_mdadm(members: &[&str], lacks: bool) -> String {
    let all = members.join(" ");
    let rest = if lacks { " && IMSM_NO_PLATFORM=1 mdadm --incremental --run --scan" } else { "" };
    format!(
        "rescue writable {all} && for drive in {all}; do IMSM_NO_PLATFORM=1 mdadm --incremental $drive; done{rest}"
    )
}

/// One that is not started so, since it is dirty and degraded: it stands half started behind names that mdadm has made up, and
/// `--force` is for its container alone.
fn forced_by_mdadm(members: &[&str]) -> String {
    format!(
        "{}; then, by the names that this prints: mdadm --stop VOLUME; \
         IMSM_NO_PLATFORM=1 mdadm --assemble --force --run VOLUME CONTAINER",
        by_mdadm(members, false)
    )
}

/// The superblock that makes a device a member, and whether it is sound.
pub fn superblock(device: &Device) -> Option<(&Superblock, &Health)> {
    let signature = device.signature()?;
    match signature.volume.as_ref()? {
        Volume::Md(superblock) => Some((superblock, &signature.health)),
        Volume::Lvm(_) | Volume::Luks(_) | Volume::Firmware(_) | Volume::Bcache(_) => None,
    }
}

/// What makes a device a member of one array: its superblock, or what it says of a volume of firmware RAID.
fn superblock_of<'a>(device: &'a Device, array: &str) -> Option<(&'a Superblock, &'a Health)> {
    match firmware_volume(device, array) {
        Some(volume) => Some((&volume.superblock, &device.signature()?.health)),
        None => superblock(device),
    }
}

fn firmware_volume<'a>(device: &'a Device, array: &str) -> Option<&'a FirmwareVolume> {
    firmware_volumes(device).iter().find(|volume| volume.superblock.array.to_string() == array)
}

/// The volumes of firmware RAID of which a drive tells.
pub fn firmware_volumes(device: &Device) -> &[FirmwareVolume] {
    match device.signature().and_then(|signature| signature.volume.as_ref()) {
        Some(Volume::Firmware(firmware)) => &firmware.volumes,
        Some(Volume::Md(_) | Volume::Lvm(_) | Volume::Luks(_) | Volume::Bcache(_)) | None => &[],
    }
}

/// The UUIDs of arrays that a device is a member of. One member of firmware RAID may have a part in several.
pub fn arrays_of(device: &Device) -> Vec<String> {
    let own = superblock(device).map(|(superblock, _)| superblock.array.to_string());
    let volumes = firmware_volumes(device).iter().filter(|volume| volume.is_here());
    own.into_iter().chain(volumes.map(|volume| volume.superblock.array.to_string())).collect()
}

/// What a running array says that tells which of its members' arrays it is.
pub fn is_array(md: &Md, member: &Device, array: &str) -> bool {
    let Some(volume) = firmware_volume(member, array) else { return true };
    // `external:lifeboat.0` is ours, `external:/md127/0` and `external:-md127/0` mdadm's.
    let number = md.metadata_version.as_deref().and_then(|text| text.rsplit(['.', '/']).next()?.parse().ok());
    number == Some(volume.number)
}

/// The device by which mdadm holds the drives of firmware RAID together: no array.
pub fn is_container(md: &Md) -> bool {
    matches!(md.metadata_version.as_deref(), Some("external:imsm" | "external:ddf"))
}

/// Whether a running array is a volume of firmware RAID. Its members are written by it alone, for as long as nobody writes to
/// it: and that nobody can, since its metadata is not kept meanwhile.
pub fn is_firmware(storage: &Storage, device: &Device) -> bool {
    let array = storage.arrays.iter().find(|array| array.device.as_ref() == Some(&device.id));
    let mut members = array.into_iter().flat_map(|array| &array.members).filter_map(|id| storage.get(id));
    members.any(|member| !firmware_volumes(member).is_empty())
}

/// Of a running array whose superblocks this kernel does not take: who wrote it.
pub fn newer(storage: &Storage, device: &Device) -> Option<Newer> {
    let array = storage.arrays.iter().find(|array| array.device.as_ref() == Some(&device.id));
    let mut members = array.into_iter().flat_map(|array| &array.members).filter_map(|id| storage.get(id));
    members.find_map(|member| superblock(member)?.0.newer)
}

/// Whether the kernel runs it: not one that somebody left half assembled.
pub fn is_running(md: &Md) -> bool {
    !matches!(md.array_state.as_str(), "" | "clear" | "inactive")
}

/// The kernel's device of a set, where it runs.
pub fn running<'a>(storage: &'a Storage, array: &Array) -> Option<&'a Device> {
    let device = storage.get(array.device.as_ref()?)?;
    device.block.md.as_ref().filter(|md| is_running(md)).map(|_| device)
}

pub fn level_name(level: Level) -> String {
    match level {
        Level::Linear => "linear".to_string(),
        Level::Raid0 => "raid0".to_string(),
        Level::Raid1 => "raid1".to_string(),
        Level::Raid4 => "raid4".to_string(),
        Level::Raid5 => "raid5".to_string(),
        Level::Raid6 => "raid6".to_string(),
        Level::Raid10 => "raid10".to_string(),
        Level::Multipath => "multipath".to_string(),
        Level::Faulty => "faulty".to_string(),
        Level::Container => "container".to_string(),
        Level::Other(number) => format!("level {number}"),
    }
}

pub fn metadata_name(metadata: Metadata) -> &'static str {
    match metadata {
        Metadata::V0_90 => "0.90",
        Metadata::V1_0 => "1.0",
        Metadata::V1_1 => "1.1",
        Metadata::V1_2 => "1.2",
        Metadata::Imsm => "imsm",
        Metadata::Ddf => "ddf",
    }
}

/// `host:name`, or `md0` for a 0.90 superblock. Hostile.
pub fn array_name(superblock: &Superblock) -> String {
    match superblock.preferred_minor {
        Some(minor) if superblock.name.is_empty() => format!("md{minor}"),
        _ => superblock.name.clone(),
    }
}

/// The module that runs arrays of a level, where there is one.
fn module(level: Level) -> Option<&'static str> {
    match level {
        Level::Linear => Some("linear"),
        Level::Raid0 => Some("raid0"),
        Level::Raid1 => Some("raid1"),
        Level::Raid4 | Level::Raid5 | Level::Raid6 => Some("raid456"),
        Level::Raid10 => Some("raid10"),
        Level::Multipath | Level::Faulty | Level::Container | Level::Other(_) => None,
    }
}

/// A device with a superblock that can be believed.
#[derive(Clone, Copy)]
struct Candidate<'a> {
    device: &'a Device,
    superblock: &'a Superblock,
}

impl Candidate<'_> {
    fn path(&self) -> &str {
        &self.device.path
    }

    fn slot(&self) -> Option<u32> {
        match self.superblock.role {
            Role::Active(slot) => Some(slot),
            Role::Spare | Role::Faulty | Role::Journal => None,
        }
    }

    /// What this member's table says of another one.
    fn says_of(&self, other: &Candidate<'_>) -> Role {
        let number = usize::try_from(other.superblock.number).unwrap_or(usize::MAX);
        self.superblock.roles.get(number).copied().unwrap_or(Role::Spare)
    }

    fn counts_on(&self, other: &Candidate<'_>) -> bool {
        matches!(self.says_of(other), Role::Active(_))
    }

    fn is_replacement(&self) -> bool {
        self.superblock.feature_map & REPLACEMENT != 0
    }

    fn same_shape(&self, other: &Candidate<'_>) -> bool {
        let shape = |c: &Candidate<'_>| {
            let superblock = c.superblock;
            (
                superblock.metadata,
                superblock.level,
                superblock.layout,
                superblock.chunk,
                superblock.raid_disks,
            )
        };
        shape(self) == shape(other)
    }

    /// Which of two members knows best; the path last, so that the order of members decides nothing.
    fn freshness(&self) -> impl Ord + use<'_> {
        let in_sync = self.superblock.recovery_offset.is_none() && !self.is_replacement();
        let slot = std::cmp::Reverse((self.slot(), self.path()));
        (self.superblock.events, in_sync, slot)
    }
}

/// Which members of a set are to be used and which not, and whether those are enough.
pub fn judge(storage: &Storage, array: &Array, wishes: &Wishes<'_>) -> Judgement {
    let mut left_out = Vec::new();
    let mut sound: Vec<Candidate<'_>> = Vec::new();
    let mut seen: Option<Candidate<'_>> = None;
    let mut devices: Vec<&Device> = array.members.iter().filter_map(|id| storage.get(id)).collect();
    devices.sort_by(|a, b| (&a.path, &a.id).cmp(&(&b.path, &b.id)));
    devices.dedup_by(|a, b| a.id == b.id);
    let stand_in = stand_in(&devices, array, wishes);
    for device in devices {
        let Some((own, health)) = superblock_of(device, &array.uuid) else { continue };
        let adopted = stand_in.as_ref().filter(|(id, _)| **id == device.id);
        let superblock = adopted.map_or(own, |(_, volume)| &volume.superblock);
        let candidate = Candidate { device, superblock };
        seen = seen.or(Some(candidate));
        match unusable(storage, &candidate, health) {
            Some(why) => left_out.push(left(&candidate, why)),
            None => sound.push(candidate),
        }
    }
    let picked = |candidate: &Candidate<'_>| wishes.with.contains(&candidate.device.id);
    let active = |candidate: &&Candidate<'_>| candidate.slot().is_some();
    let chosen = sound.iter().any(|candidate| picked(candidate) && candidate.slot().is_some());
    let leader = sound
        .iter()
        .filter(active)
        .filter(|candidate| !chosen || picked(candidate))
        .max_by(|a, b| a.freshness().cmp(&b.freshness()))
        .copied();
    let Some(leader) = leader else {
        let refusal = if sound.is_empty() { Refusal::NoMember } else { Refusal::OnlySpares };
        let nothing = nothing(array, sound.first().copied().or(seen), left_out, refusal);
        return Judgement { members: sound.iter().filter_map(member).collect(), ..nothing };
    };
    // On overlays a reshape is kept from going on.
    let is_copy = sound.iter().all(|one| overlay::is_throw_away(storage, one.device));
    let as_copy = !wishes.writable || is_copy;
    let set = gather(&leader, &sound, chosen);
    left_out.extend(set.left_out);
    let mut used = set.used;

    let of_firmware = firmware_volume(leader.device, &array.uuid);
    let refusal = of_firmware
        .and_then(|volume| only_mdadm(volume, wishes.writable))
        .or_else(|| unsupported(leader.superblock, as_copy))
        .or_else(|| one_of_each(&mut used, &mut left_out, picked))
        .or_else(|| if chosen { None } else { split(&leader, &used, &left_out, &sound, as_copy) });
    let mut members: Vec<Member> = used.iter().filter_map(member).collect();
    members.sort_by(|a, b| {
        (a.part.slot().is_none(), a.part, &a.path).cmp(&(b.part.slot().is_none(), b.part, &b.path))
    });
    left_out.sort_by(|a, b| a.path.cmp(&b.path));

    let dirty = used.iter().any(|candidate| candidate.slot().is_some() && !candidate.superblock.clean);
    let available = available(leader.superblock, &used);
    let count = |want: bool| available.iter().filter(|there| **there == want).count();
    let present = u32::try_from(count(true)).unwrap_or(u32::MAX);
    let missing = (0..).zip(&available).filter(|(_, there)| !**there).map(|(slot, _)| slot).collect();
    let touched = writes_when_read(&leader, &used);
    let writes = if as_copy && of_firmware.is_none() {
        writes(leader.superblock, &used, touched, wishes.writable)
    } else {
        None
    };
    // As on the disks or as a copy: by its superblocks, with what the kernel replays.
    let replayed = wishes.writable || is_copy || writes.is_some();
    let newer = used.iter().find_map(|one| one.superblock.newer);
    let past = (touched || newer.is_some()) && !replayed && can_be_bare(&used);
    let only_read = newer.filter(|_| !past).map(Refusal::Newer);
    let refusal = only_read
        .or(refusal)
        .or_else(|| logged(&leader, &used, replayed))
        .or_else(|| too_few(leader.superblock, &available, present, dirty, replayed));
    Judgement {
        uuid: array.uuid.clone(),
        name: array_name(leader.superblock),
        preferred: leader.superblock.preferred_minor,
        level: leader.superblock.level,
        metadata: leader.superblock.metadata,
        wanted: leader.superblock.raid_disks,
        present,
        missing,
        members,
        left_out,
        bare: of_firmware.is_some() || past,
        dirty,
        writes,
        newer,
        refusal,
    }
}

fn left(candidate: &Candidate<'_>, why: Why) -> LeftOut {
    LeftOut { id: candidate.device.id.clone(), path: candidate.device.path.clone(), why }
}

/// A copy of a drive of firmware RAID that a person has chosen, in the place of the one drive that is not there. Of which drive
/// it is a copy its metadata does not say, so that it is none while they all are there, or more than one is gone.
fn stand_in<'a>(
    devices: &[&'a Device],
    array: &Array,
    wishes: &Wishes<'_>,
) -> Option<(&'a Id, FirmwareVolume)> {
    let volumes: Vec<(&Device, &FirmwareVolume)> =
        devices.iter().filter_map(|device| Some((*device, firmware_volume(device, &array.uuid)?))).collect();
    let is_stranger = |volume: &FirmwareVolume| volume.superblock.number == STRANGER;
    let mut chosen =
        volumes.iter().filter(|(device, volume)| is_stranger(volume) && wishes.with.contains(&device.id));
    let (device, volume) = chosen.next()?;
    let is_here = |number: u32| volumes.iter().any(|(_, volume)| volume.superblock.number == number);
    let slots = (0..).zip(&volume.superblock.roles);
    let mut gone = slots
        .filter(|(number, role)| matches!(role, Role::Active(_)) && !is_here(*number))
        .map(|(number, _)| number);
    let number = gone.next()?;
    if chosen.next().is_some() || gone.next().is_some() {
        return None;
    }
    let mut volume = (*volume).clone();
    volume.belongs_to(number);
    Some((&device.id, volume))
}

/// Nothing can be told but what one superblock says, if there is one.
fn nothing(
    array: &Array,
    seen: Option<Candidate<'_>>,
    left_out: Vec<LeftOut>,
    refusal: Refusal,
) -> Judgement {
    let superblock = seen.map(|candidate| candidate.superblock);
    Judgement {
        uuid: array.uuid.clone(),
        name: superblock.map(array_name).unwrap_or_default(),
        preferred: superblock.and_then(|superblock| superblock.preferred_minor),
        level: superblock.map_or(Level::Other(0), |superblock| superblock.level),
        metadata: superblock.map_or(Metadata::V1_2, |superblock| superblock.metadata),
        wanted: superblock.map_or(0, |superblock| superblock.raid_disks),
        present: 0,
        missing: Vec::new(),
        members: Vec::new(),
        left_out,
        bare: false,
        dirty: false,
        writes: None,
        newer: None,
        refusal: Some(refusal),
    }
}

/// What keeps a device out whatever the others say.
fn unusable(storage: &Storage, candidate: &Candidate<'_>, health: &Health) -> Option<Why> {
    let Candidate { device, superblock } = candidate;
    if let Health::Damaged(reason) = health {
        return Some(Why::Damaged(reason.clone()));
    }
    if !device.node {
        return Some(Why::NoNode);
    }
    if superblock.number == STRANGER {
        return Some(Why::Stranger);
    }
    // Volumes of firmware RAID share their drives.
    let shares = |upper: &&Device| !(is_external(superblock.metadata) && upper.block.md.is_some());
    let upper = device.upper.iter().filter_map(|id| storage.get(id)).find(shares);
    if let Some(upper) = upper {
        return Some(Why::InUse(upper.path.clone()));
    }
    let numbers = (device.block.major, device.block.minor);
    if let Some(mount) = storage.mounts.iter().find(|mount| (mount.major, mount.minor) == numbers) {
        return Some(Why::InUse(Untrusted(&mount.target).to_string()));
    }
    // As the kernel looks before it takes a member (super_1_load, super_90_load).
    let room = match superblock.metadata {
        Metadata::V0_90 | Metadata::V1_0 => superblock.offset,
        Metadata::V1_1 | Metadata::V1_2 => device.block.size.saturating_sub(superblock.data_offset),
        Metadata::Imsm | Metadata::Ddf => superblock.offset.saturating_sub(superblock.data_offset),
    };
    let striped_freely = matches!(superblock.level, Level::Linear | Level::Raid0);
    let needed = match superblock.metadata {
        Metadata::V0_90 if striped_freely => 0,
        Metadata::V0_90 => superblock.component_size,
        Metadata::V1_0 | Metadata::V1_1 | Metadata::V1_2 | Metadata::Imsm | Metadata::Ddf => {
            superblock.data_size
        }
    };
    if room < needed {
        return Some(Why::Short);
    }
    (superblock.role == Role::Faulty).then_some(Why::Failed)
}

fn is_external(metadata: Metadata) -> bool {
    matches!(metadata, Metadata::Imsm | Metadata::Ddf)
}

/// What is not done to a volume of firmware RAID here.
fn only_mdadm(volume: &FirmwareVolume, writable: bool) -> Option<Refusal> {
    let odd = volume.odd.clone();
    let reshaped = volume.superblock.reshape.map(|_| "it was being reshaped".to_string());
    let written = writable.then(|| "its metadata has to be kept while it is written".to_string());
    odd.or(reshaped).or(written).map(Refusal::Firmware)
}

struct Set<'a> {
    used: Vec<Candidate<'a>>,
    left_out: Vec<LeftOut>,
}

/// The members that belong together in the eyes of the one that knows best.
fn gather<'a>(leader: &Candidate<'a>, sound: &[Candidate<'a>], chosen: bool) -> Set<'a> {
    let mut set = Set { used: Vec::new(), left_out: Vec::new() };
    for candidate in sound {
        let verdict =
            if candidate.device.id == leader.device.id { None } else { outsider(leader, candidate, chosen) };
        match verdict {
            None => set.used.push(*candidate),
            Some(why) => set.left_out.push(left(candidate, why)),
        }
    }
    set
}

/// Why a member does not belong to the leader's set, if it does not.
fn outsider(leader: &Candidate<'_>, member: &Candidate<'_>, chosen: bool) -> Option<Why> {
    let (events, latest) = (member.superblock.events, leader.superblock.events);
    // The numbers of firmware RAID count writes of the metadata, drive after drive: one that a power cut kept from the last of
    // them is no less current. Nothing is written past a drive before the others' tables say that it failed (mdmon(8)).
    let is_counted = !is_external(leader.superblock.metadata);
    let behind =
        (is_counted && events.saturating_add(EVENT_MARGIN) < latest).then(|| Why::Behind(latest - events));
    match member.superblock.role {
        Role::Faulty => Some(Why::Failed),
        Role::Journal if !leader.superblock.journal => Some(Why::NoJournal),
        Role::Journal => behind,
        // The kernel would take it for in sync where its own superblock is one event behind.
        Role::Spare if leader.counts_on(member) => Some(Why::Unfinished),
        Role::Spare if !leader.same_shape(member) => Some(Why::Shape),
        Role::Spare => None,
        Role::Active(slot) => match leader.says_of(member) {
            Role::Active(known) if known != slot => Some(Why::Slot),
            Role::Active(_) => behind
                .or_else(|| (chosen && events > latest).then_some(Why::Newer))
                .or_else(|| (!leader.same_shape(member)).then_some(Why::Shape))
                .or_else(|| (!member.counts_on(leader)).then(|| Why::Disagrees(leader.device.path.clone()))),
            Role::Spare | Role::Faulty | Role::Journal if !member.counts_on(leader) => Some(Why::OtherHalf),
            Role::Spare | Role::Faulty | Role::Journal if chosen && events > latest => Some(Why::Newer),
            Role::Spare | Role::Faulty | Role::Journal => Some(behind.unwrap_or(Why::Removed)),
        },
    }
}

/// Leaves one member for each slot: of two, the newer or the one that was asked for.
fn one_of_each(
    used: &mut Vec<Candidate<'_>>,
    left_out: &mut Vec<LeftOut>,
    picked: impl Fn(&Candidate<'_>) -> bool,
) -> Option<Refusal> {
    // Version 1 tells members apart by their own UUID, 0.90 by their number alone.
    let key = |candidate: &Candidate<'_>| {
        let place = candidate.slot().map(|slot| (slot, candidate.is_replacement()));
        let own = candidate.superblock.member.filter(|_| place.is_none());
        let alone = place.is_none() && own.is_none();
        (place, own, alone.then(|| candidate.device.path.clone()))
    };
    let mut groups: BTreeMap<_, Vec<Candidate<'_>>> = BTreeMap::new();
    for candidate in used.iter() {
        groups.entry(key(candidate)).or_default().push(*candidate);
    }
    let mut refusal = None;
    for group in groups.into_values().filter(|group| group.len() > 1) {
        let wanted: Vec<&Candidate<'_>> = group.iter().filter(|candidate| picked(candidate)).collect();
        let latest = group.iter().map(|candidate| candidate.superblock.events).max();
        let newest: Vec<&Candidate<'_>> =
            group.iter().filter(|candidate| Some(candidate.superblock.events) == latest).collect();
        // Of two spares that are one, either will do.
        let is_spare = group.iter().all(|candidate| candidate.slot().is_none());
        let keep = match (&wanted[..], &newest[..]) {
            ([one], _) | ([], [one]) => **one,
            (_, [one, ..]) if is_spare => **one,
            _ => {
                let paths = group.iter().map(|candidate| candidate.device.path.clone()).collect();
                refusal = refusal.or(Some(Refusal::Twins(paths)));
                continue;
            }
        };
        let goes = |candidate: &Candidate<'_>| {
            group.iter().any(|other| other.device.id == candidate.device.id)
                && candidate.device.id != keep.device.id
        };
        left_out
            .extend(used.iter().filter(|c| goes(c)).map(|c| left(c, Why::CopyOf(keep.device.path.clone()))));
        used.retain(|candidate| !goes(candidate));
    }
    refusal
}

/// Whether members that went on by themselves could stand as an array of their own: then nobody but
/// a person knows which half is right.
fn split(
    leader: &Candidate<'_>,
    used: &[Candidate<'_>],
    left_out: &[LeftOut],
    sound: &[Candidate<'_>],
    as_copy: bool,
) -> Option<Refusal> {
    let is_other = |candidate: &&Candidate<'_>| {
        left_out.iter().any(|left| left.id == candidate.device.id && left.why == Why::OtherHalf)
    };
    let mut others: Vec<Candidate<'_>> = sound.iter().filter(is_other).copied().collect();
    let paths = |half: &[Candidate<'_>]| half.iter().map(|one| one.device.path.clone()).collect::<Vec<_>>();
    let own: Vec<Candidate<'_>> = used.iter().filter(|one| one.slot().is_some()).copied().collect();
    let mut halves = vec![paths(&own)];
    while let Some(head) = others.iter().max_by(|a, b| a.freshness().cmp(&b.freshness())).copied() {
        let half = gather(&head, &others, false).used;
        others.retain(|one| !half.iter().any(|taken| taken.device.id == one.device.id));
        let there = available(head.superblock, &half);
        if unsupported(head.superblock, as_copy).is_none() && enough(head.superblock, &there, true) {
            halves.push(paths(&half));
        }
    }
    // Half of it that could not run alone has nothing to be lost that was written since.
    let alone = enough(leader.superblock, &available(leader.superblock, used), true);
    (alone && halves.len() > 1).then_some(Refusal::Split(halves))
}

fn member(candidate: &Candidate<'_>) -> Option<Member> {
    let superblock = candidate.superblock;
    let rebuilt = superblock.recovery_offset.is_none();
    let part = match superblock.role {
        Role::Active(slot) if candidate.is_replacement() => Part::Replacement(slot),
        Role::Active(slot) if rebuilt => Part::InSync(slot),
        Role::Active(slot) => Part::Rebuilding(slot),
        Role::Spare => Part::Spare,
        Role::Journal => Part::Journal,
        Role::Faulty => return None,
    };
    let device = candidate.device;
    Some(Member { id: device.id.clone(), path: device.path.clone(), part, events: superblock.events })
}

/// By slot, whether a member that is in sync fills it.
fn available(superblock: &Superblock, used: &[Candidate<'_>]) -> Vec<bool> {
    (0..superblock.raid_disks.min(MAX_DISKS))
        .map(|slot| {
            used.iter().any(|one| one.slot() == Some(slot) && one.superblock.recovery_offset.is_none())
        })
        .collect()
}

/// What this program, or anything but the cluster's own software, does not start.
fn unsupported(superblock: &Superblock, as_copy: bool) -> Option<Refusal> {
    let unknown = superblock.feature_map & !KNOWN_FEATURES;
    let (near, far) = (superblock.layout & 0xff, superblock.layout >> 8 & 0xff);
    if module(superblock.level).is_none() {
        Some(Refusal::Level(superblock.level))
    } else if unknown != 0 {
        Some(Refusal::Features(unknown))
    } else if superblock.raid_disks == 0 || superblock.raid_disks > MAX_DISKS {
        Some(Refusal::Contradiction("its number of members"))
    } else if superblock.level == Level::Raid10 && !(1..=superblock.raid_disks).contains(&(near * far)) {
        Some(Refusal::Contradiction("its layout"))
    } else if superblock.feature_map & CLUSTERED != 0 {
        Some(Refusal::Clustered)
    } else if superblock.reshape.is_some() && !as_copy {
        Some(Refusal::Reshape)
    } else {
        None
    }
}

/// What the kernel writes to as the array starts to be read, and what cannot be read past it.
fn writes(superblock: &Superblock, used: &[Candidate<'_>], touched: bool, writable: bool) -> Option<Writes> {
    if superblock.reshape.is_some() {
        Some(Writes::Reshape)
    } else if writable {
        None
    } else if superblock.journal {
        Some(Writes::Journal)
    } else if !touched || can_be_bare(used) {
        None
    } else if superblock.ppl {
        Some(Writes::Ppl)
    } else {
        Some(Writes::Bitmap)
    }
}

/// A log without which the array is not started by its superblocks.
fn logged(leader: &Candidate<'_>, used: &[Candidate<'_>], replayed: bool) -> Option<Refusal> {
    let has_journal = used.iter().any(|one| one.superblock.role == Role::Journal);
    if leader.superblock.journal && !has_journal {
        return Some(Refusal::JournalMissing);
    }
    let damaged = replayed && freshest_logs(used).any(|log| log.events.is_none());
    damaged.then_some(Refusal::BitmapDamaged)
}

/// The bitmaps of the freshest members: one of these is added last, and it is that one's which the kernel reads.
fn freshest_logs<'a>(used: &[Candidate<'a>]) -> impl Iterator<Item = Bitmap> + use<'a> {
    let active: Vec<Candidate<'_>> = used.iter().filter(|one| one.slot().is_some()).copied().collect();
    let latest = active.iter().map(|one| one.superblock.events).max();
    active
        .into_iter()
        .filter(move |one| Some(one.superblock.events) == latest)
        .filter_map(|one| one.superblock.bitmap_log)
}

/// Whether the kernel writes to the members of an array that is started read-only by its superblocks: it replays a partial
/// parity log, overwrites a bitmap that is behind, and clears bits of one, after some seconds and as the
/// array is stopped (md-bitmap.c: md_bitmap_init_from_disk, md_bitmap_daemon_work, md_bitmap_flush).
fn writes_when_read(leader: &Candidate<'_>, used: &[Candidate<'_>]) -> bool {
    let latest = leader.superblock.events;
    leader.superblock.ppl
        || freshest_logs(used).any(|log| log.marked || log.events.is_none_or(|events| events < latest))
}

/// What the kernel is told in sysfs has no blocks that are known to be bad, and counts in KiB.
fn can_be_bare(used: &[Candidate<'_>]) -> bool {
    let odd = |size: u64| !size.is_multiple_of(1024);
    !used.iter().any(|one| one.superblock.bad_blocks || odd(one.superblock.component_size))
}

fn too_few(
    superblock: &Superblock,
    available: &[bool],
    present: u32,
    dirty: bool,
    writable: bool,
) -> Option<Refusal> {
    let (level, wanted) = (superblock.level, superblock.raid_disks);
    // A log closes the hole that a dirty, degraded array has; it is replayed where the array is started by its superblocks.
    let clean = !dirty || superblock.journal || superblock.ppl && writable;
    if !enough(superblock, available, true) {
        Some(Refusal::TooFew { level, present, wanted })
    } else if !enough(superblock, available, clean) {
        Some(Refusal::DirtyDegraded { present, wanted })
    } else {
        None
    }
}

/// mdadm's `enough` (util.c): whether what is there holds every block. `clean` false: parity may not
/// agree with the data, so nothing can be computed from it.
fn enough(superblock: &Superblock, available: &[bool], clean: bool) -> bool {
    let there = available.iter().filter(|there| **there).count();
    let all = available.len();
    match superblock.level {
        Level::Linear | Level::Raid0 => there == all,
        Level::Raid1 => there >= 1,
        Level::Raid10 => {
            // One of the copies of each chunk, which begin `near` slots after one another, round and round.
            let (near, far) = (superblock.layout as usize & 0xff, superblock.layout as usize >> 8 & 0xff);
            let copy = |slot: usize| available.get(slot % all.max(1)) == Some(&true);
            (0..all)
                .step_by(common_divisor(near, all).max(1))
                .all(|first| (0..near * far).any(|n| copy(first + n)))
        }
        // Where only the parity disk of RAID4 is gone, nothing is computed.
        Level::Raid4 if there + 1 == all && available.last() == Some(&false) => true,
        Level::Raid4 | Level::Raid5 => there >= if clean { all.saturating_sub(1).max(1) } else { all },
        Level::Raid6 => there >= if clean { all.saturating_sub(2).max(1) } else { all },
        Level::Multipath | Level::Faulty | Level::Container | Level::Other(_) => false,
    }
}

fn common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

/// The steps that start a set that was not refused: the members made writable where that was asked for, the
/// module, and the start.
pub fn assemble(
    storage: &Storage,
    judgement: &Judgement,
    name: &Name,
    wishes: &Wishes<'_>,
    by: &str,
) -> Result<Vec<Step>, consent::Refusal> {
    let mut steps: Vec<Step> = Vec::new();
    if wishes.writable {
        for member in &judgement.members {
            for step in consent::writable(storage, &member.id, by)? {
                if !steps.contains(&step) {
                    steps.push(step);
                }
            }
        }
    }
    steps.extend(module(judgement.level).map(|name| Step::Module { name: name.to_string() }));
    // Only what is read needs to be there.
    let wanted = |member: &&Member| !judgement.bare || is_read_bare(storage, judgement, member);
    let mut members: Vec<MdMember> = judgement
        .members
        .iter()
        .filter(wanted)
        .filter_map(|member| of_plan(storage, judgement, member))
        .collect();
    // The kernel puts what is added in front, and takes the bitmap from the first (md.c: bind_rdev_to_array).
    members.sort_by_key(|member| (member.slot.is_some(), member.events));
    steps.push(Step::MdStart(MdStart {
        device: name.device.clone(),
        minor: name.number,
        link: name.link.clone(),
        uuid: judgement.uuid.clone(),
        members,
        read_only: !wishes.writable,
        metadata: metadata_name(judgement.metadata).to_string(),
        bare: judgement.bare.then(|| bare(storage, judgement)).flatten(),
    }));
    Ok(steps)
}

/// Whether a member is given to a kernel that does not read its superblock: it takes each for in sync, and for the only one of
/// its slot (md.c: slot_store), so that a replacement goes beside nothing, and only when all of it was written.
fn is_read_bare(storage: &Storage, judgement: &Judgement, member: &Member) -> bool {
    let is_written = || {
        let own = storage.get(&member.id).and_then(|device| superblock_of(device, &judgement.uuid));
        own.is_some_and(|(superblock, _)| superblock.recovery_offset.is_none())
    };
    match member.part {
        Part::InSync(_) => true,
        Part::Replacement(slot) => {
            is_written() && !judgement.members.iter().any(|other| other.part == Part::InSync(slot))
        }
        Part::Rebuilding(_) | Part::Spare | Part::Journal => false,
    }
}

fn of_plan(storage: &Storage, judgement: &Judgement, member: &Member) -> Option<MdMember> {
    let device = storage.get(&member.id)?;
    let (superblock, _) = superblock_of(device, &judgement.uuid)?;
    Some(MdMember {
        path: member.path.clone(),
        major: device.block.major,
        minor: device.block.minor,
        slot: member.part.slot(),
        diskseq: device.block.diskseq,
        events: member.events,
        data_offset: superblock.data_offset,
        data_size: superblock.data_size,
    })
}

fn bare(storage: &Storage, judgement: &Judgement) -> Option<MdBare> {
    let freshest = judgement.members.iter().filter(|member| member.part.slot().is_some());
    let freshest = freshest.max_by_key(|member| member.events)?;
    let device = storage.get(&freshest.id)?;
    let (superblock, _) = superblock_of(device, &judgement.uuid)?;
    let volume = firmware_volume(device, &judgement.uuid);
    Some(MdBare {
        level: level_name(superblock.level),
        raid_disks: superblock.raid_disks,
        layout: superblock.layout,
        chunk: superblock.chunk,
        component_size: superblock.component_size,
        size: volume.and_then(|volume| volume.size),
        volume: volume.map(|volume| volume.number),
        newer: judgement.newer.is_some(),
        in_sync: judgement.dirty.then_some(if superblock.clean { 0 } else { superblock.resync_offset }),
    })
}

/// Firmware RAID of which nothing can be started here, since its metadata could not be read: what it is called, and its members.
pub fn external(storage: &Storage) -> BTreeMap<&'static str, Vec<&str>> {
    without_volume(storage, |device| !is_spare(device))
}

/// Drives of firmware RAID that have no part in a volume, by what it is called: their metadata was read, and says so.
pub fn spares(storage: &Storage) -> BTreeMap<&'static str, Vec<&str>> {
    without_volume(storage, is_spare)
}

fn without_volume(storage: &Storage, which: impl Fn(&Device) -> bool) -> BTreeMap<&'static str, Vec<&str>> {
    let mut found: BTreeMap<&'static str, Vec<&str>> = BTreeMap::new();
    let is_alone = |device: &&Device| device.upper.is_empty() && arrays_of(device).is_empty();
    for device in storage.devices.iter().filter(is_alone).filter(|device| which(device)) {
        let kind = match device.signature().map(|signature| signature.format.as_str()) {
            Some("isw_raid_member") => "Intel firmware RAID",
            Some("ddf_raid_member") => "DDF firmware RAID",
            _ => continue,
        };
        found.entry(kind).or_default().push(&device.path);
    }
    found
}

/// A spare of Intel's has metadata of its own, with no volume in it; one of DDF has no record of one.
fn is_spare(device: &Device) -> bool {
    device.signature().is_some_and(|signature| match &signature.volume {
        Some(Volume::Firmware(firmware)) => {
            let has_part = firmware.volumes.iter().any(FirmwareVolume::is_here);
            signature.health == Health::Sound && !firmware.unread && !has_part
        }
        Some(Volume::Md(_) | Volume::Lvm(_) | Volume::Luks(_) | Volume::Bcache(_)) | None => false,
    })
}

/// Devices that did not answer or could not be read, of which each may be a member that is missed.
pub fn unread(storage: &Storage) -> Vec<&str> {
    let silent = |device: &&Device| match device.report {
        Observed::Hung { .. } | Observed::Failed { .. } => device.block.partition.is_none(),
        Observed::Examined { .. } | Observed::Skipped { .. } => false,
    };
    storage.devices.iter().filter(silent).map(|device| device.path.as_str()).collect()
}

#[cfg(test)]
mod tests;
