//! A foreign program that owns the terminal until it ends.

use super::Made;
use anyhow::Context as _;
use host::sys::process::{Ended, foreground};
use std::ffi::OsStr;
use std::path::PathBuf;

/// The first word is a path, or a name that is looked up in PATH. It reads the terminal, or `input`. Ctrl-C is the
/// program's: its status tells.
pub fn run(argv: &[String], input: Option<&[u8]>) -> anyhow::Result<Made> {
    let (program, arguments) = argv.split_first().context("a program has a name")?;
    // A place may have a name that is no text.
    let arguments: Vec<PathBuf> = arguments.iter().map(|word| host::proc::path(word)).collect();
    let arguments: Vec<&OsStr> = arguments.iter().map(|word| word.as_os_str()).collect();
    let ended =
        foreground(OsStr::new(program), &arguments, input).with_context(|| format!("run {program}"))?;
    // As a shell shows a signal.
    Ok(Made::Status(match ended {
        Ended::Status(status) => status,
        Ended::Signal(signal) => 128 + signal,
    }))
}
