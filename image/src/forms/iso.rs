//! A hybrid ISO: El Torito for BIOS and UEFI, and the same bytes on a stick, by an MBR that starts GRUB and a partition
//! table that shows UEFI its file system. What is started lies on a FAT, once: UEFI reads it as a partition or as El
//! Torito's image, GRUB for a BIOS as a file of the ISO.

use super::{Parts, disk, grub};
use anyhow::{Context as _, Result};
use std::fs;
use std::path::Path;

const FAT: &str = "lifeboat.img";
const BIOS: &str = "boot/grub/eltorito.img";

pub fn make(parts: &Parts, target: &Path) -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let tree = scratch.path().join("tree");
    fs::create_dir_all(tree.join("boot/grub")).context("make a directory")?;
    let put =
        |name: &str, bytes: &[u8]| fs::write(tree.join(name), bytes).with_context(|| format!("write {name}"));
    disk::medium(parts, &tree.join(FAT), 0)?;
    put(grub::CONFIG, grub::onward(FAT).as_bytes())?;
    put(BIOS, &grub::bios(parts, "i386-pc-eltorito", "", scratch.path())?)?;
    let mut command = parts.tool("xorriso");
    command.args(["-no_rc", "-as", "mkisofs", "-quiet", "-r", "-V", "LIFEBOAT"]);
    command.args(["--modification-date=2000010100000000", "--set_all_file_dates", "2000010100000000"]);
    command.args(["--gpt_disk_guid", "4c494645-424f-4154-0000-000000000010"]);
    command.args([
        "-b",
        BIOS,
        "-no-emul-boot",
        "-boot-load-size",
        "4",
        "-boot-info-table",
        "--grub2-boot-info",
    ]);
    command.arg("--grub2-mbr").arg(parts.tree.join("usr/lib/grub/i386-pc/boot_hybrid.img"));
    command.args(["--efi-boot", FAT, "-efi-boot-part", "--efi-boot-image"]);
    command.arg("-o").arg(target).arg(&tree);
    crate::packages::run(&mut command)
}
