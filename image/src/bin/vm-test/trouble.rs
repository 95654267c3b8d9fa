//! Hardware and disks that misbehave from power-on.

use crate::bench::{Bench, holds};
use crate::disks::set;
use anyhow::{Context as _, Result, ensure};
use contract::event::Event;
use image::fixtures::serial;
use image::vm::{Bus, Disk, qemu};
use std::time::Duration;

const GIB: u64 = 1 << 30;
/// A verb that meets a hung disk may wait for one deadline of a worker, not for the disk.
const VERB: Duration = Duration::from_secs(90);

pub fn hung(bench: &Bench) -> Result<()> {
    with_hung(bench, &[("/dev/vd", Bus::VirtioBlk)])
}

pub fn hung_both(bench: &Bench) -> Result<()> {
    // Not NVMe: when the guest resets a controller, QEMU itself waits for the requests that never end, and
    // the whole machine stands still. Which of the names of its bus a disk gets is a matter of luck.
    with_hung(bench, &[("/dev/vd", Bus::VirtioBlk), ("/dev/sd", Bus::VirtioScsi)])
}

fn with_hung(bench: &Bench, hung: &[(&str, Bus)]) -> Result<()> {
    let good = set(bench, "hetzner", Bus::Ahci)?;
    let bad = (0..).zip(hung).map(|(number, (_, bus))| Disk::hung(GIB, *bus, &format!("HUNG-{number}")));
    // The kernel's own set-up code asks a BIOS for the first sector of every disk, and this one waits.
    // Behind the hung one, of the same driver.
    let beside = set(bench, "random", Bus::VirtioBlk)?;
    let vm = bench.machine()?.disks(good).disks(bad).disks(beside).append("edd=off").start(bench)?;
    let ssh = vm.login()?.patience(VERB);
    for (name, _) in hung {
        bench.check(&format!("the hung disk {name} is named"), || vm.warning(&[name]));
    }
    bench.check("rescue status answers, and the sound disks are there", || {
        let answer = ssh.run("rescue status")?;
        ensure!(answer.status != 124, "be answered in time");
        holds(&answer.stdout, &["sda", "sdb", "vdb"])
    });
    bench.check("lsblk and blkid answer", || {
        let parts = ssh.ok("lsblk -rno TYPE | grep -c part")?;
        ensure!(parts.trim() == "8", "see both sound disks' partitions: {parts}");
        holds(&ssh.run("blkid")?.stdout, &["22222222-0000-0000-0000-000000000002"])
    });
    bench.check("the sound arrays are assembled", || {
        ssh.run("rescue assemble")?;
        holds(&ssh.ok("cat /proc/mdstat")?, &["md2 : active"])
    });
    bench.check("reboot does not wait for the hung disk", || {
        ssh.run("reboot")?;
        vm.events.wait("the event of the shutdown", 0, qemu::SOON, |event| {
            matches!(event, Event::Shutdown { .. }).then_some(())
        })?;
        // The driver's probe waits for the disk, the kernel for the driver, and PID 1 for neither. QEMU
        // would wait too, so the kernel's last line is what counts.
        vm.console.wait_for("sysrq: Resetting", 0, qemu::SOON * 3).map(drop)
    });
    Ok(())
}

/// What `rescue status --help` says that it waits at most, and what all the rest may take in an emulated machine.
const STATED: f64 = 10.0;
const REST: f64 = 3.0;

