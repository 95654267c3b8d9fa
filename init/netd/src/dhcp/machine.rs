//! The client's states (RFC 2131 section 4.4): pure. The clock, randomness and the wire are the
//! caller's. A client never gives up: a switch port that learns for 40 seconds, a cable that comes
//! late and a server that starts after us all end in a lease.
//!
//! An offered address is probed by ARP (RFC 5227) while the server is asked for it, so that the probe
//! costs the first login nothing. Who answers it has the address: it is declined and another asked
//! for, once in ten minutes. A second answer is more likely a router that answers for everybody, and a machine
//! without an address helps nobody: it is said, and the address is used.
//!
//! The first offer is taken, since a person waits. Not so that of a server which offered an address
//! before and did not grant it: for a while any other server's offer is preferred.

use super::message::{DECLINE, DISCOVER, Incoming, Lease, Outgoing, REQUEST};
use crate::failures::Failures;
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use std::time::Duration;

/// Between DISCOVERs: 1 s, doubled up to this. RFC 2131 says 64 s; a person waits here.
const LONGEST: Duration = Duration::from_secs(8);
/// REQUESTs before the offer is given up.
const REQUESTS: u32 = 4;
/// DISCOVERs that a machine with a lease sends on what may be another network.
const DISCOVERS: u32 = 4;
/// How long an answer to the probe is waited for.
const PROBE: Duration = Duration::from_secs(3);
/// How long after an address was declined the answers to probes are not believed.
const DISBELIEF: Duration = Duration::from_secs(600);
/// RFC 2131 section 3.1, step 5.
const AFTER_DECLINE: Duration = Duration::from_secs(10);
/// A server may grant one second; it is not asked more often than this.
const SHORTEST: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Asking whoever is there.
    Selecting {
        tries: u32,
    },
    /// Asking for what was offered, or for what we had.
    Requesting {
        tries: u32,
        offer: Box<Lease>,
        why: Why,
    },
    Bound,
    /// Asking our server to go on.
    Renewing,
    /// Asking any server to go on.
    Rebinding,
}

