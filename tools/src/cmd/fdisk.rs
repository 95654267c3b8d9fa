//! `fdisk -l`: what util-linux's prints for the same disks, and `--json`. Everything else that fdisk does is the
//! original's.

use crate::report::{Answer, notice};
use crate::scan::Scan;
use crate::tool::{Context, classic};
use contract::exit;
use contract::facts::Block;
use host::sysfs::Parts;
use model::build::partition_name;
use model::parttype;
use model::storage::{Device, Observed, Problem, Storage, by_device};
use model::text::{Column, Untrusted, size, size_long, table};
use ondisk::table::{Entry, Table, TableKind};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;

/// List partition tables: of the disks or image files given, else of all disks.
/// Reads only, and waits at most 10 seconds for a disk that does not answer.
/// Without -l, and with any option that is not here, the original fdisk runs.
///
///     # fdisk -l /dev/sda
///     Disk /dev/sda: 10 GiB, 10737418240 bytes, 20971520 sectors
#[derive(clap::Parser)]
#[command(name = "fdisk", disable_version_flag = true, verbatim_doc_comment)]
struct Args {
    /// List the tables
    #[arg(short = 'l', long, required = true)]
    list: bool,
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
    let context = &context.at(args.sysroot.as_deref())?;
    let mut scan = Scan::begin_with(context, Parts { sizes: true, hardware: true, ..Parts::NONE });
    let mut status = exit::YES;
    let names: Vec<String> = if args.devices.is_empty() {
        scan.facts.blocks.iter().filter(|block| is_listed(block)).map(|block| block.name.clone()).collect()
    } else {
        let mut names = Vec::new();
        for path in &args.devices {
            match scan.resolve(path) {
                Ok(name) => names.push(name),
                Err(error) => {
                    notice(context.name, &format!("{error:#}"));
                    status = exit::NO;
                }
            }
        }
        names
    };
    let wanted: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    // Ours has the problems of what lies there, too.
    let scan = if args.json { scan } else { scan.tables_alone() };
    let storage = scan.examine(|block| wanted.contains(block.name.as_str()));
    let by_name: BTreeMap<&str, &Device> =
        storage.devices.iter().map(|device| (device.block.name.as_str(), device)).collect();
    let mut disks = Vec::new();
    for name in &names {
        match by_name.get(name.as_str()).map(|device| (*device, &device.report)) {
            Some((device, Observed::Examined { .. })) => disks.push(device),
            Some((
                device,
                Observed::Hung { reason } | Observed::Skipped { reason } | Observed::Failed { reason },
            )) => {
                notice(context.name, &format!("cannot open {}: {reason}", device.path));
                status = exit::NO;
            }
            None => {}
        }
    }
    let Some(columns) = columns(&args.output, &disks) else {
        return Ok(Answer::classic(context.name, arguments));
    };
    // Their geometry and their own columns are the original's to print; a disk that hangs would hold it up.
    let has_others = disks.iter().any(|disk| {
        let kind = disk.report().and_then(|report| report.table.as_ref()).map(|table| table.kind);
        matches!(kind, Some(TableKind::Bsd | TableKind::Sun | TableKind::Sgi))
    });
    if has_others && !args.json && context.root.is_live() && disks.len() == names.len() {
        return Ok(Answer::classic(context.name, arguments));
    }
    if args.json {
        return Answer::json(1, &Listing::of(&disks, &storage), status);
    }
    let problems = by_device(&storage);
    for disk in &disks {
        let own = problems.get(disk.path.as_str()).map_or(&[][..], Vec::as_slice);
        warnings(disk, own).iter().for_each(|text| notice(context.name, text));
    }
    let texts: Vec<String> = disks.iter().map(|disk| text(disk, &columns, args.bytes)).collect();
    Ok(Answer::text(texts.join("\n\n"), status))
}

