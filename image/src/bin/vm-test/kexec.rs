//! Lifeboat takes over from a running Debian, over SSH, and is found where that was, by the keys that it had.

use crate::bench::{Bench, holds};
use crate::boot::no_step_failed;
use crate::forms;
use anyhow::{Context as _, Result, ensure};
use image::flavour::Flavour;
use image::forms::{Form, Parts};
use image::vm::debian::{self, ADDRESS};
use image::vm::disks::{Bus, Disk, create};
use image::vm::machine::{Boot, Firmware, Machine, Nic};
use image::vm::{programs, qemu};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A host key of this type, made as Debian's package does; its public line in two fields.
fn host_key(bench: &Bench, kind: &str) -> Result<(PathBuf, String)> {
    let path = bench.path(&format!("ssh_host_{kind}_key"));
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-N", "", "-C", "root@db1", "-t", kind, "-f"]).arg(&path);
    ensure!(keygen.status().context("run ssh-keygen")?.success(), "ssh-keygen made no {kind} key");
    let public = fs::read_to_string(path.with_extension("pub")).context("read the host key")?;
    let fields: Vec<&str> = public.split_whitespace().take(2).collect();
    Ok((path, fields.join(" ")))
}

/// An ext4 of so many bytes by Debian's mke2fs, which nobody mounted yet.
pub fn file_system(bench: &Bench, size: u64) -> Result<PathBuf> {
    let path = bench.path("srv.img");
    create(&path, size)?;
    let root = programs::debian_root()?;
    let made = programs::debian(&root, "usr/sbin/mke2fs", ["-q", "-t", "ext4", "-F"]).arg(&path).status();
    ensure!(made.context("run mke2fs")?.success(), "mke2fs made no file system");
    Ok(path)
}

fn append(initrd: &Path, archive: &Path, whole: &Path) -> Result<()> {
    let mut bytes = fs::read(initrd).context("read Debian's initramfs")?;
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend(fs::read(archive).context("read the archive")?);
    fs::write(whole, bytes).with_context(|| format!("write {}", whole.display()))
}

/// What Debian's initramfs is given, so that the stock client gets in, and its host key by type and base64: ed25519's, RSA's.
fn keys(bench: &Bench) -> Result<(PathBuf, String, String)> {
    let (ed25519, line) = host_key(bench, "ed25519")?;
    let (rsa, old_line) = host_key(bench, "rsa")?;
    let read = |path: &Path| fs::read_to_string(path).with_context(|| format!("read {}", path.display()));
    let key = format!("{}\n", bench.public_key()?);
    let archive = bench.archive_with(&[
        ("root/.ssh/authorized_keys", &key),
        ("etc/ssh/ssh_host_ed25519_key", &read(&ed25519)?),
        ("etc/ssh/ssh_host_ed25519_key.pub", &format!("{line}\n")),
        ("etc/ssh/ssh_host_rsa_key", &read(&rsa)?),
        ("etc/ssh/ssh_host_rsa_key.pub", &format!("{old_line}\n")),
    ])?;
    Ok((archive, line, old_line))
}

/// Where the bundle is put on the Debian: in memory.
const FAR: &str = "/dev/shm/lifeboat-kexec.sh";
const WORDS: &str = "console=ttyS0 quiet panic=-1 net.ifnames=0 systemd.default_standard_output=tty";

