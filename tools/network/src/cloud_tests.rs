use super::*;
use crate::disk::check;
use proptest::prelude::*;

/// The examples of cloud-init's documentation, and what hosters write.
const CASES: &[(&str, &str)] = &[
    ("", ""),
    // Version 2, with `network:` and without.
    ("version: 2\nethernets:\n  eth0:\n    dhcp4: true\n", "eth0: DHCP, IPv6 from routers\n"),
    (
        "network:\n  version: 2\n  ethernets:\n    eth0:\n      dhcp4: true\n",
        "eth0: DHCP, IPv6 from routers\n",
    ),
    (
        "network:\n  version: 2\n  ethernets:\n    id0:\n      match:\n        macaddress: '00:11:22:33:44:55'\n      wakeonlan: true\n      dhcp4: true\n      addresses:\n        - 192.168.14.2/24\n        - 2001:1::1/64\n      gateway4: 192.168.14.1\n      gateway6: 2001:1::2\n      nameservers:\n        search: [foo.local, bar.local]\n        addresses: [8.8.8.8]\n      routes:\n        - to: 192.0.2.0/24\n          via: 11.0.0.1\n          metric: 3\n    lom:\n      match:\n        driver: ixgbe\n      set-name: lom1\n      dhcp6: true\n    switchports:\n      match:\n        name: enp2*\n      mtu: 1280\n  bonds:\n    bond0:\n      interfaces: [id0, lom]\n  bridges:\n    br0:\n      interfaces: [wlp1s0, switchports]\n      dhcp4: true\n  vlans:\n    en-intra:\n      id: 1\n      link: id0\n      dhcp4: yes\n",
        "00:11:22:33:44:55, to be called id0: no DHCP, 192.168.14.2/24, 2001:1::1/64, gateway 192.168.14.1, gateway 2001:1::2, 192.0.2.0/24 by 11.0.0.1 metric 3, DNS 8.8.8.8, search foo.local bar.local\ndriver ixgbe, to be called lom1: DHCPv6\nenp2*: MTU 1280, no DHCP\nbond0: bond of 00:11:22:33:44:55 driver ixgbe mode=balance-rr miimon=100, IPv6 from routers\nbr0: bridge of wlp1s0 enp2* with STP, DHCP, IPv6 from routers\nen-intra: VLAN 1 on id0, DHCP, IPv6 from routers\n",
    ),
    // Version 1.
    (
        "version: 1\nconfig:\n  - type: physical\n    name: interface0\n    mac_address: \"00:11:22:33:44:55\"\n    mtu: 1450\n    subnets:\n      - type: dhcp4\n",
        "00:11:22:33:44:55, to be called interface0: MTU 1450, DHCP, IPv6 from routers\n",
    ),
    (
        "network:\n  version: 1\n  config:\n    - type: physical\n      name: interface0\n      subnets:\n        - type: static\n          address: 192.168.23.14/27\n          gateway: 192.168.23.1\n          dns_nameservers:\n            - 192.168.23.2\n            - 8.8.8.8\n          dns_search:\n            - exemplary.maas\n",
        "interface0: IPv6 from routers, 192.168.23.14/27, gateway 192.168.23.1, DNS 192.168.23.2 8.8.8.8, search exemplary.maas\n",
    ),
    // Proxmox's drive.
    (
        "version: 1\nconfig:\n    - type: physical\n      name: eth0\n      mac_address: 'bc:24:11:00:00:01'\n      subnets:\n      - type: static\n        address: '192.0.2.7'\n        netmask: '255.255.255.0'\n        gateway: '192.0.2.1'\n      - type: static6\n        address: '2001:db8::7/64'\n        gateway: '2001:db8::1'\n    - type: nameserver\n      address:\n      - '192.0.2.53'\n      search:\n      - 'example.com'\n",
        "bc:24:11:00:00:01, to be called eth0: IPv6 from routers, 192.0.2.7/24, 2001:db8::7/64, gateway 192.0.2.1, gateway 2001:db8::1\nDNS 192.0.2.53\nsearch example.com\n",
    ),
    // A hoster whose gateway is outside.
    (
        "config:\n- mac_address: 96:00:00:00:00:01\n  name: eth0\n  subnets:\n  - dns_nameservers:\n    - 185.12.64.2\n    ipv4: true\n    type: dhcp\n  - address: 2001:db8:1::1/64\n    gateway: fe80::1\n    ipv6: true\n    type: static\n  type: physical\nversion: 1\n",
        "96:00:00:00:00:01, to be called eth0: DHCP, IPv6 from routers, 2001:db8:1::1/64, gateway fe80::1, DNS 185.12.64.2\n",
    ),
    (
        "network:\n  version: 1\n  config:\n    - {type: physical, name: eth0, mac_address: '00:11:22:33:44:55'}\n    - {type: physical, name: eth1}\n    - type: bond\n      name: bond0\n      mac_address: '00:11:22:33:44:99'\n      bond_interfaces: [eth0, eth1]\n      params:\n        bond-mode: active-backup\n        bond_miimon: 50\n        mii-monitor-interval: 100\n      subnets: [{type: dhcp6}]\n    - {type: vlan, name: bond0.111, vlan_link: bond0, vlan_id: 111, subnets: [{type: dhcp4}]}\n    - type: bridge\n      name: br0\n      bridge_interfaces: [jumbo0]\n      params: {bridge_stp: 'off', bridge_fd: 0}\n      subnets: [{type: manual}]\n    - {type: route, destination: 192.168.24.0/24, gateway: 192.168.24.1, metric: 3}\n    - {type: nameserver, address: 8.8.8.8, search: a.example b.example}\n    - {type: loopback, name: lo}\n",
        "00:11:22:33:44:55, to be called eth0: no DHCP\nbond0: bond of eth0 eth1 mode=active-backup miimon=100, MAC 00:11:22:33:44:99, DHCPv6\nbond0.111: VLAN 111 on bond0, DHCP, IPv6 from routers\nbr0: bridge of jumbo0, IPv6 from routers\nroute 192.168.24.0/24 by 192.168.24.1 metric 3\nDNS 8.8.8.8\nsearch a.example b.example\n",
    ),
    (
        "version: 1\nconfig:\n- type: physical\n  name: eth0\n  subnets:\n  - type: static\n    address: 192.0.2.7/24\n    routes:\n    - {network: 10.0.0.0, netmask: 255.0.0.0, gateway: 192.0.2.9}\n    - {destination: 0.0.0.0/0, gateway: 192.0.2.1}\n  - {type: ipv6_slaac}\n  - {type: ipv6_dhcpv6-stateful}\n",
        "eth0: DHCPv6, 192.0.2.7/24, 10.0.0.0/8 by 192.0.2.9, gateway 192.0.2.1\n",
    ),
    // JSON is YAML.
    (
        "{\"version\": 1, \"config\": [{\"type\": \"physical\", \"name\": \"eth0\", \"subnets\": [{\"type\": \"dhcp\"}]}]}",
        "eth0: DHCP, IPv6 from routers\n",
    ),
    // What cannot be used is named, and the rest counts.
    ("network: {config: disabled}\n", "! network-config: it asks for no network: not obeyed\n"),
    (
        "version: 1\nconfig:\n- {type: infiniband, name: ib0}\n- {type: physical, name: eth0, subnets: [{type: static, address: 192.0.2.7}, {type: odd}]}\n",
        "eth0: IPv6 from routers, 192.0.2.7/32\n! network-config, ib0: the type \"infiniband\" is not made here: left out\n! network-config, eth0: no netmask: 192.0.2.7/32 is taken\n! network-config, eth0: the subnet's type \"odd\" is not known: left out\n",
    ),
    ("version: 1\nconfig: 7\n", "! network-config: the type \"\" is not made here: left out\n"),
];

#[test]
fn each_example_is_the_plan_that_cloud_init_would_carry_out() {
    check(CASES, |text| read(&File::new("network-config", text)).to_string());
}

proptest! {
    #[test]
    fn no_text_panics(
        entries in prop::collection::vec(("(physical|bond|bridge|vlan|route|nameserver)", "(name|subnets|mac_address|params|bond_interfaces|vlan_id|vlan_link|destination|address)", "(a|b|7|\\[a, b\\]|\\[\\{type: static, address: 192.0.2.7/24\\}\\]|\\{bond-mode: 1\\}|::1)"), 0..12)
    ) {
        let text: String = entries.iter().map(|(kind, key, value)| format!("- {{type: {kind}, name: a, {key}: {value}}}\n")).collect();
        let _ = read(&File::new("x", &format!("version: 1\nconfig:\n{text}"))).to_string();
    }
}
