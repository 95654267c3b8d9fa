//! Reading a block device past the page cache, so that what is seen is what is on the disk now, and
//! so that looking fills no memory. For workers: any call may never return.

use crate::sys::aio::{self, Read};
use crate::sys::block::{Limits, limits};
use rustix::fs::{Mode, OFlags};
use std::cell::RefCell;
use std::io;
use std::num::NonZero;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Most that is read at once.
const MOST: usize = 128 << 10;
/// Alignment that O_DIRECT asks for on every drive there is.
const ALIGN: usize = 4096;

thread_local! {
    /// Where the kernel puts what it reads. One for all devices: fresh memory costs as much as the reading.
    static SPACE: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(MOST + ALIGN));
}

/// So much of it, from where a block may begin. No more is touched than was ever asked for.
fn aligned(space: &mut Vec<u8>, length: usize) -> &mut [u8] {
    space.reserve((length + ALIGN).saturating_sub(space.len()));
    let skip = space.as_ptr().align_offset(ALIGN);
    if space.len() < skip + length {
        space.resize(skip + length, 0);
    }
    &mut space[skip..skip + length]
}

#[derive(Debug)]
pub struct Device {
    fd: OwnedFd,
    size: u64,
}

impl Device {
    /// `size` in bytes, as sysfs has it. Falls back to the page cache where O_DIRECT is refused.
    pub fn open(path: &Path, size: u64) -> io::Result<Device> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = match rustix::fs::open(path, flags | OFlags::DIRECT, Mode::empty()) {
            Err(rustix::io::Errno::INVAL) => rustix::fs::open(path, flags, Mode::empty())?,
            other => other?,
        };
        Ok(Device { fd, size })
    }

    /// Heads, and sectors of a track, as the kernel has made them up for the drive.
    pub fn geometry(&self) -> Option<(NonZero<u32>, NonZero<u32>)> {
        let (heads, sectors) = crate::sys::block::geometry(self.fd.as_fd()).ok()?;
        Some((NonZero::new(heads.into())?, NonZero::new(sectors.into())?))
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    pub fn limits(&self) -> io::Result<Limits> {
        limits(&self.fd)
    }

    /// Fills `buffer` from `offset`, which lie within the device. Nothing is kept: whoever looks at a place twice
    /// keeps it.
    pub fn read_at(&self, mut offset: u64, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            let taken = self.with(offset, buffer.len(), |bytes| {
                buffer[..bytes.len()].copy_from_slice(bytes);
                bytes.len()
            })?;
            offset += taken as u64;
            buffer = &mut buffer[taken..];
        }
        Ok(())
    }

    /// The same, without filling it with zeros first.
    pub fn bytes(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut all = Vec::with_capacity(length);
        while all.len() < length {
            self.with(offset + all.len() as u64, length - all.len(), |bytes| all.extend_from_slice(bytes))?;
        }
        Ok(all)
    }

    /// The same of several stretches, which are on their way at the same time: of each the blocks in which it lies, and
    /// where it begins in them. They are handed over as they were read, since to copy them costs as much memory again.
    pub fn many(&self, stretches: &[(u64, usize)]) -> Vec<io::Result<(Vec<u8>, usize)>> {
        stretches.chunks(aio::MOST).flat_map(|some| self.together(some)).collect()
    }

    fn together(&self, stretches: &[(u64, usize)]) -> Vec<io::Result<(Vec<u8>, usize)>> {
        let blocks = |(offset, length): &(u64, usize)| {
            let within = (offset % ALIGN as u64) as usize;
            (within, (within + length).next_multiple_of(ALIGN))
        };
        let mut spaces: Vec<Vec<u8>> =
            stretches.iter().map(|stretch| Vec::with_capacity(blocks(stretch).1 + ALIGN)).collect();
        let mut reads: Vec<Read<'_>> = spaces
            .iter_mut()
            .zip(stretches)
            .map(|(space, stretch)| {
                let (within, length) = blocks(stretch);
                Read { offset: stretch.0 - within as u64, buffer: aligned(space, length), done: Ok(0) }
            })
            .collect();
        let is_read = aio::read(self.fd.as_fd(), &mut reads).is_ok();
        let done: Vec<usize> =
            reads.iter().map(|read| *read.done.as_ref().ok().filter(|_| is_read).unwrap_or(&0)).collect();
        spaces
            .into_iter()
            .zip(stretches)
            .zip(done)
            .map(|((space, stretch), done)| {
                let (within, length) = blocks(stretch);
                if done >= within + stretch.1 {
                    let skip = space.len() - length;
                    return Ok((space, skip + within));
                }
                // What came short or not at all is read by itself, which says why.
                Ok((self.bytes(stretch.0, stretch.1)?, 0))
            })
            .collect()
    }

    /// Hands over what there is at `offset`, `length` bytes at most and one at least.
    fn with<T>(&self, offset: u64, length: usize, take: impl FnOnce(&[u8]) -> T) -> io::Result<T> {
        let within = (offset % ALIGN as u64) as usize;
        let wanted = (within + length).next_multiple_of(ALIGN).min(MOST);
        SPACE.with_borrow_mut(|space| {
            let space = aligned(space, wanted);
            let filled = self.fill(space, offset - within as u64, within + length)?;
            match space[..filled.min(within + length)].get(within..) {
                None | Some([]) => Err(io::ErrorKind::UnexpectedEof.into()),
                Some(bytes) => Ok(take(bytes)),
            }
        })
    }

    /// Reads until there are `enough` bytes or no more; how many there are.
    fn fill(&self, space: &mut [u8], start: u64, enough: usize) -> io::Result<usize> {
        let mut filled = 0;
        while filled < space.len().min(enough) {
            // The length asked for stays a multiple of a sector; the device's end makes it short by itself.
            match rustix::io::pread(&self.fd, &mut space[filled..], start + filled as u64) {
                Ok(0) => break,
                Ok(length) => filled += length,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            if filled % 512 != 0 {
                break;
            }
        }
        Ok(filled)
    }
}

