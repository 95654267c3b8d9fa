//! Layers that did not come with the image, or did not fit: fetched from where `rescue.layers=` says, one after the other,
//! as soon as there is an address. The first round decides when the layers are said to be done; after it what is missing
//! is tried again, later and later.

use crate::download::{Download, Failure};
use crate::stack::{Good, Shelf};
use contract::event::{Event, Severity};
use contract::layers::{Kind, Known};
use contract::{cmdline, state};
use host::Root;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc;
use std::time::{Duration, Instant};

const PARAMETER: &str = "rescue.layers";
const FIRMWARE: &str = "rescue.firmware";
/// Without an address after so long, others wait no longer for the layers.
const NETWORK: Duration = Duration::from_secs(60);
/// How long others wait for the first round, from the address on.
const FIRST: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(200);
/// Attempts in a row that bring nothing, and the pause after the first of them.
const ATTEMPTS: u32 = 4;
const PAUSE: Duration = Duration::from_secs(1);
/// How often it is doubled.
const LAST_PAUSE: u32 = 4;
/// What an attempt has to bring so that those before it are forgotten.
const PROGRESS: u64 = 256 << 10;
/// Between rounds: doubled each time.
const FIRST_ROUND: Duration = Duration::from_secs(15);
const LAST_ROUND: Duration = Duration::from_secs(300);
/// How often the state says how far it is.
const TELL: Duration = Duration::from_millis(500);

/// Where layers are fetched from: the directory, without a slash at its end. `Err`: what is wrong with the parameter.
pub fn base(root: &Root) -> Result<Option<String>, String> {
    read_base(cmdline::last(&host::params::read(root), PARAMETER).unwrap_or_default())
}

fn read_base(value: &str) -> Result<Option<String>, String> {
    let value = value.trim().trim_end_matches('/');
    if value.is_empty() {
        return Ok(None);
    }
    if !contract::url::is_url(value) {
        return Err(format!(
            "{PARAMETER}={}: only http: and https: URLs are fetched from",
            contract::url::shown(value)
        ));
    }
    Ok(Some(value.to_string()))
}

pub fn url(base: &str, name: &str) -> String {
    format!("{base}/{name}.squashfs")
}

/// Whether the layer of rare firmware is wanted where it did not come with the boot.
pub fn firmware(root: &Root) -> bool {
    cmdline::last(&host::params::read(root), FIRMWARE) != Some("no")
}

/// Whether a layer of the image's list is fetched without being asked for.
pub fn is_fetched(layer: &Known, firmware: bool) -> bool {
    match layer.kind {
        Kind::Image => true,
        Kind::Firmware => firmware,
        Kind::Extra => false,
    }
}

/// What of it is not there.
pub fn wanted<'a>(known: &'a [Known], shelf: &Shelf) -> Vec<&'a Known> {
    known.iter().filter(|layer| !shelf.is_mounted(&layer.name)).collect()
}

struct Fetching<'a> {
    root: &'a Root,
    known: &'a [Known],
    base: &'a str,
    /// Until when nobody has to answer.
    patient: Instant,
    has_address: bool,
}

/// Until all have come that there are. `when_done` runs after each round, and a minute after there was an address, though
/// the first round goes on.
pub fn run(
    root: &Root,
    known: &[Known],
    base: &str,
    when_done: impl Fn(&mut Shelf) -> anyhow::Result<()> + Sync,
) -> anyhow::Result<()> {
    let missing = begin(known, base)?;
    // The first address may be that of another NIC than the one that leads to the server.
    let patient = Instant::now() + NETWORK;
    let has_address = await_address();
    let (ended, waits) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let waits = waits;
            if waits.recv_timeout(FIRST) == Err(mpsc::RecvTimeoutError::Timeout)
                && let Err(error) =
                    Shelf::take().map_err(Into::into).and_then(|mut shelf| when_done(&mut shelf))
            {
                host::log!("after {} s: {error:#}", FIRST.as_secs());
            }
        });
        let fetching = Fetching { root, known, base, patient, has_address };
        rounds(&fetching, missing, &when_done, ended)
    })
}

/// What is missing, which everybody is told is on its way.
fn begin<'a>(known: &'a [Known], base: &str) -> anyhow::Result<Vec<&'a Known>> {
    let mut shelf = Shelf::take()?;
    let missing = wanted(known, &shelf);
    for layer in &missing {
        if !shelf.is_others(&layer.name) {
            shelf.coming(coming(layer, base, 0, ""));
        }
    }
    shelf.publish()?;
    Ok(missing)
}

