//! The monitor of one connection: root, single-threaded, blocking. It starts the transport, decides
//! who may enter, starts, signals and reaps the programs of the session, and opens every socket that
//! is forwarded, since the transport has no authority to open any.

use crate::access::{Access, Password, Visit};
use crate::identity::{self, HostKeys};
use crate::layers;
use crate::listen::STRANGER;
use crate::options::Grant;
use crate::password;
use crate::places::{self, SocketFile};
use crate::program::{self, Facts};
use crate::proof::{self, Offer};
use crate::settings::Settings;
use crate::signals;
use crate::wire::{
    self, Ask, Blob, Dial, Ended, Listened, Place, Program, Refusal, Report, Sha, Tell, Terminal, Wait, Want,
};
use anyhow::{Context, Result, bail};
use contract::event::Event;
use host::Root;
use host::shell::{self, Shell};
use host::sys::process::{self, Instead, Spawn};
use host::sys::{inherited, pass, tty};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::sockopt;
use rustix::process::{Resource, Rlimit, Signal};
use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::mem::ManuallyDrop;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A directory of sockets, each named by the monitor that made it, for programs that use the agent of
/// the client.
pub const AGENTS: &str = "/run/lifeboat/sshd/agent";
/// Passwords that one connection may try; OpenSSH's MaxAuthTries.
const MAX_PASSWORDS: u32 = 6;
/// Programs at once in one connection. OpenSSH's MaxSessions is 10; people with ControlMaster ask for more.
const MAX_PROGRAMS: usize = 64;
/// Forwarded connections that are being made at once, and places listened on.
const MAX_DIALS: usize = 128;
const MAX_LISTENERS: usize = 64;
/// How long a place to listen at, which may be on a file system that does not answer, may take to be made. The transport
/// does nothing else meanwhile.
const BIND_PATIENCE: Duration = Duration::from_secs(5);
/// Address space before login: [`contract::password::MOST_MEMORY`] and this program.
const MEMORY: u64 = contract::password::MOST_MEMORY + (96 << 20);
/// How long a program waits for layers that get on.
const LONGEST_PATIENCE: Duration = Duration::from_secs(600);
/// How long a password waits when the listener, which knows of failures elsewhere, is away.
const WAIT_ALONE: Duration = Duration::from_secs(1);

pub fn run(settings: &Settings) -> Result<()> {
    let deadline = Instant::now() + settings.grace;
    let memory = limit_memory().context("limit memory")?;
    // What a hash took goes back to the kernel with it: by its defaults the allocator keeps what was freed once.
    host::sys::memory::keep_buffers(128 << 10);
    let root = settings.root()?;
    let children = process::signal_fd(&[Signal::CHILD]).context("signalfd")?;
    let connection = TcpStream::from(inherited(0).try_clone_to_owned().context("connection")?);
    let (peer, local) = match (connection.peer_addr(), connection.local_addr()) {
        (Ok(peer), Ok(local)) => (canonical(peer), canonical(local)),
        // It went away before we looked.
        _ => return Ok(()),
    };
    // Latency of every key that is typed; and an end, in two hours, for a peer that lost its power.
    connection.set_nodelay(true).context("TCP_NODELAY")?;
    sockopt::set_socket_keepalive(&connection, true).context("SO_KEEPALIVE")?;
    let (control, theirs) = control_sockets(settings)?;
    let transport = start_transport(connection, theirs)?;
    // The transport alone holds the connection, so that it ends with it.
    let null = process::null().context("null device")?;
    rustix::stdio::dup2_stdin(&null)?;
    let access = Access::read(&root);
    let keys = identity::load(&root)?;
    let welcome = Tell::Welcome {
        host_keys: keys.lines()?,
        certificate: keys.certificate.clone(),
        passwords: access.password != Password::Off,
        rekey: settings.rekey,
    };
    wire::send(&control, &welcome, &[]).context("welcome")?;
    let mut monitor = Monitor::new(settings, &root, control, null, [peer, local], keys, access);
    monitor.bounds = Some(Bounds { memory, transport });
    let result = monitor.serve(&children, transport, deadline);
    monitor.hang_up();
    result
}

