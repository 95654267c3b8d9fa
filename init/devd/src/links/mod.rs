//! The links below /dev/disk, and /dev/mapper/NAME: what stock udev makes of the same machine
//! (60-persistent-storage, 13-dm-disk, 63-md-raid-arrays, 69-lvm). Names of drives and places come
//! from sysfs at once; what is on them from the reports of workers, later. /dev/md/NAME is made by
//! whoever assembles and is left alone here.
//!
//! Where two devices claim one name, the higher in the stack has it (an overlay or a multipath map
//! before what it stands on), then the first by its place in the machine: the same at each boot. Two
//! that stand side by side are said, since one of them is most likely a copy.
//!
//! Not made: names by content of CDs, since reading a drive that spins up looks like one that hangs;
//! udev's links by the inode of a loop device's file.

mod identity;
mod parents;
mod path;

use contract::facts::{Block, Facts};
use contract::paths;
use contract::udev::encoded;
use host::Root;
use ondisk::volume::Volume;
use ondisk::{DiskReport, Health, Signature, Usage};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

/// Reports by kernel name; a device that is not here was not read (yet).
pub type Reports = BTreeMap<String, DiskReport>;

/// Longest name that a directory takes.
const LONGEST: usize = 255;
/// The directories that are ours alone, by what their names are made of.
const BY_HARDWARE: &[&str] = &["by-diskseq", "by-path"];
const BY_CONTENT: &[&str] = &["by-id", "by-label", "by-partlabel", "by-partuuid", "by-uuid"];

/// One device's wish for one name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Claim {
    /// `by-uuid/...`
    link: String,
    device: String,
    /// Tells the members of one file system apart, which share its UUID by right.
    member: Option<String>,
}

/// What should be there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Below /dev/disk, and the kernel name of the device.
    pub links: BTreeMap<String, String>,
    /// (link, who has it, who else claims it with the same right).
    pub doubled: Vec<(String, String, Vec<String>)>,
}

pub fn plan(root: &Root, facts: &Facts, reports: &Reports) -> Plan {
    let order = Order::of(facts);
    let mut claims: BTreeMap<String, Vec<Claim>> = BTreeMap::new();
    // Once for a disk with all its partitions: it is read from some twenty files.
    let drives = facts.blocks.iter().filter(|block| block.partition.is_none() && is_named(block));
    let drives: BTreeMap<&str, (&Block, Vec<String>)> =
        drives.map(|disk| (disk.name.as_str(), (disk, names_of_drive(root, disk)))).collect();
    for claim in facts.blocks.iter().flat_map(|block| claims_of(&drives, reports, block)) {
        let name = claim.link.rsplit('/').next().unwrap_or_default();
        if name.len() <= LONGEST && !matches!(name, "" | "." | "..") {
            claims.entry(claim.link.clone()).or_default().push(claim);
        }
    }
    let disk_of = |name: &str| {
        let block = facts.blocks.iter().find(|block| block.name == name)?;
        Some(block.partition.as_ref().map_or(block.name.as_str(), |partition| partition.disk.as_str()))
    };
    let mut plan = Plan::default();
    for (link, mut claims) in claims {
        claims.sort_by(|a, b| order.key(&a.device).cmp(&order.key(&b.device)));
        let winner = &claims[0]; // an entry has at least one
        let is_rival = |claim: &&Claim| {
            order.depth(&claim.device) == order.depth(&winner.device)
                && (claim.member.is_none() || claim.member == winner.member)
                // An ISO on a stick: the same file system is seen on the disk and on its first partition.
                && (disk_of(&claim.device) != disk_of(&winner.device)
                    || disk_of(&claim.device).is_some_and(|disk| disk != claim.device && disk != winner.device))
        };
        let rivals: Vec<String> =
            claims[1..].iter().filter(is_rival).map(|claim| claim.device.clone()).collect();
        if !rivals.is_empty() {
            plan.doubled.push((link.clone(), winner.device.clone(), rivals));
        }
        plan.links.insert(link, winner.device.clone());
    }
    plan
}

