//! Seeds from real superblocks: what a look reads of each image of util-linux's blkid suite, which `make peers` puts
//! into the cache. Nothing of them is committed; without them the other seeds have to do.

use ondisk::{Geometry, examine_recorded};
use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Bytes of one image that are kept: an input is not longer.
const MOST: u64 = 48 << 10;

/// Pieces of one image, and its size.
pub struct Image {
    pub size: u64,
    pub pieces: Vec<(u64, Vec<u8>)>,
}

/// All images, or why there are none.
pub fn images() -> Result<Vec<Image>, String> {
    let archive = archive()
        .filter(|archive| archive.exists())
        .ok_or("no source of util-linux in the cache: make peers")?;
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/suite");
    fs::create_dir_all(&directory).map_err(|error| format!("make {}: {error}", directory.display()))?;
    let mut tar = Command::new("tar");
    tar.args(["--strip-components=4", "--wildcards", "-xf"]).arg(archive).arg("-C").arg(&directory);
    run(tar.arg("*/tests/ts/blkid/images-*/*.img.xz"))?;
    let mut packed: Vec<PathBuf> = Vec::new();
    for part in ["images-fs", "images-pt"] {
        let entries = fs::read_dir(directory.join(part)).map_err(|error| format!("read {part}: {error}"))?;
        packed.extend(entries.flatten().map(|entry| entry.path()));
    }
    packed.sort();
    packed.iter().map(|path| image(path)).collect()
}

/// As the tests of `tools` find it.
fn archive() -> Option<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("CACHE")
        .or_else(|| Some(set("XDG_CACHE_HOME")?.join("lifeboat")))
        .or_else(|| Some(set("HOME")?.join(".cache/lifeboat")))?;
    Some(cache.join("host/src/util-linux.tar"))
}

fn image(packed: &Path) -> Result<Image, String> {
    let file = File::open(packed).map_err(|error| format!("open {}: {error}", packed.display()))?;
    let bytes = run(Command::new("xz").arg("-dc").stdin(file))?;
    let (_, record) = examine_recorded(&bytes, Geometry::default(), &[], MOST);
    // A piece begins at an even place, and what is zero anyway is left out.
    let mut pieces = Vec::new();
    for (start, piece) in record.windows.pieces() {
        let odd = start % 2;
        let piece = [&vec![0; odd as usize][..], piece].concat();
        for (index, part) in
            piece.chunks(PART).enumerate().filter(|(_, part)| part.iter().any(|byte| *byte != 0))
        {
            pieces.push((start - odd + (index * PART) as u64, part.to_vec()));
        }
    }
    Ok(Image { size: bytes.len() as u64, pieces })
}

/// Even, and no more than the length of a piece can say.
const PART: usize = 254;

fn run(command: &mut Command) -> Result<Vec<u8>, String> {
    let output = command.stderr(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() { Ok(output.stdout) } else { Err(format!("{command:?} failed")) }
}
