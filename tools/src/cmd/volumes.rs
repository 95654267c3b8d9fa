//! The part of `rescue assemble` that is LVM's: the volume groups that were found, activated through the bundled lvm2.
//! What is decided is in `model::lvm`; what LVM made is looked at afterwards, since its status tells little.

use super::assemble::{State, copy};
use super::writable::drive;
use crate::apply::{Door, Made};
use crate::scan::Scan;
use crate::tool::Context;
use anyhow::{Context as _, bail, ensure};
use contract::exit;
use host::proc::available_memory;
use model::lvm::{self, Judgement, Lv, Wishes};
use model::overlay;
use model::plan::Step;
use model::storage::{Device, Storage, VolumeGroup};
use model::text::{Column, Untrusted, size, table};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What became of one group.
#[derive(Debug, Serialize)]
pub struct GroupLine {
    pub uuid: String,
    pub name: String,
    present: usize,
    wanted: usize,
    members: Vec<String>,
    /// Hostile.
    missing: Vec<String>,
    left_out: Vec<Unused>,
    volumes: Vec<VolumeLine>,
    notes: Vec<String>,
    /// What it is told as, where it was activated as a copy.
    #[serde(skip)]
    copy: Option<String>,
    /// Why none of it is activated. Hostile.
    reason: Option<String>,
    advice: Option<String>,
    /// Steps of a dry run, as commands.
    pub steps: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Unused {
    path: String,
    why: String,
    /// With the drive's model and serial number.
    #[serde(skip)]
    drive: String,
}

#[derive(Debug, Serialize)]
struct VolumeLine {
    name: String,
    /// `/dev/vg/root`
    path: String,
    /// Bytes.
    size: u64,
    kind: String,
    state: State,
    read_only: bool,
    /// It stands on overlays of the PVs, and not on these.
    copy: bool,
    /// Hostile.
    reason: Option<String>,
    advice: Option<String>,
}

/// What was asked for, and what came of it so far.
pub struct Groups<'a> {
    pub context: &'a Context,
    pub typed: &'a str,
    pub dry_run: bool,
    pub wishes: Wishes<'a>,
    /// Words of the person; empty: all that is found.
    pub asked: &'a [String],
    /// By UUID.
    pub lines: BTreeMap<String, GroupLine>,
    /// Groups that were tried, with success or not.
    tried: BTreeSet<String>,
}

