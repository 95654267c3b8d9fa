//! `mount`, `umount` and `fsck` as a tired person types them: what is busy, files, drives that take no write, and what is
//! no file system; each refusal names the thing and what to type next. Fixture: `image/src/fixtures/traps.rs`.

use crate::bench::{Bench, holds};
use crate::disks::set;
use crate::traps::ends;
use anyhow::{Result, ensure};
use image::vm::ssh::Terminal;
use image::vm::{Bus, Ssh, qemu};

pub fn typed(bench: &Bench) -> Result<()> {
    let traps = set(bench, "traps", Bus::VirtioBlk)?;
    let protected =
        set(bench, "damaged-ext4", Bus::VirtioScsi)?.into_iter().map(|disk| disk.write_protected());
    let vm = bench.machine()?.disks(traps).disks(protected).start(bench)?;
    let ssh = vm.login()?;
    vm.settled_after(0)?;
    busy(bench, &ssh);
    files(bench, &ssh);
    remounts(bench, &ssh);
    write_protected(bench, &ssh);
    no_file_system(bench, &ssh);
    passphrases(bench, &ssh);
    Ok(())
}

fn busy(bench: &Bench, ssh: &Ssh) {
    bench.check("a busy mount is told with the process and the place that hold it", || {
        ssh.ok("mount -o ro /dev/vda4 /mnt")?;
        let holder = |command: &str| -> Result<String> {
            let line = format!(
                "({command}) & holder=$!; until ls -l /proc/$holder/cwd /proc/$holder/fd | grep -q /mnt; do :; done; \
                 umount /mnt; echo status $?; kill $holder; wait $holder 2> /dev/null; echo process $holder"
            );
            let answer = ssh.run(&line)?;
            Ok(answer.stdout + &answer.stderr)
        };
        let pid = |said: &str| said.lines().find_map(|line| Some(line.strip_prefix("process ")?.to_string()));
        let said = holder("cd /mnt && exec sleep 600")?;
        let number = pid(&said).unwrap_or_default();
        holds(&said, &["status 32", &format!("/mnt: target is busy: sleep (process {number}) works in /mnt; end what it does, or kill {number}")])?;
        let said = holder("exec tail -f /mnt/known > /dev/null")?;
        let number = pid(&said).unwrap_or_default();
        holds(&said, &["status 32", &format!("tail (process {number}) has /mnt/known open")])
    });
    bench.check("the shell that is typed into is told to leave, and not to be killed", || {
        // A shell that has more to do than that.
        let said = ends(ssh, "cd /mnt; umount /mnt; code=$?; cd /; exit $code", 32)?;
        holds(&said, &["works in /mnt, which is your own shell: cd / first"])?;
        ensure!(!said.contains("kill"), "not be told to kill it: {said}");
        // One that has not becomes umount itself, which is in nobody's way.
        ssh.ok("mkdir -p /m && mount -o ro /dev/vdb /m && cd /m && umount ../m").map(drop)
    });
    bench.check("what the kernel itself holds it for is named, with what ends that", || {
        let said =
            ends(ssh, "mkdir -p /run/below && mount -t tmpfs below /mnt/lost+found && umount /mnt", 32)?;
        holds(&said, &["/mnt/lost+found is mounted below it (umount -R /mnt)"])?;
        ssh.ok("umount -R /mnt && ! grep ' /mnt' /proc/mounts").map(drop)
    });
    bench.check("a mount point whose name is no text goes with -R, and by its name", || {
        ssh.ok(
            "mkdir -p /run/above && mount -t tmpfs above /run/above && name=$(printf '/run/above/\\377') && \
                mkdir \"$name\" && mount -t tmpfs below \"$name\" && umount \"$name\" && \
                mount -t tmpfs below \"$name\" && umount -R /run/above && ! grep /run/above /proc/mounts",
        )
        .map(drop)
    });
}

fn files(bench: &Bench, ssh: &Ssh) {
    bench.check("an image file is mounted through a loop device that umount takes down", || {
        ssh.ok("truncate -s 16M /root/image && mkfs.ext4 -q /root/image")?;
        let loops = || ssh.ok("losetup -l -n -O BACK-FILE,RO | grep /root/ || true");
        for (mount, umount, read_only) in [
            ("mount /root/image /mnt && touch /mnt/new", "umount /mnt", "0"),
            ("mount -o ro /root/image /mnt", "umount /root/image", "1"),
            ("mount -o loop /root/image /mnt", "umount -d /mnt", "0"),
        ] {
            ssh.ok(mount)?;
            let seen = loops()?;
            ensure!(seen.split_whitespace().eq(["/root/image", read_only]), "see one: {seen}");
            ssh.ok(umount)?;
            let left = loops()?;
            ensure!(left.is_empty(), "see none after {umount}: {left}");
        }
        holds(&ends(ssh, "fsck -f -y /root/image", 0)?, &["/root/image: "]).map(drop)
    });
    bench.check("an image of a whole disk is told with the offsets of its partitions", || {
        let said = ends(
            ssh,
            "dd if=/dev/vda of=/root/disk bs=1M count=34 2> /dev/null; mount -o ro /root/disk /mnt",
            32,
        )?;
        holds(&said, &["/root/disk has a partition table", "-o offset=1048576"])?;
        let read = ssh.ok("mount -o ro,offset=1048576 /root/disk /mnt && cat /mnt/known && umount /mnt")?;
        ensure!(read.trim() == "ntfs", "read it: {read}");
        Ok(())
    });
}

