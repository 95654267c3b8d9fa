//! The machine goes down while what was written last is in memory alone, upon what processes of user space write: mdmon the
//! metadata of firmware RAID, ntfs-3g a file system. Fixtures: `image/src/fixtures/firmware.rs`, `filesystems.rs`.

use crate::arrays::{is_whole, plug_in};
use crate::bench::{Bench, holds};
use crate::disks::set;
use crate::kexec::file_system;
use anyhow::{Context as _, Result, ensure};
use image::vm::ssh::Answer;
use image::vm::{Bus, Disk, Ssh, Vm, qemu};

/// Volume, its level, and what each drive of its set says of one that was left in order, or was not (mdadm's super-intel.c
/// and super-ddf.c).
struct Volume {
    name: &'static str,
    level: &'static str,
    clean: &'static str,
    dirty: &'static str,
}

const VOLUMES: &[Volume] = &[
    Volume { name: "mirror", level: "raid1", clean: "Dirty State : clean", dirty: "Dirty State : dirty" },
    Volume { name: "parity", level: "raid5", clean: ": Optimal, Consistent", dirty: "Not Consistent" },
];

/// Of both sets.
const DRIVES: usize = 5;

/// Writes in a second, so that mdmon is still writing its metadata to one drive after the other as arrays are stopped.
const SLOW: u64 = 10;

/// What mdadm --examine says of drives, volumes and what was torn.
const STATES: &[&str] = &["/dev/", "State", "state", "mdadm:"];

/// Neither the journal nor inode tables are written meanwhile: what is clean stays so until the end.
const QUIET: &str = "commit=600,noinit_itable";

