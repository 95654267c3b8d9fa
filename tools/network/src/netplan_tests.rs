use super::*;
use crate::disk::{Disk, check};
use proptest::prelude::*;

/// The examples of netplan's documentation, of Ubuntu's installer, of cloud images and hosters.
const CASES: &[(&str, &str)] = &[
    ("network:\n  version: 2\n  renderer: networkd\n", ""),
    ("network:\n  ethernets:\n    enp3s0:\n      dhcp4: true\n", "enp3s0: DHCP, IPv6 from routers\n"),
    // Ubuntu's installer.
    (
        "# This is the network config written by 'subiquity'\nnetwork:\n  ethernets:\n    ens18:\n      addresses:\n      - 192.0.2.7/24\n      gateway4: 192.0.2.1\n      nameservers:\n        addresses:\n        - 192.0.2.53\n        search:\n        - example.com\n  version: 2\n",
        "ens18: IPv6 from routers, 192.0.2.7/24, gateway 192.0.2.1, DNS 192.0.2.53, search example.com\n",
    ),
    (
        "network:\n  version: 2\n  ethernets:\n    ens18:\n      addresses: [192.0.2.7/24, '2001:db8::7/64']\n      routes:\n        - to: default\n          via: 192.0.2.1\n        - {to: default, via: 'fe80::1', on-link: true}\n        - {to: 10.0.0.0/8, via: 192.0.2.9, metric: 100, from: 192.0.2.7}\n",
        "ens18: IPv6 from routers, 192.0.2.7/24, 2001:db8::7/64, gateway 192.0.2.1, gateway fe80::1, 10.0.0.0/8 by 192.0.2.9 metric 100 from 192.0.2.7\n",
    ),
    // cloud-init's on a cloud image.
    (
        "network:\n    version: 2\n    ethernets:\n        eth0:\n            match:\n                macaddress: 52:54:00:12:34:56\n            dhcp4: true\n            dhcp6: true\n            set-name: eth0\n            optional: true\n",
        "52:54:00:12:34:56, to be called eth0: DHCP, DHCPv6\n",
    ),
    // Hetzner's dedicated machines: a gateway outside the net.
    (
        "network:\n  version: 2\n  renderer: networkd\n  ethernets:\n    enp0s31f6:\n      addresses:\n        - 203.0.113.7/32\n        - 2001:db8:1:2::2/64\n      routes:\n        - on-link: true\n          to: 0.0.0.0/0\n          via: 203.0.113.1\n        - to: \"::/0\"\n          via: fe80::1\n      nameservers:\n        addresses:\n          - 185.12.64.1\n          - 2a01:4ff:ff00::add:1\n",
        "enp0s31f6: IPv6 from routers, 203.0.113.7/32, 2001:db8:1:2::2/64, gateway 203.0.113.1, gateway fe80::1, DNS 185.12.64.1 2a01:4ff:ff00::add:1\n",
    ),
    // Which NICs.
    ("network: {ethernets: {all: {match: {name: 'en*'}, dhcp4: yes}}}", "en*: DHCP, IPv6 from routers\n"),
    (
        "network: {ethernets: {all: {match: {driver: [ixgbe, 'i40*']}, dhcp4: yes}}}",
        "driver ixgbe: DHCP, IPv6 from routers\ndriver i40*: DHCP, IPv6 from routers\n",
    ),
    ("network: {ethernets: {all: {match: {}, dhcp4: yes}}}", "*: DHCP, IPv6 from routers\n"),
    ("network: {ethernets: {eno1: {accept-ra: false}}}", "eno1: IPv6 on the link alone\n"),
    ("network: {ethernets: {eno1: {link-local: []}}}", "eno1: no DHCP\n"),
    ("network: {ethernets: {eno1: {link-local: [ipv4], accept-ra: no, dhcp4: on}}}", "eno1: DHCP\n"),
    (
        "network: {ethernets: {eno1: {dhcp4: true, mtu: 9000, macaddress: '52:54:00:12:34:56', wakeonlan: true}}}",
        "eno1: MAC 52:54:00:12:34:56, MTU 9000, DHCP, IPv6 from routers\n",
    ),
    (
        "network: {ethernets: {eno1: {addresses: [{192.0.2.7/24: {lifetime: 0, label: x}}]}}}",
        "eno1: IPv6 from routers, 192.0.2.7/24\n",
    ),
    (
        "network: {ethernets: {eno1: {activation-mode: manual, dhcp4: true}, eno2: {dhcp4: true}}}",
        "eno2: DHCP, IPv6 from routers\n! netplan.yaml, eno1: activation-mode manual: left out\n",
    ),
    (
        "network:\n  ethernets:\n    a: &base\n      dhcp4: true\n      dhcp4-overrides: {use-routes: false}\n      critical: true\n      optional: true\n    b:\n      <<: *base\n      match: {name: 'en*', driver: igb}\n      set-name: lan9\n",
        "a: DHCP, IPv6 from routers\nen* driver igb, to be called lan9: DHCP, IPv6 from routers\n",
    ),
    // VLANs, bonds, bridges.
    (
        "network:\n  version: 2\n  ethernets:\n    eno1: {}\n  vlans:\n    vlan15:\n      id: 15\n      link: eno1\n      addresses: [10.3.99.5/24]\n",
        "eno1: IPv6 from routers\nvlan15: VLAN 15 on eno1, IPv6 from routers, 10.3.99.5/24\n",
    ),
    (
        "network:\n  ethernets:\n    mainif:\n      match: {macaddress: '52:54:00:12:34:56'}\n      set-name: mainif\n  vlans:\n    vlan15: {id: 15, link: mainif, dhcp4: yes}\n",
        "52:54:00:12:34:56, to be called mainif: IPv6 from routers\nvlan15: VLAN 15 on mainif, DHCP, IPv6 from routers\n",
    ),
    (
        "network:\n  ethernets:\n    port one:\n      match: {macaddress: '52:54:00:12:34:56'}\n  vlans:\n    vlan15: {id: 15, link: port one}\n",
        "52:54:00:12:34:56, to be called lan0: IPv6 from routers\nvlan15: VLAN 15 on lan0, IPv6 from routers\n",
    ),
    (
        "network:\n  version: 2\n  bonds:\n    bond0:\n      dhcp4: yes\n      interfaces: [enp3s0, enp4s0]\n      parameters:\n        mode: active-backup\n        primary: enp3s0\n        mii-monitor-interval: 1s\n  ethernets:\n    enp3s0: {dhcp4: true}\n    enp4s0: {}\n",
        "bond0: bond of enp3s0 enp4s0 mode=active-backup primary=enp3s0 miimon=1000, DHCP, IPv6 from routers\n",
    ),
    (
        "network:\n  ethernets:\n    a: {match: {macaddress: '52:54:00:12:34:56'}}\n    b: {match: {macaddress: '52:54:00:12:34:57'}, mtu: 9000}\n  bonds:\n    bond0:\n      interfaces: [a, b]\n      parameters: {lacp-rate: fast, mode: 802.3ad, transmit-hash-policy: layer3+4, mii-monitor-interval: 100, min-links: 1, all-slaves-active: true, arp-ip-targets: [192.0.2.1, 192.0.2.2]}\n      addresses: [192.0.2.7/24]\n  vlans:\n    bond0.7: {id: 7, link: bond0, dhcp4: true}\n",
        "52:54:00:12:34:57: MTU 9000, no DHCP\nbond0: bond of 52:54:00:12:34:56 52:54:00:12:34:57 mode=802.3ad lacp_rate=fast xmit_hash_policy=layer3+4 miimon=100 min_links=1 all_slaves_active=1 arp_ip_target=192.0.2.1,192.0.2.2, IPv6 from routers, 192.0.2.7/24\nbond0.7: VLAN 7 on bond0, DHCP, IPv6 from routers\n",
    ),
    (
        "network:\n  ethernets: {enp3s0: {}}\n  bridges:\n    br0:\n      dhcp4: yes\n      interfaces: [enp3s0]\n    br1: {interfaces: [br0x], parameters: {stp: false, forward-delay: 4}}\n",
        "br0: bridge of enp3s0 with STP, DHCP, IPv6 from routers\nbr1: bridge of br0x, IPv6 from routers\n",
    ),
    // What cannot be used is named, and the rest counts.
    (
        "network: {ethernets: {eno1: {dhcp4: true, addresses: [300.0.0.1/24, 192.0.2.7/24], mtu: big, gateway4: none}}}",
        "eno1: DHCP, IPv6 from routers, 192.0.2.7/24\n! netplan.yaml, eno1: big is not an MTU\n! netplan.yaml, eno1: 300.0.0.1/24 is not an address that an interface can have\n! netplan.yaml, eno1: none is no gateway\n",
    ),
    (
        "network: {ethernets: {eno1: {routes: [{to: 10.0.0.0/8, via: 192.0.2.1, table: 101}, {via: 192.0.2.1}, {to: default, via: '2001:db8::1'}]}}}",
        "eno1: IPv6 from routers, gateway 2001:db8::1\n! netplan.yaml, eno1: the route to 10.0.0.0/8 is of table 101: left out\n! netplan.yaml, eno1: a route without `to`\n",
    ),
    (
        "network: {wifis: {wlan0: {dhcp4: true}}, vlans: {v: {id: 5000, link: eno1}, w: {id: 5}}}",
        "! netplan.yaml, wlan0: wifis are not made here: left out\n! netplan.yaml, v: 5000 is not a VLAN's identifier of 1 to 4094\n! netplan.yaml, w: a VLAN without `link`\n",
    ),
    (
        "network: {bonds: {b: {interfaces: [c]}, c: {interfaces: [b], parameters: {mode: fast, colour: red}}}}",
        "! netplan.yaml, c: the bonding driver has no mode fast\n! netplan.yaml, c: a bond's parameter colour is not known\n! b stands on itself (netplan.yaml): left out\n! c stands on itself (netplan.yaml): left out\n",
    ),
    (
        "network: {ethernets: {a: {match: {name: \"x\\e[2J\"}, dhcp4: true}, eno1: {dhcp4: true}}, bridges: {br0: {interfaces: [eno1, \"a b\"]}}, vlans: {v: {id: 7, link: \"c/d\"}}}",
        "br0: bridge of eno1 with STP, IPv6 from routers\n! x\\u{1b}[2J is not an interface's name: left out\n! a b is not an interface's name: left out\n! c/d is not an interface's name: left out\n",
    ),
    ("network: [\n", "! netplan.yaml: line 1: unclosed bracket '[': left out\n"),
    ("network: 7\n", ""),
    ("[]", ""),
];