fn remounts(bench: &Bench, ssh: &Ssh) {
    let flag = || ssh.ok("blockdev --getro /dev/vda4").map(|text| text.trim().to_string());
    bench.check("remount,rw of a guarded device is the consent, is told in one line and saved", || {
        ssh.ok("mount -o ro /dev/vda4 /mnt")?;
        let said = ends(ssh, "mount -o remount,rw /mnt && touch /mnt/new", 0)?;
        holds(&said, &["made writable: /dev/vda4", "as it was before: /run/lifeboat/undo/"])?;
        ensure!(flag()? == "0", "see it open");
        ssh.ok("mount -o remount,ro /mnt && ! touch /mnt/more 2> /dev/null && umount /mnt && rescue protect /dev/vda4")?;
        ensure!(flag()? == "1", "see it guarded");
        Ok(())
    });
    bench.check(
        "remount,rw of what reading put in memory is refused, with the line that writes to the disk",
        || {
            let said = ends(ssh, "mount -o ro /dev/vda3 /mnt && mount -o remount,rw /mnt", 32)?;
            holds(
                &said,
                &[
                    "a copy in memory (/dev/mapper/over-vda3)",
                    "umount /mnt && mount /dev/vda3 /mnt writes to the disk",
                ],
            )?;
            ssh.ok("! touch /mnt/new 2> /dev/null && umount /mnt").map(drop)
        },
    );
    bench.check(
        "remount,rw of a journal that was left alone is refused, with the line that replays it",
        || {
            let said = ends(ssh, "mount -o ro,norecovery /dev/vda3 /mnt && mount -o remount,rw /mnt", 32)?;
            holds(&said, &["umount /mnt && mount /dev/vda3 /mnt"])?;
            ssh.ok("umount /mnt").map(drop)
        },
    );
}

fn write_protected(bench: &Bench, ssh: &Ssh) {
    bench.check("a drive that takes no write is mounted to be read, and says so in one line", || {
        let said = ends(ssh, "mount /dev/sda1 /mnt && cat /mnt/etc/fstab && umount /mnt", 0)?;
        holds(&said, &["bbbbbbbb-0001", "source write-protected, mounted read-only"])?;
        let said = ends(ssh, "mount -o ro /dev/sda1 /mnt && umount /mnt", 0)?;
        ensure!(said.is_empty(), "hear nothing: {said}");
        Ok(())
    });
    bench.check("where it is to be written, one line says why not, and what can be done", || {
        for (command, status) in [
            ("mount --rw /dev/sda1 /mnt", 32),
            ("rescue mount --rw /dev/sda1 /mnt", 32),
            ("rescue writable /dev/sda1", 2),
            ("fsck -y /dev/sda1", 8),
        ] {
            let said = ends(ssh, command, status)?;
            holds(&said, &["/dev/sda1 is write-protected by the drive itself", "rescue overlay /dev/sda1"])?;
            ensure!(said.lines().count() == 1, "hear one line of {command}: {said}");
        }
        ssh.ok("rescue overlay /dev/sda1")?;
        ends(ssh, "fsck -y /dev/mapper/over-sda1", 1)?;
        ssh.ok("rescue overlay --drop").map(drop)
    });
}

