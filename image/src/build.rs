//! The image: nucleus and layers (docs/build.md), out/vmlinuz, out/initramfs, out/nucleus, out/layers, out/boot.ipxe and
//! out/SHA256SUMS; with Debian's kernel, when that was asked for, in out-debian/. The same lock, rustc and libc give the same bytes.

use crate::cpio::Archive;
use crate::custom;
use crate::firmware::{self, Shelf};
use crate::flavour::Flavour;
use crate::hardware;
use crate::kernel_config;
use crate::libraries;
use crate::lock::{Package, Set};
use crate::manifest::{self, Extra, Row, Take};
use crate::microcode;
use crate::modules::{Kernel, Place, glob};
use crate::packages::{self, Cache, Tree, digest, hex};
use crate::provenance;
use crate::say;
use crate::sums;
use anyhow::{Context as _, Result, bail, ensure};
use contract::layers::{Kind, Known};
use contract::paths::PROGRAMS;
use contract::tools::TOOLS;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Our own binaries, in /lifeboat/bin: PID 1, the services, and the tools.
const BINARIES: &[Binary] = &[
    Binary { package: "init", name: "init", link: &[] },
    Binary { package: LIFEBOAT, name: LIFEBOAT, link: &[] },
    // They start often, read nothing from a network, and are Rust to the last parser: at a fixed place nothing has to be
    // relocated, which is an eighth of what `fdisk -l` takes. Their stack, heap and copies lie anywhere all the same.
    Binary { package: "tools", name: "rescue", link: &["-Crelocation-model=static"] },
];
/// The one that goes by the names of PROGRAMS that are no binaries.
const LIFEBOAT: &str = "lifeboat";

struct Binary {
    package: &'static str,
    name: &'static str,
    /// What rustc is told for the last crate, which is linked.
    link: &'static [&'static str],
}

/// Symbols of libc that look names up through NSS: they load libraries at run time, which a static
/// program must not.
const FORBIDDEN: &[&str] =
    &["getaddrinfo", "gethostbyname", "getpwnam_r", "getpwuid_r", "getgrnam_r", "__nss_lookup_function"];

/// Of what changes with a package only, and is cached: takes seconds, and a tenth off the size.
const ZSTD_KEPT: i32 = 19;
/// Of our own part, which is packed at every build.
const ZSTD_OWN: i32 = 19;

/// Packages of this workspace that are in the image as binaries.
pub fn binaries() -> Vec<&'static str> {
    BINARIES.iter().map(|binary| binary.package).collect()
}

pub struct Built {
    pub kernel: PathBuf,
    pub initramfs: PathBuf,
}

/// A kernel as the image packs it.
pub struct Packed {
    /// Its files, as those of its package.
    pub tree: Tree,
    pub kernel: Kernel,
    pub places: BTreeMap<String, Place>,
    /// Whether the lock of what builds it was followed.
    pub follows_lock: bool,
}

/// The kernel of a flavour, once it is as kernel-config/ wants it; the custom one is built where the cache has it not.
pub fn packed(cache: &Cache, guest: &Tree, locked: &[Package], flavour: Flavour) -> Result<Packed> {
    let kernel = Kernel::read(guest)?;
    kernel_config::check(&kernel.config()?)?;
    let places = kernel.places()?;
    Ok(match flavour {
        Flavour::Debian => Packed { tree: guest.clone(), kernel, places, follows_lock: true },
        Flavour::Custom => {
            let (tree, follows_lock) = custom::tree(cache, locked, guest)?;
            let own = Kernel::read(&tree)?;
            let places = custom::places(&own, &kernel, &places)?;
            Packed { tree, kernel: own, places, follows_lock }
        }
    })
}

/// The custom kernel, or with nothing said Debian's, loudly, on a host that cannot build the custom one.
pub fn wanted_kernel(
    cache: &Cache,
    guest: &Tree,
    locked: &[Package],
    wanted: Option<Flavour>,
) -> Result<(Packed, Flavour)> {
    let flavour = wanted.unwrap_or(Flavour::Custom);
    match packed(cache, guest, locked, flavour) {
        Err(error) if wanted.is_none() && error.is::<custom::Unable>() => {
            eprintln!(
                "{error:#}\n\n*** DEBIAN'S KERNEL is in this image instead, which makes it larger ***\n"
            );
            Ok((packed(cache, guest, locked, Flavour::Debian)?, Flavour::Debian))
        }
        packed => Ok((packed?, flavour)),
    }
}

