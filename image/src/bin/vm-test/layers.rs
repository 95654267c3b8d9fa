//! Layers that come after the boot, and how little memory that takes.

use crate::bench::{Bench, holds};
use crate::boot::no_step_failed;
use anyhow::{Context as _, Result, ensure};
use contract::event::Event;
use image::flavour::Flavour;
use image::packages;
use image::vm::machine::{Boot, Machine, Nic};
use image::vm::{Ssh, Vm, http, https, programs, qemu};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// MiB with which the nucleus alone boots and logs in, with which the programs are fetched after that (Debian's kernel is larger, and
/// so are its modules), and with which every layer is; and with which the whole image is unpacked.
const ALONE: u32 = 128;
const FETCHED: u32 = 160;
const FETCHED_WITH_DEBIANS: u32 = 176;
const EVERYTHING: u32 = 192;
const WHOLE: u32 = 240;

/// The nucleus as boot.ipxe starts it, with these words on its command line.
fn nucleus(bench: &Bench, words: &str) -> Result<Machine> {
    Ok(bench.machine()?.initrd(&bench.image.join("nucleus")).append("rootfstype=ramfs").append(words))
}

/// A squashfs with one program in it.
fn layer(bench: &Bench, name: &str, program: &str) -> Result<PathBuf> {
    layer_with(bench, name, "usr/bin", program)
}

fn layer_with(bench: &Bench, name: &str, place: &str, program: &str) -> Result<PathBuf> {
    let stage = bench.path(&format!("{name}.stage"));
    let bin = stage.join(place);
    fs::create_dir_all(&bin).context("make a stage")?;
    fs::write(bin.join(program), format!("#!/bin/sh\necho {program} works\n")).context("write a program")?;
    let status = Command::new("chmod").arg("0755").arg(bin.join(program)).status().context("run chmod")?;
    ensure!(status.success(), "chmod: {status}");
    let path = bench.path(&format!("{name}.squashfs"));
    let mksquashfs = programs::cache()?.join("host/bin/mksquashfs");
    let output = Command::new(mksquashfs)
        .arg(&stage)
        .arg(&path)
        .args(["-noappend", "-quiet", "-no-progress", "-all-root", "-comp", "xz"])
        .output()
        .context("run mksquashfs")?;
    ensure!(output.status.success(), "mksquashfs: {}", String::from_utf8_lossy(&output.stderr));
    Ok(path)
}

/// A directory with the image's layers and these files.
fn served(bench: &Bench, more: &[&Path]) -> Result<PathBuf> {
    let directory = bench.path("served");
    fs::create_dir_all(&directory).context("make a directory to serve")?;
    for entry in fs::read_dir(bench.image.join("layers")).context("find out/layers")? {
        let entry = entry?;
        fs::copy(entry.path(), directory.join(entry.file_name())).context("copy a layer")?;
    }
    for path in more {
        fs::copy(path, directory.join(path.file_name().unwrap_or_default())).context("copy a layer")?;
    }
    Ok(directory)
}

/// MiB: MemTotal, and of them what is not available.
fn memory(ssh: &Ssh) -> Result<(u64, u64)> {
    let text = ssh.ok("cat /proc/meminfo")?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).context("read meminfo")?;
        line.trim().trim_end_matches(" kB").parse::<u64>().context("read a number of meminfo")
    };
    let (total, available) = (field("MemTotal:")?, field("MemAvailable:")?);
    Ok((total >> 10, (total - available) >> 10))
}

/// What a run shows beside its promises, and of what the memory is.
fn told(ssh: &Ssh, what: &str) -> Result<()> {
    let (total, used) = memory(ssh)?;
    println!("      {what}: {used} of {total} MiB of memory in use");
    let text = ssh.ok("cat /proc/meminfo")?;
    let fields =
        ["AnonPages:", "Shmem:", "Cached:", "SReclaimable:", "SUnreclaim:", "KernelStack:", "PageTables:"];
    let more = ["Percpu:", "Unevictable:", "MemFree:"];
    let lines = text.lines().filter(|line| fields.iter().chain(&more).any(|field| line.starts_with(field)));
    println!(
        "      {}",
        lines
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect::<Vec<_>>()
            .join(", ")
    );
    Ok(())
}

fn mounted(vm: &Vm<'_>, wanted: &str) -> Result<()> {
    vm.events.wait(&format!("the event of layer {wanted}"), 0, qemu::BOOT, |event| match event {
        Event::Layer { name, error: None } if name == wanted => Some(()),
        _ => None,
    })
}

