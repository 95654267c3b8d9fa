//! FOREIGN: how the checkers of file systems are asked, and what their exit statuses mean in fsck(8)'s bits.
//! They own the terminal, with the person's environment, until they end or the person ends them: a check of a
//! large disk takes hours, so none has a deadline.
//!
//! CALLED: programs that are asked for one thing and have an environment and a deadline of ours, LVM's and cryptsetup.

/// fsck(8): the bits of its exit status.
pub mod exit {
    pub const SOUND: i32 = 0;
    pub const CORRECTED: i32 = 1;
    pub const UNCORRECTED: i32 = 4;
    pub const TROUBLE: i32 = 8;
    pub const USAGE: i32 = 16;
    pub const CANCELLED: i32 = 32;
}

/// What a person wants of a check, and the words in which it was said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// `-n`: look, change nothing.
    pub no: bool,
    /// `-y`: yes to every question.
    pub yes: bool,
    /// `-p` or `-a`: mend what is safe to mend without asking.
    pub preen: bool,
    /// `-f`: also where the file system says that it is clean.
    pub force: bool,
    pub verbose: bool,
    /// `-C`: the descriptor that progress goes to.
    pub progress: Option<u32>,
    /// Any other words, as typed.
    pub more: Vec<String>,
    /// All flags as typed, in order.
    pub typed: Vec<String>,
    /// It is an image file and no device.
    pub file: bool,
}

impl Wish {
    fn has(&self, word: &str) -> bool {
        self.more.iter().any(|more| more == word)
    }
}

/// One row: a program, how it is asked, and how it answers.
#[derive(Clone, Copy, Debug)]
pub struct Checker {
    /// Looked up in PATH.
    pub program: &'static str,
    /// Whether this wish makes it write.
    pub writes: fn(&Wish) -> bool,
    /// What stands before the device.
    pub arguments: fn(&Wish) -> Vec<String>,
    /// Its exit status as fsck(8)'s; the flag: it was asked to write.
    pub status: fn(i32, bool) -> i32,
    /// What to tell the person about a status, with the device: why, and what to do next.
    pub advice: fn(i32, bool, &str) -> Option<String>,
}

/// Sorted by program.
pub const FOREIGN: &[Checker] = &[
    Checker {
        program: "btrfs",
        writes: btrfs_writes,
        arguments: btrfs,
        status: btrfs_status,
        advice: btrfs_advice,
    },
    Checker { program: "e2fsck", writes: unless_no, arguments: e2fsck, status: bits, advice: none },
    Checker { program: "fsck.exfat", writes: unless_no, arguments: exfat, status: bits, advice: none },
    Checker { program: "fsck.f2fs", writes: unless_no, arguments: f2fs, status: bits, advice: none },
    Checker { program: "fsck.fat", writes: unless_no, arguments: fat, status: fat_status, advice: none },
    Checker { program: "fsck.minix", writes: unless_no, arguments: minix, status: bits, advice: none },
    Checker {
        program: "ntfsfix",
        writes: unless_no,
        arguments: ntfs,
        status: ntfs_status,
        advice: ntfs_advice,
    },
    Checker {
        program: "xfs_repair",
        writes: unless_no,
        arguments: xfs,
        status: xfs_status,
        advice: xfs_advice,
    },
];

pub fn checker(program: &str) -> Option<&'static Checker> {
    FOREIGN.iter().find(|row| row.program == program)
}

/// A program that was ended by a signal, as a shell shows it: 128 and the signal's number. `fsck(8)` calls
/// it trouble, and what Ctrl-C ended cancelled.
pub fn by_signal(status: i32) -> Option<i32> {
    const SIGINT: i32 = 2;
    match status.checked_sub(128)? {
        SIGINT => Some(exit::CANCELLED),
        1..=64 => Some(exit::TROUBLE),
        _ => None,
    }
}

fn words(pairs: &[(bool, &str)], more: &[String]) -> Vec<String> {
    let given = pairs.iter().filter(|(is, _)| *is).map(|(_, word)| (*word).to_string());
    given.chain(more.iter().cloned()).collect()
}

fn unless_no(wish: &Wish) -> bool {
    !wish.no
}

/// Checkers that took over fsck(8)'s own bits.
fn bits(status: i32, _writes: bool) -> i32 {
    status
}

fn none(_status: i32, _writes: bool, _device: &str) -> Option<String> {
    None
}

/// e2fsck(8): fsck(8) was made for it, so it gets what was typed.
fn e2fsck(wish: &Wish) -> Vec<String> {
    let progress = wish.progress.map(|descriptor| format!("-C{descriptor}"));
    wish.typed.iter().cloned().chain(progress).collect()
}

