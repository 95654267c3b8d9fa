//! `fdisk -l` and `-x`: what util-linux's prints for the same disks, and `--json`. Everything else that fdisk does is
//! the original's.

use crate::report::{Answer, notice};
use crate::scan::Scan;
use crate::tool::{Context, apart, classic};
use contract::exit;
use contract::facts::Block;
use host::sysfs::Parts;
use model::build::partition_name;
use model::disklabel;
use model::parttype;
use model::storage::{Device, Observed, Problem, Storage, by_device};
use model::text::{Column, Untrusted, size, size_long, table};
use ondisk::table::{Chs, Entry, Items, Reader, Slice, Table, TableKind};
use serde::Serialize;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

/// List partition tables: of the disks or image files given, else of all disks.
/// Reads only, and waits at most 10 seconds for a disk that does not answer.
/// Without -l or -x, and with any option that is not here, the original fdisk runs.
///
///     # fdisk -l /dev/sda
///     Disk /dev/sda: 10 GiB, 10737418240 bytes, 20971520 sectors
#[derive(clap::Parser)]
#[command(name = "fdisk", disable_version_flag = true, verbatim_doc_comment)]
struct Args {
    /// List the tables
    #[arg(short = 'l', long, required_unless_present = "list_details")]
    list: bool,
    /// With all that they say
    #[arg(short = 'x', long)]
    list_details: bool,
    /// Columns to print, separated by commas
    #[arg(short = 'o', long, value_delimiter = ',')]
    output: Vec<String>,
    /// Sizes in bytes
    #[arg(long)]
    bytes: bool,
    /// As JSON, schema 1
    #[arg(long)]
    json: bool,
    /// The original's unit, which sectors are anyway
    #[arg(short = 'u', long, num_args = 0..=1, require_equals = true, default_missing_value = "sectors", value_parser = ["sectors"], hide = true)]
    units: Option<String>,
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
    apart(&context.at(args.sysroot.as_deref())?, &args.devices, |context| list(context, &args, arguments))
}

fn list(context: &Context, args: &Args, arguments: &[OsString]) -> anyhow::Result<Answer> {
    let sizes = !Scan::asks(context);
    let parts = Parts { logical: sizes, sizes, hardware: true, ..Parts::NONE };
    let mut scan = Scan::begin_with(context, parts);
    let mut shown = Shown::default();
    if args.devices.is_empty() && !args.json {
        scan.tables_alone().examine_in_turn(is_listed, |storage| {
            let disks = storage.devices.iter().filter(|device| is_listed(&device.block));
            shown.add(args, storage, &disks.collect::<Vec<_>>());
        });
        return Ok(shown.answer(context, arguments));
    }
    let names = names(context, args, &mut scan, &mut shown);
    if !args.json {
        let storage = scan.tables_alone().examine(|block| names.contains(&block.name));
        shown.add(args, &storage, &named(&storage, &names));
        return Ok(shown.answer(context, arguments));
    }
    // Ours has the problems of what lies there, too.
    let storage = scan.examine(|block| names.contains(&block.name));
    let disks = shown.opened(&named(&storage, &names));
    shown.refused.iter().for_each(|text| notice(context.name, text));
    match columns(&args.output, &disks) {
        Some(_) => Answer::json(1, &Listing::of(&disks, &storage), shown.status),
        None => Ok(Answer::classic(context.name, arguments)),
    }
}

/// What is to be printed, gathered disk by disk.
#[derive(Default)]
struct Shown {
    /// Of disks that could not be opened.
    refused: Vec<String>,
    warnings: Vec<String>,
    text: String,
    status: i32,
    /// A table has no such column, or a column is not ours.
    foreign: bool,
}