/// A Debian that Secure Boot has started, by shim and GRUB, takes over by the kernel that Debian signed, and by no other.
pub fn secure(bench: &Bench) -> Result<()> {
    let signed = Parts::of(&programs::source(), &forms::signed(bench)?, None)?;
    let (archive, line, _) = keys(bench)?;
    let directory = Form::Netboot.make(&signed, &bench.path(""))?;
    let Boot::Kernel { initrd, .. } = debian::appliance()?.boot(WORDS) else {
        unreachable!("an appliance boots by -kernel")
    };
    fs::copy(initrd, directory.join("initramfs")).context("put Debian's initramfs in its place")?;
    fs::copy(archive, directory.join("lifeboat.cpio")).context("put the keys beside")?;
    fs::write(directory.join("lifeboat.cfg"), format!("set params=\"{WORDS}\"\n")).context("write words")?;
    let boot = Boot::Pxe { directory, bootfile: "bootx64.efi".into() };
    let vm = running(bench, boot)?.firmware(Firmware::SecureBoot).start(bench)?;
    let ssh = vm.ssh(0, &format!("db1.example.com {line}"))?;
    vm.console.wait_for(debian::READY, 0, qemu::BOOT)?;
    let ours = Parts::of(&programs::source(), &bench.image, None)?;
    if ours.flavour()? == Flavour::Custom {
        let bundle = Form::Kexec.make(&ours, &bench.path(""))?;
        ssh.scp(&bundle.display().to_string(), &format!(":{FAR}"))?;
        bench.check(
            "under Secure Boot a kernel that nobody signed is refused, and what to take is said",
            || {
                let answer = ssh.run(&format!("sh {FAR}"))?;
                ensure!(answer.status != 0, "be refused: {}", answer.stdout);
                holds(&answer.stderr, &["Secure Boot", "make kexec KERNEL=debian"])?;
                ensure!(ssh.ok("cat /sys/kernel/kexec_loaded")?.trim() == "0", "have no kernel loaded");
                Ok(())
            },
        );
    }
    let bundle = Form::Kexec.make(&signed, &bench.path(""))?;
    ssh.scp(&bundle.display().to_string(), &format!(":{FAR}"))?;
    let events = vm.events.line.mark();
    bench.check("under Secure Boot a Debian takes Debian's kernel, and starts it", || {
        let answer = ssh.run(&format!("sh {FAR} --append rescue.events=ttyS1"))?;
        holds(&answer.stdout, &["this system shuts down now"])?;
        vm.settled_after(events)?;
        holds(&ssh.ok("rescue status")?, &["guarded: nothing can write"])
    });
    Ok(())
}

/// The Debian that is taken over.
fn running(bench: &Bench, boot: Boot) -> Result<Machine> {
    Ok(Machine::new(boot)
        .memory(1536)
        .disk(Disk::raw(file_system(bench, 64 << 20)?, Bus::VirtioBlk, "SRV"))
        .nic(Nic::virtio("10.0.2").at(ADDRESS))
        .nic(Nic::virtio("10.0.3"))
        .nic(Nic::virtio("10.0.4")))
}

