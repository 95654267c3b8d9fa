//! md superblocks 0.90, 1.0, 1.1 and 1.2 (include/uapi/linux/raid/md_p.h, drivers/md/md.c). A torn
//! superblock is still read as far as it can be: which array it belonged to is what a person needs.

use super::Volume;
use crate::bytes::{be32, le16, le32, le64, text, uuid};
use crate::format::{Extent, Format, Health, Magic, Signature, Usage, Uuid};
use crate::read::ReadAt;
use serde::{Deserialize, Serialize};
use std::fmt;

/// `bitm` (drivers/md/md-bitmap.h)
const BITMAP_MAGIC: u32 = 0x6d74_6962;
/// 0xa92b4efc
const MAGIC: u32 = 0xa92b_4efc;
const SECTOR: u64 = 512;
/// MD_RESERVED_BYTES of version 0.90.
const RESERVED: u64 = 64 << 10;
/// MD_SB_BYTES
const OLD_BYTES: usize = 4096;
/// MD_SB_DISKS
const OLD_DISKS: usize = 27;
/// Of version 1: the kernel takes no more members than fit into a page (md.c: super_1_load).
const MAX_DEVICES: u32 = 1920;
/// sizeof(bitmap_super_t)
const BITMAP_HEADER: usize = 256;
/// More than mdadm ever makes room for; a larger one is taken for marked, unread.
const MAX_BITMAP: usize = 1 << 20;
/// `resync_offset` of an array in sync (MaxSector).
const IN_SYNC: u64 = u64::MAX;
const ROLE_SPARE: u16 = 0xffff;
const ROLE_FAULTY: u16 = 0xfffe;
const ROLE_JOURNAL: u16 = 0xfffd;

// feature_map
const BITMAP: u32 = 1;
const RECOVERY_OFFSET: u32 = 2;
const RESHAPE: u32 = 4;
const BAD_BLOCKS: u32 = 8;
const REPLACEMENT: u32 = 16;
const JOURNAL: u32 = 512;
const PPL: u32 = 1024 | 2048;

pub const FORMAT: Format =
    Format { name: "linux_raid_member", usage: Usage::Raid, magics: &[], min_size: 64 << 10, probe };

/// Where each version lies, in the order in which libblkid looks. 1.0 lies at the end, as 0.90 does,
/// so a device that was cut or has grown does not show it.
fn probe(device: &dyn ReadAt, _magic: Option<&Magic>) -> Option<Signature> {
    let size = device.size();
    let old = (size & !(RESERVED - 1)).checked_sub(RESERVED);
    if let Some(signature) = old.and_then(|offset| version_0(device, offset)) {
        return Some(signature);
    }
    let sectors = size / SECTOR;
    let end = sectors.checked_sub(16).map(|sector| (sector & !7) * SECTOR);
    [(Metadata::V1_0, end), (Metadata::V1_1, Some(0)), (Metadata::V1_2, Some(4096))]
        .into_iter()
        .find_map(|(metadata, offset)| version_1(device, metadata, offset?))
}

