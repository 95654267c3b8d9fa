//! The engine: every table and every row of FORMATS tried on one device. Reads both ends once;
//! what cannot be read is in the report and the rest goes on.

use crate::format::{DiskReport, Extent, Format, Geometry, Health, Magic, Signature, Usage};
use crate::formats::{FORMATS, SALVAGE};
use crate::read::{Piece, ReadAt, ReadError, Section};
use crate::table::{self, Table};
use crate::window::{FailedRead, Failures, Recorder, Windows};
use std::cell::RefCell;

/// Read at once at either end, where superblocks of nearly all formats lie, and kept over all probes.
const CHUNK: u64 = 64 << 10;
/// And behind it at the beginning: btrfs, reiserfs and others have theirs at 64 KiB.
const BESIDE: u64 = PIECE;
/// Where many a format is looked for before the end, as (bytes before it, length): one read for all of them. Firmware
/// RAID and ZFS know their places by the drive's size in sectors.
const TAILS: &[(u64, u64)] = &[
    (1544 << 10, PIECE),
    (1024 << 10, PIECE),
    (496 << 10, 44 << 10),
    (368 << 10, 32 << 10),
    (296 << 10, PIECE),
    (200 << 10, PIECE),
    (132 << 10, 8 << 10),
];
/// And behind the beginning: the second headers of LUKS2.
const HEADS: &[u64] = &[128 << 10, 256 << 10, 512 << 10, 1 << 20, 2 << 20, 4 << 20];
/// The same where only the table is looked for: headers of a GPT in sectors of 512 and of 4096 bytes.
const TABLE: u64 = 8 << 10;
/// Elsewhere no more than was asked for is read, in whole blocks; as small as a bad sector is, too.
const PIECE: u64 = 4 << 10;
/// Chunks kept, most of them a block: a probe that walks further (btrfs's mirrors, udf) pushes the oldest out.
const KEPT: usize = 64;
/// Blocks kept of chunks that cannot be read as a whole.
const PIECES: usize = 64;
/// A floppy's size, up to which libblkid looks for no RAID member and takes the first that it finds.
const TINY: u64 = 1440 << 10;
/// A device of no more than two sectors is an extended partition.
const NOTHING: u64 = 1024;

/// The table alone, where that can be told without the rest: a look at two places. Never fails.
pub fn examine_table(device: &dyn ReadAt, geometry: Geometry) -> DiskReport {
    let cached = Cached { start: TABLE, end: TABLE, ..Cached::new(device) };
    let mut report = DiskReport::default();
    report.table = table::probe(&cached, geometry, &mut report.findings);
    let is_doubtful = |table: &Table| table.is_blank() && device.size() > NOTHING;
    // An empty one may as well be a boot sector.
    if report.table.as_ref().is_some_and(is_doubtful) {
        return examine(device, geometry);
    }
    report.errors = cached.errors.into_inner();
    report
}

/// All that is on the device. Never fails.
pub fn examine(device: &dyn ReadAt, geometry: Geometry) -> DiskReport {
    let device = Cached::new(device);
    device.fetch();
    let mut report = look(&device, geometry);
    report.errors = device.errors.into_inner();
    report
}

fn look(device: &dyn ReadAt, geometry: Geometry) -> DiskReport {
    let mut report = DiskReport::default();
    report.table = table::probe(device, geometry, &mut report.findings);
    if device.size() > NOTHING {
        let table = report.table.as_ref().filter(|table| !table.is_blank());
        report.signatures = signatures(device, table);
        // A boot sector before a physical volume is none (libblkid).
        if table.is_none() && report.signatures.iter().any(|found| found.format.starts_with("LVM")) {
            report.table = None;
        }
    }
    report
}

