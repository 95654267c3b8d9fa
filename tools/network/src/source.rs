//! What the sources that are files share: where files are read, and the words that each format has in its own place,
//! such as an address with a length, a route, an option of a bond. A word that cannot be used is told in
//! [`Plan::problems`], behind the file that has it, and the rest counts.

use crate::dracut::{MTUS, VLANS, add, bond_option, team_mode, with_monitor};
use crate::stack::{below, without_loops};
use crate::words::{
    address, bits, is_host, is_host_address, is_interface, is_within, masked, network, prefix,
};
use crate::yaml::{self, Node};
use crate::{
    Address, BondOption, Kind, Link, MOST_LINKS, MOST_PER_LINK, Mac, Methods, Plan, Route, Selector,
};
use std::collections::HashSet;
use std::net::{IpAddr, Ipv6Addr};

/// Bytes of one file; more is no configuration.
pub const MOST_BYTES: usize = 1 << 20;
/// Files of one kind.
pub const MOST_FILES: usize = 512;
/// Bytes of all files of one kind.
pub const MOST_TOGETHER: usize = 4 << 20;

/// The files of a system, below its root. Paths begin with a slash; no symbolic link may lead out of the root.
pub trait Files {
    /// A regular file's content; `None` where there is none.
    fn read(&self, path: &str) -> Option<Vec<u8>>;
    /// The names in a directory; none where there is no directory.
    fn list(&self, directory: &str) -> Vec<String>;
    /// What a symbolic link says, unresolved.
    fn link(&self, path: &str) -> Option<String>;
}

/// One file of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    pub path: String,
    pub text: String,
}

impl File {
    pub fn new(path: &str, text: &str) -> File {
        File { path: path.to_string(), text: text.to_string() }
    }

    /// As text, where it is one that can be read.
    pub fn read(files: &dyn Files, path: &str, plan: &mut Plan) -> Option<File> {
        let bytes = files.read(path)?;
        if bytes.len() > MOST_BYTES {
            plan.problem(format!("{}: larger than {} KiB: left out", shown(path), MOST_BYTES >> 10));
            return None;
        }
        let text = String::from_utf8_lossy(&bytes);
        // For people; what a hostile name has in it must not steer their terminal.
        let plain = |c: char| match c {
            '\'' | '"' | '\\' => c.to_string(),
            c => c.escape_debug().to_string(),
        };
        Some(File {
            path: path.chars().map(plain).collect(),
            text: text.trim_start_matches('\u{feff}').to_string(),
        })
    }

    /// The files of a directory whose names are wanted, in the order of the names.
    pub fn all(
        files: &dyn Files,
        directory: &str,
        is_wanted: &dyn Fn(&str) -> bool,
        plan: &mut Plan,
    ) -> Vec<File> {
        let mut names = files.list(directory);
        names.retain(|name| is_wanted(name));
        names.sort();
        names.truncate(MOST_FILES);
        let mut room = Room::default();
        names
            .iter()
            .filter_map(|name| File::read(files, &format!("{directory}/{name}"), plan))
            .filter(|file| room.has(file))
            .collect()
    }
}

/// What is left of [`MOST_TOGETHER`].
pub(crate) struct Room(usize);

impl Default for Room {
    fn default() -> Room {
        Room(MOST_TOGETHER)
    }
}

impl Room {
    /// Whether a file has a place besides those before it; it is left out silently then, for no configuration comes near.
    pub fn has(&mut self, file: &File) -> bool {
        let left = self.0.checked_sub(file.text.len());
        self.0 = left.unwrap_or(0);
        left.is_some()
    }
}

/// A text from a file as a line may show it.
pub(crate) fn shown(text: &str) -> String {
    const MOST: usize = 80;
    let mut cut: String = text.chars().take(MOST).flat_map(char::escape_debug).collect();
    if text.chars().nth(MOST).is_some() {
        cut.push_str("...");
    }
    cut
}

/// Where a word stands, and the plan that gets the problems.
pub(crate) struct At<'a> {
    pub plan: &'a mut Plan,
    pub place: String,
}

impl At<'_> {
    pub fn tell(&mut self, what: &str) {
        self.plan.problem(format!("{}: {what}", self.place));
    }

    /// What was read, or a line about it.
    pub fn or_tell<T>(&mut self, result: Result<T, String>) -> Option<T> {
        result.map_err(|what| self.tell(&what)).ok()
    }
}

pub(crate) fn at<'a>(plan: &'a mut Plan, file: &str, what: &str) -> At<'a> {
    let what = if what.is_empty() { String::new() } else { format!(", {}", shown(what)) };
    At { plan, place: format!("{}{what}", shown(file)) }
}

