//! Text from the kernel that may hold any bytes: names that a drive, a disk's metadata or a user gave.

/// As `ondisk::bytes::utf8` has it, so that what the kernel says and what a probe reads compare equal and are printed
/// alike: a byte that is no UTF-8 is this character plus the byte. A test of `tools` holds them together.
const RAW: u32 = 0x10_ff00;

pub fn text(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        out.extend(chunk.invalid().iter().filter_map(|byte| char::from_u32(RAW + u32::from(*byte))));
    }
    out
}
