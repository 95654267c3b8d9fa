//! Checksums as the formats use them: with their own seeds, and with the field that holds them left out.

/// crc32c over `bytes` with those of `skip` taken as zeros.
pub fn crc32c_without(bytes: &[u8], skip: std::ops::Range<usize>) -> u32 {
    let (start, end) = (skip.start.min(bytes.len()), skip.end.min(bytes.len()));
    let sum = crc32c::crc32c(&bytes[..start]);
    let sum = crc32c::crc32c_append(sum, &vec![0; end - start]);
    crc32c::crc32c_append(sum, &bytes[end..])
}

/// crc32 from a seed, with neither end inverted (the kernel's crc32_le).
pub fn crc32_le(seed: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(!seed);
    hasher.update(bytes);
    !hasher.finalize()
}

/// ECMA-182, both ends inverted, most significant bit first (bcache).
pub fn crc64_we(bytes: &[u8]) -> u64 {
    const POLYNOMIAL: u64 = 0x42f0_e1eb_a9ea_3693;
    let mut sum = u64::MAX;
    for byte in bytes {
        sum ^= u64::from(*byte) << 56;
        for _ in 0..8 {
            sum = if sum >> 63 != 0 { (sum << 1) ^ POLYNOMIAL } else { sum << 1 };
        }
    }
    !sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_values_of_the_catalogue() {
        assert_eq!(crc32c_without(b"123456789", 0..0), 0xe306_9283);
        assert_eq!(crc32c_without(b"12xx56789", 2..4), crc32c::crc32c(b"12\0\x0056789"));
        assert_eq!(crc32_le(u32::MAX, b"123456789"), !0xcbf4_3926);
        assert_eq!(crc64_we(b"123456789"), 0x62ec_59e3_f1a4_f00a);
    }
}
