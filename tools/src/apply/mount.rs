//! mount(2) and umount2(2), and what the kernel said when it refused. A place comes as text, in which a byte that is no UTF-8
//! is a character of its own (`contract::text`), and is given to the kernel as bytes.

use super::Made;
use anyhow::Context as _;
use host::Root;
use host::kmsg::Kmsg;
use host::proc::path;
use host::sys::mount as sys;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use std::io;
use std::path::Path;

/// A mount(2) that failed; returned as an error by the step.
#[derive(Debug)]
pub struct Refused {
    pub error: io::Error,
    /// The kernel's own lines about it, in order.
    pub log: Vec<String>,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.log.last() {
            Some(line) => write!(f, "{}: {line}", self.error),
            None => write!(f, "{}", self.error),
        }
    }
}

impl std::error::Error for Refused {}

pub fn mount(
    _root: &Root,
    source: &str,
    target: &str,
    fstype: &str,
    flags: &[String],
    data: &str,
) -> anyhow::Result<Made> {
    let kmsg = Kmsg::now().ok();
    attach(source, &path(target), fstype, flags, data)
        .map_err(|error| {
            // The kernel calls a device by its own name.
            let real = std::fs::canonicalize(source).ok();
            let name = real.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
            let names: Vec<&str> = name.into_iter().chain(Some(fstype).filter(|t| !t.is_empty())).collect();
            let log = kmsg.map(|mut kmsg| kmsg.about(&names)).unwrap_or_default();
            Refused { error, log }
        })
        .with_context(|| format!("mount {source} at {target}"))?;
    Ok(Made::Done)
}

/// The calls that mount(2) is, told apart by its flags.
fn attach(source: &str, target: &Path, fstype: &str, flags: &[String], data: &str) -> io::Result<()> {
    let has = |word: &str| flags.iter().any(|flag| flag == word);
    if let Some(how) = flags.iter().find_map(|flag| spread(flag)) {
        return sys::spread(target, how);
    }
    if has("move") {
        return sys::shift(&path(source), target);
    }
    let bits = bits(flags)?;
    match (has("remount"), has("bind"), has("rbind")) {
        (true, bind, _) => sys::remount(target, bits | if bind { MountFlags::BIND } else { bits }, data),
        (false, false, false) => sys::mount(source, target, fstype, bits, data),
        (false, _, recursive) => sys::bind(&path(source), target, recursive),
    }
}

fn bits(flags: &[String]) -> io::Result<MountFlags> {
    let mut bits = MountFlags::empty();
    for flag in flags {
        bits |= match flag.as_str() {
            "ro" => MountFlags::RDONLY,
            "nosuid" => MountFlags::NOSUID,
            "nodev" => MountFlags::NODEV,
            "noexec" => MountFlags::NOEXEC,
            "sync" => MountFlags::SYNCHRONOUS,
            "dirsync" => MountFlags::DIRSYNC,
            "mand" => MountFlags::PERMIT_MANDATORY_FILE_LOCKING,
            "noatime" => MountFlags::NOATIME,
            "nodiratime" => MountFlags::NODIRATIME,
            "relatime" => MountFlags::RELATIME,
            "strictatime" => MountFlags::STRICTATIME,
            "lazytime" => MountFlags::LAZYTIME,
            "silent" => MountFlags::SILENT,
            "nosymfollow" => MountFlags::from_bits_retain(MS_NOSYMFOLLOW),
            "iversion" => MountFlags::from_bits_retain(MS_I_VERSION),
            "remount" | "bind" | "rbind" => MountFlags::empty(),
            other => {
                let text = format!("no flag {other}");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
        };
    }
    Ok(bits)
}

/// linux/mount.h; rustix has no names for them.
const MS_NOSYMFOLLOW: u32 = 256;
const MS_I_VERSION: u32 = 1 << 23;

fn spread(flag: &str) -> Option<MountPropagationFlags> {
    let (name, recursive) = match flag {
        "private" | "shared" | "slave" | "unbindable" => (flag, MountPropagationFlags::empty()),
        _ => (flag.strip_prefix('r')?, MountPropagationFlags::REC),
    };
    let kind = match name {
        "private" => MountPropagationFlags::PRIVATE,
        "shared" => MountPropagationFlags::SHARED,
        "slave" => MountPropagationFlags::DOWNSTREAM,
        "unbindable" => MountPropagationFlags::UNBINDABLE,
        _ => return None,
    };
    Some(kind | recursive)
}

/// With all above it that is not there.
pub fn make_directory(place: &str) -> anyhow::Result<Made> {
    std::fs::create_dir_all(path(place)).with_context(|| format!("create {place}"))?;
    Ok(Made::Done)
}

pub fn umount(target: &str, lazy: bool, force: bool) -> anyhow::Result<Made> {
    let mut flags = UnmountFlags::empty();
    flags.set(UnmountFlags::DETACH, lazy);
    flags.set(UnmountFlags::FORCE, force);
    sys::umount(&path(target), flags).with_context(|| format!("unmount {target}"))?;
    Ok(Made::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use host::proc::shown;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn flags_become_those_of_the_kernel() {
        let words = |text: &str| text.split(',').map(str::to_string).collect::<Vec<_>>();
        let got = bits(&words("ro,nosuid,noatime,remount")).unwrap();
        assert_eq!(got, MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NOATIME);
        assert!(bits(&words("noload")).is_err());
        assert_eq!(spread("rslave"), Some(MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC));
        assert_eq!((spread("ro"), spread("remount")), (None, None));
    }

    /// By a real kernel, in a mount namespace that ends with its thread.
    #[test]
    fn a_place_whose_name_is_no_text_is_mounted_moved_changed_and_unmounted() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let name = |byte: u8| directory.path().join(OsStr::from_bytes(&[b'a', byte]));
        let (first, second, third) = (name(0xfd), name(0xfe), name(0xff));
        for path in [&first, &second, &third] {
            std::fs::create_dir(path).unwrap();
        }
        let is_there = |path: &Path| path.join("file").exists();
        std::thread::scope(|scope| {
            let all = scope.spawn(|| {
                sys::own_namespace().unwrap();
                sys::spread(Path::new("/"), MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
                    .unwrap();
                let make = |source: &Path, target: &Path, fstype: &str, flags: &[&str]| {
                    let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_string()).collect();
                    let root = Root::live().unwrap();
                    mount(&root, &shown(source), &shown(target), fstype, &flags, "").unwrap();
                };
                make(Path::new("none"), &first, "tmpfs", &[]);
                std::fs::write(first.join("file"), "").unwrap();
                make(&first, &second, "", &["bind"]);
                make(Path::new("none"), &second, "", &["remount", "bind", "ro"]);
                assert!(is_there(&second) && std::fs::write(second.join("file"), "").is_err());
                assert!(std::fs::write(first.join("file"), "").is_ok());
                make(&second, &third, "", &["move"]);
                assert!(!is_there(&second) && is_there(&third));
                for path in [&third, &first] {
                    umount(&shown(path), false, false).unwrap();
                    assert!(!is_there(path));
                }
            });
            all.join().unwrap();
        });
    }
}
