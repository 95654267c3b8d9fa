//! The recipes of docs/serve.md, taken from there word by word: what is written for others to copy is what is booted.

use crate::bench::Bench;
use crate::serve::{MOUNT, boots, packed};
use anyhow::{Context as _, Result, ensure};
use image::forms::{self, Form, Parts};
use image::packages;
use image::serve::LOADERS;
use image::vm::machine::{Boot, Firmware, Machine, Nic};
use image::vm::{Bus, Disk, Server, Ssh, Vm, disks, http, programs, qemu};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// The first block of lines behind the name in bold, without what sets them in.
fn recipe(name: &str) -> Result<String> {
    const INSET: &str = "    ";
    let path = programs::source().join("docs/serve.md");
    let page = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let (_, rest) = page.split_once(&format!("\n**{name}**")).with_context(|| format!("find {name}"))?;
    let lines = rest.lines().skip_while(|line| !line.starts_with(INSET));
    let block: String =
        lines.map_while(|line| line.strip_prefix(INSET)).map(|line| format!("{line}\n")).collect();
    ensure!(!block.is_empty(), "find a block below {name}");
    Ok(block)
}

/// The wire of 192.0.2.0/24, and what is served over HTTP there; TFTP is the recipe's own matter, or dnsmasq's.
const HTTP: &str =
    "reset\nip address add 192.0.2.1/24 dev eth0\nserve http busybox httpd -f -p 192.0.2.1:80 -h /srv/out\n";
const SERVED: &str = "http://192.0.2.1";
/// For DHCP servers that have none.
const TFTP: &str = "serve tftp dnsmasq --keep-in-foreground --conf-file=/dev/null --port=0 --user=root --log-facility=- \
    --enable-tftp --tftp-root=/srv/tftp\n";

/// dhcpd.conf as MAAS lays it out (its `dhcpd.conf.template`): its own loaders for all machines, and a snippet of one
/// machine's in that machine's own part.
const MAAS: &str = r#"option arch code 93 = unsigned integer 16;
option path-prefix code 210 = text;
if option arch = 00:00 {
    filename "lpxelinux.0";
    option path-prefix "http://192.0.2.1:5248/";
} elsif option arch = 00:07 {
    filename "bootx64.efi";
    option path-prefix "http://192.0.2.1:5248/";
}
class "PXE" {
    match if substring (option vendor-class-identifier, 0, 3) = "PXE";
    default-lease-time 30;
    max-lease-time 30;
}
shared-network vlan-5001 {
    subnet 192.0.2.0 netmask 255.255.255.0 {
        ignore-client-uids true;
        next-server 192.0.2.1;
        option subnet-mask 255.255.255.0;
        option broadcast-address 192.0.2.255;
        option domain-name "maas";
        option routers 192.0.2.1;
        default-lease-time 600;
        max-lease-time 600;
        pool {
            range 192.0.2.50 192.0.2.60;
        }
    }
}
host 52-54-00-12-34-56 {
SNIPPET
    hardware ethernet 52:54:00:12:34:56;
    fixed-address 192.0.2.77;
}
"#;

/// `out/` with a key and the word that the tests listen by in the initramfs, and the loaders of TFTP.
fn files(bench: &Bench) -> Result<Disk> {
    let stage = bench.path("parts");
    for directory in ["out/layers", "tftp"] {
        fs::create_dir_all(stage.join(directory)).context("make a directory")?;
    }
    let key = format!("{}\n", bench.public_key()?);
    let initramfs = bench.initramfs_with(&[
        ("root/.ssh/authorized_keys", &key),
        ("etc/lifeboat/params", "rescue.events=ttyS1\n"),
    ])?;
    fs::rename(initramfs, stage.join("out/initramfs")).context("move the initramfs")?;
    let copy = |from: &Path, name: &str| {
        fs::copy(from, stage.join(name)).map(drop).with_context(|| format!("copy {}", from.display()))
    };
    for name in ["vmlinuz", "boot.ipxe", "layers/30-firmware.squashfs"] {
        copy(&bench.image.join(name), &format!("out/{name}"))?;
    }
    for name in LOADERS {
        copy(&programs::tools_root()?.join("usr/lib/ipxe").join(name), &format!("tftp/{name}"))?;
    }
    packed(bench, &stage)
}

