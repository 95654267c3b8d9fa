//! Members of firmware RAID by the SNIA's DDF: a header in the device's last sector, or 257 before the end, which leads
//! to two copies of all else. Drives and virtual disks are listed on every member; how a virtual disk is made of
//! drives stands on those alone (mdadm: super-ddf.c). One that is made of arrays, RAID10 of mirrors, has a record for each of
//! them, which stands on that one's drives.

use super::Volume;
use super::firmware::{Firmware, FirmwareVolume, made_up};
use super::mdraid::{Level, Metadata, Role, Superblock};
use crate::bytes::{be16, be32, be64, le32, le64, utf8};
use crate::checksum::crc32_le;
use crate::format::{Format, Health, Magic, Signature, Usage};
use crate::read::ReadAt;

const MAGIC: u32 = 0xde11_de11;
const SECTOR: u64 = 512;
const PHYSICAL: u32 = 0x2222_2222;
const DRIVE: u32 = 0x3333_3333;
const VIRTUAL: u32 = 0xdddd_dddd;
const CONFIGURATION: u32 = 0xeeee_eeee;
/// Most of one section that is read: 4,095 drives take half of this.
const SECTION_MAX: u64 = 1 << 20;
/// struct phys_disk_entry and struct virtual_entry, and what comes before their first.
const ENTRY: usize = 64;
/// Of an entry that is not in use.
const NO_DRIVE: u32 = u32::MAX;
// phys_disk_entry.state
const ONLINE: u16 = 1;
const FAILED: u16 = 2;
const REBUILDING: u16 = 4;
// virtual_entry
const MORPHING: u8 = 8;
const INCONSISTENT: u8 = 16;
const INITIALIZED: u8 = 2;
/// struct vd_config, before the drives' numbers.
const ELEMENTS: usize = 512;
// vd_config.prl and .rlq
const RAID1: u8 = 1;
const MIRRORED_TWICE: u8 = 1;
/// vd_config.srl: a stripe over arrays that are as large, and over arrays that may not be. mdadm takes these two.
const STRIPED: u8 = 0;
const SPANNED: u8 = 3;
/// LSI's firmware makes new GUIDs of volumes at every boot.
const FORGETFUL: &[u8] = b"LSI     ";

pub const FORMAT: Format =
    Format { name: "ddf_raid_member", usage: Usage::Raid, magics: &[], min_size: 0x30000, probe };

fn probe(device: &dyn ReadAt, _magic: Option<&Magic>) -> Option<Signature> {
    let sectors = device.size() / SECTOR;
    [1, 257].into_iter().find_map(|back| {
        let at = sectors.checked_sub(back)? * SECTOR;
        let header = device.bytes(at, SECTOR as usize).ok()?;
        let big = be32(&header, 0)? == MAGIC;
        if !big && le32(&header, 0)? != MAGIC {
            return None;
        }
        let primary = if big { be64(&header, 96)? } else { le64(&header, 96)? };
        if primary != 0 && device.bytes(primary.checked_mul(SECTOR)?, 4).ok()? != header[..4] {
            return None;
        }
        let mut found = Signature::new("ddf_raid_member", Usage::Raid, at);
        let guid = utf8(header.get(8..32)?);
        found.set_uuid_text(guid.trim_end_matches(crate::bytes::is_space).to_string());
        found.set_version(utf8(header.get(32..40)?));
        // The byte order of the standard; what else there was, mdadm does not read either.
        if big && primary != 0 {
            match Copy::active(device, &header).and_then(|copy| volumes(device, &copy, at)) {
                Some(firmware) => {
                    found.health = Health::Sound;
                    found.volume = Some(Volume::Firmware(firmware));
                }
                None => {
                    found.health = Health::Damaged("its lists of drives and volumes are torn".to_string())
                }
            }
        }
        Some(found)
    })
}

/// One of the two copies.
struct Copy {
    header: Vec<u8>,
    /// Bytes.
    start: u64,
    seq: u32,
}

