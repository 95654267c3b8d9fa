//! /etc/network/interfaces: Debian's ifupdown (interfaces(5)), with the words of ifenslave, vlan and bridge-utils, and what
//! ifupdown2 and ifupdown-ng write.
//!
//! Nothing is executed. Of commands (`up`, `post-up`, `pre-up`) those that add a route or an address are read, the others are
//! told. Interfaces that nothing brings up at boot are left out, unless another one stands on them.

use crate::source::{self, At, File, Files, MOST_FILES, Room, at, finished, put, shown};
use crate::words::{glob, network};
use crate::{Address, BondOption, Ipv6, Kind, Link, MOST_LINKS, MOST_PER_LINK, Mac, Plan, Route, Selector};
use std::collections::{BTreeSet, HashSet};

pub const MAIN: &str = "/etc/network/interfaces";

/// Files that name files.
const MOST_DEPTH: u32 = 8;
/// Directories that are looked into for patterns.
const MOST_LISTINGS: usize = 1024;
/// Lines of all files together.
const MOST_LINES: usize = 65_536;

/// Options that a rescue has no use for, sorted; those of bridges, bonds and Wi-Fi by what they begin with.
const ASIDE: &[&str] = &[
    "accept_ra",
    "autoconf",
    "broadcast",
    "client",
    "dad-attempts",
    "dad-interval",
    "description",
    "down",
    "ethernet-wol",
    "hostname",
    "leasetime",
    "network",
    "post-down",
    "pre-down",
    "preferred-lifetime",
    "privext",
    "request_prefix",
    "scope",
    "vendor",
];
const ASIDE_BY_HEAD: &[&str] = &["bridge", "hardware-", "link-", "ovs_"];
/// What options of Wi-Fi begin with.
const WIRELESS: &[&str] = &["wireless-", "wpa-"];

/// One `iface`, with the file it is in.
struct Stanza {
    file: String,
    name: String,
    family: String,
    method: String,
    options: Vec<(String, String)>,
}

/// All files, before anything is concluded.
#[derive(Default)]
struct Read {
    stanzas: Vec<Stanza>,
    /// `auto`, `allow-hotplug`: names or patterns.
    brought_up: Vec<String>,
    seen: HashSet<String>,
    lines: usize,
    listings: usize,
    room: Room,
}

/// The plan of /etc/network/interfaces and what it names.
pub fn read(files: &dyn Files) -> Plan {
    let mut plan = Plan::default();
    let mut all = Read::default();
    include(files, MAIN, 0, &mut all, &mut plan);
    conclude(&mut plan, &all);
    finished(plan)
}

