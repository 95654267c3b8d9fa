//! `layers add NAME FROM SHA256`, for `rescue add`, which decided what: one more layer, from a URL or a file, mounted while the machine
//! runs. What it says goes to whoever typed it.

use crate::download::Download;
use crate::stack::{Good, Shelf};
use anyhow::{Context as _, Result, bail, ensure};
use contract::layers::is_name;
use host::Root;
use std::fs::File;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Attempts in a row that bring nothing.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);
const TELL: Duration = Duration::from_millis(500);

pub fn run(arguments: &[String]) -> Result<()> {
    let [name, from, sha256] = arguments else { bail!("usage: layers add NAME URL|FILE SHA256") };
    ensure!(is_name(name), "{}: no name of a layer", name.escape_debug());
    let root = Root::live()?;
    let known = contract::layers::parse(&root.read_text(contract::paths::LAYER_LIST).unwrap_or_default());
    let length =
        known.iter().find(|known| known.name == *name && known.sha256 == *sha256).map(|known| known.length);
    ensure!(!Shelf::take()?.is_mounted(name), "{name} is there already");
    let mut download = Download::new(&format!("{name}.{}", std::process::id()), length, sha256);
    let result = bring(&root, from, &mut download);
    println(&format!("{name}: {}", result.as_ref().map_or("not added", |()| "whole, and what it should be")));
    if let Err(error) = result.and_then(|()| mount(&root, name, &download)) {
        download.forget();
        return Err(error);
    }
    println(&format!("{name}: mounted; what is in it is in /usr now"));
    Ok(())
}

fn bring(root: &Root, from: &str, download: &mut Download) -> Result<()> {
    let shows = std::io::stderr().is_terminal();
    let mut told = Instant::now();
    let mut tell = |got: u64| {
        if shows && told.elapsed() >= TELL {
            told = Instant::now();
            let _ = write!(std::io::stderr(), "\r{:>6.1} MiB ", got as f64 / f64::from(1 << 20));
        }
    };
    if !web::is_url(from) {
        let mut file = File::open(from).with_context(|| format!("open {from}"))?;
        return download.copy(root, &mut file, &mut tell).map_err(|failure| anyhow::anyhow!(failure.text()));
    }
    let mut failed = 0;
    loop {
        let before = download.got();
        match download.fetch(root, from, &mut tell) {
            Ok(()) => return Ok(()),
            Err(crate::download::Failure::Again(why)) if failed + 1 < ATTEMPTS => {
                println(&format!("{}: {why}: trying again", web::shown(from)));
                failed = if download.got() > before { 0 } else { failed + 1 };
                std::thread::sleep(PAUSE);
            }
            Err(failure) => bail!("{}: {}", web::shown(from), failure.text()),
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