pub fn dhcp(bench: &Bench) -> Result<()> {
    let server = Server::start_on(bench, 1, files(bench)?)?;
    server.ok(MOUNT)?;
    let (dnsmasq, kea, maas) = (recipe("dnsmasq")?, recipe("ISC Kea")?, recipe("MAAS")?);
    let scenes = [
        (
            "dnsmasq",
            format!(
                "cat > /run/dnsmasq.conf <<'END'\n{dnsmasq}END\n\
                 serve dnsmasq dnsmasq --keep-in-foreground --conf-file=/run/dnsmasq.conf --port=0 --user=root \
                 --log-facility=- --log-dhcp --dhcp-leasefile=/run/leases --interface=eth0 --bind-interfaces\n"
            ),
            "192.0.2.",
        ),
        (
            "Kea",
            format!(
                "cat > /run/kea4.json <<'END'\n{{ \"Dhcp4\": {{\n\
                 \"interfaces-config\": {{ \"interfaces\": [ \"eth0\" ] }},\n\
                 \"lease-database\": {{ \"type\": \"memfile\", \"persist\": false }},\n{kea}}} }}\nEND\n\
                 serve kea4 kea-dhcp4 -c /run/kea4.json\n\
                 {TFTP}"
            ),
            "192.0.2.",
        ),
        (
            "MAAS, in what runs there,",
            format!(
                "cat > /run/dhcpd.conf <<'END'\n{}END\n: > /run/dhcpd.leases\n\
                 serve dhcpd dhcpd -f -d -4 -cf /run/dhcpd.conf -lf /run/dhcpd.leases --no-pid eth0\n{TFTP}",
                MAAS.replace("SNIPPET", &maas)
            ),
            "192.0.2.77",
        ),
    ];
    for (name, script, address) in scenes {
        server.ok(&format!("{HTTP}{}", script.replace("BASE", SERVED)))?;
        for firmware in [Firmware::Bios, Firmware::Uefi] {
            bench
                .check(&format!("the recipe for {name} boots a machine by {firmware:?}, to a login"), || {
                    boots(bench, &server, firmware, address).map(drop)
                });
        }
    }
    Ok(())
}

/// Words that the tests listen by, behind the key, where a recipe has KEY.
fn filled(bench: &Bench, text: &str, base: &str) -> Result<String> {
    let key = bench.public_key()?.replace(' ', ",");
    Ok(text
        .replace("KEY", &format!("{key} console=ttyS0 panic=-1 rescue.events=ttyS1"))
        .replace("BASE", base))
}

/// A machine whose iPXE runs `start`, to its login by the key of the recipe.
fn chained(bench: &Bench, start: &str, nic: Nic) -> Result<(String, Vec<String>)> {
    let server = http::Server::start(&bench.path("web"))?;
    let tftp = bench.path("tftp");
    let base = format!("http://10.0.2.2:{}", server.port);
    fs::create_dir_all(&tftp).context("make the TFTP directory")?;
    for directory in ["web/custom", "tftp"] {
        for entry in fs::read_dir(bench.path(directory)).context("list scripts")? {
            let path = entry?.path();
            let text = fs::read_to_string(&path).context("read a script")?;
            fs::write(&path, filled(bench, &text, &base)?).context("fill a script in")?;
        }
    }
    fs::write(tftp.join("start.ipxe"), filled(bench, start, &base)?).context("write a script")?;
    let boot = Boot::Pxe { directory: tftp, bootfile: "start.ipxe".into() };
    let vm = Machine::new(boot).memory(1024).nic(nic).start(bench)?;
    let ssh = vm.login()?;
    Ok((ssh.ok("ip address; hostname; cat /proc/cmdline")?, server.asked()))
}

