//! The boot parameters about the network, in dracut's grammar (dracut.cmdline(7)), with the forms of the kernel
//! (Documentation/admin-guide/nfs/nfsroot.rst), systemd-network-generator(8), PXELINUX and Tinkerbell beside it.
//!
//! Where the two long forms of `ip=` differ, both are served: the second field is the other end of a point-to-point link
//! where the mask is that of one host, as dracut has it, and else the server that the machine was booted from, as the
//! kernel has it, which is of no use here.
//!
//! Left out on the generous side: a word that cannot be used is a problem and the rest counts, and a NIC that no
//! word names still gets DHCP, since a rescue without a network is lost.

use crate::words::{
    address, bits, is_host, is_host_address, is_interface, is_within, masked, network, prefix,
};
use crate::{
    Address, BondOption, Ipv6, Kind, Link, MOST_LINKS, MOST_PER_LINK, Mac, Methods, Plan, Route, Selector,
};
use contract::cmdline::{self, Word};
use std::net::{IpAddr, Ipv6Addr};

/// What stands for the NIC of `BOOTIF=` where an interface is named (systemd-network-generator(8)).
const BOOTED_FROM: &str = "BOOTIF";
/// VLAN identifiers that IEEE 802.1Q allows.
pub(crate) const VLANS: std::ops::RangeInclusive<u16> = 1..=4094;
/// Bytes; less than IPv4 must carry (RFC 791), more than any driver takes, is a slip.
pub(crate) const MTUS: std::ops::RangeInclusive<u32> = 68..=65_535;

/// Options of the bonding driver that a plan may set, sorted (drivers/net/bonding/bond_options.c).
const BOND_OPTIONS: &[&str] = &[
    "active_slave",
    "ad_actor_sys_prio",
    "ad_actor_system",
    "ad_select",
    "ad_user_port_key",
    "all_slaves_active",
    "arp_all_targets",
    "arp_interval",
    "arp_ip_target",
    "arp_missed_max",
    "arp_validate",
    "coupled_control",
    "downdelay",
    "fail_over_mac",
    "lacp_active",
    "lacp_rate",
    "lp_interval",
    "miimon",
    "min_links",
    "mode",
    "ns_ip6_target",
    "num_grat_arp",
    "num_unsol_na",
    "packets_per_slave",
    "peer_notif_delay",
    "primary",
    "primary_reselect",
    "resend_igmp",
    "tlb_dynamic_lb",
    "updelay",
    "use_carrier",
    "xmit_hash_policy",
];

/// Modes of the bonding driver; where each stands is its number.
const BOND_MODES: &[&str] =
    &["balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb"];

/// Words of dracut about the network that are not served, sorted, and what is done instead.
const UNSERVED: &[(&str, &str)] = &[
    ("ib.pkey", "InfiniBand is not served"),
    ("rd.ethtool", "the card is left as its driver has it"),
    ("rd.iscsi.firmware", NO_IBFT),
    ("rd.iscsi.ibft", NO_IBFT),
    ("rd.net.dhcp.vendor-class", "Lifeboat's own vendor class is sent"),
    ("rd.znet", "it is about IBM Z alone"),
    ("rd.znet_ifname", "it is about IBM Z alone"),
];
const NO_IBFT: &str = "the firmware's iSCSI table is not read";

/// The plan of all words of a boot.
pub fn read(words: &[Word]) -> Plan {
    let mut plan = Plan::default();
    let bootdev = preferred(&mut plan, words);
    for value in cmdline::all(words, "ifname") {
        ifname(&mut plan, value);
    }
    for value in cmdline::all(words, "vlan") {
        vlan(&mut plan, value);
    }
    for value in cmdline::all(words, "bond") {
        bond(&mut plan, value);
    }
    for value in cmdline::all(words, "team") {
        team(&mut plan, value);
    }
    for value in cmdline::all(words, "bridge") {
        bridge(&mut plan, value);
    }
    for value in cmdline::all(words, "ip") {
        if let Err(problem) = ip(&mut plan, value) {
            plan.problem(format!("ip={}: {problem}", shown(value)));
        }
    }
    for value in cmdline::all(words, "ipam") {
        if let Err(problem) = ipam(&mut plan, value) {
            plan.problem(format!("ipam={}: {problem}", shown(value)));
        }
    }
    for value in cmdline::all(words, "rd.route") {
        route(&mut plan, value);
    }
    for value in cmdline::all(words, "nameserver") {
        // Several in one word are seen too.
        for text in value.split(',') {
            match address(text) {
                Some(server) => add(&mut plan.nameservers, server),
                None => plan.problem(format!("nameserver={}: not an address", shown(value))),
            }
        }
    }
    for (name, instead) in UNSERVED {
        if let Some(value) = cmdline::last(words, name).filter(|value| *value != "0") {
            plan.problem(format!("{name}={}: {instead}", shown(value)));
        }
    }
    plan.preferred = bootdev.or(plan.preferred);
    plan.own_nameservers_only = cmdline::last(words, "rd.peerdns") == Some("0");
    crate::stack::without_loops(&mut plan);
    with_defaults(&mut plan);
    plan
}

