//! Plan: whatever changes the machine is first a list of printable steps. `tools/src/apply` is the
//! one door through which they are made; `--dry-run` prints them.

use crate::foreign::cryptsetup_close;
use crate::text::{bytes_of, steers};
use contract::facts::Block;
use contract::guard::{Consent, Extent};
use serde::{Deserialize, Serialize};

/// One change, with everything that is needed to make it and nothing to decide.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum Step {
    /// Save what stands on devices, as before every step that names what it writes to: for a program that does not, or
    /// that a person will start.
    Save {
        paths: Vec<String>,
    },
    /// Write the consent, then clear the kernel's read-only flag of the device and of its disk.
    SetWritable {
        path: String,
        /// The whole disk, for a partition.
        disk: Option<String>,
        consent: Consent,
    },
    /// Take the consent away and set the flags again.
    SetGuarded {
        path: String,
        disk: Option<String>,
        consent: Consent,
    },
    /// Load a module through devd.
    Module {
        name: String,
    },
    MdStart(MdStart),
    MdStop {
        device: String,
    },
    /// A running array: may it be written?
    MdSetReadOnly {
        device: String,
        read_only: bool,
    },
    /// Stop resync and recovery of a running array, and keep them from starting.
    MdFreeze {
        device: String,
    },
    /// Make a mapped device: create it, load its table, let I/O through.
    DmCreate {
        /// Below /dev/mapper.
        name: String,
        uuid: String,
        /// A device that a step before it makes is named by [`MADE`].
        table: Vec<DmTarget>,
        read_only: bool,
        /// What was seen of the devices that it stands on; applying looks again.
        on: Vec<DmLower>,
    },
    DmRemove {
        name: String,
    },
    /// Keep mapped RAID from resyncing and rebuilding.
    DmFreeze {
        name: String,
    },
    /// A mapped device that was made writable, and is to be read: the kernel's flag alone.
    DmReadOnly {
        /// `/dev/mapper/vg-root`
        device: String,
    },
    /// Show a device of bcache's to the kernel, which starts what is complete, and writes to it.
    BcacheRegister {
        device: String,
    },
    /// Keep one that runs from writing back and from caching, and its device from being written. Named by what it is on.
    BcacheHold {
        device: String,
    },
    /// Let go of one, or of a cache.
    BcacheStop {
        device: String,
    },
    /// A file that is all hole, for root alone.
    SparseFile {
        path: String,
        /// Bytes.
        size: u64,
    },
    RemoveFile {
        path: String,
    },
    /// btrfs keeps a list of the devices that it has seen: take one off.
    BtrfsForget {
        device: String,
    },
    /// Take one into it.
    BtrfsScan {
        device: String,
    },
    Loop {
        file: String,
        read_only: bool,
        /// Bytes.
        offset: u64,
        /// Bytes; `None` for the rest of the file.
        size: Option<u64>,
    },
    LoopRemove {
        device: String,
    },
    MakeDirectory {
        path: String,
    },
    /// Write a window of a saved device back to where it was.
    PutBack {
        path: String,
        /// The file that it was saved in, with every byte where it was on the device.
        from: String,
        window: Extent,
        /// Of what was saved, in hexadecimal digits.
        sha256: String,
        /// What was seen of the device; applying looks again.
        on: DmLower,
    },
    /// mount(2). Sources that a step before it makes (a loop device) are named by [`MADE`].
    Mount {
        source: String,
        target: String,
        fstype: String,
        /// As mount(8) spells them: `ro`, `nosuid`, `bind`, `remount`.
        flags: Vec<String>,
        /// The comma-separated options that the file system itself reads.
        data: String,
    },
    Umount {
        target: String,
        lazy: bool,
        force: bool,
    },
    /// A foreign program that owns the terminal: a checker, a mount helper.
    Run {
        argv: Vec<String>,
        /// What it reads instead of the terminal.
        #[serde(default)]
        input: Input,
    },
    /// A foreign program that is asked for something and ends: without the terminal, with the environment and
    /// the deadline of its row in `foreign::CALLED`.
    Call {
        argv: Vec<String>,
        input: Input,
    },
}

