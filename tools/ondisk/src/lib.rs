//! Bytes to values: what is on a disk, from its bytes alone. Opens nothing, knows no path, never
//! panics on hostile input. One small file per format, one table of formats.

#![forbid(unsafe_code)]

pub mod bytes;
pub mod checksum;
pub mod conceal;
pub mod format;
pub mod formats;
pub mod fs;
pub mod probe;
pub mod read;
pub mod table;
pub mod volume;
pub mod window;

pub use format::{DiskReport, Extent, Finding, Format, Geometry, Health, Severity, Signature, Usage, Uuid};
pub use probe::{Record, examine, examine_recorded, examine_sections, examine_table};
pub use read::{Piece, ReadAt, ReadError, Section};
pub use window::{FailedRead, Windows};
