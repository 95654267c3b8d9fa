//! What the suite starts as `sshd`: reads its configuration and starts ours with the same keys.
//!
//! Ours has no configuration, so a word that would change what the server does is refused, and the test fails instead
//! of passing for nothing. `-i` is a relay to a server of the same test with the same configuration.

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// Words that ask for nothing, or for what ours does anyway.
const HARMLESS: &[&str] = &[
    "acceptenv", // ours has its own list, which the suite's variable is in
    "addressfamily",
    "allowtcpforwarding", // yes, checked below
    "hostkeyalgorithms",
    "listenaddress",
    "loglevel",
    "persourcepenalties", // no, checked below
    "pubkeyacceptedalgorithms",
    "securitykeyprovider",
    "sshdauthpath",
    "sshdsessionpath",
    "strictmodes",
    "useprivilegeseparation",
    "usepam",
];
/// Lists of algorithms: the client is told the same, so that what is asked for is what is used.
const ALGORITHMS: &[&str] = &["ciphers", "kexalgorithms", "macs"];
const DEADLINE: Duration = Duration::from_secs(60);
/// Below the directory of a test.
const SERVERS: &str = "stand-in";
const REFUSED: &str = "stand-in.refused";

pub fn main(arguments: &[String]) -> ExitCode {
    match run(arguments) {
        Ok(code) => code,
        Err(reason) => {
            eprintln!("stand-in: {reason}");
            ExitCode::from(255)
        }
    }
}

#[derive(Default, Hash)]
struct Wanted {
    file: PathBuf,
    port: u16,
    pid_file: Option<PathBuf>,
    keys: Vec<PathBuf>,
    host_keys: Vec<PathBuf>,
    certificates: Vec<PathBuf>,
    sftp: Option<String>,
    grace: Option<String>,
    waiting: Option<String>,
    /// `SIZE` or `default SECONDS`.
    rekey: Vec<String>,
}

fn run(arguments: &[String]) -> Result<ExitCode, String> {
    let (mut inetd, mut check, mut foreground, mut file) = (false, false, false, None);
    let mut words = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "-i" => inetd = true,
            "-t" => check = true,
            "-D" => foreground = true,
            "-f" => file = rest.next().cloned(),
            "-o" => words.push(rest.next().ok_or("-o needs a value")?.clone()),
            "-q" | "-e" | "-d" => {}
            "--daemon" => foreground = true,
            other if other.starts_with("-E") => {}
            other if other.starts_with("-f") => file = Some(other[2..].to_string()),
            other if other.starts_with("-o") => words.push(other[2..].to_string()),
            other => return Err(format!("argument {other}")),
        }
    }
    let file = PathBuf::from(file.ok_or("no configuration")?);
    let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    words.extend(text.lines().map(String::from));
    let wanted = wanted(&file, &words).inspect_err(|reason| refuse(&file, reason))?;
    if check {
        return Ok(ExitCode::SUCCESS);
    }
    if inetd {
        return relay(&wanted);
    }
    if foreground {
        return daemon(&wanted);
    }
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new("setsid");
    command.arg(own).args(["stand-in", "--daemon"]).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().map_err(|error| format!("setsid: {error}"))?;
    Ok(ExitCode::SUCCESS)
}

/// Noted for the runner, since a test may be content with a server that does not start.
fn refuse(file: &Path, reason: &str) {
    if let Some(test) = file.parent() {
        let noted = OpenOptions::new().create(true).append(true).open(test.join(REFUSED));
        let _ = noted.and_then(|mut noted| writeln!(noted, "stand-in: {reason}"));
    }
}

/// What was refused in a test, a line each.
pub fn refused(test: &Path) -> String {
    fs::read_to_string(test.join(REFUSED)).unwrap_or_default()
}

/// The first of a word counts, as with sshd.
fn wanted(file: &Path, lines: &[String]) -> Result<Wanted, String> {
    let mut wanted = Wanted { file: file.to_path_buf(), ..Wanted::default() };
    for line in lines.iter().map(|line| line.trim()) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (word, value) = line.split_once([' ', '\t', '=']).ok_or(format!("line {line:?}"))?;
        let value = value.trim_matches([' ', '\t', '=', '"']);
        match word.to_ascii_lowercase().as_str() {
            "port" if wanted.port == 0 => wanted.port = value.parse().map_err(|_| line.to_string())?,
            "pidfile" => wanted.pid_file = Some(PathBuf::from(value)),
            "authorizedkeysfile" if wanted.keys.is_empty() => {
                wanted.keys =
                    value.split_whitespace().map(|path| path.replace("%u", "root").into()).collect();
            }
            "hostkey" => wanted.host_keys.push(PathBuf::from(value)),
            "hostcertificate" => wanted.certificates.push(PathBuf::from(value)),
            "subsystem" => wanted.sftp = value.strip_prefix("sftp").map(|path| path.trim().to_string()),
            "logingracetime" => wanted.grace = Some(value.trim_end_matches('s').to_string()),
            "rekeylimit" => wanted.rekey = value.split_whitespace().map(String::from).collect(),
            "maxstartups" => wanted.waiting = Some(value.to_string()),
            "port" | "authorizedkeysfile" => {}
            // The suite's way to its own scp.
            "setenv" if value.starts_with("PATH=") => {}
            "allowtcpforwarding" | "permituserenvironment" | "allowagentforwarding" if value != "yes" => {
                return Err(format!("ours has no {line:?}"));
            }
            "persourcepenalties" if value != "no" => return Err(format!("ours has no {line:?}")),
            word if HARMLESS.contains(&word) || ALGORITHMS.contains(&word) => {}
            _ => return Err(format!("ours has no {line:?}")),
        }
    }
    Ok(wanted)
}