/// xfs_repair(8) knows no `-y`, `-p` and `-f` of fsck's: it always mends all it can, always
/// checks everything, and its own `-f` says that it is given a file. `-e`: a status of its own for what was mended.
fn xfs(wish: &Wish) -> Vec<String> {
    words(&[(wish.no, "-n"), (!wish.no, "-e"), (wish.verbose, "-v"), (wish.file, "-f")], &wish.more)
}

fn xfs_status(status: i32, writes: bool) -> i32 {
    match (status, writes) {
        (0, _) => exit::SOUND,
        (4, true) => exit::CORRECTED,
        (XFS_DIRTY_LOG, true) => exit::UNCORRECTED,
        (1, false) => exit::UNCORRECTED,
        _ => exit::TROUBLE,
    }
}

const XFS_DIRTY_LOG: i32 = 2;

fn xfs_advice(status: i32, writes: bool, device: &str) -> Option<String> {
    (status == XFS_DIRTY_LOG && writes).then(|| {
        format!(
            "{device}: its log has to be replayed first, which mounting does: mount {device} /mnt && umount /mnt, then fsck again; only where that fails, fsck -L {device} throws the last changes away"
        )
    })
}

/// btrfs-check(8): mending is a last resort that can make it worse, so it takes the person's own flag.
const BTRFS_MENDS: &[&str] = &["--repair", "--init-csum-tree", "--init-extent-tree", "--clear-space-cache"];

fn btrfs_writes(wish: &Wish) -> bool {
    let is = |word: &String| BTRFS_MENDS.iter().any(|mends| word.split('=').next() == Some(mends));
    !wish.no && wish.more.iter().any(is)
}

fn btrfs(wish: &Wish) -> Vec<String> {
    let readonly = !btrfs_writes(wish) && !wish.has("--readonly");
    // With -n, the words that mend are taken out: nobody who says no wants them.
    let is =
        |word: &&String| !(wish.no && BTRFS_MENDS.iter().any(|mends| word.split('=').next() == Some(mends)));
    let more: Vec<String> = wish.more.iter().filter(is).cloned().collect();
    let check = std::iter::once("check".to_string());
    check.chain(words(&[(readonly, "--readonly"), (wish.progress.is_some(), "--progress")], &more)).collect()
}

fn btrfs_status(status: i32, _writes: bool) -> i32 {
    match status {
        0 => exit::SOUND,
        1 => exit::UNCORRECTED,
        _ => exit::TROUBLE,
    }
}

fn btrfs_advice(status: i32, writes: bool, device: &str) -> Option<String> {
    (status == 1 && !writes).then(|| {
        format!(
            "{device}: nothing was mended; first copy what can be read (mount -o ro,rescue=all {device} /mnt, or btrfs restore {device} DIR), since fsck --repair {device} can make it worse"
        )
    })
}

/// fsck.fat(8): `-a` and `-y` are the same, and `-f` means something else than force.
fn fat(wish: &Wish) -> Vec<String> {
    let all = !wish.no && wish.yes;
    let preen = !wish.no && wish.preen && !wish.yes;
    words(&[(wish.no, "-n"), (all, "-y"), (preen, "-a"), (wish.verbose, "-v")], &wish.more)
}

fn fat_status(status: i32, writes: bool) -> i32 {
    match (status, writes) {
        (0, _) => exit::SOUND,
        (1, true) => exit::CORRECTED,
        (1, false) => exit::UNCORRECTED,
        (2, _) => exit::USAGE,
        _ => exit::TROUBLE,
    }
}

fn exfat(wish: &Wish) -> Vec<String> {
    let yes = !wish.no && wish.yes;
    let preen = !wish.no && wish.preen && !wish.yes;
    let ask = !wish.no && !wish.preen && !wish.yes;
    words(&[(wish.no, "-n"), (yes, "-y"), (preen, "-p"), (ask, "-r"), (wish.verbose, "-v")], &wish.more)
}

/// fsck.f2fs(8): without a flag it asks; `-a` looks only where the file system says that something is wrong.
fn f2fs(wish: &Wish) -> Vec<String> {
    let yes = !wish.no && wish.yes;
    let preen = !wish.no && wish.preen && !wish.yes;
    words(&[(wish.no, "--dry-run"), (yes, "-y"), (preen, "-a"), (wish.force || wish.no, "-f")], &wish.more)
}

