//! The client's states (RFC 2131 section 4.4): pure. The clock, randomness and the wire are the
//! caller's. A client never gives up: a switch port that learns for 40 seconds, a cable that comes
//! late and a server that starts after us all end in a lease.

use super::message::{DISCOVER, Incoming, Lease, Outgoing, REQUEST};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use std::time::Duration;

/// Between DISCOVERs: 1 s, doubled up to this. RFC 2131 says 64 s; a person waits here.
const LONGEST: Duration = Duration::from_secs(8);
/// REQUESTs before the offer is given up.
const REQUESTS: u32 = 4;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Asking whoever is there.
    Selecting {
        tries: u32,
    },
    /// Asking for what was offered (or, after a restart, for what we had: INIT-REBOOT).
    Requesting {
        tries: u32,
        offer: Box<Lease>,
        again: bool,
    },
    Bound,
    /// Asking our server to go on.
    Renewing,
    /// Asking any server to go on.
    Rebinding,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    pub mac: [u8; 6],
    pub hostname: Option<String>,
    pub phase: Phase,
    pub held: Option<Held>,
    xid: u32,
    began: Duration,
    /// When `Timer` is due.
    pub due: Duration,
}

/// A lease that was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    pub lease: Lease,
    /// Since boot: when the acknowledged request was sent.
    pub since: Duration,
}

impl Held {
    /// `None` for a lease without end.
    pub fn expires(&self) -> Option<Duration> {
        (self.lease.seconds != u32::MAX).then(|| self.since + Duration::from_secs(self.lease.seconds.into()))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Timer,
    Received(Incoming),
    /// Ask again now.
    Renew,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Broadcast(Outgoing),
    /// From our address to this server.
    Unicast(Ipv4Addr, Outgoing),
    /// A lease began or went on: configure it.
    Configure,
    /// The lease ended: take this address away.
    Remove(Ipv4Addr),
    /// For the log.
    Say(String),
}

impl Client {
    /// Starts asking at once. `held` is what an earlier life of this process left configured.
    pub fn new(
        mac: [u8; 6],
        hostname: Option<String>,
        held: Option<Held>,
        random: u32,
        now: Duration,
    ) -> Client {
        let phase = match &held {
            Some(held) => Phase::Requesting { tries: 0, offer: Box::new(held.lease.clone()), again: true },
            None => Phase::Selecting { tries: 0 },
        };
        Client { mac, hostname, phase, held, xid: random, began: now, due: now }
    }

    pub fn xid(&self) -> u32 {
        self.xid
    }

    pub fn lease(&self) -> Option<&Lease> {
        self.held.as_ref().map(|held| &held.lease)
    }

    fn message(&self, kind: u8, now: Duration) -> Outgoing {
        Outgoing {
            kind,
            xid: self.xid,
            seconds: now.saturating_sub(self.began).as_secs().min(u16::MAX.into()) as u16,
            mac: self.mac,
            client: Ipv4Addr::UNSPECIFIED,
            requested: None,
            server: None,
            hostname: self.hostname.clone(),
        }
    }

    /// A new exchange from the start.
    fn restart(&mut self, random: u32, now: Duration) {
        self.phase = Phase::Selecting { tries: 0 };
        (self.xid, self.began, self.due) = (random, now, now);
    }