pub(crate) fn mtu(text: &str) -> Result<u32, String> {
    text.parse().ok().filter(|mtu| MTUS.contains(mtu)).ok_or_else(|| format!("{} is not an MTU", shown(text)))
}

pub(crate) fn mac(text: &str) -> Result<Mac, String> {
    Mac::parse(text).filter(|mac| mac.is_one()).ok_or_else(|| format!("{} is not a MAC address", shown(text)))
}

pub(crate) fn vlan_id(text: &str) -> Result<u16, String> {
    let id = text.parse().ok().filter(|id| VLANS.contains(id));
    id.ok_or_else(|| format!("{} is not a VLAN's identifier of 1 to 4094", shown(text)))
}

pub(crate) fn interface(text: &str) -> Result<String, String> {
    match is_interface(text) {
        true => Ok(text.to_string()),
        false => Err(format!("{} is not an interface's name", shown(text))),
    }
}

/// An address, without a zone.
pub(crate) fn host(text: &str) -> Result<IpAddr, String> {
    address(text.split('%').next().unwrap_or_default())
        .ok_or_else(|| format!("{} is not an address", shown(text)))
}

/// `192.0.2.7/24`; the mask may stand elsewhere.
pub(crate) fn own(text: &str, mask: Option<&str>) -> Result<Address, String> {
    let wrong = || format!("{} is not an address that an interface can have", shown(text));
    let (own, length) = network(text).filter(|(own, _)| is_host_address(*own)).ok_or_else(wrong)?;
    let length = match mask.filter(|_| !text.contains('/')) {
        Some(mask) => mask_length(mask, own).ok_or_else(|| format!("{} is not a netmask", shown(mask)))?,
        None => length,
    };
    Ok(Address { address: own, prefix: length, peer: None })
}

/// A length, or a mask of either family.
pub(crate) fn mask_length(text: &str, of: IpAddr) -> Option<u8> {
    let six = || {
        let mask = u128::from(text.parse::<Ipv6Addr>().ok().filter(|_| of.is_ipv6())?);
        let is_one_piece = mask.leading_ones() + mask.trailing_zeros() >= 128;
        is_one_piece.then(|| mask.leading_ones() as u8) // 128 at most
    };
    prefix(text.trim_start_matches('/'), of).or_else(six)
}

/// A gateway that is no address of this link's own family is none.
pub(crate) fn gateway(text: &str) -> Result<IpAddr, String> {
    host(text)
        .ok()
        .filter(|gateway| is_host_address(*gateway))
        .ok_or_else(|| format!("{} is no gateway", shown(text)))
}

/// `to` may be `default`, and have its mask elsewhere; a gateway of zeros is none.
pub(crate) fn route(to: &str, mask: Option<&str>, via: Option<&str>) -> Result<Route, String> {
    let via = via.filter(|via| !via.is_empty() && !matches!(*via, "0.0.0.0" | "::" | "-"));
    let via = via.map(gateway).transpose()?;
    let (destination, length) = match to {
        "default" | "0/0" | "any" => match via {
            Some(via) => (Route::default_by(via).destination, 0),
            None => (IpAddr::from([0; 4]), 0),
        },
        _ => {
            let wrong = || format!("{} is not a network", shown(to));
            let (network, length) = network(to).ok_or_else(wrong)?;
            match mask.filter(|_| !to.contains('/')) {
                Some(mask) => {
                    let wrong = || format!("{} is not a netmask", shown(mask));
                    (network, mask_length(mask, network).ok_or_else(wrong)?)
                }
                None => (network, length),
            }
        }
    };
    match via {
        Some(via) if via.is_ipv4() != destination.is_ipv4() => {
            Err(format!("{via} is no gateway for {}", shown(to)))
        }
        _ => Ok(Route {
            destination: masked(destination, length),
            prefix: length,
            gateway: via,
            metric: None,
            source: None,
        }),
    }
}

/// Name servers between blanks, commas or semicolons; what stands behind an address (a port, a name for TLS) is
/// not needed for asking.
pub(crate) fn server(text: &str) -> Result<IpAddr, String> {
    let text = text.split('#').next().unwrap_or_default();
    let bare = match (text.strip_prefix('['), text.matches(':').count()) {
        (Some(rest), _) => rest.split(']').next().unwrap_or_default(),
        (None, 1) => text.split(':').next().unwrap_or_default(),
        (None, _) => text,
    };
    let own = host(bare).ok().filter(|own| is_host_address(*own));
    own.ok_or_else(|| format!("{} is not a name server's address", shown(text)))
}

