//! Interfaces that stand on others: VLANs, bonds, bridges.

use super::{Guest, boot, dnsmasq, each, plugged, switch};
use crate::bench::{Bench, holds};
use anyhow::{Result, ensure};
use contract::event::Event;
use image::vm::Server;
use image::vm::machine::quote;

pub fn vlan(bench: &Bench, server: &Server) -> Result<()> {
    let script = format!(
        "ip link add link eth0 name eth0.5 type vlan id 5\nip link set eth0.5 up\nip address add 192.0.2.1/24 dev eth0.5\n{}",
        dnsmasq("eth0.5", "192.0.2.50,192.0.2.50,1h", "")
    );
    let guest = boot(bench, server, &script, 1, "vlan=eth0.5:eth0 ip=eth0.5:dhcp")?;
    bench.check("a port that carries tagged frames alone: a login works", || guest.login("192.0.2.50"));
    Ok(())
}

pub fn stacks(bench: &Bench) -> Result<()> {
    each(bench, 2, &[backup, lacp, no_lacp, vlan_on_bond, bridge, single])
}

const BOND: &str = "ip link add bond0 type bond mode 802.3ad miimon 100 lacp_rate fast
for nic in eth0 eth1; do
    ip link set $nic down
    ip link set $nic master bond0
done
ip link set bond0 up
";

fn backup(bench: &Bench, server: &Server) -> Result<()> {
    let script = format!("{}{}", switch(&["eth0", "eth1"]), dnsmasq("br0", "192.0.2.50,192.0.2.50,1h", ""));
    server.ok(&format!("reset\n{script}"))?;
    // In an order that the driver refuses, and by the name that the installed system has for eth1.
    let words = "bond=bond0:eth0,eth1:mode=active-backup,updelay=200,primary=enp0s2,miimon=100 ip=bond0:dhcp";
    let guest = plugged(bench, server, 2, words)?;
    bench.check("active-backup: each option reaches the driver, in whatever order it is said", || {
        let is = "cd /sys/class/net/bond0/bonding && [ $(cat updelay) = 200 ] && grep -q '^eth1$' primary";
        let wait = format!("until {is}; do sleep 0.1; done");
        let seen = guest.ok("192.0.2.50", &format!("timeout 50 sh -c {}", quote(&wait)));
        seen.or_else(|error| {
            let shown =
                guest.ok("192.0.2.50", "cd /sys/class/net/bond0/bonding && head updelay primary; ip link")?;
            Err(error.context(shown))
        })
        .map(drop)
    });
    legs(bench, guest, "active-backup")
}

/// A switch that was not told of the bond, and has one port usable at a time.
fn no_lacp(bench: &Bench, server: &Server) -> Result<()> {
    let script = format!("{}{}", switch(&["eth0", "eth1"]), dnsmasq("br0", "192.0.2.50,192.0.2.50,1h", ""));
    server.ok(&format!("reset\n{script}"))?;
    let words = "bond=bond0:eth0,eth1:mode=802.3ad,miimon=100 ip=bond0:dhcp";
    let mut guest = plugged(bench, server, 2, words)?;
    let own = "192.0.2.50";
    bench.check("802.3ad on a switch that does not speak LACP: a login works", || guest.login(own));
    bench.check("802.3ad without LACP: a session lives on when one leg dies, and then the other one", || {
        guest.hold("session", own)?;
        for nic in 0..2 {
            guest.cable(nic, false)?;
            guest.flows("session")?;
            guest.cable(nic, true)?;
            let up = "until [ $(grep -c 'MII Status: up' /proc/net/bonding/bond0) = 3 ]; do sleep 0.1; done";
            guest.ok(own, &format!("timeout 50 sh -c {}", quote(up)))?;
        }
        Ok(())
    });
    bench.check("its mode is set anew while it is in use, with its MTU, and taken back", || {
        guest
            .ok(own, "rescue net set --try 300 bond=bond0:eth0,eth1:mode=active-backup:1400 ip=bond0:dhcp")?;
        let has = |mode: &str, mtu: u32| {
            let is = format!(
                "grep -q {mode} /proc/net/bonding/bond0 && [ $(cat /sys/class/net/bond0/mtu) = {mtu} ]"
            );
            let wait = format!("until {is} && ip -4 address show bond0 | grep -q {own}; do sleep 0.1; done");
            guest.ok(own, &format!("timeout 50 sh -c {}", quote(&wait)))
        };
        has("active-backup", 1400)?;
        guest.kill_netd(own)?;
        has("active-backup", 1400)?;
        guest.ok(own, "rescue net revert")?;
        has("802.3ad", 1500)?;
        guest.flows("session")
    });
    Ok(())
}

