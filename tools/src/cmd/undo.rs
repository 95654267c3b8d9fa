//! `rescue undo`: what commands that write saved before (`apply::undo`), and putting it back.

use crate::apply::undo::{DEADLINE, claim, job};
use crate::apply::{self, Door};
use crate::report::{Answer, notice, without_errno};
use crate::scan::Scan;
use crate::tool::{Context, verb};
use crate::undo::{Entry, Kept, Saved, Store, Window, digest, remove};
use anyhow::{Context as _, bail, ensure};
use contract::facts::{Block, Mount};
use contract::{exit, guard, paths};
use host::workers::{Outcome, Pool, SELF};
use model::consent;
use model::plan::{DmLower, Step};
use model::text::{Untrusted, size};
use model::undo::{Found, Identity, Kind, NO_TABLE, Refusal, find, fits, in_use};
use ondisk::{DiskReport, Signature, Usage};
use serde::Serialize;
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};

/// What tables, headers and superblocks were before a command wrote to their devices, and puts them back.
///
/// Every command of ours that may write (mount, fsck, rescue assemble --rw, rescue open --rw, rescue
/// writable) saves them first, below /run/lifeboat/undo: of each device the partition table, or the
/// superblocks of RAID, LVM and file systems, or the header of LUKS with its keys; in memory, 64 MiB in all.
/// What was saved first is kept; when the room is used up, commands say that nothing is saved, and go
/// on: --forget N makes room.
///
/// --save does the same for a program of your own: rescue undo --save /dev/sda; sfdisk /dev/sda.
///
/// Without N: what is saved. N --dry-run: which windows differ now, and the steps. N: puts those back,
/// after what is there now was saved too, so that an undo can be undone. A device that is in use, or is
/// another one than was saved, is refused. What was in files is not undone: the superblock of a file
/// system that is there now is left as it is, unless --file-systems says otherwise; fsck it then. So is
/// what was made since on a device that was blank; of LUKS, LVM and RAID whatever the flags. Blank is what
/// is zeros: bytes in which nothing was recognised, like those of a VeraCrypt volume, are put back over
/// anything. With DEVICE, the status is not 0 where something of it was left.
///
///     # rescue undo
///     N  SINCE BOOT  COMMAND                   DEVICES
///     1  0:12:07     rescue writable /dev/sda  /dev/sda, /dev/sda1
///     Next: rescue undo 1 --dry-run
///     # rescue undo 1
///     /dev/sda   gpt table     0+17408           put back
///     /dev/sda   gpt table     536854016+16896   put back
///     /dev/sda1  LVM metadata  7.0K              as it was
///     Next: blockdev --rereadpt /dev/sda
#[derive(clap::Parser)]
#[command(name = "rescue undo", disable_version_flag = true, verbatim_doc_comment)]
struct Args {
    /// As JSON, schema 1: what is saved; with N and --dry-run, what differs
    #[arg(long)]
    json: bool,
    /// Show what differs now and what would be done, and do nothing
    #[arg(long, requires = "number")]
    dry_run: bool,
    /// Put back superblocks of file systems that are there now, too
    #[arg(long, requires = "number")]
    file_systems: bool,
    /// Throw away what was saved as N
    #[arg(long, value_name = "N", conflicts_with = "number")]
    forget: Option<u64>,
    /// Save what stands on these devices now, before a program of your own writes to them
    #[arg(long, value_name = "DEVICE", num_args = 1.., conflicts_with_all = ["number", "forget", "json"])]
    save: Vec<PathBuf>,
    #[arg(value_name = "N")]
    number: Option<u64>,
    /// Of these devices alone; of several that are alike, which it is now
    #[arg(value_name = "DEVICE")]
    devices: Vec<String>,
}

