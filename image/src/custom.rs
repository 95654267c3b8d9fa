//! The custom kernel (docs/kernel.md): Debian's source of the locked linux-image, with Debian's own config, less the modules
//! that the image does not pack, and kernel-config/custom laid over it. It is built in a root of locked packages, and
//! kept in the cache by the hash of all that it is made of.

use crate::kernel_config;
use crate::lock::{self, Package};
use crate::manifest;
use crate::modules::{Kernel, Module, Place, glob};
use crate::packages::{self, Cache, Refusal, Tree, Why, digest, hex};
use crate::say;
use anyhow::{Context as _, Result, bail, ensure};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The packages that build it, in a lock of their own: an image with Debian's kernel neither fetches them nor changes with them.
pub const LOCK: &str = "image/kernel.lock";

const SOURCE: &str = "linux-source-";
const IMAGE: &str = "linux-image-";

/// Later ones are laid over earlier ones.
const FRAGMENTS: &[(&str, &str)] = &[
    ("boot.config", include_str!("../../kernel-config/custom/boot.config")),
    ("debug.config", include_str!("../../kernel-config/custom/debug.config")),
    ("leave-out.config", include_str!("../../kernel-config/custom/leave-out.config")),
    ("security.config", include_str!("../../kernel-config/custom/security.config")),
    ("size.config", include_str!("../../kernel-config/custom/size.config")),
];

/// Modules that only Debian's kernel has.
const LACKS: &str = include_str!("../../kernel-config/custom/lacks.list");

/// What a driver knows with Debian's kernel alone.
const FEWER: &str = include_str!("../../kernel-config/custom/fewer.list");

/// What runs in the root.
const BUILD: &str = include_str!("../kernel/build");

/// How the root is entered: without a network, and seeing nothing of the host but /dev/null and what runs.
const ENTER: &str = "mount --bind /dev/null \"$0/dev/null\" && mount --rbind /proc \"$0/proc\" && \
    exec chroot \"$0\" /usr/bin/env -i PATH=/usr/sbin:/usr/bin HOME=/ LC_ALL=C TZ=UTC JOBS=\"$1\" /bin/sh /build/build";

/// Whether the root can be entered here at all.
const TRY: &str = "mount --bind /dev/null \"$0/dev/null\" && mount --rbind /proc \"$0/proc\" && exec chroot \"$0\" /bin/true";

/// Why a host cannot build it, whatever the fragments say.
#[derive(Debug)]
pub struct Unable(String);

impl std::fmt::Display for Unable {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "the custom kernel cannot be built here: {}", self.0)
    }
}

impl std::error::Error for Unable {}

/// What the kernel is made of beside the packages that build it.
struct Recipe {
    /// Debian's config.
    base: String,
    /// The modules that stay in it, as `lsmod` prints them.
    wanted: String,
    /// What is laid over it.
    fragment: String,
}

impl Recipe {
    fn read(guest: &Tree) -> Result<Recipe> {
        let debian = Kernel::read(guest)?;
        Ok(Recipe {
            base: debian.config()?,
            wanted: wanted(&debian.places()?),
            fragment: fragment(&settings()?),
        })
    }

    /// Where the cache has the kernel that these packages make of it, if it has it, and its key.
    fn kept(&self, cache: &Cache, own: &[Package]) -> (PathBuf, String) {
        let key = key(&[&self.base, &self.wanted, &self.fragment, &lock::format(own), BUILD, ENTER]);
        (cache.root.join(format!("kernel-{key}")), key)
    }
}

/// Whether the cache has the kernel of the lock: an image with it takes no hour.
pub fn is_kept(cache: &Cache, guest: &Tree) -> Result<bool> {
    let own = lock::read(&cache.source.join(LOCK))?;
    Ok(Recipe::read(guest)?.kept(cache, &own).0.exists())
}

