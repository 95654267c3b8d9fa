//! The table of tools, and what each of them is given. Names and help are in `contract::tools`, which the image
//! builder reads too; here each gets its function.

use crate::cmd;
use crate::report::{self, Answer, Output, notice};
use anyhow::Context as _;
use contract::near::distance;
use contract::tools::{TOOLS, Tool};
use host::Root;
use host::apart::Beat;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

/// What a tool does: its arguments, without its name, to an answer.
pub type Run = fn(&Context, &[OsString]) -> anyhow::Result<Answer>;

/// Sorted by name; each is in TOOLS.
const ROWS: &[(&str, Run)] = &[
    ("add", cmd::add::run),
    ("assemble", cmd::assemble::run),
    ("blkid", cmd::blkid::run),
    ("capture", cmd::capture::run),
    ("close", cmd::open::close),
    ("fdisk", cmd::fdisk::run),
    ("fsck", cmd::fsck::run),
    ("lsblk", cmd::lsblk::run),
    ("mount", cmd::mount::run),
    ("net", cmd::net::run),
    ("open", cmd::open::open),
    ("overlay", cmd::overlay::run),
    ("protect", cmd::writable::protect),
    ("session", cmd::session::run),
    ("status", cmd::status::run),
    ("swapon", cmd::swapon::run),
    ("umount", cmd::umount::run),
    ("undo", cmd::undo::run),
    ("worker", cmd::worker::run),
    ("writable", cmd::writable::run),
];

/// Everything of the world that a tool may look at, so that a test can give it another one.
#[derive(Clone, Debug)]
pub struct Context {
    /// The name it was called by.
    pub name: &'static str,
    /// As `rescue NAME`: a verb, which looks before it touches.
    pub verb: bool,
    /// The machine it looks at.
    pub root: Root,
    pub environment: BTreeMap<OsString, OsString>,
    pub terminal: Terminal,
    /// In a copy that works for the tool (`apart`), and so may read devices itself.
    pub beat: Option<Beat>,
}

/// The person's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// Stdout is one.
    pub interactive: bool,
    /// Its width, where known.
    pub columns: Option<usize>,
    pub colour: bool,
    /// The locale's characters are UTF-8.
    pub utf8: bool,
}

impl Context {
    /// Of this process, on the running machine.
    pub fn live(name: &'static str, verb: bool) -> anyhow::Result<Context> {
        let environment: BTreeMap<_, _> = std::env::vars_os().collect();
        let root = Root::live().context("open /")?;
        let terminal = Terminal::of(&environment);
        Ok(Context { name, verb, root, environment, terminal, beat: None })
    }
}

impl Context {
    /// The same for the machine captured in a directory, where one is given.
    pub fn at(&self, sysroot: Option<&Path>) -> anyhow::Result<Context> {
        let Some(path) = sysroot else { return Ok(self.clone()) };
        let root = Root::at(path).with_context(|| format!("open {}", path.display()))?;
        Ok(Context { root, ..self.clone() })
    }
}

impl Terminal {
    fn of(environment: &BTreeMap<OsString, OsString>) -> Terminal {
        let interactive = std::io::stdout().is_terminal();
        let text = |name: &str| environment.get(OsStr::new(name)).and_then(|value| value.to_str());
        let filled = |name: &str| text(name).filter(|value| !value.is_empty());
        // As setlocale(3) chooses LC_CTYPE.
        let locale = filled("LC_ALL").or(filled("LC_CTYPE")).or(filled("LANG")).unwrap_or("C");
        let charset = locale.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
        Terminal {
            interactive,
            columns: filled("COLUMNS").and_then(|n| n.parse().ok()).or_else(host::sys::tty::columns),
            // https://no-color.org
            colour: interactive
                && filled("NO_COLOR").is_none()
                && filled("TERM").is_some_and(|t| t != "dumb"),
            utf8: charset.replace('-', "") == "utf8",
        }
    }
}

