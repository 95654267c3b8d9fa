//! The network bring-up. What is asked of the network is a plan (tools/network), by the boot parameters and by whoever asks
//! later: interfaces are made and joined (links), addresses stated or leased (dhcp) on every wired NIC at once, and every
//! address answers by its own gateway (routing). IPv6 by routers is the kernel's; netd mirrors its routers, and hears
//! their name servers.
//!
//! One thread, one wait. What it configured stays when it dies: it is in the kernel, leases have their lifetime there,
//! and its next life takes up the leases that it wrote down and compares the rest with its plan.
//!
//! Of an interface that is not in the plan and no card, and of a port of another one, it leaves everything as it is.

mod arp;
mod clock;
mod dhcp;
mod dhcp6;
mod failures;
mod four;
#[doc(hidden)]
#[cfg(feature = "fuzz")]
pub mod hostile;
mod links;
mod loading;
mod look;
mod nics;
mod ntp;
mod offers;
mod ours;
mod params;
mod plans;
mod problems;
mod routing;
mod rtc;
mod rtnl;
mod six;

use anyhow::{Context as _, Result};
use clock::Clock;
use contract::event::{Event, Severity};
use contract::wire::{NetdRequest, Offer, Reply};
use contract::{paths, state};
use dhcp::machine::{Client, Held};
use host::Root;
use host::sys::netlink;
use links::{Adopted, Seen, Step};
use loading::Loading;
use look::{Item, Look, Stage};
use network::{Ipv6, Plan, Selector};
use nics::{Nic, Presence};
use offers::{Kind, Offers};
use ours::Ours;
use plans::{Plans, Taken};
use problems::Problems;
use routing::{Routing, Uplink};
use rtnl::{Change, Given, Said};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// Leases, for the next life of this process.
const LEASES: &str = "/run/lifeboat/state/netd-leases.json";
/// Packets of one socket that are looked at before everything else has its turn: whoever floods a link must not keep netd from
/// the others, and from renewing.
const TURN: usize = 64;
/// Bytes of events of the kernel that wait.
const EVENTS: usize = 4 << 20;
/// Largest packet of a link.
const PACKET: usize = 65_536;
/// Until a step that was refused is tried again: its firmware may come with a layer.
const RETRY: Duration = Duration::from_secs(5);
/// Until a stated address is given again that went without netd: whoever deletes it again and again is met once a second.
const GIVE_AGAIN: Duration = Duration::from_secs(1);
/// How long an interface that was named is waited for, before its entry may be done with another one.
const LATE: Duration = Duration::from_secs(10);
/// How long answers to the probe of a stated address are listened for.
const PROBE: Duration = Duration::from_secs(3);
/// DHCPv6 says nothing of who else is on the link: routers do (RFC 8415 section 18.2.10.1).
const SIX_PREFIX: u8 = 128;
/// Descriptors that are waited for beside those of the links.
const OWN: usize = 3;
/// Of what one link's routers say, and of the routes beside netd's own.
const MOST_ADVERTISED: usize = 16;

