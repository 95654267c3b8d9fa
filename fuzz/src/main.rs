//! `make fuzz`: hostile bytes at every parser, guided by coverage, on stable Rust and with nothing to install.
//!
//!     cargo run --release -- [--seconds N] [--target NAME] [FILE...]
//!
//! Each target gets its share of the time, which is a processor's. Inputs that reach something new are kept in corpus/TARGET and are where
//! the next run begins. An input that makes a parser panic, or keeps it busy for longer than a second, is
//! written to crashes/ and ends the run with status 1; as a FILE, with --target, it is run again alone.

mod coverage;
/// Read here as it is: its package brings TLS, of which nothing is looked at.
#[allow(dead_code)]
#[path = "../../tools/web/src/dns.rs"]
mod dns;
mod memory;
mod mutate;
mod plans;
mod ssh;
mod suite;
mod targets;

use mutate::Random;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use targets::{TARGETS, Target};

/// A parser that is given so few bytes has answered by then.
const SLOW: Duration = Duration::from_secs(1);
/// Bytes of one input.
const LONGEST: usize = 64 << 10;

fn main() -> ExitCode {
    let mut seconds = 60;
    let (mut only, mut files) = (None, Vec::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--seconds" => match arguments.next().and_then(|text| text.parse().ok()) {
                Some(number) => seconds = number,
                None => return usage(),
            },
            "--target" => only = arguments.next(),
            text if text.starts_with('-') => return usage(),
            file => files.push(PathBuf::from(file)),
        }
    }
    let picked: Vec<&Target> =
        TARGETS.iter().filter(|target| only.as_ref().is_none_or(|name| target.name == name)).collect();
    if picked.is_empty() || (!files.is_empty() && picked.len() > 1) {
        return usage();
    }
    for file in &files {
        match fs::read(file) {
            Ok(bytes) => (picked[0].run)(&bytes), // it panics aloud
            Err(error) => eprintln!("{}: {error}", file.display()),
        }
    }
    if !files.is_empty() {
        return ExitCode::SUCCESS;
    }
    let share = Duration::from_secs(seconds) / u32::try_from(picked.len()).unwrap_or(1);
    // What a parser says when it panics is said once, by us.
    std::panic::set_hook(Box::new(|_| {}));
    let failed: usize = picked.iter().map(|target| usize::from(!fuzz(target, share))).sum();
    println!("{} passed, {failed} failed", picked.len() - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn usage() -> ExitCode {
    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    eprintln!("usage: fuzz [--seconds N] [--target NAME] [FILE...]; targets: {}", names.join(", "));
    ExitCode::from(2)
}

/// Whether the target withstood all that it was given.
fn fuzz(target: &Target, share: Duration) -> bool {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let kept = here.join("corpus").join(target.name);
    let mut corpus: Vec<Vec<u8>> = (target.seeds)();
    // Absent at first.
    for entry in fs::read_dir(&kept).into_iter().flatten().flatten() {
        corpus.extend(fs::read(entry.path()).ok().filter(|bytes| bytes.len() <= LONGEST));
    }
    corpus.push(Vec::new());
    let mut seen = coverage::Seen::default();
    let mut random = Random::seeded();
    let mut most = 0;
    let (begun, mut runs, mut known) = (spent(), 0u64, 0);
    while spent().saturating_sub(begun) < share {
        let fresh = known == corpus.len();
        let input = if fresh {
            let mut input = corpus[random.below(corpus.len())].clone();
            let other = &corpus[random.below(corpus.len())];
            mutate::mutate(&mut input, other, target.words, &mut random);
            input.truncate(LONGEST);
            input
        } else {
            known += 1;
            corpus[known - 1].clone()
        };
        coverage::reset();
        let at = Instant::now();
        let (taken, outcome) = memory::taken(|| catch_unwind(AssertUnwindSafe(|| (target.run)(&input))));
        most = most.max(taken);
        runs += 1;
        // What a busy machine put aside for a second is no slow one.
        let took = if outcome.is_ok() && at.elapsed() > SLOW { busy(target, &input) } else { Duration::ZERO };
        let what = match outcome {
            Err(cause) => {
                let text = cause.downcast_ref::<String>().map(String::as_str);
                Some(format!("panics: {}", text.or(cause.downcast_ref::<&str>().copied()).unwrap_or("?")))
            }
            Ok(()) if took > SLOW => Some(format!("takes {:.1} s", took.as_secs_f32())),
            Ok(()) if taken > memory::CAP => Some(format!("takes {} MiB", taken >> 20)),
            Ok(()) => None,
        };
        if let Some(what) = what {
            let path = here.join("crashes").join(format!("{}-{:016x}", target.name, mutate::hash(&input)));
            keep(&path, &input);
            println!("{}: {what}\n    {}", target.name, path.display());
            return false;
        }
        if seen.add() && fresh {
            keep(&kept.join(format!("{:016x}", mutate::hash(&input))), &input);
            corpus.push(input);
            known += 1;
        }
    }
    println!(
        "{}: {runs} inputs in {} s, {} places reached, {} inputs kept, {:.1} MiB at most",
        target.name,
        spent().saturating_sub(begun).as_secs(),
        seen.count(),
        corpus.len(),
        most as f64 / f64::from(1 << 20)
    );
    true
}

/// How long a processor worked on it.
fn busy(target: &Target, input: &[u8]) -> Duration {
    let before = spent();
    (target.run)(input);
    spent().saturating_sub(before)
}

/// What this thread has had of a processor: another one's work does not count, for a share as for a slow input.
fn spent() -> Duration {
    // SAFETY: getrusage(2) fills the struct, whose address and kind are valid.
    let usage = unsafe {
        let mut usage = std::mem::zeroed::<libc::rusage>();
        libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage);
        usage
    };
    let of = |time: libc::timeval| {
        Duration::new(time.tv_sec.unsigned_abs(), time.tv_usec.unsigned_abs() as u32 * 1000)
    };
    of(usage.ru_utime) + of(usage.ru_stime)
}

fn keep(path: &Path, bytes: &[u8]) {
    let made = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(path, bytes));
    if let Err(error) = made {
        eprintln!("write {}: {error}", path.display());
    }
}