/// What the image is made of with this kernel: a tree like that of its package, and whether its lock was followed. A host that
/// cannot build it gets [`Unable`].
pub fn tree(cache: &Cache, locked: &[Package], guest: &Tree) -> Result<(Tree, bool)> {
    let own = lock::read(&cache.source.join(LOCK))?;
    let recipe = Recipe::read(guest)?;
    let kept = |own: &[Package]| recipe.kept(cache, own);
    let there = |own: &[Package]| -> Result<()> {
        // An image of the archive's current packages has a newer kernel than the lock has a source.
        in_step(locked, own).map_err(|error| Refusal { why: Why::Gone, said: format!("{error:#}") })?;
        if kept(own).0.exists() {
            return Ok(());
        }
        // Before hundreds of megabytes are fetched and unpacked for nothing.
        can_enter(Path::new("/"))?;
        packages::fetch(cache, own)
    };
    // As with the image's own lock: an archive that moved on stops nobody.
    let (own, follows_lock) = packages::follow(
        &packages::noted(cache, LOCK)?,
        own,
        there,
        |own| in_step(locked, own).is_ok() && (kept(own).0.exists() || packages::has(cache, own)),
        || packages::relock(cache, &[], manifest::KERNEL, &[], &[]),
        "the kernel is built from the archive's current source",
    )
    .map_err(|error| match Refusal::why(&error) {
        // Source and linux-image come into the archive one after the other.
        Some(Why::Gone) => Unable(format!("{error:#}")).into(),
        _ => error,
    })?;
    let (root, key) = kept(&own);
    if !root.exists() {
        let stage = Stage::open(cache, &own)?;
        stage.write("debian.config", &recipe.base)?;
        stage.write("wanted.lsmod", &recipe.wanted)?;
        stage.write("custom.config", &recipe.fragment)?;
        stage.write("build", BUILD)?;
        stage.build(cache)?;
        let beside = packages::beside(&root)?;
        packages::run(Command::new("cp").arg("-a").arg(stage.root.join("build/out/.")).arg(beside.path()))?;
        packages::keep(beside, &root, "boot")?;
    }
    let tree = Tree { root, files: BTreeMap::new(), key };
    let kernel = Kernel::read(&tree)?;
    let config = kernel.config()?;
    taken(&config, &settings()?)?;
    kernel_config::check(&config)?;
    Ok((tree, follows_lock))
}

/// The places of the custom kernel's modules: those that they have in an image with Debian's kernel. Each of these is there,
/// or built in, or has its line in lacks.list. What Debian has built in, and is a module here, lies in the layer.
pub fn places(
    kernel: &Kernel,
    debian: &Kernel,
    there: &BTreeMap<String, Place>,
) -> Result<BTreeMap<String, Place>> {
    let places = placed(kernel, debian, there, &lacks(LACKS)?)?;
    let early = early(kernel, debian, there.keys());
    ensure!(
        early.is_empty(),
        "the custom kernel has built in what asks for firmware, which is not there so early: {}",
        early.join(", ")
    );
    let meant = fewer(FEWER)?;
    let (unmeant, idle) = lost(kernel, debian, there.keys(), &meant);
    ensure!(
        unmeant.is_empty(),
        "the custom kernel's drivers know less than Debian's, and kernel-config/custom/fewer.list does not name it:\n  {}",
        unmeant.join("\n  ")
    );
    ensure!(idle.is_empty(), "kernel-config/custom/fewer.list: nothing is lost to {}", idle.join(", "));
    Ok(places)
}

/// A line of fewer.list.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Meant {
    /// Of modules' paths.
    module: String,
    /// Of what it says: an alias, or `firmware:NAME`.
    said: String,
}

/// Drivers that ask for firmware, by what Debian's say of them or the kernel's own list, and are no modules here: they ask before
/// a layer is mounted.
fn early<'a>(kernel: &Kernel, debian: &Kernel, names: impl Iterator<Item = &'a String>) -> Vec<String> {
    let theirs =
        names.filter_map(|name| debian.modules.get(name)).filter(|theirs| !theirs.firmware.is_empty());
    let built_in = kernel.built_in();
    let theirs = theirs.map(|theirs| theirs.name.clone()).filter(|name| built_in.contains(name));
    let all: BTreeSet<String> = theirs.chain(kernel.built_in_with_firmware()).collect();
    all.into_iter().collect()
}

