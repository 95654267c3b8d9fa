//! Firmware RAID of the two kinds that mdadm knows: its volumes are started to be read, by our own reading of its metadata and
//! without mdadm's process that would write it. Fixtures: `image/src/fixtures/firmware.rs`.

use crate::arrays::{hashes, is_whole, plug_in, take_away};
use crate::bench::{Bench, holds};
use crate::disks::set;
use anyhow::{Context as _, Result, ensure};
use image::vm::{Bus, Ssh};

struct Case {
    set: &'static str,
    /// Pulled out before it is plugged in.
    without: Option<usize>,
    kind: &'static str,
    /// With a piece of the array's lines in /proc/mdstat.
    volumes: &'static [(&'static str, &'static str)],
}

const BOTH: &[(&str, &str)] = &[("mirror", "raid1"), ("stripe", "raid0")];

const CASES: &[Case] = &[
    Case { set: "imsm", without: None, kind: "Intel firmware RAID", volumes: BOTH },
    Case { set: "ddf", without: None, kind: "DDF firmware RAID", volumes: BOTH },
    Case {
        set: "imsm-raid5",
        without: None,
        kind: "Intel firmware RAID",
        volumes: &[("parity", "[3/3] [UUU]")],
    },
    // What the second drive held is computed.
    Case {
        set: "imsm-raid5",
        without: Some(1),
        kind: "Intel firmware RAID",
        volumes: &[("parity", "[3/2] [U_U]")],
    },
    Case {
        set: "ddf-raid5",
        without: None,
        kind: "DDF firmware RAID",
        volumes: &[("parity", "[3/3] [UUU]")],
    },
    Case { set: "ddf-raid5", without: Some(2), kind: "DDF firmware RAID", volumes: &[("parity", "[3/2]")] },
];

pub fn read(bench: &Bench) -> Result<()> {
    let mut vm = bench.machine()?.slots(1).start(bench)?;
    let ssh = vm.login()?;
    vm.settled_after(0)?;
    for case in CASES {
        let mut disks = set(bench, case.set, Bus::VirtioScsi)?;
        if let Some(gone) = case.without {
            disks.remove(gone);
        }
        let label = match case.without {
            None => case.set.to_string(),
            Some(gone) => format!("{} without drive {gone}", case.set),
        };
        let disks = plug_in(bench, &mut vm, &label, disks)?;
        let before = hashes(&disks)?;
        bench.check(&format!("{label} is started read-only, each volume by its name"), || {
            let answer = ssh.run("rescue assemble")?;
            ensure!(answer.status == 0, "be started: {answer:?}");
            let mdstat = ssh.ok("cat /proc/mdstat")?;
            for (volume, piece) in case.volumes {
                holds(&answer.stdout, &[volume, "read-only"])?;
                holds(&mdstat, &[piece, "active (read-only)", "external:lifeboat"])?;
            }
            Ok(())
        });
        bench.check(&format!("mdadm knows the volumes of {label} by the same UUIDs"), || {
            let json: serde_json::Value =
                serde_json::from_str(&ssh.run("rescue assemble --json")?.stdout).context("read JSON")?;
            let examined = ssh.ok("IMSM_NO_PLATFORM=1 mdadm --examine --brief /dev/sda")?;
            let ours: Vec<String> = json["arrays"]
                .as_array()
                .context("find arrays")?
                .iter()
                .filter_map(|array| Some(array["uuid"].as_str()?.replace('-', "")))
                .collect();
            ensure!(ours.len() == case.volumes.len(), "see each volume once: {ours:?}");
            let theirs = examined.replace(':', "");
            ours.iter().try_for_each(|uuid| holds(&theirs, &[uuid]))
        });
        bench.check(&format!("status shows the set and the volumes of {label}"), || {
            let text = ssh.run("rescue status")?.stdout;
            holds(&text, &[case.kind])?;
            case.volumes.iter().try_for_each(|(volume, _)| holds(&text, &[volume]))
        });
        for (volume, _) in case.volumes {
            bench.check(&format!("{volume} of {label} is read, every byte of it as it was written"), || {
                is_whole(&ssh, &format!("/dev/md/{volume}"), volume)
            });
        }
        bench.check(&format!("{label} is written on an overlay alone"), || copy(&ssh, case.volumes[0].0));
        bench.check(&format!("{label} is not started for writing, and mdadm's command is named"), || {
            ssh.ok("rescue assemble --stop")?;
            let answer = ssh.run("rescue assemble --rw")?;
            ensure!(answer.status == 2, "be refused: {answer:?}");
            holds(&answer.stderr, &["only mdadm", "rescue writable /dev/sd", "mdadm --incremental $drive"])?;
            let flags = ssh.ok("cat /sys/class/block/sd?/ro")?;
            ensure!(flags.split_whitespace().all(|flag| flag == "1"), "keep the guard: {flags}");
            Ok(())
        });
        bench.check(&format!("of {label} nothing is left that runs"), || {
            let left = ssh.run("cat /proc/mdstat; ls /dev/mapper; pidof mdmon")?.stdout;
            ensure!(!left.contains(": active") && !left.contains("over-"), "find no array: {left}");
            ensure!(ssh.run("pidof mdmon")?.status != 0, "find no mdmon");
            Ok(())
        });
        take_away(bench, &mut vm, &ssh, (&label, &disks, &before))?;
    }
    Ok(())
}

/// The array itself is overlaid, and runs on.
fn copy(ssh: &Ssh, volume: &str) -> Result<()> {
    let refused = ssh.run(&format!("mount -o rw /dev/md/{volume} /mnt"))?;
    ensure!(refused.status != 0, "not be written itself: {refused:?}");
    let made = ssh.ok(&format!("rescue overlay /dev/md/{volume}"))?;
    let path = made.split_whitespace().find(|word| word.starts_with("/dev/mapper/over-md"));
    let path = path.with_context(|| format!("find the overlay: {made}"))?;
    ssh.ok(&format!("fsck -f -y {path} && mount {path} /mnt && touch /mnt/new && umount /mnt"))?;
    is_whole(ssh, path, volume)?;
    ssh.ok("rescue overlay --drop").map(drop)
}
