//! GPT (UEFI specification 2.10, section 5.3): primary and backup, either torn; entries of any legal
//! size; tables written for another sector size, and those whose disk has grown since.

use super::{Entry, Gpt, Reader, Table, TableKind, finding, mbr};
use crate::bytes::{guid, le32, le64};
use crate::format::{Extent, Finding, Geometry, Health, Severity};
use crate::read::ReadAt;

const MAGIC: &[u8] = b"EFI PART";
const HEADER_MIN: u32 = 92;
/// Where the primary header lies.
const PRIMARY: u64 = 1;
/// Entries are powers of two from 128 bytes on; larger than this nobody writes.
const ENTRY_MAX: u32 = 4096;
/// Linux and util-linux stop here; 128 is what everybody writes.
const ENTRIES_MAX: u32 = 1024;
/// Of entries that the kernel and libblkid read.
const ENTRY: u32 = 128;
/// Sector sizes that a table may have been written for.
const SECTORS: [u32; 2] = [512, 4096];

/// One header that was read: sound in itself.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Header {
    sector: u32,
    this_lba: u64,
    other_lba: u64,
    first_usable: u64,
    last_usable: u64,
    id: crate::format::Uuid,
    entries_lba: u64,
    entries: u32,
    entry_size: u32,
    entries_crc: u32,
}

/// Why a copy cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Torn {
    /// No sign of one.
    Absent,
    /// The device did not give the bytes, so nobody knows.
    Unreadable(String),
    Damaged(String),
}

impl Torn {
    fn reason(self) -> String {
        match self {
            Torn::Absent => "missing".to_string(),
            Torn::Unreadable(reason) | Torn::Damaged(reason) => reason,
        }
    }
}

pub fn probe(device: &dyn ReadAt, geometry: Geometry, findings: &mut Vec<Finding>) -> Option<Table> {
    // The device's own sector size first, then the other one.
    let mut sectors = vec![geometry.logical];
    sectors.extend(SECTORS.iter().filter(|sector| **sector != geometry.logical));
    let (own, others) = sectors.split_first()?;
    let found = at(device, geometry, *own, findings)
        .or_else(|| others.iter().find_map(|sector| at(device, geometry, *sector, findings)))?;
    if found.sector != geometry.logical {
        findings.push(finding(
            Severity::Warning,
            format!(
                "the GPT was written for sectors of {} bytes, this device has {}: its partitions are shown, the kernel shows none",
                found.sector, geometry.logical
            ),
        ));
    }
    Some(found)
}

