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
/// speed stays as firmware and kernel have it. Without echo nothing goes out that nobody writes, no bell either.
pub fn sane(line: &OwnedFd, echo: bool) -> io::Result<()> {
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
    if !echo {
        modes.local_modes &= !(LocalModes::ECHO | LocalModes::ECHONL);
        modes.input_modes &= !InputModes::IMAXBEL;
    }
    modes.control_modes |= ControlModes::CREAD | ControlModes::CLOCAL;
    Ok(tcsetattr(line, OptionalActions::Now, &modes)?)
}

/// Listens for a word that stands alone on a line.
pub struct Call {
    word: &'static [u8],
    /// The line began before, and was too long for one read.
    is_within: bool,
}

impl Call {
    pub fn of(word: &'static [u8]) -> Call {
        Call { word, is_within: false }
    }

    /// Takes what one read of a terminal brought, which ends at the latest with the line.
    pub fn is_heard(&mut self, bytes: &[u8]) -> bool {
        let whole = bytes.strip_suffix(b"\n");
        let is_within = std::mem::replace(&mut self.is_within, whole.is_none());
        !is_within && whole == Some(self.word)
    }
}

/// Bits per second, 8 of them a character, without parity.
pub fn set_speed(line: &OwnedFd, speed: u32) -> io::Result<()> {
    let mut modes = tcgetattr(line)?;
    modes.set_speed(speed)?;
    modes.control_modes &= !(ControlModes::CSIZE | ControlModes::PARENB | ControlModes::CSTOPB);
    modes.control_modes |= ControlModes::CS8;
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

/// What comes back upon a question, up to a last byte, without echo; what came by then when the time is up. The line is
/// as it was afterwards.
pub fn ask(line: &OwnedFd, question: &str, last: u8, patience: Duration) -> io::Result<Vec<u8>> {
    let before = tcgetattr(line)?;
    let mut silent = before.clone();
    silent.local_modes &= !(LocalModes::ECHO | LocalModes::ICANON);
    tcsetattr(line, OptionalActions::Now, &silent)?;
    let answer = rustix::io::write(line, question.as_bytes())
        .map_err(io::Error::from)
        .and_then(|_| read_until(line, last, patience));
    // What was typed meanwhile is no answer to anything.
    tcsetattr(line, OptionalActions::Flush, &before)?;
    answer
}

fn read_line(line: &OwnedFd, patience: Duration) -> io::Result<String> {
    let typed = read_until(line, b'\n', patience)?;
    // Half a secret is none.
    let whole = if typed.contains(&b'\n') || typed.len() >= LONGEST { &typed[..] } else { &[] };
    Ok(String::from_utf8_lossy(whole).trim_end_matches(['\r', '\n']).to_string())
}

/// What is read until a byte is among it, the time is up, or it is too much.
fn read_until(line: &OwnedFd, last: u8, patience: Duration) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + patience;
    let mut typed = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        let mut fds = [PollFd::new(line, PollFlags::IN)];
        if poll(&mut fds, Some(&timeout))? == 0 {
            return Ok(typed);
        }
        let mut bytes = [0; LONGEST];
        match rustix::io::read(line, &mut bytes) {
            Ok(0) => return Ok(typed),
            Ok(length) => typed.extend_from_slice(&bytes[..length]),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if typed.contains(&last) || typed.len() >= LONGEST {
            return Ok(typed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};

    #[test]
    fn a_word_calls_only_when_it_is_the_whole_line() {
        let heard = |reads: &[&[u8]]| {
            let mut call = Call::of(b"lifeboat");
            reads.iter().map(|bytes| call.is_heard(bytes)).collect::<Vec<_>>()
        };
        assert_eq!(heard(&[b"\n", b"login: root\n", b"lifeboat\n"]), [false, false, true]);
        assert_eq!(heard(&[b"x lifeboat\n", b"lifeboat \n", b"Lifeboat\n"]), [false; 3]);
        assert_eq!(heard(&[b"noise without an end ", b"lifeboat\n", b"lifeboat\n"]), [false, false, true]);
    }

    #[test]
    fn a_line_without_echo_answers_nothing() {
        for (echo, wanted) in [(false, &b"!"[..]), (true, b"noise\r\n!")] {
            let pty = host::sys::tty::open().unwrap();
            let mut master = std::fs::File::from(pty.master);
            rustix::fs::fcntl_setfl(&master, rustix::fs::OFlags::RDWR).unwrap();
            sane(&pty.terminal, echo).unwrap();
            master.write_all(b"noise\r").unwrap();
            assert_eq!(read_until(&pty.terminal, b'\n', Duration::from_secs(5)).unwrap(), b"noise\n");
            rustix::io::write(&pty.terminal, b"!").unwrap();
            let mut seen = Vec::new();
            while !seen.ends_with(b"!") {
                let mut byte = [0];
                master.read_exact(&mut byte).unwrap();
                seen.push(byte[0]);
            }
            assert_eq!(seen, wanted);
        }
    }
}
