//! What people do in a session, by the stock clients.

use crate::bench::{Bench, holds};
use anyhow::{Context as _, Result, ensure};
use image::packages;
use image::vm::{Ssh, qemu};
use std::fs;
use std::process::Stdio;
use std::time::Duration;

const MIB: u64 = 1 << 20;

pub fn everyday(bench: &Bench) -> Result<()> {
    let vm = bench.machine()?.start(bench)?;
    let ssh = vm.login()?;
    vm.settled_after(0)?;
    bench.check("exec keeps status, output and errors apart", || {
        let answer = ssh.run("echo out; echo err >&2; exit 7")?;
        let got = (answer.status, answer.stdout.as_str(), answer.stderr.as_str());
        ensure!(got == (7, "out\n", "err\n"), "get each by its own way: {got:?}");
        Ok(())
    });
    bench.check("a command reads its standard input to the end", || {
        let answer = ssh.feed("wc -c", &[b'x'; 100_000])?;
        ensure!(answer.stdout.trim() == "100000", "count all bytes: {answer:?}");
        Ok(())
    });
    bench.check("a terminal has the size of the window, also after a resize", || {
        let mut terminal = ssh.terminal(24, 80)?;
        terminal.type_line("stty size")?;
        terminal.screen.wait_for("24 80", 0, qemu::SOON)?;
        terminal.type_line("trap 'echo now $(stty size)' WINCH; echo armed-$((1+1))")?;
        terminal.screen.wait_for("armed-2", 0, qemu::SOON)?;
        terminal.resize(50, 132)?;
        // A shell at its prompt runs the trap once the next command ends.
        terminal.type_line("stty size")?;
        terminal.screen.wait_for("50 132", 0, qemu::SOON)?;
        terminal.type_line("exit 9")?;
        ensure!(terminal.wait(qemu::SOON)? == 9, "end with the shell's status");
        Ok(())
    });
    bench.check("Ctrl-C reaches the foreground program", || {
        let mut terminal = ssh.terminal(24, 80)?;
        terminal.type_line("sh -c 'echo begun-$((1+1)); sleep 1000'")?;
        terminal.screen.wait_for("begun-2", 0, qemu::SOON)?;
        terminal.send(b"\x03")?;
        terminal.type_line("echo status-$?")?;
        terminal.screen.wait_for("status-130", 0, qemu::SOON).map(drop)
    });
    bench.check("scp copies each way", || {
        let (here, back) = (bench.path("sent"), bench.path("received"));
        fs::write(&here, pattern(3 * MIB)).context("write a file")?;
        ssh.scp(path(&here)?, ":/root/copied")?;
        ssh.scp(":/root/copied", path(&back)?)?;
        ensure!(packages::digest(&here)? == packages::digest(&back)?, "get the same bytes back");
        Ok(())
    });
    bench.check("sftp copies, lists and renames", || {
        let (here, back) = (bench.path("sent2"), bench.path("received2"));
        fs::write(&here, pattern(MIB)).context("write a file")?;
        let batch = format!(
            "put {} /root/one\nrename /root/one /root/two\nls -l /root\nget /root/two {}\n",
            path(&here)?,
            path(&back)?
        );
        holds(&ssh.sftp(&batch)?, &["two"])?;
        ensure!(packages::digest(&here)? == packages::digest(&back)?, "get the same bytes back");
        Ok(())
    });
    bench.check("sftp syncs, copies on the machine, tells the room there is, and renames over what is there", || {
        let (here, back) = (bench.path("sent3"), bench.path("received3"));
        fs::write(&here, pattern(MIB)).context("write a file")?;
        let batch = format!(
            "put -f {} /root/three\ncp /root/three /root/four\nln /root/four /root/five\nput {} /root/six\n\
             rename /root/five /root/six\ndf /root\nget /root/six {}\n",
            path(&here)?,
            path(&here)?,
            path(&back)?
        );
        holds(&ssh.sftp(&batch)?, &["%Capacity"])?;
        ensure!(packages::digest(&here)? == packages::digest(&back)?, "get the same bytes back");
        Ok(())
    });
    bench.check("a reader that pauses gets every byte", || paused(&ssh, 48));
    Ok(())
}