/// fsck.minix(8): looks only, unless told to ask (-r) or to mend (-a).
fn minix(wish: &Wish) -> Vec<String> {
    let mend = !wish.no && (wish.yes || wish.preen);
    let ask = !wish.no && !mend;
    words(&[(mend, "-a"), (ask, "-r"), (wish.force, "-f"), (wish.verbose, "-v")], &wish.more)
}

/// ntfsfix(8) mends what keeps the volume from being mounted; only Windows checks it.
fn ntfs(wish: &Wish) -> Vec<String> {
    words(&[(wish.no, "-n")], &wish.more)
}

fn ntfs_status(status: i32, _writes: bool) -> i32 {
    match status {
        0 => exit::SOUND,
        1 => exit::UNCORRECTED,
        _ => exit::TROUBLE,
    }
}

fn ntfs_advice(_status: i32, writes: bool, device: &str) -> Option<String> {
    writes.then(|| {
        format!(
            "{device}: ntfsfix mends only what keeps it from being mounted: let Windows check it (chkdsk /f)"
        )
    })
}

/// A program that is called: with nothing of the person's environment.
#[derive(Clone, Copy, Debug)]
pub struct Called {
    /// Looked up in PATH.
    pub program: &'static str,
    /// Beside PATH and LC_ALL=C.
    pub environment: &'static [(&'static str, &'static str)],
    /// Seconds, after which it is ended.
    pub deadline: u64,
    /// What its exit status means, when it is not 0.
    pub status: fn(i32) -> Ending,
}

/// How a called program failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// What it was given opens nothing.
    WrongKey,
    OutOfMemory,
    /// Its own words say why.
    Failed,
}

/// Sorted by program.
pub const CALLED: &[Called] = &[
    // Without udev it makes the nodes itself. A slot may cost minutes on a slow machine.
    Called {
        program: "cryptsetup",
        environment: &[("DM_DISABLE_UDEV", "1")],
        deadline: 600,
        status: cryptsetup_status,
    },
    // No directory of its own is no lvm.conf: all that counts stands in --config.
    Called {
        program: "lvm",
        environment: &[("DM_DISABLE_UDEV", "1"), ("LVM_SUPPRESS_FD_WARNINGS", "1"), ("LVM_SYSTEM_DIR", "")],
        deadline: 120,
        status: |_| Ending::Failed,
    },
];

pub fn called(program: &str) -> Option<&'static Called> {
    CALLED.iter().find(|row| row.program == program)
}

/// cryptsetup(8), RETURN CODES.
fn cryptsetup_status(status: i32) -> Ending {
    match status {
        2 => Ending::WrongKey,
        3 => Ending::OutOfMemory,
        _ => Ending::Failed,
    }
}

/// What cryptsetup is to open.
#[derive(Clone, Copy, Debug)]
pub struct Opening<'a> {
    pub device: &'a str,
    pub name: &'a str,
    /// `luks1`, `luks2`, `bitlk`, `tcrypt`
    pub kind: &'a str,
    pub slot: Option<u32>,
    pub read_only: bool,
}

/// The passphrase comes on stdin, all of it up to its end (of TrueCrypt: its first line).
pub fn cryptsetup_open(opening: &Opening<'_>) -> Vec<String> {
    let mut argv: Vec<String> =
        ["cryptsetup", "open", "--batch-mode", "--type", opening.kind].map(str::to_string).to_vec();
    if opening.read_only {
        argv.push("--readonly".to_string());
    }
    if let Some(slot) = opening.slot {
        argv.extend(["--key-slot".to_string(), slot.to_string()]);
    }
    // A key file of TrueCrypt's is something else, which is used beside the passphrase.
    if opening.kind != "tcrypt" {
        argv.extend(["--key-file", "-"].map(str::to_string));
    }
    argv.extend(["--", opening.device, opening.name].map(str::to_string));
    argv
}

/// Where removing the map is not all: cryptsetup locks an OPAL drive again.
pub fn cryptsetup_close(name: &str) -> Vec<String> {
    ["cryptsetup", "close", "--", name].map(str::to_string).to_vec()
}

/// The line in which cryptsetup says that a drive stayed unlocked, or still knows its key: its exit status is 0 even so
/// (`LUKS2_deactivate` in lib/luks2/luks2_json_metadata.c, `opal_lock_unlock` in lib/luks2/hw_opal/hw_opal.c).
pub fn left_unlocked(said: &[String]) -> Option<&str> {
    const WORDS: [&str; 2] = ["hardware OPAL device cannot be locked", "Failed to erase OPAL key"];
    said.iter().map(String::as_str).find(|line| WORDS.iter().any(|words| line.contains(words)))
}

