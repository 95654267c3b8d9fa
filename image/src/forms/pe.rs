//! An EFI program of a stub, a kernel and an initramfs: sections behind those of systemd's stub, as the UAPI group's
//! specification of unified kernel images has them. Layout: Microsoft's PE/COFF specification.

use super::Parts;
use crate::flavour;
use anyhow::{Context as _, Result, ensure};

/// Words for a kernel that no loader gives any: see [`super::grub`] for the reason.
const WORDS: &str = "edd=off";

pub fn unified(parts: &Parts) -> Result<Vec<u8>> {
    let mut stub = parts.part("usr/lib/systemd/boot/efi/linuxx64.efi.stub")?;
    let kernel = parts.kernel()?;
    let release = flavour::release(&kernel).context("find the version in the kernel's header")?;
    let version = env!("CARGO_PKG_VERSION");
    let os =
        format!("ID=lifeboat\nNAME=Lifeboat\nPRETTY_NAME=\"Lifeboat {version}\"\nVERSION_ID={version}\n");
    extend(&mut stub, ".sbat", format!("lifeboat,1,Lifeboat,lifeboat,{version},mailto:none\n").as_bytes())?;
    let needs = image_size(&kernel)?;
    let sections = [
        Section { name: ".osrel", bytes: os.as_bytes(), needs: 0 },
        Section { name: ".cmdline", bytes: WORDS.as_bytes(), needs: 0 },
        Section { name: ".uname", bytes: release.as_bytes(), needs: 0 },
        Section { name: ".initrd", bytes: &parts.initramfs()?, needs: 0 },
        // Last, since it may run where it lies, and then needs the memory behind its bytes.
        Section { name: ".linux", bytes: &kernel, needs },
    ];
    assemble(stub, &sections)
}

struct Section<'a> {
    name: &'a str,
    bytes: &'a [u8],
    /// Bytes of memory, where these are more.
    needs: u32,
}

/// Where the parts of a PE header lie in a file.
pub(super) struct Header {
    /// Of the COFF header, behind the signature.
    coff: usize,
    pub(super) optional: usize,
    table: usize,
    count: usize,
}

/// Bytes of an entry of the section table.
const ENTRY: usize = 40;
/// Of the optional header: sizes of data and image, alignment of sections and of the file, bytes of the headers, sum.
const DATA: usize = 8;
const SECTION_ALIGNMENT: usize = 32;
const FILE_ALIGNMENT: usize = 36;
const IMAGE: usize = 56;
const HEADERS: usize = 60;
const SUM: usize = 64;
/// Initialised data that is read.
const READ_DATA: u32 = 0x4000_0040;

pub(super) fn number(file: &[u8], at: usize) -> Result<u32> {
    Ok(u32::from_le_bytes(
        *file.get(at..).and_then(|rest| rest.first_chunk()).context("the PE header is cut")?,
    ))
}

