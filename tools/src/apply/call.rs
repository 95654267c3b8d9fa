//! Foreign programs that are asked for something and end: LVM's, cryptsetup. What they say becomes the reason of a
//! failure, and nothing else.

use super::Made;
use anyhow::{Context as _, bail};
use host::sys::process::Ended;
use model::foreign::{self, Ending};
use model::text::Untrusted;
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::time::Duration;

/// Most lines of a program's that are repeated.
const TELLING: usize = 4;

/// What was given as a key opens nothing.
#[derive(Debug, PartialEq, Eq)]
pub struct WrongKey;

impl std::fmt::Display for WrongKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no keyslot takes this passphrase")
    }
}

impl std::error::Error for WrongKey {}

pub fn call(argv: &[String], input: &[u8]) -> anyhow::Result<Made> {
    let (program, arguments) = argv.split_first().context("a program has a name")?;
    let row = foreign::called(program).with_context(|| format!("{program} is no program that is called"))?;
    let arguments: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
    let deadline = Duration::from_secs(row.deadline);
    let said = match host::call::call(OsStr::new(program), &arguments, row.environment, input, deadline) {
        Ok(said) => said,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("{program} is not there: rescue status shows whether its layer is")
        }
        Err(error) if error.kind() == ErrorKind::TimedOut => {
            bail!("{program} has not ended within {} seconds, and was killed", row.deadline)
        }
        Err(error) => return Err(error).with_context(|| format!("run {program}")),
    };
    let words = told(&said.text);
    match said.ended {
        Ended::Status(0) => Ok(Made::Said(words)),
        Ended::Status(status) => match (row.status)(status) {
            Ending::WrongKey => Err(WrongKey.into()),
            Ending::OutOfMemory => bail!("{program} ran out of memory"),
            Ending::Failed if words.is_empty() => bail!("{program} ended with status {status}"),
            Ending::Failed => bail!("{program}: {}", words.join("; ")),
        },
        Ended::Signal(signal) => bail!("{program} was ended by signal {signal}"),
    }
}

/// Whether drives are locked again, after steps that close them.
///
/// Errors: cryptsetup said of one that it is not.
pub fn is_locked(made: &[Made]) -> anyhow::Result<()> {
    for said in made {
        if let Made::Said(words) = said
            && let Some(line) = foreign::left_unlocked(words)
        {
            bail!("its drive is not safely locked until it loses power: cryptsetup: {line}");
        }
    }
    Ok(())
}

/// The last lines, each harmless to print.
fn told(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut lines: Vec<String> = lines.map(|line| Untrusted(line).to_string()).collect();
    lines.drain(..lines.len().saturating_sub(TELLING));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drive_that_stays_unlocked_is_told_though_cryptsetup_ends_with_0() {
        let said = |line: &str| [Made::Done, Made::Said(vec!["x".to_string(), line.to_string()]), Made::Done];
        let cases = [
            ("Device inside was deactivated but hardware OPAL device cannot be locked.", false),
            ("Failed to erase OPAL key for device '/dev/sda3' from kernel: Not Authorized", false),
            ("Device inside is gone.", true),
        ];
        for (line, want) in cases {
            let told = is_locked(&said(line));
            assert_eq!(told.is_ok(), want, "{line}");
            assert!(told.is_ok() || format!("{:#}", told.unwrap_err()).ends_with(line), "{line}");
        }
    }

    #[test]
    fn the_last_lines_are_told_without_their_indent() {
        let text = "  one\n\n  WARNING: two\n  three\x1b[2J\n  four\n  five\n";
        assert_eq!(told(text), ["WARNING: two", "three\\x1b[2J", "four", "five"]);
    }
}
