//! What the kernel says while something is done: its log from one moment on (Documentation/ABI/testing/dev-kmsg).

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

/// Longest record (CONSOLE_EXT_LOG_MAX).
const LONGEST: usize = 8192;
/// Most lines that are listened to.
const MOST: usize = 256;

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

    /// What was said since, one line each.
    pub fn lines(&mut self) -> Vec<String> {
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
fn message(record: &str) -> Option<String> {
    let (_, message) = record.lines().next()?.split_once(';')?;
    Some(message.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_its_message() {
        let record = "4,339,5140900,-;md/raid:md5: cannot start; dirty\n SUBSYSTEM=block\n";
        assert_eq!(message(record).as_deref(), Some("md/raid:md5: cannot start; dirty"));
        assert_eq!(message("nonsense"), None);
    }
}
