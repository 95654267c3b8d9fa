//! The client's states (RFC 8415 section 18.2): pure. The clock, randomness and the wire are the caller's. It never gives up, and
//! asks more often than the RFC's last resort of an hour, since a person waits here.
//!
//! With `addresses` it asks for one (IA_NA), and takes of the answers that have one within the first second the one with the highest
//! preference (section 18.2.1), later ones as they come. That of a server which offered an address before and did not grant it
//! waits for another's. Without, it asks once for name servers and the like (Information-request), and again when they may have
//! changed.

use super::message::{Incoming, Kind, Lease, Outgoing, Refusal};
use crate::failures::{Failures, Rank};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::net::Ipv6Addr;
use std::time::Duration;

/// Between messages: 1 s, doubled up to this.
const LONGEST: Duration = Duration::from_secs(8);
/// Requests before an advertisement is given up, Confirms before what we had is kept.
const TRIES: u32 = 4;
/// IRT_DEFAULT (section 7.6).
const REFRESH: Duration = Duration::from_secs(86_400);
const SHORTEST: Duration = Duration::from_secs(1);
/// The preference that is not waited with (section 18.2.1).
const AT_ONCE: u8 = 255;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    Soliciting {
        tries: u32,
    },
    Requesting {
        tries: u32,
        offer: Box<Lease>,
    },
    /// Whether what we had is still of this link; `plugged`: the cable was.
    Confirming {
        tries: u32,
        plugged: bool,
    },
    Bound,
    Renewing {
        tries: u32,
    },
    Rebinding {
        tries: u32,
    },
    /// `plugged`: the cable was, and what we had may be another network's.
    Informing {
        tries: u32,
        plugged: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    pub phase: Phase,
    pub held: Option<Held>,
    /// Ask for an address, not only for what goes with one.
    addresses: bool,
    /// DUID.
    identifier: Vec<u8>,
    /// IAID.
    identity: u32,
    transaction: u32,
    began: Duration,
    due: Duration,
    best: Option<Offer>,
    failures: Failures<Vec<u8>>,
}

/// The best advertisement so far.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Offer {
    lease: Box<Lease>,
    preference: u8,
    /// When it is taken.
    at: Duration,
}

/// A lease, or information without one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    pub lease: Lease,
    /// Since boot: when it was granted.
    pub since: Duration,
}

impl Held {
    /// When the last address ends; `None` for never.
    pub fn expires(&self) -> Option<Duration> {
        let longest = self.lease.addresses.iter().map(|(_, valid)| *valid).max()?;
        (longest != u32::MAX).then(|| self.since + Duration::from_secs(longest.into()))
    }

    /// The addresses that have not ended, with the seconds that they have yet, `u32::MAX` for ever.
    pub fn left(&self, now: Duration) -> impl Iterator<Item = (Ipv6Addr, u32)> {
        let addresses =
            self.lease.addresses.iter().map(move |(own, valid)| (*own, self.remaining(*valid, now)));
        addresses.filter(|(_, left)| *left > 0)
    }

    /// For how many seconds an address is used for what is new, `u32::MAX` for ever.
    pub fn preferred(&self, own: Ipv6Addr, now: Duration) -> u32 {
        self.lease.preferred.get(&own).map_or(u32::MAX, |preferred| self.remaining(*preferred, now))
    }

    fn remaining(&self, seconds: u32, now: Duration) -> u32 {
        let age = now.saturating_sub(self.since).as_secs();
        match seconds {
            u32::MAX => seconds,
            seconds => u64::from(seconds).saturating_sub(age) as u32, // not above `seconds`
        }
    }

    /// When the first address ends; `None` for never.
    fn first_end(&self) -> Option<Duration> {
        let shortest = self.lease.addresses.iter().map(|(_, valid)| *valid).min()?;
        (shortest != u32::MAX).then(|| self.since + Duration::from_secs(shortest.into()))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Timer,
    Received(Incoming),
    /// The cable was plugged: it may be another network.
    Replugged,
    /// Somebody on the link has this address.
    Duplicate(Ipv6Addr),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Send(Outgoing),
    /// A lease or information began or went on: configure it.
    Configure,
    /// The lease ended: take these addresses away.
    Remove(Vec<Ipv6Addr>),
    /// For the log.
    Say(String),
    /// For a person.
    Warn(String),
}

impl Client {
    /// Starts at once. `held` is what an earlier life of this process left configured.
    pub fn new(
        addresses: bool,
        identifier: Vec<u8>,
        identity: u32,
        held: Option<Held>,
        random: u32,
        now: Duration,
    ) -> Client {
        let held = held.filter(|held| addresses && !held.lease.addresses.is_empty());
        let phase = match (addresses, &held) {
            (false, _) => Phase::Informing { tries: 0, plugged: false },
            (true, None) => Phase::Soliciting { tries: 0 },
            (true, Some(_)) => Phase::Confirming { tries: 0, plugged: false },
        };
        Client {
            phase,
            held,
            addresses,
            identifier,
            identity,
            transaction: random,
            began: now,
            due: now,
            best: None,
            failures: Failures::new(),
        }
    }

