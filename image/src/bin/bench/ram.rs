//! What hosters boot: a Debian with systemd, udev and OpenSSH's server, run from memory as one initramfs, with the
//! packages that Lifeboat's own programs come from, whole but for documentation. Nothing is installed by dpkg: what
//! its scripts leave behind is written here, so that no boot has to make up for it.

use anyhow::{Context as _, Result};
use image::packages::{self, Tree};
use image::vm::programs;
use image::{libraries, manifest};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

/// Not of a Debian that runs: what it was installed by and started from, and what only people read.
const LEFT_OUT: &[&str] =
    &["boot/", "usr/share/doc/", "usr/share/info/", "usr/share/locale/", "usr/share/man/"];

const SERVER: &[&str] = &[
    "usr/sbin/sshd",
    "usr/lib/openssh/sshd-auth",
    "usr/lib/openssh/sshd-session",
    "usr/lib/openssh/sftp-server",
];

/// (place, content, mode)
const FILES: &[(&str, &str, u32)] = &[
    ("etc/hostname", "rescue\n", 0o644),
    ("etc/machine-id", "", 0o444),
    ("etc/.updated", "", 0o644),
    ("var/.updated", "", 0o644),
    ("etc/systemd/network/80-dhcp.network", "[Match]\nType=ether\n[Network]\nDHCP=yes\n", 0o644),
    ("etc/ssh/sshd_config", "UsePAM no\nPermitRootLogin prohibit-password\nPerSourcePenalties no\n", 0o644),
    (
        "etc/systemd/system/ssh.service",
        "[Unit]\nAfter=network.target\n[Service]\n\
         ExecStartPre=/usr/bin/ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key\n\
         ExecStart=/usr/sbin/sshd -D\nRuntimeDirectory=sshd\nRuntimeDirectoryMode=0755\n",
        0o644,
    ),
];

/// Services that are on, below multi-user.target.
const WANTED: &[(&str, &str)] =
    &[("ssh.service", "/etc/systemd/system"), ("systemd-networkd.service", "/usr/lib/systemd/system")];

/// It was installed, and is not updated: each boot would make a machine id, and indices anew.
pub const WORDS: &str =
    "systemd.condition_needs_update=0 systemd.machine_id=0123456789abcdef0123456789abcdef";

/// Everything that the peer is made by, for the name of the directory it is kept in.
pub fn key(guest: &Tree) -> String {
    format!("{} {LEFT_OUT:?}{SERVER:?}{FILES:?}{WANTED:?}", guest.key)
}

pub fn build(guest: &Tree, host: &Tree, version: &str, key: &str) -> Result<Vec<u8>> {
    let stage = tempfile::tempdir().context("make a directory")?;
    let stage = stage.path();
    let absent: BTreeSet<&str> = manifest::EXTRAS
        .iter()
        .flat_map(|extra| extra.rows.iter().map(|row| row.package))
        .chain(manifest::FIRMWARE.iter().copied())
        .filter(|package| !manifest::USERLAND.iter().any(|row| row.package == *package))
        .collect();
    for (package, files) in &guest.files {
        if absent.contains(package.as_str()) || package.ends_with("-microcode") {
            continue;
        }
        for file in files.iter().filter(|file| !LEFT_OUT.iter().any(|left| file.starts_with(left))) {
            copy(&guest.root.join(file), &stage.join(file))?;
        }
    }
    let server: BTreeSet<String> = SERVER.iter().map(|path| path.to_string()).collect();
    for file in server.union(&libraries::closure(&host.root, &server)?) {
        if !stage.join(file).exists() {
            copy(&host.root.join(file), &stage.join(file))?;
        }
    }
    for directory in ["dev", "proc", "sys", "run", "tmp", "root/.ssh", "var/tmp", "var/log", "mnt"] {
        fs::create_dir_all(stage.join(directory)).with_context(|| format!("create {directory}"))?;
    }
    for (link, target) in [
        ("bin", "usr/bin"),
        ("sbin", "usr/sbin"),
        ("lib", "usr/lib"),
        ("lib64", "usr/lib64"),
        ("init", "usr/lib/systemd/systemd"),
        ("usr/bin/sh", "dash"),
        ("usr/sbin/modprobe", "../bin/kmod"),
        ("etc/systemd/system/default.target", "/usr/lib/systemd/system/multi-user.target"),
    ] {
        if fs::symlink_metadata(stage.join(link)).is_err() {
            link_to(target, &stage.join(link))?;
        }
    }
    for (path, content, mode) in FILES {
        write(&stage.join(path), content, *mode)?;
    }
    for (unit, directory) in WANTED {
        let link = stage.join("etc/systemd/system/multi-user.target.wants").join(unit);
        link_to(&format!("{directory}/{unit}"), &link)?;
    }
    accounts(stage)?;
    write(&stage.join("root/.ssh/authorized_keys"), &format!("{key}\n"), 0o600)?;
    for directory in ["root", "root/.ssh"] {
        fs::set_permissions(stage.join(directory), fs::Permissions::from_mode(0o700))
            .context("set a mode")?;
    }
    packages::run(programs::debian(&guest.root, "usr/sbin/depmod", ["-b"]).arg(stage).arg(version))?;
    packages::run(
        programs::debian(&host.root, "usr/sbin/ldconfig", ["-r"]).arg(stage).args(["-C", "/etc/ld.so.cache"]),
    )?;
    let archive = tempfile::NamedTempFile::new().context("make a file")?;
    programs::cpio(stage, archive.path())?;
    let bytes = fs::read(archive.path()).context("read the archive")?;
    zstd::bulk::compress(&bytes, 12).context("pack the archive")
}

