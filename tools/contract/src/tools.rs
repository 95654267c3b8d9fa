//! TOOLS: the names under which the one multi-call binary answers.

/// One row of TOOLS.
#[derive(Clone, Copy, Debug)]
pub struct Tool {
    pub name: &'static str,
    /// A classic name: linked into `/usr/bin`, with the original kept in [`crate::paths::CLASSIC`].
    pub classic: bool,
    pub help: &'static str,
}

const fn t(name: &'static str, classic: bool, help: &'static str) -> Tool {
    Tool { name, classic, help }
}

/// Sorted by name. Those that are not classic are verbs of `rescue`.
pub const TOOLS: &[Tool] = &[
    t("add", false, "one more layer of the image while it runs; alone, the list of them"),
    t("assemble", false, "find arrays and volume groups and start them, read-only unless --rw"),
    t("blkid", true, "what is on each device"),
    t("capture", false, "save what is seen of this machine as files, to be looked at elsewhere"),
    t("close", false, "close what rescue open opened"),
    t("fdisk", true, "fdisk -l lists the partition tables; the rest is the original's"),
    t("fsck", true, "find the right checker for a device and run it"),
    t("lsblk", true, "block devices as a tree"),
    t("mount", true, "mount a file system whose type was probed, never guessed"),
    t("net", false, "links, addresses and whether the next hops answer; other settings for them"),
    t("open", false, "open a locked device (LUKS, BitLocker), read-only unless --rw"),
    t("overlay", false, "throw-away writable copies of devices, in memory"),
    t("protect", false, "put the write guard back on a device"),
    t("session", false, "a session that outlives the connection, and that others can join or watch"),
    t("status", false, "the whole picture on one screen"),
    t("swapon", true, "the original's, but of no device under the write guard"),
    t("umount", true, "unmount"),
    t("undo", false, "tables, headers and superblocks as they were before a command wrote"),
    t("worker", false, "internal: examines disks for the others"),
    t("writable", false, "take the write guard off a device"),
];
