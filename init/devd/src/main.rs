//! Devices: modules for what is there and what is plugged in later, the network's first, and the
//! write guard on every disk as it appears. One thread waits and decides; module loading and the
//! guard's workers are elsewhere, since either may never return.
//!
//! Not yet: the links below /dev/disk.

mod guard;
mod loader;

use anyhow::{Context as _, Result};
use contract::event::Event;
use contract::facts::Block;
use contract::wire::{DevdRequest, Reply, WorkerRequest};
use contract::{cmdline, paths, state};
use host::Root;
use host::sys::uevent::{self, Uevent};
use host::workers::{Job, Outcome, Pool};
use loader::Loader;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// Time that a disk gets to take its read-only flag.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long nothing may happen before the devices of power-on count as handled.
const QUIET: Duration = Duration::from_millis(300);
/// Looked at again while something is pending.
const TICK: Duration = Duration::from_millis(100);

fn main() {
    if let Err(error) = Devd::start().and_then(|mut devd| devd.run()) {
        host::log!("devd: {error:#}");
        std::process::exit(1);
    }
}

/// What a guard's thread found out about one device.
struct Guarding {
    name: String,
    outcome: Outcome<()>,
}

/// A question that is answered later.
struct Pending {
    connection: OwnedFd,
    request: DevdRequest,
    until: Instant,
}

struct Devd {
    root: Root,
    /// `rescue.writable`
    off: bool,
    uevents: OwnedFd,
    control: OwnedFd,
    watch: OwnedFd,
    woken: PipeReader,
    wake: PipeWriter,
    loader: Loader,
    results: (Sender<Guarding>, Receiver<Guarding>),
    /// Devices that a worker is asked about now.
    asked: BTreeSet<String>,
    /// Devices whose flag could not be set, and why.
    failed: BTreeMap<String, (String, bool)>,
    disks: BTreeMap<String, u64>,
    layers_seen: usize,
    layers_done: bool,
    last_news: Instant,
    settled: bool,
    pending: Vec<Pending>,
    published: Option<state::Devd>,
    told: BTreeSet<String>,
}

impl Devd {
    fn start() -> Result<Devd> {
        let root = Root::live()?;
        let words = host::params::read(&root);
        // Before anything is looked at, so that nothing falls between.
        let uevents = uevent::open().context("hear the kernel's uevents")?;
        let (woken, wake) = std::io::pipe()?;
        rustix::io::ioctl_fionbio(&woken, true)?;
        rustix::io::ioctl_fionbio(&wake, true)?;
        let loader = Loader::new(root.clone(), wake.try_clone()?);
        let mut devd = Devd {
            off: cmdline::switch(&words, "rescue.writable"),
            uevents,
            control: host::ask::listen("devd").context("listen for questions")?,
            watch: watch()?,
            woken,
            wake,
            loader,
            results: channel(),
            asked: BTreeSet::new(),
            failed: BTreeMap::new(),
            disks: BTreeMap::new(),
            layers_seen: 0,
            layers_done: false,
            last_news: Instant::now(),
            settled: false,
            pending: Vec::new(),
            published: None,
            told: BTreeSet::new(),
            root,
        };
        devd.plug_in();
        devd.guard();
        host::events::tell(&Event::Ready { service: "devd".to_string() });
        Ok(devd)
    }

