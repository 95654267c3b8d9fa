//! `kill -9` of netd at every state of it.

use super::six::{SUBNET, kea6, router};
use super::{Guest, boot, dnsmasq, neighbour, switch};
use crate::bench::{Bench, holds};
use anyhow::{Context as _, Result, ensure};
use image::vm::{Server, qemu};
use std::time::Duration;

impl Guest<'_, '_> {
    /// Kill it over the network at `address`, and wait until its next life is ready.
    pub fn kill_netd(&self, address: &str) -> Result<()> {
        let mark = self.vm.events.mark();
        self.ok(address, "kill -9 $(/lifeboat/bin/busybox pidof netd)")?;
        self.vm.events.ready("netd", mark, qemu::SOON)
    }

    /// Every route and rule, but for those to this machine itself, and how long a router's have yet.
    fn routing(&self, address: &str) -> Result<String> {
        let seen = self.ok(
            address,
            "for family in -4 -6; do ip $family route show table all; ip $family rule; done | grep -v 'table local' | \
             sed 's/ expires [0-9]*sec//' | sort",
        )?;
        holds(&seen, &["default via ", " table 100", "lookup 100"])?;
        Ok(seen)
    }

    /// What netd says of a NIC.
    fn state(&self, address: &str, nic: &str) -> Result<String> {
        let text = self.ok(address, "cat /run/lifeboat/state/netd.json")?;
        let state: contract::state::Netd = serde_json::from_str(&text)?;
        Ok(state.links.into_iter().find(|link| link.name == nic).map(|link| link.state).unwrap_or_default())
    }
}

/// One NIC with a stated address, over which the other one is watched.
const STATED: &str = "ip=203.0.113.20::203.0.113.1:24::eth1:none";
const BESIDE: &str = "ip address add 203.0.113.1/24 dev eth1\n";

pub fn lives(bench: &Bench) -> Result<()> {
    super::each(bench, 2, &[leased, begun, begun_six])
}

/// Before there is a lease.
fn begun(bench: &Bench, server: &Server) -> Result<()> {
    let net = format!("{}{BESIDE}{}", switch(&["eth0"]), neighbour("bad", "198.18.0.1/24"));
    let guest = boot(bench, server, &net, 2, STATED)?;
    let stated = "203.0.113.20";
    let start = guest.vm.events.mark();
    // A packet socket for ARP is there while an address is probed (ETH_P_ARP is 0806).
    let probes = "grep -q ' 0806 ' /proc/net/packet";
    let kill = "kill -9 $(/lifeboat/bin/busybox pidof netd)";
    let killed = |when: &str| {
        let mark = guest.vm.events.mark();
        guest.ok(stated, &format!("timeout 50 sh -c \"{when}\" && {kill}"))?;
        guest.vm.events.ready("netd", mark, qemu::SOON)
    };
    bench.check("beside a stated address", || {
        guest.login(stated)?;
        guest.hold("stated", stated)?;
        guest.ok(stated, &format!("timeout 50 sh -c \"while {probes}; do sleep 0.1; done\"")).map(drop)
    });
    bench.check("killed while it probes what was offered, netd asks on", || {
        server.ok("ip -n bad route add default dev port\nserve rogue ip netns exec bad rogue silent")?;
        killed(&format!("until {probes}; do :; done"))?;
        server.ok("logged rogue 2 'answered 1 with 2'").map(drop)
    });
    bench.check("killed while it asks for what was offered, netd asks on", || {
        killed(&format!("until {probes}; do :; done; while {probes}; do sleep 0.1; done"))?;
        server.ok("logged rogue 3 'answered 1 with 2'").map(drop)
    });
    bench.check("killed when it has declined an address, netd gets another one", || {
        server.ok("quit rogue")?;
        server.ok(&neighbour("other", "192.0.2.70/24"))?;
        let reserved = "--dhcp-host=52:54:00:12:34:56,192.0.2.70";
        server.ok(&dnsmasq("br0", "192.0.2.71,192.0.2.71,1h", reserved))?;
        // What the server before offered is asked for 15 s.
        let declined = "logged dnsmasq 1 'DHCPDECLINE.*192.0.2.70'";
        server.ok(&format!("{declined} || {declined}"))?;
        killed(":")?;
        guest.announced("192.0.2.71", start, qemu::SOON)?;
        guest.ok("192.0.2.71", "true").map(drop)
    });
    bench.check("and no stated address, and no session, went away before there was a lease", || {
        guest.flows("stated")?;
        guest.kept(stated, start)
    });
    Ok(())
}

