//! systemd-networkd's files: systemd.network(5), systemd.netdev(5), systemd.link(5), with drop-ins, masks and the order of
//! directories. A `.network` that takes part in a VLAN, bond or bridge names it, and the `.netdev` says what that is.
//!
//! Not read, and told: matches by path, tables and types of routes besides the main ones, kinds of netdevs besides
//! the three. Left aside silently: files about Wi-Fi, containers, loopback.

use crate::ini::{self, Section};
use crate::source::{self, At, File, Files, MOST_FILES, Room, at, finished, put, shown};
use crate::words::glob;
use crate::{
    Address, BondOption, Ipv6, Kind, Link, MOST_LINKS, MOST_PER_LINK, Methods, Plan, Route, Selector,
};

/// The first one that has a file of some name is taken.
pub const DIRECTORIES: &[&str] = &[
    "/etc/systemd/network",
    "/run/systemd/network",
    "/usr/local/lib/systemd/network",
    "/usr/lib/systemd/network",
    "/lib/systemd/network",
];

/// networkd's name of a bond's option, the driver's name, and whether it is a time (in seconds, where no unit is said) or
/// a yes or no; sorted.
const OPTIONS: &[(&str, &str, Value)] = &[
    ("ARPAllTargets", "arp_all_targets", Value::Word),
    ("ARPIPTargets", "arp_ip_target", Value::Word),
    ("ARPIntervalSec", "arp_interval", Value::Time),
    ("ARPMissedMax", "arp_missed_max", Value::Word),
    ("ARPValidate", "arp_validate", Value::Word),
    ("AdActorSystem", "ad_actor_system", Value::Word),
    ("AdActorSystemPriority", "ad_actor_sys_prio", Value::Word),
    ("AdSelect", "ad_select", Value::Word),
    ("AdUserPortKey", "ad_user_port_key", Value::Word),
    ("AllSlavesActive", "all_slaves_active", Value::Flag),
    ("DownDelaySec", "downdelay", Value::Time),
    ("DynamicTransmitLoadBalancing", "tlb_dynamic_lb", Value::Flag),
    ("FailOverMACPolicy", "fail_over_mac", Value::Word),
    ("GratuitousARP", "num_grat_arp", Value::Word),
    ("LACPTransmitRate", "lacp_rate", Value::Word),
    ("LearnPacketIntervalSec", "lp_interval", Value::Word),
    ("MIIMonitorSec", "miimon", Value::Time),
    ("MinLinks", "min_links", Value::Word),
    ("Mode", "mode", Value::Word),
    ("PacketsPerSlave", "packets_per_slave", Value::Word),
    ("PrimaryReselectPolicy", "primary_reselect", Value::Word),
    ("ResendIGMP", "resend_igmp", Value::Word),
    ("TransmitHashPolicy", "xmit_hash_policy", Value::Word),
    ("UpDelaySec", "updelay", Value::Time),
];

#[derive(Clone, Copy)]
enum Value {
    Word,
    Flag,
    Time,
}

/// A file with its drop-ins.
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    pub path: String,
    pub sections: Vec<Section>,
}

impl Unit {
    pub fn section(&self, name: &str) -> Section {
        ini::whole(&self.sections, name)
    }
}

/// What a `.network` says.
struct Network {
    path: String,
    selectors: Vec<Selector>,
    /// It is about links that are made, too.
    is_for_made: bool,
    link: Link,
    vlans: Vec<String>,
    master: Option<String>,
    is_primary: bool,
}

