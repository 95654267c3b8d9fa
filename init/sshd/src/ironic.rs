//! OpenStack Ironic's own rescue (`baremetal node rescue`): what ironic-python-agent does in it, and nothing else of that. Where
//! the boot names Ironic's API (`ipa-api-url=`, which Ironic itself writes for the ramdisk that it boots), one process, nobody,
//! looks this node up there, says where it is, and is told the hash of a password. The listener takes that one thing from
//! it, for this boot. Without the word nothing of it runs, and nobody who may log in by a key waits for it.

mod agent;
mod api;
mod certificate;
mod command;
mod http;
mod server;

pub use agent::run;

use crate::password::Hash;
use crate::settings::Settings;
use crate::wire;
use anyhow::{Context, Result};
use contract::cmdline::{self, Word};
use contract::url::{is_url, shown};
use host::Root;
use host::sys::process::{self, Spawn};
use host::sys::{inherited, pass};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// It is Ironic's word, and whoever may write it there may write `ssh_key=` as well. So no word of ours is asked for beside it.
const WORD: &str = "ipa-api-url";
/// What was set, with the hash: root's alone to read.
const FILE: &str = "/run/lifeboat/sshd/ironic";
/// Most URLs, and most bytes of one.
const MAX_URLS: usize = 8;
const MAX_URL: usize = 1024;
/// Most bytes of a hash: `$y$` with its longest salt takes 160.
const MAX_HASH: usize = 256;
/// What one agent may say before it is taken for one that somebody else has taken over.
const MAX_SAID: u32 = 256;
/// Most characters of a problem of the agent's.
const MAX_PROBLEM: usize = 300;
/// Until an agent that ended is started again.
const AGAIN: Duration = Duration::from_secs(10);

/// From the agent to the listener.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Say {
    /// What keeps it from its work; none, any more.
    Problem(Option<String>),
    /// Answered by a [`Taken`].
    Password { node: String, hash: String },
}

/// Whether the password counts from now on, or why not.
#[derive(Serialize, Deserialize)]
struct Taken {
    problem: Option<String>,
}

/// The password that Ironic has set for this boot.
#[derive(Serialize, Deserialize)]
struct Kept {
    node: String,
    hash: String,
}

/// What the boot parameter asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// Without a slash at the end.
    pub urls: Vec<String>,
    pub problems: Vec<String>,
}

pub fn wish(words: &[Word]) -> Wish {
    let mut wish = Wish::default();
    let Some(value) = cmdline::last(words, WORD) else { return wish };
    for url in value.split(',').map(str::trim).filter(|url| !url.is_empty()).take(MAX_URLS) {
        let host = url.split_once("://").and_then(|(_, rest)| rest.split('/').next()).unwrap_or_default();
        let is_plain = url.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#@\"\\".contains(&byte));
        if !is_url(url) || host.is_empty() || !is_plain || url.len() > MAX_URL {
            let text: String = url.chars().take(64).collect();
            wish.problems.push(format!(
                "boot parameter {WORD}: {} is no URL of Ironic's API, such as https://192.0.2.1:6385",
                text.escape_debug()
            ));
            continue;
        }
        if url.starts_with("http:") {
            wish.problems.push(format!(
                "boot parameter {WORD}: {} is not encrypted: whoever sits on the line can set root's password",
                shown(url)
            ));
        }
        wish.urls.push(url.trim_end_matches('/').to_string());
    }
    if wish.urls.is_empty() && wish.problems.is_empty() {
        wish.problems.push(format!("boot parameter {WORD}: names no URL of Ironic's API"));
    }
    wish
}

/// The hash of the password that Ironic set, and what it is shown as.
pub fn password(root: &Root) -> Option<(Hash, String)> {
    let kept: Kept = serde_json::from_slice(&root.read(FILE).ok()?).ok()?;
    // It was parsed when it was kept.
    Some((Hash::parse(&kept.hash).ok()?, format!("Ironic, for node {}", kept.node)))
}

/// In lower case, of 36 characters, as Ironic writes it.
fn uuid(text: &str) -> Option<String> {
    let is_one = text.len() == 36
        && text.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    is_one.then(|| text.to_ascii_lowercase())
}

/// The listener's side of it.
pub struct Ironic {
    since: Instant,
    /// Every URL waits for a clock that certificates can be judged by.
    is_encrypted: bool,
    state: State,
    problem: Option<String>,
}

