//! An operator's archive, before it goes into an image: the kernel says one line about what it cannot unpack, and boots without
//! the keys that were in it. The format is that of init/initramfs.c: newc, alone or packed, several behind each other.

use anyhow::{Context as _, Result, bail, ensure};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

/// newc, and newc with sums.
const MAGICS: [&[u8]; 2] = [b"070701", b"070702"];
/// Bytes before an entry's name, and where its two lengths are, of eight digits each.
const HEADER: usize = 110;
const FILE_SIZE: usize = 54;
const NAME_SIZE: usize = 94;

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const XZ: &[u8] = b"\xfd7zXZ\0";
/// Of the flags behind it: no sum, or CRC32. Others the kernel's own decoder refuses (Documentation/staging/xz.rst).
const XZ_CHECKS: [&[u8]; 2] = [&[0, 0], &[0, 1]];

const WANTED: &str =
    "the kernel unpacks what `cpio -o -H newc` makes, plain or packed by gzip, zstd or xz --check=crc32";

/// Refuses what the kernel would not unpack. Of a packed archive only the beginning is looked at, by `gzip` and two decoders.
pub fn check(mut bytes: &[u8], gzip: &Path) -> Result<()> {
    ensure!(bytes.iter().any(|byte| *byte != 0), "it is empty");
    let whole = bytes.len();
    loop {
        // Which pad archives.
        let padding = bytes.iter().take_while(|byte| **byte == 0).count();
        bytes = &bytes[padding..];
        if bytes.is_empty() {
            return Ok(());
        }
        let at = whole - bytes.len();
        if !MAGICS.iter().any(|magic| bytes.starts_with(magic)) {
            return packed(bytes, gzip).with_context(|| format!("at byte {at}"));
        }
        ensure!(at.is_multiple_of(4), "an archive begins at byte {at}, which is no multiple of 4");
        bytes = plain(bytes).with_context(|| format!("it is cut or damaged behind byte {at}"))?;
    }
}

/// What follows an archive that is not packed; none for one that is cut.
fn plain(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        if bytes.is_empty() {
            // The kernel does without the last entry.
            return Some(bytes);
        }
        if !MAGICS.iter().any(|magic| bytes.starts_with(magic)) {
            return None;
        }
        let number = |at: usize| {
            let digits = std::str::from_utf8(bytes.get(at..at + 8)?).ok()?;
            usize::try_from(u32::from_str_radix(digits, 16).ok()?).ok()
        };
        let (name_size, size) = (number(NAME_SIZE)?, number(FILE_SIZE)?);
        let name = bytes.get(HEADER..HEADER.checked_add(name_size)?)?;
        let content = (HEADER + name_size).next_multiple_of(4);
        let end = content.checked_add(size)?;
        bytes.get(..if size == 0 { HEADER + name_size } else { end })?;
        bytes = bytes.get(end.next_multiple_of(4)..).unwrap_or_default();
        if name == b"TRAILER!!!\0" {
            return Some(bytes);
        }
    }
}

fn packed(bytes: &[u8], gzip: &Path) -> Result<()> {
    let mut first = [0; 6];
    if bytes.starts_with(XZ) {
        let has_check = XZ_CHECKS.iter().any(|check| bytes[XZ.len()..].starts_with(check));
        ensure!(has_check, "xz's own sum is none that the kernel knows: pack it by xz --check=crc32");
        liblzma::read::XzDecoder::new(bytes).read_exact(&mut first).context("unpack it by xz")?;
    } else if bytes.starts_with(ZSTD) {
        zstd::Decoder::new(bytes)?.read_exact(&mut first).context("unpack it by zstd")?;
    } else if bytes.starts_with(GZIP) {
        let mut child = Command::new(gzip)
            .args(["-dc"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("start gzip")?;
        let (mut to, mut from) =
            (child.stdin.take().context("a pipe")?, child.stdout.take().context("a pipe")?);
        let read = std::thread::scope(|scope| {
            // It ends early where nothing more is read.
            scope.spawn(move || to.write_all(bytes));
            let read = from.read_exact(&mut first);
            drop(from);
            read
        });
        // It ended by the closed pipe, or before.
        let _ = child.wait();
        read.context("unpack it by gzip")?;
    } else {
        bail!("no archive: {WANTED}");
    }
    ensure!(MAGICS.contains(&&first[..]), "what is packed is no such archive: {WANTED}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpio::Archive;

    fn newc() -> Vec<u8> {
        let mut archive = Archive::new(Vec::new());
        archive.directory("root", 0o700).unwrap();
        archive.file("root/key", 0o600, &[b'k'; 5]).unwrap();
        archive.finish().unwrap()
    }

    fn by(program: &str, arguments: &[&str], bytes: &[u8]) -> Vec<u8> {
        let mut command = Command::new(program);
        let mut child = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(bytes).unwrap();
        child.wait_with_output().unwrap().stdout
    }

    fn xz(bytes: &[u8], check: liblzma::stream::Check) -> Vec<u8> {
        let stream = liblzma::stream::Stream::new_easy_encoder(6, check).unwrap();
        let mut packed = Vec::new();
        liblzma::read::XzEncoder::new_stream(bytes, stream).read_to_end(&mut packed).unwrap();
        packed
    }

    #[test]
    fn what_the_kernel_would_boot_without_is_refused() {
        use liblzma::stream::Check;
        let newc = newc();
        let gzip = |bytes: &[u8]| by("gzip", &["-c"], bytes);
        let zstd = |bytes: &[u8]| zstd::bulk::compress(bytes, 3).unwrap();
        // 070707 and the old binary one, which cpio makes where nothing is said.
        let (odc, old) = (b"070707000000".to_vec(), vec![0xc7, 0x71, 0, 0, 0, 0, 0, 0]);
        let large = [newc.clone(), vec![0; 1 << 20]].concat();
        for (label, bytes, taken) in [
            ("plain", newc.clone(), true),
            ("padded, as cpio does", [newc.clone(), vec![0; 512]].concat(), true),
            ("two", [newc.clone(), newc.clone()].concat(), true),
            ("plain and packed", [newc.clone(), gzip(&newc)].concat(), true),
            ("by gzip", gzip(&newc), true),
            ("more than a pipe holds, by gzip", gzip(&large), true),
            ("by zstd", zstd(&newc), true),
            ("by xz with CRC32", xz(&newc, Check::Crc32), true),
            ("by xz as it is", xz(&newc, Check::Crc64), false),
            ("packed of another format", gzip(&odc), false),
            ("packed of another format, by zstd", zstd(&old), false),
            ("cpio -o", old, false),
            ("cpio -H odc", odc, false),
            ("a tar", vec![b'r'; 512], false),
            ("by bzip2", b"BZh91AY&SY".to_vec(), false),
            ("empty", vec![], false),
            ("nothing but zeros", vec![0; 512], false),
            ("cut", newc[..150].to_vec(), false),
            ("cut in a file", newc[..newc.len() - 130].to_vec(), false),
            ("cut, by gzip", gzip(&newc)[..12].to_vec(), false),
            ("one off the boundary", [newc.clone(), vec![0], newc.clone()].concat(), false),
            ("lengths of nobody", [&newc[..54], &[b'f'; 56], &newc[110..]].concat(), false),
        ] {
            let checked = check(&bytes, Path::new("gzip"));
            assert_eq!(checked.is_ok(), taken, "{label}: {checked:?}");
        }
    }
}
