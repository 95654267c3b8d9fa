//! Picks, runs and remembers: what is printed is one line per test, all that is known about each
//! failure, and the tally.

use super::Test;
use super::bench::Bench;
use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use image::packages;
use image::vm::{Lab, programs};
use sha2::{Digest as _, Sha256};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Lines of the beginning and of the end of what is said of a broken promise once more.
const SAID: usize = 4;

#[derive(Parser)]
#[command(name = "vm-test", about = "Boot the built image in QEMU and hold it against its promises")]
struct Arguments {
    /// Every test, not only the sample
    #[arg(long)]
    all: bool,
    /// Only each N-th test, beginning with the I-th
    #[arg(long, value_name = "I/N", value_parser = shard)]
    shard: Option<(usize, usize)>,
    /// Also what has passed on this image before
    #[arg(long)]
    again: bool,
    /// Print the names, and do nothing
    #[arg(long)]
    list: bool,
    /// Make the named sets of disks (all without a name), and do nothing else
    #[arg(long)]
    disks: bool,
    /// Machines at a time
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Directory with vmlinuz and initramfs
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../out"))]
    image: PathBuf,
    /// Output of earlier `cargo test` runs, whose results are added to the last line
    #[arg(long, value_name = "FILE")]
    tally: Option<PathBuf>,
    /// Tests whose name contains one of these
    names: Vec<String>,
}

fn shard(text: &str) -> Result<(usize, usize), String> {
    let parsed = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
    match parsed {
        Some((i, n)) if 1 <= i && i <= n => Ok((i, n)),
        _ => Err("it is written I/N, such as 2/3".into()),
    }
}

