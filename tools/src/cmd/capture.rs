//! `rescue capture`: what the reading tools see of this machine, as files, for whoever looks at it elsewhere.

use crate::capture::{Capture, MANIFEST, Manifest, Shot, Shown, State, printed, taken};
use crate::report::{Answer, Output};
use crate::scan::{DEADLINE, Scan, settle, space};
use crate::tool::{Context, verb};
use anyhow::{Context as _, bail};
use contract::date::rfc3339;
use contract::exit;
use contract::facts::{Block, Facts};
use host::Root;
use host::capture::Entry;
use model::storage::{Device, Observed, Storage};
use model::text::{Untrusted, size};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Saves what rescue status, lsblk, blkid and fdisk -l see of this machine into a new or empty
/// directory, for someone else to look at: sysfs and proc as far as they are read, and of each
/// device the few bytes that tell what is on it, in a sparse file as long as the device. At most
/// 256 MiB; mostly one or two. What it holds and what not is in DIR/capture.json.
///
/// The directory may be in memory, or on a file system that is mounted for writing. Nothing else is
/// written. A device that does not answer within 10 seconds is named and left out.
///
/// Left out: files, keys of sshd, and keys of LUKS, BitLocker and bcachefs; values of boot
/// parameters and mount options that look like secrets. Serial numbers, UUIDs, labels, names of the
/// mounted directories and network addresses are in it.
///
/// Exits with 3 when a device is missing in it.
///
///     # rescue capture /root/capture
///     16 devices are saved in /root/capture, which takes 2.1M
///     Next: tar -C /root/capture -cSzf /root/capture.tar.gz .  (elsewhere: rescue status --sysroot DIR)
#[derive(clap::Parser)]
#[command(name = "rescue capture", disable_version_flag = true, verbatim_doc_comment)]
struct Args {
    /// As JSON, schema 1: the manifest
    #[arg(long)]
    json: bool,
    /// Print the capture that DIR holds as one text, in the form of the tests' machines
    #[arg(long, conflicts_with_all = ["json", "sysroot"])]
    text: bool,
    /// Of the machine captured in this directory
    #[arg(long)]
    sysroot: Option<PathBuf>,
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// What no capture holds.
const LEFT_OUT: &[&str] = &[
    "what is on the devices, but for the bytes that were read to tell what it is",
    "values of boot parameters and mount options that look like secrets",
    "keys and fingerprints of sshd, and all of /run/lifeboat but the services' states, consents and what hangs",
];

pub fn run(context: &Context, arguments: &[OsString]) -> anyhow::Result<Answer> {
    let args: Args = match verb(context, arguments)? {
        Ok(args) => args,
        Err(answer) => return Ok(answer),
    };
    if args.text {
        return Ok(Answer::text(printed(&args.directory)?, exit::YES));
    }
    let context = &context.at(args.sysroot.as_deref())?;
    settle(context, DEADLINE);
    let directory = prepare(&args.directory)?;
    let scan = Scan::begin(context);
    let mut capture = Capture::begin(&directory, scan.facts.blocks.len())?;
    let storage = scan.capture(&mut capture);
    for device in storage.devices.iter().filter(|device| device.node) {
        if let Some(partition) = &device.block.partition
            && let Some(disk) = storage.devices.iter().find(|disk| disk.block.name == partition.disk)
        {
            let extent = ondisk::Extent { start: partition.start, length: device.block.size };
            capture
                .conceal_below(&device.block.name, extent, &disk.block.name, &disk.path)
                .with_context(|| format!("take the keys of {} out of {}", device.path, disk.path))?;
        }
    }
    // Behind the devices: by now it is known which hang.
    let (facts, mut tree) = host::capture::machine(&context.root);
    let space = serde_json::to_vec_pretty(&space(&context.root, &storage)).context("write JSON")?;
    tree.insert(PathBuf::from(contract::paths::SPACE.trim_start_matches('/')), Entry::File(space));
    host::capture::write(&directory, &tree).with_context(|| format!("write {}", directory.display()))?;
    let manifest = manifest(context, &storage, &facts, &capture);
    let text = serde_json::to_string_pretty(&manifest).context("write JSON")? + "\n";
    let path = directory.join(MANIFEST);
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
        .with_context(|| format!("write {}", path.display()))?;
    capture.end().with_context(|| format!("end {}", directory.display()))?;
    let missing = missing(&manifest);
    let exit = if missing.is_empty() { exit::YES } else { exit::PARTLY };
    if args.json {
        // It has its schema in it.
        return Ok(Answer { output: Output::Json(text), exit });
    }
    let bytes = taken(&directory).with_context(|| format!("look at {}", directory.display()))?;
    Ok(Answer::text(told(&manifest, &missing, &directory, bytes), exit))
}

/// Makes the directory, or takes an empty one.
fn prepare(directory: &Path) -> anyhow::Result<PathBuf> {
    let shown = directory.display();
    let exists = match fs::read_dir(directory) {
        Ok(mut entries) => {
            anyhow::ensure!(entries.next().is_none(), "{shown} is not empty: name a new directory");
            true
        }
        Err(error) if error.kind() == ErrorKind::NotFound => false,
        Err(error) => return Err(error).with_context(|| format!("list {shown}")),
    };
    let parent = if exists { Some(directory) } else { directory.parent() };
    let parent = parent.filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let parent = fs::canonicalize(parent).with_context(|| format!("find {}", parent.display()))?;
    // Where the directory is, is this machine's, also when another one is captured anew.
    let facts = host::sysfs::facts(&Root::live().context("open /")?);
    if let Some(refusal) = refusal(&parent, &facts) {
        bail!(
            "{shown} {refusal}: name a directory in memory (/root/capture), or on a file system that is mounted with rescue mount --rw"
        );
    }
    if exists {
        return Ok(parent);
    }
    fs::DirBuilder::new().mode(0o700).create(directory).with_context(|| format!("make {shown}"))?;
    fs::canonicalize(directory).with_context(|| format!("find {shown}"))
}

/// Why nothing may be written below a directory.
fn refusal(directory: &Path, facts: &Facts) -> Option<String> {
    let above = |mount: &&contract::facts::Mount| directory.starts_with(&mount.target);
    // Of two on one directory the later one is seen.
    let mount = facts.mounts.iter().filter(above).max_by_key(|mount| mount.target.len())?;
    let has = |options: &str| options.split(',').any(|option| option == "ro");
    if has(&mount.options) || has(&mount.super_options) {
        return Some(format!("is on {}, which is mounted read-only", Untrusted(&mount.target)));
    }
    let is_source = |block: &&Block| {
        (block.major, block.minor) == (mount.major, mount.minor) || block.path() == mount.source
    };
    let source = facts.blocks.iter().filter(|block| block.major != 0).find(is_source)?;
    source.read_only.then(|| format!("is on {}, which is guarded", source.path()))
}

fn manifest(context: &Context, storage: &Storage, facts: &Facts, capture: &Capture) -> Manifest {
    let nodes = storage.devices.iter().filter(|device| device.node);
    let devices: Vec<Shown> =
        nodes.map(|device| shown(device, capture.shots.get(&device.block.name), facts)).collect();
    let mut concealed: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for device in &devices {
        for part in &device.concealed {
            let paths = concealed.entry(&part.what).or_default();
            if paths.last() != Some(&device.path.as_str()) {
                paths.push(&device.path);
            }
        }
    }
    let of_devices = concealed.iter().map(|(what, paths)| format!("{what}: {}", paths.join(" ")));
    let left_out = LEFT_OUT.iter().map(|text| text.to_string()).chain(of_devices).collect();
    Manifest {
        schema: 1,
        what: "a machine captured by Lifeboat: rescue status --sysroot DIR; lsblk, blkid and fdisk -l take --sysroot too"
            .to_string(),
        date: rfc3339(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())),
        kernel: host::capture::kernel(&context.root),
        image: context.root.line(contract::paths::VERSION),
        tool: format!("rescue {}", env!("CARGO_PKG_VERSION")),
        bytes: devices.iter().map(|device| device.bytes).sum(),
        devices,
        left_out,
    }
}