/// Until all have come that there are. `first` is dropped when the first round is over.
fn rounds<'a>(
    fetching: &Fetching<'a>,
    mut missing: Vec<&'a Known>,
    when_done: &impl Fn(&mut Shelf) -> anyhow::Result<()>,
    first: mpsc::Sender<()>,
) -> anyhow::Result<()> {
    let Fetching { root, known, base, patient, has_address } = *fetching;
    let mut first = Some(first);
    let mut downloads: BTreeMap<&str, Download> = BTreeMap::new();
    let mut absent: BTreeSet<&str> = BTreeSet::new();
    let mut pause = FIRST_ROUND;
    for round in 0.. {
        if round == 0 && !has_address {
            let mut shelf = Shelf::take()?;
            for layer in &missing {
                shelf.note(&layer.name, layer.length, Some("not fetched: there is no address".to_string()));
            }
            shelf.publish()?;
        } else {
            for layer in &missing {
                let download = downloads.entry(&layer.name).or_insert_with(|| {
                    Download::new(&layer.name, Some(layer.length), &layer.sha256).sparing()
                });
                match one(root, layer, base, download, patient) {
                    Ok(()) => drop(downloads.remove(layer.name.as_str())),
                    Err(Failure::Again(_)) => {}
                    Err(Failure::Later(_)) => download.forget(),
                    Err(Failure::Absent(_)) if layer.kind == Kind::Firmware => {
                        absent.insert(&layer.name);
                    }
                    Err(Failure::Absent(_)) => {}
                }
            }
        }
        let mut shelf = Shelf::take()?;
        drop(first.take());
        when_done(&mut shelf)?;
        missing = wanted(known, &shelf);
        missing.retain(|layer| !absent.contains(layer.name.as_str()));
        // What a person added meanwhile needs no half of it beside.
        for (name, download) in &mut downloads {
            if missing.iter().all(|layer| layer.name != *name) {
                download.forget();
            }
        }
        drop(shelf);
        if missing.is_empty() {
            break;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LAST_ROUND);
    }
    Ok(())
}

/// The attempts at one layer in one round.
#[derive(Default)]
struct Attempts {
    /// In a row, that brought nothing.
    failed: u32,
    /// In a row, those that do not count too.
    all: u32,
}

impl Attempts {
    /// After one that failed and brought so many bytes: how long to wait for the next. `None`: that was the last one. Before the
    /// network is `settled`, one that brought nothing does not count.
    fn pause(&mut self, brought: u64, settled: bool) -> Option<Duration> {
        if brought >= PROGRESS {
            *self = Attempts::default();
        }
        self.all += 1;
        self.failed += u32::from(settled || brought > 0);
        (self.failed < ATTEMPTS).then(|| PAUSE * (1 << (self.all - 1).min(LAST_PAUSE)))
    }
}

/// Fetches one layer and mounts it; names what kept it from that. Before `patient` nobody has to answer.
fn one(
    root: &Root,
    layer: &Known,
    base: &str,
    download: &mut Download,
    patient: Instant,
) -> Result<(), Failure> {
    let url = url(base, &layer.name);
    let is_others = || Shelf::take().is_ok_and(|shelf| shelf.is_others(&layer.name));
    let others = || Err(Failure::Again("somebody adds it".to_string()));
    if is_others() {
        return others();
    }
    let show = |got: u64, trouble: &str| {
        let told = Shelf::take().and_then(|mut shelf| {
            // A person may have added it meanwhile.
            if !shelf.is_mounted(&layer.name) && !shelf.is_others(&layer.name) {
                shelf.coming(coming(layer, base, got, trouble));
            }
            shelf.publish()
        });
        if let Err(error) = told {
            host::log!("publish state: {error}");
        }
    };
    show(download.got(), "");
    host::log!("layer {}: fetching {} bytes from {}", layer.name, layer.length, contract::url::shown(&url));
    host::events::tell(&Event::Notice {
        severity: Severity::Info,
        text: format!(
            "fetching layer {} ({} MiB) from {}",
            layer.name,
            layer.length.div_ceil(1 << 20),
            contract::url::shown(&url)
        ),
    });
    let (mut attempts, mut told) = (Attempts::default(), Instant::now());
    let result = loop {
        let before = download.got();
        let mut tell = |got: u64, _| {
            if told.elapsed() >= TELL {
                told = Instant::now();
                show(got, "");
            }
        };
        match download.fetch(root, &url, &mut tell) {
            Err(Failure::Again(why)) => {
                host::log!("layer {}: {}: {why}", layer.name, contract::url::shown(&url));
                let brought = download.got().saturating_sub(before);
                let Some(pause) = attempts.pause(brought, Instant::now() >= patient) else {
                    break Err(Failure::Again(why));
                };
                show(download.got(), &why);
                std::thread::sleep(pause);
                if is_others() {
                    break others();
                }
            }
            other => break other,
        }
    };
    let taken = Shelf::take().map_err(anyhow::Error::from).and_then(|mut shelf| {
        let added = match &result {
            _ if shelf.is_mounted(&layer.name) => Ok(()),
            Ok(()) => download.file().map_err(anyhow::Error::from).and_then(|file| {
                shelf.add(root, vec![Good { name: layer.name.clone(), length: layer.length, file }])
            }),
            Err(_) if shelf.is_others(&layer.name) => Ok(()),
            // Without it a boot by boot.ipxe goes on, too.
            Err(Failure::Absent(why)) if layer.kind == Kind::Firmware => {
                host::log!(
                    "layer {}: {}: {why}: going on without it",
                    layer.name,
                    contract::url::shown(&url)
                );
                shelf.state.coming.retain(|coming| coming.name != layer.name);
                shelf.state.layers.retain(|known| known.name != layer.name);
                Ok(())
            }
            Err(failure) => {
                let why = format!("{}: {}", contract::url::shown(&url), failure.clone().text());
                shelf.note(&layer.name, layer.length, Some(why));
                Ok(())
            }
        };
        // What kept it from its place is in the state, too.
        shelf.publish()?;
        added
    });
    match taken {
        Err(error) => Err(Failure::Again(format!("{error:#}"))),
        Ok(()) => result,
    }
}

