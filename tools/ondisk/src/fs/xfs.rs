//! XFS: superblock of the first allocation group, its copies in the others, and whether the log has to be replayed
//! (kernel: fs/xfs/libxfs/xfs_format.h, xfs_log_recover.c; what is accepted, as libblkid does). Also a log
//! that has a device of its own.

use crate::bytes::{be16, be32, be64, le32, uuid};
use crate::checksum::crc32c_without;
use crate::format::{Format, Health, Magic, Signature, Usage, Uuid};
use crate::read::ReadAt;

const MAGIC: &[u8] = b"XFSB";
/// One sector of 512 bytes holds all fields; the checksum covers the volume's sector.
const BYTES: usize = 512;
const CRC: std::ops::Range<usize> = 224..228;
const MOREBITS: u16 = 0x8000;
const CRC_BIT: u32 = 0x100;
const NEEDS_REPAIR: u32 = 0x10;
const MIN_AG_BLOCKS: u64 = 64;

/// BBSIZE: the log counts in blocks of 512 bytes.
const BB: u64 = 512;
const LOG_MAGIC: u32 = 0xfeed_babe;
/// XLOG_HEADER_CYCLE_SIZE: one more header block for each 32 KiB of record.
const HEADER_CYCLE: u32 = 32 << 10;
/// How far behind the head its record's header can lie: the largest record (256 KiB) and its headers.
const BACK: u64 = 512 + 16;
/// XFS_MAX_LOG_BYTES; a larger log is no log.
const LOG_MAX: u64 = 1 << 31;
const UNMOUNT_TRANS: u8 = 0x20;

pub const FORMAT: Format = Format {
    name: "xfs",
    usage: Usage::Filesystem,
    magics: &[Magic { offset: 0, bytes: MAGIC }],
    min_size: BYTES as u64,
    probe,
};

pub const LOG: Format = Format {
    name: "xfs_external_log",
    usage: Usage::Other,
    magics: &[],
    min_size: 10 << 20, // XFS_MIN_LOG_BYTES
    probe: probe_log,
};

fn probe(device: &dyn ReadAt, _magic: Option<&Magic>) -> Option<Signature> {
    let primary = Superblock::read(device, 0)?;
    let Err(reason) = primary.check(device, 0) else { return Some(primary.signature(device)) };
    let copy = copy(device, Some(&primary));
    let (best, text) = match &copy {
        Some((offset, copy)) => (
            copy,
            format!("primary superblock: {reason}; its copy at {offset} is sound (xfs_repair uses it)"),
        ),
        None => {
            (&primary, format!("primary superblock: {reason}; no sound copy where its groups should begin"))
        }
    };
    let mut found = best.signature(device);
    found.health = Health::Damaged(text);
    Some(found)
}

pub fn salvage(device: &dyn ReadAt) -> Option<Signature> {
    let (offset, copy) = copy(device, None)?;
    let mut found = copy.signature(device);
    found.health = Health::Damaged(format!(
        "primary superblock: gone; its copy at {offset} is sound (xfs_repair uses it)"
    ));
    Some(found)
}

/// A sound superblock of a later group: where the first one says, else where mkfs.xfs makes groups on
/// a device of this size: 4 of them, more on large or striped ones, of 1 TiB at most.
fn copy(device: &dyn ReadAt, primary: Option<&Superblock>) -> Option<(u64, Superblock)> {
    let mut candidates = Vec::new();
    if let Some(sb) = primary {
        candidates.push(u64::from(sb.agblocks).saturating_mul(sb.block_size.into()));
    }
    for block_size in [4096_u64, 1024, 65536, 512, 2048] {
        let blocks = device.size() / block_size;
        candidates.extend((0..=5).map(|shift: u32| blocks.div_ceil(1 << shift) * block_size));
    }
    candidates.push(1 << 40);
    candidates.into_iter().filter(|offset| *offset != 0 && *offset < device.size()).find_map(|offset| {
        let copy = Superblock::read(device, offset)?;
        let group = u64::from(copy.agblocks).checked_mul(copy.block_size.into())?;
        (offset.checked_rem(group) == Some(0) && copy.check(device, offset).is_ok()).then_some((offset, copy))
    })
}

struct Superblock {
    block_size: u32,
    blocks: u64,
    uuid: Uuid,
    log_start: u64,
    rextsize: u32,
    agblocks: u32,
    agcount: u32,
    log_blocks: u32,
    version: u16,
    sector_size: u16,
    inode_size: u16,
    label: Vec<u8>,
    block_log: u8,
    sector_log: u8,
    inode_log: u8,
    inodes_per_block_log: u8,
    agblocks_log: u8,
    in_progress: u8,
    inode_percent: u8,
    features2: u32,
    incompat: u32,
    crc: u32,
}

