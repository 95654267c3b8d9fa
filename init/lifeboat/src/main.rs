//! Every service of ours but PID 1 as one binary, so that what they share is in the image once, and in memory.
//! It is the service by whose name it was started. One that starts itself again does so by a path, since
//! /proc/self/exe does not say which of them it is.

#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;

type Program = fn() -> ExitCode;

/// Of a name that is none, as a shell has it.
const UNKNOWN: u8 = 127;

/// Sorted by name.
const SERVICES: &[(&str, Program)] = &[
    ("console", console::main),
    ("devd", devd::main),
    ("layers", layers::main),
    ("netd", netd::main),
    ("sshd", sshd::main),
];

fn main() -> ExitCode {
    let called = std::env::args_os().next().unwrap_or_default();
    match service(&called) {
        Some(program) => program(),
        None => {
            eprintln!("{}: no service of that name", called.display());
            ExitCode::from(UNKNOWN)
        }
    }
}

fn service(called: &OsStr) -> Option<Program> {
    let name = Path::new(called).file_name()?;
    SERVICES.iter().find(|(service, _)| name == *service).map(|(_, program)| *program)
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::paths::{BIN, PROGRAMS};
    use contract::tools::TOOLS;

    #[test]
    fn every_name_in_the_image_is_a_service_or_the_tools_own_binary() {
        let mut names: Vec<&str> = SERVICES.iter().map(|(name, _)| *name).chain(["rescue"]).collect();
        names.sort_unstable();
        assert_eq!(names, PROGRAMS);
        assert!(PROGRAMS.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn it_is_the_service_by_whose_name_it_was_started() {
        let is_service = |called: &str| service(called.as_ref()).is_some();
        assert!(SERVICES.iter().all(|(name, _)| is_service(name) && is_service(&format!("{BIN}/{name}"))));
        for called in ["rescue", "/lifeboat/bin/lifeboat", "/proc/self/exe", "/sshd/lsblk", "sshd2", "", "/"]
        {
            assert!(!is_service(called), "{called}");
        }
    }

    #[test]
    fn no_tool_has_the_name_of_a_service() {
        assert!(TOOLS.iter().all(|tool| service(tool.name.as_ref()).is_none()));
    }
}