impl<'a> Groups<'a> {
    pub fn new(
        context: &'a Context,
        typed: &'a str,
        dry_run: bool,
        wishes: Wishes<'a>,
        asked: &'a [String],
    ) -> Groups<'a> {
        Groups { context, typed, dry_run, wishes, asked, lines: BTreeMap::new(), tried: BTreeSet::new() }
    }

    /// One look at everything; returns how many groups were activated.
    pub fn pass(&mut self, storage: &Storage) -> usize {
        let mut started = 0;
        for group in &storage.volumes {
            if self.tried.contains(&group.uuid) {
                continue;
            }
            let found = lvm::judge(storage, group, &self.wishes);
            let words: Vec<&String> =
                self.asked.iter().filter(|text| means(storage, group, &found, text)).collect();
            if !self.asked.is_empty() && words.is_empty() {
                continue;
            }
            let wishes = Wishes { named: !words.is_empty(), ..self.wishes };
            let judgement = lvm::judge(storage, group, &wishes);
            let only: Vec<&str> = words.iter().filter_map(|text| volume_of(&judgement, text)).collect();
            let wanted = |lv: &&Lv| only.is_empty() || only.contains(&lv.name.as_str());
            let volumes: Vec<&Lv> = judgement.volumes.iter().filter(wanted).collect();
            let ready: Vec<&Lv> = volumes
                .iter()
                .copied()
                .filter(|lv| judgement.refusal.is_none() && lv.active.is_none() && lv.refusal.is_none())
                .collect();
            let mut line = line(storage, &judgement, &volumes, &wishes);
            let to_activate = fitting(&ready, available_memory(&self.context.root), &mut line);
            let is_copy = !to_activate.is_empty() && volumes.iter().any(|lv| is_copied(lv));
            let to_activate = match is_copy {
                true => self.activate_copy(storage, &judgement, to_activate, &wishes, &mut line),
                false => to_activate,
            };
            if !to_activate.is_empty() {
                self.activate(storage, &judgement, &to_activate, &wishes, &mut line);
            }
            let tried =
                line.volumes.iter().any(|volume| matches!(volume.state, State::Started | State::Failed));
            if tried || !line.steps.is_empty() {
                self.tried.insert(group.uuid.clone());
                started += usize::from(!self.dry_run);
            }
            self.lines.insert(group.uuid.clone(), line);
            if is_copy && !self.dry_run {
                // There are overlays now, and their store: the rest is judged by a new look.
                if tried {
                    break;
                }
            }
        }
        started
    }

    /// From overlays of every PV, that are made for it. Returns what can be activated from the PVs themselves where
    /// there can be none.
    fn activate_copy<'v>(
        &self,
        storage: &Storage,
        judgement: &Judgement,
        volumes: Vec<&'v str>,
        wishes: &Wishes<'_>,
        line: &mut GroupLine,
    ) -> Vec<&'v str> {
        let members: Vec<_> = judgement.used.iter().map(|used| used.id.clone()).collect();
        let plan = match copy::plan(self.context, storage, &members) {
            Ok(plan) => plan,
            Err(refusal) => {
                line.without_copy(judgement, &refusal);
                let plain =
                    |name: &&str| !judgement.volumes.iter().any(|lv| lv.name == *name && is_copied(lv));
                return volumes.into_iter().filter(plain).collect();
            }
        };
        let why =
            judgement.volumes.iter().find_map(|lv| lv.writes.filter(|_| is_copied(lv))).unwrap_or_default();
        line.copy = Some(copy::told(why, &judgement.name));
        for volume in line.volumes.iter_mut().filter(|volume| volume.state == State::ToStart) {
            volume.copy = true;
        }
        if self.dry_run {
            let mut judged = Judgement { throwaway: true, for_reading: true, ..judgement.clone() };
            for used in &mut judged.used {
                used.path = copy::path_of(&plan, &used.path).unwrap_or_else(|| used.path.clone());
            }
            self.activate(storage, &judged, &volumes, wishes, line);
            line.steps.splice(0..0, plan.steps.iter().map(Step::text));
            return Vec::new();
        }
        let outcome = copy::lay(self.context, self.typed, &plan).and_then(|storage| {
            let group = storage.volumes.iter().find(|group| group.uuid == judgement.uuid);
            let group = group.context("find its PVs in the overlays of them")?;
            let with = overlay::and_overlays(&storage, wishes.with);
            let judged = lvm::judge(&storage, group, &Wishes { with: &with, ..*wishes });
            if let Some(refusal) = &judged.refusal {
                bail!("{refusal}");
            }
            ensure!(judged.throwaway, "its PVs are not read through their overlays");
            self.activate(&storage, &judged, &volumes, wishes, line);
            Ok(())
        });
        if let Err(error) = outcome {
            line.fail(&volumes, &format!("as a copy in memory: {error:#}"));
        }
        if !line.volumes.iter().any(|volume| volume.state == State::Started) {
            copy::clear(self.context, self.typed);
        }
        Vec::new()
    }

    fn activate(
        &self,
        storage: &Storage,
        judgement: &Judgement,
        volumes: &[&str],
        wishes: &Wishes<'_>,
        line: &mut GroupLine,
    ) {
        let steps = match lvm::activate(storage, judgement, volumes, wishes, self.typed) {
            Ok(steps) => steps,
            Err(refusal) => return line.fail(volumes, &refusal.to_string()),
        };
        line.steps = steps.iter().map(Step::text).collect();
        if self.dry_run {
            if judgement.for_reading {
                line.steps.extend(lvm::hold(storage, judgement, volumes).iter().map(Step::text));
            }
            return;
        }
        let outcome = self.make(&steps);
        // LVM's status says little: what is active is what it made.
        let after = Scan::begin(self.context).examine(|_| false);
        let mut failed = Vec::new();
        for volume in &mut line.volumes {
            let lv = judgement.volumes.iter().find(|lv| lv.name == volume.name);
            let device = lv.and_then(|lv| lvm::active(&after, &judgement.uuid, &lv.uuid));
            match device {
                Some(device) if volume.state == State::ToStart => {
                    volume.state = State::Started;
                    volume.read_only = device.block.read_only;
                }
                None if volume.state == State::ToStart => failed.push(volume.name.clone()),
                Some(_) | None => {}
            }
        }
        // A failure takes the steps before it back, and so the guard: what runs for writing all the same needs it open.
        let runs = |one: &VolumeLine| one.state == State::Started && !one.read_only;
        if outcome.is_err() && line.volumes.iter().any(runs) {
            let open = |step: &&Step| matches!(step, Step::SetWritable { .. });
            let open: Vec<Step> = steps.iter().filter(open).cloned().collect();
            if let Err(error) = self.make(&open) {
                line.notes
                    .push(format!("its PVs are guarded again, and what is written to it fails: {error:#}"));
            }
        }
        let failed: Vec<&str> = failed.iter().map(String::as_str).collect();
        let words = match &outcome {
            Ok(words) if words.is_empty() => "LVM did not activate it, and did not say why".to_string(),
            Ok(words) => words.join("; "),
            Err(error) => format!("{error:#}"),
        };
        line.fail(&failed, &words);
        self.hold_to_reading(wishes, judgement, line);
        self.hold_still(storage, judgement, line);
    }

    /// A copy that is only to be read.
    fn hold_still(&self, storage: &Storage, judgement: &Judgement, line: &mut GroupLine) {
        if !judgement.for_reading {
            return;
        }
        let started: Vec<String> = line
            .volumes
            .iter()
            .filter(|one| one.state == State::Started)
            .map(|one| one.name.clone())
            .collect();
        let started: Vec<&str> = started.iter().map(String::as_str).collect();
        for step in lvm::hold(storage, judgement, &started) {
            let held = Door::open(self.context, self.typed).and_then(|mut door| door.make(&step));
            let of_volume = |volume: &&mut VolumeLine| {
                matches!(&step, Step::DmReadOnly { device } if *device == format!("/dev/mapper/{}",
                    lvm::mapped_name(&judgement.name, &volume.name)))
            };
            match (held, line.volumes.iter_mut().find(of_volume)) {
                (Ok(_), Some(volume)) => volume.read_only = true,
                (Ok(_), None) => {}
                (Err(error), Some(volume)) => {
                    volume.reason = Some(format!("it can be written, in memory: {error:#}"));
                }
                (Err(error), None) => line.notes.push(format!("it may resync, in memory: {error:#}")),
            }
        }
    }

    /// The words of LVM. What was made writable before a call that brought nothing about is taken back.
    fn make(&self, steps: &[Step]) -> anyhow::Result<Vec<String>> {
        let mut door = Door::open(self.context, self.typed)?;
        let made = door.make_all(steps)?;
        let said = made.into_iter().filter_map(|made| match made {
            Made::Said(words) => Some(words),
            Made::Done | Made::Device(_) | Made::Status(_) => None,
        });
        Ok(said.flatten().collect())
    }

    /// A volume that was to be read only and can be written is taken away again.
    fn hold_to_reading(&self, wishes: &Wishes<'_>, judgement: &Judgement, line: &mut GroupLine) {
        if wishes.writable || judgement.throwaway {
            return;
        }
        for volume in
            line.volumes.iter_mut().filter(|volume| volume.state == State::Started && !volume.read_only)
        {
            volume.state = State::Failed;
            let name = lvm::mapped_name(&judgement.name, &volume.name);
            let step = Step::DmRemove { name };
            let taken = Door::open(self.context, self.typed).and_then(|mut door| door.make(&step));
            volume.reason = Some(match taken {
                Ok(_) => "LVM made it writable, so it was taken away again".to_string(),
                Err(error) => format!("LVM made it writable, and it stays so: {error:#}"),
            });
        }
    }

    pub fn is_known(&self, storage: &Storage, text: &str) -> bool {
        storage.volumes.iter().any(|group| {
            self.lines.contains_key(&group.uuid)
                && means(storage, group, &lvm::judge(storage, group, &self.wishes), text)
        })
    }
}

