//! `rescue session`: the kept session, which is tmux's. Here is only what a person should not have to know: its name,
//! whether there is one, and what to do where tmux or a terminal is missing.

use crate::report::{Answer, HandOver, Output};
use crate::tool::{Context, verb};
use anyhow::{bail, ensure};
use contract::{exit, paths, state};
use host::Root;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Goes into a session that outlives the connection: what runs in it goes on when the line drops, and the
/// same command from anywhere comes back to it. Two who are in it see and type the same. Ctrl-B d
/// leaves it, exit ends it; Ctrl-B [ scrolls back.
///
/// It is tmux's, named rescue, so tmux attach -t rescue works too.
///
///     $ ssh -t root@host rescue session
///     $ ssh -t root@host rescue session --watch
#[derive(clap::Parser)]
#[command(name = "rescue session", disable_version_flag = true, verbatim_doc_comment)]
struct Args {
    /// Only look: what is typed goes nowhere
    #[arg(long, conflicts_with = "list")]
    watch: bool,
    /// List the sessions, and who is in them
    #[arg(long)]
    list: bool,
    /// Another session than the usual one
    #[arg(value_name = "NAME", default_value = "rescue")]
    name: String,
}

const TMUX: &str = "/usr/bin/tmux";
/// Its layer comes a second or two after the first login.
const PATIENCE: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(100);
/// Lines kept for scrolling back; tmux's own 2,000 are less than what one fsck says.
const HISTORY: &str = "50000";

pub fn run(context: &Context, arguments: &[OsString]) -> anyhow::Result<Answer> {
    let args: Args = match verb(context, arguments)? {
        Ok(args) => args,
        Err(answer) => return Ok(answer),
    };
    let words = words(context, &args)?;
    ensure!(is_there(&context.root), "{TMUX} is not there: see rescue status for the layers");
    let arguments = words.into_iter().map(OsString::from).collect();
    let output = Output::HandOver(HandOver { program: PathBuf::from(TMUX), arguments });
    Ok(Answer { output, exit: exit::TROUBLE })
}

/// What tmux is told.
fn words(context: &Context, args: &Args) -> anyhow::Result<Vec<String>> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let name = &args.name;
    if name.is_empty() || name.len() > 32 || name.starts_with('-') || !name.chars().all(is_plain) {
        bail!("{}: a name has letters, digits, - and _, 32 at most", name.escape_debug());
    }
    let mut words: Vec<&str> = Vec::new();
    if args.list {
        words.push("list-clients");
        words.extend([
            "-F",
            "#{session_name}: #{client_tty}, #{client_width}x#{client_height}, since #{t:client_created}",
        ]);
        return Ok(words.into_iter().map(String::from).collect());
    }
    if context.environment.contains_key("TMUX".as_ref() as &std::ffi::OsStr) {
        bail!(
            "this is inside of tmux already: Ctrl-B d leaves it, tmux switch-client -t {name} goes to another"
        );
    }
    ensure!(context.terminal.interactive, "it needs a terminal: ssh -t root@HOST rescue session");
    if context.terminal.utf8 {
        words.push("-u");
    }
    let target = format!("={name}");
    if args.watch {
        words.extend(["attach-session", "-r", "-t", &target]);
    } else {
        words.extend(["start-server", ";", "set-option", "-g", "history-limit", HISTORY, ";"]);
        words.extend(["new-session", "-A", "-s", name]);
    }
    Ok(words.into_iter().map(String::from).collect())
}

/// Waits for the layers while they are coming.
fn is_there(root: &Root) -> bool {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let state = root.read(paths::state("layers")).unwrap_or_default();
        let layers: state::Layers = serde_json::from_slice(&state).unwrap_or_default();
        // Looked for after that was read.
        let there = Path::new(TMUX).exists();
        if there || layers.done || Instant::now() >= deadline {
            return there;
        }
        std::thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool::Terminal;
    use clap::Parser as _;

    fn told(line: &str, inside: bool, interactive: bool) -> anyhow::Result<String> {
        let args = Args::try_parse_from(std::iter::once("session").chain(line.split_whitespace())).unwrap();
        let environment = inside.then(|| ("TMUX".into(), "x".into())).into_iter().collect();
        let terminal = Terminal { interactive, columns: None, colour: false, utf8: true };
        let root = Root::at(Path::new("/")).unwrap();
        let context = Context { name: "session", verb: true, root, environment, terminal, beat: None };
        words(&context, &args).map(|words| words.join(" "))
    }

    #[test]
    fn whoever_asks_comes_into_the_one_session_and_a_watcher_types_nothing() {
        let told = |line: &str| told(line, false, true).unwrap();
        assert!(told("").starts_with("-u start-server ") && told("").ends_with("new-session -A -s rescue"));
        assert!(told("db_1").ends_with("new-session -A -s db_1"));
        assert_eq!(told("--watch"), "-u attach-session -r -t =rescue");
        assert!(told("--list").starts_with("list-clients"));
    }

    #[test]
    fn what_would_go_wrong_inside_of_tmux_is_said_before() {
        for (line, inside, interactive, why) in [
            ("", true, true, "inside of tmux already"),
            ("", false, false, "ssh -t"),
            ("a:b", false, true, "a name has"),
            ("a;kill-server", false, true, "a name has"),
        ] {
            let error = told(line, inside, interactive).unwrap_err().to_string();
            assert!(error.contains(why), "{line}: {error}");
        }
    }
}
