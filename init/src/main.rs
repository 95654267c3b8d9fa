//! PID 1. Mounts, spawns, reaps, shuts down, and does nothing that a network peer or a disk's
//! content can influence. Single-threaded; waits in one place ([`reactor::wait`]); never waits for
//! one particular child, never exits, opens no block device, and writes to no console that could
//! block it. A failed step is logged and becomes an event, and the boot goes on.

mod consoles;
mod logs;
mod mounts;
mod outlet;
mod reactor;
mod services;
mod shutdown;
mod supervise;

use contract::event::{Event, Severity};
use contract::text::Untrusted;
use contract::{cmdline, params, paths, state};
use host::Root;
use host::sys::process::{self, Ended, Spawn};
use outlet::Outlet;
use reactor::Stream;
use rustix::process::Signal;
use services::Service;
use shutdown::{How, Progress};
use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// Time that services and sessions get between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(5);
/// How long it is tried to start the first child that goes down where none can be, and how often.
const SHORT: Duration = Duration::from_secs(10);
const SHORT_AGAIN: Duration = Duration::from_millis(100);
/// Where init looks whether the event device appeared and consoles changed.
const HOUSEKEEPING: Duration = Duration::from_secs(2);

fn main() {
    // Before anything else is opened; failing means that there is no root directory.
    let Ok(root) = process::reserve_event_descriptor().and_then(|()| Root::live()) else { forever() };
    let is_init = rustix::process::getpid().is_init();
    // The kernel passes words of its command line as arguments, so only a child has a role.
    let role = std::env::args_os().nth(1).filter(|_| !is_init);
    if let Some(role) = role.and_then(|name| shutdown::role(name.to_str()?)) {
        return role(&root);
    }
    if !is_init {
        host::log!("init: runs as PID 1 only; to go down, type reboot, poweroff or halt");
        return;
    }
    // What the kernel could not parse of its command line arrives as environment, secrets too.
    process::clear_environment();
    let mut init = Init::boot(root);
    loop {
        // One event's handling may fail without taking PID 1, and so the kernel, with it.
        if catch_unwind(AssertUnwindSafe(|| init.turn())).is_err() {
            init.warn("a panic in PID 1 was caught; please report it".to_string());
            // One that comes again and again must leave the processor to those who look into it.
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn forever() -> ! {
    loop {
        std::thread::park();
    }
}

/// Seconds since boot.
fn now() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(now.tv_sec.cast_unsigned(), now.tv_nsec as u32)
}

struct Init {
    root: Root,
    signals: Option<OwnedFd>,
    services: Vec<Service>,
    supervision: supervise::State,
    last_exits: Vec<Option<String>>,
    streams: Vec<Stream>,
    environment: Vec<(OsString, OsString)>,
    outlet: Outlet,
    state: state::Init,
    going_down: Option<GoingDown>,
    /// When the logs' lengths are looked at next.
    logs: Duration,
}

/// A shutdown in progress.
struct GoingDown {
    how: How,
    stage: Stage,
    until: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// SIGTERM was sent; waiting for the services and sessions.
    Terminating,
    /// SIGKILL was sent; reaping.
    Killing,
    /// Since the first moment the kernel starts no child, which would be that for ROLES[index] or, behind them, the last one:
    /// those that were killed give back their numbers and their memory as they end.
    Short { index: usize, since: Duration },
    /// The child for ROLES[index] runs, since the first moment, and has got more time for as long as that brings something.
    Role { index: usize, pid: i32, since: Duration, progress: Progress },
    /// The child that ends it all runs.
    End { pid: i32 },
}

impl Init {
    /// The boot: an ordered list of named steps, each of which may fail.
    fn boot(root: Root) -> Init {
        let mut failures: Vec<(String, String)> = Vec::new();
        let mut step = |name: &str, result: std::io::Result<()>| {
            if let Err(error) = result {
                failures.push((name.to_string(), error.to_string()));
            }
        };
        for row in mounts::MOUNTS {
            step(&format!("mount {}", row.target()), mounts::attach(row, &root));
        }
        step("make directories", mounts::directories());
        step("take stderr", take_stderr());
        step(
            "ask for Ctrl-Alt-Del",
            rustix::system::reboot(rustix::system::RebootCommand::CadOff).map_err(Into::into),
        );
        step("set the umask", {
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
            Ok(())
        });

        step("give back the microcode's memory", mounts::forget_microcode());

        let line = root.read_text("/proc/cmdline").unwrap_or_default();
        let words = host::params::read(&root);
        for (path, value) in settings(&root, &words) {
            step(&format!("set {path}"), root.write(path, value));
        }
        let signals = process::signal_fd(&[
            Signal::CHILD,
            Signal::TERM,
            Signal::INT,
            Signal::USR1,
            Signal::USR2,
            Signal::HUP,
            Signal::PIPE,
            Signal::POWER,
        ]);
        step(
            "block signals",
            signals.as_ref().map(|_| ()).map_err(|error| std::io::Error::other(error.to_string())),
        );

        let services = services::all(&root);
        let version = root.line(paths::VERSION).unwrap_or_else(|| env!("CARGO_PKG_VERSION").to_string());
        let mut init = Init {
            supervision: supervise::State::new(services.iter().map(|service| service.kind)),
            last_exits: vec![None; services.len()],
            services,
            signals: signals.ok(),
            streams: Vec::new(),
            environment: environment(),
            outlet: Outlet::new(paths::log("events").as_ref(), "/dev".as_ref(), &words),
            state: state::Init {
                version: version.clone(),
                started: now().as_secs_f64(),
                ..Default::default()
            },
            going_down: None,
            logs: now() + logs::LOOK,
            root,
        };
        init.tell(&Event::Boot { version });
        for (name, error) in failures {
            init.warn(format!("boot step failed: {name}: {error}"));
            init.tell(&Event::StepFailed { step: name, error });
        }
        if line.trim_end().len() >= cmdline::SUSPICIOUS_LENGTH {
            init.warn(format!(
                "the kernel command line has {} bytes and was probably cut: put parameters into {} of an appended cpio",
                line.trim_end().len(),
                paths::PARAMS_FILE
            ));
        }
        for unknown in params::unknown(&words) {
            init.warn(unknown.to_string());
        }
        init.supervise(supervise::Event::Tick);
        init
    }

    /// One wait and the handling of what it brought.
    fn turn(&mut self) {
        let deadlines = [
            self.supervision.next_deadline(),
            self.going_down.as_ref().map(|down| down.until),
            self.outlet.wants_housekeeping(now()).then(|| now() + HOUSEKEEPING),
            Some(self.logs),
        ];
        let timeout = deadlines.into_iter().flatten().min().map(|deadline| deadline.saturating_sub(now()));
        let Some(signals) = &self.signals else {
            // No signalfd: nothing can be reaped by event, so look twice a second.
            std::thread::sleep(Duration::from_millis(500));
            self.reap();
            return self.supervise(supervise::Event::Tick);
        };
        let woken = match reactor::wait(signals, &self.streams, timeout) {
            Ok(woken) => woken,
            Err(error) => {
                host::log!("wait: {error}");
                return std::thread::sleep(Duration::from_millis(100)); // never a busy loop
            }
        };
        // Events first: what a service said before it died comes before its death.
        self.read_streams(&woken.streams);
        if woken.signals {
            while let Some(signal) = self.signals.as_ref().and_then(process::next_signal) {
                self.signalled(signal);
            }
        }
        self.supervise(supervise::Event::Tick);
        self.go_down();
        if now() >= self.logs {
            logs::bound();
            self.logs = now() + logs::LOOK;
        }
        self.outlet.flush();
        for text in self.outlet.take_refused() {
            self.warn(text);
        }
    }

    fn read_streams(&mut self, ready: &[usize]) {
        let mut ended = Vec::new();
        for &index in ready {
            let stream = &mut self.streams[index]; // indices come from this vector, unchanged since
            match stream.read(now()) {
                Some(lines) => lines.iter().for_each(|line| self.outlet.line(line)),
                None => ended.push(index),
            }
        }
        for index in ended.into_iter().rev() {
            let stream = self.streams.remove(index);
            if stream.dropped > 0 {
                let service = &self.services[stream.service].name;
                host::log!("{service}: {} event lines dropped", stream.dropped);
            }
        }
    }

    /// The signals that BusyBox's init and its reboot, poweroff and halt agree on, and the one by which both look for consoles
    /// again.
    fn signalled(&mut self, signal: i32) {
        match Signal::from_named_raw(signal) {
            Some(Signal::CHILD) => self.reap(),
            Some(Signal::TERM | Signal::INT) => self.begin_going_down(How::Reboot),
            Some(Signal::USR2 | Signal::POWER) => self.begin_going_down(How::PowerOff),
            Some(Signal::USR1) => self.begin_going_down(How::Halt),
            Some(Signal::HUP) => self.look_for_consoles(),
            _ => {}
        }
    }

    /// Once more, since the firmware has been asked for its own. None is taken away, and what is typed on one goes on; a
    /// console that was only found learns by itself that it is named, and init what to start it with.
    fn look_for_consoles(&mut self) {
        let found = services::consoles(&self.root);
        for kind in services::add(&mut self.services, found) {
            self.last_exits.push(None);
            self.supervise(supervise::Event::Added { kind });
        }
    }

    fn reap(&mut self) {
        while let Some((pid, ended)) = process::reap() {
            if let Some(slot) = self.supervision.slot_of(pid) {
                let name = self.services[slot].name.clone();
                self.last_exits[slot] = Some(ended.to_string());
                host::log!("{name} (pid {pid}) ended: {ended}");
                self.tell(&Event::Exited { service: name, status: ended.to_string() });
            }
            if let Some(GoingDown {
                stage: Stage::Role { pid: role, .. } | Stage::End { pid: role },
                until,
                ..
            }) = &mut self.going_down
                && *role == pid
            {
                *until = now(); // go on at once
            }
            self.supervise(supervise::Event::Exited { pid, well: ended == Ended::Status(0) });
        }
    }

    fn supervise(&mut self, event: supervise::Event) {
        let mut queue = vec![event];
        let before = self.supervision.clone();
        while let Some(event) = queue.pop() {
            let (next, actions) = supervise::step(&self.supervision, event, now());
            self.supervision = next;
            for action in actions {
                match action {
                    supervise::Action::Start { slot } => queue.push(match self.start(slot) {
                        Ok(pid) => supervise::Event::Started { slot, pid },
                        Err(error) => {
                            self.last_exits[slot] = Some(error.to_string());
                            self.warn(format!("start {}: {error}", self.services[slot].name));
                            supervise::Event::NotStarted { slot }
                        }
                    }),
                    supervise::Action::Terminate { pid } => {
                        if let Err(error) = process::signal(pid, Signal::TERM) {
                            host::log!("terminate {pid}: {error}");
                        }
                    }
                    supervise::Action::Tell { slot } => {
                        let name = &self.services[slot].name;
                        let last = self.last_exits[slot].as_deref().unwrap_or("no reason known");
                        let log = paths::log(name);
                        self.warn(format!(
                            "{name} failed again and again ({last}) and is given up: less {log}"
                        ));
                    }
                }
            }
        }
        if before != self.supervision {
            self.publish();
        }
    }

    fn start(&mut self, slot: usize) -> std::io::Result<i32> {
        let service = &self.services[slot];
        let argv: Vec<&OsStr> = service.argv.iter().map(OsStr::new).collect();
        let (reader, writer) = std::io::pipe()?;
        let reader = OwnedFd::from(reader);
        rustix::io::ioctl_fionbio(&reader, true)?;
        let mut child = Spawn::new(&argv, &self.environment);
        child.stderr = logs::open(&service.name);
        child.events = Some(writer.into());
        child.nice = service.nice;
        child.oom_score = service.oom_score;
        let pid = process::spawn(child)?;
        let (name, restarts) = (service.name.clone(), self.supervision.slots[slot].restarts);
        self.streams.push(Stream::new(slot, reader));
        self.tell(&Event::Started { service: name, pid, restarts });
        Ok(pid)
    }

    fn begin_going_down(&mut self, how: How) {
        if self.going_down.is_some() {
            return;
        }
        self.tell(&Event::Shutdown { how: how.name().to_string() });
        kernel_log(ERROR, &format!("going down: {}", how.name()));
        self.supervise(supervise::Event::Stop);
        shutdown::signal_others(&self.root, Signal::TERM);
        shutdown::signal_others(&self.root, Signal::HUP); // interactive shells ignore SIGTERM
        self.going_down = Some(GoingDown { how, stage: Stage::Terminating, until: now() + GRACE });
    }

    /// Moves a shutdown on when its stage has ended or its deadline has passed.
    fn go_down(&mut self) {
        let Some(down) = &mut self.going_down else { return };
        // Only PID 1's own children are seen; a grandchild that ignores SIGTERM gets the whole grace.
        let alone = down.stage == Stage::Terminating && shutdown::processes(&self.root).others.is_empty();
        if now() < down.until && !alone {
            return;
        }
        match down.stage {
            Stage::Terminating => {
                shutdown::kill_others(&self.root);
                (down.stage, down.until) =
                    (Stage::Killing, now() + Duration::from_millis(if alone { 0 } else { 200 }));
            }
            Stage::Killing => self.start_role(0),
            Stage::Short { index, .. } => self.start_role(index),
            Stage::Role { index, pid, since, ref mut progress } => {
                let (role, ..) = shutdown::ROLES[index]; // an index of ROLES since its start
                if process::is_there(pid)
                    && let Some(left) = progress.look(&self.root)
                {
                    down.until = now() + Progress::LOOK;
                    let text = format!(
                        "{role}: {} MiB are still to be written, and become fewer",
                        left.div_ceil(1 << 20)
                    );
                    return kernel_log(ERROR, &text);
                }
                // Past its deadline it may hang in the kernel; the signal is for when it does not.
                if process::signal(pid, Signal::KILL).is_ok() {
                    let seconds = now().saturating_sub(since).as_secs();
                    kernel_log(ERROR, &format!("{role} did not end within {seconds} s: going on"));
                }
                self.start_role(index + 1);
            }
            Stage::End { .. } => {
                let how = down.how;
                kernel_log(ERROR, shutdown::last_words(how));
                shutdown::force(how, &self.root);
                // Halted, or refused: stay, and let the next signal try again.
                self.going_down = None;
            }
        }
    }

    fn start_role(&mut self, first: usize) {
        let Some(GoingDown { how, stage, .. }) = self.going_down else { return };
        let since = if let Stage::Short { since, .. } = stage { since } else { now() };
        for (index, (role, _, deadline)) in shutdown::ROLES.iter().enumerate().skip(first) {
            match self.start_child(role) {
                Ok(pid) => {
                    let progress = Progress::begin(&self.root);
                    let stage = Stage::Role { index, pid, since: now(), progress };
                    self.going_down = Some(GoingDown { how, stage, until: now() + *deadline });
                    return;
                }
                Err(error) if self.is_short(index, since, &error) => return,
                Err(error) => host::log!("start {role}: {error}"),
            }
        }
        self.outlet.flush();
        match self.start_child(how.name()) {
            Ok(pid) => {
                let stage = Stage::End { pid };
                self.going_down = Some(GoingDown { how, stage, until: now() + shutdown::END });
            }
            Err(error) if self.is_short(shutdown::ROLES.len(), since, &error) => {}
            Err(error) => {
                kernel_log(ERROR, &format!("start {}: {error}: by SysRq, then", how.name()));
                shutdown::force(how, &self.root);
                self.going_down = None;
            }
        }
    }

    fn start_child(&self, role: &str) -> std::io::Result<i32> {
        let argv = shutdown::argv(role);
        let mut child = Spawn::new(&argv, &self.environment);
        child.stderr = logs::open("shutdown");
        process::spawn(child)
    }

    /// Whether it is tried again.
    fn is_short(&mut self, index: usize, since: Duration, error: &std::io::Error) -> bool {
        let again = now() < since + SHORT;
        if again && let Some(down) = &mut self.going_down {
            if !matches!(down.stage, Stage::Short { .. }) {
                host::log!("start a child: {error}: trying again");
            }
            (down.stage, down.until) = (Stage::Short { index, since }, now() + SHORT_AGAIN);
        }
        again
    }

    fn publish(&mut self) {
        let service = |(index, slot): (usize, &supervise::Slot)| state::Service {
            name: self.services[index].name.clone(),
            state: match slot.phase {
                supervise::Phase::Waiting { .. } | supervise::Phase::Starting => "backoff",
                supervise::Phase::Running { .. } => "running",
                supervise::Phase::Done => "done",
                supervise::Phase::Failed => "failed",
                supervise::Phase::Stopped => "stopped",
            }
            .to_string(),
            pid: match slot.phase {
                supervise::Phase::Running { pid, .. } => Some(pid),
                _ => None,
            },
            restarts: slot.restarts,
            last_exit: self.last_exits[index].clone(),
        };
        self.state.services = self.supervision.slots.iter().enumerate().map(service).collect();
        if let Err(error) = host::statefile::publish("init", &self.state) {
            host::log!("publish state: {error}");
        }
    }

    /// One line that a person should see: on the consoles, in the kernel log and in the state.
    fn warn(&mut self, text: String) {
        host::log!("{text}");
        if self.state.warnings.contains(&text) {
            return; // a service that cannot start says so once
        }
        kernel_log(WARNING, &text);
        self.tell(&Event::Notice { severity: Severity::Warning, text: text.clone() });
        self.state.warnings.push(text);
        self.state.warnings.truncate(64); // a state file, not a log
        self.publish();
    }

    fn tell(&mut self, event: &Event) {
        if let Some(line) = host::events::line(event) {
            self.outlet.line(&line);
        }
    }
}

const ASYNC_PROBE: &str = "/sys/module/module/parameters/async_probe";
const HUGE_PAGES: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
/// Bytes of memory below which huge pages cost more than they bring: the kernel keeps up to a twentieth of it free for them
/// (`set_recommended_min_free_kbytes` of mm/khugepaged.c), 66 MiB from 1.3 GiB on. Checkers of large file systems
/// gain by them where there is much.
const MUCH_MEMORY: u64 = 4 << 30;

/// Kernel settings of a rescue system, as (path, value).
fn settings(root: &Root, words: &[cmdline::Word]) -> Vec<(&'static str, &'static str)> {
    let mut settings = vec![
        // Ctrl-Alt-Del is a signal to PID 1, and every SysRq works: it may be the last key left.
        ("/proc/sys/kernel/sysrq", "1"),
        ("/proc/sys/kernel/panic", "30"),
        // Else every session has the same share of the processor, whatever its niceness.
        ("/proc/sys/kernel/sched_autogroup_enabled", "0"),
        ("/proc/sys/fs/protected_symlinks", "1"),
        ("/proc/sys/fs/protected_hardlinks", "1"),
    ];
    // Else whatever loads a module, the kernel's own mount(2) too, waits for a disk that hangs. Kernels
    // before 6.3 lack it.
    if root.exists(ASYNC_PROBE) {
        settings.push((ASYNC_PROBE, "1"));
    }
    if root.exists(HUGE_PAGES) && host::proc::total_memory(root) < MUCH_MEMORY {
        settings.push((HUGE_PAGES, "never"));
    }
    // From here on only warnings on the consoles: a serial line takes 0.1 ms a character.
    let wanted = ["debug", "ignore_loglevel", "loglevel"];
    if !words.iter().any(|word| wanted.contains(&word.name.as_str())) {
        settings.push(("/proc/sys/kernel/printk", "4 4 1 7"));
    }
    settings
}

fn environment() -> Vec<(OsString, OsString)> {
    [
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("HOME", "/root"),
        ("LIFEBOAT_EVENTS", "1"),
    ]
    .map(|(name, value)| (name.into(), value.into()))
    .into()
}

/// PID 1's own log, instead of a console that might block.
fn take_stderr() -> std::io::Result<()> {
    let null = File::open("/dev/null")?;
    let log = OpenOptions::new().create(true).append(true).open(paths::log("init"))?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&log)?;
    rustix::stdio::dup2_stderr(&log)?;
    Ok(())
}

/// Priorities of the kernel's log (linux/kern_levels.h). What is below a warning stands on the consoles as well, where the
/// services that show warnings are gone by the time a machine goes down.
const ERROR: u8 = 3;
const WARNING: u8 = 4;

/// One line into the kernel log.
fn kernel_log(priority: u8, text: &str) {
    use std::io::Write;
    let clean: String = Untrusted(text).to_string().chars().take(900).collect();
    if let Ok(mut kmsg) = OpenOptions::new().write(true).open("/dev/kmsg") {
        // The kernel limits how many lines it takes; what it drops stands in init's own log.
        let _ = kmsg.write_all(format!("<{priority}>lifeboat: {clean}").as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn no_memory_is_kept_free_for_huge_pages_where_there_is_little() {
        let directory = tempfile::tempdir().unwrap();
        for path in [HUGE_PAGES, "/proc/meminfo"] {
            fs::create_dir_all(directory.path().join(&path[1..]).parent().unwrap()).unwrap();
        }
        fs::write(directory.path().join(&HUGE_PAGES[1..]), "[always] madvise never\n").unwrap();
        let root = Root::at(directory.path()).unwrap();
        for (total, wanted) in [("245760", true), ("2019212", true), ("16300000", false)] {
            let text = format!("MemTotal: {total} kB\n");
            fs::write(directory.path().join("proc/meminfo"), text).unwrap();
            assert_eq!(settings(&root, &[]).contains(&(HUGE_PAGES, "never")), wanted, "{total} kB");
        }
    }
}
