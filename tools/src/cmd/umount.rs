//! `umount`: one mount after the other; one that is busy is told with who holds it.

use crate::apply::{self, Door, Made};
use crate::report::{Answer, Failure, notice, without_errno};
use crate::scan::Scan;
use crate::tool::{Context, classic};
use contract::facts::{Facts, Mount};
use host::holders::How;
use host::proc::shown;
use model::mount::{Holder, beside_of, busy, errno, exit};
use model::overlay;
use model::plan::{Input, Step};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// How long it is looked for who holds a busy mount.
const PATIENCE: Duration = Duration::from_secs(2);

/// Unmount file systems, by directory, device or image file.
///
/// One that is busy stays, and the processes that hold it are named. The write guard
/// stays as it is: rescue protect puts it back. What is not here (-a) is the original's.
///
///     # umount /mnt
///     umount: /mnt: target is busy: bash (process 812) works in /mnt/etc; end what it does, or kill 812
#[derive(clap::Parser)]
#[command(name = "umount", disable_version_flag = true, verbatim_doc_comment)]
struct Args {
    /// Detach now, and let go when nothing uses it any more
    #[arg(short = 'l', long)]
    lazy: bool,
    /// Do not wait for a server that is gone
    #[arg(short = 'f', long)]
    force: bool,
    /// With all that is mounted below
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Read-only, where it cannot be unmounted
    #[arg(short = 'r', long = "read-only")]
    read_only: bool,
    /// Its loop device too
    #[arg(short = 'd', long = "detach-loop")]
    detach_loop: bool,
    /// Say what was unmounted
    #[arg(short = 'v', long)]
    verbose: bool,
    /// Say nothing where it is not mounted
    #[arg(short = 'q', long)]
    quiet: bool,
    /// Nothing to do: nobody writes /etc/mtab any more
    #[arg(short = 'n', long = "no-mtab")]
    no_mtab: bool,
    /// Print the steps, and do nothing
    #[arg(long)]
    dry_run: bool,
    #[arg(required = true, value_name = "DIRECTORY|DEVICE")]
    words: Vec<OsString>,
}

pub fn run(context: &Context, arguments: &[OsString]) -> anyhow::Result<Answer> {
    let args: Args = match classic(context, arguments) {
        Ok(args) => args,
        Err(answer) => return Ok(answer),
    };
    let typed = apply::typed(context.name, arguments);
    let (mut text, mut failures) = (String::new(), 0);
    for word in &args.words {
        match one(context, &args, &typed, &host::text::text(word.as_bytes())) {
            Ok(said) => text += &said,
            Err(error) => {
                failures += 1;
                let absent = error.downcast_ref::<Absent>().is_some();
                if !(absent && args.quiet) {
                    notice(context.name, &format!("{error:#}"));
                }
            }
        }
    }
    let exit = match failures {
        0 => 0,
        n if n == args.words.len() => exit::FAILED,
        _ => exit::SOME,
    };
    Ok(Answer::text(text, exit))
}

/// Nothing is mounted there.
#[derive(Debug)]
struct Absent(String);

impl std::fmt::Display for Absent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Absent {}

fn one(context: &Context, args: &Args, typed: &str, word: &str) -> anyhow::Result<String> {
    let facts = host::sysfs::facts(&context.root);
    let mount = find(&facts, word)?;
    // This process may be all that is left in the place: a shell that ends with this command becomes it.
    let began = std::env::current_dir();
    let outcome = std::env::set_current_dir("/").map_err(anyhow::Error::new);
    let outcome = outcome.and_then(|()| unmount(context, args, typed, (word, mount), &facts));
    // The next word is meant from there; what is gone is no place to return to.
    if let Ok(began) = began {
        let _ = std::env::set_current_dir(began);
    }
    outcome
}

fn unmount(
    context: &Context,
    args: &Args,
    typed: &str,
    (word, mount): (&str, &Mount),
    facts: &Facts,
) -> anyhow::Result<String> {
    let mut targets: Vec<&Mount> = vec![mount];
    if args.recursive {
        // The kernel lists a mount before those below it.
        targets = below(&facts.mounts, mount);
        targets.reverse();
    }
    let steps: Vec<Step> = targets.iter().flat_map(|mount| steps(facts, args, mount)).collect();
    if args.dry_run {
        return Ok(apply::shown(&steps));
    }
    let mut door = Door::open(context, typed)?;
    for step in &steps {
        match door.make(step) {
            Ok(Made::Status(status)) if status != 0 => {
                let text = format!("{word}: {} ended with status {status}", step.text());
                return Err(Failure { exit: exit::FAILED, text }.into());
            }
            Ok(_) => {}
            Err(error) => {
                let Step::Umount { target, .. } = step else { return Err(error) };
                if args.read_only && errno_of(&error) == Some(errno::BUSY) {
                    make_read_only(context, &mut door, facts, target)?;
                    continue;
                }
                return Err(explained(context, facts, target, &error));
            }
        }
    }
    drop(door);
    if args.lazy {
        return Ok(said_of(args, &targets));
    }
    // btrfs may name the node instead of the link.
    let is_mapped = |source: &str| source.starts_with("/dev/mapper/over-") || source.starts_with("/dev/dm-");
    // Of an xfs its log's as well.
    let sources = |mount: &'_ &Mount| {
        std::iter::once(mount.source.clone()).chain(beside_of(mount).map(str::to_string)).collect::<Vec<_>>()
    };
    for source in targets.iter().flat_map(sources).filter(|source| is_mapped(source)) {
        if let Err(error) = drop_overlay(context, typed, &source) {
            notice(context.name, &format!("{source} stays: {error:#}"));
        }
    }
    Ok(said_of(args, &targets))
}

