//! `kill -9` of netd at every state of it.

use super::{Guest, boot, dnsmasq};
use crate::bench::{Bench, holds};
use anyhow::{Result, ensure};
use image::vm::{Server, qemu};
use std::time::Duration;

impl Guest<'_, '_> {
    /// Kill it over the network at `address`, and wait until its next life is ready.
    pub fn kill_netd(&self, address: &str) -> Result<()> {
        let mark = self.vm.events.mark();
        self.ok(address, "kill -9 $(/lifeboat/bin/busybox pidof netd)")?;
        self.vm.events.ready("netd", mark, qemu::SOON)
    }

    /// What netd says of a NIC.
    fn state(&self, address: &str, nic: &str) -> Result<String> {
        let text = self.ok(address, "cat /run/lifeboat/state/netd.json")?;
        let state: contract::state::Netd = serde_json::from_str(&text)?;
        Ok(state.links.into_iter().find(|link| link.name == nic).map(|link| link.state).unwrap_or_default())
    }
}

/// One NIC with a stated address, over which the other one is watched.
pub fn lives(bench: &Bench) -> Result<()> {
    let server = Server::start(bench, 2)?;
    let net = "ip address add 192.0.2.1/24 dev eth0\nip address add 203.0.113.1/24 dev eth1\n";
    let guest = boot(bench, &server, net, 2, "ip=203.0.113.20::203.0.113.1:24::eth1:none")?;
    let (stated, leased) = ("203.0.113.20", "192.0.2.50");
    bench.check("a login over the stated address works", || {
        guest.login(stated)?;
        guest.hold("stated", stated)
    });
    let start = guest.vm.events.mark();
    bench.check("killed while it asks, netd asks on", || {
        ensure!(guest.state(stated, "eth0")? != "bound", "see it ask");
        guest.kill_netd(stated)?;
        server.ok(&dnsmasq("eth0", "192.0.2.50,192.0.2.50,2m", "--dhcp-option=58,12 --dhcp-option=59,30"))?;
        guest.announced(leased, start, Duration::from_secs(20))?;
        guest.ok(leased, "true")?;
        guest.hold("leased", leased)
    });
    bench.check("killed while it has a lease, netd keeps it", || {
        guest.kill_netd(stated)?;
        holds(&guest.ok(stated, "ip -4 -o address show dev eth0")?, &[leased])?;
        guest.flows("leased")
    });
    bench.check("its next life has the lease confirmed", || {
        // The first, and the one of INIT-REBOOT.
        server.ok("logged dnsmasq 2 DHCPACK").map(drop)
    });
    bench.check("killed while it renews, netd keeps the lease and renews it", || {
        server.ok("kill -STOP $(cat /run/pid/dnsmasq)")?;
        let renewing = "until grep -q renewing /run/lifeboat/state/netd.json; do sleep 0.1; done";
        guest.ok(stated, &format!("timeout 50 sh -c '{renewing}'"))?;
        guest.kill_netd(stated)?;
        holds(&guest.ok(stated, "ip -4 -o address show dev eth0")?, &[leased])?;
        server.ok("kill -CONT $(cat /run/pid/dnsmasq)")?;
        guest.flows("leased")
    });
    bench.check("killed while it asks every server for its lease, netd keeps it and has it renewed", || {
        server.ok("kill -STOP $(cat /run/pid/dnsmasq)")?;
        let rebinding = "until grep -q rebinding /run/lifeboat/state/netd.json; do sleep 0.1; done";
        guest.ok(stated, &format!("timeout 80 sh -c '{rebinding}'"))?;
        guest.kill_netd(stated)?;
        holds(&guest.ok(stated, "ip -4 -o address show dev eth0")?, &[leased])?;
        server.ok("kill -CONT $(cat /run/pid/dnsmasq)")?;
        guest.flows("leased")
    });
    bench.check("through all of it no address went away, and no session", || {
        guest.flows("stated")?;
        guest.flows("leased")?;
        guest.kept(stated, start)?;
        guest.kept(leased, start)
    });
    bench.check("routes and rules are as before, and each once", || {
        let rules = guest.ok(stated, "ip rule")?;
        for address in [stated, leased] {
            let count = rules.lines().filter(|line| line.contains(&format!("from {address} "))).count();
            ensure!(count == 1, "find one rule for {address}, not {count}:\n{rules}");
        }
        Ok(())
    });
    Ok(())
}
