//! Debian packages: from the lock to trees of files. A private apt root verifies the archive with
//! the keys below image/keys; the host's own sources and package state are left alone.

use crate::lock::{self, Package, SOURCE, Set};
use crate::manifest::{HOST_ALONE, LEFT_BEHIND};
use crate::say;
use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

const SUITE: &str = "trixie";
/// Packages fetched at once: a mirror's latency, not its line, is what is waited for.
const PARALLEL: usize = 6;

/// Where things are kept between builds.
#[derive(Clone, Debug)]
pub struct Cache {
    pub root: PathBuf,
    /// The project's root.
    pub source: PathBuf,
}

impl Cache {
    /// `CACHE`, else `$XDG_CACHE_HOME/lifeboat`, else `~/.cache/lifeboat`.
    pub fn open(source: &Path) -> Result<Cache> {
        let root =
            match (std::env::var_os("CACHE"), std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME")) {
                (Some(cache), _, _) if !cache.is_empty() => PathBuf::from(cache),
                (_, Some(xdg), _) if !xdg.is_empty() => PathBuf::from(xdg).join("lifeboat"),
                (_, _, Some(home)) => PathBuf::from(home).join(".cache/lifeboat"),
                _ => bail!("set CACHE to a directory: there is no HOME"),
            };
        fs::create_dir_all(root.join("debs")).with_context(|| format!("make {}", root.display()))?;
        let cache = Cache { root: fs::canonicalize(root)?, source: fs::canonicalize(source)? };
        plain(&cache.root).context("the cache: CACHE=DIR names another")?;
        plain(&cache.source).context("the checkout: it has to lie elsewhere")?;
        Ok(cache)
    }

    pub fn file(&self, package: &Package) -> PathBuf {
        let ending = if package.source().is_some() { "tar" } else { "deb" };
        self.root.join("debs").join(format!("{}.{ending}", package.sha256))
    }
}

/// Removes what builds left in the cache that were interrupted: gigabytes, for the kernel and of `make repro`.
pub fn sweep(cache: &Cache, now: SystemTime) {
    for (directory, part) in [("", "kernel-root"), ("", "repro."), ("debs", ""), ("layers", "")] {
        for entry in fs::read_dir(cache.root.join(directory)).into_iter().flatten().flatten() {
            let (name, path) = (entry.file_name().to_string_lossy().into_owned(), entry.path());
            let Ok(is) = entry.metadata() else { continue };
            // What is packed lies in the layers' directory as a tree.
            let is_stage =
                (directory == "layers" && is.is_dir()) || (!part.is_empty() && name.starts_with(part));
            let is_old = is.modified().is_ok_and(|then| now.duration_since(then).is_ok_and(|age| age > LEFT));
            if !is_old || !(is_stage || name.contains(".part")) {
                continue;
            }
            let removed = if is.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            match removed {
                Ok(()) => say!("removed {}, of a build that was interrupted", path.display()),
                Err(error) => say!("remove {}: {error}", path.display()),
            }
        }
    }
}

/// No build takes so long.
const LEFT: Duration = Duration::from_secs(24 * 3600);

/// Refuses a path that make, apt's lists of sources, an option of QEMU or a script of ours would take apart.
fn plain(path: &Path) -> Result<()> {
    let text = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
    let odd = |c: &char| c.is_whitespace() || c.is_control() || "\"'\\$`,:;&|<>()*?[]{}#!".contains(*c);
    match text.chars().find(odd) {
        Some(odd) => bail!("{odd:?} in {text}: programs that are called take a path with it apart"),
        None => Ok(()),
    }
}

/// The mirror without a slash at its end: MIRROR, else what the host's own apt uses for Debian, else
/// the default of a tool that installs Debian.
pub fn mirror() -> Result<String> {
    if let Some(mirror) = said("MIRROR") {
        return Ok(mirror);
    }
    let targets =
        output(Command::new("apt-get").args(["indextargets", "--format", "$(ORIGIN) $(LABEL) $(REPO_URI)"]));
    if let Some(uri) = of_apt(&targets.unwrap_or_default()) {
        return Ok(uri);
    }
    for script in [
        "/usr/share/debootstrap/scripts/debian-common",
        "/usr/share/debootstrap/scripts/sid",
        "/usr/sbin/debootstrap",
        "/usr/bin/mmdebstrap",
    ] {
        let text = fs::read_to_string(script).unwrap_or_default();
        let found = text
            .split(['"', '\'', ' ', '\n'])
            .find(|word| word.starts_with("http") && word.ends_with("/debian"));
        if let Some(uri) = found {
            return Ok(uri.to_string());
        }
    }
    bail!("no Debian mirror is known here: run make with MIRROR=http://HOST/debian")
}

/// A variable that names a mirror.
fn said(name: &str) -> Option<String> {
    let mirror = std::env::var(name).ok()?;
    Some(mirror.trim_end_matches('/').to_string()).filter(|mirror| !mirror.is_empty())
}

/// The first that names a server: a CD has no newer package, and cloud images have a file of mirrors (apt-transport-mirror(1)).
fn of_apt(targets: &str) -> Option<String> {
    let uris = targets.lines().filter_map(|line| line.strip_prefix("Debian Debian "));
    let mut mirrors = uris.filter_map(|uri| {
        let uri = uri.trim_end_matches('/');
        if let Some(list) = uri.strip_prefix("mirror+file:") {
            let list = fs::read_to_string(list).ok()?;
            let first = list.lines().find(|line| line.starts_with("http"))?;
            return Some(first.split_whitespace().next()?.trim_end_matches('/').to_string());
        }
        (!uri.starts_with("cdrom:")).then(|| uri.to_string())
    });
    mirrors.next()
}

/// Security updates stand beside the main archive on full mirrors, and in a suite of their own; where an archive keeps what was there
/// at a time, the time comes behind.
fn security(mirror: &str) -> String {
    match mirror.split_once("/archive/debian/") {
        Some((host, time)) => format!("{host}/archive/debian-security/{time}"),
        None => format!("{mirror}-security"),
    }
}

