//! Storage of the machine at hand: the kernel's facts, and what an examiner reads from the devices that a tool
//! wants looked at. Real disks and partitions first; what is built on them afterwards, and not
//! at all above a disk that hangs.

use crate::capture::{self, Capture, Manifest, Shot, State};
use crate::cmd;
use crate::report::without_errno;
use crate::tool::Context;
use anyhow::Context as _;
use contract::facts::{Block, Facts, Space};
use contract::guard;
use contract::guard::Consent;
use contract::wire::{DevdRequest, WorkerRequest};
use host::Root;
use host::apart::Beat;
use host::sys::block::Limits;
use host::sysfs::{Node, Parts};
use host::workers::{Job, Outcome, Pool};
use model::build::{Kernels, build_of};
use model::storage::{Observed, Storage};
use ondisk::volume::lvm::group::BUDGET;
use ondisk::volume::lvm::kept::{self, Kept};
use ondisk::window::Failing;
use ondisk::{DiskReport, Extent, Geometry, ReadAt, ReadError, Section, Usage};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

/// How long one device may take, unless a tool says otherwise; --help of the reading tools says so.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// For devd's answer to arrive, after the time that it was given.
const ANSWER: Duration = Duration::from_secs(1);
/// The sizes of a drive that does not say.
const SECTOR: u32 = 512;
/// Devices in turn, for each processor.
const TURN: usize = 64;
/// What the descriptions of volume groups may cost that are held of all devices, in bytes of JSON: eight of the largest. It is
/// some 60 MiB of memory, and a machine with 512 has that left.
const GROUPS: usize = 16 << 20;
/// Major number of floppy drives: without a medium, reading one takes many seconds.
const FLOPPY: u32 = 2;

/// A look at a machine: facts at first, then whatever of it is examined.
pub struct Scan {
    root: Root,
    beat: Option<Beat>,
    pub facts: Facts,
    consents: Vec<Consent>,
    deadline: Duration,
    tables_alone: bool,
    /// Sizes that were not among the parts are asked of the devices that are examined.
    asks_limits: bool,
    /// By kernel name: what a person wants looked at in the middle of a device.
    windows: Vec<(String, Extent)>,
    /// Kernel names by path and by `major:minor`, once somebody named a device.
    known: HashMap<String, String>,
}

/// One device to examine.
#[derive(Clone, Debug)]
pub struct Ask {
    pub name: String,
    pub path: String,
    /// Of the whole disk.
    pub diskseq: Option<u64>,
    pub geometry: Geometry,
    /// Bytes.
    pub size: u64,
    /// Windows to examine too: partitions without a node, and what was asked for.
    pub sections: Vec<Extent>,
}

/// Waits until devd has handled what was there at power-on: its modules, and the guard on every disk. A
/// verb typed right after the login would else see half of the machine. A devd that is away holds nothing up.
pub fn settle(context: &Context, patience: Duration) {
    if !context.root.is_live() || host::statefile::read::<contract::state::Devd>("devd").settled {
        return;
    }
    let timeout_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
    // What the answer says stands in devd's state file as well.
    let _ = host::ask::ask("devd", &DevdRequest::Settle { timeout_ms }, patience + ANSWER);
}

impl Scan {
    /// The kernel's facts; no device is touched.
    pub fn begin(context: &Context) -> Scan {
        Scan::begin_with(context, Parts::ALL)
    }

    /// For a listing that shows these facts of each device and no other.
    pub fn begin_with(context: &Context, parts: Parts) -> Scan {
        let root = context.root.clone();
        Scan {
            facts: host::sysfs::facts_with(&root, parts),
            consents: host::consents::read(&root),
            root,
            beat: context.beat,
            deadline: DEADLINE,
            tables_alone: false,
            asks_limits: Scan::asks(context) && !(parts.logical && parts.sizes),
            windows: Vec::new(),
            known: HashMap::new(),
        }
    }

    /// Whether devices are opened by this process, which may ask them for their sizes then: whoever shows those of
    /// examined devices alone need not begin with them.
    pub fn asks(context: &Context) -> bool {
        context.beat.is_some()
    }

