//! The shell that a session begins with: bash of the userland layer; where the kernel cannot start it, for its layer or
//! its loader is not there, the busybox of the nucleus. Whoever got in gets a prompt.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shell {
    pub program: PathBuf,
    /// What it is told as its name: busybox knows by it which of its programs is meant.
    pub name: &'static str,
    /// For programs that start one: busybox by its own path would not know.
    pub variable: PathBuf,
}

impl Shell {
    pub fn bash(program: &Path) -> Shell {
        Shell { program: program.to_path_buf(), name: "bash", variable: program.to_path_buf() }
    }

    pub fn busybox(program: &Path) -> Shell {
        Shell { program: program.to_path_buf(), name: "sh", variable: PathBuf::from("/bin/sh") }
    }

    /// Its name as a login shell: `-bash`.
    pub fn as_login(&self) -> OsString {
        format!("-{}", self.name).into()
    }
}

/// Where they are in the image.
pub const BASH: &str = "/bin/bash";
pub const BUSYBOX: &str = "/lifeboat/bin/busybox";

/// For a session that was to have bash and gets busybox.
pub fn notice(bash: &Path, error: &io::Error) -> String {
    let reason = match error.kind() {
        // execve(2) says the same of a program and of the loader that it names.
        io::ErrorKind::NotFound if bash.exists() => "its loader is not there".to_string(),
        io::ErrorKind::NotFound => format!("{} is not there: is its layer mounted?", bash.display()),
        _ => {
            let text = error.to_string();
            // std's number behind the words tells a person nothing.
            text.split_once(" (os error ").map_or(text.as_str(), |(words, _)| words).to_string()
        }
    };
    format!("bash cannot be started ({reason}): this is busybox sh")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process::{self, Ended, Instead, Spawn, put_program};
    use std::ffi::OsStr;
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::symlink;

    /// Runs a script by the shells of a directory; returns how it ended and what was written to stderr.
    fn run(root: &Path) -> io::Result<(Ended, String)> {
        let (bash, busybox) = (Shell::bash(&root.join("bash")), Shell::busybox(&root.join("busybox")));
        let script = ["-c", "echo $0 $SHELL >&2; exit 7"].map(OsStr::new);
        let first = [&[bash.program.as_os_str()], &script[..]].concat();
        let second = [&[busybox.program.as_os_str()], &script[..]].concat();
        let environment = |shell: &Shell| [("SHELL".into(), shell.variable.clone().into())];
        let (of_first, of_second) = (environment(&bash), environment(&busybox));
        let (mut reader, writer) = io::pipe()?;
        let mut child = Spawn::new(&first, &of_first);
        child.arg0 = Some(OsStr::new(bash.name));
        child.stderr = Some(File::from(OwnedFd::from(writer)));
        let arg0 = Some(OsStr::new(busybox.name));
        child.instead = Some(Instead { argv: &second, arg0, environment: &of_second, notice: Some(notice) });
        let pid = process::spawn(child)?;
        let mut said = String::new();
        reader.read_to_string(&mut said)?;
        Ok((process::wait_for(pid)?, said.replace(&*root.to_string_lossy(), "")))
    }

    /// The shell of this machine, asking for a loader that no machine has; `None`: it asks for none.
    fn without_loader() -> Option<Vec<u8>> {
        let mut bytes = std::fs::read("/bin/sh").unwrap();
        let at = bytes.windows(4).position(|window| window == b"/ld-")?;
        bytes[at + 1] = b'?';
        Some(bytes)
    }

    #[test]
    fn whatever_keeps_bash_from_starting_there_is_a_shell_and_the_reason() {
        let header = b"\x7fELF\x02\x01\x01".to_vec();
        let cases = [
            ("missing", None, "/bash is not there: is its layer mounted?"),
            ("empty", Some((Vec::new(), 0o755)), "Exec format error"),
            ("cut in its header", Some((header, 0o755)), "Exec format error"),
            ("not executable", Some((b"#!/bin/sh\n".to_vec(), 0o644)), "Permission denied"),
            ("no loader", without_loader().map(|bytes| (bytes, 0o755)), "its loader is not there"),
        ];
        for (label, bash, reason) in cases {
            if label == "no loader" && bash.is_none() {
                continue;
            }
            let dir = tempfile::tempdir().unwrap();
            symlink("/bin/sh", dir.path().join("busybox")).unwrap();
            if let Some((bytes, mode)) = bash {
                put_program(&dir.path().join("bash"), &bytes, mode);
            }
            let (ended, said) = run(dir.path()).unwrap();
            let want = format!("bash cannot be started ({reason}): this is busybox sh\nsh /bin/sh\n");
            assert_eq!((ended, said), (Ended::Status(7), want), "{label}");
        }
    }

    #[test]
    fn a_bash_that_starts_is_left_alone_whatever_its_end() {
        let dir = tempfile::tempdir().unwrap();
        symlink("/bin/sh", dir.path().join("bash")).unwrap();
        let want = (Ended::Status(7), "bash /bash\n".to_string());
        assert_eq!(run(dir.path()).unwrap(), want);
    }

    #[test]
    fn without_any_shell_there_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(run(dir.path()).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
