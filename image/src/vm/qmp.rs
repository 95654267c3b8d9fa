//! QEMU's machine protocol (docs/interop/qmp-spec.rst): one JSON value a line.

use super::transcript::Transcript;
use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

pub struct Qmp {
    stream: UnixStream,
    line: Transcript,
    next: u64,
}

impl Qmp {
    pub fn new(stream: UnixStream) -> Result<Qmp> {
        let line = Transcript::follow(stream.try_clone().context("share the QMP socket")?);
        let mut qmp = Qmp { stream, line, next: 0 };
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// One command and its answer.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        self.next += 1;
        let (id, mark) = (self.next, self.line.mark());
        let request = json!({ "execute": command, "arguments": arguments, "id": id });
        writeln!(self.stream, "{request}").with_context(|| format!("send {command} to QEMU"))?;
        let answer =
            self.wait(&format!("QEMU's answer to {command}"), mark, PATIENCE, |value| value["id"] == id)?;
        match answer.get("return") {
            Some(value) => Ok(value.clone()),
            None => bail!("{command}: QEMU refuses: {}", answer["error"]["desc"]),
        }
    }

    /// A command of the human monitor, where QMP has none.
    pub fn human(&mut self, command: &str) -> Result<String> {
        let answer = self.execute("human-monitor-command", json!({ "command-line": command }))?;
        Ok(answer.as_str().unwrap_or_default().to_string())
    }

    pub fn mark(&self) -> usize {
        self.line.mark()
    }

    /// The first value after `mark` that `pick` takes.
    pub fn wait(
        &self,
        what: &str,
        mark: usize,
        patience: Duration,
        pick: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        self.line.wait(what, mark, patience, |text| {
            let whole = &text[..text.rfind('\n')?];
            whole.lines().filter_map(|line| serde_json::from_str(line).ok()).find(&pick)
        })
    }
}
