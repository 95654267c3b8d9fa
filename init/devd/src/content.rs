//! What is on each device, as workers report it, and which devices are to be read (again): those
//! that nobody has read, those that the kernel said have changed, and those that were written to
//! and closed. Never one before its guard is set, never one that hangs, nothing above one that does.

use crate::again::Again;
use crate::links::{Reports, is_readable};
use contract::facts::{Block, Facts};
use contract::wire::WorkerRequest;
use host::workers::{Job, Outcome};
use ondisk::DiskReport;
use rustix::fs::inotify;
use std::collections::{BTreeMap, BTreeSet};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// The sector size of a drive that does not say.
const SECTOR: u32 = 512;

/// How often in a row one that hung is read anew: each time the kernel may reset a dying disk, which holds up whoever copies it.
const AGAIN: u32 = 3;

/// How long those that come later wait for the readers that are out, so that many are read at once: one that hangs keeps
/// them for no longer.
const GATHER: Duration = Duration::from_secs(1);

/// Which device a report is about: another one under the same name is another one.
type Key = (Option<u64>, u32, u32, u64, u64);

fn key(block: &Block) -> Key {
    let start = block.partition.as_ref().map_or(0, |partition| partition.start);
    (block.diskseq, block.major, block.minor, block.size, start)
}

pub struct Contents {
    pub reports: Reports,
    /// Devices that were read or tried: which they were, and whether that still holds.
    read: BTreeMap<String, (Key, bool)>,
    /// How often each came back after it hung, since it was last read well.
    returned: BTreeMap<String, u32>,
    /// Those that no worker could be started for.
    again: BTreeMap<String, Again>,
    /// Devices that are being read. Another one under the same name waits for the answer about the first.
    reading: BTreeSet<String>,
    /// When the last batch began.
    began: Option<Instant>,
    /// Closed after writing: told by the kernel for each node that is watched.
    writes: OwnedFd,
    watched: BTreeMap<i32, String>,
}

impl Contents {
    pub fn new() -> rustix::io::Result<Contents> {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        Ok(Contents {
            reports: Reports::new(),
            read: BTreeMap::new(),
            returned: BTreeMap::new(),
            again: BTreeMap::new(),
            reading: BTreeSet::new(),
            began: None,
            writes: inotify::init(flags)?,
            watched: BTreeMap::new(),
        })
    }

    /// Readable when a device was written to and closed: then [`Contents::take_writes`].
    pub fn writes(&self) -> &OwnedFd {
        &self.writes
    }

    /// It changed, or came: what is known of it no longer holds.
    pub fn forget(&mut self, name: &str) {
        if let Some((_, holds)) = self.read.get_mut(name) {
            *holds = false;
        }
    }

    /// Events were lost: any may have changed.
    pub fn forget_all(&mut self) {
        self.read.values_mut().for_each(|(_, holds)| *holds = false);
    }

    /// These hung, and answer again: what was tried of them, and of what stands on them, is to be read anew.
    pub fn came_back(&mut self, facts: &Facts, names: &BTreeSet<String>) {
        let mut again = BTreeSet::new();
        for name in names {
            let times = self.returned.entry(name.clone()).or_default();
            *times += 1;
            if *times <= AGAIN {
                again.insert(name.clone());
            } else {
                host::log!("{name}: hung {times} times: not read for its names until it changes");
            }
        }
        for name in facts.above(again) {
            self.forget(&name);
        }
    }

    /// Drops what is known of devices that are not there any more, or are other ones now.
    pub fn retain(&mut self, facts: &Facts) {
        let now: BTreeMap<&str, Key> =
            facts.blocks.iter().map(|block| (block.name.as_str(), key(block))).collect();
        self.read.retain(|name, (key, _)| now.get(name.as_str()) == Some(key));
        self.returned.retain(|name, _| self.read.contains_key(name));
        self.again.retain(|name, _| self.read.contains_key(name));
        self.reports.retain(|name, _| self.read.contains_key(name));
        self.watched.retain(|_, name| now.contains_key(name.as_str()));
    }

