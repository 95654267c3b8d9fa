//! `layers add NAME FROM SHA256`, for `rescue add`, which decided what: one more layer, from a URL or a file, mounted while the machine
//! runs. A URL, which may have a password in it, is its standard input, and its argument what people are shown of that. What it says goes to whoever typed it.

use crate::download::{Download, MAX_URL};
use crate::stack::{self, Good, Shelf};
use anyhow::{Context as _, Result, bail, ensure};
use contract::layers::is_name;
use contract::state;
use host::Root;
use host::sys::{inherited, process};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Signal;
use std::fs::File;
use std::io::{IsTerminal as _, Read, Write as _};
use std::time::{Duration, Instant};

/// Attempts in a row that bring nothing.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);
const TELL: Duration = Duration::from_millis(500);

pub fn run(arguments: &[String]) -> Result<()> {
    let [name, from, sha256] = arguments else { bail!("usage: layers add NAME URL|FILE SHA256 [<<< URL]") };
    let from = &whole(from, &mut File::from(inherited(0).try_clone_to_owned().context("stdin")?))?;
    ensure!(is_name(name), "{}: no name of a layer", name.escape_debug());
    let root = Root::live()?;
    let known = contract::layers::parse(&root.read_text(contract::paths::LAYER_LIST).unwrap_or_default());
    let length =
        known.iter().find(|known| known.name == *name && known.sha256 == *sha256).map(|known| known.length);
    let from_whom = contract::url::shown(from);
    let coming = |got: u64, length: Option<u64>| state::Coming {
        name: name.clone(),
        bytes: length.unwrap_or(0),
        got,
        from: if contract::url::is_url(from) { from_whom.clone() } else { from.clone() },
        trouble: String::new(),
        by: std::process::id(),
    };
    enter(coming(0, length))?;
    leave_when_interrupted(name)?;
    let mut download = Download::new(&format!("{name}.{}", std::process::id()), length, sha256);
    let result = bring(&root, from, &mut download, &|got, length| {
        // What cannot be told now is told with the next piece.
        if let Ok(mut shelf) = Shelf::take() {
            shelf.coming(coming(got, Some(length)));
            let _ = shelf.publish();
        }
    });
    println(&format!("{name}: {}", result.as_ref().map_or("not added", |()| "whole, and what it should be")));
    let result = result.and_then(|()| mount(&root, name, &download));
    if let Some(hint) = stack::hint(&root) {
        println(&hint);
    }
    if let Err(error) = result {
        leave(name);
        return Err(error);
    }
    println(&format!("{name}: mounted; what is in it is in /usr now"));
    Ok(())
}

/// Where it comes from, by what is on the command line.
fn whole(argument: &str, input: &mut impl Read) -> Result<String> {
    if !contract::url::is_url(argument) {
        return Ok(argument.to_string());
    }
    let mut url = String::new();
    // One byte more is refused by whoever fetches.
    input.take(MAX_URL as u64 + 1).read_to_string(&mut url).context("read the URL")?;
    ensure!(
        contract::url::is_url(&url) && contract::url::shown(&url) == argument,
        "the URL is not the one of standard input"
    );
    Ok(url)
}

/// Says that it is on its way, by us. One that already is goes on; of one whose server gives nothing the work is taken over.
fn enter(coming: state::Coming) -> Result<()> {
    let mut shelf = Shelf::take()?;
    may_be_brought(&shelf.state, &coming.name)?;
    shelf.coming(coming);
    Ok(shelf.publish()?)
}

/// Of a state without what those who died were about to bring ([`Shelf::take`]).
fn may_be_brought(state: &state::Layers, name: &str) -> Result<()> {
    ensure!(state.mounted().all(|layer| layer.name != name), "{name} is there already");
    let other = state.coming.iter().find(|known| known.name == name);
    if let Some(other) = other.filter(|other| other.got > 0 && other.trouble.is_empty()) {
        bail!("{name} is on its way already, from {}: see rescue status", other.from);
    }
    Ok(())
}

/// It does not come, by us.
fn leave(name: &str) {
    let left = Shelf::take().and_then(|mut shelf| {
        if !shelf.is_others(name) {
            shelf.state.coming.retain(|coming| coming.name != name);
        }
        shelf.publish()
    });
    if let Err(error) = left {
        host::log!("publish state: {error}");
    }
}

