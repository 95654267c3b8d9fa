//! `rescue assemble --stop`: arrays taken down again, those on top of others first.

use super::{Args, PASSES};
use crate::apply::{self, Door};
use crate::report::{Answer, notice};
use crate::scan::Scan;
use crate::tool::Context;
use contract::exit;
use model::consent;
use model::plan::Step;
use model::storage::{Device, Storage};
use model::text::Untrusted;
use std::collections::{BTreeMap, BTreeSet};

/// The running arrays that were named, or all; those on top of others first.
pub fn run(context: &Context, args: &Args, typed: &str) -> anyhow::Result<Answer> {
    let (mut stopped, mut text) = (BTreeSet::new(), String::new());
    let mut failed: BTreeMap<String, String> = BTreeMap::new();
    for _ in 0..PASSES {
        let storage = Scan::begin(context).examine(|_| false);
        let asked = |device: &&Device| {
            let is_array = device.block.md.as_ref().is_some_and(|md| md.array_state != "clear");
            let named =
                |text: &String| super::device(&storage, text).is_some_and(|found| found.id == device.id);
            is_array
                && device.block.partition.is_none()
                && !stopped.contains(&device.path)
                && (args.arrays.is_empty() || args.arrays.iter().any(named))
        };
        let before = stopped.len();
        let devices: Vec<&Device> = storage.devices.iter().filter(asked).collect();
        for device in devices {
            let steps = [Step::MdStop { device: device.path.clone() }];
            let outcome = match user(&storage, device) {
                Some(user) => Err(anyhow::anyhow!("{} is in use by {user}", device.path)),
                None if args.dry_run => {
                    text += &apply::shown(&steps);
                    Ok(())
                }
                None => Door::open(context, typed).and_then(|mut door| door.make_all(&steps).map(drop)),
            };
            match outcome {
                Ok(()) => {
                    failed.remove(&device.path);
                    stopped.insert(device.path.clone());
                    let guarded = consent::guarded(&storage, &device.id, typed);
                    if args.dry_run {
                        text += &apply::shown(&guarded);
                    } else if let Err(error) =
                        Door::open(context, typed).and_then(|mut door| door.make_all(&guarded).map(drop))
                    {
                        notice(context.name, &format!("{} is stopped: {error:#}", device.path));
                    }
                }
                Err(error) => drop(failed.insert(device.path.clone(), format!("{error:#}"))),
            }
        }
        if stopped.len() == before {
            break;
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

/// Who uses an array or one of its partitions: what stands on it, or where it is mounted.
fn user(storage: &Storage, array: &Device) -> Option<String> {
    let own = |device: &&Device| device.id == array.id || device.parent.as_ref() == Some(&array.id);
    storage.devices.iter().filter(own).find_map(|device| {
        let upper = device.upper.iter().find_map(|id| storage.get(id)).map(|upper| upper.path.clone());
        let numbers = (device.block.major, device.block.minor);
        let mount = storage.mounts.iter().find(|mount| (mount.major, mount.minor) == numbers);
        let swap = storage.swaps.iter().find(|swap| swap.path == device.path);
        upper
            .or_else(|| mount.map(|mount| Untrusted(&mount.target).to_string()))
            .or_else(|| swap.map(|_| "swap".to_string()))
    })
}
