//! Consents as files below /run/lifeboat/consent: what may be written, because a person typed a
//! command that writes. The policy is `contract::guard::wanted`.

use crate::{Act, Root};
use contract::guard::Consent;
use contract::paths;
use std::io;
use std::path::Path;

/// All there are; one that is not understood consents to nothing.
pub fn read(root: &Root) -> Vec<Consent> {
    let names = root.list(paths::CONSENT).unwrap_or_default();
    names
        .iter()
        .filter_map(|name| root.read(Path::new(paths::CONSENT).join(name)).ok())
        .filter_map(|bytes| serde_json::from_slice(&bytes).ok())
        .collect()
}

/// Written before any flag is cleared.
pub fn give(_act: &Act, consent: &Consent) -> io::Result<()> {
    let bytes = serde_json::to_vec(consent)?;
    crate::statefile::replace(&Path::new(paths::CONSENT).join(consent.file_name()), &bytes, 0o600)
}

/// Not being there is as good as being taken away. Needs no [`Act`]: it only closes what was open, and devd
/// takes away what belonged to a disk that is gone.
pub fn take(file_name: &str) -> io::Result<()> {
    match std::fs::remove_file(Path::new(paths::CONSENT).join(file_name)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