/// `struct mdp_superblock_s`: words in the byte order of the machine that made it, nearly always little.
fn version_0(device: &dyn ReadAt, offset: u64) -> Option<Signature> {
    let bytes = device.bytes(offset, OLD_BYTES).ok()?;
    let little = le32(&bytes, 0)? == MAGIC;
    if !little && be32(&bytes, 0)? != MAGIC {
        return None;
    }
    let word = |index: usize| if little { le32(&bytes, 4 * index) } else { be32(&bytes, 4 * index) };
    let major_version = word(1)?;
    let minor_version = word(2)?;
    let patch_version = word(3)?;
    let set_uuid0 = word(5)?;
    let created = word(6)?;
    let level = word(7)?.cast_signed();
    let size_kib = word(8)?;
    let raid_disks = word(10)?;
    let md_minor = word(11)?;
    let set_uuid = [word(13)?, word(14)?, word(15)?];
    let uuid_bytes: Vec<u8> = [bytes.get(20..24)?, bytes.get(52..64)?].concat();
    let updated = word(32)?;
    let state = word(33)?;
    let checksum = word(38)?;
    // Two words of one number, whose order follows the byte order.
    let pair =
        |low: usize| Some(if little { (word(low)?, word(low + 1)?) } else { (word(low + 1)?, word(low)?) });
    let (events_lo, events_hi) = pair(39)?;
    let layout = word(64)?;
    let chunk = word(65)?;
    let this_number = word(992)?;
    let this_slot = word(992 + 3)?;
    let this_state = word(992 + 4)?;

    if raid_disks as usize > OLD_DISKS || (minor_version != 90 && minor_version != 91) {
        return None;
    }
    let mut roles = Vec::new();
    for disk in 0..OLD_DISKS {
        let at = 128 + 32 * disk;
        let (slot, state) = (word(at + 3)?, word(at + 4)?);
        if word(at + 1)? == 0 && word(at + 2)? == 0 {
            continue;
        }
        roles.resize(disk, Role::Spare);
        roles.push(old_role(slot, state));
    }
    // md.c: calc_sb_csum sums all words with sb_csum as 0, folded.
    let mut sum: u64 = 0;
    for index in 0..OLD_BYTES / 4 {
        sum += u64::from(if index == 38 { 0 } else { word(index)? });
    }
    let folded = ((sum & 0xffff_ffff) + (sum >> 32)) as u32;
    let health = match folded == checksum {
        true => Health::Sound,
        false => Health::Damaged(format!("checksum {checksum:08x} should be {folded:08x}")),
    };
    let mut array = [0; 16];
    for (chunk, word) in array.chunks_exact_mut(4).zip([set_uuid0, set_uuid[0], set_uuid[1], set_uuid[2]]) {
        chunk.copy_from_slice(&word.to_be_bytes());
    }
    // The bitmap's superblock has the words as they lie here, and not as people know them (super_90_validate).
    let own_array = uuid(&uuid_bytes, 0)?;
    let clean = state & 1 != 0;
    let superblock = Superblock {
        metadata: Metadata::V0_90,
        offset,
        array: Uuid(array),
        member: None,
        name: String::new(),
        preferred_minor: Some(md_minor),
        level: Level::of(level),
        layout,
        chunk: chunk.into(),
        raid_disks,
        component_size: u64::from(size_kib) * 1024,
        data_offset: 0,
        data_size: offset,
        number: this_number,
        role: old_role(this_slot, this_state),
        roles,
        events: u64::from(events_hi) << 32 | u64::from(events_lo),
        created: created.into(),
        updated: updated.into(),
        clean,
        resync_offset: 0,
        recovery_offset: None,
        bitmap: state & (1 << 8) != 0,
        // 4 KiB behind the superblock's start, and there alone (super_90_validate).
        bitmap_log: (state & (1 << 8) != 0).then(|| bitmap(device, offset, OLD_BYTES as i64, own_array)),
        journal: false,
        ppl: false,
        reshape: (minor_version == 91).then_some(Reshape {
            position: 0,
            delta_disks: 0,
            new_level: level,
            new_layout: layout,
            new_chunk: chunk.into(),
        }),
        bad_blocks: false,
        feature_map: 0,
        newer: None,
    };
    Some(signature(superblock, format!("{major_version}.{minor_version}.{patch_version}"), None, health))
}

/// `bitmap_super_t` (drivers/md/md-bitmap.h), which the kernel takes for its own where magic and UUID fit.
fn bitmap(device: &dyn ReadAt, superblock: u64, offset: i64, array: Uuid) -> Bitmap {
    let read = || {
        let at = superblock.checked_add_signed(offset)?;
        let bytes = device.bytes(at, BITMAP_HEADER).ok()?;
        let events = le64(&bytes, 24)?;
        let sectors = le64(&bytes, 40)?;
        let chunk = u64::from(le32(&bytes, 52)?) / SECTOR; // sectors
        if le32(&bytes, 0)? != BITMAP_MAGIC || uuid(&bytes, 8)? != array || chunk == 0 {
            return None;
        }
        // What lies behind the last chunk's bit means nothing, and is not always 0.
        let bits = usize::try_from(sectors.div_ceil(chunk)).ok()?;
        let length = bits.div_ceil(8);
        let marked = match length <= MAX_BITMAP {
            true => device.bytes(at + BITMAP_HEADER as u64, length).map_or(true, |bytes| {
                (0..bits).any(|bit| bytes.get(bit / 8).is_some_and(|byte| byte >> (bit % 8) & 1 != 0))
            }),
            false => true,
        };
        Some((events, marked))
    };
    let seen = read();
    Bitmap { offset, events: seen.map(|(events, _)| events), marked: seen.is_none_or(|(_, marked)| marked) }
}

