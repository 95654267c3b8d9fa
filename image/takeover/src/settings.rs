//! The running system's network in the words that a boot of Lifeboat takes (docs/network.md): pure. NICs are named by
//! their MACs, since their names are the running system's.
//!
//! Kept are the addresses by which others reach the machine, with what they stand on: NICs, VLANs, bonds, bridges.
//! What an address cannot be kept of (a tunnel, a container's bridge) is said, and where it is the one that the person is
//! logged in by, or that the default route goes by, it is a reason not to go on.

use crate::netlink::{self, Address, Link, Network, Route};
use crate::service;
use network::{Mac, is_within};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What netlink does not tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beside {
    /// Names of the links that have a device behind them, by a wire.
    pub nics: BTreeSet<String>,
    /// Of those that Lifeboat does not take up.
    pub wireless: BTreeSet<String>,
    /// The options of each bond, as sysfs has them: `mode` to `802.3ad 4`.
    pub bonds: BTreeMap<String, BTreeMap<String, String>>,
    /// What was burnt into a port of a bond, which has the bond's MAC as long as it is one.
    pub burnt_in: BTreeMap<String, Mac>,
    /// Bridges with the spanning tree protocol.
    pub spanning: BTreeSet<String>,
    pub nameservers: Vec<IpAddr>,
    pub hostname: String,
    /// This machine's end of the connection that the person is logged in by.
    pub entrance: Option<IpAddr>,
    /// The other end.
    pub peer: Option<IpAddr>,
    /// Which of [`service::MOVERS`] run.
    pub movers: BTreeSet<String>,
    /// Addresses that the person wants kept, whoever moves them, and those that he does not.
    pub with: Vec<IpAddr>,
    pub without: Vec<IpAddr>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// Parameters.
    pub words: Vec<String>,
    /// Whose addresses are kept, for a person: `192.0.2.5/24 on bond0`.
    pub kept: Vec<String>,
    /// What will not be as it was.
    pub notes: Vec<String>,
    /// Why the person might not get back in.
    pub dangers: Vec<String>,
}

/// Options of a bond that are handed on, with the value that the driver has by itself.
const BOND_OPTIONS: &[(&str, &str)] = &[
    ("ad_select", "stable"),
    ("arp_interval", "0"),
    ("arp_ip_target", ""),
    ("downdelay", "0"),
    ("fail_over_mac", "none"),
    ("lacp_rate", "slow"),
    ("miimon", "100"), // Lifeboat's own, where nothing is said
    ("min_links", "0"),
    ("mode", "balance-rr"),
    ("updelay", "0"),
    ("xmit_hash_policy", "layer2"),
];
/// Bytes; what a link has unless somebody says otherwise.
const USUAL_MTU: u32 = 1500;

/// Where it is another one.
fn mtu(link: &Link) -> Option<u32> {
    Some(link.mtu).filter(|mtu| *mtu != USUAL_MTU && *mtu != 0)
}

pub fn words(all: &Network, beside: &Beside) -> Words {
    let mut words = Words::default();
    for unknown in beside.with.iter().chain(&beside.without) {
        if !all.addresses.iter().any(|own| own.address == *unknown) {
            words.dangers.push(format!("this machine has no address {unknown}, which you name"));
        }
    }
    let mut network = all.clone();
    network.addresses.retain(|own| !is_left_out(own, all, beside, &mut words.notes));
    let mut writer = Writer {
        network: &network,
        beside,
        names: BTreeMap::new(),
        kept: Vec::new(),
        ways: Vec::new(),
        words,
    };
    for link in &network.links {
        writer.link(link);
    }
    writer.silent();
    writer.preferred();
    writer.rest();
    writer.words
}

/// What the person does not want, or a service has, which the machine is not to answer for; `notes` say why.
fn is_left_out(own: &Address, network: &Network, beside: &Beside, notes: &mut Vec<String>) -> bool {
    let address = own.address;
    if beside.without.contains(&address) {
        notes.push(format!("{address} is left out, as you say"));
        return true;
    }
    let Some(mover) = service::mover(own, network, &beside.movers) else { return false };
    if beside.with.contains(&address) {
        return false;
    }
    let is_entrance = beside.entrance == Some(address);
    notes.push(match is_entrance {
        true => format!(
            "{address} is kept, since you are logged in by it, but {mover} may give it to another machine: log in by another address, and leave it out by --without {address}"
        ),
        false => format!("{address} is left out: {mover} may give it to another machine; --with {address} keeps it"),
    });
    !is_entrance
}

