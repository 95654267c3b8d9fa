//! What LVM had begun when its machine stopped, and goes on with as soon as it is activated: a volume that is being moved, and a
//! snapshot that is being merged. Both are read from copies in memory, where it may go on.

use crate::arrays::{hashes, plug_in, take_away};
use crate::bench::{Bench, holds};
use crate::disks::set;
use anyhow::{Result, ensure};
use image::vm::Bus;

struct Case {
    set: &'static str,
    group: &'static str,
    why: &'static str,
    /// Of /known on the volume root.
    known: &'static str,
}

const CASES: &[Case] = &[
    Case { set: "lvm-pvmove", group: "moving", why: "moved", known: "moving" },
    // As it is once it is merged.
    Case { set: "lvm-merge", group: "merging", why: "merged", known: "before" },
];

pub fn read(bench: &Bench) -> Result<()> {
    let mut vm = bench.machine()?.slots(1).memory(1024).start(bench)?;
    let ssh = vm.login()?;
    vm.settled_after(0)?;
    for Case { set: name, group, why, known } in CASES {
        let disks = plug_in(bench, &mut vm, name, set(bench, name, Bus::VirtioScsi)?)?;
        let before = hashes(&disks)?;
        bench.check(&format!("{name} is activated as a copy in memory"), || {
            let answer = ssh.run("rescue assemble")?;
            ensure!(answer.status == 0, "be activated: {answer:?}");
            holds(&answer.stdout, &[&format!("/dev/{group}/root"), "read-only copy"])?;
            holds(&answer.stderr, &[&format!("{group} is a copy in memory"), why])
        });
        bench.check(&format!("{name} is read as it is when that is done"), || {
            let read = format!("mount -o ro /dev/{group}/root /mnt && cat /mnt/known; umount /mnt");
            let text = ssh.ok(&read)?;
            ensure!(text.trim() == *known, "read {known}: {text:?}");
            Ok(())
        });
        bench.check(&format!("{name} is taken down, with its overlays"), || {
            ssh.ok("rescue assemble --stop")?;
            let left = ssh.ok("ls /dev/mapper")?;
            ensure!(left.trim() == "control", "see nothing left: {left}");
            Ok(())
        });
        take_away(bench, &mut vm, &ssh, (name, &disks, &before))?;
    }
    Ok(())
}
