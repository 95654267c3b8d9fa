//! What the image is compared with, built of the locked packages, without root and with Debian's kernel:
//! Debian's own initramfs with dropbear, as people unlock their disks with, made by Debian's mkinitramfs
//! in the builder machine; a bare floor of busybox, dropbear and the three modules of virtio-net; and a Debian
//! with systemd in memory ([`super::ram`]). Debian's installer is compared with as Debian built it.

use super::ram;
use anyhow::{Context as _, Result, bail, ensure};
use image::lock::{self, Package, Set};
use image::packages::{self, Cache, Tree};
use image::vm::builder::{Builder, Order};
use image::vm::{Lab, disks, programs};
use image::{build, libraries, manifest, say};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

pub struct Image {
    pub name: &'static str,
    pub kernel: PathBuf,
    pub initramfs: PathBuf,
    pub append: String,
    /// What is fetched by HTTP once it started, if anything.
    pub layers: Option<PathBuf>,
    /// None where questions on the console come before anybody can log in.
    pub login: Option<Login>,
}

pub struct Login {
    /// The private key that logs in.
    pub key: PathBuf,
    /// A command that succeeds once all that it brings is in place.
    pub whole: String,
}

/// Of the built image: one file of each layer.
const WHOLE: &str = "ls /usr/sbin/mkfs.ext4 /usr/lib/modules/*/kernel/drivers/md/raid456.ko* >/dev/null 2>&1";

const GIB: u64 = 1 << 30;
/// Of the tree of all host packages, as a file system.
const TREE: u64 = 3 * GIB;
/// mkinitramfs is a large shell script, and the machine that runs it is emulated.
const PATIENCE: Duration = Duration::from_secs(1800);

/// What dpkg would have left behind: links of alternatives, keys, indices. Then mkinitramfs, with its defaults
/// but MODULES, and what it made goes to the second disk, its length to the first block. Programs by their
/// paths, for busybox's chroot takes its own applets first.
const DROPBEAR: &str = r#"
mount -t ext4 $A /mnt
cd /mnt
mkdir -p dev proc sys tmp run var/tmp var/lib etc/dropbear/initramfs root
mount -o bind /dev dev
mount -o bind /proc proc
mount -o bind /sys sys
[ -e usr/bin/awk ] || ln -s mawk usr/bin/awk
[ -e usr/bin/which ] || ln -s which.debianutils usr/bin/which
[ -e etc/fstab ] || : > etc/fstab
[ -e etc/passwd ] || echo 'root:x:0:0:root:/root:/bin/bash' > etc/passwd
[ -e etc/group ] || echo 'root:x:0:' > etc/group
sed -i 's/^MODULES=.*/MODULES=most/' etc/initramfs-tools/initramfs.conf
chroot . /usr/sbin/ldconfig
chroot . /usr/sbin/depmod @VERSION@
chroot . /usr/bin/dropbearkey -t ed25519 -f /etc/dropbear/initramfs/dropbear_ed25519_host_key
echo '@KEY@' > etc/dropbear/initramfs/authorized_keys
chmod 600 etc/dropbear/initramfs/authorized_keys
chroot . /usr/sbin/mkinitramfs -o /initrd @VERSION@
stat -c %s initrd > length
dd if=length of=$B bs=512 count=1 conv=sync
dd if=initrd of=$B bs=512 seek=1 conv=sync
sync
cd /
umount /mnt/sys /mnt/proc /mnt/dev /mnt
"#;