pub fn slow_and_failing(bench: &Bench) -> Result<()> {
    let good = set(bench, "hetzner", Bus::Ahci)?;
    let slow = set(bench, "random", Bus::VirtioBlk)?.remove(0).throttled();
    let failing = Disk::failing(GIB, Bus::VirtioBlk, "FAILING-0");
    let mut vm =
        bench.machine()?.disks(good).disk(slow.clone()).disk(failing).append("edd=off").start(bench)?;
    let ssh = vm.login()?.patience(VERB);
    vm.settled_after(0)?;
    // Its first line is how long it took there, without the way.
    let status = |words: &str| -> Result<(f64, String)> {
        let line = format!(
            "bash -c 'b=$EPOCHREALTIME; s=$({words}); e=$EPOCHREALTIME; echo $((${{e/./}} - ${{b/./}})); echo \"$s\"'"
        );
        let text = ssh.ok(&line)?;
        let (micros, rest) = text.split_once('\n').unwrap_or_default();
        let seconds = micros.parse::<f64>().with_context(|| format!("read the time in:\n{text}"))? / 1e6;
        Ok((seconds, rest.to_string()))
    };
    // Which of two disks the kernel finds first is not known.
    let node = |serial: &str| -> Result<String> {
        Ok(ssh.ok(&format!("readlink -f /dev/disk/by-id/virtio-{serial}"))?.trim().to_string())
    };
    let (failing, hung) = (node("FAILING-0")?, node(&serial("random", 0))?);
    let (fails, hangs) = (format!("{failing} has read errors"), format!("{hung} did not answer within 10 s"));
    let good = ["rescue:2 raid1, 2 of 2 members", "sda4", "sdb4"];
    bench.check("with a disk that fails alone, rescue status is there at once and names it", || {
        let (seconds, text) = status("rescue status")?;
        ensure!(seconds < REST, "take {seconds} s:\n{text}");
        holds(&text, &[&good[..], &[fails.as_str()]].concat())
    });
    vm.throttle(&slow, Some(1))?;
    bench.check(
        "with one of one request a second beside it, within the stated deadline, and both are named",
        || {
            let (seconds, text) = status("rescue status")?;
            ensure!(seconds < STATED + REST, "take {seconds} s:\n{text}");
            holds(&text, &[&good[..], &[fails.as_str(), hangs.as_str()]].concat())
        },
    );
    bench.check("as JSON, too, and what is on the others is complete", || {
        let (seconds, text) = status("rescue status --json")?;
        ensure!(seconds < STATED + REST, "take {seconds} s:\n{text}");
        let picture: serde_json::Value = serde_json::from_str(&text).context("read the JSON")?;
        let drives = picture["drives"].as_array().context("find the drives")?;
        let health = |path: &str| {
            drives
                .iter()
                .find(|line| line["path"] == path)
                .map_or("absent", |line| line["health"].as_str().unwrap_or_default())
        };
        ensure!(health(&hung) == "hung", "see {hung} hung: {text}");
        let of_ahci = drives
            .iter()
            .filter(|line| line["path"].as_str().is_some_and(|path| path.starts_with("/dev/sd")));
        let known = of_ahci.filter(|line| line["health"] != "hung" && line["health"] != "unknown").count();
        ensure!(known == 10, "see both sound disks and their eight partitions, not {known}: {text}");
        Ok(())
    });
    vm.throttle(&slow, None)?;
    bench.check("once it answers again, it is seen as it is", || {
        // The one that was given up has to end first.
        let line = format!(
            "for i in $(seq 100); do rescue status | grep -q '{hung} did not' || exit 0; done; exit 1"
        );
        ssh.ok(&line).map(drop)
    });
    Ok(())
}

pub fn unread(bench: &Bench) -> Result<()> {
    // Without quiet the kernel itself spends 10 ms on every byte that the line does not take.
    let vm = bench.machine()?.unread_serial().append("quiet").start(bench)?;
    vm.events.ready("sshd", 0, qemu::BOOT)?;
    vm.addresses(1)?;
    let ssh = vm.ssh(0, &vm.known_hosts_event()?)?;
    bench.check("a full serial line holds up no login", || ssh.ok("true").map(drop));
    bench.check("and none after a flood to it", || {
        ssh.run("timeout 2 sh -c 'dmesg > /dev/ttyS0'")?;
        ssh.ok("true").map(drop)
    });
    Ok(())
}

pub fn damaged(bench: &Bench) -> Result<()> {
    let mut machine = bench.machine()?;
    for name in ["random", "torn-gpt", "ebr-loop"] {
        machine = machine.disks(set(bench, name, Bus::VirtioScsi)?);
    }
    let vm = machine.start(bench)?;
    let ssh = vm.login()?.patience(VERB);
    vm.settled_after(0)?;
    let node = |serial: &str| -> Result<String> {
        let found = ssh.ok(&format!("readlink -f /dev/disk/by-id/*{serial}"))?;
        Ok(found.lines().next().unwrap_or_default().trim().to_string())
    };
    bench.check("a random disk is listed as one without a table", || {
        let list = ssh.run(&format!("fdisk -l {}", node("RANDOM-0")?))?;
        ensure!(
            !list.stdout.contains("Disklabel") && list.stdout.contains("32 MiB"),
            "see a bare disk: {list:?}"
        );
        Ok(())
    });
    for (serial, words) in [("TORN-GPT-0", "primary"), ("TORN-GPT-1", "backup"), ("TORN-GPT-2", "primary")] {
        bench.check(&format!("{serial}: the torn table is named, and the sound one used"), || {
            let list = ssh.run(&format!("fdisk -l {} 2>&1", node(serial)?))?;
            holds(&list.stdout.to_lowercase(), &[words, "corrupt", "linux filesystem"])
        });
    }
    bench.check("a loop of extended tables ends", || {
        let list = ssh.run(&format!("fdisk -l {} 2>&1", node("EBR-LOOP-0")?))?;
        ensure!(list.status != 124, "end in time");
        holds(&list.stdout, &["5 Extended"])
    });
    bench.check("lsblk, blkid and rescue status survive them all", || {
        ssh.ok("lsblk")?;
        ensure!(ssh.run("blkid")?.status != 124, "end in time");
        ensure!(ssh.run("rescue status")?.status != 124, "end in time");
        Ok(())
    });
    Ok(())
}
