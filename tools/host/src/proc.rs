//! Mounts, swaps and the kernel's list of partitions, from /proc (proc_pid_mountinfo(5), proc(5)).

use crate::Root;
use contract::facts::{Mount, Space, Swap};
use contract::paths;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

pub fn mounts(root: &Root) -> Vec<Mount> {
    parse_mountinfo(&root.read_text("/proc/self/mountinfo").unwrap_or_default())
}

pub fn swaps(root: &Root) -> Vec<Swap> {
    parse_swaps(&root.read_text("/proc/swaps").unwrap_or_default())
}

/// The types that the kernel knows at present, and whether each needs no device.
pub fn filesystems(root: &Root) -> Vec<(String, bool)> {
    let text = root.read_text("/proc/filesystems").unwrap_or_default();
    let row = |line: &str| {
        let (nodev, name) = line.split_once('\t')?;
        Some((name.trim().to_string(), nodev == "nodev"))
    };
    text.lines().filter_map(row).collect()
}

/// Seconds since boot; 0 where the kernel does not say.
pub fn uptime(root: &Root) -> f64 {
    let line = root.line("/proc/uptime").unwrap_or_default();
    line.split(' ').next().and_then(|seconds| seconds.parse().ok()).unwrap_or(0.0)
}

/// Bytes that programs could have without swapping (MemAvailable); 0 where the kernel does not say.
pub fn available_memory(root: &Root) -> u64 {
    memory(root, "MemAvailable:")
}

/// Bytes that the kernel has for everything but itself (MemTotal); 0 where it does not say.
pub fn total_memory(root: &Root) -> u64 {
    memory(root, "MemTotal:")
}

/// A path that the kernel said, in its bytes: names of files need not be text.
pub fn path(shown: &str) -> PathBuf {
    let bytes: Vec<u8> = shown.chars().flat_map(contract::text::bytes_of).collect();
    PathBuf::from(OsString::from_vec(bytes))
}

/// The other way: as the kernel's lists have it, a character of its own for each byte that is no text.
pub fn shown(path: &Path) -> String {
    crate::text::text(path.as_os_str().as_bytes())
}

/// Bytes that are cached and not yet with their disk or server.
pub fn unwritten(root: &Root) -> u64 {
    ["Dirty:", "Writeback:", "NFS_Unstable:"].iter().map(|field| memory(root, field)).sum()
}