impl Shown {
    /// Those that were read.
    fn opened<'a>(&mut self, disks: &[&'a Device]) -> Vec<&'a Device> {
        let mut opened = Vec::new();
        for device in disks {
            match &device.report {
                Observed::Examined { .. } => opened.push(*device),
                Observed::Hung { reason } | Observed::Skipped { reason } | Observed::Failed { reason } => {
                    self.refused.push(format!("cannot open {}: {reason}", device.path));
                    self.status = exit::NO;
                }
            }
        }
        opened
    }

    fn add(&mut self, args: &Args, storage: &Storage, disks: &[&Device]) {
        let disks = self.opened(disks);
        let Some(columns) = columns(&args.output, &disks) else {
            self.foreign = true;
            return;
        };
        let look = Look { bytes: args.bytes, details: args.list_details };
        let problems = by_device(storage);
        for disk in disks {
            let own = problems.get(disk.path.as_str()).map_or(&[][..], Vec::as_slice);
            self.warnings.append(&mut warnings(disk, own));
            self.text += if self.text.is_empty() { "" } else { "\n\n" };
            self.text += &text(disk, &columns, &look);
        }
    }

    fn answer(self, context: &Context, arguments: &[OsString]) -> Answer {
        self.refused.iter().for_each(|text| notice(context.name, text));
        if self.foreign {
            return Answer::classic(context.name, arguments);
        }
        self.warnings.iter().for_each(|text| notice(context.name, text));
        Answer::text(self.text, self.status)
    }
}

/// Kernel names of the disks that were asked for.
fn names(context: &Context, args: &Args, scan: &mut Scan, shown: &mut Shown) -> Vec<String> {
    if args.devices.is_empty() {
        let listed = scan.facts.blocks.iter().filter(|block| is_listed(block));
        return listed.map(|block| block.name.clone()).collect();
    }
    let mut names = Vec::new();
    for path in &args.devices {
        match scan.resolve(path) {
            Ok(name) => names.push(name),
            Err(error) => {
                notice(context.name, &format!("{error:#}"));
                shown.status = exit::NO;
            }
        }
    }
    names
}

/// The devices of these names, in their order.
fn named<'a>(storage: &'a Storage, names: &[String]) -> Vec<&'a Device> {
    let by_name: BTreeMap<&str, &Device> =
        storage.devices.iter().map(|device| (device.block.name.as_str(), device)).collect();
    names.iter().filter_map(|name| by_name.get(name.as_str()).copied()).collect()
}

/// Whole disks with something on them; no CD drives, and no pieces of a logical volume.
fn is_listed(block: &Block) -> bool {
    let is_cdrom = block.hardware.scsi_type == Some(5);
    let is_private = block.dm.as_ref().is_some_and(|dm| dm.is_private());
    block.partition.is_none() && block.size > 0 && !is_cdrom && !is_private
}

/// Numbers as the heading shows them, in bytes but for `sectors`.
struct Sizes {
    bytes: u64,
    sectors: u64,
    logical: u64,
    physical: u64,
    minimum_io: u64,
    optimal_io: u64,
    alignment_offset: u64,
}

impl Sizes {
    fn of(block: &Block) -> Sizes {
        let or = |value: u32, other: u64| if value == 0 { other } else { u64::from(value) };
        let logical = or(block.logical_block, 512);
        let physical = or(block.physical_block, logical);
        let minimum_io = or(block.minimum_io, logical);
        // 32 MiB less 512 is what broken controllers say, and what is no multiple of a sector is no use.
        let optimal_io = match or(block.optimal_io, minimum_io) {
            33_553_920 => physical,
            size if size % physical != 0 => physical,
            size => size,
        };
        let sectors = block.size / logical;
        let alignment_offset = u64::try_from(block.alignment_offset).unwrap_or(0);
        Sizes {
            bytes: sectors * logical,
            sectors,
            logical,
            physical,
            minimum_io,
            optimal_io,
            alignment_offset,
        }
    }

    /// `fdisk_lba_is_phy_aligned` of libfdisk.
    fn aligned(&self, start: u64) -> bool {
        let granularity = self.physical.max(self.minimum_io);
        start % granularity == self.alignment_offset % granularity
    }
}

fn path(device: &Device) -> String {
    match &device.block.dm {
        Some(dm) => format!("/dev/mapper/{}", dm.name),
        None => device.path.clone(),
    }
}

/// The table as fdisk reads it. What else there is, is in the warnings and in our JSON.
fn read(disk: &Device) -> Option<&Table> {
    disk.report()?.table.as_ref()?.read_by(Reader::Libfdisk)
}

