//! Settings that nobody typed at boot: those of the system on the disks, as a last resort, and of volumes of cloud-init.

use super::{Guest, each, plugged_with, resolves};
use crate::bench::{Bench, holds};
use crate::disks::{Before, set};
use anyhow::{Result, ensure};
use contract::event::Event;
use image::vm::{Bus, Disk, Server, qemu};

/// Nobody there gives an address.
const MUTE: &str = "ip address add 192.0.2.1/24 dev eth0\n";

pub fn found(bench: &Bench) -> Result<()> {
    each(bench, 1, &[by_itself, by_command, by_volume])
}

fn noted(disks: &[Disk]) -> Result<Before> {
    let mut before = Before::default();
    for disk in disks {
        before.note(disk)?;
    }
    Ok(before)
}

impl Guest<'_, '_> {
    /// On the console, which has a shell by now: `line`, and what it says.
    fn typed(&mut self, line: &str) -> Result<String> {
        let mark = self.vm.console.mark();
        // The echo of the line has the sum unsolved.
        self.vm.type_line(&format!("{line}; echo typed-$((6 * 7))"))?;
        self.vm.console.wait(&format!("the end of {line}"), mark, qemu::SOON * 2, |text| {
            text[..text.rfind('\n')?].contains("typed-42").then(|| text.to_string())
        })
    }

    /// Off, and every byte of its disks is what it was.
    fn off(mut self, bench: &Bench, before: &Before) -> Result<()> {
        self.vm.type_line("")?;
        self.vm.type_line("poweroff")?;
        self.vm.wait_off()?;
        before.unchanged(bench);
        Ok(())
    }
}

/// One system, and a damaged file system beside it.
fn by_itself(bench: &Bench, server: &Server) -> Result<()> {
    let mut disks = set(bench, "networks", Bus::VirtioBlk)?;
    let disks: Vec<Disk> = [0, 5].map(|at| disks.remove(at)).into();
    let before = noted(&disks)?;
    server.ok(&format!("reset\n{MUTE}"))?;
    let mut guest = plugged_with(bench, server, 1, "rescue.net=borrow,20", disks)?;
    let own = "192.0.2.21";
    bench.check("SSH is there before anything is borrowed", || {
        guest.vm.events.ready("sshd", 0, qemu::BOOT)?;
        let events = guest.vm.events.all();
        ensure!(!events.iter().any(|event| matches!(event, Event::Address { .. })), "see no address yet");
        Ok(())
    });
    guest.vm.console.wait_for("Press Enter", 0, qemu::BOOT)?;
    guest.vm.type_line("")?;
    bench.check("netd is killed while the disks are looked through for it", || {
        let said = guest.typed(
            "for i in $(seq 500); do pgrep -f 'net --json borrow' > /dev/null && break; sleep 0.1; done; \
             kill -9 $(/lifeboat/bin/busybox pidof netd); echo killed-$i",
        )?;
        ensure!(said.contains("killed-") && !said.contains("killed-500"), "see a search:\n{said}");
        Ok(())
    });
    // The screen comes back.
    guest.vm.type_line("exit")?;
    bench.check("without an address the system's settings by netplan are used: a login works", || {
        guest.login(own)
    });
    bench.check("its name server counts", || resolves(&guest, own, &["nameserver 192.0.2.53"]));
    bench.check("where the settings are from stands on the console, and so does what was damaged", || {
        let console =
            guest.vm.console.wait_for("network by    A system by netplan on /dev/vda", 0, qemu::SOON)?;
        holds(&console, &["netplan: /etc/netplan/50-cloud-init.yaml"])?;
        guest.warned(&["rescue.net=borrow", "not readable: /dev/vdb (ext4)"])
    });
    bench.check("nothing is mounted or writable afterwards", || {
        let mounts = guest.ok(own, "cat /proc/*/mounts | grep -e ext4 -e /dev/vd || true")?;
        ensure!(mounts.is_empty(), "see no mount in any namespace:\n{mounts}");
        let flags = guest.ok(own, "cat /sys/block/vd?/ro")?;
        ensure!(flags.split_whitespace().all(|flag| flag == "1"), "see the guard: {flags}");
        Ok(())
    });
    bench.check("what a search of the disks started stays where a person works with it meanwhile", || {
        let claim = "/run/lifeboat/installed.claim";
        let said = guest.ok(
            own,
            &format!(
                "for before in '' 'flock /run/lifeboat/installed.lock'; do rm -f {claim}; \
                 $before rescue assemble > /dev/null 2>&1; [ -e {claim} ] && echo claimed || echo free; done"
            ),
        )?;
        ensure!(said == "free\nclaimed\n", "see a claim while somebody looks, and none else: {said:?}");
        Ok(())
    });
    bench.check("kill -9 of netd keeps what was borrowed and the session", || {
        guest.hold("session", own)?;
        let mark = guest.vm.events.mark();
        guest.kill_netd(own)?;
        guest.flows("session")?;
        guest.kept(own, mark)?;
        holds(&guest.ok(own, "rescue net || true")?, &["Settings by A system by netplan", own])
    });
    guest.off(bench, &before)
}

