//! The end of the machine's run. What may block (sync, unmounting, stopping arrays) is done by
//! children with deadlines, so that a hung disk delays a reboot and never prevents it. Processes that file systems and
//! arrays stand on are not ended before those are left.

use contract::facts::Mount;
use contract::paths;
use host::kmsg::Kmsg;
use host::sys::process;
use host::{Root, proc};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::process::Signal;
use rustix::system::RebootCommand;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

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

const MDMON: &str = "mdmon";

/// Processes of user space but PID 1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Processes {
    /// They are asked to end, and killed.
    pub others: Vec<i32>,
    /// What is mounted is written by them: whoever serves FUSE (ntfs-3g, sshfs) ends when it is unmounted; without mdmon the
    /// first write to an array of firmware RAID that was clean waits for ever (mdmon(8), "START UP AND SHUTDOWN").
    pub kept: Vec<i32>,
}

/// Reads nothing of a process that waits for its memory to come from a disk, as its command line would.
pub fn processes(root: &Root) -> Processes {
    let mut found = Processes::default();
    let serving = nbd_servers(root);
    let names = root.list("/proc").unwrap_or_default();
    let pids = names.iter().filter_map(|name| name.to_str()?.parse::<u32>().ok());
    for pid in pids.filter(|pid| *pid != 1) {
        // Without: it has ended since.
        let Some(stat) = proc::stat(root, pid).filter(lives) else { continue };
        match stat.name == MDMON || serving.contains(&pid) || serves_fuse(root, pid) {
            true => found.kept.push(pid.cast_signed()),
            false => found.others.push(pid.cast_signed()),
        }
    }
    found
}

/// No thread of the kernel, and not ended.
fn lives(stat: &proc::Stat) -> bool {
    /// linux/sched.h
    const PF_KTHREAD: u32 = 0x0020_0000;
    stat.flags.is_some_and(|flags| flags & PF_KTHREAD == 0) && !stat.has_ended()
}

fn serves_fuse(root: &Root, pid: u32) -> bool {
    let names = root.list(format!("/proc/{pid}/fd")).unwrap_or_default();
    let leads = |name: &std::ffi::OsString| root.link(Path::new(&format!("/proc/{pid}/fd")).join(name));
    names.iter().any(|name| leads(name).is_ok_and(|target| target.ends_with("dev/fuse")))
}

