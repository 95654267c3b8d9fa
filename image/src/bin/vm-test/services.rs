//! What PID 1 keeps running.

use crate::bench::Bench;
use anyhow::{Context as _, Result, bail, ensure};
use contract::event::Event;
use contract::state;
use image::vm::{Ssh, Vm, qemu};
use std::collections::BTreeSet;

fn init(ssh: &Ssh) -> Result<state::Init> {
    let text = ssh.ok("cat /run/lifeboat/state/init.json")?;
    serde_json::from_str(&text).with_context(|| format!("read init's state {text:?}"))
}

fn service(ssh: &Ssh, name: &str) -> Result<state::Service> {
    let services = init(ssh)?.services;
    services.into_iter().find(|service| service.name == name).with_context(|| format!("find service {name}"))
}

/// SIGKILL for a service, and the wait until it works again.
fn kill(vm: &Vm, ssh: &Ssh, name: &str) -> Result<()> {
    let before = service(ssh, name)?;
    let mark = vm.events.mark();
    ssh.ok(&format!("kill -9 {}", before.pid.with_context(|| format!("find {name} running"))?))?;
    vm.events.ready(name, mark, qemu::SOON)?;
    let after = service(ssh, name)?;
    ensure!(after.restarts == before.restarts + 1 && after.pid != before.pid, "see one restart: {after:?}");
    Ok(())
}

pub fn killed(bench: &Bench) -> Result<()> {
    let vm = bench.machine()?.start(bench)?;
    let ssh = vm.login()?;
    vm.settled_after(0)?;
    let mut session = ssh.terminal(24, 80)?;
    session.type_line("echo opened-$((40 + 2))")?;
    session.screen.wait_for("opened-42", 0, qemu::SOON)?;
    let addresses = || ssh.ok("ip -o -4 addr show scope global | awk '{print $2, $4}'");
    let before = addresses()?;
    for name in ["sshd", "netd", "devd"] {
        bench.check(&format!("{name} is back after kill -9"), || kill(&vm, &ssh, name));
    }
    bench.check("each process goes by its own name, though most are one binary", || {
        let names = ssh.ok("cat /proc/[0-9]*/comm 2>/dev/null; true")?;
        let names: BTreeSet<&str> = names.lines().collect();
        for name in ["init", "console", "devd", "netd", "sshd"] {
            ensure!(names.contains(name), "find {name} in {names:?}");
        }
        ensure!(!names.contains("lifeboat"), "find no other name in {names:?}");
        Ok(())
    });
    bench.check("open sessions outlive the listener", || {
        session.type_line("echo alive-$((40 + 3))")?;
        session.screen.wait_for("alive-43", 0, qemu::SOON).map(drop)
    });
    bench.check("the address outlives netd", || {
        let after = addresses()?;
        ensure!(before == after, "keep the address {before:?}: {after:?}");
        Ok(())
    });
    bench.check("the host key outlives the listener", || ssh.ok("true").map(drop));
    bench.check("PID 1 survives signals that mean nothing to it", || {
        ssh.run("kill -HUP 1; kill -PIPE 1; kill -SEGV 1; kill -9 1")?;
        ssh.ok("true").map(drop)
    });
    Ok(())
}

pub fn crash_loop(bench: &Bench) -> Result<()> {
    let vm = bench.machine()?.start(bench)?;
    let ssh = vm.login()?;
    vm.settled_after(0)?;
    let mark = vm.events.mark();
    let pid = service(&ssh, "netd")?.pid.context("find netd running")?;
    ssh.ok(&format!(
        "mv /lifeboat/bin/netd /run/netd.real && ln -s /lifeboat/bin/busybox /lifeboat/bin/netd && kill -9 {pid}"
    ))?;
    let mut ends = 0;
    vm.events.wait("the third end of netd", mark, qemu::SOON, |event| {
        ends += usize::from(matches!(event, Event::Exited { service, .. } if service == "netd"));
        (ends >= 3).then_some(())
    })?;
    bench.check("a crash loop leaves the processor to others", || {
        // Clock ticks that PID 1 and its reaped children used in five seconds; there are 500.
        let ticks = "awk '{print $14 + $15 + $16 + $17}' /proc/1/stat";
        let text = ssh.ok(&format!("{ticks}; sleep 5; {ticks}"))?;
        let ticks: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [before, after] = ticks[..] else { bail!("read two numbers in {text:?}") };
        ensure!(after - before < 100, "use less than a second of five: {} ticks", after - before);
        Ok(())
    });
    bench.check("a service that was mended comes back", || {
        let mark = vm.events.mark();
        ssh.ok("rm /lifeboat/bin/netd && mv /run/netd.real /lifeboat/bin/netd")?;
        vm.events.ready("netd", mark, qemu::BOOT)
    });
    Ok(())
}
