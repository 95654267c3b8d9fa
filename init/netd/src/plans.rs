//! The plan that is carried out, and trials of another: what was before comes back by itself unless a person says that it
//! may stay, since whoever changes the network over the network may not be able to say so afterwards.

use crate::links;
use crate::offers::Kind;
use network::Plan;
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
    /// Interfaces that any plan made.
    pub made: BTreeSet<String>,
    /// What was looked for without a person, and where the settings stood that were found.
    pub looked: Vec<Kind>,
    pub origin: String,
}

impl Plans {
    /// Those of an earlier life, else what was asked for at boot.
    pub fn start(booted: Plan) -> Plans {
        let kept = std::fs::read(FILE).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let mut plans = kept.unwrap_or(Plans { current: booted, ..Plans::default() });
        plans.count();
        plans
    }

    fn count(&mut self) {
        self.made.extend(links::made(&self.current).cloned());
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
        self.count();
    }

    /// Settings that were found without a person. Not beside a trial: then one is at work.
    pub fn take_in(&mut self, found: Plan, origin: String) -> bool {
        if self.trial.is_some() {
            return false;
        }
        self.current.take_in(found);
        self.origin = origin;
        self.count();
        true
    }

    /// Whether there was something to go back to.
    pub fn revert(&mut self) -> bool {
        let Some((before, _)) = self.trial.take() else { return false };
        self.current = before;
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
        assert!(plans.revert() && plans.current == before && !plans.revert());
        assert!(plans.made.contains("eth0.5"), "it is to be taken away");
        plans.apply(plan("ip=eth0:off"), Some(Duration::from_secs(60)));
        plans.apply(plan("ip=eth0:dhcp6"), None);
        assert_eq!(plans.due(), None);
    }

    #[test]
    fn what_is_found_while_a_person_tries_something_is_not_taken() {
        let mut plans = Plans::default();
        assert!(plans.take_in(plan("vlan=eth0.5:eth0"), "a volume".to_string()));
        assert!(plans.made.contains("eth0.5") && plans.origin == "a volume");
        plans.apply(plan("ip=eth0:dhcp"), Some(Duration::from_secs(60)));
        assert!(!plans.take_in(plan("ip=eth0:dhcp6"), "a disk".to_string()));
        assert_eq!(plans.origin, "a volume");
    }
}
