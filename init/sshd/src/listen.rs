//! The listener: identity, the one-time password, the accept loop. It starts a monitor for each
//! connection and hears from it; nothing of a session depends on it.

use crate::access::{self, Access, Password};
use crate::entrance;
use crate::fetch;
use crate::fetch::Fetches;
use crate::identity::{self, Identity};
use crate::installed;
use crate::ironic::Ironic;
use crate::limits::{Failures, Network, Place, Turns, Waiting};
use crate::password;
use crate::settings::Settings;
use crate::wire::{self, Report, Wait};
use anyhow::{Context, Result};
use contract::event::Event;
use contract::{paths, state};
use host::Root;
use host::sys::process::{self, Spawn};
use host::sys::{inherited, pass};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::Signal;
use std::collections::{HashMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Between two attempts to do what must not be given up, such as binding the port.
const RETRY: Duration = Duration::from_secs(1);

/// Connections that the kernel holds while we look at one; it takes no more than net.core.somaxconn.
const BACKLOG: i32 = 4096;
/// What the hypervisor hands in may come with a module that is loaded after this service has started.
const SURVEY: Duration = Duration::from_secs(3);
const SURVEYS: u32 = 10;
/// oom_score_adj of whoever is not logged in. Of memory that runs out, strangers give back theirs first, and not what
/// the owner runs.
pub const STRANGER: i16 = 500;
/// After a login, which has the processor to itself until then; not more often, whatever strangers try.
const SURVEY_SOON: Duration = Duration::from_secs(1);

pub fn run(settings: &Settings) -> Result<()> {
    let root = settings.root()?;
    // Children tell of their end here; blocked before the first one is started.
    let children = process::signal_fd(&[Signal::CHILD]).context("signalfd")?;
    let mut state = previous_state(settings);
    until_done("directories", || {
        make_directories(settings)?;
        fetch::make_directory(settings).context("create a directory for keys")
    });
    tighten(settings);
    let installed = installed_keys(settings, &root);
    let identity = until_done("host key", || {
        identity::establish(settings, &root, &state, installed.as_ref().and_then(|keys| keys.as_ref().ok()))
    });
    let mut service = Service::new(settings, &root)?;
    describe(&mut state, &identity, installed.and_then(Result::err));
    service.state = state;
    service.survey();
    host::events::tell(&Event::HostKey {
        line: identity.line,
        fingerprint: identity.fingerprint,
        alias: identity.alias,
        sshfp: service.state.sshfp.first().cloned().unwrap_or_default(),
    });
    let socket = until_done("listen", || bind(settings.port));
    service.state.listening = true;
    service.state.port = socket.local_addr().context("own address")?.port();
    service.publish();
    host::events::tell(&Event::ready("sshd"));
    service.watch.look(settings, &service.state);
    socket.set_nonblocking(true).context("set non-blocking")?;
    // Again, for a longer queue than the library asks for.
    rustix::net::listen(&socket, BACKLOG).context("listen")?;
    loop {
        service.turn(&socket, &children)?;
    }
}

struct Service<'a> {
    settings: &'a Settings,
    root: &'a Root,
    program: PathBuf,
    waiting: Waiting,
    failures: Failures,
    turns: Turns,
    /// Those whose connection is not logged in yet.
    monitors: HashMap<u64, Monitor>,
    next: u64,
    /// One that came when nobody could make room yet, and when somebody can.
    held: Option<(TcpStream, SocketAddr, Instant)>,
    /// Those that had to make room for others.
    dropped: u64,
    /// The process that makes the RSA host key.
    rsa: Option<i32>,
    /// What no login waits for is done, or under way.
    complete: bool,
    fetches: Fetches,
    ironic: Ironic,
    /// When to look again for ways in.
    surveys: VecDeque<Instant>,
    /// Whether a password opened the door when it was looked at last.
    has_password: bool,
    watch: entrance::Watch,
    state: state::Sshd,
}

struct Monitor {
    report: OwnedFd,
    network: Network,
    /// `None` when it ended.
    pid: Option<i32>,
}