/// Builds everything into `out/`, or where [`Flavour::out`] says.
pub fn build(source: &Path, wanted: Option<Flavour>) -> Result<Built> {
    let cache = Cache::open(source)?;
    packages::sweep(&cache, std::time::SystemTime::now());
    let guest_names = guest_packages();
    let (locked, unlocked) = packages::locked_or_current(&cache, &guest_names, manifest::HOST)?;
    packages::fetch(&cache, &locked)?;
    let host = packages::tree(&cache, &locked, Set::Host)?;
    let tools = packages::wrappers(&cache, &host)?;
    let guest = packages::tree(&cache, &locked, Set::Guest)?;
    let debian = packed(&cache, &guest, &locked, Flavour::Debian)?;
    let overlooked = debian.kernel.overlooked()?;
    if !overlooked.is_empty() {
        let names = overlooked.join(", ");
        ensure!(unlocked, "kernel-config/modules.list neither takes nor leaves {names}");
        say!("left out, since this kernel is newer than kernel-config/modules.list: {names}");
    }

    let (own, flavour) = match wanted {
        Some(Flavour::Debian) => (None, Flavour::Debian),
        _ => {
            wanted_kernel(&cache, &guest, &locked, wanted).map(|(packed, flavour)| (Some(packed), flavour))?
        }
    };
    let packed = own.as_ref().unwrap_or(&debian);
    let asked = firmware::asked(&guest, &packed.kernel, &packed.places)?;
    firmware::check(&packed.kernel, &asked)?;
    // The page is about the image that is made where nothing is asked for.
    if flavour == Flavour::Custom {
        let table = hardware::table(&packed.kernel, &packed.places, &debian, &asked);
        hardware::check(source, &table, unlocked || !packed.follows_lock)?;
    }
    let Packed { tree, mut kernel, places, follows_lock } = own.unwrap_or(debian);
    // For a file that no layer brings, no module waits.
    for (name, asked) in &asked {
        if let Some(module) = kernel.modules.get_mut(name) {
            module.firmware.retain(|file| !asked.missing.contains(file));
        }
    }
    let mut files = userland_files(&guest)?;
    // The nucleus has them, in one file.
    files.retain(|path| !path.starts_with(ROOTS));
    files.extend(firmware::files(&asked, Shelf::First));
    let first = firmware::files(&asked, Shelf::Nucleus);
    let userland = userland_layer(&cache, &tools, &guest, &files)?;
    let modules = modules_layer(&cache, &tools, &tree, &kernel, &places)?;
    let own = firmware::files(&asked, Shelf::Own);
    let own =
        layer(&cache, &tools, &guest, FIRMWARE, &format!("{own:?}"), |stage| copy_all(&guest, &own, stage))?;
    let mut layers = vec![
        Layer::of(USERLAND, Kind::Image, &userland)?,
        Layer::of("20-modules", Kind::Image, &modules)?,
        Layer::of(FIRMWARE, Kind::Firmware, &own)?,
    ];
    for extra in manifest::EXTRAS {
        let path = extra_layer(&cache, &tools, &guest, extra, &files)?;
        layers.push(Layer::of(extra.name, Kind::Extra, &path)?);
    }

    let binaries = compile(source)?;
    let version = version(source, unlocked);
    let list: String = layers.iter().map(|layer| layer.known.line()).collect();
    let vmlinuz = tree.root.join(format!("boot/vmlinuz-{}", kernel.version));
    let vmlinuz = fs::read(&vmlinuz).with_context(|| format!("read {}", vmlinuz.display()))?;
    let mut nucleus = kept_part(&cache, &tools, &guest, &kernel, &places, &first)?;
    align(&mut nucleus);
    nucleus.extend(zstd::bulk::compress(
        &own_part(
            &binaries,
            &version,
            &made(source),
            &list,
            &extra_programs(&guest, &files)?,
            &firmware::list(&asked, &[(Shelf::First, USERLAND), (Shelf::Own, FIRMWARE)]),
        )?,
        ZSTD_OWN,
    )?);
    align(&mut nucleus);
    // The layers by their list, which is in the nucleus.
    let image = provenance::name(&[&vmlinuz, &nucleus]);
    let mut record = provenance::record(source, &version, &kernel.version, unlocked)?;
    if flavour == Flavour::Custom {
        for (name, value) in custom::record(source, &locked, &tree, follows_lock)? {
            record += &format!("{name} {value}\n");
        }
    }
    nucleus.extend(provenance::archive(&image, &record)?);
    align(&mut nucleus);
    let mut archive = Archive::new(nucleus.clone());
    archive.directory("layers", 0o755)?;
    for Layer { known, bytes } in layers.iter().filter(|layer| layer.known.kind == Kind::Image) {
        archive.file(&format!("layers/{}.squashfs", known.name), 0o444, bytes)?;
    }
    let initramfs = archive.finish()?;

    let out = source.join(Flavour::out(wanted));
    // Of two terminals, one after the other: the list is of one build.
    let _alone = packages::alone(source)?;
    // A layer of an earlier build, which this one's list does not know, would only be refused.
    let layers_beside = out.join("layers");
    match fs::remove_dir_all(&layers_beside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error)
                .with_context(|| format!("remove {}, which may be another user's", layers_beside.display()));
        }
        _ => {}
    }
    fs::create_dir_all(&layers_beside)?;
    put(&out.join("vmlinuz"), &vmlinuz)?;
    put(&out.join("initramfs"), &initramfs)?;
    put(&out.join("nucleus"), &nucleus)?;
    put(&out.join(microcode::FILE), &microcode::archive(&guest)?)?;
    put(&out.join("boot.ipxe"), BOOT_IPXE.as_bytes())?;
    let mut names = vec!["boot.ipxe", "initramfs", microcode::FILE, "nucleus", "vmlinuz"]
        .into_iter()
        .map(str::to_string)
        .collect::<Vec<_>>();
    if flavour == Flavour::Custom {
        put(&out.join("vmlinuz.config"), kernel.config()?.as_bytes())?;
        names.push("vmlinuz.config".to_string());
    }
    for Layer { known, bytes } in &layers {
        let name = format!("layers/{}.squashfs", known.name);
        put(&out.join(&name), bytes)?;
        names.push(name);
    }
    sums::begin(&out, &names)?;
    say!(
        "{0}/vmlinuz {1:.1} MiB, {0}/initramfs {2:.1} MiB: {version}, Linux {3}, image {4}",
        Flavour::out(wanted),
        mib(fs::metadata(out.join("vmlinuz"))?.len()),
        mib(initramfs.len() as u64),
        kernel.version,
        &image[..16]
    );
    Ok(Built { kernel: out.join("vmlinuz"), initramfs: out.join("initramfs") })
}