struct Monitor<'a> {
    settings: &'a Settings,
    root: &'a Root,
    control: OwnedFd,
    null: File,
    peer: SocketAddr,
    local: SocketAddr,
    keys: HostKeys,
    /// As it was read last for an offer.
    access: Access,
    /// The session identifier: the first exchange hash (RFC 4253, section 7.2).
    session: Option<Vec<u8>>,
    /// Until somebody logged in.
    bounds: Option<Bounds>,
    /// What may be done by whoever logged in.
    grant: Option<Grant>,
    /// Passwords tried.
    attempts: u32,
    /// Request to process, of those that run.
    programs: HashMap<u32, i32>,
    /// Those that begin when the layers are there.
    waiting: Vec<Waiting>,
    /// While there are such.
    watch: Option<OwnedFd>,
    /// Of the layers, when last looked at.
    progress: Option<(u64, usize)>,
    /// Processes that connect somewhere or make a place to listen at.
    dials: HashSet<i32>,
    /// Places that are being made, by request.
    binds: HashMap<u32, Bind>,
    /// Request to the file of a Unix socket, if it is one.
    listeners: HashMap<u32, Option<SocketFile>>,
    agent: Option<SocketFile>,
}

/// What a connection has less of than others.
struct Bounds {
    /// What was before [`limit_memory`].
    memory: Rlimit,
    transport: i32,
}

impl Bounds {
    fn lift(&self) {
        if let Err(error) = rustix::process::setrlimit(Resource::As, self.memory) {
            host::log!("limit of memory: {error}");
        }
        for process in ["self".to_string(), self.transport.to_string()] {
            if let Err(error) = fs::write(format!("/proc/{process}/oom_score_adj"), "0") {
                host::log!("oom_score_adj: {error}");
            }
        }
    }
}

/// A Unix socket that a process makes to listen at.
struct Bind {
    answer: OwnedFd,
    path: PathBuf,
    until: Instant,
}

/// A program that was asked for, and until when it waits.
struct Waiting {
    number: u32,
    want: Want,
    until: Instant,
    /// However well the layers get on.
    at_most: Instant,
    /// It could only fail, where a shell has another one that takes its place.
    only_fails: bool,
}

impl<'a> Monitor<'a> {
    /// Of a connection on which nothing was asked yet, between the peer and us.
    fn new(
        settings: &'a Settings,
        root: &'a Root,
        control: OwnedFd,
        null: File,
        [peer, local]: [SocketAddr; 2],
        keys: HostKeys,
        access: Access,
    ) -> Monitor<'a> {
        Monitor {
            settings,
            root,
            control,
            null,
            peer,
            local,
            keys,
            access,
            session: None,
            bounds: None,
            grant: None,
            attempts: 0,
            programs: HashMap::new(),
            waiting: Vec::new(),
            watch: None,
            progress: None,
            dials: HashSet::new(),
            binds: HashMap::new(),
            listeners: HashMap::new(),
            agent: None,
        }
    }
}