impl Superblock {
    fn read(device: &dyn ReadAt, offset: u64) -> Option<Superblock> {
        let sb = device.bytes(offset, BYTES).ok()?;
        if sb.get(..4)? != MAGIC {
            return None;
        }
        Some(Superblock {
            block_size: be32(&sb, 4)?,
            blocks: be64(&sb, 8)?,
            uuid: uuid(&sb, 32)?,
            log_start: be64(&sb, 48)?,
            rextsize: be32(&sb, 80)?,
            agblocks: be32(&sb, 84)?,
            agcount: be32(&sb, 88)?,
            log_blocks: be32(&sb, 96)?,
            version: be16(&sb, 100)?,
            sector_size: be16(&sb, 102)?,
            inode_size: be16(&sb, 104)?,
            label: sb.get(108..120)?.to_vec(),
            block_log: *sb.get(120)?,
            sector_log: *sb.get(121)?,
            inode_log: *sb.get(122)?,
            inodes_per_block_log: *sb.get(123)?,
            agblocks_log: *sb.get(124)?,
            in_progress: *sb.get(126)?,
            inode_percent: *sb.get(127)?,
            features2: be32(&sb, 200)?,
            incompat: be32(&sb, 216)?,
            crc: le32(&sb, CRC.start)?, // the one little-endian field
        })
    }

    fn is_version_5(&self) -> bool {
        self.version & 15 == 5
    }

    /// xfs_validate_sb_common, as far as libblkid goes, and the checksum.
    fn check(&self, device: &dyn ReadAt, offset: u64) -> Result<(), String> {
        let power = |size: u32, log: u8, logs: std::ops::RangeInclusive<u8>| {
            logs.contains(&log) && Some(size) == 1_u32.checked_shl(log.into())
        };
        let realtime = self.rextsize.wrapping_mul(self.block_size);
        let most = u64::from(self.agcount) * u64::from(self.agblocks);
        let least = u64::from(self.agcount.saturating_sub(1)) * u64::from(self.agblocks) + MIN_AG_BLOCKS;
        let checks = [
            ("agcount", self.agcount != 0),
            ("sector size", power(self.sector_size.into(), self.sector_log, 9..=15)),
            ("block size", power(self.block_size, self.block_log, 9..=16)),
            ("inode size", power(self.inode_size.into(), self.inode_log, 8..=11)),
            (
                "inodes per block",
                self.block_log.checked_sub(self.inode_log) == Some(self.inodes_per_block_log),
            ),
            ("realtime extent size", (4 << 10..=1 << 30).contains(&realtime)),
            ("imax_pct", self.inode_percent <= 100),
            ("dblocks", self.blocks != 0 && (least..=most).contains(&self.blocks)),
            (
                "version",
                !self.is_version_5() || (self.version & MOREBITS != 0 && self.features2 & CRC_BIT != 0),
            ),
        ];
        if let Some((field, _)) = checks.iter().find(|(_, holds)| !holds) {
            return Err(format!("{field} is out of range"));
        }
        if self.is_version_5() {
            let sector = device
                .bytes(offset, self.sector_size.into())
                .map_err(|error| format!("its sector cannot be read: {error}"))?;
            let sum = crc32c_without(&sector, CRC);
            if sum != self.crc {
                return Err(format!("checksum {:08x} should be {sum:08x}", self.crc));
            }
        }
        Ok(())
    }

    fn signature(&self, device: &dyn ReadAt) -> Signature {
        let mut found = Signature::new("xfs", Usage::Filesystem, 0);
        if self.is_version_5() {
            found.health = Health::Sound;
        }
        let inside = if self.log_start == 0 { 0 } else { self.log_blocks };
        let size = self.blocks.wrapping_sub(inside.into()).wrapping_mul(self.block_size.into());
        found.set_label(&self.label);
        found.set_uuid(self.uuid);
        found.set_fs_size(size);
        found.set_last_block(self.blocks);
        found.set_fs_block_size(self.block_size);
        found.set_block_size(self.sector_size.into());
        found.set_length(self.blocks.saturating_mul(self.block_size.into()), device);
        if self.in_progress != 0 {
            found.damage("mkfs.xfs did not finish");
        }
        if self.incompat & NEEDS_REPAIR != 0 {
            found.check_is_due("it is marked for xfs_repair", ", and is not mounted before that");
        }
        match self.log(device) {
            Log::Clean => {}
            Log::Dirty => found.dirty = true,
            Log::Elsewhere => {
                found.note("its log is on another device, so whether it has to be replayed is not known");
                // xlog_header_check_mount: each record of the log carries it.
                found.journal_on = Some(self.uuid.to_string());
            }
            Log::Unreadable(reason) => {
                found.dirty = true;
                found.note(format!("its log cannot be followed: {reason}"));
            }
        }
        found
    }

