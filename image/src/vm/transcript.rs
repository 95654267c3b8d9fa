//! What one serial line said so far, filled by a thread, waited on with a deadline.

use anyhow::{Result, bail};
use std::io::Read;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Kept of one line at most: a machine that talks without end must not eat the tester's memory.
const MAX: usize = 16 << 20;

#[derive(Default)]
struct State {
    text: String,
    ended: bool,
}

/// Shared by the thread that fills it and those who wait.
#[derive(Clone, Default)]
pub struct Transcript {
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl Transcript {
    /// Read `from` to its end in a thread of its own.
    pub fn follow(mut from: impl Read + Send + 'static) -> Transcript {
        let transcript = Transcript::default();
        let writer = transcript.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 16 << 10];
            // An error ends it as the end of the stream does: the machine is gone.
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                writer.append(&String::from_utf8_lossy(&buffer[..count]));
            }
            writer.lock().ended = true;
            writer.shared.1.notify_all();
        });
        transcript
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A test that panicked while holding it has left a whole string behind.
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, text: &str) {
        let mut state = self.lock();
        if state.text.len() < MAX {
            state.text.push_str(&text.replace('\r', ""));
        }
        self.shared.1.notify_all();
    }

    /// Whoever speaks has hung up.
    pub fn ended(&self) -> bool {
        self.lock().ended
    }

    pub fn text(&self) -> String {
        self.lock().text.clone()
    }

    /// Where it ends now: what comes later is looked for from here.
    pub fn mark(&self) -> usize {
        self.lock().text.len()
    }

    /// Wait until `find` answers on the text after `mark`. `what` completes "failed to see".
    pub fn wait<T>(
        &self,
        what: &str,
        mark: usize,
        patience: Duration,
        mut find: impl FnMut(&str) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + patience;
        let mut state = self.lock();
        loop {
            if let Some(found) = find(&state.text[mark.min(state.text.len())..]) {
                return Ok(found);
            }
            if state.ended {
                bail!("see {what}: the line ended");
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("see {what} within {} s", patience.as_secs());
            }
            state = self.shared.1.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Wait for a piece of text, and return the whole line that holds it.
    pub fn wait_for(&self, needle: &str, mark: usize, patience: Duration) -> Result<String> {
        self.wait(&format!("{needle:?}"), mark, patience, |text| {
            let at = text.find(needle)?;
            let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
            let end = at + text[at..].find('\n')?;
            Some(text[start..end].to_string())
        })
    }

    /// Wait until whoever speaks has hung up.
    pub fn wait_end(&self, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        let mut state = self.lock();
        while !state.ended {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("see the line end within {} s", patience.as_secs());
            }
            state = self.shared.1.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }

    /// The last lines, for a person.
    pub fn tail(&self, lines: usize) -> String {
        let state = self.lock();
        let all: Vec<&str> = state.text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_whole_and_only_after_the_mark() {
        let line = Transcript::default();
        line.append("first ready\n");
        let mark = line.mark();
        line.append("now second ready\r\n");
        let found = line.wait_for("ready", mark, Duration::ZERO);
        assert_eq!(found.ok().as_deref(), Some("now second ready"));
    }

    #[test]
    fn an_ended_line_does_not_wait_for_its_deadline() {
        let line = Transcript::follow(std::io::Cursor::new(b"only this".to_vec()));
        let error = line.wait_for("that", 0, Duration::from_secs(3600)).unwrap_err();
        assert_eq!(error.to_string(), "see \"that\": the line ended");
    }
}
