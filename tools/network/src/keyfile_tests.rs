use super::*;
use crate::disk::{Disk, check};
use proptest::prelude::*;

/// The examples of nm-settings-keyfile(5), of Fedora's and RHEL's installer, and what nmcli and nmtui write.
const CASES: &[(&str, &str)] = &[
    // RHEL 9's installer.
    (
        "== enp1s0.nmconnection\n[connection]\nid=enp1s0\nuuid=2c5e\ntype=ethernet\nautoconnect-priority=-999\ninterface-name=enp1s0\ntimestamp=1659096180\n\n[ethernet]\n\n[ipv4]\nmethod=auto\n\n[ipv6]\naddr-gen-mode=eui64\nmethod=auto\n\n[proxy]\n",
        "enp1s0: DHCP, IPv6 from routers\n",
    ),
    (
        "== Main eth0.nmconnection\n[connection]\nid=Main eth0\nuuid=27afa607-ee36-43f0-b8c3-9d245cdc4bb3\ntype=802-3-ethernet\nautoconnect=true\n\n[ipv4]\nmethod=auto\n\n[802-3-ethernet]\nmac-address=00:23:5a:47:1f:71\n",
        "00:23:5a:47:1f:71: DHCP, IPv6 from routers\n",
    ),
    (
        "== static.nmconnection\n[connection]\nid=static\ntype=ethernet\ninterface-name=eno1\n[ethernet]\nmtu=9000\ncloned-mac-address=52:54:00:12:34:56\n[ipv4]\nmethod=manual\naddress1=192.0.2.7/24,192.0.2.1\naddress2=192.0.2.8/24\ndns=192.0.2.53;9.9.9.9;\ndns-search=example.com;corp.example;\nroute1=10.0.0.0/8,192.0.2.9,100\nroute1_options=onlink=true,src=192.0.2.7\nroute2=172.16.0.0/12,0.0.0.0\n[ipv6]\nmethod=manual\naddress1=2001:db8::7/64\ngateway=fe80::1\ndns=2001:db8::53;\n",
        "eno1: MAC 52:54:00:12:34:56, MTU 9000, IPv6 on the link alone, 192.0.2.7/24, 192.0.2.8/24, 2001:db8::7/64, gateway 192.0.2.1, 10.0.0.0/8 by 192.0.2.9 metric 100 from 192.0.2.7, 172.16.0.0/12 on the link, gateway fe80::1, DNS 192.0.2.53 9.9.9.9 2001:db8::53, search example.com corp.example\n",
    ),
    (
        "== b.nmconnection\n[connection]\nid=any\ntype=ethernet\n[ipv4]\nmethod=auto\nnever-default=true\n[ipv6]\nmethod=disabled\n\
         \n== a.nmconnection\n[connection]\nid=one\ntype=ethernet\nautoconnect-priority=10\ninterface-name=eno2\n[ethernet]\ncloned-mac-address=random\n[ipv4]\nmethod=manual\naddresses1=192.0.2.7/24\ngateway=192.0.2.1\nnever-default=true\nroute-metric=50\n[ipv6]\nmethod=ignore\n",
        "eno2: IPv6 from routers, 192.0.2.7/24\n*: DHCP\n",
    ),
    (
        "== x\n[connection]\nid=old\ntype=ethernet\n[match]\ninterface-name=en*;!eno9;\n[ipv4]\nmethod=link-local\n[ipv6]\nmethod=dhcp\n",
        "en*: DHCPv6\n",
    ),
    (
        "== x\n[connection]\ntype=ethernet\n[match]\ninterface-name=eno1;|eno2;&x;\ndriver=igb\n== y\n[connection]\ntype=ethernet\n[match]\ndriver=ixgbe;i40e;\n[ipv4]\nmethod=manual\naddress1=192.0.2.7/24\n== z\n[connection]\ntype=ethernet\n[match]\npath=pci-0000:01:00.0\n",
        "eno1 driver igb: DHCP, IPv6 from routers\neno2 driver igb: DHCP, IPv6 from routers\ndriver ixgbe: IPv6 from routers, 192.0.2.7/24\n! /etc/NetworkManager/system-connections/y: it is for one of several NICs: driver ixgbe is taken\n! /etc/NetworkManager/system-connections/z: path=pci-0000:01:00.0 is not compared: left out\n",
    ),
    // Before 0.9.8.
    (
        "== x\n[connection]\ntype=802-3-ethernet\ninterface-name=eth3\n[ipv4]\nmethod=manual\naddresses1=192.0.2.7;24;192.0.2.1;\naddresses2=192.0.2.8;24;0.0.0.0;\nroutes1=10.9.0.0;16;192.0.2.9;1;\n",
        "eth3: IPv6 from routers, 192.0.2.7/24, 192.0.2.8/24, gateway 192.0.2.1, 10.9.0.0/16 by 192.0.2.9 metric 1\n",
    ),
    // VLANs, bonds, bridges, teams.
    (
        "== vlan.nmconnection\n[connection]\nid=vlan10\ntype=vlan\ninterface-name=eno1.10\n[vlan]\nflags=1\nid=10\nparent=eno1\n[ipv4]\nmethod=manual\naddress1=192.0.2.7/24,192.0.2.1\n\
         \n== vlan11.nmconnection\n[connection]\nid=vlan11\ntype=vlan\n[vlan]\nid=11\nparent=2f0e5b1c-0000-4000-8000-000000000001\n[ipv4]\nmethod=auto\n\
         \n== wired.nmconnection\n[connection]\nid=wired\nuuid=2f0e5b1c-0000-4000-8000-000000000001\ntype=ethernet\n[ethernet]\nmac-address=52:54:00:12:34:56\n[ipv4]\nmethod=disabled\n[ipv6]\nmethod=disabled\n",
        "eno1.10: VLAN 10 on eno1, IPv6 from routers, 192.0.2.7/24, gateway 192.0.2.1\nlan2.11: VLAN 11 on lan2, DHCP, IPv6 from routers\n52:54:00:12:34:56, to be called lan2: no DHCP\n",
    ),
    (
        "== bond0.nmconnection\n[connection]\nid=bond0\nuuid=b1\ntype=bond\ninterface-name=bond0\n[bond]\nmode=802.3ad\nmiimon=100\nlacp_rate=fast\nxmit_hash_policy=layer3+4\n[ipv4]\nmethod=auto\n[ipv6]\nmethod=auto\n\
         \n== p1.nmconnection\n[connection]\nid=p1\ntype=ethernet\ninterface-name=eno1\nmaster=bond0\nslave-type=bond\n\
         \n== p2.nmconnection\n[connection]\nid=p2\ntype=ethernet\ncontroller=b1\nport-type=bond\n[ethernet]\nmac-address=52:54:00:12:34:56\nmtu=9000\n",
        "bond0: bond of eno1 52:54:00:12:34:56 mode=802.3ad miimon=100 lacp_rate=fast xmit_hash_policy=layer3+4, DHCP, IPv6 from routers\n52:54:00:12:34:56: MTU 9000, no DHCP\n",
    ),
    (
        "== br.nmconnection\n[connection]\nid=br0\ntype=bridge\ninterface-name=br0\n[bridge]\nstp=false\nmac-address=52:54:00:12:34:56\n\
         \n== port.nmconnection\n[connection]\nid=port\ntype=bond\ninterface-name=bond0\nmaster=br0\nslave-type=bridge\n[bond]\nmode=1\n\
         \n== nic.nmconnection\n[connection]\nid=nic\ntype=ethernet\ninterface-name=eno1\nmaster=bond0\nslave-type=bond\n",
        "br0: bridge of bond0, MAC 52:54:00:12:34:56, DHCP, IPv6 from routers\nbond0: bond of eno1 mode=active-backup miimon=100, no DHCP\n",
    ),
    (
        "== t.nmconnection\n[connection]\nid=t\ntype=team\ninterface-name=team0\n[team]\nconfig={\"runner\": {\"name\": \"lacp\"}}\n\
         \n== nic.nmconnection\n[connection]\nid=nic\ntype=ethernet\ninterface-name=eno1\nmaster=team0\nslave-type=team\n",
        "team0: bond of eno1 mode=802.3ad miimon=100, DHCP, IPv6 from routers\n",
    ),
    // What is not for a rescue, and what cannot be used.
    (
        "== lo.nmconnection\n[connection]\nid=lo\ntype=loopback\ninterface-name=lo\n\
         \n== wifi.nmconnection\n[connection]\nid=home\ntype=wifi\n[wifi-security]\npsk=secret\n\
         \n== off.nmconnection\n[connection]\nid=off\ntype=ethernet\nautoconnect=false\n\
         \n== old.nmconnection.rpmsave\n[connection]\ntype=ethernet\n\
         \n== v.nmconnection\n[connection]\nid=v\ntype=vlan\n[vlan]\nid=7\nparent=0e5b1c00-0000-4000-8000-000000000001\n\
         \n== w.nmconnection\n[connection]\nid=w\ntype=ethernet\ninterface-name=eno1\nmaster=gone\nslave-type=bond\n[ipv4]\nmethod=shared\naddress1=x\nroute1=10.0.0.0/8,192.0.2.1\nroute1_options=table=7\n",
        "! /etc/NetworkManager/system-connections/off.nmconnection: it is not connected by itself: left out\n\
         ! /etc/NetworkManager/system-connections/w.nmconnection: the method \"shared\" of IPv4 is not done here\n\
         ! /etc/NetworkManager/system-connections/w.nmconnection: x is not an address that an interface can have\n\
         ! /etc/NetworkManager/system-connections/w.nmconnection: the route to 10.0.0.0/8 is of table 7: left out\n\
         ! /etc/NetworkManager/system-connections/wifi.nmconnection: the type \"wifi\" is not made here: left out\n\
         ! /etc/NetworkManager/system-connections/v.nmconnection: 0e5b1c00-0000-4000-8000-000000000001 is not an interface's name\n\
         ! /etc/NetworkManager/system-connections/w.nmconnection: its controller gone is not described\n",
    ),
];