/// A packed layer, with its line of the list.
struct Layer {
    known: Known,
    bytes: Vec<u8>,
}

impl Layer {
    fn of(name: &str, kind: Kind, path: &Path) -> Result<Layer> {
        let bytes = fs::read(path).with_context(|| format!("read {}", path.display()))?;
        let (length, sha256) = (bytes.len() as u64, hex(&Sha256::digest(&bytes)));
        Ok(Layer { known: Known { name: name.to_string(), length, sha256, kind }, bytes })
    }
}

/// Loaded by iPXE over TFTP or HTTP; the other two are found beside it. `params` may be set by an
/// operator's own script that chains to this one; `nofirmware` leaves the layer of rare firmware out, then as later,
/// `microcode` has the CPU's loaded, which must come first. `edd=off`: else the kernel's set-up code asks the
/// BIOS for the first sector of every disk, and one that hangs holds up the machine before any of us.
///
/// With `lean` set, the nucleus alone is loaded, into a ramfs: of a tmpfs it may take half of the memory that the archive
/// leaves. What does not come with the boot, or does not fit into memory, is fetched from beside the script.
pub const BOOT_IPXE: &str = "\
#!ipxe
isset ${lean} && set archive nucleus || set archive initramfs
isset ${lean} && set root rootfstype=ramfs || clear root
isset ${nofirmware} && set more rescue.firmware=no || clear more
kernel vmlinuz initrd=${archive} edd=off ${root} ${more} BOOTIF=01-${netX/mac:hexhyp} rescue.layers=${cwduri}layers ${params}
isset ${microcode} && initrd microcode.cpio ||
initrd ${archive}
isset ${lean} || isset ${nofirmware} || initrd layers/30-firmware.squashfs /layers/30-firmware.squashfs || echo going on without rare firmware
boot
";

pub fn guest_packages() -> Vec<&'static str> {
    let extras = manifest::EXTRAS.iter().flat_map(|extra| extra.rows);
    let rows = manifest::USERLAND.iter().chain(extras).map(|row| row.package);
    let more = manifest::GUEST_MORE.iter().chain(manifest::FIRMWARE).copied();
    rows.chain(more).collect::<BTreeSet<_>>().into_iter().collect()
}

/// The first layer: programs, and the firmware of wired NICs that the nucleus has not.
const USERLAND: &str = "10-userland";

/// The layer of all other firmware.
pub const FIRMWARE: &str = "30-firmware";

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    let beside = path.with_extension(format!("new{}", std::process::id()));
    fs::write(&beside, bytes).with_context(|| format!("write {}", beside.display()))?;
    Ok(fs::rename(&beside, path)?)
}

/// The commit's time in seconds since 1970, so that the same commit gives the same bytes; empty without one.
pub fn made(source: &Path) -> String {
    let told =
        Command::new("git").arg("-C").arg(source).args(["show", "-s", "--format=%ct", "HEAD"]).output();
    let told = told.ok().filter(|output| output.status.success());
    told.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_string()).unwrap_or_default()
}

/// Our version, and the commit where there is one; an image from other packages than the lock's says so, and one of files that
/// were changed since.
pub fn version(source: &Path, unlocked: bool) -> String {
    let describe =
        Command::new("git").arg("-C").arg(source).args(["rev-parse", "--short=10", "HEAD"]).output();
    let commit = describe
        .ok()
        .filter(|output| output.status.success())
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_string());
    let mut version = env!("CARGO_PKG_VERSION").to_string();
    if let Some(commit) = commit.filter(|commit| !commit.is_empty()) {
        version += &format!("+{commit}");
        let changed = Command::new("git")
            .arg("-C")
            .arg(source)
            .args(["status", "--porcelain", "--untracked-files=no"])
            .output();
        if changed.is_ok_and(|output| !output.stdout.is_empty()) {
            version += ".changed";
        }
    }
    if unlocked { version + " (unlocked)" } else { version }
}

/// Compiles our binaries, each by itself, else features would unify into PID 1; returns them stripped.
fn compile(source: &Path) -> Result<BTreeMap<&'static str, Vec<u8>>> {
    let mut binaries = BTreeMap::new();
    for Binary { package, name, link } in BINARIES {
        say!("compiling {name}");
        binaries.insert(*name, program(source, package, name, link)?);
    }
    Ok(binaries)
}

