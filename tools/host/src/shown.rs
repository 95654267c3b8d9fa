//! What lsblk(8) shows of a device beside [`crate::sysfs::facts`]: its queue, the way to it, its node and the names that
//! udev's rules give it. Read one by one, when such a column is asked for: most listings want none of it.

use crate::Root;
use contract::facts::Block;
use rustix::fs::OFlags;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

const CLASS: &str = "/sys/class/block";
const DEVICES: &str = "/sys/devices";
const BY_ID: &str = "/dev/disk/by-id";
/// In the place of what a captured machine has no node for: `root:disk:60660`.
pub(crate) const NODE: &str = "node";
/// Everything that may be asked for with [`Shown::line`]; a capture keeps them all.
const ATTRIBUTES: &[&str] = &[
    "alignment_offset",
    "discard_alignment",
    "queue/add_random",
    "queue/chunk_sectors",
    "queue/dax",
    "queue/discard_granularity",
    "queue/discard_max_bytes",
    "queue/discard_zeroes_data",
    "queue/max_active_zones",
    "queue/max_open_zones",
    "queue/nr_requests",
    "queue/nr_zones",
    "queue/read_ahead_kb",
    "queue/rotational",
    "queue/scheduler",
    "queue/write_same_max_bytes",
    "queue/zone_append_max_bytes",
    "queue/zone_write_granularity",
    "queue/zoned",
];

pub struct Shown<'a> {
    root: &'a Root,
    /// By kernel name.
    links: Option<HashMap<String, String>>,
}

/// Who may use a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub owner: String,
    pub group: String,
    /// With the kind of the file, as stat(2) has it.
    pub mode: u32,
}

