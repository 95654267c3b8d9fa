//! The open internet, bounded: what strangers send, while the owner logs in again and again. A small
//! sample in every run; all of it by `make attack`, which prints the figures of docs/security.md; a fifth of it in `make
//! test-all`. What holds in each: the owner gets in, no process of ours panics, and all of them together stay below a
//! stated memory. That the owner is in within two seconds holds on a machine that does nothing else, so `make attack` alone
//! asserts it; elsewhere a login may take the twenty seconds of a busy machine, in which no test of time is meant.
//!
//! Strangers come from 127.1.0.0/16, each from an address of its own where that is the point; the
//! owner comes from 127.0.0.1.

mod harness;

use harness::{Server, authorize, make_key, until, wait};
use russh::client::{self, Handle};
use russh::keys::PublicKeyOrCertificate;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The owner is in within this, whatever others do, on a machine that is not busy with anything else.
const PROMISE: Duration = Duration::from_secs(2);
/// What one test may allow a busy machine.
const BUSY: Duration = Duration::from_secs(20);
/// Most kibibytes of all our processes together (PSS), the owner's session included: a hundred connections that have not
/// logged in at under 1 MiB each, and the listener. What is built without optimization takes some three times as much.
const MEMORY: u64 = if cfg!(debug_assertions) { 256 << 10 } else { 128 << 10 };

/// How much of the campaign runs, by ATTACK in the environment.
#[derive(Clone, Copy, PartialEq)]
enum Campaign {
    /// Without it.
    Sample,
    /// `part`
    Part,
    /// Anything else.
    All,
}

fn campaign() -> Campaign {
    match std::env::var_os("ATTACK") {
        None => Campaign::Sample,
        Some(word) if word == "part" => Campaign::Part,
        Some(_) => Campaign::All,
    }
}

fn amount(sample: usize, all: usize) -> usize {
    match campaign() {
        Campaign::Sample => sample,
        Campaign::Part => sample.max(all / 5),
        Campaign::All => all,
    }
}

fn patience() -> Duration {
    if campaign() == Campaign::All { PROMISE } else { BUSY }
}

struct Anybody;

impl client::Handler for Anybody {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _key: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(true)
    }
}

fn stranger(number: usize) -> Ipv4Addr {
    let [_, _, high, low] = u32::try_from(number % 65_000 + 1).unwrap().to_be_bytes();
    Ipv4Addr::new(127, 1, high, low)
}

async fn connect(port: u16, from: Ipv4Addr) -> Result<Handle<Anybody>, russh::Error> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((from, 0)))?;
    let stream = socket.connect(SocketAddr::from(([127, 0, 0, 1], port))).await?;
    client::connect_stream(Arc::default(), stream, Anybody).await
}

/// Kibibytes of a field of /proc/PID/smaps_rollup, over the listener and all that it started.
fn memory(server: &Server, field: &str) -> u64 {
    let mut sum = 0;
    let mut pids = vec![server.child.id()];
    while let Some(pid) = pids.pop() {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        pids.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(field));
        sum += line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).unwrap_or(0);
    }
    sum
}

/// Runs the attack, while the owner logs in with the key, one time after the other.
fn under(server: &Server, what: &str, attack: impl FnOnce() + Send) {
    under_while(server, what, || assert_eq!(server.run("echo in").succeeds().text(), "in\n"), attack);
}

/// Runs the attack, while the owner logs in like this, one time after the other. Prints the figures, and holds them against
/// what is promised.
fn under_while(server: &Server, what: &str, login: impl Fn(), attack: impl FnOnce() + Send) {
    let (over, most) = (AtomicBool::new(false), AtomicU64::new(0));
    let (mut logins, mut slowest) = (0, Duration::ZERO);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Also when it panics: the others end with it.
            let _over = Over(&over);
            attack();
        });
        // A login may take as long as the whole attack, and what it costs is to be seen meanwhile.
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                most.fetch_max(memory(server, "Pss:"), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        // Whatever this thread meets, the one that measures is not to wait for ever.
        let _over = Over(&over);
        loop {
            let last = over.load(Ordering::Relaxed);
            let start = Instant::now();
            login();
            slowest = slowest.max(start.elapsed());
            logins += 1;
            if last {
                break;
            }
        }
    });
    let (most, took) = (most.into_inner(), begun.elapsed());
    println!(
        "{what} in {took:.0?}: {logins} logins of the owner, the slowest {slowest:.2?}, at most {most} KiB in all"
    );
    assert!((1..MEMORY).contains(&most), "{what}: {most} KiB");
    let log = server.log.text();
    assert!(!log.contains("panicked"), "{what}: {log}");
    assert!(slowest < patience(), "{what}: a login took {slowest:?}");
}