/// Aliases (devices, by which a driver is loaded) and firmware of Debian's drivers that the same driver here does not name: an
/// option of its own that was lost with another one. Those that no line means, and lines that mean none. A driver that is built in
/// here is not looked at: what it knows stands in no file.
fn lost<'a>(
    kernel: &Kernel,
    debian: &Kernel,
    names: impl Iterator<Item = &'a String>,
    meant: &[Meant],
) -> (Vec<String>, Vec<String>) {
    let (mut unmeant, mut met) = (Vec::new(), vec![false; meant.len()]);
    let both = names.filter_map(|name| Some((debian.modules.get(name)?, kernel.modules.get(name)?)));
    for (theirs, ours) in both {
        let ours: BTreeSet<String> = said(ours).collect();
        for said in said(theirs).filter(|said| !ours.contains(said)) {
            let fits = |line: &Meant| glob(&line.module, &theirs.path) && glob(&line.said, &said);
            match meant.iter().position(fits) {
                Some(number) => met[number] = true,
                None => unmeant.push(format!("{} {said}", theirs.path)),
            }
        }
    }
    let idle = meant.iter().zip(met).filter(|(_, met)| !met);
    (unmeant, idle.map(|(line, _)| format!("{} {}", line.module, line.said)).collect())
}

fn said(module: &Module) -> impl Iterator<Item = String> {
    let firmware = module.firmware.iter().map(|name| format!("firmware:{name}"));
    module.aliases.iter().cloned().chain(firmware)
}

/// Lines are `PATH SAID  # reason`: patterns of a module below kernel/, and of what it says.
fn fewer(text: &str) -> Result<Vec<Meant>> {
    let mut lines = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let (patterns, reason) = line.split_once('#').unwrap_or((line, ""));
        if patterns.trim().is_empty() {
            continue;
        }
        let at = || format!("fewer.list, line {}", number + 1);
        let words: Vec<&str> = patterns.split_whitespace().collect();
        let [module, said] = words[..] else { bail!("{}: not PATH SAID", at()) };
        ensure!(!reason.trim().is_empty(), "{}: {module} has no reason", at());
        lines.push(Meant { module: format!("kernel/{module}"), said: said.to_string() });
    }
    Ok(lines)
}

fn placed(
    kernel: &Kernel,
    debian: &Kernel,
    there: &BTreeMap<String, Place>,
    lacks: &[String],
) -> Result<BTreeMap<String, Place>> {
    let built_in = kernel.built_in();
    let (mut places, mut missing, mut met) = (BTreeMap::new(), Vec::new(), vec![false; lacks.len()]);
    for (name, place) in there {
        let path = &debian.modules[name].path; // places holds names of modules only
        if kernel.modules.contains_key(name) {
            places.insert(name.clone(), *place);
        } else if !built_in.contains(name) {
            match lacks.iter().position(|pattern| glob(pattern, path)) {
                Some(number) => met[number] = true,
                None => missing.push(path.as_str()),
            }
        }
    }
    // What every machine has with Debian's kernel, and some need.
    let further = debian.built_in().into_iter().filter(|name| kernel.modules.contains_key(name));
    places.extend(further.map(|name| (name, Place::Layer)));
    ensure!(
        missing.is_empty(),
        "the custom kernel has not, and kernel-config/custom/lacks.list does not name: {}",
        missing.join(", ")
    );
    if let Some(number) = met.iter().position(|met| !met) {
        bail!(
            "kernel-config/custom/lacks.list: the custom kernel lacks nothing that matches {}",
            lacks[number]
        );
    }
    kernel.with_needs(places)
}

/// What identifies it in the image: lines of /lifeboat/provenance. `locked` is what the image is made of.
pub fn record(
    source: &Path,
    locked: &[Package],
    tree: &Tree,
    follows_lock: bool,
) -> Result<Vec<(&'static str, String)>> {
    let own = lock::read(&source.join(LOCK))?;
    let (from, image) = (of(&own, SOURCE)?, of(locked, IMAGE)?);
    let lock = match follows_lock {
        true => digest(&source.join(LOCK))?,
        false => "not followed: some versions are gone from the mirror".to_string(),
    };
    Ok(vec![
        ("kernel", format!("custom, of {} {}", from.name, image.version)),
        ("kernel.lock", lock),
        ("kernel.key", tree.key.clone()),
    ])
}

