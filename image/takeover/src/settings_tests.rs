use super::*;
use network::{Ipv6, Kind, Plan, Selector};

const NIC: Mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
const OTHER: Mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x57]);

fn nic(index: u32, name: &str, mac: Mac) -> Link {
    Link {
        index,
        name: name.into(),
        is_ethernet: true,
        mac: Some(mac),
        permanent: Some(mac),
        mtu: 1500,
        ..Link::default()
    }
}

fn made(index: u32, name: &str, kind: &str) -> Link {
    Link { kind: kind.into(), permanent: None, ..nic(index, name, NIC) }
}

fn port(link: Link, master: u32) -> Link {
    Link { master: Some(master), ..link }
}

fn own(link: u32, text: &str, leased: bool) -> Address {
    let (address, prefix) = text.split_once('/').unwrap();
    let (address, prefix) = (address.parse().unwrap(), prefix.parse().unwrap());
    Address { link, address, prefix, peer: None, leased, secondary: false, by_keepalived: false }
}

fn by(link: u32, destination: &str, gateway: &str, metric: u32) -> Route {
    let (destination, prefix) = destination.split_once('/').unwrap();
    Route {
        link,
        destination: destination.parse().unwrap(),
        prefix: prefix.parse().unwrap(),
        gateway: gateway.parse().ok(),
        metric,
        leased: false,
        advertised: false,
    }
}

fn beside() -> Beside {
    Beside { nics: ["eth0", "eth1", "enp1s0"].map(String::from).into(), ..Beside::default() }
}

/// The plan that a boot makes of the words, which must have no complaint.
fn plan(words: &Words) -> Plan {
    let read = contract::cmdline::file_words(&words.words.join("\n"));
    let plan = network::dracut::read(&read);
    assert_eq!(plan.problems, [""; 0], "{:?}", words.words);
    assert_eq!(words.dangers, [""; 0]);
    plan
}

fn addresses(link: &network::Link) -> Vec<String> {
    link.addresses.iter().map(|own| format!("{}/{}", own.address, own.prefix)).collect()
}

fn gateways(link: &network::Link) -> Vec<String> {
    link.routes
        .iter()
        .map(|route| format!("{}/{} {:?}", route.destination, route.prefix, route.gateway))
        .collect()
}

#[test]
fn a_static_address_is_stated_by_its_mac_with_gateway_and_name_servers() {
    let network = Network {
        links: vec![nic(2, "enp1s0", NIC)],
        addresses: vec![
            own(2, "192.0.2.5/24", false),
            own(2, "198.51.100.7/32", false),
            own(2, "2001:db8::5/64", false),
        ],
        routes: vec![
            by(2, "0.0.0.0/0", "192.0.2.1", 0),
            by(2, "10.0.0.0/8", "192.0.2.9", 0),
            by(2, "203.0.113.0/24", "", 0),
            by(2, "::/0", "fe80::1", 1024),
        ],
        ..Network::default()
    };
    let beside = Beside {
        nameservers: vec!["192.0.2.53".parse().unwrap(), "2001:db8::53".parse().unwrap()],
        hostname: "db1.example.com".into(),
        ..beside()
    };
    let plan = plan(&words(&network, &beside));
    let [link] = &plan.links[..] else { panic!("{:?}", plan.links) };
    assert_eq!(link.selector, Selector::mac(NIC));
    assert_eq!(addresses(link), ["192.0.2.5/24", "198.51.100.7/32", "2001:db8::5/64"]);
    assert_eq!(
        gateways(link),
        [
            "0.0.0.0/0 Some(192.0.2.1)",
            "::/0 Some(fe80::1)",
            "10.0.0.0/8 Some(192.0.2.9)",
            "203.0.113.0/24 None"
        ]
    );
    assert!(!link.methods.dhcp4 && link.methods.ipv6 == Ipv6::LinkLocal);
    assert_eq!((plan.nameservers, plan.preferred), (beside.nameservers, Some(Selector::mac(NIC))));
}

#[test]
fn a_gateway_outside_of_the_subnet_stays_one() {
    let network = Network {
        links: vec![nic(2, "eth0", NIC)],
        addresses: vec![own(2, "198.51.100.7/32", false)],
        routes: vec![by(2, "0.0.0.0/0", "172.31.1.1", 0), by(2, "172.31.1.1/32", "", 0)],
        ..Network::default()
    };
    let plan = plan(&words(&network, &beside()));
    assert_eq!(gateways(&plan.links[0]), ["0.0.0.0/0 Some(172.31.1.1)"]);
}

