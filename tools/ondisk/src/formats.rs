//! FORMATS: every format that is looked for, one row each. The order is libblkid's: what stands
//! first is what a device most likely is when several match (RAID members before what they hold).

use crate::format::Format;
use crate::volume;

pub const FORMATS: &[&Format] = &[&volume::mdraid::FORMAT];
