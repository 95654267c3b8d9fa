//! One process per kernel console: shows who this machine is and how to log in, as soon as that is
//! known, and opens a root shell when somebody presses Enter, as installers do. A line that nobody
//! reads holds up nothing but this process: it writes without blocking.

mod banner;
mod checker;
mod line;
mod screen;

use banner::Facts;
use checker::Checker;
use contract::password::{Opens, matches_one_time};
use contract::{cmdline, paths, state};
use host::Root;
use host::shell::{self, Shell};
use host::sys::process::{self, Instead, Spawn};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, inotify};
use screen::Screen;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// What stands on the consoles: `rescue.console=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    Open,
    Login,
    Off,
}

/// Without an address the banner is shown after this time all the same: the console may be all
/// that there is.
const PATIENCE: Duration = Duration::from_secs(8);
/// Bytes waiting for a line that takes none; more is dropped.
const PENDING: usize = 32 << 10;
/// The kernel's screen takes UTF-8 from here on (console_codes(4)), whatever a program left behind.
const UTF8: &str = "\x1b%G";
/// What has to come, alone on a line, before anything is said on a line that nobody named.
const CALL: &[u8] = b"lifeboat";
/// A password typed wrong costs this.
const PENALTY: Duration = Duration::from_secs(2);

/// What somebody who was asked for a password gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Right,
    Wrong,
    /// None opens this console, or none can be looked at: the reason was said.
    NotAsked,
}

/// The service; its arguments are the console's device, the speed of a line that the kernel has set none of, and whether
/// nobody named that line.
pub fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(name) = arguments.next() else {
        host::log!("usage: console DEVICE [SPEED [found-by-peer]], such as ttyS0 115200");
        return ExitCode::SUCCESS;
    };
    let more: Vec<String> = arguments.collect();
    let speed = more.iter().find_map(|word| word.parse().ok());
    let found_by_peer = more.iter().any(|word| word == paths::FOUND_BY_PEER);
    match Console::open(&name, speed, found_by_peer).and_then(|mut console| console.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            host::log!("console {name}: {error:#}");
            ExitCode::FAILURE // init tries again, later and later
        }
    }
}

struct Console {
    root: Root,
    name: String,
    path: String,
    /// Looks at a password that only its hash is known of.
    sshd: PathBuf,
    policy: Policy,
    /// All that is known of this line is that something is connected to it: a person, or a device that takes every byte for
    /// a command and answers. Nothing is said, not even an echo, before somebody calls.
    found_by_peer: bool,
    /// Nobody has called yet.
    call: Option<line::Call>,
    /// To be loaded once the layers are there.
    keymap: Option<String>,
    device: OwnedFd,
    pending: Vec<u8>,
    /// The banner as last shown, so that it is shown again only when it says something new.
    shown: Option<String>,
    /// Warnings already shown.
    warned: Vec<String>,
    /// Rows written since the banner, and with it.
    rows: usize,
    /// The code below the banner, where there is room for it.
    code: String,
    began: Duration,
}

impl Console {
    fn open(name: &str, speed: Option<u32>, found_by_peer: bool) -> anyhow::Result<Console> {
        let root = Root::live()?;
        let path = format!("/dev/{name}");
        let device = rustix::fs::open(path.as_str(), flags() | OFlags::NONBLOCK, Mode::empty())?;
        line::sane(&device, !found_by_peer)?;
        if let Some(speed) = speed {
            line::set_speed(&device, speed)?;
        }
        let words = host::params::read(&root);
        let policy = match cmdline::last(&words, "rescue.console") {
            None | Some("open") => Policy::Open,
            Some("login") => Policy::Login,
            Some("off") => Policy::Off,
            Some(other) => {
                host::events::tell(&contract::event::Event::warning(format!(
                    "rescue.console={}: unknown; it takes open, login or off: consoles ask for the password",
                    other.escape_debug()
                )));
                Policy::Login
            }
        };
        // Who is at the other end of a line that was only found may not be who may boot the machine.
        let policy = if found_by_peer && policy == Policy::Open { Policy::Login } else { policy };
        // One keymap serves all virtual consoles, so the process of the first one loads it.
        let keymap = cmdline::last(&words, "vconsole.keymap").filter(|_| name == "tty1").map(str::to_string);
        Ok(Console {
            root,
            name: name.to_string(),
            path,
            sshd: std::env::current_exe()?.with_file_name("sshd"),
            policy,
            found_by_peer,
            call: found_by_peer.then(|| line::Call::of(CALL)),
            keymap,
            device,
            pending: Vec::new(),
            shown: None,
            warned: Vec::new(),
            rows: 0,
            code: String::new(),
            began: now(),
        })
    }