pub fn run(context: &Context, arguments: &[OsString]) -> anyhow::Result<Answer> {
    let args: Args = match verb(context, arguments)? {
        Ok(args) => args,
        Err(answer) => return Ok(answer),
    };
    let store = Store::at(Path::new(paths::UNDO));
    if let Some(number) = args.forget {
        let (place, _) = entry(&store, number)?;
        remove(&place).with_context(|| format!("remove {}", place.display()))?;
        return Ok(Answer::exit(exit::YES));
    }
    if !args.save.is_empty() {
        let mut scan = Scan::begin(context);
        let names = args.save.iter().map(|path| scan.resolve(path)).collect::<anyhow::Result<Vec<_>>>()?;
        let known = scan.facts.blocks.iter().filter(|block| block.major != 0 && names.contains(&block.name));
        let paths: Vec<String> = known.map(Block::path).collect();
        ensure!(!paths.is_empty(), "there is no device among them, and files are yours to copy");
        let typed = apply::typed(context.name, arguments);
        Door::open(context, &typed)?.make(&Step::Save { paths })?;
        return Ok(Answer::exit(exit::YES));
    }
    match args.number {
        None => list(&store, args.json),
        Some(number) => {
            ensure!(
                args.dry_run || !args.json,
                "--json shows what differs: rescue undo {number} --dry-run --json"
            );
            let (place, entry) = entry(&store, number)?;
            undo(context, &args, (&place, &entry), &apply::typed(context.name, arguments))
        }
    }
}

fn entry(store: &Store, number: u64) -> anyhow::Result<(std::path::PathBuf, Entry)> {
    let found = store.entries().into_iter().find(|(_, entry)| entry.number == number);
    found.with_context(|| format!("nothing is saved as {number}: rescue undo lists what is"))
}

fn list(store: &Store, json: bool) -> anyhow::Result<Answer> {
    #[derive(Serialize)]
    struct List {
        entries: Vec<Entry>,
    }
    let entries: Vec<Entry> = store.entries().into_iter().map(|(_, entry)| entry).collect();
    let status = if entries.is_empty() { exit::NO } else { exit::YES };
    if json {
        return Answer::json(1, &List { entries }, status);
    }
    let Some(last) = entries.last() else {
        return Ok(Answer::text(
            "Nothing is saved: no command has written to a device.\n".to_string(),
            status,
        ));
    };
    let row = |entry: &Entry| {
        let devices: Vec<&str> = entry.devices.iter().map(|one| one.identity.path.as_str()).collect();
        let missed = entry.missed.iter().map(|one| format!("without {}", one.path));
        let devices: Vec<String> = devices.into_iter().map(str::to_string).chain(missed).collect();
        [entry.number.to_string(), clock(entry.at), entry.by.clone(), devices.join(", ")]
    };
    let head = ["N", "SINCE BOOT", "COMMAND", "DEVICES"].map(str::to_string);
    let rows: Vec<[String; 4]> = std::iter::once(head).chain(entries.iter().map(row)).collect();
    Ok(Answer::text(format!("{}Next: rescue undo {} --dry-run\n", columns(&rows), last.number), status))
}

fn clock(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Left-aligned, two blanks between them.
fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let rows: Vec<[String; N]> =
        rows.iter().map(|row| std::array::from_fn(|i| Untrusted(&row[i]).to_string())).collect();
    let width = |i: usize| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_string() + "\n"
    };
    rows.iter().map(line).collect()
}

/// What a saved window is on the device now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Now {
    Same,
    Differs,
    /// Differs, and is not put back: a file system is there, or what was made on a blank device.
    Left,
    Unreadable,
}

impl Now {
    fn words(self, done: bool, one: &Compared) -> String {
        match self {
            Now::Same => "as it was".to_string(),
            Now::Differs if done => "put back".to_string(),
            Now::Differs => "differs".to_string(),
            Now::Left => format!("differs, and is left: {}", one.there.words(&one.now)),
            Now::Unreadable => "cannot be read now, and is left".to_string(),
        }
    }
}

/// What is on a device now, and may be more to a person than what was saved of it.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
struct There {
    /// As the probes call them.
    formats: Vec<String>,
    /// One of them locks or holds the data of others: a superblock of LUKS, LVM or RAID.
    #[serde(skip)]
    holds: bool,
    /// Zeros were saved. Bytes in which nothing was recognised may be the only header of what has no signature.
    #[serde(skip)]
    was_blank: bool,
}

impl There {
    fn of(report: &DiskReport, saved: &Saved) -> There {
        let holds =
            |found: &Signature| matches!(found.usage, Usage::Raid | Usage::Crypto) || found.volume.is_some();
        let mut tables = saved.windows.iter().filter(|window| window.kind == Kind::Table);
        There {
            formats: report.signatures.iter().map(|found| found.format.clone()).collect(),
            holds: report.signatures.iter().any(holds),
            was_blank: saved.what == NO_TABLE && tables.all(Window::is_zeros),
        }
    }

