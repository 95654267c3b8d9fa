//! Little- and big-endian fields of a byte slice, by offset. Past the slice's end is `None`, so a
//! parser reads all its fields in one block with `?` and never indexes.

macro_rules! getter {
    ($name:ident, $type:ty, $from:ident) => {
        pub fn $name(bytes: &[u8], offset: usize) -> Option<$type> {
            let end = offset.checked_add(size_of::<$type>())?;
            Some(<$type>::$from(bytes.get(offset..end)?.try_into().ok()?))
        }
    };
}

getter!(le16, u16, from_le_bytes);
getter!(le32, u32, from_le_bytes);
getter!(le64, u64, from_le_bytes);
getter!(be16, u16, from_be_bytes);
getter!(be32, u32, from_be_bytes);
getter!(be64, u64, from_be_bytes);

/// Sixteen bytes in the order in which they are printed.
pub fn uuid(bytes: &[u8], offset: usize) -> Option<crate::format::Uuid> {
    Some(crate::format::Uuid(bytes.get(offset..offset.checked_add(16)?)?.try_into().ok()?))
}

/// A GUID as EFI stores it: the first three fields little-endian.
pub fn guid(bytes: &[u8], offset: usize) -> Option<crate::format::Uuid> {
    let mut uuid = uuid(bytes, offset)?;
    uuid.0[0..4].reverse();
    uuid.0[4..6].reverse();
    uuid.0[6..8].reverse();
    Some(uuid)
}

/// Bytes that are no UTF-8 are kept as characters of this private range plus the byte, so that a label
/// can be text and still be printed back byte by byte.
const RAW: u32 = 0x10_ff00;

/// The byte that a character of [`utf8`] stands for, when it is not itself.
pub fn raw_byte(c: char) -> Option<u8> {
    u32::from(c).checked_sub(RAW).and_then(|byte| u8::try_from(byte).ok()).filter(|byte| *byte >= 0x80)
}

/// Text up to the first NUL, byte for byte: see [`raw_byte`].
pub fn utf8(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let mut out = String::new();
    for chunk in bytes[..end].utf8_chunks() {
        out.push_str(chunk.valid());
        out.extend(chunk.invalid().iter().filter_map(|byte| char::from_u32(RAW + u32::from(*byte))));
    }
    out
}

/// How 16-bit characters are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Utf16 {
    Little,
    Big,
}

/// 16-bit text up to the first NUL; half a surrogate pair is kept, as three bytes that are no UTF-8.
pub fn utf16(bytes: &[u8], order: Utf16) -> String {
    let units = bytes.chunks_exact(2).map(|pair| match order {
        Utf16::Little => u16::from_le_bytes([pair[0], pair[1]]),
        Utf16::Big => u16::from_be_bytes([pair[0], pair[1]]),
    });
    let mut out = Vec::new();
    for unit in char::decode_utf16(units.take_while(|unit| *unit != 0)) {
        match unit {
            Ok(c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            Err(half) => {
                let [high, low] = half.unpaired_surrogate().to_be_bytes();
                out.extend([0xe0 | (high >> 4), 0x80 | ((high & 15) << 2) | (low >> 6), 0x80 | (low & 63)]);
            }
        }
    }
    utf8(&out)
}

/// ISO 8859-1 up to the first NUL.
pub fn latin1(bytes: &[u8]) -> String {
    bytes.iter().take_while(|byte| **byte != 0).map(|byte| char::from(*byte)).collect()
}

/// isspace(3) of the C locale.
pub fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r')
}

/// Text up to the first NUL, as it is stored; `None` when there is none.
pub fn text(bytes: &[u8], offset: usize, length: usize) -> Option<String> {
    let field = utf8(bytes.get(offset..offset.checked_add(length)?)?);
    (!field.is_empty()).then_some(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn past_the_end_is_none_and_never_a_panic() {
        let bytes = [1, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!(le32(&bytes, 4), Some(0x0807_0605));
        assert_eq!(be64(&bytes, 0), Some(0x0102_0304_0506_0708));
        assert_eq!(le32(&bytes, 5), None);
        assert_eq!(le16(&bytes, usize::MAX), None);
        assert_eq!(text(&bytes, 6, 10), None);
    }

    #[test]
    fn text_is_kept_byte_for_byte() {
        let label = utf8(b"caf\x82 \xc3\xbc\0rest");
        assert_eq!(label.chars().filter_map(raw_byte).collect::<Vec<_>>(), [0x82]);
        assert!(label.ends_with(" \u{fc}"));
        assert_eq!(utf16(b"a\0\xfc\0\0\0b\0", Utf16::Little), "a\u{fc}");
        assert_eq!(utf16(b"\xd8\x3d\xde\x00", Utf16::Big), "\u{1f600}");
        let half: Vec<u8> = utf16(b"\xd8\x3d\0a", Utf16::Big).chars().filter_map(raw_byte).collect();
        assert_eq!(half, [0xed, 0xa0, 0xbd]);
        assert_eq!(latin1(b"\xfc\0"), "\u{fc}");
    }

    #[test]
    fn a_guid_prints_as_efi_tools_print_it() {
        // The EFI system partition's type.
        let bytes =
            [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b];
        assert_eq!(guid(&bytes, 0).unwrap().to_string(), "c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
    }
}
