//! FSTYPES: what each file system type takes: who mounts it, who checks it, and how one that was not
//! unmounted is read without writing to it.
//!
//! What writes although `ro` was asked for, and so is kept from devices under the guard:
//! ext3 and ext4 replay their journal (fs/ext4/super.c, ext4_load_journal); xfs replays its log, and
//! even of a clean log it clears the blocks behind the head when the device itself is not flagged
//! read-only (fs/xfs/xfs_log_recover.c, xlog_find_tail), as one that device-mapper made is not;
//! btrfs replays its tree log (fs/btrfs/disk-io.c, open_ctree); f2fs rolls forward
//! (fs/f2fs/super.c); bcachefs opens for writing what is not flagged, writes its superblock as it starts, and
//! replays its journal (fs/bcachefs/super-io.c, recovery.c), and `nochanges` keeps all of that in memory;
//! reiserfs replays its journal, writes the header of a clean one too, and has no option against either: of a
//! device that is flagged it leaves a clean one alone and does not mount one that waits, and `nolog` is read
//! nowhere (fs/reiserfs/journal.c, journal_read). ntfs3 leaves its log alone by itself (fs/ntfs3/fslog.c,
//! log_replay), and so does jfs, whose fsck replays it (fs/jfs/jfs_mount.c). The others write nothing.
//!
//! Of ext2, ext3, ext4 and f2fs that is half of it: files that were deleted, or cut short, while in use are cleared away at
//! the next mount, with `ro` and without the journal too. The driver takes its own read-only state off for that, and only
//! the flag of the device itself keeps it from it (fs/ext4/orphan.c, ext4_orphan_cleanup; fs/f2fs/checkpoint.c,
//! f2fs_recover_orphan_inodes, which comes before `norecovery` is asked for).

/// What a file system of this type is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Device,
    /// The source is a server's.
    Network,
    /// The source is a mere word.
    Nothing,
}

/// Who mounts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// mount(2) with this type.
    Kernel(&'static str),
    /// `/sbin/mount.TYPE`.
    Helper,
}

/// What a driver does with the journal of what it mounts `ro`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// There is none.
    Nothing,
    /// It leaves it alone.
    Never,
    /// It replays it unless it has this option.
    Unless(&'static str),
    /// It replays it whatever it is told, and writes to a clean one as well unless the device's own flag is set.
    Always,
}

