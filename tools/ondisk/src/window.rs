//! What a look at a device read of it, and no byte more: enough for the same look elsewhere. A hole reads as
//! zeros, as in the sparse file that a capture makes of it.

use crate::format::Extent;
use crate::read::{ReadAt, ReadError};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// The bytes that were read, by where they stand. No two pieces touch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Windows {
    size: u64,
    limit: u64,
    kept: u64,
    pieces: BTreeMap<u64, Vec<u8>>,
    /// Bytes that were read and are above the limit; some perhaps twice.
    pub beyond: u64,
}

impl Windows {
    /// Of a device of `size` bytes; `limit`: most bytes that are kept.
    pub fn new(size: u64, limit: u64) -> Windows {
        Windows { size, limit, kept: 0, pieces: BTreeMap::new(), beyond: 0 }
    }

    /// Sorted by their start.
    pub fn pieces(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.pieces.iter().map(|(start, bytes)| (*start, bytes.as_slice()))
    }

    pub fn extents(&self) -> Vec<Extent> {
        self.pieces().map(|(start, bytes)| Extent { start, length: bytes.len() as u64 }).collect()
    }

    /// How many bytes they are.
    pub fn kept(&self) -> u64 {
        self.kept
    }

    /// Keeps what was read at `offset`.
    pub fn note(&mut self, offset: u64, bytes: &[u8]) {
        let end = offset.saturating_add(bytes.len() as u64);
        let before = self.pieces.range(..=offset).next_back();
        let before = before.filter(|(start, piece)| *start + piece.len() as u64 >= offset);
        let first = before.map_or(offset, |(start, _)| *start);
        if before.is_some_and(|(start, piece)| *start + piece.len() as u64 >= end) || bytes.is_empty() {
            return;
        }
        let touched: Vec<u64> = self.pieces.range(first..=end).map(|(start, _)| *start).collect();
        let known: u64 = touched.iter().map(|start| self.pieces[start].len() as u64).sum();
        let last = touched.iter().map(|start| start + self.pieces[start].len() as u64).max();
        let length = last.unwrap_or(end).max(end) - first;
        if self.kept.saturating_add(length - known) > self.limit {
            self.beyond = self.beyond.saturating_add(bytes.len() as u64);
            return;
        }
        self.kept += length - known;
        let mut whole = vec![0; length as usize]; // the limit at most
        let mut put = |start: u64, bytes: &[u8]| {
            let at = (start - first) as usize;
            whole[at..at + bytes.len()].copy_from_slice(bytes);
        };
        for start in touched {
            put(start, &self.pieces.remove(&start).unwrap_or_default());
        }
        put(offset, bytes);
        self.pieces.insert(first, whole);
    }

    /// Puts other bytes into the place of those that are kept; holes stay holes.
    pub fn put(&mut self, offset: u64, bytes: &[u8]) {
        let extent = Extent { start: offset, length: bytes.len() as u64 };
        self.change(extent, |place, at| {
            let from = (at - offset) as usize; // within `extent`
            place.copy_from_slice(&bytes[from..from + place.len()]);
        });
    }

    pub fn zero(&mut self, extent: Extent) {
        self.change(extent, |place, _| place.fill(0));
    }

    /// Calls `with` for what is kept of an extent, and where that is.
    fn change(&mut self, extent: Extent, mut with: impl FnMut(&mut [u8], u64)) {
        let end = extent.start.saturating_add(extent.length);
        for (start, piece) in self.pieces.range_mut(..end) {
            let piece_end = start + piece.len() as u64;
            let (from, to) = (extent.start.max(*start), end.min(piece_end));
            if from < to {
                // Both lie within the piece, which is a slice.
                with(&mut piece[(from - start) as usize..(to - start) as usize], from);
            }
        }
    }
}

impl ReadAt for Windows {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let length = buf.len() as u64;
        let end = offset.checked_add(length).filter(|end| *end <= self.size);
        let end = end.ok_or(ReadError::PastEnd { offset, length, size: self.size })?;
        buf.fill(0);
        let before = self.pieces.range(..offset).next_back();
        for (start, piece) in before.into_iter().chain(self.pieces.range(offset..end)) {
            let (from, to) = (offset.max(*start), end.min(start + piece.len() as u64));
            if from < to {
                let bytes = &piece[(from - start) as usize..(to - start) as usize];
                buf[(from - offset) as usize..(to - offset) as usize].copy_from_slice(bytes);
            }
        }
        Ok(())
    }
}

/// Keeps what is read through it.
pub struct Recorder<'a> {
    source: &'a dyn ReadAt,
    /// Of the source within the device that the windows are of.
    start: u64,
    windows: &'a RefCell<Windows>,
}

