//! What stands on what: VLANs, bonds and bridges on other links, by name.

use crate::{Kind, Link, Plan};
use std::collections::{HashMap, HashSet};

/// What another interface stands on, by name.
pub(crate) fn below(kind: &Kind) -> Vec<&str> {
    match kind {
        Kind::Physical => Vec::new(),
        Kind::Vlan { link, .. } => vec![link],
        Kind::Bond { ports, .. } | Kind::Bridge { ports, .. } => {
            ports.iter().filter_map(|port| port.name.as_deref()).collect()
        }
    }
}

/// What is made must not stand on itself, in however many steps.
pub(crate) fn without_loops(plan: &mut Plan) {
    let mut called: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, link) in plan.links.iter().enumerate() {
        for name in [link.selector.name.as_deref(), link.rename.as_deref()].into_iter().flatten() {
            called.entry(name).or_default().push(at);
        }
    }
    let stands_on: Vec<HashSet<usize>> = plan
        .links
        .iter()
        .map(|link| below(&link.kind).iter().filter_map(|name| called.get(name)).flatten().copied().collect())
        .collect();
    let is_looped = |start: usize| {
        let (mut seen, mut rest) = (HashSet::new(), vec![start]);
        while let Some(at) = rest.pop() {
            for below in &stands_on[at] {
                if *below == start {
                    return true;
                }
                if seen.insert(*below) {
                    rest.push(*below);
                }
            }
        }
        false
    };
    let is_looped: Vec<bool> = (0..plan.links.len()).map(is_looped).collect();
    let (mut looped, mut sound) = (Vec::new(), Vec::new());
    for (link, is_looped) in std::mem::take(&mut plan.links).into_iter().zip(is_looped) {
        let to: &mut Vec<Link> = if is_looped { &mut looped } else { &mut sound };
        to.push(link);
    }
    plan.links = sound;
    for link in looped {
        plan.problem(format!("{} stands on itself ({}): left out", link.selector, link.from.join(" ")));
    }
}