pub fn scripts(bench: &Bench) -> Result<()> {
    let web = bench.path("web");
    fs::create_dir_all(web.join("custom")).context("make a directory")?;
    fs::create_dir_all(web.join("layers")).context("make a directory")?;
    for name in ["vmlinuz", "initramfs", "boot.ipxe", "microcode.cpio", "layers/30-firmware.squashfs"] {
        let from = bench.image.join(name);
        fs::copy(&from, web.join(name)).with_context(|| format!("copy {}", from.display()))?;
    }
    let usual = || Nic::virtio("10.0.2");
    bench.check("the recipe for iPXE ends in a login", || {
        chained(bench, &format!("#!ipxe\n{}", recipe("iPXE")?), usual()).map(drop)
    });
    bench.check(
        "the recipe for netboot.xyz ends in a login, with scripts of a menu loaded before it",
        || {
            fs::write(web.join("custom/custom.ipxe"), recipe("netboot.xyz")?).context("write a menu")?;
            fs::write(web.join("custom/boot.cfg"), "#!ipxe\nset site_name stand-in\n")
                .context("write a script")?;
            // Theirs frees it; one that does not leaves it to be handed to the kernel.
            let menu = "#!ipxe\nchain BASE/custom/boot.cfg ||\nchain BASE/custom/custom.ipxe || shell\n";
            let (_, asked) = chained(bench, menu, usual())?;
            ensure!(asked.iter().any(|path| path == "/custom/custom.ipxe"), "see it asked for: {asked:?}");
            fs::remove_dir_all(web.join("custom")).context("remove the menu")?;
            fs::create_dir(web.join("custom")).context("make a directory")
        },
    );
    bench.check("the recipe for OVH ends in a login, with the CPU's microcode", || {
        let (_, asked) = chained(bench, &recipe("OVH")?, usual())?;
        ensure!(asked.iter().any(|path| path == "/microcode.cpio"), "see it asked for: {asked:?}");
        Ok(())
    });
    bench.check("the recipe for Tinkerbell ends in a login, at the address that ipam= says", || {
        // The wire of the test is another than the page's.
        let script = recipe("Tinkerbell")?.replace("192.0.2.", "10.0.2.");
        let (said, _) = chained(bench, &script, usual().at("10.0.2.77"))?;
        ensure!(said.contains("10.0.2.77/24") && said.contains("\nweb7\n"), "see what it says: {said}");
        ensure!(!said.contains("10.0.2.15"), "see no lease: {said}");
        Ok(())
    });
    Ok(())
}

/// A config drive as OpenStack makes one (nova's user/metadata page), with a key and nothing else that is of use here.
fn config_drive(bench: &Bench) -> Result<PathBuf> {
    let (stage, cd) = (bench.path("config"), bench.path("config.iso"));
    let latest = stage.join("openstack/latest");
    fs::create_dir_all(&latest).context("make a directory")?;
    let data = serde_json::json!({
        "uuid": "83679162-1378-4288-a2d4-70e13ec132aa", "hostname": "web7", "public_keys": { "mine": bench.public_key()? },
    });
    fs::write(latest.join("meta_data.json"), data.to_string()).context("write the data")?;
    fs::write(latest.join("network_data.json"), "{}").context("write the data")?;
    disks::cd("config-2", &stage, &cd)?;
    Ok(cd)
}

/// An instance's own disk, which a rescue leaves alone.
fn own_disk(bench: &Bench) -> Result<(Disk, String)> {
    let path = bench.path("own.img");
    disks::create(&path, 64 << 20)?;
    let mut format = Command::new(programs::cache()?.join("host/bin/mkfs.ext4"));
    packages::run(format.args(["-q", "-F", "-L", "cloudimg-rootfs"]).arg(&path))?;
    let digest = packages::digest(&path)?;
    Ok((Disk::raw(path, Bus::VirtioBlk, "OWN"), digest))
}

/// The way in is the key of the config drive, once it was read; the host is known from the events.
fn login(vm: &Vm<'_>) -> Result<Ssh> {
    vm.addresses(1)?;
    let ssh = vm.ssh(0, &vm.known_hosts_event()?)?;
    // The drive is looked for after sshd listens, and no event tells of its key: whoever is refused tries again, as a person does.
    let until = Instant::now() + qemu::BOOT;
    while ssh.run("true")?.status != 0 {
        ensure!(Instant::now() < until, "be let in by the drive's key");
    }
    Ok(ssh)
}

