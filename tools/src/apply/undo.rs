//! What stands on devices is saved before a step writes to them, whichever verb asked for it; and put back. A device
//! that cannot be saved is named, and stops nobody but an undo, which has to be undone itself.

use super::Made;
use super::common::{as_they_were, ask};
use crate::report::without_errno;
use crate::undo::{EACH, Kept, Missed, Saved, Store, digest, remove};
use anyhow::{Context as _, bail, ensure};
use contract::facts::{Block, Facts};
use contract::guard::Extent;
use contract::paths;
use contract::wire::WorkerRequest;
use host::workers::{Job, Outcome, Pool, SELF};
use host::{Act, Root};
use model::plan::{DmLower, Step};
use model::undo::{Kind, concerned, identity, writes};
use ondisk::Geometry;
use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

/// Time for one device to be read, or for one window to be written.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// More devices than that are counted in the one line that says where they are.
const NAMED: usize = 8;

/// Saves what the steps may write to, but for what is in `done` already. The lines say where it is, and what is not saved.
///
/// Errors: what is to be put back cannot be saved.
pub fn save(
    _act: &Act,
    root: &Root,
    verb: &str,
    steps: &[Step],
    done: &mut BTreeSet<String>,
) -> anyhow::Result<Vec<String>> {
    if !steps.iter().any(writes) {
        return Ok(Vec::new());
    }
    let facts = host::sysfs::facts(root);
    let mut wanted = concerned(&facts, steps, &|path| by_path(&facts, path));
    wanted.retain(|(name, _)| done.insert(name.clone()));
    let wanted: Vec<(&Block, Vec<ondisk::Extent>)> = wanted
        .into_iter()
        .filter_map(|(name, windows)| Some((facts.blocks.iter().find(|block| block.name == name)?, windows)))
        .collect();
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let store = Store::at(Path::new(paths::UNDO));
    let taken = store.unfinished().and_then(|into| {
        let (saved, missed) = read(root, &facts, &wanted, &into);
        let answer = told(&saved, &missed);
        let at = host::proc::uptime(root);
        let place = store.take(&into, verb, at, saved, missed.clone()).map(|place| (place, answer, missed));
        // Of what could not be removed, the next command of this process makes a new one.
        remove(&into).context("remove what is left over")?;
        place
    });
    let putting_back = steps.iter().any(|step| matches!(step, Step::PutBack { .. }));
    match taken {
        Ok((place, (names, lines), missed)) => {
            ensure!(
                !putting_back || missed.is_empty(),
                "nothing is put back, since that could not be undone: {}",
                lines.join("; ")
            );
            let saved = format!("as it was before: {} ({names}); rescue undo shows it", place.display());
            Ok((!names.is_empty()).then_some(saved).into_iter().chain(lines).collect())
        }
        Err(error) if putting_back => Err(error.context("save what is there now")),
        Err(error) => {
            let why = without_errno(&format!("{error:#}"));
            Ok(vec![format!("not saved before: {why}; rescue undo --forget N makes room")])
        }
    }
}

fn by_path(facts: &Facts, path: &str) -> Option<String> {
    let named = facts.blocks.iter().find(|block| block.path() == path);
    let found = named.or_else(|| {
        if !path.starts_with('/') {
            return None;
        }
        let host::sysfs::Node::Block { major, minor } = host::sysfs::node(Path::new(path)).ok()? else {
            return None;
        };
        facts.blocks.iter().find(|block| (block.major, block.minor) == (major, minor))
    });
    found.map(|block| block.name.clone())
}

fn geometry(block: &Block) -> Geometry {
    let logical = if block.logical_block == 0 { 512 } else { block.logical_block };
    Geometry { logical, physical: logical }
}

/// The request that saves a device, whose file is named as it is.
pub fn job(block: &Block, windows: &[ondisk::Extent], into: &Path) -> Job {
    let windows = windows.iter().map(|window| Extent { start: window.start, length: window.length });
    let request = WorkerRequest::Save {
        path: block.path(),
        logical_block: geometry(block).logical,
        size: block.size,
        windows: windows.collect(),
        limit: EACH,
        into: into.join(&block.name).to_string_lossy().into_owned(),
    };
    Job { diskseq: block.diskseq, path: block.path(), request }
}