/// Says so when it goes.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn with_key() -> Server {
    Server::start(|dir| authorize(dir, &make_key(dir, "key", &["-t", "ed25519"])), &[])
}

#[test]
fn half_open_connections() {
    need_client!();
    let server = with_key();
    let count = amount(150, 1000);
    under(&server, &format!("{count} connections that say nothing"), || {
        let _open: Vec<TcpStream> = strangers(server.port, count).collect();
        // Most of them had to make room by now.
        std::thread::sleep(Duration::from_secs(1));
    });
}

/// Connections that have said nothing yet, each from an address of its own.
fn strangers(port: u16, count: usize) -> impl Iterator<Item = TcpStream> {
    (0..count).filter_map(move |number| {
        let socket =
            rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None)
                .unwrap();
        rustix::net::bind(&socket, &SocketAddr::from((stranger(number), 0))).unwrap();
        rustix::net::connect(&socket, &SocketAddr::from(([127, 0, 0, 1], port))).ok()?;
        Some(socket.into())
    })
}

/// As Slowloris does it: never silent, and never through with the first line.
#[test]
fn banners_a_byte_at_a_time() {
    need_client!();
    let server = with_key();
    let count = amount(150, 1000);
    let mut written = 0;
    under(&server, &format!("{count} banners that drip"), || {
        let mut open: Vec<TcpStream> = strangers(server.port, count).collect();
        assert_eq!(open.len(), count);
        // RFC 4253, section 4.2: 255 characters with the line's end, which never comes.
        for byte in b"SSH-2.0-".iter().chain(std::iter::repeat_n(&b'x', 240)) {
            // Those who had to make room are gone.
            open.retain_mut(|stream| stream.write_all(&[*byte]).is_ok());
            written += open.len();
            // The pace of the attack: of all the connections' first bytes none is the last.
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(!open.is_empty(), "nobody was left to drip");
    });
    assert!(written > 10 * count, "{written} bytes in all");
}

#[test]
fn wrong_passwords() {
    need_client!();
    let mut server = Server::start(|_| {}, &[]);
    let password = fs::read_to_string(server.path("run/lifeboat/sshd/password")).unwrap();
    let (count, tried) = (
        amount(60, std::env::var("ATTACK_PASSWORDS").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000)),
        AtomicUsize::new(0),
    );
    let attackers = 24;
    let port = server.port;
    let what = format!("{count} wrong passwords from {attackers} attackers at once");
    let login = || assert_eq!(server.by_password("root", password.trim()).succeeds().text(), "in\n");
    under_while(&server, &what, login, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let work = (0..attackers).map(|attacker| {
                let tried = &tried;
                async move {
                    while tried.load(Ordering::Relaxed) < count {
                        // Many addresses for some, one for others.
                        let number = if attacker % 2 == 0 { attacker } else { tried.load(Ordering::Relaxed) };
                        let Ok(mut session) = connect(port, stranger(number)).await else { continue };
                        for _ in 0..6 {
                            let number = tried.fetch_add(1, Ordering::Relaxed);
                            let guess = format!("guess-{number}");
                            match session.authenticate_password("root", guess).await {
                                Ok(result) => assert!(!result.success(), "a wrong password opens"),
                                // Sent away.
                                Err(_) => break,
                            }
                        }
                    }
                }
            });
            futures(work).await;
        });
    });
    server.crash_and_restart();
}

