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

/// Text up to the first NUL, lossily; `None` when there is none.
pub fn text(bytes: &[u8], offset: usize, length: usize) -> Option<String> {
    let field = bytes.get(offset..offset.checked_add(length)?)?;
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    (end > 0).then(|| String::from_utf8_lossy(&field[..end]).into_owned())
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
    fn a_guid_prints_as_efi_tools_print_it() {
        // The EFI system partition's type.
        let bytes =
            [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b];
        assert_eq!(guid(&bytes, 0).unwrap().to_string(), "c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
    }
}
