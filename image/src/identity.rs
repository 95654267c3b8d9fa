//! The identity of a rescue before it boots: a host key made on the operator's machine, with the line
//! that makes it known, so that the first login trusts nothing it was not told. Keys are made and
//! signed by the operator's own ssh-keygen; nothing here holds a secret longer than it takes.
//!
//! What comes out is a cpio archive to put into the initramfs (the kernel unpacks one after the
//! other), with OpenSSH's own paths in it. It holds a private key: it is written for its owner alone,
//! and is good for as many boots as it is served to.

use crate::cpio::Archive;
use crate::keys;
use anyhow::{Context, Result, ensure};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the rescue looks (init/sshd/src/identity.rs and access.rs).
const HOST_KEY: &str = "etc/ssh/ssh_host_ed25519_key";
const CERTIFICATE: &str = "etc/ssh/ssh_host_ed25519_key-cert.pub";
const AUTHORIZED: &str = "root/.ssh/authorized_keys";

#[derive(clap::Args, Debug)]
pub struct Wanted {
    /// Names and addresses that the rescue is reached by, separated by commas.
    #[arg(long)]
    pub names: String,
    /// Sign the host key with this authority's private key, so that known_hosts needs one line for all.
    #[arg(long)]
    pub authority: Option<PathBuf>,
    /// How long the certificate is valid, in the words of ssh-keygen -V.
    #[arg(long, default_value = "-1h:+1w", allow_hyphen_values = true)]
    pub validity: String,
    /// Who may log in: a file of public keys, as authorized_keys.
    #[arg(long)]
    pub keys: Option<PathBuf>,
    /// The archive to write.
    #[arg(long, default_value = "out/identity.cpio")]
    pub output: PathBuf,
}

/// Writes the archive; gives the line for known_hosts.
pub fn make(wanted: &Wanted) -> Result<String> {
    let names = names(&wanted.names)?;
    // Before anything is made: a private key here would be packed for every machine that fetches the archive.
    let authorized = match &wanted.keys {
        Some(path) => {
            let bytes = fs::read(path).with_context(|| format!("read {}", path.display()))?;
            keys::of(path, &bytes)?;
            // As it is: what is logged later names its lines.
            Some(bytes)
        }
        None => None,
    };
    let directory = tempfile::tempdir().context("make a directory")?;
    let key = directory.path().join("key");
    keygen(&["-q", "-t", "ed25519", "-N", "", "-C", "lifeboat"], &[Path::new("-f"), &key])?;
    let mut certificate = None;
    let line = match &wanted.authority {
        None => format!("{names} {}", keys::plain(&key.with_extension("pub"))?.two_fields()),
        Some(authority) => {
            let options = ["-q", "-h", "-I", "lifeboat", "-n", &names, "-V", &wanted.validity, "-s"];
            keygen(&options, &[authority, &key.with_extension("pub")])?;
            certificate =
                Some(fs::read(directory.path().join("key-cert.pub")).context("read the certificate")?);
            let mut path = authority.clone().into_os_string();
            path.push(".pub");
            format!("@cert-authority {names} {}", keys::plain(Path::new(&path))?.two_fields())
        }
    };
    let bytes =
        archive(&fs::read(&key).context("read the key")?, certificate.as_deref(), authorized.as_deref())?;
    if let Some(parent) = wanted.output.parent() {
        fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
    }
    let output = wanted.output.display();
    // Anew, so that the mode is ours.
    match fs::remove_file(&wanted.output) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("replace {output}"));
        }
        _ => {}
    }
    let mut file = File::options();
    let mut file = file.write(true).create_new(true).mode(0o600).open(&wanted.output);
    file.as_mut().map_err(|error| anyhow::anyhow!("create {output}: {error}"))?.write_all(&bytes)?;
    Ok(line)
}