/// PID 1 of the floor.
const FLOOR: &str = "\
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc p /proc; mount -t sysfs s /sys; mount -t devtmpfs d /dev; mkdir -p /dev/pts; mount -t devpts p /dev/pts
insmod /failover.ko; insmod /net_failover.ko; insmod /virtio_net.ko
ifconfig lo up; ifconfig eth0 up
udhcpc -q -i eth0 -s /etc/dhcp -t 20 -T 1
exec dropbear -F -E -s -r /etc/dropbear/key
";
const FLOOR_DHCP: &str = "\
#!/bin/sh
[ \"$ip\" ] || exit 0
ifconfig $interface $ip netmask $subnet
route add default gw $router
";
const FLOOR_MODULES: &[&str] = &["net/core/failover", "drivers/net/net_failover", "drivers/net/virtio_net"];

/// The text images for a boot by network, in the package that `image/bench.lock` names.
const INSTALLER: &str = "usr/lib/debian-installer/images/13/amd64/text/debian-installer/amd64";
/// `$0` is the package, `$1` where its kernel and initramfs go, `$2` where they are in it.
const UNPACK: &str =
    r#"dpkg-deb --fsys-tarfile "$0" | tar x -C "$1" --transform='s,.*/,,' "./$2/linux" "./$2/initrd.gz""#;

/// MiB. With less the whole image is unpacked into a ramfs (docs/boot.md), which is told by a word.
const MUCH: u32 = 384;

/// The built image first, then its peers, built where they are absent; the installer last, where it can be had.
/// `memory` in MiB.
pub fn all(own: &Path, lean: bool, memory: u32) -> Result<Vec<Image>> {
    ensure!(own.join("initramfs").exists(), "find an image in {}: `make image` builds it", own.display());
    // Links lead to it from elsewhere.
    let own = &fs::canonicalize(own).with_context(|| format!("find {}", own.display()))?;
    let cache = Cache::open(&programs::source())?;
    let (locked, _) = packages::locked_or_current(&cache, &build::guest_packages(), manifest::HOST)?;
    let tree = packages::tree(&cache, &locked, Set::Host)?;
    let guest = packages::tree(&cache, &locked, Set::Guest)?;
    let tools = packages::wrappers(&cache, &tree)?;
    let mut hash = Sha256::new();
    let ram_key = ram::key(&guest);
    hash.update(format!("{}{DROPBEAR}{FLOOR}{FLOOR_DHCP}{FLOOR_MODULES:?}{ram_key}", tree.key));
    let directory = cache.root.join(format!("vm/peers-{}", &packages::hex(&hash.finalize())[..16]));
    fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
    let key = directory.join("key");
    if !key.exists() {
        ssh_keygen(&key)?;
    }
    let public = fs::read_to_string(key.with_extension("pub")).context("read the key")?.trim().to_string();
    let (kernel, version) = kernel(&tree)?;
    let image = |name, initramfs: PathBuf, append: String| Image {
        name,
        kernel: kernel.clone(),
        initramfs,
        append,
        layers: None,
        login: Some(Login { key: key.clone(), whole: "true".into() }),
    };

    let [dropbear, floor, ram] = ["dropbear", "floor", "ram"].map(|name| directory.join(name));
    if !floor.exists() {
        say!("building the bare floor");
        build_floor(&tree, &version, &public, &floor).context("build the floor")?;
    }
    if !dropbear.exists() {
        say!("building Debian's initramfs with dropbear, by its own mkinitramfs in a machine: some minutes");
        build_dropbear(&tree, &tools, &version, &public, &dropbear)
            .context("build the dropbear initramfs")?;
    }
    if !ram.exists() {
        say!("building a Debian that runs from memory");
        let bytes = ram::build(&guest, &tree, &version, &public).context("build a Debian in memory")?;
        put(&ram, &bytes)?;
    }
    let (name, archive) = if lean { ("lean Lifeboat", "nucleus") } else { ("Lifeboat", "initramfs") };
    let own = Image {
        kernel: own.join("vmlinuz"),
        layers: lean.then(|| own.join("layers")),
        login: Some(Login { key: key.clone(), whole: WHOLE.into() }),
        ..image(name, own.join(archive), words(&public, lean, memory))
    };
    let mut all = vec![
        own,
        image("dropbear initramfs", dropbear, "ip=dhcp break=mount".into()),
        image("bare floor", floor, String::new()),
        image("Debian in RAM", ram, ram::WORDS.into()),
    ];
    all.extend(installer(&cache, packages::fetch)?);
    Ok(all)
}

/// Debian's installer; none, and a line that says why, where no mirror has the locked one.
fn installer(cache: &Cache, fetch: impl FnOnce(&Cache, &[Package]) -> Result<()>) -> Result<Option<Image>> {
    let locked = lock::read(&cache.source.join(manifest::BENCH_LOCK))?;
    let [package] = &locked[..] else { bail!("{}: not one package", manifest::BENCH_LOCK) };
    if let Err(error) = fetch(cache, &locked) {
        say!("going without Debian's installer: {}", format!("{error:#}").replace('\n', ". "));
        return Ok(None);
    }
    // A directory of its own: the other peers, which take minutes, are not built again where it changes.
    let key = packages::hex(&Sha256::digest(format!("{}{UNPACK}{INSTALLER}", lock::format(&locked))));
    let directory = cache.root.join(format!("vm/installer-{}", &key[..16]));
    if !directory.exists() {
        let beside = directory.with_extension("part");
        fs::create_dir_all(&beside).with_context(|| format!("create {}", beside.display()))?;
        let mut unpack = Command::new("sh");
        unpack.args(["-c", UNPACK]).arg(cache.file(package)).arg(&beside).arg(INSTALLER);
        packages::run(&mut unpack).context("unpack Debian's installer")?;
        fs::rename(&beside, &directory).with_context(|| format!("name {}", directory.display()))?;
    }
    Ok(Some(Image {
        name: "Debian's installer",
        kernel: directory.join("linux"),
        initramfs: directory.join("initrd.gz"),
        append: String::new(),
        layers: None,
        login: None,
    }))
}

/// What the built image is told. A lean boot is told of the ramfs with its layers ([`super::boot`]).
fn words(public: &str, lean: bool, memory: u32) -> String {
    let little = if memory < MUCH && !lean { " rootfstype=ramfs" } else { "" };
    format!("ssh_key={}{little}", public.replace(' ', ","))
}

fn ssh_keygen(key: &Path) -> Result<()> {
    let status = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "bench", "-f"])
        .arg(key)
        .stdin(Stdio::null())
        .status()
        .context("run ssh-keygen of openssh-client")?;
    ensure!(status.success(), "ssh-keygen made no key: {status}");
    Ok(())
}