impl<'a> Service<'a> {
    /// Before anybody has come.
    fn new(settings: &'a Settings, root: &'a Root) -> Result<Service<'a>> {
        let now = Instant::now();
        Ok(Service {
            settings,
            root,
            program: crate::program()?,
            waiting: Waiting::default(),
            failures: Failures::default(),
            turns: Turns::default(),
            monitors: HashMap::new(),
            next: 0,
            held: None,
            dropped: 0,
            rsa: None,
            complete: false,
            fetches: Fetches::new(root, now),
            ironic: Ironic::new(root, now),
            surveys: (1..=SURVEYS).map(|n| now + SURVEY * n).collect(),
            has_password: false,
            watch: entrance::Watch::new(settings),
            state: state::Sshd::default(),
        })
    }
}

impl Service<'_> {
    /// Waits for something to happen and handles it.
    fn turn(&mut self, socket: &TcpListener, children: &OwnedFd) -> Result<()> {
        let ids: Vec<u64> = self.monitors.keys().copied().collect();
        let reports = ids.iter().map(|id| PollFd::new(&self.monitors[id].report, PollFlags::IN));
        let changes = self.watch.descriptor();
        let accepting = if self.held.is_some() { PollFlags::empty() } else { PollFlags::IN };
        let mut fds: Vec<PollFd<'_>> = [PollFd::new(socket, accepting), PollFd::new(children, PollFlags::IN)]
            .into_iter()
            .chain(reports)
            .chain(self.fetches.pipes().map(|pipe| PollFd::new(pipe, PollFlags::IN)))
            .chain(self.ironic.socket().map(|socket| PollFd::new(socket, PollFlags::IN)))
            .chain(changes.into_iter().map(|changes| PollFd::new(changes, PollFlags::IN)))
            .collect();
        let held = self.held.as_ref().map(|(_, _, due)| *due);
        let due = [self.fetches.next(), self.ironic.next(), self.surveys.front().copied(), held]
            .into_iter()
            .flatten()
            .min();
        let left = due.map(|due| due.saturating_duration_since(Instant::now()));
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("poll"),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        let changed = changes.is_some() && ready.last() == Some(&true);
        let now = Instant::now();
        if changed {
            self.watch.look(self.settings, &self.state);
        }
        self.fetches.read();
        self.fetches.start(self.settings, now);
        self.ironic.start(self.settings, now);
        if self.ironic.hear(self.settings) {
            self.survey();
        }
        if self.surveys.front().is_some_and(|at| *at <= now) {
            self.surveys.pop_front();
            if !std::mem::replace(&mut self.complete, true) {
                self.complete();
            }
            self.survey();
        }
        if ready[1] {
            self.reap(children);
        }
        for (id, _) in ids.iter().zip(&ready[2..]).filter(|(_, ready)| **ready) {
            self.report(*id);
        }
        match self.held.take() {
            Some((connection, peer, due)) if due <= now => self.admit(connection, peer),
            Some(held) => self.held = Some(held),
            None if ready[0] => self.accept(socket),
            None => {}
        }
        self.give_turns();
        Ok(())
    }

    fn accept(&mut self, socket: &TcpListener) {
        match socket.accept() {
            Ok((connection, peer)) => self.admit(connection, peer),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // The peer went away while it stood in the queue.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                // Out of descriptors or memory: others need a moment to give some back.
                host::log!("accept: {error}");
                sleep(RETRY);
            }
        }
    }

    /// Lets one in, or holds it until there is a place. Nobody else is accepted meanwhile.
    fn admit(&mut self, connection: TcpStream, peer: SocketAddr) {
        let (network, now) = (Network::from(peer.ip()), Instant::now());
        let victim = match self.place(network, now) {
            Place::Free => None,
            Place::InsteadOf(victim) => Some(victim),
            Place::NotBefore(due) => {
                self.held = Some((connection, peer, due));
                return;
            }
        };
        if let Some(victim) = victim {
            self.waiting.leave(victim);
            self.turns.end(victim);
            self.dropped += 1;
            // So that a flood does not fill the log.
            if self.dropped.is_power_of_two() {
                host::log!("{} connections that did not log in had to make room", self.dropped);
            }
            if let Some(monitor) = self.monitors.remove(&victim)
                && let Some(pid) = monitor.pid
            {
                // One that has just ended by itself is as good.
                let _ = process::signal(pid, Signal::KILL);
            }
        }
        let id = self.next;
        self.next += 1;
        self.waiting.enter(id, network, now);
        match self.start(connection) {
            Ok((pid, report)) => {
                self.monitors.insert(id, Monitor { report, network, pid: Some(pid) });
            }
            Err(error) => {
                self.waiting.leave(id);
                host::log!("{peer}: start monitor: {error:#}");
            }
        }
    }

    /// Where one can be let in. Who has to go for it has not logged in meanwhile: what it told is heard first.
    fn place(&mut self, network: Network, now: Instant) -> Place {
        let (most, most_of_one) = (self.settings.waiting, self.settings.waiting_per_address);
        loop {
            match self.waiting.place(network, now, most, most_of_one) {
                Place::InsteadOf(victim) if self.hear(victim) => {}
                place => return place,
            }
        }
    }

    /// Whether it told anything.
    fn hear(&mut self, id: u64) -> bool {
        let Some(monitor) = self.monitors.get(&id) else { return false };
        let mut fds = [PollFd::new(&monitor.report, PollFlags::IN)];
        let told = matches!(rustix::event::poll(&mut fds, Some(&Timespec::default())), Ok(1..));
        if told {
            self.report(id);
        }
        told
    }

    fn give_turns(&mut self) {
        while let Some(id) = self.turns.next(&self.failures, Instant::now()) {
            let Some(monitor) = self.monitors.get(&id) else {
                self.turns.end(id);
                continue;
            };
            if let Err(error) = wire::send(&monitor.report, &Wait { milliseconds: 0 }, &[]) {
                host::log!("answer monitor: {error}");
                self.turns.end(id);
            }
        }
    }

    fn start(&self, connection: TcpStream) -> Result<(i32, OwnedFd)> {
        let (ours, theirs) = pass::pair().context("socketpair")?;
        let argv = self.settings.role(&self.program, "monitor");
        let argv: Vec<&OsStr> = argv.iter().map(OsString::as_os_str).collect();
        let mut environment = Vec::new();
        let mut events = None;
        if std::env::var_os("LIFEBOAT_EVENTS").is_some() {
            environment.push(("LIFEBOAT_EVENTS".into(), "1".into()));
            events = Some(inherited(contract::event::DESCRIPTOR).try_clone_to_owned().context("events")?);
        }
        let mut child = Spawn::new(&argv, &environment);
        child.stdin = Some(File::from(OwnedFd::from(connection)));
        child.stdout = Some(File::from(theirs));
        child.stderr = Some(File::from(inherited(2).try_clone_to_owned().context("stderr")?));
        child.events = events;
        child.oom_score = STRANGER;
        Ok((process::spawn(child)?, ours))
    }

    fn report(&mut self, id: u64) {
        let Some(monitor) = self.monitors.get(&id) else { return };
        let network = monitor.network;
        match wire::receive::<Report>(&monitor.report) {
            Ok(Some((Report::Attempt, _))) => {
                let wait = self.failures.wait(network, Instant::now());
                let milliseconds = wait.as_millis().try_into().unwrap_or(u64::MAX);
                if let Err(error) = wire::send(&monitor.report, &Wait { milliseconds }, &[]) {
                    host::log!("answer monitor: {error}");
                }
                // The last key may have gone since, and now there is a password to be made.
                if !self.has_password {
                    self.survey_soon();
                }
            }
            Ok(Some((Report::Talks, _))) => self.waiting.talks(id),
            Ok(Some((Report::Hash, _))) => self.turns.ask(id, network),
            Ok(Some((Report::Failed, _))) => {
                self.failures.failed(network, Instant::now());
                self.turns.end(id);
            }
            Ok(Some((Report::Entered, _))) => {
                self.turns.end(id);
                self.failures.entered(network);
                self.waiting.leave(id);
                // Who is in may have added keys, and this is when it matters.
                self.survey_soon();
            }
            Ok(None) => self.forget(id),
            Err(error) => {
                host::log!("monitor: {error}");
                self.forget(id);
            }
        }
    }

    fn survey_soon(&mut self) {
        let due = Instant::now() + SURVEY_SOON;
        if self.surveys.front().is_none_or(|at| *at > due) {
            self.surveys.push_front(due);
        }
    }

    fn forget(&mut self, id: u64) {
        self.waiting.leave(id);
        self.turns.end(id);
        self.monitors.remove(&id);
    }

    fn reap(&mut self, children: &OwnedFd) {
        while process::next_signal(children).is_some() {}
        while let Some((pid, how)) = process::reap() {
            if self.fetches.ended(self.settings, pid, how, Instant::now()) {
                self.survey();
            }
            if self.ironic.ended(pid, Instant::now()) {
                self.survey();
            }
            if self.rsa == Some(pid) {
                self.rsa = None;
                self.survey();
            }
            if let Some(monitor) = self.monitors.values_mut().find(|monitor| monitor.pid == Some(pid)) {
                monitor.pid = None;
            }
        }
    }

    /// Makes what no login waits for, some seconds after the first one may have come.
    fn complete(&mut self) {
        self.state.qr = crate::qr::of_host(&self.state.alias, &self.state.host_key);
        self.publish();
        if identity::rsa_line(self.root).is_none()
            && let Err(error) = self.make_rsa()
        {
            host::log!("RSA host key: {error:#}");
        }
    }

    /// In the background and below everybody else, since nobody needs it but old clients.
    fn make_rsa(&mut self) -> Result<()> {
        let argv = self.settings.role(&self.program, "rsa-key");
        let argv: Vec<&OsStr> = argv.iter().map(OsString::as_os_str).collect();
        let mut child = Spawn::new(&argv, &[]);
        child.stderr = Some(File::from(inherited(2).try_clone_to_owned().context("stderr")?));
        child.nice = 19;
        self.rsa = Some(process::spawn(child)?);
        Ok(())
    }

    /// Looks at the ways in, makes or removes the one-time password, and tells what is new.
    fn survey(&mut self) {
        let access = Access::read(self.root);
        let mut problems = access.problems.clone();
        problems.extend(self.fetches.problems().chain(self.ironic.problem()).cloned());
        let path = self.settings.path(paths::PASSWORD);
        let result = match access.password {
            Password::OneTime if path.exists() => Ok(()),
            Password::OneTime => make_password(&path),
            Password::Off | Password::Hash(..) => remove(&path),
        };
        if let Err(error) = result {
            problems.push(format!("one-time password: {error:#}"));
        }
        for problem in problems.iter().filter(|problem| !self.state.problems.contains(problem)) {
            host::events::tell(&Event::warning(problem.clone()));
        }
        // The host key's problems, found before, stay.
        let of_keys = [identity::INJECTED, identity::INJECTED_RSA, installed::PARAMETER];
        let of_key = |known: &&String| of_keys.iter().any(|start| known.starts_with(start));
        let kept = self.state.problems.iter().filter(of_key).cloned();
        let mut state = state::Sshd { problems: kept.chain(problems).collect(), ..self.state.clone() };
        state.keys = access.keys.iter().map(ToString::to_string).collect();
        if let Password::Hash(_, source) = &access.password {
            state.keys.push(format!("password from {source}"));
        }
        state.more_host_keys = identity::rsa_line(self.root).into_iter().collect();
        let lines = std::iter::once(&state.host_key).chain(&state.more_host_keys);
        state.sshfp = lines.filter_map(|line| identity::sshfp(line)).collect();
        state.password = access.password == Password::OneTime;
        self.has_password = access.password != Password::Off;
        if state != self.state {
            self.state = state;
            self.publish();
        }
    }

    fn publish(&self) {
        publish(self.settings, &self.state);
    }
}

