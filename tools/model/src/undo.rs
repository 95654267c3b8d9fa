//! Undo of our own: which devices a step is going to write to, so that their tables, headers and superblocks are saved
//! before; what of the saved bytes is theirs, and may be put back; and whether a device is the one that was saved.
//!
//! What lies in a partition, in an array or in a volume is content, which has moved on since: it is never put back,
//! although the probes read a little of it. A file system's own superblock is, where nothing else is there now, or where a
//! person says so: an older one does not fit the tree that a newer one left. Nor are the zeros of a blank device put back
//! over what was made there since: they bring nothing back, and would take that away. Bytes in which nothing was recognised
//! are: they may be all that opens a volume (plain dm-crypt, VeraCrypt, a torn header).

use crate::mount::{is_called, is_on};
use crate::plan::Step;
use contract::facts::{Block, Facts, Mount};
use contract::guard;
use ondisk::volume::Volume;
use ondisk::volume::bcache::{Bcache, Part};
use ondisk::{DiskReport, Extent, Signature, Usage};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What a window of a device is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Table,
    /// Of a member, a physical volume, a locked device.
    Header,
    FileSystem,
    /// Of what stands on the device.
    Content,
}

/// What a device is, and where what says so lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    pub kind: Kind,
    /// `md superblock`, `gpt table`, `ext4`
    pub what: String,
    own: Vec<Extent>,
}

/// What a device is where nothing is recognised on it: [`Layout::what`]. It may be blank, or hold what has no signature.
pub const NO_TABLE: &str = "no table";

/// Where there is no telling how long a header is.
const BLOCK: u64 = 4096;
/// A GPT is the first 34 and the last 33 sectors, which is where a table comes where none is.
const TABLE_SECTORS: u64 = 34;
/// The headers of LUKS where they do not say where the data begins (cryptsetup's default).
const LUKS_HEADERS: u64 = 16 << 20;

pub fn layout(report: &DiskReport, size: u64, sector: u64) -> Layout {
    let whole = Extent { start: 0, length: size };
    let first = report.signatures.first();
    let is_outer = |found: &&Signature| {
        matches!(found.usage, Usage::Raid | Usage::Crypto) || matches!(found.volume, Some(Volume::Bcache(_)))
    };
    if let Some(outer) = first.filter(is_outer) {
        let (what, own) = header(outer, size);
        return Layout { kind: Kind::Header, what, own };
    }
    if let Some(table) = report.table.as_ref().filter(|table| !table.is_blank()) {
        let entries = table.partitions.iter().filter(|entry| !entry.extended);
        let holes: Vec<Extent> = entries.map(|entry| entry.extent).collect();
        let what = format!("{} table", table.kind.name());
        return Layout { kind: Kind::Table, what, own: whole.without(&holes) };
    }
    if let Some(first) = first {
        return Layout { kind: Kind::FileSystem, what: first.format.clone(), own: vec![whole] };
    }
    let length = TABLE_SECTORS.saturating_mul(sector).min(size);
    let own = vec![Extent { start: 0, length }, Extent { start: size - length, length }];
    Layout { kind: Kind::Table, what: NO_TABLE.to_string(), own }
}

fn header(found: &Signature, size: u64) -> (String, Vec<Extent>) {
    let whole = Extent { start: 0, length: size };
    let before = |end: u64| Extent { start: 0, length: end.min(size) };
    match &found.volume {
        Some(Volume::Md(member)) => {
            let data = Extent { start: member.data_offset, length: member.data_size };
            ("md superblock".to_string(), whole.without(&[data]))
        }
        Some(Volume::Lvm(pv)) => {
            let own = pv.group.iter().flat_map(|group| &group.pvs).find(|own| own.uuid == pv.uuid);
            let areas = pv.areas.iter().map(|area| area.extent);
            // One that no group has has no data: its label and the areas are all.
            let begin = own.map_or(BLOCK, |own| own.pe_start);
            ("LVM metadata".to_string(), std::iter::once(before(begin)).chain(areas).collect())
        }
        Some(Volume::Luks(luks)) => {
            let begins = luks.segments.iter().map(|segment| segment.offset).min().unwrap_or(LUKS_HEADERS);
            // A header that is apart from its data.
            let begins = if begins == 0 { LUKS_HEADERS } else { begins };
            ("LUKS header".to_string(), vec![before(begins)])
        }
        Some(Volume::Firmware(firmware)) => {
            let member = firmware.volumes.iter().filter(|volume| volume.is_here());
            let data = member.map(|volume| &volume.superblock);
            let data = data.map(|data| Extent { start: data.data_offset, length: data.data_size });
            ("firmware RAID metadata".to_string(), whole.without(&data.collect::<Vec<_>>()))
        }
        Some(Volume::Bcache(Bcache { part: Part::Backing { data_offset, .. }, .. })) => {
            ("bcache superblock".to_string(), vec![before(*data_offset)])
        }
        Some(Volume::Bcache(_)) | None if !found.own.is_empty() => {
            (format!("{} metadata", found.format), found.own.clone())
        }
        Some(Volume::Bcache(_)) | None => {
            let start = found.magic_offset - found.magic_offset % BLOCK;
            (format!("{} header", found.format), vec![Extent { start, length: BLOCK }])
        }
    }
}