pub fn large(bench: &Bench) -> Result<()> {
    // The file lies in the root, which may take half of the memory.
    let vm = bench.machine()?.memory(1536).start(bench)?;
    let ssh = vm.login()?.patience(Duration::from_secs(600));
    vm.settled_after(0)?;
    bench.check("300 MiB through a reader that pauses arrive whole", || paused(&ssh, 300));
    bench.check("300 MiB by scp to the machine and back arrive whole", || {
        let (here, back) = (bench.path("sent"), bench.path("received"));
        fs::write(&here, pattern(300 * MIB)).context("write a file")?;
        ssh.scp(path(&here)?, ":/root/copied")?;
        ssh.scp(":/root/copied", path(&back)?)?;
        ensure!(packages::digest(&here)? == packages::digest(&back)?, "get the same bytes back");
        Ok(())
    });
    Ok(())
}

/// So many MiB through `cat` on the machine, to a reader that first lets every buffer fill.
fn paused(ssh: &Ssh, mebibytes: u64) -> Result<()> {
    let bytes = pattern(mebibytes * MIB);
    let mut child =
        ssh.command().arg("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("run ssh")?;
    let (mut to, from) =
        (child.stdin.take().context("open input")?, child.stdout.take().context("open output")?);
    let sent = bytes.clone();
    let writer = std::thread::spawn(move || std::io::Write::write_all(&mut to, &sent).is_ok());
    // The pause is the matter of this test: nothing tells that every buffer on the way is full.
    let reader = std::process::Command::new("sh")
        .args(["-c", "sleep 3; sha256sum"])
        .stdin(from)
        .output()
        .context("run sha256sum")?;
    let status = child.wait().context("wait for ssh")?;
    ensure!(status.success() && writer.join().unwrap_or(false), "send all: ssh ended with {status}");
    let file = tempfile::NamedTempFile::new().context("make a file")?;
    fs::write(file.path(), bytes).context("write a file")?;
    let (want, got) = (packages::digest(file.path())?, String::from_utf8_lossy(&reader.stdout).into_owned());
    ensure!(got.starts_with(&want), "get {want} back: {got}");
    Ok(())
}

/// Bytes that differ from place to place, so that a lost or doubled piece shows.
fn pattern(length: u64) -> Vec<u8> {
    (0..length / 8).flat_map(|word| (word.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_le_bytes()).collect()
}

fn path(path: &std::path::Path) -> Result<&str> {
    path.to_str().context("name a file")
}

pub fn kept(bench: &Bench) -> Result<()> {
    let vm = bench.machine()?.append("rescue.session=keep").start(bench)?;
    let ssh = vm.login()?;
    bench.check("a login that comes before tmux is there waits for it, and is in the kept session", || {
        let mut first = ssh.terminal(24, 80)?;
        first.type_line("echo in-$((1+1)) $TMUX")?;
        first.screen.wait_for("in-2 /tmp/tmux-0/default", 0, qemu::BOOT)?;
        first.type_line("while sleep 0.2; do echo x >> /tmp/job; done")?;
        ssh.ok("until test -s /tmp/job; do sleep 0.1; done").map(drop)
        // The client is killed here, as when a line drops.
    });
    bench.check("the job outlives the line", || {
        ssh.ok("until test -z \"$(tmux list-clients)\"; do sleep 0.1; done")?;
        ssh.ok("n=$(wc -l < /tmp/job); until test $(wc -l < /tmp/job) -gt $n; do sleep 0.1; done").map(drop)
    });
    bench.check("two who come back see and type the same", || {
        let (mut second, third) = (ssh.terminal(24, 80)?, ssh.terminal(24, 80)?);
        for terminal in [&second, &third] {
            terminal.screen.wait_for("/tmp/job", 0, qemu::SOON)?;
        }
        second.send(b"\x03")?;
        second.type_line("echo both-$((1+1))")?;
        for terminal in [&second, &third] {
            terminal.screen.wait_for("both-2", 0, qemu::SOON)?;
        }
        let list = ssh.ok("rescue session --list")?;
        ensure!(list.lines().filter(|line| line.starts_with("rescue: /dev/pts/")).count() == 2, "{list}");
        Ok(())
    });
    bench.check("what asks for no terminal is no part of it", || {
        ensure!(ssh.ok("echo $TMUX")?.trim().is_empty(), "be in no session");
        let answer = ssh.run("rescue session")?;
        ensure!(answer.status == 2, "see status 2: {answer:?}");
        holds(&answer.stderr, &["ssh -t"])
    });
    Ok(())
}
