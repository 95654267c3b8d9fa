//! What the formats of firmware RAID that mdadm runs (IMSM, DDF) have in common once they are read: volumes, which are arrays of
//! md but for who keeps their metadata. So each is a [`Superblock`], and is judged as one; the numbers of `roles` are
//! those by which the metadata counts drives.

use super::mdraid::{Role, Superblock};
use crate::checksum::sha1;
use crate::format::Uuid;
use serde::{Deserialize, Serialize};

/// `Superblock::number` of a drive that its metadata does not name.
pub const STRANGER: u32 = u32::MAX;

/// What one drive says of all volumes of its set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Firmware {
    /// Serial numbers of the drives, where these alone tell which is which. Hostile.
    pub serials: Vec<String>,
    pub volumes: Vec<FirmwareVolume>,
    /// It tells of volumes that could not be read, too.
    #[serde(default)]
    pub unread: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirmwareVolume {
    /// By which mdadm knows it in its container.
    pub number: u32,
    /// Bytes, where it is not what its members make.
    pub size: Option<u64>,
    /// Numbers of drives that hold a slot, and not its data.
    pub rebuilding: Vec<u32>,
    /// It is made of arrays, and a drive tells of the roles in its own array alone; see [`complete`].
    #[serde(default)]
    pub of_arrays: bool,
    /// What of it only mdadm can read.
    pub odd: Option<String>,
    pub superblock: Superblock,
}

impl Firmware {
    /// Tells which drive this is by the drive's own word.
    pub fn recognise(&mut self, serial: &str) {
        if self.serials.is_empty() {
            return;
        }
        let serial = imsm_serial(serial);
        let number = self.serials.iter().position(|known| !known.is_empty() && *known == serial);
        let number = number.and_then(|number| u32::try_from(number).ok()).unwrap_or(STRANGER);
        self.volumes.iter_mut().for_each(|volume| volume.belongs_to(number));
    }
}

impl FirmwareVolume {
    /// Whose word this is.
    pub fn belongs_to(&mut self, number: u32) {
        let superblock = &mut self.superblock;
        superblock.number = number;
        let known = usize::try_from(number).ok().and_then(|number| superblock.roles.get(number));
        superblock.role = known.copied().unwrap_or(Role::Spare);
        superblock.recovery_offset = self.rebuilding.contains(&number).then_some(0);
    }

    /// Of a volume that this drive has no part in, the metadata tells as well.
    pub fn is_here(&self) -> bool {
        let superblock = &self.superblock;
        superblock.number == STRANGER || matches!(superblock.role, Role::Active(_) | Role::Faulty)
    }
}

/// What the drives of a volume that is made of arrays say of their own arrays, brought together: where they do not agree, the
/// newer one counts, and none of them against what a drive says itself.
pub fn complete(volumes: &mut [&mut FirmwareVolume]) {
    let mut told: Vec<FirmwareVolume> =
        volumes.iter().filter(|volume| volume.of_arrays).map(|volume| (**volume).clone()).collect();
    told.sort_by_key(|volume| std::cmp::Reverse(volume.superblock.events));
    for volume in volumes.iter_mut().filter(|volume| volume.of_arrays) {
        let superblock = &mut volume.superblock;
        for other in told.iter().filter(|other| other.superblock.array == superblock.array) {
            for (known, told) in superblock.roles.iter_mut().zip(&other.superblock.roles) {
                if *known == Role::Spare {
                    *known = *told;
                }
            }
        }
    }
}

/// As the metadata has it: what can be printed, without blanks, and the last 16 of that (super-intel.c: imsm_read_serial).
fn imsm_serial(serial: &str) -> String {
    let plain = serial.bytes().filter(|byte| (0x21..0x80).contains(byte));
    let kept: Vec<u8> = plain.map(|byte| if byte == b':' { b';' } else { byte }).collect();
    String::from_utf8_lossy(&kept[kept.len().saturating_sub(16)..]).into_owned()
}

/// mdadm makes UUIDs for what has none: the first bytes of a hash of what does not change.
pub fn made_up(parts: &[&[u8]]) -> Uuid {
    let hash = sha1(&parts.concat());
    let mut uuid = [0; 16];
    // It prints them as numbers of this machine's byte order, which is little.
    for (to, from) in uuid.iter_mut().enumerate() {
        *from = hash[to / 4 * 4 + 3 - to % 4];
    }
    Uuid(uuid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_number_is_cut_as_the_metadata_has_it() {
        assert_eq!(imsm_serial("  WD-WCC1 23:4\u{7}56 "), "WD-WCC123;456");
        assert_eq!(imsm_serial("01234567890123456789"), "4567890123456789");
    }
}
