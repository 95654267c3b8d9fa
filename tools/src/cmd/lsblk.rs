//! `lsblk`: the tree of block devices, in util-linux's words, order and columns. Only the columns that are about
//! content make it read the devices.

use crate::report::{Answer, Output, notice};
use crate::scan::{Scan, space};
use crate::tool::{Context, apart, classic};
use contract::facts::{Block, Mount, Space};
use host::shown::Shown;
use host::sysfs::Parts;
use model::build::parts;
use model::parttype;
use model::storage::{Device, Id, Storage};
use model::text::{Column, bytes_of, size, steers, table, without_raw_bytes};
use ondisk::table::{Entry, Table, TableKind};
use ondisk::{DiskReport, Usage};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;

/// lsblk(8): some of the devices named were not found, all of them.
const SOME_OK: i32 = 64;
const ALL_FAILED: i32 = 32;
const RAM_DISK: u32 = 1;
const LOOP: u32 = 7;

/// List block devices as a tree: all, or those given and what is built on them.
/// Reads the devices only for columns about their content (-f), and waits at most
/// 10 seconds for one that does not answer. With any option or column that is not
/// here, the original lsblk runs.
///
///     # lsblk
///     NAME    MAJ:MIN RM  SIZE RO TYPE  MOUNTPOINTS
///     sda       8:0    0   10G  1 disk
///     `-sda1    8:1    0  512M  1 part
///       `-md0   9:0    0  511M  0 raid1 /mnt
#[derive(clap::Parser)]
#[command(name = "lsblk", disable_version_flag = true, verbatim_doc_comment)]
struct Args {
    /// Empty devices and RAM disks too
    #[arg(short = 'a', long)]
    all: bool,
    /// Sizes in bytes
    #[arg(short = 'b', long)]
    bytes: bool,
    /// About discarding: NAME,DISC-ALN,DISC-GRAN,DISC-MAX,DISC-ZERO
    #[arg(short = 'D', long)]
    discard: bool,
    /// Devices alone, not what is built on them
    #[arg(short = 'd', long)]
    nodeps: bool,
    /// About file systems: NAME,FSTYPE,FSVER,LABEL,UUID,FSAVAIL,FSUSE%,MOUNTPOINTS
    #[arg(short = 'f', long)]
    fs: bool,
    /// ASCII alone
    #[arg(short = 'i', long)]
    ascii: bool,
    /// As JSON, in util-linux's form
    #[arg(short = 'J', long, conflicts_with_all = ["list", "raw", "pairs"])]
    json: bool,
    /// A list, each device once
    #[arg(short = 'l', long, conflicts_with_all = ["raw", "pairs"])]
    list: bool,
    /// About nodes: NAME,SIZE,OWNER,GROUP,MODE
    #[arg(short = 'm', long)]
    perms: bool,
    /// No titles
    #[arg(short = 'n', long)]
    noheadings: bool,
    /// NVMe drives alone, with their hardware
    #[arg(short = 'N', long)]
    nvme: bool,
    /// Columns, separated by commas; behind a + beside those that are there anyway
    #[arg(short = 'o', long, value_delimiter = ',')]
    output: Vec<String>,
    /// All columns
    #[arg(short = 'O', long)]
    output_all: bool,
    /// Full paths
    #[arg(short = 'p', long)]
    paths: bool,
    /// KEY="value"
    #[arg(short = 'P', long, conflicts_with = "raw")]
    pairs: bool,
    /// Unaligned, blanks escaped
    #[arg(short = 'r', long)]
    raw: bool,
    /// SCSI devices alone, with their hardware
    #[arg(short = 'S', long)]
    scsi: bool,
    /// About blocks and queues: NAME,ALIGNMENT,MIN-IO,OPT-IO,PHY-SEC,LOG-SEC,ROTA,SCHED,RQ-SIZE,RA,WSAME
    #[arg(short = 't', long)]
    topology: bool,
    /// Virtio disks alone, with their queues
    #[arg(short = 'v', long)]
    virtio: bool,
    /// About zones: NAME,ZONED,ZONE-SZ,ZONE-NR,ZONE-AMAX,ZONE-OMAX,ZONE-APP,ZONE-WGRAN
    #[arg(short = 'z', long)]
    zoned: bool,
    /// The machine captured in this directory
    #[arg(long)]
    sysroot: Option<PathBuf>,
    devices: Vec<PathBuf>,
}

pub fn run(context: &Context, arguments: &[OsString]) -> anyhow::Result<Answer> {
    let args: Args = match classic(context, arguments) {
        Ok(args) => args,
        Err(answer) => return Ok(answer),
    };
    let Some(fields) = fields(&args) else { return Ok(Answer::classic(context.name, arguments)) };
    let context = context.at(args.sysroot.as_deref())?;
    if fields.iter().any(|field| field.reads) {
        apart(&context, &args.devices, |context| list(context, &args, &fields))
    } else {
        list(&context, &args, &fields)
    }
}