    /// The devices to read now: none that is being read, nor what stands on one. `may_be_read` says whether the guard has
    /// done its part.
    pub fn wanting(
        &self,
        facts: &Facts,
        hung: &BTreeSet<String>,
        may_be_read: impl Fn(&Block) -> bool,
    ) -> Vec<(String, Job)> {
        let above = facts.above(hung.union(&self.reading).cloned().collect());
        facts
            .blocks
            .iter()
            .filter(|block| is_readable(block) && self.read.get(&block.name) != Some(&(key(block), true)))
            .filter(|block| !above.contains(&block.name) && may_be_read(block))
            .map(|block| (block.name.clone(), job(block)))
            .collect()
    }

    /// Some are being read.
    pub fn are_read(&self) -> bool {
        !self.reading.is_empty()
    }

    /// A batch is so young that others wait for it.
    pub fn gathers(&self, now: Instant) -> bool {
        let young = |began: Instant| now.saturating_duration_since(began) < GATHER;
        self.are_read() && self.began.is_some_and(young)
    }

    /// A batch is under way: from here on, a change is one that the batch may have missed.
    pub fn begun(&mut self, facts: &Facts, names: &BTreeSet<String>, now: Instant) {
        self.began = Some(now);
        for block in facts.blocks.iter().filter(|block| names.contains(&block.name)) {
            self.read.insert(block.name.clone(), (key(block), true));
            self.reading.insert(block.name.clone());
            self.watch(block);
        }
    }

    /// One answer. Of one that could not be read nothing is known until it changes; one that nobody could be found to
    /// read, for want of memory perhaps, is tried again.
    pub fn learn(&mut self, name: &str, outcome: Outcome<DiskReport>, now: Instant) {
        self.reading.remove(name);
        let before = self.again.remove(name);
        let is_told = before.is_some() && matches!(outcome, Outcome::NotStarted(_));
        if let Outcome::NotStarted(_) = &outcome {
            self.again.insert(name.to_string(), Again::after(before.as_ref(), now));
        }
        match outcome {
            Outcome::Done(report) => {
                self.returned.remove(name);
                self.reports.insert(name.to_string(), report);
            }
            Outcome::Failed(why) | Outcome::Hung(why) | Outcome::NotStarted(why) => {
                if !is_told {
                    host::log!("{name}: not read for its names: {why}");
                }
                self.reports.remove(name);
            }
        }
    }

    /// Those that are to be tried again, and are not being tried, nor wanted for another reason.
    fn waiting(&self) -> impl Iterator<Item = (&String, &Again)> {
        let is_tried = |name: &String| self.read.get(name).is_some_and(|(_, holds)| *holds);
        self.again.iter().filter(move |(name, _)| is_tried(name) && !self.reading.contains(*name))
    }

    /// When the next one is tried again that no worker could be started for.
    pub fn next_try(&self) -> Option<Instant> {
        self.waiting().map(|(_, again)| again.at).min()
    }

    /// Whether any of them is to be read now.
    pub fn take_due(&mut self, now: Instant) -> bool {
        let due = self.waiting().filter(|(_, again)| again.is_due(now)).map(|(name, _)| name.clone());
        let due: Vec<String> = due.collect();
        due.iter().for_each(|name| self.forget(name));
        !due.is_empty()
    }

    /// Those whose names by content are not known yet.
    pub fn unread(&self, facts: &Facts) -> BTreeSet<String> {
        let is_unread = |block: &&Block| {
            let name = &block.name;
            is_readable(block) && (!self.read.contains_key(name) || self.reading.contains(name))
        };
        facts.blocks.iter().filter(is_unread).map(|block| block.name.clone()).collect()
    }

    /// The kernel tells when somebody closes the node after writing; nothing is opened for that.
    fn watch(&mut self, block: &Block) {
        match inotify::add_watch(&self.writes, block.path(), inotify::WatchFlags::CLOSE_WRITE) {
            Ok(number) => drop(self.watched.insert(number, block.name.clone())),
            Err(error) => host::log!("watch {}: {error}", block.path()),
        }
    }

    /// Whether any device is to be read again.
    pub fn take_writes(&mut self) -> bool {
        let mut names = Vec::new();
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(self.writes.as_fd(), &mut buffer);
        while let Ok(event) = reader.next() {
            if event.events().contains(inotify::ReadFlags::QUEUE_OVERFLOW) {
                names.extend(self.watched.values().cloned());
            } else if event.events().contains(inotify::ReadFlags::IGNORED) {
                self.watched.remove(&event.wd());
            } else if let Some(name) = self.watched.get(&event.wd()) {
                names.push(name.clone());
            }
        }
        for name in &names {
            self.forget(name);
        }
        !names.is_empty()
    }
}

