//! Keys on a volume that a hypervisor or a person made for this machine: NoCloud's (label `cidata`) and OpenStack's config
//! drive (`config-2`), on vfat or ISO 9660. A process of its own, after the disks are named and the layers are there; it
//! has `rescue` mount the volume for reading, takes three small files from it, and is nobody before it parses a
//! byte of them.
//!
//! Only a whole disk or a CD counts. Whoever was root on the machine that is rescued can give a partition of its disk this
//! label, and would be root here too; a disk or a CD of their own they cannot plug in.

use crate::cloud::{self, Found};
use crate::rescue;
use anyhow::{Context, Result};
use host::Root;
use host::sys::{inherited, process};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// As devd names what lies on a disk. vfat has capital letters.
const VOLUMES: &[(&str, Kind)] = &[
    ("cidata", Kind::NoCloud),
    ("CIDATA", Kind::NoCloud),
    ("config-2", Kind::ConfigDrive),
    ("CONFIG-2", Kind::ConfigDrive),
];
const BY_LABEL: &str = "/dev/disk/by-label";
/// In this process's own namespace.
const MOUNT_POINT: &str = "/run/lifeboat/sshd/volume";
/// A hung disk keeps devd from being done; then nothing is looked for any more.
const PATIENCE: Duration = Duration::from_secs(600);
const LOOK: Duration = Duration::from_millis(250);
/// Most bytes of one file; user-data has 16 KiB at most on most clouds.
const MAX_FILE: usize = 256 << 10;

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    NoCloud,
    ConfigDrive,
}

type Parse = fn(&str) -> Found;

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::NoCloud => "NoCloud volume",
            Kind::ConfigDrive => "config drive",
        }
    }

    fn files(self) -> &'static [(&'static str, Parse)] {
        match self {
            Kind::NoCloud => &[("user-data", cloud::user_data), ("meta-data", cloud::meta_data)],
            Kind::ConfigDrive => &[("openstack/latest/meta_data.json", cloud::openstack)],
        }
    }
}

/// One volume, as far as it was read.
struct Volume {
    /// `NoCloud volume /dev/sr0`
    source: String,
    files: Vec<(&'static str, Parse, Vec<u8>)>,
    problem: Option<String>,
}

/// The role: what was found goes to stdout, in the form of [`cloud::sections`].
pub fn run() -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !rescue::is_ready() {
        if Instant::now() > deadline {
            return Ok(());
        }
        sleep(LOOK);
    }
    let root = Root::live().context("open /")?;
    let found: Vec<(Kind, String)> = VOLUMES
        .iter()
        .filter_map(|(label, kind)| Some((*kind, fs::canonicalize(Path::new(BY_LABEL).join(label)).ok()?)))
        .map(|(kind, path)| (kind, path.to_string_lossy().into_owned()))
        .collect();
    if found.is_empty() {
        return Ok(());
    }
    rescue::alone()?;
    fs::create_dir_all(MOUNT_POINT).with_context(|| format!("create {MOUNT_POINT}"))?;
    let volumes: Vec<Volume> = found.iter().map(|(kind, path)| read(&root, *kind, path)).collect();
    process::drop_privileges(super::NOBODY).context("give up root")?;
    let text: String = volumes.iter().map(told).collect();
    let mut stdout = File::from(inherited(1).try_clone_to_owned().context("stdout")?);
    stdout.write_all(text.as_bytes()).context("answer")
}

fn read(root: &Root, kind: Kind, path: &str) -> Volume {
    let source = format!("{} {path}", kind.name());
    let mut volume = Volume { source, files: Vec::new(), problem: None };
    if !is_whole(root, path) {
        let why = "is not read: it is no whole disk or CD, so what ran on this machine may have made it";
        volume.problem = Some(why.to_string());
        return volume;
    }
    let mounted = rescue::call(&["mount", "-o", "ro", path, MOUNT_POINT]).and_then(|_| {
        let found = Root::at(MOUNT_POINT.as_ref()).context("open it")?;
        for (name, parse) in kind.files() {
            // Not each of them has to be there.
            if let Ok(bytes) = found.read(name) {
                volume.files.push((name, *parse, bytes));
            }
        }
        drop(found);
        rescue::call(&["umount", MOUNT_POINT])
    });
    if let Err(error) = mounted {
        volume.problem = Some(format!("could not be read: {error:#}"));
    }
    volume
}

/// Plugged in as it is: not a partition, nor put together from something.
fn is_whole(root: &Root, path: &str) -> bool {
    let Some(name) = path.strip_prefix("/dev/") else { return false };
    let has = |what: &str| root.exists(format!("/sys/class/block/{}/{what}", name.replace('/', "!")));
    has("device") && !has("partition")
}

fn told(volume: &Volume) -> String {
    let mut all = Found { keys: Vec::new(), problems: volume.problem.iter().cloned().collect() };
    for (name, parse, bytes) in &volume.files {
        let found = match std::str::from_utf8(bytes) {
            _ if bytes.len() > MAX_FILE => Err("is too long"),
            Ok(text) => Ok(parse(text)),
            Err(_) => Err("is no text"),
        };
        match found {
            Ok(found) => {
                all.keys.extend(found.keys);
                all.problems.extend(found.problems.into_iter().map(|problem| format!("{name}: {problem}")));
            }
            Err(why) => all.problems.push(format!("{name} {why}")),
        }
    }
    cloud::section(&volume.source, &all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_that_anything_could_have_made_is_no_volume() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["vdb/device", "sda3/partition", "sda3/device", "dm-0/dm", "sr0/device"] {
            fs::create_dir_all(dir.path().join("sys/class/block").join(path)).unwrap();
        }
        let root = Root::at(dir.path()).unwrap();
        for (path, want) in
            [("/dev/vdb", true), ("/dev/sr0", true), ("/dev/sda3", false), ("/dev/dm-0", false)]
        {
            assert_eq!(is_whole(&root, path), want, "{path}");
        }
        let refused = told(&read(&root, Kind::NoCloud, "/dev/sda3"));
        assert!(refused.starts_with("# NoCloud volume /dev/sda3\n! is not read"), "{refused}");
    }

    #[test]
    fn keys_and_problems_of_every_file_are_told_under_the_volume() {
        let files: Vec<(&str, Parse, Vec<u8>)> = vec![
            ("user-data", cloud::user_data, b"#cloud-config\nssh_authorized_keys: [a b]\n".to_vec()),
            ("meta-data", cloud::meta_data, b"public-keys: *x\n".to_vec()),
            ("long", cloud::user_data, vec![b' '; MAX_FILE + 1]),
        ];
        let volume = Volume { source: "NoCloud volume /dev/sr0".into(), files, problem: None };
        let sections = cloud::sections(&told(&volume));
        assert_eq!(sections[0].0, "NoCloud volume /dev/sr0");
        assert_eq!(sections[0].1.keys, ["a b"]);
        let problems = &sections[0].1.problems;
        assert!(
            problems[0].starts_with("meta-data: line 1") && problems[1] == "long is too long",
            "{problems:?}"
        );
    }
}