fn list(context: &Context, args: &Args, fields: &[&Field]) -> anyhow::Result<Answer> {
    let mut scan = Scan::begin_with(context, parts_of(fields, args));
    let mut names = BTreeSet::new();
    for path in &args.devices {
        match scan.resolve(path) {
            Ok(name) if scan.facts.blocks.iter().any(|block| block.name == name && block.major != 0) => {
                names.insert(name);
            }
            Ok(_) => notice(context.name, &format!("{}: not a block device", path.display())),
            Err(error) => notice(context.name, &format!("{error:#}")),
        }
    }
    let status = match (args.devices.len(), names.len()) {
        (asked, found) if asked == found => 0,
        (_, 0) => return Ok(Answer::exit(ALL_FAILED)),
        _ => SOME_OK,
    };
    let reads = fields.iter().any(|field| field.reads);
    let mut storage = scan.examine(|block| reads && (args.all || block.major != RAM_DISK));
    if fields.iter().any(|field| field.asks) {
        storage.space = space(&context.root, &storage);
    }
    let view = View {
        storage: &storage,
        mounts: Mounts::of(&storage),
        shown: Shown::of(&context.root, fields.iter().any(|field| ["ID", "ID-LINK"].contains(&field.name))),
        bytes: args.bytes,
        paths: args.paths,
        aligned: !args.raw && !args.pairs && !args.json,
        utf8: context.terminal.utf8,
    };
    let roots = roots(&storage, args, &names);
    let parts = parts(&storage);
    let mut nodes: Vec<Node<'_>> = roots
        .iter()
        .map(|device| Node::of(device, parent_disk(&storage, device), &storage, &parts, args, 0))
        .collect();
    nodes.sort_by_key(|node| (node.device.block.major, node.device.block.minor));
    let text = if args.json {
        json(&nodes, &view, fields)
    } else if args.raw || args.pairs {
        unaligned(&nodes, &view, fields, args)
    } else {
        aligned(&nodes, &view, fields, args)
    };
    let output = if args.json { Output::Json(text) } else { Output::Text(text) };
    Ok(Answer { output, exit: status })
}

/// Mounts by what is mounted. btrfs has a device number of its own in mountinfo, so the source counts too.
struct Mounts<'a> {
    all: &'a [Mount],
    by_number: BTreeMap<(u32, u32), Vec<usize>>,
    by_source: BTreeMap<&'a str, Vec<usize>>,
}

impl<'a> Mounts<'a> {
    fn of(storage: &'a Storage) -> Mounts<'a> {
        let (mut by_number, mut by_source) =
            (BTreeMap::<_, Vec<usize>>::new(), BTreeMap::<_, Vec<usize>>::new());
        for (place, mount) in storage.mounts.iter().enumerate() {
            by_number.entry((mount.major, mount.minor)).or_default().push(place);
            by_source.entry(mount.source.as_str()).or_default().push(place);
        }
        Mounts { all: &storage.mounts, by_number, by_source }
    }

    /// Those of one device, the latest first.
    fn on(&self, device: &Device) -> impl Iterator<Item = &'a Mount> {
        let block = &device.block;
        let mapped = block.dm.as_ref().map(|_| path(block));
        let sources = [Some(device.path.as_str()), mapped.as_deref()];
        let by_source = sources.into_iter().flatten().filter_map(|source| self.by_source.get(source));
        let by_number = self.by_number.get(&(block.major, block.minor));
        let places: BTreeSet<usize> = by_number.into_iter().chain(by_source).flatten().copied().collect();
        let all = self.all;
        places.into_iter().rev().map(move |place| &all[place]) // places in this very list
    }
}

fn roots<'a>(storage: &'a Storage, args: &Args, names: &BTreeSet<String>) -> Vec<&'a Device> {
    let listed = |device: &&Device| {
        let block = &device.block;
        if !names.is_empty() {
            return names.contains(&block.name);
        }
        is_shown(block, args)
            && (args.all || block.major != RAM_DISK)
            && block.partition.is_none()
            && block.slaves.is_empty()
    };
    let is_of_a_kind = |device: &&Device| {
        let hardware = &device.block.hardware;
        let by = |transport: &str| hardware.transport.as_deref() == Some(transport);
        (!args.scsi || hardware.hctl.is_some())
            && (!args.nvme || by("nvme"))
            && (!args.virtio || by("virtio"))
    };
    storage.devices.iter().filter(|device| device.node).filter(listed).filter(is_of_a_kind).collect()
}

/// -S, -N and -v show no more than the drives.
fn is_flat(args: &Args) -> bool {
    args.nodeps || args.scsi || args.nvme || args.virtio
}

fn is_shown(block: &Block, args: &Args) -> bool {
    let empty_loop = block.size == 0 && block.major == LOOP && block.loop_file.is_none();
    !block.hidden && (args.all || !empty_loop)
}

fn parent_disk<'a>(storage: &'a Storage, device: &Device) -> Option<&'a Device> {
    storage.get(device.parent.as_ref()?)
}

/// A device where the tree shows it; one with two parents is in it twice.
struct Node<'a> {
    device: &'a Device,
    parent: Option<&'a Device>,
    children: Vec<Node<'a>>,
}

/// Deeper than any stack of devices that the kernel lets be built; a captured tree may have loops.
const DEEPEST: usize = 64;

impl<'a> Node<'a> {
    fn of(
        device: &'a Device,
        parent: Option<&'a Device>,
        storage: &'a Storage,
        parts: &BTreeMap<&'a Id, Vec<&'a Device>>,
        args: &Args,
        depth: usize,
    ) -> Node<'a> {
        let ids = |ids: &'a [Id]| ids.iter().filter_map(|id| storage.get(id));
        let partitions = parts.get(&device.id).into_iter().flatten().copied();
        let mut children: Vec<Node<'a>> = partitions
            .filter(|part| part.node)
            .chain(ids(&device.upper))
            .filter(|_| !is_flat(args) && depth < DEEPEST)
            .filter(|child| is_shown(&child.block, args))
            .map(|child| Node::of(child, Some(device), storage, parts, args, depth + 1))
            .collect();
        children.sort_by_key(|node| (node.device.block.major, node.device.block.minor));
        Node { device, parent, children }
    }

    fn walk<'b>(&'b self, out: &mut Vec<&'b Node<'a>>) {
        out.push(self);
        self.children.iter().for_each(|child| child.walk(out));
    }
}

