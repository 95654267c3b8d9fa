//! netplan's YAML, version 2 (netplan-yaml(5)), which is also cloud-init's network-config version 2. Files are merged as
//! netplan merges them: by name, whatever their directory; a later file's words win, its lists go behind.
//!
//! Not read, and told: Wi-Fi, tunnels, VRFs, Open vSwitch, tables of routes besides the main one. Left aside silently:
//! what is of no use in a rescue (`optional`, `wakeonlan`, offloads, `renderer`, DHCP's overrides).

use crate::source::{self, At, File, Files, Room, at, finished, put, shown};
use crate::yaml::{self, Node};
use crate::{Ipv6, Kind, Link, MOST_LINKS, MOST_PER_LINK, Methods, Plan, Route, Selector};
use std::collections::{HashMap, HashSet};

/// The first one that has a file of some name is taken.
pub const DIRECTORIES: &[&str] = &["/run/netplan", "/etc/netplan", "/lib/netplan", "/usr/lib/netplan"];

/// Kinds of interfaces that are not made here.
const NOT_READ: &[&str] =
    &["dummy-devices", "modems", "nm-devices", "tunnels", "virtual-ethernets", "vrfs", "wifis"];

/// netplan's name of a bond's parameter, the driver's name, and what the value is; sorted.
const PARAMETERS: &[(&str, &str, Value)] = &[
    ("ad-select", "ad_select", Value::Word),
    ("all-members-active", "all_slaves_active", Value::Flag),
    ("all-slaves-active", "all_slaves_active", Value::Flag),
    ("arp-all-targets", "arp_all_targets", Value::Word),
    ("arp-interval", "arp_interval", Value::Time),
    ("arp-ip-targets", "arp_ip_target", Value::List),
    ("arp-validate", "arp_validate", Value::Word),
    ("down-delay", "downdelay", Value::Time),
    ("fail-over-mac-policy", "fail_over_mac", Value::Word),
    ("gratuitious-arp", "num_grat_arp", Value::Word),
    ("gratuitous-arp", "num_grat_arp", Value::Word),
    ("lacp-rate", "lacp_rate", Value::Word),
    ("learn-packet-interval", "lp_interval", Value::Word),
    ("mii-monitor-interval", "miimon", Value::Time),
    ("min-links", "min_links", Value::Word),
    ("mode", "mode", Value::Word),
    ("packets-per-member", "packets_per_slave", Value::Word),
    ("packets-per-slave", "packets_per_slave", Value::Word),
    ("primary", "primary", Value::Word),
    ("primary-reselect-policy", "primary_reselect", Value::Word),
    ("resend-igmp", "resend_igmp", Value::Word),
    ("transmit-hash-policy", "xmit_hash_policy", Value::Word),
    ("up-delay", "updelay", Value::Time),
];

#[derive(Clone, Copy)]
enum Value {
    Word,
    Flag,
    Time,
    List,
}

/// The files that netplan would read, in its order.
pub fn files(files: &dyn Files, plan: &mut Plan) -> Vec<File> {
    let mut names: Vec<(String, &str)> = Vec::new();
    for directory in DIRECTORIES {
        for name in files.list(directory) {
            if name.ends_with(".yaml")
                && !names.iter().any(|(known, _)| *known == name)
                && names.len() < source::MOST_FILES
            {
                names.push((name, directory));
            }
        }
    }
    names.sort();
    let mut room = Room::default();
    let read = |(name, directory): &(String, &str)| File::read(files, &format!("{directory}/{name}"), plan);
    names.iter().filter_map(read).filter(|file| room.has(file)).collect()
}

/// The plan of files in the order in which netplan reads them.
pub fn read(files: &[File]) -> Plan {
    let mut plan = Plan::default();
    let mut whole = Node::Null;
    let mut from: HashMap<String, Vec<String>> = HashMap::new();
    for file in files {
        match yaml::parse(&file.text) {
            Ok(node) => {
                let network = node.get("network").cloned().unwrap_or_default();
                for (id, _) in network.entries().iter().flat_map(|(_, kind)| kind.entries()) {
                    from.entry(id.clone()).or_default().push(file.path.clone());
                }
                merge(&mut whole, network);
            }
            Err(error) => at(&mut plan, &file.path, "").tell(&format!("{error}: left out")),
        }
    }
    let place = files.last().map_or("netplan", |file| &file.path);
    describe(&mut plan, &whole, place, &|id| from.get(id).cloned().unwrap_or_default());
    finished(plan)
}

