//! Who gets in, and how a person knows the machine.

use crate::bench::{Bench, holds};
use crate::disks::Before;
use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use contract::event::Event;
use image::vm::{Bus, Disk, Ssh, disks, qemu};
use std::fs;
use std::process::Command;

/// A refusal of the client's: not the command's status, and in these words.
fn refused(ssh: &Ssh, words: &[&str]) -> Result<()> {
    let answer = ssh.run("echo inside")?;
    ensure!(answer.status == 255 && answer.stdout.is_empty(), "be refused: {answer:?}");
    holds(&answer.stderr, words)
}

pub fn trust(bench: &Bench) -> Result<()> {
    let mut vm = bench.machine()?.named("TRUST-1").start(bench)?;
    let ssh = vm.login()?;
    bench.check("the stock client trusts the console's line, unedited", || {
        ensure!(ssh.alias == "lifeboat-TRUST-1", "find the serial number in the alias {}", ssh.alias);
        ensure!(ssh.ok("id -u")?.trim() == "0", "be root");
        Ok(())
    });
    bench.check("with another host's line it refuses", || {
        let other =
            fs::read_to_string(bench.key_named("other")?.with_extension("pub")).context("read a key")?;
        let other = vm.ssh(0, &format!("{} {}", ssh.alias, other.trim()))?;
        refused(&other, &["Host key verification failed"])
    });
    // The file was overwritten by the other line.
    let ssh = vm.login()?;
    bench.check("a wrong key is refused", || {
        refused(&ssh.with_key(&bench.key_named("wrong")?), &["Permission denied"])
    });
    bench.check("a password is refused where a key was given", || {
        refused(&ssh.with_password(bench, "lifeboat")?, &["Permission denied"])
    });
    bench.check("user nobody is refused", || refused(&ssh.user("nobody"), &["Permission denied"]));
    bench.check("the right key still gets in after all that", || ssh.ok("true").map(drop));
    bench.check(
        "the power button, which a hypervisor presses, too, ends the machine as poweroff does",
        || {
            vm.settled_after(0)?;
            let mark = vm.events.mark();
            vm.press_power()?;
            vm.events.wait("the event of a shutdown", mark, qemu::SOON, |event| match event {
                Event::Shutdown { how } => (how == "poweroff").then_some(()),
                _ => None,
            })?;
            vm.wait_off()
        },
    );
    Ok(())
}

pub fn two_boots(bench: &Bench) -> Result<()> {
    let mut vm = bench.machine()?.reboots().start(bench)?;
    let ssh = vm.login()?;
    let first = vm.known_hosts(0)?;
    let (events, console) = (vm.events.mark(), vm.console.mark());
    // The connection may end before or with the command.
    ssh.run("reboot")?;
    let again = vm.login_after(events, console)?;
    bench.check("two boots have different host keys", || {
        let second = vm.known_hosts(console)?;
        ensure!(first != second, "see another line than {first}");
        again.ok("true").map(drop)
    });
    bench.check("poweroff ends the machine", || {
        again.run("poweroff")?;
        vm.wait_off()
    });
    Ok(())
}

pub fn password(bench: &Bench) -> Result<()> {
    let vm = bench.machine_without_key()?.append("ssh_key=").start(bench)?;
    vm.events.ready("sshd", 0, qemu::BOOT)?;
    vm.addresses(1)?;
    let ssh = vm.ssh(0, &vm.known_hosts(0)?)?;
    let shown = vm.console.wait_for("password  ", 0, qemu::SOON)?;
    let password = shown
        .trim()
        .strip_prefix("password")
        .and_then(|rest| rest.split("   (").next())
        .with_context(|| format!("read the password in {shown:?}"))?
        .trim()
        .to_string();
    bench.check("the password of the console gets in", || {
        ensure!(ssh.with_password(bench, &password)?.ok("id -u")?.trim() == "0", "be root");
        Ok(())
    });
    bench.check("a wrong password is refused", || {
        refused(&ssh.with_password(bench, "wrong")?, &["Permission denied"])
    });
    bench.check("a key that nobody gave is refused", || refused(&ssh, &["Permission denied"]));
    bench.check("an empty ssh_key= is named", || vm.warning(&["ssh_key", "empty"]));
    bench.check("the password stands in no log", || {
        let found = ssh.with_password(bench, &password)?.run(&format!(
            "dmesg | grep -F '{password}'; grep -rF '{password}' /run/lifeboat/log /run/lifeboat/state"
        ))?;
        ensure!(found.stdout.is_empty(), "find no password in: {}", found.stdout);
        Ok(())
    });
    Ok(())
}