/// The one kernel of the tree.
fn kernel(tree: &Tree) -> Result<(PathBuf, String)> {
    let modules = tree.root.join("usr/lib/modules");
    let entry = fs::read_dir(&modules)
        .with_context(|| format!("list {}", modules.display()))?
        .next()
        .context("find a kernel in the tree")?
        .context("list the kernels")?;
    let version = entry.file_name().into_string().ok().context("read a kernel's version")?;
    Ok((tree.root.join(format!("boot/vmlinuz-{version}")), version))
}

fn build_dropbear(tree: &Tree, tools: &Path, version: &str, key: &str, target: &Path) -> Result<()> {
    let lab = Lab::new("bench-peer", Path::new(""))?;
    let (system, result) = (lab.path("tree.img"), lab.path("initrd.img"));
    disks::create(&system, TREE)?;
    disks::create(&result, GIB)?;
    packages::run(
        Command::new(tools.join("mke2fs"))
            .args(["-q", "-t", "ext4", "-O", "^has_journal", "-E", "root_owner=0:0", "-d"])
            .arg(&tree.root)
            .arg(&system),
    )?;
    let script = DROPBEAR.replace("@VERSION@", version).replace("@KEY@", key);
    let disks = vec![system, result.clone()];
    let order = Order { name: "peer", disks, script: &script, killed: false, drives: None, sector: 512 };
    if let Err(error) = Builder::new()?.make_within(&lab, &[order], PATIENCE) {
        return Err(error.context(lab.reports()));
    }
    let mut bytes = Vec::new();
    let mut disk = fs::File::open(&result).context("open the result")?;
    let mut first = [0; 512];
    disk.read_exact(&mut first).context("read the result")?;
    let text = String::from_utf8_lossy(&first);
    let length: u64 =
        text.trim_matches(['\0', '\n']).parse().with_context(|| format!("read a length in {text:?}"))?;
    disk.take(length).read_to_end(&mut bytes).context("read the result")?;
    put(target, &bytes)?;
    fs::remove_dir_all(&lab.dir).context("remove the machine's directory")
}