fn shown(value: &str) -> String {
    value.escape_debug().to_string()
}

/// Of `BOOTIF=`, which other words may mean; what is returned is preferred to it (`bootdev=`).
fn preferred(plan: &mut Plan, words: &[Word]) -> Option<Selector> {
    if let Some(value) =
        cmdline::last(words, BOOTED_FROM).filter(|_| cmdline::last(words, "rd.bootif") != Some("0"))
    {
        match Mac::parse(value).filter(|mac| mac.is_one()) {
            Some(mac) => plan.preferred = Some(Selector::mac(mac)),
            None => plan
                .problem(format!("BOOTIF={}: not a MAC address, such as 01-52-54-00-12-34-56", shown(value))),
        }
    }
    let value = cmdline::last(words, "bootdev")?;
    let bootdev = match selector(plan, value) {
        Ok(bootdev) => bootdev,
        Err(problem) => {
            plan.problem(format!("bootdev={}: {problem}", shown(value)));
            return None;
        }
    };
    plan.preferred.get_or_insert_with(|| bootdev.clone());
    Some(bootdev)
}

/// An interface as a field names it: by name, by MAC, or as the one that was booted from.
fn selector(plan: &Plan, field: &str) -> Result<Selector, String> {
    if let Some(mac) = Mac::parse(field) {
        return Ok(Selector::mac(mac));
    }
    match (field, &plan.preferred) {
        (BOOTED_FROM, Some(preferred)) => Ok(preferred.clone()),
        (BOOTED_FROM, None) => Err("BOOTIF= does not say which interface that is".to_string()),
        _ if is_interface(field) => Ok(Selector::name(field)),
        _ => Err(format!("{} is not an interface's name", shown(field))),
    }
}

