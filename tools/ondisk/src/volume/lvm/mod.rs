//! Physical volumes of LVM2: a label in one of the first four sectors (LVM2: lib/format_text/layout.h), and up to two
//! areas of metadata, each a ring of texts whose header points at the one that counts. Also what LVM1 and
//! device-mapper snapshots leave.

use crate::bytes::{le16, le32, le64, utf8};
use crate::checksum::crc32_le;
use crate::format::{Extent, Format, Health, Magic, Signature, Usage};
use crate::read::ReadAt;
use crate::volume::Volume;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

pub mod group;
pub mod kept;
pub mod text;

pub use group::{Area, Group, Kind, Logical, Physical, Segment};

const LABEL: &[u8] = b"LABELONE";
const TYPE: &[u8] = b"LVM2 001";
const SECTOR: usize = 512;
/// INITIAL_CRC of lib/misc/crc.h.
const SEED: u32 = 0xf597_a6cf;
const UUID: usize = 32;
/// Data and metadata areas of one label, which has room for fewer.
const AREAS: usize = 16;

/// FMTT_MAGIC and FMTT_VERSION.
const AREA_MAGIC: &[u8] = b" LVM2 x[5A%r0N*>";
const AREA_VERSION: u32 = 1;
/// MDA_HEADER_SIZE: the ring begins behind it.
const AREA_HEADER: u64 = 512;
/// RAW_LOCN_IGNORED
const IGNORED: u32 = 1;
/// Longest text. A ring of LVM's own making has one MiB; what is longer has tens of thousands of LVs.
const TEXT_MAX: u64 = 8 << 20;

/// SNAP_MAGIC (drivers/md/dm-snap-persistent.c).
const STORE: &[u8] = b"SnAp";
/// Stores that are looked at, which is a read each; the kernel is slow long before so many snapshots.
const STORES: usize = 256;

/// PV_EXT_USED
const USED: u32 = 1;

pub const FORMAT: Format = Format {
    name: "LVM2_member",
    usage: Usage::Raid,
    magics: &[
        Magic { offset: 0x218, bytes: TYPE },
        Magic { offset: 0x018, bytes: TYPE },
        Magic { offset: 0x418, bytes: TYPE },
        Magic { offset: 0x618, bytes: TYPE },
    ],
    min_size: 4 * SECTOR as u64,
    probe,
};

pub const LVM1: Format = Format {
    name: "LVM1_member",
    usage: Usage::Raid,
    magics: &[Magic { offset: 0, bytes: b"HM" }],
    min_size: SECTOR as u64,
    probe: probe_1,
};

pub const SNAPSHOT: Format = Format {
    name: "DM_snapshot_cow",
    usage: Usage::Other,
    magics: &[Magic { offset: 0, bytes: STORE }],
    min_size: SECTOR as u64,
    probe: |_, _| Some(Signature::new("DM_snapshot_cow", Usage::Other, 0)),
};

