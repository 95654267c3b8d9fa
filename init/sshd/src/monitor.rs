//! The monitor of one connection: root, single-threaded, blocking. It starts the transport, decides
//! who may enter, and starts, signals and reaps the programs of the session.

use crate::access::{Access, Password};
use crate::identity;
use crate::program::{self, Facts};
use crate::settings::Settings;
use crate::signals;
use crate::wire::{self, Ask, Ended, Program, Report, Tell, Terminal, Wait};
use anyhow::{Context, Result, bail};
use contract::event::Event;
use host::Root;
use host::sys::process::{self, Spawn};
use host::sys::{inherited, pass, tty};
use russh::keys::ssh_key::{LineEnding, PublicKey};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::Signal;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Passwords that one connection may try; OpenSSH's MaxAuthTries.
const MAX_PASSWORDS: u32 = 6;
/// Programs at once in one connection. OpenSSH's MaxSessions is 10; people with ControlMaster ask for more.
const MAX_PROGRAMS: usize = 64;
/// How long a password waits when the listener, which knows of failures elsewhere, is away.
const WAIT_ALONE: Duration = Duration::from_secs(1);

pub fn run(settings: &Settings) -> Result<()> {
    let deadline = Instant::now() + settings.grace;
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
    rustix::net::sockopt::set_socket_keepalive(&connection, true).context("SO_KEEPALIVE")?;
    let (control, theirs) = pass::pair().context("socketpair")?;
    let transport = start_transport(connection, theirs)?;
    // The transport alone holds the connection, so that it ends with it.
    let null = process::null().context("null device")?;
    rustix::stdio::dup2_stdin(&null)?;
    let access = Access::read(&root);
    let host_key = identity::load(&root)?.to_openssh(LineEnding::LF).context("encode the host key")?;
    let welcome =
        Tell::Welcome { host_key: host_key.to_string(), passwords: access.password != Password::Off };
    wire::send(&control, &welcome, &[]).context("welcome")?;
    let mut monitor = Monitor {
        settings,
        root: &root,
        control,
        null,
        peer,
        local,
        entered: false,
        attempts: 0,
        programs: HashMap::new(),
    };
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
    entered: bool,
    /// Passwords tried.
    attempts: u32,
    /// Channel to process, of those that run.
    programs: HashMap<u32, i32>,
}

