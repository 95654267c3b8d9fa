//! The machine's typed events, as they come over `rescue.events=ttyS1`.

use super::transcript::Transcript;
use anyhow::Result;
use contract::event::Event;
use std::time::Duration;

/// The events of one machine, in order.
#[derive(Clone, Default)]
pub struct Events {
    pub line: Transcript,
}

impl Events {
    /// Every whole line that is an event; the rest (a kernel's or a loader's noise) is skipped.
    pub fn all(&self) -> Vec<Event> {
        parse(&self.line.text())
    }

    pub fn mark(&self) -> usize {
        self.line.mark()
    }

    /// The first event after `mark` that `pick` takes.
    pub fn wait<T>(
        &self,
        what: &str,
        mark: usize,
        patience: Duration,
        mut pick: impl FnMut(&Event) -> Option<T>,
    ) -> Result<T> {
        self.line.wait(what, mark, patience, |text| parse(text).iter().find_map(&mut pick))
    }

    /// A service that does its work.
    pub fn ready(&self, name: &str, mark: usize, patience: Duration) -> Result<()> {
        self.wait(&format!("the event that {name} is ready"), mark, patience, |event| match event {
            Event::Ready { service, .. } if service == name => Some(()),
            _ => None,
        })
    }
}

fn parse(text: &str) -> Vec<Event> {
    // The last piece has no newline yet: half an event is none.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().filter_map(|line| serde_json::from_str(line.trim()).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_and_half_lines_are_no_events() {
        let text = "SeaBIOS\n{\"kind\":\"ready\",\"service\":\"sshd\"}\n{\"kind\":\"ready\",\"service\":\"ne";
        assert_eq!(parse(text), [Event::ready("sshd")]);
    }
}
