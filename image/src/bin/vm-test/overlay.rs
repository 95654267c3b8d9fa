//! Throw-away writable copies: what has to be replayed, mended or resynced is, in memory, and every byte
//! of every disk stays as it was.

use crate::bench::{Bench, holds};
use crate::disks::{Before, set};
use anyhow::{Context as _, Result, ensure};
use image::vm::{Bus, Ssh};

/// vda: ext4 and xfs with logs to replay. vdb1: a damaged ext4. vdc to vdf: md53. nvme: a btrfs of two. sda, sdb:
/// md75.
const SETS: &[(&str, Bus)] = &[
    ("dirty", Bus::VirtioBlk),
    ("damaged-ext4", Bus::VirtioBlk),
    ("raid5-journal", Bus::VirtioBlk),
    ("dirty-pool", Bus::Nvme),
    ("dirty-mirror", Bus::Ahci),
];

pub fn written(bench: &Bench) -> Result<()> {
    let mut machine = bench.machine()?.memory(1024);
    let mut before = Before::default();
    for (name, bus) in SETS {
        for disk in set(bench, name, *bus)? {
            before.note(&disk)?;
            machine = machine.disk(disk);
        }
    }
    let mut vm = machine.start(bench)?;
    let ssh = vm.login()?;
    vm.settled_after(0)?;
    replays(bench, &ssh);
    mends(bench, &ssh);
    arrays(bench, &ssh);
    fills(bench, &ssh);
    bench.check("rescue overlay --all copies every disk, with what is on them", || {
        ssh.ok("rescue overlay --all")?;
        let list = ssh.ok("rescue overlay")?;
        holds(
            &list,
            &["over-vda1", "over-vda2", "over-vdb1", "over-nvme0n1", "over-nvme1n1", "over-sda", "over-sdb"],
        )?;
        ssh.ok("mount /dev/mapper/over-vda2 /mnt && touch /mnt/written")?;
        ssh.ok("mkdir -p /m && mount /dev/md75 /m && touch /m/written").map(drop)
    });
    bench.check("poweroff ends the machine with all of that in use", || {
        ssh.run("poweroff")?;
        vm.wait_off()
    });
    before.unchanged(bench);
    Ok(())
}

/// No overlay is left.
fn none(ssh: &Ssh) -> Result<()> {
    let answer = ssh.run("rescue overlay; ls /dev/mapper; losetup -l; mount | grep -c lifeboat/overlay")?;
    ensure!(!answer.stdout.contains("over-"), "see no overlay: {answer:?}");
    ensure!(answer.stdout.trim_end().ends_with('0'), "see the store unmounted: {answer:?}");
    Ok(())
}

/// A read-only mount shows what the log holds, says so, and umount leaves nothing behind.
fn replays(bench: &Bench, ssh: &Ssh) {
    let cases = [
        ("ext4", "/dev/vda1", "/mnt/etc/8", "8", "noload"),
        ("xfs", "/dev/vda2", "/mnt/etc/8", "8", "norecovery"),
        ("btrfs of two disks", "/dev/nvme0n1", "/mnt/fsynced", "8", "rescue=nologreplay"),
    ];
    for (label, device, file, want, option) in cases {
        bench.check(&format!("mount -o ro of a dirty {label} shows the last changes, in memory"), || {
            let answer = ssh.run(&format!("mount -o ro {device} /mnt && cat {file}"))?;
            ensure!(answer.stdout.trim() == want, "read {want}: {answer:?}");
            holds(&answer.stderr, &["replayed in memory", "over-", option])?;
            holds(&ssh.run("rescue status")?.stdout, &["Overlays: ", "overlay of /dev/"])?;
            ssh.ok("umount /mnt")?;
            none(ssh)
        });
        bench.check(&format!("-o {option} of the {label} shows what lies on the disk"), || {
            let answer = ssh.run(&format!("mount -o ro,{option} {device} /mnt && ls /mnt && umount /mnt"))?;
            ensure!(answer.status == 0, "mount it: {answer:?}");
            none(ssh)
        });
    }
    bench.check("a btrfs is mounted from overlays of all its devices or not at all", || {
        ssh.ok("mount -o ro LABEL=pool /mnt")?;
        let devices = ssh.ok("ls /sys/fs/btrfs/*/devices")?;
        ssh.ok("umount /mnt")?;
        ensure!(devices.split_whitespace().count() == 2, "see two devices: {devices}");
        ensure!(
            devices.split_whitespace().all(|name| name.starts_with("dm-")),
            "see overlays alone: {devices}"
        );
        none(ssh)
    });
}