    pub fn wake(&self) -> Duration {
        self.best.as_ref().map_or(self.due, |best| best.at.min(self.due))
    }

    pub fn wants_addresses(&self) -> bool {
        self.addresses
    }

    pub fn lease(&self) -> Option<&Lease> {
        self.held.as_ref().map(|held| &held.lease)
    }

    /// What an answer must carry: transaction, DUID, IAID.
    pub fn exchange(&self) -> (u32, &[u8], u32) {
        (self.transaction, &self.identifier, self.identity)
    }

    pub fn state(&self) -> &'static str {
        match (&self.phase, self.held.is_some()) {
            (Phase::Soliciting { tries } | Phase::Informing { tries, .. }, _) if *tries > 4 => "no answer",
            (_, false) => "asking",
            (Phase::Renewing { .. }, true) => "renewing",
            (Phase::Rebinding { .. }, true) => "rebinding",
            (_, true) => "bound",
        }
    }

    fn message(
        &self,
        kind: Kind,
        server: Option<&Lease>,
        addresses: Vec<Ipv6Addr>,
        now: Duration,
    ) -> Outgoing {
        let elapsed = now.saturating_sub(self.began).as_millis() / 10;
        Outgoing {
            kind,
            transaction: self.transaction,
            client: self.identifier.clone(),
            server: server.map(|lease| lease.server.clone()),
            identity: self.identity,
            addresses,
            elapsed: u16::try_from(elapsed).unwrap_or(u16::MAX),
        }
    }

    fn owned(&self) -> Vec<Ipv6Addr> {
        self.lease()
            .map(|lease| lease.addresses.iter().map(|(address, _)| *address).collect())
            .unwrap_or_default()
    }

    /// A new exchange.
    fn begin(&mut self, phase: Phase, random: u32, now: Duration) {
        (self.phase, self.transaction, self.began, self.due) = (phase, random, now, now);
        self.best = None;
    }

    fn worth(&self, lease: &Lease, preference: u8, now: Duration) -> (Rank, Reverse<u8>) {
        (self.failures.rank(&lease.server, now), Reverse(preference))
    }

    /// Retransmission with a tenth of jitter either way (section 15).
    fn wait(&mut self, tries: u32, random: u32, now: Duration) {
        let base = Duration::from_secs(1 << tries.min(6)).min(LONGEST);
        let tenth = base.as_millis() as u64 / 10;
        self.due = now + base - Duration::from_millis(tenth)
            + Duration::from_millis(u64::from(random) % (2 * tenth + 1));
    }

    fn rest(&mut self, now: Duration) {
        self.phase = Phase::Bound;
        self.due = match (&self.held, self.addresses) {
            (Some(_), false) => now + REFRESH,
            // Whatever T1 says: the kernel takes the address away at its end, and nobody else asks for it. One that is valid
            // for ever may be preferred for an hour.
            (Some(held), true) => {
                let t1 = held.lease.t1;
                let renewal = (t1 != u32::MAX).then(|| held.since + Duration::from_secs(t1.into()));
                let due = renewal.into_iter().chain(held.first_end()).min();
                due.map_or(Duration::MAX, |due| due.max(now + SHORTEST))
            }
            (None, _) => Duration::MAX,
        };
    }
}

/// What follows from an event. `random` is fresh with each call.
pub fn step(client: &Client, event: Event, now: Duration, random: u32) -> (Client, Vec<Action>) {
    let mut next = client.clone();
    let mut actions = Vec::new();
    match event {
        Event::Timer => match next.best.take_if(|best| best.at <= now) {
            Some(best) => request(&mut next, best.lease, now, random, &mut actions),
            None if now < client.due => {}
            None => timer(&mut next, now, random, &mut actions),
        },
        Event::Replugged => {
            let phase = match (next.addresses, next.held.is_some()) {
                (false, _) => Phase::Informing { tries: 0, plugged: true },
                (true, true) => Phase::Confirming { tries: 0, plugged: true },
                (true, false) => Phase::Soliciting { tries: 0 },
            };
            next.begin(phase, random, now);
            timer(&mut next, now, random, &mut actions);
        }
        Event::Duplicate(address) if next.owned().contains(&address) => {
            actions.push(Action::Warn(format!(
                "{address} was granted by DHCPv6 and another machine has it already: declined, asking for another one"
            )));
            next.transaction = random;
            let declined = next.message(Kind::Decline, next.lease(), vec![address], now);
            actions.push(Action::Send(declined));
            actions.push(Action::Remove(next.owned()));
            next.held = None;
            next.begin(Phase::Soliciting { tries: 0 }, random.wrapping_add(1), now);
            next.wait(0, random, now);
        }
        Event::Duplicate(_) => {}
        Event::Received(message) => received(&mut next, message, now, random, &mut actions),
    }
    (next, actions)
}

