//! Mounting layers and laying one overlay of all of them on /usr, by whoever holds the lock.

use anyhow::{Context as _, anyhow};
use contract::event::Event;
use contract::facts::Mount;
use contract::layers::is_name;
use contract::{paths, state};
use host::Root;
use host::modules::{Index, Probes};
use host::sys::{loopdev, mount};
use rustix::fs::{FlockOperation, Mode, OFlags, XattrFlags};
use rustix::mount::{MountFlags, UnmountFlags};
use std::fs::{File, FileTimes, Metadata, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Below [`paths::STACK`]: the tmpfs of what is written below /usr, and in it the upper part of each overlay.
const UPPER: &str = "upper";
const DATA: &str = "data";
/// Beside them: each overlay that another lies over, as a bind.
const BEFORE: &str = "usr";
/// Most that may be written below /usr, as tmpfs counts it.
const UPPER_SIZE: &str = "mode=0755,size=20%";
/// The layers' /etc, copied without overwriting: keys and names in an appended cpio always win.
const FACTORY: &str = "/usr/share/factory/etc";
const MODULES: &[&str] = &["loop", "squashfs", "overlay"];
/// What overlayfs itself keeps of a file in the upper part (Documentation/filesystems/overlayfs.rst).
const OPAQUE: &str = "trusted.overlay.opaque";
const REDIRECT: &str = "trusted.overlay.redirect";

/// The lock of whoever mounts a layer, and what is mounted by now.
pub struct Shelf {
    _lock: File,
    pub state: state::Layers,
}

/// A layer's file, whose bytes are what they should be.
pub struct Good {
    pub name: String,
    pub length: u64,
    /// For reading alone. That of a fetched one has no name.
    pub file: File,
}

impl Shelf {
    /// Waits for another one to let go, which takes moments.
    pub fn take() -> io::Result<Shelf> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
        let lock = File::from(rustix::fs::open(paths::LAYERS_LOCK, flags, Mode::RUSR | Mode::WUSR)?);
        rustix::fs::flock(&lock, FlockOperation::LockExclusive)?;
        let mut state: state::Layers = host::statefile::read("layers");
        // One that was killed says nothing any more.
        state.coming.retain(|coming| Path::new("/proc").join(coming.by.to_string()).exists());
        Ok(Shelf { _lock: lock, state })
    }

    pub fn publish(&self) -> io::Result<()> {
        host::statefile::publish("layers", &self.state)
    }

    pub fn is_mounted(&self, name: &str) -> bool {
        self.state.mounted().any(|layer| layer.name == name)
    }

    /// Mounts these, and shows them and all others on /usr. One that cannot be mounted is named, and the others are.
    /// Where they cannot be shown, all are named with what kept them from it, and everything is as it was.
    pub fn add(&mut self, root: &Root, good: Vec<Good>) -> anyhow::Result<()> {
        if good.is_empty() {
            return Ok(());
        }
        let mut errors: Vec<Option<String>> = vec![None; good.len()];
        let shown = self.show(root, &good, &mut errors);
        for (Good { name, length, .. }, mut error) in good.into_iter().zip(errors) {
            if let (Err(why), None) = (&shown, &error) {
                // It may not have come so far.
                let _ = mount::umount(&Path::new(paths::STACK).join(&name), UnmountFlags::DETACH);
                error = Some(format!("{why:#}"));
            }
            self.note(&name, length, error);
        }
        shown
    }

    /// Those with an error in their place are not shown.
    fn show(&self, root: &Root, good: &[Good], errors: &mut [Option<String>]) -> anyhow::Result<()> {
        let missing = missing(root);
        let missing = missing.as_deref();
        std::fs::create_dir_all(paths::STACK)?;
        let new = attach_all(good, errors, missing, attach)?;
        if !new.is_empty() {
            let before = self.state.mounted().map(|layer| layer.name.as_str());
            let mut mounted: Vec<PathBuf> =
                before.chain(new).map(|name| Path::new(paths::STACK).join(name)).collect();
            mounted.sort();
            stack(root, &mounted)
                .map_err(|why| anyhow!(because(missing, format!("lay the layers on /usr: {why:#}"))))?;
            copy_factory(Path::new(FACTORY), Path::new("/etc"));
        }
        Ok(())
    }

    /// What became of a layer: in the log, as an event, and in the state.
    pub fn note(&mut self, name: &str, bytes: u64, error: Option<String>) {
        let layer = state::Layer { name: name.to_string(), bytes, error };
        self.state.coming.retain(|coming| coming.name != name);
        match self.state.layers.iter_mut().find(|known| known.name == name) {
            Some(known) if *known == layer => return,
            Some(known) => *known = layer.clone(),
            None => self.state.layers.push(layer.clone()),
        }
        self.state.layers.sort_by(|a, b| a.name.cmp(&b.name));
        host::log!("layer {name}: {}", layer.error.as_deref().unwrap_or("mounted"));
        host::events::tell(&Event::Layer { name: layer.name, error: layer.error });
    }

    /// Whether another process fetches it.
    pub fn is_others(&self, name: &str) -> bool {
        others(&self.state).any(|coming| coming.name == name)
    }

    /// Bytes that are still to come by other processes. What has not begun does not count: it looks for room itself.
    pub fn promised(&self) -> u64 {
        promised(&self.state)
    }

    /// What is being fetched.
    pub fn coming(&mut self, coming: state::Coming) {
        self.state.coming.retain(|known| known.name != coming.name);
        self.state.coming.push(coming);
    }
}

