//! Checks, mounts and stacks the image's layers: a one-shot service. A layer is a squashfs that the
//! kernel unpacked from the initramfs to /layers; each is checked by length and SHA-256 before it is
//! mounted, since the kernel stops unpacking at half of the memory with half an image. All good ones
//! are then seen at once, as one overlay on /usr; a bad one is named and the rest goes on.

mod list;

use contract::event::Event;
use contract::{paths, state};
use host::Root;
use host::sys::{loopdev, mount};
use list::{Layer, Verdict};
use rustix::fs::{Mode, OFlags};
use rustix::mount::MountFlags;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Most that may be written below /usr, as tmpfs counts it.
const UPPER_SIZE: &str = "mode=0755,size=20%";
/// The layers' /etc, copied without overwriting: keys and names in an appended cpio always win.
const FACTORY: &str = "/usr/share/factory/etc";
const MODULES: &[&str] = &["loop", "squashfs", "overlay"];
/// Where the kernel has a directory for UEFI's variables.
const EFI_VARIABLES: &str = "/sys/firmware/efi/efivars";

/// The service.
pub fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            host::log!("layers: {error:#}");
            host::events::tell(&Event::warning(format!(
                "layers: {error:#}: only the nucleus's own programs are there"
            )));
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let root = Root::live()?;
    let current: state::Layers = host::statefile::read("layers");
    if current.done {
        return Ok(()); // started again by hand
    }
    let known = contract::layers::parse(&root.read_text(paths::LAYER_LIST).unwrap_or_default());
    let found: Vec<(String, u64)> = sizes(&root);
    let needed = list::needed(&known);
    let plan = list::plan(&known, &found);
    let mut report = state::Layers::default();
    let mut mounted = Vec::new();
    // First what yields to whoever logs in: the kernel checks and starts a module without a pause.
    let verdicts: Vec<(Layer, Result<(), String>)> = plan
        .into_iter()
        .map(|layer| {
            let verdict = match &layer.verdict {
                Verdict::Bad(reason) => Err(reason.clone()),
                Verdict::Check { sha256 } => {
                    check(&file(&layer.name), sha256, needed).map_err(|error| error.to_string())
                }
                Verdict::Unlisted => Ok(()),
            };
            (layer, verdict)
        })
        .collect();
    if !verdicts.is_empty() {
        host::modules::load_all(&root, MODULES)?;
        std::fs::create_dir_all(paths::STACK)?;
    }
    for (layer, verdict) in verdicts {
        let outcome = verdict.and_then(|()| attach(&layer.name).map_err(|error| error.to_string()));
        let error = match outcome {
            Ok(path) => {
                mounted.push(path);
                None
            }
            Err(reason) => Some(reason),
        };
        host::log!("layer {}: {}", layer.name, error.as_deref().unwrap_or("mounted"));
        host::events::tell(&Event::Layer { name: layer.name.clone(), error: error.clone() });
        report.layers.push(state::Layer { name: layer.name, bytes: layer.length, error });
    }
    if !mounted.is_empty() {
        stack(&mounted)?;
        copy_factory(Path::new(FACTORY), Path::new("/etc"));
    }
    report.done = true;
    host::statefile::publish("layers", &report)?;
    host::events::tell(&Event::ready("layers"));
    // Nobody waits for the firmware, which may be slow.
    if let Err(error) = firmware_variables(&root) {
        host::log!("mount {EFI_VARIABLES}: {error}: efibootmgr shows nothing");
    }
    Ok(())
}

/// Boot entries, for reading, where UEFI started the machine. The kernel's file system for them is a module of a layer.
fn firmware_variables(root: &Root) -> io::Result<()> {
    if !root.exists(EFI_VARIABLES) {
        return Ok(());
    }
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    host::modules::load_all(root, &["efivarfs"])?;
    mount::mount("efivarfs", Path::new(EFI_VARIABLES), "efivarfs", flags, "")
}

fn sizes(root: &Root) -> Vec<(String, u64)> {
    let names = root.list(paths::LAYERS).unwrap_or_default();
    names
        .iter()
        .filter_map(|name| name.to_str()?.strip_suffix(".squashfs"))
        .filter_map(|name| Some((name.to_string(), std::fs::metadata(file(name)).ok()?.len())))
        .collect()
}

fn file(name: &str) -> PathBuf {
    Path::new(paths::LAYERS).join(format!("{name}.squashfs"))
}

