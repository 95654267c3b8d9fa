//! Forwarded streams, in every direction and kind, with a brake each.

mod harness;

use harness::{DEADLINE, Server, noise, run, until, wait};
use russh::Channel;
use russh::client::{self, ChannelOpenHandle, Msg, Session};
use russh::keys::{PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

/// Answers every connection with all that it was sent, once it was all sent.
fn echo(listener: TcpListener) -> u16 {
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || reflect(stream.unwrap()));
        }
    });
    port
}

fn reflect(mut stream: TcpStream) {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    stream.write_all(&bytes).unwrap();
}

fn local() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    local().local_addr().unwrap().port()
}

/// What comes back for `bytes`.
fn ask(mut stream: TcpStream, bytes: &[u8]) -> Vec<u8> {
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(bytes).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

fn connect(port: u16) -> TcpStream {
    let mut stream = None;
    assert!(until(|| {
        stream = TcpStream::connect(("127.0.0.1", port)).ok();
        stream.is_some()
    }));
    stream.unwrap()
}

/// `ssh -N EXTRA`, ended with the test.
struct Client(Child);

impl Client {
    fn start(server: &Server, extra: &[&str]) -> Client {
        let options = ["-N", "-o", "ExitOnForwardFailure=yes"];
        Client(server.ssh(&[&options[..], extra].concat()).stdin(Stdio::null()).spawn().unwrap())
    }

    /// With a socket for [`control`].
    fn master(server: &Server, extra: &[&str]) -> Client {
        let path = format!("ControlPath={}", server.path("master").display());
        let client = Client::start(server, &[&["-o", "ControlMaster=yes", "-o", &path], extra].concat());
        assert!(until(|| server.path("master").exists()));
        client
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `ssh -O VERB ARGUMENTS` to the master.
fn control(server: &Server, arguments: &[&str]) -> harness::Done {
    let path = format!("ControlPath={}", server.path("master").display());
    run(&mut server.ssh(&[&["-o", &path, "-O"], arguments].concat()), b"")
}

#[test]
fn a_local_port_and_a_socks_proxy_lead_to_the_far_side() {
    need_client!();
    let server = Server::with_key();
    let (far, near, socks) = (echo(local()), free_port(), free_port());
    let forward = format!("127.0.0.1:{near}:localhost:{far}");
    let _client = Client::start(&server, &["-L", &forward, "-D", &format!("127.0.0.1:{socks}")]);
    let bytes = noise(5 << 20);
    assert!(ask(connect(near), &bytes) == bytes, "by -L");
    // SOCKS 5 (RFC 1928): no authentication, CONNECT to a name.
    let mut stream = connect(socks);
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let name = b"localhost";
    let mut hello = vec![5, 1, 0, 5, 1, 0, 3, name.len() as u8];
    hello.extend_from_slice(name);
    hello.extend_from_slice(&far.to_be_bytes());
    stream.write_all(&hello).unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer[..4], [5, 0, 5, 0]);
    assert!(ask(stream, &bytes) == bytes, "by -D");
}

#[test]
fn what_cannot_be_reached_is_refused_and_the_connection_lives() {
    need_client!();
    let server = Server::with_key();
    let _client = Client::master(&server, &[]);
    let path = format!("ControlPath={}", server.path("master").display());
    let nowhere = [format!("127.0.0.1:{}", free_port()), "no-such-host.invalid:1".to_string()];
    for target in &nowhere {
        let done = run(&mut server.ssh(&["-o", &path, "-W", target]), b"");
        assert!(!done.status.success(), "{target}");
    }
    let done = run(&mut server.ssh(&["-W", &nowhere[0]]), b"");
    assert!(done.stderr.contains("connect failed"), "{}", done.stderr);
    assert_eq!(run(server.ssh(&["-o", &path]).arg("echo in"), b"").succeeds().text(), "in\n");
}

#[test]
fn a_remote_port_leads_here_until_it_is_cancelled() {
    need_client!();
    let server = Server::with_key();
    let here = echo(local());
    let _client = Client::master(&server, &[]);
    let target = format!("127.0.0.1:{here}");
    // The port is the server's choice, and told.
    let done = control(&server, &["forward", "-R", &format!("0:{target}")]).succeeds();
    let port: u16 = done.text().trim().parse().unwrap();
    let bytes = noise(5 << 20);
    assert!(ask(connect(port), &bytes) == bytes);
    // It is on loopback alone, where nothing else was asked for.
    let socket = format!(":{:04X} ", port);
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let line = table.lines().find(|line| line.contains(&socket) && line.contains(" 0A ")).unwrap();
    assert!(line.contains(&format!("0100007F{socket}")), "{line}");
    control(&server, &["cancel", "-R", &format!("0:{target}")]).succeeds();
    assert!(until(|| TcpStream::connect(("127.0.0.1", port)).is_err()));
    // And one that is taken is refused.
    let taken = format!("127.0.0.1:{here}:{target}");
    let done = control(&server, &["forward", "-R", &taken]);
    assert!(!done.status.success(), "{} {}", done.text(), done.stderr);
}

#[test]
fn unix_sockets_lead_both_ways_and_are_removed() {
    need_client!();
    let server = Server::with_key();
    let path = |name: &str| server.path(name).to_str().unwrap().to_string();
    let listener = UnixListener::bind(path("end")).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).unwrap();
            stream.write_all(&bytes).unwrap();
        }
    });
    let (there, back) =
        (format!("{}:{}", path("there"), path("end")), format!("{}:{}", path("back"), path("end")));
    let client = Client::start(&server, &["-L", &there, "-R", &back]);
    let bytes = noise(1 << 20);
    for name in ["there", "back"] {
        let mut stream = None;
        assert!(until(|| {
            stream = UnixStream::connect(path(name)).ok();
            stream.is_some()
        }));
        let mut stream = stream.unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.write_all(&bytes).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert!(answer == bytes, "{name}");
    }
    drop(client);
    assert!(until(|| !Path::new(&path("back")).exists()), "the server's socket is left behind");
}

