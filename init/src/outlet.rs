//! Where events go: the log of events, every device of `rescue.events=`, and the port of the hypervisor's that bears our name.
//! A device may appear late (a virtio port) and may have nobody at its other end: it is opened and written without blocking,
//! and what does not fit is dropped and counted, for each by itself. A disk is never written to, whatever a word names: `sda` is a
//! slip of the hand for `ttyS0`, and nothing guards the disk yet when the first event is there.

use crate::logs::LIMIT;
use contract::cmdline::{self, Word};
use rustix::fs::{FileType, Mode, OFlags, Stat};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Whoever gave the machine a port of this name reads it, and need not say so: below /dev, by devd's link.
const PORT: &str = "virtio-ports/lifeboat";
/// How long after the start such a port is looked for although nothing happens; later with each event alone, so that a
/// machine without one sleeps.
const PORT_COMES: Duration = Duration::from_secs(120);
/// Bytes kept for a device that does not take them at once.
const PENDING: usize = 64 << 10;

pub struct Outlet {
    log: Option<File>,
    written: u64,
    sinks: Vec<Sink>,
    refused: Vec<String>,
}

/// One device.
struct Sink {
    path: PathBuf,
    /// By a parameter: it is waited for as long as the machine runs.
    named: bool,
    device: Option<OwnedFd>,
    pending: Vec<u8>,
    dropped: u32,
    /// It is no place for events, and given up.
    is_disk: bool,
}

/// The devices of every `rescue.events=`, below /dev, each once.
pub fn named(words: &[Word]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for word in cmdline::all(words, "rescue.events").flat_map(|value| value.split(',')) {
        let name = word.strip_prefix("/dev/").unwrap_or(word);
        let is_below = !name.is_empty() && !name.split('/').any(|part| part == "..");
        if is_below && !names.iter().any(|known| known == name) {
            names.push(name.to_string());
        }
    }
    names
}

impl Outlet {
    /// `log` is the log's file, `dev` is /dev.
    pub fn new(log: &Path, dev: &Path, words: &[Word]) -> Outlet {
        let log = OpenOptions::new().create(true).append(true).open(log).ok();
        let names = named(words);
        let port = (!names.iter().any(|name| name == PORT)).then_some((PORT, false));
        let all = names.iter().map(|name| (name.as_str(), true)).chain(port);
        let sinks = all.map(|(name, named)| Sink {
            path: dev.join(name),
            named,
            device: None,
            pending: Vec::new(),
            dropped: 0,
            is_disk: false,
        });
        Outlet { log, written: 0, sinks: sinks.collect(), refused: Vec::new() }
    }

    /// One line without its newline.
    pub fn line(&mut self, line: &str) {
        if let Some(log) = &mut self.log {
            if self.written > LIMIT && log.set_len(0).is_ok() {
                self.written = 0;
            }
            if writeln!(log, "{line}").is_ok() {
                self.written += line.len() as u64 + 1;
            }
        }
        for sink in &mut self.sinks {
            sink.line(line);
        }
        self.refuse();
    }

    /// Writes what the devices take now.
    pub fn flush(&mut self) {
        self.sinks.iter_mut().for_each(Sink::flush);
        self.refuse();
    }

    fn refuse(&mut self) {
        for sink in self.sinks.extract_if(.., |sink| sink.is_disk) {
            let path = sink.path.display();
            self.refused.push(format!("no events go to {path}: it is a disk, which is not written to"));
        }
    }

    /// What is given up since it was asked last: a line for a person each.
    pub fn take_refused(&mut self) -> Vec<String> {
        std::mem::take(&mut self.refused)
    }

    /// Whether something waits that no signal will announce. `now` is the time since the boot.
    pub fn wants_housekeeping(&self, now: Duration) -> bool {
        self.sinks
            .iter()
            .any(|sink| !sink.pending.is_empty() && (sink.named || sink.device.is_some() || now < PORT_COMES))
    }
}

impl Sink {
    fn line(&mut self, line: &str) {
        if self.pending.len() + line.len() < PENDING {
            self.pending.extend_from_slice(line.as_bytes());
            self.pending.push(b'\n');
        } else {
            self.dropped += 1;
        }
        self.flush();
    }

    fn flush(&mut self) {
        if self.device.is_none() && !self.pending.is_empty() {
            self.open();
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
            host::log!("{} events dropped: nobody reads {}", self.dropped, self.path.display());
            self.dropped = 0;
        }
    }

    /// Looks before it opens, since a driver hears of that too, and once more after it: the name may be another's by then.
    fn open(&mut self) {
        self.is_disk = rustix::fs::stat(&self.path).is_ok_and(|stat| is_disk(&stat));
        if self.is_disk {
            return;
        }
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let Ok(device) = rustix::fs::open(&self.path, flags, Mode::empty()) else { return };
        self.is_disk = !rustix::fs::fstat(&device).is_ok_and(|stat| !is_disk(&stat));
        self.device = (!self.is_disk).then_some(device);
    }
}

