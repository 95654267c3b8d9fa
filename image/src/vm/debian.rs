//! A running Debian that is none of Lifeboat: its kernel, systemd as PID 1, its SSH server, iproute2; with static
//! addresses, a bond, a VLAN and a file system in use. What takes over from a running Linux is tried on it. All of it is
//! unpacked from the locked packages; kexec-tools is not installed, as on most servers.

use super::appliance::{Appliance, Recipe};
use anyhow::Result;

/// The address that it has on its first NIC, which nobody gives by DHCP.
pub const ADDRESS: &str = "10.0.2.77";

/// What it says on the console once its SSH server answers.
pub const READY: &str = "debian: ready";

/// Of the image's tree, with what each is there for.
const PROGRAMS: &[(&str, &str)] = &[
    ("usr/bin/bash", "root's shell"),
    ("usr/bin/ip", "the network"),
    ("usr/bin/kmod", "modprobe"),
    ("usr/bin/mount", "a file system in use"),
    ("usr/bin/systemctl", "the way down"),
    ("usr/lib/openssh/sftp-server", "what scp speaks to"),
    ("usr/lib/systemd/system/basic.target", "a unit"),
    ("usr/lib/systemd/system/emergency.target", "a unit"),
    ("usr/lib/systemd/system/final.target", "a unit"),
    ("usr/lib/systemd/system/kexec.target", "a unit"),
    ("usr/lib/systemd/system/local-fs-pre.target", "a unit"),
    ("usr/lib/systemd/system/local-fs.target", "a unit"),
    ("usr/lib/systemd/system/multi-user.target", "a unit"),
    ("usr/lib/systemd/system/network.target", "a unit"),
    ("usr/lib/systemd/system/paths.target", "a unit"),
    ("usr/lib/systemd/system/reboot.target", "a unit"),
    ("usr/lib/systemd/system/shutdown.target", "a unit"),
    ("usr/lib/systemd/system/slices.target", "a unit"),
    ("usr/lib/systemd/system/sockets.target", "a unit"),
    ("usr/lib/systemd/system/swap.target", "a unit"),
    ("usr/lib/systemd/system/sysinit.target", "a unit"),
    ("usr/lib/systemd/system/systemd-kexec.service", "a unit"),
    ("usr/lib/systemd/system/systemd-reboot.service", "a unit"),
    ("usr/lib/systemd/system/timers.target", "a unit"),
    ("usr/lib/systemd/system/umount.target", "a unit"),
    ("usr/lib/systemd/systemd", "PID 1"),
    ("usr/lib/systemd/systemd-executor", "what starts its services"),
    ("usr/lib/systemd/systemd-shutdown", "its end"),
];

/// Of the build's own tools.
const TOOLS: &[(&str, &str)] = &[
    ("usr/bin/cat", "coreutils"),
    ("usr/bin/chmod", "coreutils"),
    ("usr/bin/cp", "coreutils"),
    ("usr/bin/dash", "sh"),
    ("usr/bin/dd", "coreutils"),
    ("usr/bin/grep", "what the bundle's script uses"),
    ("usr/bin/head", "coreutils"),
    ("usr/bin/ln", "coreutils"),
    ("usr/bin/ls", "coreutils"),
    ("usr/bin/mkdir", "coreutils"),
    ("usr/bin/mktemp", "coreutils"),
    ("usr/bin/mv", "coreutils"),
    ("usr/bin/rm", "coreutils"),
    ("usr/bin/sleep", "coreutils"),
    ("usr/bin/sync", "coreutils"),
    ("usr/bin/tail", "coreutils"),
    ("usr/bin/touch", "coreutils"),
    ("usr/bin/tr", "coreutils"),
    ("usr/bin/uname", "coreutils"),
    ("usr/bin/wc", "coreutils"),
    ("usr/lib/openssh/sshd-auth", "sshd"),
    ("usr/lib/openssh/sshd-session", "sshd"),
    ("usr/lib/systemd/system/ssh.service", "a unit"),
    ("usr/sbin/sshd", "the SSH server"),
];