impl Monitor<'_> {
    /// Until the transport ends.
    fn serve(&mut self, children: &OwnedFd, transport: i32, deadline: Instant) -> Result<()> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if !self.entered() && left.is_zero() {
                bail!("{}: nobody logged in within {:?}", self.peer, self.settings.grace);
            }
            let left = if self.entered() { self.patience() } else { Some(left) };
            let timeout = left.and_then(|left| Timespec::try_from(left).ok());
            let mut fds =
                vec![PollFd::new(&self.control, PollFlags::IN), PollFd::new(children, PollFlags::IN)];
            let binds: Vec<u32> = self.binds.keys().copied().collect();
            fds.extend(binds.iter().map(|number| PollFd::new(&self.binds[number].answer, PollFlags::IN)));
            fds.extend(self.watch.iter().map(|watch| PollFd::new(watch, PollFlags::IN)));
            match rustix::event::poll(&mut fds, timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("poll"),
            }
            let (asked, ended) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
            let ready = binds.into_iter().zip(&fds[2..]).filter(|(_, fd)| !fd.revents().is_empty());
            let bound: Vec<u32> = ready.map(|(number, _)| number).collect();
            if ended && self.reap(children, transport)? {
                return Ok(());
            }
            if asked {
                match wire::receive::<Ask>(&self.control).context("transport")? {
                    Some((ask, _)) => self.handle(ask)?,
                    None => return Ok(()),
                }
            }
            for number in bound {
                self.is_bound(number)?;
            }
            self.give_up_binds()?;
            self.start_waiting()?;
        }
    }

    fn handle(&mut self, ask: Ask) -> Result<()> {
        match ask {
            Ask::Sign { key, sha, hash } => self.sign(&key.0, sha, hash.0),
            Ask::Offer { user, algorithm, key } if !self.entered() => self.offer(&user, &algorithm, &key.0),
            Ask::Proof { signed, signature } if !self.entered() => self.proof(&signed.0, &signature.0),
            Ask::Password { user, password } if !self.entered() => self.password(&user, &password),
            // It would take the place of the first, which then nobody counts and nobody ends.
            Ask::Request { number, .. } if self.entered() && self.is_taken(number) => {
                bail!("{}: transport asks for two things by one number", self.peer)
            }
            Ask::Request { number, want } if self.entered() => self.request(number, want),
            // As in OpenSSH, a command that was forced upon somebody is not his to stop or kill.
            Ask::Signal { .. } if self.grant.as_ref().is_some_and(|grant| grant.command.is_some()) => Ok(()),
            Ask::Signal { number, signal } if self.entered() => {
                if let (Some(pid), Some(signal)) = (self.programs.get(&number), signals::by_name(&signal)) {
                    // It may have ended a moment ago.
                    let _ = process::signal_group(*pid, signal);
                }
                Ok(())
            }
            Ask::Withdraw { number } if self.entered() => match self.take_waiting(number) {
                Some(_) => {
                    host::log!("{}: its client waits no longer", self.peer);
                    self.refuse(number, Refusal::Failed)
                }
                None => Ok(()),
            },
            Ask::Close { number } if self.entered() => {
                if let Some(Some(file)) = self.listeners.remove(&number) {
                    remove(file);
                }
                if let Some(pid) = self.programs.get(&number) {
                    hang_up(*pid);
                }
                Ok(())
            }
            Ask::Offer { .. } | Ask::Proof { .. } | Ask::Password { .. } => {
                bail!("{}: transport asks to log in twice", self.peer)
            }
            Ask::Request { .. } | Ask::Signal { .. } | Ask::Withdraw { .. } | Ask::Close { .. } => {
                bail!("{}: transport acts before anybody logged in", self.peer)
            }
        }
    }

    fn entered(&self) -> bool {
        self.grant.is_some()
    }

    /// Nothing but an exchange hash has its length among what a host key might be asked to sign.
    fn sign(&mut self, key: &[u8], sha: Sha, hash: Vec<u8>) -> Result<()> {
        if !matches!(hash.len(), 32 | 48 | 64) {
            bail!("{}: transport asks to sign what is no hash", self.peer);
        }
        let signature = self.keys.sign(self.root, key, sha, &hash)?;
        wire::send(&self.control, &Tell::Signature(Blob(signature)), &[]).context("signature")?;
        if self.session.is_none() {
            self.report(&Report::Talks);
            self.session = Some(hash);
        }
        Ok(())
    }

    fn offer(&mut self, user: &str, algorithm: &str, key: &[u8]) -> Result<()> {
        // What cannot be read, cannot be known.
        let Ok(offer) = Offer::parse(algorithm, key) else { return self.verdict(false, &self.access) };
        // A yes of a moment ago will do, as whoever proves a key is judged by what is there then.
        if self.access.admit(&self.visit(user, None), &offer).is_err() {
            self.access = Access::read(self.root);
        }
        let admission = self.access.admit(&self.visit(user, None), &offer);
        if let Err(reasons) = &admission {
            // None for a key that is not known: an agent offers all it has.
            reasons.iter().for_each(|reason| host::log!("{}: refused: {reason}", self.peer));
        }
        self.verdict(admission.is_ok(), &self.access)
    }

    fn proof(&mut self, signed: &[u8], signature: &[u8]) -> Result<()> {
        let access = Access::read(self.root);
        let proof = match proof::check(self.session.as_deref().unwrap_or_default(), signed, signature) {
            Ok(proof) => proof,
            Err(reason) => {
                host::log!("{}: {reason}", self.peer);
                return self.verdict(false, &access);
            }
        };
        let reasons = match access.admit(&self.visit(&proof.user, proof.flags), &proof.offer) {
            Ok(admission) => return self.enter(&admission.with, admission.grant, &access),
            Err(reasons) => reasons,
        };
        if reasons.is_empty() {
            host::log!("{}: key of user {:?} refused", self.peer, short(&proof.user));
        } else {
            host::log!("{}: refused: {}", self.peer, reasons.join("; "));
        }
        self.verdict(false, &access)
    }

    fn visit<'a>(&self, user: &'a str, flags: Option<u8>) -> Visit<'a> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Visit { user, peer: self.peer.ip(), now, flags }
    }

    fn password(&mut self, user: &str, password: &str) -> Result<()> {
        let access = Access::read(self.root);
        if !self.may_try(&access) {
            return self.verdict(false, &access);
        }
        self.attempts += 1;
        // Before it is looked at, so that right and wrong take the same time.
        std::thread::sleep(self.wait());
        // Until it is compared.
        let turn = matches!(access.password, Password::Hash(..)).then(|| self.turn());
        let right = access.password(self.settings, user, password);
        drop(turn);
        if right {
            return self.enter("password", Grant::default(), &access);
        }
        host::log!("{}: password of user {:?} refused", self.peer, short(user));
        self.report(&Report::Failed);
        self.verdict(false, &access)
    }

    /// When no other password is compared with a hash, since each takes its memory and a processor. The order is the
    /// listener's, and where that is away, the lock alone keeps them apart.
    fn turn(&self) -> Option<File> {
        self.report(&Report::Hash);
        // It may have ended.
        let _ = wire::receive::<Wait>(inherited(1));
        password::alone(self.settings)
            .map_err(|error| host::log!("{}: lock of hashes: {error}", self.peer))
            .ok()
    }

    fn may_try(&self, access: &Access) -> bool {
        access.password != Password::Off && self.attempts < MAX_PASSWORDS
    }

    fn verdict(&self, accepted: bool, access: &Access) -> Result<()> {
        let terminals = self.grant.as_ref().is_some_and(|grant| grant.pty);
        let verdict = Tell::Verdict { accepted, passwords: self.may_try(access), terminals };
        wire::send(&self.control, &verdict, &[]).context("verdict")
    }

    /// Lets somebody in. The listener hears of it first, so that nobody has to make room who was told that he is in; all
    /// others afterwards: the client waits for its answer alone.
    fn enter(&mut self, with: &str, grant: Grant, access: &Access) -> Result<()> {
        self.grant = Some(grant);
        self.report(&Report::Entered);
        let told = self.verdict(true, access);
        if let Some(bounds) = self.bounds.take() {
            bounds.lift();
        }
        // The listener has nothing more to hear.
        let _ = rustix::stdio::dup2_stdout(&self.null);
        host::log!("{}: logged in with {with}", self.peer);
        host::events::tell(&Event::Login { from: self.peer.ip().to_string(), with: with.to_string() });
        told
    }

    /// To the listener, which may have ended.
    fn report(&self, report: &Report) {
        let _ = wire::send(inherited(1), report, &[]);
    }

    fn wait(&self) -> Duration {
        self.report(&Report::Attempt);
        match wire::receive::<Wait>(inherited(1)) {
            Ok(Some((wait, _))) => Duration::from_millis(wait.milliseconds).min(crate::limits::LONGEST_WAIT),
            Ok(None) | Err(_) => WAIT_ALONE,
        }
    }

    fn request(&mut self, number: u32, want: Want) -> Result<()> {
        // Checked by the caller.
        let Some(grant) = &self.grant else { bail!("nobody logged in") };
        if let Some(what) = forbidden(grant, &want) {
            host::log!("{}: {what} is not allowed to this key", self.peer);
            return self.refuse(number, Refusal::Forbidden);
        }
        // A shell in a kept session waits as any other.
        let (want, asked) = match want {
            Want::Program { program, terminal, environment, agent } => {
                let words = host::params::read(self.root);
                let asked = program.clone();
                let program = program::kept(program, terminal.is_some(), grant, &words);
                (Want::Program { program, terminal, environment, agent }, Some(asked))
            }
            other => (other, None),
        };
        let is_shell = |program| matches!(*program::granted(program, grant), Program::Shell);
        let only_fails = asked.as_ref().is_some_and(|program| !is_shell(program));
        if asked.is_some_and(|program| self.waits(&program)) {
            host::log!("{}: its program waits for the layers", self.peer);
            let now = Instant::now();
            let (until, at_most) = (now + self.settings.patience, now + LONGEST_PATIENCE);
            self.waiting.push(Waiting { number, want, until, at_most, only_fails });
            return Ok(());
        }
        self.give(number, &want, false)
    }

    /// Whether a layer that is coming may have what it needs. The watch is there before the layers are looked for, so
    /// that nothing falls between.
    fn waits(&mut self, program: &Program) -> bool {
        let Some(grant) = &self.grant else { return false };
        if !layers::are_coming(self.settings) || self.are_many() {
            return false;
        }
        if !layers::lacks(&program::granted(program, grant), self.settings, &self.facts(false)) {
            return false;
        }
        if self.watch.is_none() {
            match layers::watch(self.settings) {
                Ok(watch) => self.watch = Some(watch),
                Err(error) => {
                    host::log!("{}: wait for the layers: {error:#}", self.peer);
                    return false;
                }
            }
        }
        layers::are_coming(self.settings)
    }

    /// Starts those that have waited long enough.
    fn start_waiting(&mut self) -> Result<()> {
        if self.waiting.is_empty() {
            // Nobody would take what it tells, and it would be ready for ever.
            self.watch = None;
            return Ok(());
        }
        if let Some(watch) = &self.watch {
            layers::drain(watch);
        }
        let (now, coming) = (Instant::now(), layers::are_coming(self.settings));
        // What could only fail waits as long as a layer gets on; a person at a shell has the other one after a while.
        let progress = coming.then(|| layers::progress(self.settings));
        if progress.is_some() && progress != self.progress {
            self.progress = progress;
            for waiting in self.waiting.iter_mut().filter(|waiting| waiting.only_fails) {
                waiting.until = (now + self.settings.patience).min(waiting.at_most);
            }
        }
        while let Some(place) = self.waiting.iter().position(|waiting| !coming || waiting.until <= now) {
            let Waiting { number, want, .. } = self.waiting.remove(place);
            self.give(number, &want, true)?;
        }
        Ok(())
    }

    fn take_waiting(&mut self, number: u32) -> Option<Waiting> {
        let place = self.waiting.iter().position(|waiting| waiting.number == number)?;
        Some(self.waiting.remove(place))
    }

    /// Until the first of those that wait waits no longer.
    fn patience(&self) -> Option<Duration> {
        let programs = self.waiting.iter().map(|waiting| waiting.until);
        let first = programs.chain(self.binds.values().map(|bind| bind.until)).min()?;
        Some(first.saturating_duration_since(Instant::now()))
    }

    fn refuse(&self, number: u32, why: Refusal) -> Result<()> {
        wire::send(&self.control, &Tell::Refused { number, why }, &[]).context("refuse")
    }

    /// What may be had, and for a program has `waited`.
    fn give(&mut self, number: u32, want: &Want, waited: bool) -> Result<()> {
        let granted = match want {
            Want::Program { program, terminal, environment, agent } => self
                .start(program, terminal.as_ref(), environment, *agent, waited)
                .map(|(pid, descriptors)| {
                    self.programs.insert(number, pid);
                    (0, descriptors)
                }),
            Want::Connect(place) => self.connect(place).map(|socket| (0, vec![socket])),
            Want::Listen(Place::Unix(path)) => match self.bind(number, path) {
                // It is granted when it is there.
                Ok(()) => return Ok(()),
                Err(error) => Err(error),
            },
            Want::Listen(place) => self.listen(number, place),
            Want::Agent => self.lend_agent().map(|socket| (0, vec![socket])),
        };
        let (tell, descriptors) = match granted {
            Ok((port, descriptors)) => (Tell::Granted { number, port }, descriptors),
            Err(error) => {
                host::log!("{}: {error:#}", self.peer);
                (Tell::Refused { number, why: Refusal::Failed }, Vec::new())
            }
        };
        let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        wire::send(&self.control, &tell, &borrowed).context("pass descriptors")
    }

    /// What the socket comes through: from a dialler, or of a Unix socket from a copy of this process, since one on a file
    /// system that does not answer would hold it for ever.
    fn connect(&mut self, place: &Place) -> Result<OwnedFd> {
        self.may_dial()?;
        let (near, far) = pass::pair().context("socketpair")?;
        rustix::io::ioctl_fionbio(&near, true)?;
        let (host, port) = match place {
            Place::Unix(path) => {
                self.dials.insert(copy(&far, || places::send_connection(path, inherited(0)))?);
                return Ok(near);
            }
            Place::Tcp { host, port } => (host, *port),
        };
        wire::send(&near, &Dial { host: host.clone(), port }, &[]).context("dialler")?;
        let program = crate::program()?;
        let argv = [program.as_os_str(), OsStr::new("dial")];
        let mut child = Spawn::new(&argv, &[]);
        child.stdin = Some(File::from(far));
        child.stderr = Some(File::from(inherited(2).try_clone_to_owned().context("stderr")?));
        self.dials.insert(process::spawn(child).context("start a dialler")?);
        Ok(near)
    }

    fn may_dial(&self) -> Result<()> {
        if self.dials.len() >= MAX_DIALS {
            bail!("{MAX_DIALS} connections are being made already");
        }
        Ok(())
    }

    fn may_listen(&self) -> Result<()> {
        if self.listeners.len() + self.binds.len() >= MAX_LISTENERS {
            bail!("{MAX_LISTENERS} places are listened on in this connection already");
        }
        Ok(())
    }

    fn listen(&mut self, number: u32, place: &Place) -> Result<(u16, Vec<OwnedFd>)> {
        self.may_listen()?;
        let listening = places::listen(place).with_context(|| format!("listen on {}", short_place(place)))?;
        self.listeners.insert(number, listening.file);
        Ok((listening.port, listening.sockets))
    }

    /// Has a copy make a Unix socket to listen at, as in [`Monitor::connect`].
    fn bind(&mut self, number: u32, path: &str) -> Result<()> {
        self.may_listen()?;
        self.may_dial()?;
        let (answer, far) = pass::pair().context("socketpair")?;
        self.dials.insert(copy(&far, || places::send_listener(path, inherited(0)))?);
        let until = Instant::now() + BIND_PATIENCE;
        self.binds.insert(number, Bind { answer, path: path.into(), until });
        Ok(())
    }

    /// The copy that makes it has answered, or ended.
    fn is_bound(&mut self, number: u32) -> Result<()> {
        let Some(bind) = self.binds.remove(&number) else { return Ok(()) };
        let why = match wire::receive::<Listened>(&bind.answer) {
            Ok(Some((Listened::At { device, inode }, sockets))) if sockets.len() == 1 => {
                self.listeners.insert(number, Some(SocketFile { path: bind.path, id: (device, inode) }));
                let sockets: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
                return wire::send(&self.control, &Tell::Granted { number, port: 0 }, &sockets)
                    .context("pass descriptors");
            }
            Ok(Some((Listened::Refused(why), _))) => why,
            Ok(_) | Err(_) => "whoever makes it ended".to_string(),
        };
        host::log!("{}: listen on {}: {why}", self.peer, short(&bind.path.to_string_lossy()));
        self.refuse(number, Refusal::Failed)
    }

    /// Of those that take too long. What is made all the same is removed by whoever makes it, whom nobody hears.
    fn give_up_binds(&mut self) -> Result<()> {
        let now = Instant::now();
        let late = |(number, bind): (&u32, &Bind)| (bind.until <= now).then_some(*number);
        while let Some(number) = self.binds.iter().find_map(late) {
            if let Some(bind) = self.binds.remove(&number) {
                let path = bind.path.to_string_lossy();
                host::log!("{}: listen on {}: its file system does not answer", self.peer, short(&path));
            }
            self.refuse(number, Refusal::Failed)?;
        }
        Ok(())
    }

    fn lend_agent(&mut self) -> Result<OwnedFd> {
        let path = self.settings.path(AGENTS).join(std::process::id().to_string());
        let (socket, file) =
            places::listen_agent(&path).with_context(|| format!("listen on {}", path.display()))?;
        self.agent = Some(file);
        Ok(socket)
    }

    fn is_taken(&self, number: u32) -> bool {
        self.programs.contains_key(&number)
            || self.listeners.contains_key(&number)
            || self.binds.contains_key(&number)
            || self.waiting.iter().any(|waiting| waiting.number == number)
    }

    fn are_many(&self) -> bool {
        self.programs.len() + self.waiting.len() >= MAX_PROGRAMS
    }

    fn facts(&self, agent: bool) -> Facts<'_> {
        Facts {
            exists: &|path| path.exists(),
            sftp_server: &self.settings.sftp_server,
            peer: self.peer,
            local: self.local,
            agent: self.agent.as_ref().filter(|_| agent).map(|file| file.path.as_path()),
        }
    }

    /// Starts a program; gives the descriptors of our side.
    fn start(
        &self,
        program: &Program,
        terminal: Option<&Terminal>,
        environment: &[(String, String)],
        agent: bool,
        waited: bool,
    ) -> Result<(i32, Vec<OwnedFd>)> {
        if self.are_many() {
            bail!("{MAX_PROGRAMS} programs run in this connection already");
        }
        let pty = terminal.map(open_terminal).transpose()?;
        let facts = self.facts(agent);
        let names = pty.as_ref().zip(terminal).map(|(pty, asked)| (pty.name.as_str(), asked.name.as_str()));
        let grant = self.grant.as_ref().context("nobody logged in")?;
        let by = |shell: &Shell| {
            program::command(program, shell, names, environment, grant, &facts).map_err(anyhow::Error::msg)
        };
        let command = by(&Shell::bash(&self.settings.bash))?;
        let second = by(&Shell::busybox(&self.settings.busybox))?;
        let argv: Vec<&OsStr> = command.argv.iter().map(OsString::as_os_str).collect();
        let second_argv: Vec<&OsStr> = second.argv.iter().map(OsString::as_os_str).collect();
        let mut child = Spawn::new(&argv, &command.environment);
        // A command that did not wait for the layers asks for nothing that only bash has.
        let quiet = || {
            let asks = matches!(*program::granted(program, grant), Program::Exec(_));
            asks && !waited && !self.settings.bash.exists() && layers::are_coming(self.settings)
        };
        child.instead = command.by_shell.then(|| Instead {
            argv: &second_argv,
            arg0: Some(&second.arg0),
            environment: &second.environment,
            notice: (!quiet()).then_some(shell::notice),
        });
        child.arg0 = Some(&command.arg0);
        child.directory = &command.directory;
        let ours = match pty {
            Some(pty) => {
                let terminal = File::from(pty.terminal);
                child.stdin = Some(terminal.try_clone()?);
                child.stdout = Some(terminal.try_clone()?);
                child.stderr = Some(terminal);
                child.terminal = true;
                vec![pty.master]
            }
            None => {
                let (stdin, input) = std::io::pipe()?;
                let (output, stdout) = std::io::pipe()?;
                let (errors, stderr) = std::io::pipe()?;
                // Fewer turns between a program and the transport. A host that does not allow it has the default.
                for pipe in [input.as_fd(), output.as_fd()] {
                    rustix::pipe::fcntl_setpipe_size(pipe, crate::PIPE).ok();
                }
                child.stdin = Some(File::from(OwnedFd::from(stdin)));
                child.stdout = Some(File::from(OwnedFd::from(stdout)));
                child.stderr = Some(File::from(OwnedFd::from(stderr)));
                vec![input.into(), output.into(), errors.into()]
            }
        };
        for descriptor in &ours {
            rustix::io::ioctl_fionbio(descriptor, true)?;
        }
        let pid = process::spawn(child).with_context(|| format!("start {}", argv[0].display()))?;
        Ok((pid, ours))
    }

    /// True when the transport ended.
    fn reap(&mut self, children: &OwnedFd, transport: i32) -> Result<bool> {
        while process::next_signal(children).is_some() {}
        while let Some((pid, ended)) = process::reap() {
            if pid == transport {
                return Ok(true);
            }
            self.dials.remove(&pid);
            let Some(number) = self.programs.iter().find(|(_, p)| **p == pid).map(|(number, _)| *number)
            else {
                continue;
            };
            self.programs.remove(&number);
            let how = match ended {
                process::Ended::Status(status) => Ended::Status(status),
                process::Ended::Signal(signal) => Ended::Signal(signal),
            };
            wire::send(&self.control, &Tell::Ended { number, how }, &[]).context("tell the end")?;
        }
        Ok(false)
    }

    fn hang_up(&mut self) {
        self.programs.values().for_each(|pid| hang_up(*pid));
        // Nobody waits for them any more, and they hold nothing.
        self.dials.iter().for_each(|pid| drop(process::signal(*pid, Signal::KILL)));
        self.listeners.drain().filter_map(|(_, file)| file).for_each(remove);
    }
}

