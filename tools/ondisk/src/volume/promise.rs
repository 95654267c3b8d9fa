//! Members of Promise's FastTrak: a signature some sectors before the disk's end, how many differs by the firmware
//! (util-linux: promise_raid.c; dmraid: pdc.h).

use crate::format::{Format, Magic, Signature, Usage};
use crate::read::ReadAt;

const SIGNATURE: &[u8] = b"Promise Technology, Inc.";
const BACK: [u64; 13] = [63, 255, 256, 16, 399, 591, 675, 735, 911, 974, 991, 951, 3087];
/// A volume's metadata, and how far those of several lie apart.
const AREA: u64 = 2048;
const APART: u64 = 14 * 512;
const AREAS: u64 = 4;

pub const FORMAT: Format = Format {
    name: "promise_fasttrack_raid_member",
    usage: Usage::Raid,
    magics: &[],
    min_size: 0x40000,
    probe,
};

fn probe(device: &dyn ReadAt, _magic: Option<&Magic>) -> Option<Signature> {
    BACK.into_iter().find_map(|back| {
        let at = (device.size() / 512).checked_sub(back)? * 512;
        let is = device.bytes(at, SIGNATURE.len()).ok()? == SIGNATURE;
        is.then(|| {
            let mut found = Signature::new("promise_fasttrack_raid_member", Usage::Raid, at);
            for area in (0..AREAS).map(|number| at + number * APART) {
                // One is there when its signature is.
                if device.bytes(area, SIGNATURE.len()).is_ok_and(|bytes| bytes == SIGNATURE) {
                    found.owns(area, AREA, device);
                }
            }
            found
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_is_looked_at() {
        for back in BACK {
            let mut device = vec![0; 2 << 20];
            let at = (2 << 20) - 512 * back as usize;
            device[at..at + 24].copy_from_slice(SIGNATURE);
            assert_eq!(probe(&device, None).unwrap().magic_offset, at as u64);
            assert_eq!(probe(&device, None).unwrap().own.len(), 1);
            device.truncate(at + 512);
            assert!(probe(&device, None).is_none(), "{back}");
        }
    }
}
