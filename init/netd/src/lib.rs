//! The network bring-up: DHCPv4 on every wired NIC with carrier, all at once, renewed for as long as
//! the machine is up. One thread, one wait. What it configured stays when it dies: addresses have
//! their lease's lifetime in the kernel, and its next life takes up the leases that it wrote down.
//! IPv6 is left to the kernel (router advertisements); its addresses are reported.
//!
//! An interface that belongs to another one is left to whoever made it so. Not yet: static, VLAN and
//! bond configurations.

mod arp;
mod dhcp;
mod nics;
mod params;
mod routing;
mod rtnl;

use anyhow::{Context as _, Result};
use contract::event::Event;
use contract::wire::{NetdRequest, Reply};
use contract::{paths, state};
use dhcp::machine::{Action, Client, Held, step};
use dhcp::message::{CLIENT_PORT, SERVER_PORT, broadcast_packet, decode_packet};
use host::Root;
use host::sys::{netlink, packet};
use nics::Nic;
use params::Wishes;
use routing::{Leased, Routing};
use rtnl::Said;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// Leases by MAC, for the next life of this process.
const LEASES: &str = "/run/lifeboat/state/netd-leases.json";
/// Largest packet of a link.
const PACKET: usize = 65_536;
/// Errnos of answers that mean "it is so already".
const SO_ALREADY: &[i32] = &[3, 17, 99]; // ESRCH, EEXIST, EADDRNOTAVAIL
/// What bringing up a link is called, before its name.
const RAISE: &str = "bring up ";
/// Between tries of that.
const RETRY: Duration = Duration::from_secs(5);
/// Problems kept in the state file.
const PROBLEMS: usize = 16;

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

struct Netd {
    root: Root,
    wishes: Wishes,
    netlink: OwnedFd,
    control: OwnedFd,
    sequence: u32,
    /// What was asked, for the answer that says no.
    asked: BTreeMap<u32, String>,
    nics: BTreeMap<u32, Nic>,
    /// Links that were named since all were asked for.
    listed: BTreeSet<u32>,
    applied: Routing,
    leases: BTreeMap<String, Held>,
    leased: u64,
    problems: Vec<String>,
    published: Option<state::Netd>,
    resolver: String,
    hostname: String,
}

impl Netd {
    fn start() -> Result<Netd> {
        let root = Root::live()?;
        let wishes = params::read(&host::params::read(&root));
        let groups = rtnl::GROUP_LINK | rtnl::GROUP_IPV4_ADDRESS | rtnl::GROUP_IPV6_ADDRESS;
        let netlink = netlink::socket(groups).context("open a route netlink socket")?;
        let control = host::ask::listen("netd").context("listen for questions")?;
        let leases = std::fs::read(LEASES).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let mut netd = Netd {
            root,
            problems: wishes.problems.clone(),
            wishes,
            netlink,
            control,
            sequence: 0,
            asked: BTreeMap::new(),
            nics: BTreeMap::new(),
            listed: BTreeSet::new(),
            applied: Routing::default(),
            leases: leases.unwrap_or_default(),
            leased: 0,
            published: None,
            resolver: String::new(),
            hostname: String::new(),
        };
        for problem in netd.problems.clone() {
            host::events::tell(&Event::warning(problem));
        }
        // lo is always the first.
        netd.ask("bring up lo", |sequence| rtnl::link_up(sequence, 1, None));
        netd.list_links();
        Ok(netd)
    }

    fn list_links(&mut self) {
        self.listed.clear();
        self.ask("list the links", rtnl::dump_links);
    }

