//! LVM and LUKS: opened and activated for reading, every byte stays; for writing, what was named can be written and
//! nothing else. Fixtures: `image/src/fixtures/stacks.rs`.

use crate::bench::{Bench, holds};
use crate::disks::{Before, set};
use anyhow::{Result, ensure};
use image::vm::{Bus, Ssh};

/// Node of a set's disk, by its serial number.
fn disk(set: &str, number: usize) -> String {
    format!("/dev/disk/by-id/virtio-{}-{number}", set.to_uppercase())
}

/// /known of a device, mounted for reading.
fn known(ssh: &Ssh, device: &str, want: &str) -> Result<()> {
    let text = ssh.ok(&format!("mount -o ro {device} /mnt && cat /mnt/known; umount /mnt"))?;
    ensure!(text.trim() == want, "read {want:?} of {device}: {text:?}");
    Ok(())
}

/// The answer of a command that is to end with this status, all of it.
fn ends(ssh: &Ssh, command: &str, status: i32) -> Result<String> {
    let answer = ssh.run(command)?;
    ensure!(answer.status == status, "end {command:?} with status {status}: {answer:?}");
    Ok(answer.stdout + &answer.stderr)
}

const READ: &[&str] = &["lvm", "lvm-kinds", "lvm-missing", "lvm-foreign", "luks", "luks-odd", "luks-md-lvm"];

