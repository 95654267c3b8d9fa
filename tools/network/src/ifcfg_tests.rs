use super::*;
use crate::disk::{Disk, check};
use proptest::prelude::*;

/// The examples of RHEL 6 to 8's manuals and installers, and of hosters. Short names are below the directory.
const CASES: &[(&str, &str)] = &[
    // Anaconda's.
    (
        "== ifcfg-ens192\nTYPE=Ethernet\nPROXY_METHOD=none\nBROWSER_ONLY=no\nBOOTPROTO=dhcp\nDEFROUTE=yes\nIPV4_FAILURE_FATAL=no\nIPV6INIT=yes\nIPV6_AUTOCONF=yes\nIPV6_DEFROUTE=yes\nIPV6_ADDR_GEN_MODE=stable-privacy\nNAME=ens192\nUUID=b07d\nDEVICE=ens192\nONBOOT=yes\n",
        "ens192: DHCP, IPv6 from routers\n",
    ),
    (
        "== ifcfg-eth0\nDEVICE=\"eth0\"\nHWADDR=\"52:54:00:12:34:56\"\nBOOTPROTO=none\nONBOOT=yes\nIPADDR=192.0.2.7\nNETMASK=255.255.255.0\nGATEWAY=192.0.2.1\nDNS1=192.0.2.53\nDNS2=192.0.2.54\nDOMAIN=\"example.com corp.example\"\nMTU=9000\nIPV6INIT=no\nNM_CONTROLLED=no\n== ifcfg-lo\nDEVICE=lo\nIPADDR=127.0.0.1\n",
        "52:54:00:12:34:56, to be called eth0: MTU 9000, no DHCP, 192.0.2.7/24, gateway 192.0.2.1, DNS 192.0.2.53 192.0.2.54, search example.com corp.example\n",
    ),
    (
        "== ifcfg-eno1\nDEVICE=eno1\nONBOOT=yes\nBOOTPROTO=static\nIPADDR0=192.0.2.7\nPREFIX0=24\nGATEWAY0=192.0.2.1\nIPADDR1=192.0.2.8\nPREFIX1=32\nMACADDR=52:54:00:12:34:56\nIPV6INIT=yes\nIPV6_AUTOCONF=no\nIPV6ADDR=2001:db8::7/64\nIPV6ADDR_SECONDARIES=\"2001:db8::8/64 2001:db8::9/64\"\nIPV6_DEFAULTGW=fe80::1%eno1\n",
        "eno1: MAC 52:54:00:12:34:56, IPv6 on the link alone, 192.0.2.7/24, 192.0.2.8/32, 2001:db8::7/64, 2001:db8::8/64, 2001:db8::9/64, gateway 192.0.2.1, gateway fe80::1\n",
    ),
    (
        "== ifcfg-eno1\nDEVICE=eno1\nONBOOT=yes\nIPV6INIT=yes\nIPV6_AUTOCONF=no\nDHCPV6C=yes\n",
        "eno1: DHCPv6\n",
    ),
    // A name that is no device's, a range, a value on two lines.
    (
        "== ifcfg-Wired_connection_1\nTYPE=Ethernet\nBOOTPROTO=none\nIPADDR=192.0.2.7\nPREFIX=24\nGATEWAY=192.0.2.1\nIPV6ADDR=2001:db8::7/64\nIPV6ADDR_SECONDARIES=\"2001:db8::8/64 \\\n2001:db8::9/64\"\n== ifcfg-eth0-range0\nIPADDR_START=192.0.2.20\nIPADDR_END=192.0.2.25\nCLONENUM_START=10\n",
        "the first NIC: IPv6 from routers, 192.0.2.7/24, 2001:db8::7/64, 2001:db8::8/64, 2001:db8::9/64, gateway 192.0.2.1\n! /etc/sysconfig/network-scripts/ifcfg-eth0-range0: a range of addresses is not read\n",
    ),
    // A hoster's: the gateway outside, routes in both forms, an alias.
    (
        "== ifcfg-eth0\nDEVICE=eth0\nBOOTPROTO=none\nONBOOT=yes\nIPADDR=203.0.113.7\nNETMASK=255.255.255.255\nSCOPE=\"peer 203.0.113.1\"\n== route-eth0\nADDRESS0=0.0.0.0\nNETMASK0=0.0.0.0\nGATEWAY0=203.0.113.1\n== route6-eth0\ndefault via fe80::1 dev eth0\n== ifcfg-eth0:1\nDEVICE=eth0:1\nIPADDR=198.51.100.9\nPREFIX=32\n== ifcfg-eth1\nDEVICE=eth1\nONBOOT=yes\nIPADDR=10.0.0.7\nPREFIX=24\nDEFROUTE=no\nGATEWAY=10.0.0.1\n== route-eth1\n# ours\n10.0.0.0/8 via 10.0.0.1 metric 5\n192.168.0.0/16 via 10.0.0.1 table 7\n",
        "eth0: IPv6 from routers, 203.0.113.7/32, 198.51.100.9/32, gateway 203.0.113.1, gateway fe80::1\neth1: IPv6 from routers, 10.0.0.7/24, 10.0.0.0/8 by 10.0.0.1 metric 5\n! /etc/sysconfig/network-scripts/route-eth1: \"192.168.0.0/16 via 10.0.0.1 table 7\" is not read\n",
    ),
    // The gateway in /etc/sysconfig/network.
    (
        "== /etc/sysconfig/network\nNETWORKING=yes\nHOSTNAME=db1.example.com\nGATEWAY=192.0.2.1\nIPV6_DEFAULTGW=2001:db8::1%eth0\n== ifcfg-eth0\nDEVICE=eth0\nONBOOT=yes\nIPADDR=192.0.2.7\nPREFIX=24\n== ifcfg-eth1\nDEVICE=eth1\nONBOOT=yes\nIPADDR=10.0.0.7\nPREFIX=24\n",
        "eth0: IPv6 from routers, 192.0.2.7/24, gateway 192.0.2.1, gateway 2001:db8::1\neth1: IPv6 from routers, 10.0.0.7/24\nhost name db1.example.com\n",
    ),
    (
        "== /etc/sysconfig/network\nGATEWAY=192.0.2.1\nHOSTNAME=localhost.localdomain\n",
        "route gateway 192.0.2.1\n",
    ),
    // VLANs, bonds, bridges, teams.
    (
        "== ifcfg-eth0.192\nDEVICE=eth0.192\nBOOTPROTO=none\nONBOOT=yes\nIPADDR=192.168.1.1\nPREFIX=24\nNETWORK=192.168.1.0\nVLAN=yes\n== ifcfg-vlan7\nTYPE=Vlan\nDEVICE=vlan0007\nPHYSDEV=eth0\nREORDER_HDR=yes\nBOOTPROTO=dhcp\n== ifcfg-mgmt\nTYPE=Vlan\nDEVICE=mgmt\nPHYSDEV=eth0\nVLAN_ID=9\n",
        "eth0.192: VLAN 192 on eth0, IPv6 from routers, 192.168.1.1/24\nmgmt: VLAN 9 on eth0, IPv6 from routers\nvlan0007: VLAN 7 on eth0, DHCP, IPv6 from routers\n",
    ),
    (
        "== ifcfg-bond0\nDEVICE=bond0\nNAME=bond0\nTYPE=Bond\nBONDING_MASTER=yes\nIPADDR=192.168.1.1\nPREFIX=24\nONBOOT=yes\nBOOTPROTO=none\nBONDING_OPTS=\"mode=4 miimon=100 lacp_rate=1 arp_ip_target=+192.0.2.1\"\n== ifcfg-eth0\nDEVICE=eth0\nTYPE=Ethernet\nBOOTPROTO=none\nONBOOT=yes\nMASTER=bond0\nSLAVE=yes\n== ifcfg-eth1\nHWADDR=52:54:00:12:34:56\nONBOOT=yes\nMASTER_UUID=b0\n== ifcfg-br0\nDEVICE=br0\nUUID=b0\nTYPE=Bridge\nSTP=yes\nDELAY=0\nBOOTPROTO=dhcp\n",
        "bond0: bond of eth0 mode=802.3ad miimon=100 lacp_rate=1 arp_ip_target=192.0.2.1, IPv6 from routers, 192.168.1.1/24\nbr0: bridge of 52:54:00:12:34:56 with STP, DHCP, IPv6 from routers\n",
    ),
    (
        "== ifcfg-team0\nDEVICE=team0\nDEVICETYPE=Team\nTEAM_CONFIG='{\"runner\": {\"name\": \"activebackup\"}}'\nBOOTPROTO=dhcp\n== ifcfg-eth0\nDEVICE=eth0\nDEVICETYPE=TeamPort\nTEAM_MASTER=team0\n",
        "team0: bond of eth0 mode=active-backup miimon=100, DHCP, IPv6 from routers\n",
    ),
    // What is left out, and what cannot be used.
    (
        "== ifcfg-eth0\nDEVICE=eth0\nONBOOT=no\n== ifcfg-eth1.bak\nDEVICE=eth1\n== ifcfg-wifi\nTYPE=Wireless\n== ifcfg-any\nBOOTPROTO=dhcp\n== ifcfg-eth2\nDEVICE=eth2\nBOOTPROTO=odd\nIPADDR=192.0.2.7\nGATEWAY=x\nMASTER=gone\nDNS1=$(evil)\nrm -rf /\n== ifcfg-eth9:1\nIPADDR=192.0.2.9\nPREFIX=24\n",
        "*: DHCP, IPv6 from routers\neth2: IPv6 from routers, 192.0.2.7/32\n\
         ! /etc/sysconfig/network-scripts/ifcfg-eth0: ONBOOT=no: left out\n\
         ! /etc/sysconfig/network-scripts/ifcfg-eth2: DNS1 is not read: it would have to be expanded\n\
         ! /etc/sysconfig/network-scripts/ifcfg-eth2: \"rm -rf /\" is not run\n\
         ! /etc/sysconfig/network-scripts/ifcfg-eth2: BOOTPROTO=odd is not known\n\
         ! /etc/sysconfig/network-scripts/ifcfg-eth2: no netmask: 192.0.2.7/32 is taken\n\
         ! /etc/sysconfig/network-scripts/ifcfg-eth2: x is no gateway\n\
         ! /etc/sysconfig/network-scripts/ifcfg-wifi: the type \"wireless\" is not made here: left out\n\
         ! /etc/sysconfig/network-scripts/ifcfg-eth9:1: eth9 is not described\n\
         ! /etc/sysconfig/network-scripts/ifcfg-eth2: gone is not described\n",
    ),
];