/// One static binary, stripped; the same bytes wherever it is compiled.
pub fn program(source: &Path, package: &str, name: &str, link: &[&str]) -> Result<Vec<u8>> {
    let scratch = tempfile::tempdir()?;
    let remap = |from: &str, to: &str| format!("--remap-path-prefix={from}={to}");
    let mut flags =
        vec!["-Ctarget-feature=+crt-static".into(), remap(&source.display().to_string(), "/lifeboat")];
    let home =
        std::env::var("CARGO_HOME").ok().or_else(|| Some(format!("{}/.cargo", std::env::var("HOME").ok()?)));
    flags.extend(home.map(|home| remap(&home, "/cargo")));
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // A person sees cargo's own bar; a log is spared it.
    let how = if std::io::IsTerminal::is_terminal(&std::io::stderr()) { "--color=auto" } else { "--quiet" };
    command.current_dir(source).args([
        "rustc",
        how,
        "--locked",
        "--profile",
        "image",
        "-p",
        package,
        "--bin",
        name,
        "--message-format=json",
        "--",
    ]);
    command.args(link);
    // Cargo's own variable for flags beside those of .cargo/config.toml, which it would replace.
    command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    let output = command.stderr(std::process::Stdio::inherit()).output().context("run cargo")?;
    ensure!(output.status.success(), "compile {name}: cargo said no");
    let path = executable(&String::from_utf8_lossy(&output.stdout), name)
        .with_context(|| format!("cargo built no {name}"))?;
    check_symbols(&path)?;
    let stripped = scratch.path().join(name);
    packages::run(Command::new("strip").arg("--strip-all").arg("-o").arg(&stripped).arg(&path))?;
    Ok(fs::read(&stripped)?)
}

fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

fn check_symbols(path: &Path) -> Result<()> {
    let bytes = fs::read(path)?;
    let file = elf::ElfBytes::<elf::endian::LittleEndian>::minimal_parse(&bytes)?;
    let Some((symbols, names)) = file.symbol_table()? else {
        bail!("{} has no symbols to check", path.display())
    };
    for symbol in symbols {
        let name = names.get(symbol.st_name as usize).unwrap_or_default();
        ensure!(
            !FORBIDDEN.contains(&name) || symbol.st_shndx == elf::abi::SHN_UNDEF,
            "{} calls libc's {name}, which loads libraries at run time",
            path.display()
        );
    }
    Ok(())
}

/// The kernel skips an archive behind a compressed one unless it begins on a 4-byte boundary.
fn align(archives: &mut Vec<u8>) {
    archives.resize(archives.len().next_multiple_of(4), 0);
}

/// The part of the nucleus that comes from packages: directories, busybox and modules. Compressed,
/// and cached by what it is made of.
fn kept_part(
    cache: &Cache,
    tools: &Path,
    guest: &Tree,
    kernel: &Kernel,
    places: &BTreeMap<String, Place>,
    firmware: &BTreeSet<String>,
) -> Result<Vec<u8>> {
    let mut files = Files::default();
    for directory in [
        "dev",
        "etc/lifeboat",
        "etc/ssh",
        "lifeboat/bin",
        "media",
        "mnt",
        "proc",
        "run",
        "sys",
        "tmp",
        "usr/bin",
        "usr/sbin",
        "usr/lib64",
        "var/lib",
        "var/log",
        "var/tmp",
        "opt",
        "srv",
        "home",
    ] {
        files.directory(directory, 0o755);
    }
    files.directory("root", 0o700);
    files.directory("root/.ssh", 0o700);
    for top in ["bin", "sbin", "lib", "lib64"] {
        files.link(top, &format!("usr/{top}"));
    }
    files.link("init", "lifeboat/bin/init");
    // Rust's start-up opens it when PID 1 is given no console, and aborts where it cannot.
    files.insert("dev/null", Entry::Character { mode: 0o666, major: 1, minor: 3 });
    files.insert("dev/console", Entry::Character { mode: 0o600, major: 5, minor: 1 });
    let busybox = guest.root.join("usr/bin/busybox");
    files.file("lifeboat/bin/busybox", 0o755, fs::read(&busybox).context("read busybox")?);
    let applets = packages::output(Command::new(&busybox).arg("--list"))?;
    for applet in applets.lines().filter(|applet| !OFF.contains(applet)) {
        files.link(&format!("usr/bin/{applet}"), "/lifeboat/bin/busybox");
    }
    files.link("usr/bin/rescue", "/lifeboat/bin/rescue");
    for tool in TOOLS.iter().filter(|tool| tool.classic) {
        for directory in ["usr/bin", "usr/sbin"] {
            files.link(&format!("{directory}/{}", tool.name), "/lifeboat/bin/rescue");
        }
    }
    for path in firmware {
        shelve(&mut files, tools, guest, path)?;
    }
    // Layers are fetched over TLS before any is there.
    files.file(contract::paths::ROOTS.trim_start_matches('/'), 0o644, roots(&guest.root)?);
    let own: BTreeMap<String, Place> = places
        .iter()
        .filter(|(_, place)| **place != Place::Layer)
        .map(|(name, place)| (name.clone(), *place))
        .collect();
    let directory = format!("usr/lib/modules/{}", kernel.version);
    for (name, place) in &own {
        let (path, content) = kernel.file(&kernel.modules[name], *place)?;
        files.file(&format!("{directory}/{path}"), 0o644, content);
    }
    for (name, content) in kernel.indices(&own)? {
        files.file(&format!("{directory}/{name}"), 0o644, content);
    }
    let archive = files.pack()?;
    let key = hex(&Sha256::digest(&archive))[..24].to_string();
    let kept = cache.root.join("layers").join(format!("nucleus-{ZSTD_KEPT}-{key}.zst"));
    if !kept.exists() {
        say!("packing the nucleus ({} MiB)", archive.len() >> 20);
        put(&kept, &zstd::bulk::compress(&archive, ZSTD_KEPT)?)?;
    }
    fs::read(&kept).with_context(|| format!("read {}", kept.display()))
}

