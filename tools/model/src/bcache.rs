//! bcache: devices that are cached, and their caches. The kernel writes to both as it registers them, and then writes back; so
//! one whose cache holds nothing of it is read behind its superblock, with no cache and no bcache at all, and one whose
//! cache does is registered as overlays of both. Without that cache it is not started: what would be seen is a file
//! system with holes in its past (drivers/md/bcache/super.c).

use crate::overlay::{self, Purpose};
use crate::plan::{DmLower, DmTarget, Step};
use crate::storage::{Device, Id, Problem, Storage};
use ondisk::volume::Volume;
use ondisk::volume::bcache::{Bcache, Part, State};
use ondisk::{Health, Severity};
use std::collections::BTreeSet;

/// How the mapped devices that are made here are known, before the id of what they show.
pub const MAP_UUID: &str = "LIFEBOAT-BCACHE-";
const SECTOR: u64 = 512;

/// One device that is, or was, cached.
#[derive(Clone, Debug, PartialEq)]
pub struct Backing {
    pub id: Id,
    pub path: String,
    pub start: Result<Start, Refusal>,
    /// The device that shows its content, where it runs.
    pub device: Option<Id>,
    /// What a person has to know of the content.
    pub note: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Start {
    /// Bytes from its start.
    Plain { data_offset: u64 },
    /// With these caches, from overlays alone.
    Cached { caches: Vec<Id> },
}

/// The texts complete "/dev/sdb is not started: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the last data written to it is in its cache alone, which is not here (set {0})")]
    NoCache(String),
    #[error("the last data written to it is in its cache alone, and the superblock of that, {0}, is damaged")]
    CacheDamaged(String),
    #[error("it is there twice, with {0}: copies of a disk, or two paths to one")]
    Twins(String),
    #[error("its superblock is damaged")]
    Damaged,
    #[error("it is smaller than its superblock says")]
    Short,
    #[error("{path} is in use by {by}")]
    InUse { path: String, by: String },
    #[error("{0} has no node: the kernel refused this partition")]
    NoNode(String),
}

fn superblock(device: &Device) -> Option<(&Bcache, bool)> {
    let signature = device.signature()?;
    match signature.volume.as_ref()? {
        Volume::Bcache(bcache) => Some((bcache, !matches!(signature.health, Health::Damaged(_)))),
        Volume::Md(_) | Volume::Lvm(_) | Volume::Luks(_) | Volume::Firmware(_) => None,
    }
}

/// What it is, in a person's words.
pub fn words(bcache: &Bcache) -> String {
    match bcache.part {
        Part::Cache => "cache of bcache".to_string(),
        Part::Backing { state, .. } => match state {
            State::Alone => "cached by bcache, without a cache".to_string(),
            State::Clean => "cached by bcache, clean".to_string(),
            State::Dirty => "cached by bcache, dirty".to_string(),
            State::Stale => "cached by bcache, parted from its cache".to_string(),
        },
    }
}

/// Not what has an overlay, which stands for it.
fn is_candidate(storage: &Storage, device: &Device) -> bool {
    let is_ours = overlay::list(storage)
        .iter()
        .any(|overlay| overlay.id == device.id && overlay.made_by == Purpose::Assemble);
    let has_other = overlay::over(storage, &device.id).is_some_and(|one| one.made_by != Purpose::Assemble);
    !is_ours && !has_other
}

/// All that there are, running or not.
pub fn found(storage: &Storage) -> Vec<Backing> {
    // Few machines have any, and to ask for overlays is to go through all devices.
    let devices = storage.devices.iter().filter(|device| superblock(device).is_some());
    let devices = devices.filter(|device| is_candidate(storage, device));
    devices.filter_map(|device| backing(storage, device)).collect()
}

fn backing(storage: &Storage, device: &Device) -> Option<Backing> {
    let (bcache, sound) = superblock(device)?;
    let Part::Backing { state, data_offset } = bcache.part else { return None };
    let running = running(storage, device);
    let start = match running {
        Some(_) => Ok(Start::Plain { data_offset }),
        None => startable(storage, device, (bcache, sound), state, data_offset),
    };
    Some(Backing {
        id: device.id.clone(),
        path: device.path.clone(),
        start,
        device: running.map(|running| running.id.clone()),
        note: (state == State::Stale)
            .then_some("it was parted from a cache that held data of it: what that held is lost"),
    })
}

