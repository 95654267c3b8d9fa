//! The network against real servers: a second machine (image/src/vm/server.rs) runs them, and logs in to the rescue over
//! the network under test, from an address that is answered by a gateway alone. There is no other way in.

mod asked;
mod door;
mod found;
mod leases;
mod lives;
mod six;
mod stacks;

pub use asked::asked;
pub use door::door;
pub use found::found;
pub use leases::{leases, trouble};
pub use lives::lives;
pub use six::six;
pub use stacks::stacks;

use crate::bench::{Bench, holds};
use anyhow::{Context as _, Result, ensure};
use contract::event::Event;
use image::vm::machine::quote;
use image::vm::{Disk, Server, Vm, qemu};
use std::time::Duration;

/// What the rescue's first NIC gets by routers in 2001:db8:1::/64: made of its MAC (RFC 4291 appendix A).
const BY_ROUTER: &str = "2001:db8:1:0:5054:ff:fe12:3456";
const ROUTER_CONF: &str = "
interface eth0 {
    AdvSendAdvert on;
    MinRtrAdvInterval 3;
    MaxRtrAdvInterval 4;
    AdvLinkMTU 1420;
    prefix 2001:db8:1::/64 { };
    route 2001:db8:aaaa::/48 { };
    RDNSS 2001:db8:1::53 { AdvRDNSSLifetime 600; };
    DNSSL six.example { AdvDNSSLLifetime 600; };
};";

/// The sample: an address by DHCP, one by a router, one on a VLAN.
pub fn sample(bench: &Bench) -> Result<()> {
    each(bench, 1, &[leases::by_dnsmasq, six::by_router, stacks::vlan])
}

/// Each of these with one server after the other; one that goes wrong does not hide the next.
fn each(bench: &Bench, nics: usize, scenes: &[fn(&Bench, &Server) -> Result<()>]) -> Result<()> {
    let server = Server::start(bench, nics)?;
    let mut last = Ok(());
    for scene in scenes {
        if let Err(error) = scene(bench, &server) {
            println!("FAIL  {}: failed to {error:#}", bench.name);
            last = Err(error);
        }
    }
    last
}

/// A rescue on the wires of a server.
struct Guest<'a, 's> {
    vm: Vm<'a>,
    server: &'a Server<'s>,
}

/// The server begins anew with this script, and a rescue boots on its first wires with these words.
fn boot<'a, 's>(
    bench: &'a Bench,
    server: &'a Server<'s>,
    script: &str,
    wires: usize,
    words: &str,
) -> Result<Guest<'a, 's>> {
    server.ok(&format!("reset\n{script}"))?;
    plugged(bench, server, wires, words)
}

/// The same without the server.
fn plugged<'a, 's>(
    bench: &'a Bench,
    server: &'a Server<'s>,
    wires: usize,
    words: &str,
) -> Result<Guest<'a, 's>> {
    plugged_with(bench, server, wires, words, Vec::new())
}

/// With disks, too.
fn plugged_with<'a, 's>(
    bench: &'a Bench,
    server: &'a Server<'s>,
    wires: usize,
    words: &str,
    disks: Vec<Disk>,
) -> Result<Guest<'a, 's>> {
    let mut machine = bench.machine()?.no_nic().append(words).disks(disks);
    for number in 0..wires {
        machine = machine.nic(server.wire(number));
    }
    Ok(Guest { vm: machine.start(bench)?, server })
}

impl Guest<'_, '_> {
    /// Wait until it has announced this address, after `mark`.
    fn announced(&self, want: &str, mark: usize, patience: Duration) -> Result<()> {
        self.vm.events.wait(&format!("the event of the address {want}"), mark, patience, |event| {
            matches!(event, Event::Address { address, .. } if address == want).then_some(())
        })
    }

    /// The login that everything is about, once the address is there: from beyond the gateway.
    fn login(&self, address: &str) -> Result<()> {
        self.announced(address, 0, qemu::BOOT)?;
        self.vm.events.ready("sshd", 0, qemu::BOOT)?;
        // A router may speak after DHCPv6 has: until then there is no way back, not even on the link.
        let client = self.client(address)?;
        let script = format!("for i in 1 2 3; do\n{client} true && exit\nsleep 1\ndone\nexit 1");
        self.server.ok_within(&script, qemu::SOON * 2).map(drop)
    }

    /// What a command says there.
    fn ok(&self, address: &str, command: &str) -> Result<String> {
        self.server.ok_within(&format!("{} {}", self.client(address)?, quote(command)), qemu::SOON * 2)
    }

