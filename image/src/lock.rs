//! image/packages.lock: every Debian package that goes into the image or runs the build, by name,
//! version and SHA-256. Packages come by hash, so a mirror cannot change what is built.

use anyhow::{Context as _, Result, bail, ensure};
use std::fmt::Write as _;
use std::path::Path;

/// What a package is for: lines of the lock name one or both, or that it is a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set {
    /// Its files go into the image.
    Guest,
    /// Its programs run on the build host, through their own loader.
    Host,
}

/// Before the name of a source package, as Debian's own tools write it.
pub const SOURCE: &str = "src:";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    pub name: String,
    pub version: String,
    pub architecture: String,
    pub guest: bool,
    pub host: bool,
    /// Bytes.
    pub size: u64,
    /// Lower-case hex.
    pub sha256: String,
    /// Below the mirror's root: `pool/main/b/bash/bash_5.2.37-2_amd64.deb`.
    pub path: String,
}

impl Package {
    pub fn is_in(&self, set: Set) -> bool {
        match set {
            Set::Guest => self.guest,
            Set::Host => self.host,
        }
    }

    /// The name of a source package: what its authors released, which only tests look into.
    pub fn source(&self) -> Option<&str> {
        self.name.strip_prefix(SOURCE)
    }
}

const HEADER: &str = "\
# Debian packages by hash; moved by `make lock`. Columns: for (guest, host, both, source), name, version,
# architecture, size in bytes, SHA-256, path on the mirror. Security updates lie below debian-security.
";

pub fn read(path: &Path) -> Result<Vec<Package>> {
    parse(&std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?)
}

pub fn parse(text: &str) -> Result<Vec<Package>> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(number, line)| package(line).with_context(|| format!("packages.lock, line {}", number + 1)))
        .collect()
}

fn package(line: &str) -> Result<Package> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let [set, name, version, architecture, size, sha256, path] = fields[..] else {
        bail!("not seven columns");
    };
    let (guest, host) = match set {
        "guest" => (true, false),
        "host" => (false, true),
        "both" => (true, true),
        "source" => (false, false),
        other => bail!("neither guest, host, both nor source: {other}"),
    };
    ensure!(sha256.len() == 64 && sha256.bytes().all(|c| c.is_ascii_hexdigit()), "not a SHA-256: {sha256}");
    let is_source = set == "source";
    ensure!(
        is_source == name.starts_with(SOURCE),
        "a source is called {SOURCE}NAME, and nothing else is: {name}"
    );
    let has_its_ending = if is_source { path.contains(".orig.tar.") } else { path.ends_with(".deb") };
    ensure!(has_its_ending && !path.contains(".."), "not a package's path: {path}");
    Ok(Package {
        name: name.to_string(),
        version: version.to_string(),
        architecture: architecture.to_string(),
        guest,
        host,
        size: size.parse().context("size")?,
        sha256: sha256.to_string(),
        path: path.to_string(),
    })
}

pub fn format(packages: &[Package]) -> String {
    let mut text = HEADER.to_string();
    for p in packages {
        let set = match (p.guest, p.host) {
            (true, true) => "both",
            (true, false) => "guest",
            (false, true) => "host",
            (false, false) => "source",
        };
        // A String takes all.
        let _ = writeln!(
            text,
            "{set} {} {} {} {} {} {}",
            p.name, p.version, p.architecture, p.size, p.sha256, p.path
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest;

    #[test]
    fn what_is_written_is_read_back() {
        let hash = "ab".repeat(32);
        let lines = format!(
            "both bash 5.2-1 amd64 1500 {hash} pool/main/b/bash/bash_5.2-1_amd64.deb\n\
             source src:bash 5.2-1 source 1500 {hash} pool/main/b/bash/bash_5.2.orig.tar.xz\n"
        );
        let packages = parse(&lines).unwrap();
        assert_eq!(packages.iter().map(Package::source).collect::<Vec<_>>(), [None, Some("bash")]);
        assert_eq!(parse(&format(&packages)).unwrap(), packages);
    }

    #[test]
    fn the_committed_lock_is_sorted_and_whole() {
        let packages = parse(include_str!("../packages.lock")).unwrap();
        assert!(packages.windows(2).all(|pair| pair[0].name < pair[1].name), "sorted, each name once");
        for needed in ["linux-image-amd64", "bash", "mdadm", "qemu-system-x86"] {
            assert!(packages.iter().any(|p| p.name == needed), "{needed} is not locked");
        }
    }

    #[test]
    fn what_is_only_measured_is_locked_apart_from_what_images_are_made_of() {
        let text = include_str!("../bench.lock");
        let packages = parse(text).unwrap();
        assert_eq!(packages.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), manifest::BENCH);
        assert_eq!(format(&packages), text);
        for (name, other) in [
            ("packages.lock", include_str!("../packages.lock")),
            ("kernel.lock", include_str!("../kernel.lock")),
        ] {
            let others = parse(other).unwrap();
            assert!(others.iter().all(|p| !manifest::BENCH.contains(&p.name.as_str())), "{name}");
        }
    }

    #[test]
    fn a_line_that_was_tampered_with_is_refused() {
        for line in [
            "guest x 1 amd64 5 abc pool/x.deb",
            "x",
            &format!("guest x 1 amd64 5 {} ../x.deb", "ab".repeat(32)),
            &format!("source x 1 source 5 {} pool/x.orig.tar.xz", "ab".repeat(32)),
            &format!("guest src:x 1 amd64 5 {} pool/x.deb", "ab".repeat(32)),
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
