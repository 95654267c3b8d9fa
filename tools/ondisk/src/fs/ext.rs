//! ext2, ext3, ext4 and their external journal: one superblock at 1 KiB, copies in some block groups
//! (Documentation/filesystems/ext4/super.rst; which of the names it is, as libblkid decides). Where the first
//! superblock is torn, the copies are looked at, since `fsck -b` needs to be told where a sound one lies.

use crate::bytes::{le16, le32, uuid};
use crate::format::{Format, Health, Magic, Signature, Usage, Uuid};
use crate::read::ReadAt;

const OFFSET: u64 = 1024;
const BYTES: usize = 1024;
const MAGIC: u16 = 0xef53;
const MAGICS: &[Magic] = &[Magic { offset: OFFSET + 0x38, bytes: &[0x53, 0xef] }];
/// Blocks of 1 to 64 KiB.
const LARGEST_LOG: u32 = 6;
/// Groups that have a copy, whatever `sparse_super` says (powers of 3, 5 and 7).
const GROUPS: [u32; 8] = [1, 3, 5, 7, 9, 25, 27, 49];

// s_feature_compat
const HAS_JOURNAL: u32 = 0x4;
const ORPHAN_FILE: u32 = 0x1000;
// s_feature_incompat
const FILETYPE: u32 = 0x2;
const RECOVER: u32 = 0x4;
const JOURNAL_DEV: u32 = 0x8;
const META_BG: u32 = 0x10;
const BIT64: u32 = 0x80;
// s_feature_ro_compat
const EXT2_RO: u32 = 0x1 | 0x2 | 0x4; // sparse_super, large_file, btree_dir
const METADATA_CSUM: u32 = 0x400;
const ORPHAN_PRESENT: u32 = 0x10000;
// s_flags
const TEST_FILESYS: u32 = 0x4;
// s_state
const VALID: u16 = 1;
const ERROR: u16 = 2;

const fn row(
    name: &'static str,
    usage: Usage,
    probe: fn(&dyn ReadAt, Option<&Magic>) -> Option<Signature>,
) -> Format {
    Format { name, usage, magics: MAGICS, min_size: OFFSET + BYTES as u64, probe }
}

pub const EXT4DEV: Format = row("ext4dev", Usage::Filesystem, |device, _| probe(device, "ext4dev"));
pub const EXT4: Format = row("ext4", Usage::Filesystem, |device, _| probe(device, "ext4"));
pub const EXT3: Format = row("ext3", Usage::Filesystem, |device, _| probe(device, "ext3"));
pub const EXT2: Format = row("ext2", Usage::Filesystem, |device, _| probe(device, "ext2"));
pub const JBD: Format = row("jbd", Usage::Other, |device, _| probe(device, "jbd"));

fn probe(device: &dyn ReadAt, name: &str) -> Option<Signature> {
    let primary = Superblock::parse(&device.bytes(OFFSET, BYTES).ok()?)?;
    let reason = match primary.fault() {
        None => return (primary.kind() == name).then(|| primary.signature(device, OFFSET)),
        Some(reason) => reason,
    };
    // Two bytes of magic are too few to call anything damaged that does not look like a superblock besides.
    let backup = backup(device, Some(primary.block_size).filter(|_| primary.is_plausible()));
    if backup.is_none() && !primary.is_plausible() {
        return None;
    }
    let best = backup.as_ref().map_or(&primary, |(_, backup)| backup);
    (best.kind() == name).then(|| best.damaged(device, &reason, backup.as_ref().map(|(block, _)| *block)))
}

/// Where nothing else was found: copies of a superblock that is gone altogether.
pub fn salvage(device: &dyn ReadAt) -> Option<Signature> {
    let (block, backup) = backup(device, None)?;
    Some(backup.damaged(device, "no superblock at 1024", Some(block)))
}

/// The first sound copy, with its block number.
fn backup(device: &dyn ReadAt, block_size: Option<u32>) -> Option<(u64, Superblock)> {
    let sizes = block_size.map_or(vec![4096, 1024, 2048], |size| vec![size]);
    for size in sizes {
        // mkfs makes groups as large as one block of bitmap allows, and only that is looked for.
        let first = u64::from(size == 1024);
        for group in GROUPS {
            let block = first + u64::from(group) * 8 * u64::from(size);
            let Ok(bytes) = device.bytes(block * u64::from(size), BYTES) else { break };
            let found = Superblock::parse(&bytes).filter(|copy| {
                copy.group == group
                    && copy.block_size == size
                    && copy.fault().is_none()
                    && copy.is_plausible()
            });
            if let Some(copy) = found {
                return Some((block, copy));
            }
        }
    }
    None
}

