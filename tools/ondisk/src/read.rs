//! Where bytes come from: files, slices, and windows of either.

use std::ops::Range;
use thiserror::Error;

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReadError {
    /// Past the end: the device is shorter than the structure says.
    #[error("read {length} bytes at {offset}: past the end at {size}")]
    PastEnd { offset: u64, length: u64, size: u64 },
    /// The device said no.
    #[error("read {length} bytes at {offset}: {error}")]
    Device { offset: u64, length: u64, error: String },
}

/// Random access to a device or an image. Reads all of `buf` or fails.
pub trait ReadAt {
    /// Bytes.
    fn size(&self) -> u64;
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError>;

    /// `length` bytes at `offset`; the caller caps `length`.
    fn bytes(&self, offset: u64, length: usize) -> Result<Vec<u8>, ReadError> {
        let past = ReadError::PastEnd { offset, length: length as u64, size: self.size() };
        if offset.checked_add(length as u64).is_none_or(|end| end > self.size()) {
            return Err(past);
        }
        let mut buf = vec![0; length];
        self.read_at(offset, &mut buf)?;
        Ok(buf)
    }

    /// The same of several stretches, which a device may fetch at the same time.
    fn many(&self, stretches: &[(u64, usize)]) -> Vec<Result<Piece, ReadError>> {
        stretches.iter().map(|(offset, length)| self.bytes(*offset, *length).map(Piece::from)).collect()
    }
}

/// Bytes as they were read: with what had to be read before and behind them.
#[derive(Clone, Debug)]
pub struct Piece {
    all: Vec<u8>,
    wanted: Range<usize>,
}

impl Piece {
    /// `None` where what is wanted is not within it.
    pub fn new(all: Vec<u8>, wanted: Range<usize>) -> Option<Piece> {
        all.get(wanted.clone()).is_some().then_some(Piece { all, wanted })
    }

    pub fn bytes(&self) -> &[u8] {
        self.all.get(self.wanted.clone()).unwrap_or_default()
    }
}

impl From<Vec<u8>> for Piece {
    fn from(all: Vec<u8>) -> Piece {
        Piece { wanted: 0..all.len(), all }
    }
}

impl ReadAt for [u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let past = ReadError::PastEnd { offset, length: buf.len() as u64, size: self.len() as u64 };
        let start = usize::try_from(offset).map_err(|_| past.clone())?;
        let end = start.checked_add(buf.len()).ok_or(past.clone())?;
        buf.copy_from_slice(self.get(start..end).ok_or(past)?);
        Ok(())
    }
}

impl ReadAt for Vec<u8> {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        self.as_slice().read_at(offset, buf)
    }
}

/// A window of another source: a partition of a disk image.
pub struct Section<'a> {
    whole: &'a dyn ReadAt,
    start: u64,
    length: u64,
}

impl<'a> Section<'a> {
    /// Cut to what the whole has, so that a partition that runs past its disk is a short device.
    pub fn new(whole: &'a dyn ReadAt, start: u64, length: u64) -> Section<'a> {
        let length = length.min(whole.size().saturating_sub(start));
        Section { whole, start, length }
    }
}

impl ReadAt for Section<'_> {
    fn size(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let length = buf.len() as u64;
        if offset.checked_add(length).is_none_or(|end| end > self.length) {
            return Err(ReadError::PastEnd { offset, length, size: self.length });
        }
        self.whole.read_at(self.start + offset, buf)
    }

    fn many(&self, stretches: &[(u64, usize)]) -> Vec<Result<Piece, ReadError>> {
        let is_within = |(offset, length): &(u64, usize)| {
            offset.checked_add(*length as u64).is_some_and(|end| end <= self.length)
        };
        if !stretches.iter().all(is_within) {
            let each = |(offset, length): &(u64, usize)| self.bytes(*offset, *length).map(Piece::from);
            return stretches.iter().map(each).collect();
        }
        let whole: Vec<_> = stretches.iter().map(|(offset, length)| (self.start + offset, *length)).collect();
        self.whole.many(&whole)
    }
}
