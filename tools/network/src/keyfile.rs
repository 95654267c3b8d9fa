//! NetworkManager's connections in key files (nm-settings-keyfile(5)): Ethernet, VLAN, bond, bridge, team (as the
//! bond that is equal) and their ports. A profile that does
//! not name a NIC is for any; where several are, the one of the highest priority comes first.
//!
//! Not read, and told: other types, such as Wi-Fi and VPNs; profiles that are not connected by themselves.

use crate::ini::{self, Section};
use crate::source::{self, At, File, Files, at, finished, put, shown};
use crate::{BondOption, Ipv6, Kind, Link, MOST_LINKS, MOST_PER_LINK, Mac, Methods, Plan, Route, Selector};

/// The first one that has a file of some name is taken.
pub const DIRECTORIES: &[&str] = &[
    "/etc/NetworkManager/system-connections",
    "/run/NetworkManager/system-connections",
    "/usr/lib/NetworkManager/system-connections",
];

/// A profile.
struct Profile {
    path: String,
    id: String,
    uuid: String,
    /// How others call it: its interface.
    name: Option<String>,
    priority: i32,
    /// The interface or the UUID of what it is a port of.
    controller: Option<String>,
    link: Link,
    /// A VLAN's parent, as it is written.
    parent: String,
    /// NICs that it is for besides the link's.
    more: Vec<Selector>,
}

/// The files that NetworkManager would read.
pub fn files(files: &dyn Files, plan: &mut Plan) -> Vec<File> {
    let mut found: Vec<File> = Vec::new();
    let has_name =
        |found: &[File], name: &str| found.iter().any(|file| file.path.rsplit('/').next() == Some(name));
    for directory in DIRECTORIES {
        // The suffix is younger than the directory.
        let is_wanted = |name: &str| !source::is_left_behind(name);
        for file in File::all(files, directory, &is_wanted, plan) {
            let name = file.path.rsplit('/').next().unwrap_or_default();
            if !has_name(&found, name) && found.len() < source::MOST_FILES {
                found.push(file);
            }
        }
    }
    found
}

pub fn read(files: &[File]) -> Plan {
    let mut plan = Plan::default();
    let mut profiles: Vec<Profile> = files.iter().filter_map(|file| profile(&mut plan, file)).collect();
    // Stable: files of one priority stay in their order.
    profiles.sort_by_key(|profile| std::cmp::Reverse(profile.priority));
    profiles.truncate(MOST_LINKS);
    resolve(&mut plan, &mut profiles);
    for profile in profiles {
        if matches!(&profile.link.kind, Kind::Vlan { link, .. } if link.is_empty()) {
            continue; // told where its parent was looked for
        }
        // As a port it has no addresses; as such it is known by the controller's entry.
        if profile.controller.is_none() || profile.link.says_something() {
            let more: Vec<Link> =
                profile.more.into_iter().map(|selector| Link { selector, ..profile.link.clone() }).collect();
            put(&mut plan, profile.link);
            more.into_iter().for_each(|link| put(&mut plan, link));
        }
    }
    finished(plan)
}

