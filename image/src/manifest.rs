//! MANIFEST: what goes into the image, and why. Programs come from unmodified Debian packages; what
//! they are linked against is found by reading them (see `libraries`).

/// What is taken of a package.
#[derive(Clone, Copy, Debug)]
pub enum Take {
    /// Every program: all of usr/bin and usr/sbin.
    Programs,
    /// Files, as patterns below the root (`*` and `**` as in `modules::glob`).
    Only(&'static [&'static str]),
    /// Programs and these files.
    And(&'static [&'static str]),
}
use Take::{And, Only, Programs};

/// One row.
pub struct Row {
    pub package: &'static str,
    pub take: Take,
    pub why: &'static str,
}

const fn row(package: &'static str, take: Take, why: &'static str) -> Row {
    Row { package, take, why }
}

/// The layer 10-userland, sorted by package.
#[rustfmt::skip]
pub const USERLAND: &[Row] = &[
    row("bash", Programs, "the shell"),
    row("bash-completion", Only(&["usr/share/bash-completion/bash_completion", "usr/share/bash-completion/completions/*", "usr/share/bash-completion/helpers/*"]), "completion"),
    row("bsdutils", Programs, "script, logger, wall"),
    row("btrfs-progs", Only(&["usr/bin/btrfs", "usr/bin/btrfsck", "usr/sbin/*"]), "check and mend btrfs"),
    row("bzip2", Only(&["usr/bin/bzip2", "usr/bin/bunzip2", "usr/bin/bzcat"]), "archives"),
    row("ca-certificates", Only(&["usr/share/ca-certificates/**"]), "https"),
    row("cifs-utils", Only(&["usr/sbin/mount.cifs", "usr/sbin/mount.smb3"]), "copying away to Windows shares"),
    row("console-data", Only(&["usr/share/keymaps/**"]), "vconsole.keymap="),
    row("coreutils", Programs, "the everyday commands"),
    row("cpio", Only(&["usr/bin/cpio"]), "archives"),
    row("cryptsetup-bin", Programs, "LUKS"),
    row("curl", Programs, "fetching and sending files"),
    row("diffutils", Programs, "what differs"),
    row("dmidecode", Programs, "what machine is this"),
    row("dmsetup", Programs, "device mapper by hand"),
    row("dosfstools", Programs, "check and make vfat"),
    row("e2fsprogs", And(&["etc/mke2fs.conf"]), "check and make ext2, 3, 4"),
    row("efibootmgr", Programs, "boot entries"),
    row("ethtool", Programs, "is it the cable"),
    row("exfatprogs", Programs, "check and make exfat"),
    row("f2fs-tools", Only(&["usr/sbin/*.f2fs"]), "check and make f2fs"),
    row("fdisk", Programs, "partition tables by hand"),
    row("file", Programs, "what is this file"),
    row("findutils", Programs, "find and xargs"),
    row("gddrescue", Programs, "copy a dying disk"),
    row("gdisk", Programs, "GPT by hand"),
    row("grep", Only(&["usr/bin/grep"]), "the everyday commands"),
    row("gzip", Only(&["usr/bin/gzip"]), "archives"),
    row("hdparm", Only(&["usr/sbin/hdparm"]), "ATA disks"),
    row("hostname", Programs, "the everyday commands"),
    row("iproute2", And(&["usr/share/iproute2/*"]), "the network by hand"),
    row("iputils-ping", Programs, "is it there"),
    row("kbd", Only(&["usr/bin/loadkeys", "usr/bin/setfont", "usr/bin/dumpkeys", "usr/bin/chvt"]), "keymaps"),
    row("kexec-tools", Only(&["usr/sbin/kexec"]), "into another kernel"),
    row("kmod", Programs, "modules by hand"),
    row("less", Only(&["usr/bin/less"]), "reading logs"),
    row("libc-bin", Only(&["usr/bin/getent", "usr/lib/locale/C.utf8/**"]), "UTF-8 in every program; names for our own, which are static"),
    row("libgcc-s1", Only(&["usr/lib/x86_64-linux-gnu/libgcc_s.so.1"]), "threads load it by name"),
    row("libmagic-mgc", Only(&["usr/lib/file/magic.mgc"]), "file's knowledge"),
    row("libtirpc-common", Only(&["etc/netconfig"]), "what RPC goes by, for showmount and NFS 3"),
    row("login.defs", Only(&["etc/login.defs"]), "passwd's settings"),
    row("lsof", Only(&["usr/bin/lsof"]), "who holds it"),
    row("lvm2", And(&["etc/lvm/lvm.conf", "etc/lvm/lvmlocal.conf", "etc/lvm/profile/*"]), "LVM"),
    row("mawk", Only(&["usr/bin/mawk"]), "scripts"),
    row("mdadm", And(&["usr/lib/udev/rules.d/*"]), "md arrays by hand"),
    row("mount", Programs, "what ours hands over to"),
    row("mtr-tiny", Programs, "where packets are lost"),
    row("nano", And(&["etc/nanorc", "usr/share/nano/*"]), "an editor"),
    row("ncurses-base", Only(&["usr/share/terminfo/**", "etc/terminfo/**"]), "terminals"),
    row("ncurses-bin", Only(&["usr/bin/clear", "usr/bin/reset", "usr/bin/tput", "usr/bin/tset", "usr/bin/infocmp", "usr/bin/tic"]), "terminals"),
    row("ncurses-term", Only(&["usr/share/terminfo/a/alacritty*", "usr/share/terminfo/f/foot*", "usr/share/terminfo/k/konsole*", "usr/share/terminfo/t/tmux*", "usr/share/terminfo/s/st-*", "usr/share/terminfo/r/rxvt*", "usr/share/terminfo/v/vte*", "usr/share/terminfo/g/gnome*", "usr/share/terminfo/p/putty*", "usr/share/terminfo/i/iterm*", "usr/share/terminfo/w/wezterm*", "usr/share/terminfo/k/kitty*", "usr/share/terminfo/g/ghostty*"]), "today's terminals"),
    row("netbase", Only(&["etc/services", "etc/protocols", "etc/ethertypes", "etc/rpc"]), "names of ports"),
    row("netcat-openbsd", Programs, "pipes over the network"),
    row("nfs-common", Only(&["usr/sbin/mount.nfs", "usr/sbin/mount.nfs4", "usr/sbin/umount.nfs", "usr/sbin/umount.nfs4", "usr/sbin/showmount"]), "copying away to NFS"),
    row("ntfs-3g", Programs, "check, mend and mount ntfs"),
    row("nvme-cli", Only(&["usr/sbin/nvme"]), "NVMe disks"),
    row("open-iscsi", Only(&["usr/sbin/iscsid", "usr/sbin/iscsiadm", "usr/sbin/iscsistart", "usr/sbin/iscsi-iname", "etc/iscsi/iscsid.conf"]), "iSCSI, with iBFT"),
    row("openssh-client", And(&["etc/ssh/ssh_config"]), "ssh and scp outward"),
    row("openssh-sftp-server", Only(&["usr/lib/openssh/sftp-server"]), "sftp and scp inward"),
    row("openssl", And(&["etc/ssl/openssl.cnf"]), "certificates, hashes"),
    row("parted", Programs, "partition tables by hand"),
    row("passwd", Only(&["usr/bin/passwd", "usr/sbin/chpasswd"]), "a forgotten password"),
    row("patch", Programs, "mending files"),
    row("pci.ids", Only(&["usr/share/misc/pci.ids"]), "lspci's names"),
    row("pciutils", Only(&["usr/bin/lspci", "usr/bin/setpci"]), "what is plugged in"),
    row("procps", Programs, "ps, top, free"),
    row("psmisc", Only(&["usr/bin/killall", "usr/bin/fuser", "usr/bin/pstree"]), "who holds it"),
    row("pv", Only(&["usr/bin/pv"]), "how far is it"),
    row("rsync", Only(&["usr/bin/rsync"]), "copying away"),
    row("screen", And(&["etc/screenrc"]), "sessions that stay"),
    row("sdparm", Only(&["usr/bin/sdparm"]), "SCSI disks"),
    row("sed", Only(&["usr/bin/sed"]), "the everyday commands"),
    row("sg3-utils", Only(&["usr/bin/sg_format", "usr/bin/sg_inq", "usr/bin/sg_logs", "usr/bin/sg_luns", "usr/bin/sg_map", "usr/bin/sg_modes", "usr/bin/sg_persist", "usr/bin/sg_readcap", "usr/bin/sg_requests", "usr/bin/sg_reset", "usr/bin/sg_sanitize", "usr/bin/sg_scan", "usr/bin/sg_senddiag", "usr/bin/sg_ses", "usr/bin/sg_start", "usr/bin/sg_turs", "usr/bin/sg_verify", "usr/bin/sg_vpd"]), "SCSI disks"),
    row("smartmontools", Only(&["usr/sbin/smartctl", "usr/share/smartmontools/*"]), "is the disk dying"),
    row("tar", Only(&["usr/bin/tar", "usr/sbin/rmt-tar"]), "archives"),
    row("tcpdump", Only(&["usr/bin/tcpdump"]), "what is on the wire: `rescue net` names it"),
    row("thin-provisioning-tools", Only(&["usr/sbin/*"]), "check thin pools"),
    row("tmux", Only(&["usr/bin/tmux"]), "sessions that stay"),
    row("tree", Only(&["usr/bin/tree"]), "what is below"),
    row("udftools", Only(&["usr/sbin/mkudffs", "usr/bin/udfinfo"]), "udf"),
    row("usbutils", Only(&["usr/bin/lsusb"]), "what is plugged in"),
    row("util-linux", Programs, "what ours hands over to, and its siblings"),
    row("util-linux-extra", Programs, "hwclock, mkfs"),
    row("wget", Only(&["usr/bin/wget"]), "fetching files"),
    row("xfsprogs", Programs, "check and mend xfs"),
    row("xxd", Programs, "looking at bytes"),
    row("xz-utils", Only(&["usr/bin/xz", "usr/bin/lzmainfo"]), "archives"),
    row("zstd", Only(&["usr/bin/zstd"]), "archives"),
];