fn publish(settings: &Settings, state: &state::Sshd) {
    let result = serde_json::to_vec_pretty(state)
        .map_err(io::Error::from)
        .and_then(|text| host::statefile::replace(&settings.state_file(), &text, 0o600));
    if let Err(error) = result {
        host::log!("write {}: {error}", settings.state_file().display());
    }
}

/// The host keys of the system on the disks, or why not, where they are asked for and there is no host key yet.
fn installed_keys(settings: &Settings, root: &Root) -> Option<Result<installed::Keys, String>> {
    if !identity::is_open(root) {
        return None;
    }
    let patience = match installed::wish(&host::params::read(root))? {
        Ok(patience) => patience,
        Err(problem) => return Some(Err(problem)),
    };
    let waits = format!("for the host key of the system on the disks, {} s at most", patience.as_secs());
    let state = state::Sshd { waits, ..state::Sshd::default() };
    publish(settings, &state);
    Some(installed::find(settings, patience))
}

/// Tries for ever: without this there is no service at all. Says so once per kind of failure.
fn until_done<T>(what: &str, mut step: impl FnMut() -> Result<T>) -> T {
    let mut said = String::new();
    loop {
        match step() {
            Ok(value) => return value,
            Err(error) => {
                let text = format!("sshd: {what}: {error:#}: trying again");
                if text != said {
                    host::events::tell(&Event::warning(text.clone()));
                    said = text;
                }
            }
        }
        sleep(RETRY);
    }
}

