//! What a request of a client becomes: program, arguments, environment. Pure, but for the questions
//! that a `Facts` answers.

use crate::options::Grant;
use crate::wire::{Blob, MAX_COMMAND, Program};
use contract::cmdline::{self, Word};
use host::shell::Shell;
use std::borrow::Cow;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
pub const HOME: &str = "/root";
/// A terminal that every library of today knows, for those whose description is not in the image.
const KNOWN_TERMINAL: &str = "xterm-256color";
/// Most variables of a client, and most bytes of one value.
pub const MAX_VARIABLES: usize = 64;
pub const MAX_VALUE: usize = 4096;

/// What is asked about the machine.
pub struct Facts<'a> {
    pub exists: &'a dyn Fn(&Path) -> bool,
    pub sftp_server: &'a Path,
    pub peer: SocketAddr,
    pub local: SocketAddr,
    /// The socket of the client's agent, where it was lent.
    pub agent: Option<&'a Path>,
}

#[derive(Debug, PartialEq)]
pub struct Command {
    pub argv: Vec<OsString>,
    /// What the program is told as its name.
    pub arg0: OsString,
    /// It is the shell's to run: another shell may do it.
    pub by_shell: bool,
    pub environment: Vec<(OsString, OsString)>,
    pub directory: PathBuf,
}

/// `terminal` is the device and the client's TERM. The error is for the log and the client.
pub fn command(
    program: &Program,
    shell: &Shell,
    terminal: Option<(&str, &str)>,
    variables: &[(String, String)],
    grant: &Grant,
    facts: &Facts<'_>,
) -> Result<Command, String> {
    // What stands before the key is the administrator's, and comes last.
    let variables: Vec<_> = variables
        .iter()
        .filter(|(name, _)| grant.command.is_none() || is_harmless(name))
        .filter(|(name, _)| grant.environment.iter().all(|(known, _)| known != name))
        .chain(&grant.environment)
        // The terminal's own name comes with it.
        .filter(|(name, _)| terminal.is_none() || name != "TERM")
        .cloned()
        .collect();
    let mut environment = environment(&shell.variable, terminal, &variables, facts);
    if grant.command.is_some()
        && let Some(asked) = asked(program, facts)
    {
        environment.push(("SSH_ORIGINAL_COMMAND".into(), asked));
    }
    let program = granted(program, grant);
    let (mut argv, arg0) = match &*program {
        Program::Shell => (vec![shell.program.clone().into()], shell.as_login()),
        Program::Exec(command) => {
            if command.0.contains(&0) {
                return Err("the command has a NUL byte in it".to_string());
            }
            if command.0.len() > MAX_COMMAND {
                return Err("the command is longer than 128 KiB".to_string());
            }
            let script = OsString::from_vec(command.0.clone());
            (vec![shell.program.clone().into(), "-c".into(), script], shell.name.into())
        }
        Program::Subsystem(subsystem) if subsystem == "sftp" => {
            let server = facts.sftp_server;
            if !(facts.exists)(server) {
                return Err(format!("{} is not there: is its layer mounted?", server.display()));
            }
            (vec![server.into()], server.into())
        }
        Program::Subsystem(other) => return Err(format!("no subsystem {}", other.escape_debug())),
    };
    let options = grant.command.as_deref().and_then(internal_sftp).unwrap_or_default();
    argv.extend(options.split_ascii_whitespace().map(OsString::from));
    Ok(Command {
        argv,
        arg0,
        by_shell: !matches!(*program, Program::Subsystem(_)),
        environment,
        // With its dot, it is there only for those who may enter.
        directory: PathBuf::from(if (facts.exists)(Path::new("/root/.")) { HOME } else { "/" }),
    })
}

/// Of `rescue.session=keep`. Where there is no session to be had, it is a login shell as ever.
const KEPT: &str = "/lifeboat/bin/rescue session || exec \"$SHELL\" -l";

