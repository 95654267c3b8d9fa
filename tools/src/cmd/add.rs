//! `rescue add`: one more layer of the image, while it runs: of its own list by name, or by URL, or a file. What is decided is
//! where it comes from and which hash it has to have; fetching, checking and mounting is the layers' own program.

use crate::apply::{self, Door, Made};
use crate::report::{Answer, notice};
use crate::tool::{Context, verb};
use anyhow::{Context as _, bail, ensure};
use contract::layers::{Kind, Known};
use contract::url::{is_url, shown};
use contract::{cmdline, exit, layers, paths, state};
use model::plan::{Input, Step};
use model::text::{Column, Untrusted, size, table};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Adds a layer, which is a squashfs with a usr/ in it: what it holds is in /usr when this ends, and open
/// sessions see it. Without a word, lists the layers that the image knows, and which are there.
///
/// NAME is of that list, and fetched from where rescue.layers= says. A URL or a file has to be of that
/// list too, by its SHA-256; anything else takes --sha256, which is what you know of it from somewhere
/// else. Layers lie in memory, packed, and what is in them is unpacked as it is used.
///
///     # rescue add
///     # rescue add 50-clamav
///     # rescue add --sha256 9f86d081... https://example.net/50-mine.squashfs
#[derive(clap::Parser)]
#[command(name = "rescue add", disable_version_flag = true, verbatim_doc_comment)]
struct Args {
    /// The list as JSON, schema 1
    #[arg(long, conflicts_with_all = ["layers", "sha256", "dry_run"])]
    json: bool,
    /// Print what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// The SHA-256 that it has to have, 64 digits
    #[arg(long, value_name = "HASH", requires = "layers")]
    sha256: Option<String>,
    #[arg(value_name = "NAME|URL|FILE")]
    layers: Vec<String>,
}

const PARAMETER: &str = "rescue.layers";

/// The list, as `--json` shows it.
#[derive(Serialize)]
struct List {
    layers: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    name: String,
    bytes: u64,
    /// `image`, `firmware`, `extra`; `unlisted` for what was appended or added.
    kind: &'static str,
    /// `mounted`, `coming`, `failed`, `absent`.
    state: &'static str,
    /// Of what is coming, how much is there.
    got: u64,
    error: Option<String>,
    /// `None` for what is unlisted.
    sha256: Option<String>,
}

/// Where a layer comes from, and what it has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Source {
    name: String,
    from: String,
    sha256: String,
}

/// What is known of a machine's layers.
struct Facts {
    known: Vec<Known>,
    state: state::Layers,
    /// `rescue.layers=`, without a slash at its end.
    base: Option<String>,
}

pub fn run(context: &Context, arguments: &[OsString]) -> anyhow::Result<Answer> {
    let args: Args = match verb(context, arguments)? {
        Ok(args) => args,
        Err(answer) => return Ok(answer),
    };
    let facts = Facts::read(context);
    if args.layers.is_empty() {
        return list(&facts, args.json);
    }
    if args.sha256.is_some() && args.layers.len() > 1 {
        bail!("--sha256 is of one layer: name one");
    }
    let (mut text, mut failures) = (String::new(), 0);
    for word in &args.layers {
        let result = facts.source(word, args.sha256.as_deref(), &hash).and_then(|source| {
            let (step, url) = source.step();
            if args.dry_run {
                text += &apply::shown(&[step]);
                return Ok(());
            }
            let door = Door::open(context, &typed(context.name, arguments))?;
            match door.with_secret(url).make(&step)? {
                Made::Status(0) => Ok(()),
                _ => bail!("{} was not added", Untrusted(&source.name)),
            }
        });
        if let Err(error) = result {
            notice(context.name, &format!("{error:#}"));
            failures += 1;
        }
    }
    let exit = match failures {
        0 => exit::YES,
        n if n == args.layers.len() => exit::TROUBLE,
        _ => exit::PARTLY,
    };
    Ok(Answer::text(text, exit))
}

