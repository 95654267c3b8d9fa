//! The door from the far side: sshfs, which needs a kernel with FUSE, and a small sample of what `make attack` does
//! at length natively. One server and one rescue for both.

use super::{Guest, boot};
use crate::bench::Bench;
use anyhow::{Context as _, Result, ensure};
use image::vm::{Server, qemu};
use std::time::Instant;

const RESCUE: &str = "192.0.2.5";
const WORDS: &str = "ip=192.0.2.5::192.0.2.1:255.255.255.0::eth0:off";

/// The most that a login may take under the sample's attack, in seconds. Natively it is two (`make attack`); here one
/// emulated processor makes the attacks and is the owner's client, and another has both to serve.
const LOGIN: f64 = 30.0;

/// MiB that the machine may hold more afterwards: logs, caches.
const SPARE: u64 = 24;

pub fn door(bench: &Bench) -> Result<()> {
    let server = Server::start(bench, 1)?;
    let guest = boot(bench, &server, "ip address add 192.0.2.1/24 dev eth0\n", 1, WORDS)?;
    guest.login(RESCUE)?;
    bench.check("sshfs mounts the rescue, reads, writes and renames", || mounted(&guest));
    bench.check("names that are not UTF-8 are the same on both sides of sshfs", || names(&guest));
    bench.check("statvfs by sshfs says what df says there", || space(&guest));
    guest.server.ok("umount /run/there")?;
    let before = state(&guest)?;
    bench.check("an attack from one address does not keep the owner out", || {
        let seconds = attacked(&guest)?;
        println!("      {}: logins under attack, in seconds: {seconds:.1?}", bench.name);
        ensure!(seconds.iter().all(|took| *took < LOGIN), "see each login within {LOGIN} s: {seconds:?}");
        Ok(())
    });
    bench.check("the listener has outlived it, and its memory is given back", || outlived(&guest, &before));
    Ok(())
}

/// The rescue's /root below /run/there of the server.
fn mounted(guest: &Guest) -> Result<()> {
    let client = guest.client(RESCUE)?;
    let (shell, host) = client.rsplit_once(' ').context("see the client's host")?;
    // sshfs starts `ssh` by itself, with the host behind the options.
    guest.server.ok(&format!(
        "modprobe fuse\n[ -e /dev/fuse ]\nmkdir -p /run/there\nsshfs -o ssh_command='{shell}' {host}:/root /run/there\n\
         grep ' /run/there fuse.sshfs ' /proc/mounts"
    ))?;
    guest.ok(
        RESCUE,
        "mkdir /root/tree; head -c 3000000 /dev/urandom > /root/tree/there; chmod 640 /root/tree/there",
    )?;
    guest.server.ok("cp /run/there/tree/there /run/copy")?;
    guest.server.ok("head -c 2000000 /dev/urandom > /run/here\ncp /run/here /run/there/tree/new")?;
    guest.server.ok("mv /run/there/tree/new /run/there/tree/here\n[ ! -e /run/there/tree/new ]\nsync")?;
    let (near, far) = (guest.server.ok("sha256sum /run/copy /run/here | cut -c1-64")?, sums(guest)?);
    ensure!(near == far, "see the same bytes on both sides:\n{near}{far}");
    // Over an existing name, as an editor saves: OpenSSH's extension posix-rename.
    guest
        .server
        .ok("echo new > /run/there/tree/beside\nmv -f /run/there/tree/beside /run/there/tree/here")?;
    let text = guest.ok(RESCUE, "cat /root/tree/here; stat -c %a /root/tree/there")?;
    ensure!(text == "new\n640\n", "see the renamed file: {text:?}");
    guest.server.ok("rm /run/there/tree/here\n[ ! -e /run/there/tree/here ]")?;
    guest.server.ok("[ $(stat -c %a /run/there/tree/there) = 640 ]").map(drop)
}

fn sums(guest: &Guest) -> Result<String> {
    guest.ok(RESCUE, "cd /root/tree && sha256sum there here | cut -c1-64")
}

fn names(guest: &Guest) -> Result<()> {
    guest.server.ok("printf x > $'/run/there/tree/\\xff\\x01\\\\ \\xe4'")?;
    guest.ok(RESCUE, r"printf y > $'/root/tree/\xc3\x28'")?;
    let far = guest.ok(RESCUE, "cd /root/tree && printf '%s\\n' * | LC_ALL=C sort | od -An -tx1")?;
    let near = guest.server.ok("cd /run/there/tree && printf '%s\\n' * | LC_ALL=C sort | od -An -tx1")?;
    let bytes: String = far.split_whitespace().collect();
    ensure!(bytes.contains("ff015c20e4") && bytes.contains("c328"), "see both names there: {far}");
    let same: String = near.split_whitespace().collect();
    ensure!(same == bytes, "see the same names on both sides:\n{near}{far}");
    Ok(())
}

