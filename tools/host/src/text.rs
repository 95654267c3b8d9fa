//! Text from the kernel that may hold any bytes: names that a drive, a disk's metadata or a user gave.

use contract::text::RAW;

/// As `ondisk::bytes::utf8` has it, so that what the kernel says and what a probe reads compare equal and are printed
/// alike. A test of `tools` holds them together.
pub fn text(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        out.extend(chunk.invalid().iter().filter_map(|byte| char::from_u32(RAW + u32::from(*byte))));
    }
    out
}
