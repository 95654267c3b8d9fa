//! A host's private key and its certificate as they lie in files, before they are handed to the rescue: whether the rescue's sshd serves them. That sshd
//! decides by keys that it has parsed; a test there holds both verdicts together. PROTOCOL.key of OpenSSH; PEM is RSA's
//! (RFC 8017, A.1.2; RFC 5208), as ssh-keygen wrote it before version 7.8.

use crate::authorized_keys::{bits, field};
use crate::text::Untrusted;
use std::ops::RangeInclusive;

/// Bits of an RSA key that is served: fewer are what ssh-audit fails; more takes seconds for each login.
pub const RSA_BITS: RangeInclusive<u32> = 2048..=8192;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Ed25519,
    Rsa,
}

/// A key that is served. Nothing of it is secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    pub kind: Kind,
    /// As RFC 4253, section 6.6 has it.
    pub public: Vec<u8>,
}

/// What is served of a file's text. `decode` is base64's decoder. The error completes "PATH ", and repeats nothing of the key.
pub fn served(text: &str, decode: &dyn Fn(&str) -> Option<Vec<u8>>) -> Result<Served, String> {
    let none = || "is no private key that can be read".to_string();
    let public = public(text, decode)?;
    let mut rest = &public[..];
    match (field(&mut rest), field(&mut rest), field(&mut rest)) {
        (Some(b"ssh-ed25519"), Some(_), None) => Ok(Served { kind: Kind::Ed25519, public }),
        (Some(b"ssh-rsa"), Some(_), Some(modulus)) => match bits(modulus).ok_or_else(none)? {
            bits if RSA_BITS.contains(&bits) => Ok(Served { kind: Kind::Rsa, public }),
            bits => Err(format!(
                "is an RSA key of {bits} bits, and those of {} to {} are served",
                RSA_BITS.start(),
                RSA_BITS.end()
            )),
        },
        (Some(kind), _, _) => Err(format!("is of type {}", kind.escape_ascii())),
        (None, _, _) => Err(none()),
    }
}

/// The public key of a private one's text, of whatever type, as [`Served::public`]. The error as of [`served`].
pub fn public(text: &str, decode: &dyn Fn(&str) -> Option<Vec<u8>>) -> Result<Vec<u8>, String> {
    let none = || "is no private key that can be read".to_string();
    let (label, lines) = armoured(text).ok_or_else(none)?;
    // Headers of RFC 1421: `Proc-Type: 4,ENCRYPTED`.
    if label == "ENCRYPTED PRIVATE KEY" || lines.iter().any(|line| line.contains("ENCRYPTED")) {
        return Err("has a passphrase".to_string());
    }
    let bytes = decode(&lines.concat()).ok_or_else(none)?;
    let public = match label {
        "OPENSSH PRIVATE KEY" => of_openssh(&bytes).ok_or_else(none)?,
        "RSA PRIVATE KEY" => Some(of_pkcs1(&bytes).ok_or_else(none)?),
        "PRIVATE KEY" => Some(of_pkcs8(&bytes).ok_or("is PEM of another type than RSA")?),
        _ => return Err(format!("is of the form {label}")),
    };
    public.ok_or_else(|| "has a passphrase".to_string())
}

/// The line of a certificate (PROTOCOL.certkeys) that sshd offers for the host key `public`, which has to be the ed25519 key. The
/// error completes "PATH ".
pub fn certificate<'a>(
    text: &'a str,
    public: &[u8],
    decode: &dyn Fn(&str) -> Option<Vec<u8>>,
) -> Result<&'a str, String> {
    const ED25519: &str = "ssh-ed25519-cert-v01@openssh.com";
    /// SSH_CERT_TYPE_HOST
    const HOST: u32 = 2;
    let none = || "is not a certificate of OpenSSH".to_string();
    let (line, kind, blob) = line_of(text).ok_or_else(none)?;
    if kind != ED25519 {
        return Err(format!("is of type {}, and that of the ed25519 key alone is offered", Untrusted(kind)));
    }
    let blob = decode(blob).ok_or_else(none)?;
    let (key, of_whom) = of_blob(&blob, kind, 1).ok_or_else(none)?;
    let mut rest = public;
    if of_whom != HOST {
        return Err("is not the certificate of a host".to_string());
    }
    if (field(&mut rest), rest) != (Some(b"ssh-ed25519"), key) {
        return Err("is the certificate of another key than the one that is handed on".to_string());
    }
    Ok(line)
}