fn timer(client: &mut Client, now: Duration, random: u32, actions: &mut Vec<Action>) {
    if let Some(held) = client.held.as_ref().filter(|_| client.addresses)
        && held.expires().is_some_and(|end| end <= now)
    {
        actions.push(Action::Say("the DHCPv6 lease ended: asking anew".to_string()));
        actions.push(Action::Remove(client.owned()));
        client.held = None;
        client.begin(Phase::Soliciting { tries: 0 }, random, now);
    }
    let (tries, message) = match client.phase.clone() {
        Phase::Soliciting { tries } => {
            client.phase = Phase::Soliciting { tries: tries.saturating_add(1) };
            (tries, client.message(Kind::Solicit, None, vec![], now))
        }
        Phase::Informing { tries, plugged } => {
            if plugged && tries >= TRIES && client.held.take().is_some() {
                actions.push(Action::Say(
                    "no DHCPv6 server answers since the cable was plugged: what one said before is not used any more"
                        .to_string(),
                ));
            }
            client.phase = Phase::Informing { tries: tries.saturating_add(1), plugged };
            (tries, client.message(Kind::Information, None, vec![], now))
        }
        Phase::Requesting { tries, offer } if tries >= TRIES => {
            client.failures.add(&offer.server, now);
            actions.push(Action::Say(
                "a DHCPv6 server offered an address and does not grant it: asking anew".to_string(),
            ));
            client.begin(Phase::Soliciting { tries: 0 }, random, now);
            return timer(client, now, random, actions);
        }
        Phase::Requesting { tries, offer } => {
            let addresses = offer.addresses.iter().map(|(address, _)| *address).collect();
            let message = client.message(Kind::Request, Some(&offer), addresses, now);
            client.phase = Phase::Requesting { tries: tries + 1, offer };
            (tries, message)
        }
        // No answer says nothing against it (section 18.2.3).
        Phase::Confirming { tries, .. } if tries >= TRIES => return confirmed(client, now, actions),
        Phase::Confirming { tries, plugged } => {
            client.phase = Phase::Confirming { tries: tries + 1, plugged };
            (tries, client.message(Kind::Confirm, None, client.owned(), now))
        }
        Phase::Bound if !client.addresses => {
            client.begin(Phase::Informing { tries: 0, plugged: false }, random, now);
            return timer(client, now, random, actions);
        }
        Phase::Bound => {
            client.begin(Phase::Renewing { tries: 0 }, random, now);
            return timer(client, now, random, actions);
        }
        Phase::Renewing { tries } => {
            let Some(held) = client.held.clone() else {
                return client.begin(Phase::Soliciting { tries: 0 }, random, now);
            };
            if now >= held.since + Duration::from_secs(held.lease.t2.into()) {
                client.begin(Phase::Rebinding { tries: 0 }, random, now);
                return timer(client, now, random, actions);
            }
            client.phase = Phase::Renewing { tries: tries.saturating_add(1) };
            (tries, client.message(Kind::Renew, Some(&held.lease), client.owned(), now))
        }
        Phase::Rebinding { tries } => {
            client.phase = Phase::Rebinding { tries: tries.saturating_add(1) };
            (tries, client.message(Kind::Rebind, None, client.owned(), now))
        }
    };
    actions.push(Action::Send(message));
    client.wait(tries, random, now);
    // Whoever answers the first Solicit has more than the second for it, never less (section 18.2.1).
    if client.phase == (Phase::Soliciting { tries: 1 }) {
        client.due = client.due.max(now + SHORTEST + Duration::from_millis(u64::from(random % 100) + 1));
    }
    // REN_TIMEOUT and REB_TIMEOUT are ten seconds.
    if matches!(client.phase, Phase::Renewing { .. } | Phase::Rebinding { .. }) {
        client.due += Duration::from_secs(10);
    }
    if let Some(end) = client.held.as_ref().and_then(Held::expires) {
        client.due = client.due.min(end.max(now + SHORTEST));
    }
}

/// Asks for what was advertised.
fn request(client: &mut Client, offer: Box<Lease>, now: Duration, random: u32, actions: &mut Vec<Action>) {
    client.begin(Phase::Requesting { tries: 0, offer }, random, now);
    timer(client, now, random, actions);
}

/// What we had is still of this link. The kernel took it away if the interface was down meanwhile.
fn confirmed(client: &mut Client, now: Duration, actions: &mut Vec<Action>) {
    client.rest(now);
    actions.push(Action::Configure);
}