/// What a column's text is in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    /// A number with -b.
    Size,
    Bool,
    List,
}

/// `None` for an empty cell; several lines are separated by NUL.
type Value = for<'a, 'b> fn(&View<'a>, &Node<'b>) -> Option<String>;

/// A column of lsblk(8).
struct Field {
    name: &'static str,
    right: bool,
    width: usize,
    kind: Kind,
    /// From what is on the device.
    reads: bool,
    /// From the mounted file system.
    asks: bool,
    value: Value,
}

const fn left(name: &'static str, width: usize, value: Value) -> Field {
    Field { name, right: false, width, kind: Kind::Text, reads: false, asks: false, value }
}

const fn right(name: &'static str, width: usize, kind: Kind, value: Value) -> Field {
    Field { name, right: true, width, kind, reads: false, asks: false, value }
}

const fn read(name: &'static str, width: usize, value: Value) -> Field {
    Field { name, right: false, width, kind: Kind::Text, reads: true, asks: false, value }
}

const fn room(name: &'static str, width: usize, kind: Kind, value: Value) -> Field {
    Field { name, right: true, width, kind, reads: false, asks: true, value }
}

/// Sorted by name; widths and sides are util-linux's.
const FIELDS: &[Field] = &[
    right("ALIGNMENT", 6, Kind::Number, |view, node| view.shown.line(&node.device.block, "alignment_offset")),
    right("DAX", 1, Kind::Bool, |view, node| view.queue(node, "dax")),
    right("DISC-ALN", 6, Kind::Number, |view, node| view.if_discarding(node, "discard_alignment")),
    right("DISC-GRAN", 6, Kind::Size, |view, node| match view.queue(node, "discard_granularity") {
        None if view.bytes => None,
        text => Some(view.size(text.and_then(|text| text.parse().ok()).unwrap_or(0))),
    }),
    right("DISC-MAX", 6, Kind::Size, |view, node| view.queue_bytes(node, "discard_max_bytes")),
    right("DISC-ZERO", 1, Kind::Bool, |view, node| view.if_discarding(node, "queue/discard_zeroes_data")),
    right("DISK-SEQ", 1, Kind::Number, |_, node| node.device.block.diskseq.map(|seq| seq.to_string())),
    room("FSAVAIL", 5, Kind::Size, |view, node| view.room(node, |space| space.available)),
    Field { kind: Kind::List, ..left("FSROOTS", 0, |view, node| view.file_system_roots(node)) },
    room("FSSIZE", 5, Kind::Size, |view, node| view.room(node, |space| space.size)),
    read("FSTYPE", 0, |_, node| Some(node.device.listed()?.signatures.first()?.format.clone())),
    room("FSUSE%", 3, Kind::Text, |view, node| view.use_percent(node)),
    room("FSUSED", 5, Kind::Size, |view, node| view.room(node, |space| space.used)),
    read("FSVER", 0, |_, node| node.device.listed()?.signatures.first()?.version.clone()),
    left("GROUP", 0, |view, node| Some(view.shown.node(&node.device.block)?.group)),
    left("HCTL", 10, |_, node| node.device.block.hardware.hctl.clone()),
    right("HOTPLUG", 1, Kind::Bool, |view, node| flag(view.shown.is_hot_plugged(&node.device.block))),
    left("ID", 0, |view, node| {
        let link = view.shown.link(&node.device.block)?;
        let behind = link.split_once('-').map(|(_, behind)| behind).filter(|behind| !behind.is_empty());
        Some(behind.unwrap_or(link).to_string())
    }),
    left("ID-LINK", 0, |view, node| view.shown.link(&node.device.block).map(str::to_string)),
    left("KNAME", 0, |view, node| Some(view.kernel_name(&node.device.block))),
    read("LABEL", 0, |_, node| node.device.listed()?.signatures.first()?.label.clone()),
    right("LOG-SEC", 7, Kind::Number, |_, node| nonzero(node.device.block.logical_block)),
    left("MAJ", 3, |_, node| Some(node.device.block.major.to_string())),
    left("MAJ:MIN", 6, |view, node| view.numbers(node)),
    left("MIN", 3, |_, node| Some(node.device.block.minor.to_string())),
    right("MIN-IO", 6, Kind::Number, |_, node| nonzero(node.device.block.minimum_io)),
    left("MODE", 10, |view, node| Some(mode(view.shown.node(&node.device.block)?.mode))),
    left("MODEL", 0, |_, node| own(node)?.hardware.model.clone()),
    left("MOUNTPOINT", 0, |view, node| view.mount_point(node)),
    Field { kind: Kind::List, ..left("MOUNTPOINTS", 0, |view, node| view.mount_points(node)) },
    right("MQ", 3, Kind::Text, |view, node| match view.shown.queues(&node.device.block) {
        0 => Some("1".to_string()),
        queues => Some(format!("{queues:>3}")),
    }),
    left("NAME", 0, |view, node| Some(view.name(&node.device.block))),
    right("OPT-IO", 6, Kind::Number, |_, node| {
        nonzero(node.device.block.minimum_io).map(|_| node.device.block.optimal_io.to_string())
    }),
    left("OWNER", 0, |view, node| Some(view.shown.node(&node.device.block)?.owner)),
    read("PARTFLAGS", 36, |view, node| match view.entry(node.device)? {
        (TableKind::Mbr, entry) => entry.boot.then(|| "0x80".to_string()),
        (_, entry) => (entry.attributes != 0).then(|| format!("{:#x}", entry.attributes)),
    }),
    read("PARTLABEL", 0, |view, node| {
        view.entry(node.device)?.1.name.clone().filter(|name| !name.is_empty())
    }),
    Field {
        right: true,
        kind: Kind::Number,
        ..read("PARTN", 2, |view, node| Some(view.entry(node.device)?.1.number.to_string()))
    },
    read("PARTTYPE", 36, |view, node| {
        let (kind, entry) = view.entry(node.device)?;
        Some(part_type(kind, &entry.kind))
    }),
    read("PARTTYPENAME", 0, |view, node| match view.entry(node.device)? {
        (TableKind::Gpt, entry) => parttype::gpt(&entry.kind).map(str::to_string),
        (_, entry) => parttype::mbr(u8::from_str_radix(&entry.kind, 16).ok()?).map(str::to_string),
    }),
    read("PARTUUID", 36, |view, node| {
        let (kind, entry) = view.entry(node.device)?;
        let uuid = entry.uuid.as_ref()?.to_lowercase();
        // An MBR without an identifier names no partition.
        (kind != TableKind::Mbr || !uuid.starts_with("00000000-")).then_some(uuid)
    }),
    left("PATH", 0, |_, node| Some(path(&node.device.block))),
    right("PHY-SEC", 7, Kind::Number, |_, node| nonzero(node.device.block.physical_block)),
    left("PKNAME", 0, |view, node| Some(view.kernel_name(&node.parent?.block))),
    read("PTTYPE", 0, |view, node| {
        let kind = view.table(node.device)?.kind;
        (kind != TableKind::Bsd).then(|| kind.name().to_string())
    }),
    read("PTUUID", 36, |view, node| {
        let id = view.table(node.device)?.id.as_ref()?.to_lowercase();
        (id != "0x00000000").then(|| id.trim_start_matches("0x").to_string())
    }),
    right("RA", 3, Kind::Number, |view, node| view.queue(node, "read_ahead_kb")),
    right("RAND", 1, Kind::Bool, |view, node| view.queue(node, "add_random")),
    // The original knows an NVMe drive's by no name.
    right("REV", 4, Kind::Text, |_, node| {
        own(node).filter(|block| block.hardware.scsi_type.is_some())?.hardware.revision.clone()
    }),
    right("RM", 1, Kind::Bool, |_, node| flag(node.device.block.removable)),
    right("RO", 1, Kind::Bool, |_, node| flag(node.device.block.read_only)),
    right("ROTA", 1, Kind::Bool, |view, node| view.queue(node, "rotational")),
    right("RQ-SIZE", 5, Kind::Number, |view, node| view.queue(node, "nr_requests")),
    left("SCHED", 0, |view, node| {
        let text = view.queue(node, "scheduler")?;
        Some(text.split_once('[')?.1.split_once(']')?.0.to_string())
    }),
    left("SERIAL", 0, |_, node| own(node)?.hardware.serial.clone()),
    right("SIZE", 5, Kind::Size, |view, node| Some(view.size(node.device.block.size))),
    right("START", 5, Kind::Number, |_, node| {
        Some((node.device.block.partition.as_ref()?.start / 512).to_string())
    }),
    left("STATE", 7, |_, node| match &node.device.block.dm {
        Some(dm) => Some(if dm.suspended { "suspended" } else { "running" }.to_string()),
        None => node.device.block.hardware.state.clone(),
    }),
    left("SUBSYSTEMS", 0, |view, node| view.shown.subsystems(&node.device.block)),
    left("TRAN", 6, |_, node| node.device.block.hardware.transport.clone()),
    left("TYPE", 4, |_, node| Some(kind(&node.device.block))),
    read("UUID", 36, |_, node| node.device.listed()?.signatures.first()?.uuid.clone()),
    left("VENDOR", 0, |_, node| own(node)?.hardware.vendor.clone()),
    right("WSAME", 6, Kind::Size, |view, node| {
        view.queue_bytes(node, "write_same_max_bytes").or_else(|| Some("0".to_string()))
    }),
    left("WWN", 18, |_, node| {
        let wwid = own(node)?.hardware.wwid.as_ref()?;
        Some(wwid.strip_prefix("naa.").map_or(wwid.clone(), |number| format!("0x{number}")))
    }),
    right("ZONE-AMAX", 10, Kind::Number, |view, node| view.queue_or_0(node, "max_active_zones")),
    right("ZONE-APP", 11, Kind::Size, |view, node| view.queue_bytes(node, "zone_append_max_bytes")),
    right("ZONE-NR", 8, Kind::Number, |view, node| view.queue(node, "nr_zones")),
    right("ZONE-OMAX", 10, Kind::Number, |view, node| view.queue_or_0(node, "max_open_zones")),
    right("ZONE-SZ", 9, Kind::Size, |view, node| {
        let sectors = view.shown.number(&node.device.block, "queue/chunk_sectors")?;
        Some(view.size(sectors.saturating_mul(512)))
    }),
    right("ZONE-WGRAN", 10, Kind::Size, |view, node| view.queue_bytes(node, "zone_write_granularity")),
    left("ZONED", 0, |view, node| view.queue(node, "zoned")),
];

