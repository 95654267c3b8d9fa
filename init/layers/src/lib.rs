//! Checks, mounts and stacks the image's layers: a one-shot service. A layer is a squashfs that the
//! kernel unpacked from the initramfs to /layers; each is checked by length and SHA-256 before it is
//! mounted, since the kernel stops unpacking at half of the memory with half an image. All good ones
//! are then seen at once, as one overlay on /usr; a bad one is named and the rest goes on. What did not come, or did not
//! fit, is fetched afterwards, where the boot parameters say from where.
//!
//! `layers fetch` and `layers add` are roles that it, and `rescue add`, start.

mod add;
mod ask;
mod download;
mod fetch;
mod list;
mod spare;
mod stack;
mod swap;

use contract::event::Event;
use contract::layers::Known;
use contract::{layers, paths, state};
use host::kmsg::Kmsg;
use host::sys::{mount, process};
use host::{Root, conout};
use list::{Stop, Verdict};
use rustix::mount::MountFlags;
use rustix::process::Signal;
use sha2::{Digest, Sha256};
use stack::{Good, Shelf};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Where the kernel has a directory for UEFI's variables.
const EFI_VARIABLES: &str = "/sys/firmware/efi/efivars";

/// The service, or the role that its first argument says.
pub fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (role, result) = match arguments.split_first() {
        Some((role, rest)) if role == "fetch" => ("fetch", ask::run(rest)),
        Some((role, rest)) if role == "add" => ("add", add::run(rest)),
        _ => ("layers", run()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            host::log!("{role}: {error:#}");
            if role == "layers" {
                host::events::tell(&Event::warning(format!(
                    "layers: {error:#}: only the nucleus's own programs are there"
                )));
            }
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let root = Root::live()?;
    let known = layers::parse(&root.read_text(paths::LAYER_LIST).unwrap_or_default());
    let (base, problem) = match fetch::base(&root) {
        Ok(base) => (base, None),
        Err(problem) => (None, Some(problem)),
    };
    let firmware = fetch::firmware(&root);
    let fetched: Vec<Known> =
        known.iter().filter(|layer| fetch::is_fetched(layer, firmware)).cloned().collect();
    let mut shelf = Shelf::take()?;
    if awaits_own(&shelf.state) {
        let fetched = if base.is_some() { fetched.as_slice() } else { &[] };
        let mounted = mount_own(&root, &known, &mut shelf, fetched, problem.as_deref());
        if mounted.is_err() {
            // What is wrong with each is what the consoles show.
            shelf.publish()?;
        }
        mounted?;
        // With all that mounts a layer built in, these are there, and no driver is.
        if let Some(text) = host::modules::mismatch(&root) {
            host::events::tell(&Event::warning(text));
        }
    }
    let missing = !fetch::wanted(&fetched, &shelf).is_empty();
    match base.filter(|_| missing) {
        None if shelf.state.done => Ok(()),
        None => done(&root, &mut shelf),
        Some(base) => {
            shelf.publish()?;
            drop(shelf);
            fetch::run(&root, &fetched, &base, |shelf| done(&root, shelf))
        }
    }
}

/// Whether the image's own layers are still to be mounted. Otherwise it died since, or was started again by hand.
fn awaits_own(state: &state::Layers) -> bool {
    !state.done && state.mounted().next().is_none()
}

/// What the kernel unpacked. What is no good is named, unless it is to be fetched, and gives its memory back.
fn mount_own(
    root: &Root,
    known: &[Known],
    shelf: &mut Shelf,
    fetched: &[Known],
    problem: Option<&str>,
) -> anyhow::Result<()> {
    let needed = list::needed(known);
    let found = sizes(root);
    // Before the log's buffer has come round.
    let log = Kmsg::whole().inspect_err(|error| host::log!("read the kernel's log: {error}"));
    let stop = Stop::of(&log.unwrap_or_default());
    // First what yields to whoever logs in: the kernel checks and starts a module without a pause.
    let (mut good, mut is_cut, mut is_told) = (Vec::new(), false, false);
    for layer in list::plan(known, found.as_deref(), &stop) {
        let open = || File::open(file(&layer.name));
        let verdict = match &layer.verdict {
            Verdict::Bad(reason) => Err(reason.clone()),
            Verdict::Check { sha256 } => check(&file(&layer.name), sha256, needed, &stop)
                .and_then(|()| open())
                .map_err(|error| error.to_string()),
            Verdict::Unlisted => open().map_err(|error| error.to_string()),
        };
        let why = match verdict {
            Ok(file) => {
                good.push(Good { file, name: layer.name, length: layer.length });
                continue;
            }
            Err(why) => why,
        };
        if file(&layer.name).exists()
            && let Err(error) = std::fs::remove_file(file(&layer.name))
        {
            host::log!("remove {}: {error}", layer.name);
        }
        if fetched.iter().any(|known| known.name == layer.name) {
            host::log!("layer {}: {why}", layer.name);
            is_cut |= found.iter().flatten().any(|(name, _)| *name == layer.name);
        } else {
            let why = problem.map(|problem| format!("{why}; {problem}")).unwrap_or(why);
            shelf.note(&layer.name, layer.length, Some(why));
            is_told = true;
        }
    }
    // The layer itself is fetched, or is there, and then nothing is wrong with it.
    match &stop {
        _ if is_cut => host::events::tell(&Event::warning(stop.lost(needed))),
        Stop::Archive(reason) if !is_told => host::events::tell(&Event::warning(list::refused(reason))),
        Stop::Archive(_) | Stop::Memory | Stop::End | Stop::Unknown => {}
    }
    shelf.add(root, good)
}

/// All are there, or named, or were waited for long enough. What a layer had to bring for the rest is tried again with each
/// that comes.
fn done(root: &Root, shelf: &mut Shelf) -> anyhow::Result<()> {
    if !shelf.state.done {
        shelf.state.done = true;
        shelf.publish()?;
        host::events::tell(&Event::ready("layers"));
    }
    if shelf.state.mounted().next().is_some()
        && let Err(error) = swap::start(root)
    {
        host::log!("no swap in memory: {error}");
    }
    // Nobody waits for the firmware, which may be slow.
    if let Err(error) = firmware_variables(root) {
        host::log!("mount {EFI_VARIABLES}: {error}: efibootmgr shows nothing");
    } else if let Err(error) = name_lines(root) {
        host::log!("lines of the firmware's console: {error}");
    }
    Ok(())
}

/// Boot entries, for reading, where UEFI started the machine. The kernel's file system for them is a module of a layer.
fn firmware_variables(root: &Root) -> io::Result<()> {
    let is_mounted = || host::proc::mounts(root).iter().any(|mount| mount.target == EFI_VARIABLES);
    if !root.exists(EFI_VARIABLES) || is_mounted() {
        return Ok(());
    }
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    host::modules::load_all(root, &["efivarfs"])?;
    mount::mount("efivarfs", Path::new(EFI_VARIABLES), "efivarfs", flags, "")
}

/// Tells init and the consoles on which serial lines the firmware has its own console. Once; nothing is told where there is
/// no such variable, or none of its lines is here.
fn name_lines(root: &Root) -> io::Result<()> {
    if root.exists(paths::NAMED_LINES) {
        return Ok(());
    }
    let variable = match root.read(format!("{EFI_VARIABLES}/{}", conout::VARIABLE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let lines = conout::parse(&variable).map_err(|why| io::Error::other(format!("ConOut {why}")))?;
    let named = conout::devices(root, &lines);
    host::log!("ConOut names {lines:?}, which are {named:?}");
    if named.is_empty() {
        return Ok(());
    }
    host::statefile::replace(Path::new(paths::NAMED_LINES), conout::text(&named).as_bytes(), 0o600)?;
    process::tell_init(Signal::HUP)
}

/// `None` where the archives had none, and no place for any.
fn sizes(root: &Root) -> Option<Vec<(String, u64)>> {
    let names = root.list(paths::LAYERS).ok()?;
    let sizes = names
        .iter()
        .filter_map(|name| name.to_str()?.strip_suffix(".squashfs"))
        .filter_map(|name| Some((name.to_string(), std::fs::metadata(file(name)).ok()?.len())));
    Some(sizes.collect())
}

fn file(name: &str) -> PathBuf {
    Path::new(paths::LAYERS).join(format!("{name}.squashfs"))
}

/// Checks one layer. `needed` is the MiB of memory that the image needs.
fn check(path: &Path, expected: &str, needed: u64, stop: &Stop) -> io::Result<()> {
    if digest(path)? == expected {
        return Ok(());
    }
    Err(io::Error::other(stop.damaged(needed)))
}

/// Lower-case hex of the file's SHA-256, read through a buffer so that the file is in memory once.
fn digest(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            length => hash.update(&buffer[..length]),
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_of_which_none_could_be_mounted_are_tried_again_at_the_next_start() {
        let state = |done: bool, errors: &[Option<&str>]| {
            let layer = |error: &Option<&str>| state::Layer {
                name: "10-userland".into(),
                bytes: 1,
                error: error.map(str::to_string),
            };
            state::Layers { done, layers: errors.iter().map(layer).collect(), ..Default::default() }
        };
        for (label, state, want) in [
            ("the first start", state(false, &[]), true),
            ("all failed", state(false, &[Some("no such device")]), true),
            ("some failed", state(false, &[Some("cut off"), None]), false),
            ("it was done", state(true, &[Some("cut off")]), false),
        ] {
            assert_eq!(awaits_own(&state), want, "{label}");
        }
    }

    #[test]
    fn the_digest_is_that_of_sha256sum() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("x"), "abc").unwrap();
        // FIPS 180-2, appendix B.1
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest(&dir.path().join("x")).unwrap(), expected);
    }

    #[test]
    fn of_a_layer_that_came_with_its_length_alone_is_said_that_nothing_behind_it_came() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, [0; 3]).unwrap();
        for (stop, is_memory) in [
            (Stop::Memory, true),
            (Stop::Unknown, true),
            (Stop::End, false),
            (Stop::Archive("no cpio magic".into()), false),
        ] {
            let error = check(&path, "aa", 263, &stop).unwrap_err().to_string();
            assert_eq!(error.contains("about 263 MiB of memory"), is_memory, "{error}");
            assert!(error.ends_with(list::BEHIND), "{error}");
        }
    }
}
