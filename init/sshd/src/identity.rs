//! The host key of this boot: the one that an operator injected at OpenSSH's own path, else, where that is asked for, the
//! installed system's, else a fresh ed25519 key; kept below /run/lifeboat over restarts of the listener. Beside it, an injected host
//! certificate, and an RSA key for old clients: injected in the same way, else made in the background and offered from then on.

use crate::installed;
use crate::settings::Settings;
use crate::wire::Sha;
use anyhow::{Context, Result, bail};
use contract::{paths, state};
use host::Root;
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::ssh_key::private::RsaKeypair;
use russh::keys::ssh_key::{Algorithm, HashAlg, LineEnding, PublicKey};
use russh::keys::{Certificate, PrivateKey, key::safe_rng};
use signature::Signer;
use std::io;
use std::time::SystemTime;

/// OpenSSH's path, injected by an appended cpio or by iPXE.
pub const INJECTED: &str = "/etc/ssh/ssh_host_ed25519_key";
/// For clients that know a host by such a key alone.
pub const INJECTED_RSA: &str = "/etc/ssh/ssh_host_rsa_key";
/// Beside it, in the same way.
const CERTIFICATE: &str = "/etc/ssh/ssh_host_ed25519_key-cert.pub";
const RSA: &str = "/run/lifeboat/sshd/host_rsa";
/// Its public line, written after it: who reads this one is spared the arithmetic of an RSA key.
const RSA_PUBLIC: &str = "/run/lifeboat/sshd/host_rsa.pub";
const RSA_BITS: usize = 3072;

pub struct Identity {
    /// `ssh-ed25519 AAAA...`
    pub line: String,
    /// `SHA256:...`
    pub fingerprint: String,
    /// `lifeboat-SERIAL`
    pub alias: String,
    /// `fresh`, `injected`, `installed`
    pub origin: String,
    /// The installed system whose keys are served, in words; empty without.
    pub system: String,
    /// Of the host, in words; empty without.
    pub certificate: String,
    /// What was injected and not taken, and why.
    pub problems: Vec<String>,
}

/// Whether the host key is not there yet, and nobody injected one.
pub fn is_open(root: &Root) -> bool {
    !root.exists(INJECTED) && !root.exists(paths::HOST_KEY)
}

/// Makes sure that [`paths::HOST_KEY`] holds the host key. `before` is what was told before, if anything.
pub fn establish(
    settings: &Settings,
    root: &Root,
    before: &state::Sshd,
    installed: Option<&installed::Keys>,
) -> Result<Identity> {
    let (injected, problem) = match root.read_text(INJECTED) {
        Ok(text) => match parse(&text) {
            Ok(key) => (Some(key), None),
            Err(reason) => (None, Some(format!("{INJECTED}: {reason}: a fresh host key is used"))),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => (None, None),
        Err(error) => (None, Some(format!("{INJECTED}: {error}: a fresh host key is used"))),
    };
    let mut problems: Vec<String> = problem.into_iter().collect();
    let mut system = String::new();
    let (key, origin) = if let Some(key) = injected {
        (key, "injected")
    } else if let Ok(key) = load_ed25519(root) {
        system.clone_from(&before.system);
        // Why it is this one is true for the whole boot, and the disks are not looked through again.
        let of_search = |problem: &&String| problem.starts_with(installed::PARAMETER);
        problems.extend(before.problems.iter().filter(of_search).cloned());
        (key, if before.origin == "installed" { "installed" } else { "fresh" })
    } else {
        let found = installed.and_then(|keys| keys.ed25519.as_deref()).and_then(|text| parse(text).ok());
        if let Some(keys) = installed {
            system.clone_from(&keys.place);
            problems.extend(serve_beside(settings, keys, found.is_some())?);
        }
        match found {
            Some(key) => (key, "installed"),
            None => {
                (PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).context("make a host key")?, "fresh")
            }
        }
    };
    let text = key.to_openssh(LineEnding::LF).context("encode the host key")?;
    write(settings, paths::HOST_KEY, &text)?;
    problems.extend(serve_injected_rsa(settings, root)?);
    let public = key.public_key();
    let line = two_fields(public)?;
    let certificate = match certificate(root, &key) {
        Ok(certificate) => certificate.map(|(line, words)| {
            if has_expired(&line, SystemTime::now()) {
                problems.push(format!(
                    "{CERTIFICATE}: has expired, by the clock of this machine: clients may not take it"
                ));
            }
            words
        }),
        Err(reason) => {
            problems.push(format!("{CERTIFICATE}: {reason}: it is not offered"));
            None
        }
    };
    Ok(Identity {
        line,
        fingerprint: public.fingerprint(HashAlg::Sha256).to_string(),
        alias: if before.alias.is_empty() { alias(root) } else { before.alias.clone() },
        origin: origin.to_string(),
        system,
        certificate: certificate.unwrap_or_default(),
        problems,
    })
}

