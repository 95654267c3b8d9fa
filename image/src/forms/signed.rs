//! An EFI program with the operator's signature, as Secure Boot asks for it: Authenticode, of Microsoft's "Windows Authenticode
//! Portable Executable Signature Format" (2008). openssl signs, and the private key stays with it; here are the hash of the
//! program, what of it is signed, and where the signature goes.

use super::pe::{Header, number, put};
use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Whose signature.
#[derive(Clone, Debug)]
pub struct Signer {
    /// In PEM, as the machine has it enrolled, or issued by what it has enrolled.
    pub certificate: PathBuf,
    /// Its private key, in PEM. A passphrase is asked for on the terminal.
    pub key: PathBuf,
}

/// Of the optional header of PE32+: the entry of the data directories that names the signatures.
const SIGNATURES: usize = 112 + 4 * 8;
/// Of the same: the sum, which the hash leaves out, too.
const SUM: usize = 64;
/// Signatures begin at a multiple of it.
const BOUNDARY: usize = 8;
/// WIN_CERTIFICATE: length, then revision 2.0 and the type WIN_CERT_TYPE_PKCS_SIGNED_DATA.
const ENVELOPE: [u8; 4] = [0x00, 0x02, 0x02, 0x00];

/// SPC_INDIRECT_DATA_OBJID, which openssl is told in figures.
const INDIRECT: &str = "1.3.6.1.4.1.311.2.1.4";
/// SPC_PE_IMAGE_DATAOBJ, 1.3.6.1.4.1.311.2.1.15.
const IMAGE_DATA: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x02, 0x01, 0x0f];
/// 2.16.840.1.101.3.4.2.1.
const SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];

const SEQUENCE: u8 = 0x30;
const OID: u8 = 0x06;
const BITS: u8 = 0x03;
const OCTETS: u8 = 0x04;
const NULL: u8 = 0x05;
const INTEGER: u8 = 0x02;
/// Context-specific and constructed, number 0.
const FIRST: u8 = 0xa0;

/// The program with one signature; one that has any is refused.
pub fn sign(mut file: Vec<u8>, signer: &Signer, openssl: &Path) -> Result<Vec<u8>> {
    let entry = Header::read(&file)?.optional + SIGNATURES;
    ensure!(number(&file, entry + 4)? == 0, "the program has a signature");
    file.resize(file.len().next_multiple_of(BOUNDARY), 0);
    let content = content(&digest(&file, entry)?);
    let scratch = tempfile::tempdir().context("make a directory")?;
    let (plain, detached) = (scratch.path().join("content"), scratch.path().join("signature"));
    fs::write(&plain, value(&content)?.1).context("write what is to be signed")?;
    let status = Command::new(openssl)
        .args([
            "cms",
            "-sign",
            "-binary",
            "-nosmimecap",
            "-md",
            "sha256",
            "-econtent_type",
            INDIRECT,
            "-outform",
            "DER",
        ])
        .arg("-in")
        .arg(&plain)
        .arg("-signer")
        .arg(&signer.certificate)
        .arg("-inkey")
        .arg(&signer.key)
        .arg("-out")
        .arg(&detached)
        .status()
        .context("start openssl")?;
    ensure!(status.success(), "openssl signed nothing: {status}");
    let detached = fs::read(&detached).context("read the signature")?;
    let mut signature = attached(&detached, &content).context("read openssl's signature")?;
    let length = u32::try_from(8 + signature.len())?;
    signature.resize(signature.len().next_multiple_of(BOUNDARY), 0);
    let place = u32::try_from(file.len())?;
    file.extend(length.to_le_bytes());
    file.extend(ENVELOPE);
    file.extend(&signature);
    put(&mut file, entry, place);
    put(&mut file, entry + 4, u32::try_from(8 + signature.len())?);
    Ok(file)
}

/// The hash of all but the sum, the entry of the signatures, and these.
fn digest(file: &[u8], entry: usize) -> Result<[u8; 32]> {
    let sum = entry - SIGNATURES + SUM;
    let mut hash = Sha256::new();
    for range in [0..sum, sum + 4..entry, entry + 8..file.len()] {
        hash.update(file.get(range).context("the PE header is cut")?);
    }
    Ok(hash.finalize().into())
}

/// SpcIndirectDataContent: that it is a program, with no word on where it lies, and its hash.
fn content(digest: &[u8; 32]) -> Vec<u8> {
    let nowhere = der(FIRST, &[der(0xa2, &[der(0x80, &[])])]);
    let program =
        der(SEQUENCE, &[der(OID, &[IMAGE_DATA.into()]), der(SEQUENCE, &[der(BITS, &[vec![0]]), nowhere])]);
    let algorithm = der(SEQUENCE, &[der(OID, &[SHA256.into()]), der(NULL, &[])]);
    der(SEQUENCE, &[program, der(SEQUENCE, &[algorithm, der(OCTETS, &[digest.into()])])])
}

/// CMS wraps what is signed in a string of octets, and PKCS #7, which Secure Boot reads, has it as it is: openssl's detached
/// signature of the content's octets is given the content. The version is that of PKCS #7; nothing of this is signed.
fn attached(detached: &[u8], content: &[u8]) -> Result<Vec<u8>> {
    let (_, outer, _) = element(detached)?;
    let (kind, signed) = split(outer)?;
    let (_, signed, _) = element(value(signed)?.1)?;
    let (_, rest) = split(signed)?;
    let (algorithms, rest) = split(rest)?;
    let (what, rest) = split(rest)?;
    let what = der(SEQUENCE, &[value(what)?.1.into(), der(FIRST, &[content.into()])]);
    let version = der(INTEGER, &[vec![1]]);
    let signed = der(SEQUENCE, &[version, algorithms.into(), what, rest.into()]);
    Ok(der(SEQUENCE, &[kind.into(), der(FIRST, &[signed])]))
}