fn build_floor(tree: &Tree, version: &str, key: &str, target: &Path) -> Result<()> {
    let stage = tempfile::tempdir().context("make a directory")?;
    let stage = stage.path();
    for directory in ["bin", "dev", "proc", "sys", "run", "tmp", "etc/dropbear", "root/.ssh", "usr"] {
        fs::create_dir_all(stage.join(directory)).with_context(|| format!("create {directory}"))?;
    }
    for link in ["lib", "lib64"] {
        symlink(format!("usr/{link}"), stage.join(link)).with_context(|| format!("link {link}"))?;
    }
    let programs: BTreeSet<String> =
        ["usr/bin/busybox", "usr/sbin/dropbear", "usr/lib/x86_64-linux-gnu/libnss_files.so.2"]
            .into_iter()
            .filter(|path| tree.root.join(path).exists())
            .map(String::from)
            .collect();
    for file in libraries::closure(&tree.root, &programs)? {
        copy(&tree.root.join(&file), &stage.join(&file))?;
    }
    copy(&tree.root.join("usr/bin/busybox"), &stage.join("bin/busybox"))?;
    copy(&tree.root.join("usr/sbin/dropbear"), &stage.join("bin/dropbear"))?;
    for module in FLOOR_MODULES {
        let packed = tree.root.join(format!("usr/lib/modules/{version}/kernel/{module}.ko.xz"));
        let packed = fs::File::open(&packed).with_context(|| format!("open {}", packed.display()))?;
        let mut bytes = Vec::new();
        liblzma::read::XzDecoder::new(packed).read_to_end(&mut bytes).context("unpack a module")?;
        let name = module.rsplit('/').next().unwrap_or(module);
        fs::write(stage.join(format!("{name}.ko")), bytes).context("write a module")?;
    }
    let host_key = stage.join("etc/dropbear/key");
    let mut dropbearkey = programs::debian(&tree.root, "usr/bin/dropbearkey", ["-t", "ed25519", "-f"]);
    packages::run(dropbearkey.arg(&host_key))?;
    for (path, content, mode) in [
        ("init", FLOOR, 0o755),
        ("etc/dhcp", FLOOR_DHCP, 0o755),
        ("etc/passwd", "root:*:0:0::/root:/bin/sh\n", 0o644),
        ("etc/shells", "/bin/sh\n", 0o644),
        ("root/.ssh/authorized_keys", &format!("{key}\n"), 0o600),
    ] {
        fs::write(stage.join(path), content).with_context(|| format!("write {path}"))?;
        fs::set_permissions(stage.join(path), fs::Permissions::from_mode(mode)).context("set a mode")?;
    }
    for directory in ["root", "root/.ssh"] {
        fs::set_permissions(stage.join(directory), fs::Permissions::from_mode(0o700))
            .context("set a mode")?;
    }
    let archive = target.with_extension("cpio");
    programs::cpio(stage, &archive)?;
    put(target, &zstd::bulk::compress(&fs::read(&archive).context("read the archive")?, 19)?)?;
    fs::remove_file(&archive).context("remove the archive")
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let parent = to.parent().context("name a directory")?;
    fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
    fs::copy(from, to).with_context(|| format!("copy {}", from.display()))?;
    Ok(())
}