impl Source {
    /// What adds it, and what that reads: the URL, which may have a password in it. Everybody reads command lines, and more
    /// people than its own a ledger: there it is as people are shown it.
    fn step(&self) -> (Step, Vec<u8>) {
        let (from, input, url) = match is_url(&self.from) {
            true => (shown(&self.from), Input::Secret, self.from.clone().into_bytes()),
            false => (self.from.clone(), Input::Nothing, Vec::new()),
        };
        let argv = [&format!("{}/layers", paths::BIN), "add", &self.name, &from, &self.sha256];
        (Step::Run { argv: argv.map(String::from).to_vec(), input }, url)
    }
}

/// The command as it was typed, for ledger and lock, with no password of a URL's.
fn typed(name: &str, arguments: &[OsString]) -> String {
    let word = |word: &OsString| match word.to_str().filter(|word| is_url(word)) {
        Some(url) => shown(url).into(),
        None => word.clone(),
    };
    apply::typed(name, &arguments.iter().map(word).collect::<Vec<_>>())
}

impl Facts {
    fn read(context: &Context) -> Facts {
        let root = &context.root;
        let state = root.read(paths::state("layers")).unwrap_or_default();
        let words = host::params::read(root);
        let base = cmdline::last(&words, PARAMETER).map(|value| value.trim().trim_end_matches('/'));
        Facts {
            known: layers::parse(&root.read_text(paths::LAYER_LIST).unwrap_or_default()),
            state: serde_json::from_slice(&state).unwrap_or_default(),
            base: base.filter(|base| is_url(base)).map(str::to_string),
        }
    }

    /// Errors: what is missing to be sure of it.
    fn source(
        &self,
        word: &str,
        given: Option<&str>,
        hash: &dyn Fn(&str) -> anyhow::Result<String>,
    ) -> anyhow::Result<Source> {
        let given = given.map(str::to_ascii_lowercase);
        if let Some(given) = &given {
            ensure!(
                given.len() == 64 && given.bytes().all(|digit| digit.is_ascii_hexdigit()),
                "--sha256 takes 64 digits, as sha256sum prints them"
            );
        }
        let (name, from, sha256) = if is_url(word) {
            let name = layers::name_of(word).context("the URL names no file")?;
            let listed = self.by_name(&name).map(|known| known.sha256.clone());
            let sha256 = given.or(listed).with_context(|| {
                format!("{name} is not in this image's list: --sha256 HASH says what it has to be")
            })?;
            (name, word.to_string(), sha256)
        } else if word.contains('/') || (self.by_name(word).is_none() && Path::new(word).exists()) {
            let found = hash(word)?;
            let listed = self.known.iter().find(|known| known.sha256 == found);
            match (listed, given) {
                (Some(known), None) => (known.name.clone(), word.to_string(), found),
                (_, Some(given)) if given == found => {
                    (layers::name_of(word).context("no name of a layer")?, word.to_string(), found)
                }
                (_, Some(_)) => bail!("{word}: its SHA-256 is {found}, which is not the one given"),
                (None, None) => bail!(
                    "{word} is not in this image's list: if you know from elsewhere that its SHA-256 is {found}, add --sha256 {found}"
                ),
            }
        } else {
            let known = self
                .by_name(word)
                .or_else(|| self.by_name(&layers::name_of(word)?))
                .with_context(|| format!("no layer {word}: rescue add lists them"))?;
            let base = self.base.as_ref().with_context(|| {
                format!("where {word} is was not said at the boot ({PARAMETER}=): give its URL, or a file")
            })?;
            (
                known.name.clone(),
                format!("{base}/{}.squashfs", known.name),
                given.unwrap_or(known.sha256.clone()),
            )
        };
        if let Some(known) = self.by_name(&name)
            && known.sha256 != sha256
        {
            bail!("{name} is the name of another layer of this image: call the file something else");
        }
        ensure!(self.state.mounted().all(|layer| layer.name != name), "{name} is there already");
        // What is on its way is not looked at: the layers' own program knows whether anybody still brings it.
        // A file is opened by another process, elsewhere.
        let from = if is_url(&from) { from } else { std::path::absolute(&from)?.display().to_string() };
        Ok(Source { name, from, sha256 })
    }

    fn by_name(&self, name: &str) -> Option<&Known> {
        self.known.iter().find(|known| known.name == name)
    }