/// A layer that is not in the image, and that the image knows by its hash: `rescue add NAME`.
pub struct Extra {
    /// The layer's.
    pub name: &'static str,
    pub rows: &'static [Row],
    /// (place, what it leads to)
    pub links: &'static [(&'static str, &'static str)],
    /// What of it a person types: as [`PROGRAMS`].
    pub programs: &'static [&'static str],
}

/// Big tools that few calls need, sorted. Each brings the libraries that the image has not.
#[rustfmt::skip]
pub const EXTRAS: &[Extra] = &[
    Extra { name: "50-archives", rows: &[
        row("7zip", And(&["usr/lib/7zip/*"]), "7z, zip, rar and images of others"),
        row("libarchive-tools", Programs, "archives of every kind"),
        row("wimtools", Only(&["usr/bin/wim*"]), "Windows's images"),
    ], links: &[], programs: &["7z", "bsdtar", "wimlib-imagex"] },
    Extra { name: "50-clamav", rows: &[
        row("clamav", Only(&["usr/bin/clamscan"]), "malware on somebody's disk; its knowledge is fetched when it is used"),
        row("clamav-freshclam", Only(&["usr/bin/freshclam"]), "fetches it"),
    ], links: &[], programs: &["clamscan", "freshclam"] },
    Extra { name: "50-clone", rows: &[
        row("partclone", Programs, "copying what a file system uses"),
        row("qemu-utils", Only(&["usr/bin/qemu-img", "usr/bin/qemu-nbd"]), "disks of virtual machines"),
    ], links: &[], programs: &["partclone.ext4", "qemu-img", "qemu-nbd"] },
    Extra { name: "50-debug", rows: &[
        row("strace", Only(&["usr/bin/strace"]), "what is it doing"),
    ], links: &[], programs: &["strace"] },
    Extra { name: "50-editors", rows: &[
        row("gawk", Only(&["usr/bin/gawk"]), "scripts that mawk does not run"),
        row("mc", And(&["usr/lib/mc/cons.saver", "etc/mc/*"]), "files in two columns"),
        row("mc-data", Only(&["usr/share/mc/mc.lib", "usr/share/mc/skins/default.ini", "usr/share/mc/syntax/*"]), "its settings"),
        row("vim-tiny", And(&["etc/vim/vimrc.tiny"]), "vi: busybox's is aboard"),
        row("w3m", Only(&["usr/bin/w3m"]), "reading the web"),
    ], links: &[("usr/bin/vim", "vim.tiny")], programs: &["gawk", "mc", "vim", "w3m"] },
    Extra { name: "50-gpg", rows: &[
        row("gpg", Only(&["usr/bin/gpg"]), "encrypted backups"),
        row("gpg-agent", Only(&["usr/bin/gpg-agent"]), "gpg asks it for keys"),
        row("pinentry-curses", Only(&["usr/bin/pinentry-curses"]), "and that one for passphrases"),
    ], links: &[("usr/bin/pinentry", "pinentry-curses")], programs: &["gpg"] },
    Extra { name: "50-ipmi", rows: &[
        row("ipmitool", Only(&["usr/bin/ipmitool"]), "the BMC"),
    ], links: &[], programs: &["ipmitool"] },
    Extra { name: "50-load", rows: &[
        row("memtester", Programs, "is it the memory"),
        row("stress-ng", Only(&["usr/bin/stress-ng"]), "load of every kind"),
        row("stressapptest", Only(&["usr/bin/stressapptest"]), "is it the memory, under load"),
    ], links: &[], programs: &["memtester", "stress-ng", "stressapptest"] },
    Extra { name: "50-network", rows: &[
        row("bind9-dnsutils", Only(&["usr/bin/dig", "usr/bin/nslookup"]), "is it DNS"),
        row("bind9-host", Only(&["usr/bin/host"]), "is it DNS"),
        row("iperf3", Only(&["usr/bin/iperf3"]), "how fast is the line"),
    ], links: &[], programs: &["dig", "host", "iperf3"] },
    Extra { name: "50-recovery", rows: &[
        row("btrfs-progs", Only(&["usr/bin/btrfs-find-root", "usr/bin/btrfs-image", "usr/bin/btrfs-select-super", "usr/bin/btrfstune"]), "btrfs's last resorts"),
        row("testdisk", Programs, "lost partitions and files"),
    ], links: &[], programs: &["btrfs-image", "photorec", "testdisk"] },
];