    /// Whether a window that differs is put back over it.
    fn yields(&self, kind: Kind, file_systems: bool) -> bool {
        // Where nothing is left, nothing is lost.
        if self.formats.is_empty() {
            return true;
        }
        match kind {
            Kind::FileSystem => file_systems,
            // Zeros, which bring nothing back. The header of a lock is its keys: no flag about file systems speaks of it.
            Kind::Table if self.was_blank => file_systems && !self.holds,
            Kind::Table | Kind::Header | Kind::Content => true,
        }
    }

    /// `path`: where the device is now.
    fn words(&self, path: &str) -> String {
        if !self.was_blank {
            return "a file system is there now (--file-systems)".to_string();
        }
        let way = if self.holds { format!("wipefs -a {path}") } else { "--file-systems".to_string() };
        format!("nothing was there, and {} is now ({way})", self.formats.join(" and "))
    }
}

#[derive(Debug, Serialize)]
struct Compared {
    path: String,
    /// Where it is now.
    now: String,
    what: String,
    /// What is recognised on it now.
    there: There,
    windows: Vec<State>,
    #[serde(skip)]
    on: Option<DmLower>,
    #[serde(skip)]
    file: String,
}

#[derive(Debug, Serialize)]
struct State {
    #[serde(flatten)]
    window: Window,
    now: Now,
}

#[derive(Serialize)]
struct Report {
    number: u64,
    devices: Vec<Compared>,
    refused: Vec<String>,
}

fn undo(
    context: &Context,
    args: &Args,
    (place, entry): (&Path, &Entry),
    typed: &str,
) -> anyhow::Result<Answer> {
    let facts = host::sysfs::facts(&context.root);
    // As it is listed, or as it is called now.
    let is_listed = |path: &String| entry.devices.iter().any(|one| one.identity.path == *path);
    let is_named = |saved: &Saved, path: &String| match is_listed(path) {
        true => saved.identity.path == *path,
        false => fits(&facts, &saved.identity).iter().any(|block| block.path() == *path),
    };
    let is_asked =
        |saved: &&Saved| args.devices.is_empty() || args.devices.iter().any(|path| is_named(saved, path));
    let asked: Vec<&Saved> = entry.devices.iter().filter(is_asked).collect();
    let unknown = args.devices.iter().find(|path| !entry.devices.iter().any(|saved| is_named(saved, path)));
    if let Some(unknown) = unknown {
        bail!("{unknown} is not saved as {}", entry.number);
    }
    let pool = |mount: &Mount| host::sysfs::btrfs_devices(&context.root, &facts.blocks, &mount.source);
    let (mut refused, mut found) = (Vec::new(), Vec::new());
    let beside: Vec<&Identity> = entry.devices.iter().map(|saved| &saved.identity).collect();
    let is_free = |found: &Found| {
        let mut all = std::iter::once(&found.block).chain(&found.paths);
        all.try_for_each(|block| in_use(&facts, block, &pool))
    };
    for saved in asked {
        let one = find(&facts, &saved.identity, &beside, &args.devices);
        match one.and_then(|one| is_free(&one).map(|()| one)) {
            Ok(one) => found.push((one, saved)),
            Err(refusal) => refused.push(refusal.to_string()),
        }
    }
    let mut found = one_for_each(found, &mut refused);
    // Before the first window is written, so that nothing is put back in part.
    found.retain(|(one, _)| {
        let claimed = looked_at(one).try_for_each(|block| claim(&context.root, block));
        claimed.map_err(|why| refused.push(why)).is_ok()
    });
    let mut compared = Vec::new();
    for outcome in compare(context, place, &found, args.file_systems)? {
        match outcome {
            Ok(one) => compared.push(one),
            Err(why) => refused.push(why),
        }
    }
    let (steps, opened) = steps(context, &mut compared, &mut refused, typed);
    if !args.json {
        for (one, saved) in found.iter().filter(|(one, _)| one.is_any) {
            if compared.iter().any(|compared| compared.path == saved.identity.path) {
                let wwid = saved.identity.wwid.as_deref().unwrap_or_default();
                let all = names(one);
                notice(
                    context.name,
                    &format!(
                        "{all} are paths to one drive ({wwid}), which is looked at as {}",
                        one.block.path()
                    ),
                );
            }
        }
        refused.iter().for_each(|why| notice(context.name, why));
    }
    let exit = status(&compared, &refused, !args.devices.is_empty());
    if args.json {
        return Answer::json(1, &Report { number: entry.number, devices: compared, refused }, exit);
    }
    if !args.dry_run && !steps.is_empty() {
        let mut door = Door::open(context, typed)?;
        let made = door.make_all(&steps);
        // Nothing that follows needs the device writable.
        for step in opened.iter().rev().filter_map(Step::inverse) {
            if let Err(error) = door.make(&step) {
                notice(context.name, &format!("{error:#}"));
            }
        }
        made.context("it is put back in part: rescue undo lists what was there before")?;
    }
    let mut text = shown(&compared, !args.dry_run);
    if args.dry_run {
        text += &apply::shown(&steps);
    } else if let Some(next) = next(&compared) {
        text += &format!("Next: {next}\n");
    }
    Ok(Answer::text(text, exit))
}

