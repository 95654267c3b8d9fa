//! Early CPU microcode: an uncompressed archive that the kernel looks into before anything else of its initrd
//! (Documentation/arch/x86/microcode.rst). It has to come first, and is a file of its own: the firmware of most machines loads
//! a microcode that serves, and what Intel's weighs is a third of the image.

use crate::cpio::Archive;
use crate::packages::Tree;
use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};

/// Directories of Debian's packages, and the file that the kernel asks for: one vendor's containers, one after another.
const VENDORS: &[(&str, &str)] = &[("amd-ucode", "AuthenticAMD.bin"), ("intel-ucode", "GenuineIntel.bin")];
/// The processor reads it from where it lies (Intel's manual, 3A, "Microcode Update Resources").
const BOUNDARY: u64 = 16;
const BELOW: &str = "kernel/x86/microcode";
/// What it is called beside the image.
pub const FILE: &str = "microcode.cpio";

/// Whether the kernel finds it in what begins so: an archive that is not packed (lib/earlycpio.c goes no further than cpio
/// goes), which is that of [`archive`] by its first entry.
pub fn is_early(archive: &[u8]) -> bool {
    // The name lies behind a header of 110 bytes.
    archive.starts_with(b"070701") && archive.get(110..).is_some_and(|rest| rest.starts_with(b"kernel\0"))
}

pub fn archive(guest: &Tree) -> Result<Vec<u8>> {
    let mut archive = Archive::new(Vec::new());
    for (end, _) in BELOW.match_indices('/').chain([(BELOW.len(), "")]) {
        archive.directory(&BELOW[..end], 0o755)?;
    }
    for (directory, name) in VENDORS {
        let content = joined(&guest.root.join("usr/lib/firmware").join(directory))?;
        archive.aligned(&format!("{BELOW}/{name}"), 0o644, &content, BOUNDARY)?;
    }
    Ok(archive.finish()?)
}

/// The containers of one vendor; signatures and notes lie beside AMD's.
fn joined(directory: &Path) -> Result<Vec<u8>> {
    let entries = fs::read_dir(directory).with_context(|| format!("read {}", directory.display()))?;
    let mut paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    paths.retain(|path| path.extension().is_none_or(|end| end == "bin" || end == "initramfs"));
    paths.retain(|path| path.file_name().is_some_and(|name| name != "README"));
    paths.sort();
    ensure!(!paths.is_empty(), "{} holds no microcode", directory.display());
    let mut all = Vec::new();
    for path in paths {
        all.extend(fs::read(&path).with_context(|| format!("read {}", path.display()))?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_finds_each_vendors_file_where_it_looks() {
        let tree = tempfile::tempdir().unwrap();
        let firmware = tree.path().join("usr/lib/firmware");
        for (path, content) in [
            ("amd-ucode/b.bin", "2"),
            ("amd-ucode/a.bin", "1"),
            ("amd-ucode/a.bin.asc", "signature"),
            ("intel-ucode/06-55-04", "3"),
        ] {
            fs::create_dir_all(firmware.join(path).parent().unwrap()).unwrap();
            fs::write(firmware.join(path), content).unwrap();
        }
        let guest = Tree { root: tree.path().to_path_buf(), files: Default::default(), key: String::new() };
        let archive = archive(&guest).unwrap();
        assert!(is_early(&archive), "not compressed");
        let text = String::from_utf8_lossy(&archive);
        for (name, content) in [("AuthenticAMD.bin", "12"), ("GenuineIntel.bin", "3")] {
            let name = format!("kernel/x86/microcode/{name}\0");
            let (before, after) = text.split_once(&name).unwrap();
            let rest = after.trim_start_matches('\0');
            assert!(rest.starts_with(content), "{rest}");
            assert_eq!((before.len() + name.len() + after.len() - rest.len()) % 16, 0, "{name}");
        }
    }
}
