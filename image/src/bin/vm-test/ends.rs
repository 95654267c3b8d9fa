//! The machine goes down while what was written last is in memory alone, upon what processes of user space write: mdmon the
//! metadata of firmware RAID, ntfs-3g a file system. Fixtures: `image/src/fixtures/firmware.rs`, `filesystems.rs`.

use crate::arrays::{is_whole, plug, plug_in};
use crate::bench::{Bench, holds};
use crate::disks::set;
use anyhow::{Context as _, Result, ensure};
use image::vm::{Bus, Ssh};

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
    plug(bench, &mut vm, "ddf-raid5")?;
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
    let ssh = vm.login_after(events, console)?;
    vm.settled_after(events)?;
    bench.check("the real mdadm finds both volumes clean, on each drive", || {
        let text = ssh.ok("for drive in /dev/sd?; do IMSM_NO_PLATFORM=1 mdadm --examine $drive; done")?;
        let said = |words: &str| text.matches(words).count();
        // Two volumes are on each of Intel's two drives.
        let clean: usize = VOLUMES.iter().map(|volume| said(volume.clean)).sum();
        ensure!(clean == DRIVES + 2, "see seven times that a volume is clean:\n{text}");
        ensure!(VOLUMES.iter().all(|volume| said(volume.dirty) == 0), "see none dirty:\n{text}");
        Ok(())
    });
    ssh.run("rescue assemble")?;
    for volume in VOLUMES {
        bench.check(&format!("{} was unmounted, and what was written last is whole", volume.name), || {
            let array = array(&ssh, volume)?;
            let features = ssh.ok(&format!("dumpe2fs -h {array}"))?;
            ensure!(!features.contains("needs_recovery"), "see no journal to be replayed:\n{features}");
            is_new(&ssh, &array, &sum)?;
            is_whole(&ssh, &array, volume.name)
        });
    }
    bench.check("what was written last by ntfs-3g is whole", || is_new(&ssh, "/dev/vda5", &sum));
    let mut drives = set(bench, "imsm-raid5", Bus::VirtioScsi)?;
    drives.remove(1);
    plug_in(bench, &mut vm, "imsm-raid5 without a drive", drives)?;
    bench.check("a volume that lacks a drive is started for writing by the command that is named", || {
        start_as_named(&ssh, "/dev/sdf")?;
        holds(&ssh.ok("cat /proc/mdstat")?, &["raid5 sd", "[3/2]"])
    });
    Ok(())
}

/// By the command that the refusal names for the set with this drive.
fn start_as_named(ssh: &Ssh, drive: &str) -> Result<()> {
    let refused = ssh.run("rescue assemble --rw")?;
    let command = |line: &str| {
        let at = line.find("rescue writable").filter(|_| line.contains(drive))?;
        Some(line[at..].to_string())
    };
    let command = refused.stderr.lines().find_map(command);
    ssh.ok(&command.with_context(|| format!("be told a command for {drive}: {refused:?}"))?).map(drop)
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
