//! Events to init, on descriptor 3. Started by hand, without that descriptor, a service logs them.

use contract::event::{DESCRIPTOR, Event, MAX_LINE};
use contract::text::spelt;
use std::os::fd::BorrowedFd;
use std::sync::OnceLock;

/// Tells init and whoever listens. Never blocks for long and never fails: init reads always, and an
/// event that cannot be written is logged.
pub fn tell(event: &Event) {
    let Some(mut line) = line(event) else { return };
    line.push('\n');
    match stream() {
        Some(fd) => {
            if let Err(error) = rustix::io::write(fd, line.as_bytes()) {
                crate::log!("event not told ({error}): {}", line.trim_end());
            }
        }
        None => crate::log!("event {}", line.trim_end()),
    }
}

/// The event as one line, without its newline; `None`, and logged, when it is too long.
pub fn line(event: &Event) -> Option<String> {
    // Whoever follows them may do it at a terminal.
    let line = spelt(&serde_json::to_string(event).ok()?);
    if line.len() >= MAX_LINE {
        crate::log!("event of {} bytes dropped: {line:.80}", line.len());
        return None;
    }
    Some(line)
}

fn stream() -> Option<BorrowedFd<'static>> {
    static IS_PIPE: OnceLock<bool> = OnceLock::new();
    let fd = crate::sys::inherited(DESCRIPTOR);
    // Only a pipe or a socket is init's; anything else was left open by whoever ran us.
    let is_pipe = *IS_PIPE
        .get_or_init(|| std::env::var_os("LIFEBOAT_EVENTS").is_some() && rustix::io::fcntl_getfd(fd).is_ok());
    is_pipe.then_some(fd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_that_steers_no_terminal_and_keeps_its_value() {
        let error = "a\u{9b}2J\u{7f}\u{202e}\x1b[31m\n\u{2028}".to_string();
        let event = Event::StepFailed { step: "x".to_string(), error };
        let told = line(&event).unwrap();
        assert!(!told.contains(contract::text::steers), "{told:?}");
        assert_eq!(serde_json::from_str::<Event>(&told).unwrap(), event);
    }
}
