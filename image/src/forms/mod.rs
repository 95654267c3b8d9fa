//! The forms beside kernel and initramfs, made of these two and of Debian's own loaders: an EFI program, a hybrid
//! ISO, a disk image, a directory for netboot with Secure Boot, a script for a running Linux, and an initramfs with every layer
//! (docs/boot.md). What is built twice is equal.

mod disk;
mod grub;
mod iso;
mod kexec;
mod netboot;
mod pe;

use crate::cpio::Archive;
use crate::flavour::Flavour;
use crate::lock::Set;
use crate::packages::{self, Cache};
use crate::{build, manifest};
use anyhow::{Context as _, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What all forms are made of.
#[derive(Clone)]
pub struct Parts {
    /// The project's root.
    source: PathBuf,
    /// The build's own tools, unpacked.
    tree: PathBuf,
    /// The same as commands.
    tools: PathBuf,
    /// Where kernel and initramfs lie.
    image: PathBuf,
    /// One more archive behind the initramfs, of an operator.
    extra: Option<PathBuf>,
    /// With every layer that the image knows.
    full: bool,
}

pub use disk::{add_partition, fat, put};
pub use grub::FIRST;

impl Parts {
    /// Of what `make image` left in the directory `image`, and an operator's archive.
    pub fn of(source: &Path, image: &Path, extra: Option<PathBuf>) -> Result<Parts> {
        let cache = Cache::open(source)?;
        let (locked, _) = packages::locked_or_current(&cache, &build::guest_packages(), manifest::HOST)?;
        let host: Vec<_> = locked.iter().filter(|package| package.is_in(Set::Host)).cloned().collect();
        packages::fetch(&cache, &host)?;
        let tree = packages::tree(&cache, &locked, Set::Host)?;
        let tools = packages::wrappers(&cache, &tree)?;
        // One spelling, since it stands in the flags of the compiler.
        let source = fs::canonicalize(source).context("find the project's root")?;
        Ok(Parts { source, tree: tree.root, tools, image: image.into(), extra, full: false })
    }

    /// The same with the big tools that are else added by `rescue add`.
    pub fn full(self) -> Parts {
        Parts { full: true, ..self }
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.image.join(name);
        fs::read(&path).with_context(|| format!("read {}: make image builds it", path.display()))
    }

    pub fn kernel(&self) -> Result<Vec<u8>> {
        self.read("vmlinuz")
    }

    pub fn flavour(&self) -> Result<Flavour> {
        Ok(Flavour::of(&self.kernel()?))
    }

    /// With the layer of rare firmware, which a medium has room for, the big tools where they are asked for, and an
    /// operator's archive: each on a boundary of four bytes, as the kernel asks for.
    pub fn initramfs(&self) -> Result<Vec<u8>> {
        let tools = manifest::EXTRAS.iter().map(|extra| extra.name).filter(|_| self.full);
        let layers: Vec<String> = (std::iter::once(build::FIRMWARE).chain(tools))
            .map(|name| format!("layers/{name}.squashfs"))
            .filter(|layer| self.full || self.image.join(layer).exists())
            .collect();
        let mut initramfs = self.read("initramfs")?;
        if !layers.is_empty() {
            initramfs.resize(initramfs.len().next_multiple_of(4), 0);
            let mut archive = Archive::new(initramfs);
            archive.directory("layers", 0o755)?;
            for layer in layers {
                archive.file(&layer, 0o444, &self.read(&layer)?)?;
            }
            initramfs = archive.finish()?;
        }
        if let Some(extra) = &self.extra {
            initramfs.resize(initramfs.len().next_multiple_of(4), 0);
            initramfs.extend(fs::read(extra).with_context(|| format!("read EXTRA={}", extra.display()))?);
        }
        Ok(initramfs)
    }

    /// A file of one of the build's own packages.
    fn part(&self, path: &str) -> Result<Vec<u8>> {
        let path = self.tree.join(path);
        fs::read(&path).with_context(|| format!("read {}", path.display()))
    }

    /// One of the build's own tools, with nothing of the host's environment that could change what it writes.
    fn tool(&self, name: &str) -> Command {
        let mut command = Command::new(self.tools.join(name));
        command
            .env("TZ", "UTC")
            .env("LC_ALL", "C")
            .env("SOURCE_DATE_EPOCH", "0")
            .env("MTOOLS_SKIP_CHECK", "1");
        command
    }
}

/// Why there is none of them for Secure Boot with the custom kernel.
pub const UNSIGNED: &str = "Debian's shim starts only kernels that Debian signed, and the custom one is not";

/// Each of them.
pub const ALL: [Form; 6] = [Form::Efi, Form::Iso, Form::Disk, Form::Netboot, Form::Kexec, Form::Full];

/// One of the forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// out/lifeboat.efi: kernel and initramfs in one EFI program
    Efi,
    /// lifeboat.iso: for CD, USB and virtual media, BIOS and UEFI
    Iso,
    /// lifeboat.img: a disk, BIOS and UEFI, with a file system that can be written to
    Disk,
    /// netboot/: for PXE by UEFI with Secure Boot
    Netboot,
    /// out/lifeboat-kexec.sh: takes over from a running Linux
    Kexec,
    /// out/initramfs-full: with every layer, the companion of out/vmlinuz
    Full,
}

impl Form {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Form::Efi => "lifeboat.efi",
            Form::Iso => "lifeboat.iso",
            Form::Disk => "lifeboat.img",
            Form::Netboot => "netboot",
            Form::Kexec => "lifeboat-kexec.sh",
            Form::Full => "initramfs-full",
        }
    }

    /// Makes it in a directory; where.
    pub fn make(self, parts: &Parts, directory: &Path) -> Result<PathBuf> {
        let path = directory.join(self.name());
        match self {
            Form::Efi => {
                fs::write(&path, pe::unified(parts)?).with_context(|| format!("write {}", path.display()))?;
            }
            Form::Iso => iso::make(parts, &path)?,
            Form::Disk => disk::make(parts, &path)?,
            Form::Netboot => netboot::make(parts, &path)?,
            Form::Kexec => kexec::make(parts, &path)?,
            Form::Full => {
                let whole = parts.clone().full().initramfs()?;
                fs::write(&path, whole).with_context(|| format!("write {}", path.display()))?;
            }
        }
        Ok(path)
    }
}
