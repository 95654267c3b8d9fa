//! What a capture must not hold: keys, also those that a passphrase protects, since whoever has the capture can try
//! passphrases for ever. Each format blanks its own; over all of them go sectors that look like the header of
//! a format without a magic (TrueCrypt, VeraCrypt).

use crate::format::{DiskReport, Extent, Geometry};
use crate::probe::{Record, examine_sections};
use crate::read::{ReadAt, Section};
use crate::window::{Failing, Windows};
use crate::{fs, volume};
use serde::{Deserialize, Serialize};

/// What is done to a part of a device; where nothing was read, nothing is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    Zero { what: &'static str, extent: Extent },
    Put { what: &'static str, start: u64, bytes: Vec<u8> },
}

/// A part of a device that a capture holds otherwise than the device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Concealed {
    pub what: String,
    pub extent: Extent,
}

/// What each format with keys asks for, from what is at a device's or a partition's start.
const CONCEAL: &[fn(&dyn ReadAt) -> Vec<Edit>] =
    &[volume::luks::conceal, volume::bitlocker::conceal, volume::fvault::conceal, fs::bcachefs::conceal];

const SECTOR: u64 = 512;
/// Random bytes have 221 different values in a sector, give or take 5; structures have far fewer.
const RANDOM: usize = 195;
/// Sectors that are tried one by one.
const TRIES: usize = 64;

/// Takes the secrets out of what was read. The second value: another look at what is left gives the same report.
pub fn conceal(
    record: &mut Record,
    report: &DiskReport,
    geometry: Geometry,
    sections: &[Extent],
) -> (Vec<Concealed>, bool) {
    let mut concealed = Vec::new();
    let whole = Extent { start: 0, length: record.windows.size() };
    for part in [whole].iter().chain(sections) {
        let section = Section::new(&record.windows, part.start, part.length);
        let edits: Vec<Edit> = CONCEAL.iter().flat_map(|of| of(&section)).collect();
        for edit in edits {
            concealed.push(make(&mut record.windows, *part, edit));
        }
    }
    let same = |windows: &Windows| {
        let device = Failing { source: windows, failed: &record.failed };
        examine_sections(&device, geometry, sections) == *report
    };
    let mut is_same = same(&record.windows);
    let random = random(&record.windows);
    if is_same && !random.is_empty() {
        let mut without = record.windows.clone();
        random.iter().for_each(|extent| without.zero(*extent));
        let mut gone = random;
        if !same(&without) {
            // One of them is what was found.
            without = record.windows.clone();
            gone.truncate(TRIES);
            gone.retain(|extent| {
                let mut one = without.clone();
                one.zero(*extent);
                let harmless = same(&one);
                if harmless {
                    without = one;
                }
                harmless
            });
        }
        record.windows = without;
        let what = "random bytes, as the header of a TrueCrypt volume";
        concealed.extend(gone.into_iter().map(|extent| Concealed { what: what.to_string(), extent }));
        is_same = same(&record.windows);
    }
    (concealed, is_same && record.windows.beyond == 0)
}

/// Within the part of the device that the edit is for: lengths on a disk are hostile.
fn make(windows: &mut Windows, part: Extent, edit: Edit) -> Concealed {
    let moved = |extent: Extent| {
        let start = extent.start.min(part.length);
        let length = extent.length.min(part.length - start);
        Extent { start: part.start.saturating_add(start), length }
    };
    match edit {
        Edit::Zero { what, extent } => {
            let extent = moved(extent);
            windows.zero(extent);
            Concealed { what: what.to_string(), extent }
        }
        Edit::Put { what, start, bytes } => {
            let extent = moved(Extent { start, length: bytes.len() as u64 });
            windows.put(extent.start, &bytes[..extent.length as usize]); // its length at most
            Concealed { what: what.to_string(), extent }
        }
    }
}

/// Whole sectors that look as if they were encrypted.
fn random(windows: &Windows) -> Vec<Extent> {
    let mut found = Vec::new();
    for (start, piece) in windows.pieces() {
        let skip = (SECTOR - start % SECTOR) % SECTOR;
        let sectors = piece.get(skip as usize..).unwrap_or_default().chunks_exact(SECTOR as usize);
        for (number, sector) in sectors.enumerate() {
            let mut seen = [false; 256];
            sector.iter().for_each(|byte| seen[usize::from(*byte)] = true);
            if seen.iter().filter(|seen| **seen).count() >= RANDOM {
                found.push(Extent { start: start + skip + number as u64 * SECTOR, length: SECTOR });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::examine_recorded;
    use sha2::Digest;

    /// Bytes as a cipher makes them.
    fn noise(length: usize) -> Vec<u8> {
        let block = |number: usize| sha2::Sha256::digest(number.to_le_bytes()).to_vec();
        (0..length.div_ceil(32)).flat_map(block).take(length).collect()
    }

    fn captured(device: &dyn ReadAt) -> (Windows, Vec<Concealed>, bool) {
        let (report, mut record) = examine_recorded(device, Geometry::default(), &[], 1 << 20);
        let (concealed, same) = conceal(&mut record, &report, Geometry::default(), &[]);
        (record.windows, concealed, same)
    }

    #[test]
    fn an_encrypted_volume_without_a_magic_leaves_no_header() {
        let device = noise(8 << 20);
        let (windows, concealed, same) = captured(&device);
        assert!(same);
        assert_eq!(windows.bytes(0, 512).unwrap(), [0; 512]);
        assert!(concealed.iter().any(|gone| gone.extent == Extent { start: 0, length: 512 }));
    }

    #[test]
    fn encrypted_bytes_beside_a_file_system_go_and_it_stays() {
        let mut device = noise(8 << 20);
        device[1024..4096].fill(0);
        device[1024] = 1;
        device[1029] = 4;
        device[0xff6..0x1000].copy_from_slice(b"SWAPSPACE2");
        let (windows, _, same) = captured(&device);
        assert!(same);
        assert_eq!(windows.bytes(0, 512).unwrap(), [0; 512]);
        let report = crate::examine(&windows, Geometry::default());
        assert_eq!(report.signatures[0].format, "swap");
    }
}
