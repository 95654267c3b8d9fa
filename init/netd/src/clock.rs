//! The machine's clock: not before the image was made, and set by the time servers that the network names. Wall-clock time is of
//! no meaning to netd itself, whose times are since boot. Whoever judges certificates is told when it is settled: it waits for
//! a time server's answer, and never for longer than is stated here.

use crate::ntp::{self, Offset};
use crate::{Netd, now, random, rtc};
use contract::date::rfc3339;
use contract::event::{Event, Severity};
use contract::state;
use host::Root;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Until an answer is given up.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between questions that nobody answers: doubled from the first to the last.
const SOON: Duration = Duration::from_secs(2);
const SELDOM: Duration = Duration::from_secs(300);
/// Until a clock that was right is looked at again.
const AGAIN: Duration = Duration::from_secs(3600);
/// How long a time server is waited for from when it is known: one that is asked twice, or nearly three.
const WAIT: Duration = Duration::from_secs(8);
/// How long after the first address somebody who is still being asked may name a time server.
const NAMING: Duration = Duration::from_secs(3);
/// How long an address is waited for: one of an interface that is not netd's is never seen.
const ADDRESS: Duration = Duration::from_secs(60);

#[derive(Default)]
pub struct Clock {
    /// When the image was made, seconds since 1970.
    floor: u64,
    /// What the time was by before any server answered, in words.
    base: &'static str,
    hope: Hope,
    /// That it is not waited for any more was told.
    is_told: bool,
    /// The RTC was compared with a time server's word.
    is_compared: bool,
    /// Whom the network names, best first.
    pub servers: Vec<IpAddr>,
    question: Option<Question>,
    /// When the next question is due, and how many in a row nobody answered.
    due: Duration,
    silent: u32,
}

struct Question {
    socket: OwnedFd,
    server: IpAddr,
    nonce: u64,
    /// By the wall clock.
    sent: Duration,
    /// Since boot.
    until: Duration,
}

/// What there is to hope for, since boot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Hope {
    started: Duration,
    /// Whose answer counts, in words: also to an earlier life of netd.
    answered: Option<String>,
    /// Since when there is an address.
    address: Option<Duration>,
    /// Since when a time server is known that can be asked.
    named: Option<Duration>,
    /// By DHCP and the like somebody is asked who may name one.
    asking: bool,
}

impl Hope {
    /// Until when whoever judges a certificate waits.
    fn end(&self) -> Duration {
        match (self.address, self.named) {
            _ if self.answered.is_some() => Duration::ZERO,
            (_, Some(named)) => named + WAIT,
            (Some(address), None) if self.asking => address + NAMING,
            (Some(address), None) => address,
            (None, None) => self.started + ADDRESS,
        }
    }
}

fn wall() -> Duration {
    let now = clock_gettime(ClockId::Realtime);
    Duration::new(now.tv_sec.try_into().unwrap_or(0), now.tv_nsec as u32)
}

fn set(time: Duration) -> std::io::Result<()> {
    let time = Timespec { tv_sec: time.as_secs().cast_signed(), tv_nsec: time.subsec_nanos().into() };
    Ok(clock_settime(ClockId::Realtime, time)?)
}

impl Clock {
    /// Brings a clock that lost its battery to the day of the image; a line for a person where it had to, or where the RTC
    /// cannot be right.
    pub fn start(root: &Root) -> (Clock, Option<String>) {
        let floor = root.number(contract::paths::MADE).unwrap_or(0);
        let earlier: state::Netd = host::statefile::read("netd");
        let answered = Some(earlier.clock).filter(|clock| clock.settled).map(|clock| clock.by);
        let mut clock = Clock {
            floor,
            base: "the machine's clock (RTC)",
            hope: Hope { started: now(), answered, ..Hope::default() },
            ..Clock::default()
        };
        let before = wall().as_secs();
        if before >= floor {
            return (clock, rtc::read(root).and_then(|rtc| rtc::against_image(rtc, floor)));
        }
        clock.base = "the day of this image, since the machine's clock is behind that";
        let line = match set(Duration::from_secs(floor)) {
            Ok(()) => format!(
                "the machine's clock (RTC) said {}, before this image was made ({}): it is set to that time, until a time server or `date -s` sets it. Certificates are judged by it; the RTC is not written",
                rfc3339(before),
                rfc3339(floor)
            ),
            Err(error) => format!("set the clock: {error}"),
        };
        (clock, Some(line))
    }

    /// What of the network counts here: the time servers, whether there is an address to ask them from, and whether more may be
    /// named.
    pub fn know(&mut self, servers: Vec<IpAddr>, has_address: bool, asking: bool, now: Duration) {
        let servers = if has_address { servers } else { Vec::new() };
        if servers != self.servers {
            if self.hope.answered.is_none() {
                (self.silent, self.due) = (0, Duration::ZERO);
            }
            self.servers = servers;
        }
        self.hope.asking = asking;
        if has_address {
            self.hope.address.get_or_insert(now);
        }
        if !self.servers.is_empty() {
            self.hope.named.get_or_insert(now);
        }
    }

