//! `rescue assemble`: the arrays that the disks hold, started, and the volume groups upon them. Each by itself: one that
//! is refused never keeps another from being started. What is decided is in `model::md` and `model::lvm`.

mod caches;
pub mod copy;
mod stop;

use self::caches::{CacheLine, Caches};
use super::volumes::{self, GroupLine, Groups};
use super::writable::drive;
use crate::apply::{self, Door};
use crate::report::{Answer, notice, without_errno};
use crate::scan::Scan;
use crate::tool::{Context, verb};
use anyhow::{Context as _, bail};
use host::sysfs::Node;
use model::consent;
use model::lvm;
use model::md::conf::{self, Conf, Entry};
use model::md::{self, Judgement, Name, Names, Part, Refusal, Wishes, Writes};
use model::overlay::{self, Plan, Purpose};
use model::plan::Step;
use model::status::status;
use model::storage::{Array, Device, Id, Storage};
use model::text::{Column, Untrusted, table};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Finds md arrays (RAID0, 1, 4, 5, 6, 10, linear) and volume groups of LVM, and starts them, read-only
/// unless --rw: then not one byte of a disk changes. Also those that stand on arrays, or on what
/// rescue open opened.
///
/// Degraded arrays are started where every block is still there; stale, damaged and missing members
/// are named, and left out. What is not safe is refused with its reason and with the command of
/// mdadm that would do it anyway. Where two halves of a mirror went on without each other, or two
/// disks are copies, neither is started before --with says which is right.
///
/// They get the number or name that an mdadm.conf (--config, else /etc/mdadm/mdadm.conf or
/// /etc/mdadm.conf of this system), else their superblock gives them, where it is free, else one
/// from /dev/md127 downwards, with a link below /dev/md. Of an mdadm.conf nothing but its ARRAY
/// lines with a UUID is used; what is wrong in it is named with its line.
///
/// What the kernel writes to as it starts, even to be read (a journal, a reshape under way; RAID, mirrors,
/// thin pools and caches of LVM; bcache with data in its cache alone), is started as a copy in memory: its members get overlays, as those of rescue
/// overlay, that --stop drops again. What is written goes there, and a reshape stays where it is. Of two groups with one name, and of a
/// group that belongs to another system, each is started when it is named, by its UUID.
///
/// Exits with 0 when every array that was found (or named) runs, degraded or not, also when it
/// ran before; 1 when there is none; 3 when some run, 2 when none does; volumes count as arrays do. A
/// disk that does not answer within 10 seconds is left alone.
///
///     # rescue assemble
///     Array    Level Members State     Name
///     /dev/md0 raid1 2/2     read-only rescue:0
///     /dev/md2 raid1 1/2     read-only rescue:2
///     Next: mount -o ro /dev/md2 /mnt
#[derive(clap::Parser)]
#[command(name = "rescue assemble", disable_version_flag = true, verbatim_doc_comment)]
struct Args {
    /// For writing: the members' write guard is taken off, and the kernel may resync and rebuild
    #[arg(long)]
    rw: bool,
    /// Print what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// As JSON, schema 1
    #[arg(long)]
    json: bool,
    /// Where members contradict each other, this one is right
    #[arg(long, value_name = "DEVICE")]
    with: Vec<String>,
    /// Volumes with holes too: what lay on a missing PV reads as errors
    #[arg(long)]
    partial: bool,
    /// Names by the ARRAY lines of this mdadm.conf, such as /mnt/etc/mdadm/mdadm.conf
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Stop them instead (volumes, then what is open, then arrays), and put the write guard of their members back on
    #[arg(long, conflicts_with_all = ["rw", "with", "json", "partial", "config"])]
    stop: bool,
    /// Only these: by name (vg, vg/root), number, UUID, or one of their members or disks
    #[arg(value_name = "ARRAY|GROUP")]
    arrays: Vec<String>,
}

/// Arrays on arrays on arrays: more passes find nothing that a person built.
const PASSES: usize = 8;

