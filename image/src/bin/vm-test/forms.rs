//! The forms of the image, started by the firmware of a machine, each with an operator's key and parameters by one of the
//! channels that docs/boot.md lists for it.

use crate::bench::{Bench, holds};
use crate::boot::no_step_failed;
use anyhow::{Context as _, Result, ensure};
use contract::event::Event;
use image::flavour::Flavour;
use image::forms::{self, Form, Parts};
use image::packages;
use image::vm::disks::{self, Bus, Disk};
use image::vm::machine::{Boot, Firmware, Machine, Nic};
use image::vm::{Server, Ssh, Vm, http, programs, qemu};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// An operator's archive: a key, and a host name that tells the channel.
fn archive(bench: &Bench, channel: &str) -> Result<PathBuf> {
    let key = format!("{}\n", bench.public_key()?);
    let params = format!("rescue.events=ttyS1\nrescue.hostname={channel}\n");
    bench.archive_with(&[("root/.ssh/authorized_keys", &key), ("etc/lifeboat/params", &params)])
}

/// What the forms are made of: the image of this run, with that archive.
fn parts(bench: &Bench) -> Result<Parts> {
    Parts::of(&programs::source(), &bench.image, Some(archive(bench, "extra")?))
}

/// The image that Secure Boot starts: that of this run, or the one with Debian's kernel beside it.
pub fn signed(bench: &Bench) -> Result<PathBuf> {
    let is_signed = |image: &Path| -> Result<bool> {
        let kernel = image.join("vmlinuz");
        let bytes =
            fs::read(&kernel).with_context(|| format!("read {} (make test makes it)", kernel.display()))?;
        Ok(Flavour::of(&bytes) == Flavour::Debian)
    };
    if is_signed(&bench.image)? {
        return Ok(bench.image.clone());
    }
    let beside = programs::source().join(Flavour::out(Some(Flavour::Debian)));
    ensure!(is_signed(&beside)?, "have Debian's kernel in {}", beside.display());
    Ok(beside)
}

fn disk(path: PathBuf, bus: Bus) -> Disk {
    let disk = Disk::raw(path, bus, "MEDIUM");
    if bus == Bus::Cd { disk.write_protected() } else { disk }
}

fn machine(boot: Boot, firmware: Firmware) -> Machine {
    Machine::new(boot).firmware(firmware).memory(1024).nic(Nic::virtio("10.0.2"))
}

/// The way in; the host key is known from the machine's events.
fn login(vm: &Vm<'_>) -> Result<Ssh> {
    vm.addresses(1)?;
    vm.ssh(0, &vm.known_hosts_event()?)
}

/// One promise: this medium brings a machine of this firmware to its login, with what came by this channel.
fn starts(bench: &Bench, promise: &str, channel: &str, machine: Machine, firmware: Firmware) {
    bench.check(promise, || {
        let vm = machine.start(bench)?;
        let ssh = login(&vm)?;
        let is_uefi = ssh.run("test -d /sys/firmware/efi")?.status == 0;
        ensure!(is_uefi == (firmware != Firmware::Bios), "be started by {firmware:?}");
        let name = ssh.ok("hostname")?;
        ensure!(name.trim() == channel, "be told by {channel}: {name}");
        // The words beside an archive, where there is one, which its own parameters overrule.
        let words = ssh.ok("cat /proc/cmdline")?;
        ensure!(words.contains("overruled") == (channel != "extra"), "be told what is beside: {words}");
        vm.settled_after(0)
    });
}