/// Processes that a network block device stands on. The kernel names the thread that gave it over (drivers/block/nbd.c).
fn nbd_servers(root: &Root) -> Vec<u32> {
    let names = root.list("/sys/block").unwrap_or_default();
    let devices = names.iter().filter_map(|name| name.to_str()).filter(|name| name.starts_with("nbd"));
    let threads = devices.filter_map(|name| root.line(format!("/sys/block/{name}/pid")));
    let process = |thread: String| {
        let status = root.read_text(format!("/proc/{thread}/status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
    };
    threads.filter_map(process).collect()
}

/// At once, by the kernel, where none is to be kept. For a signal that may be missed: who is born meanwhile is killed later.
pub fn signal_others(root: &Root, signal: Signal) {
    let found = processes(root);
    if found.kept.is_empty() {
        return process::signal_all(signal);
    }
    // The second time those that were started meanwhile.
    for pid in found.others.into_iter().chain(processes(root).others) {
        // It may have ended by itself.
        let _ = process::signal(pid, signal);
    }
}

/// Kills them all, where some are to be kept too: those that are born faster than they are listed, as a fork bomb's. So all are
/// stopped first: a stopped process bears none, nor does one that was about to (kernel/fork.c: copy_process() gives up where
/// a signal is pending, under the lock that kill(-1) walks the list by).
pub fn kill_others(root: &Root) {
    let kept = processes(root).kept;
    if kept.is_empty() {
        return process::signal_all(Signal::KILL);
    }
    let go_on = |pid: &i32| {
        // It may have ended before.
        let _ = process::signal(*pid, Signal::CONT);
    };
    process::signal_all(Signal::STOP);
    // At once: this process's own memory may lie in swap that is one of theirs.
    kept.iter().for_each(go_on);
    let kept = kill_stopped(|| processes(root), |pid| process::signal(pid, Signal::KILL));
    // One that was overlooked.
    kept.iter().for_each(go_on);
}

/// Lists of processes that are gone through; one that the kernel itself starts meanwhile is in a later one.
const SWEEPS: usize = 16;

/// Kills each of the others once, until none is new: one that waits for its disk does not end. Those that are kept.
fn kill_stopped(
    mut look: impl FnMut() -> Processes,
    mut kill: impl FnMut(i32) -> io::Result<()>,
) -> BTreeSet<i32> {
    let (mut killed, mut kept) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..SWEEPS {
        let found = look();
        kept.extend(found.kept);
        let new: Vec<i32> = found.others.into_iter().filter(|pid| killed.insert(*pid)).collect();
        if new.is_empty() {
            break;
        }
        for pid in new {
            // It may have ended by itself.
            let _ = kill(pid);
        }
    }
    kept
}

/// What one child does, and the time it gets. One that is still writing out what is cached gets more ([`Progress`]).
pub type Role = (&'static str, fn(&Root), Duration);

/// The roles of the children, as `init ROLE`, in this order: each takes away what the next ones stand
/// under.
pub const ROLES: &[Role] = &[
    ("unmount", unmount, Duration::from_secs(30)),
    ("swapoff", |root| swapoff(root, false), Duration::from_secs(10)),
    ("take-apart", take_apart, Duration::from_secs(30)),
    ("sync", |_| rustix::fs::sync(), Duration::from_secs(20)),
];

/// Whether a disk or a server still takes what is cached, however slowly, or hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes.
    left: u64,
}

impl Progress {
    /// A look at whether there is any comes after so long.
    pub const LOOK: Duration = Duration::from_secs(10);

    pub fn begin(root: &Root) -> Progress {
        Progress { left: proc::unwritten(root) }
    }

    /// How many bytes are left, where they have become fewer since the last look: nobody lives who could write more.
    pub fn look(&mut self, root: &Root) -> Option<u64> {
        let before = std::mem::replace(&mut self.left, proc::unwritten(root));
        (self.left < before).then_some(self.left)
    }
}

/// The last child's: the kernel asks every driver to shut its device down, and one may never answer.
pub const END: Duration = Duration::from_secs(30);

/// What `init ROLE` does.
pub fn role(name: &str) -> Option<fn(&Root)> {
    match name {
        "reboot" => Some(|_| end(How::Reboot)),
        "poweroff" => Some(|_| end(How::PowerOff)),
        "halt" => Some(|_| end(How::Halt)),
        _ => ROLES.iter().find(|(role, _, _)| *role == name).map(|(_, run, _)| *run),
    }
}

/// The next thing is begun after this time, whether the one before it has ended or hangs; after one that took so long, much
/// earlier: many may stand on the disk that hangs, and those of another one are to have their turn.
const EACH: Duration = Duration::from_secs(3);
const EACH_AFTER: Duration = Duration::from_millis(250);
/// Deepest stack of arrays and maps that is taken apart, layer by layer.
const DEEPEST: usize = 8;

/// One thing to do, which may never return, and its name.
type Task = (String, Box<dyn FnOnce() -> io::Result<()> + Send>);

/// Does them in turn; one that takes long does not keep the next ones waiting, and is waited for in
/// the end, for as long as init lets this process live.
fn in_turn(tasks: Vec<Task>) {
    let mut late = Vec::new();
    for (name, task) in tasks {
        let (done, ended) = std::sync::mpsc::channel::<()>();
        std::thread::spawn(move || {
            if let Err(error) = task() {
                host::log!("{name}: {error}");
            }
            drop(done);
        });
        let patience = if late.is_empty() { EACH } else { EACH_AFTER };
        if ended.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
            late.push(ended);
        }
    }
    for ended in late {
        // Nothing is ever sent: it ends when the thread does.
        let _ = ended.recv();
    }
}

/// Unmounts what a person mounted, the last first; what is busy becomes read-only at least. Swap in files holds what they lie on.
fn unmount(root: &Root) {
    swapoff(root, true);
    let mounts = host::proc::mounts(root);
    let tasks = targets(&mounts).into_iter().map(|mount| -> Task {
        let (name, mount) = (format!("unmount {}", mount.target), mount.clone());
        (name, Box::new(move || unmount_one(&mount)))
    });
    in_turn(tasks.collect());
}

fn unmount_one(mount: &Mount) -> io::Result<()> {
    let (path, target) = (proc::path(&mount.target), &mount.target);
    let Err(error) = host::sys::mount::umount(&path, UnmountFlags::NOFOLLOW) else { return Ok(()) };
    host::log!("unmount {target}: {error}");
    if is_of_storage(mount)
        && let Err(error) = host::sys::mount::remount(&path, MountFlags::RDONLY, "")
    {
        host::log!("remount {target} read-only: {error}");
    }
    // Gone from the tree at least, so that what it stands on can be stopped once it is free.
    host::sys::mount::umount(&path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
}

/// Its file system lies on a disk or a server. That of /proc and the like is the machine's own, wherever it is mounted again:
/// read-only, it would keep this from its end.
fn is_of_storage(mount: &Mount) -> bool {
    mount.source.starts_with("/dev/") || mount.source.contains(':') || mount.fstype.starts_with("fuse")
}

/// What to leave, last mounted first. What the system itself stands on stays, as it was
/// mounted first; a second mount on the same place is a person's.
fn targets(mounts: &[Mount]) -> Vec<&Mount> {
    let mut ours: Vec<&str> = crate::mounts::MOUNTS.iter().map(|row| row.target()).collect();
    ours.extend(["/", "/usr"]);
    // The memory of overlays goes with the machine, and is busy until they are taken apart.
    let stays = [paths::STACK, paths::OVERLAY];
    let is_ours = |target: &str| stays.iter().any(|place| Path::new(target).starts_with(place));
    let mut targets = Vec::new();
    for mount in mounts {
        let target = mount.target.as_str();
        if let Some(place) = ours.iter().position(|own| *own == target) {
            ours.swap_remove(place);
        } else if !is_ours(target) {
            targets.push(mount);
        }
    }
    targets.reverse();
    targets
}

/// Takes swap out of use: files alone, or all that is left.
fn swapoff(root: &Root, files_alone: bool) {
    let swaps = host::proc::swaps(root).into_iter();
    let tasks = swaps.filter(|swap| !files_alone || !swap.path.starts_with("/dev/")).map(|swap| -> Task {
        let name = format!("swapoff {}", swap.path);
        (name, Box::new(move || host::sys::swap::off(&proc::path(&swap.path))))
    });
    in_turn(tasks.collect());
}

/// Stops the arrays, maps and loop devices that a person left, those on top first, until nothing more
/// gives way. An array that was started read-only is not written to by this.
fn take_apart(root: &Root) {
    stop_stacked(root);
    // Whoever serves FUSE and was not told to end by an unmount does not end by itself.
    let until = Instant::now() + EACH;
    loop {
        let kept = processes(root).kept;
        // mdmon writes to each drive that its array is clean, and ends once that is stopped: for as long as init waits.
        let writes = |pid: &i32| proc::stat(root, pid.unsigned_abs()).is_some_and(|stat| stat.name == MDMON);
        if kept.is_empty() || Instant::now() >= until && !kept.iter().any(writes) {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn stop_stacked(root: &Root) {
    let mut before = Vec::new();
    for _ in 0..DEEPEST {
        let stacked = stacked(root);
        if stacked.is_empty() || stacked == before {
            return;
        }
        let tasks = stacked.iter().map(|one| -> Task {
            let (one, root) = (one.clone(), root.clone());
            (format!("take {} apart", one.name()), Box::new(move || one.stop(&root)))
        });
        in_turn(tasks.collect());
        before = stacked;
    }
}

/// A device that nothing stands on, by kernel name.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stacked {
    Array(String),
    /// And its name towards device mapper.
    Map(String, String),
    Loop(String),
    /// Served by a process of this machine, or by another machine.
    Network(String),
}

/// Those that can be stopped now, the last made first.
fn stacked(root: &Root) -> Vec<Stacked> {
    let names = root.list("/sys/block").unwrap_or_default();
    let metadata = |name: &str| root.line(format!("/sys/block/{name}/md/metadata_version"));
    // `external:/md127/0`, with a dash in place of the slash where only reading is wanted (mdadm.h: is_subarray).
    let containers: Vec<String> = names
        .iter()
        .filter_map(|name| {
            let external = metadata(name.to_str()?)?;
            let volume = external.strip_prefix("external:")?.strip_prefix(['/', '-'])?;
            volume.split('/').next().map(String::from)
        })
        .collect();
    let free = names.iter().rev().filter_map(|name| name.to_str()).filter(|name| {
        // It holds the drives, which mdmon writes for as long as there are volumes of it.
        if containers.iter().any(|container| container == name) {
            return false;
        }
        let holders = root.list(format!("/sys/block/{name}/holders")).unwrap_or_default();
        // What a partition of it carries holds it too.
        let parts = root.list(format!("/sys/block/{name}")).unwrap_or_default();
        let carries = |part: &std::ffi::OsString| {
            let part = part.to_string_lossy();
            part.starts_with(*name)
                && !root.list(format!("/sys/block/{name}/{part}/holders")).unwrap_or_default().is_empty()
        };
        holders.is_empty() && !parts.iter().any(carries)
    });
    free.filter_map(|name| {
        let line = |attribute: &str| root.line(format!("/sys/block/{name}/{attribute}"));
        if line("md/array_state").is_some_and(|state| state != "clear") {
            return Some(Stacked::Array(name.to_string()));
        }
        if let Some(mapped) = line("dm/name") {
            return Some(Stacked::Map(name.to_string(), mapped));
        }
        if name.starts_with("nbd") {
            return line("pid").map(|_| Stacked::Network(name.to_string()));
        }
        let file = line("loop/backing_file")?;
        (!Path::new(&file).starts_with(paths::LAYERS)).then(|| Stacked::Loop(name.to_string()))
    })
    .collect()
}

impl Stacked {
    fn name(&self) -> &str {
        let (Stacked::Array(name) | Stacked::Map(name, _) | Stacked::Loop(name) | Stacked::Network(name)) =
            self;
        name
    }

    fn stop(&self, root: &Root) -> io::Result<()> {
        match self {
            Stacked::Array(name) => root.write(format!("/sys/block/{name}/md/array_state"), "clear"),
            Stacked::Map(_, mapped) => host::sys::dm::remove(mapped),
            Stacked::Loop(name) => {
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let device = rustix::fs::open(format!("/dev/{name}"), flags, Mode::empty())?;
                host::sys::loopdev::detach(device)
            }
            Stacked::Network(name) => {
                host::sys::nbd::disconnect(Path::new(&format!("/dev/{name}")))?;
                // What it is a file of is free once its server has ended.
                while root.line(format!("/sys/block/{name}/pid")).is_some() {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Ok(())
            }
        }
    }
}

/// The command line of a child for one role.
pub fn argv(role: &str) -> [&OsStr; 2] {
    [OsStr::new("/lifeboat/bin/init"), OsStr::new(role)]
}

/// reboot(2), for a child: some driver may keep it for ever.
fn end(how: How) {
    let error = process::reboot(how.command());
    host::log!("{}: {error}", how.name());
}

/// What a person reads when the kernel refuses, or waits for a driver that waits for its disk.
pub fn last_words(how: How) -> &'static str {
    match how {
        How::Reboot => "the kernel hangs: what could be unmounted is, resetting the machine",
        How::PowerOff | How::Halt => {
            "the kernel hangs: what could be unmounted is, switch the machine off by its button or its BMC"
        }
    }
}

/// For each of what the kernel does of its own before the end: a hung disk delays that so long, and no longer.
const EMERGENCY: Duration = Duration::from_secs(5);

/// SysRq's key, and what the kernel says when it is done (fs/sync.c and fs/super.c: do_sync_work(), do_emergency_remount()).
const EMERGENCIES: [(&str, &str); 2] =
    [("s", "Emergency Sync complete"), ("u", "Emergency Remount complete")];

/// The last resort of PID 1. What is cached is written and file systems become read-only first: by the kernel's own workers,
/// which takes no process, since none may have been to be had for [`ROLES`]. A reset asks no driver; to switch off, the kernel
/// asks them all once more, and a halt has no last resort. Resetting a machine that was to go off might start what is on its
/// disks, so that is not done.
pub fn force(how: How, root: &Root) {
    let mut log = Kmsg::now().ok();
    write_out(root, EMERGENCY, || log.as_mut().map(Kmsg::lines).unwrap_or_default());
    let key = match how {
        How::Reboot => "b",
        How::PowerOff => "o",
        How::Halt => return,
    };
    sysrq(root, key);
}

/// One after the other, each until the kernel says that it is done, or for so long. Where its log cannot be read, for so long.
fn write_out(root: &Root, patience: Duration, mut said: impl FnMut() -> Vec<String>) {
    for (key, done) in EMERGENCIES {
        sysrq(root, key);
        let until = Instant::now() + patience;
        while Instant::now() < until && !said().iter().any(|line| line.contains(done)) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Returns at once: the kernel puts the work off to its workers, or does not return at all.
fn sysrq(root: &Root, key: &str) {
    if let Err(error) = root.write("/proc/sysrq-trigger", key) {
        host::log!("sysrq-{key}: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_a_person_mounted_is_left_the_last_first() {
        let mountinfo = "\
1 1 0:2 / / rw - rootfs rootfs rw
20 1 0:20 / /proc rw - proc proc rw
23 1 0:23 / /tmp rw - tmpfs tmpfs rw
21 1 0:21 / /usr rw - overlay usr rw
22 1 0:22 / /run/lifeboat/layers/10 ro - squashfs /dev/loop0 ro
24 1 0:24 / /run/lifeboat/overlay rw - tmpfs overlay-store rw
30 1 9:0 / /mnt rw - ext4 /dev/md0 rw
31 30 9:1 / /mnt/boot rw - ext4 /dev/md1 rw
32 1 8:1 / /media/a\\040b rw - ext4 /dev/sda1 rw
33 1 8:2 / /devices rw - ext4 /dev/sda2 rw
34 1 8:3 / /tmp/x rw - xfs /dev/sda3 rw
35 1 8:4 / /tmp rw - xfs /dev/sda4 rw
36 30 0:4 / /mnt/proc rw - proc proc rw
";
        let mounts = host::proc::parse_mountinfo(mountinfo);
        let left: Vec<&str> = targets(&mounts).into_iter().map(|mount| mount.target.as_str()).collect();
        assert_eq!(left, ["/mnt/proc", "/tmp", "/tmp/x", "/devices", "/media/a b", "/mnt/boot", "/mnt"]);
    }

    #[test]
    fn what_is_busy_becomes_read_only_where_it_is_a_disk_s_or_a_server_s_and_a_name_is_bytes() {
        let mountinfo = "\
30 1 9:0 / /mnt rw - ext4 /dev/md0 rw
36 30 0:4 / /mnt/proc rw - proc proc rw
37 30 0:5 / /mnt/run rw - tmpfs tmpfs rw
38 30 0:6 / /mnt/nfs rw - nfs4 192.0.2.1:/srv rw
39 30 0:7 / /mnt/\\377 rw - fuse.sshfs root@h:/ rw
";
        let mounts = host::proc::parse_mountinfo(mountinfo);
        let storage: Vec<bool> = mounts.iter().map(is_of_storage).collect();
        assert_eq!(storage, [true, false, false, true, true]);
        assert_eq!(proc::path(&mounts[4].target).as_os_str().as_encoded_bytes(), b"/mnt/\xff");
        assert_eq!(proc::path("/mnt/M\u{fc}ller"), Path::new("/mnt/M\u{fc}ller"));
    }

    #[test]
    fn what_is_still_written_out_is_waited_for_and_what_hangs_is_not() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("proc")).unwrap();
        let root = Root::at(directory.path()).unwrap();
        let have = |dirty: u64, writeback: u64| {
            let text =
                format!("MemTotal: 9 kB\nDirty: {dirty} kB\nWriteback: {writeback} kB\nNFS_Unstable: 1 kB\n");
            fs::write(directory.path().join("proc/meminfo"), text).unwrap();
        };
        have(4000, 10);
        let mut progress = Progress::begin(&root);
        have(3000, 500);
        assert_eq!(progress.look(&root), Some(3501 << 10));
        assert_eq!(progress.look(&root), None, "as much as before");
        have(3000, 600);
        assert_eq!(progress.look(&root), None, "more than before");
        have(0, 0);
        assert_eq!(progress.look(&root), Some(1 << 10));
        fs::remove_file(directory.path().join("proc/meminfo")).unwrap();
        assert_eq!(Progress::begin(&root).look(&root), None);
    }

    #[test]
    fn what_is_mounted_is_left_before_those_are_ended_that_write_it() {
        let directory = tempfile::tempdir().unwrap();
        let process = |pid: i32, stat: &str, opens: &[&str]| {
            let place = directory.path().join(format!("proc/{pid}"));
            fs::create_dir_all(place.join("fd")).unwrap();
            fs::write(place.join("stat"), format!("{pid} {stat} 0 0 0 0\n")).unwrap();
            for (number, target) in opens.iter().enumerate() {
                std::os::unix::fs::symlink(target, place.join("fd").join(number.to_string())).unwrap();
            }
        };
        process(1, "(init) S 0 1 1 0 -1 4194560", &[]);
        process(2, "(kthreadd) S 0 0 0 0 -1 2129984", &[]);
        process(7, "(sh) S 1 7 7 0 -1 4194560", &["/dev/null", "pipe:[7]"]);
        process(8, "(a) S (b)) R 1 8 8 0 -1 4194560", &["/dev/fuseblk"]);
        // Its command line would have to come from a disk that hangs.
        process(9, "(dd) D 1 9 9 0 -1 4194560", &[]);
        process(10, "(gone) Z 1 10 10 0 -1 4194560", &[]);
        process(11, "(mdmon) S 1 11 11 0 -1 4194560", &[]);
        process(12, "(mount.ntfs) S 1 12 12 0 -1 4194560", &["/dev/null", "/dev/null", "/mnt/dev/fuse"]);
        process(13, "(cut) S 1", &[]);
        fs::create_dir(directory.path().join("proc/14")).unwrap();
        process(15, "(qemu-nbd) S 1 15 15 0 -1 4194560", &[]);
        // Of its threads, the one that the kernel took the device from.
        fs::create_dir_all(directory.path().join("proc/16")).unwrap();
        fs::write(directory.path().join("proc/16/status"), "Name:\tqemu-nbd\nTgid:\t15\n").unwrap();
        for (device, thread) in [("nbd0", "16\n"), ("nbd1", "99\n")] {
            fs::create_dir_all(directory.path().join("sys/block").join(device)).unwrap();
            fs::write(directory.path().join("sys/block").join(device).join("pid"), thread).unwrap();
        }
        let root = Root::at(directory.path()).unwrap();
        assert_eq!(processes(&root), Processes { others: vec![7, 8, 9], kept: vec![11, 12, 15] });
    }

    #[test]
    fn each_is_killed_once_and_those_that_were_overlooked_and_no_sweep_goes_on_for_ever() {
        let list = |others: &[i32], kept: &[i32]| Processes { others: others.into(), kept: kept.into() };
        // 9 waits for its disk, and does not end.
        let lists = [list(&[7, 8, 9], &[20]), list(&[9, 10], &[20, 21]), list(&[9], &[20, 21])];
        let (mut lists, mut killed) = (lists.into_iter(), Vec::new());
        let kept = kill_stopped(
            || lists.next().unwrap(),
            |pid| {
                killed.push(pid);
                Ok(())
            },
        );
        assert_eq!((killed, kept), (vec![7, 8, 9, 10], BTreeSet::from([20, 21])));

        let mut next = 100;
        let kept = kill_stopped(
            || {
                next += 1;
                list(&[next], &[20])
            },
            |_| Ok(()),
        );
        assert_eq!((next, kept), (100 + SWEEPS as i32, BTreeSet::from([20])));
    }

    #[test]
    fn a_fork_bomb_is_killed_whole_and_a_process_that_a_file_system_stands_on_goes_on() {
        // kill(-1) is for the init of a namespace of its own, and nobody else.
        if !rustix::process::getpid().is_init() {
            if !rustix::process::geteuid().is_root() {
                return eprintln!("not tested: only root makes a namespace of processes");
            }
            let name = "shutdown::tests::a_fork_bomb_is_killed_whole_and_a_process_that_a_file_system_stands_on_goes_on";
            let mut inside = std::process::Command::new("unshare");
            inside.args(["--pid", "--fork", "--mount-proc", "--kill-child"]);
            inside.arg(std::env::current_exe().unwrap()).args(["--exact", name, "--nocapture"]);
            let done = inside.output().unwrap();
            let said = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
            if said.starts_with("unshare: ") {
                return eprintln!("not tested: {}", said.trim());
            }
            assert!(done.status.success() && said.contains("1 passed"), "{said}");
            return;
        }
        let root = Root::live().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let server = directory.path().join(MDMON);
        fs::copy("/bin/sleep", &server).unwrap();
        let server = std::process::Command::new(server).arg("600").spawn().unwrap().id();
        // Each bears one and ends: whoever was listed is another one by the time that he is killed.
        const BOMB: &str = "for (1 .. 24) { fork or last } while (1) { exit if fork }";
        let bomb = std::process::Command::new("perl").args(["-e", BOMB]).spawn().unwrap();
        // They are this process's to reap, as PID 1.
        std::thread::spawn(|| {
            loop {
                while process::reap().is_some() {}
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        drop(bomb);
        let wait_for = |what: &str, is_so: &dyn Fn() -> bool| {
            let until = Instant::now() + Duration::from_secs(20);
            while !is_so() {
                assert!(Instant::now() < until, "{what}: {:?}", processes(&root));
                std::thread::sleep(Duration::from_millis(10));
            }
        };
        // A list shows few of them, or none. The number that was given away last (proc_loadavg(5)) shows each.
        let born = || root.line("/proc/loadavg").unwrap().rsplit_once(' ').unwrap().1.parse::<u32>().unwrap();
        let before = born();
        wait_for("it runs", &|| born() > before + 200);
        wait_for("the server runs", &|| processes(&root).kept == [server.cast_signed()]);
        kill_others(&root);
        wait_for("they have ended", &|| processes(&root).others.is_empty());
        let last = born();
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(born(), last, "none is born any more");
        assert_eq!(processes(&root), Processes { others: Vec::new(), kept: vec![server.cast_signed()] });
        wait_for("the server goes on", &|| proc::stat(&root, server).is_some_and(|stat| stat.state == 'S'));
    }

    #[test]
    fn what_is_cached_is_written_by_the_kernel_before_a_reset_and_a_hung_disk_does_not_prevent_that() {
        let directory = tempfile::tempdir().unwrap();
        let trigger = directory.path().join("proc/sysrq-trigger");
        fs::create_dir(directory.path().join("proc")).unwrap();
        fs::write(&trigger, "-").unwrap();
        let root = Root::at(directory.path()).unwrap();
        let key = || fs::read_to_string(&trigger).unwrap();
        let (mut looks, mut keys) = (0, Vec::new());
        write_out(&root, Duration::from_secs(60), || {
            looks += 1;
            keys.push(key());
            let done = if key() == "s" { "Emergency Sync complete" } else { "Emergency Remount complete" };
            // Not at once, and not what is waited for.
            let line = if looks % 3 == 0 { done } else { "sd 0:0:0:0: [sda] Synchronizing SCSI cache" };
            vec!["other".to_string(), line.to_string()]
        });
        assert_eq!(keys, ["s", "s", "s", "u", "u", "u"]);

        let began = Instant::now();
        write_out(&root, Duration::from_millis(50), Vec::new);
        assert_eq!(key(), "u");
        assert!(began.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn what_nothing_stands_on_is_stopped_first() {
        let directory = tempfile::tempdir().unwrap();
        let attribute = |path: &str, value: &str| {
            let path = directory.path().join("sys/block").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{value}\n")).unwrap();
        };
        attribute("md127/md/array_state", "clean");
        attribute("md127/md127p1/holders/dm-0", "");
        attribute("md127/md/metadata_version", "external:/md99/0");
        attribute("md99/md/metadata_version", "external:imsm");
        attribute("md99/md/array_state", "inactive");
        attribute("md98/md/metadata_version", "external:-md97/0");
        attribute("md98/md/array_state", "readonly");
        attribute("md97/md/array_state", "inactive");
        attribute("dm-0/dm/name", "vg-root");
        attribute("dm-0/holders/dm-1", "");
        attribute("dm-1/dm/name", "crypt");
        attribute("md0/md/array_state", "clear");
        attribute("loop0/loop/backing_file", "/layers/10-userland.squashfs");
        attribute("loop2/loop/backing_file", "/layers/fetched/20-modules.squashfs (deleted)");
        attribute("loop1/loop/backing_file", "/mnt/image");
        attribute("sda/size", "8");
        attribute("nbd0/pid", "16");
        attribute("nbd1/size", "0");
        let root = Root::at(directory.path()).unwrap();
        let crypt = Stacked::Map("dm-1".to_string(), "crypt".to_string());
        let volume = Stacked::Array("md98".to_string());
        assert_eq!(
            stacked(&root),
            [Stacked::Network("nbd0".to_string()), volume, Stacked::Loop("loop1".to_string()), crypt],
            "no container before its volume"
        );
        fs::remove_dir_all(directory.path().join("sys/block/dm-1")).unwrap();
        fs::remove_dir_all(directory.path().join("sys/block/dm-0")).unwrap();
        fs::remove_file(directory.path().join("sys/block/md127/md127p1/holders/dm-0")).unwrap();
        let array = |name: &str| stacked(&root).contains(&Stacked::Array(name.to_string()));
        assert!(array("md127") && !array("md99"));
        fs::remove_dir_all(directory.path().join("sys/block/md127")).unwrap();
        assert!(array("md99"));
    }

    #[test]
    fn one_that_hangs_does_not_keep_the_next_from_being_done() {
        let (done, ended) = std::sync::mpsc::channel();
        let (release, held) = std::sync::mpsc::channel::<()>();
        let hangs = |held: &std::sync::Mutex<std::sync::mpsc::Receiver<()>>| {
            held.lock().unwrap().recv().unwrap();
            Ok(())
        };
        let next = move || {
            done.send(()).unwrap();
            Ok(())
        };
        // Ten mounts of one disk.
        let held = std::sync::Arc::new(std::sync::Mutex::new(held));
        let hang = || -> Task {
            let held = std::sync::Arc::clone(&held);
            ("hangs".to_string(), Box::new(move || hangs(&held)))
        };
        let next: Task = ("next".to_string(), Box::new(next));
        let tasks = std::iter::repeat_with(hang).take(10).chain([next]).collect();
        let all = std::thread::spawn(move || in_turn(tasks));
        ended.recv_timeout(4 * EACH).unwrap();
        assert!(!all.is_finished(), "and is waited for in the end");
        (0..10).for_each(|_| release.send(()).unwrap());
        all.join().unwrap();
    }

    #[test]
    fn every_end_and_every_role_has_a_name_of_its_own() {
        for how in [How::Reboot, How::PowerOff, How::Halt] {
            assert!(role(how.name()).is_some());
            assert!(ROLES.iter().all(|(role, _, _)| *role != how.name()));
        }
        assert!(role("sync").is_some() && role("nonsense").is_none());
    }
}