/// Directories come first: a kernel unpacks nothing into one that is not there.
fn archive(key: &[u8], certificate: Option<&[u8]>, keys: Option<&[u8]>) -> Result<Vec<u8>> {
    let mut archive = Archive::new(Vec::new());
    for (name, mode) in [("etc", 0o755), ("etc/ssh", 0o755), ("root", 0o700), ("root/.ssh", 0o700)] {
        archive.directory(name, mode)?;
    }
    archive.file(HOST_KEY, 0o600, key)?;
    if let Some(certificate) = certificate {
        archive.file(CERTIFICATE, 0o644, certificate)?;
    }
    if let Some(keys) = keys {
        archive.file(AUTHORIZED, 0o600, keys)?;
    }
    let mut bytes = archive.finish()?;
    // The next archive may begin at any multiple of four; whole blocks suit every boot loader.
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    Ok(bytes)
}

/// As they may stand in known_hosts and in a certificate: no blank, no pattern.
fn names(text: &str) -> Result<String> {
    let names: Vec<&str> = text.split(',').map(str::trim).collect();
    for name in &names {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b);
        ensure!(!name.is_empty() && name.bytes().all(plain), "{name:?} is no name of a host");
    }
    Ok(names.join(","))
}

fn keygen(options: &[&str], paths: &[&Path]) -> Result<()> {
    let status = Command::new("ssh-keygen").args(options).args(paths).status();
    let status = status.context("start ssh-keygen: is the OpenSSH client installed?")?;
    ensure!(status.success(), "ssh-keygen failed: {status}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_names() {
        assert_eq!(
            names("db1.example.com, 192.0.2.1,[192.0.2.1]:2222").unwrap(),
            "db1.example.com,192.0.2.1,[192.0.2.1]:2222"
        );
        for bad in ["", "a,,b", "*.example.com", "a b", "a\nb"] {
            assert!(names(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_is_no_public_key_is_not_packed() {
        let directory = tempfile::tempdir().unwrap();
        let keys = directory.path().join("id");
        let wanted = Wanted {
            names: "db1.example.com".to_string(),
            authority: None,
            validity: "-1h:+1w".to_string(),
            keys: Some(keys.clone()),
            output: directory.path().join("identity.cpio"),
        };
        for (text, reason) in
            [("-----BEGIN OPENSSH PRIVATE KEY-----\n", "id.pub"), ("two words\n", "line 1: not a public key")]
        {
            fs::write(&keys, text).unwrap();
            let error = format!("{:#}", make(&wanted).unwrap_err());
            assert!(error.contains(reason), "{error}");
            assert!(!wanted.output.exists());
        }
    }

    #[test]
    fn an_identity_is_an_archive_for_its_owner_and_a_line() {
        use std::os::unix::fs::PermissionsExt;
        if Command::new("ssh-keygen").arg("-?").output().is_err() {
            assert!(std::env::var_os("CI").is_none(), "in CI a skip is a failure");
            eprintln!("SKIPPED: no ssh-keygen");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let authority = dir.path().join("ca");
        keygen(&["-q", "-t", "ed25519", "-N", ""], &[Path::new("-f"), &authority]).unwrap();
        let mut wanted = Wanted {
            names: "db1.example.com".to_string(),
            authority: None,
            validity: "-1h:+1w".to_string(),
            keys: Some(dir.path().join("ca.pub")),
            output: dir.path().join("out/identity.cpio"),
        };
        let line = make(&wanted).unwrap();
        assert!(line.starts_with("db1.example.com ssh-ed25519 AAAA"), "{line}");
        assert_eq!(fs::metadata(&wanted.output).unwrap().permissions().mode() & 0o777, 0o600);
        let bytes = fs::read(&wanted.output).unwrap();
        let contains = |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|w| w == text.as_bytes());
        assert!(bytes.len().is_multiple_of(512) && bytes.starts_with(b"070701"));
        assert!(contains(&bytes, "BEGIN OPENSSH PRIVATE KEY") && contains(&bytes, AUTHORIZED));
        assert!(!contains(&bytes, CERTIFICATE));
        wanted.authority = Some(authority);
        let line = make(&wanted).unwrap();
        assert!(line.starts_with("@cert-authority db1.example.com ssh-ed25519 AAAA"), "{line}");
        assert!(contains(&fs::read(&wanted.output).unwrap(), "ssh-ed25519-cert-v01@openssh.com"));
    }
}