/// The plan of all files.
pub fn read(files: &dyn Files) -> Plan {
    let mut plan = Plan::default();
    let mut made: Vec<Link> =
        units(files, ".netdev", &mut plan).iter().filter_map(|unit| netdev(&mut plan, unit)).collect();
    made.truncate(MOST_LINKS);
    let mut networks: Vec<Network> =
        units(files, ".network", &mut plan).iter().filter_map(|unit| network(&mut plan, unit)).collect();
    let mut room = MOST_LINKS;
    for network in &mut networks {
        network.selectors.truncate(room);
        room -= network.selectors.len();
    }
    networks.retain(|network| !network.selectors.is_empty());

    // The first file in their order is a link's.
    let owner: Vec<Option<usize>> = made
        .iter()
        .map(|link| {
            let name = link.selector.name.as_deref().unwrap_or_default();
            let is_about = |selector: &Selector| {
                selector.mac.is_none()
                    && selector.driver.is_none()
                    && selector.name.as_ref().is_some_and(|own| glob(own, name))
            };
            networks.iter().position(|network| network.is_for_made && network.selectors.iter().any(is_about))
        })
        .collect();
    for (link, owner) in made.iter_mut().zip(&owner) {
        if let Some(owner) = owner {
            lay(link, &networks[*owner].link);
        }
    }

    // NICs: what remains of each file.
    let is_made = |selector: &Selector| made.iter().any(|link| link.selector == *selector);
    let mut nics: Vec<Vec<Link>> = networks
        .iter()
        .map(|network| {
            let own = network.selectors.iter().filter(|selector| !is_made(selector));
            own.map(|selector| Link { selector: selector.clone(), ..network.link.clone() }).collect()
        })
        .collect();

    for (at, network) in networks.iter().enumerate() {
        let above: Vec<usize> = (0..made.len()).filter(|number| owner[*number] == Some(at)).collect();
        let own = above.iter().map(|number| made[*number].selector.clone());
        let ports: Vec<Selector> = nics[at].iter().map(|nic| nic.selector.clone()).chain(own).collect();
        for name in &network.vlans {
            let under = match (nics[at].first_mut(), above.first()) {
                (Some(nic), _) => nic.name_for_others(&format!("lan{at}")),
                (None, Some(number)) => made[*number].name_for_others("lan"),
                (None, None) => continue,
            };
            match made
                .iter_mut()
                .find(|link| link.selector.name.as_ref() == Some(name))
                .map(|link| &mut link.kind)
            {
                Some(Kind::Vlan { link, .. }) => *link = under,
                _ => source::at(&mut plan, &network.path, "")
                    .tell(&format!("no .netdev makes the VLAN {}", shown(name))),
            }
        }
        let Some(name) = &network.master else { continue };
        match made
            .iter_mut()
            .find(|link| link.selector.name.as_ref() == Some(name))
            .map(|link| &mut link.kind)
        {
            Some(Kind::Bond { ports: known, options }) => {
                if let Some(port) =
                    ports.iter().find_map(|port| port.name.clone()).filter(|_| network.is_primary)
                {
                    options.extend(source::option("primary", &port).ok());
                }
                known.extend(ports);
            }
            Some(Kind::Bridge { ports: known, .. }) => known.extend(ports),
            _ => source::at(&mut plan, &network.path, "").tell(&format!("no .netdev makes {}", shown(name))),
        }
    }

    for nic in nics.into_iter().flatten() {
        put(&mut plan, nic);
    }
    for mut link in made {
        match &mut link.kind {
            Kind::Vlan { link: under, .. } if under.is_empty() => {
                at(&mut plan, &link.from.join(" "), "").tell("no .network has this VLAN: left out");
                continue;
            }
            Kind::Bond { ports, options } => {
                link.kind = source::bond(std::mem::take(ports), std::mem::take(options));
            }
            Kind::Bridge { ports, .. } => *ports = source::few(std::mem::take(ports)),
            Kind::Physical | Kind::Vlan { .. } => {}
        }
        put(&mut plan, link);
    }
    finished(plan)
}

/// The names, MTUs and addresses that `.link` files give to NICs of a stated MAC.
pub fn renames(files: &dyn Files, plan: &mut Plan) -> Vec<Link> {
    let mut renames = Vec::new();
    for unit in units(files, ".link", plan) {
        let matched = unit.section("Match");
        let wanted = unit.section("Link");
        let macs = [matched.words("PermanentMACAddress"), matched.words("MACAddress")].concat();
        let at = &mut at(plan, &unit.path, "");
        if let ([text], Some(name)) = (&macs[..], wanted.last("Name"))
            && let (Some(mac), Some(name)) =
                (at.or_tell(source::mac(text)), at.or_tell(source::interface(name)))
        {
            let mut link = Link { rename: Some(name), ..Link::of(Selector::mac(mac), &unit.path) };
            hardware(at, &wanted, &mut link);
            renames.push(link);
        }
    }
    renames
}

