//! btrfs: the superblock at 64 KiB and its mirrors at 64 MiB and 256 GiB (kernel: fs/btrfs/fs.h, disk-io.c). A device is
//! a member: the file system's UUID is one thing, the device's another. Zoned devices are not looked at.

use crate::bytes::{le16, le32, le64, utf8, uuid};
use crate::format::{Format, Health, Magic, Signature, Usage, Uuid};
use crate::read::ReadAt;
use blake2::digest::consts::U32;
use sha2::Digest;

const MAGIC: &[u8] = b"_BHRfS_M";
const BYTES: usize = 4096;
const PRIMARY: u64 = 64 << 10;
const MIRRORS: [u64; 2] = [64 << 20, 256 << 30];
/// BTRFS_CSUM_SIZE
const CSUM: usize = 32;

pub const FORMAT: Format = Format {
    name: "btrfs",
    usage: Usage::Filesystem,
    magics: &[Magic { offset: PRIMARY + 0x40, bytes: MAGIC }],
    min_size: 1 << 20,
    probe,
};

fn probe(device: &dyn ReadAt, _magic: Option<&Magic>) -> Option<Signature> {
    let primary = Superblock::read(device, PRIMARY)?;
    let Some(reason) = primary.fault(PRIMARY) else { return Some(primary.signature(device)) };
    let mirror = mirror(device);
    let best = mirror.as_ref().map_or(&primary, |(_, mirror)| mirror);
    let mut found = best.signature(device);
    found.health = Health::Damaged(match &mirror {
        Some((offset, _)) => {
            format!(
                "primary superblock: {reason}; its mirror at {offset} is sound (btrfs rescue super-recover)"
            )
        }
        None => format!("primary superblock: {reason}; no sound mirror"),
    });
    Some(found)
}

pub fn salvage(device: &dyn ReadAt) -> Option<Signature> {
    let (offset, mirror) = mirror(device)?;
    let mut found = mirror.signature(device);
    found.health = Health::Damaged(format!(
        "primary superblock: gone; its mirror at {offset} is sound (btrfs rescue super-recover)"
    ));
    Some(found)
}

fn mirror(device: &dyn ReadAt) -> Option<(u64, Superblock)> {
    MIRRORS.into_iter().find_map(|offset| {
        let mirror = Superblock::read(device, offset)?;
        mirror.fault(offset).is_none().then_some((offset, mirror))
    })
}

struct Superblock {
    sum: [u8; CSUM],
    fsid: Uuid,
    offset: u64,
    log_root: u64,
    total: u64,
    devices: u64,
    sector: u32,
    csum_type: u16,
    devid: u64,
    device_total: u64,
    device_uuid: Uuid,
    label: String,
    computed: Option<[u8; CSUM]>,
}

impl Superblock {
    /// `struct btrfs_super_block`; the device's item begins at 201.
    fn read(device: &dyn ReadAt, at: u64) -> Option<Superblock> {
        let sb = device.bytes(at, BYTES).ok()?;
        if sb.get(0x40..0x48)? != MAGIC {
            return None;
        }
        let csum_type = le16(&sb, 196)?;
        Some(Superblock {
            sum: sb.get(..CSUM)?.try_into().ok()?,
            fsid: uuid(&sb, 32)?,
            offset: le64(&sb, 48)?,
            log_root: le64(&sb, 96)?,
            total: le64(&sb, 112)?,
            devices: le64(&sb, 136)?,
            sector: le32(&sb, 144)?,
            csum_type,
            devid: le64(&sb, 201)?,
            device_total: le64(&sb, 209)?,
            device_uuid: uuid(&sb, 267)?,
            label: utf8(sb.get(299..299 + 256)?),
            computed: sum(csum_type, sb.get(CSUM..)?),
        })
    }

    fn fault(&self, at: u64) -> Option<String> {
        if let Some(computed) = self.computed.filter(|computed| *computed != self.sum) {
            let hex = |sum: &[u8]| sum.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>();
            return Some(format!("checksum {} should be {}", hex(&self.sum), hex(&computed)));
        }
        if self.sector == 0 {
            return Some("sector size is 0".to_string());
        }
        (self.offset != at).then(|| format!("it says that it lies at {}", self.offset))
    }

    fn signature(&self, device: &dyn ReadAt) -> Signature {
        let mut found = Signature::new("btrfs", Usage::Filesystem, PRIMARY + 0x40);
        if self.computed.is_some() {
            found.health = Health::Sound;
        } else {
            found.note(format!("its checksums are of type {}, which is not known here", self.csum_type));
        }
        found.set_label_text(&self.label);
        found.set_uuid(self.fsid);
        found.set_member_uuid(self.device_uuid);
        if self.sector != 0 {
            found.set_fs_block_size(self.sector);
            found.set_block_size(self.sector);
            found.set_last_block(self.total >> self.sector.ilog2());
        }
        found.set_fs_size(self.total);
        found.set_length(self.device_total, device);
        found.dirty = self.log_root != 0;
        if self.devices > 1 {
            found.note(format!("device {} of a file system of {} devices", self.devid, self.devices));
        }
        found
    }
}

