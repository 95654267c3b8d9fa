//! One file for a running Linux: a shell script with a program (image/takeover), kernel and initramfs behind it, each at
//! a multiple of 4,096 bytes. The script finds a place to run the program from; all else is the program's.

use super::Parts;
use crate::{build, packages};
use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

const SCRIPT: &str = include_str!("kexec.sh");
/// A multiple of what the script cuts by.
const BLOCK: u64 = 4096;
const CUT: u64 = 512;

pub fn make(parts: &Parts, target: &Path) -> Result<()> {
    let program = build::program(&parts.source, "takeover", "takeover", &[])?;
    let bytes = bundle(&program, &parts.kernel()?, &parts.initramfs()?)?;
    let beside = target.with_extension("new");
    let mut file = File::create(&beside).with_context(|| format!("create {}", beside.display()))?;
    file.write_all(&bytes).with_context(|| format!("write {}", beside.display()))?;
    fs::set_permissions(&beside, fs::Permissions::from_mode(0o755))?;
    Ok(fs::rename(&beside, target)?)
}

fn bundle(program: &[u8], kernel: &[u8], initramfs: &[u8]) -> Result<Vec<u8>> {
    let mut at = BLOCK;
    let mut place = |bytes: &[u8]| {
        let offset = at;
        at = (offset + bytes.len() as u64).next_multiple_of(BLOCK);
        offset
    };
    let places = [program, kernel, initramfs].map(&mut place);
    let part = |offset: u64, bytes: &[u8]| {
        format!("{offset}:{}:{}", bytes.len(), packages::hex(&Sha256::digest(bytes)))
    };
    let script = [
        ("@VERSION@", env!("CARGO_PKG_VERSION").to_string()),
        ("@LENGTH@", at.to_string()),
        ("@SKIP@", (places[0] / CUT).to_string()),
        ("@COUNT@", (program.len() as u64).div_ceil(CUT).to_string()),
        ("@KERNEL@", part(places[1], kernel)),
        ("@INITRAMFS@", part(places[2], initramfs)),
    ];
    let text = script.iter().fold(SCRIPT.to_string(), |text, (name, value)| text.replace(name, value));
    ensure!(text.len() as u64 <= BLOCK, "the script of the kexec bundle is too long");
    let mut bytes = text.into_bytes();
    // A line of its own, that the shell never comes to.
    for (offset, part) in places.iter().zip([program, kernel, initramfs]) {
        bytes.resize(usize::try_from(*offset)?, b'\n');
        bytes.extend_from_slice(part);
    }
    bytes.resize(usize::try_from(at)?, b'\n');
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// A shell script stands for the program, and says how it was called.
    const PROGRAM: &[u8] =
        b"#!/bin/sh\n[ \"$1\" = --version ] || { printf '%s\\n' \"$@\"; exit 3; }\nexit 0\n";

    fn run(shell: &[&str], file: &Path, arguments: &[&str]) -> (i32, String) {
        let output = Command::new(shell[0]).args(&shell[1..]).arg(file).args(arguments).output().unwrap();
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.code().unwrap(), said)
    }

    /// The host's own, and Debian's as far as they are there.
    fn shells() -> Vec<Vec<&'static str>> {
        let all: [&[&str]; 4] = [&["sh"], &["dash"], &["bash", "--posix"], &["busybox", "sh"]];
        let works =
            |shell: &&[&str]| Command::new(shell[0]).args(&shell[1..]).args(["-c", "true"]).output().is_ok();
        all.into_iter().filter(works).map(<[&str]>::to_vec).collect()
    }

    #[test]
    fn every_shell_finds_the_program_in_the_bundle_and_hands_on_what_was_typed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a bundle.sh");
        let bytes = bundle(PROGRAM, b"KERNEL", b"INITRAMFS").unwrap();
        assert_eq!(bytes.len() as u64, 4 * BLOCK);
        assert_eq!(&bytes[2 * BLOCK as usize..][..6], b"KERNEL");
        for shell in shells() {
            fs::write(&path, &bytes).unwrap();
            let (status, said) = run(&shell, &path, &["--append", "a  b"]);
            assert_eq!(status, 3, "{shell:?}: {said}");
            for word in ["--bundle\n", "a bundle.sh\n", "--append\na  b\n", "--kernel\n8192:6:"] {
                assert!(said.contains(word), "{shell:?}: {word:?} in {said}");
            }
            // Cut, and not a file at all.
            fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
            let (status, said) = run(&shell, &path, &[]);
            assert!(status == 1 && said.contains("copy it again"), "{shell:?}: {said}");
            let text = String::from_utf8_lossy(&bytes[..BLOCK as usize]).into_owned();
            let output = Command::new(shell[0]).args(&shell[1..]).args(["-c", &text]).output().unwrap();
            assert!(String::from_utf8_lossy(&output.stderr).contains("save it as a file"), "{shell:?}");
        }
        assert!(!shells().is_empty());
    }
}