/// The RSA key that was injected, instead of one that is made; and why it is not taken.
fn serve_injected_rsa(settings: &Settings, root: &Root) -> Result<Option<String>> {
    let refused = |reason: String| Ok(Some(format!("{INJECTED_RSA}: {reason}: a fresh one is used")));
    let text = match root.read_text(INJECTED_RSA) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return refused(error.to_string()),
    };
    match installed::rsa(&text) {
        Ok(key) => {
            write(settings, RSA, &key.to_openssh(LineEnding::LF).context("encode an RSA key")?)?;
            write(settings, RSA_PUBLIC, &two_fields(key.public_key())?)?;
            Ok(None)
        }
        Err(reason) => refused(reason),
    }
}

/// The installed system's RSA key, instead of one that is made; and what a person has to know of its keys.
fn serve_beside(settings: &Settings, keys: &installed::Keys, has_ed25519: bool) -> Result<Vec<String>> {
    if let Some(text) = &keys.rsa {
        let key = PrivateKey::from_openssh(text).context("read the installed system's RSA key")?;
        write(settings, RSA, text)?;
        write(settings, RSA_PUBLIC, &two_fields(key.public_key())?)?;
    }
    let mut lines: Vec<String> =
        keys.notes.iter().map(|note| format!("rescue.hostkey: {}: {note}", keys.place)).collect();
    if !has_ed25519 {
        lines.push(format!(
            "rescue.hostkey: {} has no ed25519 host key to serve: its RSA key is offered beside a fresh one",
            keys.place
        ));
    }
    Ok(lines)
}

/// What a connection is welcomed with, and signs with.
pub struct HostKeys {
    ed25519: PrivateKey,
    /// The public line of the other one. Made in the background: not there at first.
    rsa: Option<String>,
    /// Of OpenSSH's format; it is the ed25519 key's.
    pub certificate: Option<String>,
}

impl HostKeys {
    /// Public lines of OpenSSH.
    pub fn lines(&self) -> Result<Vec<String>> {
        let first = two_fields(self.ed25519.public_key())?;
        Ok([Some(first), self.rsa.clone()].into_iter().flatten().collect())
    }

    /// A signature as it is sent, by the key with this public part. The RSA key is read when it signs.
    pub fn sign(&self, root: &Root, key: &[u8], sha: Sha, hash: &[u8]) -> Result<Vec<u8>> {
        let is = |known: &PrivateKey| known.public_key().to_bytes().is_ok_and(|bytes| bytes == key);
        let rsa = |sha| {
            let known = load_rsa(root).filter(is);
            let key = known.as_ref().and_then(|rsa| rsa.key_data().rsa());
            (key.context("no such host key")?, Some(sha)).try_sign(hash).context("sign")
        };
        let signature = match sha {
            Sha::None if is(&self.ed25519) => self.ed25519.try_sign(hash).context("sign")?,
            Sha::None => bail!("no such host key"),
            Sha::Sha256 => rsa(HashAlg::Sha256)?,
            Sha::Sha512 => rsa(HashAlg::Sha512)?,
        };
        signature.try_into().context("encode a signature")
    }
}

