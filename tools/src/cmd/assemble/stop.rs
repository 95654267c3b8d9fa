//! `rescue assemble --stop`: volumes of LVM, opened locks and arrays taken down again, those on top of others first.

use super::super::volumes;
use super::super::writable::writer;
use super::{Args, PASSES, copy};
use crate::apply::{self, Door, call};
use crate::report::{Answer, notice};
use crate::scan::Scan;
use crate::tool::Context;
use contract::exit;
use contract::facts::Block;
use model::plan::Step;
use model::storage::{Device, Id, Storage};
use model::text::Untrusted;
use model::{bcache, consent, luks, lvm, overlay};
use std::collections::{BTreeMap, BTreeSet};

/// The running arrays, active volumes and opened devices that were named, or all; those on top of others first.
pub fn run(context: &Context, args: &Args, typed: &str) -> anyhow::Result<Answer> {
    let (mut stopped, mut text, mut dropped_text) = (BTreeSet::new(), String::new(), String::new());
    let mut failed: BTreeMap<String, String> = BTreeMap::new();
    // Real devices that one of those stood on: guarded again at the end, when nothing writes to them any more.
    let mut below: BTreeSet<Id> = BTreeSet::new();
    // A cache on RAID is five deep by itself.
    for _ in 0..2 * PASSES {
        // Which caches belong to what they cache is seen on their overlays.
        let storage = Scan::begin(context).examine(Block::is_overlay);
        let asked = |device: &&Device| {
            let is_array = device.block.md.as_ref().is_some_and(|md| md.array_state != "clear");
            let named = |text: &String| {
                super::device(&storage, text).is_some_and(|found| found.id == device.id)
                    || lvm::is_called(device, text)
            };
            (is_array || volumes::is_mapped(device) || bcache::is_started(&storage, device))
                && device.block.partition.is_none()
                && !stopped.contains(&lvm::path(device))
                && (args.arrays.is_empty() || args.arrays.iter().any(named))
        };
        let before = stopped.len();
        let devices: Vec<&Device> = storage.devices.iter().filter(asked).collect();
        for device in devices {
            let path = lvm::path(device);
            // With what it is a part of.
            if stopped.contains(&path) {
                continue;
            }
            let stop = Step::MdStop { device: device.path.clone() };
            let (locked, parts) = luks::removed(&storage, device).unzip();
            let steps = bcache::removal(&storage, device)
                .or(locked)
                .unwrap_or_else(|| vec![volumes::removal(device).unwrap_or(stop)]);
            let outcome = match user(&storage, device, &stopped) {
                Some(user) => Err(anyhow::anyhow!("{path} is in use by {user}")),
                None if args.dry_run => {
                    text += &apply::shown(&steps);
                    Ok(Vec::new())
                }
                None => Door::open(context, typed).and_then(|mut door| door.make_all(&steps)),
            };
            match outcome {
                Ok(made) => {
                    for part in parts.into_iter().flatten().map(lvm::path) {
                        failed.remove(&part);
                        stopped.insert(part);
                    }
                    failed.remove(&path);
                    if let Err(error) = call::is_locked(&made) {
                        failed.insert(path.clone(), format!("{path} is gone: {error:#}"));
                    }
                    below.extend(consent::below(&storage, &device.id).iter().map(|real| real.id.clone()));
                    stopped.insert(path);
                }
                Err(error) => drop(failed.insert(path, format!("{error:#}"))),
            }
        }
        let has_copies = overlay::list(&storage).iter().any(|one| one.made_by == overlay::Purpose::Assemble);
        let dropped = if !has_copies {
            false
        } else if args.dry_run {
            dropped_text.clone_from(&apply::shown(&overlay::left_by_assembly(&storage, &stopped).steps));
            false
        } else {
            copy::clear(context, typed)
        };
        if stopped.len() == before && !dropped {
            break;
        }
    }
    text += &dropped_text;
    let storage = Scan::begin(context).examine(|_| false);
    for real in below.iter().filter_map(|id| storage.get(id)) {
        if !args.dry_run && writer(&storage, real).is_some() {
            continue;
        }
        let guarded = consent::guarded(&storage, &real.id, typed);
        if args.dry_run {
            text += &apply::shown(&guarded);
        } else if let Err(error) =
            Door::open(context, typed).and_then(|mut door| door.make_all(&guarded).map(drop))
        {
            notice(context.name, &format!("{}: {error:#}", real.path));
        }
    }
    for reason in failed.values() {
        notice(context.name, reason);
    }
    for device in &stopped {
        if !args.dry_run {
            notice(context.name, &format!("stopped: {device}"));
        }
    }
    let exit = match (stopped.len(), failed.len()) {
        (0, 0) => exit::NO,
        (_, 0) => exit::YES,
        (0, _) => exit::TROUBLE,
        _ => exit::PARTLY,
    };
    Ok(Answer::text(text, exit))
}

/// Who uses an array, one of its partitions or a mapped device: what stands on it (but for what a dry run takes for
/// gone), or where it is mounted.
fn user(storage: &Storage, array: &Device, stopped: &BTreeSet<String>) -> Option<String> {
    let own = |device: &&Device| device.id == array.id || device.parent.as_ref() == Some(&array.id);
    storage.devices.iter().filter(own).find_map(|device| {
        let upper = device.upper.iter().filter_map(|id| storage.get(id)).map(lvm::path);
        let upper = upper.into_iter().find(|upper| !stopped.contains(upper));
        let numbers = (device.block.major, device.block.minor);
        let mount = storage.mounts.iter().find(|mount| (mount.major, mount.minor) == numbers);
        let is_swap = |path: &str| path == device.path || path == lvm::path(device);
        let swap = storage.swaps.iter().find(|swap| is_swap(&swap.path));
        upper
            .or_else(|| mount.map(|mount| Untrusted(&mount.target).to_string()))
            .or_else(|| swap.map(|_| "swap".to_string()))
    })
}
