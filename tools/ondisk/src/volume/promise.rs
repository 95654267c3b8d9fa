//! Members of Promise's FastTrak: a signature some sectors before the disk's end, how many differs by the firmware
//! (util-linux: promise_raid.c; dmraid: pdc.h).

use crate::format::{Format, Magic, Signature, Usage};
use crate::read::ReadAt;

const SIGNATURE: &[u8] = b"Promise Technology, Inc.";
const BACK: [u64; 13] = [63, 255, 256, 16, 399, 591, 675, 735, 911, 974, 991, 951, 3087];

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
        is.then(|| Signature::new("promise_fasttrack_raid_member", Usage::Raid, at))
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
            device.truncate(at + 512);
            assert!(probe(&device, None).is_none(), "{back}");
        }
    }
}
