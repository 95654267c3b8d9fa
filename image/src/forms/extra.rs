//! An operator's archive, before it goes into an image: what the kernel would boot without, with the keys that were in it and the
//! layers behind it, is refused (initramfs.rs), also where it is packed.

use crate::initramfs::{self, Packed, WANTED};
use anyhow::{Context as _, Result, bail, ensure};
use std::io::{Cursor, Read};

/// Most that a packed archive may hold, in bytes: so much of the builder's memory is taken to look at it, and of the machine's at
/// each boot.
const MOST: u64 = 4 << 30;
/// Of a gzip header: the byte of flags, and those that the kernel reads (lib/decompress_inflate.c): FNAME, and FTEXT,
/// which says nothing (RFC 1952 section 2.3.1).
const FLAGS: usize = 3;
const KNOWN_FLAGS: u8 = 0b0000_1001;

/// Refuses what the kernel would not unpack. A packed archive is unpacked, and what is in it walked through as well.
pub fn check(bytes: &[u8]) -> Result<()> {
    let mut from = 0;
    while let Some((at, packed)) = initramfs::look(Cursor::new(bytes), from)? {
        let rest = unpack(&bytes[usize::try_from(at)?..], packed).with_context(|| format!("at byte {at}"))?;
        from = (bytes.len() - rest.len()) as u64;
    }
    Ok(())
}

/// What follows a packed archive.
fn unpack(bytes: &[u8], packed: Packed) -> Result<&[u8]> {
    let (unpacked, rest);
    match packed {
        Packed::Xz => {
            let mut decoder = liblzma::bufread::XzDecoder::new(bytes);
            unpacked = whole(&mut decoder).context("unpack it by xz")?;
            rest = decoder.into_inner();
        }
        Packed::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(bytes)?.single_frame();
            unpacked = whole(&mut decoder).context("unpack it by zstd")?;
            rest = decoder.finish();
        }
        Packed::Gzip => {
            let flags = bytes.get(FLAGS).context("it is cut")?;
            ensure!(flags & !KNOWN_FLAGS == 0, "its gzip header has what the kernel does not read: {WANTED}");
            let mut decoder = flate2::bufread::GzDecoder::new(bytes);
            unpacked = whole(&mut decoder).context("unpack it by gzip")?;
            rest = decoder.into_inner();
        }
        Packed::Bzip2 | Packed::Lz4 | Packed::Lzma | Packed::Lzo => bail!(
            "it is packed by {}, and cannot be looked into here: pack it by gzip, zstd or xz --check=crc32",
            packed.program()
        ),
    }
    initramfs::look_within(&unpacked).context("what is packed is no such archive")?;
    Ok(rest)
}

fn whole(from: &mut impl Read) -> Result<Vec<u8>> {
    let mut unpacked = Vec::new();
    from.take(MOST).read_to_end(&mut unpacked)?;
    ensure!((unpacked.len() as u64) < MOST, "there are {} GiB in it, or more", MOST >> 30);
    Ok(unpacked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpio::Archive;
    use std::io::Write as _;
    use std::process::{Command, Stdio};

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
        // Its length is no multiple of four.
        let odd = |mut bytes: Vec<u8>| {
            bytes.resize(bytes.len().next_multiple_of(4) + 1, 0);
            bytes
        };
        // RFC 1952 section 2.3: FNAME and FEXTRA, behind ten bytes.
        let by_name =
            |bytes: &[u8]| [&bytes[..3], &[8], &bytes[4..10], b"mine.cpio\0", &bytes[10..]].concat();
        let with_extra_field =
            |bytes: &[u8]| [&bytes[..3], &[4], &bytes[4..10], &[2, 0, b'x', b'x'], &bytes[10..]].concat();
        let end = newc.windows(11).position(|name| name == b"TRAILER!!!\0").unwrap() + 11;
        let unpadded = newc[..end].to_vec();
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
            ("one by gzip off the boundary", [newc.clone(), vec![0], gzip(&newc)].concat(), false),
            ("one by xz off the boundary, at the start", [vec![0], xz(&newc, Check::Crc32)].concat(), false),
            ("two by zstd, the second off the boundary", [zstd(&newc), zstd(&newc)].concat(), true),
            ("behind one by gzip", [padded(gzip(&newc)), newc.clone()].concat(), true),
            ("behind one by gzip, off the boundary", [odd(gzip(&newc)), newc.clone()].concat(), false),
            ("two by gzip", [gzip(&newc), gzip(&newc)].concat(), true),
            ("zeros behind one by gzip", [gzip(&newc), vec![0; 7]].concat(), true),
            ("cut behind one by gzip", [padded(gzip(&newc)), newc[..150].to_vec()].concat(), false),
            ("no archive behind one by gzip", [padded(gzip(&newc)), vec![b'r'; 8]].concat(), false),
            ("one by gzip with a name", by_name(&gzip(&newc)), true),
            ("one by gzip with more than a name", with_extra_field(&gzip(&newc)), false),
            ("cut, and packed whole by gzip", gzip(&newc[..150]), false),
            ("cut in a file, and packed whole by zstd", zstd(&newc[..newc.len() - 130]), false),
            ("cut in a file, and packed whole by xz", xz(&newc[..newc.len() - 130], Check::Crc32), false),
            ("packed without its last padding", zstd(&unpadded), false),
            ("two, packed as one", zstd(&[newc.clone(), newc.clone()].concat()), true),
            ("two, packed as one, off the boundary", zstd(&[&newc[..], &[0], &newc].concat()), false),
            ("packed twice", zstd(&gzip(&newc)), false),
            ("packed zeros", zstd(&[0; 512]), false),
            ("lengths of nobody", [&newc[..54], &[b'f'; 56], &newc[110..]].concat(), false),
        ] {
            let checked = check(&bytes);
            assert_eq!(checked.is_ok(), taken, "{label}: {checked:?}");
        }
    }
}