fn signatures(device: &dyn ReadAt, table: Option<&Table>) -> Vec<Signature> {
    let tiny = device.size() <= TINY;
    let mut found = Vec::new();
    for format in FORMATS {
        if device.size() < format.min_size || (tiny && format.usage == Usage::Raid) {
            continue;
        }
        let signature = match format.magics {
            [] => (format.probe)(device, None),
            magics => magics
                .iter()
                .filter(|magic| has(device, magic))
                .find_map(|magic| (format.probe)(device, Some(magic))),
        };
        // What lies at the end of the last partition lies at the disk's end too, and is the partition's.
        found.extend(signature.filter(|signature| {
            !is_in_a_partition(signature, table, device.size()) && !is_overwritten(signature, table)
        }));
        if tiny && !found.is_empty() {
            break;
        }
    }
    if found.is_empty() && table.is_none() {
        found.extend(SALVAGE.iter().find_map(|salvage| salvage(device)));
    }
    // A torn file system is left of a former one when there is a sound one; of a torn member or a locked
    // device nothing that lies inside may come first, since it would be mounted in its place.
    found.sort_by_key(|signature| {
        let outer = matches!(signature.usage, Usage::Raid | Usage::Crypto);
        !outer && matches!(signature.health, Health::Damaged(_))
    });
    found
}

/// As [`examine`], with the partitions that have no node of their own read as windows of the device.
pub fn examine_sections(device: &dyn ReadAt, geometry: Geometry, sections: &[Extent]) -> DiskReport {
    let mut report = examine(device, geometry);
    for extent in sections {
        let section = Section::new(device, extent.start, extent.length);
        report.sections.push((extent.start, examine(&section, geometry)));
    }
    report
}

/// What a look read, and what it could not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub windows: Windows,
    pub failed: Vec<FailedRead>,
}

/// As [`examine_sections`], and what was read for it: the bytes that the parsers asked for, not the chunks
/// around them. `limit`: most bytes of them that are kept.
pub fn examine_recorded(
    device: &dyn ReadAt,
    geometry: Geometry,
    sections: &[Extent],
    limit: u64,
) -> (DiskReport, Record) {
    let device = Failures::new(device);
    let windows = RefCell::new(Windows::new(device.size(), limit));
    let recorded = |device: &dyn ReadAt, start: u64| {
        let device = Cached::new(device);
        device.fetch();
        let mut report = look(&Recorder::new(&device, start, &windows), geometry);
        report.errors = device.errors.into_inner();
        report
    };
    let mut report = recorded(&device, 0);
    for extent in sections {
        let section = Section::new(&device, extent.start, extent.length);
        report.sections.push((extent.start, recorded(&section, extent.start)));
    }
    (report, Record { windows: windows.into_inner(), failed: device.failed.into_inner() })
}

/// `size`: of the device, bytes.
fn is_in_a_partition(signature: &Signature, table: Option<&Table>, size: u64) -> bool {
    // The labels of a ZFS pool's device lie at both ends.
    let has_end = signature.usage == Usage::Raid || signature.format == "zfs_member";
    let at_the_end = has_end && signature.magic_offset > CHUNK;
    let covers = |entry: &table::Entry| {
        let start = entry.extent.start;
        !entry.extended
            && (start..start.saturating_add(entry.extent.length)).contains(&signature.magic_offset)
    };
    at_the_end && table.is_some_and(|table| fits(table, size) && table.partitions.iter().any(covers))
}

/// Whether a table can be the device's own. That of an array shows at the start of a member, and divides more than
/// the member has (libblkid: blkid_probe_is_covered_by_pt); a GPT says how much by its usable sectors, too, and an
/// entry that protects one divides nothing.
fn fits(table: &Table, size: u64) -> bool {
    let usable = table.gpt.as_ref().map_or(0, |gpt| gpt.last_usable.saturating_add(1));
    let is_within = |entry: &table::Entry| entry.extent.end() <= size;
    usable.saturating_mul(table.sector.into()) <= size
        && !table.partitions.iter().any(table::mbr::protects)
        && table.partitions.iter().all(is_within)
}

/// A table that was made over a physical volume or a cache, whose maker clears the device's start: the table came later.
fn is_overwritten(signature: &Signature, table: Option<&Table>) -> bool {
    let cleared = match signature.format.as_str() {
        "LVM2_member" => 8 << 10,
        "bcache" | "bcachefs" => 4 << 10,
        _ => 0,
    };
    cleared != 0 && signature.magic_offset < 2 * CHUNK && table.is_some()
}

/// Longer than any magic that a row has.
const MAGIC: usize = 64;

fn has(device: &dyn ReadAt, magic: &Magic) -> bool {
    let mut buffer = [0; MAGIC];
    let Some(bytes) = buffer.get_mut(..magic.bytes.len()) else { return false };
    device.read_at(magic.offset, bytes).is_ok() && bytes == magic.bytes
}

