//! What the kernel unpacks as an initramfs (init/initramfs.c): newc, alone or packed, several behind each other. Of what it cannot
//! unpack it says one line, and boots without it and what lies behind it. A file is walked through and not held in memory; of a packed archive the
//! beginning alone is looked at, until who unpacked it (forms/extra.rs) has the rest looked at as well.

use crate::flavour::Flavour;
use anyhow::{Context as _, Result, bail, ensure};
use std::io::{self, BufRead as _, BufReader, Cursor, Read, Seek, SeekFrom};

/// newc, and newc with sums.
const MAGICS: [&[u8]; 2] = [b"070701", b"070702"];
/// Bytes before an entry's name, and where its two lengths are, of eight digits each.
const HEADER: usize = 110;
const FILE_SIZE: usize = 54;
const NAME_SIZE: usize = 94;
/// The name of an archive's last entry, with its NUL.
const TRAILER: &[u8] = b"TRAILER!!!\0";

/// How packed archives begin but for xz's (lib/decompress.c): LZ4 by its old frame alone.
const BEGINNINGS: [(&[u8], Packed); 6] = [
    (&[0x02, 0x21, 0x4c, 0x18], Packed::Lz4),
    (&[0x1f, 0x8b], Packed::Gzip),
    (&[0x28, 0xb5, 0x2f, 0xfd], Packed::Zstd),
    (b"BZh", Packed::Bzip2),
    (&[0x5d, 0, 0], Packed::Lzma),
    (b"\x89LZO", Packed::Lzo),
];
const LZ4_FRAME: &[u8] = &[0x04, 0x22, 0x4d, 0x18];
const XZ: &[u8] = b"\xfd7zXZ\0";
/// Of the flags behind it: no sum, or CRC32. Others the kernel's own decoder refuses (Documentation/staging/xz.rst).
const XZ_CHECKS: [&[u8]; 2] = [&[0, 0], &[0, 1]];

pub const WANTED: &str = "the kernel unpacks what `cpio -o -H newc` makes, plain or packed by gzip, zstd, lz4 -l or xz --check=crc32";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packed {
    Bzip2,
    Gzip,
    Lz4,
    Lzma,
    Lzo,
    Xz,
    Zstd,
}

impl Packed {
    /// Ours is built without what nobody packs an initramfs by (kernel-config/custom/size.config, CONFIG_RD_).
    pub fn is_unpacked_by(self, kernel: Flavour) -> bool {
        match self {
            Packed::Gzip | Packed::Lz4 | Packed::Xz | Packed::Zstd => true,
            Packed::Bzip2 | Packed::Lzma | Packed::Lzo => kernel == Flavour::Debian,
        }
    }

    /// The program that packs so.
    pub fn program(self) -> &'static str {
        match self {
            Packed::Bzip2 => "bzip2",
            Packed::Gzip => "gzip",
            Packed::Lz4 => "lz4",
            Packed::Lzma => "lzma",
            Packed::Lzo => "lzop",
            Packed::Xz => "xz",
            Packed::Zstd => "zstd",
        }
    }
}

/// Refuses what the kernel would not unpack, from this byte on. At which byte a packed archive begins and by what it is packed,
/// where there is one: what is in it, and behind it, was not looked at. Byte 0 is taken to lie behind an archive that is not
/// packed, as the nucleus's last is, and any other behind a packed one.
pub fn look(file: impl Read + Seek, from: u64) -> Result<Option<(u64, Packed)>> {
    walk(Walk::new(file, from).context("read it")?)
}

/// Refuses what was packed, where the kernel would not take it: it has to be nothing but archives, and padded to its end.
pub fn look_within(unpacked: &[u8]) -> Result<()> {
    let mut file = Walk::new(Cursor::new(unpacked), 0)?;
    file.is_packed = true;
    ensure!(walk(file)?.is_none(), "it is packed twice");
    Ok(())
}