pub fn alone(bench: &Bench) -> Result<()> {
    let vm = nucleus(bench, "")?.memory(ALONE).start(bench)?;
    let ssh = vm.login()?;
    bench.check("the nucleus alone brings a machine of 128 MiB to its login", || {
        holds(&ssh.ok("ip addr; lsblk --version; cat /proc/version")?, &["10.0.2.15"])
    });
    bench.check("what is not there is named, with what to type", || {
        vm.warning(&["layer 10-userland", "rescue.layers=URL or rescue add"])?;
        holds(&ssh.ok("rescue add")?, &["10-userland", "20-modules", "not loaded"])
    });
    bench.check("without a place to fetch from rescue add says what it needs", || {
        let answer = ssh.run("rescue add 10-userland")?;
        ensure!(answer.status == 2, "be refused: {}", answer.status);
        holds(&answer.stderr, &["rescue.layers="])
    });
    told(&ssh, "nucleus alone")?;
    no_step_failed(bench, &vm);
    Ok(())
}

fn fetching(bench: &Bench, memory: u32) -> Result<(Vm<'_>, http::Server)> {
    let server = http::Server::start(&served(bench, &[])?)?;
    let words = format!("rescue.layers=http://10.0.2.2:{}", server.port);
    Ok((nucleus(bench, &words)?.memory(memory).start(bench)?, server))
}

/// What `rescue add --json` says of each layer: its state, and what is wrong with it.
fn states(ssh: &Ssh) -> Result<Vec<(String, String)>> {
    let list: serde_json::Value = serde_json::from_str(&ssh.ok("rescue add --json")?)?;
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_string();
    let rows = list["layers"].as_array().context("read the list")?;
    Ok(rows.iter().map(|row| (text(&row["state"]), text(&row["error"]))).collect())
}

pub fn fetched(bench: &Bench) -> Result<()> {
    let memory = match Flavour::of(&fs::read(bench.image.join("vmlinuz")).context("read the kernel")?) {
        Flavour::Custom => FETCHED,
        Flavour::Debian => FETCHED_WITH_DEBIANS,
    };
    let (vm, _server) = fetching(bench, memory)?;
    let ssh = vm.login()?;
    bench.check(
        &format!("with {memory} MiB programs and drivers are fetched after the boot, and work"),
        || {
            vm.settled_after(0)?;
            let said = ssh.ok("lvm version && bash -c 'echo $BASH_VERSION' && modprobe raid456")?;
            holds(&said, &["LVM version"])?;
            let states = states(&ssh)?;
            ensure!(
                states.iter().take(2).all(|(state, _)| state == "mounted"),
                "see both mounted: {states:?}"
            );
            Ok(())
        },
    );
    told(&ssh, "nucleus and fetched layers")?;
    no_step_failed(bench, &vm);
    Ok(())
}

pub fn everything(bench: &Bench) -> Result<()> {
    let (vm, server) = fetching(bench, EVERYTHING)?;
    let ssh = vm.login()?;
    bench.check("with 192 MiB every layer is fetched after the boot, and what is in them works", || {
        vm.settled_after(0)?;
        holds(&ssh.ok("lvm version && bash -c 'echo $BASH_VERSION' && modprobe raid456")?, &["LVM version"])?;
        holds(&server.asked().join(" "), &["/10-userland.squashfs", "/20-modules.squashfs"])?;
        let states = states(&ssh)?;
        ensure!(states.iter().take(2).all(|(state, _)| state == "mounted"), "see both mounted: {states:?}");
        Ok(())
    });
    bench.check("what nobody uses is swapped to packed memory", || {
        holds(&ssh.ok("cat /proc/swaps; cat /sys/block/zram0/comp_algorithm")?, &["/dev/zram0", "[zstd]"])
    });
    told(&ssh, "nucleus and every layer")?;
    Ok(())
}