/// Files of ours in the /etc of such a layer: (layer, path below /etc, content).
pub const EXTRA_ETC: &[(&str, &str, &str)] = &[(
    "50-clamav",
    "clamav/freshclam.conf",
    // It is run by root, who alone is here; else it looks for a user of its own.
    "DatabaseMirror database.clamav.net\nDatabaseOwner root\n",
)];

/// What packages of the rows depend on, and no program of the image loads: tens of MiB that are not fetched.
pub const LEFT_BEHIND: &[&str] = &["libllvm19", "libz3-4", "mesa-libgallium"];

/// Packages that hold what modules of the image ask for by `request_firmware`.
pub const FIRMWARE: &[&str] = &[
    "firmware-ast",
    "firmware-bnx2",
    "firmware-bnx2x",
    "firmware-cavium",
    "firmware-intel-misc",
    "firmware-linux-free",
    "firmware-misc-nonfree",
    "firmware-myricom",
    "firmware-netronome",
    "firmware-netxen",
    "firmware-qlogic",
    "firmware-realtek",
];

/// Packages that are asked for beside those of the tables: the kernel, what is in the nucleus.
pub const GUEST_MORE: &[&str] =
    &["linux-image-amd64", "busybox-static", "amd64-microcode", "intel-microcode"];

/// Programs that the build, `make run` and the tests run on the host, through their own loader.
pub const HOST: &[&str] = &[
    "qemu-system-x86",
    "ipxe-qemu",
    "seabios",
    "qemu-utils", // the machine
    "squashfs-tools",
    "zstd", // packing
    "util-linux",
    "fdisk",
    "mount",
    "e2fsprogs",
    "xfsprogs",
    "btrfs-progs",
    "dosfstools",
    "exfatprogs",
    "ntfs-3g",
    "f2fs-tools",
    "udftools",
    "gdisk",
    "parted",
    "mdadm",
    "lvm2",
    "cryptsetup-bin",
    "erofs-utils",
    "xorriso",
    "jfsutils",
    "nilfs-tools",
    "bcache-tools",
    "drbd-utils",
    "reiserfsprogs",
    "vdo", // real peers, and what fixtures are made with
    "busybox-static",
    "linux-image-amd64", // the machine that makes fixtures
    "dnsmasq-base",
    "kea-dhcp4-server",
    "kea-dhcp6-server",
    "radvd",       // the servers that the network is tested with
    "dhcpcd-base", // a peer of its benchmark; the others are in systemd and busybox-static
    "grub-common",
    "grub-pc-bin",
    "grub-efi-amd64-signed",
    "shim-signed",
    "systemd-boot-efi",
    "mtools", // the forms beside kernel and initramfs
    "ovmf",   // the firmware that they are tested with
    // The peers of the benchmark: a bare floor, and Debian's own initramfs with dropbear, with what its
    // mkinitramfs runs.
    "bash",
    "cpio",
    "cryptsetup-initramfs",
    "dash",
    "debianutils",
    "diffutils",
    "dropbear-bin",
    "dropbear-initramfs",
    "findutils",
    "grep",
    "gzip",
    "libc-bin",
    "mawk",
    "xz-utils",
    "openssh-client", // the peer of sshd
    "sshfs",          // what an administrator copies with by hand
];