/// What somebody wants and may not have.
fn forbidden(grant: &Grant, want: &Want) -> Option<&'static str> {
    let allowed = match want {
        Want::Program { terminal, .. } => return (terminal.is_some() && !grant.pty).then_some("a terminal"),
        Want::Agent => return (!grant.agent).then_some("agent forwarding"),
        Want::Connect(Place::Tcp { host, port }) => grant.may_open(host, *port),
        Want::Connect(Place::Unix(_)) => grant.may_open_unix(),
        Want::Listen(Place::Tcp { host, port }) => grant.may_listen(host, *port),
        Want::Listen(Place::Unix(_)) => grant.may_listen_unix(),
    };
    (!allowed).then_some("this forwarding")
}

/// As when a line drops: programs that want to outlive it ignore the signal (nohup, tmux). CONT, for
/// a stopped one sees no other signal.
fn hang_up(pid: i32) {
    for signal in [Signal::HUP, Signal::CONT] {
        // It may have ended a moment ago.
        let _ = process::signal_group(pid, signal);
    }
}

/// A copy of this process that does `work`, with `socket` as descriptor 0.
fn copy(socket: &OwnedFd, work: impl FnOnce()) -> Result<i32> {
    let copy = process::copy_with([Some(socket), None, None], None, work).context("fork")?;
    copy.context("fork: there is a second thread")
}