impl Copy {
    /// The newer one; of two that are as new, the first (super-ddf.c: load_ddf_headers).
    fn active(device: &dyn ReadAt, anchor: &[u8]) -> Option<Copy> {
        let read = |lba: u64, kind: u8| {
            let start = lba.checked_mul(SECTOR)?;
            let header = device.bytes(start, SECTOR as usize).ok()?;
            let same = header.get(8..40)? == anchor.get(8..40)? && *header.get(112)? == kind;
            let (seq, open) = (be32(&header, 40)?, *header.get(48)? != 0);
            let sound = be32(&header, 0)? == MAGIC && checked(&header) && same;
            sound.then_some((open, Copy { header: header.to_vec(), start, seq }))
        };
        let primary = read(be64(anchor, 96)?, 1);
        let secondary = Some(be64(anchor, 104)?).filter(|lba| *lba != u64::MAX).and_then(|lba| read(lba, 2));
        match (primary, secondary) {
            // One that is open was being written.
            (Some((true, _)), Some((false, second))) => Some(second),
            (Some((first_open, first)), Some((second_open, second))) => {
                let newer = second.seq > first.seq && first_open == second_open;
                Some(if newer { second } else { first })
            }
            (Some((_, one)), None) | (None, Some((_, one))) => Some(one),
            (None, None) => None,
        }
    }

    /// By the place of its offset in the header; whole, checked unless it is a list of records.
    fn section(&self, device: &dyn ReadAt, field: usize) -> Option<Vec<u8>> {
        let start = u64::from(be32(&self.header, field)?).checked_mul(SECTOR)?;
        let length = u64::from(be32(&self.header, field + 4)?).checked_mul(SECTOR)?;
        if length == 0 || length > SECTION_MAX {
            return None;
        }
        device.bytes(self.start.checked_add(start)?, length as usize).ok().map(|bytes| bytes.to_vec())
    }

    fn list(&self, device: &dyn ReadAt, field: usize, magic: u32) -> Option<Vec<u8>> {
        self.section(device, field).filter(|list| be32(list, 0) == Some(magic) && checked(list))
    }
}

/// The sum is in the second word, and counted as all ones; of the CRC neither end is inverted.
fn checked(bytes: &[u8]) -> bool {
    let Some(sum) = be32(bytes, 4) else { return false };
    let mut counted = bytes.to_vec();
    counted[4..8].fill(0xff);
    crc32_le(0, &counted) == sum
}

fn volumes(device: &dyn ReadAt, copy: &Copy, at: u64) -> Option<Firmware> {
    let header = &copy.header;
    let record = usize::from(be16(header, 134)?).checked_mul(SECTOR as usize)?;
    let elements = usize::from(be16(header, 136)?);
    let controller = copy.section(device, 192)?;
    let physical = copy.list(device, 200, PHYSICAL)?;
    let virtual_disks = copy.list(device, 208, VIRTUAL)?;
    let configurations = copy.section(device, 216)?;
    let drive = copy.list(device, 224, DRIVE)?;
    let own = be32(&drive, 32)?;
    let mut drives: Vec<(u32, u16)> = physical
        .get(ENTRY..)?
        .chunks_exact(ENTRY)
        .map_while(|entry| Some((be32(entry, 24)?, be16(entry, 30)?)))
        .collect();
    let used = drives.iter().rposition(|(reference, _)| *reference != NO_DRIVE);
    drives.truncate(used.map_or(0, |last| last + 1));
    let number = drives.iter().position(|(reference, _)| *reference == own);
    let number = number.and_then(|number| u32::try_from(number).ok())?;
    let mut firmware = Firmware::default();
    // Records that are not in use hold all ones.
    for record in configurations.chunks_exact(record.max(SECTOR as usize)) {
        if be32(record, 0)? != CONFIGURATION {
            continue;
        }
        if !checked(record) {
            firmware.unread = true;
            continue;
        }
        let guid = record.get(8..32)?;
        let entries = virtual_disks.get(ENTRY..)?.chunks_exact(ENTRY);
        let Some((place, entry)) = entries.enumerate().find(|(_, entry)| entry.get(..24) == Some(guid))
        else {
            firmware.unread = true;
            continue;
        };
        let Some(mut volume) = volume(record, entry, &drives, elements) else {
            firmware.unread = true;
            continue;
        };
        let name = entry.get(48..64)?;
        let uuid = match controller.get(8..16)? == FORGETFUL {
            true => {
                let place = u16::try_from(place).ok()?.to_le_bytes();
                made_up(&[header.get(8..32)?, name, &place])
            }
            false => made_up(&[guid]),
        };
        volume.number = u32::try_from(place).ok()?;
        volume.superblock.array = uuid;
        volume.superblock.offset = at;
        volume.superblock.events = copy.seq.into();
        let own = volume.superblock.roles.get(number as usize);
        let offset = match own {
            Some(Role::Active(slot)) => {
                // In its own array.
                let members = u32::from(be16(record, 64)?).max(1);
                be64(record, ELEMENTS + 4 * elements + 8 * (*slot % members) as usize)?
            }
            _ => 0,
        };
        volume.superblock.data_offset = offset.saturating_mul(SECTOR);
        volume.belongs_to(number);
        firmware.volumes.push(volume);
    }
    Some(firmware)
}