/// MD_DISK_FAULTY 0, MD_DISK_ACTIVE 1, MD_DISK_SYNC 2 (bits).
fn old_role(slot: u32, state: u32) -> Role {
    match (state & 1 != 0, state & 6 == 6) {
        (true, _) => Role::Faulty,
        (false, true) => Role::Active(slot),
        (false, false) => Role::Spare,
    }
}

/// `struct mdp_superblock_1`: little-endian, whoever made it.
fn version_1(device: &dyn ReadAt, metadata: Metadata, offset: u64) -> Option<Signature> {
    let fixed = device.bytes(offset, 256).ok()?;
    let magic = le32(&fixed, 0)?;
    let major = le32(&fixed, 4)?;
    let feature_map = le32(&fixed, 8)?;
    let pad0 = le32(&fixed, 12)?;
    let array = uuid(&fixed, 16)?;
    let name = text(&fixed, 32, 32).unwrap_or_default();
    let created = le64(&fixed, 64)? & 0xff_ffff_ffff; // seconds; the upper 24 bits are microseconds
    let level = le32(&fixed, 72)?.cast_signed();
    let layout = le32(&fixed, 76)?;
    let size = le64(&fixed, 80)?;
    let chunk = le32(&fixed, 88)?;
    let raid_disks = le32(&fixed, 92)?;
    let bitmap_offset = le32(&fixed, 96)?.cast_signed(); // sectors, from the superblock
    let new_level = le32(&fixed, 100)?.cast_signed();
    let reshape_position = le64(&fixed, 104)?;
    let delta_disks = le32(&fixed, 112)?.cast_signed();
    let new_layout = le32(&fixed, 116)?;
    let new_chunk = le32(&fixed, 120)?;
    let data_offset = le64(&fixed, 128)?;
    let data_size = le64(&fixed, 136)?;
    let super_offset = le64(&fixed, 144)?;
    let recovery_offset = le64(&fixed, 152)?;
    let number = le32(&fixed, 160)?;
    let member = uuid(&fixed, 168)?;
    let updated = le64(&fixed, 192)? & 0xff_ffff_ffff;
    let events = le64(&fixed, 200)?;
    let resync_offset = le64(&fixed, 208)?;
    let checksum = le32(&fixed, 216)?;
    let max_dev = le32(&fixed, 220)?;
    let logical_block = le32(&fixed, 224)?;
    let pad3 = fixed.get(228..256)?;

    // A superblock says where it lies: a copy inside a partition or an image is not this device's.
    if magic != MAGIC
        || major != 1
        || super_offset.checked_mul(SECTOR) != Some(offset)
        || max_dev > MAX_DEVICES
    {
        return None;
    }
    let whole = device.bytes(offset, 256 + 2 * max_dev as usize).ok()?; // MAX_DEVICES at most
    let mut sum: u64 = 0;
    for (index, bytes) in whole.chunks(4).enumerate() {
        sum += match bytes {
            _ if index == 54 => 0,
            [a, b, c, d] => u64::from(u32::from_le_bytes([*a, *b, *c, *d])),
            [a, b] => u64::from(u16::from_le_bytes([*a, *b])),
            _ => 0,
        };
    }
    let folded = ((sum & 0xffff_ffff) + (sum >> 32)) as u32;
    let health = match folded == checksum {
        true => Health::Sound,
        false => Health::Damaged(format!("checksum {checksum:08x} should be {folded:08x}")),
    };
    let roles: Vec<Role> =
        (0..max_dev as usize).filter_map(|index| le16(&whole, 256 + 2 * index)).map(Role::of).collect();
    let bytes_of = |sectors: u64| sectors.saturating_mul(SECTOR);
    let superblock = Superblock {
        metadata,
        offset,
        array,
        member: Some(member),
        name: name.clone(),
        preferred_minor: None,
        level: Level::of(level),
        layout,
        chunk: bytes_of(chunk.into()),
        raid_disks,
        component_size: bytes_of(size),
        data_offset: bytes_of(data_offset),
        data_size: bytes_of(data_size),
        number,
        role: roles.get(number as usize).copied().unwrap_or(Role::Spare),
        roles,
        events,
        created,
        updated,
        clean: resync_offset == IN_SYNC,
        resync_offset: if resync_offset == IN_SYNC { IN_SYNC } else { bytes_of(resync_offset) },
        recovery_offset: (feature_map & RECOVERY_OFFSET != 0).then(|| bytes_of(recovery_offset)),
        bitmap: feature_map & BITMAP != 0,
        bitmap_log: (feature_map & BITMAP != 0)
            .then(|| bitmap(device, offset, i64::from(bitmap_offset) * SECTOR as i64, array)),
        journal: feature_map & JOURNAL != 0,
        ppl: feature_map & PPL != 0,
        reshape: (feature_map & RESHAPE != 0).then(|| Reshape {
            position: bytes_of(reshape_position),
            delta_disks,
            new_level,
            new_layout,
            new_chunk: bytes_of(new_chunk.into()),
        }),
        bad_blocks: feature_map & BAD_BLOCKS != 0,
        feature_map,
        newer: Newer::of(logical_block, pad0 != 0 || pad3.iter().any(|byte| *byte != 0)),
    };
    let version = match metadata {
        Metadata::V0_90 => "0.90",
        Metadata::V1_0 => "1.0",
        Metadata::V1_1 => "1.1",
        Metadata::V1_2 | Metadata::Imsm | Metadata::Ddf => "1.2",
    };
    Some(signature(superblock, version.to_string(), (!name.is_empty()).then_some(name), health))
}