pub fn added(bench: &Bench) -> Result<()> {
    let extra = layer(bench, "50-extra", "promised")?;
    let sha256 = packages::digest(&extra)?;
    let server = http::Server::start(&served(bench, &[&extra])?)?;
    let url = format!("http://10.0.2.2:{}", server.port);
    let vm = nucleus(bench, &format!("rescue.layers={url}"))?.start(bench)?;
    let ssh = vm.login()?;
    vm.settled_after(0)?;
    bench.check("what is in no list is added by its hash alone, and open sessions go on", || {
        ssh.ok("echo mine > /usr/share/mine && rm $(command -v lvm) && cd /usr/bin && { sleep 600 > /dev/null 2>&1 & echo $! > /run/sleeper; }")?;
        let refused = ssh.run(&format!("rescue add {url}/50-extra.squashfs"))?;
        holds(&refused.stderr, &["50-extra is not in this image's list"])?;
        let zeros = "0".repeat(64);
        let wrong = ssh.run(&format!("rescue add --sha256 {zeros} {url}/50-extra.squashfs"))?;
        ensure!(wrong.status != 0, "refuse another hash");
        holds(&wrong.stderr, &["refused: its SHA-256 is", &sha256])?;
        let plan = ssh.ok(&format!("rescue add --dry-run --sha256 {sha256} {url}/50-extra.squashfs"))?;
        holds(&plan, &["layers add 50-extra", &sha256])?;
        ensure!(ssh.run("promised")?.status != 0, "have done nothing by now");
        ssh.ok(&format!("rescue add --sha256 {sha256} {url}/50-extra.squashfs"))?;
        holds(&ssh.ok("promised; cat /usr/share/mine; kill -0 $(cat /run/sleeper) && echo goes on")?, &["promised works", "mine", "goes on"])?;
        ensure!(ssh.run("lvm version")?.status != 0, "keep removed what was removed");
        ssh.ok("test $(stat -c %h /usr/share/mine) -gt 1").context("have what was written in memory once")?;
        holds(&ssh.ok("rescue add")?, &["50-extra", "unlisted"])
    });
    bench.check("a file is added too, and not twice", || {
        let other = layer(bench, "60-file", "second")?;
        let sha256 = packages::digest(&other)?;
        let copied = ssh.feed("cat > /tmp/60-file.squashfs", &fs::read(&other)?)?;
        ensure!(copied.status == 0, "copy a file: {}", copied.stderr);
        let refused = ssh.run("rescue add /tmp/60-file.squashfs")?;
        holds(&refused.stderr, &[&format!("add --sha256 {sha256}")])?;
        ssh.ok(&format!("rescue add --sha256 {sha256} /tmp/60-file.squashfs && rm /tmp/60-file.squashfs && second && promised"))?;
        holds(&ssh.run(&format!("rescue add --sha256 {sha256} {url}/60-file.squashfs"))?.stderr, &["there already"])
    });
    bench.check("one that has nothing to show is named, and takes no other with it", || {
        let flat = layer_with(bench, "70-flat", "bin", "third")?;
        let sha256 = packages::digest(&flat)?;
        ensure!(ssh.feed("cat > /tmp/70-flat.squashfs", &fs::read(&flat)?)?.status == 0, "copy a file");
        let refused = ssh.run(&format!("rescue add --sha256 {sha256} /tmp/70-flat.squashfs"))?;
        ensure!(refused.status != 0, "refuse it");
        holds(&refused.stderr, &["no directory `usr` at its top"])?;
        holds(
            &ssh.ok("second && promised && mdadm --version 2>&1")?,
            &["second works", "promised works", "mdadm"],
        )
    });
    no_step_failed(bench, &vm);
    Ok(())
}

pub fn refused(bench: &Bench) -> Result<()> {
    let directory = served(bench, &[])?;
    let damaged = directory.join("20-modules.squashfs");
    let mut bytes = fs::read(&damaged).context("read a layer")?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&damaged, bytes).context("damage a layer")?;
    // In the middle of both.
    let server = http::Server::breaking(&directory, 5 << 20)?;
    let vm = nucleus(bench, &format!("rescue.layers=http://10.0.2.2:{}/", server.port))?.start(bench)?;
    let ssh = vm.login()?;
    bench.check("where the line breaks the fetch goes on, and the layer is whole", || {
        mounted(&vm, "10-userland")?;
        ensure!(
            server.asked().iter().any(|line| line.starts_with("/10-userland.squashfs from ")),
            "see a part asked for: {:?}",
            server.asked()
        );
        holds(&ssh.ok("lvm version")?, &["LVM version"])
    });
    bench.check("a layer with a wrong hash is refused and named, and the others are there", || {
        vm.events.ready("layers", 0, qemu::BOOT)?;
        vm.warning(&["layer 20-modules", "refused: its SHA-256 is"])?;
        ensure!(ssh.run("test -e /run/lifeboat/layers/20-modules/usr")?.status != 0, "not be mounted");
        holds(&ssh.run("rescue status")?.stdout, &["layer 20-modules", "refused"])
    });
    bench.check("nothing of what was refused stays in memory", || {
        ensure!(!ssh.ok("ls /layers/fetched")?.contains("20-modules"), "see it gone");
        Ok(())
    });
    Ok(())
}