/// What a called program reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Input {
    #[default]
    Nothing,
    /// The passphrase, or a URL that may have a password in it, which the door is given beside the step: it stands in no plan, no ledger and no argument.
    Secret,
}

/// Stands in a later step for the device that an earlier one made.
pub const MADE: &str = "{made}";

/// One md array to assemble by the kernel's own interface (md's sysfs and SET_ARRAY_INFO,
/// ADD_NEW_DISK, RUN_ARRAY). Sizes in bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MdStart {
    /// `/dev/md0`; the node's minor is in `minor`.
    pub device: String,
    pub minor: u32,
    /// Below /dev/md: `/dev/md/boot`.
    pub link: Option<String>,
    pub uuid: String,
    pub members: Vec<MdMember>,
    pub read_only: bool,
    /// `0.90`, `1.0`, `1.1` or `1.2`.
    pub metadata: String,
    /// Started, to be read, from these facts instead of by its superblocks, where the kernel would write to
    /// what belongs to those even so (bitmap, partial parity log).
    #[serde(default)]
    pub bare: Option<MdBare>,
}

/// What a superblock says, as the kernel is told it where it is not to read it itself. Sizes in bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MdBare {
    /// `raid5`
    pub level: String,
    pub raid_disks: u32,
    pub layout: u32,
    pub chunk: u64,
    pub component_size: u64,
    /// How far the members agree; `None`: everywhere.
    pub in_sync: Option<u64>,
    /// Of the whole array, where it is less than its members make.
    #[serde(default)]
    pub size: Option<u64>,
    /// Number of a volume of firmware RAID.
    #[serde(default)]
    pub volume: Option<u32>,
    /// Its superblocks are of a later kernel, and are not taken by this one.
    #[serde(default)]
    pub newer: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MdMember {
    pub path: String,
    pub major: u32,
    pub minor: u32,
    pub slot: Option<u32>,
    /// What was seen; applying looks again and refuses when it changed.
    pub diskseq: Option<u64>,
    pub events: u64,
    /// Where its data is. Bytes.
    pub data_offset: u64,
    pub data_size: u64,
}

/// One line of a device mapper table; sectors of 512 bytes, as dmsetup(8) counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DmTarget {
    pub start: u64,
    pub length: u64,
    /// `snapshot`
    pub kind: String,
    pub text: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DmLower {
    pub path: String,
    pub major: u32,
    pub minor: u32,
    pub diskseq: Option<u64>,
    /// Bytes.
    pub size: u64,
}

impl DmLower {
    pub fn of(path: String, block: &Block) -> DmLower {
        DmLower { path, major: block.major, minor: block.minor, diskseq: block.diskseq, size: block.size }
    }

    /// Whether that is still the same device.
    pub fn is(&self, block: &Block) -> bool {
        *self == DmLower::of(self.path.clone(), block)
    }
}