fn memory(root: &Root, field: &str) -> u64 {
    let text = root.read_text("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}

/// What /proc/PID/stat tells of a process (proc_pid_stat(5)). It is read without the process's memory, which may have to come
/// from a disk that hangs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Of the program, at most 15 bytes; a thread of the kernel has one too.
    pub name: String,
    /// `D` sleeps in the kernel, `Z` and `X` have ended.
    pub state: char,
    /// 0 for what the kernel started.
    pub parent: u32,
    /// PF_* of linux/sched.h.
    pub flags: Option<u32>,
}

impl Stat {
    pub fn has_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

/// `None` when there is no such process.
pub fn stat(root: &Root, pid: u32) -> Option<Stat> {
    parse_stat(&root.line(format!("/proc/{pid}/stat"))?)
}

fn parse_stat(line: &str) -> Option<Stat> {
    // A name may hold anything, parentheses too.
    let (name, rest) = line.split_once('(')?.1.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    let flags = fields.nth(4).and_then(|flags| flags.parse().ok());
    Some(Stat { name: name.to_string(), state, parent, flags })
}

/// Kernel names in /proc/partitions' order.
pub fn partitions(root: &Root) -> Vec<String> {
    let text = root.read_text("/proc/partitions").unwrap_or_default();
    // major minor #blocks name, below a heading and an empty line
    let name = |line: &str| {
        let mut fields = line.split_whitespace();
        fields.next()?.parse::<u32>().ok()?;
        // The kernel prints `/` where sysfs has `!`.
        Some(fields.nth(2)?.replace('/', "!"))
    };
    text.lines().filter_map(name).collect()
}

/// Room of what is mounted there, by mount point; what cannot be asked is left out. Asks the file systems (statvfs(3)), of
/// which a network one may not answer: only for mounts of block devices. A captured machine holds the answers.
pub fn space<'a>(root: &Root, targets: impl IntoIterator<Item = &'a str>) -> BTreeMap<String, Space> {
    let read = || serde_json::from_slice(&root.read(paths::SPACE).ok()?).ok();
    let captured: BTreeMap<String, Space> =
        if root.is_live() { BTreeMap::new() } else { read().unwrap_or_default() };
    let ask = |target: &str| match root.is_live() {
        true => statvfs(Path::new(target)).ok(),
        false => captured.get(target).copied(),
    };
    targets.into_iter().filter_map(|target| Some((target.to_string(), ask(target)?))).collect()
}

fn statvfs(target: &Path) -> io::Result<Space> {
    let stat = rustix::fs::statvfs(target)?;
    Ok(Space {
        size: stat.f_frsize.saturating_mul(stat.f_blocks),
        used: stat.f_frsize.saturating_mul(stat.f_blocks.saturating_sub(stat.f_bfree)),
        available: stat.f_frsize.saturating_mul(stat.f_bavail),
    })
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`; the optional
/// fields before the dash are as many as they like. A line that is not of this form is left out.
pub fn parse_mountinfo(text: &str) -> Vec<Mount> {
    text.lines().filter_map(mount).collect()
}

fn mount(line: &str) -> Option<Mount> {
    let mut fields = line.split(' ');
    let id = fields.next()?.parse().ok()?;
    let parent = fields.next()?.parse().ok()?;
    let (major, minor) = fields.next()?.split_once(':')?;
    let (root, target, options) = (fields.next()?, fields.next()?, fields.next()?);
    fields.find(|field| *field == "-")?;
    let (fstype, source) = (fields.next()?, fields.next()?);
    Some(Mount {
        id,
        parent,
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        root: unescape(root),
        target: unescape(target),
        options: options.to_string(),
        fstype: unescape(fstype),
        source: unescape(source),
        super_options: fields.next().map(unescape).unwrap_or_default(),
    })
}

/// `Filename Type Size Used Priority`, sizes in KiB.
pub fn parse_swaps(text: &str) -> Vec<Swap> {
    let swap = |line: &str| {
        let mut fields = line.split_whitespace();
        let path = unescape(fields.next()?);
        let (size, used) = (fields.nth(1)?.parse::<u64>().ok()?, fields.next()?.parse::<u64>().ok()?);
        let priority = fields.next()?.parse().ok()?;
        Some(Swap { path, size: size.saturating_mul(1024), used: used.saturating_mul(1024), priority })
    };
    text.lines().filter_map(swap).collect()
}

/// The kernel writes blank, tab, newline, backslash and `#` as `\040` and so on (mangle in fs/seq_file.c).
pub fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        match tail {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..] if first == b'\\' => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    crate::text::text(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_free_is_what_the_kernel_calls_available() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("proc")).unwrap();
        let root = Root::at(dir.path()).unwrap();
        assert_eq!(available_memory(&root), 0);
        let text = "MemTotal:        2014412 kB\nMemFree:          100 kB\nMemAvailable:     300000 kB\n";
        std::fs::write(dir.path().join("proc/meminfo"), text).unwrap();
        assert_eq!(available_memory(&root), 300_000 << 10);
    }

    #[test]
    fn mountinfo_is_read_with_and_without_optional_fields() {
        let text = "36 35 98:0 /mnt1 /mnt\\0402\\134 rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue\n\
                    23 1 0:5 / /dev rw - devtmpfs none rw\n\
                    not a mount\n";
        let mounts = parse_mountinfo(text);
        assert_eq!(mounts.len(), 2);
        let first = &mounts[0];
        assert_eq!((first.major, first.minor, first.target.as_str()), (98, 0, "/mnt 2\\"));
        assert_eq!(
            (first.root.as_str(), first.fstype.as_str(), first.source.as_str()),
            ("/mnt1", "ext3", "/dev/root")
        );
        assert_eq!(first.super_options, "rw,errors=continue");
        assert_eq!(mounts[1].fstype, "devtmpfs");
    }

    #[test]
    fn swaps_are_read_in_bytes() {
        let text = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n/dev/sda2                               partition\t1024\t\t0\t\t-2\n";
        let swap = Swap { path: "/dev/sda2".to_string(), size: 1 << 20, used: 0, priority: -2 };
        assert_eq!(parse_swaps(text), [swap]);
    }

    #[test]
    fn an_escape_that_is_none_is_kept() {
        for (given, want) in [
            ("a\\", "a\\"),
            ("\\04", "\\04"),
            ("\\999", "\\999"),
            ("\\303\\274", "ü"),
            ("a\\377", "a\u{10ffff}"),
        ] {
            assert_eq!(unescape(given), want);
        }
    }
}