fn profile(plan: &mut Plan, file: &File) -> Option<Profile> {
    let sections = ini::sections(&file.text, false);
    // Older names of the sections are the types' own.
    let section = |names: [&str; 2]| {
        let found = names.iter().find(|name| sections.iter().any(|section| section.name == **name));
        ini::whole(&sections, found.unwrap_or(&names[0]))
    };
    let connection = ini::whole(&sections, "connection");
    let id = connection.last("id").unwrap_or_default();
    let at = &mut at(plan, &file.path, "");
    let kind = connection.last("type").unwrap_or_default();
    let name = connection.last("interface-name").and_then(|name| at.or_tell(source::interface(name)));
    if kind == "loopback" || name.as_deref() == Some("lo") {
        return None;
    }
    if connection.bool("autoconnect") == Some(false) {
        at.tell("it is not connected by itself: left out");
        return None;
    }
    let ethernet = section(["ethernet", "802-3-ethernet"]);
    let mac = ethernet.last("mac-address").and_then(|text| at.or_tell(source::mac(text)));
    let mut link = Link { from: vec![file.path.clone()], ..Link::default() };
    let mut parent = String::new();
    let mut more = Vec::new();
    match kind {
        "ethernet" | "802-3-ethernet" => match mac {
            Some(mac) => link.selector = Selector::mac(mac),
            None => {
                let mut found = matched(at, name.as_deref(), &ini::whole(&sections, "match"))?.into_iter();
                link.selector = found.next().unwrap_or_default();
                more = found.collect();
            }
        },
        "vlan" => {
            let vlan = ini::whole(&sections, "vlan");
            let number = at.or_tell(source::vlan_id(vlan.last("id").unwrap_or_default()))?;
            parent = vlan.last("parent").unwrap_or_default().to_string();
            link.kind = Kind::Vlan { link: String::new(), id: number };
            // Without a name it gets one of its parent's.
            link.selector.name = name.clone().or(vlan.last("interface-name").map(str::to_string));
        }
        "bond" => {
            link.kind =
                Kind::Bond { ports: Vec::new(), options: options(at, &ini::whole(&sections, "bond")) };
            link.selector.name =
                Some(name.clone().or_else(|| old_name(&sections, "bond")).unwrap_or("bond0".to_string()));
        }
        "team" => {
            link.kind = source::team(
                at,
                Vec::new(),
                &ini::whole(&sections, "team").last("config").unwrap_or_default().replace("\\n", " "),
            );
            link.selector.name =
                Some(name.clone().or_else(|| old_name(&sections, "team")).unwrap_or("team0".to_string()));
        }
        "bridge" => {
            // NetworkManager's default is to have the protocol.
            let bridge = ini::whole(&sections, "bridge");
            link.kind = Kind::Bridge { ports: Vec::new(), stp: bridge.bool("stp").unwrap_or(true) };
            link.mac = bridge.last("mac-address").and_then(|text| at.or_tell(source::mac(text)));
            link.selector.name =
                Some(name.clone().or_else(|| old_name(&sections, "bridge")).unwrap_or("br0".to_string()));
        }
        other => {
            at.tell(&format!("the type \"{}\" is not made here: left out", shown(other)));
            return None;
        }
    }
    link.mtu = ethernet
        .last("mtu")
        .filter(|text| !matches!(*text, "0" | "auto"))
        .and_then(|text| at.or_tell(source::mtu(text)));
    // `permanent`, `preserve`, `random`, `stable` are words.
    let cloned = ethernet.last("cloned-mac-address").filter(|text| Mac::parse(text).is_some());
    link.mac = cloned.and_then(|text| at.or_tell(source::mac(text))).or(link.mac);
    let (four, six) = (ini::whole(&sections, "ipv4"), ini::whole(&sections, "ipv6"));
    link.methods = Methods { dhcp4: dhcp4(at, &four), ipv6: ipv6(at, &six) };
    for section in [&four, &six] {
        addresses(at, section, &mut link);
    }
    link.without_name();
    if !link.addresses.is_empty() && !more.is_empty() {
        // An address is one NIC's.
        at.tell(&format!("it is for one of several NICs: {} is taken", shown(&link.selector.to_string())));
        more.clear();
    }
    let controller = connection.last("controller").or(connection.last("master")).map(str::to_string);
    let is_port = connection.last("port-type").or(connection.last("slave-type")).is_some();
    Some(Profile {
        path: file.path.clone(),
        id: id.to_string(),
        uuid: connection.last("uuid").unwrap_or_default().to_string(),
        name: name.or(link.selector.name.clone()),
        priority: connection.last("autoconnect-priority").and_then(|text| text.parse().ok()).unwrap_or(0),
        controller: controller.filter(|_| is_port),
        link,
        parent,
        more,
    })
}

