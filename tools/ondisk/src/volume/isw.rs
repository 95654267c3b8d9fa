//! Members of Intel's firmware RAID (IMSM; mdadm: super-intel.c): an anchor in the last but one sector of the disk, and
//! what does not fit in it in the sectors before. It tells of all volumes of the set, and knows its drives by their
//! serial numbers.

use super::Volume;
use super::firmware::{Firmware, FirmwareVolume, STRANGER, made_up};
use super::mdraid::{Level, Metadata, Reshape, Role, Superblock};
use crate::bytes::{le16, le32, utf8};
use crate::format::{Format, Health, Magic, Signature, Usage};
use crate::read::ReadAt;

const SIGNATURE: &[u8] = b"Intel Raid ISM Cfg Sig. ";
/// Largest of what is read to verify the checksum; mdadm makes a few sectors.
const SIZE_MAX: u32 = 64 << 10;
// struct imsm_super
const DISKS: usize = 0xd8;
/// sizeof(imsm_disk)
const DISK: usize = 48;
const FAILED: u32 = 4;
/// Of imsm_dev, before its first map.
const DEV: usize = 112;
/// Of imsm_map, before disk_ord_tbl.
const MAP: usize = 48;
const UNINITIALIZED: u8 = 1;
const ORD_REBUILD: u32 = 1 << 24;
const DIRTY: u8 = 1;
// migr_type
const INIT: u8 = 0;
const GENERAL: u8 = 3;
const STATE_CHANGE: u8 = 4;
// rwh_policy
const JOURNAL_DRIVE: [u8; 2] = [2, 4];

pub const FORMAT: Format =
    Format { name: "isw_raid_member", usage: Usage::Raid, magics: &[], min_size: 0x10000, probe };

fn probe(device: &dyn ReadAt, _magic: Option<&Magic>) -> Option<Signature> {
    [512, 4096].into_iter().find_map(|sector: u64| {
        let at = (device.size() / sector).checked_sub(2)? * sector;
        let anchor = device.bytes(at, sector as usize).ok()?;
        if !anchor.starts_with(SIGNATURE) {
            return None;
        }
        let sum = le32(&anchor, 32)?;
        let size = le32(&anchor, 36)?;
        let mut found = Signature::new("isw_raid_member", Usage::Raid, at);
        found.set_version(format!("{:>6}", utf8(anchor.get(SIGNATURE.len()..32)?)));
        let whole = whole(device, at, sector, &anchor, size);
        found.health = match whole.as_ref().and_then(|whole| sum_of(whole)) {
            Some(should) => Health::of_checksum(sum, should),
            None => Health::Damaged(format!("its {size} bytes cannot be read")),
        };
        found.volume = whole.and_then(|whole| volumes(&whole, at, sector)).map(Volume::Firmware);
        Some(found)
    })
}

/// What does not fit the anchor lies in the sectors before it.
fn whole(device: &dyn ReadAt, at: u64, sector: u64, anchor: &[u8], size: u32) -> Option<Vec<u8>> {
    if !(40..=SIZE_MAX).contains(&size) {
        return None;
    }
    let more = u64::from(size).div_ceil(sector) - 1;
    let rest = device.bytes(at.checked_sub(more * sector)?, (more * sector) as usize).ok()?;
    let mut whole = [anchor, &rest].concat();
    whole.truncate(size as usize);
    Some(whole)
}

/// All words but the sum itself.
fn sum_of(whole: &[u8]) -> Option<u32> {
    let words = whole.chunks_exact(4);
    let sum = words.fold(0_u32, |sum, word| sum.wrapping_add(le32(word, 0).unwrap_or_default()));
    Some(sum.wrapping_sub(le32(whole, 32)?))
}