/// One NIC has a lease before the other one has a server.
fn single(bench: &Bench, server: &Server) -> Result<()> {
    let net = "ip address add 192.0.2.1/24 dev eth0\nip address add 203.0.113.1/24 dev eth1\n";
    let lease = dnsmasq("eth0", "192.0.2.50,192.0.2.50,1h", "");
    let guest = boot(bench, server, &format!("{net}{lease}"), 2, "ip=single-dhcp")?;
    let own = "192.0.2.50";
    bench.check("single-dhcp: a login by the first lease works", || guest.login(own));
    bench.check("single-dhcp: the other NIC does not ask any more", || {
        // Of /proc/net/packet the fifth field is the interface; netd listens for answers there while it asks.
        let asks = "awk -v nic=$(cat /sys/class/net/eth1/ifindex) '$5 == nic' /proc/net/packet | grep -q .";
        let wait = format!("while {asks}; do sleep 0.1; done");
        guest.ok(own, &format!("timeout 50 sh -c {}", quote(&wait))).map(drop)
    });
    Ok(())
}

fn lacp(bench: &Bench, server: &Server) -> Result<()> {
    let script = format!(
        "{BOND}ip address add 192.0.2.1/24 dev bond0\n{}",
        dnsmasq("bond0", "192.0.2.50,192.0.2.50,1h", "")
    );
    server.ok(&format!("reset\n{script}"))?;
    let words = "bond=bond0:eth0,eth1:mode=802.3ad,miimon=100,lacp_rate=fast ip=bond0:dhcp";
    let guest = plugged(bench, server, 2, words)?;
    legs(bench, guest, "802.3ad")
}

/// No port had an address or a lease of its own, not even before it was one.
fn ports_ask_nothing(bench: &Bench, guest: &Guest, what: &str) {
    bench.check(&format!("{what}: no port asks for itself"), || {
        let events = guest.vm.events.all();
        let own = |event: &&Event| matches!(event, Event::Address { interface, .. } if interface.starts_with("eth"));
        ensure!(events.iter().find(own).is_none(), "see no address of a port: {:?}", events.iter().find(own));
        Ok(())
    });
}

/// A bond with one leg dead from the start, then the other one.
fn legs(bench: &Bench, mut guest: Guest, mode: &str) -> Result<()> {
    let own = "192.0.2.50";
    guest.cable(0, false)?;
    bench.check(&format!("{mode} with a dead leg: a login works"), || guest.login(own));
    bench.check(&format!("{mode}: kill -9 of netd keeps the bond and the session"), || {
        guest.hold("session", own)?;
        let mark = guest.vm.events.mark();
        guest.kill_netd(own)?;
        guest.flows("session")?;
        guest.kept(own, mark)
    });
    ports_ask_nothing(bench, &guest, mode);
    guest.cable(0, true)?;
    bench.check(&format!("{mode}: the leg that comes back carries on when the other one dies"), || {
        // Until both are up, and the partners have agreed on them.
        let up = "grep -c 'MII Status: up' /proc/net/bonding/bond0) = 3";
        let joined = "grep -c 'Number of ports: 2' /proc/net/bonding/bond0) = 1";
        for what in [up, joined].iter().take(if mode == "802.3ad" { 2 } else { 1 }) {
            let wait = format!("until [ $({what} ]; do sleep 0.1; done");
            guest.ok(own, &format!("timeout 50 sh -c {}", quote(&wait)))?;
        }
        guest.cable(1, false)?;
        guest.flows("session")
    });
    guest.cable(1, true)
}

fn vlan_on_bond(bench: &Bench, server: &Server) -> Result<()> {
    let script = format!(
        "{BOND}ip link add link bond0 name bond0.7 type vlan id 7\nip link set bond0.7 up\nip address add 192.0.2.1/24 dev bond0.7\n"
    );
    let words = "bond=bond0:eth0,eth1:mode=802.3ad,miimon=100,lacp_rate=fast vlan=bond0.7:bond0 \
        ip=192.0.2.30::192.0.2.1:24::bond0.7:none";
    let guest = boot(bench, server, &script, 2, words)?;
    bench.check("a VLAN on a bond with an address by ip=: a login works", || guest.login("192.0.2.30"));
    Ok(())
}

fn bridge(bench: &Bench, server: &Server) -> Result<()> {
    let script =
        format!("ip address add 192.0.2.1/24 dev eth0\n{}", dnsmasq("eth0", "192.0.2.50,192.0.2.50,1h", ""));
    let guest = boot(bench, server, &script, 2, "bridge=br0:eth0,eth1 ip=br0:dhcp")?;
    bench.check("a bridge of two NICs: a login works", || guest.login("192.0.2.50"));
    bench.check("both are its ports", || {
        holds(&guest.ok("192.0.2.50", "ip -br link show master br0")?, &["eth0", "eth1"])
    });
    ports_ask_nothing(bench, &guest, "a bridge");
    Ok(())
}
