//! `takeover`: what lifeboat-kexec.sh runs on a running Linux. It reads that system's addresses, routes, name servers, keys
//! and host keys, puts them behind Lifeboat's initramfs in the forms that a boot of Lifeboat takes (docs/parameters.md,
//! docs/ssh.md), loads kernel and initramfs by kexec_file_load(2), and has the system go down into them.
//!
//! It writes to no disk: kernel, initramfs and secrets are files in memory of this process. What it is asked to do
//! it does, or says in one line why not, before anything has changed.

mod before;
#[path = "../../src/cpio.rs"]
#[allow(dead_code)] // the image's build writes kinds of entries that are not needed here
mod cpio;
mod load;
mod login;
mod netlink;
mod settings;

use anyhow::{Context as _, Result, bail, ensure};
use before::{Login, System};
use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;

/// Takes over from the running Linux: loads Lifeboat into memory and starts it, with today's addresses, keys and host keys.
///
/// The running system is shut down in order, and Lifeboat comes up in its place; nothing on a disk changes, and the next
/// reboot starts the installed system again. `ssh` then finds the same host key at the same address.
///
///     scp lifeboat-kexec.sh root@db1:/dev/shm/ && ssh root@db1 sh /dev/shm/lifeboat-kexec.sh
#[derive(Parser)]
#[command(name = "lifeboat-kexec.sh", version, override_usage = "sh lifeboat-kexec.sh [OPTIONS]")]
struct Arguments {
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Load it and leave the start to you
    #[arg(long, conflicts_with = "dry_run")]
    load_only: bool,
    /// Do not shut services down first: write out what is cached, and start. For a system that no longer shuts down
    #[arg(long, conflicts_with_all = ["dry_run", "load_only"])]
    now: bool,
    /// Go on where the way back in looks unsafe
    #[arg(long)]
    force: bool,
    /// More keys that may log in: a file in the form of authorized_keys
    #[arg(long, value_name = "FILE")]
    keys: Vec<PathBuf>,
    /// root's password goes on being valid (it counts where there is no key)
    #[arg(long)]
    password: bool,
    /// More parameters: the words that a boot of Lifeboat takes
    #[arg(long, value_name = "WORDS")]
    append: Vec<String>,
    /// Another archive (cpio) to append, such as `make identity` makes
    #[arg(long, value_name = "FILE")]
    extra: Vec<PathBuf>,
    /// The bundle, and where kernel and initramfs lie in it
    #[arg(long, hide = true, required = true)]
    bundle: PathBuf,
    #[arg(long, hide = true, required = true)]
    kernel: load::Part,
    #[arg(long, hide = true, required = true)]
    initramfs: load::Part,
}

/// Where parameters are read from that are nobody else's.
const PARAMETERS: &str = "etc/lifeboat/params";
/// What Lifeboat needs (docs/boot.md), in bytes.
const NEEDS: u64 = 384 << 20;
/// Longest command line that a kernel takes, with its NUL.
const LONGEST_LINE: usize = 2048;