/// More of them, without what their maintainers' scripts need (perl, debconf): OpenSSH's server beside which ours is
/// measured, and its own regression tests.
pub const HOST_ALONE: &[&str] = &[
    "ipxe",            // the loaders that make serve hands out
    "isc-dhcp-server", // what MAAS runs
    "libwrap0",
    "libwtmpdb0", // libraries of the next
    "openssh-server",
    "openssh-sftp-server",
    "openssl", // serves files over TLS to the tests
    "openssh-tests",
];

/// What `make bench` compares with as Debian built it: no image is made of it, and none changes with it.
pub const BENCH: &[&str] = &["debian-installer-13-netboot-amd64"];
/// Its lock, so that only `make bench` fetches it.
pub const BENCH_LOCK: &str = "image/bench.lock";

/// What builds the custom kernel, in a root of its own (image/kernel.lock): its source and Debian's toolchain.
pub const KERNEL: &[&str] = &[
    "linux-source-6.12",
    "bc",
    "binutils",
    "bison",
    "coreutils",
    "dash",
    "diffutils",
    "findutils",
    "flex",
    "gawk",
    "gcc",
    "grep",
    "gzip",
    "kmod",
    "libc-bin",
    "libc6-dev",
    "libelf-dev", // objtool
    "make",
    "perl", // localmodconfig
    "sed",
    "tar",
    "xz-utils",
    "zlib1g-dev",
    "zstd",
];