fn shown(device: &Device, shot: Option<&Shot>, facts: &Facts) -> Shown {
    let hangs = facts.hung.iter().any(|(seq, _)| Some(*seq) == device.block.diskseq);
    let (state, reason) = match &device.report {
        Observed::Examined { .. } => (State::Captured, None),
        Observed::Hung { reason } => (State::Hung, Some(reason.clone())),
        Observed::Failed { reason } => (State::Failed, Some(reason.clone())),
        Observed::Skipped { reason } if hangs => (State::Hung, Some(reason.clone())),
        Observed::Skipped { reason } => (State::Skipped, Some(reason.clone())),
    };
    let trimmed = |text: &Option<String>| text.as_deref().map(|text| text.trim().to_string());
    let block = &device.block;
    let mut shown = Shown {
        name: block.name.clone(),
        path: device.path.clone(),
        size: block.size,
        model: trimmed(&block.hardware.model),
        serial: trimmed(&block.hardware.serial),
        state,
        reason,
        ..Shown::default()
    };
    if let Some(shot) = shot.filter(|_| state == State::Captured) {
        let windows = shot.windows.iter().map(|extent| format!("{}+{}", extent.start, extent.length));
        shown.windows = windows.collect::<Vec<_>>().join(" ");
        (shown.bytes, shown.beyond, shown.same) = (shot.bytes, shot.beyond, shot.same);
        shown.failed = shot.failed.clone();
        shown.concealed = shot.concealed.clone();
    }
    shown
}

