//! The only place that prints. A tool returns an [`Answer`]; here it becomes text or JSON on stdout,
//! or another program in this one's place. Notices and errors go to stderr, one line each.
//!
//! Whatever came from a disk or a peer was escaped where it was put into a line
//! (`model::text::Untrusted`); as a second fence, no control character but newline, tab and the colours that
//! a terminal was asked for leaves this module.

use anyhow::Context as _;
use contract::exit;
pub use contract::text::spelt;
use model::text::Untrusted;
use serde::Serialize;
use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{ErrorKind, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

/// What a tool answers: a value, and the status it exits with.
#[derive(Debug, PartialEq)]
pub struct Answer {
    pub output: Output,
    pub exit: i32,
}

#[derive(Debug, PartialEq)]
pub enum Output {
    Nothing,
    /// Whole lines.
    Text(String),
    /// One JSON document, as it is to be printed.
    Json(String),
    /// Another program takes this one's place, with the same environment and terminal.
    HandOver(HandOver),
}

#[derive(Debug, PartialEq)]
pub struct HandOver {
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
}

impl Answer {
    pub fn text(text: String, exit: i32) -> Answer {
        Answer { output: Output::Text(text), exit }
    }

    /// Nothing to print: notices said it, or a child did.
    pub fn exit(exit: i32) -> Answer {
        Answer { output: Output::Nothing, exit }
    }

    /// Our own JSON: `value` is an object, and gets the number of its schema as first key. Additions
    /// are free, a renamed or removed key bumps the number.
    pub fn json<T: Serialize>(schema: u32, value: &T, exit: i32) -> anyhow::Result<Answer> {
        #[derive(Serialize)]
        struct Envelope<'a, T> {
            schema: u32,
            #[serde(flatten)]
            value: &'a T,
        }
        let text = serde_json::to_string_pretty(&Envelope { schema, value }).context("write JSON")?;
        Ok(Answer { output: Output::Json(text + "\n"), exit })
    }

    /// The original of a classic name, for what ours does not implement.
    pub fn classic(name: &str, arguments: &[OsString]) -> Answer {
        let program = Path::new(contract::paths::CLASSIC).join(name);
        let output = Output::HandOver(HandOver { program, arguments: arguments.to_vec() });
        Answer { output, exit: exit::TROUBLE }
    }
}

/// An error that exits with a status of its own (mount(8)'s 32, fsck(8)'s 8) instead of
/// [`exit::TROUBLE`]; returned as an error by a tool.
#[derive(Debug)]
pub struct Failure {
    pub exit: i32,
    pub text: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}

/// Prints what became of a call; returns the exit status.
pub fn ended(name: &str, answer: anyhow::Result<Answer>) -> i32 {
    match answer {
        Ok(answer) => finish(name, answer),
        Err(error) => failed(name, &error),
    }
}

/// Prints an answer; returns the exit status. Comes back from a hand-over only when that failed.
pub fn finish(name: &str, answer: Answer) -> i32 {
    match answer.output {
        Output::Nothing => answer.exit,
        Output::Text(text) => print(name, &fenced(&text), answer.exit),
        Output::Json(text) => print(name, &spelt(&text), answer.exit),
        Output::HandOver(HandOver { program, arguments }) => {
            let error = std::process::Command::new(&program).args(&arguments).exec();
            let shown = program.display();
            if error.kind() == ErrorKind::NotFound {
                notice(
                    name,
                    &format!(
                        "this use of {name} is the original's, and {shown} is not there: see rescue status for the layers"
                    ),
                );
            } else {
                notice(name, &format!("run {shown}: {error}"));
            }
            answer.exit
        }
    }
}

/// The one line of an error, from its chain of contexts; returns the exit status.
pub fn failed(name: &str, error: &anyhow::Error) -> i32 {
    notice(name, &format!("{error:#}"));
    error.downcast_ref::<Failure>().map_or(exit::TROUBLE, |failure| failure.exit)
}

/// One line on stderr, for what is not the value: what was made writable, what is damaged.
pub fn notice(name: &str, text: &str) {
    let line = format!("{}\n", Untrusted(&format!("{name}: {}", without_errno(text))));
    #[cfg(test)]
    SAID.with_borrow_mut(|said| said.push_str(&line));
    // Nobody is left to tell when stderr is gone.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

#[cfg(test)]
thread_local! {
    /// What this test's notices were.
    pub static SAID: std::cell::RefCell<String> = const { std::cell::RefCell::new(String::new()) };
}

/// A question to the person, without a line's end; on stderr, as the answer is not the value.
pub fn prompt(text: &str) {
    // Nobody is left to ask when stderr is gone.
    let _ = std::io::stderr().write_all(fenced(text).as_bytes());
}

/// The number that std puts behind an errno's text tells a person nothing.
pub fn without_errno(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(" (os error ") {
        out.push_str(before);
        rest = after.split_once(')').map_or("", |(_, behind)| behind);
    }
    out + rest
}

/// A bug of ours, in one line that can be reported.
pub fn panicked(info: &std::panic::PanicHookInfo<'_>) {
    notice("rescue", &format!("bug: {info}").replace('\n', " "));
}

/// A reader that has seen enough (`| head`) is no error.
fn print(name: &str, text: &str, status: i32) -> i32 {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => status,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => status,
        Err(error) => {
            notice(name, &format!("write to standard output: {error}"));
            exit::TROUBLE
        }
    }
}

/// Control characters escaped, except newline, tab and colours (`ESC [ digits ; m`), and what reorders a line.
pub fn fenced(text: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~' | b'\n' | b'\t');
    if text.bytes().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let colour = colour_length(rest);
        if colour > 0 {
            out.push_str(&rest[..colour]);
            rest = &rest[colour..];
            continue;
        }
        let end = c.len_utf8();
        match c {
            '\n' | '\t' => out.push(c),
            // Writing to a String cannot fail.
            _ => drop(write!(out, "{}", Untrusted(&rest[..end]))),
        }
        rest = &rest[end..];
    }
    Cow::Owned(out)
}

/// Bytes of the colour sequence that `text` begins with, or 0.
fn colour_length(text: &str) -> usize {
    let Some(body) = text.strip_prefix("\x1b[") else { return 0 };
    match body.find(|c: char| !c.is_ascii_digit() && c != ';') {
        Some(end) if body[end..].starts_with('m') => "\x1b[".len() + end + "m".len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_errno_is_words_alone() {
        let text = "open a: No such file or directory (os error 2); b";
        assert_eq!(without_errno(text), "open a: No such file or directory; b");
    }

    #[test]
    fn only_colours_and_line_ends_pass_the_fence() {
        let cases = [
            ("plain\ttext\n", "plain\ttext\n"),
            ("\x1b[1;31mred\x1b[0m", "\x1b[1;31mred\x1b[0m"),
            ("\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
            ("\x1b[31", "\\x1b[31"),
            ("\u{9b}2J\r", "\\xc2\\x9b2J\\x0d"),
            ("\u{202e}gpj", "\\xe2\\x80\\xaegpj"),
            ("Füße", "Füße"),
        ];
        for (given, want) in cases {
            assert_eq!(fenced(given), want);
        }
    }
}
