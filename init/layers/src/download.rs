//! One layer on its way into memory: written once, to a file in a tmpfs of its own, and hashed while it arrives. Where the
//! line breaks, the next attempt goes on where this one ended. The file has no name: nobody comes upon it by one, and its
//! memory goes with the process, or with the loop device that shows it.

use crate::ask::{Head, MAX_HEAD};
use crate::spare;
use crate::stack::Shelf;
use contract::paths;
use host::Root;
use host::sys::process::{self, Ended, Spawn};
use host::sys::{inherited, mount};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mount::MountFlags;
use rustix::process::Signal;
use sha2::{Digest, Sha256};
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Memory that has to be left when a layer has come: a mounted one takes 5 MiB beside its file, and with less than 8 free
/// the machine does nothing but page in and out (as tried).
const LEFT: u64 = 16 << 20;
const PIECE: usize = 64 << 10;
/// Longest URL, bytes: what the smallest pipe holds while nobody reads it.
pub const MAX_URL: usize = 4096;
/// The other process gives up a silent server by itself.
const SILENCE: Duration = Duration::from_secs(web::SILENCE.as_secs() * 2);
/// A line that brings less than so much in such a time is none.
const TRICKLE: u64 = 64 << 10;
const TRICKLE_TIME: Duration = Duration::from_secs(60);
/// The first to go where memory ends.
const OOM_SCORE: i16 = 900;

/// Why it did not come, for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Another attempt may do.
    Again(String),
    /// What is there is not what is wanted, or there is no room for it: not before the next round.
    Later(String),
    /// There is none.
    Absent(String),
}

impl Failure {
    pub fn text(self) -> String {
        match self {
            Failure::Again(text) | Failure::Later(text) | Failure::Absent(text) => text,
        }
    }
}

fn again(error: impl std::fmt::Display) -> Failure {
    Failure::Again(error.to_string())
}

pub struct Download {
    path: PathBuf,
    file: Option<File>,
    /// `None` until the server says it, for what is in no list.
    length: Option<u64>,
    /// Lower-case hex.
    sha256: String,
    hash: Sha256,
    got: u64,
    /// Drivers that this machine has no card for may be given up for it.
    spares: bool,
    /// Two answers make up what is there.
    joined: bool,
}

impl Download {
    pub fn new(name: &str, length: Option<u64>, sha256: &str) -> Download {
        Download::at(Path::new(paths::FETCHED), name, length, sha256)
    }

    fn at(directory: &Path, name: &str, length: Option<u64>, sha256: &str) -> Download {
        Download {
            path: directory.join(format!("{name}.squashfs")),
            file: None,
            length,
            sha256: sha256.to_string(),
            hash: Sha256::new(),
            got: 0,
            spares: false,
            joined: false,
        }
    }

    /// One that comes without being asked for: what it brings is worth more than drivers for other machines' cards.
    pub fn sparing(self) -> Download {
        Download { spares: true, ..self }
    }

