//! md arrays by the kernel's own interface. Whatever makes the kernel touch a member is done by a worker, with a
//! deadline; whatever does not end as it should is taken apart again.

use super::Made;
use super::common::{ask, patiently, the_kernel_says};
use crate::report::{notice, without_errno};
use anyhow::{Context as _, bail, ensure};
use contract::facts::Block;
use contract::ledger::Mark;
use contract::wire::WorkerRequest;
use host::kmsg::Kmsg;
use host::md;
use host::sys::uevent;
use host::workers::{Job, Outcome, Pool, SELF};
use host::{Act, Root};
use model::plan::{MdBare, MdMember, MdStart, Step};
use ondisk::DiskReport;
use ondisk::volume::Volume;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::path::Path;
use std::time::{Duration, Instant};

/// Time for one member to be read, and for an array to be started, which reads all of them.
const DEADLINE: Duration = Duration::from_secs(30);
/// Time for a stopped array's device to go, which is not waited for longer: nothing depends on it.
const GOING: Duration = Duration::from_secs(2);
/// Time for whoever has a written array open to close it: devd looks at one as soon as a writer closed it, and the kernel
/// refuses for as long (drivers/md/md.c: mddev_set_closing_and_sync_blockdev). mdadm waits as long.
const PATIENCE: Duration = Duration::from_secs(5);
/// The `metadata_version` of an array that is read past its superblocks. External: should somebody make it writable by
/// hand, a write would wait for ever rather than be made behind their backs.
const BARE: &str = "external:lifeboat";
/// Units of sysfs.
const SECTOR: u64 = 512;
const KIB: u64 = 1024;

/// Starts an array from exactly those members. Read-only, nothing is written to any of them: `readonly` is
/// put into array_state as the array is started, since `start_ro` alone lets the kernel write at once.
pub fn start(act: &Act, root: &Root, start: &MdStart) -> anyhow::Result<Made> {
    let array = Array::of(root, &start.device)?;
    as_they_were(root, start)?;
    match md::state(root, array.name).as_deref() {
        None => md::create(act, root, array.name).with_context(|| format!("create {}", start.device))?,
        Some("clear") => {}
        Some(state) => bail!("{} is {state} already", start.device),
    }
    let mut said = Kmsg::now().ok();
    if let Err(error) = array.bring_up(start) {
        // Half an array would hold its members, and be in the way of the next try.
        let cleared = array.write("array_state", "clear", None);
        let error = with_reason(error, said.as_mut());
        return Err(match cleared {
            Ok(()) => error,
            Err(left) => error.context(format!("{} is left half assembled ({left:#})", start.device)),
        });
    }
    array.look(root);
    if let Some(link) = &start.link
        && let Err(error) = make_link(Path::new(link), array.name)
    {
        // It runs all the same, under its number.
        notice("rescue assemble", &format!("link {link} to {}: {error}", start.device));
    }
    Ok(Made::Done)
}

pub fn stop(_act: &Act, root: &Root, device: &str) -> anyhow::Result<Made> {
    let array = Array::of(root, device)?;
    ensure!(md::state(root, array.name).is_some(), "{device} is gone");
    array.take_down()?;
    remove_links(array.name);
    Ok(Made::Done)
}

/// May a running array be written? For writing, its members must be writable, for which the kernel looks. One that is
/// read past its superblocks is started anew by them, which it can be where nobody uses it.
pub fn set_read_only(act: &Act, root: &Root, device: &str, read_only: bool) -> anyhow::Result<Made> {
    let array = Array::of(root, device)?;
    let state = md::state(root, array.name).with_context(|| format!("{device} is gone"))?;
    ensure!(!matches!(state.as_str(), "clear" | "inactive"), "{device} does not run: rescue assemble");
    let is_read_only = matches!(state.as_str(), "readonly" | "read-auto");
    if is_read_only == read_only && state != "read-auto" {
        return Ok(Made::Done);
    }
    let metadata = md::attribute(root, array.name, "metadata_version").unwrap_or_default();
    if !read_only && metadata.starts_with(BARE) {
        let begun = started(root, device)?;
        if let Some(why) = begun.bare.as_ref().and_then(only_read) {
            bail!("{device} {why}");
        }
        array.take_down()?;
        return start(act, root, &MdStart { read_only: false, bare: None, ..begun })
            .with_context(|| format!("{device} is stopped, and could not be started for writing"));
    }
    if read_only {
        array.quieten("readonly")?
    } else {
        array.write("array_state", "active", None)?
    }
    Ok(Made::Done)
}