struct Superblock {
    blocks: u64,
    blocks_lo: u32,
    log_block_size: u32,
    block_size: u32,
    blocks_per_group: u32,
    inodes_per_group: u32,
    mounts: u16,
    max_mounts: u16,
    state: u16,
    minor_revision: u16,
    revision: u32,
    group: u32,
    compat: u32,
    incompat: u32,
    ro_compat: u32,
    uuid: Uuid,
    label: Vec<u8>,
    last_mounted: String,
    journal: Uuid,
    journal_inode: u32,
    journal_device: u32,
    last_orphan: u32,
    flags: u32,
    errors: u32,
    checksum: u32,
    computed: u32,
}

impl Superblock {
    /// `struct ext4_super_block`.
    fn parse(sb: &[u8]) -> Option<Superblock> {
        let blocks_lo = le32(sb, 0x04)?;
        let log_block_size = le32(sb, 0x18)?;
        let blocks_per_group = le32(sb, 0x20)?;
        let inodes_per_group = le32(sb, 0x28)?;
        let mounts = le16(sb, 0x34)?;
        let max_mounts = le16(sb, 0x36)?;
        let magic = le16(sb, 0x38)?;
        let state = le16(sb, 0x3a)?;
        let minor_revision = le16(sb, 0x3e)?;
        let revision = le32(sb, 0x4c)?;
        let group = le16(sb, 0x5a)?.into();
        let compat = le32(sb, 0x5c)?;
        let incompat = le32(sb, 0x60)?;
        let ro_compat = le32(sb, 0x64)?;
        let uuid_ = uuid(sb, 0x68)?;
        let label = sb.get(0x78..0x88)?.to_vec();
        let last_mounted = crate::bytes::text(sb, 0x88, 64).unwrap_or_default();
        let journal = uuid(sb, 0xd0)?;
        let journal_inode = le32(sb, 0xe0)?;
        let journal_device = le32(sb, 0xe4)?;
        let last_orphan = le32(sb, 0xe8)?;
        let blocks_hi = le32(sb, 0x150)?;
        let flags = le32(sb, 0x160)?;
        let errors = le32(sb, 0x194)?;
        let checksum = le32(sb, 0x3fc)?;
        if magic != MAGIC {
            return None;
        }
        let high = if incompat & BIT64 != 0 { u64::from(blocks_hi) << 32 } else { 0 };
        Some(Superblock {
            blocks: high | u64::from(blocks_lo),
            blocks_lo,
            log_block_size,
            // 0 where blkid prints none.
            block_size: if log_block_size < 22 { 1024 << log_block_size } else { 0 },
            blocks_per_group,
            inodes_per_group,
            mounts,
            max_mounts,
            state,
            minor_revision,
            revision,
            group,
            compat,
            incompat,
            ro_compat,
            uuid: uuid_,
            label,
            last_mounted,
            journal,
            journal_inode,
            journal_device,
            last_orphan,
            flags,
            errors,
            checksum,
            // The kernel's crc32c is not inverted at its end.
            computed: !crc32c::crc32c(sb.get(..0x3fc)?),
        })
    }

    /// What is wrong with it, by itself.
    fn fault(&self) -> Option<String> {
        if self.has_checksum() {
            return (self.computed != self.checksum)
                .then(|| format!("checksum {:08x} should be {:08x}", self.checksum, self.computed));
        }
        (self.log_block_size > LARGEST_LOG)
            .then(|| format!("block size 1024 << {} is none", self.log_block_size))
    }

    fn has_checksum(&self) -> bool {
        self.ro_compat & METADATA_CSUM != 0
    }

    fn is_plausible(&self) -> bool {
        let bits = self.block_size.saturating_mul(8);
        self.log_block_size <= LARGEST_LOG
            && self.revision <= 1
            && self.blocks != 0
            && (1..=bits).contains(&self.blocks_per_group)
            && (1..=bits).contains(&self.inodes_per_group)
    }

