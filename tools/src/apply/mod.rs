//! The one door through which the machine is changed. A verb makes a plan (`model`), prints it for
//! `--dry-run`, or opens the door and makes its steps one by one. Each step stands in the ledger
//! before it is made and is marked after; its precondition is looked at again.
//!
//! One file per kind of step; each is a function of `&host::Act`, which only this module begins.

mod bcache;
pub mod call;
mod common;
mod dm;
pub mod guard;
mod loopdev;
mod md;
mod module;
pub mod mount;
mod overlay;
mod run;
pub mod undo;

use crate::report::{notice, without_errno};
use crate::tool::Context;
use anyhow::Context as _;
use contract::ledger::{Mark, Record};
use host::{Act, Root};
use model::plan::{DmTarget, Input, MADE, Step};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;

/// What a step brought about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Made {
    Done,
    /// A device that was not known before: the loop device.
    Device(String),
    /// How a foreign program ended: its exit status, or 128 and the signal's number.
    Status(i32),
    /// What a called program said, in its last lines.
    Said(Vec<String>),
}

pub struct Door {
    /// The name of the tool, for notices.
    name: &'static str,
    /// The command as typed.
    verb: String,
    root: Root,
    act: Option<Act>,
    next: u64,
    made: Option<String>,
    /// Loop devices, which go when nobody has them open: until what stands on them is mounted.
    held: Vec<(String, File)>,
    /// Devices, by kernel name, that were saved, or could not be.
    saved: BTreeSet<String>,
    /// What is to be said of that: once something is written.
    untold: Vec<String>,
    /// What programs that are called for it read: in no step, and so in no ledger.
    secret: Vec<u8>,
}

impl Drop for Door {
    fn drop(&mut self) {
        self.secret.fill(0);
        std::hint::black_box(&self.secret);
    }
}

impl Door {
    /// Takes the lock of changing verbs.
    ///
    /// Errors: another one holds it, and which.
    pub fn open(context: &Context, verb: &str) -> anyhow::Result<Door> {
        let root = context.root.clone();
        anyhow::ensure!(root.is_live(), "a captured machine cannot be changed: leave --sysroot out");
        let act = Act::begin(&root, verb).map_err(|error| match error.kind() {
            std::io::ErrorKind::WouldBlock => anyhow::anyhow!("{error}"),
            _ => anyhow::Error::new(error).context("take the lock of changing commands"),
        })?;
        let next = host::ledger::next(&host::ledger::read(&root));
        Ok(Door {
            name: context.name,
            verb: verb.to_string(),
            root,
            act: Some(act),
            next,
            made: None,
            held: Vec::new(),
            saved: BTreeSet::new(),
            untold: Vec::new(),
            secret: Vec::new(),
        })
    }

    /// What the steps read that ask for a secret: a passphrase, a URL.
    pub fn with_secret(mut self, secret: Vec<u8>) -> Door {
        self.secret = secret;
        self
    }

    /// Makes the steps in order; when one fails, takes back those before it, and says why.
    pub fn make_all(&mut self, steps: &[Step]) -> anyhow::Result<Vec<Made>> {
        self.save(steps)?;
        let mut made: Vec<(Step, Made)> = Vec::new();
        for step in steps {
            match self.make(step) {
                Ok(done) => made.push((step.clone(), done)),
                Err(error) => {
                    self.take_back(&made);
                    return Err(error);
                }
            }
        }
        Ok(made.into_iter().map(|(_, done)| done).collect())
    }

    /// Undoes steps that were made, the last first. What cannot be taken back is named, and the
    /// others are taken back all the same.
    pub fn take_back(&mut self, made: &[(Step, Made)]) {
        for (step, done) in made.iter().rev() {
            let Some(inverse) = inverse(step, done) else { continue };
            if let Err(error) = self.make(&inverse) {
                notice(self.name, &format!("take back {}: {error:#}", step.text()));
            }
        }
    }

