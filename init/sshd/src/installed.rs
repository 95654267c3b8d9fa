//! `rescue.hostkey=installed`: the rescue is known by the host keys of the system on the disks, so that a client sees no
//! change at all. The search (`host::installed`) is a process of its own. The listener waits for it a stated time, and then
//! goes on with a fresh key for the whole boot.
//!
//! Refused, with a fresh key instead: systems with different keys (the person did not say which), keys with a
//! passphrase, RSA below 2,048 bits. ECDSA keys are passed over, since no NIST curve is offered.

use crate::settings::Settings;
use anyhow::{Context, Result, bail, ensure};
use contract::cmdline::{self, Word};
use contract::event::Event;
use contract::host_keys::RSA_BITS;
use contract::paths;
use host::sys::inherited;
use host::sys::process::{self, Spawn};
use host::{Root, rescue};
use russh::keys::PrivateKey;
use russh::keys::ssh_key::{Algorithm, LineEnding};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Problems of it begin with it.
pub const PARAMETER: &str = "rescue.hostkey";
/// For disks, their drivers and the layers with the tools, which a login does not wait for otherwise.
const PATIENCE: Duration = Duration::from_secs(15);
const MAX_PATIENCE: u64 = 600;
/// Between two looks at whether the machine is ready.
const LOOK: Duration = Duration::from_millis(100);
/// Most bytes of an answer: two keys, or a reason.
const MAX_ANSWER: u64 = 64 << 10;

/// The host keys of one system. Not `Debug`: they are secret.
#[derive(Clone, Serialize, Deserialize)]
pub struct Keys {
    /// The device that it lies on, and what it calls itself.
    pub place: String,
    /// In OpenSSH's form, as [`PrivateKey::to_openssh`] writes it.
    pub ed25519: Option<String>,
    pub rsa: Option<String>,
    /// What of it is not served, and why.
    pub notes: Vec<String>,
}

#[derive(Serialize, Deserialize)]
enum Answer {
    Keys(Keys),
    Nothing(String),
}

/// How long to wait, where it is wished for; or what is wrong with the wish.
pub fn wish(words: &[Word]) -> Option<Result<Duration, String>> {
    let value = cmdline::last(words, PARAMETER)?;
    let seconds = match value.split_once(',') {
        None if value == "fresh" => return None,
        None if value == "installed" => return Some(Ok(PATIENCE)),
        Some(("installed", seconds)) => seconds.parse().ok().filter(|n| (1..=MAX_PATIENCE).contains(n)),
        _ => None,
    };
    let wrong = || {
        let value: String = value.chars().take(64).collect();
        format!(
            "{PARAMETER}={}: takes fresh, installed, or installed,SECONDS (1 to {MAX_PATIENCE}): a fresh host key is used",
            value.escape_debug()
        )
    };
    Some(seconds.map(Duration::from_secs).ok_or_else(wrong))
}

/// For the listener: waits for the search that it starts, and no longer. The error is a line for a person.
pub fn find(settings: &Settings, patience: Duration) -> Result<Keys, String> {
    let failed = |error: anyhow::Error| format!("{PARAMETER}: {error:#}: a fresh host key is used");
    let mut pipe = start(settings, patience).map_err(failed)?;
    let answer = receive(&mut pipe, patience).map_err(failed)?;
    match answer {
        Some(Answer::Keys(keys)) => Ok(keys),
        Some(Answer::Nothing(reason)) => Err(format!("{PARAMETER}: {reason}: a fresh host key is used")),
        None => Err(format!(
            "{PARAMETER}: the disks were not looked through within {} s: a fresh host key is used, until the next boot",
            patience.as_secs()
        )),
    }
}

fn start(settings: &Settings, patience: Duration) -> Result<File> {
    let (reader, writer) = io::pipe().context("pipe")?;
    let mut argv = settings.role(&crate::program()?, "installed");
    argv.extend(["--patience".into(), patience.as_secs().to_string().into()]);
    let argv: Vec<&OsStr> = argv.iter().map(OsString::as_os_str).collect();
    let mut child = Spawn::new(&argv, &[]);
    child.stdout = Some(File::from(OwnedFd::from(writer)));
    child.stderr = Some(File::from(inherited(2).try_clone_to_owned().context("stderr")?));
    process::spawn(child).context("start the search for the installed system")?;
    Ok(File::from(OwnedFd::from(reader)))
}