/// A damaged file system is mended on a copy; the original is used by nobody meanwhile.
fn mends(bench: &Bench, ssh: &Ssh) {
    bench.check("fsck -y mends the overlay of a damaged ext4, which is then written", || {
        let made = ssh.ok("rescue overlay /dev/vdb1")?;
        holds(&made, &["/dev/mapper/over-vdb1", "/dev/vdb1", "Next: fsck -y /dev/mapper/over-vdb1"])?;
        let first = ssh.run("fsck -y /dev/mapper/over-vdb1")?;
        ensure!(first.status == 1, "see status 1, errors corrected: {first:?}");
        let second = ssh.run("fsck -f -y /dev/mapper/over-vdb1")?;
        ensure!(second.status == 0, "see status 0: {second:?}");
        ssh.ok("mount /dev/mapper/over-vdb1 /mnt && echo mended >> /mnt/etc/fstab && sync /mnt/etc/fstab")?;
        holds(&ssh.ok("cat /mnt/etc/fstab")?, &["bbbbbbbb-0001", "mended"])
    });
    bench.check("while its overlay is there, no verb uses the original", || {
        for command in [
            "mount /dev/vdb1 /media",
            "rescue writable /dev/vdb1",
            "rescue writable /dev/vdb",
            "fsck -y /dev/vdb1",
        ] {
            let answer = ssh.run(command)?;
            ensure!(answer.status != 0, "{command}: be refused: {answer:?}");
            holds(&answer.stderr, &["over-vdb1"])?;
        }
        Ok(())
    });
    bench.check("rescue overlay says what differs, and --drop that it is in use", || {
        let json: serde_json::Value =
            serde_json::from_str(&ssh.ok("rescue overlay --json")?).context("read JSON")?;
        let one = &json["overlays"][0];
        ensure!(
            one["differing"].as_u64() > Some(0) && one["places"][0]["length"].as_u64() > Some(0),
            "see places: {one}"
        );
        let busy = ssh.run("rescue overlay --drop")?;
        ensure!(busy.status == 2, "be refused: {busy:?}");
        holds(&busy.stderr, &["mounted at /mnt"])
    });
    bench.check("after --drop the original is damaged as before", || {
        ssh.ok("umount /mnt && rescue overlay --drop /dev/vdb1")?;
        none(ssh)?;
        let answer = ssh.run("fsck -n -f /dev/vdb1")?;
        ensure!(answer.status == 4, "see status 4, errors left: {answer:?}");
        Ok(())
    });
}

