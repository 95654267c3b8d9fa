//! Stratis pools' devices: a signature block and its copy (Stratis design document, section 3).

use crate::bytes::{le32, le64, utf8};
use crate::format::{Format, Health, Magic, Signature, Usage};
use crate::read::ReadAt;

const MAGIC: &[u8] = b"!Stra0tis\x86\xff\x02^\x41rh";
const SECTOR: usize = 512;
/// Both copies, with the sectors around them.
const HEADER: u64 = 16 * 512;
const COPIES: [u64; 2] = [512, 9 * 512];

pub const FORMAT: Format = Format {
    name: "stratis",
    usage: Usage::Raid,
    magics: &[Magic { offset: COPIES[0] + 4, bytes: MAGIC }, Magic { offset: COPIES[1] + 4, bytes: MAGIC }],
    min_size: 8192,
    probe,
};

fn probe(device: &dyn ReadAt, _magic: Option<&Magic>) -> Option<Signature> {
    let read = |at: u64| {
        let block = device.bytes(at, SECTOR).ok()?;
        let sound = crc32c::crc32c(block.get(4..)?) == le32(&block, 0)? && block.get(4..20)? == MAGIC;
        sound.then_some((at, block))
    };
    let (at, block) = COPIES.into_iter().find_map(read)?;
    let mut found = Signature::new("stratis", Usage::Raid, at + 4);
    found.owns(0, HEADER, device);
    found.health = match at == COPIES[0] {
        true => Health::Sound,
        false => Health::Damaged(format!("its first block is torn; the copy at {at} is sound")),
    };
    found.set_uuid_text(dashed(block.get(64..96)?));
    found.tag("POOL_UUID", dashed(block.get(32..64)?));
    found.tag("BLOCKDEV_SECTORS", le64(&block, 20)?.to_string());
    found.tag("BLOCKDEV_INITTIME", le64(&block, 120)?.to_string());
    Some(found)
}

/// Stored as text without dashes.
fn dashed(uuid: &[u8]) -> String {
    let parts = [&uuid[..8], &uuid[8..12], &uuid[12..16], &uuid[16..20], &uuid[20..]];
    parts.map(utf8).join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_is_used_where_the_first_is_torn() {
        let mut device = vec![0; 16384];
        for at in COPIES.map(|at| at as usize) {
            device[at + 4..at + 20].copy_from_slice(MAGIC);
            device[at + 20] = 32;
            device[at + 32..at + 64].copy_from_slice(b"0123456789abcdef0123456789abcdef");
            device[at + 64..at + 96].copy_from_slice(b"fedcba9876543210fedcba9876543210");
            let sum = crc32c::crc32c(&device[at + 4..at + 512]);
            device[at..at + 4].copy_from_slice(&sum.to_le_bytes());
        }
        let found = probe(&device, None).unwrap();
        assert_eq!(found.uuid.as_deref(), Some("fedcba98-7654-3210-fedc-ba9876543210"));
        assert_eq!(found.health, Health::Sound);
        device[600] = 1;
        assert!(matches!(probe(&device, None).unwrap().health, Health::Damaged(_)));
        device[4700] = 1;
        assert!(probe(&device, None).is_none());
    }
}
