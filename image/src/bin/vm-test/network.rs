//! Networks: several, and none.

use crate::bench::{Bench, holds};
use anyhow::{Result, ensure};
use contract::event::Event;
use image::vm::{Nic, qemu};

pub fn two(bench: &Bench) -> Result<()> {
    let machine = bench.machine()?.nic(Nic { model: "e1000e".into(), ..Nic::virtio("10.0.9") });
    let vm = machine.append("BOOTIF=01-52-54-00-12-34-57").start(bench)?;
    let first = vm.login()?;
    let addresses = vm.addresses(2)?;
    bench.check("every NIC gets its address", || {
        for want in ["10.0.2.15", "10.0.9.15"] {
            ensure!(addresses.iter().any(|address| address == want), "see {want} in {addresses:?}");
        }
        Ok(())
    });
    let known = vm.known_hosts(0)?;
    for (nic, gateway) in [(0, "10.0.2.2"), (1, "10.0.9.2")] {
        bench.check(&format!("a login by NIC {nic} is answered by {gateway}"), || {
            vm.ssh(nic, &known)?.ok("true").map(drop)
        });
    }
    bench.check("every address has its own table and rule", || {
        let rules = first.ok("ip rule")?;
        holds(&rules, &["from 10.0.2.15", "from 10.0.9.15"])
    });
    bench.check("the default route prefers the NIC that was booted from", || {
        let route = first.ok("ip route get 198.51.100.1")?;
        holds(&route, &["via 10.0.9.2"])
    });
    Ok(())
}

pub fn none(bench: &Bench) -> Result<()> {
    let mut vm = bench.machine()?.no_nic().start(bench)?;
    bench.check("no NIC is named", || vm.console.wait_for("no network card", 0, qemu::BOOT).map(drop));
    bench.check("Enter opens a root shell on the console", || {
        vm.console.wait_for("Press Enter", 0, qemu::BOOT)?;
        vm.type_line("")?;
        let mark = vm.console.mark();
        vm.type_line("echo shell-$((6 * 7))-$(id -u)")?;
        vm.console.wait_for("shell-42-0", mark, qemu::SOON).map(drop)
    });
    bench.check("no disk is said so", || {
        let mark = vm.console.mark();
        vm.type_line("rescue status; echo status-$?-end")?;
        vm.console.wait_for("-end", mark, qemu::SOON)?;
        Ok(())
    });
    bench.check("poweroff from the console ends the machine", || {
        vm.type_line("poweroff")?;
        vm.wait_off()
    });
    Ok(())
}

pub fn cable(bench: &Bench) -> Result<()> {
    let mut vm = bench.machine()?.slots(1).start(bench)?;
    let ssh = vm.login()?;
    bench.check("a cable pulled out and put back ends in a login", || {
        vm.link(0, false)?;
        vm.link(0, true)?;
        ssh.ok("true").map(drop)
    });
    bench.check("a NIC plugged in later gets its address", || {
        let mark = vm.events.mark();
        vm.plug_nic("10.0.7")?;
        vm.events.wait("the event of its address", mark, qemu::BOOT, |event| match event {
            Event::Address { address, .. } if address.starts_with("10.0.7.15") => Some(()),
            _ => None,
        })
    });
    Ok(())
}
