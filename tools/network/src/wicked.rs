//! SUSE's /etc/sysconfig/network: ifcfg-* (ifcfg(5), ifcfg-vlan(5), ifcfg-bonding(5), ifcfg-bridge(5)), routes and ifroute-*
//! (ifroute(5)), and netconfig's static servers in `config`.
//!
//! Not read: Wi-Fi, tunnels, teams, rules.

use crate::assign::Assignments;
use crate::source::{self, At, File, Files, at, finished, put, shown};
use crate::{BondOption, Ipv6, Kind, Link, MOST_PER_LINK, Methods, Plan, Route, Selector};

pub const DIRECTORY: &str = "/etc/sysconfig/network";

pub fn read(files: &dyn Files) -> Plan {
    let mut plan = Plan::default();
    let is_wanted = |name: &str| {
        let device = name.strip_prefix("ifcfg-");
        device.is_some_and(|device| !matches!(device, "lo" | "template") && !source::is_left_behind(device))
    };
    for file in File::all(files, DIRECTORY, &is_wanted, &mut plan) {
        let values = Assignments::read(&file, &mut plan);
        let name = file.path.rsplit_once("ifcfg-").map_or("", |(_, name)| name).to_string();
        if let Some(mut link) = describe(&mut at(&mut plan, &file.path, ""), &name, &values) {
            link.from.push(file.path.clone());
            if let Some(file) = File::read(files, &format!("{DIRECTORY}/ifroute-{name}"), &mut plan) {
                for (route, _) in routes(&mut plan, &file) {
                    link.add_route(route);
                }
            }
            put(&mut plan, link);
        }
    }
    if let Some(file) = File::read(files, &format!("{DIRECTORY}/routes"), &mut plan) {
        for (route, device) in routes(&mut plan, &file) {
            let is_it = |link: &&mut Link| device.is_some() && link.selector.name == device;
            match plan.links.iter_mut().find(is_it) {
                Some(link) => link.add_route(route),
                None => source::place(&mut plan, route),
            }
        }
    }
    if let Some(file) = File::read(files, &format!("{DIRECTORY}/config"), &mut plan) {
        let values = Assignments::read(&file, &mut plan);
        config(&mut plan, &file.path, &values);
    }
    finished(plan)
}

/// netconfig's static servers.
fn config(plan: &mut Plan, path: &str, values: &Assignments) {
    let place = &mut at(plan, path, "");
    let mut whole = Link::default();
    for text in values.words("NETCONFIG_DNS_STATIC_SERVERS") {
        if let Some(server) = place.or_tell(source::server(text)) {
            whole.add_server(server);
        }
    }
    for text in values.words("NETCONFIG_DNS_STATIC_SEARCHLIST") {
        if let Some(domain) = place.or_tell(source::domain(text)) {
            whole.add_search(domain);
        }
    }
    for text in values.words("NETCONFIG_NTP_STATIC_SERVERS") {
        whole.ntp.extend(place.or_tell(source::time_server(text)));
    }
    plan.nameservers = whole.nameservers;
    plan.search = whole.search;
    plan.ntp = whole.ntp;
}

fn describe(at: &mut At, name: &str, values: &Assignments) -> Option<Link> {
    let name = at.or_tell(source::interface(name))?;
    match values.get("STARTMODE").unwrap_or("manual").to_ascii_lowercase().as_str() {
        "auto" | "boot" | "onboot" | "on" | "hotplug" | "nfsroot" | "ifplugd" => {}
        mode => {
            at.tell(&format!("STARTMODE={}: left out", shown(mode)));
            return None;
        }
    }
    if let Some(key) =
        ["WIRELESS_ESSID", "WIRELESS", "TUNNEL", "TEAM_RUNNER"].iter().find(|key| values.get(key).is_some())
    {
        at.tell(&format!("{key} is not made here: left out"));
        return None;
    }
    let mut link = Link { selector: Selector::name(&name), methods: methods(at, values), ..Link::default() };
    link.kind = kind(at, &name, values)?;
    link.mtu = values.get("MTU").and_then(|text| at.or_tell(source::mtu(text)));
    link.mac = values.get("LLADDR").and_then(|text| at.or_tell(source::mac(text)));
    for (suffix, text) in values.suffixed("IPADDR") {
        let with = |key: &str| values.get(&format!("{key}{suffix}"));
        let mask = with("PREFIXLEN").or(with("NETMASK"));
        let peer = with("REMOTE_IPADDR").and_then(|text| at.or_tell(source::host(text)));
        if let Some(own) = at.or_tell(source::own(text, mask)) {
            if source::has_no_net(&own) && mask.is_none() && !text.contains('/') && peer.is_none() {
                at.tell(&format!("no netmask: {}/{} is taken", own.address, own.prefix));
            }
            let peer = peer.filter(|peer| peer.is_ipv4() == own.address.is_ipv4());
            link.add_address(crate::Address { peer, ..own });
        }
    }
    Some(link)
}

