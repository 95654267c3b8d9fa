use super::*;
use crate::disk::{Disk, check};
use proptest::prelude::*;

/// The examples of systemd.network(5) and systemd.netdev(5), of Arch's and Fedora's images, of installers.
const CASES: &[(&str, &str)] = &[
    (
        "== /etc/systemd/network/50-static.network\n[Match]\nName=enp2s0\n\n[Network]\nAddress=192.168.0.15/24\nGateway=192.168.0.1\n",
        "enp2s0: IPv6 from routers, 192.168.0.15/24, gateway 192.168.0.1\n",
    ),
    (
        "== /etc/systemd/network/80-dhcp.network\n[Match]\nName=en*\n\n[Network]\nDHCP=yes\n",
        "en*: DHCP, DHCPv6\n",
    ),
    (
        "== /etc/systemd/network/20-wired.network\n[Match]\nName=en* eth*\n[Link]\nRequiredForOnline=routable\nMTUBytes=9000\n[Network]\nDHCP=ipv4\nIPv6AcceptRA=no\nDNS=192.0.2.53 2001:db8::53\nDNS=9.9.9.9#dns.quad9.net\nDomains=example.com ~corp.example\nNTP=0.pool.example 192.0.2.123\n[DHCPv4]\nRouteMetric=100\n",
        "en*: MTU 9000, DHCP, IPv6 on the link alone, DNS 192.0.2.53 2001:db8::53 9.9.9.9, search example.com, NTP 0.pool.example 192.0.2.123\neth*: MTU 9000, DHCP, IPv6 on the link alone, DNS 192.0.2.53 2001:db8::53 9.9.9.9, search example.com, NTP 0.pool.example 192.0.2.123\n",
    ),
    // Hetzner's installimage.
    (
        "== /etc/systemd/network/10-mainif.network\n### installimage\n[Match]\nMACAddress=0c:c4:7a:34:6e:3c\n\n[Network]\nAddress=2001:db8:1:2::2/64\nGateway=203.0.113.1\nGateway=fe80::1\n\n[Address]\nAddress=203.0.113.7\nPeer=203.0.113.1/32\n",
        "0c:c4:7a:34:6e:3c: IPv6 from routers, 2001:db8:1:2::2/64, 203.0.113.7/32 peer 203.0.113.1, gateway 203.0.113.1, gateway fe80::1\n",
    ),
    (
        "== /etc/systemd/network/a.network\n[Match]\nPermanentMACAddress=0c:c4:7a:34:6e:3c 0c:c4:7a:34:6e:3d\nName=eth*\n[Network]\nLinkLocalAddressing=no\n[Route]\nGateway=172.31.1.1\nGatewayOnLink=yes\n[Route]\nDestination=10.0.0.0/8\nGateway=10.1.0.1\nMetric=50\nPreferredSource=10.1.0.7\n[Route]\nDestination=172.31.1.1\nScope=link\n[Route]\nGateway=_dhcp4\n[Address]\nAddress=10.1.0.7/32\n",
        "0c:c4:7a:34:6e:3c: no DHCP, 10.1.0.7/32, gateway 172.31.1.1, 10.0.0.0/8 by 10.1.0.1 metric 50 from 10.1.0.7, 172.31.1.1/32 on the link\n0c:c4:7a:34:6e:3d: no DHCP, 10.1.0.7/32, gateway 172.31.1.1, 10.0.0.0/8 by 10.1.0.1 metric 50 from 10.1.0.7, 172.31.1.1/32 on the link\n",
    ),
    // VLANs, bonds, bridges.
    (
        "== /etc/systemd/network/10.network\n[Match]\nName=en* !eno9\n[Network]\nDHCP=yes\n",
        "en*: DHCP, DHCPv6\n! /etc/systemd/network/10.network: Name=!eno9 says what it is not about: not heeded\n",
    ),
    (
        "== /etc/systemd/network/25-bridge.network\n[Match]\nName=bridge0\n[Network]\nDHCP=ipv4\n\
         \n== /etc/systemd/network/25-bridge.netdev\n[NetDev]\nName=bridge0\nKind=bridge\nMACAddress=52:54:00:12:34:56\n[Bridge]\nSTP=yes\n\
         \n== /etc/systemd/network/25-slave.network\n[Match]\nName=enp2s0\n[Network]\nBridge=bridge0\n",
        "bridge0: bridge of enp2s0 with STP, MAC 52:54:00:12:34:56, DHCP, IPv6 from routers\n",
    ),
    (
        "== /etc/systemd/network/10-nic.network\n[Match]\nName=enp1s0\n[Network]\nDHCP=ipv4\nVLAN=vlan10\nVLAN=vlan20\n\
         \n== /etc/systemd/network/20.netdev\n[NetDev]\nName=vlan10\nKind=vlan\n[VLAN]\nId=10\n\
         \n== /etc/systemd/network/21.netdev\n[NetDev]\nName=vlan20\nKind=vlan\n[VLAN]\nId=20\n\
         \n== /etc/systemd/network/30.network\n[Match]\nName=vlan10\n[Network]\nAddress=192.0.2.7/24\n",
        "enp1s0: DHCP, IPv6 from routers\nvlan10: VLAN 10 on enp1s0, IPv6 from routers, 192.0.2.7/24\nvlan20: VLAN 20 on enp1s0, no DHCP\n",
    ),
    (
        "== /etc/systemd/network/10-nic.network\n[Match]\nMACAddress=52:54:00:12:34:56\n[Network]\nVLAN=v\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n\
         \n== /etc/systemd/network/20.netdev\n[NetDev]\nName=v\nKind=vlan\n[VLAN]\nId=10\n",
        "52:54:00:12:34:56, to be called lan0: no DHCP\nv: VLAN 10 on lan0, no DHCP\n",
    ),
    (
        "== /etc/systemd/network/30-bond1.network\n[Match]\nName=bond1\n[Network]\nDHCP=ipv6\nVLAN=bond1.7\n\
         \n== /etc/systemd/network/30-bond1.netdev\n[NetDev]\nName=bond1\nKind=bond\n[Bond]\nMode=802.3ad\nTransmitHashPolicy=layer3+4\nMIIMonitorSec=1s\nLACPTransmitRate=fast\nMinLinks=1\nAllSlavesActive=yes\n\
         \n== /etc/systemd/network/30-bond1-dev1.network\n[Match]\nMACAddress=52:54:00:e9:64:41\n[Network]\nBond=bond1\n\
         \n== /etc/systemd/network/30-bond1-dev2.network\n[Match]\nName=eno2\n[Link]\nMTUBytes=9000\n[Network]\nBond=bond1\nPrimarySlave=yes\n\
         \n== /etc/systemd/network/40.netdev\n[NetDev]\nName=bond1.7\nKind=vlan\n[VLAN]\nId=7\n",
        "eno2: MTU 9000, no DHCP\nbond1: bond of 52:54:00:e9:64:41 eno2 mode=802.3ad all_slaves_active=1 lacp_rate=fast miimon=1000 min_links=1 xmit_hash_policy=layer3+4 primary=eno2, DHCPv6\nbond1.7: VLAN 7 on bond1, no DHCP\n",
    ),
    // Drop-ins, precedence, masks.
    (
        "== /usr/lib/systemd/network/50.network\n[Match]\nName=eth0\n[Network]\nDHCP=yes\n\
         \n== /etc/systemd/network/50.network\n[Match]\nName=eth0\n[Network]\nAddress=192.0.2.7/24\nDNS=192.0.2.1\n\
         \n== /etc/systemd/network/50.network.d/10.conf\n[Network]\nAddress=\nAddress=192.0.2.8/24\n\
         \n== /usr/lib/systemd/network/50.network.d/10.conf\n[Network]\nDHCP=yes\n\
         \n== /run/systemd/network/50.network.d/20.conf\n[Network]\nDNS=192.0.2.2\n\
         \n== /usr/lib/systemd/network/60.network\n[Match]\nName=eth1\n[Network]\nDHCP=yes\n\
         \n== /etc/systemd/network/60.network -> /dev/null\
         \n== /usr/lib/systemd/network/70.network\n[Match]\nName=eth2\n[Network]\nDHCP=yes\n\
         \n== /etc/systemd/network/70.network\n",
        "eth0: IPv6 from routers, 192.0.2.8/24, DNS 192.0.2.1 192.0.2.2\n",
    ),
    // What systemd brings itself is about containers, virtual machines, Wi-Fi.
    (
        "== /usr/lib/systemd/network/80-container-host0.network\n[Match]\nKind=veth\nName=host0\nVirtualization=container\n[Network]\nDHCP=yes\n\
         \n== /usr/lib/systemd/network/80-container-ve.network\n[Match]\nKind=veth\nName=ve-*\n[Network]\nAddress=0.0.0.0/28\n\
         \n== /usr/lib/systemd/network/80-6rd-tunnel.network\n[Match]\nKind=sit\nName=6rd-*\n[Network]\nLinkLocalAddressing=no\n\
         \n== /usr/lib/systemd/network/80-wifi-station.network.example\n[Match]\nType=wlan\n\
         \n== /etc/systemd/network/wlan.network\n[Match]\nType=wlan\n[Network]\nDHCP=yes\n\
         \n== /etc/systemd/network/lo.network\n[Match]\nName=lo\n[Network]\nAddress=192.0.2.9/32\n\
         \n== /etc/systemd/network/89-ethernet.network\n[Match]\nKind=!*\nType=ether\n[Network]\nDHCP=yes\n",
        "*: DHCP, DHCPv6\n",
    ),
    // What cannot be used is named, and the rest counts.
    (
        "== /etc/systemd/network/a.network\n[Match]\nPath=pci-0000:02:00.0-*\n[Network]\nDHCP=yes\n\
         \n== /etc/systemd/network/b.network\n[Match]\nName=!veth*\n[Network]\nDHCP=yes\n\
         \n== /etc/systemd/network/c.network\n[Match]\nName=eth0\n[Network]\nAddress=x\nVLAN=no\nBond=none\nDHCP=ipv4\nMACVLAN=m\n[Route]\nGateway=192.0.2.1\nTable=7\n[Route]\nMetric=1\n\
         \n== /etc/systemd/network/d.netdev\n[NetDev]\nName=wg0\nKind=wireguard\n\
         \n== /etc/systemd/network/e.netdev\n[NetDev]\nName=vlan7\nKind=vlan\n[VLAN]\nId=7\n",
        "eth0: DHCP, IPv6 from routers\n\
         ! /etc/systemd/network/d.netdev: the kind \"wireguard\" is not made here: left out\n\
         ! /etc/systemd/network/a.network: Path=pci-0000:02:00.0-* is not compared: left out\n\
         ! /etc/systemd/network/b.network: Name=!veth* says what it is not about: left out\n\
         ! /etc/systemd/network/c.network: x is not an address that an interface can have\n\
         ! /etc/systemd/network/c.network: the route to default is of table 7: left out\n\
         ! /etc/systemd/network/c.network: a route without Gateway= and Destination=\n\
         ! /etc/systemd/network/c.network: MACVLAN= is not read\n\
         ! /etc/systemd/network/c.network: no .netdev makes the VLAN no\n\
         ! /etc/systemd/network/c.network: no .netdev makes none\n\
         ! /etc/systemd/network/e.netdev: no .network has this VLAN: left out\n",
    ),
];

