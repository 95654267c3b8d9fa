//! What a console can show: how large it is, and whether it draws half blocks, which a QR code is made of.

use crate::line;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Nobody said how large it is: what every terminal has.
const ROWS: usize = 24;
const COLUMNS: usize = 80;
/// For a terminal to say where its cursor is: a BMC's line is slow.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Screen {
    pub rows: usize,
    pub columns: usize,
    /// The kernel draws it itself, by fonts that have half blocks (CP437 has them at 0xdb to 0xdf).
    pub video: bool,
}

impl Screen {
    /// Asked each time: a driver that replaces the firmware's screen changes it.
    pub fn of(name: &str, device: &OwnedFd) -> Screen {
        let size = rustix::termios::tcgetwinsize(device).ok().map(|size| (size.ws_row, size.ws_col));
        Screen::sized(name, size.unwrap_or_default())
    }

    fn sized(name: &str, (rows, columns): (u16, u16)) -> Screen {
        let or = |given: u16, usual: usize| if given == 0 { usual } else { given.into() };
        let number = name.strip_prefix("tty").unwrap_or_default();
        let video = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        Screen { rows: or(rows, ROWS), columns: or(columns, COLUMNS), video }
    }

    /// Rows that a text takes, each line broken where the screen ends.
    pub fn rows_of(&self, text: &str) -> usize {
        text.lines().map(|line| line.chars().count().div_ceil(self.columns).max(1)).sum()
    }
}

/// Whether the terminal at the other end of a line draws one character for the three bytes of a half block: it is
/// asked where its cursor is after one. Nobody answers where nobody is.
pub fn draws_half_blocks(device: &OwnedFd) -> std::io::Result<bool> {
    let answer = line::ask(device, "\r\u{2588}\x1b[6n", b'R', PATIENCE)?;
    Ok(column(&answer) == Some(2))
}

/// `ESC [ ROW ; COLUMN R`, with whatever was typed before it.
fn column(answer: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(answer).ok()?.strip_suffix('R')?;
    let (_, position) = text.rsplit_once("\x1b[")?;
    position.split_once(';')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn a_line_that_does_not_know_its_size_is_taken_for_a_small_terminal() {
        assert_eq!(Screen::sized("ttyS0", (0, 0)), Screen { rows: 24, columns: 80, video: false });
        assert_eq!(Screen::sized("tty1", (48, 128)), Screen { rows: 48, columns: 128, video: true });
        assert!(!Screen::sized("tty", (0, 0)).video && !Screen::sized("hvc0", (0, 0)).video);
        let screen = Screen::sized("tty1", (25, 80));
        assert_eq!(screen.rows_of(&format!("\n{}\n{}\n", "x".repeat(80), "\u{2588}".repeat(81))), 4);
    }

    /// The terminal at the other end answers the question by `answer`.
    fn terminal(answer: Option<&[u8]>) -> bool {
        let pty = host::sys::tty::open().unwrap();
        let master = std::fs::File::from(pty.master);
        rustix::fs::fcntl_setfl(&master, rustix::fs::OFlags::RDWR).unwrap();
        let mut far = &master;
        std::thread::scope(|scope| {
            if let Some(answer) = answer {
                scope.spawn(move || {
                    let mut seen = Vec::new();
                    while !seen.ends_with(b"\x1b[6n") {
                        let mut byte = [0];
                        far.read_exact(&mut byte).unwrap();
                        seen.push(byte[0]);
                    }
                    far.write_all(answer).unwrap();
                });
            }
            draws_half_blocks(&pty.terminal).unwrap()
        })
    }

    #[test]
    fn a_code_is_drawn_where_the_terminal_says_that_it_can() {
        let cases: &[(&str, Option<&[u8]>, bool)] = &[
            ("UTF-8", Some(b"\x1b[24;2R"), true),
            ("UTF-8, with something typed before", Some(b"x\x1b[24;2R"), true),
            ("Latin-1", Some(b"\x1b[24;4R"), false),
            ("no terminal", Some(b"login: R"), false),
        ];
        for (label, answer, want) in cases {
            assert_eq!(terminal(*answer), *want, "{label}");
        }
    }
}