/// No such family, or no such address in it.
const NO_IPV6: [rustix::io::Errno; 2] = [rustix::io::Errno::AFNOSUPPORT, rustix::io::Errno::ADDRNOTAVAIL];

/// IPv4 and IPv6 on one socket, or IPv4 alone with `ipv6.disable=1`.
fn bind(port: u16) -> Result<TcpListener> {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)) {
        Err(error) if NO_IPV6.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error())) => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).with_context(|| format!("bind port {port}"))
        }
        result => result.with_context(|| format!("bind port {port}")),
    }
}

fn previous_state(settings: &Settings) -> state::Sshd {
    fs::read(settings.state_file())
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default()
}

/// A state with only what the identity says: the rest is found anew.
fn describe(state: &mut state::Sshd, identity: &Identity, problem: Option<String>) {
    *state = state::Sshd {
        host_key: identity.line.clone(),
        fingerprint: identity.fingerprint.clone(),
        alias: identity.alias.clone(),
        origin: identity.origin.clone(),
        system: identity.system.clone(),
        certificate: identity.certificate.clone(),
        problems: identity.problems.iter().cloned().chain(problem).collect(),
        ..state::Sshd::default()
    };
    for problem in &state.problems {
        host::events::tell(&Event::warning(problem.clone()));
    }
}