    /// Makes one step.
    pub fn make(&mut self, step: &Step) -> anyhow::Result<Made> {
        let step = self.with_made(step);
        self.save(std::slice::from_ref(&step))?;
        // Of a drive that cannot be written nothing was worth telling; all else may write from here on.
        let opens = matches!(step, Step::SetWritable { .. });
        if !opens && model::undo::writes(&step) {
            self.tell();
        }
        let act = self.act()?;
        let mut record = Record {
            id: self.next,
            at: host::proc::uptime(&self.root),
            verb: self.verb.clone(),
            text: step.text(),
            step: serde_json::to_value(&step).context("write a step as JSON")?,
            inverse: step.inverse().and_then(|inverse| serde_json::to_value(inverse).ok()),
            mark: Mark::Begun,
            error: None,
        };
        host::ledger::append(&act, &record).with_context(|| format!("write down: {}", record.text))?;
        self.next += 1;
        // What may take hours or for ever is done without the lock.
        let (outcome, act) = match &step {
            Step::Run { argv, input } => {
                act.release();
                let input = match input {
                    Input::Nothing => None,
                    Input::Secret => Some(&self.secret[..]),
                };
                (run::run(argv, input), None)
            }
            Step::Call { argv, input } => {
                act.release();
                let input = match input {
                    Input::Nothing => &[][..],
                    Input::Secret => &self.secret,
                };
                (call::call(argv, input), None)
            }
            Step::Mount { source, target, fstype, flags, data } => {
                act.release();
                (mount::mount(&self.root, source, target, fstype, flags, data), None)
            }
            Step::Umount { target, lazy, force } => {
                act.release();
                (mount::umount(target, *lazy, *force), None)
            }
            Step::SetWritable { path, disk, consent } => {
                (guard::open(&act, &self.root, path, disk.as_deref(), consent), Some(act))
            }
            Step::SetGuarded { path, disk, consent } => {
                (guard::close(&act, &self.root, path, disk.as_deref(), consent), Some(act))
            }
            // Before this one too, what it names was saved.
            Step::Save { .. } => (Ok(Made::Done), Some(act)),
            Step::Module { name } => (module::load(&act, name), Some(act)),
            Step::MdStart(start) => (md::start(&act, &self.root, start), Some(act)),
            Step::MdStop { device } => (md::stop(&act, &self.root, device), Some(act)),
            Step::MdSetReadOnly { device, read_only } => {
                (md::set_read_only(&act, &self.root, device, *read_only), Some(act))
            }
            Step::Loop { file, read_only, offset, size } => {
                let attached = loopdev::attach(&act, file, *read_only, *offset, *size);
                let outcome = attached.map(|(made, opened)| {
                    if let Made::Device(device) = &made {
                        self.held.push((device.clone(), opened));
                    }
                    made
                });
                (outcome, Some(act))
            }
            Step::MdFreeze { device } => (md::freeze(&act, &self.root, device), Some(act)),
            Step::DmCreate { name, uuid, table, read_only, on } => {
                (dm::create(&act, &self.root, name, uuid, table, *read_only, on), Some(act))
            }
            Step::DmRemove { name } => (dm::remove(&act, name), Some(act)),
            Step::DmFreeze { name } => (dm::freeze(&act, name), Some(act)),
            Step::DmReadOnly { device } => (guard::map_read_only(&act, &self.root, device), Some(act)),
            Step::BcacheRegister { device } => (bcache::register(&act, &self.root, device), Some(act)),
            Step::BcacheHold { device } => (bcache::hold(&act, &self.root, device), Some(act)),
            Step::BcacheStop { device } => (bcache::stop(&act, &self.root, device), Some(act)),
            Step::SparseFile { path, size } => (overlay::sparse_file(&act, path, *size), Some(act)),
            Step::RemoveFile { path } => (overlay::remove_file(&act, path), Some(act)),
            Step::BtrfsForget { device } => (overlay::forget(&act, device), Some(act)),
            Step::BtrfsScan { device } => (overlay::scan(&act, device), Some(act)),
            Step::LoopRemove { device } => {
                // Else it would go with this process, and its file be busy until then.
                self.held.retain(|(held, _)| held != device);
                (loopdev::detach(&act, device), Some(act))
            }
            Step::PutBack { path, from, window, sha256, on } => {
                (undo::put_back(&act, &self.root, path, (from, *window, sha256), on), Some(act))
            }
            Step::MakeDirectory { path } => (mount::make_directory(path), Some(act)),
        };
        self.act = act;
        if opens && outcome.is_ok() {
            self.tell();
        }
        match &outcome {
            Ok(made) => {
                record.mark = Mark::Done;
                if let Made::Device(device) = made {
                    self.made = Some(device.clone());
                    let inverse = inverse(&step, made).and_then(|step| serde_json::to_value(step).ok());
                    record.inverse = inverse;
                }
            }
            Err(error) => {
                record.mark = Mark::Failed;
                record.error = Some(without_errno(&format!("{error:#}")));
            }
        }
        // It is made, or failed for its own reason: a mark that cannot be written changes neither.
        let marked = self.act().and_then(|act| {
            let marked = host::ledger::append(&act, &record).context("mark a step in the ledger");
            self.act = Some(act);
            marked
        });
        if let Err(error) = marked {
            notice(self.name, &format!("{error:#}"));
        }
        outcome
    }