fn include(files: &dyn Files, path: &str, depth: u32, all: &mut Read, plan: &mut Plan) {
    if depth > MOST_DEPTH || all.seen.len() >= MOST_FILES || !all.seen.insert(path.to_string()) {
        return;
    }
    let Some(file) = File::read(files, path, plan).filter(|file| all.room.has(file)) else { return };
    let mut open: Option<Stanza> = None;
    for line in lines(&file.text) {
        all.lines += 1;
        if all.lines > MOST_LINES || all.stanzas.len() > 4 * MOST_LINKS {
            at(plan, path, "").tell("too long: the rest is left out");
            break;
        }
        let (key, rest) = line.split_once(char::is_whitespace).unwrap_or((&line, ""));
        let rest = rest.trim();
        let words: Vec<&str> = rest.split_whitespace().collect();
        let begins = matches!(
            key,
            "iface" | "auto" | "mapping" | "rename" | "source" | "source-directory" | "template"
        ) || key.starts_with("allow-")
            || key.starts_with("no-");
        if begins {
            all.stanzas.extend(open.take());
        }
        match (key, &words[..]) {
            // ifupdown-ng and ifupdown2 have interfaces without a family.
            ("iface", [name, more @ ..]) => {
                let word = |at: usize| more.get(at).map(|word| word.to_string());
                let family = word(0).filter(|family| family != "inherits").unwrap_or_default();
                let method = if family.is_empty() { None } else { word(1) };
                let from = more.iter().skip_while(|word| **word != "inherits").skip(1);
                let options = from.map(|name| ("inherits".to_string(), name.to_string())).collect();
                open = Some(Stanza {
                    file: file.path.clone(),
                    name: name.to_string(),
                    family,
                    method: method.unwrap_or_default(),
                    options,
                });
            }
            ("auto" | "allow-hotplug" | "allow-auto", names) => {
                let room = (4 * MOST_LINKS).saturating_sub(all.brought_up.len());
                all.brought_up.extend(names.iter().take(room).map(|name| name.to_string()));
            }
            ("source", patterns) => {
                for pattern in patterns {
                    for found in matching(files, &absolute(pattern, path), &mut all.listings) {
                        include(files, &found, depth + 1, all, plan);
                    }
                }
            }
            ("source-directory", directories) => {
                let is_plain =
                    |name: &String| name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_' || c == b'-');
                for directory in directories {
                    for directory in matching(files, &absolute(directory, path), &mut all.listings) {
                        let mut names = files.list(&directory);
                        names.retain(is_plain);
                        names.sort();
                        for name in names.into_iter().take(MOST_FILES) {
                            include(files, &format!("{directory}/{name}"), depth + 1, all, plan);
                        }
                    }
                }
            }
            ("mapping" | "rename" | "template", _) => {
                at(plan, path, "").tell(&format!("{} is not read", shown(&line)));
            }
            _ if begins => {}
            _ => {
                if let Some(stanza) = open.as_mut().filter(|stanza| stanza.options.len() < 4 * MOST_PER_LINK)
                {
                    stanza.options.push((key.to_string(), rest.to_string()));
                }
            }
        }
    }
    all.stanzas.extend(open);
}

/// Without comments; a backslash at the end joins the next line.
fn lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut before = String::new();
    for line in text.lines() {
        let line = line.trim();
        if before.is_empty() && (line.is_empty() || line.starts_with('#')) {
            continue;
        }
        before += line.trim_end_matches('\\');
        match line.ends_with('\\') {
            true => before.push(' '),
            false => lines.push(std::mem::take(&mut before)),
        }
    }
    lines.push(before);
    lines.retain(|line| !line.trim().is_empty());
    lines
}

/// A path that is not absolute is one beside the file.
fn absolute(path: &str, beside: &str) -> String {
    match path.starts_with('/') {
        true => path.trim_end_matches('/').to_string(),
        false => format!(
            "{}/{}",
            beside.rsplit_once('/').map_or("", |(directory, _)| directory),
            path.trim_end_matches('/')
        ),
    }
}

/// What a shell's pattern would find.
fn matching(files: &dyn Files, pattern: &str, listings: &mut usize) -> Vec<String> {
    let mut found = vec![String::new()];
    for part in pattern.split('/').skip(1).take(32) {
        if !part.contains(['*', '?', '[']) {
            found.iter_mut().for_each(|path| *path += &format!("/{part}"));
            continue;
        }
        let mut longer = Vec::new();
        for path in found {
            *listings += 1;
            if *listings > MOST_LISTINGS {
                break;
            }
            let mut names = files.list(if path.is_empty() { "/" } else { &path });
            names.retain(|name| glob(part, name) && name.starts_with('.') == part.starts_with('.'));
            names.sort();
            longer.extend(names.into_iter().map(|name| format!("{path}/{name}")));
            longer.truncate(MOST_FILES);
        }
        found = longer;
    }
    found
}

