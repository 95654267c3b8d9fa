//! What keeps strangers from crowding out the owner. Pure: who comes, who goes and when are arguments.
//!
//! Connections that have not logged in are bounded, in all and per network. A newcomer is never
//! turned away, since it may be the owner: another makes room instead, the oldest of the network that has
//! most. One that says nothing for longer than a slow line needs goes first; else one of those there are more
//! of, the silent or those that have exchanged keys: so strangers who hold their places after a key exchange
//! push out each other, and not the owner who is about to make his. None that is silent goes before it had
//! the time for its key exchange, so a flood stands in the kernel's queue for a moment. Somebody who
//! logs in needs a second; somebody who holds a place open does not log in.
//!
//! Passwords are slowed down, never locked: an attempt waits longer the more attempts from its network
//! and from everywhere failed of late, but never longer than [`LONGEST_WAIT`], so that the owner is
//! in within that, whatever others do. With 80 random bits behind the door that is plenty.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// The longest that a password waits to be looked at.
pub const LONGEST_WAIT: Duration = Duration::from_millis(1500);
/// What everybody waits while passwords fail everywhere.
const EVERYBODY: Duration = Duration::from_millis(500);
/// How long a failure of one network is remembered.
const MEMORY: Duration = Duration::from_secs(600);
/// Failures from everywhere within a minute above which everybody waits.
const CALM: usize = 30;
const MINUTE: Duration = Duration::from_secs(60);
/// Most networks remembered.
const NETWORKS: usize = 4096;

/// An IPv4 address, or the /64 that one IPv6 customer has at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network(u128);

impl Network {
    /// The /48 that it is in, the most that one customer has (RFC 6177). An IPv4 address is one of its own.
    fn site(self) -> Network {
        if self.0 >> 63 == 0 { self } else { Network(self.0 >> 80 << 80 | 1 << 62) }
    }
}

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Network {
        match address.to_canonical() {
            IpAddr::V4(v4) => Network(u128::from(u32::from(v4))),
            // One bit of the lower half, so that none equals an IPv4 address.
            IpAddr::V6(v6) => Network(v6.to_bits() & !u128::from(u64::MAX) | 1 << 63),
        }
    }
}

/// How long a connection may say nothing before another takes its place. A key exchange on a slow line
/// takes longer, but then the crowd must be larger, too.
const FIRST_WORD: Duration = Duration::from_millis(250);
/// After so long it is no slow line any more: a key exchange takes two round trips, by satellite 1.3 seconds.
const SILENCE: Duration = Duration::from_secs(2);

/// Connections that have not logged in, oldest first.
#[derive(Debug, Default)]
pub struct Waiting {
    visits: VecDeque<Visit>,
}

#[derive(Clone, Copy, Debug)]
struct Visit {
    id: u64,
    network: Network,
    since: Instant,
    /// It has exchanged keys.
    talks: bool,
}

/// Whether there is a place for one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Free,
    /// This one has to go for it.
    InsteadOf(u64),
    /// Not before then.
    NotBefore(Instant),
}

impl Waiting {
    pub fn place(&self, network: Network, now: Instant, most: usize, most_of_one: usize) -> Place {
        if self.visits.iter().filter(|visit| visit.network == network).count() >= most_of_one {
            // It crowds out itself.
            let victim = self.victim(|visit| visit.network == network, now);
            return victim.map_or(Place::Free, |victim| Place::InsteadOf(victim.id));
        }
        if self.visits.len() < most {
            return Place::Free;
        }
        match self.victim(|_| true, now) {
            None => Place::Free,
            Some(victim) if !victim.talks && now < victim.since + FIRST_WORD => {
                Place::NotBefore(victim.since + FIRST_WORD)
            }
            Some(victim) => Place::InsteadOf(victim.id),
        }
    }

    /// The oldest of the network that has most: of the /48 first, then of the /64.
    fn victim(&self, among: impl Fn(&Visit) -> bool, now: Instant) -> Option<Visit> {
        let (talking, silent): (Vec<Visit>, Vec<Visit>) =
            self.visits.iter().copied().filter(among).partition(|visit| visit.talks);
        let late: Vec<Visit> = silent.iter().filter(|visit| now >= visit.since + SILENCE).copied().collect();
        let among = match late.is_empty() {
            false => late,
            true if silent.len() > talking.len() => silent,
            true => talking,
        };
        let mut counts = HashMap::new();
        for network in among.iter().map(|visit| visit.network) {
            *counts.entry(network).or_insert(0_usize) += 1;
            if network.site() != network {
                *counts.entry(network.site()).or_insert(0) += 1;
            }
        }
        let greed = |visit: &Visit| [visit.network.site(), visit.network].map(|network| counts.get(&network));
        // Of equals the first, which is the oldest.
        among.iter().min_by_key(|visit| std::cmp::Reverse(greed(visit))).copied()
    }

