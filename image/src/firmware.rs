//! Firmware: the files that the image's modules ask for (`firmware:` of modinfo, patterns among them), out of Debian's packages.
//! What the wired NICs of many servers cannot do without lies in the nucleus, that of all others in the first layer, so that
//! kernel and initramfs alone bring every one of them up; the rest in a layer of its own. What no package has is named in
//! docs/hardware.md, and by devd where a machine needs it.

use crate::modules::{Kernel, Module, Place, glob};
use crate::packages::{Tree, merged};
use anyhow::{Context as _, Result, bail, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

const DIRECTORY: &str = "usr/lib/firmware";

/// Wired NICs whose firmware lies in the nucleus: widespread, and without it they carry no packet or are far from
/// what they can do, or it is small. With the nucleus alone they fetch the layers.
const FIRST: &[&str] = &[
    "bnx2", "bnx2x", "cxgb3", "e100", "ice", "kaweth", "mscc", "qed", "r8152", "r8169", "tehuti", "tg3",
    "typhoon",
];

/// Versions that a module of [`FIRST`] loads where the newer one is not there, which it is (bnx2x_init_firmware of Linux
/// 6.12). They lie with the other NICs' firmware.
const OLDER_OF: &str = "bnx2x";
const OLDER: &[&str] =
    &["bnx2x/bnx2x-e1-7.13.15.0.fw", "bnx2x/bnx2x-e1h-7.13.15.0.fw", "bnx2x/bnx2x-e2-7.13.15.0.fw"];

/// Below here are the modules of the others.
const WIRED: &str = "kernel/drivers/net/ethernet/";

/// Modules there whose firmware lies in the layer of its own all the same, with the reason. None has one now.
const APART: &[(&str, &str)] = &[];

/// Where a module's firmware lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shelf {
    Nucleus,
    /// `10-userland`
    First,
    /// `30-firmware`
    Own,
}

/// The one that comes first is the one that counts where two modules ask for a file.
pub const SHELVES: [Shelf; 3] = [Shelf::Nucleus, Shelf::First, Shelf::Own];

fn shelf(module: &Module) -> Shelf {
    let name = module.name.as_str();
    match FIRST.contains(&name) {
        true => Shelf::Nucleus,
        false if module.path.starts_with(WIRED) && !APART.iter().any(|(apart, _)| *apart == name) => {
            Shelf::First
        }
        false => Shelf::Own,
    }
}

/// What one module asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub shelf: Shelf,
    /// Below [`DIRECTORY`]'s parent tree, with the links on the way to each.
    pub files: BTreeSet<String>,
    /// Likewise, of [`OLDER`]: in the first layer.
    pub older: BTreeSet<String>,
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
    let of = |wanted: &dyn Fn(Shelf) -> bool| -> BTreeSet<String> {
        let files = asked.values().filter(|one| wanted(one.shelf)).flat_map(|one| &one.files);
        let older = asked.values().filter(|_| wanted(Shelf::First)).flat_map(|one| &one.older);
        files.chain(older).cloned().collect()
    };
    of(&|one| one == shelf).difference(&of(&|one| one < shelf)).cloned().collect()
}

/// Which layer has which file, for devd and whoever it tells: lines of `LAYER FILE`.
pub fn list(asked: &BTreeMap<String, Asked>, layers: &[(Shelf, &str)]) -> String {
    let below = format!("{DIRECTORY}/");
    let of = |(shelf, layer): &(Shelf, &str)| -> String {
        files(asked, *shelf)
            .iter()
            .filter_map(|path| path.strip_prefix(&below))
            .map(|file| format!("{layer} {file}\n"))
            .collect()
    };
    layers.iter().map(of).collect()
}