/// A mirror in the middle of a resync: looked at as it is, and written as a copy that does not resync.
fn arrays(bench: &Bench, ssh: &Ssh) {
    bench.check("a dirty file system on a mirror that waits for its resync is shown", || {
        ssh.ok("rescue assemble /dev/sda")?;
        let answer = ssh.run("mount -o ro /dev/md75 /mnt && cat /mnt/etc/8 && umount /mnt")?;
        ensure!(answer.stdout.trim() == "8", "read 8: {answer:?}");
        holds(&ssh.ok("cat /proc/mdstat")?, &["md75 : active (read-only)"])?;
        none(ssh)
    });
    bench.check(
        "rescue overlay of an array starts it from copies of its members alone, without a resync",
        || {
            ssh.ok("rescue overlay /dev/md75")?;
            let mdstat = ssh.ok("cat /proc/mdstat")?;
            holds(&mdstat, &["md75 : active raid1", "dm-"])?;
            ensure!(!mdstat.contains("sda") && !mdstat.contains("sdb"), "see no disk: {mdstat}");
            ensure!(!mdstat.contains("resync ="), "see no resync: {mdstat}");
            ssh.ok(
                "mount /dev/md75 /mnt && echo written > /mnt/etc/9 && umount /mnt && mount /dev/md75 /mnt",
            )?;
            holds(&ssh.ok("cat /mnt/etc/9 /mnt/etc/8")?, &["written", "8"])
        },
    );
    bench.check("an array with a journal, which is written as it starts, is started as a copy", || {
        let read = ssh.run("rescue assemble /dev/vdc")?;
        holds(&read.stderr, &["/dev/md53 is a copy in memory", "has a journal", "--stop /dev/md53"])?;
        let known = ssh.ok("mkdir -p /m && mount -o ro /dev/md53 /m && cat /m/known && umount /m")?;
        ensure!(known.trim() == "array-53", "read the known file: {known:?}");
        let refused = ssh.run("rescue overlay /dev/vdc")?;
        ensure!(refused.status != 0, "not write to what is to be read: {refused:?}");
        ssh.ok("rescue assemble --stop /dev/md53")?;
        let maps = ssh.ok("ls /dev/mapper")?;
        ensure!(!maps.contains("over-vd"), "see its overlays gone: {maps}");
        let made = ssh.ok("rescue overlay /dev/vdc")?;
        holds(&made, &["over-vdc", "over-vdf", "Started from them: /dev/md53"])?;
        let known =
            ssh.ok("mkdir -p /m && mount /dev/md53 /m && cat /m/known && touch /m/new && umount /m")?;
        ensure!(known.trim() == "array-53", "read the known file: {known:?}");
        ssh.ok("rescue overlay --drop /dev/vde").map(drop)
    });
    bench.check("--drop of the array stops it, and it is started from its disks again", || {
        ssh.ok("umount /mnt && rescue overlay --drop /dev/md75")?;
        none(ssh)?;
        ssh.ok("rescue assemble /dev/sda")?;
        holds(&ssh.ok("cat /proc/mdstat")?, &["md75 : active (read-only)", "sda"])?;
        ssh.ok("rescue assemble --stop").map(drop)
    });
}

/// A store that is full costs the overlay, never the disk and never the machine.
fn fills(bench: &Bench, ssh: &Ssh) {
    let fill = |name: &str| {
        ssh.run(&format!("dd if=/dev/zero of=/dev/mapper/{name} bs=1M conv=nocreat oflag=direct"))
    };
    bench.check("an overlay that is full is named, can still be read, and can be had anew", || {
        // Less memory than the disk has blocks.
        ssh.ok("mkdir -p /hog && mount -t tmpfs -o size=80% hog /hog && \
                head -c $(($(awk '/MemAvailable/ { print $2 }' /proc/meminfo) - 250000))K /dev/zero > /hog/fill")?;
        ssh.ok("rescue overlay /dev/vda2 /dev/vdb1 /dev/nvme0n1 --json")?;
        let full = fill("over-vda2")?;
        ensure!(full.status != 0, "fail: {full:?}");
        let status = ssh.run("rescue status")?;
        holds(&status.stdout, &["/dev/mapper/over-vda2 is full", "/dev/vda2 is untouched", "rescue overlay --drop /dev/vda2"])?;
        holds(&ssh.ok("rescue overlay")?, &["full"])?;
        ssh.ok("dd if=/dev/mapper/over-vda2 of=/dev/null bs=1M count=8 iflag=direct")?;
        ssh.ok("rescue overlay --drop /dev/vda2 && rescue overlay /dev/vda2")?;
        ssh.ok("dd if=/dev/zero of=/dev/mapper/over-vda2 bs=1M count=8 oflag=direct").map(drop)
    });
    bench.check("a rehearsal without room is trouble, whatever the checker ended with", || {
        fill("over-vda2")?;
        fill("over-nvme0n1")?;
        let answer = ssh.run("fsck -f -y /dev/mapper/over-vdb1")?;
        ensure!(answer.status & 8 != 0, "see 8 in the status: {answer:?}");
        holds(
            &answer.stderr,
            &["/dev/mapper/over-vdb1 is ", "says nothing of /dev/vdb1", "rescue overlay --drop /dev/vdb1"],
        )
    });
    bench.check("several that fill the store together are lost, and said to be", || {
        fill("over-vda2")?;
        fill("over-vdb1")?;
        fill("over-nvme0n1")?;
        let status = ssh.run("rescue status")?;
        holds(&status.stdout, &["is lost", "untouched"])?;
        ssh.ok("rescue overlay --drop && rm /hog/fill && umount /hog")?;
        none(ssh)
    });
}
