//! What reads bytes that a stranger, a hypervisor, a cloud or a disk made, for the fuzzer alone: each function takes
//! anything, and its answer does not matter.

use crate::access::Visit;
use crate::options::Options;
use crate::proof::{self, Offer};
use crate::{cloud, credentials, keys};

pub use crate::ironic::hostile as ironic;
pub use crate::transport::hostile::{packet, seeds as connections, serve as connection, string};

/// A file of authorized_keys, and what its options say to a visitor.
pub fn authorized_keys(text: &str) {
    let found = keys::file("/root/.ssh/authorized_keys", text);
    for known in &found.keys {
        // The text is made, and not read.
        let _ = known.to_string();
        judge(&known.options);
    }
    let _ = keys::parameters(text.lines());
    let _ = Options::parse(text);
}

fn judge(options: &Options) {
    let peer = "192.0.2.1".parse().expect("an address");
    let visit = Visit { user: "root", peer, now: 1_800_000_000, flags: Some(1) };
    let _ = crate::access::fits(options.clone(), &visit);
}

/// A certificate of a user as a request holds it, against a line that takes those of its authority.
pub fn certificate(blob: &[u8]) {
    for algorithm in ["ssh-ed25519-cert-v01@openssh.com", "sk-ssh-ed25519-cert-v01@openssh.com", "ssh-rsa"] {
        let Ok(offer) = Offer::parse(algorithm, blob) else { continue };
        let _ = (offer.is_in_hardware(), offer.key().algorithm());
        if let Offer::Certificate(certificate) = &offer {
            let authority = Options::parse("cert-authority,principals=\"root,admin\"").expect("options");
            let peer = "192.0.2.1".parse().expect("an address");
            if let Ok(options) = authority.certified(certificate, "root", peer) {
                judge(&options);
            }
            let _ = crate::access::signed(certificate, 1_800_000_000);
        }
    }
}

/// A request of a client's and its signature: what the monitor verifies.
pub fn proof(session: &[u8], signed: &[u8], signature: &[u8]) {
    let _ = proof::check(session, signed, signature);
}

/// A table of SMBIOS, with the credentials in it.
pub fn smbios(table: &[u8]) {
    for credential in credentials::smbios(table) {
        if let Ok(text) = &credential.text {
            authorized_keys(text);
        }
    }
}

/// What clouds and their volumes say: the first byte chooses the form.
pub fn cloud(input: &[u8]) {
    let (first, rest) = input.split_first().map_or((0, input), |(first, rest)| (*first, rest));
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let parsers =
        [cloud::user_data, cloud::meta_data, cloud::openstack, cloud::vultr, cloud::scaleway, cloud::listing];
    let found = parsers[usize::from(first) % parsers.len()](text);
    let sections = cloud::sections(&cloud::section("x", &found));
    assert!(sections.len() == 1 && sections[0].0 == "x", "a key or a problem is taken for a place");
    let _ = keys::list("x", &found.keys);
}
