//! Settings that are looked for without a person: on a volume that was made for this machine, where the boot parameters
//! say nothing of interfaces; and the dead disk's own, where `rescue.net=borrow` asks for them and nothing has brought an
//! address for a while. `rescue net` looks for them, in a process of its own, and answers by a pipe: netd opens no disk,
//! reads no file of a stranger, and waits for nothing.

use contract::wire::Offer;
use host::volumes::AGAIN;
use serde::{Deserialize, Serialize};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Most bytes of an answer: a plan at its caps has less.
const MAX_ANSWER: usize = 4 << 20;
/// Between two looks at whether the disks are there.
const LOOK: Duration = Duration::from_millis(500);
/// A hung disk keeps devd from being done: volumes are then not looked for any more, but a last resort is tried all the same.
const UNREADY: Duration = Duration::from_secs(600);
const LAST: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Seed,
    Borrow,
}

/// What is wished for at boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    pub seed: bool,
    /// After how long without an address, since boot.
    pub borrow: Option<Duration>,
}

pub struct Offers {
    wish: Wish,
    running: Option<Running>,
    /// When the disks are looked at again, whether they are ready.
    look: Duration,
    /// How often volumes were looked for in vain.
    looks: usize,
    began: Duration,
}

struct Running {
    kind: Kind,
    pipe: OwnedFd,
    text: Vec<u8>,
}

impl Offers {
    /// `looked`: what was looked for in an earlier life of this process.
    pub fn new(wish: Wish, looked: &[Kind], now: Duration) -> Offers {
        let mut offers = Offers { wish, running: None, look: now, looks: 0, began: now };
        looked.iter().for_each(|kind| offers.end(*kind));
        offers
    }

    /// Nothing is looked for any more. An answer that is under way is still heard, so that whoever gives it ends in order.
    pub fn stop(&mut self) {
        self.wish = Wish::default();
    }

    fn end(&mut self, kind: Kind) {
        match kind {
            Kind::Seed => self.wish.seed = false,
            Kind::Borrow => self.wish.borrow = None,
        }
    }

    /// A volume may come a moment later (`host::volumes`); no more than so often is it looked for.
    fn rest(&mut self, now: Duration) {
        match AGAIN.get(self.looks) {
            Some(seconds) => self.look = now + Duration::from_secs(*seconds),
            None => self.end(Kind::Seed),
        }
        self.looks += 1;
    }

    /// What is to be looked for now, and whether it need not wait for the disks any more.
    fn wanted(&self, has_address: bool, now: Duration) -> Option<(Kind, bool)> {
        match self.wish.borrow {
            _ if self.running.is_some() || now < self.look => None,
            // A volume that waits for a disk that hangs must not hold up the last resort.
            Some(after) if !has_address && now >= after + LAST => Some((Kind::Borrow, true)),
            _ if self.wish.seed => Some((Kind::Seed, false)),
            Some(after) if !has_address && now >= after => Some((Kind::Borrow, false)),
            Some(_) | None => None,
        }
    }

    /// When [`Offers::start`] may have something to do.
    pub fn due(&self, has_address: bool) -> Option<Duration> {
        match self.wish.borrow {
            _ if self.running.is_some() => None,
            _ if self.wish.seed => Some(self.look),
            Some(after) if !has_address => Some(after.max(self.look)),
            Some(_) | None => None,
        }
    }

    /// Begins to look, where that is due. An error is a line for a person.
    pub fn start(&mut self, has_address: bool, now: Duration) -> Result<(), String> {
        let Some((kind, at_once)) = self.wanted(has_address, now) else { return Ok(()) };
        self.look = now + LOOK;
        if !at_once && !host::rescue::is_ready() {
            if kind == Kind::Seed && now > self.began + UNREADY {
                self.end(kind);
            }
            return Ok(());
        }
        let words: &[&str] = match kind {
            // Nobody is started for nothing.
            Kind::Seed if !host::Root::live().is_ok_and(|root| host::volumes::may_be(&root)) => {
                self.rest(now);
                return Ok(());
            }
            Kind::Seed => &["net", "--json", "seed", "--dry-run"],
            Kind::Borrow => &["net", "--json", "borrow", "--dry-run"],
        };
        let begun = host::rescue::begin(words).and_then(|(_, pipe)| {
            rustix::io::ioctl_fionbio(&pipe, true)?;
            Ok(OwnedFd::from(pipe))
        });
        match begun {
            Ok(pipe) => {
                self.running = Some(Running { kind, pipe, text: Vec::new() });
                Ok(())
            }
            Err(error) => {
                self.end(kind);
                Err(format!("start rescue {}: {error}", words.join(" ")))
            }
        }
    }

    pub fn pipe(&self) -> Option<&OwnedFd> {
        self.running.as_ref().map(|running| &running.pipe)
    }