fn at(device: &dyn ReadAt, geometry: Geometry, sector: u32, findings: &mut Vec<Finding>) -> Option<Table> {
    let sectors = device.size() / u64::from(sector);
    if sectors < 3 {
        return None;
    }
    let last = sectors - 1;
    let primary = read(device, sector, PRIMARY);
    let backup_lba = match &primary {
        Ok((header, _)) if header.other_lba <= last => header.other_lba,
        _ => last,
    };
    let backup = match read(device, sector, backup_lba) {
        Err(reason) if backup_lba != last => read(device, sector, last).map_err(|_| reason),
        result => result,
    };
    let state = |result: &Result<(Header, Vec<Entry>), Torn>| match result {
        Ok(_) => Health::Sound,
        Err(torn) => Health::Damaged(torn.clone().reason()),
    };
    let (primary_state, backup_state) = (state(&primary), state(&backup));
    let (refused_by, reason) = refused_by(device, sector == geometry.logical, &primary, &backup, last);
    let (header, partitions, health) = match (primary, backup) {
        (Ok((header, entries)), Ok((other, other_entries))) => {
            let mut health = Health::Sound;
            if entries != other_entries {
                findings.push(finding(
                    Severity::Warning,
                    "the two copies of the GPT differ: the primary is shown; sgdisk -v and the partitions' contents tell which is right",
                ));
                health = Health::Damaged("primary and backup differ".to_string());
            } else if other.this_lba < last && header.other_lba == other.this_lba {
                findings.push(finding(
                    Severity::Info,
                    "the backup GPT is not at the disk's end: the disk has grown; sgdisk -e moves it",
                ));
            }
            (header, entries, health)
        }
        (Ok((header, entries)), Err(torn)) => {
            let reason = torn.reason();
            findings.push(finding(
                Severity::Warning,
                format!(
                    "the backup GPT is torn ({reason}): the primary is used; sgdisk -e writes a new backup"
                ),
            ));
            (header, entries, Health::Damaged(format!("backup GPT: {reason}")))
        }
        // Without any sign of a primary, a backup is a left-over unless the MBR says GPT.
        (Err(Torn::Absent), Ok(_)) if !super::mbr::is_protective(device) => return None,
        (Err(torn), Ok((header, entries))) => {
            let reason = torn.reason();
            findings.push(finding(
                Severity::Warning,
                format!("the primary GPT is torn ({reason}): the backup at the disk's end is used; sgdisk -e or gdisk (r, b, w) mends it, and the kernel shows no partition before that"),
            ));
            (header, entries, Health::Damaged(format!("primary GPT: {reason}; backup used")))
        }
        (Err(Torn::Absent), Err(_)) => return None,
        // What cannot be read is in the report's errors; that a GPT was there is known from elsewhere or not at all.
        (Err(Torn::Unreadable(_)), Err(Torn::Absent | Torn::Unreadable(_)))
            if !super::mbr::is_protective(device) =>
        {
            return None;
        }
        (Err(torn), Err(_)) => {
            let reason = torn.reason();
            findings.push(finding(
                Severity::Error,
                format!("both copies of the GPT are torn ({reason}): no partition can be listed; testdisk may find them"),
            ));
            return None;
        }
    };
    if let Some(reason) = reason {
        let text = format!("the kernel shows no partition of this GPT, since {reason}");
        findings.push(finding(Severity::Warning, text));
    }
    judge(&header, &partitions, device.size(), findings);
    let beneath = match refused_by[..] {
        [] => None,
        _ => mbr::probe(device, geometry, &mut Vec::new()).map(Box::new),
    };
    // A backup says where the primary is, and its entries lie behind that.
    let (entries_start, alternative) = match header.this_lba {
        PRIMARY => (header.entries_lba, header.other_lba),
        backup => (PRIMARY + 1, backup),
    };
    Some(Table {
        kind: TableKind::Gpt,
        id: Some(header.id.to_string().to_uppercase()),
        sector,
        partitions,
        health,
        gpt: Some(Gpt {
            first_usable: header.first_usable,
            last_usable: header.last_usable,
            entries: header.entries,
            entry_size: header.entry_size,
            entries_start,
            alternative,
            primary: primary_state,
            backup: backup_state,
            refused_by,
            beneath,
        }),
        label: None,
    })
}

type Copy = Result<(Header, Vec<Entry>), Torn>;

/// Who takes no table from these copies, and why the kernel does not where nothing else says so. `own_sector`: they
/// are written for the device's. `last`: its last sector.
fn refused_by(
    device: &dyn ReadAt,
    own_sector: bool,
    primary: &Copy,
    backup: &Copy,
    last: u64,
) -> (Vec<Reader>, Option<String>) {
    // That the others know no table for other sectors, and ours does, is said and stays.
    if !own_sector {
        return (vec![Reader::Kernel], None);
    }
    let mut readers = Vec::new();
    let reason = match to_the_kernel(device, primary, last) {
        Ok(()) => None,
        Err(reason) => {
            readers.push(Reader::Kernel);
            reason
        }
    };
    // A backup counts in the last sector, and to libfdisk only without a primary, which then is as good.
    let takes = |accepts: fn(&Header) -> bool| {
        let is_good = |(header, _): &(Header, Vec<Entry>)| {
            let is_there = header.this_lba == PRIMARY || header.this_lba == last;
            let is_in_range = header.first_usable <= header.last_usable && header.last_usable <= last;
            is_there && is_in_range && accepts(header)
        };
        mbr::is_protective(device) && [primary, backup].into_iter().flatten().any(is_good)
    };
    if !takes(libblkid_accepts) {
        readers.push(Reader::Libblkid);
    }
    if !takes(libfdisk_accepts) {
        readers.push(Reader::Libfdisk);
    }
    (readers, reason)
}

