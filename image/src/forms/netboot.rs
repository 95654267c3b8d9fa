//! A directory for a TFTP or HTTP server from which UEFI starts, with Secure Boot and no key of one's own: Debian's shim
//! starts Debian's GRUB, which it asks for by the name `grubx64.efi`, and GRUB Debian's kernel.

use super::{Parts, UNSIGNED, grub, place};
use crate::flavour::Flavour;
use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::path::Path;

/// Into `target`, by way of `stage`.
pub fn make(parts: &Parts, stage: &Path, target: &Path) -> Result<()> {
    ensure!(parts.flavour()? == Flavour::Debian, UNSIGNED);
    let files = [
        ("bootx64.efi", parts.part(grub::SHIM)?),
        ("grubx64.efi", parts.part(grub::OF_NETWORKS)?),
        ("grub/grub.cfg", grub::network_config().into_bytes()),
        ("vmlinuz", parts.kernel()?),
    ];
    for (name, bytes) in files {
        let path = target.join(name);
        fs::create_dir_all(path.parent().context("a file has a directory")?)?;
        fs::write(&path, bytes).with_context(|| format!("write {}", path.display()))?;
    }
    let made = stage.join("initramfs");
    fs::write(&made, parts.initramfs()?).with_context(|| format!("write {}", made.display()))?;
    place(parts, &made, &target.join("initramfs"))
}
