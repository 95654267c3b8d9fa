//! A disk: GPT with GRUB for a BIOS in a partition of its own, and a FAT that UEFI starts from and a person can write to.

use super::{Parts, grub};
use anyhow::{Context as _, Result, ensure};
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

const SECTOR: u64 = 512;
/// Sectors: where GRUB's partition and the FAT begin, and what lies behind it for the backup of the GPT.
const CORE: u64 = 2048;
const FAT: u64 = 4096;
const BACKUP: u64 = 2048;
/// Bytes that a person may add to the FAT.
const ROOM: u64 = 48 << 20;

/// Of GRUB's first sector (boot.S): where the core's first sector is named, and a check of the drive that is for
/// floppies; of the core's (diskboot.S): the first of the sectors that it loads itself.
const CORE_SECTOR: usize = 0x5c;
const DRIVE_CHECK: usize = 0x66;
const FIRST_LIST: usize = 0x200 - 12;
/// What the firmware's code is at most: the disk's signature and the partition table lie behind.
const CODE: usize = 440;

pub fn make(parts: &Parts, target: &Path) -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let fat = scratch.path().join("fat.img");
    let length = medium(parts, &fat, ROOM)?;
    let core = bios_core(grub::bios(parts, "i386-pc", "(,gpt2)", scratch.path())?)?;
    let beside = target.with_extension("new");
    let disk = File::create(&beside).with_context(|| format!("create {}", beside.display()))?;
    disk.set_len((FAT + BACKUP) * SECTOR + length)?;
    let last = FAT + length / SECTOR - 1;
    let mut table = parts.tool("sgdisk");
    table.args(["--clear", "--disk-guid=4C494645-424F-4154-0000-000000000000", "--set-alignment=1"]);
    table.arg(format!("--new=1:{CORE}:{}", FAT - 1)).args(["--typecode=1:EF02", "--change-name=1:BIOS"]);
    table.args(["--partition-guid=1:4C494645-424F-4154-0000-000000000001"]);
    table.arg(format!("--new=2:{FAT}:{last}")).args(["--typecode=2:EF00", "--change-name=2:LIFEBOAT"]);
    table.args(["--partition-guid=2:4C494645-424F-4154-0000-000000000002"]);
    crate::packages::run(table.arg(&beside))?;
    disk.write_all_at(&first_sector(&parts.part("usr/lib/grub/i386-pc/boot.img")?)?, 0)?;
    ensure!(core.len() as u64 <= (FAT - CORE) * SECTOR, "GRUB does not fit into its partition");
    disk.write_all_at(&core, CORE * SECTOR)?;
    let mut from = File::open(&fat)?;
    let mut to = &disk;
    std::io::Seek::seek(&mut to, std::io::SeekFrom::Start(FAT * SECTOR))?;
    std::io::copy(&mut from, &mut to).context("copy the file system")?;
    Ok(fs::rename(&beside, target)?)
}

/// The code of the first sector, told where the core begins.
fn first_sector(boot: &[u8]) -> Result<Vec<u8>> {
    let mut code = boot.get(..CODE).context("GRUB's first sector is cut")?.to_vec();
    code[CORE_SECTOR..CORE_SECTOR + 8].copy_from_slice(&CORE.to_le_bytes());
    code[DRIVE_CHECK..DRIVE_CHECK + 2].copy_from_slice(&[0x90, 0x90]);
    Ok(code)
}

/// The core, told where its second sector lies.
fn bios_core(mut core: Vec<u8>) -> Result<Vec<u8>> {
    core.resize(core.len().next_multiple_of(SECTOR as usize), 0);
    let rest = (core.len() / SECTOR as usize).saturating_sub(1);
    let list = core.get_mut(FIRST_LIST..FIRST_LIST + 12).context("GRUB's image is cut")?;
    list[..8].copy_from_slice(&(CORE + 1).to_le_bytes());
    ensure!(usize::from(u16::from_le_bytes([list[8], list[9]])) == rest, "GRUB's image names another length");
    Ok(core)
}

