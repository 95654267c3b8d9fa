//! Swap areas, and the memory of a suspended system in one (kernel: include/linux/swap.h, kernel/power/swap.c). The
//! magic stands at the end of the first page, so it tells the page size too.

use crate::bytes::{be32, le32, uuid};
use crate::format::{Format, Magic, Signature, Usage};
use crate::read::ReadAt;

const HEADER: u64 = 1024;
/// Ten pages, the least that mkswap makes.
const MIN_SIZE: u64 = 10 * 4096;
const TUX_ON_ICE: &[u8] = b"\xed\xc3\x02\xe9\x98\x56\xe5\x0c";

/// The end of a page of 4, 8, 16, 32 or 64 KiB.
const ENDS: [u64; 5] = [0xff6, 0x1ff6, 0x3ff6, 0x7ff6, 0xfff6];

const fn magics<const N: usize>(words: &[&'static [u8]]) -> [Magic; N] {
    let mut out = [Magic { offset: 0, bytes: TUX_ON_ICE }; N];
    let mut i = 0;
    while i < ENDS.len() * words.len() {
        // TuxOnIce's stands first, where there is room for it.
        out[i + N - ENDS.len() * words.len()] =
            Magic { offset: ENDS[i / words.len()], bytes: words[i % words.len()] };
        i += 1;
    }
    out
}

pub const FORMAT: Format = Format {
    name: "swap",
    usage: Usage::Other,
    magics: &magics::<10>(&[b"SWAP-SPACE", b"SWAPSPACE2"]),
    min_size: MIN_SIZE,
    probe,
};

pub const SUSPENDED: Format = Format {
    name: "swsuspend",
    usage: Usage::Other,
    magics: &magics::<21>(&[b"S1SUSPEND", b"S2SUSPEND", b"ULSUSPEND", b"LINHIB0001"]),
    min_size: MIN_SIZE,
    probe: probe_suspended,
};

fn probe(device: &dyn ReadAt, magic: Option<&Magic>) -> Option<Signature> {
    let magic = magic?;
    if device.bytes(0, TUX_ON_ICE.len()).ok()? == TUX_ON_ICE {
        return None;
    }
    let mut found = Signature::new("swap", Usage::Other, magic.offset);
    if magic.bytes == b"SWAP-SPACE" {
        found.set_version("0");
        return Some(found);
    }
    let header = device.bytes(HEADER, 512).ok()?;
    let little = le32(&header, 0)? == 1;
    if !little && be32(&header, 0)? != 1 {
        return None;
    }
    let last_page = if little { le32(&header, 4)? } else { be32(&header, 4)? };
    if last_page == 0 {
        return None;
    }
    let page = u32::try_from(magic.offset).ok()? + 10;
    found.tag("ENDIANNESS", if little { "LITTLE" } else { "BIG" });
    found.set_fs_block_size(page);
    found.set_fs_size(u64::from(page) * u64::from(last_page));
    found.set_last_block(u64::from(last_page) + 1);
    name(&mut found, &header)?;
    found.set_version("1");
    found.set_length((u64::from(last_page) + 1) * u64::from(page), device);
    Some(found)
}

fn probe_suspended(device: &dyn ReadAt, magic: Option<&Magic>) -> Option<Signature> {
    let magic = magic?;
    let version = match magic.bytes {
        b"S1SUSPEND" => "s1suspend",
        b"S2SUSPEND" => "s2suspend",
        b"ULSUSPEND" => "ulsuspend",
        b"LINHIB0001" => "linhib0001",
        _ => "tuxonice",
    };
    let mut found = Signature::new("swsuspend", Usage::Other, magic.offset);
    name(&mut found, &device.bytes(HEADER, 512).ok()?)?;
    found.set_version(version);
    found.note(
        "it holds the memory of a suspended system, which would not survive a write to its file systems",
    );
    Some(found)
}

/// Label and UUID, where nothing lies that mkswap would have left zero.
fn name(found: &mut Signature, header: &[u8]) -> Option<()> {
    const PADDING: usize = 44;
    if le32(header, PADDING + 4 * 32)? == 0 && le32(header, PADDING + 4 * 33)? == 0 {
        found.set_label(header.get(28..44)?);
        found.set_uuid(uuid(header, 12)?);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Health;

    fn sample(page: usize, magic: &[u8]) -> Vec<u8> {
        let mut device = vec![0; 1 << 20];
        device[1024] = 1;
        device[1028..1032].copy_from_slice(&((1_u32 << 20) / page as u32 - 1).to_le_bytes());
        device[1036..1052].fill(0x33);
        device[1052..1056].copy_from_slice(b"swap");
        device[page - 10..page - 10 + magic.len()].copy_from_slice(magic);
        device
    }

    fn look(format: &Format, device: &dyn ReadAt) -> Option<Signature> {
        let has = |magic: &&Magic| device.bytes(magic.offset, magic.bytes.len()).unwrap() == magic.bytes;
        format.magics.iter().filter(has).find_map(|magic| (format.probe)(device, Some(magic)))
    }

    #[test]
    fn swap_of_any_page_size_is_read() {
        for page in [4096, 65536] {
            let found = look(&FORMAT, &sample(page, b"SWAPSPACE2")).unwrap();
            assert_eq!((found.label.as_deref(), found.version.as_deref()), (Some("swap"), Some("1")));
            assert_eq!(found.extent.unwrap().length, 1 << 20, "{page}");
            assert_eq!(found.tags[1], ("FSBLOCKSIZE".to_string(), page.to_string()));
        }
    }

    #[test]
    fn a_wrong_version_and_no_pages_are_no_swap() {
        let mut device = sample(4096, b"SWAPSPACE2");
        device[1024] = 2;
        assert!(look(&FORMAT, &device).is_none());
        let mut device = sample(4096, b"SWAPSPACE2");
        device[1028..1032].fill(0);
        assert!(look(&FORMAT, &device).is_none());
        assert_eq!(look(&FORMAT, &sample(4096, b"SWAP-SPACE")).unwrap().version.as_deref(), Some("0"));
    }

    #[test]
    fn swap_that_was_cut_is_damage() {
        let mut device = sample(4096, b"SWAPSPACE2");
        device.truncate(1 << 19);
        assert!(matches!(look(&FORMAT, &device).unwrap().health, Health::Damaged(_)));
    }

    #[test]
    fn a_suspended_system_is_told() {
        let cases: [(&[u8], &str); 4] = [
            (b"S1SUSPEND\0", "s1suspend"),
            (b"S2SUSPEND\0", "s2suspend"),
            (b"ULSUSPEND\0", "ulsuspend"),
            (b"LINHIB0001", "linhib0001"),
        ];
        for (magic, version) in cases {
            let device = sample(4096, magic);
            assert!(look(&FORMAT, &device).is_none());
            let found = look(&SUSPENDED, &device).unwrap();
            assert_eq!((found.version.as_deref(), found.notes.len()), (Some(version), 1));
        }
        let mut device = sample(4096, b"SWAPSPACE2");
        device[..8].copy_from_slice(TUX_ON_ICE);
        assert!(look(&FORMAT, &device).is_none());
        assert_eq!(look(&SUSPENDED, &device).unwrap().version.as_deref(), Some("tuxonice"));
    }
}
