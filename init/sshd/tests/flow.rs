//! Brakes: whoever does not read stops its own stream and nobody else's, and every byte arrives.
//!
//! With russh as released, the second and the third of these tests hang.

mod harness;

use harness::{DEADLINE, Server, noise, run, until, wait};
use std::io::{Read, Write};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::{Duration, Instant};

const MANY: usize = 128 << 20;
/// Long enough for every buffer on the way to fill: here time itself is the matter.
const PAUSE: Duration = Duration::from_secs(2);

/// `ssh COMMAND` is fed with `input` by one thread, while another reads after a pause.
fn through(server: &Server, extra: &[&str], command: &str, input: Vec<u8>, pause: Duration) -> Vec<u8> {
    let mut child =
        server.ssh(extra).arg(command).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let feeder = std::thread::spawn(move || stdin.write_all(&input).unwrap());
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        std::thread::sleep(pause);
        let mut output = Vec::new();
        stdout.read_to_end(&mut output).unwrap();
        sender.send(output)
    });
    let output = receiver.recv_timeout(DEADLINE);
    if output.is_err() {
        let _ = child.kill();
    }
    let output = output.unwrap_or_else(|_| panic!("{command} hangs"));
    assert!(wait(&mut child, command).success());
    feeder.join().unwrap();
    output
}

#[test]
fn a_reader_that_pauses_gets_every_byte() {
    need_client!();
    let server = Server::with_key();
    let output = through(&server, &[], &format!("head -c {MANY} /dev/zero"), Vec::new(), PAUSE);
    assert!(output.len() == MANY && output.iter().all(|byte| *byte == 0), "{} bytes", output.len());
}

#[test]
fn an_echo_whose_reader_pauses_gets_every_byte() {
    need_client!();
    let server = Server::with_key();
    let input = noise(MANY);
    assert!(through(&server, &[], "cat", input.clone(), PAUSE) == input);
}

#[test]
fn a_channel_whose_program_does_not_read_stops_no_other() {
    need_client!();
    let server = Server::with_key();
    let path = format!("ControlPath={}", server.path("master").display());
    let mut stuck = server
        .ssh(&["-o", "ControlMaster=yes", "-o", &path])
        .arg("exec sleep 1000")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = stuck.stdin.take().unwrap();
    let (sender, written) = mpsc::channel();
    std::thread::spawn(move || {
        let block = vec![0; 64 << 10];
        // Until the client takes no more, and at last is killed.
        while stdin.write_all(&block).is_ok() {
            let _ = sender.send(block.len());
        }
    });
    assert!(until(|| server.path("master").exists()));
    // Stuck for good: nothing could be written for a second.
    while written.recv_timeout(Duration::from_secs(1)).is_ok() {}
    let start = Instant::now();
    let done = run(server.ssh(&["-o", &path]).arg("echo second"), b"").succeeds();
    assert_eq!(done.text(), "second\n");
    assert!(start.elapsed() < Duration::from_secs(5), "it took {:?}", start.elapsed());
    stuck.kill().unwrap();
    wait(&mut stuck, "ssh");
}

#[test]
fn a_program_that_pauses_gets_every_byte() {
    need_client!();
    let server = Server::with_key();
    let input = noise(MANY);
    let mut expected = std::process::Command::new("sha256sum");
    let expected = run(&mut expected, &input).succeeds().stdout;
    assert!(through(&server, &[], "sleep 2; sha256sum", input, Duration::ZERO) == expected);
}

#[test]
fn new_keys_in_the_middle_change_no_byte() {
    need_client!();
    let server = Server::with_key();
    let input = noise(32 << 20);
    let output = through(&server, &["-o", "RekeyLimit=2M"], "cat", input.clone(), Duration::ZERO);
    assert!(output == input);
}
