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
use model::undo::{Kind, NO_TABLE, find, in_use};
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
    /// Of these devices alone
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
    let is_asked = |saved: &&Saved| args.devices.is_empty() || args.devices.contains(&saved.identity.path);
    let asked: Vec<&Saved> = entry.devices.iter().filter(is_asked).collect();
    let unknown =
        args.devices.iter().find(|path| !entry.devices.iter().any(|one| one.identity.path == **path));
    if let Some(unknown) = unknown {
        bail!("{unknown} is not saved as {}", entry.number);
    }
    let pool = |mount: &Mount| host::sysfs::btrfs_devices(&context.root, &facts.blocks, &mount.source);
    let (mut refused, mut found) = (Vec::new(), Vec::new());
    for saved in asked {
        match find(&facts, &saved.identity).and_then(|block| in_use(&facts, block, &pool).map(|()| block)) {
            Ok(block) => found.push((block, saved)),
            Err(refusal) => refused.push(refusal.to_string()),
        }
    }
    // Before the first window is written, so that nothing is put back in part.
    found.retain(|(block, _)| claim(&context.root, block).map_err(|why| refused.push(why)).is_ok());
    let mut compared = Vec::new();
    for outcome in compare(context, place, &found, args.file_systems)? {
        match outcome {
            Ok(one) => compared.push(one),
            Err(why) => refused.push(why),
        }
    }
    let (steps, opened) = steps(context, &mut compared, &mut refused, typed);
    if !args.json {
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

/// Reads the windows that could be put back, as they are now.
fn compare(
    context: &Context,
    place: &Path,
    found: &[(&Block, &Saved)],
    file_systems: bool,
) -> anyhow::Result<Vec<Result<Compared, String>>> {
    let store = Store::at(Path::new(paths::UNDO));
    let into = store.unfinished()?;
    let own =
        |saved: &Saved| saved.windows.iter().filter(|w| w.kind != Kind::Content).cloned().collect::<Vec<_>>();
    let jobs: Vec<_> = found
        .iter()
        .map(|(block, saved)| {
            let windows: Vec<ondisk::Extent> = own(saved).iter().map(Window::extent).collect();
            job(block, &windows, &into)
        })
        .collect();
    let outcomes = Pool::of(context.root.clone(), SELF).run::<Kept>(&jobs, DEADLINE);
    let mut compared = Vec::new();
    for ((block, saved), outcome) in found.iter().zip(outcomes) {
        let path = block.path();
        compared.push(match outcome {
            Outcome::Done(kept) => File::open(into.join(&block.name))
                .map(|file| compared_to(block, saved, place, &file, &kept, file_systems))
                .map_err(|error| without_errno(&format!("{path}: {error}"))),
            Outcome::Failed(why) | Outcome::NotStarted(why) => Err(without_errno(&format!("{path}: {why}"))),
            Outcome::Hung(why) => Err(why),
        });
    }
    remove(&into).with_context(|| format!("remove {}", into.display()))?;
    Ok(compared)
}

fn compared_to(
    block: &Block,
    saved: &Saved,
    place: &Path,
    file: &File,
    kept: &Kept,
    file_systems: bool,
) -> Compared {
    let there = There::of(&kept.report, saved);
    let state = |window: &Window| {
        let extent = window.extent();
        let is_read = kept.windows.iter().any(|one| one.covers(&extent));
        let now = match digest(file, extent) {
            Ok(sum) if is_read && sum == window.sha256 => Now::Same,
            Ok(_) if is_read && there.yields(window.kind, file_systems) => Now::Differs,
            Ok(_) if is_read => Now::Left,
            Ok(_) | Err(_) => Now::Unreadable,
        };
        State { window: window.clone(), now }
    };
    let windows = saved.windows.iter().filter(|window| window.kind != Kind::Content).map(state).collect();
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
    use model::undo::Identity;
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
            let file = File::open(&path).unwrap();
            let one = compared_to(&block, saved, directory.path(), &file, &kept, file_systems);
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
}
