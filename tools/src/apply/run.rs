//! A foreign program that owns the terminal until it ends.

use super::Made;
use anyhow::Context as _;
use host::sys::process::{Ended, foreground};
use std::ffi::OsStr;

/// The first word is a path, or a name that is looked up in PATH. Ctrl-C is the program's: its
/// status tells.
pub fn run(argv: &[String]) -> anyhow::Result<Made> {
    let (program, arguments) = argv.split_first().context("a program has a name")?;
    let arguments: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
    let ended = foreground(OsStr::new(program), &arguments).with_context(|| format!("run {program}"))?;
    // As a shell shows a signal.
    Ok(Made::Status(match ended {
        Ended::Status(status) => status,
        Ended::Signal(signal) => 128 + signal,
    }))
}