impl Monitor<'_> {
    /// Until the transport ends.
    fn serve(&mut self, children: &OwnedFd, transport: i32, deadline: Instant) -> Result<()> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if !self.entered && left.is_zero() {
                bail!("{}: nobody logged in within {:?}", self.peer, self.settings.grace);
            }
            let timeout = Timespec::try_from(left).ok().filter(|_| !self.entered);
            let mut fds = [PollFd::new(&self.control, PollFlags::IN), PollFd::new(children, PollFlags::IN)];
            match rustix::event::poll(&mut fds, timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("poll"),
            }
            let (asked, ended) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
            if ended && self.reap(children, transport)? {
                return Ok(());
            }
            if asked {
                match wire::receive::<Ask>(&self.control).context("transport")? {
                    Some((ask, _)) => self.handle(ask)?,
                    None => return Ok(()),
                }
            }
        }
    }

    fn handle(&mut self, ask: Ask) -> Result<()> {
        match ask {
            Ask::Key { user, key, proved } if !self.entered => self.key(&user, &key, proved),
            Ask::Password { user, password } if !self.entered => self.password(&user, &password),
            Ask::Open { channel, program, terminal, environment } if self.entered => {
                self.open(channel, &program, terminal.as_ref(), &environment)
            }
            Ask::Signal { channel, signal } if self.entered => {
                if let (Some(pid), Some(signal)) = (self.programs.get(&channel), signals::by_name(&signal)) {
                    // It may have ended a moment ago.
                    let _ = process::signal_group(*pid, signal);
                }
                Ok(())
            }
            Ask::Close { channel } if self.entered => {
                if let Some(pid) = self.programs.get(&channel) {
                    hang_up(*pid);
                }
                Ok(())
            }
            Ask::Key { .. } | Ask::Password { .. } => bail!("{}: transport asks to log in twice", self.peer),
            Ask::Open { .. } | Ask::Signal { .. } | Ask::Close { .. } => {
                bail!("{}: transport acts before anybody logged in", self.peer)
            }
        }
    }

    fn key(&mut self, user: &str, key: &str, proved: bool) -> Result<()> {
        let access = Access::read(self.root);
        let known = PublicKey::from_openssh(key).ok().and_then(|key| access.key(user, &key));
        if proved {
            match known {
                Some(known) => self.enter(&known.to_string()),
                None => host::log!("{}: key of user {:?} refused", self.peer, short(user)),
            }
        }
        self.verdict(known.is_some(), &access)
    }

    fn password(&mut self, user: &str, password: &str) -> Result<()> {
        let access = Access::read(self.root);
        if !self.may_try(&access) {
            return self.verdict(false, &access);
        }
        self.attempts += 1;
        // Before it is looked at, so that right and wrong take the same time.
        std::thread::sleep(self.wait());
        let right = access.password(self.settings, user, password);
        if right {
            self.enter("password");
        } else {
            host::log!("{}: password of user {:?} refused", self.peer, short(user));
            self.report(&Report::Failed);
        }
        self.verdict(right, &access)
    }

    fn may_try(&self, access: &Access) -> bool {
        access.password != Password::Off && self.attempts < MAX_PASSWORDS
    }

    fn verdict(&self, accepted: bool, access: &Access) -> Result<()> {
        let verdict = Tell::Verdict { accepted, passwords: self.may_try(access) };
        wire::send(&self.control, &verdict, &[]).context("verdict")
    }

    fn enter(&mut self, with: &str) {
        self.entered = true;
        self.report(&Report::Entered);
        // The listener has nothing more to hear.
        let _ = rustix::stdio::dup2_stdout(&self.null);
        host::log!("{}: logged in with {with}", self.peer);
        host::events::tell(&Event::Login { from: self.peer.ip().to_string(), with: with.to_string() });
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

    fn open(
        &mut self,
        channel: u32,
        program: &Program,
        terminal: Option<&Terminal>,
        environment: &[(String, String)],
    ) -> Result<()> {
        let (tell, descriptors) = match self.start(program, terminal, environment) {
            Ok((pid, descriptors)) => {
                self.programs.insert(channel, pid);
                (Tell::Opened { channel }, descriptors)
            }
            Err(error) => {
                host::log!("{}: {error:#}", self.peer);
                (Tell::Refused { channel, error: format!("{error:#}") }, Vec::new())
            }
        };
        let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        wire::send(&self.control, &tell, &borrowed).context("pass descriptors")
    }

    /// Starts a program; gives the descriptors of our side.
    fn start(
        &self,
        program: &Program,
        terminal: Option<&Terminal>,
        environment: &[(String, String)],
    ) -> Result<(i32, Vec<OwnedFd>)> {
        if self.programs.len() >= MAX_PROGRAMS {
            bail!("{MAX_PROGRAMS} programs run in this connection already");
        }
        let pty = terminal.map(open_terminal).transpose()?;
        let exists = |path: &Path| path.exists();
        let facts = Facts {
            exists: &exists,
            sftp_server: &self.settings.sftp_server,
            peer: self.peer,
            local: self.local,
        };
        let names = pty.as_ref().zip(terminal).map(|(pty, asked)| (pty.name.as_str(), asked.name.as_str()));
        let command = program::command(program, names, environment, &facts).map_err(anyhow::Error::msg)?;
        let argv: Vec<&OsStr> = command.argv.iter().map(OsString::as_os_str).collect();
        let mut child = Spawn::new(&argv, &command.environment);
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
            let Some(channel) = self.programs.iter().find(|(_, p)| **p == pid).map(|(channel, _)| *channel)
            else {
                continue;
            };
            self.programs.remove(&channel);
            let how = match ended {
                process::Ended::Status(status) => Ended::Status(status),
                process::Ended::Signal(signal) => Ended::Signal(signal),
            };
            wire::send(&self.control, &Tell::Ended { channel, how }, &[]).context("tell the end")?;
        }
        Ok(false)
    }

    fn hang_up(&self) {
        self.programs.values().for_each(|pid| hang_up(*pid));
    }
}

/// As when a line drops: programs that want to outlive it ignore the signal (nohup, tmux). CONT, for
/// a stopped one sees no other signal.
fn hang_up(pid: i32) {
    for signal in [Signal::HUP, Signal::CONT] {
        // It may have ended a moment ago.
        let _ = process::signal_group(pid, signal);
    }
}

fn start_transport(connection: TcpStream, control: OwnedFd) -> Result<i32> {
    let program: PathBuf = std::env::current_exe().context("find this program")?;
    let argv = [program.as_os_str(), OsStr::new("transport")];
    let mut child = Spawn::new(&argv, &[]);
    child.stdin = Some(File::from(OwnedFd::from(connection)));
    child.stdout = Some(File::from(control));
    child.stderr = Some(File::from(inherited(2).try_clone_to_owned().context("stderr")?));
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

/// IPv4 as IPv4, though the socket is an IPv6 one.
fn canonical(address: SocketAddr) -> SocketAddr {
    let ip: IpAddr = address.ip().to_canonical();
    SocketAddr::new(ip, address.port())
}