/// By a copy, for a file system may not answer any more.
fn remove(file: SocketFile) {
    // In the copy alone.
    let file = ManuallyDrop::new(file);
    if let Err(error) = process::copy_with([None, None, None], None, || drop(ManuallyDrop::into_inner(file)))
    {
        host::log!("remove a socket: {error}");
    }
}

/// Of this process and the transport that it starts. Gives the limit that was.
fn limit_memory() -> std::io::Result<Rlimit> {
    let before = rustix::process::getrlimit(Resource::As);
    let most = before.current.map_or(MEMORY, |current| current.min(MEMORY));
    let limit = Rlimit { current: Some(most), maximum: before.maximum };
    rustix::process::setrlimit(Resource::As, limit)?;
    Ok(before)
}

/// Ours and the transport's. One that takes no answer for as long as a login may take is stuck, or lets us wait so that
/// it keeps its place.
fn control_sockets(settings: &Settings) -> Result<(OwnedFd, OwnedFd)> {
    let (control, theirs) = pass::pair().context("socketpair")?;
    sockopt::set_socket_timeout(&control, sockopt::Timeout::Send, Some(settings.grace))
        .context("SO_SNDTIMEO")?;
    Ok((control, theirs))
}

fn start_transport(connection: TcpStream, control: OwnedFd) -> Result<i32> {
    let program = crate::program()?;
    let argv = [program.as_os_str(), OsStr::new("transport")];
    let mut child = Spawn::new(&argv, &[]);
    child.stdin = Some(File::from(OwnedFd::from(connection)));
    child.stdout = Some(File::from(control));
    child.stderr = Some(File::from(inherited(2).try_clone_to_owned().context("stderr")?));
    child.oom_score = STRANGER;
    process::spawn(child).context("start the transport")
}

