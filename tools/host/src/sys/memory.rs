//! The C library's allocator: mallopt(3).

/// What is freed is kept for the next time, up to so many bytes, and memory is asked for in pieces of that size.
/// For a process that does the same again and again (a worker, device after device): giving memory back to the
/// kernel, and faulting in zeroed pages again, takes longer than parsing what is on a device.
pub fn keep(bytes: i32) {
    // SAFETY: mallopt changes parameters of the allocator and takes two numbers; one that it does not know, it
    // answers with 0 and changes nothing.
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, bytes);
        libc::mallopt(libc::M_TOP_PAD, bytes);
    }
}