/// Who comes first where two claim one name.
struct Order<'a>(BTreeMap<&'a str, (std::cmp::Reverse<usize>, bool, &'a str)>);

impl<'a> Order<'a> {
    fn of(facts: &'a Facts) -> Order<'a> {
        let by_name: BTreeMap<&str, &Block> =
            facts.blocks.iter().map(|block| (block.name.as_str(), block)).collect();
        let find = |name: &str| by_name.get(name).copied();
        // Above any real stack: the kernel refuses loops, a captured machine need not.
        const DEEPEST: usize = 16;
        fn depth<'b>(block: &Block, find: &impl Fn(&str) -> Option<&'b Block>, left: usize) -> usize {
            if left == 0 {
                return 0;
            }
            if let Some(partition) = &block.partition {
                return find(&partition.disk).map_or(0, |disk| depth(disk, find, left - 1));
            }
            let below = block.slaves.iter().filter_map(|name| find(name));
            below.map(|lower| 1 + depth(lower, find, left - 1)).max().unwrap_or(0)
        }
        let key = |block: &'a Block| {
            // A drive before a file that may be a copy of it.
            let of_file =
                block.hardware.path.as_deref().is_some_and(|path| path.starts_with("virtual/block/loop"));
            let place = block.hardware.path.as_deref().unwrap_or(&block.name);
            (block.name.as_str(), (std::cmp::Reverse(depth(block, &find, DEEPEST)), of_file, place))
        };
        Order(facts.blocks.iter().map(key).collect())
    }

    fn key(&self, name: &str) -> Option<&(std::cmp::Reverse<usize>, bool, &'a str)> {
        self.0.get(name)
    }

    fn depth(&self, name: &str) -> usize {
        self.0.get(name).map_or(0, |key| key.0.0)
    }
}

/// What the drive and its place are called.
fn names_of_drive(root: &Root, disk: &Block) -> Vec<String> {
    if disk.md.is_some() || disk.dm.is_some() {
        return Vec::new();
    }
    let ids = identity::names(root, disk).into_iter().map(|name| format!("by-id/{name}"));
    ids.chain(by_path(root, disk).into_iter().map(|name| format!("by-path/{name}"))).collect()
}

fn claims_of(drives: &BTreeMap<&str, (&Block, Vec<String>)>, reports: &Reports, block: &Block) -> Vec<Claim> {
    let disk_name = block.partition.as_ref().map_or(&block.name, |partition| &partition.disk);
    let Some((disk, of_drive)) = drives.get(disk_name.as_str()) else { return Vec::new() };
    let suffix = block.partition.as_ref().map_or(String::new(), |part| format!("-part{}", part.number));
    let mut links: Vec<String> = Vec::new();
    let mut member = None;
    if let Some(md) = &disk.md {
        let members = md.members.iter().filter_map(|(name, _)| reports.get(name));
        let superblock = members.flat_map(|report| &report.signatures).find_map(|signature| match signature
            .volume
            .as_ref()?
        {
            Volume::Md(superblock) => Some(superblock),
            Volume::Lvm(_) | Volume::Luks(_) | Volume::Firmware(_) | Volume::Bcache(_) => None,
        });
        if let Some(superblock) = superblock {
            if !superblock.name.is_empty() {
                links.push(format!("by-id/md-name-{}{suffix}", encoded(&superblock.name)));
            }
            links.push(format!("by-id/md-uuid-{}{suffix}", md_uuid(&superblock.array.0)));
        }
    } else if let Some(dm) = &disk.dm {
        links.push(format!("by-id/dm-name-{}{suffix}", mapped_name(&dm.name)));
        if !dm.uuid.is_empty() {
            links.push(format!("by-id/dm-uuid-{}{suffix}", encoded(&dm.uuid)));
        }
    } else {
        links.extend(block.diskseq.map(|seq| format!("by-diskseq/{seq}{suffix}")));
        links.extend(of_drive.iter().map(|name| format!("{name}{suffix}")));
    }
    if let Some(entry) = block.partition.as_ref().and_then(|partition| {
        let table = reports.get(&disk.name)?.table.as_ref()?;
        table.partitions.iter().find(|entry| entry.extent.start == partition.start)
    }) {
        links.extend(entry.uuid.iter().map(|uuid| format!("by-partuuid/{}", encoded(uuid))));
        let label = entry.name.as_ref().filter(|name| !name.is_empty());
        links.extend(label.map(|name| format!("by-partlabel/{}", encoded(name))));
    }
    if let Some(signature) = reports.get(&block.name).and_then(certain) {
        let is_visible = !matches!(signature.usage, Usage::Raid);
        for (directory, text) in [("by-uuid", &signature.uuid), ("by-label", &signature.label)] {
            let text = text.as_ref().filter(|text| is_visible && !text.is_empty());
            links.extend(text.map(|text| format!("{directory}/{}", encoded(text))));
        }
        if signature.format == "LVM2_member" {
            links.extend(signature.uuid.iter().map(|uuid| format!("by-id/lvm-pv-uuid-{}", encoded(uuid))));
        }
        member = signature.member_uuid.clone();
    }
    let claim = |link: String| {
        let member = member.clone().filter(|_| link.starts_with("by-uuid/") || link.starts_with("by-label/"));
        Claim { link, device: block.name.clone(), member }
    };
    links.into_iter().map(claim).collect()
}