/// `is_named`: the devices were named by a person, who wants them back: what is left of them is not done.
fn status(compared: &[Compared], refused: &[String], is_named: bool) -> i32 {
    let any = |one: &Compared, of: &[Now]| one.windows.iter().any(|state| of.contains(&state.now));
    let falls_short = |one: &&Compared| is_named && any(one, &[Now::Left, Now::Unreadable]);
    let is_done = |one: &Compared| !falls_short(&one) || any(one, &[Now::Differs]);
    match (refused.is_empty() && !compared.iter().any(|one| falls_short(&one)), compared.iter().any(is_done))
    {
        (true, _) => exit::YES,
        (false, true) => exit::PARTLY,
        (false, false) => exit::TROUBLE,
    }
}

/// The device that is written to, and with it those that have to read alike.
fn looked_at<'a>(one: &Found<'a>) -> impl Iterator<Item = &'a Block> {
    let others: &[&Block] = if one.is_any { &one.paths } else { &[] };
    std::iter::once(one.block).chain(others.to_vec())
}

fn names(one: &Found) -> String {
    looked_at(one).map(Block::path).collect::<Vec<_>>().join(" and ")
}

/// Leaves out a device that is found for two that were saved: once where they were saved as one, which paths to one drive
/// are, and altogether where nothing tells which of them it is.
fn one_for_each<'a>(
    found: Vec<(Found<'a>, &'a Saved)>,
    refused: &mut Vec<String>,
) -> Vec<(Found<'a>, &'a Saved)> {
    let may_be_one = |a: &Found, b: &Found| a.may_be(b.block) || b.may_be(a.block);
    let (mut left, mut torn) = (Vec::new(), Vec::new());
    for (index, (one, saved)) in found.iter().enumerate() {
        let others =
            found.iter().enumerate().filter(|(other, (two, _))| *other != index && may_be_one(one, two));
        let others: Vec<(usize, &Saved)> = others.map(|(other, (_, saved))| (other, *saved)).collect();
        if let Some((_, other)) = others.iter().find(|(_, other)| other.windows != saved.windows) {
            let [path, other] = [&saved.identity.path, &other.identity.path];
            torn.push(format!(
                "{} may be {path} or {other} as they were saved, and nothing tells which; name the one as it was saved: rescue undo N {path}",
                names(one)
            ));
        } else if others.iter().all(|(other, _)| *other > index) {
            left.push((one.clone(), *saved));
        }
    }
    refused.append(&mut torn);
    left
}