/// Where a mirror has what the lock has below a path.
fn uri(base: &str, path: &str) -> String {
    match path.strip_prefix("debian-security/") {
        Some(path) => format!("{}/{path}", security(base)),
        None => format!("{base}/{path}"),
    }
}

/// Why a file did not come, the gravest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// Each mirror answers that it has it not.
    Gone,
    /// One cannot be asked: there is no network.
    Away,
    /// All else: another file of that name, a full disk.
    Failed,
}

/// What a lock names cannot be had.
#[derive(Debug)]
pub struct Refusal {
    pub why: Why,
    pub said: String,
}

impl Refusal {
    fn failed(said: String) -> Refusal {
        Refusal { why: Why::Failed, said }
    }

    /// The gravest of some reasons, with all that was said for it.
    fn of(all: Vec<Refusal>, between: &str) -> Option<Refusal> {
        let why = all.iter().map(|refusal| refusal.why).max()?;
        let said: Vec<String> = all.into_iter().filter(|one| one.why == why).map(|one| one.said).collect();
        Some(Refusal { why, said: said.join(between) })
    }

    /// The reason of an error, if it is one of these.
    pub fn why(error: &anyhow::Error) -> Option<Why> {
        error.downcast_ref().map(|refusal: &Refusal| refusal.why)
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.said)
    }
}

impl std::error::Error for Refusal {}

/// Sees that every package of the set is in the cache, by hash. The error is a [`Refusal`].
pub fn fetch(cache: &Cache, packages: &[Package]) -> Result<()> {
    if has(cache, packages) {
        return Ok(());
    }
    fetch_from(cache, packages, &bases()?)
}

fn fetch_from(cache: &Cache, packages: &[Package], bases: &[String]) -> Result<()> {
    let missing: Vec<&Package> = packages.iter().filter(|package| !cache.file(package).exists()).collect();
    let bytes: u64 = missing.iter().map(|package| package.size).sum();
    say!("fetching {} packages, {} MB", missing.len(), bytes / 1_000_000);
    let next = AtomicUsize::new(0);
    let refusals = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..PARALLEL {
            scope.spawn(|| {
                while let Some(package) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let Err(Refusal { why, said }) = fetch_one(cache, package, bases) else { continue };
                    if why != Why::Gone {
                        // The others would wait for the same network, or fill the same disk.
                        next.store(missing.len(), Ordering::Relaxed);
                    }
                    let said = format!("fetch {} {}: {said}", package.name, package.version);
                    refusals.lock().expect("no thread panics holding it").push(Refusal { why, said });
                }
            });
        }
    });
    let Some(mut refusal) = Refusal::of(refusals.into_inner().expect("all threads have ended"), "\n") else {
        return Ok(());
    };
    if refusal.why == Why::Gone {
        refusal.said += "\nThe mirror has moved on to newer versions: `make lock` takes the current ones, SNAPSHOT=URL names a mirror that keeps old ones";
    }
    Err(refusal.into())
}

fn bases() -> Result<Vec<String>> {
    let mirror = mirror()?;
    Ok([mirror].into_iter().chain(said("SNAPSHOT")).collect())
}

/// From the first of the mirrors that has it.
fn fetch_one(cache: &Cache, package: &Package, bases: &[String]) -> Result<(), Refusal> {
    let target = cache.file(package);
    let beside = target.with_extension(format!("part{}", std::process::id()));
    // Of a build that was interrupted, and was this process by its number: apt would go on with it.
    let _ = fs::remove_file(&beside);
    let mut refusals = Vec::new();
    for base in bases {
        match fetch_uri(&uri(base, &package.path), &package.sha256, &beside) {
            Ok(()) => {
                return fs::rename(&beside, &target)
                    .map_err(|error| Refusal::failed(format!("keep {}: {error}", target.display())));
            }
            Err(refusal) => refusals.push(refusal),
        }
    }
    // Left by a failed fetch, or not there; the second has what came with another hash.
    let _ = fs::remove_file(&beside);
    let _ = fs::remove_file(beside.with_extension(format!("part{}.FAILED", std::process::id())));
    Refusal::of(refusals, "; ").map_or(Ok(()), Err)
}

fn fetch_uri(uri: &str, sha256: &str, to: &Path) -> Result<(), Refusal> {
    // apt's own fetcher: it knows the host's proxies, and compares the hash.
    let fetched = Command::new("/usr/lib/apt/apt-helper")
        .args(["-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=3", "download-file", uri])
        .arg(to)
        .arg(format!("SHA256:{sha256}"))
        // What it says is read.
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Refusal::failed(format!("run apt-helper (of Debian's package apt): {error}")))?;
    if !fetched.status.success() {
        return Err(refusal(&String::from_utf8_lossy(&fetched.stderr)));
    }
    match digest(to) {
        Ok(sum) if sum == sha256 => Ok(()),
        Ok(sum) => Err(Refusal::failed(format!("{uri} has the hash {sum}"))),
        Err(error) => Err(Refusal::failed(format!("{error:#}"))),
    }
}

/// What apt says of a file that did not come: `E: Failed to fetch URI  REASON`. The reason is the status of HTTP, or begins so for a
/// mirror that is a directory (methods/http.cc and methods/file.cc of apt).
fn refusal(said: &str) -> Refusal {
    let failed = said.lines().find_map(|line| line.strip_prefix("E: Failed to fetch "));
    let line = failed.or_else(|| said.lines().find_map(|line| line.strip_prefix("E: ")));
    let reason = failed.and_then(|line| line.split_once(' ')).map_or("", |(_, reason)| reason.trim_start());
    let begins = |starts: &[&str]| starts.iter().any(|start| reason.starts_with(start));
    let why = match () {
        () if begins(&["404 ", "410 ", "File not found"]) => Why::Gone,
        () if begins(AWAY) => Why::Away,
        () => Why::Failed,
    };
    Refusal { why, said: line.unwrap_or("apt-helper failed").trim().to_string() }
}

