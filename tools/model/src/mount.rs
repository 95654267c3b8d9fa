//! What a mount command means: options to flags, the device by path, LABEL= or UUID=, the probed type,
//! and the steps of all that. A type is never guessed by trial: it was probed, or a person gave it.
//!
//! Grammar and words are mount(8)'s (util-linux 2.41). Under the guard `ro` writes nothing: what a kernel
//! driver would write nevertheless is in [`crate::fstype`].

use crate::build::ambiguous;
use crate::consent;
use crate::fstype::{self, Driver, FsType, Origin, Replay};
use crate::overlay::{self, Use};
use crate::plan::{Input, MADE, Step};
use crate::storage::{Device, Id, Observed, Storage};
use crate::text::{Untrusted, size};
use contract::facts::{Block, Mount};
use contract::guard::Wanted;
use ondisk::{DiskReport, Signature, Usage};
use std::collections::BTreeMap;

/// mount(8): the exit statuses.
pub mod exit {
    pub const USAGE: i32 = 1;
    pub const SYSTEM: i32 = 2;
    pub const FAILED: i32 = 32;
    pub const SOME: i32 = 64;
}

/// What one word of `-o` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Set(&'static str),
    Clear(&'static str),
    Bind,
    BindAll,
    Move,
    Remount,
    /// How mounts and unmounts spread to and from copies of this one.
    Spread(&'static str),
    Loop,
    /// What `user` and the like bring with them.
    Careful(&'static [&'static str]),
    /// For mount(8) itself and others who read fstab.
    Aside,
}

/// Sorted by name. A word that is not here is the file system's.
const WORDS: &[(&str, Word)] = &[
    ("_netdev", Word::Aside),
    ("async", Word::Clear("sync")),
    ("atime", Word::Clear("noatime")),
    ("auto", Word::Aside),
    ("bind", Word::Bind),
    ("defaults", Word::Aside),
    ("dev", Word::Clear("nodev")),
    ("diratime", Word::Clear("nodiratime")),
    ("dirsync", Word::Set("dirsync")),
    ("exec", Word::Clear("noexec")),
    ("group", Word::Careful(&["nosuid", "nodev"])),
    ("iversion", Word::Set("iversion")),
    ("lazytime", Word::Set("lazytime")),
    ("loop", Word::Loop),
    ("loud", Word::Clear("silent")),
    ("mand", Word::Set("mand")),
    ("move", Word::Move),
    ("noatime", Word::Set("noatime")),
    ("noauto", Word::Aside),
    ("nodev", Word::Set("nodev")),
    ("nodiratime", Word::Set("nodiratime")),
    ("noexec", Word::Set("noexec")),
    ("nofail", Word::Aside),
    ("nogroup", Word::Aside),
    ("noiversion", Word::Clear("iversion")),
    ("nolazytime", Word::Clear("lazytime")),
    ("nomand", Word::Clear("mand")),
    ("noowner", Word::Aside),
    ("norelatime", Word::Clear("relatime")),
    ("nostrictatime", Word::Clear("strictatime")),
    ("nosuid", Word::Set("nosuid")),
    ("nosymfollow", Word::Set("nosymfollow")),
    ("nouser", Word::Aside),
    ("nousers", Word::Aside),
    ("owner", Word::Careful(&["nosuid", "nodev"])),
    ("private", Word::Spread("private")),
    ("rbind", Word::BindAll),
    ("relatime", Word::Set("relatime")),
    ("remount", Word::Remount),
    ("ro", Word::Set("ro")),
    ("rprivate", Word::Spread("rprivate")),
    ("rshared", Word::Spread("rshared")),
    ("rslave", Word::Spread("rslave")),
    ("runbindable", Word::Spread("runbindable")),
    ("rw", Word::Clear("ro")),
    ("shared", Word::Spread("shared")),
    ("silent", Word::Set("silent")),
    ("slave", Word::Spread("slave")),
    ("strictatime", Word::Set("strictatime")),
    ("suid", Word::Clear("nosuid")),
    ("symfollow", Word::Clear("nosymfollow")),
    ("sync", Word::Set("sync")),
    ("unbindable", Word::Spread("unbindable")),
    ("user", Word::Careful(&["nosuid", "nodev", "noexec"])),
    ("users", Word::Careful(&["nosuid", "nodev", "noexec"])),
];

/// Of these one at a time: the last.
const ATIMES: &[&str] = &["noatime", "relatime", "strictatime"];

/// What is done with the tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    #[default]
    New,
    Bind,
    BindAll,
    Move,
}

/// A window of the backing file, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    pub offset: u64,
    pub size: Option<u64>,
}

/// All options of one command, understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// For mount(2), as mount(8) spells them, in the order given.
    pub flags: Vec<&'static str>,
    /// `rw` was said, so that a write-protected device is an error.
    pub rw: bool,
    /// For the file system itself, in the order given.
    pub data: Vec<String>,
    pub kind: Kind,
    pub remount: bool,
    pub spread: Vec<&'static str>,
    /// A loop device is wanted.
    pub window: Option<Window>,
    /// A device that is not there is no error.
    pub nofail: bool,
    /// Make the mount point.
    pub mkdir: bool,
    /// What only the original understands.
    pub unknown: Option<String>,
    /// As typed, for a helper.
    pub typed: Vec<String>,
}

/// What is wrong with the options themselves.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadOptions {
    #[error("a quote is not closed in the options {0}")]
    Quote(String),
    #[error("{0} is not a number of bytes")]
    Size(String),
}

impl Options {
    /// Of all `-o` in order; the later word wins.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Options, BadOptions> {
        let mut options = Options::default();
        for text in texts {
            for word in split(text)? {
                options.add(&word)?;
            }
        }
        Ok(options)
    }

    /// One word, as if it stood behind the others.
    pub fn add(&mut self, word: &str) -> Result<(), BadOptions> {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        self.typed.push(word.to_string());
        if self.add_ours(name, value)? {
            return Ok(());
        }
        let known = WORDS.iter().find(|(known, _)| *known == name);
        match (known, value) {
            (Some((_, known)), None) => self.apply(name, *known),
            (Some((_, Word::Aside | Word::Careful(_))), Some(_)) => self.data.push(word.to_string()),
            // `ro=recursive`, `loop=/dev/loop3`; all but `ro=vfs` are of the file system too (libmount/src/hook_mount.c).
            (Some((_, known)), Some(value)) => {
                self.unknown = Some(word.to_string());
                if matches!(name, "ro" | "rw") && value != "vfs" {
                    self.apply(name, *known);
                }
            }
            (None, _) => self.data.push(word.to_string()),
        }
        Ok(())
    }

    /// The words that mount(8) takes for itself and that have values.
    fn add_ours(&mut self, name: &str, value: Option<&str>) -> Result<bool, BadOptions> {
        match (name, value) {
            ("offset", Some(value)) => self.window.get_or_insert_default().offset = bytes(value)?,
            ("sizelimit", Some(value)) => self.window.get_or_insert_default().size = Some(bytes(value)?),
            ("X-mount.mkdir" | "x-mount.mkdir", None) => self.mkdir = true,
            (name, _) if name.starts_with("X-mount.") || name == "uhelper" || name == "helper" => {
                self.unknown = Some(name.to_string());
            }
            (name, _) if name.starts_with("x-") || name.starts_with("X-") || name == "comment" => {}
            ("", None) => {}
            _ => return Ok(false),
        }
        self.typed.pop();
        Ok(true)
    }

    fn apply(&mut self, name: &str, word: Word) {
        match word {
            Word::Set(flag) => {
                if ATIMES.contains(&flag) {
                    self.flags.retain(|other| !ATIMES.contains(other));
                }
                self.set(flag);
                self.rw &= flag != "ro";
            }
            Word::Clear(flag) => {
                self.flags.retain(|other| *other != flag);
                self.rw |= flag == "ro";
            }
            Word::Careful(flags) => flags.iter().for_each(|flag| self.set(flag)),
            Word::Bind => self.kind = Kind::Bind,
            Word::BindAll => self.kind = Kind::BindAll,
            Word::Move => self.kind = Kind::Move,
            Word::Remount => self.remount = true,
            Word::Spread(how) => self.spread.push(how),
            Word::Loop => drop(self.window.get_or_insert_default()),
            Word::Aside => self.nofail |= name == "nofail",
        }
    }

    fn set(&mut self, flag: &'static str) {
        if !self.flags.contains(&flag) {
            self.flags.push(flag);
        }
    }

    pub fn read_only(&self) -> bool {
        self.flags.contains(&"ro")
    }

    /// The command does nothing but say how mounts spread.
    pub fn only_spreads(&self) -> bool {
        !self.spread.is_empty()
            && self.kind == Kind::New
            && !self.remount
            && self.flags.is_empty()
            && self.data.is_empty()
    }
}