/// What LVM is to activate.
#[derive(Clone, Debug)]
pub struct Activation<'a> {
    pub group: &'a str,
    pub volumes: &'a [&'a str],
    /// All that LVM gets to see.
    pub devices: Vec<&'a str>,
    /// The group's own. Hostile.
    pub system_id: Option<&'a str>,
    pub read_only: bool,
    pub partial: bool,
}

/// Activates exactly these volumes. `vgchange -ay` would take all of the group, and `--readonly` cannot
/// activate; read-only is what `read_only_volume_list` names.
pub fn lvchange(asked: &Activation<'_>) -> Vec<String> {
    let mut argv: Vec<String> =
        // Of a snapshot it asks whether its origin may be activated too.
        ["lvm", "lvchange", "--config", &lvm_config(asked), "-y", "-ay", "-K"].map(str::to_string).to_vec();
    if asked.partial {
        argv.extend(["--activationmode", "partial"].map(str::to_string));
    }
    argv.extend(asked.volumes.iter().map(|volume| format!("{}/{volume}", asked.group)));
    argv
}

/// Our own lvm.conf, in one line. Metadata is never written, nothing is told to udev, dmeventd or syslog, nothing is
/// kept between runs, nothing is repaired, and no device is looked at but those that are named.
fn lvm_config(asked: &Activation<'_>) -> String {
    let seen: Vec<String> =
        asked.devices.iter().map(|device| quoted(&format!("a|^{}$|", pattern(device)))).collect();
    let filter = format!("[{},\"r|.*|\"]", seen.join(","));
    let mut config = format!(
        "global{{metadata_read_only=1 use_lvmlockd=0 use_lvmpolld=0 event_activation=0 thin_check_executable=\"\" \
         cache_check_executable=\"\" {}}} \
         activation{{udev_sync=0 udev_rules=0 verify_udev_operations=0 monitoring=0 auto_activation_volume_list=[] {}}} \
         devices{{use_devicesfile=0 obtain_device_list_from_udev=0 external_device_info_source=\"none\" hints=\"none\" \
         scan_lvs=1 md_component_detection=0 multipath_component_detection=0 filter={filter} global_filter={filter}}} \
         backup{{backup=0 archive=0}} log{{syslog=0}}",
        if asked.system_id.is_some() { "system_id_source=\"lvmlocal\"" } else { "system_id_source=\"none\"" },
        if asked.read_only {
            format!("read_only_volume_list=[{}]", quoted(asked.group))
        } else {
            String::new()
        },
    );
    if let Some(system_id) = asked.system_id {
        config += &format!(" local{{system_id={}}}", quoted(system_id));
    }
    config
}

