//! What the roles say to each other: JSON, one value in one SEQPACKET message, with descriptors where
//! the comment says so.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use host::sys::pass;
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Largest message. A command of Linux' longest argument (128 KiB) is 171 KiB in base64; more than
/// that no shell could be given.
pub const MAX_MESSAGE: usize = 192 << 10;
/// Longest command; MAX_ARG_STRLEN of the kernel, with its terminating NUL.
pub const MAX_COMMAND: usize = (128 << 10) - 1;

/// From the transport to its monitor.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ask {
    /// The host key's signature under an exchange hash. Answered by a `Signature`.
    Sign { key: Blob, sha: Sha, hash: Blob },
    /// Would this key or certificate, as a request holds it, open the door? Answered by a `Verdict`.
    Offer { user: String, algorithm: String, key: Blob },
    /// A request and the client's signature under it, which log in. Answered by a `Verdict`.
    Proof { signed: Blob, signature: Blob },
    /// Answered by a `Verdict`.
    Password { user: String, password: String },
    /// Answered by `Granted` or `Refused` of the same number.
    Request { number: u32, want: Want },
    /// To the process group of a program that was granted, by the name that SSH uses (`INT`).
    Signal { number: u32, signal: String },
    /// The client closed the channel of a program that is not granted yet: where that waits for something, it is not
    /// started any more, but refused.
    Withdraw { number: u32 },
    /// The client closed the channel of a program, or wants no more connections to a listener.
    Close { number: u32 },
}

/// What only the monitor can give.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Want {
    /// With a terminal, its master is granted; without, stdin, stdout and stderr.
    Program {
        program: Program,
        terminal: Option<Terminal>,
        environment: Vec<(String, String)>,
        /// The program is told of the connection's agent.
        agent: bool,
    },
    /// A socket that a [`Dialled`] comes from.
    Connect(Place),
    /// Sockets that listen there, one or two; of TCP, with the port.
    Listen(Place),
    /// A socket that listens for programs of this connection that want the client's agent.
    Agent,
}

/// Where a stream can go to or come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    Tcp { host: String, port: u16 },
    Unix(String),
}

/// From the monitor to its transport.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tell {
    /// First of all.
    Welcome {
        /// Public lines of OpenSSH.
        host_keys: Vec<String>,
        /// As OpenSSH has it, of one of the keys.
        certificate: Option<String>,
        /// Whether to offer passwords at all.
        passwords: bool,
        /// New keys after so many bytes in one direction, and after so many seconds.
        rekey: (u32, u32),
    },
    /// As it is sent: a name and a blob.
    Signature(Blob),
    Verdict {
        accepted: bool,
        /// Another password may be tried.
        passwords: bool,
        /// Terminals are given.
        terminals: bool,
    },
    /// With descriptors, as [`Want`] says. None of them blocks.
    Granted {
        number: u32,
        port: u16,
    },
    Refused {
        number: u32,
        why: Refusal,
    },
    /// A program ended; its output may still be read.
    Ended {
        number: u32,
        how: Ended,
    },
}

/// The hash of an RSA signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sha {
    /// The key is of another kind.
    None,
    Sha256,
    Sha512,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// Whoever logged in may not.
    Forbidden,
    /// It was tried; the monitor's log says more.
    Failed,
}

/// From the monitor to a dialler: where to.
#[derive(Serialize, Deserialize)]
pub struct Dial {
    pub host: String,
    pub port: u16,
}

/// From a dialler, or a copy of the monitor that connects to a Unix socket, to the transport: with the connected socket, or why there is none.
#[derive(Serialize, Deserialize)]
pub struct Dialled {
    pub error: Option<String>,
}

/// From a copy of the monitor, which makes a Unix socket to listen at.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Listened {
    /// With the socket. Of its file.
    At {
        device: u64,
        inode: u64,
    },
    Refused(String),
}

/// From the monitor to the listener that started it.
#[derive(Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "kebab-case")]
pub enum Report {
    /// Keys are exchanged: there is somebody who speaks SSH.
    Talks,
    /// A password is about to be tried. Answered by a `Wait`.
    Attempt,
    /// It is about to be compared with a hash. Answered by a `Wait` when no other one is; ended by what becomes of it.
    Hash,
    Failed,
    /// Logged in: no longer counts as waiting.
    Entered,
}

/// How long the monitor waits from now on before it tries a password.
#[derive(Serialize, Deserialize)]
pub struct Wait {
    pub milliseconds: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Program {
    Shell,
    Exec(Blob),
    Subsystem(String),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Terminal {
    pub name: String,
    pub size: Size,
    /// Opcodes of RFC 4254, section 8.
    pub modes: Vec<(u8, u32)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Size {
    pub columns: u16,
    pub rows: u16,
    pub width: u16,
    pub height: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    Status(i32),
    Signal(i32),
}

/// Bytes that need not be UTF-8, as base64.
#[derive(Clone, Debug, PartialEq)]
pub struct Blob(pub Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Blob, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Blob).map_err(D::Error::custom)
    }
}

pub fn send<T: Serialize>(socket: impl AsFd, message: &T, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > MAX_MESSAGE {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "message is too long"));
    }
    pass::send(socket, &bytes, descriptors)
}

thread_local! {
    /// Room for the largest message. One for all, since most messages have a hundred bytes: a new one for each would
    /// be zeroed, or its pages made by the kernel, each time.
    static ROOM: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// `None` at the end of the peer.
pub fn receive<T: DeserializeOwned>(socket: impl AsFd) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    ROOM.with_borrow_mut(|room| {
        if room.is_empty() {
            // From the kernel, which makes the pages as they are used.
            *room = vec![0; MAX_MESSAGE];
        }
        let (length, descriptors) = match pass::receive(socket, room) {
            // The peer died with a message of ours unread.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            received => received?,
        };
        if length == 0 {
            return Ok(None);
        }
        Ok(Some((serde_json::from_slice(&room[..length])?, descriptors)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_command_fits_into_a_message() {
        let (near, far) = pass::pair().unwrap();
        let command = Blob(vec![0xff; MAX_COMMAND]);
        let want = Want::Program {
            program: Program::Exec(command.clone()),
            terminal: None,
            environment: vec![],
            agent: false,
        };
        send(&near, &Ask::Request { number: 1, want: want.clone() }, &[]).unwrap();
        match receive::<Ask>(&far).unwrap() {
            Some((Ask::Request { number: 1, want: got }, _)) => assert!(got == want),
            _ => panic!("another message"),
        }
        drop(near);
        assert!(receive::<Ask>(&far).unwrap().is_none());
    }
}