pub fn main(tests: &[Test]) -> ExitCode {
    match run(tests, &Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("vm-test: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(tests: &[Test], arguments: &Arguments) -> Result<bool> {
    let named =
        |name: &str| arguments.names.is_empty() || arguments.names.iter().any(|part| name.contains(part));
    if arguments.disks {
        let all = image::fixtures::all();
        let names: Vec<&str> = all.iter().map(|recipe| recipe.name).filter(|name| named(name)).collect();
        for fixture in image::fixtures::ensure(&names)? {
            for disk in &fixture.disks {
                println!("{}  {}", packages::digest(disk)?, disk.display());
            }
        }
        return Ok(true);
    }
    let picked = pick(tests, arguments, named);
    ensure!(!picked.is_empty(), "no test has such a name: --list shows them");
    if arguments.list {
        for test in picked {
            println!("{}{}", test.name, if test.sample { "" } else { "  (--all)" });
        }
        return Ok(true);
    }
    let results = Results::open(&arguments.image)?;
    let (passed, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs.max(1) {
            scope.spawn(|| {
                while let Some(test) = picked.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let before = results.kept(test).filter(|_| !arguments.again);
                    let (kept, broken) = match before {
                        Some(kept) => {
                            println!("ok    {}: {kept} promises, on this image before", test.name);
                            (kept, Vec::new())
                        }
                        None => one(test, &arguments.image, &results),
                    };
                    passed.fetch_add(kept, Ordering::Relaxed);
                    failed.lock().unwrap_or_else(PoisonError::into_inner).extend(broken);
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    if !failed.is_empty() {
        println!("\nbroken:");
        failed.iter().for_each(|promise| println!("    {}", short(promise)));
    }
    let (mut total, mut lost) = (passed.into_inner(), failed.len());
    if let Some(path) = &arguments.tally {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let (more, fewer) = tally(&text);
        (total, lost) = (total + more, lost + fewer);
    }
    println!("{total} passed, {lost} failed");
    Ok(lost == 0)
}

/// A promise and what broke it, said again at the end, where a long output may be all that is kept of it: the first
/// lines and the last of what was seen.
fn short(broken: &str) -> String {
    let lines: Vec<&str> = broken.lines().collect();
    let (first, last) = (SAID.min(lines.len()), lines.len().saturating_sub(SAID));
    let cut = if last > first { vec!["[...]"] } else { Vec::new() };
    [&lines[..first], &cut, &lines[last.max(first)..]].concat().join("\n        ")
}

fn pick<'a>(tests: &'a [Test], arguments: &Arguments, named: impl Fn(&str) -> bool) -> Vec<&'a Test> {
    // A name picks a test whether it is in the sample or not.
    let wanted =
        |test: &&Test| named(test.name) && (test.sample || arguments.all || !arguments.names.is_empty());
    let (first, step) = arguments.shard.unwrap_or((1, 1));
    tests.iter().filter(wanted).skip(first - 1).step_by(step).collect()
}

/// One machine, from its empty directory to its line: how many promises it kept, and which not.
fn one(test: &Test, image: &Path, results: &Results) -> (usize, Vec<String>) {
    println!("      {}", test.name);
    let begun = Instant::now();
    let lab = match Lab::new(test.name, image) {
        Ok(lab) => lab,
        Err(error) => {
            println!("FAIL  {}: {error:#}", test.name);
            return (0, vec![format!("{}: {error:#}", test.name)]);
        }
    };
    let bench = Bench::new(lab);
    let outcome = catch_unwind(AssertUnwindSafe(|| (test.run)(&bench)))
        .unwrap_or_else(|_| Err(anyhow::anyhow!("the test itself panicked, see above")));
    let seconds = begun.elapsed().as_secs();
    let outcomes = bench.outcomes();
    let mut broken: Vec<String> = outcomes
        .iter()
        .filter_map(|(promise, error)| Some(format!("{}: {promise}: {}", test.name, error.as_ref()?)))
        .collect();
    let kept = outcomes.len() - broken.len();
    if let Err(error) = outcome {
        println!("FAIL  {}: failed to {error:#}", test.name);
        broken.push(format!("{}: failed to {error:#}", test.name));
    }
    let forgotten = if broken.is_empty() {
        results.keep(test, kept).and_then(|()| {
            println!("ok    {} ({seconds} s)", test.name);
            fs::remove_dir_all(&bench.dir).with_context(|| format!("remove {}", bench.dir.display()))
        })
    } else {
        println!("{}\n--- kept in {}", bench.reports(), bench.dir.display());
        Ok(())
    };
    if let Err(error) = forgotten {
        eprintln!("vm-test: {error:#}");
    }
    (kept, broken)
}

/// What has passed on which image, so that an interrupted run goes on where it stopped.
struct Results {
    directory: PathBuf,
    /// The project's root, below which the tests read.
    source: PathBuf,
}

/// Of the image, what every test may boot; the layers' hashes are inside.
const OF_IMAGE: &[&str] = &["vmlinuz", "initramfs", "boot.ipxe", "microcode.cpio"];
/// Of the source, what is in no image and not in the tester: QEMU, loaders and servers, and what answers with malformed leases.
const OF_ALL: &[&str] = &["image/packages.lock", "image/src/bin/rogue.rs"];

impl Results {
    fn open(image: &Path) -> Result<Results> {
        let source = programs::source();
        let mut files: Vec<PathBuf> = OF_IMAGE.iter().map(|name| image.join(name)).collect();
        for file in &files {
            ensure!(file.exists(), "find the image, {}: `make image` builds it", file.display());
        }
        files.extend(OF_ALL.iter().map(|name| source.join(name)));
        // The tests themselves change too.
        files.push(std::env::current_exe().context("find the tester")?);
        let directory = programs::cache()?.join("vm/results").join(contents(&files)?);
        fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
        Ok(Results { directory, source })
    }

    /// Where a test's result lies, by what it reads beside the image.
    fn path(&self, test: &Test) -> Result<PathBuf> {
        if test.reads.is_empty() {
            return Ok(self.directory.join(test.name));
        }
        let files: Vec<PathBuf> = test.reads.iter().map(|name| self.source.join(name)).collect();
        Ok(self.directory.join(format!("{}-{}", test.name, contents(&files)?)))
    }

    /// How many promises a test kept on this image.
    fn kept(&self, test: &Test) -> Option<usize> {
        fs::read_to_string(self.path(test).ok()?).ok()?.trim().parse().ok()
    }

    fn keep(&self, test: &Test, promises: usize) -> Result<()> {
        let path = self.path(test)?;
        fs::write(&path, format!("{promises}\n")).with_context(|| format!("write {}", path.display()))
    }
}

/// A hash of files, of all that is below directories, and of what is not there.
fn contents(paths: &[PathBuf]) -> Result<String> {
    let mut all = String::new();
    let mut todo: Vec<PathBuf> = paths.iter().rev().cloned().collect();
    while let Some(path) = todo.pop() {
        if path.is_dir() {
            let list = || format!("list {}", path.display());
            let entries = fs::read_dir(&path).with_context(list)?;
            let mut below: Vec<PathBuf> =
                entries.map(|entry| Ok(entry.with_context(list)?.path())).collect::<Result<_>>()?;
            below.sort();
            todo.extend(below.into_iter().rev());
        } else {
            let sum = if path.exists() { packages::digest(&path)? } else { "none".into() };
            all += &format!("{sum}\n");
        }
    }
    Ok(packages::hex(&Sha256::digest(all))[..24].to_string())
}

/// The sums over `test result: ok. 12 passed; 0 failed; ...` lines.
fn tally(text: &str) -> (usize, usize) {
    let count = |line: &str, word: &str| -> usize {
        let words: Vec<&str> = line.split_whitespace().collect();
        words
            .windows(2)
            .find(|pair| pair[1].trim_end_matches(';') == word)
            .map_or(0, |pair| pair[0].parse().unwrap_or(0))
    };
    text.lines()
        .filter(|line| line.starts_with("test result: "))
        .fold((0, 0), |sum, line| (sum.0 + count(line, "passed"), sum.1 + count(line, "failed")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tally_adds_what_cargo_test_says() {
        let text = "running 2 tests\ntest result: ok. 2 passed; 0 failed; 0 ignored; 0 measured\n\
                    test result: FAILED. 5 passed; 1 failed; 0 ignored\n";
        assert_eq!(tally(text), (7, 1));
    }

    #[test]
    fn shards_are_counted_from_one() {
        assert_eq!(shard("2/3"), Ok((2, 3)));
        for wrong in ["0/3", "4/3", "1", "a/b"] {
            assert!(shard(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_result_counts_only_for_what_the_test_has_read() {
        let (kept, source) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let results = Results { directory: kept.path().into(), source: source.path().into() };
        let none = Test { name: "none", sample: true, reads: &[], run: |_| Ok(()) };
        let page = Test { name: "page", reads: &["docs/page.md", "out", "absent"], ..none };
        let write = |name: &str, text: &str| {
            let path = source.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("docs/page.md", "a recipe");
        write("out/vmlinuz", "a kernel");
        for test in [&none, &page] {
            assert_eq!(results.kept(test), None);
            results.keep(test, 7).unwrap();
            assert_eq!(results.kept(test), Some(7));
        }
        for (name, other, before) in
            [("docs/page.md", "another recipe", "a recipe"), ("out/vmlinuz", "another kernel", "a kernel")]
        {
            write(name, other);
            assert_eq!((results.kept(&none), results.kept(&page)), (Some(7), None), "{name}");
            write(name, before);
            assert_eq!(results.kept(&page), Some(7), "{name}");
        }
        write("absent", "there now");
        assert_eq!(results.kept(&page), None);
    }
}