    pub fn enter(&mut self, id: u64, network: Network, now: Instant) {
        self.visits.push_back(Visit { id, network, since: now, talks: false });
    }

    /// It has exchanged keys.
    pub fn talks(&mut self, id: u64) {
        self.visits.iter_mut().filter(|visit| visit.id == id).for_each(|visit| visit.talks = true);
    }

    /// It logged in, or it is gone.
    pub fn leave(&mut self, id: u64) {
        self.visits.retain(|visit| visit.id != id);
    }
}

/// Failed passwords. Somebody who has a /48 has 65,536 networks, and is one all the same.
#[derive(Debug, Default)]
pub struct Failures {
    of: HashMap<Network, (u32, Instant)>,
    recent: VecDeque<Instant>,
}

impl Failures {
    pub fn failed(&mut self, network: Network, now: Instant) {
        let network = network.site();
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
        self.of.remove(&network.site());
    }

    fn count(&self, network: Network, now: Instant) -> u32 {
        match self.of.get(&network.site()) {
            Some((count, last)) if now.duration_since(*last) < MEMORY => *count,
            _ => 0,
        }
    }

    /// How long the next attempt from there waits.
    pub fn wait(&self, network: Network, now: Instant) -> Duration {
        let own = match self.count(network, now) {
            0 => Duration::ZERO,
            n => Duration::from_millis(250 << (n - 1).min(3)),
        };
        let minute = self.recent.iter().filter(|at| now.duration_since(**at) < MINUTE).count();
        let everybody = if minute > CALM { EVERYBODY } else { Duration::ZERO };
        own.max(everybody).min(LONGEST_WAIT)
    }
}

/// Whose password is compared with a hash: one at a time, since it takes a processor and, by yescrypt, 16 MiB or more.
/// Every second turn is that of whose network failed least of late, so that a crowd that fails does not make the
/// owner wait; the others go by who waits longest, so that nobody waits for ever.
#[derive(Debug, Default)]
pub struct Turns {
    /// Who has none yet, the first one first.
    queue: Vec<(u64, Network)>,
    of: Option<u64>,
    /// The next one is by who waits longest.
    in_order: bool,
}

impl Turns {
    pub fn ask(&mut self, id: u64, network: Network) {
        self.queue.push((id, network));
    }

    /// It has had its turn, or it is gone.
    pub fn end(&mut self, id: u64) {
        self.queue.retain(|(waiting, _)| *waiting != id);
        self.of = self.of.filter(|of| *of != id);
    }

    /// Who may begin now.
    pub fn next(&mut self, failures: &Failures, now: Instant) -> Option<u64> {
        if self.of.is_some() || self.queue.is_empty() {
            return None;
        }
        let fails =
            |(place, (_, network)): &(usize, &(u64, Network))| (failures.count(*network, now), *place);
        let least = self.queue.iter().enumerate().min_by_key(fails).map_or(0, |(place, _)| place);
        let place = if self.in_order { 0 } else { least };
        self.in_order = !self.in_order;
        self.of = Some(self.queue.remove(place).0);
        self.of
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
        // And of a /48.
        let site = |text: &str| network(text).site();
        assert_eq!(site("2001:db8:0:1::1"), site("2001:db8:0:ffff::1"));
        assert_ne!(site("2001:db8:0:1::1"), site("2001:db8:1:1::1"));
        assert_eq!(site("192.0.2.1"), network("192.0.2.1"));
        assert_ne!(site("::1"), network("::1"));
    }

    /// Lets one in that comes now, as the listener does; gives the one that has to go for it.
    fn admit(waiting: &mut Waiting, id: u64, from: Network, now: Instant, most: usize) -> Option<u64> {
        let victim = match waiting.place(from, now, most, 4) {
            Place::Free => None,
            Place::InsteadOf(victim) => Some(victim),
            Place::NotBefore(_) => panic!("no place for {id}"),
        };
        victim.into_iter().for_each(|victim| waiting.leave(victim));
        waiting.enter(id, from, now);
        victim
    }

