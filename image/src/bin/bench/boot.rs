//! One boot, timed from outside: by the serial console, by the SSH port, by the stock client. Nothing in the
//! guest has to help. Beside the wall clock QEMU's CPU time is taken, which a busy host disturbs less.

use super::peers::{Image, Login};
use super::wire;
use anyhow::{Context as _, Result, bail, ensure};
use image::vm::machine::{Boot, Machine, Nic};
use image::vm::{Lab, Vm, http, qemu};
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How all are booted.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    /// MiB. Unpacking ends at half of it: a Debian in memory needs more than one GiB.
    pub memory: u32,
    /// By the NIC's iPXE and TFTP ([`wire`]), where the download counts; else QEMU lays both files into memory.
    pub pxe: bool,
    /// Then of ours the nucleus alone by TFTP, and its layers by HTTP after it started: `set lean 1` of boot.ipxe.
    pub lean: bool,
}

/// Every emulated boot ends in a login, or at its questions, by then, or never.
const PATIENCE: Duration = Duration::from_secs(300);
/// A fresh connection to the port this often, until one is answered ...
const PROBE: Duration = Duration::from_millis(250);
/// ... each given up after this: those that reached a machine without an address come to nothing.
const PROBE_LIFE: Duration = Duration::from_secs(2);
/// How often one login looks, each half a second, whether a machine has all that it brings.
const LOOKS: u32 = 40;
/// What is started after a login has settled by then, and memory is read.
const SETTLE: Duration = Duration::from_secs(15);

/// Seconds since QEMU was started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moment {
    pub wall: f64,
    pub cpu: f64,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    pub kernel: Moment,
    pub init: Moment,
    /// None where questions on the console come first: the machine is stopped at its PID 1.
    pub inside: Option<Inside>,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Inside {
    pub banner: Moment,
    pub login: Moment,
    /// When what a machine brings is in place.
    pub whole: Moment,
    /// MemTotal less MemAvailable, MiB.
    pub used: f64,
}

pub fn measure(image: &Image, way: Way) -> Result<Figures> {
    let lab = Lab::new(&format!("bench-{}", image.name.replace(' ', "-")), Path::new(""))?;
    let mut append = format!("console=ttyS0 earlyprintk=ttyS0 {}", image.append);
    let mut server = None;
    let (boot, nic) = if way.pxe {
        if let (true, Some(layers)) = (way.lean, &image.layers) {
            let port = http::Server::at(wire::GATEWAY, layers)?.port;
            append += &format!(" rootfstype=ramfs rescue.layers=http://{}:{port}", wire::GATEWAY);
        }
        let script = format!("#!ipxe\nkernel vmlinuz initrd=initramfs {append}\ninitrd initramfs\nboot\n");
        std::fs::write(lab.path(wire::SCRIPT), script).context("write a script")?;
        for (name, file) in [("vmlinuz", &image.kernel), ("initramfs", &image.initramfs)] {
            std::os::unix::fs::symlink(file, lab.path(name)).context("link a file")?;
        }
        server = Some(wire::serve(&lab.dir)?);
        (Boot::Wire, wire::nic())
    } else {
        let boot = Boot::Kernel { kernel: image.kernel.clone(), initrd: image.initramfs.clone(), append };
        (boot, Nic::virtio("10.0.2"))
    };
    let began = Instant::now();
    let vm = Machine::new(boot).memory(way.memory).nic(nic).start(&lab)?;
    let door = match vm.ports.first() {
        Some(port) => SocketAddrV4::new(Ipv4Addr::LOCALHOST, *port),
        None => SocketAddrV4::new(wire::MACHINE, 22),
    };
    let figures = watch(&vm, door, began, image);
    drop(vm);
    drop(server);
    let figures = figures.with_context(|| lab.reports())?;
    std::fs::remove_dir_all(&lab.dir).context("remove the machine's directory")?;
    Ok(figures)
}

