//! A foreign program that owns the terminal until it ends.

use super::Made;
use anyhow::Context as _;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

/// The first word is a path, or a name that is looked up in PATH. Ctrl-C is the program's: its
/// status tells.
pub fn run(argv: &[String]) -> anyhow::Result<Made> {
    let (program, arguments) = argv.split_first().context("a program has a name")?;
    let status = Command::new(program).args(arguments).status().with_context(|| format!("run {program}"))?;
    // As a shell shows a signal.
    Ok(Made::Status(status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(1)))
}