/// What fdisk, and we, have to say about a disk beside the listing.
fn warnings(disk: &Device, problems: &[&Problem]) -> Vec<String> {
    let mut texts: Vec<String> = problems.iter().map(|problem| problem.text.clone()).collect();
    let sizes = Sizes::of(&disk.block);
    let Some(table) = read(disk) else { return texts };
    if matches!(table.kind, TableKind::Mac | TableKind::Atari) {
        let count = table.partitions.len();
        texts.push(format!(
            "{} has a {} partition table of {count} entries, which fdisk does not list: rescue status",
            disk.path,
            table.kind.name()
        ));
        return texts;
    }
    let limit = u64::from(u32::MAX) * sizes.logical;
    if table.kind == TableKind::Mbr && sizes.bytes > limit {
        texts.push(format!(
            "The size of {} is {} ({} bytes). DOS partition table format cannot be used on drives for volumes larger than {limit} bytes for {}-byte sectors. Use GUID partition table format (GPT).",
            disk.path, size_long(sizes.bytes), sizes.bytes, sizes.logical
        ));
    }
    texts.extend(disklabel::warnings(table));
    for row in rows(table, &sizes).iter().filter(|row| !row.is_aligned) {
        texts.push(format!("Partition {} does not start on physical sector boundary.", row.number));
    }
    texts
}

/// How much is asked for.
#[derive(Clone, Copy, Debug, Default)]
struct Look {
    bytes: bool,
    /// `-x`.
    details: bool,
}

fn text(disk: &Device, columns: &[Field], look: &Look) -> String {
    let sizes = Sizes::of(&disk.block);
    let found = read(disk).filter(|table| !matches!(table.kind, TableKind::Mac | TableKind::Atari));
    let mut out = format!(
        "Disk {}: {}, {} bytes, {} sectors\n",
        Untrusted(&path(disk)),
        size_long(sizes.bytes),
        sizes.bytes,
        sizes.sectors
    );
    if let Some(model) = &disk.block.hardware.model {
        out += &format!("Disk model: {}\n", Untrusted(model));
    }
    if let Some(label) = found.and_then(|table| table.label.as_ref()) {
        let Chs { cylinders, heads, sectors } = disklabel::geometry(label, sizes.sectors);
        out += &format!("Geometry: {heads} heads, {sectors} sectors/track, {cylinders} cylinders\n");
    }
    // A GPT that was written for other sectors counts in those.
    let gpt = found.filter(|table| table.kind == TableKind::Gpt);
    let unit = gpt.map_or(sizes.logical, |table| table.sector.into());
    out += &format!("Units: sectors of 1 * {unit} = {unit} bytes\n");
    out += &format!("Sector size (logical/physical): {} bytes / {} bytes\n", sizes.logical, sizes.physical);
    out += &format!("I/O size (minimum/optimal): {} bytes / {} bytes\n", sizes.minimum_io, sizes.optimal_io);
    if sizes.alignment_offset != 0 {
        out += &format!("Alignment offset: {} bytes\n", sizes.alignment_offset);
    }
    let Some(found) = found else { return out };
    out += &format!("Disklabel type: {}\n", found.kind.name());
    if look.details {
        let items = disklabel::items(found);
        items.iter().for_each(|(name, value)| out += &format!("{name}: {value}\n"));
    } else if let Some(id) = &found.id {
        out += &format!("Disk identifier: {}\n", Untrusted(id));
    }
    let rows = rows(found, &sizes);
    if rows.is_empty() {
        return out;
    }
    let fields: Vec<Field> = match columns {
        [] => shown(found.kind, look.details),
        _ => columns.to_vec(),
    };
    let titles: Vec<Column<'_>> = fields.iter().map(|field| field.column(found.kind)).collect();
    let cells = |row: &Row<'_>| fields.iter().map(|field| field.cell(disk, found.kind, row, look)).collect();
    let lines: Vec<Vec<String>> = rows.iter().map(cells).collect();
    out.push('\n');
    out += &table(&titles, &lines, true);
    let misaligned = rows.iter().any(|row| !row.is_aligned);
    let disordered = !rows.iter().filter(|row| !row.is_whole).map(|row| row.start).is_sorted();
    // The line above the warnings, which themselves go to stderr.
    if misaligned || disordered {
        out.push('\n');
    }
    if disordered {
        out += "Partition table entries are not in disk order.\n";
    }
    out
}

/// A partition as fdisk shows it.
struct Row<'a> {
    number: u32,
    /// In the sectors of the table, or of the disk where the table is of a kind that knows no other.
    start: u64,
    sectors: u64,
    bytes: u64,
    is_aligned: bool,
    /// It is the whole disk's, so that its start says nothing of the order.
    is_whole: bool,
    code: String,
    type_name: Option<&'static str>,
    attributes: String,
    entry: Option<&'a Entry>,
    slice: Option<&'a Slice>,
}

