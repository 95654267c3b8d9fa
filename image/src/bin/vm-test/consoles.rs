//! Consoles that nobody named.

use crate::bench::{Bench, holds};
use anyhow::{Context as _, Result, ensure};
use image::vm::machine::{Boot, Firmware, Machine, Nic};
use image::vm::{Vm, qemu};
use std::fs;
use std::time::{Duration, Instant};

/// A line is called again after so long.
const AGAIN: Duration = Duration::from_secs(5);

/// The firmware's table without its header (Microsoft's Serial Port Console Redirection Table, revision 2): a 16550 at
/// this I/O port, with interrupt 3, at 115200 bits per second.
fn table(port: u16) -> Vec<u8> {
    let mut table = vec![0; 44];
    table[..8].copy_from_slice(&[0, 0, 0, 0, 1, 8, 0, 1]); // 16550 compatible; I/O space, 8 bits wide, by bytes
    table[8..10].copy_from_slice(&port.to_le_bytes());
    table[16] = 1; // an 8259's interrupt
    table[17] = 3;
    table[22] = 7; // 115200
    table[24] = 1; // one stop bit
    table[28..32].copy_from_slice(&[0xff, 0xff, 0xff, 0xff]); // not a PCI device
    table
}

/// A machine whose command line names no console.
fn machine(bench: &Bench) -> Result<Machine> {
    let boot = Boot::Kernel {
        kernel: bench.image.join("vmlinuz"),
        initrd: bench.image.join("initramfs"),
        append: format!("panic=-1 ssh_key=\"{}\"", bench.public_key()?),
    };
    Ok(Machine::new(boot).nic(Nic::virtio("10.0.2")))
}

/// And whose second line is the one that the firmware speaks on.
fn by_table(bench: &Bench) -> Result<Machine> {
    let file = bench.path("spcr.bin");
    fs::write(&file, table(0x2f8)).context("write the table")?;
    let mut machine = machine(bench)?;
    machine.more = ["-acpitable".into(), format!("sig=SPCR,rev=2,data={}", file.display())].into();
    Ok(machine)
}

/// The second line's known_hosts line.
fn told(vm: &Vm<'_>) -> Result<String> {
    vm.events.line.wait("a known_hosts line on the second line", 0, qemu::BOOT, |text| {
        let whole = &text[..text.rfind('\n')?];
        let line = whole.lines().find(|line| line.contains("lifeboat-") && line.contains(" ssh-ed25519 "))?;
        Some(line[line.find("lifeboat-")?..].trim_end().to_string())
    })
}

pub fn found(bench: &Bench) -> Result<()> {
    found_by_table(bench)?;
    found_by_variable(bench)?;
    found_by_peer(bench)
}

fn found_by_table(bench: &Bench) -> Result<()> {
    // What is at the other end of the first line takes 4 KiB and then no more.
    let mut vm = by_table(bench)?.unread_serial().start(bench)?;
    let known = told(&vm)?;
    bench.check(
        "the line that the firmware's table names is the root of trust, though no word names a console",
        || vm.ssh(0, &known)?.ok("true").map(drop),
    );
    bench.check("a line that is connected to nobody who reads holds up nothing", || {
        let ssh = vm.ssh(0, &known)?;
        holds(
            &ssh.ok("cat /proc/tty/driver/serial; ls /run/lifeboat/log")?,
            &["console-ttyS0", "console-ttyS1"],
        )
    });
    bench.check("whoever presses Enter there is at a root shell, at the speed of the table", || {
        enters(&mut vm)
    });
    Ok(())
}

/// A root shell on the second line, without a password.
fn enters(vm: &mut Vm<'_>) -> Result<()> {
    vm.events.line.wait_for("Press Enter for a root shell", 0, qemu::SOON)?;
    let mark = vm.events.line.mark();
    vm.tell("\r")?;
    vm.tell("echo speed=$(stty speed)\r")?;
    vm.events.line.wait_for("speed=115200", mark, qemu::SOON).map(drop)
}

/// OVMF has its console on both lines, whose ports its ACPI tables call by other numbers than it does.
fn found_by_variable(bench: &Bench) -> Result<()> {
    let mut vm = machine(bench)?.firmware(Firmware::Uefi).memory(1024).start(bench)?;
    let known = told(&vm)?;
    bench.check(
        "the lines that UEFI's variable ConOut names are the root of trust without a word there",
        || {
            vm.known_hosts(0)?;
            let ssh = vm.ssh(0, &known)?;
            let said = "cat /run/lifeboat/state/lines; grep efivarfs /proc/mounts";
            holds(&ssh.ok(said)?, &["ttyS0 115200", "ttyS1 115200", "efivarfs ro,"])
        },
    );
    bench.check("whoever presses Enter there is at a root shell", || enters(&mut vm));
    Ok(())
}

fn found_by_peer(bench: &Bench) -> Result<()> {
    let mut vm = machine(bench)?.start(bench)?;
    bench.check(
        "a line that something is connected to, and that nobody named, is silent until it is called",
        || {
            // Nothing tells when it begins to listen: the call is heard by the first line, and the second has none.
            let deadline = Instant::now() + qemu::BOOT;
            while let Err(error) = vm.console.wait_for("known_hosts", 0, AGAIN) {
                ensure!(Instant::now() < deadline, "{error:#}");
                vm.type_line("lifeboat")?;
            }
            let known = vm.known_hosts(0)?;
            let ssh = vm.ssh(0, &known)?;
            holds(&ssh.ok("ls /run/lifeboat/log")?, &["console-ttyS1"])?;
            let second = vm.events.line.text();
            ensure!(!second.contains("known_hosts"), "say nothing: {second}");
            Ok(())
        },
    );
    Ok(())
}
