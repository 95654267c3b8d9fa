//! Keys from a URL (`ssh_key=https://...`): one process each, nobody and bounded, that becomes curl,
//! which is in the userland layer with the certificates of the authorities (or takes those of a file that was injected:
//! `rescue.ca=`). So no parser of the network
//! runs in the listener, and no second TLS library is in the nucleus. The listener reads a pipe of 64
//! KiB at most; tries until it has keys; and keeps them for the rest of the boot. Metadata services
//! are asked in the same way, and a volume that was made for this machine is looked for once.

use crate::cloud;
use crate::keys;
use crate::metadata::{self, Service};
use crate::settings::Settings;
use anyhow::{Context, Result, ensure};
use contract::url::{is_url, shown};
use contract::{cmdline, state};
use host::Root;
use host::sys::inherited;
use host::sys::process::{self, Ended, Spawn};
use rustix::fs::MemfdFlags;
use rustix::process::{Resource, Rlimit, Signal};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Where the text of each URL is kept, by [`file`].
pub const DIRECTORY: &str = "/run/lifeboat/sshd/urls";
/// Most bytes of one answer: a hundred keys.
const MAX_TEXT: usize = 64 << 10;
/// Most URLs.
pub const MAX_URLS: usize = 16;
/// Between attempts: at first, while the network comes up, and later.
const SOON: Duration = Duration::from_secs(3);
const LATER: Duration = Duration::from_secs(30);
/// Until the clock is looked at again.
const CLOCK: Duration = Duration::from_millis(200);
/// Longer than netd waits for anything: where netd itself does not get that far, a key is asked for all the same.
const CLOCK_END: Duration = Duration::from_secs(120);
/// Attempts that may fail without a word.
const QUIET: u32 = 5;
/// Attempts at [`SOON`].
const HURRIED: u32 = 20;
/// Of volumes, each of which looks for half a minute: so many at [`SOON`], and so many at all.
const HURRIED_VOLUMES: u32 = 3;
const MOST_VOLUMES: u32 = 6;
/// A login comes before volumes are looked for.
const VOLUMES_AFTER: Duration = Duration::from_secs(3);
/// Seconds that one attempt may take.
const PATIENCE: &str = "30";
/// Whose certificates are believed instead of the platform's roots.
const AUTHORITY: &str = "rescue.ca";
/// Most bytes of them.
const MAX_AUTHORITY: usize = 1 << 20;
/// Exit status of curl(1) where it cannot read them.
const NO_AUTHORITY: i32 = 77;
/// Exit status of the role where it failed itself, as env(1) has it; curl(1) ends with none above 110.
const FAILED: i32 = 125;

/// Named by the URL, so that a changed list of them mixes nothing up.
pub fn file(url: &str) -> String {
    use russh::keys::ssh_key::sha2::{Digest, Sha256};
    let name: String = Sha256::digest(url).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("{DIRECTORY}/{name}")
}

/// The text that a URL gave, if it did by now.
pub fn text(root: &Root, url: &str) -> Option<String> {
    root.read_text(file(url)).ok()
}

/// Where keys are fetched from.
pub enum Place {
    Url(String),
    Service(&'static Service),
    Volumes,
}

impl Place {
    /// For the role's command line, and what its text is kept by. No URL begins so.
    pub fn id(&self) -> String {
        match self {
            Place::Url(url) => url.clone(),
            Place::Service(service) => format!("metadata:{}", service.name),
            Place::Volumes => "volumes:".to_string(),
        }
    }