/// The NICs that a profile without a MAC is for; `None` where that is not known here.
fn matched(at: &mut At, name: Option<&str>, section: &Section) -> Option<Vec<Selector>> {
    let all = |key: &str| -> Vec<Option<String>> {
        let list = section.last(key).unwrap_or_default();
        // One of them is enough where it begins with a bar; what must not be, and what must be besides, is not heeded.
        let words = list.split([';', ',']).map(|word| word.trim().trim_start_matches('|'));
        let words = words.filter(|word| !word.is_empty() && !word.starts_with(['!', '&'])).take(16);
        let some: Vec<Option<String>> = words.map(|word| Some(word.to_string())).collect();
        if some.is_empty() { vec![None] } else { some }
    };
    let (names, drivers) = match name {
        Some(name) => (vec![Some(name.to_string())], vec![None]),
        None => (all("interface-name"), all("driver")),
    };
    if names == [None]
        && drivers == [None]
        && let Some(path) = section.last("path")
    {
        at.tell(&format!("path={} is not compared: left out", shown(path)));
        return None;
    }
    let mut found = Vec::new();
    for name in names {
        for driver in &drivers {
            // All, where nothing is said.
            let name = name.clone().or(driver.is_none().then(|| "*".to_string()));
            found.push(Selector { name, mac: None, driver: driver.clone() });
        }
    }
    Some(found)
}

/// What said the name before `connection.interface-name` did.
fn old_name(sections: &[Section], section: &str) -> Option<String> {
    source::interface(ini::whole(sections, section).last("interface-name")?).ok()
}

fn options(at: &mut At, section: &Section) -> Vec<BondOption> {
    let mut options = Vec::new();
    for (name, value) in
        section.pairs().iter().filter(|(name, value)| name != "interface-name" && !value.is_empty()).take(64)
    {
        options.extend(at.or_tell(source::option(name, value)));
    }
    options
}

fn dhcp4(at: &mut At, section: &Section) -> bool {
    match section.last("method").unwrap_or("auto") {
        "auto" => true,
        "manual" | "disabled" | "link-local" => false,
        other => {
            at.tell(&format!("the method \"{}\" of IPv4 is not done here", shown(other)));
            false
        }
    }
}

fn ipv6(at: &mut At, section: &Section) -> Ipv6 {
    match section.last("method").unwrap_or("auto") {
        // Left alone, the kernel takes what routers advertise.
        "auto" | "ignore" => Ipv6::Auto,
        "dhcp" => Ipv6::Dhcp,
        "manual" | "link-local" => Ipv6::LinkLocal,
        "disabled" => Ipv6::Off,
        other => {
            at.tell(&format!("the method \"{}\" of IPv6 is not done here", shown(other)));
            Ipv6::LinkLocal
        }
    }
}

/// `address1=192.0.2.7/24,192.0.2.1`, `gateway=`, `route1=10.0.0.0/8,192.0.2.1,100`, `dns=`, `dns-search=`.
fn addresses(at: &mut At, section: &Section, link: &mut Link) {
    if section.last("method") == Some("disabled") {
        return;
    }
    let is_default = section.bool("never-default") != Some(true);
    let numbered = |key: &str, stem: &str| {
        key.strip_prefix(stem)
            .is_some_and(|rest| rest.trim_start_matches(['e', 's']).bytes().all(|c| c.is_ascii_digit()))
    };
    let metric = section.last("route-metric").and_then(|text| text.parse::<u32>().ok());
    let gateway = |at: &mut At, text: &str, link: &mut Link| {
        let text = text.trim();
        if is_default && !text.is_empty() && !matches!(text, "0.0.0.0" | "::") {
            let gateway = at.or_tell(source::gateway(text));
            if let Some(gateway) = gateway {
                link.add_route(Route { metric, ..Route::default_by(gateway) });
            }
        }
    };
    for (key, value) in section.pairs().iter().take(4 * MOST_PER_LINK) {
        let old = old_form(value);
        let value = old.as_ref().unwrap_or(value);
        let parts: Vec<&str> = value.split(',').map(str::trim).collect();
        if numbered(key, "address") && !value.is_empty() {
            if let Some(own) = at.or_tell(source::own(parts[0], None)) {
                link.add_address(own);
            }
            if let Some(text) = parts.get(1) {
                gateway(at, text, link);
            }
        } else if key == "gateway" {
            gateway(at, value, link);
        } else if numbered(key, "route") && !value.is_empty() {
            let options = section.last(&format!("{key}_options")).unwrap_or_default();
            let option = |name: &str| {
                options.split(',').find_map(|option| option.trim().strip_prefix(name)?.strip_prefix('='))
            };
            if let Some(table) = option("table").filter(|table| *table != "254") {
                at.tell(&format!("the route to {} is of table {}: left out", shown(parts[0]), shown(table)));
                continue;
            }
            if let Some(route) = at.or_tell(source::route(parts[0], None, parts.get(1).copied())) {
                let metric = parts.get(2).and_then(|text| text.parse().ok());
                let source = option("src").and_then(|text| source::host(text).ok());
                link.add_route(Route { metric, source, ..route });
            }
        }
    }
    let words = |key: &str| -> Vec<String> {
        let values = section.last(key).unwrap_or_default();
        values
            .split([';', ','])
            .map(str::trim)
            .filter(|word| !word.is_empty())
            .take(MOST_PER_LINK)
            .map(str::to_string)
            .collect()
    };
    for text in words("dns") {
        // `dns+tls://192.0.2.53#name`
        let bare = text.split_once("://").map_or(text.as_str(), |(_, rest)| rest);
        if let Some(server) = at.or_tell(source::server(bare)) {
            link.add_server(server);
        }
    }
    for text in words("dns-search").iter().filter(|text| !text.starts_with('~')) {
        if let Some(domain) = at.or_tell(source::domain(text)) {
            link.add_search(domain);
        }
    }
}