/// A string of LVM's configuration.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A path as LVM's regular expressions take it literally; a `|` is their delimiter.
fn pattern(path: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/_-:,=@%".contains(c);
    path.chars()
        .map(|c| {
            if plain(c) {
                c.to_string()
            } else if c == '|' {
                ".".to_string()
            } else {
                format!("\\{c}")
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(flags: &str) -> Wish {
        let mut wish = Wish::default();
        for flag in flags.split_whitespace() {
            wish.typed.push(flag.to_string());
            match flag {
                "-n" => wish.no = true,
                "-y" => wish.yes = true,
                "-p" | "-a" => wish.preen = true,
                "-f" => wish.force = true,
                "-v" => wish.verbose = true,
                other => wish.more.push(other.to_string()),
            }
        }
        wish
    }

    #[test]
    fn programs_are_sorted_and_each_is_there_once() {
        assert!(FOREIGN.windows(2).all(|pair| pair[0].program < pair[1].program));
    }

    #[test]
    fn each_program_is_asked_in_its_own_words() {
        let cases = [
            ("e2fsck", "", "", true),
            ("e2fsck", "-f -y", "-f -y", true),
            ("e2fsck", "-n -f", "-n -f", false),
            ("e2fsck", "-b 32768", "-b 32768", true),
            ("xfs_repair", "", "-e", true),
            ("xfs_repair", "-y -f", "-e", true),
            ("xfs_repair", "-n -v", "-n -v", false),
            ("xfs_repair", "-L", "-e -L", true),
            ("btrfs", "-y", "check --readonly", false),
            ("btrfs", "-n --repair", "check --readonly", false),
            ("btrfs", "--repair --force", "check --repair --force", true),
            ("btrfs", "--clear-space-cache=v1", "check --clear-space-cache=v1", true),
            ("fsck.fat", "-p", "-a", true),
            ("fsck.fat", "-y -f", "-y", true),
            ("fsck.fat", "-n -y", "-n", false),
            ("fsck.exfat", "", "-r", true),
            ("fsck.f2fs", "-n", "--dry-run -f", false),
            ("fsck.f2fs", "-f -y", "-y -f", true),
            ("fsck.minix", "-n", "", false),
            ("fsck.minix", "-y", "-a", true),
            ("ntfsfix", "-y", "", true),
            ("ntfsfix", "-n", "-n", false),
        ];
        for (program, flags, want, writes) in cases {
            let (checker, wish) = (checker(program).unwrap(), wish(flags));
            assert_eq!((checker.arguments)(&wish).join(" "), want, "{program} {flags}");
            assert_eq!((checker.writes)(&wish), writes, "{program} {flags}");
        }
    }

    #[test]
    fn lvm_sees_what_it_is_given_and_nothing_else() {
        assert!(CALLED.windows(2).all(|pair| pair[0].program < pair[1].program));
        let asked = Activation {
            group: "vg",
            volumes: &["root", "swap"],
            devices: vec!["/dev/sda1", "/dev/mapper/a.b+c"],
            system_id: Some("other\"host"),
            read_only: true,
            partial: true,
        };
        let argv = lvchange(&asked);
        assert_eq!(argv[..3], ["lvm", "lvchange", "--config"]);
        assert_eq!(argv[4..], ["-y", "-ay", "-K", "--activationmode", "partial", "vg/root", "vg/swap"]);
        let want = [
            r#"filter=["a|^/dev/sda1$|","a|^/dev/mapper/a\\.b\\+c$|","r|.*|"]"#,
            r#"read_only_volume_list=["vg"]"#,
            r#"local{system_id="other\"host"}"#,
            "metadata_read_only=1",
        ];
        for part in want {
            assert!(argv[3].contains(part), "{part} in {}", argv[3]);
        }
        let writable = Activation { read_only: false, system_id: None, ..asked };
        let config = lvchange(&writable)[3].clone();
        assert!(!config.contains("read_only_volume_list") && config.contains("metadata_read_only=1"));
    }

    #[test]
    fn cryptsetup_is_never_told_the_passphrase_as_a_word() {
        let opening =
            Opening { device: "/dev/sda3", name: "x", kind: "luks2", slot: Some(1), read_only: true };
        assert_eq!(
            cryptsetup_open(&opening).join(" "),
            "cryptsetup open --batch-mode --type luks2 --readonly --key-slot 1 --key-file - -- /dev/sda3 x"
        );
        let tcrypt = Opening { kind: "tcrypt", slot: None, ..opening };
        assert_eq!(
            cryptsetup_open(&tcrypt).join(" "),
            "cryptsetup open --batch-mode --type tcrypt --readonly -- /dev/sda3 x"
        );
        assert_eq!((called("cryptsetup").unwrap().status)(2), Ending::WrongKey);
    }

    #[test]
    fn statuses_become_the_bits_of_fsck() {
        let cases = [
            ("e2fsck", 5, true, 5),
            ("xfs_repair", 0, true, 0),
            ("xfs_repair", 4, true, exit::CORRECTED),
            ("xfs_repair", 2, true, exit::UNCORRECTED),
            ("xfs_repair", 1, false, exit::UNCORRECTED),
            ("xfs_repair", 1, true, exit::TROUBLE),
            ("btrfs", 1, false, exit::UNCORRECTED),
            ("fsck.fat", 1, true, exit::CORRECTED),
            ("fsck.fat", 1, false, exit::UNCORRECTED),
            ("fsck.fat", 2, true, exit::USAGE),
            ("ntfsfix", 1, true, exit::UNCORRECTED),
        ];
        for (program, status, writes, want) in cases {
            let checker = checker(program).unwrap();
            assert_eq!((checker.status)(status, writes), want, "{program} {status} {writes}");
        }
        assert_eq!(by_signal(128 + 2), Some(exit::CANCELLED));
        assert_eq!(by_signal(128 + 11), Some(exit::TROUBLE));
        assert_eq!((by_signal(1), by_signal(128)), (None, None));
    }

    #[test]
    fn a_dirty_log_of_xfs_is_answered_with_mount_before_the_flag_that_drops_it() {
        let advice = (checker("xfs_repair").unwrap().advice)(2, true, "/dev/md2").unwrap();
        let at = |text: &str| advice.find(text).unwrap();
        assert!(at("mount /dev/md2 /mnt") < at("fsck -L /dev/md2"), "{advice}");
        assert_eq!((checker("xfs_repair").unwrap().advice)(0, true, "/dev/md2"), None);
    }
}