const DEFAULT: &str = "NAME,MAJ:MIN,RM,SIZE,RO,TYPE,MOUNTPOINTS";
const FILE_SYSTEMS: &str = "NAME,FSTYPE,FSVER,LABEL,UUID,FSAVAIL,FSUSE%,MOUNTPOINTS";
const SCSI: &str = "NAME,HCTL,TYPE,VENDOR,MODEL,REV,SERIAL,TRAN";
const NVME: &str = "NAME,TYPE,MODEL,SERIAL,REV,TRAN,RQ-SIZE,MQ";
const VIRTIO: &str = "NAME,TYPE,TRAN,SIZE,RQ-SIZE,MQ";
const DISCARD: &str = "NAME,DISC-ALN,DISC-GRAN,DISC-MAX,DISC-ZERO";
const PERMISSIONS: &str = "NAME,SIZE,OWNER,GROUP,MODE";
const TOPOLOGY: &str = "NAME,ALIGNMENT,MIN-IO,OPT-IO,PHY-SEC,LOG-SEC,ROTA,SCHED,RQ-SIZE,RA,WSAME";
const ZONES: &str = "NAME,ZONED,ZONE-SZ,ZONE-NR,ZONE-AMAX,ZONE-OMAX,ZONE-APP,ZONE-WGRAN";
/// In util-linux's order.
const ALL: &str = "ALIGNMENT,ID-LINK,ID,DISC-ALN,DAX,DISC-GRAN,DISK-SEQ,DISC-MAX,DISC-ZERO,FSAVAIL,FSROOTS,FSSIZE,FSTYPE,\
    FSUSED,FSUSE%,FSVER,GROUP,HCTL,HOTPLUG,KNAME,LABEL,LOG-SEC,MAJ:MIN,MAJ,MIN,MIN-IO,MODE,MODEL,MQ,NAME,OPT-IO,OWNER,\
    PARTFLAGS,PARTLABEL,PARTN,PARTTYPE,PARTTYPENAME,PARTUUID,PATH,PHY-SEC,PKNAME,PTTYPE,PTUUID,RA,RAND,REV,RM,RO,ROTA,\
    RQ-SIZE,SCHED,SERIAL,SIZE,START,STATE,SUBSYSTEMS,MOUNTPOINT,MOUNTPOINTS,TRAN,TYPE,UUID,VENDOR,WSAME,WWN,ZONED,\
    ZONE-SZ,ZONE-WGRAN,ZONE-APP,ZONE-NR,ZONE-OMAX,ZONE-AMAX";