/// What a person has to know of it, one line each.
fn missing(manifest: &Manifest) -> Vec<String> {
    let names = |reason: &str, path: &str| reason.split([' ', ':', ',']).any(|word| word == path);
    // A partition of a disk that hangs says nothing new.
    let told = |reason: &str| manifest.devices.iter().any(|device| names(reason, &device.path));
    let line = |device: &Shown| {
        let path = &device.path;
        let reason = device.reason.as_deref().unwrap_or_default();
        match device.state {
            State::Skipped => None,
            State::Failed | State::Hung if names(reason, path) => Some(reason.to_string()),
            State::Hung if told(reason) => None,
            State::Failed | State::Hung => Some(format!("{path}: {reason}")),
            State::Captured if device.beyond > 0 => {
                Some(format!("{path}: {} of what was read is above the limit", size(device.beyond)))
            }
            State::Captured if !device.same => {
                Some(format!("{path}: without its keys it does not look the same"))
            }
            State::Captured => None,
        }
    };
    manifest.devices.iter().filter_map(line).collect()
}

fn told(manifest: &Manifest, missing: &[String], directory: &Path, bytes: u64) -> String {
    let captured = manifest.devices.iter().filter(|device| device.state == State::Captured).count();
    let directory = directory.display().to_string();
    let directory = Untrusted(&directory);
    let mut out = format!(
        "{captured} device{} saved in {directory}, which takes {}\n",
        if captured == 1 { " is" } else { "s are" },
        size(bytes)
    );
    for text in missing {
        out += &format!("  ! {}\n", Untrusted(text));
    }
    for text in &manifest.left_out[LEFT_OUT.len()..] {
        out += &format!("  left out: {}\n", Untrusted(text));
    }
    out + &format!(
        "It names serial numbers, UUIDs, labels and addresses, and holds no files: see {directory}/{MANIFEST}\n\
         Next: tar -C {directory} -cSzf {directory}.tar.gz .  (elsewhere: rescue status --sysroot DIR)\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::facts::Mount;

    #[test]
    fn a_directory_on_a_guarded_disk_is_refused() {
        let mount = |target: &str, minor: u32, options: &str| Mount {
            target: target.to_string(),
            major: 8,
            minor,
            options: options.to_string(),
            super_options: options.to_string(),
            ..Mount::default()
        };
        let block = |minor: u32, read_only: bool| Block {
            name: format!("sda{minor}"),
            major: 8,
            minor,
            read_only,
            ..Block::default()
        };
        let facts = Facts {
            blocks: vec![block(1, true), block(2, false)],
            mounts: vec![
                Mount { major: 0, ..mount("/", 2, "rw") },
                mount("/mnt", 1, "ro,noatime"),
                mount("/guarded", 1, "rw"),
                mount("/mnt/usb", 2, "rw"),
            ],
            ..Facts::default()
        };
        let cases = [
            ("/root", None),
            ("/mnt", Some("is on /mnt, which is mounted read-only")),
            ("/mnt/x", Some("is on /mnt, which is mounted read-only")),
            ("/guarded/x", Some("is on /dev/sda1, which is guarded")),
            ("/mnt/usb/x", None),
            ("/mntx", None),
        ];
        for (directory, want) in cases {
            assert_eq!(refusal(Path::new(directory), &facts).as_deref(), want, "{directory}");
        }
    }
}