pub fn written(bench: &Bench) -> Result<()> {
    let machine = bench.machine()?.disks(set(bench, "imsm", Bus::VirtioScsi)?);
    let machine = machine.disks(set(bench, "mixed", Bus::VirtioBlk)?).slots(1);
    let mut vm = machine.reboots().start(bench)?;
    let ssh = vm.login()?;
    vm.settled_after(0)?;
    bench.check("Intel firmware RAID is started for writing by the command that is named", || {
        start_as_named(&ssh, "/dev/sda")?;
        holds(&ssh.ok("cat /proc/mdstat")?, &["raid1 sd", "external:/md127/0", "[2/2] [UU]"])
    });
    let drives = set(bench, "ddf-raid5", Bus::VirtioScsi)?.into_iter().map(Disk::throttled).collect();
    let drives = plug_in(bench, &mut vm, "ddf-raid5", drives)?;
    bench.check("a volume of DDF is started for writing beside it by the command that is named", || {
        start_as_named(&ssh, "/dev/sdc")?;
        holds(&ssh.ok("cat /proc/mdstat")?, &["raid5 sd", "[3/3] [UUU]"])?;
        let keepers = ssh.ok("pidof mdmon")?;
        ensure!(keepers.split_whitespace().count() == 2, "see an mdmon for each set: {keepers}");
        Ok(())
    });
    bench.check("what was written to them and to ntfs is in memory alone as the machine goes down", || {
        let mut mounts = String::from("mkdir /tmp/ntfs && mount -t ntfs-3g /dev/vda5 /tmp/ntfs\n");
        for volume in VOLUMES {
            let (name, array) = (volume.name, array(&ssh, volume)?);
            mounts += &format!("mkdir /tmp/{name} && mount -o {QUIET} {array} /tmp/{name}\n");
        }
        ssh.ok(&format!("set -e\n{mounts}head -c 3000000 /dev/urandom > /tmp/new"))?;
        holds(
            &ssh.ok("cat /proc/mounts")?,
            &["/tmp/ntfs fuseblk rw", "/tmp/mirror ext4 rw", "/tmp/parity ext4 rw"],
        )
    });
    let sum = ssh.ok("sha256sum < /tmp/new")?;
    let (events, console) = (vm.events.mark(), vm.console.mark());
    for drive in &drives {
        vm.throttle(drive, Some(SLOW))?;
    }
    // One command, since a volume is clean some seconds after the last write to it.
    let answer = ssh.run(
        "states() { grep -l '^raid[15]$' /sys/block/md*/md/level | sed 's/level$/array_state/' | xargs cat; }\n\
         sync; mdadm --wait-clean --scan; states\n\
         for place in mirror parity ntfs; do cp /tmp/new /tmp/$place/new; done; states; reboot",
    )?;
    bench.check("both volumes are clean until the machine goes down", || {
        ensure!(answer.stdout.split_whitespace().eq(["clean"; 4]), "see both clean, twice: {answer:?}");
        Ok(())
    });
    vm.events.ready("layers", events, qemu::BOOT)?;
    for drive in &drives {
        vm.throttle(drive, None)?;
    }
    let ssh = vm.login_after(events, console)?;
    vm.settled_after(events)?;
    bench.check("the real mdadm finds both volumes clean, on each drive", || {
        let text = ssh.ok("for drive in /dev/sd?; do IMSM_NO_PLATFORM=1 mdadm --examine $drive; done")?;
        let said = |words: &str| text.matches(words).count();
        // Two volumes are on each of Intel's two drives.
        let clean: usize = VOLUMES.iter().map(|volume| said(volume.clean)).sum();
        let stated: Vec<&str> = text
            .lines()
            .map(str::trim)
            .filter(|line| STATES.iter().any(|what| line.contains(what)))
            .collect();
        ensure!(clean == DRIVES + 2, "see seven times that a volume is clean: {stated:#?}");
        ensure!(VOLUMES.iter().all(|volume| said(volume.dirty) == 0), "see none dirty: {stated:#?}");
        Ok(())
    });
    let assembled = ssh.run("rescue assemble")?;
    for volume in VOLUMES {
        bench.check(&format!("{} was unmounted, and what was written last is whole", volume.name), || {
            let array = array(&ssh, volume).with_context(|| format!("after: {assembled:?}"))?;
            let features = ssh.ok(&format!("dumpe2fs -h {array}"))?;
            ensure!(!features.contains("needs_recovery"), "see no journal to be replayed:\n{features}");
            is_new(&ssh, &array, &sum)?;
            is_whole(&ssh, &array, volume.name)
        });
    }
    bench.check("what was written last by ntfs-3g is whole", || is_new(&ssh, "/dev/vda5", &sum));
    let mut drives = set(bench, "imsm-raid5", Bus::VirtioScsi)?;
    let gone = drives.remove(1);
    plug_in(bench, &mut vm, "imsm-raid5 without a drive", drives)?;
    bench.check("a volume that lacks a drive is started for writing by the command that is named", || {
        start_as_named(&ssh, "/dev/sdf")?;
        holds(&ssh.ok("cat /proc/mdstat")?, &["raid5 sd", "[3/2]"])
    });
    cut_off(bench, &mut vm, &ssh, gone)
}

/// Writes in a second, and KiB of one at most: what is cached takes longer than an unmount has where nothing happens.
const CRAWLING: u64 = 2;
const CRUMB: u64 = 512;

/// A disk that is slow and well takes what was copied to it last, however long that lasts.
pub fn slow(bench: &Bench) -> Result<()> {
    let disk = Disk::raw(file_system(bench, 256 << 20)?, Bus::VirtioBlk, "SLOW").throttled();
    let mut vm = bench.machine()?.disk(disk.clone()).reboots().start(bench)?;
    let ssh = vm.login()?;
    vm.settled_after(0)?;
    // Little enough for the kernel to take it all at once, and to write nothing of it by itself for half a minute.
    let make = format!(
        "set -e; echo {CRUMB} > /sys/block/vda/queue/max_sectors_kb; mount -o rw,{QUIET} /dev/vda /mnt; head -c 50000000 /dev/urandom > /tmp/new; sha256sum < /tmp/new"
    );
    let sum = ssh.ok(&make)?;
    let (events, console) = (vm.events.mark(), vm.console.mark());
    vm.throttle(&disk, Some(CRAWLING))?;
    ssh.run("cp /tmp/new /mnt/new; reboot")?;
    bench.check("the console says that the machine goes down, where nobody else is left to say it", || {
        vm.console.wait_for("going down: reboot", console, qemu::BOOT).map(drop)
    });
    bench.check("the console says how much is still to be written", || {
        vm.console.wait_for("unmount: ", console, qemu::BOOT)?;
        vm.console.wait_for("MiB are still to be written", console, qemu::BOOT).map(drop)
    });
    vm.events.ready("layers", events, qemu::BOOT)?;
    vm.throttle(&disk, None)?;
    let ssh = vm.login_after(events, console)?;
    vm.settled_after(events)?;
    bench.check("the file that was copied last is whole, and its file system was left in order", || {
        let features = ssh.ok("dumpe2fs -h /dev/vda")?;
        ensure!(!features.contains("needs_recovery"), "see no journal to be replayed:\n{features}");
        is_new(&ssh, "/dev/vda", &sum)
    });
    Ok(())
}

