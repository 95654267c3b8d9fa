//! What the built image weighs, as rows of docs/benchmarks.md.

use anyhow::{Context as _, Result};
use contract::layers::Kind;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// A file of out/, and what of it a machine loads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub name: String,
    pub bytes: u64,
}

/// The rows for what lies in `out`: the whole of each way to load it first.
pub fn table(out: &Path) -> Result<String> {
    let size = |name: &str| -> Result<Part> {
        let bytes = fs::metadata(out.join(name))
            .with_context(|| format!("find out/{name}: `make image` builds it"))?
            .len();
        Ok(Part { name: name.to_string(), bytes })
    };
    let (kernel, initramfs, nucleus) = (size("vmlinuz")?, size("initramfs")?, size("nucleus")?);
    let mut names: Vec<String> = fs::read_dir(out.join("layers"))?
        .map(|entry| Ok(format!("layers/{}", entry?.file_name().to_string_lossy())))
        .collect::<Result<_>>()?;
    names.sort();
    let layers: Vec<Part> = names.iter().map(|name| size(name)).collect::<Result<_>>()?;
    let of = |kind: Kind| -> u64 {
        layers.iter().filter(|part| kind_of(&part.name) == kind).map(|part| part.bytes).sum()
    };
    let default = kernel.bytes + initramfs.bytes;
    let wholes = [
        ("download, default flavour".to_string(), default),
        ("download with every firmware file".to_string(), default + of(Kind::Firmware)),
        ("download with every extra too".to_string(), default + of(Kind::Firmware) + of(Kind::Extra)),
        ("download of the nucleus alone".to_string(), kernel.bytes + nucleus.bytes),
    ];
    let single = [kernel, nucleus, initramfs, size("microcode.cpio")?];
    let parts = single.into_iter().chain(layers).map(|part| (format!("`{}`", part.name), part.bytes));
    Ok(text(wholes.into_iter().chain(parts)))
}

/// As their names say: the list itself is inside the image.
fn kind_of(name: &str) -> Kind {
    match name.trim_start_matches("layers/").as_bytes() {
        [b'1' | b'2', ..] => Kind::Image,
        [b'3', ..] => Kind::Firmware,
        _ => Kind::Extra,
    }
}

fn text(rows: impl Iterator<Item = (String, u64)>) -> String {
    let mut text = "| | bytes | MiB |\n|---|---|---|\n".to_string();
    for (name, bytes) in rows {
        // A String takes all.
        let _ = writeln!(text, "| {name} | {bytes} | {:.1} |", bytes as f64 / f64::from(1 << 20));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_to_load_it_is_summed() {
        let out = tempfile::tempdir().unwrap();
        fs::create_dir(out.path().join("layers")).unwrap();
        for (name, bytes) in [
            ("vmlinuz", 1),
            ("initramfs", 20),
            ("nucleus", 5),
            ("microcode.cpio", 7),
            ("layers/10-userland.squashfs", 10),
            ("layers/30-firmware.squashfs", 300),
            ("layers/50-x.squashfs", 4000),
        ] {
            fs::write(out.path().join(name), vec![0; bytes]).unwrap();
        }
        let table = table(out.path()).unwrap();
        let rows: Vec<&str> = table.lines().skip(2).take(4).collect();
        for (row, bytes) in rows.iter().zip(["21", "321", "4321", "6"]) {
            assert!(row.contains(&format!("| {bytes} |")), "{row}");
        }
    }
}
