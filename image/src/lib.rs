//! What builds the image, and what tests it: the harness that boots virtual machines, and the
//! recipes of the disks they are given.

pub mod build;
pub mod cpio;
pub mod custom;
pub mod firmware;
pub mod fixtures;
pub mod flavour;
pub mod forms;
pub mod hardware;
pub mod home;
pub mod identity;
pub mod initramfs;
pub mod kernel_config;
pub mod keys;
pub mod libraries;
pub mod licences;
pub mod lock;
pub mod manifest;
pub mod microcode;
pub mod modules;
pub mod packages;
pub mod params;
pub mod provenance;
pub mod raise;
pub mod sbom;
pub mod serve;
pub mod sign;
pub mod sizes;
pub mod sums;
pub mod vm;

/// A line of progress, with the seconds since the build began.
#[macro_export]
macro_rules! say {
    ($($arg:tt)*) => { $crate::progress(format_args!($($arg)*)) };
}

#[doc(hidden)]
pub fn progress(line: std::fmt::Arguments<'_>) {
    static BEGAN: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    let began = BEGAN.get_or_init(std::time::Instant::now);
    eprintln!("[{:>4}s] {line}", began.elapsed().as_secs());
}