#[test]
fn a_gateway_stands_beside_the_address_that_it_is_near_to() {
    let network = Network {
        links: vec![nic(2, "eth0", NIC)],
        addresses: vec![own(2, "10.0.0.5/24", false), own(2, "192.0.2.5/24", false)],
        routes: vec![by(2, "0.0.0.0/0", "192.0.2.1", 0)],
        ..Network::default()
    };
    let words = words(&network, &beside());
    assert_eq!(words.words[0], "ip=10.0.0.5:::24::52-54-00-12-34-56:off");
    assert_eq!(words.words[1], "ip=192.0.2.5::192.0.2.1:24::52-54-00-12-34-56:off");
    plan(&words);
}

#[test]
fn a_lease_is_kept_and_asked_for_and_what_routers_say_is_heard() {
    let leased = |network: &str| Network {
        links: vec![nic(2, "eth0", NIC)],
        addresses: vec![own(2, network, true)],
        ..Network::default()
    };
    let four = plan(&words(&leased("10.0.2.15/24"), &beside()));
    assert!(four.links[0].methods.dhcp4 && four.links[0].methods.ipv6 == Ipv6::Auto);
    assert_eq!(addresses(&four.links[0]), ["10.0.2.15/24"]);
    let six = plan(&words(&leased("2001:db8::99/64"), &beside()));
    assert!(!six.links[0].methods.dhcp4 && six.links[0].methods.ipv6 == Ipv6::Auto);
}

#[test]
fn a_vlan_on_a_bond_below_a_bridge_is_made_again() {
    let burnt_in = BTreeMap::from([("eth0".to_string(), NIC), ("eth1".to_string(), OTHER)]);
    let options = [
        ("mode", "802.3ad 4"),
        ("miimon", "100"),
        ("lacp_rate", "fast 1"),
        ("xmit_hash_policy", "layer3+4 1"),
    ];
    let options = options.map(|(name, value)| (name.to_string(), value.to_string())).into();
    let network = Network {
        links: vec![
            // Both have the bond's MAC.
            port(nic(2, "eth0", NIC), 4),
            port(Link { permanent: None, ..nic(3, "eth1", NIC) }, 4),
            made(4, "bond0", "bond"),
            port(Link { below: Some(4), vlan: Some(20), ..made(5, "storage", "vlan") }, 6),
            made(6, "br0", "bridge"),
            port(made(7, "vnet0", "tun"), 6),
        ],
        addresses: vec![own(6, "192.0.2.5/24", false)],
        routes: vec![by(6, "0.0.0.0/0", "192.0.2.1", 0)],
        ..Network::default()
    };
    let beside = Beside { burnt_in, bonds: [("bond0".to_string(), options)].into(), ..beside() };
    let words = words(&network, &beside);
    assert_eq!(
        words.words[..3],
        [
            "bond=bond0:52-54-00-12-34-56,52-54-00-12-34-57:lacp_rate=fast,mode=802.3ad,xmit_hash_policy=layer3+4",
            "vlan=bond0.20:bond0",
            "bridge=br0:bond0.20",
        ]
    );
    let plan = plan(&words);
    let find =
        |name: &str| plan.links.iter().find(|link| link.selector.name.as_deref() == Some(name)).unwrap();
    assert!(
        matches!(&find("bond0").kind, Kind::Bond { ports, .. } if *ports == [Selector::mac(NIC), Selector::mac(OTHER)])
    );
    assert!(matches!(&find("bond0.20").kind, Kind::Vlan { id: 20, link } if link == "bond0"));
    assert_eq!((addresses(find("br0")), find("br0").mac), (vec!["192.0.2.5/24".to_string()], Some(NIC)));
    assert_eq!(plan.preferred, Some(Selector::name("br0")));
}