/// The row of a format by its name.
pub fn format(name: &str) -> Option<&'static Format> {
    FORMATS.iter().copied().find(|format| format.name == name)
}

/// A stretch of the device, and its bytes or why there are none.
struct Chunk {
    start: u64,
    length: u64,
    bytes: Result<Piece, ReadError>,
}

/// What was read of the device, and what went wrong reading it.
struct Cached<'a> {
    device: &'a dyn ReadAt,
    /// How much is read at once at either end.
    start: u64,
    end: u64,
    chunks: RefCell<Vec<Chunk>>,
    /// Of chunks that cannot be read as a whole.
    pieces: RefCell<Vec<Chunk>>,
    errors: RefCell<Vec<String>>,
}

impl<'a> Cached<'a> {
    fn new(device: &'a dyn ReadAt) -> Cached<'a> {
        let (chunks, pieces, errors) = Default::default();
        Cached { device, start: CHUNK + BESIDE, end: CHUNK, chunks, pieces, errors }
    }

    /// Reads, all at once, what is looked at of every device.
    fn fetch(&self) {
        let size = self.size();
        if size <= NOTHING {
            return;
        }
        let tails = TAILS.iter().rev().filter_map(|(before, _)| size.checked_sub(*before));
        let mut stretches: Vec<(u64, u64)> = Vec::with_capacity(2 + TAILS.len() + HEADS.len());
        for at in [0, size - 1].into_iter().chain(tails).chain(HEADS.iter().copied()) {
            let is_known = stretches.iter().any(|(start, length)| (*start..start + length).contains(&at));
            if at < size && !is_known {
                stretches.push(self.around(at, 1));
            }
        }
        let wanted: Vec<(u64, usize)> =
            stretches.iter().map(|(start, length)| (*start, *length as usize)).collect();
        let read = self.device.many(&wanted);
        for ((start, length), bytes) in stretches.into_iter().zip(read) {
            self.errors.borrow_mut().extend(bytes.as_ref().err().map(ToString::to_string));
            self.chunks.borrow_mut().push(Chunk { start, length, bytes });
        }
    }

    /// Where to begin and how much to read for so many bytes at `at`.
    fn around(&self, at: u64, length: u64) -> (u64, u64) {
        let size = self.size();
        let tail = size.saturating_sub(self.end);
        let tail = tail - tail % PIECE;
        if at < self.start || size <= self.start {
            (0, size.min(self.start))
        } else if at >= tail {
            let tail = tail.max(self.start);
            (tail, size - tail)
        } else if let Some(stretch) = self.tail(at) {
            stretch
        } else {
            let start = at - at % PIECE;
            let end = at.saturating_add(length).next_multiple_of(PIECE);
            (start, end.min(start + CHUNK).min(tail.max(start + PIECE)).min(size) - start)
        }
    }

    /// That of [`TAILS`] in which `at` lies.
    fn tail(&self, at: u64) -> Option<(u64, u64)> {
        let aligned = self.size() - self.size() % PIECE;
        let stretch = |(before, length): &(u64, u64)| Some((aligned.checked_sub(*before)?, *length));
        let holds =
            |(start, length): &(u64, u64)| *start >= self.start && (*start..start + length).contains(&at);
        TAILS.iter().filter_map(stretch).find(holds)
    }

    /// Copies what there is at `at` of `buf`, from what is kept or from what is read for it; how many bytes that were.
    fn copy(&self, at: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
        let mut chunks = self.chunks.borrow_mut();
        let chunk = find(&mut chunks, KEPT, at, || {
            let chunk = Chunk::read(self.device, self.around(at, buf.len() as u64));
            self.errors.borrow_mut().extend(chunk.bytes.as_ref().err().map(ToString::to_string));
            chunk
        });
        match &chunk.bytes {
            // A bad sector takes only its own block with it.
            Err(ReadError::Device { .. }) if chunk.length > PIECE => {
                let start = at - at % PIECE;
                let extent = (start, PIECE.min(self.size().saturating_sub(start)));
                let mut pieces = self.pieces.borrow_mut();
                find(&mut pieces, PIECES, at, || Chunk::read(self.device, extent)).copy(at, buf)
            }
            _ => chunk.copy(at, buf),
        }
    }
}

/// The chunk that holds `at`; where there is none it is read, and the oldest of `most` makes room.
fn find(chunks: &mut Vec<Chunk>, most: usize, at: u64, read: impl FnOnce() -> Chunk) -> &Chunk {
    let holds = |chunk: &Chunk| (chunk.start..chunk.start + chunk.length).contains(&at);
    let index = chunks.iter().position(holds).unwrap_or_else(|| {
        if chunks.len() >= most {
            drop(chunks.remove(0));
        }
        chunks.push(read());
        chunks.len() - 1
    });
    &chunks[index]
}

impl Chunk {
    fn read(device: &dyn ReadAt, (start, length): (u64, u64)) -> Chunk {
        Chunk { start, length, bytes: device.bytes(start, length as usize).map(Piece::from) } // at most a CHUNK and a PIECE
    }