/// Why an address is asked for; the last two are RFC 2131's INIT-REBOOT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    Offered,
    /// An earlier life of this process had it: without an answer it stays ours.
    Restarted,
    /// The cable was plugged: without an answer it may be another network.
    Replugged,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    pub mac: [u8; 6],
    pub hostname: Option<String>,
    pub phase: Phase,
    pub held: Option<Held>,
    xid: u32,
    began: Duration,
    /// When the first request of this exchange was sent: leases count from there.
    asked: Duration,
    /// The address that is being probed, and until when.
    probe: Option<(Ipv4Addr, Duration)>,
    /// The best offer of servers that failed, and until when another's is waited for.
    spare: Option<(Box<Lease>, Duration)>,
    failures: Failures<Ipv4Addr>,
    /// When an address was declined last.
    declined: Option<Duration>,
    /// When `Timer` is due.
    due: Duration,
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
    /// Ask again now: the cable was plugged, or a person wants it.
    Renew,
    /// Ask, first for what the card had when it was here before: that is used once it is granted again (INIT-REBOOT, RFC 2131
    /// section 4.4.2).
    Want(Option<Lease>),
    /// Somebody with this MAC has the address that is being probed.
    Conflict([u8; 6]),
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
    /// Ask by ARP who has this address.
    Probe(Ipv4Addr),
    /// For the log.
    Say(String),
    /// For a person.
    Warn(String),
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
            Some(held) => {
                Phase::Requesting { tries: 0, offer: Box::new(held.lease.clone()), why: Why::Restarted }
            }
            None => Phase::Selecting { tries: 0 },
        };
        Client {
            mac,
            hostname,
            phase,
            held,
            xid: random,
            began: now,
            asked: now,
            probe: None,
            spare: None,
            failures: Failures::new(),
            declined: None,
            due: now,
        }
    }

    /// When `Timer` has something to do.
    pub fn wake(&self) -> Duration {
        let probe = self.probe.map(|(_, until)| until);
        let spare = self.spare.as_ref().map(|(_, until)| *until);
        [probe, spare].into_iter().flatten().fold(self.due, Duration::min)
    }

    /// The address that is being probed.
    pub fn probing(&self) -> Option<Ipv4Addr> {
        self.probe.map(|(address, _)| address)
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
        self.spare = None;
    }

    /// Asks whether a neighbour has it.
    fn probe(&mut self, address: Ipv4Addr, now: Duration, actions: &mut Vec<Action>) {
        actions.push(Action::Probe(address));
        self.probe = Some((address, now + PROBE));
    }

    /// The same, by asking for a lease that somebody granted once.
    fn want(&mut self, lease: Option<Lease>, random: u32, now: Duration) {
        self.restart(random, now);
        if let Some(lease) = lease {
            self.phase = Phase::Requesting { tries: 0, offer: Box::new(lease), why: Why::Replugged };
        }
    }

    /// Whose word counts: the server that was asked, where one was.
    fn asked_server(&self, now: Duration) -> Option<Ipv4Addr> {
        let is_for_any =
            |held: &Held| now >= held.since.saturating_add(Duration::from_secs(held.lease.t2.into()));
        match &self.phase {
            Phase::Requesting { offer, why: Why::Offered, .. } => Some(offer.server),
            // An earlier life of this process was granted it here, and the cable stayed in.
            Phase::Requesting { offer, why: Why::Restarted, .. } => {
                Some(offer.server).filter(|_| !self.held.as_ref().is_some_and(is_for_any))
            }
            Phase::Renewing => self.lease().map(|lease| lease.server),
            Phase::Requesting { why: Why::Replugged, .. } | Phase::Rebinding => None,
            Phase::Selecting { .. } | Phase::Bound => None,
        }
    }

    fn asked_address(&self) -> Option<Ipv4Addr> {
        match &self.phase {
            Phase::Requesting { offer, .. } => Some(offer.address),
            Phase::Renewing | Phase::Rebinding => self.lease().map(|lease| lease.address),
            Phase::Selecting { .. } | Phase::Bound => None,
        }
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
    next.probe = next.probe.filter(|(_, until)| now < *until);
    match event {
        Event::Timer => match next.spare.take_if(|(_, until)| *until <= now) {
            Some((offer, _)) => request(&mut next, offer, now, random, &mut actions),
            None if now < client.due => {}
            None => timer(&mut next, now, random, &mut actions),
        },
        Event::Renew => {
            let lease = next.lease().cloned();
            next.want(lease, random, now);
            timer(&mut next, now, random, &mut actions);
        }
        Event::Want(lease) => {
            if let Some(lease) = &lease {
                next.probe(lease.address, now, &mut actions);
            }
            next.want(lease, random, now);
            timer(&mut next, now, random, &mut actions);
        }
        Event::Conflict(mac) => conflict(&mut next, mac, now, random, &mut actions),
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
        // Nobody offers anything here: what we had stays ours until it expires.
        Phase::Selecting { tries }
            if tries >= DISCOVERS && client.held.is_some() && client.spare.is_none() =>
        {
            bound(client, now)
        }
        Phase::Selecting { tries } => {
            actions.push(Action::Broadcast(client.message(DISCOVER, now)));
            client.phase = Phase::Selecting { tries: tries.saturating_add(1) };
            client.wait(tries, random, now);
        }
        Phase::Requesting { tries, offer, why } if tries < REQUESTS => {
            let server = (why == Why::Offered).then_some(offer.server);
            let message = Outgoing { requested: Some(offer.address), server, ..client.message(REQUEST, now) };
            actions.push(Action::Broadcast(message));
            if tries == 0 {
                client.asked = now;
            }
            client.phase = Phase::Requesting { tries: tries + 1, offer, why };
            client.wait(tries, random, now);
        }
        Phase::Requesting { why: Why::Restarted, .. } if client.held.is_some() => bound(client, now),
        Phase::Requesting { offer, why, .. } => {
            if why == Why::Offered {
                client.failures.add(&offer.server, now);
                let Lease { server, address, .. } = *offer;
                actions.push(Action::Say(format!(
                    "{server} offered {address} and does not grant it: asking anew"
                )));
            }
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
    client.asked = now;
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
            (held.since + Duration::from_secs(held.lease.t1.into())).max(now + SHORTEST)
        }
        _ => Duration::MAX,
    };
}

