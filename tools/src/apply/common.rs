//! What several kinds of steps do alike.

use anyhow::{Context as _, ensure};
use host::Root;
use host::kmsg::Kmsg;
use host::workers::{Job, Outcome, Pool, SELF};
use model::plan::DmLower;
use serde::de::DeserializeOwned;
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(50);
/// Most lines of the kernel's that are repeated.
const TELLING: usize = 3;

/// Has one worker do one thing.
pub fn ask<T: DeserializeOwned>(root: &Root, job: Job, time: Duration) -> Outcome<T> {
    let outcome = Pool::of(root.clone(), SELF).run::<T>(&[job], time).pop();
    outcome.unwrap_or_else(|| Outcome::Failed("not asked".to_string()))
}

/// Tries again for a while, as long as the kernel says that it is busy.
pub fn patiently<T, E>(
    patience: Duration,
    is_busy: impl Fn(&E) -> bool,
    mut attempt: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    let until = Instant::now() + patience;
    loop {
        match attempt() {
            Err(error) if is_busy(&error) && Instant::now() < until => std::thread::sleep(PAUSE),
            other => return other,
        }
    }
}

/// Another disk may have come under the same name since the plan was made. `look`: the verb that made it.
pub fn as_they_were(root: &Root, on: &[DmLower], look: &str) -> anyhow::Result<()> {
    let facts = host::sysfs::facts(root);
    for lower in on {
        let block = facts.blocks.iter().find(|block| block.path() == lower.path);
        let block = block.with_context(|| format!("{} is gone", lower.path))?;
        ensure!(lower.is(block), "{} is not what it was a moment ago: look again with {look}", lower.path);
    }
    Ok(())
}

/// `; the kernel says: ...`: the last of its lines that give a reason, or nothing.
pub fn the_kernel_says(said: Option<&mut Kmsg>, is_reason: impl Fn(&str) -> bool) -> String {
    let lines = said.map(Kmsg::lines).unwrap_or_default();
    let mut lines: Vec<String> = lines.into_iter().filter(|line| is_reason(line)).collect();
    lines.drain(..lines.len().saturating_sub(TELLING));
    if lines.is_empty() { String::new() } else { format!("; the kernel says: {}", lines.join("; ")) }
}
