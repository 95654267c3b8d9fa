//! RHEL's /etc/sysconfig/network-scripts/ifcfg-*, with route-*, route6-* and /etc/sysconfig/network, as initscripts
//! (sysconfig.txt) and NetworkManager (nm-settings-ifcfg-rh(5)) read them.
//!
//! Not read: rules (rule-*), ranges of addresses, Wi-Fi and tunnels.

use crate::assign::Assignments;
use crate::ifupdown::by_ip;
use crate::source::{self, At, File, Files, at, finished, put, shown};
use crate::{BondOption, Ipv6, Kind, Link, MOST_PER_LINK, Plan, Route, Selector};

pub const DIRECTORY: &str = "/etc/sysconfig/network-scripts";
/// What holds for all interfaces.
pub const COMMON: &str = "/etc/sysconfig/network";

/// What one file describes.
struct Described {
    path: String,
    /// The device's name, where one is said.
    device: Option<String>,
    uuid: String,
    /// What it is a port of: a name or a UUID.
    controller: Option<String>,
    link: Link,
}

pub fn read(files: &dyn Files) -> Plan {
    let mut plan = Plan::default();
    let is_wanted = |name: &str| {
        let device = name.strip_prefix("ifcfg-");
        device.is_some_and(|device| device != "lo" && !source::is_left_behind(device))
    };
    let common = File::read(files, COMMON, &mut plan);
    let common = common.map(|file| Assignments::read(&file, &mut plan)).unwrap_or_default();
    let mut all: Vec<Described> = Vec::new();
    let mut aliases = Vec::new();
    for file in File::all(files, DIRECTORY, &is_wanted, &mut plan) {
        let values = Assignments::read(&file, &mut plan);
        let suffix = file.path.rsplit_once("ifcfg-").map_or("", |(_, suffix)| suffix).to_string();
        if values.get("IPADDR_START").is_some() {
            at(&mut plan, &file.path, "").tell("a range of addresses is not read");
            continue;
        }
        // ifcfg-eth0:1 is a second address of eth0.
        if let Some((device, _)) = suffix.split_once(':') {
            aliases.push((file, values, device.to_string()));
            continue;
        }
        if let Some(mut described) = describe(&mut plan, &file, &values, &common) {
            let own = described.device.clone().unwrap_or_else(|| suffix.clone());
            for kind in ["route", "route6"] {
                if let Some(file) = File::read(files, &format!("{DIRECTORY}/{kind}-{suffix}"), &mut plan) {
                    routes(&mut plan, &file, &own, &mut described.link);
                }
            }
            all.push(described);
        }
    }
    for (file, values, device) in aliases {
        let mut own = Link::default();
        addresses4(&mut at(&mut plan, &file.path, ""), &values, &mut own);
        match all.iter_mut().find(|described| described.device.as_deref() == Some(&device)) {
            Some(described) => own.addresses.into_iter().for_each(|own| described.link.add_address(own)),
            None => at(&mut plan, &file.path, "").tell(&format!("{} is not described", shown(&device))),
        }
    }
    attach(&mut plan, &mut all);
    for described in all {
        put(&mut plan, described.link);
    }
    everywhere(&mut plan, &common);
    finished(plan)
}

/// What /etc/sysconfig/network says of all.
fn everywhere(plan: &mut Plan, common: &Assignments) {
    let name = common.get("HOSTNAME").filter(|name| !name.starts_with("localhost"));
    plan.hostname = name.and_then(|name| source::domain(name).ok());
    for (key, device) in [("GATEWAY", "GATEWAYDEV"), ("IPV6_DEFAULTGW", "IPV6_DEFAULTDEV")] {
        let Some(text) = common.get(key) else { continue };
        let (text, zone) = text.split_once('%').unwrap_or((text, ""));
        let Some(gateway) = at(plan, COMMON, "").or_tell(source::gateway(text)) else { continue };
        // A gateway of an interface's own is the later word.
        if plan.links.iter().flat_map(|link| &link.routes).any(|known| {
            known.prefix == 0 && known.gateway.is_some_and(|known| known.is_ipv4() == gateway.is_ipv4())
        }) {
            continue;
        }
        let device = common.get(device).unwrap_or(zone);
        let is_it = |link: &&mut Link| {
            [&link.selector.name, &link.rename].into_iter().flatten().any(|name| name == device)
        };
        match plan.links.iter_mut().find(is_it) {
            Some(link) => link.add_gateway(gateway),
            None => source::place(plan, Route::default_by(gateway)),
        }
    }
}

