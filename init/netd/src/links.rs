//! How the interfaces of a plan come to be and hang together: pure. What the kernel has is compared with what is
//! asked for, and the difference is steps, so that a life of this process that ended half way does not matter.

use crate::rtnl::{Change, Link};
use network::{BondOption, Kind, Mac, Methods, Plan, Selector};
use std::collections::{BTreeMap, BTreeSet};

/// An interface and what is known of it besides the kernel's word.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    pub link: &'a Link,
    /// The names that systemd would give.
    pub names: &'a [String],
    pub driver: &'a str,
    /// An Ethernet card with a device behind it.
    pub wired: bool,
}

impl Seen<'_> {
    fn is(&self, selector: &Selector) -> bool {
        // What is made has the MAC of what it stands on; a MAC means the NIC.
        if selector.mac.is_some() && matches!(self.link.kind.as_str(), "vlan" | "bond" | "bridge") {
            return false;
        }
        let names = std::iter::once(&self.link.name).chain(&self.link.names).chain(self.names);
        let names: Vec<&str> = names.map(String::as_str).collect();
        let mac = self.link.permanent.or(self.link.mac).unwrap_or(Mac([0; 6]));
        selector.selects(&names, mac, self.driver)
    }

    /// The kernel has it by this name.
    fn has(&self, name: &str) -> bool {
        self.link.name == name || self.link.names.iter().any(|own| own == name)
    }

    fn is_called(&self, name: &str) -> bool {
        self.has(name) || self.names.iter().any(|own| own == name)
    }
}

/// One change of the kernel's interfaces.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// A module that makes the next steps possible.
    Module(&'static str),
    MakeVlan {
        name: String,
        below: u32,
        id: u16,
    },
    MakeBond {
        name: String,
    },
    MakeBridge {
        name: String,
        stp: bool,
    },
    /// Takes away what a plan made that is not carried out any more.
    Unmake {
        link: u32,
        name: String,
    },
    /// (option, value) of the bonding driver, before there are ports.
    Options {
        bond: String,
        options: Vec<(String, String)>,
    },
    Change {
        link: u32,
        name: String,
        change: Change,
    },
}

/// Which NICs the entries that name none, or one that is not here, are about: an entry of `Plan::links` and an index.
pub type Adopted = BTreeMap<usize, u32>;

/// What an interface is configured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Role {
    /// Of `Plan::links`.
    pub entry: Option<usize>,
    pub methods: Methods,
}

/// `None`: not ours, or a port or another's. What is to become a port has no role either, unless it is `late` and it is
/// none yet: then a network without the bond is better than none.
pub fn role(plan: &Plan, seen: &Seen<'_>, adopted: &Adopted, late: bool) -> Option<Role> {
    if seen.link.master.is_some() || !late && is_port(plan, seen) {
        return None;
    }
    let entry = entry(plan, seen, adopted);
    match entry {
        Some(at) => Some(Role { entry, methods: plan.links.get(at)?.methods }),
        None if seen.wired => Some(Role { entry, methods: plan.others.unwrap_or(Methods::DEFAULT) }),
        None => None,
    }
}

fn entry(plan: &Plan, seen: &Seen<'_>, adopted: &Adopted) -> Option<usize> {
    let is_own = |(at, link): (usize, &network::Link)| match link.kind {
        Kind::Physical => {
            seen.wired && (seen.is(&link.selector) || adopted.get(&at) == Some(&seen.link.index))
        }
        Kind::Vlan { .. } | Kind::Bond { .. } | Kind::Bridge { .. } => {
            link.selector.name.as_ref() == Some(&seen.link.name) && seen.link.kind == kind_name(&link.kind)
        }
    };
    plan.links.iter().enumerate().position(is_own)
}

/// As the kernel calls it (IFLA_INFO_KIND).
fn kind_name(kind: &Kind) -> &'static str {
    match kind {
        Kind::Physical => "",
        Kind::Vlan { .. } => "vlan",
        Kind::Bond { .. } => "bond",
        Kind::Bridge { .. } => "bridge",
    }
}

