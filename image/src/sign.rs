//! What is in out/ by its sums, and these by the operator's own key: an SSH signature of SHA256SUMS (PROTOCOL.sshsig of
//! OpenSSH), and with a certificate also what iPXE's `imgverify` asks for, a detached CMS signature beside each file
//! (ipxe.org/crypto). The private keys stay with ssh-keygen and openssl.
//!
//! Signed is what the build made and noted in SHA256SUMS (sums.rs), and nothing else that lies there: disks and keys of a run,
//! a machine's identity, forms of an earlier image.

use crate::build;
use crate::flavour::Flavour;
use crate::keys;
use crate::sums::{self, SUMS};
use anyhow::{Context as _, Result, ensure};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the signature is for, so that it is good for nothing else: ssh-keygen's -n.
const NAMESPACE: &str = "file";
/// Who signs, in the line for ssh-keygen -Y verify.
const SIGNER: &str = "operator";
/// What says how a script has to be changed is signed last.
const VERIFIED: &str = "verified.ipxe";

#[derive(clap::Args, Debug)]
pub struct Wanted {
    /// Sign SHA256SUMS with this SSH key: a private key, or the public half of one that an agent has.
    #[arg(long)]
    pub key: Option<PathBuf>,
    /// Sign for iPXE with this certificate, in PEM: extended key usage codeSigning.
    #[arg(long, requires = "certificate_key")]
    pub certificate: Option<PathBuf>,
    /// Its private key, in PEM.
    #[arg(long, requires = "certificate")]
    pub certificate_key: Option<PathBuf>,
    /// Certificates between it and the one that the ROM trusts, in PEM.
    #[arg(long, requires = "certificate")]
    pub chain: Option<PathBuf>,
}

/// Signs the image in `out`; gives what a person types to verify it.
pub fn make(out: &Path, tools: &Path, wanted: &Wanted) -> Result<String> {
    ensure!(
        wanted.key.is_some() || wanted.certificate.is_some(),
        "name a key: KEY=~/.ssh/id_ed25519 (SHA256SUMS), or CERT= and CERT_KEY= (for iPXE)"
    );
    let again = if wanted.certificate.is_some() { signatures(out)? } else { Vec::new() };
    sums::check(out, &again)?;
    let mut told = format!("# {}:\n", out.display());
    if let (Some(certificate), Some(key)) = (&wanted.certificate, &wanted.certificate_key) {
        // All of them or none: a key that is not the certificate's takes no signature away.
        let stage = tempfile::tempdir_in(out).context("make a directory")?;
        write(&stage.path().join(VERIFIED), &verified()?)?;
        for (number, name) in loaded(out)?.iter().enumerate() {
            let from = if name == VERIFIED { stage.path() } else { out };
            let to = stage.path().join(format!("{number}.sig"));
            cms(&from.join(name), &to, tools, certificate, key, wanted.chain.as_deref())?;
        }
        sums::forget(out, &again)?;
        let place = |from: &str, name: &str| {
            fs::rename(stage.path().join(from), out.join(name)).with_context(|| format!("write {name}"))
        };
        place(VERIFIED, VERIFIED)?;
        for (number, name) in loaded(out)?.iter().enumerate() {
            place(&format!("{number}.sig"), &format!("{name}.sig"))?;
        }
        sums::add(out, &again)?;
        told += &format!(
            "# in the ROM's own script, with a ROM that trusts the certificate (docs/boot.md):\n\
             imgfetch {VERIFIED} && imgverify {VERIFIED} {VERIFIED}.sig && imgexec {VERIFIED}\n"
        );
    }
    if let Some(key) = &wanted.key {
        ssh(out, key)?;
        let public = public(key)?;
        told += &format!(
            "# whoever has the directory and this key's public half:\n\
             echo '{SIGNER} {public}' > signers\n\
             ssh-keygen -Y verify -f signers -I {SIGNER} -n {NAMESPACE} -s {SUMS}.sig < {SUMS} && sha256sum -c {SUMS}\n"
        );
    }
    Ok(told)
}