pub fn encrypted(bench: &Bench) -> Result<()> {
    let server = https::Server::start(&served(bench, &[])?)?;
    let ca = bench.archive_with(&[("etc/lifeboat/ca.crt", https::AUTHORITY)])?;
    let initrd = bench.path("nucleus");
    let mut bytes = fs::read(bench.image.join("nucleus")).context("read the nucleus")?;
    bytes.extend(fs::read(ca).context("read an archive")?);
    fs::write(&initrd, bytes).context("write a nucleus")?;
    let url = format!("https://10.0.2.2:{}", server.port);
    let words = format!("rescue.layers={url} rescue.ca=/etc/lifeboat/ca.crt");
    let mut machine =
        bench.machine()?.initrd(&initrd).append("rootfstype=ramfs").append(&words).memory(EVERYTHING);
    machine.clock = "1970-01-02T00:00:00".into();
    let vm = machine.start(bench)?;
    let ssh = vm.login()?;
    bench.check("layers come over TLS by a CA of one's own, though the clock stood at 1970", || {
        vm.settled_after(0)?;
        holds(&ssh.ok("lvm version")?, &["LVM version"])
    });
    bench.check("so does a big tool that is added by its name, or by a URL", || {
        ssh.ok("rescue add --dry-run 50-debug")?;
        ssh.ok(&format!("rescue add {url}/50-debug.squashfs"))?;
        holds(&ssh.ok("strace --version")?, &["strace -- version"])
    });
    drop(vm);
    let vm = nucleus(bench, &format!("rescue.layers={url}"))?.start(bench)?;
    bench.check("the platform's roots, which the nucleus has, do not believe that CA", || {
        vm.login()?;
        vm.events.ready("layers", 0, qemu::BOOT)?;
        // Whatever a server says in the first minute is asked for again, and then four times more.
        vm.events.wait("the layer to be given up", 0, qemu::BOOT, |event| match event {
            Event::Layer { name, error: Some(_) } if name == "10-userland" => Some(()),
            _ => None,
        })?;
        vm.warning(&["layer 10-userland", "its certificate is not trusted"])
    });
    Ok(())
}

pub fn lean(bench: &Bench) -> Result<()> {
    let server = http::Server::start(&bench.image)?;
    let tftp = bench.path("tftp");
    fs::create_dir(&tftp).context("make the TFTP directory")?;
    let key = bench.public_key()?.replace(' ', ",");
    let script = format!(
        "#!ipxe\nset lean 1\nset params console=ttyS0 panic=-1 rescue.events=ttyS1 ssh_key={key}\n\
         chain http://10.0.2.2:{}/boot.ipxe\n",
        server.port
    );
    fs::write(tftp.join("start.ipxe"), script).context("write the iPXE script")?;
    let boot = Boot::Pxe { directory: tftp, bootfile: "start.ipxe".into() };
    let vm = Machine::new(boot).memory(EVERYTHING).nic(Nic::virtio("10.0.2")).start(bench)?;
    let ssh = vm.login()?;
    bench.check("a lean boot by iPXE loads the nucleus, and the layers from beside the script", || {
        vm.settled_after(0)?;
        holds(&ssh.ok("lvm version")?, &["LVM version"])?;
        let asked = server.asked().join(" ");
        ensure!(!asked.contains("/initramfs"), "leave the whole image there: {asked}");
        holds(&asked, &["/nucleus", "/layers/10-userland.squashfs", "/layers/20-modules.squashfs"])
    });
    bench.check("a big tool is added by its name, from there, by the hash in the image's own list", || {
        ensure!(ssh.run("strace --version")?.status != 0, "have none before");
        ssh.ok("rescue add 50-debug")?;
        holds(&ssh.ok("strace --version")?, &["strace -- version"])?;
        holds(&server.asked().join(" "), &["/layers/50-debug.squashfs"])
    });
    bench.check("the image says what it was built from", || {
        let said = ssh.ok("cat /lifeboat/provenance /lifeboat/image")?;
        holds(&said, &["version ", "packages.lock ", "Cargo.lock ", "rustc ", "libc ", "linux "])
    });
    Ok(())
}

pub fn whole(bench: &Bench) -> Result<()> {
    // Of a tmpfs the kernel unpacks half of what memory the archive leaves.
    let vm = bench.machine()?.append("rootfstype=ramfs").memory(WHOLE).start(bench)?;
    let ssh = vm.login()?;
    bench.check("the whole image boots in 240 MiB, with every layer", || {
        vm.settled_after(0)?;
        holds(&ssh.ok("lvm version")?, &["LVM version"])
    });
    told(&ssh, "whole image")?;
    Ok(())
}