    #[test]
    fn a_crowd_from_one_network_crowds_out_itself_only() {
        let (attacker, owner, now) = (network("192.0.2.1"), network("198.51.100.7"), Instant::now());
        let mut waiting = Waiting::default();
        assert_eq!(admit(&mut waiting, 0, owner, now, 100), None);
        for id in 1..=4 {
            assert_eq!(admit(&mut waiting, id, attacker, now, 100), None);
        }
        for id in 5..=1000 {
            assert_eq!(admit(&mut waiting, id, attacker, now, 100), Some(id - 4));
        }
        waiting.leave(1000);
        assert_eq!(admit(&mut waiting, 1001, attacker, now, 100), None);
    }

    #[test]
    fn a_newcomer_gets_the_place_of_the_oldest_silent_one_of_the_greediest() {
        let start = Instant::now();
        let later = start + FIRST_WORD;
        let mut waiting = Waiting::default();
        for id in 0..10 {
            let from =
                if (3..6).contains(&id) { network("192.0.2.1") } else { network(&format!("203.0.113.{id}")) };
            assert_eq!(admit(&mut waiting, id, from, start, 10), None);
        }
        let newcomer = network("198.51.100.7");
        assert_eq!(waiting.place(newcomer, start, 10, 4), Place::NotBefore(later), "all have just come");
        assert_eq!(admit(&mut waiting, 10, newcomer, later, 10), Some(3), "the greediest's oldest goes");
        // One left of each, but for the greediest: two, of which one talks.
        waiting.talks(4);
        waiting.talks(0);
        assert_eq!(
            admit(&mut waiting, 11, network("198.51.100.8"), later, 10),
            Some(1),
            "the oldest silent one"
        );
        assert_eq!(waiting.visits.len(), 10);
        (0..12).for_each(|id| waiting.talks(id));
        assert_eq!(admit(&mut waiting, 12, network("198.51.100.9"), later, 10), Some(4), "all talk");
    }

    #[test]
    fn whoever_exchanges_keys_in_time_outlasts_a_flood() {
        let (mut now, owner) = (Instant::now(), network("198.51.100.7"));
        let mut waiting = Waiting::default();
        let mut came = 0;
        for id in 0..2_000_u32 {
            now += Duration::from_millis(1);
            let from = Network::from(IpAddr::from((id | 1 << 24).to_be_bytes()));
            if id == 1000 {
                waiting.leave(u64::from(id) - 1);
                waiting.enter(u64::MAX, owner, now);
            }
            if id == 1100 {
                waiting.talks(u64::MAX);
            }
            match waiting.place(from, now, 100, 32) {
                Place::Free => {}
                Place::InsteadOf(victim) => {
                    assert_ne!(victim, u64::MAX, "the owner had to go for number {id}");
                    waiting.leave(victim);
                }
                Place::NotBefore(_) => continue,
            }
            waiting.enter(id.into(), from, now);
            came += 1;
        }
        assert!(came > 500, "only {came} came in");
    }

    /// A hundred who have exchanged keys and hold their places, and newcomers who do the same. The line of the owner is
    /// slow; he logs in four first words after he came.
    #[test]
    fn a_crowd_that_talks_does_not_push_out_an_owner_whose_line_is_slow() {
        const OWNER: u64 = u64::MAX;
        let ms = Duration::from_millis;
        let address = |number: u32, in_one_site: bool| match in_one_site {
            false => IpAddr::from((number | 10 << 24).to_be_bytes()),
            true => std::net::Ipv6Addr::from_bits(0x2001_0db8_0000 << 80 | u128::from(number) << 64).into(),
        };
        let cases = [
            ("a trickle", false, ms(250), ms(150)),
            ("ten a second", false, ms(100), ms(150)),
            ("ten a second", false, ms(100), ms(600)),
            ("ten a second", false, ms(100), ms(1500)),
            ("thirty a second", false, ms(33), ms(600)),
            ("one customer's /48, a hundred a second", true, ms(10), ms(1500)),
        ];
        for (label, in_one_site, pace, first_word) in cases {
            let label = format!("{label}, the owner talks after {first_word:?}");
            let (start, owner) = (Instant::now(), network("198.51.100.7"));
            let mut waiting = Waiting::default();
            for number in 0..100 {
                waiting.enter(number.into(), address(number, in_one_site).into(), start);
                waiting.talks(number.into());
            }
            let came = start + ms(10_000);
            for number in 100.. {
                let now = start + pace * (number - 100);
                // On a line of an eighth of a second, or when the next one comes.
                let lag = u32::try_from(ms(125).as_millis() / pace.as_millis()).unwrap() + 1;
                if number >= 100 + lag {
                    waiting.talks(u64::from(number - lag));
                }
                let has_come = waiting.visits.iter().any(|visit| visit.id == OWNER);
                if now >= came && !has_come {
                    admit(&mut waiting, OWNER, owner, now, 100);
                }
                if now >= came + first_word {
                    waiting.talks(OWNER);
                }
                if now >= came + first_word * 4 {
                    break;
                }
                let victim =
                    admit(&mut waiting, number.into(), address(number, in_one_site).into(), now, 100);
                assert_ne!(victim, Some(OWNER), "{label}: he had to go for number {number}");
            }
        }
    }

