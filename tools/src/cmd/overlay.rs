//! `rescue overlay`: devices, with the arrays and file systems on them, as throw-away writable copies. What is decided is
//! in `model::overlay`; here names are looked up, and what was made is shown.

use super::assemble::{configured, links};
use crate::apply::{self, Door};
use crate::report::{Answer, notice};
use crate::scan::{DEADLINE, Image, Scan, settle};
use crate::tool::{Context, verb};
use anyhow::{Context as _, bail};
use contract::exit;
use model::luks::{self, Lock};
use model::md::conf::Conf;
use model::md::{self, Names, Wishes};
use model::overlay::{self, Overlay, Plan, Purpose, Room, Store, Wish};
use model::storage::{Id, Storage};
use model::text::{Column, Untrusted, size, table};
use ondisk::Extent;
use ondisk::volume::cow;
use serde::Serialize;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::path::Path;

/// Makes throw-away writable copies: what is written to /dev/mapper/over-sda1 goes to memory, and
/// /dev/sda1 stays as it is. There a file system can be checked, mended, mounted and written
/// to, its log is replayed, and an array goes on, before anything is done for good.
///
/// Of a disk each partition gets one, of an array each member, and the array is started again from
/// those alone, without a resync. Nothing may be mounted from the originals, and while an
/// overlay is there, no command of this system writes to its original.
///
/// All of them together take at most half of the memory that was free, and one at most three
/// quarters of that. One that is full fails to be written, and can still be read: the disk and the
/// machine are not touched. Everything is gone with --drop, umount of a mount that made its own, and power-off.
///
/// Without arguments: lists them, what differs, and what they take. Exits with 1 when there are none.
///
///     # rescue overlay /dev/sda1
///     Overlay               Of         Size Differs Memory  Room Used by
///     /dev/mapper/over-sda1 /dev/sda1   20G      0B    16K  230M
///     Memory: 16K of the 307M that overlays may take
///     Next: fsck -y /dev/mapper/over-sda1
#[derive(clap::Parser)]
#[command(name = "rescue overlay", disable_version_flag = true, verbatim_doc_comment)]
struct Args {
    /// Of every disk and array that is not in use
    #[arg(long, conflicts_with_all = ["drop", "devices"])]
    all: bool,
    /// End them, all or these: by overlay, original, disk or array
    #[arg(long)]
    drop: bool,
    /// Of a disk as a whole, table and all, instead of its partitions
    #[arg(long, conflicts_with = "drop")]
    whole: bool,
    /// Print what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// As JSON, schema 1
    #[arg(long)]
    json: bool,
    /// Disks, partitions, arrays (by node, name or UUID)
    #[arg(value_name = "DEVICE")]
    devices: Vec<String>,
}

/// Arrays on arrays on arrays: more passes find nothing that a person built.
const PASSES: usize = 8;
/// Most places that JSON lists of one overlay; the sum is of all.
const PLACES: usize = 1000;

/// One overlay, with what is in its store.
#[derive(Serialize)]
struct Line {
    #[serde(flatten)]
    overlay: Overlay,
    /// Bytes of it that are not the original's; `None`: the store cannot be read.
    differing: Option<u64>,
    /// Where, in bytes.
    places: Vec<Place>,
    /// How many there are.
    places_count: usize,
}

#[derive(Serialize)]
struct Place {
    start: u64,
    length: u64,
}

#[derive(Serialize)]
struct Report {
    overlays: Vec<Line>,
    store: Option<Store>,
    /// Arrays that were started from overlays.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    arrays: Vec<String>,
    next: Option<String>,
}