/// Who is to carry it out: `networkd` or `NetworkManager`.
pub fn renderer(files: &[File]) -> Option<String> {
    let of = |file: &File| {
        Some(yaml::parse(&file.text).ok()?.get("network")?.get("renderer")?.text()?.to_string())
    };
    files.iter().rev().find_map(of)
}

/// Later words win, maps are merged, lists become longer.
fn merge(into: &mut Node, later: Node) {
    match (into, later) {
        (_, Node::Null) => {}
        (Node::Map(entries), Node::Map(later)) => {
            let place: HashMap<String, usize> =
                entries.iter().enumerate().map(|(at, (key, _))| (key.clone(), at)).collect();
            for (key, node) in later {
                match place.get(&key) {
                    Some(at) => merge(&mut entries[*at].1, node),
                    None => entries.push((key, node)),
                }
            }
        }
        (Node::List(items), Node::List(later)) => {
            for item in later {
                if items.len() < 4 * MOST_PER_LINK && !items.contains(&item) {
                    items.push(item);
                }
            }
        }
        (into, later) => *into = later,
    }
}

/// What stands below `network:`. `from` tells the files of an entry.
pub(crate) fn describe(plan: &mut Plan, network: &Node, place: &str, from: &dyn Fn(&str) -> Vec<String>) {
    match network.get("version").and_then(Node::text) {
        None | Some("2") => {}
        Some(version) => {
            at(plan, place, "").tell(&format!("version {} is read as version 2", shown(version)))
        }
    }
    for kind in NOT_READ {
        for (id, _) in network.get(kind).map(Node::entries).unwrap_or_default() {
            at(plan, place, id).tell(&format!("{kind} are not made here: left out"));
        }
    }
    let all = |kind: &str| network.get(kind).map(Node::entries).unwrap_or_default().iter().take(MOST_LINKS);
    let mut links: Vec<(String, Vec<Link>)> = Vec::new();
    for (id, node) in all("ethernets") {
        let at = &mut at(plan, place, id);
        // What is brought up by hand is no way in.
        if let Some(mode) = node.get("activation-mode").and_then(Node::text) {
            at.tell(&format!("activation-mode {}: left out", shown(mode)));
            continue;
        }
        let mut found = selectors(at, id, node);
        found.truncate(MOST_LINKS.saturating_sub(links.iter().map(|(_, links)| links.len()).sum()));
        let mut link = common(at, node);
        link.from = from(id);
        link.rename =
            node.get("set-name").and_then(Node::text).and_then(|name| at.or_tell(source::interface(name)));
        let link = |selector| Link { selector, ..link.clone() };
        links.push((id.clone(), found.into_iter().map(link).collect()));
    }
    for (section, make) in [
        ("bonds", bond as fn(&mut At, &Node, Vec<Selector>) -> Option<Kind>),
        ("bridges", bridge),
        ("vlans", vlan),
    ] {
        for (id, node) in all(section) {
            let at = &mut at(plan, place, id);
            let named = node.get("interfaces").map(|interfaces| interfaces.texts().collect::<Vec<&str>>());
            let ports =
                named.unwrap_or_default().into_iter().take(MOST_PER_LINK).map(Selector::name).collect();
            let (Some(name), Some(kind)) = (at.or_tell(source::interface(id)), make(at, node, ports)) else {
                continue;
            };
            let mut link = Link { selector: Selector::name(&name), kind, ..common(at, node) };
            link.from = from(id);
            links.push((id.clone(), vec![link]));
        }
    }
    resolve(&mut links);
    for link in links.into_iter().flat_map(|(_, links)| links) {
        put(plan, link);
    }
}

