//! The VM tests: the built image in QEMU, driven by the stock OpenSSH client. Each test is named
//! after what is promised; [`TESTS`] is the list.
//!
//!     cargo test -p image --test vm -- [--all] [--shard I/N] [--again] [--list] [NAME...]
//!
//! Without names, the sample that touches each promise runs; `--all` runs every test. A test that has
//! passed on the same image is not run again unless `--again` says so. The last line is
//! `N passed, N failed`.

mod runner;

use anyhow::Result;
use image::vm::Lab;

/// One promise.
pub struct Test {
    pub name: &'static str,
    /// Part of `make test`; the rest is `make test-all`'s.
    pub sample: bool,
    pub run: fn(&Lab) -> Result<()>,
}

fn tests() -> Vec<&'static Test> {
    vec![]
}

fn main() -> std::process::ExitCode {
    runner::main(&tests())
}