pub fn run(context: &Context, arguments: &[OsString]) -> anyhow::Result<Answer> {
    let args: Args = match verb(context, arguments)? {
        Ok(args) => args,
        Err(answer) => return Ok(answer),
    };
    let _claim = host::installed::claim();
    let typed = apply::typed(context.name, arguments);
    if args.drop {
        return end(context, &args, &typed);
    }
    if args.all || !args.devices.is_empty() {
        return make(context, &args, &typed);
    }
    let storage = Scan::begin(context).examine(|_| false);
    let overlays = overlay::list(&storage);
    let exit = if overlays.is_empty() { exit::NO } else { exit::YES };
    if overlays.is_empty() && !args.json {
        notice(context.name, "there are none: rescue overlay /dev/sdX makes some");
        return Ok(Answer::exit(exit));
    }
    show(&storage, overlays, Vec::new(), None, args.json, exit)
}

fn make(context: &Context, args: &Args, typed: &str) -> anyhow::Result<Answer> {
    settle(context, DEADLINE);
    let (storage, ids) = look(context, &args.devices)?;
    let mut left = 0;
    let ids = if args.all {
        let (ids, refusals) = overlay::all(&storage);
        left = refusals.len();
        for refusal in &refusals {
            notice(context.name, &format!("left as it is: {refusal}"));
        }
        if ids.is_empty() && overlay::list(&storage).is_empty() {
            notice(context.name, "no disk that is not in use holds anything");
            return Ok(Answer::exit(exit::NO));
        }
        ids
    } else {
        ids
    };
    let memory = host::proc::available_memory(&context.root);
    let wish = Wish { purpose: Purpose::Overlay, whole: args.whole, memory };
    let plan = overlay::make(&storage, &ids, &wish)?;
    if args.dry_run {
        let arrays =
            if plan.overlays.is_empty() { "" } else { "# then the arrays on them, from them alone\n" };
        return Ok(Answer::text(apply::shown(&plan.steps) + arrays, exit::YES));
    }
    if plan.steps.is_empty() {
        notice(context.name, "there already: rescue overlay lists them");
    } else if let Err(error) = Door::open(context, typed)?.make_all(&plan.steps) {
        let again = if plan.stopped.is_empty() { "" } else { "; rescue assemble starts the arrays again" };
        bail!("{error:#}{again}");
    }
    let conf = configured(context, None)?;
    let (storage, arrays, failed) = start_arrays(context, typed, &plan, &conf);
    let is_new = |one: &Overlay| plan.overlays.iter().any(|(path, _)| *path == one.path);
    let new: Vec<Overlay> = overlay::list(&storage).into_iter().filter(|one| is_new(one)).collect();
    for text in hints(&storage, &new) {
        notice(context.name, &text);
    }
    let exit = if failed + left > 0 { exit::PARTLY } else { exit::YES };
    let next = next(&storage, &new, &arrays);
    show(&storage, new, arrays, next, args.json, exit)
}

/// The graph, and the devices in it that the words mean: nodes, links to them, or arrays by name or UUID.
fn look(context: &Context, words: &[String]) -> anyhow::Result<(Storage, Vec<Id>)> {
    let mut scan = Scan::begin(context);
    let names: Vec<anyhow::Result<String>> = words.iter().map(|word| scan.resolve(Path::new(word))).collect();
    let storage = scan.examine(|_| true);
    let mut ids = Vec::new();
    for (word, name) in words.iter().zip(names) {
        let device = name.as_ref().ok();
        let device = device.and_then(|name| storage.devices.iter().find(|device| device.block.name == *name));
        // A node that is there is that device, whatever an array would like to be called.
        if let Some(device) = device {
            if device.block.major == 0 && device.node {
                bail!("{word} is a file: losetup makes a device of it");
            }
            ids.push(device.id.clone());
            continue;
        }
        let called = storage
            .arrays
            .iter()
            .find(|array| md::judge(&storage, array, &Wishes::default()).is_called(word));
        match called {
            Some(array) => ids.extend(array.device.clone().map_or(array.members.clone(), |id| vec![id])),
            None => drop(name?),
        }
    }
    Ok((storage, ids))
}

