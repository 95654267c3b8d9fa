//! What is asked of the network, from every source. The input is text; for sources that are many files it is a disk as a
//! text (`network::disk`): `== PATH` begins a file.

use network::disk::Disk;
use network::source::File;
use network::{
    Plan, borrow, cloud, dracut, ifcfg, ifupdown, keyfile, netplan, networkd, openstack, wicked, yaml,
};

/// Whatever was read, it can be shown.
fn show(plan: &Plan) {
    let _ = plan.to_string();
}

fn text(input: &[u8]) -> String {
    String::from_utf8_lossy(input).into_owned()
}

pub fn dracut(input: &[u8]) {
    show(&dracut::read(&contract::cmdline::words(&text(input))));
}

pub fn yaml(input: &[u8]) {
    let _ = yaml::parse(&text(input)); // any answer is one
}

pub fn netplan(input: &[u8]) {
    // Two files, to have them merged.
    let text = text(input);
    let (first, second) = text.split_once("\n== \n").unwrap_or((&text, ""));
    show(&netplan::read(&[
        File::new("/etc/netplan/1.yaml", first),
        File::new("/etc/netplan/2.yaml", second),
    ]));
}

pub fn cloud(input: &[u8]) {
    show(&cloud::read(&File::new("network-config", &text(input))));
}

pub fn openstack(input: &[u8]) {
    show(&openstack::read(&File::new("network_data.json", &text(input))));
}

pub fn networkd(input: &[u8]) {
    show(&networkd::read(&Disk::of(&text(input))));
}

pub fn ifupdown(input: &[u8]) {
    show(&ifupdown::read(&Disk::of(&text(input))));
}

pub fn keyfile(input: &[u8]) {
    let mut plan = Plan::default();
    let files = keyfile::files(&Disk::of(&text(input)), &mut plan);
    show(&keyfile::read(&files));
}

pub fn ifcfg(input: &[u8]) {
    show(&ifcfg::read(&Disk::of(&text(input))));
}

pub fn wicked(input: &[u8]) {
    show(&wicked::read(&Disk::of(&text(input))));
}

pub fn borrow(input: &[u8]) {
    if let Some(borrowed) = borrow::borrow(&Disk::of(&text(input))) {
        let _ = borrowed.to_string();
    }
}

