//! Devices: modules for what is there and what is plugged in later, the network's first, and the
//! write guard on every disk as it appears, and after that the links below /dev/disk. One thread waits
//! and decides; module loading and all that touches a disk are elsewhere, since either may never
//! return.

mod again;
mod content;
mod firmware;
mod guard;
mod links;
mod loader;
mod ports;

use again::Again;
use anyhow::{Context as _, Result};
use content::Contents;
use contract::event::{DESCRIPTOR, Event};
use contract::facts::{Block, Facts, Hardware};
use contract::guard::{Consent, guarded};
use contract::wire::{DevdRequest, Reply, WorkerRequest};
use contract::{cmdline, paths, state};
use firmware::Firmware;
use host::Root;
use host::sys::uevent::{self, Uevent};
use host::sys::{acpi, netlink, process};
use host::workers::{Job, Outcome, Pool};
use loader::{Device, Loader};
use ondisk::DiskReport;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use rustix::process::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

const PORTS: &str = "/dev/virtio-ports";

/// Time that a disk gets to take its read-only flag, or to be read.
const DEADLINE: Duration = Duration::from_secs(10);
/// The first login comes before the names of what is on the disks, but for so long only.
const LOGIN_FIRST: Duration = Duration::from_secs(10);
/// Modules of the network alone are loaded before an address is there, but for so long only.
const NETWORK_FIRST: Duration = Duration::from_secs(2);
/// The readers yield the processor to whoever logs in.
const READERS_NICE: i32 = 10;
/// How long nothing may happen before the devices of power-on count as handled.
const QUIET: Duration = Duration::from_millis(300);
/// A look at all devices that takes longer is one of many devices, ...
const LONG: Duration = Duration::from_millis(50);
/// ... and devices that nobody is to be protected from (loop, dm, md) then wait for the next one until so many times
/// as long has passed: a thousand that come one after the other are seen a few dozen at a time.
const PAUSE: u32 = 3;
/// Looked at again while something is pending.
const TICK: Duration = Duration::from_millis(100);
/// How often a disk that hangs is looked at: whether the worker that waits for it has ended.
const COMES_BACK: Duration = again::FIRST;

/// What is said of a disk that nothing can write to.
const GUARDED: &str = "guarded";