fn walk(mut file: Walk<impl Read + Seek>) -> Result<Option<(u64, Packed)>> {
    let mut is_empty = file.at == 0;
    let mut is_behind_packed = file.at != 0;
    loop {
        file.padding().context("read it")?;
        if file.at == file.length {
            ensure!(!is_empty, "it is empty");
            return Ok(None);
        }
        is_empty = false;
        let at = file.at;
        let head = file.peek(XZ.len() + XZ_CHECKS[0].len()).context("read it")?;
        let by = if is_plain(&head) {
            None
        } else {
            Some(packed(&head).with_context(|| format!("at byte {at}"))?)
        };
        // do_reset: "broken padding" of whatever comes behind one that is not packed.
        ensure!(
            at.is_multiple_of(4) || (by.is_some() && is_behind_packed),
            "an archive begins at byte {at}, which is no multiple of 4"
        );
        if let Some(by) = by {
            return Ok(Some((at, by)));
        }
        file.archive().with_context(|| format!("it is cut or damaged behind byte {at}"))?;
        is_behind_packed = false;
    }
}

fn is_plain(head: &[u8]) -> bool {
    MAGICS.iter().any(|magic| head.starts_with(magic))
}

fn packed(head: &[u8]) -> Result<Packed> {
    if let Some(flags) = head.strip_prefix(XZ) {
        let has_check = XZ_CHECKS.iter().any(|check| flags.starts_with(check));
        ensure!(has_check, "xz's own sum is none that the kernel knows: pack it by xz --check=crc32");
        Ok(Packed::Xz)
    } else if let Some((_, packed)) = BEGINNINGS.iter().find(|(beginning, _)| head.starts_with(beginning)) {
        Ok(*packed)
    } else if head.starts_with(LZ4_FRAME) {
        bail!("LZ4's own frame is none that the kernel knows: pack it by lz4 -l")
    } else {
        bail!("no archive: {WANTED}")
    }
}

/// A file, and how far it was read. It may be cut anywhere.
struct Walk<F> {
    file: BufReader<F>,
    at: u64,
    length: u64,
    /// It was packed: the kernel wants the last padding of it, too.
    is_packed: bool,
}

impl<F: Read + Seek> Walk<F> {
    fn new(mut file: F, from: u64) -> io::Result<Walk<F>> {
        let length = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(from))?;
        Ok(Walk { file: BufReader::new(file), at: from, length, is_packed: false })
    }

    /// Passes over the zeros that pad archives.
    fn padding(&mut self) -> io::Result<()> {
        loop {
            let bytes = self.file.fill_buf()?;
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            let is_end = zeros == 0 || zeros < bytes.len();
            self.file.consume(zeros);
            self.at += zeros as u64;
            if is_end {
                return Ok(());
            }
        }
    }

    /// What comes next, of so many bytes at most.
    fn peek(&mut self, most: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        (&mut self.file).take(most as u64).read_to_end(&mut bytes)?;
        self.file.seek_relative(-(bytes.len() as i64))?;
        Ok(bytes)
    }

    fn go_to(&mut self, at: u64) -> Option<()> {
        self.file.seek_relative(i64::try_from(at).ok()? - i64::try_from(self.at).ok()?).ok()?;
        self.at = at;
        Some(())
    }

    /// Passes over an archive that is not packed; none for one that is cut.
    fn archive(&mut self) -> Option<()> {
        while self.at < self.length {
            let head = self.peek(HEADER + TRAILER.len()).ok()?;
            if !is_plain(&head) {
                return None;
            }
            let number = |at: usize| {
                let digits = std::str::from_utf8(head.get(at..at + 8)?).ok()?;
                u32::from_str_radix(digits, 16).ok().map(u64::from)
            };
            let (name_size, size) = (number(NAME_SIZE)?, number(FILE_SIZE)?);
            let whole = HEADER as u64 + name_size;
            let end = if size == 0 { whole } else { whole.next_multiple_of(4) + size };
            if end > self.length - self.at {
                return None;
            }
            let next = (whole.next_multiple_of(4) + size).next_multiple_of(4);
            // The padding of the last one may be missing, unless it was packed (unpack_to_rootfs: the state is not Reset).
            if self.is_packed && next > self.length - self.at {
                return None;
            }
            self.go_to((self.at + next).min(self.length))?;
            if name_size == TRAILER.len() as u64 && head.ends_with(TRAILER) {
                return Some(());
            }
        }
        // The kernel does without the last entry.
        Some(())
    }
}
