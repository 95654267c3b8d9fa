//! How the interfaces of a plan come to be and hang together: pure. What the kernel has is compared with what is
//! asked for, and the difference is steps, so that a life of this process that ended half way does not matter.

use crate::ours::Ours;
use crate::rtnl::{Change, Link};
use network::{BondOption, Kind, Mac, Methods, Plan, Selector};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// An interface and what is known of it besides the kernel's word.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    pub link: &'a Link,
    /// The names that systemd would give.
    pub names: &'a [String],
    pub driver: &'a str,
    /// That the kernel has on it.
    pub addresses: &'a [(IpAddr, u8)],
    /// The MTU of its lease, in bytes.
    pub size: Option<u32>,
    /// An Ethernet card with a device behind it.
    pub wired: bool,
    /// One that a BMC shows over USB: it leads to the BMC.
    pub bmc: bool,
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

    /// An address that an entry states is on it: an earlier life of this process gave it.
    fn holds(&self, entry: &network::Link) -> bool {
        entry.addresses.iter().any(|stated| self.addresses.iter().any(|(own, _)| *own == stated.address))
    }

    /// The kernel has it by this name.
    fn has(&self, name: &str) -> bool {
        self.link.name == name || self.link.names.iter().any(|own| own == name)
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
    /// An option of a bond that means one of its ports, by the name that the kernel has for that.
    Prefer {
        bond: String,
        option: String,
        port: String,
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
pub fn role(plan: &Plan, seen: &Seen<'_>, all: &[Seen<'_>], adopted: &Adopted, late: bool) -> Option<Role> {
    if seen.link.master.is_some() || !late && is_port(plan, seen, all) {
        return None;
    }
    let entry = entry(plan, seen, adopted);
    match entry {
        Some(at) => Some(Role { entry, methods: plan.links.get(at)?.methods }),
        None if seen.wired => Some(Role { entry, methods: plan.others.unwrap_or(Methods::DEFAULT) }),
        None => None,
    }
}

/// Of several NICs that one pattern names, those that leave to another one what is stated there: two would both answer for the
/// address, one of them by a port without a cable. Of those with a cable the one that has it keeps it, else the preferred one
/// or the first takes it. `roles` are those of `seen`, in their order.
pub fn yielding(plan: &Plan, seen: &[Seen<'_>], roles: &[(u32, Option<Role>)]) -> BTreeSet<u32> {
    let mut yielding = BTreeSet::new();
    let stating = plan.links.iter().enumerate().filter(|(_, link)| !link.addresses.is_empty());
    for (at, link) in stating {
        let of_entry =
            |(_, (_, role)): &(_, &(u32, Option<Role>))| role.and_then(|role| role.entry) == Some(at);
        let mut candidates: Vec<&Seen<'_>> =
            seen.iter().zip(roles).filter(of_entry).map(|(one, _)| one).collect();
        candidates.sort_by_key(|one| {
            (!one.link.carrier, !one.holds(link), !is_preferred(plan, one), one.link.index)
        });
        yielding.extend(candidates.iter().skip(1).map(|one| one.link.index));
    }
    yielding
}

/// What was adopted for it counts more than what is said of its name alone.
fn entry(plan: &Plan, seen: &Seen<'_>, adopted: &Adopted) -> Option<usize> {
    let is_it = |(at, index): &(&usize, &u32)| **index == seen.link.index && **at < plan.links.len();
    if let Some((at, _)) = adopted.iter().find(is_it).filter(|_| seen.wired) {
        return Some(*at);
    }
    named(plan, seen)
}

/// The entry that names an interface.
pub fn named(plan: &Plan, seen: &Seen<'_>) -> Option<usize> {
    let is_own = |link: &network::Link| match link.kind {
        Kind::Physical => seen.wired && seen.is(&link.selector),
        Kind::Vlan { .. } | Kind::Bond { .. } | Kind::Bridge { .. } => {
            link.selector.name.as_ref() == Some(&seen.link.name) && seen.link.kind == kind_name(&link.kind)
        }
    };
    plan.links.iter().position(is_own)
}

/// Whether what names no interface may be done with this one: less with a higher number.
fn freedom(plan: &Plan, seen: &Seen<'_>, adopted: &Adopted, at: usize, late: bool) -> Option<u8> {
    if !seen.wired || seen.link.master.is_some() || adopted.values().any(|index| *index == seen.link.index) {
        return None;
    }
    let is_nameless = plan.links[at].selector == Selector::default();
    match named(plan, seen).map(|entry| (entry, &plan.links[entry])) {
        None => Some(0),
        // It is named (`ifname=`), or found on a disk.
        Some((_, link)) if is_nameless && !link.is_spoken_of() => Some(1),
        // What was said later.
        Some((entry, link))
            if is_nameless
                && late
                && at < entry
                && link.addresses.is_empty()
                && link.methods != Methods::OFF =>
        {
            Some(2)
        }
        Some(_) => None,
    }
}

/// As the kernel calls it (IFLA_INFO_KIND).
pub fn kind_name(kind: &Kind) -> &'static str {
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

/// Whether an address of a NIC makes this machine reachable. A BMC's does where somebody named the NIC or booted from it, and
/// where it is the only one though it is `late`: others may come after it.
pub fn counts(plan: &Plan, one: &Seen<'_>, all: &[Seen<'_>], late: bool) -> bool {
    may_be_first(plan, one, all, late) || named(plan, one).is_some()
}

/// Whether what names no NIC may be done with this one: as [`counts`], but a name alone does not ask for an address.
fn may_be_first(plan: &Plan, one: &Seen<'_>, all: &[Seen<'_>], late: bool) -> bool {
    !one.bmc || is_preferred(plan, one) || late && all.iter().all(|other| other.bmc || !other.wired)
}