fn open_terminal(asked: &Terminal) -> Result<tty::Pty> {
    let pty = tty::open().context("open a terminal")?;
    let size = asked.size;
    tty::resize(&pty.master, size.columns, size.rows, size.width, size.height).context("set its size")?;
    tty::set_modes(&pty.terminal, &asked.modes).context("set its modes")?;
    Ok(pty)
}

/// A stranger's word, for the log.
fn short(text: &str) -> String {
    text.chars().take(32).collect()
}

fn short_place(place: &Place) -> String {
    match place {
        Place::Tcp { host, port } => format!("{}:{port}", short(host)),
        Place::Unix(path) => short(path),
    }
}

/// IPv4 as IPv4, though the socket is an IPv6 one.
fn canonical(address: SocketAddr) -> SocketAddr {
    let ip: IpAddr = address.ip().to_canonical();
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A monitor of nobody's connection, for `run`, which is the transport; `grant` is what it has logged in for.
    fn with_monitor(grant: Option<Grant>, run: impl FnOnce(&mut Monitor<'_>, &OwnedFd)) {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings {
            prefix: dir.path().to_path_buf(),
            grace: Duration::from_millis(50),
            bash: "/bin/sh".into(),
            ..Settings::default()
        };
        let root = settings.root().unwrap();
        let host_key = settings.path(contract::paths::HOST_KEY);
        std::fs::create_dir_all(host_key.parent().unwrap()).unwrap();
        identity::establish(&settings, &root, &contract::state::Sshd::default(), None).unwrap();
        let (control, transport) = control_sockets(&settings).unwrap();
        let ends = ["192.0.2.1:1234", "192.0.2.2:22"].map(|end| end.parse().unwrap());
        let (null, keys) = (process::null().unwrap(), identity::load(&root).unwrap());
        let mut monitor = Monitor::new(&settings, &root, control, null, ends, keys, Access::read(&root));
        monitor.grant = grant;
        run(&mut monitor, &transport);
    }

    #[test]
    fn a_transport_hides_nothing_behind_a_number_that_is_taken() {
        with_monitor(Some(Grant::default()), |monitor, transport| {
            let place = || Want::Listen(Place::Tcp { host: "localhost".to_string(), port: 0 });
            monitor.handle(Ask::Request { number: 1, want: place() }).unwrap();
            match wire::receive::<Tell>(transport).unwrap() {
                Some((Tell::Granted { number: 1, .. }, sockets)) => assert!(!sockets.is_empty()),
                _ => panic!("another answer"),
            }
            assert!(monitor.handle(Ask::Request { number: 1, want: place() }).is_err());
            monitor.handle(Ask::Close { number: 1 }).unwrap();
            monitor.handle(Ask::Request { number: 1, want: place() }).unwrap();
            monitor.programs.insert(2, i32::MAX);
            assert!(monitor.handle(Ask::Request { number: 2, want: Want::Agent }).is_err());
        });
    }

    #[test]
    fn a_transport_that_takes_no_answer_holds_no_monitor() {
        with_monitor(None, |monitor, _transport| {
            let offer = || Ask::Offer { user: "root".into(), algorithm: "x".into(), key: Blob(Vec::new()) };
            let ended = (0..100_000).find_map(|_| monitor.handle(offer()).err());
            assert!(ended.is_some(), "its answers go on and on into nothing");
        });
    }
}
