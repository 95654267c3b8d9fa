//! The forms beside kernel and initramfs, made of these two and of Debian's own loaders: an EFI program, a hybrid
//! ISO, a disk image, a directory for netboot with Secure Boot, a script for a running Linux, and an initramfs with every layer
//! (docs/boot.md). What is built twice is equal.

mod disk;
mod extra;
mod grub;
mod iso;
mod kexec;
mod netboot;
mod pe;
mod signed;

use crate::cpio::Archive;
use crate::flavour::Flavour;
use crate::lock::Set;
use crate::packages::{self, Cache};
use crate::{build, manifest, microcode};
use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
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
    /// One more archive, of an operator, between nucleus and layers.
    extra: Option<PathBuf>,
    /// With every layer that the image knows.
    full: bool,
    /// With the CPU's microcode, or without; none: as the form has it.
    microcode: Option<bool>,
    /// Who signs the EFI program.
    signer: Option<Signer>,
}

pub use disk::{add_partition, fat, put};
pub use grub::FIRST;
pub use signed::Signer;

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
        Ok(Parts {
            source,
            tree: tree.root,
            tools,
            image: image.into(),
            extra,
            full: false,
            microcode: None,
            signer: None,
        })
    }

    /// The same with the big tools that are else added by `rescue add`.
    pub fn full(self) -> Parts {
        Parts { full: true, ..self }
    }

    /// The same with the CPU's microcode in front, or without it, whatever the form.
    pub fn microcode(self, wanted: bool) -> Parts {
        Parts { microcode: Some(wanted), ..self }
    }

    /// The same with an EFI program that is signed.
    pub fn signed(self, signer: Signer) -> Parts {
        Parts { signer: Some(signer), ..self }
    }

    /// The same as this form has it where nothing was said.
    fn of_form(&self, form: Form) -> Parts {
        Parts { microcode: Some(form.has_microcode(self.microcode)), ..self.clone() }
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        read(&self.image, name)
    }

    pub fn kernel(&self) -> Result<Vec<u8>> {
        self.read("vmlinuz")
    }

    pub fn flavour(&self) -> Result<Flavour> {
        Ok(Flavour::of(&self.kernel()?))
    }

    /// What the kernel unpacks, whole: [`Parts::halves`] behind each other.
    pub fn initramfs(&self) -> Result<Vec<u8>> {
        Ok(self.halves()?.concat())
    }

    /// The CPU's microcode, where it is in, the nucleus and an operator's archive; then the layers of the image, that of rare
    /// firmware, which a medium has room for, and the big tools where they are asked for. Each archive begins on a boundary of
    /// four bytes, as the kernel asks for.
    ///
    /// The kernel unpacks nothing behind a file that memory has no room for (init/initramfs.c, unpack_to_rootfs): the layers
    /// are such files, so what an operator wants to be there at every boot lies before them.
    pub fn halves(&self) -> Result<[Vec<u8>; 2]> {
        let tools = manifest::EXTRAS.iter().map(|extra| extra.name).filter(|_| self.full);
        let more: Vec<String> = (std::iter::once(build::FIRMWARE).chain(tools))
            .map(|name| format!("layers/{name}.squashfs"))
            .filter(|layer| self.full || self.image.join(layer).exists())
            .collect();
        let mut first = match self.microcode {
            Some(true) => self.read(microcode::FILE)?,
            Some(false) | None => Vec::new(),
        };
        // The kernel looks for it at the start of all archives, and nowhere else.
        ensure!(
            first.is_empty() || microcode::is_early(&first),
            "{} is no archive of microcode",
            microcode::FILE
        );
        let [nucleus, mut layers] = split(&self.image)?;
        append(&mut first, &nucleus);
        // For a layer in the operator's archive, which need not name the directory.
        append(&mut first, &shelf(Vec::new())?.finish()?);
        if let Some(extra) = &self.extra {
            let bytes = fs::read(extra).with_context(|| format!("read EXTRA={}", extra.display()))?;
            extra::check(&bytes).with_context(|| format!("EXTRA={}", extra.display()))?;
            append(&mut first, &bytes);
        }
        append(&mut first, &[]);
        if !more.is_empty() {
            append(&mut layers, &[]);
            let mut archive = shelf(layers)?;
            for layer in more {
                archive.file(&layer, 0o444, &self.read(&layer)?)?;
            }
            layers = archive.finish()?;
        }
        Ok([first, layers])
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

/// The nucleus of the image in this directory, and what its initramfs has behind that: the layers.
///
/// Errors: one of the two files is not there, or they are of two builds.
pub fn split(image: &Path) -> Result<[Vec<u8>; 2]> {
    let (nucleus, whole) = (read(image, "nucleus")?, read(image, "initramfs")?);
    let layers = whole.strip_prefix(&nucleus[..]).with_context(|| {
        format!("{}: nucleus and initramfs are of two builds: make image builds both", image.display())
    })?;
    let layers = layers.to_vec();
    Ok([nucleus, layers])
}

fn read(image: &Path, name: &str) -> Result<Vec<u8>> {
    let path = image.join(name);
    fs::read(&path).with_context(|| format!("read {}: make image builds it", path.display()))
}

/// One more archive behind others, on a boundary of four bytes.
pub fn append(archives: &mut Vec<u8>, archive: &[u8]) {
    archives.resize(archives.len().next_multiple_of(4), 0);
    archives.extend(archive);
}

/// An archive of layers, with their directory.
fn shelf(behind: Vec<u8>) -> Result<Archive<Vec<u8>>> {
    let mut archive = Archive::new(behind);
    archive.directory("layers", 0o755)?;
    Ok(archive)
}

/// From where nobody else can look to where it is wanted.
fn place(parts: &Parts, made: &Path, path: &Path) -> Result<()> {
    if parts.extra.is_some() {
        let mode =
            fs::metadata(made).with_context(|| format!("look at {}", made.display()))?.permissions().mode();
        fs::set_permissions(made, fs::Permissions::from_mode(mode & 0o700))
            .with_context(|| format!("close {}", made.display()))?;
    }
    fs::rename(made, path).with_context(|| format!("write {}", path.display()))
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

    /// Its files, below the directory that it is made in: not what an operator puts beside them.
    pub fn files(self) -> Vec<String> {
        match self {
            Form::Netboot => netboot::FILES.iter().map(|name| format!("{}/{name}", self.name())).collect(),
            Form::Efi | Form::Iso | Form::Disk | Form::Kexec | Form::Full => vec![self.name().into()],
        }
    }

    /// Packages of Debian's that its loaders are of.
    pub fn loaders(self) -> &'static [&'static str] {
        match self {
            Form::Efi => &["systemd-boot-efi"],
            Form::Iso | Form::Disk => &["grub-efi-amd64-signed", "grub-pc-bin", "shim-signed"],
            Form::Netboot => &["grub-efi-amd64-signed", "shim-signed"],
            Form::Kexec | Form::Full => &[],
        }
    }

    /// Whether it can be made of an image with this kernel: [`UNSIGNED`].
    pub fn is_for(self, kernel: Flavour) -> bool {
        self != Form::Netboot || kernel == Flavour::Debian
    }

    /// Media have room for it; what comes over a network has it where that is asked for. A kernel that kexec starts finds the
    /// processors as the running one left them, with its microcode loaded.
    fn has_microcode(self, said: Option<bool>) -> bool {
        match self {
            Form::Iso | Form::Disk => said.unwrap_or(true),
            Form::Efi | Form::Netboot | Form::Full => said.unwrap_or(false),
            Form::Kexec => false,
        }
    }

    /// Makes it in a directory; where. With an operator's archive inside, which may hold a private key, it is its maker's
    /// alone, from the first byte on.
    pub fn make(self, parts: &Parts, directory: &Path) -> Result<PathBuf> {
        let path = directory.join(self.name());
        let parts = &parts.of_form(self);
        // Which nobody else can enter.
        let stage = tempfile::tempdir_in(directory).with_context(|| format!("write {}", path.display()))?;
        let made = stage.path().join(self.name());
        match self {
            Form::Efi => {
                let mut program = pe::unified(parts)?;
                if let Some(signer) = &parts.signer {
                    program = signed::sign(program, signer, &parts.tools.join("openssl"))?;
                }
                fs::write(&made, program).with_context(|| format!("write {}", path.display()))?;
            }
            Form::Iso => iso::make(parts, &made)?,
            Form::Disk => disk::make(parts, &made)?,
            Form::Netboot => {
                // A directory that a person may have put words and files into.
                netboot::make(parts, stage.path(), &path)?;
                return Ok(path);
            }
            Form::Kexec => kexec::make(parts, &made)?,
            Form::Full => {
                let whole = parts.clone().full().initramfs()?;
                fs::write(&made, whole).with_context(|| format!("write {}", path.display()))?;
            }
        }
        place(parts, &made, &path)?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a build leaves, and loaders, in a directory; none of it starts.
    fn parts(root: &Path, extra: bool) -> Parts {
        let mut files: Vec<String> =
            ["vmlinuz", "nucleus", "initramfs", "extra.cpio"].map(str::to_string).to_vec();
        files.extend([grub::SHIM, grub::OF_NETWORKS].map(|name| format!("tree/{name}")));
        let layers = manifest::EXTRAS.iter().map(|extra| extra.name).chain([build::FIRMWARE]);
        files.extend(layers.map(|name| format!("layers/{name}.squashfs")));
        for name in files {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "bytes").unwrap();
        }
        fs::write(root.join("extra.cpio"), Archive::new(Vec::new()).finish().unwrap()).unwrap();
        Parts {
            source: root.into(),
            tree: root.join("tree"),
            tools: root.into(),
            image: root.into(),
            extra: extra.then(|| root.join("extra.cpio")),
            full: false,
            microcode: None,
            signer: None,
        }
    }

    #[test]
    fn a_form_with_an_archive_that_may_hold_a_private_key_is_its_maker_s_alone() {
        let (root, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        // The last one over the others: a file that was open before is closed.
        for extra in [false, true, false, true] {
            let parts = parts(root.path(), extra);
            for (form, file) in [(Form::Full, "initramfs-full"), (Form::Netboot, "netboot/initramfs")] {
                form.make(&parts, out.path()).unwrap();
                let mode = fs::metadata(out.path().join(file)).unwrap().permissions().mode() & 0o777;
                assert_eq!(mode & 0o077 == 0, extra, "{file}, with an archive: {extra}: {mode:o}");
            }
            let left: Vec<_> =
                fs::read_dir(out.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(left.len(), 2, "nothing but the forms is left: {left:?}");
        }
    }

    /// Names of a plain archive's entries, in their order, and of every archive behind it.
    fn entries(mut bytes: &[u8]) -> Vec<String> {
        let mut names = Vec::new();
        loop {
            let padding = bytes.iter().take_while(|byte| **byte == 0).count();
            bytes = &bytes[padding..];
            if bytes.is_empty() {
                break;
            }
            assert_eq!(&bytes[..6], b"070701", "behind {names:?}");
            let number = |at: usize| -> usize {
                usize::from_str_radix(std::str::from_utf8(&bytes[at..at + 8]).unwrap(), 16).unwrap()
            };
            let (size, name) = (number(54), 110 + number(94));
            names.push(String::from_utf8(bytes[110..name - 1].to_vec()).unwrap());
            bytes = &bytes[(name.next_multiple_of(4) + size).next_multiple_of(4)..];
        }
        names.retain(|name| name != "TRAILER!!!");
        names
    }

    /// The kernel stops at the first layer that does not fit, and unpacks nothing behind it.
    #[test]
    fn what_an_operator_hands_in_lies_behind_the_nucleus_and_before_every_layer() {
        let root = tempfile::tempdir().unwrap();
        let archive = |names: &[&str]| {
            let mut archive = Archive::new(Vec::new());
            for name in names {
                archive.file(name, 0o644, name.as_bytes()).unwrap();
            }
            archive.finish().unwrap()
        };
        let nucleus = archive(&["init", "root/.profile"]);
        let image = [nucleus.clone(), archive(&["layers/10-userland.squashfs"])].concat();
        let parts = parts(root.path(), true);
        for (name, bytes) in [
            ("nucleus", nucleus.clone()),
            ("initramfs", image),
            // As a shell packs it that leaves directories out, and no multiple of four bytes.
            ("extra.cpio", [archive(&["root/.profile", "layers/50-mine.squashfs"]), vec![0]].concat()),
        ] {
            fs::write(root.path().join(name), bytes).unwrap();
        }
        let front = ["init", "root/.profile", "layers", "root/.profile", "layers/50-mine.squashfs"];
        let behind = ["layers/10-userland.squashfs", "layers", "layers/30-firmware.squashfs"];
        for form in [Form::Efi, Form::Netboot, Form::Kexec] {
            let bytes = parts.of_form(form).initramfs().unwrap();
            assert_eq!(entries(&bytes), [&front[..], &behind].concat(), "{form:?}");
        }
        let [first, layers] = parts.halves().unwrap();
        assert!(first.len().is_multiple_of(4), "as GRUB and the kernel begin a file");
        assert_eq!(entries(&first), front);
        assert_eq!(entries(&layers), behind);
        fs::write(root.path().join("nucleus"), "of another build").unwrap();
        assert!(parts.initramfs().unwrap_err().to_string().contains("two builds"));
    }

    #[test]
    fn microcode_comes_before_all_else_that_the_kernel_unpacks() {
        let (image, guest) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for vendor in ["amd-ucode", "intel-ucode"] {
            let directory = guest.path().join("usr/lib/firmware").join(vendor);
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join("a.bin"), "microcode").unwrap();
        }
        let tree =
            packages::Tree { root: guest.path().into(), files: Default::default(), key: String::new() };
        let early = microcode::archive(&tree).unwrap();
        let extra = image.path().join("x.cpio");
        let appended = Archive::new(Vec::new()).finish().unwrap();
        let files: [(&str, &[u8]); 4] = [
            (microcode::FILE, &early),
            ("nucleus", b"NUCLEUS"),
            ("initramfs", b"NUCLEUSLAYERS"),
            ("x.cpio", &appended),
        ];
        for (name, bytes) in files {
            fs::write(image.path().join(name), bytes).unwrap();
        }
        let parts = Parts {
            source: "".into(),
            tree: "".into(),
            tools: "".into(),
            image: image.path().into(),
            extra: Some(extra),
            full: false,
            microcode: None,
            signer: None,
        };
        for (form, said, is_in) in [
            (Form::Iso, None, true),
            (Form::Disk, None, true),
            (Form::Disk, Some(false), false),
            (Form::Efi, None, false),
            (Form::Efi, Some(true), true),
            (Form::Netboot, Some(true), true),
            (Form::Full, Some(true), true),
            (Form::Kexec, None, false),
            (Form::Kexec, Some(true), false),
        ] {
            let parts = said.map_or(parts.clone(), |said| parts.clone().microcode(said));
            let bytes = parts.of_form(form).initramfs().unwrap();
            let early = if is_in { &early[..] } else { &[] };
            let directory = shelf(Vec::new()).unwrap().finish().unwrap();
            let wanted = [early, b"NUCLEUS\0", &directory, &appended, b"LAYERS"].concat();
            assert!(bytes == wanted, "{form:?} {said:?}");
        }
        // What is packed, or another archive, would keep it from being found.
        fs::write(image.path().join(microcode::FILE), "\x28\u{b5}/\u{fd}").unwrap();
        assert!(parts.of_form(Form::Iso).initramfs().unwrap_err().to_string().contains(microcode::FILE));
    }
}