    fn run(&mut self) -> Result<()> {
        let mut ready = false;
        loop {
            self.settle();
            if !ready {
                host::events::tell(&Event::ready("netd"));
                ready = true;
            }
            let wake = |nic: &Nic| {
                let client = nic.client.as_ref().map(|client| client.wake());
                client.into_iter().chain(nic.retry).min()
            };
            let due = self.nics.values().filter_map(wake).min();
            let timeout = due.filter(|due| *due < Duration::MAX).map(|due| due.saturating_sub(now()));
            let timeout = timeout
                .map(|t| Timespec { tv_sec: t.as_secs().cast_signed(), tv_nsec: t.subsec_nanos().into() });
            let mut fds =
                vec![PollFd::new(&self.netlink, PollFlags::IN), PollFd::new(&self.control, PollFlags::IN)];
            let of = |socket: fn(&Nic) -> &Option<OwnedFd>| {
                self.nics.iter().filter_map(move |(index, nic)| Some((*index, socket(nic).as_ref()?)))
            };
            let (dhcp, arp): (Vec<_>, Vec<_>) =
                (of(|nic| &nic.socket).collect(), of(|nic| &nic.arp).collect());
            fds.extend(dhcp.iter().chain(&arp).map(|(_, socket)| PollFd::new(*socket, PollFlags::IN)));
            let sockets: Vec<(u32, bool)> = dhcp
                .iter()
                .map(|(index, _)| (*index, false))
                .chain(arp.iter().map(|(index, _)| (*index, true)))
                .collect();
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
            for (position, (index, is_arp)) in sockets.into_iter().enumerate() {
                if woken[position + 2] {
                    if is_arp { self.receive_arp(index) } else { self.receive(index) }
                }
            }
            let due: Vec<u32> = self
                .nics
                .iter()
                .filter(|(_, nic)| nic.client.as_ref().is_some_and(|client| client.wake() <= now()))
                .map(|(index, _)| *index)
                .collect();
            let is_due = |nic: &Nic| nic.retry.is_some_and(|time| time <= now());
            let again: Vec<u32> =
                self.nics.iter().filter(|(_, nic)| is_due(nic)).map(|(index, _)| *index).collect();
            for index in again {
                self.raise(index);
            }
            for index in due {
                self.step(index, dhcp::machine::Event::Timer);
            }
        }
    }

    /// Sends a request to the kernel; its answer comes by [`Netd::hear`].
    fn ask(&mut self, what: &str, message: impl FnOnce(u32) -> Vec<u8>) {
        self.sequence += 1;
        match netlink::send(&self.netlink, &message(self.sequence)) {
            Ok(()) => drop(self.asked.insert(self.sequence, what.to_string())),
            Err(error) => self.problem(format!("{what}: {error}")),
        }
    }

    fn problem(&mut self, text: String) {
        host::log!("{text}");
        if !self.problems.contains(&text) {
            host::events::tell(&Event::warning(text.clone()));
            self.problems.push(text);
            self.problems.truncate(PROBLEMS);
        }
    }