    /// Before a step writes, what it writes to is saved: here, so that no verb can forget it.
    pub fn save(&mut self, steps: &[Step]) -> anyhow::Result<()> {
        let act = self.act()?;
        let outcome = undo::save(&act, &self.root, &self.verb, steps, &mut self.saved);
        self.act = Some(act);
        self.untold.extend(outcome?);
        Ok(())
    }

    /// Says where what was saved is.
    pub fn tell(&mut self) {
        self.untold.drain(..).for_each(|line| notice(self.name, &line));
    }

    /// The lock, taken again where a long step gave it up.
    fn act(&mut self) -> anyhow::Result<Act> {
        match self.act.take() {
            Some(act) => Ok(act),
            None => Act::begin(&self.root, &self.verb).map_err(|error| anyhow::anyhow!("{error}")),
        }
    }

    fn with_made(&self, step: &Step) -> Step {
        match (step, &self.made) {
            (Step::Mount { source, target, fstype, flags, data }, Some(made)) if source == MADE => {
                Step::Mount {
                    source: made.clone(),
                    target: target.clone(),
                    fstype: fstype.clone(),
                    flags: flags.clone(),
                    data: data.clone(),
                }
            }
            (Step::DmCreate { name, uuid, table, read_only, on }, Some(made)) => {
                let put = |target: &DmTarget| {
                    let text = target.text.replace(MADE, made);
                    DmTarget { text, ..target.clone() }
                };
                Step::DmCreate {
                    name: name.clone(),
                    uuid: uuid.clone(),
                    table: table.iter().map(put).collect(),
                    read_only: *read_only,
                    on: on.clone(),
                }
            }
            (Step::Run { argv, input }, Some(made)) => {
                let put = |part: &String| if part == MADE { made.clone() } else { part.clone() };
                Step::Run { argv: argv.iter().map(put).collect(), input: *input }
            }
            _ => step.clone(),
        }
    }
}

/// With the device that a loop step made.
fn inverse(step: &Step, made: &Made) -> Option<Step> {
    match (step, made) {
        (Step::Loop { .. }, Made::Device(device)) => Some(Step::LoopRemove { device: device.clone() }),
        _ => step.inverse(),
    }
}

/// The command as a person typed it, for ledger, consent and lock.
pub fn typed(name: &str, arguments: &[OsString]) -> String {
    let tool = contract::tools::TOOLS.iter().find(|tool| tool.name == name);
    let verb =
        if tool.is_some_and(|tool| !tool.classic) { format!("rescue {name}") } else { name.to_string() };
    let words = arguments.iter().map(|word| model::plan::word(&word.to_string_lossy()));
    std::iter::once(verb).chain(words).collect::<Vec<_>>().join(" ")
}

/// What a dry run prints.
pub fn shown(steps: &[Step]) -> String {
    steps.iter().map(|step| step.text() + "\n").collect()
}
