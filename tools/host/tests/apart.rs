//! Work in a copy of the process. Without the test harness: a copy is only made of a process with one thread, and what
//! it prints goes where this process prints.

use host::apart::{self, Beat};
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// By name: what the copy does.
type Work = fn(Beat) -> Option<i32>;
const CASES: &[(&str, Work, &str)] = &[
    ("what it prints is passed on, with its status", prints, "out\nstatus 3\nerr\n"),
    ("much is passed on whole", prints_much, "1000000 bytes\nstatus 0\n"),
    ("what it leaves undone is not printed", declines, "not done\n"),
    ("one that panics has done nothing", panics, "not done\n"),
    ("one that hangs at a device is given up", hangs, "not done\n"),
    ("one that is slow with many devices is given up", is_slow, "not done\n"),
    ("one that gets on has its time", gets_on, "out\nstatus 0\n"),
    ("one that watches over its devices itself has its time", rests, "out\nstatus 0\n"),
    ("a thread that hangs holds nothing up", leaves_a_thread, "out\nstatus 0\n"),
];

fn main() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some("case")
        && let Some(name) = arguments.next()
    {
        let (_, work, _) = CASES.iter().find(|(known, ..)| **known == name).expect("a known case");
        // As a tool's root directory.
        let keep = std::fs::File::open("/").unwrap();
        let kept = keep.as_fd();
        match apart::run(kept, |beat| rustix::fs::fstat(kept).ok().and_then(|_| work(beat))) {
            Ok(Some(status)) => println!("status {status}"),
            Ok(None) => println!("not done"),
            Err(error) => println!("error {error}"),
        }
        return;
    }
    for (name, _, want) in CASES {
        let began = Instant::now();
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["case", name])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
        if said.len() > 1000 {
            let rest = said.trim_start_matches('x');
            said = format!("{} bytes\n{rest}", said.len() - rest.len());
        }
        // Of one that panics, and was given up.
        assert_eq!(said + &String::from_utf8_lossy(&output.stderr), *want, "{name}");
        assert!(began.elapsed() < Duration::from_secs(20), "{name}");
        println!("{name}: ok");
    }
}

fn say(text: &str) {
    std::io::stdout().write_all(text.as_bytes()).unwrap();
    std::io::stdout().flush().unwrap();
}

fn prints(beat: Beat) -> Option<i32> {
    std::io::stderr().write_all(b"err\n").unwrap();
    beat.answered();
    say("out\n");
    Some(3)
}

fn prints_much(beat: Beat) -> Option<i32> {
    beat.answered();
    say(&"x".repeat(1_000_000));
    Some(0)
}

fn declines(_: Beat) -> Option<i32> {
    std::io::stderr().write_all(b"err\n").unwrap();
    None
}

fn panics(_: Beat) -> Option<i32> {
    panic!("as a parser may")
}

fn forever() -> ! {
    loop {
        std::thread::park();
    }
}

fn hangs(beat: Beat) -> Option<i32> {
    beat.begin();
    forever()
}

fn is_slow(beat: Beat) -> Option<i32> {
    for _ in 0..1000 {
        beat.begin();
        std::thread::park_timeout(Duration::from_millis(40));
    }
    beat.answered();
    Some(0)
}

/// Many devices, longer than any tick.
fn gets_on(beat: Beat) -> Option<i32> {
    let until = Instant::now() + Duration::from_millis(300);
    while Instant::now() < until {
        (0..1000).for_each(|_| beat.begin());
    }
    beat.answered();
    say("out\n");
    Some(0)
}

fn rests(beat: Beat) -> Option<i32> {
    beat.begin();
    beat.rest();
    std::thread::park_timeout(Duration::from_millis(300));
    beat.answered();
    say("out\n");
    Some(0)
}

fn leaves_a_thread(beat: Beat) -> Option<i32> {
    std::thread::spawn(|| forever());
    prints_out(beat)
}

fn prints_out(beat: Beat) -> Option<i32> {
    beat.answered();
    say("out\n");
    Some(0)
}