pub fn takes_over(bench: &Bench) -> Result<()> {
    let bundle = Form::Kexec.make(&Parts::of(&programs::source(), &bench.image, None)?, &bench.path(""))?;
    let (archive, line, old_line) = keys(bench)?;
    let mut boot = debian::appliance()?.boot(WORDS);
    if let Boot::Kernel { initrd, .. } = &mut boot {
        let whole = bench.path("debian.cpio");
        append(initrd, &archive, &whole)?;
        *initrd = whole;
    }
    let vm = running(bench, boot)?.start(bench)?;
    // One line of known_hosts and one key, before and after.
    let ssh = vm.ssh(0, &format!("db1.example.com {line}"))?;
    vm.console.wait_for(debian::READY, 0, qemu::BOOT)?;

    ssh.scp(&bundle.display().to_string(), &format!(":{FAR}"))?;
    bench.check("a dry run shows addresses, keys and host keys, and does nothing", || {
        let said = ssh.ok(&format!("sh {FAR} --dry-run"))?;
        holds(
            &said,
            &[
                &format!("{ADDRESS}/24 on eth0"),
                "192.0.2.5/28 on storage",
                "1 key(s) of /root/.ssh/authorized_keys",
                "/etc/ssh/ssh_host_ed25519_key",
                "/etc/ssh/ssh_host_rsa_key",
                "these keys will let in, and nothing else: SHA256:",
                "nothing was done",
            ],
        )?;
        ensure!(ssh.ok("cat /sys/kernel/kexec_loaded")?.trim() == "0", "have no kernel loaded");
        holds(&ssh.ok("ls /dev/shm")?, &["lifeboat-kexec.sh"])
    });
    bench.check("keys are those that sshd itself names for root's login from there", || {
        let (config, keys) = ("/etc/ssh/sshd_config", "/root/.ssh/authorized_keys");
        let said = ssh.ok(&format!(
            "cp {config} /tmp/c; cp {keys} /root/other; \
             printf 'Match User root Address 10.0.2.0/24\\nAuthorizedKeysFile /root/other\\nAuthenticationMethods publickey,password\\n' \
             >> {config}; sh {FAR} --dry-run; mv /tmp/c {config}; rm /root/other"
        ))?;
        holds(&said, &["1 key(s) of /root/other", "AuthenticationMethods publickey,password"])
    });
    bench.check("a bundle that was cut on its way is refused before anything happens", || {
        let answer =
            ssh.run(&format!("head -c 20000000 {FAR} > /tmp/cut.sh; sh /tmp/cut.sh; rm /tmp/cut.sh"))?;
        holds(&answer.stderr, &["copy it again"])
    });
    bench.check("an archive that the kernel would boot without is refused before anything happens", || {
        let answer = ssh.run(&format!("sh {FAR} --dry-run --extra /etc/passwd"))?;
        holds(&answer.stderr, &["--extra /etc/passwd", "no archive"])
    });
    bench.check("where nobody could log in it does not begin, and says why", || {
        let keys = "/root/.ssh/authorized_keys";
        let answer = ssh.run(&format!("mv {keys} /root/k; sh {FAR}; mv /root/k {keys}"))?;
        holds(&format!("{}{}", answer.stdout, answer.stderr), &["no key may log in", "nothing was done"])?;
        ssh.ok("true").map(drop)
    });
    bench.check("--load-only leaves the start to the person", || {
        let said = ssh.ok(&format!("sh {FAR} --load-only"))?;
        holds(&said, &["loaded", "systemctl kexec"])?;
        ensure!(ssh.ok("cat /sys/kernel/kexec_loaded")?.trim() == "1", "have a kernel loaded");
        Ok(())
    });

    let events = vm.events.line.mark();
    let answer = ssh.run(&format!("sh {FAR} --append 'rescue.events=ttyS1 edd=off'"))?;
    bench.check("it starts by the running system's own way down", || {
        holds(&answer.stdout, &["this system shuts down now"])
    });
    vm.settled_after(events)?;
    bench.check("the same client finds the same host key at the same address", || {
        let seen = ssh.ok("cat /proc/cmdline; hostname; rescue status")?;
        holds(&seen, &["panic=30", "\ndb1\n", "guarded: nothing can write"])
    });
    bench.check("a client that knows the RSA key alone knows it too", || {
        let mut old = vm.ssh(0, &format!("db1.example.com {old_line}"))?;
        old.options.push("HostKeyAlgorithms=rsa-sha2-512".into());
        old.ok("true").map(drop)
    });
    bench.check(
        "addresses, routes and name servers are those of before, and nothing was asked of DHCP",
        || {
            let found = ssh.ok("ip -4 address show; ip route; cat /etc/resolv.conf")?;
            holds(
                &found,
                &["10.0.2.77/24", "default via 10.0.2.2", "198.51.100.0/24 via 10.0.2.9", "10.0.2.3"],
            )?;
            ensure!(!found.contains("10.0.2.15"), "have no lease: {found}");
            Ok(())
        },
    );
    bench.check("a VLAN on a bond is there again", || {
        let up = "for i in $(seq 100); do ip -4 address show bond0.20 | grep 192.0.2.5/28 && break; sleep 0.1; done";
        holds(&ssh.ok(up)?, &["192.0.2.5/28"])?;
        holds(&ssh.ok("cat /sys/class/net/bond0/bonding/mode /sys/class/net/bond0/bonding/slaves")?, &["active-backup", "eth1", "eth2"])
    });
    bench.check("secrets are root's alone", || {
        let modes = ssh.ok("stat -c '%a %n' /etc/lifeboat/handed/* /etc/ssh/ssh_host_*_key")?;
        ensure!(modes.lines().all(|line| line.starts_with("600 ")), "have mode 600: {modes}");
        Ok(())
    });
    bench.check("services were stopped and file systems put away before", || {
        let state = ssh.ok("mkdir -p /mnt/srv && mount -o ro,noload /dev/vda /mnt/srv && cat /mnt/srv/state; dumpe2fs -h /dev/vda 2>&1")?;
        holds(&state, &["stopped"])?;
        ensure!(!state.contains("needs_recovery"), "have a clean journal: {state}");
        Ok(())
    });
    bench.check("no disk is written to", || {
        let answer = ssh.run("umount /mnt/srv; dd if=/dev/zero of=/dev/vda bs=512 count=1 conv=notrunc")?;
        ensure!(answer.status != 0, "be refused");
        Ok(())
    });
    no_step_failed(bench, &vm);

    // What runs now has no systemd, and is a Linux like any other.
    let far = "/tmp/lifeboat-kexec.sh";
    ssh.scp(&bundle.display().to_string(), &format!(":{far}"))?;
    let (before, events) = (ssh.ok("cat /proc/sys/kernel/random/boot_id")?, vm.events.line.mark());
    let said = ssh.ok(&format!("sh {far} --now --append rescue.events=ttyS1"))?;
    bench.check(
        "where nothing is asked to shut down, the person's session ends before the system does",
        || holds(&said, &["starting Lifeboat now"]),
    );
    vm.settled_after(events)?;
    bench.check("a rescue is replaced by another in the same way, at once", || {
        ensure!(ssh.ok("cat /proc/sys/kernel/random/boot_id")? != before, "be another boot");
        holds(&ssh.ok("ip -4 address show")?, &["10.0.2.77/24"])
    });
    Ok(())
}