/// `None` when the time is up. The search then sees that nobody reads, and still takes apart what it put together.
fn receive(pipe: &mut File, patience: Duration) -> Result<Option<Answer>> {
    let deadline = Instant::now() + patience;
    let mut text = Vec::new();
    loop {
        let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now())).context("time")?;
        match poll(&mut [PollFd::new(&*pipe, PollFlags::IN)], Some(&left)) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error).context("wait for the search"),
        }
        let mut bytes = [0; 4096];
        match pipe.read(&mut bytes).context("read what the search found")? {
            0 if text.is_empty() => bail!("the search ended without an answer: see {}", paths::log("sshd")),
            0 => return serde_json::from_slice(&text).map(Some).context("understand what the search found"),
            length => text.extend_from_slice(&bytes[..length]),
        }
        ensure!(text.len() as u64 <= MAX_ANSWER, "too long an answer");
    }
}

/// The role: looks through all disks, and answers on stdout when everything is as it was.
pub fn run(settings: &Settings) -> Result<()> {
    let deadline = Instant::now() + settings.patience;
    let answer = match search(deadline) {
        Ok(keys) => Answer::Keys(keys),
        Err(error) => Answer::Nothing(format!("{error:#}")),
    };
    let text = serde_json::to_vec(&answer).context("encode")?;
    // Whoever asked may have gone on without it.
    match File::from(inherited(1).try_clone_to_owned().context("stdout")?).write_all(&text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("answer"),
        _ => Ok(()),
    }
}

fn search(deadline: Instant) -> Result<Keys> {
    while !rescue::is_ready() {
        ensure!(Instant::now() < deadline, "the disks or the layers with their tools were not ready in time");
        sleep(LOOK);
    }
    let seen = host::installed::look(deadline, of_system)?;
    if let Some(why) = &seen.left {
        host::events::tell(&Event::warning(format!(
            "{PARAMETER}: what was assembled to look for host keys is not all stopped ({why}): rescue assemble --stop"
        )));
    }
    let hidden = seen.hidden();
    choose(seen.found, &hidden).map_err(anyhow::Error::msg)
}

/// The keys of a system, if it has any.
fn of_system(root: &Root, device: &str) -> Option<Keys> {
    paths::ROOT_SUBVOLUMES.iter().find_map(|subvolume| {
        let below = if subvolume.is_empty() { String::new() } else { format!("/{subvolume}") };
        let mut notes = Vec::new();
        let mut read = |name: &str, fits: &dyn Fn(&PrivateKey) -> Result<(), String>| {
            let path = format!("{below}/etc/ssh/ssh_host_{name}_key");
            let text = match root.read_text(&path) {
                Ok(text) => text,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
                Err(error) => {
                    notes.push(format!("its {path} is not served: {error}"));
                    return None;
                }
            };
            match key(&text).and_then(|key| fits(&key).map(|()| key)) {
                Ok(key) => key.to_openssh(LineEnding::LF).ok().map(|text| text.to_string()),
                Err(reason) => {
                    notes.push(format!("its {path} is not served: {reason}"));
                    None
                }
            }
        };
        let ed25519 = read("ed25519", &|key| match key.algorithm() {
            Algorithm::Ed25519 => Ok(()),
            _ => Err("it is of another type".to_string()),
        });
        let rsa = read("rsa", &is_good_rsa);
        let name = root.line(format!("{below}/etc/hostname")).filter(|name| !name.is_empty());
        let name =
            name.map(|name| format!(" ({})", name.chars().take(64).collect::<String>().escape_debug()));
        let place = format!("{device}{}", name.unwrap_or_default());
        let any = ed25519.is_some() || rsa.is_some() || !notes.is_empty();
        any.then_some(Keys { place, ed25519, rsa, notes })
    })
}

fn is_good_rsa(key: &PrivateKey) -> Result<(), String> {
    match key.key_data().rsa().map(|pair| pair.key_size()) {
        Some(bits) if RSA_BITS.contains(&bits) => Ok(()),
        Some(bits) => Err(format!("it has {bits} bits")),
        None => Err("it is of another type".to_string()),
    }
}

