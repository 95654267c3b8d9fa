//! FORMATS: every format that is looked for, one row each. The order is libblkid's: what stands
//! first is what a device most likely is when several match (RAID members before what they hold).

use crate::format::{Format, Signature};
use crate::read::ReadAt;
use crate::{fs, volume};

pub const FORMATS: &[&Format] = &[
    // RAID members
    &volume::mdraid::FORMAT,
    // Volumes
    &volume::lvm::FORMAT,
    &volume::lvm::LVM1,
    &volume::lvm::SNAPSHOT,
    &volume::luks::FORMAT,
    &volume::bitlocker::FORMAT,
    // File systems, and swap
    &fs::vfat::FORMAT,
    &fs::swap::SUSPENDED,
    &fs::swap::FORMAT,
    &fs::xfs::FORMAT,
    &fs::xfs::LOG,
    &fs::ext::EXT4DEV,
    &fs::ext::EXT4,
    &fs::ext::EXT3,
    &fs::ext::EXT2,
    &fs::ext::JBD,
    &fs::udf::FORMAT,
    &fs::iso9660::FORMAT,
    &fs::ntfs::FORMAT,
    &fs::squashfs::FORMAT,
    &fs::squashfs::OLD,
    &fs::btrfs::FORMAT,
    &fs::exfat::FORMAT,
    &fs::f2fs::FORMAT,
    &fs::erofs::FORMAT,
];

/// What is looked for only where nothing else was found: copies of a superblock that is gone. They outlive what
/// is made over them, so beside anything else they are of a former life.
pub const SALVAGE: &[fn(&dyn ReadAt) -> Option<Signature>] = &[
    fs::ext::salvage,
    fs::xfs::salvage,
    fs::btrfs::salvage,
    fs::f2fs::salvage,
    fs::exfat::salvage,
    fs::ntfs::salvage,
    fs::vfat::salvage,
];