impl Replay {
    /// What keeps the driver from it.
    pub fn option(self) -> Option<&'static str> {
        match self {
            Replay::Unless(option) => Some(option),
            Replay::Nothing | Replay::Never | Replay::Always => None,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct FsType {
    /// libblkid's TYPE, or the word after `-t`.
    pub name: &'static str,
    pub driver: Driver,
    pub origin: Origin,
    /// The kernel can write to it at all.
    pub writes: bool,
    pub replay: Replay,
    /// It clears orphans away whatever it is told, unless the device's own flag is set.
    pub orphans: bool,
    /// Its superblock may ask for a panic upon an error (`tune2fs -e panic`), of a reader too (fs/ext4/super.c,
    /// ext4_handle_error); this option makes it read-only instead.
    pub calm: Option<&'static str>,
    /// The program that checks it: a row of [`crate::foreign::FOREIGN`].
    pub checker: Option<&'static str>,
}

const fn disk(name: &'static str) -> FsType {
    FsType {
        name,
        driver: Driver::Kernel(name),
        origin: Origin::Device,
        writes: true,
        replay: Replay::Nothing,
        orphans: false,
        calm: None,
        checker: None,
    }
}

const fn read_only(name: &'static str) -> FsType {
    FsType { writes: false, ..disk(name) }
}

const fn network(name: &'static str) -> FsType {
    FsType { driver: Driver::Helper, origin: Origin::Network, ..disk(name) }
}

const fn virtual_(name: &'static str) -> FsType {
    FsType { origin: Origin::Nothing, ..disk(name) }
}

impl FsType {
    const fn driver(self, kernel: &'static str) -> FsType {
        FsType { driver: Driver::Kernel(kernel), ..self }
    }

    const fn helper(self) -> FsType {
        FsType { driver: Driver::Helper, ..self }
    }

    const fn unreplayed(self, option: &'static str) -> FsType {
        FsType { replay: Replay::Unless(option), ..self }
    }

    const fn replay(self, replay: Replay) -> FsType {
        FsType { replay, ..self }
    }

    const fn orphans(self) -> FsType {
        FsType { orphans: true, ..self }
    }

    const fn calm(self, option: &'static str) -> FsType {
        FsType { calm: Some(option), ..self }
    }

    const fn checker(self, program: &'static str) -> FsType {
        FsType { checker: Some(program), ..self }
    }
}

/// Sorted by name. A type that is not here is the kernel's own by its name, or its helper's, and has
/// no checker.
///
/// ntfs is the kernel's ntfs3: it needs no process that can be killed, and refuses to write to a volume
/// that Windows left dirty; one that is hibernated `mount::plan` refuses. `-t ntfs-3g` is the other one.
pub const FSTYPES: &[FsType] = &[
    virtual_("9p"),
    virtual_("autofs"),
    disk("bcachefs").unreplayed("nochanges"),
    virtual_("binfmt_misc"),
    virtual_("bpf"),
    disk("btrfs").unreplayed("rescue=nologreplay").checker("btrfs"),
    network("ceph"),
    virtual_("cgroup"),
    virtual_("cgroup2"),
    network("cifs"),
    virtual_("configfs"),
    read_only("cramfs"),
    virtual_("debugfs"),
    virtual_("devpts"),
    virtual_("devtmpfs"),
    virtual_("efivarfs"),
    read_only("erofs"),
    disk("exfat").checker("fsck.exfat"),
    disk("ext2").orphans().calm(REMOUNT_RO).checker("e2fsck"),
    disk("ext3").unreplayed("noload").orphans().calm(REMOUNT_RO).checker("e2fsck"),
    disk("ext4").unreplayed("noload").orphans().calm(REMOUNT_RO).checker("e2fsck"),
    disk("f2fs").unreplayed("norecovery").orphans().checker("fsck.f2fs"),
    virtual_("fuse"),
    virtual_("hugetlbfs"),
    read_only("iso9660"),
    disk("minix").checker("fsck.minix"),
    virtual_("mqueue"),
    disk("msdos").checker("fsck.fat"),
    network("nfs"),
    network("nfs4"),
    disk("nilfs2").unreplayed("norecovery"),
    disk("ntfs").driver("ntfs3").replay(Replay::Never).checker("ntfsfix"),
    disk("ntfs-3g").helper().checker("ntfsfix"),
    disk("ntfs3").replay(Replay::Never).checker("ntfsfix"),
    virtual_("overlay"),
    virtual_("proc"),
    virtual_("pstore"),
    virtual_("ramfs"),
    disk("reiserfs").replay(Replay::Always),
    virtual_("securityfs"),
    network("smb3"),
    read_only("squashfs"),
    virtual_("sysfs"),
    virtual_("tmpfs"),
    virtual_("tracefs"),
    disk("vfat").checker("fsck.fat"),
    virtual_("virtiofs"),
    disk("xfs").unreplayed("norecovery").checker("xfs_repair"),
];

const REMOUNT_RO: &str = "errors=remount-ro";

pub fn row(name: &str) -> Option<&'static FsType> {
    FSTYPES.iter().find(|row| row.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::foreign;

    #[test]
    fn types_are_sorted_and_each_is_there_once() {
        for pair in FSTYPES.windows(2) {
            assert!(pair[0].name < pair[1].name, "{} before {}", pair[0].name, pair[1].name);
        }
    }

    #[test]
    fn no_superblock_of_ext_brings_the_machine_down() {
        for row in FSTYPES {
            assert_eq!(row.calm.is_some(), row.checker == Some("e2fsck"), "{}", row.name);
        }
    }

    #[test]
    fn every_checker_is_in_the_table_of_foreign_programs() {
        for row in FSTYPES {
            if let Some(program) = row.checker {
                assert!(foreign::checker(program).is_some(), "{}: {program}", row.name);
            }
        }
    }

    #[test]
    fn what_has_a_journal_can_be_read_without_it() {
        for name in ["ext3", "ext4", "xfs", "btrfs", "f2fs", "bcachefs"] {
            assert!(row(name).unwrap().replay.option().is_some(), "{name}");
        }
        assert_eq!(row("vfat").unwrap().replay, Replay::Nothing);
        // Through an overlay alone.
        assert_eq!(row("reiserfs").unwrap().replay, Replay::Always);
    }
}