impl<'a> Shown<'a> {
    /// `links` where [`Shown::link`] will be asked.
    pub fn of(root: &'a Root, links: bool) -> Shown<'a> {
        Shown { root, links: links.then(|| by_id(root)) }
    }

    /// An attribute; of a partition, whose queue is its disk's.
    pub fn line(&self, block: &Block, attribute: &str) -> Option<String> {
        let disk = block.partition.as_ref().map(|partition| &partition.disk);
        let name = disk.filter(|_| attribute.starts_with("queue/")).unwrap_or(&block.name);
        self.root.line(format!("{CLASS}/{name}/{attribute}"))
    }

    pub fn number(&self, block: &Block, attribute: &str) -> Option<u64> {
        self.line(block, attribute)?.parse().ok()
    }

    /// Hardware queues; 0 where the driver tells of none.
    pub fn queues(&self, block: &Block) -> usize {
        self.root.list(format!("{CLASS}/{}/mq", block.name)).map_or(0, |names| names.len())
    }

    /// Whether somebody may pull it out, as its port says: `removable` of the first device above it that knows.
    pub fn is_hot_plugged(&self, block: &Block) -> bool {
        let said = |directory: &Path| {
            let text = self.root.line(directory.join("removable"))?;
            ["fixed", "removable"].iter().position(|word| text.starts_with(word))
        };
        above(block).iter().find_map(|directory| said(directory)) == Some(1)
    }

    /// From the device up, each once where several follow each other: `block:scsi:pci`.
    pub fn subsystems(&self, block: &Block) -> Option<String> {
        let named = |directory: PathBuf| {
            let link = self.root.link(directory.join("subsystem")).ok()?;
            Some(link.file_name()?.to_str()?.to_string())
        };
        let mut names: Vec<String> = above(block).into_iter().filter_map(named).collect();
        names.dedup();
        (!names.is_empty()).then(|| names.join(":"))
    }

    /// The shortest of its names in /dev/disk/by-id.
    pub fn link(&self, block: &Block) -> Option<&str> {
        self.links.as_ref()?.get(&block.name).map(String::as_str)
    }

    pub fn node(&self, block: &Block) -> Option<Node> {
        if !self.root.is_live() {
            let text = self.line(block, NODE)?;
            let (owner, rest) = text.split_once(':')?;
            let (group, mode) = rest.split_once(':')?;
            let mode = u32::from_str_radix(mode, 8).ok()?;
            return Some(Node { owner: owner.to_string(), group: group.to_string(), mode });
        }
        let fd = self.root.open_at(block.path(), OFlags::PATH).ok()?;
        let stat = rustix::fs::fstat(fd).ok()?;
        let owner = self.name_of("/etc/passwd", stat.st_uid).unwrap_or_default();
        let group = self.name_of("/etc/group", stat.st_gid).unwrap_or_default();
        Some(Node { owner, group, mode: stat.st_mode })
    }

    /// A static binary asks no name service.
    fn name_of(&self, table: &str, id: u32) -> Option<String> {
        let text = self.root.read_text(table).ok()?;
        let is = |line: &&str| line.split(':').nth(2).and_then(|field| field.parse().ok()) == Some(id);
        Some(text.lines().find(is)?.split(':').next()?.to_string())
    }
}

/// Looks at all of it, for whoever tapes the root.
pub(crate) fn keep(root: &Root, blocks: &[Block]) {
    let shown = Shown::of(root, true);
    for block in blocks {
        for attribute in ATTRIBUTES {
            shown.line(block, attribute);
        }
        shown.queues(block);
        shown.is_hot_plugged(block);
        shown.subsystems(block);
    }
}

/// As [`Shown::node`] reads it where there is no node.
pub(crate) fn node_text(node: &Node) -> String {
    format!("{}:{}:{:o}\n", node.owner, node.group, node.mode)
}

/// Its directory and those above it, nearest first.
fn above(block: &Block) -> Vec<PathBuf> {
    let Some(path) = &block.hardware.path else { return Vec::new() };
    let own = Path::new(DEVICES).join(path);
    own.ancestors().take_while(|directory| *directory != Path::new(DEVICES)).map(Path::to_path_buf).collect()
}

fn by_id(root: &Root) -> HashMap<String, String> {
    let mut links = HashMap::<String, String>::new();
    for name in root.list(BY_ID).unwrap_or_default() {
        let Ok(target) = root.link(Path::new(BY_ID).join(&name)) else { continue };
        let (Some(device), Some(name)) =
            (target.file_name().and_then(|device| device.to_str()), name.to_str())
        else {
            continue;
        };
        let known = links.entry(device.to_string()).or_insert_with(|| name.to_string());
        if name.len() < known.len() {
            *known = name.to_string();
        }
    }
    links
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::facts::{Hardware, Partition};
    use std::fs;
    use std::os::unix::fs::symlink;

    fn machine() -> (tempfile::TempDir, Block, Block) {
        let directory = tempfile::tempdir().unwrap();
        let disk = "pci0000:00/usb1/1-1/host0/0:0:0:0/block/sda";
        let devices = directory.path().join("sys/devices");
        let put = |path: &str, text: &str| {
            let path = devices.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put(&format!("{disk}/removable"), "0\n");
        put(&format!("{disk}/queue/read_ahead_kb"), "128\n");
        put(&format!("{disk}/mq/0/cpu_list"), "0\n");
        put(&format!("{disk}/sda1/discard_alignment"), "512\n");
        put(&format!("{disk}/sda1/node"), "root:disk:60660\n");
        put("pci0000:00/usb1/1-1/removable", "removable\n");
        put("pci0000:00/usb1/removable", "fixed\n");
        let class = directory.path().join("sys/class/block");
        fs::create_dir_all(&class).unwrap();
        symlink(format!("../../devices/{disk}"), class.join("sda")).unwrap();
        symlink(format!("../../devices/{disk}/sda1"), class.join("sda1")).unwrap();
        let subsystems = [
            (format!("{disk}/sda1"), "block"),
            (disk.to_string(), "block"),
            ("pci0000:00/usb1/1-1/host0/0:0:0:0".to_string(), "scsi"),
            ("pci0000:00/usb1/1-1/host0".to_string(), "scsi"),
            ("pci0000:00/usb1/1-1".to_string(), "usb"),
        ];
        for (path, subsystem) in subsystems {
            symlink(format!("../x/{subsystem}"), devices.join(path).join("subsystem")).unwrap();
        }
        let links = directory.path().join("dev/disk/by-id");
        fs::create_dir_all(&links).unwrap();
        for (name, device) in [("usb-Stick_1-0:0", "sda"), ("wwn-0x5", "sda"), ("wwn-0x5-part1", "sda1")] {
            symlink(format!("../../{device}"), links.join(name)).unwrap();
        }
        let block = |name: &str, path: String, partition| Block {
            name: name.to_string(),
            partition,
            hardware: Hardware { path: Some(path), ..Hardware::default() },
            ..Block::default()
        };
        let partition = Partition { disk: "sda".to_string(), number: 1, start: 512 };
        let part = block("sda1", format!("{disk}/sda1"), Some(partition));
        (directory, block("sda", disk.to_string(), None), part)
    }

    #[test]
    fn a_partition_has_the_queue_of_its_disk_and_an_alignment_of_its_own() {
        let (directory, disk, part) = machine();
        let root = Root::at(directory.path()).unwrap();
        let shown = Shown::of(&root, true);
        assert_eq!(shown.line(&part, "queue/read_ahead_kb").as_deref(), Some("128"));
        assert_eq!(shown.number(&part, "discard_alignment"), Some(512));
        assert_eq!((shown.queues(&disk), shown.queues(&part)), (1, 0));
        assert_eq!(shown.link(&disk), Some("wwn-0x5"));
        assert_eq!(shown.link(&part), Some("wwn-0x5-part1"));
        let node = Node { owner: "root".to_string(), group: "disk".to_string(), mode: 0o60660 };
        assert_eq!(shown.node(&part), Some(node));
        assert_eq!(shown.node(&disk), None);
    }

    #[test]
    fn the_port_says_whether_a_device_can_be_pulled_out_and_the_way_to_it_is_named() {
        let (directory, disk, part) = machine();
        let root = Root::at(directory.path()).unwrap();
        let shown = Shown::of(&root, false);
        assert!(shown.is_hot_plugged(&disk) && shown.is_hot_plugged(&part));
        assert_eq!(shown.subsystems(&part).as_deref(), Some("block:scsi:usb"));
        fs::write(directory.path().join("sys/devices/pci0000:00/usb1/1-1/removable"), "fixed\n").unwrap();
        assert!(!shown.is_hot_plugged(&disk));
    }
}