fn shown_plan(text: &str) -> String {
    let text = format!("\n{text}");
    let whole: Vec<String> =
        text.split("\n== ")
            .skip(1)
            .map(|part| {
                if part.starts_with('/') {
                    format!("\n== {part}")
                } else {
                    format!("\n== {DIRECTORY}/{part}")
                }
            })
            .collect();
    read(&Disk::of(&whole.concat())).to_string()
}

#[test]
fn each_example_is_the_plan_that_rhel_would_carry_out() {
    check(CASES, shown_plan);
}

proptest! {
    // The words of these are many; `make fuzz` goes further.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_files_panic(
        lines in prop::collection::vec("(== ifcfg-[ab]\n|== route-[ab]\n|== ifcfg-a:1\n|== /etc/sysconfig/network\n|DEVICE=[ab]\n|TYPE=(Bond|Vlan|Bridge|Team|Ethernet)\n|MASTER=[ab]\n|BRIDGE=[ab]\n|PHYSDEV=[ab]\n|VLAN_ID=[0-9]\n|IPADDR[0-9]?=(192.0.2.7|::1)\n|GATEWAY=(192.0.2.1|fe80::1)\n|ADDRESS0=(default|::)\n|HWADDR=52:54:00:12:34:56\n|(default|10.0.0.0/8) via (::1|192.0.2.1) (dev|metric) [a7]\n|BONDING_OPTS=mode=1\n)", 0..40)
    ) {
        let _ = shown_plan(&lines.concat());
    }
}
