//! What an fsck command means. Its grammar is fsck(8)'s own: what it does not know it hands to the
//! checker, so every word is a device, a flag of fsck's, or the checker's.

use crate::build::ambiguous;
use crate::consent;
use crate::foreign::{self, Checker, Wish, exit};
use crate::fstype;
use crate::mount::{Refusal as MountRefusal, beside_to_write, format_of, opens, part, shown, siblings};
use crate::overlay::{self, Overlay, Room};
use crate::plan::{Input, Step};
use crate::storage::{Device, Observed, Storage};
use crate::text::Untrusted;
use contract::facts::{Mount, Swap};
use ondisk::{DiskReport, Signature, Usage};

/// A command line, understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// Paths, mount points and tags, in order.
    pub devices: Vec<String>,
    pub wish: Wish,
    /// `-t TYPE`
    pub fstype: Option<String>,
    /// `-N`: say what would be done.
    pub dry_run: bool,
    /// `-V`: say what is done.
    pub verbose: bool,
    /// `-M`: a mounted device is passed over.
    pub skip_mounted: bool,
}

/// As fsck(8) reads its arguments. `None`: it is for the original (`-A` and all that goes by fstab, a list of types).
pub fn parse(words: &[String]) -> Option<Command> {
    let mut command = Command::default();
    let mut rest = words.iter();
    let mut passed = false;
    while let Some(word) = rest.next() {
        if word == "--" && !passed {
            passed = true;
        } else if word == "--dry-run" && !passed {
            command.dry_run = true;
        } else if !passed && (word.starts_with('/') || is_tag(word)) {
            command.devices.push(word.clone());
        } else if passed || !word.starts_with('-') || word.starts_with("--") {
            command.wish.pass(word);
        } else {
            command.flags(word, &mut rest)?;
        }
    }
    (!command.devices.is_empty()).then_some(command)
}

fn is_tag(word: &str) -> bool {
    !word.starts_with('-') && word.contains('=')
}

impl Command {
    /// One word of short flags. Those that are not fsck's stay together in one word, as typed.
    fn flags(&mut self, word: &str, rest: &mut std::slice::Iter<'_, String>) -> Option<()> {
        let letters: Vec<char> = word.chars().skip(1).collect();
        let mut passed = String::new();
        for (number, letter) in letters.iter().enumerate() {
            let behind: String = letters[number + 1..].iter().collect();
            match letter {
                'A' | 'R' | 'P' | '?' => return None,
                'N' => self.dry_run = true,
                'V' => self.verbose = true,
                'M' => self.skip_mounted = true,
                // One after the other it goes anyway, without a title, and alone on its disk.
                's' | 'T' | 'l' => {}
                'C' | 'r' => {
                    let given = if behind.is_empty() {
                        rest.clone().next().filter(|next| !next.starts_with('-') && number_of(next).is_some())
                    } else {
                        None
                    };
                    let descriptor = number_of(&behind).or_else(|| {
                        let next = given?;
                        rest.next();
                        number_of(next)
                    });
                    if *letter == 'C' {
                        self.wish.progress = Some(descriptor.unwrap_or(0));
                    }
                    if !behind.is_empty() && number_of(&behind).is_some() {
                        break;
                    }
                }
                't' => {
                    let list = if behind.is_empty() { rest.next()?.clone() } else { behind };
                    if list.contains([',', '=']) || list.starts_with("no") {
                        return None;
                    }
                    self.fstype = Some(list);
                    break;
                }
                other => passed.push(*other),
            }
        }
        if !passed.is_empty() {
            self.wish.pass(&format!("-{passed}"));
        }
        Some(())
    }
}

fn number_of(text: &str) -> Option<u32> {
    text.parse().ok()
}