    fn run(&mut self) -> Result<()> {
        loop {
            self.look_at_layers();
            self.look_whether_settled();
            self.publish();
            let busy = !self.settled || !self.pending.is_empty() || !self.asked.is_empty();
            let timeout = busy.then_some(Timespec { tv_sec: 0, tv_nsec: TICK.subsec_nanos().into() });
            let mut fds = [
                PollFd::new(&self.uevents, PollFlags::IN),
                PollFd::new(&self.control, PollFlags::IN),
                PollFd::new(&self.watch, PollFlags::IN),
                PollFd::new(&self.woken, PollFlags::IN),
            ];
            match poll(&mut fds, timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let [events, question, files, woken] = fds.map(|fd| !fd.revents().is_empty());
            if events {
                self.hear()?;
            }
            if files {
                drain(&self.watch);
                self.guard();
            }
            if woken {
                // Its bytes mean nothing; all that is asked for is this turn.
                let _ = self.woken.read(&mut [0; 256]);
            }
            self.collect();
            if question {
                self.accept();
            }
            self.answer();
        }
    }

    /// Asks for the modules of everything that has no driver, the network's first.
    fn plug_in(&mut self) {
        let mut wanting = host::devices::without_driver(&self.root);
        wanting.sort_by_key(|device| !is_network(&device.alias));
        for device in wanting {
            self.loader.want(&device.alias, false);
        }
        self.last_news = Instant::now();
    }

    fn hear(&mut self) -> Result<()> {
        let mut blocks = false;
        loop {
            match uevent::receive(&self.uevents) {
                Ok(Some(event)) => blocks |= self.heard(&event),
                Ok(None) => break,
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error()) => {
                    host::log!("uevents were lost: looking at everything again");
                    self.plug_in();
                    blocks = true;
                }
                Err(error) => return Err(error).context("hear the kernel's uevents"),
            }
        }
        if blocks {
            self.guard();
        }
        Ok(())
    }

    /// Whether block devices came, went or changed.
    fn heard(&mut self, event: &Uevent) -> bool {
        self.last_news = Instant::now();
        if let Some(alias) =
            event.fields.get("MODALIAS").filter(|_| matches!(event.action.as_str(), "add" | "change"))
        {
            self.loader.want(alias, is_network(alias));
        }
        if event.fields.get("SUBSYSTEM").map(String::as_str) != Some("block") {
            return false;
        }
        if event.action == "remove"
            && event.fields.get("DEVTYPE").map(String::as_str) == Some("disk")
            && let Some(diskseq) = event.fields.get("DISKSEQ").and_then(|seq| seq.parse().ok())
        {
            self.forget(diskseq);
        }
        true
    }

    /// A disk is gone: nothing that was said of it holds for another one.
    fn forget(&mut self, diskseq: u64) {
        for consent in host::consents::read(&self.root).iter().filter(|consent| consent.diskseq == diskseq) {
            if let Err(error) = host::consents::take(&consent.file_name()) {
                host::log!("take the consent {}: {error}", consent.file_name());
            }
        }
        // Not being there is the usual case.
        let _ = std::fs::remove_file(format!("{}/{diskseq}", paths::HUNG));
    }

    /// Brings every flag in line with the consents, by workers on a thread of its own, since a disk
    /// that hangs holds them for the whole deadline.
    fn guard(&mut self) {
        let facts = host::sysfs::facts(&self.root);
        self.note_disks(&facts.blocks);
        if self.off {
            return;
        }
        let consents = host::consents::read(&self.root);
        let jobs: Vec<(String, Job)> = facts
            .blocks
            .iter()
            .filter(|block| !self.asked.contains(&block.name) && block.size > 0)
            .filter(|block| self.failed.get(&block.name).is_none_or(|(_, hung)| !hung))
            .filter_map(|block| {
                let read_only = guard::correction(block, &consents)?;
                let path = node(&block.name);
                let request = WorkerRequest::SetReadOnly { path: path.clone(), read_only };
                Some((block.name.clone(), Job { diskseq: block.diskseq, path, request }))
            })
            .collect();
        if jobs.is_empty() {
            return;
        }
        self.asked.extend(jobs.iter().map(|(name, _)| name.clone()));
        let (root, results, wake) = (self.root.clone(), self.results.0.clone(), self.wake.try_clone());
        std::thread::spawn(move || {
            let (names, jobs): (Vec<String>, Vec<Job>) = jobs.into_iter().unzip();
            let outcomes = Pool::new(root).run::<()>(&jobs, DEADLINE);
            for (name, outcome) in names.into_iter().zip(outcomes) {
                // The receiver lives as long as the process.
                let _ = results.send(Guarding { name, outcome });
            }
            // A full pipe has woken it already.
            let _ = wake.map(|mut wake| wake.write_all(b"g"));
        });
    }

