//! The installed systems, looked into without a person: for their host keys (`rescue.hostkey=installed`) and for their
//! network (`rescue.net=borrow`, `rescue net borrow`). Whoever looks gets a mount namespace of its own and does nothing to
//! the disks itself: `rescue` assembles what can be read, mounts each file system for reading without its journal (in
//! memory what is written with that as well), and takes all apart again. One looks at a time, since what one has assembled is not to be stopped by another.

use crate::listed::{Device, devices};
use crate::{Root, rescue};
use contract::paths;
use rustix::fs::{FlockOperation, flock};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// In the namespace of whoever looks.
const MOUNT_POINT: &str = "/run/lifeboat/installed";
/// Between two tries for the lock.
const LOOK: Duration = Duration::from_millis(100);
/// Most file systems looked into.
const MAX_FILE_SYSTEMS: usize = 64;

/// File systems that a system is installed on, with what keeps the kernel from replaying their journal.
const FILE_SYSTEMS: &[(&str, &str)] = &[
    ("btrfs", "ro,rescue=nologreplay"),
    ("ext2", "ro"),
    ("ext3", "ro,noload"),
    ("ext4", "ro,noload"),
    ("f2fs", "ro,norecovery"),
    ("xfs", "ro,norecovery"),
];
/// What nobody looks into without a key.
const LOCKED: &[&str] = &["BitLocker", "crypto_LUKS"];

/// What was found.
#[derive(Debug)]
pub struct Seen<T> {
    /// Of each file system what the visitor made of it.
    pub found: Vec<T>,
    /// How many locked devices were passed.
    pub locked: usize,
    /// File systems that could not be mounted for reading.
    pub unread: Vec<String>,
    /// Not every array and volume could be started.
    pub is_partial: bool,
    /// What was assembled and is not all stopped: why.
    pub left: Option<String>,
}

impl<T> Seen<T> {
    /// What was not looked into, in words that go on a sentence; empty where all was.
    pub fn hidden(&self) -> String {
        let locked = match self.locked {
            0 => String::new(),
            1 => "; 1 locked device was not looked into".to_string(),
            more => format!("; {more} locked devices were not looked into"),
        };
        let unread = match &self.unread[..] {
            [] => String::new(),
            some => format!("; not readable: {}", some.join(", ")),
        };
        let partial = if self.is_partial { "; not every array and volume could be started" } else { "" };
        locked + &unread + partial
    }
}

/// Has every file system visited that an installed system may be on: its root, and the device that it is on.
pub fn look<T>(deadline: Instant, mut visit: impl FnMut(&Root, &str) -> Option<T>) -> io::Result<Seen<T>> {
    let _one = lock(Path::new(paths::INSTALLED_LOCK), deadline)?;
    forget_claims(Path::new(paths::INSTALLED_CLAIM), deadline)?;
    // Not before all is ready: what is mounted later by others, LVM's tools with the layers, would not be seen here.
    rescue::alone()?;
    let before = devices(&[])?;
    // What it could not start is in the log; what it could is looked into.
    let assembled = rescue::call(&["assemble", "--json"]);
    if let Err(error) = &assembled {
        crate::log!("installed: {error}");
    }
    let seen = look_at_all(deadline, &mut visit);
    let left = take_apart(&before);
    match seen {
        Ok(seen) => Ok(Seen { left, is_partial: assembled.is_err(), ..seen }),
        Err(error) => Err(match left {
            Some(left) => io::Error::new(
                error.kind(),
                format!("{error}; what was assembled is not all stopped ({left}): rescue assemble --stop"),
            ),
            None => error,
        }),
    }
}

/// Called by a verb that works with devices, which keeps the answer as long as it works. A search that has not begun waits
/// for it, so that what the verb starts is none of the search's own; what a search that has begun has started, a person may
/// be about to use, and it is not stopped behind his back.
#[must_use = "the claim ends with it"]
pub fn claim() -> Option<File> {
    if rescue::is_unattended() {
        return None;
    }
    claim_at(Path::new(paths::INSTALLED_LOCK), Path::new(paths::INSTALLED_CLAIM))
}

fn claim_at(lock: &Path, claim: &Path) -> Option<File> {
    // Without it nobody looks: no system of ours, or one without a search.
    let file = open(lock).ok()?;
    if flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
        return Some(file);
    }
    note(claim).map_err(|error| crate::log!("installed: {}: {error}", claim.display())).ok()
}

/// A byte in the file is a claim on what the search that is under way has started; that the file is held keeps the next search
/// from beginning, for this verb may be at work still.
fn note(claim: &Path) -> io::Result<File> {
    let mut file = open(claim)?;
    // Whoever has it alone does so for a moment.
    flock(&file, FlockOperation::LockShared)?;
    io::Write::write_all(&mut file, b"x")?;
    Ok(file)
}

/// No verb is at work that came during an earlier search, and its claim is over.
fn forget_claims(claim: &Path, deadline: Instant) -> io::Result<()> {
    lock(claim, deadline)?.set_len(0)
}

fn is_claimed(claim: &Path) -> bool {
    fs::metadata(claim).is_ok_and(|file| file.len() > 0)
}

