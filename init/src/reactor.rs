//! The only wait of PID 1: signals, the services' event streams, and the next deadline.

use contract::event::{MAX_LINE, MAX_RATE};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// One service's event stream, as it is read.
#[derive(Debug)]
pub struct Stream {
    pub service: usize,
    fd: OwnedFd,
    buffer: Vec<u8>,
    /// The current second since boot, and lines taken in it.
    window: (u64, u32),
    /// Lines dropped since the last report: too many, too long, or not a JSON object.
    pub dropped: u32,
}

impl Stream {
    /// Takes the reading end, which must not block.
    pub fn new(service: usize, fd: OwnedFd) -> Stream {
        Stream { service, fd, buffer: Vec::new(), window: (0, 0), dropped: 0 }
    }

    /// Reads what is there. The lines are complete, printable and look like JSON objects; more is
    /// not asked of them here. `None` at the end of the stream.
    pub fn read(&mut self, now: Duration) -> Option<Vec<String>> {
        let mut chunk = [0; 4096];
        match rustix::io::read(&self.fd, &mut chunk) {
            Ok(0) => None,
            Ok(length) => Some(self.take(&chunk[..length], now)),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Some(Vec::new()),
            Err(_) => None,
        }
    }

    fn take(&mut self, bytes: &[u8], now: Duration) -> Vec<String> {
        let mut lines = Vec::new();
        for &byte in bytes {
            if byte != b'\n' {
                // One byte above the cap marks the line as too long; the rest of it is not kept.
                if self.buffer.len() < MAX_LINE {
                    self.buffer.push(byte);
                }
                continue;
            }
            let line = std::mem::take(&mut self.buffer);
            if self.window.0 != now.as_secs() {
                self.window = (now.as_secs(), 0);
            }
            let fits = line.len() < MAX_LINE && self.window.1 < MAX_RATE;
            match String::from_utf8(line) {
                Ok(line) if fits && line.starts_with('{') && !line.contains(char::is_control) => {
                    self.window.1 += 1;
                    lines.push(line);
                }
                _ => self.dropped = self.dropped.saturating_add(1),
            }
        }
        lines
    }
}

/// What a wait ended with.
pub struct Woken {
    pub signals: bool,
    /// Indices of `streams` that can be read.
    pub streams: Vec<usize>,
}

/// Waits for a signal, an event line or the timeout, whichever is first.
pub fn wait(signals: &OwnedFd, streams: &[Stream], timeout: Option<Duration>) -> io::Result<Woken> {
    let mut fds = vec![PollFd::new(signals, PollFlags::IN)];
    fds.extend(streams.iter().map(|stream| PollFd::new(&stream.fd, PollFlags::IN)));
    let timeout =
        timeout.map(|t| Timespec { tv_sec: t.as_secs().cast_signed(), tv_nsec: t.subsec_nanos().into() });
    match poll(&mut fds, timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
    Ok(Woken { signals: ready[0], streams: (0..streams.len()).filter(|i| ready[i + 1]).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> Stream {
        let (reader, _) = std::io::pipe().unwrap();
        Stream::new(0, reader.into())
    }

    #[test]
    fn lines_are_whole_however_they_arrive() {
        let mut stream = stream();
        assert!(stream.take(b"{\"kind\":", Duration::ZERO).is_empty());
        assert_eq!(stream.take(b"\"boot\"}\n{}\n{", Duration::ZERO), ["{\"kind\":\"boot\"}", "{}"]);
    }

    #[test]
    fn a_flood_a_long_line_and_garbage_are_counted_and_dropped() {
        let mut stream = stream();
        let flood = "{}\n".repeat(40);
        assert_eq!(stream.take(flood.as_bytes(), Duration::from_secs(5)).len(), MAX_RATE as usize);
        assert_eq!(stream.dropped, 40 - MAX_RATE);
        let long = format!("{{{}}}\n", "x".repeat(2 * MAX_LINE));
        assert!(stream.take(long.as_bytes(), Duration::from_secs(6)).is_empty());
        assert!(stream.take(b"{\x1b[2J}\n\xff\n\nplain\n", Duration::from_secs(6)).is_empty());
        assert_eq!(stream.dropped, 40 - MAX_RATE + 5);
        assert_eq!(stream.take(b"{}\n", Duration::from_secs(6)), ["{}"]);
    }
}