/// Entries name each other by their identifiers, which are an interface's name only where there is no `match`.
fn resolve(links: &mut [(String, Vec<Link>)]) {
    let place: HashMap<String, usize> =
        links.iter().enumerate().map(|(at, (id, _))| (id.clone(), at)).collect();
    let below: HashSet<String> = links
        .iter()
        .flat_map(|(_, links)| links)
        .filter_map(|link| match &link.kind {
            Kind::Vlan { link, .. } => Some(link.clone()),
            Kind::Physical | Kind::Bond { .. } | Kind::Bridge { .. } => None,
        })
        .collect();
    let mut names = HashMap::new();
    for id in &below {
        if let Some(at) = place.get(id)
            && let Some(link) = links[*at].1.first_mut()
        {
            let else_called = match source::interface(id) {
                Ok(name) => name,
                Err(_) => format!("lan{at}"),
            };
            names.insert(id.clone(), link.name_for_others(&else_called));
        }
    }
    let selectors: HashMap<String, Vec<Selector>> = links
        .iter()
        .map(|(id, links)| (id.clone(), links.iter().map(|link| link.selector.clone()).collect()))
        .collect();
    for (_, links) in links {
        for link in links {
            match &mut link.kind {
                Kind::Physical => {}
                Kind::Vlan { link, .. } => {
                    if let Some(name) = names.get(link) {
                        *link = name.clone();
                    }
                }
                Kind::Bond { ports, .. } | Kind::Bridge { ports, .. } => {
                    let found = |port: &Selector| {
                        let id = port.name.clone().unwrap_or_default();
                        selectors.get(&id).cloned().unwrap_or_else(|| vec![port.clone()])
                    };
                    *ports = source::few(ports.iter().flat_map(found).collect());
                }
            }
        }
    }
}

/// The NICs that an entry is about.
fn selectors(at: &mut At, id: &str, node: &Node) -> Vec<Selector> {
    let Some(matched) = node.get("match") else {
        return at.or_tell(source::interface(id)).map(|name| Selector::name(&name)).into_iter().collect();
    };
    if let Some(text) = matched.get("macaddress").and_then(Node::text) {
        // Of all that may be said it is the surest.
        return at.or_tell(source::mac(text)).map(Selector::mac).into_iter().collect();
    }
    let all = |key: &str| -> Vec<Option<String>> {
        let said =
            matched.get(key).map(|node| node.texts().map(|text| Some(text.to_string())).collect::<Vec<_>>());
        said.filter(|said| !said.is_empty()).unwrap_or_else(|| vec![None])
    };
    let mut found = Vec::new();
    for name in all("name").into_iter().take(16) {
        for driver in all("driver").into_iter().take(16) {
            // All NICs, where nothing is said.
            let name = name.clone().or(driver.is_none().then(|| "*".to_string()));
            found.push(Selector { name, mac: None, driver });
        }
    }
    found
}

/// What every kind of interface may have.
fn common(at: &mut At, node: &Node) -> Link {
    let mut link = Link::default();
    let flag = |key: &str| node.get(key).and_then(Node::bool);
    let text = |key: &str| node.get(key).and_then(Node::text);
    link.methods = Methods { dhcp4: flag("dhcp4").unwrap_or(false), ipv6: ipv6(node) };
    link.mtu = text("mtu").and_then(|text| at.or_tell(source::mtu(text)));
    // `permanent`, `random` are for NetworkManager.
    let mac = text("macaddress").filter(|text| text.contains([':', '-']));
    link.mac = mac.and_then(|text| at.or_tell(source::mac(text)));
    for item in node.get("addresses").map(Node::items).unwrap_or_default() {
        // One with options is the only key of a map.
        let text = item.text().or_else(|| item.entries().first().map(|(key, _)| key.as_str()));
        let read = text
            .map_or_else(|| Err("an address that is no word".to_string()), |text| source::own(text, None));
        if let Some(own) = at.or_tell(read) {
            link.add_address(own);
        }
    }
    for key in ["gateway4", "gateway6"] {
        if let Some(gateway) = text(key).and_then(|text| at.or_tell(source::gateway(text))) {
            link.add_gateway(gateway);
        }
    }
    for item in node.get("routes").map(Node::items).unwrap_or_default() {
        if let Some(route) = at.or_tell(route(item)).flatten() {
            link.add_route(route);
        }
    }
    if !node.get("routing-policy").map(Node::items).unwrap_or_default().is_empty() {
        at.tell("routing-policy is not read");
    }
    nameservers(at, node, &mut link);
    link
}

