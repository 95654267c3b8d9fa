//! `make run`: a machine for a person. The built image, booted over the network by the stock iPXE ROM as a
//! hoster would, with a broken software-RAID server's disks in it; its console on the terminal, its SSH on a
//! port of loopback. Beside the console the machine's own events are read, so that the client is given the
//! right host key without a question.

use super::disks::{self, Bus, Disk};
use super::http;
use super::machine::{Boot, EMULATED, Machine, Nic, quote};
use super::programs;
use super::transcript::Transcript;
use crate::{fixtures, home, keys};
use anyhow::{Context as _, Result, bail, ensure};
use contract::event::Event;
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

/// What is in the machine where nobody says otherwise.
const DISKS: &str = "hetzner-broken";
/// Room for the initramfs twice: as it came, and unpacked.
const MEMORY: u32 = 1024;
/// The chip set's AHCI takes so many; further disks are SCSI's.
const AHCI: usize = 6;
/// Ports that are tried after the wanted one.
const TRIES: u16 = 100;
/// Runs of one checkout at the same time.
const RUNS: usize = 20;
/// A person may sit at the console for as long as they like.
const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);

/// What a person may ask for, by the Makefile's variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wishes {
    /// Disks to be used as they are, instead of fresh copies of the fixture.
    pub disks: Vec<PathBuf>,
    pub port: u16,
    /// A public key's file, or `none`: then a password on the console is the way in.
    pub key: Option<String>,
    /// More words for the kernel's command line.
    pub append: String,
    pub memory: u32,
    pub accelerator: String,
    pub by_kernel: bool,
}

impl Wishes {
    /// From the variables' values; an empty one is none.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Wishes> {
        let filled = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let number = |name: &str| {
            filled(name)
                .map(|text| text.trim().parse::<u32>().with_context(|| format!("read {name}={text}")))
                .transpose()
        };
        let port = number("SSH_PORT")?.unwrap_or(2222);
        let memory = match filled("MEM").map(|text| text.trim().to_ascii_uppercase()) {
            None => MEMORY,
            Some(text) => {
                let (digits, factor) = match text.strip_suffix('G') {
                    Some(digits) => (digits, 1024),
                    None => (text.trim_end_matches('M'), 1),
                };
                let number: Option<u32> = digits.parse().ok();
                number
                    .and_then(|number| number.checked_mul(factor))
                    .with_context(|| format!("read MEM={text}: it takes MiB, or 2G"))?
            }
        };
        let by_kernel = match filled("BOOT").as_deref().map(str::trim) {
            None | Some("pxe") => false,
            Some("kernel") => true,
            Some(other) => bail!("read BOOT={other}: it takes pxe or kernel"),
        };
        Ok(Wishes {
            disks: filled("DISKS")
                .map(|text| text.split_whitespace().map(PathBuf::from).collect())
                .unwrap_or_default(),
            port: u16::try_from(port).with_context(|| format!("read SSH_PORT={port}"))?,
            key: filled("SSH_KEY").map(|text| text.trim().to_string()),
            append: filled("APPEND").map(|text| text.trim().to_string()).unwrap_or_default(),
            memory,
            accelerator: filled("QEMU_ACCEL").unwrap_or_else(|| EMULATED.into()),
            by_kernel,
        })
    }
}

