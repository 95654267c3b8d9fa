//! What GRUB is told, on every medium. Debian's signed GRUB reads `boot/grub/grub.cfg` of the medium that it came from.

use super::Parts;
use anyhow::{Context as _, Result};
use std::fs;
use std::path::Path;

/// The same places on every medium.
pub const KERNEL: &str = "lifeboat/vmlinuz";
/// The two halves of the initramfs: a person's archive comes between them.
pub const NUCLEUS: &str = "lifeboat/nucleus";
pub const LAYERS: &str = "lifeboat/layers.cpio";
pub const CONFIG: &str = "boot/grub/grub.cfg";
/// UEFI's name of what is started from a medium; shim then starts its neighbour of this name.
pub const FIRST: &str = "EFI/BOOT/BOOTX64.EFI";
pub const SECOND: &str = "EFI/BOOT/grubx64.efi";

/// Where Debian has them, signed.
pub const SHIM: &str = "usr/lib/shim/shimx64.efi.signed";
pub const OF_MEDIA: &str = "usr/lib/grub/x86_64-efi-signed/gcdx64.efi.signed";
pub const OF_NETWORKS: &str = "usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed";

/// On the FAT of a medium. What is started, and what is loaded beside it, is of the medium that GRUB came from, its other
/// partitions included, or of another CD: to search what else is there would let a disk of the broken machine say what is
/// started. (Debian's signed GRUB for media does search, for `.disk/info`, where it cannot tell its own device by the
/// firmware's path.) `edd=off`: else the kernel's set-up code asks the BIOS for the first sector of every disk, and one
/// that hangs holds up the machine before any of us.
///
/// A BIOS names one CD at most, the one that it started.
///
/// GRUB hands the files over behind each other, each on a boundary of four bytes. The kernel unpacks nothing behind a layer
/// that does not fit.
pub fn config() -> String {
    format!(
        "\
set timeout=2
set default=0
if serial --unit=0 --speed=115200; then
  terminal_input console serial
  terminal_output console serial
fi
if [ -z \"$medium\" ]; then regexp --set=1:medium '^([a-z]+[0-9]*)' \"$root\"; fi
set params=
set files=
for place in $root $medium,gpt1 $medium,gpt2 $medium,gpt3 $medium,gpt4 $medium,gpt5 $medium,gpt6 cd0 cd1 cd2 cd3; do
  if [ \"$place\" != \"$root\" -o -z \"$seen\" ]; then
    seen=1
    if [ -s ($place)/lifeboat.cfg ]; then source ($place)/lifeboat.cfg; fi
    if [ -s ($place)/lifeboat.cpio ]; then files=\"$files ($place)/lifeboat.cpio\"; fi
  fi
done
menuentry Lifeboat {{
  linux /{KERNEL} edd=off $params
  initrd /{NUCLEUS} $files /{LAYERS}
}}
"
    )
}

/// On an ISO, for a BIOS: everything is on the FAT, which is a file there.
pub fn onward(fat: &str) -> String {
    format!(
        "regexp --set=1:medium '^([a-z]+[0-9]*)' \"$root\"\nexport medium\nloopback fat /{fat}\nset root=fat\nconfigfile /{CONFIG}\n"
    )
}

/// For a loader that came over the network.
pub fn network_config() -> String {
    "\
set timeout=0
set params=
if [ -s lifeboat.cfg ]; then source lifeboat.cfg; fi
linux vmlinuz edd=off BOOTIF=01-$net_default_mac $params
if [ -s lifeboat.cpio ]; then initrd initramfs lifeboat.cpio; else initrd initramfs; fi
boot
"
    .into()
}

/// GRUB for a BIOS; it reads `boot/grub/grub.cfg` of this partition of the drive that it came from, or of the whole.
pub fn bios(parts: &Parts, format: &str, partition: &str, scratch: &Path) -> Result<Vec<u8>> {
    let core = scratch.join("core.img");
    let mut command = parts.tool("grub-mkimage");
    command.arg("--directory").arg(parts.tree.join("usr/lib/grub/i386-pc"));
    command.args(["--format", format, "--prefix", &format!("{partition}/boot/grub"), "--compression", "xz"]);
    command.arg("--output").arg(&core).args(MODULES);
    crate::packages::run(&mut command)?;
    fs::read(&core).context("read GRUB's image")
}

/// What the two files above need.
const MODULES: &[&str] = &[
    "biosdisk",
    "configfile",
    "echo",
    "fat",
    "halt",
    "iso9660",
    "linux",
    "loopback",
    "ls",
    "minicmd",
    "normal",
    "part_gpt",
    "part_msdos",
    "reboot",
    "regexp",
    "serial",
    "terminal",
    "test",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_s_archive_beside_a_medium_comes_before_the_layers() {
        let config = config();
        let line = config.lines().find_map(|line| line.trim().strip_prefix("initrd ")).unwrap();
        assert_eq!(line, "/lifeboat/nucleus $files /lifeboat/layers.cpio");
    }
}