/// Reads the windows that could be put back, as they are now.
fn compare(
    context: &Context,
    place: &Path,
    found: &[(Found, &Saved)],
    file_systems: bool,
) -> anyhow::Result<Vec<Result<Compared, String>>> {
    let store = Store::at(Path::new(paths::UNDO));
    let into = store.unfinished()?;
    // Each device once, whose file is named as it is.
    let mut wanted: Vec<(&Block, Vec<ondisk::Extent>)> = Vec::new();
    for (one, saved) in found {
        for block in looked_at(one) {
            let windows = own(saved).map(Window::extent);
            match wanted.iter_mut().find(|(other, _)| other.name == block.name) {
                Some((_, known)) => known.extend(windows),
                None => wanted.push((block, windows.collect())),
            }
        }
    }
    let jobs: Vec<_> = wanted.iter().map(|(block, windows)| job(block, windows, &into)).collect();
    let outcomes = Pool::of(context.root.clone(), SELF).run::<Kept>(&jobs, DEADLINE);
    let looks: Vec<(&Block, Result<Look, String>)> = wanted
        .iter()
        .zip(outcomes)
        .map(|((block, _), outcome)| {
            let path = block.path();
            let look = match outcome {
                Outcome::Done(kept) => File::open(into.join(&block.name))
                    .map(|file| Look { file, kept })
                    .map_err(|error| without_errno(&format!("{path}: {error}"))),
                Outcome::Failed(why) | Outcome::NotStarted(why) => {
                    Err(without_errno(&format!("{path}: {why}")))
                }
                Outcome::Hung(why) => Err(why),
            };
            (*block, look)
        })
        .collect();
    let look = |block: &Block| {
        let look = looks.iter().find(|(other, _)| other.name == block.name);
        look.map_or_else(
            || Err(format!("{} is gone", block.path())),
            |(_, look)| look.as_ref().map_err(String::clone),
        )
    };
    let compared = found.iter().map(|(one, saved)| {
        let first = look(one.block)?;
        for block in looked_at(one).skip(1) {
            let all = names(one);
            let other = look(block).map_err(|why| {
                format!("{why}: whether {all} are paths to one drive is not seen; name the one: rescue undo N DEVICE")
            })?;
            if !reads_alike(saved, first, other) {
                let wwid = saved.identity.wwid.clone().unwrap_or_default();
                return Err(Refusal::Differ { all, wwid }.to_string());
            }
        }
        Ok(compared_to(one.block, saved, place, first, file_systems))
    });
    let compared = compared.collect();
    remove(&into).with_context(|| format!("remove {}", into.display()))?;
    Ok(compared)
}

/// What was read of a device now.
struct Look {
    file: File,
    kept: Kept,
}

impl Look {
    /// `None`: it could not be read.
    fn digest(&self, window: &Window) -> Option<String> {
        let extent = window.extent();
        let is_read = self.kept.windows.iter().any(|one| one.covers(&extent));
        digest(&self.file, extent).ok().filter(|_| is_read)
    }
}

/// The windows that may be put back.
fn own(saved: &Saved) -> impl Iterator<Item = &Window> {
    saved.windows.iter().filter(|window| window.kind != Kind::Content)
}

/// Whether two devices may be two paths to one, as far as what was saved of it goes.
fn reads_alike(saved: &Saved, one: &Look, other: &Look) -> bool {
    own(saved).all(|window| {
        let sum = one.digest(window);
        sum.is_some() && sum == other.digest(window)
    })
}

fn compared_to(block: &Block, saved: &Saved, place: &Path, look: &Look, file_systems: bool) -> Compared {
    let there = There::of(&look.kept.report, saved);
    let state = |window: &Window| {
        let now = match look.digest(window) {
            Some(sum) if sum == window.sha256 => Now::Same,
            Some(_) if there.yields(window.kind, file_systems) => Now::Differs,
            Some(_) => Now::Left,
            None => Now::Unreadable,
        };
        State { window: window.clone(), now }
    };
    let windows = own(saved).map(state).collect();
    Compared {
        path: saved.identity.path.clone(),
        now: block.path(),
        what: saved.what.clone(),
        there,
        windows,
        on: Some(DmLower::of(block.path(), block)),
        file: place.join(&saved.file).to_string_lossy().into_owned(),
    }
}

/// What puts back all that differs, and of these steps those that take the guard off. A device that cannot be made
/// writable is taken out.
fn steps(
    context: &Context,
    compared: &mut Vec<Compared>,
    refused: &mut Vec<String>,
    typed: &str,
) -> (Vec<Step>, Vec<Step>) {
    let storage = Scan::begin(context).examine(|_| false);
    let (mut opens, mut writes): (Vec<Step>, Vec<Step>) = (Vec::new(), Vec::new());
    compared.retain(|one| {
        let differing: Vec<&State> = one.windows.iter().filter(|state| state.now == Now::Differs).collect();
        let (Some(on), false) = (&one.on, differing.is_empty()) else { return true };
        let Some(device) = storage.by_path(&one.now) else {
            refused.push(format!("{} is gone", one.now));
            return false;
        };
        match consent::all_writable(&storage, &device.id, typed) {
            Ok(steps) => {
                for step in steps {
                    if !opens.contains(&step) {
                        opens.push(step);
                    }
                }
            }
            Err(refusal) => {
                refused.push(refusal.to_string());
                return false;
            }
        }
        writes.extend(differing.into_iter().map(|state| Step::PutBack {
            path: one.now.clone(),
            from: one.file.clone(),
            window: guard::Extent { start: state.window.start, length: state.window.length },
            sha256: state.window.sha256.clone(),
            on: on.clone(),
        }));
        true
    });
    (opens.iter().cloned().chain(writes).collect(), opens)
}

