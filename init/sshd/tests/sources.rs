//! Where keys come from, beside authorized_keys and the command line.

mod harness;

use harness::{DEADLINE, Server, make_key, run, until, write};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Serves each answer once, the last for ever. Gives the port.
fn serve(answers: Vec<(u16, Vec<u8>)>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            lines.map_while(Result::ok).take_while(|line| !line.is_empty()).for_each(drop);
            let (status, body) = &answers[number.min(answers.len() - 1)];
            let head =
                format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            // A client that has enough goes away.
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
        }
    });
    port
}

fn has_curl() -> bool {
    let found = Path::new("/usr/bin/curl").exists();
    if !found {
        harness::skip("no curl");
    }
    found
}

#[test]
fn keys_of_a_url_are_fetched_when_they_can_be_and_kept() {
    need_client!();
    if !has_curl() {
        return;
    }
    let keys = tempfile::TempDir::new().unwrap();
    let line = make_key(keys.path(), "key", &["-t", "ed25519"]);
    // The network, or the far side, is not up at first.
    let port = serve(vec![(503, vec![]), (200, b"<html>".to_vec()), (200, line.into_bytes())]);
    let mut server = Server::start(
        |dir| {
            write(
                dir,
                "proc/cmdline",
                &format!("quiet ssh_key=http://me:secret@127.0.0.1:{port}/me.keys?t=secret"),
            );
            for name in ["key", "key.pub"] {
                fs::copy(keys.path().join(name), dir.join(name)).unwrap();
            }
        },
        &[],
    );
    let password = server.path("run/lifeboat/sshd/password");
    assert!(password.exists(), "until then there is a password");
    assert!(until(|| server.state()["keys"].as_array().unwrap().len() == 1), "{}", server.state());
    assert!(until(|| !password.exists()), "and then there is none");
    assert_eq!(server.run("echo in").succeeds().text(), "in\n");
    server.log.wait_for(&format!("from http://127.0.0.1:{port}/me.keys line 1"));
    let said = server.log.text();
    assert!(said.contains("is not encrypted") && !said.contains("secret"), "{said}");
    // It is the boot's, whatever becomes of the far side.
    server.crash_and_restart();
    assert_eq!(server.run("echo in").succeeds().text(), "in\n");
}

#[test]
fn a_secret_in_a_url_stands_on_no_command_line_and_in_no_environment() {
    if !has_curl() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = format!("http://me:tr0ub4dor@127.0.0.1:{port}/keys?t=tr0ub4dor");
    let server = Server::start(|dir| write(dir, "etc/lifeboat/params", &format!("ssh_key={url}\n")), &[]);
    // Who asks waits for the answer, while all processes are looked at.
    let (mut stream, _) = listener.accept().unwrap();
    let mut asked = String::new();
    BufReader::new(stream.try_clone().unwrap()).read_line(&mut asked).unwrap();
    assert!(asked.starts_with("GET /keys?t=tr0ub4dor "), "{asked}");
    let mut seen = 0;
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        for name in ["cmdline", "environ"] {
            // It may have ended, or be another user's.
            let Ok(text) = fs::read(entry.path().join(name)) else { continue };
            seen += usize::from(text.starts_with(b"/usr/bin/curl\0"));
            assert!(!String::from_utf8_lossy(&text).contains("tr0ub4dor"), "{:?} {name}", entry.path());
        }
    }
    assert!(seen > 0, "curl was among them");
    let _ = stream.write_all(b"HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n");
    assert!(!server.log.text().contains("tr0ub4dor"));
}

#[test]
fn what_a_url_gives_is_bounded_and_its_failure_named() {
    need_client!();
    if !has_curl() {
        return;
    }
    let long = serve(vec![(200, vec![b'#'; 100_000])]);
    let server = Server::start(
        |dir| {
            let values = format!("ssh_key=http://127.0.0.1:{long}/long ssh_key=https://127.0.0.1:{long}/tls");
            write(dir, "proc/cmdline", &values);
        },
        &[],
    );
    let problems = || server.state()["problems"].to_string();
    let named = until(|| {
        problems().contains("/long is longer than 64 KiB") && problems().contains("/tls could not be fetched")
    });
    assert!(named, "within {DEADLINE:?}: {}", problems());
    assert!(server.path("run/lifeboat/sshd/password").exists());
}

