//! The programs of the private Debian root: QEMU, and what the builder machine is made of. They are
//! run by their own loader, so that the host's libraries do not matter.

use anyhow::{Context as _, Result, bail};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
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
