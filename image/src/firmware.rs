//! Firmware: the files that the image's modules ask for (`firmware:` of modinfo, patterns among them), out of Debian's packages.
//! What the wired NICs of many servers cannot do without lies in the first layer, the rest in a layer of its own; what no
//! package has is named in docs/hardware.md, and by devd where a machine needs it.

use crate::modules::{Kernel, Module, Place, glob};
use crate::packages::{Tree, merged};
use anyhow::{Context as _, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

const DIRECTORY: &str = "usr/lib/firmware";

/// Wired NICs whose firmware lies in the first layer: widespread, and without it they carry no packet or are far from
/// what they can do, or it is small.
const FIRST: &[&str] = &[
    "bnx2", "bnx2x", "cxgb3", "e100", "ice", "kaweth", "mscc", "qed", "r8152", "r8169", "tehuti", "tg3",
    "typhoon",
];

/// Where a module's firmware lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shelf {
    First,
    Own,
}

/// What one module asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub shelf: Shelf,
    /// Below [`DIRECTORY`]'s parent tree, with the links on the way to each.
    pub files: BTreeSet<String>,
    /// Names or patterns that no package has.
    pub missing: Vec<String>,
    /// How many names or patterns are met.
    pub met: usize,
}

/// By the name of the module, for every module of the image that asks for any.
pub fn asked(
    tree: &Tree,
    kernel: &Kernel,
    places: &BTreeMap<String, Place>,
) -> Result<BTreeMap<String, Asked>> {
    let there = below(&tree.root)?;
    let modules = places.keys().map(|name| &kernel.modules[name]); // places holds names of modules only
    modules
        .filter(|module| !module.firmware.is_empty())
        .map(|module| Ok((module.name.clone(), one(&tree.root, module, &there)?)))
        .collect()
}

/// The files of one shelf. One that two modules ask for is on the first.
pub fn files(asked: &BTreeMap<String, Asked>, shelf: Shelf) -> BTreeSet<String> {
    let of = |shelf| -> BTreeSet<String> {
        asked.values().filter(|one| one.shelf == shelf).flat_map(|one| one.files.iter().cloned()).collect()
    };
    match shelf {
        Shelf::First => of(Shelf::First),
        Shelf::Own => of(Shelf::Own).difference(&of(Shelf::First)).cloned().collect(),
    }
}

fn one(root: &Path, module: &Module, there: &[String]) -> Result<Asked> {
    let shelf = if FIRST.contains(&module.name.as_str()) { Shelf::First } else { Shelf::Own };
    let mut asked = Asked { shelf, files: BTreeSet::new(), missing: Vec::new(), met: 0 };
    for pattern in &module.firmware {
        let matching: Vec<&String> = there.iter().filter(|file| glob(pattern, file)).collect();
        match matching.is_empty() {
            true => asked.missing.push(pattern.clone()),
            false => asked.met += 1,
        }
        for file in matching {
            with_links(root, &format!("{DIRECTORY}/{file}"), &mut asked.files)?;
        }
    }
    Ok(asked)
}

/// The file, and where it leads when it is a link.
fn with_links(root: &Path, path: &str, files: &mut BTreeSet<String>) -> Result<()> {
    let mut path = path.to_string();
    while files.insert(path.clone()) {
        let full = root.join(&path);
        let look = || format!("look at {}", full.display());
        if !fs::symlink_metadata(&full).with_context(look)?.is_symlink() {
            break;
        }
        let real = fs::read_link(&full).with_context(look)?;
        let beside = full.parent().unwrap_or(root).join(real);
        // One step: a link in between is to be in the layer too, unless it is a directory's.
        let directory = fs::canonicalize(beside.parent().unwrap_or(root)).with_context(look)?;
        let name = beside.file_name().with_context(look)?;
        let below = directory.strip_prefix(fs::canonicalize(root)?).with_context(look)?.join(name);
        path = merged(&below.to_string_lossy());
    }
    Ok(())
}

/// Every file and link below the directory, without it, sorted.
fn below(root: &Path) -> Result<Vec<String>> {
    fn walk(directory: &Path, prefix: &str, found: &mut Vec<String>) -> Result<()> {
        for entry in fs::read_dir(directory).with_context(|| format!("read {}", directory.display()))? {
            let entry = entry?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            match entry.file_type()?.is_dir() {
                true => walk(&entry.path(), &format!("{name}/"), found)?,
                false => found.push(name),
            }
        }
        Ok(())
    }
    let mut found = Vec::new();
    walk(&root.join(DIRECTORY), "", &mut found)?;
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn names_patterns_and_links_are_followed_and_what_is_not_there_is_named() {
        let tree = tempfile::tempdir().unwrap();
        let directory = tree.path().join(DIRECTORY);
        fs::create_dir_all(directory.join("intel/ddp")).unwrap();
        fs::write(directory.join("intel/ddp/ice-1.3.pkg"), "x").unwrap();
        symlink("ice-1.3.pkg", directory.join("intel/ddp/ice.pkg")).unwrap();
        fs::write(directory.join("a1.bin"), "x").unwrap();
        fs::write(directory.join("other.bin"), "x").unwrap();
        let there = below(tree.path()).unwrap();
        assert_eq!(there, ["a1.bin", "intel/ddp/ice-1.3.pkg", "intel/ddp/ice.pkg", "other.bin"]);
        let firmware = ["intel/ddp/ice.pkg", "a*.bin", "gone.bin"].map(str::to_string).to_vec();
        let module = Module { name: "ice".to_string(), firmware, ..Module::default() };
        let asked = one(tree.path(), &module, &there).unwrap();
        let files: Vec<&str> = asked.files.iter().map(String::as_str).collect();
        let wanted = ["a1.bin", "intel/ddp/ice-1.3.pkg", "intel/ddp/ice.pkg"];
        assert_eq!(files, wanted.map(|file| format!("{DIRECTORY}/{file}")));
        assert_eq!((asked.missing.as_slice(), asked.met), (["gone.bin".to_string()].as_slice(), 2));
    }

    #[test]
    fn a_file_that_two_modules_ask_for_lies_in_one_layer() {
        let one = |shelf, files: &[&str]| Asked {
            shelf,
            files: files.iter().map(|file| file.to_string()).collect(),
            missing: Vec::new(),
            met: 0,
        };
        let asked = BTreeMap::from([
            ("ice".to_string(), one(Shelf::First, &["a", "b"])),
            ("nfp".to_string(), one(Shelf::Own, &["b", "c"])),
        ]);
        assert_eq!(files(&asked, Shelf::First), ["a", "b"].map(str::to_string).into());
        assert_eq!(files(&asked, Shelf::Own), ["c"].map(str::to_string).into());
    }

    #[test]
    fn the_first_layers_drivers_are_sorted() {
        assert!(FIRST.is_sorted());
    }
}