/// Those for which there is memory, as far as the kernel takes much of it to run them: VDO, which fails in the middle otherwise.
fn fitting<'v>(ready: &[&'v Lv], mut free: u64, line: &mut GroupLine) -> Vec<&'v str> {
    let mut fitting = Vec::new();
    // A pool runs once, for all that stand on it.
    let mut counted: BTreeSet<&str> = BTreeSet::new();
    for lv in ready {
        let pools = lv.memory.iter().filter(|(pool, _)| !counted.contains(pool.as_str()));
        let needs = pools.map(|(_, bytes)| *bytes).fold(0, u64::saturating_add);
        match free.checked_sub(needs) {
            Some(rest) => {
                free = rest;
                counted.extend(lv.memory.keys().map(String::as_str));
                fitting.push(lv.name.as_str());
            }
            None => {
                let (needs, free) = (size(needs), size(free));
                let why = format!("it is VDO, which takes {needs} of memory to run, and {free} are free");
                line.fail(&[&lv.name], &why);
            }
        }
    }
    fitting
}

impl GroupLine {
    fn fail(&mut self, volumes: &[&str], reason: &str) {
        for volume in &mut self.volumes {
            if volumes.contains(&volume.name.as_str()) {
                (volume.state, volume.reason) = (State::Failed, Some(reason.to_string()));
            }
        }
    }