fn shown_plan(text: &str) -> String {
    let disk = Disk::of(&format!("\n{text}").replace("\n== ", &format!("\n== {}/", DIRECTORIES[0])));
    let mut plan = Plan::default();
    read(&files(&disk, &mut plan)).to_string()
}

#[test]
fn each_example_is_the_plan_that_networkmanager_would_carry_out() {
    check(CASES, shown_plan);
}

#[test]
fn a_profile_of_etc_stands_for_one_of_usr() {
    let profile = |address: &str| {
        format!(
            "[connection]\ntype=ethernet\n[ipv4]\nmethod=manual\naddress1={address}/24\n[ipv6]\nmethod=disabled\n"
        )
    };
    let disk = Disk::of(&format!(
        "== {}/a.nmconnection\n{}\n== {}/a.nmconnection\n{}",
        DIRECTORIES[2],
        profile("192.0.2.8"),
        DIRECTORIES[0],
        profile("192.0.2.7")
    ));
    let mut plan = Plan::default();
    assert_eq!(read(&files(&disk, &mut plan)).to_string(), "the first NIC: no DHCP, 192.0.2.7/24\n");
}

proptest! {
    // The words of these are many; `make fuzz` goes further.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_files_panic(
        lines in prop::collection::vec("(== [abc]\n|\\[connection\\]\n|\\[ipv4\\]\n|\\[vlan\\]\n|\\[bond\\]\n|type=(ethernet|vlan|bond|bridge|team)\n|id=[abc7]\n|uuid=[abc]\n|interface-name=[abc]\n|master=[abc]\nslave-type=bond\n|parent=[abc]\n|method=(auto|manual)\n|address1=(192.0.2.7/24,192.0.2.1|::1|,|)\n|route1=(default|10.0.0.0/8),[:1-9]*,7\n|mode=1\n|config=[{}\\[\"]{0,5}\n)", 0..40)
    ) {
        let _ = shown_plan(&lines.concat());
    }
}