fn leave_when_interrupted(name: &str) -> Result<()> {
    let signals = process::signal_fd(&[Signal::INT, Signal::TERM, Signal::HUP]).context("signalfd")?;
    let name = name.to_string();
    std::thread::spawn(move || {
        loop {
            let _ = poll(&mut [PollFd::new(&signals, PollFlags::IN)], None);
            if let Some(signal) = process::next_signal(&signals) {
                leave(&name);
                // As a shell has it.
                std::process::exit(128 + signal);
            }
        }
    });
    Ok(())
}

fn bring(root: &Root, from: &str, download: &mut Download, publish: &dyn Fn(u64, u64)) -> Result<()> {
    let shows = std::io::stderr().is_terminal();
    let mut told = Instant::now();
    let mut tell = |got: u64, length: u64| {
        if told.elapsed() < TELL {
            return;
        }
        told = Instant::now();
        publish(got, length);
        if shows {
            let _ = write!(std::io::stderr(), "\r{:>6.1} MiB ", got as f64 / f64::from(1 << 20));
        }
    };
    if !contract::url::is_url(from) {
        let mut file = File::open(from).with_context(|| format!("open {from}"))?;
        return download.copy(root, &mut file, &mut tell).map_err(|failure| anyhow::anyhow!(failure.text()));
    }
    let mut failed = 0;
    loop {
        let before = download.got();
        match download.fetch(root, from, &mut tell) {
            Ok(()) => return Ok(()),
            Err(crate::download::Failure::Again(why)) if failed + 1 < ATTEMPTS => {
                println(&format!("{}: {why}: trying again", contract::url::shown(from)));
                failed = if download.got() > before { 0 } else { failed + 1 };
                std::thread::sleep(PAUSE);
            }
            Err(failure) => bail!("{}: {}", contract::url::shown(from), failure.text()),
        }
    }
}

fn mount(root: &Root, name: &str, download: &Download) -> Result<()> {
    let mut shelf = Shelf::take()?;
    ensure!(!shelf.is_mounted(name), "{name} came meanwhile");
    let length = download.length().unwrap_or(0);
    let added = shelf.add(root, vec![Good { name: name.to_string(), length, file: download.file()? }]);
    shelf.publish()?;
    added?;
    let error =
        shelf.state.layers.iter().find(|layer| layer.name == name).and_then(|layer| layer.error.clone());
    match error {
        None => Ok(()),
        Some(error) => bail!("{name}: {error}"),
    }
}

/// Nobody is left to tell when stderr is gone.
fn println(text: &str) {
    let clear = if std::io::stderr().is_terminal() { "\r\x1b[K" } else { "" };
    let _ = writeln!(std::io::stderr(), "{clear}{}", contract::text::Untrusted(text));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_the_one_of_standard_input_and_a_file_the_one_named() {
        let read = |argument: &str, input: &str| whole(argument, &mut input.as_bytes()).ok();
        let url = "https://me:p%40ss@a/50-mc.squashfs?token=t";
        assert_eq!(read("https://a/50-mc.squashfs", url).as_deref(), Some(url));
        assert_eq!(read("/f/50-mc.squashfs", url).as_deref(), Some("/f/50-mc.squashfs"));
        assert_eq!(read("https://a/50-mc.squashfs", ""), None);
        assert_eq!(read("https://b/50-mc.squashfs", url), None);
    }

    #[test]
    fn one_that_others_bring_is_left_to_them_while_something_comes() {
        let layer = |error: Option<&str>| state::Layer {
            name: "10-userland".into(),
            bytes: 8,
            error: error.map(str::to_string),
        };
        let coming = |got: u64, trouble: &str| state::Coming {
            name: "10-userland".into(),
            bytes: 8,
            got,
            trouble: trouble.into(),
            ..Default::default()
        };
        for (label, layers, coming, refused) in [
            ("nobody brings it", vec![], vec![], None),
            ("it failed", vec![layer(Some("cut off"))], vec![], None),
            ("it is there", vec![layer(None)], vec![], Some("there already")),
            ("it comes", vec![], vec![coming(4, "")], Some("on its way already")),
            ("a dead server's", vec![], vec![coming(0, "")], None),
            ("a server's that died half way", vec![], vec![coming(4, "no answer")], None),
        ] {
            let state = state::Layers { layers, coming, ..Default::default() };
            let found = may_be_brought(&state, "10-userland").err().map(|error| error.to_string());
            match (&found, refused) {
                (Some(found), Some(refused)) => assert!(found.contains(refused), "{label}: {found}"),
                _ => assert_eq!(found.as_deref(), refused, "{label}"),
            }
        }
    }
}