fn others(state: &state::Layers) -> impl Iterator<Item = &state::Coming> {
    state.coming.iter().filter(|coming| coming.by != std::process::id())
}

fn promised(state: &state::Layers) -> u64 {
    let begun = others(state).filter(|coming| coming.got > 0);
    begun.map(|coming| coming.bytes.saturating_sub(coming.got)).sum()
}

/// What is wrong with the modules that mount a layer. A kernel that has them built in, and that the image has no modules
/// of, mounts one all the same.
fn missing(root: &Root) -> Option<String> {
    let index = Index::read(root);
    let failed = MODULES.iter().filter_map(|name| index.load(root, name, Probes::Left).err());
    let failed: Vec<String> = failed.map(|error| error.to_string()).collect();
    if failed.is_empty() {
        return None;
    }
    host::log!("modules that mount a layer: {}", failed.join(", "));
    Some(host::modules::mismatch(root).unwrap_or_else(|| failed.join(", ")))
}

/// What is `missing` is why a mount failed; without it the mount's own error is all that is known.
fn because(missing: Option<&str>, failed: String) -> String {
    match missing {
        Some(missing) => format!("{missing} ({failed})"),
        None => failed,
    }
}

/// The names of those that are mounted now; each other one has its error in its place.
///
/// Errors: what is `missing`, where none could be mounted.
fn attach_all<'a>(
    good: &'a [Good],
    errors: &mut [Option<String>],
    missing: Option<&str>,
    attach: impl Fn(&str, &File) -> io::Result<()>,
) -> anyhow::Result<Vec<&'a str>> {
    let mut mounted = Vec::new();
    for (Good { name, file, .. }, error) in good.iter().zip(errors) {
        match attach(name, file) {
            Ok(()) => mounted.push(name.as_str()),
            Err(why) => *error = Some(because(missing, why.to_string())),
        }
    }
    match missing {
        Some(missing) if mounted.is_empty() => Err(anyhow!("{missing}")),
        _ => Ok(mounted),
    }
}

/// Mounts one layer in its place of the stack.
fn attach(name: &str, file: &File) -> io::Result<()> {
    // A list of an overlay's is divided by some characters.
    if !is_name(name) {
        return Err(io::Error::other(
            "its name is none for a layer: letters, digits and `-_.+` may stand in one",
        ));
    }
    let target = Path::new(paths::STACK).join(name);
    std::fs::create_dir_all(&target)?;
    let (device, _held) = loopdev::attach(file.as_fd(), 0, 0, loopdev::READ_ONLY | loopdev::AUTOCLEAR, name)?;
    mount::mount(&device, &target, "squashfs", MountFlags::RDONLY | MountFlags::NODEV, "")?;
    shows(&target).inspect_err(|_| {
        let _ = mount::umount(&target, UnmountFlags::DETACH);
    })
}

