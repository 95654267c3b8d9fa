//! sshd, asked about a password that this boot knows the hash of alone (`rescue.password_hash=`, or Ironic's): a process that is
//! started for one password, hears it by a pipe, and says whether it opens ([`contract::password`]). A console knows no hash.
//! Whatever is not said in so many words does not open.

use contract::password::{Opens, RIGHT, ROLE, WRONG};
use host::sys::process::{self, Spawn};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// For each line. A hash takes a second at most, and strangers' are before it.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest line, bytes.
const LONGEST: usize = 64;
/// As of all who are not logged in.
const OOM_SCORE: i16 = 500;

pub struct Checker {
    pid: i32,
    /// Until the password is said.
    typed: Option<PipeWriter>,
    said: PipeReader,
}

impl Checker {
    pub fn start(sshd: &Path) -> io::Result<Checker> {
        let (stdin, typed) = io::pipe()?;
        let (said, stdout) = io::pipe()?;
        let argv = [sshd.as_os_str(), ROLE.as_ref()];
        let mut child = Spawn::new(&argv, &[]);
        child.stdin = Some(File::from(OwnedFd::from(stdin)));
        child.stdout = Some(File::from(OwnedFd::from(stdout)));
        child.stderr = Some(File::from(host::sys::inherited(2).try_clone_to_owned()?));
        child.oom_score = OOM_SCORE;
        Ok(Checker { pid: process::spawn(child)?, typed: Some(typed), said })
    }

    /// What opens this console. To be asked first.
    pub fn opens(&mut self) -> io::Result<Opens> {
        let word = line(&mut self.said, PATIENCE)?;
        Opens::parse(&word).ok_or_else(|| io::Error::other("sshd says what it should not"))
    }

    /// Where a hash does: whether it is that of this password.
    pub fn compare(mut self, password: &str) -> io::Result<bool> {
        if let Some(mut typed) = self.typed.take() {
            typed.write_all(password.as_bytes())?; // and its end is the password's
        }
        match line(&mut self.said, PATIENCE)?.as_str() {
            RIGHT => Ok(true),
            WRONG => Ok(false),
            _ => Err(io::Error::other("sshd says what it should not")),
        }
    }
}

impl Drop for Checker {
    fn drop(&mut self) {
        // It has ended by itself, or nobody waits for it any more.
        let _ = process::signal(self.pid, Signal::KILL);
        let _ = process::wait_for(self.pid);
    }
}

/// The next line, without its newline.
///
/// Errors: its end, a line that is too long, and none within this time.
fn line(from: &mut PipeReader, patience: Duration) -> io::Result<String> {
    let deadline = Instant::now() + patience;
    let mut line = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(from, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return Err(io::Error::other("sshd does not answer")),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let mut byte = [0];
        match from.read(&mut byte)? {
            0 => return Err(io::Error::other("sshd has ended without an answer")),
            _ if byte == *b"\n" => return Ok(String::from_utf8_lossy(&line).into_owned()),
            _ if line.len() >= LONGEST => return Err(io::Error::other("sshd says what it should not")),
            _ => line.push(byte[0]),
        }
    }
}