/// Boots and stays until the machine is off; the exit status is QEMU's.
pub fn run(image: &Path, wishes: &Wishes) -> Result<ExitCode> {
    ensure!(image.join("initramfs").exists(), "find an image in {}: `make image` builds it", image.display());
    let (directory, _held) = directory(image)?;
    let key = Key::of(wishes, &directory)?;
    let port = free_port(wishes.port)?;
    if port != wishes.port {
        println!("port {} is taken: SSH is on {port}", wishes.port);
    }
    let (disks, how) = put_in(wishes, &directory)?;
    let name = "RUN0001"; // its serial number
    let words = words(wishes, key.public.as_ref());
    let mut server = None;
    let boot = if wishes.by_kernel {
        Boot::Kernel { kernel: image.join("vmlinuz"), initrd: image.join("initramfs"), append: words }
    } else {
        let http = http::Server::start(image)?;
        let boot = network(&directory, http.port, &words)?;
        server = Some(http);
        boot
    };
    let nic = Nic::forwarded("10.0.2", port);
    let mut machine = Machine::new(boot).memory(wishes.memory).named(name).reboots().nic(nic).disks(disks);
    machine.accelerator = wishes.accelerator.clone();

    // The socket has a short path, which a checkout's need not be.
    let sockets = tempfile::Builder::new().prefix("lifeboat-").tempdir().context("make a directory")?;
    let socket = sockets.path().join("events");
    let events = UnixListener::bind(&socket).context("listen for events")?;
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(programs::qemu()?);
    command.args(machine.arguments(programs::qemu_major()?));
    command.args(["-serial", "mon:stdio"]);
    command.args(["-chardev", &format!("socket,id=events,path={}", socket.display())]);
    command.args(["-serial", "chardev:events"]);

    let config = client(&directory, port, name, key.private.as_deref())?;
    print!("{}", greeting(wishes, &key, port, &config, &how));
    let known = directory.join("known_hosts");
    std::thread::spawn(move || {
        if let Ok((stream, _)) = events.accept() {
            follow(&Transcript::follow(stream), &known);
        }
    });
    let status = command.status().context("run setpriv of util-linux")?;
    // Its files are served for as long as the machine may boot again.
    drop(server);
    println!("\nThe machine is off. Its disks: {how}");
    Ok(ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1)))
}

/// `out/run`, or `out/run-2` and so on while others run.
fn directory(image: &Path) -> Result<(PathBuf, File)> {
    for number in 1..=RUNS {
        let name = if number == 1 { "run".to_string() } else { format!("run-{number}") };
        let directory = image.join(name);
        fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
        let lock = File::create(directory.join("lock")).context("create the lock")?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return Ok((fs::canonicalize(&directory)?, lock));
        }
    }
    bail!("find a directory: {RUNS} machines run already")
}

/// Who may log in.
struct Key {
    /// Without options.
    public: Option<keys::Key>,
    /// Where it is ours.
    private: Option<PathBuf>,
}

impl Key {
    fn of(wishes: &Wishes, directory: &Path) -> Result<Key> {
        match wishes.key.as_deref() {
            Some("none") => Ok(Key { public: None, private: None }),
            Some(path) => {
                let path = PathBuf::from(home::expanded(path.into(), std::env::var_os("HOME").as_deref()));
                let public = keys::plain(&path)?;
                // The private half is usually beside it; an agent may have it as well.
                let private = path.with_extension("");
                Ok(Key { public: Some(public), private: private.exists().then_some(private) })
            }
            None => {
                // One key for a checkout, whichever of its runs this is.
                let private = directory.parent().context("name out/")?.join("key");
                if !private.exists() {
                    let made = Command::new("ssh-keygen")
                        .args(["-q", "-t", "ed25519", "-N", "", "-C", "make-run", "-f"])
                        .arg(&private)
                        .stdin(Stdio::null())
                        .status()
                        .context("run ssh-keygen of openssh-client")?;
                    ensure!(made.success(), "ssh-keygen made no key: {made}");
                }
                Ok(Key { public: Some(keys::plain(&private.with_extension("pub"))?), private: Some(private) })
            }
        }
    }
}

/// The wanted port of loopback, or the next that is free.
fn free_port(wanted: u16) -> Result<u16> {
    (0..TRIES)
        .filter_map(|further| wanted.checked_add(further))
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .with_context(|| format!("find a free port from {wanted} on"))
}