fn describe(plan: &mut Plan, file: &File, values: &Assignments, common: &Assignments) -> Option<Described> {
    let at = &mut at(plan, &file.path, "");
    let kind = values.get("DEVICETYPE").or(values.get("TYPE")).unwrap_or("Ethernet").to_ascii_lowercase();
    let device = values.get("DEVICE").and_then(|name| at.or_tell(source::interface(name)));
    if device.as_deref() == Some("lo") {
        return None;
    }
    if values.bool("ONBOOT") == Some(false) {
        at.tell("ONBOOT=no: left out");
        return None;
    }
    let is_vlan = kind == "vlan" || values.bool("VLAN") == Some(true);
    let mut link = Link { from: vec![file.path.clone()], ..Link::default() };
    match kind.as_str() {
        "ethernet" | "vlan" | "bond" | "bridge" | "team" | "teamport" => {}
        other => {
            at.tell(&format!("the type \"{}\" is not made here: left out", shown(other)));
            return None;
        }
    }
    let is_bond =
        kind == "bond" || values.bool("BONDING_MASTER") == Some(true) || values.get("BONDING_OPTS").is_some();
    if is_vlan {
        let name = device.clone().or_else(|| {
            at.tell("a VLAN without DEVICE=: left out");
            None
        })?;
        let dotted = name.rsplit_once('.');
        let digits = &name[name.trim_end_matches(|c: char| c.is_ascii_digit()).len()..];
        let number = values.get("VLAN_ID").unwrap_or(digits);
        let number = at.or_tell(source::vlan_id(number.trim_start_matches('0')))?;
        let below = values.get("PHYSDEV").or(dotted.map(|(below, _)| below)).unwrap_or_default();
        link.kind = Kind::Vlan { link: at.or_tell(source::interface(below))?, id: number };
        link.selector = Selector::name(&name);
    } else if is_bond {
        link.selector = Selector::name(device.as_deref().unwrap_or("bond0"));
        link.kind = Kind::Bond {
            ports: Vec::new(),
            options: options(at, values.get("BONDING_OPTS").unwrap_or_default()),
        };
    } else if kind == "team" {
        link.selector = Selector::name(device.as_deref().unwrap_or("team0"));
        link.kind = source::team(at, Vec::new(), values.get("TEAM_CONFIG").unwrap_or_default());
    } else if kind == "bridge" {
        link.selector = Selector::name(device.as_deref().unwrap_or("br0"));
        link.kind = Kind::Bridge { ports: Vec::new(), stp: values.bool("STP").unwrap_or(false) };
    } else {
        match values.get("HWADDR").and_then(|text| at.or_tell(source::mac(text))) {
            Some(mac) => {
                link.selector = Selector::mac(mac);
                link.rename = device.clone();
            }
            // NetworkManager takes any NIC for a file that names none.
            None => link.selector = Selector::name(device.as_deref().unwrap_or("*")),
        }
    }
    link.mac = values.get("MACADDR").and_then(|text| at.or_tell(source::mac(text)));
    link.mtu = values.get("MTU").and_then(|text| at.or_tell(source::mtu(text)));
    link.methods.dhcp4 = match values.get("BOOTPROTO").unwrap_or("none").to_ascii_lowercase().as_str() {
        "dhcp" | "bootp" => true,
        "none" | "static" | "autoip" => false,
        other => {
            at.tell(&format!("BOOTPROTO={} is not known", shown(other)));
            false
        }
    };
    addresses4(at, values, &mut link);
    addresses6(at, values, common, &mut link);
    link.without_name();
    for (_, text) in values.suffixed("DNS").into_iter().filter(|(suffix, _)| !suffix.starts_with('_')) {
        if let Some(server) = at.or_tell(source::server(text)) {
            link.add_server(server);
        }
    }
    for text in values.words("DOMAIN") {
        if let Some(domain) = at.or_tell(source::domain(text)) {
            link.add_search(domain);
        }
    }
    let controller = ["MASTER", "MASTER_UUID", "BRIDGE", "BRIDGE_UUID", "TEAM_MASTER", "TEAM_MASTER_UUID"];
    let controller = controller.iter().find_map(|key| values.get(key)).map(str::to_string);
    Some(Described {
        path: file.path.clone(),
        device,
        uuid: values.get("UUID").unwrap_or_default().to_string(),
        controller,
        link,
    })
}

fn options(at: &mut At, text: &str) -> Vec<BondOption> {
    let words = text.split_whitespace().take(64).filter_map(|word| {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        at.or_tell(source::option(name, value.trim_start_matches('+')))
    });
    words.collect()
}

