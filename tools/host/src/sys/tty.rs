//! Terminals and pseudo-terminals (pty(7), termios(3)).

use rustix::fs::OFlags;
use rustix::pty::OpenptFlags;
use rustix::termios::{
    ControlModes, InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios, Winsize,
};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// A new pseudo-terminal.
#[derive(Debug)]
pub struct Pty {
    /// Reads and writes of this end do not block.
    pub master: OwnedFd,
    pub terminal: OwnedFd,
    /// `/dev/pts/0`
    pub name: String,
}

pub fn open() -> io::Result<Pty> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = rustix::pty::openpt(flags)?;
    rustix::pty::unlockpt(&master)?;
    let name = rustix::pty::ptsname(&master, Vec::new())?.to_string_lossy().into_owned();
    let terminal = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
    rustix::fs::fcntl_setfl(&master, OFlags::RDWR | OFlags::NONBLOCK)?;
    Ok(Pty { master, terminal, name })
}

/// Sets the size in characters and pixels; the foreground processes get a SIGWINCH.
pub fn resize(terminal: impl AsFd, columns: u16, rows: u16, width: u16, height: u16) -> io::Result<()> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: width, ws_ypixel: height };
    Ok(rustix::termios::tcsetwinsize(terminal, size)?)
}

/// Sets terminal modes given by the opcodes of RFC 4254, section 8 (and RFC 8160 for IUTF8). What
/// Linux does not know is passed over, as the RFC wants it. A terminal of the network has no line
/// speed, so speeds are passed over too.
pub fn set_modes(terminal: impl AsFd, modes: &[(u8, u32)]) -> io::Result<()> {
    let mut termios = rustix::termios::tcgetattr(&terminal)?;
    for &(opcode, argument) in modes {
        set_mode(&mut termios, opcode, argument);
    }
    Ok(rustix::termios::tcsetattr(&terminal, OptionalActions::Now, &termios)?)
}

fn set_mode(termios: &mut Termios, opcode: u8, argument: u32) {
    if let Some(index) = special_code(opcode) {
        // 255 is "undefined" in the RFC, 0 is _POSIX_VDISABLE on Linux.
        termios.special_codes[index] = match argument {
            255 => 0,
            other => u8::try_from(other).unwrap_or(0),
        };
        return;
    }
    let on = argument != 0;
    match opcode {
        30 => termios.input_modes.set(InputModes::IGNPAR, on),
        31 => termios.input_modes.set(InputModes::PARMRK, on),
        32 => termios.input_modes.set(InputModes::INPCK, on),
        33 => termios.input_modes.set(InputModes::ISTRIP, on),
        34 => termios.input_modes.set(InputModes::INLCR, on),
        35 => termios.input_modes.set(InputModes::IGNCR, on),
        36 => termios.input_modes.set(InputModes::ICRNL, on),
        37 => termios.input_modes.set(InputModes::IUCLC, on),
        38 => termios.input_modes.set(InputModes::IXON, on),
        39 => termios.input_modes.set(InputModes::IXANY, on),
        40 => termios.input_modes.set(InputModes::IXOFF, on),
        41 => termios.input_modes.set(InputModes::IMAXBEL, on),
        42 => termios.input_modes.set(InputModes::IUTF8, on),
        50 => termios.local_modes.set(LocalModes::ISIG, on),
        51 => termios.local_modes.set(LocalModes::ICANON, on),
        52 => termios.local_modes.set(LocalModes::XCASE, on),
        53 => termios.local_modes.set(LocalModes::ECHO, on),
        54 => termios.local_modes.set(LocalModes::ECHOE, on),
        55 => termios.local_modes.set(LocalModes::ECHOK, on),
        56 => termios.local_modes.set(LocalModes::ECHONL, on),
        57 => termios.local_modes.set(LocalModes::NOFLSH, on),
        58 => termios.local_modes.set(LocalModes::TOSTOP, on),
        59 => termios.local_modes.set(LocalModes::IEXTEN, on),
        60 => termios.local_modes.set(LocalModes::ECHOCTL, on),
        61 => termios.local_modes.set(LocalModes::ECHOKE, on),
        62 => termios.local_modes.set(LocalModes::PENDIN, on),
        70 => termios.output_modes.set(OutputModes::OPOST, on),
        71 => termios.output_modes.set(OutputModes::OLCUC, on),
        72 => termios.output_modes.set(OutputModes::ONLCR, on),
        73 => termios.output_modes.set(OutputModes::OCRNL, on),
        74 => termios.output_modes.set(OutputModes::ONOCR, on),
        75 => termios.output_modes.set(OutputModes::ONLRET, on),
        // CS7 is 0x20 and CS8 0x30 in one field: setting CS7 alone must not clear CS8.
        91 if on => termios.control_modes.insert(ControlModes::CS8),
        92 => termios.control_modes.set(ControlModes::PARENB, on),
        93 => termios.control_modes.set(ControlModes::PARODD, on),
        _ => {}
    }
}

