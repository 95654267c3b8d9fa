//! mount(2), umount2(2).