    /// With another deadline for each device.
    pub fn within(self, deadline: Duration) -> Scan {
        Scan { deadline, ..self }
    }

    /// For whoever asks for partition tables and nothing else.
    pub fn tables_alone(self) -> Scan {
        Scan { tables_alone: true, ..self }
    }

    /// With a window of one device examined too: it is among the report's sections.
    pub fn with_window(mut self, name: &str, window: Extent) -> Scan {
        self.windows.push((name.to_string(), window));
        self
    }

    /// The kernel name of the device that a person's path means: a node, a link to one, or an image file,
    /// which is taken into the facts.
    pub fn resolve(&mut self, path: &Path) -> anyhow::Result<String> {
        let shown = path.display().to_string();
        if self.known.is_empty() {
            for block in &self.facts.blocks {
                self.known.insert(block.path(), block.name.clone());
                self.known.insert(format!("{}:{}", block.major, block.minor), block.name.clone());
            }
        }
        if let Some(name) = self.known.get(&shown) {
            return Ok(name.clone());
        }
        let node = host::sysfs::node(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound if path.is_absolute() => {
                anyhow::anyhow!("{shown} does not exist: {}", whence(path))
            }
            _ => anyhow::Error::new(error).context(format!("cannot open {shown}")),
        });
        match node? {
            Node::Block { major, minor } => {
                let known = self.known.get(&format!("{major}:{minor}"));
                let name = known
                    .with_context(|| format!("{shown} is {major}:{minor}, which sysfs does not list"))?;
                Ok(name.clone())
            }
            Node::File { size } => {
                self.facts.blocks.push(Block { name: shown.clone(), size, ..Block::default() });
                self.known.insert(shown.clone(), shown.clone());
                Ok(shown)
            }
            Node::Other => anyhow::bail!("{shown} is neither a block device nor an image file"),
        }
    }

    /// Examines the devices that are wanted, and judges.
    pub fn examine(self, wanted: impl Fn(&Block) -> bool) -> Storage {
        self.with(None, wanted)
    }

    /// Examines the devices that are wanted, and the disks whose partitions they are: a disk that is a member of an
    /// array shows the array's partitions as its own.
    pub fn examine_with_disks(self, wanted: impl Fn(&Block) -> bool) -> Storage {
        let partitions = self.facts.blocks.iter().filter(|block| wanted(block));
        let disks: BTreeSet<String> =
            partitions.filter_map(|block| Some(block.partition.as_ref()?.disk.clone())).collect();
        self.examine(|block| wanted(block) || disks.contains(&block.name))
    }

    /// Examines all devices, and keeps what was read for it.
    pub fn capture(self, capture: &mut Capture) -> Storage {
        self.with(Some(capture), |_| true)
    }

    /// Examines the devices that are wanted, and judges, some disks with their partitions after the other, in order: of
    /// a great many devices no more is held at once than of a few. What is of several disks is judged together, at last.
    pub fn examine_in_turn(self, wanted: impl Fn(&Block) -> bool, take: impl FnMut(&Storage)) {
        let turn = TURN * std::thread::available_parallelism().map_or(1, usize::from);
        self.in_turns_of(turn, wanted, take);
    }

    fn in_turns_of(mut self, turn: usize, wanted: impl Fn(&Block) -> bool, mut take: impl FnMut(&Storage)) {
        let is_stacked = |block: &Block| block.md.is_some() || block.dm.is_some() || !block.slaves.is_empty();
        let has_many = self.facts.blocks.len() > turn;
        if !has_many || !self.facts.hung.is_empty() || self.facts.blocks.iter().any(is_stacked) {
            return take(&self.examine(wanted));
        }
        let mut examiner = Examiner::new(&self.root, self.deadline, self.beat, self.tables_alone, None);
        let mut held: Option<(Facts, BTreeMap<String, Observed>)> = None;
        let mut left = std::mem::take(&mut self.facts.blocks);
        left.reverse();
        while !left.is_empty() {
            let mut facts = Facts { problems: std::mem::take(&mut self.facts.problems), ..Facts::default() };
            while let Some(block) =
                left.pop_if(|block| facts.blocks.len() < turn || block.partition.is_some())
            {
                facts.blocks.push(block);
            }
            left.shrink_to_fit();
            if let Some((all, seen)) = &mut held {
                self.observe(&mut facts, &mut examiner, &wanted, seen);
                all.blocks.append(&mut facts.blocks);
                continue;
            }
            let mut observed = BTreeMap::new();
            self.observe(&mut facts, &mut examiner, &wanted, &mut observed);
            match observed.values().any(is_of_several) {
                true => held = Some((facts, observed)),
                false => take(&build_of(facts, observed, &self.consents)),
            }
        }
        if let Some((facts, observed)) = held {
            take(&build_of(facts, observed, &self.consents));
        }
    }

    fn with(mut self, capture: Option<&mut Capture>, wanted: impl Fn(&Block) -> bool) -> Storage {
        let mut facts = std::mem::take(&mut self.facts);
        let mut examiner = Examiner::new(&self.root, self.deadline, self.beat, self.tables_alone, capture);
        let mut observed = BTreeMap::new();
        self.observe(&mut facts, &mut examiner, wanted, &mut observed);
        build_of(facts, observed, &self.consents)
    }

    fn observe(
        &self,
        facts: &mut Facts,
        examiner: &mut Examiner<'_>,
        wanted: impl Fn(&Block) -> bool,
        observed: &mut BTreeMap<String, Observed>,
    ) {
        if self.asks_limits && !is_quick_alone(facts.blocks.len()) {
            for block in facts.blocks.iter_mut().filter(|block| wanted(block)) {
                set_limits(block, &host::sysfs::limits(&self.root, &block.name));
            }
        }
        let kernels = Kernels::of(&facts.blocks);
        for of_virtual in [false, true] {
            let hung = hung(facts, observed);
            let mut asks = Vec::new();
            for block in facts.blocks.iter().filter(|block| block.is_virtual() == of_virtual && wanted(block))
            {
                match skipped(block, facts, &hung) {
                    Some(reason) => drop(observed.insert(block.name.clone(), Observed::Skipped { reason })),
                    None => asks.push((block, ask(block, &self.windows))),
                }
            }
            examiner.examine(asks.iter().map(|(_, ask)| ask), observed);
            let again: Vec<Ask> = asks
                .iter()
                .filter(|_| !self.tables_alone)
                .filter_map(|(block, ask)| with_sections(block, ask, &kernels, observed))
                .collect();
            examiner.examine(&again, observed);
        }
        if self.asks_limits {
            for block in facts.blocks.iter_mut() {
                if let Some(limits) = examiner.limits.remove(&block.name) {
                    set_limits(block, &limits);
                }
            }
        }
    }
}

