//! FORMATS: every format that is looked for, one row each. The order is libblkid's: what stands
//! first is what a device most likely is when several match (RAID members before what they hold).

use crate::format::{Format, Signature};
use crate::read::ReadAt;
use crate::{fs, volume};

pub const FORMATS: &[&Format] = &[
    // RAID members
    &volume::mdraid::FORMAT,
    &volume::ddf::FORMAT,
    &volume::isw::FORMAT,
    &volume::lsi::FORMAT,
    &volume::via::FORMAT,
    &volume::silicon::FORMAT,
    &volume::nvidia::FORMAT,
    &volume::promise::FORMAT,
    &volume::highpoint::HPT45X,
    &volume::highpoint::HPT37X,
    &volume::adaptec::FORMAT,
    &volume::jmicron::FORMAT,
    // Volumes
    &volume::bcache::FORMAT,
    &fs::bcachefs::FORMAT,
    &volume::named::BLUESTORE,
    &volume::drbd::FORMAT,
    &volume::drbdmanage::CONTROL,
    &volume::drbdmanage::PROXY_LOG,
    &volume::lvm::FORMAT,
    &volume::lvm::LVM1,
    &volume::lvm::SNAPSHOT,
    &volume::dm::VERITY,
    &volume::dm::INTEGRITY,
    &volume::luks::FORMAT,
    &volume::vmfs::MEMBER,
    &volume::ubi::FORMAT,
    &volume::named::VDO,
    &volume::stratis::FORMAT,
    &volume::bitlocker::FORMAT,
    &volume::fvault::FORMAT,
    // File systems, and swap
    &fs::vfat::FORMAT,
    &fs::swap::SUSPENDED,
    &fs::swap::FORMAT,
    &fs::xfs::FORMAT,
    &fs::xfs::LOG,
    &fs::exfs::FORMAT,
    &fs::ext::EXT4DEV,
    &fs::ext::EXT4,
    &fs::ext::EXT3,
    &fs::ext::EXT2,
    &fs::ext::JBD,
    &fs::reiserfs::FORMAT,
    &fs::reiserfs::REISER4,
    &fs::jfs::FORMAT,
    &fs::udf::FORMAT,
    &fs::iso9660::FORMAT,
    &volume::zfs::FORMAT,
    &fs::hfs::PLUS,
    &fs::hfs::FORMAT,
    &fs::ufs::FORMAT,
    &fs::hpfs::FORMAT,
    &fs::sysv::FORMAT,
    &fs::sysv::XENIX,
    &fs::ntfs::FORMAT,
    &volume::named::REFS,
    &fs::cramfs::FORMAT,
    &fs::romfs::FORMAT,
    &fs::scoutfs::META,
    &fs::scoutfs::DATA,
    &fs::minix::FORMAT,
    &fs::gfs::FORMAT,
    &fs::gfs::GFS2,
    &fs::ocfs::FORMAT,
    &fs::ocfs::OCFS2,
    &volume::named::ORACLE_ASM,
    &fs::vxfs::FORMAT,
    &fs::squashfs::FORMAT,
    &fs::squashfs::OLD,
    &fs::netware::FORMAT,
    &fs::btrfs::FORMAT,
    &fs::ubifs::FORMAT,
    &fs::bfs::FORMAT,
    &volume::vmfs::FORMAT,
    &fs::befs::FORMAT,
    &fs::nilfs2::FORMAT,
    &fs::exfat::FORMAT,
    &fs::f2fs::FORMAT,
    &fs::mpool::FORMAT,
    &fs::apfs::FORMAT,
    &fs::zonefs::FORMAT,
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
    fs::jfs::salvage,
    fs::hfs::salvage,
    fs::apfs::salvage,
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_members_come_before_what_they_hold() {
        let names: BTreeSet<&str> = FORMATS.iter().map(|format| format.name).collect();
        assert_eq!(names.len(), FORMATS.len());
        let place = |name: &str| FORMATS.iter().position(|format| format.name == name).unwrap();
        for outer in ["linux_raid_member", "LVM2_member", "crypto_LUKS"] {
            assert!(place(outer) < place("vfat"), "{outer}");
        }
    }
}