/// The source package that the kernel was built from, for whoever has to answer for the image: the lock's, or, where the archive
/// had moved on, that which was taken instead.
pub fn source_package(cache: &Cache, locked: &[Package]) -> Result<Package> {
    let own = lock::read(&cache.source.join(LOCK))?;
    let instead = || lock::read(&packages::noted(cache, LOCK).ok()?).ok();
    let own = match in_step(locked, &own) {
        Ok(()) => own,
        Err(error) => instead().filter(|own| in_step(locked, own).is_ok()).ok_or(error)?,
    };
    Ok(of(&own, SOURCE)?.clone())
}

/// Source and linux-image are of one version, so that security updates reach both flavours by one `make lock`.
pub fn in_step(locked: &[Package], own: &[Package]) -> Result<()> {
    let (image, source) = (of(locked, IMAGE)?, of(own, SOURCE)?);
    ensure!(
        image.version == source.version,
        "{} is {} and {} is {}: `make lock` moves both",
        image.name,
        image.version,
        source.name,
        source.version
    );
    Ok(())
}

fn of<'a>(packages: &'a [Package], prefix: &str) -> Result<&'a Package> {
    let found = packages.iter().find(|package| package.name.starts_with(prefix));
    found.with_context(|| format!("no package {prefix}* is locked; `make lock` adds it"))
}

fn key(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(Sha256::digest(part));
    }
    hex(&hash.finalize())[..16].to_string()
}

/// The modules that the image packs of Debian's kernel, as lsmod prints them: what the source's own localmodconfig keeps.
fn wanted(places: &BTreeMap<String, Place>) -> String {
    let lines = places.keys().map(|name| format!("{name} 1 0\n"));
    "Module Size Used by\n".to_string() + &lines.collect::<String>()
}

/// A line of a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Setting<'a> {
    option: &'a str,
    /// `y`, `m`, `n`, a number, or a text in quotation marks.
    value: &'a str,
    reason: &'a str,
}

/// Of all fragments.
fn settings() -> Result<Vec<Setting<'static>>> {
    let mut all: Vec<Setting> = Vec::new();
    for (name, text) in FRAGMENTS {
        for setting in parse(text).with_context(|| format!("kernel-config/custom/{name}"))? {
            let again = all.iter().any(|other| other.option == setting.option);
            ensure!(!again, "kernel-config/custom/{name}: {} again", setting.option);
            all.push(setting);
        }
    }
    Ok(all)
}

/// Lines are `CONFIG_NAME=VALUE  # reason`; others are comments.
fn parse(text: &str) -> Result<Vec<Setting<'_>>> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let at = number + 1;
        let (setting, reason) = line.split_once('#').with_context(|| format!("line {at}: no reason"))?;
        let (option, value) =
            setting.trim().split_once('=').with_context(|| format!("line {at}: no value"))?;
        let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        let is_text = value.starts_with('"') && value.ends_with('"');
        let is_value = matches!(value, "y" | "m" | "n") || is_number || is_text;
        ensure!(option.starts_with("CONFIG_") && is_value, "line {at}: not CONFIG_NAME=VALUE: {setting}");
        ensure!(!reason.trim().is_empty(), "line {at}: no reason");
        found.push(Setting { option, value, reason: reason.trim() });
    }
    Ok(found)
}

/// As the kernel's own configuration reads it.
fn fragment(settings: &[Setting]) -> String {
    let mut text = String::new();
    for Setting { option, value, .. } in settings {
        // A String takes all.
        let _ = match *value {
            "n" => writeln!(text, "# {option} is not set"),
            value => writeln!(text, "{option}={value}"),
        };
    }
    text
}

/// Each line holds in the config that came of it: another option may have refused it.
fn taken(config: &str, settings: &[Setting]) -> Result<()> {
    let has: BTreeMap<&str, &str> = config
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .collect();
    let value = |option: &str| has.get(option).copied().unwrap_or("n");
    let refused = settings.iter().filter(|setting| value(setting.option) != setting.value);
    let lines: Vec<String> = refused
        .map(|Setting { option, value: wanted, reason }| {
            format!("  {option} is {}, not {wanted}: {reason}", value(option))
        })
        .collect();
    ensure!(
        lines.is_empty(),
        "the kernel's config does not take kernel-config/custom:\n{}",
        lines.join("\n")
    );
    Ok(())
}