fn special_code(opcode: u8) -> Option<SpecialCodeIndex> {
    Some(match opcode {
        1 => SpecialCodeIndex::VINTR,
        2 => SpecialCodeIndex::VQUIT,
        3 => SpecialCodeIndex::VERASE,
        4 => SpecialCodeIndex::VKILL,
        5 => SpecialCodeIndex::VEOF,
        6 => SpecialCodeIndex::VEOL,
        7 => SpecialCodeIndex::VEOL2,
        8 => SpecialCodeIndex::VSTART,
        9 => SpecialCodeIndex::VSTOP,
        10 => SpecialCodeIndex::VSUSP,
        12 => SpecialCodeIndex::VREPRINT,
        13 => SpecialCodeIndex::VWERASE,
        14 => SpecialCodeIndex::VLNEXT,
        18 => SpecialCodeIndex::VDISCARD,
        _ => return None,
    })
}

/// Columns of the terminal on stdout, if it is one that knows: TIOCGWINSZ of tty_ioctl(4).
pub fn columns() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(super::inherited(1)).ok()?;
    (size.ws_col > 0).then_some(size.ws_col.into())
}

/// What a person types at a terminal up to the end of the line, without a trace of it; a backspace takes the last
/// character away, Ctrl-U all. `None`: they pressed Ctrl-C, or Ctrl-D at the start. The terminal is as it was
/// afterwards. `ask` puts the question once nothing shows any more: what is typed before that is forgotten.
pub fn read_secret(
    terminal: impl AsFd + Copy,
    longest: usize,
    ask: impl FnOnce(),
) -> io::Result<Option<Vec<u8>>> {
    let before = rustix::termios::tcgetattr(terminal)?;
    let mut silent = before.clone();
    // Without signals, which would end this process and leave the terminal silent.
    silent.local_modes.remove(LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON | LocalModes::ISIG);
    silent.input_modes.insert(InputModes::ICRNL);
    rustix::termios::tcsetattr(terminal, OptionalActions::Flush, &silent)?;
    ask();
    let secret = read_line(terminal, longest);
    rustix::termios::tcsetattr(terminal, OptionalActions::Flush, &before)?;
    secret
}

fn read_line(terminal: impl AsFd + Copy, longest: usize) -> io::Result<Option<Vec<u8>>> {
    const INTERRUPT: u8 = 3;
    const END: u8 = 4;
    const ERASE_ALL: u8 = 21;
    let mut secret: Vec<u8> = Vec::new();
    loop {
        let mut byte = [0];
        match rustix::io::read(terminal, &mut byte) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        match byte[0] {
            b'\n' => return Ok(Some(secret)),
            INTERRUPT => return Ok(None),
            END if secret.is_empty() => return Ok(None),
            ERASE_ALL => secret.clear(),
            // Backspace or delete: a whole character of UTF-8.
            8 | 0x7f => while secret.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {},
            byte if secret.len() < longest => secret.push(byte),
            _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "too long")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_without_echo_and_the_terminal_is_as_before() {
        let pty = open().unwrap();
        let cases: [(&[u8], Option<&[u8]>); 4] = [
            (b"pass word\r", Some(b"pass word")),
            (b"wrong\x15p\xc3\xbc\x7fass\n", Some(b"pass")),
            (b"half\x03", None),
            (b"\x04", None),
        ];
        for (typed, want) in cases {
            let before = rustix::termios::tcgetattr(&pty.terminal).unwrap();
            // Typed as soon as the question is put, when nothing may show any more.
            let ask = || {
                let now = rustix::termios::tcgetattr(&pty.terminal).unwrap();
                assert!(!now.local_modes.contains(LocalModes::ECHO));
                assert_eq!(rustix::io::write(&pty.master, typed).unwrap(), typed.len());
            };
            let secret = read_secret(&pty.terminal, 512, ask).unwrap();
            assert_eq!(secret.as_deref(), want, "{typed:?}");
            let after = rustix::termios::tcgetattr(&pty.terminal).unwrap();
            assert_eq!(after.local_modes, before.local_modes);
            let mut echo = [0; 64];
            assert!(rustix::io::read(&pty.master, &mut echo).is_err(), "nothing was echoed");
        }
    }

    #[test]
    fn a_terminal_takes_its_size_and_modes() {
        let pty = open().unwrap();
        assert!(pty.name.starts_with("/dev/pts/"), "{}", pty.name);
        resize(&pty.master, 132, 43, 0, 0).unwrap();
        let size = rustix::termios::tcgetwinsize(&pty.terminal).unwrap();
        assert_eq!((size.ws_col, size.ws_row), (132, 43));
        // VERASE = ^H, VINTR undefined, ECHO off, IUTF8 on, an opcode that nobody knows.
        set_modes(&pty.terminal, &[(3, 8), (1, 255), (53, 0), (42, 1), (127, 1)]).unwrap();
        let termios = rustix::termios::tcgetattr(&pty.terminal).unwrap();
        assert_eq!(termios.special_codes[SpecialCodeIndex::VERASE], 8);
        assert_eq!(termios.special_codes[SpecialCodeIndex::VINTR], 0);
        assert!(!termios.local_modes.contains(LocalModes::ECHO));
        assert!(termios.input_modes.contains(InputModes::IUTF8));
        assert!(termios.local_modes.contains(LocalModes::ICANON));
    }
}