pub fn secure(bench: &Bench) -> Result<()> {
    if parts(bench)?.flavour()? == Flavour::Custom {
        bench.check("the form for Secure Boot is refused for a kernel that nobody signed", || {
            let made = Form::Netboot.make(&parts(bench)?, &bench.path(""));
            ensure!(made.is_err_and(|error| error.to_string() == forms::UNSIGNED), "be refused");
            Ok(())
        });
    }
    let parts = Parts::of(&programs::source(), &signed(bench)?, Some(archive(bench, "extra")?))?;
    let stick = Form::Iso.make(&parts, &bench.path(""))?;
    let vm = machine(Boot::Disk, Firmware::SecureBoot).disk(disk(stick, Bus::Usb)).start(bench)?;
    let ssh = login(&vm)?;
    vm.settled_after(0)?;
    bench.check("with Secure Boot and Microsoft's keys alone a stick brings a machine to its login", || {
        holds(&ssh.ok("dmesg")?, &["secureboot: Secure boot enabled", "locked down from EFI Secure Boot"])
    });
    bench.check("rescue status says what the locked kernel refuses", || {
        holds(
            &ssh.ok("rescue status")?,
            &["Locked down (integrity): the kernel refuses modules", "kexec", "/dev/mem", "hibernation"],
        )?;
        holds(&ssh.ok("rescue status --json")?, &["\"level\": \"integrity\""])?;
        let refused = ssh.run("head -c 1 /dev/mem")?;
        ensure!(refused.status != 0, "be true of /dev/mem: {}", refused.stdout);
        Ok(())
    });
    bench.check("modules are those that the kernel's lock lets in", || {
        holds(&ssh.ok("modprobe raid456 && lsmod")?, &["raid456", "virtio_net"])
    });
    bench.check("boot entries are read, and not written", || {
        let mounted = "until grep efivarfs /proc/mounts; do sleep 0.1; done; efibootmgr";
        holds(&ssh.ok(mounted)?, &["BootCurrent", "ro,"])
    });
    bench.check(
        "the medium that was booted from is named, is no copy of itself, and nobody is told to mount it",
        || {
            let status = ssh.ok("rescue status")?;
            holds(&status, &["Lifeboat's own medium"])?;
            ensure!(
                !status.contains("same UUID") && !status.contains("mount -o ro"),
                "not be misled: {status}"
            );
            Ok(())
        },
    );
    no_step_failed(bench, &vm);
    Ok(())
}