#[test]
fn the_agent_is_lent_to_who_asked_and_to_nobody_else() {
    need_client!();
    let server = Server::with_key();
    let socket = server.path("agent").to_str().unwrap().to_string();
    let mut agent =
        Command::new("ssh-agent").args(["-D", "-a", &socket]).stdout(Stdio::null()).spawn().unwrap();
    assert!(until(|| Path::new(&socket).exists()));
    run(Command::new("ssh-add").arg(server.path("key")).env("SSH_AUTH_SOCK", &socket), b"").succeeds();
    let with = |extra: &[&str], command: &str| {
        let agent = format!("IdentityAgent={socket}");
        let options = [&["-o", &agent], extra].concat();
        run(server.ssh(&options).arg(command), b"")
    };
    let done = with(&["-A"], "ssh-add -l; stat -c %a $SSH_AUTH_SOCK; echo $SSH_AUTH_SOCK").succeeds();
    let text = done.text();
    assert!(text.contains("ED25519") && text.contains("600"), "{text}");
    assert!(text.contains("/run/lifeboat/sshd/agent/"), "{text}");
    let path = text.lines().last().unwrap();
    assert!(until(|| !Path::new(path).exists()), "{path} is left behind");
    assert_eq!(with(&["-a"], "echo none=$SSH_AUTH_SOCK").succeeds().text(), "none=\n");
    agent.kill().unwrap();
    agent.wait().unwrap();
}