    fn run(&mut self) -> anyhow::Result<()> {
        let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        inotify::add_watch(&watch, paths::STATE, inotify::WatchFlags::MOVED_TO)?;
        loop {
            self.learn_its_name()?;
            self.show();
            let mut fds = [
                PollFd::new(&watch, PollFlags::IN),
                PollFd::new(
                    &self.device,
                    if self.pending.is_empty() { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT },
                ),
            ];
            let left = PATIENCE.saturating_sub(now().saturating_sub(self.began));
            let timeout = (self.shown.is_none() && self.call.is_none())
                .then(|| timespec(left.max(Duration::from_millis(50))));
            match poll(&mut fds, timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let [changed, line] = fds.map(|fd| fd.revents());
            if !changed.is_empty() {
                drain(&watch);
            }
            if line.contains(PollFlags::OUT) {
                self.flush()?;
            }
            if line.contains(PollFlags::IN) {
                match self.entered()?.as_deref() {
                    _ if self.call.is_some() => {}
                    Some("q" | "Q") => self.show_code()?,
                    Some(_) => self.enter()?,
                    None => {}
                }
            } else if line.intersects(PollFlags::HUP | PollFlags::ERR) {
                // Nobody at the other end of a virtio console: no event will tell when that ends.
                std::thread::sleep(Duration::from_secs(1));
            }
        }
    }

    /// A line that was only found is one that the firmware names as soon as the firmware was asked, which takes a while.
    /// Whoever has called by then stays at what he does.
    fn learn_its_name(&mut self) -> anyhow::Result<()> {
        if self.call.is_some()
            && let Some(line) =
                host::conout::named(&self.root).into_iter().find(|line| line.device == self.name)
        {
            *self = Console::open(&line.device, line.speed, false)?;
        }
        Ok(())
    }

    /// Writes the banner when it says something new, each new warning, and the code below when it is made and there is
    /// room.
    fn show(&mut self) {
        if self.call.is_some() {
            return;
        }
        let facts = self.facts();
        if facts.layers.done
            && let Some(keymap) = self.keymap.take()
        {
            load_keymap(&keymap);
        }
        let patient = now().saturating_sub(self.began) < PATIENCE;
        if !facts.complete() && patient && self.shown.is_none() {
            return;
        }
        let screen = Screen::of(&self.name, &self.device);
        let banner = facts.banner();
        let is_new = self.shown.as_ref() != Some(&banner);
        let news: Vec<String> =
            facts.warnings().into_iter().filter(|warning| !self.warned.contains(warning)).collect();
        let notes: Vec<String> =
            facts.notes().into_iter().filter(|note| !self.warned.contains(note)).collect();
        let mut text = String::new();
        if is_new {
            text.push_str(&banner);
            (self.rows, self.code) = (0, String::new());
        }
        for warning in &news {
            text.push_str(&format!("  ! {warning}\n"));
        }
        for note in &notes {
            text.push_str(&format!("    {note}\n"));
        }
        let prompt = self.prompt();
        let room = screen.rows.saturating_sub(self.rows + screen.rows_of(&text) + screen.rows_of(prompt) + 1);
        if is_new && screen.rows_of(&facts.record()) <= room {
            text.insert_str(banner.len(), &facts.record());
        }
        // A line would have to be asked whether it can, and perhaps nobody is there.
        if screen.video && self.code != facts.sshd.qr && screen.rows_of(&facts.sshd.qr) < room {
            text.push_str(&format!("\n{UTF8}{}\n", facts.sshd.qr));
            self.code.clone_from(&facts.sshd.qr);
        }
        if text.is_empty() {
            return;
        }
        text.push_str(prompt);
        self.rows += screen.rows_of(&text);
        self.warned.extend(news.into_iter().chain(notes));
        self.shown = Some(banner);
        self.write(&text);
    }

    fn facts(&self) -> Facts {
        Facts {
            sshd: host::statefile::read("sshd"),
            netd: host::statefile::read("netd"),
            init: host::statefile::read::<state::Init>("init"),
            layers: host::statefile::read("layers"),
            devd: host::statefile::read("devd"),
            password: self.root.line(paths::PASSWORD),
        }
    }

    fn prompt(&self) -> &'static str {
        match self.policy {
            Policy::Open => {
                "\nPress Enter for a root shell on this console; q and Enter: host key as QR code.\n"
            }
            Policy::Login => "\nPress Enter to log in on this console; q and Enter: host key as QR code.\n",
            Policy::Off => "\nPress q and Enter for the host key as QR code.\n",
        }
    }

