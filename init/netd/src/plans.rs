//! The plan that is carried out, and trials of another: what was before comes back by itself unless a person says that it
//! may stay, since whoever changes the network over the network may not be able to say so afterwards.

use crate::offers::Kind;
use crate::ours::Ours;
use network::{IsSame, Plan};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

/// For the next life of this process.
const FILE: &str = "/run/lifeboat/state/netd-plan.json";

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Plans {
    pub current: Plan,
    /// What comes back, and when (since boot).
    pub trial: Option<(Plan, Duration)>,
    /// What was changed for any of them.
    pub ours: Ours,
    /// Names that trials gave and that were taken back.
    pub unnamed: BTreeSet<String>,
    /// What was looked for without a person, and where the settings stood that were found.
    pub looked: Vec<Kind>,
    pub origin: String,
    /// What was found during the trial, and where: it counts if what is tried is taken back.
    pub waiting: Vec<(Plan, String)>,
}

/// What became of settings that were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    In,
    /// Until the trial ends.
    Waits,
    /// A person was faster.
    Late,
}

impl Plans {
    /// Those of an earlier life, else what was asked for at boot.
    pub fn start(booted: Plan) -> Plans {
        let kept = std::fs::read(FILE).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        kept.unwrap_or(Plans { current: booted, ..Plans::default() })
    }

    pub fn apply(&mut self, newer: Plan, trial: Option<Duration>) {
        let before = self.current.clone();
        self.current.replace_by(newer);
        // A second trial ends in what was before the first.
        self.trial = match (trial, self.trial.take()) {
            (Some(end), Some((first, _))) => Some((first, end)),
            (Some(end), None) => Some((before, end)),
            (None, _) => None,
        };
        if self.trial.is_none() {
            self.is_by_a_person();
        }
    }

    /// What is tried stays. Whether there was something.
    pub fn keep(&mut self) -> bool {
        let was_tried = self.trial.take().is_some();
        if was_tried {
            self.is_by_a_person();
        }
        was_tried
    }

    /// A person has said what the network is to be: nothing is found without one after that.
    fn is_by_a_person(&mut self) {
        self.looked = vec![Kind::Seed, Kind::Borrow];
        self.origin.clear();
        self.waiting.clear();
    }

    /// Where the settings stand that are in use without a person.
    pub fn shown_origin(&self) -> &str {
        if self.trial.is_some() { "" } else { &self.origin }
    }

    /// Settings that were looked for without a person, and are there now: what became of them.
    pub fn take_in(&mut self, kind: Kind, found: Plan, origin: String, is_same: IsSame<'_>) -> Taken {
        if self.looked.contains(&kind) {
            return Taken::Late;
        }
        self.looked.push(kind);
        if self.trial.is_some() {
            self.waiting.push((found, origin));
            return Taken::Waits;
        }
        self.add(found, origin, is_same);
        Taken::In
    }

    fn add(&mut self, found: Plan, origin: String, is_same: IsSame<'_>) {
        self.current.take_in(found, is_same);
        self.origin = origin;
    }

    /// Whether there was something to go back to. What was found meanwhile is taken in then.
    pub fn revert(&mut self, is_same: IsSame<'_>) -> bool {
        let Some((before, _)) = self.trial.take() else { return false };
        let tried = std::mem::replace(&mut self.current, before);
        self.unnamed.extend(tried.links.into_iter().filter_map(|link| link.rename));
        for (found, origin) in std::mem::take(&mut self.waiting) {
            self.add(found, origin, is_same);
        }
        true
    }

    pub fn due(&self) -> Option<Duration> {
        self.trial.as_ref().map(|(_, end)| *end)
    }