    fn kind(&self) -> &'static str {
        let is_ext4 = self.ro_compat & !EXT2_RO != 0;
        if self.incompat & JOURNAL_DEV != 0 {
            "jbd"
        } else if self.flags & TEST_FILESYS != 0 {
            "ext4dev"
        } else if is_ext4 || self.incompat & !(FILETYPE | RECOVER | META_BG) != 0 {
            "ext4"
        } else if self.compat & HAS_JOURNAL != 0 {
            "ext3"
        } else if self.incompat & RECOVER != 0 {
            // A journal to be replayed and none that is there: ext4 takes what ext2 refuses.
            "ext4"
        } else {
            "ext2"
        }
    }

    /// ext4_load_journal: an inode of its own is its journal before any device.
    fn journal_elsewhere(&self) -> Option<Uuid> {
        let is_named = self.journal.0 != [0; 16] || self.journal_device != 0;
        let is_elsewhere = self.compat & HAS_JOURNAL != 0 && self.journal_inode == 0 && is_named;
        (is_elsewhere && self.incompat & JOURNAL_DEV == 0).then_some(self.journal)
    }

    /// What ext4_orphan_cleanup would find (fs/ext4/orphan.c): a list that begins in the superblock, or a file of them. That
    /// is not looked into, since it has a mark for as long as the file system is mounted for writing.
    fn has_orphans(&self) -> bool {
        let is_marked = self.ro_compat & ORPHAN_PRESENT != 0 || self.incompat & RECOVER != 0;
        self.last_orphan != 0 || self.compat & ORPHAN_FILE != 0 && is_marked
    }

    fn signature(&self, device: &dyn ReadAt, offset: u64) -> Signature {
        let kind = self.kind();
        let usage = if kind == "jbd" { Usage::Other } else { Usage::Filesystem };
        let mut found = Signature::new(kind, usage, offset + 0x38);
        if self.has_checksum() {
            found.health = Health::Sound;
        }
        found.set_label(&self.label);
        found.set_uuid(self.uuid);
        if self.compat & HAS_JOURNAL != 0 {
            found.set_other_uuid("EXT_JOURNAL", self.journal);
        }
        if let Some(journal) = self.journal_elsewhere() {
            let is_named = journal.0 != [0; 16];
            let uuid = if is_named { format!(", with UUID {journal}") } else { String::new() };
            found.note(format!("its journal is on another device{uuid}"));
            found.journal_on = Some(if is_named { journal.to_string() } else { String::new() });
        }
        // blkid says what can be mounted as ext2 too.
        if !matches!(kind, "ext2" | "jbd") && self.incompat & !(FILETYPE | META_BG) == 0 {
            found.tag("SEC_TYPE", "ext2");
        }
        found.set_version(format!("{}.{}", self.revision, self.minor_revision));
        if self.block_size != 0 {
            found.set_fs_block_size(self.block_size);
            found.set_block_size(self.block_size);
        }
        found.set_last_block(self.blocks);
        found.set_fs_size(u64::from(self.block_size) * u64::from(self.blocks_lo));
        if kind == "jbd" {
            found.set_other_uuid("LOGUUID", self.uuid);
            return found;
        }
        found.dirty = self.incompat & RECOVER != 0;
        found.orphans = self.has_orphans();
        found.set_length(self.blocks.saturating_mul(self.block_size.into()), device);
        if !self.last_mounted.is_empty() {
            found.note(format!("last mounted on {}", self.last_mounted));
        }
        if self.state & ERROR != 0 || self.errors != 0 {
            found.check_is_due("the kernel found errors in it", ": fsck is due");
        } else if self.state & VALID == 0 && !found.dirty {
            found.check_is_due("it was not unmounted cleanly", ": fsck is due");
        }
        if self.max_mounts != 0 && self.max_mounts != u16::MAX && self.mounts >= self.max_mounts {
            found.note(format!("mounted {} times since the last check", self.mounts));
        }
        found
    }

    /// With the damage of the first superblock, and the block of the copy that this is.
    fn damaged(&self, device: &dyn ReadAt, reason: &str, backup: Option<u64>) -> Signature {
        let mut found = self.signature(device, OFFSET);
        let text = match backup {
            Some(block) => format!(
                "primary superblock: {reason}; its copy at block {block} is sound (fsck -b {block} -B {})",
                self.block_size
            ),
            None => format!("primary superblock: {reason}; no sound copy where mkfs puts one"),
        };
        found.health = Health::Damaged(text);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn put(device: &mut [u8], offset: usize, bytes: &[u8]) {
        device[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    fn seal(device: &mut [u8], at: usize) {
        let sum = !crc32c::crc32c(&device[at..at + 0x3fc]);
        put(device, at + 0x3fc, &sum.to_le_bytes());
    }

    /// ext4 of 16 MiB in blocks of 1 KiB, with checksums and the copy of group 1.
    fn sample() -> Vec<u8> {
        let mut device = vec![0; 16 << 20];
        for (at, group) in [(1024, 0_u16), (8193 * 1024, 1)] {
            put(&mut device, at + 0x04, &16384_u32.to_le_bytes());
            put(&mut device, at + 0x20, &8192_u32.to_le_bytes());
            put(&mut device, at + 0x28, &2048_u32.to_le_bytes());
            put(&mut device, at + 0x36, &0xffff_u16.to_le_bytes());
            put(&mut device, at + 0x38, &MAGIC.to_le_bytes());
            put(&mut device, at + 0x3a, &VALID.to_le_bytes());
            put(&mut device, at + 0x4c, &1_u32.to_le_bytes());
            put(&mut device, at + 0x5a, &group.to_le_bytes());
            put(&mut device, at + 0x5c, &HAS_JOURNAL.to_le_bytes());
            put(&mut device, at + 0x60, &(FILETYPE | 0x40).to_le_bytes());
            put(&mut device, at + 0x64, &(EXT2_RO | METADATA_CSUM).to_le_bytes());
            put(&mut device, at + 0x68, &[0xab; 16]);
            put(&mut device, at + 0x78, b"root");
            put(&mut device, at + 0x88, b"/");
            seal(&mut device, at);
        }
        device
    }

    fn look(device: &dyn ReadAt) -> Vec<Signature> {
        [EXT4DEV, EXT4, EXT3, EXT2, JBD].iter().filter_map(|row| (row.probe)(device, None)).collect()
    }

    fn only(device: &dyn ReadAt) -> Signature {
        let mut found = look(device);
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    fn reason(signature: &Signature) -> &str {
        match &signature.health {
            Health::Damaged(reason) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_sound_superblock_says_what_blkid_says() {
        let found = only(&sample());
        assert_eq!((found.format.as_str(), &found.health, found.dirty), ("ext4", &Health::Sound, false));
        let tags: Vec<(&str, &str)> = found.tags.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let want = [
            ("LABEL", "root"),
            ("UUID", "abababab-abab-abab-abab-abababababab"),
            ("VERSION", "1.0"),
            ("FSBLOCKSIZE", "1024"),
            ("BLOCK_SIZE", "1024"),
            ("FSLASTBLOCK", "16384"),
            ("FSSIZE", "16777216"),
        ];
        assert_eq!(tags, want);
        assert_eq!(found.notes, ["last mounted on /"]);
    }

    #[test]
    fn features_decide_the_name() {
        let cases: [(&str, u32, u32, u32, u32); 6] = [
            ("ext2", 0, FILETYPE, EXT2_RO, 0),
            ("ext3", HAS_JOURNAL, FILETYPE | RECOVER, EXT2_RO, 0),
            ("ext4", HAS_JOURNAL, FILETYPE | 0x40, EXT2_RO, 0),
            ("ext4", 0, FILETYPE, EXT2_RO | 0x8, 0),
            ("ext4dev", HAS_JOURNAL, FILETYPE | 0x40, EXT2_RO, TEST_FILESYS),
            ("jbd", 0, JOURNAL_DEV, 0, 0),
        ];
        for (want, compat, incompat, ro_compat, flags) in cases {
            let mut device = sample();
            for (at, value) in [(0x5c, compat), (0x60, incompat), (0x64, ro_compat), (0x160, flags)] {
                put(&mut device, 1024 + at, &value.to_le_bytes());
            }
            let found = only(&device);
            assert_eq!((found.format.as_str(), found.health), (want, Health::Unchecked));
            assert_eq!(found.dirty, incompat & RECOVER != 0, "{want}");
        }
    }

    #[test]
    fn orphans_are_told_by_the_list_or_by_a_file_of_them_that_is_in_use() {
        // (s_last_orphan, compat, incompat, ro_compat, whether there are any)
        let cases = [
            (0, HAS_JOURNAL, FILETYPE, 0, false),
            (12, HAS_JOURNAL, FILETYPE, 0, true),
            (12, 0, FILETYPE, 0, true),
            (0, HAS_JOURNAL, FILETYPE | RECOVER, 0, false),
            (0, HAS_JOURNAL | ORPHAN_FILE, FILETYPE, 0, false),
            (0, HAS_JOURNAL | ORPHAN_FILE, FILETYPE, ORPHAN_PRESENT, true),
            (0, HAS_JOURNAL | ORPHAN_FILE, FILETYPE | RECOVER, 0, true),
            // The kernel looks at no file without the feature.
            (0, HAS_JOURNAL, FILETYPE, ORPHAN_PRESENT, false),
        ];
        for (last, compat, incompat, ro_compat, want) in cases {
            let mut device = sample();
            let fields = [(0xe8, last), (0x5c, compat), (0x60, incompat), (0x64, METADATA_CSUM | ro_compat)];
            for (at, value) in fields {
                put(&mut device, 1024 + at, &u32::to_le_bytes(value));
            }
            seal(&mut device, 1024);
            assert_eq!(only(&device).orphans, want, "{last} {compat:x} {incompat:x} {ro_compat:x}");
        }
    }

    #[test]
    fn a_journal_on_another_device_is_told_by_the_uuid_that_one_carries() {
        let uuid = "cdcdcdcd-cdcd-cdcd-cdcd-cdcdcdcdcdcd";
        // (compat, journal's UUID, its inode, its device, what is told)
        let cases = [
            (HAS_JOURNAL, 0xcd, 0_u32, 0x811_u32, Some(uuid)),
            (HAS_JOURNAL, 0xcd, 8, 0, None),
            (HAS_JOURNAL, 0, 0, 0x811, Some("")),
            (HAS_JOURNAL, 0, 8, 0, None),
            (0, 0xcd, 0, 0x811, None),
        ];
        for (compat, byte, inode, number, want) in cases {
            let mut device = sample();
            put(&mut device, 1024 + 0x5c, &u32::to_le_bytes(compat));
            put(&mut device, 1024 + 0xd0, &[byte; 16]);
            put(&mut device, 1024 + 0xe0, &inode.to_le_bytes());
            put(&mut device, 1024 + 0xe4, &number.to_le_bytes());
            seal(&mut device, 1024);
            assert_eq!(only(&device).journal_on.as_deref(), want, "{compat} {byte} {inode} {number}");
        }
        let mut journal = sample();
        put(&mut journal, 1024 + 0x60, &JOURNAL_DEV.to_le_bytes());
        put(&mut journal, 1024 + 0x68, &[0xcd; 16]);
        put(&mut journal, 1024 + 0xd0, &[0xcd; 16]);
        seal(&mut journal, 1024);
        let found = only(&journal);
        assert!(found.is_journal(uuid) && found.journal_on.is_none(), "{found:?}");
        assert!(!only(&sample()).is_journal("abababab-abab-abab-abab-abababababab"), "no journal");
    }

    #[test]
    fn a_torn_superblock_names_the_copy_to_use() {
        let mut device = sample();
        device[1024 + 0x80] = 1;
        let found = only(&device);
        assert!(reason(&found).starts_with("primary superblock: checksum "), "{found:?}");
        assert!(
            reason(&found).ends_with("its copy at block 8193 is sound (fsck -b 8193 -B 1024)"),
            "{found:?}"
        );
        assert_eq!(found.label.as_deref(), Some("root"));
        device[8193 * 1024 + 0x80] = 1;
        assert!(reason(&only(&device)).ends_with("no sound copy where mkfs puts one"));
    }

    #[test]
    fn a_wiped_superblock_is_found_by_its_copy() {
        let mut device = sample();
        device[..4096].fill(0);
        assert!(look(&device).is_empty());
        let found = salvage(&device).unwrap();
        assert_eq!(
            reason(&found),
            "primary superblock: no superblock at 1024; its copy at block 8193 is sound (fsck -b 8193 -B 1024)"
        );
        device[8193 * 1024 + 0x5a] = 3;
        seal(&mut device, 8193 * 1024);
        assert!(salvage(&device).is_none(), "a copy of another group");
    }

    #[test]
    fn two_bytes_of_magic_alone_are_nothing() {
        let mut device = vec![0x5a; 1 << 20];
        put(&mut device, 1024 + 0x38, &MAGIC.to_le_bytes());
        assert!(look(&device).is_empty());
    }

    #[test]
    fn a_device_that_was_cut_is_damage() {
        let mut device = sample();
        device.truncate(15 << 20);
        let found = only(&device);
        assert!(reason(&found).starts_with("it is 16777216 bytes long and its device 1048576 bytes shorter"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn no_mutated_superblock_panics(changes in proptest::collection::vec((1024usize..2048, any::<u8>()), 0..40)) {
            let mut device = sample();
            for (offset, byte) in changes {
                device[offset] = byte;
            }
            let _ = look(&device);
        }
    }
}
