//! What a stranger can send before anybody logged in, at the server as it runs, but in one thread and in memory: the real
//! session of russh, the real door, a monitor that knows one user's key and lets nobody in. For the fuzzer and a test.
//!
//! An input is a state and what follows it. A client that cooperates has brought the connection that far; the cipher
//! is `none`, which the image does not offer, so that what follows the key exchange is read as it stands.

use super::config;
use super::control::Control;
use super::door::{Door, Failure};
use super::stream;
use crate::wire::{self, Ask, Blob, Tell};
use host::sys::pass;
use russh::{cipher, mac};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};

/// Any key: the client does not look at the signature.
pub const HOST_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHmDG8O1bWYxNZGdJOEEVLrFJbSCn3bQdQ1QwWh6MTpn";
/// A server that was sent all there is ends; one that does not is stuck.
const PATIENCE: Duration = Duration::from_secs(20);
const ROOM: usize = 1 << 20;
/// Of an input's first byte.
const STATES: u8 = 5;

/// Gives what the server sent.
pub fn serve(input: &[u8]) -> Vec<u8> {
    let (state, rest) = input.split_first().map_or((0, input), |(state, rest)| (state % STATES, rest));
    let sent = [prefix(state), if state == 0 { rest.to_vec() } else { packets(rest) }].concat();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let answered = runtime.block_on(async { tokio::time::timeout(PATIENCE, connection(&sent)).await });
    answered.expect("the server is stuck")
}

/// What the client says until the state: nothing, the banner, and its part of the key exchange step by step.
fn prefix(state: u8) -> Vec<u8> {
    let mut kexinit = vec![20];
    kexinit.extend([0; 16]);
    for list in ["curve25519-sha256", "ssh-ed25519", "none", "none", "none", "none", "none", "none", "", ""] {
        kexinit.extend(string(list.as_bytes()));
    }
    kexinit.extend([0; 5]);
    let mut point = [0; 32];
    point[0] = 9;
    let steps = [
        b"SSH-2.0-client\r\n".to_vec(),
        frame(&kexinit),
        [frame(&[&[30][..], &string(&point)].concat()), frame(&[21])].concat(),
        frame(&[&[5][..], &string(b"ssh-userauth")].concat()),
    ];
    steps[..usize::from(state).min(steps.len())].concat()
}

/// Pieces, each with a byte and two of length: a packet, or with the byte's highest bit, bytes as they are.
fn packets(mut rest: &[u8]) -> Vec<u8> {
    let mut sent = Vec::new();
    while let [kind, high, low, more @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(more.len());
        let (piece, more) = more.split_at(length);
        if kind & 0x80 == 0 {
            sent.extend(frame(piece))
        } else {
            sent.extend_from_slice(piece)
        }
        rest = more;
    }
    sent
}

/// RFC 4253, section 6, without encryption.
fn frame(payload: &[u8]) -> Vec<u8> {
    let padding = 4 + (8 - (payload.len() + 9) % 8) % 8;
    let length = (1 + payload.len() + padding) as u32;
    [&length.to_be_bytes()[..], &[padding as u8], payload, &vec![0; padding]].concat()
}

pub fn string(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes()[..], bytes].concat()
}

/// A piece of an input that is a packet.
pub fn packet(payload: &[u8]) -> Vec<u8> {
    [&[0][..], &(payload.len() as u16).to_be_bytes(), payload].concat()
}

async fn connection(sent: &[u8]) -> Vec<u8> {
    let (near, far) = pass::pair().expect("a socketpair");
    let control = Arc::new(Control::new(near).expect("a control socket"));
    let mut config = config(&[HOST_KEY.to_string()], None, true, (1 << 30, 3600)).expect("a host key");
    config.preferred.cipher = Cow::Borrowed(&[cipher::NONE]);
    config.preferred.mac = Cow::Borrowed(&[mac::NONE]);
    let (client, server) = tokio::io::duplex(ROOM);
    let (mut reader, mut writer) = tokio::io::split(client);
    let mut answered = Vec::new();
    let session = async {
        let stream = BufReader::with_capacity(super::READ_AHEAD, server);
        let running = russh::server::run_stream(Arc::new(config), stream, Door::new(control.clone())).await?;
        running.await
    };
    let person = async {
        // The server may have hung up.
        let _ = writer.write_all(sent).await;
        let _ = writer.shutdown().await;
    };
    let both = async {
        let reading = reader.read_to_end(&mut answered);
        let (ended, (), _) = tokio::join!(session, person, reading);
        ended
    };
    let ended: Result<(), Failure> = tokio::select! {
        ended = both => ended,
        result = control.listen() => result.map_err(Failure::Monitor),
        () = monitor(far) => Ok(()),
    };
    match ended {
        // The session is a task of its own, whose panic is an error out here.
        Err(Failure::Ssh(russh::Error::Join(_))) => panic!("the session panicked"),
        // Whatever a stranger did wrong.
        Ok(()) | Err(Failure::Ssh(_)) => answered,
        Err(Failure::Monitor(error)) => panic!("the monitor is asked in vain: {error:#}"),
    }
}

/// Ends with the transport.
async fn monitor(socket: std::os::fd::OwnedFd) {
    rustix::io::ioctl_fionbio(&socket, true).expect("a socket");
    let socket = stream::watch(socket).expect("a socket");
    loop {
        let mut ready = socket.readable().await.expect("a socket");
        let Ok(received) = ready.try_io(wire::receive::<Ask>) else { continue };
        let Ok(Some((ask, _))) = received else { return };
        let tell = match ask {
            Ask::Sign { hash, .. } => {
                assert!(matches!(hash.0.len(), 32 | 48 | 64), "a signature is asked for of what is no hash");
                Tell::Signature(Blob([string(b"ssh-ed25519"), string(&[0; 64])].concat()))
            }
            Ask::Offer { user, .. } => {
                Tell::Verdict { accepted: user == "root", passwords: true, terminals: true }
            }
            Ask::Proof { .. } | Ask::Password { .. } => {
                Tell::Verdict { accepted: false, passwords: true, terminals: true }
            }
            _ => panic!("the transport acts before anybody logged in"),
        };
        wire::send(&socket, &tell, &[]).expect("an answer");
    }
}

