//! A machine as a directory that the reading tools look at with `--sysroot`: what they read of sysfs and proc
//! (`host::capture`), a sparse file for each device with the bytes that the probes read, and a manifest, which also
//! says what could not be read, so that it cannot be read there either.

use anyhow::Context as _;
use host::Root;
use model::text::steers;
use ondisk::conceal::{Concealed, conceal};
use ondisk::{DiskReport, Extent, FailedRead, Geometry, ReadAt, Windows, examine_recorded};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Of the whole capture, and of one device: what probes read of a sound disk is below a hundredth of it.
const TOTAL: u64 = 256 << 20;
const EACH: u64 = 16 << 20;
/// Below the capture's directory.
pub const MANIFEST: &str = "capture.json";
/// Where files are until they are whole: a worker that comes back after its deadline finds no place to write.
const UNFINISHED: &str = ".unfinished";

/// What a worker made of one device.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Shot {
    pub report: DiskReport,
    pub windows: Vec<Extent>,
    /// How many bytes the windows hold.
    pub bytes: u64,
    /// How many did not fit.
    pub beyond: u64,
    pub failed: Vec<FailedRead>,
    pub concealed: Vec<Concealed>,
    /// Another look at what was kept gives the same report.
    pub same: bool,
}

/// Examines a device and writes what was read for it, without keys, into a new file that is as long.
pub fn shoot(
    device: &dyn ReadAt,
    geometry: Geometry,
    sections: &[Extent],
    limit: u64,
    into: &Path,
) -> anyhow::Result<Shot> {
    let (report, mut record) = examine_recorded(device, geometry, sections, limit);
    let (concealed, same) = conceal(&mut record, &report, geometry, sections);
    write_sparse(into, &record.windows).with_context(|| format!("write {}", into.display())).inspect_err(
        |_| {
            // It may not have been made.
            let _ = fs::remove_file(into);
        },
    )?;
    Ok(Shot {
        report,
        windows: record.windows.extents(),
        bytes: record.windows.kept(),
        beyond: record.windows.beyond,
        failed: record.failed,
        concealed,
        same,
    })
}

pub fn write_sparse(path: &Path, windows: &Windows) -> io::Result<()> {
    let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.set_len(windows.size())?;
    for (start, bytes) in windows.pieces().filter(|(_, bytes)| bytes.iter().any(|byte| *byte != 0)) {
        file.write_all_at(bytes, start)?;
    }
    Ok(())
}

/// A capture that is being made.
#[derive(Debug)]
pub struct Capture {
    directory: PathBuf,
    /// Most bytes of one device.
    pub limit: u64,
    /// By kernel name.
    pub shots: BTreeMap<String, Shot>,
}

impl Capture {
    /// In an empty directory, of so many devices.
    pub fn begin(directory: &Path, devices: usize) -> anyhow::Result<Capture> {
        let unfinished = directory.join(UNFINISHED);
        fs::create_dir(&unfinished).with_context(|| format!("make {}", unfinished.display()))?;
        let limit = EACH.min(TOTAL / (devices.max(1) as u64));
        Ok(Capture { directory: directory.to_path_buf(), limit, shots: BTreeMap::new() })
    }

    /// Where a device's file is made.
    pub fn unfinished(&self, name: &str) -> PathBuf {
        self.directory.join(UNFINISHED).join(name)
    }

    /// Takes what was made for a device into the capture.
    pub fn keep(&mut self, name: &str, path: &str, shot: Shot) -> anyhow::Result<()> {
        let place = self.place(path);
        let parent = place.parent().unwrap_or(&self.directory);
        fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
        fs::rename(self.unfinished(name), &place).with_context(|| format!("make {}", place.display()))?;
        self.shots.insert(name.to_string(), shot);
        Ok(())
    }

    fn place(&self, path: &str) -> PathBuf {
        self.directory.join(path.trim_start_matches('/'))
    }