/// Users and groups that base-passwd and the packages' own `sysusers.d` ask for.
fn accounts(stage: &Path) -> Result<()> {
    let mut groups: BTreeMap<String, u32> = BTreeMap::new();
    let mut users: BTreeMap<String, u32> = BTreeMap::new();
    let (mut next, directory) = (100, stage.join("usr/lib/sysusers.d"));
    for entry in fs::read_dir(&directory).with_context(|| format!("list {}", directory.display()))?.flatten()
    {
        let text = fs::read_to_string(entry.path()).context("read a list of users")?;
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let (Some(kind @ ("u" | "u!" | "g")), Some(name)) = (words.next(), words.next()) else {
                continue;
            };
            if name != "root" && !groups.contains_key(name) {
                next += 1;
                groups.insert(name.into(), next);
                if kind != "g" {
                    users.insert(name.into(), next);
                }
            }
        }
    }
    users.insert("sshd".into(), 99);
    let mut passwd =
        String::from("root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534::/:/usr/sbin/nologin\n");
    let mut group = String::from("root:x:0:\nnogroup:x:65534:\n");
    for (name, id) in &users {
        let own = groups.get(name).copied().unwrap_or(65534);
        passwd += &format!("{name}:x:{id}:{own}::/:/usr/sbin/nologin\n");
    }
    for (name, id) in &groups {
        group += &format!("{name}:x:{id}:\n");
    }
    write(&stage.join("etc/passwd"), &passwd, 0o644)?;
    write(&stage.join("etc/group"), &group, 0o644)?;
    write(&stage.join("etc/shadow"), "root:*:20000:0:99999:7:::\n", 0o600)
}

fn write(path: &Path, content: &str, mode: u32) -> Result<()> {
    parent(path)?;
    // What a package brought may be a link.
    fs::remove_file(path).ok();
    fs::write(path, content).with_context(|| format!("write {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).context("set a mode")
}

fn link_to(target: &str, link: &Path) -> Result<()> {
    parent(link)?;
    symlink(target, link).with_context(|| format!("link {}", link.display()))
}

/// A link stays one. What one package has as a link may be a directory in the tree.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let kind = fs::symlink_metadata(from).with_context(|| format!("look at {}", from.display()))?;
    if kind.is_dir() || fs::symlink_metadata(to).is_ok() {
        return Ok(());
    }
    parent(to)?;
    if kind.is_symlink() {
        let target = fs::read_link(from).context("read a link")?;
        return symlink(target, to).with_context(|| format!("link {}", to.display()));
    }
    fs::copy(from, to).with_context(|| format!("copy {}", from.display()))?;
    Ok(())
}

fn parent(path: &Path) -> Result<()> {
    let parent = path.parent().context("name a directory")?;
    fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))
}