struct Writer<'a> {
    network: &'a Network,
    beside: &'a Beside,
    /// By what a link is named in a word, once it was made.
    names: BTreeMap<u32, String>,
    /// Own addresses that will be there again.
    kept: Vec<IpAddr>,
    /// Networks that there will be a way to.
    ways: Vec<(IpAddr, u8)>,
    words: Words,
}

impl Writer<'_> {
    fn say(&mut self, word: String) {
        self.words.words.push(word);
    }

    fn by_index(&self, index: u32) -> Option<&Link> {
        self.network.links.iter().find(|link| link.index == index)
    }

    fn is_nic(&self, link: &Link) -> bool {
        link.is_ethernet && self.beside.nics.contains(&link.name)
    }

    /// What was burnt into a NIC, and so is its MAC after the start.
    fn burnt_in(&self, link: &Link) -> Option<Mac> {
        self.beside.burnt_in.get(&link.name).copied().or(link.permanent).or(link.mac)
    }

    /// An address of a link in words, with what the link stands on.
    fn link(&mut self, link: &Link) {
        let addresses: Vec<Address> =
            self.network.addresses.iter().filter(|address| address.link == link.index).cloned().collect();
        let routes: Vec<Route> =
            self.network.routes.iter().filter(|route| route.link == link.index).cloned().collect();
        if addresses.is_empty() {
            return;
        }
        let Some(name) = self.named(link.index, 0) else {
            return self.lose(link, &addresses, &routes);
        };
        // Stable as the kernel tells them, the best default route of each family first.
        let mut defaults: Vec<&Route> =
            routes.iter().filter(|route| route.prefix == 0 && !route.advertised).collect();
        defaults.sort_by_key(|route| route.metric);
        let is_leased =
            |is_four: bool| addresses.iter().any(|own| own.leased && own.address.is_ipv4() == is_four);
        let is_advertised = routes.iter().any(|route| route.advertised);
        let methods = match (is_leased(true), is_leased(false) || is_advertised) {
            (true, _) => "dhcp", // and what routers say
            (false, true) => "auto6",
            (false, false) => "off",
        };
        let mtu = mtu(link).map(|mtu| mtu.to_string()).unwrap_or_default();
        let mac = self.other_mac(link).map(|mac| mac.to_string()).unwrap_or_default();
        let more = match (mtu.is_empty(), mac.is_empty()) {
            (true, true) => String::new(),
            (false, true) => format!(":{mtu}"),
            (_, false) => format!(":{mtu}:{mac}"),
        };
        let mut gateways: Vec<IpAddr> = Vec::new();
        for own in &addresses {
            let family = |by: &IpAddr| by.is_ipv4() == own.address.is_ipv4();
            // Beside the address that it is in the subnet of, else beside the first of its family.
            let near = |by: &&IpAddr| is_within(**by, own.address, own.prefix);
            let same = defaults.iter().filter(|route| family(&route.destination));
            let candidates: Vec<IpAddr> =
                same.filter_map(|route| route.gateway).filter(family).take(1).collect();
            let has_near = addresses
                .iter()
                .any(|other| candidates.iter().any(|by| is_within(*by, other.address, other.prefix)));
            let gateway =
                candidates.iter().find(|by| !gateways.contains(by) && (!has_near || near(by))).copied();
            gateways.extend(gateway);
            self.ways.push((own.address, own.prefix));
            self.ways.extend(own.peer.map(|peer| (peer, if peer.is_ipv4() { 32 } else { 128 })));
            self.ways.extend(gateway.map(unspecified).map(|all| (all, 0)));
            let peer = own.peer.map(shown).unwrap_or_default();
            let gateway = gateway.map(shown).unwrap_or_default();
            self.say(format!(
                "ip={}:{peer}:{gateway}:{}::{name}:{methods}{more}",
                shown(own.address),
                own.prefix
            ));
            self.kept.push(own.address);
            self.words.kept.push(format!("{}/{} on {}", own.address, own.prefix, link.name));
        }
        for route in &routes {
            match route.gateway {
                _ if route.advertised => self.ways.push((route.destination, route.prefix)),
                Some(by) if by.is_ipv4() != route.destination.is_ipv4() => self.words.notes.push(format!(
                    "the route to {}/{} by {by} on {} is left out",
                    route.destination, route.prefix, link.name
                )),
                Some(by) if route.prefix == 0 && gateways.contains(&by) => {}
                // A second default route of a link: the first one is what counts.
                Some(_) if route.prefix == 0 => {}
                Some(by) => self.route(route, &shown(by), &name),
                // The way to a gateway outside of the subnet is made by itself.
                None if gateways.contains(&route.destination) => {}
                None => self.route(route, "", &name),
            }
        }
    }

    fn route(&mut self, route: &Route, by: &str, name: &str) {
        self.ways.push((route.destination, route.prefix));
        self.say(format!("rd.route={}/{}:{by}:{name}", shown(route.destination), route.prefix));
    }

    /// A MAC that somebody gave to it: of a made link too, since a switch may know it by that one alone.
    fn other_mac(&self, link: &Link) -> Option<Mac> {
        match link.kind.as_str() {
            "" => link.mac.filter(|mac| Some(*mac) != self.burnt_in(link) && link.master.is_none()),
            "bond" | "bridge" => link.mac,
            // A VLAN has that of what it stands on.
            _ => None,
        }
    }

    /// By what a link is named in a word; makes what it stands on. `None` for what cannot be made.
    fn named(&mut self, index: u32, depth: usize) -> Option<String> {
        if let Some(name) = self.names.get(&index) {
            return Some(name.clone());
        }
        let link = self.by_index(index).filter(|_| depth < 8)?.clone();
        let ports: Vec<Link> =
            self.network.links.iter().filter(|port| port.master == Some(index)).cloned().collect();
        let name = match link.kind.as_str() {
            _ if self.is_nic(&link) => dashed(self.burnt_in(&link)?),
            "vlan" => {
                let id = link.vlan.filter(|id| (1..=4094).contains(id))?;
                let below = self.made_name(link.below?, depth + 1)?;
                let name = vlan_name(&link.name, &below, id);
                self.say(format!("vlan={name}:{below}"));
                name
            }
            "bond" => {
                let ports = self.ports(&ports, depth)?;
                let options = self.beside.bonds.get(&link.name).map(bond_options).unwrap_or_default();
                self.say(format!("bond={}:{ports}:{options}", link.name));
                link.name.clone()
            }
            "bridge" => {
                let ports = self.ports(&ports, depth)?;
                self.say(format!("bridge={}:{ports}", link.name));
                if self.beside.spanning.contains(&link.name) {
                    self.words.notes.push(format!("{}: without the spanning tree protocol", link.name));
                }
                link.name.clone()
            }
            _ => return None,
        };
        self.names.insert(index, name.clone());
        Some(name)
    }

    /// Those ports that can be made; `None` where there is none.
    fn ports(&mut self, ports: &[Link], depth: usize) -> Option<String> {
        let mut names = Vec::new();
        for port in ports {
            match self.named(port.index, depth + 1) {
                Some(name) => names.push(name),
                // What virtual machines and containers are plugged into goes with them.
                None if port.kind == netlink::SERVICE_VLAN => {
                    let line = format!("{} ({}) is not kept as a port", port.name, port.kind);
                    self.words.notes.push(line);
                }
                None => {}
            }
        }
        (!names.is_empty()).then(|| names.join(","))
    }

    /// A name proper: a VLAN stands on nothing that a MAC names. A NIC gets one that no kernel gives.
    fn made_name(&mut self, index: u32, depth: usize) -> Option<String> {
        let link = self.by_index(index)?.clone();
        if !self.is_nic(&link) {
            return self.named(index, depth);
        }
        if let Some(name) = self.names.get(&index).filter(|name| name.starts_with("lan")) {
            return Some(name.clone());
        }
        let mac = self.burnt_in(&link)?;
        let name = format!("lan{}", self.names.values().filter(|name| name.starts_with("lan")).count());
        self.say(format!("ifname={name}:{mac}"));
        // What was said of it by its MAC is of the same NIC.
        self.names.insert(index, name.clone());
        Some(name)
    }

    /// What was made for others to stand on, and had no address, asks for none. A port asks for none by itself; that of a bridge
    /// has an MTU of its own, and that of a bond the bond's.
    fn silent(&mut self) {
        let silent: Vec<String> =
            self.names.iter().filter_map(|(index, name)| self.silenced(*index, name)).collect();
        self.words.words.extend(silent);
    }

    fn silenced(&self, index: u32, name: &str) -> Option<String> {
        let link = self.by_index(index)?;
        if self.network.addresses.iter().any(|own| own.link == index) {
            return None;
        }
        let master = link.master.and_then(|master| self.by_index(master));
        match (mtu(link), master) {
            (None, None) => Some(format!("ip={name}:off")),
            (Some(mtu), None) => Some(format!("ip={name}:off:{mtu}")),
            (Some(mtu), Some(master)) if master.kind != "bond" => Some(format!("ip={name}:off:{mtu}")),
            (_, Some(_)) => None,
        }
    }

    fn lose(&mut self, link: &Link, addresses: &[Address], routes: &[Route]) {
        let kind = match link.kind.as_str() {
            "" if self.beside.wireless.contains(&link.name) => "Wi-Fi",
            "" if link.is_ethernet => "no device behind it",
            "" => "no Ethernet",
            kind => kind,
        };
        let list: Vec<String> =
            addresses.iter().map(|own| format!("{}/{}", own.address, own.prefix)).collect();
        let line = format!("{} ({kind}) is not kept: {}", link.name, list.join(", "));
        let is_entrance = addresses.iter().any(|own| Some(own.address) == self.beside.entrance);
        match (is_entrance, routes.iter().any(|route| route.prefix == 0)) {
            (true, _) => self.words.dangers.push(format!("{line}; you are logged in by that address")),
            (false, true) => self.words.dangers.push(format!("{line}; the default route goes by it")),
            (false, false) => self.words.notes.push(line),
        }
    }

    /// Whose default route counts.
    fn preferred(&mut self) {
        let defaults = self.network.routes.iter().filter(|route| route.prefix == 0);
        let best = defaults.min_by_key(|route| (!route.destination.is_ipv4(), route.metric));
        let Some(link) = best.and_then(|route| self.by_index(route.link)).cloned() else { return };
        match (self.is_nic(&link), self.burnt_in(&link), self.names.get(&link.index).cloned()) {
            (true, Some(mac), Some(_)) => self.say(format!("BOOTIF=01-{}", dashed(mac))),
            (false, _, Some(name)) => self.say(format!("bootdev={name}")),
            _ => {}
        }
    }

    fn rest(&mut self) {
        for server in &self.beside.nameservers {
            self.words.words.push(format!("nameserver={}", bare(*server)));
        }
        if network::is_host(&self.beside.hostname) {
            self.say(format!("rescue.hostname={}", self.beside.hostname));
        }
        if self.network.elsewhere > 0 {
            let line =
                format!("{} route(s) of other tables than the main one are not kept", self.network.elsewhere);
            self.words.notes.push(line);
        }
        let is_lost = |entrance: &IpAddr| {
            // Of an address that was seen and lost it is said why.
            let is_seen = self.network.addresses.iter().any(|own| own.address == *entrance);
            !self.kept.contains(entrance) && !is_seen
        };
        if let Some(entrance) = self.beside.entrance.filter(is_lost) {
            let line = format!("you are logged in by {entrance}, which is no address that is kept");
            self.words.dangers.push(line);
        }
        // Where there is a way to the person's end, whatever became of the routes.
        let is_near = |peer: &IpAddr| peer.is_loopback() || is_of_link(peer);
        let has_way =
            |peer: &IpAddr| self.ways.iter().any(|(network, prefix)| is_within(*peer, *network, *prefix));
        if let Some(peer) = self.beside.peer.filter(|peer| !is_near(peer) && !has_way(peer)) {
            self.words.dangers.push(format!("no way back to {peer}, where you are: no route to it is kept"));
        }
        if self.words.kept.is_empty() && self.words.dangers.is_empty() {
            self.words.dangers.push("no address is kept: every NIC will ask by DHCP".into());
        }
    }
}