    /// Volumes that would have to be a copy, and cannot.
    fn without_copy(&mut self, judgement: &Judgement, refusal: &overlay::Refusal) {
        for volume in self.volumes.iter_mut().filter(|volume| volume.state == State::ToStart) {
            let Some(lv) = judgement.volumes.iter().find(|lv| lv.name == volume.name && is_copied(lv)) else {
                continue;
            };
            let why = lv.writes.unwrap_or_default();
            volume.state = State::Refused;
            volume.reason = Some(copy::refused(why, refusal));
            let own = format!("{}/{}", judgement.name, lv.name);
            volume.advice = copy::advice(refusal, Some(&judgement.name), &own);
        }
    }

    /// How many things were wanted of it, and how many are there.
    pub fn counted(&self) -> (usize, usize) {
        if self.reason.is_some() {
            return (1, 0);
        }
        let well = self.volumes.iter().filter(|volume| volume.state.is_well()).count();
        (self.volumes.len(), well)
    }

    /// `unread`: disks that did not answer.
    pub fn notices(&self, unread: &[&str]) -> Vec<String> {
        let name = if self.name.is_empty() { &self.uuid } else { &self.name };
        let mut texts: Vec<String> = self
            .left_out
            .iter()
            .map(|left| format!("{name}: {} is left out: {}", left.drive, left.why))
            .collect();
        let may = match unread {
            [] => String::new(),
            unread => format!("; it may be on {}, which could not be read", unread.join(" or ")),
        };
        texts.extend(
            self.missing.iter().map(|missing| format!("{name}: missing: {}{may}", Untrusted(missing))),
        );
        texts.extend(self.notes.iter().map(|note| format!("{name}: {note}")));
        let advice = |advice: &Option<String>| {
            advice.as_ref().map(|advice| format!(": {}", Untrusted(advice))).unwrap_or_default()
        };
        if let Some(reason) = &self.reason {
            texts.push(format!("{name} is not activated: {}{}", Untrusted(reason), advice(&self.advice)));
            return texts;
        }
        if let Some(copy) =
            self.copy.as_ref().filter(|_| self.volumes.iter().any(|one| one.copy && one.state.is_well()))
        {
            texts.push(format!("{name} is {copy}"));
        }
        for volume in &self.volumes {
            let Some(reason) = &volume.reason else { continue };
            let told = match volume.state {
                State::Refused => " is not activated:",
                State::Failed | State::Started | State::Running | State::ToStart => ":",
            };
            let text = format!("{name}/{}{told} {reason}", volume.name);
            texts.push(Untrusted(&text).to_string() + &advice(&volume.advice));
        }
        texts
    }
}