/// Whether what is on a device is a part of something that other devices belong to.
fn is_of_several(seen: &Observed) -> bool {
    match seen {
        Observed::Examined { report } => report
            .signatures
            .iter()
            .any(|signature| signature.usage == Usage::Raid || signature.volume.is_some()),
        // As long as it hangs nothing that stands on it is touched.
        Observed::Hung { .. } => true,
        Observed::Failed { .. } | Observed::Skipped { .. } => false,
    }
}

/// What brings about a device that is not there.
pub fn whence(path: &Path) -> &'static str {
    let below = |directory: &str| path.starts_with(directory);
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    // /dev/vg/root
    let deep =
        path.components().count() > 3 && !["/dev/disk", "/dev/bus", "/dev/char"].into_iter().any(below);
    match () {
        () if !below("/dev") => "ls shows what there is",
        () if below("/dev/md") || name.starts_with("md") => {
            "rescue assemble starts the arrays that are found"
        }
        () if below("/dev/mapper") || deep => {
            "rescue assemble activates volumes, and rescue open opens what is locked"
        }
        () => "lsblk shows what there is",
    }
}

/// Room of what is mounted from the devices, by mount point; nothing that hangs is asked.
pub fn space(root: &Root, storage: &Storage) -> BTreeMap<String, Space> {
    let devices = storage.devices.iter().filter(|device| device.node && !storage.hangs(device));
    let mounts = devices.flat_map(|device| storage.mounts_of(device));
    let targets: BTreeSet<&str> = mounts.map(|mount| mount.target.as_str()).collect();
    host::proc::space(root, targets)
}