/// `None` for a column that is not ours, and where the order of several options decides.
fn fields(args: &Args) -> Option<Vec<&'static Field>> {
    let presets = [
        (args.fs, FILE_SYSTEMS),
        (args.scsi, SCSI),
        (args.nvme, NVME),
        (args.virtio, VIRTIO),
        (args.discard, DISCARD),
        (args.perms, PERMISSIONS),
        (args.topology, TOPOLOGY),
        (args.zoned, ZONES),
        (args.output_all, ALL),
    ];
    let mut asked = presets.iter().filter(|(is_asked, _)| *is_asked).map(|(_, names)| *names);
    let (preset, another) = (asked.next().unwrap_or(DEFAULT), asked.next());
    if another.is_some() {
        return None;
    }
    let find = |name: &str| FIELDS.iter().find(|field| field.name.eq_ignore_ascii_case(name));
    let names: Vec<&str> = args.output.iter().map(String::as_str).collect();
    let names: Vec<&str> = match names.split_first() {
        None => preset.split(',').collect(),
        Some((first, others)) => match first.strip_prefix('+') {
            Some(first) => preset.split(',').chain([first]).chain(others.iter().copied()).collect(),
            None => names,
        },
    };
    names.into_iter().map(find).collect()
}

/// What the columns show of a device beside its name, number, size and place.
fn parts_of(fields: &[&Field], args: &Args) -> Parts {
    let any = |names: &[&str]| fields.iter().any(|field| names.contains(&field.name));
    Parts {
        flags: any(&["RM", "RO"]),
        logical: true,
        sizes: any(&["MIN-IO", "OPT-IO", "PHY-SEC"]),
        // Of the tree.
        holders: !is_flat(args),
        mounts: any(&["FSAVAIL", "FSROOTS", "FSSIZE", "FSUSE%", "FSUSED", "MOUNTPOINT", "MOUNTPOINTS"]),
        backing: true,
        hardware: args.scsi
            || args.nvme
            || args.virtio
            || any(&["HCTL", "MODEL", "REV", "SERIAL", "STATE", "TRAN", "TYPE", "VENDOR", "WWN"]),
    }
}

/// What makes texts of devices.
struct View<'a> {
    storage: &'a Storage,
    mounts: Mounts<'a>,
    shown: Shown<'a>,
    bytes: bool,
    paths: bool,
    aligned: bool,
    utf8: bool,
}