impl Wish {
    /// A word for the checker; the usual flags are understood as well, since not every checker has them.
    fn pass(&mut self, word: &str) {
        self.typed.push(word.to_string());
        let letters = word.strip_prefix('-').filter(|rest| !rest.is_empty() && !rest.starts_with('-'));
        let Some(letters) = letters else {
            self.more.push(word.to_string());
            return;
        };
        let mut more = String::new();
        for letter in letters.chars() {
            match letter {
                'n' => self.no = true,
                'y' => self.yes = true,
                'p' | 'a' => self.preen = true,
                'f' => self.force = true,
                'v' => self.verbose = true,
                other => more.push(other),
            }
        }
        if !more.is_empty() {
            self.more.push(format!("-{more}"));
        }
    }
}

/// Why a device is not checked, in one line that says what to do instead. fsck(8) ends with 8.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    Mounted { path: String, target: String, read_only: bool },
    Swap { path: String },
    Part { path: String, format: String, upper: Vec<String> },
    Used { path: String, upper: Vec<String> },
    Partitioned { path: String },
    Ambiguous { path: String, formats: Vec<String> },
    Hibernated { path: String },
    Nothing { path: String },
    Unread { path: String, reason: String },
    NoChecker { path: String, fstype: String },
    Missing { program: String, fstype: String },
    Other(MountRefusal),
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refusal::Mounted { path, target, read_only: true } => {
                write!(
                    f,
                    "{path} is mounted on {0}: umount {0}, or look with fsck -n {path}",
                    Untrusted(target)
                )
            }
            Refusal::Mounted { path, target, read_only: false } => {
                write!(f, "{path} is mounted on {0}: umount {0} first", Untrusted(target))
            }
            Refusal::Swap { path } => write!(f, "{path} is swap space, which has nothing to check"),
            Refusal::Part { path, format, upper } => write!(f, "{}", part(path, format, upper)),
            Refusal::Used { path, upper } => {
                write!(f, "{path} is used by {0}: did you mean fsck {0}?", upper.join(" and "))
            }
            Refusal::Partitioned { path } => {
                write!(
                    f,
                    "{path} has a partition table, and no file system of its own: fdisk -l {path} lists its partitions"
                )
            }
            Refusal::Ambiguous { path, formats } => write!(
                f,
                "{path} looks like {}: -t TYPE says which, and wipefs {path} lists where each is",
                formats.join(" and like ")
            ),
            Refusal::Hibernated { path } => write!(
                f,
                "Windows is hibernated on {path}, and goes on with what it remembers of it, which mending would destroy: start Windows and shut it down (shutdown /s /t 0); fsck -n {path} looks, and rescue overlay {path} lets it be tried in memory"
            ),
            Refusal::Nothing { path } => {
                write!(f, "no file system was found on {path}: -t TYPE checks it as one without a look")
            }
            Refusal::Unread { path, reason } => {
                write!(f, "{path} could not be read, so its type is not known: {}", Untrusted(reason))
            }
            Refusal::NoChecker { path, fstype } => {
                write!(f, "{path} is {}, for which there is no checker", Untrusted(fstype))
            }
            Refusal::Missing { program, fstype } => {
                write!(f, "{program}, which checks {fstype}, is not there: rescue status shows the layers")
            }
            Refusal::Other(refusal) => refusal.fmt(f),
        }
    }
}

/// What there is to check.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    Device(&'a Device),
    File { path: &'a str, report: &'a DiskReport },
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub checker: &'static Checker,
    pub writes: bool,
    pub opens: Vec<Step>,
    pub run: Step,
}