/// A file of firmware, packed as the kernel unpacks it itself (FW_LOADER_COMPRESS_XZ): of several NICs, one is in use.
fn shelve(files: &mut Files, tools: &Path, guest: &Tree, path: &str) -> Result<()> {
    let from = guest.root.join(path);
    let name = format!("{path}.xz");
    if let Ok(target) = fs::read_link(&from) {
        files.link(&name, &format!("{}.xz", target.display()));
        return Ok(());
    }
    // The kernel's decoder knows this sum, and not xz's default.
    let mut xz = Command::new(tools.join("xz"));
    let packed = xz
        .args(["--check=crc32", "--lzma2=preset=9e,dict=1MiB", "--threads=1", "--stdout"])
        .arg(&from)
        .output();
    let packed = packed.with_context(|| format!("pack {path}"))?;
    ensure!(packed.status.success(), "pack {path}: {}", String::from_utf8_lossy(&packed.stderr));
    files.file(&name, 0o644, packed.stdout);
    Ok(())
}

/// Our own part of the nucleus, as a cpio archive.
fn own_part(
    binaries: &BTreeMap<&'static str, Vec<u8>>,
    version: &str,
    made: &str,
    layers: &str,
    programs: &str,
    firmware: &str,
) -> Result<Vec<u8>> {
    let mut files = Files::default();
    for (name, content) in binaries {
        files.file(&format!("lifeboat/bin/{name}"), 0o755, content.clone());
    }
    for name in PROGRAMS.iter().filter(|name| !binaries.contains_key(*name)) {
        files.link(&format!("lifeboat/bin/{name}"), LIFEBOAT);
    }
    files.file("lifeboat/version", 0o644, format!("{version}\n").into_bytes());
    files.file("lifeboat/made", 0o644, format!("{made}\n").into_bytes());
    files.file("lifeboat/layers.list", 0o644, layers.as_bytes().to_vec());
    files.file("lifeboat/layers.programs", 0o644, programs.as_bytes().to_vec());
    files.file("lifeboat/layers.firmware", 0o644, firmware.as_bytes().to_vec());
    for (path, content) in ETC {
        files.file(path, 0o644, content.replace("@VERSION@", version).into_bytes());
    }
    files.file("usr/sbin/shutdown", 0o755, include_bytes!("../files/shutdown").to_vec());
    for name in OFF {
        files.file(&format!("usr/sbin/{name}"), 0o755, include_bytes!("../files/off").to_vec());
    }
    // The other archive has the directories, with their modes.
    files.0.retain(|_, entry| !matches!(entry, Entry::Directory(_)));
    files.pack()
}

/// What ends the machine's run: ours, since busybox's wait for every disk first.
const OFF: &[&str] = &["halt", "poweroff", "reboot"];

/// Files of the nucleus's /etc.
const ETC: &[(&str, &str)] = &[
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/bash\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n\
         tcpdump:x:101:65534::/nonexistent:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    ),
    ("etc/group", "root:x:0:\ntty:x:5:\ndisk:x:6:\nnogroup:x:65534:\n"),
    ("etc/shells", "/bin/sh\n/bin/bash\n"),
    ("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
    (
        "etc/nsswitch.conf",
        "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n",
    ),
    (
        "etc/os-release",
        "ID=lifeboat\nNAME=Lifeboat\nPRETTY_NAME=\"Lifeboat @VERSION@\"\nVERSION_ID=@VERSION@\n",
    ),
    ("etc/profile", include_str!("../files/profile")),
    ("root/.bashrc", include_str!("../files/bashrc")),
    ("root/.profile", ". /root/.bashrc\n"),
];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Directory(u32),
    File { mode: u32, content: Vec<u8> },
    Link(String),
    Character { mode: u32, major: u32, minor: u32 },
}

/// The nucleus's files by name; a later entry of the same name replaces an earlier one.
#[derive(Default)]
struct Files(BTreeMap<String, Entry>);

impl Files {
    fn insert(&mut self, name: &str, entry: Entry) {
        let mut end = 0;
        while let Some(slash) = name[end..].find('/') {
            end += slash + 1;
            self.0.entry(name[..end - 1].to_string()).or_insert(Entry::Directory(0o755));
        }
        self.0.insert(name.to_string(), entry);
    }

    fn directory(&mut self, name: &str, mode: u32) {
        self.insert(name, Entry::Directory(mode));
    }

    fn file(&mut self, name: &str, mode: u32, content: Vec<u8>) {
        self.insert(name, Entry::File { mode, content });
    }

    fn link(&mut self, name: &str, target: &str) {
        self.insert(name, Entry::Link(target.to_string()));
    }