impl View<'_> {
    fn name(&self, block: &Block) -> String {
        match &block.dm {
            Some(dm) if !self.paths => dm.name.clone(),
            _ if self.paths => path(block),
            _ => block.name.replace('!', "/"),
        }
    }

    fn kernel_name(&self, block: &Block) -> String {
        if self.paths { block.path() } else { block.name.replace('!', "/") }
    }

    fn numbers(&self, node: &Node<'_>) -> Option<String> {
        let Block { major, minor, .. } = &node.device.block;
        Some(if self.aligned { format!("{major:>3}:{minor:<3}") } else { format!("{major}:{minor}") })
    }

    fn size(&self, bytes: u64) -> String {
        if self.bytes { bytes.to_string() } else { size(bytes) }
    }

    /// The table that a disk has, or that a partition is in.
    fn table<'b>(&'b self, device: &'b Device) -> Option<&'b Table> {
        // The table that shows on a RAID member is the array's.
        let shown = |report: &&DiskReport| {
            report
                .signatures
                .first()
                .is_none_or(|first| first.usage != Usage::Raid || first.format == "LVM2_member")
        };
        // Nor does the original speak of BSD's map.
        let own = device.listed().filter(shown).and_then(|report| report.table.as_ref());
        let own = own.filter(|table| table.kind != TableKind::Bsd);
        own.or_else(|| parent_disk(self.storage, device)?.report()?.table.as_ref())
    }

    fn entry<'b>(&'b self, device: &'b Device) -> Option<(TableKind, &'b Entry)> {
        let start = device.block.partition.as_ref()?.start;
        let table = parent_disk(self.storage, device)?.report()?.table.as_ref()?;
        Some((table.kind, table.partitions.iter().find(|entry| entry.extent.start == start)?))
    }

    /// Mount points and the file systems' roots, the latest first, then swap.
    fn targets(&self, device: &Device) -> Vec<(&str, &str)> {
        let is_swap = self
            .storage
            .swaps
            .iter()
            .any(|swap| swap.path == device.path || swap.path == path(&device.block));
        self.mounts
            .on(device)
            .map(|mount| (mount.target.as_str(), mount.root.as_str()))
            .chain(is_swap.then_some(("[SWAP]", "/")))
            .collect()
    }

    fn mount_points(&self, node: &Node<'_>) -> Option<String> {
        let targets: Vec<&str> = self.targets(node.device).into_iter().map(|(target, _)| target).collect();
        (!targets.is_empty()).then(|| targets.join("\0"))
    }

    /// Where the whole of it is mounted, else any part.
    fn mount_point(&self, node: &Node<'_>) -> Option<String> {
        let targets = self.targets(node.device);
        let whole = targets.iter().find(|(_, root)| *root == "/").or(targets.first());
        whole.map(|(target, _)| (*target).to_string())
    }

    fn space(&self, node: &Node<'_>) -> Option<&Space> {
        self.storage.space.get(&self.mount_point(node)?)
    }

    fn room(&self, node: &Node<'_>, bytes: fn(&Space) -> u64) -> Option<String> {
        match bytes(self.space(node)?) {
            0 => Some("0".to_string()),
            bytes => Some(self.size(bytes)),
        }
    }

    fn use_percent(&self, node: &Node<'_>) -> Option<String> {
        let space = self.space(node)?;
        if space.size == 0 {
            return Some("-".to_string());
        }
        let percent = (u128::from(space.used) * 100 + u128::from(space.size) / 2) / u128::from(space.size);
        Some(format!("{percent}%"))
    }

    fn file_system_roots(&self, node: &Node<'_>) -> Option<String> {
        let roots: Vec<&str> = self.mounts.on(node.device).map(|mount| mount.root.as_str()).collect();
        (!roots.is_empty()).then(|| roots.join("\0"))
    }

    /// An attribute of the queue.
    fn queue(&self, node: &Node<'_>, attribute: &str) -> Option<String> {
        self.shown.line(&node.device.block, &format!("queue/{attribute}"))
    }

    fn queue_or_0(&self, node: &Node<'_>, attribute: &str) -> Option<String> {
        self.queue(node, attribute).or_else(|| Some("0".to_string()))
    }

    fn queue_bytes(&self, node: &Node<'_>, attribute: &str) -> Option<String> {
        Some(self.size(self.queue(node, attribute)?.parse().ok()?))
    }

    /// What means something for a device that discards alone.
    fn if_discarding(&self, node: &Node<'_>, attribute: &str) -> Option<String> {
        let block = &node.device.block;
        let granularity = self.shown.number(block, "queue/discard_granularity").unwrap_or(0);
        let text = if granularity > 0 { self.shown.line(block, attribute) } else { None };
        text.or_else(|| Some("0".to_string()))
    }

    /// Each of a column's values, as they are: hostile.
    fn cell(&self, field: &Field, node: &Node<'_>) -> Vec<String> {
        let text = (field.value)(self, node);
        text.iter().flat_map(|text| text.split('\0')).map(str::to_string).collect()
    }
}

/// The name that a person uses: mapped devices by theirs.
fn path(block: &Block) -> String {
    block.dm.as_ref().map_or_else(|| block.path(), |dm| format!("/dev/mapper/{}", dm.name))
}

/// The hardware of a drive itself.
fn own<'a>(node: &Node<'a>) -> Option<&'a Block> {
    let block = &node.device.block;
    (block.partition.is_none() && block.slaves.is_empty()).then_some(block)
}

fn nonzero(number: u32) -> Option<String> {
    (number != 0).then(|| number.to_string())
}

fn flag(set: bool) -> Option<String> {
    Some(u8::from(set).to_string())
}

/// As ls(1) shows it.
fn mode(mode: u32) -> String {
    let kind = match mode & 0o170_000 {
        0o060_000 => 'b',
        0o020_000 => 'c',
        0o040_000 => 'd',
        0o120_000 => 'l',
        0o010_000 => 'p',
        0o140_000 => 's',
        0o100_000 => '-',
        _ => '?',
    };
    let mut out = kind.to_string();
    // Set-user, set-group and sticky are shown in the place of who may execute.
    for (shift, bit, set) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let may = |of: u32| mode >> shift & of != 0;
        out.push(if may(4) { 'r' } else { '-' });
        out.push(if may(2) { 'w' } else { '-' });
        out.push(match (may(1), mode & bit != 0) {
            (true, false) => 'x',
            (false, false) => '-',
            (true, true) => set,
            (false, true) => set.to_ascii_uppercase(),
        });
    }
    out
}