enum State {
    /// Not asked for, or done before.
    Off,
    Waiting(Instant),
    Running {
        pid: i32,
        /// `None` once nothing more is heard of it.
        socket: Option<OwnedFd>,
        said: u32,
    },
    /// The password is set. With what the agent may still have to read its answer from.
    Set {
        _socket: Option<OwnedFd>,
    },
}

impl Ironic {
    pub fn new(root: &Root, now: Instant) -> Ironic {
        let urls = wish(&host::params::read(root)).urls;
        let is_wanted = !urls.is_empty() && password(root).is_none();
        let state = if is_wanted { State::Waiting(now) } else { State::Off };
        let is_encrypted = urls.iter().all(|url| url.starts_with("https:"));
        Ironic { since: now, is_encrypted, state, problem: None }
    }

    /// When [`Ironic::start`] has something to do.
    pub fn next(&self) -> Option<Instant> {
        match &self.state {
            State::Waiting(at) => Some(*at),
            State::Off | State::Running { .. } | State::Set { .. } => None,
        }
    }

    pub fn start(&mut self, settings: &Settings, now: Instant) {
        if !matches!(self.state, State::Waiting(at) if at <= now) {
            return;
        }
        if self.is_encrypted
            && let Some(again) = crate::fetch::waits_for_clock(settings, self.since, now)
        {
            self.state = State::Waiting(again);
            return;
        }
        self.state = match spawn(settings) {
            Ok((pid, socket)) => State::Running { pid, socket: Some(socket), said: 0 },
            Err(error) => {
                host::log!("ironic: {error:#}");
                State::Waiting(now + AGAIN)
            }
        };
    }

    /// Where the agent is heard.
    pub fn socket(&self) -> Option<&OwnedFd> {
        match &self.state {
            State::Running { socket, .. } => socket.as_ref(),
            State::Off | State::Waiting(_) | State::Set { .. } => None,
        }
    }

    /// Takes what the agent has said, without waiting. Whether that changes who may log in, or what is wrong.
    pub fn hear(&mut self, settings: &Settings) -> bool {
        let State::Running { pid, socket, said } = &mut self.state else { return false };
        let (mut is_new, mut is_set) = (false, false);
        while let Some(open) = socket.as_ref().filter(|_| !is_set) {
            match wire::receive::<Say>(open) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // Its end is reaped.
                Ok(None) => *socket = None,
                Ok(Some((say, _))) if *said < MAX_SAID => {
                    (*said, is_new) = (*said + 1, true);
                    self.problem = match say {
                        Say::Problem(text) => text.map(|text| text.chars().take(MAX_PROBLEM).collect()),
                        Say::Password { node, hash } => {
                            let problem = keep(settings, &node, &hash).err();
                            is_set = problem.is_none();
                            if let Err(error) = wire::send(open, &Taken { problem: problem.clone() }, &[]) {
                                host::log!("ironic: answer the agent: {error}");
                            }
                            problem.map(|problem| {
                                format!("the password that Ironic set is not taken: {problem}")
                            })
                        }
                    };
                }
                Ok(Some(_)) | Err(_) => {
                    host::log!("ironic: the agent says what it should not");
                    // It may have ended by itself.
                    let _ = process::signal(*pid, Signal::KILL);
                    *socket = None;
                }
            }
        }
        if is_set {
            self.state = State::Set { _socket: socket.take() };
        }
        is_new
    }

    /// A process ended. Whether it was this one.
    pub fn ended(&mut self, ended: i32, now: Instant) -> bool {
        let is_ours = matches!(self.state, State::Running { pid, .. } if pid == ended);
        if is_ours {
            self.state = State::Waiting(now + AGAIN);
            // What the one before has said is not its successor's.
            self.problem = Some(format!(
                "boot parameter {WORD}: what serves Ironic ended by itself, and is started again"
            ));
        }
        is_ours
    }

    pub fn problem(&self) -> Option<&String> {
        self.problem.as_ref()
    }
}

/// What the agent is asked by whoever reaches it, with the token and without; and what answers as Ironic's API.
#[cfg(feature = "fuzz")]
pub fn hostile(input: &[u8]) {
    let mut session = command::Session::new("t".repeat(32), 0);
    let mut set = |hash: &str| Hash::parse(hash).map(drop);
    let answer = session.answer(http::read(input), &mut set);
    assert!(answer.is_some() || input.len() < 64 << 10, "a request is waited for that is too long");
    api::hostile(input);
}

