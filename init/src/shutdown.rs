//! The end of the machine's run. What may block (sync, unmounting, stopping arrays) is done by
//! children with deadlines, so that a hung disk delays a reboot and never prevents it.

use host::Root;
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::system::RebootCommand;
use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Reboot,
    PowerOff,
    Halt,
}

impl How {
    pub fn name(self) -> &'static str {
        match self {
            How::Reboot => "reboot",
            How::PowerOff => "poweroff",
            How::Halt => "halt",
        }
    }

    fn command(self) -> RebootCommand {
        match self {
            How::Reboot => RebootCommand::Restart,
            How::PowerOff => RebootCommand::PowerOff,
            How::Halt => RebootCommand::Halt,
        }
    }
}

/// What one child does, and the time it gets.
pub type Role = (&'static str, fn(&Root), Duration);

/// The roles of the children, as `init ROLE`, in this order.
pub const ROLES: &[Role] = &[
    ("unmount", unmount, Duration::from_secs(20)),
    ("stop-arrays", stop_arrays, Duration::from_secs(10)),
    ("sync", |_| rustix::fs::sync(), Duration::from_secs(20)),
];

/// Mount points that the system stands on and that hold nothing of a disk.
const OURS: &[&str] = &["/proc", "/sys", "/dev", "/run", "/usr", "/tmp"];

/// Unmounts what a person mounted, innermost first; what is busy becomes read-only at least.
fn unmount(root: &Root) {
    let mounts = root.read_text("/proc/self/mountinfo").unwrap_or_default();
    for target in targets(&mounts) {
        let path = Path::new(&target);
        let Err(error) = host::sys::mount::umount(path, UnmountFlags::NOFOLLOW) else { continue };
        host::log!("unmount {target}: {error}; made read-only instead");
        if let Err(error) = host::sys::mount::remount(path, MountFlags::RDONLY, "") {
            host::log!("remount {target} read-only: {error}");
        }
        // Gone from the tree at least, so that what it stands on can be stopped once it is free.
        if let Err(error) = host::sys::mount::umount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            host::log!("detach {target}: {error}");
        }
    }
}

/// Mount points to leave, last mounted first.
fn targets(mountinfo: &str) -> Vec<String> {
    let mut targets: Vec<String> = mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(unescape)
        .filter(|target| target != "/" && !OURS.iter().any(|ours| Path::new(target).starts_with(ours)))
        .collect();
    targets.reverse();
    targets
}

/// mountinfo writes blank, tab, newline and backslash as three octal digits.
fn unescape(text: &str) -> String {
    let mut out = text.to_string();
    for (code, plain) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        out = out.replace(code, plain);
    }
    out
}

/// Stops every md array that nothing holds any more, the last assembled first, twice: an array may
/// lie on another. One that was started read-only is not written to by this.
fn stop_arrays(root: &Root) {
    for _ in 0..2 {
        let names = root.list("/sys/block").unwrap_or_default();
        for name in names.iter().rev().filter_map(|name| name.to_str()).filter(|name| name.starts_with("md"))
        {
            let state = format!("/sys/block/{name}/md/array_state");
            if root.line(&state).is_none_or(|state| state == "clear") {
                continue;
            }
            if let Err(error) = root.write(&state, "clear") {
                host::log!("stop {name}: {error}");
            }
        }
    }
}

/// The command line of a child for one role.
pub fn argv(role: &str) -> [&OsStr; 2] {
    [OsStr::new("/lifeboat/bin/init"), OsStr::new(role)]
}

/// reboot(2), and sysrq-b where that fails.
pub fn end(how: How, root: &Root) {
    let error = host::sys::process::reboot(how.command());
    host::log!("{}: {error}", how.name());
    if how == How::Reboot
        && let Err(error) = root.write("/proc/sysrq-trigger", "b")
    {
        host::log!("sysrq-b: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_mounted_is_left_innermost_first() {
        let mountinfo = "\
1 1 0:2 / / rw - rootfs rootfs rw
20 1 0:20 / /proc rw - proc proc rw
21 1 0:21 / /usr rw - overlay usr rw
22 1 0:22 / /run/lifeboat/layers/10 ro - squashfs /dev/loop0 ro
30 1 9:0 / /mnt rw - ext4 /dev/md0 rw
31 30 9:1 / /mnt/boot rw - ext4 /dev/md1 rw
32 1 8:1 / /media/a\\040b rw - ext4 /dev/sda1 rw
33 1 8:2 / /devices rw - ext4 /dev/sda2 rw
";
        assert_eq!(targets(mountinfo), ["/devices", "/media/a b", "/mnt/boot", "/mnt"]);
    }
}
