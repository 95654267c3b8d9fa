//! Arrays of every level and superblock version, plugged into one running machine.

use crate::bench::{Bench, holds};
use crate::disks::set;
use anyhow::{Result, ensure};
use contract::event::Event;
use image::packages::digest;
use image::vm::disks::Backing;
use image::vm::{Bus, Disk, Ssh, Vm, qemu};

/// One set of disks, and what `rescue assemble` makes of it without being told more.
struct Case {
    set: &'static str,
    /// Whose /known is read; empty where nothing is started.
    array: &'static str,
    /// Pieces of /proc/mdstat.
    mdstat: &'static [&'static str],
    /// Pieces of what is said, each of which a person needs.
    said: &'static [&'static str],
    status: i32,
}

const fn runs(set: &'static str, array: &'static str, mdstat: &'static [&'static str]) -> Case {
    Case { set, array, mdstat, said: &["read-only"], status: 0 }
}

/// It runs, and more than that is said.
const fn told(
    set: &'static str,
    array: &'static str,
    mdstat: &'static [&'static str],
    said: &'static [&'static str],
) -> Case {
    Case { set, array, mdstat, said, status: 0 }
}

const fn refused(set: &'static str, said: &'static [&'static str]) -> Case {
    Case { set, array: "", mdstat: &[], said, status: 2 }
}

const CASES: &[Case] = &[
    told("raid5-missing", "md50", &["raid5", "[3/2] [UU_]"], &["no current member for slot 2 of 3"]),
    runs("raid10", "md10", &["raid10", "[4/4] [UUUU]"]),
    told("raid10-far-missing", "md11", &["raid10", "2 far-copies", "[4/3] [UUU_]"], &["slot 3 of 4"]),
    runs("raid6", "md60", &["raid6", "[4/4] [UUUU]"]),
    runs("raid4", "md41", &["raid4", "[3/3] [UUU]"]),
    runs("raid0", "md20", &["raid0"]),
    runs("metadata-0.90", "md90", &["raid1", "[2/2] [UU]"]),
    runs("metadata-1.0", "md30", &["raid1", "super 1.0"]),
    runs("metadata-1.1", "md31", &["raid1", "super 1.1"]),
    runs("raid-nested", "md83", &["raid0", "md81 : active (read-only)", "md82 : active (read-only)"]),
    runs("raid5-ppl", "md54", &["raid5", "[3/3] [UUU]"]),
    runs("raid1-bitmap", "md71", &["raid1", "[2/2] [UU]"]),
    refused("linear", &["md40", "linear", "the kernel says"]),
    refused("raid1-split", &["it split", "/dev/sda | /dev/sdb", "rescue assemble --with /dev/sd"]),
    refused(
        "raid5-dirty-degraded",
        &["2 of 3 members", "was being written", "mdadm --assemble --force /dev/md51 /dev/sda /dev/sdb"],
    ),
    told("raid5-journal", "md53", &["raid5", "[3/3] [UUU]", "dm-"], &["it has a journal"]),
    told("raid5-ppl-bad", "md55", &["raid5", "[3/3] [UUU]", "dm-"], &["it has a partial parity log"]),
    told("raid5-reshape", "md52", &["raid5", "[4/4] [UUUU]", "dm-"], &["it was being reshaped"]),
];

pub fn hotplug(bench: &Bench) -> Result<()> {
    let mut vm = bench.machine()?.slots(1).start(bench)?;
    let ssh = vm.login()?;
    vm.settled_after(0)?;
    for case in CASES {
        let set = case.set;
        let disks = plug(bench, &mut vm, set)?;
        let before = hashes(&disks)?;
        bench.check(&format!("{set} is judged as it is"), || {
            let answer = ssh.run("rescue assemble")?;
            let said = answer.stdout + &answer.stderr;
            holds(&said, case.said)?;
            ensure!(answer.status == case.status, "see status {}: {} {said}", case.status, answer.status);
            let mdstat = ssh.ok("cat /proc/mdstat")?;
            if case.array.is_empty() {
                ensure!(!mdstat.contains("sda"), "leave nothing half assembled: {mdstat}");
                return Ok(());
            }
            holds(&mdstat, &[&format!("{} : active (read-only)", case.array)])?;
            holds(&mdstat, case.mdstat)
        });
        if case.mdstat.contains(&"dm-") {
            bench.check(&format!("{set} is a copy in memory, and everything says so"), || {
                copy(&ssh, case.array)
            });
        }
        if !case.array.is_empty() {
            bench.check(&format!("{set} is read, and a second look changes nothing"), || {
                let array = case.array;
                let known =
                    ssh.ok(&format!("mount -o ro /dev/{array} /mnt && cat /mnt/known && umount /mnt"))?;
                ensure!(known.trim() == array.replace("md", "array-"), "read the known file: {known:?}");
                let again = ssh.run("rescue assemble")?;
                ensure!(again.status == 0 && again.stdout.contains("as before"), "see it running: {again:?}");
                Ok(())
            });
            bench.check(&format!("mdadm sees {set} as we do"), || {
                let detail = ssh.ok(&format!("mdadm --detail /dev/{}", case.array))?;
                // One that is read past its superblocks has none in the kernel's eyes.
                if !["raid1-bitmap", "raid5-ppl"].contains(&set) {
                    let uuid = detail.lines().find(|line| line.contains("UUID :")).unwrap_or_default();
                    holds(uuid, &["44444444:"])?;
                }
                let degraded = case.said.iter().any(|said| said.contains("slot"));
                ensure!(detail.contains("degraded") == degraded, "agree on what is missing:\n{detail}");
                Ok(())
            });
        }
        bench.check(&format!("{set} is stopped"), || {
            let answer = ssh.run("umount /mnt 2> /dev/null; rescue assemble --stop")?;
            let wanted = i32::from(case.array.is_empty());
            ensure!(answer.status == wanted, "see status {wanted}: {answer:?}");
            let mdstat = ssh.ok("cat /proc/mdstat")?;
            ensure!(!mdstat.contains("md"), "find no array: {mdstat}");
            let left = ssh.ok("ls /dev/mapper; mount")?;
            ensure!(!left.contains("over-") && !left.contains("lifeboat/overlay"), "find no overlay: {left}");
            Ok(())
        });
        take_away(bench, &mut vm, &ssh, (set, &disks, &before))?;
    }
    Ok(())
}

/// Of an array that runs from overlays: it is told to be, moves nowhere, and no verb takes it for the disks.
fn copy(ssh: &Ssh, array: &str) -> Result<()> {
    let again = ssh.run("rescue assemble")?;
    holds(&again.stdout, &["read-only copy, as before"])?;
    holds(
        &ssh.run("rescue status")?.stdout,
        &["a copy in memory", "overlay of /dev/sda", "made by rescue assemble"],
    )?;
    let members = ssh.ok(&format!("ls /sys/block/{array}/slaves"))?;
    ensure!(members.split_whitespace().all(|name| name.starts_with("dm-")), "see overlays alone: {members}");
    let frozen =
        ssh.ok(&format!("cat /sys/block/{array}/md/sync_action /sys/block/{array}/md/array_state"))?;
    ensure!(frozen.split_whitespace().eq(["frozen", "readonly"]), "see it frozen: {frozen}");
    let node = format!("/dev/{array}");
    for (command, why) in [
        (format!("mount -o rw {node} /mnt"), "copy in memory"),
        (format!("fsck -y {node}"), "copy in memory"),
        ("rescue assemble --rw".to_string(), "copy in memory"),
        ("rescue writable /dev/sda".to_string(), "over-sda"),
        ("rescue overlay /dev/sda".to_string(), "over-sda"),
    ] {
        let answer = ssh.run(&command)?;
        ensure!(answer.status != 0, "{command}: be refused: {answer:?}");
        holds(&answer.stderr, &[why])?;
    }
    Ok(())
}

/// A set's disks, plugged in and guarded.
pub fn plug(bench: &Bench, vm: &mut Vm<'_>, name: &str) -> Result<Vec<Disk>> {
    plug_in(bench, vm, name, set(bench, name, Bus::VirtioScsi)?)
}

pub fn plug_in(bench: &Bench, vm: &mut Vm<'_>, name: &str, disks: Vec<Disk>) -> Result<Vec<Disk>> {
    let mark = vm.events.mark();
    for disk in &disks {
        vm.plug(disk)?;
    }
    let mut guarded = 0;
    let seen = vm.events.wait("the events of all plugged disks", mark, qemu::SOON, |event| {
        guarded += usize::from(matches!(event, Event::Disk { guarded: true, .. }));
        (guarded >= disks.len()).then_some(())
    });
    bench.check(&format!("{name} plugged in is guarded"), || seen);
    Ok(disks)
}

pub fn hashes(disks: &[Disk]) -> Result<Vec<String>> {
    let files = disks.iter().filter_map(|disk| match &disk.backing {
        Backing::Raw(path) => Some(digest(path)),
        Backing::Qcow2(_) | Backing::Hung(_) | Backing::Failing(_) => None,
    });
    files.collect()
}

/// What a person has to ask for: writing, and a choice between members that contradict each other.
pub fn asked(bench: &Bench) -> Result<()> {
    let mut vm = bench.machine()?.slots(3).start(bench)?;
    let ssh = vm.login()?;
    vm.settled_after(0)?;
    let flags = || -> Result<String> {
        Ok(ssh.ok("cat /sys/class/block/sd?/ro")?.split_whitespace().collect::<String>())
    };
    let examined = |wanted: &[&str]| -> Result<()> {
        for disk in ssh.ok("ls /dev/sd?")?.split_whitespace() {
            holds(&ssh.ok(&format!("mdadm --examine {disk}"))?, wanted)?;
        }
        Ok(())
    };

    let disks = plug(bench, &mut vm, "raid6")?;
    bench.check("an array that runs read-only is made writable, with its bitmap", || {
        ssh.ok("rescue assemble")?;
        let answer = ssh.run("rescue assemble --rw")?;
        ensure!(answer.status == 0 && answer.stdout.contains("read-write"), "see it writable: {answer:?}");
        ensure!(flags()? == "0000", "see every member writable");
        let mdstat = ssh.ok("cat /proc/mdstat")?;
        holds(&mdstat, &["md60 : active raid6", "[4/4] [UUUU]", "bitmap:"])?;
        ssh.ok("mount -t ext4 /dev/md60 /mnt && echo new > /mnt/new && umount /mnt").map(drop)
    });
    bench.check("stopped, it is clean in mdadm's eyes, and guarded again", || {
        ssh.ok("rescue assemble --stop /dev/md60")?;
        ensure!(flags()? == "1111", "see every member guarded");
        examined(&["State : clean", "Array State : AAAA", "Internal Bitmap"])
    });
    bench.check("it is found again by its UUID, and shows what was written", || {
        ssh.ok("rescue assemble 44444444:00000000:00000000:00000060")?;
        let new = ssh.ok("mount -t ext4 -o ro /dev/md/60 /mnt && cat /mnt/new && umount /mnt")?;
        ensure!(new.trim() == "new", "read what was written: {new:?}");
        Ok(())
    });
    unplug(&mut vm, &ssh, &disks)?;

    let disks = plug(bench, &mut vm, "raid1-split")?;
    for (chosen, other) in [("/dev/sda", "/dev/sdb"), ("/dev/sdb", "/dev/sda")] {
        bench.check(&format!("of a split mirror, {chosen} is started when it is chosen"), || {
            let answer = ssh.run(&format!("rescue assemble --with {chosen}"))?;
            ensure!(answer.status == 0, "be started: {answer:?}");
            holds(&answer.stderr, &["is left out: it went on without the others", other])?;
            ssh.ok("mount -t ext4 -o ro /dev/md70 /mnt && cat /mnt/alone && umount /mnt")?;
            ssh.ok("rescue assemble --stop").map(drop)
        });
    }
    unplug(&mut vm, &ssh, &disks)?;

    let disks = plug(bench, &mut vm, "raid1-bitmap")?;
    bench.check("what is read past its superblocks is started by them for writing", || {
        ssh.ok("rescue assemble")?;
        holds(&ssh.ok("cat /proc/mdstat")?, &["md71 : active (read-only)", "external:lifeboat"])?;
        ssh.ok("rescue assemble --rw")?;
        holds(&ssh.ok("cat /proc/mdstat")?, &["md71 : active raid1", "super 1.2", "bitmap:"])?;
        ssh.ok("mount -t ext4 /dev/md71 /mnt && touch /mnt/new && cat /mnt/known && umount /mnt")?;
        ssh.ok("rescue assemble --stop")?;
        examined(&["State : clean", "Array State : AA", "Internal Bitmap"])
    });
    unplug(&mut vm, &ssh, &disks)?;

    for (name, array) in [("raid5-journal", "md53"), ("raid5-ppl", "md54"), ("raid5-missing", "md50")] {
        let disks = plug(bench, &mut vm, name)?;
        bench.check(&format!("{name} is started for writing"), || {
            let dry = ssh.ok("rescue assemble --rw --dry-run")?;
            holds(&dry, &["rescue writable /dev/sda", "modprobe raid456", "mdadm --assemble --run"])?;
            ensure!(flags()?.chars().all(|flag| flag == '1'), "see that a dry run opens nothing");
            ssh.ok("rescue assemble --rw")?;
            let known = ssh.ok(&format!(
                "mount -t ext4 /dev/{array} /mnt && touch /mnt/new && cat /mnt/known && umount /mnt"
            ))?;
            ensure!(known.trim() == array.replace("md", "array-"), "read the known file: {known:?}");
            ssh.ok("rescue assemble --stop")?;
            examined(&["State : clean"])
        });
        unplug(&mut vm, &ssh, &disks)?;
    }

    // The last set: a machine does not let go of a disk that hangs.
    let disks = set(bench, "raid4", Bus::VirtioBlk)?.into_iter().map(Disk::throttled).collect();
    let disks = plug_in(bench, &mut vm, "raid4 that will hang", disks)?;
    vm.stall(&disks[1])?;
    bench.check("an array with a member that hangs is started from the others", || {
        let answer = ssh.patience(qemu::SOON * 2).run("rescue assemble")?;
        ensure!(answer.status == 0, "be started: {answer:?}");
        holds(&answer.stderr, &["no current member for slot 1 of 3; it may be on /dev/vd"])?;
        holds(&ssh.ok("cat /proc/mdstat")?, &["md41 : active (read-only)", "[3/2] [U_U]"])
    });
    Ok(())
}

/// Whatever happened: the next set finds an empty machine, and this one is as it was.
pub fn take_away(
    bench: &Bench,
    vm: &mut Vm<'_>,
    ssh: &Ssh,
    (label, disks, before): (&str, &[Disk], &[String]),
) -> Result<()> {
    unplug(vm, ssh, disks)?;
    bench.check(&format!("every byte of {label} is what it was"), || {
        ensure!(hashes(disks)? == before, "keep the SHA-256 of each disk");
        Ok(())
    });
    Ok(())
}

/// What the builder put into a file system with /known, /random and its SHA-256 in /sum is all there.
pub fn is_whole(ssh: &Ssh, device: &str, known: &str) -> Result<()> {
    let read = "cat /mnt/known /mnt/sum && sha256sum < /mnt/random";
    let text = ssh.ok(&format!("mount -o ro {device} /mnt && {read}; umount /mnt"))?;
    let lines: Vec<&str> = text.lines().collect();
    ensure!(lines.len() == 3 && lines[0] == known && lines[1] == lines[2], "read what was written: {text}");
    Ok(())
}

pub fn unplug(vm: &mut Vm<'_>, ssh: &Ssh, disks: &[Disk]) -> Result<()> {
    ssh.run("umount /mnt 2> /dev/null; mdadm --stop --scan")?;
    disks.iter().try_for_each(|disk| vm.unplug(disk))
}
