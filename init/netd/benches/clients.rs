//! From the cable to the address: netd beside systemd-networkd, dhcpcd and udhcpc, on one network, against one dnsmasq, in
//! one run, one round of each after the other. Prints a table in Markdown; what matters in it is the ratio.
//! `make bench-net` brings the peers and names their directory in PEERS; ROUNDS is how often.
//!
//! All of it runs in namespaces of its own (network, mounts, processes, host name), with an /etc and a /run that are empty
//! but for what the peers need, as root. The network is a pair of virtual Ethernet devices.
#![allow(clippy::print_stdout)]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Set in the process that has the namespaces.
const INSIDE: &str = "LIFEBOAT_BENCH_INSIDE";
/// An address that has not come by then never will.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between a client's start and the cable: what it does at its start is over.
const REST: Duration = Duration::from_secs(2);
const NETWORK: &str = "[Match]\nName=eth0\n[Network]\nDHCP=ipv4\nIPv6AcceptRA=no\nLinkLocalAddressing=no\n";
const SCRIPT: &str = "#!/bin/sh\n[ \"$1\" != bound ] || ip address add $ip/$mask dev $interface\n";
const USERS: &str =
    "root:x:0:0::/:/bin/sh\nsystemd-network:x:998:998::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n";
const GROUPS: &str = "root:x:0:\nsystemd-network:x:998:\nnogroup:x:65534:\n";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Client {
    Netd,
    Networkd,
    Dhcpcd,
    /// It does not ask twice, as others do by default.
    DhcpcdUnprobed,
    Udhcpc,
}

const CLIENTS: [(Client, &str); 5] = [
    (Client::Netd, "Lifeboat's netd"),
    (Client::Networkd, "systemd-networkd"),
    (Client::Dhcpcd, "dhcpcd"),
    (Client::DhcpcdUnprobed, "dhcpcd --noarp"),
    (Client::Udhcpc, "udhcpc"),
];

fn main() -> ExitCode {
    let name = std::env::args().next().unwrap_or_default();
    if name == "netd" {
        return netd::main();
    }
    // `cargo test` runs benches too.
    let Ok(peers) = std::env::var("PEERS") else {
        println!("skipped: `make bench-net` names the peers");
        return ExitCode::SUCCESS;
    };
    let done = match std::env::var_os(INSIDE) {
        Some(_) => run(Path::new(&peers)),
        None => enter(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("failed to {error}");
            ExitCode::FAILURE
        }
    }
}

/// Itself again, in the namespaces. All of it ends with that process.
fn enter() -> Result<()> {
    let error = Command::new("unshare")
        .args([
            "-n",
            "-m",
            "-u",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--propagation",
            "private",
        ])
        .arg(std::env::current_exe()?)
        .env(INSIDE, "1")
        .exec();
    Err(format!("run unshare of util-linux: {error}").into())
}