/// The service.
pub fn main() -> ExitCode {
    match Netd::start().and_then(|mut netd| netd.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            host::log!("netd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What a socket of a link hears.
#[derive(Clone, Copy)]
enum Heard {
    Dhcp,
    Dhcp6,
    Arp,
    /// Of no link.
    Time,
    Offer,
}

/// The open sockets of a link.
fn heard(nic: &Nic) -> Vec<(Heard, &OwnedFd)> {
    let all = [(Heard::Dhcp, &nic.socket), (Heard::Dhcp6, &nic.six_socket), (Heard::Arp, &nic.arp)];
    all.into_iter().filter_map(|(kind, socket)| Some((kind, socket.as_ref()?))).collect()
}

/// What is written down.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Leases {
    /// By MAC or name.
    four: BTreeMap<String, Held>,
    six: BTreeMap<String, dhcp6::machine::Held>,
    /// What routers said that the kernel does not keep. They say it when an interface comes up, and then seldom.
    routers: BTreeMap<String, nics::Names>,
    /// Stated addresses that the kernel was given, by index: a life that ends before it takes away what a newer plan does not
    /// have leaves that to the next one.
    given: BTreeMap<u32, Vec<network::Address>>,
    /// Likewise routes and rules.
    routing: Routing,
    /// This machine's DUID.
    identifier: Vec<u8>,
}

/// What a request to the kernel was about.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Asked {
    /// A dump.
    Look(Stage),
    Step(Step),
    /// What may be gone already.
    Gone(&'static str),
    /// Anything else, in words that complete "failed to".
    Other(String),
}

struct Netd {
    root: Root,
    plans: Plans,
    adopted: Adopted,
    netlink: OwnedFd,
    control: OwnedFd,
    loading: Loading,
    offers: Offers,
    clock: Clock,
    sequence: u32,
    /// What was asked, for the answer that says no.
    asked: BTreeMap<u32, Asked>,
    /// Steps that were refused or had no effect, and when they are tried again.
    refused: BTreeMap<Step, Duration>,
    nics: BTreeMap<u32, Nic>,
    /// Interfaces that were brought up once.
    raised: BTreeSet<u32>,
    look: Look,
    /// The interfaces that there were at the start are known, and their addresses.
    is_counted: bool,
    applied: Routing,
    /// Links of which the kernel may have dropped routes by itself, as with an address that they were sent from.
    dropped: BTreeSet<u32>,
    /// Routes and rules of an earlier life, until it is clear which of them are asked for still.
    before: Routing,
    leases: Leases,
    /// Links that got an address so far.
    counted: u64,
    /// When [`LATE`] is over.
    late: Duration,
    problems: Problems,
    published: Option<state::Netd>,
    resolver: String,
    hostname: String,
}

/// What the kernel does of every link (Documentation/networking/ip-sysctl.rst), in the order of family and name.
const SYSCTLS: &[(&str, &str)] = &[
    // Else it takes away with an address those that came to its subnet later, as a stated one beside a lease.
    ("ipv4", "promote_secondaries"),
    // Else the route to the subnet of a card without a cable hides the same subnet behind another card.
    ("ipv4", "ignore_routes_with_linkdown"),
    ("ipv6", "ignore_routes_with_linkdown"),
];

/// Routers speak by themselves as well, if late.
fn solicit_routers(index: u32, nic: &Nic) {
    let name = &nic.link.name;
    if let Err(error) = host::sys::packet::solicit_routers(name, index) {
        host::log!("{name}: ask for routers: {error}");
    }
}

impl Netd {
    fn start() -> Result<Netd> {
        let root = Root::live()?;
        let (booted, wish) = params::read(&host::params::read(&root));
        let plans = Plans::start(booted);
        let offers = Offers::new(wish, &plans.looked, now());
        let groups = rtnl::GROUP_LINK
            | rtnl::GROUP_IPV4_ADDRESS
            | rtnl::GROUP_IPV4_ROUTE
            | rtnl::GROUP_IPV6_ADDRESS
            | rtnl::GROUP_IPV6_ROUTE
            | rtnl::GROUP_IPV6_FLAGS
            | rtnl::GROUP_ROUTER_OPTION;
        let netlink = netlink::socket(groups).context("open a route netlink socket")?;
        // A router may send more at once than fits by default. With less, what was lost is looked for.
        if let Err(error) = rustix::net::sockopt::set_socket_recv_buffer_size_force(&netlink, EVENTS) {
            host::log!("the buffer for events: {error}");
        }
        let control = host::ask::listen("netd").context("listen for questions")?;
        let leases = std::fs::read(LEASES).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let leases: Leases = leases.unwrap_or_default();
        let (clock, wrong_clock) = Clock::start(&root);
        let mut netd = Netd {
            root,
            clock,
            offers,
            problems: Problems::default(),
            plans,
            adopted: Adopted::new(),
            netlink,
            control,
            loading: Loading::new().context("make a pipe")?,
            sequence: 0,
            asked: BTreeMap::new(),
            refused: BTreeMap::new(),
            nics: BTreeMap::new(),
            raised: BTreeSet::new(),
            look: Look::default(),
            is_counted: false,
            applied: Routing::default(),
            dropped: BTreeSet::new(),
            before: leases.routing.clone(),
            leases,
            counted: 0,
            late: now() + LATE,
            published: None,
            resolver: String::new(),
            hostname: String::new(),
        };
        for problem in troubles(&netd.plans.current) {
            netd.problem(problem);
        }
        if let Some(line) = wrong_clock {
            netd.problem(line);
        }
        for (setting, which) in SYSCTLS.iter().flat_map(|row| ["all", "default"].map(|which| (row, which))) {
            let path = format!("/proc/sys/net/{}/conf/{which}/{}", setting.0, setting.1);
            match std::fs::write(&path, "1") {
                // Without IPv6 there is nothing of it.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && setting.0 == "ipv6" => {}
                Err(error) => netd.problem(format!("write {path}: {error}")),
                Ok(()) => {}
            }
        }
        // lo is always the first.
        netd.ask(Asked::Other("bring up lo".to_string()), |sequence| {
            rtnl::change_link(sequence, 1, &Change::Up)
        });
        netd.look.begin(now());
        netd.look_on();
        Ok(netd)
    }

    /// The next dump.
    fn look_on(&mut self) {
        if let Some((stage, is_over)) = self.look.tick(now()) {
            self.asked.retain(|_, asked| !matches!(asked, Asked::Look(_)));
            self.is_counted |= is_over;
            self.problem(format!("{}: the kernel does not come to an end", words(&Asked::Look(stage))));
        }
        let Some(stage) = self.look.next(now()) else { return };
        let had = self.nics.values().flat_map(Nic::items).filter(|item| item.stage() == stage).collect();
        self.look.asked(had);
        self.ask(
            Asked::Look(stage),
            match stage {
                Stage::Links => rtnl::dump_links,
                Stage::Addresses => rtnl::dump_addresses,
                Stage::Routes => rtnl::dump_ipv4_routes,
                Stage::Routers => rtnl::dump_ipv6_routes,
            },
        );
    }

    fn run(&mut self) -> Result<()> {
        let mut ready = false;
        loop {
            self.settle();
            if !ready {
                host::events::tell(&Event::ready("netd"));
                ready = true;
            }
            let timeout = self.due().map(|due| due.saturating_sub(now()));
            let timeout = timeout
                .map(|t| Timespec { tv_sec: t.as_secs().cast_signed(), tv_nsec: t.subsec_nanos().into() });
            let own: [&OwnedFd; OWN] = [&self.netlink, &self.control, &self.loading.waker];
            let mut fds: Vec<PollFd<'_>> = own.into_iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
            let of_nic = |(index, nic)| heard(nic).into_iter().map(move |(kind, fd)| (index, kind, fd));
            let clock = self.clock.socket().map(|socket| (&0, Heard::Time, socket));
            let offer = self.offers.pipe().map(|pipe| (&0, Heard::Offer, pipe));
            let sockets: Vec<(&u32, Heard, &OwnedFd)> =
                self.nics.iter().flat_map(of_nic).chain(clock).chain(offer).collect();
            fds.extend(sockets.iter().map(|(.., socket)| PollFd::new(*socket, PollFlags::IN)));
            let sockets: Vec<(u32, Heard)> =
                sockets.into_iter().map(|(index, kind, _)| (*index, kind)).collect();
            match poll(&mut fds, timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let woken: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            if woken[0] {
                self.hear()?;
            }
            if woken[1] {
                self.answer();
            }
            for problem in self.loading.heard(now()) {
                self.problem(problem);
            }
            for (position, (index, kind)) in sockets.into_iter().enumerate() {
                match kind {
                    _ if !woken[position + OWN] => {}
                    Heard::Dhcp => self.receive(index),
                    Heard::Dhcp6 => self.receive_six(index),
                    Heard::Arp => self.receive_arp(index),
                    Heard::Time => self.receive_time(),
                    Heard::Offer => self.receive_offer(),
                }
            }
            self.tick();
        }
    }

    /// When there is something to do without being woken.
    fn due(&self) -> Option<Duration> {
        let now = now();
        let client = |nic: &Nic| nic.client.as_ref().map(|client| client.wake());
        let probe = |nic: &Nic| nic.probing.iter().map(|(_, until)| *until).min();
        let ends = |nic: &Nic| {
            let ends =
                nic.said.servers.iter().map(|(_, end)| end).chain(nic.said.search.iter().map(|(_, end)| end));
            ends.filter(|end| **end > now).min().copied()
        };
        let again = |nic: &Nic| nic.withheld.values().filter(|time| **time > now).min().copied();
        let six = |nic: &Nic| {
            let waiting = nic.six_due().filter(|due| *due > now);
            nic.six.as_ref().map(|six| six.wake()).into_iter().chain(waiting).min()
        };
        let seeks = |nic: &Nic| nic.seeks.first().copied();
        let of_nic = |nic: &Nic| [client(nic), six(nic), probe(nic), ends(nic), again(nic), seeks(nic)];
        let of_nics = self.nics.values().flat_map(of_nic).flatten();
        let late = Some(self.late).filter(|late| *late > now);
        let refused = self.refused.values().copied();
        let clock = self.clock.due(now);
        let due = of_nics
            .chain(self.plans.due())
            .chain(self.offers.due(self.has_address()).filter(|_| self.plans.trial.is_none()))
            .chain(clock)
            .chain(late)
            .chain(refused)
            .chain(self.loading.due())
            .chain(self.look.due())
            .min();
        due.filter(|due| *due < Duration::MAX)
    }

    /// What is due now.
    fn tick(&mut self) {
        let now = now();
        self.refused.retain(|_, time| *time > now);
        self.look_on();
        // Not while a person tries something, who may be about to keep it.
        if self.plans.trial.is_none()
            && let Err(problem) = self.offers.start(self.has_address(), now)
        {
            self.problem(problem);
        }
        // Whoever was started to look for settings, and has said what there is.
        while host::sys::process::reap().is_some() {}
        if self.plans.due().is_some_and(|end| end <= now) {
            self.revert("nobody kept what was tried");
        }
        for (index, nic) in &mut self.nics {
            nic.probing.retain(|(_, until)| *until > now);
            nic.stop_listening();
            let waiting = nic.seeks.len();
            nic.seeks.retain(|due| *due > now);
            if nic.seeks.len() < waiting {
                solicit_routers(*index, nic);
            }
        }
        let is_due = |nic: &Nic| nic.client.as_ref().is_some_and(|client| client.wake() <= now);
        let due: Vec<u32> =
            self.nics.iter().filter(|(_, nic)| is_due(nic)).map(|(index, _)| *index).collect();
        for index in due {
            self.step(index, dhcp::machine::Event::Timer);
        }
        let is_due = |nic: &Nic| nic.six.as_ref().is_some_and(|six| six.wake() <= now);
        let due: Vec<u32> =
            self.nics.iter().filter(|(_, nic)| is_due(nic)).map(|(index, _)| *index).collect();
        for index in due {
            self.step_six(index, dhcp6::machine::Event::Timer);
        }
    }

    /// Whether somebody can reach this machine, or may be able to: what there was at the start is not known at once.
    fn has_address(&self) -> bool {
        !self.is_counted || self.counting().any(|nic| nic.is_ours() && !nic.addresses.is_empty())
    }

    /// Not what leads to a BMC.
    fn counting(&self) -> impl Iterator<Item = &Nic> {
        let seen: Vec<Seen<'_>> = self.nics.values().map(Nic::seen).collect();
        let is_late = now() >= self.late;
        let counts = move |nic: &&Nic| links::counts(&self.plans.current, &nic.seen(), &seen, is_late);
        self.nics.values().filter(counts)
    }

    /// Settings that were looked for without a person.
    fn receive_offer(&mut self) {
        let Some((kind, said)) = self.offers.heard(now()) else { return };
        let what = match kind {
            Kind::Seed => "a volume made for this machine",
            Kind::Borrow => "rescue.net=borrow",
        };
        let offer = said.unwrap_or_else(|reason| Offer { reason: Some(reason), ..Offer::default() });
        for note in offer.notes {
            self.problem(format!("{what}: {note}"));
        }
        // An address that is only tried may go again.
        let is_needed = kind == Kind::Seed || self.plans.trial.is_some() || !self.has_address();
        let seen: Vec<Seen<'_>> = self.nics.values().map(Nic::seen).collect();
        let is_same = |one: &Selector, other: &Selector| links::is_same(&seen, one, other);
        match offer.plan.map(serde_json::from_value::<Plan>) {
            Some(Ok(_)) if !is_needed => {
                host::log!("{what}: not needed any more: {}", offer.origin);
            }
            Some(Ok(plan)) => match self.plans.take_in(kind, plan, offer.origin.clone(), &is_same) {
                Taken::In => self.tell_origin(),
                Taken::Waits => host::events::tell(&Event::Notice {
                    severity: Severity::Info,
                    text: format!(
                        "{} has settings of the network: they are used if what is being tried is taken back",
                        offer.origin
                    ),
                }),
                Taken::Late => {
                    host::log!("{what}: not used, the network was set by hand: {}", offer.origin);
                }
            },
            Some(Err(error)) => self.problem(format!("{what}: read the plan: {error}")),
            None => {
                let reason = offer.reason.unwrap_or_default();
                match kind {
                    // A volume that brings keys alone is nothing to tell.
                    Kind::Seed => host::log!("{what}: {reason}"),
                    Kind::Borrow => self.problem(format!("{what}: {reason}")),
                }
            }
        }
        if !self.plans.looked.contains(&kind) {
            self.plans.looked.push(kind);
        }
        self.replan();
    }

    fn tell_origin(&self) {
        host::events::tell(&Event::Notice {
            severity: Severity::Info,
            text: format!("the network is set up by {}, beside DHCP", self.plans.origin),
        });
    }

    /// Everything is looked at again by another plan.
    fn replan(&mut self) {
        self.adopted.clear();
        self.refused.clear();
        self.late = now() + LATE;
        self.save_plans();
        for problem in troubles(&self.plans.current) {
            self.problem(problem);
        }
    }

    fn save_plans(&mut self) {
        if let Err(error) = self.plans.save() {
            self.problem(format!("write down the plan: {error}"));
        }
    }

    fn revert(&mut self, why: &str) -> bool {
        let is_more = !self.plans.waiting.is_empty();
        let seen: Vec<Seen<'_>> = self.nics.values().map(Nic::seen).collect();
        if !self.plans.revert(&|one, other| links::is_same(&seen, one, other)) {
            return false;
        }
        host::log!("{why}: the network is as it was asked for before");
        if is_more {
            self.tell_origin();
        }
        self.replan();
        true
    }

    /// Sends a request to the kernel; its answer comes by [`Netd::hear`].
    fn ask(&mut self, what: Asked, message: impl FnOnce(u32) -> Vec<u8>) {
        self.sequence += 1;
        match netlink::send(&self.netlink, &message(self.sequence)) {
            Ok(()) => drop(self.asked.insert(self.sequence, what)),
            Err(error) => self.problem(format!("{}: {error}", words(&what))),
        }
    }

    fn other(&mut self, what: String, message: impl FnOnce(u32) -> Vec<u8>) {
        self.ask(Asked::Other(what), message);
    }

    fn problem(&mut self, text: String) {
        host::log!("{text}");
        if self.problems.add(&text) {
            host::events::tell(&Event::warning(text));
        }
    }

    /// What the kernel tells of links and addresses, and its answers.
    fn hear(&mut self) -> Result<()> {
        let mut buffer = vec![0; PACKET];
        for _ in 0..TURN {
            match netlink::receive(&self.netlink, &mut buffer) {
                Ok(Some(length)) => {
                    for said in rtnl::read(&buffer[..length]) {
                        self.said(said);
                    }
                }
                Ok(None) => return Ok(()),
                // Events were lost: look at everything again.
                Err(error) if netlink::were_lost(&error) => {
                    self.asked.clear();
                    self.look.begin(now());
                }
                Err(error) => return Err(error).context("hear the kernel"),
            }
        }
        Ok(())
    }

    fn said(&mut self, said: Said) {
        let item = match &said {
            Said::Link(link) => Some(Item::Link(link.index)),
            Said::Address(one) => Some(Item::Address(one.link, one.address, one.prefix)),
            Said::Router(index, router, _) => Some(Item::Router(*index, *router)),
            Said::Near(index, prefix) => Some(Item::Near(*index, *prefix)),
            Said::Beside(index, beside) => Some(Item::Beside(*index, beside.clone())),
            _ => None,
        };
        item.inspect(|item| self.look.heard(item));
        match said {
            Said::Torn => self.look.torn(),
            Said::Link(link) => self.link(link),
            Said::LinkGone(index) => {
                self.raised.remove(&index);
                self.adopted.retain(|_, adopted| *adopted != index);
                if let Some(nic) = self.nics.remove(&index) {
                    host::log!("{} is gone", nic.link.name);
                }
            }
            Said::Address(address) => self.address(address),
            Said::AddressGone(address) => self.address_gone(&address),
            Said::Advertised(index, advertised) => {
                if let Some(nic) = self.nics.get_mut(&index) {
                    nic.advertised = advertised;
                }
            }
            Said::RouterOption(index, option) => {
                if let Some(nic) = self.nics.get_mut(&index) {
                    nic.said.hear(option, now());
                }
            }
            Said::Router(index, router, preference) => {
                if let Some(nic) = self.nics.get_mut(&index) {
                    nic.hear_router(router, preference);
                }
            }
            Said::RouterGone(index, router) => {
                if let Some(nic) = self.nics.get_mut(&index) {
                    nic.routers.retain(|known| known.address != router);
                }
            }
            Said::Near(index, prefix) => {
                if let Some(nic) = self.nics.get_mut(&index) {
                    remember(&mut nic.near, prefix);
                }
            }
            Said::NearGone(index, prefix) => {
                if let Some(nic) = self.nics.get_mut(&index) {
                    nic.near.retain(|known| *known != prefix);
                }
            }
            Said::Beside(index, beside) => self.beside(index, beside),
            Said::BesideGone(index, beside) => {
                if let Some(nic) = self.nics.get_mut(&index) {
                    nic.beside.retain(|known| *known != beside);
                }
            }
            Said::Answer { sequence, errno } => self.answered(sequence, errno),
        }
    }

    fn answered(&mut self, sequence: u32, errno: i32) {
        match self.asked.remove(&sequence) {
            Some(Asked::Look(stage)) => {
                let seen = self.look.answered(errno, now());
                if errno != 0 {
                    let error = std::io::Error::from_raw_os_error(errno);
                    host::log!("{}: {error}", words(&Asked::Look(stage)));
                }
                self.is_counted |= seen.is_over;
                for item in seen.gone {
                    self.said(item.gone());
                }
            }
            Some(what) if errno != 0 && !is_so_already(&what, errno) => {
                if let Asked::Step(step) = &what {
                    if let Step::Change { link, change: Change::Up, .. } = step {
                        self.raised.remove(link);
                    }
                    self.refused.insert(step.clone(), now() + RETRY);
                }
                self.problem(format!("{}: {}", words(&what), std::io::Error::from_raw_os_error(errno)));
            }
            Some(Asked::Step(_) | Asked::Gone(_) | Asked::Other(_)) | None => {}
        }
    }

    fn link(&mut self, link: rtnl::Link) {
        let index = link.index;
        let (had_carrier, was_up) =
            self.nics.get(&index).map_or((false, false), |nic| (nic.link.carrier, nic.link.up));
        let mut old = None;
        match self.nics.get_mut(&index) {
            Some(nic) => {
                if nic.link.mac != link.mac {
                    // Answers come to the MAC that asked.
                    (old, nic.socket) = (nic.client.take(), None);
                }
                nic.link = link;
            }
            None => {
                let Some(mut nic) = Nic::new(link, &self.root) else { return };
                nic.held_size = self.leases.four.get(&nic.key()).and_then(|held| held.lease.mtu);
                nic.left = true;
                if !self.is_counted {
                    nic.presence = Presence::Same;
                    // The routers of one that came are asked by the kernel.
                    nic.said = self.leases.routers.get(&nic.key()).cloned().unwrap_or_default();
                }
                let driver = if nic.driver.is_empty() { &nic.link.kind } else { &nic.driver };
                host::log!("{} ({}, {driver})", nic.link.name, nic.mac());
                self.nics.insert(index, nic);
            }
        }
        // Asked anew, with what is held, which is not written down by this MAC. A port asks nothing.
        if let Some(old) = old.filter(|_| self.nics[&index].link.master.is_none()) {
            self.begin_with(index, old.held, dhcp::machine::Event::Timer);
        }
        let nic = &self.nics[&index]; // found or inserted above
        let (up, carrier) = (nic.link.up, nic.link.carrier);
        if was_up && !up {
            // The kernel drops IPv6 addresses and all routes with it.
            if let Some(nic) = self.nics.get_mut(&index) {
                nic.given.retain(|given| given.address.is_ipv4());
                nic.routers.clear();
                nic.near.clear();
                nic.beside.clear();
            }
        }
        if up && !was_up {
            self.dropped.insert(index);
            if let Some(nic) = self.nics.get_mut(&index) {
                nic.withheld.clear();
            }
        }
        let nic = &self.nics[&index];
        if nic.client.is_some() && carrier && !had_carrier {
            // A cable was plugged: it may be another network.
            self.step(index, dhcp::machine::Event::Renew);
        }
        if carrier && !had_carrier {
            // A card has none when it is brought up, and the next switch knows nothing of the address.
            for address in self.nics[&index].to_claim() {
                self.claim(index, address);
            }
        }
        if carrier && !had_carrier && self.nics[&index].six.is_some() {
            self.step_six(index, dhcp6::machine::Event::Replugged);
        }
        if let Some(nic) = self.nics.get_mut(&index) {
            nic.heed_carrier(had_carrier, now());
        }
    }

    fn address(&mut self, address: rtnl::Address) {
        let Some(nic) = self.nics.get_mut(&address.link) else { return };
        let known = nic.addresses.iter().any(|(known, _)| *known == address.address);
        nic.addresses.retain(|(known, _)| *known != address.address);
        if address.by_router {
            remember(&mut nic.by_router, (address.address, address.prefix));
        }
        if address.local && address.address.is_ipv6() && nic.six_since.is_none() {
            nic.six_since = Some(now());
        }
        if let (IpAddr::V6(own), true) = (address.address, address.duplicate) {
            self.duplicate(address.link, own);
            return;
        }
        if !address.global {
            return;
        }
        if address.by_router && nic.heeds_routers == Some(false) {
            // It was being looked for duplicates when routers ceased to count, which the kernel does not tell.
            return self.forget_routers(address.link);
        }
        nic.addresses.push((address.address, address.prefix));
        // A lease's is told with its server when it is given.
        let is_leased = nic.configured.is_some_and(|(leased, _)| IpAddr::V4(leased) == address.address);
        if !known && !is_leased && nic.is_ours() && !address.address.is_loopback() {
            if nic.order.is_none() {
                nic.order = Some(self.counted);
                self.counted += 1;
            }
            let name = nic.link.name.clone();
            host::log!("{name}: {}/{}", address.address, address.prefix);
            host::events::tell(&Event::Address {
                interface: name,
                address: address.address.to_string(),
                gateway: None,
            });
        }
    }

    /// One that was put there by hand took the place of what was by this metric, also on another link (`ip route replace`).
    fn beside(&mut self, index: u32, beside: rtnl::Beside) {
        let key =
            |one: &rtnl::Beside| (one.by_router, one.route.destination, one.route.prefix, one.route.metric);
        for nic in self.nics.values_mut().filter(|_| !beside.by_router) {
            nic.beside.retain(|known| key(known) != key(&beside));
        }
        if let Some(nic) = self.nics.get_mut(&index) {
            remember(&mut nic.beside, beside);
        }
    }

    /// The kernel has an address no more: its time was over, its interface went down, netd or somebody else took it away.
    /// With the last one of IPv4 go all routes of the link, and with any those that are sent from it.
    fn address_gone(&mut self, gone: &rtnl::Address) {
        let Some(nic) = self.nics.get_mut(&gone.link) else { return };
        self.dropped.insert(gone.link);
        if nic.lose(gone.address, gone.prefix, now() + GIVE_AGAIN) {
            host::log!("{}: {} is gone, and not by netd", nic.link.name, gone.address);
        }
    }

    /// Another machine of the link has an address that this one was given.
    fn duplicate(&mut self, index: u32, address: Ipv6Addr) {
        let Some(nic) = self.nics.get(&index) else { return };
        let name = nic.link.name.clone();
        if nic.given.iter().any(|given| given.address == IpAddr::V6(address)) {
            self.problem(format!(
                "{name}: another machine has {address} already, which was asked for here: the kernel does not use it"
            ));
        }
        self.step_six(index, dhcp6::machine::Event::Duplicate(address));
    }

    /// Interfaces as the plan has them: what is to be made is made, and each gets its role.
    fn arrange(&mut self) {
        let is_late = now() >= self.late;
        let seen: Vec<Seen<'_>> = self.nics.values().map(Nic::seen).collect();
        // One round at a time: what the kernel says of the last one is not heard yet.
        let is_waiting =
            self.look.is_at_links() || self.asked.values().any(|asked| matches!(asked, Asked::Step(_)));
        let mut ours = self.plans.ours.clone();
        if !is_waiting {
            ours.tidy(&seen);
        }
        let mut adopted = std::mem::take(&mut self.adopted);
        let lines = links::adopt(&self.plans.current, &seen, &mut adopted, is_late);
        let role = |one: &Seen<'_>| {
            let role = links::role(&self.plans.current, one, &seen, &adopted, is_late);
            // Nothing is asked for on what is about to go.
            (one.link.index, role.filter(|_| !links::is_left(&self.plans.current, one, &seen, &ours)))
        };
        let roles: Vec<(u32, Option<links::Role>)> = seen.iter().map(role).collect();
        let yielding = links::yielding(&self.plans.current, &seen, &roles);
        let is_refused = |step: &Step| self.refused.contains_key(step);
        let done = links::Done { raised: &self.raised, modules: self.loading.here(), ours: &ours };
        let steps = links::steps(&self.plans.current, &seen, &adopted, is_late, done, &is_refused);
        let strangers = links::strangers(&self.plans.current, &seen, &ours);
        let lines: Vec<String> =
            lines.into_iter().chain(strangers.into_iter().filter(|_| !is_waiting)).collect();
        let unnamed = links::unname(&self.plans.current, &seen, &self.plans.unnamed);
        let unnamed = unnamed.into_iter().filter(|step| !is_refused(step));
        let steps: Vec<Step> = steps.into_iter().chain(unnamed).collect();
        self.adopted = adopted;
        self.own(ours);
        for line in lines {
            self.problem(line);
        }
        for (index, role) in roles {
            let Some(nic) = self.nics.get_mut(&index) else { continue };
            let before = std::mem::replace(&mut nic.role, role);
            nic.yields = yielding.contains(&index);
            // What may become a port yet keeps what it has until that is clear.
            let is_clear = role.is_some() || nic.link.master.is_some();
            if is_clear && std::mem::take(&mut nic.left) {
                self.clear_up(index);
            }
            if before.is_some() && role.is_none() {
                self.leave(index);
            }
            self.heed_routers(index);
        }
        for step in steps.into_iter().filter(|_| !is_waiting) {
            self.carry_out(step);
        }
    }

    /// What is changed is written down for the next life.
    fn own(&mut self, ours: Ours) {
        if ours != self.plans.ours {
            self.plans.ours = ours;
            self.save_plans();
        }
    }

    fn carry_out(&mut self, step: Step) {
        let seen: Vec<Seen<'_>> = self.nics.values().map(Nic::seen).collect();
        let mut ours = self.plans.ours.clone();
        ours.note(&step, &self.plans.current, &seen);
        self.own(ours);
        match &step {
            Step::Module(name) => self.loading.load(&self.root, name, now()),
            Step::Options { bond, options } => self.set_options(bond, options),
            // The kernel has made it a port by the time that the request was sent.
            Step::Prefer { bond, option, port } => self.set_options(bond, &[(option.clone(), port.clone())]),
            Step::MakeVlan { name, below, id } => {
                self.ask(Asked::Step(step.clone()), |sequence| rtnl::make_vlan(sequence, name, *below, *id));
            }
            Step::Unmake { link, .. } => {
                self.ask(Asked::Step(step.clone()), |sequence| rtnl::unmake_link(sequence, *link));
            }
            Step::MakeBond { name } => {
                self.ask(Asked::Step(step.clone()), |sequence| rtnl::make_bond(sequence, name));
            }
            Step::MakeBridge { name, stp } => {
                self.ask(Asked::Step(step.clone()), |sequence| rtnl::make_bridge(sequence, name, *stp));
            }
            Step::Change { link, change, .. } => {
                match change {
                    Change::Up => drop(self.raised.insert(*link)),
                    // A bond takes down what it gives back.
                    Change::Down | Change::Master(_) | Change::NoMaster => drop(self.raised.remove(link)),
                    Change::Mtu(_)
                    | Change::Mac(_)
                    | Change::Name(_)
                    | Change::AltName(_)
                    | Change::NoAltName(_) => {}
                }
                // What the kernel takes and does not show is not asked for again and again.
                let until = match change {
                    Change::Up | Change::Down => None,
                    // Nothing depends on it.
                    Change::AltName(_) => Some(Duration::MAX),
                    Change::Mtu(_)
                    | Change::Mac(_)
                    | Change::Name(_)
                    | Change::Master(_)
                    | Change::NoMaster
                    | Change::NoAltName(_) => Some(now() + RETRY),
                };
                self.refused.extend(until.map(|until| (step.clone(), until)));
                host::log!("{}", words(&Asked::Step(step.clone())));
                self.ask(Asked::Step(step.clone()), |sequence| rtnl::change_link(sequence, *link, change));
            }
        }
    }

    /// Most of them the driver takes only without ports (Documentation/networking/bonding.rst).
    fn set_options(&mut self, bond: &str, options: &[(String, String)]) {
        let path = |name: &str| format!("/sys/class/net/{bond}/bonding/{name}");
        for (name, value) in
            links::writes(options, |name| std::fs::read_to_string(path(name)).unwrap_or_default())
        {
            if let Err(error) = std::fs::write(path(name), &value) {
                self.problem(format!("set {name} of {bond} to {value}: {error}"));
            }
        }
    }

    /// Tells the kernel whether what routers say counts on a link, before it can hear one.
    fn heed_routers(&mut self, index: u32) {
        let Some(nic) = self.nics.get_mut(&index) else { return };
        if nic.role.is_none() {
            return;
        }
        let heeds = nic.methods().ipv6 >= Ipv6::Auto;
        if nic.heeds_routers == Some(heeds) {
            return;
        }
        let was_deaf = nic.heeds_routers.replace(heeds) == Some(false);
        let name = nic.link.name.clone();
        // Routes of advertisements (RFC 4191) are not taken by default.
        let settings: &[(&str, &str)] = match heeds {
            true => &[("accept_ra", "2"), ("accept_ra_rt_info_max_plen", "128")],
            false => &[("accept_ra", "0")],
        };
        for (setting, value) in settings {
            let path = format!("/proc/sys/net/ipv6/conf/{name}/{setting}");
            if let Err(error) = std::fs::write(&path, value) {
                host::log!("{path}: {error}"); // a kernel without IPv6
            }
        }
        if !heeds {
            self.forget_routers(index);
        } else if was_deaf && let Some(nic) = self.nics.get(&index) {
            solicit_routers(index, nic);
        }
    }

    /// The kernel keeps what routers said until its time is over, also where nobody wants it any more.
    fn forget_routers(&mut self, index: u32) {
        let Some(nic) = self.nics.get_mut(&index) else { return };
        let (routes, addresses) = (nic.routes_by_router(), std::mem::take(&mut nic.by_router));
        nic.said = nics::Names::default();
        self.take_away(index, addresses.into_iter().map(|(own, prefix)| leased_address(own, prefix)));
        for (to, router) in routes {
            self.ask(Asked::Gone("remove a route by a router"), |sequence| {
                rtnl::remove_kernels_route(sequence, index, to, router)
            });
        }
    }

    /// Another interface has this one, or nothing is asked of it any more.
    fn leave(&mut self, index: u32) {
        self.end_four(index);
        self.end_six(index);
        self.forget_routers(index);
        let Some(nic) = self.nics.get_mut(&index) else { return };
        nic.heeds_routers = Some(false); // what it was told is to be heard again
        nic.probing.clear();
        nic.stop_listening();
        let given = std::mem::take(&mut nic.given);
        self.take_away(index, given.into_iter());
    }

    /// Takes away what an earlier life gave a link and did not come to take away itself when the plan changed.
    fn clear_up(&mut self, index: u32) {
        let Some(nic) = self.nics.get(&index) else { return };
        let given = self.leases.given.get(&index).map_or(&[][..], Vec::as_slice);
        let four = self.leases.four.get(&nic.key()).map(|held| IpAddr::V4(held.lease.address));
        let six = self.leases.six.get(&nic.key()).into_iter().flat_map(|held| &held.lease.addresses);
        let leased: Vec<IpAddr> = four.into_iter().chain(six.map(|(own, _)| IpAddr::V6(*own))).collect();
        let gone = nic.gone(given, &leased, &self.plans.current);
        // At once: it could come before the rule of another link that has the address now.
        let is_gone = |rule: &&rtnl::Rule| gone.iter().any(|(address, _)| *address == rule.from);
        let of_link = self.before.rules.iter().filter(|rule| routing::is_of(index, rule));
        let rules = of_link.filter(is_gone).copied().collect();
        let gone: Vec<network::Address> = gone
            .into_iter()
            .map(|(address, prefix)| {
                let given = given.iter().find(|given| (given.address, given.prefix) == (address, prefix));
                given.copied().unwrap_or_else(|| leased_address(address, prefix))
            })
            .collect();
        self.unroute(Routing { routes: vec![], rules });
        self.take_away(index, gone.into_iter());
    }

    fn end_four(&mut self, index: u32) {
        let Some(nic) = self.nics.get_mut(&index) else { return };
        (nic.client, nic.socket, nic.udp) = (None, None, None);
        nic.stop_listening();
        let leased =
            nic.configured.take().map(|(address, prefix)| leased_address(IpAddr::V4(address), prefix));
        self.take_away(index, leased.into_iter());
    }

    fn end_six(&mut self, index: u32) {
        let Some(nic) = self.nics.get_mut(&index) else { return };
        nic.six_socket = None;
        nic.six_configured.clear();
        let held = nic.six.take().and_then(|six| six.held).map(|held| held.lease.addresses);
        let leased = held.unwrap_or_default().into_iter();
        self.take_away(index, leased.map(|(address, _)| leased_address(IpAddr::V6(address), SIX_PREFIX)));
    }

    /// Addresses that nobody asks for on a link any more.
    fn take_away(&mut self, index: u32, addresses: impl Iterator<Item = network::Address>) {
        for address in addresses {
            if self.take(index, address)
                && let Some(nic) = self.nics.get(&index)
            {
                host::log!("{} is not asked for on {} any more", address.address, nic.link.name);
            }
        }
    }

    /// Whether it was taken: what is stated and leased too stays until neither asks for it.
    fn take(&mut self, index: u32, mut gone: network::Address) -> bool {
        let Some(nic) = self.nics.get(&index) else { return false };
        if nic.asks_for(&self.plans.current, gone.address, gone.prefix) {
            return false;
        }
        // The kernel has the prefix with which an IPv6 address came first.
        if let Some((_, prefix)) = nic.addresses.iter().find(|(own, _)| own.is_ipv6() && *own == gone.address)
        {
            gone.prefix = *prefix;
        }
        let (interface, address) = (nic.link.name.clone(), gone.address);
        let is_there = nic.is_asked_for(&self.plans.current, address);
        self.other(format!("take {address} from {interface}"), |sequence| {
            rtnl::remove_address(sequence, index, &gone)
        });
        // It may be there with another prefix.
        if !is_there {
            host::events::tell(&Event::AddressLost { interface, address: address.to_string() });
        }
        true
    }

    /// Addresses: stated ones are given, and DHCP begins.
    fn address_links(&mut self) {
        let indices: Vec<u32> = self.nics.keys().copied().collect();
        let has_lease = self.counting().any(|nic| nic.configured.is_some());
        for index in indices {
            if !self.nics.get(&index).is_some_and(|nic| nic.role.is_some() && nic.link.up) {
                continue;
            }
            let Some(nic) = self.nics.get_mut(&index) else { continue };
            let is_named = nic.role.is_some_and(|role| role.entry.is_some());
            let is_done = self.plans.current.single && has_lease && !is_named && nic.configured.is_none();
            let wants = nic.methods().dhcp4 && !is_done;
            let (begins, ends) =
                (wants && nic.link.carrier && nic.client.is_none(), !wants && nic.client.is_some());
            // In this order: an address that goes from one to the other stays all the while, and a session over it.
            if begins {
                self.begin(index);
            } else if wants && nic.is_unconfigured(now()) {
                self.configure(index);
            }
            self.give(index);
            if self.nics.get(&index).is_some_and(|nic| nic.is_six_unconfigured(now())) {
                self.configure_six(index);
            }
            if ends {
                self.end_four(index);
            }
            self.ask_six(index);
        }
    }

    /// The stated addresses of a link that it does not have yet; those that are not asked for any more go.
    fn give(&mut self, index: u32) {
        let Some(nic) = self.nics.get_mut(&index) else { return };
        let stated = nic.stated(&self.plans.current);
        let (kept, gone): (Vec<_>, Vec<_>) =
            std::mem::take(&mut nic.given).into_iter().partition(|given| stated.contains(given));
        nic.given = kept;
        self.take_away(index, gone.into_iter());
        let Some(nic) = self.nics.get_mut(&index) else { return };
        let missing = nic.missing(&self.plans.current, now());
        let (name, carrier) = (nic.link.name.clone(), nic.link.carrier);
        for stated in missing {
            let network::Address { address, prefix, peer } = stated;
            let Some(nic) = self.nics.get_mut(&index) else { return };
            nic.given.push(stated);
            // The kernel would go on with the old prefix.
            let other = nic
                .addresses
                .iter()
                .find(|(own, length)| own.is_ipv6() && *own == address && *length != prefix);
            if let Some((_, length)) = other.copied() {
                self.other(format!("take {address}/{length} from {name}"), |sequence| {
                    rtnl::remove_address(sequence, index, &leased_address(address, length))
                });
            }
            let given = Given { address, prefix, peer, seconds: u32::MAX, preferred: u32::MAX };
            self.other(format!("give {name} {stated}"), |sequence| {
                rtnl::add_address(sequence, index, &given)
            });
            if let IpAddr::V4(own) = address
                && carrier
            {
                self.claim(index, own);
            }
        }
    }

    /// Brings kernel, resolver, host name, lease file and state file in line with what is known now.
    fn settle(&mut self) {
        if self.is_counted {
            self.arrange();
            self.address_links();
        }
        let uplinks = self.uplinks();
        let wanted = routing::plan(&uplinks, &self.plans.current.routes);
        let dropped = std::mem::take(&mut self.dropped);
        if wanted != self.applied || !dropped.is_empty() {
            let (gone, new) = self.applied.change(&wanted, &dropped);
            self.applied = wanted;
            // Before the kernel is asked: a life that ends in between leaves it to the next one.
            self.remember(&gone);
            self.unroute(gone);
            for route in &new.routes {
                let what = format!(
                    "add the route to {}/{} of table {}",
                    route.destination, route.prefix, route.table
                );
                self.other(what, |sequence| rtnl::add_route(sequence, route));
            }
            for rule in new.rules {
                self.other(format!("add the rule for {}", rule.from), |sequence| {
                    rtnl::add_rule(sequence, rule)
                });
            }
        }
        let ranked = routing::ranked(&uplinks);
        self.resolve(&ranked);
        let servers = self.time_servers(&ranked);
        let asking = self.nics.values().any(Nic::is_asking);
        // Held leases are taken up by then, whoever else is asked still.
        if self.is_counted && now() >= self.late {
            let left = std::mem::take(&mut self.before).left(&self.applied);
            self.unroute(left);
        }
        self.clock.know(servers, !uplinks.is_empty(), asking, now());
        self.keep_time();
        self.name(&ranked);
        self.remember(&Routing::default());
        self.publish();
    }

    fn unroute(&mut self, gone: Routing) {
        for rule in gone.rules {
            self.ask(Asked::Gone("remove a rule"), |sequence| rtnl::remove_rule(sequence, rule));
        }
        for route in gone.routes {
            self.ask(Asked::Gone("remove a route"), |sequence| rtnl::remove_route(sequence, &route));
        }
    }

    fn is_preferred(&self, nic: &Nic) -> bool {
        links::is_preferred(&self.plans.current, &nic.seen())
    }

    fn uplinks(&self) -> Vec<Uplink> {
        let of = |nic: &Nic| nic.role.and_then(|_| nic.uplink(&self.plans.current, self.is_preferred(nic)));
        self.nics.values().filter_map(of).collect()
    }

    fn resolve(&mut self, ranked: &[&Uplink]) {
        let plan = &self.plans.current;
        let name_of = |uplink: &&Uplink| self.nics.get(&uplink.link).map(|nic| nic.link.name.as_str());
        // One that is stated for no link is looked for on the first.
        let first = ranked.first().and_then(name_of).unwrap_or_default();
        let mut servers: Vec<String> =
            plan.nameservers.iter().map(|server| nics::name_server(*server, first)).collect();
        let mut search = plan.search.clone();
        for resolvers in [Nic::resolvers, Nic::old_resolvers] {
            for uplink in ranked {
                let Some(nic) = self.nics.get(&uplink.link) else { continue };
                let (more, domains) = resolvers(nic, plan, now());
                servers.extend(more.into_iter().map(|server| nics::name_server(server, &nic.link.name)));
                search.extend(domains);
            }
        }
        let (servers, search) = (unique(servers), unique(search));
        let mut text: String = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
        if !search.is_empty() {
            text += &format!("search {}\n", search.join(" "));
        }
        if text != self.resolver {
            if let Err(error) =
                host::statefile::replace(Path::new("/etc/resolv.conf"), text.as_bytes(), 0o644)
            {
                self.problem(format!("write /etc/resolv.conf: {error}"));
            }
            self.resolver = text;
        }
    }

    /// Best first. Names are not looked up, which [`troubles`] tells.
    fn time_servers(&self, ranked: &[&Uplink]) -> Vec<IpAddr> {
        let plan = &self.plans.current;
        let stated = plan.ntp.iter().chain(plan.links.iter().flat_map(|link| &link.ntp));
        let mut servers: Vec<IpAddr> = stated.filter_map(|server| server.parse().ok()).collect();
        for uplink in ranked {
            let Some(nic) = self.nics.get(&uplink.link) else { continue };
            let four = nic.client.as_ref().and_then(Client::lease).map(|lease| &lease.ntp);
            servers.extend(four.into_iter().flatten().map(|server| IpAddr::V4(*server)));
            let six = nic.six.as_ref().and_then(|six| six.lease()).map(|lease| &lease.ntp);
            servers.extend(six.into_iter().flatten().map(|server| IpAddr::V6(*server)));
        }
        unique(servers)
    }

    fn name(&mut self, ranked: &[&Uplink]) {
        let leased = ranked.iter().find_map(|uplink| {
            self.nics.get(&uplink.link)?.client.as_ref().and_then(Client::lease)?.hostname.clone()
        });
        let first = self.nics.values().find(|nic| nic.wired).map(|nic| {
            let mac = nic.link.permanent.unwrap_or(nic.mac()).0;
            format!("lifeboat-{:02x}{:02x}{:02x}", mac[3], mac[4], mac[5])
        });
        let name = self
            .plans
            .current
            .hostname
            .clone()
            .or(leased)
            .or(first)
            .unwrap_or_else(|| "lifeboat".to_string());
        if name != self.hostname {
            if let Err(error) = rustix::system::sethostname(name.as_bytes()) {
                self.problem(format!("set the host name {name}: {error}"));
            }
            self.hostname = name;
        }
    }

    /// What the next life has to know. `going`: routes and rules that the kernel is about to be asked to remove.
    fn remember(&mut self, going: &Routing) {
        let four = |nic: &Nic| Some((nic.key(), nic.client.as_ref()?.held.clone()?));
        let six = |nic: &Nic| Some((nic.key(), nic.six.as_ref()?.held.clone()?));
        let asks_four = |key: &str| self.nics.values().any(|nic| nic.client.is_some() && nic.key() == key);
        let asks_six = |key: &str| self.nics.values().any(|nic| nic.six.is_some() && nic.key() == key);
        let old_four = kept(&self.leases.four, Held::expires, asks_four, now());
        let old_six = kept(&self.leases.six, dhcp6::machine::Held::expires, asks_six, now());
        let said = |nic: &Nic| (!nic.said.is_empty()).then(|| (nic.key(), nic.said.clone()));
        let given = |(index, nic): (&u32, &Nic)| (!nic.given.is_empty()).then(|| (*index, nic.given.clone()));
        let leases = Leases {
            four: old_four.into_iter().chain(self.nics.values().filter_map(four)).collect(),
            six: old_six.into_iter().chain(self.nics.values().filter_map(six)).collect(),
            routers: self.nics.values().filter_map(said).collect(),
            given: self.nics.iter().filter_map(given).collect(),
            routing: self.applied.clone().beside(self.before.without(&self.applied)).beside(going.clone()),
            identifier: self.leases.identifier.clone(),
        };
        if leases != self.leases && self.is_counted && !self.nics.is_empty() {
            let written = serde_json::to_vec(&leases)
                .map_err(std::io::Error::other)
                .and_then(|bytes| host::statefile::replace(Path::new(LEASES), &bytes, 0o600));
            if let Err(error) = written {
                self.problem(format!("write {LEASES}: {error}"));
            }
            self.leases = leases;
        }
    }

    fn publish(&mut self) {
        let ours = self.nics.values().filter(|nic| nic.is_ours());
        let state = state::Netd {
            hostname: self.hostname.clone(),
            links: ours.map(|nic| nic.state(&self.plans.current, self.is_preferred(nic))).collect(),
            nameservers: self
                .resolver
                .lines()
                .filter_map(|line| line.strip_prefix("nameserver "))
                .map(str::to_string)
                .collect(),
            origin: self.plans.shown_origin().to_string(),
            clock: self.clock.state(now()),
            problems: self.problems.shown().to_vec(),
        };
        if self.published.as_ref() != Some(&state) {
            if let Err(error) = host::statefile::publish("netd", &state) {
                host::log!("publish {}: {error}", paths::state("netd"));
            }
            self.published = Some(state);
        }
    }

    /// One question on the control socket.
    fn answer(&mut self) {
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
        let reply = match host::ask::receive::<NetdRequest>(&connection) {
            Ok(NetdRequest::Status) => match serde_json::to_value(&self.published) {
                Ok(value) => Reply::Value { value },
                Err(error) => Reply::Failed { error: error.to_string() },
            },
            Ok(NetdRequest::Renew { interface }) => match nics::renewable(self.nics.values(), &interface) {
                Ok(index) => {
                    self.step(index, dhcp::machine::Event::Renew);
                    Reply::Done
                }
                Err(error) => Reply::Failed { error },
            },
            Ok(NetdRequest::Plan) => match serde_json::to_value(&self.plans) {
                Ok(value) => Reply::Value { value },
                Err(error) => Reply::Failed { error: error.to_string() },
            },
            Ok(NetdRequest::Apply { plan, trial }) => match serde_json::from_value(plan) {
                Ok(plan) => {
                    let end = trial.map(|seconds| now() + Duration::from_secs(seconds.into()));
                    self.plans.apply(plan, end);
                    if end.is_none() {
                        self.offers.stop();
                    }
                    self.replan();
                    Reply::Done
                }
                Err(error) => Reply::Failed { error: format!("read the plan: {error}") },
            },
            Ok(NetdRequest::Keep) => match self.plans.keep() {
                true => {
                    self.offers.stop();
                    self.replan();
                    Reply::Done
                }
                false => Reply::Failed { error: "nothing is being tried".to_string() },
            },
            Ok(NetdRequest::Revert) => match self.revert("asked for") {
                true => Reply::Done,
                false => Reply::Failed { error: "nothing is being tried".to_string() },
            },
            Err(error) => Reply::Failed { error: error.to_string() },
        };
        if let Err(error) = host::ask::reply(&connection, &reply) {
            host::log!("answer a question: {error}");
        }
    }
}

/// What of a plan cannot be used, in words. A time server by name is one: nothing here waits for a name server's answer.
fn troubles(plan: &Plan) -> Vec<String> {
    let by_name = |from: &str, ntp: &[String]| -> Vec<String> {
        let names = ntp.iter().filter(|server| server.parse::<IpAddr>().is_err());
        let of = if from.is_empty() { String::new() } else { format!(" ({from})") };
        let line = |name: &String| {
            format!(
                "the time server {name}{of} is not asked, since names of time servers are not looked up: say its address in ip= (the field behind the name servers), or have DHCP name one"
            )
        };
        names.map(line).collect()
    };
    let of_links = plan.links.iter().flat_map(|link| by_name(&link.from.join(" "), &link.ntp));
    plan.problems.iter().cloned().chain(by_name("", &plan.ntp)).chain(of_links).collect()
}

/// What routers say is kept once, and not without end.
fn remember<T: PartialEq>(known: &mut Vec<T>, one: T) {
    if !known.contains(&one) && known.len() < MOST_ADVERTISED {
        known.push(one);
    }
}

/// The kernel's "no" means that there is nothing to do.
fn is_so_already(what: &Asked, errno: i32) -> bool {
    /// Of a rule.
    const ENOENT: i32 = 2;
    const ESRCH: i32 = 3;
    const EEXIST: i32 = 17;
    const EADDRNOTAVAIL: i32 = 99;
    match what {
        // Another interface has the name.
        Asked::Step(Step::Change { change: Change::Name(_), .. }) => false,
        Asked::Gone(_) => matches!(errno, ENOENT | ESRCH),
        _ => matches!(errno, ESRCH | EEXIST | EADDRNOTAVAIL),
    }
}

/// Leases that an earlier life wrote down, of links on which nothing is asked yet, as of one without a cable: they are asked
/// for again.
fn kept<T: Clone>(
    old: &BTreeMap<String, T>,
    expires: fn(&T) -> Option<Duration>,
    is_asking: impl Fn(&str) -> bool,
    now: Duration,
) -> BTreeMap<String, T> {
    let stays = |(key, held): &(&String, &T)| !is_asking(key) && expires(held).is_none_or(|end| end > now);
    old.iter().filter(stays).map(|(key, held)| (key.clone(), held.clone())).collect()
}

/// In words that complete "failed to".
fn words(what: &Asked) -> String {
    match what {
        Asked::Look(Stage::Links) => "list the links".to_string(),
        Asked::Look(Stage::Addresses) => "list the addresses".to_string(),
        Asked::Look(Stage::Routes) => "list the routes".to_string(),
        Asked::Look(Stage::Routers) => "list the IPv6 routes".to_string(),
        Asked::Gone(text) => text.to_string(),
        Asked::Other(text) => text.clone(),
        Asked::Step(step) => match step {
            Step::Module(name) => format!("load the module {name}"),
            Step::MakeVlan { name, id, .. } => format!("make {name}, VLAN {id}"),
            Step::MakeBond { name } => format!("make the bond {name}"),
            Step::Unmake { name, .. } => format!("take {name} away"),
            Step::MakeBridge { name, .. } => format!("make the bridge {name}"),
            Step::Options { bond, .. } => format!("set the options of {bond}"),
            Step::Prefer { bond, option, port } => format!("set {option} of {bond} to {port}"),
            Step::Change { name, change, .. } => match change {
                Change::Up => format!("bring up {name}"),
                Change::Down => format!("take down {name}"),
                Change::Mtu(mtu) => format!("set the MTU of {name} to {mtu}"),
                Change::Mac(mac) => format!("give {name} the MAC {mac}"),
                Change::Name(new) => format!("rename {name} to {new}"),
                Change::Master(_) => format!("make {name} a port"),
                Change::NoMaster => format!("make {name} a port no more"),
                Change::AltName(new) => format!("call {name} {new} too"),
                Change::NoAltName(old) => format!("call {name} {old} no more"),
            },
        },
    }
}

/// One that a server gave.
fn leased_address(address: IpAddr, prefix: u8) -> network::Address {
    network::Address { address, prefix, peer: None }
}

/// The first of each.
fn unique<T: PartialEq>(items: Vec<T>) -> Vec<T> {
    let mut found = Vec::new();
    for item in items {
        if !found.contains(&item) {
            found.push(item);
        }
    }
    found
}

/// Since boot, suspended time included.
fn now() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(now.tv_sec.cast_unsigned(), now.tv_nsec as u32)
}

/// Four random bytes; without entropy yet, the clock's, since a transaction id is no secret.
fn random() -> u32 {
    let mut bytes = [0; 4];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::NONBLOCK) {
        Ok(4) => u32::from_ne_bytes(bytes),
        _ => now().subsec_nanos(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_server_by_name_is_told_and_one_by_address_is_not() {
        let link = network::Link {
            ntp: ["192.0.2.123", "ntp.example.com"].map(str::to_string).to_vec(),
            from: vec!["/etc/netplan/01.yaml".to_string()],
            ..network::Link::default()
        };
        let ntp = ["2001:db8::123", "pool.example.org"].map(str::to_string).to_vec();
        let plan = Plan { links: vec![link], ntp, problems: vec!["ip=x".to_string()], ..Plan::default() };
        let told = troubles(&plan);
        assert_eq!(told.len(), 3, "{told:?}");
        assert_eq!(told[0], "ip=x");
        assert!(told[1].starts_with("the time server pool.example.org is not asked"), "{told:?}");
        assert!(told[2].starts_with("the time server ntp.example.com (/etc/netplan/01.yaml) is"), "{told:?}");
    }

    #[test]
    fn a_lease_of_a_link_that_asks_nothing_yet_is_kept_until_it_ends() {
        let at = Duration::from_secs;
        let old = [("asks", 200), ("without a cable", 200), ("over", 100)]
            .map(|(key, end)| (key.to_string(), at(end)));
        let kept = kept(&BTreeMap::from(old), |end| Some(*end), |key| key == "asks", at(100));
        assert_eq!(kept, BTreeMap::from([("without a cable".to_string(), at(200))]));
    }
}
