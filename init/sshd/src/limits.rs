//! What keeps strangers from crowding out the owner. Pure: who comes, who goes and when are arguments.
//!
//! Connections that have not logged in are bounded, in all and per network. A newcomer is never
//! turned away, since it may be the owner: the oldest connection of the greediest network makes room
//! instead. Somebody who logs in needs a second; somebody who holds a place open does not log in.
//!
//! Passwords are slowed down, never locked: an attempt waits longer the more attempts from its network
//! and from everywhere failed of late, but never longer than [`LONGEST_WAIT`], so that the owner is
//! in within that, whatever others do. With 64 random bits behind the door that is plenty.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// The longest that a password waits to be looked at.
pub const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// How long a failure of one network is remembered.
const MEMORY: Duration = Duration::from_secs(600);
/// Failures from everywhere within a minute above which everybody waits a second.
const CALM: usize = 30;
const MINUTE: Duration = Duration::from_secs(60);
/// Most networks remembered.
const NETWORKS: usize = 4096;

/// An IPv4 address, or the /64 that one IPv6 customer has at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network(u128);

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Network {
        match address.to_canonical() {
            IpAddr::V4(v4) => Network(u128::from(u32::from(v4))),
            // One bit of the lower half, so that none equals an IPv4 address.
            IpAddr::V6(v6) => Network(v6.to_bits() & !u128::from(u64::MAX) | 1 << 63),
        }
    }
}

/// Connections that have not logged in, oldest first.
#[derive(Debug, Default)]
pub struct Waiting {
    visits: VecDeque<(u64, Network)>,
}

impl Waiting {
    /// Lets one in; gives the one that has to go for it, if any.
    pub fn admit(&mut self, id: u64, network: Network, most: usize, most_of_one: usize) -> Option<u64> {
        let victim = if self.of(network) >= most_of_one {
            self.oldest_of(network)
        } else if self.visits.len() >= most {
            let greediest = self.visits.iter().map(|(_, network)| *network).max_by_key(|n| self.of(*n));
            greediest.and_then(|network| self.oldest_of(network))
        } else {
            None
        };
        if let Some(victim) = victim {
            self.leave(victim);
        }
        self.visits.push_back((id, network));
        victim
    }

    /// It logged in, or it is gone.
    pub fn leave(&mut self, id: u64) {
        self.visits.retain(|(other, _)| *other != id);
    }

    fn of(&self, network: Network) -> usize {
        self.visits.iter().filter(|(_, other)| *other == network).count()
    }

    fn oldest_of(&self, network: Network) -> Option<u64> {
        self.visits.iter().find(|(_, other)| *other == network).map(|(id, _)| *id)
    }
}

/// Failed passwords.
#[derive(Debug, Default)]
pub struct Failures {
    of: HashMap<Network, (u32, Instant)>,
    recent: VecDeque<Instant>,
}

impl Failures {
    pub fn failed(&mut self, network: Network, now: Instant) {
        self.recent.push_back(now);
        // More than this changes nothing.
        if self.recent.len() > CALM + 1 {
            self.recent.pop_front();
        }
        if self.of.len() >= NETWORKS && !self.of.contains_key(&network) {
            self.of.retain(|_, (_, last)| now.duration_since(*last) < MEMORY);
            if self.of.len() >= NETWORKS {
                let oldest = self.of.iter().min_by_key(|(_, (_, last))| *last).map(|(network, _)| *network);
                oldest.map(|network| self.of.remove(&network));
            }
        }
        let entry = self.of.entry(network).or_insert((0, now));
        *entry = (entry.0.saturating_add(1), now);
    }

    /// Somebody from there knew the way in.
    pub fn entered(&mut self, network: Network) {
        self.of.remove(&network);
    }

    /// How long the next attempt from there waits.
    pub fn wait(&self, network: Network, now: Instant) -> Duration {
        let count = match self.of.get(&network) {
            Some((count, last)) if now.duration_since(*last) < MEMORY => *count,
            _ => 0,
        };
        let own = match count {
            0 => Duration::ZERO,
            n => Duration::from_millis(250 << (n - 1).min(3)),
        };
        let minute = self.recent.iter().filter(|at| now.duration_since(**at) < MINUTE).count();
        let everybody = if minute > CALM { Duration::from_secs(1) } else { Duration::ZERO };
        own.max(everybody).min(LONGEST_WAIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn one_customer_is_one_network() {
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:1"));
        assert_ne!(network("2001:db8:0:1::1"), network("2001:db8:0:2::1"));
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
        assert_ne!(network("::1"), network("0.0.0.0"));
    }

    #[test]
    fn a_crowd_from_one_network_crowds_out_itself_only() {
        let (attacker, owner) = (network("192.0.2.1"), network("198.51.100.7"));
        let mut waiting = Waiting::default();
        assert_eq!(waiting.admit(0, owner, 100, 4), None);
        for id in 1..=4 {
            assert_eq!(waiting.admit(id, attacker, 100, 4), None);
        }
        for id in 5..=1000 {
            assert_eq!(waiting.admit(id, attacker, 100, 4), Some(id - 4));
        }
        waiting.leave(1000);
        assert_eq!(waiting.admit(1001, attacker, 100, 4), None);
    }

    #[test]
    fn a_newcomer_is_let_in_when_all_places_are_taken() {
        let mut waiting = Waiting::default();
        for id in 0..10 {
            let address = if id < 3 { network("192.0.2.1") } else { network(&format!("203.0.113.{id}")) };
            assert_eq!(waiting.admit(id, address, 10, 4), None);
        }
        assert_eq!(waiting.admit(10, network("198.51.100.7"), 10, 4), Some(0), "the greediest's oldest goes");
        assert_eq!(waiting.visits.len(), 10);
    }

    #[test]
    fn the_first_attempt_waits_for_nothing_and_none_waits_long() {
        let (attacker, owner) = (network("192.0.2.1"), network("198.51.100.7"));
        let mut failures = Failures::default();
        let mut now = Instant::now();
        assert_eq!(failures.wait(attacker, now), Duration::ZERO);
        failures.failed(attacker, now);
        assert_eq!(failures.wait(attacker, now), Duration::from_millis(250));
        assert_eq!(failures.wait(owner, now), Duration::ZERO);
        for _ in 0..10_000 {
            now += Duration::from_millis(100);
            failures.failed(attacker, now);
            assert!(failures.wait(attacker, now) <= LONGEST_WAIT);
        }
        assert_eq!(failures.wait(attacker, now), LONGEST_WAIT);
        assert_eq!(failures.wait(owner, now), Duration::from_secs(1), "10,000 wrong ones slow everybody");
        now += MEMORY;
        assert_eq!(failures.wait(attacker, now), Duration::ZERO, "forgotten");
    }

    #[test]
    fn memory_is_bounded() {
        let mut failures = Failures::default();
        let start = Instant::now();
        for n in 0..20_000u32 {
            failures.failed(IpAddr::from(n.to_be_bytes()).into(), start + Duration::from_millis(n.into()));
        }
        assert!(failures.of.len() <= NETWORKS && failures.recent.len() <= CALM + 1);
    }
}