    fn pack(self) -> Result<Vec<u8>> {
        let mut archive = Archive::new(Vec::new());
        for (name, entry) in &self.0 {
            match entry {
                Entry::Directory(mode) => archive.directory(name, *mode),
                Entry::File { mode, content } => archive.file(name, *mode, content),
                Entry::Link(target) => archive.symlink(name, target),
                Entry::Character { mode, major, minor } => archive.character(name, *mode, *major, *minor),
            }?;
        }
        Ok(archive.finish()?)
    }
}

/// Every file of any layer that comes from a package, as paths in the guest tree.
pub fn all_files(guest: &Tree, packed: &Packed) -> Result<BTreeSet<String>> {
    let mut files = userland_files(guest)?;
    for extra in manifest::EXTRAS {
        files.extend(files_of(guest, extra.rows)?);
    }
    let asked = firmware::asked(guest, &packed.kernel, &packed.places)?;
    for shelf in firmware::SHELVES {
        files.extend(firmware::files(&asked, shelf));
    }
    Ok(files)
}

/// Every file of the userland layer, as paths in the guest tree.
pub fn userland_files(guest: &Tree) -> Result<BTreeSet<String>> {
    files_of(guest, manifest::USERLAND)
}

fn files_of(guest: &Tree, rows: &[Row]) -> Result<BTreeSet<String>> {
    let mut files = BTreeSet::new();
    for row in rows {
        let Some(own) = guest.files.get(row.package) else {
            bail!("{}: not in the lock; `make lock` adds it", row.package)
        };
        let program = |path: &&String| path.starts_with("usr/bin/") || path.starts_with("usr/sbin/");
        let (programs, patterns): (bool, &[&str]) = match row.take {
            Take::Programs => (true, &[]),
            Take::Only(patterns) => (false, patterns),
            Take::And(patterns) => (true, patterns),
        };
        if programs {
            files.extend(own.iter().filter(program).cloned());
        }
        for pattern in patterns {
            let matching: Vec<String> = own.iter().filter(|path| glob(pattern, path)).cloned().collect();
            ensure!(!matching.is_empty(), "{}: no file of it matches {pattern}", row.package);
            files.extend(matching);
        }
    }
    files.retain(|path| !manifest::LEFT_OUT.iter().any(|pattern| glob(pattern, path)));
    let needed = libraries::closure(&guest.root, &files)?;
    files.extend(needed);
    Ok(files)
}

fn userland_layer(cache: &Cache, tools: &Path, guest: &Tree, files: &BTreeSet<String>) -> Result<PathBuf> {
    let moved: Vec<String> = files.iter().filter_map(|path| classic(path)).collect();
    let recipe = format!("{files:?}\n{:?}\n{LAYER_ETC:?}\n{moved:?}", manifest::LINKS);
    layer(cache, tools, guest, USERLAND, &recipe, |stage| {
        for path in files {
            check_interpreter(&guest.root, path, files)?;
        }
        copy_all(guest, files, stage)?;
        for (link, target) in manifest::LINKS {
            let _ = fs::remove_file(stage.join(link)); // an alternative's own link, if any
            symlink(target, stage.join(link)).with_context(|| format!("link {link}"))?;
        }
        own_etc(stage, LAYER_ETC)?;
        unpack_keymaps(tools, &stage.join("usr/share/keymaps"))
    })
}

/// A layer beside the image: what its rows name, without what the image has.
fn extra_layer(
    cache: &Cache,
    tools: &Path,
    guest: &Tree,
    extra: &Extra,
    image: &BTreeSet<String>,
) -> Result<PathBuf> {
    let files = extra_files(guest, extra, image)?;
    let known: BTreeSet<String> = files.union(image).cloned().collect();
    let etc: Vec<(&str, &str)> = (manifest::EXTRA_ETC.iter())
        .filter(|(layer, ..)| *layer == extra.name)
        .map(|(_, path, content)| (*path, *content))
        .collect();
    layer(cache, tools, guest, extra.name, &format!("{files:?}\n{:?}{etc:?}", extra.links), |stage| {
        for path in &files {
            check_interpreter(&guest.root, path, &known)?;
        }
        copy_all(guest, &files, stage)?;
        for (link, target) in extra.links {
            symlink(target, stage.join(link)).with_context(|| format!("link {link}"))?;
        }
        own_etc(stage, &etc)
    })
}

/// Files of ours in the /etc of a layer.
fn own_etc(stage: &Path, files: &[(&str, &str)]) -> Result<()> {
    for (path, content) in files {
        let path = stage.join("usr/share/factory/etc").join(path);
        fs::create_dir_all(path.parent().context("a file has a directory")?)?;
        fs::write(&path, content)?;
    }
    Ok(())
}

fn extra_files(guest: &Tree, extra: &Extra, image: &BTreeSet<String>) -> Result<BTreeSet<String>> {
    let whole = files_of(guest, extra.rows).with_context(|| format!("the layer {}", extra.name))?;
    Ok(whole.difference(image).cloned().collect())
}

/// What is typed, and the layer that has it, a line each: `LAYER PROGRAM`. For whoever types what is not aboard.
fn extra_programs(guest: &Tree, image: &BTreeSet<String>) -> Result<String> {
    let mut text = String::new();
    for extra in manifest::EXTRAS {
        let links = extra.links.iter().map(|(link, _)| link.to_string());
        for path in extra_files(guest, extra, image)?.into_iter().chain(links) {
            let name = path.strip_prefix("usr/bin/").or_else(|| path.strip_prefix("usr/sbin/"));
            if let Some(name) = name {
                text += &format!("{} {name}\n", extra.name);
            }
        }
    }
    Ok(text)
}