/// Asks for what was offered.
fn request(client: &mut Client, offer: Box<Lease>, now: Duration, random: u32, actions: &mut Vec<Action>) {
    if client.lease().is_none_or(|held| held.address != offer.address) {
        client.probe(offer.address, now, actions);
    }
    client.phase = Phase::Requesting { tries: 0, offer, why: Why::Offered };
    (client.due, client.spare) = (now, None);
    timer(client, now, random, actions);
}

fn received(client: &mut Client, message: Incoming, now: Duration, random: u32, actions: &mut Vec<Action>) {
    match (message, client.phase.clone()) {
        (Incoming::Offer(offer), Phase::Selecting { .. }) => {
            let rank = client.failures.rank(&offer.server, now);
            let other = client.spare.as_ref().map(|(other, _)| client.failures.rank(&other.server, now));
            if rank.is_none() {
                request(client, Box::new(offer), now, random, actions);
            } else if other.is_none_or(|other| rank < other) {
                let until = now + Failures::<Ipv4Addr>::patience(rank);
                let until = client.spare.as_ref().map_or(until, |(_, other)| until.min(*other));
                client.spare = Some((Box::new(offer), until));
            }
        }
        (Incoming::Ack(lease), phase @ (Phase::Requesting { .. } | Phase::Renewing | Phase::Rebinding)) => {
            let (server, address) = (lease.server, lease.address);
            if let Some(asked) = client.asked_server(now).filter(|asked| *asked != server) {
                return actions.push(Action::Say(format!(
                    "{server} grants {address}, and {asked} was asked: not heard"
                )));
            }
            if let Some(asked) = client.asked_address().filter(|asked| *asked != address) {
                actions.push(Action::Say(format!(
                    "{server} grants {address}, and {asked} was asked for: not used"
                )));
                if matches!(phase, Phase::Requesting { why: Why::Offered, .. }) {
                    failed(client, server, now, random);
                }
                return;
            }
            if let Some(old) = client.lease().map(|old| old.address).filter(|old| *old != address) {
                actions.push(Action::Remove(old));
            }
            if client.lease().is_none_or(|old| old.ignored != lease.ignored) {
                let say =
                    |reason| Action::Say(format!("DHCP server {server}: {reason}: that option is not used"));
                actions.extend(lease.ignored.iter().map(say));
            }
            client.failures.forgive(&server);
            client.held = Some(Held { lease, since: client.asked });
            bound(client, now);
            actions.push(Action::Configure);
        }
        (Incoming::Nak { server, text }, phase) => {
            if matches!(phase, Phase::Selecting { .. } | Phase::Bound) {
                return;
            }
            // A server that others brought along refuses whatever is not its own.
            if let Some(asked) = client.asked_server(now).filter(|asked| *asked != server) {
                return actions.push(Action::Say(format!("{server} refused what {asked} grants: not heard")));
            }
            actions.push(Action::Say(format!("{server} refused our address ({text}): asking anew")));
            // What we hold may be another one than was offered and refused.
            let refused = client.asked_address();
            if let Some(held) = client.held.take_if(|held| refused == Some(held.lease.address)) {
                actions.push(Action::Remove(held.lease.address));
            }
            match phase {
                Phase::Requesting { why: Why::Offered, .. } => failed(client, server, now, random),
                // What it refused, it did not offer.
                Phase::Requesting { .. } | Phase::Renewing | Phase::Rebinding => again(client, now, random),
                Phase::Selecting { .. } | Phase::Bound => {}
            }
        }
        (Incoming::Offer(_) | Incoming::Ack(_), _) => {}
    }
}

/// A server did not keep its word.
fn failed(client: &mut Client, server: Ipv4Addr, now: Duration, random: u32) {
    client.failures.add(&server, now);
    again(client, now, random);
}

/// From the start, but not at once: a server that refuses everything must not be flooded.
fn again(client: &mut Client, now: Duration, random: u32) {
    client.probe = None;
    client.restart(random, now);
    client.wait(0, random, now);
}

