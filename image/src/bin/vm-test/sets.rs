//! Every set of disks, plugged into one running machine one after the other: what is listed is compared with util-linux's
//! own programs before and after everything that reads was done to it (status, assembly, opening, mounting, checking
//! without mending), and every byte stays. What was tried is printed.

use crate::arrays::{hashes, plug_in, take_away};
use crate::bench::Bench;
use crate::disks::set;
use anyhow::{Result, ensure};
use image::fixtures;
use image::vm::{Bus, Disk};
use std::collections::BTreeMap;
use std::time::Duration;

/// Run in the machine for one set. A line for each command, with its status; of listings, whether ours says what
/// util-linux's does, byte for byte and status for status; the text of each /known, of a file system that was mounted.
const WALK: &str = include_str!("sets.sh");

/// What ours says where util-linux's program says something else: set, words of the command, reason. One that is equal
/// after all breaks the test.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("ebr-loop", "fdisk -", "util-linux follows the loop up to its limit, ours ends where it comes back"),
    ("lvm-levels", "blkid -c", PARITY),
    ("lvm-levels", "rimage_0", PARITY),
    ("lvm-levels", "lsblk -", PARITY),
    ("seeds", "fdisk -", BOOT_SECTOR),
    ("table-4k", "blkid -c", SECTORS),
    ("table-4k", "/dev/sda", SECTORS),
    ("table-4k", "lsblk -o", SECTORS),
    ("table-512", "blkid -c", SECTORS),
    ("table-512", "/dev/sda", SECTORS),
    ("table-512", "/dev/sdb1", SECTORS),
    ("table-512", "lsblk -o", SECTORS),
];
const BOOT_SECTOR: &str = "a FAT's boot sector is no partition table, though it ends like one";
const PARITY: &str = "parity that looks like a superblock with a wrong checksum: util-linux sees nothing, ours says it is damaged";
const SECTORS: &str = "util-linux knows no table for other sectors than the disk's";

/// What is read in /known of a set's file systems, sorted, and what else is said. Sets that are not here have tests of their
/// own, and are walked all the same.
struct Wanted {
    set: &'static str,
    known: &'static [&'static str],
    said: &'static [&'static str],
}

