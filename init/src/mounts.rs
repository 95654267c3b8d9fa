//! MOUNTS: the file systems that the system itself stands on, before any service runs.

use contract::paths;
use host::Root;
use host::sys::mount::mount;
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::mount::MountFlags as F;
use std::io;
use std::path::Path;

pub struct Mount {
    target: &'static str,
    fstype: &'static str,
    flags: F,
    data: &'static str,
    /// Only where this exists.
    when: Option<&'static str>,
}

const SAFE: F = F::NOSUID.union(F::NODEV).union(F::NOEXEC);

/// In this order. Sizes bound what a runaway writer can take from the machine's memory.
#[rustfmt::skip]
pub const MOUNTS: &[Mount] = &[
    Mount { target: "/proc",                fstype: "proc",       flags: SAFE,                       data: "",                               when: None },
    Mount { target: "/sys",                 fstype: "sysfs",      flags: SAFE,                       data: "",                               when: None },
    Mount { target: "/dev",                 fstype: "devtmpfs",   flags: F::NOSUID.union(F::NOEXEC), data: "mode=0755",                      when: None },
    Mount { target: "/dev/pts",             fstype: "devpts",     flags: F::NOSUID.union(F::NOEXEC), data: "gid=5,mode=0620,ptmxmode=0666",  when: None },
    Mount { target: "/dev/shm",             fstype: "tmpfs",      flags: F::NOSUID.union(F::NODEV),  data: "mode=1777,size=25%",             when: None },
    Mount { target: "/run",                 fstype: "tmpfs",      flags: F::NOSUID.union(F::NODEV),  data: "mode=0755,size=10%",             when: None },
    // Lock, ledger, consents and state on a file system of their own: a full root stops no verb.
    Mount { target: paths::RUN,             fstype: "tmpfs",      flags: SAFE,                       data: "mode=0755,size=16m",             when: None },
    Mount { target: paths::LOG,             fstype: "tmpfs",      flags: SAFE,                       data: "mode=0755,size=8m",              when: None },
    // Holds keys of LUKS. When it is full, no more is saved, and the commands say so.
    Mount { target: paths::UNDO,            fstype: "tmpfs",      flags: SAFE,                       data: "mode=0700,size=64m",             when: None },
    Mount { target: "/tmp",                 fstype: "tmpfs",      flags: F::NOSUID.union(F::NODEV),  data: "mode=1777,size=50%",             when: None },
    Mount { target: "/sys/fs/cgroup",       fstype: "cgroup2",    flags: SAFE,                       data: "",                               when: Some("/sys/fs/cgroup") },
    // What lockdown keeps from root. A kernel that is built without it has no such directory.
    Mount { target: "/sys/kernel/security", fstype: "securityfs", flags: SAFE,                       data: "",                               when: Some("/sys/kernel/security") },
];

/// Directories that services and people expect, with their modes.
const DIRECTORIES: &[(&str, u32)] = &[
    (paths::STATE, 0o700),
    (paths::CONSENT, 0o700),
    (paths::HUNG, 0o700),
    ("/run/lifeboat/sshd", 0o700),
    ("/run/lock", 0o1777),
    ("/mnt", 0o755),
];

/// What udev would link.
const LINKS: &[(&str, &str)] = &[
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/core", "/proc/kcore"),
    ("/etc/mtab", "../proc/self/mounts"),
    ("/var/run", "/run"),
    ("/var/lock", "/run/lock"),
];

/// One row. Being mounted already (a restart by hand, a kernel that did it) is no failure.
pub fn attach(row: &Mount, root: &Root) -> io::Result<()> {
    if row.when.is_some_and(|path| !root.exists(path)) {
        return Ok(());
    }
    directory(row.target, 0o755)?;
    match mount(row.fstype, Path::new(row.target), row.fstype, row.flags, row.data) {
        Err(error) if error.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => Ok(()),
        other => other,
    }
}

impl Mount {
    pub fn target(&self) -> &'static str {
        self.target
    }
}

/// The kernel has taken what it needs out of the archive (Documentation/arch/x86/microcode.rst), and its files would stay in memory for
/// the machine's whole life.
pub fn forget_microcode() -> std::io::Result<()> {
    match std::fs::exists("/kernel/x86/microcode")? {
        true => std::fs::remove_dir_all("/kernel"),
        false => Ok(()),
    }
}

pub fn directories() -> io::Result<()> {
    for (path, mode) in DIRECTORIES {
        directory(path, *mode)?;
    }
    for (path, target) in LINKS {
        match rustix::fs::symlink(*target, *path) {
            Err(error) if error != Errno::EXIST && error != Errno::NOENT => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

fn directory(path: &str, mode: u32) -> io::Result<()> {
    match rustix::fs::mkdir(path, Mode::from_bits_truncate(mode)) {
        Ok(()) => Ok(rustix::fs::chmod(path, Mode::from_bits_truncate(mode))?), // whatever the umask
        Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