/// The overlay that a read-only mount made for itself goes with it.
fn drop_overlay(context: &Context, typed: &str, source: &str) -> anyhow::Result<()> {
    // A btrfs is known by what is on its devices: only overlays are read.
    let storage = Scan::begin(context).examine(|block| block.snapshot.is_some());
    let ids = overlay::left_by_mount(&storage, source);
    if ids.is_empty() {
        return Ok(());
    }
    let plan = overlay::end(&storage, Some(&ids))?;
    Door::open(context, typed)?.make_all(&plan.steps)?;
    Ok(())
}

fn said_of(args: &Args, targets: &[&Mount]) -> String {
    let said = |mount: &&Mount| format!("umount: {} unmounted\n", mount.target);
    if args.verbose { targets.iter().map(said).collect() } else { String::new() }
}

/// By target, as it was typed and as it is; then by device, by the file of a loop device. The word, as mountinfo has it, may
/// hold characters for bytes that are no text.
fn find<'a>(facts: &'a Facts, word: &str) -> anyhow::Result<&'a Mount> {
    // The last one covers those before it.
    let last = |is: &dyn Fn(&Mount) -> bool| facts.mounts.iter().rev().find(|mount| is(mount));
    let path = host::proc::path(word);
    let typed = shown(&std::path::absolute(&path).unwrap_or_default());
    let typed = if typed.len() > 1 { typed.trim_end_matches('/').to_string() } else { typed };
    // Nothing is asked of the place itself where its name is enough: its server may be gone.
    if let Some(mount) = last(&|mount| mount.target == typed) {
        return Ok(mount);
    }
    let Ok(real) = std::fs::canonicalize(&path) else {
        return Err(Absent(format!("{word}: no mount point specified.")).into());
    };
    let real = shown(&real);
    if let Some(mount) = last(&|mount| mount.target == real) {
        return Ok(mount);
    }
    let of_file = |mount: &Mount| {
        let block =
            facts.blocks.iter().find(|block| (block.major, block.minor) == (mount.major, mount.minor));
        block.is_some_and(|block| block.loop_file.as_deref() == Some(&real) || block.path() == real)
    };
    let mount = last(&|mount| mount.source == typed || mount.source == real || of_file(mount));
    mount.ok_or_else(|| Absent(format!("{word}: not mounted.")).into())
}

/// A mount and those below it, in the kernel's order, by who is whose parent.
fn below<'a>(mounts: &'a [Mount], top: &'a Mount) -> Vec<&'a Mount> {
    let mut ids = vec![top.id];
    let mut found = vec![top];
    for mount in mounts {
        if ids.contains(&mount.parent) && !ids.contains(&mount.id) {
            ids.push(mount.id);
            found.push(mount);
        }
    }
    found
}

fn steps(facts: &Facts, args: &Args, mount: &Mount) -> Vec<Step> {
    let target = mount.target.clone();
    let helper = format!("/sbin/umount.{}", mount.fstype.split('.').next().unwrap_or_default());
    let mut steps = if !args.lazy && Path::new(&helper).exists() {
        let flags = [(args.force, "-f"), (args.verbose, "-v"), (args.read_only, "-r")];
        let flags = flags.iter().filter(|(given, _)| *given).map(|(_, flag)| (*flag).to_string());
        vec![Step::Run { argv: [helper, target].into_iter().chain(flags).collect(), input: Input::Nothing }]
    } else {
        vec![Step::Umount { target, lazy: args.lazy, force: args.force }]
    };
    let is = |block: &&contract::facts::Block| {
        (block.major, block.minor) == (mount.major, mount.minor) && block.loop_file.is_some()
    };
    if args.detach_loop
        && let Some(block) = facts.blocks.iter().find(is)
    {
        steps.push(Step::LoopRemove { device: block.path() });
    }
    steps
}

fn make_read_only(context: &Context, door: &mut Door, facts: &Facts, target: &str) -> anyhow::Result<()> {
    let source = facts.mounts.iter().rev().find(|mount| mount.target == target);
    let source = source.map_or_else(|| "none".to_string(), |mount| mount.source.clone());
    door.make(&Step::Mount {
        source,
        target: target.to_string(),
        fstype: String::new(),
        flags: vec!["remount".to_string(), "ro".to_string()],
        data: String::new(),
    })?;
    notice(context.name, &format!("{target} is busy: it was made read-only instead"));
    Ok(())
}

fn errno_of(error: &anyhow::Error) -> Option<i32> {
    error.root_cause().downcast_ref::<std::io::Error>()?.raw_os_error()
}

