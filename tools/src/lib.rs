//! `rescue`: one program behind every tool of ours. Started under a name in TOOLS (`fdisk`, `lsblk`) it
//! is that tool; started as `rescue` it takes the name as its first argument.

#![forbid(unsafe_code)]

mod apply;
mod capture;
mod cmd;
mod original;
mod report;
mod scan;
mod tool;
mod undo;

use std::ffi::OsString;
use std::process::ExitCode;

/// The program, by its whole argv.
pub fn main() -> ExitCode {
    std::panic::set_hook(Box::new(report::panicked));
    let argv: Vec<OsString> = std::env::args_os().collect();
    let code = std::panic::catch_unwind(|| run(argv)).unwrap_or(contract::exit::TROUBLE);
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

fn run(argv: Vec<OsString>) -> i32 {
    let call = match tool::call(argv) {
        Ok(call) => call,
        Err(unknown) => return report::failed("rescue", &unknown.into()),
    };
    let answer =
        tool::Context::live(call.name, call.verb).and_then(|context| (call.run)(&context, &call.arguments));
    if let Ok(answer) = &answer {
        original::save_before(call.name, answer);
    }
    report::ended(call.name, answer)
}