fn seeds(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

pub fn dracuts() -> Vec<Vec<u8>> {
    seeds(&[
        "ip=192.0.2.7::192.0.2.1:255.255.255.0:db1:eth0:off nameserver=192.0.2.53 rd.route=10.0.0.0/8:192.0.2.1:eth0",
        "bond=bond0:eno1,eno2:mode=802.3ad,miimon=100:9000 vlan=bond0.7:bond0 ip=bond0.7:dhcp ifname=lan0:52:54:00:12:34:56",
        "ip=[2001:db8::7]::[fe80::1]:64::eth0:auto6 bridge=br0:eth0 team=team0:eth1:lacp BOOTIF=01-52-54-00-12-34-56",
    ])
}

pub fn yamls() -> Vec<Vec<u8>> {
    seeds(&[
        "a: &x {m: 1, n: [1, 'two', \"th\\u0072ee\"]}\nb:\n  <<: *x\n  m: |\n    text\n",
        "{\"a\": [1, null, true], \"b\": {}}",
    ])
}

pub fn netplans() -> Vec<Vec<u8>> {
    seeds(&[
        "network:\n  version: 2\n  ethernets:\n    a: {match: {macaddress: '52:54:00:12:34:56'}, set-name: a, mtu: 9000}\n    b: {match: {name: 'en*', driver: [ixgbe]}, addresses: [192.0.2.7/24, {'2001:db8::7/64': {label: x}}], gateway4: 192.0.2.1, nameservers: {addresses: [192.0.2.53], search: [x.y]}, routes: [{to: default, via: 'fe80::1', on-link: true, metric: 7}]}\n  bonds:\n    bond0: {interfaces: [a, b], parameters: {mode: 802.3ad, mii-monitor-interval: 1s, arp-ip-targets: [192.0.2.1]}}\n  bridges:\n    br0: {interfaces: [bond0], parameters: {stp: false}}\n  vlans:\n    v: {id: 7, link: br0, dhcp4: true, dhcp6: true, accept-ra: false, link-local: []}\n\n== \nnetwork: {ethernets: {a: {mtu: 1400}}}\n",
    ])
}

pub fn clouds() -> Vec<Vec<u8>> {
    seeds(&[
        "version: 1\nconfig:\n- {type: physical, name: eth0, mac_address: '52:54:00:12:34:56', mtu: 1400, subnets: [{type: static, address: 192.0.2.7, netmask: 255.255.255.0, gateway: 192.0.2.1, dns_nameservers: [192.0.2.53], routes: [{network: 10.0.0.0, netmask: 255.0.0.0, gateway: 192.0.2.9}]}, {type: dhcp6}]}\n- {type: bond, name: bond0, bond_interfaces: [eth0, eth1], params: {bond-mode: 4}}\n- {type: vlan, name: bond0.7, vlan_link: bond0, vlan_id: 7}\n- {type: nameserver, address: 8.8.8.8, search: a.b}\n- {type: route, destination: 192.0.2.0/24, gateway: 192.0.2.1}\n",
        "network:\n  version: 2\n  ethernets: {eth0: {dhcp4: true}}\n",
    ])
}

pub fn openstacks() -> Vec<Vec<u8>> {
    seeds(&[
        r#"{"links": [{"id": "a", "type": "phy", "ethernet_mac_address": "52:54:00:12:34:56", "mtu": 1500}, {"id": "b", "type": "bond", "bond_links": ["a"], "bond_mode": "4"}, {"id": "c", "type": "vlan", "vlan_link": "b", "vlan_id": 7}], "networks": [{"id": "n", "link": "c", "type": "ipv4", "ip_address": "192.0.2.7", "netmask": "255.255.255.0", "gateway": "192.0.2.1", "routes": [{"network": "::", "netmask": "::", "gateway": "fe80::1"}], "services": [{"type": "dns", "address": "8.8.8.8"}]}, {"link": "a", "type": "ipv4_dhcp"}], "services": [{"type": "dns", "address": "::1"}]}"#,
    ])
}

pub fn networkds() -> Vec<Vec<u8>> {
    seeds(&[
        "== /etc/systemd/network/1.network\n[Match]\nMACAddress=52:54:00:12:34:56\n[Network]\nDHCP=yes\nVLAN=v\nAddress=192.0.2.7/24\nGateway=192.0.2.1\nDNS=192.0.2.53#x\nDomains=a ~b\n[Route]\nDestination=10.0.0.0/8\nGateway=192.0.2.9\nGatewayOnLink=yes\n[Address]\nAddress=192.0.2.8\nPeer=192.0.2.1/32\n\n== /etc/systemd/network/1.network.d/a.conf\n[Link]\nMTUBytes=9K\n\n== /etc/systemd/network/2.netdev\n[NetDev]\nName=v\nKind=vlan\n[VLAN]\nId=7\n\n== /etc/systemd/network/3.netdev\n[NetDev]\nName=bond0\nKind=bond\n[Bond]\nMode=802.3ad\nMIIMonitorSec=1s\n\n== /etc/systemd/network/4.network\n[Match]\nName=en* !eno1\nDriver=x\n[Network]\nBond=bond0\nPrimarySlave=yes\n",
    ])
}

pub fn ifupdowns() -> Vec<Vec<u8>> {
    seeds(&[
        "== /etc/network/interfaces\nsource interfaces.d/*\nauto eth0 bond0 br0 eth0.5\niface eth0 inet static\n address 192.0.2.7\n netmask 255.255.255.255\n pointopoint 192.0.2.1\n gateway 192.0.2.1\n up route add -net 10.0.0.0 netmask 255.0.0.0 gw 192.0.2.1 dev eth0 || true\n post-up ip -6 route add default via fe80::1 dev $IFACE metric 7\n up ip addr add 192.0.2.8/32 peer 192.0.2.9 dev eth0\niface eth0 inet6 static\n address 2001:db8::7/64\nauto bond0\niface bond0 inet dhcp\n bond-slaves eth1 eth2\n bond-mode 4\niface br0 inet manual\n bridge_ports bond0\niface eth0.5 inet6 auto\n\n== /etc/network/interfaces.d/a\nallow-hotplug eth3\niface eth3 inet dhcp\n hwaddress ether 52:54:00:12:34:56\n bond-master bond0\n",
    ])
}

pub fn keyfiles() -> Vec<Vec<u8>> {
    seeds(&[
        "== /etc/NetworkManager/system-connections/a\n[connection]\nid=a\nuuid=u\ntype=ethernet\ninterface-name=eno1\nmaster=b\nslave-type=bond\n[ethernet]\nmac-address=52:54:00:12:34:56\nmtu=9000\n[ipv4]\nmethod=manual\naddress1=192.0.2.7/24,192.0.2.1\nroute1=10.0.0.0/8,192.0.2.9,7\nroute1_options=src=192.0.2.7\ndns=192.0.2.53;\n[ipv6]\nmethod=auto\n\n== /etc/NetworkManager/system-connections/b\n[connection]\nid=b\ntype=bond\n[bond]\nmode=4\n\n== /etc/NetworkManager/system-connections/c\n[connection]\ntype=vlan\n[vlan]\nid=7\nparent=u\n\n== /etc/NetworkManager/system-connections/d\n[connection]\ntype=team\n[team]\nconfig={\"runner\": {\"name\": \"lacp\"}}\n",
    ])
}

pub fn ifcfgs() -> Vec<Vec<u8>> {
    seeds(&[
        "== /etc/sysconfig/network\nGATEWAY=192.0.2.1\nHOSTNAME=db1\n\n== /etc/sysconfig/network-scripts/ifcfg-eth0\nDEVICE=eth0\nHWADDR=\"52:54:00:12:34:56\"\nIPADDR0=192.0.2.7\nPREFIX0=24\nIPV6ADDR=2001:db8::7/64\nIPV6_DEFAULTGW=fe80::1%eth0\nDNS1='192.0.2.53'\nMASTER=bond0\n\n== /etc/sysconfig/network-scripts/route-eth0\n10.0.0.0/8 via 192.0.2.9 dev eth0\n\n== /etc/sysconfig/network-scripts/ifcfg-bond0\nDEVICE=bond0\nTYPE=Bond\nBONDING_OPTS=\"mode=4 miimon=100\"\nBOOTPROTO=dhcp\n\n== /etc/sysconfig/network-scripts/ifcfg-v\nTYPE=Vlan\nDEVICE=v\nPHYSDEV=bond0\nVLAN_ID=7\n\n== /etc/sysconfig/network-scripts/ifcfg-eth0:1\nIPADDR=192.0.2.8\n",
    ])
}

pub fn wickeds() -> Vec<Vec<u8>> {
    seeds(&[
        "== /etc/sysconfig/network/ifcfg-eth0\nSTARTMODE='auto'\nBOOTPROTO='dhcp4+static'\nIPADDR='192.0.2.7/24'\nIPADDR_x=2001:db8::7\nPREFIXLEN_x=64\nREMOTE_IPADDR=192.0.2.1\n\n== /etc/sysconfig/network/routes\ndefault 192.0.2.1 - -\n10.0.0.0 192.0.2.9 255.0.0.0 eth0 unicast metric 7\n\n== /etc/sysconfig/network/ifcfg-vlan7\nSTARTMODE=auto\nETHERDEVICE=bond0\n\n== /etc/sysconfig/network/ifcfg-bond0\nSTARTMODE=auto\nBONDING_MASTER=yes\nBONDING_SLAVE0=eth1\nBONDING_MODULE_OPTS='mode=4'\n\n== /etc/sysconfig/network/config\nNETCONFIG_DNS_STATIC_SERVERS=\"192.0.2.53\"\n",
    ])
}

pub fn borrows() -> Vec<Vec<u8>> {
    let mut all = [ifupdowns(), networkds(), keyfiles(), ifcfgs(), wickeds()].concat();
    let whole = all.join(&b"\n"[..]);
    all.push(whole);
    all.extend(seeds(&[
        "== /etc/netplan/1.yaml\nnetwork: {ethernets: {eth0: {dhcp4: true}}}\n\n== /etc/udev/rules.d/70-persistent-net.rules\nSUBSYSTEM==\"net\", ATTR{address}==\"52:54:00:12:34:56\", NAME=\"eth0\"\n\n== /etc/resolv.conf\nnameserver 192.0.2.53\nsearch a.b\n\n== /etc/systemd/network/1.link\n[Match]\nMACAddress=52:54:00:12:34:57\n[Link]\nName=lan0\n\n== /usr/lib/systemd/system-generators/netplan -> /x\n",
    ]));
    all
}