    /// The stock client of Debian with the console's `known_hosts` line, up to its command.
    fn client(&self, address: &str) -> Result<String> {
        let known = self.vm.known_hosts_event()?;
        let alias = known.split(' ').next().context("read an empty known_hosts line")?.to_string();
        self.server.ok(&format!("echo '{known}' > /run/ssh/known"))?;
        let from = if address.contains(':') { "2001:db8:ffff::9" } else { "198.51.100.9" };
        Ok(format!(
            "ssh -F /dev/null -i /run/ssh/key -b {from} -o BatchMode=yes -o StrictHostKeyChecking=yes \
             -o UserKnownHostsFile=/run/ssh/known -o HostKeyAlias={alias} -o ConnectTimeout=30 -o ServerAliveInterval=15 \
             root@{address}"
        ))
    }

    /// A session that stays, on this server's side called `name`: what it says goes on for as long as it lives.
    fn hold(&self, name: &str, address: &str) -> Result<()> {
        let client = self.client(address)?;
        self.server.ok(&format!("serve {name} {client} 'while :; do echo alive; sleep 0.2; done'"))?;
        self.flows(name)
    }

    /// It still says something new.
    fn flows(&self, name: &str) -> Result<()> {
        let lines = self.server.ok(&format!("timeout 50 tail -n 0 -f /run/log/{name} | head -n 3"))?;
        ensure!(lines.matches("alive").count() == 3, "see the session {name} go on: {lines:?}");
        Ok(())
    }

    /// Wait until a warning has reached a person, which holds each of these.
    fn warned(&self, parts: &[&str]) -> Result<()> {
        self.vm.events.wait(&format!("a warning of {parts:?}"), 0, qemu::SOON, |event| match event {
            Event::Notice { text, .. } if parts.iter().all(|part| text.contains(part)) => Some(()),
            _ => None,
        })
    }

    /// The cable between a NIC and the server, at both ends.
    fn cable(&mut self, nic: usize, plugged: bool) -> Result<()> {
        self.vm.link(nic, plugged)?;
        self.server.link(nic, plugged)
    }
}

/// dnsmasq's arguments for DHCP on an interface.
fn dnsmasq(interface: &str, range: &str, more: &str) -> String {
    format!(
        "serve dnsmasq dnsmasq --keep-in-foreground --conf-file=/dev/null --user=root --port=0 --log-facility=- --log-dhcp \
         --no-ping --bind-interfaces --dhcp-authoritative --dhcp-leasefile=/run/leases \
         --interface={interface} --dhcp-range={range} {more}\n"
    )
}

/// Kea for DHCPv4 on the first NIC: `subnet` is the inside of its description.
fn kea4(subnet: &str) -> String {
    format!(
        r#"cat > /run/kea4.json <<'END'
{{ "Dhcp4": {{
    "interfaces-config": {{ "interfaces": [ "eth0" ] }},
    "lease-database": {{ "type": "memfile", "persist": false }},
    "subnet4": [ {{ "id": 1, "interface": "eth0", {subnet} }} ],
    "loggers": [ {{ "name": "kea-dhcp4", "severity": "INFO", "output-options": [ {{ "output": "stdout" }} ] }} ]
}} }}
END
serve kea4 kea-dhcp4 -c /run/kea4.json
"#
    )
}

fn radvd(conf: &str) -> String {
    format!(
        "cat > /run/radvd.conf <<'END'{conf}\nEND\nserve radvd radvd -n -m stderr -p /run/radvd.pid -C /run/radvd.conf\n"
    )
}

/// A bridge of these NICs, as a switch is.
fn switch(nics: &[&str]) -> String {
    let mut script = "ip link add br0 type bridge forward_delay 0 stp_state 0\n".to_string();
    for nic in nics {
        script += &format!("ip link set {nic} master br0\n");
    }
    script + "ip link set br0 up\nip address add 192.0.2.1/24 dev br0\n"
}

/// Another machine on the bridge: a namespace with one NIC, `port`, and an address.
fn neighbour(name: &str, address: &str) -> String {
    format!(
        "ip netns add {name}\nip link add {name} type veth peer name port netns {name}\nip link set {name} master br0 up\n\
         ip -n {name} link set port up\nip -n {name} address add {address} dev port\n"
    )
}

/// The resolver's file has to hold each of these, or to come to hold it: it may be told after the address.
fn resolves(guest: &Guest, address: &str, parts: &[&str]) -> Result<()> {
    let all: Vec<String> =
        parts.iter().map(|part| format!("grep -q {} /etc/resolv.conf", quote(part))).collect();
    let wait = format!("until {}; do sleep 0.1; done", all.join(" && "));
    holds(&guest.ok(address, &format!("timeout 20 sh -c {}; cat /etc/resolv.conf", quote(&wait)))?, parts)
}
