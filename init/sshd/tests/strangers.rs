//! What those who have not logged in may take of the machine.

mod harness;

use harness::{Server, until, write};
use russh::client::{self, Handle};
use russh::keys::PublicKeyOrCertificate;
use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// `crypt(3)` of libxcrypt 4.4 with `$y$j9T$lifeboat$`, 2026-11-27: the parameters are `mkpasswd`'s.
const HASH: &str = "$y$j9T$lifeboat$90p7N.t3es5l8MfLzExVOmSS6Tl/nuyKJv436elMbR7";
const PASSWORD: &str = "correct horse battery";
/// By that, in KiB.
const OF_ONE_HASH: u64 = 16 << 10;

struct Anybody;

impl client::Handler for Anybody {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _key: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(true)
    }
}

async fn connect(port: u16, number: usize) -> Result<Handle<Anybody>, russh::Error> {
    let [high, low] = u16::try_from(number).unwrap().to_be_bytes();
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((Ipv4Addr::new(127, 2, high, low), 0)))?;
    let stream = socket.connect(SocketAddr::from(([127, 0, 0, 1], port))).await?;
    client::connect_stream(Arc::default(), stream, Anybody).await
}

fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// KiB that the monitors have for themselves.
fn memory(server: &Server) -> u64 {
    let of = |pid: u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with("RssAnon:"));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).unwrap_or(0)
    };
    children(server.child.id()).into_iter().map(of).sum()
}

#[test]
fn a_hundred_passwords_at_once_take_the_memory_of_one_hash_and_the_owner_is_let_in() {
    need_client!();
    let parameter = format!("quiet rescue.password_hash={HASH}");
    let server = Server::start(|dir| write(dir, "proc/cmdline", &parameter), &[]);
    static WRONG: AtomicUsize = AtomicUsize::new(0);
    static CAME: AtomicUsize = AtomicUsize::new(0);
    static OVER: AtomicBool = AtomicBool::new(false);
    /// However it ends.
    struct Over;
    impl Drop for Over {
        fn drop(&mut self) {
            OVER.store(true, Ordering::Relaxed);
        }
    }
    let most = AtomicU64::new(0);
    let (port, crowd) = (server.port, 98);
    let mut idle = 0;
    std::thread::scope(|scope| {
        let over = Over;
        scope.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let all = tokio::task::LocalSet::new();
            for number in 1..=crowd {
                // They are sent away when the test ends.
                let attack = async move {
                    let mut session = connect(port, number).await.unwrap();
                    CAME.fetch_add(1, Ordering::Relaxed);
                    while CAME.load(Ordering::Relaxed) < crowd && !OVER.load(Ordering::Relaxed) {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    while !OVER.load(Ordering::Relaxed) {
                        match session.authenticate_password("root", "guess").await {
                            Ok(result) => assert!(!result.success(), "a wrong password opens"),
                            Err(_) => break,
                        }
                        WRONG.fetch_add(1, Ordering::Relaxed);
                    }
                };
                all.spawn_local(attack);
            }
            runtime.block_on(all);
        });
        assert!(until(|| CAME.load(Ordering::Relaxed) == crowd), "not all have come");
        idle = memory(&server);
        scope.spawn(|| {
            while !OVER.load(Ordering::Relaxed) {
                most.fetch_max(memory(&server), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        assert!(until(|| WRONG.load(Ordering::Relaxed) > 8), "nobody's turn comes");
        let start = Instant::now();
        let done = server.by_password("root", PASSWORD);
        println!(
            "the owner was in after {:.2?}, among {crowd} who had {} wrong passwords",
            start.elapsed(),
            WRONG.load(Ordering::Relaxed)
        );
        drop(over);
        assert_eq!(done.succeeds().text(), "in\n");
    });
    let most = most.into_inner().saturating_sub(idle);
    println!("{crowd} monitors: {idle} KiB, while they hash {most} KiB more");
    // One that begins as another one gives back its own, and some hundred KiB that each takes beside it.
    assert!(most < 4 * OF_ONE_HASH, "{most} KiB");
    assert!(most > OF_ONE_HASH / 2, "{most} KiB: were there any hashes at all?");
}

#[test]
fn what_a_hash_took_is_given_back() {
    need_client!();
    let parameter = format!("quiet rescue.password_hash={HASH}");
    let server = Server::start(|dir| write(dir, "proc/cmdline", &parameter), &[]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut session = connect(server.port, 1).await.unwrap();
        for number in 0..4 {
            assert!(!session.authenticate_password("root", "guess").await.unwrap().success());
            let kept = memory(&server);
            assert!(kept < OF_ONE_HASH / 2, "{kept} KiB after number {number}");
        }
    });
}

fn oom_score(pid: u32) -> i32 {
    fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim().parse().unwrap()
}

#[test]
fn memory_that_runs_out_is_taken_from_strangers_and_not_from_the_owner() {
    need_client!();
    let server = Server::with_key();
    let mut stranger = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    stranger.set_read_timeout(Some(harness::DEADLINE)).unwrap();
    // The transport has begun, and so the monitor before it.
    assert!(stranger.read(&mut [0; 255]).unwrap() > 0);
    let [monitor] = children(server.child.id())[..] else { panic!("not one monitor") };
    let [transport] = children(monitor)[..] else { panic!("not one transport") };
    assert_eq!((oom_score(monitor), oom_score(transport)), (500, 500));
    let limits = fs::read_to_string(format!("/proc/{monitor}/limits")).unwrap();
    let memory = limits.lines().find(|line| line.starts_with("Max address space")).unwrap();
    assert_eq!(memory.split_whitespace().nth(3), Some("268435456"), "{memory}");

    let script = "cat /proc/self/oom_score_adj /proc/$PPID/oom_score_adj;
        for pid in $(cat /proc/$PPID/task/$PPID/children); do cat /proc/$pid/oom_score_adj; done; ulimit -v";
    let done = server.run(script).succeeds();
    // The program's, the monitor's, and those of the transport and the shell.
    assert_eq!(done.text(), "0\n0\n0\n0\nunlimited\n");
}