fn explained(context: &Context, facts: &Facts, target: &str, error: &anyhow::Error) -> anyhow::Error {
    let text = match errno_of(error) {
        Some(errno::BUSY) => busy(target, &holders(context, target), &kernels_own(facts, target)),
        Some(errno::INVAL) => "not mounted.".to_string(),
        Some(errno::PERM) => "permission denied: only root unmounts".to_string(),
        Some(_) | None => without_errno(&error.root_cause().to_string()),
    };
    Failure { exit: exit::FAILED, text: format!("{target}: {text}") }.into()
}

fn holders(context: &Context, target: &str) -> Vec<Holder> {
    let words = |one: host::holders::Holder| {
        let how = match one.how {
            How::WorksIn => format!("works in {}", one.path),
            How::RootIn => format!("has its root in {}", one.path),
            How::RunsFrom => format!("runs from {}", one.path),
            How::HasOpen => format!("has {} open", one.path),
            How::HasMapped => format!("uses {}", one.path),
        };
        let in_way = one.ours && one.how == How::WorksIn;
        Holder { pid: one.pid, command: one.command, how, in_way }
    };
    host::holders::of(&context.root, target, PATIENCE).into_iter().map(words).collect()
}

/// What the kernel itself holds it for.
fn kernels_own(facts: &Facts, target: &str) -> Vec<String> {
    let is_below = |path: &str| path.strip_prefix(target).is_some_and(|rest| rest.starts_with('/'));
    let mounts = facts.mounts.iter().filter(|mount| is_below(&mount.target));
    let mounts = mounts.map(|mount| format!("{} is mounted below it (umount -R {target})", mount.target));
    let loops = facts.blocks.iter().filter_map(|block| {
        let file = block.loop_file.as_deref().filter(|file| is_below(file))?;
        Some(format!("{file} is behind {} (losetup -d {})", block.path(), block.path()))
    });
    let swaps = facts.swaps.iter().filter(|swap| is_below(&swap.path));
    let swaps = swaps.map(|swap| format!("{} is swap space in use (swapoff {})", swap.path, swap.path));
    mounts.chain(loops).chain(swaps).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    fn mount(id: u32, parent: u32, target: &str, source: &str) -> Mount {
        Mount {
            id,
            parent,
            target: target.to_string(),
            source: source.to_string(),
            major: 8,
            minor: id,
            ..Mount::default()
        }
    }

    #[test]
    fn a_mount_is_found_by_directory_and_by_device_and_the_last_one_counts() {
        let facts = Facts {
            mounts: vec![
                mount(1, 0, "/", "none"),
                mount(2, 1, "/tmp", "/dev/sda1"),
                mount(3, 2, "/tmp", "/dev/sda2"),
            ],
            ..Facts::default()
        };
        assert_eq!(find(&facts, "/tmp").unwrap().id, 3);
        assert_eq!(find(&facts, "/tmp/").unwrap().id, 3);
        assert_eq!(find(&facts, "/").unwrap().id, 1);
        let absent = |word: &str| find(&facts, word).unwrap_err().to_string();
        assert_eq!(absent("/usr"), "/usr: not mounted.");
        assert_eq!(absent("/nonexistent"), "/nonexistent: no mount point specified.");
    }

    #[test]
    fn a_mount_is_found_where_its_name_is_no_text() {
        let directory = tempfile::tempdir().unwrap();
        let real = directory.path().join(OsStr::from_bytes(b"a\xff"));
        std::fs::create_dir(&real).unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let other = directory.path().join("a\u{fffd}");
        let facts = Facts {
            mounts: vec![mount(2, 1, &shown(&real), "/dev/sda1"), mount(3, 1, &shown(&other), "/dev/sda2")],
            ..Facts::default()
        };
        for path in [&real, &link] {
            assert_eq!(find(&facts, &shown(path)).unwrap().id, 2, "{}", path.display());
        }
        assert_eq!(find(&facts, &shown(&other)).unwrap().id, 3);
    }

    #[test]
    fn all_below_goes_before_what_it_is_below() {
        let mounts = [
            mount(1, 0, "/", "none"),
            mount(2, 1, "/mnt", "/dev/sda1"),
            mount(3, 1, "/mnt2", "/dev/sda2"),
            mount(4, 2, "/mnt/boot", "/dev/sda3"),
            mount(5, 4, "/mnt/boot/efi", "/dev/sda4"),
        ];
        let ids: Vec<u32> = below(&mounts, &mounts[1]).iter().map(|mount| mount.id).collect();
        assert_eq!(ids, [2, 4, 5]);
    }

    #[test]
    fn what_the_kernel_itself_holds_is_named() {
        let facts = Facts {
            mounts: vec![mount(2, 1, "/mnt", "/dev/sda1"), mount(3, 2, "/mnt/boot", "/dev/sda2")],
            ..Facts::default()
        };
        assert_eq!(kernels_own(&facts, "/mnt"), ["/mnt/boot is mounted below it (umount -R /mnt)"]);
        assert_eq!(kernels_own(&facts, "/mn"), [""; 0]);
    }
}