#[test]
fn a_vlan_stands_on_a_nic_that_is_named_for_it() {
    let network = Network {
        links: vec![nic(2, "eth0", NIC), Link { below: Some(2), vlan: Some(7), ..made(5, "eth0.7", "vlan") }],
        addresses: vec![own(2, "10.0.0.5/24", false), own(5, "192.0.2.5/24", false)],
        routes: vec![by(5, "0.0.0.0/0", "192.0.2.1", 0)],
        ..Network::default()
    };
    let plan = plan(&words(&network, &beside()));
    let lan = plan.links.iter().find(|link| link.selector.mac == Some(NIC)).unwrap();
    assert_eq!((lan.rename.as_deref(), addresses(lan)), (Some("lan0"), vec!["10.0.0.5/24".to_string()]));
    let vlan = plan.links.iter().find(|link| link.kind == Kind::Vlan { link: "lan0".into(), id: 7 }).unwrap();
    assert_eq!(addresses(vlan), ["192.0.2.5/24"]);
}

#[test]
fn what_only_carries_a_vlan_asks_for_nothing() {
    let mut network = Network {
        links: vec![nic(2, "eth0", NIC), Link { below: Some(2), vlan: Some(7), ..made(5, "eth0.7", "vlan") }],
        addresses: vec![own(5, "192.0.2.5/24", false)],
        ..Network::default()
    };
    assert!(words(&network, &beside()).words.contains(&"ip=lan0:off".to_string()));
    network.addresses.push(own(2, "10.0.0.5/24", false));
    assert!(!words(&network, &beside()).words.contains(&"ip=lan0:off".to_string()));
}

#[test]
fn a_mac_that_was_given_and_a_larger_mtu_are_kept() {
    let network = Network {
        links: vec![Link { mac: Some(OTHER), mtu: 9000, ..nic(2, "eth0", NIC) }],
        addresses: vec![own(2, "192.0.2.5/24", false)],
        ..Network::default()
    };
    let plan = plan(&words(&network, &beside()));
    assert_eq!(
        (&plan.links[0].selector, plan.links[0].mac, plan.links[0].mtu),
        (&Selector::mac(NIC), Some(OTHER), Some(9000))
    );
}

#[test]
fn a_larger_mtu_is_kept_of_what_has_no_address_itself() {
    let large = |link: Link| Link { mtu: 9000, ..link };
    let bridge = Network {
        links: vec![large(port(nic(2, "eth0", NIC), 6)), large(made(6, "br0", "bridge"))],
        addresses: vec![own(6, "192.0.2.5/24", false)],
        ..Network::default()
    };
    let stack = Network {
        links: vec![
            large(port(nic(2, "eth0", NIC), 4)),
            large(port(nic(3, "eth1", OTHER), 4)),
            large(made(4, "bond0", "bond")),
            large(Link { below: Some(4), vlan: Some(20), ..made(5, "bond0.20", "vlan") }),
        ],
        addresses: vec![own(5, "192.0.2.5/24", false)],
        ..Network::default()
    };
    let named = |link: &network::Link| {
        link.selector.name.clone().or(link.selector.mac.map(|mac| mac.to_string())).unwrap_or_default()
    };
    for (network, want) in [
        (bridge, vec![NIC.to_string(), "br0".to_string()]),
        (stack, vec!["bond0".to_string(), "bond0.20".to_string()]),
    ] {
        let plan = plan(&words(&network, &beside()));
        let mut large: Vec<String> =
            plan.links.iter().filter(|link| link.mtu == Some(9000)).map(named).collect();
        large.sort();
        assert_eq!(large, want);
        assert!(plan.links.iter().all(|link| !link.methods.dhcp4), "{:?}", plan.links);
    }
}

#[test]
fn what_cannot_be_kept_is_said_and_is_a_danger_where_one_comes_in_by_it() {
    let network = Network {
        links: vec![
            nic(2, "eth0", NIC),
            made(3, "docker0", "bridge"),
            Link { is_ethernet: false, ..made(4, "wg0", "wireguard") },
        ],
        addresses: vec![
            own(2, "192.0.2.5/24", false),
            own(3, "172.17.0.1/16", false),
            own(4, "10.8.0.2/24", false),
        ],
        routes: vec![by(2, "0.0.0.0/0", "192.0.2.1", 0)],
        ..Network::default()
    };
    let safe = words(&network, &beside());
    assert_eq!(safe.notes.len(), 2, "{:?}", safe.notes);
    plan(&safe);
    let beside = Beside { entrance: "10.8.0.2".parse().ok(), ..beside() };
    let unsafe_one = words(&network, &beside);
    assert_eq!(unsafe_one.notes.len(), 1);
    assert!(unsafe_one.dangers[0].contains("wg0 (wireguard)") && unsafe_one.dangers[0].contains("10.8.0.2"));
    let nothing = words(&Network::default(), &Beside::default());
    assert!(nothing.dangers[0].contains("no address is kept"));
}