/// Sectors are those of the drive.
fn volumes(mpb: &[u8], at: u64, sector: u64) -> Option<Firmware> {
    let family = le32(mpb, 40)?;
    let generation = le32(mpb, 44)?;
    let disks = usize::from(*mpb.get(56)?);
    let devices = *mpb.get(57)?;
    let family = Some(le32(mpb, 64)?).filter(|family| *family != 0).unwrap_or(family);
    let log = le32(mpb, 72)? as usize;
    let mut firmware = Firmware::default();
    let mut failed = Vec::new();
    for disk in 0..disks {
        let disk = mpb.get(DISKS + DISK * disk..)?;
        firmware.serials.push(utf8(disk.get(..16)?));
        failed.push(le32(disk, 24)? & FAILED != 0);
    }
    // bbm_log, the last part: its entries, of which each is a place that is bad on one drive.
    let bad = mpb.len().checked_sub(log).filter(|_| log >= 8).and_then(|log| le32(mpb, log + 4));
    let mut place = DISKS + DISK * disks;
    for number in 0..devices {
        let device = mpb.get(place..)?;
        let (volume, length) = volume(device, &failed, sector)?;
        place += length;
        let uuid = [SIGNATURE, &family.to_le_bytes(), &u32::from(number).to_le_bytes(), device.get(..16)?];
        let mut volume = FirmwareVolume { number: number.into(), ..volume };
        volume.superblock.array = made_up(&uuid);
        volume.superblock.offset = at;
        volume.superblock.events = generation.into();
        volume.superblock.bad_blocks = bad.is_some_and(|entries| entries > 0);
        if volume.superblock.bad_blocks {
            volume.odd.get_or_insert("blocks of its drives are known to be bad".to_string());
        }
        firmware.volumes.push(volume);
    }
    Some(firmware)
}

/// struct imsm_dev, and its length.
fn volume(device: &[u8], failed: &[bool], sector: u64) -> Option<(FirmwareVolume, usize)> {
    let name = utf8(device.get(..16)?);
    let size = join(le32(device, 16)?, le32(device, 20)?);
    let write_hole = *device.get(50)?;
    let migrating = *device.get(88)? != 0;
    let migration = *device.get(89)?;
    let dirty = *device.get(90)? & DIRTY != 0;
    let map = Map::read(device.get(DEV..)?)?;
    let (length, orders) = match migrating {
        true => {
            let before = Map::read(device.get(DEV + map.length()..)?)?;
            (DEV + map.length() + before.length(), before.orders)
        }
        false => (DEV + map.length(), map.orders.clone()),
    };
    let members = map.orders.len();
    let level = match map.level {
        1 if members > 2 => Level::Raid10,
        other => Level::of(other.into()),
    };
    let data_members = match level {
        Level::Raid1 | Level::Raid10 => members / 2,
        Level::Raid5 => members.saturating_sub(1),
        _ => members,
    };
    let copies = if matches!(level, Level::Raid1 | Level::Raid10) { 2 } else { 1 };
    let component = component(&map, copies, data_members as u64, size, sector).saturating_mul(sector);
    let mut roles = vec![Role::Spare; failed.len()];
    for (slot, order) in (0..).zip(&map.orders) {
        let drive = (order & 0xff_ffff) as usize;
        if let Some(role) = roles.get_mut(drive) {
            *role = if failed[drive] { Role::Faulty } else { Role::Active(slot) };
        }
    }
    let rebuilding = orders.iter().filter(|order| *order & ORD_REBUILD != 0).map(|order| order & 0xff_ffff);
    let growing = (migrating && matches!(migration, GENERAL | STATE_CHANGE)).then_some(Reshape {
        position: 0,
        delta_disks: 0,
        new_level: map.level.into(),
        new_layout: 0,
        new_chunk: 0,
    });
    // Its parity was never made.
    let unborn = map.state == UNINITIALIZED || migrating && migration == INIT;
    let superblock = Superblock {
        name,
        layout: if level == Level::Raid10 { 0x102 } else { 0 },
        chunk: if level == Level::Raid1 { 0 } else { u64::from(map.strip) * sector },
        raid_disks: u32::try_from(members).ok()?,
        component_size: component,
        data_offset: map.start.saturating_mul(sector),
        data_size: component,
        number: STRANGER,
        roles,
        clean: !dirty && !unborn,
        reshape: growing,
        ..Superblock::blank(Metadata::Imsm, level)
    };
    let odd = JOURNAL_DRIVE.contains(&write_hole).then(|| "it has a journal".to_string());
    let volume = FirmwareVolume {
        number: 0,
        size: Some(size.saturating_mul(sector)),
        rebuilding: rebuilding.collect(),
        odd,
        of_arrays: false,
        superblock,
    };
    Some((volume, length))
}