/// The steps that check one device. `by` is the command, for the consent.
pub fn plan(storage: &Storage, subject: Subject<'_>, command: &Command, by: &str) -> Result<Plan, Refusal> {
    let (path, report) = match subject {
        Subject::Device(device) => {
            refuse_used(storage, device, &command.wish)?;
            (shown(device), device.report())
        }
        Subject::File { path, report } => (path.to_string(), Some(report)),
    };
    let found = match &command.fstype {
        Some(given) => given.clone(),
        None => probed(&path, report, subject)?,
    };
    let checker = fstype::row(&found).and_then(|row| row.checker).and_then(foreign::checker);
    let Some(checker) = checker else { return Err(Refusal::NoChecker { path, fstype: found }) };
    let wish = Wish { file: matches!(subject, Subject::File { .. }), ..command.wish.clone() };
    let writes = (checker.writes)(&wish);
    let first = report.and_then(|report| report.signatures.first());
    let is_throwaway = matches!(subject, Subject::Device(device) if overlay::is_overlay(device));
    if writes && !is_throwaway && first.is_some_and(|first| first.hibernated) {
        return Err(Refusal::Hibernated { path });
    }
    let opens = match subject {
        Subject::Device(device) if writes => {
            // e2fsck finds the journal by its UUID, and writes to it.
            let beside = match checker.program {
                "e2fsck" => beside_to_write(storage, device, "ext4", &[]).map_err(Refusal::Other)?,
                _ => Vec::new(),
            };
            opens_all(storage, device, &beside, by).map_err(Refusal::Other)?
        }
        Subject::Device(_) | Subject::File { .. } => Vec::new(),
    };
    let argv = std::iter::once(checker.program.to_string()).chain((checker.arguments)(&wish));
    Ok(Plan {
        checker,
        writes,
        opens,
        run: Step::Run { argv: argv.chain([path]).collect(), input: Input::Nothing },
    })
}

/// Of a btrfs on several devices all are mended, of an ext its journal as well, and the command names one: the others are
/// saved by a step of their own.
fn opens_all(
    storage: &Storage,
    device: &Device,
    beside: &[(&str, &Device)],
    by: &str,
) -> Result<Vec<Step>, MountRefusal> {
    let mut steps = opens(storage, &device.id, by)?;
    let mut others = siblings(storage, device)?;
    others.extend(beside.iter().map(|(_, other)| *other));
    for other in &others {
        let more = opens(storage, &other.id, by)?;
        steps.extend(more.into_iter().filter(|step| !steps.contains(step)).collect::<Vec<_>>());
    }
    if !others.is_empty() {
        steps.push(Step::Save { paths: others.iter().map(|other| other.path.clone()).collect() });
    }
    Ok(steps)
}

fn refuse_used(storage: &Storage, device: &Device, wish: &Wish) -> Result<(), Refusal> {
    let path = shown(device);
    if let Observed::Hung { .. } = device.report {
        return Err(Refusal::Other(consent::Refusal::Hangs(device.path.clone()).into()));
    }
    if let Some(mount) = mounted(storage, device) {
        let read_only = crate::mount::is_read_only(mount);
        if !(wish.no && read_only) {
            return Err(Refusal::Mounted { path, target: mount.target.clone(), read_only });
        }
    }
    let is_swap = |swap: &&Swap| swap.path == device.path || swap.path == path;
    if storage.swaps.iter().any(|swap| is_swap(&swap)) {
        return Err(Refusal::Swap { path });
    }
    if let Some(refusal) = consent::of_array(storage, device) {
        return Err(Refusal::Other(refusal.into()));
    }
    let upper: Vec<String> = device.upper.iter().filter_map(|id| storage.get(id)).map(shown).collect();
    match device.signature() {
        Some(signature) if matches!(signature.usage, Usage::Raid | Usage::Crypto) => {
            Err(Refusal::Part { path, format: format_of(signature), upper })
        }
        _ if !upper.is_empty() => Err(Refusal::Used { path, upper }),
        _ if !device.node => {
            let disk = device.parent.as_ref().and_then(|id| storage.get(id));
            let disk = disk.map_or_else(String::new, |disk| disk.path.clone());
            Err(Refusal::Other(MountRefusal::NoNode { path, disk }))
        }
        _ => Ok(()),
    }
}

/// Where a device is mounted, the writing mount first. btrfs has a device number of its own and is known by its source.
pub fn mounted<'a>(storage: &'a Storage, device: &Device) -> Option<&'a Mount> {
    let (path, numbers) = (shown(device), (device.block.major, device.block.minor));
    let is = |mount: &&Mount| {
        (mount.major, mount.minor) == numbers || mount.source == device.path || mount.source == path
    };
    let writing = storage.mounts.iter().filter(is).find(|mount| !crate::mount::is_read_only(mount));
    writing.or_else(|| storage.mounts.iter().find(is))
}