/// An element of DER (X.690) of these parts.
fn der(tag: u8, parts: &[Vec<u8>]) -> Vec<u8> {
    let value = parts.concat();
    let mut all = vec![tag];
    match value.len() {
        short @ 0..=0x7f => all.push(short as u8),
        long => {
            let bytes = long.to_be_bytes();
            let bytes = &bytes[long.leading_zeros() as usize / 8..];
            all.push(0x80 | bytes.len() as u8);
            all.extend(bytes);
        }
    }
    all.extend(value);
    all
}

/// The first element of some: its tag, its value, and where the next begins.
fn element(bytes: &[u8]) -> Result<(u8, &[u8], usize)> {
    let cut = || "it is cut";
    let (tag, first) = (*bytes.first().with_context(cut)?, usize::from(*bytes.get(1).with_context(cut)?));
    let (length, start) = match first {
        0..=0x7f => (first, 2),
        0x81..=0x84 => {
            let digits = bytes.get(2..2 + (first & 0x7f)).with_context(cut)?;
            (digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit)), 2 + digits.len())
        }
        _ => anyhow::bail!("a length that is not of DER"),
    };
    Ok((tag, bytes.get(start..start + length).with_context(cut)?, start + length))
}

/// The same as tag and value.
fn value(bytes: &[u8]) -> Result<(u8, &[u8])> {
    element(bytes).map(|(tag, value, _)| (tag, value))
}

/// The first element whole, and what follows it.
fn split(bytes: &[u8]) -> Result<(&[u8], &[u8])> {
    let (_, _, end) = element(bytes)?;
    Ok(bytes.split_at(end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forms::pe;
    use std::process::Stdio;

    fn openssl(arguments: &[&str], directory: &Path) -> std::process::Output {
        let mut command = Command::new("openssl");
        command.args(arguments).current_dir(directory).stdin(Stdio::null()).output().unwrap()
    }

    #[test]
    fn what_is_signed_is_the_program_and_openssl_verifies_it() {
        if Command::new("openssl").arg("version").output().is_err() {
            assert!(std::env::var_os("CI").is_none(), "in CI a skip is a failure");
            eprintln!("SKIPPED: no openssl");
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let made = openssl(
            &[
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-subj",
                "/CN=operator",
                "-days",
                "2",
                "-keyout",
                "key.pem",
                "-out",
                "cert.pem",
            ],
            place.path(),
        );
        assert!(made.status.success(), "{made:?}");
        let signer = Signer { certificate: place.path().join("cert.pem"), key: place.path().join("key.pem") };
        let mut program = pe::tests::stub();
        program.extend(b"odd");
        let signed = sign(program.clone(), &signer, Path::new("openssl")).unwrap();
        assert!(sign(signed.clone(), &signer, Path::new("openssl")).is_err(), "a second one");

        let entry = Header::read(&signed).unwrap().optional + SIGNATURES;
        let (start, length) =
            (number(&signed, entry).unwrap() as usize, number(&signed, entry + 4).unwrap() as usize);
        assert_eq!((start % 8, start + length), (0, signed.len()));
        let (_, _, end) = element(&signed[start + 8..]).unwrap();
        assert_eq!(number(&signed, start).unwrap() as usize, 8 + end);
        let signature = &signed[start + 8..start + 8 + end];
        // Nothing of the program but the entry and its end was touched, and the hash in the signature is the program's.
        let mut before = signed[..start].to_vec();
        before[entry..entry + 8].fill(0);
        program.resize(start, 0);
        assert!(before == program);
        let hash = digest(&program, entry).unwrap();
        assert!(signature.windows(32).any(|bytes| bytes == hash));
        program[0x40 + 200] ^= 1;
        assert_ne!(digest(&program, entry).unwrap(), hash);
        program[entry - SIGNATURES + SUM] ^= 1;
        assert_eq!(digest(&program, entry).unwrap(), {
            program[entry - SIGNATURES + SUM] ^= 1;
            digest(&program, entry).unwrap()
        });

        fs::write(place.path().join("signature"), signature).unwrap();
        fs::write(place.path().join("content"), value(&content(&hash)).unwrap().1).unwrap();
        let verify = [
            "smime",
            "-verify",
            "-binary",
            "-noverify",
            "-inform",
            "DER",
            "-in",
            "signature",
            "-content",
            "content",
        ];
        let verified = openssl(&verify, place.path());
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
        fs::write(place.path().join("content"), value(&content(&[0; 32])).unwrap().1).unwrap();
        assert!(!openssl(&verify, place.path()).status.success());
    }

    #[test]
    fn lengths_are_written_as_der_has_them() {
        for (length, head) in
            [(0, &[4, 0][..]), (127, &[4, 127]), (128, &[4, 0x81, 128]), (300, &[4, 0x82, 1, 44])]
        {
            let all = der(OCTETS, &[vec![7; length]]);
            assert_eq!(&all[..head.len()], head);
            assert_eq!(element(&all).unwrap(), (OCTETS, &vec![7; length][..], all.len()));
            assert!(length == 0 || element(&all[..all.len() - 1]).is_err());
        }
        for hostile in
            [&[][..], &[4], &[4, 0x80], &[4, 0x85, 1, 1, 1, 1, 1], &[4, 0x84, 0xff, 0xff, 0xff, 0xff]]
        {
            assert!(element(hostile).is_err(), "{hostile:?}");
        }
    }
}