/// Whether two selectors mean one NIC.
pub fn is_same(seen: &[Seen<'_>], one: &Selector, other: &Selector) -> bool {
    seen.iter().any(|seen| seen.wired && seen.is(one) && seen.is(other))
}

/// The NIC that the plan prefers.
pub fn is_preferred(plan: &Plan, seen: &Seen<'_>) -> bool {
    plan.preferred.as_ref().is_some_and(|selector| seen.is(selector))
}

/// An entry that fits no interface takes one that no entry is about: at once where it names none, else when `late` and there
/// is one alone, since a wrong name must not keep the owner out. Returns what is new, with a line for a person where a
/// name was passed over.
pub fn adopt(plan: &Plan, seen: &[Seen<'_>], adopted: &mut Adopted, late: bool) -> Vec<String> {
    let mut lines = Vec::new();
    for (at, link) in plan.links.iter().enumerate() {
        let is_fitting = seen.iter().any(|one| one.wired && one.is(&link.selector));
        if link.kind != Kind::Physical || adopted.contains_key(&at) || is_fitting {
            continue;
        }
        let is_nameless = link.selector == Selector::default();
        if !(is_nameless || late) || below_names(plan).any(|name| link.selector.name.as_deref() == Some(name))
        {
            continue;
        }
        let is_free = |one: &&Seen<'_>| {
            one.wired && one.link.carrier && one.link.master.is_none() && entry(plan, one, adopted).is_none()
        };
        let mut free: Vec<&Seen<'_>> = seen.iter().filter(is_free).collect();
        free.sort_by_key(|one| (!is_preferred(plan, one), one.link.index));
        match free[..] {
            [one, ..] if is_nameless => drop(adopted.insert(at, one.link.index)),
            [one] => {
                adopted.insert(at, one.link.index);
                lines.push(format!(
                    "there is no interface {}: what was asked for it ({}) is done with {}, the only other one that has a link",
                    link.selector,
                    link.from.join(" "),
                    one.link.name
                ));
            }
            _ => {
                let here: Vec<&str> =
                    seen.iter().filter(|one| one.wired).map(|one| one.link.name.as_str()).collect();
                lines.push(format!(
                    "there is no interface {} ({}); here are: {}",
                    link.selector,
                    link.from.join(" "),
                    if here.is_empty() { "none".to_string() } else { here.join(" ") }
                ));
            }
        }
    }
    lines
}

/// What other entries stand on, by name.
fn below_names(plan: &Plan) -> impl Iterator<Item = &str> {
    plan.links.iter().flat_map(|link| match &link.kind {
        Kind::Physical => Vec::new(),
        Kind::Vlan { link, .. } => vec![link.as_str()],
        Kind::Bond { ports, .. } | Kind::Bridge { ports, .. } => {
            ports.iter().filter_map(|port| port.name.as_deref()).collect()
        }
    })
}

/// Whether a VLAN stands on an interface. Ports are brought up when they have become ports.
fn is_below(plan: &Plan, seen: &Seen<'_>) -> bool {
    plan.links.iter().any(|link| matches!(&link.kind, Kind::Vlan { link, .. } if seen.is_called(link)))
}

/// Whether an interface is to be a port of a bond or a bridge.
fn is_port(plan: &Plan, seen: &Seen<'_>) -> bool {
    plan.links.iter().any(|link| match &link.kind {
        Kind::Physical | Kind::Vlan { .. } => false,
        Kind::Bond { ports, .. } | Kind::Bridge { ports, .. } => ports.iter().any(|port| seen.is(port)),
    })
}

/// The names of what a plan makes.
pub fn made(plan: &Plan) -> impl Iterator<Item = &String> {
    plan.links
        .iter()
        .filter(|link| link.kind != Kind::Physical)
        .filter_map(|link| link.selector.name.as_ref())
}

/// What earlier plans made and this one does not. A VLAN goes with what it stands on, so the later ones come first.
pub fn leftovers(plan: &Plan, seen: &[Seen<'_>], once_made: &BTreeSet<String>) -> Vec<Step> {
    let is_left = |one: &&Seen<'_>| {
        let name = &one.link.name;
        !one.link.kind.is_empty() && once_made.contains(name) && !made(plan).any(|own| own == name)
    };
    let unmake = |one: &Seen<'_>| Step::Unmake { link: one.link.index, name: one.link.name.clone() };
    seen.iter().rev().filter(is_left).map(unmake).collect()
}

/// What is to be done now, in order. `late` as for [`role`]. `raised`: interfaces that were brought up once; whoever takes
/// one down after that means it. `modules`: those that are there. `is_refused`: steps that are left out for now, with what
/// would come before and after them.
pub fn steps(
    plan: &Plan,
    seen: &[Seen<'_>],
    adopted: &Adopted,
    late: bool,
    raised: &BTreeSet<u32>,
    modules: &BTreeSet<&'static str>,
    is_refused: &dyn Fn(&Step) -> bool,
) -> Vec<Step> {
    let mut steps = Vec::new();
    for one in seen {
        if let Some(at) = entry(plan, one, adopted) {
            adjust(&plan.links[at], one, seen, is_refused, &mut steps);
        }
    }
    for one in seen {
        // So that `ip link show enp3s0` finds it, as the installed system's files name it.
        let is_free = |name: &&String| !seen.iter().any(|other| other.has(name));
        let more = one.names.iter().filter(is_free).map(|name| change(one, Change::AltName(name.clone())));
        steps.extend(more.filter(|step| one.wired && !is_refused(step)));
    }
    for link in &plan.links {
        make(link, seen, modules, is_refused, &mut steps);
    }
    for one in seen {
        let is_wanted = role(plan, one, adopted, late).is_some_and(|role| {
            let is_stated = role.entry.is_some_and(|at| !plan.links[at].addresses.is_empty());
            role.methods != Methods::OFF || is_stated
        });
        let is_needed = one.link.master.is_none() && (is_wanted || is_below(plan, one));
        if is_needed && !one.link.up && !raised.contains(&one.link.index) {
            // Its ports come first, else there is a moment without any, in which DHCP would begin.
            let up = change(one, Change::Up);
            steps.extend(Some(up).filter(|up| !is_refused(up)));
        }
    }
    steps
}

fn change(seen: &Seen<'_>, change: Change) -> Step {
    Step::Change { link: seen.link.index, name: seen.link.name.clone(), change }
}

/// Name, MAC and MTU of an interface that is there.
fn adjust(
    link: &network::Link,
    one: &Seen<'_>,
    seen: &[Seen<'_>],
    is_refused: &dyn Fn(&Step) -> bool,
    steps: &mut Vec<Step>,
) {
    let is_taken = |name: &String| seen.iter().any(|other| other.link.name == *name);
    let name = link.rename.clone().filter(|name| *name != one.link.name && !is_taken(name));
    let mac = link.mac.filter(|mac| one.link.mac != Some(*mac));
    let mtu = link.mtu.filter(|mtu| *mtu != one.link.mtu);
    let open =
        |wanted: Option<Change>| wanted.map(|wanted| change(one, wanted)).filter(|step| !is_refused(step));
    let (name, mac, mtu) =
        (open(name.map(Change::Name)), open(mac.map(Change::Mac)), open(mtu.map(Change::Mtu)));
    // Few drivers take a new address while they are up.
    let must_be_down = one.link.up && (name.is_some() || mac.is_some());
    let edge = |edge: Change| must_be_down.then(|| change(one, edge));
    steps.extend([edge(Change::Down), mac, mtu, name, edge(Change::Up)].into_iter().flatten());
}

/// An interface that stands on others.
fn make(
    link: &network::Link,
    seen: &[Seen<'_>],
    modules: &BTreeSet<&'static str>,
    is_refused: &dyn Fn(&Step) -> bool,
    steps: &mut Vec<Step>,
) {
    let Some(name) = &link.selector.name else { return };
    let own = seen.iter().find(|one| one.link.name == *name);
    let module = match &link.kind {
        Kind::Physical => return,
        Kind::Vlan { .. } => "8021q",
        Kind::Bond { .. } => "bonding",
        Kind::Bridge { .. } => "bridge",
    };
    if own.is_none() && !modules.contains(module) {
        return steps.push(Step::Module(module));
    }
    match (&link.kind, own) {
        (Kind::Physical, _) => {}
        (Kind::Vlan { link: below, id }, None) => {
            let below = seen.iter().find(|one| one.is_called(below)).map(|below| below.link.index);
            let made = below.map(|below| Step::MakeVlan { name: name.clone(), below, id: *id });
            steps.extend(made.filter(|made| !is_refused(made)));
        }
        (Kind::Vlan { .. }, Some(_)) => {}
        (Kind::Bond { .. }, None) => {
            steps.extend(Some(Step::MakeBond { name: name.clone() }).filter(|made| !is_refused(made)));
        }
        (Kind::Bridge { stp, .. }, None) => {
            let made = Step::MakeBridge { name: name.clone(), stp: *stp };
            steps.extend(Some(made).filter(|made| !is_refused(made)));
        }
        (Kind::Bond { ports, options }, Some(bond)) if bond.link.kind == "bond" => {
            let has_ports = seen.iter().any(|one| one.link.master == Some(bond.link.index));
            if !has_ports && !bond.link.up {
                let pair = |option: &BondOption| (option.name.clone(), option.value.clone());
                let options = options.iter().map(pair).collect();
                steps.push(Step::Options { bond: name.clone(), options });
            }
            enslave(ports, bond, seen, is_refused, steps);
        }
        (Kind::Bridge { ports, .. }, Some(bridge)) if bridge.link.kind == "bridge" => {
            enslave(ports, bridge, seen, is_refused, steps);
        }
        // Somebody else's interface has this name.
        (Kind::Bond { .. } | Kind::Bridge { .. }, Some(_)) => {}
    }
}

fn enslave(
    ports: &[Selector],
    master: &Seen<'_>,
    seen: &[Seen<'_>],
    is_refused: &dyn Fn(&Step) -> bool,
    steps: &mut Vec<Step>,
) {
    for port in seen {
        let is_free = port.link.master.is_none() && port.link.index != master.link.index;
        let is_whole = port.wired || matches!(port.link.kind.as_str(), "bond" | "vlan" | "veth");
        let join = change(port, Change::Master(master.link.index));
        if is_free && is_whole && !is_refused(&join) && ports.iter().any(|selector| port.is(selector)) {
            if port.link.up && master.link.kind == "bond" {
                steps.push(change(port, Change::Down));
            }
            steps.push(join);
            // A bond brings its ports up itself, a bridge does not.
            if master.link.kind == "bridge" && !port.link.up {
                steps.push(change(port, Change::Up));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::cmdline::words;
    use network::dracut;

    fn nic(index: u32, name: &str) -> Link {
        let mac = Some(Mac([2, 0, 0, 0, 0, index as u8]));
        Link {
            index,
            name: name.to_string(),
            hardware: 1,
            mac,
            permanent: mac,
            mtu: 1500,
            carrier: true,
            ..Link::default()
        }
    }

    fn seen(links: &[Link]) -> Vec<Seen<'_>> {
        links
            .iter()
            .map(|link| Seen { link, names: &[], driver: "e1000e", wired: link.kind.is_empty() })
            .collect()
    }

    /// A kernel in small: does what the steps say.
    fn carry_out(links: &mut Vec<Link>, step: &Step) {
        let next = links.iter().map(|link| link.index).max().unwrap_or(1) + 1;
        match step {
            Step::Module(_) => {}
            Step::MakeVlan { name, below, .. } => {
                links.push(Link { kind: "vlan".to_string(), below: Some(*below), ..nic(next, name) });
            }
            Step::MakeBond { name } => links.push(Link { kind: "bond".to_string(), ..nic(next, name) }),
            Step::MakeBridge { name, .. } => {
                links.push(Link { kind: "bridge".to_string(), ..nic(next, name) })
            }
            Step::Unmake { link, .. } => links.retain(|one| one.index != *link),
            Step::Options { bond, .. } => {
                let bond = links.iter().find(|link| link.name == *bond).unwrap().index;
                assert!(
                    links.iter().all(|link| link.master != Some(bond)),
                    "mode is fixed once there are ports"
                );
            }
            Step::Change { link: index, change, .. } => {
                let is_bond =
                    |index: u32, links: &[Link]| links.iter().any(|l| l.index == index && l.kind == "bond");
                let bond = matches!(change, Change::Master(master) if is_bond(*master, links));
                let link = links.iter_mut().find(|link| link.index == *index).unwrap();
                match change {
                    Change::Up => link.up = true,
                    Change::Down => link.up = false,
                    Change::Mtu(mtu) => link.mtu = *mtu,
                    Change::Mac(mac) => link.mac = Some(*mac),
                    Change::Name(name) => link.name = name.clone(),
                    Change::AltName(name) => link.names.push(name.clone()),
                    Change::Master(master) => {
                        assert!(!bond || !link.up, "a port must be down when a bond takes it");
                        (link.master, link.up) = (Some(*master), link.up || bond);
                    }
                }
            }
        }
    }

    /// All steps until nothing is left to do, in words.
    fn run(line: &str, links: &mut Vec<Link>) -> Vec<String> {
        let plan = dracut::read(&words(line));
        let (mut adopted, mut raised, mut modules) = (Adopted::new(), BTreeSet::new(), BTreeSet::new());
        let mut done = Vec::new();
        for _ in 0..10 {
            let one_round = {
                let seen = seen(links);
                adopt(&plan, &seen, &mut adopted, false);
                steps(&plan, &seen, &adopted, false, &raised, &modules, &|_| false)
            };
            if one_round.is_empty() {
                return done;
            }
            for step in one_round {
                carry_out(links, &step);
                done.push(match &step {
                    Step::Module(name) => {
                        modules.insert(*name);
                        format!("module {name}")
                    }
                    Step::MakeVlan { name, below, id } => format!("make {name}: {id} on {below}"),
                    Step::MakeBond { name } | Step::MakeBridge { name, .. } => format!("make {name}"),
                    Step::Unmake { name, .. } => format!("unmake {name}"),
                    Step::Options { bond, options } => format!("{bond}: {}", options[0].1),
                    Step::Change { name, change, link } => {
                        if *change == Change::Up {
                            raised.insert(*link);
                        }
                        format!("{name}: {change:?}")
                    }
                });
            }
        }
        panic!("it does not end: {done:?}");
    }

    #[test]
    fn every_wired_nic_is_brought_up_and_one_that_is_off_is_not() {
        let mut links = vec![nic(2, "eth0"), nic(3, "eth1")];
        assert_eq!(run("ip=eth1:off", &mut links), ["eth0: Up"]);
        assert_eq!(run("ip=off", &mut [nic(2, "eth0")].to_vec()), Vec::<String>::new());
    }

    #[test]
    fn a_vlan_stands_on_its_nic_which_comes_up_with_it() {
        let mut links = vec![nic(2, "eth0")];
        let done = run("ip=off vlan=eth0.5:eth0 ip=192.0.2.7:::24::eth0.5:off", &mut links);
        assert_eq!(done, ["module 8021q", "eth0: Up", "make eth0.5: 5 on 2", "eth0.5: Up"]);
    }

    #[test]
    fn a_bond_has_its_options_before_its_ports_and_a_vlan_on_top() {
        let mut links = vec![nic(2, "eth0"), nic(3, "eth1")];
        let done = run("bond=bond0:eth0,eth1:mode=active-backup vlan=bond0.7:bond0", &mut links);
        let after = |what: &str| {
            done.iter().position(|step| step == what).unwrap_or_else(|| panic!("{what}: {done:?}"))
        };
        assert!(after("bond0: active-backup") < after("eth0: Master(4)"));
        assert!(links.iter().filter(|link| link.master == Some(4)).count() == 2, "{links:?}");
        assert!(links.iter().all(|link| link.up), "{links:?}");
        assert!(links.iter().any(|link| link.name == "bond0.7" && link.below == Some(4)));
        let plan = dracut::read(&words("bond=bond0:eth0,eth1"));
        assert_eq!(role(&plan, &seen(&links)[0], &Adopted::new(), true), None, "a port has no address");
    }

    #[test]
    fn a_vlan_on_a_bond_has_its_mac_and_is_no_port_of_it() {
        let mac = nic(2, "eth0").mac.unwrap();
        let port = Link { master: Some(4), up: true, ..nic(2, "eth0") };
        let made = |index, name: &str, kind: &str, below| Link {
            kind: kind.into(),
            mac: Some(mac),
            permanent: None,
            below,
            up: true,
            ..nic(index, name)
        };
        let mut links = vec![port, made(4, "bond0", "bond", None), made(5, "bond0.7", "vlan", Some(4))];
        let line =
            format!("bond=bond0:{}:mode=active-backup vlan=bond0.7:bond0", mac.to_string().replace(':', "-"));
        assert_eq!(run(&line, &mut links), [""; 0]);
    }

    #[test]
    fn what_is_to_be_a_port_is_left_alone_until_it_is_late() {
        let links = [nic(2, "eth0"), nic(3, "eth1")];
        let plan = dracut::read(&words("bond=bond0:eth0"));
        let (seen, none) = (seen(&links), Adopted::new());
        assert_eq!([0, 1].map(|at| role(&plan, &seen[at], &none, false).is_some()), [false, true]);
        let up = |late| {
            let steps = steps(&plan, &seen, &none, late, &BTreeSet::new(), &BTreeSet::new(), &|_| false);
            let is_up = |step: &Step| matches!(step, Step::Change { link: 2, change: Change::Up, .. });
            steps.iter().any(is_up)
        };
        // The module for the bond is not here.
        assert_eq!([up(false), up(true)], [false, true]);
    }

    #[test]
    fn a_bridge_brings_its_ports_up() {
        let mut links = vec![nic(2, "eth0")];
        run("bridge=br0:eth0", &mut links);
        assert!(links.iter().all(|link| link.up) && links[0].master == Some(3), "{links:?}");
    }

    #[test]
    fn names_macs_and_mtus_are_given_once() {
        let mut links = vec![Link { up: true, ..nic(2, "eth0") }];
        let done = run("ifname=lan0:02:00:00:00:00:02 ip=lan0:dhcp:1400:02:00:00:00:00:99", &mut links);
        assert_eq!(links[0].name, "lan0");
        assert_eq!((links[0].mtu, links[0].mac), (1400, Some(Mac([2, 0, 0, 0, 0, 0x99]))));
        assert_eq!(done.len(), 5, "{done:?}");
        assert!(links[0].up);
    }

    #[test]
    fn what_an_earlier_plan_made_is_taken_away_and_nothing_else() {
        let mut links = vec![nic(2, "eth0"), nic(3, "eth1")];
        run("bond=bond0:eth0,eth1 vlan=bond0.7:bond0", &mut links);
        links.push(Link { kind: "bridge".to_string(), ..nic(9, "docker0") });
        let once_made: BTreeSet<String> = ["bond0", "bond0.7"].map(String::from).into();
        let left = leftovers(&dracut::read(&words("bond=bond0:eth0,eth1")), &seen(&links), &once_made);
        assert!(matches!(&left[..], [Step::Unmake { name, .. }] if name == "bond0.7"), "{left:?}");
        let left = leftovers(&dracut::read(&words("ip=dhcp")), &seen(&links), &once_made);
        assert!(matches!(&left[..], [Step::Unmake { name, .. }, _] if name == "bond0.7"), "{left:?}");
    }

    #[test]
    fn a_card_that_takes_no_mac_stays_up() {
        let links = [Link { up: true, ..nic(2, "eth0") }];
        let plan = dracut::read(&words("ip=eth0:dhcp::02:00:00:00:00:99"));
        let is_refused = |step: &Step| matches!(step, Step::Change { change: Change::Mac(_), .. });
        let left = steps(
            &plan,
            &seen(&links),
            &Adopted::new(),
            false,
            &BTreeSet::new(),
            &BTreeSet::new(),
            &is_refused,
        );
        assert_eq!(left, []);
    }

    #[test]
    fn an_address_without_an_interface_goes_to_the_one_that_was_booted_from() {
        let links = vec![nic(2, "eth0"), nic(3, "eth1")];
        for (boot, want) in [("", 2), ("BOOTIF=02-00-00-00-00-03", 3)] {
            let plan = dracut::read(&words(&format!("ip=192.0.2.7::192.0.2.1:24 {boot}")));
            let mut adopted = Adopted::new();
            assert_eq!(adopt(&plan, &seen(&links), &mut adopted, false), Vec::<String>::new());
            assert_eq!(adopted, Adopted::from([(0, want)]), "{boot}");
        }
    }

    #[test]
    fn a_wrong_name_is_passed_over_where_one_nic_alone_is_left_and_said_where_there_are_more() {
        let plan = dracut::read(&words("ip=192.0.2.7::192.0.2.1:24::enp9s0:off"));
        let (one, two) = (vec![nic(2, "eth0")], vec![nic(2, "eth0"), nic(3, "eth1")]);
        let mut adopted = Adopted::new();
        assert!(adopt(&plan, &seen(&one), &mut adopted, false).is_empty() && adopted.is_empty(), "too early");
        assert_eq!(adopt(&plan, &seen(&one), &mut adopted, true).len(), 1);
        assert_eq!(adopted, Adopted::from([(0, 2)]));
        let mut adopted = Adopted::new();
        let lines = adopt(&plan, &seen(&two), &mut adopted, true);
        assert!(adopted.is_empty() && lines[0].ends_with("here are: eth0 eth1"), "{lines:?}");
    }

    #[test]
    fn a_name_that_systemd_would_give_is_as_good_as_the_kernels() {
        let link = nic(2, "eth0");
        let names = ["enp3s0".to_string()];
        let one = Seen { link: &link, names: &names, driver: "e1000e", wired: true };
        let plan = dracut::read(&words("ip=enp3s0:off vlan=enp3s0.4:enp3s0"));
        assert_eq!(role(&plan, &one, &Adopted::new(), false).and_then(|role| role.entry), Some(1));
        let modules = BTreeSet::from(["8021q"]);
        let steps = steps(&plan, &[one], &Adopted::new(), false, &BTreeSet::new(), &modules, &|_| false);
        assert!(
            matches!(
                &steps[..2],
                [Step::Change { change: Change::AltName(_), .. }, Step::MakeVlan { below: 2, .. }]
            ),
            "{steps:?}"
        );
    }

    #[test]
    fn what_is_found_for_a_name_gets_the_methods_that_a_parameter_has_for_its_mac() {
        let links = [nic(2, "eth0"), nic(3, "eth1")];
        let seen = seen(&links);
        let mut plan = dracut::read(&words("ip=off ip=02-00-00-00-00-02:dhcp ip=02-00-00-00-00-03:off"));
        let found = dracut::read(&words("ip=192.0.2.7:::24::eth0:none ip=192.0.2.8:::24::eth1:dhcp"));
        plan.take_in(found, &|one, other| is_same(&seen, one, other));
        let of = |at: usize| {
            let role = role(&plan, &seen[at], &Adopted::new(), false).unwrap();
            (role.methods.dhcp4, plan.links[role.entry.unwrap()].addresses.len())
        };
        assert_eq!((of(0), of(1)), ((true, 1), (false, 0)));
    }
}