/// Reads them all at once, each with its time.
fn read(
    root: &Root,
    facts: &Facts,
    wanted: &[(&Block, Vec<ondisk::Extent>)],
    into: &Path,
) -> (Vec<Saved>, Vec<Missed>) {
    let jobs: Vec<Job> = wanted.iter().map(|(block, windows)| job(block, windows, into)).collect();
    let outcomes = Pool::of(root.clone(), SELF).run::<Kept>(&jobs, DEADLINE);
    let (mut saved, mut missed) = (Vec::new(), Vec::new());
    for ((block, windows), outcome) in wanted.iter().zip(outcomes) {
        // What is written to by name is its own, whatever is there now.
        let asked: Vec<_> = windows.iter().map(|window| (*window, Kind::Header)).collect();
        let one = match outcome {
            Outcome::Done(kept) => {
                let of =
                    Saved::of(identity(facts, block), geometry(block), &into.join(&block.name), kept, &asked);
                of.map_err(|error| error.to_string())
            }
            Outcome::Failed(why) | Outcome::NotStarted(why) | Outcome::Hung(why) => Err(why),
        };
        let is_whole =
            |one: &Saved| asked.iter().all(|(asked, _)| one.windows.iter().any(|w| w.extent() == *asked));
        let one = one.and_then(|one| match is_whole(&one) {
            true => Ok(one),
            false => Err("what is to be written over cannot be read".to_string()),
        });
        match one {
            Ok(one) => saved.push(one),
            Err(why) => missed.push(Missed { path: block.path(), reason: without_errno(&why) }),
        }
    }
    (saved, missed)
}

/// The devices, in a few words, and a line for each that is not whole.
fn told(saved: &[Saved], missed: &[Missed]) -> (String, Vec<String>) {
    let paths: Vec<&str> = saved.iter().map(|one| one.identity.path.as_str()).collect();
    let names = if paths.len() > NAMED { format!("{} devices", paths.len()) } else { paths.join(", ") };
    let torn = saved.iter().filter(|one| !one.failed.is_empty() || one.beyond > 0).map(|one| {
        let path = &one.identity.path;
        match one.failed.len() {
            0 => format!("not saved of {path}: {} bytes, which are too many", one.beyond),
            reads => format!("not saved of {path}: {reads} places that cannot be read"),
        }
    });
    let missed = missed.iter().map(|one| format!("not saved before: {}: {}", one.path, one.reason));
    (names, torn.chain(missed).collect())
}

/// Whether the kernel would let a window of a device be written. One device after the other: a disk and its partition refuse
/// each other.
///
/// Errors: one line, which names the device.
pub fn claim(root: &Root, block: &Block) -> Result<(), String> {
    let path = block.path();
    let job = Job {
        diskseq: block.diskseq,
        path: path.clone(),
        request: WorkerRequest::Claim { path: path.clone() },
    };
    match ask::<()>(root, job, DEADLINE) {
        Outcome::Done(()) => Ok(()),
        Outcome::Failed(why) | Outcome::NotStarted(why) => Err(without_errno(&why)),
        Outcome::Hung(why) => Err(why),
    }
}

/// Writes a window of a saved device back, by a worker.
pub fn put_back(
    _act: &Act,
    root: &Root,
    path: &str,
    (from, window, sha256): (&str, Extent, &str),
    on: &DmLower,
) -> anyhow::Result<Made> {
    ensure!(on.path == path, "{path} is to be written, and {} was looked at", on.path);
    as_they_were(root, std::slice::from_ref(on), "rescue undo")?;
    let file = File::open(from).with_context(|| format!("open {from}"))?;
    let extent = ondisk::Extent { start: window.start, length: window.length };
    let sum = digest(&file, extent).with_context(|| format!("read {from}"))?;
    ensure!(sum == sha256, "{from} is not what was saved");
    let request =
        WorkerRequest::PutBack { path: path.to_string(), size: on.size, from: from.to_string(), window };
    let job = Job { diskseq: on.diskseq, path: path.to_string(), request };
    match ask::<()>(root, job, DEADLINE) {
        Outcome::Done(()) => Ok(Made::Done),
        Outcome::Failed(why) | Outcome::NotStarted(why) => bail!("{}", without_errno(&why)),
        Outcome::Hung(why) => bail!("{why}"),
    }
}