/// It has to end in the identifier, and to fit.
fn vlan_name(name: &str, below: &str, id: u16) -> String {
    let digits = &name[name.trim_end_matches(|c: char| c.is_ascii_digit()).len()..];
    let fits = digits.parse() == Ok(id) && network::is_interface(name);
    let dotted = format!("{below}.{id}");
    match (fits, network::is_interface(&dotted)) {
        (true, _) => name.to_string(),
        (false, true) => dotted,
        (false, false) => format!("vlan{id}"),
    }
}

fn bond_options(options: &BTreeMap<String, String>) -> String {
    let mut text = String::new();
    for (name, usual) in BOND_OPTIONS {
        // `802.3ad 4`: a word and its number; of targets all words count.
        let value = options.get(*name).map(String::as_str).unwrap_or_default().trim();
        let value = match *name {
            "arp_ip_target" => value.split_ascii_whitespace().collect::<Vec<_>>().join(";"),
            _ => value.split_ascii_whitespace().next().unwrap_or_default().to_string(),
        };
        let is_off = *name == "miimon" && value == "0";
        if !value.is_empty() && value != *usual && !is_off {
            let comma = if text.is_empty() { "" } else { "," };
            let _ = write!(text, "{comma}{name}={value}"); // a String takes all
        }
    }
    text
}

/// All addresses of the family of this one.
fn unspecified(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

fn is_of_link(address: &IpAddr) -> bool {
    matches!(address, IpAddr::V6(six) if six.segments()[0] & 0xffc0 == 0xfe80)
}

fn dashed(mac: Mac) -> String {
    mac.to_string().replace(':', "-")
}

fn bare(address: IpAddr) -> String {
    address.to_string()
}

/// In brackets where colons part fields.
fn shown(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
