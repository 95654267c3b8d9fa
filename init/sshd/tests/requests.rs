//! What the stock client cannot be made to ask for: signals, breaks, requests that nobody knows. Asked
//! by russh's own client.

mod harness;

use harness::{DEADLINE, Server, authorize, make_key};
use russh::client::{self, Handle};
use russh::keys::{PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{ChannelMsg, Sig};
use std::path::Path;
use std::sync::Arc;

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