#[test]
fn a_vlan_of_another_tag_is_not_made_one_of_802_1q() {
    let outer = || made(5, "eth0.100", netlink::SERVICE_VLAN);
    let inner = || Link { below: Some(5), vlan: Some(7), ..made(6, "eth0.100.7", "vlan") };
    let stack = |top: u32, routes: Vec<Route>| Network {
        links: vec![nic(2, "eth0", NIC), Link { below: Some(2), ..outer() }, inner()],
        addresses: vec![own(2, "10.0.0.5/24", false), own(top, "192.0.2.5/24", false)],
        routes,
        ..Network::default()
    };
    let by_it = || Beside { entrance: "192.0.2.5".parse().ok(), ..beside() };
    // Itself, and what stands on it.
    for (top, name) in [(5, "eth0.100 (802.1ad VLAN)"), (6, "eth0.100.7 (vlan)")] {
        let default = || vec![by(top, "0.0.0.0/0", "192.0.2.1", 0)];
        for (label, routes, beside, is_danger) in [
            ("beside the way in", vec![], beside(), false),
            ("the way in", vec![], by_it(), true),
            ("the default route", default(), beside(), true),
        ] {
            let words = words(&stack(top, routes), &beside);
            let (said, other) =
                if is_danger { (&words.dangers, &words.notes) } else { (&words.notes, &words.dangers) };
            assert_eq!((said.len(), other.len()), (1, 0), "{label}: {words:?}");
            assert!(said[0].contains(name) && said[0].contains("192.0.2.5/24"), "{label}: {said:?}");
            assert!(!words.words.iter().any(|word| word.starts_with("vlan=")), "{label}: {words:?}");
        }
    }
    let bridge = Network {
        links: vec![
            port(nic(2, "eth0", NIC), 7),
            port(Link { below: Some(2), ..outer() }, 7),
            made(7, "br0", "bridge"),
        ],
        addresses: vec![own(7, "192.0.2.5/24", false)],
        ..Network::default()
    };
    let words = words(&bridge, &beside());
    plan(&words);
    assert!(words.notes[0].contains("eth0.100 (802.1ad VLAN) is not kept as a port"), "{words:?}");
}

#[test]
fn whoever_is_logged_in_has_to_have_a_way_back() {
    let dangers = |own_address: &str, routes: Vec<Route>, entrance: &str, peer: &str| {
        let network = Network {
            links: vec![nic(2, "eth0", NIC)],
            addresses: vec![own(2, own_address, false)],
            routes,
            ..Network::default()
        };
        let ends = Beside { entrance: entrance.parse().ok(), peer: peer.parse().ok(), ..beside() };
        words(&network, &ends).dangers.join("; ")
    };
    let static_one = "192.0.2.5/24";
    let default = || vec![by(2, "0.0.0.0/0", "192.0.2.1", 0)];
    assert_eq!(dangers(static_one, default(), "192.0.2.5", "203.0.113.9"), "");
    assert_eq!(dangers(static_one, vec![], "192.0.2.5", "192.0.2.9"), "");
    assert!(dangers(static_one, vec![], "192.0.2.5", "203.0.113.9").contains("no way back to 203.0.113.9"));
    let narrow = vec![by(2, "203.0.113.0/24", "192.0.2.1", 0)];
    assert_eq!(dangers(static_one, narrow, "192.0.2.5", "203.0.113.9"), "");
    let by_six = vec![by(2, "0.0.0.0/0", "fe80::1", 0)];
    assert!(dangers(static_one, by_six, "192.0.2.5", "203.0.113.9").contains("no way back"));
    assert!(
        dangers(static_one, default(), "198.51.100.7", "203.0.113.9").contains("198.51.100.7, which is no")
    );
}