/// At commas outside of double quotes, which stay: SELinux contexts have both.
fn split(text: &str) -> Result<Vec<String>, BadOptions> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for c in text.chars() {
        match c {
            ',' if !quoted => words.push(std::mem::take(&mut word)),
            c => {
                quoted ^= c == '"';
                word.push(c);
            }
        }
    }
    if quoted {
        return Err(BadOptions::Quote(text.to_string()));
    }
    words.push(word);
    Ok(words)
}

/// `1048576`, `0x100000`, `1M`, `1MiB`, `1MB`: as losetup(8) reads sizes.
fn bytes(text: &str) -> Result<u64, BadOptions> {
    let bad = || BadOptions::Size(text.to_string());
    if let Some(hex) = text.strip_prefix("0x") {
        return u64::from_str_radix(hex, 16).map_err(|_| bad());
    }
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..end].parse().map_err(|_| bad())?;
    let (letter, decimal) = match &text[end..] {
        "" => return Ok(number),
        suffix => match suffix.strip_suffix("iB").or_else(|| Some(suffix).filter(|s| s.len() == 1)) {
            Some(letter) => (letter, false),
            None => (suffix.strip_suffix('B').ok_or_else(bad)?, true),
        },
    };
    let power = match letter {
        "K" | "k" => 1,
        "M" | "m" => 2,
        "G" | "g" => 3,
        "T" | "t" => 4,
        _ => return Err(bad()),
    };
    let unit: u64 = if decimal { 1000 } else { 1024 };
    unit.checked_pow(power).and_then(|unit| unit.checked_mul(number)).ok_or_else(bad)
}

/// What stands before a value and says by what a device is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    Label,
    Uuid,
    PartLabel,
    PartUuid,
    /// A name below /dev/disk/by-id.
    Id,
}

const TAGS: &[(&str, Tag)] = &[
    ("LABEL", Tag::Label),
    ("UUID", Tag::Uuid),
    ("PARTLABEL", Tag::PartLabel),
    ("PARTUUID", Tag::PartUuid),
    ("ID", Tag::Id),
];

impl Tag {
    /// `LABEL=root`, `UUID="..."`; `None`: it is a path or a word.
    pub fn parse(text: &str) -> Option<(Tag, &str)> {
        let (name, value) = text.split_once('=')?;
        let (_, tag) = TAGS.iter().find(|(known, _)| *known == name)?;
        let bare = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
        Some((*tag, bare.unwrap_or(value)))
    }

    fn name(self) -> &'static str {
        TAGS.iter().find(|(_, tag)| *tag == self).map_or("", |(name, _)| name)
    }

    /// As it is written on a command line.
    pub fn with(self, value: &str) -> String {
        format!("{}={value}", self.name())
    }
}

/// The one device that a tag means. What another device is built on (members, the legs of multipath) carries
/// the same labels and is not meant, nor is a partition that an array shows on its member.
pub fn by_tag<'a>(storage: &'a Storage, tag: Tag, value: &str) -> Result<&'a Device, Refusal> {
    let is = |text: Option<&str>| text == Some(value);
    let is_id = |text: Option<&str>| text.is_some_and(|text| text.eq_ignore_ascii_case(value));
    let has = |device: &&Device| match tag {
        Tag::Label => {
            device.signature().is_some_and(|signature| !is_part(signature) && is(signature.label.as_deref()))
        }
        Tag::Uuid => device
            .signature()
            .is_some_and(|signature| !is_part(signature) && is_id(signature.uuid.as_deref())),
        Tag::PartLabel => entry(storage, device).is_some_and(|entry| is(entry.name.as_deref())),
        Tag::PartUuid => entry(storage, device).is_some_and(|entry| is_id(entry.uuid.as_deref())),
        Tag::Id => false,
    };
    let found = storage.devices.iter().filter(|device| device.upper.is_empty()).filter(has);
    let (found, of_arrays): (Vec<&Device>, Vec<&Device>) =
        found.partition(|device| consent::of_array(storage, device).is_none());
    match found[..] {
        [] => Err(match of_arrays.first().and_then(|device| consent::of_array(storage, device)) {
            Some(refusal) => refusal.into(),
            None => Refusal::NoSource { tag: tag.with(value), hung: hung(storage) },
        }),
        [device] => Ok(device),
        [first, ..] if is_one_btrfs(&found) => Ok(first),
        _ => Err(Refusal::Duplicate {
            tag: tag.with(value),
            devices: found.iter().map(|device| shown(device)).collect(),
        }),
    }
}

fn hung(storage: &Storage) -> Vec<String> {
    let hangs = |device: &&Device| device.parent.is_none() && matches!(device.report, Observed::Hung { .. });
    storage.devices.iter().filter(hangs).map(|device| device.path.clone()).collect()
}

fn entry<'a>(storage: &'a Storage, device: &Device) -> Option<&'a ondisk::table::Entry> {
    let start = device.block.partition.as_ref()?.start;
    let table = storage.get(device.parent.as_ref()?)?.report()?.table.as_ref()?;
    table.partitions.iter().find(|entry| entry.extent.start == start)
}

/// What is assembled or opened first.
fn is_part(signature: &ondisk::Signature) -> bool {
    matches!(signature.usage, Usage::Raid | Usage::Crypto)
}

/// Devices of one btrfs share its UUID, and each has its own beside.
fn is_one_btrfs(devices: &[&Device]) -> bool {
    let mut own: Vec<&str> = Vec::new();
    for device in devices {
        let Some(signature) = device.signature().filter(|signature| signature.format == "btrfs") else {
            return false;
        };
        let Some(member) = signature.member_uuid.as_deref() else { return false };
        if own.contains(&member) {
            return false;
        }
        own.push(member);
    }
    true
}

/// The other devices of a btrfs that has several.
pub fn siblings<'a>(storage: &'a Storage, device: &Device) -> Result<Vec<&'a Device>, Refusal> {
    let Some(own) = device.signature().filter(|signature| signature.format == "btrfs") else {
        return Ok(Vec::new());
    };
    let same = |other: &&Device| {
        other.upper.is_empty()
            && other.node
            && consent::of_array(storage, other).is_none()
            && other.signature().is_some_and(|sign| sign.format == "btrfs" && sign.uuid == own.uuid)
    };
    let all: Vec<&Device> = storage.devices.iter().filter(same).collect();
    let clones =
        |device: &&Device| device.signature().is_some_and(|sign| sign.member_uuid == own.member_uuid);
    match () {
        () if is_one_btrfs(&all) => Ok(all.into_iter().filter(|other| other.id != device.id).collect()),
        // Copies of a single device: the kernel keeps them apart (temp_fsid, fs/btrfs/volumes.c).
        () if all.iter().all(clones) => Ok(Vec::new()),
        () => Err(Refusal::Duplicate {
            tag: Tag::Uuid.with(own.uuid.as_deref().unwrap_or_default()),
            devices: all.iter().map(|device| shown(device)).collect(),
        }),
    }
}

/// The devices that a file system has beside its own, each with the option that names it to the driver: as `data` names
/// it, else by the UUID that it carries. A copy in memory has the journal of a copy in memory alone.
pub fn beside<'a>(
    storage: &'a Storage,
    device: &Device,
    fstype: &str,
    data: &[String],
) -> Result<Vec<(&'static str, &'a Device)>, Refusal> {
    let path = shown(device);
    let journal = device.signature().and_then(|found| found.journal_on.as_deref());
    let (option, next) = match fstype {
        "ext3" | "ext4" => ("journal_path", format!("mount -o ro {path} shows it without that")),
        "reiserfs" => ("jdev", "-o jdev=DEVICE names it".to_string()),
        "xfs" => ("logdev", "-o logdev=DEVICE names it".to_string()),
        _ => return Ok(Vec::new()),
    };
    let named = |option: &str| data.iter().find_map(|word| word.strip_prefix(option)?.strip_prefix('='));
    let absent = || Refusal::NoJournal {
        path: path.clone(),
        uuid: journal.unwrap_or_default().to_string(),
        next: next.clone(),
    };
    let unknown = |option: &str, other: &str| Refusal::NoBeside(format!("{option}={other}"));
    let mut found = Vec::new();
    if let Some(other) = named(option) {
        found.push((option, at(storage, other).ok_or_else(|| unknown(option, other))?));
    } else if let Some(uuid) = journal {
        let in_memory = overlay::is_throw_away(storage, device);
        let is = |other: &&Device| {
            other.node
                && overlay::is_throw_away(storage, other) == in_memory
                && other.upper.iter().filter_map(|id| storage.get(id)).all(overlay::is_overlay)
                && other.signature().is_some_and(|signature| signature.is_journal(uuid))
        };
        let mut all: Vec<&Device> = storage.devices.iter().filter(is).collect();
        // Told apart from one that is nowhere: it is on the disk.
        if all.is_empty() && in_memory {
            let real =
                |other: &&Device| other.signature().is_some_and(|signature| signature.is_journal(uuid));
            let journal = storage.devices.iter().find(real).map_or("the one on the disk".to_string(), shown);
            return Err(Refusal::HalfInMemory { path, journal });
        }
        match all.len() {
            0 => return Err(absent()),
            1 => found.push((option, all.remove(0))),
            _ => {
                let devices = all.iter().map(|device| shown(device)).collect();
                return Err(Refusal::Duplicate { tag: format!("the journal {uuid}"), devices });
            }
        }
    }
    if let Some(path) = named("rtdev").filter(|_| fstype == "xfs") {
        found.push(("rtdev", at(storage, path).ok_or_else(|| unknown("rtdev", path))?));
    }
    Ok(found)
}

