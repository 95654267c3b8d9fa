//! The host key of this boot: the one that an operator injected at OpenSSH's own path, else a fresh
//! ed25519 key, kept below /run/lifeboat over restarts of the listener.

use crate::settings::Settings;
use crate::wire::Sha;
use anyhow::{Context, Result, bail};
use contract::paths;
use host::Root;
use russh::keys::ssh_key::{Algorithm, HashAlg, LineEnding};
use russh::keys::{PrivateKey, key::safe_rng};
use signature::Signer;
use std::io;

/// OpenSSH's path, injected by an appended cpio or by iPXE.
pub const INJECTED: &str = "/etc/ssh/ssh_host_ed25519_key";

pub struct Identity {
    /// `ssh-ed25519 AAAA...`
    pub line: String,
    /// `SHA256:...`
    pub fingerprint: String,
    /// `lifeboat-SERIAL`
    pub alias: String,
    /// Why an injected key was not taken.
    pub problem: Option<String>,
}

/// Makes sure that [`paths::HOST_KEY`] holds the host key. `alias` is the one told before, if any.
pub fn establish(settings: &Settings, root: &Root, alias: &str) -> Result<Identity> {
    let (injected, problem) = match root.read_text(INJECTED) {
        Ok(text) => match parse(&text) {
            Ok(key) => (Some(key), None),
            Err(reason) => (None, Some(format!("{INJECTED}: {reason}: a fresh host key is used"))),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => (None, None),
        Err(error) => (None, Some(format!("{INJECTED}: {error}: a fresh host key is used"))),
    };
    let key = match injected.or_else(|| load_ed25519(root).ok()) {
        Some(key) => key,
        None => PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).context("make a host key")?,
    };
    let text = key.to_openssh(LineEnding::LF).context("encode the host key")?;
    let path = settings.path(paths::HOST_KEY);
    host::statefile::replace(&path, text.as_bytes(), 0o600)
        .with_context(|| format!("write {}", path.display()))?;
    let public = key.public_key();
    let mut line = public.to_openssh().context("encode the public key")?;
    // Two fields: a comment is no part of a known_hosts line.
    if let Some((end, _)) = line.match_indices(' ').nth(1) {
        line.truncate(end);
    }
    Ok(Identity {
        line,
        fingerprint: public.fingerprint(HashAlg::Sha256).to_string(),
        alias: if alias.is_empty() { self::alias(root) } else { alias.to_string() },
        problem,
    })
}

/// What a connection is welcomed with.
pub struct HostKeys {
    ed25519: PrivateKey,
    /// Of OpenSSH's format.
    pub certificate: Option<String>,
}

impl HostKeys {
    /// Public lines of OpenSSH.
    pub fn lines(&self) -> Result<Vec<String>> {
        Ok(vec![self.ed25519.public_key().to_openssh().context("encode the public key")?])
    }

    /// A signature as it is sent, by the key with this public part.
    pub fn sign(&self, key: &[u8], sha: Sha, hash: &[u8]) -> Result<Vec<u8>> {
        match sha {
            Sha::None if self.ed25519.public_key().to_bytes()? == key => {
                let signature = self.ed25519.try_sign(hash).context("sign")?;
                Ok(signature.try_into().context("encode a signature")?)
            }
            Sha::None | Sha::Sha256 | Sha::Sha512 => bail!("no such host key"),
        }
    }
}

/// The host keys of this boot.
pub fn load(root: &Root) -> Result<HostKeys> {
    Ok(HostKeys { ed25519: load_ed25519(root)?, certificate: None })
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

    #[test]
    fn a_restart_keeps_the_key_and_the_alias() {
        let (_dir, settings, root) = machine();
        let first = establish(&settings, &root, "").unwrap();
        let again = establish(&settings, &root, "lifeboat-X1").unwrap();
        assert_eq!(first.line, again.line);
        assert_eq!(first.line.split(' ').count(), 2);
        assert_eq!((first.alias.as_str(), again.alias.as_str()), ("lifeboat", "lifeboat-X1"));
        assert!(first.fingerprint.starts_with("SHA256:"));
    }

    #[test]
    fn two_boots_have_two_keys() {
        let (_a, settings_a, root_a) = machine();
        let (_b, settings_b, root_b) = machine();
        let line = |settings, root| establish(settings, root, "").unwrap().line;
        assert_ne!(line(&settings_a, &root_a), line(&settings_b, &root_b));
    }

    #[test]
    fn an_injected_key_wins_and_a_bad_one_is_named() {
        let (dir, settings, root) = machine();
        let fresh = establish(&settings, &root, "").unwrap();
        let injected = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap();
        let text = injected.to_openssh(LineEnding::LF).unwrap();
        std::fs::write(dir.path().join(INJECTED.trim_start_matches('/')), text.as_bytes()).unwrap();
        let identity = establish(&settings, &root, "").unwrap();
        assert_ne!(identity.line, fresh.line);
        assert_eq!(load_ed25519(&root).unwrap().public_key().key_data(), injected.public_key().key_data());
        std::fs::write(dir.path().join(INJECTED.trim_start_matches('/')), "garbage").unwrap();
        let problem = establish(&settings, &root, "").unwrap().problem.unwrap();
        assert!(problem.contains("is not a private key"), "{problem}");
    }
}