/// Where there is an image to sign: of the kernel that was asked for, or with nothing said of each that was built, since
/// Secure Boot's forms have the other one.
pub fn directories(source: &Path, wanted: Option<Flavour>) -> Result<Vec<PathBuf>> {
    if wanted.is_some() {
        return Ok(vec![source.join(Flavour::out(wanted))]);
    }
    let both = [Flavour::Custom, Flavour::Debian].map(|flavour| source.join(Flavour::out(Some(flavour))));
    let found: Vec<PathBuf> = both.into_iter().filter(|out| out.join(SUMS).exists()).collect();
    ensure!(!found.is_empty(), "there is nothing to sign: make image comes first");
    Ok(found)
}

/// What iPXE loads.
fn loaded(out: &Path) -> Result<BTreeSet<String>> {
    let is_loaded = |name: &String| {
        let plain = ["vmlinuz", "initramfs", "nucleus", VERIFIED].contains(&name.as_str());
        plain || name.ends_with(".cpio") || (name.starts_with("layers/") && name.ends_with(".squashfs"))
    };
    // The script itself is not noted yet.
    let noted = sums::read(out)?.into_keys().chain([VERIFIED.to_string()]);
    let found: BTreeSet<String> = noted.filter(is_loaded).collect();
    ensure!(found.contains("vmlinuz"), "{} has no vmlinuz: make image comes first", out.display());
    Ok(found)
}

/// What is made with a certificate.
fn signatures(out: &Path) -> Result<Vec<String>> {
    let signed = loaded(out)?.into_iter().map(|name| format!("{name}.sig"));
    Ok(std::iter::once(VERIFIED.to_string()).chain(signed).collect())
}

/// boot.ipxe, where each file is verified before it is run: a ROM that cannot, or a file that is not right, ends it.
/// `imgtrust` keeps iPXE from starting anything else, but says nothing of what it hands over, so that each is verified by name.
fn verified() -> Result<String> {
    let line = |start: &str| {
        let found = build::BOOT_IPXE.lines().find(|line| line.starts_with(start));
        found.with_context(|| format!("boot.ipxe has no line that begins with {start:?}"))
    };
    let (archive, root) = (line("isset ${lean} && set archive")?, line("isset ${lean} && set root")?);
    let (more, kernel) = (line("isset ${nofirmware} && set more")?, line("kernel vmlinuz ")?);
    Ok(format!(
        "#!ipxe\nimgtrust --permanent\n{archive}\n{root}\n{more}\n{kernel}\nimgverify vmlinuz vmlinuz.sig\n\
         isset ${{microcode}} || goto archive\n\
         initrd microcode.cpio\nimgverify microcode.cpio microcode.cpio.sig\n\
         :archive\ninitrd ${{archive}}\nimgverify ${{archive}} ${{archive}}.sig\n\
         isset ${{lean}} && goto start ||\nisset ${{nofirmware}} && goto start ||\n\
         initrd layers/30-firmware.squashfs /layers/30-firmware.squashfs\n\
         imgverify 30-firmware.squashfs layers/30-firmware.squashfs.sig\n:start\nboot\n"
    ))
}

fn cms(
    file: &Path,
    signature: &Path,
    tools: &Path,
    certificate: &Path,
    key: &Path,
    chain: Option<&Path>,
) -> Result<()> {
    let mut command = Command::new(tools.join("openssl"));
    command.args(["cms", "-sign", "-binary", "-noattr", "-outform", "DER", "-in"]).arg(file);
    command.arg("-signer").arg(certificate).arg("-inkey").arg(key);
    if let Some(chain) = chain {
        command.arg("-certfile").arg(chain);
    }
    command.arg("-out").arg(signature);
    // The passphrase is typed on the terminal.
    let status = command.status().context("start openssl")?;
    ensure!(status.success(), "openssl did not sign {}: {status}", file.display());
    Ok(())
}

fn ssh(out: &Path, key: &Path) -> Result<()> {
    // ssh-keygen asks before it overwrites.
    match fs::remove_file(out.join(format!("{SUMS}.sig"))) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).context("replace the signature");
        }
        _ => {}
    }
    let status = Command::new("ssh-keygen")
        .args(["-q", "-Y", "sign", "-n", NAMESPACE, "-f"])
        .arg(key)
        .arg(out.join(SUMS))
        .status()
        .context("start ssh-keygen: is the OpenSSH client installed?")?;
    ensure!(status.success(), "ssh-keygen signed nothing: {status}");
    Ok(())
}