/// What shows its content: a map over it, or bcache's device on it or on its overlay.
fn running<'a>(storage: &'a Storage, device: &Device) -> Option<&'a Device> {
    let map = format!("{MAP_UUID}{}", device.id.0);
    let overlay = overlay::over(storage, &device.id).map(|overlay| overlay.id);
    storage.devices.iter().find(|upper| {
        let is_map = upper.block.dm.as_ref().is_some_and(|dm| dm.uuid == map);
        let stands = |id: &Id| *id == device.id || overlay.as_ref() == Some(id);
        is_map || is_bcache(upper) && upper.lower.iter().any(stands)
    })
}

/// `/dev/bcache0`
fn is_bcache(device: &Device) -> bool {
    let number = device.block.name.strip_prefix("bcache");
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

fn startable(
    storage: &Storage,
    device: &Device,
    (bcache, sound): (&Bcache, bool),
    state: State,
    data_offset: u64,
) -> Result<Start, Refusal> {
    if !sound {
        return Err(Refusal::Damaged);
    }
    if data_offset >= device.block.size {
        return Err(Refusal::Short);
    }
    is_free(storage, device)?;
    match state {
        State::Alone | State::Clean | State::Stale => return Ok(Start::Plain { data_offset }),
        State::Dirty => {}
    }
    // The kernel tells members of a set by their own UUIDs.
    let own = |device: &Device| device.signature().and_then(|signature| signature.uuid.clone());
    let others = storage.devices.iter();
    let others = others.filter_map(|other| superblock(other).map(|(bcache, sound)| (other, bcache, sound)));
    let of_set = others.filter(|(_, other, _)| other.set == bcache.set);
    let of_set: Vec<(&Device, &Bcache, bool)> =
        of_set.filter(|(other, ..)| is_candidate(storage, other)).collect();
    let caches: Vec<&(&Device, &Bcache, bool)> =
        of_set.iter().filter(|(_, bcache, _)| bcache.part == Part::Cache).collect();
    for (one, ..) in caches.iter().copied().chain([&(device, bcache, true)]) {
        if let Some((twin, ..)) =
            of_set.iter().find(|(other, ..)| other.id != one.id && own(other) == own(one))
        {
            return Err(Refusal::Twins(twin.path.clone()));
        }
    }
    if let Some((cache, ..)) = caches.iter().find(|(_, _, sound)| !sound) {
        return Err(Refusal::CacheDamaged(cache.path.clone()));
    }
    if caches.is_empty() {
        return Err(Refusal::NoCache(bcache.set.to_string()));
    }
    for (cache, ..) in &caches {
        // One that another device of the set was started with is an overlay already.
        is_free(storage, cache)?;
    }
    Ok(Start::Cached { caches: caches.iter().map(|(cache, ..)| cache.id.clone()).collect() })
}

fn is_free(storage: &Storage, device: &Device) -> Result<(), Refusal> {
    if !device.node {
        return Err(Refusal::NoNode(device.path.clone()));
    }
    let is_own = |upper: &&Device| !overlay::is_overlay(upper);
    let upper = device.upper.iter().filter_map(|id| storage.get(id)).find(is_own);
    match upper {
        Some(upper) => Err(Refusal::InUse { path: device.path.clone(), by: crate::lvm::path(upper) }),
        None => Ok(()),
    }
}

/// The steps that show one that has nothing in a cache.
pub fn plain(storage: &Storage, backing: &Backing, data_offset: u64) -> Option<(String, Vec<Step>)> {
    let device = storage.get(&backing.id)?;
    let block = &device.block;
    let own = block.dm.as_ref().map_or(&block.name, |dm| &dm.name);
    let name = format!("bcache-{}", own.replace(['!', '/'], "-"));
    let target = DmTarget {
        start: 0,
        length: block.size.checked_sub(data_offset)? / SECTOR,
        kind: "linear".to_string(),
        text: format!("{} {}", device.path, data_offset / SECTOR),
    };
    let lower = DmLower::of(device.path.clone(), block);
    let step = Step::DmCreate {
        name: name.clone(),
        uuid: format!("{MAP_UUID}{}", device.id.0),
        table: vec![target],
        read_only: true,
        on: vec![lower],
    };
    let module = Step::Module { name: "dm_mod".to_string() };
    Some((format!("/dev/mapper/{name}"), vec![module, step]))
}

/// The steps that start one from the overlays of it and its caches; the first of `overlays` is its own.
pub fn cached(overlays: &[String]) -> Vec<Step> {
    let Some((own, caches)) = overlays.split_first() else { return Vec::new() };
    let register = |device: &String| Step::BcacheRegister { device: device.clone() };
    let module = Step::Module { name: "bcache".to_string() };
    let steps = std::iter::once(module).chain(caches.iter().map(register)).chain([register(own)]);
    steps.chain([Step::BcacheHold { device: own.clone() }]).collect()
}

/// Whether it was started here.
pub fn is_started(storage: &Storage, device: &Device) -> bool {
    let is_map = device.block.dm.as_ref().is_some_and(|dm| dm.uuid.starts_with(MAP_UUID));
    is_map || is_bcache(device) && overlay::is_for_reading(storage, device)
}

/// The steps that take down what was started here: the caches go with the last that they serve.
pub fn removal(storage: &Storage, device: &Device) -> Option<Vec<Step>> {
    if !is_started(storage, device) {
        return None;
    }
    if let Some(dm) = &device.block.dm {
        return Some(vec![Step::DmRemove { name: dm.name.clone() }]);
    }
    let all = overlay::list(storage);
    let own = all.iter().find(|overlay| device.lower.contains(&overlay.id))?;
    let mut steps = vec![Step::BcacheStop { device: own.path.clone() }];
    let set = set_of(storage, &own.id);
    let others = storage.devices.iter().filter(|other| other.id != device.id && is_bcache(other));
    let is_served = others.into_iter().any(|other| other.lower.iter().any(|id| set.contains(id)));
    if !is_served {
        let others = all.iter().filter(|overlay| overlay.id != own.id && set.contains(&overlay.id));
        let caches = others.filter(|overlay| {
            let device = storage.get(&overlay.id).and_then(superblock);
            // What was not looked at again cannot be told apart; stopping one that is no cache does no harm.
            device.is_none_or(|(bcache, _)| bcache.part == Part::Cache)
        });
        steps.extend(caches.map(|overlay| Step::BcacheStop { device: overlay.path.clone() }));
    }
    Some(steps)
}

/// The overlays of one set: by what is on them, else on what they are of.
pub fn set_of(storage: &Storage, overlay: &Id) -> BTreeSet<Id> {
    let all = overlay::list(storage);
    let set = |one: &overlay::Overlay| {
        let own = storage.get(&one.id).and_then(superblock);
        let origin = one.origin.as_ref().and_then(|id| storage.get(id)).and_then(superblock);
        own.or(origin).map(|(bcache, _)| bcache.set)
    };
    let own = all.iter().find(|one| one.id == *overlay).and_then(set);
    let same = all.iter().filter(|one| own.is_some() && set(one) == own);
    same.map(|one| one.id.clone()).collect()
}

/// What is wrong with those that do not run.
pub fn problems(storage: &Storage) -> Vec<Problem> {
    let problem = |backing: Backing| {
        let severity = match backing.start.as_ref().err()? {
            Refusal::NoCache(_) | Refusal::CacheDamaged(_) => Severity::Error,
            Refusal::Twins(_) => Severity::Warning,
            // Told of the device itself, or no trouble.
            Refusal::Damaged | Refusal::Short | Refusal::InUse { .. } | Refusal::NoNode(_) => return None,
        };
        let refusal = backing.start.err()?;
        let text = format!("{} is not started: {refusal}", backing.path);
        Some(Problem { device: Some(backing.path), severity, text })
    };
    found(storage).into_iter().filter_map(problem).collect()
}

/// What a person typed may mean it: itself, its disk, or what shows it.
pub fn is_meant(storage: &Storage, backing: &Backing, id: &Id) -> bool {
    let parent = storage.get(&backing.id).and_then(|device| device.parent.clone());
    backing.id == *id || parent.as_ref() == Some(id) || backing.device.as_ref() == Some(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::build;
    use crate::storage::Observed;
    use contract::facts::{Block, Dm, Facts, OVERLAY_UUID};
    use ondisk::{DiskReport, Signature, Usage, Uuid};
    use std::collections::BTreeMap;

    const SET: Uuid = Uuid([7; 16]);

    fn disk(name: &str, minor: u32) -> Block {
        Block {
            name: name.to_string(),
            major: 8,
            minor,
            diskseq: Some(minor.into()),
            size: 1 << 20,
            ..Block::default()
        }
    }

    fn seen(uuid: &str, part: Part) -> Observed {
        let mut found = Signature::new("bcache", Usage::Other, 4120);
        found.uuid = Some(uuid.to_string());
        found.health = Health::Sound;
        found.volume = Some(Volume::Bcache(Bcache { set: SET, part }));
        let report = DiskReport { signatures: vec![found], ..DiskReport::default() };
        Observed::Examined { report: Box::new(report) }
    }

    fn cached(state: State) -> Part {
        Part::Backing { state, data_offset: 8192 }
    }

    fn storage(devices: Vec<(Block, Observed)>) -> Storage {
        let seen: BTreeMap<String, Observed> =
            devices.iter().map(|(block, seen)| (block.name.clone(), seen.clone())).collect();
        let blocks = devices.into_iter().map(|(block, _)| block).collect();
        build(Facts { blocks, ..Facts::default() }, &seen, &[])
    }

    fn start(devices: Vec<(Block, Observed)>) -> Result<Start, Refusal> {
        found(&storage(devices)).remove(0).start
    }

    #[test]
    fn what_is_clean_is_read_without_its_cache() {
        for state in [State::Alone, State::Clean, State::Stale] {
            let storage = storage(vec![(disk("sda", 1), seen("a", cached(state)))]);
            let backing = &found(&storage)[0];
            assert_eq!(backing.start, Ok(Start::Plain { data_offset: 8192 }), "{state:?}");
            assert_eq!(backing.note.is_some(), state == State::Stale);
            let (path, steps) = plain(&storage, backing, 8192).unwrap();
            assert_eq!(path, "/dev/mapper/bcache-sda");
            assert_eq!(
                steps[1].text(),
                "dmsetup create bcache-sda --uuid LIFEBOAT-BCACHE-seq:1 --readonly --table '0 2032 linear /dev/sda 16'"
            );
        }
    }

    #[test]
    fn what_is_dirty_is_started_with_its_cache_or_not_at_all() {
        let own = || (disk("sda", 1), seen("a", cached(State::Dirty)));
        let cache = |name, minor| (disk(name, minor), seen("b", Part::Cache));
        let missing = start(vec![own()]);
        assert!(matches!(&missing, Err(Refusal::NoCache(_))), "{missing:?}");
        let problems = storage(vec![own()]).problems;
        assert!(problems.iter().any(|problem| problem.text.contains("which is not here")), "{problems:?}");
        let found = start(vec![own(), cache("sdb", 2)]);
        assert_eq!(found, Ok(Start::Cached { caches: vec![Id("seq:2".to_string())] }));
        assert_eq!(
            start(vec![own(), cache("sdb", 2), cache("sdc", 3)]),
            Err(Refusal::Twins("/dev/sdc".to_string()))
        );
        let mut torn = cache("sdb", 2);
        let Observed::Examined { report } = &mut torn.1 else { panic!("not examined") };
        report.signatures[0].health = Health::Damaged("checksum".to_string());
        assert_eq!(start(vec![own(), torn]), Err(Refusal::CacheDamaged("/dev/sdb".to_string())));
    }

    #[test]
    fn an_overlay_stands_for_its_original_and_what_runs_is_known() {
        let over = |of: &str, minor: u32, mark: &str| Block {
            dm: Some(Dm {
                name: format!("over-{of}"),
                uuid: format!("{OVERLAY_UUID}{mark}seq:{minor}"),
                ..Dm::default()
            }),
            slaves: vec![of.to_string()],
            ..disk(&format!("dm-{minor}"), 10 + minor)
        };
        let own = || (disk("sda", 1), seen("a", cached(State::Dirty)));
        let copy = (over("sda", 1, ""), seen("a", cached(State::Dirty)));
        assert_eq!(
            found(&storage(vec![own(), copy])).iter().map(|one| one.path.as_str()).collect::<Vec<_>>(),
            ["/dev/dm-1"]
        );
        let ours = (over("sda", 1, "ASSEMBLE-"), seen("a", cached(State::Dirty)));
        let cache = (over("sdb", 2, "ASSEMBLE-"), seen("b", Part::Cache));
        let shown = Block { slaves: vec!["dm-1".to_string()], ..disk("bcache0", 30) };
        let devices = vec![
            own(),
            (disk("sdb", 2), seen("b", Part::Cache)),
            ours,
            cache,
            (shown, Observed::Skipped { reason: String::new() }),
        ];
        let storage = storage(devices);
        let all = found(&storage);
        assert_eq!((all.len(), all[0].device.clone()), (1, Some(Id("seq:30".to_string()))));
        let device = storage.by_path("/dev/bcache0").unwrap();
        let steps: Vec<String> = removal(&storage, device).unwrap().iter().map(Step::text).collect();
        assert_eq!(steps.len(), 2, "{steps:?}");
        assert!(steps[0].contains("over-sda") && steps[1].contains("over-sdb"), "{steps:?}");
        // Neither goes without the other.
        assert_eq!(set_of(&storage, &Id("seq:11".to_string())).len(), 2);
    }
}