fn space(guest: &Guest) -> Result<()> {
    // Blocks in all, and the longest name.
    let far = guest.ok(RESCUE, "stat -f -c '%b %S %l' /root")?;
    let near = guest.server.ok("stat -f -c '%b %S %l' /run/there")?;
    let product = |text: &str| {
        let mut numbers = text.split_whitespace().map(|word| word.parse::<u64>().unwrap_or(0));
        (numbers.next().unwrap_or(0) * numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    };
    ensure!(product(&far) == product(&near) && product(&far).0 > 0, "see {far:?} on both sides: {near:?}");
    Ok(())
}

/// 150 connections that say nothing, 30 that drip a banner, 60 that send noise (half of them after a banner), 20 logins
/// as somebody else than root; and the owner, again and again. Gives the seconds of his logins.
fn attacked(guest: &Guest) -> Result<Vec<f64>> {
    // A login that takes long is measured, and not given up by the client.
    let client = guest.client(RESCUE)?.replace("ConnectTimeout=30", "ConnectTimeout=100");
    let script = format!(
        r#"
target=/dev/tcp/{RESCUE}/22
cat > /run/silent <<END
for i in \$(seq 150); do exec {{line}}<> $target; done 2> /dev/null
sleep 600
END
cat > /run/dripping <<END
for i in \$(seq 30); do ( exec 3<> $target; while printf S >&3; do sleep 1; done ) 2> /dev/null & done
wait
END
cat > /run/noisy <<END
for i in \$(seq 30); do
    ( exec 3<> $target; head -c 200000 /dev/urandom >&3 ) 2> /dev/null
    ( exec 3<> $target; printf 'SSH-2.0-x\r\n' >&3; head -c 200000 /dev/urandom >&3 ) 2> /dev/null
done
END
cat > /run/wrong <<END
for i in \$(seq 20); do {wrong} true; done
END
for kind in silent dripping noisy wrong; do serve $kind bash /run/$kind; done
for i in $(seq 8); do
    begun=$(cut -d' ' -f1 /proc/uptime)
    {client} true
    ended=$(cut -d' ' -f1 /proc/uptime)
    echo "login $begun $ended"
done
"#,
        wrong = client.replace("root@", "nobody@"),
    );
    let said = guest.server.ok_within(&script, qemu::SOON * 6)?;
    let seconds: Vec<f64> = said
        .lines()
        .filter_map(|line| {
            let mut numbers = line.strip_prefix("login ")?.split(' ').map(str::parse::<f64>);
            let (begun, ended) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
            Some(ended - begun)
        })
        .collect();
    ensure!(seconds.len() == 8, "see eight logins: {said}");
    Ok(seconds)
}

/// The listener's process, which is the child of init, and MiB that are free for programs.
fn state(guest: &Guest) -> Result<(String, u64)> {
    let said = guest.ok(
        RESCUE,
        "for p in /proc/[0-9]*; do \
         tr '\\0' ' ' 2> /dev/null < $p/cmdline | grep -q 'sshd liste[n]' \
         && grep -q '^PPid:.1$' $p/status && echo ${p#/proc/}; done; \
         awk '/^MemAvailable:/ { print int($2 / 1024) }' /proc/meminfo",
    )?;
    let mut lines = said.lines().rev();
    let free = lines.next().and_then(|line| line.parse().ok()).with_context(|| format!("read {said:?}"))?;
    Ok((lines.next().with_context(|| format!("see a listener: {said:?}"))?.to_string(), free))
}

fn outlived(guest: &Guest, before: &(String, u64)) -> Result<()> {
    guest.server.ok(
        "for kind in silent dripping noisy wrong; do quit $kind || true; done; killall -9 sleep 2> /dev/null || true",
    )?;
    let log = guest.ok(RESCUE, "cat /run/lifeboat/log/sshd")?;
    ensure!(!log.contains("panicked"), "see no panic:\n{log}");
    // What ends, ends in its own time.
    let begun = Instant::now();
    loop {
        let now = state(guest)?;
        ensure!(now.0 == before.0, "see the listener that was there: {before:?}, {now:?}");
        if now.1 + SPARE >= before.1 {
            return Ok(());
        }
        ensure!(begun.elapsed() < qemu::SOON, "see the memory come back, of {before:?}: {now:?}");
    }
}
