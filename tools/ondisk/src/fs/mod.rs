//! File systems and swap, one file each.

pub mod btrfs;
pub mod erofs;
pub mod exfat;
pub mod ext;
pub mod f2fs;
pub mod iso9660;
pub mod ntfs;
pub mod squashfs;
pub mod swap;
pub mod udf;
pub mod vfat;
pub mod xfs;