/// What became of one array.
#[derive(Debug, Serialize)]
struct Line {
    uuid: String,
    /// Hostile.
    name: String,
    device: Option<String>,
    link: Option<String>,
    level: String,
    metadata: Option<&'static str>,
    state: State,
    read_only: bool,
    present: u32,
    wanted: u32,
    members: Vec<Used>,
    left_out: Vec<Unused>,
    /// Slots without a member.
    missing: Vec<u32>,
    /// It was not stopped cleanly when it was last used.
    dirty: bool,
    /// It runs from overlays of its members, and not from these.
    copy: bool,
    /// Why it is not started, or not under the name that it asks for.
    reason: Option<String>,
    /// What a person could do about it.
    advice: Option<String>,
    /// Steps of a dry run, as commands.
    steps: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Used {
    path: String,
    slot: Option<u32>,
    part: &'static str,
}

#[derive(Debug, Serialize)]
struct Unused {
    path: String,
    why: String,
    /// With the drive's model and serial number.
    #[serde(skip)]
    drive: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Started,
    /// Before.
    Running,
    /// In a dry run.
    ToStart,
    Refused,
    Failed,
}

impl State {
    /// For a screen; `otherwise`: what is neither running nor to be started.
    pub fn words(self, read_only: bool, copy: bool, otherwise: &str) -> String {
        let mode = if read_only { "read-only" } else { "read-write" };
        let copy = if copy { " copy" } else { "" };
        match self {
            State::Started | State::ToStart => format!("{mode}{copy}"),
            State::Running => format!("{mode}{copy}, as before"),
            State::Refused | State::Failed => otherwise.to_string(),
        }
    }

    pub fn is_well(self) -> bool {
        match self {
            State::Started | State::Running | State::ToStart => true,
            State::Refused | State::Failed => false,
        }
    }
}

#[derive(Serialize)]
struct Report {
    arrays: Vec<Line>,
    groups: Vec<GroupLine>,
    caches: Vec<CacheLine>,
    next: Option<String>,
}

pub fn run(context: &Context, arguments: &[OsString]) -> anyhow::Result<Answer> {
    let args: Args = match verb(context, arguments)? {
        Ok(args) => args,
        Err(answer) => return Ok(answer),
    };
    let _claim = host::installed::claim();
    let typed = apply::typed(context.name, arguments);
    if args.stop {
        return stop::run(context, &args, &typed);
    }
    let conf = configured(context, args.config.as_deref())?;
    let mut work = Work {
        context,
        args: &args,
        typed: &typed,
        conf: &conf,
        lines: BTreeMap::new(),
        tried: BTreeSet::new(),
    };
    let mut storage = Scan::begin(context).examine(|_| true);
    let mut names = Names::of(&storage).and_links(links(context)).and_reserved(&storage, &conf);
    let with = args.with.iter().map(|text| chosen(&storage, text)).collect::<anyhow::Result<Vec<Id>>>()?;
    let wishes = lvm::Wishes { writable: args.rw, named: false, partial: args.partial, with: &with };
    let mut groups = Groups::new(context, &typed, args.dry_run, wishes, &args.arrays);
    let mut caches = Caches {
        context,
        typed: &typed,
        dry_run: args.dry_run,
        writable: args.rw,
        asked: &args.arrays,
        lines: BTreeMap::new(),
    };
    // Each copy is started in a pass of its own.
    for _ in 0..PASSES + storage.arrays.len() + storage.volumes.len() {
        // Arrays first: a group may stand on them, and its PVs are seen on their members until they run.
        let with = overlay::and_overlays(&storage, &with);
        let mut started = work.pass(&storage, &mut names, &with);
        if started == 0 {
            started = caches.pass(&storage);
        }
        if started == 0 {
            started = groups.pass(&storage);
        }
        if started == 0 {
            break;
        }
        storage = Scan::begin(context).examine(|_| true);
    }
    work.finish(&storage, groups, caches)
}

/// The names that an mdadm.conf gives: of the file that a person names, which has to be there, else of this system.
/// What is wrong in it is told.
pub fn configured(context: &Context, file: Option<&Path>) -> anyhow::Result<Conf> {
    let asked = file.map(std::path::absolute).transpose()?;
    let candidates: Vec<&Path> = match &asked {
        Some(file) => vec![file],
        None => conf::PATHS.iter().map(Path::new).collect(),
    };
    for path in candidates {
        let text = match context.root.read_text(path) {
            Ok(text) => text,
            Err(error) if asked.is_none() => {
                if error.kind() != std::io::ErrorKind::NotFound {
                    let text = format!("read {}: {}", path.display(), without_errno(&error.to_string()));
                    notice(context.name, &text);
                }
                continue;
            }
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        };
        let conf = conf::parse(&text);
        for finding in &conf.findings {
            notice(context.name, &format!("{}:{finding}", Untrusted(&path.to_string_lossy())));
        }
        return Ok(conf);
    }
    Ok(Conf::default())
}

/// Links below /dev/md that lead somewhere.
pub fn links(context: &Context) -> Vec<String> {
    let names = context.root.list("/dev/md").unwrap_or_default();
    let leads = |name: &OsString| context.root.exists(Path::new("/dev/md").join(name));
    names.into_iter().filter(leads).filter_map(|name| name.into_string().ok()).collect()
}

/// The device that a path means.
pub fn device<'a>(storage: &'a Storage, text: &str) -> Option<&'a Device> {
    let known = storage.by_path(text);
    known.or_else(|| match host::sysfs::node(Path::new(text)).ok()? {
        Node::Block { major, minor } => storage
            .devices
            .iter()
            .find(|device| device.node && (device.block.major, device.block.minor) == (major, minor)),
        Node::File { .. } | Node::Other => None,
    })
}

