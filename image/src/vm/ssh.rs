//! The stock OpenSSH client, as a person at home has it: no configuration of the tester's, one
//! `known_hosts` line, one key.

use super::lab::Lab;
use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::transcript::Transcript;

/// A client that has not ended by then hangs (coreutils' `timeout`, which answers 124).
const PATIENCE: Duration = Duration::from_secs(120);

/// How a client that ended did.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

/// A way in.
#[derive(Clone, Debug)]
pub struct Ssh {
    pub port: u16,
    pub user: String,
    pub key: Option<PathBuf>,
    pub alias: String,
    known_hosts: PathBuf,
    /// A program that types the password.
    askpass: Option<PathBuf>,
    pub options: Vec<String>,
    pub patience: Duration,
}

impl Ssh {
    /// `known_hosts` is one line whose first field is the alias.
    pub fn new(lab: &Lab, port: u16, known_hosts: &str) -> Result<Ssh> {
        let alias =
            known_hosts.split_whitespace().next().context("read an empty known_hosts line")?.to_string();
        let path = lab.path(&format!("known_hosts.{port}"));
        fs::write(&path, format!("{known_hosts}\n")).with_context(|| format!("write {}", path.display()))?;
        Ok(Ssh {
            port,
            user: "root".into(),
            key: Some(lab.key()?),
            alias,
            known_hosts: path,
            askpass: None,
            options: Vec::new(),
            patience: PATIENCE,
        })
    }

    pub fn user(&self, user: &str) -> Ssh {
        Ssh { user: user.into(), ..self.clone() }
    }

    pub fn with_key(&self, key: &Path) -> Ssh {
        Ssh { key: Some(key.into()), ..self.clone() }
    }

    pub fn patience(&self, patience: Duration) -> Ssh {
        Ssh { patience, ..self.clone() }
    }

    /// No key; whatever is asked is answered with this password.
    pub fn with_password(&self, lab: &Lab, password: &str) -> Result<Ssh> {
        let path = lab.path(&format!("askpass.{}", self.port));
        let script = format!("#!/bin/sh\necho {}\n", super::machine::quote(password));
        fs::write(&path, script)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o700)))
            .with_context(|| format!("write {}", path.display()))?;
        Ok(Ssh { key: None, askpass: Some(path), ..self.clone() })
    }

    /// Options that ssh, scp and sftp share, without the port.
    fn shared(&self) -> Vec<OsString> {
        let mut args: Vec<OsString> = ["-F", "none"].map(OsString::from).into();
        let mut option = |text: String| args.extend(["-o".into(), text.into()]);
        option(format!("UserKnownHostsFile={}", self.known_hosts.display()));
        option("GlobalKnownHostsFile=/dev/null".into());
        option("StrictHostKeyChecking=yes".into());
        option(format!("HostKeyAlias={}", self.alias));
        option("IdentityAgent=none".into());
        option("IdentitiesOnly=yes".into());
        option("LogLevel=ERROR".into());
        match &self.key {
            Some(key) => {
                option(format!("IdentityFile={}", key.display()));
                option("BatchMode=yes".into());
            }
            None => {
                option("PubkeyAuthentication=no".into());
                option("NumberOfPasswordPrompts=1".into());
            }
        }
        for text in &self.options {
            option(text.clone());
        }
        args
    }

    fn client(&self, program: &str) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", &self.patience.as_secs().to_string(), program]);
        command.env_remove("SSH_AUTH_SOCK").env_remove("DISPLAY");
        if let Some(askpass) = &self.askpass {
            command.env("SSH_ASKPASS", askpass).env("SSH_ASKPASS_REQUIRE", "force");
        }
        command
    }

    /// `ssh [OPTIONS] USER@127.0.0.1`, ready for a command.
    pub fn command(&self) -> Command {
        let mut command = self.client("ssh");
        command.args(self.shared());
        command.args(["-p", &self.port.to_string(), &format!("{}@127.0.0.1", self.user)]);
        command.stdin(Stdio::null());
        command
    }

    /// Run a command line there.
    pub fn run(&self, line: &str) -> Result<Answer> {
        answer(self.command().arg(line), line)
    }

    /// Run a command line that has to succeed, for its standard output.
    pub fn ok(&self, line: &str) -> Result<String> {
        let answer = self.run(line)?;
        ensure!(
            answer.status == 0,
            "run `{line}`: status {}\n{}{}",
            answer.status,
            answer.stdout,
            answer.stderr
        );
        Ok(answer.stdout)
    }

    /// Copy to or from the machine; the far side of either is written `:PATH`.
    pub fn scp(&self, from: &str, to: &str) -> Result<()> {
        let far = |path: &str| match path.strip_prefix(':') {
            Some(path) => format!("{}@127.0.0.1:{path}", self.user),
            None => path.to_string(),
        };
        let mut command = self.client("scp");
        command.arg("-q").args(self.shared()).args(["-P", &self.port.to_string()]).args([far(from), far(to)]);
        let answer = answer(command.stdin(Stdio::null()), "scp")?;
        ensure!(answer.status == 0, "scp {from} {to}: status {}: {}", answer.status, answer.stderr);
        Ok(())
    }

    /// A batch of commands for `sftp`.
    pub fn sftp(&self, batch: &str) -> Result<String> {
        let mut command = self.client("sftp");
        command.args(self.shared()).args(["-P", &self.port.to_string(), "-b", "-"]);
        command.arg(format!("{}@127.0.0.1", self.user));
        let answer = feed(command, batch.as_bytes(), "sftp")?;
        ensure!(answer.status == 0, "sftp {batch:?}: status {}: {}", answer.status, answer.stderr);
        Ok(answer.stdout)
    }

    /// Run a command line with this on its standard input.
    pub fn feed(&self, line: &str, input: &[u8]) -> Result<Answer> {
        let mut command = self.command();
        command.arg(line);
        feed(command, input, line)
    }

    /// A login at a terminal of so many rows and columns.
    pub fn terminal(&self, rows: u16, columns: u16) -> Result<Terminal> {
        Terminal::open(self, rows, columns)
    }
}