pub fn clouds(bench: &Bench) -> Result<()> {
    let place = bench.path("");
    let plain = Parts::of(&programs::source(), &bench.image, None)?;
    let words = bench.path("lifeboat.cfg");
    fs::write(&words, "set params=\"console=ttyS0 panic=-1 rescue.events=ttyS1\"\n")
        .context("write words")?;
    let (own, digest) = own_disk(bench)?;
    let config = config_drive(bench)?;
    let machine = |first: Disk| {
        Machine::new(Boot::Disk).memory(1024).nic(Nic::virtio("10.0.2")).disk(first).disk(own.clone())
    };
    let cd = |path: &Path, serial: &str| Disk::raw(path, Bus::Cd, serial).write_protected();

    let image = Form::Disk.make(&plain, &place)?;
    forms::put(&plain, &image, &[("lifeboat.cfg", &words)])?;
    for (promise, bus, firmware) in [
        (
            "a rescue by Nova starts the disk image on USB by BIOS, with the config drive's key",
            Bus::Usb,
            Firmware::Bios,
        ),
        (
            "a rescue by Nova starts the disk image on virtio-scsi by UEFI, with the config drive's key",
            Bus::VirtioScsi,
            Firmware::Uefi,
        ),
    ] {
        bench.check(promise, || {
            let rescue = Disk::raw(&image, bus, "RESCUE");
            let vm = machine(rescue).firmware(firmware).disk(cd(&config, "CONFIG")).start(bench)?;
            let ssh = login(&vm)?;
            vm.settled_after(0)?;
            let label = ssh.ok("blkid -o value -s LABEL /dev/vda")?;
            ensure!(label.trim() == "cloudimg-rootfs", "find the instance's disk by its own name: {label}");
            Ok(())
        });
    }
    fs::remove_file(&image).context("remove the disk image")?;

    let archive = bench.archive_with(&[(
        "etc/lifeboat/params",
        "console=ttyS0\nrescue.events=ttyS1\nrescue.metadata=disk\n",
    )])?;
    let iso = Form::Iso.make(&Parts::of(&programs::source(), &bench.image, Some(archive))?, &place)?;
    bench.check(
        "a rescue by Nova starts the ISO as a CD, with the key of the config drive beside it",
        || {
            let vm = machine(cd(&iso, "RESCUE")).disk(cd(&config, "CONFIG")).start(bench)?;
            login(&vm)?.ok("blkid -L cloudimg-rootfs").map(drop)
        },
    );
    bench.check("Ironic's virtual media start the ISO, with the key of a config drive on a stick", || {
        let stick = Disk::raw(&config, Bus::Usb, "STICK").write_protected();
        let vm = machine(cd(&iso, "RESCUE")).firmware(Firmware::Uefi).disk(stick).start(bench)?;
        login(&vm)?.ok("blkid -L cloudimg-rootfs").map(drop)
    });
    bench.check("no byte of the instance's own disk was written", || {
        let after = packages::digest(&bench.path("own.img"))?;
        ensure!(after == digest, "see it unchanged");
        Ok(())
    });
    Ok(())
}

/// libvirt hands the three lines of the domain to QEMU's -kernel, -initrd and -append; here the files are those of the image.
pub fn libvirt(bench: &Bench) -> Result<()> {
    let block = recipe("libvirt")?;
    let value = |name: &str| -> Result<String> {
        let (_, rest) = block.split_once(&format!("<{name}>")).with_context(|| format!("find <{name}>"))?;
        let (value, _) = rest.split_once(&format!("</{name}>")).with_context(|| format!("find </{name}>"))?;
        Ok(value.to_string())
    };
    let file = |name: &str| -> Result<PathBuf> {
        let path = PathBuf::from(value(name)?);
        Ok(bench.image.join(path.file_name().context("name a file")?))
    };
    let append = filled(bench, &value("cmdline")?, "")?;
    let boot = Boot::Kernel { kernel: file("kernel")?, initrd: file("initrd")?, append };
    bench.check("the recipe for libvirt ends in a login, by its own words", || {
        let vm = Machine::new(boot).nic(Nic::virtio("10.0.2")).start(bench)?;
        vm.login()?.ok("true").map(drop)
    });
    Ok(())
}