/// Every byte of a form: of a directory, every file's name and bytes.
fn digests(path: &Path) -> Result<Vec<(PathBuf, String)>> {
    if !path.is_dir() {
        return Ok(vec![(PathBuf::new(), packages::digest(path)?)]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(path).with_context(|| format!("list {}", path.display()))? {
        let entry = entry?;
        found.extend(
            digests(&entry.path())?
                .into_iter()
                .map(|(name, sum)| (Path::new(&entry.file_name()).join(name), sum)),
        );
    }
    found.sort();
    Ok(found)
}

/// No machine: what is made twice, in different places, is equal.
pub fn again(bench: &Bench) -> Result<()> {
    let parts = parts(bench)?;
    let custom = parts.flavour()? == Flavour::Custom;
    for form in forms::ALL.into_iter().filter(|form| !(custom && *form == Form::Netboot)) {
        bench.check(&format!("{} made twice is equal byte for byte", form.name()), || {
            let mut seen = Vec::new();
            for place in ["one", "another"] {
                let place = bench.path(place);
                fs::create_dir_all(&place).context("make a directory")?;
                seen.push(digests(&form.make(&parts, &place)?)?);
                fs::remove_dir_all(&place).context("remove a form")?;
            }
            ensure!(!seen[0].is_empty() && seen[0] == seen[1], "be equal: {seen:?}");
            Ok(())
        });
    }
    Ok(())
}

pub fn every(bench: &Bench) -> Result<()> {
    let extra = parts(bench)?;
    let place = bench.path("");
    let iso = Form::Iso.make(&extra, &place)?;
    for (promise, bus, firmware) in [
        ("the ISO starts from a CD by BIOS", Bus::Cd, Firmware::Bios),
        ("the ISO starts from a stick by BIOS", Bus::Usb, Firmware::Bios),
        ("the ISO starts from a CD by UEFI", Bus::Cd, Firmware::Uefi),
    ] {
        starts(bench, promise, "extra", machine(Boot::Disk, firmware).disk(disk(iso.clone(), bus)), firmware);
    }
    fs::remove_file(&iso).context("remove the ISO")?;
    // From here on with nothing of an operator's inside; a key and a name beside.
    let signed = Parts::of(&programs::source(), &signed(bench)?, None)?;
    let (archive, words) = (archive(bench, "cpio")?, bench.path("lifeboat.cfg"));
    fs::write(&words, "set params=\"rescue.hostname=overruled edd=off\"\n").context("write the words")?;
    let image = Form::Disk.make(&signed, &place)?;
    forms::put(&signed, &image, &[("lifeboat.cpio", &archive), ("lifeboat.cfg", &words)])?;
    for (promise, bus, firmware) in [
        ("the disk image starts by BIOS, with an archive on its FAT", Bus::VirtioBlk, Firmware::Bios),
        (
            "the disk image starts by UEFI with Secure Boot, with an archive on its FAT",
            Bus::Ahci,
            Firmware::SecureBoot,
        ),
    ] {
        starts(
            bench,
            promise,
            "cpio",
            machine(Boot::Disk, firmware).disk(disk(image.clone(), bus)),
            firmware,
        );
    }
    fs::remove_file(&image).context("remove the disk image")?;
    let directory = Form::Netboot.make(&signed, &place)?;
    fs::copy(&archive, directory.join("lifeboat.cpio")).context("put an archive beside")?;
    fs::copy(&words, directory.join("lifeboat.cfg")).context("put words beside")?;
    let firmware = Firmware::SecureBoot;
    let boot = Boot::Pxe { directory, bootfile: "bootx64.efi".into() };
    let promise = "UEFI's own PXE starts it with Secure Boot, with an archive beside it";
    starts(bench, promise, "cpio", machine(boot, firmware), firmware);
    Ok(())
}

/// What lies beside an ISO, which has nothing of an operator's inside: on another partition of its stick, on another CD. What a
/// disk of the broken machine has in the same places is not looked at.
pub fn beside(bench: &Bench) -> Result<()> {
    let plain = Parts::of(&programs::source(), &signed(bench)?, None)?;
    let iso = Form::Iso.make(&plain, &bench.path(""))?;
    let files = |channel: &str| -> Result<Vec<(&str, Vec<u8>)>> {
        let archive = fs::read(archive(bench, channel)?).context("read an archive")?;
        let words = b"set params=\"rescue.hostname=overruled rescue.console=login\"\n".to_vec();
        Ok(vec![("lifeboat.cpio", archive), ("lifeboat.cfg", words)])
    };
    let broken = bench.path("broken.img");
    forms::fat(&plain, &broken, &files("disk")?, 0)?;
    let broken = Disk::raw(broken, Bus::VirtioBlk, "BROKEN");

    let cd = bench.path("beside.iso");
    let stage = bench.path("beside");
    fs::create_dir(&stage).context("make a directory")?;
    for (name, bytes) in files("cd")? {
        fs::write(stage.join(name), bytes).context("write a file")?;
    }
    disks::cd("CIDATA", &stage, &cd)?;
    for firmware in [Firmware::Uefi, Firmware::SecureBoot] {
        starts(
            bench,
            &format!("the ISO takes an archive and words of another CD, by {firmware:?}"),
            "cd",
            machine(Boot::Disk, firmware)
                .disk(disk(iso.clone(), Bus::Cd))
                .disk(Disk::raw(&cd, Bus::Cd, "BESIDE").write_protected())
                .disk(broken.clone()),
            firmware,
        );
    }
    forms::add_partition(&plain, &iso, &files("stick")?)?;
    for firmware in [Firmware::Bios, Firmware::Uefi] {
        starts(
            bench,
            &format!("the ISO takes an archive and words of another partition of its stick, by {firmware:?}"),
            "stick",
            machine(Boot::Disk, firmware).disk(disk(iso.clone(), Bus::Usb)).disk(broken.clone()),
            firmware,
        );
    }
    Ok(())
}

/// Its firmware asks by DHCP as an HTTPClient (UEFI specification, 24.7), and gets the EFI program by HTTP from beyond a
/// router. The rescue is reached by another NIC.
pub fn http(bench: &Bench) -> Result<()> {
    let place = bench.path("served");
    fs::create_dir(&place).context("make a directory to serve")?;
    Form::Efi.make(&parts(bench)?, &place)?;
    let files = http::Server::start(&place)?;
    let router = Server::start_beside(bench, 1, Some(Nic::virtio("10.0.9")))?;
    let options = format!(
        "--dhcp-vendorclass=set:http,HTTPClient --dhcp-option-force=tag:http,60,HTTPClient \
         --dhcp-boot=tag:http,http://10.0.9.2:{}/lifeboat.efi",
        files.port
    );
    // What answers beyond the router knows this network alone, and finds the client behind the router's MAC.
    router.ok(&format!(
        "reset\nip address add 10.0.9.15/24 dev eth1\nip address add 192.0.2.1/24 dev eth0\n\
         echo 1 > /proc/sys/net/ipv4/conf/eth1/proxy_arp\n\
         serve dnsmasq dnsmasq --keep-in-foreground --port=0 --log-dhcp --log-facility=- --leasefile-ro --no-ping \
         --conf-file=/dev/null --interface=eth0 --bind-interfaces --user=root --dhcp-authoritative \
         --dhcp-range=192.0.2.50,192.0.2.60,1h --dhcp-option=3,192.0.2.1 {options}"
    ))?;
    let machine = Machine::new(Boot::Disk).firmware(Firmware::Uefi).memory(1536);
    let vm = machine.nic(router.wire(0)).nic(Nic::virtio("10.0.2")).start(bench)?;
    let known = vm.events.wait("the event of the host key", 0, qemu::BOOT * 2, |event| match event {
        Event::HostKey { line, alias, .. } => Some(format!("{alias} {line}")),
        _ => None,
    })?;
    bench.check("UEFI's own HTTP boot starts the EFI program", || {
        holds(&files.asked().join(" "), &["/lifeboat.efi"])?;
        vm.addresses(2)?;
        let ssh = vm.ssh(0, &known)?;
        ssh.ok("test -d /sys/firmware/efi").map(drop)
    });
    no_step_failed(bench, &vm);
    Ok(())
}

/// The EFI program alone on a FAT, with a key in the directory beside it, and without a parameter.
pub fn efi_program(bench: &Bench) -> Result<()> {
    let parts = &Parts::of(&programs::source(), &bench.image, None)?;
    let program = fs::read(Form::Efi.make(parts, &bench.path(""))?).context("read the EFI program")?;
    let medium = bench.path("efi.img");
    let key = format!("{}\n", bench.public_key()?).into_bytes();
    let credential = format!("{}.extra.d/ssh.authorized_keys.root.cred", forms::FIRST);
    forms::fat(parts, &medium, &[(forms::FIRST, program), (&credential, key)], 0)?;
    bench.check("the EFI program starts by UEFI, alone on a file system, with a key beside it", || {
        let vm = machine(Boot::Disk, Firmware::Uefi).disk(disk(medium, Bus::VirtioBlk)).start(bench)?;
        // No word names a console, but the firmware's own is on this line.
        let known = vm.known_hosts(0)?;
        let ssh = vm.ssh(0, &known)?;
        ssh.ok("test -d /sys/firmware/efi").map(drop)
    });
    Ok(())
}

/// A firmware that knows one certificate and no other: Debian's test key stands for an operator's.
pub fn own_key(bench: &Bench) -> Result<()> {
    let keys = programs::tools_root()?.join("usr/share/ovmf");
    let signer = forms::Signer { certificate: keys.join("PkKek-1-snakeoil.pem"), key: bench.path("db.key") };
    let mut openssl = Command::new(programs::cache()?.join("host/bin/openssl"));
    openssl.args(["pkey", "-passin", "pass:snakeoil", "-in"]).arg(keys.join("PkKek-1-snakeoil.key"));
    packages::run(openssl.arg("-out").arg(&signer.key))?;
    let medium = |parts: &Parts| -> Result<PathBuf> {
        let program = fs::read(Form::Efi.make(parts, &bench.path(""))?).context("read the EFI program")?;
        let medium = bench.path("efi.img");
        forms::fat(parts, &medium, &[(forms::FIRST, program)], 0)?;
        Ok(medium)
    };
    let (parts, firmware) = (parts(bench)?, Firmware::OwnKey);
    let boots = |medium| machine(Boot::Disk, firmware).disk(disk(medium, Bus::VirtioBlk));
    let signed = medium(&parts.clone().signed(signer))?;
    let promise = "with Secure Boot the EFI program starts where its signer's certificate is enrolled";
    starts(bench, promise, "extra", boots(signed), firmware);
    let plain = medium(&parts)?;
    bench.check("with Secure Boot the EFI program without that signature does not start", || {
        let vm = boots(plain).start(bench)?;
        vm.console.wait("the firmware's refusal", 0, qemu::BOOT, |text| {
            ["Access Denied", "Security Violation"].iter().any(|word| text.contains(word)).then_some(())
        })
    });
    Ok(())
}
