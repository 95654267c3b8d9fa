//! The shared libraries that the image's foreign programs need, found by reading the programs
//! (DT_NEEDED, DT_RUNPATH), never by running them. A missing one is an error that names it.

use crate::packages;
use anyhow::{Context as _, Result, bail};
use elf::ElfBytes;
use elf::endian::LittleEndian;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Where Debian keeps libraries, below the tree. systemd's have no path in them: whoever loads one has loaded the others.
const DIRECTORIES: &[&str] = &["usr/lib/x86_64-linux-gnu", "usr/lib", "usr/lib/x86_64-linux-gnu/systemd"];

/// What one ELF file asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Wants {
    pub needed: Vec<String>,
    /// Directories, `$ORIGIN` resolved, below the tree.
    pub runpath: Vec<String>,
    pub interpreter: Option<String>,
}

/// Reads an ELF file; `None` for anything else.
pub fn wants(tree: &Path, path: &str) -> Result<Option<Wants>> {
    let bytes = fs::read(tree.join(path)).with_context(|| format!("read {path}"))?;
    if !bytes.starts_with(b"\x7fELF") {
        return Ok(None);
    }
    let file = ElfBytes::<LittleEndian>::minimal_parse(&bytes).with_context(|| format!("parse {path}"))?;
    let mut wants = Wants::default();
    for header in file.segments().into_iter().flatten() {
        if header.p_type == elf::abi::PT_INTERP {
            let text = file.segment_data(&header)?;
            let text =
                String::from_utf8_lossy(text).trim_end_matches('\0').trim_start_matches('/').to_string();
            // Named by its path in the unmerged root: /lib64.
            wants.interpreter = Some(packages::merged(&text));
        }
    }
    let common = file.find_common_data()?;
    let (Some(dynamic), Some(strings)) = (common.dynamic, common.dynsyms_strs) else {
        return Ok(Some(wants));
    };
    let origin = Path::new(path).parent().unwrap_or(Path::new("")).display().to_string();
    for entry in dynamic {
        let text = |offset: u64| strings.get(offset as usize).map(str::to_string);
        match entry.d_tag {
            elf::abi::DT_NEEDED => wants.needed.push(text(entry.d_val())?),
            elf::abi::DT_RUNPATH | elf::abi::DT_RPATH => {
                for directory in text(entry.d_val())?.split(':') {
                    let directory = directory
                        .replace("$ORIGIN", &format!("/{origin}"))
                        .replace("${ORIGIN}", &format!("/{origin}"));
                    wants.runpath.push(directory.trim_start_matches('/').to_string());
                }
            }
            _ => {}
        }
    }
    Ok(Some(wants))
}

/// Every file that `programs` need to start: libraries, loaders, and the links on the way to them.
pub fn closure(tree: &Path, programs: &BTreeSet<String>) -> Result<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    let mut todo: Vec<String> = programs.iter().cloned().collect();
    let mut seen: BTreeSet<String> = BTreeSet::new();
    while let Some(path) = todo.pop() {
        if !seen.insert(path.clone()) {
            continue;
        }
        let metadata = fs::symlink_metadata(tree.join(&path)).with_context(|| format!("look at {path}"))?;
        if metadata.is_symlink() {
            // Links to programs of ours (/lifeboat/bin) lead out of the tree.
            let Some(target) = resolve(tree, &path)? else { continue };
            all.insert(target.clone());
            todo.push(target);
            continue;
        }
        if !metadata.is_file() {
            continue;
        }
        let Some(wants) = wants(tree, &path)? else { continue };
        if let Some(interpreter) = &wants.interpreter {
            all.insert(interpreter.clone());
            todo.push(interpreter.clone());
        }
        for name in &wants.needed {
            let directories = wants.runpath.iter().map(String::as_str).chain(DIRECTORIES.iter().copied());
            let found = directories
                .map(|directory| format!("{directory}/{name}"))
                .find(|path| tree.join(path).exists());
            let Some(found) = found else { bail!("{path} needs {name}, which is in no package of the lock") };
            all.insert(found.clone());
            todo.push(found);
        }
    }
    Ok(all)
}

/// Where a link leads, one step, below the tree; `None` when it leads to our own binaries.
fn resolve(tree: &Path, path: &str) -> Result<Option<String>> {
    let target = fs::read_link(tree.join(path)).with_context(|| format!("read link {path}"))?;
    let target = target.to_string_lossy().into_owned();
    if target.starts_with("/lifeboat/") {
        return Ok(None);
    }
    let joined = match target.strip_prefix('/') {
        Some(absolute) => absolute.to_string(),
        None => format!("{}/{target}", Path::new(path).parent().unwrap_or(Path::new("")).display()),
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in joined.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let path_in_tree = packages::merged(&parts.join("/"));
    if !tree.join(&path_in_tree).exists() && fs::symlink_metadata(tree.join(&path_in_tree)).is_err() {
        bail!("{path} is a link to {target}, which is not there");
    }
    Ok(Some(path_in_tree))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree with one program of this host in it, and its answer.
    fn closure_of_sh(more: &[&str]) -> Result<BTreeSet<String>> {
        let tree = tempfile::tempdir()?;
        fs::create_dir_all(tree.path().join("usr/bin"))?;
        fs::copy("/bin/sh", tree.path().join("usr/bin/sh"))?;
        for file in more {
            let path = tree.path().join(file);
            fs::create_dir_all(path.parent().context("a file has a directory")?)?;
            // No ELF file asks for nothing.
            fs::write(path, "")?;
        }
        closure(tree.path(), &BTreeSet::from(["usr/bin/sh".to_string()]))
    }

    #[test]
    fn a_missing_library_is_named_with_who_needs_it() {
        let error = closure_of_sh(&[]).unwrap_err().to_string();
        assert!(error.contains("usr/bin/sh needs lib"), "{error}");
    }

    #[test]
    fn a_missing_loader_is_named() {
        let libraries = ["libc.so.6", "libtinfo.so.6"].map(|name| format!("usr/lib/x86_64-linux-gnu/{name}"));
        let libraries: Vec<&str> = libraries.iter().map(String::as_str).collect();
        let error = closure_of_sh(&libraries).unwrap_err().to_string();
        assert!(error.contains("ld-linux-x86-64.so.2"), "{error}");
        let loader = "usr/lib64/ld-linux-x86-64.so.2";
        let all = closure_of_sh(&[&libraries[..], &[loader]].concat()).unwrap();
        assert!(all.contains(loader) && all.contains(libraries[0]), "{all:?}");
    }
}
