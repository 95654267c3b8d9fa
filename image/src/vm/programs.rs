//! The programs of the private Debian root: QEMU, and what the builder machine is made of. They are
//! run by their own loader, so that the host's libraries do not matter.

use anyhow::{Context as _, Result, bail, ensure};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// What is kept between runs: `CACHE`, else `~/.cache/lifeboat`.
pub fn cache() -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("CACHE").unwrap_or_else(|| {
        let home = set("XDG_CACHE_HOME")
            .unwrap_or_else(|| set("HOME").unwrap_or_else(|| PathBuf::from("/root")).join(".cache"));
        home.join("lifeboat")
    })
}

/// `QEMU`, else the one that the build put into the cache.
pub fn qemu() -> PathBuf {
    match std::env::var_os("QEMU").filter(|value| !value.is_empty()) {
        Some(program) => program.into(),
        None => cache().join("host/bin/qemu-system-x86_64"),
    }
}

/// Major version of [`qemu`].
pub fn qemu_major() -> Result<u32> {
    static MAJOR: OnceLock<u32> = OnceLock::new();
    if let Some(major) = MAJOR.get() {
        return Ok(*major);
    }
    let program = qemu();
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

/// The private root itself: `DEBIAN_ROOT`, else the cache's.
pub fn debian_root() -> Result<PathBuf> {
    let root = match std::env::var_os("DEBIAN_ROOT").filter(|value| !value.is_empty()) {
        Some(root) => root.into(),
        None => cache().join("host/root"),
    };
    if !root.join("usr/lib64/ld-linux-x86-64.so.2").exists() {
        bail!("no Debian root at {}: `make image` unpacks it", root.display());
    }
    Ok(root)
}

/// A program of the private root, by its own loader: `NAME ARGS...` with `argv[0]` as given, which
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

/// Everything below `directory` as a cpio archive (newc, owned by root), by Debian's static busybox.
pub fn cpio(root: &Path, directory: &Path, archive: &Path) -> Result<()> {
    let mut names = Vec::new();
    list(directory, directory, &mut names)?;
    let output = File::create(archive).with_context(|| format!("create {}", archive.display()))?;
    let mut child = Command::new(root.join("usr/bin/busybox"))
        .args(["cpio", "-o", "-H", "newc", "-R", "0:0"])
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(output)
        .stderr(Stdio::null())
        .spawn()
        .context("run busybox cpio")?;
    let mut input = child.stdin.take().context("open busybox's input")?;
    writeln!(input, "{}", names.join("\n")).context("tell busybox the names")?;
    drop(input);
    let status = child.wait().context("wait for busybox cpio")?;
    ensure!(status.success(), "busybox cpio: {status}");
    Ok(())
}

/// Every path below `top`, directories before what they hold, sorted.
fn list(top: &Path, directory: &Path, names: &mut Vec<String>) -> Result<()> {
    let mut entries: Vec<PathBuf> = fs::read_dir(directory)
        .with_context(|| format!("list {}", directory.display()))?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    entries.sort();
    for path in entries {
        let name =
            path.strip_prefix(top).context("name a file")?.to_str().context("name a file")?.to_string();
        names.push(name);
        if path.is_dir() && !path.is_symlink() {
            list(top, &path, names)?;
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
