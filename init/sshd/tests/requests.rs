//! What the stock client cannot be made to ask for: signals, breaks, requests that nobody knows. Asked
//! by russh's own client. And what it can be, in bytes that are not UTF-8.

mod harness;

use harness::{DEADLINE, Server, authorize, bytes, make_key, run};
use russh::client::{self, Handle};
use russh::keys::key::safe_rng;
use russh::keys::ssh_key::Algorithm;
use russh::keys::{PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{ChannelMsg, Sig};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

struct Anybody;

impl client::Handler for Anybody {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _key: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(true)
    }
}

fn with_client(run: impl AsyncFnOnce(Handle<Anybody>)) {
    with_client_of("", run);
}

/// With options before the client's key.
fn with_client_of(options: &str, run: impl AsyncFnOnce(Handle<Anybody>)) {
    let prepare = |dir: &Path| {
        let line = make_key(dir, "key", &["-t", "ed25519"]);
        authorize(dir, format!("{options} {line}").trim_start());
    };
    let server = Server::start(prepare, &[]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let text = std::fs::read_to_string(server.path("key")).unwrap();
    let key = Arc::new(PrivateKey::from_openssh(&text).unwrap());
    runtime.block_on(async {
        let config = Arc::new(client::Config::default());
        let mut session = client::connect(config, ("127.0.0.1", server.port), Anybody).await.unwrap();
        let key = PrivateKeyWithHashAlg::new(key, None);
        assert!(session.authenticate_publickey("root", key).await.unwrap().success());
        tokio::time::timeout(DEADLINE, run(session)).await.unwrap();
    });
}

/// As from an agent that holds many. russh's own default is a second for each that is refused; of so many the quickest
/// says whether there is such a wait, on a busy machine too.
#[test]
fn keys_that_are_refused_before_the_right_one_are_refused_at_once() {
    need_client!();
    let server = Server::with_key();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let right = PrivateKey::from_openssh(std::fs::read_to_string(server.path("key")).unwrap()).unwrap();
    let quickest = runtime.block_on(async {
        let config = Arc::new(client::Config::default());
        let mut session = client::connect(config, ("127.0.0.1", server.port), Anybody).await.unwrap();
        let mut quickest = DEADLINE;
        for number in 0..25 {
            let wrong = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap();
            let offer = PrivateKeyWithHashAlg::new(Arc::new(wrong), None);
            let start = Instant::now();
            let result = session.authenticate_publickey("root", offer).await.unwrap();
            quickest = quickest.min(start.elapsed());
            assert!(!result.success(), "wrong key {number}");
        }
        let offer = PrivateKeyWithHashAlg::new(Arc::new(right), None);
        assert!(session.authenticate_publickey("root", offer).await.unwrap().success());
        quickest
    });
    assert!(quickest < Duration::from_millis(500), "{quickest:?}");
}

#[test]
fn a_signal_reaches_the_program_and_the_one_that_ends_it_is_told() {
    need_client!();
    with_client(async |session| {
        let mut channel = session.channel_open_session().await.unwrap();
        let script = "trap 'echo got INT' INT; echo ready; while :; do sleep 0.1; done";
        channel.exec(true, script).await.unwrap();
        let mut said = String::new();
        let ended = loop {
            match channel.wait().await.unwrap() {
                ChannelMsg::Data { data } => {
                    said.push_str(std::str::from_utf8(&data).unwrap());
                    if said.ends_with("ready\n") {
                        channel.signal(Sig::INT).await.unwrap();
                    } else if said.ends_with("got INT\n") {
                        channel.signal(Sig::Custom("NONSENSE".to_string())).await.unwrap();
                        channel.signal(Sig::KILL).await.unwrap();
                    }
                }
                ChannelMsg::ExitSignal { signal_name, .. } => break signal_name,
                _ => {}
            }
        };
        assert_eq!((said.as_str(), format!("{ended:?}").as_str()), ("ready\ngot INT\n", "KILL"));
    });
}

#[test]
fn a_request_without_an_answer_takes_none_from_the_one_before() {
    need_client!();
    with_client(async |session| {
        let mut channel = session.channel_open_session().await.unwrap();
        // The program is started while the window changes.
        channel.exec(true, "echo in").await.unwrap();
        channel.window_change(80, 24, 0, 0).await.unwrap();
        let mut seen = Vec::new();
        while let Some(message) = channel.wait().await {
            match message {
                ChannelMsg::Success => seen.push("success"),
                ChannelMsg::Failure => seen.push("failure"),
                ChannelMsg::Data { .. } => seen.push("data"),
                _ => {}
            }
        }
        assert_eq!(seen, ["success", "data"]);
    });
}

/// By the stock client's `~B`, which asks for no answer; paramiko asks for one (interop.rs). A pseudo-terminal of Linux
/// does nothing with a break, as with OpenSSH: what is seen is that all goes on behind it.
#[test]
fn a_break_is_taken_and_the_session_goes_on() {
    need_client!();
    let server = Server::with_key();
    let script = "read first; read second; echo \"got <$first> <$second>\"; exit 5";
    // At the start of a line it is the client's; the rest of the line is the program's.
    let done = run(server.ssh(&["-tt", "-vv"]).arg(script), b"~Bone\n~Btwo\n");
    assert_eq!(done.code(), Some(5), "{}", done.stderr);
    assert_eq!(done.stderr.matches("request break confirm 0").count(), 2, "{}", done.stderr);
    assert!(done.text().contains("got <one> <two>\r\n"), "{}", done.text());
}

#[test]
fn a_command_that_was_forced_upon_somebody_is_not_his_to_kill() {
    need_client!();
    with_client_of(r#"command="echo ready; sleep 1; echo lives""#, async |session| {
        let mut channel = session.channel_open_session().await.unwrap();
        channel.exec(true, "anything").await.unwrap();
        let mut said = String::new();
        let ended = loop {
            match channel.wait().await.unwrap() {
                ChannelMsg::Data { data } => {
                    said.push_str(std::str::from_utf8(&data).unwrap());
                    if said == "ready\n" {
                        channel.signal(Sig::KILL).await.unwrap();
                    }
                }
                ChannelMsg::ExitStatus { exit_status } => break exit_status,
                ChannelMsg::ExitSignal { signal_name, .. } => panic!("killed by {signal_name:?}"),
                _ => {}
            }
        };
        assert_eq!((said.as_str(), ended), ("ready\nlives\n", 0));
    });
}