    fn rows(&self) -> Vec<Row> {
        let row = |name: &str, bytes: u64, kind: Option<Kind>, sha256: Option<&String>| {
            let layer = self.state.layers.iter().find(|layer| layer.name == name);
            let coming = self.state.coming.iter().find(|coming| coming.name == name);
            let error = layer.and_then(|layer| layer.error.clone());
            let state = match (layer, coming) {
                (Some(layer), _) if layer.error.is_none() => "mounted",
                (_, Some(_)) => "coming",
                (Some(_), None) => "failed",
                (None, None) => "absent",
            };
            Row {
                name: name.to_string(),
                bytes,
                kind: kind.map_or("unlisted", Kind::as_str),
                state,
                got: coming.map_or(0, |coming| coming.got),
                error,
                sha256: sha256.cloned(),
            }
        };
        let listed = self
            .known
            .iter()
            .map(|known| row(&known.name, known.length, Some(known.kind), Some(&known.sha256)));
        let others = self.state.layers.iter().filter(|layer| self.by_name(&layer.name).is_none());
        let mut rows: Vec<Row> =
            listed.chain(others.map(|layer| row(&layer.name, layer.bytes, None, None))).collect();
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        rows
    }
}

fn list(facts: &Facts, json: bool) -> anyhow::Result<Answer> {
    let rows = facts.rows();
    let exit = if rows.is_empty() { exit::NO } else { exit::YES };
    if json {
        return Answer::json(1, &List { layers: rows }, exit);
    }
    if rows.is_empty() {
        return Ok(Answer::text("this is no image with layers\n".to_string(), exit));
    }
    let left = |title| Column { title, right: false, width: 0 };
    let columns =
        [left("Layer"), Column { title: "Size", right: true, width: 5 }, left("Kind"), left("State")];
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let state = match (row.state, &row.error) {
                ("coming", _) => format!("on its way, {}", size(row.got)),
                ("failed", Some(error)) => Untrusted(error).to_string(),
                ("absent", _) => format!("rescue add {}", Untrusted(&row.name)),
                (state, _) => state.to_string(),
            };
            vec![Untrusted(&row.name).to_string(), size(row.bytes), row.kind.to_string(), state]
        })
        .collect();
    Ok(Answer::text(table(&columns, &cells, true), exit))
}

