//! What a client proves: the monitor's own look at a `publickey` request (RFC 4252, section 7). The
//! transport has verified it too, but the transport talks to strangers. The session identifier, which
//! makes a signature worthless anywhere else, is known here because the host key signs here: it is
//! the first hash that was signed.

use russh::keys::Certificate;
use russh::keys::ssh_key::encoding::Decode;
use russh::keys::ssh_key::public::KeyData;
use russh::keys::ssh_key::{Algorithm, PublicKey, Signature};
use signature::Verifier;
use std::fmt;

/// SSH_MSG_USERAUTH_REQUEST
const REQUEST: u8 = 50;
/// Before the address in the names of OpenSSH's certificates.
const CERTIFICATE: &str = "-cert-v01";
/// What follows the signature of a key in hardware: flags and a counter (PROTOCOL.u2f).
const TRAILER: usize = 5;

/// A key that somebody wants to log in with, bare or in a certificate.
pub enum Offer {
    Key(PublicKey),
    Certificate(Box<Certificate>),
}

impl Offer {
    /// By the names that requests use.
    pub fn parse(algorithm: &str, mut blob: &[u8]) -> Result<Offer, Unproved> {
        if algorithm.contains(CERTIFICATE) {
            let certificate = Certificate::from_bytes(blob).map_err(|_| Unproved("certificate"))?;
            return Ok(Offer::Certificate(Box::new(certificate)));
        }
        let key = KeyData::decode(&mut blob).map_err(|_| Unproved("key"))?;
        // A certificate under another name would escape what is asked of certificates.
        if matches!(key, KeyData::Certificate(_)) {
            return Err(Unproved("key"));
        }
        Ok(Offer::Key(key.into()))
    }

    pub fn key(&self) -> &KeyData {
        match self {
            Offer::Key(key) => key.key_data(),
            Offer::Certificate(certificate) => certificate.public_key(),
        }
    }

    /// A key in a device of its own, which tells whether somebody touched it.
    pub fn is_in_hardware(&self) -> bool {
        matches!(self.key().algorithm(), Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256)
    }
}

/// A request whose signature is right.
pub struct Proof {
    pub user: String,
    pub offer: Offer,
    /// Of a key in hardware.
    pub flags: Option<u8>,
}

/// What of a request is wrong.
#[derive(Debug)]
pub struct Unproved(&'static str);

impl fmt::Display for Unproved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} of the request is wrong", self.0)
    }
}

pub fn check(session: &[u8], signed: &[u8], signature: &[u8]) -> Result<Proof, Unproved> {
    let mut rest = signed;
    if string(&mut rest)? != session || session.is_empty() {
        return Err(Unproved("session"));
    }
    rest = rest.strip_prefix(&[REQUEST]).ok_or(Unproved("kind"))?;
    let user = text(&mut rest)?.to_string();
    if text(&mut rest)? != "ssh-connection" || text(&mut rest)? != "publickey" {
        return Err(Unproved("kind"));
    }
    rest = rest.strip_prefix(&[1]).ok_or(Unproved("kind"))?;
    let algorithm = text(&mut rest)?;
    let offer = Offer::parse(algorithm, string(&mut rest)?)?;
    if !rest.is_empty() {
        return Err(Unproved("length"));
    }
    let signature = Signature::try_from(signature).map_err(|_| Unproved("signature"))?;
    // RFC 8332, section 3; and the same key may sign with SHA-1, which proves nothing any more.
    let expected = Algorithm::new(&plain(algorithm)).map_err(|_| Unproved("algorithm"))?;
    if signature.algorithm() != expected || matches!(expected, Algorithm::Rsa { hash: None }) {
        return Err(Unproved("algorithm"));
    }
    offer.key().verify(signed, &signature).map_err(|_| Unproved("signature"))?;
    let flags = if offer.is_in_hardware() {
        let bytes = signature.as_bytes();
        Some(*bytes.len().checked_sub(TRAILER).and_then(|at| bytes.get(at)).ok_or(Unproved("signature"))?)
    } else {
        None
    };
    Ok(Proof { user, offer, flags })
}

/// The signature's name for a request's: `ssh-ed25519-cert-v01@openssh.com` signs as `ssh-ed25519`, but
/// `sk-ssh-ed25519-cert-v01@openssh.com` as `sk-ssh-ed25519@openssh.com`.
fn plain(algorithm: &str) -> String {
    match algorithm.split_once(CERTIFICATE) {
        Some((name, address)) if name.starts_with("sk-") => format!("{name}{address}"),
        Some((name, _)) => name.to_string(),
        None => algorithm.to_string(),
    }
}

