//! What stood on devices before a command of ours wrote to them: /run/lifeboat/undo/N-VERB, which holds for each device a
//! sparse file of its length with the sectors of its table, headers and superblocks, and `index.json`, which says what
//! they are. `apply` saves, `rescue undo` shows and puts back.
//!
//! The store is a tmpfs of its own with a total size. What was saved first is what a person wants back most: it is kept,
//! and when the store is full no more is saved, which is said and stops no rescue. What is as it was saved last is not
//! saved once more, but linked.

use crate::capture::write_sparse;
use anyhow::Context as _;
use model::undo::{Identity, Kind, layout};
use ondisk::{DiskReport, Extent, FailedRead, Geometry, ReadAt, Windows, examine_recorded};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};

pub const INDEX: &str = "index.json";
/// Of one device: what probes read is below a hundredth of it, a key of LUKS takes 256 KiB.
pub const EACH: u64 = 16 << 20;
/// Read at once.
const CHUNK: u64 = 64 << 10;

/// What a worker made of one device.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kept {
    pub report: DiskReport,
    pub windows: Vec<Extent>,
    /// How many bytes did not fit.
    pub beyond: u64,
    pub failed: Vec<FailedRead>,
}

/// Reads what tells what is on a device, and `asked`, in whole sectors, into a new file that is as long.
pub fn keep(
    device: &dyn ReadAt,
    geometry: Geometry,
    asked: &[Extent],
    limit: u64,
    into: &Path,
) -> anyhow::Result<Kept> {
    let (report, record) = examine_recorded(device, geometry, &[], limit);
    let mut kept = Kept { report, windows: Vec::new(), beyond: record.windows.beyond, failed: record.failed };
    let mut windows = Windows::new(device.size(), limit);
    let keys = ondisk::volume::luks::key_areas(device);
    let own = model::undo::asked(&kept.report);
    for extent in asked.iter().chain(&record.windows.extents()).chain(&keys).chain(&own) {
        for piece in sectors(*extent, geometry.logical.into(), device.size()) {
            match device.bytes(piece.start, piece.length as usize) {
                Ok(bytes) => windows.note(piece.start, &bytes),
                Err(error) => {
                    let Extent { start, length } = piece;
                    let read = FailedRead { start, length, error: error.to_string() };
                    if !kept.failed.contains(&read) {
                        kept.failed.push(read);
                    }
                }
            }
        }
    }
    kept.windows = windows.extents();
    kept.beyond += windows.beyond;
    let written = write_sparse(into, &windows).with_context(|| format!("write {}", into.display()));
    written.inspect_err(|_| {
        // It may not have been made.
        let _ = fs::remove_file(into);
    })?;
    Ok(kept)
}

/// The whole sectors that hold an extent, in pieces that are read at once.
fn sectors(extent: Extent, sector: u64, size: u64) -> Vec<Extent> {
    let sector = sector.clamp(512, CHUNK);
    let end = extent.start.saturating_add(extent.length).min(size);
    let end = end.checked_next_multiple_of(sector).unwrap_or(end).min(size);
    let mut at = extent.start - extent.start % sector;
    let mut pieces = Vec::new();
    while at < end {
        // A piece ends where a chunk does, which a key area or a table spans few of.
        let stop = (at - at % CHUNK).saturating_add(CHUNK).min(end);
        pieces.push(Extent { start: at, length: stop - at });
        at = stop;
    }
    pieces
}

/// `index.json`: one command, and what it was going to write to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub schema: u32,
    pub number: u64,
    /// Seconds since boot.
    pub at: f64,
    /// As typed.
    pub by: String,
    /// Of the command: all that it saves is one entry.
    pub process: u32,
    pub devices: Vec<Saved>,
    /// Devices of which nothing could be saved.
    #[serde(default)]
    pub missed: Vec<Missed>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    pub identity: Identity,
    pub logical_block: u32,
    /// In the entry's directory.
    pub file: String,
    /// `md superblock`
    pub what: String,
    pub windows: Vec<Window>,
    #[serde(default)]
    pub failed: Vec<FailedRead>,
    /// Bytes that were above the limit.
    #[serde(default)]
    pub beyond: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    pub start: u64,
    pub length: u64,
    pub kind: Kind,
    pub sha256: String,
}

impl Window {
    pub fn extent(&self) -> Extent {
        Extent { start: self.start, length: self.length }
    }