/// The log and the realtime part of what is mounted, as its options name them (fs/xfs/xfs_super.c, xfs_fs_show_options).
pub fn beside_of(mount: &Mount) -> impl Iterator<Item = &str> {
    let of = |word: &'_ str| word.starts_with("logdev=") || word.starts_with("rtdev=");
    let words = mount.super_options.split(',').filter(move |word| of(word));
    words.filter_map(|word| Some(word.split_once('=')?.1))
}

/// Whether a path names this device: its node, or what device mapper calls it.
pub fn is_called(block: &Block, path: &str) -> bool {
    let mapped = |name: &str| block.dm.as_ref().is_some_and(|dm| dm.name == name);
    path == block.path() || path.strip_prefix("/dev/mapper/").is_some_and(mapped)
}

/// Whether what is mounted is on this device, or its log or realtime part is. btrfs has a device number of its own, and
/// names one of its devices.
pub fn is_on(mount: &Mount, block: &Block) -> bool {
    (mount.major, mount.minor) == (block.major, block.minor)
        || std::iter::once(&*mount.source).chain(beside_of(mount)).any(|path| is_called(block, path))
}

/// Whether the kernel has a file system of this device mounted. By its number, as the kernel knows it: a name may be that
/// of another disk by now.
fn is_mounted(storage: &Storage, device: &Device) -> bool {
    let numbers = (device.block.major, device.block.minor);
    device.node && storage.mounts.iter().any(|mount| (mount.major, mount.minor) == numbers)
}

fn at<'a>(storage: &'a Storage, path: &str) -> Option<&'a Device> {
    storage.devices.iter().find(|device| device.node && (device.path == path || shown(device) == path))
}

/// The same, to be written: what is a copy in memory has none on a disk.
pub fn beside_to_write<'a>(
    storage: &'a Storage,
    device: &Device,
    fstype: &str,
    data: &[String],
) -> Result<Vec<(&'static str, &'a Device)>, Refusal> {
    let found = beside(storage, device, fstype, data)?;
    let is_real = |(_, other): &&(&str, &Device)| !overlay::is_throw_away(storage, other);
    match found.iter().find(is_real).filter(|_| overlay::is_throw_away(storage, device)) {
        Some((_, other)) => Err(Refusal::HalfInMemory { path: shown(device), journal: shown(other) }),
        None => Ok(found),
    }
}

/// `/dev/mapper/vg-root` rather than `/dev/dm-0`.
pub fn shown(device: &Device) -> String {
    device.block.dm.as_ref().map_or_else(|| device.path.clone(), |dm| format!("/dev/mapper/{}", dm.name))
}

/// Why something is not mounted, in one line that says what to do instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    NoSource {
        tag: String,
        hung: Vec<String>,
    },
    Duplicate {
        tag: String,
        devices: Vec<String>,
    },
    /// Of an array, a volume group, or behind LUKS.
    Part {
        path: String,
        format: String,
        upper: Vec<String>,
    },
    /// -t was given for such a member, and it would be written.
    WritesToPart {
        path: String,
        format: String,
        fstype: String,
    },
    Used {
        path: String,
        upper: Vec<String>,
    },
    Partitioned {
        path: String,
        partitions: Vec<String>,
    },
    NoFileSystem {
        path: String,
        format: String,
    },
    /// A Windows that goes on with what it remembers of it.
    Hibernated {
        path: String,
    },
    Ambiguous {
        path: String,
        formats: Vec<String>,
    },
    Nothing {
        path: String,
        size: u64,
    },
    Unread {
        path: String,
        reason: String,
    },
    OtherType {
        path: String,
        found: String,
        asked: String,
    },
    NoNode {
        path: String,
        disk: String,
    },
    Unreplayed {
        source: String,
        target: String,
    },
    /// What is mounted is the overlay that reading it made.
    InMemory {
        overlay: String,
        of: String,
        target: String,
    },
    /// Its driver would write to its journal, and there is no overlay to take that.
    Replays {
        path: String,
        fstype: String,
        why: String,
    },
    /// Its driver would clear orphans away, and there is no overlay to take that.
    Clears {
        path: String,
        fstype: String,
        why: String,
    },
    /// An option that only the original knows, which would mount what is read through an overlay itself.
    ByOriginal {
        path: String,
        option: String,
        /// One that is there.
        overlay: Option<String>,
    },
    /// Its journal or log is on a device that is not known.
    NoJournal {
        path: String,
        uuid: String,
        next: String,
    },
    /// An option that names no device.
    NoBeside(String),
    /// Its journal is on a disk, and it is itself a copy in memory.
    HalfInMemory {
        path: String,
        journal: String,
    },
    /// The kernel opens its log for writing also to read, and there are no overlays to take that.
    OpensLog {
        path: String,
        beside: Vec<String>,
        why: String,
    },
    Consent(consent::Refusal),
}

impl Refusal {
    pub fn exit(&self) -> i32 {
        match self {
            Refusal::NoSource { .. } => exit::USAGE,
            _ => exit::FAILED,
        }
    }
}

impl From<consent::Refusal> for Refusal {
    fn from(refusal: consent::Refusal) -> Refusal {
        Refusal::Consent(refusal)
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refusal::NoSource { tag, hung } => {
                write!(f, "can't find {}", Untrusted(tag))?;
                match &hung[..] {
                    [] => write!(f, ": blkid lists what there is"),
                    hung => write!(f, ": {} does not answer, and it may be there", hung.join(" ")),
                }
            }
            Refusal::Duplicate { tag, devices } => {
                write!(f, "{} is on {}: name the one that is meant", Untrusted(tag), and(devices))
            }
            Refusal::Part { path, format, upper } => write!(f, "{}", part(path, format, upper)),
            Refusal::WritesToPart { path, format, fstype } => write!(
                f,
                "{}; writing to it alone would tear it apart: mount -t {fstype} -o ro {path} to look",
                what_part(path, format)
            ),
            Refusal::Used { path, upper } => {
                let first = upper.first().map_or("", String::as_str);
                write!(f, "{path} is used by {}: did you mean {first}?", and(upper))
            }
            Refusal::Partitioned { path, partitions } => match &partitions[..] {
                [] => {
                    write!(f, "{path} has a partition table, and no file system of its own: fdisk -l {path}")
                }
                partitions => {
                    write!(f, "{path} has a partition table: did you mean {}?", partitions.join(" or "))
                }
            },
            Refusal::NoFileSystem { path, format } => match format.as_str() {
                "swap" => write!(
                    f,
                    "{path} is swap space, which holds no files: for more memory, rescue writable {path} && swapon {path} (it writes there)"
                ),
                "swsuspend" => write!(f, "{path} is swap space with a system that was hibernated into it"),
                format => write!(f, "{path} is {}, which is no file system", Untrusted(format)),
            },
            Refusal::Hibernated { path } => write!(
                f,
                "Windows is hibernated on {path}, and what is written now would destroy it when it goes on: mount -o ro {path}, or start Windows and shut it down (shutdown /s /t 0); mount -t ntfs-3g -o remove_hiberfile {path} throws its session away"
            ),
            Refusal::Ambiguous { path, formats } => write!(
                f,
                "{path} looks like {}: -t TYPE says which, and wipefs {path} lists where each is",
                formats.join(" and like ")
            ),
            Refusal::Nothing { path, size: bytes } => write!(
                f,
                "no file system was found on {path} ({}): blkid -p {path} looks again, -t TYPE mounts without a look",
                size(*bytes)
            ),
            Refusal::Unread { path, reason } => {
                write!(f, "{path} could not be read, so its type is not known: {}", Untrusted(reason))
            }
            Refusal::OtherType { path, found, asked } => {
                write!(f, "{path} is {found}, which is not among the types {}", Untrusted(asked))
            }
            Refusal::NoNode { path, disk } => write!(
                f,
                "{path} has no node, since the kernel refused this partition: blockdev --rereadpt {disk} reads the table again"
            ),
            Refusal::Unreplayed { source, target } => write!(
                f,
                "it is mounted without its journal, so it cannot become writable: umount {target} && mount {source} {target}"
            ),
            Refusal::InMemory { overlay, of, target } => write!(
                f,
                "what is mounted is a copy in memory ({overlay}), with which all that is written would be gone: umount {0} && mount {of} {0} writes to the disk",
                Untrusted(target)
            ),
            Refusal::Replays { path, fstype, why } => write!(
                f,
                "{path} is {}, which writes to its journal with ro as well, so that it is read through an overlay alone: {why}",
                Untrusted(fstype)
            ),
            Refusal::Clears { path, fstype, why } => write!(
                f,
                "{path} has, or may have, files that were deleted while in use, which {} clears away with ro as well, so that it is read through an overlay, or through a device that is read-only itself (losetup -r -f --show {path} makes one): {why}",
                Untrusted(fstype)
            ),
            Refusal::ByOriginal { path, option, overlay } => {
                let option = Untrusted(option);
                write!(
                    f,
                    "{path} is read through an overlay, and {option} is left to the original mount, which would mount {path} itself: mount without {option}, or "
                )?;
                match overlay {
                    Some(overlay) => write!(f, "mount {overlay} with it"),
                    None => write!(f, "rescue overlay {path}, and mount with it what that makes"),
                }
            }
            Refusal::NoJournal { path, uuid, next } => {
                let known =
                    if uuid.is_empty() { String::new() } else { format!(" with UUID {}", Untrusted(uuid)) };
                write!(f, "{path} has its journal on another device{known}, which was not found: {next}")
            }
            Refusal::NoBeside(word) => {
                write!(f, "{} names no device that is there: blkid lists what is", Untrusted(word))
            }
            Refusal::HalfInMemory { path, journal } => write!(
                f,
                "{path} is a copy in memory, and its journal is not: {journal} would be written, and emptied, as if the disk had what is in memory alone"
            ),
            Refusal::OpensLog { path, beside, why } => write!(
                f,
                "{path} is on {} as well, which the kernel opens for writing with ro too, so that they are read through overlays of all alone: {why}",
                and(beside)
            ),
            Refusal::Consent(refusal) => refusal.fmt(f),
        }
    }
}