/// An entry that fits no interface takes one that no entry is about: at once where it names none, else when `late` and there
/// is one alone, since a wrong name must not keep the owner out. The preferred NIC is waited for until then. What has its
/// address already stays the one. Returns what is new, with a line for a person where a name was passed over.
pub fn adopt(plan: &Plan, seen: &[Seen<'_>], adopted: &mut Adopted, late: bool) -> Vec<String> {
    let mut lines = Vec::new();
    for (at, link) in plan.links.iter().enumerate() {
        let is_fitting = seen.iter().any(|one| one.wired && one.is(&link.selector));
        lines.extend(unnamed(plan, link, seen).filter(|_| late));
        if link.kind != Kind::Physical || adopted.contains_key(&at) || is_fitting {
            continue;
        }
        let is_nameless = link.selector == Selector::default();
        if below_names(plan).any(|name| link.selector.name.as_deref() == Some(name)) {
            continue;
        }
        let free = |one| {
            let freedom = freedom(plan, one, adopted, at, late)?;
            let is_open = one.link.carrier && may_be_first(plan, one, seen, late);
            (is_open || one.holds(link)).then_some((freedom, one))
        };
        let mut free: Vec<(u8, &Seen<'_>)> = seen.iter().filter_map(free).collect();
        free.sort_by_key(|(freedom, one)| {
            (!one.holds(link), *freedom == 2, !is_preferred(plan, one), *freedom, one.link.index)
        });
        let mut free: Vec<&Seen<'_>> = free.into_iter().map(|(_, one)| one).collect();
        if free.first().is_some_and(|one| one.holds(link)) {
            free.truncate(1);
        } else if !late && (!is_nameless || awaits(plan, seen, adopted, at)) {
            continue;
        }
        match free[..] {
            [one, ..] if is_nameless => drop(adopted.insert(at, one.link.index)),
            // Its link will come.
            [] if is_nameless && !late => {}
            [] if is_nameless => lines.push(format!(
                "no NIC with a link is left for what was asked ({}): the first that gets one is taken",
                link.from.join(" ")
            )),
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

/// Whether the NIC that the plan prefers may get its link yet, or may be yet to come: others are often faster by seconds, and
/// an address that was given stays.
fn awaits(plan: &Plan, seen: &[Seen<'_>], adopted: &Adopted, at: usize) -> bool {
    let Some(preferred) = &plan.preferred else { return false };
    let here = || seen.iter().filter(|one| one.wired && one.is(preferred));
    let is_slow = |one: &Seen<'_>| !one.link.carrier && freedom(plan, one, adopted, at, false).is_some();
    here().next().is_none() || here().any(is_slow)
}

/// In words, that an interface cannot get the name that was asked for.
fn unnamed(plan: &Plan, link: &network::Link, seen: &[Seen<'_>]) -> Option<String> {
    let name = link.rename.as_ref()?;
    let one = seen.iter().find(|one| one.wired && one.is(&link.selector) && one.link.name != *name)?;
    let holder = seen.iter().find(|other| other.link.name == *name)?;
    let gives_way =
        named(plan, holder).is_some_and(|at| plan.links[at].rename.as_ref().is_some_and(|own| own != name));
    (!gives_way).then(|| {
        format!(
            "{} is not called {name} as {} asks: another interface has that name",
            one.link.name,
            link.from.join(" ")
        )
    })
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
fn is_below(plan: &Plan, seen: &Seen<'_>, all: &[Seen<'_>], late: bool) -> bool {
    plan.links.iter().any(|link| match &link.kind {
        Kind::Vlan { link, .. } => is_meant(plan, seen, &Selector::name(link), all, late),
        Kind::Physical | Kind::Bond { .. } | Kind::Bridge { .. } => false,
    })
}

/// Whether an interface is to be a port of a bond or a bridge.
fn is_port(plan: &Plan, seen: &Seen<'_>, all: &[Seen<'_>]) -> bool {
    plan.links.iter().any(|link| match &link.kind {
        Kind::Physical | Kind::Vlan { .. } => false,
        Kind::Bond { ports, .. } | Kind::Bridge { ports, .. } => {
            ports.iter().any(|port| is_meant(plan, seen, port, all, false))
        }
    })
}

/// Whether what stands on others means this one. A name that the plan gives to a NIC means that NIC, whatever is called so
/// today; where that NIC is not here and it is `late`, the name alone counts.
pub fn is_meant(plan: &Plan, one: &Seen<'_>, selector: &Selector, all: &[Seen<'_>], late: bool) -> bool {
    let is_by_name = selector.mac.is_none() && selector.driver.is_none();
    let gives = |link: &&network::Link| link.kind == Kind::Physical && link.rename == selector.name;
    match plan.links.iter().find(|link| is_by_name && link.rename.is_some() && gives(link)) {
        Some(named) if one.is(&named.selector) => true,
        Some(named) if !late || all.iter().any(|other| other.is(&named.selector)) => false,
        Some(_) | None => one.is(selector),
    }
}

/// What earlier plans made and this one does not, or makes of another kind, on another interface, or with other options: a
/// VLAN and a bond with ports cannot be changed. A VLAN goes with what it stands on, so the later ones come first.
pub fn leftovers(
    plan: &Plan,
    seen: &[Seen<'_>],
    ours: &Ours,
    is_refused: &dyn Fn(&Step) -> bool,
) -> Vec<Step> {
    let unmake = |one: &Seen<'_>| Step::Unmake { link: one.link.index, name: one.link.name.clone() };
    let left = seen.iter().rev().filter(|one| is_left(plan, one, seen, ours)).map(unmake);
    left.filter(|step| !is_refused(step)).collect()
}

/// Whether an interface is to be taken away. What stands on one goes with it.
pub fn is_left(plan: &Plan, one: &Seen<'_>, seen: &[Seen<'_>], ours: &Ours) -> bool {
    let Some(made) = ours.made(one) else { return false };
    let below = one.link.below.and_then(|below| seen.iter().find(|other| other.link.index == below));
    if below.is_some_and(|below| is_left(plan, below, seen, ours)) {
        return true;
    }
    let is_it = |link: &&network::Link| link.selector.name.as_ref() == Some(&one.link.name);
    let Some(asked) = plan.links.iter().filter(|link| link.kind != Kind::Physical).find(is_it) else {
        return true;
    };
    match (&asked.kind, &made.kind) {
        (Kind::Vlan { link: below, id }, Kind::Vlan { link: old, id: old_id }) => {
            // The same word means another NIC where a name was given to that.
            let is_said = below != old || plan.links.iter().any(|link| link.rename.as_ref() == Some(below));
            let below = Selector::name(below);
            let below = seen.iter().find(|below_it| is_meant(plan, below_it, &below, seen, false));
            // Until the other NIC is here, this one serves.
            id != old_id || is_said && below.is_some_and(|below| one.link.below != Some(below.link.index))
        }
        (Kind::Bond { options, .. }, Kind::Bond { options: old, .. }) => sorted(options) != sorted(old),
        (Kind::Bridge { stp, .. }, Kind::Bridge { stp: old, .. }) => stp != old,
        (Kind::Physical | Kind::Vlan { .. } | Kind::Bond { .. } | Kind::Bridge { .. }, _) => true,
    }
}

fn sorted(options: &[BondOption]) -> BTreeSet<(&str, &str)> {
    options.iter().map(|option| (option.name.as_str(), option.value.as_str())).collect()
}

/// In words, interfaces that the plan asks for and that somebody else made: they are not taken away.
pub fn strangers(plan: &Plan, seen: &[Seen<'_>], ours: &Ours) -> Vec<String> {
    let of_link = |link: &network::Link| {
        let name = link.selector.name.as_ref().filter(|_| link.kind != Kind::Physical)?;
        let one = seen.iter().find(|one| one.link.name == *name && ours.made(one).is_none())?;
        // The driver's own, which gets its options next.
        let is_new = one.link.kind == "bond" && !one.link.up;
        let what = match one.link.kind == kind_name(&link.kind) {
            true => "what it stands on and its options stay as they are",
            false => "it is something else and stays as it is",
        };
        let from = link.from.join(" ");
        (!is_new).then(|| format!("{name} is there already, and was not made for {from}: {what}"))
    };
    plan.links.iter().filter_map(of_link).collect()
}

/// Names that a trial gave and that NICs have beside their own still, where neither the plan nor systemd would give them.
pub fn unname(plan: &Plan, seen: &[Seen<'_>], unnamed: &BTreeSet<String>) -> Vec<Step> {
    let is_planned = |name: &String| plan.links.iter().any(|link| link.rename.as_ref() == Some(name));
    let of_one = |one: &Seen<'_>| -> Vec<Step> {
        let is_left =
            |name: &&String| unnamed.contains(*name) && !is_planned(name) && !one.names.contains(name);
        let is_renamed = named(plan, one).is_some_and(|at| plan.links[at].rename.is_some());
        // Called so by the trial alone: what it was called before stands beside it.
        if is_left(&&one.link.name) && !is_renamed {
            let mut before =
                one.link.names.iter().filter(|name| !one.names.contains(name) && !unnamed.contains(*name));
            if let (Some(old), None) = (before.next(), before.next()) {
                return vec![
                    change(one, Change::NoAltName(old.clone())),
                    change(one, Change::Name(old.clone())),
                ];
            }
        }
        let left = one.link.names.iter().filter(is_left);
        left.map(|name| change(one, Change::NoAltName(name.clone()))).collect()
    };
    seen.iter().filter(|one| one.wired).flat_map(of_one).collect()
}

/// What was done so far.
#[derive(Clone, Copy, Debug)]
pub struct Done<'a> {
    /// Interfaces that were brought up once; whoever takes one down after that means it.
    pub raised: &'a BTreeSet<u32>,
    /// Those that are there.
    pub modules: &'a BTreeSet<&'static str>,
    pub ours: &'a Ours,
}

/// What is to be done now, in order. `late` as for [`role`]. `is_refused`: steps that are left out for now, with what would
/// come before and after them.
pub fn steps(
    plan: &Plan,
    seen: &[Seen<'_>],
    adopted: &Adopted,
    late: bool,
    done: Done<'_>,
    is_refused: &dyn Fn(&Step) -> bool,
) -> Vec<Step> {
    let Done { raised, ours, .. } = done;
    let mut steps = leftovers(plan, seen, ours, is_refused);
    let (left, staying): (Vec<Seen<'_>>, Vec<Seen<'_>>) =
        seen.iter().copied().partition(|one| is_left(plan, one, seen, ours));
    for one in &staying {
        let own = entry(plan, one, adopted);
        // Its name is said beside what was adopted for it.
        let name =
            named(plan, one).filter(|at| Some(*at) != own).and_then(|at| plan.links[at].rename.as_ref());
        let stated = own.map(|at| &plan.links[at]);
        let is_free = !is_in_bond(one, seen);
        let wanted = Wanted {
            name: stated.and_then(|link| link.rename.as_ref()).or(name),
            mtu: stated.and_then(|link| link.mtu).or(ours.size(one).filter(|_| is_free)),
            mac: stated.and_then(|link| link.mac).or(ours.mac(one)).filter(|_| is_free),
        };
        adjust(plan, wanted, one, seen, is_refused, &mut steps);
    }
    for one in seen {
        // So that `ip link show enp3s0` finds it, as the installed system's files name it.
        let is_free = |name: &&String| {
            !seen.iter().any(|other| other.has(name))
                && !plan.links.iter().any(|link| link.rename.as_ref() == Some(*name))
        };
        let more = one.names.iter().filter(is_free).map(|name| change(one, Change::AltName(name.clone())));
        steps.extend(more.filter(|step| one.wired && !is_refused(step)));
    }
    let past = staying.iter().filter(|port| is_past(plan, port, &staying, ours));
    steps.extend(past.map(|port| change(port, Change::NoMaster)).filter(|step| !is_refused(step)));
    // What is taken away first is made anew when it is gone.
    let is_free =
        |link: &&network::Link| !left.iter().any(|one| link.selector.name.as_ref() == Some(&one.link.name));
    for link in plan.links.iter().filter(is_free) {
        make(plan, link, &staying, late, done, is_refused, &mut steps);
    }
    for one in &staying {
        let is_wanted = role(plan, one, seen, adopted, late).is_some_and(|role| {
            let is_stated = role.entry.is_some_and(|at| !plan.links[at].addresses.is_empty());
            role.methods != Methods::OFF || is_stated
        });
        let is_needed = one.link.master.is_none() && (is_wanted || is_below(plan, one, seen, late));
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

/// A bond has its ports' MAC and MTU, and gives them back by itself (`__bond_release_one` of drivers/net/bonding/bond_main.c).
pub fn is_in_bond(one: &Seen<'_>, seen: &[Seen<'_>]) -> bool {
    let is_bond =
        |master: u32| seen.iter().any(|other| other.link.index == master && other.link.kind == "bond");
    one.link.master.is_some_and(is_bond)
}

/// What an interface is to have: as the plan says, else as it was before.
struct Wanted<'a> {
    name: Option<&'a String>,
    mtu: Option<u32>,
    mac: Option<Mac>,
}

/// Name, MAC and MTU of an interface that is there.
fn adjust(
    plan: &Plan,
    wanted: Wanted<'_>,
    one: &Seen<'_>,
    seen: &[Seen<'_>],
    is_refused: &dyn Fn(&Step) -> bool,
    steps: &mut Vec<Step>,
) {
    let name = wanted.name.filter(|name| **name != one.link.name);
    let name = name.filter(|name| make_way(plan, name, one, seen, is_refused, steps)).cloned();
    let mac = wanted.mac.filter(|mac| one.link.mac != Some(*mac));
    let mtu = wanted.mtu.filter(|mtu| *mtu != one.link.mtu);
    let open =
        |wanted: Option<Change>| wanted.map(|wanted| change(one, wanted)).filter(|step| !is_refused(step));
    let (name, mac, mtu) =
        (open(name.map(Change::Name)), open(mac.map(Change::Mac)), open(mtu.map(Change::Mtu)));
    // Few drivers take a new address while they are up; a name each takes (Linux 6.2).
    let must_be_down = one.link.up && mac.is_some();
    let edge = |edge: Change| must_be_down.then(|| change(one, edge));
    // By its old name it is found still, unless another one is to have that.
    let is_free = !plan.links.iter().any(|link| link.rename.as_ref() == Some(&one.link.name))
        && !one.link.name.starts_with(SPARE);
    let old = name.as_ref().filter(|_| is_free).and_then(|step| match step {
        Step::Change { link, change: Change::Name(name), .. } => {
            let old = Change::AltName(one.link.name.clone());
            Some(Step::Change { link: *link, name: name.clone(), change: old })
        }
        _ => None,
    });
    steps.extend([edge(Change::Down), mac, mtu, name, old, edge(Change::Up)].into_iter().flatten());
}

/// What is called so meanwhile is about to get the name of its own.
const SPARE: &str = "renamed-";

/// The kernel gives a name once, and one more name of an interface counts as one too: what has it must lose it first. Whether
/// it is free now.
fn make_way(
    plan: &Plan,
    name: &str,
    one: &Seen<'_>,
    seen: &[Seen<'_>],
    is_refused: &dyn Fn(&Step) -> bool,
    steps: &mut Vec<Step>,
) -> bool {
    let Some(holder) = seen.iter().find(|other| other.has(name)) else { return true };
    let is_called_so = holder.link.name == name;
    let away = match is_called_so {
        false => Some(change(holder, Change::NoAltName(name.to_string()))),
        // It has another name by the plan: two that are to change theirs.
        true => named(plan, holder)
            .filter(|at| plan.links[*at].rename.as_deref().is_some_and(|own| own != name))
            .map(|_| change(holder, Change::Name(format!("{SPARE}{}", holder.link.index)))),
    };
    let away = away.filter(|away| !is_refused(away));
    let is_free =
        !is_called_so && away.is_some() && !is_refused(&change(one, Change::Name(name.to_string())));
    steps.extend(away.filter(|_| is_called_so || is_free));
    is_free
}

/// An interface that stands on others.
fn make(
    plan: &Plan,
    link: &network::Link,
    seen: &[Seen<'_>],
    late: bool,
    done: Done<'_>,
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
    if own.is_none() && !done.modules.contains(module) {
        return steps.push(Step::Module(module));
    }
    match (&link.kind, own) {
        (Kind::Physical, _) => {}
        (Kind::Vlan { link: below, id }, None) => {
            let below = Selector::name(below);
            let below = seen.iter().find(|one| is_meant(plan, one, &below, seen, late));
            let below = below.map(|below| below.link.index);
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
                let before = options.iter().filter(|option| option.name != "active_slave");
                steps.push(Step::Options { bond: name.clone(), options: before.map(pair).collect() });
            }
            for port in enslave(plan, ports, bond, seen, late, is_refused, steps) {
                prefer(plan, options, bond, port, seen, late, steps);
            }
        }
        (Kind::Bridge { ports, .. }, Some(bridge)) if bridge.link.kind == "bridge" => {
            enslave(plan, ports, bridge, seen, late, is_refused, steps);
        }
        // Somebody else's interface has this name.
        (Kind::Bond { .. } | Kind::Bridge { .. }, Some(_)) => {}
    }
}

/// The ports that a plan has for an interface.
pub fn asked_ports<'a>(plan: &'a Plan, name: &str) -> &'a [Selector] {
    let asked = plan.links.iter().find(|link| link.selector.name.as_deref() == Some(name));
    match asked.map(|link| &link.kind) {
        Some(Kind::Bond { ports, .. } | Kind::Bridge { ports, .. }) => ports,
        Some(Kind::Physical | Kind::Vlan { .. }) | None => &[],
    }
}

/// Whether an earlier plan made it the port that it is, and this one does not. Those that somebody else joined stay.
fn is_past(plan: &Plan, port: &Seen<'_>, seen: &[Seen<'_>], ours: &Ours) -> bool {
    let (Some(master), Some(by)) = (port.link.master, ours.joined(port)) else { return false };
    // With what is taken away its ports are free anyway.
    let Some(master) = seen.iter().find(|one| one.link.index == master) else { return false };
    let asked = asked_ports(plan, &master.link.name);
    !asked.contains(by) && !asked.iter().any(|selector| is_meant(plan, port, selector, seen, true))
}

/// Returns those that become ports now.
fn enslave<'a>(
    plan: &Plan,
    ports: &[Selector],
    master: &Seen<'_>,
    seen: &'a [Seen<'a>],
    late: bool,
    is_refused: &dyn Fn(&Step) -> bool,
    steps: &mut Vec<Step>,
) -> Vec<&'a Seen<'a>> {
    let mut new = Vec::new();
    for port in seen {
        let is_free = port.link.master.is_none() && port.link.index != master.link.index;
        let is_whole = port.wired || matches!(port.link.kind.as_str(), "bond" | "vlan" | "veth");
        let join = change(port, Change::Master(master.link.index));
        if is_free
            && is_whole
            && !is_refused(&join)
            && ports.iter().any(|selector| is_meant(plan, port, selector, seen, late))
        {
            if port.link.up && master.link.kind == "bond" {
                steps.push(change(port, Change::Down));
            }
            steps.push(join);
            new.push(port);
            // A bond brings its ports up itself, a bridge does not.
            if master.link.kind == "bridge" && !port.link.up {
                steps.push(change(port, Change::Up));
            }
        }
    }
    new
}

/// The driver knows a port by its one name alone, and as the active one only once it is a port (`bond_option_primary_set`,
/// `bond_option_active_slave_set` of drivers/net/bonding/bond_options.c).
fn prefer(
    plan: &Plan,
    options: &[BondOption],
    bond: &Seen<'_>,
    port: &Seen<'_>,
    seen: &[Seen<'_>],
    late: bool,
    steps: &mut Vec<Step>,
) {
    // As this round is about to call it.
    let renamed = steps.iter().rev().find_map(|step| match step {
        Step::Change { link, change: Change::Name(name), .. } if *link == port.link.index => Some(name),
        _ => None,
    });
    let name = renamed.unwrap_or(&port.link.name).clone();
    let is_about = |option: &&BondOption| match option.name.as_str() {
        // The driver has the word already.
        "primary" => option.value != name,
        "active_slave" => true,
        _ => false,
    };
    let is_it = |option: &&BondOption| is_meant(plan, port, &Selector::name(&option.value), seen, late);
    let of_port = |option: &BondOption| Step::Prefer {
        bond: bond.link.name.clone(),
        option: option.name.clone(),
        port: name.clone(),
    };
    steps.extend(options.iter().filter(is_about).filter(is_it).map(of_port));
}

/// The options of a bond as they are written, one after the other: the driver takes the mode first, delays only after the
/// interval that they are multiples of (`_bond_option_delay_set` of drivers/net/bonding/bond_options.c), and lists one at a
/// time, each of a list once. `held`: what it has of an option.
pub fn writes(options: &[(String, String)], held: impl Fn(&str) -> String) -> Vec<(&str, String)> {
    let rank = |name: &str| match name {
        "mode" => 0,
        "miimon" => 1,
        "updelay" | "downdelay" | "peer_notif_delay" => 2,
        _ => 3,
    };
    let mut sorted: Vec<&(String, String)> = options.iter().collect();
    sorted.sort_by_key(|(name, _)| rank(name));
    let of_option = |(name, value): &'_ (String, String)| -> Vec<String> {
        match name.as_str() {
            "arp_ip_target" | "ns_ip6_target" => {
                let held = held(name);
                let held: Vec<IpAddr> = held.split_whitespace().filter_map(|one| one.parse().ok()).collect();
                let is_new = |one: &&str| one.parse().map_or(true, |one| !held.contains(&one));
                value.split(',').filter(is_new).map(|one| format!("+{one}")).collect()
            }
            _ => vec![value.clone()],
        }
    };
    let pairs = |pair: &'_ (String, String)| of_option(pair).into_iter();
    sorted.into_iter().flat_map(|pair| pairs(pair).map(|value| (pair.0.as_str(), value))).collect()
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
            .map(|link| Seen {
                link,
                names: &[],
                driver: "e1000e",
                addresses: &[],
                size: None,
                wired: link.kind.is_empty(),
                bmc: link.name.starts_with("usb"),
            })
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
            Step::Unmake { link, .. } => {
                let gone = links.iter().find(|one| one.index == *link).unwrap().clone();
                links.retain(|one| one.index != *link && one.below != Some(*link));
                for port in links.iter_mut().filter(|one| one.master == Some(*link)) {
                    let_go(port, gone.kind == "bond");
                }
            }
            Step::Options { bond, .. } => {
                let bond = links.iter().find(|link| link.name == *bond).unwrap().index;
                assert!(
                    links.iter().all(|link| link.master != Some(bond)),
                    "mode is fixed once there are ports"
                );
            }
            Step::Prefer { bond, port, .. } => {
                let bond = links.iter().find(|link| link.name == *bond).unwrap().index;
                let is_port = |link: &Link| link.name == *port && link.master == Some(bond);
                assert!(links.iter().any(is_port), "{port} is no port by this name");
            }
            Step::Change { link: index, change, .. } => {
                let is_bond =
                    |index: u32, links: &[Link]| links.iter().any(|l| l.index == index && l.kind == "bond");
                let bond = matches!(change, Change::Master(master) if is_bond(*master, links));
                let was_bond = links
                    .iter()
                    .find(|link| link.index == *index)
                    .unwrap_or_else(|| panic!("{step:?}: it is gone"))
                    .master
                    .is_some_and(|master| is_bond(master, links));
                let of_bond = match change {
                    Change::Master(master) => links.iter().find(|link| link.index == *master).unwrap().mac,
                    _ => None,
                };
                if let Change::Name(name) | Change::AltName(name) = change {
                    let has = |link: &Link| link.name == *name || link.names.contains(name);
                    assert!(!links.iter().any(has), "the kernel gives {name} once: {links:?}");
                }
                let link = links.iter_mut().find(|link| link.index == *index).unwrap();
                match change {
                    Change::Up => link.up = true,
                    Change::Down => link.up = false,
                    Change::Mtu(mtu) => link.mtu = *mtu,
                    Change::Mac(mac) => link.mac = Some(*mac),
                    Change::Name(name) => link.name = name.clone(),
                    Change::AltName(name) => link.names.push(name.clone()),
                    Change::NoAltName(name) => link.names.retain(|own| own != name),
                    Change::Master(master) => {
                        assert!(!bond || !link.up, "a port must be down when a bond takes it");
                        assert_eq!(link.master, None, "a port is of one");
                        (link.master, link.up) = (Some(*master), link.up || bond);
                        link.mac = of_bond.filter(|_| bond).or(link.mac);
                    }
                    Change::NoMaster => let_go(link, was_bond),
                }
            }
        }
    }

    /// A bond takes down what it gives back, with its own MAC.
    fn let_go(port: &mut Link, bond: bool) {
        port.master = None;
        if bond {
            (port.up, port.mac) = (false, port.permanent);
        }
    }

    /// What netd has in its head, and below /run.
    #[derive(Default)]
    struct Life {
        raised: BTreeSet<u32>,
        modules: BTreeSet<&'static str>,
        ours: Ours,
        /// MTU by DHCP.
        size: Option<u32>,
    }

    /// All steps of the first life until nothing is left to do, in words.
    fn run(line: &str, links: &mut Vec<Link>) -> Vec<String> {
        Life::default().run(&dracut::read(&words(line)), links)
    }

    impl Life {
        fn run(&mut self, plan: &Plan, links: &mut Vec<Link>) -> Vec<String> {
            let Life { raised, modules, ours, size } = self;
            let mut adopted = Adopted::new();
            let mut done = Vec::new();
            for _ in 0..10 {
                // Another life of netd may do each round.
                *ours = serde_json::from_str(&serde_json::to_string(ours).unwrap()).unwrap();
                let (one_round, noted) = {
                    let mut seen = seen(links);
                    seen.iter_mut().for_each(|one| one.size = *size);
                    ours.tidy(&seen);
                    adopt(plan, &seen, &mut adopted, false);
                    let done = Done { raised, modules, ours };
                    let steps = steps(plan, &seen, &adopted, false, done, &|_| false);
                    let mut noted = ours.clone();
                    steps.iter().for_each(|step| noted.note(step, plan, &seen));
                    (steps, noted)
                };
                *ours = noted;
                if one_round.is_empty() {
                    return done;
                }
                for step in one_round {
                    carry_out(links, &step);
                    raised.retain(|index| links.iter().any(|link| link.index == *index));
                    done.push(match &step {
                        Step::Module(name) => {
                            modules.insert(*name);
                            format!("module {name}")
                        }
                        Step::MakeVlan { name, below, id } => format!("make {name}: {id} on {below}"),
                        Step::MakeBond { name } | Step::MakeBridge { name, .. } => format!("make {name}"),
                        Step::Unmake { name, .. } => format!("unmake {name}"),
                        Step::Options { bond, options } => format!("{bond}: {}", options[0].1),
                        Step::Prefer { bond, option, port } => format!("{bond}: {option} {port}"),
                        Step::Change { name, change, link } => {
                            match change {
                                Change::Up => drop(raised.insert(*link)),
                                Change::Down | Change::Master(_) | Change::NoMaster => {
                                    raised.retain(|index| index != link)
                                }
                                _ => {}
                            }
                            format!("{name}: {change:?}")
                        }
                    });
                }
            }
            panic!("it does not end: {done:?}");
        }
    }

    /// The first round without anything done before.
    fn first(
        plan: &Plan,
        seen: &[Seen<'_>],
        adopted: &Adopted,
        late: bool,
        modules: &BTreeSet<&'static str>,
    ) -> Vec<Step> {
        let done = Done { raised: &BTreeSet::new(), modules, ours: &Ours::default() };
        steps(plan, seen, adopted, late, done, &|_| false)
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
        assert_eq!(
            role(&plan, &seen(&links)[0], &seen(&links), &Adopted::new(), true),
            None,
            "a port has no address"
        );
    }

    #[test]
    fn an_option_that_means_a_port_names_it_as_the_kernel_does_once_it_is_a_port() {
        let eno1 = Link { names: vec!["eno1".to_string()], ..nic(2, "eth0") };
        let told = |line: &str| {
            let done = run(line, &mut vec![eno1.clone(), nic(3, "eth1")]);
            done.into_iter().filter(|step| step.contains("primary") || step.contains("active")).collect()
        };
        let mode = "bond=bond0:eno1,eth1:mode=active-backup";
        let cases: [(&str, String, &[&str]); 4] = [
            (
                "by another name",
                format!("{mode},primary=eno1"),
                &["bond0: active-backup", "bond0: primary eth0"],
            ),
            ("by the kernel's", format!("{mode},primary=eth1"), &["bond0: active-backup"]),
            (
                "that it gets now",
                format!("{mode},primary=eth9 ifname=lan0:02:00:00:00:00:02 ifname=eth9:02:00:00:00:00:03")
                    .replace("eno1,eth1", "lan0,eth9"),
                &["bond0: active-backup"],
            ),
            (
                "the active one",
                format!("{mode},active_slave=eth1"),
                &["bond0: active-backup", "bond0: active_slave eth1"],
            ),
        ];
        for (label, line, wanted) in cases {
            let told: Vec<String> = told(&line);
            assert_eq!(told, wanted, "{label}");
        }
        let plan = dracut::read(&words(&format!("{mode},active_slave=eth1")));
        let links = [eno1.clone(), Link { kind: "bond".to_string(), ..nic(4, "bond0") }];
        let steps = first(&plan, &seen(&links), &Adopted::new(), false, &BTreeSet::new());
        let has = |step: &Step| matches!(step, Step::Options { options, .. } if options.iter().any(|(n, _)| n == "active_slave"));
        assert!(!steps.iter().any(has), "not before there is a port: {steps:?}");
    }

    #[test]
    fn a_bonds_options_are_written_in_the_drivers_order_and_each_of_a_list_once() {
        let options = |text: &str| {
            let pair =
                |pair: &str| pair.split_once('=').map(|(n, v)| (n.to_string(), v.to_string())).unwrap();
            text.split(' ').map(pair).collect::<Vec<(String, String)>>()
        };
        let cases = [
            (
                "downdelay=200 updelay=100 miimon=50 mode=802.3ad",
                "",
                "mode=802.3ad miimon=50 downdelay=200 updelay=100",
            ),
            ("peer_notif_delay=200 miimon=100", "", "miimon=100 peer_notif_delay=200"),
            (
                "mode=active-backup arp_ip_target=192.0.2.1,192.0.2.2 arp_interval=100",
                "",
                "mode=active-backup arp_ip_target=+192.0.2.1 arp_ip_target=+192.0.2.2 arp_interval=100",
            ),
            ("arp_ip_target=192.0.2.1,192.0.2.2", "192.0.2.1\n", "arp_ip_target=+192.0.2.2"),
            ("ns_ip6_target=2001:DB8:0::1 lp_interval=1", "2001:db8::1\n", "lp_interval=1"),
        ];
        for (said, held, wanted) in cases {
            let options = options(said);
            let written: Vec<String> =
                writes(&options, |_| held.to_string()).iter().map(|(n, v)| format!("{n}={v}")).collect();
            assert_eq!(written.join(" "), wanted, "{said}");
        }
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
        assert_eq!([0, 1].map(|at| role(&plan, &seen[at], &seen, &none, false).is_some()), [false, true]);
        let up = |late| {
            let steps = first(&plan, &seen, &none, late, &BTreeSet::new());
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
        assert_eq!(done.len(), 6, "{done:?}");
        assert!(links[0].up && links[0].names == ["eth0"], "{links:?}");
    }

    #[test]
    fn a_name_that_a_nic_has_beside_its_own_or_that_another_gives_up_is_given() {
        let enp3s0 = Link { names: vec!["enp3s0".to_string()], up: true, ..nic(2, "eth0") };
        let mut links = vec![enp3s0.clone()];
        let done = run("ifname=enp3s0:02:00:00:00:00:02", &mut links);
        assert_eq!((links[0].name.as_str(), &links[0].names[..]), ("enp3s0", &["eth0".to_string()][..]));
        assert!(!done.iter().any(|step| step.contains("Down")), "{done:?}");
        let mut links = vec![enp3s0, nic(3, "eth1")];
        run("ifname=enp3s0:02:00:00:00:00:03", &mut links);
        assert_eq!(links[1].name, "enp3s0");
        let mut links = vec![nic(2, "eth0"), nic(3, "eth1")];
        run("ifname=eth1:02:00:00:00:00:02 ifname=eth0:02:00:00:00:00:03", &mut links);
        let names: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
        assert_eq!(names, ["eth1", "eth0"]);
    }

    #[test]
    fn a_name_of_a_trial_is_taken_off_once_that_is_taken_back_and_no_other_name_is() {
        let names = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<String>>();
        let links = [Link { names: names(&["wan0", "eth0", "enp3s0"]), ..nic(2, "lan0") }];
        let mut seen = seen(&links);
        let systemd = names(&["enp3s0"]);
        seen[0].names = &systemd;
        let unnamed: BTreeSet<String> = names(&["wan0", "enp3s0"]).into_iter().collect();
        let taken = |line: &str| unname(&dracut::read(&words(line)), &seen, &unnamed);
        assert_eq!(
            taken("ifname=lan0:02:00:00:00:00:02"),
            [change(&seen[0], Change::NoAltName("wan0".to_string()))]
        );
        assert_eq!(taken("ifname=wan0:02:00:00:00:00:02"), [], "it is asked for again");
        // Called so alone, it gets back what it was called before.
        let mut links = vec![nic(2, "eth0")];
        run("ifname=wan0:02:00:00:00:00:02", &mut links);
        let plan = dracut::read(&words("ip=dhcp"));
        for step in unname(&plan, &super::tests::seen(&links), &unnamed) {
            carry_out(&mut links, &step);
        }
        assert_eq!((links[0].name.as_str(), links[0].names.len()), ("eth0", 0));
    }

    #[test]
    fn a_name_that_cannot_be_given_means_the_nic_that_should_have_it_and_is_told() {
        let mut links = vec![nic(2, "eth0"), nic(3, "eth1")];
        let line = "ifname=eth0:02:00:00:00:00:03 vlan=eth0.5:eth0 bond=bond0:eth0 ip=eth0:off";
        let plan = dracut::read(&words(line));
        let told = adopt(&plan, &seen(&links), &mut Adopted::new(), true);
        assert!(told[0].starts_with("eth1 is not called eth0 as ifname="), "{told:?}");
        let done = run(line, &mut links);
        assert!(done.contains(&"make eth0.5: 5 on 3".to_string()), "{done:?}");
        let master = |name: &str| links.iter().find(|link| link.name == name).unwrap().master.is_some();
        assert_eq!([master("eth0"), master("eth1")], [false, true], "{done:?}");
        // A MAC of another machine.
        let gone = dracut::read(&words("ifname=eth0:02:00:00:00:00:99 vlan=eth0.5:eth0"));
        let means = |late| is_meant(&gone, &seen(&links)[0], &Selector::name("eth0"), &seen(&links), late);
        assert_eq!([means(false), means(true)], [false, true]);
    }

    #[test]
    fn an_address_without_an_interface_goes_to_a_nic_of_which_only_the_name_is_said() {
        let mut links = vec![nic(2, "eth0")];
        let line = "ip=192.0.2.7::192.0.2.1:24 ifname=lan0:02:00:00:00:00:02";
        run(line, &mut links);
        assert_eq!(links[0].name, "lan0");
        let plan = dracut::read(&words(line));
        let mut adopted = Adopted::new();
        adopt(&plan, &seen(&links), &mut adopted, false);
        let role = role(&plan, &seen(&links)[0], &seen(&links), &adopted, false).unwrap();
        assert_eq!(plan.links[role.entry.unwrap()].addresses.len(), 1);
        // Of two sizes the one of the address counts, once.
        let mut sized = plan.clone();
        (sized.links[0].mtu, sized.links[1].mtu) = (Some(1400), Some(9000));
        let steps = first(&sized, &seen(&links), &adopted, false, &BTreeSet::new());
        let mtus: Vec<&Step> =
            steps.iter().filter(|step| matches!(step, Step::Change { change: Change::Mtu(_), .. })).collect();
        assert!(mtus.len() == 1, "{mtus:?}");
        // Nor does what a disk says of it keep it away.
        let mut plan = dracut::read(&words("ip=192.0.2.7::192.0.2.1:24"));
        let mut found = dracut::read(&words("ip=198.51.100.7:::24::lan0:none"));
        found.links[0].from = vec!["/etc/network/interfaces".to_string()];
        plan.take_in(found, &|_, _| false);
        let mut adopted = Adopted::new();
        adopt(&plan, &seen(&links), &mut adopted, false);
        assert_eq!(adopted, Adopted::from([(0, 2)]));
    }

    #[test]
    fn an_address_that_is_set_later_takes_a_nic_that_asks_by_dhcp_and_none_that_is_off() {
        let links = [nic(2, "eth0")];
        for (booted, want) in
            [("ip=eth0:dhcp", true), ("ip=eth0:off", false), ("ip=10.0.0.7:::8::eth0:off", false)]
        {
            let mut plan = dracut::read(&words(booted));
            plan.replace_by(dracut::read(&words("ip=192.0.2.7::192.0.2.1:24")));
            let mut adopted = Adopted::new();
            assert!(
                adopt(&plan, &seen(&links), &mut adopted, false).is_empty() && adopted.is_empty(),
                "{booted}"
            );
            let lines = adopt(&plan, &seen(&links), &mut adopted, true);
            assert_eq!((!adopted.is_empty(), lines.is_empty()), (want, want), "{booted}: {lines:?}");
        }
    }

    #[test]
    fn what_an_earlier_plan_made_is_taken_away_and_nothing_else() {
        let mut links = vec![nic(2, "eth0"), nic(3, "eth1")];
        let mut life = Life::default();
        life.run(&plan("bond=bond0:eth0,eth1 vlan=bond0.7:bond0"), &mut links);
        links.push(Link { kind: "bridge".to_string(), ..nic(9, "docker0") });
        let left = |line: &str| leftovers(&plan(line), &seen(&links), &life.ours, &|_| false);
        assert!(
            matches!(&left("bond=bond0:eth0,eth1")[..], [Step::Unmake { name, .. }] if name == "bond0.7"),
            "{:?}",
            left("bond=bond0:eth0,eth1")
        );
        assert!(
            matches!(&left("ip=dhcp")[..], [Step::Unmake { name, .. }, _] if name == "bond0.7"),
            "{:?}",
            left("ip=dhcp")
        );
    }

    fn plan(line: &str) -> Plan {
        dracut::read(&words(line))
    }

    /// Each interface's name, kind, MTU, MAC, whether it is up, and what it stands on or belongs to: in order, without the
    /// indices, which are others each time.
    fn shape(links: &[Link]) -> Vec<String> {
        let name = |index: Option<u32>| {
            links.iter().find(|link| Some(link.index) == index).map_or("-", |link| link.name.as_str())
        };
        let of_link = |link: &Link| {
            let Link { kind, mtu, up, .. } = link;
            // What is made has any MAC.
            let mac = link.mac.filter(|_| kind.is_empty() && link.master.is_none());
            let mac = mac.map_or("-".to_string(), |mac| mac.to_string());
            format!("{} {kind} {mtu} {mac} {up} {} {}", link.name, name(link.below), name(link.master))
        };
        let mut shape: Vec<String> = links.iter().map(of_link).collect();
        shape.sort();
        shape
    }

    #[test]
    fn a_trial_that_is_taken_back_leaves_everything_as_it_was() {
        for (booted, tried) in [
            ("", "ip=eth0:dhcp:9000"),
            ("", "ip=eth0:dhcp::02:00:00:00:00:99"),
            ("", "ip=eth0:dhcp:9000:02:00:00:00:00:99"),
            ("ip=eth0:dhcp:1400", "ip=eth0:dhcp:9000"),
            ("ip=eth0:dhcp:9000:02:00:00:00:00:99", "ip=eth0:dhcp"),
            ("", "bond=bond0:eth0,eth1:mode=802.3ad:9000 ip=bond0:dhcp"),
            ("bond=bond0:eth0,eth1", "bond=bond0:eth0,eth1:mode=802.3ad"),
            ("bond=bond0:eth0,eth1 vlan=bond0.7:bond0", "bond=bond0:eth0,eth1:mode=802.3ad"),
            ("bond=bond0:eth0,eth1", "bond=bond0:eth1"),
            ("bridge=br0:eth0", "bridge=br0:eth1"),
            ("bridge=br0:eth0", "bond=bond0:eth0,eth1 bridge=br0:bond0"),
            ("vlan=vlan5:eth0", "vlan=vlan5:eth1"),
            ("vlan=vlan5:eth0", "vlan=vlan0005:eth0 vlan=vlan6:eth0"),
            ("bond=lan:eth0", "bridge=lan:eth0"),
        ] {
            let mut links = vec![nic(2, "eth0"), nic(3, "eth1")];
            let mut life = Life::default();
            life.run(&plan(booted), &mut links);
            let before = shape(&links);
            let mut trial = plan(booted);
            trial.replace_by(plan(tried));
            assert_ne!(life.run(&trial, &mut links), [""; 0], "{booted}, then {tried}");
            life.run(&plan(booted), &mut links);
            assert_eq!(shape(&links), before, "{booted}, then {tried}");
        }
    }

    #[test]
    fn what_a_plan_made_and_the_next_one_has_otherwise_is_made_anew() {
        for (booted, set, want) in [
            (
                "bond=bond0:eth0,eth1:mode=active-backup",
                "bond=bond0:eth0,eth1:mode=802.3ad",
                &["unmake bond0", "make bond0", "bond0: 802.3ad", "eth0: Master(4)", "eth1: Master(4)"][..],
            ),
            (
                "bond=bond0:eth0,eth1 vlan=bond0.7:bond0",
                "bond=bond0:eth0,eth1:miimon=50",
                &["unmake bond0.7", "unmake bond0", "make bond0", "eth0: Master(4)", "make bond0.7: 7 on 4"],
            ),
            ("bond=bond0:eth0,eth1", "bond=bond0:eth1", &["eth0: NoMaster", "eth0: Up"]),
            ("bridge=br0:eth0", "bridge=br0:eth1", &["eth0: NoMaster", "eth1: Master(4)"]),
            ("bridge=br0:eth0", "bond=br0:eth0", &["unmake br0", "make br0", "eth0: Master(4)"]),
            ("vlan=vlan5:eth0", "vlan=vlan5:eth1", &["unmake vlan5", "make vlan5: 5 on 3"]),
            (
                "vlan=vlan5:lan0 ifname=lan0:02:00:00:00:00:02",
                "ifname=eth0:02:00:00:00:00:02 ifname=lan0:02:00:00:00:00:03",
                &["unmake vlan5", "make vlan5: 5 on 3"],
            ),
            // The order of options is none, nor is another word for the same NIC.
            ("bond=bond0:eth0:mode=1,miimon=50", "bond=bond0:eth0:miimon=50,mode=1", &[]),
            ("bond=bond0:eth0", "bond=bond0:02-00-00-00-00-02", &[]),
            ("vlan=vlan5:eth0", "vlan=vlan5:eth9", &[]),
        ] {
            let mut links = vec![nic(2, "eth0"), nic(3, "eth1")];
            let mut life = Life::default();
            life.run(&plan(booted), &mut links);
            let mut newer = plan(booted);
            newer.replace_by(plan(set));
            let done = life.run(&newer, &mut links);
            let mut rest = done.iter();
            let is_in_order = want.iter().all(|step| rest.any(|done| done == step));
            assert!(is_in_order && (done.is_empty() || !want.is_empty()), "{booted}, then {set}: {done:?}");
            assert_eq!(life.run(&newer, &mut links), [""; 0], "{booted}, then {set}: once");
        }
    }

    #[test]
    fn what_somebody_else_made_joined_or_set_stays() {
        let by_hand =
            |index, name: &str, kind: &str| Link { kind: kind.to_string(), up: true, ..nic(index, name) };
        // A bond and a VLAN that stand there already.
        let mut links = vec![
            Link { master: Some(4), up: true, ..nic(2, "eth0") },
            Link { up: true, ..nic(3, "eth1") },
            by_hand(4, "bond0", "bond"),
            Link { below: Some(3), ..by_hand(5, "vlan5", "vlan") },
        ];
        let mut life = Life::default();
        let asked = plan("bond=bond0:eth1:mode=802.3ad vlan=vlan5:eth0");
        let told = strangers(&asked, &seen(&links), &life.ours);
        assert!(told.len() == 2 && told.iter().all(|line| line.contains("is there already")), "{told:?}");
        life.run(&asked, &mut links);
        let is_there = |links: &[Link], name: &str, index| {
            links.iter().any(|link| link.name == name && link.index == index)
        };
        assert!(
            is_there(&links, "bond0", 4) && is_there(&links, "vlan5", 5) && links[0].master == Some(4),
            "{links:?}"
        );
        life.run(&plan(""), &mut links);
        assert!(
            is_there(&links, "bond0", 4) && is_there(&links, "vlan5", 5) && links[0].master == Some(4),
            "{links:?}"
        );
        assert_eq!(links[1].master, None, "what was joined to it is as before");
        // A port that a person joined, an MTU that he set after us, an interface of the same name.
        let mut links = vec![nic(2, "eth0"), nic(3, "eth1"), nic(4, "eth2")];
        let mut life = Life::default();
        life.run(&plan("bridge=br0:eth0 ip=eth2:dhcp:9000 vlan=vlan5:eth2"), &mut links);
        let bridge = links.iter().find(|link| link.name == "br0").map(|link| link.index);
        (links[1].master, links[2].mtu) = (bridge, 1280);
        let vlan = links.iter_mut().find(|link| link.name == "vlan5").unwrap();
        vlan.index = 99;
        life.run(&plan("bridge=br0:eth2"), &mut links);
        assert_eq!([0, 1, 2].map(|at| links[at].master), [None, bridge, bridge], "{links:?}");
        assert!(links[2].mtu == 1280 && links.iter().any(|link| link.index == 99), "{links:?}");
    }

    #[test]
    fn an_mtu_that_nobody_asks_for_any_more_is_that_of_the_lease_or_of_before() {
        for (size, want) in [(None, 1500), (Some(1400), 1400)] {
            let mut links = vec![nic(2, "eth0")];
            let mut life = Life { size, ..Life::default() };
            life.run(&plan("ip=eth0:dhcp:9000"), &mut links);
            assert_eq!(links[0].mtu, 9000);
            life.run(&plan("ip=eth0:dhcp"), &mut links);
            assert_eq!(links[0].mtu, want);
            // The lease ends, or nobody asks by DHCP any more.
            life.size = None;
            life.run(&plan("ip=eth0:off"), &mut links);
            assert_eq!(links[0].mtu, 1500, "{size:?}");
        }
    }

    #[test]
    fn the_mtu_of_a_lease_is_set_once_and_what_a_person_sets_after_that_stays() {
        let asked = plan("ip=eth0:dhcp");
        let mut links = vec![nic(2, "eth0")];
        let mut life = Life::default();
        // What the lease says, what a person has set before, and what it is then.
        for (label, size, set, want) in [
            ("no lease", None, None, 1500),
            ("a lease", Some(1400), None, 1400),
            ("renewed after a person set another", Some(1400), Some(1300), 1300),
            ("renewed again", Some(1400), None, 1300),
            ("another by the lease", Some(1450), None, 1450),
            ("renewed after a person put it back", Some(1450), Some(1300), 1300),
            ("it ended", None, None, 1300),
            ("a new lease", Some(1450), None, 1450),
            ("that ended", None, None, 1300),
        ] {
            life.size = size;
            links[0].mtu = set.unwrap_or(links[0].mtu);
            life.run(&asked, &mut links);
            assert_eq!(links[0].mtu, want, "{label}");
        }
    }

    #[test]
    fn a_card_that_takes_no_mac_stays_up() {
        let links = [Link { up: true, ..nic(2, "eth0") }];
        let plan = dracut::read(&words("ip=eth0:dhcp::02:00:00:00:00:99"));
        let is_refused = |step: &Step| matches!(step, Step::Change { change: Change::Mac(_), .. });
        let (none, no_modules) = (BTreeSet::new(), BTreeSet::new());
        let done = Done { raised: &none, modules: &no_modules, ours: &Ours::default() };
        let left = steps(&plan, &seen(&links), &Adopted::new(), false, done, &is_refused);
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
    fn a_bmc_s_nic_takes_no_address_and_counts_for_none_unless_it_is_named_or_the_only_one() {
        // Which NIC gets the address (2 is the BMC's), and whether one on the BMC's makes the machine reachable.
        for (label, line, others, late, want, counts_too) in [
            ("the other's link is to come", "ip=192.0.2.7:::24", true, false, None, false),
            ("it does not come", "ip=192.0.2.7:::24", true, true, None, false),
            ("the others are to come", "ip=192.0.2.7:::24", false, false, None, false),
            ("there is no other", "ip=192.0.2.7:::24", false, true, Some(2), true),
            ("booted from", "ip=192.0.2.7:::24 BOOTIF=02-00-00-00-00-02", true, false, Some(2), true),
            ("called so alone", "ip=192.0.2.7:::24 ifname=usb0:02:00:00:00:00:02", true, false, None, true),
            ("named", "ip=usb0:dhcp", true, false, None, true),
            ("a wrong name", "ip=192.0.2.7:::24::enp9s0:off", true, true, None, false),
            ("a wrong name, and no other", "ip=192.0.2.7:::24::enp9s0:off", false, true, Some(2), true),
        ] {
            let mut links = vec![nic(2, "usb0"), Link { kind: "bridge".to_string(), ..nic(9, "docker0") }];
            links.extend(others.then(|| Link { carrier: false, ..nic(3, "eth0") }));
            let (plan, mut adopted) = (plan(line), Adopted::new());
            adopt(&plan, &seen(&links), &mut adopted, late);
            assert_eq!(adopted.values().next().copied(), want, "{label}");
            assert_eq!(counts(&plan, &seen(&links)[0], &seen(&links), late), counts_too, "{label}");
        }
        // Of two links the other one's counts, however much later it is.
        let links = [nic(2, "usb0"), nic(3, "eth0")];
        let mut adopted = Adopted::new();
        adopt(&plan("ip=192.0.2.7:::24"), &seen(&links), &mut adopted, false);
        assert_eq!(adopted, Adopted::from([(0, 3)]));
    }

    #[test]
    fn of_the_nics_of_a_pattern_one_with_a_cable_has_what_is_stated() {
        let stated = [("192.0.2.7".parse().unwrap(), 24)];
        let mut plan = plan("ip=192.0.2.7::192.0.2.1:24::eth*:off ip=enp9s0:dhcp");
        for (label, carriers, holder, preferred, want) in [
            ("no cable", [false, false, false], None, None, vec![3, 4]),
            ("the second", [false, true, false], None, None, vec![2, 4]),
            ("the first of two", [false, true, true], None, None, vec![2, 4]),
            ("who has it keeps it", [true, true, true], Some(2), None, vec![2, 3]),
            ("and loses it with its cable", [true, true, false], Some(2), None, vec![3, 4]),
            ("the preferred one", [true, true, true], None, Some("eth1"), vec![2, 4]),
            ("who has it before the preferred", [true, true, true], Some(2), Some("eth1"), vec![2, 3]),
        ] {
            let links: Vec<Link> = (0..3)
                .map(|at| Link { carrier: carriers[at], ..nic(2 + at as u32, &format!("eth{at}")) })
                .chain([nic(9, "enp9s0")])
                .collect();
            plan.preferred =
                preferred.map(|name: &str| Selector { name: Some(name.into()), ..Selector::default() });
            let mut seen = seen(&links);
            if let Some(holder) = holder {
                let holder: usize = holder;
                seen[holder].addresses = &stated;
            }
            let roles: Vec<(u32, Option<Role>)> = seen
                .iter()
                .map(|one| (one.link.index, role(&plan, one, &seen, &Adopted::new(), false)))
                .collect();
            assert_eq!(yielding(&plan, &seen, &roles), BTreeSet::from_iter(want), "{label}");
        }
    }

    #[test]
    fn an_address_without_an_interface_waits_for_the_nic_that_was_booted_from() {
        let other = || nic(3, "eth1");
        let without = |index, name: &str| Link { carrier: false, ..nic(index, name) };
        let line = "ip=192.0.2.7::192.0.2.1:24 BOOTIF=02-00-00-00-00-02";
        for (label, words, links, early, late) in [
            ("its link is to come", line, vec![without(2, "eth0"), other()], None, Some(3)),
            ("it is to come itself", line, vec![other()], None, Some(3)),
            ("its link is there", line, vec![nic(2, "eth0"), other()], Some(2), Some(2)),
            ("bootdev=", "ip=192.0.2.7:::24 bootdev=eth0", vec![without(2, "eth0"), other()], None, Some(3)),
            ("no other has one", line, vec![without(2, "eth0"), without(3, "eth1")], None, None),
            // What has another task is not waited for.
            ("a port", line, vec![Link { master: Some(9), ..without(2, "eth0") }, other()], Some(3), Some(3)),
            ("off", &format!("{line} ip=eth0:off"), vec![without(2, "eth0"), other()], Some(3), Some(3)),
        ] {
            for (is_late, want) in [(false, early), (true, late)] {
                let mut adopted = Adopted::new();
                adopt(&plan(words), &seen(&links), &mut adopted, is_late);
                assert_eq!(adopted.values().next().copied(), want, "{label}, late: {is_late}");
            }
        }
        // An earlier life gave it to the other one.
        let stated = [("192.0.2.7".parse().unwrap(), 24)];
        let links = [without(2, "eth0"), other()];
        let mut seen = seen(&links);
        seen[1].addresses = &stated;
        let mut adopted = Adopted::new();
        adopt(&plan(line), &seen, &mut adopted, false);
        assert_eq!(adopted, Adopted::from([(0, 3)]));
    }

    #[test]
    fn an_address_stays_where_an_earlier_life_gave_it() {
        let stated = [("192.0.2.7".parse().unwrap(), 24)];
        for line in ["ip=192.0.2.7::192.0.2.1:24", "ip=192.0.2.7::192.0.2.1:24::enp9s0:off"] {
            for carrier in [true, false] {
                let links = vec![nic(2, "eth0"), Link { carrier, ..nic(3, "eth1") }];
                let mut seen = seen(&links);
                seen[1].addresses = &stated;
                let mut adopted = Adopted::new();
                adopt(&dracut::read(&words(line)), &seen, &mut adopted, false);
                assert_eq!(adopted, Adopted::from([(0, 3)]), "{line}, {carrier}");
            }
        }
    }

    #[test]
    fn an_address_without_an_interface_waits_for_a_link_and_a_person_is_told_when_it_is_late() {
        let links = vec![Link { carrier: false, ..nic(2, "eth0") }];
        let plan = dracut::read(&words("ip=192.0.2.7::192.0.2.1:24"));
        let mut adopted = Adopted::new();
        assert_eq!(adopt(&plan, &seen(&links), &mut adopted, false), Vec::<String>::new());
        let lines = adopt(&plan, &seen(&links), &mut adopted, true);
        assert!(adopted.is_empty() && lines[0].contains("the first that gets one is taken"), "{lines:?}");
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
        let one = Seen {
            link: &link,
            names: &names,
            driver: "e1000e",
            addresses: &[],
            size: None,
            wired: true,
            bmc: false,
        };
        let plan = dracut::read(&words("ip=enp3s0:off vlan=enp3s0.4:enp3s0"));
        assert_eq!(role(&plan, &one, &[one], &Adopted::new(), false).and_then(|role| role.entry), Some(1));
        let modules = BTreeSet::from(["8021q"]);
        let steps = first(&plan, &[one], &Adopted::new(), false, &modules);
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
            let role = role(&plan, &seen[at], &seen, &Adopted::new(), false).unwrap();
            (role.methods.dhcp4, plan.links[role.entry.unwrap()].addresses.len())
        };
        assert_eq!((of(0), of(1)), ((true, 1), (false, 0)));
    }
}