const LINKS: &[(&str, &str)] = &[
    ("usr/bin/sh", "dash"),
    ("usr/sbin/modprobe", "../bin/kmod"),
    ("bin", "usr/bin"),
    ("sbin", "usr/sbin"),
    ("lib", "usr/lib"),
    ("lib64", "usr/lib64"),
];

const MODULES: &[&str] = &[
    "crypto",
    "drivers/block/virtio_blk.ko.xz",
    "drivers/net/bonding",
    "drivers/net/net_failover.ko.xz",
    "drivers/net/virtio_net.ko.xz",
    "fs/ext4",
    "fs/jbd2",
    "fs/mbcache.ko.xz",
    "lib",
    "net/802",
    "net/8021q",
    "net/core",
    "net/llc",
    "net/tls",
];

/// Debian's installer would have left this behind; then systemd.
const INIT: &str = r#"#!/usr/bin/dash
export PATH=/usr/sbin:/usr/bin
mkdir -p /proc /sys /dev /run /tmp /srv /var/log /etc/ssh /etc/systemd/system/multi-user.target.wants
cat > /etc/passwd <<'END'
root:x:0:0:root:/root:/bin/bash
sshd:x:100:65534::/run/sshd:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
END
echo 'root:*:20000:0:99999:7:::' > /etc/shadow
printf 'root:x:0:\nnogroup:x:65534:\n' > /etc/group
echo db1 > /etc/hostname
echo 'nameserver 10.0.2.3' > /etc/resolv.conf
printf 'PermitRootLogin prohibit-password\nUsePAM no\nSubsystem sftp /usr/lib/openssh/sftp-server\n' > /etc/ssh/sshd_config
mkdir -p /etc/default
echo SSHD_OPTS=-e > /etc/default/ssh
chmod 700 /root /root/.ssh
chmod 600 /etc/ssh/ssh_host_*_key /etc/shadow
cat > /usr/sbin/ifup-all <<'END'
#!/bin/sh
set -eu
modprobe -a virtio_net virtio_blk ext4 8021q
modprobe bonding max_bonds=0
ip link set lo up
ip link set eth0 up
ip address add 10.0.2.77/24 dev eth0
ip route add default via 10.0.2.2 dev eth0
ip route add 198.51.100.0/24 via 10.0.2.9 dev eth0
ip link add bond0 type bond mode active-backup miimon 100
for port in eth1 eth2; do
    ip link set $port down
    ip link set $port master bond0
done
ip link set bond0 up
ip link add link bond0 name storage type vlan id 20
ip link set storage up
ip address add 192.0.2.5/28 dev storage
mount /dev/vda /srv
END
chmod 755 /usr/sbin/ifup-all
cat > /etc/systemd/system/networking.service <<'END'
[Unit]
Description=Network and disks
Before=network.target
Wants=network.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/ifup-all
END
# What writes until it is told to stop, and says then that it was told.
cat > /etc/systemd/system/database.service <<'END'
[Unit]
Description=Something that has to be stopped
After=networking.service
[Service]
ExecStart=/bin/sh -c 'trap "echo stopped > /srv/state; exit 0" TERM; echo running > /srv/state; while :; do sleep 1 & wait; done'
END
cat > /etc/systemd/system/ready.service <<'END'
[Unit]
Requires=ssh.service networking.service database.service
After=ssh.service networking.service database.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'echo "debian: ready" > /dev/ttyS0'
END
for unit in networking database ssh ready; do
    [ -e /etc/systemd/system/$unit.service ] && from=/etc/systemd/system || from=/usr/lib/systemd/system
    ln -s $from/$unit.service /etc/systemd/system/multi-user.target.wants/$unit.service
done
ln -s /usr/lib/systemd/system/multi-user.target /etc/systemd/system/default.target
exec /usr/lib/systemd/systemd
"#;

/// Its boot goes with the files of an archive behind it: root's keys, the host's keys.
pub fn appliance() -> Result<Appliance> {
    Recipe {
        name: "debian",
        programs: PROGRAMS,
        tools: TOOLS,
        links: LINKS,
        modules: MODULES,
        init: INIT,
        files: &[],
    }
    .make()
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