fn chosen(storage: &Storage, text: &str) -> anyhow::Result<Id> {
    let found = device(storage, text).with_context(|| format!("--with {text}: there is no such device"))?;
    let is_member = md::superblock(found).is_some() || !md::firmware_volumes(found).is_empty();
    if !is_member && lvm::physical_volume(found).is_none() {
        bail!("--with {text}: it is no member of an array, and no PV");
    }
    Ok(found.id.clone())
}

struct Work<'a> {
    context: &'a Context,
    args: &'a Args,
    typed: &'a str,
    conf: &'a Conf,
    /// By UUID.
    lines: BTreeMap<String, Line>,
    /// Arrays of which a start was tried, with success or not.
    tried: BTreeSet<String>,
}

impl Work<'_> {
    /// One look at everything; returns how many arrays were started.
    fn pass(&mut self, storage: &Storage, names: &mut Names, with: &[Id]) -> usize {
        let mut started = 0;
        for array in &storage.arrays {
            if self.tried.contains(&array.uuid) || is_empty(storage, array) {
                continue;
            }
            let wishes = Wishes { writable: self.args.rw, with };
            let judgement = md::judge(storage, array, &wishes);
            if !self.args.arrays.is_empty() && !self.is_asked_for(storage, array, &judgement) {
                continue;
            }
            let line = match array.device.as_ref().and_then(|id| storage.get(id)) {
                Some(device) => self.running(storage, device, &judgement),
                None => self.start(storage, judgement, names, &wishes),
            };
            let is_started = line.state == State::Started;
            let is_new_copy = is_started && line.copy;
            started += usize::from(is_started);
            if matches!(line.state, State::Started | State::Failed | State::ToStart) {
                self.tried.insert(array.uuid.clone());
            }
            self.lines.insert(array.uuid.clone(), line);
            if is_new_copy {
                // There are overlays now, and their store: the rest is judged by a new look.
                break;
            }
        }
        started
    }

    fn is_asked_for(&self, storage: &Storage, array: &Array, judgement: &Judgement) -> bool {
        self.args.arrays.iter().any(|text| self.means(storage, array, judgement, text))
    }

    fn means(&self, storage: &Storage, array: &Array, judgement: &Judgement, text: &str) -> bool {
        let found = device(storage, text);
        let is_it = found.is_some_and(|found| {
            let of_member = |id: &Id| {
                *id == found.id
                    || storage.get(id).is_some_and(|member| member.parent.as_ref() == Some(&found.id))
            };
            array.device.as_ref() == Some(&found.id) || array.members.iter().any(of_member)
        });
        // A node that is there is that device, whatever an array would like to be called.
        let is_called = || judgement.is_called(text) || self.conf.is_called(&array.uuid, text);
        is_it || (found.is_none() && is_called())
    }

    /// The name that the file gives which a person points to, where the running array has another.
    fn other_name(&self, device: &Device, uuid: &str) -> Option<String> {
        let name = self.args.config.as_ref().and_then(|_| self.conf.name(uuid))?;
        let [link, node] = md::places(name);
        let leads =
            self.context.root.link(&link).is_ok_and(|to| to.file_name() == Some(device.block.name.as_ref()));
        (!leads && device.path != node).then_some(link)
    }

    /// One that the kernel has already: made writable where that is asked for, else only told of.
    fn running(&self, storage: &Storage, device: &Device, judgement: &Judgement) -> Line {
        let md = device.block.md.clone().unwrap_or_default();
        let read_only = matches!(md.array_state.as_str(), "readonly" | "read-auto");
        let mut line = Line {
            device: Some(device.path.clone()),
            level: md.level.clone(),
            present: md.raid_disks.saturating_sub(md.degraded),
            wanted: md.raid_disks,
            members: Vec::new(),
            left_out: Vec::new(),
            missing: Vec::new(),
            read_only,
            copy: overlay::is_for_reading(storage, device),
            ..self.line(storage, judgement, State::Running)
        };
        if !md::is_running(&md) {
            line.state = State::Refused;
            line.reason = Some(format!("{} holds its members, and does not run", device.path));
            line.advice = Some(format!("rescue assemble --stop {} && rescue assemble", device.path));
            return line;
        }
        if let Some(name) = self.other_name(device, &judgement.uuid) {
            line.reason = Some(format!("runs already, so it is not {name} as mdadm.conf has it"));
            line.advice = Some(format!("rescue assemble --stop {} first", device.path));
        }
        // What the kernel took in is in use by the array itself; the rest was left out.
        let own = |path: &str| {
            md.members.iter().any(|(name, _)| path == format!("/dev/{}", name.replace('!', "/")))
        };
        line.left_out =
            self.left_out(storage, judgement).into_iter().filter(|left| !own(&left.path)).collect();
        line.members = md
            .members
            .iter()
            .map(|(name, _)| Used {
                path: format!("/dev/{}", name.replace('!', "/")),
                slot: None,
                part: "member",
            })
            .collect();
        let newer = md::newer(storage, device).map(Refusal::Newer);
        if self.args.rw && read_only && (newer.is_some() || md::is_firmware(storage, device)) {
            // Nothing of it is opened for what cannot come about.
            let refusal = newer.as_ref().or(judgement.refusal.as_ref());
            let advice = refusal.and_then(|refusal| refusal.advice(judgement, &device.path));
            let parts = [refusal.map(ToString::to_string), advice];
            line.state = State::Failed;
            line.reason = Some(parts.into_iter().flatten().collect::<Vec<_>>().join(": "));
        } else if self.args.rw && read_only {
            let outcome = consent::writable(storage, &device.id, self.typed).map_err(Into::into).and_then(
                |mut steps| {
                    steps.push(Step::MdSetReadOnly { device: device.path.clone(), read_only: false });
                    self.make(&steps)
                },
            );
            match outcome {
                Ok(texts) => (line.read_only, line.steps) = (self.args.dry_run, texts),
                Err(error) => (line.state, line.reason) = (State::Failed, Some(format!("{error:#}"))),
            }
        }
        line
    }

    fn start(
        &self,
        storage: &Storage,
        mut judgement: Judgement,
        names: &mut Names,
        wishes: &Wishes<'_>,
    ) -> Line {
        let wanted = self.conf.name(&judgement.uuid);
        // Who names it means it.
        if self.conf.entry(&judgement.uuid) == Some(&Entry::Ignored) && self.args.arrays.is_empty() {
            judgement.refusal = judgement.refusal.or(Some(Refusal::Ignored));
        }
        let mut line = self.line(storage, &judgement, State::ToStart);
        if let Some(refusal) = &judgement.refusal {
            line.state = State::Refused;
            line.reason = Some(refusal.to_string());
            // A name of its own is not spent on it.
            let name = names.clone().choose(&judgement, wanted);
            line.advice = refusal.advice(&judgement, &name.device);
            return line;
        }
        let members: Vec<&Device> =
            judgement.members.iter().filter_map(|member| storage.get(&member.id)).collect();
        let is_throw_away = members.iter().all(|member| overlay::is_throw_away(storage, member));
        let is_for_reading = members.iter().any(|member| overlay::is_for_reading(storage, member));
        let copied = judgement.writes.filter(|_| !is_throw_away).map(|writes| {
            let ids: Vec<Id> = members.iter().map(|member| member.id.clone()).collect();
            (writes, copy::plan(self.context, storage, &ids))
        });
        if let Some((writes, Err(refusal))) = &copied {
            line.state = State::Refused;
            line.reason = Some(copy::refused(&writes.to_string(), refusal));
            line.advice = copy::advice(refusal, None, &judgement.uuid);
            return line;
        }
        let name = names.choose(&judgement, wanted);
        line.device = Some(name.device.clone());
        line.link = name.link.clone();
        let newer = judgement.newer.map(|newer| Refusal::Newer(newer).to_string());
        let notes: Vec<String> = newer.into_iter().chain(name.note.clone()).collect();
        line.reason = (!notes.is_empty()).then(|| notes.join("; "));
        line.copy = is_for_reading;
        if let Some((writes, Ok(plan))) = &copied {
            self.start_copy(storage, &judgement, &name, (*writes, plan), &mut line);
            return line;
        }
        let steps = if is_throw_away && !(wishes.writable && is_for_reading) {
            // Nothing may go on that writes every block: a reshape, a resync.
            let purpose = if wishes.writable { Purpose::Overlay } else { Purpose::Assemble };
            overlay::start(storage, &judgement, &name, purpose, self.typed)
        } else {
            md::assemble(storage, &judgement, &name, wishes, self.typed)
        };
        let outcome = steps.map_err(Into::into).and_then(|steps| self.make(&steps));
        match outcome {
            Ok(texts) if self.args.dry_run => line.steps = texts,
            Ok(_) => line.state = State::Started,
            Err(error) => (line.state, line.reason) = (State::Failed, Some(format!("{error:#}"))),
        }
        line
    }

    /// From overlays of every member, that are made for it.
    fn start_copy(
        &self,
        storage: &Storage,
        judgement: &Judgement,
        name: &Name,
        (writes, plan): (Writes, &Plan),
        line: &mut Line,
    ) {
        line.copy = true;
        let told = copy::told(&writes.to_string(), &name.device);
        line.reason = Some(line.reason.take().map_or_else(|| told.clone(), |note| format!("{told}; {note}")));
        let outcome = if self.args.dry_run {
            overlay::start(storage, judgement, name, Purpose::Assemble, self.typed).map_err(Into::into).map(
                |steps| {
                    let steps = steps.into_iter().map(|step| copy::with_overlays(plan, step));
                    line.steps = plan.steps.iter().cloned().chain(steps).map(|step| step.text()).collect();
                },
            )
        } else {
            self.start_from(plan, judgement, name)
        };
        match outcome {
            Ok(()) if self.args.dry_run => {}
            Ok(()) => line.state = State::Started,
            Err(error) => {
                (line.state, line.reason) = (State::Failed, Some(format!("as a copy in memory: {error:#}")));
                copy::clear(self.context, self.typed);
            }
        }
    }

    fn start_from(&self, plan: &Plan, judgement: &Judgement, name: &Name) -> anyhow::Result<()> {
        let storage = copy::lay(self.context, self.typed, plan)?;
        let array = storage.arrays.iter().find(|array| array.uuid == judgement.uuid);
        let array = array.context("find its members in the overlays of them")?;
        let found = md::judge(&storage, array, &Wishes::default());
        if let Some(refusal) = &found.refusal {
            bail!("{refusal}");
        }
        let steps = overlay::start(&storage, &found, name, Purpose::Assemble, self.typed)?;
        Door::open(self.context, self.typed)?.make_all(&steps).map(drop)
    }

    /// The steps as texts, and made unless this is a dry run.
    fn make(&self, steps: &[Step]) -> anyhow::Result<Vec<String>> {
        if !self.args.dry_run {
            Door::open(self.context, self.typed)?.make_all(steps)?;
        }
        Ok(steps.iter().map(Step::text).collect())
    }

    fn line(&self, storage: &Storage, judgement: &Judgement, state: State) -> Line {
        let used = judgement.members.iter().map(|member| Used {
            path: member.path.clone(),
            slot: member.part.slot(),
            part: match member.part {
                Part::InSync(_) => "in-sync",
                Part::Rebuilding(_) => "rebuilding",
                Part::Replacement(_) => "replacement",
                Part::Spare => "spare",
                Part::Journal => "journal",
            },
        });
        Line {
            uuid: judgement.uuid.clone(),
            name: judgement.name.clone(),
            device: None,
            link: None,
            level: md::level_name(judgement.level),
            metadata: (!judgement.members.is_empty()).then(|| md::metadata_name(judgement.metadata)),
            state,
            read_only: !self.args.rw,
            present: judgement.present,
            wanted: judgement.wanted,
            members: used.collect(),
            left_out: self.left_out(storage, judgement),
            missing: judgement.missing.clone(),
            dirty: judgement.dirty,
            copy: false,
            reason: None,
            advice: None,
            steps: Vec::new(),
        }
    }

    fn left_out(&self, storage: &Storage, judgement: &Judgement) -> Vec<Unused> {
        let unused = judgement.left_out.iter().map(|left| Unused {
            path: left.path.clone(),
            why: left.why.to_string(),
            drive: drive(storage, &left.path),
        });
        unused.collect()
    }

    /// What was not found, the notices, and the answer.
    fn finish(self, storage: &Storage, groups: Groups<'_>, caches: Caches<'_>) -> anyhow::Result<Answer> {
        let name = self.context.name;
        let (mut unknown, mut spare) = (0, 0);
        for text in &self.args.arrays {
            let meant = |line: &Line| {
                let array = storage.arrays.iter().find(|array| array.uuid == line.uuid);
                array.is_some_and(|array| {
                    self.means(storage, array, &md::judge(storage, array, &Wishes::default()), text)
                })
            };
            let known = groups.is_known(storage, text) || caches.is_known(storage, text);
            if !self.lines.values().any(meant) && !known {
                notice(name, &format!("{}: no array and no volume group that was found", Untrusted(text)));
                unknown += 1;
            }
        }
        if self.args.arrays.is_empty() {
            for (kind, members) in md::spares(storage) {
                let is = if members.len() == 1 { "is a spare" } else { "are spares" };
                notice(name, &format!("{} {is} of {kind}", members.join(" ")));
                spare += members.len();
            }
            for (kind, members) in md::external(storage) {
                let members = members.join(" ");
                notice(
                    name,
                    &format!("{kind} on {members} says nothing of a volume: mdadm --examine {members}"),
                );
                unknown += 1;
            }
        }
        let lines: Vec<Line> = self.lines.into_values().collect();
        let unread = md::unread(storage);
        for line in &lines {
            for text in notices(line, self.args.rw, &unread) {
                notice(name, &text);
            }
        }
        let groups: Vec<GroupLine> = groups.lines.into_values().collect();
        for group in &groups {
            for text in group.notices(&unread) {
                notice(name, &text);
            }
        }
        caches.tell();
        let caches: Vec<CacheLine> = caches.lines.into_values().collect();
        if lines.is_empty() && groups.is_empty() && caches.is_empty() && unknown == 0 && spare == 0 {
            let hint =
                if unread.is_empty() { String::new() } else { format!("; not read: {}", unread.join(" ")) };
            notice(name, &format!("no disk holds a member of an array, nor of a volume group{hint}"));
        }
        let counted = groups.iter().map(GroupLine::counted);
        let (of_groups, well_of_groups) =
            counted.fold((0, 0), |sum, counted| (sum.0 + counted.0, sum.1 + counted.1));
        let well_caches = caches.iter().filter(|line| line.state.is_well()).count();
        let well_lines = lines.iter().filter(|line| line.state.is_well()).count();
        let well = well_lines + well_caches + well_of_groups;
        let empty_groups = groups.iter().filter(|group| group.counted().0 == 0).count();
        let all = lines.len() + caches.len() + unknown + of_groups + empty_groups;
        let exit = volumes::status_of(all, well + empty_groups);
        let next = status(storage).next.command;
        let next = (next != "rescue assemble" && well > 0 && !self.args.dry_run).then_some(next);
        if self.args.json {
            return Answer::json(1, &Report { arrays: lines, groups, caches, next }, exit);
        }
        if self.args.dry_run {
            let steps = lines.iter().flat_map(|line| &line.steps);
            let steps = steps.chain(caches.iter().flat_map(|line| &line.steps));
            let steps = steps.chain(groups.iter().flat_map(|group| &group.steps));
            // The store of overlays, and a module, are there once.
            let mut told = BTreeSet::new();
            let text = steps.filter(|text| told.insert(*text)).map(|text| format!("{text}\n"));
            return Ok(Answer::text(text.collect::<String>(), exit));
        }
        let screens = [screen(&lines), caches::screen(caches.iter()), volumes::screen(&groups)];
        let screens: Vec<String> = screens.into_iter().filter(|screen| !screen.is_empty()).collect();
        let next = next.map(|next| format!("Next: {}\n", Untrusted(&next))).unwrap_or_default();
        Ok(Answer::text(screens.join("\n") + &next, exit))
    }
}

