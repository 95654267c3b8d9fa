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

#[test]
fn compression_that_was_asked_for_changes_no_byte() {
    need_client!();
    let server = Server::with_key();
    // What does not compress, and what does very well; new keys in the middle, too.
    let input = [noise(8 << 20), vec![b'x'; 8 << 20], noise(1 << 20)].concat();
    for extra in [&["-C"][..], &["-C", "-o", "RekeyLimit=2M"]] {
        assert!(through(&server, extra, "cat", input.clone(), Duration::ZERO) == input, "{extra:?}");
    }
    let done = run(server.ssh(&["-C", "-vv"]).arg("echo in"), b"").succeeds();
    assert!(done.stderr.contains("compression: zlib@openssh.com"), "{}", done.stderr);
    assert!(!done.stderr.contains("none,zlib,"), "zlib before login is offered");
}

#[test]
fn new_keys_by_time_and_by_the_server_s_own_count() {
    need_client!();
    let server = Server::with_key();
    let exchanges = |extra: &[&str], command: &str| {
        let done = run(server.ssh(&[&["-v"], extra].concat()).arg(command), b"").succeeds();
        (done.stderr.matches("SSH2_MSG_KEXINIT received").count(), done.stdout.len())
    };
    let (count, length) =
        exchanges(&["-o", "RekeyLimit=default 1s"], "for i in 1 2 3 4; do echo $i; sleep 1; done");
    assert!(count >= 3 && length == 8, "{count} exchanges, {length} bytes");
    // The server's own limit is a gibibyte.
    let bytes = (1 << 30) + (64 << 20);
    let (count, length) = exchanges(&["-c", "aes128-gcm@openssh.com"], &format!("head -c {bytes} /dev/zero"));
    assert!(count == 2 && length == bytes, "{count} exchanges, {length} bytes");
}

#[test]
fn many_sessions_of_one_connection_at_once() {
    need_client!();
    let server = Server::with_key();
    let path = format!("ControlPath={}", server.path("master").display());
    let mut master = server.ssh(&["-N", "-o", "ControlMaster=yes", "-o", &path]).spawn().unwrap();
    assert!(until(|| server.path("master").exists()));
    let mut sessions: Vec<_> = (0..40)
        .map(|number| {
            let mut session = server.ssh(&["-o", &path]);
            session.arg(format!("cat; echo {number}")).stdin(Stdio::piped()).stdout(Stdio::piped());
            session.spawn().unwrap()
        })
        .collect();
    for (number, session) in sessions.iter_mut().enumerate() {
        session.stdin.as_mut().unwrap().write_all(b"in ").unwrap();
        drop(session.stdin.take());
        let mut text = String::new();
        session.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, format!("in {number}\n"));
        wait(session, "ssh");
    }
    master.kill().unwrap();
    wait(&mut master, "ssh");
}
