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
    /// All layers are there: what is not in the image now will not be.
    whole: bool,
    queue: VecDeque<String>,
    /// Asked for by name: not held back for its firmware.
    at_once: BTreeSet<String>,
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

    /// Reads the indices again: the layers brought more modules, and all of them when `whole`.
    pub fn reread(&self, whole: bool) {
        let index = Arc::new(Index::read(&self.0.root));
        let mut state = self.state();
        state.index = index;
        state.whole = whole;
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
        let mut state = self.state();
        state.seen.remove(wanted);
        state.at_once.insert(wanted.to_string());
        drop(state);
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
        let missing = state.loaded.iter().filter(|_| state.whole).filter_map(|module| {
            let files = missing(&self.0.root, state.index.firmware(module));
            let (first, more) = files.split_first()?;
            let more = match more.len() {
                0 => String::new(),
                count => format!(" (and {count} more)"),
            };
            Some(format!("{module}: its firmware {first}{more} is not in the image; some devices need it"))
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
            let may_wait = !state.whole && !state.at_once.remove(&wanted);
            state.running.insert(wanted.clone(), Instant::now());
            drop(state);
            let results: Vec<(String, io::Result<()>)> = index
                .resolve(&wanted)
                .into_iter()
                // Its firmware may be in a layer: after that it is asked for again.
                .filter(|module| !(may_wait && lacks_firmware(&self.0.root, &index, module)))
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

/// Whether the module, or one that it needs, asks for a file that is not there.
fn lacks_firmware(root: &Root, index: &Index, module: &str) -> bool {
    let needed = index.needs(module).iter().map(String::as_str);
    [module].into_iter().chain(needed).any(|name| !missing(root, index.firmware(name)).is_empty())
}

/// Files that the kernel would not find (drivers/base/firmware_loader: plain, .zst, .xz).
fn missing<'a>(root: &Root, files: &'a [String]) -> Vec<&'a String> {
    let is_there = |file: &str| {
        ["updates/", ""].iter().any(|below| {
            ["", ".zst", ".xz"].iter().any(|end| root.exists(format!("/usr/lib/firmware/{below}{file}{end}")))
        })
    };
    // Patterns stand for one of many; which one, only the device knows.
    files.iter().filter(|file| !file.contains('*') && !is_there(file)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A machine whose modules name firmware; nothing of it can be loaded here.
    fn machine() -> (tempfile::TempDir, Loader) {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let modules = root.join("usr/lib/modules/6.12");
        for path in [root.join("proc/sys/kernel"), modules.clone(), root.join("usr/lib/firmware/net")] {
            fs::create_dir_all(path).unwrap();
        }
        fs::write(root.join("proc/sys/kernel/osrelease"), "6.12\n").unwrap();
        fs::write(
            modules.join("modules.dep"),
            "kernel/net.ko: kernel/core.ko\nkernel/core.ko:\nkernel/plain.ko:\n",
        )
        .unwrap();
        fs::write(modules.join("modules.alias"), "alias pci:1 net\nalias pci:2 plain\n").unwrap();
        fs::write(modules.join("modules.firmware"), "core: net/a.bin net/b.bin net/c-*.bin\n").unwrap();
        let (_, wake) = std::io::pipe().unwrap();
        let loader = Loader::new(Root::at(root).unwrap(), wake);
        (directory, loader)
    }

    #[test]
    fn a_module_waits_for_firmware_that_a_layer_may_bring() {
        let (directory, loader) = machine();
        let index = Index::read(&loader.0.root);
        assert!(lacks_firmware(&loader.0.root, &index, "net"), "what it needs asks for files");
        assert!(!lacks_firmware(&loader.0.root, &index, "plain"));
        let firmware = directory.path().join("usr/lib/firmware/net");
        fs::write(firmware.join("a.bin.xz"), "").unwrap();
        assert!(lacks_firmware(&loader.0.root, &index, "net"), "one of two");
        fs::write(firmware.join("b.bin"), "").unwrap();
        assert!(!lacks_firmware(&loader.0.root, &index, "net"));
    }

    #[test]
    fn missing_firmware_is_named_in_one_line_once_the_image_is_whole() {
        let (directory, loader) = machine();
        loader.state().loaded.extend(["core".to_string(), "plain".to_string()]);
        assert_eq!(loader.problems(), [""; 0], "a layer may bring it yet");
        loader.reread(true);
        let said = loader.problems();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(
            said[0].starts_with("core: its firmware net/a.bin (and 1 more) is not in the image"),
            "{said:?}"
        );
        for file in ["a.bin", "b.bin.zst"] {
            fs::write(directory.path().join("usr/lib/firmware/net").join(file), "").unwrap();
        }
        assert_eq!(loader.problems(), [""; 0]);
    }
}
