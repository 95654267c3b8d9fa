//! Reading a block device past the page cache, so that what is seen is what is on the disk now, and
//! so that looking fills no memory. For workers: any call may never return.

use rustix::fs::{Mode, OFlags};
use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Read at once and kept: superblocks stand close together at both ends of a device.
const CHUNK: usize = 64 << 10;
/// Chunks kept.
const KEPT: usize = 32;
/// Alignment that O_DIRECT asks for on every drive there is.
const ALIGN: usize = 4096;

#[derive(Debug)]
pub struct Device {
    fd: OwnedFd,
    size: u64,
    /// (start, bytes), the one used last at the end.
    chunks: RefCell<Vec<(u64, Vec<u8>)>>,
}

impl Device {
    /// `size` in bytes, as sysfs has it. Falls back to the page cache where O_DIRECT is refused.
    pub fn open(path: &Path, size: u64) -> io::Result<Device> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = match rustix::fs::open(path, flags | OFlags::DIRECT, Mode::empty()) {
            Err(rustix::io::Errno::INVAL) => rustix::fs::open(path, flags, Mode::empty())?,
            other => other?,
        };
        Ok(Device { fd, size, chunks: RefCell::new(Vec::new()) })
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// Fills `buffer` from `offset`, which lie within the device.
    pub fn read_at(&self, mut offset: u64, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            let start = offset - offset % CHUNK as u64;
            let within = (offset - start) as usize;
            let taken = self.with_chunk(start, |chunk| {
                let available = chunk.get(within..).unwrap_or_default();
                let taken = available.len().min(buffer.len());
                buffer[..taken].copy_from_slice(&available[..taken]);
                taken
            })?;
            if taken == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            offset += taken as u64;
            buffer = &mut buffer[taken..];
        }
        Ok(())
    }

    fn with_chunk<T>(&self, start: u64, use_it: impl FnOnce(&[u8]) -> T) -> io::Result<T> {
        let mut chunks = self.chunks.borrow_mut();
        match chunks.iter().position(|(known, _)| *known == start) {
            Some(index) => {
                let chunk = chunks.remove(index);
                chunks.push(chunk);
            }
            None => {
                let chunk = self.read_chunk(start)?;
                if chunks.len() >= KEPT {
                    chunks.remove(0);
                }
                chunks.push((start, chunk));
            }
        }
        Ok(use_it(&chunks[chunks.len() - 1].1)) // pushed just now
    }

    fn read_chunk(&self, start: u64) -> io::Result<Vec<u8>> {
        let wanted = CHUNK.min(usize::try_from(self.size.saturating_sub(start)).unwrap_or(CHUNK));
        let mut space = vec![0; CHUNK + ALIGN];
        let skip = space.as_ptr().align_offset(ALIGN);
        let buffer = &mut space[skip..skip + CHUNK];
        let mut filled = 0;
        while filled < wanted {
            // The length asked for stays a multiple of a sector; the last chunk is short by itself.
            match rustix::io::pread(&self.fd, &mut buffer[filled..], start + filled as u64) {
                Ok(0) => break,
                Ok(length) => filled += length,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            if filled % 512 != 0 {
                break;
            }
        }
        Ok(buffer[..filled.min(wanted)].to_vec())
    }
}

/// Written at once.
const WRITTEN: usize = 1 << 20;

/// Writes whole sectors past the page cache, and waits until the device has them. What others have of them in the
/// page cache is dropped by the kernel. Falls back to the page cache where O_DIRECT is refused.
pub fn write(path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
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

    #[test]
    fn bytes_are_those_of_the_device_across_chunks_and_at_its_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let bytes: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
        std::fs::write(file.path(), &bytes).unwrap();
        let device = Device::open(file.path(), bytes.len() as u64).unwrap();
        for (offset, length) in [(0, 10), (65_530, 20), (0, 200_000), (199_990, 10)] {
            let mut buffer = vec![0; length];
            device.read_at(offset, &mut buffer).unwrap();
            assert_eq!(buffer, &bytes[offset as usize..offset as usize + length]);
        }
        assert!(device.read_at(199_995, &mut [0; 10]).is_err());
    }
}