    fn copy(&self, at: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
        let bytes = self.bytes.as_ref().map_err(Clone::clone)?;
        let rest = bytes.bytes().get((at - self.start) as usize..).unwrap_or_default();
        let taken = rest.len().min(buf.len());
        buf[..taken].copy_from_slice(&rest[..taken]);
        Ok(taken)
    }
}

impl ReadAt for Cached<'_> {
    fn size(&self) -> u64 {
        self.device.size()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let length = buf.len() as u64;
        let past = ReadError::PastEnd { offset, length, size: self.size() };
        if offset.checked_add(length).is_none_or(|end| end > self.size()) {
            return Err(past);
        }
        if length > CHUNK {
            return self.device.read_at(offset, buf);
        }
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let taken = self.copy(at, &mut buf[done..])?;
            if taken == 0 {
                return Err(past);
            }
            done += taken;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::Failing;
    use proptest::prelude::*;

    #[test]
    fn an_empty_device_and_one_of_zeros_hold_nothing() {
        for size in [0, 1, 511, 512, 4096, 1 << 20] {
            assert_eq!(examine(&vec![0; size], Geometry::default()), DiskReport::default(), "{size}");
        }
    }

    #[test]
    fn a_read_error_is_reported_once_and_the_rest_goes_on() {
        struct Bad;
        impl ReadAt for Bad {
            fn size(&self) -> u64 {
                1 << 20
            }
            fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
                if offset < CHUNK {
                    return Err(ReadError::Device { offset, length: buf.len() as u64, error: "EIO".into() });
                }
                buf.fill(0);
                Ok(())
            }
        }
        let report = examine(&Bad, Geometry::default());
        assert_eq!(report.errors.len(), 1, "{:?}", report.errors);
    }