    /// What was concealed in a partition is concealed on its disk too, where the probes of the disk read a little of
    /// it.
    pub fn conceal_below(
        &mut self,
        partition: &str,
        extent: Extent,
        disk: &str,
        path: &str,
    ) -> io::Result<()> {
        let (Some(inner), Some(outer)) = (self.shots.get(partition), self.shots.get(disk)) else {
            return Ok(());
        };
        let inside = inner.concealed.iter().filter_map(|part| {
            Some(Extent {
                start: extent.start.checked_add(part.extent.start)?,
                length: part.extent.length.min(extent.length.checked_sub(part.extent.start)?),
            })
        });
        let mut file: Option<File> = None;
        for part in inside {
            for window in &outer.windows {
                let start = window.start.max(part.start);
                let end = (window.start + window.length).min(part.start + part.length);
                if start >= end {
                    continue;
                }
                let file = match &file {
                    Some(file) => file,
                    None => file.insert(fs::OpenOptions::new().write(true).open(self.place(path))?),
                };
                // A window is no longer than the limit.
                file.write_all_at(&vec![0; (end - start) as usize], start)?;
            }
        }
        Ok(())
    }

    /// Everything is in its place.
    pub fn end(&self) -> io::Result<()> {
        fs::remove_dir_all(self.directory.join(UNFINISHED))
    }
}

/// `capture.json`
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Manifest {
    pub schema: u32,
    pub what: String,
    /// UTC, RFC 3339.
    pub date: String,
    pub kernel: Option<String>,
    /// Of the image, where there is one.
    pub image: Option<String>,
    pub tool: String,
    pub devices: Vec<Shown>,
    /// One line each.
    pub left_out: Vec<String>,
    /// Of all devices together.
    pub bytes: u64,
}

/// A device in the manifest.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Shown {
    pub name: String,
    pub path: String,
    pub size: u64,
    pub model: Option<String>,
    pub serial: Option<String>,
    pub state: State,
    /// Why it was not captured.
    pub reason: Option<String>,
    /// What of the file is the device's: `start+length`, in bytes. The rest of it is holes.
    pub windows: String,
    pub bytes: u64,
    /// Read, and not kept.
    pub beyond: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<FailedRead>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub concealed: Vec<Concealed>,
    /// Another look at it gives what was seen; it was tried.
    pub same: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Captured,
    /// Nothing to read: no medium, or something below it hangs.
    #[default]
    Skipped,
    Failed,
    Hung,
}

