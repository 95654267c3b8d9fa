//! File systems and swap, one file each.

pub mod btrfs;
pub mod erofs;
pub mod ext;
pub mod f2fs;
pub mod squashfs;
pub mod swap;
pub mod xfs;