fn and(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [all @ .., last] => format!("{} and {last}", all.join(", ")),
    }
}

fn what_part(path: &str, format: &str) -> String {
    match format {
        "linux_raid_member" => format!("{path} is a member of a RAID array"),
        "LVM2_member" => format!("{path} is a physical volume of LVM"),
        "crypto_LUKS" => format!("{path} is encrypted (LUKS)"),
        HEADER => format!("{path} is a header of LUKS, kept apart from its data"),
        "BitLocker" => format!("{path} is encrypted (BitLocker)"),
        other => format!("{path} is a {}", Untrusted(other)),
    }
}

/// Why a member is not used by itself, and what to do first.
pub fn part(path: &str, format: &str, upper: &[String]) -> String {
    let what = what_part(path, format);
    match (format, upper) {
        (_, [first, ..]) => format!("{what}: did you mean {first}, which is built on it?"),
        ("linux_raid_member", []) => format!("{what}: rescue assemble starts it"),
        ("LVM2_member", []) => format!("{what}: rescue assemble activates its volumes"),
        ("crypto_LUKS" | "BitLocker", []) => {
            format!("{what}: rescue open {path} asks for the passphrase, and opens it")
        }
        (HEADER, []) => format!("{what}: {}", crate::luks::with_data(path)),
        (_, []) => format!("{what}, which has to be assembled first"),
    }
}

/// A format of ours beside libblkid's, for what is no lock by itself.
const HEADER: &str = "header of LUKS";

/// What a member is, as [`part`] takes it.
pub fn format_of(signature: &Signature) -> String {
    if crate::content::is_header(signature) { HEADER.to_string() } else { signature.format.clone() }
}

/// What there is to mount.
#[derive(Clone, Debug)]
pub enum Source<'a> {
    Device(&'a Device),
    /// A regular file, through a loop device.
    File {
        path: &'a str,
        report: &'a DiskReport,
        size: u64,
    },
    /// A server's, a word, or a directory to bind.
    Word(&'a str),
}

impl Source<'_> {
    /// What mount(2) and messages are given.
    pub fn name(&self) -> String {
        match self {
            Source::Device(device) => shown(device),
            Source::File { path, .. } => (*path).to_string(),
            Source::Word(word) => (*word).to_string(),
        }
    }
}

/// One mount, with all that is known about it.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    pub source: Source<'a>,
    /// Absolute.
    pub target: &'a str,
    /// As after -t.
    pub types: Option<&'a str>,
    pub options: &'a Options,
    /// What a window of the device holds, where one is wanted.
    pub window: Option<&'a DiskReport>,
    /// The mount point has to be made.
    pub mkdir: bool,
    /// The command, for the consent.
    pub by: &'a str,
}

/// What the machine can do: types that the kernel knows already, and helpers.
pub struct Able<'a> {
    pub known: &'a [String],
    pub helper: &'a dyn Fn(&str) -> bool,
    /// Bytes of memory that are free, for an overlay; `None`: without overlays.
    pub memory: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// What opens the devices: consents, arrays.
    pub opens: Vec<Step>,
    /// What mounts.
    pub mounts: Vec<Step>,
    /// One line each, for the person, once it is done.
    pub notices: Vec<String>,
    pub fstype: String,
    /// All that the driver of a new mount is told: the flags, then its own options.
    pub words: Vec<String>,
}

impl Plan {
    pub fn steps(&self) -> Vec<Step> {
        self.opens.iter().chain(&self.mounts).cloned().collect()
    }

    /// What the original has to be told beside the options that a person gave, since it knows nothing of the guard: `noload`, and
    /// `ro` of a verb.
    pub fn beside(&self, given: &Options) -> Vec<String> {
        let is_new = |word: &&String| !given.flags.contains(&word.as_str()) && !given.data.contains(word);
        self.words.iter().filter(is_new).cloned().collect()
    }
}

