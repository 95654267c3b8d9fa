//! What builds the image, and what tests it: the harness that boots virtual machines, and the
//! recipes of the disks they are given.

pub mod fixtures;
pub mod vm;