/// One that has nothing to show would take all others with it: overlayfs refuses a list with what is not there.
fn shows(layer: &Path) -> io::Result<()> {
    match layer.join("usr").symlink_metadata() {
        Ok(found) if found.is_dir() => Ok(()),
        _ => Err(io::Error::other("has no directory `usr` at its top: what a layer brings lies below that")),
    }
}

/// One overlay on /usr: the later a layer's name, the higher it lies; the nucleus's own /usr, kept
/// as a bind, lies lowest, so that a service's link to /lifeboat/bin is there when no layer has it. Over one that is
/// there another is mounted, with an upper part of its own, which is given what was written to the old one: what has
/// files open there keeps them.
///
/// All upper parts lie in one tmpfs, so that a file is handed on as a link: it takes no memory again, what writes to it
/// still does so in the new one, and all of them together have one limit. A file that is removed or replaced later stays in
/// memory with the old upper part, and a person gives it back, by the old overlay, which is kept at hand. Nothing does so by
/// itself: what an open session has written to the old one since is there alone, and cannot be told from what was removed in
/// the new one; and for a process that has mounts of its own the old one is its /usr. The upper part is no place to do it:
/// overlayfs does not define what is seen then, and holds on to what it has looked up
/// (Documentation/filesystems/overlayfs.rst, "Changes to underlying filesystems").
fn stack(root: &Root, mounted: &[PathBuf]) -> anyhow::Result<()> {
    let before = upper_in_use(&host::proc::mounts(root));
    let upper = Path::new(paths::STACK).join(UPPER);
    let nucleus = Path::new(paths::STACK).join("nucleus");
    if !nucleus.exists() {
        std::fs::create_dir_all(&nucleus)?;
        mount::bind(Path::new("/usr"), &nucleus, false)?;
    }
    if before.is_none() {
        // Of a process that died over it.
        give_back(&upper);
        std::fs::create_dir_all(&upper)?;
        mount::mount("upper", &upper, "tmpfs", MountFlags::NODEV | MountFlags::NOSUID, UPPER_SIZE)?;
    }
    let [data, work, _] = parts(&upper, before.map_or(0, |number| number + 1));
    let clear = || {
        for part in [&data, &work] {
            // That it is not there is well.
            let _ = std::fs::remove_dir_all(part);
        }
    };
    // Of a process that died over it.
    clear();
    let old = before.map(|number| parts(&upper, number));
    if let Some([_, _, place]) = &old {
        // Of a process that died over it.
        hide(place);
        std::fs::create_dir_all(place)?;
        mount::bind(Path::new("/usr"), place, false).context("keep the overlay that is there at hand")?;
    }
    let laid = lay(mounted, &nucleus, [&data, &work], old.as_ref().map(|[data, ..]| data.as_path()));
    if laid.is_err() {
        clear();
        if let Some([_, _, place]) = &old {
            hide(place);
        }
        if before.is_none() {
            give_back(&upper);
        }
    }
    laid
}

/// Upper and work directory of the overlay of this number, and where it is seen once another lies over it.
fn parts(upper: &Path, number: usize) -> [PathBuf; 3] {
    let number = if number == 0 { String::new() } else { number.to_string() };
    [DATA, "work", BEFORE].map(|name| upper.join(format!("{name}{number}")))
}

/// The number of the overlay on /usr that lies highest: each has one more than that below it.
fn upper_in_use(mounts: &[Mount]) -> Option<usize> {
    let ours = mounts.iter().filter(|mount| mount.target == "/usr" && mount.fstype == "overlay");
    let number = |mount: &Mount| {
        let upper = mount.super_options.split(',').find_map(|option| option.strip_prefix("upperdir="))?;
        let name = Path::new(upper).strip_prefix(paths::STACK).ok()?.strip_prefix(UPPER).ok()?;
        let number = name.to_str()?.strip_prefix(DATA)?;
        if number.is_empty() { Some(0) } else { number.parse().ok() }
    };
    ours.filter_map(number).max()
}

/// Where it is not seen, that is well.
fn hide(place: &Path) {
    let _ = mount::umount(place, UnmountFlags::DETACH);
    let _ = std::fs::remove_dir(place);
}

