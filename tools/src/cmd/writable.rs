//! `rescue writable` and `rescue protect`: the write guard off and on, for what ours does not do itself
//! (dd, sfdisk, grub-install).

use crate::apply::{self, Door};
use crate::report::{Answer, notice};
use crate::scan::Scan;
use crate::tool::{Context, verb};
use anyhow::{Context as _, bail};
use contract::exit;
use contract::facts::Block;
use model::luks::Lock;
use model::plan::Step;
use model::storage::{Device, Storage};
use model::{consent, luks, lvm};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Takes the write guard off a disk, a partition, or all that an array or a mapped device stands on:
/// from here on any program can write to it, until rescue protect or the next boot. Partitions
/// that a whole disk gets later are covered too. Writes nothing itself.
///
///     # rescue writable /dev/sda1
///     rescue writable: can be written now: /dev/sda1 (Samsung SSD 870, S5Y1NG0R)
#[derive(clap::Parser)]
#[command(name = "rescue writable", disable_version_flag = true, verbatim_doc_comment)]
struct Args {
    /// Print what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    #[arg(required = true, value_name = "DEVICE")]
    devices: Vec<PathBuf>,
}

/// Puts the write guard back on a disk, a partition, or all that an array or a mapped device stands on.
/// What is mounted for writing, or a running array that may write, is named and left as it is.
///
///     # rescue protect /dev/sda1
///     rescue protect: guarded again: /dev/sda1 (Samsung SSD 870, S5Y1NG0R)
#[derive(clap::Parser)]
#[command(name = "rescue protect", disable_version_flag = true, verbatim_doc_comment)]
struct ProtectArgs {
    /// Print what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    #[arg(required = true, value_name = "DEVICE")]
    devices: Vec<PathBuf>,
}

/// How long it is looked at what is on a device.
const GLANCE: Duration = Duration::from_secs(2);

pub fn run(context: &Context, arguments: &[OsString]) -> anyhow::Result<Answer> {
    let args: Args = match verb(context, arguments)? {
        Ok(args) => args,
        Err(answer) => return Ok(answer),
    };
    let typed = apply::typed(context.name, arguments);
    each(context, &args.devices, args.dry_run, &typed, "can be written now", |storage, device| {
        if consent::below(storage, &device.id).is_empty() {
            bail!("{} stands on no disk that is guarded", device.path);
        }
        Ok(consent::writable(storage, &device.id, &typed)?)
    })
}

pub fn protect(context: &Context, arguments: &[OsString]) -> anyhow::Result<Answer> {
    let args: ProtectArgs = match verb(context, arguments)? {
        Ok(args) => args,
        Err(answer) => return Ok(answer),
    };
    let typed = apply::typed(context.name, arguments);
    each(context, &args.devices, args.dry_run, &typed, "guarded again", |storage, device| {
        if let Some(writer) = writer(storage, device) {
            bail!("{writer}");
        }
        Ok(consent::guarded(storage, &device.id, &typed))
    })
}

/// One device after the other: one that is refused does not keep the next from its turn.
fn each(
    context: &Context,
    devices: &[PathBuf],
    dry_run: bool,
    typed: &str,
    done: &str,
    plan: impl Fn(&Storage, &Device) -> anyhow::Result<Vec<Step>>,
) -> anyhow::Result<Answer> {
    let mut scan = Scan::begin(context);
    let names = devices.iter().map(|path| scan.resolve(path)).collect::<anyhow::Result<Vec<String>>>()?;
    // The kernel's facts and what is known to hang are enough to decide, but for a partition that is an array's; what is
    // on the named devices is looked at for that and for the hint, and not waited for.
    let storage = scan.within(GLANCE).examine_with_disks(|block: &Block| names.contains(&block.name));
    let (mut text, mut failures) = (String::new(), 0);
    for name in &names {
        let outcome = storage
            .devices
            .iter()
            .find(|device| device.block.name == *name)
            .with_context(|| format!("{name} is gone"))
            .and_then(|device| plan(&storage, device))
            .and_then(|steps| {
                if dry_run {
                    text += &apply::shown(&steps);
                    return Ok(());
                }
                Door::open(context, typed)?.make_all(&steps)?;
                notice(context.name, &format!("{done}: {}", told(&storage, &steps, name)));
                if let Some(hint) = lock_hint(&storage, name) {
                    notice(context.name, &hint);
                }
                Ok(())
            });
        if let Err(error) = outcome {
            notice(context.name, &format!("{error:#}"));
            failures += 1;
        }
    }
    let exit = match failures {
        0 => exit::YES,
        n if n == names.len() => exit::TROUBLE,
        _ => exit::PARTLY,
    };
    Ok(Answer::text(text, exit))
}