impl Layout {
    /// Cuts what was read, whole sectors, into what is the device's own and what is not.
    pub fn cut(&self, windows: &[Extent], sector: u64) -> Vec<(Extent, Kind)> {
        let sector = sector.max(1);
        let inward = |own: &Extent| {
            let start = own.start.checked_next_multiple_of(sector)?;
            let end = own.end();
            (end - end % sector).checked_sub(start).map(|length| Extent { start, length })
        };
        let own: Vec<Extent> = self.own.iter().filter_map(inward).collect();
        let mut cut = Vec::new();
        for window in windows {
            let end = window.end();
            let mut at = window.start;
            while at < end {
                let inside = own.iter().find(|own| (own.start..own.start + own.length).contains(&at));
                let next = own.iter().map(|own| own.start).filter(|start| *start > at).min();
                let stop = inside.map_or(next.unwrap_or(end), |own| own.start + own.length).min(end);
                let kind = if inside.is_some() { self.kind } else { Kind::Content };
                cut.push((Extent { start: at, length: stop - at }, kind));
                at = stop;
            }
        }
        cut
    }
}

/// What undo reads besides what the probes read: all that the formats say is theirs.
pub fn asked(report: &DiskReport) -> Vec<Extent> {
    report.signatures.iter().flat_map(|found| found.own.iter().copied()).collect()
}

/// Whether a step may write to a device that is saved.
pub fn writes(step: &Step) -> bool {
    match step {
        Step::Save { .. }
        | Step::SetWritable { .. }
        | Step::Run { .. }
        | Step::Call { .. }
        | Step::PutBack { .. } => true,
        // bcache writes to what it is shown. These are overlays, of which nothing is saved.
        Step::BcacheRegister { .. } | Step::BcacheHold { .. } | Step::BcacheStop { .. } => true,
        // Over a window of a device, which is then mounted.
        Step::Loop { read_only, .. } => !read_only,
        Step::MdSetReadOnly { read_only, .. } => !read_only,
        Step::MdStart(start) => !start.read_only,
        Step::Mount { flags, .. } => !flags.iter().any(|flag| attaches_for_reading(flag)),
        // What stops or is unmounted ends what was begun by a step that saved.
        Step::MdStop { .. } | Step::MdFreeze { .. } | Step::Umount { .. } => false,
        Step::SetGuarded { .. }
        | Step::Module { .. }
        | Step::DmCreate { .. }
        | Step::DmRemove { .. }
        | Step::DmFreeze { .. }
        | Step::DmReadOnly { .. }
        | Step::SparseFile { .. }
        | Step::RemoveFile { .. }
        | Step::BtrfsForget { .. }
        | Step::BtrfsScan { .. }
        | Step::LoopRemove { .. }
        | Step::MakeDirectory { .. } => false,
    }
}

