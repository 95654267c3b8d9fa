//! When something that failed is tried again: each time after twice as long, so that a failure of a moment (no memory for a
//! worker, a disk that its controller resets) passes soon, and one that stays costs little.

use std::time::{Duration, Instant};

/// The first pause.
pub const FIRST: Duration = Duration::from_secs(5);
/// No pause is longer.
const LONGEST: Duration = Duration::from_secs(320);

#[derive(Clone, Copy, Debug)]
pub struct Again {
    pause: Duration,
    pub at: Instant,
}

impl Again {
    /// After it failed at `now`, where it had failed `before` or had not.
    pub fn after(before: Option<&Again>, now: Instant) -> Again {
        let pause = before.map_or(FIRST, |before| (before.pause * 2).min(LONGEST));
        Again { pause, at: now + pause }
    }

    pub fn is_due(&self, now: Instant) -> bool {
        self.at <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_each_time_is_tried_ever_more_rarely_and_never_given_up() {
        let now = Instant::now();
        let mut again = Again::after(None, now);
        let mut pauses = vec![again.pause.as_secs()];
        for _ in 0..8 {
            assert!(!again.is_due(again.at - Duration::from_millis(1)) && again.is_due(again.at));
            again = Again::after(Some(&again), again.at);
            pauses.push(again.pause.as_secs());
        }
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 320, 320, 320]);
    }
}
