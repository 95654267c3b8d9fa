//! Picks, runs and remembers: what is printed is one line per test, all that is known about each
//! failure, and the tally.

use super::Test;
use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;
use image::vm::{Lab, disks, programs};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

#[derive(Parser)]
#[command(name = "vm", about = "Boot the built image in QEMU and hold it against its promises")]
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

pub fn main(tests: &[&Test]) -> ExitCode {
    match run(tests, &Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("vm: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(tests: &[&Test], arguments: &Arguments) -> Result<bool> {
    let named =
        |name: &str| arguments.names.is_empty() || arguments.names.iter().any(|part| name.contains(part));
    if arguments.disks {
        let all = image::fixtures::all();
        let names: Vec<&str> = all.iter().map(|recipe| recipe.name).filter(|name| named(name)).collect();
        for fixture in image::fixtures::ensure(&names)? {
            for disk in &fixture.disks {
                println!("{}  {}", disks::sha256(disk)?, disk.display());
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
                    if !arguments.again && results.passed(test.name) {
                        println!("ok    {} (before, on this image)", test.name);
                        passed.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    match one(test, &arguments.image, &results) {
                        Ok(()) => drop(passed.fetch_add(1, Ordering::Relaxed)),
                        Err(_) => failed.lock().unwrap_or_else(|e| e.into_inner()).push(test.name),
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(|e| e.into_inner());
    if !failed.is_empty() {
        println!("\nfailed:");
        failed.iter().for_each(|name| println!("    {name}"));
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

fn pick<'a>(tests: &[&'a Test], arguments: &Arguments, named: impl Fn(&str) -> bool) -> Vec<&'a Test> {
    // A name picks a test whether it is in the sample or not.
    let wanted =
        |test: &&&Test| named(test.name) && (test.sample || arguments.all || !arguments.names.is_empty());
    let (first, step) = arguments.shard.unwrap_or((1, 1));
    tests.iter().filter(wanted).copied().skip(first - 1).step_by(step).collect()
}

/// One test, from its empty directory to its line.
fn one(test: &Test, image: &Path, results: &Results) -> Result<()> {
    let begun = Instant::now();
    let lab = Lab::new(test.name, image)?;
    let outcome = match catch_unwind(AssertUnwindSafe(|| (test.run)(&lab))) {
        Ok(outcome) => outcome,
        Err(_) => Err(anyhow::anyhow!("the test itself panicked, see above")),
    };
    let seconds = begun.elapsed().as_secs();
    match outcome {
        Ok(()) => {
            println!("ok    {} ({seconds} s)", test.name);
            results.keep(test.name, seconds)?;
            fs::remove_dir_all(&lab.dir).with_context(|| format!("remove {}", lab.dir.display()))
        }
        Err(error) => {
            println!("FAIL  {} ({seconds} s): failed to {error:#}\n{}", test.name, lab.reports());
            println!("--- kept in {}", lab.dir.display());
            bail!("failed")
        }
    }
}

/// What has passed on which image, so that an interrupted run goes on where it stopped.
struct Results {
    directory: PathBuf,
}

impl Results {
    fn open(image: &Path) -> Result<Results> {
        let mut key = String::new();
        for file in ["vmlinuz", "initramfs"] {
            key += &disks::sha256(&image.join(file)).context("find the image: `make image` builds it")?[..8];
        }
        // The tests themselves change too.
        let tester = std::env::current_exe().context("find the tester")?;
        key += &disks::sha256(&tester)?[..8];
        let directory = programs::cache().join("vm/results").join(key);
        fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
        Ok(Results { directory })
    }

    fn passed(&self, name: &str) -> bool {
        self.directory.join(name).exists()
    }

    fn keep(&self, name: &str, seconds: u64) -> Result<()> {
        let path = self.directory.join(name);
        fs::write(&path, format!("{seconds}\n")).with_context(|| format!("write {}", path.display()))
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