/// `dhcp`, `dhcp4`, `dhcp6`, `static`, `none`, several with a plus. What routers advertise is taken unless all is off.
fn methods(at: &mut At, values: &Assignments) -> Methods {
    let mut methods = Methods { dhcp4: false, ipv6: Ipv6::Auto };
    for word in values.get("BOOTPROTO").unwrap_or("static").to_ascii_lowercase().split('+') {
        match word {
            "dhcp" | "dhcp4" => methods.dhcp4 = true,
            "dhcp6" => methods.ipv6 = Ipv6::Dhcp,
            "static" | "autoip" | "auto4" | "auto6" | "ibft" => {}
            "none" => methods = Methods::OFF,
            other => at.tell(&format!("BOOTPROTO={} is not known", shown(other))),
        }
    }
    methods
}

fn kind(at: &mut At, name: &str, values: &Assignments) -> Option<Kind> {
    let ports = |names: Vec<&str>| source::few(names.into_iter().map(Selector::name).collect());
    if values.bool("BONDING_MASTER") == Some(true) {
        let slaves = values.suffixed("BONDING_SLAVE").into_iter().map(|(_, name)| name).collect();
        let mut options: Vec<BondOption> = Vec::new();
        for word in values.words("BONDING_MODULE_OPTS") {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            options.extend(at.or_tell(source::option(name, value)));
        }
        return Some(source::bond(ports(slaves), options));
    }
    if values.bool("BRIDGE") == Some(true) {
        let stp = values.bool("BRIDGE_STP").unwrap_or(false);
        return Some(Kind::Bridge { ports: ports(values.words("BRIDGE_PORTS")), stp });
    }
    let Some(below) = values.get("ETHERDEVICE") else { return Some(Kind::Physical) };
    let digits = &name[name.trim_end_matches(|c: char| c.is_ascii_digit()).len()..];
    let number = values.get("VLAN_ID").unwrap_or(digits.trim_start_matches('0'));
    Some(Kind::Vlan { link: at.or_tell(source::interface(below))?, id: at.or_tell(source::vlan_id(number))? })
}

/// `DESTINATION [GATEWAY [NETMASK [INTERFACE [TYPE]]]] [metric N] [src ADDRESS]`, a dash for what is not said.
fn routes(plan: &mut Plan, file: &File) -> Vec<(Route, Option<String>)> {
    let at = &mut at(plan, &file.path, "");
    let mut found = Vec::new();
    let is_words = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    for line in file.text.lines().filter(is_words).take(MOST_PER_LINK) {
        let mut words: Vec<&str> = line.split_whitespace().take(32).collect();
        let named = words.iter().position(|word| matches!(*word, "metric" | "src" | "dev" | "table" | "via"));
        let options = words.split_off(named.unwrap_or(words.len()));
        let option = |name: &str| {
            options.iter().position(|word| *word == name).and_then(|at| options.get(at + 1)).copied()
        };
        let field = |number: usize| words.get(number).copied().filter(|word| *word != "-");
        if let Some(table) = option("table").filter(|table| !matches!(*table, "main" | "254")) {
            at.tell(&format!(
                "the route to {} is of table {}: left out",
                shown(words.first().unwrap_or(&"")),
                shown(table)
            ));
            continue;
        }
        let kind = field(4).filter(|kind| *kind != "unicast");
        if let Some(kind) = kind {
            at.tell(&format!(
                "the route to {} is of type {}: left out",
                shown(words.first().unwrap_or(&"")),
                shown(kind)
            ));
            continue;
        }
        if let Some(route) =
            at.or_tell(source::route(field(0).unwrap_or_default(), field(2), field(1).or(option("via"))))
        {
            let metric = option("metric").and_then(|metric| metric.parse().ok());
            let source = option("src").and_then(|text| source::host(text).ok());
            found.push((Route { metric, source, ..route }, field(3).or(option("dev")).map(str::to_string)));
        }
    }
    found
}

#[cfg(test)]
#[path = "wicked_tests.rs"]
mod tests;
