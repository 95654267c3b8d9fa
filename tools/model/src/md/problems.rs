//! What is wrong with arrays, for the first lines of `rescue status`: what the owner of a broken server came for.

use super::{
    Judgement, Refusal, Wishes, arrays_of, is_container, is_running, judge, level_name, list, running,
};
use crate::storage::{Array, Device, Problem, Storage};
use crate::text::Untrusted;
use contract::facts::Md;
use ondisk::Severity;

pub fn problems(storage: &Storage) -> Vec<Problem> {
    let of_sets = storage.arrays.iter().filter(|array| running(storage, array).is_none());
    let of_sets = of_sets.filter_map(|array| of_set(&judge(storage, array, &Wishes::default())));
    let running = storage.devices.iter().filter(|device| device.block.partition.is_none());
    let of_running = running.filter_map(|device| of_running(storage, device, device.block.md.as_ref()?));
    of_sets.chain(of_running).collect()
}

/// One that does not run.
fn of_set(judgement: &Judgement) -> Option<Problem> {
    let Judgement { level, present, wanted, missing, refusal, .. } = judgement;
    let (severity, what) = match refusal {
        // Asked for by whoever wrote the file.
        Some(Refusal::Ignored) => return None,
        Some(refusal) => (Severity::Error, format!("cannot be started as it is: {refusal}")),
        None if missing.is_empty() => return None,
        None => (Severity::Warning, format!("is degraded: {present} of {wanted} members")),
    };
    let left: Vec<String> =
        judgement.left_out.iter().map(|left| format!("; {} is left out: {}", left.path, left.why)).collect();
    let name = Untrusted(if judgement.name.is_empty() { &judgement.uuid } else { &judgement.name });
    let text = format!("array {name} ({}) {what}{}", level_name(*level), left.concat());
    Some(Problem { device: None, severity, text })
}

fn of_running(storage: &Storage, device: &Device, md: &Md) -> Option<Problem> {
    if !is_running(md) || is_container(md) || md.degraded == 0 {
        return None;
    }
    let present = md.raid_disks.saturating_sub(md.degraded);
    let rebuilding = md.sync_action.as_deref() == Some("recover");
    let outside = storage.arrays.iter().find(|array| array.device.as_ref() == Some(&device.id));
    let outside = outside.map(|array| outside_of(storage, array, md)).unwrap_or_default();
    let text = format!(
        "{} ({}) is degraded: {present} of {} members{}{}",
        device.path,
        md.level,
        md.raid_disks,
        if rebuilding { ", and being rebuilt" } else { "" },
        match &outside[..] {
            [] => String::new(),
            [one] => format!("; {one} carries its superblock and is not in it"),
            more => format!("; {} carry its superblock and are not in it", list(more)),
        }
    );
    Some(Problem { device: Some(device.path.clone()), severity: Severity::Warning, text })
}

/// Devices that say that they are members, and that the kernel did not take. What an overlay stands on is behind it.
fn outside_of(storage: &Storage, array: &Array, md: &Md) -> Vec<String> {
    let is_in = |device: &Device| md.members.iter().any(|(name, _)| *name == device.block.name);
    let members = array.members.iter().filter_map(|id| storage.get(id));
    let free = members.filter(|device| arrays_of(device).contains(&array.uuid) && device.upper.is_empty());
    let mut paths: Vec<String> =
        free.filter(|device| !is_in(device)).map(|device| device.path.clone()).collect();
    paths.sort();
    paths.dedup();
    paths
}