    /// Retransmission with up to half a second of jitter, so that a rack that got its power back
    /// does not ask in step.
    fn wait(&mut self, tries: u32, random: u32, now: Duration) {
        let base = Duration::from_secs(1 << tries.min(6)).min(LONGEST);
        self.due = now + base + Duration::from_millis(u64::from(random % 500));
    }
}

/// What follows from an event. `random` is fresh with each call.
pub fn step(client: &Client, event: Event, now: Duration, random: u32) -> (Client, Vec<Action>) {
    let mut next = client.clone();
    let mut actions = Vec::new();
    match event {
        Event::Timer if now < client.due => {}
        Event::Timer => timer(&mut next, now, random, &mut actions),
        Event::Renew => match &next.held {
            Some(_) => {
                next.phase = Phase::Renewing;
                (next.xid, next.began, next.due) = (random, now, now);
                timer(&mut next, now, random, &mut actions);
            }
            None => {
                next.restart(random, now);
                timer(&mut next, now, random, &mut actions);
            }
        },
        Event::Received(message) => received(&mut next, message, now, random, &mut actions),
    }
    (next, actions)
}

fn timer(client: &mut Client, now: Duration, random: u32, actions: &mut Vec<Action>) {
    if let Some(held) = &client.held
        && held.expires().is_some_and(|end| end <= now)
    {
        let address = held.lease.address;
        actions.push(Action::Say(format!("the lease of {address} ended: asking anew")));
        actions.push(Action::Remove(address));
        client.held = None;
        client.restart(random, now);
    }
    match client.phase.clone() {
        Phase::Selecting { tries } => {
            actions.push(Action::Broadcast(client.message(DISCOVER, now)));
            client.phase = Phase::Selecting { tries: tries.saturating_add(1) };
            client.wait(tries, random, now);
        }
        Phase::Requesting { tries, offer, again } if tries < REQUESTS => {
            let server = (!again).then_some(offer.server);
            let message = Outgoing { requested: Some(offer.address), server, ..client.message(REQUEST, now) };
            actions.push(Action::Broadcast(message));
            client.phase = Phase::Requesting { tries: tries + 1, offer, again };
            client.wait(tries, random, now);
        }
        // Nobody answers for what we had: it stays ours until it expires.
        Phase::Requesting { again: true, .. } if client.held.is_some() => bound(client, now),
        Phase::Requesting { .. } => {
            client.restart(random, now);
            timer(client, now, random, actions);
        }
        Phase::Bound | Phase::Renewing | Phase::Rebinding => renew(client, now, random, actions),
    }
}

/// Asks for more time, or waits until that is due.
fn renew(client: &mut Client, now: Duration, random: u32, actions: &mut Vec<Action>) {
    let Some(held) = client.held.clone() else { return client.restart(random, now) };
    let Some(end) = held.expires() else {
        if client.phase == Phase::Bound {
            client.due = Duration::MAX;
            return;
        }
        return bound(client, now);
    };
    let rebind = held.since + Duration::from_secs(held.lease.t2.into());
    if client.phase == Phase::Bound {
        (client.xid, client.began) = (random, now);
    }
    let message = Outgoing { client: held.lease.address, ..client.message(REQUEST, now) };
    let until = if now < rebind {
        client.phase = Phase::Renewing;
        actions.push(Action::Unicast(held.lease.server, message));
        rebind
    } else {
        client.phase = Phase::Rebinding;
        actions.push(Action::Broadcast(message));
        end
    };
    // Half of what is left, not below a minute (RFC 2131 section 4.4.5), but for short leases.
    let left = until.saturating_sub(now);
    let pause = (left / 2).max(Duration::from_secs(60).min(left)).max(Duration::from_secs(1));
    client.due = (now + pause).min(end.max(now + Duration::from_secs(1)));
}

fn bound(client: &mut Client, now: Duration) {
    client.phase = Phase::Bound;
    client.due = match &client.held {
        Some(held) if held.expires().is_some() => {
            (held.since + Duration::from_secs(held.lease.t1.into())).max(now)
        }
        _ => Duration::MAX,
    };
}

fn received(client: &mut Client, message: Incoming, now: Duration, random: u32, actions: &mut Vec<Action>) {
    match (message, client.phase.clone()) {
        (Incoming::Offer(offer), Phase::Selecting { .. }) => {
            client.phase = Phase::Requesting { tries: 0, offer: Box::new(offer), again: false };
            client.due = now;
            timer(client, now, random, actions);
        }
        (Incoming::Ack(lease), Phase::Requesting { .. } | Phase::Renewing | Phase::Rebinding) => {
            if let Phase::Requesting { offer, again: false, .. } = &client.phase
                && offer.server != lease.server
            {
                return; // another server's word about another offer
            }
            if let Some(old) = client.lease().map(|old| old.address).filter(|old| *old != lease.address) {
                actions.push(Action::Remove(old));
            }
            client.held = Some(Held { lease, since: now });
            bound(client, now);
            actions.push(Action::Configure);
        }
        (Incoming::Nak { server, text }, Phase::Requesting { .. } | Phase::Renewing | Phase::Rebinding) => {
            let who = server.map_or("a server".to_string(), |server| server.to_string());
            actions.push(Action::Say(format!("{who} refused our address ({text}): asking anew")));
            if let Some(held) = client.held.take() {
                actions.push(Action::Remove(held.lease.address));
            }
            client.restart(random, now);
            // Not at once: a server that refuses everything must not be flooded.
            client.wait(0, random, now);
        }
        _ => {}
    }
}

/// What a client says in a state file.
impl Client {
    pub fn state(&self) -> &'static str {
        match (&self.phase, self.held.is_some()) {
            (Phase::Selecting { tries }, _) if *tries > 4 => "no answer",
            (Phase::Selecting { .. } | Phase::Requesting { .. }, false) => "asking",
            (Phase::Bound | Phase::Requesting { .. } | Phase::Selecting { .. }, _) => "bound",
            (Phase::Renewing | Phase::Rebinding, _) => "renewing",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::tests::MAC;
    use super::*;
    use proptest::prelude::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn lease(seconds: u32) -> Lease {
        Lease {
            address: Ipv4Addr::new(10, 0, 2, 15),
            prefix: 24,
            server: Ipv4Addr::new(10, 0, 2, 2),
            gateway: None,
            routes: vec![],
            nameservers: vec![],
            search: vec![],
            hostname: None,
            mtu: None,
            ntp: vec![],
            seconds,
            t1: seconds / 2,
            t2: (u64::from(seconds) * 7 / 8) as u32,
        }
    }

    fn bound_client(seconds: u32) -> Client {
        let client = Client::new(MAC, None, None, 1, s(0));
        let (client, sent) = step(&client, Event::Timer, s(0), 2);
        assert!(matches!(&sent[..], [Action::Broadcast(m)] if m.kind == DISCOVER));
        let (client, sent) = step(&client, Event::Received(Incoming::Offer(lease(seconds))), s(1), 3);
        assert!(
            matches!(&sent[..], [Action::Broadcast(m)] if m.kind == REQUEST && m.server.is_some() && m.requested.is_some())
        );
        let (client, done) = step(&client, Event::Received(Incoming::Ack(lease(seconds))), s(1), 4);
        assert_eq!(done, [Action::Configure]);
        client
    }

    #[test]
    fn a_lease_is_renewed_then_rebound_then_given_up() {
        let client = bound_client(800);
        assert_eq!(client.due, s(401));
        let (client, sent) = step(&client, Event::Timer, s(401), 5);
        assert!(
            matches!(&sent[..], [Action::Unicast(server, m)] if *server == lease(1).server && m.client == lease(1).address)
        );
        let (client, sent) = step(&client, Event::Timer, s(720), 6);
        assert!(matches!(&sent[..], [Action::Broadcast(m)] if m.client == lease(1).address));
        assert_eq!(client.phase, Phase::Rebinding);
        let (client, sent) = step(&client, Event::Timer, s(801), 7);
        assert!(sent.contains(&Action::Remove(lease(1).address)));
        assert!(matches!(client.phase, Phase::Selecting { .. }));
    }

    #[test]
    fn an_acknowledged_renewal_starts_the_lease_anew() {
        let (client, _) = step(&bound_client(800), Event::Timer, s(401), 5);
        let (client, done) = step(&client, Event::Received(Incoming::Ack(lease(800))), s(402), 6);
        assert_eq!((done, client.due), (vec![Action::Configure], s(802)));
    }

    #[test]
    fn a_refusal_ends_the_lease_and_asks_anew() {
        let (client, _) = step(&bound_client(800), Event::Timer, s(401), 5);
        let nak = Incoming::Nak { server: None, text: "gone".into() };
        let (client, done) = step(&client, Event::Received(nak), s(402), 6);
        assert!(done.contains(&Action::Remove(lease(1).address)) && client.held.is_none());
        assert!(client.due > s(402));
    }

    #[test]
    fn a_restarted_process_asks_for_what_it_had_and_keeps_it_without_an_answer() {
        let held = Held { lease: lease(800), since: s(1) };
        let mut client = Client::new(MAC, None, Some(held), 1, s(100));
        let mut now = s(100);
        for _ in 0..=REQUESTS {
            let (next, actions) = step(&client, Event::Timer, now, 2);
            assert!(!actions.iter().any(|action| matches!(action, Action::Remove(_))));
            client = next;
            now = client.due;
        }
        assert_eq!(client.phase, Phase::Bound);
        assert_eq!(client.due, s(401));
    }

    #[test]
    fn a_server_that_answers_after_forty_seconds_is_heard() {
        let mut client = Client::new(MAC, None, None, 1, s(0));
        let mut now = s(0);
        while now < s(40) {
            let (next, actions) = step(&client, Event::Timer, now, 499);
            assert_eq!(actions.len(), 1, "one DISCOVER at {now:?}");
            assert!(next.due - now <= LONGEST + Duration::from_millis(500));
            client = next;
            now = client.due;
        }
        let (client, _) = step(&client, Event::Received(Incoming::Offer(lease(800))), now, 5);
        let (client, _) = step(&client, Event::Received(Incoming::Ack(lease(800))), now, 6);
        assert_eq!(client.state(), "bound");
    }

    #[test]
    fn a_lease_without_end_is_not_renewed() {
        assert_eq!(bound_client(u32::MAX).due, Duration::MAX);
    }

    proptest! {
        #[test]
        fn any_order_of_events_keeps_the_client_asking(
            events in proptest::collection::vec((0u8..6, 0u64..2000, any::<u32>(), 1u32..5000), 0..100)
        ) {
            let mut client = Client::new(MAC, None, None, 1, s(0));
            let mut now = s(0);
            for (kind, later, random, seconds) in events {
                now += s(later);
                let event = match kind {
                    0 | 1 => Event::Timer,
                    2 => Event::Received(Incoming::Offer(lease(seconds))),
                    3 => Event::Received(Incoming::Ack(lease(seconds))),
                    4 => Event::Received(Incoming::Nak { server: None, text: String::new() }),
                    _ => Event::Renew,
                };
                let (next, _) = step(&client, event, now, random);
                // Unless bound for ever, something is always due, and a held lease not past its end.
                prop_assert!(next.due <= now.max(next.due));
                prop_assert!(next.due < Duration::MAX || next.held.is_some());
                client = next;
            }
        }
    }
}
