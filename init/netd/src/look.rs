//! A look at everything that the kernel has, by dumps, one after the other: pure. It happens at the start, and again when events
//! were lost: what was there and is not listed any more has gone meanwhile. A dump that is refused or never ends is passed over,
//! takes nothing away, and is made up for later: nothing waits for it.

use crate::rtnl::{self, Beside, Said};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// Until a dump is asked for again while an earlier one is running, of which there is one at a time
/// (`__netlink_dump_start` of net/netlink/af_netlink.c).
const BUSY: Duration = Duration::from_millis(100);
/// A dump that has not ended by then is passed over, and as long after one that was, all is looked at again.
const PATIENCE: Duration = Duration::from_secs(5);
const EBUSY: i32 = 16;

/// One dump. Addresses mean something once the links are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Links,
    Addresses,
    Routes,
    Routers,
}

impl Stage {
    fn next(self) -> Option<Stage> {
        match self {
            Stage::Links => Some(Stage::Addresses),
            Stage::Addresses => Some(Stage::Routes),
            Stage::Routes => Some(Stage::Routers),
            Stage::Routers => None,
        }
    }
}

/// What the kernel had, by the link's index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    Link(u32),
    Address(u32, IpAddr, u8),
    Router(u32, Ipv6Addr),
    Near(u32, (Ipv6Addr, u8)),
    Beside(u32, Beside),
}

impl Item {
    /// The event that tells it, if none is lost.
    pub fn gone(self) -> Said {
        match self {
            Item::Link(index) => Said::LinkGone(index),
            Item::Address(link, address, prefix) => Said::AddressGone(rtnl::Address {
                link,
                address,
                prefix,
                global: true,
                local: false,
                duplicate: false,
                by_router: false,
            }),
            Item::Router(index, router) => Said::RouterGone(index, router),
            Item::Near(index, prefix) => Said::NearGone(index, prefix),
            Item::Beside(index, beside) => Said::BesideGone(index, beside),
        }
    }

    /// Which dump lists it.
    pub fn stage(&self) -> Stage {
        match self {
            Item::Link(_) => Stage::Links,
            Item::Address(..) => Stage::Addresses,
            Item::Router(..) | Item::Near(..) => Stage::Routers,
            Item::Beside(_, beside) if beside.route.destination.is_ipv4() => Stage::Routes,
            Item::Beside(..) => Stage::Routers,
        }
    }
}

#[derive(Debug, Default)]
pub struct Look {
    /// The dump that is under way or to be asked for, and when it is passed over.
    stage: Option<(Stage, Duration)>,
    /// When it is asked for.
    ask: Option<Duration>,
    /// What was there when it was asked for, and was not heard of since.
    unheard: Vec<Item>,
    /// The kernel's lists changed under the dump (NLM_F_DUMP_INTR): something may be left out.
    is_torn: bool,
    /// Something was passed over.
    is_partial: bool,
    /// When all is looked at again.
    again: Option<Duration>,
}

/// What follows from an answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    /// It is not there any more.
    pub gone: Vec<Item>,
    /// All was looked at, as far as it could be.
    pub is_over: bool,
}

impl Look {
    /// All is to be looked at, once what was said before is heard. What begins again and again still ends.
    pub fn begin(&mut self, now: Duration) {
        let until = self.stage.filter(|_| self.is_at_links()).map_or(now + PATIENCE, |(_, until)| until);
        *self = Look { stage: Some((Stage::Links, until)), ask: Some(now), ..Look::default() };
    }

    /// The dump that is to be asked for now.
    pub fn next(&self, now: Duration) -> Option<Stage> {
        self.ask.filter(|at| *at <= now).and(self.stage).map(|(stage, _)| stage)
    }

    /// It was asked for. `had`: what there is of it as far as is known.
    pub fn asked(&mut self, had: Vec<Item>) {
        self.ask = None;
        self.unheard = had;
    }

    /// By a dump or by an event: it is there.
    pub fn heard(&mut self, item: &Item) {
        self.unheard.retain(|known| known != item);
    }

    pub fn torn(&mut self) {
        self.is_torn = true;
    }

    /// The links are not known yet.
    pub fn is_at_links(&self) -> bool {
        matches!(self.stage, Some((Stage::Links, _)))
    }

    pub fn answered(&mut self, errno: i32, now: Duration) -> Seen {
        match self.stage {
            Some((_, until)) if errno == EBUSY && now < until => {
                self.ask = Some(now + BUSY);
                self.unheard.clear();
                Seen { gone: Vec::new(), is_over: false }
            }
            // Without IPv6 it is an error to ask for its routes.
            Some((stage, _)) => {
                self.is_partial |= self.is_torn || errno != 0 && stage != Stage::Routers;
                let is_whole = errno == 0 && !self.is_torn;
                let gone = if is_whole { std::mem::take(&mut self.unheard) } else { Vec::new() };
                Seen { gone, is_over: self.go_on(stage, now) }
            }
            None => Seen { gone: Vec::new(), is_over: false },
        }
    }