/// Sectors of each member (calc_component_size): of the stripes, unless these were not counted anew as it grew. A member's
/// part is rounded to a MiB.
fn component(map: &Map, copies: u64, data_members: u64, size: u64, sector: u64) -> u64 {
    const ROUNDED: u64 = 1 << 20;
    let each = map.stripes.saturating_mul(map.strip.into()).saturating_mul(copies);
    if data_members == 0 {
        return 0;
    }
    let odds = each.saturating_mul(data_members).abs_diff(size);
    if odds > ROUNDED / sector * data_members { size / data_members } else { each }
}

/// struct imsm_map
struct Map {
    /// Sectors.
    start: u64,
    stripes: u64,
    strip: u16,
    state: u8,
    level: u8,
    /// By slot, which drive, and flags.
    orders: Vec<u32>,
}

impl Map {
    fn read(map: &[u8]) -> Option<Map> {
        let members = usize::from(*map.get(16)?);
        Some(Map {
            start: join(le32(map, 0)?, le32(map, 20)?),
            stripes: join(le32(map, 8)?, le32(map, 28)?),
            strip: le16(map, 12)?,
            state: *map.get(14)?,
            level: *map.get(15)?,
            orders: (0..members).map(|slot| le32(map, MAP + 4 * slot)).collect::<Option<_>>()?,
        })
    }

    fn length(&self) -> usize {
        MAP + 4 * self.orders.len()
    }
}