/// How apt says that a server cannot be reached (methods/connect.cc).
const AWAY: &[&str] = &[
    "Cannot initiate the connection",
    "Connection failed",
    "Connection timed out",
    "Could not connect",
    "Could not resolve",
    "Something wicked happened resolving",
    "System error resolving",
    "Temporary failure resolving",
    "Unable to connect",
];

/// Lower-case hex of a file's SHA-256.
pub fn digest(path: &Path) -> Result<String> {
    let mut file = fs::File::open(path).with_context(|| format!("open {}", path.display()))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            length => hash.update(&buffer[..length]),
        }
    }
    Ok(hex(&hash.finalize()))
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The packages of one set, unpacked.
#[derive(Clone, Debug)]
pub struct Tree {
    pub root: PathBuf,
    /// Package to the files (no directories) it holds, without a leading slash, as merged /usr.
    pub files: BTreeMap<String, Vec<String>>,
    /// Names the packages in it: changes with any of them.
    pub key: String,
}

/// Unpacks one set into the cache, once.
pub fn tree(cache: &Cache, packages: &[Package], set: Set) -> Result<Tree> {
    let own: Vec<&Package> = packages.iter().filter(|package| package.is_in(set)).collect();
    let key =
        hex(&Sha256::digest(own.iter().map(|p| p.sha256.as_str()).collect::<String>()))[..16].to_string();
    let name = match set {
        Set::Guest => "guest",
        Set::Host => "host",
    };
    let root = cache.root.join(format!("{name}-{key}"));
    let list = root.join(".files.json");
    if !list.exists() {
        say!("unpacking {} packages ({name})", own.len());
        let beside = beside(&root)?;
        unpack(cache, &own, beside.path())?;
        keep(beside, &root, ".files.json")?;
    }
    let files =
        serde_json::from_slice(&fs::read(&list)?).with_context(|| format!("read {}", list.display()))?;
    Ok(Tree { root, files, key })
}

/// A directory beside a place of the cache, for what is to be there at once and whole. No other build has it, nor one that was
/// interrupted.
pub(crate) fn beside(place: &Path) -> Result<TempDir> {
    let (parent, name) = (place.parent().context("the cache has a root")?, place.file_name());
    let name = format!("{}.part", name.unwrap_or_default().to_string_lossy());
    tempfile::Builder::new()
        .prefix(&name)
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir_in(parent)
        .with_context(|| format!("make a directory in {}", parent.display()))
}

/// Puts what was made beside it into its place. Another build may have been quicker: what has the file `last` is whole, the same,
/// and in use, so it stays. What has it not is the rest of a directory that somebody began to remove.
pub(crate) fn keep(made: TempDir, place: &Path, last: &str) -> Result<()> {
    match fs::rename(made.path(), place) {
        Ok(()) => {
            // It is under its name now.
            let _ = made.keep();
            return Ok(());
        }
        Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {}
        Err(error) => return Err(error).with_context(|| format!("keep {}", place.display())),
    }
    if !place.join(last).exists() {
        renameat_with(CWD, made.path(), CWD, place, RenameFlags::EXCHANGE)
            .with_context(|| format!("replace what is left of {}", place.display()))?;
    }
    Ok(())
}

pub(crate) fn unpack(cache: &Cache, packages: &[&Package], root: &Path) -> Result<()> {
    for directory in ["usr/bin", "usr/sbin", "usr/lib", "usr/lib64"] {
        fs::create_dir_all(root.join(directory))?;
    }
    for directory in ["bin", "sbin", "lib", "lib64"] {
        symlink(format!("usr/{directory}"), root.join(directory))?;
    }
    let mut files = BTreeMap::new();
    for package in packages {
        let deb = cache.file(package);
        run(Command::new("dpkg-deb").arg("--extract").arg(&deb).arg(root))?;
        // Where the locale is C, tar would write a name that is not ASCII with escapes.
        let list = "dpkg-deb --fsys-tarfile \"$0\" | tar t --quoting-style=literal";
        let listing = output(Command::new("sh").arg("-c").arg(list).arg(&deb))?;
        let own = listing
            .lines()
            .filter(|line| !line.ends_with('/'))
            .map(|line| merged(line.trim_start_matches("./")));
        files.insert(package.name.clone(), own.collect::<Vec<String>>());
    }
    // dpkg-deb gives the unpacked root the mode of the last package's.
    fs::set_permissions(root, fs::Permissions::from_mode(0o755))?;
    fs::write(root.join(".files.json"), serde_json::to_vec(&files)?)?;
    Ok(())
}

/// `lib/x` is `usr/lib/x`: Debian 13 has one /usr.
pub fn merged(path: &str) -> String {
    let top = path.split('/').next().unwrap_or_default();
    match top {
        "bin" | "sbin" | "lib" | "lib64" => format!("usr/{path}"),
        _ => path.to_string(),
    }
}

/// Programs of the host tree as commands: `CACHE/host/bin/NAME`, each run by the tree's own loader
/// with the tree's own libraries, so that every host runs the same versions.
pub fn wrappers(cache: &Cache, tree: &Tree) -> Result<PathBuf> {
    let link = cache.root.join("host");
    let bin = tree.root.join("wrappers");
    if !bin.join("mksquashfs").exists() {
        let made = beside(&bin)?;
        for directory in ["usr/sbin", "usr/bin", "usr/lib/openssh"] {
            for entry in fs::read_dir(tree.root.join(directory))? {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                let Ok(program) = fs::canonicalize(entry.path()) else { continue };
                if !is_elf(&program) {
                    continue;
                }
                fs::write(made.path().join(&name), wrapper(&tree.root, &entry.path(), &name))?;
                fs::set_permissions(made.path().join(&name), fs::Permissions::from_mode(0o755))?;
            }
        }
        // Of the tools that every build calls.
        keep(made, &bin, "mksquashfs")?;
    }
    fs::create_dir_all(&link)?;
    let target = link.join("bin");
    point(&target, &bin)?;
    Ok(target)
}