fn by_path(root: &Root, disk: &Block) -> Vec<String> {
    let path = disk.hardware.path.as_deref().filter(|_| !disk.is_virtual());
    let Some((whole, older)) = path.and_then(|path| path::path_id(root, path)) else { return Vec::new() };
    let is_virtio = disk.name.starts_with("vd") && whole.starts_with("pci-");
    let legacy = is_virtio.then(|| format!("virtio-{whole}"));
    [Some(whole), older, legacy].into_iter().flatten().map(|name| name.replace('/', "_")).collect()
}

/// What udev would name: no memory disks, no floppies, nothing that is empty but for drives, whose
/// medium comes and goes.
fn is_named(block: &Block) -> bool {
    const FLOPPY: u32 = 2;
    let is_memory = block.name.starts_with("ram") || block.name.starts_with("zram");
    let is_empty = block.size == 0 && (block.is_virtual() || block.name.starts_with("nbd"));
    !(block.hidden || block.major == FLOPPY || is_memory || is_empty || is_private(block))
}

/// The image's own layers, and the hidden parts of logical volumes.
fn is_private(block: &Block) -> bool {
    let of_image = block.loop_file.as_deref().is_some_and(|file| file.starts_with(paths::LAYERS));
    of_image || block.dm.as_ref().is_some_and(|dm| dm.is_private())
}

/// Whether the content is to be read: everything that has a name, but for drives of CDs. What is
/// suspended would not answer.
pub fn is_readable(block: &Block) -> bool {
    const CD: u32 = 11;
    let is_suspended = block.dm.as_ref().is_some_and(|dm| dm.suspended);
    is_named(block) && block.size > 0 && block.major != CD && !is_suspended
}

/// What is on it, where that is beyond doubt: the one signature there is, or the member of an array
/// or volume that it is first of all.
fn certain(report: &DiskReport) -> Option<&Signature> {
    let first = match &report.signatures[..] {
        [one] => one,
        [first, ..] if first.usage == Usage::Raid => first,
        _ => return None,
    };
    // A name that may be made of damaged bytes is none.
    (!matches!(first.health, Health::Damaged(_))).then_some(first)
}

/// libdevmapper has encoded the name already, as `\x20`; of a name by somebody else a slash is left.
fn mapped_name(name: &str) -> String {
    name.replace('/', "\\x2f")
}

/// As mdadm writes it: four groups of eight digits.
fn md_uuid(bytes: &[u8; 16]) -> String {
    let group = |four: &[u8]| four.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    bytes.chunks(4).map(group).collect::<Vec<_>>().join(":")
}

/// Brings the directories below /dev/disk in line. What is not wanted goes, but for names by content
/// of a device that is there and `unread`: after a restart of ours they hold until it was read again.
///
/// Errors are logged, each of one link.
pub fn apply(links: &BTreeMap<String, String>, unread: &BTreeSet<String>, base: &Path) {
    for directory in BY_HARDWARE.iter().chain(BY_CONTENT) {
        let path = base.join(directory);
        let keeps = BY_CONTENT.contains(directory);
        for entry in std::fs::read_dir(&path).into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let target = std::fs::read_link(entry.path()).unwrap_or_default();
            let device = target.to_str().and_then(|target| target.strip_prefix("../../")).unwrap_or_default();
            let is_wanted = links.contains_key(&format!("{directory}/{name}"));
            let holds = keeps && unread.contains(&device.replace('/', "!"));
            if !(is_wanted || holds) {
                log_error(std::fs::remove_file(entry.path()), &entry.path());
            }
        }
    }
    for (link, device) in links {
        let path = base.join(link);
        let target = format!("../../{}", device.replace('!', "/"));
        if std::fs::read_link(&path).is_ok_and(|now| now == Path::new(&target)) {
            continue;
        }
        log_error(point(&path, &target), &path);
    }
}