    /// What the kernel tells of links and addresses, and its answers.
    fn hear(&mut self) -> Result<()> {
        let mut buffer = vec![0; PACKET];
        loop {
            match netlink::receive(&self.netlink, &mut buffer) {
                Ok(Some(length)) => {
                    for said in rtnl::read(&buffer[..length]) {
                        self.said(said);
                    }
                }
                Ok(None) => return Ok(()),
                // Events were lost: look at everything again.
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error()) => {
                    self.list_links();
                }
                Err(error) => return Err(error).context("hear the kernel"),
            }
        }
    }

    fn said(&mut self, said: Said) {
        match said {
            Said::Link(link) => {
                self.listed.insert(link.index);
                self.link(link);
            }
            Said::LinkGone(index) => {
                if let Some(nic) = self.nics.remove(&index) {
                    host::log!("{} is gone", nic.link.name);
                }
            }
            Said::Address(address) => {
                if let Some(nic) = self.nics.get_mut(&address.link) {
                    nic.addresses.retain(|(known, _)| *known != address.address);
                    if address.global && address.address.is_ipv6() {
                        nic.addresses.push((address.address, address.prefix));
                    }
                }
            }
            Said::AddressGone(address) => {
                if let Some(nic) = self.nics.get_mut(&address.link) {
                    nic.addresses.retain(|(known, _)| *known != address.address);
                }
            }
            Said::Answer { sequence, errno } => match self.asked.remove(&sequence) {
                // A dump of one kind at a time: addresses mean something once the links are known.
                Some(what) if what == "list the links" => {
                    // Those whose going was lost.
                    let listed = std::mem::take(&mut self.listed);
                    self.nics.retain(|index, _| listed.contains(index));
                    self.ask("list the addresses", rtnl::dump_addresses)
                }
                Some(what) if errno != 0 && !SO_ALREADY.contains(&errno) => {
                    let raised = what.strip_prefix(RAISE);
                    let nic = self.nics.values_mut().find(|nic| raised == Some(nic.link.name.as_str()));
                    if let Some(nic) = nic {
                        nic.retry = Some(now() + RETRY); // its firmware may come with a layer
                    }
                    self.problem(format!("{what}: {}", std::io::Error::from_raw_os_error(errno)));
                }
                _ => {}
            },
        }
    }

    fn link(&mut self, link: rtnl::Link) {
        let index = link.index;
        let had_carrier = self.nics.get(&index).is_some_and(|nic| nic.link.carrier);
        match self.nics.get_mut(&index) {
            Some(nic) => nic.link = link,
            None => {
                let Some(nic) = Nic::new(link, &self.root, &self.wishes) else { return };
                host::log!("{} ({}, {})", nic.link.name, nic.mac_text(), nic.driver);
                self.nics.insert(index, nic);
            }
        }
        let nic = &self.nics[&index]; // found or inserted above
        if nic.link.enslaved {
            return self.leave(index);
        }
        if !nic.wanted {
            return;
        }
        if !nic.link.up {
            if !nic.raised {
                self.raise(index);
            }
            return;
        }
        let (carrier, asking) = (nic.link.carrier, nic.client.is_some());
        if carrier && !asking {
            self.begin(index);
        } else if carrier && !had_carrier {
            // A cable was plugged: it may be another network.
            self.step(index, dhcp::machine::Event::Renew);
        }
    }

    fn raise(&mut self, index: u32) {
        let Some(nic) = self.nics.get_mut(&index) else { return };
        (nic.raised, nic.retry) = (true, None);
        let what = format!("{RAISE}{}", nic.link.name);
        self.ask(&what, |sequence| rtnl::link_up(sequence, index, None));
    }

    /// Another interface has this one, and so its address.
    fn leave(&mut self, index: u32) {
        let Some(nic) = self.nics.get_mut(&index) else { return };
        (nic.client, nic.socket, nic.udp, nic.arp) = (None, None, None, None);
        let Some((address, prefix)) = nic.configured.take() else { return };
        let name = nic.link.name.clone();
        host::log!("{name} belongs to another interface now: {address} is taken from it");
        self.ask(&format!("take {address} from {name}"), |sequence| {
            rtnl::remove_address(sequence, index, address, prefix)
        });
        host::events::tell(&Event::AddressLost { interface: name, address: address.to_string() });
    }

    /// Starts DHCP on a link, with the lease of an earlier life if there is one.
    fn begin(&mut self, index: u32) {
        let Some(nic) = self.nics.get_mut(&index) else { return };
        match packet::open(index, CLIENT_PORT) {
            Ok(socket) => nic.socket = Some(socket),
            Err(error) => {
                let name = nic.link.name.clone();
                return self.problem(format!("{name}: open a packet socket: {error}"));
            }
        }
        let held = self
            .leases
            .get(&nic.mac_text())
            .filter(|held| held.expires().is_none_or(|end| end > now()))
            .cloned();
        let adopted = held.is_some();
        nic.client = Some(Client::new(nic.mac, self.wishes.hostname.clone(), held, random(), now()));
        if adopted {
            self.configure(index);
        }
        self.step(index, dhcp::machine::Event::Timer);
    }

    fn receive(&mut self, index: u32) {
        let mut buffer = vec![0; PACKET];
        loop {
            let Some(nic) = self.nics.get_mut(&index) else { return };
            let (Some(socket), Some(client)) = (&nic.socket, &nic.client) else { return };
            let length = match packet::receive(socket, &mut buffer) {
                Ok(Some(length)) => length,
                Ok(None) => return,
                Err(error) => return host::log!("{}: receive: {error}", nic.link.name), // a link that went down
            };
            match decode_packet(&buffer[..length], client.xid(), client.mac) {
                Ok(Some(message)) => self.step(index, dhcp::machine::Event::Received(message)),
                Ok(None) => {}
                Err(reason) => {
                    let name = nic.link.name.clone();
                    self.problem(format!("{name}: {reason}"));
                }
            }
        }
    }

    /// Answers to the probe of an offered address.
    fn receive_arp(&mut self, index: u32) {
        let mut buffer = [0; 128];
        loop {
            let Some(nic) = self.nics.get_mut(&index) else { return };
            let Some((socket, address)) = nic.arp.as_ref().zip(nic.client.as_ref().and_then(Client::probing))
            else {
                return;
            };
            let length = match packet::receive(socket, &mut buffer) {
                Ok(Some(length)) => length.min(buffer.len()),
                Ok(None) => return,
                Err(error) => return host::log!("{}: receive ARP: {error}", nic.link.name),
            };
            if let Some(mac) = arp::claims(&buffer[..length], nic.mac, address) {
                self.step(index, dhcp::machine::Event::Conflict(mac));
            }
        }
    }

    fn step(&mut self, index: u32, event: dhcp::machine::Event) {
        let Some(nic) = self.nics.get_mut(&index) else { return };
        let Some(client) = &nic.client else { return };
        let (next, actions) = step(client, event, now(), random());
        if next.probing().is_none() {
            nic.arp = None;
        }
        nic.client = Some(next);
        for action in actions {
            self.act(index, action);
        }
    }

    fn act(&mut self, index: u32, action: Action) {
        let Some(nic) = self.nics.get_mut(&index) else { return };
        let name = nic.link.name.clone();
        match action {
            Action::Say(text) => host::log!("{name}: {text}"),
            Action::Warn(text) => self.problem(format!("{name}: {text}")),
            Action::Probe(address) => match packet::open_arp(index) {
                Ok(socket) => {
                    if let Err(error) = packet::broadcast_arp(&socket, index, &arp::probe(nic.mac, address)) {
                        host::log!("{name}: probe {address}: {error}");
                    }
                    nic.arp = Some(socket);
                }
                // Without the probe the address is used as any client uses it.
                Err(error) => host::log!("{name}: open an ARP socket: {error}"),
            },
            Action::Broadcast(message) => {
                let packet = broadcast_packet(&message.encode(), message.client);
                let sent = nic.socket.as_ref().map(|socket| packet::broadcast(socket, index, &packet));
                if let Some(Err(error)) = sent {
                    host::log!("{name}: send: {error}"); // retransmitted anyway
                }
            }
            Action::Unicast(server, message) => {
                let sent = nic.udp.as_ref().map(|udp| {
                    packet::send_udp(udp, SocketAddrV4::new(server, SERVER_PORT), &message.encode())
                });
                if let Some(Err(error)) = sent {
                    host::log!("{name}: send to {server}: {error}");
                }
            }
            Action::Configure => self.configure(index),
            Action::Remove(address) => {
                nic.udp = None;
                let prefix = nic.configured.take().map_or(32, |(_, prefix)| prefix);
                self.ask(&format!("take {address} from {name}"), |sequence| {
                    rtnl::remove_address(sequence, index, address, prefix)
                });
                host::events::tell(&Event::AddressLost { interface: name, address: address.to_string() });
            }
        }
    }

    /// Puts the lease of a link into the kernel and writes it down.
    fn configure(&mut self, index: u32) {
        let Some(nic) = self.nics.get_mut(&index) else { return };
        let Some(held) = nic.client.as_ref().and_then(|client| client.held.clone()) else { return };
        let (name, lease) = (nic.link.name.clone(), &held.lease);
        let seconds =
            held.expires().map_or(u32::MAX, |end| end.saturating_sub(now()).as_secs().max(1) as u32);
        let news = nic.configured != Some((lease.address, lease.prefix));
        nic.configured = Some((lease.address, lease.prefix));
        if nic.order.is_none() {
            nic.order = Some(self.leased);
            self.leased += 1;
        }
        let (address, prefix, mtu) = (lease.address, lease.prefix, lease.mtu);
        self.ask(&format!("give {name} {address}/{prefix}"), |sequence| {
            rtnl::add_address(sequence, index, address, prefix, seconds)
        });
        if mtu.is_some() {
            self.ask(&format!("set the MTU of {name}"), |sequence| rtnl::link_up(sequence, index, mtu));
        }
        if news {
            host::log!("{name}: {address}/{prefix} from {}, {} s", lease.server, lease.seconds);
            host::events::tell(&Event::Address {
                interface: name.clone(),
                address: address.to_string(),
                gateway: lease.gateway.map(|gateway| gateway.to_string()),
            });
            match packet::udp(&name, address, CLIENT_PORT) {
                Ok(udp) => {
                    if let Some(nic) = self.nics.get_mut(&index) {
                        nic.udp = Some(udp);
                    }
                }
                Err(error) => self.problem(format!("{name}: open the renewal socket: {error}")),
            }
        }
    }

    /// Brings kernel, resolver, host name, lease file and state file in line with what is known now.
    fn settle(&mut self) {
        let wanted = routing::plan(&self.leased());
        if wanted != self.applied {
            let before = std::mem::replace(&mut self.applied, wanted.clone());
            for rule in before.rules.iter().filter(|rule| !wanted.rules.contains(rule)) {
                self.ask("remove a rule", |sequence| rtnl::remove_rule(sequence, *rule));
            }
            for route in before.routes.iter().filter(|route| !wanted.routes.contains(route)) {
                self.ask("remove a route", |sequence| rtnl::remove_route(sequence, route));
            }
            for route in wanted.routes.iter().filter(|route| !before.routes.contains(route)) {
                let what = format!(
                    "add the route to {}/{} of table {}",
                    route.destination, route.prefix, route.table
                );
                self.ask(&what, |sequence| rtnl::add_route(sequence, route));
            }
            for rule in wanted.rules.iter().filter(|rule| !before.rules.contains(rule)) {
                self.ask(&format!("add the rule for {}", rule.from), |sequence| {
                    rtnl::add_rule(sequence, *rule)
                });
            }
        }
        self.resolve();
        self.name();
        self.remember();
        self.publish();
    }

    fn leased(&self) -> Vec<Leased<'_>> {
        let leased = self.nics.iter().filter_map(|(index, nic)| {
            let lease = nic.client.as_ref()?.lease()?;
            nic.configured?;
            Some(Leased {
                link: *index,
                lease,
                booted_from: self.wishes.boot_mac == Some(nic.mac),
                bmc: nic.bmc,
                carrier: nic.link.carrier,
                order: nic.order.unwrap_or(u64::MAX),
            })
        });
        leased.collect()
    }

    fn resolve(&mut self) {
        let mut servers: Vec<IpAddr> = self.wishes.nameservers.clone();
        let mut search: Vec<String> = Vec::new();
        for leased in routing::ranked(&self.leased()) {
            servers.extend(leased.lease.nameservers.iter().map(|server| IpAddr::V4(*server)));
            search.extend(leased.lease.search.iter().cloned());
        }
        let mut seen = Vec::new();
        servers.retain(|server| {
            !seen.contains(server) && {
                seen.push(*server);
                true
            }
        });
        let mut known = BTreeSet::new();
        search.retain(|domain| known.insert(domain.clone()));
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

    fn name(&mut self) {
        let leased = self.leased();
        let leased = routing::ranked(&leased).into_iter().find_map(|leased| leased.lease.hostname.clone());
        let first = self
            .nics
            .values()
            .next()
            .map(|nic| format!("lifeboat-{:02x}{:02x}{:02x}", nic.mac[3], nic.mac[4], nic.mac[5]));
        let name =
            self.wishes.hostname.clone().or(leased).or(first).unwrap_or_else(|| "lifeboat".to_string());
        if name != self.hostname {
            if let Err(error) = rustix::system::sethostname(name.as_bytes()) {
                self.problem(format!("set the host name {name}: {error}"));
            }
            self.hostname = name;
        }
    }

    /// Leases for the next life.
    fn remember(&mut self) {
        let held = |nic: &Nic| Some((nic.mac_text(), nic.client.as_ref()?.held.clone()?));
        let leases: BTreeMap<String, Held> = self.nics.values().filter_map(held).collect();
        if leases != self.leases && !self.nics.is_empty() {
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
        let state = state::Netd {
            hostname: self.hostname.clone(),
            links: self.nics.values().map(|nic| nic.state(&self.wishes)).collect(),
            nameservers: self
                .resolver
                .lines()
                .filter_map(|line| line.strip_prefix("nameserver "))
                .map(str::to_string)
                .collect(),
            problems: self.problems.clone(),
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
            Ok(NetdRequest::Renew { interface }) => {
                let index =
                    self.nics.iter().find(|(_, nic)| nic.link.name == interface).map(|(index, _)| *index);
                match index {
                    Some(index) => {
                        self.step(index, dhcp::machine::Event::Renew);
                        Reply::Done
                    }
                    None => Reply::Failed { error: format!("no wired interface {interface}") },
                }
            }
            Err(error) => Reply::Failed { error: error.to_string() },
        };
        if let Err(error) = host::ask::reply(&connection, &reply) {
            host::log!("answer a question: {error}");
        }
    }
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
