//! The far side of a rescue's network: a machine with real servers and switches (dnsmasq, Kea, radvd, Linux bonds, bridges
//! and VLANs), whose NICs are joined to the rescue's by wires. It stays while rescues come and go, does what scripts
//! say, and logs in to the rescue over the very network that is being tested.

use super::appliance::Recipe;
use super::disks::Disk;
use super::lab::Lab;
use super::machine::{Machine, Nic};
use super::programs;
use super::qemu::{BOOT, Vm};
use super::ssh::Answer;
use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Of the image's tree, with what each is there for.
const PROGRAMS: &[(&str, &str)] = &[
    ("usr/bin/bash", "what scripts are run by: busybox's shell takes its own `ip` before iproute2's"),
    ("usr/bin/busybox", "the everyday commands"),
    ("usr/bin/fusermount3", "the end of a mount by sshfs"),
    ("usr/bin/ip", "addresses, VLANs, bonds, bridges, namespaces"),
    ("usr/bin/kmod", "modprobe"),
    ("usr/bin/ssh", "the login"),
    ("usr/bin/tcpdump", "what is on the wire, when something goes wrong"),
];

/// Of the build's own tools.
const TOOLS: &[(&str, &str)] = &[
    ("usr/bin/sshfs", "what an administrator copies with by hand"),
    ("usr/sbin/dhcpd", "DHCPv4 as MAAS has it"),
    ("usr/sbin/dnsmasq", "DHCPv4"),
    ("usr/sbin/kea-dhcp4", "DHCPv4 as large hosters have it"),
    ("usr/sbin/kea-dhcp6", "DHCPv6"),
    ("usr/sbin/radvd", "router advertisements"),
];

const LINKS: &[(&str, &str)] = &[
    ("usr/sbin/modprobe", "../bin/kmod"),
    ("bin", "usr/bin"),
    ("sbin", "usr/sbin"),
    ("lib", "usr/lib"),
    ("lib64", "usr/lib64"),
];

const MODULES: &[&str] = &[
    "crypto/crc32c_generic.ko.xz",
    "drivers/block/virtio_blk.ko.xz",
    "drivers/net/bonding",
    "drivers/net/net_failover.ko.xz",
    "drivers/net/veth.ko.xz",
    "drivers/net/virtio_net.ko.xz",
    "fs/ext4",
    "fs/fuse",
    "fs/jbd2",
    "fs/mbcache.ko.xz",
    "lib/crc16.ko.xz",
    "net/802",
    "net/8021q",
    "net/bridge",
    "net/core",
    "net/llc",
    "net/tls",
];

