//! The role: reads what it needs as root, becomes nobody, and does as ironic-python-agent does until the password is set
//! (its agent.py): looks this node up, tells of itself again and again, and serves whoever has the token.

use super::api::{Api, Node};
use super::command::Session;
use super::server::{End, Server};
use super::{Say, Taken, WORD, certificate};
use crate::settings::Settings;
use crate::wire;
use anyhow::{Context as _, Result, bail};
use contract::cmdline;
use contract::paths::ROOTS;
use host::Root;
use host::sys::{inherited, process};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Resource, Rlimit};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Whose certificates are believed instead of the platform's roots, and most bytes of them.
const AUTHORITY: &str = "rescue.ca";
const MAX_AUTHORITY: usize = 4 << 20;
/// In Ironic's hands on the command line of virtual media.
const TOKEN: &str = "ipa-agent-token";
/// What it may take: bytes, and seconds of the processor, so that whoever knocks without end does not do so for ever.
const MEMORY: u64 = 256 << 20;
const SECONDS: u64 = 900;
const DESCRIPTORS: u64 = 128;
/// Addresses that a look-up names.
const MAX_ADDRESSES: usize = 32;
/// Between two look-ups, doubled each time, and up to as much again.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(30);
/// After a heartbeat that failed, up to twice as long (ironic-python-agent's).
const RETRY: Duration = Duration::from_secs(5);
/// Attempts that may fail without a word, while the network comes up.
const QUIET: u32 = 5;
/// How long the listener may take to keep a password.
const KEPT: Duration = Duration::from_secs(10);

pub fn run(settings: &Settings) -> Result<()> {
    let root = settings.root()?;
    let words = host::params::read(&root);
    let urls = super::wish(&words).urls;
    let known = cmdline::last(&words, TOKEN).map(str::to_string);
    let path = cmdline::last(&words, AUTHORITY).unwrap_or(ROOTS);
    let authorities = root.read(path).ok().filter(|bytes| bytes.len() <= MAX_AUTHORITY).unwrap_or_default();
    let listener = inherited(1).try_clone_to_owned().context("stdout")?;
    process::drop_privileges(crate::NOBODY).context("give up root")?;
    for (resource, most) in
        [(Resource::As, MEMORY), (Resource::Cpu, SECONDS), (Resource::Nofile, DESCRIPTORS)]
    {
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        rustix::process::setrlimit(resource, limit).context("set a limit")?;
    }
    let mut agent = Agent {
        root,
        listener,
        api: Api { urls, names: Default::default(), authorities },
        failed: 0,
        said: None,
    };
    let Some(node) = agent.find(known.as_deref())? else { return Ok(()) };
    agent.serve(node, settings.agent_port)
}

struct Agent {
    root: Root,
    /// The listener, which started this process, and ends it by going away.
    listener: OwnedFd,
    api: Api,
    /// Attempts in a row that failed, and what the listener was told of them.
    failed: u32,
    said: Option<String>,
}

impl Agent {
    /// Until this node is found; `None` where nobody waits for that any more.
    fn find(&mut self, known: Option<&str>) -> Result<Option<Node>> {
        let mut pause = FIRST_PAUSE;
        loop {
            self.read_names();
            let addresses = addresses(&self.root);
            let result = if addresses.is_empty() {
                Err("there is no wired NIC to be known by".to_string())
            } else {
                self.api.look_up(&addresses, known)
            };
            match self.heard(result)? {
                Some(node) => return Ok(Some(node)),
                None if self.is_orphaned_after(stretched(pause)) => return Ok(None),
                None => pause = (pause * 2).min(LAST_PAUSE),
            }
        }
    }

    /// Until the password is set, or nobody waits for that any more.
    fn serve(mut self, node: Node, port: u16) -> Result<()> {
        // Ironic takes no other address for as long as this agent lives, and gives no second token: so nothing ends it here.
        let socket = loop {
            let bound = self.api.own_address().and_then(|address| {
                TcpListener::bind((address, port))
                    .map_err(|error| format!("listen at {address}, port {port}: {error}"))
            });
            match self.heard(bound)? {
                Some(socket) => break socket,
                None if self.is_orphaned_after(RETRY) => return Ok(()),
                None => {}
            }
        };
        let at: SocketAddr = socket.local_addr().context("own address")?;
        let (pem, tls) = certificate::make(at.ip()).map_err(anyhow::Error::msg)?;
        host::log!("ironic: this is node {}, whose agent is at https://{at}", node.uuid);
        let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut session = Session::new(node.token.clone(), started);
        let listener = self.listener.try_clone().context("copy the listener's socket")?;
        let uuid = node.uuid.clone();
        // It ends with this process.
        std::thread::Builder::new().name("heartbeat".into()).spawn(move || self.beat(&node, at, &pem))?;
        let mut set = |hash: &str| kept(listener.as_fd(), &uuid, hash);
        let mut answer = |progress| Some((session.answer(progress, &mut set)?, session.is_finalized));
        match (Server { listener: socket, tls }).run(inherited(1), &mut answer)? {
            End::Finished => host::log!("ironic: the rescue of this node is finalized"),
            End::Orphaned => {}
        }
        Ok(())
    }

    fn beat(&mut self, node: &Node, at: SocketAddr, certificate: &str) {
        loop {
            self.read_names();
            let result = self.api.heartbeat(node, at, certificate);
            let pause = match self.heard(result) {
                Ok(Some(())) => part(node.interval),
                Ok(None) => stretched(RETRY),
                // The listener is away, which the server sees.
                Err(_) => return,
            };
            std::thread::sleep(pause);
        }
    }