/// A physical volume, and what it says of its group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhysicalVolume {
    pub uuid: String,
    /// Bytes, as the label says.
    pub size: u64,
    /// A group has it, says the label; older ones do not say.
    pub used: bool,
    pub areas: Vec<MetadataArea>,
    /// The newest description of its group that is sound. A PV without a metadata area has none, nor one that no
    /// group has.
    pub group: Option<Arc<Group>>,
    /// Of the stores of snapshots that begin on it, by that description: those that have their header. To one without the
    /// kernel writes it as it starts, through read-only flags too (persistent_read_metadata).
    #[serde(default)]
    pub stores: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetadataArea {
    pub extent: Extent,
    pub state: AreaState,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AreaState {
    Empty,
    /// LVM itself does not look into it.
    Ignored,
    /// Holds a description of this number.
    Sound(u64),
    Damaged(String),
}

fn probe(device: &dyn ReadAt, magic: Option<&Magic>) -> Option<Signature> {
    let magic = magic?;
    let sector = magic.offset / SECTOR as u64;
    let label = device.bytes(sector * SECTOR as u64, SECTOR).ok()?;
    let number = le64(&label, 8)?;
    let crc = le32(&label, 16)?;
    let header = usize::try_from(le32(&label, 20)?).ok()?;
    let uuid = label.get(32..32 + UUID)?;
    let size = le64(&label, 64)?;
    if label.get(..8)? != LABEL {
        return None;
    }
    let mut found = Signature::new("LVM2_member", Usage::Raid, magic.offset);
    let uuid = dashed(uuid);
    found.set_uuid_text(uuid.clone());
    found.set_version(utf8(magic.bytes));
    found.extent = Some(Extent { start: 0, length: size });
    let sum = crc32_le(SEED, label.get(20..)?);
    found.health = if number != sector {
        Health::Damaged(format!("the label in sector {sector} says that it lies in sector {number}"))
    } else if sum != crc {
        Health::Damaged(format!("the label's checksum {crc:08x} should be {sum:08x}"))
    } else {
        Health::Sound
    };
    // libblkid takes the header for granted behind the label; LVM writes it nowhere else.
    if found.health == Health::Sound && header == 32 {
        let volume = physical_volume(device, &label, uuid, size);
        judge(&mut found, &volume);
        found.volume = Some(Volume::Lvm(volume));
    }
    Some(found)
}

/// What is wrong with the metadata: damage where no area of this PV holds any that is sound.
fn judge(found: &mut Signature, volume: &PhysicalVolume) {
    let faults = volume.areas.iter().filter_map(|area| match &area.state {
        AreaState::Damaged(reason) => Some(format!("its metadata area at {}: {reason}", area.extent.start)),
        AreaState::Empty | AreaState::Ignored | AreaState::Sound(_) => None,
    });
    for fault in faults {
        if volume.group.is_some() {
            found.note(format!("{fault}; another area is sound"));
        } else {
            found.damage(fault);
        }
    }
}

/// What follows the label's header: areas for data, areas for metadata, and the extension, each list ended by zeros.
fn physical_volume(device: &dyn ReadAt, label: &[u8], uuid: String, size: u64) -> PhysicalVolume {
    let mut at = 72;
    let (_data, metadata) = (extents(label, &mut at), extents(label, &mut at));
    let used = le32(label, at).is_some_and(|version| version >= 1)
        && le32(label, at + 4).is_some_and(|flags| flags & USED != 0);
    let mut volume = PhysicalVolume { uuid, size, used, areas: Vec::new(), group: None, stores: Vec::new() };
    for extent in metadata {
        let state = match MetadataHeader::read(device, extent) {
            Ok(header) if header.ignored => AreaState::Ignored,
            Ok(header) => match header.committed {
                None => AreaState::Empty,
                Some(text) => match described(device, extent, text) {
                    Ok(group) => {
                        let seqno = group.seqno;
                        if volume.group.as_ref().is_none_or(|known| known.seqno < seqno) {
                            volume.group = Some(Arc::new(group));
                        }
                        AreaState::Sound(seqno)
                    }
                    Err(reason) => AreaState::Damaged(reason),
                },
            },
            Err(reason) => AreaState::Damaged(reason),
        };
        volume.areas.push(MetadataArea { extent, state });
    }
    if let Some(group) = &volume.group {
        volume.stores = stores(device, group, &volume.uuid);
    }
    volume
}

/// What cannot be read, or is not simply on this PV, is none that has its header.
fn stores(device: &dyn ReadAt, group: &Group, uuid: &str) -> Vec<String> {
    let has_header = |at: &u64| device.bytes(*at, SECTOR).is_ok_and(|sector| sector.starts_with(STORE));
    let stores = group.stores().take(STORES);
    let own = stores.filter(|store| group.begins(store, uuid).as_ref().is_some_and(has_header));
    own.map(|store| store.name.clone()).collect()
}

/// A list of `disk_locn`, up to the one that is zero.
fn extents(label: &[u8], at: &mut usize) -> Vec<Extent> {
    let mut found = Vec::new();
    while let (Some(start), Some(length)) = (le64(label, *at), le64(label, *at + 8)) {
        *at += 16;
        if start == 0 || found.len() == AREAS {
            break;
        }
        found.push(Extent { start, length });
    }
    found
}

/// `mda_header`
struct MetadataHeader {
    committed: Option<TextPlace>,
    ignored: bool,
}

/// `raw_locn`: in the ring, counted from the area's start.
struct TextPlace {
    offset: u64,
    size: u64,
    checksum: u32,
}

impl MetadataHeader {
    fn read(device: &dyn ReadAt, area: Extent) -> Result<MetadataHeader, String> {
        let unread = |error| format!("its header cannot be read: {error}");
        let bytes = device.bytes(area.start, AREA_HEADER as usize).map_err(unread)?;
        let fields = || {
            Some((
                le32(&bytes, 0)?,
                bytes.get(4..20)?,
                le32(&bytes, 20)?,
                le64(&bytes, 24)?,
                le64(&bytes, 32)?,
                // The second place is of a change that was not committed.
                TextPlace { offset: le64(&bytes, 40)?, size: le64(&bytes, 48)?, checksum: le32(&bytes, 56)? },
                le32(&bytes, 60)?,
            ))
        };
        let (checksum, magic, version, start, size, text, flags) = fields().ok_or("its header is short")?;
        if magic != AREA_MAGIC {
            return Err("its header is gone".to_string());
        }
        let sum = crc32_le(SEED, &bytes[4..]);
        if sum != checksum {
            return Err(format!("its header's checksum {checksum:08x} should be {sum:08x}"));
        }
        if version != AREA_VERSION || start != area.start || size != area.length {
            return Err("its header is of another place or version".to_string());
        }
        Ok(MetadataHeader { ignored: flags & IGNORED != 0, committed: (text.offset != 0).then_some(text) })
    }
}

/// The committed text, which may run over the ring's end to behind the header.
fn described(device: &dyn ReadAt, area: Extent, place: TextPlace) -> Result<Group, String> {
    let TextPlace { offset, size, checksum } = place;
    let ring = area.length.saturating_sub(AREA_HEADER);
    if offset < AREA_HEADER || offset >= area.length || size == 0 || size > ring {
        return Err(format!("its text of {size} bytes at {offset} does not lie in it"));
    }
    if size > TEXT_MAX {
        return Err(format!("its text is {size} bytes long, which is more than is read here"));
    }
    let unread = |error| format!("its text cannot be read: {error}");
    let first = size.min(area.length - offset);
    let at = |offset: u64| area.start.saturating_add(offset);
    // TEXT_MAX at most, both.
    let mut text = device.bytes(at(offset), first as usize).map_err(unread)?;
    text.extend(device.bytes(at(AREA_HEADER), (size - first) as usize).map_err(unread)?);
    let sum = crc32_le(SEED, &text);
    if sum != checksum {
        return Err(format!("its text's checksum {checksum:08x} should be {sum:08x}"));
    }
    let parsed = text::parse(&text).map_err(|fault| format!("its text: {fault}"))?;
    group::group(&parsed).map_err(|reason| format!("its text: {reason}"))
}

fn probe_1(device: &dyn ReadAt, _magic: Option<&Magic>) -> Option<Signature> {
    let header = device.bytes(0, SECTOR).ok()?;
    let version = le16(&header, 2)?;
    if !matches!(version, 1 | 2) {
        return None;
    }
    let mut found = Signature::new("LVM1_member", Usage::Raid, 0);
    found.set_uuid_text(dashed(header.get(44..44 + UUID)?));
    Some(found)
}

/// `XXXXXX-XXXX-XXXX-XXXX-XXXX-XXXX-XXXXXX`; none when it is all zeros.
fn dashed(uuid: &[u8]) -> String {
    if uuid.iter().all(|byte| *byte == 0) {
        return String::new();
    }
    let mut out = Vec::new();
    for (index, byte) in uuid.iter().enumerate() {
        if matches!(index, 6 | 10 | 14 | 18 | 22 | 26) {
            out.push(b'-');
        }
        out.push(*byte);
    }
    utf8(&out)
}

#[cfg(test)]
mod tests;
