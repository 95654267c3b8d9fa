use super::*;
use crate::disk::check;
use proptest::prelude::*;

/// The examples of nova's and ironic's documentation, and of cloud-init's tests, shortened.
const CASES: &[(&str, &str)] = &[
    ("{}", ""),
    (
        r#"{"links": [{"ethernet_mac_address": "fa:16:3e:9c:bf:3d", "id": "tapcd9f6d46-4a", "mtu": null, "type": "bridge", "vif_id": "cd9f"}],
            "networks": [{"id": "network0", "link": "tapcd9f6d46-4a", "network_id": "99e8", "type": "ipv4_dhcp"}],
            "services": [{"type": "dns", "address": "8.8.8.8"}]}"#,
        "fa:16:3e:9c:bf:3d: DHCP, IPv6 from routers\nDNS 8.8.8.8\n",
    ),
    (
        r#"{"links": [{"id": "interface2", "type": "vif", "ethernet_mac_address": "a0:36:9f:2c:e8:70", "vif_id": "e1c9", "mtu": 1500}],
            "networks": [
              {"id": "private-ipv4", "type": "ipv4", "link": "interface2", "ip_address": "10.184.0.244", "netmask": "255.255.240.0",
               "routes": [{"network": "10.0.0.0", "netmask": "255.0.0.0", "gateway": "11.0.0.1"},
                          {"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "23.253.157.1"}],
               "network_id": "da5b", "services": [{"type": "dns", "address": "10.184.0.2"}]},
              {"id": "private-ipv6", "type": "ipv6", "link": "interface2", "ip_address": "2001:cdba::3257:9652/24",
               "routes": [{"network": "::", "netmask": "::", "gateway": "fd00::1"},
                          {"network": "::", "netmask": "ffff:ffff:ffff::", "gateway": "fd00::1:1"}], "network_id": "da5c"}],
            "services": [{"type": "dns", "address": "8.8.8.8"}, {"type": "dns", "address": "8.8.4.4"}]}"#,
        "a0:36:9f:2c:e8:70: MTU 1500, IPv6 from routers, 10.184.0.244/20, 2001:cdba::3257:9652/24, 10.0.0.0/8 by 11.0.0.1, gateway 23.253.157.1, gateway fd00::1, ::/48 by fd00::1:1, DNS 10.184.0.2\nDNS 8.8.8.8 8.8.4.4\n",
    ),
    // Bare metal: a bond of two, and VLANs on it, in the wrong order.
    (
        r#"{"links": [
              {"id": "vlan2", "type": "vlan", "vlan_link": "bond0", "vlan_id": 602, "vlan_mac_address": "fa:16:3e:b3:72:36"},
              {"bond_links": ["eth0", "eth1"], "bond_miimon": 100, "bond_mode": "4", "bond_xmit_hash_policy": "layer3+4",
               "ethernet_mac_address": "0c:c4:7a:34:6e:3c", "id": "bond0", "type": "bond"},
              {"id": "eth0", "type": "phy", "ethernet_mac_address": "0c:c4:7a:34:6e:3c", "mtu": 9000},
              {"id": "eth1", "type": "phy", "ethernet_mac_address": "0c:c4:7a:34:6e:3d"}],
            "networks": [
              {"id": "publicnet-ipv4", "link": "vlan2", "type": "ipv4", "ip_address": "2.2.2.13/22",
               "routes": [{"gateway": "2.2.2.9", "netmask": "0.0.0.0", "network": "0.0.0.0"}]},
              {"id": "x", "link": "bond0", "type": "ipv6_dhcpv6-stateful"}]}"#,
        "0c:c4:7a:34:6e:3c: MTU 9000, no DHCP\nbond0: bond of 0c:c4:7a:34:6e:3c 0c:c4:7a:34:6e:3d mode=802.3ad miimon=100 xmit_hash_policy=layer3+4, MAC 0c:c4:7a:34:6e:3c, DHCPv6\nbond0.602: VLAN 602 on bond0, MAC fa:16:3e:b3:72:36, IPv6 from routers, 2.2.2.13/22, gateway 2.2.2.9\n",
    ),
    (
        r#"{"links": [{"id": "interface0", "type": "phy", "ethernet_mac_address": "a0:36:9f:2c:e8:80"},
                      {"id": "vlan1", "type": "vlan", "vlan_link": "interface0", "vlan_id": 101}],
            "networks": [{"id": "a", "link": "vlan1", "type": "ipv6", "ip_address": "2001:db8::7", "netmask": "ffff:ffff:ffff:ffff::", "gateway": "2001:db8::1"},
                         {"id": "b", "link": "interface0", "type": "ipv6_slaac"}]}"#,
        "a0:36:9f:2c:e8:80, to be called lan0: IPv6 from routers\nlan0.101: VLAN 101 on lan0, IPv6 from routers, 2001:db8::7/64, gateway 2001:db8::1\n",
    ),
    // What cannot be used is named, and the rest counts.
    (
        r#"{"links": [{"id": "a", "type": "phy"}, {"id": "b", "type": "vlan", "vlan_link": "c", "vlan_id": 7}],
            "networks": [{"id": "n", "link": "a", "type": "ipv4"}, {"type": "ipv5"}]}"#,
        "! network_data.json, a: a link without a MAC address: left out\n! network_data.json, b: the link \"c\" is not described: left out\n! network_data.json, n: the link \"a\" is not described: left out\n! network_data.json: the link \"\" is not described: left out\n",
    ),
    (r#"{"links": "#, "! network_data.json: line 1: unclosed bracket '{': left out\n"),
    (r#"[7]"#, ""),
];

#[test]
fn each_example_is_the_plan_that_openstack_describes() {
    check(CASES, |text| read(&File::new("network_data.json", text)).to_string());
}

proptest! {
    #[test]
    fn no_text_panics(
        links in prop::collection::vec(("(phy|bond|vlan|x)", "[ab]", "(bond_links|vlan_link|bond_mode|mtu|name)", "(\"a\"|\"b\"|7|null|\\[\"a\", \"b\"\\]|\\{\\})"), 0..8),
        networks in prop::collection::vec(("(ipv4|ipv6|ipv4_dhcp|x)", "[ab]", "(ip_address|netmask|routes|gateway|services)", "(\"192.0.2.7\"|\"::1\"|7|\\[\\{\"network\": \"::\"\\}\\])"), 0..8),
    ) {
        let links: Vec<String> = links.iter().map(|(kind, id, key, value)| format!("{{\"type\": \"{kind}\", \"id\": \"{id}\", \"vlan_id\": 7, \"ethernet_mac_address\": \"0c:c4:7a:34:6e:3c\", \"{key}\": {value}}}")).collect();
        let networks: Vec<String> = networks.iter().map(|(kind, id, key, value)| format!("{{\"type\": \"{kind}\", \"link\": \"{id}\", \"{key}\": {value}}}")).collect();
        let _ = read(&File::new("x", &format!("{{\"links\": [{}], \"networks\": [{}]}}", links.join(", "), networks.join(", ")))).to_string();
    }
}