fn probed(path: &str, report: Option<&DiskReport>, subject: Subject<'_>) -> Result<String, Refusal> {
    let path = path.to_string();
    let unread = |reason: &str| Refusal::Unread { path: path.clone(), reason: reason.to_string() };
    let Some(report) = report else {
        return Err(match subject {
            Subject::Device(Device { report: Observed::Failed { reason }, .. })
            | Subject::Device(Device { report: Observed::Skipped { reason }, .. }) => unread(reason),
            Subject::Device(_) | Subject::File { .. } => unread("nothing was read"),
        });
    };
    if ambiguous(report) {
        let formats = report.signatures.iter().map(|signature| signature.format.clone()).collect();
        return Err(Refusal::Ambiguous { path, formats });
    }
    match report.signatures.first() {
        Some(signature) => match signature.usage {
            Usage::Filesystem => Ok(signature.format.clone()),
            Usage::Raid | Usage::Crypto => {
                Err(Refusal::Part { path, format: format_of(signature), upper: Vec::new() })
            }
            Usage::Other => match signature.format.as_str() {
                "swap" => Err(Refusal::Swap { path }),
                _ => Err(Refusal::NoChecker { path, fstype: signature.format.clone() }),
            },
        },
        None if report.table.is_some() => Err(Refusal::Partitioned { path }),
        None => match report.errors.first() {
            Some(error) => Err(unread(error)),
            None => Err(Refusal::Nothing { path }),
        },
    }
}

/// How a check ended, in fsck(8)'s bits, and what a person has to know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub bits: i32,
    pub lines: Vec<String>,
}

/// A checker's status, read together with what the probe saw before it and, where it wrote, sees now: e2fsck -n and
/// fsck.exfat end with 0 over what waits to be replayed or was never unmounted, e2fsck -p with 0 after it took inodes away,
/// xfs_repair -L with 0 after the last changes are gone, and xfs_repair -n with 1 because of its log alone.
pub fn verdict(
    checker: &Checker,
    (status, writes, wish): (i32, bool, &Wish),
    before: Option<&Signature>,
    after: Option<&Signature>,
    path: &str,
) -> Verdict {
    let mut lines: Vec<String> = (checker.advice)(status, writes, path).into_iter().collect();
    if let Some(bits) = foreign::by_signal(status) {
        return Verdict { bits, lines };
    }
    let mut bits = (checker.status)(status, writes);
    let program = checker.program;
    let was_dirty = before.is_some_and(|before| before.dirty);
    fn due(signature: Option<&Signature>) -> Option<&str> {
        signature?.is_due()
    }
    let drops_log = program == "xfs_repair" && wish.more.iter().any(|word| word == "-L");
    match (due(if writes { after } else { before }), due(before)) {
        _ if bits & !(exit::CORRECTED | exit::UNCORRECTED) != 0 => {}
        (Some(why), _) if bits & exit::UNCORRECTED == 0 => {
            bits |= exit::UNCORRECTED;
            lines.push(match writes {
                true => format!("{path}: {program} ended with {status}, and {why} all the same"),
                false => format!(
                    "{path}: {why}, which {program} looked past: what it says is not the last state; rescue overlay {path} lets it be mended in memory"
                ),
            });
        }
        (Some(_), _) if !writes && program == "xfs_repair" && was_dirty => lines.push(format!(
            "{path}: its log has to be replayed first, and what was found may be no more than that: mount -o ro {path} /mnt shows it replayed in memory"
        )),
        (None, Some(_)) if writes && drops_log && was_dirty => {
            bits |= exit::CORRECTED;
            lines.push(format!("{path}: its log was thrown away: the last changes are lost, and files may be in lost+found"));
        }
        (None, Some(why)) if writes && bits == exit::SOUND => {
            lines.push(format!(
                "{path}: before, {why}; {program} ended with 0 and changed it: what it printed says whether anything was taken away"
            ));
        }
        _ => {}
    }
    Verdict { bits, lines }
}

impl Verdict {
    /// With what did not arrive, which no checker's status tells.
    pub fn but(mut self, lost: Vec<String>) -> Verdict {
        if !lost.is_empty() {
            self.bits |= exit::TROUBLE;
            self.lines.extend(lost);
        }
        self
    }
}

