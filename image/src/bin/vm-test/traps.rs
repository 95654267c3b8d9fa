//! Known traps that need the kernel (docs/tests.md lists all): what the real tools say is shown first, so that a trap that
//! is gone is seen, then what ours makes of it. Fixture: `image/src/fixtures/traps.rs`.

use crate::bench::{Bench, holds};
use crate::disks::{Before, set};
use anyhow::{Result, ensure};
use image::vm::{Bus, Ssh};

const UUID: &str = "99999999-0044-4000-8000-000000000000";

/// All that a command printed, with the status that it is to end with.
pub fn ends(ssh: &Ssh, command: &str, status: i32) -> Result<String> {
    let answer = ssh.run(command)?;
    ensure!(answer.status == status, "end {command:?} with status {status}: {answer:?}");
    Ok(answer.stdout + &answer.stderr)
}

pub fn seen(bench: &Bench) -> Result<()> {
    let mut machine = bench.machine()?.memory(1024);
    let mut before = Before::default();
    for disk in set(bench, "traps", Bus::VirtioBlk)?.into_iter().chain(set(bench, "lvm-missing", Bus::Nvme)?)
    {
        before.note(&disk)?;
        machine = machine.disk(disk);
    }
    let mut vm = machine.start(bench)?;
    let ssh = vm.login()?;
    vm.settled_after(0)?;
    torn_volume(bench, &ssh);
    dirty_log(bench, &ssh);
    hibernated(bench, &ssh);
    fsynced(bench, &ssh);
    twins(bench, &ssh);
    bench.check("poweroff ends the machine", || {
        ssh.run("poweroff")?;
        vm.wait_off()
    });
    before.unchanged(bench);
    Ok(())
}

fn torn_volume(bench: &Bench, ssh: &Ssh) {
    bench.check(
        "of a volume with a hole util-linux's blkid names nothing, and it mounts all the same",
        || {
            ends(ssh, "rescue assemble --partial torn/half", 0)?;
            let theirs = ends(ssh, "/usr/libexec/classic/blkid -p /dev/torn/half", 2)?;
            ensure!(!theirs.contains("ext4"), "see the trap: {theirs}");
            let read =
                ssh.ok("/usr/libexec/classic/mount -r -t ext4 /dev/torn/half /mnt && cat /mnt/known")?;
            ensure!(read.trim() == "half", "read half: {read}");
            ssh.ok("umount /mnt").map(drop)
        },
    );
    bench.check("ours names what is on it, and says that some of it is missing", || {
        holds(&ends(ssh, "blkid /dev/torn/half", 0)?, &["TYPE=\"ext4\""])?;
        holds(&ssh.run("rescue status")?.stdout, &["in part on a PV that is missing", "it cannot be read"])?;
        let said = ends(ssh, "mount -o ro /dev/torn/half /mnt && cat /mnt/known && umount /mnt", 0)?;
        holds(&said, &["half", "on a PV that is missing: files there cannot be read"])?;
        ssh.ok("rescue assemble --stop").map(drop)
    });
}

/// Of a log that the kernel wrote, and that holds files.
fn dirty_log(bench: &Bench, ssh: &Ssh) {
    let over = "/dev/mapper/over-vda3";
    let fresh = || ssh.ok("rescue overlay --drop 2> /dev/null; rescue overlay /dev/vda3").map(drop);
    bench.check("xfs_repair -n ends with 1 for a log alone: replayed, nothing is wrong", || {
        fresh()?;
        ends(ssh, &format!("xfs_repair -n {over}"), 1)?;
        ends(ssh, &format!("mount {over} /mnt && umount /mnt && xfs_repair -n {over}"), 0)?;
        ends(ssh, &format!("fsck -n {over}"), 0).map(drop)
    });
    bench.check("fsck -n says that the log has to be replayed first, and what shows it", || {
        let said = ends(ssh, "rescue overlay --drop; fsck -n /dev/vda3", 4)?;
        holds(
            &said,
            &["its log has to be replayed first", "may be no more than that", "mount -o ro /dev/vda3 /mnt"],
        )?;
        holds(&ends(ssh, "mount -o ro /dev/vda3 /mnt && cat /mnt/etc/8 && umount /mnt", 0)?, &["8\n"])
    });
    bench.check("fsck without -L throws no log away, and says how it is replayed", || {
        fresh()?;
        let said = ends(ssh, &format!("fsck -y {over}"), 4)?;
        holds(&said, &[&format!("mount {over} /mnt && umount /mnt"), "fsck -L"])?;
        holds(&ends(ssh, &format!("mount {over} /mnt && cat /mnt/etc/8 && umount /mnt"), 0)?, &["8\n"])
    });
    bench.check("xfs_repair -L ends with 0 with the files of the log gone, and fsck -L says so", || {
        fresh()?;
        ends(ssh, &format!("xfs_repair -L {over}"), 0)?;
        ends(ssh, &format!("mount -o ro {over} /mnt && ! ls /mnt/etc/8 && umount /mnt"), 0)?;
        fresh()?;
        let said = ends(ssh, &format!("fsck -L {over}"), 1)?;
        holds(&said, &["its log was thrown away: the last changes are lost"])?;
        ends(ssh, &format!("mount -o ro {over} /mnt && ! ls /mnt/etc/8 && umount /mnt"), 0)?;
        ssh.ok("rescue overlay --drop").map(drop)
    });
}

