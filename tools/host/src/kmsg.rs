//! What the kernel says while something is done: its log from one moment on (Documentation/ABI/testing/dev-kmsg).

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

/// Longest record (CONSOLE_EXT_LOG_MAX).
const LONGEST: usize = 8192;
/// KERN_INFO: what is below it in number is worse.
const INFO: u32 = 6;
/// Most lines that are listened to.
const MOST: usize = 256;
/// Most of a whole log.
const MOST_OF_ALL: usize = 65_536;

/// The log from the moment of [`Kmsg::now`].
pub struct Kmsg(File);

impl Kmsg {
    pub fn now() -> io::Result<Kmsg> {
        let flags = rustix::fs::OFlags::NONBLOCK.bits();
        let flags = i32::try_from(flags).map_err(io::Error::other)?;
        let mut file = OpenOptions::new().read(true).custom_flags(flags).open("/dev/kmsg")?;
        file.seek(SeekFrom::End(0))?;
        Ok(Kmsg(file))
    }

    /// From the first that its buffer still has.
    pub fn from_start() -> io::Result<Kmsg> {
        let mut log = Kmsg::now()?;
        log.0.seek(SeekFrom::Start(0))?;
        Ok(log)
    }

    /// All that the kernel has said since it began, as far as its buffer goes back.
    pub fn whole() -> io::Result<Vec<String>> {
        let mut log = Kmsg::from_start()?;
        let mut lines = Vec::new();
        while lines.len() < MOST_OF_ALL {
            let more = log.lines();
            if more.is_empty() {
                break;
            }
            lines.extend(more);
        }
        Ok(lines)
    }

    /// What was said since, one line each.
    pub fn lines(&mut self) -> Vec<String> {
        self.records().into_iter().map(|(_, text)| text).collect()
    }

    /// What was said since about any of these names, and is worse than mere information.
    pub fn about(&mut self, names: &[&str]) -> Vec<String> {
        let is_about = |(level, text): &(u32, String)| *level < INFO && mentions(text, names);
        self.records().into_iter().filter(is_about).map(|(_, text)| text).collect()
    }

    /// Levels and messages.
    fn records(&mut self) -> Vec<(u32, String)> {
        let mut lines = Vec::new();
        let mut record = [0; LONGEST];
        while lines.len() < MOST {
            match self.0.read(&mut record) {
                Ok(length) => lines.extend(message(&String::from_utf8_lossy(&record[..length]))),
                // Some were overwritten before they were read: the next ones are still there.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
                Err(_) => break,
            }
        }
        lines
    }
}

/// `6,339,5140900,-;md: md0 stopped.`, then lines of keys that begin with a blank.
fn message(record: &str) -> Option<(u32, String)> {
    let (head, message) = record.lines().next()?.split_once(';')?;
    // The facility stands above the level's three bits.
    let level: u32 = head.split(',').next()?.parse().ok()?;
    Some((level % 8, message.to_string()))
}

/// Readable when there is more.
impl AsFd for Kmsg {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// As words: `sda1` is not in `sda10`.
fn mentions(text: &str, names: &[&str]) -> bool {
    let is_bound = |c: Option<char>| !c.is_some_and(char::is_alphanumeric);
    names.iter().any(|name| {
        text.match_indices(*name).any(|(at, _)| {
            is_bound(text[..at].chars().next_back()) && is_bound(text[at + name.len()..].chars().next())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_its_message() {
        let record = "4,339,5140900,-;md/raid:md5: cannot start; dirty\n SUBSYSTEM=block\n";
        assert_eq!(message(record), Some((4, "md/raid:md5: cannot start; dirty".to_string())));
        assert_eq!(message("nonsense"), None);
    }

    #[test]
    fn a_device_is_told_from_one_whose_name_goes_on() {
        assert!(mentions("EXT4-fs (sda1): write access unavailable", &["sda1"]));
        assert!(!mentions("EXT4-fs (sda10): bad", &["sda1"]));
        assert!(mentions("XFS (dm-0): bad", &["xyz", "dm-0"]));
    }
}
