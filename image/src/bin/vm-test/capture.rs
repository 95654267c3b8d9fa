//! A machine captured, carried away, and looked at on the host with the same program.

use crate::bench::{Bench, holds};
use crate::disks::{Before, set};
use anyhow::{Context as _, Result, ensure};
use image::vm::{Bus, Ssh};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// What has to look the same here and there.
const LOOKS: &[&[&str]] = &[
    &["status"],
    &["lsblk"],
    &["lsblk", "-f"],
    &["lsblk", "-o", "NAME,SIZE,TYPE,FSTYPE,LABEL,UUID,PARTUUID,MODEL,SERIAL,TRAN,RO,STATE,MOUNTPOINTS"],
    &["blkid"],
    &["fdisk", "-l"],
];
/// One deadline of a worker, and what else a capture takes on an emulated processor.
const VERB: Duration = Duration::from_secs(90);

/// What is printed in the machine, and of its capture on the host.
fn compare(ssh: &Ssh, directory: &Path, words: &[&str]) -> Result<()> {
    let there = ssh.run(&format!("LC_ALL=C rescue {}", words.join(" ")))?;
    let mut command = Command::new(directory.join("rescue"));
    command.args(&words[..1]).arg("--sysroot").arg(directory.join("machine")).args(&words[1..]);
    let here = command.env_clear().env("LC_ALL", "C").output().context("run the machine's rescue")?;
    let (out, errors) = (String::from_utf8_lossy(&here.stdout), String::from_utf8_lossy(&here.stderr));
    let differing = there.stdout.lines().zip(out.lines()).find(|(there, here)| there != here);
    ensure!(there.stdout == out, "see the same: {differing:?}, in\n{}\nand\n{out}", there.stdout);
    ensure!(there.stderr == errors, "hear the same: {}\nand\n{errors}", there.stderr);
    ensure!(Some(there.status) == here.status.code(), "end as {}: {}", there.status, here.status);
    Ok(())
}

/// Captures there, and lays it out here, as a person does it.
fn carry(ssh: &Ssh, directory: &Path) -> Result<String> {
    let said = ssh.ok("rescue capture /root/cap")?;
    ssh.ok("tar -C /root/cap -cSzf /root/cap.tar.gz .")?;
    let archive = directory.join("cap.tar.gz");
    let path = |path: &Path| path.to_str().map(str::to_string).context("name a file of the lab");
    ssh.scp(":/root/cap.tar.gz", &path(&archive)?)?;
    // It is static, and was built on the host.
    ssh.scp(":/lifeboat/bin/rescue", &path(&directory.join("rescue"))?)?;
    let machine = directory.join("machine");
    fs::create_dir_all(&machine).with_context(|| format!("create {}", machine.display()))?;
    let status = Command::new("tar").arg("-C").arg(&machine).arg("-xzSf").arg(&archive).status();
    ensure!(status.context("run tar")?.success(), "unpack the capture");
    Ok(said)
}

pub fn elsewhere(bench: &Bench) -> Result<()> {
    let mut machine = bench.machine()?.memory(768);
    let mut before = Before::default();
    let stalled = set(bench, "dirty", Bus::VirtioBlk)?.remove(0).throttled();
    for disk in set(bench, "hetzner", Bus::Ahci)?.into_iter().chain(set(bench, "luks", Bus::VirtioScsi)?) {
        before.note(&disk)?;
        machine = machine.disk(disk);
    }
    before.note(&stalled)?;
    let mut vm = machine.disk(stalled.clone()).start(bench)?;
    let ssh = vm.login()?.patience(VERB);
    vm.settled_after(0)?;
    // With running arrays: their state in sysfs is part of it. With something mounted: so is its room.
    ssh.ok("rescue assemble && mkdir -p /boot && mount -o ro /dev/md1 /boot")?;
    let directory = bench.dir.clone();
    bench.check("a machine is captured into memory and carried away", || {
        let said = carry(&ssh, &directory)?;
        holds(&said, &["saved in /root/cap, which takes", "left out: key slots of LUKS: ", "Next: tar"])?;
        let size = fs::metadata(directory.join("cap.tar.gz")).context("look at the archive")?.len();
        ensure!(size < 1 << 20, "carry less than 1 MiB: {size}");
        Ok(())
    });
    for words in LOOKS {
        bench.check(&format!("rescue {} of the capture prints what the machine does", words[0]), || {
            compare(&ssh, &directory, words)
        });
    }
    bench.check("the room of what was mounted is in it", || {
        let mut command = Command::new(directory.join("rescue"));
        command.args(["lsblk", "--sysroot"]).arg(directory.join("machine"));
        let here = command.args(["-n", "-o", "FSUSE%,FSAVAIL", "/dev/md1"]).output().context("run it")?;
        let there = ssh.ok("df -k --output=avail /boot | tail -n 1")?;
        let text = String::from_utf8_lossy(&here.stdout);
        ensure!(text.contains('%') && there.trim() != "0", "see {there} KiB: {text}");
        ssh.ok("umount /boot").map(drop)
    });
    bench.check("no key and no parameter with one is in it", || {
        let line = fs::read_to_string(directory.join("machine/proc/cmdline")).context("read its cmdline")?;
        holds(&line, &["ssh_key=REDACTED", "console=ttyS0"])?;
        let state = fs::read_to_string(directory.join("machine/run/lifeboat/state/sshd.json"));
        ensure!(!state.context("read sshd's state")?.contains("ssh-ed25519 A"), "find no host key");
        let keys = ssh.run("ls /root/cap/run/lifeboat/sshd")?;
        ensure!(keys.status != 0, "see nothing of sshd's directory: {keys:?}");
        Ok(())
    });
    bench.check("a directory that is not empty, and one on a disk that is read-only, are refused", || {
        for (command, want) in [
            ("rescue capture /root/cap", "is not empty"),
            (
                "mount -o ro /dev/md1 /mnt && rescue capture /mnt/cap",
                "is on /mnt, which is mounted read-only",
            ),
        ] {
            let answer = ssh.run(command)?;
            ensure!(answer.status == 2, "end {command:?} with status 2: {answer:?}");
            holds(&answer.stderr, &[want])?;
        }
        ssh.ok("umount /mnt").map(drop)
    });
    vm.stall(&stalled)?;
    bench.check("a disk that begins to hang is named, and the rest is captured", || {
        let answer = ssh.run("rescue capture /root/hung")?;
        ensure!(answer.status == 3, "end with status 3: {answer:?}");
        holds(&answer.stdout, &["! /dev/vda did not answer within 10 s"])?;
        ssh.ok(
            "test -e /root/hung/dev/md2 && ! test -e /root/hung/dev/vda && ! test -e /root/hung/.unfinished",
        )?;
        holds(&ssh.run("rescue status --sysroot /root/hung")?.stdout, &["/dev/vda hangs", "md2"])
    });
    vm.throttle(&stalled, None)?;
    bench.check("poweroff ends the machine", || {
        ssh.run("poweroff")?;
        vm.wait_off()
    });
    before.unchanged(bench);
    Ok(())
}