/// A shell on a terminal, where such are kept, is one in the kept session. A command that stands before the key is
/// run as it is.
pub fn kept(program: Program, terminal: bool, grant: &Grant, words: &[Word]) -> Program {
    let keeps = cmdline::last(words, "rescue.session") == Some("keep");
    match program {
        Program::Shell if terminal && keeps && grant.command.is_none() => {
            Program::Exec(Blob(KEPT.as_bytes().to_vec()))
        }
        other => other,
    }
}

/// What is run: what was asked for, or what stands before the key.
pub fn granted<'a>(program: &'a Program, grant: &Grant) -> Cow<'a, Program> {
    match grant.command.as_deref() {
        None => Cow::Borrowed(program),
        Some(command) if internal_sftp(command).is_some() => {
            Cow::Owned(Program::Subsystem("sftp".to_string()))
        }
        Some(command) => Cow::Owned(Program::Exec(Blob(command.as_bytes().to_vec()))),
    }
}

/// OpenSSH's word for its own server (sshd_config(5), ForceCommand), which may have options of sftp-server(8) behind it.
fn internal_sftp(command: &str) -> Option<&str> {
    let options = command.strip_prefix("internal-sftp")?;
    (options.is_empty() || options.starts_with([' ', '\t'])).then_some(options)
}

/// What a client would have run, for a command that was forced upon it.
fn asked(program: &Program, facts: &Facts<'_>) -> Option<OsString> {
    match program {
        Program::Shell => None,
        // A NUL would end it, and then a command could look like another.
        Program::Exec(command) if command.0.contains(&0) => None,
        Program::Exec(command) => Some(OsString::from_vec(command.0.clone())),
        Program::Subsystem(name) if name == "sftp" => Some(facts.sftp_server.into()),
        Program::Subsystem(name) => Some(name.replace('\0', "").into()),
    }
}

fn environment(
    shell: &Path,
    terminal: Option<(&str, &str)>,
    variables: &[(String, String)],
    facts: &Facts<'_>,
) -> Vec<(OsString, OsString)> {
    let (peer, local) = (facts.peer, facts.local);
    let connection = format!("{} {} {} {}", peer.ip(), peer.port(), local.ip(), local.port());
    let client = format!("{} {} {}", peer.ip(), peer.port(), local.port());
    let mut environment: Vec<(OsString, OsString)> = variables
        .iter()
        .filter(|(name, value)| is_accepted(name) && !value.contains('\0'))
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    let ours = [
        ("PATH", PATH.into()),
        ("HOME", HOME.into()),
        ("USER", "root".into()),
        ("LOGNAME", "root".into()),
        ("SHELL", shell.into()),
        ("SSH_CONNECTION", connection.into()),
        ("SSH_CLIENT", client.into()),
    ];
    environment.extend(ours.into_iter().map(|(name, value): (&str, OsString)| (name.into(), value)));
    if let Some(agent) = facts.agent {
        environment.push(("SSH_AUTH_SOCK".into(), agent.into()));
    }
    if let Some((device, wanted)) = terminal {
        environment.push(("SSH_TTY".into(), device.into()));
        environment.push(("TERM".into(), known_terminal(wanted, facts).into()));
    }
    environment
}

/// What a client may set: the language, as every distribution's sshd_config lets through, what
/// programs do with a terminal, and the time zone to show.
pub fn is_accepted(name: &str) -> bool {
    is_plain(name) && (is_harmless(name) || matches!(name, "EDITOR" | "VISUAL" | "PAGER"))
}

/// Not even a command that was forced upon somebody runs another program because of these.
fn is_harmless(name: &str) -> bool {
    matches!(name, "LANG" | "LANGUAGE" | "TERM" | "COLORTERM" | "NO_COLOR" | "TZ") || name.starts_with("LC_")
}