    #[test]
    fn one_customer_s_networks_are_as_greedy_as_one() {
        let (start, owner) = (Instant::now(), network("2001:db8:1::1"));
        let mut waiting = Waiting::default();
        assert_eq!(admit(&mut waiting, 0, owner, start, 10), None);
        for id in 1..10 {
            assert_eq!(admit(&mut waiting, id, network(&format!("2001:db8:0:{id}::1")), start, 10), None);
        }
        (0..10).for_each(|id| waiting.talks(id));
        let newcomer = network("203.0.113.1");
        assert_eq!(waiting.place(newcomer, start, 10, 4), Place::InsteadOf(1), "not the oldest, the owner");
    }

    #[test]
    fn whoever_says_nothing_for_longer_than_a_slow_line_goes_before_those_who_talk() {
        let start = Instant::now();
        let mut waiting = Waiting::default();
        for id in 0..9 {
            admit(&mut waiting, id, network(&format!("192.0.2.{id}")), start, 10);
            waiting.talks(id);
        }
        assert_eq!(admit(&mut waiting, 9, network("192.0.2.9"), start, 10), None);
        let newcomer = network("203.0.113.1");
        for (after, want) in [(SILENCE - Duration::from_millis(1), 0), (SILENCE, 9)] {
            assert_eq!(waiting.place(newcomer, start + after, 10, 4), Place::InsteadOf(want), "{after:?}");
        }
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
        assert_eq!(failures.wait(owner, now), EVERYBODY, "10,000 wrong ones slow everybody");
        now += MEMORY;
        assert_eq!(failures.wait(attacker, now), Duration::ZERO, "forgotten");
    }

    #[test]
    fn fresh_networks_of_one_customer_wait_as_one() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        (0..4).for_each(|n| failures.failed(network(&format!("2001:db8:0:{n}::1")), now));
        assert_eq!(failures.wait(network("2001:db8:0:ffff::1"), now), LONGEST_WAIT);
        assert_eq!(failures.wait(network("2001:db8:1::1"), now), Duration::ZERO);
    }

    #[test]
    fn one_hash_at_a_time_and_a_crowd_that_fails_does_not_make_the_owner_wait() {
        let (attacker, owner, now) = (network("192.0.2.1"), network("198.51.100.7"), Instant::now());
        let (mut turns, mut failures) = (Turns::default(), Failures::default());
        failures.failed(attacker, now);
        for id in 0..100 {
            turns.ask(id, attacker);
        }
        assert_eq!(turns.next(&failures, now), Some(0));
        assert_eq!(turns.next(&failures, now), None, "one at a time");
        turns.ask(100, owner);
        turns.end(0);
        assert_eq!(turns.next(&failures, now), Some(1), "who waits longest");
        turns.end(1);
        assert_eq!(turns.next(&failures, now), Some(100), "whose network did not fail");
        // And whoever is gone is waited for no longer, neither at his turn nor in the queue.
        (2..99).chain([100]).for_each(|id| turns.end(id));
        assert_eq!(turns.next(&failures, now), Some(99));
        turns.end(99);
        assert_eq!(turns.next(&failures, now), None);
    }

    #[test]
    fn whose_network_failed_gets_its_turn_however_many_come_that_did_not() {
        let (failed, now) = (network("192.0.2.1"), Instant::now());
        let (mut turns, mut failures) = (Turns::default(), Failures::default());
        failures.failed(failed, now);
        turns.ask(0, failed);
        let others = (1..).find(|id| {
            turns.ask(*id, network(&format!("2001:db8:{id:x}::1")));
            let next = turns.next(&failures, now).unwrap();
            turns.end(next);
            next == 0
        });
        assert!(others <= Some(2), "{others:?}");
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