fn main() -> ExitCode {
    let is_end = std::env::args().nth(1).as_deref() == Some(load::AT_ONCE);
    match if is_end { load::at_once() } else { run(&Arguments::parse()) } {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lifeboat-kexec: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "only root reads the host keys and loads a kernel: try sudo"
    );
    let system = System("/".into());
    let network = netlink::read().context("ask the kernel for links, addresses and routes")?;
    let beside = system.beside(std::env::var("SSH_CONNECTION").ok().as_deref());
    let mut words = settings::words(&network, &beside);
    let mut login = system.login(std::env::var("SUDO_USER").ok().as_deref(), &arguments.keys);
    let hash = if arguments.password { system.password() } else { None };
    if arguments.password && hash.is_none() {
        login.notes.push("root has no password to go on with".into());
    }
    if login.keys.is_empty() && hash.is_none() {
        words.dangers.push(
            "no key may log in: name a file of keys by --keys, or take root's password along by --password"
                .into(),
        );
    }
    let mut command_line = system.console_words();
    // A rescue that dies leaves the machine to its installed system.
    command_line.push("panic=30".into());
    command_line.extend(arguments.append.iter().map(|words| words.trim().to_string()));
    let command_line = before::without_doubles(command_line).join(" ");
    ensure!(
        command_line.len() < LONGEST_LINE,
        "the kernel takes {LONGEST_LINE} bytes of words, and these are more: {command_line}"
    );
    let mut parameters: Vec<String> = words.words.clone();
    parameters.extend(hash.map(|hash| format!("rescue.password_hash={hash}")));
    tell(&words, &login, &command_line);
    if !words.dangers.is_empty() && !arguments.force && !arguments.dry_run {
        bail!("nothing was done: {}; --force goes on", words.dangers.join("; "));
    }
    if arguments.dry_run {
        println!("nothing was done: --dry-run");
        return Ok(());
    }
    let mut archives = archive(&parameters, &login)?;
    for path in &arguments.extra {
        archives.resize(archives.len().next_multiple_of(4), 0);
        archives.extend(std::fs::read(path).with_context(|| format!("read {}", path.display()))?);
    }
    memory(&system, arguments)?;
    load::load(&system, &arguments.bundle, arguments.kernel, arguments.initramfs, &archives, &command_line)?;
    if arguments.load_only {
        let how = if system.has_systemd() { "systemctl kexec" } else { "kexec -e" };
        println!("loaded: `{how}` starts it, and so does this script without --load-only");
        return Ok(());
    }
    load::start(&system, arguments.now)
}

/// For the person, before anything happens.
fn tell(words: &settings::Words, login: &Login, command_line: &str) {
    let list = |items: &[String]| if items.is_empty() { "none".to_string() } else { items.join(", ") };
    println!("addresses   {}", list(&words.kept));
    println!("log in by   {} key(s) of {}", login.keys.len(), list(&login.from));
    println!("host keys   {}", list(&login.known_by));
    for word in &words.words {
        println!("parameter   {word}");
    }
    println!("kernel      {command_line}");
    for note in words.notes.iter().chain(&login.notes) {
        println!("note        {note}");
    }
    for danger in &words.dangers {
        println!("DANGER      {danger}");
    }
}

/// What goes behind the initramfs. Only root reads a file of it there.
fn archive(parameters: &[String], login: &Login) -> Result<Vec<u8>> {
    let mut archive = cpio::Archive::new(Vec::new());
    let directories =
        [("etc", 0o755), ("etc/lifeboat", 0o755), ("etc/ssh", 0o755), ("root", 0o700), ("root/.ssh", 0o700)];
    for (name, mode) in directories {
        archive.directory(name, mode)?;
    }
    archive.file(PARAMETERS, 0o600, (parameters.join("\n") + "\n").as_bytes())?;
    for (name, content) in &login.files {
        archive.file(name, 0o600, content)?;
    }
    Ok(archive.finish()?)
}

/// Both systems are in memory for a moment: the files here, and the kernel's copy.
fn memory(system: &System, arguments: &Arguments) -> Result<()> {
    let size = arguments.kernel.length + arguments.initramfs.length;
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let (total, free) = (system.memory("MemTotal"), system.memory("MemAvailable"));
    let needs = 3 * size + (32 << 20);
    if let Some(free) = free.filter(|free| *free < needs && !arguments.force) {
        bail!(
            "{} MiB of memory are free, and loading takes {}: stop something; --force tries it",
            mib(free),
            mib(needs)
        );
    }
    if let Some(total) = total.filter(|total| *total < NEEDS - (NEEDS >> 3) && !arguments.force) {
        bail!(
            "the machine has {} MiB of memory, and Lifeboat needs {}; --force tries it",
            mib(total),
            mib(NEEDS)
        );
    }
    Ok(())
}