fn put(target: &Path, bytes: &[u8]) -> Result<()> {
    let beside = target.with_extension("part");
    fs::write(&beside, bytes).with_context(|| format!("write {}", beside.display()))?;
    fs::rename(&beside, target).with_context(|| format!("name {}", target.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_little_memory_the_whole_image_is_unpacked_into_a_ramfs() {
        for (lean, memory, said) in [
            (false, 240, "ssh_key=ssh-ed25519,AAAA,me rootfstype=ramfs"),
            (false, 384, "ssh_key=ssh-ed25519,AAAA,me"),
            (true, 240, "ssh_key=ssh-ed25519,AAAA,me"),
        ] {
            assert_eq!(words("ssh-ed25519 AAAA me", lean, memory), said, "lean {lean}, {memory} MiB");
        }
    }

    /// A cache and a lock of one package, in one directory.
    fn cache(directory: &Path, version: &str) -> Cache {
        for made in ["image", "debs", "vm"] {
            fs::create_dir_all(directory.join(made)).unwrap();
        }
        let hash = format!("{:064}", version.len());
        let line = format!("host x {version} all 5 {hash} pool/x.deb\n");
        fs::write(directory.join(manifest::BENCH_LOCK), line).unwrap();
        Cache { root: directory.to_path_buf(), source: directory.to_path_buf() }
    }

    /// Puts a package with the installer's files where it is looked for.
    fn pack(cache: &Cache, packages: &[Package]) -> Result<()> {
        let stage = tempfile::tempdir()?;
        let (files, control) = (stage.path().join(INSTALLER), stage.path().join("DEBIAN"));
        fs::create_dir_all(files.join("grub"))?;
        fs::create_dir(&control)?;
        for (name, content) in [("linux", &*packages[0].version), ("initrd.gz", "two"), ("grub/linux", "no")]
        {
            fs::write(files.join(name), content)?;
        }
        fs::write(
            control.join("control"),
            "Package: x\nVersion: 1\nArchitecture: all\nMaintainer: x\nDescription: x\n",
        )?;
        let mut build = Command::new("dpkg-deb");
        packages::run(build.arg("--build").arg(stage.path()).arg(cache.file(&packages[0])))
    }

    #[test]
    fn the_installer_is_kernel_and_initramfs_of_the_locked_package_and_unpacked_once() {
        let directory = tempfile::tempdir().unwrap();
        let mut kernels = BTreeSet::new();
        for version in ["1", "1.1"] {
            let image = installer(&cache(directory.path(), version), pack).unwrap().unwrap();
            assert_eq!(fs::read_to_string(&image.kernel).unwrap(), version);
            assert_eq!(fs::read_to_string(&image.initramfs).unwrap(), "two");
            assert!(image.login.is_none());
            kernels.insert(image.kernel);
        }
        assert_eq!(kernels.len(), 2, "a directory for each line of the lock: {kernels:?}");
        for kernel in &kernels {
            let files = fs::read_dir(kernel.parent().unwrap()).unwrap();
            assert_eq!(files.count(), 2, "nothing else is unpacked beside {}", kernel.display());
        }
        let last = cache(directory.path(), "1.1");
        let package = &lock::read(&directory.path().join(manifest::BENCH_LOCK)).unwrap()[0];
        fs::write(last.file(package), "not a package").unwrap();
        assert!(installer(&last, |_, _| Ok(())).unwrap().is_some(), "it was there");
    }

    #[test]
    fn where_the_mirror_has_moved_on_the_others_are_compared_without_the_installer() {
        let directory = tempfile::tempdir().unwrap();
        let cache = cache(directory.path(), "1");
        assert!(installer(&cache, |_, _| bail!("fetch x 1: 404\nThe mirror may")).unwrap().is_none());
        // What is broken here is told.
        let broken = |cache: &Cache, packages: &[Package]| Ok(fs::write(cache.file(&packages[0]), "no")?);
        assert!(installer(&cache, broken).is_err());
    }
}
