//! `make serve` on a wire: the very program, on a machine with Debian's kernel, with nothing but its parts; a broken machine
//! on the same wire boots from it, beside another DHCP server and where there is none.

use crate::bench::{Bench, holds};
use crate::forms;
use anyhow::{Context as _, Result, bail, ensure};
use contract::event::Event;
use image::forms::{Form, Parts};
use image::packages;
use image::serve::LOADERS;
use image::vm::machine::{Boot, Firmware, Machine};
use image::vm::server::program;
use image::vm::{Bus, Disk, Server, disks, programs, qemu};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

/// What the appliance is given, and room for the copy that is served.
const ROOM: u64 = 1 << 30;
const LEASES: &str = "192.0.2.50,192.0.2.59";
/// Of the other server.
const OTHERS: &str = "192.0.2.70,192.0.2.79";

/// Of the archive that `make netboot` is given.
const EXTRA: &str = "etc/of-extra";
/// What fibre channel's cards start with.
const RARE: &str = "/usr/lib/firmware/ql2500_fw.bin";

/// A disk with the program and its parts.
fn parts(bench: &Bench) -> Result<Disk> {
    let stage = bench.path("parts");
    for directory in ["out/layers", "tools", "ipxe", "tmp", "machines"] {
        fs::create_dir_all(stage.join(directory)).context("make a directory")?;
    }
    let copy = |from: &Path, name: &str| {
        fs::copy(from, stage.join(name)).map(drop).with_context(|| format!("copy {}", from.display()))
    };
    copy(&program("image")?, "image")?;
    let image = forms::signed(bench)?;
    for name in ["vmlinuz", "initramfs", "nucleus", "boot.ipxe", "layers/30-firmware.squashfs"] {
        copy(&image.join(name), &format!("out/{name}"))?;
    }
    let extra = bench.archive_with(&[(EXTRA, "yes\n")])?;
    Form::Netboot.make(&Parts::of(&programs::source(), &image, Some(extra))?, &stage.join("out"))?;
    for name in LOADERS {
        copy(&programs::tools_root()?.join("usr/lib/ipxe").join(name), &format!("ipxe/{name}"))?;
    }
    for program in ["bin/busybox", "sbin/dnsmasq"] {
        let name = program.rsplit('/').next().unwrap_or_default();
        symlink(format!("/usr/{program}"), stage.join("tools").join(name)).context("make a link")?;
    }
    fs::write(
        stage.join("machines/52-54-00-12-34-56.ipxe"),
        "#!ipxe\nset params ${params} rescue.hostname=of-the-mac\n",
    )
    .context("write a machine's script")?;
    packed(bench, &stage)
}

/// A directory as an ext4 of [`ROOM`] bytes on a disk; the directory is gone then.
pub fn packed(bench: &Bench, stage: &Path) -> Result<Disk> {
    let disk = bench.path("parts.img");
    disks::create(&disk, ROOM)?;
    let mut format = Command::new(programs::cache()?.join("host/bin/mkfs.ext4"));
    format.args(["-q", "-F", "-O", "^has_journal", "-d"]).arg(stage).arg(&disk);
    packages::run(&mut format)?;
    fs::remove_dir_all(stage).context("remove the parts")?;
    Ok(Disk::raw(disk, Bus::VirtioBlk, "PARTS"))
}

/// Of the server: that disk at /srv.
pub const MOUNT: &str =
    "modprobe -a virtio_blk crc32c_generic ext4\nmkdir /srv\nmount -t ext4 /dev/vda /srv\n";

/// The wire, a person's laptop on it, and, if so, another DHCP server.
fn wire(is_alone: bool) -> String {
    let mut script = "reset\nip link add br0 type bridge forward_delay 0 stp_state 0\nip link set eth0 master br0\n\
         ip link set br0 up\nip address add 192.0.2.1/24 dev br0\n\
         ip netns add beside\nip link add beside type veth peer name port netns beside\nip link set beside master br0 up\n\
         ip -n beside link set port up\n"
        .to_string();
    if !is_alone {
        script += &format!(
            "ip -n beside address add 192.0.2.2/24 dev port\n\
             serve other ip netns exec beside dnsmasq --keep-in-foreground --conf-file=/dev/null --user=root --port=0 \
             --log-facility=- --log-dhcp --no-ping --interface=port --bind-interfaces --leasefile-ro --dhcp-authoritative \
             --dhcp-range={OTHERS},1h --dhcp-option=3,192.0.2.2\n"
        );
    }
    script
}

/// `make serve` with these arguments, until it serves.
fn serve(server: &Server, words: &str) -> Result<()> {
    server.ok_within(
        &format!(
            "export TMPDIR=/srv/tmp\n\
             serve served /srv/image serve --parts /srv --interface br0 --key /run/ssh/key.pub \
             --append 'console=ttyS0 panic=-1 rescue.events=ttyS1' {words}\n\
             logged served 1 'Ctrl-C ends this'"
        ),
        qemu::BOOT,
    )?;
    Ok(())
}

/// Ctrl-C.
fn end(server: &Server) -> Result<()> {
    let left = server.ok(
        "pid=$(cat /run/pid/served)\nkill -INT $pid\nfor i in $(seq 100); do [ -e /proc/$pid ] || break; sleep 0.1; done\n\
         ps | grep -E '[l]ifeboat-serve|[/]srv/' || true\nls /srv/tmp",
    )?;
    ensure!(left.trim().is_empty(), "see nothing left: {left}");
    Ok(())
}

