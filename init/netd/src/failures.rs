//! DHCP servers that offered an address and then did not grant it. Another server's offer is preferred to theirs for a while,
//! and nobody is shut out: where there is no other, a broken server is asked again. Who takes a new name with each answer is
//! not found out so; DHCP has nothing against that (RFC 2131 section 7, RFC 8415 section 22).

use std::time::Duration;

/// How long another server's offer is waited for after one failure; doubled with each more, up to [`LONGEST`]. dnsmasq asks by
/// ping for 3 s whether somebody has an address before it offers it.
const SHORTEST: Duration = Duration::from_secs(4);
const LONGEST: Duration = Duration::from_secs(16);
/// After which a failure is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(600);
/// Servers that are kept in mind: a stranger can make up any number.
const MOST: usize = 16;

/// By whatever identifies a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failures<S>(Vec<Failure<S>>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Failure<S> {
    server: S,
    times: u32,
    last: Duration,
}

/// Less is better: one that did not fail, then one that failed seldom, then long ago.
pub type Rank = Option<(u32, Duration)>;

impl<S: Clone + PartialEq> Failures<S> {
    pub fn new() -> Failures<S> {
        Failures(Vec::new())
    }

    pub fn add(&mut self, server: &S, now: Duration) {
        let times = self.rank(server, now).map_or(0, |(times, _)| times);
        self.forgive(server);
        if self.0.len() >= MOST {
            self.0.remove(0);
        }
        self.0.push(Failure { server: server.clone(), times: times.saturating_add(1), last: now });
    }

    /// It granted something.
    pub fn forgive(&mut self, server: &S) {
        self.0.retain(|failure| failure.server != *server);
    }

    pub fn rank(&self, server: &S, now: Duration) -> Rank {
        let known = self.0.iter().find(|failure| failure.server == *server);
        known
            .filter(|failure| now.saturating_sub(failure.last) < FORGOTTEN)
            .map(|failure| (failure.times, failure.last))
    }

    /// How long an offer of a server with this rank waits for a better one.
    pub fn patience(rank: Rank) -> Duration {
        let doubled = |times: u32| SHORTEST * (1 << times.saturating_sub(1).min(8));
        rank.map_or(Duration::ZERO, |(times, _)| doubled(times).min(LONGEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn who_failed_seldom_and_long_ago_comes_first_and_waits_least() {
        let mut failures = Failures::new();
        for (server, at) in [("often", 1), ("often", 2), ("lately", 4), ("before", 3)] {
            failures.add(&server, s(at));
        }
        let mut servers = ["often", "lately", "never", "before"];
        servers.sort_by_key(|server| failures.rank(server, s(5)));
        assert_eq!(servers, ["never", "before", "lately", "often"]);
        let patience = servers.map(|server| Failures::<&str>::patience(failures.rank(&server, s(5))));
        assert_eq!(patience, [s(0), s(4), s(4), s(8)]);
        assert_eq!(Failures::<&str>::patience(Some((u32::MAX, s(0)))), LONGEST);
    }

    #[test]
    fn a_failure_is_forgotten_after_a_while_and_by_a_lease() {
        let mut failures = Failures::new();
        failures.add(&1, s(1));
        failures.add(&2, s(1));
        failures.forgive(&1);
        assert_eq!([1, 2].map(|server| failures.rank(&server, s(2)).is_some()), [false, true]);
        assert_eq!(failures.rank(&2, s(1) + FORGOTTEN), None);
    }

    #[test]
    fn a_crowd_of_servers_takes_no_more_than_its_place() {
        let mut failures = Failures::new();
        for server in 0..1000 {
            failures.add(&server, s(1));
        }
        assert_eq!((failures.0.len(), failures.rank(&999, s(1)).is_some()), (MOST, true));
    }
}
