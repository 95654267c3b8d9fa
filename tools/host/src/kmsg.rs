//! The kernel's log from a moment on (/dev/kmsg, Documentation/ABI/testing/dev-kmsg): why a mount failed
//! is there and nowhere else.

use rustix::fs::{Mode, OFlags, SeekFrom};
use rustix::io::Errno;
use std::os::fd::OwnedFd;

/// Largest record (CONSOLE_EXT_LOG_MAX).
const RECORD: usize = 8192;
/// Most records that are looked at: a disk that fails says a lot.
const RECORDS: usize = 1000;

/// A moment of the log.
#[derive(Debug)]
pub struct Mark(OwnedFd);

impl Mark {
    /// Now. `None` where the log cannot be read.
    pub fn now() -> Option<Mark> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let log = rustix::fs::open("/dev/kmsg", flags, Mode::empty()).ok()?;
        rustix::fs::seek(&log, SeekFrom::End(0)).ok()?;
        Some(Mark(log))
    }

    /// What the kernel has said since about any of these names, at severity `notice` or worse.
    pub fn about(&self, names: &[&str]) -> Vec<String> {
        let mut lines = Vec::new();
        let mut buffer = [0; RECORD];
        for _ in 0..RECORDS {
            match rustix::io::read(&self.0, &mut buffer) {
                Ok(0) | Err(Errno::AGAIN) => break,
                Ok(length) => lines.extend(message(&String::from_utf8_lossy(&buffer[..length]), names)),
                // EPIPE: overwritten before it was read; the next one is there.
                Err(Errno::PIPE | Errno::INTR) => {}
                Err(_) => break,
            }
        }
        lines
    }
}

/// `LEVEL,SEQUENCE,MICROSECONDS,FLAGS;MESSAGE`, then lines of a dictionary that begin with a blank.
fn message(record: &str, names: &[&str]) -> Option<String> {
    /// KERN_INFO and below tell nothing of a failure.
    const INFO: u32 = 6;
    let (head, rest) = record.split_once(';')?;
    let level: u32 = head.split(',').next()?.parse().ok()?;
    let text = rest.lines().next()?;
    let is_word = |name: &&str| {
        text.match_indices(*name).any(|(at, _)| {
            let before = text[..at].chars().next_back();
            let after = text[at + name.len()..].chars().next();
            !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
        })
    };
    (level % 8 < INFO && names.iter().any(is_word)).then(|| text.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_about_a_device_is_told_from_the_rest() {
        let error =
            "3,339,5140900,-;EXT4-fs (sda1): write access unavailable, cannot proceed\n SUBSYSTEM=block\n";
        let want = "EXT4-fs (sda1): write access unavailable, cannot proceed";
        assert_eq!(message(error, &["sda1"]).as_deref(), Some(want));
        let cases = [
            ("another device", "3,1,1,-;EXT4-fs (sda10): bad\n"),
            ("mere information", "6,1,1,-;EXT4-fs (sda1): mounted filesystem\n"),
            ("no record", "nonsense"),
        ];
        for (label, record) in cases {
            assert_eq!(message(record, &["sda1"]), None, "{label}");
        }
    }
}
