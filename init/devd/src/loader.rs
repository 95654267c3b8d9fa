//! Loads modules on a few threads: a module's init may take long, or never end where a controller
//! hangs, and that must not keep the network's modules, or another disk, from coming up.
//!
//! PID 1 told the kernel to probe asynchronously, so that whoever loads a module does not wait for
//! the devices of others. A device's own driver is loaded here the old way all the same: network
//! cards get their names in the order of their slots, and the kernel returns only when every probe
//! that runs has ended (`do_init_module` calls `async_synchronize_full`), which tells when the
//! devices of power-on are all there. Where one disk never answers, that wait never ends: a module
//! that is live by then has done its work, and another thread takes over.
//!
//! On the buses of [`host::devices::BOUND_HERE`] the kernel itself binds nothing: each device is bound
//! on a thread of its own. The kernel would look at a driver's devices one after another (virtio), so
//! that one which hangs hides the rest, or asynchronously (SCSI), and then libata, which waits for
//! all that began before (`async_port_probe`), shows no SATA disk for as long as a SCSI disk hangs.

use host::Root;
use host::modules::{Index, Probes};
use host::sysfs;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, PipeWriter, Write};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Loads at once. More hardly help: most of the time is the kernel's own locks.
const THREADS: usize = 4;
/// After this time another thread takes the place of one that is still in a module's init, and
/// nobody waits for it any more.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// The kernel tells of a device some microseconds before it lets it be bound ("not ready to probe", EINVAL; dd.c of the
/// later 6.12), and then never looks at it again. A driver that refuses it says the same.
const RETRIES: &[Duration] = &[
    Duration::from_millis(2),
    Duration::from_millis(10),
    Duration::from_millis(50),
    Duration::from_millis(250),
    Duration::from_secs(1),
];
/// How long the next device of a bus waits for the one before it: drives are named in the order in which they are found,
/// as the kernel does it by itself, and one that hangs keeps the others only for so long.
const TURN: Duration = Duration::from_secs(1);
/// Bytes; there may be a thousand of them.
const BINDER_STACK: usize = 64 << 10;

#[derive(Clone)]
pub struct Loader(Arc<Shared>);

struct Shared {
    root: Root,
    state: Mutex<State>,
    work: Condvar,
    /// Told whenever something ended.
    wake: Mutex<PipeWriter>,
    /// Bytes of a thread that binds a device.
    binder_stack: usize,
}

#[derive(Default)]
struct State {
    index: Arc<Index>,
    /// All layers are there: what is not in the image now will not be.
    whole: bool,
    queue: VecDeque<String>,
    /// Devices that wait for a module, and those that are being bound.
    binds: BTreeMap<Device, Bind>,
    /// A device was left without its driver, since no thread could be started for it.
    left: bool,
    /// By bus: tells, by its end, that the last device of it was looked at.
    turns: BTreeMap<String, Receiver<()>>,
    /// Asked for by name: not held back for its firmware.
    at_once: BTreeSet<String>,
    /// Aliases and names that were handled with this index, and since when; devices share them.
    seen: BTreeMap<String, Instant>,
    running: BTreeMap<String, Running>,
    threads: usize,
    idle: usize,
    /// No more threads can be started, which was said.
    alone: bool,
    /// Modules that were there after they were asked for here.
    loaded: BTreeSet<String>,
    /// By name or alias.
    failed: BTreeMap<String, String>,
}

/// A device on one of the buses whose devices are bound here.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Device {
    pub bus: String,
    pub name: String,
}

struct Bind {
    alias: String,
    /// Since when its driver looks at it; not as long as the modules for the alias are to be loaded.
    since: Option<Instant>,
    /// Asked for once more meanwhile: the kernel shows a device in sysfs before it can be bound.
    again: bool,
}

impl Bind {
    fn is_late(&self) -> bool {
        self.since.is_some_and(|since| since.elapsed() > PATIENCE)
    }
}

/// What one thread is about.
struct Running {
    since: Instant,
    /// Resolved; the last one waits for the probes.
    module: Option<String>,
}

impl Running {
    fn is_late(&self) -> bool {
        self.since.elapsed() > PATIENCE
    }

