//! The C library's allocator: mallopt(3); and memory that copies of this process share: mmap(2).

use std::io;
use std::sync::atomic::AtomicU32;

/// Words that this process and its copies from now on have together, until the last of them ends. At first 0.
pub fn shared() -> io::Result<&'static [AtomicU32; 8]> {
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    let length = size_of::<[AtomicU32; 8]>();
    // SAFETY: a new mapping, where the kernel likes.
    let place = unsafe { libc::mmap(std::ptr::null_mut(), length, access, kind, -1, 0) };
    if place == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a page of zeros, which are words, begins there; it is never unmapped, and written to by atomics alone.
    Ok(unsafe { &*place.cast() })
}

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

/// As [`keep`], for buffers that are each as large as this at most: none of them is a mapping of its own, which would be
/// made and faulted in anew each time.
pub fn keep_buffers(bytes: i32) {
    keep(bytes);
    // SAFETY: as above.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, bytes);
    }
}