/// The devices, by kernel name, that a step may write to, with windows that it writes to by name; in the kernel's order.
/// `resolve` gives the kernel name for a path.
///
/// Not what runs from overlays, whose disks stay as they are, nor loop devices: their files are a person's own to copy.
pub fn concerned(
    facts: &Facts,
    steps: &[Step],
    resolve: &dyn Fn(&str) -> Option<String>,
) -> Vec<(String, Vec<Extent>)> {
    let known: BTreeMap<&str, &Block> =
        facts.blocks.iter().map(|block| (block.name.as_str(), block)).collect();
    let mut found: BTreeMap<String, Vec<Extent>> = BTreeMap::new();
    for step in steps.iter().filter(|step| writes(step)) {
        let named: Vec<&str> = match step {
            Step::Save { paths } => paths.iter().map(String::as_str).collect(),
            Step::SetWritable { path, .. } => vec![path],
            Step::BcacheRegister { device } | Step::BcacheHold { device } | Step::BcacheStop { device } => {
                vec![device]
            }
            Step::Loop { file, .. } => vec![file],
            Step::MdSetReadOnly { device, .. } => vec![device],
            Step::MdStart(start) => start.members.iter().map(|member| member.path.as_str()).collect(),
            // Of a btrfs on several devices, the others; a journal or log that has a device of its own.
            Step::Mount { source, data, .. } => {
                let names = ["device=", "jdev=", "journal_path=", "logdev=", "rtdev="];
                let others = data
                    .split(',')
                    .filter_map(|word| names.into_iter().find_map(|name| word.strip_prefix(name)));
                std::iter::once(source.as_str()).chain(others).collect()
            }
            Step::Run { argv, .. } | Step::Call { argv, .. } => {
                argv.iter().map(String::as_str).filter(|word| word.starts_with("/dev/")).collect()
            }
            _ => Vec::new(),
        };
        let mut begin: Vec<String> = named.into_iter().filter_map(resolve).collect();
        if matches!(step, Step::Run { .. } | Step::Call { .. }) {
            // Whoever only looks leaves the guard on.
            begin.retain(|name| known.get(name.as_str()).is_some_and(|block| !block.read_only));
        }
        if let Step::PutBack { path, window, .. } = step
            && let Some(name) = resolve(path)
        {
            let window = Extent { start: window.start, length: window.length };
            found.entry(name).or_default().push(window);
        }
        for name in begin {
            let whole = matches!(step, Step::SetWritable { .. } | Step::Save { .. });
            for name in below(&known, &name, whole) {
                found.entry(name).or_default();
            }
        }
    }
    let order = |name: &str| facts.blocks.iter().position(|block| block.name == name);
    let mut found: Vec<_> = found.into_iter().collect();
    found.sort_by_key(|(name, _)| order(name));
    found
}

fn attaches_for_reading(flag: &str) -> bool {
    matches!(flag, "ro" | "bind" | "rbind" | "move")
        || ["private", "shared", "slave", "unbindable"].iter().any(|spread| flag.ends_with(spread))
}

/// A device, and all that it stands on. With a whole disk its partitions too, where `whole` says so.
fn below(known: &BTreeMap<&str, &Block>, name: &str, whole: bool) -> Vec<String> {
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let mut open = vec![name.to_string()];
    while let Some(name) = open.pop() {
        let Some(block) = known.get(name.as_str()) else { continue };
        if block.is_overlay() {
            return Vec::new();
        }
        if seen.insert(name.clone()) {
            open.extend(block.below().cloned());
        }
    }
    let is_disk = known.get(name).is_some_and(|block| block.partition.is_none());
    if whole && is_disk {
        let is_part = |block: &&&Block| block.partition.as_ref().is_some_and(|part| part.disk == name);
        seen.extend(known.values().filter(is_part).map(|block| block.name.clone()));
    }
    seen.retain(|name| known.get(name.as_str()).is_some_and(|block| is_kept(block, known)));
    seen.into_iter().collect()
}

fn is_kept(block: &Block, known: &BTreeMap<&str, &Block>) -> bool {
    let disk = block.partition.as_ref().and_then(|partition| known.get(partition.disk.as_str()));
    let disk = disk.copied().unwrap_or(block);
    let is_made = disk.md.is_some() || disk.dm.is_some();
    block.size > 0 && block.major != 0 && (is_made || guard::guarded(disk).is_some())
}

/// By what a device is known again, also when it was pulled out and comes back under another name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Identity {
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Of a partition: its disk's size, and where it begins.
    pub within: Option<(u64, u64)>,
    /// Of the whole disk, as all that follows.
    pub diskseq: Option<u64>,
    pub model: Option<String>,
    pub serial: Option<String>,
    pub wwid: Option<String>,
    /// Of an array, or a mapped device.
    pub uuid: Option<String>,
}

pub fn identity(facts: &Facts, block: &Block) -> Identity {
    let partition = block.partition.as_ref();
    let disk = partition.and_then(|part| facts.blocks.iter().find(|disk| disk.name == part.disk));
    let whole = disk.unwrap_or(block);
    let trimmed = |text: &Option<String>| {
        text.as_deref().map(str::trim).filter(|text| !text.is_empty()).map(str::to_string)
    };
    let of_md = whole.md.as_ref().and_then(|md| md.uuid.clone());
    Identity {
        path: block.path(),
        size: block.size,
        within: partition.map(|partition| (whole.size, partition.start)),
        diskseq: block.diskseq,
        model: trimmed(&whole.hardware.model),
        serial: trimmed(&whole.hardware.serial),
        wwid: trimmed(&whole.hardware.wwid),
        uuid: of_md.or_else(|| whole.dm.as_ref().map(|dm| dm.uuid.clone()).filter(|uuid| !uuid.is_empty())),
    }
}

