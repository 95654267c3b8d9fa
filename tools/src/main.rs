//! `rescue` by itself, for a host and for the tests; in the image it is one of the names of `lifeboat`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    tools::main()
}
