//! The machine's clock: not before the image was made, and set by the time servers that the network names. Wall-clock time is of
//! no meaning to netd itself, whose times are since boot.

use crate::ntp::{self, Offset};
use crate::{Netd, now, random};
use contract::date::day;
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

#[derive(Default)]
pub struct Clock {
    /// When the image was made, seconds since 1970.
    floor: u64,
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

fn wall() -> Duration {
    let now = clock_gettime(ClockId::Realtime);
    Duration::new(now.tv_sec.try_into().unwrap_or(0), now.tv_nsec as u32)
}

fn set(time: Duration) -> std::io::Result<()> {
    let time = Timespec { tv_sec: time.as_secs().cast_signed(), tv_nsec: time.subsec_nanos().into() };
    Ok(clock_settime(ClockId::Realtime, time)?)
}

impl Clock {
    /// Brings a clock that lost its battery to the day of the image; a line for a person where it had to.
    pub fn start(root: &Root) -> (Clock, Option<String>) {
        let floor = root.number(contract::paths::MADE).unwrap_or(0);
        let clock = Clock { floor, ..Clock::default() };
        let before = wall().as_secs();
        if before >= floor {
            return (clock, None);
        }
        let line = match set(Duration::from_secs(floor)) {
            Ok(()) => format!(
                "the machine's clock said {}, before this image was made: it is set to that time, until a time server or `date -s` sets it",
                day(before)
            ),
            Err(error) => format!("set the clock: {error}"),
        };
        (clock, Some(line))
    }

    /// `None` while there is nobody to ask.
    pub fn due(&self) -> Option<Duration> {
        let due = self.question.as_ref().map_or(self.due, |question| question.until);
        (!self.servers.is_empty()).then_some(due)
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

    fn unanswered(&mut self) {
        self.question = None;
        self.due = now() + (SOON * 2_u32.saturating_pow(self.silent.min(8))).min(SELDOM);
        self.silent = self.silent.saturating_add(1);
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
            }
            Err(reason) => {
                host::log!("{server} is not believed about the time: {reason}");
                self.clock.unanswered();
            }
        }
    }

    fn mend_clock(&mut self, server: IpAddr, offset: Offset) {
        if offset.is_small() {
            return;
        }
        if let Err(error) = set(offset.mend(wall())) {
            return self.problem(format!("set the clock by {server}: {error}"));
        }
        let (by, which) = match offset {
            Offset::Behind(by) => (by, "behind"),
            Offset::Ahead(by) => (by, "ahead"),
        };
        let text =
            format!("the clock was {} s {which} by the time server {server}, and is set", by.as_secs());
        match offset.is_large() {
            true => self.problem(text),
            false => host::log!("{text}"),
        }
    }
}