/// Why nothing is put back on a device: one line that names it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{0} is gone")]
    Gone(String),
    #[error("{path} is another device now: {now}, and {then} was saved")]
    Another { path: String, now: String, then: String },
    #[error(
        "{path} was {what}, and so are {}: the kernel counted all of them anew since, and nothing tells which was saved; {}",
        .all.join(" and "),
        if *.is_only { "name the one (rescue undo N DEVICE), or unplug the others" }
        else { "leave one alone plugged in, and name it as it was saved (rescue undo N DEVICE)" }
    )]
    Alike {
        path: String,
        what: String,
        all: Vec<String>,
        /// No other that was saved beside it may be one of these.
        is_only: bool,
    },
    #[error(
        "{all} have one name ({wwid}), as paths to one drive have, and read differently: nothing tells which was saved; name the one (rescue undo N DEVICE), or unplug the others"
    )]
    Differ { all: String, wwid: String },
    #[error("{path} is in use: {by}")]
    InUse { path: String, by: String },
}

/// A device that was saved, and is there.
#[derive(Clone, Debug, PartialEq)]
pub struct Found<'a> {
    pub block: &'a Block,
    /// Other paths to the same drive, by its world wide name: who uses one of them uses it.
    pub paths: Vec<&'a Block>,
    /// The kernel counted all of these anew, and one was taken. Bridges lie about such names: all have to read alike.
    pub is_any: bool,
}

impl Found<'_> {
    pub fn may_be(&self, block: &Block) -> bool {
        let is_path = self.paths.iter().any(|path| path.name == block.name);
        self.block.name == block.name || (self.is_any && is_path)
    }
}

fn all(facts: &Facts) -> impl Iterator<Item = (&Block, Identity)> {
    facts.blocks.iter().filter(|block| block.major != 0).map(|block| (block, identity(facts, block)))
}

/// What a saved device may be now: the one that the kernel counted as it did then, or, where none is, all that are like it.
pub fn fits<'a>(facts: &'a Facts, saved: &Identity) -> Vec<&'a Block> {
    let same: Vec<(&Block, Identity)> = all(facts).filter(|(_, one)| is_same(one, saved)).collect();
    let is_counted = |one: &Identity| one.diskseq.is_some() && one.diskseq == saved.diskseq;
    match same.iter().find(|(_, one)| is_counted(one)) {
        Some((block, _)) => vec![block],
        None => same.into_iter().map(|(block, _)| block).collect(),
    }
}

/// The device that was saved, where it is still there. `beside`: all that were saved with it. `named`: what a person typed.
///
/// Bridges of one make may all have the same serial number, and two paths to one drive do. Of several that could be it, it is
/// the one that the kernel has counted as it did then. Where all came again since, it is the one that was named, unless
/// another of its make was saved too, whose name that may be; or any of the paths to one drive.
pub fn find<'a>(
    facts: &'a Facts,
    saved: &Identity,
    beside: &[&Identity],
    named: &[String],
) -> Result<Found<'a>, Refusal> {
    let found = |block: &'a Block, is_any: bool| {
        let is_path = |one: &Identity| has_wwn(saved) && is_alike(one, saved);
        let paths = all(facts).filter(|(other, one)| other.name != block.name && is_path(one));
        Found { block, paths: paths.map(|(other, _)| other).collect(), is_any }
    };
    let several = fits(facts, saved);
    match several[..] {
        [] => {}
        [block] => return Ok(found(block, false)),
        [first, ..] => {
            let may_be =
                |other: &Identity| several.iter().any(|block| is_same(&identity(facts, block), other));
            let is_only = !beside.iter().any(|other| *other != saved && may_be(other));
            let mut chosen = several.iter().filter(|block| named.contains(&block.path()));
            let chosen = chosen.next().filter(|_| chosen.next().is_none());
            return match chosen {
                Some(block) if is_only => Ok(found(block, false)),
                chosen if has_wwn(saved) => Ok(found(chosen.unwrap_or(&first), true)),
                _ => {
                    let all = several.iter().map(|block| block.path()).collect();
                    Err(Refusal::Alike { path: saved.path.clone(), what: shown(saved), all, is_only })
                }
            };
        }
    }
    match all(facts).find(|(_, one)| one.path == saved.path) {
        None => Err(Refusal::Gone(saved.path.clone())),
        Some((_, one)) => {
            let (mut now, mut then) = (shown(&one), shown(saved));
            if now == then {
                // Of a drive without a serial number, nothing tells one from its successor but the kernel's count.
                let count = |one: &Identity| {
                    one.diskseq.map_or(String::new(), |number| format!(", the kernel's disk {number}"))
                };
                (now, then) = (now + &count(&one), then + &count(saved));
            }
            Err(Refusal::Another { path: saved.path.clone(), now, then })
        }
    }
}

