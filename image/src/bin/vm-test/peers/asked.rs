//! What a person asks of the network over the network: `rescue net set`, `dhcp`, `keep`, `revert`, `blink`.

use super::{Guest, boot, dnsmasq, each};
use crate::bench::{Bench, holds};
use anyhow::{Result, ensure};
use contract::event::Event;
use image::vm::machine::quote;
use image::vm::{Server, qemu};

const LEASED: &str = "192.0.2.50";
/// In the lease's subnet: what the kernel does with the one when the other goes is the matter.
const OTHER: &str = "192.0.2.51";
/// Nothing is taken back while a test looks.
const TRY: &str = "--try 3600";

pub fn asked(bench: &Bench) -> Result<()> {
    each(bench, 1, &[pinned, moved])
}

impl Guest<'_, '_> {
    /// Over `address`, which may not be there any more when it is done: what it says is in /run/said.
    fn asks(&self, address: &str, command: &str) -> Result<()> {
        let there = format!("setsid sh -c {} > /run/said 2>&1 < /dev/null &", quote(command));
        self.ok(address, &there).map(drop)
    }

    fn lost(&self, want: &str, mark: usize) -> Result<()> {
        self.vm.events.wait(&format!("the event that {want} is gone"), mark, qemu::SOON, |event| {
            matches!(event, Event::AddressLost { address, .. } if address == want).then_some(())
        })
    }

    /// Its addresses are this one alone, it answers by the gateway, and a new login works.
    fn has(&self, address: &str) -> Result<()> {
        let seen = self.ok(address, "ip -4 -o address show dev eth0; ip route; ip rule")?;
        holds(&seen, &[&format!(" {address}/24 "), "default via 192.0.2.1 dev eth0"])?;
        let count = |part: &str| seen.matches(part).count();
        ensure!(count(" inet ") == 1 && count("from 192.0.2.") == 1, "see one address and its rule:\n{seen}");
        Ok(())
    }
}

fn begin<'a, 's>(bench: &'a Bench, server: &'a Server<'s>) -> Result<Guest<'a, 's>> {
    let range = format!("{LEASED},{LEASED},1h");
    let script = format!("ip address add 192.0.2.1/24 dev eth0\n{}", dnsmasq("eth0", &range, ""));
    let guest = boot(bench, server, &script, 1, "")?;
    guest.login(LEASED)?;
    guest.hold("session", LEASED)?;
    Ok(guest)
}

/// The lease's own address is stated, and leased again.
fn pinned(bench: &Bench, server: &Server) -> Result<()> {
    let guest = begin(bench, server)?;
    let mark = guest.vm.events.mark();
    let stated = format!("ip={LEASED}::192.0.2.1:24::eth0:none");
    bench.check("rescue net set to the leased address keeps it and the session", || {
        let said = guest.ok(LEASED, &format!("rescue net set {TRY} {stated}"))?;
        holds(&said, &["192.0.2.50/24, gateway 192.0.2.1", "rescue net keep"])?;
        guest.ok(LEASED, "until ip -4 -o address | grep -q '192.0.2.50/24.* forever'; do sleep 0.1; done")?;
        guest.has(LEASED)?;
        guest.flows("session")
    });
    bench.check("it is kept, and once", || {
        guest.ok(LEASED, "rescue net keep")?;
        let again = guest.ok(LEASED, "rescue net keep 2>&1 || true")?;
        holds(&again, &["nothing is being tried"])
    });
    bench.check("kill -9 of netd keeps what was kept", || {
        guest.kill_netd(LEASED)?;
        guest.has(LEASED)?;
        guest.flows("session")
    });
    bench.check("deleted by hand, it is back with its routes", || {
        let mark = guest.vm.events.mark();
        guest.asks(LEASED, "ip address del 192.0.2.50/24 dev eth0")?;
        guest.announced(LEASED, mark, qemu::SOON)?;
        guest.has(LEASED)?;
        guest.flows("session")
    });
    bench.check("rescue net dhcp leases it again, without a gap", || {
        let mark = guest.vm.events.mark();
        holds(&guest.ok(LEASED, &format!("rescue net dhcp {TRY} eth0"))?, &["eth0: DHCP"])?;
        guest.ok(LEASED, "until grep -q '\"bound\"' /run/lifeboat/state/netd.json; do sleep 0.1; done")?;
        guest.has(LEASED)?;
        guest.flows("session")?;
        guest.kept(LEASED, mark)
    });
    bench.check("rescue net revert states it again, without a gap", || {
        let mark = guest.vm.events.mark();
        guest.ok(LEASED, "rescue net revert")?;
        guest
            .ok(LEASED, "until grep -q '\"configured\"' /run/lifeboat/state/netd.json; do sleep 0.1; done")?;
        guest.has(LEASED)?;
        guest.flows("session")?;
        guest.kept(LEASED, mark)
    });
    bench.check("through all of it netd took it away never", || guest.kept(LEASED, mark));
    bench.check("rescue net blink shows its command, and says what this card cannot do", || {
        let said =
            guest.ok(LEASED, "rescue net blink --dry-run eth0; rescue net blink eth0 1 2>&1 || true")?;
        holds(&said, &["ethtool -p eth0 15\n", "not supported"])?;
        holds(&guest.ok(LEASED, "rescue net blink eth9 2>&1 || true")?, &["no interface eth9"])
    });
    Ok(())
}

/// A neighbour of the leased address is stated.
fn moved(bench: &Bench, server: &Server) -> Result<()> {
    let guest = begin(bench, server)?;
    let set = format!("rescue net set {TRY} ip={OTHER}::192.0.2.1:24::eth0:none");
    bench.check(
        "rescue net set to a neighbour of the leased address: a login works, and that one is gone",
        || {
            let mark = guest.vm.events.mark();
            guest.asks(LEASED, &set)?;
            guest.announced(OTHER, mark, qemu::SOON)?;
            guest.lost(LEASED, mark)?;
            guest.has(OTHER)?;
            holds(&guest.ok(OTHER, "cat /run/said")?, &["192.0.2.51/24, gateway 192.0.2.1"])
        },
    );
    bench.check("rescue net revert: the lease is back, and a login works", || {
        let mark = guest.vm.events.mark();
        guest.asks(OTHER, "rescue net revert")?;
        guest.announced(LEASED, mark, qemu::SOON)?;
        guest.lost(OTHER, mark)?;
        guest.has(LEASED)
    });
    bench.check("what nobody keeps is taken back by itself", || {
        let mark = guest.vm.events.mark();
        guest.asks(LEASED, &set.replace(TRY, "--try 5"))?;
        guest.announced(OTHER, mark, qemu::SOON)?;
        guest.lost(OTHER, mark)?;
        guest.has(LEASED)
    });
    Ok(())
}