/// Files of a directory over TLS, by a certificate for 127.0.0.1 that the CA beside it made (image/src/vm/https.rs tells of
/// both). Gives the port.
fn serve_tls(directory: &Path) -> Option<(Child, u16)> {
    let mut server = Command::new("openssl")
        .current_dir(directory)
        .args(["s_server", "-accept", "127.0.0.1:0", "-cert", "server.crt", "-key", "server.key", "-WWW"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    let mut lines = BufReader::new(server.stdout.take()?).lines().map_while(Result::ok);
    let port = lines.find_map(|line| line.strip_prefix("ACCEPT ")?.rsplit(':').next()?.parse().ok())?;
    std::thread::spawn(move || lines.for_each(drop));
    Some((server, port))
}

#[test]
fn keys_of_a_url_come_by_the_authority_that_was_handed_in_and_by_no_other() {
    need_client!();
    if !has_curl() {
        return;
    }
    let dir = tempfile::TempDir::new().unwrap();
    for (name, text) in [
        ("server.crt", include_str!("../../../image/src/vm/https/server.crt")),
        ("server.key", include_str!("../../../image/src/vm/https/server.key")),
    ] {
        write(dir.path(), name, text);
    }
    let line = make_key(dir.path(), "key", &["-t", "ed25519"]);
    write(dir.path(), "me.keys", &line);
    let Some((mut far, port)) = serve_tls(dir.path()) else {
        harness::skip("no openssl");
        return;
    };
    let url = format!("ssh_key=https://127.0.0.1:{port}/me.keys");
    let with = |words: &str, file: &str| {
        Server::start(
            |dir| {
                write(dir, "proc/cmdline", &format!("{url} {words}"));
                write(dir, "etc/lifeboat/ca.crt", file);
            },
            &[],
        )
    };
    let authority = include_str!("../../../image/src/vm/https/ca.crt");
    let server = with("rescue.ca=/etc/lifeboat/ca.crt", authority);
    assert!(until(|| server.state()["keys"].as_array().unwrap().len() == 1), "{}", server.state());
    for (label, words, file, why) in [
        ("nobody's", "", authority, "its certificate is not trusted"),
        ("empty", "rescue.ca=/etc/lifeboat/ca.crt", "", "cannot be read"),
        ("absent", "rescue.ca=/etc/lifeboat/none.crt", authority, "cannot be read"),
    ] {
        let server = with(words, file);
        assert!(
            until(|| server.state()["problems"].to_string().contains(why)),
            "{label}: {}",
            server.state()
        );
        assert_eq!(server.state()["keys"].as_array().unwrap().len(), 0, "{label}");
    }
    far.kill().unwrap();
    far.wait().unwrap();
}

#[test]
fn keys_of_the_hypervisor_are_found_though_they_come_late() {
    need_client!();
    let server = Server::start(|_| {}, &[]);
    let line = make_key(server.dir.path(), "key", &["-t", "ed25519"]);
    let place = "sys/firmware/qemu_fw_cfg/by_name/opt/io.systemd.credentials/ssh.authorized_keys.root/raw";
    write(server.dir.path(), place, &line);
    assert!(until(|| server.state()["password"] == false), "{}", server.state());
    assert_eq!(server.run("echo in").succeeds().text(), "in\n");
    server.log.wait_for("from fw_cfg ssh.authorized_keys.root line 1");
}

/// Answers each path by what is said of it; whatever else is asked for is not there. Gives the port and what was asked,
/// with the header that a cloud's token comes in.
fn cloud(answers: Vec<(&'static str, String)>) -> (u16, std::sync::Arc<std::sync::Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let lines: Vec<String> =
                lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            let request: Vec<&str> = lines[0].split(' ').take(2).collect();
            let request = request.join(" ");
            let token = lines.iter().find(|line| line.starts_with("X-aws-ec2")).cloned().unwrap_or_default();
            log.lock().unwrap().push(format!("{request} {token}\n"));
            let answer = answers.iter().find(|(path, _)| *path == request);
            let (status, body) = answer.map_or((404, ""), |(_, body)| (200, body.as_str()));
            let head =
                format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
        }
    });
    (port, asked)
}