    /// Loaded, and now waiting for whatever else is being probed.
    fn is_live(&self, root: &Root) -> bool {
        self.module.as_ref().is_some_and(|module| host::modules::is_loaded(root, module))
    }
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
            binder_stack: BINDER_STACK,
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
        if state.seen.contains_key(wanted) {
            return;
        }
        state.seen.insert(wanted.to_string(), Instant::now());
        match urgent {
            true => state.queue.push_front(wanted.to_string()),
            false => state.queue.push_back(wanted.to_string()),
        }
        if state.idle == 0 && state.threads < THREADS {
            self.hire(&mut state);
        }
        drop(state);
        self.0.work.notify_one();
    }

    /// A device came at `now`: its alias is to be handled again where a module of it was removed since, or could not be
    /// loaded. That is not tried again at once: an init that fails may have shown a device of the same alias on its way.
    pub fn came(&self, alias: &str, now: Instant) {
        let mut state = self.state();
        let under_way = state.running.contains_key(alias) || state.queue.iter().any(|queued| queued == alias);
        let Some(seen) = state.seen.get(alias).filter(|_| !under_way).copied() else { return };
        let mut absent = state.index.resolve(alias);
        absent.retain(|module| {
            !host::modules::is_loaded(&self.0.root, module) && !state.index.is_builtin(module)
        });
        let was_removed = absent.iter().any(|module| state.loaded.contains(module));
        let failed = !absent.is_empty() || state.failed.contains_key(alias);
        if was_removed || (failed && now.saturating_duration_since(seen) > PATIENCE) {
            state.seen.remove(alias);
            state.loaded.retain(|module| !absent.contains(module));
        }
    }

    /// Binds a device to its driver once the modules for its alias were loaded.
    pub fn bind(&self, device: Device, alias: &str, urgent: bool) {
        let mut state = self.state();
        if let Some(bind) = state.binds.get_mut(&device) {
            bind.again = bind.since.is_some();
            return;
        }
        state.binds.insert(device.clone(), Bind { alias: alias.to_string(), since: None, again: false });
        drop(state);
        self.want(alias, urgent);
        if self.outcome(alias).is_some() {
            self.bind_all(alias);
        }
    }

    /// Binds the devices that waited for an alias, one after the other and each on a thread of its own: a disk that
    /// hangs holds its driver for as long as it likes.
    fn bind_all(&self, alias: &str) {
        let mut state = self.state();
        let waiting = state.binds.iter_mut().filter(|(_, bind)| bind.alias == alias && bind.since.is_none());
        let mut ready: Vec<Device> = waiting
            .map(|(device, bind)| {
                bind.since = Some(Instant::now());
                device.clone()
            })
            .collect();
        ready.sort_by_cached_key(|device| (device.bus.clone(), sysfs::natural(&device.name)));
        let turn = |device: &Device| {
            let (looked_at, next) = mpsc::channel::<()>();
            (looked_at, state.turns.insert(device.bus.clone(), next))
        };
        let turns: Vec<_> = ready.iter().map(turn).collect();
        drop(state);
        for (device, (looked_at, before)) in ready.into_iter().zip(turns) {
            let (own, left) = (self.clone(), device.clone());
            let work = move || {
                // Nothing is ever sent: it ends, or the time does.
                let _ = before.map(|before| before.recv_timeout(TURN));
                let mut looked_at = Some(looked_at);
                let path = format!("/sys/bus/{}/drivers_probe", device.bus);
                loop {
                    for pause in RETRIES {
                        // What the driver made of it, the device's own files say.
                        match own.0.root.write(&path, &device.name) {
                            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                                std::thread::sleep(*pause);
                            }
                            _ => break,
                        }
                    }
                    drop(looked_at.take());
                    let mut state = own.state();
                    match state.binds.get_mut(&device).filter(|bind| bind.again) {
                        Some(bind) => (bind.since, bind.again) = (Some(Instant::now()), false),
                        None => {
                            state.binds.remove(&device);
                            break;
                        }
                    }
                }
                own.wake();
            };
            if let Err(error) = std::thread::Builder::new().stack_size(self.0.binder_stack).spawn(work) {
                host::log!("start a thread that binds the {} device {}: {error}", left.bus, left.name);
                let mut state = self.state();
                state.binds.remove(&left);
                state.left = true;
                drop(state);
                self.wake();
            }
        }
    }

    /// Whether devices were left since it was asked last: they are to be looked for and bound anew.
    pub fn take_left(&self) -> bool {
        std::mem::take(&mut self.state().left)
    }

    fn wake(&self) {
        // A full pipe has woken it already.
        let _ = self.0.wake.lock().map(|mut wake| wake.write_all(b"l"));
    }

    fn hire(&self, state: &mut State) {
        let own = self.clone();
        match std::thread::Builder::new().spawn(move || own.work()) {
            Ok(_) => (state.threads, state.alone) = (state.threads + 1, false),
            // Those that there are do the work, or `relieve` finds another.
            Err(error) if !state.alone => {
                host::log!("start a thread that loads modules: {error}");
                state.alone = true;
            }
            Err(_) => {}
        }
    }

    /// Brings in threads for those that only wait. Called on every turn, as waiting is no event.
    pub fn relieve(&self) {
        let mut state = self.state();
        if state.queue.is_empty() || state.idle > 0 {
            return;
        }
        let held = state.running.values().filter(|one| one.is_late() || one.is_live(&self.0.root)).count();
        if state.threads.saturating_sub(held) < THREADS {
            self.hire(&mut state);
        }
    }

    /// Lets a name be tried again, as a person asked for it.
    pub fn want_again(&self, wanted: &str) {
        let mut state = self.state();
        state.seen.remove(wanted);
        state.at_once.insert(wanted.to_string());
        drop(state);
        self.want(wanted, true);
    }

    /// Nothing is queued, and nothing runs that may still be quick. One probe that does not end holds
    /// every module that is live, and then none of them says anything.
    pub fn is_quiet(&self) -> bool {
        let state = self.state();
        let live = |one: &Running| one.is_live(&self.0.root);
        let endless = || state.running.values().any(|one| one.is_late() && live(one));
        state.queue.is_empty()
            && state.binds.values().all(|bind| bind.since.is_none() || bind.is_late())
            && state.running.values().all(|one| one.is_late() || (endless() && live(one)))
    }

    /// Whether a name was handled, and how.
    pub fn outcome(&self, wanted: &str) -> Option<Result<(), String>> {
        let state = self.state();
        let pending = state.running.get(wanted).is_some_and(|one| !one.is_live(&self.0.root));
        if pending || state.queue.iter().any(|queued| queued == wanted) {
            return None;
        }
        state.seen.contains_key(wanted).then(|| state.failed.get(wanted).cloned().map_or(Ok(()), Err))
    }

    /// What went wrong or takes long, one line each.
    pub fn problems(&self) -> Vec<String> {
        let state = self.state();
        let late = || state.running.iter().filter(|(_, one)| one.is_late());
        let slow = late().filter(|(_, one)| !one.is_live(&self.0.root)).map(|(name, one)| {
            let module = one.module.as_deref().unwrap_or("a module");
            let most = PATIENCE.as_secs();
            format!("{module} for {name} has not started within {most} s: its device may hang")
        });
        let unbound = state.binds.iter().filter(|(_, bind)| bind.is_late());
        let unbound = unbound.map(|(device, _)| {
            let disk = block_of(&self.0.root, device).map(|name| format!("/dev/{name}, "));
            let Device { bus, name } = device;
            format!(
                "{}the {bus} device {name}, has not answered its driver within {} s: it may hang, and is left alone",
                disk.unwrap_or_default(),
                PATIENCE.as_secs()
            )
        });
        let endless = late().any(|(_, one)| one.is_live(&self.0.root)).then(|| {
            let most = PATIENCE.as_secs();
            format!("the kernel has waited over {most} s for a device that its driver looks at; `dmesg` may name it")
        });
        state.failed.values().cloned().chain(slow).chain(unbound).chain(endless).collect()
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
            let by_name = state.at_once.remove(&wanted);
            let may_wait = !state.whole && !by_name;
            // A module is live before its thread is back here: what failed before is no answer any more.
            state.failed.remove(&wanted);
            state.running.insert(wanted.clone(), Running { since: Instant::now(), module: None });
            drop(state);
            let mut modules = index.resolve(&wanted);
            // Its firmware may be in a layer: after that it is asked for again.
            modules.retain(|module| !(may_wait && lacks_firmware(&self.0.root, &index, module)));
            let last = modules.last().cloned();
            if let Some(one) = self.state().running.get_mut(&wanted) {
                one.module.clone_from(&last);
            }
            let results: Vec<(String, io::Result<()>)> = modules
                .into_iter()
                .map(|module| {
                    let probes = match !by_name && Some(&module) == last.as_ref() {
                        true => Probes::Awaited,
                        false => Probes::Left,
                    };
                    let result = index.load(&self.0.root, &module, probes);
                    (module, result)
                })
                .collect();
            state = self.state();
            state.running.remove(&wanted);
            if let Some(seen) = state.seen.get_mut(&wanted) {
                *seen = Instant::now();
            }
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
            let waited_for = state.binds.values().any(|bind| bind.alias == wanted && bind.since.is_none());
            if waited_for {
                drop(state);
                self.bind_all(&wanted);
                state = self.state();
            }
            if state.queue.is_empty() {
                self.wake();
            }
        }
    }
}