impl<'a> Recorder<'a> {
    pub fn new(source: &'a dyn ReadAt, start: u64, windows: &'a RefCell<Windows>) -> Recorder<'a> {
        Recorder { source, start, windows }
    }
}

impl ReadAt for Recorder<'_> {
    fn size(&self) -> u64 {
        self.source.size()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        self.source.read_at(offset, buf)?;
        self.windows.borrow_mut().note(self.start + offset, buf);
        Ok(())
    }
}

/// A read that the device did not answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedRead {
    pub start: u64,
    pub length: u64,
    pub error: String,
}

/// Keeps which reads failed.
pub struct Failures<'a> {
    source: &'a dyn ReadAt,
    pub failed: RefCell<Vec<FailedRead>>,
}

/// Most that are kept: the engine reads no more chunks and pieces of a device than that.
const FAILED_MAX: usize = 1024;

impl<'a> Failures<'a> {
    pub fn new(source: &'a dyn ReadAt) -> Failures<'a> {
        Failures { source, failed: RefCell::default() }
    }
}

impl ReadAt for Failures<'_> {
    fn size(&self) -> u64 {
        self.source.size()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let result = self.source.read_at(offset, buf);
        if let Err(ReadError::Device { offset, length, error }) = &result {
            let read = FailedRead { start: *offset, length: *length, error: error.clone() };
            let mut failed = self.failed.borrow_mut();
            if failed.len() < FAILED_MAX && !failed.contains(&read) {
                failed.push(read);
            }
        }
        result
    }
}

/// A source of which the same reads fail as of the device that was captured: those that hold one that failed. A
/// smaller one may have missed the bad sector.
pub struct Failing<'a> {
    pub source: &'a dyn ReadAt,
    pub failed: &'a [FailedRead],
}

impl ReadAt for Failing<'_> {
    fn size(&self) -> u64 {
        self.source.size()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let length = buf.len() as u64;
        let end = offset.saturating_add(length);
        let holds = |read: &&FailedRead| {
            offset <= read.start && read.start.checked_add(read.length).is_some_and(|last| last <= end)
        };
        match self.failed.iter().find(holds) {
            Some(read) => Err(ReadError::Device { offset, length, error: read.error.clone() }),
            None => self.source.read_at(offset, buf),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Bytes that were noted are read, all others are zeros, and what is kept is counted.
        #[test]
        fn windows_hold_what_was_read_and_nothing_else(
            reads in proptest::collection::vec((0usize..300, 0usize..60), 0..20),
            blank in (0u64..300, 0u64..60),
        ) {
            let device: Vec<u8> = (0..400_u32).map(|n| (n % 255) as u8 + 1).collect();
            let mut windows = Windows::new(400, 400);
            let mut want = vec![0; 400];
            for (start, length) in reads {
                windows.note(start as u64, &device[start..start + length]);
                want[start..start + length].copy_from_slice(&device[start..start + length]);
            }
            prop_assert_eq!(windows.bytes(0, 400).unwrap(), want.clone());
            prop_assert_eq!(windows.kept(), want.iter().filter(|byte| **byte != 0).count() as u64);
            let mut end = None;
            for (start, piece) in windows.pieces() {
                prop_assert!(end < Some(start) && !piece.is_empty());
                end = Some(start + piece.len() as u64);
            }
            windows.zero(Extent { start: blank.0, length: blank.1 });
            want[blank.0 as usize..(blank.0 + blank.1) as usize].fill(0);
            prop_assert_eq!(windows.bytes(0, 400).unwrap(), want.clone());
            windows.put(100, &[9; 50]);
            let got = windows.bytes(0, 400).unwrap();
            prop_assert!((100..150).all(|at| got[at] == 9 || got[at] == 0 && want[at] == 0));
        }
    }

    #[test]
    fn no_more_is_kept_than_the_limit() {
        let mut windows = Windows::new(1 << 30, 100);
        windows.note(0, &[1; 60]);
        windows.note(1000, &[2; 60]);
        windows.note(30, &[3; 60]);
        assert_eq!((windows.kept(), windows.beyond), (90, 60));
        assert_eq!(windows.extents(), [Extent { start: 0, length: 90 }]);
    }

    #[test]
    fn a_read_fails_again_where_it_failed_and_not_beside_it() {
        let bytes = vec![7; 4096];
        let failed = [FailedRead { start: 1024, length: 512, error: "EIO".to_string() }];
        let device = Failing { source: &bytes, failed: &failed };
        assert!(device.bytes(0, 4096).is_err() && device.bytes(1024, 512).is_err());
        assert!(device.bytes(1024, 511).is_ok() && device.bytes(1536, 512).is_ok());
    }
}