/// RFC 4252, section 5.
fn request(rest: &[&[u8]]) -> Vec<u8> {
    let head = [&[50][..], &string(b"root"), &string(b"ssh-connection")].concat();
    packet(&[&head[..], &rest.concat()].concat())
}

/// Section 7: may a key of this algorithm sign?
fn offer(algorithm: &[u8], key: &[u8]) -> Vec<u8> {
    request(&[&string(b"publickey"), &[0], &string(algorithm), &string(key)])
}

/// Inputs to begin with: one for each state, and each method of logging in.
pub fn seeds() -> Vec<Vec<u8>> {
    let key = [string(b"ssh-ed25519"), string(&[9; 32])].concat();
    let signature = string(&[string(b"ssh-ed25519"), string(&[0; 64])].concat());
    let proof: &[&[u8]] = &[&string(b"publickey"), &[1], &string(b"ssh-ed25519"), &string(&key), &signature];
    let mut kexinit = vec![20];
    kexinit.extend([0; 16]);
    for list in [
        "mlkem768x25519-sha256,curve25519-sha256,ext-info-c,kex-strict-c-v00@openssh.com",
        "ssh-ed25519-cert-v01@openssh.com,ssh-ed25519,rsa-sha2-512",
        "chacha20-poly1305@openssh.com,none",
        "none",
        "hmac-sha2-256-etm@openssh.com,none",
        "none",
        "none,zlib@openssh.com",
        "none",
        "",
        "",
    ] {
        kexinit.extend(string(list.as_bytes()));
    }
    kexinit.extend([0; 5]);
    vec![
        b"\0SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n".to_vec(),
        b"\0SSH-1.99-x\nSSH-2.0-y\r\n".to_vec(),
        [&[1][..], &packet(&kexinit)].concat(),
        [&[2][..], &packet(&[&[30][..], &string(&[9; 32])].concat()), &packet(&[21])].concat(),
        [&[3][..], &packet(&[&[5][..], &string(b"ssh-userauth")].concat())].concat(),
        [&[4][..], &request(&[&string(b"none")])].concat(),
        [&[4][..], &request(&[&string(b"password"), &[0], &string(b"wrong")])].concat(),
        [&[4][..], &request(&[&string(b"keyboard-interactive"), &string(b""), &string(b"")])].concat(),
        [&[4][..], &offer(b"ssh-ed25519", &key), &request(proof)].concat(),
        // Other messages that are allowed at any time, or none before login.
        [&[4][..], &packet(&[2]), &packet(&[&[80][..], &string(b"x"), &[1]].concat()), &packet(&[90])]
            .concat(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(answer: &[u8], part: &[u8]) -> bool {
        answer.windows(part.len()).any(|window| window == part)
    }

    #[test]
    fn a_key_that_nobody_can_read_is_refused_and_the_next_one_is_heard() {
        let key = |name: &[u8], rest: &[u8]| [string(name), rest.to_vec()].concat();
        let good = key(b"ssh-ed25519", &string(&[9; 32]));
        let cases: &[(&[u8], Vec<u8>)] = &[
            (b"ssh-ed448", key(b"ssh-ed448", &string(&[7; 57]))),
            (b"x509v3-ssh-rsa", key(b"x509v3-ssh-rsa", &string(b"a certificate"))),
            (b"thing@example.com", key(b"thing@example.com", b"")),
            (b"ssh-ed25519-cert-v01@openssh.com", key(b"ssh-ed25519-cert-v01@openssh.com", b"cut")),
            (b"ssh-dss", key(b"ssh-dss", b"")),
            (b"ssh-ed25519", key(b"ssh-ed25519", &string(&[9; 31]))),
            (b"ssh-ed25519", Vec::new()),
        ];
        for (algorithm, unknown) in cases {
            let answer =
                serve(&[&[4][..], &offer(algorithm, unknown), &offer(b"ssh-ed25519", &good)].concat());
            let name = String::from_utf8_lossy(algorithm);
            assert!(has(&answer, &[&[51][..], &string(b"publickey,password")].concat()), "{name} is refused");
            assert!(
                has(&answer, &[&[60][..], &string(b"ssh-ed25519")].concat()),
                "{name} ends the connection"
            );
        }
    }

    #[test]
    fn the_fuzzer_s_client_reaches_every_state_before_a_login() {
        let answers: Vec<Vec<u8>> = seeds().iter().map(|seed| serve(seed)).collect();
        assert!(answers.iter().all(|answer| answer.starts_with(b"SSH-2.0-OpenSSH_9.9 Lifeboat\r\n")));
        // After its banner the server's list; then its part of the exchange; then the service.
        assert!(has(&answers[2], b"mlkem768x25519-sha256"));
        assert!(has(&answers[3], &string(b"ssh-ed25519")), "a host key in the exchange");
        assert!(has(&answers[4], &[&[6][..], &string(b"ssh-userauth")].concat()), "the service is accepted");
        let refused = [&[51][..], &string(b"publickey,password")].concat();
        for (number, method) in [(5, "none"), (6, "password"), (8, "a wrong signature")] {
            assert!(has(&answers[number], &refused), "{method} is refused");
        }
        assert!(has(&answers[8], &[&[60][..], &string(b"ssh-ed25519")].concat()), "a known key may sign");
    }
}