/// The released archives of the lock's source packages as `CACHE/host/src/NAME.tar`, however they are packed. Those that are gone
/// from the archive are said to be: the tests that read them are skipped, or fail by `CI`.
pub fn sources(cache: &Cache) -> Result<()> {
    let mut packages = lock::read(&cache.source.join(LOCK))?;
    packages.retain(|package| package.source().is_some());
    match fetch(cache, &packages) {
        Err(error) if Refusal::why(&error) == Some(Why::Gone) => eprintln!("{error:#}"),
        fetched => fetched?,
    }
    packages.retain(|package| cache.file(package).exists());
    let directory = cache.root.join("host/src");
    fs::create_dir_all(&directory)?;
    for (name, package) in packages.iter().filter_map(|package| Some((package.source()?, package))) {
        point(&directory.join(format!("{name}.tar")), &cache.file(package))?;
    }
    Ok(())
}

/// Makes `link` lead to `target`, at once.
fn point(link: &Path, target: &Path) -> Result<()> {
    if fs::read_link(link).ok().as_deref() != Some(target) {
        let beside = link.with_extension(format!("part{}", std::process::id()));
        // Of a build that was interrupted, and was this process by its number.
        let _ = fs::remove_file(&beside);
        symlink(target, &beside)?;
        fs::rename(&beside, link)?;
    }
    Ok(())
}

fn wrapper(root: &Path, program: &Path, name: &str) -> String {
    let root = root.display();
    let extra = if name.starts_with("qemu-system") {
        format!(" -L {root}/usr/share/qemu -L {root}/usr/share/seabios -L {root}/usr/lib/ipxe/qemu")
    } else {
        String::new()
    };
    format!(
        "#!/bin/sh\nR={root}\nexport QEMU_MODULE_DIR=$R/usr/lib/x86_64-linux-gnu/qemu MKE2FS_CONFIG=$R/etc/mke2fs.conf\n\
         exec $R/usr/lib64/ld-linux-x86-64.so.2 --argv0 {name} --library-path \
         $R/usr/lib/x86_64-linux-gnu:$R/usr/lib/x86_64-linux-gnu/systemd {program}{extra} \"$@\"\n",
        program = program.display()
    )
}

pub fn is_elf(path: &Path) -> bool {
    let mut magic = [0; 4];
    fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == *b"\x7fELF"
}

/// Resolves both sets, and the sources, against the archive as it is now and returns the new lock. What is taken
/// `alone` is of the host's set and brings nothing that it depends on.
pub fn relock(
    cache: &Cache,
    guest: &[&str],
    host: &[&str],
    alone: &[&str],
    sources: &[&str],
) -> Result<Vec<Package>> {
    let apt = Apt::update(cache)?;
    let (mut guest, mut host) = (apt.resolve(guest)?, apt.resolve(host)?);
    guest.retain(|name| !LEFT_BEHIND.contains(&name.as_str()));
    host.extend(alone.iter().map(|name| name.to_string()));
    let mut all: BTreeMap<String, Package> = BTreeMap::new();
    for (set, names) in [(Set::Guest, guest), (Set::Host, host)] {
        for package in apt.describe(&names)? {
            let entry = all.entry(package.name.clone()).or_insert(package);
            match set {
                Set::Guest => entry.guest = true,
                Set::Host => entry.host = true,
            }
        }
    }
    for name in sources {
        let package = apt.source(name)?;
        all.insert(package.name.clone(), package);
    }
    Ok(all.into_values().collect())
}

struct Apt {
    conf: PathBuf,
    security: bool,
    /// Held as long as it is used: the lists are one build's at a time.
    _alone: fs::File,
}

impl Apt {
    /// A root of our own, updated and verified.
    fn update(cache: &Cache) -> Result<Apt> {
        let root = cache.root.join("apt");
        for directory in ["lists/partial", "archives/partial", "etc/preferences.d"] {
            fs::create_dir_all(root.join(directory))?;
        }
        let alone = alone(&root)?;
        let mirror = mirror()?;
        let keys = cache.source.join("image/keys/debian-13.asc");
        let line = |uri: &str, suite: &str| {
            let place = format!("[signed-by={}] {uri} {suite} main", keys.display());
            // Firmware is data that devices run: Debian has most of it in a component of its own.
            format!("deb {place} non-free-firmware\ndeb-src {place}\n")
        };
        let main = line(&mirror, SUITE) + &line(&mirror, &format!("{SUITE}-updates"));
        let with_security = main.clone() + &line(&security(&mirror), &format!("{SUITE}-security"));
        let conf = root.join("apt.conf");
        let r = root.display();
        fs::write(
            &conf,
            format!(
                "Dir::State \"{r}\";\nDir::State::Lists \"{r}/lists\";\nDir::State::status \"/dev/null\";\nDir::Cache \"{r}\";\n\
                 Dir::Etc \"{r}/etc\";\nDir::Etc::sourceparts \"/dev/null\";\nDir::Etc::parts \"/dev/null\";\n\
                 APT::Architecture \"amd64\";\nAPT::Architectures {{\"amd64\";}};\nAPT::Sandbox::User \"root\";\n\
                 APT::Install-Recommends \"false\";\nAcquire::Languages \"none\";\nAPT::Update::Error-Mode \"any\";\n"
            ),
        )?;
        let mut apt = Apt { conf, security: true, _alone: alone };
        say!("reading the archive's index");
        fs::write(root.join("etc/sources.list"), with_security)?;
        let updated = apt.command("apt-get").args(["-q", "update"]).output()?;
        if updated.status.success() {
            return Ok(apt);
        }
        let said = String::from_utf8_lossy(&updated.stderr);
        ensure!(has_no_security(&said, &security(&mirror)), "read the archive's index: {}", said.trim());
        say!("no security archive beside the mirror: going on without");
        apt.security = false;
        fs::write(root.join("etc/sources.list"), main)?;
        run(apt.command("apt-get").args(["-q", "update"]))?;
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", &self.conf).env("LC_ALL", "C").stdin(Stdio::null());
        command
    }

