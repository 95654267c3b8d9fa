//! cloud-init's network-config, version 1 and 2, as a NoCloud seed has it: with `network:` at the top or without. Version 2 is
//! netplan's; version 1 is cloud-init's own ("Networking config Version 1" of its documentation).

use crate::source::{self, At, File, at, finished, put, shown};
use crate::yaml::{self, Node};
use crate::{Ipv6, Kind, Link, MOST_LINKS, MOST_PER_LINK, Methods, Plan, Route, Selector, netplan};

pub fn read(file: &File) -> Plan {
    let mut plan = Plan::default();
    match yaml::parse(&file.text) {
        Ok(node) => {
            let network = node.get("network").unwrap_or(&node);
            match (network.get("version").and_then(Node::text), network.get("config")) {
                (Some("1"), _) | (None, Some(Node::List(_))) => version_1(&mut plan, network, &file.path),
                (None, Some(config)) if config.text() == Some("disabled") => {
                    at(&mut plan, &file.path, "").tell("it asks for no network: not obeyed");
                }
                _ => netplan::describe(&mut plan, network, &file.path, &|_| vec![file.path.clone()]),
            }
        }
        Err(error) => at(&mut plan, &file.path, "").tell(&format!("{error}: left out")),
    }
    finished(plan)
}

fn version_1(plan: &mut Plan, network: &Node, file: &str) {
    for entry in network.get("config").map(Node::items).unwrap_or_default().iter().take(4 * MOST_LINKS) {
        let text = |key: &str| entry.get(key).and_then(Node::text);
        let name = text("name").unwrap_or_default();
        match text("type").unwrap_or_default() {
            kind @ ("physical" | "bond" | "bridge" | "vlan") => {
                let mut link = Link { from: vec![file.to_string()], ..Link::default() };
                let at = &mut at(plan, file, name);
                if make(at, entry, kind, name, &mut link).is_some() {
                    for subnet in
                        entry.get("subnets").map(Node::items).unwrap_or_default().iter().take(MOST_PER_LINK)
                    {
                        self::subnet(at, subnet, &mut link);
                    }
                    if entry.get("accept-ra").and_then(Node::bool) == Some(false)
                        && link.methods.ipv6 == Ipv6::Auto
                    {
                        link.methods.ipv6 = Ipv6::LinkLocal;
                    }
                    link.mtu = text("mtu").and_then(|text| at.or_tell(source::mtu(text)));
                    put(plan, link);
                }
            }
            "nameserver" => {
                let at = &mut at(plan, file, "nameserver");
                let mut whole = Link::default();
                servers(at, entry.get("address"), entry.get("search"), &mut whole);
                // One for a NIC alone is better asked by all than by none.
                plan.nameservers.extend(whole.nameservers);
                plan.search.extend(whole.search);
            }
            "route" => {
                let at = &mut at(plan, file, "route");
                let route = at.or_tell(route(entry, "destination"));
                if plan.routes.len() < MOST_PER_LINK {
                    plan.routes.extend(route);
                }
            }
            "loopback" => {}
            other => at(plan, file, name)
                .tell(&format!("the type \"{}\" is not made here: left out", shown(other))),
        }
    }
}

/// What the link is and which one.
fn make(at: &mut At, entry: &Node, kind: &str, name: &str, link: &mut Link) -> Option<()> {
    let text = |key: &str| entry.get(key).and_then(Node::text);
    let mac = text("mac_address").and_then(|text| at.or_tell(source::mac(text)));
    let ports = |key: &str| -> Vec<Selector> {
        let names = entry.get(key).into_iter().flat_map(Node::texts).take(MOST_PER_LINK);
        source::few(names.map(Selector::name).collect())
    };
    // Nothing stated is nothing asked for, besides what routers advertise.
    link.methods = Methods { dhcp4: false, ipv6: Ipv6::Auto };
    match (kind, mac) {
        ("physical", Some(mac)) => {
            link.selector = Selector::mac(mac);
            link.rename = source::interface(name).ok();
        }
        ("physical", None) => link.selector = Selector::name(&at.or_tell(source::interface(name))?),
        _ => {
            link.selector = Selector::name(&at.or_tell(source::interface(name))?);
            link.mac = mac;
        }
    }
    link.kind = match kind {
        "bond" => {
            let mut options = Vec::new();
            for (key, value) in entry.get("params").map(Node::entries).unwrap_or_default() {
                let value = value.texts().take(16).collect::<Vec<&str>>().join(",");
                options.extend(at.or_tell(parameter(key, &value)));
            }
            source::bond(ports("bond_interfaces"), options)
        }
        "bridge" => {
            let stp = entry.get("params").and_then(|params| params.get("bridge_stp")).and_then(Node::bool);
            Kind::Bridge { ports: ports("bridge_interfaces"), stp: stp.unwrap_or(false) }
        }
        "vlan" => Kind::Vlan {
            link: at.or_tell(source::interface(text("vlan_link").unwrap_or_default()))?,
            id: at.or_tell(source::vlan_id(text("vlan_id").unwrap_or_default()))?,
        },
        _ => Kind::Physical,
    };
    Some(())
}