/// The key that a whole certificate is of, whatever its type, as [`Served::public`]. OpenSSH's sshd offers one of no other key than
/// its own.
pub fn certified(text: &str, decode: &dyn Fn(&str) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    let (_line, kind, blob) = line_of(text)?;
    let plain = kind.strip_suffix("-cert-v01@openssh.com")?;
    let fields = match plain {
        "ssh-ed25519" => 1,
        // Exponent and modulus.
        "ssh-rsa" => 2,
        // Curve and point.
        "ecdsa-sha2-nistp256" | "ecdsa-sha2-nistp384" | "ecdsa-sha2-nistp521" => 2,
        _ => return None,
    };
    let blob = decode(blob)?;
    let (key, _of_whom) = of_blob(&blob, kind, fields)?;
    let length = u32::try_from(plain.len()).ok()?;
    Some([&length.to_be_bytes(), plain.as_bytes(), key].concat())
}

/// The line of a certificate's file that counts, its type, and what it says in base64.
fn line_of(text: &str) -> Option<(&str, &str, &str)> {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'))?;
    let mut words = line.split_ascii_whitespace();
    let kind = words.next().filter(|kind| kind.contains("-cert-v0"))?;
    Some((line, kind, words.next()?))
}

/// The so many fields of the key of a whole certificate, and whose it is.
fn of_blob<'a>(blob: &'a [u8], kind: &str, fields: usize) -> Option<(&'a [u8], u32)> {
    let mut rest = blob;
    let (said, _nonce) = (field(&mut rest)?, field(&mut rest)?);
    (said == kind.as_bytes()).then_some(())?;
    let key = rest;
    for _ in 0..fields {
        field(&mut rest)?;
    }
    let key = key.strip_suffix(rest)?;
    let (_serial, more) = rest.split_first_chunk::<8>()?;
    let (of_whom, more) = more.split_first_chunk()?;
    rest = more;
    let (_id, _principals) = (field(&mut rest)?, field(&mut rest)?);
    let (_validity, more) = rest.split_first_chunk::<16>()?;
    rest = more;
    // Critical options, extensions, what is reserved, the authority's key, its signature.
    for _ in 0..5 {
        field(&mut rest)?;
    }
    rest.is_empty().then_some((key, u32::from_be_bytes(*of_whom)))
}

/// The label of the first key, and the lines of it.
fn armoured(text: &str) -> Option<(&str, Vec<&str>)> {
    let mut lines = text.lines().map(str::trim);
    let label = lines.find_map(|line| line.strip_prefix("-----BEGIN ")?.strip_suffix("-----"))?;
    Some((label, lines.take_while(|line| !line.starts_with("-----END ")).collect()))
}

/// The public key; `None` in it where there is a passphrase.
fn of_openssh(bytes: &[u8]) -> Option<Option<Vec<u8>>> {
    let mut rest = bytes.strip_prefix(b"openssh-key-v1\0")?;
    let cipher = field(&mut rest)?;
    let (_derivation, _its_options) = (field(&mut rest)?, field(&mut rest)?);
    let mut keys = rest.strip_prefix(&1_u32.to_be_bytes())?;
    let public = field(&mut keys)?;
    Some((cipher == b"none").then(|| public.to_vec()))
}

