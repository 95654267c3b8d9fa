//! The role that speaks with a server, one process an attempt: reads the files that it needs, becomes nobody, and writes
//! to its stdout what the other side of the pipe reads as [`Head`], and the bytes. What they are worth is for that side to say.

use anyhow::{Context as _, Result, bail};
use contract::paths::ROOTS;
use contract::{cmdline, state};
use host::Root;
use host::sys::{inherited, process};
use rustix::process::{Resource, Rlimit};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

/// Whom it runs as: nobody, in Debian's words.
const NOBODY: u32 = 65_534;
/// Whose certificates are believed instead of the platform's roots.
const AUTHORITY: &str = "rescue.ca";
/// Most bytes of them.
const MAX_ROOTS: usize = 4 << 20;
/// What it may take: bytes, and seconds of the processor.
const MEMORY: u64 = 256 << 20;
const SECONDS: u64 = 900;
const PIECE: usize = 64 << 10;
/// How long it waits for netd's word that the clock is settled, which has an end of its own, and how often it looks. The other
/// side of the pipe is more patient (`download::SILENCE`).
const CLOCK: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(200);
/// Longest first line.
pub const MAX_HEAD: usize = 1024;

/// The first line: `FROM LENGTH`, the length `-` where it is not known, or `! WHY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Head {
    Begins { from: u64, length: Option<u64> },
    Failed(String),
}

impl Head {
    fn line(&self) -> String {
        match self {
            Head::Begins { from, length: Some(length) } => format!("{from} {length}\n"),
            Head::Begins { from, length: None } => format!("{from} -\n"),
            Head::Failed(why) => {
                let why: String =
                    why.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
                format!("! {why}\n")
            }
        }
    }

    pub fn parse(line: &str) -> Option<Head> {
        if let Some(why) = line.strip_prefix("! ") {
            return Some(Head::Failed(why.trim().to_string()));
        }
        let (from, length) = line.trim().split_once(' ')?;
        let length = if length == "-" { None } else { Some(length.parse().ok()?) };
        Some(Head::Begins { from: from.parse().ok()?, length })
    }
}

/// `layers fetch FROM`, with the URL as its standard input.
pub fn run(arguments: &[String]) -> Result<()> {
    let [from] = arguments else { bail!("usage: layers fetch FROM <<< URL") };
    let mut url = String::new();
    File::from(inherited(0).try_clone_to_owned().context("stdin")?)
        .read_to_string(&mut url)
        .context("read the URL")?;
    let from = from.parse().with_context(|| format!("read {from:?}"))?;
    let root = Root::live()?;
    let text = |path: &str| root.read_text(path).unwrap_or_default();
    let names = web::Names::new(&text("/etc/hosts"), &text("/etc/resolv.conf"));
    let mut stdout = File::from(inherited(1).try_clone_to_owned().context("stdout")?);
    let authorities = match authorities(&root) {
        Ok(authorities) => authorities,
        // Only an encrypted page needs them, and asks for them.
        Err(why) if url.starts_with("https:") => {
            return Ok(stdout.write_all(Head::Failed(why).line().as_bytes())?);
        }
        Err(_) => Vec::new(),
    };
    if url.starts_with("https:") {
        await_clock();
    }
    process::drop_privileges(NOBODY).context("give up root")?;
    for (resource, most) in [(Resource::As, MEMORY), (Resource::Cpu, SECONDS), (Resource::Nofile, 64)] {
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        rustix::process::setrlimit(resource, limit).context("set a limit")?;
    }
    let ask = web::Ask { url: url.clone(), from, names, authorities };
    let mut answer = match web::get(&ask) {
        Ok(answer) => answer,
        Err(why) => return Ok(stdout.write_all(Head::Failed(why).line().as_bytes())?),
    };
    let head = Head::Begins { from: answer.from, length: answer.length };
    stdout.write_all(head.line().as_bytes()).context("answer")?;
    let mut buffer = vec![0; PIECE];
    loop {
        match answer.body.read(&mut buffer).with_context(|| format!("read {}", contract::url::shown(&url)))? {
            0 => return Ok(()),
            length => stdout.write_all(&buffer[..length]).context("answer")?,
        }
    }
}

/// Certificates are judged once a time server has answered, or is not waited for any more.
fn await_clock() {
    let until = Instant::now() + CLOCK;
    while Instant::now() < until && !host::statefile::read::<state::Netd>("netd").clock.settled {
        std::thread::sleep(LOOK);
    }
}

/// Errors: for a person.
fn authorities(root: &Root) -> Result<Vec<u8>, String> {
    let words = host::params::read(root);
    let path = cmdline::last(&words, AUTHORITY).unwrap_or(ROOTS);
    match root.read(path) {
        Ok(bytes) if bytes.len() <= MAX_ROOTS => Ok(bytes),
        Ok(_) => Err(format!("the certificates of {path} are too long")),
        Err(error) => {
            Err(format!("the certificates to check it by (rescue.ca=, or {ROOTS}) cannot be read: {error}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_survives_its_way_through_the_pipe() {
        for head in [
            Head::Begins { from: 7, length: Some(9) },
            Head::Begins { from: 0, length: None },
            Head::Failed("nobody answers there".into()),
        ] {
            assert_eq!(Head::parse(&head.line()), Some(head));
        }
        for wrong in ["", "x", "1", "1 x", "HTTP/1.1 200 OK"] {
            assert_eq!(Head::parse(wrong), None, "{wrong}");
        }
    }
}
