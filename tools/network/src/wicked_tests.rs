use super::*;
use crate::disk::{Disk, check};
use proptest::prelude::*;

/// The examples of SUSE's manual pages and administration guide, and of its installer. Short names are below the directory.
const CASES: &[(&str, &str)] = &[
    (
        "== ifcfg-eth0\nBOOTPROTO='dhcp'\nSTARTMODE='auto'\nDHCLIENT_SET_DEFAULT_ROUTE='yes'\n== ifcfg-lo\nIPADDR=127.0.0.1/8\nSTARTMODE=nfsroot\n== ifcfg.template\nBOOTPROTO=x\n",
        "eth0: DHCP, IPv6 from routers\n",
    ),
    (
        "== ifcfg-eth0\nBOOTPROTO='static'\nSTARTMODE='auto'\nIPADDR='192.0.2.7/24'\nIPADDR_0='192.0.2.8/24'\nLABEL_0='0'\nIPADDR_six='2001:db8::7'\nPREFIXLEN_six='64'\nMTU='9000'\nLLADDR=52:54:00:12:34:56\nETHTOOL_OPTIONS=''\nNAME='82574L'\n== routes\ndefault 192.0.2.1 - -\n10.0.0.0 192.0.2.9 255.0.0.0 eth0\n192.168.0.0/16 192.0.2.9 - - unicast metric 7\ndefault fe80::1 - eth0\n== config\nNETCONFIG_DNS_STATIC_SERVERS=\"192.0.2.53 2001:db8::53\"\nNETCONFIG_DNS_STATIC_SEARCHLIST=\"example.com\"\nNETCONFIG_NTP_STATIC_SERVERS=\"ntp.example\"\n",
        "eth0: MAC 52:54:00:12:34:56, MTU 9000, IPv6 from routers, 192.0.2.7/24, 192.0.2.8/24, 2001:db8::7/64, gateway 192.0.2.1, 10.0.0.0/8 by 192.0.2.9, 192.168.0.0/16 by 192.0.2.9 metric 7, gateway fe80::1\nDNS 192.0.2.53 2001:db8::53\nsearch example.com\nNTP ntp.example\n",
    ),
    (
        "== ifcfg-eth0\nSTARTMODE=hotplug\nBOOTPROTO=dhcp4+dhcp6+static\nIPADDR=203.0.113.7\nREMOTE_IPADDR=203.0.113.1\n== ifroute-eth0\n203.0.113.1 - 255.255.255.255 -\ndefault 203.0.113.1 - -\n10.0.0.0/8 via 10.0.0.1 table 7\n192.168.0.0/16 - - - blackhole\n== ifcfg-eth1\nSTARTMODE=auto\nBOOTPROTO=none\n",
        "eth0: DHCP, DHCPv6, 203.0.113.7/32 peer 203.0.113.1, 203.0.113.1/32 on the link, gateway 203.0.113.1\neth1: no DHCP\n\
         ! /etc/sysconfig/network/ifroute-eth0: the route to 10.0.0.0/8 is of table 7: left out\n\
         ! /etc/sysconfig/network/ifroute-eth0: the route to 192.168.0.0/16 is of type blackhole: left out\n",
    ),
    (
        "== ifcfg-vlan42\nSTARTMODE=auto\nETHERDEVICE=eth0\nBOOTPROTO=dhcp\n== ifcfg-mgmt\nSTARTMODE=auto\nETHERDEVICE=bond0\nVLAN_ID=7\nIPADDR=192.0.2.7/24\n== ifcfg-eth0.9\nSTARTMODE=auto\nETHERDEVICE=eth0\n",
        "eth0.9: VLAN 9 on eth0, IPv6 from routers\nmgmt: VLAN 7 on bond0, IPv6 from routers, 192.0.2.7/24\nvlan42: VLAN 42 on eth0, DHCP, IPv6 from routers\n",
    ),
    (
        "== ifcfg-bond0\nSTARTMODE='onboot'\nBOOTPROTO='static'\nIPADDR='192.168.0.1/24'\nBONDING_MASTER='yes'\nBONDING_SLAVE0='eth0'\nBONDING_SLAVE_1='eth1'\nBONDING_MODULE_OPTS='mode=active-backup miimon=100 primary=eth0'\n== ifcfg-eth0\nSTARTMODE='hotplug'\nBOOTPROTO='none'\n== ifcfg-br0\nSTARTMODE='auto'\nBOOTPROTO='dhcp'\nBRIDGE='yes'\nBRIDGE_PORTS='eth2 eth3'\nBRIDGE_STP='on'\nBRIDGE_FORWARDDELAY='0'\n",
        "bond0: bond of eth0 eth1 mode=active-backup miimon=100 primary=eth0, IPv6 from routers, 192.168.0.1/24\nbr0: bridge of eth2 eth3 with STP, DHCP, IPv6 from routers\n",
    ),
    (
        "== ifcfg-eth0\nSTARTMODE=off\n== ifcfg-wlan0\nSTARTMODE=auto\nWIRELESS_ESSID=x\n== ifcfg-eth1\nSTARTMODE=auto\nBOOTPROTO=odd\nIPADDR=192.0.2.7\nIPADDR_1=x\n== ifcfg-x\nSTARTMODE=auto\nETHERDEVICE=eth0\n== ifcfg-eth2~\nSTARTMODE=auto\n== routes\nnowhere 192.0.2.1\ndefault 198.51.100.1\n",
        "eth1: IPv6 from routers, 192.0.2.7/32\nroute gateway 198.51.100.1\n\
         ! /etc/sysconfig/network/ifcfg-eth0: STARTMODE=off: left out\n\
         ! /etc/sysconfig/network/ifcfg-eth1: BOOTPROTO=odd is not known\n\
         ! /etc/sysconfig/network/ifcfg-eth1: no netmask: 192.0.2.7/32 is taken\n\
         ! /etc/sysconfig/network/ifcfg-eth1: x is not an address that an interface can have\n\
         ! /etc/sysconfig/network/ifcfg-wlan0: WIRELESS_ESSID is not made here: left out\n\
         ! /etc/sysconfig/network/ifcfg-x:  is not a VLAN's identifier of 1 to 4094\n\
         ! /etc/sysconfig/network/routes: nowhere is not a network\n",
    ),
];

fn shown_plan(text: &str) -> String {
    read(&Disk::of(&format!("\n{text}").replace("\n== ", &format!("\n== {DIRECTORY}/")))).to_string()
}

#[test]
fn each_example_is_the_plan_that_wicked_would_carry_out() {
    check(CASES, shown_plan);
}

proptest! {
    // The words of these are many; `make fuzz` goes further.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_files_panic(
        lines in prop::collection::vec("(== ifcfg-[ab]\n|== routes\n|== ifroute-a\n|== config\n|STARTMODE=auto\n|BOOTPROTO=(dhcp|none)\n|ETHERDEVICE=[ab]\n|VLAN_ID=[0-9]\n|IPADDR_?[0-9]?=(192.0.2.7|::1/64)\n|BONDING_MASTER=yes\n|BONDING_SLAVE[01]=[ab]\n|BRIDGE=yes\n|BRIDGE_PORTS='a b'\n|(default|10.0.0.0/8|-) (::1|192.0.2.1|-) - [ab-]\n)", 0..40)
    ) {
        let _ = shown_plan(&lines.concat());
    }
}