/// Patterns of paths below kernel/, each with a reason.
fn lacks(text: &str) -> Result<Vec<String>> {
    let mut patterns = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let (pattern, reason) = line.split_once('#').unwrap_or((line, ""));
        let (pattern, reason) = (pattern.trim(), reason.trim());
        if pattern.is_empty() {
            continue;
        }
        ensure!(!reason.is_empty(), "lacks.list, line {}: {pattern} has no reason", number + 1);
        patterns.push(format!("kernel/{pattern}"));
    }
    Ok(patterns)
}

/// The root in which it is built, with the toolchain in it. `KERNEL_ROOT=DIR` keeps it, and goes on in it: for work on the
/// fragments, since only what a change touches is built again.
struct Stage {
    root: PathBuf,
    /// Removed at the end, but for a kept one.
    temporary: Option<tempfile::TempDir>,
}

impl Stage {
    fn open(cache: &Cache, own: &[Package]) -> Result<Stage> {
        let kept = std::env::var_os("KERNEL_ROOT").filter(|name| !name.is_empty()).map(PathBuf::from);
        let temporary = match kept {
            Some(_) => None,
            None => Some(tempfile::Builder::new().prefix("kernel-root").tempdir_in(&cache.root)?),
        };
        let root = match (kept, &temporary) {
            (Some(root), _) => root,
            (None, Some(temporary)) => temporary.path().to_path_buf(),
            (None, None) => bail!("no place to build in"),
        };
        if !root.join("build").exists() {
            say!("unpacking {} packages that build the kernel", own.len());
            packages::unpack(cache, &own.iter().collect::<Vec<_>>(), &root)?;
            // As its maintainer's script would.
            symlink("gawk", root.join("usr/bin/awk")).context("name awk")?;
            for directory in ["dev", "proc", "tmp", "build"] {
                fs::create_dir_all(root.join(directory))?;
            }
            fs::write(root.join("dev/null"), "")?;
        }
        Ok(Stage { root, temporary })
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.root.join("build").join(name);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    }

    fn build(&self, cache: &Cache) -> Result<()> {
        let log = cache.root.join("kernel.log");
        let root = fs::canonicalize(&self.root)?;
        can_enter(&root)?;
        say!(
            "building the kernel, about an hour of one CPU (KERNEL=debian does without); {} tells",
            log.display()
        );
        let output = fs::File::create(&log).with_context(|| format!("write {}", log.display()))?;
        let status = enter(&root, ENTER)
            .stdout(output.try_clone()?)
            .stderr(output)
            .status()
            .context("run unshare (of util-linux)")?;
        if !status.success() {
            let text = fs::read_to_string(&log).unwrap_or_default();
            let from = text.lines().count().saturating_sub(LAST);
            let last: Vec<&str> = text.lines().skip(from).collect();
            bail!(
                "the kernel was not built ({status}), see {}; KERNEL=debian goes without it:\n{}",
                log.display(),
                last.join("\n")
            );
        }
        if self.temporary.is_none() {
            say!("{} is kept", self.root.display());
        }
        Ok(())
    }
}

/// A script in namespaces of its own, with the root as `$0` and how many jobs as `$1`.
fn enter(root: &Path, script: &str) -> Command {
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "--mount", "--net", "sh", "-c", script])
        .arg(root)
        .arg(jobs.to_string())
        // That of a person who is not root has no chroot(8) in it.
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null());
    command
}

/// Whether this host lets a root be entered; [`Unable`] says why not.
fn can_enter(root: &Path) -> Result<()> {
    let tried = enter(root, TRY).output().context("run unshare (of util-linux)")?;
    if tried.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&tried.stderr);
    let why = said.trim().lines().next_back().unwrap_or("unshare failed");
    // 127: the shell found no such program.
    let hint = match tried.status.code() {
        Some(127) => "",
        _ => " (it takes a user namespace, which this host has to allow)",
    };
    Err(Unable(format!("{why}{hint}")).into())
}