/// The host keys of this boot that are there by now.
pub fn load(root: &Root) -> Result<HostKeys> {
    let ed25519 = load_ed25519(root)?;
    let certificate = certificate(root, &ed25519).ok().flatten().map(|(line, _)| line);
    Ok(HostKeys { ed25519, rsa: rsa_line(root), certificate })
}

/// Makes the RSA host key of this boot, which takes some seconds: for old clients, in a process of its
/// own. Not by aws-lc, whose RSA would bring half a megabyte of other algorithms into the nucleus.
pub fn make_rsa(settings: &Settings) -> Result<()> {
    let key = match load_rsa(&settings.root()?) {
        Some(key) => key,
        None => {
            let pair = RsaKeypair::random(&mut safe_rng(), RSA_BITS).context("make an RSA key")?;
            let key = PrivateKey::new(pair.into(), "").context("make an RSA key")?;
            write(settings, RSA, &key.to_openssh(LineEnding::LF).context("encode an RSA key")?)?;
            key
        }
    };
    write(settings, RSA_PUBLIC, &two_fields(key.public_key())?)
}

fn write(settings: &Settings, path: &str, text: &str) -> Result<()> {
    let path = settings.path(path);
    host::statefile::replace(&path, text.as_bytes(), 0o600)
        .with_context(|| format!("write {}", path.display()))
}

/// The public line of the RSA key; `None` when there is none yet.
pub fn rsa_line(root: &Root) -> Option<String> {
    root.line(RSA_PUBLIC)
}

/// `None` when there is none yet.
fn load_rsa(root: &Root) -> Option<PrivateKey> {
    let key = PrivateKey::from_openssh(root.read_text(RSA).ok()?).ok()?;
    key.key_data().rsa().is_some().then_some(key)
}

/// The certificate that an operator injected for the host key: its line, and in words. `None` without.
/// The error says why it is not used.
pub fn certificate(root: &Root, key: &PrivateKey) -> Result<Option<(String, String)>, String> {
    let text = match root.read_text(CERTIFICATE) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let line = text.trim();
    let found = Certificate::from_openssh(line).map_err(|_| "is not a certificate of OpenSSH".to_string())?;
    if found.cert_type() != CertType::Host {
        return Err("is not the certificate of a host".to_string());
    }
    if found.public_key() != key.public_key().key_data() {
        return Err("is the certificate of another key".to_string());
    }
    let id: String = found.key_id().chars().take(64).collect();
    let words = format!(
        "\"{}\" for {} by {}",
        id.escape_debug(),
        found.valid_principals().join(",").escape_debug(),
        found.signature_key().fingerprint(HashAlg::Sha256)
    );
    Ok(Some((line.to_string(), words)))
}

/// It is offered all the same, since the client's clock decides.
fn has_expired(line: &str, now: SystemTime) -> bool {
    Certificate::from_openssh(line)
        .is_ok_and(|found| found.valid_before_time().is_some_and(|until| now >= until))
}

/// `IN SSHFP ALGORITHM 2 SHA-256`: what DNS holds of a key (RFC 4255, RFC 6594, RFC 7479).
pub fn sshfp(line: &str) -> Option<String> {
    let key = PublicKey::from_openssh(line).ok()?;
    let algorithm = match key.algorithm() {
        Algorithm::Rsa { .. } => 1,
        Algorithm::Ecdsa { .. } => 3,
        Algorithm::Ed25519 => 4,
        _ => return None,
    };
    let hash: String =
        key.fingerprint(HashAlg::Sha256).as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    Some(format!("IN SSHFP {algorithm} 2 {hash}"))
}

/// Two fields: a comment is no part of a known_hosts line.
fn two_fields(key: &PublicKey) -> Result<String> {
    let mut line = key.to_openssh().context("encode the public key")?;
    if let Some((end, _)) = line.match_indices(' ').nth(1) {
        line.truncate(end);
    }
    Ok(line)
}