fn set_limits(block: &mut Block, limits: &Limits) {
    block.logical_block = limits.logical_block;
    block.physical_block = limits.physical_block;
    block.minimum_io = limits.minimum_io;
    block.optimal_io = limits.optimal_io;
    block.alignment_offset = limits.alignment_offset.into();
}

fn ask(block: &Block, windows: &[(String, Extent)]) -> Ask {
    let or = |size: u32, other: u32| if size == 0 { other } else { size };
    let logical = or(block.logical_block, SECTOR);
    let geometry = Geometry { logical, physical: or(block.physical_block, logical) };
    Ask {
        name: block.name.clone(),
        path: block.path(),
        diskseq: block.diskseq,
        geometry,
        size: block.size,
        sections: windows.iter().filter(|(name, _)| *name == block.name).map(|(_, window)| *window).collect(),
    }
}

/// The same once more, with the partitions that the first answer named and the kernel does not have.
fn with_sections(
    block: &Block,
    ask: &Ask,
    kernels: &Kernels,
    observed: &BTreeMap<String, Observed>,
) -> Option<Ask> {
    let Some(Observed::Examined { report }) = observed.get(&ask.name) else { return None };
    let table = report.table.as_ref().filter(|_| block.partition.is_none())?;
    let entries = kernels.refused(block, table);
    let refused: Vec<Extent> = entries.filter(|entry| !entry.extended).map(|entry| entry.extent).collect();
    let sections = [&ask.sections[..], &refused].concat();
    (!refused.is_empty()).then(|| Ask { sections, ..ask.clone() })
}

/// Names of devices that are not to be touched, or stand on one that is not.
fn hung(facts: &Facts, observed: &BTreeMap<String, Observed>) -> BTreeSet<String> {
    let own = |block: &Block| {
        matches!(observed.get(&block.name), Some(Observed::Hung { .. }))
            || facts.hung.iter().any(|(seq, _)| Some(*seq) == block.diskseq)
    };
    facts.above(facts.blocks.iter().filter(|block| own(block)).map(|block| block.name.clone()).collect())
}

/// Why a device is not read, if it is not.
fn skipped(block: &Block, facts: &Facts, hung: &BTreeSet<String>) -> Option<String> {
    let below = |name: &String| facts.blocks.iter().find(|block| block.name == *name).map(Block::path);
    if block.size == 0 {
        return Some("no medium, or nothing behind it".to_string());
    }
    if block.major == FLOPPY {
        return Some("a floppy drive: reading it without a medium takes long".to_string());
    }
    if hung.contains(&block.name) {
        let culprit = block.slaves.iter().find(|name| hung.contains(*name)).and_then(below);
        return Some(
            culprit.map_or("it hangs".to_string(), |path| format!("it stands on {path}, which hangs")),
        );
    }
    None
}

/// Who reads the devices: on the running machine workers, which can be abandoned with a disk that hangs; for image
/// files, and for a captured machine, whose devices are files below its root, this process.
struct Examiner<'a> {
    root: &'a Root,
    pool: Pool,
    /// Of a copy that may be abandoned itself.
    beat: Option<Beat>,
    deadline: Duration,
    tables_alone: bool,
    /// What the kernel said of devices that were read here, by kernel name.
    limits: BTreeMap<String, Limits>,
    /// Of a captured machine.
    manifest: Manifest,
    /// What is read is kept there.
    capture: Option<&'a mut Capture>,
    /// Of groups, of all devices.
    kept: Kept,
}