/// RSAPrivateKey, which is a version, the modulus and the public exponent, and the secret rest.
fn of_pkcs1(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut rest = element(&mut &*bytes, 0x30)?;
    element(&mut rest, 2)?;
    let (modulus, exponent) = (element(&mut rest, 2)?, element(&mut rest, 2)?);
    // INTEGER and mpint are the same digits.
    let fields = [b"ssh-rsa", exponent, modulus].map(|field| {
        let length = u32::try_from(field.len()).ok()?;
        Some([&length.to_be_bytes(), field].concat())
    });
    fields.into_iter().collect::<Option<Vec<_>>>().map(|fields| fields.concat())
}

/// PrivateKeyInfo, which is a version, the algorithm and a RSAPrivateKey.
fn of_pkcs8(bytes: &[u8]) -> Option<Vec<u8>> {
    /// rsaEncryption (RFC 8017, appendix C).
    const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
    let mut rest = element(&mut &*bytes, 0x30)?;
    element(&mut rest, 2)?;
    let mut algorithm = element(&mut rest, 0x30)?;
    (element(&mut algorithm, 6)? == RSA).then_some(())?;
    of_pkcs1(element(&mut rest, 4)?)
}

/// The content of the next element of DER, where it has this tag.
fn element<'a>(rest: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let [first, length, more @ ..] = rest else { return None };
    let (length, more) = match *length {
        short @ ..=0x7f => (usize::from(short), more),
        // Two bytes of a length are 64 KiB.
        0x81 => (usize::from(*more.first()?), &more[1..]),
        0x82 => (usize::from(u16::from_be_bytes(*more.first_chunk()?)), &more[2..]),
        _ => return None,
    };
    let (content, more) = more.split_at_checked(length)?;
    *rest = more;
    (*first == tag).then_some(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(bytes: &[u8]) -> Vec<u8> {
        [&u32::to_be_bytes(bytes.len() as u32), bytes].concat()
    }

    fn text(label: &str) -> String {
        format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n")
    }

    #[test]
    fn a_key_cut_anywhere_is_none_and_no_panic() {
        let modulus = [vec![0], vec![0xff; 256]].concat();
        let public = [b"ssh-rsa", &[1, 0, 1][..], &modulus].map(string).concat();
        let one = 1_u32.to_be_bytes().to_vec();
        let new = [b"openssh-key-v1\0".to_vec(), string(b"none"), string(b"none"), string(b""), one];
        let new = [new.concat(), string(&public)].concat();
        let integer =
            |digits: &[u8]| [&[2, 0x82], &u16::to_be_bytes(digits.len() as u16)[..], digits].concat();
        let inner = [integer(&[0]), integer(&modulus), integer(&[1, 0, 1])].concat();
        let old = [&[0x30, 0x82], &u16::to_be_bytes(inner.len() as u16)[..], &inner].concat();
        for (label, bytes) in [("OPENSSH PRIVATE KEY", new), ("RSA PRIVATE KEY", old)] {
            let of = |bytes: &[u8]| served(&text(label), &|_| Some(bytes.to_vec()));
            assert_eq!(of(&bytes), Ok(Served { kind: Kind::Rsa, public: public.clone() }), "{label}");
            for cut in 0..bytes.len() {
                assert!(of(&bytes[..cut]).is_err(), "{label} {cut}");
            }
        }
    }

    #[test]
    fn what_is_no_key_is_named_and_not_repeated() {
        for (text, wanted) in [
            (String::new(), "no private key"),
            ("hunter2".into(), "no private key"),
            (text("ENCRYPTED PRIVATE KEY"), "passphrase"),
            (text("EC PRIVATE KEY"), "of the form EC PRIVATE KEY"),
            (text("OPENSSH PRIVATE KEY"), "no private key"),
        ] {
            let said = served(&text, &|_| Some(vec![0; 3])).unwrap_err();
            assert!(said.contains(wanted) && !said.contains("hunter2"), "{said}");
        }
    }
}
