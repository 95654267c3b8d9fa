//! How the host is known before anybody logged in: on a screen, on a line, and to whoever orchestrates.

use crate::bench::{Bench, holds};
use anyhow::{Context as _, Result, ensure};
use contract::event::{Entrance, Event};
use image::vm::transcript::Transcript;
use image::vm::{Ssh, qemu};
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
    // A screen of 25 rows, that no driver replaces; a port as libvirt makes it. The last `rescue.events=` counts.
    machine = machine.append("console=tty0 nomodeset rescue.events=virtio-ports/lifeboat");
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
    bench.check("one event on a virtio port has all that a client needs", || {
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