/// All files of a kind that are not masked, by name.
pub(crate) fn units(files: &dyn Files, suffix: &str, plan: &mut Plan) -> Vec<Unit> {
    let listed: Vec<(&str, Vec<String>)> =
        DIRECTORIES.iter().map(|directory| (*directory, files.list(directory))).collect();
    let mut units = Vec::new();
    let mut room = Room::default();
    for (directory, name) in firsts(&listed, suffix) {
        let path = format!("{directory}/{name}");
        // An empty file, or a link to /dev/null, says that there is to be none.
        let Some(file) =
            File::read(files, &path, plan).filter(|file| !file.text.is_empty() && room.has(file))
        else {
            continue;
        };
        let mut sections = ini::sections(&file.text, true);
        let with = format!("{name}.d");
        let beside: Vec<(String, Vec<String>)> = listed
            .iter()
            .filter(|(_, names)| names.contains(&with))
            .map(|(directory, _)| format!("{directory}/{with}"))
            .map(|directory| (directory.clone(), files.list(&directory)))
            .collect();
        let beside: Vec<(&str, Vec<String>)> =
            beside.iter().map(|(directory, names)| (directory.as_str(), names.clone())).collect();
        for (directory, name) in firsts(&beside, ".conf") {
            if let Some(file) =
                File::read(files, &format!("{directory}/{name}"), plan).filter(|file| room.has(file))
            {
                sections.extend(ini::sections(&file.text, true));
            }
        }
        units.push(Unit { path: file.path, sections });
    }
    units
}

/// Each name of a kind once, in the order of the names, from the first directory that has it.
fn firsts<'a>(listed: &[(&'a str, Vec<String>)], suffix: &str) -> Vec<(&'a str, String)> {
    let mut found = std::collections::BTreeMap::new();
    for (directory, names) in listed {
        for name in names.iter().filter(|name| name.ends_with(suffix) && !name.starts_with('.')) {
            found.entry(name.clone()).or_insert(*directory);
        }
    }
    found.into_iter().take(MOST_FILES).map(|(name, directory)| (directory, name)).collect()
}

fn netdev(plan: &mut Plan, unit: &Unit) -> Option<Link> {
    let section = unit.section("NetDev");
    let at = &mut at(plan, &unit.path, "");
    let name = section.last("Name").and_then(|name| at.or_tell(source::interface(name)))?;
    let kind = match section.last("Kind").unwrap_or_default() {
        "vlan" => {
            let id = at.or_tell(source::vlan_id(unit.section("VLAN").last("Id").unwrap_or_default()))?;
            Kind::Vlan { link: String::new(), id }
        }
        "bond" => Kind::Bond { ports: Vec::new(), options: options(at, &unit.section("Bond")) },
        "bridge" => {
            Kind::Bridge { ports: Vec::new(), stp: unit.section("Bridge").bool("STP").unwrap_or(false) }
        }
        other => {
            at.tell(&format!("the kind \"{}\" is not made here: left out", shown(other)));
            return None;
        }
    };
    let mut link = Link::made(&name, kind, &unit.path);
    hardware(at, &section, &mut link);
    Some(link)
}

fn options(at: &mut At, section: &Section) -> Vec<BondOption> {
    let mut options = Vec::new();
    for (key, name, kind) in OPTIONS {
        let Some(text) = section.last(key) else { continue };
        let value = match kind {
            Value::Word => Ok(text.to_string()),
            Value::Flag => Ok(u8::from(section.bool(key) == Some(true)).to_string()),
            Value::Time => source::milliseconds(text, 1000),
        };
        options.extend(at.or_tell(value.and_then(|value| source::option(name, &value))));
    }
    options
}

/// `MTUBytes=`, `MACAddress=`
fn hardware(at: &mut At, section: &Section, link: &mut Link) {
    let bytes = |text: &str| match (text.strip_suffix(['K', 'k']), text) {
        (Some(kilo), _) => {
            kilo.parse::<u32>().ok().and_then(|kilo| kilo.checked_mul(1024)).unwrap_or(0).to_string()
        }
        (None, text) => text.to_string(),
    };
    link.mtu = section.last("MTUBytes").and_then(|text| at.or_tell(source::mtu(&bytes(text)))).or(link.mtu);
    let mac = section.last("MACAddress").filter(|text| *text != "none");
    link.mac = mac.and_then(|text| at.or_tell(source::mac(text))).or(link.mac);
}

