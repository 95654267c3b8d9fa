//! Arrays of every level and superblock version, plugged into one running machine.

use crate::bench::{Bench, holds};
use crate::disks::set;
use anyhow::{Result, ensure};
use contract::event::Event;
use image::vm::{Bus, qemu};

struct Case {
    set: &'static str,
    array: &'static str,
    /// Pieces of /proc/mdstat.
    mdstat: &'static [&'static str],
}

const CASES: &[Case] = &[
    Case { set: "raid5-missing", array: "md50", mdstat: &["raid5", "[3/2] [UU_]"] },
    Case { set: "raid10", array: "md10", mdstat: &["raid10", "[4/4] [UUUU]"] },
    Case { set: "raid6", array: "md60", mdstat: &["raid6", "[4/4] [UUUU]"] },
    Case { set: "raid0", array: "md20", mdstat: &["raid0"] },
    Case { set: "metadata-0.90", array: "md90", mdstat: &["raid1", "[2/2] [UU]"] },
    Case { set: "metadata-1.0", array: "md30", mdstat: &["raid1", "super 1.0"] },
];

pub fn hotplug(bench: &Bench) -> Result<()> {
    let mut vm = bench.machine()?.slots(1).start(bench)?;
    let ssh = vm.login()?;
    vm.settled_after(0)?;
    for case in CASES {
        let disks = set(bench, case.set, Bus::VirtioScsi)?;
        let mark = vm.events.mark();
        for disk in &disks {
            vm.plug(disk)?;
        }
        let mut guarded = 0;
        let seen = vm.events.wait("the events of all plugged disks", mark, qemu::SOON, |event| {
            guarded += usize::from(matches!(event, Event::Disk { guarded: true, .. }));
            (guarded >= disks.len()).then_some(())
        });
        bench.check(&format!("{} plugged in is guarded", case.set), || seen);
        bench.check(&format!("{} is assembled and read", case.set), || {
            // A degraded array may be reported by the status, so the kernel is asked.
            ssh.run("rescue assemble")?;
            let mdstat = ssh.ok("cat /proc/mdstat")?;
            holds(&mdstat, &[&format!("{} : active", case.array)])?;
            holds(&mdstat, case.mdstat)?;
            let array = case.array;
            let known = ssh.ok(&format!("mount -o ro /dev/{array} /mnt && cat /mnt/known && umount /mnt"))?;
            ensure!(known.trim() == array.replace("md", "array-"), "read the known file: {known:?}");
            Ok(())
        });
        // Whatever happened: the next set finds an empty machine.
        ssh.run("umount /mnt 2> /dev/null; mdadm --stop --scan")?;
        for disk in &disks {
            vm.unplug(disk)?;
        }
    }
    Ok(())
}