/// A device without members, left behind by one who made it and did nothing with it.
fn is_empty(storage: &Storage, array: &Array) -> bool {
    let device = array.device.as_ref().and_then(|id| storage.get(id));
    array.members.is_empty()
        && device.and_then(|device| device.block.md.as_ref()).is_some_and(|md| !md::is_running(md))
}

fn notices(line: &Line, rw: bool, unread: &[&str]) -> Vec<String> {
    let shown = Untrusted(&line.name).to_string();
    let array = match &line.device {
        Some(device) => device.clone(),
        None if shown.is_empty() => line.uuid.clone(),
        None => shown,
    };
    let mut texts: Vec<String> = line
        .left_out
        .iter()
        .map(|left| format!("{array}: {} is left out: {}", left.drive, left.why))
        .collect();
    let reason = line.reason.as_deref().unwrap_or_default();
    let advice = line.advice.as_ref().map(|advice| format!(": {advice}")).unwrap_or_default();
    match line.state {
        State::Refused => texts.push(format!("{array} is not started: {reason}{advice}")),
        State::Running if !reason.is_empty() => texts.push(format!("{array} {reason}{advice}")),
        State::Failed => texts.push(format!("{array}: {reason}")),
        State::Started | State::ToStart if line.copy && !reason.is_empty() => {
            texts.push(format!("{array} is {reason}"));
        }
        State::Started | State::ToStart if !reason.is_empty() => texts.push(format!("{array}: {reason}")),
        State::Started | State::ToStart | State::Running => {}
    }
    if !line.missing.is_empty() {
        let slots: Vec<String> = line.missing.iter().map(u32::to_string).collect();
        let may = if unread.is_empty() {
            String::new()
        } else {
            format!("; it may be on {}, which could not be read", unread.join(" or "))
        };
        texts.push(format!(
            "{array}: no current member for slot {} of {}{may}",
            slots.join(", "),
            line.wanted
        ));
    }
    if rw && line.dirty && line.state == State::Started {
        texts.push(format!(
            "{array} was not stopped cleanly: the kernel resyncs it now; cat /proc/mdstat shows how far"
        ));
    }
    texts
}

fn screen(lines: &[Line]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let columns =
        ["Array", "Level", "Members", "State", "Name"].map(|title| Column { title, right: false, width: 0 });
    let rows: Vec<Vec<String>> = lines
        .iter()
        .map(|line| {
            let state = line.state.words(line.read_only, line.copy, "not started");
            vec![
                line.device.as_ref().map_or("-".to_string(), |device| Untrusted(device).to_string()),
                Untrusted(&line.level).to_string(),
                format!("{}/{}", line.present, line.wanted),
                state,
                Untrusted(&line.name).to_string(),
            ]
        })
        .collect();
    table(&columns, &rows, true)
}

#[cfg(test)]
mod tests;
