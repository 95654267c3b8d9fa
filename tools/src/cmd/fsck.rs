//! `fsck`: finds the checker by what is on the device, and gives it the terminal. What may be checked is
//! `model::fsck`'s to say.

use crate::apply::{self, Door, Made};
use crate::cmd::writable::told;
use crate::report::{Answer, Failure, notice, without_errno};
use crate::scan::Scan;
use crate::tool::Context;
use anyhow::Context as _;
use clap::CommandFactory as _;
use model::foreign::{by_signal, exit};
use model::fsck::{Command, Refusal, Subject, Verdict, copies, lost, mounted, parse, plan, verdict};
use model::mount::{Tag, by_tag};
use model::overlay::{self, Overlay};
use model::plan::Step;
use model::storage::{Device, Storage};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Check file systems, one after the other, by the checker of each.
///
/// Usage: fsck [-n | -p | -y] [-f] [-v] [-C] [-t TYPE] [-N] [-M] [-V] DEVICE... [-- FLAGS]
///
/// The type is probed; -t sets it. -n looks only, and leaves the write guard on. Without
/// it, the guard is taken off exactly the devices below, and a line says so. -p mends what is
/// safe without asking, -y answers yes to everything, -f checks also what is marked
/// clean. All other flags, and those behind --, are the checker's own (-b 32768 of e2fsck, -L
/// of xfs_repair). -N prints the steps, and does nothing.
///
/// xfs is checked by xfs_repair, which mends whatever it finds unless -n is given. btrfs
/// is only looked at; its own --repair mends.
///
/// On a throw-away copy (rescue overlay) it is seen to that all that was written has found its room:
/// where the copy is full, that is trouble, whatever the checker ended with.
///
/// A mounted device, and a member of an array, LVM or LUKS, is refused. The exit status
/// is the sum of: 1 errors mended, 2 reboot, 4 errors left, 8 trouble, 16 usage, 32
/// cancelled. -A, and all else that goes by fstab, is the original's.
///
///     # fsck -y /dev/md2
///     fsck: made writable: /dev/sda3 (Samsung SSD 870, S5Y1NG0R), /dev/sdb3 (...), /dev/md2
///     e2fsck 1.47.2 (1-Jan-2025)
///     /dev/md2: clean, 11/65536 files, 12955/262144 blocks
#[derive(clap::Parser)]
#[command(name = "fsck", disable_version_flag = true, disable_help_flag = true, verbatim_doc_comment)]
struct Args {}

pub fn run(context: &Context, arguments: &[OsString]) -> anyhow::Result<Answer> {
    let words: Option<Vec<String>> = arguments.iter().map(|word| word.to_str().map(str::to_string)).collect();
    if words.iter().flatten().any(|word| word == "--help") {
        let about = Args::command().get_long_about().map(ToString::to_string).unwrap_or_default();
        return Ok(Answer::text(about + "\n", 0));
    }
    let Some(command) = words.as_deref().and_then(parse) else {
        return Ok(Answer::classic(context.name, arguments));
    };
    let typed = apply::typed(context.name, arguments);
    let (mut text, mut status) = (String::new(), exit::SOUND);
    for word in &command.devices {
        match one(context, &command, word, &typed) {
            Ok((said, bits)) => {
                text += &said;
                status |= bits;
            }
            Err(error) => {
                notice(context.name, &format!("{error:#}"));
                status |= error.downcast_ref::<Failure>().map_or(exit::TROUBLE, |failure| failure.exit);
            }
        }
        // Whoever pressed Ctrl-C does not want the next one checked.
        if status & exit::CANCELLED != 0 {
            break;
        }
    }
    Ok(Answer::text(text, status))
}

fn refused(refusal: &Refusal) -> anyhow::Error {
    Failure { exit: exit::TROUBLE, text: refusal.to_string() }.into()
}

