//! The token without which no changing function of this crate can be called. Holding it is holding
//! the lock, so two changing verbs never run at once; only `tools/src/apply` begins one (a house
//! test looks), so no dry run can hold one.
//!
//! What may take hours or never return (a checker, mount(2)) is done without it, see
//! [`Act::release`]. A holder that sleeps in the kernel on a disk that hangs loses the lock: one bad
//! disk does not keep the others from being mended.

use crate::{Root, proc};
use contract::paths;
use rustix::fs::{FlockOperation, Mode, OFlags};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a verb waits for another one, whose steps take moments.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at a lock that is held.
const PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub struct Act {
    _lock: File,
}

impl Act {
    /// Takes `/run/lifeboat/lock`, and waits up to ten seconds for another verb to end.
    ///
    /// `command` is what a person typed, for whoever has to wait. Errors: `WouldBlock` with the
    /// holder's command while another verb changes something.
    pub fn begin(root: &Root, command: &str) -> io::Result<Act> {
        Act::at(Path::new(paths::LOCK), root, command, PATIENCE)
    }

    fn at(path: &Path, root: &Root, command: &str, patience: Duration) -> io::Result<Act> {
        let until = Instant::now() + patience;
        loop {
            let mut lock = open(path)?;
            match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                // One that was replaced between open and flock locks nothing.
                Ok(()) if same(&lock, path) => {
                    lock.set_len(0)?;
                    lock.write_all(format!("{} {command}\n", std::process::id()).as_bytes())?;
                    return Ok(Act { _lock: lock });
                }
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < until => std::thread::sleep(PAUSE),
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    let mut text = String::new();
                    lock.read_to_string(&mut text)?;
                    let (pid, held) = text.trim().split_once(' ').unwrap_or(("?", "another command"));
                    if !sleeps_in_the_kernel(root, pid) {
                        let text = format!("{held} (process {pid}) is changing something: try again later");
                        return Err(io::Error::new(io::ErrorKind::WouldBlock, text));
                    }
                    crate::log!("process {pid} ({held}) hangs in the kernel; going on without it");
                    std::fs::remove_file(path)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Gives the lock up for something that may take long.
    pub fn release(self) {}
}

fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?))
}

fn same(lock: &File, path: &Path) -> bool {
    let inode = |stat: rustix::fs::Stat| (stat.st_dev, stat.st_ino);
    match (rustix::fs::fstat(lock), rustix::fs::stat(path)) {
        (Ok(open), Ok(named)) => inode(open) == inode(named),
        _ => false,
    }
}

fn sleeps_in_the_kernel(root: &Root, pid: &str) -> bool {
    pid.parse().is_ok_and(|pid| proc::stat(root, pid).is_some_and(|stat| stat.state == 'D'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_lock_names_its_holder_and_a_free_one_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let (path, root) = (dir.path().join("lock"), Root::live().unwrap());
        let held = Act::at(&path, &root, "rescue assemble", Duration::ZERO).unwrap();
        let error = Act::at(&path, &root, "mount /dev/sda1 /mnt", Duration::ZERO).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert!(error.to_string().starts_with("rescue assemble (process "), "{error}");
        held.release();
        Act::at(&path, &root, "mount /dev/sda1 /mnt", Duration::ZERO).unwrap();
    }

    #[test]
    fn a_holder_that_hangs_in_the_kernel_loses_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let machine = dir.path().join("machine");
        let proc = machine.join(format!("proc/{}", std::process::id()));
        std::fs::create_dir_all(&proc).unwrap();
        std::fs::write(proc.join("stat"), "7 (a) R b) D 1 7 7").unwrap();
        let (path, root) = (dir.path().join("lock"), Root::at(&machine).unwrap());
        let _hangs = Act::at(&path, &root, "mount /dev/vda1 /mnt", Duration::ZERO).unwrap();
        let second = Act::at(&path, &root, "fsck /dev/sda1", Duration::ZERO);
        assert!(second.is_ok(), "{second:?}");
    }
}