/// People call it unlocking, and mean what is inside.
fn lock_hint(storage: &Storage, name: &str) -> Option<String> {
    let device = storage.devices.iter().find(|device| device.block.name == name)?;
    luks::lock(device).filter(|lock| *lock != Lock::Header)?;
    let path = lvm::path(device);
    Some(match luks::opened(storage, device) {
        None => format!("{path} is locked: did you mean rescue open {path}?"),
        Some(opened) => format!("what is inside is {}", lvm::path(opened)),
    })
}

/// The devices of the steps, with the drives that they are, for a person who has to know which.
pub fn told(storage: &Storage, steps: &[Step], otherwise: &str) -> String {
    let named: Vec<String> = steps
        .iter()
        .filter_map(|step| match step {
            Step::SetWritable { path, .. } | Step::SetGuarded { path, .. } => Some(drive(storage, path)),
            Step::MdSetReadOnly { device, .. } => Some(device.clone()),
            _ => None,
        })
        .collect();
    if named.is_empty() { format!("{otherwise}, as it was before") } else { named.join(", ") }
}

/// `/dev/sda1 (Samsung SSD 870, S5Y1NG0R)`
pub fn drive(storage: &Storage, path: &str) -> String {
    // A partition is on the drive that its disk is.
    let device = storage.by_path(path);
    let disk = device.and_then(|device| storage.get(device.parent.as_ref()?)).or(device);
    let hardware = disk.map(|disk| &disk.block.hardware);
    let words: Vec<String> = hardware
        .into_iter()
        .flat_map(|hardware| [&hardware.model, &hardware.serial])
        .flatten()
        .map(|word| model::text::Untrusted(word.trim()).to_string())
        .filter(|word| !word.is_empty())
        .collect();
    if words.is_empty() { path.to_string() } else { format!("{path} ({})", words.join(", ")) }
}

/// Who could still be writing to what is below: setting the flag under a mounted file system or a running
/// array would turn its writes into errors.
pub fn writer(storage: &Storage, device: &Device) -> Option<String> {
    let below = consent::below(storage, &device.id);
    let is_above = |other: &&Device| {
        consent::below(storage, &other.id).iter().any(|one| below.iter().any(|mine| mine.id == one.id))
    };
    storage.devices.iter().filter(is_above).find_map(|other| {
        let block = &other.block;
        let mounted = storage.mounts.iter().find(|mount| {
            (mount.major, mount.minor) == (block.major, block.minor)
                && !mount.super_options.split(',').any(|option| option == "ro")
        });
        if let Some(mount) = mounted {
            return Some(format!("{} is mounted for writing: umount {}", other.path, mount.target));
        }
        let swap = storage.swaps.iter().find(|swap| swap.path == other.path);
        if let Some(swap) = swap {
            return Some(format!("{} is used as swap: swapoff {}", other.path, swap.path));
        }
        if let (Some(dm), false) = (&block.dm, block.read_only) {
            let name = &dm.name;
            // An overlay writes to memory, and a read-only map to nothing.
            return match (lvm::is_volume(other), luks::is_opened(other)) {
                (true, _) => {
                    Some(format!("{name} is active for writing: rescue assemble --stop /dev/mapper/{name}"))
                }
                (_, true) => Some(format!("{name} is open for writing: rescue close {name}")),
                (false, false) => None,
            };
        }
        let md = block
            .md
            .as_ref()
            .filter(|md| !matches!(md.array_state.as_str(), "" | "clear" | "inactive" | "readonly"));
        md.map(|_| format!("{} runs for writing: mdadm --readonly {}", other.path, other.path))
    })
}