/// Source packages whose own test images the tests look at: never unpacked but by a test, never in the image.
pub const SOURCES: &[&str] = &[
    "btrfs-progs", // damaged and hostile pools
    "dosfstools",  // FATs of every width, with every kind of label
    "e2fsprogs",   // damaged ext2, 3 and 4
    "util-linux",  // one image of each format that libblkid knows, and what it says of it
];

/// Links that Debian's alternatives and other packages would make, as (link, target).
pub const LINKS: &[(&str, &str)] = &[
    ("usr/bin/editor", "nano"),
    ("usr/bin/pager", "less"),
    ("usr/bin/awk", "mawk"),
    ("usr/bin/nc", "nc.openbsd"),
    ("usr/bin/netcat", "nc.openbsd"),
    ("usr/bin/lzma", "xz"),
    ("usr/bin/unlzma", "xz"),
    ("usr/bin/unxz", "xz"),
    ("usr/bin/xzcat", "xz"),
    ("usr/bin/unzstd", "zstd"),
    ("usr/bin/zstdcat", "zstd"),
    // As these terminals call themselves; ncurses knows them by their first names.
    ("usr/share/terminfo/x/xterm-kitty", "../k/kitty"),
    ("usr/share/terminfo/x/xterm-ghostty", "../g/ghostty"),
];