pub(crate) fn domain(text: &str) -> Result<String, String> {
    let bare = text.trim_end_matches('.');
    is_host(bare).then(|| bare.to_string()).ok_or_else(|| format!("{} is not a domain", shown(text)))
}

pub(crate) fn time_server(text: &str) -> Result<String, String> {
    let is_one = address(text).is_some() || is_host(text);
    is_one.then(|| text.to_string()).ok_or_else(|| format!("{} is not a time server", shown(text)))
}

impl Link {
    pub(crate) fn of(selector: Selector, from: &str) -> Link {
        Link { selector, from: vec![from.to_string()], ..Link::default() }
    }

    /// One that is made.
    pub(crate) fn made(name: &str, kind: Kind, from: &str) -> Link {
        Link { kind, ..Link::of(Selector::name(name), from) }
    }

    pub(crate) fn add_address(&mut self, address: Address) {
        add(&mut self.addresses, address);
    }

    pub(crate) fn add_route(&mut self, route: Route) {
        add(&mut self.routes, route);
    }

    pub(crate) fn add_gateway(&mut self, gateway: IpAddr) {
        self.add_route(Route::default_by(gateway));
    }

    pub(crate) fn add_server(&mut self, server: IpAddr) {
        add(&mut self.nameservers, server);
    }

    pub(crate) fn add_search(&mut self, domain: String) {
        add(&mut self.search, domain);
    }

    /// The name by which others stand on it, given to it where it has none of its own.
    pub(crate) fn name_for_others(&mut self, else_called: &str) -> String {
        let own = self.selector.name.as_deref().filter(|name| !name.contains(['*', '?', '[']));
        match (&self.rename, own) {
            (Some(name), _) => name.clone(),
            (None, Some(own)) => own.to_string(),
            (None, None) => {
                self.rename = Some(else_called.to_string());
                else_called.to_string()
            }
        }
    }

    /// A file that names no NIC is for any, but its address for one.
    pub(crate) fn without_name(&mut self) {
        if self.selector == Selector::name("*") && !self.addresses.is_empty() {
            self.selector = Selector::default();
        }
    }

    /// Whether anything is left of it when it has no address of its own.
    pub(crate) fn says_something(&self) -> bool {
        self.mtu.is_some() || self.mac.is_some() || self.rename.is_some() || self.kind != Kind::Physical
    }
}

/// `name` is the driver's.
pub(crate) fn option(name: &str, value: &str) -> Result<BondOption, String> {
    bond_option(&format!("{name}={}", value.replace(' ', ",")))
}

/// All options of a bond, once each, the mode first as the driver wants it.
pub(crate) fn bond(ports: Vec<Selector>, options: Vec<BondOption>) -> Kind {
    let mut once: Vec<BondOption> = Vec::new();
    for option in options {
        match once.iter_mut().find(|known| known.name == option.name) {
            Some(known) => known.value = option.value,
            None => once.push(option),
        }
    }
    once.sort_by_key(|option| option.name != "mode");
    if once.first().is_none_or(|option| option.name != "mode") {
        once.insert(0, BondOption { name: "mode".to_string(), value: "balance-rr".to_string() });
    }
    // Zero is how some say that they want none.
    once.retain(|option| !(matches!(option.name.as_str(), "miimon" | "arp_interval") && option.value == "0"));
    Kind::Bond { ports: few(ports), options: with_monitor(once) }
}

/// The bond that does what a team does, of teamd's configuration, which is JSON (teamd.conf(5)).
pub(crate) fn team(at: &mut At, ports: Vec<Selector>, config: &str) -> Kind {
    let config = yaml::parse(config).unwrap_or_default();
    let runner = config.get("runner").and_then(|runner| runner.get("name")).and_then(Node::text);
    let mode = team_mode(runner.unwrap_or_default()).unwrap_or_else(|| {
        let runner = shown(runner.unwrap_or_default());
        at.tell(&format!("no bond is equal to the runner {runner}: active-backup is used"));
        "active-backup"
    });
    Kind::Bond { ports, options: option("mode", mode).into_iter().collect() }
}

pub(crate) fn few(mut ports: Vec<Selector>) -> Vec<Selector> {
    let mut seen = HashSet::new();
    ports.retain(|port| seen.insert(port.to_string()));
    ports.truncate(MOST_PER_LINK);
    ports
}