fn received(client: &mut Client, message: Incoming, now: Duration, random: u32, actions: &mut Vec<Action>) {
    match (message, client.phase.clone()) {
        (Incoming::Advertise { lease, preference }, Phase::Soliciting { tries })
            if !lease.addresses.is_empty() =>
        {
            let worth = client.worth(&lease, preference, now);
            let is_better = |best: &Offer| worth < client.worth(&best.lease, best.preference, now);
            if !client.best.as_ref().is_none_or(is_better) {
                return;
            }
            let at = match worth.0 {
                Some(_) => now + Failures::<Vec<u8>>::patience(worth.0),
                None if tries <= 1 && preference < AT_ONCE => client.due,
                None => now,
            };
            let at = client.best.as_ref().map_or(at, |best| best.at.min(at));
            if at <= now {
                return request(client, Box::new(lease), now, random, actions);
            }
            client.best = Some(Offer { lease: Box::new(lease), preference, at });
        }
        (Incoming::Reply { lease, rapid: true }, Phase::Soliciting { .. }) => {
            granted(client, lease, now, actions)
        }
        (Incoming::Reply { lease, .. }, Phase::Requesting { offer, .. }) if lease.server == offer.server => {
            granted(client, lease, now, actions);
        }
        (Incoming::Reply { lease, .. }, Phase::Renewing { .. } | Phase::Rebinding { .. }) => {
            // Ours was asked, or any that goes on with what we have (section 18.2.10.1): one with another address, which takes
            // nothing back, is no reason to give up this one.
            let is_ours = client.lease().is_some_and(|held| held.server == lease.server);
            let goes_on = matches!(client.phase, Phase::Rebinding { .. })
                && lease.addresses.iter().any(|(address, _)| client.owned().contains(address));
            if is_ours || goes_on {
                granted(client, lease, now, actions);
            }
        }
        // It is of this link; what it is worth stays as it was.
        (Incoming::Reply { .. }, Phase::Confirming { .. }) => confirmed(client, now, actions),
        (Incoming::Reply { lease, .. }, Phase::Informing { .. }) => {
            told(client, &lease, actions);
            client.held = Some(Held { lease, since: now });
            client.rest(now);
            actions.push(Action::Configure);
        }
        (Incoming::Refused { is_reply: false, text, why, .. }, Phase::Soliciting { tries }) => {
            // Said once: it is asked again and again.
            if tries == 1 {
                actions.push(Action::Say(format!("a DHCPv6 server gives no address: {}", words(why, &text))));
            }
        }
        (Incoming::Refused { is_reply: true, server, why, text }, phase) => {
            let asked = match &phase {
                Phase::Requesting { offer, .. } => Some(&offer.server),
                // An earlier life of this process was granted it here, and the cable stayed in: a server that others brought
                // along knows only its own.
                Phase::Renewing { .. } | Phase::Confirming { plugged: false, .. } => {
                    client.lease().map(|lease| &lease.server)
                }
                Phase::Confirming { plugged: true, .. } | Phase::Rebinding { .. } => None,
                Phase::Soliciting { .. } | Phase::Bound | Phase::Informing { .. } => return,
            };
            if asked.is_some_and(|asked| *asked != server) {
                return;
            }
            // One that does not know us may be another one than ours (section 18.2.10.1).
            if matches!(phase, Phase::Rebinding { .. }) && why != Refusal::NotOnLink {
                return;
            }
            actions.push(Action::Say(format!("a DHCPv6 server refused: {}: asking anew", words(why, &text))));
            let is_offer = matches!(phase, Phase::Requesting { .. });
            if is_offer {
                client.failures.add(&server, now);
            }
            let owned = client.owned();
            match (why, client.held.clone()) {
                // Once: a server that says it of a Request as well refuses.
                (Refusal::NoBinding, Some(held)) if !is_offer => {
                    let offer = Box::new(held.lease);
                    client.begin(Phase::Requesting { tries: 0, offer }, random, now);
                    return timer(client, now, random, actions);
                }
                (Refusal::NoBinding | Refusal::NotOnLink | Refusal::Other(_), _) if !owned.is_empty() => {
                    actions.push(Action::Remove(owned));
                    client.held = None;
                }
                (Refusal::NoBinding | Refusal::NotOnLink | Refusal::Other(_), _) => {}
            }
            client.begin(Phase::Soliciting { tries: 0 }, random, now);
            // Not at once: a server that refuses everything must not be flooded.
            client.wait(0, random, now);
        }
        (Incoming::Advertise { .. } | Incoming::Reply { .. } | Incoming::Refused { .. }, _) => {}
    }
}

fn words(why: Refusal, text: &str) -> String {
    let why = match why {
        Refusal::NoBinding => "it does not know our address".to_string(),
        Refusal::NotOnLink => "our address is of another link".to_string(),
        Refusal::Other(2) => "it has no address left".to_string(),
        Refusal::Other(code) => format!("status {code}"),
    };
    if text.is_empty() { why } else { format!("{why} ({text})") }
}