/// The steps of a new mount.
pub fn plan(storage: &Storage, able: &Able<'_>, request: &Request<'_>) -> Result<Plan, Refusal> {
    let options = request.options;
    let mut plan = Plan { fstype: fstype(storage, request)?, ..Plan::default() };
    let row = fstype::row(&plan.fstype);
    let writes = row.is_none_or(|row| row.writes);
    let read_only = options.read_only() || !writes;
    // ntfs3 does not look; ntfs-3g does, and has an option of its own for that.
    if !read_only && matches!(plan.fstype.as_str(), "ntfs" | "ntfs3") && is_hibernated(request) {
        return Err(Refusal::Hibernated { path: request.source.name() });
    }
    let mut flags: Vec<String> = options.flags.iter().map(|flag| (*flag).to_string()).collect();
    let mut data = options.data.clone();
    let replay = row.map_or(Replay::Nothing, |row| row.replay);
    let (through, together) = match read_only {
        true => Through::together(storage, able, request, &plan.fstype)?
            .unwrap_or_else(|| (Through::of(storage, able, request, row), Vec::new())),
        false => (Through::Nothing, Vec::new()),
    };
    for (option, path) in &together {
        data.retain(|word| !word.starts_with(&format!("{option}=")));
        data.push(format!("{option}={path}"));
    }
    if !writes && !options.read_only() {
        flags.insert(0, "ro".to_string());
        plan.notices.push("WARNING: source write-protected, mounted read-only.".to_string());
    }
    if let Source::Device(device) = request.source {
        if !device.node {
            let disk = device.parent.as_ref().and_then(|id| storage.get(id));
            let disk = disk.map_or_else(String::new, |disk| disk.path.clone());
            return Err(Refusal::NoNode { path: device.path.clone(), disk });
        }
        let others = if request.window.is_some() { Vec::new() } else { siblings(storage, device)? };
        // Overlays are shown to btrfs as they are made.
        if !matches!(through, Through::Overlay { .. }) {
            data.extend(others.iter().map(|other| format!("device={}", other.path)));
        }
        if !read_only {
            let mut all = others;
            if request.window.is_none() {
                for (option, other) in beside_to_write(storage, device, &plan.fstype, &data)? {
                    // By its path: the number in the superblock is of another start of the machine.
                    if !data.iter().any(|word| word.starts_with(&format!("{option}="))) {
                        data.push(format!("{option}={}", shown(other)));
                    }
                    all.push(other);
                }
            }
            plan.opens = match opens_all(storage, device, &all, request.by) {
                // As mount(8) has it: what cannot be written is mounted all the same, unless -w forbids it.
                Err(Refusal::Consent(refusal @ consent::Refusal::ReadOnlyMap { .. })) if !options.rw => {
                    return read_instead(storage, able, request, &refusal);
                }
                other => other?,
            };
        }
    }
    let name = request.source.name();
    if let (Source::Device(device), Through::Nothing | Through::Refused(_)) = (&request.source, &through)
        && let Some(Use::Overlay { path: upper, of }) = overlay::across(storage, device)
    {
        return Err(Refusal::Used { path: of, upper: vec![upper] });
    }
    if let Source::Device(device) = &request.source
        && crate::lvm::has_hole(storage, device)
    {
        plan.notices
            .push(format!("{name}: some of it is on a PV that is missing: files there cannot be read"));
    }
    let journal = Journal::of(storage, request, row);
    let is_written = replay == Replay::Always && journal.closed && journal.is_written(replay);
    if let Some(why) = through.none().filter(|_| read_only && is_written) {
        return Err(Refusal::Replays { path: name, fstype: plan.fstype, why });
    }
    if let Some(why) = through.none().filter(|_| read_only && journal.clears) {
        return Err(Refusal::Clears { path: name, fstype: plan.fstype, why });
    }
    if let (Through::Overlay { steps, path: overlay, .. }, Some(option)) = (&through, &options.unknown) {
        let overlay = steps.is_empty().then(|| overlay.clone());
        return Err(Refusal::ByOriginal { path: name, option: option.clone(), overlay });
    }
    let mut overlay = None;
    match through {
        Through::Overlay { steps, path, notice } => {
            plan.mounts.extend(steps);
            plan.notices.push(notice);
            if (journal.elsewhere || is_unreplayed(&data)) && together.is_empty() {
                journal.leave_alone(replay, &mut data, &mut plan.notices, &name);
            }
            overlay = Some(path);
        }
        Through::Refused(why) => {
            journal.leave_alone(replay, &mut data, &mut plan.notices, &name);
            plan.notices.push(format!("no overlay shows them: {why}"));
        }
        Through::Nothing if read_only => {
            journal.leave_alone(replay, &mut data, &mut plan.notices, &name);
        }
        Through::Nothing => {}
    }
    calm(row, &mut data, "");
    plan.words = flags.iter().chain(&data).cloned().collect();
    if request.mkdir {
        plan.mounts.push(Step::MakeDirectory { path: request.target.to_string() });
    }
    let helper = match row {
        Some(FsType { driver: Driver::Helper, .. }) => true,
        Some(FsType { driver: Driver::Kernel(_), .. }) => false,
        None => !plan.fstype.is_empty() && (able.helper)(&plan.fstype),
    };
    let source = overlay.or_else(|| loop_step(request, read_only, &mut plan.mounts)).unwrap_or(name);
    if helper {
        plan.mounts.push(helper_step(&plan.fstype, source, request, &flags, &data));
    } else {
        let kernel = match row.map(|row| row.driver) {
            Some(Driver::Kernel(kernel)) => kernel.to_string(),
            Some(Driver::Helper) | None => plan.fstype.clone(),
        };
        if !able.known.contains(&kernel) {
            plan.mounts.push(Step::Module { name: format!("fs-{kernel}") });
        }
        plan.mounts.push(Step::Mount {
            source,
            target: request.target.to_string(),
            fstype: kernel,
            flags,
            data: data.join(","),
        });
    }
    plan.mounts.extend(spread(options, request.target));
    Ok(plan)
}

fn read_instead(
    storage: &Storage,
    able: &Able<'_>,
    request: &Request<'_>,
    why: &consent::Refusal,
) -> Result<Plan, Refusal> {
    let mut options = request.options.clone();
    // Cannot fail: a word of the table.
    drop(options.add("ro"));
    let mut plan = plan(storage, able, &Request { options: &options, ..request.clone() })?;
    plan.notices.push(format!("WARNING: source write-protected, mounted read-only: {why}"));
    Ok(plan)
}

fn is_hibernated(request: &Request<'_>) -> bool {
    let report = match request.source {
        Source::Device(device) => request.window.or(device.report()),
        Source::File { report, .. } => Some(request.window.unwrap_or(report)),
        Source::Word(_) => None,
    };
    let first = report.and_then(|report| report.signatures.first());
    first.is_some_and(|first| first.hibernated)
}

/// Nothing that a disk says brings the rescue down, unless a person asks for that, or has asked for it in the options
/// of the mount that is changed.
fn calm(row: Option<&FsType>, data: &mut Vec<String>, before: &str) {
    let Some(option) = row.and_then(|row| row.calm) else { return };
    let is_said =
        data.iter().map(String::as_str).chain(before.split(',')).any(|word| word.starts_with("errors="));
    if !is_said {
        data.push(option.to_string());
    }
}

/// A loop device over a file, or over a window of anything.
fn loop_step(request: &Request<'_>, read_only: bool, steps: &mut Vec<Step>) -> Option<String> {
    let file = match (&request.source, request.options.window) {
        (Source::File { path, .. }, _) => (*path).to_string(),
        (Source::Device(device), Some(_)) => device.path.clone(),
        (Source::Device(_), None) | (Source::Word(_), _) => return None,
    };
    let Window { offset, size } = request.options.window.unwrap_or_default();
    steps.push(Step::Loop { file, read_only, offset, size });
    Some(MADE.to_string())
}

/// mount(8), external helpers: `/sbin/mount.TYPE SPEC DIR [-o OPTIONS]`.
fn helper_step(
    fstype: &str,
    source: String,
    request: &Request<'_>,
    flags: &[String],
    data: &[String],
) -> Step {
    let mut argv = vec![helper(fstype), source, request.target.to_string()];
    // A server's options are told as typed (`user=` is one of them).
    let network = fstype::row(fstype).is_some_and(|row| row.origin == Origin::Network);
    let words: Vec<&str> = match network {
        true => request.options.typed.iter().map(String::as_str).collect(),
        false => flags.iter().chain(data).map(String::as_str).collect(),
    };
    if !words.is_empty() {
        argv.extend(["-o".to_string(), words.join(",")]);
    }
    Step::Run { argv, input: Input::Nothing }
}

/// A subtype (`fuse.sshfs`) is its main type's.
pub fn helper(fstype: &str) -> String {
    format!("/sbin/mount.{}", fstype.split('.').next().unwrap_or(fstype))
}

/// Of a device, and of the others of its btrfs.
fn opens_all(storage: &Storage, device: &Device, others: &[&Device], by: &str) -> Result<Vec<Step>, Refusal> {
    let mut steps = Vec::new();
    for device in std::iter::once(device).chain(others.iter().copied()) {
        let more = opens(storage, &device.id, by)?;
        steps.extend(more.into_iter().filter(|step| !steps.contains(step)).collect::<Vec<_>>());
    }
    Ok(steps)
}

/// The consents, then the arrays from the lowest up: an array cannot be written before what it stands on.
pub fn opens(storage: &Storage, id: &Id, by: &str) -> Result<Vec<Step>, Refusal> {
    let mut steps = consent::writable(storage, id, by)?;
    if let Some(refusal) = consent::read_only_map(storage, id) {
        return Err(refusal.into());
    }
    let mut seen = Vec::new();
    arrays(storage, id, &mut seen, &mut steps);
    Ok(steps)
}

fn arrays(storage: &Storage, id: &Id, seen: &mut Vec<Id>, steps: &mut Vec<Step>) {
    if seen.contains(id) {
        return;
    }
    seen.push(id.clone());
    // What is written to an overlay reaches nothing below it.
    let Some(device) = storage.get(id).filter(|device| !overlay::is_overlay(device)) else { return };
    for below in device.lower.iter().chain(&device.parent) {
        arrays(storage, below, seen, steps);
    }
    let is_closed = |md: &contract::facts::Md| {
        md.array_state == "readonly" || (device.block.read_only && !md.array_state.is_empty())
    };
    if device.block.md.as_ref().is_some_and(is_closed) {
        steps.push(Step::MdSetReadOnly { device: device.path.clone(), read_only: false });
    }
}

/// Nothing may be written below: by the guard, by the drive, or since an array runs read-only.
fn is_closed(storage: &Storage, device: &Device) -> bool {
    device.block.read_only
        || consent::below(storage, &device.id)
            .iter()
            .any(|below| below.guard != Some(Wanted::Writable) || below.block.read_only)
}