/// What the agent says was written by strangers: it is looked at here, and not there alone.
fn keep(settings: &Settings, node: &str, hash: &str) -> Result<(), String> {
    let node = uuid(node).ok_or("the node has no UUID")?;
    Hash::parse(hash).map_err(|reason| format!("it {reason}"))?;
    if hash.len() > MAX_HASH || !hash.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("it is too long for a hash, or has characters that no hash has".to_string());
    }
    let kept = Kept { node, hash: hash.to_string() };
    let text = serde_json::to_vec(&kept).map_err(|error| error.to_string())?;
    host::statefile::replace(&settings.path(FILE), &text, 0o600)
        .map_err(|error| format!("it could not be kept: {error}"))?;
    host::log!("ironic: password of root set by Ironic, for node {}", kept.node);
    Ok(())
}

fn spawn(settings: &Settings) -> Result<(i32, OwnedFd)> {
    let (ours, theirs) = pass::pair().context("socketpair")?;
    rustix::io::ioctl_fionbio(&ours, true).context("set non-blocking")?;
    let argv = settings.role(&crate::program()?, "ironic");
    let argv: Vec<&OsStr> = argv.iter().map(OsString::as_os_str).collect();
    let mut child = Spawn::new(&argv, &[]);
    child.stdout = Some(File::from(theirs));
    child.stderr = Some(File::from(inherited(2).try_clone_to_owned().context("stderr")?));
    // Strangers reach it, and it is in no hurry.
    (child.oom_score, child.nice) = (crate::listen::STRANGER, 10);
    Ok((process::spawn(child)?, ours))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "1be26c0b-03f2-4d2e-ae87-c02d7f33c123";
    const HASH: &str = "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5";

    fn settings() -> (tempfile::TempDir, Settings) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("run/lifeboat/sshd")).unwrap();
        let settings = Settings { prefix: dir.path().to_path_buf(), ..Settings::default() };
        (dir, settings)
    }

    #[test]
    fn the_api_is_where_the_word_says_and_a_malformed_one_is_a_line_and_no_more() {
        for (line, urls, problem) in [
            ("quiet", &[][..], None),
            ("ipa-api-url=https://192.0.2.1:6385/", &["https://192.0.2.1:6385"], None),
            (
                "ipa-api-url=https://a.example/baremetal,https://[2001:db8::1]:6385",
                &["https://a.example/baremetal", "https://[2001:db8::1]:6385"],
                None,
            ),
            ("ipa-api-url=http://192.0.2.1:6385", &["http://192.0.2.1:6385"], Some("is not encrypted")),
            ("ipa-api-url=https://a,192.0.2.1", &["https://a"], Some("192.0.2.1 is no URL")),
            ("ipa-api-url=mdns", &[], Some("mdns is no URL")),
            ("ipa-api-url=", &[], Some("names no URL")),
            ("ipa-api-url=,", &[], Some("names no URL")),
            ("ipa-api-url=https:///v1", &[], Some("is no URL")),
            ("ipa-api-url=https://me:secret@a", &[], Some("is no URL")),
            ("ipa-api-url=https://a?b", &[], Some("is no URL")),
            ("ipa-api-url=\"https://a b\"", &[], Some("is no URL")),
            ("ipa-api-url=https://a\u{e4}", &[], Some("is no URL")),
        ] {
            let wish = wish(&cmdline::words(line));
            assert_eq!(wish.urls, urls, "{line}");
            assert_eq!(wish.problems.len(), usize::from(problem.is_some()), "{line}: {:?}", wish.problems);
            let named = wish.problems.iter().all(|text| text.contains(problem.unwrap_or_default()));
            assert!(
                named && wish.problems.iter().all(|text| text.lines().count() == 1),
                "{:?}",
                wish.problems
            );
        }
        let many = format!("ipa-api-url={}", vec!["https://a"; 100].join(","));
        assert_eq!(wish(&cmdline::words(&many)).urls.len(), MAX_URLS);
        assert!(wish(&cmdline::words(&format!("ipa-api-url=https://{}", "a".repeat(2000)))).urls.is_empty());
    }

    #[test]
    fn without_the_word_and_with_a_password_nothing_is_started() {
        let (dir, settings) = settings();
        let root = Root::at(dir.path()).unwrap();
        let at = |line: &str| {
            std::fs::create_dir_all(dir.path().join("proc")).unwrap();
            std::fs::write(dir.path().join("proc/cmdline"), line).unwrap();
            Ironic::new(&root, Instant::now()).next().is_some()
        };
        assert!(!at("quiet"));
        assert!(!at("ipa-api-url=mdns"));
        assert!(at("ipa-api-url=https://192.0.2.1:6385"));
        keep(&settings, UUID, HASH).unwrap();
        assert!(!at("ipa-api-url=https://192.0.2.1:6385"));
    }

    #[test]
    fn what_is_kept_is_a_hash_that_can_be_compared_with_and_root_s_alone_to_read() {
        use std::os::unix::fs::PermissionsExt as _;
        let (dir, settings) = settings();
        let root = Root::at(dir.path()).unwrap();
        let long = format!("$6${}$x", "s".repeat(MAX_HASH));
        for (label, node, hash, want) in [
            ("clear", UUID, "hunter2", "not a hash"),
            ("empty", UUID, "", "not a hash"),
            ("cut", UUID, "$6$salt", "cut or damaged"),
            ("memory", UUID, "$y$jFT$salt$hash", "memory"),
            ("long", UUID, long.as_str(), "too long"),
            ("a line more", UUID, "$6$a$b\n", "characters"),
            ("no UUID", "../../etc/passwd", HASH, "no UUID"),
        ] {
            let error = keep(&settings, node, hash).unwrap_err();
            assert!(error.contains(want) && !error.contains("hunter2"), "{label}: {error}");
            assert!(password(&root).is_none(), "{label}");
        }
        keep(&settings, &UUID.to_uppercase(), HASH).unwrap();
        let (hash, shown) = password(&root).unwrap();
        assert!(hash.matches("Hello world!"));
        assert_eq!(shown, format!("Ironic, for node {UUID}"));
        let mode = std::fs::metadata(settings.path(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    /// Something that runs until it is killed, and this side of its socket.
    fn agent() -> (Ironic, OwnedFd, std::process::Child) {
        let child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let (ours, theirs) = pass::pair().unwrap();
        rustix::io::ioctl_fionbio(&ours, true).unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let state = State::Running { pid, socket: Some(ours), said: 0 };
        (Ironic { since: Instant::now(), is_encrypted: false, state, problem: None }, theirs, child)
    }

    #[test]
    fn an_agent_that_somebody_has_taken_over_sets_no_more_than_a_hash_and_fills_nothing() {
        use std::os::unix::process::ExitStatusExt as _;
        let (dir, settings) = settings();
        let root = Root::at(dir.path()).unwrap();
        let (mut ironic, theirs, mut child) = agent();
        let say = |text: &str| wire::send(&theirs, &Say::Problem(Some(text.into())), &[]).unwrap();
        say(&"x".repeat(9000));
        assert!(ironic.hear(&settings));
        assert_eq!(ironic.problem().unwrap().len(), MAX_PROBLEM);
        assert!(!ironic.hear(&settings), "nothing new");
        let password = Say::Password { node: UUID.into(), hash: "hunter2".into() };
        wire::send(&theirs, &password, &[]).unwrap();
        assert!(ironic.hear(&settings));
        let taken = wire::receive::<Taken>(&theirs).unwrap().unwrap().0;
        assert!(taken.problem.unwrap().contains("not a hash"));
        assert!(super::password(&root).is_none() && !ironic.problem().unwrap().contains("hunter2"));
        for _ in 2..MAX_SAID {
            say("again");
            assert!(ironic.hear(&settings));
        }
        say("once more");
        ironic.hear(&settings);
        assert_eq!(child.wait().unwrap().signal(), Some(Signal::KILL.as_raw()));
        assert!(ironic.socket().is_none(), "it is not listened to any more");
        let now = Instant::now();
        assert!(ironic.ended(i32::try_from(child.id()).unwrap(), now));
        assert_eq!(ironic.next(), Some(now + AGAIN), "another one is started, later");

        let (mut ironic, theirs, mut child) = agent();
        pass::send(&theirs, b"{\"password\":", &[]).unwrap();
        ironic.hear(&settings);
        assert_eq!(child.wait().unwrap().signal(), Some(Signal::KILL.as_raw()));
    }

    #[test]
    fn after_the_password_nothing_more_is_heard() {
        let (dir, settings) = settings();
        let (mut ironic, theirs, mut child) = agent();
        for hash in [HASH, "$6$other$hash"] {
            wire::send(&theirs, &Say::Password { node: UUID.into(), hash: hash.into() }, &[]).unwrap();
        }
        assert!(ironic.hear(&settings));
        assert!(wire::receive::<Taken>(&theirs).unwrap().unwrap().0.problem.is_none());
        assert!(!ironic.hear(&settings));
        let root = Root::at(dir.path()).unwrap();
        assert!(password(&root).unwrap().0.matches("Hello world!"), "the first one counts");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!ironic.ended(i32::try_from(child.id()).unwrap(), Instant::now()));
        assert_eq!(ironic.next(), None);
    }
}