fn answer(command: &mut Command, what: &str) -> Result<Answer> {
    let output = command.output().with_context(|| format!("run the client for {what}"))?;
    Ok(Answer {
        status: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

fn feed(mut command: Command, input: &[u8], what: &str) -> Result<Answer> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("run the client for {what}"))?;
    let mut pipe = child.stdin.take().context("open the client's input")?;
    let input = input.to_vec();
    // A command that reads less than it is sent is no error of ours.
    let writer = std::thread::spawn(move || pipe.write_all(&input).ok());
    let output = child.wait_with_output().with_context(|| format!("wait for {what}"))?;
    writer.join().ok();
    Ok(Answer {
        status: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// `ssh` at a pseudo-terminal of the host, as a person sees it.
pub struct Terminal {
    child: Child,
    master: OwnedFd,
    keyboard: fs::File,
    pub screen: Transcript,
}

impl Terminal {
    fn open(ssh: &Ssh, rows: u16, columns: u16) -> Result<Terminal> {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).context("open a pty")?;
        grantpt(&master).context("grant the pty")?;
        unlockpt(&master).context("unlock the pty")?;
        tcsetwinsize(&master, size(rows, columns)).context("size the pty")?;
        let name = ptsname(&master, Vec::new()).context("name the pty")?;
        let slave = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc_noctty())
            .open(name.to_str().context("name the pty")?)
            .context("open the pty's far side")?;
        let share = || slave.try_clone().context("share the pty");
        let mut command = Command::new("ssh");
        command.args(ssh.shared()).args([
            "-t",
            "-p",
            &ssh.port.to_string(),
            &format!("{}@127.0.0.1", ssh.user),
        ]);
        command.env("TERM", "xterm-256color").env_remove("SSH_AUTH_SOCK");
        let child = command.stdin(share()?).stdout(share()?).stderr(share()?).spawn().context("run ssh")?;
        let reader = fs::File::from(master.try_clone().context("share the pty")?);
        let keyboard = reader.try_clone().context("share the pty")?;
        Ok(Terminal { child, master, keyboard, screen: Transcript::follow(reader) })
    }

    pub fn type_line(&mut self, text: &str) -> Result<()> {
        self.send(format!("{text}\r").as_bytes())
    }

    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.keyboard.write_all(bytes).context("type at the terminal")
    }

    /// The window is pulled to another size.
    pub fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        tcsetwinsize(&self.master, size(rows, columns)).context("size the pty")?;
        // It is not the client's controlling terminal, so nobody else tells it.
        kill_process(self.pid()?, Signal::WINCH).context("tell ssh of its new size")
    }

    fn pid(&self) -> Result<Pid> {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("read ssh's process id")
    }

    /// Whether the client still runs.
    pub fn alive(&mut self) -> Result<bool> {
        Ok(self.child.try_wait().context("look at ssh")?.is_none())
    }

    /// The shell's exit status, once the client has ended.
    pub fn wait(mut self, patience: Duration) -> Result<i32> {
        // It ends when the last holder of the far side has gone.
        self.screen.wait_end(patience)?;
        let status = self.child.wait().context("wait for ssh")?;
        Ok(status.code().unwrap_or(-1))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

/// The tester keeps its own controlling terminal.
fn libc_noctty() -> i32 {
    i32::try_from(rustix::fs::OFlags::NOCTTY.bits()).unwrap_or(0)
}
