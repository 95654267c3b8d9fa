//! Root: where a machine, or an installed system, begins: a directory descriptor. Every look-up is
//! an openat2(2) that cannot leave it (RESOLVE_IN_ROOT) and follows no magic link, so that a found
//! system's absolute symbolic links and a captured machine's tree behave as if they were `/`.

use rustix::fs::{FileType, Mode, OFlags, RawDir, ResolveFlags};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Most bytes of one file that [`Root::read`] returns; more is an error, not a truncation. Kernel
/// and configuration files are far below it.
pub const MAX_FILE: u64 = 16 << 20;
/// Most bytes that are made room for before any is read.
const LIKELY: u64 = 64 << 10;
/// Most entries of one directory; /sys/class/block of a machine with thousands of LUNs fits.
pub const MAX_ENTRIES: usize = 65_536;

/// A file of sysfs is a page at most, and comes in one piece.
const PAGE: usize = 4096;
/// Tries of one look-up against renames and mounts; each is a few microseconds.
const TRIES: u32 = 1000;

#[derive(Clone, Debug)]
pub struct Root {
    directory: Arc<OwnedFd>,
    live: bool,
    tape: Option<Arc<Tape>>,
}

/// What was looked at through a root, for `rescue capture`: each path as it was asked for, and what
/// stood there.
#[derive(Debug, Default)]
pub struct Tape(Mutex<BTreeMap<PathBuf, Seen>>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    File(Vec<u8>),
    Link(PathBuf),
    Directory,
    /// It is there, and nobody asked what it is.
    There,
}

impl Tape {
    /// A path that was read is known better than one that was only seen to be there.
    fn note(&self, path: &Path, seen: Seen) {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match (notes.get(path), &seen) {
            (Some(_), Seen::There) => {}
            _ => drop(notes.insert(path.to_path_buf(), seen)),
        }
    }