/// Does a tool's work on the running machine in a copy of this process, which may read devices itself, and answers
/// what it printed. Where that does not get on, or has to be handed over, it is done here. `named`: all that it looks
/// at, or nothing for the whole machine; image files alone are no reason for a copy.
pub fn apart(
    context: &Context,
    named: &[PathBuf],
    work: impl Fn(&Context) -> anyhow::Result<Answer>,
) -> anyhow::Result<Answer> {
    let are_images = !named.is_empty() && named.iter().all(|path| path.is_file());
    if !context.root.is_live() || are_images {
        return work(context);
    }
    let there = |beat: Beat| {
        let answer = work(&Context { beat: Some(beat), ..context.clone() });
        if matches!(answer, Ok(Answer { output: Output::HandOver(_), .. })) {
            return None;
        }
        beat.answered();
        Some(report::ended(context.name, answer))
    };
    match host::apart::run(context.root.directory(), there) {
        Ok(Some(exit)) => Ok(Answer::exit(exit)),
        Ok(None) => work(context),
        Err(error) => {
            notice(context.name, &format!("write to standard output: {error}"));
            Ok(Answer::exit(contract::exit::TROUBLE))
        }
    }
}

/// The arguments of a classic name, or the answer to give instead: its help, or, for whatever ours does not
/// understand, the original.
pub fn classic<A: clap::Parser>(context: &Context, arguments: &[OsString]) -> Result<A, Answer> {
    parse(context.name, arguments).map_err(|error| match error.kind() {
        clap::error::ErrorKind::DisplayHelp => Answer::text(error.to_string(), contract::exit::YES),
        _ => Answer::classic(context.name, arguments),
    })
}

/// The arguments of a verb of ours, or its help or what is wrong with them.
pub fn verb<A: clap::Parser>(context: &Context, arguments: &[OsString]) -> anyhow::Result<Result<A, Answer>> {
    match parse(&format!("rescue {}", context.name), arguments) {
        Ok(args) => Ok(Ok(args)),
        Err(error) if error.kind() == clap::error::ErrorKind::DisplayHelp => {
            Ok(Err(Answer::text(error.to_string(), contract::exit::YES)))
        }
        Err(error) => anyhow::bail!("{} (rescue {} --help)", refusal(&error.to_string()), context.name),
    }
}

/// Its first lines name the arguments; the rest is the usage, which --help shows.
fn refusal(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    lines.join(" ").trim_start_matches("error: ").to_string()
}

fn parse<A: clap::Parser>(called: &str, arguments: &[OsString]) -> Result<A, clap::Error> {
    let called = OsString::from(called);
    A::try_parse_from(std::iter::once(&called).chain(arguments))
}

/// One call, understood.
pub struct Call {
    pub name: &'static str,
    pub verb: bool,
    pub run: Run,
    pub arguments: Vec<OsString>,
}

/// Which tool an argv means.
pub fn call(argv: Vec<OsString>) -> Result<Call, Unknown> {
    let mut arguments = argv.into_iter();
    let called = arguments.next().unwrap_or_default();
    let base = Path::new(&called).file_name().unwrap_or_default();
    let mut verb = true;
    let name = match base.to_str().and_then(find) {
        Some(tool) => {
            verb = false;
            tool.name
        }
        None => match arguments.next() {
            None => return Ok(Call { name: "rescue", verb, run: overview, arguments: Vec::new() }),
            Some(word) if ["help", "-h", "--help", "-V", "--version"].iter().any(|w| word == *w) => {
                let mut rest: Vec<OsString> = arguments.collect();
                // `rescue help status` is `rescue status --help`.
                if let (true, [verb]) = (word == "help", rest.as_slice())
                    && let Some(tool) = verb.to_str().and_then(find)
                {
                    return row(tool.name, true, vec!["--help".into()]);
                }
                rest.insert(0, word);
                return Ok(Call { name: "rescue", verb, run: overview, arguments: rest });
            }
            Some(word) => match word.to_str().and_then(find) {
                Some(tool) => tool.name,
                None => return Err(Unknown::word(&word)),
            },
        },
    };
    row(name, verb, arguments.collect())
}

fn row(name: &'static str, verb: bool, arguments: Vec<OsString>) -> Result<Call, Unknown> {
    match ROWS.iter().find(|(known, _)| *known == name) {
        Some((_, run)) => Ok(Call { name, verb, run: *run, arguments }),
        None if find(name).is_some_and(|tool| tool.classic) => Ok(Call {
            name,
            verb,
            run: |context, arguments| Ok(Answer::classic(context.name, arguments)),
            arguments,
        }),
        None => Err(Unknown::NotBuilt(name)),
    }
}

fn find(name: &str) -> Option<&'static Tool> {
    TOOLS.iter().find(|tool| tool.name == name)
}

/// What people type for verbs of other names.
const SYNONYMS: &[(&str, &str)] =
    &[("activate", "assemble"), ("decrypt", "open"), ("lock", "close"), ("unlock", "open")];