    pub fn got(&self) -> u64 {
        self.got
    }

    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// What came, for reading alone.
    pub fn file(&self) -> io::Result<File> {
        let file = self.file.as_ref().ok_or_else(|| io::Error::other("nothing of it is there"))?;
        File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))
    }

    /// Gives back what it took.
    pub fn forget(&mut self) {
        (self.hash, self.got, self.joined) = (Sha256::new(), 0, false);
        self.file = None;
    }

    /// One attempt. `tell` hears how far it is, and how far it goes.
    pub fn fetch(&mut self, root: &Root, url: &str, tell: &mut dyn FnMut(u64, u64)) -> Result<(), Failure> {
        if self.file.is_some() && self.length == Some(self.got) {
            // Whole, and what came after it failed: there is nothing to ask for behind its end.
            return self.check();
        }
        if let Some(length) = self.length {
            self.make_room(root, length)?;
        }
        let (pid, pipe) = spawn(url, self.got).map_err(again)?;
        let mut pipe = Patient { pipe, pace: Pace::new(Instant::now()) };
        let result = self.receive(root, &mut pipe, tell);
        // It may have ended by itself.
        let _ = process::signal(pid, Signal::KILL);
        let ended = process::wait_for(pid);
        if !matches!(ended, Ok(Ended::Status(0) | Ended::Signal(_))) {
            host::log!("fetch {}: {ended:?}", contract::url::shown(url));
        }
        result?;
        self.check()
    }

    fn receive(
        &mut self,
        root: &Root,
        pipe: &mut impl Read,
        tell: &mut dyn FnMut(u64, u64),
    ) -> Result<(), Failure> {
        let (from, length) = match head(pipe).map_err(again)? {
            Head::Failed(why) if why == web::NO_SUCH_FILE => return Err(Failure::Absent(why)),
            Head::Failed(why) => return Err(Failure::Again(why)),
            Head::Begins { from, length } => (from, length),
        };
        match (self.length, length) {
            (Some(wanted), Some(length)) if wanted != length => {
                return Err(Failure::Later(format!(
                    "what is there has {length} bytes, and the layer of this image {wanted}: is it that of another build?"
                )));
            }
            (None, None) => return Err(Failure::Later("the server does not say how long it is".to_string())),
            (None, Some(length)) => {
                self.make_room(root, length)?;
                self.length = Some(length);
            }
            (Some(_), _) => {}
        }
        let Some(skip) = self.got.checked_sub(from) else {
            return Err(Failure::Again("the server began behind what was asked for".to_string()));
        };
        self.joined |= self.got > 0;
        self.pour(pipe, skip, tell)
    }

    /// The bytes of a file that is there already.
    pub fn copy(
        &mut self,
        root: &Root,
        file: &mut File,
        tell: &mut dyn FnMut(u64, u64),
    ) -> Result<(), Failure> {
        let length = file.metadata().map_err(again)?.len();
        self.length.get_or_insert(length);
        self.make_room(root, length)?;
        self.pour(file, 0, tell)?;
        self.check()
    }

    fn pour(
        &mut self,
        from: &mut impl Read,
        mut skip: u64,
        tell: &mut dyn FnMut(u64, u64),
    ) -> Result<(), Failure> {
        let length = self.length.unwrap_or(0);
        if self.file.is_none() {
            let made = nameless(&self.path);
            self.file = Some(made.map_err(|error| again(format!("make {}: {error}", self.path.display())))?);
        }
        let Some(file) = &self.file else { return Err(again("no file")) };
        let mut buffer = vec![0; PIECE];
        loop {
            let count = match from.read(&mut buffer) {
                Ok(0) if self.got == length => return Ok(()),
                Ok(0) => {
                    return Err(Failure::Again(format!("it ended at {} of {length} bytes", self.got)));
                }
                Ok(count) => count,
                Err(error) => return Err(again(error)),
            };
            let known = usize::try_from(skip).unwrap_or(usize::MAX).min(count);
            skip -= known as u64;
            let bytes = &buffer[known..count];
            if bytes.len() as u64 > length - self.got {
                return Err(Failure::Later(format!("it is longer than {length} bytes")));
            }
            file.write_all_at(bytes, self.got)
                .map_err(|error| again(format!("keep it in memory: {error}")))?;
            self.hash.update(bytes);
            self.got += bytes.len() as u64;
            tell(self.got, length);
        }
    }

    fn check(&mut self) -> Result<(), Failure> {
        let found: String = self.hash.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        if found == self.sha256 {
            return Ok(());
        }
        let joined = self.joined;
        self.forget();
        Err(match joined {
            true => Failure::Again(
                "what came in parts is not what is wanted: once more from its beginning".to_string(),
            ),
            false => Failure::Later(format!(
                "refused: its SHA-256 is {found}, and not {}: it is that of another build, or was changed",
                self.sha256
            )),
        })
    }

    /// Nothing is begun that would leave no memory to work with.
    fn make_room(&self, root: &Root, length: u64) -> Result<(), Failure> {
        // Two of us do not see the same memory free, nor make the place twice.
        let shelf = Shelf::take().map_err(again)?;
        let promised = shelf.promised();
        let more = length.saturating_sub(self.got);
        let available = || host::proc::available_memory(root).saturating_sub(promised);
        let missing = (more + LEFT).saturating_sub(available());
        if missing > 0 && self.spares {
            spare::make_room(root, missing);
        }
        if let Some(text) = too_little(more, available()) {
            return Err(Failure::Later(text));
        }
        place().map_err(|error| again(format!("make a place in memory, {}: {error}", paths::FETCHED)))
    }
}

/// A new file at a place that it leaves at once: whoever looks at a loop device still reads what it was.
fn nameless(path: &Path) -> io::Result<File> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
    std::fs::remove_file(path)?;
    Ok(file)
}