fn make_directories(settings: &Settings) -> Result<()> {
    let (host_key, state) = (settings.path(paths::HOST_KEY), settings.state_file());
    let parents = [host_key.parent(), state.parent()].into_iter().flatten().map(PathBuf::from);
    for directory in parents.chain([settings.path(crate::monitor::AGENTS)]) {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .with_context(|| format!("create {}", directory.display()))?;
    }
    Ok(())
}

/// Old iPXE injects every file with mode 0644.
fn tighten(settings: &Settings) {
    let files = [
        (identity::INJECTED, 0o600),
        (identity::INJECTED_RSA, 0o600),
        (access::AUTHORIZED_KEYS, 0o600),
        ("/root/.ssh", 0o700),
    ];
    for (path, mode) in files {
        let path = settings.path(path);
        match fs::set_permissions(&path, Permissions::from_mode(mode)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                host::log!("tighten {}: {error}", path.display());
            }
            _ => {}
        }
    }
}

fn make_password(path: &std::path::Path) -> Result<()> {
    let mut random = [0; password::ENTROPY];
    let length = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
    // getrandom(2): up to 256 bytes are never cut.
    anyhow::ensure!(length == random.len(), "getrandom gave {length} bytes");
    let text = format!("{}\n", password::one_time(random));
    host::statefile::replace(path, text.as_bytes(), 0o600)
        .with_context(|| format!("write {}", path.display()))
}

fn remove(path: &std::path::Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    #[test]
    fn whoever_logs_in_as_another_comes_makes_no_room() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings { prefix: dir.path().to_path_buf(), waiting: 2, ..Settings::default() };
        let root = settings.root().unwrap();
        let mut service = Service::new(&settings, &root).unwrap();
        let network = |number| Network::from(IpAddr::from([192, 0, 2, number]));
        let start = Instant::now();
        let now = start + Duration::from_secs(10);
        let monitors: Vec<OwnedFd> = (0..2)
            .map(|id| {
                let (ours, theirs) = pass::pair().unwrap();
                service.waiting.enter(id, network(id as u8), start);
                service.monitors.insert(id, Monitor { report: ours, network: network(id as u8), pid: None });
                theirs
            })
            .collect();
        assert_eq!(service.place(network(9), now), Place::InsteadOf(0));
        // Not heard yet, by the loop.
        wire::send(&monitors[0], &Report::Entered, &[]).unwrap();
        assert_eq!(service.place(network(9), now), Place::Free);
        service.waiting.enter(2, network(9), start);
        drop(monitors);
        assert_eq!(service.place(network(10), now), Place::Free, "the other one has ended meanwhile");
    }
}