#[test]
fn a_static_address_whose_router_is_heard_goes_on_hearing_it() {
    let network = Network {
        links: vec![nic(2, "eth0", NIC)],
        addresses: vec![own(2, "2001:db8::5/64", false)],
        routes: vec![Route { advertised: true, ..by(2, "::/0", "fe80::1", 1024) }],
        ..Network::default()
    };
    let ends =
        Beside { entrance: "2001:db8::5".parse().ok(), peer: "2001:db8:9::1".parse().ok(), ..beside() };
    let found = words(&network, &ends);
    let plan = plan(&found);
    assert!(found.words.iter().any(|word| word.ends_with(":auto6")), "{:?}", found.words);
    assert_eq!(addresses(&plan.links[0]), ["2001:db8::5/64"]);
}

#[test]
fn an_address_on_wi_fi_is_not_kept_and_a_danger_where_one_comes_in_by_it() {
    let network = Network {
        links: vec![nic(2, "eth0", NIC), nic(3, "wlan0", OTHER)],
        addresses: vec![own(2, "192.0.2.5/24", false), own(3, "10.0.0.5/24", true)],
        ..Network::default()
    };
    let wireless = Beside { wireless: ["wlan0".into()].into(), ..beside() };
    let safe = words(&network, &wireless);
    assert!(safe.notes[0].contains("wlan0 (Wi-Fi) is not kept") && safe.dangers.is_empty(), "{safe:?}");
    let ends = Beside { entrance: "10.0.0.5".parse().ok(), ..wireless };
    assert!(words(&network, &ends).dangers[0].contains("you are logged in by that address"));
}

#[test]
fn an_address_that_a_cluster_moves_is_left_out_unless_it_is_the_way_in_or_asked_for() {
    let added = |text: &str| Address { secondary: true, ..own(2, text, false) };
    let given = |text: &str| Address { by_keepalived: true, ..own(2, text, false) };
    let machine = ["192.0.2.5/24", "2001:db8::5/64"];
    let network = |services: &[Address]| Network {
        links: vec![nic(2, "eth0", NIC)],
        addresses: machine.iter().map(|text| own(2, text, false)).chain(services.iter().cloned()).collect(),
        ..Network::default()
    };
    let services = [
        added("192.0.2.100/24"),
        own(2, "192.0.2.101/32", false),
        own(2, "2001:db8::100/128", false),
        own(2, "198.51.100.5/24", false),
    ];
    let running = |name: &str| Beside { movers: [name.to_string()].into(), ..beside() };
    let kept = |network: &Network, beside: &Beside| {
        let found = words(network, beside);
        let own = found.kept.iter().map(|line| line.split('/').next().unwrap().to_string());
        (own.collect::<Vec<_>>(), found.notes, found.dangers)
    };
    let (own_by, ..) = kept(&network(&services), &beside());
    assert_eq!(own_by.len(), 6, "no cluster");
    let (own_by, notes, dangers) = kept(&network(&services), &running("pacemakerd"));
    assert_eq!(own_by, ["192.0.2.5", "2001:db8::5", "198.51.100.5"]);
    assert_eq!((notes.len(), dangers.len()), (3, 0));
    assert!(notes[0].contains("192.0.2.100") && notes[0].contains("pacemakerd"), "{notes:?}");
    // One address alone is the machine's own, whatever runs.
    let alone = Network { addresses: vec![own(2, "198.51.100.7/32", false)], ..network(&[]) };
    assert_eq!(kept(&alone, &running("keepalived")).0, ["198.51.100.7"]);
    // keepalived says it itself.
    let (own_by, notes, _) = kept(&network(&[given("198.51.100.9/24")]), &beside());
    assert_eq!((own_by.len(), notes.len()), (2, 1));
    let entrance = services[0].address;
    let by_it = Beside { entrance: Some(entrance), ..running("pacemakerd") };
    let (own_by, notes, dangers) = kept(&network(&services[..1]), &by_it);
    assert_eq!((own_by.len(), notes.len(), dangers.len()), (3, 1, 0), "{notes:?}");
    let asked = Beside { with: vec![entrance], ..running("pacemakerd") };
    assert_eq!(kept(&network(&services[..1]), &asked).0.len(), 3);
    let unwanted = Beside { without: vec![entrance], ..by_it };
    let (own_by, _, dangers) = kept(&network(&services[..1]), &unwanted);
    assert!(own_by.len() == 2 && dangers[0].contains("logged in by 192.0.2.100"), "{dangers:?}");
    let unknown = Beside { without: vec!["192.0.2.6".parse().unwrap()], ..beside() };
    assert!(kept(&network(&[]), &unknown).2[0].contains("no address 192.0.2.6"));
}
