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
#[path = "../../src/flavour.rs"]
#[allow(dead_code)] // what make is told
mod flavour;
#[path = "../../src/initramfs.rs"]
#[allow(dead_code)] // what the build unpacks
mod initramfs;
mod load;
mod login;
mod netlink;
mod service;
mod settings;

use anyhow::{Context as _, Result, bail, ensure};
use before::{Login, System};
use clap::Parser;
use contract::cmdline::{self, Word};
use contract::params::{Owner, PARAMS};
use contract::paths;
use settings::Beside;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

/// Takes over from the running Linux: loads Lifeboat into memory and starts it, with today's addresses, keys and host keys.
///
/// The running system is shut down in order, and Lifeboat comes up in its place; nothing on a disk changes, and the next
/// reboot starts the installed system again. `ssh` then finds the same host key at the same address.
///
///     ssh root@db1 'd=$(mktemp -d /dev/shm/l.XXXXXX) && cat > $d/l.sh && sh $d/l.sh' < lifeboat-kexec.sh
#[derive(Parser)]
#[command(name = "lifeboat-kexec.sh", version, override_usage = "sh lifeboat-kexec.sh [OPTIONS]")]
struct Arguments {
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Load it and leave the start to you
    #[arg(long, conflicts_with = "dry_run")]
    load_only: bool,
    /// Let go what was loaded, so that a reboot starts the installed system
    #[arg(long, conflicts_with_all = ["dry_run", "load_only", "now"])]
    unload: bool,
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
    /// Leave out one of today's addresses
    #[arg(long, value_name = "ADDRESS")]
    without: Vec<IpAddr>,
    /// Keep an address that a cluster's program, such as keepalived, may give to another machine
    #[arg(long, value_name = "ADDRESS")]
    with: Vec<IpAddr>,
    /// More parameters: the words that a boot of Lifeboat takes
    #[arg(long, value_name = "WORDS")]
    append: Vec<String>,
    /// Another archive (cpio) to append, such as `make identity` makes, or a pipe that one comes from
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
    if arguments.unload {
        load::unload()?;
        println!("nothing is loaded any more");
        return Ok(());
    }
    let system = System("/".into());
    let extras = load::extras(&arguments.extra, &system, load::flavour(&arguments.bundle, arguments.kernel))?;
    let network = netlink::read().context("ask the kernel for links, addresses and routes")?;
    let connection = system.connection(std::process::id());
    let beside = Beside {
        with: arguments.with.clone(),
        without: arguments.without.clone(),
        ..system.beside(connection.as_deref())
    };
    let mut words = settings::words(&network, &beside);
    if beside.entrance.is_none() && !arguments.now && !arguments.dry_run {
        words.notes.push(
            "by what address you are logged in is not known: whether it is kept was not checked".into(),
        );
    }
    let own = std::process::id();
    let people = system.people(own, std::env::var("SUDO_USER").ok(), &before::says);
    let mut told = system.sshd(own);
    system.ask(&mut told, &people, connection.as_deref());
    let mut login = system.login(&people, &told, &arguments.keys);
    let hash = match arguments.password.then(|| system.password()).transpose() {
        Ok(hash) => hash,
        Err(reason) => {
            login.notes.push(reason.into());
            None
        }
    };
    words.dangers.append(&mut login.dangers);
    // A password counts where there is no key at all.
    let is_by_password = hash.is_some() && login.keys.is_empty();
    words.dangers.extend(no_way(&login).filter(|_| !is_by_password));
    let mut parameters: Vec<String> = words.words.clone();
    let mut command_line = system.console_words();
    // A rescue that dies leaves the machine to its installed system.
    command_line.push("panic=30".into());
    let (handed, of_kernel) = appended(&arguments.append);
    command_line.extend(of_kernel);
    let command_line = before::without_doubles(command_line).join(" ");
    ensure!(
        command_line.len() < LONGEST_LINE,
        "the kernel takes {LONGEST_LINE} bytes of words, and these are more: {command_line}"
    );
    for word in &handed {
        words.words.push(shown(word));
    }
    let is_by_hand = !arguments.now && !arguments.load_only && !load::is_orderly(&system);
    if is_by_hand {
        words.notes.push(load::BY_HAND.into());
    }
    tell(&words, &login, &command_line);
    parameters.extend(handed.iter().map(written));
    parameters.extend(hash.map(|hash| format!("rescue.password_hash={hash}")));
    if !words.dangers.is_empty() && !arguments.force && !arguments.dry_run {
        bail!("nothing was done: {}; --force goes on", words.dangers.join("; "));
    }
    if arguments.dry_run {
        println!("nothing was done: --dry-run");
        return Ok(());
    }
    ensure!(!is_by_hand, "nothing was done: {}", load::BY_HAND);
    if !arguments.force {
        let (total, free) = (system.memory("MemTotal"), system.memory("MemAvailable"));
        memory(total, free, arguments.kernel.length + arguments.initramfs.length, load::length(&extras))?;
    }
    let behind = load::Behind { archive: &archive(&parameters, &login)?, extras: &extras };
    load::load(&system, &arguments.bundle, arguments.kernel, arguments.initramfs, &behind, &command_line)?;
    if arguments.load_only {
        let how = if system.has_systemd() { "systemctl kexec" } else { "kexec -e" };
        println!(
            "loaded: `{how}` starts it, and a plain reboot does where the system shuts down by kexec once a kernel is loaded (systemd, kexec-tools); --unload lets it go"
        );
        return Ok(());
    }
    load::start(&system, arguments.now).map_err(|error| match load::unload() {
        Ok(()) => error.context("not started, and what was loaded is let go"),
        Err(left) => error.context(format!(
            "not started, and it is still loaded, so that a reboot may start it ({left:#})"
        )),
    })
}