#[test]
fn a_stream_whose_end_does_not_read_stops_no_other() {
    need_client!();
    let server = Server::with_key();
    let (stuck, far) = (local(), echo(local()));
    let (near, other) = (free_port(), free_port());
    let forwards = [
        format!("127.0.0.1:{near}:127.0.0.1:{}", stuck.local_addr().unwrap().port()),
        format!("127.0.0.1:{other}:127.0.0.1:{far}"),
    ];
    let mut client = Client::start(&server, &["-L", &forwards[0], "-L", &forwards[1]]);
    let mut stream = connect(near);
    let held = stuck.accept().unwrap();
    // Until nothing more is taken for a second.
    stream.set_write_timeout(Some(std::time::Duration::from_secs(1))).unwrap();
    let block = vec![0; 64 << 10];
    while stream.write(&block).is_ok() {}
    let start = Instant::now();
    let bytes = noise(1 << 20);
    assert!(ask(connect(other), &bytes) == bytes);
    assert!(start.elapsed().as_secs() < 10, "it took {:?}", start.elapsed());
    // Nor does it keep the connection from ending.
    drop((held, stream));
    client.0.kill().unwrap();
    wait(&mut client.0, "ssh");
}

#[test]
fn a_reader_of_a_forwarded_stream_that_pauses_gets_every_byte() {
    need_client!();
    let server = Server::with_key();
    let bytes = noise(64 << 20);
    let sent = bytes.clone();
    let source = local();
    let far = source.local_addr().unwrap().port();
    std::thread::spawn(move || source.accept().unwrap().0.write_all(&sent).unwrap());
    let near = free_port();
    let _client = Client::start(&server, &["-L", &format!("127.0.0.1:{near}:127.0.0.1:{far}")]);
    let mut stream = connect(near);
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    // Long enough for every buffer on the way to fill: here time itself is the matter.
    std::thread::sleep(std::time::Duration::from_secs(1));
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    assert!(got == bytes, "{} bytes", got.len());
}

#[test]
fn many_streams_at_once_and_one_after_the_other() {
    need_client!();
    let server = Server::with_key();
    let (far, near) = (echo(local()), free_port());
    let _client = Client::start(&server, &["-L", &format!("127.0.0.1:{near}:127.0.0.1:{far}")]);
    for round in 0..3 {
        let streams: Vec<_> = (0..100).map(|_| connect(near)).collect();
        for (number, stream) in streams.into_iter().enumerate() {
            let text = format!("{round} {number}");
            assert_eq!(ask(stream, text.as_bytes()), text.as_bytes());
        }
    }
}

/// A client that takes a channel, says a word, and closes it, all in one write for the most part.
struct Hasty {
    word: &'static [u8],
    says_eof: bool,
}

impl client::Handler for Hasty {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _key: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(true)
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        channel: Channel<Msg>,
        _address: &str,
        _port: u32,
        _originator: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        reply.accept().await;
        if !self.word.is_empty() {
            channel.data_bytes(self.word).await?;
        }
        if self.says_eof {
            channel.eof().await?;
        }
        channel.close().await
    }
}

#[test]
fn a_channel_that_the_client_takes_and_closes_at_once_ends_for_who_connected() {
    need_client!();
    let server = Server::with_key();
    let key = PrivateKey::from_openssh(std::fs::read_to_string(server.path("key")).unwrap()).unwrap();
    let key = Arc::new(key);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    for (word, says_eof) in [(&b""[..], false), (b"", true), (b"word", false), (b"word", true)] {
        let (_session, port) = runtime.block_on(async {
            let client = Hasty { word, says_eof };
            let config = Arc::new(client::Config::default());
            let mut session = client::connect(config, ("127.0.0.1", server.port), client).await.unwrap();
            let key = PrivateKeyWithHashAlg::new(key.clone(), None);
            assert!(session.authenticate_publickey("root", key).await.unwrap().success());
            let port = session.tcpip_forward("127.0.0.1", 0).await.unwrap();
            (session, u16::try_from(port).unwrap())
        });
        // Whether both come in one read is up to the scheduler: of so many some do.
        for round in 0..20 {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            let mut got = Vec::new();
            let ended = stream.read_to_end(&mut got);
            assert!(ended.is_ok() && got == word, "{says_eof} round {round}: {ended:?} {got:?}");
        }
    }
}