/// A name that its maker gives to one drive in the world. What the kernel makes of a vendor's and a serial number's text
/// (`t10.`, drivers/scsi/scsi_lib.c: scsi_vpd_lun_id; `nvme.`) is none.
fn has_wwn(one: &Identity) -> bool {
    let wwid = one.wwid.as_deref().unwrap_or_default();
    let number = ["naa.", "eui.", "uuid."].iter().find_map(|kind| wwid.strip_prefix(kind));
    number.is_some_and(|number| number.contains(|c| !matches!(c, '0' | '-')))
}

/// Whether all that a drive says of itself is the same.
fn is_alike(one: &Identity, saved: &Identity) -> bool {
    let said =
        |one: &Identity| (one.size, one.within, one.serial.clone(), one.wwid.clone(), one.uuid.clone());
    said(one) == said(saved)
}

fn is_same(one: &Identity, saved: &Identity) -> bool {
    if saved.uuid.is_some() || one.uuid.is_some() {
        return (one.size, one.within, &one.uuid) == (saved.size, saved.within, &saved.uuid);
    }
    let has_number = saved.serial.is_some() || saved.wwid.is_some();
    // Whatever comes again is counted higher (block/genhd.c: inc_diskseq); a lower one was there beside it.
    let was_beside = one.diskseq.is_some() && one.diskseq < saved.diskseq;
    let is_counted = one.diskseq.is_some() && one.diskseq == saved.diskseq;
    is_alike(one, saved) && (is_counted || (has_number && !was_beside))
}

fn shown(one: &Identity) -> String {
    let (model, serial) = (one.model.iter(), one.serial.iter().map(|serial| format!("serial {serial}")));
    let uuid = one.uuid.iter().cloned();
    let place = one.within.map(|(_, start)| format!("from byte {start}"));
    let words = model.cloned().chain(serial).chain(uuid).chain(place);
    words.chain([format!("{} bytes", one.size)]).collect::<Vec<_>>().join(", ")
}

/// Who uses a device, or a partition of it. What is mounted for reading only is in use too: it would be changed behind the
/// kernel's back. `pool`: the kernel names of all devices of a mounted btrfs, which mountinfo does not have.
///
/// A journal of ext on a device of its own is shown nowhere: the kernel is asked besides (`host::device::claim`).
pub fn in_use(facts: &Facts, block: &Block, pool: &dyn Fn(&Mount) -> Vec<String>) -> Result<(), Refusal> {
    let is_part = |one: &&Block| {
        one.name == block.name || one.partition.as_ref().is_some_and(|partition| partition.disk == block.name)
    };
    for one in facts.blocks.iter().filter(is_part) {
        let path = one.path();
        let refuse = |by: String| Err(Refusal::InUse { path: path.clone(), by });
        let is_pooled = |mount: &Mount| mount.fstype == "btrfs" && pool(mount).contains(&one.name);
        if let Some(mount) = facts.mounts.iter().find(|mount| is_on(mount, one) || is_pooled(mount)) {
            return refuse(format!("umount {}", mount.target));
        }
        if let Some(swap) = facts.swaps.iter().find(|swap| is_called(one, &swap.path)) {
            return refuse(format!("swapoff {}", swap.path));
        }
        let holder =
            one.holders.iter().find_map(|name| facts.blocks.iter().find(|block| block.name == *name));
        if let Some(holder) = holder {
            return refuse(match &holder.dm {
                Some(_) if holder.is_overlay() => format!("rescue overlay --drop {path}"),
                Some(dm) if dm.uuid.starts_with("CRYPT-") => format!("rescue close {}", dm.name),
                Some(dm) => format!("rescue assemble --stop /dev/mapper/{}", dm.name),
                None => format!("rescue assemble --stop {}", holder.path()),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "undo_tests.rs"]
mod tests;