/// Those of the table itself: fdisk does not list a table that lies within one of them.
fn rows<'a>(table: &'a Table, sizes: &Sizes) -> Vec<Row<'a>> {
    if let Some(label) = &table.label {
        return label.slices.iter().map(|slice| row_of_slice(slice, &label.items, sizes)).collect();
    }
    let own = table.partitions.iter().filter(|entry| entry.within.is_none());
    own.map(|entry| row_of_entry(table, entry, sizes)).collect()
}

fn row_of_entry<'a>(table: &Table, entry: &'a Entry, sizes: &Sizes) -> Row<'a> {
    let sector = u64::from(table.sector.max(1));
    let code = match (table.kind, entry.kind.trim_start_matches('0')) {
        (_, "") => "0".to_string(),
        (TableKind::Gpt, _) => Untrusted(&entry.kind).to_string(),
        (_, kind) => Untrusted(kind).to_string(),
    };
    let attributes = match table.kind {
        TableKind::Gpt => disklabel::attributes(entry.attributes),
        _ if entry.boot_byte != 0 => format!("{:02x}", entry.boot_byte),
        _ => String::new(),
    };
    Row {
        number: entry.number,
        start: entry.extent.start / sector,
        sectors: entry.extent.length / sector,
        bytes: entry.extent.length,
        is_aligned: sizes.aligned(entry.extent.start),
        is_whole: false,
        code,
        type_name: type_name(table.kind, entry),
        attributes,
        entry: Some(entry),
        slice: None,
    }
}

fn row_of_slice<'a>(slice: &'a Slice, items: &Items, sizes: &Sizes) -> Row<'a> {
    let flag = |bit: u16, letter: char| if slice.flags & bit != 0 { letter } else { ' ' };
    let (type_name, is_whole, attributes) = match items {
        Items::Bsd { .. } => (parttype::bsd(slice.code), false, String::new()),
        Items::Sun { .. } => {
            let flags = format!("{}{}", flag(SUN_UNMOUNTABLE, 'u'), flag(SUN_READ_ONLY, 'r'));
            let flags = if flags.trim().is_empty() { String::new() } else { flags };
            (parttype::sun(slice.code), slice.code == SUN_WHOLE, flags)
        }
        Items::Sgi { root, swap, .. } => {
            let is = |index: &u16| u32::from(*index) + 1 == slice.number;
            let word = if is(swap) { "swap" } else { "boot" };
            let used = if is(swap) || is(root) { word } else { "" };
            (parttype::sgi(slice.code), slice.code == SGI_WHOLE, used.to_string())
        }
    };
    Row {
        number: slice.number,
        start: slice.start,
        sectors: slice.sectors,
        bytes: slice.sectors.saturating_mul(sizes.logical),
        is_aligned: sizes.aligned(slice.start.saturating_mul(sizes.logical)),
        is_whole,
        code: format!("{:x}", slice.code),
        type_name,
        attributes,
        entry: None,
        slice: Some(slice),
    }
}

/// Tags of the slice that is the whole disk, and what a Sun slice's flags say.
const SUN_WHOLE: u32 = 5;
const SGI_WHOLE: u32 = 6;
const SUN_UNMOUNTABLE: u16 = 0x01;
const SUN_READ_ONLY: u16 = 0x10;
/// Kinds of BSD slices whose fragments are shown.
const BSD_UNUSED: u32 = 0;
const BSD_FFS: u32 = 7;

/// A column of the listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Device,
    Boot,
    Start,
    End,
    Sectors,
    Size,
    Id,
    Type,
    TypeUuid,
    Uuid,
    Name,
    Attrs,
    StartChs,
    EndChs,
    Fsize,
    Bsize,
    Cpg,
}

/// In which listing a column stands by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum In {
    Both,
    /// Of `-l`.
    Short,
    /// Of `-x`.
    Details,
}