    /// Where a device was read, and how much at once.
    struct Seen<'a>(&'a [u8], RefCell<Vec<(u64, usize)>>);

    impl ReadAt for Seen<'_> {
        fn size(&self) -> u64 {
            self.0.len() as u64
        }
        fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
            self.1.borrow_mut().push((offset, buf.len()));
            self.0.read_at(offset, buf)
        }
    }

    #[test]
    fn every_magic_fits() {
        assert!(FORMATS.iter().flat_map(|format| format.magics).all(|magic| magic.bytes.len() <= MAGIC));
    }

    #[test]
    fn both_ends_are_read_at_once_and_nothing_is_read_twice() {
        let bytes = vec![0; 8 << 20];
        let device = Seen(&bytes, RefCell::default());
        assert_eq!(examine(&device, Geometry::default()), DiskReport::default());
        let mut seen = device.1.into_inner();
        assert!(
            seen.contains(&(0, 68 << 10)) && seen.contains(&((8 << 20) - (64 << 10), 64 << 10)),
            "{seen:?}"
        );
        // A disk that turns takes its time for each.
        assert!(seen.len() <= 15, "{seen:?}");
        seen.sort();
        assert!(seen.windows(2).all(|pair| pair[0].0 + pair[0].1 as u64 <= pair[1].0), "{seen:?}");
        let all: usize = seen.iter().map(|(_, length)| length).sum();
        assert!(all < 300 << 10, "{all} bytes: {seen:?}");
    }

    #[test]
    fn a_table_alone_is_the_same_and_is_found_at_the_ends() {
        let mut mbr = vec![0; 8 << 20];
        mbr[510..512].copy_from_slice(&[0x55, 0xaa]);
        let empty = mbr.clone();
        mbr[446 + 4] = 0x83;
        mbr[446 + 8..446 + 16].copy_from_slice(&[0, 8, 0, 0, 0, 8, 0, 0]);
        let mut swap = empty.clone();
        swap[1024] = 1;
        swap[1029] = 3;
        swap[0xff6..0x1000].copy_from_slice(b"SWAPSPACE2");
        for (label, bytes, most) in [
            ("no table", vec![0; 8 << 20], 2),
            ("one partition", mbr, 2),
            ("an empty one", empty, 100),
            ("a boot sector before a file system", swap, 100),
        ] {
            let device = Seen(&bytes, RefCell::default());
            let report = examine_table(&device, Geometry::default());
            let whole = examine(&bytes, Geometry::default());
            assert_eq!((&report.table, &report.findings), (&whole.table, &whole.findings), "{label}");
            assert!(device.1.borrow().len() <= most, "{label}: {:?}", device.1);
        }
    }

    #[test]
    fn a_bad_sector_hides_only_what_lies_in_it() {
        struct Bad(Vec<u8>);
        impl ReadAt for Bad {
            fn size(&self) -> u64 {
                self.0.size()
            }
            fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
                let length = buf.len() as u64;
                if (offset..offset + length).contains(&0x8000) {
                    return Err(ReadError::Device { offset, length, error: "EIO".into() });
                }
                self.0.read_at(offset, buf)
            }
        }
        let mut swap = vec![0; 4 << 20];
        swap[1024] = 1;
        swap[1029] = 3;
        swap[0xff6..0x1000].copy_from_slice(b"SWAPSPACE2");
        let report = examine(&Bad(swap), Geometry::default());
        assert_eq!(report.signatures[0].format, "swap");
        assert_eq!(report.errors.len(), 1, "{:?}", report.errors);
    }

    /// Swap's header, and at 32 KiB an XFS of which nothing but the magic is right.
    #[test]
    fn a_torn_file_system_stands_behind_a_sound_one() {
        let mut device = vec![0; 4 << 20];
        device[..4].copy_from_slice(b"XFSB");
        device[1024] = 1;
        device[1029] = 3;
        device[0xff6..0x1000].copy_from_slice(b"SWAPSPACE2");
        let found = examine(&device, Geometry::default()).signatures;
        let formats: Vec<&str> = found.iter().map(|signature| signature.format.as_str()).collect();
        assert_eq!(formats, ["swap", "xfs"]);
        assert!(matches!(found[1].health, Health::Damaged(_)));
    }

    #[test]
    fn a_boot_sector_hides_no_file_system_and_before_a_physical_volume_it_is_no_table() {
        let mut device = vec![0; 4 << 20];
        device[510..512].copy_from_slice(&[0x55, 0xaa]);
        let report = examine(&device, Geometry::default());
        assert!(report.table.is_some() && report.signatures.is_empty());
        let mut swap = device.clone();
        swap[1024] = 1;
        swap[1029] = 3;
        swap[0xff6..0x1000].copy_from_slice(b"SWAPSPACE2");
        let report = examine(&swap, Geometry::default());
        assert!(report.table.unwrap().is_blank() && report.signatures.len() == 1);
        device[512..520].copy_from_slice(b"LABELONE");
        device[520] = 1;
        device[536..568].copy_from_slice(b"LVM2 001abcdefghijklmnopqrstuvwx");
        let report = examine(&device, Geometry::default());
        assert!(report.table.is_none() && report.signatures[0].format == "LVM2_member", "{report:?}");
    }

    /// DDF's anchor in the last sector. As a partition's, it ends where the disk does; as the disk's, the table is that of
    /// the array, which has more sectors than one member.
    #[test]
    fn a_member_is_the_disk_s_unless_a_table_that_fits_the_disk_has_a_partition_there() {
        const SECTORS: u32 = 16 << 11;
        let mbr = |slots: &[(u8, u32, u32)]| {
            let mut disk = vec![0; 512 * SECTORS as usize];
            disk[510..512].copy_from_slice(&[0x55, 0xaa]);
            for (slot, (kind, start, count)) in slots.iter().enumerate() {
                let at = 446 + 16 * slot;
                disk[at + 4] = *kind;
                disk[at + 8..at + 12].copy_from_slice(&start.to_le_bytes());
                disk[at + 12..at + 16].copy_from_slice(&count.to_le_bytes());
            }
            disk
        };
        // Its entries lie behind the first strip, on another member.
        let torn = mbr(&[(0xee, 1, SECTORS - 1)]);
        // Its partition ends where this member does, and its usable sectors behind that.
        let mut longer = table::gpt::tests::disk(512, 128);
        longer.truncate(longer.len() - (40 << 10));
        let last = longer.len() as u64 / 512 - 1;
        longer[1024 + 40..1024 + 48].copy_from_slice(&last.to_le_bytes());
        let sum = crc32fast::hash(&longer[1024..1024 + 128 * 128]);
        longer[512 + 88..512 + 92].copy_from_slice(&sum.to_le_bytes());
        longer[512 + 16..512 + 20].fill(0);
        let sum = crc32fast::hash(&longer[512..512 + 92]);
        longer[512 + 16..512 + 20].copy_from_slice(&sum.to_le_bytes());
        let at_the_end = mbr(&[(0x83, 2048, SECTORS - 2048)]);
        let beyond = mbr(&[(0x83, 2048, SECTORS)]);
        let two = mbr(&[(0x83, 2048, SECTORS - 2048), (0x83, SECTORS, 2048)]);
        for (label, mut disk, is_the_disk_s) in [
            ("a partition at the end", at_the_end, false),
            ("a partition that is longer than the disk", beyond, true),
            ("one at the end, and one behind it", two, true),
            ("a GPT for more sectors", longer, true),
            ("an entry that protects a GPT", torn, true),
        ] {
            let anchor = disk.len() - 512;
            disk[anchor..anchor + 4].copy_from_slice(&[0xde, 0x11, 0xde, 0x11]);
            disk[anchor + 8..anchor + 32].copy_from_slice(b"LSI     1234567890abcdef");
            let report = examine(&disk, Geometry::default());
            assert!(report.table.is_some(), "{label}");
            let formats: Vec<&str> = report.signatures.iter().map(|found| found.format.as_str()).collect();
            assert_eq!(formats.contains(&"ddf_raid_member"), is_the_disk_s, "{label}: {formats:?}");
        }
    }

    /// Bytes that pass the first look of every probe.
    fn stamped(mut device: Vec<u8>, stamps: &[usize]) -> Vec<u8> {
        let magics: Vec<&Magic> = FORMATS.iter().flat_map(|format| format.magics).collect();
        for stamp in stamps {
            let magic = magics[stamp % magics.len()];
            let at = magic.offset as usize;
            if let Some(place) = device.get_mut(at..at + magic.bytes.len()) {
                place.copy_from_slice(magic.bytes);
            }
        }
        device
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]
        #[test]
        fn no_probe_panics_behind_its_magic(
            bytes in proptest::collection::vec(prop_oneof![Just(0), Just(0xff), any::<u8>()], 1024),
            size in 4096usize..400_000,
            stamps in proptest::collection::vec(any::<usize>(), 1..5),
        ) {
            let device: Vec<u8> = bytes.iter().copied().cycle().take(size).collect();
            let _ = examine(&stamped(device, &stamps), Geometry::default());
        }

        /// What was read is enough for the same look again, the reads that fail included.
        #[test]
        fn what_was_recorded_gives_the_same_report(
            bytes in proptest::collection::vec(prop_oneof![Just(0), Just(0xff), any::<u8>()], 1024),
            size in 4096usize..400_000,
            stamps in proptest::collection::vec(any::<usize>(), 0..5),
            bad in 0u64..400_000,
        ) {
            let device: Vec<u8> = bytes.iter().copied().cycle().take(size).collect();
            let device = stamped(device, &stamps);
            let sector = [FailedRead { start: bad, length: 1, error: "EIO".to_string() }];
            let device = Failing { source: &device, failed: &sector };
            let sections = [Extent { start: 4096, length: size as u64 / 2 }];
            let (report, record) = examine_recorded(&device, Geometry::default(), &sections, u64::MAX);
            prop_assert_eq!(&report, &examine_sections(&device, Geometry::default(), &sections));
            let again = Failing { source: &record.windows, failed: &record.failed };
            prop_assert_eq!(&report, &examine_sections(&again, Geometry::default(), &sections));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_probe_panics_on_random_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..8192), size in 0usize..300_000) {
            let mut device = bytes;
            device.resize(size.max(device.len()), 0);
            for logical in [512, 4096] {
                let _ = examine(&device, Geometry { logical, physical: logical });
            }
        }
    }
}