/// By systemd's names for credentials, as libvirt and others hand them in; no word of the command line has a key.
pub fn hypervisor(bench: &Bench) -> Result<()> {
    const NAME: &str = "ssh.authorized_keys.root";
    let public = |name: &str| -> Result<String> {
        let path = bench.key_named(name)?.with_extension("pub");
        Ok(fs::read_to_string(path).context("read a key")?.trim().to_string())
    };
    let (text, binary, entry) = (public("text")?, public("binary")?, public("entry")?);
    // Several lines, which a string cannot hold.
    let lines = BASE64.encode(format!("# of the hypervisor\n{binary}\n"));
    let mut machine = bench.machine_without_key()?;
    machine.more.extend(
        [
            "-smbios",
            &format!("type=11,value=vendor,value=io.systemd.credential:{NAME}={text}"),
            "-smbios",
            &format!("type=11,value=io.systemd.credential.binary:{NAME}={lines}"),
            "-fw_cfg",
            &format!("name=opt/io.systemd.credentials/{NAME},string={entry}"),
        ]
        .map(String::from),
    );
    let vm = machine.start(bench)?;
    vm.events.ready("sshd", 0, qemu::BOOT)?;
    vm.addresses(1)?;
    let ssh = vm.ssh(0, &vm.known_hosts(0)?)?;
    // The module that reads fw_cfg comes when the hypervisor's device is found.
    for (key, source) in [
        ("text", "SMBIOS ssh.authorized_keys.root line 1"),
        ("binary", "SMBIOS ssh.authorized_keys.root line 2"),
        ("entry", "fw_cfg ssh.authorized_keys.root line 1"),
    ] {
        let print = fingerprint(bench, key)?;
        bench.check(
            &format!("a key from {source} is told on the console, lets in, and is told at the login"),
            || {
                vm.console.wait(&format!("{print} as a way in from {source}"), 0, qemu::BOOT, |text| {
                    let whole = &text[..text.rfind('\n')?];
                    let fits = |line: &&str| {
                        line.contains("may log in")
                            && line.contains(&print)
                            && line.contains(&format!("from {source}"))
                    };
                    whole.lines().find(fits).map(drop)
                })?;
                let mark = vm.events.mark();
                ssh.with_key(&bench.key_named(key)?).ok("true")?;
                vm.events.wait(&format!("the event of a login by {source}"), mark, qemu::SOON, |event| {
                    match event {
                        Event::Login { with, .. }
                            if with.contains(&print) && with.contains(&format!("from {source}")) =>
                        {
                            Some(())
                        }
                        _ => None,
                    }
                })
            },
        );
    }
    bench.check("with them passwords are off, and another key is refused", || {
        let other = ssh.with_key(&bench.key_named("other")?);
        refused(&other, &["Permission denied (publickey)"])
    });
    Ok(())
}

/// `SHA256:...` of a key of the lab's.
fn fingerprint(bench: &Bench, name: &str) -> Result<String> {
    let path = bench.key_named(name)?.with_extension("pub");
    let said = Command::new("ssh-keygen").arg("-lf").arg(path).output().context("run ssh-keygen")?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    Ok(said.split_whitespace().nth(1).with_context(|| format!("read a fingerprint in {said:?}"))?.to_string())
}

