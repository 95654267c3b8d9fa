//! What GRUB is told, on every medium. Debian's signed GRUB reads `boot/grub/grub.cfg` of the medium that it came from.

use super::Parts;
use anyhow::{Context as _, Result};
use std::fs;
use std::path::Path;

/// The same places on every medium.
pub const KERNEL: &str = "lifeboat/vmlinuz";
pub const INITRAMFS: &str = "lifeboat/initramfs";
pub const CONFIG: &str = "boot/grub/grub.cfg";
/// UEFI's name of what is started from a medium; shim then starts its neighbour of this name.
pub const FIRST: &str = "EFI/BOOT/BOOTX64.EFI";
pub const SECOND: &str = "EFI/BOOT/grubx64.efi";

/// Where Debian has them, signed.
pub const SHIM: &str = "usr/lib/shim/shimx64.efi.signed";
pub const OF_MEDIA: &str = "usr/lib/grub/x86_64-efi-signed/gcdx64.efi.signed";
pub const OF_NETWORKS: &str = "usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed";

/// On the FAT of a medium. All paths are of the device that GRUB came from: to search others would let a disk of the
/// broken machine say what is started. (Debian's signed GRUB for media does search, for `.disk/info`, where it cannot tell
/// its own device by the firmware's path.) `edd=off`: else the kernel's set-up code asks the BIOS for the first sector of
/// every disk, and one that hangs holds up the machine before any of us.
pub fn config() -> String {
    format!(
        "\
set timeout=2
set default=0
if serial --unit=0 --speed=115200; then
  terminal_input console serial
  terminal_output console serial
fi
set params=
if [ -s /lifeboat.cfg ]; then source /lifeboat.cfg; fi
menuentry Lifeboat {{
  linux /{KERNEL} edd=off $params
  if [ -s /lifeboat.cpio ]; then
    initrd /{INITRAMFS} /lifeboat.cpio
  else
    initrd /{INITRAMFS}
  fi
}}
"
    )
}

/// On an ISO, for a BIOS: everything is on the FAT, which is a file there.
pub fn onward(fat: &str) -> String {
    format!("loopback fat /{fat}\nset root=fat\nconfigfile /{CONFIG}\n")
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
    "serial",
    "terminal",
    "test",
];