impl Step {
    /// The plain command that would do the same, for `--dry-run` and the ledger.
    pub fn text(&self) -> String {
        match self {
            Step::Save { paths } => {
                let paths: Vec<String> = paths.iter().map(|path| word(path)).collect();
                format!("rescue undo --save {}", paths.join(" "))
            }
            Step::SetWritable { path, .. } => format!("rescue writable {}", word(path)),
            Step::SetGuarded { path, .. } => format!("rescue protect {}", word(path)),
            Step::Module { name } => format!("modprobe {}", word(name)),
            Step::MdStart(start) => {
                let members: Vec<String> = start.members.iter().map(|member| word(&member.path)).collect();
                let read_only = if start.read_only { " --readonly" } else { "" };
                let device = word(&start.device);
                format!("mdadm --assemble --run{read_only} {device} {}", members.join(" "))
            }
            Step::MdStop { device } => format!("mdadm --stop {}", word(device)),
            Step::MdSetReadOnly { device, read_only: true } => format!("mdadm --readonly {}", word(device)),
            Step::MdSetReadOnly { device, read_only: false } => format!("mdadm --readwrite {}", word(device)),
            Step::MdFreeze { device } => format!("mdadm --action=frozen {}", word(device)),
            Step::DmCreate { name, uuid, table, read_only, on: _ } => {
                let read_only = if *read_only { " --readonly" } else { "" };
                let mut text = format!("dmsetup create {} --uuid {}{read_only}", word(name), word(uuid));
                for DmTarget { start, length, kind, text: rest } in table {
                    text += &format!(" --table {}", word(&format!("{start} {length} {kind} {rest}")));
                }
                text
            }
            Step::DmRemove { name } => format!("dmsetup remove --retry {}", word(name)),
            Step::DmFreeze { name } => format!("dmsetup message {} 0 frozen", word(name)),
            Step::DmReadOnly { device } => format!("blockdev --setro {}", word(device)),
            Step::BcacheRegister { device } => format!("echo {} > /sys/fs/bcache/register", word(device)),
            Step::BcacheHold { device } => set_bcache(device, "writeback_running", "0"),
            Step::BcacheStop { device } => set_bcache(device, "stop", "1"),
            Step::SparseFile { path, size } => format!("truncate -s {size} {}", word(path)),
            Step::RemoveFile { path } => format!("rm -f {}", word(path)),
            Step::BtrfsForget { device } => format!("btrfs device scan --forget {}", word(device)),
            Step::BtrfsScan { device } => format!("btrfs device scan {}", word(device)),
            Step::Loop { file, read_only, offset, size } => {
                let mut text = "losetup --find --show".to_string();
                if *read_only {
                    text += " --read-only";
                }
                if *offset > 0 {
                    text += &format!(" --offset {offset}");
                }
                if let Some(size) = size {
                    text += &format!(" --sizelimit {size}");
                }
                format!("{text} {}", word(file))
            }
            Step::LoopRemove { device } => format!("losetup --detach {}", word(device)),
            Step::MakeDirectory { path } => format!("mkdir -p {}", word(path)),
            Step::PutBack { path, from, window: Extent { start, length }, .. } => {
                let (from, path) = (word(from), word(path));
                // Bytes, wherever no sector of 512 is cut.
                let unit = if start % 512 == 0 && length % 512 == 0 { 512 } else { 1 };
                let (start, count) = (start / unit, length / unit);
                format!(
                    "dd if={from} of={path} bs={unit} skip={start} seek={start} count={count} conv=notrunc,fsync"
                )
            }
            Step::Mount { source, target, fstype, flags, data } => {
                let mut text = "mount".to_string();
                if !fstype.is_empty() {
                    text += &format!(" -t {}", word(fstype));
                }
                let mut options: Vec<&str> = flags.iter().map(String::as_str).collect();
                options.extend(Some(data.as_str()).filter(|data| !data.is_empty()));
                if !options.is_empty() {
                    text += &format!(" -o {}", word(&options.join(",")));
                }
                format!("{text} {} {}", word(source), word(target))
            }
            Step::Umount { target, lazy, force } => {
                let lazy = if *lazy { " -l" } else { "" };
                let force = if *force { " -f" } else { "" };
                format!("umount{lazy}{force} {}", word(target))
            }
            Step::Run { argv, .. } | Step::Call { argv, .. } => {
                argv.iter().map(|part| word(part)).collect::<Vec<_>>().join(" ")
            }
        }
    }

