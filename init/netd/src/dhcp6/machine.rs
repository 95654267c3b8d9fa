//! The client's states (RFC 8415 section 18.2): pure. The clock, randomness and the wire are the caller's. It never gives up, and
//! asks more often than the RFC's last resort of an hour, since a person waits here.
//!
//! With `addresses` it asks for one (IA_NA), and takes the first answer that has one; without, it asks once for name servers and the like
//! (Information-request), and again when they may have changed.

use super::message::{Incoming, Kind, Lease, Outgoing, Refusal};
use serde::{Deserialize, Serialize};
use std::net::Ipv6Addr;
use std::time::Duration;

/// Between messages: 1 s, doubled up to this.
const LONGEST: Duration = Duration::from_secs(8);
/// Requests before an advertisement is given up, Confirms before what we had is kept.
const TRIES: u32 = 4;
/// IRT_DEFAULT (section 7.6).
const REFRESH: Duration = Duration::from_secs(86_400);
const SHORTEST: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    Soliciting {
        tries: u32,
    },
    Requesting {
        tries: u32,
        offer: Box<Lease>,
    },
    /// Whether what we had is still of this link.
    Confirming {
        tries: u32,
    },
    Bound,
    Renewing {
        tries: u32,
    },
    Rebinding {
        tries: u32,
    },
    Informing {
        tries: u32,
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
            (false, _) => Phase::Informing { tries: 0 },
            (true, None) => Phase::Soliciting { tries: 0 },
            (true, Some(_)) => Phase::Confirming { tries: 0 },
        };
        Client { phase, held, addresses, identifier, identity, transaction: random, began: now, due: now }
    }

    pub fn wake(&self) -> Duration {
        self.due
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
            (Phase::Soliciting { tries } | Phase::Informing { tries }, _) if *tries > 4 => "no answer",
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
            (Some(held), true) if held.expires().is_some() => {
                (held.since + Duration::from_secs(held.lease.t1.into())).max(now + SHORTEST)
            }
            _ => Duration::MAX,
        };
    }
}

/// What follows from an event. `random` is fresh with each call.
pub fn step(client: &Client, event: Event, now: Duration, random: u32) -> (Client, Vec<Action>) {
    let mut next = client.clone();
    let mut actions = Vec::new();
    match event {
        Event::Timer if now < client.due => {}
        Event::Timer => timer(&mut next, now, random, &mut actions),
        Event::Replugged => {
            let phase = match (next.addresses, next.held.is_some()) {
                (false, _) => Phase::Informing { tries: 0 },
                (true, true) => Phase::Confirming { tries: 0 },
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
        Phase::Informing { tries } => {
            client.phase = Phase::Informing { tries: tries.saturating_add(1) };
            (tries, client.message(Kind::Information, None, vec![], now))
        }
        Phase::Requesting { tries, .. } if tries >= TRIES => {
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
        Phase::Confirming { tries } if tries >= TRIES => return client.rest(now),
        Phase::Confirming { tries } => {
            client.phase = Phase::Confirming { tries: tries + 1 };
            (tries, client.message(Kind::Confirm, None, client.owned(), now))
        }
        Phase::Bound if !client.addresses => {
            client.begin(Phase::Informing { tries: 0 }, random, now);
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
    // REN_TIMEOUT and REB_TIMEOUT are ten seconds.
    if matches!(client.phase, Phase::Renewing { .. } | Phase::Rebinding { .. }) {
        client.due += Duration::from_secs(10);
    }
    if let Some(end) = client.held.as_ref().and_then(Held::expires) {
        client.due = client.due.min(end.max(now + SHORTEST));
    }
}

fn received(client: &mut Client, message: Incoming, now: Duration, random: u32, actions: &mut Vec<Action>) {
    match (message, client.phase.clone()) {
        (Incoming::Advertise { lease }, Phase::Soliciting { .. }) if !lease.addresses.is_empty() => {
            client.begin(Phase::Requesting { tries: 0, offer: Box::new(lease) }, random, now);
            timer(client, now, random, actions);
        }
        (Incoming::Reply { lease, rapid: true }, Phase::Soliciting { .. }) => {
            granted(client, lease, now, actions)
        }
        (Incoming::Reply { lease, .. }, Phase::Requesting { offer, .. }) if lease.server == offer.server => {
            granted(client, lease, now, actions);
        }
        (Incoming::Reply { lease, .. }, Phase::Renewing { .. } | Phase::Rebinding { .. }) => {
            granted(client, lease, now, actions);
        }
        // It is of this link; what it is worth stays as it was.
        (Incoming::Reply { .. }, Phase::Confirming { .. }) => client.rest(now),
        (Incoming::Reply { lease, .. }, Phase::Informing { .. }) => {
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
                Phase::Renewing { .. } => client.lease().map(|lease| &lease.server),
                Phase::Confirming { .. } | Phase::Rebinding { .. } => None,
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
            let owned = client.owned();
            match (why, client.held.clone()) {
                (Refusal::NoBinding, Some(held)) => {
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
        let offer = Event::Received(Incoming::Advertise { lease: lease(1000) });
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

    proptest! {
        #[test]
        fn no_order_of_events_stops_it(events in proptest::collection::vec((0..6_u8, 0..2000_u64, any::<u32>()), 0..60)) {
            let (mut client, mut at) = (fresh(true), s(0));
            for (event, pause, random) in events {
                at += Duration::from_millis(pause * 100);
                let refused = |why| Incoming::Refused { server: SERVER.to_vec(), why, text: String::new(), is_reply: true };
                let event = match event {
                    0 => Event::Timer,
                    1 => Event::Received(Incoming::Advertise { lease: lease(random) }),
                    2 => reply(random),
                    3 => Event::Received(refused(if random % 2 == 0 { Refusal::NoBinding } else { Refusal::NotOnLink })),
                    4 => Event::Replugged,
                    _ => Event::Duplicate(OWN),
                };
                client = step(&client, event, at, random).0;
                let is_silent = client.due == Duration::MAX;
                prop_assert!(!is_silent || client.held.as_ref().is_some_and(|held| held.expires().is_none()));
            }
        }
    }
}