/// Starts ours below a directory of its own.
fn start(wanted: &Wanted, prefix: &Path, port: u16) -> Result<(Child, u16), String> {
    let put = |name: &str, bytes: &[u8]| {
        let path = prefix.join(name);
        fs::create_dir_all(path.parent().ok_or("no directory")?).map_err(|error| error.to_string())?;
        fs::write(&path, bytes).map_err(|error| format!("{}: {error}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(|error| error.to_string())
    };
    for key in &wanted.host_keys {
        let (Ok(private), Ok(public)) = (fs::read(key), fs::read(public_of(key))) else { continue };
        if public.starts_with(b"ssh-ed25519 ") {
            put("etc/ssh/ssh_host_ed25519_key", &private)?;
        }
        if public.starts_with(b"ssh-rsa ") {
            // Else it would make one.
            put("run/lifeboat/sshd/host_rsa", &private)?;
            put("run/lifeboat/sshd/host_rsa.pub", &public)?;
        }
    }
    for certificate in &wanted.certificates {
        let text = fs::read(certificate).map_err(|error| error.to_string())?;
        if text.starts_with(b"ssh-ed25519-cert") {
            put("etc/ssh/ssh_host_ed25519_key-cert.pub", &text)?;
        }
    }
    put("root/.ssh/authorized_keys", &keys(wanted))?;
    let program = std::env::var_os("SSHD_UNDER_TEST").ok_or("no SSHD_UNDER_TEST")?;
    let suite_s = std::env::var("SFTP_SERVER_OF_SUITE").unwrap_or_default();
    let sftp = match &wanted.sftp {
        Some(path) if *path != suite_s => path.clone(),
        _ => std::env::var("SFTP_SERVER").map_err(|_| "no SFTP_SERVER")?,
    };
    let log = File::create(prefix.join("log")).map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.args(["listen", "--port", &port.to_string(), "--sftp-server", &sftp, "--prefix"]).arg(prefix);
    if let Some(grace) = &wanted.grace {
        command.args(["--grace", grace]);
    }
    if let Some(waiting) = &wanted.waiting {
        command.args(["--waiting", waiting]);
    }
    if let Some(bytes) = wanted.rekey.first().filter(|size| *size != "default") {
        let (number, unit) = bytes.strip_suffix('k').map_or((bytes.as_str(), 1), |number| (number, 1024));
        let number: u32 = number.parse().map_err(|_| bytes.clone())?;
        command.args(["--rekey-bytes", &(number * unit).to_string()]);
    }
    if let Some(seconds) = wanted.rekey.get(1) {
        command.args(["--rekey-seconds", seconds]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    fs::write(prefix.join("pid"), child.id().to_string()).map_err(|error| error.to_string())?;
    let deadline = Instant::now() + DEADLINE;
    loop {
        let text = fs::read(prefix.join("run/lifeboat/state/sshd.json")).unwrap_or_default();
        let state: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
        if state["listening"] == true {
            let port = state["port"].as_u64().and_then(|port| port.try_into().ok()).ok_or("no port")?;
            return Ok((child, port));
        }
        if child.try_wait().is_ok_and(|ended| ended.is_some()) || Instant::now() > deadline {
            return Err(fs::read_to_string(prefix.join("log")).unwrap_or_default());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// `host.TYPE` is a copy of the private part of `TYPE`.
fn public_of(key: &Path) -> PathBuf {
    let name = key.file_name().unwrap_or_default().to_string_lossy();
    let beside = key.with_file_name(format!("{name}.pub"));
    if beside.exists() {
        beside
    } else {
        key.with_file_name(format!("{}.pub", name.trim_start_matches("host.")))
    }
}

/// Of all files of the pattern, in order.
fn keys(wanted: &Wanted) -> Vec<u8> {
    let mut text = Vec::new();
    for pattern in &wanted.keys {
        let name = pattern.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut files = vec![pattern.clone()];
        if let (Some(start), Some(parent)) = (name.strip_suffix('*'), pattern.parent()) {
            files = fs::read_dir(parent).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
            files.retain(|path| path.file_name().is_some_and(|own| own.to_string_lossy().starts_with(start)));
            files.sort();
        }
        for file in files {
            text.extend(fs::read(file).unwrap_or_default());
            text.push(b'\n');
        }
    }
    text
}

fn directory(wanted: &Wanted, kind: &str) -> Result<PathBuf, String> {
    let mut hash = DefaultHasher::new();
    wanted.hash(&mut hash);
    for key in wanted.host_keys.iter().chain(&wanted.certificates) {
        fs::read(key).unwrap_or_default().hash(&mut hash);
    }
    let test = wanted.file.parent().ok_or("no directory")?;
    let path = test.join(SERVERS).join(format!("{kind}-{:x}", hash.finish()));
    fs::create_dir_all(&path).map_err(|error| error.to_string())?;
    Ok(path)
}

/// Stays until it is killed, as sshd with its pid file.
fn daemon(wanted: &Wanted) -> Result<ExitCode, String> {
    let prefix = directory(wanted, &format!("daemon{}", std::process::id()))?;
    let signals =
        host::sys::process::signal_fd(&[rustix::process::Signal::TERM, rustix::process::Signal::INT])
            .map_err(|error| error.to_string())?;
    let (mut child, _) = start(wanted, &prefix, wanted.port)?;
    if let Some(file) = &wanted.pid_file {
        fs::write(file, format!("{}\n", std::process::id())).map_err(|error| error.to_string())?;
    }
    let mut last = keys(wanted);
    loop {
        let mut fds = [rustix::event::PollFd::new(&signals, rustix::event::PollFlags::IN)];
        let pause = rustix::event::Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        match rustix::event::poll(&mut fds, Some(&pause)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => break,
            Err(error) => return Err(error.to_string()),
        }
        // A test may change them while it runs.
        let now = keys(wanted);
        if now != last {
            fs::write(prefix.join("root/.ssh/authorized_keys"), &now).map_err(|error| error.to_string())?;
            last = now;
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    if let Some(file) = &wanted.pid_file {
        let _ = fs::remove_file(file);
    }
    Ok(ExitCode::SUCCESS)
}

/// Standard input and output are the connection.
fn relay(wanted: &Wanted) -> Result<ExitCode, String> {
    let prefix = directory(wanted, "inetd")?;
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(prefix.join("lock"));
    let lock = lock.map_err(|error| error.to_string())?;
    lock.lock().map_err(|error| error.to_string())?;
    let known = fs::read_to_string(prefix.join("port")).ok().and_then(|port| port.parse().ok());
    let port = match known {
        Some(port) => {
            let path = prefix.join("root/.ssh/authorized_keys");
            let now = keys(wanted);
            if fs::read(&path).ok().as_ref() != Some(&now) {
                let beside = prefix.join("authorized_keys");
                fs::write(&beside, now)
                    .and_then(|()| fs::rename(&beside, &path))
                    .map_err(|error| error.to_string())?;
            }
            port
        }
        None => {
            // The child stays for the next: `end` ends it.
            let (_, port) = start(wanted, &prefix, 0)?;
            fs::write(prefix.join("port"), port.to_string()).map_err(|error| error.to_string())?;
            port
        }
    };
    drop(lock);
    // From another address than what comes to the port: sshd has none for a pipe, and nothing that `from=` names.
    let stream = TcpStream::connect(("::1", port)).map_err(|error| format!("connect: {error}"))?;
    let _ = stream.set_nodelay(true);
    let (mut up, mut down) = (stream.try_clone().map_err(|error| error.to_string())?, stream);
    std::thread::spawn(move || {
        let _ = io::copy(&mut Unbuffered(io::stdin()), &mut up);
        let _ = up.shutdown(Shutdown::Write);
    });
    let mut out =
        File::from(std::os::fd::AsFd::as_fd(&io::stdout()).try_clone_to_owned().map_err(|e| e.to_string())?);
    let mut buffer = vec![0; 65536];
    while let Ok(length @ 1..) = down.read(&mut buffer) {
        if out.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    // What sshd ends with when the other side was no SSH; a client does not look at it.
    Ok(ExitCode::from(255))
}

struct Unbuffered(io::Stdin);

impl Read for Unbuffered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        rustix::io::read(&self.0, buffer).map_err(Into::into)
    }
}

fn servers(test: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(test.join(SERVERS)).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// Ends what a test started.
pub fn end(test: &Path) {
    for pid in servers(test).filter_map(|server| fs::read_to_string(server.join("pid")).ok()) {
        let _ = Command::new("kill").args(["-9", &pid]).stderr(Stdio::null()).status();
    }
}

pub fn logs(test: &Path) -> String {
    servers(test).filter_map(|server| fs::read_to_string(server.join("log")).ok()).collect()
}