/// Whether a read-only mount goes through an overlay, which shows what the log holds and writes to no disk.
enum Through {
    Nothing,
    Overlay { steps: Vec<Step>, path: String, notice: String },
    Refused(overlay::Refusal),
}

/// Options, each with the path of the device that it names.
type Named = Vec<(&'static str, String)>;

impl Through {
    fn of(storage: &Storage, able: &Able<'_>, request: &Request<'_>, row: Option<&FsType>) -> Through {
        let (Some(memory), Source::Device(device)) = (able.memory, &request.source) else {
            return Through::Nothing;
        };
        let replay = row.map_or(Replay::Nothing, |row| row.replay);
        // What has no option takes none.
        let asked_not_to = replay != Replay::Always && is_unreplayed(&request.options.data);
        let is_there = overlay::over(storage, &device.id).is_some();
        let journal = Journal::of(storage, request, row);
        let is_hidden = journal.closed && journal.is_written(replay);
        // No option keeps a driver from orphans.
        let is_wanted = journal.clears || !asked_not_to && (is_there || is_hidden);
        if request.window.is_some() || !is_wanted {
            return Through::Nothing;
        }
        if journal.elsewhere && replay == Replay::Always {
            return Through::Refused(overlay::Refusal::JournalElsewhere(shown(device)));
        }
        match overlay::for_reading(storage, &device.id, memory) {
            Ok((_, path)) if is_there => {
                let notice = format!("{} is shown through its overlay {path}", shown(device));
                Through::Overlay { steps: Vec::new(), path, notice }
            }
            Ok((plan, path)) => {
                let shows =
                    replay.option().map(|option| format!("; -o {option} shows that")).unwrap_or_default();
                let is_replayed = journal.is_written(replay) && journal.dirty && !asked_not_to;
                let what = match (is_replayed, journal.clears) {
                    (true, _) => format!(
                        "its journal is replayed in memory ({path}), so the last changes are shown, and the disk stays as it is{shows}"
                    ),
                    (false, true) => format!(
                        "files that were deleted while in use are cleared away in memory alone ({path}), and the disk stays as it is"
                    ),
                    (false, false) => format!(
                        "what its driver writes to its journal goes to memory ({path}), and the disk stays as it is{shows}"
                    ),
                };
                let notice = format!("{}: {what}", shown(device));
                Through::Overlay { steps: plan.steps, path, notice }
            }
            Err(refusal) => Through::Refused(refusal),
        }
    }

    /// An xfs whose log or realtime part has a device of its own: the kernel opens that for writing with ro as well, and a
    /// device that is flagged not at all (fs/xfs/xfs_super.c, xfs_blkdev_get). So where one of them is closed, all are read
    /// through overlays. With the options that name them; `None`: it is on one device.
    fn together(
        storage: &Storage,
        able: &Able<'_>,
        request: &Request<'_>,
        fstype: &str,
    ) -> Result<Option<(Through, Named)>, Refusal> {
        let Source::Device(device) = &request.source else { return Ok(None) };
        if fstype != "xfs" || request.window.is_some() {
            return Ok(None);
        }
        let beside = beside(storage, device, fstype, &request.options.data)?;
        if beside.is_empty() {
            return Ok(None);
        }
        let all: Vec<&Device> =
            std::iter::once(*device).chain(beside.iter().map(|(_, other)| *other)).collect();
        let names = |paths: Vec<String>| beside.iter().map(|(option, _)| *option).zip(paths).collect();
        let own: Vec<String> = beside.iter().map(|(_, other)| shown(other)).collect();
        if !all.iter().any(|one| is_closed(storage, one)) {
            return Ok(Some((Through::Nothing, names(own))));
        }
        let ids: Vec<&Id> = all.iter().map(|one| &one.id).collect();
        match overlay::for_reading_together(storage, &ids, able.memory.unwrap_or(0)) {
            Ok((plan, mut paths)) => {
                let notice = format!(
                    "{} is shown through overlays of it and of {} ({}), with its log replayed in memory, and the disks stay as they are",
                    shown(device),
                    and(&own),
                    paths.join(", ")
                );
                let path = paths.remove(0); // of the device itself
                Ok(Some((Through::Overlay { steps: plan.steps, path, notice }, names(paths))))
            }
            Err(why) => Err(Refusal::OpensLog { path: shown(device), beside: own, why: why.to_string() }),
        }
    }

    /// Why there is no overlay.
    fn none(&self) -> Option<String> {
        match self {
            Through::Overlay { .. } => None,
            Through::Refused(why) => Some(why.to_string()),
            Through::Nothing => {
                Some("losetup -r -f --show makes a device of it that can have one".to_string())
            }
        }
    }
}

/// What a journal would come to, if the file system is mounted read-only.
struct Journal {
    dirty: bool,
    /// Nothing may be written to what it stands on.
    closed: bool,
    /// The device's own flag says so, and keeps the kernel from it.
    flagged: bool,
    /// It is on another device, which an overlay of this one does not cover: replayed through one, it would be empty
    /// afterwards (fs/jbd2/journal.c), and what was in it gone with the memory.
    elsewhere: bool,
    /// Orphans wait, or it is not known that none do, and nothing keeps the driver from them. A second mount meets none: the
    /// kernel shares what is mounted or says EBUSY (fs/super.c, get_tree_bdev_flags).
    clears: bool,
}

impl Journal {
    fn of(storage: &Storage, request: &Request<'_>, row: Option<&FsType>) -> Journal {
        // -t may name what is not the first.
        let has_orphans = |report: &DiskReport| report.signatures.iter().any(|sign| sign.orphans);
        let is_dirty = |report: &DiskReport| report.signatures.first().is_some_and(|sign| sign.dirty);
        let is_elsewhere =
            |report: &DiskReport| report.signatures.first().is_some_and(|sign| sign.journal_on.is_some());
        match &request.source {
            Source::Device(device) if request.window.is_none() => Journal {
                dirty: device.report().is_some_and(is_dirty),
                closed: is_closed(storage, device),
                flagged: device.block.read_only,
                elsewhere: device.report().is_some_and(is_elsewhere),
                clears: row.is_some_and(|row| row.orphans)
                    && device.report().is_none_or(has_orphans)
                    && !device.block.read_only
                    && !is_mounted(storage, device)
                    && !overlay::is_throw_away(storage, device),
            },
            // The loop device is a read-only one.
            Source::Device(device) => {
                let report = request.window.or(device.report());
                let elsewhere = report.is_some_and(is_elsewhere);
                let dirty = report.is_some_and(is_dirty);
                Journal { dirty, closed: true, flagged: true, elsewhere, clears: false }
            }
            Source::File { report, .. } => {
                let report = request.window.unwrap_or(report);
                let elsewhere = is_elsewhere(report);
                Journal { dirty: is_dirty(report), closed: true, flagged: true, elsewhere, clears: false }
            }
            Source::Word(_) => {
                Journal { dirty: false, closed: false, flagged: false, elsewhere: false, clears: false }
            }
        }
    }

    /// Whether an overlay has to take what the driver would write to it.
    fn is_written(&self, replay: Replay) -> bool {
        match replay {
            Replay::Nothing | Replay::Never => false,
            // One that is clean is left alone by the option.
            Replay::Unless(_) => self.dirty && !self.elsewhere,
            Replay::Always => self.dirty || !self.flagged,
        }
    }

    /// Under the guard it is not replayed; a dirty one hides the last changes, and that is said.
    fn leave_alone(&self, replay: Replay, data: &mut Vec<String>, notices: &mut Vec<String>, name: &str) {
        // What is said of the device says nothing of the one that the journal is on.
        if replay == Replay::Nothing || !(self.closed || self.elsewhere) {
            return;
        }
        // Of a device whose own flag is set, the kernel leaves a clean journal alone by itself.
        let asks = self.dirty || !self.flagged || self.elsewhere;
        let is_new = |option: &&str| asks && !data.iter().any(|word| word == option);
        data.extend(replay.option().filter(is_new).map(str::to_string));
        if self.dirty {
            let place = if self.elsewhere { " (on another device)" } else { "" };
            notices.push(format!(
                "{name}: its journal{place} was not replayed, so the last changes are not shown"
            ));
        }
    }
}

/// The type: given, or probed.
fn fstype(storage: &Storage, request: &Request<'_>) -> Result<String, Refusal> {
    let asked = request.types.filter(|types| *types != "auto");
    let one = asked.filter(|types| !types.contains(',') && !types.starts_with("no"));
    let (path, report) = match &request.source {
        Source::Word(word) => return Ok(of_word(word, asked).to_string()),
        Source::File { path, report, .. } => ((*path).to_string(), Some(request.window.unwrap_or(report))),
        Source::Device(device) => (shown(device), request.window.or(device.report())),
    };
    if let (Source::Device(device), None) = (&request.source, request.window) {
        refuse_used(storage, device, one, request.options.read_only())?;
    }
    if let Some(one) = one {
        return Ok(one.to_string());
    }
    let found = probed(&path, report, request)?;
    match asked {
        Some(asked) if !fits(&found, asked) => {
            Err(Refusal::OtherType { path, found, asked: asked.to_string() })
        }
        Some(_) | None => Ok(found),
    }
}

/// `nfs` for `host:/path`, `cifs` for `//host/share`, as mount(8) guesses by the name alone.
fn of_word<'a>(word: &str, asked: Option<&'a str>) -> &'a str {
    match asked {
        Some(asked) => asked,
        None if word.starts_with("//") || word.starts_with("\\\\") => "cifs",
        None if word.contains(":/") => "nfs",
        None => "",
    }
}

