//! The same tools on the host, over a captured machine. util-linux's lsblk reads its sysfs; blkid and fdisk know no
//! other root, so they are given its devices as image files.

use super::Arguments;
use super::figures::{Figures, Run, of_time};
use anyhow::{Context as _, Result, ensure};
use image::vm::programs;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Runs of a command are repeated until they take so many seconds, since its clock counts hundredths.
const LEAST: f64 = 0.5;

/// Unpacks what `rescue capture` saved.
pub fn unpack(archive: &Path, into: &Path) -> Result<()> {
    fs::create_dir_all(into).with_context(|| format!("create {}", into.display()))?;
    let status =
        Command::new("tar").arg("-C").arg(into).arg("-xzf").arg(archive).status().context("run tar")?;
    ensure!(status.success(), "unpack {}", archive.display());
    // lsblk lists /sys/block and looks numbers up; what we looked at is /sys/class/block.
    let (class, block, numbers) =
        (into.join("sys/class/block"), into.join("sys/block"), into.join("sys/dev/block"));
    for directory in [&block, &numbers] {
        fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
    }
    for entry in fs::read_dir(&class).with_context(|| format!("list {}", class.display()))? {
        let path = entry.context("list the devices")?.path();
        let name = path.file_name().context("name a device")?;
        let target = fs::read_link(&path).context("read a link")?;
        let below = target.strip_prefix("../..").context("read a link of sysfs")?;
        if !path.join("partition").exists() {
            symlink(Path::new("..").join(below), block.join(name)).context("make a link")?;
        }
        let number = fs::read_to_string(path.join("dev")).context("read a device's number")?;
        symlink(Path::new("../..").join(below), numbers.join(number.trim())).context("make a link")?;
    }
    Ok(())
}

pub fn measure(root: &Path, devices: usize, arguments: &Arguments, figures: &mut Figures) -> Result<()> {
    let debian = programs::debian_root()?;
    let mut files: Vec<OsString> = fs::read_dir(root.join("dev"))
        .context("list the captured devices")?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_file())
        .map(PathBuf::into_os_string)
        .collect();
    files.sort();
    let sysroot = root.as_os_str().to_os_string();
    let words = |words: &str| words.split_whitespace().map(OsString::from).collect::<Vec<_>>();
    let of_root = |tool: &str| [words(tool), words("--sysroot"), vec![sysroot.clone()]].concat();
    let of_files = |tool: &str| [words(tool), files.clone()].concat();
    let pairs = [
        ("lsblk", of_root("lsblk"), Some(("usr/bin/lsblk", of_root("")))),
        ("blkid FILE...", of_files("blkid"), Some(("usr/sbin/blkid", of_files("-c /dev/null")))),
        ("fdisk -l FILE...", of_files("fdisk -l"), Some(("usr/sbin/fdisk", of_files("-l")))),
        // util-linux's `lsblk -f` reads a text file there instead of the device; the others know no captured machine.
        ("lsblk -f", of_root("lsblk -f"), None),
        ("blkid", of_root("blkid"), None),
        ("fdisk -l", of_root("fdisk -l"), None),
        ("rescue status", of_root("status"), None),
    ];
    for (tool, ours, theirs) in &pairs {
        let ours = [vec![arguments.rescue.clone().into_os_string()], ours.clone()].concat();
        let theirs = theirs.as_ref().map(|(program, words)| {
            let command = programs::debian(&debian, program, words);
            let mut line = vec![command.get_program().to_os_string()];
            line.extend(command.get_args().map(OsString::from));
            line
        });
        for round in 0..=arguments.rounds {
            for (is_ours, line) in [(true, Some(ours.clone())), (false, theirs.clone())] {
                let Some(line) = line else { continue };
                let run = run(&debian, tool, is_ours, &line)?;
                if round > 0 {
                    figures.add(devices, run);
                }
            }
        }
    }
    Ok(())
}

/// Repeats a command for [`LEAST`] seconds.
fn run(debian: &Path, tool: &str, ours: bool, line: &[OsString]) -> Result<Run> {
    let mut times = 1;
    loop {
        let began = Instant::now();
        let output = Command::new(debian.join("usr/bin/busybox"))
            .args(["time", "-f", "%U %S %M", "sh", "-c"])
            .arg("n=$1; shift; while [ $n -gt 0 ]; do \"$@\" > /dev/null 2>&1; n=$((n - 1)); done")
            .args(["sh", &times.to_string()])
            .args(line)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .output()
            .context("run busybox")?;
        let seconds = began.elapsed().as_secs_f64();
        if seconds >= LEAST {
            return of_time(tool, ours, &String::from_utf8_lossy(&output.stderr), seconds, times);
        }
        times = (times * 2).max((times as f64 * LEAST * 1.2 / seconds.max(0.001)) as usize);
    }
}