const GPT: &[(Field, In)] = &[
    (Field::Device, In::Both),
    (Field::Start, In::Both),
    (Field::End, In::Both),
    (Field::Sectors, In::Both),
    (Field::Size, In::Short),
    (Field::Type, In::Short),
    (Field::TypeUuid, In::Details),
    (Field::Uuid, In::Details),
    (Field::Name, In::Details),
    (Field::Attrs, In::Details),
];
const MBR: &[(Field, In)] = &[
    (Field::Device, In::Both),
    (Field::Boot, In::Both),
    (Field::Start, In::Both),
    (Field::End, In::Both),
    (Field::Sectors, In::Both),
    (Field::Size, In::Short),
    (Field::Id, In::Both),
    (Field::Type, In::Both),
    (Field::StartChs, In::Details),
    (Field::EndChs, In::Details),
    (Field::Attrs, In::Details),
];
const SUN: &[(Field, In)] = &[
    (Field::Device, In::Both),
    (Field::Start, In::Both),
    (Field::End, In::Both),
    (Field::Sectors, In::Both),
    (Field::Size, In::Both),
    (Field::Id, In::Both),
    (Field::Type, In::Both),
    (Field::Attrs, In::Both),
];
const SGI: &[(Field, In)] = &[
    (Field::Device, In::Both),
    (Field::Start, In::Both),
    (Field::End, In::Both),
    (Field::Sectors, In::Both),
    (Field::Size, In::Short),
    (Field::Id, In::Both),
    (Field::Type, In::Short),
    (Field::Attrs, In::Both),
];
const BSD: &[(Field, In)] = &[
    (Field::Device, In::Both),
    (Field::Start, In::Both),
    (Field::End, In::Both),
    (Field::Sectors, In::Both),
    (Field::Size, In::Both),
    (Field::Type, In::Both),
    (Field::Fsize, In::Both),
    (Field::Bsize, In::Both),
    (Field::Cpg, In::Both),
];

fn fields_of(kind: TableKind) -> &'static [(Field, In)] {
    match kind {
        TableKind::Gpt => GPT,
        TableKind::Mbr => MBR,
        TableKind::Sun => SUN,
        TableKind::Sgi => SGI,
        TableKind::Bsd => BSD,
        // fdisk does not list them, nor is one asked for columns.
        TableKind::Mac | TableKind::Atari => &[],
    }
}

/// Where none was asked for.
fn shown(kind: TableKind, details: bool) -> Vec<Field> {
    let other = if details { In::Short } else { In::Details };
    fields_of(kind).iter().filter(|(_, place)| *place != other).map(|(field, _)| *field).collect()
}

/// The fields of `-o`; `None` where one is not ours or a table has no such field, which is the original's to
/// say.
fn columns(names: &[String], disks: &[&Device]) -> Option<Vec<Field>> {
    let kinds = || disks.iter().filter_map(|disk| Some(read(disk)?.kind));
    let is = |kind: TableKind, field: Field, name: &str| field.column(kind).title.eq_ignore_ascii_case(name);
    let find = |kind: TableKind, name: &str| {
        fields_of(kind).iter().find(|(field, _)| is(kind, *field, name)).map(|(field, _)| *field)
    };
    // Of one disk without a table any will do: it lists nothing.
    let kind = kinds().next().unwrap_or(TableKind::Gpt);
    let fields: Vec<Field> = names.iter().map(|name| find(kind, name)).collect::<Option<_>>()?;
    let fit = kinds().all(|kind| names.iter().all(|name| find(kind, name).is_some()));
    fit.then_some(fields)
}