    fn log(&self, device: &dyn ReadAt) -> Log {
        if self.log_start == 0 {
            return Log::Elsewhere;
        }
        let place = || {
            let group = self.log_start.checked_shr(self.agblocks_log.into())?;
            let within = self.log_start & (1_u64.checked_shl(self.agblocks_log.into())? - 1);
            let block = group.checked_mul(self.agblocks.into())?.checked_add(within)?;
            let start = block.checked_mul(self.block_size.into())?;
            let length = u64::from(self.log_blocks) * u64::from(self.block_size);
            let end = start.checked_add(length)?;
            ((BB..=LOG_MAX).contains(&length) && end <= device.size()).then_some((start, length / BB))
        };
        let Some((start, blocks)) = place() else {
            return Log::Unreadable("it lies outside of the device".to_string());
        };
        InternalLog { device, start, blocks }.state().unwrap_or_else(Log::Unreadable)
    }
}

enum Log {
    Clean,
    Dirty,
    Elsewhere,
    Unreadable(String),
}

struct InternalLog<'a> {
    device: &'a dyn ReadAt,
    /// Bytes.
    start: u64,
    /// Of 512 bytes.
    blocks: u64,
}

impl InternalLog<'_> {
    /// xlog_find_tail: clean is a log whose last record is the one that unmounting writes, and nothing else.
    /// The kernel also steps back over records that were written out of order before a crash; without that
    /// such a log counts as dirty, which is the safe side.
    fn state(&self) -> Result<Log, String> {
        let head = self.head()?;
        for back in 1..=BACK.min(self.blocks) {
            let at = self.wrap(head + self.blocks - back);
            let block = self.block(at)?;
            if be32(&block, 0) != Some(LOG_MAGIC) {
                continue;
            }
            return Ok(if self.is_unmount(&block, at, head)? { Log::Clean } else { Log::Dirty });
        }
        Ok(Log::Dirty)
    }

    fn is_unmount(&self, header: &[u8], at: u64, head: u64) -> Result<bool, String> {
        let field = |offset| be32(header, offset).unwrap_or_default();
        let (version, length, operations, size) = (field(8), field(12), field(40), field(320));
        let headers = if version & 2 != 0 { size.div_ceil(HEADER_CYCLE).clamp(1, 16) } else { 1 };
        let data = at + u64::from(headers);
        let end = self.wrap(data + u64::from(length).div_ceil(BB));
        if end != head || operations != 1 {
            return Ok(false);
        }
        let operation = self.block(self.wrap(data))?;
        Ok(operation.get(9).is_some_and(|flags| flags & UNMOUNT_TRANS != 0))
    }

    /// xlog_find_head: the first block that the last cycle did not reach.
    fn head(&self) -> Result<u64, String> {
        let first = self.cycle(0)?;
        let last = self.cycle(self.blocks - 1)?;
        if first == last {
            return Ok(0);
        }
        // The kernel searches for the first block of the older cycle; 0 is what was never written.
        let (mut low, mut high) = (0, self.blocks - 1);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.cycle(middle)? == last { high = middle } else { low = middle }
        }
        Ok(high)
    }

    /// Each block begins with the number of the pass in which it was written; a header has it second.
    fn cycle(&self, block: u64) -> Result<u32, String> {
        let bytes = self.block(block)?;
        let word = |offset| be32(&bytes, offset).unwrap_or_default();
        Ok(if word(0) == LOG_MAGIC { word(4) } else { word(0) })
    }

    fn block(&self, block: u64) -> Result<Vec<u8>, String> {
        self.device.bytes(self.start + block * BB, BB as usize).map_err(|error| error.to_string())
    }

    fn wrap(&self, block: u64) -> u64 {
        block % self.blocks
    }
}