#[test]
fn keys_of_a_metadata_service_that_was_asked_for_open_the_door_and_close_it_to_passwords() {
    need_client!();
    if !has_curl() {
        return;
    }
    let made = tempfile::TempDir::new().unwrap();
    let line = make_key(made.path(), "key", &["-t", "ed25519"]);
    let json = |key: &str| serde_json::to_string(key.trim()).unwrap();
    let mine = ("GET /latest/meta-data/public-keys/", "0=mine".to_string());
    let key = ("GET /latest/meta-data/public-keys/0/openssh-key", line.clone());
    let openstack = format!("{{\"public_keys\":{{\"mine\":{}}}}}", json(&line));
    // Name, how it is shown at login, its answers, and what has to be among what it was asked.
    let cases = [
        (
            "ec2",
            "EC2 metadata",
            vec![("PUT /latest/api/token", "T0KEN".to_string()), mine.clone(), key.clone()],
            "0/openssh-key X-aws-ec2-metadata-token: T0KEN",
        ),
        ("ec2", "EC2 metadata", vec![mine, key], "0/openssh-key \n"),
        ("openstack", "OpenStack metadata", vec![("GET /openstack/latest/meta_data.json", openstack)], ""),
        (
            "hetzner",
            "Hetzner metadata",
            vec![("GET /hetzner/v1/metadata/public-keys", format!("[{}]", json(&line)))],
            "",
        ),
        ("digitalocean", "DigitalOcean metadata", vec![("GET /metadata/v1/public-keys", line.clone())], ""),
    ];
    for (service, shown, answers, want) in cases {
        let (port, asked) = cloud(answers);
        let server = Server::start(
            |dir| {
                write(dir, "proc/cmdline", &format!("rescue.metadata={service}"));
                for name in ["key", "key.pub"] {
                    fs::copy(made.path().join(name), dir.join(name)).unwrap();
                }
            },
            &["--metadata", &format!("http://127.0.0.1:{port}")],
        );
        assert!(until(|| server.state()["password"] == false), "{service}: {}", server.state());
        assert!(!server.path("run/lifeboat/sshd/password").exists(), "{service}");
        assert_eq!(server.run("echo in").succeeds().text(), "in\n", "{service}");
        server.log.wait_for(&format!("from {shown}\""));
        let asked = asked.lock().unwrap().concat();
        assert!(asked.contains(want), "{service}: {want:?} in {asked}");
    }
}

#[test]
fn no_metadata_service_is_asked_unless_a_person_wants_it() {
    need_client!();
    let (port, asked) = cloud(Vec::new());
    let server = Server::start(|_| {}, &["--metadata", &format!("http://127.0.0.1:{port}")]);
    // As long as a service that is wanted takes, and more.
    assert!(until(|| server.state()["more_host_keys"][0].is_string()));
    assert_eq!(asked.lock().unwrap().len(), 0);
    let (problem, server) =
        ("no service azure", Server::start(|dir| write(dir, "proc/cmdline", "rescue.metadata=azure"), &[]));
    assert!(server.state()["problems"].to_string().contains(problem), "{}", server.state());
}

#[test]
fn a_fetcher_that_fails_itself_is_not_taken_for_curl() {
    let mut fetcher = Command::new(env!("CARGO_BIN_EXE_sshd"));
    // What to fetch is told in UTF-8: this is not.
    let done = run(fetcher.arg("fetch"), b"\xff");
    assert_eq!(done.status.code(), Some(125), "{}", done.stderr);
    assert!(done.stderr.contains("fetch: hear what to fetch"), "{}", done.stderr);
}
