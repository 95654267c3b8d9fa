//! Ways to boot, and what a boot survives.

use crate::bench::{Bench, holds};
use anyhow::{Context as _, Result, ensure};
use contract::event::Event;
use image::vm::machine::{Boot, Machine, Nic};
use image::vm::{Vm, http, https, qemu};
use std::fs;

/// QEMU hands over this much of a command line, and the kernel takes it (COMMAND_LINE_SIZE less
/// the terminating NUL).
const FULL_LENGTH: usize = 2047;

pub fn pxe(bench: &Bench) -> Result<()> {
    let server = http::Server::start(&bench.image)?;
    let tftp = bench.path("tftp");
    fs::create_dir(&tftp).context("make the TFTP directory")?;
    let key = bench.public_key()?.replace(' ', ",");
    let script = format!(
        "#!ipxe\nset params console=ttyS0 panic=-1 rescue.events=ttyS1 ssh_key={key}\nset microcode 1\n\
         chain http://10.0.2.2:{}/boot.ipxe\n",
        server.port
    );
    fs::write(tftp.join("start.ipxe"), script).context("write the iPXE script")?;
    let boot = Boot::Pxe { directory: tftp, bootfile: "start.ipxe".into() };
    let vm = Machine::new(boot).memory(1024).nic(Nic::virtio("10.0.2")).start(bench)?;
    let ssh = vm.login()?;
    bench.check("the stock iPXE ROM brings a machine to its login", || {
        let asked = server.asked().join(" ");
        holds(&asked, &["/boot.ipxe", "/vmlinuz", "/initramfs"])?;
        ssh.ok("true").map(drop)
    });
    bench.check("the layer of rare firmware comes along, behind the CPU's microcode", || {
        let asked = server.asked();
        let place = |name: &str| asked.iter().position(|path| path.contains(name));
        ensure!(place("/microcode.cpio") < place("/initramfs"), "see it asked for first: {asked:?}");
        ensure!(place("/microcode.cpio").is_some(), "see it asked for: {asked:?}");
        vm.settled_after(0)?;
        let answer = ssh.run("ls -l /usr/lib/firmware/ql2500_fw.bin /layers")?;
        ensure!(answer.status == 0, "see the layer's files: {answer:?}");
        // The kernel has read it by then.
        ensure!(ssh.run("test ! -e /kernel")?.status == 0, "see the microcode's memory given back");
        Ok(())
    });
    bench.check("the NIC that was booted from is known", || {
        holds(&ssh.ok("cat /proc/cmdline")?, &["BOOTIF=01-52-54-00-12-34-56"])
    });
    Ok(())
}

pub fn command_line(bench: &Bench) -> Result<()> {
    let machine = bench.machine()?.append("rescue.writeable sshkey=x ipv6.disable=1 netconsole.x=1 pad=");
    let Boot::Kernel { append, .. } = &machine.boot else { unreachable!("the lab boots by -kernel") };
    let padding = "x".repeat(FULL_LENGTH - append.len() - 1);
    let vm = machine.append(&padding).start(bench)?;
    let ssh = vm.login()?;
    bench.check("a command line of full length reaches the login", || {
        let length = ssh.ok("cat /proc/cmdline")?.trim_end().len();
        ensure!(length >= FULL_LENGTH - 1, "see all of it: {length} bytes");
        Ok(())
    });
    bench.check("a line that may have been cut is named", || vm.warning(&["command line", "probably cut"]));
    bench.check("an unknown parameter is named with the nearest known", || {
        vm.warning(&["rescue.writeable", "did you mean rescue.writable?"])?;
        vm.warning(&["sshkey", "did you mean ssh_key?"])
    });
    bench.check("without IPv6 the login is reached over IPv4", || {
        ensure!(ssh.run("test -e /proc/net/if_inet6")?.status != 0, "have no IPv6");
        Ok(())
    });
    no_step_failed(bench, &vm);
    Ok(())
}

/// A promise of every machine that is up.
pub fn no_step_failed(bench: &Bench, vm: &Vm<'_>) {
    bench.check("no step of the boot failed", || {
        let failed: Vec<Event> =
            vm.events.all().into_iter().filter(|event| matches!(event, Event::StepFailed { .. })).collect();
        ensure!(failed.is_empty(), "see no failed step: {failed:?}");
        Ok(())
    });
}