pub fn unchanged(bench: &Bench) -> Result<()> {
    let mut machine = bench.machine()?.memory(1280);
    let mut before = Before::default();
    for name in READ {
        for disk in set(bench, name, Bus::VirtioBlk)? {
            before.note(&disk)?;
            machine = machine.disk(disk);
        }
    }
    let mut vm = machine.start(bench)?;
    let ssh = vm.login()?;
    vm.settled_after(0)?;
    bench.check("status names groups, volumes, locks and what is missing", || {
        let text = ssh.run("rescue status")?.stdout;
        holds(&text, &["Volume groups", "root 128M linear, not active", "locked: rescue open /dev/vd"])?;
        holds(&text, &["volume group torn: 1 of 2 PVs missing", "it is RAID", "it was exported"])
    });
    bench.check("rescue assemble activates for reading what can be, and names the rest", || {
        let text = ends(&ssh, "rescue assemble", 3)?;
        holds(
            &text,
            &["/dev/vg/root", "/dev/kinds/striped", "/dev/torn/here", "/dev/foreign/root", "read-only"],
        )?;
        holds(
            &text,
            &[
                "kinds is a copy in memory, to be read (it is RAID",
                "torn is a copy in memory, to be read (it is RAID",
                "rescue assemble --stop kinds drops it",
                "read-only copy",
                "torn/half is not activated: it lies on PV",
                "exported is not activated: it was exported",
            ],
        )?;
        ensure!(
            !text.contains("read-write") && !text.contains("can be written"),
            "see nothing writable: {text}"
        );
        Ok(())
    });
    bench.check("what is active is read-only, and has its nodes without udev", || {
        let flags = ssh.ok("for name in vg-root kinds-linear kinds-origin kinds-snap kinds-raid1 kinds-thin kinds-cached foreign-root; do blockdev --getro /dev/mapper/$name; done")?;
        ensure!(flags.split_whitespace().eq(["1"; 8]), "see eight flags set: {flags}");
        ssh.ok("test -b /dev/vg/root && test -b /dev/mapper/vg-root && test -b /dev/kinds/linear")?;
        let refused = ssh.run("dd if=/dev/zero of=/dev/vg/root bs=4096 count=1 conv=fsync")?;
        ensure!(refused.status != 0, "be refused: {refused:?}");
        Ok(())
    });
    bench.check("what stands on overlays to be read is not written by a verb, and said to be a copy", || {
        for command in ["mount -o rw /dev/kinds/raid1 /mnt", "fsck -y /dev/kinds/linear"] {
            let answer = ssh.run(command)?;
            ensure!(answer.status != 0, "{command}: be refused: {answer:?}");
            holds(&answer.stderr, &["copy in memory"])?;
        }
        holds(&ssh.run("rescue assemble --rw kinds")?.stderr, &["active for reading only", "--stop kinds"])?;
        let table = ssh.ok("dmsetup deps -o devname kinds-linear")?;
        holds(&table, &["over-vd"])?;
        holds(&ssh.run("rescue status")?.stdout, &["lvm, a copy in memory", "made by rescue assemble"])
            .map(drop)
    });
    for (device, want) in [
        ("/dev/vg/root", "lvm"),
        ("/dev/kinds/linear", "linear"),
        ("/dev/kinds/striped", "striped"),
        ("/dev/kinds/origin", "origin"),
        ("/dev/kinds/snap", "origin"),
        ("/dev/kinds/raid1", "raid1"),
        ("/dev/kinds/mirror", "mirror"),
        ("/dev/kinds/thin", "thin"),
        ("/dev/kinds/cached", "cached"),
        ("/dev/torn/here", "here"),
        ("/dev/foreign/root", "foreign"),
    ] {
        bench.check(&format!("{device} is mounted and read"), || known(&ssh, device, want));
    }
    bench.check("a volume with a hole is activated when it is asked for", || {
        ends(&ssh, "rescue assemble --partial torn/half", 0)?;
        ssh.ok("test -b /dev/torn/half").map(drop)
    });
    bench.check("on overlays RAID, a thin volume, a mirror and caches are activated, written to and read", || {
        let (a, b) = (disk("lvm-kinds", 0), disk("lvm-kinds", 1));
        // One of its PVs stands for the group.
        ssh.ok("rescue assemble --stop kinds")?;
        let node = ssh.ok(&format!("basename $(realpath {a})"))?;
        let own = format!("over-{}\n", node.trim());
        let maps = ssh.ok("ls /dev/mapper")?;
        ensure!(!maps.contains(&own) && !maps.contains("kinds"), "see its overlays gone: {maps}");
        ssh.ok(&format!("rescue overlay {a} && test -b {b}"))?;
        let text = ends(&ssh, "rescue assemble kinds", 0)?;
        holds(&text, &["/dev/kinds/integrity", "/dev/kinds/writecached", "read-write"])?;
        for volume in ["raid1", "thin", "mirror", "cached", "linear"] {
            known(&ssh, &format!("/dev/kinds/{volume}"), volume)?;
        }
        ssh.ok("mount /dev/kinds/thin /mnt && dd if=/dev/zero of=/mnt/new bs=64k count=16 conv=fsync && umount /mnt")?;
        ends(&ssh, "rescue assemble --stop kinds", 0)?;
        ssh.ok(&format!("rescue overlay --drop {a} {b}"))?;
        let maps = ssh.ok("ls /dev/mapper")?;
        ensure!(!maps.contains(&own) && !maps.contains("kinds"), "see no overlay left: {maps}");
        Ok(())
    });
    let (luks, odd) = (disk("luks", 0), disk("luks-odd", 0));
    bench.check("a wrong passphrase is said so, and stands nowhere afterwards", || {
        let text = ends(&ssh, &format!("echo xyzzy-wrong | rescue open {luks}-part1"), 1)?;
        holds(&text, &["no keyslot takes this passphrase"])?;
        let found = ssh.run("grep -rl xyzzy-wrong /run/lifeboat")?;
        ensure!(found.stdout.is_empty(), "find it nowhere: {found:?}");
        ensure!(ssh.run("test -e /dev/mapper/wrong")?.status != 0, "see nothing opened");
        Ok(())
    });
    bench.check("LUKS 2 is opened by a passphrase on stdin, LUKS 1 by a key file", || {
        let text = ends(&ssh, &format!("echo lifeboat | rescue open --name two {luks}-part1"), 0)?;
        holds(&text, &["/dev/mapper/two is open, read-only: ext4"])?;
        known(&ssh, "/dev/mapper/two", "luks2")?;
        ssh.ok(&format!(
            "printf lifeboat > /tmp/key && rescue open --name one --key-file /tmp/key {luks}-part2"
        ))?;
        known(&ssh, "/dev/mapper/one", "luks1")?;
        holds(&ssh.run("rescue status")?.stdout, &["LUKS 2, open", "LUKS 1, open"])?;
        let again = ends(&ssh, &format!("echo lifeboat | rescue open {luks}-part1"), 2)?;
        holds(&again, &["is open already, as /dev/mapper/two"])
    });
    bench.check("a damaged first header is named, and the second opens it", || {
        let text = ends(&ssh, &format!("echo lifeboat | rescue open --name torn {odd}-part2"), 0)?;
        holds(&text, &["its first header"])?;
        known(&ssh, "/dev/mapper/torn", "torn")
    });
    bench.check("a keyslot that needs more memory than is free is said so at once", || {
        // Until less than 300 MiB are left.
        let fill = "mkdir -p /tmp/fill && mount -t tmpfs -o size=100% fill /tmp/fill && n=0; \
                    while [ $(awk '/MemAvailable/ { print $2 }' /proc/meminfo) -gt 300000 ]; do \
                    head -c 20M /dev/zero > /tmp/fill/$n; n=$((n + 1)); done";
        ssh.ok(fill)?;
        let text = ends(&ssh, &format!("echo lifeboat | rescue open {odd}-part1"), 2)?;
        ssh.ok("umount /tmp/fill")?;
        holds(&text, &["slot 0 needs 384 MiB", "are free"])?;
        ends(&ssh, &format!("echo lifeboat | rescue open --name large {odd}-part1"), 0).map(drop)
    });
    bench.check("md, LUKS on it and LVM inside: assemble, open, assemble", || {
        let text = ends(&ssh, "echo lifeboat | rescue open --name inside /dev/md70", 0)?;
        holds(&text, &["LVM physical volume of server", "Next: rescue assemble"])?;
        ends(&ssh, "rescue assemble server", 0)?;
        known(&ssh, "/dev/server/root", "stack")
    });
    bench.check("what is in use is not closed, and what is not is, with what stands on it", || {
        ssh.ok("mount -o ro /dev/server/root /mnt")?;
        let text = ends(&ssh, "rescue close inside", 2)?;
        holds(&text, &["is mounted: umount /mnt"])?;
        ssh.ok("umount /mnt && rescue close inside")?;
        ssh.ok(&format!(
            "! test -e /dev/server/root && ! test -e /dev/mapper/inside && rescue close {luks}-part1"
        ))
        .map(drop)
    });
    bench.check("rescue assemble --stop takes all apart", || {
        ends(&ssh, "rescue assemble --stop", 0)?;
        let left = ssh.ok("ls /sys/block | grep -E '^(dm-|md)' || true; ls /dev/mapper")?;
        ensure!(left.split_whitespace().eq(["control"]), "see nothing left: {left}");
        Ok(())
    });
    bench.check("poweroff with volumes active ends the machine", || {
        ssh.run("rescue assemble")?;
        ssh.run("echo lifeboat | rescue open --name inside /dev/md70 && rescue assemble server")?;
        ssh.run("poweroff")?;
        vm.wait_off()
    });
    before.unchanged(bench);
    Ok(())
}