/// Power is cut as a volume without one of its drives is written, and that drive comes back.
fn cut_off(bench: &Bench, vm: &mut Vm<'_>, ssh: &Ssh, gone: Disk) -> Result<()> {
    let (events, console) = (vm.events.mark(), vm.console.mark());
    ssh.ok(&format!(
        "set -e; place=$(for md in /sys/block/md*/md; do [ \"$(cat $md/degraded)\" != 1 ] || echo $md; done)\n\
         node=/dev/$(basename ${{place%/md}}); echo 100 > $place/safe_mode_delay; mkdir /tmp/cut\n\
         mount -o {QUIET} $node /tmp/cut; head -c 9000 /dev/urandom > /tmp/cut/new; sync; cat $place/array_state\n\
         (sleep 1; echo b > /proc/sysrq-trigger) > /dev/null 2>&1 &"
    ))?;
    let ssh = vm.login_after(events, console)?;
    vm.settled_after(events)?;
    plug_in(bench, vm, "the drive that was gone", vec![gone])?;
    let refused = ssh.run("rescue assemble")?;
    bench.check(
        "a drive that firmware RAID was written without is left out, and the dirty rest not started",
        || {
            ensure!(refused.status != 0, "be refused: {refused:?}");
            holds(
                &refused.stderr,
                &[
                    "is left out: stale, the others went on without it",
                    "it was being written when it stopped",
                ],
            )
        },
    );
    bench.check("what is named for such a volume starts it for writing", || {
        let (first, then) =
            named(&refused, "/dev/sd")?.split_once("; then, ").context("be told what to do then")?;
        let said = ssh.run(first)?;
        let between = |before: &str, after: &str| {
            let at = said.stderr.find(before).with_context(|| format!("find {before:?}: {said:?}"))?;
            let rest = &said.stderr[at + before.len()..];
            rest.split(after).next().map(String::from).context("find a name")
        };
        let container = between("container ", " now has")?;
        let volume = between("now has 2 devices\nmdadm: ", " has been assembled")?;
        let (_, commands) = then.split_once(": ").context("be told commands")?;
        ssh.ok(&commands.replace("VOLUME", &volume).replace("CONTAINER", &container))?;
        holds(&ssh.ok("cat /proc/mdstat")?, &["raid5 sd", "[3/2]"])
    });
    Ok(())
}

fn start_as_named(ssh: &Ssh, drive: &str) -> Result<()> {
    let refused = ssh.run("rescue assemble --rw")?;
    ssh.ok(named(&refused, drive)?).map(drop)
}

/// The command that a refusal names for the set with this drive.
fn named<'a>(refused: &'a Answer, drive: &str) -> Result<&'a str> {
    let command = |line: &'a str| {
        let at = line.find("rescue writable").filter(|_| line.contains(drive))?;
        Some(&line[at..])
    };
    let command = refused.stderr.lines().find_map(command);
    command.with_context(|| format!("be told a command for {drive}: {refused:?}"))
}

/// Its node. mdadm puts something behind a name from elsewhere.
fn array(ssh: &Ssh, volume: &Volume) -> Result<String> {
    let level = ssh.ok(&format!("grep -l '^{}$' /sys/block/md*/md/level", volume.level))?;
    let name = level.split('/').nth(3).with_context(|| format!("find {}: {level}", volume.name))?;
    Ok(format!("/dev/{name}"))
}

fn is_new(ssh: &Ssh, device: &str, sum: &str) -> Result<()> {
    let read = ssh.ok(&format!("mount -o ro {device} /mnt && sha256sum < /mnt/new; umount /mnt"))?;
    ensure!(read == sum, "read what was written, {sum}: {read}");
    Ok(())
}