    /// Whether all was looked at.
    fn go_on(&mut self, stage: Stage, now: Duration) -> bool {
        match stage.next() {
            Some(next) => {
                let is_partial = self.is_partial;
                *self = Look {
                    stage: Some((next, now + PATIENCE)),
                    ask: Some(now),
                    is_partial,
                    ..Look::default()
                };
            }
            None => {
                let again = self.is_partial.then(|| now + PATIENCE);
                *self = Look { again, ..Look::default() };
            }
        }
        self.stage.is_none()
    }

    /// Passes over what does not end. Whether all was looked at by that; what is passed over is in words.
    pub fn tick(&mut self, now: Duration) -> Option<(Stage, bool)> {
        if self.again.is_some_and(|again| again <= now) {
            self.begin(now);
        }
        let (stage, _) = self.stage.filter(|(_, until)| *until <= now)?;
        self.is_partial = true;
        Some((stage, self.go_on(stage, now)))
    }

    pub fn due(&self) -> Option<Duration> {
        let until = self.stage.map(|(_, until)| until);
        [self.ask, until, self.again].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn begun(now: Duration) -> Look {
        let mut look = Look::default();
        look.begin(now);
        look
    }

    /// All dumps from here on, each answered at once.
    fn rest(look: &mut Look, now: Duration) -> Vec<Stage> {
        let mut stages = Vec::new();
        while let Some(stage) = look.next(now) {
            stages.push(stage);
            look.asked(Vec::new());
            if look.answered(0, now).is_over {
                break;
            }
        }
        stages
    }

    const ALL: [Stage; 4] = [Stage::Links, Stage::Addresses, Stage::Routes, Stage::Routers];

    #[test]
    fn what_is_not_listed_any_more_has_gone_and_what_an_event_tells_meanwhile_has_not() {
        let mut look = begun(ms(0));
        look.asked(vec![Item::Link(2), Item::Link(3), Item::Link(4)]);
        look.heard(&Item::Link(3));
        look.heard(&Item::Link(9));
        look.heard(&Item::Link(4));
        assert_eq!(look.answered(0, ms(1)), Seen { gone: vec![Item::Link(2)], is_over: false });
        assert_eq!(rest(&mut look, ms(1)), ALL[1..]);
        assert_eq!(look.due(), None);
    }

    #[test]
    fn a_dump_that_is_refused_torn_or_never_ends_takes_nothing_away_and_is_made_up_for() {
        for (label, refusal) in [("refused", Some(12)), ("torn", Some(0)), ("endless", None)] {
            for at in 0..4 {
                let mut look = begun(ms(0));
                for _ in 0..at {
                    look.asked(Vec::new());
                    look.answered(0, ms(0));
                }
                look.asked(vec![Item::Address(2, [192, 0, 2, 7].into(), 24)]);
                let (now, is_over) = match refusal {
                    Some(errno) => {
                        if errno == 0 {
                            look.torn();
                        }
                        let seen = look.answered(errno, ms(10));
                        assert_eq!(seen.gone, [], "{label}");
                        (ms(10), seen.is_over)
                    }
                    None => {
                        assert_eq!(look.tick(ms(4999)), None);
                        assert_eq!(look.due(), Some(ms(5000)));
                        (ms(5000), look.tick(ms(5000)).unwrap().1)
                    }
                };
                assert_eq!(is_over, at == 3, "{label} {at}");
                assert_eq!(
                    rest(&mut look, now),
                    ALL[at + 1..],
                    "{label} {at}: the next ones are not kept from their turn"
                );
                // Of IPv6 there may be nothing.
                let is_nothing = label == "refused" && at == 3;
                let again = look.due();
                assert_eq!(again, (!is_nothing).then(|| now + PATIENCE), "{label} {at}");
                if let Some(again) = again {
                    look.tick(again);
                    assert_eq!(rest(&mut look, again), ALL, "{label} {at}");
                }
            }
        }
    }

    #[test]
    fn a_look_that_begins_again_and_again_keeps_nothing_waiting_for_ever() {
        let mut look = begun(ms(0));
        for at in (0..6000).step_by(50) {
            look.tick(ms(at));
            if !look.is_at_links() {
                return assert_eq!(at, 5000);
            }
            look.begin(ms(at)); // events are lost
        }
        panic!("{look:?}");
    }

    #[test]
    fn a_dump_that_another_one_keeps_out_is_asked_for_again() {
        let mut look = begun(ms(0));
        look.asked(vec![Item::Link(2)]);
        assert_eq!(look.answered(EBUSY, ms(1)).gone, [], "no link has gone");
        assert_eq!((look.next(ms(100)), look.next(ms(101))), (None, Some(Stage::Links)));
        look.asked(vec![Item::Link(2)]);
        assert_eq!(look.answered(0, ms(102)).gone, [Item::Link(2)]);
    }
}