/// Fields between colons; those within brackets belong to an address.
fn fields(value: &str) -> Vec<&str> {
    let (mut fields, mut from, mut depth) = (Vec::new(), 0, 0_u32);
    for (at, c) in value.char_indices() {
        match c {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            ':' if depth == 0 => {
                fields.push(&value[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    fields.push(&value[from..]);
    fields
}

/// What a method's word adds to what a link has already.
fn method(word: &str, methods: &mut Methods) -> Result<(), String> {
    let at_least = |have: &mut Ipv6, more: Ipv6| *have = (*have).max(more);
    match word {
        "dhcp" | "dhcp4" | "on" | "any" | "both" | "bootp" | "rarp" | "single-dhcp" => methods.dhcp4 = true,
        "dhcp6" => at_least(&mut methods.ipv6, Ipv6::Dhcp),
        "auto6" | "auto" => at_least(&mut methods.ipv6, Ipv6::Auto),
        "either6" => at_least(&mut methods.ipv6, Ipv6::Either),
        "link6" | "link-local" => at_least(&mut methods.ipv6, Ipv6::LinkLocal),
        "off" | "none" | "static" => {}
        "ibft" | "fw" => {
            methods.dhcp4 = true;
            return Err(format!("{NO_IBFT}: DHCP is used"));
        }
        _ => {
            return Err(format!(
                "{} is none of dhcp, dhcp6, auto6, either6, link6, single-dhcp, off",
                shown(word)
            ));
        }
    }
    Ok(())
}

fn is_method(word: &str) -> bool {
    word.split(',').all(|word| {
        !word.is_empty() && (matches!(word, "ibft" | "fw") || method(word, &mut Methods::default()).is_ok())
    })
}

/// All methods of a field, such as `dhcp,dhcp6`; DHCP by IPv4 leaves IPv6 to routers, as a NIC of which nothing is said.
fn methods(field: &str, methods: &mut Methods) -> Result<(), String> {
    let was = field.split(',').try_for_each(|word| method(word, methods));
    if methods.dhcp4 && methods.ipv6 == Ipv6::Off {
        methods.ipv6 = Ipv6::Auto;
    }
    was
}

/// One `ip=`.
fn ip(plan: &mut Plan, value: &str) -> Result<(), String> {
    let fields = fields(value);
    match fields[..] {
        [""] => Err("nothing is said: DHCP is used".to_string()),
        [word] if is_method(word) => {
            let mut wanted = plan.others.unwrap_or(Methods::OFF);
            plan.single |= word.split(',').any(|word| word == "single-dhcp");
            let result = methods(word, &mut wanted);
            plan.others = Some(wanted);
            result
        }
        [word] if address(word).is_none() => Err(format!(
            "{} is neither an address nor one of dhcp, dhcp6, auto6, either6, link6, single-dhcp, off: DHCP is used",
            shown(word)
        )),
        [name, word, ref rest @ ..] if is_method(word) && !name.is_empty() && address(name).is_none() => {
            by_interface(plan, value, name, word, rest)
        }
        _ => long(plan, value, &fields),
    }
}

/// `<interface>:<methods>[:[<mtu>][:<mac>]]`
fn by_interface(plan: &mut Plan, value: &str, name: &str, word: &str, rest: &[&str]) -> Result<(), String> {
    let selector = selector(plan, name)?;
    let mtu_and_mac = mtu_and_mac(rest);
    let Some(link) = plan.link(selector) else { return Ok(()) };
    link.from.push(format!("ip={}", shown(value)));
    let said = methods(word, &mut link.methods);
    let (mtu, mac) = mtu_and_mac?;
    link.mtu = mtu.or(link.mtu);
    link.mac = mac.or(link.mac);
    said
}

/// What may follow the methods: an MTU, then a MAC whose colons have become fields.
fn mtu_and_mac(rest: &[&str]) -> Result<(Option<u32>, Option<Mac>), String> {
    let (mtu, mac) = match rest {
        [] => (None, String::new()),
        [mtu, mac @ ..] => (Some(*mtu).filter(|mtu| !mtu.is_empty()), mac.join(":")),
    };
    let mtu = match mtu {
        Some(text) => Some(
            text.parse::<u32>()
                .ok()
                .filter(|mtu| MTUS.contains(mtu))
                .ok_or_else(|| format!("{} is not an MTU", shown(text)))?,
        ),
        None => None,
    };
    let mac = match mac.as_str() {
        text if text.chars().all(|c| c == ':') => None,
        text => Some(
            Mac::parse(text)
                .filter(|mac| mac.is_one())
                .ok_or_else(|| format!("{} is not a MAC address", shown(text)))?,
        ),
    };
    Ok((mtu, mac))
}

/// `<address>:[<peer or server>]:<gateway>:<mask>:<host>:<interface>:<methods>[...]`
fn long(plan: &mut Plan, value: &str, fields: &[&str]) -> Result<(), String> {
    let field = |at: usize| fields.get(at).copied().unwrap_or_default();
    let named = |text: &str, what: &str| match text {
        "" | "none" => Ok(None),
        text => address(text).map(Some).ok_or_else(|| format!("{} is not an address: {what}", shown(text))),
    };
    let mut complaints = Vec::new();
    let mut tell = |complaint: String| complaints.push(complaint);

    // The first field may carry its length itself, which neither grammar has and people write.
    let own = match field(0) {
        "" => None,
        text => Some(network(text).filter(|(own, _)| is_host_address(*own)).ok_or_else(|| {
            // Its colons have become fields.
            let is_bare = value.parse::<Ipv6Addr>().is_ok()
                || value.contains("::") && text.len() <= 4 && u16::from_str_radix(text, 16).is_ok();
            let hint = if is_bare { " (IPv6 addresses stand in brackets)" } else { "" };
            format!("{} is not an address that an interface can have{hint}: DHCP is used", shown(text))
        })?),
    };
    let selector = match field(5) {
        "" => Selector::default(),
        name => selector(plan, name)?,
    };
    let own = match own {
        None => None,
        Some((own, length)) => {
            let length = match (field(3), field(0).contains('/')) {
                ("", true) => length,
                // The peer's length is meant.
                ("", false) if field(1).contains('/') => length,
                ("", false) => {
                    let length = classful(own);
                    tell(format!("no netmask: /{length} is taken"));
                    length
                }
                (mask, _) => prefix(mask, own).unwrap_or_else(|| {
                    let length = classful(own);
                    tell(format!("{} is not a netmask: /{length} is taken", shown(mask)));
                    length
                }),
            };
            Some((own, length))
        }
    };
    // The peer may carry a length: its net is on the link then, as `ip address add` has it.
    let peer = match field(1) {
        "" | "none" => None,
        text => network(text).or_else(|| {
            tell(format!("{} is not an address: left out", shown(text)));
            None
        }),
    };
    let (own, peer_net) = match (own, peer, field(1).contains('/')) {
        (Some((own, _)), Some((peer, length)), true) if peer.is_ipv4() == own.is_ipv4() => {
            let net = (length < bits(own)).then(|| (masked(peer, length), length));
            (Some((own, bits(own))), net)
        }
        _ => (own, None),
    };
    let peer = peer.map(|(peer, _)| peer);
    let gateway = named(field(2), "there is no gateway").unwrap_or_else(|complaint| {
        tell(complaint);
        None
    });
    let hostname = match field(4) {
        "" => None,
        name if is_host(name) => Some(name.to_string()),
        // An address stands for no name in the kernel's form.
        name => {
            tell(format!("{} is not a host name", shown(name)));
            None
        }
    };
    let rest = fields.get(7..).unwrap_or_default();
    let is_servers = |rest: &[&str]| {
        rest.iter().take(2).any(|field| field.split(',').any(|one| address(one).is_some()))
            || rest.first() == Some(&"") && rest.len() <= 3
    };
    let mut servers = Vec::new();
    let mut ntp = None;
    let (mut mtu, mut mac) = (None, None);
    if is_servers(rest) {
        for text in rest.iter().take(2).flat_map(|field| field.split(',')) {
            match named(text, "it is no name server") {
                Ok(server) => servers.extend(server),
                Err(complaint) => tell(complaint),
            }
        }
        ntp = rest.get(2).filter(|text| address(text).is_some() || is_host(text)).map(|text| bare(text));
    } else {
        match mtu_and_mac(rest) {
            Ok(said) => (mtu, mac) = said,
            Err(complaint) => tell(complaint),
        }
    }

    if hostname.is_some() {
        plan.hostname = hostname;
    }
    if selector == Selector::default() && own.is_none() {
        // Nothing but methods, for every NIC.
        let mut wanted = plan.others.unwrap_or(Methods::OFF);
        if let Err(complaint) = methods(if field(6).is_empty() { "dhcp" } else { field(6) }, &mut wanted) {
            tell(complaint);
        }
        plan.others = Some(wanted);
        plan.nameservers.extend(servers);
        plan.ntp.extend(ntp);
    } else if let Some(link) = plan.link(selector) {
        link.from.push(format!("ip={}", shown(value)));
        // The kernel tries everything where nothing is said, and has no use for that beside an address.
        let word = match (field(6), own.is_some()) {
            ("", true) => "off",
            ("", false) => "dhcp",
            (word, _) => word,
        };
        if let Err(complaint) = methods(word, &mut link.methods) {
            tell(complaint);
        }
        if let Some((own, prefix)) = own {
            // The kernel's own form has the boot server here.
            let peer = peer.filter(|peer| prefix == bits(own) && peer.is_ipv4() == own.is_ipv4());
            add(&mut link.addresses, Address { address: own, prefix, peer });
            if let Some((destination, prefix)) = peer_net {
                let route = Route { destination, prefix, gateway: None, metric: None, source: Some(own) };
                add(&mut link.routes, route);
            }
            if own.is_ipv6() {
                link.methods.ipv6 = link.methods.ipv6.max(Ipv6::LinkLocal);
            }
        }
        match gateway {
            Some(gateway) if gateway.is_unspecified() => {}
            Some(gateway) if own.is_some_and(|(own, _)| own.is_ipv4() != gateway.is_ipv4()) => {
                tell(format!("{gateway} is of the other family than the address: it is no gateway"));
            }
            Some(gateway) if own.is_some_and(|(own, _)| own == gateway) => {
                tell(format!("{gateway} is the address itself: it is no gateway"));
            }
            Some(gateway) => add(&mut link.routes, Route::default_by(gateway)),
            None => {}
        }
        link.mtu = mtu.or(link.mtu);
        link.mac = mac.or(link.mac);
        for server in servers {
            add(&mut link.nameservers, server);
        }
        link.ntp.extend(ntp);
    }
    match complaints.is_empty() {
        true => Ok(()),
        false => Err(complaints.join("; ")),
    }
}

/// The mask of an address that came without one: the kernel's guess (net/ipv4/ipconfig.c), the subnet's usual 64 for IPv6.
fn classful(own: IpAddr) -> u8 {
    match own {
        IpAddr::V4(v4) => match v4.octets()[0] {
            0..=127 => 8,
            128..=191 => 16,
            _ => 24,
        },
        IpAddr::V6(_) => 64,
    }
}

fn bare(text: &str) -> String {
    text.trim_matches(['[', ']']).to_string()
}

/// Once, and not without end.
pub(crate) fn add<T: PartialEq>(to: &mut Vec<T>, item: T) {
    if !to.contains(&item) && to.len() < MOST_PER_LINK {
        to.push(item);
    }
}

/// `<name>:<mac>`
fn ifname(plan: &mut Plan, value: &str) {
    let read = value.split_once(':').and_then(|(name, mac)| {
        let mac = match mac.len() {
            // Twelve digits in a row are seen too.
            12 if mac.is_ascii() => {
                Mac::parse(&(0..6).map(|at| &mac[2 * at..2 * at + 2]).collect::<Vec<&str>>().join(":"))
            }
            _ => Mac::parse(mac),
        };
        is_interface(name).then_some(name).zip(mac)
    });
    match read {
        Some((name, mac)) => {
            let is_taken =
                |link: &Link| link.rename.as_deref() == Some(name) && link.selector != Selector::mac(mac);
            if plan.links.iter().any(is_taken) {
                return plan.problem(format!("ifname={}: another NIC has this name already", shown(value)));
            }
            if let Some(link) = plan.link(Selector::mac(mac)) {
                link.rename = Some(name.to_string());
                link.from.push(format!("ifname={}", shown(value)));
            }
        }
        None => {
            plan.problem(format!("ifname={}: not NAME:MAC, such as lan0:52:54:00:12:34:56", shown(value)))
        }
    }
}

/// `<name>:<link>`; the identifier stands in the name: `eth0.5`, `vlan5`, `vlan0005`.
fn vlan(plan: &mut Plan, value: &str) {
    let read = value.split_once(':').filter(|(name, _)| is_interface(name));
    let Some((name, below)) = read else {
        return plan.problem(format!("vlan={}: not NAME:LINK, such as vlan5:eth0", shown(value)));
    };
    let below = match selector(plan, below) {
        Ok(below) => below,
        Err(problem) => return plan.problem(format!("vlan={}: {problem}", shown(value))),
    };
    let digits = &name[name.trim_end_matches(|c: char| c.is_ascii_digit()).len()..];
    match digits.parse().ok().filter(|id| VLANS.contains(id)) {
        Some(id) => {
            let from = format!("vlan={}", shown(value));
            if let Some(link) = called(plan, below, &from) {
                made(plan, name, Kind::Vlan { link, id }, from);
            }
        }
        None => {
            plan.problem(format!("vlan={}: {name} does not end in an identifier of 1 to 4094", shown(value)))
        }
    }
}

/// The name of an interface that another one stands on: a NIC that is meant by its MAC gets one that cannot be anyone else's.
fn called(plan: &mut Plan, below: Selector, from: &str) -> Option<String> {
    if let Selector { name: Some(name), .. } = below {
        return Some(name);
    }
    let is_taken = |name: &String| {
        plan.links
            .iter()
            .any(|link| link.rename.as_ref() == Some(name) || link.selector.name.as_ref() == Some(name))
    };
    let free = (0..=MOST_LINKS).map(|n| format!("lan{n}")).find(|name| !is_taken(name))?;
    let link = plan.link(below)?;
    add(&mut link.from, from.to_string());
    Some(link.rename.get_or_insert(free).clone())
}

/// An interface that is made: DHCP unless an `ip=` says otherwise, which comes later.
fn made(plan: &mut Plan, name: &str, kind: Kind, from: String) {
    if let Some(link) = plan.link(Selector::name(name)) {
        link.kind = kind;
        link.from.push(from);
    }
}

fn ports(plan: &Plan, text: &str) -> Result<Vec<Selector>, String> {
    text.split([',', ' ']).filter(|name| !name.is_empty()).map(|name| selector(plan, name)).collect()
}

/// `<name>[:<ports>[:[<options>][:<mtu>]]]`
fn bond(plan: &mut Plan, value: &str) {
    let fields = fields(value);
    let field = |at: usize| fields.get(at).copied().unwrap_or_default();
    let name = if field(0).is_empty() { "bond0" } else { field(0) };
    if !is_interface(name) {
        return plan.problem(format!("bond={}: {} is not an interface's name", shown(value), shown(name)));
    }
    let ports = match ports(plan, if field(1).is_empty() { "eth0,eth1" } else { field(1) }) {
        Ok(ports) => ports,
        Err(problem) => return plan.problem(format!("bond={}: {problem}", shown(value))),
    };
    let mut options = Vec::new();
    for word in field(2).split(',').filter(|word| !word.is_empty()) {
        match bond_option(word) {
            Ok(option) => options.push(option),
            Err(problem) => plan.problem(format!("bond={}: {problem}", shown(value))),
        }
    }
    if !options.iter().any(|option| option.name == "mode") {
        options.insert(0, BondOption { name: "mode".to_string(), value: BOND_MODES[0].to_string() });
    }
    let mtu = fields.get(3).map_or(Ok((None, None)), |_| mtu_and_mac(&fields[3..4]));
    made(plan, name, Kind::Bond { ports, options: with_monitor(options) }, format!("bond={}", shown(value)));
    match mtu {
        Ok((mtu, _)) => {
            if let Some(link) = plan.link(Selector::name(name)) {
                link.mtu = mtu.or(link.mtu);
            }
        }
        Err(problem) => plan.problem(format!("bond={}: {problem}", shown(value))),
    }
}

/// `name=value` in the driver's words.
pub(crate) fn bond_option(word: &str) -> Result<BondOption, String> {
    let (name, value) = word.split_once('=').ok_or_else(|| format!("{} is not NAME=VALUE", shown(word)))?;
    if !BOND_OPTIONS.contains(&name) {
        return Err(format!("the bonding driver has no option {}", shown(name)));
    }
    let is_plain = |value: &str| {
        !value.is_empty() && value.bytes().all(|c| c.is_ascii_alphanumeric() || b"-+._:;,%".contains(&c))
    };
    if !is_plain(value) {
        return Err(format!("{} is no value of {name}", shown(value)));
    }
    let value = match name {
        "mode" => {
            bond_mode(value).ok_or_else(|| format!("the bonding driver has no mode {value}"))?.to_string()
        }
        // Several targets are parted by a comma for the driver, which parts options here.
        _ => value.replace(';', ","),
    };
    Ok(BondOption { name: name.to_string(), value })
}

/// A mode by its name or number.
pub(crate) fn bond_mode(text: &str) -> Option<&'static str> {
    let by_number = text.parse::<usize>().ok().and_then(|number| BOND_MODES.get(number));
    by_number.or_else(|| BOND_MODES.iter().find(|mode| **mode == text)).copied()
}

/// Without any monitor a dead leg is never noticed; 100 ms is what the driver's documentation begins with.
pub(crate) fn with_monitor(mut options: Vec<BondOption>) -> Vec<BondOption> {
    if !options.iter().any(|option| matches!(option.name.as_str(), "miimon" | "arp_interval")) {
        options.push(BondOption { name: "miimon".to_string(), value: "100".to_string() });
    }
    options
}

/// The bond's mode that is equal to a team's runner (teamd.conf(5)).
pub(crate) fn team_mode(runner: &str) -> Option<&'static str> {
    match runner {
        "" | "activebackup" => Some("active-backup"),
        "roundrobin" => Some("balance-rr"),
        "broadcast" => Some("broadcast"),
        "lacp" => Some("802.3ad"),
        "loadbalance" => Some("balance-xor"),
        _ => None,
    }
}

/// `<name>:<ports>[:<runner>]`, by default `team0:eth0,eth1`: the bond that does the same.
fn team(plan: &mut Plan, value: &str) {
    let fields = fields(value);
    let field = |at: usize, default| match fields.get(at) {
        None | Some(&"") => default,
        Some(text) => *text,
    };
    let (name, port_names, runner) = (field(0, "team0"), field(1, "eth0,eth1"), field(2, ""));
    let mode = team_mode(runner).unwrap_or_else(|| {
        plan.problem(format!(
            "team={}: no bond is equal to the runner {}: active-backup is used",
            shown(value),
            shown(runner)
        ));
        "active-backup"
    });
    match ports(plan, port_names) {
        Ok(ports) if is_interface(name) && !ports.is_empty() => {
            let options = vec![BondOption { name: "mode".to_string(), value: mode.to_string() }];
            made(
                plan,
                name,
                Kind::Bond { ports, options: with_monitor(options) },
                format!("team={}", shown(value)),
            );
        }
        Ok(_) => plan.problem(format!("team={}: not NAME:PORTS[:RUNNER]", shown(value))),
        Err(problem) => plan.problem(format!("team={}: {problem}", shown(value))),
    }
}

/// `<name>:<ports>`, by default `br0:eth0`.
fn bridge(plan: &mut Plan, value: &str) {
    let (name, port_names) = match value.split_once(':') {
        Some((name, ports)) => (name, ports),
        None if value.is_empty() => ("br0", "eth0"),
        None => (value, "eth0"),
    };
    match ports(plan, port_names) {
        Ok(ports) if is_interface(name) && !ports.is_empty() => {
            made(plan, name, Kind::Bridge { ports, stp: false }, format!("bridge={}", shown(value)));
        }
        Ok(_) => plan.problem(format!("bridge={}: not NAME:PORTS, such as br0:eth0", shown(value))),
        Err(problem) => plan.problem(format!("bridge={}: {problem}", shown(value))),
    }
}

/// `<mac>:<vlan>:<address>:<mask>:<gateway>:<host>:<DNS,...>:<search,...>:<NTP,...>`, Tinkerbell's, the MAC with dashes.
fn ipam(plan: &mut Plan, value: &str) -> Result<(), String> {
    let fields = fields(value);
    let field = |at: usize| fields.get(at).copied().unwrap_or_default();
    let mac = Mac::parse(field(0)).ok_or_else(|| format!("{} is not a MAC address", shown(field(0))))?;
    let own = match field(2) {
        "" => Err("no address is said".to_string()),
        text => address(text)
            .filter(|own| is_host_address(*own))
            .ok_or_else(|| format!("{} is not an address that an interface can have", shown(text))),
    }?;
    let length = prefix(field(3), own).ok_or_else(|| format!("{} is not a netmask", shown(field(3))))?;
    let mut complaints = Vec::new();
    let gateway = match field(4) {
        "" => None,
        text => address(text).filter(|gateway| gateway.is_ipv4() == own.is_ipv4()).or_else(|| {
            complaints.push(format!("{} is no gateway for it", shown(text)));
            None
        }),
    };
    let id = match field(1) {
        "" | "0" => None,
        text => Some(
            text.parse::<u16>()
                .ok()
                .filter(|id| VLANS.contains(id))
                .ok_or_else(|| format!("{} is not a VLAN's identifier", shown(text)))?,
        ),
    };
    let from = format!("ipam={}", shown(value));
    let target = match id {
        None => Selector::mac(mac),
        Some(id) => {
            let Some(under) = called(plan, Selector::mac(mac), &from) else { return Ok(()) };
            let name = format!("{under}.{id}");
            made(plan, &name, Kind::Vlan { link: under, id }, from.clone());
            Selector::name(&name)
        }
    };
    let mut all = |at: usize, what: &str, is_one: &dyn Fn(&str) -> bool| -> Vec<String> {
        let texts = field(at).split(',').filter(|text| !text.is_empty()).map(bare);
        let (good, bad): (Vec<String>, Vec<String>) = texts.partition(|text| is_one(text));
        complaints.extend(bad.iter().map(|text| format!("{} is {what}", shown(text))));
        good
    };
    let is_address = |text: &str| address(text).is_some();
    let servers = all(6, "no address of a name server", &is_address);
    let search = all(7, "no domain", &is_host);
    let ntp = all(8, "no time server", &|text| is_address(text) || is_host(text));
    match field(5) {
        "" => {}
        name if is_host(name) => plan.hostname = Some(name.to_string()),
        name => complaints.push(format!("{} is not a host name", shown(name))),
    }
    let Some(link) = plan.link(target) else { return Ok(()) };
    if !link.from.contains(&from) {
        link.from.push(from);
    }
    add(&mut link.addresses, Address { address: own, prefix: length, peer: None });
    if let Some(gateway) = gateway {
        add(&mut link.routes, Route::default_by(gateway));
    }
    link.nameservers.extend(servers.iter().filter_map(|text| address(text)));
    link.search.extend(search);
    link.ntp.extend(ntp);
    match complaints.is_empty() {
        true => Ok(()),
        false => Err(complaints.join("; ")),
    }
}

/// `<network>/<length>:<gateway>[:<interface>]`
fn route(plan: &mut Plan, value: &str) {
    let fields = fields(value);
    let wrong = |why: &str| format!("rd.route={}: {why}", shown(value));
    let by = fields.get(1);
    let to = match (fields[0], by.and_then(|by| network(by))) {
        ("default", Some((gateway, _))) => {
            let route = Route::default_by(gateway);
            Some((route.destination, route.prefix))
        }
        (text, _) => network(text),
    };
    let (Some((destination, prefix)), Some(by)) = (to, by) else {
        return plan
            .problem(wrong("not NETWORK/LENGTH:GATEWAY[:INTERFACE], such as 10.0.0.0/8:192.0.2.1:eth0"));
    };
    let gateway = match (*by, network(by)) {
        ("", _) => None,
        (_, Some((gateway, _))) if gateway.is_unspecified() => None,
        (_, Some((gateway, _))) if gateway.is_ipv4() == destination.is_ipv4() => Some(gateway),
        _ => return plan.problem(wrong(&format!("{} is no gateway for it", shown(by)))),
    };
    let route =
        Route { destination: masked(destination, prefix), prefix, gateway, metric: None, source: None };
    match fields.get(2).filter(|name| !name.is_empty()) {
        Some(name) => match selector(plan, name) {
            Ok(selector) => {
                if let Some(link) = plan.link(selector) {
                    add(&mut link.routes, route);
                    link.from.push(format!("rd.route={}", shown(value)));
                }
            }
            Err(problem) => plan.problem(wrong(&problem)),
        },
        None => {
            let Some(gateway) = gateway else {
                return plan.problem(wrong("neither a gateway nor an interface is said"));
            };
            // On the link of which it is known that the gateway is there, where one is.
            let has = |link: &&mut Link| {
                link.addresses.iter().any(|own| is_within(gateway, own.address, own.prefix))
            };
            match plan.links.iter_mut().find(has) {
                Some(link) => add(&mut link.routes, route),
                None => add(&mut plan.routes, route),
            }
        }
    }
}

/// An interface of which no `ip=` speaks gets what any NIC gets, unless another one has it as a port.
fn with_defaults(plan: &mut Plan) {
    let has_ports = |link: &&Link| matches!(link.kind, Kind::Bond { .. } | Kind::Bridge { .. });
    let ports: Vec<String> = plan
        .links
        .iter()
        .filter(has_ports)
        .flat_map(|link| crate::stack::below(&link.kind))
        .map(str::to_string)
        .collect();
    let default = plan.others.unwrap_or(Methods::DEFAULT);
    for link in &mut plan.links {
        let is_port = link.selector.name.as_ref().is_some_and(|name| ports.contains(name));
        if !link.is_spoken_of() && !is_port {
            link.methods = default;
        }
    }
}

#[cfg(test)]
#[path = "dracut_tests.rs"]
mod tests;
