//! DHCPv4 and what goes wrong with it.

use super::{Guest, boot, dnsmasq, each, kea4, neighbour, plugged, resolves, switch};
use crate::bench::{Bench, holds};
use anyhow::{Result, ensure};
use contract::event::Event;
use image::vm::{Server, qemu};
use std::time::Duration;

/// When it is by the time server: 2032-01-01.
const LATER: u64 = 1_956_528_000;
const NET: &str = "ip address add 192.0.2.1/24 dev eth0\n";

pub fn by_dnsmasq(bench: &Bench, server: &Server) -> Result<()> {
    let options = "--dhcp-host=52:54:00:12:34:56,192.0.2.77,db7 --dhcp-option=3,192.0.2.254 \
        --dhcp-option=121,10.9.0.0/16,192.0.2.2,0.0.0.0/0,192.0.2.1 --dhcp-option=6,192.0.2.53 \
        --dhcp-option=119,a.example,b.example --dhcp-option=26,1400 --dhcp-option=42,192.0.2.123";
    let time = format!("ip address add 192.0.2.123/32 dev lo\nserve time rogue 192.0.2.123 {LATER}\n");
    let script = format!("{NET}{time}{}", dnsmasq("eth0", "192.0.2.50,192.0.2.99,1h", options));
    let guest = boot(bench, server, &script, 1, "")?;
    let own = "192.0.2.77";
    bench.check("dnsmasq, DHCPv4: a login works", || guest.login(own));
    bench.check("its classless routes count, and its router does not", || {
        let routes = guest.ok(own, "ip route")?;
        holds(&routes, &["default via 192.0.2.1 dev eth0", "10.9.0.0/16 via 192.0.2.2 dev eth0"])?;
        ensure!(!routes.contains("192.0.2.254"), "take no router beside option 121:\n{routes}");
        Ok(())
    });
    bench.check("a route that is added by hand counts for what is sent from the leased address, until it is gone", || {
        let seen = |is_seen: &str| {
            format!("timeout 20 sh -c '{is_seen} ip route get 10.200.0.1 from {own} | grep -q 192.0.2.9; do sleep 0.1; done'")
        };
        guest.ok(own, &format!("ip route add 10.200.0.0/16 via 192.0.2.9; {}", seen("until")))?;
        guest.ok(own, &format!("ip route del 10.200.0.0/16; {}", seen("while"))).map(drop)
    });
    bench.check("its name server, domains, MTU and host name count", || {
        resolves(&guest, own, &["nameserver 192.0.2.53", "search a.example b.example"])?;
        let mtu = guest.ok(own, "cat /sys/class/net/eth0/mtu; hostname")?;
        ensure!(mtu.split_whitespace().eq(["1400", "db7"]), "see MTU and host name: {mtu:?}");
        Ok(())
    });
    bench.check("its time server sets the clock, and the consoles tell of it", || {
        server.ok("logged time 1 asked")?;
        let wait = format!("until [ $(date +%s) -ge {LATER} ]; do sleep 0.1; done");
        guest.ok(own, &format!("timeout 20 sh -c '{wait}'"))?;
        guest.warned(&["the machine's clock (RTC) says", "the time server 192.0.2.123 says", "behind"])
    });
    bench.check("certificates are judged by its time", || {
        holds(&guest.ok(own, "rescue net || :")?, &["Clock by the time server 192.0.2.123"])
    });
    Ok(())
}

/// Servers that do what they should.
pub fn leases(bench: &Bench) -> Result<()> {
    each(bench, 1, &[by_kea, one_address, stated, relayed, expires, beside])
}

fn by_kea(bench: &Bench, server: &Server) -> Result<()> {
    let subnet = r#""subnet": "192.0.2.0/24", "pools": [ { "pool": "192.0.2.60-192.0.2.60" } ],
        "option-data": [ { "name": "routers", "data": "192.0.2.1" }, { "name": "domain-name-servers", "data": "192.0.2.53" } ]"#;
    let guest = boot(bench, server, &format!("{NET}{}", kea4(subnet)), 1, "")?;
    bench.check("Kea, DHCPv4: a login works", || guest.login("192.0.2.60"));
    bench.check("Kea's name server counts", || resolves(&guest, "192.0.2.60", &["nameserver 192.0.2.53"]));
    Ok(())
}