fn hash(path: &str) -> anyhow::Result<String> {
    let mut file = File::open(path).with_context(|| format!("open {path}"))?;
    ensure!(file.metadata()?.is_file(), "{path} is no file");
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer).with_context(|| format!("read {path}"))? {
            0 => break,
            length => hash.update(&buffer[..length]),
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINE: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn facts() -> Facts {
        let layer = |name: &str, error: Option<&str>| state::Layer {
            name: name.to_string(),
            bytes: 7,
            error: error.map(str::to_string),
        };
        let coming = state::Coming { name: "30-firmware".into(), bytes: 8, got: 4, ..Default::default() };
        Facts {
            known: layers::parse(
                "10-userland 7 aa image\n20-modules 7 ab image\n30-firmware 8 ac firmware\n50-mc 9 ad extra\n",
            ),
            state: state::Layers {
                done: false,
                layers: vec![
                    layer("10-userland", None),
                    layer("20-modules", Some("cut off")),
                    layer("90-own", None),
                ],
                coming: vec![coming],
            },
            base: Some("http://a/layers".into()),
        }
    }

    fn source(word: &str, given: Option<&str>) -> Result<(String, String, String), String> {
        let hash = |path: &str| Ok(if path == "/f/any" { "ad".to_string() } else { MINE.to_string() });
        match facts().source(word, given, &hash) {
            Ok(source) => Ok((source.name, source.from, source.sha256)),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn a_layer_has_a_place_and_a_hash_before_anything_is_fetched() {
        let ok = |name: &str, from: &str, sha256: &str| {
            Ok((name.to_string(), from.to_string(), sha256.to_string()))
        };
        assert_eq!(source("50-mc", None), ok("50-mc", "http://a/layers/50-mc.squashfs", "ad"));
        assert_eq!(source("mc", None), ok("50-mc", "http://a/layers/50-mc.squashfs", "ad"));
        assert_eq!(source("20-modules", None), ok("20-modules", "http://a/layers/20-modules.squashfs", "ab"));
        let url = "https://b/50-mc.squashfs";
        assert_eq!(source(url, None), ok("50-mc", url, "ad"));
        let other = "https://b/x.squashfs";
        assert_eq!(source(other, Some(MINE)), ok("50-x", other, MINE));
        // On its way by somebody who may have died, or from a server that is dead: the layers' own program sees which.
        let (name, elsewhere) = ("30-firmware", "https://b/30-firmware.squashfs");
        assert_eq!(source(name, None), ok(name, "http://a/layers/30-firmware.squashfs", "ac"));
        assert_eq!(source(elsewhere, None), ok(name, elsewhere, "ac"));
        // By its hash a file is known under any name.
        assert_eq!(source("/f/any", None), ok("50-mc", "/f/any", "ad"));
        assert_eq!(source("/f/x.squashfs", Some(MINE)), ok("50-x", "/f/x.squashfs", MINE));
    }

    #[test]
    fn a_password_in_a_url_is_read_by_the_layers_program_alone() {
        let url = "https://me:p%40ss@a/layers/50-mc.squashfs?token=t0ken";
        let source = Source { name: "50-mc".into(), from: url.into(), sha256: "ad".into() };
        let (step, read) = source.step();
        assert_eq!(read, url.as_bytes());
        let Step::Run { argv, input: Input::Secret } = &step else { panic!("{step:?}") };
        assert_eq!(argv[1..], ["add", "50-mc", "https://a/layers/50-mc.squashfs", "ad"]);
        let arguments = [url, "--sha256", "ad"].map(OsString::from);
        let typed = typed("add", &arguments);
        assert_eq!(typed, "rescue add https://a/layers/50-mc.squashfs --sha256 ad");
        // What a dry run prints, and what the ledger has of a step.
        for text in [apply::shown(std::slice::from_ref(&step)), serde_json::to_string(&step).unwrap()] {
            assert!(text.contains("https://a/layers") && !text.contains("p%40ss") && !text.contains("t0ken"));
        }
        let (step, read) = Source { from: "/f/50-mc.squashfs".into(), ..source }.step();
        assert!(matches!(step, Step::Run { argv, input: Input::Nothing } if argv[3] == "/f/50-mc.squashfs"));
        assert!(read.is_empty());
    }

    #[test]
    fn what_nobody_vouches_for_is_refused_with_what_to_type() {
        for (word, given, why) in [
            ("nothing", None, "rescue add lists them"),
            ("https://b/x.squashfs", None, "--sha256 HASH"),
            ("/f/x.squashfs", None, "add --sha256 bbbb"),
            ("/f/x.squashfs", Some("c"), "64 digits"),
            ("/f/50-mc.squashfs", Some(MINE), "another layer of this image"),
            ("https://b/50-mc.squashfs", Some(MINE), "another layer of this image"),
            ("10-userland", None, "there already"),
        ] {
            let error = source(word, given).unwrap_err();
            assert!(error.contains(why), "{word}: {error}");
        }
        let nowhere = Facts { base: None, ..facts() };
        let error = nowhere.source("mc", None, &|_| Ok(String::new())).unwrap_err().to_string();
        assert!(error.contains("rescue.layers="), "{error}");
    }

    #[test]
    fn the_list_tells_what_is_there_and_what_could_be() {
        let states: Vec<(String, &str)> =
            facts().rows().into_iter().map(|row| (row.name, row.state)).collect();
        let states: Vec<String> = states.iter().map(|(name, state)| format!("{name} {state}")).collect();
        assert_eq!(
            states,
            [
                "10-userland mounted",
                "20-modules failed",
                "30-firmware coming",
                "50-mc absent",
                "90-own mounted"
            ]
        );
        let Answer { output: crate::report::Output::Text(text), .. } = list(&facts(), false).unwrap() else {
            panic!("text");
        };
        assert!(text.contains("rescue add 50-mc") && text.contains("cut off"), "{text}");
    }
}