/// Milliseconds: of a number with or without a unit, `per` for the bare number's unit.
pub(crate) fn milliseconds(text: &str, per: u64) -> Result<String, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "" => Some(per),
        "ms" | "msec" => Some(1),
        "s" | "sec" => Some(1000),
        "m" | "min" => Some(60_000),
        _ => None,
    };
    let number = digits.trim().parse::<u32>().ok().map(u64::from);
    match number.zip(factor).map(|(number, factor)| number * factor).filter(|time| *time <= 3_600_000) {
        Some(time) => Ok(time.to_string()),
        None => Err(format!("{} is not a time", shown(text))),
    }
}

/// What packages and editors leave beside a file is none.
pub(crate) fn is_left_behind(name: &str) -> bool {
    const ENDS: &[&str] = &[
        ".bak",
        ".dpkg-dist",
        ".dpkg-new",
        ".dpkg-old",
        ".old",
        ".orig",
        ".rpmnew",
        ".rpmorig",
        ".rpmsave",
        ".scpmbackup",
        ".swp",
        "~",
    ];
    name.starts_with('.') || ENDS.iter().any(|end| name.ends_with(end))
}

/// A route of which the link is not said: the one of which it is known that the gateway is there, where one is.
pub(crate) fn place(plan: &mut Plan, route: Route) {
    let has = |link: &&mut Link| {
        let nets = &link.addresses;
        route
            .gateway
            .is_some_and(|gateway| nets.iter().any(|own| is_within(gateway, own.address, own.prefix)))
    };
    match plan.links.iter_mut().find(has) {
        Some(link) => link.add_route(route),
        None => add(&mut plan.routes, route),
    }
}

/// An entry that is complete, behind those that are there.
pub(crate) fn put(plan: &mut Plan, link: Link) {
    if plan.links.len() < MOST_LINKS {
        plan.links.push(link);
    } else {
        plan.problem(format!("more than {MOST_LINKS} interfaces are described: the rest is left out"));
    }
}

/// What all sources end with: a port of another one has no addresses of its own and needs no entry unless that
/// says something, and nothing stands on itself.
pub(crate) fn finished(mut plan: Plan) -> Plan {
    without_odd_names(&mut plan);
    let has_ports = |link: &&Link| matches!(link.kind, Kind::Bond { .. } | Kind::Bridge { .. });
    let made = plan.links.iter().filter(has_ports);
    let by_name: HashSet<String> =
        made.clone().flat_map(|link| below(&link.kind)).map(str::to_string).collect();
    let by_mac: HashSet<Mac> = made.flat_map(|link| ports(&link.kind)).filter_map(|port| port.mac).collect();
    plan.links.retain_mut(|link| {
        let names = [link.selector.name.as_ref(), link.rename.as_ref()];
        let is_port = names.into_iter().flatten().any(|name| by_name.contains(name))
            || link.selector.mac.is_some_and(|mac| by_mac.contains(&mac));
        if is_port {
            link.methods = Methods::OFF;
        }
        !is_port || link.says_something() || !link.addresses.is_empty()
    });
    without_loops(&mut plan);
    plan
}

/// Names that no interface can have, which some formats have in places where they were not looked at.
fn without_odd_names(plan: &mut Plan) {
    let is_pattern = |text: &String| {
        (1..=64).contains(&text.chars().count())
            && !text.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control())
    };
    let is_good = |selector: &Selector| {
        selector.name.as_ref().is_none_or(is_pattern) && selector.driver.as_ref().is_none_or(is_pattern)
    };
    let mut problems = Vec::new();
    plan.links.retain_mut(|link| {
        let odd = match &mut link.kind {
            Kind::Physical => None,
            Kind::Vlan { link, .. } => Some(link.clone()).filter(|name| !is_interface(name)),
            Kind::Bond { ports, .. } | Kind::Bridge { ports, .. } => {
                ports.retain(|port| {
                    if !is_good(port) {
                        problems.push(shown(&port.to_string()));
                    }
                    is_good(port)
                });
                None
            }
        };
        let odd = odd.or_else(|| Some(link.selector.to_string()).filter(|_| !is_good(&link.selector)));
        problems.extend(odd.as_deref().map(shown));
        odd.is_none()
    });
    for name in problems.into_iter().take(MOST_PER_LINK) {
        plan.problem(format!("{name} is not an interface's name: left out"));
    }
}

pub(crate) fn ports(kind: &Kind) -> &[Selector] {
    match kind {
        Kind::Physical | Kind::Vlan { .. } => &[],
        Kind::Bond { ports, .. } | Kind::Bridge { ports, .. } => ports,
    }
}

/// A mask of one host, where an address came without any.
pub(crate) fn has_no_net(address: &Address) -> bool {
    address.prefix == bits(address.address) && address.peer.is_none()
}