fn one(context: &Context, command: &Command, word: &str, typed: &str) -> anyhow::Result<(String, i32)> {
    let (storage, name) = look(context, word)?;
    let device = storage.devices.iter().find(|device| device.block.name == name);
    let device = device.with_context(|| format!("{word} is gone"))?;
    let is_file = device.block.major == 0 && device.block.partition.is_none();
    if command.skip_mounted && mounted(&storage, device).is_some() {
        return Ok((String::new(), exit::SOUND));
    }
    let report;
    let subject = if is_file {
        report = device.report().cloned().unwrap_or_default();
        Subject::File { path: &name, report: &report }
    } else {
        Subject::Device(device)
    };
    let plan = plan(&storage, subject, command, typed).map_err(|refusal| refused(&refusal))?;
    let steps: Vec<Step> = plan.opens.iter().chain([&plan.run]).cloned().collect();
    if command.dry_run {
        return Ok((apply::shown(&steps), exit::SOUND));
    }
    if !is_program(context, plan.checker.program) {
        let program = plan.checker.program.to_string();
        return Err(refused(&Refusal::Missing { program, fstype: what(device) }));
    }
    let mut door = Door::open(context, typed)?;
    door.make_all(&plan.opens)?;
    if !plan.opens.is_empty() {
        notice(context.name, &format!("made writable: {}", told(&storage, &plan.opens, "")));
    }
    if command.verbose {
        notice(context.name, &plan.run.text());
    }
    let copies = if plan.writes && !is_file { copies(&storage, device) } else { Vec::new() };
    let Made::Status(status) = door.make(&plan.run)? else { return Ok((String::new(), exit::TROUBLE)) };
    let lost = arrived(context, device, &copies, word, plan.checker.program);
    let before = device.signature();
    // What it made of it; where it only looked, nothing changed.
    let again = if plan.writes { look(context, word).ok() } else { None };
    let again = again
        .as_ref()
        .and_then(|(storage, name)| storage.devices.iter().find(|device| device.block.name == *name));
    let asked = (status, plan.writes, &command.wish);
    let Verdict { bits, lines } =
        verdict(plan.checker, asked, before, again.and_then(Device::signature), word).but(lost);
    lines.iter().for_each(|line| notice(context.name, line));
    if by_signal(status) == Some(exit::TROUBLE) {
        let signal = status - 128;
        notice(context.name, &format!("{word}: {} was ended by signal {signal}", plan.checker.program));
    }
    Ok((String::new(), bits))
}

/// What did not find its room in the copies that were written to, once all of it had to.
fn arrived(context: &Context, device: &Device, copies: &[Overlay], word: &str, program: &str) -> Vec<String> {
    if copies.is_empty() {
        return Vec::new();
    }
    // What stands on a copy has a page cache of its own.
    let nodes = std::iter::once(&device.path).chain(copies.iter().map(|copy| &copy.node));
    let failed = nodes.filter_map(|node| {
        let error = host::device::sync(Path::new(node)).err()?;
        Some(without_errno(&format!("{node}: {error}")))
    });
    let failed: Vec<String> = failed.collect();
    let now = overlay::list(&Scan::begin(context).examine(|_| false));
    lost(copies, &now, failed.first().map(String::as_str), word, program)
}

fn what(device: &Device) -> String {
    device.signature().map_or_else(|| "it".to_string(), |signature| signature.format.clone())
}

/// The device that a word of fsck(8) means: a path, a tag, a mount point; and what is on it.
fn look(context: &Context, word: &str) -> anyhow::Result<(Storage, String)> {
    let mut scan = Scan::begin(context);
    let word = if Path::new(word).is_dir() { of_directory(context, &scan, word)? } else { word.to_string() };
    let path = match Tag::parse(&word) {
        Some((Tag::Id, id)) => PathBuf::from(format!("/dev/disk/by-id/{id}")),
        Some((tag, value)) => {
            let storage = scan.examine(|_| true);
            let device = by_tag(&storage, tag, value).map_err(|refusal| refused(&Refusal::Other(refusal)))?;
            let name = device.block.name.clone();
            return Ok((storage, name));
        }
        None => PathBuf::from(&word),
    };
    let path = if path.is_file() { std::fs::canonicalize(&path).unwrap_or(path) } else { path };
    let name = scan.resolve(&path)?;
    let storage = scan.examine_with_disks(|block| block.name == name);
    let found = storage.devices.iter().find(|device| device.block.name == name).and_then(Device::signature);
    // It may be on several devices, or its journal on another.
    let is_spread = |found: &ondisk::Signature| found.format == "btrfs" || found.journal_on.is_some();
    if found.is_some_and(is_spread) && !path.is_file() {
        return Ok((Scan::begin(context).examine(|_| true), name));
    }
    Ok((storage, name))
}

/// What is mounted there, or would be by fstab.
fn of_directory(context: &Context, scan: &Scan, word: &str) -> anyhow::Result<String> {
    let target = std::fs::canonicalize(word).with_context(|| word.to_string())?;
    let is = |other: &str| Path::new(other) == target;
    let mount = scan.facts.mounts.iter().rev().find(|mount| is(&mount.target));
    let entries = host::fstab::read(&context.root);
    let entry = entries.iter().find(|entry| is(&entry.target));
    let source = mount.map(|mount| &mount.source).or(entry.map(|entry| &entry.source));
    source.cloned().with_context(|| {
        format!("{word} is a directory, and neither mounted nor in /etc/fstab: name the device")
    })
}

fn is_program(context: &Context, name: &str) -> bool {
    let path = context.environment.get(std::ffi::OsStr::new("PATH"));
    path.is_some_and(|path| std::env::split_paths(path).any(|directory| directory.join(name).is_file()))
}