/// As large hosters have it.
fn one_address(bench: &Bench, server: &Server) -> Result<()> {
    let net = "ip address add 172.31.1.1/32 dev eth0\nip route add 192.0.2.7/32 dev eth0\n";
    for (label, options) in [
        ("the router", r#"{ "name": "routers", "data": "172.31.1.1" }"#),
        (
            "classless routes",
            r#"{ "name": "classless-static-route", "data": "172.31.1.1/32 - 0.0.0.0, 0.0.0.0/0 - 172.31.1.1" }"#,
        ),
    ] {
        let subnet = format!(
            r#""subnet": "192.0.2.7/32", "pools": [ {{ "pool": "192.0.2.7-192.0.2.7" }} ], "option-data": [ {options} ]"#
        );
        let guest = boot(bench, server, &format!("{net}{}", kea4(&subnet)), 1, "")?;
        bench.check(&format!("a /32 by DHCP with a gateway elsewhere, as {label}: a login works"), || {
            guest.login("192.0.2.7")
        });
    }
    let guest = boot(bench, server, net, 1, "ip=192.0.2.7::172.31.1.1:255.255.255.255::eth0:off")?;
    bench.check("a /32 by ip= with a gateway elsewhere: a login works", || guest.login("192.0.2.7"));
    Ok(())
}

fn stated(bench: &Bench, server: &Server) -> Result<()> {
    let words = "ip=192.0.2.20::192.0.2.1:255.255.255.0:db20:eth0:none:192.0.2.53 nameserver=192.0.2.54 \
        rd.route=10.9.0.0/16:192.0.2.2 rd.route=10.10.0.0/16:192.0.2.3:eth0";
    let guest = boot(bench, server, NET, 1, words)?;
    bench.check("an address by ip=: a login works", || guest.login("192.0.2.20"));
    bench.check("its name servers and host name count", || {
        resolves(&guest, "192.0.2.20", &["nameserver 192.0.2.54", "nameserver 192.0.2.53"])?;
        holds(&guest.ok("192.0.2.20", "hostname")?, &["db20"])
    });
    bench.check("routes by rd.route=, with an interface and without, are there", || {
        let routes = guest.ok("192.0.2.20", "ip route")?;
        holds(&routes, &["10.9.0.0/16 via 192.0.2.2 dev eth0", "10.10.0.0/16 via 192.0.2.3 dev eth0"])
    });
    Ok(())
}

/// A server that is on no link of ours, behind a relay that goes away: renewals go by the gateway.
fn relayed(bench: &Bench, server: &Server) -> Result<()> {
    let options = "--dhcp-option=3,192.0.2.1 --dhcp-option=58,6 --dhcp-option=59,100";
    let far = dnsmasq("port", "192.0.2.50,192.0.2.50,255.255.255.0,2m", options);
    let script = format!(
        "{NET}ip netns add far\nip link add far type veth peer name port netns far\n\
         ip address add 198.18.0.1/30 dev far\nip link set far up\n\
         ip -n far address add 198.18.0.2/30 dev port\nip -n far link set port up\n\
         ip -n far route add default via 198.18.0.1\n{}\
         serve relay dnsmasq --keep-in-foreground --conf-file=/dev/null --user=root --port=0 --log-facility=- \
         --dhcp-relay=192.0.2.1,198.18.0.2\n",
        far.replace("serve dnsmasq dnsmasq", "serve dnsmasq ip netns exec far dnsmasq"),
    );
    let guest = boot(bench, server, &script, 1, "")?;
    let own = "192.0.2.50";
    bench.check("a server behind a relay: a login works", || guest.login(own));
    bench.check("its lease is renewed without the relay", || {
        server.ok("quit relay")?;
        let acks = server.ok("grep -c DHCPACK /run/log/dnsmasq")?;
        let acks: u32 = acks.trim().parse()?;
        server.ok(&format!("logged dnsmasq {} DHCPACK", acks + 2)).map(drop)
    });
    Ok(())
}

/// The lease ends while nobody renews it, and the server comes back.
fn expires(bench: &Bench, server: &Server) -> Result<()> {
    let kea = |more: &str| {
        kea4(&format!(
            r#""subnet": "192.0.2.0/24", "valid-lifetime": 16, "pools": [ {{ "pool": "192.0.2.61-192.0.2.61" }} ],
        "option-data": [ {{ "name": "routers", "data": "192.0.2.1" }}{more} ]"#
        ))
    };
    let sized = kea(r#", { "name": "interface-mtu", "data": "1400" }"#);
    let guest = boot(bench, server, &format!("{NET}{sized}"), 1, "")?;
    let own = "192.0.2.61";
    let mtu = || guest.ok(own, "cat /sys/class/net/eth0/mtu");
    bench.check("a lease of 16 s: a login works", || guest.login(own));
    bench.check("its MTU counts", || holds(&mtu()?, &["1400\n"]));
    bench.check("it is renewed, and a session lives on beyond its first end", || {
        guest.hold("session", own)?;
        // Two renewals, at half time each.
        server.ok("logged kea4 4 DHCP4_LEASE_ALLOC")?;
        guest.flows("session")
    });
    let mark = guest.vm.events.mark();
    server.ok("quit kea4")?;
    bench.check("without its server it ends", || {
        guest.vm.events.wait("the event that the address is gone", mark, qemu::SOON, |event| {
            matches!(event, Event::AddressLost { address, .. } if address == own).then_some(())
        })
    });
    let mark = guest.vm.events.mark();
    server.ok(&kea(""))?;
    bench.check("when the server is back there is a new one, and a login works", || {
        guest.announced(own, mark, qemu::SOON)?;
        guest.ok(own, "true").map(drop)
    });
    bench.check("the MTU of the one that ended ended with it", || holds(&mtu()?, &["1500\n"]));
    Ok(())
}

/// A stated address and a lease with gateways of their own, on one NIC.
fn beside(bench: &Bench, server: &Server) -> Result<()> {
    let subnet = r#""subnet": "203.0.113.0/24", "valid-lifetime": 16, "pools": [ { "pool": "203.0.113.61-203.0.113.61" } ],
        "option-data": [ { "name": "routers", "data": "203.0.113.1" } ]"#;
    let script = format!("{NET}ip address add 203.0.113.1/24 dev eth0\n{}", kea4(subnet));
    let words = "ip=192.0.2.20::192.0.2.1:24::eth0:none ip=eth0:dhcp";
    let guest = boot(bench, server, &script, 1, words)?;
    let (stated, leased) = ("192.0.2.20", "203.0.113.61");
    bench.check("a stated address beside a lease: a login works over both", || {
        guest.login(stated)?;
        guest.login(leased)
    });
    bench.check("each answers by its own gateway, and the stated one is the default", || {
        for (from, gateway) in
            [("from 192.0.2.20", "192.0.2.1"), ("from 203.0.113.61", "203.0.113.1"), ("", "192.0.2.1")]
        {
            let seen = guest.ok(stated, &format!("ip route get 198.51.100.9 {from}"))?;
            holds(&seen, &[&format!("via {gateway} ")])?;
        }
        Ok(())
    });
    let mark = guest.vm.events.mark();
    server.ok("quit kea4")?;
    bench.check("when the lease ends the stated address and its gateway stay", || {
        guest.vm.events.wait("the event that the lease is gone", mark, qemu::SOON, |event| {
            matches!(event, Event::AddressLost { address, .. } if address == leased).then_some(())
        })?;
        let seen = guest.ok(stated, "ip route; ip route get 198.51.100.9 from 192.0.2.20")?;
        holds(&seen, &["default via 192.0.2.1 dev eth0", "198.51.100.9 from 192.0.2.20 via 192.0.2.1"])?;
        ensure!(!seen.contains("203.0.113"), "see nothing of the lease:\n{seen}");
        Ok(())
    });
    Ok(())
}

/// Servers, neighbours and cables that do what they should not.
pub fn trouble(bench: &Bench) -> Result<()> {
    each(bench, 2, &[slow, slow_switch, rogue, thieves, odd, conflict, dead_nic, late_cable, lost_on_the_way])
}

/// A switch that learns for 40 seconds looks the same.
fn slow(bench: &Bench, server: &Server) -> Result<()> {
    let guest = boot(bench, server, NET, 1, "")?;
    guest.vm.events.ready("netd", 0, qemu::BOOT)?;
    // Time itself is the matter here.
    server.ok(&format!("sleep 40\n{}", dnsmasq("eth0", "192.0.2.50,192.0.2.50,1h", "")))?;
    bench.check("a server that answers after 40 s is asked again within 10 s", || {
        guest.announced("192.0.2.50", 0, Duration::from_secs(10))
    });
    bench.check("a server that answers after 40 s: a login works", || guest.login("192.0.2.50"));
    Ok(())
}

fn rogue(bench: &Bench, server: &Server) -> Result<()> {
    let script = format!(
        "{}{}ip -n bad route add default dev port\nserve rogue ip netns exec bad rogue\n{}",
        switch(&["eth0"]),
        neighbour("bad", "203.0.113.1/24"),
        dnsmasq("br0", "192.0.2.50,192.0.2.50,1h", "--dhcp-reply-delay=1"),
    );
    let guest = boot(bench, server, &script, 1, "")?;
    let own = "192.0.2.50";
    bench.check("beside a server of malformed answers: a login works", || guest.login(own));
    bench.check("it was heard, and is named", || {
        server.ok("logged rogue 1 'a refusal of a server that nobody asked'")?;
        guest.warned(&["203.0.113.1", "its answer is not used"])
    });
    bench.check("it does not fill the consoles", || {
        let warnings = guest.vm.events.all();
        let of_it =
            |event: &&Event| matches!(event, Event::Notice { text, .. } if text.contains("203.0.113.1"));
        let count = warnings.iter().filter(of_it).count();
        ensure!(count <= 10, "see ten warnings of it at most, not {count}");
        Ok(())
    });
    bench.check("after kill -9 its refusals take nothing away", || {
        guest.hold("session", own)?;
        let mark = guest.vm.events.mark();
        guest.kill_netd(own)?;
        // The second one is of its next life.
        server.ok("logged dnsmasq 2 DHCPACK")?;
        guest.flows("session")?;
        guest.kept(own, mark)
    });
    Ok(())
}

/// Servers whose answers are well-formed and first, and of which no lease comes that is worth having.
fn thieves(bench: &Bench, server: &Server) -> Result<()> {
    let own = "192.0.2.50";
    for (manner, what) in [
        ("refuses", "offers and refuses"),
        ("silent", "offers and says no more"),
        ("strays", "grants what nobody asked for"),
    ] {
        let script = format!(
            "{}{}ip -n bad route add default dev port\nserve rogue ip netns exec bad rogue {manner}\n{}",
            switch(&["eth0"]),
            neighbour("bad", "203.0.113.1/24"),
            dnsmasq("br0", "192.0.2.50,192.0.2.50,1h", "--dhcp-reply-delay=1"),
        );
        let guest = boot(bench, server, &script, 1, "")?;
        bench.check(&format!("beside a server that {what}: a login works"), || {
            guest.login(own)?;
            // It was asked first.
            server.ok("logged rogue 1 'answered 1 with 2'").map(drop)
        });
        if manner == "strays" {
            bench.check("after kill -9 the address stays beside a server that grants another one", || {
                guest.hold("session", own)?;
                let mark = guest.vm.events.mark();
                let before = server.ok("grep -c 'answered 3 with 5' /run/log/rogue")?;
                let before: u32 = before.trim().parse()?;
                // The stranger is heard first.
                server.ok("kill -STOP $(cat /run/pid/dnsmasq)")?;
                guest.kill_netd(own)?;
                server.ok(&format!("logged rogue {} 'answered 3 with 5'", before + 1))?;
                server.ok("kill -CONT $(cat /run/pid/dnsmasq)")?;
                server.ok("logged dnsmasq 2 DHCPACK")?;
                guest.flows("session")?;
                guest.kept(own, mark)
            });
        }
    }
    Ok(())
}

/// The only server there is, with options that make no sense.
fn odd(bench: &Bench, server: &Server) -> Result<()> {
    let script = "ip address add 203.0.113.1/24 dev eth0\nip route add 255.255.255.255 dev eth0\nserve rogue rogue odd\n";
    let guest = boot(bench, server, script, 1, "")?;
    let own = "203.0.113.66";
    bench.check("the only server has bad options: a login works", || guest.login(own));
    bench.check("each of them is named in the log", || {
        let log = guest.ok(own, "cat /run/lifeboat/log/netd")?;
        let lines = [6, 26, 42, 119, 121].map(|option| format!("DHCP server 203.0.113.1: option {option} "));
        holds(&log, &lines.each_ref().map(String::as_str))
    });
    Ok(())
}

/// Somebody has the address that is offered, or stated.
fn conflict(bench: &Bench, server: &Server) -> Result<()> {
    let script = format!(
        "{}{}{}",
        switch(&["eth0"]),
        neighbour("other", "192.0.2.70/24"),
        dnsmasq("br0", "192.0.2.71,192.0.2.71,1h", "--dhcp-host=52:54:00:12:34:56,192.0.2.70"),
    );
    let guest = boot(bench, server, &script, 1, "")?;
    let mac = server.ok("ip netns exec other cat /sys/class/net/port/address")?.trim().to_string();
    bench.check("an address that a neighbour has is declined, and the neighbour named", || {
        guest.warned(&["192.0.2.70", &mac])?;
        server.ok("logged dnsmasq 1 'DHCPDECLINE.*192.0.2.70'").map(drop)
    });
    bench.check("with another address a login works", || guest.login("192.0.2.71"));
    drop(guest);

    let guest = plugged(bench, server, 1, "ip=192.0.2.70::192.0.2.1:24::eth0:none")?;
    bench.check("a stated address that a neighbour has is used, and the neighbour named", || {
        guest.announced("192.0.2.70", 0, qemu::BOOT)?;
        guest.warned(&["192.0.2.70", &mac])
    });
    server.ok("ip netns delete other\nip neighbour flush dev br0")?;
    bench.check("once it is gone, a login works", || guest.login("192.0.2.70"));
    Ok(())
}

fn dead_nic(bench: &Bench, server: &Server) -> Result<()> {
    let script =
        format!("ip address add 192.0.2.1/24 dev eth1\n{}", dnsmasq("eth1", "192.0.2.50,192.0.2.50,1h", ""));
    server.ok(&format!("reset\n{script}"))?;
    let mut guest = plugged(bench, server, 2, "")?;
    guest.cable(0, false)?;
    bench.check("with a dead NIC beside the good one, a login works", || guest.login("192.0.2.50"));
    guest.cable(0, true)
}

/// A switch that looks for loops for half a minute before it carries anything, as a port without "portfast" does.
fn slow_switch(bench: &Bench, server: &Server) -> Result<()> {
    let script = format!(
        "ip link add br0 type bridge stp_state 1 forward_delay 1500\nip link set eth0 master br0\nip link set br0 up\n\
         ip address add 192.0.2.1/24 dev br0\n{}",
        dnsmasq("br0", "192.0.2.40,192.0.2.40,1h", "--dhcp-option=3,192.0.2.1")
    );
    let guest = boot(bench, server, &script, 1, "")?;
    bench.check("a switch with STP that listens and learns for 30 s: a login works", || {
        guest.login("192.0.2.40")?;
        let state = server.ok("cat /sys/class/net/br0/bridge/stp_state /sys/class/net/eth0/brport/state")?;
        // 3: forwarding.
        ensure!(state.split_whitespace().eq(["1", "3"]), "see STP at work: {state:?}");
        Ok(())
    });
    Ok(())
}

/// A name server behind two routers, of which the second loses what it is given, or says that it may not.
fn lost_on_the_way(bench: &Bench, server: &Server) -> Result<()> {
    let far = "203.0.113.9";
    // Nobody has that MAC, so what is sent there is gone.
    let script = format!(
        "{NET}ip netns add beyond\nip link add near type veth peer name port netns beyond\n\
         ip address add 198.18.0.1/30 dev near\nip link set near up\n\
         ip -n beyond address add 198.18.0.2/30 dev port\nip -n beyond link set port up\n\
         ip -n beyond route add default via 198.18.0.1\nip netns exec beyond sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'\n\
         ip -n beyond link add gone type veth peer name nowhere\n\
         ip -n beyond link set nowhere up\nip -n beyond link set gone up\n\
         ip -n beyond address add 198.18.1.1/24 dev gone\n\
         ip -n beyond neigh add 198.18.1.2 lladdr 02:00:00:00:00:99 dev gone\n\
         ip -n beyond route add {far} via 198.18.1.2\nip route add {far} via 198.18.0.2\n"
    );
    let own = "192.0.2.5";
    let words = format!("ip={own}::192.0.2.1:24::eth0:off nameserver={far}");
    let guest = boot(bench, server, &script, 1, &words)?;
    guest.login(own)?;
    bench.check("rescue net names the router behind which packets are lost", || {
        let seen = guest.ok(own, "rescue net || true")?;
        holds(&seen, &["Gateway 192.0.2.1 by eth0 answers\n"])?;
        holds(&seen, &[&format!("DNS {far} does not answer: the way ends behind 198.18.0.2, hop 2\n")])
    });
    bench.check("and the one that forbids them", || {
        server.ok(&format!("ip -n beyond route replace prohibit {far}"))?;
        let seen = guest.ok(own, "rescue net || true")?;
        holds(&seen, &[&format!("DNS {far} does not answer: 198.18.0.2 says: forbidden by a filter\n")])?;
        server.ok("ip -n beyond route flush table main type prohibit")?;
        server.ok(&format!("ip -n beyond address add {far}/32 dev port"))?;
        let seen = guest.ok(own, "rescue net || true")?;
        holds(&seen, &[&format!("DNS {far} does not answer: the machine is there, no name server\n")])
    });
    Ok(())
}

fn late_cable(bench: &Bench, server: &Server) -> Result<()> {
    let script = format!("{NET}{}", dnsmasq("eth0", "192.0.2.50,192.0.2.50,1h", ""));
    server.ok(&format!("reset\n{script}"))?;
    let mut guest = plugged(bench, server, 1, "")?;
    guest.cable(0, false)?;
    guest.vm.events.ready("netd", 0, qemu::BOOT)?;
    guest.vm.events.ready("sshd", 0, qemu::BOOT)?;
    let mark = guest.vm.events.mark();
    ensure!(
        !guest.vm.events.all().iter().any(|event| matches!(event, Event::Address { .. })),
        "see no address without a cable"
    );
    guest.cable(0, true)?;
    bench.check("a cable that comes late brings an address within seconds", || {
        guest.announced("192.0.2.50", mark, Duration::from_secs(10))
    });
    bench.check("a cable that comes late: a login works", || guest.login("192.0.2.50"));
    Ok(())
}

impl Guest<'_, '_> {
    /// Since `mark` no address was taken away.
    pub fn kept(&self, address: &str, mark: usize) -> Result<()> {
        let lost = self.vm.events.wait("nothing", mark, Duration::ZERO, |event| match event {
            Event::AddressLost { address: lost, .. } if lost == address => Some(()),
            _ => None,
        });
        ensure!(lost.is_err(), "keep {address}");
        Ok(())
    }
}
