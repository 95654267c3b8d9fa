//! FOREIGN: how the checkers of file systems are asked, and what their exit statuses mean in fsck(8)'s bits.
//!
//! They own the terminal, with the person's environment, until they end or the person ends them: a check of a
//! large disk takes hours, so none has a deadline.

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
