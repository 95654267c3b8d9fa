//! The second half of `make bench-ssh`: the image's sshd and OpenSSH's of Debian 13 in one emulated machine, the
//! image's own, over its loopback and with its client. measure.sh does it there; here is how the peer gets in, and the
//! table.

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use image::libraries;
use image::vm::{Lab, programs};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

const SCRIPT: &str = include_str!("measure.sh");
/// 200 sessions of both, one after the other.
const MEMORY: u32 = 2048;
const PATIENCE: Duration = Duration::from_secs(3600);
const SERVER: &[&str] = &[
    "usr/sbin/sshd",
    "usr/lib/openssh/sshd-session",
    "usr/lib/openssh/sshd-auth",
    "usr/lib/openssh/sftp-server",
];

#[derive(Parser)]
#[command(name = "bench-ssh", about = "Measure sshd beside OpenSSH's in one machine")]
struct Arguments {
    /// Runs of each row
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// MiB that are copied
    #[arg(long, default_value_t = 64)]
    mib: usize,
    /// Sessions at once
    #[arg(long, default_value_t = 200)]
    sessions: usize,
    /// Directory with vmlinuz and initramfs
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../out"))]
    image: PathBuf,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-ssh: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let lab = Lab::new("bench-ssh", &arguments.image)?;
    let vm = lab.machine()?.memory(MEMORY).start(&lab)?;
    let ssh = vm.login()?.patience(PATIENCE);
    vm.settled_after(0)?;
    let fed = ssh.feed("mkdir -p /run/peer && tar -x -C /run/peer", &peer()?)?;
    ensure!(fed.status == 0, "bring OpenSSH's server: {fed:?}");
    ssh.feed("cat > /run/measure.sh", SCRIPT.as_bytes())?;
    let Arguments { rounds, mib, sessions, .. } = arguments;
    let said = ssh.ok(&format!("bash /run/measure.sh {rounds} {mib} {sessions}"))?;
    drop(vm);
    print!("{}", table(&said, *mib)?);
    std::fs::remove_dir_all(&lab.dir).context("remove the machine's directory")
}

/// OpenSSH's server with its libraries, from the build's own tools.
fn peer() -> Result<Vec<u8>> {
    let tree = programs::tools_root()?;
    let programs: BTreeSet<String> = SERVER.iter().map(|name| name.to_string()).collect();
    let mut tar = Command::new("tar");
    tar.args(["-c", "-h", "-C"]).arg(&tree).args(programs.union(&libraries::closure(&tree, &programs)?));
    let done = tar.stdin(Stdio::null()).output().context("run tar")?;
    ensure!(done.status.success(), "pack OpenSSH's server: {}", String::from_utf8_lossy(&done.stderr));
    Ok(done.stdout)
}

/// Of lines `ROW PEER SECONDS CPU` the medians, one line of Markdown for each row.
fn table(said: &str, mib: usize) -> Result<String> {
    let mut rows: Vec<String> = Vec::new();
    let mut values: BTreeMap<(String, String), Vec<(f64, f64)>> = BTreeMap::new();
    for line in said.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let [row, peer, seconds, cpu] = fields[..] else { continue };
        let number = |text: &str| text.parse::<f64>().with_context(|| format!("read {line:?}"));
        if !rows.iter().any(|known| known == row) {
            rows.push(row.to_string());
        }
        values.entry((row.into(), peer.into())).or_default().push((number(seconds)?, number(cpu)?));
    }
    ensure!(!rows.is_empty(), "see figures: {said}");
    let mut text = format!(
        "\n| in one VM, emulated; {mib} MiB; seconds (KiB of memory) | Lifeboat | OpenSSH | OpenSSH / Lifeboat \
         | Lifeboat CPU s | OpenSSH CPU s |\n\
         |---|---|---|---|---|---|\n"
    );
    for row in rows {
        let of = |peer: &str| {
            let all = values.get(&(row.clone(), peer.to_string())).cloned().unwrap_or_default();
            let median = |mut numbers: Vec<f64>| {
                numbers.sort_by(f64::total_cmp);
                numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
            };
            (median(all.iter().map(|pair| pair.0).collect()), median(all.iter().map(|pair| pair.1).collect()))
        };
        let (ours, theirs) = (of("ours"), of("theirs"));
        text += &format!(
            "| {row} | {:.2} | {:.2} | **{:.2}** | {:.2} | {:.2} |\n",
            ours.0,
            theirs.0,
            theirs.0 / ours.0,
            ours.1,
            theirs.1
        );
    }
    Ok(text)
}