/// Of a captured machine; empty for one that was written by hand.
pub fn manifest(root: &Root) -> Manifest {
    let read = root.read(MANIFEST).ok();
    read.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

impl Manifest {
    pub fn device(&self, name: &str) -> Option<&Shown> {
        self.devices.iter().find(|device| device.name == name)
    }
}

/// Bytes in a row of hexadecimal digits; rows of zeros are left out.
const ROW: usize = 32;

/// A capture as one text, in the form of `tools/tests/machines`: one entry a line.
pub fn printed(directory: &Path) -> anyhow::Result<String> {
    let root = Root::at(directory).with_context(|| format!("open {}", directory.display()))?;
    let manifest = manifest(&root);
    anyhow::ensure!(manifest.schema != 0, "{} holds no {MANIFEST}", directory.display());
    let mut lines = Vec::new();
    print(&root, Path::new(""), &manifest, &mut lines)?;
    Ok(format!("# {}, {}, {}\n{}\n", manifest.tool, manifest.date, manifest.what, lines.join("\n")))
}

fn print(root: &Root, below: &Path, manifest: &Manifest, lines: &mut Vec<String>) -> anyhow::Result<()> {
    let shown = below.display();
    let names = root.list(below).with_context(|| format!("list {shown}"))?;
    anyhow::ensure!(!shown.to_string().contains([' ', '\n']), "{} has a blank in its name", shown);
    if names.is_empty() {
        lines.push(format!("dir {shown}"));
    }
    for name in names {
        let path = below.join(name);
        let shown = path.display();
        let device = manifest.devices.iter().find(|device| device.path.strip_prefix('/') == path.to_str());
        if let Ok(target) = root.link(&path) {
            lines.push(format!("link {shown} {}", target.display()));
        } else if root.list(&path).is_ok() {
            print(root, &path, manifest, lines)?;
        } else if let Some(device) = device {
            lines.push(format!("zeros {shown} {}", device.size));
            let file = root.open_device(&path).with_context(|| format!("open {shown}"))?;
            for (start, bytes) in device.pieces(&file).with_context(|| format!("read {shown}"))? {
                lines.push(format!("window {shown} {start} {}", hex(&bytes)));
            }
        } else {
            let bytes = root.read(&path).with_context(|| format!("read {shown}"))?;
            let is_plain = |c: char| !steers(c) || c == '\n' || c == '\t';
            lines.push(match std::str::from_utf8(&bytes).ok().filter(|text| text.chars().all(is_plain)) {
                Some(text) => {
                    let text = text.replace('\\', "\\\\").replace('\n', "\\n").replace('\t', "\\t");
                    format!("file {shown} {text}")
                }
                None => format!("hex {shown} {}", hex(&bytes)),
            });
        }
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Shown {
    /// Rows of the windows that are not zeros, those that touch together.
    fn pieces(&self, file: &File) -> io::Result<Vec<(u64, Vec<u8>)>> {
        let mut pieces: Vec<(u64, Vec<u8>)> = Vec::new();
        for window in self.windows.split(' ').filter(|window| !window.is_empty()) {
            let extent = window.split_once('+').and_then(|(start, length)| {
                let length = length.parse::<u64>().ok().filter(|length| *length <= EACH)?;
                Some((start.parse::<u64>().ok()?, length))
            });
            let (start, length) =
                extent.ok_or_else(|| io::Error::other(format!("{window} is no window: {MANIFEST}")))?;
            let mut bytes = vec![0; length as usize]; // EACH at most
            file.read_exact_at(&mut bytes, start)?;
            for (number, row) in bytes.chunks(ROW).enumerate().filter(|(_, row)| row.iter().any(|b| *b != 0))
            {
                let at = start + (number * ROW) as u64;
                match pieces.last_mut().filter(|(start, piece)| start + piece.len() as u64 == at) {
                    Some((_, piece)) => piece.extend_from_slice(row),
                    None => pieces.push((at, row.to_vec())),
                }
            }
        }
        Ok(pieces)
    }
}

/// Bytes that everything below a directory takes.
pub fn taken(directory: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut sum = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        sum += metadata.blocks() * 512;
        if metadata.is_dir() {
            sum += taken(&entry.path())?;
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_as_long_as_the_device_and_holds_no_more_than_was_read() {
        let mut disk = vec![0xa5; 64 << 20];
        disk[..1 << 20].fill(0);
        disk[1024] = 1;
        disk[1029] = 3;
        disk[0xff6..0x1000].copy_from_slice(b"SWAPSPACE2");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sda");
        let shot = shoot(&disk, Geometry::default(), &[], 1 << 20, &path).unwrap();
        assert!(shot.same && shot.report.signatures[0].format == "swap");
        assert_eq!(fs::metadata(&path).unwrap().len(), disk.len() as u64);
        let kept = fs::read(&path).unwrap();
        let differing = kept.iter().zip(&disk).filter(|(kept, disk)| *kept != *disk).count();
        assert!(differing > 60 << 20, "{differing} bytes are not the disk's");
        assert!(shot.bytes < 1 << 20 && taken(directory.path()).unwrap() < 2 << 20);
        assert_eq!(ondisk::examine(&kept, Geometry::default()), shot.report);
    }

    #[test]
    fn keys_of_a_partition_are_not_on_its_disk_either() {
        let directory = tempfile::tempdir().unwrap();
        let mut capture = Capture::begin(directory.path(), 2).unwrap();
        let shot = |windows: &[(u64, u64)], concealed: &[(u64, u64)]| Shot {
            report: DiskReport::default(),
            windows: windows
                .iter()
                .map(|(start, length)| Extent { start: *start, length: *length })
                .collect(),
            bytes: 0,
            beyond: 0,
            failed: Vec::new(),
            concealed: concealed
                .iter()
                .map(|(start, length)| Concealed {
                    what: "keys".to_string(),
                    extent: Extent { start: *start, length: *length },
                })
                .collect(),
            same: true,
        };
        fs::write(capture.unfinished("sda"), [7; 200]).unwrap();
        capture.keep("sda", "/dev/sda", shot(&[(0, 50), (90, 60)], &[])).unwrap();
        fs::write(capture.unfinished("sda1"), [7; 100]).unwrap();
        capture.keep("sda1", "/dev/sda1", shot(&[], &[(20, 30), (90, 1000)])).unwrap();
        capture.conceal_below("sda1", Extent { start: 80, length: 100 }, "sda", "/dev/sda").unwrap();
        let left = fs::read(directory.path().join("dev/sda")).unwrap();
        let gone: Vec<usize> = (0..200).filter(|at| left[*at] == 0).collect();
        assert_eq!(gone, (100..130).collect::<Vec<_>>());
        capture.end().unwrap();
        assert!(!directory.path().join(UNFINISHED).exists());
    }
}
