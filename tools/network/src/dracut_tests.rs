use super::*;
use contract::cmdline::words;
use proptest::prelude::*;

/// (words, the plan as it is shown)
const CASES: &[(&str, &str)] = &[
    ("", ""),
    // Methods for every NIC.
    ("ip=dhcp", "other NICs: DHCP, IPv6 from routers\n"),
    ("ip=on", "other NICs: DHCP, IPv6 from routers\n"),
    ("ip=any", "other NICs: DHCP, IPv6 from routers\n"),
    ("ip=off", "other NICs: no DHCP\n"),
    ("ip=none", "other NICs: no DHCP\n"),
    ("ip=dhcp6", "other NICs: DHCPv6\n"),
    ("ip=auto6", "other NICs: IPv6 from routers\n"),
    ("ip=either6", "other NICs: IPv6 from routers or DHCPv6\n"),
    ("ip=link6", "other NICs: IPv6 on the link alone\n"),
    ("ip=link-local", "other NICs: IPv6 on the link alone\n"),
    ("ip=single-dhcp", "other NICs: DHCP, IPv6 from routers, until one has a lease\n"),
    ("ip=dhcp,dhcp6", "other NICs: DHCP, DHCPv6\n"),
    ("ip=dhcp ip=dhcp6", "other NICs: DHCP, DHCPv6\n"),
    ("ip=::::::dhcp", "other NICs: DHCP, IPv6 from routers\n"),
    ("ip=:::::", "other NICs: DHCP, IPv6 from routers\n"),
    ("ip=both", "other NICs: DHCP, IPv6 from routers\n"),
    ("ip=bootp", "other NICs: DHCP, IPv6 from routers\n"),
    ("ip=rarp", "other NICs: DHCP, IPv6 from routers\n"),
    ("ip=auto6,dhcp", "other NICs: DHCP, IPv6 from routers\n"),
    ("ip=::::rescue1::dhcp", "other NICs: DHCP, IPv6 from routers\nhost name rescue1\n"),
    // The network is always needed, and waited for as long as it takes.
    ("rd.neednet=1 rd.net.timeout.dhcp=10 rd.net.timeout.iflink=60 rd.net.timeout.carrier=5", ""),
    ("rd.net.timeout.route=3 rd.net.timeout.ipv6dad=3 rd.net.timeout.ipv6auto=4 rd.net.dhcp.retry=4", ""),
    ("net.ifnames=0 biosdevname=0 rd.iscsi.ibft=0", ""),
    ("ip=dhcp rd.neednet=0 rd.net.timeout.ifup=20", "other NICs: DHCP, IPv6 from routers\n"),
    // One NIC.
    ("ip=eth0:dhcp", "eth0: DHCP, IPv6 from routers\n"),
    ("ip=eth0:off", "eth0: no DHCP\n"),
    ("ip=eth0:dhcp6", "eth0: DHCPv6\n"),
    ("ip=eth0:auto6", "eth0: IPv6 from routers\n"),
    ("ip=eth0:link6", "eth0: IPv6 on the link alone\n"),
    ("ip=eth0:either6", "eth0: IPv6 from routers or DHCPv6\n"),
    ("ip=eth0:any", "eth0: DHCP, IPv6 from routers\n"),
    ("ip=:::::eth0:dhcp", "eth0: DHCP, IPv6 from routers\n"),
    ("ip=:::::eth0:both:192.0.2.53", "eth0: DHCP, IPv6 from routers, DNS 192.0.2.53\n"),
    ("ip=eth0:dhcp ip=eth0:dhcp6", "eth0: DHCP, DHCPv6\n"),
    ("ip=eth0:dhcp,dhcp6", "eth0: DHCP, DHCPv6\n"),
    ("ip=eth0:dhcp:9000", "eth0: MTU 9000, DHCP, IPv6 from routers\n"),
    ("ip=eth0:dhcp::52:54:00:12:34:56", "eth0: MAC 52:54:00:12:34:56, DHCP, IPv6 from routers\n"),
    (
        "ip=eth0:dhcp:1400:52:54:00:12:34:56",
        "eth0: MAC 52:54:00:12:34:56, MTU 1400, DHCP, IPv6 from routers\n",
    ),
    ("ip=off ip=eth1:dhcp", "eth1: DHCP, IPv6 from routers\nother NICs: no DHCP\n"),
    (
        "ip=BOOTIF:dhcp BOOTIF=01-52-54-00-12-34-56",
        "52:54:00:12:34:56: DHCP, IPv6 from routers\npreferred: 52:54:00:12:34:56\n",
    ),
    (
        "ip=BOOTIF:dhcp6 BOOTIF=01-52-54-00-12-34-56 bootdev=eth1",
        "52:54:00:12:34:56: DHCPv6\npreferred: eth1\n",
    ),
    // Addresses.
    (
        "ip=192.0.2.7::192.0.2.1:255.255.255.0:db1:eth0:off",
        "eth0: no DHCP, 192.0.2.7/24, gateway 192.0.2.1\nhost name db1\n",
    ),
    ("ip=192.0.2.7::192.0.2.1:24::eth0:none", "eth0: no DHCP, 192.0.2.7/24, gateway 192.0.2.1\n"),
    ("ip=192.0.2.7/25::192.0.2.1:::eth0:none", "eth0: no DHCP, 192.0.2.7/25, gateway 192.0.2.1\n"),
    ("ip=192.0.2.7::192.0.2.1:255.255.255.0::eth0", "eth0: no DHCP, 192.0.2.7/24, gateway 192.0.2.1\n"),
    ("ip=192.0.2.7::192.0.2.1:255.255.255.0", "the first NIC: no DHCP, 192.0.2.7/24, gateway 192.0.2.1\n"),
    (
        "ip=192.0.2.7::192.0.2.1:24::eth0:none:9000:52:54:00:12:34:56",
        "eth0: MAC 52:54:00:12:34:56, MTU 9000, no DHCP, 192.0.2.7/24, gateway 192.0.2.1\n",
    ),
    (
        "ip=192.0.2.7::192.0.2.1:24::eth0:none::52:54:00:12:34:56",
        "eth0: MAC 52:54:00:12:34:56, no DHCP, 192.0.2.7/24, gateway 192.0.2.1\n",
    ),
    (
        "ip=192.0.2.7::192.0.2.1:24::eth0:none:192.0.2.53",
        "eth0: no DHCP, 192.0.2.7/24, gateway 192.0.2.1, DNS 192.0.2.53\n",
    ),
    (
        "ip=192.0.2.7::192.0.2.1:24::eth0:none:192.0.2.53:192.0.2.54:192.0.2.123",
        "eth0: no DHCP, 192.0.2.7/24, gateway 192.0.2.1, DNS 192.0.2.53 192.0.2.54, NTP 192.0.2.123\n",
    ),
    (
        "ip=192.0.2.7::192.0.2.1:24::eth0:none::192.0.2.54",
        "eth0: no DHCP, 192.0.2.7/24, gateway 192.0.2.1, DNS 192.0.2.54\n",
    ),
    ("ip=192.0.2.7::192.0.2.1:24::eth0:none::", "eth0: no DHCP, 192.0.2.7/24, gateway 192.0.2.1\n"),
    ("ip=192.0.2.7:::24::eth0:none:1500::", "eth0: MTU 1500, no DHCP, 192.0.2.7/24\n"),
    (
        "ip=192.0.2.7:::24::eth0:none:192.0.2.53,192.0.2.54",
        "eth0: no DHCP, 192.0.2.7/24, DNS 192.0.2.53 192.0.2.54\n",
    ),
    ("ip=192.0.2.7:::24::eth0:none:::192.0.2.123", "eth0: no DHCP, 192.0.2.7/24, NTP 192.0.2.123\n"),
    (
        "ip=192.0.2.7::192.0.2.1:24::eth0:none:[2001:db8::53]:[2001:db8::54]",
        "eth0: no DHCP, 192.0.2.7/24, gateway 192.0.2.1, DNS 2001:db8::53 2001:db8::54\n",
    ),
    (
        "ip=[2001:db8::7]::[2001:db8::1]:64::eth0:off",
        "eth0: IPv6 on the link alone, 2001:db8::7/64, gateway 2001:db8::1\n",
    ),
    (
        "ip=[2001:db8::7]::[fe80::1]:64::eth0:auto6",
        "eth0: IPv6 from routers, 2001:db8::7/64, gateway fe80::1\n",
    ),
    (
        "ip=192.0.2.7::192.0.2.1:24::eth0:off ip=[2001:db8::7]::[2001:db8::1]:64::eth0:off",
        "eth0: IPv6 on the link alone, 192.0.2.7/24, 2001:db8::7/64, gateway 192.0.2.1, gateway 2001:db8::1\n",
    ),
    (
        "ip=192.0.2.7::192.0.2.1:24::eth0:off ip=192.0.2.8:::24::eth0:off",
        "eth0: no DHCP, 192.0.2.7/24, 192.0.2.8/24, gateway 192.0.2.1\n",
    ),
    // A gateway in another net, a point-to-point link, the kernel's boot server.
    (
        "ip=192.0.2.7:192.0.2.1/32:192.0.2.1:255.255.255.255::eth0:off",
        "eth0: no DHCP, 192.0.2.7/32 peer 192.0.2.1, gateway 192.0.2.1\n",
    ),
    (
        "ip=10.0.0.2:10.0.0.1/24:10.0.0.1:255.255.255.255::eth0:off",
        "eth0: no DHCP, 10.0.0.2/32 peer 10.0.0.1, 10.0.0.0/24 on the link from 10.0.0.2, gateway 10.0.0.1\n",
    ),
    (
        "ip=[2001:db8::7]:[2001:db8::1/64]:[2001:db8::1]:::eth0:off",
        "eth0: IPv6 on the link alone, 2001:db8::7/128 peer 2001:db8::1, 2001:db8::/64 on the link from 2001:db8::7, gateway 2001:db8::1\n",
    ),
    // As Alpine's netboot guides have it.
    (
        "ip=192.0.2.7:none:192.0.2.1:255.255.255.0:db1::none:192.0.2.53",
        "the first NIC: no DHCP, 192.0.2.7/24, gateway 192.0.2.1, DNS 192.0.2.53\nhost name db1\n",
    ),
    (
        "ip=192.0.2.7::172.31.1.1:255.255.255.255::eth0:off",
        "eth0: no DHCP, 192.0.2.7/32, gateway 172.31.1.1\n",
    ),
    (
        "ip=192.0.2.7:192.0.2.1:192.0.2.1:255.255.255.255::eth0:off",
        "eth0: no DHCP, 192.0.2.7/32 peer 192.0.2.1, gateway 192.0.2.1\n",
    ),
    (
        "ip=192.0.2.7:198.51.100.9:192.0.2.1:255.255.255.0:db1:eth0:off:192.0.2.53::192.0.2.123",
        "eth0: no DHCP, 192.0.2.7/24, gateway 192.0.2.1, DNS 192.0.2.53, NTP 192.0.2.123\nhost name db1\n",
    ),
    ("ip=192.0.2.7::0.0.0.0:24::eth0:off", "eth0: no DHCP, 192.0.2.7/24\n"),
    ("ip=::::db1:eth0:dhcp", "eth0: DHCP, IPv6 from routers\nhost name db1\n"),
    ("ip=::::db1:eth0:none", "eth0: no DHCP\nhost name db1\n"),
    // Names, VLANs, bonds, teams, bridges.
    ("ifname=lan0:52:54:00:12:34:56", "52:54:00:12:34:56, to be called lan0: DHCP, IPv6 from routers\n"),
    (
        "ifname=lan0:52:54:00:12:34:56 ip=192.0.2.7:::24::lan0:off",
        "52:54:00:12:34:56, to be called lan0: no DHCP, 192.0.2.7/24\n",
    ),
    ("vlan=vlan5:eth0", "vlan5: VLAN 5 on eth0, DHCP, IPv6 from routers\n"),
    ("vlan=vlan0005:eth0", "vlan0005: VLAN 5 on eth0, DHCP, IPv6 from routers\n"),
    ("vlan=eth0.100:eth0", "eth0.100: VLAN 100 on eth0, DHCP, IPv6 from routers\n"),
    ("vlan=eth0.0100:eth0", "eth0.0100: VLAN 100 on eth0, DHCP, IPv6 from routers\n"),
    (
        "vlan=vlan5:BOOTIF BOOTIF=01-52-54-00-12-34-56",
        "52:54:00:12:34:56, to be called lan0: DHCP, IPv6 from routers\nvlan5: VLAN 5 on lan0, DHCP, IPv6 from routers\npreferred: 52:54:00:12:34:56\n",
    ),
    (
        "vlan=a.5:52-54-00-12-34-56 vlan=b.6:52:54:00:12:34:57 vlan=c.7:52-54-00-12-34-57 ip=52-54-00-12-34-57:off",
        "52:54:00:12:34:56, to be called lan0: DHCP, IPv6 from routers\na.5: VLAN 5 on lan0, DHCP, IPv6 from routers\n52:54:00:12:34:57, to be called lan1: no DHCP\nb.6: VLAN 6 on lan1, DHCP, IPv6 from routers\nc.7: VLAN 7 on lan1, DHCP, IPv6 from routers\n",
    ),
    (
        "vlan=vlan5:lan7 ifname=lan7:52:54:00:12:34:56",
        "52:54:00:12:34:56, to be called lan7: DHCP, IPv6 from routers\nvlan5: VLAN 5 on lan7, DHCP, IPv6 from routers\n",
    ),
    (
        "vlan=eth0.100:eth0 ip=192.0.2.7::192.0.2.1:24::eth0.100:off",
        "eth0.100: VLAN 100 on eth0, no DHCP, 192.0.2.7/24, gateway 192.0.2.1\n",
    ),
    ("bond=", "bond0: bond of eth0 eth1 mode=balance-rr miimon=100, DHCP, IPv6 from routers\n"),
    ("bond=bond1", "bond1: bond of eth0 eth1 mode=balance-rr miimon=100, DHCP, IPv6 from routers\n"),
    (
        "bond=bond0:eno1,eno2:mode=802.3ad,miimon=100,lacp_rate=fast:9000 ip=bond0:dhcp",
        "bond0: bond of eno1 eno2 mode=802.3ad miimon=100 lacp_rate=fast, MTU 9000, DHCP, IPv6 from routers\n",
    ),
    (
        "bond=bond0:eno1,eno2:mode=1,arp_interval=200,arp_ip_target=192.0.2.1;192.0.2.2",
        "bond0: bond of eno1 eno2 mode=active-backup arp_interval=200 arp_ip_target=192.0.2.1,192.0.2.2, DHCP, IPv6 from routers\n",
    ),
    (
        "bond=bond0:eth0,eth1 vlan=bond0.7:bond0 ip=bond0:off ip=192.0.2.7::192.0.2.1:24::bond0.7:off",
        "bond0.7: VLAN 7 on bond0, no DHCP, 192.0.2.7/24, gateway 192.0.2.1\nbond0: bond of eth0 eth1 mode=balance-rr miimon=100, no DHCP\n",
    ),
    (
        "team=team0:eth0,eth1",
        "team0: bond of eth0 eth1 mode=active-backup miimon=100, DHCP, IPv6 from routers\n",
    ),
    ("team=", "team0: bond of eth0 eth1 mode=active-backup miimon=100, DHCP, IPv6 from routers\n"),
    (
        "bond=bond0:BOOTIF,eth1:mode=4,xmit_hash_policy=layer3+4 BOOTIF=01-52-54-00-12-34-56",
        "bond0: bond of 52:54:00:12:34:56 eth1 mode=802.3ad xmit_hash_policy=layer3+4 miimon=100, DHCP, IPv6 from routers\npreferred: 52:54:00:12:34:56\n",
    ),
    (
        "bond=bond0:eth0,eth1:mode=balance-rr,packets_per_slave=4",
        "bond0: bond of eth0 eth1 mode=balance-rr packets_per_slave=4 miimon=100, DHCP, IPv6 from routers\n",
    ),
    (
        "bond=bond0:eth0,eth1:mode=balance-xor,xmit_hash_policy=layer2+3",
        "bond0: bond of eth0 eth1 mode=balance-xor xmit_hash_policy=layer2+3 miimon=100, DHCP, IPv6 from routers\n",
    ),
    (
        "bond=bond0:eth0,eth1:mode=broadcast",
        "bond0: bond of eth0 eth1 mode=broadcast miimon=100, DHCP, IPv6 from routers\n",
    ),
    (
        "bond=bond0:eth0,eth1:mode=balance-tlb,tlb_dynamic_lb=0",
        "bond0: bond of eth0 eth1 mode=balance-tlb tlb_dynamic_lb=0 miimon=100, DHCP, IPv6 from routers\n",
    ),
    (
        "bond=bond0:eth0,eth1:mode=balance-alb,miimon=50",
        "bond0: bond of eth0 eth1 mode=balance-alb miimon=50, DHCP, IPv6 from routers\n",
    ),
    (
        "bond=b0:eth0:mode=0 bond=b2:eth2:mode=2 bond=b3:eth3:mode=3 bond=b5:eth5:mode=5 bond=b6:eth6:mode=6",
        "b0: bond of eth0 mode=balance-rr miimon=100, DHCP, IPv6 from routers\nb2: bond of eth2 mode=balance-xor miimon=100, DHCP, IPv6 from routers\nb3: bond of eth3 mode=broadcast miimon=100, DHCP, IPv6 from routers\nb5: bond of eth5 mode=balance-tlb miimon=100, DHCP, IPv6 from routers\nb6: bond of eth6 mode=balance-alb miimon=100, DHCP, IPv6 from routers\n",
    ),
    (
        "bond=bond0:eth0,eth1::9000",
        "bond0: bond of eth0 eth1 mode=balance-rr miimon=100, MTU 9000, DHCP, IPv6 from routers\n",
    ),
    (
        "team=team0:eth0,eth1:lacp",
        "team0: bond of eth0 eth1 mode=802.3ad miimon=100, DHCP, IPv6 from routers\n",
    ),
    ("bridge=br0:eth0", "br0: bridge of eth0, DHCP, IPv6 from routers\n"),
    ("bridge=", "br0: bridge of eth0, DHCP, IPv6 from routers\n"),
    ("bridge=br0:eth0,eth1 ip=192.0.2.7:::24::br0:off", "br0: bridge of eth0 eth1, no DHCP, 192.0.2.7/24\n"),
    (
        "bridge=br0:bond0 bond=bond0:eth0,eth1:mode=1",
        "bond0: bond of eth0 eth1 mode=active-backup miimon=100, no DHCP\nbr0: bridge of bond0, DHCP, IPv6 from routers\n",
    ),
    // Routes, name servers, which NIC.
    ("rd.route=10.0.0.0/8:192.0.2.1", "route 10.0.0.0/8 by 192.0.2.1\n"),
    ("rd.route=10.0.0.0/8:192.0.2.1:eth0", "eth0: DHCP, IPv6 from routers, 10.0.0.0/8 by 192.0.2.1\n"),
    ("rd.route=10.0.0.0/8::eth0", "eth0: DHCP, IPv6 from routers, 10.0.0.0/8 on the link\n"),
    ("rd.route=10.1.2.3/8:192.0.2.1", "route 10.0.0.0/8 by 192.0.2.1\n"),
    ("rd.route=10.0.0.0/255.0.0.0:192.0.2.1", "route 10.0.0.0/8 by 192.0.2.1\n"),
    ("rd.route=default:192.0.2.1:eth0", "eth0: DHCP, IPv6 from routers, gateway 192.0.2.1\n"),
    ("rd.route=default:[fe80::1]:eth0", "eth0: DHCP, IPv6 from routers, gateway fe80::1\n"),
    ("rd.route=10.0.0.0/8:0.0.0.0:eth0", "eth0: DHCP, IPv6 from routers, 10.0.0.0/8 on the link\n"),
    (
        "rd.route=[2001:DB8:3::/48]:[2001:DB8:2::1]:ens10",
        "ens10: DHCP, IPv6 from routers, 2001:db8:3::/48 by 2001:db8:2::1\n",
    ),
    (
        "ip=192.0.2.7:::24::eth0:off rd.route=10.0.0.0/8:192.0.2.1",
        "eth0: no DHCP, 192.0.2.7/24, 10.0.0.0/8 by 192.0.2.1\n",
    ),
    ("nameserver=192.0.2.53 nameserver=[2001:db8::53]", "DNS 192.0.2.53 2001:db8::53\n"),
    ("nameserver=192.0.2.53,192.0.2.54 nameserver=192.0.2.53", "DNS 192.0.2.53 192.0.2.54\n"),
    ("nameserver=2001:db8::53 rd.peerdns=0", "DNS 2001:db8::53\nDNS of leases and routers is not used\n"),
    ("BOOTIF=01-52-54-00-12-34-56", "preferred: 52:54:00:12:34:56\n"),
    ("BOOTIF=01-52-54-00-12-34-56 rd.bootif=0", ""),
    ("bootdev=eno1", "preferred: eno1\n"),
    ("bootdev=52:54:00:12:34:56", "preferred: 52:54:00:12:34:56\n"),
    ("bootdev=BOOTIF BOOTIF=01-52-54-00-12-34-56", "preferred: 52:54:00:12:34:56\n"),
    // Tinkerbell.
    (
        "ipam=52-54-00-12-34-56::192.0.2.7:255.255.255.0:192.0.2.1:db1:192.0.2.53,192.0.2.54:example.com:192.0.2.123",
        "52:54:00:12:34:56: no DHCP, 192.0.2.7/24, gateway 192.0.2.1, DNS 192.0.2.53 192.0.2.54, search example.com, NTP 192.0.2.123\nhost name db1\n",
    ),
    (
        "ipam=52-54-00-12-34-56:30:192.0.2.7:255.255.255.0:192.0.2.1::::",
        "52:54:00:12:34:56, to be called lan0: no DHCP\nlan0.30: VLAN 30 on lan0, no DHCP, 192.0.2.7/24, gateway 192.0.2.1\n",
    ),
    // What cannot be used is named, and the rest counts.
    ("ip=", "! ip=: nothing is said: DHCP is used\n"),
    (
        "ip=dhpc",
        "! ip=dhpc: dhpc is neither an address nor one of dhcp, dhcp6, auto6, either6, link6, single-dhcp, off: DHCP is used\n",
    ),
    (
        "ip=300.0.2.7::192.0.2.1:24::eth0:off",
        "! ip=300.0.2.7::192.0.2.1:24::eth0:off: 300.0.2.7 is not an address that an interface can have: DHCP is used\n",
    ),
    (
        "ip=192.0.2.7::192.0.2.1:255.0.255.0::eth0:off",
        "eth0: no DHCP, 192.0.2.7/24, gateway 192.0.2.1\n! ip=192.0.2.7::192.0.2.1:255.0.255.0::eth0:off: 255.0.255.0 is not a netmask: /24 is taken\n",
    ),
    ("ip=10.0.2.7", "the first NIC: no DHCP, 10.0.2.7/8\n! ip=10.0.2.7: no netmask: /8 is taken\n"),
    (
        "ip=192.0.2.7::192.0.2.7:24::eth0:off",
        "eth0: no DHCP, 192.0.2.7/24\n! ip=192.0.2.7::192.0.2.7:24::eth0:off: 192.0.2.7 is the address itself: it is no gateway\n",
    ),
    (
        "ip=192.0.2.7::2001:24::eth0:off",
        "eth0: no DHCP, 192.0.2.7/24\n! ip=192.0.2.7::2001:24::eth0:off: 2001 is not an address: there is no gateway\n",
    ),
    ("ip=eth0:dhcp:12", "eth0: DHCP, IPv6 from routers\n! ip=eth0:dhcp:12: 12 is not an MTU\n"),
    (
        "ip=eth0:ibft",
        "eth0: DHCP, IPv6 from routers\n! ip=eth0:ibft: the firmware's iSCSI table is not read: DHCP is used\n",
    ),
    ("ip=a/b:dhcp", "! ip=a/b:dhcp: a/b is not an interface's name\n"),
    ("ip=BOOTIF:dhcp", "! ip=BOOTIF:dhcp: BOOTIF= does not say which interface that is\n"),
    ("vlan=uplink:eth0", "! vlan=uplink:eth0: uplink does not end in an identifier of 1 to 4094\n"),
    ("vlan=vlan4095:eth0", "! vlan=vlan4095:eth0: vlan4095 does not end in an identifier of 1 to 4094\n"),
    ("vlan=vlan5", "! vlan=vlan5: not NAME:LINK, such as vlan5:eth0\n"),
    (
        "bond=bond0:eth0:mode=fast,colour=red",
        "bond0: bond of eth0 mode=balance-rr miimon=100, DHCP, IPv6 from routers\n! bond=bond0:eth0:mode=fast,colour=red: the bonding driver has no mode fast\n! bond=bond0:eth0:mode=fast,colour=red: the bonding driver has no option colour\n",
    ),
    (
        "team=team0:eth0:random",
        "team0: bond of eth0 mode=active-backup miimon=100, DHCP, IPv6 from routers\n! team=team0:eth0:random: no bond is equal to the runner random: active-backup is used\n",
    ),
    (
        "bond=br0:br1 bridge=br1:br0",
        "! br0 stands on itself (bond=br0:br1): left out\n! br1 stands on itself (bridge=br1:br0): left out\n",
    ),
    (
        "rd.route=10.0.0.0/8",
        "! rd.route=10.0.0.0/8: not NETWORK/LENGTH:GATEWAY[:INTERFACE], such as 10.0.0.0/8:192.0.2.1:eth0\n",
    ),
    (
        "rd.route=10.0.0.0/8:[2001:db8::1]",
        "! rd.route=10.0.0.0/8:[2001:db8::1]: [2001:db8::1] is no gateway for it\n",
    ),
    ("nameserver=dns.example", "! nameserver=dns.example: not an address\n"),
    ("ifname=lan0", "! ifname=lan0: not NAME:MAC, such as lan0:52:54:00:12:34:56\n"),
    ("BOOTIF=zz", "! BOOTIF=zz: not a MAC address, such as 01-52-54-00-12-34-56\n"),
    ("ipam=x", "! ipam=x: x is not a MAC address\n"),
    ("ipam=52-54-00-12-34-56:5:::::::", "! ipam=52-54-00-12-34-56:5:::::::: no address is said\n"),
    (
        "ipam=52-54-00-12-34-56::192.0.2.7:24:192.0.2:a/b:dns:-:n/a",
        "52:54:00:12:34:56: no DHCP, 192.0.2.7/24\n! ipam=52-54-00-12-34-56::192.0.2.7:24:192.0.2:a/b:dns:-:n/a: 192.0.2 is no gateway for it; dns is no address of a name server; - is no domain; n/a is no time server; a/b is not a host name\n",
    ),
    (
        "ip=2001:db8::7::2001:db8::1:64::eth0:off",
        "! ip=2001:db8::7::2001:db8::1:64::eth0:off: 2001 is not an address that an interface can have (IPv6 addresses stand in brackets): DHCP is used\n",
    ),
    ("bootdev=a/b", "! bootdev=a/b: a/b is not an interface's name\n"),
    ("vlan=vlan5:a/b", "! vlan=vlan5:a/b: a/b is not an interface's name\n"),
    (
        "ifname=lan0:52:54:00:12:34:56 ifname=lan0:52:54:00:12:34:57",
        "52:54:00:12:34:56, to be called lan0: DHCP, IPv6 from routers\n! ifname=lan0:52:54:00:12:34:57: another NIC has this name already\n",
    ),
    // What is not served is said.
    (
        "rd.iscsi.ibft rd.znet=qeth,0.0.0600,0.0.0601,0.0.0602 rd.ethtool=eth0:off ib.pkey=ib0.8004",
        "! ib.pkey=ib0.8004: InfiniBand is not served\n! rd.ethtool=eth0:off: the card is left as its driver has it\n! rd.iscsi.ibft=: the firmware's iSCSI table is not read\n! rd.znet=qeth,0.0.0600,0.0.0601,0.0.0602: it is about IBM Z alone\n",
    ),
];