/// Lines of the log that are shown.
const LAST: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_is_entered_with_the_path_of_a_person_who_is_not_root() {
        let names = |command: &Command| {
            let path = command.get_envs().find(|(name, _)| *name == "PATH")?.1?.to_str()?.to_string();
            path.split(':')
                .map(|directory| format!("{directory}/chroot"))
                .find(|name| Path::new(name).exists())
        };
        assert!(names(&enter(Path::new("/"), TRY)).is_some(), "no chroot(8) on the path");
    }

    #[test]
    fn every_line_of_the_fragments_has_a_reason_and_stands_once() {
        assert!(settings().unwrap().len() > 50);
        for wrong in [
            "CONFIG_A=y\n",
            "CONFIG_A=y #\n",
            "A=y # x\n",
            "CONFIG_A=z # x\n",
            "CONFIG_A=0y # x\n",
            "CONFIG_A # x\n",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!(lacks("drivers/a.ko\n").is_err());
    }

    #[test]
    fn what_the_config_refuses_is_named_with_its_reason() {
        let text = "CONFIG_A=y # a\nCONFIG_B=n # b\nCONFIG_C=\"-x\" # c\nCONFIG_D=0 # d\n";
        let settings = parse(text).unwrap();
        assert_eq!(fragment(&settings), "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=\"-x\"\nCONFIG_D=0\n");
        taken("CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=\"-x\"\nCONFIG_D=0\n", &settings).unwrap();
        let error = taken("CONFIG_A=m\nCONFIG_B=y\nCONFIG_C=\"-x\"\nCONFIG_D=0\n", &settings)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("CONFIG_A is m, not y: a") && error.contains("CONFIG_B is y, not n: b"),
            "{error}"
        );
        assert_eq!(error.lines().count(), 3, "{error}");
    }

    /// A kernel of these modules and built-in ones.
    fn kernel(root: &Path, modules: &[&str], built_in: &[&str]) -> Kernel {
        let module = |path: &&str| {
            let name = crate::modules::stem(path);
            (name.clone(), Module { path: path.to_string(), name, ..Module::default() })
        };
        fs::write(root.join("modules.builtin"), built_in.join("\n")).unwrap();
        Kernel::of(String::new(), modules.iter().map(module).collect(), root)
    }

    #[test]
    fn a_driver_that_only_debians_kernel_has_stops_the_build() {
        let (ours, debians) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (disk, nic, fuse) =
            ("kernel/drivers/block/loop.ko", "kernel/drivers/net/nic-a.ko", "kernel/fs/fuse/fuse.ko");
        let debian = kernel(debians.path(), &[disk, nic], &[fuse]);
        let there = BTreeMap::from([("loop".into(), Place::Nucleus), ("nic_a".into(), Place::NucleusPacked)]);
        let lacking =
            placed(&kernel(ours.path(), &[], &[disk]), &debian, &there, &[]).unwrap_err().to_string();
        assert!(lacking.contains(nic) && !lacking.contains(disk), "{lacking}");
        let whole = kernel(ours.path(), &[nic, fuse], &[disk]);
        let places = placed(&whole, &debian, &there, &[]).unwrap();
        let wanted = [("fuse".to_string(), Place::Layer), ("nic_a".to_string(), Place::NucleusPacked)];
        assert_eq!(places, wanted.into());
        let idle = placed(&whole, &debian, &there, &["kernel/x/*".to_string()]).unwrap_err().to_string();
        assert!(idle.contains("kernel/x/*"), "{idle}");
    }

    /// Also one that Debian's kernel has built in itself, or that asks for firmware here alone.
    #[test]
    fn a_driver_that_asks_for_firmware_and_is_built_in_stops_the_build() {
        let (root, debians) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let nic = "kernel/drivers/net/nic-a.ko";
        let debian = kernel(debians.path(), &[nic], &[]);
        let there = BTreeMap::from([("nic_a".to_string(), Place::NucleusPacked)]);
        let ours = kernel(root.path(), &[], &[nic]);
        let modinfo = root.path().join("modules.builtin.modinfo");
        fs::write(&modinfo, "nic-a.license=GPL\0nic-a.alias=pci:v1.firmware=x\0").unwrap();
        assert_eq!(early(&ours, &debian, there.keys()), [""; 0]);
        fs::write(&modinfo, "nic-a.license=GPL\0nic-a.firmware=a/1.bin\0nic-a.firmware=a/2.bin\0").unwrap();
        assert_eq!(early(&ours, &debian, there.keys()), ["nic_a"]);
    }

    #[test]
    fn a_device_that_only_debians_driver_knows_stops_the_build() {
        let (ours, debians) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (nic, built_in) = ("kernel/drivers/net/nic-a.ko", "kernel/drivers/net/virtio_net.ko");
        let mut debian = kernel(debians.path(), &[nic, built_in], &[]);
        let mut ours = kernel(ours.path(), &[nic], &[built_in]);
        let names: Vec<String> = debian.modules.keys().cloned().collect();
        let say = |kernel: &mut Kernel, name: &str, aliases: &[&str], firmware: &[&str]| {
            let module = kernel.modules.get_mut(name).unwrap();
            module.aliases = aliases.iter().map(|alias| alias.to_string()).collect();
            module.firmware = firmware.iter().map(|name| name.to_string()).collect();
        };
        say(&mut debian, "virtio_net", &["virtio:d1"], &[]);
        say(&mut debian, "nic_a", &["pci:v1", "pci:v2"], &["a/1.bin"]);
        // Another order, and more than Debian's, are no loss.
        say(&mut ours, "nic_a", &["pci:v3", "pci:v2", "pci:v1"], &["a/1.bin"]);
        assert_eq!(lost(&ours, &debian, names.iter(), &[]), (vec![], vec![]));
        assert_eq!(early(&ours, &debian, names.iter()), [""; 0]);
        say(&mut debian, "virtio_net", &["virtio:d1"], &["v.bin"]);
        assert_eq!(early(&ours, &debian, names.iter()), ["virtio_net"]);
        say(&mut ours, "nic_a", &["pci:v2"], &[]);
        let (unmeant, _) = lost(&ours, &debian, names.iter(), &[]);
        assert_eq!(unmeant, [format!("{nic} pci:v1"), format!("{nic} firmware:a/1.bin")]);
        let meant = fewer("drivers/net/nic-*.ko pci:v1 # old\ndrivers/net/*.ko firmware:a/* # x\n").unwrap();
        assert_eq!(lost(&ours, &debian, names.iter(), &meant), (vec![], vec![]));
        let idle = fewer("drivers/net/nic-a.ko pci:v2 # has it\n").unwrap();
        let (unmeant, idle) = lost(&ours, &debian, names.iter(), &idle);
        assert_eq!((unmeant.len(), idle.len()), (2, 1));
        for wrong in ["a.ko pci:v1\n", "a.ko # x\n", "a.ko b c # x\n"] {
            assert!(fewer(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_source_is_that_of_the_locked_kernel() {
        let locked = lock::parse(include_str!("../packages.lock")).unwrap();
        let mut own = lock::parse(include_str!("../kernel.lock")).unwrap();
        in_step(&locked, &own).unwrap();
        let source = own.iter_mut().find(|package| package.name.starts_with(SOURCE)).unwrap();
        source.version = "6.12.1-1".to_string();
        assert!(in_step(&locked, &own).unwrap_err().to_string().contains("make lock"));
    }

    #[test]
    fn the_bill_of_an_unlocked_image_names_the_source_that_was_taken_instead() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache { root: dir.path().join("cache"), source: dir.path().join("tree") };
        fs::create_dir_all(cache.source.join("image")).unwrap();
        fs::create_dir(&cache.root).unwrap();
        fs::write(cache.source.join(LOCK), include_str!("../kernel.lock")).unwrap();
        let own = lock::parse(include_str!("../kernel.lock")).unwrap();
        let mut locked = lock::parse(include_str!("../packages.lock")).unwrap();
        assert_eq!(source_package(&cache, &locked).unwrap(), *of(&own, SOURCE).unwrap());
        let newer = |packages: &mut [Package], prefix: &str| {
            let package = packages.iter_mut().find(|package| package.name.starts_with(prefix)).unwrap();
            package.version = "6.12.999-1".to_string();
        };
        newer(&mut locked, IMAGE);
        assert!(source_package(&cache, &locked).unwrap_err().to_string().contains("make lock"));
        let mut instead = own;
        newer(&mut instead, SOURCE);
        fs::write(packages::noted(&cache, LOCK).unwrap(), lock::format(&instead)).unwrap();
        assert_eq!(source_package(&cache, &locked).unwrap().version, "6.12.999-1");
    }
}