/// The disks, and what is said of them.
fn put_in(wishes: &Wishes, directory: &Path) -> Result<(Vec<Disk>, String)> {
    let own = directory.join("disks");
    let (paths, how) = if wishes.disks.is_empty() {
        let fixture = fixtures::ensure(&[DISKS])?.remove(0);
        if own.exists() {
            fs::remove_dir_all(&own).with_context(|| format!("empty {}", own.display()))?;
        }
        fs::create_dir_all(&own).with_context(|| format!("create {}", own.display()))?;
        let paths = fixture.copy_to(&own)?;
        let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        let how = format!(
            "a two-disk server whose RAID1 broke, made anew at each `make run`; to boot the same disks again:\n    \
             make run DISKS={}",
            quote(&names.join(" "))
        );
        (paths, how)
    } else {
        for path in &wishes.disks {
            let metadata =
                fs::metadata(path).with_context(|| format!("look at {} of DISKS", path.display()))?;
            ensure!(
                metadata.is_file(),
                "{} of DISKS is no file: a real disk is never given to the machine",
                path.display()
            );
        }
        let names: Vec<String> = wishes.disks.iter().map(|path| path.display().to_string()).collect();
        (wishes.disks.clone(), format!("{} (no copies: what is written there stays)", names.join(" ")))
    };
    let disk = |(number, path): (usize, &PathBuf)| {
        let bus = if number < AHCI { Bus::Ahci } else { Bus::VirtioScsi };
        let disk = Disk::raw(path, bus, &format!("DISK-{}", number + 1));
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("qcow2") => Disk { backing: disks::Backing::Qcow2(path.clone()), ..disk },
            _ => disk,
        }
    };
    Ok((paths.iter().enumerate().map(disk).collect(), how))
}

/// The kernel's command line. Commas for blanks, since iPXE's shell knows no quotes.
fn words(wishes: &Wishes, key: Option<&keys::Key>) -> String {
    let key = key.and_then(keys::Key::value).map(|value| format!(" ssh_key={value}"));
    let append = if wishes.append.is_empty() { String::new() } else { format!(" {}", wishes.append) };
    format!("console=ttyS0 rescue.events=ttyS1{}{append}", key.unwrap_or_default())
}

/// The stock ROM asks QEMU's DHCP and TFTP for a script, which chains to the image's own over HTTP.
fn network(directory: &Path, port: u16, words: &str) -> Result<Boot> {
    let tftp = directory.join("tftp");
    fs::create_dir_all(&tftp).context("make the TFTP directory")?;
    let script = format!("#!ipxe\nset params {words}\nchain http://10.0.2.2:{port}/boot.ipxe\n");
    fs::write(tftp.join("start.ipxe"), script).context("write the iPXE script")?;
    Ok(Boot::Pxe { directory: tftp, bootfile: "start.ipxe".into() })
}

/// A configuration for the stock client, which trusts the host key of the running machine and no other.
fn client(directory: &Path, port: u16, name: &str, key: Option<&Path>) -> Result<PathBuf> {
    let quoted = |path: &Path| format!("\"{}\"", path.display());
    let mut text = format!(
        "# Made by `make run`.\nHost lifeboat\n    HostName 127.0.0.1\n    Port {port}\n    User root\n    \
         HostKeyAlias lifeboat-{name}\n    UserKnownHostsFile {}\n    StrictHostKeyChecking yes\n    LogLevel ERROR\n",
        quoted(&directory.join("known_hosts"))
    );
    if let Some(key) = key {
        let key = fs::canonicalize(key).with_context(|| format!("find {}", key.display()))?;
        text += &format!("    IdentityFile {}\n    IdentitiesOnly yes\n", quoted(&key));
    }
    let path = directory.join("ssh_config");
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    fs::write(directory.join("known_hosts"), "").context("empty known_hosts")?;
    Ok(path)
}

/// What is said before the console takes the terminal.
fn greeting(wishes: &Wishes, key: &Key, port: u16, config: &Path, how: &str) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    let config = config.strip_prefix(&here).unwrap_or(config);
    let by = if wishes.by_kernel { "by -kernel" } else { "over the network (PXE, iPXE, HTTP)" };
    let slow = if wishes.accelerator == EMULATED {
        "emulated; QEMU_ACCEL=kvm is ten times faster where it works"
    } else {
        &wishes.accelerator
    };
    let key = match (&key.public, &key.private) {
        (None, _) => "the password that this console shows".to_string(),
        (Some(_), Some(path)) => format!("the key {}", path.strip_prefix(&here).unwrap_or(path).display()),
        (Some(_), None) => "your key, by your agent".to_string(),
    };
    format!(
        "\nBooting {by}, {} MiB, {slow}.\nDisks: {how}\n\n\
         In another terminal, once the console below says `log in with`:\n\n    \
         ssh -F {} lifeboat\n\n\
         That is root@127.0.0.1, port {port}, with {key}; the host key is the running machine's, or you are refused.\n\
         (The address that the console shows, 10.0.2.15, exists inside QEMU only.)\n\n\
         First steps there:  rescue status   fdisk -l   rescue assemble   reboot   poweroff\n\
         This terminal: Enter opens a shell on the console; Ctrl-A X ends the machine.\n\n",
        wishes.memory,
        quote(&config.display().to_string()),
    )
}