fn is_plain(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// The client's terminal if the image has its description, as ncurses looks for it.
fn known_terminal<'a>(wanted: &'a str, facts: &Facts<'_>) -> &'a str {
    let described = |name: &str| {
        let Some(first) = name.chars().next() else { return false };
        ["/etc/terminfo", "/lib/terminfo", "/usr/share/terminfo"]
            .iter()
            .any(|directory| (facts.exists)(Path::new(&format!("{directory}/{first}/{name}"))))
    };
    let plain = wanted.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+-".contains(&b));
    if plain && !wanted.starts_with('.') && wanted.len() <= 64 && described(wanted) {
        wanted
    } else {
        KNOWN_TERMINAL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with<T>(files: &[&str], run: impl FnOnce(&Facts<'_>) -> T) -> T {
        let exists = |path: &Path| files.iter().any(|file| Path::new(file) == path);
        run(&Facts {
            exists: &exists,
            sftp_server: Path::new("/sftp-server"),
            peer: "192.0.2.1:1234".parse().unwrap(),
            local: "192.0.2.2:22".parse().unwrap(),
            agent: None,
        })
    }

    #[test]
    fn only_a_shell_on_a_terminal_is_kept_and_only_where_that_is_asked_for() {
        let words = |line: &str| cmdline::words(line);
        let forced = Grant { command: Some("backup".to_string()), ..Grant::default() };
        let exec = || Program::Exec(Blob(b"ls".to_vec()));
        let cases = [
            (Program::Shell, true, Grant::default(), "rescue.session=keep", true),
            (Program::Shell, true, Grant::default(), "quiet", false),
            (Program::Shell, false, Grant::default(), "rescue.session=keep", false),
            (Program::Shell, true, forced, "rescue.session=keep", false),
            (exec(), true, Grant::default(), "rescue.session=keep", false),
        ];
        for (program, terminal, grant, line, want) in cases {
            let got = kept(program.clone(), terminal, &grant, &words(line));
            assert_eq!(got != program, want, "{program:?} {terminal} {line}");
        }
    }

    fn bash() -> Shell {
        Shell::bash(Path::new("/bin/bash"))
    }

    fn exec(command: &[u8]) -> Program {
        Program::Exec(Blob(command.to_vec()))
    }

    #[test]
    fn a_login_shell_knows_that_it_is_one() {
        let run = |shell: &Shell, files: &[&str]| {
            with(files, |f| command(&Program::Shell, shell, None, &[], &Grant::default(), f)).unwrap()
        };
        let got = run(&bash(), &["/root/."]);
        assert_eq!((got.argv, got.arg0), (vec!["/bin/bash".into()], "-bash".into()));
        assert_eq!(got.directory, Path::new("/root"));
        let got = run(&Shell::busybox(Path::new("/b/busybox")), &[]);
        assert_eq!((got.argv, got.arg0), (vec!["/b/busybox".into()], "-sh".into()));
        assert!(
            got.environment.contains(&("SHELL".into(), "/bin/sh".into())),
            "busybox's own path starts none"
        );
        assert_eq!(got.directory, Path::new("/"), "no /root is no reason to fail");
    }

    #[test]
    fn a_command_is_the_shell_s_and_its_bytes_are_kept() {
        for (shell, program, name) in
            [(bash(), "/bin/bash", "bash"), (Shell::busybox(Path::new("/b/busybox")), "/b/busybox", "sh")]
        {
            let got = with(&[], |f| command(&exec(b"echo \xff"), &shell, None, &[], &Grant::default(), f));
            let got = got.unwrap();
            assert_eq!(got.argv, [program.into(), "-c".into(), OsString::from_vec(b"echo \xff".to_vec())]);
            assert_eq!((got.arg0, got.by_shell), (name.into(), true));
        }
    }

    #[test]
    fn what_cannot_be_started_says_why() {
        let cases: &[(&str, Program)] = &[
            ("NUL byte", exec(b"a\0b")),
            ("longer than 128 KiB", exec(&vec![b'x'; MAX_COMMAND + 1])),
            ("/sftp-server is not there", Program::Subsystem("sftp".to_string())),
            ("no subsystem netconf", Program::Subsystem("netconf".to_string())),
        ];
        for (want, program) in cases {
            let error =
                with(&[], |f| command(program, &bash(), None, &[], &Grant::default(), f)).unwrap_err();
            assert!(error.contains(want), "{error}");
        }
    }

    #[test]
    fn a_client_sets_its_language_and_editor_and_nothing_else() {
        let given = [
            ("LC_ALL", "C"),
            ("LANG", "de_DE.UTF-8"),
            ("EDITOR", "nano"),
            ("TERM", "vt100"),
            ("LD_PRELOAD", "x"),
            ("PATH", "x"),
            ("LC_A B", "x"),
        ];
        let given = given.map(|(name, value)| (name.to_string(), value.to_string()));
        let run = |terminal, grant: &Grant| {
            with(&[], |f| command(&Program::Shell, &bash(), terminal, &given, grant, f)).unwrap().environment
        };
        let forced = Grant {
            command: Some("x".to_string()),
            environment: vec![("LANG".to_string(), "C".to_string())],
            ..Grant::default()
        };
        let got = run(Some(("/dev/pts/0", "xterm")), &forced);
        let values = |name: &str| -> Vec<_> {
            got.iter().filter(|(n, _)| n == name).map(|(_, v)| v.to_str().unwrap()).collect()
        };
        assert_eq!(values("EDITOR"), [""; 0], "a forced command runs no other");
        assert_eq!(values("LANG"), ["C"], "the key's line wins");
        assert_eq!(values("TERM"), [KNOWN_TERMINAL], "the terminal has a name of its own");
        let got = run(None, &Grant::default());
        let get = |name: &str| {
            let values: Vec<_> =
                got.iter().filter(|(n, _)| n == name).map(|(_, v)| v.to_str().unwrap()).collect();
            assert!(values.len() <= 1, "{name} twice");
            values.first().copied()
        };
        assert_eq!((get("LC_ALL"), get("LANG")), (Some("C"), Some("de_DE.UTF-8")));
        assert_eq!((get("LD_PRELOAD"), get("LC_A B"), get("PATH")), (None, None, Some(PATH)));
        assert_eq!(get("SSH_CONNECTION"), Some("192.0.2.1 1234 192.0.2.2 22"));
        assert_eq!((get("TERM"), get("EDITOR")), (Some("vt100"), Some("nano")));
    }

    #[test]
    fn a_terminal_without_a_description_becomes_one_that_is_known() {
        let cases = [
            ("tmux-256color", "tmux-256color"),
            ("xterm-kitty", KNOWN_TERMINAL),
            ("../../etc/passwd", KNOWN_TERMINAL),
            ("", KNOWN_TERMINAL),
        ];
        for (wanted, want) in cases {
            let got =
                with(&["/usr/share/terminfo/t/tmux-256color"], |f| known_terminal(wanted, f).to_string());
            assert_eq!(got, want, "TERM {wanted}");
        }
    }

    #[test]
    fn a_forced_command_runs_instead_and_is_told_what_was_asked() {
        let grant = Grant { command: Some("backup".to_string()), ..Grant::default() };
        let cases = [
            (exec(b"rm -rf /"), Some("rm -rf /")),
            (Program::Shell, None),
            (Program::Subsystem("sftp".to_string()), Some("/sftp-server")),
        ];
        for (program, asked) in cases {
            let got = with(&[], |f| command(&program, &bash(), None, &[], &grant, f)).unwrap();
            assert_eq!(got.argv, ["/bin/bash", "-c", "backup"]);
            let told = got.environment.iter().find(|(name, _)| name == "SSH_ORIGINAL_COMMAND");
            assert_eq!(told.map(|(_, value)| value.to_str().unwrap()), asked);
        }
        let forced = |line: &str| {
            let grant = Grant { command: Some(line.to_string()), ..Grant::default() };
            with(&["/sftp-server"], |f| command(&exec(b"id"), &bash(), None, &[], &grant, f)).unwrap()
        };
        let cases: &[(&str, &[&str], bool)] = &[
            ("internal-sftp", &["/sftp-server"], false),
            ("internal-sftp -R -d /mnt", &["/sftp-server", "-R", "-d", "/mnt"], false),
            ("internal-sftp2", &["/bin/bash", "-c", "internal-sftp2"], true),
        ];
        for (line, argv, by_shell) in cases {
            let got = forced(line);
            assert!(got.argv.iter().eq(argv.iter()), "{line}: {:?}", got.argv);
            assert_eq!(got.by_shell, *by_shell, "{line}");
        }
    }
}
