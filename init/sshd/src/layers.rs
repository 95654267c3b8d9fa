//! Sessions that begin before the image's layers are mounted: which of them wait, and for what.
//!
//! A login is possible a second or two before bash and most programs are there. A shell waits for its bash, and a
//! command for the programs that it names; in doubt it waits. What the nucleus has goes on at once. Nothing outside the
//! tree that layers are laid on is looked at, for it may be on a file system that does not answer: only the program that
//! is started hangs in it.

use crate::program::{Facts, PATH};
use crate::settings::Settings;
use crate::wire::Program;
use anyhow::{Context, Result};
use contract::{paths, state};
use rustix::fs::inotify;
use serde::de::DeserializeOwned;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

/// Words that a shell runs itself, bash and busybox alike.
const BUILTINS: &[&str] = &[
    ":", ".", "[", "[[", "alias", "bg", "break", "case", "cd", "continue", "echo", "esac", "eval", "exit",
    "export", "false", "fg", "for", "getopts", "hash", "help", "history", "jobs", "kill", "let", "local",
    "printf", "pwd", "read", "readonly", "return", "set", "shift", "source", "test", "times", "trap", "true",
    "type", "ulimit", "umask", "unalias", "unset", "wait",
];
/// Words that a command follows.
const BEFORE: &[&str] = &[
    "!", "{", "}", "command", "do", "done", "elif", "else", "exec", "fi", "if", "then", "time", "until",
    "while",
];

/// Links into /usr.
const ON_LAYERS: &[&str] = &["/bin", "/sbin", "/lib", "/lib64"];

/// Whether something of the program is not there that a layer may bring.
pub fn lacks(program: &Program, settings: &Settings, facts: &Facts<'_>) -> bool {
    match program {
        Program::Shell => !(facts.exists)(&settings.bash),
        Program::Exec(script) => heads(&String::from_utf8_lossy(&script.0))
            .iter()
            .any(|head| !is_there(head, &settings.usr, facts)),
        Program::Subsystem(name) => name == "sftp" && !(facts.exists)(facts.sftp_server),
    }
}

fn is_there(head: &str, usr: &Path, facts: &Facts<'_>) -> bool {
    if head.contains('/') {
        let path = Path::new(head);
        if head.contains('$') || path.components().any(|part| part == Component::ParentDir) {
            return false; // who knows where it is
        }
        // Of a program that is elsewhere, below HOME for instance, a layer brings nothing.
        return !ON_LAYERS.iter().map(Path::new).chain([usr]).any(|tree| path.starts_with(tree))
            || (facts.exists)(path);
    }
    BUILTINS.contains(&head) || PATH.split(':').any(|place| (facts.exists)(&Path::new(place).join(head)))
}

/// The words of a script that stand where a command does, without their quotes. No parser of a shell: of what it
/// does not understand (here documents, patterns of `case`), some words come out that no program is called.
fn heads(script: &str) -> Vec<String> {
    let mut heads = Vec::new();
    let (mut word, mut quote, mut at_head) = (String::new(), None, true);
    let mut before = ' ';
    let mut rest = script.chars().chain(['\n']).peekable();
    while let Some(c) = rest.next() {
        let redirects = c == '&' && (matches!(before, '<' | '>') || rest.peek() == Some(&'>'));
        let ends = matches!(c, ';' | '&' | '|' | '\n' | '(' | ')' | '`') && !redirects;
        match (quote, c) {
            (Some(mark), _) if c == mark => quote = None,
            (Some('\''), _) => word.push(c),
            (_, '\\') => word.extend(rest.next().filter(|c| *c != '\n')),
            (Some(_), _) => word.push(c),
            (None, '\'' | '"') => quote = Some(c),
            (None, '#') if word.is_empty() => while rest.next_if(|c| *c != '\n').is_some() {},
            (None, _) if ends || c == ' ' || c == '\t' => {
                let word = std::mem::take(&mut word);
                if at_head && !word.is_empty() && !BEFORE.contains(&word.as_str()) && !is_assignment(&word) {
                    heads.push(word);
                    at_head = false;
                }
                at_head |= ends;
            }
            (None, _) => word.push(c),
        }
        before = c;
    }
    heads
}