#[test]
fn each_example_is_the_plan_that_netplan_would_carry_out() {
    check(CASES, |text| read(&[File::new("netplan.yaml", text)]).to_string());
}

#[test]
fn files_are_merged_by_name_and_later_ones_win() {
    let disk = Disk::of(
        "== /lib/netplan/00-default.yaml\nnetwork: {ethernets: {eth9: {dhcp4: true}}}\n\
         == /etc/netplan/00-default.yaml\nnetwork: {ethernets: {eno1: {dhcp4: true, addresses: [192.0.2.7/24]}}}\n\
         == /etc/netplan/99-own.yaml\nnetwork: {ethernets: {eno1: {dhcp4: false, addresses: [192.0.2.8/24]}}}\n\
         == /run/netplan/50-run.yaml\nnetwork: {renderer: NetworkManager, ethernets: {eno1: {mtu: 1400}}}\n\
         == /etc/netplan/60-broken.yaml\nnetwork: {\n\
         == /etc/netplan/70.yaml.bak\nnetwork: {ethernets: {eth8: {dhcp4: true}}}\n",
    );
    let mut plan = Plan::default();
    let files = files(&disk, &mut plan);
    let read = read(&files);
    assert_eq!(
        read.to_string(),
        "eno1: MTU 1400, IPv6 from routers, 192.0.2.7/24, 192.0.2.8/24\n\
         ! /etc/netplan/60-broken.yaml: line 1: unclosed bracket '{': left out\n"
    );
    assert_eq!(
        read.links[0].from,
        ["/etc/netplan/00-default.yaml", "/run/netplan/50-run.yaml", "/etc/netplan/99-own.yaml"]
    );
    assert_eq!(renderer(&files).as_deref(), Some("NetworkManager"));
}