fn kind(block: &Block) -> String {
    /// By SCSI peripheral device type (SPC-4, table 141), as lsblk names them.
    const SCSI_TYPES: [(u8, &str); 13] = [
        (0, "disk"),
        (1, "tape"),
        (2, "printer"),
        (3, "processor"),
        (4, "worm"),
        (5, "rom"),
        (6, "scanner"),
        (7, "mo-disk"),
        (8, "changer"),
        (9, "comm"),
        (12, "raid"),
        (13, "enclosure"),
        (14, "rbc"),
    ];
    if block.partition.is_some() {
        return "part".to_string();
    }
    if let Some(dm) = &block.dm {
        // LVM, CRYPT, DMRAID, MPATH; kpartx writes partN.
        let prefix = dm.uuid.split('-').next().unwrap_or_default().to_lowercase();
        return match prefix.as_str() {
            "" => "dm".to_string(),
            part if part.starts_with("part") => "part".to_string(),
            _ => prefix,
        };
    }
    if block.name.starts_with("loop") {
        return "loop".to_string();
    }
    if block.name.starts_with("md") {
        let level = block.md.as_ref().map(|md| md.level.as_str()).unwrap_or_default();
        return if level.is_empty() { "md".to_string() } else { level.to_string() };
    }
    let scsi = SCSI_TYPES.iter().find(|(number, _)| Some(*number) == block.hardware.scsi_type);
    scsi.map_or("disk", |(_, name)| name).to_string()
}