fn coming(layer: &Known, base: &str, got: u64, trouble: &str) -> state::Coming {
    state::Coming {
        name: layer.name.clone(),
        bytes: layer.length,
        got,
        from: contract::url::shown(&url(base, &layer.name)),
        trouble: trouble.to_string(),
        by: std::process::id(),
    }
}

/// Whoever asks a server then waits for the clock, too, where it judges a certificate (`ask`).
fn await_address() -> bool {
    let until = Instant::now() + NETWORK;
    loop {
        let netd: state::Netd = host::statefile::read("netd");
        if netd.links.iter().any(|link| !link.addresses.is_empty()) {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
        std::thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rare_firmware_is_fetched_unless_the_boot_was_to_go_without_it() {
        let text = "10-userland 1 aa image\n30-firmware 1 bb firmware\n50-x 1 cc extra\n";
        let known = contract::layers::parse(text);
        let names = |firmware: bool| -> Vec<&str> {
            let fetched = known.iter().filter(|layer| is_fetched(layer, firmware));
            fetched.map(|layer| layer.name.as_str()).collect()
        };
        assert_eq!(names(true), ["10-userland", "30-firmware"]);
        assert_eq!(names(false), ["10-userland"]);
    }

    #[test]
    fn attempts_end_unless_they_bring_something_or_the_network_is_not_all_there() {
        let seconds = |attempts: &mut Attempts, brought: u64, settled: bool| {
            attempts.pause(brought, settled).map(|pause| pause.as_secs())
        };
        let mut attempts = Attempts::default();
        let pauses = [0, 0, 0, 0].map(|brought| seconds(&mut attempts, brought, true));
        assert_eq!(pauses, [Some(1), Some(2), Some(4), None]);
        let mut attempts = Attempts::default();
        // A trickle is no progress.
        let pauses =
            [1, 1000, PROGRESS, PROGRESS - 1, 1, 1].map(|brought| seconds(&mut attempts, brought, false));
        assert_eq!(pauses, [Some(1), Some(2), Some(1), Some(2), Some(4), None]);
        let mut attempts = Attempts::default();
        for _ in 0..40 {
            attempts.pause(0, false).expect("one that does not count");
        }
        assert_eq!(seconds(&mut attempts, 0, true), Some(16));
    }

    #[test]
    fn the_parameter_names_a_directory_of_the_web() {
        for (value, want) in [
            ("", Ok(None)),
            ("http://a/b/layers/", Ok(Some("http://a/b/layers".to_string()))),
            ("https://a", Ok(Some("https://a".to_string()))),
        ] {
            assert_eq!(read_base(value), want);
        }
        assert!(read_base("tftp://a/layers").unwrap_err().contains("only http: and https:"));
        assert_eq!(url("http://a/layers", "10-userland"), "http://a/layers/10-userland.squashfs");
    }
}
