//! Our sshd and OpenSSH's of Debian 13, side by side: one machine, one run, one client (Debian 13's), one round of each
//! after the other. Prints tables in Markdown; what matters in them is the ratio. `make bench-ssh` brings the peer;
//! PEERS names the directory of the build's own tools.
//!
//! The peer needs a user and a directory that a host without its package does not have, and a shell
//! reads the start-up files of whoever's machine this is: all of it runs in a mount namespace of its
//! own, with a passwd file of ours over the host's and nothing in /root.
#![allow(clippy::print_stdout)]

#[path = "../tests/harness/mod.rs"]
mod harness;

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey, chacha20_poly1305_openssh,
};
use rustix::time::{ClockId, clock_gettime};
use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const CIPHERS: [&str; 3] =
    ["chacha20-poly1305@openssh.com", "aes128-gcm@openssh.com", "aes256-gcm@openssh.com"];

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

struct Peer {
    name: &'static str,
    child: Child,
    port: u16,
    key: PathBuf,
    /// The listening process.
    pid: u32,
    group: Group,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Peer {
    fn options(&self, extra: &[&str]) -> Vec<String> {
        let fixed = [
            "-F",
            "none",
            "-q",
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            "IdentityAgent=none",
            "-o",
            "BatchMode=yes",
            "-o",
            "Compression=no",
        ];
        let own = [
            "-o".to_string(),
            format!("Port={}", self.port),
            "-i".to_string(),
            self.key.display().to_string(),
        ];
        fixed.iter().chain(extra).map(|option| option.to_string()).chain(own).collect()
    }

    /// Seconds of all its processes, those that have ended too.
    fn cpu(&self) -> f64 {
        harness::until(|| children(self.pid).is_empty());
        self.group.cpu()
    }

    /// Kibibytes that are its own share, over all its processes but the programs of sessions.
    fn memory(&self) -> u64 {
        let mut sum = 0;
        let mut pids = vec![self.pid];
        while let Some(pid) = pids.pop() {
            // OpenSSH's are started by the loader of their tree.
            let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            if comm.trim() == "sshd" || comm.starts_with("ld-linux") {
                pids.extend(children(pid));
                let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
                let line = text.lines().find(|line| line.starts_with("Pss:")).unwrap_or("x 0");
                sum += line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap();
            }
        }
        sum
    }
}

/// A control group: it counts what its processes use, whoever waits for them.
struct Group(PathBuf);

impl Group {
    /// With a process in it, and all that it will start. It stays behind, empty, for the next run.
    fn of(name: &str, pid: u32) -> Group {
        let groups = std::env::var_os("BENCH_INSIDE").expect("the outer run names the mount");
        let path = Path::new(&groups).join(format!("sshd-bench-{name}"));
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("cgroup.procs"), pid.to_string()).unwrap();
        Group(path)
    }

    fn cpu(&self) -> f64 {
        let text = fs::read_to_string(self.0.join("cpu.stat")).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("usage_usec ")).unwrap();
        line.parse::<f64>().unwrap() / 1e6
    }
}

fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn openssh(dir: &Path, peers: &Path) -> Peer {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    harness::make_key(dir, "host", &["-t", "ed25519"]);
    let show = |path: &str| dir.join(path).display().to_string();
    let program = |name: &str| peers.join(name).display().to_string();
    let config = format!(
        "Port {port}\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPidFile none\nMaxStartups 1000\n\
         MaxSessions 1000\nPermitRootLogin yes\nPerSourcePenalties no\nSubsystem sftp {}\nSshdSessionPath {}\n\
         SshdAuthPath {}\n",
        show("host"),
        show("root/.ssh/authorized_keys"),
        program("sftp-server"),
        program("sshd-session"),
        program("sshd-auth"),
    );
    harness::write(dir, "config", &config);
    // sshd wants to be started by its whole path, which the wrapper of the tree leaves out.
    let tree = fs::canonicalize(peers).unwrap().parent().unwrap().to_path_buf();
    let child = Command::new(tree.join("usr/lib64/ld-linux-x86-64.so.2"))
        .args(["--argv0", "/usr/sbin/sshd", "--library-path"])
        .arg(tree.join("usr/lib/x86_64-linux-gnu"))
        .arg(tree.join("usr/sbin/sshd"))
        .args(["-D", "-e", "-f"])
        .arg(dir.join("config"))
        .stderr(fs::File::create(dir.join("openssh.log")).unwrap())
        .spawn()
        .unwrap();
    let pid = child.id();
    let group = Group::of("theirs", pid);
    assert!(
        harness::until(|| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()),
        "OpenSSH does not start: {}",
        fs::read_to_string(dir.join("openssh.log")).unwrap_or_default()
    );
    Peer { name: "OpenSSH", child, port, key: dir.join("key"), pid, group }
}