/// `None` for a type that is not known.
fn sum(kind: u16, bytes: &[u8]) -> Option<[u8; CSUM]> {
    let mut out = [0; CSUM];
    match kind {
        0 => out[..4].copy_from_slice(&crc32c::crc32c(bytes).to_le_bytes()),
        1 => out[..8].copy_from_slice(&twox_hash::XxHash64::oneshot(0, bytes).to_le_bytes()),
        2 => out.copy_from_slice(&sha2::Sha256::digest(bytes)),
        3 => out.copy_from_slice(&blake2::Blake2b::<U32>::digest(bytes)),
        _ => return None,
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn put(device: &mut [u8], offset: usize, bytes: &[u8]) {
        device[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    fn seal(device: &mut [u8], at: usize) {
        let kind = le16(device, at + 196).unwrap();
        if let Some(sum) = sum(kind, &device[at + CSUM..at + BYTES]) {
            put(device, at, &sum);
        }
    }

    /// One device of two, of 80 MiB, with the first mirror.
    fn sample(kind: u16) -> Vec<u8> {
        let mut device = vec![0; 80 << 20];
        for at in [PRIMARY as usize, MIRRORS[0] as usize] {
            put(&mut device, at + 32, &[0x11; 16]);
            put(&mut device, at + 48, &(at as u64).to_le_bytes());
            put(&mut device, at + 0x40, MAGIC);
            put(&mut device, at + 112, &(160_u64 << 20).to_le_bytes());
            put(&mut device, at + 136, &2_u64.to_le_bytes());
            put(&mut device, at + 144, &4096_u32.to_le_bytes());
            put(&mut device, at + 196, &kind.to_le_bytes());
            put(&mut device, at + 201, &1_u64.to_le_bytes());
            put(&mut device, at + 209, &(80_u64 << 20).to_le_bytes());
            put(&mut device, at + 267, &[0x22; 16]);
            put(&mut device, at + 299, b"pool");
            seal(&mut device, at);
        }
        device
    }

    fn reason(signature: &Signature) -> &str {
        match &signature.health {
            Health::Damaged(reason) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_type_of_checksum_is_verified() {
        for kind in 0..4 {
            let mut device = sample(kind);
            let found = probe(&device, None).unwrap();
            assert_eq!((&found.health, found.dirty), (&Health::Sound, false), "{kind}");
            assert_eq!(found.member_uuid.as_deref(), Some("22222222-2222-2222-2222-222222222222"));
            assert_eq!(found.notes, ["device 1 of a file system of 2 devices"]);
            assert!(found.tags.contains(&("FSLASTBLOCK".to_string(), "40960".to_string())));
            device[PRIMARY as usize + 300] = b'x';
            let found = probe(&device, None).unwrap();
            assert!(reason(&found).starts_with("primary superblock: checksum "), "{kind}: {found:?}");
            assert!(reason(&found).contains("its mirror at 67108864 is sound"), "{kind}: {found:?}");
            assert_eq!(found.label.as_deref(), Some("pool"));
        }
        assert_eq!(probe(&sample(9), None).unwrap().health, Health::Unchecked);
    }

    #[test]
    fn a_log_tree_has_to_be_replayed() {
        let mut device = sample(0);
        put(&mut device, PRIMARY as usize + 96, &4096_u64.to_le_bytes());
        seal(&mut device, PRIMARY as usize);
        assert!(probe(&device, None).unwrap().dirty);
    }

    #[test]
    fn a_superblock_of_another_place_is_damage() {
        let mut device = sample(0);
        put(&mut device, PRIMARY as usize + 48, &1_u64.to_le_bytes());
        seal(&mut device, PRIMARY as usize);
        assert!(reason(&probe(&device, None).unwrap()).contains("it says that it lies at 1"));
    }

    #[test]
    fn a_wiped_superblock_is_found_by_its_mirror() {
        let mut device = sample(0);
        device[..1 << 20].fill(0);
        assert!(reason(&salvage(&device).unwrap()).contains("gone; its mirror at 67108864"));
        device[MIRRORS[0] as usize + 300] = b'x';
        assert!(salvage(&device).is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn no_mutated_superblock_panics(changes in proptest::collection::vec((0usize..600, any::<u8>()), 0..40)) {
            let mut device = sample(0);
            for (offset, byte) in changes {
                device[PRIMARY as usize + offset] = byte;
            }
            seal(&mut device, PRIMARY as usize);
            let _ = probe(&device, None);
        }
    }
}
