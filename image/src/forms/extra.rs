//! An operator's archive, before it goes into an image: what the kernel would boot without, with the keys that were in it and the
//! layers behind it, is refused (initramfs.rs), and a packed archive is unpacked to its end.

use crate::initramfs::{self, MAGICS, Packed, WANTED};
use anyhow::{Context as _, Result, bail, ensure};
use std::io::{self, Cursor, Read, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

/// Refuses what the kernel would not unpack. A packed archive is unpacked to its end, by `gzip` and two decoders, and only the
/// beginning of what is in it looked at; what lies behind one of gzip's is not.
pub fn check(bytes: &[u8], gzip: &Path) -> Result<()> {
    let mut from = 0;
    while let Some((at, packed)) = initramfs::look(Cursor::new(bytes), from)? {
        let rest =
            unpack(&bytes[usize::try_from(at)?..], packed, gzip).with_context(|| format!("at byte {at}"))?;
        from = (bytes.len() - rest.len()) as u64;
    }
    Ok(())
}

/// What follows a packed archive.
fn unpack<'a>(bytes: &'a [u8], packed: Packed, gzip: &Path) -> Result<&'a [u8]> {
    let (first, rest);
    match packed {
        Packed::Xz => {
            let mut decoder = liblzma::bufread::XzDecoder::new(bytes);
            first = whole(&mut decoder).context("unpack it by xz")?;
            rest = decoder.into_inner();
        }
        Packed::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(bytes)?.single_frame();
            first = whole(&mut decoder).context("unpack it by zstd")?;
            rest = decoder.finish();
        }
        Packed::Gzip => {
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
                // It ends early where gzip does.
                scope.spawn(move || to.write_all(bytes));
                whole(&mut from)
            });
            let ended = child.wait().context("wait for gzip")?;
            first = read.context("unpack it by gzip")?;
            // gzip(1): 2 is a warning, which it has for whatever lies behind its own.
            ensure!(matches!(ended.code(), Some(0 | 2)), "it is cut or damaged: gzip says so");
            rest = &[][..];
        }
        Packed::Bzip2 | Packed::Lz4 | Packed::Lzma | Packed::Lzo => bail!(
            "it is packed by {}, and cannot be looked into here: pack it by gzip, zstd or xz --check=crc32",
            packed.program()
        ),
    }
    ensure!(MAGICS.contains(&&first[..]), "what is packed is no such archive: {WANTED}");
    Ok(rest)
}

/// The first bytes, of what can be read to its end.
fn whole(from: &mut impl Read) -> io::Result<[u8; 6]> {
    let mut first = [0; 6];
    from.read_exact(&mut first)?;
    io::copy(from, &mut io::sink())?;
    Ok(first)
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
        let short = |mut bytes: Vec<u8>| {
            bytes.pop();
            bytes
        };
        let padded = |mut bytes: Vec<u8>| {
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        };
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
            ("the last byte of gzip's is not there", short(gzip(&large)), false),
            ("the last byte of zstd's is not there", short(zstd(&large)), false),
            ("the last byte of xz's is not there", short(xz(&large, Check::Crc32)), false),
            ("by zstd and by xz", [padded(zstd(&newc)), xz(&newc, Check::Crc32)].concat(), true),
            ("cut behind one by zstd", [padded(zstd(&newc)), newc[..150].to_vec()].concat(), false),
            ("no archive behind one by xz", [xz(&newc, Check::Crc32), vec![b'r'; 8]].concat(), false),
            ("one off the boundary", [newc.clone(), vec![0], newc.clone()].concat(), false),
            ("lengths of nobody", [&newc[..54], &[b'f'; 56], &newc[110..]].concat(), false),
        ] {
            let checked = check(&bytes, Path::new("gzip"));
            assert_eq!(checked.is_ok(), taken, "{label}: {checked:?}");
        }
    }
}