/// The children of a restarted listener are the host's: started here, without a file of the harness'.
fn ours(dir: &Path, peers: &Path) -> Peer {
    let sftp = peers.join("sftp-server").display().to_string();
    let arguments = ["--sftp-server", &sftp, "--waiting", "1000", "--waiting-per-address", "1000"];
    let (child, log) = harness::listen(dir, 0, &arguments);
    log.wait_for("\"kind\":\"ready\"");
    let text = fs::read_to_string(dir.join("run/lifeboat/state/sshd.json")).unwrap();
    let state: serde_json::Value = serde_json::from_str(&text).unwrap();
    let pid = child.id();
    let (port, group) = (state["port"].as_u64().unwrap() as u16, Group::of("ours", pid));
    Peer { name: "Lifeboat", child, port, key: dir.join("key"), pid, group }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Of one run, in seconds.
#[derive(Clone, Copy)]
struct Took {
    wall: f64,
    /// CPU of the server and of the programs it ran.
    server: f64,
    /// CPU of the client, of what it ran, and of this program, which only waits.
    client: f64,
}

fn measure(peer: &Peer, clients: &Group, command: &mut Command) -> Took {
    let (server, client) = (peer.cpu(), clients.cpu());
    let start = Instant::now();
    let status = command.stdout(Stdio::null()).status().unwrap();
    let wall = start.elapsed().as_secs_f64();
    assert!(status.success(), "{}: {command:?}", peer.name);
    Took { wall, client: clients.cpu() - client, server: peer.cpu() - server }
}

struct All {
    peers: [Peer; 2],
    clients: Group,
}

/// One row: ours and theirs by turns, medians, ratios above 1 are in our favour. `copied`: MiB, and the least CPU that a
/// server takes for them, in seconds, where that is known.
fn row(
    what: &str,
    all: &All,
    rounds: usize,
    copied: Option<(usize, Option<f64>)>,
    run: impl Fn(&Peer) -> Command,
) {
    // BENCH_ROWS: those that have this in their names.
    if std::env::var("BENCH_ROWS").is_ok_and(|part| !what.contains(&part)) {
        return;
    }
    let All { peers, clients } = all;
    let mut results = [const { Vec::new() }; 2];
    for _ in 0..rounds {
        for (peer, took) in peers.iter().zip(&mut results) {
            took.push(measure(peer, clients, &mut run(peer)));
        }
    }
    let [ours, theirs] = results.map(|took| {
        let of = |part: fn(&Took) -> f64| median(took.iter().map(part).collect());
        Took { wall: of(|took| took.wall), server: of(|took| took.server), client: of(|took| took.client) }
    });
    let Some((mib, least)) = copied else {
        println!(
            "| {what} | {:.1} | {:.1} | **{:.2}** |",
            ours.wall * 1e3,
            theirs.wall * 1e3,
            theirs.wall / ours.wall
        );
        return;
    };
    let per_gib = |seconds: f64| seconds * 1024.0 / mib as f64;
    let theirs_of_both = theirs.client + theirs.server;
    // The programs' part of it is an estimate, and no more than what the server took.
    let at_most = least.map(|least| theirs_of_both / (ours.client + least.min(ours.server)));
    let at_most = at_most.map_or(String::new(), |ratio| format!("{ratio:.2}"));
    println!(
        "| {what} | {:.0} | {:.0} | **{:.2}** | {:.2} | {:.2} | **{:.2}** | {:.2} | {:.2} | {:.2} | {at_most} | {:.2} |",
        mib as f64 / ours.wall,
        mib as f64 / theirs.wall,
        theirs.wall / ours.wall,
        per_gib(ours.server),
        per_gib(theirs.server),
        ours.server / theirs.server,
        per_gib(ours.client),
        per_gib(theirs.client),
        theirs_of_both / (ours.client + ours.server),
        (ours.client + ours.server) / ours.wall,
    );
}

/// The same copies with a pipe in the place of client, network and server: no server can be faster than they are. Gives the CPU
/// of both ends by row, in seconds per GiB.
fn without_ssh(dir: &Path, clients: &Group, rounds: usize, mib: usize) -> HashMap<String, f64> {
    // Called as ssh would be; the host's name is what precedes the command.
    let script =
        "#!/bin/sh\nwhile case $1 in *pipe.invalid) false;; esac; do shift; done\nshift\nexec sh -c \"$*\"\n";
    harness::write(dir, "pipe", script);
    fs::set_permissions(dir.join("pipe"), fs::Permissions::from_mode(0o755)).unwrap();
    let (pipe, file, copy) = (dir.join("pipe"), dir.join("file"), dir.join("copy"));
    let there = |path: &Path| OsString::from(format!("root@pipe.invalid:{}", path.display()));
    let directions = [("get", there(&file), copy.clone().into()), ("put", file.into(), there(&copy))];
    println!("\n| {mib} MiB, without SSH | MiB/s | CPU s/GiB of both ends |\n|---|---|---|");
    let mut programs = HashMap::new();
    for (what, rsync) in [("scp -O", false), ("rsync", true)] {
        for (direction, from, to) in &directions {
            let run = || {
                let mut command = if rsync { rsync_by(&pipe.display().to_string()) } else { client("scp") };
                if !rsync {
                    command.args(["-O", "-S"]).arg(&pipe);
                }
                let (start, cpu) = (Instant::now(), clients.cpu());
                let status = command.args([from, to]).stdin(Stdio::null()).stdout(Stdio::null()).status();
                assert!(status.unwrap().success(), "{command:?}");
                (start.elapsed().as_secs_f64(), clients.cpu() - cpu)
            };
            let (walls, cpus) = (0..rounds).map(|_| run()).unzip();
            let (name, cpu) = (format!("{what} {direction}"), median(cpus) * 1024.0 / mib as f64);
            println!("| {name} | {:.0} | {cpu:.2} |", mib as f64 / median(walls));
            programs.insert(name, cpu);
        }
    }
    programs
}

/// What one thread's CPU was at, in seconds.
fn thread_cpu() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// CPU seconds per GiB of one of [`CIPHERS`], by the library that ours has, in packets of 32 KiB.
fn enciphering(cipher: &str) -> f64 {
    const PACKET: usize = 32 << 10;
    let mut packet = vec![0; PACKET];
    let mut seal: Box<dyn FnMut(u32)> = if cipher.starts_with("chacha20") {
        let key = chacha20_poly1305_openssh::SealingKey::new(&[7; chacha20_poly1305_openssh::KEY_LEN]);
        Box::new(move |number| key.seal_in_place(number, &mut packet, &mut [0; 16]))
    } else {
        let algorithm = if cipher.starts_with("aes128") { &AES_128_GCM } else { &AES_256_GCM };
        let key = vec![7; algorithm.key_len()];
        let key = LessSafeKey::new(UnboundKey::new(algorithm, &key).unwrap());
        Box::new(move |number| {
            let mut nonce = [0; 12];
            nonce[8..].copy_from_slice(&number.to_be_bytes());
            let nonce = Nonce::assume_unique_for_key(nonce);
            let _tag = key.seal_in_place_separate_tag(nonce, Aad::from([0; 4]), &mut packet).unwrap();
        })
    };
    let before = thread_cpu();
    (0..(1 << 30) / PACKET as u32).for_each(&mut *seal);
    thread_cpu() - before
}

/// CPU seconds per GiB of a thread that does nothing but bring bytes from a pipe to a connection, or the other way, as much at
/// once as there is.
fn carrying(down: bool) -> f64 {
    const GIB: u64 = 1 << 30;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let near = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    rustix::pipe::fcntl_setpipe_size(&writer, 256 << 10).unwrap();
    type Ends = (Box<dyn Read + Send>, Box<dyn Write + Send>);
    let ((source, target), (mut from, mut to)): (Ends, Ends) = match down {
        true => ((Box::new(far), Box::new(writer)), (Box::new(reader), Box::new(near))),
        false => ((Box::new(reader), Box::new(far)), (Box::new(near), Box::new(writer))),
    };
    let fed = std::thread::spawn(move || pass(&mut std::io::repeat(7).take(GIB), target));
    let drained = std::thread::spawn(move || pass(source, std::io::sink()));
    let before = thread_cpu();
    pass(&mut from, &mut to);
    let took = thread_cpu() - before;
    drop(to);
    fed.join().unwrap();
    drained.join().unwrap();
    took
}

fn pass(mut from: impl Read, mut to: impl Write) {
    let mut buffer = vec![0; 256 << 10];
    loop {
        match from.read(&mut buffer).unwrap() {
            0 => return,
            length => to.write_all(&buffer[..length]).unwrap(),
        }
    }
}

/// What no transport can do without.
struct Least {
    /// By name of the cipher.
    cipher: HashMap<&'static str, f64>,
    down: f64,
    up: f64,
}

impl Least {
    fn measure(rounds: usize) -> Least {
        let of = |run: &dyn Fn() -> f64| median((0..rounds).map(|_| run()).collect());
        let cipher = CIPHERS.map(|cipher| (cipher, of(&|| enciphering(cipher)))).into();
        let least = Least { cipher, down: of(&|| carrying(true)), up: of(&|| carrying(false)) };
        println!("\n| what no transport can do without | CPU s/GiB |\n|---|---|");
        for cipher in CIPHERS {
            println!("| {cipher} | {:.2} |", least.cipher[cipher]);
        }
        println!(
            "| a pipe to a connection | {:.2} |\n| a connection to a pipe | {:.2} |",
            least.down, least.up
        );
        least
    }
}

/// Debian's rsync on both ends, over what the words start.
fn rsync_by(words: &str) -> Command {
    let libraries = std::env::var("LD_LIBRARY_PATH").unwrap_or_default();
    let own = std::env::split_paths(&std::env::var_os("PATH").unwrap())
        .map(|directory| directory.join("rsync"))
        .find(|path| path.is_file())
        .expect("rsync is on the PATH");
    let mut rsync = Command::new(&own);
    rsync.args(["--whole-file", "--ignore-times", "--inplace", "-e", words]);
    rsync.arg("--rsync-path").arg(format!("env LD_LIBRARY_PATH={libraries} {}", own.display()));
    rsync
}

fn client(name: &str) -> Command {
    Command::new(PathBuf::from(std::env::var_os("PEERS").unwrap()).join(name))
}

fn ssh(peer: &Peer, extra: &[&str], command: &str) -> Command {
    let mut ssh = client("ssh");
    ssh.args(peer.options(extra)).args(["root@127.0.0.1", command]).stdin(Stdio::null());
    ssh
}

/// Runs this program again, where it can do no harm. The tree of the peer's programs, which may lie in /root, stays where
/// it was.
fn inside(dir: &Path, peers: &Path) {
    let passwd =
        fs::read_to_string("/etc/passwd").unwrap() + "sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n";
    harness::write(dir, "passwd", &passwd);
    for name in ["tree", "groups"] {
        fs::create_dir(dir.join(name)).unwrap();
    }
    let peers = fs::canonicalize(peers).unwrap();
    let script = "mount --bind \"$1\" /etc/passwd && mount --bind \"$3\" \"$4\" && mount -t tmpfs none /root \
        && mkdir -p \"$3\" && mount --bind \"$4\" \"$3\" && mount -t tmpfs none /run && mkdir /run/sshd \
        && mount -t cgroup2 none \"$5\" && exec \"$2\"";
    let status = Command::new("unshare")
        .args(["-m", "sh", "-c", script, "sh"])
        .arg(dir.join("passwd"))
        .arg(std::env::current_exe().unwrap())
        .arg(peers.parent().unwrap())
        .arg(dir.join("tree"))
        .arg(dir.join("groups"))
        .env("BENCH_INSIDE", dir.join("groups"))
        .env("PEERS", &peers)
        .status();
    assert!(status.is_ok_and(|status| status.success()), "it runs as root, where namespaces are allowed");
}

fn main() {
    let Some(package) = std::env::var_os("PEERS").map(PathBuf::from).filter(|bin| bin.join("sshd").exists())
    else {
        println!("SKIPPED: PEERS names no directory with OpenSSH of Debian 13 in it (make bench-ssh)");
        return;
    };
    let dir = tempfile::TempDir::new().unwrap();
    let dir = dir.path();
    if std::env::var_os("BENCH_INSIDE").is_none() {
        inside(dir, &package);
        return;
    }
    harness::authorize(dir, &harness::make_key(dir, "key", &["-t", "ed25519"]));
    let (mib, rounds) = (number("BENCH_MIB", 1024), number("BENCH_ROUNDS", 3));
    let file = dir.join("file");
    fs::write(&file, harness::noise(mib << 20)).unwrap();
    let peers = [ours(dir, &package), openssh(dir, &package)];
    // The RSA key is made by now.
    peers[0].cpu();
    let all = All { peers, clients: Group::of("clients", std::process::id()) };

    println!("| milliseconds | Lifeboat | OpenSSH | OpenSSH / Lifeboat |\n|---|---|---|---|");
    row("`ssh host true`", &all, 15, None, |peer| ssh(peer, &[], "true"));
    let same = ["-o", "KexAlgorithms=curve25519-sha256"];
    row("the same, both by curve25519", &all, 15, None, |peer| ssh(peer, &same, "true"));

    let least = Least::measure(rounds);
    let programs = without_ssh(dir, &all.clients, rounds, mib);
    println!(
        "\n| {mib} MiB | Lifeboat MiB/s | OpenSSH MiB/s | faster by | Lifeboat CPU s/GiB | OpenSSH CPU s/GiB | CPU of OpenSSH's | client CPU s/GiB | the same with OpenSSH | faster by, at equal use of the processors | at most so | processors busy |\n|---|---|---|---|---|---|---|---|---|---|---|---|"
    );
    let copied = Some((mib, None));
    for cipher in CIPHERS {
        let name = cipher.split('@').next().unwrap();
        // The programs' CPU is of both ends; each has half of it.
        let at_least = |kind: &str| {
            let carried = if kind.ends_with("get") { least.down } else { least.up };
            let per_gib = programs.get(kind).map(|programs| programs / 2.0 + carried + least.cipher[cipher]);
            Some((mib, per_gib.map(|seconds| seconds * mib as f64 / 1024.0)))
        };
        let with = ["-c", cipher];
        row(&format!("{name}, `cat` down"), &all, rounds, copied, |peer| {
            ssh(peer, &with, &format!("cat {}", file.display()))
        });
        row(&format!("{name}, `cat` up"), &all, rounds, copied, |peer| {
            let mut command = ssh(peer, &with, "cat > /dev/null");
            command.stdin(fs::File::open(&file).unwrap());
            command
        });
        let here = client("ssh").get_program().to_owned();
        let copy = |peer: &Peer, old: bool, arguments: [String; 2]| {
            let mut scp = client("scp");
            scp.args(old.then_some("-O")).arg("-S").arg(&here).args(peer.options(&with)).args(arguments);
            scp.stdin(Stdio::null());
            scp
        };
        let there = |name: &Path| format!("root@127.0.0.1:{}", name.display());
        let (down, up) = (dir.join("down"), dir.join("up"));
        for (kind, old) in [("sftp", false), ("scp -O", true)] {
            row(&format!("{name}, {kind} get"), &all, rounds, at_least(&format!("{kind} get")), |peer| {
                copy(peer, old, [there(&file), down.display().to_string()])
            });
            row(&format!("{name}, {kind} put"), &all, rounds, at_least(&format!("{kind} put")), |peer| {
                copy(peer, old, [file.display().to_string(), there(&up)])
            });
        }
        let rsync = |peer: &Peer, arguments: [String; 2]| {
            let mut rsync = rsync_by(&format!("{} {}", here.display(), peer.options(&with).join(" ")));
            rsync.args(arguments).stdin(Stdio::null());
            rsync
        };
        row(&format!("{name}, rsync get"), &all, rounds, at_least("rsync get"), |peer| {
            rsync(peer, [there(&file), down.display().to_string()])
        });
        row(&format!("{name}, rsync put"), &all, rounds, at_least("rsync put"), |peer| {
            rsync(peer, [file.display().to_string(), there(&up)])
        });
    }

    let All { peers, .. } = all;
    println!("\n| memory, KiB (PSS) | Lifeboat | OpenSSH | of OpenSSH's |\n|---|---|---|---|");
    let idle = peers.each_ref().map(Peer::memory);
    println!("| idle | {} | {} | {:.2} |", idle[0], idle[1], idle[0] as f64 / idle[1] as f64);
    let sessions = number("BENCH_SESSIONS", 200);
    let mut seconds = [0.0; 2];
    let mut each = [0; 2];
    for (index, peer) in peers.iter().enumerate() {
        let start = Instant::now();
        let mut open: Vec<Child> = (0..sessions)
            .map(|_| ssh(peer, &[], "exec sleep 1000").stderr(Stdio::null()).spawn().unwrap())
            .collect();
        let programs = || {
            let below = |pids: Vec<u32>| pids.into_iter().flat_map(children).collect::<Vec<u32>>();
            let all = below(children(peer.pid));
            all.iter()
                .chain(&below(all.clone()))
                .filter(|pid| {
                    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == "sleep")
                })
                .count()
        };
        assert!(
            harness::until(|| programs() == sessions),
            "{}: {} of {sessions} sessions",
            peer.name,
            programs()
        );
        seconds[index] = start.elapsed().as_secs_f64();
        each[index] = (peer.memory() - idle[index]) / sessions as u64;
        for client in &mut open {
            client.kill().unwrap();
            client.wait().unwrap();
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    println!(
        "| each of {sessions} sessions | {} | {} | {:.2} |",
        each[0],
        each[1],
        each[0] as f64 / each[1] as f64
    );
    println!(
        "\n{sessions} sessions were up after {:.1} s with Lifeboat, {:.1} s with OpenSSH.",
        seconds[0], seconds[1]
    );
}