    /// Whether what was saved of it is nothing but zeros. False above [`EACH`], the most that is saved of a device.
    pub fn is_zeros(&self) -> bool {
        if self.length > EACH {
            return false;
        }
        let mut hash = sha2::Sha256::new();
        let zeros = [0; 4096];
        let mut left = self.length as usize;
        while left > 0 {
            let part = &zeros[..left.min(zeros.len())];
            hash.update(part);
            left -= part.len();
        }
        digits(hash) == self.sha256
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missed {
    pub path: String,
    pub reason: String,
}

impl Saved {
    /// What a worker kept, as the index describes it. `asked`: windows that stay one piece, and of which kind they are.
    pub fn of(
        identity: Identity,
        geometry: Geometry,
        file: &Path,
        kept: Kept,
        asked: &[(Extent, Kind)],
    ) -> io::Result<Saved> {
        let sector = u64::from(geometry.logical.max(1));
        let layout = layout(&kept.report, identity.size, sector);
        let opened = File::open(file)?;
        let mut windows = Vec::new();
        let holds = |extent: &Extent| kept.windows.iter().any(|window| window.covers(extent));
        let asked: Vec<_> = asked.iter().filter(|(extent, _)| holds(extent)).collect();
        for (extent, kind) in &asked {
            windows.push((*extent, *kind));
        }
        let known: Vec<Extent> = asked.iter().map(|(extent, _)| *extent).collect();
        let rest: Vec<Extent> = kept.windows.iter().flat_map(|window| window.without(&known)).collect();
        windows.extend(layout.cut(&rest, sector));
        windows.sort_by_key(|(extent, _)| *extent);
        let windows = windows.into_iter().map(|(Extent { start, length }, kind)| {
            Ok(Window { start, length, kind, sha256: digest(&opened, Extent { start, length })? })
        });
        Ok(Saved {
            identity,
            logical_block: geometry.logical,
            file: file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            what: layout.what,
            windows: windows.collect::<io::Result<_>>()?,
            failed: kept.failed,
            beyond: kept.beyond,
        })
    }

    /// Whether another save holds the same bytes.
    fn is_as(&self, other: &Saved) -> bool {
        self.identity == other.identity && self.windows == other.windows && self.failed == other.failed
    }
}

/// SHA-256 of a window of a file, in hexadecimal digits.
pub fn digest(file: &File, window: Extent) -> io::Result<String> {
    let mut hash = sha2::Sha256::new();
    let mut bytes = vec![0; CHUNK as usize];
    let end = window.start.checked_add(window.length).ok_or(io::ErrorKind::InvalidInput)?;
    let mut at = window.start;
    while at < end {
        let part = &mut bytes[..CHUNK.min(end - at) as usize];
        file.read_exact_at(part, at)?;
        hash.update(&*part);
        at += part.len() as u64;
    }
    Ok(digits(hash))
}

fn digits(hash: sha2::Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The directory of all entries.
#[derive(Clone, Debug)]
pub struct Store(PathBuf);

impl Store {
    pub fn at(directory: &Path) -> Store {
        Store(directory.to_path_buf())
    }

    /// By number; what is not understood is left out.
    pub fn entries(&self) -> Vec<(PathBuf, Entry)> {
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten().filter_map(|place| {
            let bytes = fs::read(place.path().join(INDEX)).ok()?;
            Some((place.path(), serde_json::from_slice::<Entry>(&bytes).ok()?))
        });
        let mut entries: Vec<_> = entries.collect();
        entries.sort_by_key(|(_, entry)| entry.number);
        entries
    }

    /// Of one that is not understood too.
    fn numbers(&self) -> impl Iterator<Item = u64> {
        let names = fs::read_dir(&self.0).into_iter().flatten().flatten().map(|place| place.file_name());
        names.filter_map(|name| name.to_str()?.split_once('-')?.0.parse().ok())
    }

    /// A directory for a command's files until they are whole: a worker that comes back after its deadline finds no place
    /// to write.
    pub fn unfinished(&self) -> anyhow::Result<PathBuf> {
        let path = self.0.join(format!(".{}", std::process::id()));
        let make = || {
            directory(&self.0)?;
            remove(&path)?;
            directory(&path)
        };
        make().with_context(|| format!("make {}", path.display()))?;
        Ok(path)
    }

    /// Takes what a command saved, whose files lie in `from`, into its entry, a new one or that of an earlier step. Where it
    /// is: in its own directory, or, where all is as it was saved last, in that one.
    pub fn take(
        &self,
        from: &Path,
        by: &str,
        at: f64,
        saved: Vec<Saved>,
        missed: Vec<Missed>,
    ) -> anyhow::Result<PathBuf> {
        let entries = self.entries();
        let process = std::process::id();
        let last = |one: &Saved| {
            entries.iter().rev().find_map(|(place, entry)| {
                let other = entry.devices.iter().find(|other| other.identity == one.identity)?;
                Some((place, other))
            })
        };
        let own = entries.iter().find(|(_, entry)| entry.process == process && entry.by == by);
        let as_before = |one: &Saved| last(one).filter(|(_, other)| one.is_as(other));
        let places: Option<Vec<&PathBuf>> =
            saved.iter().map(|one| as_before(one).map(|(place, _)| place)).collect();
        if let (None, true, Some(places)) = (own, missed.is_empty(), places)
            && let Some((first, rest)) = places.split_first()
            && rest.iter().all(|place| place == first)
        {
            return Ok(first.to_path_buf());
        }
        let (place, mut entry) = match own {
            Some((place, entry)) => (place.clone(), entry.clone()),
            None => {
                let number = self.numbers().max().unwrap_or(0).saturating_add(1);
                let entry = Entry {
                    schema: 1,
                    number,
                    at,
                    by: by.to_string(),
                    process,
                    devices: Vec::new(),
                    missed: Vec::new(),
                };
                (self.0.join(format!("{number}-{}", verb(by))), entry)
            }
        };
        let shown = place.display().to_string();
        directory(&place).with_context(|| format!("make {shown}"))?;
        for one in saved {
            // What it was before the command's first step is what counts.
            if entry.devices.iter().any(|known| known.identity == one.identity) {
                continue;
            }
            let to = place.join(&one.file);
            let linked = as_before(&one).map(|(place, other)| fs::hard_link(place.join(&other.file), &to));
            if !matches!(linked, Some(Ok(()))) {
                fs::rename(from.join(&one.file), &to).with_context(|| format!("make {}", to.display()))?;
            }
            entry.devices.push(one);
        }
        entry.missed.extend(missed);
        let text = serde_json::to_vec_pretty(&entry).context("write JSON")?;
        host::statefile::replace(&place.join(INDEX), &text, 0o600)
            .with_context(|| format!("write {shown}/{INDEX}"))?;
        Ok(place)
    }
}

fn directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// `rescue assemble --rw` and `mount /dev/sda1 /mnt`, for a directory's name.
fn verb(by: &str) -> String {
    let word = by.split(' ').find(|word| *word != "rescue").unwrap_or_default();
    word.chars().filter(|c| c.is_ascii_alphanumeric()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 4 << 20;

    fn swap(label: &[u8]) -> Vec<u8> {
        let mut device = vec![0; SIZE as usize];
        device[1024] = 1;
        device[1029] = 3;
        device[1052..1052 + label.len()].copy_from_slice(label);
        device[0xff6..0x1000].copy_from_slice(b"SWAPSPACE2");
        device
    }

    fn saved(store: &Store, path: &str, device: &dyn ReadAt) -> (PathBuf, Saved) {
        let into = store.unfinished().unwrap();
        let file = into.join(path.trim_start_matches("/dev/"));
        let kept = keep(device, Geometry::default(), &[], EACH, &file).unwrap();
        let identity =
            Identity { path: path.to_string(), size: SIZE, diskseq: Some(7), ..Identity::default() };
        let saved = Saved::of(identity, Geometry::default(), &file, kept, &[]).unwrap();
        (into, saved)
    }

    #[test]
    fn a_command_is_one_entry_that_holds_what_was_there_before_its_first_step() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::at(&directory.path().join("undo"));
        let take = |by: &str, path: &str, device: &dyn ReadAt| {
            let (into, one) = saved(&store, path, device);
            store.take(&into, by, 5.0, vec![one], Vec::new()).unwrap()
        };
        let first = take("mount /dev/sda1 /mnt", "/dev/sda1", &swap(b"first"));
        assert_eq!(first.file_name().unwrap(), "1-mount");
        let again = take("mount /dev/sda1 /mnt", "/dev/sda1", &swap(b"second"));
        assert_eq!(take("mount /dev/sda1 /mnt", "/dev/sda2", &swap(b"other")), first);
        assert_eq!(again, first);
        let entries = store.entries();
        assert_eq!(entries.len(), 1);
        let devices = &entries[0].1.devices;
        assert_eq!(devices.len(), 2);
        let file = fs::read(first.join(&devices[0].file)).unwrap();
        assert_eq!(&file[1052..1057], b"first");
        let opened = File::open(first.join(&devices[0].file)).unwrap();
        for window in &devices[0].windows {
            assert_eq!(digest(&opened, window.extent()).unwrap(), window.sha256);
            assert_eq!(window.kind, Kind::FileSystem);
        }
    }

    /// Of a Promise, two volumes' metadata, 14 sectors apart: the second is no probe's to read.
    #[test]
    fn all_that_a_firmware_raid_keeps_on_a_disk_is_saved_and_nothing_of_its_volumes() {
        let mut device = vec![7; SIZE as usize];
        let first = SIZE - 63 * 512;
        for at in [first, first + 14 * 512] {
            device[at as usize..at as usize + 24].copy_from_slice(b"Promise Technology, Inc.");
        }
        let directory = tempfile::tempdir().unwrap();
        let (into, one) = saved(&Store::at(directory.path()), "/dev/sda", &device);
        let own = one.windows.iter().filter(|window| window.kind != Kind::Content);
        let own: Vec<Extent> = own.map(Window::extent).collect();
        let area = |start| Extent { start, length: 2048 };
        assert_eq!(
            (one.what.as_str(), own),
            ("promise_fasttrack_raid_member metadata", vec![area(first), area(first + 14 * 512)])
        );
        let file = fs::read(into.join("sda")).unwrap();
        assert_eq!(file[first as usize + 14 * 512 + 2047], 7);
    }

    #[test]
    fn what_is_as_it_was_saved_last_takes_no_more_room() {
        use std::os::unix::fs::MetadataExt;
        let directory = tempfile::tempdir().unwrap();
        let store = Store::at(directory.path());
        let (into, one) = saved(&store, "/dev/sda1", &swap(b"first"));
        let first = store.take(&into, "rescue mount --rw a", 5.0, vec![one], Vec::new()).unwrap();
        let (into, one) = saved(&store, "/dev/sda1", &swap(b"first"));
        let same = store.take(&into, "fsck b", 6.0, vec![one.clone()], Vec::new()).unwrap();
        assert_eq!(same, first, "nothing is new");
        let (into, one) = saved(&store, "/dev/sda1", &swap(b"first"));
        let missed = vec![Missed { path: "/dev/sdb".to_string(), reason: "it hangs".to_string() }];
        let second = store.take(&into, "fsck b", 6.0, vec![one], missed).unwrap();
        assert_eq!(second.file_name().unwrap(), "2-fsck");
        let inode = |place: &Path| fs::metadata(place.join("sda1")).unwrap().ino();
        assert_eq!(inode(&first), inode(&second));
        remove(&first).unwrap();
        let entries = store.entries();
        assert_eq!((entries.len(), entries[0].1.missed.len()), (1, 1));
        let (into, one) = saved(&store, "/dev/sda1", &swap(b"third"));
        let third = store.take(&into, "fsck c", 7.0, vec![one], Vec::new()).unwrap();
        assert_eq!(third.file_name().unwrap(), "3-fsck");
    }

    #[test]
    fn what_is_to_be_written_over_is_saved_in_one_piece() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("sda");
        let asked = Extent { start: 1 << 20, length: 200 << 10 };
        let mut device = swap(b"a");
        device[1 << 20..(1 << 20) + (200 << 10)].fill(9);
        let kept = keep(&device, Geometry::default(), &[asked], EACH, &file).unwrap();
        let identity = Identity { size: SIZE, ..Identity::default() };
        let saved = Saved::of(identity, Geometry::default(), &file, kept, &[(asked, Kind::Header)]).unwrap();
        let window = saved.windows.iter().find(|window| window.extent() == asked).unwrap();
        assert_eq!(window.kind, Kind::Header);
        let sum: u64 = saved.windows.iter().map(|window| window.length).sum();
        assert!(
            saved.windows.windows(2).all(|pair| pair[0].start + pair[0].length <= pair[1].start),
            "{sum}"
        );
    }

    #[test]
    fn a_sector_that_cannot_be_read_hides_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let device = swap(b"a");
        let failed = [FailedRead { start: SIZE - 512, length: 512, error: "EIO".to_string() }];
        let device = ondisk::window::Failing { source: &device, failed: &failed };
        let kept = keep(&device, Geometry::default(), &[], EACH, &directory.path().join("sda")).unwrap();
        assert!(!kept.failed.is_empty() && kept.windows.iter().any(|window| window.start == 0));
    }
}
