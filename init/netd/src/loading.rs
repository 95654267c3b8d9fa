//! Modules that links need, asked of devd on threads of their own: devd may wait for a layer, and netd waits for nothing.

use contract::wire::{DevdRequest, Reply};
use host::Root;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::sync::mpsc;
use std::time::Duration;

/// A module may stand in a layer that is being mounted.
const DEADLINE: Duration = Duration::from_secs(60);
/// Between tries, also for a devd that is not up yet.
const AGAIN: Duration = Duration::from_secs(1);

pub struct Loading {
    here: BTreeSet<&'static str>,
    /// Being asked for, or not to be asked for again before this time.
    asked: BTreeMap<&'static str, Duration>,
    answers: mpsc::Receiver<(&'static str, Result<(), String>)>,
    to_answer: mpsc::Sender<(&'static str, Result<(), String>)>,
    /// One byte for each answer.
    pub waker: OwnedFd,
    to_wake: OwnedFd,
}

impl Loading {
    pub fn new() -> std::io::Result<Loading> {
        let flags = rustix::pipe::PipeFlags::CLOEXEC | rustix::pipe::PipeFlags::NONBLOCK;
        let (waker, to_wake) = rustix::pipe::pipe_with(flags)?;
        let (to_answer, answers) = mpsc::channel();
        Ok(Loading { here: BTreeSet::new(), asked: BTreeMap::new(), answers, to_answer, waker, to_wake })
    }

    pub fn here(&self) -> &BTreeSet<&'static str> {
        &self.here
    }

    /// When a module that was refused is to be asked for again.
    pub fn due(&self) -> Option<Duration> {
        self.asked.values().filter(|time| **time < Duration::MAX).min().copied()
    }

    pub fn load(&mut self, root: &Root, name: &'static str, now: Duration) {
        if self.here.contains(name) || self.asked.get(name).is_some_and(|time| *time > now) {
            return;
        }
        if host::modules::is_loaded(root, name) {
            self.here.insert(name);
            // What it makes possible is done in the next round, for which nobody else wakes netd.
            let _ = rustix::io::write(&self.to_wake, &[0]); // full: it is awake already
            return;
        }
        self.asked.insert(name, Duration::MAX);
        let (answer, wake) = (self.to_answer.clone(), rustix::io::fcntl_dupfd_cloexec(&self.to_wake, 0));
        std::thread::spawn(move || {
            let request = DevdRequest::Module { name: name.to_string() };
            let said = match host::ask::ask("devd", &request, DEADLINE) {
                Ok(Reply::Done | Reply::Value { .. }) => Ok(()),
                Ok(Reply::Failed { error }) => Err(error),
                Err(error) => Err(format!("ask devd: {error}")),
            };
            // netd holds the other ends for as long as it lives.
            let _ = answer.send((name, said));
            let _ = wake.and_then(|wake| rustix::io::write(&wake, &[0]));
        });
    }

    /// What devd answered meanwhile: modules that could not be loaded, with the reason.
    pub fn heard(&mut self, now: Duration) -> Vec<String> {
        let mut bytes = [0; 64];
        while rustix::io::read(&self.waker, &mut bytes).is_ok_and(|length| length > 0) {}
        let mut refused = Vec::new();
        while let Ok((name, said)) = self.answers.try_recv() {
            self.asked.remove(name);
            match said {
                Ok(()) => drop(self.here.insert(name)),
                Err(reason) => {
                    self.asked.insert(name, now + AGAIN);
                    refused.push(format!("load the module {name}: {reason}"));
                }
            }
        }
        refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_that_is_there_already_wakes_whoever_waits_for_it() {
        let directory = std::env::temp_dir().join(format!("netd-loading-{}", std::process::id()));
        let module = directory.join("sys/module/bridge");
        std::fs::create_dir_all(&module).unwrap();
        std::fs::write(module.join("initstate"), "live\n").unwrap();
        let mut loading = Loading::new().unwrap();
        loading.load(&Root::at(&directory).unwrap(), "bridge", Duration::ZERO);
        std::fs::remove_dir_all(&directory).unwrap();
        assert!(loading.here().contains("bridge"));
        assert_eq!(rustix::io::read(&loading.waker, &mut [0; 1]), Ok(1));
    }
}
