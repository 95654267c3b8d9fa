use super::*;
use crate::disk::{Disk, check};
use proptest::prelude::*;

/// The examples of interfaces(5), of Debian's wiki and installer, of hosters and of Proxmox.
const CASES: &[(&str, &str)] = &[
    ("", ""),
    // Debian's installer.
    (
        "auto eth0 wlan0\niface eth0 inet dhcp\niface wlan0 inet dhcp\n  wpa-ssid home\n",
        "eth0: DHCP, IPv6 from routers\n! /etc/network/interfaces, wlan0: Wi-Fi is not made here: left out\n",
    ),
    (
        "# This file describes the network interfaces available on your system\nsource /etc/network/interfaces.d/*\n\n# The loopback network interface\nauto lo\niface lo inet loopback\n\n# The primary network interface\nallow-hotplug ens18\niface ens18 inet dhcp\n# This is an autoconfigured IPv6 interface\niface ens18 inet6 auto\n",
        "ens18: DHCP, IPv6 from routers\n",
    ),
    (
        "auto eth0\niface eth0 inet static\n\taddress 192.0.2.7/24\n\tgateway 192.0.2.1\n\t# dns-* options are implemented by the resolvconf package, if installed\n\tdns-nameservers 192.0.2.53 2001:db8::53\n\tdns-search example.com\n",
        "eth0: IPv6 from routers, 192.0.2.7/24, gateway 192.0.2.1, DNS 192.0.2.53 2001:db8::53, search example.com\n",
    ),
    (
        "auto eth0\niface eth0 inet static\n    address 192.0.2.7\n    netmask 255.255.255.0\n    network 192.0.2.0\n    broadcast 192.0.2.255\n    gateway 192.0.2.1\n    metric 100\n    mtu 1400\n    hwaddress ether 52:54:00:12:34:56\niface eth0 inet6 static\n    address 2001:db8::7\n    netmask 64\n    gateway fe80::1\n    accept_ra 0\n",
        "eth0: MAC 52:54:00:12:34:56, MTU 1400, IPv6 on the link alone, 192.0.2.7/24, 2001:db8::7/64, gateway 192.0.2.1 metric 100, gateway fe80::1\n",
    ),
    ("auto eth0\niface eth0 inet manual\niface eth0 inet6 dhcp\n", "eth0: DHCPv6\n"),
    (
        "auto eth0\niface eth0 inet6 static\n  address 2001:db8::7/64\n  autoconf 1\n",
        "eth0: IPv6 from routers, 2001:db8::7/64\n",
    ),
    // The default route is the routers' where none is stated and nobody says that they do not count.
    (
        "auto eth0\niface eth0 inet6 static\n  address 2001:db8::7/64\n",
        "eth0: IPv6 from routers, 2001:db8::7/64\n",
    ),
    (
        "auto eth0\niface eth0 inet6 static\n  address 2001:db8::7/64\n  accept_ra 0\n",
        "eth0: IPv6 on the link alone, 2001:db8::7/64\n",
    ),
    // Hetzner's dedicated machines, old and new.
    (
        "### Hetzner Online GmbH installimage\n\nsource /etc/network/interfaces.d/*\n\nauto lo\niface lo inet loopback\niface lo inet6 loopback\n\nauto enp0s31f6\niface enp0s31f6 inet static\n  address 203.0.113.7\n  netmask 255.255.255.192\n  gateway 203.0.113.1\n  # route 203.0.113.0/26 via 203.0.113.1\n  up route add -net 203.0.113.0 netmask 255.255.255.192 gw 203.0.113.1 dev enp0s31f6\n\niface enp0s31f6 inet6 static\n  address 2001:db8:1:2::2\n  netmask 64\n  gateway fe80::1\n",
        "enp0s31f6: IPv6 on the link alone, 203.0.113.7/26, 2001:db8:1:2::2/64, gateway 203.0.113.1, 203.0.113.0/26 by 203.0.113.1, gateway fe80::1\n",
    ),
    (
        "auto eth0\niface eth0 inet static\n  address 203.0.113.7\n  netmask 255.255.255.255\n  pointopoint 203.0.113.1\n  gateway 203.0.113.1\n",
        "eth0: IPv6 from routers, 203.0.113.7/32 peer 203.0.113.1, gateway 203.0.113.1\n",
    ),
    // Proxmox on a hoster's machine, with a private net.
    (
        "auto lo\niface lo inet loopback\n\niface eno1 inet manual\n\niface eno2 inet manual\n\nauto vmbr0\niface vmbr0 inet static\n\taddress 192.0.2.7/24\n\tgateway 192.0.2.1\n\tbridge-ports eno1\n\tbridge-stp off\n\tbridge-fd 0\n\tbridge-vlan-aware yes\n\tbridge-vids 2-4094\n\tpost-up ip route add 10.0.0.0/8 via 192.0.2.9 dev vmbr0\n\tpost-up echo 1 > /proc/sys/net/ipv4/ip_forward\n\nauto vmbr0.5\niface vmbr0.5 inet static\n\taddress 10.5.0.7/24\n\nauto vmbr1\niface vmbr1 inet static\n\taddress 10.9.0.1/24\n\tbridge_ports none\n\tbridge_stp on\n",
        "vmbr0: bridge of eno1, IPv6 from routers, 192.0.2.7/24, gateway 192.0.2.1, 10.0.0.0/8 by 192.0.2.9\nvmbr0.5: VLAN 5 on vmbr0, IPv6 from routers, 10.5.0.7/24\nvmbr1: bridge of  with STP, IPv6 from routers, 10.9.0.1/24\n! /etc/network/interfaces, vmbr0: \"echo 1 > /proc/sys/net/ipv4/ip_forward\" is not run\n",
    ),
    // OVH's failover address, and its gateway outside the net.
    (
        "auto eth0 eth0:0\niface eth0 inet static\n    address 192.0.2.7\n    netmask 255.255.255.255\n    broadcast 192.0.2.7\n    post-up route add 198.51.100.254 dev eth0\n    post-up route add default gw 198.51.100.254\n    pre-down route del 198.51.100.254 dev eth0\niface eth0:0 inet static\n    address 198.51.100.9\n    netmask 255.255.255.255\niface eth0 inet6 static\n    address 2001:db8:1::1\n    netmask 128\n    post-up /sbin/ip -f inet6 route add 2001:db8:1:ff:ff:ff:ff:ff dev eth0\n    post-up /sbin/ip -6 route add 2001:db8:1:ff:ff:ff:ff:ff dev eth0\n    post-up /sbin/ip -6 route add default via 2001:db8:1:ff:ff:ff:ff:ff dev eth0 || true\n",
        "eth0: IPv6 on the link alone, 192.0.2.7/32, 198.51.100.9/32, 2001:db8:1::1/128, 198.51.100.254/32 on the link, gateway 198.51.100.254, 2001:db8:1:ff:ff:ff:ff:ff/128 on the link, gateway 2001:db8:1:ff:ff:ff:ff:ff\n",
    ),
    // VLANs, bonds.
    (
        "auto eth0.5\niface eth0.5 inet dhcp\nauto vlan7\niface vlan7 inet dhcp\n  vlan-raw-device eth1\nauto mgmt\niface mgmt inet static\n address 192.0.2.7/24\n vlan_raw_device eth1\n vlan-id 9\n",
        "eth0.5: VLAN 5 on eth0, DHCP, IPv6 from routers\nvlan7: VLAN 7 on eth1, DHCP, IPv6 from routers\nmgmt: VLAN 9 on eth1, IPv6 from routers, 192.0.2.7/24\n",
    ),
    (
        "auto bond0\niface bond0 inet dhcp\n    bond-slaves eth1 eth2\n    bond-mode 802.3ad\n    bond-miimon 100\n    bond-lacp-rate 1\n    bond-xmit-hash-policy layer3+4\n    bond-downdelay 200\niface eth1 inet manual\niface eth2 inet manual\n  mtu 9000\nauto bond0.7\niface bond0.7 inet manual\n",
        "bond0: bond of eth1 eth2 mode=802.3ad miimon=100 lacp_rate=1 xmit_hash_policy=layer3+4 downdelay=200, DHCP, IPv6 from routers\neth2: MTU 9000, no DHCP\nbond0.7: VLAN 7 on bond0, IPv6 from routers\n",
    ),
    (
        "allow-hotplug eth0\niface eth0 inet manual\n bond-master bond0\n bond-primary eth0\n bond-mode active-backup\nallow-hotplug eth1\niface eth1 inet manual\n bond-master bond0\nauto bond0\niface bond0 inet static\n address 192.0.2.7/24\n bond-slaves none\n bond_mode 1\n bond-primary eth0 eth1\n bond-miimon 100\n",
        "bond0: bond of eth0 eth1 mode=active-backup primary=eth0 miimon=100, IPv6 from routers, 192.0.2.7/24\n",
    ),
    (
        "auto br0\niface br0 inet dhcp\n  bridge_ports bond0\n  bridge_stp on\niface bond0 inet manual\n  slaves eth0 eth1\n  bond_mode 4\n",
        "br0: bridge of bond0 with STP, DHCP, IPv6 from routers\nbond0: bond of eth0 eth1 mode=802.3ad miimon=100, no DHCP\n",
    ),
    // Commands.
    (
        "auto eth0\niface eth0 inet static\n  address 192.0.2.7/24\n  up ip addr add 192.0.2.8/24 dev $IFACE label $IFACE:0\n  up ip link set $IFACE up\n  up ip link set dev eth0 mtu 9000\n  up ip route add default via 192.0.2.1 metric 10 src 192.0.2.7 onlink\n  up route add -host 198.51.100.1 gw 192.0.2.1 eth0\n  up ip -6 addr add 2001:db8::7/64 dev eth0; ip -6 route add default via fe80::1\n  up ip route add 10.0.0.0/8 via 192.0.2.1 dev eth9\n  up ip route add 10.0.0.0/8 via 192.0.2.1 table 7\n  post-up iptables-restore < /etc/iptables\n  down ip route del default\n",
        "eth0: MTU 9000, IPv6 from routers, 192.0.2.7/24, 192.0.2.8/24, gateway 192.0.2.1 metric 10 from 192.0.2.7, 198.51.100.1/32 by 192.0.2.1\n\
         ! /etc/network/interfaces, eth0: \"ip -6 addr add 2001:db8::7/64 dev eth0; ip -6 route add default via fe80::1\" is not run\n\
         ! /etc/network/interfaces, eth0: \"ip route add 10.0.0.0/8 via 192.0.2.1 dev eth9\" is not run\n\
         ! /etc/network/interfaces, eth0: \"ip route add 10.0.0.0/8 via 192.0.2.1 table 7\" is not run\n\
         ! /etc/network/interfaces, eth0: \"iptables-restore < /etc/iptables\" is not run\n",
    ),
    // Files that name files.
    (
        "source interfaces.d/*.cfg\nsource-directory /etc/network/more\nsource /etc/network/interfaces\n\
         \n== /etc/network/interfaces.d/b.cfg\nauto eth1\niface eth1 inet dhcp\n\
         \n== /etc/network/interfaces.d/a.cfg\nauto eth0\niface eth0 inet \\\n  dhcp\n\
         \n== /etc/network/interfaces.d/c.bak\nauto eth2\niface eth2 inet dhcp\n\
         \n== /etc/network/more/own\nauto eth3\niface eth3 inet dhcp\n\
         \n== /etc/network/more/own.dpkg-old\nauto eth4\niface eth4 inet dhcp\n",
        "eth0: DHCP, IPv6 from routers\neth1: DHCP, IPv6 from routers\neth3: DHCP, IPv6 from routers\n",
    ),
    // cloud-init's, and Alpine's.
    (
        "source /etc/network/interfaces.d/*\n\n== /etc/network/interfaces.d/50-cloud-init\nauto lo\niface lo inet loopback\n    dns-nameservers 192.0.2.53\n\nauto eth0\niface eth0 inet dhcp\n    metric 100\n",
        "eth0: DHCP, IPv6 from routers\n",
    ),
    (
        "auto lo\niface lo inet loopback\n\nauto eth0\niface eth0\n\tuse dhcp\n\thostname box\nauto eth1\niface eth1\n\taddress 192.0.2.7/24\n\tgateway 192.0.2.1\n",
        "eth0: DHCP, IPv6 from routers\neth1: IPv6 from routers, 192.0.2.7/24, gateway 192.0.2.1\n",
    ),
    // What cannot be used is named, and the rest counts.
    (
        "mapping eth0\n  script /x\niface eth7 inet dhcp\nauto eth0\niface eth0 inet static inherits base\n  address 192.0.2.7\n  gateway x\n  colour red\niface eth0 inet ppp\nauto eth1\niface eth1 inet static\nauto eth2\niface eth2 inet dhcp\n bond-master b\n",
        "eth0: IPv6 from routers, 192.0.2.7/32\neth1: IPv6 from routers\neth2: DHCP, IPv6 from routers\n\
         ! /etc/network/interfaces: mapping eth0 is not read\n\
         ! /etc/network/interfaces, eth7: nothing brings it up at boot: left out\n\
         ! /etc/network/interfaces, eth0: inherits is not read\n\
         ! /etc/network/interfaces, eth0: no netmask: 192.0.2.7/32 is taken\n\
         ! /etc/network/interfaces, eth0: x is no gateway\n\
         ! /etc/network/interfaces, eth0: colour is not read\n\
         ! /etc/network/interfaces, eth0: iface inet ppp is not read\n\
         ! /etc/network/interfaces, eth1: inet static without an address\n\
         ! /etc/network/interfaces, b: the bond of eth2 is not described\n",
    ),
];

fn shown_plan(text: &str) -> String {
    read(&Disk::of(&format!("== {MAIN}\n{text}"))).to_string()
}

#[test]
fn each_example_is_the_plan_that_ifupdown_would_carry_out() {
    check(CASES, shown_plan);
}

#[test]
fn the_tables_are_sorted() {
    assert!(ASIDE.is_sorted() && ASIDE_BY_HEAD.is_sorted());
}

proptest! {
    // The words of these are many; `make fuzz` goes further.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_text_panics(
        lines in prop::collection::vec("(auto|iface|source|source-directory|address|netmask|gateway|pointopoint|up|bond-slaves|bond-master|bridge_ports|vlan-raw-device|hwaddress|dns-search|up ip route add|up route add|up ip addr add) (a|b|eth0.5|/etc/network/\\*|/\\*/\\*/\\*|192.0.2.7|192.0.2.7/24|::1|default|via|dev|peer|gw|netmask) ?(inet|inet6|via|dev|gw|peer|static|)? ?(static|dhcp|auto|::1|192.0.2.1|a)?", 0..30)
    ) {
        let _ = shown_plan(&lines.join("\n"));
    }
}