/// The kernel goes by sector 0 and the primary (block/partitions/efi.c: is_pmbr_valid, is_gpt_valid; find_valid_gpt
/// looks at the backup alone only if its command line says gpt). The reason why it takes none, unless that was told.
fn to_the_kernel(device: &dyn ReadAt, primary: &Copy, last: u64) -> Result<(), Option<String>> {
    if !mbr::protects_to_the_kernel(device) {
        return Err(Some(
            "sector 0 has no entry of type ee that starts at sector 1: gdisk (x, n, w) writes one"
                .to_string(),
        ));
    }
    let (header, _) = primary.as_ref().map_err(|_| None)?;
    let Header { first_usable, last_usable, entry_size, .. } = header;
    if *last_usable > last {
        return Err(Some(format!(
            "its usable sectors go on to {last_usable}, and the disk ends with {last}: if this is a copy of a larger disk, what lay behind is not on it; sgdisk -e fits the table to the disk where no partition runs past its end"
        )));
    }
    if first_usable > last_usable {
        return Err(Some("it has no usable sectors".to_string()));
    }
    if *entry_size != ENTRY {
        return Err(Some(format!(
            "its entries have {entry_size} bytes, and the kernel reads those of {ENTRY}"
        )));
    }
    Ok(())
}

/// libblkid: partitions/gpt.c, get_gpt_header.
fn libblkid_accepts(header: &Header) -> bool {
    let is_usable = header.first_usable < header.this_lba && header.this_lba < header.last_usable;
    !is_usable && header.entry_size == ENTRY
}

/// libfdisk: gpt.c, gpt_check_lba_sanity and gpt_read_entries.
fn libfdisk_accepts(header: &Header) -> bool {
    let is_usable = header.first_usable < PRIMARY && PRIMARY < header.last_usable;
    let area = u64::from(header.entries) * u64::from(header.entry_size);
    !is_usable && area / u64::from(header.sector) < header.first_usable
}

fn read(device: &dyn ReadAt, sector: u32, lba: u64) -> Copy {
    let header = header(device, sector, lba)?;
    let entries = entries(device, &header).map_err(Torn::Damaged)?;
    Ok((header, entries))
}

fn header(device: &dyn ReadAt, sector: u32, lba: u64) -> Result<Header, Torn> {
    let offset = lba.checked_mul(sector.into()).ok_or(Torn::Absent)?;
    let unreadable = |error: crate::read::ReadError| Torn::Unreadable(error.to_string());
    let bytes = device.bytes(offset, sector as usize).map_err(unreadable)?;
    if bytes.get(..8) != Some(MAGIC) {
        return Err(Torn::Absent);
    }
    let cut = || Torn::Damaged("header is cut".to_string());
    let header = parse(&bytes, sector).ok_or_else(cut)?.map_err(Torn::Damaged)?;
    if header.this_lba != lba {
        let reason = format!("header says that it lies at sector {}, and lies at {lba}", header.this_lba);
        return Err(Torn::Damaged(reason));
    }
    Ok(header)
}

/// Fields in disk order; the inner error is the reason why they cannot be used.
fn parse(bytes: &[u8], sector: u32) -> Option<Result<Header, String>> {
    let size = le32(bytes, 12)?;
    let crc = le32(bytes, 16)?;
    let this_lba = le64(bytes, 24)?;
    let other_lba = le64(bytes, 32)?;
    let first_usable = le64(bytes, 40)?;
    let last_usable = le64(bytes, 48)?;
    let id = guid(bytes, 56)?;
    let entries_lba = le64(bytes, 72)?;
    let entries = le32(bytes, 80)?;
    let entry_size = le32(bytes, 84)?;
    let entries_crc = le32(bytes, 88)?;

    if size < HEADER_MIN || size > sector {
        return Some(Err(format!("header size {size} is not from {HEADER_MIN} to {sector}")));
    }
    let mut covered = bytes.get(..size as usize)?.to_vec();
    covered.get_mut(16..20)?.fill(0);
    let actual = crc32fast::hash(&covered);
    if actual != crc {
        return Some(Err(format!("header checksum {crc:08x} should be {actual:08x}")));
    }
    if !(128..=ENTRY_MAX).contains(&entry_size) || !entry_size.is_power_of_two() {
        return Some(Err(format!("entry size {entry_size} is not legal")));
    }
    if entries == 0 || entries > ENTRIES_MAX {
        return Some(Err(format!("{entries} entries")));
    }
    if first_usable > last_usable.saturating_add(1) {
        return Some(Err(format!("usable sectors from {first_usable} to {last_usable}")));
    }
    Some(Ok(Header {
        sector,
        this_lba,
        other_lba,
        first_usable,
        last_usable,
        id,
        entries_lba,
        entries,
        entry_size,
        entries_crc,
    }))
}