/// Why no key lets the person in. Where one does, Lifeboat asks for no password, so that somebody else's shuts out who logs in by his.
fn no_way(login: &Login) -> Option<String> {
    const NARROW: &str = "(those that Lifeboat's sshd refuses, such as an RSA key of fewer than 2048 bits or one with an option that it does not know, and those with command=, from=, expiry-time= or cert-authority do not count)";
    if login.ways == 0 {
        return Some(format!(
            "no key may log in {NARROW}: name a file of keys by --keys, or take root's password along by --password"
        ));
    }
    let (owner, _) = login.own.as_ref().filter(|(_, ways)| *ways == 0)?;
    Some(format!(
        "none of the keys is {owner}'s, who you are logged in as {NARROW}, and where there is a key no password counts: name a file of yours by --keys"
    ))
}

/// For the person, before anything happens.
fn tell(words: &settings::Words, login: &Login, command_line: &str) {
    let list = |items: &[String]| if items.is_empty() { "none".to_string() } else { items.join(", ") };
    println!("addresses   {}", list(&words.kept));
    println!("log in by   {} key(s) of {}", login.ways, list(&login.from));
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

/// Words of `--append`: Lifeboat's own, which nobody but root is to read there, and the kernel's.
fn appended(lines: &[String]) -> (Vec<Word>, Vec<String>) {
    let known = |name: &str| PARAMS.iter().find(|param| param.name == name);
    let is_kernel_s = |word: &Word| match known(&word.name) {
        Some(param) => param.owner == Owner::Kernel,
        // A word of ours that nobody knows is named after the start.
        None => !word.name.starts_with("rescue."),
    };
    let words = lines.iter().flat_map(|line| cmdline::words(line));
    let (of_kernel, handed): (Vec<Word>, Vec<Word>) = words.partition(is_kernel_s);
    let quoted = of_kernel.iter().map(|word| match &word.value {
        Some(value) if value.contains(|c: char| c.is_ascii_whitespace()) => {
            format!("{}=\"{value}\"", word.name)
        }
        _ => written(word),
    });
    (handed, quoted.collect())
}

/// A line of a parameters' file.
fn written(word: &Word) -> String {
    let text =
        word.value.as_ref().map_or_else(|| word.name.clone(), |value| format!("{}={value}", word.name));
    text.replace(['\n', '\r'], " ")
}

/// The same for a person's screen.
fn shown(word: &Word) -> String {
    match PARAMS.iter().any(|param| param.name == word.name && param.secret) {
        true => format!("{}=(not shown)", word.name),
        false => written(word),
    }
}

/// What goes behind the initramfs. Only root reads a file of it there.
fn archive(parameters: &[String], login: &Login) -> Result<Vec<u8>> {
    let mut archive = cpio::Archive::new(Vec::new());
    let directories =
        [("etc", 0o755), ("etc/lifeboat", 0o755), ("etc/lifeboat/handed", 0o700), ("etc/ssh", 0o755)];
    for (name, mode) in directories {
        archive.directory(name, mode)?;
    }
    archive.file(inside(paths::HANDED_PARAMS), 0o600, (parameters.join("\n") + "\n").as_bytes())?;
    for (name, content) in &login.files {
        archive.file(inside(name), 0o600, content)?;
    }
    Ok(archive.finish()?)
}

/// By what an archive names a place.
fn inside(path: &str) -> &str {
    path.trim_start_matches('/')
}

/// Both systems are in memory for a moment: the files here, and the kernel's copy. All in bytes: what the machine has and what of
/// it is free, as far as that is known, kernel and initramfs, and the archives of `--extra`.
fn memory(total: Option<u64>, free: Option<u64>, size: u64, extra: u64) -> Result<()> {
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let needs = 3 * (size + extra) + (32 << 20);
    if let Some(free) = free.filter(|free| *free < needs) {
        bail!(
            "{} MiB of memory are free, and loading takes {}: stop something; --force tries it",
            mib(free),
            mib(needs)
        );
    }
    // What is in an archive stays in memory.
    let needs = NEEDS + extra;
    if let Some(total) = total.filter(|total| *total < needs - (NEEDS >> 3)) {
        bail!(
            "the machine has {} MiB of memory, and Lifeboat needs {}; --force tries it",
            mib(total),
            mib(needs)
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_danger_where_no_key_is_the_person_s() {
        let bob = |ways| Some(("bob".to_string(), ways));
        for (label, ways, own, wanted) in [
            ("none at all", 0, None, Some("no key may log in")),
            ("none at all, of another", 0, bob(0), Some("no key may log in")),
            ("root's, and he is root", 1, None, None),
            ("root's alone, and he is not", 1, bob(0), Some("none of the keys is bob's")),
            ("his", 1, bob(1), None),
        ] {
            let said = no_way(&Login { ways, own, ..Login::default() });
            assert_eq!(said.is_some(), wanted.is_some(), "{label}: {said:?}");
            assert!(said.unwrap_or_default().contains(wanted.unwrap_or_default()), "{label}");
        }
    }

    #[test]
    fn memory_is_there_for_what_is_appended_too() {
        const MIB: u64 = 1 << 20;
        for (label, total, free, extra, wanted) in [
            ("enough", 1024, 332, 0, None),
            ("too little", 1024, 331, 0, Some("loading takes 332")),
            ("enough, with an archive", 1024, 632, 100, None),
            ("too little for an archive", 1024, 631, 100, Some("loading takes 632")),
            ("a small machine", 336, 332, 0, None),
            ("one that is too small", 335, 332, 0, Some("Lifeboat needs 384")),
            ("one that is too small for an archive", 435, 632, 100, Some("Lifeboat needs 484")),
        ] {
            let said = memory(Some(total * MIB), Some(free * MIB), 100 * MIB, extra * MIB);
            let said = said.err().map(|error| error.to_string());
            assert_eq!(said.is_some(), wanted.is_some(), "{label}: {said:?}");
            assert!(said.unwrap_or_default().contains(wanted.unwrap_or_default()), "{label}");
        }
        assert!(memory(None, None, 100 * MIB, 0).is_ok(), "nobody knows");
    }

    #[test]
    fn appended_words_of_ours_stand_where_root_alone_reads_them() {
        let (handed, of_kernel) = appended(&[
            "rescue.password_hash=$6$x edd=off ssh_key=\"ssh-ed25519 AAAA me\"".into(),
            " console=ttyS1,9600  rescue.writable dyndbg=\"file x +p\" rescue.tpyo=1".into(),
        ]);
        let lines: Vec<String> = handed.iter().map(written).collect();
        assert_eq!(
            lines,
            ["rescue.password_hash=$6$x", "ssh_key=ssh-ed25519 AAAA me", "rescue.writable", "rescue.tpyo=1"]
        );
        assert_eq!(cmdline::file_words(&lines.join("\n")), handed);
        assert_eq!(of_kernel, ["edd=off", "console=ttyS1,9600", "dyndbg=\"file x +p\""]);
        assert_eq!(shown(&handed[0]), "rescue.password_hash=(not shown)");
    }
}
