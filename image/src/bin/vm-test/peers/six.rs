//! IPv6: by routers, by DHCPv6, stated.

use super::{BY_ROUTER, ROUTER_CONF, boot, each, radvd, resolves};
use crate::bench::{Bench, holds};
use anyhow::{Result, ensure};
use contract::event::Event;
use image::vm::{Server, qemu};

/// The routers of [`ROUTER_CONF`] with these flags, and what they say of the prefix.
pub fn router(prefix: &str, flags: &str, of_prefix: &str) -> String {
    radvd(&format!(
        "\ninterface eth0 {{ AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; {flags}\n\
         prefix {prefix} {{ {of_prefix} }}; }};"
    ))
}

/// Kea for DHCPv6; `more` is what it has beside the options.
pub fn kea6(more: &str) -> String {
    format!(
        r#"cat > /run/kea6.json <<'END'
{{ "Dhcp6": {{
    "interfaces-config": {{ "interfaces": [ "eth0" ] }},
    "lease-database": {{ "type": "memfile", "persist": false }},
    "option-data": [ {{ "name": "dns-servers", "data": "2001:db8:2::53" }}, {{ "name": "domain-search", "data": "dhcp.example" }} ],
    {more}
    "loggers": [ {{ "name": "kea-dhcp6", "severity": "INFO", "output-options": [ {{ "output": "stdout" }} ] }} ]
}} }}
END
serve kea6 kea-dhcp6 -c /run/kea6.json
"#
    )
}

pub const SUBNET: &str = r#""subnet6": [ { "id": 1, "interface": "eth0", "subnet": "2001:db8:2::/64",
    "pools": [ { "pool": "2001:db8:2::100-2001:db8:2::100" } ] } ],"#;

pub fn by_router(bench: &Bench, server: &Server) -> Result<()> {
    let script = format!("ip address add 2001:db8:1::1/64 dev eth0 nodad\n{}", radvd(ROUTER_CONF));
    let guest = boot(bench, server, &script, 1, "")?;
    bench.check("IPv6 by a router alone: a login works", || guest.login(BY_ROUTER));
    bench.check("the router's name server and domain count", || {
        resolves(&guest, BY_ROUTER, &["nameserver 2001:db8:1::53", "search six.example"])
    });
    bench.check("the router's MTU and route count", || {
        let said = guest.ok(BY_ROUTER, "cat /proc/sys/net/ipv6/conf/eth0/mtu; ip -6 route")?;
        holds(&said, &["1420\n", "2001:db8:aaaa::/48 via fe80::"])?;
        let answer = format!("ip -6 route get 2001:db8:aaaa::1 from {BY_ROUTER}; ip -6 route show table all");
        let said = guest.ok(BY_ROUTER, &answer)?;
        let of_link = |line: &str| line.starts_with("2001:db8:aaaa::/48 ") && line.contains(" table 100");
        ensure!(said.lines().any(of_link), "see the router's route in the link's table:\n{said}");
        Ok(())
    });
    bench.check("kill -9 of netd keeps a router's address, name server and domain", || {
        guest.hold("session", BY_ROUTER)?;
        let mark = guest.vm.events.mark();
        guest.kill_netd(BY_ROUTER)?;
        guest.flows("session")?;
        guest.kept(BY_ROUTER, mark)?;
        resolves(&guest, BY_ROUTER, &["nameserver 2001:db8:1::53", "search six.example"])
    });
    Ok(())
}

pub fn six(bench: &Bench) -> Result<()> {
    each(bench, 1, &[stateful, stateless, either, off, stated, two_providers])
}

fn stateful(bench: &Bench, server: &Server) -> Result<()> {
    let net = "ip address add 2001:db8:2::1/64 dev eth0 nodad\n";
    let script = format!(
        "{net}{}{}",
        router("2001:db8:2::/64", "AdvManagedFlag on;", "AdvAutonomous off;"),
        kea6(SUBNET)
    );
    for words in ["", "ip=dhcp6"] {
        let how = if words.is_empty() { "as the router says" } else { words };
        let guest = boot(bench, server, &script, 1, words)?;
        let own = "2001:db8:2::100";
        bench.check(&format!("IPv6 by Kea, {how}: a login works"), || guest.login(own));
        bench.check(&format!("Kea's IPv6 name server and domain count, {how}"), || {
            resolves(&guest, own, &["nameserver 2001:db8:2::53", "search dhcp.example"])
        });
        bench.check(&format!("kill -9 of netd keeps an address of DHCPv6, {how}"), || {
            guest.hold("session", own)?;
            let mark = guest.vm.events.mark();
            guest.kill_netd(own)?;
            guest.flows("session")?;
            guest.kept(own, mark)
        });
        bench.check(&format!("an address of DHCPv6 comes back after its NIC was taken down, {how}"), || {
            let mark = guest.vm.events.mark();
            // The kernel takes away what nobody stated, and netd has it confirmed first.
            guest.ok(own, "ip link set eth0 down; ip link set eth0 up")?;
            guest.announced(own, mark, qemu::SOON)?;
            guest.flows("session")
        });
    }
    Ok(())
}