/// Why an array that is read past its superblocks cannot be started anew by them, if it cannot.
fn only_read(bare: &MdBare) -> Option<&'static str> {
    if bare.volume.is_some() {
        Some("is firmware RAID, which only mdadm keeps while it is written")
    } else if bare.newer {
        Some("was written by a later Linux, whose superblocks this kernel does not take: it can only be read")
    } else {
        None
    }
}

/// The step that started a running array.
fn started(root: &Root, device: &str) -> anyhow::Result<MdStart> {
    let records = host::ledger::read(root);
    let starts = records.into_iter().rev().filter(|record| record.mark == Mark::Done);
    let mut starts = starts.filter_map(|record| match serde_json::from_value(record.step).ok()? {
        Step::MdStart(start) if start.device == device => Some(start),
        _ => None,
    });
    starts.next().with_context(|| format!("{device} was not started here: rescue assemble --stop {device}"))
}

/// Keeps a running array from resyncing and rebuilding. Levels without redundancy have nothing to freeze.
pub fn freeze(_act: &Act, root: &Root, device: &str) -> anyhow::Result<Made> {
    let array = Array::of(root, device)?;
    ensure!(md::state(root, array.name).is_some(), "{device} is gone");
    if md::attribute(root, array.name, "sync_action").is_some() {
        array.write("sync_action", "frozen", None)?;
    }
    Ok(Made::Done)
}

struct Array<'a> {
    root: &'a Root,
    device: &'a str,
    /// `md0`
    name: &'a str,
}