    /// `None` where it failed, which is said once it lasts.
    fn heard<T>(&mut self, result: Result<T, String>) -> Result<Option<T>> {
        let (problem, found) = match result {
            Ok(found) => (None, Some(found)),
            Err(why) => (Some(why), None),
        };
        self.failed = if problem.is_some() { self.failed.saturating_add(1) } else { 0 };
        let problem = problem.map(|why| format!("boot parameter {WORD}: {why}: trying again"));
        if problem != self.said && (problem.is_none() || self.failed >= QUIET) {
            wire::send(&self.listener, &Say::Problem(problem.clone()), &[]).context("tell the listener")?;
            self.said = problem;
        }
        Ok(found)
    }

    /// Name servers come with an address.
    fn read_names(&mut self) {
        let text = |path: &str| self.root.read_text(path).unwrap_or_default();
        self.api.names = web::Names::new(&text("/etc/hosts"), &text("/etc/resolv.conf"));
    }

    fn is_orphaned_after(&self, pause: Duration) -> bool {
        is_readable(self.listener.as_fd(), pause)
    }
}

/// The listener takes the one thing that this process is for. The error is for Ironic.
fn kept(listener: BorrowedFd<'_>, node: &str, hash: &str) -> Result<(), String> {
    let ask = || -> Result<Taken> {
        let say = Say::Password { node: node.to_string(), hash: hash.to_string() };
        wire::send(listener, &say, &[]).context("ask")?;
        if !is_readable(listener, KEPT) {
            bail!("no answer");
        }
        Ok(wire::receive::<Taken>(listener).context("answer")?.context("it ended")?.0)
    };
    match ask() {
        Ok(Taken { problem: None }) => Ok(()),
        Ok(Taken { problem: Some(problem) }) => Err(problem),
        Err(error) => Err(format!("the SSH service could not be told of the password: {error:#}")),
    }
}

fn is_readable(socket: BorrowedFd<'_>, within: Duration) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(socket, PollFlags::IN)];
    let timeout = Timespec::try_from(within).ok();
    matches!(rustix::event::poll(&mut fds, timeout.as_ref()), Ok(1..))
}

/// Of the wired NICs: lower case, with colons.
fn addresses(root: &Root) -> Vec<String> {
    let mut names = root.list("/sys/class/net").unwrap_or_default();
    names.sort();
    let address = |name: &str| {
        let nic = host::nic::read(root, name);
        let address = root.line(format!("/sys/class/net/{name}/address"))?.to_ascii_lowercase();
        let octets: Vec<&str> = address.split(':').collect();
        let is_octet = |text: &&str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        // Not of InfiniBand, which has twenty, and none that is not set.
        let is_ethernet =
            octets.len() == 6 && octets.iter().all(is_octet) && octets.iter().any(|text| *text != "00");
        (nic.physical && !nic.wireless && is_ethernet).then_some(address)
    };
    names.iter().filter_map(|name| address(name.to_str()?)).take(MAX_ADDRESSES).collect()
}

/// One to two times as long, so that a hall of machines does not ask at once.
fn stretched(pause: Duration) -> Duration {
    pause + pause.mul_f64(chance())
}

/// 0.3 to 0.6 of it, as ironic-python-agent has it.
fn part(interval: Duration) -> Duration {
    interval.mul_f64(0.3 + 0.3 * chance())
}

/// 0 to 1.
fn chance() -> f64 {
    let mut byte = [0];
    // Without one, all machines ask at once.
    let _ = rustix::rand::getrandom(&mut byte, rustix::rand::GetRandomFlags::NONBLOCK);
    f64::from(byte[0]) / 255.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_known_by_its_wired_nics_alone() {
        let dir = tempfile::tempdir().unwrap();
        for (name, address, extra) in [
            ("eth1", "52:54:00:AA:00:02\n", &["device"][..]),
            ("eth0", "52:54:00:aa:00:01\n", &["device"]),
            ("lo", "00:00:00:00:00:00\n", &[]),
            ("br0", "52:54:00:aa:00:03\n", &[]),
            ("wlan0", "52:54:00:aa:00:04\n", &["device", "wireless"]),
            ("usb0", "00:00:00:00:00:00\n", &["device"]),
            ("ib0", "a0:00:02:20:fe:80:00:00:00:00:00:00:e4:1d:2d:03:00:05:35:91\n", &["device"]),
            ("odd0", "52:54:00:aa:0&:05\n", &["device"]),
        ] {
            let place = dir.path().join("sys/class/net").join(name);
            for part in [""].iter().chain(extra) {
                std::fs::create_dir_all(place.join(part)).unwrap();
            }
            std::fs::write(place.join("address"), address).unwrap();
        }
        let root = Root::at(dir.path()).unwrap();
        assert_eq!(addresses(&root), ["52:54:00:aa:00:01", "52:54:00:aa:00:02"]);
    }

    #[test]
    fn heartbeats_come_within_the_time_that_ironic_waits_for_them() {
        for _ in 0..1000 {
            let pause = part(Duration::from_secs(300));
            assert!((Duration::from_secs(89)..=Duration::from_secs(181)).contains(&pause), "{pause:?}");
            let pause = stretched(RETRY);
            assert!((RETRY..=RETRY * 2).contains(&pause), "{pause:?}");
        }
    }
}