    pub fn save(&self) -> std::io::Result<()> {
        let bytes = serde_json::to_vec(self).map_err(std::io::Error::other)?;
        host::statefile::replace(Path::new(FILE), &bytes, 0o600)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::links::Step;
    use contract::cmdline::words;

    fn plan(line: &str) -> Plan {
        network::dracut::read(&words(line))
    }

    #[test]
    fn a_trial_ends_in_what_was_before_the_first_one_and_one_that_is_kept_stays() {
        let before = plan("ip=eth0:dhcp");
        let mut plans = Plans { current: before.clone(), ..Plans::default() };
        plans.apply(plan("ip=eth0:off"), Some(Duration::from_secs(60)));
        plans.apply(plan("vlan=eth0.5:eth0"), Some(Duration::from_secs(90)));
        assert_eq!(plans.due(), Some(Duration::from_secs(90)));
        let made = Step::MakeVlan { name: "eth0.5".to_string(), below: 2, id: 5 };
        plans.ours.note(&made, &plans.current, &[]);
        let ours = plans.ours.clone();
        assert!(plans.revert(&|_, _| false) && plans.current == before && !plans.revert(&|_, _| false));
        assert!(plans.ours == ours && ours != Ours::default(), "it is to be taken away");
        plans.apply(plan("ip=eth0:off"), Some(Duration::from_secs(60)));
        plans.apply(plan("ip=eth0:dhcp6"), None);
        assert_eq!(plans.due(), None);
    }

    fn found(plans: &mut Plans, kind: Kind, line: &str, origin: &str) -> Taken {
        plans.take_in(kind, plan(line), origin.to_string(), &|_, _| false)
    }

    const MINUTE: Option<Duration> = Some(Duration::from_secs(60));

    #[test]
    fn what_is_found_during_a_trial_waits_and_counts_once_that_is_taken_back() {
        let mut plans = Plans::default();
        assert_eq!(found(&mut plans, Kind::Seed, "vlan=eth0.5:eth0", "a volume"), Taken::In);
        assert!(plans.current.links.len() == 1 && plans.shown_origin() == "a volume");
        plans.apply(plan("ip=eth1:dhcp"), MINUTE);
        let tried = plans.current.clone();
        assert_eq!(found(&mut plans, Kind::Borrow, "vlan=eth0.6:eth0", "a disk"), Taken::Waits);
        assert!(plans.current == tried && plans.shown_origin().is_empty());
        // The next life of netd has it too.
        let mut plans: Plans = serde_json::from_slice(&serde_json::to_vec(&plans).unwrap()).unwrap();
        assert!(plans.revert(&|_, _| false));
        let names: Vec<String> = plans.current.links.iter().map(|link| link.selector.to_string()).collect();
        assert_eq!(names, ["eth0.6", "eth0.5"]);
        assert_eq!(plans.shown_origin(), "a disk");
        assert!(plans.waiting.is_empty());
    }

    #[test]
    fn what_a_person_has_set_or_kept_is_not_changed_by_what_is_found_later() {
        let set: [fn(&mut Plans); 3] = [
            |plans| plans.apply(plan("ip=192.0.2.7:::24::eth0:none"), None),
            |plans| {
                plans.apply(plan("ip=192.0.2.7:::24::eth0:none"), MINUTE);
                assert!(plans.keep());
            },
            |plans| {
                plans.apply(plan("ip=192.0.2.7:::24::eth0:none"), MINUTE);
                assert_eq!(found(plans, Kind::Borrow, "ip=eth0:dhcp", "a disk"), Taken::Waits);
                plans.apply(plan("ip=192.0.2.7:::24::eth0:none"), None);
            },
        ];
        for (at, set) in set.into_iter().enumerate() {
            let mut plans = Plans::default();
            found(&mut plans, Kind::Seed, "ip=eth0:dhcp", "a volume");
            set(&mut plans);
            let is_set = plans.current.clone();
            assert_eq!(plans.shown_origin(), "", "{at}");
            assert_eq!(found(&mut plans, Kind::Borrow, "ip=eth0:dhcp", "a disk"), Taken::Late, "{at}");
            assert!(!plans.revert(&|_, _| false) && plans.current == is_set, "{at}");
            assert!(plans.looked.contains(&Kind::Seed) && plans.looked.contains(&Kind::Borrow), "{at}");
            assert!(!plans.keep(), "{at}: nothing is being tried");
        }
    }
}
