//! The engine: every row of FORMATS and every table tried on one device.

use crate::format::{DiskReport, Geometry};
use crate::read::ReadAt;

/// All that is on the device. Never fails: what cannot be read is in the report.
pub fn examine(_device: &dyn ReadAt, _geometry: Geometry) -> DiskReport {
    DiskReport::default()
}