/// The FAT from which UEFI starts, and GRUB for a BIOS reads; its length.
pub fn medium(parts: &Parts, target: &Path, room: u64) -> Result<u64> {
    let [nucleus, layers] = parts.halves()?;
    let files = [
        (grub::FIRST, parts.part(grub::SHIM)?),
        (grub::SECOND, parts.part(grub::OF_MEDIA)?),
        (grub::CONFIG, grub::config().into_bytes()),
        (grub::KERNEL, parts.kernel()?),
        (grub::NUCLEUS, nucleus),
        (grub::LAYERS, layers),
    ];
    fat(parts, target, &files, room)
}

/// A FAT of these files, with so many bytes of room for more; its length, in whole MiB.
pub fn fat(parts: &Parts, target: &Path, files: &[(&str, Vec<u8>)], room: u64) -> Result<u64> {
    const MIB: u64 = 1 << 20;
    let content: u64 = files.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    let length = (content + content / 512 + room + MIB).next_multiple_of(MIB); // an entry of 4 bytes each cluster
    File::create(target)?.set_len(length)?;
    let mut format = parts.tool("mkfs.fat");
    format.args(["--invariant", "-n", "LIFEBOAT", "-i", "4C464254"]);
    crate::packages::run(format.arg(target))?;
    let scratch = tempfile::tempdir()?;
    let mut made: Vec<String> = Vec::new();
    for (name, bytes) in files {
        for (at, _) in name.match_indices('/') {
            let directory = format!("::/{}", &name[..at]);
            if !made.contains(&directory) {
                crate::packages::run(parts.tool("mmd").arg("-i").arg(target).arg(&directory))?;
                made.push(directory);
            }
        }
        let file = scratch.path().join("file");
        fs::write(&file, bytes)?;
        // mtools writes the file's own time with -m.
        rustix::fs::utimensat(
            rustix::fs::CWD,
            &file,
            &rustix::fs::Timestamps { last_access: EPOCH, last_modification: EPOCH },
            rustix::fs::AtFlags::empty(),
        )?;
        crate::packages::run(
            parts.tool("mcopy").arg("-m").arg("-i").arg(target).arg(&file).arg(format!("::/{name}")),
        )?;
    }
    Ok(length)
}

/// Writes files to the FAT of a disk image of ours, as a person does with mtools.
pub fn put(parts: &Parts, image: &Path, files: &[(&str, &Path)]) -> Result<()> {
    let place = format!("{}@@{}", image.display(), FAT * SECTOR);
    for (name, path) in files {
        crate::packages::run(parts.tool("mcopy").args(["-i", &place]).arg(path).arg(format!("::/{name}")))?;
    }
    Ok(())
}

/// One more partition behind an ISO of ours, as a person makes it on a stick: a FAT with these files.
pub fn add_partition(parts: &Parts, iso: &Path, files: &[(&str, Vec<u8>)]) -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let fat = scratch.path().join("fat.img");
    let length = self::fat(parts, &fat, files, 0)?;
    let stick = fs::OpenOptions::new().read(true).write(true).open(iso).context("open the ISO")?;
    // What lies behind the partition is the backup of its table, a MiB at most.
    let start = stick.metadata()?.len().next_multiple_of(1 << 20);
    stick.set_len(start + length + (1 << 20))?;
    let (first, last) = (start / SECTOR, (start + length) / SECTOR - 1);
    let mut table = parts.tool("sgdisk");
    table.args(["--move-second-header", &format!("--new=0:{first}:{last}"), "--typecode=0:0700"]);
    crate::packages::run(table.arg(iso))?;
    stick.write_all_at(&fs::read(&fat)?, start).context("write the file system")
}

/// 1980 is where FAT's time begins.
const EPOCH: rustix::fs::Timespec = rustix::fs::Timespec { tv_sec: 315_619_200, tv_nsec: 0 };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grub_is_told_where_it_lies() {
        let sector = first_sector(&[7; 512]).unwrap();
        assert_eq!((sector.len(), &sector[CORE_SECTOR..CORE_SECTOR + 8]), (CODE, &2048u64.to_le_bytes()[..]));
        let mut core = vec![0; 1500];
        core[FIRST_LIST + 8] = 2;
        let placed = bios_core(core.clone()).unwrap();
        assert_eq!((placed.len(), &placed[FIRST_LIST..FIRST_LIST + 8]), (1536, &2049u64.to_le_bytes()[..]));
        core[FIRST_LIST + 8] = 9;
        assert!(bios_core(core).is_err());
        assert!(bios_core(Vec::new()).is_err() && first_sector(&[0; 100]).is_err());
    }
}