fn no_file_system(bench: &Bench, ssh: &Ssh) {
    let cases = [
        ("mount /dev/vda /mnt", 32, "did you mean /dev/vda1 or /dev/vda2"),
        ("mount /dev/vda5 /mnt", 32, "/dev/vda5 is swap space, which holds no files"),
        ("mount /dev/vda6 /mnt", 32, "/dev/vda6 is encrypted (LUKS): rescue open /dev/vda6"),
        ("mount /dev/vda7 /mnt", 32, "/dev/vda7 is a physical volume of LVM: rescue assemble"),
        ("mount /dev/vda8 /mnt", 32, "/dev/vda8 is a member of a RAID array: rescue assemble"),
        ("mount /dev/vda9 /mnt", 32, "no file system was found on /dev/vda9 (8M): blkid -p /dev/vda9"),
        ("mount /dev/vda99 /mnt", 32, "/dev/vda99 does not exist: lsblk shows"),
        ("mount /dev/md77 /mnt", 32, "/dev/md77 does not exist: rescue assemble starts the arrays"),
        ("mount /dev/pair/root /mnt", 32, "/dev/pair/root does not exist: rescue assemble activates volumes"),
        (
            "fsck /dev/mapper/pair-root",
            8,
            "/dev/mapper/pair-root does not exist: rescue assemble activates volumes",
        ),
        ("mount /dev/vda4 /nowhere", 32, "mount point does not exist: -m makes it"),
        ("fsck -y /dev/vda", 8, "fdisk -l /dev/vda lists its partitions"),
        ("fsck -y /dev/vda5", 8, "/dev/vda5 is swap space, which has nothing to check"),
        ("fsck -y /dev/vda6", 8, "rescue open /dev/vda6"),
        ("rescue open /dev/vda4", 2, "/dev/vda4 is not locked: ext4; rescue status"),
        ("umount /dev/vda4", 32, "/dev/vda4: not mounted"),
        ("swapon -vU99999999-0055-4000-8000-000000000000", 2, "rescue writable /dev/vda5 first"),
        (
            "echo UUID=99999999-0055-4000-8000-000000000000 none swap sw > /tmp/fstab; swapon -a -T /tmp/fstab",
            2,
            "rescue writable /dev/vda5 first",
        ),
        ("swapon LABEL=none", 2, "LABEL=none is not below /dev/disk"),
    ];
    for (command, status, want) in cases {
        bench.check(&format!("{command} says what to do instead"), || {
            let said = ends(ssh, command, status)?;
            holds(&said, &[want])?;
            ensure!(said.lines().count() == 1, "hear one line: {said}");
            Ok(())
        });
    }
    bench.check("once they run, a member is told with what is built on it", || {
        ssh.run("rescue assemble")?;
        for (command, status, want) in [
            ("mount /dev/vda8 /mnt", 32, "did you mean /dev/md77, which is built on it?"),
            ("mount /dev/vda7 /mnt", 32, "did you mean /dev/mapper/pair-root, which is built on it?"),
            ("fsck -y /dev/vda8", 8, "did you mean /dev/md77, which is built on it?"),
        ] {
            holds(&ends(ssh, command, status)?, &[want])?;
        }
        ssh.ok("rescue assemble --stop").map(drop)
    });
}

/// A shell that takes lines.
fn at_terminal(ssh: &Ssh) -> Result<Terminal> {
    let mut terminal = ssh.terminal(24, 120)?;
    terminal.type_line("echo ready-$((40 + 2))")?;
    terminal.screen.wait_for("ready-42", 0, qemu::SOON)?;
    Ok(terminal)
}

/// What is on the screen from there to the question, behind which no line ends.
fn asked(terminal: &Terminal, mark: usize) -> Result<String> {
    let question = "Passphrase for /dev/vda6: ";
    terminal.screen.wait(question, mark, qemu::SOON, |text| text.contains(question).then(|| text.to_string()))
}

fn passphrases(bench: &Bench, ssh: &Ssh) {
    bench.check("at a terminal the passphrase is asked for, is not shown, and may be mistyped", || {
        let mut terminal = at_terminal(ssh)?;
        terminal.type_line("rescue open --name typed /dev/vda6; echo ended with $?")?;
        asked(&terminal, 0)?;
        let mark = terminal.screen.mark();
        terminal.type_line("xyzzy-wrong")?;
        let again = asked(&terminal, mark)?;
        holds(&again, &["no keyslot takes this passphrase"])?;
        terminal.type_line("lifeboat")?;
        terminal.screen.wait_for("ended with 0", mark, qemu::SOON)?;
        let shown = terminal.screen.text();
        holds(&shown, &["/dev/mapper/typed is open, read-only: ext4"])?;
        ensure!(
            !shown.contains("xyzzy")
                && !shown[shown.find("typed /dev").unwrap_or(0)..].contains("lifeboat\r"),
            "show neither: {shown}"
        );
        let read = ssh.ok("mount -o ro /dev/mapper/typed /mnt && cat /mnt/known")?;
        ensure!(read.trim() == "luks", "read it: {read}");
        Ok(())
    });
    bench.check("three wrong ones are enough, and nothing is opened", || {
        let mut terminal = at_terminal(ssh)?;
        ssh.ok("umount /mnt && rescue close typed")?;
        let mut mark = terminal.screen.mark();
        terminal.type_line("rescue open --name typed /dev/vda6; echo ended with $?")?;
        for _ in 0..3 {
            asked(&terminal, mark)?;
            mark = terminal.screen.mark();
            terminal.type_line("wrong")?;
        }
        terminal.screen.wait_for("ended with 1", mark, qemu::SOON)?;
        ssh.ok("! test -e /dev/mapper/typed").map(drop)
    });
    bench.check("what is in use is not closed; umount, then close, and it is locked again", || {
        ssh.ok("printf lifeboat > /root/key && rescue open --name kept --key-file - /dev/vda6 < /root/key")?;
        ssh.ok("mount -o ro /dev/mapper/kept /mnt")?;
        holds(&ends(ssh, "rescue close /dev/vda6", 2)?, &["is mounted: umount /mnt"])?;
        ssh.ok("rescue umount /mnt && rescue close /dev/vda6 && ! test -e /dev/mapper/kept")?;
        holds(&ssh.run("rescue status")?.stdout, &["locked: rescue open /dev/vda6"])
    });
}
