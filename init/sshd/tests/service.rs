//! The listener as a service: what it survives, and whom it lets wait.

mod harness;

use harness::{Log, Server, authorize, listen, make_key, run, until, wait};
use std::fs;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::process::Stdio;

#[test]
fn killing_the_listener_ends_no_session_and_loses_no_identity() {
    need_client!();
    let mut server = Server::with_key();
    let before = server.state();
    let mut session =
        server.ssh(&[]).arg("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = session.stdin.take().unwrap();
    let seen = Log::of(session.stdout.take().unwrap());
    stdin.write_all(b"before\n").unwrap();
    seen.wait_for("before");
    server.crash_and_restart();
    stdin.write_all(b"after\n").unwrap();
    seen.wait_for("after");
    assert_eq!(server.run("echo in").succeeds().text(), "in\n");
    assert_eq!(server.state()["host_key"], before["host_key"]);
    drop(stdin);
    assert!(wait(&mut session, "ssh").success());
}

#[test]
fn a_restart_keeps_the_password_of_the_boot() {
    need_client!();
    let mut server = Server::start(|_| {}, &[]);
    let password = fs::read_to_string(server.path("run/lifeboat/sshd/password")).unwrap();
    server.crash_and_restart();
    assert_eq!(fs::read_to_string(server.path("run/lifeboat/sshd/password")).unwrap(), password);
    server.by_password("root", password.trim()).succeeds();
}

#[test]
fn connections_that_do_not_log_in_crowd_out_nobody() {
    need_client!();
    let server = Server::start(
        |dir| authorize(dir, &make_key(dir, "key", &["-t", "ed25519"])),
        &["--waiting", "4", "--waiting-per-address", "4"],
    );
    let mut silent: Vec<TcpStream> =
        (0..20).map(|_| TcpStream::connect(("127.0.0.1", server.port)).unwrap()).collect();
    assert_eq!(server.run("echo in").succeeds().text(), "in\n");
    server.log.wait_for("connections that did not log in had to make room");
    // The oldest had to go: after our banner, or in the middle of it, the stream ends.
    silent[0].set_read_timeout(Some(harness::DEADLINE)).unwrap();
    let mut banner = Vec::new();
    let end = silent[0].read_to_end(&mut banner);
    assert!(end.is_ok() || end.unwrap_err().kind() == std::io::ErrorKind::ConnectionReset);
    // Sessions are not counted: eight at once beside what waits.
    let mut sessions = Vec::new();
    for _ in 0..8 {
        let mut session = server.ssh(&[]);
        session.arg("echo in; cat").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut session = session.spawn().unwrap();
        Log::of(session.stdout.take().unwrap()).wait_for("in");
        sessions.push(session);
    }
    for session in &mut sessions {
        drop(session.stdin.take());
        assert!(wait(session, "ssh").success());
    }
}

#[test]
fn whoever_takes_too_long_to_log_in_is_sent_away() {
    need_client!();
    let server = Server::start(|_| {}, &["--grace", "1"]);
    let mut silent = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    silent.set_read_timeout(Some(harness::DEADLINE)).unwrap();
    let mut banner = Vec::new();
    silent.read_to_end(&mut banner).unwrap();
    assert!(banner.starts_with(b"SSH-2.0-"), "{banner:?}");
    server.log.wait_for("nobody logged in within 1s");
}

#[test]
fn garbage_ends_its_own_connection_only() {
    need_client!();
    let server = Server::with_key();
    for text in
        [&b"GET / HTTP/1.0\r\n\r\n"[..], b"SSH-2.0-x\r\n\0\0\0\x01garbage", b"\0\xff\xff\xff\xff", b""]
    {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        stream.set_read_timeout(Some(harness::DEADLINE)).unwrap();
        stream.write_all(text).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        let end = stream.read_to_end(&mut answer);
        assert!(end.is_ok() || end.unwrap_err().kind() == std::io::ErrorKind::ConnectionReset, "{text:?}");
    }
    assert_eq!(server.run("echo in").succeeds().text(), "in\n");
}

#[test]
fn a_port_that_is_taken_is_tried_until_it_is_free() {
    need_client!();
    let first = Server::with_key();
    let dir = tempfile::TempDir::new().unwrap();
    let (mut child, log) = listen(dir.path(), first.port, &[]);
    log.wait_for("trying again");
    drop(first);
    log.wait_for("\"kind\":\"ready\"");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn what_speaks_with_strangers_has_no_privileges() {
    need_client!();
    if !rustix::process::geteuid().is_root() {
        harness::skip("only root can give up root");
        return;
    }
    let server = Server::with_key();
    // Our parent is the monitor; its other child is the transport.
    let script = "for pid in $(cat /proc/$PPID/task/$PPID/children); do
        tr '\\0' ' ' < /proc/$pid/cmdline; grep -E '^(Uid|Gid|Groups|CapEff|CapPrm|NoNewPrivs|Seccomp):' /proc/$pid/status; done";
    let done = run(server.ssh(&[]).arg(script), b"").succeeds();
    let text = done.text();
    let transport = text.split(" transport ").nth(1).unwrap_or_else(|| panic!("no transport in {text}"));
    for wanted in [
        "Uid:\t65534\t65534\t65534\t65534\n",
        "Gid:\t65534\t65534\t65534\t65534\n",
        "Groups:\t \n",
        "CapPrm:\t0000000000000000\n",
        "CapEff:\t0000000000000000\n",
        "NoNewPrivs:\t1\n",
        "Seccomp:\t2\n",
    ] {
        assert!(transport.contains(wanted), "no {wanted:?} in {transport}");
    }
}

#[test]
fn nothing_is_left_of_a_connection_that_ended() {
    need_client!();
    let server = Server::with_key();
    for _ in 0..5 {
        server.run("true").succeeds();
    }
    let children = format!("/proc/{0}/task/{0}/children", server.child.id());
    assert!(
        until(|| fs::read_to_string(&children).unwrap().trim().is_empty()),
        "{}",
        fs::read_to_string(&children).unwrap()
    );
}

/// Stopped, it stands for one that was taken over and does not end by itself.
#[test]
fn a_transport_outlives_its_monitor_in_no_way() {
    need_client!();
    let server = Server::start(|_| {}, &["--grace", "2"]);
    let mut stranger = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    let mut banner = [0; 8];
    stranger.read_exact(&mut banner).unwrap();
    let child = |pid: u32| -> u32 {
        let children = format!("/proc/{pid}/task/{pid}/children");
        fs::read_to_string(children).unwrap().split_ascii_whitespace().next().unwrap().parse().unwrap()
    };
    let transport = child(child(server.child.id()));
    let pid = rustix::process::Pid::from_raw(transport.cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    server.log.wait_for("nobody logged in within 2s");
    let state = || fs::read_to_string(format!("/proc/{transport}/stat")).unwrap_or_default();
    // Where nobody reaps orphans, it stays as a zombie.
    let ended = until(|| state().is_empty() || state().contains(") Z "));
    if !ended {
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
    assert!(ended, "it holds its connection still");
}

#[test]
fn whoever_sends_a_byte_now_and_then_is_sent_away_as_well() {
    need_client!();
    let server = Server::start(|_| {}, &["--grace", "2"]);
    let mut slow = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    let start = std::time::Instant::now();
    // Never a whole line, and never silent.
    while slow.write_all(b"S").is_ok() {
        assert!(start.elapsed() < harness::DEADLINE, "still connected");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(start.elapsed().as_secs() < 20, "it took {:?}", start.elapsed());
    server.log.wait_for("nobody logged in within 2s");
}
