//! The certificate that the agent shows to a conductor (RFC 5280), which signs itself and is made for one address. Ironic is
//! handed it with each heartbeat (`agent_verify_ca`) and believes no other; a heartbeat without one is refused where
//! `[agent]require_tls` is on, as it is by default. What vouches for it is the token in the heartbeat.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use std::net::IpAddr;
use std::sync::Arc;

/// Tags of X.690.
const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const BITS: u8 = 0x03;
const BYTES: u8 = 0x04;
const OID: u8 = 0x06;
const UTF8: u8 = 0x0c;
const UTC_TIME: u8 = 0x17;
const TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// `[0]` and `[3]` of TBSCertificate, and `iPAddress` of GeneralName.
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const ADDRESS: u8 = 0x87;

/// ecdsa-with-SHA256 (RFC 5758), id-ecPublicKey and secp256r1 (RFC 5480), commonName, subjectAltName.
const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
const EC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 0x11];

/// The clock of a rescue may be anywhere, and the conductor's judges. So it is valid whenever that may be.
const NOT_BEFORE: &[u8] = b"000101000000Z";
/// RFC 5280, section 4.1.2.5: no end is known.
const NOT_AFTER: &[u8] = b"99991231235959Z";

/// A fresh key, and what a server needs of it; with the certificate as PEM. Errors are for people.
pub fn make(address: IpAddr) -> Result<(String, Arc<ServerConfig>), String> {
    let random = SystemRandom::new();
    let failed = |what: &str| format!("make a certificate: {what}");
    let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random)
        .map_err(|_| failed("no key"))?;
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key.as_ref())
        .map_err(|_| failed("no pair"))?;
    let mut serial = [0; 16];
    aws_lc_rs::rand::fill(&mut serial).map_err(|_| failed("no number"))?;
    // Positive, and with no zero in front.
    serial[0] = serial[0] & 0x3f | 0x40;
    let body = body(&serial, address, pair.public_key().as_ref());
    let signature = pair.sign(&random, &body).map_err(|_| failed("no signature"))?;
    let der = field(SEQUENCE, &[&body, &algorithm(), &bits(signature.as_ref())]);
    let pem = pem(&der);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from(der)],
            PrivatePkcs8KeyDer::from(key.as_ref().to_vec()).into(),
        )
        .map_err(|error| failed(&error.to_string()))?;
    Ok((pem, Arc::new(config)))
}

/// TBSCertificate.
fn body(serial: &[u8], address: IpAddr, point: &[u8]) -> Vec<u8> {
    let name = field(OID, &[COMMON_NAME]);
    let name = field(SEQUENCE, &[&name, &field(UTF8, &[b"lifeboat"])]);
    let name = field(SEQUENCE, &[&field(SET, &[&name])]);
    let address = match address {
        IpAddr::V4(address) => field(ADDRESS, &[&address.octets()]),
        IpAddr::V6(address) => field(ADDRESS, &[&address.octets()]),
    };
    let critical = field(BOOLEAN, &[&[0xff]]);
    let names = field(BYTES, &[&field(SEQUENCE, &[&address])]);
    let names = field(SEQUENCE, &[&field(OID, &[ALTERNATIVE_NAME]), &critical, &names]);
    let kind = field(SEQUENCE, &[&field(OID, &[EC_KEY]), &field(OID, &[P256])]);
    field(
        SEQUENCE,
        &[
            &field(VERSION, &[&field(INTEGER, &[&[2]])]),
            &field(INTEGER, &[serial]),
            &algorithm(),
            &name,
            &field(SEQUENCE, &[&field(UTC_TIME, &[NOT_BEFORE]), &field(TIME, &[NOT_AFTER])]),
            &name,
            &field(SEQUENCE, &[&kind, &bits(point)]),
            &field(EXTENSIONS, &[&field(SEQUENCE, &[&names])]),
        ],
    )
}

fn algorithm() -> Vec<u8> {
    field(SEQUENCE, &[&field(OID, &[ECDSA_SHA256])])
}

/// A BIT STRING of whole bytes.
fn bits(bytes: &[u8]) -> Vec<u8> {
    field(BITS, &[&[0], bytes])
}

/// Tag, length and content of DER (X.690, section 10.1). Nothing here is longer than 65,535 bytes.
fn field(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let [.., high, low] = content.len().to_be_bytes();
    let mut out = vec![tag];
    match content.len() {
        0..=0x7f => out.push(low),
        0x80..=0xff => out.extend([0x81, low]),
        _ => out.extend([0x82, high, low]),
    }
    out.extend(content);
    out
}

/// RFC 7468.
fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        // Base64 is ASCII.
        out.push_str(&String::from_utf8_lossy(line));
        out.push('\n');
    }
    out + "-----END CERTIFICATE-----\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConnection};

    /// Whether a client that believes this certificate alone, and asks for this address, talks to its server.
    fn is_believed(pem: &str, server: &Arc<ServerConfig>, address: &str) -> Result<(), String> {
        let der =
            STANDARD.decode(pem.lines().filter(|line| !line.starts_with('-')).collect::<String>()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(der)).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(address.to_string()).unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut server = ServerConnection::new(server.clone()).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut wire.as_slice()).unwrap();
            server.process_new_packets().map_err(|error| error.to_string())?;
            let mut wire = Vec::new();
            server.write_tls(&mut wire).unwrap();
            client.read_tls(&mut wire.as_slice()).unwrap();
            client.process_new_packets().map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    #[test]
    fn a_conductor_that_was_handed_it_believes_it_for_its_address_alone() {
        for (address, other) in [("192.0.2.5", "192.0.2.6"), ("2001:db8::5", "2001:db8::6")] {
            let (pem, server) = make(address.parse().unwrap()).unwrap();
            assert_eq!(is_believed(&pem, &server, address), Ok(()));
            assert!(is_believed(&pem, &server, other).is_err());
            let (another, _) = make(address.parse().unwrap()).unwrap();
            assert!(is_believed(&another, &server, address).is_err(), "each has a key of its own");
        }
    }

    #[test]
    fn lengths_are_written_as_der_has_them() {
        for (length, head) in [
            (0, vec![4, 0]),
            (127, vec![4, 127]),
            (128, vec![4, 0x81, 128]),
            (255, vec![4, 0x81, 255]),
            (256, vec![4, 0x82, 1, 0]),
        ] {
            assert_eq!(field(BYTES, &[&vec![0; length]])[..head.len()], head[..], "{length}");
        }
    }
}