    /// With the boot parameter that asked for it.
    fn shown(&self) -> String {
        match self {
            Place::Url(url) => format!("boot parameter ssh_key: {}", shown(url)),
            Place::Service(service) => format!("boot parameter rescue.metadata: {}", service.shown),
            Place::Volumes => "volumes labelled cidata or config-2".to_string(),
        }
    }
}

/// All that the boot parameters name and how far each is.
pub struct Fetches(Vec<Fetch>);

struct Fetch {
    place: Place,
    since: Instant,
    attempts: u32,
    state: State,
    problem: Option<String>,
}

enum State {
    Waiting(Instant),
    Running { pid: i32, pipe: File, text: Vec<u8> },
    Done,
}

impl Fetches {
    pub fn new(root: &Root, now: Instant) -> Fetches {
        let words = host::params::read(root);
        let wish = metadata::wish(&words);
        let urls = cmdline::all(&words, "ssh_key").map(str::trim).filter(|value| is_url(value));
        let urls = urls.take(MAX_URLS).map(|url| Place::Url(url.to_string()));
        let services = wish.services.into_iter().map(Place::Service);
        // The disks of this machine are not those of a directory that a test calls one.
        let volumes = (wish.volumes && root.is_live()).then_some(Place::Volumes);
        let fetch = |place: Place| {
            let state = match &place {
                _ if text(root, &place.id()).is_some() => State::Done,
                Place::Url(_) | Place::Service(_) => State::Waiting(now),
                Place::Volumes => State::Waiting(now + VOLUMES_AFTER),
            };
            Fetch { place, since: now, attempts: 0, state, problem: None }
        };
        Fetches(urls.chain(services).chain(volumes).map(fetch).collect())
    }

    /// When [`Fetches::start`] has something to do.
    pub fn next(&self) -> Option<Instant> {
        let due = self.0.iter().filter_map(|fetch| match &fetch.state {
            State::Waiting(at) => Some(*at),
            State::Running { .. } | State::Done => None,
        });
        due.min()
    }

    pub fn start(&mut self, settings: &Settings, now: Instant) {
        for fetch in &mut self.0 {
            if !matches!(&fetch.state, State::Waiting(at) if *at <= now) {
                continue;
            }
            if matches!(&fetch.place, Place::Url(url) if url.starts_with("https:"))
                && let Some(again) = waits_for_clock(settings, fetch.since, now)
            {
                fetch.state = State::Waiting(again);
                continue;
            }
            fetch.state = match spawn(settings, &fetch.place.id()) {
                Ok((pid, pipe)) => State::Running { pid, pipe, text: Vec::new() },
                Err(error) => {
                    host::log!("fetch: {error:#}");
                    State::Waiting(now + LATER)
                }
            };
        }
    }

    /// The pipes that answers come from.
    pub fn pipes(&self) -> impl Iterator<Item = &File> {
        self.0.iter().filter_map(|fetch| match &fetch.state {
            State::Running { pipe, .. } => Some(pipe),
            State::Waiting(_) | State::Done => None,
        })
    }

    /// Takes what has come, without waiting.
    pub fn read(&mut self) {
        for fetch in &mut self.0 {
            let State::Running { pid, pipe, text } = &mut fetch.state else { continue };
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = pipe.read(&mut buffer) {
                text.extend_from_slice(&buffer[..length]);
                if text.len() > MAX_TEXT {
                    // Its end is reaped; what it sent is no list of keys.
                    let _ = process::signal(*pid, Signal::KILL);
                    break;
                }
            }
        }
    }

    /// A process ended. Whether it was one of these.
    pub fn ended(&mut self, settings: &Settings, ended: i32, how: Ended, now: Instant) -> bool {
        self.read();
        let Some(fetch) =
            self.0.iter_mut().find(|f| matches!(f.state, State::Running { pid, .. } if pid == ended))
        else {
            return false;
        };
        fetch.attempts = fetch.attempts.saturating_add(1);
        let State::Running { text, .. } = std::mem::replace(&mut fetch.state, State::Done) else {
            return true;
        };
        let result = match how {
            Ended::Status(0) => keep(settings, &fetch.place, &text),
            _ if text.len() > MAX_TEXT => Err("is longer than 64 KiB".to_string()),
            Ended::Status(status) => Err(reason(status)),
            Ended::Signal(_) => Err("could not be fetched".to_string()),
        };
        match result {
            Ok(()) => fetch.problem = None,
            Err(reason) => {
                let problem = format!("{} {reason}", fetch.place.shown());
                let again = again(&fetch.place, fetch.attempts);
                if let Some(pause) = again {
                    fetch.state = State::Waiting(now + pause);
                }
                let is_quiet = match &fetch.place {
                    Place::Url(_) | Place::Service(_) => fetch.attempts < QUIET,
                    Place::Volumes => false,
                };
                if !is_quiet {
                    fetch.problem =
                        Some(if again.is_some() { format!("{problem}: trying again") } else { problem });
                }
            }
        }
        true
    }

