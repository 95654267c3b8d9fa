//! Who keeps a place busy: processes that work in it, run from it, or have a file of it open or mapped.
//! Goes by what the kernel shows of them in proc(5), as text: the places themselves are not touched, and
//! may be on a disk that hangs.

use crate::Root;
use crate::proc::{self, Stat, shown};
use std::time::{Duration, Instant};

/// Most that are looked for; the answer names a few.
const MOST: usize = 50;
/// Most generations of processes, in a tree that changes while it is walked.
const DEPTH: usize = 100;
/// Most descriptors looked at of one process.
const DESCRIPTORS: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    WorksIn,
    RootIn,
    RunsFrom,
    HasOpen,
    HasMapped,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub pid: u32,
    /// Up to 15 bytes, as the process likes them.
    pub command: String,
    pub how: How,
    pub path: String,
    /// It is above this process: the shell of whoever asks.
    pub ours: bool,
}

/// In the order of process numbers; this process is left out. Stops looking after `patience`.
pub fn of(root: &Root, target: &str, patience: Duration) -> Vec<Holder> {
    let until = Instant::now() + patience;
    let names = root.list("/proc").unwrap_or_default();
    let mut pids: Vec<u32> = names.iter().filter_map(|name| name.to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    let above = above(root, std::process::id());
    let mut found = Vec::new();
    for pid in pids.into_iter().filter(|pid| *pid != std::process::id()) {
        if Instant::now() > until || found.len() >= MOST {
            break;
        }
        if let Some((how, path)) = holds(root, pid, target) {
            let command = root.line(format!("/proc/{pid}/comm")).unwrap_or_else(|| "?".to_string());
            found.push(Holder { pid, command, how, path, ours: above.contains(&pid) });
        }
    }
    found
}

/// The parent of a process, its parent, and so on.
fn above(root: &Root, pid: u32) -> Vec<u32> {
    let mut above = Vec::new();
    let mut below = pid;
    while let Some(Stat { parent, .. }) = proc::stat(root, below)
        && parent > 1
        && above.len() < DEPTH
    {
        above.push(parent);
        below = parent;
    }
    above
}

fn holds(root: &Root, pid: u32, target: &str) -> Option<(How, String)> {
    let link = |name: &str| {
        let path = shown(&root.link(format!("/proc/{pid}/{name}")).ok()?);
        is_below(&path, target).then_some(path)
    };
    let named = [("cwd", How::WorksIn), ("root", How::RootIn), ("exe", How::RunsFrom)];
    if let Some(found) = named.into_iter().find_map(|(name, how)| Some((how, link(name)?))) {
        return Some(found);
    }
    let descriptors = root.list(format!("/proc/{pid}/fd")).unwrap_or_default();
    let mut descriptors = descriptors.iter().take(DESCRIPTORS).filter_map(|name| name.to_str());
    if let Some(path) = descriptors.find_map(|name| link(&format!("fd/{name}"))) {
        return Some((How::HasOpen, path));
    }
    // address perms offset dev inode path
    let maps = root.read_text(format!("/proc/{pid}/maps")).unwrap_or_default();
    let path = |line: &str| line.find('/').map(|at| line[at..].to_string());
    maps.lines().filter_map(path).find(|path| is_below(path, target)).map(|path| (How::HasMapped, path))
}

fn is_below(path: &str, target: &str) -> bool {
    let rest = path.strip_prefix(target.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || rest == " (deleted)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::text;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    fn process(root: &Path, pid: u32, command: &str) -> std::path::PathBuf {
        let dir = root.join(format!("proc/{pid}"));
        std::fs::create_dir_all(dir.join("fd")).unwrap();
        std::fs::write(dir.join("comm"), format!("{command}\n")).unwrap();
        std::fs::write(dir.join("maps"), "7f00-7f01 r-xp 0 08:01 7    /usr/lib/libc.so\n").unwrap();
        symlink("/", dir.join("cwd")).unwrap();
        dir
    }

    #[test]
    fn every_way_to_hold_a_place_is_found_and_a_neighbour_is_not() {
        let dir = tempfile::tempdir().unwrap();
        process(dir.path(), 10, "elsewhere");
        let shell = process(dir.path(), 11, "bash");
        std::fs::remove_file(shell.join("cwd")).unwrap();
        symlink("/mnt/etc", shell.join("cwd")).unwrap();
        let pager = process(dir.path(), 12, "less");
        symlink("/mnt/log", pager.join("fd/4")).unwrap();
        let daemon = process(dir.path(), 13, "mysqld");
        std::fs::write(daemon.join("maps"), "7f00-7f01 r--p 0 08:01 7    /mnt/lib/x.so\n").unwrap();
        let neighbour = process(dir.path(), 14, "vi");
        symlink("/mnt2/file", neighbour.join("fd/3")).unwrap();
        // This process was begun by less, which was begun by the shell.
        let own = process(dir.path(), std::process::id(), "umount");
        std::fs::write(own.join("stat"), format!("{} (a) b) S 12 1 1\n", std::process::id())).unwrap();
        std::fs::write(pager.join("stat"), "12 (less) S 11 1 1\n").unwrap();
        std::fs::write(shell.join("stat"), "11 (bash) S 1 1 1\n").unwrap();
        let root = Root::at(dir.path()).unwrap();
        let found = of(&root, "/mnt", Duration::from_secs(60));
        let ours: Vec<u32> = found.iter().filter(|one| one.ours).map(|one| one.pid).collect();
        assert_eq!(ours, [11, 12]);
        let found: Vec<_> =
            found.iter().map(|one| (one.pid, one.command.as_str(), one.how, one.path.as_str())).collect();
        assert_eq!(
            found,
            [
                (11, "bash", How::WorksIn, "/mnt/etc"),
                (12, "less", How::HasOpen, "/mnt/log"),
                (13, "mysqld", How::HasMapped, "/mnt/lib/x.so"),
            ]
        );
    }

    #[test]
    fn who_holds_a_place_whose_name_is_no_text_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let shell = process(dir.path(), 11, "bash");
        std::fs::remove_file(shell.join("cwd")).unwrap();
        symlink(std::ffi::OsStr::from_bytes(b"/mnt/a\xff/etc"), shell.join("cwd")).unwrap();
        let found = of(&Root::at(dir.path()).unwrap(), &text(b"/mnt/a\xff"), Duration::from_secs(60));
        assert_eq!(found.iter().map(|one| (one.pid, one.how)).collect::<Vec<_>>(), [(11, How::WorksIn)]);
    }

    #[test]
    fn a_live_process_that_has_a_file_open_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("held");
        let mut child = std::process::Command::new("sh")
            .args(["-c", "exec 3>\"$0\"; echo; read -r line"])
            .arg(&path)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut byte = [0];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut byte).unwrap();
        let found = of(&Root::live().unwrap(), dir.path().to_str().unwrap(), Duration::from_secs(60));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.iter().any(|one| one.pid == child.id() && one.how == How::HasOpen), "{found:?}");
    }
}