impl<'a> Array<'a> {
    fn of(root: &'a Root, device: &'a str) -> anyhow::Result<Array<'a>> {
        let name = Path::new(device).file_name().and_then(|name| name.to_str());
        let name =
            name.filter(|name| name.starts_with("md")).with_context(|| format!("{device} is no array"))?;
        Ok(Array { root, device, name })
    }

    fn bring_up(&self, start: &MdStart) -> anyhow::Result<()> {
        match &start.bare {
            Some(bare) => self.describe(bare)?,
            None => self.write("metadata_version", &start.metadata, None)?,
        }
        for member in &start.members {
            self.add(member, start.bare.is_some())
                .with_context(|| format!("add {} to {}", member.path, start.device))?;
        }
        self.write("array_state", if start.read_only { "readonly" } else { "active" }, None)
            .with_context(|| format!("start {}", start.device))?;
        let node = &start.device;
        // devtmpfs has made it before the device was announced (drivers/base/core.c: device_add).
        ensure!(self.root.exists(node), "{node} runs and has no node: is devtmpfs mounted?");
        Ok(())
    }

    /// Tells the kernel what the superblocks say, in the order in which mdadm does (sysfs.c: sysfs_set_array).
    fn describe(&self, bare: &MdBare) -> anyhow::Result<()> {
        let in_sync = bare.in_sync.map_or("none".to_string(), |bytes| (bytes / SECTOR).to_string());
        // By the number the graph tells volumes of firmware RAID apart that share their members.
        let metadata = bare.volume.map_or(BARE.to_string(), |number| format!("{BARE}.{number}"));
        let attributes = [
            ("metadata_version", metadata),
            ("level", bare.level.clone()),
            ("raid_disks", bare.raid_disks.to_string()),
            ("chunk_size", bare.chunk.to_string()),
            ("layout", bare.layout.to_string()),
            ("component_size", (bare.component_size / KIB).to_string()),
            ("resync_start", in_sync),
        ];
        attributes.iter().try_for_each(|(attribute, text)| self.write(attribute, text, None))?;
        bare.size.map_or(Ok(()), |size| self.write("array_size", &(size / KIB).to_string(), None))
    }

    fn add(&self, member: &MdMember, bare: bool) -> anyhow::Result<()> {
        self.write("new_dev", &format!("{}:{}", member.major, member.minor), Some(member))?;
        if let (true, Some(slot)) = (bare, member.slot) {
            let name = member.path.trim_start_matches("/dev/").replace('/', "!");
            let attributes = [
                ("offset", member.data_offset / SECTOR),
                ("size", member.data_size / KIB),
                ("slot", slot.into()),
            ];
            for (attribute, number) in attributes {
                self.write(&format!("dev-{name}/{attribute}"), &number.to_string(), Some(member))?;
            }
        }
        Ok(())
    }

    /// Stops it, and waits a moment for its device to go.
    fn take_down(&self) -> anyhow::Result<()> {
        let events = uevent::open();
        self.quieten("clear")?;
        let Ok(events) = events else { return Ok(()) };
        let until = Instant::now() + GOING;
        while md::state(self.root, self.name).is_some_and(|state| state == "clear") && Instant::now() < until
        {
            let left = until.saturating_duration_since(Instant::now());
            let timeout =
                Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
            // An interrupted wait is a short one.
            let _ = poll(&mut [PollFd::new(&events, PollFlags::IN)], Some(&timeout));
            while matches!(uevent::receive(&events), Ok(Some(_))) {}
        }
        Ok(())
    }

    /// Ends writing: to a state that the kernel allows only while nobody has the array open.
    fn quieten(&self, state: &str) -> anyhow::Result<()> {
        patiently(
            PATIENCE,
            |error: &anyhow::Error| error.is::<Busy>(),
            || self.write("array_state", state, None),
        )
    }

    /// Writes an attribute by a worker, and says in a person's words why it could not.
    fn write(&self, attribute: &str, text: &str, member: Option<&MdMember>) -> anyhow::Result<()> {
        let request = WorkerRequest::SetMd {
            array: self.name.to_string(),
            attribute: attribute.to_string(),
            text: text.to_string(),
        };
        let path = member.map_or(self.device, |member| &member.path).to_string();
        let job = Job { diskseq: member.and_then(|member| member.diskseq), path, request };
        match ask::<()>(self.root, job, DEADLINE) {
            Outcome::Done(()) => Ok(()),
            Outcome::Failed(why) | Outcome::NotStarted(why) => {
                Err(explained(&without_errno(&why), self.device))
            }
            Outcome::Hung(why) => bail!("{why}"),
        }
    }

    /// Opens the array once, as a worker, upon which the kernel reads its partition table.
    fn look(&self, root: &Root) {
        let facts = host::sysfs::facts(root);
        let Some(block) = facts.blocks.iter().find(|block| block.path() == self.device) else { return };
        // Whoever looks next says what is wrong with it.
        let _ = ask::<DiskReport>(root, examine(block), DEADLINE);
    }
}

fn examine(block: &Block) -> Job {
    let request = WorkerRequest::Examine {
        path: block.path(),
        logical_block: block.logical_block.max(512),
        size: block.size,
        sections: Vec::new(),
    };
    Job { diskseq: block.diskseq, path: block.path(), request }
}

/// The kernel refused because somebody has the array open.
#[derive(Debug)]
struct Busy(String);

impl std::error::Error for Busy {}