fn string<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Unproved> {
    let (length, tail) = rest.split_first_chunk::<4>().ok_or(Unproved("length"))?;
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| Unproved("length"))?;
    let (bytes, tail) = tail.split_at_checked(length).ok_or(Unproved("length"))?;
    *rest = tail;
    Ok(bytes)
}

fn text<'a>(rest: &mut &'a [u8]) -> Result<&'a str, Unproved> {
    std::str::from_utf8(string(rest)?).map_err(|_| Unproved("text"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use russh::keys::{PrivateKey, key::safe_rng};
    use signature::Signer;

    fn request(session: &[u8], user: &str, algorithm: &str, key: &PublicKey) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut put = |field: &[u8]| {
            bytes.extend_from_slice(&u32::try_from(field.len()).unwrap().to_be_bytes());
            bytes.extend_from_slice(field);
            bytes.len()
        };
        let at = put(session);
        for field in [user, "ssh-connection", "publickey"] {
            put(field.as_bytes());
        }
        put(algorithm.as_bytes());
        put(&key.to_bytes().unwrap());
        bytes.insert(at, REQUEST);
        let at = at + 1 + 4 + user.len() + 4 + 14 + 4 + 9;
        bytes.insert(at, 1);
        bytes
    }

    #[test]
    fn a_signature_counts_for_its_own_session_and_user() {
        let key = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap();
        let signed = request(b"session", "root", "ssh-ed25519", key.public_key());
        let signature: Vec<u8> = key.try_sign(&signed).unwrap().try_into().unwrap();
        let proof = check(b"session", &signed, &signature).unwrap();
        assert_eq!((proof.user.as_str(), proof.flags), ("root", None));
        assert_eq!(proof.offer.key(), key.public_key().key_data());
        let why = |session: &[u8], signed: &[u8], signature: &[u8]| {
            check(session, signed, signature).err().map(|Unproved(what)| what)
        };
        assert_eq!(why(b"another", &signed, &signature), Some("session"));
        assert_eq!(why(b"", &signed, &signature), Some("session"));
        let other = request(b"session", "toor", "ssh-ed25519", key.public_key());
        assert_eq!(why(b"session", &other, &signature), Some("signature"));
        let renamed = request(b"session", "root", "rsa-sha2-512", key.public_key());
        assert_eq!(why(b"session", &renamed, &signature), Some("algorithm"));
        for length in 0..signed.len() {
            assert!(check(b"session", &signed[..length], &signature).is_err(), "{length}");
        }
        for length in 0..signature.len() {
            assert!(check(b"session", &signed, &signature[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn a_signature_by_sha1_proves_nothing() {
        assert_eq!(plain("ssh-ed25519-cert-v01@openssh.com"), "ssh-ed25519");
        assert_eq!(plain("sk-ssh-ed25519-cert-v01@openssh.com"), "sk-ssh-ed25519@openssh.com");
        assert_eq!(plain("rsa-sha2-256"), "rsa-sha2-256");
        let key = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap();
        let signed = request(b"s", "root", "ssh-rsa", key.public_key());
        let mut signature = vec![0, 0, 0, 7];
        signature.extend_from_slice(b"ssh-rsa\0\0\0\x01x");
        assert!(matches!(check(b"s", &signed, &signature), Err(Unproved("algorithm"))));
    }

    #[test]
    fn a_key_in_hardware_tells_whether_it_was_touched() {
        use russh::keys::ssh_key::public::SkEd25519;
        use russh::keys::ssh_key::sha2::{Digest, Sha256};
        let device = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap();
        let inner = *device.public_key().key_data().ed25519().unwrap();
        let key = PublicKey::from(KeyData::SkEd25519(SkEd25519::new(inner, "ssh:")));
        let name = "sk-ssh-ed25519@openssh.com";
        let signed = request(b"s", "root", name, &key);
        for flags in [0, 1, 5] {
            // PROTOCOL.u2f, "U2F signatures".
            let trailer = [flags, 0, 0, 0, 9];
            let mut message = Sha256::digest("ssh:").to_vec();
            message.extend_from_slice(&trailer);
            message.extend_from_slice(&Sha256::digest(&signed));
            let inner = device.try_sign(&message).unwrap();
            let bytes = [inner.as_bytes(), &trailer].concat();
            let signature: Vec<u8> = Signature::new(Algorithm::SkEd25519, bytes).unwrap().try_into().unwrap();
            assert_eq!(check(b"s", &signed, &signature).unwrap().flags, Some(flags));
            let mut lies = signature.clone();
            let at = lies.len() - TRAILER;
            lies[at] ^= 1;
            assert!(check(b"s", &signed, &lies).is_err(), "the flags are signed");
        }
    }
}