fn shown(compared: &[Compared], done: bool) -> String {
    let mut rows = Vec::new();
    for one in compared {
        let differing = one.windows.iter().filter(|state| state.now != Now::Same);
        let differing: Vec<&State> = differing.collect();
        let path =
            if one.now == one.path { one.path.clone() } else { format!("{} (was {})", one.now, one.path) };
        if differing.is_empty() {
            let saved: u64 = one.windows.iter().map(|state| state.window.length).sum();
            rows.push([path, one.what.clone(), size(saved), Now::Same.words(done, one)]);
            continue;
        }
        rows.extend(differing.into_iter().map(|state| {
            let place = format!("{}+{}", state.window.start, state.window.length);
            [path.clone(), one.what.clone(), place, state.now.words(done, one)]
        }));
    }
    columns(&rows)
}

/// The kernel knows nothing of a table that was put back.
fn next(compared: &[Compared]) -> Option<String> {
    let is_table = |one: &&Compared| {
        one.windows.iter().any(|state| state.now == Now::Differs && state.window.kind == Kind::Table)
    };
    let paths: Vec<&str> = compared.iter().filter(is_table).map(|one| one.now.as_str()).collect();
    (!paths.is_empty()).then(|| format!("blockdev --rereadpt {}", paths.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Output, fenced, spelt};
    use crate::undo::{EACH, keep};
    use contract::text::steers;
    use ondisk::Geometry;

    #[test]
    fn what_is_saved_is_listed_with_no_text_that_steers_a_terminal() {
        let hostile = "\x1b[31mred\na\u{202e}\u{9b}2J\u{2028}\u{10ff9b}".to_string();
        let directory = tempfile::tempdir().unwrap();
        let store = Store::at(directory.path());
        let into = store.unfinished().unwrap();
        let missed = vec![crate::undo::Missed { path: hostile.clone(), reason: hostile.clone() }];
        let identity =
            Identity { path: hostile.clone(), model: Some(hostile.clone()), ..Identity::default() };
        let saved = Saved {
            identity,
            logical_block: 512,
            file: "sda".to_string(),
            what: hostile.clone(),
            windows: Vec::new(),
            failed: Vec::new(),
            beyond: 0,
        };
        std::fs::write(into.join("sda"), "").unwrap();
        store.take(&into, &format!("mount {hostile}"), 1.0, vec![saved], missed).unwrap();
        let steering = |c: char| steers(c) && c != '\n';
        let Output::Text(text) = list(&store, false).unwrap().output else { panic!() };
        assert!(!fenced(&text).contains(steering) && text.lines().count() == 3, "{text:?}");
        let Output::Json(text) = list(&store, true).unwrap().output else { panic!() };
        assert!(!spelt(&text).contains(|c| steering(c) && contract::text::raw_byte(c).is_none()), "{text:?}");
    }

    #[test]
    fn nothing_is_put_back_over_what_was_made_on_a_blank_device() {
        const SIZE: usize = 4 << 20;
        let identity = Identity { path: "/dev/sdb".to_string(), size: SIZE as u64, ..Identity::default() };
        let block = Block { name: "sdb".to_string(), major: 8, size: SIZE as u64, ..Block::default() };
        let directory = tempfile::tempdir().unwrap();
        let head = ondisk::Extent { start: 0, length: 4096 };
        let look = |name: &str, bytes: &Vec<u8>| {
            let path = directory.path().join(name);
            let kept = keep(bytes, Geometry::default(), &[head], EACH, &path).unwrap();
            (kept, path)
        };
        let saved_of = |asked: &[(ondisk::Extent, Kind)], bytes: &Vec<u8>| {
            let (kept, path) = look("sdb", bytes);
            Saved::of(identity.clone(), Geometry::default(), &path, kept, asked).unwrap()
        };
        let blank = saved_of(&[], &vec![0; SIZE]);
        // A volume that is locked from its first byte on; of a head that was wiped, the copy at the end.
        let locked = saved_of(&[], &vec![0xa5; SIZE]);
        let mut tail = vec![0; SIZE];
        tail[SIZE - 1] = 0xa5;
        let tail = saved_of(&[], &tail);
        // What an undo wrote over is its own, and is undone.
        let undone = saved_of(&[(head, Kind::Header)], &vec![0; SIZE]);
        let found = |usage: Usage, format: &str| vec![Signature::new(format, usage, 0)];
        let luks = || found(Usage::Crypto, "crypto_LUKS");
        let pv = || found(Usage::Raid, "LVM2_member");
        let cases = [
            ("LUKS", luks(), &blank, false, Now::Left, "crypto_LUKS is now (wipefs -a /dev/sdb)\n"),
            (
                "LUKS, with the flag",
                luks(),
                &blank,
                true,
                Now::Left,
                "crypto_LUKS is now (wipefs -a /dev/sdb)\n",
            ),
            ("a PV", pv(), &blank, true, Now::Left, "(wipefs -a /dev/sdb)\n"),
            (
                "a member",
                found(Usage::Raid, "linux_raid_member"),
                &blank,
                false,
                Now::Left,
                "linux_raid_member is",
            ),
            ("xfs", found(Usage::Filesystem, "xfs"), &blank, false, Now::Left, "xfs is now (--file-systems)"),
            ("xfs, with the flag", found(Usage::Filesystem, "xfs"), &blank, true, Now::Differs, "put back"),
            ("swap", found(Usage::Other, "swap"), &blank, false, Now::Left, "swap is now (--file-systems)"),
            ("a table", Vec::new(), &blank, false, Now::Differs, "put back"),
            ("a PV over what is locked", pv(), &locked, false, Now::Differs, "put back"),
            ("a PV where a copy was at the end", pv(), &tail, false, Now::Differs, "put back"),
            ("what an undo wrote", luks(), &undone, false, Now::Differs, "put back"),
        ];
        for (label, signatures, saved, file_systems, want, words) in cases {
            let mut now = vec![0; SIZE];
            now[..SIZE / 2].fill(7);
            let (mut kept, path) = look("now", &now);
            kept.report = DiskReport { signatures, ..DiskReport::default() };
            let look = Look { file: File::open(&path).unwrap(), kept };
            let one = compared_to(&block, saved, directory.path(), &look, file_systems);
            let first = one.windows.iter().find(|state| state.window.start == 0).unwrap();
            assert_eq!(first.now, want, "{label}");
            let text = shown(&[one], true);
            assert!(text.contains(words), "{label}: {text}");
        }
    }

    #[test]
    fn what_was_named_and_is_left_is_not_done() {
        let compared = |states: &[Now]| {
            let window = || Window { start: 0, length: 512, kind: Kind::Table, sha256: String::new() };
            let there = There { formats: Vec::new(), holds: true, was_blank: true };
            let (path, now) = ("/dev/sda".to_string(), "/dev/sda".to_string());
            let windows = states.iter().map(|now| State { window: window(), now: *now }).collect();
            Compared { path, now, what: String::new(), there, windows, on: None, file: String::new() }
        };
        let refusal = || vec!["/dev/sdb is gone".to_string()];
        use Now::{Differs, Left, Same, Unreadable};
        let cases = [
            ("left", vec![compared(&[Left])], vec![], true, exit::TROUBLE),
            ("left, and not named", vec![compared(&[Left])], vec![], false, exit::YES),
            ("left, beside what was not touched", vec![compared(&[Left, Same])], vec![], true, exit::TROUBLE),
            ("unreadable", vec![compared(&[Unreadable])], vec![], true, exit::TROUBLE),
            ("left, beside what is put back", vec![compared(&[Left, Differs])], vec![], true, exit::PARTLY),
            ("and on another", vec![compared(&[Left]), compared(&[Differs])], vec![], true, exit::PARTLY),
            ("put back", vec![compared(&[Differs, Same])], vec![], true, exit::YES),
            ("as it was", vec![compared(&[Same])], vec![], true, exit::YES),
            ("refused", vec![], refusal(), true, exit::TROUBLE),
            ("refused beside what is put back", vec![compared(&[Differs])], refusal(), false, exit::PARTLY),
        ];
        for (label, compared, refused, is_named, want) in cases {
            assert_eq!(status(&compared, &refused, is_named), want, "{label}");
        }
    }

    #[test]
    fn paths_to_one_drive_read_alike_and_drives_do_not() {
        const SIZE: usize = 4 << 20;
        let directory = tempfile::tempdir().unwrap();
        let filled = |at: usize| {
            let mut bytes = vec![0xa5; SIZE];
            bytes[at] = 1;
            bytes
        };
        let failed = [ondisk::FailedRead { start: 0, length: 512, error: "EIO".to_string() }];
        let whole = filled(SIZE / 2);
        let torn = ondisk::window::Failing { source: &whole, failed: &failed };
        let cases: [(&str, &dyn ondisk::ReadAt, bool); 4] = [
            ("another path", &whole, true),
            ("what moved on where nothing is put back", &filled(SIZE / 2 + 1), true),
            ("another head", &filled(1000), false),
            ("one that cannot be read", &torn, false),
        ];
        let look = |name: &str, device: &dyn ondisk::ReadAt| {
            let path = directory.path().join(name);
            let kept = keep(device, Geometry::default(), &[], EACH, &path).unwrap();
            (path, kept)
        };
        let opened = |(path, kept): (PathBuf, Kept)| Look { file: File::open(&path).unwrap(), kept };
        let identity = Identity { path: "/dev/sda".to_string(), size: SIZE as u64, ..Identity::default() };
        let (path, kept) = look("saved", &whole);
        let saved = Saved::of(identity, Geometry::default(), &path, kept, &[]).unwrap();
        let one = opened(look("sdc", &whole));
        for (label, device, want) in cases {
            let other = opened(look("sdd", device));
            assert_eq!(reads_alike(&saved, &one, &other), want, "{label}");
            assert_eq!(reads_alike(&saved, &other, &one), want, "{label}, the other way round");
        }
    }

    #[test]
    fn one_device_is_not_written_to_as_two_that_were_saved() {
        let disk = |name: &str| Block { name: name.to_string(), major: 8, ..Block::default() };
        let (sdc, sdd) = (disk("sdc"), disk("sdd"));
        let saved = |path: &str, sha256: &str| Saved {
            identity: Identity { path: path.to_string(), ..Identity::default() },
            logical_block: 512,
            file: String::new(),
            what: String::new(),
            windows: vec![Window { start: 0, length: 512, kind: Kind::Table, sha256: sha256.to_string() }],
            failed: Vec::new(),
            beyond: 0,
        };
        let (sda, alike, other) = (saved("/dev/sda", "a"), saved("/dev/sdb", "a"), saved("/dev/sdb", "b"));
        let alone = |block| Found { block, paths: Vec::new(), is_any: false };
        let any = |block, path| Found { block, paths: vec![path], is_any: true };
        let told = |block, path| Found { block, paths: vec![path], is_any: false };
        let cases = [
            ("two devices", [(alone(&sdc), &sda), (alone(&sdd), &other)], "/dev/sda /dev/sdb", 0),
            ("the last of two of a kind", [(alone(&sdc), &sda), (alone(&sdc), &other)], "", 2),
            (
                "paths that were saved as one",
                [(any(&sdc, &sdd), &sda), (any(&sdc, &sdd), &alike)],
                "/dev/sda",
                0,
            ),
            (
                "and of which one was left",
                [(any(&sdc, &sdd), &sda), (told(&sdd, &sdc), &alike)],
                "/dev/sda",
                0,
            ),
            ("and were not saved as one", [(any(&sdc, &sdd), &sda), (told(&sdd, &sdc), &other)], "", 2),
            (
                "paths that were both left",
                [(told(&sdc, &sdd), &sda), (told(&sdd, &sdc), &alike)],
                "/dev/sda /dev/sdb",
                0,
            ),
        ];
        for (label, found, want, torn) in cases {
            let mut refused = Vec::new();
            let left = one_for_each(found.to_vec(), &mut refused);
            let left: Vec<&str> = left.iter().map(|(_, saved)| saved.identity.path.as_str()).collect();
            assert_eq!((left.join(" ").as_str(), refused.len()), (want, torn), "{label}: {refused:?}");
        }
    }
}
