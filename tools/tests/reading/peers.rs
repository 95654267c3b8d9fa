//! The peers: util-linux and the makers of file systems and tables, from the build's own package tree.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Where the build puts wrappers for the programs of Debian 13, or where `LIFEBOAT_HOST_TOOLS` says.
pub fn directory() -> Option<PathBuf> {
    let named = std::env::var_os("LIFEBOAT_HOST_TOOLS").map(PathBuf::from);
    let path = |name, below| {
        let value = std::env::var_os(name).filter(|value| !value.is_empty())?;
        Some(PathBuf::from(value).join(below))
    };
    // As the image builder finds its cache.
    let built = path("CACHE", "host/bin")
        .or_else(|| path("XDG_CACHE_HOME", "lifeboat/host/bin"))
        .or_else(|| path("HOME", ".cache/lifeboat/host/bin"));
    named.or(built).filter(|directory| directory.join("fdisk").exists())
}

fn skipped(what: &str) {
    assert!(std::env::var_os("CI").is_none(), "in CI a skip is a failure: no {what}");
    eprintln!("skipped: no {what} (make peers puts it into the cache)");
}

/// What the authors of a source package released, as far as its paths fit the patterns: its root below `into`. `None`, said
/// aloud, where `make peers` has not run yet.
pub fn released(package: &str, patterns: &[&str], into: &Path) -> Option<PathBuf> {
    let archive = directory().map(|bin| bin.with_file_name("src").join(format!("{package}.tar")));
    let Some(archive) = archive.filter(|archive| archive.exists()) else {
        skipped(&format!("source of {package}"));
        return None;
    };
    let root = into.join(package);
    std::fs::create_dir_all(&root).unwrap();
    let mut tar = peer("tar")?;
    tar.env("PATH", path()).arg("-xf").arg(archive).arg("-C").arg(&root);
    done(tar.args(["--strip-components=1", "--wildcards"]).args(patterns));
    Some(root)
}

/// This host's programs, and behind them the peers'.
pub fn path() -> std::ffi::OsString {
    let own = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths(std::env::split_paths(&own).chain(directory())).unwrap()
}

/// A peer's program in the C locale, or `None`, said aloud, where `make peers` has not run yet.
pub fn peer(program: &str) -> Option<Command> {
    let Some(directory) = directory() else {
        skipped(&format!("{program} of Debian 13"));
        return None;
    };
    if !directory.join(program).exists() {
        eprintln!("skipped: {program} is of no package in the cache");
        return None;
    }
    let mut command = Command::new(directory.join(program));
    command.env("LC_ALL", "C");
    Some(command)
}

/// The maker of a format: a peer, or this host's own, since what it makes is the same for decades.
pub fn maker(program: &str) -> Option<Command> {
    let own = PathBuf::from("/usr/sbin").join(program);
    let rare = ["mkfs.bfs", "mkfs.cramfs", "mkfs.minix"].contains(&program);
    if rare && own.exists() { Some(Command::new(own)) } else { peer(program) }
}

/// Runs one that has to succeed.
pub fn done(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}