fn signature(superblock: Superblock, version: String, label: Option<String>, health: Health) -> Signature {
    let mut notes = Vec::new();
    if superblock.feature_map & REPLACEMENT != 0 {
        notes.push("is being rebuilt as a replacement for another member".to_string());
    }
    let mut found = Signature::new("linux_raid_member", Usage::Raid, superblock.offset);
    // Of version 0.90 libblkid sets the version first.
    if superblock.member.is_none() {
        found.set_version(version.clone());
    }
    found.set_uuid(superblock.array);
    if let Some(member) = superblock.member {
        found.set_member_uuid(member);
    }
    found.set_label_text(&label.unwrap_or_default());
    if superblock.member.is_some() {
        found.set_version(version);
    }
    found.extent = Some(Extent { start: superblock.data_offset, length: superblock.data_size });
    found.health = health;
    found.dirty = !superblock.clean;
    found.notes = notes;
    found.volume = Some(Volume::Md(superblock));
    found
}

impl Level {
    /// As both versions number them (md_p.h, md.h).
    pub fn of(number: i32) -> Level {
        match number {
            -1 => Level::Linear,
            0 => Level::Raid0,
            1 => Level::Raid1,
            4 => Level::Raid4,
            5 => Level::Raid5,
            6 => Level::Raid6,
            10 => Level::Raid10,
            -4 => Level::Multipath,
            -5 => Level::Faulty,
            -100 => Level::Container,
            other => Level::Other(other),
        }
    }
}