fn entries(device: &dyn ReadAt, header: &Header) -> Result<Vec<Entry>, String> {
    let offset = header.entries_lba.checked_mul(header.sector.into()).ok_or("entries lie past the end")?;
    // ENTRIES_MAX times ENTRY_MAX: 4 MiB at most.
    let bytes = device
        .bytes(offset, header.entries as usize * header.entry_size as usize)
        .map_err(|error| error.to_string())?;
    let actual = crc32fast::hash(&bytes);
    if actual != header.entries_crc {
        return Err(format!("entries' checksum {:08x} should be {actual:08x}", header.entries_crc));
    }
    let entry = |(index, bytes): (usize, &[u8])| entry(bytes, index as u32 + 1, header.sector);
    Ok(bytes.chunks_exact(header.entry_size as usize).enumerate().filter_map(entry).collect())
}

/// `None`: not in use.
fn entry(bytes: &[u8], number: u32, sector: u32) -> Option<Entry> {
    let kind = guid(bytes, 0)?;
    if kind.0 == [0; 16] {
        return None;
    }
    let uuid = guid(bytes, 16)?;
    let first = le64(bytes, 32)?;
    let last = le64(bytes, 40)?;
    let attributes = le64(bytes, 48)?;
    let name: Vec<u16> =
        bytes.get(56..128)?.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
    let end = name.iter().position(|unit| *unit == 0).unwrap_or(name.len());
    let sectors = last.checked_sub(first).map_or(0, |difference| difference.saturating_add(1));
    let extent =
        Extent { start: first.saturating_mul(sector.into()), length: sectors.saturating_mul(sector.into()) };
    Some(Entry {
        uuid: Some(uuid.to_string()),
        name: (end > 0).then(|| String::from_utf16_lossy(&name[..end])),
        attributes,
        ..Entry::new(number, extent, kind.to_string().to_uppercase())
    })
}