/// The host key that [`establish`] wrote.
fn load_ed25519(root: &Root) -> Result<PrivateKey> {
    let text = root.read_text(paths::HOST_KEY).with_context(|| format!("read {}", paths::HOST_KEY))?;
    parse(&text).map_err(anyhow::Error::msg).context(paths::HOST_KEY)
}

fn parse(text: &str) -> Result<PrivateKey, String> {
    let key = PrivateKey::from_openssh(text).map_err(|_| "is not a private key of OpenSSH".to_string())?;
    if key.is_encrypted() {
        return Err("is protected by a passphrase".to_string());
    }
    match key.algorithm() {
        Algorithm::Ed25519 => Ok(key),
        other => Err(format!("is of type {}, not ssh-ed25519", other.as_str())),
    }
}

fn alias(root: &Root) -> String {
    match host::machine::serial(root) {
        Some(serial) => format!("lifeboat-{serial}"),
        None => "lifeboat".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> (tempfile::TempDir, Settings, Root) {
        let dir = tempfile::tempdir().unwrap();
        for path in ["run/lifeboat/sshd", "etc/ssh"] {
            std::fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        let settings = Settings { prefix: dir.path().to_path_buf(), ..Settings::default() };
        let root = settings.root().unwrap();
        (dir, settings, root)
    }

    fn fresh(settings: &Settings, root: &Root) -> Identity {
        establish(settings, root, &state::Sshd::default(), None).unwrap()
    }

    fn installed(key: Option<&PrivateKey>, rsa: Option<&PrivateKey>) -> installed::Keys {
        let text = |key: &PrivateKey| key.to_openssh(LineEnding::LF).unwrap().to_string();
        installed::Keys {
            place: "/dev/md2 (db1)".into(),
            ed25519: key.map(text),
            rsa: rsa.map(text),
            notes: Vec::new(),
        }
    }

    #[test]
    fn the_installed_system_s_key_is_served_and_kept_over_a_restart() {
        let (_dir, settings, root) = machine();
        assert!(is_open(&root));
        let key = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap();
        let identity =
            establish(&settings, &root, &state::Sshd::default(), Some(&installed(Some(&key), None))).unwrap();
        assert_eq!(identity.line, two_fields(key.public_key()).unwrap());
        assert_eq!((identity.origin.as_str(), identity.system.as_str()), ("installed", "/dev/md2 (db1)"));
        assert!(!is_open(&root), "and is not looked for again");
        let before =
            state::Sshd { origin: identity.origin, system: identity.system, ..state::Sshd::default() };
        let again = establish(&settings, &root, &before, None).unwrap();
        assert_eq!((again.line, again.origin.as_str()), (identity.line, "installed"));
    }

    #[test]
    fn an_old_system_s_rsa_key_is_served_beside_a_fresh_one_and_that_is_said() {
        let (_dir, settings, root) = machine();
        let pair = RsaKeypair::random(&mut safe_rng(), 2048).unwrap();
        let rsa = PrivateKey::new(pair.into(), "").unwrap();
        let keys = installed(None, Some(&rsa));
        let identity = establish(&settings, &root, &state::Sshd::default(), Some(&keys)).unwrap();
        assert_eq!(identity.origin, "fresh");
        assert!(identity.problems[0].contains("no ed25519 host key"), "{:?}", identity.problems);
        assert_eq!(rsa_line(&root), two_fields(rsa.public_key()).ok());
        assert!(load_rsa(&root).is_some());
    }

    #[test]
    fn a_restart_keeps_the_key_and_the_alias() {
        let (_dir, settings, root) = machine();
        let first = fresh(&settings, &root);
        let before = state::Sshd { alias: "lifeboat-X1".into(), ..state::Sshd::default() };
        let again = establish(&settings, &root, &before, None).unwrap();
        assert_eq!(first.line, again.line);
        assert_eq!(first.line.split(' ').count(), 2);
        assert_eq!((first.alias.as_str(), again.alias.as_str()), ("lifeboat", "lifeboat-X1"));
        assert!(first.fingerprint.starts_with("SHA256:"));
    }

    /// The takeover hands on host keys by the contract's rule, before there is an sshd to ask.
    #[test]
    fn what_the_contract_says_is_served_is_what_is_served_here() {
        use base64::Engine as _;
        use base64::engine::general_purpose::STANDARD;
        use contract::host_keys::{Kind, served};
        let cases: [(&str, &[&str], Option<Kind>); 12] = [
            ("ed25519", &["-t", "ed25519"], Some(Kind::Ed25519)),
            ("ed25519, with a passphrase", &["-t", "ed25519", "-N", "secret"], None),
            ("ecdsa", &["-t", "ecdsa"], None),
            ("ecdsa, PEM", &["-t", "ecdsa", "-m", "PEM"], None),
            ("ecdsa, PKCS#8", &["-t", "ecdsa", "-m", "PKCS8"], None),
            ("rsa", &["-t", "rsa", "-b", "2048"], Some(Kind::Rsa)),
            ("rsa, PEM", &["-t", "rsa", "-b", "2048", "-m", "PEM"], Some(Kind::Rsa)),
            ("rsa, PKCS#8", &["-t", "rsa", "-b", "2048", "-m", "PKCS8"], Some(Kind::Rsa)),
            ("rsa of 1024", &["-t", "rsa", "-b", "1024"], None),
            ("rsa of 1024, PEM", &["-t", "rsa", "-b", "1024", "-m", "PEM"], None),
            ("rsa, with a passphrase", &["-t", "rsa", "-b", "2048", "-N", "secret"], None),
            ("rsa, PEM with a passphrase", &["-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "secret"], None),
        ];
        for (label, arguments, wanted) in cases {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("key");
            let mut keygen = std::process::Command::new("ssh-keygen");
            if !arguments.contains(&"-N") {
                keygen.args(["-N", ""]);
            }
            assert!(keygen.arg("-q").args(arguments).arg("-f").arg(&path).status().unwrap().success());
            let text = std::fs::read_to_string(&path).unwrap();
            let said = served(&text, &|text| STANDARD.decode(text).ok());
            assert_eq!(said.as_ref().ok().map(|said| said.kind), wanted, "{label}: {said:?}");
            let here = [(parse(&text).ok(), Kind::Ed25519), (installed::rsa(&text).ok(), Kind::Rsa)];
            let here = here.into_iter().find_map(|(key, kind)| Some((key?, kind)));
            assert_eq!(here.as_ref().map(|(_, kind)| *kind), wanted, "{label}");
            if let (Ok(said), Some((key, _))) = (said, here) {
                assert_eq!(said.public, key.public_key().to_bytes().unwrap(), "{label}");
            }
        }
    }

    #[test]
    fn what_the_contract_says_is_offered_is_what_is_offered_here() {
        use base64::Engine as _;
        use base64::engine::general_purpose::STANDARD;
        let (dir, _, root) = machine();
        let place = |name: &str| dir.path().join("etc/ssh").join(name);
        let keygen = |arguments: &[&str], path: &std::path::Path| {
            let status =
                std::process::Command::new("ssh-keygen").arg("-q").args(arguments).arg(path).status();
            assert!(status.unwrap().success(), "{arguments:?}");
        };
        let rsa = &["-t", "rsa", "-b", "2048", "-N", "", "-f"];
        let ed25519 = &["-t", "ed25519", "-N", "", "-f"];
        let kinds = [("own", &ed25519[..]), ("other", ed25519), ("rsa", rsa), ("authority", ed25519)];
        for (name, arguments) in kinds {
            keygen(arguments, &place(name));
        }
        let key = PrivateKey::from_openssh(std::fs::read_to_string(place("own")).unwrap()).unwrap();
        let public = key.public_key().to_bytes().unwrap();
        let authority = place("authority").display().to_string();
        let sign = |more: &[&str], name: &str| {
            keygen(
                &[&["-s", &authority, "-I", "db1", "-n", "db1"], more].concat(),
                &place(&format!("{name}.pub")),
            );
            std::fs::read_to_string(place(&format!("{name}-cert.pub"))).unwrap()
        };
        let good = sign(&["-h"], "own");
        let mut blob = STANDARD.decode(good.split(' ').nth(1).unwrap()).unwrap();
        blob.push(0);
        let longer = format!("ssh-ed25519-cert-v01@openssh.com {}", STANDARD.encode(&blob));
        let cut = format!("ssh-ed25519-cert-v01@openssh.com {}", STANDARD.encode(&blob[..blob.len() - 9]));
        let cases = [
            ("of the host", good.clone(), true),
            ("expired", sign(&["-h", "-V", "20200101:20200102"], "own"), true),
            ("of a user", sign(&[], "own"), false),
            ("of another key", sign(&["-h"], "other"), false),
            ("of an RSA key", sign(&["-h"], "rsa"), false),
            ("a key", std::fs::read_to_string(place("own.pub")).unwrap(), false),
            ("longer than it is", longer, false),
            ("cut", cut, false),
            ("garbage", "garbage".to_string(), false),
        ];
        for (label, text, wanted) in cases {
            std::fs::write(dir.path().join(CERTIFICATE.trim_start_matches('/')), &text).unwrap();
            let here = certificate(&root, &key);
            let said = contract::host_keys::certificate(&text, &public, &|text| STANDARD.decode(text).ok());
            assert_eq!(
                (said.is_ok(), matches!(here, Ok(Some(_)))),
                (wanted, wanted),
                "{label}: {said:?} {here:?}"
            );
        }
    }

    #[test]
    fn two_boots_have_two_keys() {
        let (_a, settings_a, root_a) = machine();
        let (_b, settings_b, root_b) = machine();
        let line = |settings, root| fresh(settings, root).line;
        assert_ne!(line(&settings_a, &root_a), line(&settings_b, &root_b));
    }

    #[test]
    fn an_injected_key_wins_and_a_bad_one_is_named() {
        let (dir, settings, root) = machine();
        let before = fresh(&settings, &root);
        let injected = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap();
        let text = injected.to_openssh(LineEnding::LF).unwrap();
        std::fs::write(dir.path().join(INJECTED.trim_start_matches('/')), text.as_bytes()).unwrap();
        let identity = fresh(&settings, &root);
        assert_ne!(identity.line, before.line);
        assert_eq!(load_ed25519(&root).unwrap().public_key().key_data(), injected.public_key().key_data());
        std::fs::write(dir.path().join(INJECTED.trim_start_matches('/')), "garbage").unwrap();
        let problem = fresh(&settings, &root).problems;
        assert!(problem[0].contains("is not a private key"), "{problem:?}");
    }

    #[test]
    fn an_injected_rsa_key_is_served_and_a_bad_one_is_named() {
        let (dir, settings, root) = machine();
        let place = dir.path().join(INJECTED_RSA.trim_start_matches('/'));
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        let pair = RsaKeypair::random(&mut safe_rng(), 2048).unwrap();
        let key = PrivateKey::new(pair.into(), "").unwrap();
        std::fs::write(&place, key.to_openssh(LineEnding::LF).unwrap().as_bytes()).unwrap();
        assert_eq!(fresh(&settings, &root).problems, [""; 0]);
        make_rsa(&settings).unwrap();
        assert_eq!(rsa_line(&root), Some(two_fields(key.public_key()).unwrap()));
        std::fs::write(&place, "garbage").unwrap();
        let problems = fresh(&settings, &root).problems;
        assert!(
            problems[0].contains(INJECTED_RSA) && problems[0].contains("a fresh one is used"),
            "{problems:?}"
        );
    }
}