/// How what was removed or replaced below /usr is given back, where more than half of what may be written there is in use and
/// an overlay lies below that on it.
pub fn hint(root: &Root) -> Option<String> {
    let upper = Path::new(paths::STACK).join(UPPER);
    upper_in_use(&host::proc::mounts(root)).filter(|number| *number > 0)?;
    let about = rustix::fs::statvfs(&upper).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(about.f_frsize);
    fullness(bytes(about.f_blocks), bytes(about.f_blocks.saturating_sub(about.f_bfree)))
}

/// Of these bytes in all.
fn fullness(all: u64, used: u64) -> Option<String> {
    (used > all / 2).then(|| {
        format!(
            "{} of {} MiB for what is written below /usr are in use; what was removed or replaced at /usr/FILE is given back by rm {}/{UPPER}/{BEFORE}*/FILE",
            used >> 20,
            all >> 20,
            paths::STACK
        )
    })
}

/// The upper parts, where no overlay has one. That they are not there is well.
fn give_back(upper: &Path) {
    let _ = mount::umount(upper, UnmountFlags::DETACH);
    let _ = std::fs::remove_dir(upper);
}

fn lay(
    mounted: &[PathBuf],
    nucleus: &Path,
    [data, work]: [&Path; 2],
    old: Option<&Path>,
) -> anyhow::Result<()> {
    for part in [data, work] {
        std::fs::create_dir(part)?;
        std::fs::set_permissions(part, Permissions::from_mode(0o755))?;
    }
    if let Some(old) = old {
        link_written(old, data).context("take over what was written to /usr")?;
    }
    let lower: Vec<String> = mounted
        .iter()
        .rev()
        .map(|path| path.join("usr").display().to_string())
        .chain([nucleus.display().to_string()])
        .collect();
    let options =
        format!("lowerdir={},upperdir={},workdir={}", lower.join(":"), data.display(), work.display());
    Ok(mount::mount("usr", Path::new("/usr"), "overlay", MountFlags::NODEV, &options)?)
}

/// The upper part of an overlay, its files as links, with what stands in it for files that were removed. What goes away
/// meanwhile, a program's temporary file, is not missed.
fn link_written(from: &Path, to: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        match link_entry(&source, &target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && source.symlink_metadata().is_err() => {
                // Whatever of it had come, of either kind.
                let _ = std::fs::remove_file(&target).or_else(|_| std::fs::remove_dir_all(&target));
            }
            other => other?,
        }
    }
    Ok(())
}

fn link_entry(source: &Path, target: &Path) -> io::Result<()> {
    let metadata = source.symlink_metadata()?;
    let kind = metadata.file_type();
    if kind.is_dir() {
        std::fs::create_dir(target)?;
        link_written(source, target)?;
        for name in [OPAQUE, REDIRECT] {
            let mut value = [0; 4096];
            if let Ok(length) = rustix::fs::lgetxattr(source, name, &mut value[..]) {
                rustix::fs::lsetxattr(target, name, &value[..length], XattrFlags::empty())?;
            }
        }
    } else if kind.is_symlink() {
        std::os::unix::fs::symlink(std::fs::read_link(source)?, target)?;
    } else if kind.is_file() {
        return std::fs::hard_link(source, target);
    } else if kind.is_char_device() && metadata.rdev() == 0 {
        // A whiteout: the file below is not seen.
        let device = rustix::fs::FileType::CharacterDevice;
        return Ok(rustix::fs::mknodat(rustix::fs::CWD, target, device, Mode::empty(), 0)?);
    } else {
        host::log!("{}: neither file nor directory: left behind", source.display());
        return Ok(());
    }
    settle(target, &metadata)
}