/// A CD as a hypervisor makes one.
fn seed(bench: &Bench, key: &str) -> Result<Disk> {
    let (stage, cd) = (bench.path("seed"), bench.path("seed.iso"));
    fs::create_dir(&stage).context("make a directory")?;
    for (name, text) in [
        ("user-data", format!("#cloud-config\nssh_authorized_keys:\n  - {key}\n")),
        ("meta-data", "instance-id: 1\n".into()),
    ] {
        fs::write(stage.join(name), text).with_context(|| format!("write {name}"))?;
    }
    disks::cd("cidata", &stage, &cd)?;
    Ok(Disk::raw(cd, Bus::Cd, "SEED").write_protected())
}

pub fn volume(bench: &Bench) -> Result<()> {
    let (whole, parted) = (bench.path("whole"), bench.path("parted"));
    let mut disks = Vec::new();
    for (path, serial) in [(&whole, "WHOLE"), (&parted, "PARTED")] {
        disks::create(path, 64 << 20)?;
        disks.push(Disk::raw(path, Bus::VirtioBlk, serial));
    }
    let key = bench.public_key()?;
    let mut vm = bench.machine()?.disks(disks.clone()).start(bench)?;
    let ssh = vm.login()?;
    vm.settled_after(0)?;
    ssh.ok(&format!(
        "set -e; rescue writable /dev/vda /dev/vdb; mkfs.vfat --mbr=no -n CIDATA /dev/vda; mount /dev/vda /mnt
         printf '#cloud-config\\nssh_authorized_keys:\\n  - {key}\\n' > /mnt/user-data; echo 'instance-id: 1' > /mnt/meta-data
         umount /mnt; echo '2048,' | sfdisk -q /dev/vdb; until test -b /dev/vdb1; do sleep 0.1; done
         rescue writable /dev/vdb1; mkfs.ext4 -q -L cidata /dev/vdb1; mount /dev/vdb1 /mnt
         printf '#cloud-config\\nssh_authorized_keys: [ssh-ed25519 AAAA]\\n' > /mnt/user-data; umount /mnt"
    ))?;
    ssh.run("poweroff")?;
    vm.wait_off()?;
    let mut before = Before::default();
    for disk in &disks {
        before.note(disk)?;
    }
    let mut vm = bench.machine_without_key()?.disks(disks).disk(seed(bench, &key)?).start(bench)?;
    vm.events.ready("sshd", 0, qemu::BOOT)?;
    vm.addresses(1)?;
    let ssh = vm.ssh(0, &vm.known_hosts(0)?)?;
    bench.check("a password is there until the volume was read", || {
        vm.console.wait_for("password  ", 0, qemu::BOOT).map(drop)
    });
    bench.check("then its key is a way in, is told so, and passwords are off", || {
        vm.console.wait_for("from NoCloud volume /dev/sr0", 0, qemu::BOOT)?;
        ssh.ok("true")?;
        refused(&ssh.with_password(bench, "lifeboat")?, &["Permission denied (publickey)"])
    });
    bench.check("a disk that says the same is not believed unless asked for, and named", || {
        vm.warning(&["NoCloud volume /dev/vda", "rescue.metadata=disk"])
    });
    bench.check("a partition that says the same is not believed, and named", || {
        vm.warning(&["NoCloud volume /dev/vdb1", "no whole disk"])
    });
    bench.check("nothing is mounted afterwards", || {
        let mounts = ssh.ok("cat /proc/*/mounts | grep -e vda -e vdb -e sr0 || true")?;
        ensure!(mounts.is_empty(), "see no mount in any namespace:\n{mounts}");
        Ok(())
    });
    ssh.run("poweroff")?;
    vm.wait_off()?;
    before.unchanged(bench);
    Ok(())
}
