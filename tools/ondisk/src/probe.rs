//! The engine: every table and every row of FORMATS tried on one device. Reads both ends once;
//! what cannot be read is in the report and the rest goes on.

use crate::format::{DiskReport, Extent, Format, Geometry, Magic, Signature, Usage};
use crate::formats::FORMATS;
use crate::read::{ReadAt, ReadError, Section};
use crate::table::{self, Table};
use std::cell::RefCell;

/// Kept in memory over all probes. Superblocks of nearly all formats lie in the first of them.
const CHUNK: u64 = 64 << 10;
/// Chunks kept: a probe that walks further (btrfs's mirrors, udf) pushes the oldest out.
const KEPT: usize = 24;

/// All that is on the device. Never fails.
pub fn examine(device: &dyn ReadAt, geometry: Geometry) -> DiskReport {
    let device = Cached::new(device);
    let mut report = DiskReport::default();
    report.table = table::probe(&device, geometry, &mut report.findings);
    for format in FORMATS {
        if device.size() < format.min_size {
            continue;
        }
        let signature = match format.magics {
            [] => (format.probe)(&device, None),
            magics => magics
                .iter()
                .filter(|magic| has(&device, magic))
                .find_map(|magic| (format.probe)(&device, Some(magic))),
        };
        // What lies at the end of the last partition lies at the disk's end too, and is the partition's.
        report
            .signatures
            .extend(signature.filter(|signature| !is_in_a_partition(signature, report.table.as_ref())));
    }
    report.errors = device.errors.into_inner();
    report
}

/// As [`examine`], with the partitions that have no node of their own read as windows of the device.
pub fn examine_sections(device: &dyn ReadAt, geometry: Geometry, sections: &[Extent]) -> DiskReport {
    let mut report = examine(device, geometry);
    for extent in sections {
        let section = Section::new(device, extent.start, extent.length);
        report.sections.push((extent.start, examine(&section, geometry)));
    }
    report
}

fn is_in_a_partition(signature: &Signature, table: Option<&Table>) -> bool {
    let at_the_end = signature.usage == Usage::Raid && signature.magic_offset > CHUNK;
    let covers = |entry: &table::Entry| {
        let start = entry.extent.start;
        !entry.extended
            && (start..start.saturating_add(entry.extent.length)).contains(&signature.magic_offset)
    };
    at_the_end && table.is_some_and(|table| table.partitions.iter().any(covers))
}

fn has(device: &dyn ReadAt, magic: &Magic) -> bool {
    device.bytes(magic.offset, magic.bytes.len()).is_ok_and(|bytes| bytes == magic.bytes)
}

/// The row of a format by its name.
pub fn format(name: &str) -> Option<&'static Format> {
    FORMATS.iter().copied().find(|format| format.name == name)
}

/// Where it starts, and its bytes or why there are none.
type Chunk = (u64, Result<Vec<u8>, ReadError>);

/// Whole chunks of the device, and what went wrong reading them.
struct Cached<'a> {
    device: &'a dyn ReadAt,
    chunks: RefCell<Vec<Chunk>>,
    errors: RefCell<Vec<String>>,
}

impl<'a> Cached<'a> {
    fn new(device: &'a dyn ReadAt) -> Cached<'a> {
        Cached { device, chunks: RefCell::default(), errors: RefCell::default() }
    }

    fn chunk(&self, start: u64) -> Result<Vec<u8>, ReadError> {
        let mut chunks = self.chunks.borrow_mut();
        if let Some((_, chunk)) = chunks.iter().find(|(known, _)| *known == start) {
            return chunk.clone();
        }
        let length = CHUNK.min(self.device.size().saturating_sub(start));
        let chunk = self.device.bytes(start, length as usize); // CHUNK at most
        if let Err(error) = &chunk {
            self.errors.borrow_mut().push(error.to_string());
        }
        if chunks.len() >= KEPT {
            drop(chunks.remove(0));
        }
        chunks.push((start, chunk.clone()));
        chunk
    }
}

impl ReadAt for Cached<'_> {
    fn size(&self) -> u64 {
        self.device.size()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let length = buf.len() as u64;
        if offset.checked_add(length).is_none_or(|end| end > self.size()) {
            return Err(ReadError::PastEnd { offset, length, size: self.size() });
        }
        if length > CHUNK {
            return self.device.read_at(offset, buf);
        }
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let start = at - at % CHUNK;
            let chunk = self.chunk(start)?;
            let rest = chunk.get((at - start) as usize..).unwrap_or_default();
            let taken = rest.len().min(buf.len() - done);
            if taken == 0 {
                return Err(ReadError::PastEnd { offset, length, size: self.size() });
            }
            buf[done..done + taken].copy_from_slice(&rest[..taken]);
            done += taken;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_empty_device_and_one_of_zeros_hold_nothing() {
        for size in [0, 1, 511, 512, 4096, 1 << 20] {
            assert_eq!(examine(&vec![0; size], Geometry::default()), DiskReport::default(), "{size}");
        }
    }

    #[test]
    fn a_read_error_is_reported_once_and_the_rest_goes_on() {
        struct Bad;
        impl ReadAt for Bad {
            fn size(&self) -> u64 {
                1 << 20
            }
            fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
                if offset < CHUNK {
                    return Err(ReadError::Device { offset, length: buf.len() as u64, error: "EIO".into() });
                }
                buf.fill(0);
                Ok(())
            }
        }
        let report = examine(&Bad, Geometry::default());
        assert_eq!(report.errors.len(), 1, "{:?}", report.errors);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_probe_panics_on_random_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..8192), size in 0usize..300_000) {
            let mut device = bytes;
            device.resize(size.max(device.len()), 0);
            for logical in [512, 4096] {
                let _ = examine(&device, Geometry { logical, physical: logical });
            }
        }
    }
}