/// `bond-mode`, `bond_miimon`, and some names that cloud-init has from netplan.
fn parameter(key: &str, value: &str) -> Result<crate::BondOption, String> {
    let bare = key.strip_prefix("bond-").or(key.strip_prefix("bond_")).unwrap_or(key).replace('-', "_");
    let name = match bare.as_str() {
        "mii_monitor_interval" => "miimon",
        "transmit_hash_policy" => "xmit_hash_policy",
        "up_delay" => "updelay",
        "down_delay" => "downdelay",
        bare => bare,
    };
    source::option(name, value)
}

fn subnet(at: &mut At, subnet: &Node, link: &mut Link) {
    let text = |key: &str| subnet.get(key).and_then(Node::text);
    let kind = text("type").unwrap_or_default();
    match kind {
        "dhcp" | "dhcp4" => link.methods.dhcp4 = true,
        "dhcp6" | "ipv6_dhcpv6-stateful" => link.methods.ipv6 = Ipv6::Dhcp,
        "ipv6_slaac" | "ipv6_dhcpv6-stateless" => link.methods.ipv6 = link.methods.ipv6.max(Ipv6::Auto),
        "static" | "static4" | "static6" => {
            let read = source::own(text("address").unwrap_or_default(), text("netmask"));
            if let Some(own) = at.or_tell(read) {
                if source::has_no_net(&own)
                    && text("netmask").is_none()
                    && !text("address").is_some_and(|a| a.contains('/'))
                {
                    at.tell(&format!("no netmask: {}/{} is taken", own.address, own.prefix));
                }
                link.add_address(own);
            }
        }
        "manual" => {}
        other => at.tell(&format!("the subnet's type \"{}\" is not known: left out", shown(other))),
    }
    if let Some(gateway) = text("gateway").and_then(|text| at.or_tell(source::gateway(text))) {
        link.add_gateway(gateway);
    }
    servers(at, subnet.get("dns_nameservers"), subnet.get("dns_search"), link);
    for node in subnet.get("routes").map(Node::items).unwrap_or_default().iter().take(MOST_PER_LINK) {
        if let Some(route) = at.or_tell(route(node, "network")) {
            link.add_route(route);
        }
    }
}

/// A list, or words between blanks.
fn servers(at: &mut At, addresses: Option<&Node>, search: Option<&Node>, link: &mut Link) {
    let words = |node: Option<&Node>| -> Vec<String> {
        let texts = node.into_iter().flat_map(Node::texts).take(MOST_PER_LINK);
        texts.flat_map(str::split_whitespace).map(str::to_string).collect()
    };
    for text in words(addresses) {
        if let Some(server) = at.or_tell(source::server(&text)) {
            link.add_server(server);
        }
    }
    for text in words(search) {
        if let Some(domain) = at.or_tell(source::domain(&text)) {
            link.add_search(domain);
        }
    }
}

/// The network is called `network` in a subnet, `destination` in an entry of its own; both are taken in both.
fn route(node: &Node, key: &str) -> Result<Route, String> {
    let text = |key: &str| node.get(key).and_then(Node::text);
    let to = [key, "network", "destination"].into_iter().find_map(text).ok_or("a route without a network")?;
    let route = source::route(to, text("netmask"), text("gateway"))?;
    Ok(Route { metric: text("metric").and_then(|metric| metric.parse().ok()), ..route })
}

#[cfg(test)]
#[path = "cloud_tests.rs"]
mod tests;
