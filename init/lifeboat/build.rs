//! How the image's binary is linked.

use std::ffi::{CStr, c_char};

unsafe extern "C" {
    fn gnu_get_libc_version() -> *const c_char;
}

/// The first glibc whose static programs relocate themselves by DT_RELR.
const READS_IT: (u32, u32) = (2, 36);

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // SAFETY: gnu_get_libc_version(3) returns a string that is never freed. The C library of the host is the one that the
    // binary is linked with.
    let version = unsafe { CStr::from_ptr(gnu_get_libc_version()) }.to_string_lossy().into_owned();
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= READS_IT {
        // It is static and may lie anywhere, so it relocates itself at each start: 15,000 places, of which the list is
        // 5 KiB in this form and 360 KiB in the other. The linker has to know it too (lld, or binutils 2.38).
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