/// Copies files of the tree to where they lie in a layer.
fn copy_all(guest: &Tree, files: &BTreeSet<String>, stage: &Path) -> Result<()> {
    for path in files {
        let target = match path.strip_prefix("etc/") {
            Some(rest) => format!("usr/share/factory/etc/{rest}"),
            None => classic(path).unwrap_or_else(|| path.clone()),
        };
        copy(&guest.root.join(path), &stage.join(target))?;
    }
    Ok(())
}

/// What is packed one by one cannot be packed well together.
fn unpack_keymaps(tools: &Path, directory: &Path) -> Result<()> {
    let mut packed = Vec::new();
    let mut todo = vec![directory.to_path_buf()];
    while let Some(directory) = todo.pop() {
        for entry in fs::read_dir(&directory).with_context(|| format!("read {}", directory.display()))? {
            let entry = entry?;
            match entry.file_type()? {
                kind if kind.is_dir() => todo.push(entry.path()),
                kind if kind.is_file() && entry.path().extension().is_some_and(|end| end == "gz") => {
                    packed.push(entry.path());
                }
                _ => {}
            }
        }
    }
    packages::run(Command::new(tools.join("gzip")).arg("-d").args(packed))
}

/// Files of the layer's /etc that are ours.
const LAYER_ETC: &[(&str, &str)] = &[(
    "inputrc",
    "set bell-style none\nset show-all-if-ambiguous on\n\"\\e[A\": history-search-backward\n\"\\e[B\": history-search-forward\n",
)];

/// Of Debian's ca-certificates.
const ROOTS: &str = "usr/share/ca-certificates/mozilla";

/// One bundle of all roots, as OpenSSL looks for it.
fn roots(root: &Path) -> Result<Vec<u8>> {
    let directory = root.join(ROOTS);
    let entries = fs::read_dir(&directory).with_context(|| format!("read {}", directory.display()))?;
    let mut names: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    names.sort();
    let mut bundle = Vec::new();
    for name in names {
        bundle.extend(fs::read(name)?);
    }
    Ok(bundle)
}

/// Where the original of a classic tool of ours goes.
fn classic(path: &str) -> Option<String> {
    let name = path.strip_prefix("usr/bin/").or_else(|| path.strip_prefix("usr/sbin/"))?;
    TOOLS.iter().any(|tool| tool.classic && tool.name == name).then(|| format!("usr/libexec/classic/{name}"))
}

/// A script's interpreter has to be aboard.
fn check_interpreter(root: &Path, path: &str, files: &BTreeSet<String>) -> Result<()> {
    let full = root.join(path);
    if !(path.starts_with("usr/bin/") || path.starts_with("usr/sbin/"))
        || fs::symlink_metadata(&full)?.is_symlink()
    {
        return Ok(());
    }
    let bytes = fs::read(&full)?;
    let Some(rest) = bytes.strip_prefix(b"#!") else { return Ok(()) };
    let line =
        String::from_utf8_lossy(rest.split(|byte| *byte == b'\n').next().unwrap_or_default()).into_owned();
    let mut words = line.split_ascii_whitespace();
    let mut interpreter = words.next().unwrap_or_default().to_string();
    if interpreter.ends_with("/env") {
        interpreter = format!("/usr/bin/{}", words.next().unwrap_or_default());
    }
    let name = interpreter.trim_start_matches('/').trim_start_matches("usr/");
    ensure!(
        name == "bin/sh" || files.contains(&format!("usr/{name}")),
        "{path} is a script for {interpreter}, which is not in the image: leave it out (LEFT_OUT) or take the interpreter"
    );
    Ok(())
}

fn modules_layer(
    cache: &Cache,
    tools: &Path,
    guest: &Tree,
    kernel: &Kernel,
    places: &BTreeMap<String, Place>,
) -> Result<PathBuf> {
    // The full indices: they hide the nucleus's own, whose modules they name too.
    let indices = kernel.indices(places)?;
    let mut hash = Sha256::new();
    indices.iter().for_each(|(_, content)| hash.update(content));
    let recipe = format!("{places:?}\n{}", hex(&hash.finalize()));
    layer(cache, tools, guest, "20-modules", &recipe, |stage| {
        let directory = stage.join(format!("usr/lib/modules/{}", kernel.version));
        for (name, place) in places.iter().filter(|(_, place)| **place == Place::Layer) {
            let (path, content) = kernel.file(&kernel.modules[name], *place)?;
            let path = directory.join(path);
            fs::create_dir_all(path.parent().context("a module has a directory")?)?;
            fs::write(path, content)?;
        }
        for (name, content) in &indices {
            fs::write(directory.join(name), content)?;
        }
        Ok(())
    })
}

