//! What a command of ours wrote to a table or a header is put back, and nothing is written over that is in use or another
//! disk's.

use crate::arrays::{plug, unplug};
use crate::bench::{Bench, holds};
use anyhow::{Context as _, Result, ensure};
use image::packages::digest;
use image::vm::disks::Backing;
use image::vm::{Disk, Ssh};
use serde_json::Value;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

pub fn put_back(bench: &Bench) -> Result<()> {
    let mut vm = bench.machine()?.slots(1).start(bench)?;
    let ssh = vm.login()?;
    vm.settled_after(0)?;
    bench.check("before anything was written, nothing is saved", || {
        let answer = ssh.run("rescue undo")?;
        ensure!(answer.status == 1 && answer.stdout.contains("Nothing is saved"), "see none: {answer:?}");
        Ok(())
    });

    let disks = plug(bench, &mut vm, "raid6")?;
    let heads = heads(&disks)?;
    bench.check("an array that is started for writing says where its superblocks are saved", || {
        let answer = ssh.run("rescue assemble --rw")?;
        ensure!(answer.status == 0, "be started: {answer:?}");
        holds(&answer.stderr, &["as it was before: /run/lifeboat/undo/1-assemble", "/dev/sda", "/dev/sdd"])?;
        ssh.ok("mount -t ext4 /dev/md60 /mnt && echo new > /mnt/new && umount /mnt").map(drop)
    });
    let first = own_windows(&ssh, 1)?;
    bench.check("what runs is not written over", || {
        let answer = ssh.run("rescue undo 1")?;
        ensure!(answer.status == 2, "be refused: {answer:?}");
        holds(&answer.stderr, &["/dev/sda is in use: rescue assemble --stop /dev/md60"])
    });
    ssh.ok("rescue assemble --stop")?;
    // A clean stop takes the event count back (drivers/md/md.c: md_update_sb), and leaves the time of the last change.
    let sums = || -> Result<Vec<String>> {
        let text = ssh.ok("mdadm --examine /dev/sd?")?;
        Ok(text.lines().filter(|line| line.contains("Checksum :")).map(str::to_string).collect())
    };
    let moved = sums()?;
    bench.check("a dry run shows which windows differ, and changes none", || {
        let before = self::heads(&disks)?;
        let answer = ssh.ok("rescue undo 1 --dry-run")?;
        holds(
            &answer,
            &["/dev/sda  md superblock", "0+", "differs", "rescue writable /dev/sda", "dd if=/run/lifeboat"],
        )?;
        ensure!(before == self::heads(&disks)?, "see that nothing was written");
        Ok(())
    });
    bench.check("the superblocks are put back, byte by byte, and guarded again", || {
        let answer = ssh.run("rescue undo 1")?;
        ensure!(answer.status == 0, "put them back: {answer:?}");
        holds(&answer.stdout, &["/dev/sda  md superblock", "put back"])?;
        ensure!(
            ssh.ok("cat /sys/class/block/sd?/ro")?.split_whitespace().all(|flag| flag == "1"),
            "be guarded"
        );
        ensure!(sums()? != moved, "see other superblocks than {moved:?}");
        same(&disks, &heads, &first)
    });
    bench.check("an undo is undone", || {
        let answer = ssh.ok("rescue undo")?;
        let line = answer
            .lines()
            .find(|line| line.contains("rescue undo 1"))
            .context("find the undo's own entry")?;
        let number = line.split_whitespace().next().unwrap_or_default();
        ssh.ok(&format!("rescue undo {number}"))?;
        ensure!(sums()? == moved, "see the superblocks of before: {moved:?}, {:?}", sums()?);
        ssh.ok("rescue undo 1")?;
        same(&disks, &heads, &first)
    });
    bench.check("the array runs from what was put back", || {
        ssh.ok("rescue assemble")?;
        holds(&ssh.ok("cat /proc/mdstat")?, &["md60 : active (read-only) raid6", "[4/4] [UUUU]"])?;
        ssh.ok("rescue assemble --stop").map(drop)
    });
    unplug(&mut vm, &ssh, &disks)?;

    let disks = plug(bench, &mut vm, "lvm")?;
    let before = whole(&disks)?;
    let mut number = 0;
    bench.check("a table that is zapped behind rescue writable is put back", || {
        let answer = ssh.run("rescue writable /dev/sda")?;
        holds(&answer.stderr, &["as it was before: /run/lifeboat/undo/", "/dev/sda, /dev/sda1"])?;
        number = last(&ssh)?["number"].as_u64().context("find its number")?;
        ssh.ok("sgdisk --zap-all /dev/sda && rescue protect /dev/sda && blockdev --rereadpt /dev/sda")?;
        ensure!(!ssh.ok("cat /proc/partitions")?.contains("sda1"), "see no partition");
        let answer = ssh.run(&format!("rescue undo {number}"))?;
        // The partition's own header has no place to be put until the kernel has read the table.
        ensure!(answer.status == 3, "put the table back: {answer:?}");
        holds(&answer.stderr, &["/dev/sda1 is gone"])?;
        holds(&answer.stdout, &["gpt table", "put back", "Next: blockdev --rereadpt /dev/sda"])?;
        ensure!(whole(&disks)? == before, "keep every byte of the disk");
        ssh.ok("blockdev --rereadpt /dev/sda && rescue assemble && mount -o ro /dev/vg/root /mnt && cat /mnt/known")?;
        ssh.ok("umount /mnt && rescue assemble --stop")?;
        let answer = ssh.run(&format!("rescue undo {number}"))?;
        ensure!(answer.status == 0 && !answer.stdout.contains("put back"), "find all as it was: {answer:?}");
        Ok(())
    });
    bench.check("a store that is full is said, and stops nobody", || {
        ssh.run("dd if=/dev/zero of=/run/lifeboat/undo/fill bs=1M 2> /dev/null")?;
        ssh.ok("truncate -s 0 /run/lifeboat/undo/none 2> /dev/null; rescue protect /dev/sda")?;
        let answer = ssh.run("rescue mount --rw /dev/sda1 /mnt; rescue writable /dev/sda")?;
        ensure!(answer.status == 0, "go on: {answer:?}");
        holds(&answer.stderr, &["not saved before", "can be written now: /dev/sda"])?;
        ssh.ok("rm /run/lifeboat/undo/fill; rescue protect /dev/sda").map(drop)
    });
    unplug(&mut vm, &ssh, &disks)?;

    let disks = plug(bench, &mut vm, "raid0")?;
    bench.check("another disk under the same name is not written to", || {
        let answer = ssh.run(&format!("rescue undo {number}"))?;
        ensure!(answer.status == 2, "be refused: {answer:?}");
        holds(&answer.stderr, &["/dev/sda is another device now", "serial RAID0-0", "serial LVM-0"])
    });
    bench.check("what was made on a blank disk since is left, and named", || {
        ssh.ok(
            "rescue writable /dev/sda && wipefs -qa /dev/sda && dd if=/dev/zero of=/dev/sda bs=1M count=8",
        )?;
        ssh.ok("rescue undo --save /dev/sda")?;
        let number = last(&ssh)?["number"].as_u64().context("find its number")?;
        ssh.ok("mkfs.ext4 -q -F -L fresh /dev/sda && rescue protect /dev/sda")?;
        let answer = ssh.run(&format!("rescue undo {number}"))?;
        ensure!(answer.status == 0, "be told: {answer:?}");
        holds(&answer.stdout, &["no table", "nothing was there, and ext4 is now (--file-systems)"])?;
        holds(&ssh.ok("blkid /dev/sda")?, &["fresh"])
    });
    unplug(&mut vm, &ssh, &disks)?;
    Ok(())
}