impl<'a> Examiner<'a> {
    fn new(
        root: &'a Root,
        deadline: Duration,
        beat: Option<Beat>,
        tables_alone: bool,
        capture: Option<&'a mut Capture>,
    ) -> Examiner<'a> {
        let manifest = if root.is_live() { Manifest::default() } else { capture::manifest(root) };
        let pool = Pool::of_copies(root.clone(), cmd::worker::work);
        let limits = BTreeMap::new();
        let kept = Kept::new(GROUPS);
        Examiner { root, pool, beat, deadline, tables_alone, limits, manifest, capture, kept }
    }

    fn examine<'b>(
        &mut self,
        asks: impl IntoIterator<Item = &'b Ask>,
        observed: &mut BTreeMap<String, Observed>,
    ) {
        let (here, away): (Vec<&Ask>, Vec<&Ask>) =
            asks.into_iter().partition(|ask| is_file(ask) || !self.root.is_live());
        for ask in here {
            let seen = self.read_here(ask);
            hold(&mut self.kept, observed, ask, seen);
        }
        if let Some(beat) = self.beat {
            if is_quick_alone(away.len()) {
                host::sys::memory::keep(cmd::worker::KEPT);
                for ask in away {
                    beat.begin();
                    let seen = self.read_device(ask);
                    hold(&mut self.kept, observed, ask, seen);
                }
                return;
            }
            beat.rest();
        }
        let job = |ask: &&Ask| job(ask, self.capture.as_deref(), self.tables_alone);
        let jobs: Vec<Job> = away.iter().map(job).collect();
        let Examiner { pool, capture, kept, deadline, .. } = self;
        if let Some(capture) = capture {
            pool.run_each::<Shot>(&jobs, *deadline, |job, outcome| {
                let seen = seen(outcome, |shot| keep(Some(capture), away[job], shot));
                hold(kept, observed, away[job], seen);
            });
        } else {
            pool.run_each::<DiskReport>(&jobs, *deadline, |job, outcome| {
                let seen = seen(outcome, |report| Observed::Examined { report: Box::new(report) });
                hold(kept, observed, away[job], seen);
            });
        }
    }

    /// As a worker does; it may never return.
    fn read_device(&mut self, ask: &Ask) -> Observed {
        match cmd::worker::look_in_place(ask, self.tables_alone) {
            Ok((report, limits)) => {
                self.limits.extend(limits.map(|limits| (ask.name.clone(), limits)));
                Observed::Examined { report: Box::new(report) }
            }
            Err(error) => Observed::Failed { reason: without_errno(&format!("{error:#}")) },
        }
    }

    fn read_here(&mut self, ask: &Ask) -> Observed {
        // An image file is named by its path, which is this process's and not the machine's.
        let captured = self.manifest.device(&ask.name).filter(|_| !is_file(ask));
        if let Some(reason) = captured.filter(|device| device.state == State::Failed) {
            return Observed::Failed { reason: reason.reason.clone().unwrap_or_default() };
        }
        let file = if is_file(ask) { File::open(&ask.path) } else { self.root.open_device(&ask.path) };
        let file = match file {
            Ok(file) => file,
            Err(error) => {
                let reason = without_errno(&format!("open {}: {error}", ask.path));
                return Observed::Failed { reason };
            }
        };
        let image = Image { file, size: ask.size };
        let failed = captured.map(|device| &device.failed[..]).unwrap_or_default();
        let device = Failing { source: &image, failed };
        let Some(capture) = &self.capture else {
            if self.tables_alone {
                let report = Box::new(ondisk::examine_table(&device, ask.geometry));
                return Observed::Examined { report };
            }
            let report = examine(&device, ask.geometry, &ask.sections);
            return Observed::Examined { report: Box::new(report) };
        };
        let into = capture.unfinished(&ask.name);
        match capture::shoot(&device, ask.geometry, &ask.sections, capture.limit, &into) {
            Ok(shot) => keep(self.capture.as_deref_mut(), ask, shot),
            Err(error) => Observed::Failed { reason: without_errno(&format!("{error:#}")) },
        }
    }
}

/// What a device says of groups is held as it comes, so that there is never more of it than is kept.
fn hold(kept: &mut Kept, observed: &mut BTreeMap<String, Observed>, ask: &Ask, mut seen: Observed) {
    if let Observed::Examined { report } = &mut seen {
        kept.add(ask.diskseq, report);
    }
    observed.insert(ask.name.clone(), seen);
    while let Some(group) = kept.beyond() {
        let reports = observed.values_mut().filter_map(|seen| match seen {
            Observed::Examined { report } => Some(&mut **report),
            Observed::Skipped { .. } | Observed::Failed { .. } | Observed::Hung { .. } => None,
        });
        kept::cut(&group, reports);
    }
}

