//! File systems and swap, one file each.