/// One boot of a machine of this firmware, to a login by the served key from the laptop at an address that begins so: what
/// the rescue says of itself.
pub fn boots(bench: &Bench, server: &Server, firmware: Firmware, by: &str) -> Result<String> {
    let machine = Machine::new(Boot::Wire).firmware(firmware).memory(1024).nic(server.wire(0));
    let vm = machine.start(bench)?;
    let address = vm.events.wait("the event of an address", 0, qemu::BOOT * 2, |event| match event {
        Event::Address { address, .. } if address.contains('.') => Some(address.clone()),
        _ => None,
    })?;
    let address = address.split('/').next().unwrap_or_default();
    ensure!(address.starts_with(by), "have an address of {by}0: {address}");
    vm.events.ready("sshd", 0, qemu::BOOT)?;
    vm.settled_after(0)?;
    let known = vm.known_hosts_event()?;
    let alias = known.split(' ').next().context("read an empty known_hosts line")?;
    let said = server.ok_within(
        &format!(
            "echo '{known}' > /run/ssh/known\n\
             ssh -F /dev/null -i /run/ssh/key -o BatchMode=yes -o StrictHostKeyChecking=yes \
             -o UserKnownHostsFile=/run/ssh/known -o HostKeyAlias={alias} -o ConnectTimeout=30 root@{address} \
             'echo uefi $(ls /sys/firmware/efi | grep -c vars); hostname; cat /proc/cmdline; ! test -s {RARE} || echo has firmware; \
             ! test -s /{EXTRA} || echo has extra; dmesg | grep -i secureboot || true'"
        ),
        qemu::BOOT,
    )?;
    let wanted: &[&str] = match firmware {
        Firmware::Bios => &["uefi 0", "BOOTIF=01-52-54-00-12-34-56", LAYERS],
        Firmware::Uefi => &["uefi 1", "BOOTIF=01-52-54-00-12-34-56", LAYERS],
        Firmware::SecureBoot | Firmware::OwnKey => {
            &["uefi 1", "Secure boot enabled", "BOOTIF=01-52:54:00:12:34:56", LAYERS]
        }
    };
    holds(&said, wanted)?;
    Ok(said)
}

/// From where more of them can be added.
const LAYERS: &str = "rescue.layers=http://";

const ALONE: &str = "192.0.2.5";
const BESIDE: &str = "192.0.2.7";

/// What a BIOS that is no iPXE is told, and gets.
fn plain(server: &Server) -> Result<()> {
    let said = server.ok(
        "printf '#!/usr/bin/bash\\n[ $1 != bound ] || echo \"$siaddr $boot_file\"\\n' > /run/told; chmod 755 /run/told\n\
         ip netns exec beside busybox udhcpc -i port -n -q -f -s /run/told -V PXEClient:Arch:00000:UNDI:002001 -x 0x5d:0000\n\
         ip -n beside address add 192.0.2.3/24 dev port\n\
         cd /run; ip netns exec beside busybox tftp -g -r undionly.kpxe 192.0.2.1\n\
         cmp undionly.kpxe /srv/ipxe/undionly.kpxe && echo the same",
    )?;
    holds(&said, &["192.0.2.1 undionly.kpxe", "the same"])
}

pub fn served(bench: &Bench) -> Result<()> {
    let server = Server::start_on(bench, 1, parts(bench)?)?;
    server.ok(&format!("{MOUNT}echo '{}' > /run/ssh/key.pub", bench.public_key()?))?;
    for (is_alone, is_secure) in [(true, false), (true, true), (false, false), (false, true)] {
        server.ok(&wire(is_alone))?;
        let mut words =
            if is_alone { format!("--range {LEASES} --machines /srv/machines") } else { String::new() };
        if is_secure {
            words += " --secure-boot";
        }
        serve(&server, &words)?;
        let (by, how) = if is_alone { (ALONE, "alone") } else { (BESIDE, "beside another DHCP server") };
        if is_alone && !is_secure {
            bench.check("a BIOS's own PXE is told of undionly.kpxe, and gets it", || plain(&server));
        }
        let all: &[Firmware] =
            if is_secure { &[Firmware::SecureBoot] } else { &[Firmware::Bios, Firmware::Uefi] };
        for firmware in all {
            bench.check(&format!("make serve {how} boots a machine by {firmware:?}, to a login"), || {
                let said = boots(bench, &server, *firmware, by)?;
                holds(&said, if is_secure { &["has firmware", "has extra"] } else { &["has firmware"] })?;
                let own = is_alone && !is_secure;
                ensure!(
                    said.contains("of-the-mac") == own,
                    "be told by the machine's own script: {own}: {said}"
                );
                Ok(())
            });
        }
        bench.check(&format!("make serve {how} ends with Ctrl-C and leaves nothing"), || end(&server));
    }
    bench.check("a second server on the wire's ports is said to be in the way", || {
        server.ok(&wire(true))?;
        serve(&server, &format!("--range {LEASES}"))?;
        let again = server.run(
            &format!("TMPDIR=/srv/tmp /srv/image serve --parts /srv --interface br0 --range {LEASES} 2>&1"),
            qemu::BOOT,
        )?;
        if again.status == 0 {
            bail!("see it refused: {}", again.stdout);
        }
        holds(&again.stdout, &["is its port taken?"])
    });
    Ok(())
}