fn conclude(plan: &mut Plan, all: &Read) {
    let mut links: Vec<Link> = Vec::new();
    let mut enslaved: Vec<(String, Selector)> = Vec::new();
    let needed: BTreeSet<&str> = all.stanzas.iter().flat_map(named_by).collect();
    for stanza in &all.stanzas {
        let at = &mut at(plan, &stanza.file, &stanza.name);
        // `eth0:1` is a second address of eth0.
        let name = stanza.name.split(':').next().unwrap_or_default();
        let is_loopback = stanza.method == "loopback" || name == "lo";
        let is_up = all.brought_up.iter().any(|pattern| glob(pattern.trim_start_matches('/'), &stanza.name));
        if is_loopback {
            continue;
        }
        if !is_up && !needed.contains(name) {
            if stanza.method != "manual" {
                at.tell("nothing brings it up at boot: left out");
            }
            continue;
        }
        if stanza.options.iter().any(|(key, _)| WIRELESS.iter().any(|head| key.starts_with(head))) {
            at.tell("Wi-Fi is not made here: left out");
            continue;
        }
        let Some(name) = at.or_tell(source::interface(name)) else { continue };
        let place = match links.iter().position(|link| link.selector.name.as_ref() == Some(&name)) {
            Some(place) => place,
            None if links.len() < MOST_LINKS => {
                // Of IPv6 nothing is said yet: the kernel takes what routers advertise.
                let mut link = Link::of(Selector::name(&name), &stanza.file);
                link.methods.ipv6 = Ipv6::Auto;
                links.push(link);
                links.len() - 1
            }
            None => {
                at.tell(&format!("more than {MOST_LINKS} interfaces are described: left out"));
                continue;
            }
        };
        let mut link = links[place].clone();
        if !link.from.contains(&stanza.file) {
            link.from.push(stanza.file.clone());
        }
        self::stanza(at, stanza, &mut link);
        kind(at, stanza, &name, &mut link, &mut enslaved);
        links[place] = link;
    }
    for (master, port) in enslaved {
        let bond = links.iter_mut().find(|link| link.selector.name.as_ref() == Some(&master));
        match bond.map(|link| &mut link.kind) {
            Some(Kind::Bond { ports, .. } | Kind::Bridge { ports, .. }) => ports.push(port),
            _ => at(plan, MAIN, &master).tell(&format!("the bond of {port} is not described")),
        }
    }
    for mut link in links {
        match &mut link.kind {
            Kind::Bond { ports, options } => {
                link.kind = source::bond(std::mem::take(ports), std::mem::take(options))
            }
            Kind::Bridge { ports, .. } => *ports = source::few(std::mem::take(ports)),
            Kind::Physical | Kind::Vlan { .. } => {}
        }
        put(plan, link);
    }
}

/// The interfaces on which one stands.
fn named_by(stanza: &Stanza) -> Vec<&str> {
    let lists = stanza.options.iter().filter(|(key, _)| {
        matches!(dashed(key).as_str(), "bond-slaves" | "slaves" | "bridge-ports" | "vlan-raw-device")
    });
    let before_dot = stanza.name.rsplit_once('.').map(|(below, _)| below);
    lists.flat_map(|(_, value)| value.split_whitespace()).chain(before_dot).collect()
}

fn dashed(key: &str) -> String {
    key.replace('_', "-")
}