#[test]
fn a_client_that_wants_no_more_sessions_gets_none() {
    need_client!();
    with_client(async |session| {
        let mut channel = session.channel_open_session().await.unwrap();
        session.no_more_sessions(true).await.unwrap();
        channel.exec(true, "cat").await.unwrap();
        channel.data(&b"still here"[..]).await.unwrap();
        let said = loop {
            if let ChannelMsg::Data { data } = channel.wait().await.unwrap() {
                break data;
            }
        };
        assert_eq!(&said[..], b"still here", "the session that was there goes on");
        assert!(session.channel_open_session().await.is_err());
        while channel.wait().await.is_some() {}
        assert!(session.is_closed(), "as OpenSSH, it trusts such a client no further");
    });
}

#[test]
fn what_is_not_utf_8_fails_by_itself_and_not_the_connection() {
    need_client!();
    let server = Server::with_key();
    let latin =
        |text: &str| bytes(&text.bytes().map(|b| if b == b'?' { 0xff } else { b }).collect::<Vec<_>>());
    // A label, options, a command; the exit status, stdout, and a part of stderr.
    type Case = (&'static str, &'static [&'static str], &'static str, i32, &'static str, &'static str);
    let cases: &[Case] = &[
        ("command", &[], "printf '\\377?' | od -An -tx1", 0, " ff ff\n", ""),
        ("subsystem", &["-s"], "sftp?", 255, "", "subsystem request failed"),
        ("terminal", &["-tt"], "echo $TERM", 0, "xterm-256color\r\n", ""),
        ("environment", &["-o", "SetEnv=LC_X=?"], "echo in$LC_X", 0, "in\n", ""),
        ("host", &["-W", "a?b:22"], "", 255, "", "open failed"),
        ("listener", &["-R", "a?b:0:127.0.0.1:1"], "echo in", 0, "in\n", "forwarding failed"),
        ("socket", &["-R", "/nowhere?/socket:/nowhere"], "echo in", 0, "in\n", "forwarding failed"),
        ("user", &["-l", "root?"], "echo in", 255, "", "Permission denied"),
    ];
    for (label, options, command, code, stdout, stderr) in cases {
        let rest: Vec<_> = server.ssh(&[]).get_args().map(|argument| argument.to_os_string()).collect();
        let mut ssh = std::process::Command::new("ssh");
        ssh.args(options.iter().map(|option| latin(option))).args(rest).env_remove("SSH_AUTH_SOCK");
        if *label == "terminal" {
            ssh.env("TERM", latin("xterm?"));
        }
        if !command.is_empty() {
            ssh.arg(latin(command));
        }
        let done = run(&mut ssh, b"");
        assert_eq!((done.code(), done.text().as_str()), (Some(*code), *stdout), "{label}: {}", done.stderr);
        assert!(done.stderr.contains(stderr), "{label}: {}", done.stderr);
    }
}

#[test]
fn a_password_that_is_not_utf_8_is_a_wrong_one() {
    need_client!();
    let server = Server::start(|_| {}, &[]);
    let askpass = server.path("askpass");
    harness::write(server.dir.path(), "askpass", "#!/bin/sh\nprintf 'caf\\351\\n'\n");
    std::fs::set_permissions(&askpass, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let mut ssh = server.ssh(&harness::BY_PASSWORD);
    run(ssh.env("SSH_ASKPASS", askpass).env("SSH_ASKPASS_REQUIRE", "force").arg("true"), b"").is_refused();
}