fn watch(vm: &Vm, door: SocketAddrV4, began: Instant, image: &Image) -> Result<Figures> {
    let moment = || -> Result<Moment> {
        Ok(Moment { wall: began.elapsed().as_secs_f64(), cpu: vm.cpu()?.as_secs_f64() })
    };
    let way_in = image.login.as_ref().map(|login| (login, probe(door, began + PATIENCE)));
    vm.console.wait_for("Linux version", 0, PATIENCE)?;
    let kernel = moment()?;
    vm.console.wait_for("as init process", 0, PATIENCE)?;
    let init = moment()?;
    let Some((login, banner)) = way_in else { return Ok(Figures { kernel, init, inside: None }) };
    while banner.recv_timeout(Duration::from_millis(50)).is_err() {
        ensure!(!vm.console.ended(), "see an SSH banner: the machine ended");
        ensure!(began.elapsed() < PATIENCE, "see an SSH banner within {} s", PATIENCE.as_secs());
    }
    let banner = moment()?;
    while !ssh(door, login, "true")?.1 {
        ensure!(!vm.console.ended(), "log in: the machine ended");
        ensure!(began.elapsed() < PATIENCE, "log in within {} s", PATIENCE.as_secs());
    }
    let first = moment()?;
    // The machine looks by itself: one login after the other would take the processor from what is waited for.
    let look =
        format!("n=0; until {}; do n=$((n + 1)); [ $n -lt {LOOKS} ] || exit 1; sleep 0.5; done", login.whole);
    while !ssh(door, login, &look)?.1 {
        ensure!(began.elapsed() < PATIENCE, "be whole within {} s", PATIENCE.as_secs());
    }
    let whole = moment()?;
    // Time itself is the matter: what a machine does after the login is part of what it holds at the prompt.
    std::thread::sleep(SETTLE);
    let (memory, _) = ssh(door, login, "cat /proc/meminfo")?;
    let used = used(&memory).with_context(|| format!("read {memory:?}"))?;
    Ok(Figures { kernel, init, inside: Some(Inside { banner, login: first, whole, used }) })
}

/// Tells when a connection was greeted. Connections are opened before the machine has an address, so many
/// come to nothing.
fn probe(door: SocketAddrV4, until: Instant) -> mpsc::Receiver<()> {
    let (answer, answered) = mpsc::channel();
    std::thread::spawn(move || {
        let (greeted, greeting) = mpsc::channel::<()>();
        while Instant::now() < until {
            let greeted = greeted.clone();
            std::thread::spawn(move || {
                if greets(door).is_ok() {
                    // Nobody listens any more where another was quicker.
                    greeted.send(()).ok();
                }
            });
            if greeting.recv_timeout(PROBE).is_ok() {
                answer.send(()).ok();
                return;
            }
        }
    });
    answered
}

fn greets(door: SocketAddrV4) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&door.into(), PROBE_LIFE)?;
    stream.set_read_timeout(Some(PROBE_LIFE))?;
    let mut begin = [0; 4];
    stream.read_exact(&mut begin)?;
    if begin != *b"SSH-" {
        bail!("greeted by {begin:?}");
    }
    Ok(())
}

/// The stock client, once; whether it was let in.
fn ssh(door: SocketAddrV4, login: &Login, line: &str) -> Result<(String, bool)> {
    let mut command = Command::new("ssh");
    for option in [
        "BatchMode=yes",
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "LogLevel=ERROR",
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
        "ConnectTimeout=20",
    ] {
        command.args(["-o", option]);
    }
    let output = command
        .args(["-F", "none", "-p", &door.port().to_string(), "-i"])
        .arg(&login.key)
        .args([&format!("root@{}", door.ip()), line])
        .stdin(Stdio::null())
        .output()
        .context("run ssh of openssh-client")?;
    Ok((String::from_utf8_lossy(&output.stdout).into_owned(), output.status.success()))
}

fn used(meminfo: &str) -> Option<f64> {
    let field = |name: &str| -> Option<f64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    Some((field("MemTotal:")? - field("MemAvailable:")?) / 1024.0)
}

/// Longer than what the harness gives a machine that is tested.
const _: () = assert!(PATIENCE.as_secs() > qemu::BOOT.as_secs());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_what_is_not_available() {
        let text = "MemTotal:        1048576 kB\nMemFree:          800000 kB\nMemAvailable:     943718 kB\n";
        assert_eq!(used(text).map(f64::round), Some(102.0));
        assert_eq!(used("MemTotal: 5 kB\n"), None);
    }
}
