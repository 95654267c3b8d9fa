//! What an image was built from, and one hash that names it, in the image itself: /lifeboat/provenance and /lifeboat/image.
//! Two builds of one commit with the same locks, rustc, C compiler and libc are equal, so whoever has the first can make the second.

use crate::cpio::Archive;
use crate::packages::{self, digest, hex};
use anyhow::{Context as _, Result};
use contract::paths;
use sha2::{Digest as _, Sha256};
use std::path::Path;
use std::process::Command;

/// One line for each thing that a build depends on: `NAME VALUE`.
pub fn record(source: &Path, version: &str, kernel: &str, unlocked: bool) -> Result<String> {
    let rustc = rustc_version()?;
    let lock = match unlocked {
        true => "not followed: some versions are gone from the mirror".to_string(),
        false => digest(&source.join("image/packages.lock"))?,
    };
    let lines = [
        ("version", version.to_string()),
        ("packages.lock", lock),
        ("Cargo.lock", digest(&source.join("Cargo.lock"))?),
        ("rustc", rustc),
        ("cc", first_line("cc")),
        ("binutils", first_line("ld")),
        ("libc", libc()),
        ("linux", kernel.to_string()),
    ];
    Ok(lines.iter().map(|(name, value)| format!("{name} {value}\n")).collect())
}

/// `1.95.0 (HASH DATE)`.
pub fn rustc_version() -> Result<String> {
    let said =
        packages::output(Command::new(rustc()).arg("--version")).context("ask rustc for its version")?;
    Ok(said.trim().trim_start_matches("rustc ").to_string())
}

/// What a program says of its version.
fn first_line(program: &str) -> String {
    asked(program, &["--version"]).unwrap_or_else(|| "unknown".to_string())
}

fn rustc() -> std::ffi::OsString {
    std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())
}

/// The libc that our binaries are linked with: its package's version, or what it says itself.
fn libc() -> String {
    package_version("libc6-dev")
        .or_else(|| asked("getconf", &["GNU_LIBC_VERSION"]))
        .unwrap_or_else(|| "unknown".to_string())
}

/// Of one of the host's own packages; `None` where it has none, or no dpkg.
pub fn package_version(name: &str) -> Option<String> {
    asked("dpkg-query", &["--show", "--showformat=${Version}", name])
}

/// The first line that a program says.
pub fn asked(program: &str, arguments: &[&str]) -> Option<String> {
    let said = packages::output(Command::new(program).args(arguments)).ok()?;
    said.lines().next().map(|line| line.trim().to_string()).filter(|line| !line.is_empty())
}

/// The image's name: SHA-256 of the hashes of its parts, in hex.
pub fn name(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(Sha256::digest(part));
    }
    hex(&hash.finalize())
}

/// Both files, as an archive that stands behind the others.
pub fn archive(name: &str, record: &str) -> Result<Vec<u8>> {
    let mut archive = Archive::new(Vec::new());
    archive.file(paths::IMAGE.trim_start_matches('/'), 0o644, format!("{name}\n").as_bytes())?;
    archive.file(paths::PROVENANCE.trim_start_matches('/'), 0o644, record.as_bytes())?;
    Ok(archive.finish()?)
}

/// The version that the record in a nucleus names, which ends in that archive.
pub fn version_of(nucleus: &[u8]) -> Option<String> {
    /// More than the archive has.
    const TAIL: usize = 16 << 10;
    let tail = String::from_utf8_lossy(&nucleus[nucleus.len().saturating_sub(TAIL)..]).into_owned();
    let (_, record) = tail.rsplit_once(paths::PROVENANCE.trim_start_matches('/'))?;
    let (_, version) = record.split_once("version ")?;
    version.lines().next().map(str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_a_nucleus_is_read_from_its_end() {
        let mut nucleus = b"packed \xff version 9 lifeboat/provenance".to_vec();
        assert_eq!(version_of(&nucleus), None);
        nucleus.extend(archive("ab", "version 0.1+abc\nrustc 1\n").unwrap());
        nucleus.extend([0; 3]);
        assert_eq!(version_of(&nucleus).as_deref(), Some("0.1+abc"));
        assert_eq!(version_of(b""), None);
    }

    #[test]
    fn each_part_changes_the_name_and_so_does_where_one_ends() {
        let whole = name(&[b"kernel", b"nucleus"]);
        assert_eq!(whole.len(), 64);
        assert_ne!(whole, name(&[b"kernel", b"nucleuS"]));
        assert_ne!(whole, name(&[b"kerneln", b"ucleus"]));
    }

    #[test]
    fn what_a_build_depends_on_is_recorded() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let text = record(&source, "0.1+abc", "6.12", false).unwrap();
        let names: Vec<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(
            names,
            ["version", "packages.lock", "Cargo.lock", "rustc", "cc", "binutils", "libc", "linux"]
        );
        assert!(
            text.lines().all(|line| line.split(' ').nth(1).is_some_and(|value| !value.is_empty())),
            "{text}"
        );
    }
}
