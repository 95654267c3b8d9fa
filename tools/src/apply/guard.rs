//! The write guard off and on: the consent first, then the kernel's flags, by workers, since BLKROSET
//! on a disk that hangs never returns.

use super::Made;
use crate::report::without_errno;
use anyhow::{Context as _, bail, ensure};
use contract::guard::{Consent, Guarded, Wanted, wanted};
use contract::wire::WorkerRequest;
use host::workers::{Job, Outcome, Pool, SELF};
use host::{Act, Root};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(10);

pub fn open(
    act: &Act,
    root: &Root,
    path: &str,
    disk: Option<&str>,
    consent: &Consent,
) -> anyhow::Result<Made> {
    is_the_same(root, path, consent)?;
    host::consents::give(act, consent).with_context(|| format!("write the consent for {path}"))?;
    let paths: Vec<&str> = disk.into_iter().chain([path]).collect();
    let opened = set(root, &paths, Some(consent.diskseq), false).and_then(|()| can_be_written(root, path));
    if let Err(error) = opened {
        // Nothing may stay consented to that was not brought about.
        host::consents::take(&consent.file_name()).context("take the consent back")?;
        if let Err(closed) = guard_again(root, path, disk, consent) {
            return Err(error.context(format!("the guard could not be put back ({closed:#})")));
        }
        return Err(error);
    }
    Ok(Made::Done)
}

/// The flag that was cleared is ours alone: a drive can have its own.
fn can_be_written(root: &Root, path: &str) -> anyhow::Result<()> {
    let facts = host::sysfs::facts(root);
    let closed = facts.blocks.iter().any(|block| block.path() == path && block.read_only);
    if closed { Err(WriteProtected(path.to_string()).into()) } else { Ok(()) }
}

/// By a switch of the drive's, or by the host of a virtual one: no command takes that off.
#[derive(Debug)]
pub struct WriteProtected(String);

impl std::fmt::Display for WriteProtected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{0} is write-protected by the drive itself: mount -o ro reads it, and rescue overlay {0} makes a copy in memory that can be written",
            self.0
        )
    }
}

impl std::error::Error for WriteProtected {}

pub fn close(
    _act: &Act,
    root: &Root,
    path: &str,
    disk: Option<&str>,
    consent: &Consent,
) -> anyhow::Result<Made> {
    is_the_same(root, path, consent)?;
    host::consents::take(&consent.file_name())
        .with_context(|| format!("take the consent for {path} away"))?;
    guard_again(root, path, disk, consent)?;
    Ok(Made::Done)
}

/// The flags as the consents that are left want them.
fn guard_again(root: &Root, path: &str, disk: Option<&str>, consent: &Consent) -> anyhow::Result<()> {
    let left = host::consents::read(root);
    let is = |extent| wanted(Guarded { diskseq: consent.diskseq, extent }, &left);
    if is(consent.extent) == Wanted::Writable {
        bail!("{path} stays writable: its whole disk was made so; rescue protect {}", disk.unwrap_or(path));
    }
    let disk = disk.filter(|_| is(None) == Wanted::ReadOnly);
    let paths: Vec<&str> = disk.into_iter().chain([path]).collect();
    set(root, &paths, Some(consent.diskseq), true)
}

/// A mapped device or bcache's, which has no guard of its own: it goes with what made it, and so does its flag.
pub fn map_read_only(_act: &Act, root: &Root, device: &str) -> anyhow::Result<Made> {
    let is_virtual = ["/dev/mapper/", "/dev/bcache"].iter().any(|start| device.starts_with(start));
    ensure!(is_virtual, "{device} is no mapped device");
    set(root, &[device], None, true)?;
    Ok(Made::Done)
}

/// Another disk may have come under the same name since the plan was made.
fn is_the_same(root: &Root, path: &str, consent: &Consent) -> anyhow::Result<()> {
    let facts = host::sysfs::facts(root);
    let block = facts.blocks.iter().find(|block| block.path() == path);
    let block = block.with_context(|| format!("{path} is gone"))?;
    let extent = block
        .partition
        .as_ref()
        .map(|partition| contract::guard::Extent { start: partition.start, length: block.size });
    let same = block.diskseq == Some(consent.diskseq) && extent == consent.extent;
    ensure!(same, "{path} is not what it was a moment ago: look again with rescue status");
    Ok(())
}

fn set(root: &Root, paths: &[&str], diskseq: Option<u64>, read_only: bool) -> anyhow::Result<()> {
    let jobs: Vec<Job> = paths
        .iter()
        .map(|path| Job {
            diskseq,
            path: path.to_string(),
            request: WorkerRequest::SetReadOnly { path: path.to_string(), read_only },
        })
        .collect();
    let outcomes = Pool::of(root.clone(), SELF).run::<()>(&jobs, DEADLINE);
    for (path, outcome) in paths.iter().zip(outcomes) {
        match outcome {
            Outcome::Done(()) => {}
            Outcome::Failed(why) | Outcome::NotStarted(why) => bail!("{}", without_errno(&why)),
            Outcome::Hung(why) => bail!("{path}: {why}"),
        }
    }
    Ok(())
}