#[test]
fn the_tables_are_sorted() {
    assert!(PARAMETERS.is_sorted_by_key(|(name, ..)| name));
    assert!(NOT_READ.is_sorted());
}

#[test]
fn a_machine_of_ten_thousand_interfaces_is_no_machine() {
    let text: String = (0..10_000).map(|n| format!("    eth{n}: {{dhcp4: true}}\n")).collect();
    let plan = read(&[File::new("x", &format!("network:\n  ethernets:\n{text}"))]);
    assert_eq!(plan.links.len(), crate::MOST_LINKS);
}

proptest! {
    // The words of these are many; `make fuzz` goes further.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_text_panics(
        keys in prop::collection::vec(("(ethernets|bonds|vlans|bridges)", "[ab]", "(match|interfaces|link|id|addresses|routes|parameters|nameservers|mtu|set-name|gateway4|link-local)", "(a|b|7|\\[a, b\\]|\\[192.0.2.7/24\\]|\\{macaddress: \"52:54:00:12:34:56\"\\}|\\{mode: 1\\}|\\[\\{to: default, via: ::1\\}\\]|\\[\\[\\]\\])"), 0..12)
    ) {
        let text: String = keys.iter().map(|(kind, id, key, value)| format!("{kind}: {{{id}: {{{key}: {value}}}}}, ")).collect();
        let files: Vec<File> = text.split(", ").map(|one| File::new("x", &format!("network: {{{one}}}"))).collect();
        let _ = read(&files).to_string();
    }
}