/// What of an answer is not used, once.
fn told(client: &Client, lease: &Lease, actions: &mut Vec<Action>) {
    if client.lease().is_none_or(|old| old.ignored != lease.ignored) {
        let say = |reason| Action::Say(format!("a DHCPv6 server: {reason}: that option is not used"));
        actions.extend(lease.ignored.iter().map(say));
    }
}

fn granted(client: &mut Client, lease: Lease, now: Duration, actions: &mut Vec<Action>) {
    if lease.addresses.is_empty() {
        return; // nothing that could be used: asked again
    }
    let gone: Vec<Ipv6Addr> = client
        .owned()
        .into_iter()
        .filter(|old| !lease.addresses.iter().any(|(address, _)| address == old))
        .collect();
    if !gone.is_empty() {
        actions.push(Action::Remove(gone));
    }
    client.failures.forgive(&lease.server);
    told(client, &lease, actions);
    client.held = Some(Held { lease, since: now });
    client.rest(now);
    actions.push(Action::Configure);
}

#[cfg(test)]
mod tests {
    use super::super::message::tests::{CLIENT, SERVER};
    use super::*;
    use proptest::prelude::*;

    const OWN: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn lease(valid: u32) -> Lease {
        Lease {
            server: SERVER.to_vec(),
            addresses: vec![(OWN, valid)],
            t1: valid / 2,
            t2: (u64::from(valid) * 4 / 5) as u32,
            ..Lease::default()
        }
    }

    fn fresh(addresses: bool) -> Client {
        Client::new(addresses, CLIENT.to_vec(), 5, None, 1, s(0))
    }

    fn reply(valid: u32) -> Event {
        Event::Received(Incoming::Reply { lease: lease(valid), rapid: false })
    }

    fn sent(actions: &[Action]) -> Vec<Kind> {
        let kind = |action: &Action| match action {
            Action::Send(message) => Some(message.kind),
            _ => None,
        };
        actions.iter().filter_map(kind).collect()
    }

    fn bound() -> Client {
        let (client, actions) = step(&fresh(true), Event::Timer, s(0), 2);
        assert_eq!(sent(&actions), [Kind::Solicit]);
        let offer = Event::Received(Incoming::Advertise { lease: lease(1000), preference: AT_ONCE });
        let (client, actions) = step(&client, offer, s(1), 3);
        assert!(
            matches!(&actions[..], [Action::Send(m)] if m.kind == Kind::Request && m.addresses == [OWN] && m.server.is_some())
        );
        let (client, actions) = step(&client, reply(1000), s(1), 4);
        assert_eq!(actions, [Action::Configure]);
        client
    }

    #[test]
    fn an_address_is_asked_for_renewed_rebound_and_given_up() {
        let client = bound();
        assert_eq!(client.due, s(501));
        let (client, actions) = step(&client, Event::Timer, s(501), 5);
        assert!(matches!(&actions[..], [Action::Send(m)] if m.kind == Kind::Renew && m.server.is_some()));
        let (client, actions) = step(&client, Event::Timer, s(801), 6);
        assert!(matches!(&actions[..], [Action::Send(m)] if m.kind == Kind::Rebind && m.server.is_none()));
        let (client, actions) = step(&client, Event::Timer, s(1001), 7);
        assert!(
            actions.contains(&Action::Remove(vec![OWN])) && sent(&actions) == [Kind::Solicit],
            "{actions:?}"
        );
        assert_eq!(client.held, None);
    }

    #[test]
    fn a_renewal_goes_on_from_when_it_was_granted() {
        let (client, _) = step(&bound(), Event::Timer, s(501), 5);
        let (client, actions) = step(&client, reply(1000), s(502), 6);
        assert_eq!((actions, client.due), (vec![Action::Configure], s(1002)));
    }

    #[test]
    fn a_server_may_grant_at_once() {
        let (client, _) = step(&fresh(true), Event::Timer, s(0), 2);
        let (refused, actions) = step(&client, reply(1000), s(1), 3);
        assert!(actions.is_empty() && refused.held.is_none(), "only where it says that it does");
        let rapid = Event::Received(Incoming::Reply { lease: lease(1000), rapid: true });
        assert_eq!(step(&client, rapid, s(1), 3).1, [Action::Configure]);
    }

    #[test]
    fn it_asks_without_end_and_never_faster_than_each_second() {
        let (mut client, mut at) = (fresh(true), s(0));
        for _ in 0..100 {
            let (next, actions) = step(&client, Event::Timer, at, 7);
            assert_eq!(sent(&actions), [Kind::Solicit]);
            assert!(next.due >= at + Duration::from_millis(900) && next.due <= at + s(9), "{:?}", next.due);
            (at, client) = (next.due, next);
        }
    }