/// A log's device has no superblock: a record header somewhere in the first 256 KiB, the most that a record is long.
fn probe_log(device: &dyn ReadAt, _magic: Option<&Magic>) -> Option<Signature> {
    // What is at hand of any device tells nearly always: a log is written from its beginning on, so without a header
    // here this is the inside of one record, and each of its sectors begins with the number of the pass.
    let begin = device.bytes(0, 64 << 10).ok()?;
    let pass = |sector: usize| be32(&begin, sector * 512).filter(|pass| *pass != 0);
    let is_inside =
        (1..begin.len() / 512).any(|sector| pass(sector).is_some() && pass(sector) == pass(sector - 1));
    match log_header(&begin)? {
        Some(found) => Some(found),
        None if is_inside => log_header(&device.bytes(0, 256 << 10).ok()?)?,
        None => None,
    }
}

/// `None` where it is no log.
fn log_header(bytes: &[u8]) -> Option<Option<Signature>> {
    for (index, sector) in bytes.chunks(512).enumerate() {
        if sector.starts_with(MAGIC) {
            return None;
        }
        let (magic, version, length, format) =
            (be32(sector, 0)?, be32(sector, 8)?, be32(sector, 12)?, be32(sector, 300)?);
        let is_header = magic == LOG_MAGIC
            && matches!(version, 1..=3)
            && length != 0
            && i32::try_from(length).is_ok()
            && matches!(format, 1..=3);
        if is_header {
            let mut found = Signature::new("xfs_external_log", Usage::Other, index as u64 * 512);
            found.set_other_uuid("LOGUUID", uuid(sector, 304)?);
            return Some(Some(found));
        }
    }
    Some(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn put(device: &mut [u8], offset: usize, bytes: &[u8]) {
        device[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    const GROUP: usize = 4 << 20;
    /// The log begins at block 512 of group 1 and has 512 blocks of 4 KiB.
    const LOG_AT: usize = GROUP + 512 * 4096;

    fn seal(device: &mut [u8], at: usize) {
        let sum = crc32c_without(&device[at..at + 512], CRC);
        put(device, at + CRC.start, &sum.to_le_bytes());
    }

    /// Version 5 of four groups of 4 MiB.
    fn sample() -> Vec<u8> {
        let mut device = vec![0; 4 * GROUP];
        for at in [0, GROUP] {
            put(&mut device, at, MAGIC);
            put(&mut device, at + 4, &4096_u32.to_be_bytes());
            put(&mut device, at + 8, &4096_u64.to_be_bytes());
            put(&mut device, at + 32, &[0xcd; 16]);
            put(&mut device, at + 48, &(1_u64 << 10 | 512).to_be_bytes());
            put(&mut device, at + 80, &1_u32.to_be_bytes());
            put(&mut device, at + 84, &1024_u32.to_be_bytes());
            put(&mut device, at + 88, &4_u32.to_be_bytes());
            put(&mut device, at + 96, &512_u32.to_be_bytes());
            put(&mut device, at + 100, &0xb4a5_u16.to_be_bytes());
            put(&mut device, at + 102, &512_u16.to_be_bytes());
            put(&mut device, at + 104, &512_u16.to_be_bytes());
            put(&mut device, at + 108, b"data");
            put(&mut device, at + 120, &[12, 9, 9, 3, 10, 0, 0, 25]);
            put(&mut device, at + 200, &0x18a_u32.to_be_bytes());
            seal(&mut device, at);
        }
        // What mkfs writes: one record of an unmount, in cycle 1; all behind it was never written.
        record(&mut device, 0, 1, UNMOUNT_TRANS);
        device
    }

    fn record(device: &mut [u8], block: usize, cycle: u32, flags: u8) {
        let at = LOG_AT + block * 512;
        put(device, at, &LOG_MAGIC.to_be_bytes());
        put(device, at + 4, &cycle.to_be_bytes());
        put(device, at + 8, &2_u32.to_be_bytes());
        put(device, at + 12, &512_u32.to_be_bytes());
        put(device, at + 40, &1_u32.to_be_bytes());
        put(device, at + 320, &32768_u32.to_be_bytes());
        put(device, at + 512, &cycle.to_be_bytes());
        device[at + 512 + 9] = flags;
    }

    fn look(device: &[u8]) -> Signature {
        probe(&device.to_vec(), None).unwrap()
    }

    fn reason(signature: &Signature) -> &str {
        match &signature.health {
            Health::Damaged(reason) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_sound_superblock_says_what_blkid_says() {
        let found = look(&sample());
        assert_eq!((&found.health, found.dirty, &found.notes), (&Health::Sound, false, &Vec::new()));
        let tags: Vec<(&str, &str)> = found.tags.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let want = [
            ("LABEL", "data"),
            ("UUID", "cdcdcdcd-cdcd-cdcd-cdcd-cdcdcdcdcdcd"),
            ("FSSIZE", "14680064"),
            ("FSLASTBLOCK", "4096"),
            ("FSBLOCKSIZE", "4096"),
            ("BLOCK_SIZE", "512"),
        ];
        assert_eq!(tags, want);
    }

    #[test]
    fn only_an_unmount_record_at_the_head_is_a_clean_log() {
        let mut dirty = sample();
        record(&mut dirty, 2, 1, 0);
        assert!(look(&dirty).dirty);
        // A log that has gone round: an older cycle behind the head.
        let mut round = sample();
        for block in 4..4096 {
            put(&mut round, LOG_AT + block * 512, &1_u32.to_be_bytes());
        }
        record(&mut round, 0, 2, 0);
        record(&mut round, 2, 2, UNMOUNT_TRANS);
        assert!(!look(&round).dirty);
        record(&mut round, 4, 2, 0);
        assert!(look(&round).dirty);
        // The last record ends with the log.
        let mut full = sample();
        for block in 2..4094 {
            put(&mut full, LOG_AT + block * 512, &1_u32.to_be_bytes());
        }
        record(&mut full, 4094, 1, UNMOUNT_TRANS);
        assert!(!look(&full).dirty);
        let mut none = sample();
        none[LOG_AT..LOG_AT + 1024].fill(0);
        assert!(look(&none).dirty);
    }

    #[test]
    fn a_torn_superblock_names_its_copy() {
        let mut device = sample();
        device[110] = 1;
        let found = look(&device);
        assert!(reason(&found).starts_with("primary superblock: checksum "), "{found:?}");
        assert!(reason(&found).ends_with("its copy at 4194304 is sound (xfs_repair uses it)"), "{found:?}");
        assert_eq!(found.label.as_deref(), Some("data"));
        device[88..92].fill(0);
        assert!(reason(&look(&device)).starts_with("primary superblock: agcount is out of range"));
        device[GROUP + 110] = 1;
        assert!(reason(&look(&device)).ends_with("no sound copy where its groups should begin"));
    }

    #[test]
    fn a_wiped_superblock_is_found_by_its_copy() {
        let mut device = sample();
        device[..4096].fill(0);
        assert!(reason(&salvage(&device).unwrap()).contains("gone; its copy at 4194304"));
        device[GROUP..GROUP + 512].fill(0);
        assert!(salvage(&device).is_none());
    }

    #[test]
    fn a_log_of_its_own_is_not_a_file_system() {
        let mut device = vec![0; 10 << 20];
        let mut whole = sample();
        put(&mut whole, LOG_AT + 300, &1_u32.to_be_bytes());
        put(&mut whole, LOG_AT + 304, &[7; 16]);
        put(&mut device, 512, &whole[LOG_AT..LOG_AT + 1024]);
        let found = probe_log(&device, None).unwrap();
        assert_eq!(found.tags, [("LOGUUID".to_string(), "07070707-0707-0707-0707-070707070707".to_string())]);
        put(&mut device, 0, MAGIC);
        assert!(probe_log(&device, None).is_none());
    }

    #[test]
    fn the_record_of_a_log_may_begin_anywhere_in_a_quarter_of_a_mebibyte() {
        let mut device = vec![0; 10 << 20];
        let mut whole = sample();
        put(&mut whole, LOG_AT + 300, &1_u32.to_be_bytes());
        // Sectors of the record before it, one of them torn, up to its header.
        for sector in (0..400).filter(|sector| *sector != 0) {
            put(&mut device, sector * 512, &9_u32.to_be_bytes());
        }
        put(&mut device, 400 * 512, &whole[LOG_AT..LOG_AT + 512]);
        assert_eq!(probe_log(&device, None).map(|found| found.magic_offset), Some(400 * 512));
        // Of any other device no more is read than was read already.
        struct First(Vec<u8>);
        impl ReadAt for First {
            fn size(&self) -> u64 {
                self.0.size()
            }
            fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), crate::read::ReadError> {
                assert!(offset + buf.len() as u64 <= 64 << 10);
                self.0.read_at(offset, buf)
            }
        }
        let mut other = First(vec![0; 10 << 20]);
        put(&mut other.0, 1024, &[7; 512]);
        assert!(probe_log(&other, None).is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_mutated_volume_panics(
            changes in proptest::collection::vec((prop_oneof![0usize..512, LOG_AT..LOG_AT + 2048], any::<u8>()), 0..40),
            sealed in any::<bool>(),
        ) {
            let mut device = sample();
            for (offset, byte) in changes {
                device[offset] = byte;
            }
            if sealed {
                seal(&mut device, 0);
            }
            let _ = probe(&device, None);
        }
    }
}
