//! A machine of Debian's stock kernel and programs of the package trees, with a script as PID 1: what the builder and the
//! server of the networks are made of. Nothing of Lifeboat is in it.

use super::machine::Boot;
use super::programs;
use crate::{libraries, packages};
use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};

/// What goes into one.
pub struct Recipe<'a> {
    pub name: &'a str,
    /// Programs of the image's tree, with what each is there for.
    pub programs: &'a [(&'a str, &'a str)],
    /// The same from the tree of the build's own tools.
    pub tools: &'a [(&'a str, &'a str)],
    /// (link, target)
    pub links: &'a [(&'a str, &'a str)],
    /// Parts of the kernel's module tree; modprobe takes what it needs from there.
    pub modules: &'a [&'a str],
    /// What runs as PID 1.
    pub init: &'a str,
    /// (place, where it comes from)
    pub files: &'a [(&'a str, PathBuf)],
}

pub struct Appliance {
    kernel: PathBuf,
    initrd: PathBuf,
    /// Changes with the kernel, the programs and the way they are put together.
    pub key: String,
}

impl Appliance {
    /// Its boot, with these words for the kernel.
    pub fn boot(&self, append: &str) -> Boot {
        Boot::Kernel { kernel: self.kernel.clone(), initrd: self.initrd.clone(), append: append.into() }
    }
}

impl Recipe<'_> {
    /// It, from the cache or new.
    pub fn make(&self) -> Result<Appliance> {
        // Two tests may want it first.
        static ONE: Mutex<()> = Mutex::new(());
        let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let root = programs::debian_root()?;
        let kernel = only(&root.join("boot"), "vmlinuz-")?;
        let version = kernel
            .file_name()
            .and_then(|name| name.to_str()?.strip_prefix("vmlinuz-"))
            .context("read the kernel's version")?
            .to_string();
        let mut hash = Sha256::new();
        let tools = programs::tools_root()?;
        let Recipe { programs, tools: more, links, modules, init, .. } = self;
        hash.update(format!("{version}{programs:?}{more:?}{links:?}{modules:?}{init}"));
        let here = programs.iter().map(|(program, _)| root.join(program));
        let there = more.iter().map(|(program, _)| tools.join(program));
        let files = self.files.iter().map(|(_, from)| from.clone());
        for path in here.chain(there).chain(files) {
            hash.update(fs::read(&path).with_context(|| format!("read {}", path.display()))?);
        }
        let key = packages::hex(&hash.finalize())[..16].to_string();
        let initrd = programs::cache()?.join(format!("vm/{}-{key}.cpio", self.name));
        if !initrd.exists() {
            let name = self.name;
            assemble(self, &root, &tools, &version, &initrd)
                .with_context(|| format!("assemble the {name}'s initramfs"))?;
        }
        Ok(Appliance { kernel, initrd, key })
    }
}

/// The one file of a directory whose name begins so.
fn only(directory: &Path, prefix: &str) -> Result<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(directory)
        .with_context(|| format!("list {}", directory.display()))?
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found.pop().with_context(|| format!("find {prefix}* in {}", directory.display()))
}

fn assemble(recipe: &Recipe, root: &Path, tools: &Path, version: &str, initrd: &Path) -> Result<()> {
    let parent = initrd.parent().context("name the cache")?;
    fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
    let stage =
        tempfile::Builder::new().prefix("appliance-").tempdir_in(parent).context("make a directory")?;
    let stage = stage.path();
    for directory in ["usr/bin", "usr/sbin", "usr/lib", "usr/lib64"] {
        fs::create_dir_all(stage.join(directory)).with_context(|| format!("create {directory}"))?;
    }
    for (link, target) in recipe.links {
        symlink(target, stage.join(link)).with_context(|| format!("link {link}"))?;
    }
    let programs: BTreeSet<String> = recipe.programs.iter().map(|(program, _)| program.to_string()).collect();
    for file in programs.union(&libraries::closure(root, &programs)?) {
        copy_file(&root.join(file), &stage.join(file))?;
    }
    let programs: BTreeSet<String> = recipe.tools.iter().map(|(program, _)| program.to_string()).collect();
    for file in programs.union(&libraries::closure(tools, &programs)?) {
        let to = stage.join(file);
        if !to.exists() {
            copy_file(&tools.join(file), &to)?;
        }
    }
    let modules = format!("usr/lib/modules/{version}");
    for part in recipe.modules {
        let part = format!("{modules}/kernel/{part}");
        copy_tree(&root.join(&part), &stage.join(&part))?;
    }
    for index in ["modules.builtin", "modules.builtin.modinfo", "modules.order"] {
        let index = format!("{modules}/{index}");
        copy_file(&root.join(&index), &stage.join(&index))?;
    }
    let stage_name = stage.to_str().context("name the directory")?;
    let status = programs::debian(root, "usr/sbin/depmod", ["-b", stage_name, version])
        .stdout(Stdio::null())
        .status()
        .context("run depmod")?;
    ensure!(status.success(), "depmod: {status}");
    fs::create_dir_all(stage.join("etc")).context("make /etc")?;
    for (name, from) in recipe.files {
        copy_file(from, &stage.join(name))?;
    }
    fs::write(stage.join("init"), recipe.init).context("write /init")?;
    fs::set_permissions(stage.join("init"), fs::Permissions::from_mode(0o755)).context("mark /init")?;

    let part = initrd.with_extension("part");
    programs::cpio(stage, &part)?;
    fs::rename(&part, initrd).with_context(|| format!("name {}", initrd.display()))
}

fn copy_file(from: &Path, to: &Path) -> Result<()> {
    let parent = to.parent().context("name a directory")?;
    fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
    fs::copy(from, to).with_context(|| format!("copy {}", from.display()))?;
    Ok(())
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    if !from.is_dir() {
        return copy_file(from, to);
    }
    for entry in fs::read_dir(from).with_context(|| format!("list {}", from.display()))? {
        let name = entry.with_context(|| format!("list {}", from.display()))?.file_name();
        copy_tree(&from.join(&name), &to.join(&name))?;
    }
    Ok(())
}

/// Of a recipe's tables: each sorted, and each row once.
#[cfg(test)]
pub fn assert_sorted(programs: &[(&str, &str)], tools: &[(&str, &str)], modules: &[&str]) {
    assert!(programs.windows(2).all(|pair| pair[0].0 < pair[1].0));
    assert!(tools.windows(2).all(|pair| pair[0].0 < pair[1].0));
    assert!(modules.windows(2).all(|pair| pair[0] < pair[1]));
}