/// Why so many more bytes do not fit, with the figures.
fn too_little(more: u64, available: u64) -> Option<String> {
    let needed = more.saturating_add(LEFT);
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    (needed > available).then(|| {
        format!(
            "not fetched: {} MiB of it and {} to work with are more than the {} MiB of memory that are free",
            mib(more),
            LEFT >> 20,
            available >> 20
        )
    })
}

/// Makes the tmpfs, once. It has no limit of its own: none that writes to it takes more than it was said to be long.
fn place() -> io::Result<()> {
    let place = Path::new(paths::FETCHED);
    let flags = MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
    std::fs::create_dir_all(place)?;
    let device = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.dev());
    if device(place)? != device(Path::new(paths::LAYERS))? {
        return Ok(());
    }
    mount::mount("fetched", place, "tmpfs", flags, "mode=0700,size=0")
}

fn spawn(url: &str, from: u64) -> io::Result<(i32, File)> {
    let (reader, writer) = io::pipe()?;
    // By its name, which tells the image's programs apart.
    let program = std::env::current_exe()?.with_file_name("layers");
    let from = from.to_string();
    let argv = [program.as_os_str(), OsStr::new("fetch"), OsStr::new(&from)];
    let mut child = Spawn::new(&argv, &[]);
    child.stdin = Some(told(url)?);
    child.stdout = Some(File::from(OwnedFd::from(writer)));
    child.stderr = Some(File::from(inherited(2).try_clone_to_owned()?));
    child.oom_score = OOM_SCORE;
    child.nice = 10;
    let pid = process::spawn(child)?;
    Ok((pid, File::from(OwnedFd::from(reader))))
}

/// A standard input with this URL, which may have a password in it: everybody reads command lines.
fn told(url: &str) -> io::Result<File> {
    if url.len() > MAX_URL {
        return Err(io::Error::other("its URL is too long"));
    }
    let (reader, mut writer) = io::pipe()?;
    writer.write_all(url.as_bytes())?;
    Ok(File::from(OwnedFd::from(reader)))
}

/// A pipe whose other end may fall silent, or nearly.
struct Patient {
    pipe: File,
    pace: Pace,
}

/// What came since when.
struct Pace {
    since: Instant,
    came: u64,
}

impl Pace {
    fn new(now: Instant) -> Pace {
        Pace { since: now, came: 0 }
    }

    /// Errors: less came in the time that it was given than tells a line from none.
    fn add(&mut self, now: Instant, bytes: u64) -> io::Result<()> {
        self.came += bytes;
        if now.saturating_duration_since(self.since) < TRICKLE_TIME {
            return Ok(());
        }
        let came = self.came;
        *self = Pace::new(now);
        if came < TRICKLE {
            return Err(io::Error::other(format!("{came} bytes came in {} s", TRICKLE_TIME.as_secs())));
        }
        Ok(())
    }
}

impl Read for Patient {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.await_some(buffer)?;
        if count > 0 {
            self.pace.add(Instant::now(), count as u64)?;
        }
        Ok(count)
    }
}

