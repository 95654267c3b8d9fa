//! The part of `rescue assemble` that is bcache's. What is decided is in `model::bcache`.

use super::{State, copy, device};
use crate::apply::{Door, Made};
use crate::report::notice;
use crate::tool::Context;
use anyhow::Context as _;
use model::bcache::{self, Backing, Start};
use model::plan::Step;
use model::storage::{Id, Storage};
use model::text::{Column, Untrusted, table};
use serde::Serialize;
use std::collections::BTreeMap;

/// What became of one cached device.
#[derive(Debug, Serialize)]
pub struct CacheLine {
    /// What is cached.
    backing: String,
    device: Option<String>,
    pub state: State,
    read_only: bool,
    /// It runs from overlays of it and of its cache.
    copy: bool,
    reason: Option<String>,
    /// Steps of a dry run, as commands.
    pub steps: Vec<String>,
}

pub struct Caches<'a> {
    pub context: &'a Context,
    pub typed: &'a str,
    pub dry_run: bool,
    pub writable: bool,
    /// Words of the person; empty: all that is found.
    pub asked: &'a [String],
    /// By id, of those that were tried.
    pub lines: BTreeMap<Id, CacheLine>,
}

impl Caches<'_> {
    /// One look at everything; returns how many were started.
    pub fn pass(&mut self, storage: &Storage) -> usize {
        for backing in bcache::found(storage) {
            let tried = self.lines.get(&backing.id).is_some_and(|line| line.state != State::Refused);
            if tried
                || !(self.asked.is_empty() || self.asked.iter().any(|text| means(storage, &backing, text)))
            {
                continue;
            }
            let line = self.start(storage, &backing);
            let is_started = line.state == State::Started;
            self.lines.insert(backing.id.clone(), line);
            if is_started {
                return 1;
            }
        }
        0
    }

    fn start(&self, storage: &Storage, backing: &Backing) -> CacheLine {
        let mut line = CacheLine {
            backing: backing.path.clone(),
            device: None,
            state: State::Running,
            read_only: true,
            copy: false,
            reason: backing.note.map(str::to_string),
            steps: Vec::new(),
        };
        if let Some(running) = backing.device.as_ref().and_then(|id| storage.get(id)) {
            line.device = Some(model::lvm::path(running));
            line.read_only = running.block.read_only;
            line.copy = model::overlay::is_for_reading(storage, running);
            return line;
        }
        let refuse = |line: CacheLine, reason: String| CacheLine {
            state: State::Refused,
            reason: Some(reason),
            ..line
        };
        let start = match &backing.start {
            Ok(_) if self.writable => {
                let text = "it is only read here; for writing, echo it to /sys/fs/bcache/register, and its cache, after rescue writable";
                return refuse(line, text.to_string());
            }
            Ok(start) => start,
            Err(refusal) => return refuse(line, refusal.to_string()),
        };
        line.state = State::ToStart;
        let outcome = match start {
            Start::Plain { data_offset } => self.plain(storage, backing, *data_offset, &mut line),
            Start::Cached { caches } => {
                let ids: Vec<Id> = std::iter::once(&backing.id).chain(caches).cloned().collect();
                match copy::plan(self.context, storage, &ids) {
                    Ok(plan) => self.cached(storage, &ids, &plan, &mut line),
                    Err(refusal) => {
                        let text =
                            copy::refused("its cache is replayed, and so written, as it starts", &refusal);
                        return refuse(line, text);
                    }
                }
            }
        };
        if let Err(error) = outcome {
            (line.state, line.reason) = (State::Failed, Some(format!("{error:#}")));
            if line.copy {
                copy::clear(self.context, self.typed);
            }
        }
        line
    }

    fn plain(
        &self,
        storage: &Storage,
        backing: &Backing,
        data_offset: u64,
        line: &mut CacheLine,
    ) -> anyhow::Result<()> {
        let (path, steps) = bcache::plain(storage, backing, data_offset).context("find it")?;
        line.device = Some(path);
        self.make(&steps, line).map(drop)
    }

    fn cached(
        &self,
        storage: &Storage,
        ids: &[Id],
        plan: &model::overlay::Plan,
        line: &mut CacheLine,
    ) -> anyhow::Result<()> {
        line.copy = true;
        let own = |id: &Id| {
            let path = storage.get(id).map(model::lvm::path)?;
            copy::path_of(plan, &path).or(Some(path))
        };
        let overlays: Vec<String> = ids.iter().filter_map(own).collect();
        let steps: Vec<Step> = plan.steps.iter().cloned().chain(bcache::cached(&overlays)).collect();
        let made = self.make(&steps, line)?;
        line.device = made.into_iter().rev().find_map(|made| match made {
            Made::Device(device) => Some(device),
            Made::Done | Made::Status(_) | Made::Said(_) => None,
        });
        let stop = line.device.as_deref().unwrap_or_default();
        line.reason = Some(copy::told("its cache is replayed, and so written, as it starts", stop));
        Ok(())
    }

    fn make(&self, steps: &[Step], line: &mut CacheLine) -> anyhow::Result<Vec<Made>> {
        line.steps = steps.iter().map(Step::text).collect();
        if self.dry_run {
            return Ok(Vec::new());
        }
        let made = Door::open(self.context, self.typed)?.make_all(steps)?;
        line.state = State::Started;
        Ok(made)
    }

    pub fn is_known(&self, storage: &Storage, text: &str) -> bool {
        bcache::found(storage).iter().any(|one| self.lines.contains_key(&one.id) && means(storage, one, text))
    }

    pub fn tell(&self) {
        for line in self.lines.values() {
            let Some(reason) = &line.reason else { continue };
            let text = match line.state {
                State::Refused => format!("{} is not started: {reason}", line.backing),
                State::Started | State::ToStart if line.copy => {
                    format!("{} is {reason}", line.device.as_ref().unwrap_or(&line.backing))
                }
                State::Started | State::ToStart | State::Running | State::Failed => {
                    format!("{}: {reason}", line.backing)
                }
            };
            notice(self.context.name, &Untrusted(&text).to_string());
        }
    }
}

fn means(storage: &Storage, backing: &Backing, text: &str) -> bool {
    device(storage, text).is_some_and(|found| bcache::is_meant(storage, backing, &found.id))
}

pub fn screen<'a>(lines: impl Iterator<Item = &'a CacheLine>) -> String {
    let rows: Vec<Vec<String>> = lines
        .map(|line| {
            let state = line.state.words(line.read_only, line.copy, "not started");
            let device = line.device.as_deref().unwrap_or("-");
            vec![Untrusted(device).to_string(), Untrusted(&line.backing).to_string(), state]
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    let columns = ["Cached", "On", "State"].map(|title| Column { title, right: false, width: 0 });
    table(&columns, &rows, true)
}