/// PID 1. Commands come on the second serial line, one a line: a number and a script in base64.
const INIT: &str = r#"#!/usr/bin/busybox sh
bb=/usr/bin/busybox
$bb mkdir -p /proc /sys /dev /run /tmp /bb /etc /root /var/lib/kea
$bb ln -s /run /var/run
$bb mount -t proc proc /proc
$bb mount -t sysfs sysfs /sys
$bb mount -t devtmpfs dev /dev
$bb mount -t tmpfs run /run
$bb --install -s /bb
export PATH=/usr/sbin:/usr/bin:/bb LC_ALL=C HOME=/root
export KEA_PIDFILE_DIR=/run KEA_LOCKFILE_DIR=none KEA_DHCP_DATA_DIR=/run
printf 'root:x:0:0:root:/root:/usr/bin/bash\nnobody:x:65534:65534:nobody:/:/bin/false\n' > /etc/passwd
printf 'root:x:0:\nnogroup:x:65534:\n' > /etc/group
mkdir -p /run/kea /run/log /run/pid /run/ssh
modprobe -a virtio_net veth bonding 8021q bridge
cat > /etc/functions <<'END'
# serve NAME COMMAND...: beside everything else, until the next reset.
serve() {
    local name=$1 program
    # By its path: busybox's setsid takes its own `ip`, too.
    program=$(type -P $2)
    shift 2
    setsid $program "$@" > /run/log/$name 2>&1 < /dev/null &
    echo $! > /run/pid/$name
}
# quit NAME: at once, as by a power cut.
quit() {
    kill -9 $(cat /run/pid/$1) || { tail -n 5 /run/log/$1 >&2; return 1; }
    rm /run/pid/$1
}
# logged NAME COUNT PATTERN: wait until its log has so many such lines.
logged() {
    local i
    for i in $(seq 250); do
        [ $(grep -c -- "$3" /run/log/$1) -lt $2 ] || return 0
        sleep 0.1
    done
    cat /run/log/$1
    return 1
}
# Nothing runs, nothing has an address, and every cable leads here.
reset() {
    for pid in /run/pid/*; do [ ! -e $pid ] || quit ${pid##*/} || rm $pid; done
    ip -all netns delete
    for kind in vlan bridge bond veth; do
        ip -o link show type $kind | sed 's/^[0-9]*: \([^:@]*\).*/\1/' | while read link; do ip link delete $link 2> /dev/null; done
    done
    for nic in /sys/class/net/eth*; do
        nic=${nic##*/}
        ip link set $nic down nomaster
        ip address flush dev $nic
        echo 0 > /proc/sys/net/ipv6/conf/$nic/accept_dad
        ip link set $nic mtu 1500 up
    done
    until ip -6 address show dev $nic scope link | grep -q inet6; do sleep 0.1; done
    while ip -6 address show tentative | grep -q inet6; do sleep 0.1; done
    rm -rf /run/leases /run/log/*
    # What is far away: whoever answers it does so by its gateway.
    ip link set lo up
    ip address replace 198.51.100.9/32 dev lo
    ip address replace 2001:db8:ffff::9/128 dev lo
}
END
echo 1 > /proc/sys/net/ipv4/ip_forward
echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
bash -c '. /etc/functions; reset'
exec < /dev/ttyS1 > /dev/ttyS1 2>&1
stty raw -echo
echo 'server: ready'
# Not by the shell's own `read`, which forgets what it has of a line when a child of PID 1 ends.
while line=$(head -n 1); do
    [ -n "$line" ] || { sleep 1; continue; }
    number=${line%% *} script=${line#* }
    { echo '. /etc/functions'; echo "$script" | base64 -d; } > /run/script
    bash /run/script > /run/said 2>&1 < /dev/null
    status=$?
    echo "server: $number"
    cat /run/said
    echo
    echo "server: $number ended $status"
done
"#;

/// How long a machine is waited for that is about to end.
const LAST_WORDS: Duration = Duration::from_secs(10);

pub struct Server<'lab> {
    vm: Mutex<Vm<'lab>>,
    /// How many scripts it was given.
    count: Mutex<usize>,
    /// Where the wires' sockets are: a path of the lab may be too long for one.
    wires: tempfile::TempDir,
}

impl<'lab> Server<'lab> {
    /// With so many NICs, `eth0` and on.
    pub fn start(lab: &'lab Lab, nics: usize) -> Result<Server<'lab>> {
        Server::start_beside(lab, nics, None)
    }

    /// The same with one more NIC behind them, which leads elsewhere and is set up by nobody.
    pub fn start_beside(lab: &'lab Lab, nics: usize, more: Option<Nic>) -> Result<Server<'lab>> {
        Server::start_with(lab, nics, more, None)
    }

    /// With a disk, `/dev/vda`.
    pub fn start_on(lab: &'lab Lab, nics: usize, disk: Disk) -> Result<Server<'lab>> {
        Server::start_with(lab, nics, None, Some(disk))
    }

    fn start_with(
        lab: &'lab Lab,
        nics: usize,
        more: Option<Nic>,
        disk: Option<Disk>,
    ) -> Result<Server<'lab>> {
        let recipe = Recipe {
            name: "server",
            programs: PROGRAMS,
            tools: TOOLS,
            links: LINKS,
            modules: MODULES,
            init: INIT,
            files: &[("usr/bin/rogue", program("rogue")?)],
        };
        // On a busy host an emulated timer may miss its ticks for as long as the kernel waits for them.
        let append = "console=ttyS0 quiet panic=-1 net.ifnames=0 no_timer_check";
        let mut machine = Machine::new(recipe.make()?.boot(append)).memory(512).named("SERVER").disks(disk);
        let wires = tempfile::Builder::new().prefix("lifeboat-").tempdir().context("make a directory")?;
        for number in 0..nics {
            let end = |side: &str| wires.path().join(format!("{number}{side}"));
            machine = machine.nic(Nic::wire(&end("server"), &end("rescue")).of_machine(0x35));
        }
        let vm = machine.nics_of(more.map(|nic| nic.of_machine(0x35))).start(lab)?;
        vm.events.line.wait_for("server: ready", 0, BOOT)?;
        let server = Server { vm: Mutex::new(vm), count: Mutex::new(0), wires };
        let key = lab.key()?;
        let key = std::fs::read_to_string(&key).with_context(|| format!("read {}", key.display()))?;
        server.ok(&format!("(umask 077; cat > /run/ssh/key) <<'END'\n{key}END"))?;
        Ok(server)
    }

    /// The other end of the cable of its NIC with this number.
    pub fn wire(&self, number: usize) -> Nic {
        let end = |side: &str| self.wires.path().join(format!("{number}{side}"));
        Nic::wire(&end("rescue"), &end("server"))
    }

    /// The cable of its NIC with this number.
    pub fn link(&self, number: usize, up: bool) -> Result<()> {
        self.vm.lock().unwrap_or_else(PoisonError::into_inner).link(number, up)
    }

    /// Run a script, which has the functions of /etc/functions.
    pub fn run(&self, script: &str, patience: Duration) -> Result<Answer> {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        *count += 1;
        let number = *count;
        let mut vm = self.vm.lock().unwrap_or_else(PoisonError::into_inner);
        let mark = vm.events.line.mark();
        vm.tell(&format!("{number} {}\n", base64::engine::general_purpose::STANDARD.encode(script)))?;
        let (begin, end) = (format!("server: {number}\n"), format!("\nserver: {number} ended "));
        vm.events.line.wait(&format!("the end of {script:?}"), mark, patience, |text| {
            let from = text.find(&begin)? + begin.len();
            let to = from + text[from..].rfind(&end)?;
            let status = text[to + end.len()..].strip_suffix('\n')?.parse().ok()?;
            Some(Answer { status, stdout: text[from..to].into(), stderr: String::new() })
        })
    }

    /// Run a script that has to succeed within a minute.
    pub fn ok(&self, script: &str) -> Result<String> {
        self.ok_within(script, super::qemu::SOON)
    }

    pub fn ok_within(&self, script: &str, patience: Duration) -> Result<String> {
        let answer = self.run(&format!("set -e\n{script}"), patience)?;
        ensure!(
            answer.status == 0,
            "do {script:?} on the server: status {}: {}",
            answer.status,
            answer.stdout
        );
        Ok(answer.stdout)
    }
}

impl Drop for Server<'_> {
    /// What its servers said, for a failing test.
    fn drop(&mut self) {
        let lab = self.vm.lock().unwrap_or_else(PoisonError::into_inner).lab();
        let said = self.run("tail -n 15 /run/log/*; ip -br address", LAST_WORDS);
        lab.report(format!(
            "--- the servers' last lines\n{}",
            said.map_or_else(|error| format!("{error:#}"), |said| said.stdout)
        ));
    }
}

/// One of our own binaries, which is static like all that cargo builds here.
pub fn program(name: &str) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .current_dir(programs::source())
        .args(["build", "--locked", "--quiet", "-p", "image", "--bin", name])
        .status()
        .context("run cargo")?;
    ensure!(status.success(), "cargo built no {name}: {status}");
    let own = std::env::current_exe().context("find the tester")?;
    Ok(own.with_file_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::appliance;

    #[test]
    fn programs_and_modules_are_sorted_and_unique() {
        appliance::assert_sorted(PROGRAMS, TOOLS, MODULES);
    }
}
