//! File systems and swap, one file each.

pub mod apfs;
pub mod bcachefs;
pub mod btrfs;
pub mod erofs;
pub mod exfat;
pub mod ext;
pub mod f2fs;
pub mod hfs;
pub mod iso9660;
pub mod jfs;
pub mod nilfs2;
pub mod ntfs;
pub mod reiserfs;
pub mod squashfs;
pub mod swap;
pub mod udf;
pub mod vfat;
pub mod xfs;
pub mod zonefs;