/// struct vd_config, and what the list of virtual disks says of it.
fn volume(record: &[u8], entry: &[u8], drives: &[(u32, u16)], elements: usize) -> Option<FirmwareVolume> {
    let timestamp = be32(record, 32)?;
    let members = be16(record, 64)?;
    let chunk_shift = *record.get(66)?;
    let level = *record.get(67)?;
    let qualifier = *record.get(68)?;
    let arrays = *record.get(69)?;
    let place = *record.get(70)?;
    let over = *record.get(71)?;
    let blocks = be64(record, 72)?;
    let state = *entry.get(32)?;
    let initialized = *entry.get(33)? & 3 == INITIALIZED;
    if usize::from(members) > elements {
        return None;
    }
    // The kernel runs a stripe over mirrors as one array.
    let of_mirrors = arrays > 1
        && level == RAID1
        && matches!(over, STRIPED | SPANNED)
        && place < arrays
        && match qualifier {
            MIRRORED_TWICE => members == 3,
            _ => members == 2,
        };
    let (md_level, layout) = if of_mirrors {
        (Level::Raid10, 0x100 | u32::from(members))
    } else {
        kind(level, qualifier, members).unwrap_or((Level::Other(level.into()), 0))
    };
    let first = if of_mirrors { u32::from(place) * u32::from(members) } else { 0 };
    // Of an array that this record does not tell of, too, no drive counts that failed, whatever it says itself.
    let unnamed = |(_, state): &(u32, u16)| match of_mirrors && state & FAILED != 0 {
        true => Role::Faulty,
        false => Role::Spare,
    };
    let mut roles: Vec<Role> = drives.iter().map(unnamed).collect();
    let mut rebuilding = Vec::new();
    for slot in 0..members {
        let reference = be32(record, ELEMENTS + 4 * usize::from(slot))?;
        let Some(place) = drives.iter().position(|(other, _)| *other == reference) else { continue };
        let state = drives[place].1 & (ONLINE | FAILED | REBUILDING);
        let slot = first + u32::from(slot);
        roles[place] = if state & FAILED != 0 { Role::Faulty } else { Role::Active(slot) };
        if state != ONLINE {
            rebuilding.push(u32::try_from(place).ok()?);
        }
    }
    let size = blocks.saturating_mul(SECTOR);
    let superblock = Superblock {
        name: utf8(entry.get(48..64)?).trim_end_matches(crate::bytes::is_space).to_string(),
        layout,
        chunk: if md_level == Level::Raid1 { 0 } else { SECTOR << chunk_shift.min(24) },
        raid_disks: if of_mirrors { u32::from(members) * u32::from(arrays) } else { members.into() },
        component_size: size,
        data_size: size,
        roles,
        // Counted from 1980.
        updated: u64::from(timestamp) + 315_532_800,
        clean: state & INCONSISTENT == 0 && initialized,
        ..Superblock::blank(Metadata::Ddf, md_level)
    };
    let odd = if state & MORPHING != 0 {
        Some("it was being reshaped".to_string())
    } else if arrays > 1 && !of_mirrors {
        Some("it is made of arrays".to_string())
    } else {
        None
    };
    Some(FirmwareVolume { number: 0, size: None, rebuilding, odd, of_arrays: of_mirrors, superblock })
}