fn join(low: u32, high: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_covers_the_sectors_before_the_anchor() {
        let mut device = vec![0; 1 << 20];
        let at = (1 << 20) - 1024;
        device[at..at + 30].copy_from_slice(b"Intel Raid ISM Cfg Sig. 1.3.00");
        device[at + 36..at + 40].copy_from_slice(&600_u32.to_le_bytes());
        device[at - 512] = 9;
        let words = device[at..at + 512].chunks(4).chain(device[at - 512..at - 424].chunks(4));
        let sum: u32 =
            words.map(|word| u32::from_le_bytes(word.try_into().unwrap())).fold(0, u32::wrapping_add);
        device[at + 32..at + 36].copy_from_slice(&sum.to_le_bytes());
        let found = probe(&device, None).unwrap();
        assert_eq!((&found.health, found.version.as_deref()), (&Health::Sound, Some("1.3.00")));
        device[at - 500] = 1;
        let Health::Damaged(reason) = probe(&device, None).unwrap().health else { panic!() };
        assert!(reason.starts_with("checksum "), "{reason}");
    }

    /// Three drives; a RAID5 that is rebuilt onto the second, and a mirror of more than two, at the end of 1 MiB.
    fn set() -> Vec<u8> {
        let mut mpb = vec![0; DISKS + 3 * DISK];
        mpb[..30].copy_from_slice(b"Intel Raid ISM Cfg Sig. 1.3.00");
        mpb[40..44].copy_from_slice(&7_u32.to_le_bytes());
        mpb[44..48].copy_from_slice(&99_u32.to_le_bytes());
        (mpb[56], mpb[57]) = (3, 2);
        for disk in 0..3 {
            let at = DISKS + DISK * disk;
            mpb[at..at + 4].copy_from_slice(b"SER0");
            mpb[at + 3] += disk as u8;
        }
        mpb[DISKS + 2 * DISK + 24] = FAILED as u8;
        let map = |level: u8, start: u32, orders: &[u32]| {
            let mut map = vec![0; MAP];
            map[..4].copy_from_slice(&start.to_le_bytes());
            map[8..12].copy_from_slice(&10_u32.to_le_bytes()); // stripes
            map[12] = 128; // blocks of a strip
            (map[15], map[16]) = (level, orders.len() as u8);
            map.extend(orders.iter().flat_map(|order| order.to_le_bytes()));
            map
        };
        let device = |name: &[u8], size: u32, maps: &[Vec<u8>]| {
            let mut device = vec![0; DEV];
            device[..name.len()].copy_from_slice(name);
            device[16..20].copy_from_slice(&size.to_le_bytes());
            device[88] = u8::from(maps.len() > 1);
            device[89] = 1; // a rebuild
            device.extend(maps.concat());
            device
        };
        let rebuilt = [map(5, 0, &[0, 1, 2]), map(5, 0, &[0, 1 | ORD_REBUILD, 2])];
        mpb.extend(device(b"parity", 2560, &rebuilt));
        mpb.extend(device(b"ten", 5120, &[map(1, 5000, &[2, 0, 1, 3])]));
        let size = mpb.len() as u32;
        mpb[36..40].copy_from_slice(&size.to_le_bytes());
        let sum = sum_of(&mpb).unwrap();
        mpb[32..36].copy_from_slice(&sum.to_le_bytes());
        let mut drive = vec![0; 1 << 20];
        mpb.resize(mpb.len().next_multiple_of(512), 0);
        let at = drive.len() - 1024;
        drive[at..at + 512].copy_from_slice(&mpb[..512]);
        let rest = &mpb[512..];
        drive[at - rest.len()..at].copy_from_slice(rest);
        drive
    }

    fn firmware(drive: Vec<u8>) -> Firmware {
        match probe(&drive, None).unwrap() {
            Signature { volume: Some(Volume::Firmware(firmware)), health: Health::Sound, .. } => firmware,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn volumes_are_arrays_as_the_kernel_counts_them() {
        let found = firmware(set());
        assert_eq!(found.serials, ["SER0", "SER1", "SER2"]);
        let [parity, ten] = &found.volumes[..] else { panic!("{found:?}") };
        let superblock = &parity.superblock;
        assert_eq!((superblock.level, superblock.layout, superblock.raid_disks), (Level::Raid5, 0, 3));
        assert_eq!((superblock.chunk, superblock.component_size), (64 << 10, 640 << 10));
        assert_eq!((superblock.events, superblock.name.as_str()), (99, "parity"));
        assert_eq!(superblock.roles, [Role::Active(0), Role::Active(1), Role::Faulty]);
        assert_eq!((&parity.rebuilding[..], parity.size), (&[1][..], Some(2560 * 512)));
        let superblock = &ten.superblock;
        assert_eq!((superblock.level, superblock.layout), (Level::Raid10, 0x102));
        assert_eq!((superblock.data_offset, superblock.component_size), (5000 * 512, 1280 << 10));
        assert_ne!(superblock.array, parity.superblock.array);
    }

    #[test]
    fn a_drive_is_known_by_its_serial_number_alone() {
        for (serial, role, rebuilt) in [
            (" SER0", Role::Active(0), None),
            ("SER1", Role::Active(1), Some(0)),
            ("SER2", Role::Faulty, None),
            ("SER3", Role::Spare, None),
            ("", Role::Spare, None),
        ] {
            let mut found = firmware(set());
            found.recognise(serial);
            let superblock = &found.volumes[0].superblock;
            assert_eq!((superblock.role, superblock.recovery_offset), (role, rebuilt), "{serial:?}");
            assert_eq!(superblock.number == STRANGER, role == Role::Spare, "{serial:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_set_panics(at in 0_usize..1500, byte: u8) {
            let mut drive = set();
            let place = drive.len() - 512 - at - 1;
            drive[place] = byte;
            let _ = probe(&drive, None).map(|found| found.volume);
            let mut mpb = set()[(1 << 20) - 1024..(1 << 20) - 512].to_vec();
            let place = at % mpb.len();
            mpb[place] = byte;
            let _ = volumes(&mpb, 0, 512);
        }
    }
}
