//! A server on loopback below a directory of its own, and the stock OpenSSH client.
//!
//! Without a client the tests say so and pass; where CI is set, they fail.
#![allow(dead_code)] // each test file uses a part

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// For whatever should happen at once, on a machine that is busy.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Ends the test when there is no client.
#[macro_export]
macro_rules! need_client {
    () => {
        if !$crate::harness::has_client() {
            return;
        }
    };
}

pub fn has_client() -> bool {
    let found = Command::new("ssh").arg("-V").stderr(Stdio::null()).status().is_ok();
    if !found {
        skip("no OpenSSH client");
    }
    found
}

pub fn skip(why: &str) {
    eprintln!("SKIPPED: {why}");
    assert!(std::env::var_os("CI").is_none(), "in CI a skip is a failure: {why}");
}

pub struct Server {
    pub dir: TempDir,
    pub child: Child,
    pub log: Log,
    pub port: u16,
}

impl Server {
    /// With one key in authorized_keys, whose private part is `dir/key`.
    pub fn with_key() -> Server {
        Server::start(|dir| authorize(dir, &make_key(dir, "key", &["-t", "ed25519"])), &[])
    }

    pub fn start(prepare: impl FnOnce(&Path), arguments: &[&str]) -> Server {
        let dir = TempDir::new().unwrap();
        prepare(dir.path());
        let listening = listen(dir.path(), 0, arguments);
        Server::of(dir, listening)
    }

    /// One that was started, once it is ready.
    pub fn of(dir: TempDir, (child, log): (Child, Log)) -> Server {
        let mut server = Server { dir, child, log, port: 0 };
        server.log.wait_for("\"kind\":\"ready\"");
        server.port = server.state()["port"].as_u64().unwrap().try_into().unwrap();
        server
    }

    pub fn state(&self) -> serde_json::Value {
        let text = fs::read(self.path("run/lifeboat/state/sshd.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What every client of OpenSSH takes: the key, the port by `-o`, the host's key as told.
    pub fn options(&self) -> Vec<String> {
        let state = self.state();
        let (alias, key) = (state["alias"].as_str().unwrap(), state["host_key"].as_str().unwrap());
        let line = format!("{alias} {key}\n");
        // Another client may be reading it.
        if fs::read_to_string(self.path("known_hosts")).ok().as_ref() != Some(&line) {
            fs::write(self.path("known_hosts"), line).unwrap();
        }
        let dir = self.dir.path().display();
        ["-F", "none"]
            .map(String::from)
            .into_iter()
            .chain(
                [
                    format!("Port={}", self.port),
                    format!("HostKeyAlias={alias}"),
                    format!("UserKnownHostsFile={dir}/known_hosts"),
                    "GlobalKnownHostsFile=none".to_string(),
                    "StrictHostKeyChecking=yes".to_string(),
                    format!("IdentityFile={dir}/key"),
                    "IdentitiesOnly=yes".to_string(),
                    "IdentityAgent=none".to_string(),
                    "BatchMode=yes".to_string(),
                    "ConnectTimeout=60".to_string(),
                ]
                .into_iter()
                .flat_map(|option| ["-o".to_string(), option]),
            )
            .collect()
    }

    /// `ssh OPTIONS EXTRA root@127.0.0.1`, to which a command is added. The first `-o` wins.
    pub fn ssh(&self, extra: &[&str]) -> Command {
        let mut command = Command::new("ssh");
        command.args(extra).args(self.options()).arg("root@127.0.0.1");
        command.env_remove("SSH_AUTH_SOCK").env_remove("SSH_ASKPASS");
        command
    }

    /// Runs a command there.
    pub fn run(&self, command: &str) -> Done {
        run(self.ssh(&[]).arg(command), b"")
    }

    /// Logs in by password, through SSH_ASKPASS.
    pub fn by_password(&self, user: &str, password: &str) -> Done {
        let mut command = self.ssh(&[&BY_PASSWORD[..], &["-l", user]].concat());
        run(self.types(&mut command, password).arg("echo in"), b"")
    }

    /// What the client asks for is answered with this.
    pub fn types<'a>(&self, ssh: &'a mut Command, password: &str) -> &'a mut Command {
        let askpass = self.path("askpass");
        fs::write(&askpass, "#!/bin/sh\nprintf '%s\\n' \"$TYPED\"\n").unwrap();
        fs::set_permissions(&askpass, fs::Permissions::from_mode(0o700)).unwrap();
        ssh.env("SSH_ASKPASS", askpass).env("SSH_ASKPASS_REQUIRE", "force").env("TYPED", password)
    }

    /// The listener dies as by a crash, and is started again on the same port.
    pub fn crash_and_restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        (self.child, self.log) = listen(self.dir.path(), self.port, &[]);
        self.log.wait_for("\"kind\":\"ready\"");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the server's log:\n{}", self.log.text());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// By a password alone, which is asked for once.
pub const BY_PASSWORD: [&str; 6] =
    ["-o", "BatchMode=no", "-o", "PubkeyAuthentication=no", "-o", "NumberOfPasswordPrompts=1"];

pub fn listen(dir: &Path, port: u16, arguments: &[&str]) -> (Child, Log) {
    listen_by(Command::new(env!("CARGO_BIN_EXE_sshd")), dir, port, arguments)
}

/// By a command that ends with the program.
pub fn listen_by(mut command: Command, dir: &Path, port: u16, arguments: &[&str]) -> (Child, Log) {
    let mut child = command
        .args(["listen", "--port", &port.to_string(), "--prefix"])
        .arg(dir)
        .args(arguments)
        .env_remove("LIFEBOAT_EVENTS")
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = Log::of(child.stderr.take().unwrap());
    (child, log)
}

/// What a process has written so far.
#[derive(Clone)]
pub struct Log(Arc<(Mutex<(String, bool)>, Condvar)>);

impl Log {
    pub fn of(stream: impl Read + Send + 'static) -> Log {
        let log = Log(Arc::default());
        let writer = log.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                writer.0.0.lock().unwrap().0.push_str(&(String::from_utf8_lossy(&line) + "\n"));
                writer.0.1.notify_all();
            }
            writer.0.0.lock().unwrap().1 = true;
            writer.0.1.notify_all();
        });
        log
    }

    pub fn text(&self) -> String {
        self.0.0.lock().unwrap().0.clone()
    }

    pub fn wait_for(&self, wanted: &str) {
        let guard = self.0.0.lock().unwrap();
        let (guard, _) = self
            .0
            .1
            .wait_timeout_while(guard, DEADLINE, |(text, ended)| !text.contains(wanted) && !*ended)
            .unwrap();
        assert!(guard.0.contains(wanted), "no {wanted:?} within {DEADLINE:?} in:\n{}", guard.0);
    }
}