    pub fn problems(&self) -> impl Iterator<Item = &String> {
        self.0.iter().filter_map(|fetch| fetch.problem.as_ref())
    }
}

/// How long until the next attempt; `None` after the last one. A network may come late, a volume does not come without end.
fn again(place: &Place, attempts: u32) -> Option<Duration> {
    match place {
        Place::Url(_) | Place::Service(_) if attempts < HURRIED => Some(SOON),
        Place::Url(_) | Place::Service(_) => Some(LATER),
        Place::Volumes if attempts < HURRIED_VOLUMES => Some(SOON),
        Place::Volumes if attempts < MOST_VOLUMES => Some(LATER),
        Place::Volumes => None,
    }
}

/// Of a URL or a service only what has a key in it is kept; of volumes what is wrong with them too.
fn keep(settings: &Settings, place: &Place, text: &[u8]) -> Result<(), String> {
    let words = host::text::text(text);
    let is_key = |(source, found): &(String, cloud::Found)| !keys::list(source, &found.keys).keys.is_empty();
    let has_key = match place {
        Place::Url(_) => !keys::file("", &words).keys.is_empty(),
        // Whatever answers at such an address, lines of HTML for one, is no key yet.
        Place::Service(_) => cloud::sections(&words).iter().any(is_key),
        Place::Volumes if text.is_empty() => return Ok(()),
        Place::Volumes => true,
    };
    if !has_key {
        return Err("holds no public key".to_string());
    }
    host::statefile::replace(&settings.path(&file(&place.id())), text, 0o600)
        .map_err(|error| format!("could not be kept: {error}"))
}

/// What curl(1) says by its exit status, or the role. Their own words are in the log.
fn reason(status: i32) -> String {
    match status {
        1 => "could not be fetched: it leads to what is no page on the web, or from https: to http:".to_string(),
        6 => "could not be fetched: its name cannot be looked up".to_string(),
        7 => "could not be fetched: nobody answers there".to_string(),
        22 => "could not be fetched: the server refused".to_string(),
        28 => format!("could not be fetched within {PATIENCE} seconds"),
        NO_AUTHORITY => {
            "could not be fetched: the certificates to check it by (rescue.ca=, or the platform's roots) cannot be read".to_string()
        }
        35 | 58 | 60 | 83 => {
            "could not be fetched: its certificate is not trusted (is the clock of this machine right?)"
                .to_string()
        }
        47 => "could not be fetched: it leads on and on to another page".to_string(),
        63 => "is longer than 64 KiB".to_string(),
        FAILED => "could not be fetched: see the log of sshd".to_string(),
        127 => "could not be fetched: there is no curl, is its layer mounted?".to_string(),
        other => format!("could not be fetched (curl ended with status {other})"),
    }
}

/// A standard input with these bytes: a URL may have a password or a token in it, and everybody reads command lines.
fn told(bytes: &[u8]) -> io::Result<File> {
    let (reader, mut writer) = io::pipe()?;
    // A pipe's usual size, so that nobody waits.
    if bytes.len() > MAX_TEXT {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too long"));
    }
    writer.write_all(bytes)?;
    Ok(File::from(OwnedFd::from(reader)))
}

/// Certificates are judged once netd's clock is settled, for which it waits a stated time at most: when it is looked at again,
/// where it is not yet. Nobody else waits: sshd listens, and keys from elsewhere let in.
pub fn waits_for_clock(settings: &Settings, since: Instant, now: Instant) -> Option<Instant> {
    let waits = settings.prefix == Path::new("/")
        && now < since + CLOCK_END
        && !host::statefile::read::<state::Netd>("netd").clock.settled;
    waits.then(|| now + CLOCK)
}

/// By the place's id.
fn spawn(settings: &Settings, place: &str) -> Result<(i32, File)> {
    let (reader, writer) = io::pipe().context("pipe")?;
    let argv = settings.role(&crate::program()?, "fetch");
    let argv: Vec<&OsStr> = argv.iter().map(OsString::as_os_str).collect();
    let mut child = Spawn::new(&argv, &[]);
    child.stdin = Some(told(place.as_bytes()).context("tell the fetcher what")?);
    child.stdout = Some(File::from(OwnedFd::from(writer)));
    child.stderr = Some(File::from(inherited(2).try_clone_to_owned().context("stderr")?));
    let pid = process::spawn(child).context("start a fetcher")?;
    let pipe = File::from(OwnedFd::from(reader));
    rustix::io::ioctl_fionbio(&pipe, true).context("set non-blocking")?;
    Ok((pid, pipe))
}

/// The role. That it failed itself is no word of curl's.
pub fn run(settings: &Settings) -> Result<()> {
    if let Err(error) = fetch(settings) {
        host::log!("fetch: {error:#}");
        std::process::exit(FAILED);
    }
    Ok(())
}

/// Becomes curl; asks a metadata service; or looks for volumes.
fn fetch(settings: &Settings) -> Result<()> {
    let mut place = String::new();
    File::from(inherited(0).try_clone_to_owned().context("stdin")?)
        .read_to_string(&mut place)
        .context("hear what to fetch")?;
    if place == Place::Volumes.id() {
        return crate::volumes::run();
    }
    // Read by root, since it may be root's alone; what is in it is parsed by nobody.
    let authority = authority(settings);
    process::drop_privileges(super::NOBODY).context("give up root")?;
    for (resource, most) in [(Resource::As, 1 << 30), (Resource::Cpu, 20), (Resource::Nofile, 64)] {
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        rustix::process::setrlimit(resource, limit).context("set a limit")?;
    }
    if !settings.curl.exists() {
        std::process::exit(127);
    }
    if let Some(service) = place.strip_prefix("metadata:").and_then(metadata::by_name) {
        std::process::exit(metadata::run(settings, service)?);
    }
    // From an encrypted page nothing leads back to a plain one, ...
    let is_plain = !place.starts_with("https:");
    let protocols = match (is_plain, &authority) {
        (false, _) => "=https",
        // ... nor from a plain one to what nobody can check.
        (true, Some(Err(_))) => "=http",
        (true, _) => "=http,https",
    };
    let by = match &authority {
        None => Vec::new(),
        // A directory of authorities would count beside the file.
        Some(Ok(file)) => {
            ["--capath", "/nonexistent", "--cacert", &format!("/proc/self/fd/{}", file.as_raw_fd())]
                .map(String::from)
                .to_vec()
        }
        Some(Err(error)) if is_plain => {
            host::log!("{AUTHORITY}: {error:#}");
            Vec::new()
        }
        Some(Err(error)) => {
            host::log!("{AUTHORITY}: {error:#}");
            std::process::exit(NO_AUTHORITY);
        }
    };
    let url = told(configuration(&place).as_bytes()).context("tell curl the URL")?;
    let error = Command::new(&settings.curl)
        .args([
            "--disable",
            "--globoff",
            "--fail",
            "--silent",
            "--show-error",
            "--location",
            "--max-redirs",
            "5",
        ])
        .args(["--proto", protocols, "--connect-timeout", "10", "--max-time", PATIENCE])
        .args(["--max-filesize", &MAX_TEXT.to_string(), "--config", "-"])
        .args(by)
        .stdin(url)
        .env_clear()
        .exec();
    Err(error).with_context(|| format!("start {}", settings.curl.display()))
}

/// The URL as a line of curl's configuration (curl(1), `--config`).
fn configuration(url: &str) -> String {
    let quoted: String = url.chars().filter(|c| !c.is_control()).fold(String::new(), |mut text, c| {
        if matches!(c, '"' | '\\') {
            text.push('\\');
        }
        text.push(c);
        text
    });
    format!("url = \"{quoted}\"\n")
}

/// A copy of the file that `rescue.ca=` names, which the next program of this process has too; `None` where none is named.
fn authority(settings: &Settings) -> Option<Result<OwnedFd>> {
    let copy = |root: &Root, path: &str| -> Result<OwnedFd> {
        let bytes = root.read(path).with_context(|| format!("read {path}"))?;
        ensure!(bytes.len() <= MAX_AUTHORITY, "{path} is too long");
        let memory = rustix::fs::memfd_create("authority", MemfdFlags::empty()).context("make a copy")?;
        File::from(memory.try_clone().context("make a copy")?).write_all(&bytes).context("make a copy")?;
        Ok(memory)
    };
    let root = match settings.root() {
        Ok(root) => root,
        Err(error) => return Some(Err(error)),
    };
    let words = host::params::read(&root);
    cmdline::last(&words, AUTHORITY).map(|path| copy(&root, path))
}

/// For the listener, before it starts any.
pub fn make_directory(settings: &Settings) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(settings.path(DIRECTORY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_list_of_urls_mixes_nothing_up() {
        assert_ne!(file("https://a/1"), file("https://a/2"));
    }

    #[test]
    fn what_holds_no_key_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings { prefix: dir.path().to_path_buf(), ..Settings::default() };
        make_directory(&settings).unwrap();
        let url = "https://example.com/keys";
        let place = &Place::Url(url.to_string());
        assert_eq!(keep(&settings, place, b"<html>\n"), Err("holds no public key".to_string()));
        assert_eq!(keep(&settings, place, b"\xff\x1f\x8b"), Err("holds no public key".to_string()));
        let root = settings.root().unwrap();
        assert_eq!(text(&root, url), None);
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHmDG8O1bWYxNZGdJOEEVLrFJbSCn3bQdQ1QwWh6MTpn me\n";
        keep(&settings, place, key.as_bytes()).unwrap();
        assert_eq!(text(&root, url).as_deref(), Some(key));
        // A byte of Latin-1 in a comment.
        keep(&settings, place, &[key.trim_end().as_bytes(), b" J\xfcrgen\n"].concat()).unwrap();
    }

    #[test]
    fn volumes_that_could_not_be_looked_for_are_looked_for_again_a_few_times() {
        let settings = Settings::default();
        let now = Instant::now();
        let mut fetches = Fetches(vec![Fetch {
            place: Place::Volumes,
            since: now,
            attempts: 0,
            state: State::Done,
            problem: None,
        }]);
        let mut pauses = Vec::new();
        for _ in 0..100 {
            let pipe = File::open("/dev/null").unwrap();
            fetches.0[0].state = State::Running { pid: 7, pipe, text: Vec::new() };
            assert!(fetches.ended(&settings, 7, Ended::Status(FAILED), now));
            let Some(next) = fetches.next() else { break };
            let told: Vec<&String> = fetches.problems().collect();
            let want =
                "volumes labelled cidata or config-2 could not be fetched: see the log of sshd: trying again";
            assert_eq!(told, [want]);
            pauses.push(next - now);
        }
        assert_eq!(pauses, [SOON, SOON, LATER, LATER, LATER]);
        let told: Vec<&String> = fetches.problems().collect();
        assert_eq!(told, ["volumes labelled cidata or config-2 could not be fetched: see the log of sshd"]);
    }

    #[test]
    fn a_service_that_answers_with_a_page_is_asked_again() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings { prefix: dir.path().to_path_buf(), ..Settings::default() };
        make_directory(&settings).unwrap();
        let service = metadata::by_name("hetzner").unwrap();
        let answer = |text: &str| {
            let text = cloud::section(service.shown, &cloud::listing(text));
            keep(&settings, &Place::Service(service), text.as_bytes())
        };
        let page = "<html><head>\n<title>302 Found</title></head>\n</html>\n";
        assert_eq!(answer(page), Err("holds no public key".to_string()));
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHmDG8O1bWYxNZGdJOEEVLrFJbSCn3bQdQ1QwWh6MTpn me\n";
        assert_eq!(answer(key), Ok(()));
    }

    #[test]
    fn a_url_reaches_curl_as_it_is() {
        for (url, want) in [
            ("https://a:b@c/d?e=f#g", "url = \"https://a:b@c/d?e=f#g\"\n"),
            ("https://a/\"\\x\nurl=b", "url = \"https://a/\\\"\\\\xurl=b\"\n"),
        ] {
            assert_eq!(configuration(url), want);
        }
    }
}