    /// Names of the packages and of all that they depend on.
    fn resolve(&self, names: &[&str]) -> Result<Vec<String>> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let mut command = self.command("apt-get");
        command.args(["install", "--yes", "--no-install-recommends", "--print-uris", "-q"]).args(names);
        let text = output(&mut command)?;
        // 'URI' NAME_VERSION_ARCH.deb SIZE HASH
        let resolved: Vec<String> = text
            .lines()
            .filter(|line| line.starts_with('\''))
            .filter_map(|line| line.split(' ').nth(1)?.split('_').next().map(str::to_string))
            .collect();
        ensure!(!resolved.is_empty(), "apt resolved nothing for {}", names.join(" "));
        Ok(resolved)
    }

    fn describe(&self, names: &[String]) -> Result<Vec<Package>> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let text = output(self.command("apt-cache").args(["show", "--no-all-versions"]).args(names))?;
        text.split("\n\n").filter(|stanza| !stanza.trim().is_empty()).map(stanza).collect()
    }

    /// What the authors of a source package released, in the newest version.
    fn source(&self, name: &str) -> Result<Package> {
        let mut command = self.command("apt-get");
        command.args(["source", "--tar-only", "--print-uris", "-q", name]);
        let uris = output(&mut command)?;
        let records = output(self.command("apt-cache").args(["showsrc", "--only-source", name]))?;
        let released = |line: &str| {
            let uri = line.strip_prefix('\'')?.split('\'').next()?;
            (uri.contains(".orig.tar.") && !uri.ends_with(".asc")).then(|| uri.to_string())
        };
        let uri =
            uris.lines().find_map(released).with_context(|| format!("no release of {name}'s source"))?;
        records
            .split("\n\n")
            .find_map(|record| source_record(record, &uri))
            .with_context(|| format!("the archive's index of sources does not name {uri}"))
    }
}

/// The record of a source package that holds the file behind a URI, as a package.
fn source_record(record: &str, uri: &str) -> Option<Package> {
    let field = |name: &str| record.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let (directory, file) = (field("Directory")?, uri.rsplit('/').next()?);
    let mut sums = record.lines().skip_while(|line| *line != "Checksums-Sha256:").skip(1);
    let (sha256, size) = sums.by_ref().take_while(|line| line.starts_with(' ')).find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let found = (words.next()?, words.next()?);
        (words.next()? == file).then_some(found)
    })?;
    Some(Package {
        name: format!("{SOURCE}{}", field("Package")?),
        version: field("Version")?.to_string(),
        architecture: "source".to_string(),
        guest: false,
        host: false,
        size: size.parse().ok()?,
        sha256: sha256.to_string(),
        path: placed(&format!("{directory}/{file}")),
    })
}

/// Whether apt says that the archive is not there: one that does not answer is asked again later, since without it the lock would
/// take versions that have been mended since.
fn has_no_security(said: &str, security: &str) -> bool {
    let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("E: ")).collect();
    let is_absent = |line: &&str| {
        line.contains(&format!("'{security} ")) && line.contains("does not have a Release file")
    };
    !errors.is_empty() && errors.iter().all(is_absent)
}

/// Waits until no other process has the directory, and has it until the file is dropped.
pub(crate) fn alone(directory: &Path) -> Result<fs::File> {
    let file = fs::File::open(directory).with_context(|| format!("open {}", directory.display()))?;
    // A file system of a network may lock no directories: two builds at once are not waited for there.
    let _ = rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive);
    Ok(file)
}

fn stanza(text: &str) -> Result<Package> {
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            .map(str::to_string)
            .with_context(|| format!("the archive names no {name} in: {:.60}", text.trim()))
    };
    let path = placed(&field("Filename")?);
    Ok(Package {
        name: field("Package")?,
        version: field("Version")?,
        architecture: field("Architecture")?,
        guest: false,
        host: false,
        size: field("Size")?.parse()?,
        sha256: field("SHA256")?,
        path,
    })
}

/// A path as the lock keeps it: the security archive's own pool is told apart by its directory names.
fn placed(path: &str) -> String {
    if path.starts_with("pool/updates/") { format!("debian-security/{path}") } else { path.to_string() }
}

/// Runs a program whose failure ends the build with its own words.
pub fn run(command: &mut Command) -> Result<()> {
    output(command).map(|_| ())
}

