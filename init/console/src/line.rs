//! The terminal line of a console: a sane mode, and a secret read without echo.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{
    ControlModes, InputModes, LocalModes, OptionalActions, OutputModes, Termios, tcgetattr, tcsetattr,
};
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Longest secret taken, bytes.
const LONGEST: usize = 256;

/// What `stty sane` sets, and CLOCAL: a serial line without modem control lines still opens. The
/// speed stays as firmware and kernel have it.
pub fn sane(line: &OwnedFd) -> io::Result<()> {
    let mut modes = tcgetattr(line)?;
    modes.input_modes |= InputModes::BRKINT | InputModes::ICRNL | InputModes::IXON | InputModes::IUTF8;
    modes.input_modes &= !(InputModes::IGNBRK | InputModes::INLCR | InputModes::IGNCR | InputModes::IXOFF);
    modes.output_modes |= OutputModes::OPOST | OutputModes::ONLCR;
    modes.local_modes |= LocalModes::ISIG
        | LocalModes::ICANON
        | LocalModes::ECHO
        | LocalModes::ECHOE
        | LocalModes::ECHOK
        | LocalModes::IEXTEN;
    modes.control_modes |= ControlModes::CREAD | ControlModes::CLOCAL;
    Ok(tcsetattr(line, OptionalActions::Now, &modes)?)
}

/// One line typed without echo ([`silence`] came before), without its newline; empty when the time is up. The line is as it
/// was afterwards.
pub fn read_secret(line: &OwnedFd, patience: Duration, before: &Termios) -> io::Result<String> {
    let typed = read_line(line, patience);
    tcsetattr(line, OptionalActions::Flush, before)?;
    typed
}

/// Before the question is put: what is typed from there on does not show, and what was typed before is forgotten. How the
/// line was.
pub fn silence(line: &OwnedFd) -> io::Result<Termios> {
    let before = tcgetattr(line)?;
    let mut silent: Termios = before.clone();
    silent.local_modes &= !LocalModes::ECHO;
    tcsetattr(line, OptionalActions::Flush, &silent)?;
    Ok(before)
}

fn read_line(line: &OwnedFd, patience: Duration) -> io::Result<String> {
    let deadline = Instant::now() + patience;
    let mut typed = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        let mut fds = [PollFd::new(line, PollFlags::IN)];
        if poll(&mut fds, Some(&timeout))? == 0 {
            return Ok(String::new());
        }
        let mut bytes = [0; LONGEST];
        match rustix::io::read(line, &mut bytes) {
            Ok(0) => return Ok(String::new()),
            Ok(length) => typed.extend_from_slice(&bytes[..length]),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if typed.contains(&b'\n') || typed.len() >= LONGEST {
            return Ok(String::from_utf8_lossy(&typed).trim_end_matches(['\r', '\n']).to_string());
        }
    }
}