/// `nameservers: {addresses: [...], search: [...]}`
pub(crate) fn nameservers(at: &mut At, node: &Node, link: &mut Link) {
    let Some(servers) = node.get("nameservers") else { return };
    for text in servers.get("addresses").into_iter().flat_map(Node::texts) {
        if let Some(server) = at.or_tell(source::server(text)) {
            link.add_server(server);
        }
    }
    for text in servers.get("search").into_iter().flat_map(Node::texts) {
        if let Some(domain) = at.or_tell(source::domain(text)) {
            link.add_search(domain);
        }
    }
}

fn ipv6(node: &Node) -> Ipv6 {
    let flag = |key: &str| node.get(key).and_then(Node::bool);
    let has_link_local =
        node.get("link-local").is_none_or(|list| list.texts().any(|family| family == "ipv6"));
    match (flag("dhcp6"), flag("accept-ra"), has_link_local) {
        (Some(true), ..) => Ipv6::Dhcp,
        (_, Some(true), _) | (_, None, true) => Ipv6::Auto,
        (_, Some(false), true) => Ipv6::LinkLocal,
        (_, _, false) => Ipv6::Off,
    }
}

/// `None`: one that is of no use here.
fn route(node: &Node) -> Result<Option<Route>, String> {
    let text = |key: &str| node.get(key).and_then(Node::text);
    let to = text("to").ok_or("a route without `to`")?;
    if let Some(table) = text("table").filter(|table| !matches!(*table, "254" | "main")) {
        return Err(format!("the route to {} is of table {}: left out", shown(to), shown(table)));
    }
    if let Some(kind) = text("type").filter(|kind| *kind != "unicast") {
        return Err(format!("the route to {} is of type {}: left out", shown(to), shown(kind)));
    }
    let route = source::route(to, None, text("via"))?;
    let metric = text("metric").and_then(|metric| metric.parse().ok());
    let source = text("from").and_then(|from| source::host(from).ok());
    Ok(Some(Route { metric, source, ..route }))
}

fn bond(at: &mut At, node: &Node, ports: Vec<Selector>) -> Option<Kind> {
    let mut options = Vec::new();
    for (key, value) in node.get("parameters").map(Node::entries).unwrap_or_default() {
        let known = PARAMETERS.iter().find(|(name, ..)| name == key);
        let Some((_, name, kind)) = known else {
            at.tell(&format!("a bond's parameter {} is not known", shown(key)));
            continue;
        };
        let text = value.text().unwrap_or_default();
        let value = match kind {
            Value::Word => Ok(text.to_string()),
            Value::Flag => Ok(u8::from(value.bool() == Some(true)).to_string()),
            Value::Time => source::milliseconds(text, 1),
            Value::List => Ok(value.texts().take(16).collect::<Vec<&str>>().join(",")),
        };
        let option = value.and_then(|value| source::option(name, &value));
        options.extend(at.or_tell(option));
    }
    Some(source::bond(ports, options))
}

fn bridge(_: &mut At, node: &Node, ports: Vec<Selector>) -> Option<Kind> {
    // netplan's default; the delay of a bridge without the protocol is not waited for.
    let stp = node.get("parameters").and_then(|parameters| parameters.get("stp")).and_then(Node::bool);
    Some(Kind::Bridge { ports: source::few(ports), stp: stp.unwrap_or(true) })
}

fn vlan(at: &mut At, node: &Node, _: Vec<Selector>) -> Option<Kind> {
    let text = |key: &str| node.get(key).and_then(Node::text).unwrap_or_default();
    let id = at.or_tell(source::vlan_id(text("id")));
    let link = match text("link") {
        "" => {
            at.tell("a VLAN without `link`");
            None
        }
        link => Some(link.to_string()),
    };
    Some(Kind::Vlan { link: link?, id: id? })
}

#[cfg(test)]
#[path = "netplan_tests.rs"]
mod tests;