    /// For whoever judges certificates, and for people.
    pub fn state(&self, now: Duration) -> state::Clock {
        let settled = now >= self.hope.end();
        let servers: Vec<String> = self.servers.iter().map(IpAddr::to_string).collect();
        let by = match &self.hope.answered {
            Some(by) => by.clone(),
            None if servers.is_empty() && settled => format!("{}: no time server is known", self.base),
            None if servers.is_empty() => self.base.to_string(),
            None if settled => format!("{}: no answer from {}", self.base, servers.join(", ")),
            None => format!("{} while {} is asked", self.base, servers.join(", ")),
        };
        state::Clock { settled, by }
    }

    /// What a person is told once where no server has answered by now; whether it is news for the consoles.
    fn end_of_hope(&mut self, now: Duration) -> Option<(String, bool)> {
        let is_over = self.hope.answered.is_none() && self.hope.address.is_some() && now >= self.hope.end();
        if !is_over || std::mem::replace(&mut self.is_told, true) {
            return None;
        }
        let by = self.state(now).by;
        let text = format!("certificates are judged by {by}");
        Some((text, !self.servers.is_empty()))
    }

    /// `None` while there is nobody to ask, and nothing is waited for.
    pub fn due(&self, now: Duration) -> Option<Duration> {
        let due = self.question.as_ref().map_or(self.due, |question| question.until);
        let ask = (!self.servers.is_empty()).then_some(due);
        ask.into_iter().chain(Some(self.hope.end()).filter(|end| *end > now)).min()
    }

    pub fn socket(&self) -> Option<&OwnedFd> {
        self.question.as_ref().map(|question| &question.socket)
    }

    fn ask(&mut self) -> Result<(), (IpAddr, std::io::Error)> {
        let turn = self.silent as usize % self.servers.len().max(1);
        let Some(server) = self.servers.get(turn).copied() else { return Ok(()) };
        let nonce = u64::from(random()) << 32 | u64::from(random());
        let asked = || -> std::io::Result<OwnedFd> {
            let family = if server.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = rustix::net::socket_with(family, SocketType::DGRAM, flags, None)?;
            rustix::net::connect(&socket, &SocketAddr::new(server, ntp::PORT))?;
            rustix::net::send(&socket, &ntp::question(nonce), rustix::net::SendFlags::empty())?;
            Ok(socket)
        };
        match asked() {
            Ok(socket) => {
                self.question =
                    Some(Question { socket, server, nonce, sent: wall(), until: now() + PATIENCE });
                Ok(())
            }
            Err(error) => {
                self.unanswered();
                Err((server, error))
            }
        }
    }

    /// The next server is asked at once, until each was.
    fn unanswered(&mut self) {
        self.question = None;
        self.silent = self.silent.saturating_add(1);
        self.due = now() + pause(self.silent, self.servers.len());
    }
}

/// Between questions, after so many that nobody answered in a row.
fn pause(silent: u32, servers: usize) -> Duration {
    match silent.checked_sub(u32::try_from(servers.max(1)).unwrap_or(u32::MAX)) {
        None => Duration::ZERO,
        Some(more) => (SOON * 2_u32.saturating_pow(more.min(8))).min(SELDOM),
    }
}

impl Netd {
    /// Asks a time server where one is known and it is time to.
    pub fn keep_time(&mut self) {
        if self.clock.question.as_ref().is_some_and(|question| question.until <= now()) {
            self.clock.unanswered();
        }
        if self.clock.question.is_none()
            && self.clock.due <= now()
            && let Err((server, error)) = self.clock.ask()
        {
            host::log!("ask {server} for the time: {error}");
        }
        if let Some((text, is_news)) = self.clock.end_of_hope(now()) {
            host::log!("{text}");
            if is_news {
                host::events::tell(&Event::Notice { severity: Severity::Info, text });
            }
        }
    }

    pub fn receive_time(&mut self) {
        let received = wall();
        let Some(question) = &self.clock.question else { return };
        let mut packet = [0; 128];
        let length = match host::sys::packet::receive(&question.socket, &mut packet) {
            Ok(Some(length)) => length.min(packet.len()),
            Ok(None) => return,
            // Nobody listens there.
            Err(_) => return self.clock.unanswered(),
        };
        let server = question.server;
        match ntp::answer(&packet[..length], question.nonce, question.sent, received, self.clock.floor) {
            Ok(None) => {}
            Ok(Some(offset)) => {
                (self.clock.question, self.clock.silent, self.clock.due) = (None, 0, now() + AGAIN);
                self.mend_clock(server, offset);
                // Not before the clock is set: others judge by it from now on.
                self.clock.hope.answered = Some(format!("the time server {server}"));
            }
            Err(reason) => {
                host::log!("{server} is not believed about the time: {reason}");
                self.clock.unanswered();
            }
        }
    }