/// The copies in memory that a checker of this device writes to: its own, and those of the other devices of a btrfs.
pub fn copies(storage: &Storage, device: &Device) -> Vec<Overlay> {
    // Where they are not to be told apart, the plan was refused.
    let others = siblings(storage, device).unwrap_or_default();
    let mut found: Vec<Overlay> = Vec::new();
    for one in std::iter::once(device).chain(others) {
        for overlay in overlay::under(storage, one) {
            if found.iter().all(|known| known.id != overlay.id) {
                found.push(overlay);
            }
        }
    }
    found
}

/// What of a checker's work on copies in memory is not there. Whoever writes through the page cache ends before the writes
/// have found their room (fsck.fat never waits for them), so its status is no evidence of what it would do to the disk.
///
/// `copies`: those that it wrote to; `now`: all that are there after what it wrote was waited for; `failed`: why that failed.
pub fn lost(
    copies: &[Overlay],
    now: &[Overlay],
    failed: Option<&str>,
    path: &str,
    program: &str,
) -> Vec<String> {
    let no_evidence = |of: &str| {
        format!("how it ended says nothing of {of}; rescue overlay --drop {of}, free memory, and try again")
    };
    let line = |copy: &Overlay| {
        let of = copy.of.as_ref().unwrap_or(&copy.path);
        let what = match now.iter().find(|one| one.id == copy.id).map(|one| one.room) {
            Some(Room::Free { .. }) => return None,
            Some(Room::Full) => "is full, and not all that",
            Some(Room::Lost) => "is lost, and nothing that",
            Some(Room::Unknown) => "does not say whether it is full, and so whether all that",
            None => "is gone, and nothing that",
        };
        let subject = if path == copy.path { String::new() } else { format!("{path}: ") };
        Some(format!("{subject}{} {what} {program} wrote is there: {}", copy.path, no_evidence(of)))
    };
    let lines: Vec<String> = copies.iter().filter_map(line).collect();
    match (failed, copies.first()) {
        (Some(why), Some(copy)) if lines.is_empty() => {
            let of = copy.of.as_ref().unwrap_or(&copy.path);
            vec![format!("{path}: not all that {program} wrote is there, {why}: {}", no_evidence(of))]
        }
        _ => lines,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::build;
    use crate::consent::tests::disk;
    use contract::facts::{Block, Facts};
    use ondisk::{Health, Signature};
    use std::collections::BTreeMap;

    fn command(line: &str) -> Option<Command> {
        parse(&line.split_whitespace().map(str::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn words_are_told_apart_as_fsck_does() {
        // (command, devices, words for the checker)
        let cases = [
            ("/dev/sda1", "/dev/sda1", ""),
            ("-y -f /dev/sda1 /dev/sda2", "/dev/sda1 /dev/sda2", "-y -f"),
            ("-fy UUID=1", "UUID=1", "-fy"),
            ("-Vfy /dev/sda1", "/dev/sda1", "-fy"),
            ("-b 32768 /dev/sda1", "/dev/sda1", "-b 32768"),
            ("/dev/sda1 -- -E discard /x", "/dev/sda1", "-E discard /x"),
            ("-C0 -T -M /dev/sda1", "/dev/sda1", ""),
            ("-C 5 /dev/sda1", "/dev/sda1", ""),
            ("-C /dev/sda1", "/dev/sda1", ""),
            ("-t ext4 /dev/sda1", "/dev/sda1", ""),
            ("--repair /dev/sda1", "/dev/sda1", "--repair"),
        ];
        for (line, devices, typed) in cases {
            let command = command(line).unwrap();
            assert_eq!(
                (command.devices.join(" "), command.wish.typed.join(" ")),
                (devices.into(), typed.into()),
                "{line}"
            );
        }
        let all = command("-nfv -C5 -N -t xfs /dev/sda1").unwrap();
        assert!(all.wish.no && all.wish.force && all.wish.verbose && all.dry_run);
        assert_eq!((all.wish.progress, all.fstype.as_deref()), (Some(5), Some("xfs")));
    }

    #[test]
    fn what_goes_by_fstab_is_the_originals() {
        for line in ["", "-A", "-AR -t noopts=_netdev", "-t ext4,xfs /dev/sda1", "-t noext4 /dev/sda1", "-?"]
        {
            assert_eq!(command(line), None, "{line}");
        }
    }

    /// Each as the real program ends (util-linux 2.41's peers of Debian 13): the trap, and what is made of it.
    #[test]
    fn a_status_is_read_together_with_what_the_probe_knows() {
        let sound = Signature { health: Health::Sound, ..Signature::new("any", Usage::Filesystem, 0) };
        let dirty = Signature { dirty: true, ..sound.clone() };
        let mut noted = sound.clone();
        noted.check_is_due("it was not unmounted cleanly", ": fsck is due");
        // A note that reads like that is no flag.
        let worded = Signature { notes: noted.notes.clone(), ..sound.clone() };
        // (program, flags, status, before, after, bits, in the line)
        let cases = [
            ("e2fsck", "-n", 0, &sound, &sound, exit::SOUND, ""),
            (
                "e2fsck",
                "-n",
                0,
                &dirty,
                &dirty,
                exit::UNCORRECTED,
                "a journal or log waits to be replayed, which e2fsck looked past",
            ),
            ("e2fsck", "-n", 4, &dirty, &dirty, exit::UNCORRECTED, ""),
            ("e2fsck", "-p", 0, &dirty, &sound, exit::SOUND, "whether anything was taken away"),
            ("e2fsck", "-p", 1, &dirty, &sound, exit::CORRECTED, ""),
            ("e2fsck", "-p", 8, &dirty, &dirty, exit::TROUBLE, ""),
            ("e2fsck", "-p", 128 + 11, &dirty, &dirty, exit::TROUBLE, ""),
            ("fsck.exfat", "-n", 0, &noted, &noted, exit::UNCORRECTED, "not unmounted cleanly"),
            (
                "fsck.exfat",
                "-y",
                0,
                &noted,
                &noted,
                exit::UNCORRECTED,
                "ended with 0, and it was not unmounted",
            ),
            ("fsck.exfat", "-y", 0, &sound, &sound, exit::SOUND, ""),
            ("fsck.exfat", "-n", 0, &worded, &worded, exit::SOUND, ""),
            ("xfs_repair", "-n", 1, &dirty, &dirty, exit::UNCORRECTED, "may be no more than that"),
            ("xfs_repair", "-n", 1, &sound, &sound, exit::UNCORRECTED, ""),
            ("xfs_repair", "-L", 0, &dirty, &sound, exit::CORRECTED, "last changes are lost"),
            ("xfs_repair", "-L", 4, &dirty, &sound, exit::CORRECTED, "last changes are lost"),
            ("xfs_repair", "-L", 0, &sound, &sound, exit::SOUND, ""),
        ];
        for (program, flags, status, before, after, bits, line) in cases {
            let label = format!("{program} {flags} {status}");
            let wish = command(&format!("{flags} /dev/sda")).unwrap().wish;
            let checker = foreign::checker(program).unwrap();
            let writes = (checker.writes)(&wish);
            let verdict = verdict(checker, (status, writes, &wish), Some(before), Some(after), "/dev/sda");
            assert_eq!(verdict.bits, bits, "{label}: {verdict:?}");
            let said = verdict.lines.join("\n");
            assert!(said.contains(line) && said.is_empty() == line.is_empty(), "{label}: {said}");
        }
    }

    fn one(format: &str, usage: Usage) -> Storage {
        let signature = Signature { health: Health::Sound, ..Signature::new(format, usage, 0) };
        let facts = Facts { blocks: vec![disk("sda", 1)], ..Facts::default() };
        build(facts, &BTreeMap::from([("sda".to_string(), seen(signature))]), &[])
    }

    fn seen(signature: Signature) -> Observed {
        let report = DiskReport { signatures: vec![signature], ..DiskReport::default() };
        Observed::Examined { report: Box::new(report) }
    }

    fn steps(storage: &Storage, line: &str) -> Result<String, String> {
        let plan = plan(storage, Subject::Device(&storage.devices[0]), &command(line).unwrap(), line);
        let plan = plan.map_err(|refusal| refusal.to_string())?;
        let steps = plan.opens.iter().chain([&plan.run]).map(Step::text);
        Ok(steps.collect::<Vec<_>>().join("\n"))
    }

    #[test]
    fn looking_needs_no_consent_and_mending_is_one() {
        let cases = [
            ("ext4", "-n /dev/sda", "e2fsck -n /dev/sda"),
            ("ext4", "-y /dev/sda", "rescue writable /dev/sda\ne2fsck -y /dev/sda"),
            ("xfs", "-n /dev/sda", "xfs_repair -n /dev/sda"),
            ("xfs", "/dev/sda", "rescue writable /dev/sda\nxfs_repair -e /dev/sda"),
            ("btrfs", "-y /dev/sda", "btrfs check --readonly /dev/sda"),
            ("btrfs", "--repair /dev/sda", "rescue writable /dev/sda\nbtrfs check --repair /dev/sda"),
            ("vfat", "-p /dev/sda", "rescue writable /dev/sda\nfsck.fat -a /dev/sda"),
        ];
        for (format, line, want) in cases {
            assert_eq!(steps(&one(format, Usage::Filesystem), line).unwrap(), want, "{format} {line}");
        }
        let given = steps(&one("xfs", Usage::Filesystem), "-t ext2 -n /dev/sda").unwrap();
        assert_eq!(given, "e2fsck -n /dev/sda");
    }

    #[test]
    fn mending_opens_and_saves_the_journal_that_is_on_another_disk() {
        let ext4 =
            Signature { journal_on: Some("aa".to_string()), ..Signature::new("ext4", Usage::Filesystem, 0) };
        let mut journal = Signature::new("jbd", Usage::Other, 0);
        journal.tag("LOGUUID", "aa");
        let facts = Facts { blocks: vec![disk("sda", 1), disk("sdb", 2)], ..Facts::default() };
        let mut all = BTreeMap::from([("sda".to_string(), seen(ext4)), ("sdb".to_string(), seen(journal))]);
        let storage = build(facts.clone(), &all, &[]);
        let want = "rescue writable /dev/sda\nrescue writable /dev/sdb\nrescue undo --save /dev/sdb\n\
                    e2fsck -y /dev/sda";
        assert_eq!(steps(&storage, "-y /dev/sda").unwrap(), want);
        assert_eq!(steps(&storage, "-n /dev/sda").unwrap(), "e2fsck -n /dev/sda");
        all.remove("sdb");
        let told = steps(&build(facts, &all, &[]), "-y /dev/sda").unwrap_err();
        assert!(told.contains("with UUID aa, which was not found"), "{told}");
    }

    #[test]
    fn what_is_mapped_for_reading_is_looked_at_and_mended_only_once_it_is_not() {
        let mut storage = one("ext4", Usage::Filesystem);
        let dm =
            contract::facts::Dm { name: "vg-root".to_string(), uuid: "LVM-1".to_string(), suspended: false };
        (storage.devices[0].block.dm, storage.devices[0].guard) = (Some(dm), None);
        assert_eq!(steps(&storage, "-n /dev/sda").unwrap(), "e2fsck -n /dev/mapper/vg-root");
        assert_eq!(
            steps(&storage, "-y /dev/sda").unwrap_err(),
            "/dev/mapper/vg-root is open for reading only: rescue assemble --stop vg && rescue assemble --rw vg"
        );
    }

    #[test]
    fn what_is_no_file_system_is_refused_with_what_to_do_instead() {
        let cases = [
            (
                "linux_raid_member",
                Usage::Raid,
                "/dev/sda is a member of a RAID array: rescue assemble starts it",
            ),
            ("swap", Usage::Other, "/dev/sda is swap space, which has nothing to check"),
            ("squashfs", Usage::Filesystem, "/dev/sda is squashfs, for which there is no checker"),
        ];
        for (format, usage, want) in cases {
            assert_eq!(steps(&one(format, usage), "-n /dev/sda").unwrap_err(), want, "{format}");
        }
    }

    #[test]
    fn half_of_a_mirror_is_not_checked() {
        use contract::facts::Partition;
        use ondisk::Extent;
        use ondisk::table::{Entry, Table, TableKind};
        use ondisk::volume::Volume;
        use ondisk::volume::mdraid::{Level, Metadata, Superblock};
        let sda = one("ext4", Usage::Filesystem).devices.remove(0).block;
        let partition = Partition { disk: "sda".to_string(), number: 1, start: 1 << 20 };
        let sda1 =
            Block { name: "sda1".to_string(), size: 1 << 20, partition: Some(partition), ..sda.clone() };
        let superblock = Superblock { raid_disks: 2, ..Superblock::blank(Metadata::V0_90, Level::Raid1) };
        let member = Signature {
            volume: Some(Volume::Md(superblock)),
            ..Signature::new("linux_raid_member", Usage::Raid, 0)
        };
        let entry = Entry::new(1, Extent { start: 1 << 20, length: 1 << 20 }, "83".to_string());
        let table = Table { health: Health::Unchecked, ..Table::new(TableKind::Mbr, 512, vec![entry]) };
        let whole = DiskReport { table: Some(table), signatures: vec![member], ..DiskReport::default() };
        let ext4 = Signature { health: Health::Sound, ..Signature::new("ext4", Usage::Filesystem, 0) };
        let inside = DiskReport { signatures: vec![ext4], ..DiskReport::default() };
        let seen = [("sda", whole), ("sda1", inside)]
            .map(|(name, report)| (name.to_string(), Observed::Examined { report: Box::new(report) }));
        let facts = Facts { blocks: vec![sda, sda1], ..Facts::default() };
        let mut storage = build(facts, &BTreeMap::from(seen), &[]);
        storage.devices.swap(0, 1);
        for line in ["-y /dev/sda1", "-n /dev/sda1", "-t ext4 /dev/sda1"] {
            let refusal = steps(&storage, line).unwrap_err();
            assert!(refusal.contains("/dev/sda is a member of: rescue assemble"), "{line}: {refusal}");
        }
    }

    #[test]
    fn a_hibernated_windows_is_looked_at_and_never_mended_but_in_memory() {
        let mut storage = one("ntfs", Usage::Filesystem);
        let Observed::Examined { report } = &mut storage.devices[0].report else { panic!() };
        report.signatures[0].hibernated = true;
        assert_eq!(steps(&storage, "-n /dev/sda").unwrap(), "ntfsfix -n /dev/sda");
        let refused = steps(&storage, "-y /dev/sda").unwrap_err();
        for part in ["Windows is hibernated on /dev/sda", "shutdown /s", "rescue overlay /dev/sda"] {
            assert!(refused.contains(part), "{part} in {refused}");
        }
        let uuid = format!("{}seq:2", contract::facts::OVERLAY_UUID);
        storage.devices[0].block.dm = Some(contract::facts::Dm { uuid, ..Default::default() });
        assert!(steps(&storage, "-y /dev/sda").is_ok(), "a throw-away copy");
    }

    #[test]
    fn a_mounted_device_is_refused_unless_it_is_only_looked_at_and_cannot_change() {
        let mut storage = one("ext4", Usage::Filesystem);
        let (major, minor) = (storage.devices[0].block.major, storage.devices[0].block.minor);
        let mount = |options: &str| Mount {
            major,
            minor,
            target: "/mnt".to_string(),
            super_options: options.to_string(),
            ..Mount::default()
        };
        storage.mounts = vec![mount("ro")];
        assert!(steps(&storage, "-n /dev/sda").is_ok());
        assert_eq!(
            steps(&storage, "-y /dev/sda").unwrap_err(),
            "/dev/sda is mounted on /mnt: umount /mnt, or look with fsck -n /dev/sda"
        );
        storage.mounts = vec![mount("ro"), mount("rw,errors=continue")];
        assert_eq!(
            steps(&storage, "-n /dev/sda").unwrap_err(),
            "/dev/sda is mounted on /mnt: umount /mnt first"
        );
    }
}
