//! Supervision as a state machine: pure, so that any order of events can be tried. A service that
//! dies is started again, at once the first time and later and later when it keeps dying; a
//! one-shot is done when it ends well.

use std::time::Duration;

/// Delay before the first restart; doubled with every further quick death.
pub const FIRST_DELAY: Duration = Duration::from_millis(100);
/// Longest delay: a broken service costs one start in half a minute.
pub const LONGEST_DELAY: Duration = Duration::from_secs(30);
/// A life of this length makes the next death a first one again.
pub const GOOD_LIFE: Duration = Duration::from_secs(10);
/// Starts that a one-shot gets before it is given up, however long each of them lasted: it does not fail of being old.
pub const ONE_SHOT_TRIES: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Restarted whenever it ends.
    Always,
    /// Ends with status 0 when it has done its work.
    OneShot,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// To be started at this time since boot.
    Waiting {
        until: Duration,
    },
    /// An action to start it was given; its outcome is the next event.
    Starting,
    Running {
        pid: i32,
        since: Duration,
    },
    /// A one-shot that ended well.
    Done,
    /// A one-shot that was given up.
    Failed,
    /// Not started again: the machine goes down.
    Stopped,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    pub kind: Kind,
    pub phase: Phase,
    /// Starts after the first.
    pub restarts: u32,
    /// Deaths in a row without a good life between them; of a one-shot, all.
    pub deaths: u32,
}

/// One slot per service, in the order of the table that they come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub slots: Vec<Slot>,
    pub stopping: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Time has passed.
    Tick,
    Started {
        slot: usize,
        pid: i32,
    },
    /// fork or exec failed.
    NotStarted {
        slot: usize,
    },
    /// Any child ended; most are nobody's (reaped orphans).
    Exited {
        pid: i32,
        well: bool,
    },
    /// One more service, which gets the next slot.
    Added {
        kind: Kind,
    },
    /// The machine goes down.
    Stop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Start {
        slot: usize,
    },
    Terminate {
        pid: i32,
    },
    /// A one-shot was given up: somebody should know.
    Tell {
        slot: usize,
    },
}

impl Slot {
    /// To be started with the next tick.
    fn new(kind: Kind) -> Slot {
        Slot { kind, phase: Phase::Waiting { until: Duration::ZERO }, restarts: 0, deaths: 0 }
    }
}

impl State {
    pub fn new(kinds: impl IntoIterator<Item = Kind>) -> State {
        State { slots: kinds.into_iter().map(Slot::new).collect(), stopping: false }
    }

    /// When `Tick` has work to do.
    pub fn next_deadline(&self) -> Option<Duration> {
        let waiting = |slot: &Slot| match slot.phase {
            Phase::Waiting { until } => Some(until),
            Phase::Starting | Phase::Running { .. } | Phase::Done | Phase::Failed | Phase::Stopped => None,
        };
        self.slots.iter().filter_map(waiting).min()
    }

    pub fn slot_of(&self, wanted: i32) -> Option<usize> {
        self.slots.iter().position(|slot| matches!(slot.phase, Phase::Running { pid, .. } if pid == wanted))
    }
}