/// A host's RSA key that can be served.
pub fn rsa(text: &str) -> Result<PrivateKey, String> {
    let key = key(text)?;
    is_good_rsa(&key).map(|()| key)
}

/// OpenSSH's form, or PEM, as ssh-keygen wrote RSA keys before version 7.8.
fn key(text: &str) -> Result<PrivateKey, String> {
    let key = match PrivateKey::from_openssh(text) {
        Ok(key) => key,
        Err(_) => russh::keys::decode_secret_key(text, None).map_err(|_| "it cannot be read".to_string())?,
    };
    if key.is_encrypted() { Err("it has a passphrase".to_string()) } else { Ok(key) }
}

/// One system's, or why none's.
fn choose(systems: Vec<Keys>, hidden: &str) -> Result<Keys, String> {
    let (usable, not): (Vec<Keys>, Vec<Keys>) =
        systems.into_iter().partition(|system| system.ed25519.is_some() || system.rsa.is_some());
    let Some(first) = usable.first() else {
        let notes: Vec<String> = not
            .iter()
            .flat_map(|keys| keys.notes.iter().map(|note| format!("{}: {note}", keys.place)))
            .collect();
        let why = if notes.is_empty() {
            "no system with host keys was found".to_string()
        } else {
            notes.join("; ")
        };
        return Err(why + hidden);
    };
    // Copies of one system are one host.
    if usable.iter().any(|other| (&other.ed25519, &other.rsa) != (&first.ed25519, &first.rsa)) {
        let places: Vec<&str> = usable.iter().take(8).map(|keys| keys.place.as_str()).collect();
        return Err(format!("several systems have host keys, on {}", places.join(" and on ")));
    }
    Ok(first.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use russh::keys::key::safe_rng;
    use std::fs;

    #[test]
    fn the_wish_says_how_long_and_a_wrong_one_is_named() {
        let wish = |line: &str| wish(&cmdline::words(line));
        assert_eq!(wish("quiet"), None);
        assert_eq!(wish("rescue.hostkey=fresh"), None);
        assert_eq!(wish("rescue.hostkey=installed"), Some(Ok(PATIENCE)));
        assert_eq!(wish("rescue.hostkey=installed,60"), Some(Ok(Duration::from_secs(60))));
        for wrong in ["install", "installed,", "installed,0", "installed,601", "installed,x"] {
            let named = wish(&format!("rescue.hostkey={wrong}")).unwrap().unwrap_err();
            assert!(named.contains(wrong) && named.contains("a fresh host key"), "{named}");
        }
    }

    #[test]
    fn an_answer_is_waited_for_as_long_as_was_said_however_it_comes() {
        let text = serde_json::to_vec(&Answer::Nothing("none".into())).unwrap();
        let patience = Duration::from_millis(50);
        let half = &text[..text.len() / 2];
        // How often which bytes are sent, and whether the search ends then.
        let nothing: &[u8] = b"";
        let cases = [
            ("silence", nothing, 0, false, Ok(false)),
            ("half an answer", half, 1, false, Ok(false)),
            ("a byte now and then", b" ", 1000, false, Ok(false)),
            ("an answer", &text, 1, true, Ok(true)),
            ("an end without one", b"", 0, true, Err("ended without an answer")),
            ("an end in the middle of it", half, 1, true, Err("understand what the search found")),
        ];
        for (label, bytes, times, ends, want) in cases {
            let (reader, mut writer) = io::pipe().unwrap();
            let (bytes, begun) = (bytes.to_vec(), Instant::now());
            let sender = std::thread::spawn(move || {
                for _ in 0..times {
                    if writer.write_all(&bytes).is_err() {
                        break;
                    }
                    sleep(Duration::from_millis(u64::from(times > 1)));
                }
                (!ends).then_some(writer)
            });
            let mut pipe = File::from(OwnedFd::from(reader));
            let got = receive(&mut pipe, patience);
            let took = begun.elapsed();
            drop(pipe);
            match (got, want) {
                (Ok(answer), Ok(there)) => {
                    assert_eq!(answer.is_some(), there, "{label}");
                    assert!(there || took >= patience, "{label}: given up after {took:?}");
                }
                (Err(error), Err(why)) => assert!(error.to_string().contains(why), "{label}: {error}"),
                (got, _) => panic!("{label}: {:?}", got.map(|answer| answer.is_some())),
            }
            sender.join().unwrap();
        }
    }

    fn ed25519() -> String {
        let key = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap();
        key.to_openssh(LineEnding::LF).unwrap().to_string()
    }

    fn system(files: &[(&str, &str)]) -> Option<Keys> {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        of_system(&Root::at(dir.path()).unwrap(), "/dev/md2")
    }

    #[test]
    fn the_keys_of_a_system_are_found_also_in_a_subvolume() {
        let text = ed25519();
        for below in ["", "@/", "@rootfs/", "root/"] {
            let path = format!("{below}etc/ssh/ssh_host_ed25519_key");
            let name = format!("{below}etc/hostname");
            let keys = system(&[(&path, &text), (&name, "db1\n")]).unwrap();
            assert_eq!(keys.ed25519.as_deref(), Some(text.as_str()), "{below}");
            assert_eq!((keys.place.as_str(), keys.notes.len()), ("/dev/md2 (db1)", 0));
        }
        assert!(system(&[("etc/hostname", "data\n")]).is_none());
    }

    #[test]
    fn what_is_not_served_is_named_with_its_reason() {
        let cases = [
            ("etc/ssh/ssh_host_ed25519_key", "garbage".to_string(), "cannot be read"),
            ("etc/ssh/ssh_host_rsa_key", ed25519(), "of another type"),
        ];
        for (path, text, why) in cases {
            let keys = system(&[(path, &text)]).unwrap();
            assert!(
                keys.ed25519.is_none() && keys.rsa.is_none() && keys.notes[0].contains(why),
                "{:?}",
                keys.notes
            );
            let refused = choose(vec![keys], "").err().unwrap();
            assert!(refused.contains("/dev/md2") && refused.contains(why), "{refused}");
        }
    }

    #[test]
    fn a_link_of_the_found_system_leads_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        fs::write(&outside, ed25519()).unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("etc/ssh")).unwrap();
        std::os::unix::fs::symlink(&outside, root.join("etc/ssh/ssh_host_ed25519_key")).unwrap();
        assert!(of_system(&Root::at(&root).unwrap(), "/dev/sda1").is_none());
    }

    #[test]
    fn rsa_keys_of_old_and_new_form_are_served_and_weak_ones_not() {
        let made = |bits: &str, form: &[&str]| {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("key");
            let mut keygen = std::process::Command::new("ssh-keygen");
            keygen.args(["-q", "-t", "rsa", "-b", bits, "-N", ""]).args(form).arg("-f").arg(&path);
            keygen.status().ok().filter(|status| status.success())?;
            fs::read_to_string(path).ok()
        };
        let Some(new) = made("2048", &[]) else {
            eprintln!("SKIPPED: no ssh-keygen");
            return;
        };
        for (label, text, served) in [
            ("new", new, true),
            ("PEM", made("2048", &["-m", "PEM"]).unwrap(), true),
            ("weak", made("1024", &[]).unwrap(), false),
        ] {
            let keys = system(&[("etc/ssh/ssh_host_rsa_key", &text)]).unwrap();
            assert_eq!(
                (keys.rsa.is_some(), keys.notes.is_empty()),
                (served, served),
                "{label}: {:?}",
                keys.notes
            );
        }
    }

    #[test]
    fn two_systems_are_refused_by_name_and_two_copies_are_one() {
        let of = |place: &str, key: &str| Keys {
            place: place.into(),
            ed25519: Some(key.into()),
            rsa: None,
            notes: Vec::new(),
        };
        assert_eq!(
            choose(vec![of("/dev/sda1", "a"), of("/dev/sdb1", "a")], "").ok().unwrap().place,
            "/dev/sda1"
        );
        let refused = choose(vec![of("/dev/sda1", "a"), of("/dev/sdb1", "b")], "").err().unwrap();
        assert_eq!(refused, "several systems have host keys, on /dev/sda1 and on /dev/sdb1");
        let none = choose(Vec::new(), "; 2 locked devices were not looked into").err().unwrap();
        assert_eq!(none, "no system with host keys was found; 2 locked devices were not looked into");
    }
}