fn aligned(nodes: &[Node<'_>], view: &View<'_>, fields: &[&Field], args: &Args) -> String {
    let glyphs = view.utf8 && !args.ascii;
    let mut rows = Vec::new();
    if args.list {
        let mut all = Vec::new();
        nodes.iter().for_each(|node| node.walk(&mut all));
        all.sort_by_key(|node| (node.device.block.major, node.device.block.minor));
        all.dedup_by_key(|node| &node.device.id);
        rows.extend(all.into_iter().map(|node| row(node, view, fields, "", "")));
    } else {
        let glyphs = if glyphs { ["├─", "└─", "│ "] } else { ["|-", "`-", "| "] };
        branches(nodes, "", true, glyphs, &mut |node, first, below| {
            rows.push(row(node, view, fields, first, below));
        });
    }
    if rows.is_empty() {
        return String::new();
    }
    let column = |field: &&Field| Column { title: field.name, right: field.right, width: field.width };
    let columns: Vec<Column<'_>> = fields.iter().map(column).collect();
    table(&columns, &rows, !args.noheadings)
}

fn row(node: &Node<'_>, view: &View<'_>, fields: &[&Field], first: &str, below: &str) -> Vec<String> {
    let cells: Vec<Vec<String>> = fields.iter().map(|field| view.cell(field, node)).collect();
    let height = cells.iter().map(Vec::len).max().unwrap_or(1);
    let text = |(field, lines): (&&Field, Vec<String>)| {
        let lines: Vec<String> = lines.iter().map(|line| safe(line, view.utf8)).collect();
        let mut text = lines.join("\n");
        if field.name == "NAME" {
            text.insert_str(0, first);
            // The branches of what follows run past the further lines of this one.
            (1..height).for_each(|_| text.extend(["\n", below]));
        }
        text
    };
    fields.iter().zip(cells).map(text).collect()
}

/// Calls back for each node with what stands before its name, and before the further lines of its row.
fn branches(
    nodes: &[Node<'_>],
    indent: &str,
    top: bool,
    glyphs: [&str; 3],
    row: &mut impl FnMut(&Node<'_>, &str, &str),
) {
    let [tee, corner, bar] = glyphs;
    for (i, node) in nodes.iter().enumerate() {
        let last = i + 1 == nodes.len();
        let (glyph, below) = match (top, last) {
            (true, _) => ("", ""),
            (false, true) => (corner, "  "),
            (false, false) => (tee, bar),
        };
        let inner = format!("{indent}{below}");
        let further = if node.children.is_empty() { inner.clone() } else { format!("{inner}{bar}") };
        row(node, &format!("{indent}{glyph}"), &further);
        branches(&node.children, &inner, false, glyphs, row);
    }
}

/// -r and -P: a device with two parents is there twice, as in the tree.
fn unaligned(nodes: &[Node<'_>], view: &View<'_>, fields: &[&Field], args: &Args) -> String {
    let mut all = Vec::new();
    nodes.iter().for_each(|node| node.walk(&mut all));
    let mut out = String::new();
    if args.raw && !args.noheadings {
        let titles: Vec<&str> = fields.iter().map(|field| field.name).collect();
        out += &titles.join(" ");
        out.push('\n');
    }
    for node in all {
        let cell = |field: &&Field| {
            let value = view.cell(field, node).join("\n");
            if args.pairs {
                format!("{}=\"{}\"", field.name, hex_escaped(&value, b"\"$`\\"))
            } else {
                hex_escaped(&value, b" \\")
            }
        };
        out += &fields.iter().map(cell).collect::<Vec<_>>().join(" ");
        out.push('\n');
    }
    out
}

/// A cell as util-linux shows it (lib/mbsalign.c): what cannot be printed, in the C locale all beyond ASCII, and a `\`
/// that would look like such an escape, as `\x` and two hex digits for each byte. Where it would print what
/// reorders a line, we do not.
fn safe(text: &str, utf8: bool) -> String {
    let mut out = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        let looks_escaped = c == '\\' && rest.as_str().starts_with('x');
        if steers(c) || looks_escaped || (!utf8 && !c.is_ascii()) {
            out.extend(bytes_of(c).map(|byte| format!("\\x{byte:02x}")));
        } else {
            out.push(c);
        }
    }
    out
}

/// For -r and -P: printable ASCII but for what is special.
fn hex_escaped(text: &str, special: &[u8]) -> String {
    let mut out = String::new();
    for byte in text.chars().flat_map(bytes_of) {
        match byte {
            b' '..=b'~' if !special.contains(&byte) => out.push(char::from(byte)),
            _ => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out
}

/// libsmartcols' own layout of JSON, which scripts have come to parse by lines.
fn json(nodes: &[Node<'_>], view: &View<'_>, fields: &[&Field]) -> String {
    let mut out = "{\n   \"blockdevices\": [\n".to_string();
    if nodes.is_empty() {
        out.push('\n');
    } else {
        json_nodes(nodes, view, fields, 2, &mut out);
    }
    out += "   ]\n}\n";
    out
}

fn json_nodes(nodes: &[Node<'_>], view: &View<'_>, fields: &[&Field], depth: usize, out: &mut String) {
    let pad = "   ".repeat(depth);
    for (i, node) in nodes.iter().enumerate() {
        out.push_str(if i == 0 { &pad } else { "," });
        out.push_str("{\n");
        let mut members: Vec<String> =
            fields.iter().map(|field| json_field(node, view, field, &pad)).collect();
        if !node.children.is_empty() {
            let mut children = format!("{pad}   \"children\": [\n");
            json_nodes(&node.children, view, fields, depth + 2, &mut children);
            children += &format!("{pad}   ]");
            members.push(children);
        }
        out.push_str(&members.join(",\n"));
        out.push_str(&format!("\n{pad}}}"));
    }
    out.push('\n');
}

fn json_field(node: &Node<'_>, view: &View<'_>, field: &Field, pad: &str) -> String {
    // JSON has no bytes that are no text.
    let quoted = |text: &str| serde_json::Value::from(without_raw_bytes(text)).to_string();
    let text = (field.value)(view, node);
    let value = match (field.kind, text) {
        (Kind::List, None) => "[]".to_string(),
        (Kind::List, Some(text)) => {
            let lines: Vec<String> = text.split('\0').map(quoted).collect();
            format!("[\n{pad}       {}\n{pad}   ]", lines.join(", "))
        }
        (Kind::Bool, None) => "false".to_string(),
        (_, None) => "null".to_string(),
        (Kind::Number, Some(text)) => text,
        (Kind::Size, Some(text)) if view.bytes => text,
        (Kind::Bool, Some(text)) => (text == "1").to_string(),
        (Kind::Text | Kind::Size, Some(text)) => quoted(&text),
    };
    format!("{pad}   {}: {value}", quoted(&field.name.to_lowercase()))
}

/// As libblkid writes it: a GUID in small letters, a number, or the table's own word.
fn part_type(table: TableKind, kind: &str) -> String {
    match table {
        TableKind::Gpt => kind.to_lowercase(),
        TableKind::Mbr => format!("0x{}", kind.trim_start_matches('0')),
        TableKind::Bsd | TableKind::Sun | TableKind::Sgi => format!("0x{kind}"),
        TableKind::Mac | TableKind::Atari => kind.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_sorted_and_the_presets_are_among_them() {
        assert!(FIELDS.windows(2).all(|pair| pair[0].name < pair[1].name));
        assert_eq!(ALL.split(',').count(), FIELDS.len());
        let presets = [DEFAULT, FILE_SYSTEMS, SCSI, NVME, VIRTIO, DISCARD, PERMISSIONS, TOPOLOGY, ZONES, ALL];
        for preset in presets {
            for name in preset.split(',') {
                assert!(FIELDS.iter().any(|field| field.name == name), "{name}");
            }
        }
    }

    /// Seen of util-linux's on disks with each map.
    #[test]
    fn a_partition_s_type_is_written_as_its_table_has_it() {
        for (table, kind, want) in [
            (TableKind::Gpt, "0FC63DAF-8483-4772-8E79-3D69D8477DE4", "0fc63daf-8483-4772-8e79-3d69d8477de4"),
            (TableKind::Mbr, "05", "0x5"),
            (TableKind::Sgi, "a", "0xa"),
            (TableKind::Sun, "83", "0x83"),
            (TableKind::Mac, "Apple_UNIX_SVR2", "Apple_UNIX_SVR2"),
        ] {
            assert_eq!(part_type(table, kind), want, "{table:?}");
        }
    }

    #[test]
    fn a_mode_is_shown_as_ls_shows_it() {
        for (bits, want) in [
            (0o060_660, "brw-rw----"),
            (0o100_755, "-rwxr-xr-x"),
            (0o041_777, "drwxrwxrwt"),
            (0o106_640, "-rwSr-S---"),
        ] {
            assert_eq!(mode(bits), want);
        }
    }

    #[test]
    fn a_type_is_what_the_device_is_made_by() {
        let dm = |uuid: &str| Block {
            name: "dm-0".to_string(),
            dm: Some(contract::facts::Dm { uuid: uuid.to_string(), ..Default::default() }),
            ..Block::default()
        };
        let named = |name: &str| Block { name: name.to_string(), ..Block::default() };
        let cases = [
            (dm("LVM-abc"), "lvm"),
            (dm("CRYPT-LUKS2-x"), "crypt"),
            (dm("part1-mpath-x"), "part"),
            (dm(""), "dm"),
            (named("md0"), "md"),
            (named("loop3"), "loop"),
            (named("vda"), "disk"),
        ];
        for (block, want) in cases {
            assert_eq!(kind(&block), want, "{block:?}");
        }
    }
}