/// What follows from an event at `now` (since boot).
pub fn step(state: &State, event: Event, now: Duration) -> (State, Vec<Action>) {
    let mut state = state.clone();
    let mut actions = Vec::new();
    match event {
        Event::Tick => {
            for (index, slot) in state.slots.iter_mut().enumerate() {
                if matches!(slot.phase, Phase::Waiting { until } if until <= now) {
                    slot.phase = Phase::Starting;
                    actions.push(Action::Start { slot: index });
                }
            }
        }
        Event::Started { slot, pid } => {
            let stopping = state.stopping;
            if let Some(slot) = state.slots.get_mut(slot) {
                slot.phase = Phase::Running { pid, since: now };
                if stopping {
                    actions.push(Action::Terminate { pid });
                }
            }
        }
        Event::NotStarted { slot } => {
            let stopping = state.stopping;
            if let Some(dead) = state.slots.get_mut(slot) {
                died(dead, Duration::ZERO, stopping, now);
                actions.extend(told(dead, slot));
            }
        }
        Event::Exited { pid, well } => {
            let stopping = state.stopping;
            if let Some(index) = state.slot_of(pid) {
                let slot = &mut state.slots[index]; // slot_of gives an index of slots
                match (slot.kind, well, slot.phase) {
                    (Kind::OneShot, true, _) => slot.phase = Phase::Done,
                    (_, _, Phase::Running { since, .. }) => {
                        died(slot, now.saturating_sub(since), stopping, now);
                        actions.extend(told(slot, index));
                    }
                    _ => {}
                }
            }
        }
        Event::Added { kind } => {
            let phase = if state.stopping { Phase::Stopped } else { Slot::new(kind).phase };
            state.slots.push(Slot { phase, ..Slot::new(kind) });
        }
        Event::Stop => {
            state.stopping = true;
            for slot in &mut state.slots {
                match slot.phase {
                    Phase::Running { pid, .. } => actions.push(Action::Terminate { pid }),
                    Phase::Waiting { .. } => slot.phase = Phase::Stopped,
                    Phase::Starting | Phase::Done | Phase::Failed | Phase::Stopped => {}
                }
            }
        }
    }
    (state, actions)
}

fn died(slot: &mut Slot, life: Duration, stopping: bool, now: Duration) {
    slot.deaths = match slot.kind {
        Kind::Always if life >= GOOD_LIFE => 1,
        Kind::Always | Kind::OneShot => slot.deaths.saturating_add(1),
    };
    slot.phase = if stopping {
        Phase::Stopped
    } else if slot.kind == Kind::OneShot && slot.deaths >= ONE_SHOT_TRIES {
        Phase::Failed
    } else {
        slot.restarts = slot.restarts.saturating_add(1);
        let delay = FIRST_DELAY.saturating_mul(1 << (slot.deaths - 1).min(16)).min(LONGEST_DELAY);
        Phase::Waiting { until: now.saturating_add(delay) }
    };
}

