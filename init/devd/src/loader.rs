//! Loads modules on a few threads: a module's init may take long, or never end where a controller
//! hangs, and that must not keep the network's modules, or another disk, from coming up.

use host::Root;
use host::modules::Index;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, PipeWriter, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Loads at once. More hardly help: most of the time is the kernel's own locks.
const THREADS: usize = 4;
/// After this time another thread takes the place of one that is still in a module's init.
pub const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub struct Loader(Arc<Shared>);

struct Shared {
    root: Root,
    state: Mutex<State>,
    work: Condvar,
    /// Told whenever something ended.
    wake: Mutex<PipeWriter>,
}

#[derive(Default)]
struct State {
    index: Arc<Index>,
    queue: VecDeque<String>,
    /// Aliases and names that were handled with this index; devices share them.
    seen: BTreeSet<String>,
    running: BTreeMap<String, Instant>,
    threads: usize,
    idle: usize,
    /// Modules that this process loaded.
    pub loaded: BTreeSet<String>,
    /// By name or alias.
    failed: BTreeMap<String, String>,
}

impl Loader {
    pub fn new(root: Root, wake: PipeWriter) -> Loader {
        let index = Arc::new(Index::read(&root));
        let state = State { index, ..State::default() };
        Loader(Arc::new(Shared {
            root,
            state: Mutex::new(state),
            work: Condvar::new(),
            wake: Mutex::new(wake),
        }))
    }

    /// A thread that panicked leaves counts behind, nothing half changed.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Reads the indices again: the layers brought more modules.
    pub fn reread(&self) {
        let index = Arc::new(Index::read(&self.0.root));
        let mut state = self.state();
        state.index = index;
        state.seen.clear();
        state.failed.clear();
    }

    /// Queues a name or alias, unless it was handled already; urgent ones go first.
    pub fn want(&self, wanted: &str, urgent: bool) {
        let mut state = self.state();
        if !state.seen.insert(wanted.to_string()) {
            return;
        }
        match urgent {
            true => state.queue.push_front(wanted.to_string()),
            false => state.queue.push_back(wanted.to_string()),
        }
        let stuck = state.running.values().filter(|since| since.elapsed() > PATIENCE).count();
        if state.idle == 0 && state.threads - stuck.min(state.threads) < THREADS {
            state.threads += 1;
            let own = self.clone();
            std::thread::spawn(move || own.work());
        }
        drop(state);
        self.0.work.notify_one();
    }

    /// Lets a name be tried again, as a person asked for it.
    pub fn want_again(&self, wanted: &str) {
        self.state().seen.remove(wanted);
        self.want(wanted, true);
    }

    /// Nothing is queued, and nothing runs that may still be quick.
    pub fn is_quiet(&self) -> bool {
        let state = self.state();
        state.queue.is_empty() && state.running.values().all(|since| since.elapsed() > PATIENCE)
    }

    /// Whether a name was handled, and how.
    pub fn outcome(&self, wanted: &str) -> Option<Result<(), String>> {
        let state = self.state();
        if state.queue.iter().any(|queued| queued == wanted) || state.running.contains_key(wanted) {
            return None;
        }
        state.seen.contains(wanted).then(|| state.failed.get(wanted).cloned().map_or(Ok(()), Err))
    }

    /// What went wrong or takes long, one line each.
    pub fn problems(&self) -> Vec<String> {
        let state = self.state();
        let slow = state.running.iter().filter(|(_, since)| since.elapsed() > PATIENCE);
        let slow = slow.map(|(name, since)| {
            format!(
                "module for {name} has been starting for {} s: its device may hang",
                since.elapsed().as_secs()
            )
        });
        let missing = state
            .loaded
            .iter()
            .flat_map(|module| state.index.firmware(module).iter().map(move |file| (module, file)));
        let missing = missing
            .filter(|(_, file)| {
                !file.contains('*')
                    && !["", ".xz", ".zst"]
                        .iter()
                        .any(|end| self.0.root.exists(format!("/usr/lib/firmware/{file}{end}")))
            })
            .map(|(module, file)| {
                format!("{module}: its firmware {file} is not in the image; some devices need it")
            });
        state.failed.values().cloned().chain(slow).chain(missing).collect()
    }

    fn work(&self) {
        let mut state = self.state();
        loop {
            let Some(wanted) = state.queue.pop_front() else {
                state.idle += 1;
                state = self.0.work.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
                state.idle -= 1;
                continue;
            };
            let index = state.index.clone();
            state.running.insert(wanted.clone(), Instant::now());
            drop(state);
            let results: Vec<(String, io::Result<()>)> = index
                .resolve(&wanted)
                .into_iter()
                .map(|module| (module.clone(), index.load(&self.0.root, &module)))
                .collect();
            state = self.state();
            state.running.remove(&wanted);
            for (module, result) in results {
                match result {
                    Ok(()) => drop(state.loaded.insert(module)),
                    // Many modules share an alias, and all but one find no device of theirs.
                    Err(error)
                        if error.kind() == io::ErrorKind::NotFound
                            || error.to_string().contains("No such device") => {}
                    Err(error) => drop(state.failed.insert(wanted.clone(), error.to_string())),
                }
            }
            if state.queue.is_empty() {
                // A full pipe has woken it already.
                let _ = self.0.wake.lock().map(|mut wake| wake.write_all(b"l"));
            }
        }
    }
}