fn is_disk(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A /dev, where an outlet for this command line begins.
    fn machine(line: &str) -> (tempfile::TempDir, Outlet) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("virtio-ports")).unwrap();
        let outlet = Outlet::new(&dir.path().join("log"), dir.path(), &cmdline::words(line));
        (dir, outlet)
    }

    #[test]
    fn every_device_that_a_word_names_is_one() {
        let cases: &[(&str, &[&str])] = &[
            ("quiet", &[]),
            ("rescue.events", &[]),
            ("rescue.events=", &[]),
            ("rescue.events=ttyS1", &["ttyS1"]),
            ("rescue.events=/dev/ttyS1,virtio-ports/me", &["ttyS1", "virtio-ports/me"]),
            ("rescue.events=ttyS1 quiet rescue.events=ttyS0,ttyS1,", &["ttyS1", "ttyS0"]),
            ("rescue.events=../etc/passwd,ttyS1", &["ttyS1"]),
        ];
        for (line, want) in cases {
            assert_eq!(named(&cmdline::words(line)), *want, "line {line:?}");
        }
    }

    #[test]
    fn each_device_gets_every_line_and_our_port_does_without_a_word() {
        let (dir, mut outlet) = machine("rescue.events=ttyS1,ttyS2");
        let devices = ["ttyS1", "ttyS2", PORT];
        fs::write(dir.path().join("ttyS1"), "").unwrap();
        outlet.line("one");
        // The others come late, as modules do.
        devices.iter().skip(1).for_each(|name| fs::write(dir.path().join(name), "").unwrap());
        assert!(outlet.wants_housekeeping(Duration::ZERO));
        outlet.flush();
        outlet.line("two");
        for name in devices {
            assert_eq!(fs::read_to_string(dir.path().join(name)).unwrap(), "one\ntwo\n", "{name}");
        }
        assert_eq!(fs::read_to_string(dir.path().join("log")).unwrap(), "one\ntwo\n");
        assert!(!outlet.wants_housekeeping(Duration::ZERO));
    }

    #[test]
    fn a_disk_that_a_word_names_is_not_written_to_and_a_person_is_told_once() {
        let (dir, mut outlet) = machine("rescue.events=sda,ttyS1");
        outlet.line("one");
        assert!(outlet.take_refused().is_empty(), "it may still become something else");
        let disk = dir.path().join("sda");
        let mode = Mode::RUSR | Mode::WUSR;
        // Of a range that no driver has (LOCAL/EXPERIMENTAL USE, admin-guide/devices.txt).
        let number = rustix::fs::makedev(240, 77);
        match rustix::fs::mknodat(rustix::fs::CWD, &disk, FileType::BlockDevice, mode, number) {
            Err(rustix::io::Errno::PERM) => return eprintln!("skipped: only root makes nodes"),
            made => made.unwrap(),
        }
        fs::write(dir.path().join("ttyS1"), "").unwrap();
        outlet.line("two");
        let refused = outlet.take_refused();
        assert!(matches!(&refused[..], [line] if line.contains("/sda: it is a disk")), "{refused:?}");
        outlet.line("three");
        assert!(outlet.take_refused().is_empty() && !outlet.wants_housekeeping(PORT_COMES));
        assert_eq!(fs::read_to_string(dir.path().join("ttyS1")).unwrap(), "one\ntwo\nthree\n");
    }

    #[test]
    fn our_port_is_one_device_also_where_a_word_names_it() {
        let (dir, mut outlet) = machine("rescue.events=virtio-ports/lifeboat");
        fs::write(dir.path().join(PORT), "").unwrap();
        outlet.line("one");
        assert_eq!(fs::read_to_string(dir.path().join(PORT)).unwrap(), "one\n");
    }

    #[test]
    fn a_port_that_nobody_named_is_looked_for_a_while_and_then_with_each_event() {
        let (dir, mut outlet) = machine("");
        outlet.line("one");
        assert!(outlet.wants_housekeeping(PORT_COMES - Duration::from_secs(1)));
        assert!(!outlet.wants_housekeeping(PORT_COMES), "a machine without one would never sleep");
        fs::write(dir.path().join(PORT), "").unwrap();
        outlet.line("two");
        assert_eq!(fs::read_to_string(dir.path().join(PORT)).unwrap(), "one\ntwo\n");
        let (_dir, mut outlet) = machine("rescue.events=ttyS1");
        outlet.line("one");
        assert!(outlet.wants_housekeeping(PORT_COMES), "a device that was named is waited for");
    }

    #[test]
    fn a_device_that_nobody_reads_keeps_no_line_from_another() {
        let (dir, mut outlet) = machine("rescue.events=unread,read");
        let pipe = dir.path().join("unread");
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let _reader = rustix::fs::open(&pipe, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).unwrap();
        fs::write(dir.path().join("read"), "").unwrap();
        let line = "x".repeat(1000);
        // More than a pipe holds and is kept for it.
        let count = 3 * PENDING / line.len();
        (0..count).for_each(|_| outlet.line(&line));
        assert_eq!(fs::read_to_string(dir.path().join("read")).unwrap().lines().count(), count);
        let unread = &outlet.sinks[0];
        assert!(unread.dropped > 0 && unread.pending.len() <= PENDING, "{} dropped", unread.dropped);
    }
}