/// Whether a word can only be a server's.
pub fn is_network(word: &str) -> bool {
    !word.starts_with("/dev/") && !of_word(word, None).is_empty()
}

/// A list after -t: `ext3,ext4`, or with `no` before it all but those.
fn fits(found: &str, list: &str) -> bool {
    match list.strip_prefix("no") {
        Some(but) => !but.split(',').any(|one| one.strip_prefix("no").unwrap_or(one) == found),
        None => list.split(',').any(|one| one == found),
    }
}

/// Members, what they show of their array, and what something else already stands on. A member can be looked at by
/// whoever names the type.
fn refuse_used(
    storage: &Storage,
    device: &Device,
    given: Option<&str>,
    read_only: bool,
) -> Result<(), Refusal> {
    if let Some(refusal) = consent::of_array(storage, device).filter(|_| given.is_none() || !read_only) {
        return Err(refusal.into());
    }
    let path = shown(device);
    // Through its overlay a device is still read.
    let is_other = |upper: &&Device| !(read_only && overlay::is_overlay(upper));
    let upper = device.upper.iter().filter_map(|id| storage.get(id)).filter(is_other);
    let upper: Vec<String> = upper.map(shown).collect();
    let signature = device.signature().filter(|signature| is_part(signature));
    match (signature, given) {
        (Some(signature), None) => Err(Refusal::Part { path, format: format_of(signature), upper }),
        (Some(signature), Some(fstype)) if !read_only => {
            Err(Refusal::WritesToPart { path, format: signature.format.clone(), fstype: fstype.to_string() })
        }
        (None, _) if !upper.is_empty() => Err(Refusal::Used { path, upper }),
        (Some(_), Some(_)) | (None, _) => Ok(()),
    }
}

fn probed(path: &str, report: Option<&DiskReport>, request: &Request<'_>) -> Result<String, Refusal> {
    let path = path.to_string();
    let unread = |reason: &String| Refusal::Unread { path: path.clone(), reason: reason.clone() };
    let Some(report) = report else {
        let Source::Device(device) = &request.source else { return Err(unread(&String::new())) };
        return Err(match &device.report {
            Observed::Hung { .. } => consent::Refusal::Hangs(device.path.clone()).into(),
            Observed::Failed { reason } | Observed::Skipped { reason } => unread(reason),
            Observed::Examined { .. } => Refusal::Nothing { path: path.clone(), size: device.block.size },
        });
    };
    if ambiguous(report) {
        let formats = report.signatures.iter().map(|signature| signature.format.clone()).collect();
        return Err(Refusal::Ambiguous { path, formats });
    }
    match (report.signatures.first(), &report.table) {
        (Some(signature), _) if is_part(signature) => {
            Err(Refusal::Part { path, format: format_of(signature), upper: Vec::new() })
        }
        (Some(signature), _) if signature.usage == Usage::Other => {
            Err(Refusal::NoFileSystem { path, format: signature.format.clone() })
        }
        (Some(signature), _) => Ok(signature.format.clone()),
        (None, Some(table)) => {
            let word = |entry: &ondisk::table::Entry| match request.source {
                Source::Device(_) => crate::build::partition_name(&path, entry.number),
                Source::File { .. } | Source::Word(_) => format!("-o offset={}", entry.extent.start),
            };
            let partitions = table.partitions.iter().filter(|entry| !entry.extended).map(word).collect();
            Err(Refusal::Partitioned { path, partitions })
        }
        (None, None) => match (&report.errors[..], &request.source) {
            ([error, ..], _) => Err(unread(error)),
            ([], Source::Device(device)) => Err(Refusal::Nothing { path, size: device.block.size }),
            ([], Source::File { size, .. }) => Err(Refusal::Nothing { path, size: *size }),
            ([], Source::Word(_)) => Err(Refusal::Nothing { path, size: 0 }),
        },
    }
}

/// A bind or a move; with flags, a remount of the copy, as the kernel wants it.
pub fn rebind(source: &str, target: &str, options: &Options, mkdir: bool) -> Vec<Step> {
    let step = |flags: Vec<String>| Step::Mount {
        source: source.to_string(),
        target: target.to_string(),
        fstype: String::new(),
        flags,
        data: String::new(),
    };
    let word = match options.kind {
        Kind::BindAll => "rbind",
        Kind::Move => "move",
        Kind::Bind | Kind::New => "bind",
    };
    let mut steps = Vec::new();
    if mkdir {
        steps.push(Step::MakeDirectory { path: target.to_string() });
    }
    steps.push(step(vec![word.to_string()]));
    if options.kind != Kind::Move && !options.flags.is_empty() {
        let flags = ["remount", "bind"].iter().chain(&options.flags);
        steps.push(step(flags.map(|flag| (*flag).to_string()).collect()));
    }
    steps.extend(spread(options, target));
    steps
}

/// One mount(2) each: the kernel takes no other flag beside.
pub fn spread(options: &Options, target: &str) -> Vec<Step> {
    let step = |how: &&str| Step::Mount {
        source: "none".to_string(),
        target: target.to_string(),
        fstype: String::new(),
        flags: vec![(*how).to_string()],
        data: String::new(),
    };
    options.spread.iter().map(step).collect()
}

/// Per-mount flags of mountinfo that a remount would clear if they were not said again.
const KEPT: &[&str] =
    &["ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "relatime", "nosymfollow"];
/// What mountinfo shows of a journal that was left alone.
const UNREPLAYED: &[&str] =
    &["noload", "norecovery", "nologreplay", "rescue=nologreplay", "disable_roll_forward", "nochanges"];

fn is_unreplayed(data: &[String]) -> bool {
    data.iter().any(|word| UNREPLAYED.contains(&word.as_str()))
}

/// The steps that change a mount that is there. With `dir_alone` the flags that it has stay, unless the
/// command says otherwise (mount(8), on remount).
pub fn remount(
    storage: &Storage,
    mount: &Mount,
    options: &Options,
    dir_alone: bool,
    by: &str,
) -> Result<Plan, Refusal> {
    let mut all = Options::default();
    if dir_alone {
        let kept = mount.options.split(',').filter(|word| KEPT.contains(word));
        // Cannot fail: words of a table.
        kept.for_each(|word| drop(all.add(word)));
        // A file system that is read-only as a whole shows it in its own options alone.
        if mount.super_options.split(',').any(|word| word == "ro") {
            drop(all.add("ro"));
        }
    }
    options.typed.iter().for_each(|word| drop(all.add(word)));
    let was_read_only = mount.super_options.split(',').any(|word| word == "ro");
    let device = storage
        .devices
        .iter()
        .find(|device| device.node && (device.block.major, device.block.minor) == (mount.major, mount.minor))
        // btrfs has a device number of its own.
        .or_else(|| storage.devices.iter().find(|device| shown(device) == mount.source));
    let mut plan = Plan { fstype: mount.fstype.clone(), ..Plan::default() };
    let bind = options.kind == Kind::Bind;
    if let Some(device) = device.filter(|_| !all.read_only() && !bind) {
        let unreplayed = |word: &str| UNREPLAYED.iter().any(|known| word.contains(known));
        if was_read_only && mount.super_options.split(',').any(unreplayed) {
            return Err(Refusal::Unreplayed { source: shown(device), target: mount.target.clone() });
        }
        if let Some((overlay, of)) = overlay::made_by_mount(storage, device).filter(|_| was_read_only) {
            return Err(Refusal::InMemory { overlay, of, target: mount.target.clone() });
        }
        if was_read_only
            && mount.fstype == "ntfs3"
            && device.signature().is_some_and(|found| found.hibernated)
        {
            return Err(Refusal::Hibernated { path: shown(device) });
        }
        let mut others = siblings(storage, device)?;
        let words: Vec<String> = mount.super_options.split(',').map(str::to_string).collect();
        let beside = beside_to_write(storage, device, &mount.fstype, &words)?;
        others.extend(beside.into_iter().map(|(_, other)| other));
        plan.opens = opens_all(storage, device, &others, by)?;
        // The mount names one of them, and the guard may be off already.
        if !others.is_empty() {
            let paths = others.iter().map(|other| other.path.clone()).collect();
            plan.opens.push(Step::Save { paths });
        }
    }
    let mut data = options.data.clone();
    // The flags of a bind are the mount point's alone.
    calm(fstype::row(&mount.fstype).filter(|_| !bind), &mut data, &mount.super_options);
    let words = ["remount"].into_iter().chain(bind.then_some("bind")).chain(all.flags.iter().copied());
    plan.mounts.push(Step::Mount {
        source: mount.source.clone(),
        target: mount.target.clone(),
        fstype: String::new(),
        flags: words.map(str::to_string).collect(),
        data: data.join(","),
    });
    plan.mounts.extend(spread(options, &mount.target));
    Ok(plan)
}

/// What is mounted, as mount(8) without arguments prints it. `name` gives a source its better name,
/// `labels` are by source.
pub fn listing(
    mounts: &[Mount],
    types: Option<&str>,
    name: &dyn Fn(&str) -> String,
    labels: &BTreeMap<String, String>,
) -> String {
    let mut text = String::new();
    for mount in mounts.iter().filter(|mount| types.is_none_or(|list| fits(&mount.fstype, list))) {
        let label = labels.get(&mount.source).map(|label| format!(" [{}]", Untrusted(label)));
        text += &format!(
            "{} on {} type {} ({}){}\n",
            Untrusted(&name(&mount.source)),
            Untrusted(&mount.target),
            Untrusted(&mount.fstype),
            Untrusted(&merged(&mount.options, &mount.super_options)),
            label.unwrap_or_default()
        );
    }
    text
}

/// Options of the mount and of the file system as one list: read-only when either is
/// (merge_optstr in libmount/src/fs.c).
pub fn merged(of_mount: &str, of_super: &str) -> String {
    if of_super.is_empty() || of_mount == of_super {
        return of_mount.to_string();
    }
    let is_ro = |text: &str| text.split(',').any(|word| word == "ro");
    let first = if is_ro(of_mount) || is_ro(of_super) { "ro" } else { "rw" };
    let rest = |text: &'_ str| -> Vec<String> {
        text.split(',').filter(|word| !matches!(*word, "ro" | "rw" | "")).map(str::to_string).collect()
    };
    let words = [vec![first.to_string()], rest(of_mount), rest(of_super)].concat();
    words.join(",")
}

