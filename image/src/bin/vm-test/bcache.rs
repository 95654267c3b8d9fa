//! What bcache caches: read without its cache where that holds nothing of it, from overlays of both where it does, and
//! not at all where it does and is gone. Fixtures: `image/src/fixtures/bcache.rs`.

use crate::arrays::{hashes, is_whole, plug_in, take_away};
use crate::bench::{Bench, holds};
use crate::disks::set;
use anyhow::{Result, ensure};
use image::vm::{Bus, Disk, Ssh, Vm};

pub fn read(bench: &Bench) -> Result<()> {
    let mut vm = bench.machine()?.slots(1).start(bench)?;
    let ssh = vm.login()?;
    vm.settled_after(0)?;
    for (name, case) in
        [("bcache-clean", clean as fn(&Bench, &Ssh)), ("bcache-dirty", dirty), ("bcache-lost", lost)]
    {
        with(bench, &mut vm, &ssh, name, case)?;
    }
    Ok(())
}

fn with(bench: &Bench, vm: &mut Vm<'_>, ssh: &Ssh, name: &str, case: fn(&Bench, &Ssh)) -> Result<()> {
    let disks: Vec<Disk> = plug_in(bench, vm, name, set(bench, name, Bus::VirtioScsi)?)?;
    let before = hashes(&disks)?;
    case(bench, ssh);
    bench.check(&format!("of {name} nothing is left that runs"), || {
        ssh.run("umount /mnt; rescue assemble --stop")?;
        let left = ssh.ok("ls /dev/mapper /sys/block; ls /sys/fs/bcache 2> /dev/null | grep -c -- - || :")?;
        ensure!(!left.contains("over-") && !left.contains("bcache"), "see nothing: {left}");
        ensure!(left.trim_end().ends_with('0'), "see no set: {left}");
        Ok(())
    });
    take_away(bench, vm, ssh, (name, &disks, &before))
}

fn clean(bench: &Bench, ssh: &Ssh) {
    bench.check("a clean device is read without its cache, and without bcache", || {
        holds(&ssh.run("rescue status")?.stdout, &["cached by bcache, clean", "rescue assemble"])?;
        let text = ssh.ok("rescue assemble")?;
        holds(&text, &["/dev/mapper/bcache-sda", "/dev/sda", "read-only", "Next: mount -o ro"])?;
        ensure!(ssh.ok("blockdev --getro /dev/mapper/bcache-sda")?.trim() == "1", "see it read-only");
        ensure!(ssh.run("grep -q ^bcache /proc/modules")?.status != 0, "do without the module");
        is_whole(ssh, "/dev/mapper/bcache-sda", "11")?;
        holds(&ssh.ok("rescue assemble")?, &["as before"])
    });
}

fn dirty(bench: &Bench, ssh: &Ssh) {
    bench.check("a device with data in its cache alone is started from overlays of both", || {
        let dry = ssh.ok("rescue assemble --dry-run")?;
        holds(&dry, &["over-sda", "over-sdb", "/sys/fs/bcache/register"])?;
        let answer = ssh.run("rescue assemble")?;
        ensure!(answer.status == 0, "be started: {answer:?}");
        holds(&answer.stdout, &["/dev/bcache", "read-only copy"])?;
        holds(&answer.stderr, &["a copy in memory", "rescue assemble --stop /dev/bcache"]).map(drop)
    });
    bench.check("it shows what was written, and nothing is written back", || {
        let device = ssh.ok("ls -d /dev/bcache[0-9]*")?;
        is_whole(ssh, device.trim(), "22")?;
        let held = ssh.ok("cat /sys/block/bcache*/bcache/writeback_running /sys/block/bcache*/ro")?;
        ensure!(held.split_whitespace().eq(["0", "1"]), "see it held: {held}");
        let refused = ssh.run(&format!("mount -o rw {} /mnt", device.trim()))?;
        ensure!(refused.status != 0, "not be written: {refused:?}");
        holds(&ssh.run("rescue status")?.stdout, &["overlay of /dev/sda", "overlay of /dev/sdb"])?;
        holds(&ssh.ok("rescue assemble")?, &["as before"])
    });
}

fn lost(bench: &Bench, ssh: &Ssh) {
    bench.check("a device whose cache is gone with data of it is not started, and said why", || {
        let answer = ssh.run("rescue assemble")?;
        ensure!(answer.status == 2, "be refused: {answer:?}");
        holds(&answer.stderr, &["/dev/sda is not started", "in its cache alone, which is not here"])?;
        holds(&ssh.run("rescue status")?.stdout, &["in its cache alone, which is not here"])
    });
}
