//! bcache, to which only overlays are ever shown: it writes to what it registers, and an overlay that fills fails instead
//! of hanging.

use super::common::{patiently, the_kernel_says};
use super::{Made, guard};
use anyhow::{Context as _, bail, ensure};
use host::bcache;
use host::kmsg::Kmsg;
use host::{Act, Root};
use std::path::Path;
use std::time::Duration;

/// Its threads end one after the other, and then its device goes.
const PATIENCE: Duration = Duration::from_secs(20);

pub fn register(act: &Act, root: &Root, device: &str) -> anyhow::Result<Made> {
    let name = name(device)?;
    ensure!(!bcache::is_registered(root, &name), "{device} is registered already");
    let mut said = Kmsg::now().ok();
    let written = bcache::register(act, root, device).with_context(|| format!("show {device} to bcache"));
    let says = the_kernel_says(said.as_mut(), |line| line.contains("bcache"));
    // A cache whose journal cannot be read is let go of again, and the write succeeds.
    match written {
        Ok(()) if bcache::is_registered(root, &name) => Ok(Made::Done),
        Ok(()) => bail!("bcache did not take {device}{says}"),
        Err(error) if says.is_empty() => Err(error),
        Err(error) => bail!("{error:#}{says}"),
    }
}

/// What it caches is there when the cache was found.
pub fn hold(act: &Act, root: &Root, device: &str) -> anyhow::Result<Made> {
    let name = name(device)?;
    let shown = bcache::shown(root, &name);
    let shown = shown.with_context(|| format!("{device} is not joined with its cache"))?;
    bcache::hold(act, root, &name).with_context(|| format!("keep bcache from writing to {device}"))?;
    let shown = format!("/dev/{shown}");
    guard::map_read_only(act, root, &shown)?;
    Ok(Made::Device(shown))
}

pub fn stop(act: &Act, root: &Root, device: &str) -> anyhow::Result<Made> {
    let name = name(device)?;
    if !bcache::is_registered(root, &name) {
        return Ok(Made::Done);
    }
    bcache::stop(act, root, &name).with_context(|| format!("stop bcache on {device}"))?;
    let left = || match bcache::is_registered(root, &name) {
        true => Err(()),
        false => Ok(()),
    };
    let is_gone = patiently(PATIENCE, |()| true, left).is_ok();
    ensure!(is_gone, "bcache does not let go of {device}: lsof shows who uses it");
    Ok(Made::Done)
}

/// Below /sys a mapped device goes by its kernel name.
fn name(device: &str) -> anyhow::Result<String> {
    let target = std::fs::canonicalize(Path::new(device)).with_context(|| format!("find {device}"))?;
    Ok(target.file_name().and_then(|name| name.to_str()).context("read its name")?.to_string())
}
