//! Picks, runs and remembers: what is printed is one line per test, all that is known about each
//! failure, and the tally.

use super::Test;
use super::bench::Bench;
use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use image::packages;
use image::vm::{Lab, programs};
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
                    let before = results.kept(test.name).filter(|_| !arguments.again);
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
        results.keep(test.name, kept).and_then(|()| {
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
}

impl Results {
    fn open(image: &Path) -> Result<Results> {
        let mut key = String::new();
        for file in ["vmlinuz", "initramfs"] {
            key +=
                &packages::digest(&image.join(file)).context("find the image: `make image` builds it")?[..8];
        }
        // The tests themselves change too.
        let tester = std::env::current_exe().context("find the tester")?;
        key += &packages::digest(&tester)?[..8];
        let directory = programs::cache()?.join("vm/results").join(key);
        fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
        Ok(Results { directory })
    }

    /// How many promises a test kept on this image.
    fn kept(&self, name: &str) -> Option<usize> {
        fs::read_to_string(self.directory.join(name)).ok()?.trim().parse().ok()
    }

    fn keep(&self, name: &str, promises: usize) -> Result<()> {
        let path = self.directory.join(name);
        fs::write(&path, format!("{promises}\n")).with_context(|| format!("write {}", path.display()))
    }
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
}