fn line(storage: &Storage, judgement: &Judgement, volumes: &[&Lv], wishes: &Wishes<'_>) -> GroupLine {
    let volume = |lv: &&Lv| {
        let device = lv.active.as_ref().and_then(|id| storage.get(id));
        let is_read = !wishes.writable && (!judgement.throwaway || judgement.for_reading);
        let read_only = device.map_or(is_read, |device| device.block.read_only);
        let mut line = VolumeLine {
            name: lv.name.clone(),
            path: format!("/dev/{}/{}", judgement.name, lv.name),
            size: lv.size,
            kind: lv.kind.clone(),
            state: State::ToStart,
            read_only,
            copy: judgement.for_reading,
            reason: None,
            advice: None,
        };
        if device.is_some() {
            line.state = State::Running;
            if wishes.writable && read_only {
                let name = &judgement.name;
                line.reason = Some("it is active for reading only".to_string());
                line.advice = Some(format!("rescue assemble --stop {name} && rescue assemble --rw {name}"));
            }
        } else if let Some(refusal) = &lv.refusal {
            line.state = State::Refused;
            line.reason = Some(refusal.to_string());
            line.advice = judgement.advice_for(lv);
        } else if judgement.refusal.is_some() {
            line.state = State::Refused;
        }
        line
    };
    GroupLine {
        uuid: judgement.uuid.clone(),
        name: judgement.name.clone(),
        present: judgement.wanted.saturating_sub(judgement.missing.len()),
        wanted: judgement.wanted,
        members: judgement.used.iter().map(|used| used.path.clone()).collect(),
        missing: judgement.missing.iter().map(ToString::to_string).collect(),
        left_out: judgement
            .left_out
            .iter()
            .map(|left| Unused {
                path: left.path.clone(),
                why: left.why.to_string(),
                drive: drive(storage, &left.path),
            })
            .collect(),
        volumes: volumes.iter().map(volume).collect(),
        notes: judgement.notes.clone(),
        copy: None,
        reason: judgement.refusal.as_ref().map(ToString::to_string),
        advice: judgement.advice(),
        steps: Vec::new(),
    }
}

/// A volume that is activated as a copy alone.
fn is_copied(lv: &Lv) -> bool {
    lv.writes.is_some() && lv.active.is_none() && lv.refusal.is_none()
}

/// Whether a person means this group: by its name, UUID or volume, or by a device of it.
pub fn means(storage: &Storage, group: &VolumeGroup, judgement: &Judgement, text: &str) -> bool {
    let found = super::assemble::device(storage, text);
    let is_it = found.is_some_and(|found| {
        let of_member = |id: &model::storage::Id| {
            *id == found.id || storage.get(id).is_some_and(|member| member.parent.as_ref() == Some(&found.id))
        };
        lvm::is_of_group(found, &group.uuid) || group.members.iter().any(of_member)
    });
    is_it || (found.is_none() && judgement.is_called(text))
}