/// The disk of a device whose driver has come so far as to make one.
fn block_of(root: &Root, device: &Device) -> Option<String> {
    let blocks = root.list(format!("/sys/bus/{}/devices/{}/block", device.bus, device.name)).ok()?;
    Some(blocks.first()?.to_string_lossy().replace('!', "/"))
}

/// Drivers whose cards hold firmware of their own, and which the network is not to wait for: Chelsio's. That of the card is
/// also what is not to be touched: with a newer file at hand its driver writes it to the card's flash (t4_prep_fw).
const WORKS_WITHOUT: &[&str] = &["cxgb4"];

/// Whether the module, or one that it needs, asks for a file that is not there.
fn lacks_firmware(root: &Root, index: &Index, module: &str) -> bool {
    let lacks =
        |name: &str| !WORKS_WITHOUT.contains(&name) && !missing(root, index.firmware(name)).is_empty();
    lacks(module) || index.needs(module).iter().any(|needed| lacks(needed))
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
        let index = |entries: &[(&str, &str)]| {
            let entry = |(key, value): &(&str, &str)| (key.to_string(), vec![value.to_string()]);
            contract::kmod::index(&entries.iter().map(entry).collect())
        };
        let files = [
            ("net", "kernel/net.ko: kernel/core.ko"),
            ("core", "kernel/core.ko:"),
            ("plain", "kernel/plain.ko:"),
        ];
        fs::write(modules.join("modules.dep.bin"), index(&files)).unwrap();
        fs::write(modules.join("modules.alias.bin"), index(&[("pci:1", "net"), ("pci:2", "plain")])).unwrap();
        fs::write(modules.join("modules.firmware"), "core: net/a.bin net/b.bin net/c-*.bin\n").unwrap();
        let (_, wake) = std::io::pipe().unwrap();
        let loader = Loader::new(Root::at(root).unwrap(), wake);
        (directory, loader)
    }

    #[test]
    fn a_device_that_is_asked_for_while_it_is_bound_is_bound_once_more() {
        let (directory, loader) = machine();
        let path = directory.path().join("sys/bus/scsi/drivers_probe");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // Writing waits for who reads.
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, mode).unwrap();
        let device = Device { bus: "scsi".to_string(), name: "0:0:1:0".to_string() };
        loader.bind(device.clone(), "scsi:t-0x00", false);
        while loader.state().binds[&device].since.is_none() {
            std::thread::yield_now();
        }
        loader.bind(device, "scsi:t-0x00", false);
        let (mut read, mut times) = (fs::File::open(&path).unwrap(), String::new());
        while times != "0:0:1:00:0:1:0" {
            // None: between the two.
            if io::Read::read_to_string(&mut read, &mut times).unwrap() == 0 {
                std::thread::yield_now();
            }
        }
    }

    #[test]
    fn a_device_that_no_thread_could_be_started_for_is_bound_when_it_is_wanted_again() {
        let (directory, mut loader) = machine();
        let path = directory.path().join("sys/bus/virtio/drivers_probe");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "").unwrap();
        loader.state().seen.insert("virtio:d2".to_string(), Instant::now());
        let device = Device { bus: "virtio".to_string(), name: "virtio1".to_string() };
        // More than there are addresses.
        Arc::get_mut(&mut loader.0).unwrap().binder_stack = 1 << 50;
        assert!(!loader.take_left());
        loader.bind(device.clone(), "virtio:d2", false);
        assert!(loader.is_quiet(), "it keeps nobody waiting");
        assert!(loader.take_left() && !loader.take_left());
        Arc::get_mut(&mut loader.0).unwrap().binder_stack = BINDER_STACK;
        loader.bind(device, "virtio:d2", false);
        while !loader.state().binds.is_empty() {
            std::thread::yield_now();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "virtio1");
        assert!(!loader.take_left());
    }

    #[test]
    fn devices_of_a_bus_are_bound_in_the_order_in_which_people_count() {
        let (directory, loader) = machine();
        let path = directory.path().join("sys/bus/virtio/drivers_probe");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, mode).unwrap();
        // Open on both sides: nobody waits for the other.
        let mut read = fs::File::options().read(true).write(true).open(&path).unwrap();
        let wanted = ["virtio1", "virtio2", "virtio9", "virtio10", "virtio11"];
        for name in wanted.iter().rev() {
            let bind = Bind { alias: "virtio:d2".to_string(), since: None, again: false };
            let device = Device { bus: "virtio".to_string(), name: name.to_string() };
            loader.state().binds.insert(device, bind);
        }
        loader.bind_all("virtio:d2");
        let mut bytes = vec![0; wanted.concat().len()];
        io::Read::read_exact(&mut read, &mut bytes).unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), wanted.concat());
    }

    #[test]
    fn a_device_that_comes_has_its_module_loaded_again_where_that_was_removed_or_failed() {
        let (directory, loader) = machine();
        let module = directory.path().join("sys/module/plain");
        let (soon, later) = (Instant::now(), Instant::now() + PATIENCE * 2);
        // What became of the module when it was asked for, whether it is there, whether it is asked for again.
        let cases = [
            ("it is there", true, None, true, later, false),
            ("it was removed", true, None, false, soon, true),
            ("it finds no device", false, None, false, soon, false),
            ("it found no device", false, None, false, later, true),
            ("it fails", false, Some("out of memory"), false, soon, false),
            ("it failed", false, Some("out of memory"), false, later, true),
        ];
        for (label, loaded, failed, is_there, now, again) in cases {
            let mut state = loader.state();
            state.seen = [("pci:2".to_string(), soon)].into();
            state.loaded = loaded.then(|| "plain".to_string()).into_iter().collect();
            state.failed = failed.map(|why| ("pci:2".to_string(), why.to_string())).into_iter().collect();
            drop(state);
            match is_there {
                true => {
                    fs::create_dir_all(&module).unwrap();
                    fs::write(module.join("initstate"), "live\n").unwrap();
                }
                false if module.exists() => fs::remove_dir_all(&module).unwrap(),
                false => {}
            }
            loader.came("pci:2", now);
            assert_eq!(!loader.state().seen.contains_key("pci:2"), again, "{label}");
        }
        loader.state().seen.insert("pci:2".to_string(), soon);
        loader.state().queue.push_back("pci:2".to_string());
        loader.came("pci:2", later);
        assert!(loader.state().seen.contains_key("pci:2"), "it is about to be loaded");
        loader.state().seen.insert("pci:3".to_string(), soon);
        loader.came("pci:3", later);
        assert!(loader.state().seen.contains_key("pci:3"), "no module bears this alias");
    }

    #[test]
    fn a_module_that_loads_at_last_has_not_failed() {
        let (directory, loader) = machine();
        let module = directory.path().join("sys/module/plain");
        fs::create_dir_all(&module).unwrap();
        fs::write(module.join("initstate"), "live\n").unwrap();
        loader.state().failed.insert("plain".to_string(), "out of memory".to_string());
        loader.want_again("plain");
        while loader.outcome("plain").is_none() {
            std::thread::yield_now();
        }
        assert_eq!(loader.outcome("plain"), Some(Ok(())));
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
}