impl Role {
    fn of(number: u16) -> Role {
        match number {
            ROLE_SPARE => Role::Spare,
            ROLE_FAULTY => Role::Faulty,
            ROLE_JOURNAL => Role::Journal,
            slot => Role::Active(slot.into()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Metadata {
    V0_90,
    V1_0,
    V1_1,
    V1_2,
    /// Intel's firmware.
    Imsm,
    /// Firmware by the SNIA's standard.
    Ddf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    Linear,
    Raid0,
    Raid1,
    Raid4,
    Raid5,
    Raid6,
    Raid10,
    Multipath,
    Faulty,
    Container,
    Other(i32),
}

/// What this member is in its array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    Active(u32),
    Spare,
    Faulty,
    Journal,
}

/// One member's superblock. Sizes and offsets in bytes; generation numbers as on the disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Superblock {
    pub metadata: Metadata,
    /// Where it lies on the member.
    pub offset: u64,
    /// Of the set.
    pub array: Uuid,
    /// Of the member (version 1 only).
    pub member: Option<Uuid>,
    /// `host:name`, as the set was named (version 1 only). Hostile text.
    pub name: String,
    /// Preferred minor of version 0.90: /dev/mdN.
    pub preferred_minor: Option<u32>,
    pub level: Level,
    /// As the kernel numbers layouts of raid5, 6, 10 and 0.
    pub layout: u32,
    /// Bytes.
    pub chunk: u64,
    pub raid_disks: u32,
    /// Bytes used of each member.
    pub component_size: u64,
    /// Bytes from the member's start; 0 for 0.90 and 1.0.
    pub data_offset: u64,
    pub data_size: u64,
    /// `desc_nr` / `dev_number`: the slot in the member table.
    pub number: u32,
    pub role: Role,
    /// Roles by slot, as this member last saw the set.
    pub roles: Vec<Role>,
    pub events: u64,
    /// Seconds since 1970.
    pub created: u64,
    pub updated: u64,
    /// No resync pending (resync_offset at MaxSector, or the CLEAN state bit of 0.90).
    pub clean: bool,
    /// Bytes already in sync, when not clean.
    pub resync_offset: u64,
    /// Bytes rebuilt so far on this member, while it recovers.
    pub recovery_offset: Option<u64>,
    pub bitmap: bool,
    /// Where it is on this member, and how fresh.
    pub bitmap_log: Option<Bitmap>,
    pub journal: bool,
    pub ppl: bool,
    /// Mid-reshape: position in bytes and the new shape.
    pub reshape: Option<Reshape>,
    /// `bad block log present with N entries` and the like.
    pub bad_blocks: bool,
    pub feature_map: u32,
    /// Of a kernel that is later than ours, which does not take it.
    #[serde(default)]
    pub newer: Option<Newer>,
}

impl Superblock {
    /// One that says nothing yet.
    pub fn blank(metadata: Metadata, level: Level) -> Superblock {
        Superblock {
            metadata,
            offset: 0,
            array: Uuid([0; 16]),
            member: None,
            name: String::new(),
            preferred_minor: None,
            level,
            layout: 0,
            chunk: 0,
            raid_disks: 0,
            component_size: 0,
            data_offset: 0,
            data_size: 0,
            number: 0,
            role: Role::Spare,
            roles: Vec::new(),
            events: 0,
            created: 0,
            updated: 0,
            clean: false,
            resync_offset: 0,
            recovery_offset: None,
            bitmap: false,
            bitmap_log: None,
            journal: false,
            ppl: false,
            reshape: None,
            bad_blocks: false,
            feature_map: 0,
            newer: None,
        }
    }
}

/// What a later kernel wrote where those up to Linux 6.18 want padding of 0: these take the superblock for invalid
/// (drivers/md/md.c: super_1_load).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Newer {
    /// Bytes, as Linux 6.19 and later write it; 0: it does not say.
    pub logical_block: u32,
    /// Something else is there, too.
    pub unknown: bool,
}

impl Newer {
    fn of(logical_block: u32, unknown: bool) -> Option<Newer> {
        (logical_block != 0 || unknown).then_some(Newer { logical_block, unknown })
    }
}

/// Completes "it was ".
impl fmt::Display for Newer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Newer { logical_block, unknown: false } => {
                write!(f, "written by Linux 6.19 or later (logical block size {logical_block})")
            }
            Newer { unknown: true, .. } => {
                f.write_str("written by a later Linux, with fields that are not known here")
            }
        }
    }
}

