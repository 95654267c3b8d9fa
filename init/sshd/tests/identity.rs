//! How the host is known before the first login.

mod harness;

use harness::{Server, authorize, listen, make_key, run, until, write};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

#[test]
fn an_rsa_key_follows_for_old_clients_and_is_kept_over_a_restart() {
    need_client!();
    let mut server = Server::with_key();
    let rsa = |server: &Server| server.state()["more_host_keys"][0].as_str().map(str::to_string);
    assert!(until(|| rsa(&server).is_some()), "{}", server.state());
    let key = rsa(&server).unwrap();
    assert!(key.starts_with("ssh-rsa AAAA"), "{key}");
    let enter = |server: &Server| {
        for algorithm in ["rsa-sha2-512", "rsa-sha2-256"] {
            let options = server.options();
            let alias = server.state()["alias"].as_str().unwrap().to_string();
            fs::write(server.path("known_hosts"), format!("{alias} {key}\n")).unwrap();
            let mut command = Command::new("ssh");
            command.args(["-o", &format!("HostKeyAlgorithms={algorithm}")]).args(options);
            let done = run(command.args(["root@127.0.0.1", "echo in"]), b"");
            assert_eq!(done.succeeds().text(), "in\n", "{algorithm}");
        }
    };
    enter(&server);
    server.crash_and_restart();
    assert!(until(|| rsa(&server).is_some()));
    enter(&server);
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &fs::metadata(server.path("run/lifeboat/sshd/host_rsa")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn what_dns_holds_is_what_ssh_keygen_says() {
    need_client!();
    let server = Server::with_key();
    assert!(until(|| server.state()["sshfp"].as_array().unwrap().len() == 2));
    let state = server.state();
    for (line, record) in
        [(&state["host_key"], &state["sshfp"][0]), (&state["more_host_keys"][0], &state["sshfp"][1])]
    {
        fs::write(server.path("host.pub"), line.as_str().unwrap()).unwrap();
        let done =
            run(Command::new("ssh-keygen").args(["-r", "host", "-f"]).arg(server.path("host.pub")), b"");
        let record = format!("host {}\n", record.as_str().unwrap());
        assert!(done.text().contains(&record), "no {record} in {}", done.text());
    }
    server.log.wait_for("\"sshfp\":\"IN SSHFP 4 2 ");
    assert!(state["qr"].as_str().unwrap().lines().count() > 15);
}

/// With a host certificate, signed by `ca` with these words of ssh-keygen's.
fn with_certificate(words: &[&str]) -> Server {
    Server::start(
        |dir| {
            fs::create_dir_all(dir.join("etc/ssh")).unwrap();
            make_key(dir, "etc/ssh/ssh_host_ed25519_key", &["-t", "ed25519"]);
            make_key(dir, "ca", &["-t", "ed25519"]);
            let mut sign = Command::new("ssh-keygen");
            sign.args(["-q", "-h"]).args(words).arg("-s").arg(dir.join("ca"));
            run(sign.arg(dir.join("etc/ssh/ssh_host_ed25519_key.pub")), b"").succeeds();
            authorize(dir, &make_key(dir, "key", &["-t", "ed25519"]));
        },
        &[],
    )
}

#[test]
fn a_host_certificate_is_offered_and_makes_the_host_known() {
    need_client!();
    let server = with_certificate(&["-I", "rescue of db1", "-n", "db1.example.com"]);
    assert!(
        server.state()["certificate"].as_str().unwrap().starts_with("\"rescue of db1\" for db1.example.com")
    );
    let authority = fs::read_to_string(server.path("ca.pub")).unwrap();
    let enter = |name: &str| {
        let options = server.options();
        fs::write(server.path("known_hosts"), format!("@cert-authority *.example.com {authority}")).unwrap();
        let alias = format!("HostKeyAlias={name}");
        let mut command = Command::new("ssh");
        run(command.args(["-o", &alias]).args(options).args(["root@127.0.0.1", "echo in"]), b"")
    };
    assert_eq!(enter("db1.example.com").succeeds().text(), "in\n");
    assert!(enter("db2.example.com").stderr.contains("Host key verification failed"));
}

#[test]
fn a_certificate_that_has_expired_is_named_and_the_client_decides() {
    need_client!();
    let server = with_certificate(&["-I", "x", "-V", "-2d:-1d"]);
    let problems = server.state()["problems"].to_string();
    assert!(problems.contains("ssh_host_ed25519_key-cert.pub: has expired"), "{problems}");
    // Who knows the key itself does not mind.
    assert_eq!(server.run("echo in").succeeds().text(), "in\n");
}

#[test]
fn a_certificate_of_another_key_is_named_and_not_offered() {
    need_client!();
    let server = Server::start(
        |dir| {
            fs::create_dir_all(dir.join("etc/ssh")).unwrap();
            make_key(dir, "other", &["-t", "ed25519"]);
            let mut sign = Command::new("ssh-keygen");
            sign.args(["-q", "-h", "-I", "x", "-s"]).arg(dir.join("other")).arg(dir.join("other.pub"));
            run(&mut sign, b"").succeeds();
            fs::rename(dir.join("other-cert.pub"), dir.join("etc/ssh/ssh_host_ed25519_key-cert.pub"))
                .unwrap();
            authorize(dir, &make_key(dir, "key", &["-t", "ed25519"]));
        },
        &[],
    );
    let problems = server.state()["problems"].to_string();
    assert!(problems.contains("is the certificate of another key"), "{problems}");
    assert_eq!(server.run("echo in").succeeds().text(), "in\n");
}

#[test]
fn whoever_orchestrates_gets_addresses_and_host_key_in_one_event_and_again_when_they_change() {
    let server = Server::start(|_| {}, &[]);
    let addressed = |address: &str| {
        let netd = format!("{{\"links\":[{{\"addresses\":[{{\"address\":\"{address}\"}}]}}]}}");
        let (beside, path) = (server.path("netd"), server.path("run/lifeboat/state/netd.json"));
        fs::write(&beside, netd).unwrap();
        fs::rename(&beside, path).unwrap();
    };
    assert!(!server.log.text().contains("\"entrance\""), "there is no address yet");
    for address in ["192.0.2.7", "2001:db8::7"] {
        addressed(address);
        server.log.wait_for(&format!("\"entrance\":{{\"addresses\":[\"{address}\"]"));
    }
    let text = server.log.text();
    let line = text.lines().rfind(|line| line.contains("\"entrance\"")).unwrap();
    let event: serde_json::Value = serde_json::from_str(&line[line.find('{').unwrap()..]).unwrap();
    let (entrance, state) = (&event["entrance"], server.state());
    assert_eq!((&event["kind"], &event["service"]), (&"ready".into(), &"rescue".into()));
    for (told, known) in
        [("port", "port"), ("line", "host_key"), ("fingerprint", "fingerprint"), ("alias", "alias")]
    {
        assert_eq!(entrance[told], state[known], "{told}");
    }
    assert_eq!(entrance["sshfp"], state["sshfp"][0]);
    assert_eq!(entrance["origin"], "fresh");
}

/// As a search that a disk's driver holds up. Whatever the test comes to, it goes on.
struct Stopped(Pid);

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::CONT);
    }
}