/// Starts the arrays on what was just made, from that alone; returns the graph afterwards, their
/// paths, and how many could not be started.
fn start_arrays(context: &Context, typed: &str, plan: &Plan, conf: &Conf) -> (Storage, Vec<String>, usize) {
    let (mut started, mut tried, mut failed) = (Vec::new(), BTreeSet::new(), 0);
    let mut storage = Scan::begin(context).examine(|_| true);
    for _ in 0..PASSES {
        let mut names = Names::of(&storage).and_links(links(context)).and_reserved(&storage, conf);
        let before = started.len();
        for array in overlay::to_start(&storage).filter(|_| !plan.overlays.is_empty()) {
            if !tried.insert(array.uuid.clone()) {
                continue;
            }
            let judgement = md::judge(&storage, array, &Wishes::default());
            if let Some(refusal) = &judgement.refusal {
                notice(context.name, &format!("{} is not started: {refusal}", Untrusted(&judgement.name)));
                failed += 1;
                continue;
            }
            let name = names.choose(&judgement, conf.name(&array.uuid));
            let outcome = overlay::start(&storage, &judgement, &name, Purpose::Overlay, typed)
                .map_err(anyhow::Error::from)
                .and_then(|steps| Door::open(context, typed)?.make_all(&steps));
            match outcome {
                Ok(_) => started.push(name.device),
                Err(error) => {
                    notice(context.name, &format!("{}: {error:#}", name.device));
                    failed += 1;
                }
            }
        }
        if started.len() == before {
            break;
        }
        storage = Scan::begin(context).examine(|_| true);
    }
    (storage, started, failed)
}

/// How to go on where what is in an overlay has to be opened first, from the overlay alone.
fn hints(storage: &Storage, new: &[Overlay]) -> Vec<String> {
    let format = |one: &Overlay| Some(storage.get(&one.id)?.signature()?.format.clone());
    let volumes: Vec<&str> = new
        .iter()
        .filter(|one| format(one).as_deref() == Some("LVM2_member"))
        .map(|one| one.path.as_str())
        .collect();
    let mut texts = Vec::new();
    if !volumes.is_empty() {
        let all = volumes.join(",");
        texts.push(format!("for the volume groups on them: vgchange -ay --devices {all}"));
    }
    let lock = |one: &Overlay| luks::lock(storage.get(&one.id)?);
    texts.extend(new.iter().filter_map(|one| {
        Some(match lock(one)? {
            Lock::Luks(_) | Lock::Torn(_) => format!("to open it: cryptsetup open {} NAME", one.path),
            Lock::Header => format!("to open what it is the header of: {}", luks::with_data(&one.path)),
            Lock::BitLocker => return None,
        })
    }));
    texts
}

/// The largest file system on what was made.
fn next(storage: &Storage, new: &[Overlay], arrays: &[String]) -> Option<String> {
    let is_ours = |device: &&model::storage::Device| {
        let is_array = arrays.contains(&device.path)
            || device
                .parent
                .as_ref()
                .and_then(|id| storage.get(id))
                .is_some_and(|disk| arrays.contains(&disk.path));
        is_array || new.iter().any(|one| one.id == device.id)
    };
    let holds = |device: &&model::storage::Device| {
        device.upper.is_empty()
            && device.signature().is_some_and(|found| found.usage == ondisk::Usage::Filesystem)
    };
    let device =
        storage.devices.iter().filter(is_ours).filter(holds).max_by_key(|device| device.block.size)?;
    let mapped = device.block.dm.as_ref().map(|dm| format!("/dev/mapper/{}", dm.name));
    Some(format!("fsck -y {}", mapped.unwrap_or_else(|| device.path.clone())))
}

