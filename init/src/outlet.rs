//! Where events go: the log of events, and the device of `rescue.events=`, which may appear late
//! (a virtio port) and may have nobody at its other end: it is opened and written without blocking,
//! and what does not fit is dropped and counted.

use contract::paths;
use rustix::fs::{Mode, OFlags};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::OwnedFd;

/// Bytes kept for a device that does not take them at once.
const PENDING: usize = 64 << 10;
/// The event log starts anew at this size, bytes.
const LOG: u64 = 512 << 10;

pub struct Outlet {
    log: Option<File>,
    written: u64,
    /// As in the parameter, below /dev.
    wanted: Option<String>,
    device: Option<OwnedFd>,
    pending: Vec<u8>,
    dropped: u32,
}

impl Outlet {
    /// `device` as in `rescue.events=`: with or without `/dev/`.
    pub fn new(device: Option<&str>) -> Outlet {
        let log = OpenOptions::new().create(true).append(true).open(paths::log("events")).ok();
        let wanted = device
            .map(|name| name.strip_prefix("/dev/").unwrap_or(name))
            .filter(|name| !name.is_empty() && !name.split('/').any(|part| part == ".."))
            .map(|name| format!("/dev/{name}"));
        Outlet { log, written: 0, wanted, device: None, pending: Vec::new(), dropped: 0 }
    }

    /// One line without its newline.
    pub fn line(&mut self, line: &str) {
        if let Some(log) = &mut self.log {
            if self.written > LOG && log.set_len(0).is_ok() {
                self.written = 0;
            }
            if writeln!(log, "{line}").is_ok() {
                self.written += line.len() as u64 + 1;
            }
        }
        if self.wanted.is_none() {
            return;
        }
        if self.pending.len() + line.len() < PENDING {
            self.pending.extend_from_slice(line.as_bytes());
            self.pending.push(b'\n');
        } else {
            self.dropped += 1;
        }
        self.flush();
    }

    /// Writes what the device takes now.
    pub fn flush(&mut self) {
        let Some(path) = &self.wanted else { return };
        if self.device.is_none() && !self.pending.is_empty() {
            let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            self.device = rustix::fs::open(path.as_str(), flags, Mode::empty()).ok();
        }
        let Some(device) = &self.device else { return };
        while !self.pending.is_empty() {
            match rustix::io::write(device, &self.pending) {
                Ok(0) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return,
                Ok(length) => drop(self.pending.drain(..length)),
                // Unplugged: opened again when it is back.
                Err(_) => return self.device = None,
            }
        }
        if self.dropped > 0 {
            host::log!("{} events dropped: nobody reads {path}", self.dropped);
            self.dropped = 0;
        }
    }

    /// Whether something waits that no signal will announce.
    pub fn wants_housekeeping(&self) -> bool {
        self.wanted.is_some() && !self.pending.is_empty()
    }
}