fn keep(capture: Option<&mut Capture>, ask: &Ask, mut shot: Shot) -> Observed {
    // Nobody asks the capture for it, and it would be held twice.
    let report = Box::new(std::mem::take(&mut shot.report));
    match capture.map(|capture| capture.keep(&ask.name, &ask.path, shot)) {
        Some(Err(error)) => Observed::Failed { reason: without_errno(&format!("{error:#}")) },
        Some(Ok(())) | None => Observed::Examined { report },
    }
}

/// Whether one process is as quick as several, for so many devices.
fn is_quick_alone(devices: usize) -> bool {
    const FEW: usize = 64;
    devices <= FEW || std::thread::available_parallelism().is_ok_and(|processors| processors.get() == 1)
}

fn seen<T>(outcome: Outcome<T>, done: impl FnOnce(T) -> Observed) -> Observed {
    match outcome {
        Outcome::Done(value) => done(value),
        Outcome::Failed(reason) | Outcome::NotStarted(reason) => {
            Observed::Failed { reason: without_errno(&reason) }
        }
        Outcome::Hung(reason) => Observed::Hung { reason },
    }
}

fn is_file(ask: &Ask) -> bool {
    ask.name == ask.path
}

fn job(ask: &Ask, capture: Option<&Capture>, table_alone: bool) -> Job {
    let extent = |extent: &Extent| guard::Extent { start: extent.start, length: extent.length };
    let (path, logical_block, size) = (ask.path.clone(), ask.geometry.logical, ask.size);
    let sections = ask.sections.iter().map(extent).collect();
    let request = match capture {
        None if table_alone => WorkerRequest::ExamineTable { path, logical_block, size },
        None => WorkerRequest::Examine { path, logical_block, size, sections },
        Some(capture) => {
            let into = capture.unfinished(&ask.name).to_string_lossy().into_owned();
            WorkerRequest::Capture { path, logical_block, size, sections, limit: capture.limit, into }
        }
    };
    Job { diskseq: ask.diskseq, path: ask.path.clone(), request }
}

/// What is on a device, and on those windows of it that are partitions without a node.
pub fn examine(device: &dyn ReadAt, geometry: Geometry, sections: &[Extent]) -> DiskReport {
    let mut report = ondisk::examine(device, geometry);
    // No more than the one group that a device may say: it is one answer, and there may be hundreds of sections.
    let mut kept = Kept::new(BUDGET);
    kept.add(None, &mut report);
    for extent in sections {
        let section = Section::new(device, extent.start, extent.length);
        let mut section = ondisk::examine(&section, geometry);
        kept.add(None, &mut section);
        report.sections.push((extent.start, section));
        while let Some(group) = kept.beyond() {
            kept::cut(&group, [&mut report]);
        }
    }
    report
}

pub struct Image {
    pub file: File,
    /// Bytes.
    pub size: u64,
}

