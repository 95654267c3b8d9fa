//! `make bench-tools`: how long our lsblk, blkid and fdisk take, and what they hold, beside util-linux's: on
//! loop devices of one booted image, and on the host over what `rescue capture` saved of that machine. Ours
//! and theirs run in turn, round after round, so that a busy host is unfair to none; SSH is not counted.

mod captured;
mod figures;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use figures::{Figures, Run};
use image::vm::ssh::Ssh;
use image::vm::{Lab, Vm};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The images of the loop devices are in it.
const MEMORY: u32 = 2048;
/// Of one step in the machine: making a thousand file systems, or measuring.
const PATIENCE: Duration = Duration::from_secs(1800);
/// Where devices.sh keeps the images, and the capture is made.
const IMAGES: &str = "/run/images";
const SCRIPT: &str = include_str!("devices.sh");

#[derive(Parser)]
#[command(name = "bench-tools", about = "Measure lsblk, blkid and fdisk beside util-linux's")]
struct Arguments {
    /// Runs of each tool; one more comes first and is not counted
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Block devices of the machine, from few to many
    #[arg(long, value_delimiter = ',', default_value = "4,100,1000")]
    devices: Vec<usize>,
    /// Directory with vmlinuz and initramfs
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../out"))]
    image: PathBuf,
    /// Our tools for the host, as optimised as the image's
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/x86_64-unknown-linux-gnu/image/rescue"))]
    rescue: PathBuf,
    /// Measure those in the machine, too, in the place of the image's own
    #[arg(long)]
    replace: bool,
    /// No machine: what was captured before, one directory for each number of devices
    #[arg(long)]
    captured: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-tools: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    ensure!(arguments.rounds > 0 && !arguments.devices.is_empty(), "measure nothing");
    ensure!(arguments.rescue.exists(), "find {}: `make bench-tools` builds it", arguments.rescue.display());
    if let Some(directory) = &arguments.captured {
        return replay(directory, arguments);
    }
    let lab = Lab::new("bench-tools", &arguments.image)?;
    let vm = lab.machine()?.memory(MEMORY).start(&lab)?;
    let measured = live(&vm, &lab, arguments);
    drop(vm);
    let (live, devd) = measured.with_context(|| lab.reports())?;
    print!("{}\n{devd}\n", live.table("loop devices of one machine, emulated")?);
    replay(&lab.dir, arguments)?;
    std::fs::remove_dir_all(&lab.dir).context("remove the machine's directory")
}

fn replay(directory: &Path, arguments: &Arguments) -> Result<()> {
    let mut figures = Figures::default();
    for devices in &arguments.devices {
        captured::measure(&directory.join(devices.to_string()), *devices, arguments, &mut figures)
            .with_context(|| format!("measure on the capture of {devices} devices"))?;
    }
    print!("{}", figures.table("the same machine, captured, on this host")?);
    Ok(())
}

/// The figures of the tools, and a table of what devd took.
fn live(vm: &Vm, lab: &Lab, arguments: &Arguments) -> Result<(Figures, String)> {
    let ssh = vm.login()?.patience(PATIENCE);
    vm.settled_after(0)?;
    let fed = ssh.feed("cat > /tmp/devices.sh", SCRIPT.as_bytes())?;
    ensure!(fed.status == 0, "copy the script: {fed:?}");
    if arguments.replace {
        ssh.ok("mkdir /tmp/ours && ln -s rescue /tmp/ours/lsblk && ln -s rescue /tmp/ours/blkid && ln -s rescue /tmp/ours/fdisk")?;
        ssh.scp(arguments.rescue.to_str().context("name our tools")?, ":/tmp/ours/rescue")?;
    }
    let script = |line: &str| ssh.ok(&format!("bash -c '. /tmp/devices.sh; {line}'"));
    let mut figures = Figures::default();
    let mut table = "| devices | attached in, s | devd quiet after, s | CPU seconds of devd | a login before, s | logins meanwhile, s |\n|---|---|---|---|---|---|\n".to_string();
    for devices in &arguments.devices {
        script(&format!("files {devices}"))?;
        let ticks = |text: String| text.trim().parse::<f64>().with_context(|| format!("read {text:?}"));
        let before = ticks(script("quiet 60")?)?;
        let alone = login(&ssh)?;
        let (attached, meanwhile) = attach(&ssh, *devices)?;
        let began = Instant::now();
        let after = ticks(script("quiet 300")?)?;
        let most = meanwhile.iter().copied().fold(0.0, f64::max);
        table += &format!(
            "| {devices} | {attached:.1} | {:.0} | {:.2} | {alone:.2} | {} up to {most:.2} |\n",
            began.elapsed().as_secs_f64(),
            (after - before) / 100.0,
            meanwhile.len(),
        );
        eprintln!("{devices} devices are there; measuring");
        let text = script(&format!("measure {}", arguments.rounds))?;
        for line in text.lines() {
            figures.add(*devices, Run::parse(line).with_context(|| format!("read {line:?}"))?);
        }
        ssh.ok(&format!(
            "cd {IMAGES} && mkdir capture && rescue capture {IMAGES}/capture > /dev/null; tar -C capture -cSzf {devices}.tar.gz . && rm -r capture"
        ))?;
        let archive = lab.path(&format!("{devices}.tar.gz"));
        ssh.scp(&format!(":{IMAGES}/{devices}.tar.gz"), archive.to_str().context("name the capture")?)?;
        ssh.ok(&format!("rm {IMAGES}/{devices}.tar.gz"))?;
        captured::unpack(&archive, &lab.path(&devices.to_string()))?;
    }
    Ok((figures, table))
}

/// Seconds of a whole login.
fn login(ssh: &Ssh) -> Result<f64> {
    let began = Instant::now();
    ssh.ok("true")?;
    Ok(began.elapsed().as_secs_f64())
}

/// Seconds until the loop devices were there, and those of each login meanwhile.
fn attach(ssh: &Ssh, devices: usize) -> Result<(f64, Vec<f64>)> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let logins = scope.spawn(|| {
            let mut seconds = Vec::new();
            while !done.load(Ordering::Relaxed) {
                seconds.push(login(ssh)?);
            }
            Ok(seconds)
        });
        let began = Instant::now();
        let attached = ssh.ok(&format!("bash -c '. /tmp/devices.sh; attach {devices}'"));
        let seconds = began.elapsed().as_secs_f64();
        done.store(true, Ordering::Relaxed);
        let logins: Result<Vec<f64>> = logins.join().unwrap_or_else(|_| anyhow::bail!("log in: a panic"));
        attached?;
        Ok((seconds, logins?))
    })
}
