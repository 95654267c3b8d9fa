//! UFS 1 and 2 of the BSDs and of SunOS (kernel: fs/ufs/ufs_fs.h), of either byte order, at one of four places.

use crate::bytes::{be32, le32};
use crate::format::{Format, Magic, Signature, Usage};
use crate::read::ReadAt;

/// UFS_SBLOCK of floppies, of UFS 1, of UFS 2, and of very large disks.
const PLACES: [u64; 4] = [0, 8 << 10, 64 << 10, 256 << 10];
/// Up to and with fs_magic, and one byte behind it.
const BYTES: usize = 1377;
const MAGIC: usize = 1372;
const UFS2: u32 = 0x1954_0119;
/// UFS_MAGIC, and _FEA, _LFN, _SEC and _4GB of SunOS.
const UFS1: [u32; 5] = [0x0001_1954, 0x0019_5612, 0x0009_5014, 0x0061_2195, 0x0523_1994];

pub const FORMAT: Format =
    Format { name: "ufs", usage: Usage::Filesystem, magics: &[], min_size: BYTES as u64, probe };

fn probe(device: &dyn ReadAt, _magic: Option<&Magic>) -> Option<Signature> {
    PLACES.into_iter().find_map(|at| superblock(&device.bytes(at, BYTES).ok()?, at))
}

fn superblock(sb: &[u8], at: u64) -> Option<Signature> {
    let is = |magic: u32| magic == UFS2 || UFS1.contains(&magic);
    let big = is(be32(sb, MAGIC)?);
    if !big && !is(le32(sb, MAGIC)?) {
        return None;
    }
    let field = |offset| if big { be32(sb, offset) } else { le32(sb, offset) };
    let fragment_size = field(52)?;
    let id = [field(144)?, field(148)?];
    let clean = *sb.get(209)?;
    let name = sb.get(680..712)?;
    let version_2 = field(MAGIC)? == UFS2;
    let mut found = Signature::new("ufs", Usage::Filesystem, at + MAGIC as u64);
    found.set_version(if version_2 { "2" } else { "1" });
    if version_2 {
        found.set_label(name);
        if clean == 0 {
            found.check_is_due("it was not unmounted cleanly", "");
        }
    }
    if id != [0, 0] {
        found.set_uuid_text(format!("{:08x}{:08x}", id[0], id[1]));
    }
    found.set_fs_block_size(fragment_size);
    found.set_block_size(fragment_size);
    found.tag("ENDIANNESS", if big { "BIG" } else { "LITTLE" });
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at: usize, magic: [u8; 4]) -> Vec<u8> {
        let mut device = vec![0; 1 << 20];
        let sb = &mut device[at..];
        sb[52..56].copy_from_slice(&[0, 16, 0, 0]);
        sb[144..152].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
        sb[209] = 1;
        sb[680..684].copy_from_slice(b"home");
        sb[MAGIC..MAGIC + 4].copy_from_slice(&magic);
        device
    }

    #[test]
    fn each_place_is_looked_at_and_only_version_2_has_a_name() {
        for at in PLACES {
            let found = probe(&sample(at as usize, UFS2.to_le_bytes()), None).unwrap();
            assert_eq!(
                (found.label.as_deref(), found.uuid.as_deref()),
                (Some("home"), Some("0403020108070605"))
            );
            assert_eq!((found.magic_offset, found.block_size), (at + 1372, Some(4096)));
            assert_eq!(found.notes, [""; 0]);
        }
        let found = probe(&sample(8192, UFS1[0].to_be_bytes()), None).unwrap();
        assert_eq!((found.label, found.version.as_deref()), (None, Some("1")));
        assert_eq!(
            (found.uuid.as_deref(), found.tags.last().unwrap().1.as_str()),
            (Some("0102030405060708"), "BIG")
        );
        assert!(probe(&sample(8192, [1, 2, 3, 4]), None).is_none());
    }

    #[test]
    fn one_that_was_not_unmounted_is_told() {
        let mut device = sample(65536, UFS2.to_le_bytes());
        device[65536 + 209] = 0;
        assert_eq!(probe(&device, None).unwrap().notes, ["it was not unmounted cleanly"]);
    }
}
