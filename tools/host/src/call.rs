//! A program that is asked for something and ends: no terminal, an environment of ours alone, what it says kept, and
//! a deadline. One that hangs in the kernel on a disk is left behind when its time is up.

use crate::sys::process::Ended;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal};
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Where programs are looked for.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
/// What is kept of its words, from their end.
const KEPT: usize = 16 << 10;
/// Time for a killed one to go.
const GOING: Duration = Duration::from_secs(2);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub ended: Ended,
    /// Both of its outputs, in the order in which they came. Hostile.
    pub text: String,
}

/// Runs a program with that environment (beside PATH and LC_ALL=C), gives it `input` on stdin, and waits for its end.
///
/// Errors: it cannot be started, or `TimedOut`: then it was killed, where it can be.
pub fn call(
    program: &OsStr,
    arguments: &[&OsStr],
    environment: &[(&str, &str)],
    input: &[u8],
    deadline: Duration,
) -> io::Result<Said> {
    let until = Instant::now() + deadline;
    let (mut reader, writer) = io::pipe()?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .env("LC_ALL", "C")
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(writer.try_clone()?)
        .stderr(writer);
    let mut child = command.spawn()?;
    // It holds the writing end, and so would this process.
    drop(command);
    let pid = Pid::from_child(&child);
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    let kept = Arc::new(Mutex::new(Vec::new()));
    let collected = Arc::clone(&kept);
    // Ends with the last one that has the pipe, which may be a child of the child: nobody waits for it then.
    let (done, heard) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        let _done = done;
        let mut piece = [0; 4096];
        while let Ok(length @ 1..) = reader.read(&mut piece) {
            let mut kept = collected.lock().unwrap_or_else(PoisonError::into_inner);
            kept.extend_from_slice(&piece[..length]);
            let more = kept.len().saturating_sub(KEPT);
            kept.drain(..more);
        }
    });
    if let Some(mut stdin) = child.stdin.take()
        && let Err(error) = stdin.write_all(input)
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        return Err(error);
    }
    let said = |ended| {
        let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        Said { ended, text: String::from_utf8_lossy(&kept).into_owned() }
    };
    if !wait(&pidfd, until)? {
        // Nothing to do about one that is gone by now.
        let _ = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL);
        if wait(&pidfd, Instant::now() + GOING)? {
            child.wait()?;
        }
        return Err(io::Error::new(io::ErrorKind::TimedOut, "no end within its time"));
    }
    let status = child.wait()?;
    // What it wrote last is still in the pipe, which a child of it may hold open: an error is the listener's end.
    let _ = heard.recv_timeout(GOING);
    Ok(said(match (status.code(), status.signal()) {
        (Some(code), _) => Ended::Status(code),
        (None, signal) => Ended::Signal(signal.unwrap_or(0)),
    }))
}

/// Whether the process has ended by then.
fn wait(pidfd: &std::os::fd::OwnedFd, until: Instant) -> io::Result<bool> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&timeout)) {
            Ok(0) if left.is_zero() => return Ok(false),
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, input: &[u8], deadline: Duration) -> io::Result<Said> {
        call(OsStr::new("sh"), &["-c", script].map(OsStr::new), &[("A", "one")], input, deadline)
    }

    const SOON: Duration = Duration::from_secs(60);

    #[test]
    fn it_reads_its_input_and_its_words_and_status_are_told() {
        let said = sh("cat; echo $A $HOME; echo oops >&2; exit 5", b"secret\n", SOON).unwrap();
        assert_eq!(said, Said { ended: Ended::Status(5), text: "secret\none\noops\n".to_string() });
        let said = sh("exit 3", &[b'x'; 1 << 20], SOON).unwrap();
        assert_eq!(said.ended, Ended::Status(3), "one that reads nothing is no error");
    }

    #[test]
    fn the_end_of_many_words_is_kept() {
        let said = sh("head -c 100000 /dev/zero | tr '\\0' x; echo end", b"", SOON).unwrap();
        assert!(said.text.len() == KEPT && said.text.ends_with("xend\n"));
    }

    #[test]
    fn one_that_does_not_end_is_ended() {
        let error = sh("exec sleep 1000", b"", Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let error = call(OsStr::new("no-such-program"), &[], &[], b"", SOON).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