fn is_assignment(word: &str) -> bool {
    let Some((name, _)) = word.split_once('=') else { return false };
    let mut letters = name.bytes();
    letters.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && letters.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Whether there will be more of them: init runs the service that mounts them, and it has not said that it is done, or
/// still fetches some.
pub fn are_coming(settings: &Settings) -> bool {
    let layers: state::Layers = read(settings, "layers");
    if layers.done && layers.coming.is_empty() {
        return false;
    }
    let init: state::Init = read(settings, "init");
    let runs = |service: &state::Service| matches!(service.state.as_str(), "running" | "backoff");
    init.services.iter().any(|service| service.name == "layers" && runs(service))
}

/// Bytes of what is being fetched that are there, and what has come by now: another number than before tells that it goes on.
pub fn progress(settings: &Settings) -> (u64, usize) {
    let layers: state::Layers = read(settings, "layers");
    (layers.coming.iter().map(|layer| layer.got).sum(), layers.mounted().count())
}

/// The default when it is not there: nobody mounts anything then.
fn read<T: DeserializeOwned + Default>(settings: &Settings, name: &str) -> T {
    let text = std::fs::read(settings.path(&paths::state(name))).ok();
    text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

/// Readable when a state file was replaced.
pub fn watch(settings: &Settings) -> Result<OwnedFd> {
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    let states = settings.path(paths::STATE);
    inotify::add_watch(&watch, &states, inotify::WatchFlags::MOVED_TO)
        .with_context(|| format!("watch {}", states.display()))?;
    Ok(watch)
}

/// Takes what it told: which file it was does not matter.
pub fn drain(watch: &OwnedFd) {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(watch.as_fd(), &mut buffer);
    while reader.next().is_ok() {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Blob;

    #[test]
    fn every_word_in_the_place_of_a_command_is_found() {
        let cases: &[(&str, &[&str])] = &[
            ("mdadm --examine /dev/sda", &["mdadm"]),
            ("  LC_ALL=C A='b c' \\mdadm", &["mdadm"]),
            (
                "cd /mnt && 'tar' c . | zstd -1 2>&1 &>/dev/null; echo \"a; b\" # c; d",
                &["cd", "tar", "zstd", "echo"],
            ),
            ("if ! mdadm -Q x; then exec \"/bin/l\"s; fi &", &["mdadm", "/bin/ls"]),
            ("(a; b)\nfor x in 1 2; do c $x $(d `e`); done", &["a", "b", "for", "c", "d", "e"]),
            ("$EDITOR x", &["$EDITOR"]),
            ("a=$(b)", &["b"]),
            ("", &[]),
            ("'unended", &[]),
        ];
        for (script, want) in cases {
            assert_eq!(heads(script), *want, "{script:?}");
        }
    }

    #[test]
    fn what_the_nucleus_has_waits_for_no_layer() {
        let exec = |script: &str| Program::Exec(Blob(script.as_bytes().to_vec()));
        let sftp = Program::Subsystem("sftp".to_string());
        let cases = [
            (exec("true"), false),
            (exec("cat /proc/mounts"), false),
            (exec("/usr/bin/cat x; ./here"), false),
            (exec("/bin/cat x"), true),
            (exec("cat x | mdadm --examine /dev/sda"), true),
            (exec("/usr/bin/mdadm"), true),
            (exec("/mnt/../usr/bin/cat"), true),
            (exec("$D/x"), true),
            // Asked for nowhere: neither is a layer's.
            (exec("~/x; /mnt/dead/x"), false),
            (Program::Shell, true),
            (sftp.clone(), true),
            (Program::Subsystem("netconf".to_string()), false),
        ];
        let settings = Settings { bash: "/bin/bash".into(), ..Settings::default() };
        let lacks = |program: &Program, files: &[&str]| {
            let exists = |path: &Path| {
                let own = ["/usr", "/bin", "/sbin"].iter().any(|own| path.starts_with(own));
                assert!(own, "{} may be on a file system that does not answer", path.display());
                files.iter().any(|file| Path::new(file) == path)
            };
            let facts = Facts {
                exists: &exists,
                sftp_server: Path::new("/usr/lib/sftp-server"),
                peer: "192.0.2.1:1234".parse().unwrap(),
                local: "192.0.2.2:22".parse().unwrap(),
                agent: None,
            };
            super::lacks(program, &settings, &facts)
        };
        for (program, want) in cases {
            assert_eq!(lacks(&program, &["/usr/bin/cat"]), want, "{program:?}");
        }
        assert!(!lacks(&Program::Shell, &["/bin/bash"]) && !lacks(&sftp, &["/usr/lib/sftp-server"]));
    }

    #[test]
    fn layers_come_while_init_runs_their_service_and_until_they_say_so() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings { prefix: dir.path().to_path_buf(), ..Settings::default() };
        std::fs::create_dir_all(settings.path(paths::STATE)).unwrap();
        assert!(!are_coming(&settings), "nobody mounts any");
        for (state, done, want) in [
            ("running", false, true),
            ("backoff", false, true),
            ("failed", false, false),
            ("running", true, false),
            ("done", true, false),
        ] {
            let service =
                state::Service { name: "layers".to_string(), state: state.to_string(), ..Default::default() };
            let init = state::Init { services: vec![service], ..Default::default() };
            let layers = state::Layers { done, ..Default::default() };
            std::fs::write(settings.path(&paths::state("init")), serde_json::to_vec(&init).unwrap()).unwrap();
            std::fs::write(settings.path(&paths::state("layers")), serde_json::to_vec(&layers).unwrap())
                .unwrap();
            assert_eq!(are_coming(&settings), want, "{state}, done: {done}");
        }
        let init = state::Init {
            services: vec![state::Service {
                name: "layers".to_string(),
                state: "running".to_string(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let late = state::Layers { done: true, coming: vec![state::Coming::default()], ..Default::default() };
        std::fs::write(settings.path(&paths::state("init")), serde_json::to_vec(&init).unwrap()).unwrap();
        std::fs::write(settings.path(&paths::state("layers")), serde_json::to_vec(&late).unwrap()).unwrap();
        assert!(are_coming(&settings), "one is on its way, though nobody waits for it any more");
    }
}