/// Owner, mode and times as they were.
fn settle(target: &Path, metadata: &Metadata) -> io::Result<()> {
    std::os::unix::fs::lchown(target, Some(metadata.uid()), Some(metadata.gid()))?;
    if metadata.file_type().is_symlink() {
        return Ok(());
    }
    std::fs::set_permissions(target, metadata.permissions())?;
    let times = FileTimes::new().set_modified(metadata.modified()?).set_accessed(metadata.accessed()?);
    File::open(target)?.set_times(times)
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
    use std::io::Write as _;

    #[test]
    fn a_kernel_without_modules_in_the_image_mounts_what_it_can_or_both_releases_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::create_dir_all(path("proc/sys/kernel")).unwrap();
        std::fs::write(path("proc/sys/kernel/osrelease"), "6.12.9-x\n").unwrap();
        std::fs::create_dir_all(path("usr/lib/modules/6.12.8-x")).unwrap();
        let missing = missing(&Root::at(directory.path()).unwrap()).unwrap();
        assert!(missing.contains("6.12.9-x") && missing.contains("6.12.8-x"), "{missing}");

        let good = |name: &str| Good { name: name.into(), length: 1, file: tempfile::tempfile().unwrap() };
        let good = [good("10-userland"), good("20-modules")];
        let fails = |_: &str, _: &File| Err(io::Error::other("no such device"));
        let one = |name: &str, _: &File| match name {
            "10-userland" => Ok(()),
            _ => Err(io::Error::other("cut off")),
        };
        let mut errors = vec![None, None];
        let built_in = attach_all(&good, &mut errors, Some(&missing), |_, _| Ok(())).unwrap();
        assert_eq!((built_in, &errors), (vec!["10-userland", "20-modules"], &vec![None, None]));
        let none = attach_all(&good, &mut errors, Some(&missing), fails).unwrap_err();
        assert_eq!(none.to_string(), missing);
        let each = Some(format!("{missing} (no such device)"));
        assert_eq!(errors, [each.clone(), each]);
        let mut errors = vec![None, None];
        let first = attach_all(&good, &mut errors, None, one).unwrap();
        assert_eq!((first, errors), (vec!["10-userland"], vec![None, Some("cut off".to_string())]));
    }

    #[test]
    fn a_layer_that_has_nothing_below_usr_is_told_apart() {
        let layer = tempfile::tempdir().unwrap();
        std::fs::create_dir(layer.path().join("bin")).unwrap();
        assert!(shows(layer.path()).unwrap_err().to_string().contains("no directory `usr`"));
        std::os::unix::fs::symlink("bin", layer.path().join("usr")).unwrap();
        assert!(shows(layer.path()).is_err(), "it would lead out of the layer");
        std::fs::remove_file(layer.path().join("usr")).unwrap();
        std::fs::create_dir(layer.path().join("usr")).unwrap();
        shows(layer.path()).unwrap();
    }

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
    fn what_was_written_to_the_old_upper_part_is_in_the_new_one() {
        // Of one file system, as the upper parts are.
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir_all(from.path().join("bin")).unwrap();
        std::fs::write(from.path().join("bin/mine"), "#!").unwrap();
        std::fs::set_permissions(from.path().join("bin/mine"), Permissions::from_mode(0o4755)).unwrap();
        std::os::unix::fs::symlink("mine", from.path().join("bin/link")).unwrap();
        let mut opened = File::options().append(true).open(from.path().join("bin/mine")).unwrap();
        link_written(from.path(), to.path()).unwrap();
        let (old, new) = (from.path().join("bin/mine"), to.path().join("bin/mine"));
        let (before, after) = (old.metadata().unwrap(), new.metadata().unwrap());
        assert_eq!((after.mode(), after.modified().unwrap()), (before.mode(), before.modified().unwrap()));
        assert_eq!(after.ino(), before.ino(), "its bytes are in memory once");
        opened.write_all(b"more").unwrap();
        assert_eq!(std::fs::read_to_string(&new).unwrap(), "#!more", "written by who had it open");
        std::fs::remove_file(&new).unwrap();
        assert!(old.exists(), "it is removed there alone");
        assert_eq!(std::fs::read_link(to.path().join("bin/link")).unwrap(), Path::new("mine"));
    }

    #[test]
    fn what_was_replaced_is_given_back_by_the_usr_from_before() {
        // In mounts of its own, as PID 1 of a namespace.
        if !rustix::process::getpid().is_init() {
            if !rustix::process::geteuid().is_root() {
                return eprintln!("not tested: only root mounts an overlay");
            }
            let name = "stack::tests::what_was_replaced_is_given_back_by_the_usr_from_before";
            let mut inside = std::process::Command::new("unshare");
            inside.args(["--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]);
            inside.arg(std::env::current_exe().unwrap()).args(["--exact", name, "--nocapture"]);
            let done = inside.output().unwrap();
            let said = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
            if said.starts_with("unshare: ") {
                return eprintln!("not tested: {}", said.trim());
            }
            assert!(done.status.success() && said.contains("1 passed"), "{said}");
            return;
        }
        mount::mount("run", Path::new("/run"), "tmpfs", MountFlags::empty(), "mode=0755").unwrap();
        let root = Root::live().unwrap();
        let layer = Path::new(paths::STACK).join("10-userland");
        std::fs::create_dir_all(layer.join("usr/layer")).unwrap();
        let upper = Path::new(paths::STACK).join(UPPER);
        let free = || rustix::fs::statvfs(&upper).unwrap().f_bavail;
        let content = |byte: u8| vec![byte; 1 << 20];
        let [file, other, new] = ["file", "other", "new"].map(|name| Path::new("/usr/layer").join(name));
        stack(&root, std::slice::from_ref(&layer)).unwrap();
        std::fs::write(&file, content(b'1')).unwrap();
        std::fs::write(&other, content(b'o')).unwrap();
        let before = free();
        for (round, place) in ["usr", "usr1"].into_iter().enumerate() {
            stack(&root, std::slice::from_ref(&layer)).unwrap();
            // An open session's, with its directory in the old one: of this there is no other.
            let place = upper.join(place).join("layer");
            std::fs::write(place.join("late"), "").unwrap();
            // As sed -i, rsync and install do it.
            std::fs::write(&new, content(b'2')).unwrap();
            std::fs::rename(&new, &file).unwrap();
            assert!(free() < before, "it is there twice");
            std::fs::remove_file(place.join("file")).unwrap();
            assert_eq!(free(), before, "and once, round {round}");
            std::fs::remove_file(place.join("other")).unwrap();
            assert_eq!(std::fs::read(&file).unwrap(), content(b'2'), "round {round}");
            assert_eq!(std::fs::read(&other).unwrap(), content(b'o'), "it was not replaced");
            assert!(place.join("late").exists(), "round {round}");
        }
        assert_eq!(hint(&root), None);
    }

    #[test]
    fn a_usr_that_is_half_full_is_told_how_to_be_emptied() {
        assert_eq!([0, 50 << 20].map(|used| fullness(100 << 20, used)), [None, None]);
        let said = fullness(100 << 20, 51 << 20).unwrap();
        assert!(said.contains("51 of 100 MiB"), "{said}");
        assert!(said.ends_with("rm /run/lifeboat/layers/upper/usr*/FILE"), "{said}");
    }

    #[test]
    fn a_file_that_goes_away_while_it_is_linked_is_no_failure() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let error = link_entry(&from.path().join("gone"), &to.path().join("gone")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound, "link_written lets this one pass");
        // One that is there, and cannot be linked, is one.
        std::fs::write(from.path().join("file"), "").unwrap();
        assert!(link_written(from.path(), &to.path().join("nowhere")).is_err());
    }

    #[test]
    fn what_others_have_begun_is_promised_to_them() {
        let ours = std::process::id();
        let coming = |bytes: u64, got: u64, by: u32| state::Coming { bytes, got, by, ..Default::default() };
        let coming = vec![coming(100, 30, ours), coming(100, 60, ours + 1), coming(50, 0, ours + 1)];
        assert_eq!(promised(&state::Layers { coming, ..Default::default() }), 40);
    }

    #[test]
    fn the_next_overlay_is_numbered_from_the_one_in_use() {
        let line = |id: u32, name: &str, options: &str| {
            format!("{id} 1 0:{id} / {name} rw,nodev - overlay usr rw,lowerdir=/x{options}\n")
        };
        let usr = |id: u32, number: &str| {
            let upper = "/run/lifeboat/layers/upper";
            line(id, "/usr", &format!(",upperdir={upper}/data{number},workdir={upper}/work{number}"))
        };
        let in_use = |text: String| upper_in_use(&host::proc::parse_mountinfo(&text));
        assert_eq!(in_use(String::new()), None);
        assert_eq!(in_use(usr(30, "")), Some(0));
        assert_eq!(in_use(usr(31, "2") + &usr(32, "") + &usr(30, "1")), Some(2));
        // Somebody's own.
        assert_eq!(
            in_use(line(30, "/mnt", ",upperdir=/run/lifeboat/layers/upper/data7") + &line(31, "/usr", "")),
            None
        );
    }
}