pub(super) fn put(file: &mut [u8], at: usize, value: u32) {
    file[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

impl Header {
    pub(super) fn read(file: &[u8]) -> Result<Header> {
        let coff = number(file, 0x3c)? as usize + 4;
        ensure!(file.get(coff - 4..coff) == Some(b"PE\0\0"), "not a PE file");
        let short = |at: usize| -> Result<usize> { Ok((number(file, at)? & 0xffff) as usize) };
        let (count, length) = (short(coff + 2)?, short(coff + 16)?);
        let optional = coff + 20;
        ensure!(short(optional)? == 0x20b, "not a PE32+ file");
        Ok(Header { coff, optional, table: optional + length, count })
    }
}

fn image_size(file: &[u8]) -> Result<u32> {
    number(file, Header::read(file)?.optional + IMAGE)
}

/// Puts `more` behind what a section holds, where its place in the file has room.
fn extend(file: &mut [u8], name: &str, more: &[u8]) -> Result<()> {
    let header = Header::read(file)?;
    let entries = (0..header.count).map(|index| header.table + index * ENTRY);
    let mut entries = entries.filter(|at| file[*at..*at + 8].starts_with(name.as_bytes()));
    let at = entries.next().with_context(|| format!("the stub has no section {name}"))?;
    let (size, raw, place) = (number(file, at + 8)?, number(file, at + 16)?, number(file, at + 20)?);
    let end = size as usize + more.len();
    ensure!(end <= raw as usize, "section {name} of the stub has no room");
    put(file, at + 8, u32::try_from(end)?);
    let place = (place + size) as usize;
    file[place..place + more.len()].copy_from_slice(more);
    Ok(())
}

fn assemble(mut file: Vec<u8>, sections: &[Section<'_>]) -> Result<Vec<u8>> {
    let header = Header::read(&file)?;
    let field = |file: &[u8], offset: usize| number(file, header.optional + offset);
    let (in_memory, in_file) = (field(&file, SECTION_ALIGNMENT)?, field(&file, FILE_ALIGNMENT)?);
    ensure!(
        header.table + (header.count + sections.len()) * ENTRY <= field(&file, HEADERS)? as usize,
        "the stub's header has no room for {} sections",
        sections.len()
    );
    let mut address = field(&file, IMAGE)?;
    let mut data = field(&file, DATA)?;
    for (index, section) in sections.iter().enumerate() {
        file.resize(file.len().next_multiple_of(in_file as usize), 0);
        let place = u32::try_from(file.len())?;
        let size = u32::try_from(section.bytes.len())?.max(section.needs);
        file.extend_from_slice(section.bytes);
        file.resize(file.len().next_multiple_of(in_file as usize), 0);
        let raw = u32::try_from(file.len())? - place;
        let at = header.table + (header.count + index) * ENTRY;
        let mut entry = [0; ENTRY];
        entry[..section.name.len()].copy_from_slice(section.name.as_bytes());
        for (offset, value) in [(8, size), (12, address), (16, raw), (20, place), (36, READ_DATA)] {
            put(&mut entry, offset, value);
        }
        file[at..at + ENTRY].copy_from_slice(&entry);
        address = address.checked_add(size).context("more than 4 GiB")?.next_multiple_of(in_memory);
        data = data.saturating_add(raw);
    }
    let count = u16::try_from(header.count + sections.len())?;
    file[header.coff + 2..header.coff + 4].copy_from_slice(&count.to_le_bytes());
    for (offset, value) in [(IMAGE, address), (DATA, data), (SUM, 0)] {
        put(&mut file, header.optional + offset, value);
    }
    Ok(file)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A header with room for two sections, of which one is there: `.sbat`, three bytes of 512.
    pub fn stub() -> Vec<u8> {
        let mut file = vec![0; 0x600];
        put(&mut file, 0x3c, 0x40);
        file[0x40..0x44].copy_from_slice(b"PE\0\0");
        file[0x46..0x48].copy_from_slice(&1u16.to_le_bytes());
        file[0x54..0x56].copy_from_slice(&240u16.to_le_bytes());
        file[0x58..0x5a].copy_from_slice(&0x20bu16.to_le_bytes());
        for (offset, value) in
            [(SECTION_ALIGNMENT, 4096), (FILE_ALIGNMENT, 512), (IMAGE, 8192), (HEADERS, 0x400)]
        {
            put(&mut file, 0x58 + offset, value);
        }
        let table = 0x58 + 240;
        file[table..table + 5].copy_from_slice(b".sbat");
        for (offset, value) in [(8, 3), (12, 4096), (16, 512), (20, 0x400)] {
            put(&mut file, table + offset, value);
        }
        file[0x400..0x403].copy_from_slice(b"a,1");
        file
    }

    #[test]
    fn sections_lie_behind_one_another_in_file_and_memory() {
        let (small, large) = (vec![1; 10], vec![2; 5000]);
        let sections = [
            Section { name: ".osrel", bytes: &small, needs: 0 },
            Section { name: ".linux", bytes: &large, needs: 9000 },
        ];
        let file = assemble(stub(), &sections).unwrap();
        let header = Header::read(&file).unwrap();
        assert_eq!(header.count, 3);
        let entry = |index: usize| {
            let at = header.table + index * ENTRY;
            [8, 12, 16, 20].map(|offset| number(&file, at + offset).unwrap())
        };
        assert_eq!(entry(1), [10, 8192, 512, 0x600]);
        assert_eq!(entry(2), [9000, 12288, 5120, 0x800]);
        assert_eq!(&file[0x800..0x800 + 5000], large);
        assert_eq!(image_size(&file).unwrap(), 24576);
    }

    #[test]
    fn a_section_is_extended_where_it_has_room() {
        let mut file = stub();
        extend(&mut file, ".sbat", b"b,1").unwrap();
        assert_eq!(&file[0x400..0x407], b"a,1b,1\0");
        assert!(extend(&mut file, ".sbat", &[0; 510]).is_err());
        assert!(extend(&mut file, ".none", b"").is_err());
    }

    #[test]
    fn what_is_no_pe_file_is_said_to_be_none() {
        assert!(assemble(b"MZ".to_vec(), &[]).is_err());
        assert!(assemble(vec![0; 512], &[]).is_err());
        assert!(assemble(stub(), &[const { Section { name: ".x", bytes: &[], needs: 0 } }; 20]).is_err());
    }
}