/// Packs a layer, unless one of the same recipe is in the cache.
fn layer(
    cache: &Cache,
    tools: &Path,
    guest: &Tree,
    name: &str,
    recipe: &str,
    fill: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    // Of the tools' tree, whose name changes with what packs.
    let packers = fs::canonicalize(tools).with_context(|| format!("find {}", tools.display()))?;
    let packers = packers.parent().and_then(Path::file_name).unwrap_or_default();
    let recipe = format!("{SQUASHFS:?}\n{PACKER}\n{packers:?}\n{}\n{name}\n{recipe}", guest.key);
    let key = hex(&Sha256::digest(recipe))[..24].to_string();
    let directory = cache.root.join("layers");
    fs::create_dir_all(&directory)?;
    let target = directory.join(format!("{name}-{key}.squashfs"));
    if target.exists() {
        return Ok(target);
    }
    say!("packing the layer {name}");
    let stage = tempfile::Builder::new().prefix(name).tempdir_in(&directory)?;
    fill(stage.path())?;
    only_usr(stage.path())?;
    settle_modes(stage.path())?;
    let beside = target.with_extension(format!("part{}", std::process::id()));
    let order = tempfile::NamedTempFile::new()?;
    fs::write(order.path(), ordering(guest, stage.path())?)?;
    let mut mksquashfs = Command::new(tools.join("mksquashfs"));
    mksquashfs.arg(stage.path()).arg(&beside).args(SQUASHFS).arg("-sort").arg(order.path());
    packages::run(&mut mksquashfs)?;
    fs::rename(&beside, &target)?;
    Ok(target)
}

/// A layer is stacked on /usr, and whatever else it held would be nowhere.
fn only_usr(stage: &Path) -> Result<()> {
    for entry in fs::read_dir(stage)? {
        let name = entry?.file_name();
        ensure!(name == "usr", "a layer holds /{}: only /usr is seen", name.to_string_lossy());
    }
    Ok(())
}

/// Of the code below that lays files out: a packed layer of an earlier one is not taken.
const PACKER: u32 = 1;

/// Where each file's bytes lie, for mksquashfs: those of one package beside each other, since they resemble each other, and
/// what is in one block of 512 KiB is packed together. `PATH PRIORITY`, the highest first.
fn ordering(guest: &Tree, stage: &Path) -> Result<String> {
    let package: BTreeMap<&str, usize> = (guest.files.values().enumerate())
        .flat_map(|(number, files)| files.iter().map(move |file| (file.as_str(), number)))
        .collect();
    let mut text = String::new();
    let mut todo = vec![stage.to_path_buf()];
    while let Some(directory) = todo.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                todo.push(entry.path());
                continue;
            }
            let path = entry.path();
            let path = path.strip_prefix(stage)?.to_string_lossy().into_owned();
            let number = package.get(path.as_str()).or_else(|| package.get(original(&path).as_str()));
            // A name with a blank or a quote would need quoting: it lies where it lies.
            if let (Some(number), false) = (number, path.contains([' ', '"', '\\'])) {
                text += &format!("{path} {}\n", MOST - (*number as i32).min(2 * MOST));
            }
        }
    }
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    Ok(lines.join("\n") + "\n")
}

/// mksquashfs's highest priority; the lowest is its negative.
const MOST: i32 = 32767;

/// The path in its package of a classic tool's original.
fn original(path: &str) -> String {
    match path.strip_prefix("usr/libexec/classic/") {
        Some(name) => format!("usr/bin/{name}"),
        None => path.to_string(),
    }
}

/// Reproducible, and small: xz with the filter for x86 code. Each mount holds three blocks unpacked, and two for each
/// processor (fs/squashfs/super.c): with 1 MiB the layers are 3 % smaller, and hold
/// 2.5 MiB more for each of them on one processor, 5.5 on four; with 256 KiB they are 4 % larger, and the download with all firmware
/// is beyond its goal. Whoever reads a page of a program waits for its block.
const SQUASHFS: &[&str] = &[
    "-noappend",
    "-quiet",
    "-no-progress",
    "-all-root",
    "-mkfs-time",
    "0",
    "-all-time",
    "0",
    "-no-exports",
    "-no-xattrs",
    "-b",
    "512K",
    "-comp",
    "xz",
    "-Xbcj",
    "x86",
    "-processors",
    "2",
];

/// Modes do not depend on the builder's umask.
fn settle_modes(directory: &Path) -> Result<()> {
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            settle_modes(&entry.path())?;
        } else if kind.is_file() {
            let executable = entry.metadata()?.permissions().mode() & 0o111 != 0;
            fs::set_permissions(
                entry.path(),
                fs::Permissions::from_mode(if executable { 0o755 } else { 0o644 }),
            )?;
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to.parent().context("a file has a directory")?)?;
    if fs::symlink_metadata(to).is_ok() {
        return Ok(());
    }
    let metadata = fs::symlink_metadata(from).with_context(|| format!("look at {}", from.display()))?;
    if metadata.is_symlink() {
        symlink(fs::read_link(from)?, to)?;
    } else {
        fs::copy(from, to).with_context(|| format!("copy {}", from.display()))?;
    }
    Ok(())
}

/// A file for each hash of what the two builds of `make repro` compare.
pub fn write_summary(built: &Built, mut out: impl std::io::Write) -> Result<()> {
    for path in [&built.kernel, &built.initramfs] {
        writeln!(out, "{}  {}", digest(path)?, path.file_name().unwrap_or_default().to_string_lossy())?;
    }
    Ok(())
}