fn job(block: &Block) -> Job {
    let request = WorkerRequest::Examine {
        path: block.path(),
        logical_block: if block.logical_block == 0 { SECTOR } else { block.logical_block },
        size: block.size,
        sections: Vec::new(),
    };
    Job { diskseq: block.diskseq, path: block.path(), request }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::facts::{Dm, Md, Partition};

    fn disk(name: &str, seq: u64) -> Block {
        Block { name: name.to_string(), major: 8, diskseq: Some(seq), size: 1 << 30, ..Block::default() }
    }

    fn facts(blocks: &[Block]) -> Facts {
        Facts { blocks: blocks.to_vec(), ..Facts::default() }
    }

    fn names(jobs: &[(String, Job)]) -> Vec<&str> {
        jobs.iter().map(|(name, _)| name.as_str()).collect()
    }

    fn wanted(contents: &Contents, facts: &Facts, hung: &[&str]) -> Vec<String> {
        let hung = hung.iter().map(|name| name.to_string()).collect();
        let jobs = contents.wanting(facts, &hung, |_| true);
        names(&jobs).iter().map(|name| name.to_string()).collect()
    }

    fn read(contents: &mut Contents, facts: &Facts) {
        let all = facts.blocks.iter().map(|block| block.name.clone()).collect();
        contents.begun(facts, &all, Instant::now());
        for name in all {
            contents.learn(&name, Outcome::Done(DiskReport::default()), Instant::now());
        }
    }

    #[test]
    fn a_device_is_read_once_and_again_when_it_changed_or_is_another() {
        let mut contents = Contents::new().unwrap();
        let machine = facts(&[disk("sda", 1)]);
        assert_eq!(wanted(&contents, &machine, &[]), ["sda"]);
        read(&mut contents, &machine);
        assert_eq!(wanted(&contents, &machine, &[]), [""; 0]);
        contents.forget("sda");
        assert_eq!(wanted(&contents, &machine, &[]), ["sda"]);
        assert!(contents.unread(&machine).is_empty(), "its old names hold until then");
        contents.begun(&machine, &["sda".to_string()].into(), Instant::now());
        assert_eq!(contents.unread(&machine).len(), 1, "while it is read, those of a devd before us hold");
        read(&mut contents, &machine);
        let other = facts(&[disk("sda", 2)]);
        contents.retain(&other);
        assert_eq!(wanted(&contents, &other, &[]), ["sda"]);
    }

    #[test]
    fn one_that_hangs_each_time_is_left_alone_until_it_changes_or_was_read_well() {
        let mut contents = Contents::new().unwrap();
        let machine = facts(&[disk("sda", 1)]);
        let all = BTreeSet::from(["sda".to_string()]);
        let hang = |contents: &mut Contents| {
            contents.begun(&machine, &all, Instant::now());
            contents.learn("sda", Outcome::Hung("no answer".to_string()), Instant::now());
            contents.came_back(&machine, &all);
        };
        for _ in 0..AGAIN {
            hang(&mut contents);
            assert_eq!(wanted(&contents, &machine, &[]), ["sda"]);
        }
        hang(&mut contents);
        assert_eq!(wanted(&contents, &machine, &[]), [""; 0]);
        contents.forget("sda");
        read(&mut contents, &machine);
        hang(&mut contents);
        assert_eq!(wanted(&contents, &machine, &[]), ["sda"]);
    }

    #[test]
    fn one_that_no_worker_could_be_started_for_is_read_later() {
        let mut contents = Contents::new().unwrap();
        let machine = facts(&[disk("sda", 1), disk("sdb", 2)]);
        let all = BTreeSet::from(["sda".to_string(), "sdb".to_string()]);
        let began = Instant::now();
        contents.begun(&machine, &all, began);
        contents.learn("sda", Outcome::NotStarted("no memory".to_string()), began);
        contents.learn("sdb", Outcome::Failed("unreadable".to_string()), began);
        let mut pauses = Vec::new();
        for _ in 0..3 {
            let (before, at) = (began, contents.next_try().unwrap());
            pauses.push(at.duration_since(before).as_secs());
            assert!(!contents.take_due(at - Duration::from_millis(1)), "not yet");
            assert_eq!(wanted(&contents, &machine, &[]), [""; 0]);
            assert!(contents.take_due(at));
            assert_eq!(wanted(&contents, &machine, &[]), ["sda"], "and not one that cannot be read");
            assert_eq!(contents.next_try(), None, "nothing wakes for one that is wanted already");
            contents.begun(&machine, &["sda".to_string()].into(), at);
            assert_eq!(contents.next_try(), None, "nor for one that is being read");
            contents.learn("sda", Outcome::NotStarted("no memory".to_string()), at);
        }
        assert_eq!(pauses, [5, 15, 35], "each after twice as long");
        read(&mut contents, &machine);
        assert_eq!(contents.next_try(), None);
    }

    #[test]
    fn nothing_is_read_before_its_guard_or_above_a_disk_that_hangs() {
        let contents = Contents::new().unwrap();
        let sda = disk("sda", 1);
        let partition = Partition { disk: "sda".to_string(), number: 1, start: 0 };
        let sda1 = Block { name: "sda1".to_string(), partition: Some(partition), ..sda.clone() };
        let md = Block { md: Some(Md::default()), slaves: vec!["sda1".to_string()], ..disk("md0", 2) };
        let machine = facts(&[sda, sda1, md, disk("sdb", 3)]);
        assert_eq!(wanted(&contents, &machine, &["sda"]), ["sdb"]);
        let jobs = contents.wanting(&machine, &BTreeSet::new(), |block| block.name == "sdb");
        assert_eq!(names(&jobs), ["sdb"]);
    }

    #[test]
    fn one_that_does_not_answer_keeps_others_for_a_moment_only_and_what_stands_on_it_until_it_does() {
        let mut contents = Contents::new().unwrap();
        let partition = |disk: &str| Partition { disk: disk.to_string(), number: 1, start: 0 };
        let sda1 = Block { name: "sda1".to_string(), partition: Some(partition("sda")), ..disk("sda", 1) };
        let both = facts(&[disk("sda", 1), disk("sdb", 2)]);
        let began = Instant::now();
        assert!(!contents.gathers(began));
        contents.begun(&both, &["sda".to_string(), "sdb".to_string()].into(), began);
        contents.learn("sdb", Outcome::Done(DiskReport::default()), began);
        let machine = facts(&[disk("sda", 1), sda1.clone(), disk("sdb", 2), disk("sdc", 3)]);
        assert_eq!(wanted(&contents, &machine, &[]), ["sdc"]);
        assert!(contents.gathers(began + GATHER / 2) && !contents.gathers(began + GATHER));
        // Another sda: the answer about the first one is not taken for its own.
        let machine = facts(&[disk("sda", 4), Block { diskseq: Some(4), ..sda1 }]);
        contents.retain(&machine);
        assert_eq!(wanted(&contents, &machine, &[]), [""; 0]);
        contents.learn("sda", Outcome::Done(DiskReport::default()), began);
        assert!(!contents.gathers(began), "nobody is waited for");
        contents.retain(&machine);
        assert!(contents.reports.is_empty());
        assert_eq!(wanted(&contents, &machine, &[]), ["sda", "sda1"]);
    }

    #[test]
    fn what_would_not_answer_is_not_asked() {
        let contents = Contents::new().unwrap();
        let suspended = Block { dm: Some(Dm { suspended: true, ..Dm::default() }), ..disk("dm-0", 1) };
        let cd = Block { major: 11, ..disk("sr0", 2) };
        let empty = Block { size: 0, ..disk("sdc", 3) };
        assert_eq!(wanted(&contents, &facts(&[suspended, cd, empty]), &[]), [""; 0]);
    }

    #[test]
    fn a_write_to_a_device_makes_it_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let node = directory.path().join("node");
        std::fs::write(&node, "old").unwrap();
        // An image file is named by its path.
        let image = Block { major: 0, ..disk(node.to_str().unwrap(), 1) };
        let machine = facts(&[image]);
        let mut contents = Contents::new().unwrap();
        read(&mut contents, &machine);
        assert!(!contents.take_writes());
        std::fs::write(&node, "new").unwrap();
        assert!(contents.take_writes());
        assert_eq!(wanted(&contents, &machine, &[]).len(), 1);
    }
}