fn run(peers: &Path) -> Result<()> {
    let rounds = std::env::var("ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(5);
    // The directory of wrappers lies in the tree.
    let tree = fs::canonicalize(peers)?.parent().ok_or("find the peers' tree")?.to_path_buf();
    sh(
        "mount -t tmpfs none /run && mkdir -p /run/etc /run/systemd/network /run/systemd/netif /run/lifeboat/state /run/lifeboat/log",
    )?;
    fs::write("/run/etc/passwd", USERS)?;
    fs::write("/run/etc/group", GROUPS)?;
    fs::write("/run/etc/machine-id", "0123456789abcdef0123456789abcdef\n")?;
    fs::write("/run/systemd/network/10-eth0.network", NETWORK)?;
    fs::write("/run/cmdline", "\n")?;
    fs::write("/run/script", SCRIPT)?;
    sh(
        "chmod +x /run/script && chown -R 998:998 /run/systemd && mount --bind /run/etc /etc && mount --bind /run/cmdline /proc/cmdline",
    )?;

    let mut figures: Vec<[Vec<Duration>; 2]> = vec![[Vec::new(), Vec::new()]; CLIENTS.len()];
    for round in 1..=rounds {
        for (at, (client, name)) in CLIENTS.into_iter().enumerate() {
            for (column, waits) in [(0, true), (1, false)] {
                // What does not watch the cable is started when it is there: the other column.
                if waits && client == Client::Udhcpc {
                    continue;
                }
                let took = one(&tree, client, waits).map_err(|error| format!("time {name}: {error}"))?;
                eprintln!(
                    "round {round}: {name}, {}: {:.1} ms",
                    ["from the cable", "from its start"][column],
                    ms(took)
                );
                figures[at][column].push(took);
            }
        }
    }
    table(&mut figures);
    Ok(())
}

/// One client on a fresh network; whether it `waits` for the cable, or is started when it is there.
fn one(tree: &Path, client: Client, waits: bool) -> Result<Duration> {
    sh(
        "ip netns add client && ip link add far type veth peer name eth0 address 02:00:00:00:00:07 netns client \
        && ip address add 192.0.2.1/24 dev far && ip -n client link set lo up && rm -rf /run/leases /run/lifeboat/state/*",
    )?;
    if !waits {
        sh("ip link set far up && ip -n client link set eth0 up")?;
    }
    let _server = Running(
        Command::new(tree.join("wrappers/dnsmasq"))
            .args(["--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--port=0", "--no-ping"])
            .args([
                "--dhcp-authoritative",
                "--bind-interfaces",
                "--interface=far",
                "--dhcp-leasefile=/run/leases",
            ])
            .args(["--log-facility=-", "--dhcp-range=192.0.2.50,192.0.2.50,1h"])
            .stderr(Stdio::null())
            .spawn()?,
    );
    let (mut monitor, lines) = monitor()?;
    // Both say nothing when they listen.
    std::thread::sleep(Duration::from_millis(300));
    let begun = Instant::now();
    let mut running = start(tree, client)?;
    let mut from = begun;
    if waits {
        std::thread::sleep(REST);
        while lines.try_recv().is_ok() {}
        sh("ip link set far up")?;
        from = wait(&lines, |line| line.contains("eth0") && line.contains("LOWER_UP"))?;
    }
    let address = wait(&lines, |line| line.contains("eth0") && line.contains("inet 192.0.2.50/24"));
    running.stop();
    monitor.stop();
    sh("ip netns delete client; ip link delete far 2> /dev/null; true")?;
    Ok(address?.saturating_duration_since(from))
}

fn start(tree: &Path, client: Client) -> Result<Running> {
    let own = std::env::current_exe()?;
    let tree = tree.display();
    let networkd = format!(
        "mount -o remount,ro /sys; exec {tree}/usr/lib64/ld-linux-x86-64.so.2 --library-path \
         {tree}/usr/lib/x86_64-linux-gnu:{tree}/usr/lib/x86_64-linux-gnu/systemd {tree}/usr/lib/systemd/systemd-networkd"
    );
    let dhcpcd = format!(
        "exec {tree}/wrappers/dhcpcd --nobackground --ipv4only --config /dev/null --script /bin/true"
    );
    let line = match client {
        Client::Netd => format!("exec -a netd {}", own.display()),
        Client::Networkd => networkd,
        Client::Dhcpcd => format!("{dhcpcd} eth0"),
        Client::DhcpcdUnprobed => format!("{dhcpcd} --noarp eth0"),
        Client::Udhcpc => format!("exec {tree}/wrappers/busybox udhcpc -f -q -i eth0 -s /run/script"),
    };
    let mut command = Command::new("ip");
    command
        .args(["netns", "exec", "client", "bash", "-c", &line])
        .env("LIFEBOAT_NETD_VIRTUAL", "1")
        .env_remove(INSIDE);
    Ok(Running(command.stdout(Stdio::null()).stderr(fs::File::create("/run/client.log")?).spawn()?))
}

/// What the kernel tells of links and addresses, each line with the moment that it came.
fn monitor() -> Result<(Running, mpsc::Receiver<(Instant, String)>)> {
    let mut child = Command::new("ip")
        .args(["-n", "client", "-o", "monitor", "link", "address"])
        .stdout(Stdio::piped())
        .spawn()?;
    let output = child.stdout.take().ok_or("read ip's output")?;
    let (send, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(std::result::Result::ok) {
            if send.send((Instant::now(), line)).is_err() {
                return;
            }
        }
    });
    Ok((Running(child), lines))
}

fn wait(lines: &mpsc::Receiver<(Instant, String)>, is_it: impl Fn(&str) -> bool) -> Result<Instant> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok((moment, line)) if is_it(&line) => return Ok(moment),
            Ok(_) => {}
            Err(_) => {
                let said = fs::read_to_string("/run/client.log").unwrap_or_default();
                return Err(format!("see it within {} s: {said}", PATIENCE.as_secs()).into());
            }
        }
    }
}

/// A child that ends with its holder.
struct Running(Child);

impl Running {
    fn stop(&mut self) {
        let _ = self.0.kill(); // it may have ended by itself
        let _ = self.0.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

fn sh(line: &str) -> Result<()> {
    let status = Command::new("sh").args(["-c", line]).status()?;
    if status.success() { Ok(()) } else { Err(format!("do {line:?}: {status}").into()) }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn median(figures: &mut [Duration]) -> Option<Duration> {
    figures.sort();
    figures.get(figures.len() / 2).copied()
}

fn table(figures: &mut [[Vec<Duration>; 2]]) {
    println!(
        "\n| median, milliseconds | from the cable | of netd's | from its start | of netd's |\n|---|---|---|---|---|"
    );
    let medians: Vec<[Option<Duration>; 2]> =
        figures.iter_mut().map(|columns| columns.each_mut().map(|column| median(column))).collect();
    for ((_, name), columns) in CLIENTS.into_iter().zip(&medians) {
        let cells = [0, 1].map(|at| match (columns[at], medians[0][at]) {
            (Some(own), Some(netd)) => format!("{:.1} | {:.2}", ms(own), ms(own) / ms(netd)),
            _ => "- | -".to_string(),
        });
        println!("| {name} | {} | {} |", cells[0], cells[1]);
    }
}