/// Somebody has the address that we were offered.
fn conflict(client: &mut Client, mac: [u8; 6], now: Duration, random: u32, actions: &mut Vec<Action>) {
    let Some((address, _)) = client.probe.take() else { return };
    let server = match &client.phase {
        Phase::Requesting { offer, .. } => Some(offer.server),
        Phase::Bound | Phase::Renewing | Phase::Rebinding => client.lease().map(|lease| lease.server),
        // It is not asked for any more, since the cable was plugged meanwhile.
        Phase::Selecting { .. } => None,
    };
    let Some(server) = server else { return };
    let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
    if client.declined.is_some_and(|last| now < last + DISBELIEF) {
        return actions.push(Action::Warn(format!(
            "{mac} answers for {address}, and answered for the address before: used all the same; if this machine cannot be reached, two have that address"
        )));
    }
    client.declined = Some(now);
    actions.push(Action::Warn(format!(
        "{address} was offered and {mac} has it already: declined, asking for another one"
    )));
    let message = client.message(DECLINE, now);
    let message = Outgoing { requested: Some(address), server: Some(server), seconds: 0, ..message };
    actions.push(Action::Broadcast(message));
    if client.lease().is_some_and(|lease| lease.address == address) {
        client.held = None;
        actions.push(Action::Remove(address));
    }
    client.restart(random, now);
    client.due = now + AFTER_DECLINE;
}

/// What a client says in a state file.
impl Client {
    pub fn state(&self) -> &'static str {
        match (&self.phase, self.held.is_some()) {
            (Phase::Selecting { tries }, _) if *tries > 4 => "no answer",
            (Phase::Selecting { .. } | Phase::Requesting { .. }, false) => "asking",
            (Phase::Bound | Phase::Requesting { .. } | Phase::Selecting { .. }, _) => "bound",
            (Phase::Renewing, _) => "renewing",
            (Phase::Rebinding, _) => "rebinding",
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::super::message::tests::MAC;
    use super::*;
    use proptest::prelude::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    pub fn lease(seconds: u32) -> Lease {
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
            ignored: vec![],
        }
    }