/// All of them, side by side.
async fn futures<F: Future<Output = ()>>(work: impl Iterator<Item = F>) {
    let mut work: Vec<_> = work.map(Box::pin).collect();
    std::future::poll_fn(|context| {
        work.retain_mut(|future| future.as_mut().poll(context).is_pending());
        if work.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

#[test]
fn garbage_instead_of_a_banner() {
    need_client!();
    let server = with_key();
    let count = amount(40, 2000);
    let long = [b"SSH-2.0-".to_vec(), vec![b'x'; 100_000]].concat();
    let kinds: [&[u8]; 7] = [
        b"",
        b"\0\0\0\0\0\0\0\0",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"SSH-1.5-x\r\n",
        b"SSH-2.0-x\r\n\xff\xff\xff\xff\xff",
        b"SSH-2.0-x\r\n\0\0\x01\x00\x04\x14",
        &long,
    ];
    under(&server, &format!("{count} times garbage"), || {
        for number in 0..count {
            let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
            let _ =
                stream.write_all(kinds[number % kinds.len()]).and_then(|()| stream.shutdown(Shutdown::Write));
            stream.set_read_timeout(Some(harness::DEADLINE)).unwrap();
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
}

/// A relay that spoils one byte of what a good client sends. Gives its port.
fn spoil(to: u16, at: usize) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut near, _) = listener.accept().unwrap();
        let mut far = TcpStream::connect(("127.0.0.1", to)).unwrap();
        let (mut back, mut out) = (far.try_clone().unwrap(), near.try_clone().unwrap());
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut back, &mut out);
            let _ = out.shutdown(Shutdown::Both);
        });
        let (mut buffer, mut seen) = ([0; 4096], 0);
        while let Ok(length @ 1..) = near.read(&mut buffer) {
            if (seen..seen + length).contains(&at) {
                buffer[at - seen] ^= 0x55;
            }
            seen += length;
            if far.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        let _ = far.shutdown(Shutdown::Both);
    });
    port
}

#[test]
fn a_byte_spoilt_anywhere_before_and_after_the_key_exchange() {
    need_client!();
    let server = with_key();
    let count = amount(60, 1500);
    under(&server, &format!("{count} connections with a byte spoilt"), || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for number in 0..count {
            // A client sends some 4,000 bytes until it is refused a password.
            let port = spoil(server.port, number * 4000 / count);
            runtime.block_on(async {
                let attempt = async {
                    let mut session = connect(port, Ipv4Addr::LOCALHOST).await.ok()?;
                    session.authenticate_password("root", "guess").await.ok()
                };
                if let Ok(Some(result)) = tokio::time::timeout(Duration::from_secs(5), attempt).await {
                    assert!(!result.success());
                }
            });
        }
    });
}

#[test]
fn channels_before_and_after_login() {
    need_client!();
    let server = with_key();
    let count = amount(300, 5000);
    // The owner's own client may ask for more than there is, and loses nothing but what it asked for.
    let path = format!("ControlPath={}", server.path("master").display());
    let mut master = server.ssh(&["-N", "-o", "ControlMaster=yes", "-o", &path]).spawn().unwrap();
    assert!(until(|| server.path("master").exists()));
    under(&server, &format!("{count} channels asked for at once on one connection"), || {
        let text = fs::read_to_string(server.path("key")).unwrap();
        let key = Arc::new(russh::keys::PrivateKey::from_openssh(&text).unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let session = connect(server.port, Ipv4Addr::LOCALHOST).await.unwrap();
            assert!(session.channel_open_session().await.is_err(), "a channel before login");
            let mut session = match session.is_closed() {
                true => connect(server.port, Ipv4Addr::LOCALHOST).await.unwrap(),
                false => session,
            };
            let key = russh::keys::PrivateKeyWithHashAlg::new(key, None);
            assert!(session.authenticate_publickey("root", key).await.unwrap().success());
            let mut open = Vec::new();
            for _ in 0..count {
                if let Ok(channel) = session.channel_open_session().await {
                    open.push(channel);
                }
            }
            assert!((50..=100).contains(&open.len()), "{} channels", open.len());
        });
    });
    let mut second = server.ssh(&["-o", &path]);
    let mut second = second.arg("echo in").stdout(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    second.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "in\n");
    wait(&mut second, "ssh");
    master.kill().unwrap();
    wait(&mut master, "ssh");
}