    #[test]
    fn after_a_restart_what_we_had_is_confirmed_and_kept_where_nobody_answers() {
        let held = bound().held;
        let mut client = Client::new(true, CLIENT.to_vec(), 5, held, 9, s(10));
        let mut kinds = Vec::new();
        for _ in 0..5 {
            let (next, actions) = step(&client, Event::Timer, client.due, 9);
            kinds.extend(sent(&actions));
            client = next;
        }
        assert_eq!(kinds, [Kind::Confirm; 4]);
        assert_eq!((client.phase.clone(), client.held.is_some()), (Phase::Bound, true));
        let moved = Incoming::Refused {
            server: SERVER.to_vec(),
            why: Refusal::NotOnLink,
            text: String::new(),
            is_reply: true,
        };
        let (client, _) = step(&client, Event::Replugged, s(100), 10);
        let (client, actions) = step(&client, Event::Received(moved), s(101), 11);
        assert!(actions.contains(&Action::Remove(vec![OWN])) && client.held.is_none(), "{actions:?}");
    }

    fn advertised(client: &Client, server: u8, preference: u8, at: Duration) -> (Client, Vec<Action>) {
        let lease = Lease { server: vec![server], ..lease(1000) };
        step(client, Event::Received(Incoming::Advertise { lease, preference }), at, 3)
    }

    /// The server that a client asks for an address, if it asks for one.
    fn chosen(actions: &[Action]) -> Option<u8> {
        actions.iter().find_map(|action| match action {
            Action::Send(message) if message.kind == Kind::Request => {
                message.server.as_ref().map(|duid| duid[0])
            }
            _ => None,
        })
    }

    fn timers_until(mut client: Client, end: Duration) -> (Client, Vec<Action>) {
        let mut all = Vec::new();
        while client.wake() <= end {
            let (next, actions) = step(&client, Event::Timer, client.wake(), 5);
            all.extend(actions);
            client = next;
        }
        (client, all)
    }

    #[test]
    fn the_first_second_is_for_the_server_with_the_highest_preference() {
        let (asking, _) = step(&fresh(true), Event::Timer, s(0), 2);
        assert!(asking.due > s(1) && asking.due <= Duration::from_millis(1101), "{:?}", asking.due);
        for (label, answers, at_once, later) in [
            ("by preference", &[(1, 5), (2, 7), (3, 6)][..], None, Some(2)),
            ("of equals the first", &[(1, 0), (2, 0)], None, Some(1)),
            ("255 at once", &[(1, 254), (2, 255)], Some(2), None),
        ] {
            let (mut client, mut chose) = (asking.clone(), None);
            for (server, preference) in answers {
                let (next, actions) = advertised(&client, *server, *preference, Duration::from_millis(300));
                client = next;
                chose = chose.or(chosen(&actions));
            }
            assert_eq!(chose, at_once, "{label}");
            if later.is_some() {
                let (_, actions) = step(&client, Event::Timer, client.wake(), 4);
                assert_eq!((sent(&actions), chosen(&actions)), (vec![Kind::Request], later), "{label}");
            }
        }
        // Later ones as they come.
        let (client, actions) = step(&asking, Event::Timer, asking.due, 5);
        assert_eq!(sent(&actions), [Kind::Solicit]);
        assert_eq!(chosen(&advertised(&client, 1, 0, s(2)).1), Some(1));
    }

    #[test]
    fn a_server_that_advertises_and_does_not_grant_is_passed_over_for_another_one() {
        let refused = Incoming::Refused {
            server: vec![66],
            why: Refusal::Other(2),
            text: String::new(),
            is_reply: true,
        };
        for (label, answer) in [("refuses", Some(refused)), ("is silent", None)] {
            let (client, _) = step(&fresh(true), Event::Timer, s(0), 2);
            let (client, actions) = advertised(&client, 66, 255, Duration::from_millis(10));
            assert_eq!(chosen(&actions), Some(66), "{label}");
            let (client, end) = match answer {
                Some(answer) => (step(&client, Event::Received(answer), s(1), 3).0, s(3)),
                None => (client, s(20)),
            };
            let (client, actions) = timers_until(client, end);
            assert!(sent(&actions).contains(&Kind::Solicit), "{label}: {actions:?}");
            let (client, actions) = advertised(&client, 66, 255, end);
            assert_eq!(chosen(&actions), None, "{label}");
            let other = timers_until(client.clone(), end + s(3)).0;
            assert_eq!(chosen(&advertised(&other, 1, 0, end + s(3)).1), Some(1), "{label}");
            // The only one there is gets its turn again.
            let (_, actions) = timers_until(client, end + s(4));
            assert_eq!(chosen(&actions), Some(66), "{label}");
        }
    }