/// What a stanza says about addresses.
fn stanza(at: &mut At, stanza: &Stanza, link: &mut Link) {
    let option =
        |key: &str| stanza.options.iter().find(|(own, _)| own == key).map(|(_, value)| value.as_str());
    let is_six = stanza.family == "inet6";
    match (stanza.family.as_str(), stanza.method.as_str()) {
        ("inet", "dhcp" | "bootp") => link.methods.dhcp4 = true,
        ("inet6", "dhcp") => link.methods.ipv6 = Ipv6::Dhcp,
        ("inet6", "auto") if option("dhcp").is_some_and(|value| value.starts_with('1')) => {
            link.methods.ipv6 = Ipv6::Dhcp
        }
        ("inet6", "auto") => link.methods.ipv6 = Ipv6::Auto,
        // `static` has `autoconf 0` and says nothing of accept_ra (inet6.defn), of which the kernel's default is yes: see below.
        ("inet" | "inet6", "static" | "manual") | ("", _) => {}
        (family, method) => at.tell(&format!("iface {} {} is not read", shown(family), shown(method))),
    }
    let (mask, metric, peer) = (option("netmask"), option("metric"), option("pointopoint"));
    let mut last: Option<Address> = None;
    let mut added = 0;
    for (key, value) in &stanza.options {
        let words = || value.split_whitespace().take(MOST_PER_LINK);
        let first = words().next().unwrap_or_default();
        match dashed(key).as_str() {
            "address" => {
                if let Some(own) = at.or_tell(source::own(first, mask)) {
                    link.add_address(own);
                    last = Some(own);
                    added += 1;
                    if source::has_no_net(&own) && !first.contains('/') && mask.is_none() && peer.is_none() {
                        at.tell(&format!("no netmask: {}/{} is taken", own.address, own.prefix));
                    }
                }
            }
            "gateway" => {
                for text in words().filter(|text| *text != "none") {
                    if let Some(gateway) = at.or_tell(source::gateway(text)) {
                        let metric = metric.and_then(|metric| metric.parse().ok());
                        link.add_route(Route { metric, ..Route::default_by(gateway) });
                    }
                }
            }
            "pointopoint" | "dstaddr" | "endpoint" => {
                if let Some(peer) = at.or_tell(source::host(first))
                    && let Some(own) =
                        last.and_then(|last| link.addresses.iter_mut().find(|own| **own == last))
                    && own.address.is_ipv4() == peer.is_ipv4()
                {
                    own.peer = Some(peer);
                    last = Some(*own);
                }
            }
            "mtu" => link.mtu = at.or_tell(source::mtu(first)).or(link.mtu),
            "hwaddress" => {
                // `hwaddress ether 52:54:...`, `hwaddress random`
                let mac = words().find(|word| Mac::parse(word).is_some());
                match mac.map(source::mac) {
                    Some(mac) => link.mac = at.or_tell(mac).or(link.mac),
                    None => at.tell(&format!("hwaddress {} is not read", shown(value))),
                }
            }
            "dns-nameservers" | "dns-nameserver" => {
                for text in words() {
                    if let Some(server) = at.or_tell(source::server(text)) {
                        link.add_server(server);
                    }
                }
            }
            "dns-search" | "dns-domain" => {
                for text in words() {
                    if let Some(domain) = at.or_tell(source::domain(text)) {
                        link.add_search(domain);
                    }
                }
            }
            // ifupdown-ng's, where no method is said.
            "use" if first == "dhcp" => link.methods.dhcp4 = true,
            "up" | "post-up" | "pre-up" => command(at, value, &stanza.name, link),
            "netmask" | "metric" | "dhcp" | "slaves" | "vlan-raw-device" | "vlan-id" | "requires" => {}
            bond if bond.starts_with("bond-") => {}
            other if ASIDE.contains(&other) || ASIDE.contains(&key.as_str()) => {}
            other if ASIDE_BY_HEAD.iter().any(|head| other.starts_with(head)) => {}
            other => at.tell(&format!("{} is not read", shown(other))),
        }
    }
    if is_six && stanza.method == "static" && link.methods.ipv6 != Ipv6::Dhcp {
        let says = |key: &str, values: &[&str]| option(key).is_some_and(|value| values.contains(&value));
        let asks = says("autoconf", &["1", "2"]) || says("accept_ra", &["1", "2"]);
        // Without a default route of its own it has the routers', and their addresses beside it rather than no way out.
        let has_way = link.routes.iter().any(|route| route.destination.is_ipv6() && route.prefix == 0);
        if says("accept_ra", &["0"]) || has_way && !asks {
            link.methods.ipv6 = Ipv6::LinkLocal;
        }
    }
    if stanza.method == "static" && added == 0 {
        at.tell(if is_six { "inet6 static without an address" } else { "inet static without an address" });
    }
}