    pub fn notes(&self) -> BTreeMap<PathBuf, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Root {
    /// The running system's `/`.
    pub fn live() -> io::Result<Root> {
        Root::open(Path::new("/"), true)
    }

    /// A captured machine, or a found system's mount point.
    pub fn at(path: &Path) -> io::Result<Root> {
        Root::open(path, false)
    }

    /// A directory below this root as a root of its own, such as a found system's mount point.
    pub fn below(&self, path: impl AsRef<Path>) -> io::Result<Root> {
        let directory = self.open_at(path, OFlags::PATH | OFlags::DIRECTORY)?;
        Ok(Root { directory: Arc::new(directory), live: false, tape: None })
    }

    fn open(path: &Path, live: bool) -> io::Result<Root> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Root { directory: Arc::new(directory), live, tape: None })
    }

    /// The same root, which writes down what is looked at through it.
    pub fn taped(&self, tape: &Arc<Tape>) -> Root {
        Root { tape: Some(tape.clone()), ..self.clone() }
    }

    fn note(&self, path: &Path, seen: impl FnOnce() -> Seen) {
        if let Some(tape) = &self.tape {
            tape.note(path, seen());
        }
    }

    pub fn is_live(&self) -> bool {
        self.live
    }

    /// Opens below the root. `flags` gets CLOEXEC and NOCTTY; add NONBLOCK where a FIFO may lie.
    pub fn open_at(&self, path: impl AsRef<Path>, flags: OFlags) -> io::Result<OwnedFd> {
        self.open_mode(path.as_ref(), flags, Mode::empty())
    }

    /// Opens for reading whatever it is, a block device or an image of one; never waits for it.
    pub fn open_device(&self, path: impl AsRef<Path>) -> io::Result<File> {
        Ok(File::from(self.open_at(path, OFlags::RDONLY | OFlags::NONBLOCK)?))
    }

    fn open_mode(&self, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let relative = path.strip_prefix("/").unwrap_or(path);
        let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let mut flags = flags | OFlags::CLOEXEC;
        if !flags.contains(OFlags::PATH) {
            flags |= OFlags::NOCTTY; // openat2 refuses it beside O_PATH
        }
        // EAGAIN: somebody renamed or mounted anything while a `..` was walked (openat2(2)). Most paths
        // of sysfs are links with one, and state files are renamed all the time.
        let mut tries = 0;
        loop {
            match rustix::fs::openat2(&*self.directory, relative, flags, mode, resolve) {
                Err(rustix::io::Errno::AGAIN) if tries < TRIES => {
                    tries += 1;
                    std::thread::yield_now();
                }
                other => return Ok(other?),
            }
        }
    }

    /// A regular file's whole content, [`MAX_FILE`] at most. Files of sysfs and proc are regular.
    pub fn read(&self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        let path = path.as_ref();
        let fd = self.open_at(path, OFlags::RDONLY | OFlags::NONBLOCK)?;
        let file = File::from(fd);
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        // One byte more, to see the end without growing. What proc and sysfs say of a length is no promise.
        let likely = metadata.len().clamp(PAGE as u64, LIKELY);
        let mut bytes = Vec::with_capacity(likely as usize + 1);
        file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 16 MiB"));
        }
        self.note(path, || Seen::File(bytes.clone()));
        Ok(bytes)
    }

    /// A directory of many small files, held open: what lies in it is then found by its name alone.
    pub fn enter(&self, path: impl Into<PathBuf>) -> io::Result<Entered<'_>> {
        let path = path.into();
        let directory = self.open_at(&path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        Ok(Entered { root: self, path, directory })
    }

    /// As [`Root::read`], as text; see [`crate::text`] for bytes that are none.
    pub fn read_text(&self, path: impl AsRef<Path>) -> io::Result<String> {
        Ok(crate::text::text(&self.read(path)?))
    }

    /// A one-line attribute of sysfs or proc, trimmed; `None` when absent, unreadable or empty.
    pub fn line(&self, path: impl AsRef<Path>) -> Option<String> {
        let text = self.read_text(path).ok()?;
        let line = text.trim();
        (!line.is_empty()).then(|| line.to_string())
    }

    /// A number in an attribute; `None` when absent or not a number.
    pub fn number<T: std::str::FromStr>(&self, path: impl AsRef<Path>) -> Option<T> {
        self.line(path)?.parse().ok()
    }

    /// The names in a directory, sorted, without `.` and `..`.
    pub fn list(&self, path: impl AsRef<Path>) -> io::Result<Vec<OsString>> {
        let path = path.as_ref();
        let fd = self.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let names = names_in(fd)?;
        self.note(path, || Seen::Directory);
        if self.tape.is_some() {
            // A listing without its names would be another one.
            names.iter().for_each(|name| self.note(&path.join(name), || Seen::There));
        }
        Ok(names)
    }

    /// What a symbolic link says, unresolved.
    pub fn link(&self, path: impl AsRef<Path>) -> io::Result<PathBuf> {
        let path = path.as_ref();
        let fd = self.open_at(path, OFlags::PATH | OFlags::NOFOLLOW)?;
        let target = rustix::fs::readlinkat(fd.as_fd(), "", Vec::new())?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        self.note(path, || Seen::Link(target.clone()));
        Ok(target)
    }

    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        let there = self.open_at(path.as_ref(), OFlags::PATH).is_ok();
        if there {
            self.note(path.as_ref(), || Seen::There);
        }
        there
    }

    /// Writes an attribute of sysfs or proc in one write(2), as the kernel wants it.
    pub fn write(&self, path: impl AsRef<Path>, text: &str) -> io::Result<()> {
        let fd = self.open_at(path, OFlags::WRONLY)?;
        File::from(fd).write_all(text.as_bytes())
    }

    pub fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// A directory below a root; see [`Root::enter`].
pub struct Entered<'a> {
    root: &'a Root,
    path: PathBuf,
    directory: OwnedFd,
}