/// The key's public half, as type and base64.
fn public(key: &Path) -> Result<String> {
    let beside = PathBuf::from(format!("{}.pub", key.display()));
    let text = match key.extension().is_some_and(|end| end == "pub") {
        true => fs::read_to_string(key).with_context(|| format!("read {}", key.display()))?,
        false if beside.exists() => {
            fs::read_to_string(&beside).with_context(|| format!("read {}", beside.display()))?
        }
        false => {
            let made = Command::new("ssh-keygen")
                .args(["-y", "-f"])
                .arg(key)
                .stderr(Stdio::inherit())
                .output()
                .context("start ssh-keygen")?;
            String::from_utf8_lossy(&made.stdout).into_owned()
        }
    };
    let keys = keys::parse(&text).with_context(|| format!("read the public key of {}", key.display()))?;
    keys.first().map(keys::Key::two_fields).with_context(|| format!("{} has no public key", key.display()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out() -> tempfile::TempDir {
        let out = tempfile::tempdir().unwrap();
        fs::create_dir(out.path().join("layers")).unwrap();
        let image = ["vmlinuz", "initramfs", "layers/10-a.squashfs", "boot.ipxe"];
        // Of a run, of one machine, and of nobody.
        fs::create_dir(out.path().join("run")).unwrap();
        for name in image.into_iter().chain(["identity.cpio", "key", "run/sda.img", "x.cpio", "lifeboat.iso"])
        {
            fs::write(out.path().join(name), name).unwrap();
        }
        sums::begin(out.path(), &image.map(str::to_string)).unwrap();
        out
    }

    fn wanted() -> Wanted {
        Wanted { key: None, certificate: None, certificate_key: None, chain: None }
    }

    fn succeeds(command: &mut Command) -> bool {
        command.stdin(Stdio::null()).output().unwrap().status.success()
    }

    /// A program of the host that a test needs, or the reason to leave it.
    fn has(program: &str) -> bool {
        let is_there = Command::new(program).arg("-?").stdin(Stdio::null()).output().is_ok();
        assert!(is_there || std::env::var_os("CI").is_none(), "in CI a skip is a failure");
        if !is_there {
            eprintln!("SKIPPED: no {program}");
        }
        is_there
    }

    /// Names in SHA256SUMS.
    fn noted(out: &Path) -> Vec<String> {
        sums::read(out).unwrap().into_keys().collect()
    }

    #[test]
    fn what_was_changed_since_it_was_made_is_not_signed() {
        let out = out();
        fs::write(out.path().join("initramfs"), "another").unwrap();
        let wanted = Wanted { key: Some("key".into()), ..wanted() };
        let error = make(out.path(), Path::new(""), &wanted).unwrap_err().to_string();
        assert!(error.contains("initramfs"), "{error}");
        assert!(!out.path().join("SHA256SUMS.sig").exists());
    }

    #[test]
    fn each_image_that_was_built_is_signed_or_the_one_that_was_asked_for() {
        let source = tempfile::tempdir().unwrap();
        let (ours, debians) = (source.path().join("out"), source.path().join("out-debian"));
        assert!(directories(source.path(), None).is_err());
        for (out, wanted) in [(&debians, vec![&debians]), (&ours, vec![&ours, &debians])] {
            fs::create_dir(out).unwrap();
            sums::begin(out, &[]).unwrap();
            assert_eq!(directories(source.path(), None).unwrap().iter().collect::<Vec<_>>(), wanted);
        }
        assert_eq!(directories(source.path(), Some(Flavour::Debian)).unwrap(), [debians]);
    }

    #[test]
    fn the_stock_ssh_keygen_verifies_what_was_signed_and_nothing_else() {
        if !has("ssh-keygen") {
            return;
        }
        let (out, keys) = (out(), tempfile::tempdir().unwrap());
        let key = keys.path().join("key");
        assert!(succeeds(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key)));
        // Twice: the second replaces the first.
        for _ in 0..2 {
            make(out.path(), Path::new(""), &Wanted { key: Some(key.clone()), ..wanted() }).unwrap();
        }
        let told = make(out.path(), Path::new(""), &Wanted { key: Some(key), ..wanted() }).unwrap();
        let verified = || succeeds(Command::new("sh").args(["-e", "-c", &told]).current_dir(out.path()));
        assert!(verified());
        fs::write(out.path().join("initramfs"), "another").unwrap();
        assert!(!verified());
        // Nor with sums that fit it, which nobody signed.
        sums::add(out.path(), &["initramfs".to_string()]).unwrap();
        assert!(!verified());
    }

    #[test]
    fn what_ipxe_loads_has_a_signature_that_openssl_verifies() {
        if !has("openssl") {
            return;
        }
        let (out, keys) = (out(), tempfile::tempdir().unwrap());
        let (certificate, key) = (keys.path().join("cert.pem"), keys.path().join("key.pem"));
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=operator", "-days", "2"])
            .args(["-addext", "extendedKeyUsage=codeSigning", "-out"])
            .arg(&certificate)
            .arg("-keyout")
            .arg(&key)
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let wanted =
            Wanted { certificate: Some(certificate.clone()), certificate_key: Some(key), ..wanted() };
        make(out.path(), Path::new("/usr/bin"), &wanted).unwrap();
        let before = fs::read(out.path().join("SHA256SUMS")).unwrap();
        let another = keys.path().join("another.pem");
        assert!(succeeds(Command::new("openssl").args(["genrsa", "-out"]).arg(&another)));
        let mistaken = Wanted { certificate_key: Some(another), ..Wanted { chain: None, ..wanted } };
        assert!(make(out.path(), Path::new("/usr/bin"), &mistaken).is_err());
        sums::check(out.path(), &[]).unwrap();
        assert_eq!(fs::read(out.path().join("SHA256SUMS")).unwrap(), before);
        // Interrupted, or by openssl itself.
        fs::write(out.path().join("initramfs.sig"), "").unwrap();
        let key = Some(keys.path().join("key.pem"));
        make(out.path(), Path::new("/usr/bin"), &Wanted { certificate_key: key, ..mistaken }).unwrap();
        let verified = |name: &str| {
            succeeds(
                Command::new("openssl")
                    .args(["cms", "-verify", "-binary", "-inform", "DER", "-purpose", "any", "-CAfile"])
                    .arg(&certificate)
                    .arg("-in")
                    .arg(out.path().join(format!("{name}.sig")))
                    .arg("-content")
                    .arg(out.path().join(name)),
            )
        };
        for name in ["vmlinuz", "initramfs", "layers/10-a.squashfs", VERIFIED] {
            assert!(verified(name), "{name}");
        }
        fs::write(out.path().join("initramfs"), "another").unwrap();
        assert!(!verified("initramfs"));
        // The secret of one machine is signed for nobody, nor what a run left.
        for name in ["identity.cpio.sig", "x.cpio.sig"] {
            assert!(!out.path().join(name).exists(), "{name}");
        }
        let image = ["boot.ipxe", "initramfs", "layers/10-a.squashfs", "vmlinuz"];
        let mut wanted: Vec<String> = image.map(str::to_string).to_vec();
        for name in ["initramfs", "layers/10-a.squashfs", "verified.ipxe", "vmlinuz"] {
            wanted.push(format!("{name}.sig"));
        }
        wanted.push(VERIFIED.to_string());
        wanted.sort();
        assert_eq!(noted(out.path()), wanted);
    }

    #[test]
    fn a_script_hands_over_nothing_that_it_has_not_verified() {
        let text = verified().unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..2], ["#!ipxe", "imgtrust --permanent"]);
        let mut loaded = 0;
        for (at, line) in lines.iter().enumerate() {
            if let Some(rest) = line.strip_prefix("kernel ").or_else(|| line.strip_prefix("initrd ")) {
                let path = rest.split(' ').next().unwrap();
                // iPXE calls a file by its last name; a line that fails ends the script.
                let name = path.rsplit('/').next().unwrap();
                assert_eq!(lines[at + 1], format!("imgverify {name} {path}.sig"));
                loaded += 1;
            } else {
                assert!(!line.contains("initrd ") && !line.contains("kernel "), "{line}");
            }
        }
        assert_eq!((loaded, lines.last()), (4, Some(&"boot")));
    }

    #[test]
    fn without_a_key_it_says_what_to_type() {
        let error = make(out().path(), Path::new(""), &wanted()).unwrap_err().to_string();
        assert!(error.contains("KEY="), "{error}");
    }
}