#[test]
fn each_example_is_the_plan_that_networkd_would_carry_out() {
    check(CASES, |text| read(&Disk::of(text)).to_string());
}

#[test]
fn link_files_name_nics_by_their_mac() {
    let disk = Disk::of(
        "== /etc/systemd/network/10-lan.link\n[Match]\nPermanentMACAddress=52:54:00:12:34:56\n[Link]\nName=lan0\nMTUBytes=9K\n\
         \n== /etc/systemd/network/11.link\n[Match]\nOriginalName=*\n[Link]\nNamePolicy=kernel\n",
    );
    let mut plan = Plan::default();
    let shown: Vec<String> = renames(&disk, &mut plan).iter().map(Link::to_string).collect();
    assert_eq!(shown, ["52:54:00:12:34:56, to be called lan0: MTU 9216, no DHCP"]);
}

#[test]
fn the_tables_are_sorted() {
    assert!(OPTIONS.is_sorted_by_key(|(key, ..)| key));
}

proptest! {
    // The words of these are many; `make fuzz` goes further.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_files_panic(
        lines in prop::collection::vec("(Name|MACAddress|Driver|DHCP|Address|Gateway|VLAN|Bond|Bridge|Kind|Id|Mode|Destination|DNS|MTUBytes)=(a|b|\\*|yes|vlan|bond|bridge|7|192.0.2.7/24|::1|52:54:00:12:34:56|)", 0..30),
        heads in prop::collection::vec("(== /etc/systemd/network/[ab].network|== /etc/systemd/network/[ab].netdev|\\[Match\\]|\\[Network\\]|\\[NetDev\\]|\\[VLAN\\]|\\[Route\\]|\\[Address\\]|\\[Bond\\])", 0..30),
    ) {
        let text: String = heads.iter().zip(lines.iter().chain(std::iter::repeat(&String::new()))).map(|(head, line)| format!("{head}\n{line}\n")).collect();
        let _ = read(&Disk::of(&text)).to_string();
    }
}