fn open(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).open(path)
}

fn lock(path: &Path, deadline: Instant) -> io::Result<File> {
    let file = open(path)?;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        in_time(deadline)?;
        sleep(LOOK);
    }
}

fn in_time(deadline: Instant) -> io::Result<()> {
    match Instant::now() < deadline {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::TimedOut, "the disks were not looked through in time")),
    }
}

fn look_at_all<T>(deadline: Instant, visit: &mut dyn FnMut(&Root, &str) -> Option<T>) -> io::Result<Seen<T>> {
    let devices = devices(&[])?;
    let locked = devices.iter().filter(|device| LOCKED.contains(&device.fstype.as_str())).count();
    let mut seen = Seen { found: Vec::new(), locked, unread: Vec::new(), is_partial: false, left: None };
    fs::create_dir_all(MOUNT_POINT)?;
    // A btrfs is on many devices, and mounted by one.
    let mut known = BTreeSet::new();
    let options = |device: &Device| Some(FILE_SYSTEMS.iter().find(|(name, _)| *name == device.fstype)?.1);
    let mut candidates = devices.iter().filter_map(|device| Some((device, options(device)?)));
    for (device, options) in candidates.by_ref().take(MAX_FILE_SYSTEMS) {
        if device.fstype == "btrfs" && !known.insert(&device.uuid) {
            continue;
        }
        in_time(deadline)?;
        if let Err(error) = rescue::call(&["mount", "-o", options, &device.path, MOUNT_POINT]) {
            crate::log!("installed: {}: {error}", device.path);
            seen.unread.push(format!("{} ({})", device.path, device.fstype));
            continue;
        }
        let found = Root::at(Path::new(MOUNT_POINT)).map(|root| visit(&root, &device.path));
        rescue::call(&["umount", MOUNT_POINT])?;
        seen.found.extend(found.ok().flatten());
    }
    seen.unread.extend(candidates.map(|(device, _)| format!("{} (one too many)", device.path)));
    // Somebody else's mount namespace is not looked into.
    let _ = fs::remove_dir(MOUNT_POINT);
    Ok(seen)
}

/// What the search started is stopped, and nothing that ran before. An error is a reason.
fn take_apart(before: &[Device]) -> Option<String> {
    if is_claimed(Path::new(paths::INSTALLED_CLAIM)) {
        crate::log!("installed: what was started stays, since a person works with it");
        return None;
    }
    let known: BTreeSet<&str> = before.iter().map(|device| device.path.as_str()).collect();
    let after = match devices(&[]) {
        Ok(after) => after,
        Err(error) => return Some(format!("what is there now cannot be listed: {error}")),
    };
    let new: Vec<&str> = after.iter().map(|d| d.path.as_str()).filter(|path| !known.contains(path)).collect();
    if new.is_empty() {
        return None;
    }
    // Without names all that is below them goes too: caches, and overlays of what was read as a copy.
    let mut words = vec!["assemble", "--stop"];
    if before.iter().any(|device| device.is_assembled()) {
        words.extend(&new);
    }
    rescue::call(&words).err().map(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_waits_for_a_verb_and_a_verb_that_comes_later_claims_what_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let (lock, note) = (directory.path().join("lock"), directory.path().join("claim"));
        let search = File::options().create(true).append(true).open(&lock).unwrap();
        let is_free = || flock(&search, FlockOperation::NonBlockingLockExclusive).is_ok();
        let verbs = (claim_at(&lock, &note), claim_at(&lock, &note));
        assert!(verbs.0.is_some() && verbs.1.is_some() && !is_claimed(&note));
        assert!(!is_free());
        drop(verbs);
        assert!(is_free());
        assert!(claim_at(&lock, &note).is_some() && is_claimed(&note));
    }

    #[test]
    fn the_next_search_waits_for_a_verb_that_came_during_the_last_one() {
        let directory = tempfile::tempdir().unwrap();
        let (path, note) = (directory.path().join("lock"), directory.path().join("claim"));
        let now = Instant::now();
        let search = lock(&path, now).unwrap();
        let verbs = [claim_at(&path, &note), claim_at(&path, &note)];
        assert!(verbs.iter().all(Option::is_some));
        drop(search);
        let [first, second] = verbs;
        drop(first);
        assert_eq!(forget_claims(&note, now).unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(is_claimed(&note));
        drop(second);
        forget_claims(&note, now).unwrap();
        assert!(!is_claimed(&note));
    }

    #[test]
    fn what_was_not_looked_into_is_said() {
        let seen = |locked, unread: &[&str]| {
            let unread = unread.iter().map(|text| text.to_string()).collect();
            Seen::<()> { found: Vec::new(), locked, unread, is_partial: locked == 2, left: None }.hidden()
        };
        assert_eq!(seen(0, &[]), "");
        assert_eq!(seen(1, &[]), "; 1 locked device was not looked into");
        assert_eq!(
            seen(2, &["/dev/sda1 (ext4)"]),
            "; 2 locked devices were not looked into; not readable: /dev/sda1 (ext4); \
             not every array and volume could be started"
        );
    }
}