    /// The host key as a code and for DNS, because somebody asks.
    fn show_code(&mut self) -> anyhow::Result<()> {
        let screen = Screen::of(&self.name, &self.device);
        let facts = self.facts();
        let drawn = screen.video || (!facts.sshd.qr.is_empty() && screen::draws_half_blocks(&self.device)?);
        // What was written to find that out is not left there.
        let start = if screen.video { UTF8 } else { "\r\x1b[K" };
        self.write(&format!("{start}{}", facts.code(drawn)));
        Ok(())
    }

    fn write(&mut self, text: &str) {
        if self.pending.len() + text.len() <= PENDING {
            self.pending.extend_from_slice(text.as_bytes());
        }
        if let Err(error) = self.flush() {
            host::log!("write to {}: {error}", self.name);
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        while !self.pending.is_empty() {
            match rustix::io::write(&self.device, &self.pending) {
                Ok(length) => drop(self.pending.drain(..length)),
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    self.pending.clear();
                    return Err(error.into());
                }
            }
        }
        Ok(())
    }

    /// The line that was typed, when it is whole.
    fn entered(&mut self) -> std::io::Result<Option<String>> {
        let mut bytes = [0; 512];
        match rustix::io::read(&self.device, &mut bytes) {
            Ok(0) => Err(std::io::ErrorKind::UnexpectedEof.into()), // hung up: init opens it anew
            Ok(length) if self.call.is_some() => {
                if self.call.as_mut().is_some_and(|call| call.is_heard(&bytes[..length])) {
                    self.call = None;
                    line::sane(&self.device, true)?;
                    // Whoever calls is answered at once.
                    (self.shown, self.began) = (None, Duration::ZERO);
                }
                Ok(None)
            }
            Ok(length) => {
                let whole = bytes[..length].contains(&b'\n');
                Ok(whole.then(|| String::from_utf8_lossy(&bytes[..length]).trim().to_string()))
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn enter(&mut self) -> anyhow::Result<()> {
        if self.policy == Policy::Off {
            return Ok(());
        }
        if self.policy == Policy::Login {
            let answer = self.ask_password()?;
            if answer != Answer::Right {
                std::thread::sleep(PENALTY);
                let what = if answer == Answer::Wrong { "That was not it. " } else { "" };
                if self.found_by_peer {
                    // Two machines that answer each other end here.
                    self.write(&format!("\n{what}\n"));
                    return self.hush();
                }
                self.write(&format!("\n{what}Press Enter to try again.\n"));
                return Ok(());
            }
        }
        if let Err(error) = self.shell() {
            self.write(&format!("\nNo shell can be started: {error:#}\n"));
        }
        self.shown = None;
        self.began = Duration::ZERO; // no patience: the banner is shown at once
        if self.found_by_peer {
            return self.hush();
        }
        line::sane(&self.device, true)?;
        Ok(())
    }

    /// Until somebody calls again.
    fn hush(&mut self) -> anyhow::Result<()> {
        self.call = Some(line::Call::of(CALL));
        line::sane(&self.device, false)?;
        Ok(())
    }

    /// Asks without echo, for the one-time password; where that is not what opens, sshd says what does.
    fn ask_password(&mut self) -> anyhow::Result<Answer> {
        let Some(password) = self.root.line(paths::PASSWORD) else {
            return self.ask_password_of_hash();
        };
        let same = matches_one_time(&self.typed()?, &password);
        Ok(if same { Answer::Right } else { Answer::Wrong })
    }

    fn ask_password_of_hash(&mut self) -> anyhow::Result<Answer> {
        let start = || -> std::io::Result<(Checker, Opens)> {
            let mut checker = Checker::start(&self.sshd)?;
            let opens = checker.opens()?;
            Ok((checker, opens))
        };
        let not_checked = |error| format!("No password can be checked: {error}");
        let reason = match start() {
            Ok((checker, Opens::Hash)) => {
                let typed = self.typed()?;
                match checker.compare(&typed) {
                    Ok(true) => return Ok(Answer::Right),
                    Ok(false) => return Ok(Answer::Wrong),
                    Err(error) => not_checked(error),
                }
            }
            Ok((_, Opens::Nothing)) => {
                "Consoles ask for the one-time password, and there is none since a key was given: use ssh."
                    .to_string()
            }
            Ok((_, Opens::OneTime)) => {
                "The one-time password is not made yet: sshd does so when it starts, and after the last key has gone \
                 when a password is tried by ssh."
                    .to_string()
            }
            Err(error) => not_checked(error),
        };
        self.write(&format!("{reason}\n"));
        Ok(Answer::NotAsked)
    }

    /// What is typed without echo, within a minute.
    fn typed(&mut self) -> std::io::Result<String> {
        let before = line::silence(&self.device)?;
        self.write("Password: ");
        let typed = line::read_secret(&self.device, Duration::from_secs(60), &before)?;
        self.write("\n");
        Ok(typed)
    }

    /// Runs a root login shell on the line until it ends.
    fn shell(&mut self) -> anyhow::Result<()> {
        let open = || rustix::fs::open(self.path.as_str(), flags(), Mode::empty()).map(std::fs::File::from);
        let term =
            if self.name.starts_with("ttyS") || self.name.starts_with("hvc") { "vt220" } else { "linux" };
        let environment = |shell: &Shell| -> Vec<(OsString, OsString)> {
            [
                ("PATH", OsStr::new("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")),
                ("HOME", OsStr::new("/root")),
                ("USER", OsStr::new("root")),
                ("LOGNAME", OsStr::new("root")),
                ("SHELL", shell.variable.as_os_str()),
                ("TERM", OsStr::new(term)),
            ]
            .map(|(name, value)| (name.into(), value.into()))
            .into()
        };
        let (bash, busybox) = (Shell::bash(shell::BASH.as_ref()), Shell::busybox(shell::BUSYBOX.as_ref()));
        let (argv, arg0, variables) = ([bash.program.as_os_str()], bash.as_login(), environment(&bash));
        let mut child = Spawn::new(&argv, &variables);
        child.arg0 = Some(&arg0);
        let (argv, arg0, variables) =
            ([busybox.program.as_os_str()], busybox.as_login(), environment(&busybox));
        child.instead = Some(Instead {
            argv: &argv,
            arg0: Some(&arg0),
            environment: &variables,
            notice: Some(shell::notice),
        });
        child.stdin = Some(open()?);
        child.stdout = Some(open()?);
        child.stderr = Some(open()?);
        child.terminal = true;
        let pid = process::spawn(child)?;
        process::wait_for(pid)?;
        Ok(())
    }
}

fn flags() -> OFlags {
    OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC
}

/// By the original loadkeys of the userland layer.
fn load_keymap(keymap: &str) {
    let argv = ["/usr/bin/loadkeys", "--", keymap].map(OsStr::new);
    let environment = [("PATH".into(), "/usr/bin:/bin".into())];
    let outcome = process::spawn(Spawn::new(&argv, &environment)).and_then(process::wait_for);
    if !matches!(outcome, Ok(process::Ended::Status(0))) {
        host::events::tell(&contract::event::Event::warning(format!(
            "vconsole.keymap={}: not loaded; the keys are those of a US keyboard",
            keymap.escape_debug()
        )));
    }
}

fn drain(watch: &OwnedFd) {
    let mut buffer = [0; 4096];
    while matches!(rustix::io::read(watch, &mut buffer), Ok(length) if length > 0) {}
}

fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs().cast_signed(), tv_nsec: duration.subsec_nanos().into() }
}

/// Since boot.
fn now() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(now.tv_sec.cast_unsigned(), now.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::time::Instant;

    /// A console that asks for a password, on a terminal of its own, beside an sshd that is this script, if it is any.
    fn console(dir: &Path, script: Option<&str>) -> (Console, std::fs::File) {
        let sshd = dir.join("sshd");
        if let Some(script) = script {
            std::fs::write(&sshd, format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(&sshd, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let pty = host::sys::tty::open().unwrap();
        line::sane(&pty.terminal, true).unwrap();
        rustix::io::ioctl_fionbio(&pty.terminal, true).unwrap();
        let console = Console {
            root: Root::at(dir).unwrap(),
            name: "ttyS0".to_string(),
            path: pty.name,
            sshd,
            policy: Policy::Login,
            found_by_peer: false,
            call: None,
            keymap: None,
            device: pty.terminal,
            pending: Vec::new(),
            shown: None,
            warned: Vec::new(),
            rows: 0,
            code: String::new(),
            began: Duration::ZERO,
        };
        (console, std::fs::File::from(pty.master))
    }

    /// What comes of a person who types this as soon as he is asked, and what he saw.
    fn asked(mut console: Console, mut person: std::fs::File, types: &'static str) -> (Answer, String) {
        let (ended, has_ended) = std::sync::mpsc::channel::<()>();
        let sits = std::thread::spawn(move || {
            let (mut seen, mut is_asked) = (Vec::new(), false);
            let deadline = Instant::now() + Duration::from_secs(60);
            loop {
                let mut bytes = [0; 512];
                let over = has_ended.try_recv() == Err(std::sync::mpsc::TryRecvError::Disconnected);
                match person.read(&mut bytes) {
                    Ok(length) => seen.extend_from_slice(&bytes[..length]),
                    Err(_) if over => return String::from_utf8(seen).unwrap(),
                    Err(_) => {
                        assert!(Instant::now() < deadline, "{}", String::from_utf8_lossy(&seen));
                        let timeout = timespec(Duration::from_millis(20));
                        let _ = poll(&mut [PollFd::new(&person, PollFlags::IN)], Some(&timeout));
                    }
                }
                if !is_asked && seen.ends_with(b"Password: ") {
                    is_asked = true;
                    person.write_all(format!("{types}\r").as_bytes()).unwrap();
                }
            }
        });
        let answer = console.ask_password().unwrap();
        drop(ended);
        (answer, sits.join().unwrap())
    }

    #[test]
    fn a_one_time_password_is_taken_as_people_type_it() {
        for (kept, types, want) in [
            ("lusab-babad\n", "lusab-babad", Answer::Right),
            ("lusab-babad\n", "LUSAB babad", Answer::Right),
            ("lusab-babad\n", "lusab-babaf", Answer::Wrong),
            ("lusab-babad\n", "", Answer::Wrong),
            ("-\n", "", Answer::Wrong),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(paths::PASSWORD.trim_start_matches('/'));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, kept).unwrap();
            let (console, person) = console(dir.path(), None);
            assert_eq!(asked(console, person, types).0, want, "{kept:?} {types:?}");
        }
    }

    #[test]
    fn with_a_hash_instead_of_a_one_time_password_who_types_what_it_is_of_gets_in() {
        const HASHES: &str = "[ \"$*\" = password ] || exit 0; echo hash; \
                              [ \"$(cat)\" = 'Hello world!' ] && echo right || echo wrong";
        for (label, script, types, want, says) in [
            ("right", HASHES, "Hello world!", Answer::Right, "Password: "),
            ("wrong", HASHES, "hello world!", Answer::Wrong, "Password: "),
            ("none", HASHES, "", Answer::Wrong, "Password: "),
            ("a key", "echo nothing", "x", Answer::NotAsked, "none since a key was given: use ssh"),
            ("not yet", "echo one-time", "x", Answer::NotAsked, "is not made yet"),
            ("says nothing", "exit 0", "x", Answer::NotAsked, "No password can be checked: sshd has ended"),
            ("dies", "echo hash; kill -9 $$", "x", Answer::NotAsked, "No password can be checked: "),
            ("gibberish", "echo right", "x", Answer::NotAsked, "what it should not"),
            ("more gibberish", "echo hash; cat; echo yes", "x", Answer::NotAsked, "what it should not"),
            ("no end", "cat /dev/zero", "x", Answer::NotAsked, "what it should not"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let (console, person) = console(dir.path(), Some(script));
            let (answer, seen) = asked(console, person, types);
            assert_eq!(answer, want, "{label}: {seen}");
            assert!(seen.contains(says), "{label}: {seen:?}");
            assert!(!seen.contains("Hello") && !seen.contains("hello"), "{label}: {seen:?}");
            assert_eq!(seen.contains("a key was given"), label == "a key", "{label}: {seen:?}");
        }
    }
}