/// `IPADDR`, `IPADDR0` ... each with its own mask and gateway.
fn addresses4(at: &mut At, values: &Assignments, link: &mut Link) {
    let is_default = values.bool("DEFROUTE") != Some(false);
    for (suffix, text) in values.suffixed("IPADDR").into_iter().filter(|(suffix, _)| !suffix.starts_with('_'))
    {
        let with = |key: &str| values.get(&format!("{key}{suffix}"));
        let mask = with("PREFIX").or(with("NETMASK"));
        // The first of them is written without a number by some, with 0 or 1 by others.
        let mask = mask.or_else(|| {
            values.get("PREFIX").or(values.get("NETMASK")).filter(|_| matches!(suffix, "0" | "1"))
        });
        if let Some(own) = at.or_tell(source::own(text, mask)) {
            if source::has_no_net(&own) && mask.is_none() && !text.contains('/') {
                at.tell(&format!("no netmask: {}/{} is taken", own.address, own.prefix));
            }
            link.add_address(own);
        }
    }
    for (_, text) in values.suffixed("GATEWAY").into_iter().filter(|(suffix, _)| !suffix.starts_with('_')) {
        if let Some(gateway) = at.or_tell(source::gateway(text)).filter(|_| is_default) {
            let metric = values.get("METRIC").and_then(|metric| metric.parse().ok());
            link.add_route(Route { metric, ..Route::default_by(gateway) });
        }
    }
}

fn addresses6(at: &mut At, values: &Assignments, common: &Assignments, link: &mut Link) {
    let is_on = values.bool("IPV6INIT").or(common.bool("IPV6INIT"));
    let texts = [values.words("IPV6ADDR"), values.words("IPV6ADDR_SECONDARIES")].concat();
    link.methods.ipv6 = match (is_on, values.bool("IPV6_DISABLED")) {
        (_, Some(true)) | (Some(false), _) => Ipv6::Off,
        _ if values.bool("DHCPV6C") == Some(true) => Ipv6::Dhcp,
        _ => match values.bool("IPV6_AUTOCONF").or(common.bool("IPV6_AUTOCONF")) {
            Some(false) => Ipv6::LinkLocal,
            Some(true) | None => Ipv6::Auto,
        },
    };
    if link.methods.ipv6 == Ipv6::Off {
        return;
    }
    for text in texts.into_iter().take(MOST_PER_LINK) {
        // Without a length it is one of the usual.
        let mask = (!text.contains('/')).then_some("64");
        if let Some(own) = at.or_tell(source::own(text, mask)) {
            link.add_address(own);
        }
    }
    if let Some(text) = values.get("IPV6_DEFAULTGW").filter(|_| values.bool("IPV6_DEFROUTE") != Some(false))
        && let Some(gateway) = at.or_tell(source::gateway(text))
    {
        link.add_gateway(gateway);
    }
}

/// `10.0.0.0/8 via 192.0.2.1`, a line each, or `ADDRESS0=`, `NETMASK0=`, `GATEWAY0=`.
fn routes(plan: &mut Plan, file: &File, own: &str, link: &mut Link) {
    let is_words = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    if file.text.lines().any(|line| line.trim_start().starts_with("ADDRESS")) {
        let values = Assignments::read(file, plan);
        let at = &mut at(plan, &file.path, "");
        for (suffix, text) in values.suffixed("ADDRESS") {
            let with = |key: &str| values.get(&format!("{key}{suffix}"));
            if let Some(route) =
                at.or_tell(source::route(text, with("NETMASK").or(with("PREFIX")), with("GATEWAY")))
            {
                let metric = with("METRIC").and_then(|metric| metric.parse().ok());
                link.add_route(Route { metric, ..route });
            }
        }
        return;
    }
    let at = &mut at(plan, &file.path, "");
    for line in file.text.lines().filter(is_words).take(4 * MOST_PER_LINK) {
        let words: Vec<&str> = ["route", "add"].into_iter().chain(line.split_whitespace().take(32)).collect();
        if by_ip(&words, own, link).is_none() {
            at.tell(&format!("\"{}\" is not read", shown(line.trim())));
        }
    }
}

/// Ports name what they are ports of.
fn attach(plan: &mut Plan, all: &mut [Described]) {
    for number in 0..all.len() {
        let Some(controller) = all[number].controller.clone() else { continue };
        let port = all[number].link.selector.clone();
        let is_it = |described: &Described| {
            described.device.as_deref() == Some(&controller) || described.uuid == controller
        };
        match all.iter_mut().find(|described| is_it(described)).map(|above| &mut above.link.kind) {
            Some(Kind::Bond { ports, .. } | Kind::Bridge { ports, .. }) => ports.push(port),
            Some(Kind::Physical | Kind::Vlan { .. }) | None => {
                at(plan, &all[number].path, "").tell(&format!("{} is not described", shown(&controller)));
            }
        }
    }
    for described in all {
        match &mut described.link.kind {
            Kind::Bond { ports, options } => {
                described.link.kind = source::bond(std::mem::take(ports), std::mem::take(options));
            }
            Kind::Bridge { ports, .. } => *ports = source::few(std::mem::take(ports)),
            Kind::Physical | Kind::Vlan { .. } => {}
        }
    }
}

#[cfg(test)]
#[path = "ifcfg_tests.rs"]
mod tests;
