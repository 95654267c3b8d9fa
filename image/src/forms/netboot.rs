//! A directory for a TFTP or HTTP server from which UEFI starts, with Secure Boot and no key of one's own: Debian's shim
//! starts Debian's GRUB, which it asks for by the name `grubx64.efi`, and GRUB Debian's kernel.

use super::{Parts, UNSIGNED, grub, place};
use crate::flavour::Flavour;
use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::path::Path;

/// What it makes.
pub const FILES: [&str; 5] = ["bootx64.efi", "grubx64.efi", "grub/grub.cfg", "vmlinuz", "initramfs"];

/// Into `target`, by way of `stage`.
pub fn make(parts: &Parts, stage: &Path, target: &Path) -> Result<()> {
    ensure!(parts.flavour()? == Flavour::Debian, UNSIGNED);
    let contents = [
        parts.part(grub::SHIM)?,
        parts.part(grub::OF_NETWORKS)?,
        grub::network_config().into_bytes(),
        parts.kernel()?,
    ];
    for (name, bytes) in FILES.iter().zip(contents) {
        let path = target.join(name);
        fs::create_dir_all(path.parent().context("a file has a directory")?)?;
        fs::write(&path, bytes).with_context(|| format!("write {}", path.display()))?;
    }
    let made = stage.join("initramfs");
    fs::write(&made, parts.initramfs()?).with_context(|| format!("write {}", made.display()))?;
    place(parts, &made, &target.join("initramfs"))
}
