//! OpenStack's network_data.json, from a config drive or the metadata service (nova's doc/api_schemas/network_data.json and
//! ironic's): links of any physical sort by their MAC, bonds and VLANs upon them, networks upon those.

use crate::source::{self, At, File, at, finished, put, shown};
use crate::yaml::{self, Node};
use crate::{Ipv6, Kind, Link, MOST_LINKS, MOST_PER_LINK, Methods, Plan, Route, Selector};
use std::collections::HashMap;

pub fn read(file: &File) -> Plan {
    let mut plan = Plan::default();
    match yaml::parse(&file.text) {
        Ok(node) => describe(&mut plan, &node, &file.path),
        Err(error) => at(&mut plan, &file.path, "").tell(&format!("{error}: left out")),
    }
    finished(plan)
}

fn describe(plan: &mut Plan, whole: &Node, file: &str) {
    let all = |key: &str| whole.get(key).map(Node::items).unwrap_or_default().iter().take(MOST_LINKS);
    let mut links: Vec<Link> = Vec::new();
    let mut place: HashMap<String, usize> = HashMap::new();
    // What stands on others comes last, in however odd an order it is listed.
    let rank = |node: &Node| match node.get("type").and_then(Node::text) {
        Some("vlan") => 2,
        Some("bond") => 1,
        _ => 0,
    };
    let mut sorted: Vec<&Node> = all("links").collect();
    sorted.sort_by_key(|node| rank(node));
    for node in sorted {
        let id = node.get("id").and_then(Node::text).unwrap_or_default();
        let made = link(&mut at(plan, file, id), node, &mut links, &place);
        if let Some(made) = made {
            place.insert(id.to_string(), links.len());
            links.push(Link { from: vec![file.to_string()], ..made });
        }
    }
    for node in all("networks") {
        let id = node.get("id").and_then(Node::text).unwrap_or_default();
        let on = node.get("link").and_then(Node::text).unwrap_or_default();
        let at = &mut at(plan, file, id);
        match place.get(on).and_then(|place| links.get_mut(*place)) {
            Some(link) => network(at, node, link),
            None => at.tell(&format!("the link \"{}\" is not described: left out", shown(on))),
        }
    }
    for link in links {
        put(plan, link);
    }
    let mut servers = Link::default();
    services(&mut at(plan, file, "services"), whole, &mut servers);
    plan.nameservers.extend(servers.nameservers);
}

fn link(at: &mut At, node: &Node, known: &mut [Link], place: &HashMap<String, usize>) -> Option<Link> {
    let text = |key: &str| node.get(key).and_then(Node::text);
    let id = text("id").unwrap_or_default();
    let mac = |at: &mut At, key: &str| text(key).and_then(|text| at.or_tell(source::mac(text)));
    // A name is a proposal; an identifier such as `tap1a81968a-79` is none.
    let proposed =
        |fallback: String| text("name").and_then(|name| source::interface(name).ok()).unwrap_or(fallback);
    let mut link = match text("type") {
        Some("vlan") => {
            let vlan = at.or_tell(source::vlan_id(text("vlan_id").unwrap_or_default()))?;
            let on = text("vlan_link").unwrap_or_default();
            let Some(below) = place.get(on) else {
                at.tell(&format!("the link \"{}\" is not described: left out", shown(on)));
                return None;
            };
            let under = known.get_mut(*below)?.name_for_others(&format!("lan{below}"));
            let name = source::interface(&proposed(format!("{under}.{vlan}")))
                .unwrap_or_else(|_| format!("vlan{vlan}"));
            let link = Link {
                selector: Selector::name(&name),
                kind: Kind::Vlan { link: under, id: vlan },
                ..Link::default()
            };
            Link { mac: mac(at, "vlan_mac_address"), ..link }
        }
        Some("bond") => {
            let mut ports = Vec::new();
            for port in node.get("bond_links").into_iter().flat_map(Node::texts).take(MOST_PER_LINK) {
                match place.get(port).and_then(|place| known.get(*place)) {
                    Some(port) => ports.push(port.selector.clone()),
                    None => at.tell(&format!("the link \"{}\" is not described: left out", shown(port))),
                }
            }
            let mut options = Vec::new();
            for (key, value) in node.entries() {
                // `bond_mode`, `bond_miimon`, `bond_xmit_hash_policy`: the driver's names.
                let name = key.strip_prefix("bond_").filter(|name| *name != "links");
                if let (Some(name), Some(value)) = (name, value.text()) {
                    options.extend(at.or_tell(source::option(name, value)));
                }
            }
            let number = known.iter().filter(|link| matches!(link.kind, Kind::Bond { .. })).count();
            let name = proposed(source::interface(id).unwrap_or_else(|_| format!("bond{number}")));
            let link = Link {
                selector: Selector::name(&name),
                kind: source::bond(ports, options),
                ..Link::default()
            };
            Link { mac: mac(at, "ethernet_mac_address"), ..link }
        }
        // All other words say how the host has made it: phy, vif, ovs, bridge, tap, hw_veb, vhostuser ...
        _ => match mac(at, "ethernet_mac_address") {
            Some(mac) => Link { selector: Selector::mac(mac), ..Link::default() },
            None => {
                at.tell("a link without a MAC address: left out");
                return None;
            }
        },
    };
    link.mtu = text("mtu").and_then(|text| at.or_tell(source::mtu(text)));
    link.methods = Methods { dhcp4: false, ipv6: Ipv6::Auto };
    Some(link)
}

fn network(at: &mut At, node: &Node, link: &mut Link) {
    let text = |key: &str| node.get(key).and_then(Node::text);
    match text("type").unwrap_or_default() {
        "ipv4_dhcp" => link.methods.dhcp4 = true,
        "ipv6_dhcp" | "ipv6_dhcpv6-stateful" => link.methods.ipv6 = Ipv6::Dhcp,
        "ipv6_slaac" | "ipv6_dhcpv6-stateless" => {}
        "ipv4" | "ipv6" => {
            if let Some(own) =
                at.or_tell(source::own(text("ip_address").unwrap_or_default(), text("netmask")))
            {
                link.add_address(own);
            }
        }
        other => at.tell(&format!("the type \"{}\" is not known: left out", shown(other))),
    }
    if let Some(gateway) = text("gateway").and_then(|text| at.or_tell(source::gateway(text))) {
        link.add_gateway(gateway);
    }
    for node in node.get("routes").map(Node::items).unwrap_or_default().iter().take(MOST_PER_LINK) {
        let text = |key: &str| node.get(key).and_then(Node::text);
        let read: Result<Route, String> =
            source::route(text("network").unwrap_or_default(), text("netmask"), text("gateway"));
        if let Some(route) = at.or_tell(read) {
            link.add_route(route);
        }
    }
    services(at, node, link);
    for text in node.get("dns_nameservers").into_iter().flat_map(Node::texts).take(MOST_PER_LINK) {
        if let Some(server) = at.or_tell(source::server(text)) {
            link.add_server(server);
        }
    }
}

/// `services: [{type: dns, address: ...}]`
fn services(at: &mut At, node: &Node, link: &mut Link) {
    for service in node.get("services").map(Node::items).unwrap_or_default().iter().take(MOST_PER_LINK) {
        let text = |key: &str| service.get(key).and_then(Node::text);
        if text("type") == Some("dns")
            && let Some(server) = at.or_tell(source::server(text("address").unwrap_or_default()))
        {
            link.add_server(server);
        }
    }
}

#[cfg(test)]
#[path = "openstack_tests.rs"]
mod tests;