pub fn output(command: &mut Command) -> Result<String> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("run {:?}", command.get_program()))?;
    ensure!(
        output.status.success(),
        "{:?} failed ({}): {}",
        command.get_program(),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// As the lock says, or, where a version is gone everywhere and there is no other way, as the
/// archive has it now: then loudly, and `true`. What fails otherwise (no network, another hash, a full disk) is an error; but where
/// such a set was taken before, it is taken again without a network.
pub fn locked_or_current(cache: &Cache, guest: &[&str], host: &[&str]) -> Result<(Vec<Package>, bool)> {
    let mut locked = lock::read(&cache.source.join(LOCK))?;
    // No image is made of them.
    locked.retain(|package| package.source().is_none());
    follow(
        &noted(cache, LOCK)?,
        locked,
        |packages| fetch(cache, packages),
        |packages| has(cache, packages),
        || relock(cache, guest, host, HOST_ALONE, &[]),
        "building from the archive's current packages instead",
    )
}

/// The host's set for a program that needs no image of the same one: what is in the cache, of the lock or of the last unlocked build.
/// Only where neither is, something is fetched.
pub fn host(cache: &Cache, guest: &[&str], host: &[&str]) -> Result<Vec<Package>> {
    let locked = lock::read(&cache.source.join(LOCK))?;
    for mut packages in [Some(locked), lock::read(&noted(cache, LOCK)?).ok()].into_iter().flatten() {
        packages.retain(|package| package.is_in(Set::Host));
        if has(cache, &packages) {
            return Ok(packages);
        }
    }
    Ok(locked_or_current(cache, guest, host)?.0)
}

const LOCK: &str = "image/packages.lock";

/// Where it is noted what was taken instead of what a lock says; for another lock, it is elsewhere.
pub(crate) fn noted(cache: &Cache, lock: &str) -> Result<PathBuf> {
    let path = cache.source.join(lock);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(cache.root.join(format!("unlocked-{}-{name}", &digest(&path)?[..16])))
}

/// Whether the cache has them all.
pub(crate) fn has(cache: &Cache, packages: &[Package]) -> bool {
    packages.iter().all(|package| cache.file(package).exists())
}

/// A lock's packages, or, where what sees that they are `there` has them for gone, what is `current`, and `true`. That is noted, and
/// taken again where the archive cannot be asked and it is `at_hand`.
pub(crate) fn follow(
    noted: &Path,
    locked: Vec<Package>,
    there: impl Fn(&[Package]) -> Result<()>,
    at_hand: impl Fn(&[Package]) -> bool,
    current: impl FnOnce() -> Result<Vec<Package>>,
    told: &str,
) -> Result<(Vec<Package>, bool)> {
    let Err(error) = there(&locked) else { return Ok((locked, false)) };
    let why = Refusal::why(&error);
    if !matches!(why, Some(Why::Gone | Why::Away)) {
        return Err(error);
    }
    let asked = match why {
        Some(Why::Gone) => {
            eprintln!("{error:#}\n\n*** UNLOCKED: {told} ***\n");
            current()
        }
        _ => Err(error),
    };
    match asked {
        Ok(current) => {
            there(&current)?;
            let beside = noted.with_extension(format!("part{}", std::process::id()));
            fs::write(&beside, lock::format(&current))
                .with_context(|| format!("write {}", beside.display()))?;
            fs::rename(&beside, noted).with_context(|| format!("write {}", noted.display()))?;
            Ok((current, true))
        }
        Err(error) => match lock::read(noted).ok().filter(|earlier| at_hand(earlier)) {
            Some(earlier) => {
                eprintln!("{error:#}\n\n*** UNLOCKED: {told}, of the last time that it could be asked ***\n");
                Ok((earlier, true))
            }
            None => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn a_stanza_of_the_security_archive_keeps_its_place() {
        let text = "Package: x\nVersion: 1\nArchitecture: amd64\nFilename: pool/updates/main/x/x_1.deb\nSize: 5\nSHA256: ab\n";
        assert_eq!(stanza(text).unwrap().path, "debian-security/pool/updates/main/x/x_1.deb");
        assert!(stanza("Package: x\n").is_err());
    }

    fn package(name: &str, text: &str) -> Package {
        Package {
            name: name.to_string(),
            version: "1".to_string(),
            architecture: "amd64".to_string(),
            guest: true,
            host: true,
            size: text.len() as u64,
            sha256: hex(&Sha256::digest(text)),
            path: format!("pool/{name}.deb"),
        }
    }

    /// A mirror that has these files, and answers for the rest that it has not.
    fn served(files: &[(&str, &str)]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let files: BTreeMap<String, String> =
            files.iter().map(|(name, text)| (format!("/pool/{name}.deb"), text.to_string())).collect();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = String::new();
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                while let Some(Ok(line)) =
                    lines.next().filter(|line| line.as_ref().is_ok_and(|l| !l.is_empty()))
                {
                    request += &line;
                    request += " ";
                }
                let found = files.get(request.split(' ').nth(1).unwrap_or_default());
                let (status, text) = found.map_or(("404 Not Found", ""), |text| ("200 OK", text));
                // Whoever asked may have left.
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
                    text.len()
                );
            }
        });
        base
    }

    /// Also what only one of two mirrors has for gone is none: the other one may be back in an hour.
    #[test]
    fn gone_is_what_every_mirror_says_it_has_not_and_nothing_else() {
        if !Path::new("/usr/lib/apt/apt-helper").exists() {
            assert!(std::env::var_os("CI").is_none(), "in CI a skip is a failure");
            eprintln!("SKIPPED: no apt-helper");
            return;
        }
        let (kept, moved, other) = (served(&[("x", "right")]), served(&[]), served(&[("x", "wrong")]));
        // Nobody listens there.
        let dead = "http://127.0.0.1:1".to_string();
        let empty = tempfile::tempdir().unwrap();
        let directory = format!("file:{}", empty.path().display());
        let cases = [
            ("there", vec![&kept], None),
            ("the mirror moved on, the snapshot keeps it", vec![&moved, &kept], None),
            ("gone", vec![&moved], Some(Why::Gone)),
            ("gone from both", vec![&moved, &directory], Some(Why::Gone)),
            ("another file of that name", vec![&other], Some(Why::Failed)),
            ("another file, and gone from the snapshot", vec![&other, &moved], Some(Why::Failed)),
            ("no network", vec![&dead], Some(Why::Away)),
            ("gone, and the snapshot does not answer", vec![&moved, &dead], Some(Why::Away)),
        ];
        let tried = |(label, bases, why): (&str, Vec<&String>, Option<Why>)| {
            let comes = why.is_none();
            let root = tempfile::tempdir().unwrap();
            let cache = Cache { root: root.path().into(), source: root.path().into() };
            fs::create_dir(root.path().join("debs")).unwrap();
            let bases: Vec<String> = bases.into_iter().cloned().collect();
            let fetched = fetch_from(&cache, &[package("x", "right")], &bases);
            assert_eq!(fetched.is_ok(), comes, "{label}: {fetched:?}");
            let error = fetched.err();
            assert_eq!(error.as_ref().and_then(Refusal::why), why, "{label}: {error:?}");
            let is_gone = why == Some(Why::Gone);
            assert!(is_gone || error.is_none_or(|error| !error.to_string().contains("make lock")), "{label}");
            let left = fs::read_dir(root.path().join("debs")).unwrap().count();
            assert_eq!(left, usize::from(comes), "{label}: what did not come is not left");
        };
        // At once, since apt tries a dead one for seconds.
        std::thread::scope(|scope| {
            for case in cases {
                let tried = &tried;
                scope.spawn(move || tried(case));
            }
        });
    }

    #[test]
    fn what_is_not_gone_is_not_taken_in_another_version() {
        let directory = tempfile::tempdir().unwrap();
        let noted = directory.path().join("unlocked");
        let (locked, newer) = (vec![package("x", "1")], vec![package("x", "2")]);
        // Of the lock, and of the archive's index.
        let follow = |why: Option<Why>, index: bool| {
            let refuse = |why| Refusal { why, said: format!("{why:?}") };
            let there = |packages: &[Package]| match why.filter(|_| *packages != newer) {
                Some(why) => Err(refuse(why).into()),
                None => Ok(()),
            };
            let current = || if index { Ok(newer.clone()) } else { Err(refuse(Why::Away).into()) };
            let followed =
                super::follow(&noted, locked.clone(), there, |earlier| *earlier == newer, current, "");
            followed.map_err(|error| error.to_string())
        };
        let (current, kept) = (Ok((newer.clone(), true)), Ok((locked.clone(), false)));
        let refused = |why: &str| Err(why.to_string());
        for (label, why, index, want) in [
            ("all is there", None, false, &kept),
            ("another hash", Some(Why::Failed), true, &refused("Failed")),
            ("no network", Some(Why::Away), true, &refused("Away")),
            ("gone, and then no network", Some(Why::Gone), false, &refused("Away")),
            ("gone", Some(Why::Gone), true, &current),
            ("no network, and once it was gone", Some(Why::Away), false, &current),
            ("gone, then no network, and once it was gone", Some(Why::Gone), false, &current),
            ("another hash, and once it was gone", Some(Why::Failed), true, &refused("Failed")),
            ("it is back", None, true, &kept),
        ] {
            assert_eq!(&follow(why, index), want, "{label}");
        }
    }

    /// Nor the sources, which no image is made of.
    #[test]
    fn to_serve_what_was_built_nothing_is_fetched() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache { root: root.path().into(), source: root.path().into() };
        for directory in ["debs", "image"] {
            fs::create_dir(root.path().join(directory)).unwrap();
        }
        let guest = Package { host: false, ..package("guest", "") };
        let source =
            Package { guest: false, host: false, path: "pool/x.orig.tar.xz".into(), ..package("src:x", "") };
        let (locked, current) = (package("tools", "1"), package("tools", "2"));
        fs::write(root.path().join(LOCK), lock::format(&[guest, source, locked.clone()])).unwrap();
        let host = || super::host(&cache, &[], &[]).unwrap();
        fs::write(cache.file(&current), "").unwrap();
        fs::write(noted(&cache, LOCK).unwrap(), lock::format(std::slice::from_ref(&current))).unwrap();
        assert_eq!(host(), [current], "of a build without the lock");
        fs::write(cache.file(&locked), "").unwrap();
        assert_eq!(host(), [locked]);
    }

    #[test]
    fn what_apt_says_of_a_full_disk_is_not_taken_for_gone() {
        for said in [
            "E: Failed to fetch http://m/404/x.deb  Write error - write (28: No space left on device)\nE: Download Failed\n",
            "E: Failed to fetch http://m/x.deb  403  Forbidden [IP: 192.0.2.1 80]\n",
            "E: Failed to fetch http://m/x.deb  503  Service Unavailable\n",
            "W: 404 \nE: Unable to write to /x\n",
            "",
        ] {
            assert_eq!(refusal(said).why, Why::Failed, "{said}");
        }
        let said = "W: x\nE: Failed to fetch http://m/x.deb  404  Not Found [IP: 192.0.2.1 80]\nE: Download Failed\n";
        assert_eq!(refusal(said).why, Why::Gone);
        let said = "E: Failed to fetch http://m/x.deb  Temporary failure resolving 'm'\n";
        assert_eq!(refusal(said).why, Why::Away);
    }

    /// As `make -j2 test` does, which builds two images.
    #[test]
    fn of_two_builds_at_once_neither_takes_the_tree_from_the_other() {
        let cache = tempfile::tempdir().unwrap();
        let place = cache.path().join("guest-1");
        let made = |text: &str| {
            let made = beside(&place).unwrap();
            fs::write(made.path().join("program"), text).unwrap();
            fs::write(made.path().join(".files.json"), "{}").unwrap();
            made
        };
        let (first, second) = (made("first"), made("second"));
        keep(first, &place, ".files.json").unwrap();
        let in_use = fs::metadata(place.join("program")).unwrap().ino();
        keep(second, &place, ".files.json").unwrap();
        assert_eq!(fs::metadata(place.join("program")).unwrap().ino(), in_use);
        // Of a removal that was interrupted.
        fs::remove_file(place.join(".files.json")).unwrap();
        keep(made("third"), &place, ".files.json").unwrap();
        assert_eq!(fs::read_to_string(place.join("program")).unwrap(), "third");
        assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn a_path_that_would_be_taken_apart_is_refused_by_name() {
        for good in ["/home/me/.cache/lifeboat", "/srv/b_1/a+b@c%d=e~", "/home/jürgen/code"] {
            plain(Path::new(good)).unwrap();
        }
        for bad in ["/home/me/my code", "/home/o'neil/x", "/a,b", "/a:b", "/$HOME", "/a\nb"] {
            assert!(plain(Path::new(bad)).is_err(), "{bad}");
        }
        let directory = tempfile::tempdir().unwrap();
        let checkout = directory.path().join("my code");
        fs::create_dir(&checkout).unwrap();
        fs::write(checkout.join("Makefile"), include_str!("../../Makefile")).unwrap();
        let mut make = Command::new("make");
        make.args(["-n", "image"]).current_dir(&checkout);
        // Of the make that runs the tests.
        for name in ["MAKEFLAGS", "MFLAGS", "MAKELEVEL"] {
            make.env_remove(name);
        }
        let output = make.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains("my code: a blank in the path"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }

    #[test]
    fn security_updates_are_looked_for_where_each_kind_of_mirror_has_them() {
        let (plain, security) = ("pool/main/x.deb", "debian-security/pool/updates/main/x.deb");
        for (base, path, want) in [
            ("http://m/debian", plain, "http://m/debian/pool/main/x.deb"),
            ("https://m/debian", security, "https://m/debian-security/pool/updates/main/x.deb"),
            (
                "https://kept.example/archive/debian/20260101T000000Z",
                security,
                "https://kept.example/archive/debian-security/20260101T000000Z/pool/updates/main/x.deb",
            ),
        ] {
            assert_eq!(uri(base, path), want);
        }
    }

    #[test]
    fn the_mirror_of_the_host_is_a_server() {
        let directory = tempfile::tempdir().unwrap();
        let list = directory.path().join("debian.list");
        fs::write(&list, "# first is best\nhttps://best/debian/ priority:1\nhttp://other/debian\n").unwrap();
        let list = format!("mirror+file:{}", list.display());
        for (uris, want) in [
            (vec!["http://m/debian/"], Some("http://m/debian")),
            (vec!["cdrom:[Debian 13]/", "https://m/debian/"], Some("https://m/debian")),
            (vec![list.as_str()], Some("https://best/debian")),
            (vec!["mirror+file:/none", "http://m/debian"], Some("http://m/debian")),
            (vec!["cdrom:[Debian 13]/"], None),
        ] {
            let lines: Vec<String> = uris.iter().map(|uri| format!("Debian Debian {uri}")).collect();
            let targets = format!("Ubuntu Ubuntu http://u/ubuntu\n{}\n", lines.join("\n"));
            assert_eq!(of_apt(&targets).as_deref(), want, "{uris:?}");
        }
    }

    #[test]
    fn security_updates_are_left_out_only_where_the_mirror_has_none() {
        let absent = "E: The repository 'http://m/debian-security trixie-security Release' does not have a Release file.";
        let main = "E: The repository 'http://m/debian trixie Release' does not have a Release file.";
        let away = "E: Failed to fetch http://m/debian-security/dists/trixie-security/InRelease  Could not connect to m:80\n\
                    E: Some index files failed to download. They have been ignored, or old ones used instead.";
        let locked = "E: Could not get lock /c/apt/lists/lock. It is held by process 1 (apt-get)";
        for (said, want) in [
            (absent.to_string(), true),
            (format!("W: x\n{absent}\n"), true),
            (away.to_string(), false),
            (main.to_string(), false),
            (format!("{absent}\n{main}"), false),
            (locked.to_string(), false),
            (String::new(), false),
        ] {
            assert_eq!(has_no_security(&said, "http://m/debian-security"), want, "{said}");
        }
    }

    #[test]
    fn what_interrupted_builds_left_is_removed_after_a_day() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache { root: root.path().into(), source: root.path().into() };
        let parts =
            ["guest-1.partAbC", "kernel-rootXyZ", "kernel-1.part7", "layers/10-userlandAbC", "repro.AbCdEf"];
        let kept = ["guest-1", "kernel-1", "host", "vm"];
        for directory in parts.iter().chain(&kept) {
            fs::create_dir_all(root.path().join(directory).join("below")).unwrap();
        }
        let (part_files, kept_files) = (
            ["debs/ab.part7", "debs/ab.part7.FAILED", "layers/a.part7"],
            ["debs/ab.deb", "layers/a.squashfs"],
        );
        fs::create_dir(root.path().join("debs")).unwrap();
        for file in part_files.iter().chain(&kept_files) {
            fs::write(root.path().join(file), "").unwrap();
        }
        let there = |names: &[&str]| names.iter().filter(|name| root.path().join(name).exists()).count();
        for (hours, left) in [(23, parts.len() + part_files.len()), (25, 0)] {
            sweep(&cache, SystemTime::now() + Duration::from_secs(hours * 3600));
            assert_eq!(there(&parts) + there(&part_files), left, "after {hours} hours");
            assert_eq!(there(&kept) + there(&kept_files), kept.len() + kept_files.len());
        }
    }

    #[test]
    fn a_source_is_what_its_authors_released() {
        let record = "Package: x\nVersion: 1.2-3\nFiles:\n md5 8 x_1.2.orig.tar.xz\nChecksums-Sha256:\n ab 7 x_1.2-3.dsc\n \
                      cd 8 x_1.2.orig.tar.xz\nDirectory: pool/main/x/x\n";
        let package = source_record(record, "http://mirror/debian/pool/main/x/x/x_1.2.orig.tar.xz").unwrap();
        assert_eq!((package.name.as_str(), package.sha256.as_str(), package.size), ("src:x", "cd", 8));
        assert_eq!(package.path, "pool/main/x/x/x_1.2.orig.tar.xz");
        assert_eq!(source_record(record, "http://mirror/x_1.3.orig.tar.xz"), None);
    }

    #[test]
    fn paths_are_those_of_a_merged_usr() {
        assert_eq!(merged("lib/x/y"), "usr/lib/x/y");
        assert_eq!(merged("etc/lib"), "etc/lib");
        assert_eq!(merged("usr/bin/x"), "usr/bin/x");
    }
}