/// Whether the kernel would let [`write`] open the device: it is claimed for a moment.
///
/// Errors: EBUSY as there. A disk and its partition, claimed at the same time, refuse each other.
pub fn claim(path: &Path) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty()).map(drop)?)
}

/// Written at once.
const WRITTEN: usize = 1 << 20;

/// Writes whole sectors past the page cache, and waits until the device has them. What others have of them in the
/// page cache is dropped by the kernel. Falls back to the page cache where O_DIRECT is refused.
///
/// Errors: EBUSY where the kernel uses the device, a partition of it, or the disk as a whole (mounted, a journal or log,
/// swap, a member, a map): O_EXCL of a block device, open(2) and block/bdev.c, bd_may_claim. Of a disk with another partition
/// in use, a partition that is not is written.
pub fn write(path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::EXCL | OFlags::CLOEXEC;
    let fd = match rustix::fs::open(path, flags | OFlags::DIRECT, Mode::empty()) {
        Err(rustix::io::Errno::INVAL) => rustix::fs::open(path, flags, Mode::empty())?,
        other => other?,
    };
    let mut space = vec![0; WRITTEN + ALIGN];
    let skip = space.as_ptr().align_offset(ALIGN);
    let mut at = offset;
    for part in bytes.chunks(WRITTEN) {
        let buffer = &mut space[skip..skip + part.len()];
        buffer.copy_from_slice(part);
        let mut done = 0;
        while done < buffer.len() {
            match rustix::io::pwrite(&fd, &buffer[done..], at + done as u64) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(length) => done += length,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        at += part.len() as u64;
    }
    Ok(rustix::fs::fdatasync(&fd)?)
}

/// Waits until a device has all that was written to it through the page cache, by whomever.
///
/// Errors: a write that failed, too, where nobody was told before (errseq_t, include/linux/errseq.h).
pub fn sync(path: &Path) -> io::Result<()> {
    let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
    Ok(rustix::fs::fsync(fd)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_beside_it_changes() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut bytes = vec![7; 3 << 20];
        std::fs::write(file.path(), &bytes).unwrap();
        let fresh: Vec<u8> = (0..(2 << 20) + 512_u32).map(|n| (n % 253) as u8).collect();
        write(file.path(), 512, &fresh).unwrap();
        bytes[512..512 + fresh.len()].copy_from_slice(&fresh);
        assert!(std::fs::read(file.path()).unwrap() == bytes);
    }

    /// Needs a loop device, which is root's to make.
    #[test]
    fn what_the_kernel_uses_is_not_written() {
        use crate::sys::loopdev::{AUTOCLEAR, attach};
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 20).unwrap();
        let backing = std::fs::File::options().read(true).write(true).open(file.path()).unwrap();
        let Ok((path, _open)) = attach(&backing, 0, 0, AUTOCLEAR, "in-use") else { return };
        let path = Path::new(&path);
        // As mount(2), swapon(2) and maps hold it.
        let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::CLOEXEC;
        let held = rustix::fs::open(path, flags, Mode::empty()).unwrap();
        let error = write(path, 512, &[7; 512]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ResourceBusy, "{error}");
        assert_eq!(claim(path).unwrap_err().kind(), io::ErrorKind::ResourceBusy);
        assert!(std::fs::read(file.path()).unwrap().iter().all(|byte| *byte == 0));
        drop(held);
        // Whoever only looks, as our own probes do, holds nothing.
        let _looks = Device::open(path, 1 << 20).unwrap();
        claim(path).unwrap();
        write(path, 512, &[7; 512]).unwrap();
        assert_eq!(std::fs::read(file.path()).unwrap()[511..1025], [&[0][..], &[7; 512], &[0]].concat());
    }

    /// The same.
    #[test]
    fn a_write_that_fails_after_its_program_ended_is_told_to_whoever_waits_for_it() {
        use crate::sys::loopdev::{AUTOCLEAR, attach};
        use rustix::fs::{MemfdFlags, SealFlags};
        use std::os::unix::fs::FileExt;
        let backing =
            rustix::fs::memfd_create("sync", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        rustix::fs::ftruncate(&backing, 4 << 20).unwrap();
        let Ok((path, _open)) = attach(&backing, 0, 0, AUTOCLEAR, "sync") else { return };
        let path = Path::new(&path);
        let put = |offset: u64| {
            let device = std::fs::File::options().write(true).open(path).unwrap();
            device.write_all_at(&[7; 65_536], offset).unwrap();
        };
        put(0);
        sync(path).unwrap();
        // From here on there is no room for more.
        rustix::fs::ftruncate(&backing, 1 << 20).unwrap();
        rustix::fs::fcntl_add_seals(&backing, SealFlags::GROW).unwrap();
        put(2 << 20);
        assert!(sync(path).is_err());
    }

    #[test]
    fn bytes_are_those_of_the_device_across_chunks_and_at_its_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let bytes: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
        std::fs::write(file.path(), &bytes).unwrap();
        let device = Device::open(file.path(), bytes.len() as u64).unwrap();
        for (offset, length) in [(0, 10), (65_530, 20), (0, 200_000), (199_990, 10)] {
            let mut buffer = vec![0; length];
            device.read_at(offset, &mut buffer).unwrap();
            let want = &bytes[offset as usize..offset as usize + length];
            assert_eq!((&buffer[..], &device.bytes(offset, length).unwrap()[..]), (want, want));
            let many = device.many(&[(offset, length), (7, 9), (offset, length)]);
            for (many, want) in many.into_iter().zip([want, &bytes[7..16], want]) {
                let (bytes, at) = many.unwrap();
                assert_eq!(&bytes[at..at + want.len()], want);
            }
        }
        let many = device.many(&[(199_995, 10), (0, 5)]);
        assert!(many[0].is_err() && many[1].as_ref().is_ok_and(|(got, at)| got[*at..at + 5] == bytes[..5]));
        assert!(device.read_at(199_995, &mut [0; 10]).is_err());
        assert!(device.bytes(199_995, 10).is_err());
    }
}