/// Entries that make no sense, named.
fn judge(header: &Header, partitions: &[Entry], size: u64, findings: &mut Vec<Finding>) {
    let sector = u64::from(header.sector);
    let usable_end = header.last_usable.saturating_add(1).saturating_mul(sector);
    let usable_start = header.first_usable.saturating_mul(sector);
    let mut sorted: Vec<&Entry> = partitions.iter().collect();
    sorted.sort_by_key(|entry| entry.extent.start);
    for entry in &sorted {
        let end = entry.extent.start.saturating_add(entry.extent.length);
        if entry.extent.length == 0 {
            findings.push(finding(
                Severity::Warning,
                format!("partition {} ends before it begins: it is not usable", entry.number),
            ));
        } else if end > size {
            findings.push(finding(
                Severity::Error,
                format!("partition {} runs past the disk's end", entry.number),
            ));
        } else if entry.extent.start < usable_start || end > usable_end {
            findings.push(finding(
                Severity::Warning,
                format!("partition {} lies outside the usable sectors", entry.number),
            ));
        }
    }
    for pair in sorted.windows(2) {
        if pair[0].extent.start.saturating_add(pair[0].extent.length) > pair[1].extent.start
            && pair[0].extent.length > 0
        {
            findings.push(finding(
                Severity::Error,
                format!("partitions {} and {} overlap", pair[0].number, pair[1].number),
            ));
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::format::Geometry;
    use crate::table;

    /// A disk of 2 MiB with one partition, entries of `entry_size`.
    pub fn disk(sector: usize, entry_size: usize) -> Vec<u8> {
        let mut disk = vec![0; 2 << 20];
        let last = disk.len() / sector - 1;
        (disk[450], disk[454]) = (0xee, 1);
        disk[458..462].copy_from_slice(&(last as u32).to_le_bytes());
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
        let area = 128 * entry_size;
        let mut entries = vec![0; area];
        entries[..16].copy_from_slice(&[
            0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4,
        ]);
        entries[16..32].copy_from_slice(&[7; 16]);
        entries[32..40].copy_from_slice(&((1 << 20) / sector as u64).to_le_bytes());
        entries[40..48].copy_from_slice(&((1 << 20) / sector as u64 + 7).to_le_bytes());
        for (i, unit) in "boot".encode_utf16().enumerate() {
            entries[56 + 2 * i..58 + 2 * i].copy_from_slice(&unit.to_le_bytes());
        }
        let area_sectors = area.div_ceil(sector);
        for (lba, other, entries_lba) in [(1, last, 2), (last, 1, last - area_sectors)] {
            let mut header = vec![0; sector];
            header[..8].copy_from_slice(MAGIC);
            header[8..12].copy_from_slice(&[0, 0, 1, 0]);
            header[12..16].copy_from_slice(&92_u32.to_le_bytes());
            header[24..32].copy_from_slice(&(lba as u64).to_le_bytes());
            header[32..40].copy_from_slice(&(other as u64).to_le_bytes());
            header[40..48].copy_from_slice(&(2 + area_sectors as u64).to_le_bytes());
            header[48..56].copy_from_slice(&((last - area_sectors - 1) as u64).to_le_bytes());
            header[56..72].copy_from_slice(&[9; 16]);
            header[72..80].copy_from_slice(&(entries_lba as u64).to_le_bytes());
            header[80..84].copy_from_slice(&128_u32.to_le_bytes());
            header[84..88].copy_from_slice(&(entry_size as u32).to_le_bytes());
            header[88..92].copy_from_slice(&crc32fast::hash(&entries).to_le_bytes());
            let crc = crc32fast::hash(&header[..92]);
            header[16..20].copy_from_slice(&crc.to_le_bytes());
            disk[lba * sector..(lba + 1) * sector].copy_from_slice(&header);
            disk[entries_lba * sector..entries_lba * sector + area].copy_from_slice(&entries);
        }
        disk
    }

    fn look(disk: &dyn ReadAt, logical: u32) -> (Option<Table>, Vec<String>) {
        let mut findings = Vec::new();
        let table = table::probe(disk, Geometry { logical, physical: logical }, &mut findings);
        (table, findings.into_iter().map(|finding| finding.text).collect())
    }

    #[test]
    fn a_sound_table_is_read_whatever_its_entry_size() {
        for (sector, entry_size) in [(512, 128), (512, 256), (4096, 128), (512, 512)] {
            let (table, findings) = look(&disk(sector, entry_size), sector as u32);
            let table = table.unwrap();
            assert_eq!(
                (table.kind, table.health.clone()),
                (TableKind::Gpt, Health::Sound),
                "{sector} {entry_size}"
            );
            assert_eq!(table.partitions[0].extent, Extent { start: 1 << 20, length: 8 * sector as u64 });
            assert_eq!(table.partitions[0].kind, "0FC63DAF-8483-4772-8E79-3D69D8477DE4");
            assert_eq!(table.partitions[0].name.as_deref(), Some("boot"));
            let is_odd = entry_size != 128;
            assert_eq!(findings.len(), usize::from(is_odd), "{findings:?}");
            assert!(!is_odd || findings[0].contains("the kernel reads those of 128"), "{findings:?}");
        }
    }

    /// What the kernel, libblkid and libfdisk take, and what those have instead that do not.
    #[test]
    fn a_gpt_that_others_refuse_is_shown_with_why_the_kernel_shows_none() {
        use Reader::{Kernel, Libblkid, Libfdisk};
        let changed = |change: fn(&mut Vec<u8>)| {
            let mut disk = disk(512, 128);
            change(&mut disk);
            disk
        };
        for (label, disk, readers, beneath, said) in [
            ("sound", disk(512, 128), &[][..], None, ""),
            ("grown", changed(|disk| disk.resize(4 << 20, 0)), &[], None, ""),
            (
                "copied to a smaller disk",
                changed(|disk| disk.truncate(disk.len() - (40 << 10))),
                &[Kernel, Libblkid, Libfdisk],
                Some(1),
                "usable sectors go on to 4062, and the disk ends with 4015",
            ),
            ("larger entries", disk(512, 256), &[Kernel, Libblkid], Some(1), "its entries have 256 bytes"),
            (
                "sector 0 is zeroed",
                changed(|disk| disk[..512].fill(0)),
                &[Kernel, Libblkid, Libfdisk],
                None,
                "no entry of type ee",
            ),
            (
                "a boot sector without entries",
                changed(|disk| disk[450] = 0),
                &[Kernel, Libblkid, Libfdisk],
                Some(0),
                "no entry of type ee",
            ),
            ("its entry starts elsewhere", changed(|disk| disk[454] = 0), &[Kernel], Some(1), "no entry of"),
            (
                "the primary is torn",
                changed(|disk| disk[512 + 60] ^= 1),
                &[Kernel],
                Some(1),
                "the kernel shows no partition before that",
            ),
        ] {
            let (table, findings) = look(&disk, 512);
            let table = table.unwrap();
            assert_eq!((table.kind, table.partitions.len()), (TableKind::Gpt, 1), "{label}");
            let gpt = table.gpt.as_ref().unwrap();
            assert_eq!(gpt.refused_by, readers, "{label}");
            let entries = gpt.beneath.as_ref().map(|table| table.partitions.len());
            assert_eq!(entries, beneath, "{label}");
            let all = findings.join("\n");
            assert!(all.contains(said), "{label}: {all}");
            let told = usize::from(readers.contains(&Kernel));
            assert_eq!(all.matches("kernel shows no partition").count(), told, "{label}: {all}");
            for reader in [Kernel, Libblkid, Libfdisk] {
                let kind = table.read_by(reader).map(|table| table.kind);
                let instead = beneath.map(|_| TableKind::Mbr);
                let want = if readers.contains(&reader) { instead } else { Some(TableKind::Gpt) };
                assert_eq!(kind, want, "{label}: {reader:?}");
            }
        }
    }

    #[test]
    fn a_torn_primary_is_replaced_by_the_backup_and_said() {
        let mut disk = disk(512, 128);
        disk[512 + 60] ^= 1;
        let (table, findings) = look(&disk, 512);
        assert!(
            matches!(table.unwrap().health, Health::Damaged(reason) if reason.contains("header checksum"))
        );
        assert!(findings[0].contains("the backup at the disk's end is used"), "{findings:?}");
    }

    #[test]
    fn a_primary_that_is_gone_is_found_by_its_protective_mbr() {
        let mut disk = disk(512, 128);
        disk[512..1024].fill(0);
        assert!(look(&disk, 512).0.is_some());
        disk[450] = 0x83;
        assert!(look(&disk, 512).0.is_none_or(|table| table.kind == TableKind::Mbr));
    }

    #[test]
    fn a_torn_backup_and_torn_entries_are_named() {
        let mut one = disk(512, 128);
        let end = one.len();
        one[end - 500] ^= 1;
        assert!(look(&one, 512).1[0].contains("the backup GPT is torn"));
        let mut two = disk(512, 128);
        two[1024 + 33] ^= 1;
        assert!(look(&two, 512).1[0].contains("entries' checksum"));
    }

    #[test]
    fn both_torn_is_an_error_and_not_a_guess() {
        let mut disk = disk(512, 128);
        let end = disk.len();
        disk[512 + 60] ^= 1;
        disk[end - 512 + 60] ^= 1;
        let (table, findings) = look(&disk, 512);
        assert!(table.is_none_or(|table| table.kind == TableKind::Mbr));
        assert!(findings[0].contains("both copies"), "{findings:?}");
    }

    #[test]
    fn a_table_for_the_other_sector_size_is_read_and_said() {
        let (table, findings) = look(&disk(4096, 128), 512);
        assert_eq!(table.unwrap().sector, 4096);
        assert!(findings[0].contains("sectors of 4096 bytes"), "{findings:?}");
    }

    #[test]
    fn a_disk_that_has_grown_is_said() {
        let mut disk = disk(512, 128);
        disk.resize(4 << 20, 0);
        let (table, findings) = look(&disk, 512);
        assert_eq!(table.unwrap().health, Health::Sound);
        assert!(findings[0].contains("has grown"), "{findings:?}");
    }
}