/// How a command ended.
pub struct Done {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Done {
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    #[track_caller]
    pub fn succeeds(self) -> Done {
        assert!(self.status.success(), "{}: {}", self.status, self.stderr);
        self
    }

    #[track_caller]
    pub fn is_refused(&self) {
        assert_eq!(self.code(), Some(255), "{}", self.stderr);
        assert!(self.stderr.contains("Permission denied"), "{}", self.stderr);
    }
}

/// Runs to the end, or fails the test at the deadline.
#[track_caller]
pub fn run(command: &mut Command, input: &[u8]) -> Done {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let input = input.to_vec();
    let feeder = std::thread::spawn(move || {
        // A program need not read all it is given.
        let _ = stdin.write_all(&input);
    });
    let errors = std::thread::spawn(move || {
        let mut text = Vec::new();
        stderr.read_to_end(&mut text).unwrap();
        String::from_utf8_lossy(&text).into_owned()
    });
    let output = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stdout.read_to_end(&mut bytes).unwrap();
        bytes
    });
    let status = wait(&mut child, &format!("{command:?}"));
    feeder.join().unwrap();
    Done { status, stdout: output.join().unwrap(), stderr: errors.join().unwrap() }
}

#[track_caller]
pub fn wait(child: &mut Child, what: &str) -> ExitStatus {
    let mut status = None;
    let ended = until(|| {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    if !ended {
        let _ = child.kill();
        panic!("did not end within {DEADLINE:?}: {what}");
    }
    status.unwrap()
}

/// Whether a condition that cannot be waited for came true before the deadline.
pub fn until(mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + DEADLINE;
    while Instant::now() < deadline {
        if condition() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

/// Makes `dir/name`; gives the public line.
pub fn make_key(dir: &Path, name: &str, kind: &[&str]) -> String {
    let path = dir.join(name);
    run(Command::new("ssh-keygen").args(["-q", "-N", "", "-C", "tester", "-f"]).arg(&path).args(kind), b"")
        .succeeds();
    fs::read_to_string(path.with_extension("pub")).unwrap()
}

pub fn authorize(dir: &Path, line: &str) {
    write(dir, "root/.ssh/authorized_keys", line);
}

pub fn write(dir: &Path, name: &str, text: &str) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Bytes that do not compress or repeat, the same each time.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// An argument that need not be UTF-8.
pub fn bytes(text: &[u8]) -> std::ffi::OsString {
    std::ffi::OsString::from_vec(text.to_vec())
}

/// OpenSSH's sftp-server: where SFTP_SERVER says, or in the places where a host may have it.
pub fn sftp_server() -> Option<String> {
    let given = std::env::var("SFTP_SERVER").ok();
    let found =
        ["/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server"]
            .into_iter()
            .map(String::from)
            .chain(given)
            .rfind(|path| Path::new(path).exists());
    if found.is_none() {
        skip("no sftp-server");
    }
    found
}