/// Five systems: none is taken, and a person takes one after the other.
fn by_command(bench: &Bench, server: &Server) -> Result<()> {
    let disks: Vec<Disk> = set(bench, "networks", Bus::VirtioBlk)?.drain(1..6).collect();
    let before = noted(&disks)?;
    server.ok(&format!("reset\n{MUTE}"))?;
    let mut guest = plugged_with(bench, server, 1, "rescue.net=borrow,1", disks)?;
    bench.check("of several systems none is taken, and all are named", || {
        guest.warned(&[
            "several systems are on the disks",
            "by networkd on /dev/vda",
            "by wicked on /dev/vde",
        ])
    });
    guest.vm.console.wait_for("Press Enter", 0, qemu::BOOT)?;
    guest.vm.type_line("")?;
    let kinds = ["systemd-networkd", "ifupdown", "NetworkManager", "ifcfg files", "wicked"];
    for (number, kind) in kinds.into_iter().enumerate() {
        let (disk, own) =
            (format!("/dev/vd{}", char::from(b'a' + number as u8)), format!("192.0.2.{}", 22 + number));
        let said = guest.typed(&format!(
            "rescue mount {disk} /mnt && rescue net borrow --for-good && umount /mnt && echo borrowed"
        ))?;
        bench.check(&format!("rescue net borrow shows what it takes, of {kind}"), || {
            holds(&said, &[&format!("by {kind}: /etc/"), &format!("{own}/24, gateway 192.0.2.1")])
        });
        bench.check(&format!("with what was borrowed of {kind} a login works"), || guest.login(&own));
    }
    guest.off(bench, &before)
}

/// What clouds and hypervisors hand in.
fn by_volume(bench: &Bench, server: &Server) -> Result<()> {
    let disks = set(bench, "seeds", Bus::VirtioBlk)?;
    let vlan = "ip link add link eth0 name eth0.7 type vlan id 7\nip link set eth0.7 up\nip address add 192.0.2.1/24 dev eth0.7\n";
    let scenes = [
        (MUTE, "192.0.2.31", "NoCloud volume /dev/vda: network-config", "nameserver 192.0.2.53"),
        (
            vlan,
            "192.0.2.32",
            "config drive /dev/vda: openstack/latest/network_data.json",
            "nameserver 192.0.2.54",
        ),
    ];
    for ((net, own, origin, resolver), disk) in scenes.into_iter().zip(disks) {
        let before = noted(std::slice::from_ref(&disk))?;
        server.ok(&format!("reset\n{net}"))?;
        let guest = plugged_with(bench, server, 1, "rescue.metadata=disk", vec![disk])?;
        bench.check(&format!("settings of a {origin}: a login works"), || guest.login(own));
        bench.check(&format!("their name server counts ({resolver})"), || resolves(&guest, own, &[resolver]));
        bench.check(&format!("the console says that they are of a {origin}"), || {
            guest.vm.console.wait_for(&format!("network by    {origin}"), 0, qemu::SOON).map(drop)
        });
        guest.off(bench, &before)?;
    }
    Ok(())
}