fn network(plan: &mut Plan, unit: &Unit) -> Option<Network> {
    let at = &mut at(plan, &unit.path, "");
    let matched = unit.section("Match");
    if unit.section("Link").bool("Unmanaged") == Some(true) {
        return None;
    }
    let selectors = selectors(at, &matched)?;
    let section = unit.section("Network");
    let mut link = Link { from: vec![unit.path.clone()], ..Link::default() };
    hardware(at, &unit.section("Link"), &mut link);
    addresses(at, unit, &section, &mut link);
    for text in section.words("DNS") {
        if let Some(server) = at.or_tell(source::server(text)) {
            link.add_server(server);
        }
    }
    // What begins with a tilde says whom to ask, not what to search.
    for text in section.words("Domains").into_iter().filter(|text| !text.starts_with('~')) {
        if let Some(domain) = at.or_tell(source::domain(text)) {
            link.add_search(domain);
        }
    }
    for text in section.words("NTP").into_iter().take(MOST_PER_LINK) {
        link.ntp.extend(at.or_tell(source::time_server(text)));
    }
    for key in ["MACVLAN", "MACVTAP", "IPVLAN", "IPVTAP", "VRF", "VXLAN", "Tunnel", "Xfrm"] {
        if section.last(key).is_some() {
            at.tell(&format!("{key}= is not read"));
        }
    }
    let kinds = matched.words("Kind");
    Some(Network {
        path: unit.path.clone(),
        selectors,
        is_for_made: !kinds.contains(&"!*"),
        link,
        vlans: section.words("VLAN").into_iter().take(MOST_PER_LINK).map(str::to_string).collect(),
        master: section.last("Bond").or(section.last("Bridge")).map(str::to_string),
        is_primary: section.bool("PrimarySlave") == Some(true),
    })
}

/// The links that a file is about; `None` where none of them is one for a rescue.
fn selectors(at: &mut At, matched: &Section) -> Option<Vec<Selector>> {
    let is_of = |key: &str, words: &[&str]| {
        let said = matched.words(key);
        said.is_empty() || said.iter().any(|word| words.contains(word) || word.starts_with('!'))
    };
    let is_wireless = ["SSID", "BSSID", "WLANInterfaceType"].iter().any(|key| matched.last(key).is_some());
    let is_virtual = matched.last("Virtualization").is_some_and(|word| matches!(word, "container" | "yes"))
        || !is_of("Kind", &["vlan", "bond", "bridge"]);
    if is_wireless || is_virtual || !is_of("Type", &["ether", "vlan", "bond", "bridge", "en*"]) {
        return None;
    }
    let all = |key: &str| -> Vec<&str> { matched.words(key).into_iter().take(MOST_PER_LINK).collect() };
    let macs = [all("PermanentMACAddress"), all("MACAddress")].concat();
    if !macs.is_empty() {
        // Of all that may be said they are the surest.
        let read = macs.iter().filter_map(|text| at.or_tell(source::mac(text))).map(Selector::mac);
        return Some(source::few(read.collect()));
    }
    let (names, not) = (all("Name"), "!");
    if names.first().is_some_and(|name| name.starts_with(not)) {
        at.tell(&format!("Name={} says what it is not about: left out", shown(&names.join(" "))));
        return None;
    }
    let (names, not): (Vec<&str>, Vec<&str>) = names.into_iter().partition(|name| !name.starts_with(not));
    if !not.is_empty() {
        at.tell(&format!("Name={} says what it is not about: not heeded", shown(&not.join(" "))));
    }
    if names.iter().all(|name| *name == "lo") && !names.is_empty() {
        return None;
    }
    let drivers: Vec<&str> = all("Driver").into_iter().filter(|driver| !driver.starts_with('!')).collect();
    if names.is_empty() && drivers.is_empty() && matched.last("Path").is_some() {
        at.tell(&format!(
            "Path={} is not compared: left out",
            shown(matched.last("Path").unwrap_or_default())
        ));
        return None;
    }
    let some = |words: Vec<&str>| -> Vec<Option<String>> {
        let some: Vec<Option<String>> =
            words.into_iter().take(16).map(|word| Some(word.to_string())).collect();
        if some.is_empty() { vec![None] } else { some }
    };
    let drivers = some(drivers);
    let mut found = Vec::new();
    for name in some(names) {
        for driver in &drivers {
            // All, where nothing is said.
            let name = name.clone().or(driver.is_none().then(|| "*".to_string()));
            found.push(Selector { name, mac: None, driver: driver.clone() });
        }
    }
    Some(found)
}

