//! State files: each service owns `/run/lifeboat/state/NAME.json`, mode 0600, replaced by rename.
//! Whoever cares watches the directory. No file holds a secret.

use serde::{Deserialize, Serialize};

/// `init.json`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Init {
    pub version: String,
    /// Seconds since the kernel's start at which PID 1 ran.
    pub started: f64,
    pub services: Vec<Service>,
    /// One line each: failed boot steps, unknown parameters, a line that was cut.
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Service {
    pub name: String,
    /// `running`, `backoff`, `done`, `failed`, `stopped`.
    pub state: String,
    pub pid: Option<i32>,
    pub restarts: u32,
    /// How it ended last, such as `exit status 2` or `signal 9`.
    pub last_exit: Option<String>,
}

/// `sshd.json`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sshd {
    pub port: u16,
    pub listening: bool,
    /// `ssh-ed25519 AAAA...`, the two fields that known_hosts takes after the names.
    pub host_key: String,
    /// `SHA256:...`
    pub fingerprint: String,
    /// `lifeboat-SERIAL`, for `HostKeyAlias=`.
    pub alias: String,
    /// Where the host key is from: `fresh`, `injected`, or `installed` (the system on the disks).
    pub origin: String,
    /// The installed system whose keys are served, in words; empty without.
    pub system: String,
    /// What is waited for before anybody can log in, in words; empty afterwards.
    pub waits: String,
    /// Other keys that are offered, as `host_key`: RSA, some seconds after the start.
    pub more_host_keys: Vec<String>,
    /// The host certificate that is offered, in words; empty without.
    pub certificate: String,
    /// What DNS holds of the host keys (RFC 4255), without the name: `IN SSHFP 4 2 ...`.
    pub sshfp: Vec<String>,
    /// The known_hosts line of the alias as a QR code, in half blocks, light on dark; some seconds after the start.
    /// The key alone where the alias is so long that the code would leave a screen.
    pub qr: String,
    /// What was accepted as a way in, one line each: `key SHA256:... (me) from the command line`.
    pub keys: Vec<String>,
    /// A one-time password stands on the consoles ([`crate::paths::PASSWORD`]).
    pub password: bool,
    /// What was refused and why: `ssh_key= on the command line is empty`.
    pub problems: Vec<String>,
}

/// `netd.json`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Netd {
    pub hostname: String,
    pub links: Vec<Link>,
    pub nameservers: Vec<String>,
    /// What the settings are from where they were found without a person, in words; empty where they are not.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub origin: String,
    pub clock: Clock,
    pub problems: Vec<String>,
}

/// The machine's clock, as whoever judges a certificate by it has to know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Clock {
    /// A time server has answered, or is not waited for any more.
    pub settled: bool,
    /// What the time is by, in words: `the time server 192.0.2.1`.
    pub by: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Link {
    pub name: String,
    /// The names that systemd would give: `enp3s0`.
    pub names: Vec<String>,
    /// `vlan`, `bond`, `bridge`; empty for a card.
    pub kind: String,
    pub mac: String,
    pub driver: String,
    pub carrier: bool,
    /// The NIC named by `BOOTIF=` or `bootdev=`.
    pub booted_from: bool,
    /// `off`, `no carrier`, `asking`, `bound`, `renewing`, `rebinding`, `no answer`; `configured` by what was stated or by routers;
    /// `port` of a bond or bridge.
    pub state: String,
    /// What asked for its configuration: `ip=eth0:dhcp`.
    pub asked: Vec<String>,
    pub addresses: Vec<Address>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Address {
    /// Without the prefix length: `10.0.2.15`.
    pub address: String,
    pub prefix: u8,
    pub gateway: Option<String>,
    /// Seconds, as the server gave them; `None` for ever.
    pub lease: Option<u32>,
    pub server: Option<String>,
}

/// `devd.json`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Devd {
    /// The devices present at power-on were handled.
    pub settled: bool,
    /// The guard is off (`rescue.writable`).
    pub writable: bool,
    pub disks: Vec<Disk>,
    /// Module and firmware trouble: `bnx2: firmware bnx2/x.fw is not here`.
    pub problems: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Disk {
    pub name: String,
    pub diskseq: u64,
    /// `guarded`, `writable`, `hung`.
    pub guard: String,
    /// Why, for a person: `BLKROSET did not return within 10 s`.
    pub note: Option<String>,
}

/// `layers.json`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Layers {
    /// All are mounted, or named as missing. One that is missing may still come later.
    pub done: bool,
    pub layers: Vec<Layer>,
    /// What is being fetched.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub coming: Vec<Coming>,
}

impl Layers {
    pub fn mounted(&self) -> impl Iterator<Item = &Layer> {
        self.layers.iter().filter(|layer| layer.error.is_none())
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Coming {
    pub name: String,
    pub bytes: u64,
    /// Bytes that are there.
    pub got: u64,
    /// Where it comes from, for people.
    pub from: String,
    /// What the last attempt failed of; empty while all is well.
    pub trouble: String,
    /// The process that fetches it.
    pub by: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Layer {
    pub name: String,
    pub bytes: u64,
    /// `None` when mounted.
    pub error: Option<String>,
}
