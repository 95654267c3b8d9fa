//! How the host is known before anybody logged in: on a screen, on a line, and to whoever orchestrates.

use crate::bench::{Bench, holds};
use crate::disks::{Before, set};
use anyhow::{Context as _, Result, bail, ensure};
use contract::event::{Entrance, Event};
use image::fixtures::installed::{ED25519, RSA};
use image::identity::{self, Wanted};
use image::vm::machine::Boot;
use image::vm::transcript::Transcript;
use image::vm::{Bus, Ssh, qemu};
use std::os::unix::net::UnixListener;

/// The first event of an entrance on a line of events.
fn entrance(line: &Transcript) -> Result<Entrance> {
    line.wait("the event of the entrance", 0, qemu::BOOT, |text| {
        let whole = &text[..text.rfind('\n')?];
        let events = whole.lines().filter_map(|line| serde_json::from_str(line.trim()).ok());
        events.into_iter().find_map(|event| match event {
            Event::Ready { entrance: Some(entrance), .. } => Some(entrance),
            _ => None,
        })
    })
}

pub fn told(bench: &Bench) -> Result<()> {
    let sockets = tempfile::Builder::new().prefix("lifeboat-").tempdir().context("make a directory")?;
    let path = sockets.path().join("port");
    let listener = UnixListener::bind(&path).context("listen for a virtio port")?;
    let mut machine = bench.machine()?.named("TOLD-1");
    // A screen of 25 rows, that no driver replaces; a port as libvirt makes it, which no word names.
    machine = machine.append("console=tty0 nomodeset");
    if let Boot::Kernel { append, .. } = &mut machine.boot {
        *append = append.replace("rescue.events=ttyS1 ", "");
        ensure!(!append.contains("rescue.events"), "leave no word about events in {append}");
    }
    machine.more.extend(
        [
            "-device",
            "VGA",
            "-device",
            "virtio-serial-pci",
            "-chardev",
            &format!("socket,id=port,path={}", path.display()),
            "-device",
            "virtserialport,chardev=port,name=lifeboat",
        ]
        .map(String::from),
    );
    let mut vm = machine.start(bench)?;
    let port = Transcript::follow(listener.accept().context("wait for QEMU")?.0);
    let told = entrance(&port)?;
    let shown = vm.known_hosts(0)?;
    bench.check("one event on a virtio port that no word names has all that a client needs", || {
        ensure!(
            shown == format!("{} {}", told.alias, told.line),
            "see the console's line {shown} in {told:?}"
        );
        ensure!(told.addresses.first().is_some_and(|a| a == "10.0.2.15") && told.port == 22, "{told:?}");
        ensure!(told.fingerprint.starts_with("SHA256:") && told.origin == "fresh", "{told:?}");
        ensure!(told.sshfp.starts_with("IN SSHFP 4 2 "), "{told:?}");
        Ok(())
    });
    let ssh = vm.ssh(0, &format!("{} {}", told.alias, told.line))?;
    bench.check("with it the stock client is strict and gets in", || ssh.ok("true").map(drop));
    // The code is made by then.
    ssh.ok(r#"until grep -q '"qr": "[^"]' /run/lifeboat/state/sshd.json; do sleep 0.2; done"#)?;
    let command = format!("ssh -o HostKeyAlias={} root@10.0.2.15", told.alias);
    bench.check("a screen of 25 rows keeps the lines to paste, and shows the code when asked", || {
        let before = screen(&ssh)?;
        holds(&before, &[&told.fingerprint, &command, &told.line[told.line.len() - 20..]])?;
        ensure!(!before.contains('\u{2588}'), "see no code yet:\n{before}");
        for key in ["q", "ret"] {
            vm.press(key)?;
        }
        let after = until(&ssh, |text| text.matches('\u{2588}').count() > 100)?;
        // Whole, from the records above it to the last row of its frame.
        holds(&after, &["IN SSHFP 4 2 ", &"\u{2580}".repeat(30)])
    });
    bench.check("a line whose far end does not say that it draws UTF-8 gets the records", || {
        let mark = vm.console.mark();
        vm.type_line("q")?;
        vm.console.wait_for("No QR code", mark, qemu::SOON)?;
        vm.console.wait_for(&told.sshfp, mark, qemu::SOON).map(drop)
    });
    Ok(())
}

/// What stands on the first screen, rows of 80 (vcs(4), in Unicode).
fn screen(ssh: &Ssh) -> Result<String> {
    let hex = ssh.ok("od -An -v -tx4 -w320 /dev/vcsu1")?;
    let row = |line: &str| -> String {
        line.split_whitespace()
            .filter_map(|word| char::from_u32(u32::from_str_radix(word, 16).ok()?))
            .collect()
    };
    // What is broken at the end of a row is joined again.
    Ok(hex.lines().map(row).collect::<Vec<_>>().join(""))
}

fn until(ssh: &Ssh, is: impl Fn(&str) -> bool) -> Result<String> {
    let begun = std::time::Instant::now();
    loop {
        let text = screen(ssh)?;
        if is(&text) {
            return Ok(text);
        }
        ensure!(begun.elapsed() < qemu::SOON, "see on the screen what was asked for:\n{text}");
    }
}

/// Names of the rescue, none of which is the alias that it gives itself.
const NAMES: &str = "db1.example.com,192.0.2.1";

/// What `make identity` makes and prints, with and without CA=, is all that the machine and the client are given.
pub fn made(bench: &Bench) -> Result<()> {
    bench.public_key()?;
    let authority = bench.key_named("authority")?;
    for (kind, authority) in [("host key", None), ("certificate", Some(authority))] {
        let wanted = Wanted {
            names: NAMES.into(),
            authority,
            validity: "-1h:+1w".into(),
            keys: Some(bench.key()?.with_extension("pub")),
            output: bench.path("identity.cpio"),
        };
        let line = identity::make(&wanted)?;
        let whole = bench.path("initramfs");
        bench.insert(&wanted.output, &whole)?;
        let vm = bench.machine_without_key()?.initrd(&whole).start(bench)?;
        let told = entrance(&vm.events.line)?;
        // One name of the line, which the client knows the host by.
        let named = |name: &str| -> Result<Ssh> {
            let mut ssh = vm.ssh(0, &line)?;
            ssh.alias = name.into();
            Ok(ssh)
        };
        let ssh = named("db1.example.com")?;
        bench.check(
            &format!("{kind}: by the line that make identity prints the client is strict and gets in"),
            || {
                ensure!(told.origin == "injected", "see an injected host key: {told:?}");
                ssh.ok("true")?;
                named("192.0.2.1")?.ok("true").map(drop)
            },
        );
        bench.check(&format!("{kind}: under another name the host is not known"), || {
            let answer = named("db2.example.com")?.run("true")?;
            ensure!(answer.status == 255, "be refused by the client: {answer:?}");
            holds(&answer.stderr, &["Host key verification failed"])
        });
        bench.check(&format!("{kind}: the archive's files are there for root alone"), || {
            let modes = ssh
                .ok("stat -c '%a %u' /etc/ssh/ssh_host_ed25519_key /root/.ssh/authorized_keys /root/.ssh")?;
            ensure!(modes == "600 0\n600 0\n700 0\n", "see them closed to others:\n{modes}");
            let state = ssh.ok("cat /run/lifeboat/state/sshd.json")?;
            let certified = state.contains(r#""certificate": "\"lifeboat\" for db1.example.com,192.0.2.1"#);
            ensure!(
                certified == wanted.authority.is_some(),
                "see a certificate where there is one:\n{state}"
            );
            holds(&state, &["/root/.ssh/authorized_keys"])
        });
    }
    Ok(())
}

/// How long the machine waits for its disks here: emulated, beside other builds.
const WAIT: &str = "rescue.hostkey=installed,120";

pub fn installed(bench: &Bench) -> Result<()> {
    let disks = set(bench, "installed", Bus::Ahci)?;
    let mut before = Before::default();
    for disk in &disks {
        before.note(disk)?;
    }
    let mut vm = bench.machine()?.append(WAIT).disks(disks.clone()).start(bench)?;
    let told = entrance(&vm.events.line)?;
    bench.check("the host keys of a system on RAID1 are served", || {
        ensure!(told.line == ED25519 && told.origin == "installed", "see the system's key: {told:?}");
        let console = vm.console.wait_for("(db1)", 0, qemu::SOON)?;
        holds(&console, &["of the system on /dev/md"])
    });
    let ssh = vm.ssh(0, &format!("{} {ED25519}", told.alias))?;
    bench.check("a client that knew the system gets in without a change", || ssh.ok("true").map(drop));
    bench.check("also one that knew its RSA key alone", || {
        let ssh = vm.ssh(0, &format!("{} {RSA}", told.alias))?;
        ssh.ok("true").map(drop)
    });
    bench.check("nothing is mounted, assembled or writable afterwards", || {
        let mdstat = ssh.ok("cat /proc/mdstat")?;
        ensure!(!mdstat.contains("active"), "see no array:\n{mdstat}");
        let mounts = ssh.ok("cat /proc/*/mounts | grep -e ext4 -e installed || true")?;
        ensure!(mounts.is_empty(), "see no mount in any namespace:\n{mounts}");
        let flags = ssh.ok("cat /sys/block/sd?/ro")?;
        ensure!(flags.split_whitespace().all(|flag| flag == "1"), "see the guard: {flags}");
        let ps = ssh.ok("ls -l /proc/*/exe 2>/dev/null; cat /proc/*/cmdline | tr '\\0' ' '")?;
        ensure!(!ps.contains("sshd installed"), "see the search ended");
        Ok(())
    });
    ssh.run("poweroff")?;
    vm.wait_off()?;
    before.unchanged(bench);

    let more = set(bench, "installed-other", Bus::VirtioBlk)?;
    for disk in &more {
        before.note(disk)?;
    }
    let mut vm = bench.machine()?.append(WAIT).disks(disks).disks(more).start(bench)?;
    let ssh = vm.login()?;
    bench.check("of two systems none is chosen, and both are named", || {
        vm.warning(&["rescue.hostkey", "several systems", "/dev/md", "(db1)", "/dev/vda"])?;
        let told = entrance(&vm.events.line)?;
        ensure!(told.origin == "fresh" && told.line != ED25519, "see a fresh key: {told:?}");
        ssh.ok("true").map(drop)
    });
    ssh.run("poweroff")?;
    vm.wait_off()?;
    before.unchanged(bench);
    Ok(())
}

/// Where Debian's, Ubuntu's, openSUSE's and Red Hat's installers put a root, beside ext4 on RAID: one machine each.
pub fn installed_elsewhere(bench: &Bench) -> Result<()> {
    for (name, device, host) in [
        ("installed-lvm", "/dev/mapper/vg-root", "(lvm1)"),
        ("installed-btrfs", "/dev/vd", "(btrfs1)"),
        ("installed-xfs", "/dev/vda2", "(xfs1)"),
    ] {
        let disks = set(bench, name, Bus::VirtioBlk)?;
        let mut before = Before::default();
        for disk in &disks {
            before.note(disk)?;
        }
        let mut vm = bench.machine()?.append(WAIT).disks(disks).start(bench)?;
        let told = entrance(&vm.events.line)?;
        let ssh = vm.ssh(0, &format!("{} {}", told.alias, told.line))?;
        bench.check(&format!("{name}: the system's key is served and its place is named"), || {
            if told.line != ED25519 || told.origin != "installed" {
                bail!(
                    "see the system's key: {told:?}: {}",
                    ssh.ok("cat /run/lifeboat/log/sshd; rescue lsblk")?
                );
            }
            let console = vm.console.wait_for(host, 0, qemu::SOON)?;
            holds(&console, &[&format!("of the system on {device}")])
        });
        bench.check(&format!("{name}: nothing is mounted or assembled afterwards"), || {
            let left = ssh
                .ok("cat /proc/*/mounts | grep -e btrfs -e xfs -e ext4 -e installed; ls /dev/mapper; true")?;
            ensure!(["", "control"].contains(&left.trim()), "see nothing left: {left}");
            Ok(())
        });
        ssh.run("poweroff")?;
        vm.wait_off()?;
        before.unchanged(bench);
    }
    Ok(())
}