fn told(dead: &Slot, slot: usize) -> Option<Action> {
    (dead.phase == Phase::Failed).then_some(Action::Tell { slot })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn running(kind: Kind) -> State {
        let (state, actions) = step(&State::new([kind]), Event::Tick, s(1));
        assert_eq!(actions, [Action::Start { slot: 0 }]);
        step(&state, Event::Started { slot: 0, pid: 7 }, s(1)).0
    }

    #[test]
    fn a_service_that_died_once_is_back_at_once() {
        let (state, _) = step(&running(Kind::Always), Event::Exited { pid: 7, well: false }, s(100));
        assert_eq!(state.next_deadline(), Some(s(100) + FIRST_DELAY));
        assert_eq!(step(&state, Event::Tick, s(101)).1, [Action::Start { slot: 0 }]);
    }

    #[test]
    fn a_service_that_dies_at_once_again_and_again_is_started_twice_a_minute() {
        let (mut state, mut now, mut starts) = (running(Kind::Always), s(1), 0);
        while now < s(600) {
            state = step(&state, Event::Exited { pid: 7, well: false }, now).0;
            now = state.next_deadline().unwrap();
            let (ticked, actions) = step(&state, Event::Tick, now);
            assert_eq!(actions.len(), 1);
            state = step(&ticked, Event::Started { slot: 0, pid: 7 }, now).0;
            starts += 1;
        }
        assert!(starts < 30, "{starts} starts in ten minutes");
        assert_eq!(state.slots[0].restarts, starts);
    }

    #[test]
    fn a_one_shot_is_done_when_it_ends_well_and_given_up_when_it_never_does() {
        let (done, actions) = step(&running(Kind::OneShot), Event::Exited { pid: 7, well: true }, s(2));
        assert_eq!((done.slots[0].phase, actions.len()), (Phase::Done, 0));
        let mut state = running(Kind::OneShot);
        for second in 2..2 + u64::from(ONE_SHOT_TRIES) {
            state = step(&state, Event::NotStarted { slot: 0 }, s(second)).0;
        }
        assert_eq!(state.slots[0].phase, Phase::Failed);
    }

    #[test]
    fn a_one_shot_that_fails_late_each_time_is_given_up_too_and_that_is_told_once() {
        let (mut state, mut now, mut told) = (running(Kind::OneShot), s(1), Vec::new());
        for _ in 0..ONE_SHOT_TRIES {
            now += GOOD_LIFE * 2;
            let (failed, actions) = step(&state, Event::Exited { pid: 7, well: false }, now);
            told.extend(actions);
            let (ticked, _) = step(&failed, Event::Tick, now + LONGEST_DELAY);
            state = match failed.slots[0].phase {
                Phase::Failed => ticked,
                _ => step(&ticked, Event::Started { slot: 0, pid: 7 }, now).0,
            };
        }
        assert_eq!((state.slots[0].phase, told), (Phase::Failed, vec![Action::Tell { slot: 0 }]));
    }

    #[test]
    fn nothing_is_started_once_the_machine_goes_down() {
        let (state, actions) = step(&running(Kind::Always), Event::Stop, s(2));
        assert_eq!(actions, [Action::Terminate { pid: 7 }]);
        let (state, _) = step(&state, Event::Exited { pid: 7, well: false }, s(3));
        assert_eq!(state.slots[0].phase, Phase::Stopped);
        assert!(step(&state, Event::Tick, s(1000)).1.is_empty());
    }

    #[test]
    fn a_service_that_was_starting_when_the_machine_went_down_is_stopped() {
        let (state, _) = step(&State::new([Kind::Always]), Event::Tick, s(1));
        let (state, _) = step(&state, Event::Stop, s(1));
        assert_eq!(step(&state, Event::Started { slot: 0, pid: 9 }, s(1)).1, [Action::Terminate { pid: 9 }]);
    }

    #[test]
    fn a_service_that_comes_later_is_started_unless_the_machine_goes_down() {
        let added = Event::Added { kind: Kind::Always };
        let (state, actions) = step(&running(Kind::Always), added, s(5));
        assert!(actions.is_empty());
        let (state, actions) = step(&state, Event::Tick, s(5));
        assert_eq!(actions, [Action::Start { slot: 1 }]);
        assert_eq!(state.slot_of(7), Some(0), "the others stay where they are");
        let (state, _) = step(&running(Kind::Always), Event::Stop, s(5));
        let (state, _) = step(&state, added, s(5));
        assert!(step(&state, Event::Tick, s(6)).1.is_empty());
    }

    proptest! {
        #[test]
        fn any_order_of_events_keeps_the_invariants(
            events in proptest::collection::vec((0usize..7, 0usize..4, 1i32..6, any::<bool>(), 0u64..20), 0..200)
        ) {
            let mut state = State::new([Kind::Always, Kind::OneShot, Kind::Always]);
            let mut now = Duration::ZERO;
            for (kind, slot, pid, well, later) in events {
                now += s(later);
                let event = match kind {
                    0 | 1 => Event::Tick,
                    2 => Event::Started { slot, pid },
                    3 => Event::NotStarted { slot },
                    4 => Event::Exited { pid, well },
                    5 => Event::Added { kind: Kind::OneShot },
                    _ if later == 0 => Event::Stop,
                    _ => Event::Tick,
                };
                let (next, actions) = step(&state, event, now);
                let more = usize::from(matches!(event, Event::Added { .. }));
                prop_assert_eq!(next.slots.len(), state.slots.len() + more);
                for action in actions {
                    if let Action::Start { slot } = action {
                        prop_assert!(slot < next.slots.len() && !state.stopping);
                        prop_assert_eq!(next.slots[slot].phase, Phase::Starting);
                    }
                }
                if let Some(deadline) = next.next_deadline() {
                    prop_assert!(deadline <= now + LONGEST_DELAY);
                }
                state = next;
            }
        }
    }
}
