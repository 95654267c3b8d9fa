//! Names of arrays: the number or name that a configuration or a superblock asks for, and what a person calls them.

use super::Judgement;
use super::conf::{self, Conf};
use crate::storage::{Device, Storage};
use crate::text::Untrusted;
use std::collections::BTreeSet;

/// Where an array is to be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// `/dev/md2`
    pub device: String,
    pub number: u32,
    /// `/dev/md/root`
    pub link: Option<String>,
    /// Why it is not the one that was asked for.
    pub note: Option<String>,
}

impl Judgement {
    /// Whether a person means this array by a UUID or a name: `22222222:...`, `rescue:2`, `2`, `/dev/md2`, `md2`.
    pub fn is_called(&self, text: &str) -> bool {
        let own = without_host(&self.name);
        let by_name = !self.name.is_empty() && (text == self.name || plain(text) == plain(own));
        by_name || conf::uuid(text).is_some_and(|uuid| uuid == self.uuid)
    }
}

/// The numbers and links that are taken.
#[derive(Clone, Debug, Default)]
pub struct Names {
    numbers: BTreeSet<u32>,
    links: BTreeSet<String>,
    /// Bare names, and numbers among them, that only those get to whom a configuration gives them.
    reserved: BTreeSet<String>,
}

/// As mdadm counts down from 127; above, nobody would look.
const HIGHEST: u32 = 127;
/// Of numbers that a superblock or a configuration may ask for (mdadm's own limit).
const MOST: u32 = 511;

impl Names {
    pub fn of(storage: &Storage) -> Names {
        // A device with nothing behind it is as good as none.
        let is_clear = |device: &Device| device.block.md.as_ref().is_some_and(|md| md.array_state == "clear");
        let number = |device: &Device| {
            device.block.name.strip_prefix("md").filter(|_| !is_clear(device))?.parse().ok()
        };
        Names { numbers: storage.devices.iter().filter_map(number).collect(), ..Names::default() }
    }

    /// Without what a configuration gives to arrays that were found: an array that it does not know is no reason for
    /// one that it knows to be found elsewhere. The names of arrays that are not here are free.
    pub fn and_reserved(self, storage: &Storage, conf: &Conf) -> Names {
        let names = storage.arrays.iter().filter_map(|array| conf.name(&array.uuid));
        Names { reserved: names.map(plain).collect(), ..self }
    }

    /// With the links that lead to running arrays.
    pub fn and_links(self, links: impl IntoIterator<Item = String>) -> Names {
        Names { links: links.into_iter().collect(), ..self }
    }

    /// By the number or name of mdadm.conf, else of the superblock, else the first free one from 127 downwards.
    pub fn choose(&mut self, judgement: &Judgement, configured: Option<&str>) -> Name {
        let own = without_host(&judgement.name);
        let asked = configured.map(plain).unwrap_or_else(|| match judgement.preferred {
            Some(number) if judgement.name == format!("md{number}") => number.to_string(),
            _ => own.to_string(),
        });
        let is_anothers = configured.is_none() && self.reserved.contains(&asked);
        let asked_number = asked.parse::<u32>().ok().filter(|number| *number <= MOST);
        let free = asked_number.filter(|number| !is_anothers && !self.numbers.contains(number));
        let is_free =
            |number: &u32| !self.numbers.contains(number) && !self.reserved.contains(&number.to_string());
        let number = free.or_else(|| (0..=HIGHEST).rev().find(is_free));
        let number = number.or_else(|| (HIGHEST..=MOST).find(is_free));
        // 512 arrays are taken: the kernel will say so.
        let number = number.unwrap_or(MOST);
        self.numbers.insert(number);
        let taken = asked_number.filter(|asked| *asked != number);
        let wanted = link_name(&asked).filter(|_| taken.is_none());
        let note = match (taken, &wanted) {
            _ if is_anothers => {
                Some(format!("mdadm.conf gives the name {} to another array", Untrusted(&asked)))
            }
            (Some(asked), _) => Some(format!("md{asked} is taken by another array")),
            (None, Some(name)) if self.links.contains(name) => {
                Some(format!("the name {name} is taken by another array"))
            }
            (None, _) => None,
        };
        let link = wanted.filter(|_| note.is_none());
        self.links.extend(link.clone());
        Name {
            device: format!("/dev/md{number}"),
            number,
            link: link.map(|name| format!("/dev/md/{name}")),
            note,
        }
    }
}

/// Where an array of this name is to be found, if it has it.
pub fn places(configured: &str) -> [String; 2] {
    let name = link_name(&plain(configured)).unwrap_or_default();
    [format!("/dev/md/{name}"), format!("/dev/md{name}")]
}

/// `/dev/md/root`, `/dev/md0`, `root` and `0` of mdadm.conf or a person, as the bare name.
pub(super) fn plain(configured: &str) -> String {
    let name = configured
        .strip_prefix("/dev/md/")
        .or_else(|| configured.strip_prefix("/dev/"))
        .unwrap_or(configured);
    match name.strip_prefix("md") {
        Some(number) if !number.is_empty() && number.bytes().all(|c| c.is_ascii_digit()) => {
            number.to_string()
        }
        _ => name.to_string(),
    }
}

/// Longest name of version 1's superblock.
const LONGEST: usize = 32;

/// What may stand below /dev/md: letters, digits and `._-`, as mdadm allows; another character becomes `_`.
fn link_name(name: &str) -> Option<String> {
    let portable = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let mut link: String = name.chars().take(LONGEST).map(portable).collect();
    if link.starts_with(['.', '-']) {
        link.replace_range(..1, "_");
    }
    (!link.is_empty()).then_some(link)
}

/// `root` of `host:root`.
fn without_host(name: &str) -> &str {
    name.rsplit_once(':').map_or(name, |(_, name)| name)
}