/// errno(3), of those that mount(2) has a meaning of its own for.
pub mod errno {
    pub const PERM: i32 = 1;
    pub const NOENT: i32 = 2;
    pub const IO: i32 = 5;
    pub const NXIO: i32 = 6;
    pub const ACCES: i32 = 13;
    pub const NOTBLK: i32 = 15;
    pub const BUSY: i32 = 16;
    pub const NODEV: i32 = 19;
    pub const NOTDIR: i32 = 20;
    pub const INVAL: i32 = 22;
    pub const ROFS: i32 = 30;
    pub const BADMSG: i32 = 74;
    pub const UCLEAN: i32 = 117;
    pub const NOMEDIUM: i32 = 123;
}

/// A mount(2) that failed.
#[derive(Clone, Copy, Debug)]
pub struct Failed<'a> {
    pub errno: i32,
    /// The errno in words.
    pub words: &'a str,
    pub source: &'a str,
    pub fstype: &'a str,
    pub read_only: bool,
    pub rw: bool,
    pub remount: bool,
    /// What the kernel said about it, the last lines.
    pub log: &'a [String],
}

/// Why it failed and what to do next, in mount(8)'s words where it has them.
pub fn failure(failed: &Failed<'_>, mounts: &[Mount], is_same: &dyn Fn(&Mount) -> bool) -> String {
    let Failed { source, fstype, .. } = failed;
    let said = failed.log.last().map(|line| format!(": {}", Untrusted(line))).unwrap_or_default();
    let checked = fstype::row(fstype).is_some_and(|row| row.checker.is_some());
    let missing = *fstype == "btrfs" && failed.log.iter().any(|line| line.ends_with(" is missing"));
    let look = match (missing, checked) {
        (true, _) => format!("; mount -o ro,degraded {source} goes without the device that is missing"),
        (false, true) => format!("; fsck -n {source} looks what is wrong"),
        (false, false) => String::new(),
    };
    match failed.errno {
        errno::PERM => "permission denied: only root mounts".to_string(),
        // A driver says this too, of a cipher or a codepage that it cannot have.
        errno::NOENT if failed.log.is_empty() => "mount point does not exist".to_string(),
        errno::NOTDIR => "mount point is not a directory".to_string(),
        errno::BUSY => match mounts.iter().find(|mount| is_same(mount)) {
            Some(mount) if is_read_only(mount) && !failed.read_only => format!(
                "{source} already mounted read-only on {0}: mount -o remount,rw {0}",
                Untrusted(&mount.target)
            ),
            Some(mount) if !is_read_only(mount) && failed.read_only => format!(
                "{source} already mounted for writing on {0}: mount --bind -o ro {0} DIRECTORY shows it a second time",
                Untrusted(&mount.target)
            ),
            Some(mount) => format!("{source} already mounted on {}", Untrusted(&mount.target)),
            None => format!("{source} already mounted or mount point busy{said}"),
        },
        errno::NODEV => format!("unknown filesystem type '{}'", Untrusted(fstype)),
        errno::NOTBLK => format!("{source} is not a block device"),
        errno::NXIO => format!("{source} is not a valid block device{said}"),
        errno::NOMEDIUM => format!("no medium found on {source}"),
        errno::ROFS | errno::ACCES if failed.read_only => format!("cannot mount {source} read-only{said}"),
        errno::ROFS | errno::ACCES if failed.rw || failed.remount => {
            format!("{source} is write-protected but explicit read-write mode requested{said}")
        }
        errno::IO => format!("can't read superblock on {source}{said}{look}"),
        errno::BADMSG | errno::UCLEAN => {
            format!("mount failed: Structure needs cleaning; {source} is probably damaged{said}{look}")
        }
        errno::INVAL if failed.remount => format!("bad option{said}"),
        errno::INVAL => format!("wrong fs type, bad option or bad superblock on {source}{said}{look}"),
        _ if missing => format!("mount(2) system call failed: {}{said}{look}", failed.words),
        _ => format!("mount(2) system call failed: {}{said}", failed.words),
    }
}

pub fn is_read_only(mount: &Mount) -> bool {
    mount.super_options.split(',').any(|word| word == "ro")
}

/// How a process keeps a mount busy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub pid: u32,
    pub command: String,
    /// `works in /mnt/etc`, `has /mnt/etc/fstab open`
    pub how: String,
    /// The person's own shell, which has to leave the place.
    pub in_way: bool,
}

/// Most processes that are named.
const NAMED: usize = 3;

/// Why it cannot be unmounted: who holds it. `more` are the kernel's own users: mounts below, loop
/// devices, swap files.
pub fn busy(target: &str, holders: &[Holder], more: &[String]) -> String {
    let named = holders.iter().take(NAMED).map(|holder| {
        format!("{} (process {}) {}", Untrusted(&holder.command), holder.pid, Untrusted(&holder.how))
    });
    let mut parts: Vec<String> = more.iter().cloned().chain(named).collect();
    if holders.len() > NAMED {
        parts.push(format!("and {} more", holders.len() - NAMED));
    }
    // Nobody wants to be told to kill the shell that is typed into.
    let others = holders.iter().filter(|holder| !holder.in_way);
    let pids: Vec<String> = others.map(|holder| holder.pid.to_string()).collect();
    let leave = if pids.len() < holders.len() { "cd / first" } else { "" };
    match (&parts[..], &pids[..]) {
        _ if !leave.is_empty() && pids.is_empty() => {
            format!("target is busy: {}, which is your own shell: {leave}", parts.join(", "))
        }
        _ if !leave.is_empty() => {
            format!(
                "target is busy: {}; {leave}, then end the others, or kill {}",
                parts.join(", "),
                pids.join(" ")
            )
        }
        ([], _) => format!("target is busy: umount -l {target} detaches it now and lets it go when it can"),
        (_, []) => format!("target is busy: {}", parts.join(", ")),
        (_, [pid]) => format!("target is busy: {}; end what it does, or kill {pid}", parts.join(", ")),
        (_, pids) => {
            format!("target is busy: {}; end what they do, or kill {}", parts.join(", "), pids.join(" "))
        }
    }
}

#[cfg(test)]
#[path = "mount_tests.rs"]
mod tests;
