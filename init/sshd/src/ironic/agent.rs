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
use host::sys::{inherited, packet, process};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Resource, Rlimit};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Whose certificates are believed instead of the platform's roots, and most bytes of them.
const AUTHORITY: &str = "rescue.ca";
const MAX_AUTHORITY: usize = 4 << 20;
/// In Ironic's hands on the command line of virtual media.
const TOKEN: &str = "ipa-agent-token";
/// What it may take: bytes, and seconds of the processor, so that whoever knocks without end does not do so for ever: longer
/// than Ironic waits for a rescue (30 minutes, rescue_callback_timeout), since no second agent gets a token.
const MEMORY: u64 = 256 << 20;
const SECONDS: u64 = 7200;
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
/// Until a problem is told that is another one, and while that one lasts: what a server says may change with each attempt.
const CALM: Duration = Duration::from_secs(600);
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
        reports: Reports::default(),
    };
    let Some(node) = agent.find(known.as_deref())? else { return Ok(()) };
    agent.serve(node, settings.agent_port)
}

struct Agent {
    root: Root,
    /// The listener, which started this process, and ends it by going away.
    listener: OwnedFd,
    api: Api,
    reports: Reports,
}

/// What the listener is told of attempts that fail.
#[derive(Default)]
struct Reports {
    /// In a row.
    failed: u32,
    said: Option<(String, Instant)>,
    /// Something was told: until then an agent before this one may have left a problem behind.
    has_told: bool,
}

impl Reports {
    /// After an attempt; what is to be told of it.
    fn next(&mut self, problem: Option<String>, now: Instant) -> Option<Option<String>> {
        self.failed = if problem.is_some() { self.failed.saturating_add(1) } else { 0 };
        let is_new = match (&problem, &self.said) {
            (None, said) => said.is_some() || !self.has_told,
            (Some(_), None) => self.failed >= QUIET,
            (Some(problem), Some((said, at))) => problem != said && now >= *at + CALM,
        };
        if is_new {
            self.said = problem.clone().map(|problem| (problem, now));
            self.has_told = true;
        }
        is_new.then_some(problem)
    }
}

impl Agent {
    /// Until this node is found; `None` where nobody waits for that any more.
    fn find(&mut self, known: Option<&str>) -> Result<Option<Node>> {
        let mut pause = FIRST_PAUSE;
        loop {
            self.read_names();
            let addresses = addresses(&self.root, &|name| packet::permanent_mac(name).ok());
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
        let problem = problem.map(|why| format!("boot parameter {WORD}: {why}: trying again"));
        if let Some(problem) = self.reports.next(problem, Instant::now()) {
            wire::send(&self.listener, &Say::Problem(problem), &[]).context("tell the listener")?;
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

/// Of the wired NICs: lower case, with colons; what is burnt in where that can be told, since a port of a bond has another one's.
fn addresses(root: &Root, permanent: &dyn Fn(&str) -> Option<[u8; 6]>) -> Vec<String> {
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
        let burnt_in = || Some(permanent(name)?.map(|byte| format!("{byte:02x}")).join(":"));
        (nic.physical && !nic.wireless && is_ethernet).then(|| burnt_in().unwrap_or(address))
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
    fn a_problem_is_told_once_it_lasts_and_another_one_after_a_while_and_that_it_is_over_at_once() {
        let (mut reports, start) = (Reports::default(), Instant::now());
        let mut next = |text: &str, seconds: u64| {
            let problem = (!text.is_empty()).then(|| text.to_string());
            reports.next(problem, start + Duration::from_secs(seconds))
        };
        assert_eq!(next("", 0), Some(None), "what an agent before this one may have said is over");
        assert_eq!(next("", 1), None);
        for attempt in 1..QUIET {
            assert_eq!(next("1 second ago", u64::from(attempt)), None);
        }
        assert_eq!(next("5 seconds ago", 10), Some(Some("5 seconds ago".into())));
        assert_eq!((next("6 seconds ago", 11), next("600 seconds ago", 609)), (None, None));
        assert_eq!(next("601 seconds ago", 610), Some(Some("601 seconds ago".into())));
        assert_eq!(next("601 seconds ago", 9999), None, "the same");
        assert_eq!((next("", 10000), next("", 10001)), (Some(None), None));
    }

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
        assert_eq!(addresses(&root, &|_| None), ["52:54:00:aa:00:01", "52:54:00:aa:00:02"]);
        // A bond has given its own to the second.
        let burnt_in = |name: &str| (name == "eth1").then_some([0x52, 0x54, 0, 0xAB, 0, 2]);
        assert_eq!(addresses(&root, &burnt_in), ["52:54:00:aa:00:01", "52:54:00:ab:00:02"]);
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