/// The same with DHCPv6.
fn begun_six(bench: &Bench, server: &Server) -> Result<()> {
    let router = router("2001:db8:2::/64", "AdvManagedFlag on;", "AdvAutonomous off;");
    let net = format!("{BESIDE}ip address add 2001:db8:2::1/64 dev eth0 nodad\n{router}");
    let guest = boot(bench, server, &net, 2, STATED)?;
    let (stated, own) = ("203.0.113.20", "2001:db8:2::100");
    bench.check("killed before DHCPv6 has granted anything, netd asks on", || {
        guest.login(stated)?;
        guest.hold("stated", stated)?;
        // 0222 is port 546.
        let asks = "until grep -q ':0222 ' /proc/net/udp6; do sleep 0.1; done";
        guest.ok(stated, &format!("timeout 50 sh -c \"{asks}\""))?;
        let mark = guest.vm.events.mark();
        guest.kill_netd(stated)?;
        server.ok(&kea6(SUBNET))?;
        guest.announced(own, mark, qemu::SOON)?;
        guest.ok(own, "true")?;
        guest.flows("stated")
    });
    Ok(())
}

fn leased(bench: &Bench, server: &Server) -> Result<()> {
    let net = format!("ip address add 192.0.2.1/24 dev eth0\n{BESIDE}");
    let guest = boot(bench, server, &net, 2, STATED)?;
    let (stated, leased) = ("203.0.113.20", "192.0.2.50");
    bench.check("a login over the stated address works", || {
        guest.login(stated)?;
        guest.hold("stated", stated)
    });
    let start = guest.vm.events.mark();
    bench.check("killed while it asks, netd asks on", || {
        ensure!(guest.state(stated, "eth0")? != "bound", "see it ask");
        guest.kill_netd(stated)?;
        let options = "--dhcp-host=52:54:00:12:34:56,192.0.2.50 --dhcp-option=58,12 --dhcp-option=59,30";
        server.ok(&dnsmasq("eth0", "192.0.2.50,192.0.2.51,2m", options))?;
        guest.announced(leased, start, Duration::from_secs(20))?;
        guest.ok(leased, "true")?;
        guest.hold("leased", leased)
    });
    let before = guest.routing(stated)?;
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
        let now = guest.routing(stated)?;
        ensure!(now == before, "see the routes of before:\n{before}now:\n{now}");
        Ok(())
    });
    bench.check("what a killed life wrote down and the plan has no more is taken away, and nothing else", || {
        // As if it had been killed after the plan changed and before the kernel heard of it.
        let table = before.lines().find_map(|line| line.split_once("lookup 100")?.1.split(' ').next());
        let table = format!("100{}", table.context("find a link's table")?);
        let link = table.trim_start_matches("100");
        let old = format!(
            r#"{{"table":{table},"destination":"198.18.0.0","prefix":15,"gateway":null,"on_link":false,"link":{link},"source":null,"metric":0}}"#
        );
        let device = guest.ok(stated, &format!("ip -o link | grep '^{link}: ' | cut -d ' ' -f 2"))?;
        let device = device.trim().trim_end_matches(':');
        guest.ok(
            stated,
            &format!(
                "ip route add 198.18.0.0/15 dev {device} table {table} proto static scope link\n\
                 netd=$(/lifeboat/bin/busybox pidof netd); kill -STOP $netd\n\
                 sed -i 's|\"routing\":{{\"routes\":\\[|&{old},|' /run/lifeboat/state/netd-leases.json\n\
                 grep -q 198.18 /run/lifeboat/state/netd-leases.json"
            ),
        )?;
        guest.kill_netd(stated)?;
        let gone = format!("while ip route show table {table} | grep -q 198.18; do sleep 0.1; done");
        guest.ok(stated, &format!("timeout 50 sh -c '{gone}'"))?;
        let now = guest.routing(stated)?;
        ensure!(now == before, "see the routes of before:\n{before}now:\n{now}");
        guest.flows("stated")?;
        guest.flows("leased")
    });
    bench.check(
        "a NIC that gets another MAC asks for its lease by that, and gives up what is refused",
        || {
            let mark = guest.vm.events.mark();
            guest.ok(stated, "ip link set eth0 address 52:54:00:12:34:99")?;
            guest.announced("192.0.2.51", mark, qemu::SOON)?;
            let seen = guest.ok(stated, "ip -4 -o address show dev eth0")?;
            holds(&seen, &["192.0.2.51/"])?;
            ensure!(!seen.contains(leased), "see the address of the other MAC go:\n{seen}");
            Ok(())
        },
    );
    Ok(())
}