/// The volume that a word names: `vg/root`, `/dev/vg/root`.
fn volume_of<'a>(judgement: &Judgement, text: &'a str) -> Option<&'a str> {
    let text = text.strip_prefix("/dev/").unwrap_or(text);
    let (group, volume) = text.split_once('/')?;
    (group == judgement.name && !volume.is_empty()).then_some(volume)
}

pub fn screen(lines: &[GroupLine]) -> String {
    let mut rows = Vec::new();
    for line in lines {
        let group = if line.name.is_empty() { &line.uuid } else { &line.name };
        for volume in &line.volumes {
            let state = volume.state.words(volume.read_only, volume.copy, "not active");
            let name = if line.name.is_empty() { group.clone() } else { volume.path.clone() };
            let pvs = format!("{}/{}", line.present, line.wanted);
            let [name, kind] = [&name, &volume.kind].map(|text| Untrusted(text).to_string());
            rows.push(vec![name, size(volume.size), pvs, state, kind]);
        }
        if line.volumes.is_empty() {
            let pvs = format!("{}/{}", line.present, line.wanted);
            rows.push(vec![
                Untrusted(group).to_string(),
                "-".to_string(),
                pvs,
                "no volumes".to_string(),
                String::new(),
            ]);
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    let left = |title| Column { title, right: false, width: 0 };
    let columns = [
        left("Volume"),
        Column { title: "Size", right: true, width: 5 },
        left("PVs"),
        left("State"),
        left("Kind"),
    ];
    table(&columns, &rows, true)
}

/// The exit status of so many wanted things, of which so many are there.
pub fn status_of(all: usize, well: usize) -> i32 {
    match (all, well) {
        (0, _) => exit::NO,
        (all, well) if all == well => exit::YES,
        (_, 0) => exit::TROUBLE,
        _ => exit::PARTLY,
    }
}

/// Whether `rescue assemble --stop` takes it away: volumes of LVM and opened locks, which stand between arrays and what
/// is mounted.
pub fn is_mapped(device: &Device) -> bool {
    lvm::is_volume(device) || model::luks::is_opened(device)
}

/// The step that takes one away.
pub fn removal(device: &Device) -> Option<Step> {
    let name = device.block.dm.as_ref()?.name.clone();
    is_mapped(device).then_some(Step::DmRemove { name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vdo_for_which_there_is_no_memory_is_said_so_in_one_line_and_the_others_are_activated() {
        let pool = |name: &str| BTreeMap::from([(name.to_string(), 441 << 20)]);
        let lv = |name: &str, memory: BTreeMap<String, u64>| Lv {
            name: name.to_string(),
            uuid: String::new(),
            size: 0,
            kind: "vdo".to_string(),
            active: None,
            partial: false,
            writes: None,
            memory,
            refusal: None,
        };
        let volume = |lv: &Lv| VolumeLine {
            name: lv.name.clone(),
            path: String::new(),
            size: 0,
            kind: lv.kind.clone(),
            state: State::ToStart,
            read_only: true,
            copy: false,
            reason: None,
            advice: None,
        };
        // The first two stand on one pool.
        let lvs = [
            lv("first", pool("a")),
            lv("again", pool("a")),
            lv("second", pool("b")),
            lv("plain", BTreeMap::new()),
        ];
        let mut line = GroupLine {
            uuid: String::new(),
            name: "dedup".to_string(),
            present: 1,
            wanted: 1,
            members: Vec::new(),
            missing: Vec::new(),
            left_out: Vec::new(),
            volumes: lvs.iter().map(volume).collect(),
            notes: Vec::new(),
            copy: None,
            reason: None,
            advice: None,
            steps: Vec::new(),
        };
        let ready: Vec<&Lv> = lvs.iter().collect();
        assert_eq!(fitting(&ready, 512 << 20, &mut line), ["first", "again", "plain"]);
        let second = &line.volumes[2];
        assert_eq!(second.state, State::Failed);
        let want = "it is VDO, which takes 441M of memory to run, and 71M are free";
        assert_eq!(second.reason.as_deref(), Some(want));
    }
}
