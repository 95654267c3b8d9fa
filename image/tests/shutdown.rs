//! The image's `shutdown`, run by this machine's sh. Beside it stand a `sleep` that ends when a test says so, and a `reboot` and a
//! `poweroff` that only write down that they ran.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, FileType, Mode};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// Seconds within which a process that was ended is gone.
const SOON: i64 = 20;
/// What the script says of places, each of which is below the test's own directory here.
const PLACES: &[(&str, &str)] = &[("/run/lifeboat/", "run/"), ("/usr/sbin", "sbin")];

struct Machine {
    directory: TempDir,
    /// What `sleep` reads. A line of it ends one.
    clock: File,
    /// What `reboot` and `poweroff` write.
    down: File,
}

impl Machine {
    fn new() -> Machine {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let put = |name: &str, text: &str| {
            std::fs::write(path(name), text).unwrap();
            std::fs::set_permissions(path(name), PermissionsExt::from_mode(0o755)).unwrap();
        };
        let mut script = include_str!("../files/shutdown").to_string();
        for (place, ours) in PLACES {
            assert!(script.contains(place));
            script = script.replace(place, path(ours).to_str().unwrap());
        }
        put("shutdown", &script);
        put("sleep", "#!/bin/sh\necho \"$1\" >> \"${0%/*}/slept\"\nread -r line < \"${0%/*}/clock\"\n");
        std::fs::create_dir(path("sbin")).unwrap();
        for how in ["reboot", "poweroff"] {
            put(how, "#!/bin/sh\necho \"another ${0##*/}\" > \"${0%/*}/down\"\n");
            put(&format!("sbin/{how}"), "#!/bin/sh\necho \"${0##*/}\" > \"${0%/*}/../down\"\n");
        }
        // Open at both ends, so that nobody waits for another one to open it.
        let [clock, down] = ["clock", "down"].map(|name| {
            rustix::fs::mknodat(CWD, path(name), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
            File::options().read(true).write(true).open(path(name)).unwrap()
        });
        Machine { directory, clock, down }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn shutdown(&self, words: &[&str]) -> Output {
        let path = format!("{}:{}", self.directory.path().display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("sh");
        command.arg(self.path("shutdown")).args(words).env("PATH", path).stdin(Stdio::null());
        command.output().unwrap()
    }

    fn plans(&self, words: &[&str]) -> Waiting {
        let output = self.shutdown(words);
        assert!(output.status.success(), "{words:?}: {}", said(&output));
        let pid = self.text("run/shutdown.pid").trim().parse().unwrap();
        let pid = Pid::from_raw(pid).unwrap();
        Waiting { pid, handle: pidfd_open(pid, PidfdFlags::empty()).unwrap() }
    }

    /// What went down, and a line's end; empty where nothing has within so many seconds.
    fn went_down(&mut self, seconds: i64) -> String {
        let mut line = [0; 64];
        let length = if comes(&self.down, seconds) { self.down.read(&mut line).unwrap() } else { 0 };
        String::from_utf8_lossy(&line[..length]).into_owned()
    }

    /// Empty where there is no such file.
    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }
}

/// Nothing that a test started goes on after it.
impl Drop for Machine {
    fn drop(&mut self) {
        self.shutdown(&["-c"]);
    }
}

/// The process that waits for a planned shutdown.
struct Waiting {
    pid: Pid,
    handle: OwnedFd,
}

impl Waiting {
    fn ends_within(&self, seconds: i64) -> bool {
        comes(&self.handle, seconds)
    }
}

fn comes(file: &impl AsFd, seconds: i64) -> bool {
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    poll(&mut [PollFd::new(file, PollFlags::IN)], Some(&time)).unwrap() > 0
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn another_shutdown_takes_the_place_of_the_planned_one() {
    let mut machine = Machine::new();
    let first = machine.plans(&["+5"]);
    let second = machine.plans(&["-r", "+7"]);
    assert_ne!(first.pid, second.pid);
    assert!(first.ends_within(SOON), "both are planned");
    assert!(!second.ends_within(0), "none is planned");
    machine.clock.write_all(b"\n").unwrap();
    assert_eq!(machine.went_down(SOON), "reboot\n");
}

#[test]
fn one_whose_time_has_come_already_goes_down() {
    let mut machine = Machine::new();
    machine.clock.write_all(b"\n").unwrap();
    let output = machine.shutdown(&["+0"]);
    assert_eq!(
        (machine.went_down(SOON), said(&output)),
        ("poweroff\n".into(), "poweroff in 0 s; shutdown -c takes it back\n".into())
    );
}

#[test]
fn without_a_time_to_wait_it_goes_down_at_once() {
    let mut machine = Machine::new();
    machine.shutdown(&["-r", "now"]);
    assert_eq!((machine.went_down(SOON), machine.text("slept")), ("reboot\n".into(), String::new()));
}

#[test]
fn what_is_taken_back_does_not_come() {
    let mut machine = Machine::new();
    let planned = machine.plans(&["+5"]);
    let output = machine.shutdown(&["-c"]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(planned.ends_within(SOON), "it is still planned");
    assert_eq!((machine.went_down(0), machine.path("run/shutdown.pid").exists()), (String::new(), false));
    let output = machine.shutdown(&["-c"]);
    assert_eq!((output.status.code(), said(&output)), (Some(1), "shutdown: none is planned\n".to_string()));
}

#[test]
fn the_number_of_another_process_is_not_ended() {
    let machine = Machine::new();
    let mut other =
        Command::new("sh").args(["-c", "read line", "shutdown"]).stdin(Stdio::piped()).spawn().unwrap();
    std::fs::create_dir(machine.path("run")).unwrap();
    std::fs::write(machine.path("run/shutdown.pid"), format!("{}\n", other.id())).unwrap();
    let output = machine.shutdown(&["-c"]);
    assert_eq!((output.status.code(), said(&output)), (Some(1), "shutdown: none is planned\n".to_string()));
    let planned = machine.plans(&["+5"]);
    assert!(!planned.ends_within(0));
    // Its end is that of its input, and no signal's.
    other.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert_eq!(other.wait().unwrap().code(), Some(0));
}

#[test]
fn where_the_plan_cannot_be_written_nothing_is_planned() {
    let machine = Machine::new();
    std::fs::write(machine.path("run"), "no directory").unwrap();
    let output = machine.shutdown(&["+5"]);
    let want = format!(
        "shutdown: {} cannot be written: nothing is planned\n",
        machine.path("run/shutdown.pid").display()
    );
    assert_eq!((output.status.code(), said(&output)), (Some(1), want));
    assert_eq!(machine.text("slept"), "");
}