    #[test]
    fn another_server_takes_no_address_away() {
        let stray = |server: &[u8], address: Ipv6Addr| {
            let lease = Lease { server: server.to_vec(), addresses: vec![(address, 1000)], ..lease(1000) };
            Event::Received(Incoming::Reply { lease, rapid: false })
        };
        let other: Ipv6Addr = "2001:db8::66".parse().unwrap();
        let (renewing, _) = step(&bound(), Event::Timer, s(501), 5);
        assert_eq!(step(&renewing, stray(&[66], OWN), s(502), 6).0, renewing, "ours was asked");
        let (rebinding, _) = step(&renewing, Event::Timer, s(801), 6);
        assert_eq!(step(&rebinding, stray(&[66], other), s(802), 7).0, rebinding);
        assert_eq!(step(&rebinding, stray(&[66], OWN), s(802), 7).1, [Action::Configure], "any was asked");
        // After kill -9 on the same cable, but not once it was plugged in.
        let moved = |why| {
            Event::Received(Incoming::Refused { server: vec![66], why, text: String::new(), is_reply: true })
        };
        let restarted = Client::new(true, CLIENT.to_vec(), 5, bound().held, 9, s(10));
        let (restarted, _) = step(&restarted, Event::Timer, s(10), 9);
        assert_eq!(step(&restarted, moved(Refusal::NotOnLink), s(11), 9).0, restarted);
        let (plugged, _) = step(&bound(), Event::Replugged, s(10), 9);
        assert!(step(&plugged, moved(Refusal::NotOnLink), s(11), 9).0.held.is_none());
    }

    #[test]
    fn an_address_is_asked_for_by_its_end_whatever_the_server_says() {
        for (label, t1, t2, valid, due) in [
            ("T1 beyond the end", 5000, 6000, vec![1000], 1001),
            ("never", u32::MAX, u32::MAX, vec![1000], 1001),
            ("of two the first", 5000, 6000, vec![u32::MAX, 300], 301),
        ] {
            let (client, _) = step(&fresh(true), Event::Timer, s(0), 2);
            let addresses =
                valid.iter().zip(7_u128..).map(|(valid, last)| (Ipv6Addr::from(last), *valid)).collect();
            let lease = Lease { addresses, t1, t2, ..lease(1000) };
            let (client, _) = step(&client, Event::Received(Incoming::Reply { lease, rapid: true }), s(1), 3);
            assert_eq!(client.due, s(due), "{label}");
        }
    }

    #[test]
    fn an_address_that_does_not_end_is_renewed_where_the_server_says_so() {
        let preferred = [(OWN, 3600)].into();
        for (label, t1, t2, preferred, due) in [
            ("preferred for an hour", 1800, 2880, preferred, s(1801)),
            ("for ever in all", u32::MAX, u32::MAX, [].into(), Duration::MAX),
        ] {
            let (client, _) = step(&fresh(true), Event::Timer, s(0), 2);
            let lease = Lease { t1, t2, preferred, ..lease(u32::MAX) };
            let (client, _) = step(&client, Event::Received(Incoming::Reply { lease, rapid: true }), s(1), 3);
            assert_eq!(client.due, due, "{label}");
            if due < Duration::MAX {
                let (client, actions) = step(&client, Event::Timer, due, 4);
                assert_eq!(sent(&actions), [Kind::Renew], "{label}");
                let (client, actions) = step(&client, reply(u32::MAX), due + s(1), 5);
                assert_eq!((actions, client.phase), (vec![Action::Configure], Phase::Bound), "{label}");
            }
        }
    }

    #[test]
    fn an_address_is_preferred_for_as_long_as_the_server_says() {
        let lease = Lease { preferred: [(OWN, 300)].into(), ..lease(1000) };
        let held = Held { lease, since: s(100) };
        for (at, preferred, left) in [(100, 300, 1000), (150, 250, 950), (500, 0, 600)] {
            assert_eq!((held.preferred(OWN, s(at)), held.left(s(at)).next()), (preferred, Some((OWN, left))));
        }
        assert_eq!(held.preferred(Ipv6Addr::LOCALHOST, s(150)), u32::MAX, "as long as it is valid");
    }

    #[test]
    fn what_is_of_this_link_still_is_given_to_the_kernel_again() {
        // Which took it away when the interface was taken down.
        let (client, actions) = step(&bound(), Event::Replugged, s(100), 10);
        assert_eq!(sent(&actions), [Kind::Confirm]);
        assert_eq!(step(&client, reply(1000), s(101), 11).1, [Action::Configure], "confirmed");
        let (_, actions) = timers_until(client, s(200));
        assert_eq!(actions.last(), Some(&Action::Configure), "nobody answered: {actions:?}");
    }

    #[test]
    fn a_server_that_knows_nothing_and_grants_nothing_is_not_flooded() {
        let refused = Event::Received(Incoming::Refused {
            server: SERVER.to_vec(),
            why: Refusal::NoBinding,
            text: String::new(),
            is_reply: true,
        });
        let (client, _) = step(&bound(), Event::Timer, s(501), 5);
        let (client, actions) = step(&client, refused.clone(), s(502), 6);
        assert_eq!(sent(&actions), [Kind::Request]);
        let (client, actions) = step(&client, refused, s(502), 7);
        assert_eq!((sent(&actions), client.wake() > s(502)), (vec![], true), "{actions:?}");
    }