impl Entered<'_> {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A directory in it, or that a link in it names.
    pub fn enter(&self, name: &str) -> io::Result<Entered<'_>> {
        let path = self.path.join(name);
        if !self.root.live || self.root.tape.is_some() {
            return self.root.enter(path);
        }
        // Below `/` there is nothing to keep a link from.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(&self.directory, name, flags, Mode::empty())?;
        Ok(Entered { root: self.root, path, directory })
    }

    /// Opens what lies in or below the directory itself. A link that leads out of it is the root's to follow.
    fn open(&self, name: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let opened = if self.root.tape.is_none() {
            let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY;
            rustix::fs::openat2(&self.directory, name, flags, Mode::empty(), resolve)
        } else {
            Err(rustix::io::Errno::XDEV)
        };
        match opened {
            Err(rustix::io::Errno::XDEV | rustix::io::Errno::AGAIN) => {
                self.root.open_at(self.path.join(name), flags)
            }
            other => Ok(other?),
        }
    }

    /// An attribute of sysfs; of a captured machine, a regular file that stands for one.
    pub fn read(&self, name: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        let name = name.as_ref();
        if self.root.tape.is_some() {
            return self.root.read(self.path.join(name));
        }
        let fd = self.open(name, OFlags::RDONLY | OFlags::NONBLOCK)?;
        // All files of the kernel's own are.
        if !self.root.live
            && FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) != FileType::RegularFile
        {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let mut page = [MaybeUninit::uninit(); PAGE];
        let mut bytes = rustix::io::read(&fd, &mut page)?.0.to_vec();
        let mut length = bytes.len();
        // Only of a binary attribute, or of a file in its place, there may be more.
        while length == PAGE && bytes.len() < MAX_FILE as usize {
            let more: &[u8] = rustix::io::read(&fd, &mut page)?.0;
            bytes.extend_from_slice(more);
            length = more.len();
        }
        Ok(bytes)
    }

    /// As [`Root::list`].
    pub fn list(&self, name: impl AsRef<Path>) -> io::Result<Vec<OsString>> {
        let name = name.as_ref();
        if self.root.tape.is_some() {
            return self.root.list(self.path.join(name));
        }
        names_in(self.open(name, OFlags::RDONLY | OFlags::DIRECTORY)?)
    }

    /// What a symbolic link in it says, unresolved.
    pub fn link(&self, name: &str) -> io::Result<PathBuf> {
        if self.root.tape.is_some() {
            return self.root.link(self.path.join(name));
        }
        let target = rustix::fs::readlinkat(&self.directory, name, Vec::new())?;
        Ok(PathBuf::from(OsString::from_vec(target.into_bytes())))
    }

    /// The names in it, as a hint what there is to ask for: no tape takes note of them. Once: the directory is at its
    /// end then.
    pub fn names(&self) -> io::Result<Names> {
        let mut names = Names { text: Vec::with_capacity(PAGE / 4), ends: Vec::with_capacity(PAGE / 64) };
        each_name(&self.directory, |name| {
            names.text.extend_from_slice(name);
            names.ends.push(names.text.len());
        })?;
        Ok(names)
    }

    /// Whether what is looked at is written down; then it has to be asked for as a captured machine is.
    pub fn is_taped(&self) -> bool {
        self.root.tape.is_some()
    }
}

/// The names in a directory, to ask for one: they lie behind each other, since a vector of them costs more to make than
/// all the questions do.
#[derive(Debug)]
pub struct Names {
    text: Vec<u8>,
    /// Where in the text each ends.
    ends: Vec<usize>,
}

impl Names {
    pub fn has(&self, name: &[u8]) -> bool {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts
            .zip(&self.ends)
            .any(|(start, end)| end - start == name.len() && self.text[start..*end] == *name)
    }
}

/// Sorted, without `.` and `..`.
fn names_in(directory: impl AsFd) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    each_name(directory, |name| names.push(OsString::from_vec(name.to_vec())))?;
    names.sort();
    Ok(names)
}