impl std::fmt::Display for Busy {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What two errors of the kernel mean here.
fn explained(why: &str, device: &str) -> anyhow::Error {
    if why.ends_with("Device or resource busy") {
        Busy(format!("{why}: lsblk {device} and lsof {device} show who uses it")).into()
    } else if why.ends_with("Read-only file system") {
        anyhow::anyhow!("{why}: a member is guarded; rescue writable {device}")
    } else {
        anyhow::anyhow!("{why}")
    }
}

/// Looks again at what the plan was made from.
fn as_they_were(root: &Root, start: &MdStart) -> anyhow::Result<()> {
    let facts = host::sysfs::facts(root);
    let mut jobs = Vec::new();
    for member in &start.members {
        let block = facts.blocks.iter().find(|block| block.path() == member.path);
        let block = block.with_context(|| format!("{} is gone", member.path))?;
        let same =
            block.diskseq == member.diskseq && (block.major, block.minor) == (member.major, member.minor);
        ensure!(same, "{} is not what it was a moment ago: look again with rescue status", member.path);
        jobs.push(examine(block));
    }
    let outcomes = Pool::of(root.clone(), SELF).run::<DiskReport>(&jobs, DEADLINE);
    for (member, outcome) in start.members.iter().zip(outcomes) {
        let report = match outcome {
            Outcome::Done(report) => report,
            Outcome::Failed(why) | Outcome::NotStarted(why) => {
                bail!("read {}: {}", member.path, without_errno(&why))
            }
            Outcome::Hung(why) => bail!("{why}"),
        };
        let same = report.signatures.first().is_some_and(|signature| match &signature.volume {
            Some(Volume::Md(found)) => found.array.to_string() == start.uuid && found.events == member.events,
            Some(Volume::Firmware(found)) => found.volumes.iter().any(|volume| {
                volume.superblock.array.to_string() == start.uuid && volume.superblock.events == member.events
            }),
            Some(Volume::Lvm(_) | Volume::Luks(_) | Volume::Bcache(_)) | None => false,
        });
        ensure!(same, "{} was written since it was looked at: try again", member.path);
    }
    Ok(())
}

/// With what the kernel said about it, but for the lines that only say that it failed.
fn with_reason(error: anyhow::Error, said: Option<&mut Kmsg>) -> anyhow::Error {
    let says = the_kernel_says(said, is_reason);
    if says.is_empty() { error } else { anyhow::anyhow!("{error:#}{says}") }
}

fn is_reason(line: &str) -> bool {
    let is_md = line.starts_with("md") || line.starts_with("raid");
    is_md
        && !["failed to run raid set", "pers->run() failed", " stopped."].iter().any(|end| line.contains(end))
}

/// `/dev/md/root -> ../md127`, as udev's rules make it. Something that is no link is not touched.
fn make_link(link: &Path, name: &str) -> anyhow::Result<()> {
    let directory = link.parent().context("a link is in a directory")?;
    std::fs::create_dir_all(directory)?;
    if std::fs::symlink_metadata(link).is_ok_and(|there| !there.is_symlink()) {
        bail!("there is something that is no link");
    }
    let fresh = directory.join(format!(".{name}"));
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    std::os::unix::fs::symlink(format!("../{name}"), &fresh)?;
    Ok(std::fs::rename(&fresh, link)?)
}

/// Those below /dev/md that lead to an array that is gone.
fn remove_links(name: &str) {
    let Ok(entries) = std::fs::read_dir("/dev/md") else { return };
    let target = Path::new("..").join(name);
    for path in entries.flatten().map(|entry| entry.path()) {
        if std::fs::read_link(&path).is_ok_and(|to| to == target) {
            // A link that stays leads nowhere, and is replaced when its name is used again.
            let _ = std::fs::remove_file(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_reason_is_the_line_that_gives_one() {
        let cases = [
            ("md/raid:md5: cannot start dirty degraded array.", true),
            ("md: kicking non-fresh sdb from array!", true),
            ("md127: bitmap file superblock UUID mismatch", true),
            ("md/raid:md5: failed to run raid set.", false),
            ("md: pers->run() failed ...", false),
            ("md: md5 stopped.", false),
            ("ext4: mounted", false),
        ];
        for (line, want) in cases {
            assert_eq!(is_reason(line), want, "{line}");
        }
    }

    #[test]
    fn what_cannot_be_started_anew_is_known_before_it_is_stopped() {
        let bare = |more: &str| -> MdBare {
            let fixed =
                r#""level":"raid1","raid_disks":2,"layout":0,"chunk":0,"component_size":0,"in_sync":null"#;
            serde_json::from_str(&format!("{{{fixed}{more}}}")).unwrap()
        };
        assert_eq!(only_read(&bare("")), None);
        for (more, words) in [(r#","volume":0"#, "firmware"), (r#","newer":true"#, "later Linux")] {
            assert!(only_read(&bare(more)).is_some_and(|why| why.contains(words)), "{more}");
        }
    }

    #[test]
    fn a_link_is_replaced_and_a_file_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("md/root");
        for name in ["md127", "md126"] {
            make_link(&link, name).unwrap();
            assert_eq!(std::fs::read_link(&link).unwrap(), Path::new("..").join(name));
        }
        std::fs::write(dir.path().join("md/file"), "").unwrap();
        assert!(make_link(&dir.path().join("md/file"), "md1").is_err());
    }
}
