//! `rescue open` and `rescue close`: locked devices (LUKS, BitLocker, TrueCrypt), through cryptsetup. What is decided is
//! in `model::luks`. The passphrase goes from the person to cryptsetup's stdin, and nowhere else.

use crate::apply::call::{self, WrongKey};
use crate::apply::{self, Door};
use crate::report::{Answer, notice, prompt};
use crate::scan::Scan;
use crate::tool::{Context, verb};
use anyhow::{Context as _, bail, ensure};
use contract::exit;
use host::sys::{inherited, tty};
use model::luks::{self, Plan, Wishes};
use model::lvm;
use model::plan::Step;
use model::status::status;
use model::storage::{Device, Storage};
use model::text::Untrusted;
use serde::Serialize;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Longest passphrase and key file that cryptsetup takes.
const PASSPHRASE_MAX: usize = 512;
const KEY_FILE_MAX: u64 = 8 << 20;
/// How often a person may mistype.
const TRIES: usize = 3;

/// Opens a locked device (LUKS 1 and 2, BitLocker) as /dev/mapper/NAME, read-only unless --rw: then not
/// one byte of a disk changes. Asks for the passphrase, without echo.
///
/// From a pipe, the passphrase is its first line; a key file (or - for all of stdin) is taken whole,
/// with the newline that an editor leaves at its end. A keyslot that takes more memory than is free
/// is said so at once. What is inside shows in rescue status, or with rescue assemble where it
/// is LVM. TrueCrypt and VeraCrypt volumes cannot be told from random bytes: --type tcrypt.
///
/// Exits with 0 when it is open, 1 when the passphrase is wrong, 2 for all else.
///
///     # rescue open /dev/sda3
///     Passphrase for /dev/sda3:
///     /dev/mapper/sda3_crypt is open, read-only: LVM physical volume of vg
///     Next: rescue assemble
#[derive(clap::Parser)]
#[command(name = "rescue open", disable_version_flag = true, verbatim_doc_comment)]
struct Args {
    /// For writing: the write guard of what it stands on is taken off
    #[arg(long)]
    rw: bool,
    /// Below /dev/mapper, instead of sda3_crypt
    #[arg(long)]
    name: Option<String>,
    /// Read the key from this file; - is stdin
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Try this keyslot only
    #[arg(long, value_name = "N")]
    slot: Option<u32>,
    /// What it is, where nothing on it tells
    #[arg(long = "type", value_name = "TYPE", value_parser = ["tcrypt"])]
    kind: Option<String>,
    /// Print what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// As JSON, schema 1
    #[arg(long)]
    json: bool,
    #[arg(value_name = "DEVICE")]
    device: PathBuf,
}

/// Closes devices that rescue open opened: what LVM has active on them first, then they are gone with all that
/// cryptsetup made below them, and locked again, and the write guard is back on. What is mounted on one is
/// named, and nothing is done. A drive that encrypts by itself (OPAL) is locked by cryptsetup; where it
/// could not be, that is said, and the exit status is not 0.
///
///     # rescue close sda3_crypt
///     rescue close: closed: /dev/mapper/sda3_crypt
#[derive(clap::Parser)]
#[command(name = "rescue close", disable_version_flag = true, verbatim_doc_comment)]
struct CloseArgs {
    /// Print what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// By name, or the locked device
    #[arg(required = true, value_name = "NAME|DEVICE")]
    names: Vec<String>,
}

#[derive(Serialize)]
struct Report {
    device: String,
    path: String,
    read_only: bool,
    next: String,
}