#[test]
fn the_installed_system_is_waited_for_as_long_as_was_said_and_its_key_is_not_taken_later() {
    need_client!();
    let dir = tempfile::TempDir::new().unwrap();
    write(dir.path(), "proc/cmdline", "quiet rescue.hostkey=installed,2\n");
    authorize(dir.path(), &make_key(dir.path(), "key", &["-t", "ed25519"]));
    let begun = Instant::now();
    let (child, log) = listen(dir.path(), 0, &[]);
    let mut server = Server { dir, child, log, port: 0 };
    let children = format!("/proc/{0}/task/{0}/children", server.child.id());
    let said = |pid: i32, what: &str| fs::read_to_string(format!("/proc/{pid}/{what}")).unwrap_or_default();
    let mut search = None;
    assert!(until(|| {
        let pids = fs::read_to_string(&children).unwrap();
        let mut pids = pids.split_whitespace().filter_map(|pid| pid.parse().ok());
        search = pids.find(|pid| said(*pid, "cmdline").contains("\0installed\0"));
        search.is_some()
    }));
    let (search, state) = (search.unwrap(), server.state());
    let stopped = Stopped(Pid::from_raw(search).unwrap());
    kill_process(stopped.0, Signal::STOP).unwrap();
    assert_eq!(state["waits"], "for the host key of the system on the disks, 2 s at most", "while it waits");

    server.log.wait_for("\"kind\":\"ready\"");
    let took = begun.elapsed();
    // Below what it waits where nobody says how long.
    assert!((Duration::from_secs(2)..Duration::from_secs(15)).contains(&took), "{took:?}");
    assert!(said(search, "stat").contains(") T "), "the search goes on: {}", said(search, "stat"));
    let problem = "rescue.hostkey: the disks were not looked through within 2 s: a fresh host key is used, until the next boot";
    let warning = format!("\"kind\":\"notice\",\"severity\":\"warning\",\"text\":\"{problem}\"");
    assert!(server.log.text().contains(&warning), "no {warning} in {}", server.log.text());
    let before = server.state();
    assert!(
        before["problems"].as_array().unwrap().contains(&problem.into()),
        "the consoles do not say so: {before}"
    );
    assert_eq!((&before["origin"], &before["waits"]), (&"fresh".into(), &"".into()));
    server.port = before["port"].as_u64().unwrap().try_into().unwrap();
    assert_eq!(server.run("echo in").succeeds().text(), "in\n");

    // The search ends after all, and then the listener does.
    drop(stopped);
    assert!(until(|| said(search, "stat").is_empty()), "{}", said(search, "stat"));
    assert_eq!(server.state()["host_key"], before["host_key"]);
    assert_eq!(server.run("echo in").succeeds().text(), "in\n");
    server.crash_and_restart();
    let after = server.state();
    assert_eq!((&after["host_key"], &after["origin"]), (&before["host_key"], &"fresh".into()));
    assert_eq!(after["problems"], before["problems"], "why it is a fresh one is true for the whole boot");
    assert_eq!(server.run("echo in").succeeds().text(), "in\n");
}