/// Whole disks with something on them; no CD drives, and no pieces of a logical volume.
fn is_listed(block: &Block) -> bool {
    // LVM-, 32 characters each of the group's and the volume's UUID, and a suffix for what is inside.
    let private = |uuid: &str| uuid.starts_with("LVM-") && uuid.as_bytes().get(68) == Some(&b'-');
    let is_cdrom = block.hardware.scsi_type == Some(5);
    let is_private = block.dm.as_ref().is_some_and(|dm| private(&dm.uuid));
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

/// What fdisk, and we, have to say about a disk beside the listing.
fn warnings(disk: &Device, problems: &[&Problem]) -> Vec<String> {
    let mut texts: Vec<String> = problems.iter().map(|problem| problem.text.clone()).collect();
    let sizes = Sizes::of(&disk.block);
    let Some(table) = disk.report().and_then(|report| report.table.as_ref()) else { return texts };
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
    for entry in own(table).filter(|entry| !sizes.aligned(entry.extent.start)) {
        texts.push(format!("Partition {} does not start on physical sector boundary.", entry.number));
    }
    texts
}

/// Its entries but for those of a table within one of them, which fdisk does not list.
fn own(table: &Table) -> impl Iterator<Item = &Entry> {
    table.partitions.iter().filter(|entry| entry.within.is_none())
}

fn text(disk: &Device, columns: &[Field], bytes: bool) -> String {
    let sizes = Sizes::of(&disk.block);
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
    out += &format!("Units: sectors of 1 * {0} = {0} bytes\n", sizes.logical);
    out += &format!("Sector size (logical/physical): {} bytes / {} bytes\n", sizes.logical, sizes.physical);
    out += &format!("I/O size (minimum/optimal): {} bytes / {} bytes\n", sizes.minimum_io, sizes.optimal_io);
    if sizes.alignment_offset != 0 {
        out += &format!("Alignment offset: {} bytes\n", sizes.alignment_offset);
    }
    let table_found = disk.report().and_then(|report| report.table.as_ref());
    let Some(table_found) =
        table_found.filter(|table| !matches!(table.kind, TableKind::Mac | TableKind::Atari))
    else {
        return out;
    };
    out += &format!("Disklabel type: {}\n", table_found.kind.name());
    if let Some(id) = &table_found.id {
        out += &format!("Disk identifier: {}\n", Untrusted(id));
    }
    if own(table_found).next().is_none() {
        return out;
    }
    let fields: Vec<Field> =
        if columns.is_empty() { default_fields(table_found.kind).to_vec() } else { columns.to_vec() };
    let shown: Vec<Column<'_>> = fields.iter().map(|field| field.column()).collect();
    let row = |entry: &Entry| {
        fields.iter().map(|field| field.cell(disk, table_found, entry, bytes)).collect::<Vec<_>>()
    };
    let rows: Vec<Vec<String>> = own(table_found).map(row).collect();
    out.push('\n');
    out += &table(&shown, &rows, true);
    let misaligned = own(table_found).any(|entry| !sizes.aligned(entry.extent.start));
    let starts: Vec<u64> = own(table_found).map(|entry| entry.extent.start).collect();
    let disordered = !starts.is_sorted();
    // The line above the warnings, which themselves go to stderr.
    if misaligned || disordered {
        out.push('\n');
    }
    if disordered {
        out += "Partition table entries are not in disk order.\n";
    }
    out
}

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
}

const GPT: &[Field] = &[Field::Device, Field::Start, Field::End, Field::Sectors, Field::Size, Field::Type];
const MBR: &[Field] = &[
    Field::Device,
    Field::Boot,
    Field::Start,
    Field::End,
    Field::Sectors,
    Field::Size,
    Field::Id,
    Field::Type,
];
/// Of tables whose listing is the original's wherever there is one.
const OTHER: &[Field] =
    &[Field::Device, Field::Start, Field::End, Field::Sectors, Field::Size, Field::Id, Field::Name];
/// Beside those that are shown by default.
const GPT_MORE: &[Field] = &[Field::TypeUuid, Field::Uuid, Field::Name];