fn end(context: &Context, args: &Args, typed: &str) -> anyhow::Result<Answer> {
    let (storage, ids) = look(context, &args.devices)?;
    let plan = overlay::end(&storage, (!args.devices.is_empty()).then_some(&ids[..]))?;
    if args.dry_run {
        return Ok(Answer::text(apply::shown(&plan.steps), exit::YES));
    }
    if plan.overlays.is_empty() {
        notice(context.name, "there are none");
        return Ok(Answer::exit(exit::NO));
    }
    Door::open(context, typed)?.make_all(&plan.steps)?;
    let names: Vec<&str> = plan.overlays.iter().map(|(path, _)| path.as_str()).collect();
    if args.json {
        #[derive(Serialize)]
        struct Dropped<'a> {
            dropped: Vec<&'a str>,
            stopped: &'a [String],
        }
        return Answer::json(1, &Dropped { dropped: names, stopped: &plan.stopped }, exit::YES);
    }
    notice(context.name, &format!("gone, with all that was written to them: {}", names.join(", ")));
    if !plan.stopped.is_empty() {
        let arrays = plan.stopped.join(", ");
        notice(context.name, &format!("stopped: {arrays}; rescue assemble starts them from the disks"));
    }
    Ok(Answer::exit(exit::YES))
}

fn show(
    storage: &Storage,
    overlays: Vec<Overlay>,
    arrays: Vec<String>,
    next: Option<String>,
    json: bool,
    exit: i32,
) -> anyhow::Result<Answer> {
    let report = Report {
        overlays: overlays.into_iter().map(line).collect(),
        store: overlay::store(storage),
        arrays,
        next,
    };
    if json {
        return Answer::json(1, &report, exit);
    }
    Ok(Answer::text(screen(&report), exit))
}

fn line(overlay: Overlay) -> Line {
    let found = overlay.store.as_deref().and_then(|path| differences(path).ok());
    let extents: &[Extent] = found.as_ref().map_or(&[], |found| &found.extents);
    let place = |extent: &Extent| Place { start: extent.start, length: extent.length };
    Line {
        differing: found.as_ref().map(cow::Differences::bytes),
        places: extents.iter().take(PLACES).map(place).collect(),
        places_count: extents.len(),
        overlay,
    }
}

/// The store is a file on a tmpfs: reading it touches no disk.
fn differences(path: &str) -> anyhow::Result<cow::Differences> {
    let file = File::open(path).with_context(|| format!("open {path}"))?;
    let size = file.metadata().with_context(|| format!("look at {path}"))?.len();
    Ok(cow::differences(&Image { file, size })?)
}

fn screen(report: &Report) -> String {
    let left = |title| Column { title, right: false, width: 0 };
    let right = |title| Column { title, right: true, width: 5 };
    let columns = [
        left("Overlay"),
        left("Of"),
        right("Size"),
        right("Differs"),
        right("Memory"),
        right("Room"),
        left("Used by"),
    ];
    let row = |line: &Line| {
        let overlay = &line.overlay;
        let (used, room) = match overlay.room {
            Room::Free { used, limit } => (size(used), size(limit.saturating_sub(used))),
            Room::Full => ("-".to_string(), "full".to_string()),
            Room::Lost => ("-".to_string(), "lost".to_string()),
            Room::Unknown => ("?".to_string(), "?".to_string()),
        };
        vec![
            Untrusted(&overlay.path).to_string(),
            overlay.of.as_ref().map_or("gone".to_string(), |of| Untrusted(of).to_string()),
            size(overlay.size),
            line.differing.map_or_else(|| "?".to_string(), size),
            used,
            room,
            Untrusted(&overlay.used_by.join(", ")).to_string(),
        ]
    };
    let rows: Vec<Vec<String>> = report.overlays.iter().map(row).collect();
    let text = table(&columns, &rows, true);
    let mut out: String = text.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    if let Some(store) = report.store {
        out += &format!("Memory: {} of the {} that overlays may take\n", size(store.used), size(store.limit));
    }
    if !report.arrays.is_empty() {
        out += &format!("Started from them: {}\n", Untrusted(&report.arrays.join(" ")));
    }
    if let Some(next) = &report.next {
        out += &format!("Next: {}\n", Untrusted(next));
    }
    out
}