    fn collect(&mut self) {
        let mut any = false;
        while let Ok(Guarding { name, outcome }) = self.results.1.try_recv() {
            any = true;
            self.asked.remove(&name);
            match outcome {
                Outcome::Done(()) => drop(self.failed.remove(&name)),
                Outcome::Failed(why) => drop(self.failed.insert(name, (why, false))),
                Outcome::Hung(why) => drop(self.failed.insert(name, (why, true))),
            }
        }
        if any {
            self.last_news = Instant::now();
        }
    }

    fn note_disks(&mut self, blocks: &[Block]) {
        let now: BTreeMap<String, u64> = blocks
            .iter()
            .filter(|block| block.partition.is_none())
            .filter_map(|block| Some((block.name.clone(), guard::guarded(block)?.diskseq)))
            .collect();
        for (name, diskseq) in &now {
            if self.disks.get(name) != Some(diskseq) {
                self.failed.remove(name); // another disk under the same name
                host::events::tell(&Event::Disk {
                    name: name.clone(),
                    diskseq: *diskseq,
                    guarded: !self.off,
                });
            }
        }
        for name in self.disks.keys().filter(|name| !now.contains_key(*name)) {
            host::events::tell(&Event::DiskGone { name: name.clone() });
        }
        let names: BTreeSet<&String> = blocks.iter().map(|block| &block.name).collect();
        self.failed.retain(|name, _| names.contains(name));
        self.disks = now;
    }

    /// Modules of the layers become visible all at once: look at what still has no driver.
    fn look_at_layers(&mut self) {
        if self.layers_done {
            return;
        }
        let layers: state::Layers = host::statefile::read("layers");
        let seen = layers.layers.len();
        if layers.done || seen != self.layers_seen {
            (self.layers_seen, self.layers_done) = (seen, layers.done);
            self.loader.reread();
            self.plug_in();
        }
    }

    fn look_whether_settled(&mut self) {
        let quiet = self.loader.is_quiet() && self.asked.is_empty() && self.last_news.elapsed() >= QUIET;
        // Layers that could not be mounted never say that they are done: init says that they failed.
        let layers = self.layers_done || {
            let init: state::Init = host::statefile::read("init");
            init.services.iter().any(|service| service.name == "layers" && service.state == "failed")
        };
        if !self.settled && quiet && layers {
            self.settled = true;
            host::events::tell(&Event::Settled { disks: self.disks.len() as u32 });
        }
    }

    fn publish(&mut self) {
        let guard_of = |name: &str| match self.failed.get(name) {
            Some((why, true)) => ("hung", Some(why.clone())),
            Some((why, false)) => ("writable", Some(why.clone())),
            None if self.off => ("writable", None),
            None => ("guarded", None),
        };
        let disks = self.disks.iter().map(|(name, diskseq)| {
            let (guard, note) = guard_of(name);
            state::Disk { name: name.clone(), diskseq: *diskseq, guard: guard.to_string(), note }
        });
        let troubled = self.failed.iter().map(|(name, (why, hung))| match hung {
            true => format!("{why}: {name} is left alone; the other disks are not affected"),
            false => format!("{name} is not guarded: {why}"),
        });
        let state = state::Devd {
            settled: self.settled,
            writable: self.off,
            disks: disks.collect(),
            problems: troubled.chain(self.loader.problems()).collect(),
        };
        for problem in &state.problems {
            if self.told.insert(problem.clone()) {
                host::log!("{problem}");
                host::events::tell(&Event::warning(problem.clone()));
            }
        }
        if self.published.as_ref() != Some(&state) {
            if let Err(error) = host::statefile::publish("devd", &state) {
                host::log!("publish {}: {error}", paths::state("devd"));
            }
            self.published = Some(state);
        }
    }