/// What the interface is: told by its options, or by its name.
fn kind(at: &mut At, stanza: &Stanza, name: &str, link: &mut Link, enslaved: &mut Vec<(String, Selector)>) {
    let option = |key: &str| {
        stanza.options.iter().find(|(own, _)| dashed(own) == key).map(|(_, value)| value.as_str())
    };
    let ports = |value: &str| -> Vec<Selector> {
        let names = value.split_whitespace().filter(|word| !matches!(*word, "none" | "all" | "regex"));
        names.take(MOST_PER_LINK).map(Selector::name).collect()
    };
    if let Some(master) = option("bond-master") {
        if enslaved.len() < 4 * MOST_LINKS {
            enslaved.push((master.to_string(), Selector::name(name)));
        }
    } else if let Some(value) = option("bridge-ports") {
        if value.split_whitespace().any(|word| matches!(word, "all" | "regex")) {
            at.tell(&format!("bridge_ports {} is not read", shown(value)));
        }
        let stp = option("bridge-stp").is_some_and(|value| matches!(value, "on" | "yes" | "true" | "1"));
        link.kind = Kind::Bridge { ports: ports(value), stp };
    } else if option("bond-slaves").or(option("slaves")).or(option("bond-mode")).is_some() {
        let mut options: Vec<BondOption> = Vec::new();
        for (key, value) in &stanza.options {
            let key = dashed(key);
            let Some(own) = key.strip_prefix("bond-").filter(|own| *own != "slaves") else { continue };
            let value = match own {
                "primary" => value.split_whitespace().next().unwrap_or_default(),
                _ => value,
            };
            options.extend(at.or_tell(source::option(&own.replace('-', "_"), value)));
        }
        let slaves = option("bond-slaves").or(option("slaves")).unwrap_or_default();
        link.kind = Kind::Bond { ports: ports(slaves), options };
    } else if link.kind == Kind::Physical {
        // eth0.5; vlan5 with the device in an option; any name with both.
        let dotted = name.rsplit_once('.').and_then(|(below, id)| Some((below, source::vlan_id(id).ok()?)));
        let digits =
            name.strip_prefix("vlan").map(|digits| digits.trim_start_matches('0')).unwrap_or_default();
        let id = option("vlan-id").or(Some(digits)).and_then(|id| source::vlan_id(id).ok());
        let raw = option("vlan-raw-device").and_then(|text| at.or_tell(source::interface(text)));
        match (raw, id, dotted) {
            (Some(raw), Some(id), _) | (Some(raw), None, Some((_, id))) => {
                link.kind = Kind::Vlan { link: raw, id }
            }
            (None, _, Some((below, id))) => link.kind = Kind::Vlan { link: below.to_string(), id },
            (Some(_), None, None) => at.tell("a VLAN of which the identifier is not said"),
            (None, _, None) => {}
        }
    }
}

/// The plain commands that hosters' installations have; nothing is run.
fn command(at: &mut At, text: &str, own: &str, link: &mut Link) {
    let plain = text.split("||").next().unwrap_or_default();
    let plain = plain.trim().trim_end_matches([';', '&']).replace("$IFACE", own).replace("${IFACE}", own);
    let words: Vec<&str> = plain.split_whitespace().take(64).collect();
    let [program, rest @ ..] = &words[..] else { return };
    let is_whole = !plain.contains(['|', '&', ';', '$', '`', '<', '>', '(']);
    let read = match program.rsplit('/').next().filter(|_| is_whole) {
        Some("ip") => by_ip(rest, own, link),
        Some("route") => by_route(rest, own, link),
        _ => None,
    };
    if read.is_none() {
        at.tell(&format!("\"{}\" is not run", shown(text)));
    }
}

