//! The reading tools as a person runs them: against what util-linux 2.41 printed for the same captured machine (golden),
//! and against what it prints now for images that the real tools make, and for those of their own suites (differential).

mod capture;
mod content;
mod crafted;
mod layout;
mod machine;
mod peers;
mod schema;
mod suites;
mod traps;
mod undo;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// `rescue` with an environment of nothing but the locale.
fn rescue(arguments: &[&str], locale: &str) -> Output {
    let program =
        Command::new(env!("CARGO_BIN_EXE_rescue")).args(arguments).env_clear().env("LC_ALL", locale).output();
    program.unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}
