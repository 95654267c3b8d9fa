//! What netd has changed of the kernel's interfaces, so that this life or the next one can put it back: pure. What nobody here
//! made is never taken away, and what somebody else has changed since is left to him.

use crate::links::{Seen, Step, asked_ports, is_in_bond, is_meant, kind_name};
use crate::rtnl::Change;
use network::{Kind, Mac, Plan, Selector};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ours {
    /// By name.
    made: BTreeMap<String, Made>,
    /// Ports by index; others were joined by hand.
    ports: BTreeMap<u32, Joined>,
    /// MTUs in bytes, by the interface's index.
    sizes: BTreeMap<u32, Was<u32>>,
    /// Those of leases, in bytes, that somebody has changed since or that the card did not take.
    yielded: BTreeMap<u32, u32>,
    macs: BTreeMap<u32, Was<Mac>>,
}

/// An interface that a plan made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Made {
    /// What was asked for when it was made.
    pub kind: Kind,
    /// Once the kernel has told it.
    index: Option<u32>,
}

/// A port, and the words that meant it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Joined {
    master: u32,
    by: Selector,
}

/// What an interface had before the first change, and what it was given last.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Was<T> {
    before: T,
    given: T,
}

impl Ours {
    /// By what plan an interface was made; `None` where it is not ours.
    pub fn made(&self, one: &Seen<'_>) -> Option<&Made> {
        self.made.get(&one.link.name).filter(|made| made.index == Some(one.link.index))
    }

    /// By which words it became the port that it is; `None` where it is none, or is another's.
    pub fn joined(&self, one: &Seen<'_>) -> Option<&Selector> {
        let joined = self.ports.get(&one.link.index)?;
        (one.link.master == Some(joined.master)).then_some(&joined.by)
    }

    /// The MTU in bytes where the plan asks for none: what the lease says, but for what somebody changed after that, else what
    /// it was before.
    pub fn size(&self, one: &Seen<'_>) -> Option<u32> {
        let leased = one.size.filter(|size| self.yielded.get(&one.link.index) != Some(size));
        leased.or_else(|| self.sizes.get(&one.link.index).map(|was| was.before))
    }

    pub fn mac(&self, one: &Seen<'_>) -> Option<Mac> {
        self.macs.get(&one.link.index).map(|was| was.before)
    }

    /// Brings it in line with what the kernel has, once it has answered to all that was asked.
    pub fn tidy(&mut self, seen: &[Seen<'_>]) {
        self.made.retain(|name, made| {
            let is_it = |one: &&Seen<'_>| {
                one.link.name == *name
                    && one.link.kind == kind_name(&made.kind)
                    && made.index.is_none_or(|index| index == one.link.index)
            };
            made.index = seen.iter().find(is_it).map(|one| one.link.index);
            made.index.is_some()
        });
        self.ports.retain(|port, joined| {
            seen.iter().any(|one| one.link.index == *port && one.link.master == Some(joined.master))
        });
        // What is neither what was given nor the bond's for a while is somebody else's will, or was put back.
        let of = |index: u32| seen.iter().find(|one| one.link.index == index);
        let stays = |index: u32, has: &dyn Fn(&Seen<'_>) -> bool| {
            of(index).is_some_and(|one| has(one) || is_in_bond(one, seen))
        };
        let is_leased = |index: u32, size: u32| of(index).is_some_and(|one| one.size == Some(size));
        self.yielded.retain(|index, size| is_leased(*index, *size));
        self.sizes.retain(|index, was| {
            let is_ours = stays(*index, &|one| one.link.mtu == was.given);
            // Until the lease says another one, or ends.
            let is_yielded = !is_ours && is_leased(*index, was.given);
            self.yielded.extend(is_yielded.then_some((*index, was.given)));
            is_ours
        });
        self.macs.retain(|index, was| stays(*index, &|one| one.link.mac == Some(was.given)));
    }

    /// What a step is about to change, before the kernel is asked: a life that ends in between leaves it to the next one.
    pub fn note(&mut self, step: &Step, plan: &Plan, seen: &[Seen<'_>]) {
        match step {
            Step::MakeVlan { name, .. } | Step::MakeBond { name } | Step::MakeBridge { name, .. } => {
                self.begin(name, None, plan);
            }
            // The driver brings a `bond0` along. One without ports that gets its options here is ours from then on.
            Step::Options { bond, .. } => {
                let index = seen.iter().find(|one| one.link.name == *bond).map(|one| one.link.index);
                self.begin(bond, index, plan);
            }
            Step::Change { link, change, .. } => self.changed(*link, change, plan, seen),
            Step::Module(_) | Step::Unmake { .. } | Step::Prefer { .. } => {}
        }
    }

    fn begin(&mut self, name: &str, index: Option<u32>, plan: &Plan) {
        let asked = plan.links.iter().find(|link| link.selector.name.as_deref() == Some(name));
        if let Some(asked) = asked.filter(|asked| asked.kind != Kind::Physical) {
            let made = Made { kind: asked.kind.clone(), index };
            self.made.insert(name.to_string(), made);
        }
    }

    fn changed(&mut self, link: u32, change: &Change, plan: &Plan, seen: &[Seen<'_>]) {
        let Some(one) = seen.iter().find(|one| one.link.index == link) else { return };
        match change {
            Change::Mtu(mtu) => given(&mut self.sizes, link, one.link.mtu, *mtu),
            Change::Mac(mac) => given(&mut self.macs, link, one.link.mac.unwrap_or(*mac), *mac),
            Change::Master(master) => {
                let name = seen.iter().find(|one| one.link.index == *master).map(|one| &one.link.name);
                let ports = name.map_or(&[][..], |name| asked_ports(plan, name));
                let by = ports.iter().find(|port| is_meant(plan, one, port, seen, true));
                self.ports.extend(by.map(|by| (link, Joined { master: *master, by: by.clone() })));
            }
            Change::Up
            | Change::Down
            | Change::Name(_)
            | Change::AltName(_)
            | Change::NoAltName(_)
            | Change::NoMaster => {}
        }
    }
}

fn given<T: Copy + PartialEq>(all: &mut BTreeMap<u32, Was<T>>, link: u32, has: T, given: T) {
    let before = all.get(&link).map_or(has, |was| was.before);
    // What is being put back is remembered until the kernel has it.
    if before != given {
        all.insert(link, Was { before, given });
    }
}
