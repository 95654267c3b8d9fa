//! The programs of the build's package trees: QEMU, and what the builder machine is made of. They are
//! run by their own loader, so that the host's libraries do not matter.

use crate::build;
use crate::cpio::Archive;
use crate::lock::Set;
use crate::manifest;
use crate::packages::{self, Cache};
use anyhow::{Context as _, Result};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// What is kept between runs.
pub fn cache() -> Result<PathBuf> {
    Ok(Cache::open(&source())?.root)
}

/// The project's root.
pub fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// `QEMU`, else the one that the build put into the cache.
pub fn qemu() -> Result<PathBuf> {
    match std::env::var_os("QEMU").filter(|value| !value.is_empty()) {
        Some(program) => Ok(program.into()),
        None => Ok(cache()?.join("host/bin/qemu-system-x86_64")),
    }
}

/// Major version of [`qemu`].
pub fn qemu_major() -> Result<u32> {
    static MAJOR: OnceLock<u32> = OnceLock::new();
    if let Some(major) = MAJOR.get() {
        return Ok(*major);
    }
    let program = qemu()?;
    let output = Command::new(&program)
        .arg("--version")
        .output()
        .with_context(|| format!("run {}: `make image` puts it there", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let major = parse_major(&text).with_context(|| format!("find a version in {text:?}"))?;
    Ok(*MAJOR.get_or_init(|| major))
}

fn parse_major(text: &str) -> Option<u32> {
    text.split("version ").nth(1)?.split('.').next()?.trim().parse().ok()
}

/// The tree of the image's own packages, which holds the kernel and every mkfs.
pub fn debian_root() -> Result<PathBuf> {
    let cache = Cache::open(&source())?;
    let (locked, _) = packages::locked_or_current(&cache, &build::guest_packages(), manifest::HOST)?;
    Ok(packages::tree(&cache, &locked, Set::Guest)?.root)
}

/// The tree of the build's own tools, which is not in the image.
pub fn tools_root() -> Result<PathBuf> {
    let cache = Cache::open(&source())?;
    let (locked, _) = packages::locked_or_current(&cache, &build::guest_packages(), manifest::HOST)?;
    Ok(packages::tree(&cache, &locked, Set::Host)?.root)
}

/// A program of a tree, by its own loader: `NAME ARGS...` with `argv[0]` as given, which
/// decides what a multi-call program does.
pub fn debian<S: AsRef<OsStr>>(root: &Path, program: &str, args: impl IntoIterator<Item = S>) -> Command {
    let name = program.rsplit('/').next().unwrap_or(program);
    let mut command = Command::new(root.join("usr/lib64/ld-linux-x86-64.so.2"));
    command
        .arg("--library-path")
        .arg(root.join("usr/lib/x86_64-linux-gnu"))
        .args(["--argv0", name])
        .arg(root.join(program))
        .args(args)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin")
        .env("LC_ALL", "C");
    command
}

/// A file of OVMF, which the build put into the cache.
pub fn firmware(name: &str) -> PathBuf {
    tools_root().unwrap_or_default().join("usr/share/OVMF").join(name)
}

/// Everything below `directory` as a cpio archive.
pub fn cpio(directory: &Path, archive: &Path) -> Result<()> {
    let output = File::create(archive).with_context(|| format!("create {}", archive.display()))?;
    let mut archive = Archive::new(BufWriter::new(output));
    pack(&mut archive, directory, "")?;
    archive.finish().and_then(|mut output| output.flush()).context("end the archive")
}

/// What stands below one directory, sorted; directories before what they hold.
fn pack(archive: &mut Archive<impl Write>, top: &Path, below: &str) -> Result<()> {
    let directory = top.join(below);
    let list = || format!("list {}", directory.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(&directory).with_context(list)? {
        names.push(entry.with_context(list)?.file_name().into_string().ok().context("read a name")?);
    }
    names.sort();
    for name in names {
        let name = if below.is_empty() { name } else { format!("{below}/{name}") };
        let path = top.join(&name);
        let read = || format!("read {}", path.display());
        let metadata = fs::symlink_metadata(&path).with_context(read)?;
        let mode = metadata.permissions().mode() & 0o777;
        if metadata.is_symlink() {
            let target = fs::read_link(&path).with_context(read)?;
            archive.symlink(&name, target.to_str().context("read a link")?)?;
        } else if metadata.is_dir() {
            archive.directory(&name, mode)?;
            pack(archive, top, &name)?;
        } else {
            archive.file(&name, mode, &fs::read(&path).with_context(read)?)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_qemu_is_read() {
        assert_eq!(parse_major("QEMU emulator version 10.0.13 (Debian 1:10.0.13)\n"), Some(10));
        assert_eq!(parse_major("QEMU emulator version 7.2.19 (Debian)"), Some(7));
        assert_eq!(parse_major("sh: not found"), None);
    }
}
