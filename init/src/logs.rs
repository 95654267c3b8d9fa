//! The logs of the services and of init itself: files that they append to, on a small file system of their own. What strangers
//! make one of them write leaves room for all others.

use contract::paths;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;
use std::time::Duration;

/// Bytes of a log; one that is longer is set aside, as NAME.old. That of events, which init writes itself, starts anew at once.
pub const LIMIT: u64 = 512 << 10;
/// Between two looks at their lengths. Whoever is refused a thousand times a second fills the file system for less than that.
pub const LOOK: Duration = Duration::from_secs(10);

/// For a service that is about to start.
pub fn open(service: &str) -> Option<File> {
    OpenOptions::new().create(true).append(true).open(paths::log(service)).ok()
}

/// Sets aside what is too long.
pub fn bound() {
    if let Err(error) = bound_in(paths::LOG.as_ref(), LIMIT) {
        host::log!("{}: {error}", paths::LOG);
    }
}

fn bound_in(directory: &Path, limit: u64) -> io::Result<()> {
    let mut result = Ok(());
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let is_aside = path.extension().is_some_and(|extension| extension == "old");
        let found = fs::symlink_metadata(&path)?;
        if found.is_file() && !is_aside && found.len() > limit {
            result = result.and(set_aside(&path));
        }
    }
    result
}

/// Others have it open for appending: it stays the same file, and a line that comes meanwhile may be lost. It is emptied also
/// where there is no room for the copy.
fn set_aside(path: &Path) -> io::Result<()> {
    let mut old = path.as_os_str().to_os_string();
    old.push(".old");
    let copied = fs::copy(path, old);
    OpenOptions::new().write(true).open(path)?.set_len(0)?;
    copied.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_log_that_strangers_fill_is_set_aside_while_it_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let mut log = OpenOptions::new().create(true).append(true).open(path("sshd")).unwrap();
        log.write_all(b"0123456789").unwrap();
        fs::write(path("netd"), "short").unwrap();
        bound_in(directory.path(), 10).unwrap();
        assert!(!path("sshd.old").exists(), "it is not too long");
        for line in ["a", "b"] {
            log.write_all(line.as_bytes()).unwrap();
            bound_in(directory.path(), 10).unwrap();
        }
        assert_eq!(fs::read_to_string(path("sshd")).unwrap(), "b");
        assert_eq!(fs::read_to_string(path("sshd.old")).unwrap(), "0123456789a");
        assert_eq!(fs::read_to_string(path("netd")).unwrap(), "short");
        // What was set aside is left alone, however long.
        bound_in(directory.path(), 1).unwrap();
        assert!(!path("sshd.old.old").exists() && path("netd.old").exists());
    }
}