    fn mend_clock(&mut self, server: IpAddr, offset: Offset) {
        let said = wall();
        let right = offset.mend(said);
        // Once: it is not written, so the next answer would tell the same.
        let is_first = !std::mem::replace(&mut self.clock.is_compared, true);
        let rtc = rtc::read(&self.root).filter(|_| is_first);
        let rtc = rtc.and_then(|rtc| rtc::against_server(rtc, right.as_secs(), server));
        if !offset.is_small() {
            if let Err(error) = set(offset.mend(wall())) {
                self.problem(format!("set the clock by {server}: {error}"));
            }
            let text = told(said, right, server, offset);
            // The kernel's clock began with the RTC's time: one warning for both.
            match offset.is_large() && rtc.is_none() {
                true => self.problem(text),
                false => host::log!("{text}"),
            }
        }
        if let Some(line) = rtc {
            self.problem(line);
        }
    }
}

/// What was wrong, for a person.
fn told(said: Duration, right: Duration, server: IpAddr, offset: Offset) -> String {
    let which = match offset {
        Offset::Behind(_) => "behind",
        Offset::Ahead(_) => "ahead",
    };
    format!(
        "the clock said {}, the time server {server} says {}: it was {} {which}, and is set",
        rfc3339(said.as_secs()),
        rfc3339(right.as_secs()),
        rtc::span(offset.size().as_secs())
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn certificates_wait_for_a_time_server_and_never_for_longer_than_is_stated() {
        let hope = |address: Option<u64>, named: Option<u64>, asking: bool, answered: bool| Hope {
            started: at(2),
            answered: answered.then(String::new),
            address: address.map(at),
            named: named.map(at),
            asking,
        };
        for (label, hope, want) in [
            ("no address yet", hope(None, None, true, false), at(62)),
            ("nobody who may name one is asked", hope(Some(5), None, false, false), at(5)),
            ("one may be named", hope(Some(5), None, true, false), at(8)),
            ("one is known", hope(Some(5), Some(5), true, false), at(13)),
            ("one is known later", hope(Some(5), Some(40), false, false), at(48)),
            ("it has answered", hope(Some(5), Some(5), true, true), at(0)),
        ] {
            assert_eq!(hope.end(), want, "{label}");
        }
    }

    #[test]
    fn what_the_time_is_by_is_said_and_that_nobody_answers_once() {
        let server = IpAddr::from([192, 0, 2, 1]);
        let mut clock = Clock { base: "the RTC", ..Clock::default() };
        clock.know(vec![server], false, true, at(1));
        assert!(
            clock.servers.is_empty() && clock.due(at(1)) == Some(at(60)),
            "nobody is asked without an address"
        );
        clock.know(vec![server], true, false, at(5));
        let state = |settled, by: &str| state::Clock { settled, by: by.to_string() };
        assert_eq!(clock.state(at(5)), state(false, "the RTC while 192.0.2.1 is asked"));
        assert_eq!(clock.end_of_hope(at(12)), None);
        assert_eq!(clock.state(at(13)), state(true, "the RTC: no answer from 192.0.2.1"));
        let (text, is_news) = clock.end_of_hope(at(13)).unwrap();
        assert!(is_news && text == "certificates are judged by the RTC: no answer from 192.0.2.1");
        assert_eq!(clock.end_of_hope(at(14)), None, "once");
        let mut clock = Clock { base: "the RTC", ..Clock::default() };
        clock.know(Vec::new(), true, false, at(5));
        assert_eq!(clock.state(at(5)), state(true, "the RTC: no time server is known"));
        assert!(clock.end_of_hope(at(5)).is_some_and(|(_, is_news)| !is_news));
    }

    #[test]
    fn each_server_is_asked_before_any_is_asked_again_and_a_new_one_at_once() {
        let pauses = |servers| (1..5).map(|silent| pause(silent, servers).as_secs()).collect::<Vec<u64>>();
        assert_eq!(pauses(1), [2, 4, 8, 16]);
        assert_eq!(pauses(3), [0, 0, 2, 4]);
        assert_eq!(pause(u32::MAX, 1), SELDOM);
        let mut clock = Clock { silent: 9, due: at(300), ..Clock::default() };
        clock.know(vec![IpAddr::from([192, 0, 2, 1])], true, false, at(40));
        assert_eq!((clock.silent, clock.due(at(40))), (0, Some(Duration::ZERO)));
    }
}