/// The write-intent bitmap of one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bitmap {
    /// Bytes from the superblock.
    pub offset: i64,
    /// `None`: what lies there is no bitmap of this set.
    pub events: Option<u64>,
    /// Some chunks were being written, or a missing member lacks them.
    pub marked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reshape {
    pub position: u64,
    pub delta_disks: i32,
    pub new_level: i32,
    pub new_layout: u32,
    /// Bytes.
    pub new_chunk: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A member of a two-disk raid1 of version 1.2 on a device of 1 MiB.
    fn member() -> Vec<u8> {
        let mut device = vec![0; 1 << 20];
        let sb = &mut device[4096..4096 + 256 + 2 * 128];
        sb[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        sb[4] = 1;
        sb[8..12].copy_from_slice(&BITMAP.to_le_bytes());
        sb[16..32].fill(0xaa);
        sb[32..38].copy_from_slice(b"host:0");
        sb[72..76].copy_from_slice(&1_u32.to_le_bytes());
        sb[80..88].copy_from_slice(&1000_u64.to_le_bytes());
        sb[92..96].copy_from_slice(&2_u32.to_le_bytes());
        sb[128..136].copy_from_slice(&100_u64.to_le_bytes());
        sb[136..144].copy_from_slice(&1000_u64.to_le_bytes());
        sb[144..152].copy_from_slice(&8_u64.to_le_bytes());
        sb[160] = 1;
        sb[168..184].fill(0xbb);
        sb[200..208].copy_from_slice(&17_u64.to_le_bytes());
        sb[208..216].fill(0xff);
        sb[220..224].copy_from_slice(&128_u32.to_le_bytes());
        sb[256..].fill(0xff);
        sb[256..260].copy_from_slice(&[0, 0, 1, 0]);
        seal(&mut device);
        device
    }

    fn seal(device: &mut [u8]) {
        device[4096 + 216..4096 + 220].fill(0);
        let words = device[4096..4096 + 512]
            .chunks_exact(4)
            .map(|b| u64::from(u32::from_le_bytes(b.try_into().unwrap())));
        let sum: u64 = words.sum();
        let folded = ((sum & 0xffff_ffff) + (sum >> 32)) as u32;
        device[4096 + 216..4096 + 220].copy_from_slice(&folded.to_le_bytes());
    }

    fn look(device: &dyn ReadAt) -> Option<(Signature, Superblock)> {
        let signature = probe(device, None)?;
        let Some(Volume::Md(superblock)) = signature.volume.clone() else { panic!("no volume") };
        Some((signature, superblock))
    }

    #[test]
    fn a_member_says_what_it_is_in_which_array() {
        let (signature, superblock) = look(&member()).unwrap();
        assert_eq!(signature.health, Health::Sound);
        assert_eq!((signature.version.as_deref(), signature.label.as_deref()), (Some("1.2"), Some("host:0")));
        assert_eq!((superblock.level, superblock.raid_disks, superblock.events), (Level::Raid1, 2, 17));
        assert_eq!((superblock.number, superblock.role, superblock.clean), (1, Role::Active(1), true));
        assert_eq!((superblock.data_offset, superblock.component_size), (51200, 512_000));
        assert!(superblock.bitmap && superblock.reshape.is_none());
    }

    #[test]
    fn a_bitmap_is_read_where_the_superblock_says_and_only_if_it_is_of_this_set() {
        let mut device = member();
        device[4096 + 96] = 8;
        seal(&mut device);
        let log = |device: &Vec<u8>| look(device).unwrap().1.bitmap_log.unwrap();
        let is = |events, marked| Bitmap { offset: 4096, events, marked };
        assert_eq!(log(&device), is(None, true));
        device[8192..8196].copy_from_slice(b"bitm");
        device[8192 + 8..8192 + 24].fill(0xaa);
        device[8192 + 24] = 16;
        device[8192 + 40] = 30; // sectors
        device[8192 + 53] = 0x14; // chunks of 10 sectors: three bits
        device[8192 + 256] = 0b1111_1000;
        assert_eq!(log(&device), is(Some(16), false));
        device[8192 + 256] = 0b0000_0100;
        assert_eq!(log(&device), is(Some(16), true));
        device[8192 + 40..8192 + 48].fill(0xff);
        assert_eq!(log(&device), is(Some(16), true));
        device[8192 + 8] = 0;
        assert_eq!(log(&device), is(None, true));
    }

    #[test]
    fn what_a_later_kernel_writes_into_the_padding_is_seen_and_is_no_damage() {
        // logical_block_size of Linux 6.19, pad0, and both ends of what is left of pad3.
        let block = |logical_block| Some(Newer { logical_block, unknown: false });
        let unknown = |logical_block| Some(Newer { logical_block, unknown: true });
        type Case<'a> = (&'a [(usize, u8)], Option<Newer>);
        let cases: &[Case<'_>] = &[
            (&[], None),
            (&[(225, 2)], block(512)),
            (&[(225, 16)], block(4096)),
            (&[(12, 1)], unknown(0)),
            (&[(15, 1)], unknown(0)),
            (&[(228, 1)], unknown(0)),
            (&[(225, 2), (255, 1)], unknown(512)),
        ];
        for (bytes, want) in cases {
            let mut device = member();
            for (at, byte) in *bytes {
                device[4096 + at] = *byte;
            }
            seal(&mut device);
            let (signature, superblock) = look(&device).unwrap();
            assert_eq!((signature.health, superblock.newer), (Health::Sound, *want), "{bytes:?}");
        }
        assert_eq!(
            block(512).unwrap().to_string(),
            "written by Linux 6.19 or later (logical block size 512)"
        );
    }

    /// A member of a two-disk mirror of version 0.90 with an internal bitmap, in the byte order of the machine that made it.
    fn old_member(little: bool) -> Vec<u8> {
        let mut device = vec![0; 256 << 10];
        let at = device.len() - RESERVED as usize;
        let mut words = vec![0_u32; OLD_BYTES / 4];
        words[..4].copy_from_slice(&[MAGIC, 0, 90, 3]);
        (words[5], words[7], words[8], words[10]) = (0x1122_3344, 1, 64, 2);
        words[13..16].copy_from_slice(&[0x5566_7788, 0x99aa_bbcc, 0xddee_ff00]);
        words[33] = 1 | 1 << 8;
        words[if little { 39 } else { 40 }] = 20;
        (words[992 + 1], words[992 + 3], words[992 + 4]) = (8, 1, 6);
        let sum: u64 = words.iter().map(|word| u64::from(*word)).sum();
        words[38] = ((sum & 0xffff_ffff) + (sum >> 32)) as u32;
        let order = |word: &u32| if little { word.to_le_bytes() } else { word.to_be_bytes() };
        let bytes: Vec<u8> = words.iter().flat_map(order).collect();
        device[at..at + OLD_BYTES].copy_from_slice(&bytes);
        // The bitmap is little-endian on any machine, but for the UUID, which is copied word by word.
        let bitmap = at + OLD_BYTES;
        device[bitmap..bitmap + 4].copy_from_slice(b"bitm");
        let uuid = [bytes[20..24].to_vec(), bytes[52..64].to_vec()].concat();
        device[bitmap + 8..bitmap + 24].copy_from_slice(&uuid);
        device[bitmap + 24] = 20; // events
        device[bitmap + 40] = 128; // sectors
        device[bitmap + 53] = 0x10; // chunk
        device
    }

    #[test]
    fn the_bitmap_of_an_old_superblock_is_known_by_its_words_as_they_lie_on_the_disk() {
        for little in [true, false] {
            let mut device = old_member(little);
            let (signature, superblock) = look(&device).unwrap();
            assert_eq!((signature.health, superblock.events), (Health::Sound, 20), "{little}");
            assert_eq!(superblock.array.to_string(), "11223344-5566-7788-99aa-bbccddeeff00", "{little}");
            let is = |events, marked| Some(Bitmap { offset: 4096, events, marked });
            assert_eq!(superblock.bitmap_log, is(Some(20), false), "{little}");
            // That of another array is none of this one's.
            let bitmap = device.len() - RESERVED as usize + OLD_BYTES;
            device[bitmap + 8] ^= 1;
            assert_eq!(look(&device).unwrap().1.bitmap_log, is(None, true), "{little}");
        }
    }

    #[test]
    fn one_changed_field_is_damage_with_its_reason() {
        let mut device = member();
        device[4096 + 200] = 18;
        let (signature, superblock) = look(&device).unwrap();
        assert!(matches!(signature.health, Health::Damaged(reason) if reason.starts_with("checksum")));
        assert_eq!(superblock.events, 18);
    }

    #[test]
    fn a_superblock_that_lies_elsewhere_than_it_says_is_not_this_devices() {
        let mut device = member();
        device[4096 + 144] = 9;
        seal(&mut device);
        assert!(look(&device).is_none());
    }

    #[test]
    fn a_number_of_members_that_the_kernel_would_refuse_is_refused() {
        let mut device = member();
        device[4096 + 220..4096 + 224].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(look(&device).is_none());
    }

    #[test]
    fn pending_resync_recovery_and_reshape_are_read() {
        let mut device = member();
        device[4096 + 208..4096 + 216].copy_from_slice(&40_u64.to_le_bytes());
        device[4096 + 8..4096 + 12].copy_from_slice(&(RECOVERY_OFFSET | RESHAPE | JOURNAL).to_le_bytes());
        device[4096 + 152] = 7;
        seal(&mut device);
        let (signature, superblock) = look(&device).unwrap();
        assert!(signature.dirty && !superblock.clean && superblock.journal);
        assert_eq!((superblock.resync_offset, superblock.recovery_offset), (20480, Some(3584)));
        assert!(superblock.reshape.is_some());
    }

    proptest! {
        #[test]
        fn no_mutated_superblock_panics(changes in proptest::collection::vec((4096usize..4700, any::<u8>()), 0..40)) {
            let mut device = member();
            for (offset, byte) in changes {
                device[offset] = byte;
            }
            let _ = probe(&device, None);
        }
    }
}