/// The service.
pub fn main() -> ExitCode {
    match Devd::start().and_then(|mut devd| devd.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            host::log!("devd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What a thread found out.
enum Told {
    /// A flag was set on one device, or not.
    Guarded { name: String, read_only: bool, outcome: Outcome<()> },
    /// What is on a device.
    Read { name: String, outcome: Box<Outcome<DiskReport>> },
}

/// What one device is left alone for.
struct Trouble {
    why: String,
    /// When its flag is tried again; not for one that hangs.
    again: Option<Again>,
}

impl Trouble {
    fn hangs(&self) -> bool {
        self.again.is_none()
    }

    fn is_due(&self, now: Instant) -> bool {
        self.again.is_some_and(|again| again.is_due(now))
    }
}

type Failed = BTreeMap<String, Trouble>;

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
    /// Where the kernel has ACPI.
    buttons: Option<OwnedFd>,
    control: OwnedFd,
    watch: OwnedFd,
    /// The number of the directory of consents in it.
    watched_consents: i32,
    woken: PipeReader,
    wake: PipeWriter,
    loader: Loader,
    firmware: Firmware,
    results: (Sender<Told>, Receiver<Told>),
    /// Devices whose flag a worker sets now.
    asked: BTreeSet<String>,
    own: guard::Own,
    /// Devices whose flag could not be set, or that did not answer a reader.
    failed: Failed,
    disks: BTreeMap<String, u64>,
    /// Those that an event told of.
    announced: BTreeMap<String, u64>,
    /// The disk of each partition.
    parents: BTreeMap<String, String>,
    consents: Vec<Consent>,
    contents: Contents,
    /// Since when there are answers of workers that no look has taken into account.
    answered: Option<Instant>,
    /// Devices are still to be read.
    unread: bool,
    /// Nobody waits for the first login any more.
    may_read: bool,
    /// Something changed since the last look, ...
    to_look: bool,
    /// ... before which there is no other, unless a drive came.
    rested: Instant,
    began: Instant,
    /// Names that two devices claim.
    doubled: Vec<String>,
    layers_seen: usize,
    layers_done: bool,
    last_news: Instant,
    /// Drivers were looked for, for all devices and not for the network's alone.
    plugged_in: bool,
    /// A module was loaded since the devices without a driver were looked at, or there is another reason to.
    drivers_came: bool,
    /// When they are looked at once more, since some could not be bound.
    bind_again: Option<Instant>,
    settled: bool,
    pending: Vec<Pending>,
    published: Option<state::Devd>,
    told: BTreeSet<String>,
}

impl Devd {
    fn start() -> Result<Devd> {
        let root = Root::live()?;
        // A worker that hangs must not hold the event stream of a devd that is gone.
        rustix::io::fcntl_setfd(host::sys::inherited(DESCRIPTOR), rustix::io::FdFlags::CLOEXEC).ok();
        let words = host::params::read(&root);
        // Before anything is looked at, so that nothing falls between.
        let uevents = uevent::open().context("hear the kernel's uevents")?;
        let (woken, wake) = std::io::pipe()?;
        rustix::io::ioctl_fionbio(&woken, true)?;
        rustix::io::ioctl_fionbio(&wake, true)?;
        let loader = Loader::new(root.clone(), wake.try_clone()?);
        let (watch, watched_consents) = watch()?;
        let mut devd = Devd {
            off: cmdline::switch(&words, "rescue.writable"),
            uevents,
            buttons: acpi::open().inspect_err(|error| host::log!("hear of buttons: {error}")).ok(),
            control: host::ask::listen("devd").context("listen for questions")?,
            watch,
            watched_consents,
            woken,
            wake,
            loader,
            firmware: Firmware::default(),
            results: channel(),
            asked: BTreeSet::new(),
            own: guard::Own::new(),
            failed: BTreeMap::new(),
            disks: BTreeMap::new(),
            announced: BTreeMap::new(),
            parents: BTreeMap::new(),
            consents: Vec::new(),
            contents: Contents::new().context("watch for writes")?,
            answered: None,
            unread: true,
            may_read: false,
            to_look: false,
            rested: Instant::now(),
            began: Instant::now(),
            doubled: Vec::new(),
            layers_seen: 0,
            layers_done: false,
            last_news: Instant::now(),
            plugged_in: false,
            drivers_came: false,
            bind_again: None,
            settled: false,
            pending: Vec::new(),
            published: None,
            told: BTreeSet::new(),
            root,
        };
        devd.plug_in_network();
        devd.look();
        // Those of a driver that is built in were there first.
        ports::link(&devd.root, Path::new(PORTS));
        host::events::tell(&Event::ready("devd"));
        Ok(devd)
    }

    fn run(&mut self) -> Result<()> {
        loop {
            self.look_at_layers();
            self.look_whether_to_go_on();
            self.look_whether_settled();
            self.loader.relieve();
            self.publish();
            if self.loader.take_left() {
                self.bind_again = Some(Instant::now() + again::FIRST);
            }
            self.drivers_came |= self.bind_again.take_if(|at| *at <= Instant::now()).is_some();
            if self.settled && self.drivers_came && self.loader.is_quiet() {
                self.plug_in();
            }
            let busy = !self.settled || !self.pending.is_empty() || !self.is_idle();
            let hangs = self.failed.values().any(Trouble::hangs);
            let timeout = match busy {
                true => Some(TICK),
                false => hangs.then_some(COMES_BACK),
            };
            let rest = self.to_look.then(|| self.rested.saturating_duration_since(Instant::now()));
            let next = next_flag(&self.failed, &self.asked).into_iter().chain(self.contents.next_try());
            // One that is due waits for the look as all else does.
            let next = next.filter(|_| !self.to_look).chain(self.bind_again).min();
            let retry = next.map(|at| at.saturating_duration_since(Instant::now()));
            let timeout = rest.into_iter().chain(timeout).chain(retry).min();
            let timeout = timeout.and_then(|time| Timespec::try_from(time).ok());
            let mut fds = [
                PollFd::new(&self.uevents, PollFlags::IN),
                PollFd::new(&self.control, PollFlags::IN),
                PollFd::new(&self.watch, PollFlags::IN),
                PollFd::new(&self.woken, PollFlags::IN),
                PollFd::new(self.contents.writes(), PollFlags::IN),
                // Without a log or a button, for what is waited for anyway.
                PollFd::from_borrowed_fd(self.firmware.log().unwrap_or(self.uevents.as_fd()), PollFlags::IN),
                PollFd::new(self.buttons.as_ref().unwrap_or(&self.uevents), PollFlags::IN),
            ];
            let nothing = match poll(&mut fds, timeout.as_ref()) {
                Ok(ready) => ready == 0,
                Err(rustix::io::Errno::INTR) => false,
                Err(error) => return Err(error.into()),
            };
            let [events, question, files, woken, writes, said, button] =
                fds.map(|fd| !fd.revents().is_empty());
            if button {
                self.look_at_button();
            }
            if said {
                self.firmware.hear();
            }
            let mut now = events && self.hear()?;
            if files && self.consents_changed() {
                self.failed.retain(|_, trouble| trouble.hangs());
                now = true;
            }
            if woken {
                // Its bytes mean nothing; all that is asked for is this turn.
                let _ = self.woken.read(&mut [0; 256]);
            }
            if self.collect() {
                self.answered.get_or_insert_with(Instant::now);
            }
            // The last of them at once; where others are waited for, those of a moment together.
            let all = self.asked.is_empty() && !self.contents.are_read();
            self.to_look |= self.answered.is_some_and(|since| all || since.elapsed() >= TICK);
            self.to_look |= self.unread && self.may_read && !self.contents.gathers(Instant::now());
            self.to_look |= writes && self.contents.take_writes();
            self.to_look |= nothing && hangs && !busy;
            self.to_look |= self.contents.take_due(Instant::now());
            self.to_look |= next_flag(&self.failed, &self.asked).is_some_and(|at| at <= Instant::now());
            if question {
                now |= self.accept();
            }
            if now || (self.to_look && self.rested <= Instant::now()) {
                self.look();
            }
            self.answer();
        }
    }

    /// The power button, also a hypervisor's or a BMC's orderly way to switch off: init goes down as for `poweroff`.
    fn look_at_button(&mut self) {
        let pressed = match self.buttons.as_ref().map(acpi::power_pressed) {
            Some(Ok(pressed)) => pressed,
            // Many came at once, and were lost.
            Some(Err(error)) if netlink::were_lost(&error) => false,
            Some(Err(error)) => {
                host::log!("hear of buttons: {error}");
                self.buttons = None;
                false
            }
            None => false,
        };
        if !pressed {
            return;
        }
        host::log!("the power button was pressed");
        if let Err(error) = process::tell_init(Signal::POWER) {
            host::log!("tell init: {error}");
        }
    }

    fn consents_changed(&self) -> bool {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(self.watch.as_fd(), &mut buffer);
        let mut changed = false;
        while let Ok(event) = reader.next() {
            let lost = event.events().contains(inotify::ReadFlags::QUEUE_OVERFLOW);
            changed |= event.wd() == self.watched_consents || lost;
        }
        changed
    }

    /// Nothing is under way.
    fn is_idle(&self) -> bool {
        let reads = self.contents.are_read() || (self.unread && self.may_read);
        self.loader.is_quiet() && self.asked.is_empty() && !reads && !self.to_look
    }

    /// Asks for the modules of network cards; where there are none yet, of everything.
    fn plug_in_network(&mut self) {
        host::devices::hold_all(&self.root);
        let cards = host::devices::network_without_driver(&self.root);
        for card in &cards {
            self.want(&card.bus, &card.name, &card.alias, true);
        }
        if cards.is_empty() {
            self.plug_in();
        }
    }

    /// Asks for the modules of everything that has no driver, the network's first.
    fn plug_in(&mut self) {
        (self.drivers_came, self.plugged_in) = (false, true);
        host::devices::hold_all(&self.root);
        let mut wanting = host::devices::without_driver(&self.root);
        wanting.sort_by_key(|device| !host::devices::is_network(&device.alias));
        for device in wanting {
            self.want(&device.bus, &device.name, &device.alias, false);
        }
        self.last_news = Instant::now();
    }

    /// The modules for a device, and it bound to one of them where the kernel leaves that to us.
    fn want(&self, bus: &str, name: &str, alias: &str, urgent: bool) {
        if host::devices::is_bound_here(bus) {
            let device = Device { bus: bus.to_string(), name: name.to_string() };
            self.loader.bind(device, alias, urgent);
        } else {
            self.loader.want(alias, urgent);
        }
    }

    /// Notes which block devices came, went or changed; whether one of them was a drive.
    fn hear(&mut self) -> Result<bool> {
        let mut drives = false;
        loop {
            match uevent::receive(&self.uevents) {
                Ok(Some(event)) => drives |= self.heard(&event),
                Ok(None) => return Ok(drives),
                Err(error) if netlink::were_lost(&error) => {
                    host::log!("uevents were lost: looking at everything again");
                    self.plug_in();
                    self.own.clear();
                    self.contents.forget_all();
                    drives = true;
                }
                Err(error) => return Err(error).context("hear the kernel's uevents"),
            }
        }
    }

    fn heard(&mut self, event: &Uevent) -> bool {
        self.last_news = Instant::now();
        if let Some(alias) =
            event.fields.get("MODALIAS").filter(|_| matches!(event.action.as_str(), "add" | "change"))
        {
            let bus = event.fields.get("SUBSYSTEM").map_or("", String::as_str);
            let name = event.path.rsplit('/').next().unwrap_or_default();
            if event.action == "add" {
                self.loader.came(alias, Instant::now());
            }
            self.want(bus, name, alias, host::devices::is_network(alias));
        }
        // By hand, perhaps: a driver that nobody asked devd for may still find devices.
        self.drivers_came |=
            event.action == "add" && event.fields.get("SUBSYSTEM").map(String::as_str) == Some("module");
        if event.fields.get("SUBSYSTEM").map(String::as_str) == Some("virtio-ports") {
            ports::link(&self.root, Path::new(PORTS));
        }
        if event.fields.get("SUBSYSTEM").map(String::as_str) != Some("block") {
            return false;
        }
        // `cciss/c0d0` here, `cciss!c0d0` in sysfs.
        let name = event.fields.get("DEVNAME").map(|name| name.replace('/', "!")).unwrap_or_default();
        self.contents.forget(&name);
        if self.failed.get(&name).is_some_and(|trouble| !trouble.hangs()) {
            self.failed.remove(&name); // tried again
        }
        if matches!(event.action.as_str(), "add" | "remove") {
            // A partition that a re-read table brings has a flag of its own that is not set.
            self.own.remove(&name);
        }
        if event.action == "remove"
            && event.fields.get("DEVTYPE").map(String::as_str) == Some("disk")
            && let Some(diskseq) = event.fields.get("DISKSEQ").and_then(|seq| seq.parse().ok())
        {
            self.forget(diskseq);
        }
        self.to_look = true;
        let path = event.path.strip_prefix("/devices/").map(str::to_string);
        let hardware = Hardware { path, ..Hardware::default() };
        !Block { name, hardware, ..Block::default() }.is_virtual()
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

    /// Looks at every block device: brings the flags in line with the consents, then the links with
    /// what is known, and has read what is not.
    fn look(&mut self) {
        let began = Instant::now();
        self.look_at_all();
        let took = began.elapsed();
        (self.to_look, self.answered) = (false, None);
        self.rested = Instant::now() + if took > LONG { took * PAUSE } else { Duration::ZERO };
    }

    fn look_at_all(&mut self) {
        let facts = host::sysfs::facts(&self.root);
        self.consents = host::consents::read(&self.root);
        self.note_disks(&facts.blocks);
        // A disk that came back after all is looked at anew.
        let back = come_back(&mut self.failed, &facts);
        self.contents.came_back(&facts, &back);
        self.contents.retain(&facts);
        let unguarded = self.guard(&facts);
        self.announce(&unguarded);
        self.read(&facts, &unguarded);
        self.link(&facts);
    }

    /// Sets flags by workers on a thread of its own, since a disk that hangs holds them for the whole
    /// deadline. Returns the devices whose flag is not (yet) what it should be.
    fn guard(&mut self, facts: &Facts) -> BTreeSet<String> {
        if self.off {
            return BTreeSet::new();
        }
        let wrong = guard::corrections(facts, &self.own, &self.consents);
        let wanted: BTreeSet<&str> = wrong.iter().map(|(name, _)| name.as_str()).collect();
        self.failed.retain(|name, trouble| trouble.hangs() || wanted.contains(name.as_str()));
        let now = Instant::now();
        let may_try = |name: &str| may_be_set(&self.failed, name, now);
        let by_name: BTreeMap<&str, &Block> =
            facts.blocks.iter().map(|block| (block.name.as_str(), block)).collect();
        let jobs: Vec<(String, bool, Job)> = wrong
            .iter()
            .filter(|(name, _)| !self.asked.contains(name) && may_try(name))
            .filter_map(|(name, read_only)| {
                let block = by_name.get(name.as_str())?;
                let (path, read_only) = (block.path(), *read_only);
                let request = WorkerRequest::SetReadOnly { path: path.clone(), read_only };
                Some((name.clone(), read_only, Job { diskseq: block.diskseq, path, request }))
            })
            .collect();
        let unguarded = wrong.into_iter().map(|(name, _)| name).chain(self.asked.iter().cloned()).collect();
        if jobs.is_empty() {
            return unguarded;
        }
        self.asked.extend(jobs.iter().map(|(name, _, _)| name.clone()));
        let (names, jobs): (Vec<(String, bool)>, Vec<Job>) =
            jobs.into_iter().map(|(name, read_only, job)| ((name, read_only), job)).unzip();
        let (root, tell, asked) = (self.root.clone(), self.tell(), names.clone());
        let told = |(name, read_only), outcome| Told::Guarded { name, read_only, outcome };
        let started = std::thread::Builder::new().spawn(move || {
            let told = |job: usize, outcome| tell.tell(told(names[job].clone(), outcome));
            Pool::new(root).run_each::<()>(&jobs, DEADLINE, told);
        });
        if let Err(error) = started {
            let (tell, why) = (self.tell(), format!("start a thread for its flag: {error}"));
            asked.into_iter().for_each(|name| tell.tell(told(name, Outcome::NotStarted(why.clone()))));
        }
        unguarded
    }

    /// Has devices read by workers, as many at once as there are.
    fn read(&mut self, facts: &Facts, unguarded: &BTreeSet<String>) {
        let hung = facts.blocks.iter().filter(|block| {
            self.failed.get(&block.name).is_some_and(Trouble::hangs)
                || facts.hung.iter().any(|(seq, _)| Some(*seq) == block.diskseq)
        });
        let hung: BTreeSet<String> = hung.map(|block| block.name.clone()).collect();
        let is_guarded = |block: &Block| !unguarded.contains(&block.name);
        let jobs = self.contents.wanting(facts, &hung, is_guarded);
        self.unread = !jobs.is_empty();
        let now = Instant::now();
        if jobs.is_empty() || !self.may_read || self.contents.gathers(now) {
            return;
        }
        self.contents.begun(facts, &jobs.iter().map(|(name, _)| name.clone()).collect(), now);
        self.unread = false;
        let (names, jobs): (Vec<String>, Vec<Job>) = jobs.into_iter().unzip();
        let (root, tell, asked) = (self.root.clone(), self.tell(), names.clone());
        let started = std::thread::Builder::new().spawn(move || {
            // Of this thread, and so of the workers that it starts; failing costs the others a little.
            let _ = rustix::process::setpriority_process(None, READERS_NICE);
            let told = |job: usize, outcome| {
                tell.tell(Told::Read { name: names[job].clone(), outcome: Box::new(outcome) })
            };
            Pool::new(root).run_each::<DiskReport>(&jobs, DEADLINE, told);
        });
        if let Err(error) = started {
            let why = format!("start a thread that has it read: {error}");
            let tell = self.tell();
            let told = |name| Told::Read { name, outcome: Box::new(Outcome::NotStarted(why.clone())) };
            asked.into_iter().for_each(|name| tell.tell(told(name)));
        }
    }

    fn tell(&self) -> Tell {
        Tell { results: self.results.0.clone(), wake: self.wake.try_clone().ok() }
    }

    fn link(&mut self, facts: &Facts) {
        let plan = links::plan(&self.root, facts, &self.contents.reports);
        links::apply(&plan.links, &self.contents.unread(facts), Path::new("/dev/disk"));
        links::map(facts, || host::sysfs::facts(&self.root), Path::new("/dev/mapper"));
        for (link, winner, rivals) in &plan.doubled {
            let text = format!("/dev/disk/{link} is {winner}; {} would be it too", rivals.join(", "));
            if self.told.insert(text.clone()) {
                host::log!("{text}");
            }
        }
        self.doubled = links::warnings(&plan);
    }

    /// Takes what the threads found out; whether it was anything.
    fn collect(&mut self) -> bool {
        let mut any = false;
        while let Ok(told) = self.results.1.try_recv() {
            any = true;
            match told {
                Told::Guarded { name, read_only, outcome } => {
                    self.asked.remove(&name);
                    match outcome {
                        Outcome::Done(()) => {
                            self.failed.remove(&name);
                            self.own.insert(name, read_only);
                        }
                        Outcome::Failed(why) | Outcome::NotStarted(why) => {
                            not_set(&mut self.failed, name, why, Instant::now());
                        }
                        Outcome::Hung(why) => hangs(&mut self.failed, name, why),
                    }
                }
                Told::Read { name, outcome } => {
                    if let Outcome::Hung(why) = &*outcome {
                        hangs(&mut self.failed, name.clone(), why.clone());
                    }
                    self.contents.learn(&name, *outcome, Instant::now());
                }
            }
        }
        if any {
            self.last_news = Instant::now();
        }
        any
    }

    fn note_disks(&mut self, blocks: &[Block]) {
        let now: BTreeMap<String, u64> = blocks
            .iter()
            .filter(|block| block.partition.is_none())
            .filter_map(|block| Some((block.name.clone(), guarded(block)?.diskseq)))
            .collect();
        for (name, diskseq) in &now {
            if self.disks.get(name) != Some(diskseq) {
                self.failed.remove(name); // another disk under the same name
            }
        }
        for name in self.announced.keys().filter(|name| !now.contains_key(*name)) {
            host::events::tell(&Event::DiskGone { name: name.clone() });
        }
        self.announced.retain(|name, _| now.contains_key(name));
        let names: BTreeSet<&String> = blocks.iter().map(|block| &block.name).collect();
        self.failed.retain(|name, _| names.contains(name));
        let parent = |block: &Block| Some((block.name.clone(), block.partition.as_ref()?.disk.clone()));
        self.parents = blocks.iter().filter_map(parent).collect();
        self.disks = now;
    }

    /// Tells of each disk once its flag is set, or is known not to be.
    fn announce(&mut self, unguarded: &BTreeSet<String>) {
        let is_told = |name: &String, diskseq: &u64| self.announced.get(name) == Some(diskseq);
        let new = self.disks.iter().filter(|(name, diskseq)| !is_told(name, diskseq));
        let known = new.filter(|(name, _)| is_known(name, unguarded, &self.failed));
        let known: Vec<(String, u64)> = known.map(|(name, diskseq)| (name.clone(), *diskseq)).collect();
        for (name, diskseq) in known {
            let guarded = self.guard_of(&name, diskseq).0 == GUARDED;
            host::events::tell(&Event::Disk { name: name.clone(), diskseq, guarded });
            self.announced.insert(name, diskseq);
        }
    }

    /// Modules of the layers become visible all at once: look at what still has no driver. A layer may come later, too.
    fn look_at_layers(&mut self) {
        let layers: state::Layers = host::statefile::read("layers");
        // Layers that could not be mounted never say that they are done: init says that they failed.
        let failed = || {
            let init: state::Init = host::statefile::read("init");
            init.services.iter().any(|service| service.name == "layers" && service.state == "failed")
        };
        let (seen, done) = (layers.mounted().count(), self.layers_done || layers.done || failed());
        if (seen, done) != (self.layers_seen, self.layers_done) {
            (self.layers_seen, self.layers_done) = (seen, done);
            self.loader.reread(done);
            self.plug_in();
            if done {
                self.firmware.begin();
            }
        }
    }

    /// Other devices, and reading, wait until the first login no longer waits for the processor.
    fn look_whether_to_go_on(&mut self) {
        if self.may_read && self.plugged_in {
            return;
        }
        let netd: state::Netd = host::statefile::read("netd");
        let has_address = netd.links.iter().any(|link| !link.addresses.is_empty());
        if !self.plugged_in && (has_address || self.began.elapsed() >= NETWORK_FIRST) {
            self.plug_in();
        }
        if !self.may_read && (has_address || self.layers_done || self.began.elapsed() >= LOGIN_FIRST) {
            self.may_read = true;
            self.look();
        }
    }

    fn look_whether_settled(&mut self) {
        let quiet = self.plugged_in && self.is_idle() && self.last_news.elapsed() >= QUIET;
        if !self.settled && quiet && self.may_read && self.layers_done {
            self.settled = true;
            host::events::tell(&Event::Settled { disks: self.disks.len() as u32 });
        }
    }

    /// What a person is told of one disk: the worst of it and its partitions, and why.
    fn guard_of(&self, disk: &str, diskseq: u64) -> (&'static str, Option<String>) {
        let own = |name: &String| name == disk || self.parents.get(name).is_some_and(|of| of == disk);
        let failed = || self.failed.iter().filter(|(name, _)| own(name));
        if let Some((_, trouble)) = failed().find(|(_, trouble)| trouble.hangs()) {
            return ("hung", Some(trouble.why.clone()));
        }
        if let Some((_, trouble)) = failed().next() {
            return ("writable", Some(trouble.why.clone()));
        }
        match self.consents.iter().find(|consent| consent.diskseq == diskseq) {
            _ if self.off => ("writable", None),
            Some(consent) => ("writable", Some(consent.by.clone())),
            None => (GUARDED, None),
        }
    }

    fn publish(&mut self) {
        let disks = self.disks.iter().map(|(name, diskseq)| {
            let (guard, note) = self.guard_of(name, *diskseq);
            state::Disk { name: name.clone(), diskseq: *diskseq, guard: guard.to_string(), note }
        });
        // Once for a disk that hangs, not for each of its partitions.
        let is_told = |name: &String, hung: bool| {
            let disk = self.parents.get(name).and_then(|disk| self.failed.get(disk));
            hung && disk.is_some_and(Trouble::hangs)
        };
        let troubled = self.failed.iter().filter(|(name, trouble)| !is_told(name, trouble.hangs()));
        let troubled = troubled.map(|(name, trouble)| match trouble {
            Trouble { why, again: None } => {
                format!("{why}: {name} is left alone; the other disks are not affected")
            }
            Trouble { why, again: Some(_) } => format!("{name} is not guarded: {why}"),
        });
        let state = state::Devd {
            settled: self.settled,
            writable: self.off,
            disks: disks.collect(),
            problems: troubled
                .chain(self.doubled.clone())
                .chain(self.loader.problems())
                .chain(self.firmware.problems(&self.root))
                .collect(),
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

    /// Takes one question; whether the devices are to be looked at for it.
    fn accept(&mut self) -> bool {
        let Ok(connection) = rustix::net::accept_with(&self.control, rustix::net::SocketFlags::CLOEXEC)
        else {
            return false;
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
            Err(error) => {
                reply(&connection, &Reply::Failed { error: error.to_string() });
                return false;
            }
        };
        let (time, look) = match &request {
            DevdRequest::Settle { timeout_ms } => (Duration::from_millis(*timeout_ms), false),
            DevdRequest::Module { name } => {
                self.loader.want_again(name);
                (loader::PATIENCE, false)
            }
            DevdRequest::Guard => {
                // A flag that was cleared once may have been set by hand since.
                self.own.retain(|_, read_only| *read_only);
                self.failed.retain(|_, trouble| trouble.hangs());
                (DEADLINE, true)
            }
        };
        self.pending.push(Pending { connection, request, until: Instant::now() + time });
        look
    }

    fn answer(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        for one in pending {
            let answer = match &one.request {
                DevdRequest::Settle { .. } if self.settled && self.is_idle() => Some(Reply::Done),
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

/// How a thread tells what it found out.
struct Tell {
    results: Sender<Told>,
    wake: Option<PipeWriter>,
}

impl Tell {
    fn tell(&self, told: Told) {
        // The receiver lives as long as the process.
        let _ = self.results.send(told);
        // A full pipe has woken it already.
        let _ = self.wake.as_ref().map(|mut wake| wake.write_all(b"t"));
    }
}

fn hangs(failed: &mut Failed, name: String, why: String) {
    failed.insert(name, Trouble { why, again: None });
}

/// Its flag could not be set, once more perhaps: it is tried again.
fn not_set(failed: &mut Failed, name: String, why: String, now: Instant) {
    let before = failed.get(&name).and_then(|trouble| trouble.again);
    failed.insert(name, Trouble { why, again: Some(Again::after(before.as_ref(), now)) });
}

/// Whether nothing is known against setting its flag, or the time has come to try again.
fn may_be_set(failed: &Failed, name: &str, now: Instant) -> bool {
    failed.get(name).is_none_or(|trouble| trouble.is_due(now))
}

/// Whether it is known what became of its flag.
fn is_known(name: &str, unguarded: &BTreeSet<String>, failed: &Failed) -> bool {
    !unguarded.contains(name) || failed.contains_key(name)
}

/// When the next of those flags that nobody sets now is tried again.
fn next_flag(failed: &Failed, asked: &BTreeSet<String>) -> Option<Instant> {
    let waiting = failed.iter().filter(|(name, _)| !asked.contains(*name));
    waiting.filter_map(|(_, trouble)| Some(trouble.again?.at)).min()
}

/// Takes out those that hang no more.
fn come_back(failed: &mut Failed, facts: &Facts) -> BTreeSet<String> {
    let hangs = |seq: u64| facts.hung.iter().any(|(hung, _)| *hung == seq);
    let answers = |block: &&Block| block.diskseq.is_some_and(|seq| !hangs(seq));
    let answering = facts.blocks.iter().filter(answers).map(|block| &block.name);
    let back: BTreeSet<String> =
        answering.filter(|name| failed.get(*name).is_some_and(Trouble::hangs)).cloned().collect();
    failed.retain(|name, _| !back.contains(name));
    back
}

fn reply(connection: &OwnedFd, answer: &Reply) {
    if let Err(error) = host::ask::reply(connection, answer) {
        host::log!("answer a question: {error}");
    }
}

/// The state files, which wake only, and the consents, with their number.
fn watch() -> Result<(OwnedFd, i32)> {
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    let states = inotify::WatchFlags::MOVED_TO;
    inotify::add_watch(&watch, paths::STATE, states).with_context(|| format!("watch {}", paths::STATE))?;
    let changes = inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::DELETE;
    let consents = inotify::add_watch(&watch, paths::CONSENT, changes)
        .with_context(|| format!("watch {}", paths::CONSENT))?;
    Ok((watch, consents))
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::facts::Partition;

    #[test]
    fn a_flag_that_could_not_be_set_is_tried_again_and_one_of_a_disk_that_hangs_is_not() {
        let (mut failed, nobody, began) = (Failed::new(), BTreeSet::new(), Instant::now());
        hangs(&mut failed, "sdb".to_string(), "did not answer".to_string());
        assert!(!may_be_set(&failed, "sdb", began + DEADLINE * 1000));
        assert_eq!(next_flag(&failed, &nobody), None);
        let mut now = began;
        for pause in [5, 10, 20] {
            not_set(&mut failed, "sda".to_string(), "out of memory".to_string(), now);
            let next = next_flag(&failed, &nobody).unwrap();
            assert_eq!(next.duration_since(now).as_secs(), pause);
            assert!(!may_be_set(&failed, "sda", now), "after {pause} s only");
            assert!(may_be_set(&failed, "sda", next));
            let asked = BTreeSet::from(["sda".to_string()]);
            assert_eq!(next_flag(&failed, &asked), None, "nothing wakes for one that is being set");
            now = next;
        }
        failed.remove("sda");
        assert!(may_be_set(&failed, "sda", began));
    }

    #[test]
    fn what_became_of_a_flag_is_known_once_it_is_set_or_could_not_be() {
        let (mut failed, unguarded) = (Failed::new(), ["sda", "sdb", "sdc"].map(String::from).into());
        hangs(&mut failed, "sdb".to_string(), "did not answer".to_string());
        not_set(&mut failed, "sdc".to_string(), "out of memory".to_string(), Instant::now());
        for (name, known) in [("sda", false), ("sdb", true), ("sdc", true), ("sdd", true)] {
            assert_eq!(is_known(name, &unguarded, &failed), known, "{name}");
        }
    }

    #[test]
    fn a_disk_that_hung_is_read_with_its_partitions_once_it_answers() {
        let disk = |name: &str, seq: u64| Block {
            name: name.to_string(),
            major: 8,
            diskseq: Some(seq),
            size: 1 << 30,
            ..Block::default()
        };
        let partition = Partition { disk: "sda".to_string(), number: 1, start: 0 };
        let sda1 = Block { name: "sda1".to_string(), partition: Some(partition), ..disk("sda", 1) };
        let mut facts = Facts { blocks: vec![disk("sda", 1), sda1, disk("sdb", 2)], ..Facts::default() };
        let mut contents = Contents::new().unwrap();
        let now = Instant::now();
        contents.begun(&facts, &["sda", "sda1", "sdb"].map(String::from).into(), now);
        contents.learn("sda", Outcome::Hung("read did not return".to_string()), now);
        contents.learn("sda1", Outcome::Failed("its disk hangs".to_string()), now);
        contents.learn("sdb", Outcome::Done(DiskReport::default()), now);
        let mut failed = Failed::new();
        hangs(&mut failed, "sda".to_string(), "read did not return".to_string());
        let wanted = |contents: &Contents, facts: &Facts| -> Vec<String> {
            let jobs = contents.wanting(facts, &BTreeSet::new(), |_| true);
            jobs.into_iter().map(|(name, _)| name).collect()
        };

        facts.hung = vec![(1, "read did not return".to_string())];
        let back = come_back(&mut failed, &facts);
        contents.came_back(&facts, &back);
        assert_eq!((failed.len(), wanted(&contents, &facts)), (1, Vec::new()), "it still hangs");

        facts.hung.clear();
        let back = come_back(&mut failed, &facts);
        contents.came_back(&facts, &back);
        let both = vec!["sda".to_string(), "sda1".to_string()];
        assert_eq!((failed.len(), wanted(&contents, &facts)), (0, both));
    }
}