    #[test]
    fn a_server_that_forgot_us_is_asked_for_the_same_address() {
        let (client, _) = step(&bound(), Event::Timer, s(501), 5);
        let refused = |server: &[u8]| {
            Event::Received(Incoming::Refused {
                server: server.to_vec(),
                why: Refusal::NoBinding,
                text: String::new(),
                is_reply: true,
            })
        };
        assert!(step(&client, refused(&[1, 2]), s(502), 6).1.is_empty(), "another one's word");
        let (client, actions) = step(&client, refused(SERVER), s(502), 6);
        assert_eq!(sent(&actions), [Kind::Request]);
        assert!(client.held.is_some(), "it is ours until it ends");
    }

    #[test]
    fn an_address_that_another_machine_has_is_declined() {
        let (client, actions) = step(&bound(), Event::Duplicate(OWN), s(3), 6);
        assert_eq!(sent(&actions), [Kind::Decline]);
        assert!(client.held.is_none() && actions.contains(&Action::Remove(vec![OWN])));
        assert!(step(&bound(), Event::Duplicate("2001:db8::8".parse().unwrap()), s(3), 6).1.is_empty());
    }

    #[test]
    fn without_addresses_it_asks_for_the_rest_once_a_day() {
        let (client, actions) = step(&fresh(false), Event::Timer, s(0), 2);
        assert_eq!(sent(&actions), [Kind::Information]);
        let (client, actions) = step(&client, reply(1000), s(1), 3);
        assert_eq!((actions, client.due), (vec![Action::Configure], s(86_401)));
        assert_eq!(sent(&step(&client, Event::Timer, s(86_401), 4).1), [Kind::Information]);
    }

    #[test]
    fn what_a_server_said_is_not_used_on_another_network_where_nobody_says_anything() {
        let (asking, _) = step(&fresh(false), Event::Timer, s(0), 2);
        let (told, _) = step(&asking, reply(1000), s(1), 3);
        let (plugged, actions) = step(&told, Event::Replugged, s(100), 4);
        assert_eq!((sent(&actions), plugged.held.is_some()), (vec![Kind::Information], true));
        assert!(timers_until(plugged.clone(), s(105)).0.held.is_some(), "it may be the same one");
        let (silent, actions) = timers_until(plugged.clone(), s(160));
        assert_eq!(silent.held, None);
        let said = actions.iter().filter(|action| matches!(action, Action::Say(_)));
        assert_eq!(said.count(), 1, "{actions:?}");
        let (answered, _) = step(&silent, reply(1000), s(170), 5);
        assert!(answered.held.is_some(), "late");
        let (answered, _) = step(&plugged, reply(1000), s(101), 5);
        assert!(answered.held.is_some());
        // A day later nobody plugged anything.
        let (stays, actions) = timers_until(answered, s(90_000));
        assert!(sent(&actions).len() > 8 && stays.held.is_some(), "{actions:?}");
    }

    proptest! {
        #[test]
        fn no_order_of_events_stops_it(events in proptest::collection::vec((0..6_u8, 0..2000_u64, any::<u32>()), 0..60)) {
            let (mut client, mut at) = (fresh(true), s(0));
            for (event, pause, random) in events {
                at += Duration::from_millis(pause * 100);
                let refused = |why| Incoming::Refused { server: SERVER.to_vec(), why, text: String::new(), is_reply: true };
                let event = match event {
                    0 => Event::Timer,
                    1 => Event::Received(Incoming::Advertise { lease: lease(random), preference: random as u8 }),
                    // T1 and T2 as a server may say them, and the lifetime of any length.
                    2 => {
                        let valid = if random % 2 == 0 { random } else { random % 300 };
                        let lease = Lease { t1: random.rotate_left(7), t2: random.rotate_left(9), ..lease(valid) };
                        Event::Received(Incoming::Reply { lease, rapid: false })
                    }
                    3 => Event::Received(refused(if random % 2 == 0 { Refusal::NoBinding } else { Refusal::NotOnLink })),
                    4 => Event::Replugged,
                    _ => Event::Duplicate(OWN),
                };
                let is_timer = event == Event::Timer;
                client = step(&client, event, at, random).0;
                prop_assert!(!is_timer || client.wake() > at, "{client:?} at {at:?}");
                // The kernel takes an address away at its end: it is asked for again by then.
                let end = client.held.as_ref().and_then(Held::first_end);
                prop_assert!(end.is_none_or(|end| client.due <= end.max(at + SHORTEST)), "{client:?} at {at:?}");
                let is_silent = client.due == Duration::MAX;
                prop_assert!(!is_silent || client.held.as_ref().is_some_and(|held| held.expires().is_none()));
            }
        }
    }
}