#[test]
fn each_form_of_each_parameter_is_the_plan_that_its_manual_describes() {
    let mut wrong = String::new();
    for (line, want) in CASES {
        let got = read(&words(line)).to_string();
        if got != *want {
            wrong += &format!("{line}\n  got  {got:?}\n  want {want:?}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn a_newer_plan_stands_in_the_place_of_what_it_speaks_of_alone() {
    let plan = |line: &str| read(&words(line));
    let mut old =
        plan("ip=eth0:dhcp ip=192.0.2.7:::24::eth1:off nameserver=192.0.2.53 ifname=lan0:02:00:00:00:00:01");
    old.replace_by(plan("ip=198.51.100.7:::24::eth1:off ip=lan0:off"));
    assert_eq!(
        old.to_string(),
        "eth1: no DHCP, 198.51.100.7/24\nlan0: no DHCP\neth0: DHCP, IPv6 from routers\nDNS 192.0.2.53\n"
    );
}

#[test]
fn an_address_that_is_set_anew_leaves_a_bond_one() {
    let plan = |line: &str| read(&words(line));
    let mut old = plan("bond=bond0:eth0,eth1 vlan=bond0.7:bond0 ip=bond0.7:dhcp");
    old.replace_by(plan("ip=192.0.2.7:::24::bond0:off ip=bond0.7:off"));
    assert_eq!(
        old.to_string(),
        "bond0: bond of eth0 eth1 mode=balance-rr miimon=100, no DHCP, 192.0.2.7/24\nbond0.7: VLAN 7 on bond0, no DHCP\n"
    );
    old.replace_by(plan("bridge=bond0:eth0"));
    assert!(old.to_string().starts_with("bond0: bridge of eth0"), "{old}");
}

#[test]
fn the_tables_are_sorted() {
    assert!(BOND_OPTIONS.is_sorted() && UNSERVED.is_sorted());
}

#[test]
fn a_machine_of_a_thousand_interfaces_is_no_machine() {
    let line: String = (0..1000).map(|n| format!("ip=eth{n}:dhcp ")).collect();
    let plan = read(&words(&line));
    assert_eq!((plan.links.len(), plan.problems.len()), (crate::MOST_LINKS, 1));
}

proptest! {
    #[test]
    fn no_line_panics(line in "((ip|vlan|bond|team|bridge|ifname|rd.route|ipam|nameserver|BOOTIF)=[a-z0-9:.,\\[\\]/-]{0,30} ){0,4}") {
        let _ = read(&words(&line)).to_string();
    }
}