/// How much of a member lies before its data.
const HEAD: usize = 1 << 20;

fn raw(disk: &Disk) -> Option<&Path> {
    match &disk.backing {
        Backing::Raw(path) => Some(path),
        Backing::Qcow2(_) | Backing::Hung(_) | Backing::Failing(_) => None,
    }
}

fn heads(disks: &[Disk]) -> Result<Vec<Vec<u8>>> {
    let head = |path| -> Result<Vec<u8>> {
        let mut bytes = vec![0; HEAD];
        File::open(path)?.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    };
    disks.iter().filter_map(raw).map(head).collect()
}

fn whole(disks: &[Disk]) -> Result<Vec<String>> {
    disks.iter().filter_map(raw).map(digest).collect()
}

fn list(ssh: &Ssh) -> Result<Vec<Value>> {
    let report: Value = serde_json::from_str(&ssh.ok("rescue undo --json")?)?;
    Ok(report["entries"].as_array().cloned().unwrap_or_default())
}

fn last(ssh: &Ssh) -> Result<Value> {
    list(ssh)?.pop().context("find an entry")
}

/// Windows of each device's own header, in the order of the disks.
fn own_windows(ssh: &Ssh, number: u64) -> Result<Vec<Vec<(usize, usize)>>> {
    let entry = list(ssh)?.into_iter().find(|entry| entry["number"] == number).context("find the entry")?;
    let devices = entry["devices"].as_array().cloned().unwrap_or_default();
    let disks = devices.iter().filter(|one| one["what"] == "md superblock");
    let windows = |one: &Value| {
        let own = one["windows"].as_array().cloned().unwrap_or_default();
        let own = own.iter().filter(|window| window["kind"] == "header");
        let number =
            |value: &Value| value.as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
        own.map(|window| (number(&window["start"]), number(&window["length"]))).collect()
    };
    Ok(disks.map(windows).collect())
}

fn same(disks: &[Disk], before: &[Vec<u8>], windows: &[Vec<(usize, usize)>]) -> Result<()> {
    let after = heads(disks)?;
    ensure!(
        windows.len() == disks.len() && windows.iter().all(|own| !own.is_empty()),
        "see every disk saved"
    );
    for ((before, after), own) in before.iter().zip(&after).zip(windows) {
        for (start, length) in own.iter().filter(|(start, length)| start + length <= HEAD) {
            let range = *start..start + length;
            ensure!(before[range.clone()] == after[range], "keep the bytes at {start}+{length}");
        }
        ensure!(before[4096..8192] == after[4096..8192], "keep the whole superblock");
    }
    Ok(())
}