fn hibernated(bench: &Bench, ssh: &Ssh) {
    bench.check("ntfs3 mounts a hibernated Windows for writing without a word", || {
        let mount = "rescue overlay /dev/vda1 > /dev/null && /usr/libexec/classic/mount -t ntfs3 /dev/mapper/over-vda1 /mnt";
        let said = ends(ssh, mount, 0)?;
        ensure!(said.is_empty(), "see the trap: {said}");
        holds(&ssh.ok("grep ' /mnt ' /proc/mounts; umount /mnt; rescue overlay --drop")?, &["ntfs3 rw"])
    });
    bench.check("ours reads it, and neither writes to it nor mends it", || {
        let read = ssh.ok("mount -o ro /dev/vda1 /mnt && cat /mnt/known")?;
        ensure!(read.trim() == "ntfs", "read it: {read}");
        for (command, status) in [
            ("mount -o remount,rw /mnt", 32),
            ("umount /mnt; mount /dev/vda1 /mnt", 32),
            ("fsck -y /dev/vda1", 8),
        ] {
            holds(&ends(ssh, command, status)?, &["Windows is hibernated on /dev/vda1", "shutdown /s"])?;
        }
        Ok(())
    });
}

fn fsynced(bench: &Bench, ssh: &Ssh) {
    bench.check("f2fs that is mounted to be read does not show what was fsynced", || {
        let theirs = "/usr/libexec/classic/mount -t f2fs -o ro,norecovery /dev/vda2 /mnt && ls /mnt";
        let names = ends(ssh, theirs, 0)?;
        ensure!(names.contains("known") && !names.contains("fsynced"), "see the trap: {names}");
        ssh.ok("umount /mnt").map(drop)
    });
    bench.check("ours shows it, in memory, and what lies on the disk where that is asked for", || {
        let said = ends(ssh, "mount -o ro /dev/vda2 /mnt && cat /mnt/fsynced && umount /mnt", 0)?;
        holds(&said, &["8\n", "replayed in memory", "-o norecovery shows that"])?;
        let said = ends(ssh, "mount -o ro,norecovery /dev/vda2 /mnt && ls /mnt && umount /mnt", 0)?;
        holds(&said, &["known", "the last changes are not shown"])
    });
}

fn twins(bench: &Bench, ssh: &Ssh) {
    bench.check("of two devices with one UUID util-linux names one", || {
        let theirs = ends(ssh, &format!("/usr/libexec/classic/blkid -U {UUID}"), 0)?;
        ensure!(theirs.lines().count() == 1, "see the trap: {theirs}");
        Ok(())
    });
    bench.check("ours mounts and checks neither, names both, and takes the one that is named", || {
        for (command, status) in [
            (format!("mount UUID={UUID} /mnt"), 32),
            ("mount LABEL=twin /mnt".to_string(), 32),
            (format!("mount -U {UUID} /mnt"), 32),
            (format!("mount -o ro /dev/disk/by-uuid/{UUID} /mnt"), 32),
            (format!("fsck -y UUID={UUID}"), 8),
        ] {
            holds(
                &ends(ssh, &command, status)?,
                &["is on /dev/vda4 and /dev/vdb: name the one that is meant"],
            )?;
        }
        holds(&ssh.run("rescue status")?.stdout, &["/dev/vda4 and /dev/vdb have the same UUID"])?;
        holds(
            &ends(ssh, "mount -o ro /dev/vdb /mnt && grep ' /mnt ' /proc/mounts && umount /mnt", 0)?,
            &["/dev/vdb "],
        )
    });
}