/// `192.0.2.7;24;192.0.2.1;` is how NetworkManager wrote `192.0.2.7/24,192.0.2.1` before 0.9.8, routes too.
fn old_form(value: &str) -> Option<String> {
    let parts: Vec<&str> = value.trim_end_matches(';').split(';').map(str::trim).collect();
    match parts[..] {
        [own, length, ref rest @ ..] if !value.contains(['/', ',']) && source::host(own).is_ok() => Some(
            [&format!("{own}/{length}")[..]]
                .into_iter()
                .chain(rest.iter().copied())
                .collect::<Vec<&str>>()
                .join(","),
        ),
        _ => None,
    }
}

/// Profiles name each other by interface or UUID.
fn resolve(plan: &mut Plan, profiles: &mut [Profile]) {
    let called = |profiles: &[Profile], text: &str| {
        let is_it = |profile: &Profile| {
            profile.uuid == text || profile.name.as_deref() == Some(text) || profile.id == text
        };
        profiles.iter().position(is_it).filter(|_| !text.is_empty())
    };
    for number in 0..profiles.len() {
        let parent = profiles[number].parent.clone();
        let Kind::Vlan { id, .. } = profiles[number].link.kind else { continue };
        let under = match called(profiles, &parent) {
            Some(below) if below != number => {
                let own = profiles[below].name.clone().filter(|name| !name.contains(['*', '?', '[']));
                profiles[below].link.name_for_others(&own.unwrap_or_else(|| format!("lan{below}")))
            }
            _ => parent,
        };
        let place = &mut at(plan, &profiles[number].path, "");
        let Some(under) = place.or_tell(source::interface(&under)) else { continue };
        let name = profiles[number].link.selector.name.clone();
        let name = name
            .unwrap_or_else(|| source::interface(&format!("{under}.{id}")).unwrap_or(format!("vlan{id}")));
        profiles[number].link.selector = Selector::name(&name);
        profiles[number].name = Some(name);
        profiles[number].link.kind = Kind::Vlan { link: under, id };
    }
    for number in 0..profiles.len() {
        let Some(controller) = profiles[number].controller.clone() else { continue };
        let port = profiles[number].link.selector.clone();
        let above = called(profiles, &controller);
        match above.map(|above| &mut profiles[above].link.kind) {
            Some(Kind::Bond { ports, .. } | Kind::Bridge { ports, .. }) => ports.push(port),
            Some(Kind::Physical | Kind::Vlan { .. }) | None => {
                at(plan, &profiles[number].path, "")
                    .tell(&format!("its controller {} is not described", shown(&controller)));
            }
        }
        profiles[number].link.methods = Methods::OFF;
    }
    for profile in profiles {
        match &mut profile.link.kind {
            Kind::Bond { ports, options } => {
                profile.link.kind = source::bond(std::mem::take(ports), std::mem::take(options));
            }
            Kind::Bridge { ports, .. } => *ports = source::few(std::mem::take(ports)),
            Kind::Physical | Kind::Vlan { .. } => {}
        }
    }
}

#[cfg(test)]
#[path = "keyfile_tests.rs"]
mod tests;