pub fn open(context: &Context, arguments: &[OsString]) -> anyhow::Result<Answer> {
    let args: Args = match verb(context, arguments)? {
        Ok(args) => args,
        Err(answer) => return Ok(answer),
    };
    let _claim = host::installed::claim();
    let typed = apply::typed(context.name, arguments);
    let mut scan = Scan::begin(context);
    let name = scan.resolve(&args.device)?;
    let storage = scan.examine(|_| true);
    let device = storage.devices.iter().find(|device| device.block.name == name);
    let device = device.with_context(|| format!("{} is gone", args.device.display()))?;
    let wishes = Wishes {
        writable: args.rw,
        name: args.name.as_deref(),
        slot: args.slot,
        kind: args.kind.as_deref(),
        free: Some(host::proc::available_memory(&context.root) >> 10).filter(|free| *free > 0),
    };
    let plan = luks::open(&storage, device, &wishes, &typed)?;
    for note in &plan.notes {
        notice(context.name, note);
    }
    for (slot, needs) in &plan.too_large {
        notice(
            context.name,
            &format!("slot {slot} is not tried: it needs {needs} MiB, {} are free", plan.free),
        );
    }
    if args.dry_run {
        let steps: Vec<Step> = plan.before.iter().chain(&plan.tries).cloned().collect();
        return Ok(Answer::text(apply::shown(&steps), exit::YES));
    }
    let path = format!("/dev/mapper/{}", plan.name);
    if let Err(error) = unlock(context, &args, &plan, &lvm::path(device), &typed) {
        if error.downcast_ref::<WrongKey>().is_none() {
            return Err(error);
        }
        notice(context.name, &format!("{}: {error}", lvm::path(device)));
        return Ok(Answer::exit(exit::NO));
    }
    if let Some(writable) = opened_for_writing(&storage, &plan) {
        notice(context.name, &format!("can be written now: {writable}"));
    }
    tell(context, &args, &path, &lvm::path(device))
}

fn opened_for_writing(storage: &Storage, plan: &Plan) -> Option<String> {
    let any = plan.before.iter().any(|step| matches!(step, Step::SetWritable { .. }));
    any.then(|| super::writable::told(storage, &plan.before, ""))
}

fn tell(context: &Context, args: &Args, path: &str, device: &str) -> anyhow::Result<Answer> {
    let storage = Scan::begin(context).examine(|_| true);
    let found = storage.devices.iter().find(|found| lvm::path(found) == path);
    let found = found.with_context(|| format!("{path} is gone"))?;
    let read_only = found.block.read_only;
    let next = status(&storage).next.command;
    if args.json {
        let report =
            Report { device: device.to_string(), path: path.to_string(), read_only, next: next.clone() };
        return Answer::json(1, &report, exit::YES);
    }
    let inside = match (found.signature(), lvm::physical_volume(found).and_then(|pv| pv.0.group.as_ref())) {
        (_, Some(group)) => format!("LVM physical volume of {}", group.name),
        (Some(signature), None) => model::content::words(signature),
        (None, None) => "nothing known in it".to_string(),
    };
    let mode = if read_only { "read-only" } else { "read-write" };
    let text = format!("{path} is open, {mode}: {}\nNext: {}\n", Untrusted(&inside), Untrusted(&next));
    Ok(Answer::text(text, exit::YES))
}

/// Each slot that can be tried with each passphrase that is typed.
fn unlock(context: &Context, args: &Args, plan: &Plan, device: &str, typed: &str) -> anyhow::Result<()> {
    let at_terminal = args.key_file.is_none() && rustix::termios::isatty(inherited(0));
    let mut last = anyhow::Error::new(WrongKey);
    for turn in 1..=if at_terminal { TRIES } else { 1 } {
        let secret = match &args.key_file {
            Some(file) => key_file(file)?,
            None if at_terminal => {
                let ask = || prompt(&format!("Passphrase for {}: ", Untrusted(device)));
                let typed =
                    tty::read_secret(inherited(0), PASSPHRASE_MAX, ask).context("read the passphrase");
                prompt("\n");
                typed?.context("nothing is opened")?
            }
            None => first_line()?,
        };
        let mut door = Door::open(context, typed)?.with_secret(secret);
        // The consent is given with the first passphrase, and taken back with the last.
        let before = door.make_all(&plan.before)?;
        for step in &plan.tries {
            match door.make(step) {
                Ok(_) => return Ok(()),
                Err(error) => last = error,
            }
            if last.downcast_ref::<WrongKey>().is_none() {
                break;
            }
        }
        let made: Vec<(Step, apply::Made)> = plan.before.iter().cloned().zip(before).collect();
        door.take_back(&made);
        if last.downcast_ref::<WrongKey>().is_none() {
            return Err(last);
        }
        if at_terminal && turn < TRIES {
            notice(context.name, &format!("{WrongKey}"));
        }
    }
    Err(last)
}