    /// The step that takes this one back, where one does. What a loop step made is only known
    /// afterwards, so its inverse is the door's to write down.
    pub fn inverse(&self) -> Option<Step> {
        match self.clone() {
            Step::SetWritable { path, disk, consent } => Some(Step::SetGuarded { path, disk, consent }),
            Step::SetGuarded { path, disk, consent } => Some(Step::SetWritable { path, disk, consent }),
            Step::MdStart(start) => Some(Step::MdStop { device: start.device }),
            Step::MdSetReadOnly { device, read_only } => {
                Some(Step::MdSetReadOnly { device, read_only: !read_only })
            }
            Step::DmCreate { name, .. } => Some(Step::DmRemove { name }),
            Step::BcacheRegister { device } => Some(Step::BcacheStop { device }),
            Step::SparseFile { path, .. } => Some(Step::RemoveFile { path }),
            Step::BtrfsScan { device } => Some(Step::BtrfsForget { device }),
            Step::Mount { target, flags, .. } if !changes_what_is_there(&flags) => {
                // Loop devices let go of their files there a moment later, when nobody looks at them any more.
                let lazy = target == contract::paths::OVERLAY;
                Some(Step::Umount { target, lazy, force: false })
            }
            Step::Call { argv, input: Input::Secret } => {
                Some(Step::Call { argv: cryptsetup_close(argv.last()?), input: Input::Nothing })
            }
            Step::Call { .. }
            | Step::Save { .. }
            | Step::Mount { .. }
            | Step::Module { .. }
            | Step::MdStop { .. }
            | Step::MdFreeze { .. }
            | Step::DmRemove { .. }
            | Step::DmFreeze { .. }
            | Step::DmReadOnly { .. }
            | Step::BcacheHold { .. }
            | Step::BcacheStop { .. }
            | Step::RemoveFile { .. }
            | Step::BtrfsForget { .. }
            | Step::Loop { .. }
            | Step::LoopRemove { .. }
            | Step::MakeDirectory { .. }
            // What stood there was saved before: `rescue undo` takes it back too.
            | Step::PutBack { .. }
            | Step::Umount { .. }
            | Step::Run { .. } => None,
        }
    }
}

/// A mapped device has another name there.
fn set_bcache(device: &str, attribute: &str, text: &str) -> String {
    format!("echo {text} > /sys/class/block/$(basename $(readlink -f {}))/bcache/{attribute}", word(device))
}

/// A mount(2) that attaches nothing new, which umount would take back.
fn changes_what_is_there(flags: &[String]) -> bool {
    let spread = |flag: &str| matches!(flag, "private" | "shared" | "slave" | "unbindable");
    flags.iter().any(|flag| {
        matches!(flag.as_str(), "remount" | "move")
            || spread(flag.strip_prefix('r').unwrap_or(flag))
            || spread(flag)
    })
}

/// A word as a POSIX shell reads it, so that a printed step can be pasted; what would steer a terminal stands in
/// `$'...'` (POSIX.1-2024), byte by byte.
pub fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,+@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_string();
    }
    if !text.contains(steers) {
        return format!("'{}'", text.replace('\'', r"'\''"));
    }
    let mut out = "$'".to_string();
    for c in text.chars() {
        match c {
            '\'' | '\\' => out.extend(['\\', c]),
            // Three octal digits end by themselves; `\x` takes as many hex digits as follow.
            c if steers(c) => out.extend(bytes_of(c).map(|byte| format!("\\{byte:03o}"))),
            c => out.push(c),
        }
    }
    out + "'"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_reads_as_the_command_that_would_do_it() {
        let mount = Step::Mount {
            source: "/dev/md2".to_string(),
            target: "/mnt/my disk".to_string(),
            fstype: "ext4".to_string(),
            flags: vec!["ro".to_string(), "nosuid".to_string()],
            data: "noload".to_string(),
        };
        assert_eq!(mount.text(), "mount -t ext4 -o ro,nosuid,noload /dev/md2 '/mnt/my disk'");
        assert_eq!(mount.inverse().unwrap().text(), "umount '/mnt/my disk'");
        let run = Step::Run {
            argv: vec!["e2fsck".to_string(), "-y".to_string(), "it's".to_string()],
            input: Input::Nothing,
        };
        assert_eq!(run.text(), r"e2fsck -y 'it'\''s'");
    }

    #[test]
    fn a_word_that_would_steer_a_terminal_is_written_byte_by_byte() {
        let cases = [
            ("\x1b[2J", r"$'\033[2J'"),
            ("a\nb'c\\d", r"$'a\012b\'c\\d'"),
            ("\u{202e}1\u{10ffff}2", r"$'\342\200\2561\3772'"),
        ];
        for (text, want) in cases {
            assert_eq!(word(text), want);
        }
    }
}