const fn read(set: &'static str, known: &'static [&'static str]) -> Wanted {
    Wanted { set, known, said: &[] }
}

const fn told(set: &'static str, known: &'static [&'static str], said: &'static [&'static str]) -> Wanted {
    Wanted { set, known, said }
}

const WANTED: &[Wanted] = &[
    told("btrfs-missing", &[], &["mount -o ro,degraded /dev/sda goes without the device that is missing"]),
    read("ddf-raid10", &["six", "ten"]),
    read("deep", &["beside", "deep"]),
    read(
        "formats",
        &["erofs", "exfat", "ext2", "ext3", "jfs", "minix", "nilfs2", "reiserfs", "squashfs", "udf"],
    ),
    read("grown", &["grown", "last"]),
    read("hybrid", &["hybrid", "mbr"]),
    read("imsm-4kn", &["mirror", "stripe"]),
    read("imsm-raid10", &["ten"]),
    read("iso-stick", &["stick", "stick"]),
    told(
        "luks-more",
        &["wide"],
        &[
            "has integrity tags",
            "rescue overlay /dev/sda2 first",
            "/dev/sda4 is a header kept apart from its data: cryptsetup open --readonly --header /dev/sda4 DATA NAME",
        ],
    ),
    read("lvm-levels", &["raid0", "raid1", "raid10", "raid4", "raid5", "raid6"]),
    // And each of two snapshots.
    read("lvm-older", &["after", "cached", "mirror", "snapped", "snapped", "snapped", "striped3", "thin"]),
    told("lvm-vdo", &["plain", "vdo"], &["dedup is a copy in memory, to be read (it is VDO"]),
    read("maps", &["apple"]),
    read("mbr-odd", &["fifth", "sixth"]),
    read("metadata-0.90-parts", &["parts"]),
    read("raid0-zones", &["alternate", "original"]),
    read("raid1-odd", &["data"]),
    read("raid10-layouts", &["f2", "f3", "n2", "n3", "o2", "o3"]),
    told("raid5-journal-lost", &[], &["mdadm --assemble --force"]),
    read(
        "raid5-layouts",
        &[
            "left-asymmetric",
            "left-symmetric",
            "parity-first",
            "parity-last",
            "right-asymmetric",
            "right-symmetric",
        ],
    ),
    told("raid5-rebuild", &["57"], &["slot 2 of 3"]),
    // Two of four drives are there: half of all blocks are computed.
    read(
        "raid6-layouts",
        &[
            "ddf-N-continue",
            "ddf-N-restart",
            "ddf-zero-restart",
            "left-asymmetric",
            "left-asymmetric-6",
            "left-symmetric",
            "left-symmetric-6",
            "parity-first",
            "parity-first-6",
            "parity-last",
            "right-asymmetric",
            "right-asymmetric-6",
            "right-symmetric",
            "right-symmetric-6",
        ],
    ),
    read("raid6-replace", &["61"]),
    read("sectors-4k", &["4kn", "fifth", "first", "luks", "wide", "xfs"]),
    told("table-4k", &[], &["the GPT was written for sectors of 4096 bytes, this device has 512"]),
    told("table-512", &[], &["the GPT was written for sectors of 512 bytes, this device has 4096"]),
    told("twins", &["twins", "twins"], &["copies of a disk, or two paths to one"]),
    read("verity", &["verity"]),
];

/// A world-wide name, of the two paths to one disk.
const TWIN: u64 = 0x5000_c500_1234_5678;

/// One set is walked through by then: of `ebr-loop` the kernel makes 250 partitions, each of which a dozen programs look at.
const WALKED: Duration = Duration::from_secs(900);

/// Those of a third of all sets.
fn walk(bench: &Bench, third: usize) -> Result<()> {
    let mut vm = bench.machine()?.slots(1).memory(2048).start(bench)?;
    let ssh = vm.login()?.patience(WALKED);
    vm.settled_after(0)?;
    ssh.feed("cat > /tmp/walk", WALK.as_bytes())?;
    let mut names: Vec<&str> = fixtures::all().iter().map(|recipe| recipe.name).collect();
    names.sort_unstable();
    for name in names.into_iter().skip(third).step_by(3) {
        let disks: Vec<Disk> = set(bench, name, Bus::VirtioScsi)?;
        let disks = match name {
            "twins" => disks.into_iter().map(|disk| disk.wwn(TWIN)).collect(),
            _ => disks,
        };
        let before = hashes(&disks)?;
        let disks = plug_in(bench, &mut vm, name, disks)?;
        let answer = ssh.run("bash /tmp/walk")?;
        let lines = Walked::read(&answer.stdout);
        for (command, difference) in &lines.differ {
            println!("      differs: {command}\n{difference}");
        }
        println!("      {name}: tried: {}", lines.tried.join("; "));
        println!("      {name}: equal: {} listings; known: {}", lines.equal.len(), lines.known.join(" "));
        bench.check(&format!("{name} is listed as util-linux lists it"), || lines.are_equal(name));
        bench.check(&format!("{name} is walked through"), || {
            ensure!(answer.status == 0, "end: {answer:?}");
            lines.are_as_wanted(name)
        });
        take_away(bench, &mut vm, &ssh, (name, &disks, &before))?;
    }
    Ok(())
}

pub fn first(bench: &Bench) -> Result<()> {
    walk(bench, 0)
}

pub fn second(bench: &Bench) -> Result<()> {
    walk(bench, 1)
}

pub fn third(bench: &Bench) -> Result<()> {
    walk(bench, 2)
}

#[derive(Default)]
struct Walked {
    tried: Vec<String>,
    equal: Vec<String>,
    differ: BTreeMap<String, String>,
    known: Vec<String>,
    /// All that was said by what was tried.
    said: String,
}

impl Walked {
    fn read(text: &str) -> Walked {
        let mut walked = Walked::default();
        let mut last = None;
        for line in text.lines() {
            match line.split_once(": ") {
                Some(("tried", command)) => walked.tried.push(command.to_string()),
                Some(("equal", command)) => walked.equal.push(command.to_string()),
                Some(("known", word)) => walked.known.push(word.to_string()),
                Some(("said", words)) => walked.said += &format!("{words}\n"),
                Some(("differs", command)) => {
                    last = Some(command.to_string());
                    walked.differ.insert(command.to_string(), String::new());
                }
                _ => {
                    let Some(known) = last.as_ref().and_then(|last| walked.differ.get_mut(last)) else {
                        continue;
                    };
                    *known += &format!("        {line}\n");
                }
            }
        }
        walked.known.sort();
        walked
    }

    fn are_equal(&self, set: &str) -> Result<()> {
        ensure!(!self.equal.is_empty(), "compare something");
        let told: Vec<_> = EXCEPTIONS.iter().filter(|(of, ..)| *of == set).collect();
        for (command, difference) in &self.differ {
            ensure!(
                told.iter().any(|(_, words, _)| command.contains(words)),
                "be equal: {command}\n{difference}"
            );
        }
        for (_, words, reason) in told {
            ensure!(self.differ.keys().any(|command| command.contains(words)), "differ: {words}: {reason}");
        }
        Ok(())
    }

    fn are_as_wanted(&self, set: &str) -> Result<()> {
        let broken = |word: &&String| matches!(word.as_str(), "still busy" | "unlike its sum");
        ensure!(
            !self.known.iter().any(|word| broken(&word)),
            "read whole and be free again: {:?}",
            self.known
        );
        // A panic, a program that is not there, a signal.
        let status = |tried: &String| tried.strip_suffix(')')?.rsplit_once('(')?.1.parse::<u32>().ok();
        for tried in &self.tried {
            ensure!(status(tried).is_some_and(|status| status < 100), "end in order: {tried}");
        }
        let Some(wanted) = WANTED.iter().find(|wanted| wanted.set == set) else { return Ok(()) };
        ensure!(self.known == wanted.known, "read {:?}: {:?}", wanted.known, self.known);
        for words in wanted.said {
            ensure!(self.said.contains(words), "say {words:?}:\n{}", self.said);
        }
        Ok(())
    }
}