/// /dev/mapper/NAME of every mapped device, which without udev nobody but libdevmapper's own programs
/// makes. What is a node there is theirs and stays.
///
/// `facts` may be older than a link that was made since: whoever made a device (an overlay) links it
/// itself and uses that at once. So where something is to be done, it is decided by facts `again`, read after the links.
pub fn map(facts: &Facts, again: impl FnOnce() -> Facts, base: &Path) {
    let links = links_in(base);
    if changes(facts, &links, base).is_empty() {
        return;
    }
    for (path, target) in changes(&again(), &links, base) {
        let done = match target {
            Some(target) => point(&path, &target),
            None => std::fs::remove_file(&path),
        };
        log_error(done, &path);
    }
}

/// Names in a directory, and where those lead that are links.
fn links_in(base: &Path) -> BTreeMap<String, Option<PathBuf>> {
    let entries = std::fs::read_dir(base).into_iter().flatten().flatten();
    let named = entries.filter_map(|entry| {
        let link = std::fs::read_link(entry.path()).ok();
        Some((entry.file_name().into_string().ok()?, link))
    });
    named.collect()
}

/// Links to make or move, with their target, and to remove.
fn changes(
    facts: &Facts,
    links: &BTreeMap<String, Option<PathBuf>>,
    base: &Path,
) -> Vec<(PathBuf, Option<String>)> {
    let mapped: BTreeMap<String, String> = facts
        .blocks
        .iter()
        .filter_map(|block| Some((mapped_name(&block.dm.as_ref()?.name), format!("../{}", block.name))))
        .filter(|(name, _)| !matches!(name.as_str(), "" | "." | ".." | "control"))
        .collect();
    let is_ours = |target: &Path| target.to_str().is_some_and(|target| target.starts_with("../dm-"));
    let stale = links
        .iter()
        .filter(|(name, target)| target.as_deref().is_some_and(is_ours) && !mapped.contains_key(*name));
    let stale: Vec<(PathBuf, Option<String>)> = stale.map(|(name, _)| (base.join(name), None)).collect();
    let wrong = mapped.into_iter().filter(|(name, target)| match links.get(name) {
        Some(None) => false,
        Some(Some(now)) => now != Path::new(target),
        None => true,
    });
    stale.into_iter().chain(wrong.map(|(name, target)| (base.join(name), Some(target)))).collect()
}

/// Makes or moves a link, so that there is never none.
fn point(path: &Path, target: &str) -> io::Result<()> {
    let directory = path.parent().unwrap_or(path);
    std::fs::create_dir_all(directory)?;
    let beside = directory.join(format!(".{}~", std::process::id()));
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::os::unix::fs::symlink(target, &beside)?;
    std::fs::rename(&beside, path)
}

fn log_error(result: io::Result<()>, path: &Path) {
    if let Err(error) = result {
        host::log!("link {}: {error}", path.display());
    }
}

/// Most rivals of one name that its warning names: of a chain of boot records that loops the kernel makes 250 partitions.
const NAMED: usize = 4;

/// Names that two devices claim with the same right, one line for each kind that matters; labels are
/// the same on many machines (`boot`, `EFI System Partition`) and are logged only.
pub fn warnings(plan: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    for (directory, what) in
        [("by-uuid", "UUID"), ("by-partuuid", "partition UUID"), ("by-id", "drive's identity")]
    {
        let mut all = plan.doubled.iter().filter(|(link, _, _)| link.split('/').next() == Some(directory));
        let Some((link, winner, rivals)) = all.next() else { continue };
        let dev = |name: &String| format!("/dev/{}", name.replace('!', "/"));
        let others: Vec<String> = rivals.iter().take(NAMED).map(dev).collect();
        let unnamed = match rivals.len() - others.len() {
            0 => String::new(),
            unnamed => format!(" and {unnamed} others"),
        };
        let more = match all.count() {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        lines.push(format!(
            "{} and {}{unnamed} have the same {what}{more}: /dev/disk/{link} is {0}; one may be a copy, so name the device itself",
            dev(winner),
            others.join(", "),
        ));
    }
    lines
}

#[cfg(test)]
mod tests;