fn key_file(file: &Path) -> anyhow::Result<Vec<u8>> {
    let mut key = Vec::new();
    let from = || format!("read the key from {}", file.display());
    if file == Path::new("-") {
        std::io::stdin().lock().take(KEY_FILE_MAX + 1).read_to_end(&mut key).with_context(from)?;
    } else {
        File::open(file)
            .with_context(from)?
            .take(KEY_FILE_MAX + 1)
            .read_to_end(&mut key)
            .with_context(from)?;
    }
    ensure!(key.len() as u64 <= KEY_FILE_MAX, "{} is longer than any key", file.display());
    ensure!(!key.is_empty(), "{} is empty", file.display());
    Ok(key)
}

/// Of a pipe, as cryptsetup itself takes a passphrase from one.
fn first_line() -> anyhow::Result<Vec<u8>> {
    let mut text = Vec::new();
    let mut stdin = std::io::stdin().lock().take(PASSPHRASE_MAX as u64 + 1);
    stdin.read_to_end(&mut text).context("read the passphrase")?;
    let end = text.iter().position(|byte| *byte == b'\n').unwrap_or(text.len());
    text.truncate(end);
    ensure!(
        text.len() <= PASSPHRASE_MAX,
        "the passphrase is longer than {PASSPHRASE_MAX} bytes: --key-file -"
    );
    ensure!(!text.is_empty(), "there is no terminal to ask at, and no passphrase on stdin");
    Ok(text)
}

pub fn close(context: &Context, arguments: &[OsString]) -> anyhow::Result<Answer> {
    let args: CloseArgs = match verb(context, arguments)? {
        Ok(args) => args,
        Err(answer) => return Ok(answer),
    };
    let typed = apply::typed(context.name, arguments);
    let (mut text, mut failures) = (String::new(), 0);
    for name in &args.names {
        // The kernel's facts are enough: no device is read, and one that hangs keeps nothing from being closed.
        let storage = Scan::begin(context).examine(|_| false);
        let outcome = find(&storage, name).and_then(|device| {
            let steps = luks::close(&storage, device, &typed)?;
            if args.dry_run {
                text += &apply::shown(&steps);
                return Ok(());
            }
            let made = Door::open(context, &typed)?.make_all(&steps)?;
            call::is_locked(&made).with_context(|| format!("{} is gone", lvm::path(device)))?;
            notice(context.name, &format!("closed: {}", lvm::path(device)));
            Ok(())
        });
        if let Err(error) = outcome {
            notice(context.name, &format!("{error:#}"));
            failures += 1;
        }
    }
    let exit = match failures {
        0 => exit::YES,
        n if n == args.names.len() => exit::TROUBLE,
        _ => exit::PARTLY,
    };
    Ok(Answer::text(text, exit))
}

/// By the mapped name, its path or node, or the locked device below.
fn find<'a>(storage: &'a Storage, name: &str) -> anyhow::Result<&'a Device> {
    let by_name = |device: &&Device| {
        luks::is_opened(device)
            && (lvm::path(device) == name
                || device.path == name
                || device.block.dm.as_ref().is_some_and(|dm| dm.name == name))
    };
    if let Some(device) = storage.devices.iter().find(by_name) {
        return Ok(device);
    }
    let real = std::fs::canonicalize(name).map(|path| path.to_string_lossy().into_owned());
    let path = real.unwrap_or_else(|_| name.to_string());
    match storage.by_path(&path) {
        Some(device) if luks::is_opened(device) => Ok(device),
        Some(device) => luks::opened(storage, device).with_context(|| format!("{name} is not open")),
        None => bail!("{}: no opened device", Untrusted(name)),
    }
}