impl ReadAt for Image {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let length = buf.len() as u64;
        if offset.checked_add(length).is_none_or(|end| end > self.size) {
            return Err(ReadError::PastEnd { offset, length, size: self.size });
        }
        let device = |error: std::io::Error| ReadError::Device {
            offset,
            length,
            error: without_errno(&error.to_string()),
        };
        self.file.read_exact_at(buf, offset).map_err(device)
    }

    /// Without filling it with zeros first.
    fn bytes(&self, offset: u64, length: usize) -> Result<Vec<u8>, ReadError> {
        let mut bytes = Vec::with_capacity(length);
        let read = rustix::io::pread(&self.file, rustix::buffer::spare_capacity(&mut bytes), offset);
        if read.is_ok_and(|read| read >= length) {
            bytes.truncate(length);
            return Ok(bytes);
        }
        bytes.clear();
        bytes.resize(length, 0);
        self.read_at(offset, &mut bytes)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool::Terminal;
    use ondisk::volume::Volume;
    use ondisk::volume::lvm::Group;
    use std::os::unix::fs::symlink;
    use std::sync::Arc;

    #[test]
    fn a_device_that_is_not_there_is_told_with_what_brings_it() {
        for (path, want) in [
            ("/dev/sdz", "lsblk"),
            ("/dev/md2", "arrays"),
            ("/dev/md/root", "arrays"),
            ("/dev/mapper/vg-root", "activates volumes"),
            ("/dev/vg/root", "activates volumes"),
            ("/dev/disk/by-id/ata-x", "lsblk"),
            ("/root/image", "ls "),
        ] {
            assert!(whence(Path::new(path)).contains(want), "{path}: {}", whence(Path::new(path)));
        }
    }

    /// By where they begin.
    type Pieces = Vec<(u64, Vec<u8>)>;

    /// A machine of disks of 2 MiB, and what is on each of them from some place on.
    fn machine(root: &Path, disks: &[(String, Pieces)]) -> Context {
        for directory in ["sys/class/block", "dev", "proc"] {
            std::fs::create_dir_all(root.join(directory)).unwrap();
        }
        for (number, (name, pieces)) in disks.iter().enumerate() {
            let place = format!("pci0000:00/block/{name}");
            let directory = root.join("sys/devices").join(&place);
            std::fs::create_dir_all(&directory).unwrap();
            for (attribute, value) in [("dev", format!("8:{number}")), ("size", "4096".to_string())] {
                std::fs::write(directory.join(attribute), value).unwrap();
            }
            symlink(format!("../../devices/{place}"), root.join("sys/class/block").join(name)).unwrap();
            let device = File::create(root.join("dev").join(name)).unwrap();
            device.set_len(2 << 20).unwrap();
            pieces.iter().for_each(|(at, bytes)| device.write_all_at(bytes, *at).unwrap());
        }
        let terminal = Terminal { interactive: false, columns: None, colour: false, utf8: true };
        let (environment, root) = (BTreeMap::new(), Root::at(root).unwrap());
        Context { name: "blkid", verb: false, root, environment, terminal, beat: None }
    }

    #[test]
    fn what_is_examined_in_turn_is_what_is_examined_at_once() {
        let swap = |label: u8| {
            let mut page = vec![0; 4096];
            (page[1024], page[1029], page[1052]) = (1, 3, label);
            page[0xff6..].copy_from_slice(b"SWAPSPACE2");
            vec![(0, page)]
        };
        let mut table = vec![0; 512];
        table[510..].copy_from_slice(&[0x55, 0xaa]);
        table[446 + 4] = 0x83;
        table[446 + 8..446 + 16].copy_from_slice(&[0, 1, 0, 0, 0, 8, 0, 0]);
        let mut member = vec![0; 512];
        member[..8].copy_from_slice(b"LABELONE");
        member[8] = 1;
        member[24..56].copy_from_slice(b"LVM2 001abcdefghijklmnopqrstuvwx");
        for members in [&[][..], &[0], &[7, 15], &[19]] {
            let directory = tempfile::tempdir().unwrap();
            let disks: Vec<_> = (0..20)
                .map(|number| {
                    let pieces = match number {
                        _ if members.contains(&number) => vec![(512, member.clone())],
                        _ if number % 3 == 0 => vec![(0, table.clone())],
                        _ => swap(b'a' + number),
                    };
                    (format!("sd{}", char::from(b'a' + number)), pieces)
                })
                .collect();
            let context = machine(directory.path(), &disks);
            let at_once = Scan::begin(&context).examine(|_| true);
            let (mut devices, mut problems, mut turns) = (Vec::new(), Vec::new(), 0);
            Scan::begin(&context).in_turns_of(
                4,
                |_| true,
                |storage| {
                    devices.extend(storage.devices.clone());
                    problems.extend(storage.problems.clone());
                    turns += 1;
                },
            );
            assert_eq!(devices, at_once.devices);
            problems.sort_by_key(|problem| std::cmp::Reverse(problem.severity));
            assert_eq!(problems, at_once.problems);
            let want = members.first().map_or(5, |first| usize::from(first / 4) + 1);
            assert_eq!(turns, want, "{members:?}");
        }
    }

    /// A PV of a group of so many volumes, of 250 bytes each in the answer.
    fn member(group: &str, volumes: usize) -> Vec<u8> {
        let id = |letter: &str| [6, 4, 4, 4, 4, 4, 6].map(|length| letter.repeat(length)).join("-");
        let lv = |number: usize| {
            format!(
                "lv{number}{{id=\"{}\" status=\"READ\" s={number} segment1{{start_extent=0 extent_count=1 type=\"error\"}}}}\n",
                id("l")
            )
        };
        let lvs: String = (0..volumes).map(lv).collect();
        crate::cmd::hostile_tests::physical_volume(&format!(
            "{group} {{ id=\"{}\" seqno=1 status=\"READ\" extent_size=8 physical_volumes {{ pv0 {{ id=\"{}\" pe_start=64 \
             pe_count=9 }} }} logical_volumes {{ {lvs} }} }}\ncontents=\"Text Format Volume Group\" version=1\n",
            id(&group[..1]),
            id("a")
        ))
    }

    fn held(report: &DiskReport) -> Vec<Arc<Group>> {
        let own = report.signatures.iter().filter_map(|signature| match &signature.volume {
            Some(Volume::Lvm(pv)) => pv.group.clone(),
            _ => None,
        });
        own.chain(report.sections.iter().flat_map(|(_, section)| held(section))).collect()
    }

    #[test]
    fn what_all_disks_say_of_groups_is_held_once_and_no_more_than_is_affordable() {
        const AFFORDABLE: usize = 500_000;
        let directory = tempfile::tempdir().unwrap();
        let name = |number: u8| format!("sd{}", char::from(b'a' + number));
        let large = |number: u8| member(&format!("{}g", char::from(b'a' + number)), 500);
        let mut disks: Vec<(String, Pieces)> =
            (0..10).map(|number| (name(number), vec![(0, large(number))])).collect();
        let small = member("small", 20);
        disks.extend((10..13).map(|number| (name(number), vec![(0, small.clone())])));
        let context = machine(directory.path(), &disks);
        for turn in [4, 13] {
            let mut scan = Scan::begin(&context);
            let mut left = std::mem::take(&mut scan.facts.blocks);
            let mut examiner = Examiner::new(&scan.root, scan.deadline, scan.beat, scan.tables_alone, None);
            examiner.kept = Kept::new(AFFORDABLE);
            let mut observed = BTreeMap::new();
            while !left.is_empty() {
                let blocks = left.drain(..turn.min(left.len())).collect();
                let mut facts = Facts { blocks, ..Facts::default() };
                scan.observe(&mut facts, &mut examiner, |_| true, &mut observed);
            }
            let reports = observed.values().filter_map(|seen| match seen {
                Observed::Examined { report } => Some(report),
                _ => None,
            });
            let held: Vec<Arc<Group>> = reports.flat_map(|report| held(report)).collect();
            assert_eq!(held.len(), 13, "every one says of whom it is");
            assert!(held[10..].iter().all(|group| Arc::ptr_eq(group, &held[10]) && !group.truncated));
            assert_eq!(held[10].lvs.len(), 20);
            let cost: usize = held[..10].iter().map(|group| group.cost()).sum();
            assert!(cost <= AFFORDABLE && cost > AFFORDABLE / 2, "{cost}");
        }
    }

    #[test]
    fn what_one_disk_says_in_all_its_sections_fits_into_one_answer() {
        let disk = [member("a", 6000), member("b", 6000), member("a", 6000), member("c", 20)].concat();
        let device = ondisk::Section::new(&disk, 0, disk.len() as u64);
        let sections: Vec<Extent> =
            (0..4).map(|number| Extent { start: number << 21, length: 2 << 20 }).collect();
        let report = examine(&device, Geometry::default(), &sections);
        let names: Vec<(String, usize)> =
            held(&report).iter().map(|group| (group.name.clone(), group.lvs.len())).collect();
        let lvs =
            |name: &str| names.iter().filter(|(known, _)| known == name).map(|(_, lvs)| *lvs).sum::<usize>();
        assert_eq!((names.len(), lvs("c")), (5, 20), "{names:?}");
        assert!(lvs("a") == 0 || lvs("b") == 0, "{names:?}");
        let answer = host::workers::value(&report).unwrap().len();
        assert!(answer < contract::wire::MAX_REPORT, "{answer}");
    }
}