impl Patient {
    fn await_some(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut fds = [PollFd::new(&self.pipe, PollFlags::IN)];
        let timeout = Timespec::try_from(SILENCE).map_err(io::Error::other)?;
        loop {
            match poll(&mut fds, Some(&timeout)) {
                Ok(0) => return Err(io::Error::other(format!("nothing came for {} s", SILENCE.as_secs()))),
                Ok(_) => return self.pipe.read(buffer),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn head(pipe: &mut impl Read) -> io::Result<Head> {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() < MAX_HEAD {
        pipe.read_exact(&mut byte).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => io::Error::other("the process that fetches it died"),
            _ => error,
        })?;
        if byte[0] == b'\n' {
            break;
        }
        line.push(byte[0]);
    }
    Head::parse(&String::from_utf8_lossy(&line)).ok_or_else(|| io::Error::other("an answer that is none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-2, appendix B.1.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn take(download: &mut Download, mut from: &[u8], skip: u64) -> Result<(), Failure> {
        download.pour(&mut from, skip, &mut |_, _| {})?;
        download.check()
    }

    #[test]
    fn a_url_reaches_the_other_process_as_its_input_and_not_on_its_command_line() {
        let url = format!("https://me:p%40ss@a/{}", "x".repeat(MAX_URL - 20));
        assert_eq!(url.len(), MAX_URL);
        assert_eq!(io::read_to_string(told(&url).unwrap()).unwrap(), url);
        assert!(told(&format!("{url}x")).is_err(), "nobody waits for a pipe that is full");
    }

    #[test]
    fn what_came_in_parts_is_whole_and_what_differs_is_refused_and_gone() {
        let dir = tempfile::tempdir().unwrap();
        let mut layer = Download::at(dir.path(), "x", Some(3), ABC);
        assert_eq!(take(&mut layer, b"ab", 0), Err(Failure::Again("it ended at 2 of 3 bytes".into())));
        // One that knows no ranges begins at the beginning.
        assert_eq!(take(&mut layer, b"abc", 2), Ok(()));
        let bytes = || io::read_to_string(layer.file().unwrap()).unwrap();
        assert_eq!(bytes(), "abc");
        // Somebody else's of the same name is another file.
        assert!(take(&mut Download::at(dir.path(), "x", Some(3), ABC), b"zz", 0).is_err());
        assert_eq!(bytes(), "abc");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "no name is left");

        let mut other = Download::at(dir.path(), "y", Some(3), ABC);
        assert!(
            matches!(take(&mut other, b"abd", 0), Err(Failure::Later(why)) if why.starts_with("refused: its SHA-256"))
        );
        assert!(other.file().is_err());
        assert!(matches!(take(&mut other, b"abcd", 0), Err(Failure::Later(why)) if why.contains("longer")));
    }

    #[test]
    fn what_is_there_whole_is_not_asked_for_again() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::live().unwrap();
        let mut layer = Download::at(dir.path(), "x", Some(3), ABC);
        assert_eq!(take(&mut layer, b"abc", 0), Ok(()));
        assert_eq!(layer.fetch(&root, "http://nowhere.invalid/x", &mut |_, _| {}), Ok(()));
    }

    #[test]
    fn a_server_that_is_silent_is_no_process_that_died() {
        struct Silent;
        impl Read for Silent {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("nothing came for 60 s"))
            }
        }
        assert_eq!(head(&mut Silent).unwrap_err().to_string(), "nothing came for 60 s");
    }

    #[test]
    fn a_line_that_trickles_is_given_up() {
        let began = Instant::now();
        let at = |seconds: u64| began + Duration::from_secs(seconds);
        let mut pace = Pace::new(began);
        assert!(pace.add(at(59), 10).is_ok());
        assert!(pace.add(at(60), TRICKLE).is_ok());
        assert!(pace.add(at(61), TRICKLE - 2).is_ok(), "counted anew");
        assert_eq!(pace.add(at(120), 1).unwrap_err().to_string(), "65535 bytes came in 60 s");
    }

    #[test]
    fn parts_of_two_files_are_fetched_once_more() {
        let dir = tempfile::tempdir().unwrap();
        let mut layer = Download::at(dir.path(), "x", Some(3), ABC);
        assert!(take(&mut layer, b"xb", 0).is_err());
        layer.joined = true;
        assert!(matches!(take(&mut layer, b"c", 0), Err(Failure::Again(_))));
        assert_eq!(layer.got(), 0);
        assert_eq!(take(&mut layer, b"abc", 0), Ok(()));
    }

    #[test]
    fn a_layer_of_another_length_is_refused_before_it_comes() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::live().unwrap();
        let mut layer = Download::at(dir.path(), "x", Some(3), ABC);
        let mut said = |text: &str| layer.receive(&root, &mut text.as_bytes(), &mut |_, _| {});
        assert!(matches!(said("0 4\nabcd"), Err(Failure::Later(why)) if why.contains("4 bytes")));
        assert_eq!(said("! nobody answers there\n"), Err(Failure::Again("nobody answers there".into())));
        let none = format!("! {}\n", web::NO_SUCH_FILE);
        assert_eq!(said(&none), Err(Failure::Absent(web::NO_SUCH_FILE.into())));
        assert!(matches!(said("2 3\nc"), Err(Failure::Again(why)) if why.contains("began behind")));
        assert_eq!(said("0 "), Err(Failure::Again("the process that fetches it died".into())));
        assert!(matches!(said("nonsense\n"), Err(Failure::Again(_))));
        assert_eq!(said("0 3\nabc"), Ok(()));
    }

    #[test]
    fn what_would_leave_no_memory_is_not_begun_and_the_figures_are_said() {
        assert_eq!(too_little(30 << 20, 46 << 20), None);
        let text = too_little(30 << 20, 45 << 20).unwrap();
        assert_eq!(
            text,
            "not fetched: 30 MiB of it and 16 to work with are more than the 45 MiB of memory that are free"
        );
    }
}