fn addresses(at: &mut At, unit: &Unit, section: &Section, link: &mut Link) {
    let (four, six) = match section.last("DHCP").unwrap_or("no") {
        "ipv4" | "v4" => (true, false),
        "ipv6" | "v6" => (false, true),
        "both" => (true, true),
        _ => (section.bool("DHCP") == Some(true), section.bool("DHCP") == Some(true)),
    };
    let has_link_local = match section.last("LinkLocalAddressing") {
        Some("ipv4" | "fallback" | "ipv4-fallback") => false,
        Some(_) => section.bool("LinkLocalAddressing") != Some(false),
        None => true,
    };
    let accepts = ["IPv6AcceptRA", "IPv6AcceptRouterAdvertisements"].iter().find_map(|key| section.bool(key));
    let ipv6 = match (six, has_link_local) {
        (true, _) => Ipv6::Dhcp,
        (false, true) if accepts != Some(false) => Ipv6::Auto,
        (false, false) if accepts == Some(true) => Ipv6::Auto,
        (false, true) => Ipv6::LinkLocal,
        (false, false) => Ipv6::Off,
    };
    link.methods = Methods { dhcp4: four, ipv6 };
    for text in section.all("Address").into_iter().take(MOST_PER_LINK) {
        if let Some(own) = at.or_tell(source::own(text, None)) {
            link.add_address(own);
        }
    }
    for section in unit.sections.iter().filter(|section| section.name == "Address").take(MOST_PER_LINK) {
        let Some(text) = section.last("Address") else { continue };
        let peer = section.last("Peer").and_then(|text| at.or_tell(source::own(text, None)));
        if let Some(own) = at.or_tell(source::own(text, None)) {
            link.add_address(match peer.filter(|peer| peer.address.is_ipv4() == own.address.is_ipv4()) {
                Some(peer) => Address { peer: Some(peer.address), prefix: peer.prefix, ..own },
                None => own,
            });
        }
    }
    let is_stated = |text: &&str| !text.starts_with('_'); // _dhcp4, _ipv6ra
    for text in section.all("Gateway").into_iter().filter(is_stated).take(MOST_PER_LINK) {
        if let Some(gateway) = at.or_tell(source::gateway(text)) {
            link.add_gateway(gateway);
        }
    }
    for section in unit.sections.iter().filter(|section| section.name == "Route").take(MOST_PER_LINK) {
        if let Some(route) = at.or_tell(route(section)).flatten() {
            link.add_route(route);
        }
    }
}

/// `None`: one of which a lease or a router says the gateway.
fn route(section: &Section) -> Result<Option<Route>, String> {
    let gateway = section.last("Gateway");
    if gateway.is_some_and(|text| text.starts_with('_')) {
        return Ok(None);
    }
    let to = section.last("Destination").unwrap_or("default");
    let is_main = |table: &str| matches!(table, "254" | "main" | "default");
    if let Some(table) = section.last("Table").filter(|table| !is_main(table)) {
        return Err(format!("the route to {} is of table {}: left out", shown(to), shown(table)));
    }
    if let Some(kind) = section.last("Type").filter(|kind| *kind != "unicast") {
        return Err(format!("the route to {} is of type {}: left out", shown(to), shown(kind)));
    }
    if gateway.is_none() && section.last("Destination").is_none() {
        return Err("a route without Gateway= and Destination=".to_string());
    }
    let route = source::route(to, None, gateway)?;
    let metric = section.last("Metric").and_then(|metric| metric.parse().ok());
    let source = section.last("PreferredSource").and_then(|text| source::host(text).ok());
    Ok(Some(Route { metric, source, ..route }))
}

/// A `.network` upon a link that is made.
fn lay(link: &mut Link, said: &Link) {
    link.methods = said.methods;
    link.addresses = said.addresses.clone();
    link.routes = said.routes.clone();
    link.nameservers = said.nameservers.clone();
    link.search = said.search.clone();
    link.ntp = said.ntp.clone();
    link.mtu = said.mtu.or(link.mtu);
    link.mac = said.mac.or(link.mac);
    link.from.extend(said.from.clone());
}

#[cfg(test)]
#[path = "networkd_tests.rs"]
mod tests;