fn each_name(directory: impl AsFd, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = [MaybeUninit::uninit(); 2 * PAGE];
    let mut entries = RawDir::new(directory, &mut buffer);
    let mut count = 0;
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            take(name);
            count += 1;
        }
        if count > MAX_ENTRIES {
            return Err(io::Error::other("more than 65,536 entries"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absolute_link_stays_below_the_root() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("etc/real"), "inside").unwrap();
        std::os::unix::fs::symlink("/etc/real", dir.path().join("link")).unwrap();
        std::os::unix::fs::symlink("../../../../etc/hostname", dir.path().join("escape")).unwrap();
        let root = Root::at(dir.path()).unwrap();
        assert_eq!(root.read_text("/link").unwrap(), "inside");
        assert!(root.read("/escape").is_err());
        assert_eq!(root.link("link").unwrap(), Path::new("/etc/real"));
        assert_eq!(root.list("/").unwrap(), ["escape", "etc", "link"]);
        let etc = root.below("etc").unwrap();
        assert_eq!(etc.read_text("/real").unwrap(), "inside");
        assert!(etc.read("../link").is_err());
    }

    #[test]
    fn an_entered_directory_shows_what_its_paths_show_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("devices/one/queue")).unwrap();
        std::fs::create_dir_all(dir.path().join("devices/above")).unwrap();
        std::fs::write(dir.path().join("devices/one/queue/size"), "512\n").unwrap();
        std::fs::write(dir.path().join("devices/above/model"), "M1\n").unwrap();
        std::fs::write(dir.path().join("long"), "x".repeat(3 * PAGE)).unwrap();
        std::os::unix::fs::symlink("../above", dir.path().join("devices/one/device")).unwrap();
        std::os::unix::fs::symlink("/long", dir.path().join("devices/one/absolute")).unwrap();
        std::os::unix::fs::symlink("../../../../../../etc/hostname", dir.path().join("devices/one/escape"))
            .unwrap();
        // As the running system, and as a captured one.
        for root in [Root::open(dir.path(), true).unwrap(), Root::at(dir.path()).unwrap()] {
            let one = root.enter("/devices/one").unwrap();
            assert_eq!(one.read("queue/size").unwrap(), b"512\n");
            assert_eq!(one.read("device/model").unwrap(), b"M1\n", "behind a link that leads out");
            assert_eq!(one.read("../above/model").unwrap(), b"M1\n");
            assert_eq!(one.read("absolute").unwrap().len(), 3 * PAGE);
            assert!(one.read("escape").is_err() && one.read("queue").is_err());
            let names = one.names().unwrap();
            assert!(["absolute", "device", "escape", "queue"].iter().all(|name| names.has(name.as_bytes())));
            assert!(
                ["", ".", "..", "devic", "evice", "devices", "size"]
                    .iter()
                    .all(|name| !names.has(name.as_bytes()))
            );
            assert_eq!(one.list("queue").unwrap(), ["size"]);
            let devices = root.enter("/devices").unwrap();
            assert_eq!(devices.enter("one").unwrap().read("queue/size").unwrap(), b"512\n");
            assert_eq!(one.enter("device").unwrap().read("model").unwrap(), b"M1\n");
            assert!(one.enter("absolute").is_err() && one.enter("missing").is_err());
            assert_eq!(one.link("device").unwrap(), Path::new("../above"));
        }
    }

    #[test]
    fn a_fifo_is_refused_and_does_not_block() {
        let dir = tempfile::tempdir().unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, dir.path().join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert!(Root::at(dir.path()).unwrap().read("fifo").is_err());
    }

    #[test]
    fn renames_elsewhere_do_not_hide_what_is_behind_a_link() {
        let memory = Path::new("/dev/shm"); // renames are quick there
        let place = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
        let dir = tempfile::tempdir_in(&place).unwrap();
        std::fs::create_dir_all(dir.path().join("class")).unwrap();
        std::fs::create_dir_all(dir.path().join("devices/one")).unwrap();
        std::fs::write(dir.path().join("devices/one/serial"), "S1\n").unwrap();
        std::os::unix::fs::symlink("../devices/one", dir.path().join("class/one")).unwrap();
        let root = Root::at(dir.path()).unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (done, elsewhere) = (&done, tempfile::tempdir_in(&place).unwrap());
            scope.spawn(move || {
                std::fs::write(elsewhere.path().join("a"), "").unwrap();
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    std::fs::rename(elsewhere.path().join("a"), elsewhere.path().join("b")).unwrap();
                    std::fs::rename(elsewhere.path().join("b"), elsewhere.path().join("a")).unwrap();
                }
            });
            let lost =
                (0..100_000).filter(|_| root.line("class/one/serial").as_deref() != Some("S1")).count();
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            assert_eq!(lost, 0);
        });
    }
}