pub fn truncated(bench: &Bench) -> Result<()> {
    let whole = bench.image.join("initramfs");
    let cut = bench.path("initramfs");
    fs::copy(&whole, &cut).with_context(|| format!("copy {}", whole.display()))?;
    let file = fs::OpenOptions::new().write(true).open(&cut).context("open the copy")?;
    let length = file.metadata().context("measure the copy")?.len();
    // The last layer is several times as long.
    file.set_len(length - (4 << 20)).context("cut the copy")?;
    let vm = bench.machine()?.initrd(&cut).start(bench)?;
    let ssh = vm.login()?;
    bench.check("a truncated layer is named, and the login works", || {
        let error = vm.events.wait("the event of a damaged layer", 0, qemu::BOOT, |event| match event {
            Event::Layer { name, error: Some(error) } => Some(format!("{name}: {error}")),
            _ => None,
        })?;
        let name = error.split(':').next().unwrap_or_default();
        vm.warning(&["layer", name, "did not come either"])?;
        holds(&ssh.run("rescue status")?.stdout, &["did not come either"])?;
        ssh.ok("ls /lifeboat/bin").map(drop)
    });
    Ok(())
}

/// MiB of which half holds the nucleus, and not the layers.
const SHORT: u32 = 192;

pub fn short(bench: &Bench) -> Result<()> {
    let key = format!("{}\n", bench.public_key()?);
    let initramfs = bench.initramfs_with(&[
        ("root/.ssh/authorized_keys", &key),
        ("etc/lifeboat/params", "rescue.hostname=handed\n"),
    ])?;
    let vm = bench.machine_without_key()?.initrd(&initramfs).memory(SHORT).start(bench)?;
    let ssh = vm.login()?;
    bench.check("where the layers do not fit, a key that lies before them logs in", || {
        ensure!(ssh.ok("hostname")?.trim() == "handed", "have the host name that came with it");
        Ok(())
    });
    bench.check("what did not fit is named, and that nothing behind it came", || {
        vm.warning(&["layer", "MiB of memory", "did not come either"])
    });
    Ok(())
}

pub fn appended(bench: &Bench) -> Result<()> {
    let key = format!("{}\n", bench.public_key()?);
    let initramfs = bench.initramfs_with(&[
        ("root/.ssh/authorized_keys", &key),
        ("etc/lifeboat/params", "# ours\nrescue.hostname=appended\nrescue.console=login\n"),
    ])?;
    let mut vm = bench.machine_without_key()?.initrd(&initramfs).start(bench)?;
    let ssh = vm.login()?;
    bench.check("a key of an appended cpio logs in", || ssh.ok("true").map(drop));
    bench.check("parameters of an appended cpio are read", || {
        ensure!(ssh.ok("hostname")?.trim() == "appended", "have the host name");
        Ok(())
    });
    bench.check("rescue.console=login gives no shell to whoever presses Enter", || {
        vm.console.wait_for("Press Enter to log in", 0, qemu::SOON)?;
        let mark = vm.console.mark();
        vm.type_line("")?;
        // A key was given, so there is no password to ask for.
        vm.console.wait_for("use ssh", mark, qemu::SOON).map(drop)
    });
    Ok(())
}

/// A clock of 1970, at which no certificate is valid.
pub fn https(bench: &Bench) -> Result<()> {
    let served = bench.path("served");
    fs::create_dir(&served).context("make a directory to serve")?;
    fs::write(served.join("me.keys"), bench.public_key()? + "\n").context("write a file to serve")?;
    let server = https::Server::start(&served)?;
    let initramfs = bench.initramfs_with(&[("etc/lifeboat/ca.crt", https::AUTHORITY)])?;
    let words = format!(
        "rescue.ca=/etc/lifeboat/ca.crt ssh_key=https://10.0.2.2:{}/me.keys ssh_key=https://10.0.2.2:1/x",
        server.port
    );
    let mut machine = bench.machine_without_key()?.initrd(&initramfs).append(&words);
    machine.clock = "1970-01-02T00:00:00".into();
    let vm = machine.start(bench)?;
    bench.check("keys come over TLS by a CA of one's own, though the clock stood at 1970", || {
        vm.console.wait_for(&format!("from https://10.0.2.2:{}/me.keys", server.port), 0, qemu::BOOT)?;
        vm.ssh(0, &vm.known_hosts(0)?)?.ok("true").map(drop)
    });
    bench.check("the clock is that of the image, and that is told", || {
        vm.warning(&["clock", "before this image was made"])?;
        let net = vm.ssh(0, &vm.known_hosts(0)?)?.ok("rescue net || :")?;
        ensure!(
            net.contains("Clock by the day of this image") && net.contains("no time server is known"),
            "see what the clock is by:\n{net}"
        );
        Ok(())
    });
    bench.check("an address where nobody answers is named", || {
        vm.warning(&["ssh_key", "https://10.0.2.2:1/x", "could not be fetched"])
    });
    drop(vm);

    // Without the file the platform's roots count, which know nothing of that CA.
    let words = format!("ssh_key=https://10.0.2.2:{}/me.keys", server.port);
    let vm = bench.machine_without_key()?.append(&words).start(bench)?;
    bench.check("the platform's roots do not believe a CA that nobody handed in", || {
        vm.warning(&["/me.keys", "its certificate is not trusted"])
    });
    Ok(())
}