impl Field {
    fn column(self, kind: TableKind) -> Column<'static> {
        let (title, right, width) = match self {
            Field::Device if kind == TableKind::Bsd => ("Slice", false, 1),
            Field::Device => ("Device", false, 10),
            Field::Boot => ("Boot", false, 1),
            Field::Start => ("Start", true, 5),
            Field::End => ("End", true, 5),
            Field::Sectors => ("Sectors", true, 5),
            Field::Size => ("Size", true, 5),
            Field::Id => ("Id", true, 2),
            Field::Type if kind == TableKind::Bsd => ("Type", false, 8),
            Field::Type => ("Type", false, 0),
            Field::TypeUuid => ("Type-UUID", false, 36),
            Field::Uuid => ("UUID", false, 36),
            Field::Name => ("Name", false, 0),
            Field::Attrs if kind == TableKind::Sun => ("Flags", true, 0),
            Field::Attrs if kind == TableKind::Gpt => ("Attrs", false, 0),
            Field::Attrs if kind == TableKind::Mbr => ("Attrs", true, 2),
            Field::Attrs => ("Attrs", true, 0),
            Field::StartChs => ("Start-C/H/S", true, 1),
            Field::EndChs => ("End-C/H/S", true, 1),
            Field::Fsize => ("Fsize", true, 5),
            Field::Bsize => ("Bsize", true, 5),
            Field::Cpg => ("Cpg", true, 5),
        };
        Column { title, right, width }
    }

    fn cell(self, disk: &Device, kind: TableKind, row: &Row<'_>, look: &Look) -> String {
        let of_entry =
            |take: fn(&Entry) -> Option<&str>| row.entry.and_then(take).unwrap_or_default().to_string();
        let chs = |place: usize| {
            let chs = row.entry.and_then(|entry| entry.chs).map(|both| both[place]);
            chs.map(|chs| format!("{}/{}/{}", chs.cylinders, chs.heads, chs.sectors)).unwrap_or_default()
        };
        // They mean something for these kinds alone.
        let number = |kinds: &[u32], take: fn(&Slice) -> u32| {
            row.slice.filter(|slice| kinds.contains(&slice.code)).map_or(0, take).to_string()
        };
        match self {
            Field::Device if kind == TableKind::Bsd => {
                let letter = u8::try_from(row.number).ok().and_then(|number| (b'a' - 1).checked_add(number));
                letter.map_or(String::new(), |letter| char::from(letter).to_string())
            }
            Field::Device => Untrusted(&partition_name(&path(disk), row.number)).to_string(),
            Field::Boot => if row.entry.is_some_and(|entry| entry.boot) { "*" } else { "" }.to_string(),
            Field::Start => row.start.to_string(),
            Field::End => row.start.saturating_add(row.sectors.saturating_sub(1)).to_string(),
            Field::Sectors => row.sectors.to_string(),
            Field::Size if look.bytes || look.details => row.bytes.to_string(),
            Field::Size => size(row.bytes),
            Field::Id | Field::TypeUuid => row.code.clone(),
            Field::Type => row.type_name.unwrap_or("unknown").to_string(),
            Field::Uuid => Untrusted(&of_entry(|entry| entry.uuid.as_deref()).to_uppercase()).to_string(),
            Field::Name => Untrusted(&of_entry(|entry| entry.name.as_deref())).to_string(),
            Field::Attrs => row.attributes.clone(),
            Field::StartChs => chs(0),
            Field::EndChs => chs(1),
            Field::Fsize => number(&[BSD_UNUSED, BSD_FFS], |slice| slice.fragment),
            Field::Bsize => number(&[BSD_UNUSED, BSD_FFS], |slice| slice.block),
            Field::Cpg => number(&[BSD_FFS], |slice| slice.cylinders_a_group.into()),
        }
    }
}

fn type_name(kind: TableKind, entry: &Entry) -> Option<&'static str> {
    match kind {
        TableKind::Gpt => parttype::gpt(&entry.kind),
        TableKind::Mbr => parttype::mbr(u8::from_str_radix(&entry.kind, 16).ok()?),
        TableKind::Bsd => parttype::bsd(u32::from_str_radix(&entry.kind, 16).ok()?),
        TableKind::Sun => parttype::sun(u32::from_str_radix(&entry.kind, 16).ok()?),
        TableKind::Sgi => parttype::sgi(u32::from_str_radix(&entry.kind, 16).ok()?),
        TableKind::Mac | TableKind::Atari => None,
    }
}

/// The same as a value. Sizes and starts in bytes.
#[derive(Serialize)]
struct Listing<'a> {
    disks: Vec<Disk<'a>>,
}

#[derive(Serialize)]
struct Disk<'a> {
    path: String,
    model: Option<&'a str>,
    serial: Option<&'a str>,
    size: u64,
    logical_sector: u64,
    physical_sector: u64,
    /// As it stands on the disk, health included.
    table: Option<&'a Table>,
    partitions: Vec<Part<'a>>,
    problems: Vec<&'a str>,
}

#[derive(Serialize)]
struct Part<'a> {
    device: String,
    number: u32,
    start: u64,
    size: u64,
    #[serde(rename = "type")]
    kind: &'a str,
    type_name: Option<&'static str>,
    name: Option<&'a str>,
    uuid: Option<&'a str>,
    boot: bool,
}