fn stateless(bench: &Bench, server: &Server) -> Result<()> {
    let script = format!(
        "ip address add 2001:db8:1::1/64 dev eth0 nodad\n{}{}",
        router("2001:db8:1::/64", "AdvOtherConfigFlag on;", ""),
        kea6("")
    );
    let guest = boot(bench, server, &script, 1, "")?;
    bench.check("IPv6 by a router that leaves the rest to DHCPv6: a login works", || guest.login(BY_ROUTER));
    bench.check("DHCPv6's name server and domain count beside a router's address", || {
        resolves(&guest, BY_ROUTER, &["nameserver 2001:db8:2::53", "search dhcp.example"])
    });
    Ok(())
}

/// A router that says nothing of addresses, and a server that is asked all the same.
fn either(bench: &Bench, server: &Server) -> Result<()> {
    let script = format!(
        "ip address add 2001:db8:2::1/64 dev eth0 nodad\n{}{}",
        router("2001:db8:2::/64", "", "AdvAutonomous off;"),
        kea6(SUBNET)
    );
    let guest = boot(bench, server, &script, 1, "ip=either6")?;
    bench.check("either6 where routers give no address: a login by DHCPv6's works", || {
        guest.login("2001:db8:2::100")
    });
    Ok(())
}

/// A router that speaks when it is asked, and else seldom.
fn off(bench: &Bench, server: &Server) -> Result<()> {
    let conf = "\ninterface eth0 { AdvSendAdvert on; MinRtrAdvInterval 900; MaxRtrAdvInterval 1800;\n\
        prefix 2001:db8:1::/64 { }; };";
    let script = format!("ip address add 2001:db8:1::1/64 dev eth0 nodad\n{}", radvd(conf));
    let guest = boot(bench, server, &script, 1, "")?;
    guest.login(BY_ROUTER)?;
    let mark = guest.vm.events.mark();
    bench.check("a NIC that is set off loses what routers gave it", || {
        // The session may end with the address.
        let _ = guest.ok(BY_ROUTER, "rescue net set --try 10 ip=eth0:off > /dev/null 2>&1 < /dev/null &");
        guest.vm.events.wait("the event that the address is gone", mark, qemu::SOON, |event| {
            matches!(event, Event::AddressLost { address, .. } if address == BY_ROUTER).then_some(())
        })
    });
    bench.check("when that is taken back, routers are asked, and a login works", || {
        guest.announced(BY_ROUTER, mark, qemu::SOON)?;
        guest.ok(BY_ROUTER, "true").map(drop)
    });
    Ok(())
}

fn stated(bench: &Bench, server: &Server) -> Result<()> {
    let net = "ip address add 2001:db8:1::1/64 dev eth0 nodad\n";
    let words = "ip=[2001:db8:1::20]::[2001:db8:1::1]:64::eth0:off nameserver=[2001:db8:1::53]";
    let guest = boot(bench, server, net, 1, words)?;
    let own = "2001:db8:1::20";
    bench.check("an IPv6 address by ip=: a login works", || guest.login(own));
    bench.check("its IPv6 name server counts", || resolves(&guest, own, &["nameserver 2001:db8:1::53"]));
    drop(guest);

    let net = "ip address add fe80::1/64 dev eth0 nodad\nip route add 2001:db8:7::/64 dev eth0\n";
    let guest = boot(bench, server, net, 1, "ip=[2001:db8:7::2]::[fe80::1]:64::eth0:off")?;
    bench.check("an IPv6 address by ip= with a link-local gateway: a login works", || {
        guest.login("2001:db8:7::2")?;
        let routes = guest.ok("2001:db8:7::2", "ip -6 route")?;
        ensure!(routes.contains("default via fe80::1"), "find the gateway in:\n{routes}");
        Ok(())
    });
    Ok(())
}

/// A stated address with its gateway, and a router that gives one of another provider, which drops what is from elsewhere.
fn two_providers(bench: &Bench, server: &Server) -> Result<()> {
    let net =
        "ip address add 2001:db8:1::1/64 dev eth0 nodad\nip address add 2001:db8:7::1/64 dev eth0 nodad\n";
    let script = format!("{net}{}", router("2001:db8:1::/64", "", ""));
    let own = "2001:db8:7::20";
    let guest = boot(bench, server, &script, 1, &format!("ip=[{own}]::[2001:db8:7::1]:64::eth0:auto6"))?;
    bench.check("a stated IPv6 address beside a router of another provider: a login works by each", || {
        guest.login(own)?;
        guest.login(BY_ROUTER)
    });
    bench.check("each answers by its own gateway, and what is begun here is from the stated one", || {
        let far = "ip -6 route get 2001:db8:bbbb::1";
        for (from, via) in
            [(format!(" from {own}"), "via 2001:db8:7::1 "), (format!(" from {BY_ROUTER}"), "via fe80::")]
        {
            let said = guest.ok(own, &format!("{far}{from}"))?;
            ensure!(said.contains(via), "find {via:?} in what {from} goes by: {said}");
        }
        let said = guest.ok(own, far)?;
        holds(&said, &["via 2001:db8:7::1 ", &format!("src {own} ")])
    });
    Ok(())
}
