//! Dirty and damaged file systems of each kind, alone and in stacks: mended, mounted for writing and edited on their
//! overlays, with no disk changed. What was tried is printed. Fixture: `image/src/fixtures/wrecks.rs`.

use crate::bench::Bench;
use crate::disks::{Before, set};
use anyhow::{Context as _, Result, ensure};
use image::fixtures::serial;
use image::vm::{Bus, Ssh};

/// A file system, and how a person mends it: commands upon `DEV`, with the status that each ends with.
struct Kind {
    name: &'static str,
    partition: u32,
    mend: &'static [(&'static str, i32)],
}

/// Shows that the log is replayed before the checker may run, and leaves the mended file system unmounted.
const REPLAY: (&str, i32) = ("mount DEV /mnt && cat /mnt/etc/8 && umount /mnt", 0);

const KINDS: &[Kind] = &[
    Kind { name: "ext4", partition: 1, mend: &[("fsck -y DEV", 1), ("fsck -f -y DEV", 0)] },
    Kind {
        name: "xfs",
        partition: 2,
        // The checker refuses while the log waits.
        mend: &[("fsck -y DEV", 4), REPLAY, ("fsck -y DEV", 1), ("fsck -y DEV", 0)],
    },
    Kind {
        name: "btrfs",
        partition: 3,
        // Its checker only looks; a scrub writes the torn copy anew from the other one.
        mend: &[
            ("mount DEV /mnt && btrfs scrub start -B /mnt && btrfs scrub status /mnt; umount /mnt", 0),
            ("fsck -y DEV", 0),
        ],
    },
    Kind { name: "vfat", partition: 4, mend: &[("fsck -y DEV", 1), ("fsck -y DEV", 0)] },
    // The mark that Windows shall check it stays, unless a person takes it off.
    Kind { name: "ntfs", partition: 5, mend: &[("fsck -y DEV", 4), ("fsck -y -d DEV", 0)] },
    Kind { name: "f2fs", partition: 6, mend: &[("fsck -y DEV", 0), ("fsck -f -y DEV", 0)] },
];

/// Where a file system stands.
struct Stack {
    name: &'static str,
    /// What gets an overlay; the one of an array is written to through the array.
    original: fn(&Kind) -> String,
    array: bool,
}

const STACKS: &[Stack] = &[
    Stack { name: "a partition", original: |kind| partition(0, kind), array: false },
    Stack { name: "md", original: |kind| format!("/dev/md76p{}", kind.partition), array: true },
    Stack { name: "LVM", original: |kind| format!("/dev/wrecks/{}", kind.name), array: false },
    Stack { name: "LUKS", original: |kind| format!("/dev/mapper/open-{}", kind.name), array: false },
];

/// The disk with the locked ones.
const LOCKED: usize = 4;

/// Which disk the kernel finds first is not known.
fn partition(disk: usize, kind: &Kind) -> String {
    format!("/dev/disk/by-id/virtio-{}-part{}", serial("wrecks", disk), kind.partition)
}

pub fn mended(bench: &Bench) -> Result<()> {
    let mut machine = bench.machine()?.memory(1280);
    let mut before = Before::default();
    for disk in set(bench, "wrecks", Bus::VirtioBlk)? {
        before.note(&disk)?;
        machine = machine.disk(disk);
    }
    let mut vm = machine.start(bench)?;
    let ssh = vm.login()?;
    vm.settled_after(0)?;
    bench.check(
        "the array, the volumes and the locked partitions under the wrecks are opened to be read",
        || {
            ssh.ok("rescue assemble")?;
            for kind in KINDS {
                let (name, locked) = (kind.name, partition(LOCKED, kind));
                ssh.ok(&format!("echo lifeboat | rescue open --name open-{name} {locked}"))?;
            }
            Ok(())
        },
    );
    for stack in STACKS {
        for kind in KINDS {
            let label = format!("{} on {}", kind.name, stack.name);
            let mut tried = Vec::new();
            bench.check(&format!("a dirty and damaged {label} is mended and edited on its overlay"), || {
                row(&ssh, stack, kind, &mut tried)
            });
            println!("      tried: {}", tried.join("; "));
        }
        bench.check(&format!("the overlays on {} are dropped", stack.name), || {
            ssh.ok("umount /mnt 2> /dev/null; rescue overlay --drop").map(drop)
        });
    }
    bench.check("what is not mended on the disks is as bad as before", || {
        let answer = ssh.run(&format!("fsck -n -f {}", partition(0, &KINDS[0])))?;
        ensure!(answer.status == 4, "see errors left: {answer:?}");
        Ok(())
    });
    bench.check("poweroff ends the machine", || {
        ssh.run("poweroff")?;
        vm.wait_off()
    });
    before.unchanged(bench);
    Ok(())
}

fn row(ssh: &Ssh, stack: &Stack, kind: &Kind, tried: &mut Vec<String>) -> Result<()> {
    let mut run = |command: &str, status: i32| -> Result<String> {
        let answer = ssh.run(command)?;
        tried.push(format!("{command} ({})", answer.status));
        ensure!(answer.status == status, "see status {status}: {answer:?}");
        Ok(answer.stdout + &answer.stderr)
    };
    let original = (stack.original)(kind);
    let copy = if stack.array && kind.partition > 1 {
        // The first one's brought the whole array's.
        original
    } else {
        let made = run(&format!("rescue overlay {original}"), 0)?;
        let path = made.split_whitespace().find(|word| word.starts_with("/dev/mapper/over-"));
        let path = path.with_context(|| format!("find the overlay: {made}"))?.to_string();
        if stack.array { original } else { path }
    };
    for (command, status) in kind.mend {
        run(&command.replace("DEV", &copy), *status)?;
    }
    let edit = "echo edited >> /mnt/etc/fstab && mkdir /mnt/new && mv /mnt/victim /mnt/new/";
    run(&format!("mount {copy} /mnt && {edit} && umount /mnt"), 0)?;
    let read = "cat /mnt/etc/fstab /mnt/etc/8 && wc -c < /mnt/new/victim";
    let text = run(&format!("mount {copy} /mnt && {read} && umount /mnt"), 0)?;
    let lines: Vec<&str> = text.lines().take(4).collect();
    ensure!(lines == ["kept", "edited", "8", "65536"], "read what was kept, synced and edited: {text}");
    Ok(())
}