/// `ip [-4|-6] route add NETWORK [via GATEWAY] [dev DEVICE] [metric N] [src ADDRESS] [onlink]`, `ip addr add ADDRESS/LENGTH
/// dev DEVICE`, `ip link set DEVICE up`.
pub(crate) fn by_ip(words: &[&str], own: &str, link: &mut Link) -> Option<()> {
    let mut words: Vec<&str> = words.to_vec();
    words.retain(|word| !matches!(*word, "-4" | "-6" | "-f" | "-family" | "inet" | "inet6" | "unicast"));
    if words.first().is_some_and(|word| word.starts_with('-')) {
        return None;
    }
    let (object, verb) = (*words.first()?, *words.get(1)?);
    words.drain(..2);
    match (object, verb) {
        ("route" | "r" | "ro", "add" | "a" | "replace" | "append") => {
            let mut to = None;
            let (mut via, mut metric, mut source) = (None, None, None);
            let mut rest = words.into_iter();
            while let Some(word) = rest.next() {
                match word {
                    "via" => via = Some(rest.next()?),
                    "dev" => (rest.next()? == own).then_some(())?,
                    "metric" | "priority" => metric = Some(rest.next()?.parse().ok()?),
                    "src" => source = Some(source::host(rest.next()?).ok()?),
                    "to" => {}
                    "onlink" => {}
                    "proto" | "scope" | "mtu" | "pref" => drop(rest.next()?),
                    "table" if matches!(rest.next()?, "main" | "254") => {}
                    word if to.is_none() && (word == "default" || network(word).is_some()) => to = Some(word),
                    _ => return None,
                }
            }
            let route = source::route(to?, None, via).ok()?;
            link.add_route(Route { metric, source, ..route });
        }
        ("addr" | "address" | "a", "add" | "a" | "replace") => {
            let mut found = None;
            let mut rest = words.into_iter();
            while let Some(word) = rest.next() {
                match word {
                    "dev" => (rest.next()? == own).then_some(())?,
                    "label" | "scope" | "broadcast" | "brd" => drop(rest.next()?),
                    "peer" => found.as_mut().map(|own: &mut Address| {
                        own.peer = rest.next().and_then(|text| Some(network(text)?.0))
                    })?,
                    word => found = Some(source::own(word, None).ok()?),
                }
            }
            let own =
                found.filter(|own| own.peer.is_none_or(|peer| peer.is_ipv4() == own.address.is_ipv4()))?;
            link.add_address(own);
        }
        ("link" | "l", "set") if words.iter().all(|word| matches!(*word, "dev" | "up") || *word == own) => {}
        ("link" | "l", "set") => {
            match words.iter().copied().filter(|word| *word != "dev" && *word != own).collect::<Vec<&str>>()[..]
            {
                ["mtu", text] => link.mtu = Some(source::mtu(text).ok()?),
                _ => return None,
            }
        }
        _ => return None,
    }
    Some(())
}

/// `route [-A inet6] add [-net|-host] NETWORK [netmask MASK] [gw GATEWAY] [metric N] [dev] [DEVICE]`
fn by_route(words: &[&str], own: &str, link: &mut Link) -> Option<()> {
    let mut to = None;
    let (mut mask, mut via, mut metric, mut is_host) = (None, None, None, false);
    let mut has_verb = false;
    let mut rest = words.iter().copied();
    while let Some(word) = rest.next() {
        match word {
            "add" if !has_verb => has_verb = true,
            "-A" => drop(rest.next()?),
            "-6" | "--inet6" | "-4" | "-n" | "-net" | "dev" => {}
            "-host" => is_host = true,
            "netmask" => mask = Some(rest.next()?),
            "gw" => via = Some(rest.next()?),
            "metric" => metric = Some(rest.next()?.parse().ok()?),
            word if to.is_none() && (word == "default" || network(word).is_some()) => to = Some(word),
            word if word == own => {}
            _ => return None,
        }
    }
    let to = to.filter(|_| has_verb)?;
    // Without a mask the net of a class is meant, by a program older than CIDR; a length is what people write.
    let mask = mask.filter(|_| !is_host);
    let mut route = source::route(to, mask, via).ok()?;
    if to == "0.0.0.0" && mask.is_none() && !is_host {
        route.prefix = 0;
    }
    link.add_route(Route { metric, ..route });
    Some(())
}

#[cfg(test)]
#[path = "ifupdown_tests.rs"]
mod tests;