pub fn chosen(bench: &Bench) -> Result<()> {
    let mut machine = bench.machine()?.memory(1024);
    for name in ["lvm-names", "lvm-clone", "lvm-kinds", "luks", "luks-more"] {
        machine = machine.disks(set(bench, name, Bus::VirtioBlk)?);
    }
    let vm = machine.start(bench)?;
    let ssh = vm.login()?;
    vm.settled_after(0)?;
    // 1 is read-only.
    let flags = |devices: &[String]| -> Result<String> {
        let nodes = devices.join(" ");
        let text = ssh.ok(&format!("for node in {nodes}; do blockdev --getro $node; done"))?;
        Ok(text.split_whitespace().collect())
    };
    let (one, two) = (disk("lvm-names", 0), disk("lvm-names", 1));
    let uuid = |device: &str| -> Result<String> {
        Ok(ssh.ok(&format!("vgs --noheadings -o vg_uuid --devices $(realpath {device})"))?.trim().to_string())
    };
    bench.check("of two groups with one name neither is activated without a choice", || {
        let text = ends(&ssh, "rescue assemble vg-nothing; rescue assemble", 3)?;
        holds(&text, &["another group has the same name", "carry the same PV", "--with /dev/vd"])?;
        ensure!(ssh.run("test -e /dev/vg/root")?.status != 0, "see no /dev/vg/root");
        Ok(())
    });
    bench.check("each of them is activated by its UUID, one at a time", || {
        for (device, other, want) in [(&one, &two, "A"), (&two, &one, "B")] {
            ends(&ssh, &format!("rescue assemble {}", uuid(device)?), 0)?;
            known(&ssh, "/dev/vg/root", want)?;
            let text = ends(&ssh, &format!("rescue assemble {}", uuid(other)?), 2)?;
            holds(&text, &["another group has the same name"])?;
            ends(&ssh, "rescue assemble --stop vg", 0)?;
        }
        Ok(())
    });
    bench.check("of a disk and its copy the chosen one is used", || {
        let second = disk("lvm-clone", 1);
        let text = ends(&ssh, &format!("rescue assemble --with {second} clone"), 0)?;
        holds(&text, &["it is a copy of /dev/vd"])?;
        let below = ssh.ok("dmsetup deps -o devname clone-root")?;
        let real = ssh.ok(&format!("basename $(realpath {second})"))?;
        ensure!(below.contains(&format!("({})", real.trim())), "stand on {real}: {below}");
        known(&ssh, "/dev/clone/root", "clone")?;
        ends(&ssh, "rescue assemble --stop clone", 0).map(drop)
    });
    let kinds = [disk("lvm-kinds", 0), disk("lvm-kinds", 1)];
    bench.check(
        "for writing, RAID, a thin volume, a mirror and a cache are activated, and their PVs alone opened",
        || {
            // In the first check its volumes were activated for reading.
            ends(&ssh, "rescue assemble --stop kinds", 0)?;
            let text = ends(&ssh, "rescue assemble --rw kinds", 0)?;
            holds(&text, &["/dev/kinds/raid1", "read-write"])?;
            ensure!(
                flags(&kinds)? == "00" && flags(&[one.clone(), two.clone()])? == "11",
                "see only its PVs open"
            );
            for volume in ["raid1", "thin", "mirror", "cached", "linear"] {
                known(&ssh, &format!("/dev/kinds/{volume}"), volume)?;
            }
            ssh.ok("mount /dev/kinds/raid1 /mnt && echo written > /mnt/known && umount /mnt")?;
            known(&ssh, "/dev/kinds/raid1", "written")
        },
    );
    bench.check("rescue assemble --stop guards them again", || {
        ends(&ssh, "rescue assemble --stop kinds", 0)?;
        ensure!(flags(&kinds)? == "11", "see the guard on");
        Ok(())
    });
    let luks = disk("luks", 0);
    let parts = [format!("{luks}-part1"), format!("{luks}-part2")];
    bench.check("rescue open --rw opens the guard of what is below, and rescue close puts it back", || {
        let text = ends(&ssh, &format!("echo lifeboat | rescue open --rw --name w {}", parts[0]), 0)?;
        holds(&text, &["can be written now: /dev/vd", "read-write"])?;
        ensure!(flags(&parts)? == "01", "see one part open");
        ssh.ok("mount /dev/mapper/w /mnt && echo written > /mnt/known && umount /mnt && rescue close w")?;
        ensure!(flags(&parts)? == "11", "see the guard on");
        ends(&ssh, &format!("echo lifeboat | rescue open --name r {}", parts[0]), 0)?;
        known(&ssh, "/dev/mapper/r", "written")
    });
    bench.check("what carries the tags of an opened device goes with it, and the guard is back on", || {
        let part = format!("{}-part2", disk("luks-more", 0));
        ends(&ssh, &format!("echo lifeboat | rescue open --rw --name tags {part}"), 0)?;
        known(&ssh, "/dev/mapper/tags", "integrity")?;
        let maps = ssh.ok("test -e /dev/mapper/tags_dif && rescue close tags && ls /dev/mapper")?;
        ensure!(!maps.contains("tags"), "see nothing of it left: {maps}");
        ensure!(flags(&[part])? == "1", "see the guard on");
        Ok(())
    });
    bench.check(
        "a header apart from its data is not opened over itself, and what is said opens both",
        || {
            let (data, header) = (disk("luks-more", 0) + "-part3", disk("luks-more", 0) + "-part4");
            let text = ends(&ssh, &format!("echo lifeboat | rescue open --rw {header}"), 2)?;
            holds(
                &text,
                &["is a header kept apart from its data: cryptsetup open --readonly --header /dev/vd"],
            )?;
            ensure!(flags(std::slice::from_ref(&header))? == "1", "see the guard on");
            ssh.ok(&format!(
                "printf lifeboat | cryptsetup open --readonly --key-file - --header {header} {data} apart"
            ))?;
            known(&ssh, "/dev/mapper/apart", "apart")?;
            ssh.ok("rescue close apart && ! test -e /dev/mapper/apart").map(drop)
        },
    );
    bench.check("a wrong passphrase leaves the guard on", || {
        ends(&ssh, &format!("echo wrong | rescue open --rw {}", parts[1]), 1)?;
        ensure!(flags(&parts)? == "11", "see the guard on");
        Ok(())
    });
    bench.check("rescue writable on a lock asks whether rescue open was meant", || {
        let text = ends(&ssh, &format!("rescue writable {}; rescue unlock", parts[1]), 2)?;
        holds(&text, &["did you mean rescue open /dev/vd", "no verb unlock: did you mean rescue open?"])
    });
    Ok(())
}