fn default_fields(kind: TableKind) -> &'static [Field] {
    match kind {
        TableKind::Gpt => GPT,
        TableKind::Mbr => MBR,
        TableKind::Bsd | TableKind::Mac | TableKind::Sun | TableKind::Sgi | TableKind::Atari => OTHER,
    }
}

/// The fields of `-o`; `None` where one is not ours or a table has no such field, which is the original's to
/// say.
fn columns(names: &[String], disks: &[&Device]) -> Option<Vec<Field>> {
    let all = || GPT.iter().chain(MBR).chain(GPT_MORE);
    let fields: Vec<Field> = names
        .iter()
        .map(|name| all().find(|field| field.column().title.eq_ignore_ascii_case(name)).copied())
        .collect::<Option<_>>()?;
    let kinds = disks.iter().filter_map(|disk| Some(disk.report()?.table.as_ref()?.kind));
    let has = |kind: TableKind, field: &Field| {
        default_fields(kind).contains(field) || (kind == TableKind::Gpt && GPT_MORE.contains(field))
    };
    let fit = kinds.into_iter().all(|kind| fields.iter().all(|field| has(kind, field)));
    fit.then_some(fields)
}

impl Field {
    fn column(self) -> Column<'static> {
        let (title, right, width) = match self {
            Field::Device => ("Device", false, 10),
            Field::Boot => ("Boot", false, 1),
            Field::Start => ("Start", true, 5),
            Field::End => ("End", true, 5),
            Field::Sectors => ("Sectors", true, 5),
            Field::Size => ("Size", true, 5),
            Field::Id => ("Id", true, 2),
            Field::Type => ("Type", false, 0),
            Field::TypeUuid => ("Type-UUID", false, 36),
            Field::Uuid => ("UUID", false, 36),
            Field::Name => ("Name", false, 0),
        };
        Column { title, right, width }
    }

    fn cell(self, disk: &Device, table: &Table, entry: &Entry, bytes: bool) -> String {
        let sector = u64::from(table.sector.max(1));
        let (start, sectors) = (entry.extent.start / sector, entry.extent.length / sector);
        match self {
            Field::Device => Untrusted(&partition_name(&path(disk), entry.number)).to_string(),
            Field::Boot => if entry.boot { "*" } else { "" }.to_string(),
            Field::Start => start.to_string(),
            Field::End => start.saturating_add(sectors.saturating_sub(1)).to_string(),
            Field::Sectors => sectors.to_string(),
            Field::Size if bytes => entry.extent.length.to_string(),
            Field::Size => size(entry.extent.length),
            Field::Id => match entry.kind.trim_start_matches('0') {
                "" => "0".to_string(),
                kind => Untrusted(kind).to_string(),
            },
            Field::Type => type_name(table.kind, entry).unwrap_or("unknown").to_string(),
            Field::TypeUuid => Untrusted(&entry.kind).to_string(),
            Field::Uuid => Untrusted(&entry.uuid.as_deref().unwrap_or_default().to_uppercase()).to_string(),
            Field::Name => Untrusted(entry.name.as_deref().unwrap_or_default()).to_string(),
        }
    }
}

fn type_name(kind: TableKind, entry: &Entry) -> Option<&'static str> {
    match kind {
        TableKind::Gpt => parttype::gpt(&entry.kind),
        TableKind::Mbr => parttype::mbr(u8::from_str_radix(&entry.kind, 16).ok()?),
        TableKind::Bsd | TableKind::Mac | TableKind::Sun | TableKind::Sgi | TableKind::Atari => None,
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
            primary: Health::Sound,
            backup: Health::Sound,
        });
        Table { kind, id: Some(id.to_string()), sector: 512, partitions, health: Health::Sound, gpt }
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
            assert_eq!(text(disk, &[], false), *want);
        }
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
        assert_eq!(text(&disk(block.clone(), None), &[], false), want);
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