    fn bound_client(seconds: u32) -> Client {
        let client = Client::new(MAC, None, None, 1, s(0));
        let (client, sent) = step(&client, Event::Timer, s(0), 2);
        assert!(matches!(&sent[..], [Action::Broadcast(m)] if m.kind == DISCOVER));
        let (client, sent) = step(&client, Event::Received(Incoming::Offer(lease(seconds))), s(1), 3);
        assert!(
            matches!(&sent[..], [Action::Probe(_), Action::Broadcast(m)] if m.kind == REQUEST && m.server.is_some() && m.requested.is_some())
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
        // It counts from the request, not from the answer.
        assert_eq!((done, client.due), (vec![Action::Configure], s(801)));
    }

    #[test]
    fn options_that_are_left_out_are_told_once() {
        let odd = Lease { ignored: vec!["option 42 has 3 bytes".into()], ..lease(800) };
        let (client, _) = step(&bound_client(800), Event::Timer, s(401), 5);
        let (client, done) = step(&client, Event::Received(Incoming::Ack(odd.clone())), s(402), 6);
        assert!(
            matches!(&done[..], [Action::Say(text), Action::Configure] if text.contains("option 42")),
            "{done:?}"
        );
        let (client, _) = step(&client, Event::Timer, s(802), 5);
        assert_eq!(step(&client, Event::Received(Incoming::Ack(odd)), s(802), 6).1, [Action::Configure]);
    }

    #[test]
    fn a_refusal_ends_the_lease_and_asks_anew() {
        let (client, _) = step(&bound_client(800), Event::Timer, s(401), 5);
        let nak = Incoming::Nak { server: lease(1).server, text: "gone".into() };
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
    fn a_card_that_came_back_has_what_it_had_once_any_server_grants_it_again() {
        let begin = || {
            let client = Client::new(MAC, None, None, 1, s(0));
            let (client, sent) = step(&client, Event::Want(Some(lease(100))), s(0), 2);
            let [Action::Probe(probed), Action::Broadcast(asked)] = &sent[..] else { panic!("{sent:?}") };
            assert_eq!((asked.kind, asked.requested, asked.server), (REQUEST, Some(*probed), None));
            assert_eq!(client.lease(), None, "it may be another network");
            client
        };
        // A server that never granted it.
        let other = Lease { server: Ipv4Addr::new(10, 0, 2, 9), ..lease(100) };
        let (client, done) = step(&begin(), Event::Received(Incoming::Ack(other.clone())), s(1), 3);
        assert_eq!((client.lease(), &done[..]), (Some(&other), &[Action::Configure][..]));
        let refusal = Incoming::Nak { server: other.server, text: String::new() };
        let (client, done) = step(&begin(), Event::Received(refusal), s(1), 3);
        assert_eq!(client.lease(), None);
        assert!(!done.contains(&Action::Remove(other.address)), "there is nothing to take away: {done:?}");
        let (_, sent) = step(&client, Event::Timer, client.wake(), 4);
        assert!(matches!(&sent[..], [Action::Broadcast(m)] if m.kind == DISCOVER), "{sent:?}");
        // Nobody answers.
        let mut client = begin();
        let mut kinds = Vec::new();
        for n in 0..8 {
            let (next, sent) = step(&client, Event::Timer, client.wake(), n);
            kinds.extend(sent.iter().filter_map(|action| match action {
                Action::Broadcast(message) => Some(message.kind),
                _ => None,
            }));
            client = next;
        }
        assert!(kinds.starts_with(&[REQUEST; 3]) && kinds.ends_with(&[DISCOVER; 3]), "{kinds:?}");
        assert_eq!(client.lease(), None);
        let (_, sent) = step(&Client::new(MAC, None, None, 1, s(0)), Event::Want(None), s(0), 2);
        assert!(matches!(&sent[..], [Action::Broadcast(m)] if m.kind == DISCOVER), "{sent:?}");
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
    fn a_plugged_cable_asks_for_what_it_had_and_then_for_anything() {
        let (mut client, sent) = step(&bound_client(800), Event::Renew, s(100), 5);
        assert!(
            matches!(&sent[..], [Action::Broadcast(m)] if m.kind == REQUEST && m.server.is_none() && m.requested == Some(lease(1).address))
        );
        let (mut discovers, mut now) = (0, s(100));
        while client.phase != Phase::Bound {
            now = client.wake();
            let (next, sent) = step(&client, Event::Timer, now, 5);
            discovers +=
                sent.iter().filter(|a| matches!(a, Action::Broadcast(m) if m.kind == DISCOVER)).count();
            assert!(!sent.iter().any(|action| matches!(action, Action::Remove(_))), "nobody said no");
            client = next;
        }
        assert_eq!((discovers as u32, now < s(160)), (DISCOVERS, true));
        // Another network's server offers another address.
        let (client, _) = step(&bound_client(800), Event::Renew, s(100), 5);
        let (client, _) =
            step(&Client { phase: Phase::Selecting { tries: 1 }, ..client }, Event::Timer, s(130), 5);
        let other = Lease { address: Ipv4Addr::new(192, 168, 1, 7), ..lease(800) };
        let (client, _) = step(&client, Event::Received(Incoming::Offer(other.clone())), s(131), 6);
        let (client, done) = step(&client, Event::Received(Incoming::Ack(other.clone())), s(131), 6);
        assert_eq!(done, [Action::Remove(lease(1).address), Action::Configure]);
        assert_eq!(client.lease(), Some(&other));
    }

    #[test]
    fn only_the_server_that_was_asked_may_refuse() {
        let nak = |last: u8| {
            let server = Ipv4Addr::new(10, 0, 2, last);
            Event::Received(Incoming::Nak { server, text: String::new() })
        };
        let (client, _) = step(&bound_client(800), Event::Timer, s(401), 5);
        assert_eq!(step(&client, nak(66), s(402), 6).0, client, "a rogue server");
        assert!(step(&client, nak(2), s(402), 6).0.held.is_none());
        let (asking, _) = step(&Client::new(MAC, None, None, 1, s(0)), Event::Timer, s(0), 2);
        let (asking, _) = step(&asking, Event::Received(Incoming::Offer(lease(800))), s(1), 3);
        assert_eq!(step(&asking, nak(66), s(1), 6).0, asking);
        assert!(matches!(step(&asking, nak(2), s(1), 6).0.phase, Phase::Selecting { .. }));
        // After a restart on the same cable, but not after it was plugged in, perhaps elsewhere.
        let held = bound_client(800).held;
        let (restarted, _) = step(&Client::new(MAC, None, held, 1, s(100)), Event::Timer, s(100), 2);
        assert_eq!(step(&restarted, nak(66), s(101), 6).0, restarted);
        assert!(step(&restarted, nak(2), s(101), 6).0.held.is_none());
        let (replugged, _) = step(&bound_client(800), Event::Renew, s(100), 5);
        assert!(step(&replugged, nak(66), s(101), 6).0.held.is_none());
    }

    fn offered(client: &Client, offer: &Lease, at: Duration) -> (Client, Vec<Action>) {
        step(client, Event::Received(Incoming::Offer(offer.clone())), at, 5)
    }

    /// The server that a client asks for an address, if it asks for one.
    fn chosen(actions: &[Action]) -> Option<Ipv4Addr> {
        actions.iter().find_map(|action| match action {
            Action::Broadcast(message) if message.kind == REQUEST => message.server,
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
    fn a_server_that_offers_and_does_not_grant_is_passed_over_for_another_one() {
        let rogue =
            Lease { server: Ipv4Addr::new(10, 0, 2, 66), address: Ipv4Addr::new(10, 0, 2, 99), ..lease(800) };
        let nak = Incoming::Nak { server: rogue.server, text: String::new() };
        let stray = Incoming::Ack(Lease { address: Ipv4Addr::new(10, 0, 2, 98), ..rogue.clone() });
        for (label, answer) in [("refuses", Some(nak)), ("grants another", Some(stray)), ("is silent", None)]
        {
            let (client, _) = step(&Client::new(MAC, None, None, 1, s(0)), Event::Timer, s(0), 2);
            let (client, sent) = offered(&client, &rogue, s(1));
            assert_eq!(chosen(&sent), Some(rogue.server), "{label}: the first one");
            let (client, end) = match answer {
                Some(answer) => (step(&client, Event::Received(answer), s(1), 3).0, s(3)),
                None => (client, s(30)),
            };
            assert!(client.held.is_none(), "{label}");
            let (client, sent) = timers_until(client, end);
            let discovers = |a: &&Action| matches!(a, Action::Broadcast(m) if m.kind == DISCOVER);
            assert!(sent.iter().any(|a| discovers(&a)), "{label}: {sent:?}");
            let now = end + Duration::from_millis(1);
            let (client, sent) = offered(&client, &rogue, now);
            assert!(sent.is_empty(), "{label}: {sent:?}");
            // A slow one.
            let (waiting, _) = timers_until(client.clone(), now + s(3));
            let (_, sent) = offered(&waiting, &lease(800), now + s(3));
            assert_eq!(chosen(&sent), Some(lease(1).server), "{label}");
            // The only one there is gets its turn again.
            let (_, sent) = timers_until(client, now + s(4));
            assert_eq!(chosen(&sent), Some(rogue.server), "{label}: {sent:?}");
        }
    }

    #[test]
    fn a_refused_offer_takes_nothing_away() {
        let (client, _) = step(&bound_client(800), Event::Renew, s(100), 5);
        let client = Client { phase: Phase::Selecting { tries: 1 }, ..client };
        let rogue =
            Lease { server: Ipv4Addr::new(10, 0, 2, 66), address: Ipv4Addr::new(10, 0, 2, 99), ..lease(800) };
        let (client, _) = offered(&client, &rogue, s(131));
        let nak = Incoming::Nak { server: rogue.server, text: String::new() };
        let (client, done) = step(&client, Event::Received(nak), s(131), 6);
        assert!(matches!(&done[..], [Action::Say(_)]) && client.lease() == Some(&lease(800)), "{done:?}");
    }

    #[test]
    fn of_servers_that_fail_each_gets_its_turn() {
        let servers = [66, 67].map(|last| Lease { server: Ipv4Addr::new(10, 0, 2, last), ..lease(800) });
        let (mut client, _) = step(&Client::new(MAC, None, None, 1, s(0)), Event::Timer, s(0), 2);
        let mut asked = Vec::new();
        while asked.len() < 6 {
            let now = client.wake();
            let (next, sent) = step(&client, Event::Timer, now, 5);
            client = next;
            let discovers = sent.iter().any(|a| matches!(a, Action::Broadcast(m) if m.kind == DISCOVER));
            let mut chose = chosen(&sent);
            for offer in servers.iter().filter(|_| discovers) {
                let (next, sent) = offered(&client, offer, now);
                client = next;
                chose = chose.or(chosen(&sent));
            }
            if let Some(server) = chose {
                asked.push(server.octets()[3]);
                let nak = Incoming::Nak { server, text: String::new() };
                client = step(&client, Event::Received(nak), now, 5).0;
            }
        }
        assert_eq!(asked, [66, 67, 66, 67, 66, 67]);
    }

    #[test]
    fn an_address_that_was_not_asked_for_is_never_used() {
        let held = bound_client(800).held;
        let (restarted, _) = step(&Client::new(MAC, None, held, 1, s(100)), Event::Timer, s(100), 2);
        let (replugged, _) = step(&bound_client(800), Event::Renew, s(100), 5);
        let (renewing, _) = step(&bound_client(800), Event::Timer, s(401), 5);
        let (rebinding, _) = step(&renewing, Event::Timer, s(720), 6);
        let (asking, _) = step(&Client::new(MAC, None, None, 1, s(0)), Event::Timer, s(0), 2);
        let (requesting, _) = offered(&asking, &lease(800), s(1));
        let rogue = Lease { server: Ipv4Addr::new(10, 0, 2, 66), ..lease(800) };
        let address = Ipv4Addr::new(10, 0, 2, 99);
        // Whether another server may grant the same address.
        for (label, client, at, by_any) in [
            ("after a restart", restarted.clone(), s(101), false),
            ("after a restart beyond T2", restarted, s(790), true),
            ("after the cable", replugged, s(101), true),
            ("renewing", renewing, s(402), false),
            ("rebinding", rebinding, s(721), true),
            ("requesting", requesting, s(2), false),
        ] {
            let ack = |lease: &Lease| step(&client, Event::Received(Incoming::Ack(lease.clone())), at, 6);
            for server in [lease(1).server, rogue.server] {
                let (next, done) = ack(&Lease { server, address, ..lease(800) });
                assert_eq!(next.held, client.held, "{label}");
                assert!(matches!(&done[..], [Action::Say(_)]), "{label}: {done:?}");
            }
            assert_eq!(ack(&rogue).1.contains(&Action::Configure), by_any, "{label}");
            assert_eq!(ack(&lease(800)).1, [Action::Configure], "{label}");
        }
    }

    #[test]
    fn an_address_that_somebody_has_is_declined_once_and_then_used_all_the_same() {
        let bound = bound_client(800);
        assert_eq!(bound.probing(), Some(lease(1).address));
        let (client, sent) = step(&bound, Event::Conflict([2; 6]), s(2), 5);
        let declines = |action: &Action| {
            matches!(action, Action::Broadcast(m) if m.kind == DECLINE && m.requested.is_some()
                && m.server.is_some() && m.client.is_unspecified())
        };
        assert!(sent.iter().any(declines), "{sent:?}");
        assert!(sent.contains(&Action::Remove(lease(1).address)) && client.held.is_none());
        assert_eq!(client.due, s(12));
        let (client, _) = step(&client, Event::Timer, s(12), 6);
        let (client, _) = step(&client, Event::Received(Incoming::Offer(lease(800))), s(13), 7);
        let (client, sent) = step(&client, Event::Conflict([2; 6]), s(13), 8);
        assert!(matches!(&sent[..], [Action::Warn(_)]), "{sent:?}");
        let (client, done) = step(&client, Event::Received(Incoming::Ack(lease(800))), s(13), 9);
        assert_eq!((done, client.state()), (vec![Action::Configure], "bound"));
    }

    #[test]
    fn a_while_after_an_address_was_declined_one_is_declined_again() {
        // It may be another network by then, or another neighbour.
        for (later, want) in [(DISBELIEF - s(1), false), (DISBELIEF, true)] {
            let (client, _) = step(&bound_client(800), Event::Conflict([2; 6]), s(2), 5);
            let (client, _) = step(&client, Event::Timer, s(2) + later - s(1), 6);
            let (client, _) = offered(&client, &lease(800), s(2) + later);
            let (_, sent) = step(&client, Event::Conflict([2; 6]), s(2) + later, 7);
            let is_declined = |action: &Action| matches!(action, Action::Broadcast(m) if m.kind == DECLINE);
            assert_eq!(sent.iter().any(is_declined), want, "{later:?}");
        }
    }

    #[test]
    fn what_was_offered_before_the_cable_was_plugged_anew_is_not_declined() {
        let (asking, _) = step(&Client::new(MAC, None, None, 1, s(0)), Event::Timer, s(0), 2);
        let (requesting, _) = offered(&asking, &lease(800), s(1));
        let (plugged, _) = step(&requesting, Event::Renew, s(2), 5);
        let (client, sent) = step(&plugged, Event::Conflict([2; 6]), s(3), 5);
        assert_eq!((sent, client.declined, client.due), (vec![], None, plugged.due));
    }

    #[test]
    fn an_answer_that_comes_late_is_not_believed() {
        let bound = bound_client(800);
        assert_eq!(bound.wake(), s(1) + PROBE);
        let (client, sent) = step(&bound, Event::Timer, s(4), 5);
        assert_eq!((client.probing(), client.wake(), sent.len()), (None, s(401), 0));
        let (client, sent) = step(&client, Event::Conflict([2; 6]), s(5), 5);
        assert!(sent.is_empty() && client.held.is_some());
    }

    #[test]
    fn a_server_that_grants_a_second_is_asked_once_a_second() {
        let (mut client, mut sent, mut now) = (bound_client(1), 0, s(1));
        while now < s(11) {
            let (next, actions) = step(&client, Event::Timer, now, 5);
            sent +=
                actions.iter().filter(|a| matches!(a, Action::Broadcast(_) | Action::Unicast(..))).count();
            client = step(&next, Event::Received(Incoming::Offer(lease(1))), now, 5).0;
            client = step(&client, Event::Received(Incoming::Ack(lease(1))), now, 5).0;
            now = client.wake().max(now + Duration::from_millis(1));
        }
        assert!(sent <= 25, "{sent} messages in ten seconds");
    }

    #[test]
    fn a_lease_without_end_is_not_renewed() {
        assert_eq!(bound_client(u32::MAX).due, Duration::MAX);
    }

    proptest! {
        #[test]
        fn any_order_of_events_keeps_the_client_asking(
            events in proptest::collection::vec((0u8..9, 0u64..2000, any::<u32>(), 1u32..5000), 0..100)
        ) {
            let mut client = Client::new(MAC, None, None, 1, s(0));
            let mut now = s(0);
            for (kind, later, random, seconds) in events {
                now += s(later);
                let timer = kind <= 1;
                let event = match kind {
                    0 | 1 => Event::Timer,
                    2 => Event::Received(Incoming::Offer(lease(seconds))),
                    3 => Event::Received(Incoming::Ack(lease(seconds))),
                    4 => Event::Received(Incoming::Nak { server: lease(1).server, text: String::new() }),
                    5 => Event::Conflict([2; 6]),
                    6 => Event::Renew,
                    // Another server, with another address.
                    _ => {
                        let octets = [10, 0, 2, 60 + (random % 4) as u8];
                        let lease = Lease { server: octets.into(), address: octets.into(), ..lease(seconds) };
                        Event::Received(if kind == 7 { Incoming::Offer(lease) } else { Incoming::Ack(lease) })
                    }
                };
                let asked = client.asked_address();
                let (next, actions) = step(&client, event, now, random);
                // What is used was asked for.
                prop_assert!(!actions.contains(&Action::Configure) || next.lease().map(|l| l.address) == asked);
                // Unless bound for ever, something is always due, and never at once again and again.
                prop_assert!(next.due < Duration::MAX || next.held.is_some());
                prop_assert!(!timer || next.wake() > now, "{:?} at {:?}", next, now);
                prop_assert!(actions.len() <= 6);
                // A held lease is looked at before it is past its end.
                let end = next.held.as_ref().and_then(Held::expires);
                prop_assert!(end.is_none_or(|end| next.due <= end.max(now + AFTER_DECLINE)), "{:?}", next);
                client = next;
            }
        }
    }
}