    fn accept(&mut self) {
        let Ok(connection) = rustix::net::accept_with(&self.control, rustix::net::SocketFlags::CLOEXEC)
        else {
            return;
        };
        // Root alone can connect; one that says nothing still holds nothing up.
        let patience = Some(Duration::from_secs(1));
        let _ = rustix::net::sockopt::set_socket_timeout(
            &connection,
            rustix::net::sockopt::Timeout::Recv,
            patience,
        );
        let request = match host::ask::receive::<DevdRequest>(&connection) {
            Ok(request) => request,
            Err(error) => return reply(&connection, &Reply::Failed { error: error.to_string() }),
        };
        let time = match &request {
            DevdRequest::Settle { timeout_ms } => Duration::from_millis(*timeout_ms),
            DevdRequest::Module { name } => {
                self.loader.want_again(name);
                loader::PATIENCE
            }
            DevdRequest::Guard => {
                self.guard();
                DEADLINE
            }
        };
        self.pending.push(Pending { connection, request, until: Instant::now() + time });
    }

    fn answer(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        for one in pending {
            let answer = match &one.request {
                DevdRequest::Settle { .. } if self.settled => Some(Reply::Done),
                DevdRequest::Guard if self.asked.is_empty() => Some(Reply::Done),
                DevdRequest::Settle { .. } | DevdRequest::Guard => None,
                DevdRequest::Module { name } => match self.loader.outcome(name) {
                    Some(Ok(())) => Some(Reply::Done),
                    Some(Err(error)) => Some(Reply::Failed { error }),
                    None => None,
                },
            };
            match answer {
                Some(answer) => reply(&one.connection, &answer),
                None if one.until <= Instant::now() => {
                    reply(&one.connection, &Reply::Failed { error: "not within the time".to_string() });
                }
                None => self.pending.push(one),
            }
        }
    }
}

fn reply(connection: &OwnedFd, answer: &Reply) {
    if let Err(error) = host::ask::reply(connection, answer) {
        host::log!("answer a question: {error}");
    }
}

fn watch() -> Result<OwnedFd> {
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    let changes = inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::DELETE | inotify::WatchFlags::CREATE;
    for directory in [paths::STATE, paths::CONSENT] {
        inotify::add_watch(&watch, directory, changes).with_context(|| format!("watch {directory}"))?;
    }
    Ok(watch)
}

fn drain(watch: &OwnedFd) {
    let mut buffer = [0; 4096];
    while matches!(rustix::io::read(watch, &mut buffer), Ok(length) if length > 0) {}
}

/// The kernel writes a slash in a device's name as `!`.
fn node(name: &str) -> String {
    format!("/dev/{}", name.replace('!', "/"))
}

/// Network cards on PCI (class 02), virtio, Xen and Hyper-V.
fn is_network(alias: &str) -> bool {
    let pci = alias.starts_with("pci:") && alias.contains("bc02");
    // f8615163-df3e-46c5-913f-f2d2f965ed0e (drivers/net/hyperv), as vmbus prints it
    pci || alias.starts_with("virtio:d00000001v")
        || alias == "xen:vif"
        || alias.starts_with("vmbus:635161f83edfc546913ff2d2f965ed0e")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_cards_are_known_by_their_aliases() {
        assert!(is_network("pci:v00008086d000010D3sv00008086sd0000A01Fbc02sc00i00"));
        assert!(is_network("virtio:d00000001v00001AF4"));
        assert!(!is_network("virtio:d00000002v00001AF4"));
        assert!(!is_network("pci:v00001AF4d00001001sv00001AF4sd00000002bc01sc00i00"));
    }

    #[test]
    fn a_name_with_a_slash_is_found_below_dev() {
        assert_eq!(node("cciss!c0d0"), "/dev/cciss/c0d0");
    }
}