/// Every boot has a host key of its own: `known_hosts` holds the last one. Ends with the machine.
fn follow(events: &Transcript, known: &Path) {
    let mut mark = 0;
    while let Ok(lines) =
        events.wait("whole lines", mark, FOREVER, |text| text.rfind('\n').map(|end| text[..=end].to_string()))
    {
        mark += lines.len();
        for line in lines.lines() {
            let Ok(Event::HostKey { line, alias, .. }) = serde_json::from_str(line.trim()) else { continue };
            let beside = known.with_extension("new");
            let written =
                fs::write(&beside, format!("{alias} {line}\n")).and_then(|()| fs::rename(&beside, known));
            if let Err(error) = written {
                eprintln!("write {}: {error}", known.display());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::tests::ED25519;

    fn read(variables: &[(&str, &str)]) -> Result<Wishes> {
        Wishes::read(|name| {
            variables.iter().find(|(other, _)| *other == name).map(|(_, value)| value.to_string())
        })
    }

    #[test]
    fn nothing_said_is_a_network_boot_of_the_broken_server() {
        let wishes = read(&[("DISKS", ""), ("BOOT", "")]).unwrap();
        assert!(!wishes.by_kernel && wishes.disks.is_empty());
        assert_eq!((wishes.port, wishes.memory, wishes.accelerator.as_str()), (2222, 1024, "tcg"));
    }

    #[test]
    fn variables_mean_what_people_write() {
        let wishes = read(&[
            ("DISKS", "a.img  b.qcow2"),
            ("MEM", "2G"),
            ("BOOT", "kernel"),
            ("APPEND", " rescue.console=login "),
        ])
        .unwrap();
        assert_eq!(wishes.disks, [PathBuf::from("a.img"), PathBuf::from("b.qcow2")]);
        assert_eq!((wishes.memory, wishes.by_kernel), (2048, true));
        let key = keys::parse(&format!("{ED25519} me")).unwrap().remove(0);
        assert_eq!(
            words(&wishes, Some(&key)),
            format!(
                "console=ttyS0 rescue.events=ttyS1 ssh_key={},me rescue.console=login",
                ED25519.replace(' ', ",")
            )
        );
        for wrong in [("SSH_PORT", "ssh"), ("SSH_PORT", "70000"), ("MEM", "lots"), ("BOOT", "disk")] {
            assert!(read(&[wrong]).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_taken_port_is_passed_over() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        assert!(free_port(port).unwrap() > port);
    }

    #[test]
    fn a_private_key_is_refused_before_it_is_sent_anywhere() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let wishes = read(&[("SSH_KEY", file.path().to_str().unwrap())]).unwrap();
        fs::write(file.path(), "-----BEGIN OPENSSH PRIVATE KEY-----\n").unwrap();
        let refused = Key::of(&wishes, directory.path()).map(|_| ()).unwrap_err();
        assert!(refused.to_string().contains("private key"), "{refused}");
        fs::write(file.path(), format!("# mine\n{ED25519} me\n")).unwrap();
        let key = Key::of(&wishes, directory.path()).unwrap().public.unwrap();
        assert_eq!(key.line(), format!("{ED25519} me"));
    }

    #[test]
    fn the_last_boots_host_key_is_the_known_one() {
        let events = "{\"kind\":\"host-key\",\"line\":\"ssh-ed25519 ONE\",\"fingerprint\":\"f\",\"alias\":\"lifeboat-X\"}\n\
                      {\"kind\":\"host-key\",\"line\":\"ssh-ed25519 TWO\",\"fingerprint\":\"f\",\"alias\":\"lifeboat-X\"}\n";
        let directory = tempfile::tempdir().unwrap();
        let known = directory.path().join("known_hosts");
        follow(&Transcript::follow(std::io::Cursor::new(events)), &known);
        assert_eq!(fs::read_to_string(known).unwrap(), "lifeboat-X ssh-ed25519 TWO\n");
    }
}