/// A word that is no tool.
#[derive(Debug, PartialEq, Eq)]
pub enum Unknown {
    Word {
        word: String,
        nearest: Option<&'static str>,
    },
    /// Its name is settled and its function is not written yet.
    NotBuilt(&'static str),
}

impl Unknown {
    fn word(word: &OsStr) -> Unknown {
        let word = word.to_string_lossy().into_owned();
        let meant = SYNONYMS.iter().find(|(other, _)| *other == word).map(|(_, name)| *name);
        if meant.is_some() {
            return Unknown::Word { word, nearest: meant };
        }
        let near = TOOLS.iter().map(|tool| (distance(&word, tool.name), tool.name)).min();
        // Half of the word may be wrong; beyond that a suggestion is a guess.
        let nearest = near.filter(|(d, _)| *d <= (word.chars().count() / 2).min(3)).map(|(_, name)| name);
        Unknown::Word { word, nearest }
    }
}

impl std::fmt::Display for Unknown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Unknown::Word { word, nearest: Some(nearest) } => {
                write!(f, "no verb {}: did you mean rescue {nearest}?", word.escape_debug())
            }
            Unknown::Word { word, nearest: None } => {
                write!(f, "no verb {}: rescue --help lists them", word.escape_debug())
            }
            Unknown::NotBuilt(name) => write!(f, "{name} is not in this build"),
        }
    }
}

impl std::error::Error for Unknown {}

/// `rescue` alone, and `rescue --help`: the verbs, and what to type first.
fn overview(context: &Context, arguments: &[OsString]) -> anyhow::Result<Answer> {
    let version = context.root.line(contract::paths::VERSION).unwrap_or_else(|| "of no image".to_string());
    if arguments.first().is_some_and(|word| word == "-V" || word == "--version") {
        return Ok(Answer::text(format!("rescue {version}\n"), contract::exit::YES));
    }
    let mut text = "Usage: rescue VERB [ARGUMENTS], and rescue VERB --help\n\n".to_string();
    for tool in TOOLS.iter().filter(|tool| row(tool.name, true, Vec::new()).is_ok() && tool.name != "worker")
    {
        text.push_str(&format!("  {:<10} {}\n", tool.name, tool.help));
    }
    text.push_str("\nStart with: rescue status\n");
    Ok(Answer::text(text, if arguments.is_empty() { contract::exit::TROUBLE } else { contract::exit::YES }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown(words: &[&str]) -> Option<Unknown> {
        call(words.iter().map(OsString::from).collect()).err()
    }

    #[test]
    fn rows_are_sorted_and_each_is_a_tool() {
        assert!(ROWS.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(TOOLS.windows(2).all(|pair| pair[0].name < pair[1].name));
        assert!(ROWS.iter().all(|(name, _)| find(name).is_some()));
    }

    #[test]
    fn a_refusal_names_what_is_missing_and_what_may_stand_there() {
        for (text, want) in [
            (
                "error: the following required arguments were not provided:\n  <PARAMETER>...\n\nUsage: x\n",
                "the following required arguments were not provided: <PARAMETER>...",
            ),
            (
                "error: invalid value 'x' for '--as <AS>'\n  [possible values: a, b]\n\nFor more\n",
                "invalid value 'x' for '--as <AS>' [possible values: a, b]",
            ),
            ("error: unexpected argument '-x' found\n\nUsage: x\n", "unexpected argument '-x' found"),
        ] {
            assert_eq!(refusal(text), want);
        }
    }

    #[test]
    fn an_unknown_verb_is_answered_with_the_nearest() {
        let nearest = |word: &str| match unknown(&["rescue", word]) {
            Some(Unknown::Word { nearest, .. }) => nearest,
            _ => None,
        };
        assert_eq!(nearest("stats"), Some("status"));
        assert_eq!(nearest("asemble"), Some("assemble"));
        assert_eq!(nearest("xyzzy"), None);
    }

    #[test]
    fn a_classic_name_and_the_verb_of_that_name_are_told_apart() {
        let verb = |words: &[&str]| call(words.iter().map(OsString::from).collect()).unwrap().verb;
        assert!(verb(&["rescue", "mount"]) && verb(&["/lifeboat/bin/rescue", "help", "mount"]));
        assert!(!verb(&["mount", "rescue"]) && !verb(&["/usr/bin/mount"]));
    }

    #[test]
    fn help_is_no_verb_but_works() {
        for words in [&["rescue"][..], &["rescue", "--help"], &["/lifeboat/bin/rescue", "help"]] {
            assert!(unknown(words).is_none(), "{words:?}");
        }
    }
}
