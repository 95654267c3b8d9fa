//! Everything that a test may want different, in one place. In the image all of it is the default.

use anyhow::{Context, Result, bail};
use contract::paths;
use host::{Root, shell};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where the machine begins: every path that is read or written is below it, except those of
    /// the programs that a session runs.
    pub prefix: PathBuf,
    /// 0 for any that is free.
    pub port: u16,
    /// How long a connection may take until somebody is logged in.
    pub grace: Duration,
    /// Most connections at once that have not logged in.
    pub waiting: usize,
    /// Most of them from one address.
    pub waiting_per_address: usize,
    /// New keys after so many bytes in one direction, and after so many seconds.
    pub rekey: (u32, u32),
    /// How long a session waits for the layers that its program is in.
    pub patience: Duration,
    /// What the layers are laid on.
    pub usr: PathBuf,
    pub bash: PathBuf,
    pub busybox: PathBuf,
    pub sftp_server: PathBuf,
    pub curl: PathBuf,
    /// Asked instead of each cloud's own metadata service, where not empty.
    pub metadata: String,
    /// Where Ironic finds the agent; 0 for any that is free.
    pub agent_port: u16,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            prefix: PathBuf::from("/"),
            port: 22,
            // OpenSSH's.
            grace: Duration::from_secs(120),
            // Two processes each, about 2 MiB together.
            waiting: 100,
            waiting_per_address: 32,
            // RFC 4253, section 9.
            rekey: (1 << 30, 3600),
            patience: Duration::from_secs(15),
            usr: PathBuf::from("/usr"),
            bash: PathBuf::from(shell::BASH),
            busybox: PathBuf::from(shell::BUSYBOX),
            sftp_server: PathBuf::from("/usr/lib/openssh/sftp-server"),
            curl: PathBuf::from("/usr/bin/curl"),
            metadata: String::new(),
            // ironic-python-agent's.
            agent_port: 9999,
        }
    }
}

impl Settings {
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Settings> {
        let mut settings = Settings::default();
        let mut arguments = arguments.into_iter();
        while let Some(name) = arguments.next() {
            let value = arguments.next().with_context(|| format!("{name} needs a value"))?;
            let number = || value.parse::<u32>().with_context(|| format!("{name} {value}: not a number"));
            match name.as_str() {
                "--prefix" => settings.prefix = PathBuf::from(value),
                "--port" => settings.port = value.parse().with_context(|| format!("--port {value}"))?,
                "--grace" => settings.grace = Duration::from_secs(number()?.into()),
                "--waiting" => settings.waiting = number()? as usize,
                "--waiting-per-address" => settings.waiting_per_address = number()? as usize,
                "--rekey-bytes" => settings.rekey.0 = number()?.clamp(1, 1 << 30),
                "--rekey-seconds" => settings.rekey.1 = number()?.max(1),
                "--patience" => settings.patience = Duration::from_secs(number()?.into()),
                "--usr" => settings.usr = PathBuf::from(value),
                "--bash" => settings.bash = PathBuf::from(value),
                "--busybox" => settings.busybox = PathBuf::from(value),
                "--sftp-server" => settings.sftp_server = PathBuf::from(value),
                "--curl" => settings.curl = PathBuf::from(value),
                "--metadata" => settings.metadata = value,
                "--agent-port" => {
                    settings.agent_port = value.parse().with_context(|| format!("--agent-port {value}"))?;
                }
                _ => bail!("unknown argument {name:?}"),
            }
        }
        Ok(settings)
    }

    /// The command line of another role of this program.
    pub fn role(&self, program: &Path, role: &str) -> Vec<OsString> {
        let words = [program.into(), OsString::from(role)];
        words.into_iter().chain(self.arguments().into_iter().map(OsString::from)).collect()
    }

    /// The same, for the command line of the next role.
    pub fn arguments(&self) -> Vec<String> {
        [
            ("--prefix", self.prefix.to_string_lossy().into_owned()),
            ("--port", self.port.to_string()),
            ("--grace", self.grace.as_secs().to_string()),
            ("--waiting", self.waiting.to_string()),
            ("--waiting-per-address", self.waiting_per_address.to_string()),
            ("--rekey-bytes", self.rekey.0.to_string()),
            ("--rekey-seconds", self.rekey.1.to_string()),
            ("--patience", self.patience.as_secs().to_string()),
            ("--usr", self.usr.to_string_lossy().into_owned()),
            ("--bash", self.bash.to_string_lossy().into_owned()),
            ("--busybox", self.busybox.to_string_lossy().into_owned()),
            ("--sftp-server", self.sftp_server.to_string_lossy().into_owned()),
            ("--curl", self.curl.to_string_lossy().into_owned()),
            ("--metadata", self.metadata.clone()),
            ("--agent-port", self.agent_port.to_string()),
        ]
        .into_iter()
        .flat_map(|(name, value)| [name.to_string(), value])
        .collect()
    }

    pub fn root(&self) -> Result<Root> {
        let root = if self.prefix == Path::new("/") { Root::live() } else { Root::at(&self.prefix) };
        root.with_context(|| format!("open {}", self.prefix.display()))
    }

    /// Where a file of the machine is, for writing.
    pub fn path(&self, path: &str) -> PathBuf {
        self.prefix.join(path.trim_start_matches('/'))
    }

    pub fn state_file(&self) -> PathBuf {
        self.path(&paths::state("sshd"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_survive_the_way_to_the_next_role() {
        let given =
            ["--prefix", "/tmp/x", "--port", "2222", "--grace", "7", "--bash", "/x", "--busybox", "/y"];
        let settings = Settings::parse(given.map(String::from)).unwrap();
        assert_eq!(Settings::parse(settings.arguments()).unwrap(), settings);
        assert_eq!(settings.path("/run/lifeboat"), Path::new("/tmp/x/run/lifeboat"));
    }

    #[test]
    fn a_wrong_argument_is_named() {
        let error = Settings::parse(["--prot", "1"].map(String::from)).unwrap_err();
        assert_eq!(error.to_string(), "unknown argument \"--prot\"");
    }
}
