//! sshd: the one door of Lifeboat, as one binary in several roles.
//!
//! - `listen` accepts connections, counts and limits those that have not logged in, and starts one
//!   monitor for each. It owns the identity and the one-time password of this boot. Killing it ends
//!   no session.
//! - `monitor`, one per connection and root, decides who may enter and starts programs. It never
//!   reads a byte that came over SSH except as a field of a typed message.
//! - `transport`, one per connection and nobody, speaks SSH. It has no authority but its socket to
//!   the monitor and the descriptors that the monitor passes it: programs' streams and terminals, and
//!   the sockets of forwarded streams.
//! - `dial`, one per forwarded TCP connection that is being made, and nobody, looks a name up and
//!   connects.
//! - `fetch`, one per URL of `ssh_key=`, and nobody, becomes curl; one per metadata service that was
//!   asked for; and one, root until it has them, that takes three files from a volume made for this machine.
//! - `ironic`, where Ironic booted this machine, and nobody, speaks with its API until that has set a password.
//! - `installed`, once and when asked for, looks for the host keys of the system on the disks.
//! - `password`, one per password that is typed at a console and can be compared with a hash alone, compares it.
//! - `rsa-key`, once, makes the RSA host key while the others work.
//!
//! What this split protects: a flaw in parsing or cryptography of the protocol yields a process
//! without privileges, that can neither let anybody in nor take the host key, for the monitor signs
//! with it, and verifies a client's signature over the session itself. What it does not: whoever
//! takes over a transport after somebody logged in there has that login; and before, can have any
//! hash signed by the host key for as long as the connection lasts, as with OpenSSH (docs/security.md says
//! what that lets him do).

mod access;
mod cloud;
mod console;
mod credentials;
mod dial;
mod entrance;
mod fetch;
#[doc(hidden)]
#[cfg(feature = "fuzz")]
pub mod hostile;
mod identity;
mod installed;
mod ironic;
mod keys;
mod layers;
mod limits;
mod listen;
mod metadata;
mod monitor;
mod options;
mod password;
mod places;
mod program;
mod proof;
mod qr;
mod settings;
mod signals;
mod transport;
mod volumes;
mod wire;

use anyhow::Context as _;
use settings::Settings;
use std::path::PathBuf;
use std::process::ExitCode;

/// Whom the roles without privileges run as: nobody, in Debian's words.
const NOBODY: u32 = 65_534;
/// Bytes that a pipe to or from a program holds, and the most that is read at once.
const PIPE: usize = 256 << 10;

/// The service, in the role that its first argument says.
pub fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let role = match arguments.first() {
        Some(first) if !first.starts_with('-') => arguments.remove(0),
        _ => "listen".to_string(),
    };
    let result = Settings::parse(arguments).and_then(|settings| match role.as_str() {
        "listen" => listen::run(&settings),
        "monitor" => monitor::run(&settings),
        "transport" => transport::run(),
        "dial" => dial::run(),
        "rsa-key" => identity::make_rsa(&settings),
        "fetch" => fetch::run(&settings),
        "installed" => installed::run(&settings),
        "ironic" => ironic::run(&settings),
        contract::password::ROLE => console::run(&settings),
        other => anyhow::bail!("unknown role {other:?}: the first is listen"),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            host::log!("{role}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What the other roles are started from: beside this file, since in the image this is one of several programs, and
/// only the name tells them apart.
fn program() -> anyhow::Result<PathBuf> {
    Ok(std::env::current_exe().context("find this program")?.with_file_name("sshd"))
}