/// Programs that are scripts for an interpreter that is not aboard (perl, python, or a shell with
/// Debian's own helpers), and programs that a rescue has no use for. Patterns.
pub const LEFT_OUT: &[&str] = &[
    "usr/bin/routel",
    "usr/sbin/xfs_protofile",
    "usr/bin/bashbug",
    "usr/bin/c_rehash",
    "usr/sbin/lvmdump",
    "usr/sbin/lvmpolld",
    "usr/sbin/e2scrub*",
    "usr/sbin/xfs_scrub*",
    "usr/sbin/lvm_import_vdo",
    "usr/sbin/mkfs.cramfs",
    "usr/sbin/fsck.cramfs",
    "usr/bin/ssh-copy-id",
    "usr/bin/ssh-argv0",
    "usr/bin/curl-config",
    "usr/bin/wcurl",
    "usr/bin/rnano",
    "usr/sbin/getty",
    "usr/sbin/agetty",
    "usr/sbin/sulogin",
    "usr/bin/lsipc",
    "usr/sbin/routel",
    "usr/sbin/rtacct",
    "usr/bin/gawkbug",
    // One that needs a library of 1.5 MB for it alone.
    "usr/bin/lslogins",
    "usr/bin/ntfsdecrypt",
    "usr/bin/p7zip",
    "usr/bin/rdma",
    "usr/bin/lsfd",
    "usr/sbin/*.minix",
    "usr/sbin/mkfs.bfs",
    "usr/sbin/xfs_rtcp",
    "usr/share/keymaps/amiga/**",
    "usr/share/keymaps/atari/**",
    "usr/share/keymaps/mac/**",
    "usr/share/keymaps/sun/**",
    "usr/sbin/integritysetup",
    "usr/bin/chsh",
    "usr/sbin/dcb",
    "usr/sbin/devlink",
    "usr/sbin/vdpa",
    "usr/sbin/rdma",
    "usr/sbin/tipc",
    "usr/sbin/genl",
    "usr/sbin/arpd",
    "usr/bin/ctstat",
    "usr/bin/rtstat",
    "usr/sbin/invoke-rc.d",
    "usr/sbin/update-*",
    "usr/sbin/ntfscp*",
    "usr/lib/udev/rules.d/*",
    "usr/bin/debugreiserfs",
    "usr/bin/newgrp",
    "usr/bin/gpgsplit",
];

/// What a person at 3 a.m. types and has to find, sorted. The VM tests start each of them once in the booted
/// image; busybox's applets do not count where the list means more than they do.
#[rustfmt::skip]
pub const PROGRAMS: &[&str] = &[
    "awk", "badblocks", "bash", "blkdiscard", "blkid", "btrfs", "bzip2", "cfdisk", "chroot", "cpio",
    "cryptsetup", "curl", "dd", "ddrescue", "debugfs", "dmesg", "dmidecode", "dmsetup", "dumpe2fs", "e2fsck",
    "efibootmgr", "ethtool", "fdisk", "file", "find", "fsck.btrfs", "fsck.exfat", "fsck.ext4", "fsck.f2fs",
    "fsck.vfat", "fsck.xfs", "gdisk", "grep", "gzip", "hdparm", "hwclock", "infocmp", "ip",     "iscsiadm", "iscsid", "iscsistart", "kexec", "less", "lsblk", "lsof", "lspci", "lsusb", "lvm", "lvs", "mdadm",
    "mkfs.btrfs", "mkfs.exfat", "mkfs.ext4", "mkfs.f2fs", "mkfs.ntfs", "mkfs.vfat", "mkfs.xfs", "mkswap", "mkudffs",
    "modprobe", "mount", "mount.cifs", "mount.nfs", "mount.ntfs", "mtr", "nano", "nc", "ntfs-3g", "ntfsclone",
    "ntfsfix", "ntfsresize", "nvme", "openssl", "parted", "partprobe", "partx", "patch", "ping", "ps", "pv", "pvs",
    "rescue", "resize2fs", "rsync", "scp", "screen", "sdparm", "sed", "sfdisk", "sftp", "sg_inq", "sg_map", "sgdisk",
    "sha256sum", "smartctl", "ss", "ssh", "ssh-keygen", "tar", "tcpdump", "thin_check", "thin_repair", "tmux",
    "top", "tree", "tune2fs", "umount", "vgs", "vi", "wget", "wipefs", "xfs_admin", "xfs_db", "xfs_growfs",
    "xfs_metadump", "xfs_repair", "xxd", "xz", "zstd",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted_and_name_each_once() {
        assert!(USERLAND.windows(2).all(|pair| pair[0].package < pair[1].package));
        assert!(EXTRAS.windows(2).all(|pair| pair[0].name < pair[1].name));
        for extra in EXTRAS {
            assert!(extra.rows.windows(2).all(|pair| pair[0].package < pair[1].package), "{}", extra.name);
            assert!(extra.name.starts_with("50-") && extra.programs.is_sorted(), "{}", extra.name);
        }
        assert!(PROGRAMS.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