/// The build's rule: with kernel and initramfs alone every wired NIC has what Debian has for it.
pub fn check(kernel: &Kernel, asked: &BTreeMap<String, Asked>) -> Result<()> {
    for (name, why) in APART {
        ensure!(
            !why.is_empty() && asked.contains_key(*name),
            "image/src/firmware.rs: {name} is apart for nothing"
        );
    }
    if let Some(asked) = asked.get(OLDER_OF) {
        let (older, known) = (asked.older.len(), OLDER.len());
        ensure!(
            older == known,
            "image/src/firmware.rs: {OLDER_OF} asks for {older} of {known} older versions"
        );
    }
    let own = files(asked, Shelf::Own);
    for (name, one) in asked {
        let is_wired = kernel.modules.get(name).is_some_and(|module| module.path.starts_with(WIRED));
        let file = one.files.iter().find(|file| own.contains(*file));
        let apart = APART.iter().any(|(apart, _)| apart == name);
        if let (true, false, Some(file)) = (is_wired, apart, file) {
            bail!("{name} drives a wired NIC, and its {file} is in the layer of rare firmware");
        }
    }
    Ok(())
}

fn one(root: &Path, module: &Module, there: &[String]) -> Result<Asked> {
    let (files, older) = (BTreeSet::new(), BTreeSet::new());
    let mut asked = Asked { shelf: shelf(module), files, older, missing: Vec::new(), met: 0 };
    for pattern in &module.firmware {
        let matching: Vec<&String> = there.iter().filter(|file| glob(pattern, file)).collect();
        match matching.is_empty() {
            true => asked.missing.push(pattern.clone()),
            false => asked.met += 1,
        }
        let files = if OLDER.contains(&pattern.as_str()) { &mut asked.older } else { &mut asked.files };
        for file in matching {
            with_links(root, &format!("{DIRECTORY}/{file}"), files)?;
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
            older: BTreeSet::new(),
            missing: Vec::new(),
            met: 0,
        };
        let asked = BTreeMap::from([
            ("ice".to_string(), one(Shelf::Nucleus, &["a", "b"])),
            ("nfp".to_string(), one(Shelf::First, &["b", "c"])),
            (OLDER_OF.to_string(), Asked { older: ["o".to_string()].into(), ..one(Shelf::Nucleus, &["n"]) }),
            ("qla2xxx".to_string(), one(Shelf::Own, &["a", "c", "usr/lib/firmware/d"])),
        ]);
        assert_eq!(files(&asked, Shelf::Nucleus), ["a", "b", "n"].map(str::to_string).into());
        assert_eq!(files(&asked, Shelf::First), ["c", "o"].map(str::to_string).into());
        assert_eq!(files(&asked, Shelf::Own), ["usr/lib/firmware/d"].map(str::to_string).into());
        assert_eq!(list(&asked, &[(Shelf::Own, "30-firmware")]), "30-firmware d\n");
    }

    #[test]
    fn a_wired_nic_s_firmware_is_never_in_the_layer_of_rare_firmware() {
        let module = |name: &str, path: &str| {
            let path = format!("kernel/drivers/{path}/{name}.ko");
            (name.to_string(), Module { name: name.to_string(), path, ..Module::default() })
        };
        let modules = [
            module("bnx2", "net/ethernet/broadcom"),
            module("nfp", "net/ethernet/netronome"),
            module("qla2xxx", "scsi"),
        ];
        let shelves: Vec<Shelf> = modules.iter().map(|(_, module)| shelf(module)).collect();
        assert_eq!(shelves, SHELVES);
        let kernel = Kernel::of(String::new(), modules.into(), Path::new(""));
        let asked = |shelf| {
            let files = ["a".to_string()].into();
            BTreeMap::from([(
                "nfp".to_string(),
                Asked { shelf, files, older: BTreeSet::new(), missing: Vec::new(), met: 1 },
            )])
        };
        assert!(check(&kernel, &asked(Shelf::First)).is_ok());
        let error = check(&kernel, &asked(Shelf::Own)).unwrap_err().to_string();
        assert!(error.starts_with("nfp drives a wired NIC, and its a"), "{error}");
        let stale = [(OLDER_OF.to_string(), asked(Shelf::Nucleus).remove("nfp").unwrap())].into();
        let error = check(&kernel, &stale).unwrap_err().to_string();
        assert!(error.ends_with("bnx2x asks for 0 of 3 older versions"), "{error}");
    }

    #[test]
    fn the_nucleus_s_drivers_are_sorted() {
        assert!(FIRST.is_sorted());
    }
}