    /// Takes what has come; the whole answer, once it is there, and is the last one.
    pub fn heard(&mut self, now: Duration) -> Option<(Kind, Result<Offer, String>)> {
        let Running { kind, pipe, text } = self.running.as_mut()?;
        let kind = *kind;
        let mut buffer = [0; 4096];
        loop {
            match rustix::io::read(&*pipe, &mut buffer) {
                Ok(0) => break,
                Ok(length) if text.len() < MAX_ANSWER => text.extend_from_slice(&buffer[..length]),
                Ok(_) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => return None,
                Err(_) => break,
            }
        }
        let offer: serde_json::Result<Offer> = serde_json::from_slice(text);
        self.running = None;
        if kind == Kind::Seed && offer.as_ref().is_ok_and(|offer| offer.may_come) {
            self.rest(now);
            if self.wish.seed {
                return None;
            }
        }
        self.end(kind);
        // It says all that it has to say before it ends; its status says nothing more.
        Some((kind, offer.map_err(|_| "rescue net ended without an answer: see the log of netd".to_string())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_last_resort_waits_its_time_and_is_tried_once_and_not_where_there_is_an_address() {
        let wish = Wish { seed: false, borrow: Some(at(60)) };
        let offers = Offers::new(wish, &[], at(5));
        for (label, has_address, now, want) in [
            ("too early", false, at(59), None),
            ("an address", true, at(61), None),
            ("due", false, at(60), Some((Kind::Borrow, false))),
            ("a disk hangs", false, at(180), Some((Kind::Borrow, true))),
        ] {
            assert_eq!(offers.wanted(has_address, now), want, "{label}");
        }
        assert_eq!((offers.due(false), offers.due(true)), (Some(at(60)), None));
        let again = Offers::new(wish, &[Kind::Borrow], at(90));
        assert_eq!((again.wanted(false, at(90)), again.due(false)), (None, None));
    }

    #[test]
    fn a_volume_comes_first_and_is_looked_for_whether_there_is_an_address_or_not() {
        let offers = Offers::new(Wish { seed: true, borrow: Some(at(1)) }, &[], at(5));
        for has_address in [false, true] {
            assert_eq!(offers.wanted(has_address, at(5)), Some((Kind::Seed, false)));
        }
        for (label, has_address, now, want) in [
            ("it waits for the disks", false, at(120), (Kind::Seed, false)),
            ("a disk hangs", false, at(121), (Kind::Borrow, true)),
            ("a disk hangs, and somebody can reach this machine", true, at(121), (Kind::Seed, false)),
        ] {
            assert_eq!(offers.wanted(has_address, now), Some(want), "{label}");
        }
        let after = Offers::new(Wish { seed: true, borrow: Some(at(1)) }, &[Kind::Borrow], at(121));
        assert_eq!(after.wanted(false, at(121)), Some((Kind::Seed, false)), "volumes are looked for still");
        assert_eq!(Offers::new(Wish::default(), &[], at(5)).due(false), None);
    }

    #[test]
    fn nothing_is_looked_for_once_a_person_has_set_the_network() {
        let mut offers = Offers::new(Wish { seed: true, borrow: Some(at(1)) }, &[], at(5));
        offers.stop();
        assert_eq!((offers.wanted(false, at(500)), offers.due(false)), (None, None));
    }

    #[test]
    fn an_answer_comes_whole_or_is_none() {
        for (said, want) in [
            (r#"{"schema": 1, "origin": "x", "plan": {}, "reason": null, "notes": ["n"]}"#, Ok("x")),
            (r#"{"schema": 1, "origin": "x""#, Err(())),
            ("", Err(())),
        ] {
            let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
            let mut offers = Offers::new(Wish { seed: true, borrow: None }, &[], at(5));
            offers.running = Some(Running { kind: Kind::Seed, pipe: reader, text: Vec::new() });
            assert_eq!(offers.heard(at(5)), None, "nothing is said yet");
            rustix::io::write(&writer, said.as_bytes()).unwrap();
            assert_eq!(offers.heard(at(5)), None, "it may say more");
            drop(writer);
            let (kind, offer) = offers.heard(at(5)).unwrap();
            assert_eq!(kind, Kind::Seed);
            assert_eq!(offer.as_ref().map(|offer| offer.origin.as_str()).map_err(|_| ()), want, "{said}");
            assert_eq!(offers.due(false), None, "once");
        }
    }

    #[test]
    fn a_volume_that_comes_late_is_looked_for_again_and_not_without_end() {
        let mut offers = Offers::new(Wish { seed: true, borrow: Some(at(1)) }, &[], at(5));
        let answer = |offers: &mut Offers, said: &str, now| {
            let (pipe, writer) = rustix::pipe::pipe().unwrap();
            rustix::io::write(&writer, said.as_bytes()).unwrap();
            drop(writer);
            offers.running = Some(Running { kind: Kind::Seed, pipe, text: Vec::new() });
            offers.heard(now)
        };
        let (mut now, mut looks) = (5, Vec::new());
        loop {
            let heard = answer(&mut offers, r#"{"reason": "none", "may_come": true}"#, at(now));
            if heard.is_some() {
                break;
            }
            let due = offers.due(false).unwrap().as_secs();
            assert_eq!(offers.wanted(false, at(due - 1)), None, "nor is a disk's settings' turn");
            assert_eq!(offers.wanted(false, at(due)), Some((Kind::Seed, false)));
            looks.push(due - now);
            now = due;
        }
        assert_eq!((looks.as_slice(), offers.wish.seed), (&AGAIN[..], false));
        let mut offers = Offers::new(Wish { seed: true, borrow: None }, &[], at(5));
        assert!(answer(&mut offers, r#"{"reason": "it says nothing of the network"}"#, at(5)).is_some());
    }
}