impl<'a> Listing<'a> {
    fn of(disks: &[&'a Device], storage: &'a Storage) -> Listing<'a> {
        let disk = |device: &&'a Device| {
            let sizes = Sizes::of(&device.block);
            let table = device.report().and_then(|report| report.table.as_ref());
            let part = |table: &'a Table, entry: &'a Entry| Part {
                device: partition_name(&path(device), entry.number),
                number: entry.number,
                start: entry.extent.start,
                size: entry.extent.length,
                kind: &entry.kind,
                type_name: type_name(table.kind, entry),
                name: entry.name.as_deref(),
                uuid: entry.uuid.as_deref(),
                boot: entry.boot,
            };
            let problems = storage.problems.iter();
            Disk {
                path: path(device),
                model: device.block.hardware.model.as_deref(),
                serial: device.block.hardware.serial.as_deref(),
                size: sizes.bytes,
                logical_sector: sizes.logical,
                physical_sector: sizes.physical,
                table,
                partitions: table
                    .iter()
                    .flat_map(|table| table.partitions.iter().map(|entry| part(table, entry)))
                    .collect(),
                problems: problems
                    .filter(|problem| problem.device.as_ref() == Some(&device.path))
                    .map(|problem| problem.text.as_str())
                    .collect(),
            }
        };
        Listing { disks: disks.iter().map(disk).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::storage::Id;
    use ondisk::table::Gpt;
    use ondisk::{DiskReport, Extent, Health};

    fn entry(number: u32, start: u64, sectors: u64, kind: &str) -> Entry {
        let extent = Extent { start: start * 512, length: sectors * 512 };
        Entry { extended: matches!(kind, "05" | "0f" | "85"), ..Entry::new(number, extent, kind.to_string()) }
    }

    fn disk(block: Block, table: Option<Table>) -> Device {
        let report = DiskReport { table, ..DiskReport::default() };
        Device {
            id: Id(String::new()),
            path: block.path(),
            node: block.major != 0,
            parent: None,
            lower: Vec::new(),
            upper: Vec::new(),
            report: Observed::Examined { report: Box::new(report) },
            guard: None,
            block,
        }
    }

    fn file(name: &str, size: u64) -> Block {
        Block { name: name.to_string(), size, ..Block::default() }
    }

    fn table(kind: TableKind, id: &str, partitions: Vec<Entry>) -> Table {
        let gpt = (kind == TableKind::Gpt).then_some(Gpt {
            first_usable: 34,
            last_usable: 204_766,
            entries: 128,
            entry_size: 128,
            entries_start: 2,
            alternative: 204_799,
            primary: Health::Sound,
            backup: Health::Sound,
            refused_by: Vec::new(),
            beneath: None,
        });
        Table { id: Some(id.to_string()), gpt, ..Table::new(kind, 512, partitions) }
    }

    const MIB: u64 = 1 << 20;

    /// The texts are `fdisk -l FILE` of util-linux 2.41.5 on 2026-11-24, for tables that sfdisk made.
    #[test]
    fn listings_are_those_of_util_linux() {
        let gpt = table(
            TableKind::Gpt,
            "11111111-2222-3333-4444-555555555555",
            vec![
                entry(1, 2048, 20480, "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"),
                entry(2, 22528, 40960, "A19D880F-05FC-4D3B-A006-743F0F84911E"),
                entry(3, 63488, 20480, "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F"),
                entry(4, 83968, 118_784, "773F91EF-66D4-49B5-BD83-D683BF40AD17"),
            ],
        );
        let mbr = table(
            TableKind::Mbr,
            "0x1234abcd",
            vec![
                Entry { boot: true, ..entry(1, 2048, 20480, "83") },
                entry(2, 22528, 40960, "82"),
                entry(3, 63488, 10240, "07"),
                entry(4, 73728, 335_872, "05"),
                entry(5, 75776, 20480, "83"),
                entry(6, 98304, 2047, "fd"),
                entry(7, 102_400, 307_200, "8e"),
            ],
        );
        let disordered = table(
            TableKind::Mbr,
            "0xfc5d57e6",
            vec![entry(1, 40960, 20480, "83"), entry(2, 2048, 2048, "83")],
        );
        let cases = [
            (disk(file("gpt.img", 100 * MIB), Some(gpt)), include_str!("../../tests/expected/fdisk-gpt.txt")),
            (disk(file("mbr.img", 200 * MIB), Some(mbr)), include_str!("../../tests/expected/fdisk-mbr.txt")),
            (
                disk(file("ord.img", 100 * MIB), Some(disordered)),
                include_str!("../../tests/expected/fdisk-disordered.txt"),
            ),
            (disk(file("odd.img", 1_234_567), None), include_str!("../../tests/expected/fdisk-bare.txt")),
        ];
        for (disk, want) in &cases {
            assert_eq!(text(disk, &[], &Look::default()), *want);
        }
    }

    /// `printf 's\nw\n' | fdisk sun.img` of 50 MiB, then `fdisk -x sun.img`, util-linux 2.41.5, 2026-11-26.
    #[test]
    fn a_sun_label_is_listed_with_its_geometry_and_all_that_it_says() {
        let items = Items::Sun {
            id: "Linux cyl 6 alt 0 hd 255 sec 63".to_string(),
            version: 1,
            volume: String::new(),
            slices: 8,
            sanity: 0x600d_deee,
            rpm: 5400,
            physical_cylinders: 6,
            extra_sectors: 0,
            interleave: 1,
            alternate_cylinders: 0,
        };
        let slice = |number, start, sectors, code, flags| Slice {
            number,
            start,
            sectors,
            code,
            flags,
            ..Slice::default()
        };
        let slices =
            vec![slice(1, 0, 64260, 0x83, 0), slice(2, 64260, 32130, 0x82, 1), slice(3, 0, 96390, 5, 0)];
        let geometry = Chs { cylinders: 6, heads: 255, sectors: 63 };
        let label = ondisk::table::Label::of(Some(geometry), items, slices);
        let table = Table { label: Some(label), id: None, ..table(TableKind::Sun, "", Vec::new()) };
        let disk = disk(file("sun.img", 50 * MIB), Some(table));
        let look = Look { details: true, ..Look::default() };
        assert_eq!(text(&disk, &[], &look), include_str!("../../tests/expected/fdisk-sun.txt"));
    }

    #[test]
    fn a_drive_shows_its_model_and_its_sectors() {
        let block = Block {
            name: "sda".to_string(),
            major: 8,
            size: 4 << 40,
            logical_block: 512,
            physical_block: 4096,
            minimum_io: 4096,
            // What a broken USB bridge says.
            optimal_io: 33_553_920,
            hardware: contract::facts::Hardware {
                model: Some("Disk\x1b[2J  ".to_string()),
                ..Default::default()
            },
            ..Block::default()
        };
        let want = "Disk /dev/sda: 4 TiB, 4398046511104 bytes, 8589934592 sectors\n\
            Disk model: Disk\\x1b[2J  \n\
            Units: sectors of 1 * 512 = 512 bytes\n\
            Sector size (logical/physical): 512 bytes / 4096 bytes\n\
            I/O size (minimum/optimal): 4096 bytes / 4096 bytes\n";
        assert_eq!(text(&disk(block.clone(), None), &[], &Look::default()), want);
        let foreign = Table { sector: 4096, ..table(TableKind::Gpt, "A", vec![entry(1, 256, 8, "83")]) };
        let shown = text(&disk(block.clone(), Some(foreign)), &[], &Look::default());
        assert!(shown.contains(
            "\nUnits: sectors of 1 * 4096 = 4096 bytes\nSector size (logical/physical): 512 bytes"
        ));
        let table = table(TableKind::Mbr, "0x00000001", vec![entry(1, 2049, 8, "83")]);
        let disk = disk(block, Some(table));
        let said = warnings(&disk, &[]);
        assert!(said[0].starts_with("The size of /dev/sda is 4 TiB"), "{said:?}");
        assert_eq!(said[1], "Partition 1 does not start on physical sector boundary.");
    }

    #[test]
    fn pieces_of_logical_volumes_and_cd_drives_are_not_listed() {
        let uuid = "a".repeat(64);
        let dm = |uuid: String| Block {
            dm: Some(contract::facts::Dm { uuid, ..Default::default() }),
            ..file("dm-0", MIB)
        };
        assert!(is_listed(&dm(format!("LVM-{uuid}"))));
        assert!(!is_listed(&dm(format!("LVM-{uuid}-cow"))));
        let mut cdrom = file("sr0", MIB);
        cdrom.hardware.scsi_type = Some(5);
        assert!(!is_listed(&cdrom));
        assert!(!is_listed(&file("sdb", 0)));
    }
}