/// Checks one layer. `needed` is the MiB of memory that the image needs: the kernel gives a file its whole
/// length before it fills it, so a layer that did not fit has its length and not its bytes.
fn check(path: &Path, expected: &str, needed: u64) -> io::Result<()> {
    if digest(path)? == expected {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "its SHA-256 is not the one in the image's list: it did not fit (this image needs about {needed} MiB of memory) or was damaged on the way; check the image's SHA256SUMS"
    )))
}

/// Mounts one layer; returns where.
fn attach(name: &str) -> io::Result<PathBuf> {
    let target = Path::new(paths::STACK).join(name);
    std::fs::create_dir_all(&target)?;
    let image = rustix::fs::open(file(name), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let (device, _held) = loopdev::attach(&image, 0, 0, loopdev::READ_ONLY | loopdev::AUTOCLEAR, name)?;
    mount::mount(&device, &target, "squashfs", MountFlags::RDONLY | MountFlags::NODEV, "")?;
    Ok(target)
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

/// One overlay on /usr: the later a layer's name, the higher it lies; the nucleus's own /usr, kept
/// as a bind, lies lowest, so that a service's link to /lifeboat/bin is there when no layer has it.
fn stack(mounted: &[PathBuf]) -> io::Result<()> {
    let nucleus = Path::new(paths::STACK).join("nucleus");
    let upper = Path::new(paths::STACK).join("upper");
    for directory in [&nucleus, &upper] {
        std::fs::create_dir_all(directory)?;
    }
    mount::bind(Path::new("/usr"), &nucleus, false)?;
    mount::mount("upper", &upper, "tmpfs", MountFlags::NODEV | MountFlags::NOSUID, UPPER_SIZE)?;
    for name in ["data", "work"] {
        std::fs::create_dir_all(upper.join(name))?;
        std::fs::set_permissions(upper.join(name), std::fs::Permissions::from_mode(0o755))?;
    }
    let lower: Vec<String> = mounted
        .iter()
        .rev()
        .map(|path| path.join("usr").display().to_string())
        .chain([nucleus.display().to_string()])
        .collect();
    let data = format!("lowerdir={},upperdir={1}/data,workdir={1}/work", lower.join(":"), upper.display());
    mount::mount("usr", Path::new("/usr"), "overlay", MountFlags::NODEV, &data)
}

/// Copies what is not there yet; one file that cannot be copied is logged and the rest goes on.
fn copy_factory(from: &Path, to: &Path) {
    let entries = match std::fs::read_dir(from) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => return host::log!("read {}: {error}", from.display()),
    };
    for entry in entries.filter_map(Result::ok) {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if let Err(error) = copy_one(&source, &target) {
            host::log!("copy {} to {}: {error}", source.display(), target.display());
        }
    }
}

fn copy_one(source: &Path, target: &Path) -> io::Result<()> {
    let metadata = source.symlink_metadata()?;
    let there = target.symlink_metadata().is_ok();
    if metadata.is_dir() {
        if !there {
            std::fs::create_dir(target)?;
            std::fs::set_permissions(target, metadata.permissions())?;
        }
        copy_factory(source, target);
        return Ok(());
    }
    if there {
        return Ok(());
    }
    if metadata.is_symlink() {
        std::os::unix::fs::symlink(std::fs::read_link(source)?, target)?;
    } else if metadata.is_file() {
        std::fs::copy(source, target)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factory_files_never_overwrite_what_the_operator_put_there() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir_all(from.path().join("ssh/deep")).unwrap();
        std::fs::write(from.path().join("ssh/moduli"), "factory").unwrap();
        std::fs::write(from.path().join("ssh/deep/new"), "new").unwrap();
        std::os::unix::fs::symlink("moduli", from.path().join("ssh/link")).unwrap();
        std::fs::create_dir_all(to.path().join("ssh")).unwrap();
        std::fs::write(to.path().join("ssh/moduli"), "mine").unwrap();
        copy_factory(from.path(), to.path());
        assert_eq!(std::fs::read_to_string(to.path().join("ssh/moduli")).unwrap(), "mine");
        assert_eq!(std::fs::read_to_string(to.path().join("ssh/deep/new")).unwrap(), "new");
        assert_eq!(std::fs::read_link(to.path().join("ssh/link")).unwrap(), Path::new("moduli"));
    }

    #[test]
    fn the_digest_is_that_of_sha256sum() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("x"), "abc").unwrap();
        // FIPS 180-2, appendix B.1
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest(&dir.path().join("x")).unwrap(), expected);
    }
}