/// The kernel's level and layout (super-ddf.c: layout_ddf2md).
fn kind(level: u8, qualifier: u8, members: u16) -> Option<(Level, u32)> {
    Some(match (level, qualifier) {
        (0x00, 0) => (Level::Raid0, 0),
        (0x01, 0) if members == 2 => (Level::Raid1, 0),
        (0x01, 1) if members == 3 => (Level::Raid1, 0),
        (0x11, 0) => (Level::Raid10, 0x102),
        (0x11, 1) => (Level::Raid10, 0x201),
        (0x04, 1) => (Level::Raid4, 0),
        (0x05, 2) => (Level::Raid5, 0),
        (0x05, 0) => (Level::Raid5, 1),
        (0x05, 3) => (Level::Raid5, 2),
        // ALGORITHM_ROTATING_N_RESTART, _ZERO_RESTART, _N_CONTINUE
        (0x06, 2) => (Level::Raid6, 9),
        (0x06, 1) => (Level::Raid6, 8),
        (0x06, 3) => (Level::Raid6, 10),
        (0x1f, _) => (Level::Linear, 0),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::firmware::complete;

    #[test]
    fn a_header_at_the_end_points_to_the_primary() {
        let mut device = vec![0; 1 << 20];
        let at = (1 << 20) - 512;
        device[at..at + 4].copy_from_slice(&MAGIC.to_be_bytes());
        device[at + 8..at + 32].copy_from_slice(b"LSI     1234567890abcdef");
        device[at + 32..at + 40].copy_from_slice(b"01.02.00");
        device[at + 103] = 5;
        assert!(probe(&device, None).is_none(), "no primary header");
        device[5 * 512..5 * 512 + 4].copy_from_slice(&MAGIC.to_be_bytes());
        let found = probe(&device, None).unwrap();
        assert_eq!(
            (found.uuid.as_deref(), found.version.as_deref()),
            (Some("LSI     1234567890abcdef"), Some("01.02.00"))
        );
    }

    const GUID: &[u8] = b"a virtual disk's number!";

    /// A structure with its magic and its sum.
    fn summed(magic: u32, mut bytes: Vec<u8>) -> Vec<u8> {
        bytes[..4].copy_from_slice(&magic.to_be_bytes());
        bytes[4..8].fill(0xff);
        let sum = crc32_le(0, &bytes);
        bytes[4..8].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    fn put(bytes: &mut [u8], at: usize, number: u64, length: usize) {
        bytes[at..at + length].copy_from_slice(&number.to_be_bytes()[8 - length..]);
    }

    /// The second of three drives with a RAID5, whose third is being rebuilt; 1 MiB.
    fn drive() -> Vec<u8> {
        let mut anchor = vec![0xff; 512];
        anchor[8..32].copy_from_slice(b"Linux-MD of this machine");
        anchor[32..40].copy_from_slice(b"01.02.00");
        put(&mut anchor, 40, 6, 4); // seq
        anchor[48] = 0;
        put(&mut anchor, 96, 1000, 8);
        put(&mut anchor, 134, 2, 2); // sectors of a record
        put(&mut anchor, 136, 16, 2); // drives of one
        let mut at = 1;
        let sections =
            [(192, 1), (200, 2), (208, 2), (216, 4), (224, 1)].map(|(field, length): (usize, u64)| {
                put(&mut anchor, field, at, 4);
                put(&mut anchor, field + 4, length, 4);
                at += length;
                vec![0xff; (length * SECTOR) as usize]
            });
        let [mut controller, mut physical, mut virtual_disks, mut configurations, mut own] = sections;
        controller[8..16].copy_from_slice(b"Linux-MD");
        for (place, (reference, state)) in
            [(11, ONLINE), (12, ONLINE), (13, ONLINE | REBUILDING)].iter().enumerate()
        {
            put(&mut physical, ENTRY * (place + 1) + 24, *reference, 4);
            put(&mut physical, ENTRY * (place + 1) + 30, u64::from(*state), 2);
        }
        let entry = &mut virtual_disks[2 * ENTRY..3 * ENTRY];
        entry[..24].copy_from_slice(GUID);
        (entry[32], entry[33]) = (0, INITIALIZED);
        entry[48..64].copy_from_slice(b"parity          ");
        let record = &mut configurations[1024..];
        record[8..32].copy_from_slice(GUID);
        put(record, 64, 3, 2);
        record[66..70].copy_from_slice(&[7, 5, 3, 1]);
        put(record, 72, 800, 8);
        for (slot, reference) in [13, 12, 11].iter().enumerate() {
            put(record, ELEMENTS + 4 * slot, *reference, 4);
            put(record, ELEMENTS + 64 + 8 * slot, 10 + slot as u64, 8);
        }
        let record = summed(CONFIGURATION, record.to_vec());
        configurations[1024..].copy_from_slice(&record);
        put(&mut own, 32, 12, 4);
        let mut device = vec![0; 1 << 20];
        let end = device.len() - 512;
        anchor[112] = 0;
        device[end..].copy_from_slice(&summed(MAGIC, anchor.clone()));
        anchor[112] = 1;
        let lists = [
            summed(MAGIC, anchor),
            controller,
            summed(PHYSICAL, physical),
            summed(VIRTUAL, virtual_disks),
            configurations,
            summed(DRIVE, own),
        ];
        let lists = lists.concat();
        device[512_000..512_000 + lists.len()].copy_from_slice(&lists);
        device
    }

    #[test]
    fn a_virtual_disk_is_an_array_as_the_kernel_counts_it() {
        let found = probe(&drive(), None).unwrap();
        let Some(Volume::Firmware(firmware)) = found.volume else { panic!("{found:?}") };
        let [volume] = &firmware.volumes[..] else { panic!("{firmware:?}") };
        let superblock = &volume.superblock;
        assert_eq!((found.health, volume.number, volume.odd.as_ref()), (Health::Sound, 1, None));
        assert_eq!((superblock.level, superblock.layout, superblock.chunk), (Level::Raid5, 2, 64 << 10));
        assert_eq!((superblock.number, superblock.role), (1, Role::Active(1)));
        assert_eq!(superblock.roles, [Role::Active(2), Role::Active(1), Role::Active(0)]);
        assert_eq!((superblock.data_offset, superblock.data_size), (11 * 512, 800 * 512));
        assert_eq!((&volume.rebuilding[..], superblock.clean, superblock.events), (&[2][..], true, 6));
        assert_eq!(superblock.name, "parity");
    }

    /// The same drive, in the first of two mirrors that are striped.
    fn of_mirrors(qualifier: u8, members: u64, place: u8, over: u8) -> Vec<u8> {
        let mut device = drive();
        let at = 512_000 + 512 * 6 + 1024;
        let record = &mut device[at..at + 1024];
        put(record, 64, members, 2);
        record[66..72].copy_from_slice(&[7, RAID1, qualifier, 2, place, over]);
        let record = summed(CONFIGURATION, record.to_vec());
        device[at..at + 1024].copy_from_slice(&record);
        device
    }

    #[test]
    fn a_stripe_over_mirrors_is_one_array_of_which_a_drive_knows_its_own_mirror() {
        let volume = |device: &[u8]| {
            let Some(Volume::Firmware(mut firmware)) = probe(&device.to_vec(), None).unwrap().volume else {
                panic!()
            };
            firmware.volumes.remove(0)
        };
        for over in [STRIPED, SPANNED] {
            let mut first = volume(&of_mirrors(0, 2, 0, over));
            assert_eq!((first.of_arrays, first.odd.as_ref()), (true, None));
            assert_eq!((first.superblock.level, first.superblock.layout), (Level::Raid10, 0x102));
            assert_eq!((first.superblock.raid_disks, first.superblock.role), (4, Role::Active(1)));
            assert_eq!(first.superblock.data_offset, 11 * 512);
            assert_eq!(first.superblock.roles, [Role::Spare, Role::Active(1), Role::Active(0)]);
            let mut second = volume(&of_mirrors(0, 2, 1, over));
            assert_eq!(second.superblock.role, Role::Active(3));
            second.superblock.roles = vec![Role::Active(2), Role::Spare, Role::Spare];
            let (mut torn, mut knows) = (second.clone(), first.clone());
            torn.superblock.events -= 1;
            knows.superblock.roles[0] = Role::Faulty;
            complete(&mut [&mut knows, &mut torn]);
            assert_eq!(knows.superblock.roles[0], Role::Faulty, "the older says nothing against the newer");
            let mut newest = second.clone();
            newest.superblock.events += 1;
            newest.superblock.roles[0] = Role::Active(3);
            complete(&mut [&mut first.clone(), &mut newest, &mut torn]);
            let mut between = first.clone();
            complete(&mut [&mut between, &mut torn, &mut newest]);
            assert_eq!(between.superblock.roles[0], Role::Active(3), "of two that tell, the newer");
            complete(&mut [&mut first, &mut second]);
            assert_eq!(first.superblock.roles, [Role::Active(2), Role::Active(1), Role::Active(0)]);
            assert_eq!(second.superblock.roles, first.superblock.roles);
        }
        for (qualifier, members, place, over) in
            [(0, 3, 0, 0), (1, 2, 0, 0), (0, 2, 2, 0), (0, 2, 0, 1), (0, 2, 0, 2)]
        {
            let odd = volume(&of_mirrors(qualifier, members, place, over)).odd;
            assert_eq!(odd.as_deref(), Some("it is made of arrays"), "{qualifier} {members} {place} {over}");
        }
    }

    #[test]
    fn a_drive_without_a_record_has_no_part_in_a_volume_and_one_that_is_torn_may_have() {
        let records = 512_000 + 512 * 6;
        let read = |device: Vec<u8>| {
            let found = probe(&device, None).unwrap();
            let Some(Volume::Firmware(firmware)) = found.volume else { panic!("{found:?}") };
            (found.health, firmware.volumes.len(), firmware.unread)
        };
        assert_eq!(read(drive()), (Health::Sound, 1, false));
        let mut spare = drive();
        spare[records..records + 2048].fill(0xff);
        spare[records..records + 4].copy_from_slice(&[0x55; 4]); // DDF_SPARE_ASSIGN_MAGIC
        assert_eq!(read(spare), (Health::Sound, 0, false));
        let mut torn = drive();
        torn[records + 1024 + 700] ^= 1;
        assert_eq!(read(torn), (Health::Sound, 0, true));
    }

    #[test]
    fn torn_lists_are_told_and_make_no_array() {
        for at in [512_000 + 512 * 2 + 100, 512_000 + 512 * 4 + 100, 512_000 + 40] {
            let mut device = drive();
            device[at] ^= 1;
            let found = probe(&device, None).unwrap();
            assert!(matches!(found.health, Health::Damaged(_)) && found.volume.is_none(), "{at}: {found:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_set_panics(at in 0_usize..7000, byte: u8) {
            let mut device = drive();
            device[512_000 + at] = byte;
            let _ = probe(&device, None).map(|found| found.volume);
        }
    }
}
