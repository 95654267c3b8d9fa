//! The transport of one connection: SSH itself, by russh, without privileges. All it can do is to ask
//! its monitor, and to move bytes between the connection and the descriptors that it is passed
//! (sandbox.rs).

mod channel;
mod control;
mod door;
mod forward;
#[cfg(any(test, feature = "fuzz"))]
pub mod hostile;
mod prompt;
mod sandbox;
mod stream;

use crate::wire::Tell;
use anyhow::{Context, Result, bail};
use control::Control;
use door::{Door, Failure};
use host::sys::inherited;
use prompt::Prompt;
use russh::keys::ssh_key::private::{Ed25519Keypair, Ed25519PrivateKey, RsaKeypair, RsaPrivateKey};
use russh::keys::ssh_key::public::KeyData;
use russh::keys::ssh_key::{Algorithm, EcdsaCurve, HashAlg, Mpint, PublicKey};
use russh::keys::{Certificate, PrivateKey};
use russh::server::Config;
use russh::{Limits, MethodKind, MethodSet, Preferred, SshId, cipher, compression, kex, mac};
use std::borrow::Cow;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::BufReader;

/// Rejected offers and attempts of one connection. An agent holds many keys, and each that is not
/// ours counts as one; passwords have a count of their own in the monitor.
const MAX_ATTEMPTS: usize = 40;
/// RFC 4253, section 4.2: clients tell by it what they may use and have to get around. OpenSSH's own says when nobody
/// hears a program any more (`ssh host 'cat /dev/sda' | head -c 512` hangs without) to none but `OpenSSH*`; WinSCP and
/// libssh give a link's two names in the order of OpenSSH's sftp-server, which is ours, by this number. 9.9 is the first
/// with our key exchange; some take 10 for 1.
const IDENTIFICATION: &str = "SSH-2.0-OpenSSH_9.9 Lifeboat";
/// Between two signs of life. Boxes that translate addresses forget a line after five minutes or more.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// One system call then fetches several packets.
const READ_AHEAD: usize = 128 << 10;

/// Post-quantum first; no NIST curves. Every client of old that we promise knows `curve25519-sha256` under one of its two
/// names (paramiko the second alone); the group is for one that may not use it, as OpenSSH in FIPS mode.
const KEX: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::DH_G16_SHA512,
    kex::EXTENSION_SUPPORT_AS_SERVER,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
];
/// The order of OpenSSH.
const CIPHERS: &[cipher::Name] = &[
    cipher::CHACHA20_POLY1305,
    cipher::AES_128_GCM,
    cipher::AES_256_GCM,
    cipher::AES_128_CTR,
    cipher::AES_192_CTR,
    cipher::AES_256_CTR,
];
/// Encrypt-then-MAC.
const MACS: &[mac::Name] = &[mac::HMAC_SHA256_ETM, mac::HMAC_SHA512_ETM];
/// For [`without_etm`]. ssh-audit warns of plain HMAC, so that nobody else is offered it.
const PLAIN_MACS: &[mac::Name] =
    &[mac::HMAC_SHA256_ETM, mac::HMAC_SHA512_ETM, mac::HMAC_SHA256, mac::HMAC_SHA512];
/// Only what begins after login: before, a stranger's bytes reach no decompressor.
const COMPRESSION: &[compression::Name] = &[compression::NONE, compression::ZLIB_LEGACY];
/// Of host keys, and what is told to clients as server-sig-algs. No RSA with SHA-1.
const KEYS: &[Algorithm] = &[
    Algorithm::Ed25519,
    Algorithm::SkEd25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
    Algorithm::SkEcdsaSha2NistP256,
    Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
    Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
];

pub fn run() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .context("start the runtime")?;
    // What channels read and the session seals, a few of each.
    host::sys::memory::keep_buffers(1 << 20);
    sandbox::enter()?;
    runtime.block_on(serve())
}

async fn serve() -> Result<()> {
    let control = Control::new(inherited(1).try_clone_to_owned().context("control socket")?)?;
    let config = match control.receive().await? {
        Some((Tell::Welcome { host_keys, certificate, passwords, rekey }, _)) => {
            config(&host_keys, certificate.as_deref(), passwords, rekey)?
        }
        Some(_) => bail!("the monitor did not say welcome first"),
        // Dropped to make room before it could.
        None => return Ok(()),
    };
    let connection = TcpStream::from(inherited(0).try_clone_to_owned().context("connection")?);
    connection.set_nonblocking(true).context("set non-blocking")?;
    let stream =
        BufReader::with_capacity(READ_AHEAD, Prompt::new(tokio::net::TcpStream::from_std(connection)?));
    let control = Arc::new(control);
    let door = Door::new(control.clone());
    let session = async {
        let running = russh::server::run_stream(Arc::new(config), stream, door).await?;
        running.await
    };
    tokio::select! {
        result = session => match result {
            // How most connections end, ssh-keyscan's and a probe's included.
            Ok(()) | Err(Failure::Ssh(russh::Error::Disconnect | russh::Error::HUP | russh::Error::IO(_))) => Ok(()),
            Err(Failure::Ssh(error)) => Err(error.into()),
            Err(Failure::Monitor(error)) => Err(error),
        },
        // Without its monitor the session has no authority behind it.
        result = control.listen() => result,
    }
}

fn config(
    host_keys: &[String],
    certificate: Option<&str>,
    passwords: bool,
    (bytes, seconds): (u32, u32),
) -> Result<Config> {
    let keys = host_keys.iter().map(|line| public_only(line)).collect::<Result<_>>()?;
    let certificates = certificate
        .map(|line| Certificate::from_openssh(line).context("host certificate"))
        .into_iter()
        .collect::<Result<_>>()?;
    let methods: &[MethodKind] =
        if passwords { &[MethodKind::PublicKey, MethodKind::Password] } else { &[MethodKind::PublicKey] };
    Ok(Config {
        server_id: SshId::Standard(Cow::Borrowed(IDENTIFICATION)),
        methods: MethodSet::from(methods),
        // The monitor slows down what is worth slowing down; a key that is not known tells nothing.
        auth_rejection_time: Duration::ZERO,
        auth_rejection_time_initial: Some(Duration::ZERO),
        max_auth_attempts: MAX_ATTEMPTS,
        keys,
        certificates,
        // Somebody may watch a disk being copied for a day.
        inactivity_timeout: None,
        // So that no box in between forgets a line that is idle. Never a reason to end it: that is
        // TCP's, which gives up on a peer that does not answer.
        keepalive_interval: Some(KEEPALIVE),
        keepalive_max: 0,
        limits: Limits::new(bytes as usize, bytes as usize, Duration::from_secs(seconds.into())),
        preferred: algorithms(MACS),
        ..Config::default()
    })
}

fn algorithms(macs: &'static [mac::Name]) -> Preferred {
    Preferred {
        kex: Cow::Borrowed(KEX),
        key: Cow::Borrowed(KEYS),
        cipher: Cow::Borrowed(CIPHERS),
        mac: Cow::Borrowed(macs),
        compression: Cow::Borrowed(COMPRESSION),
        ..Preferred::DEFAULT
    }
}

/// Clients that have no cipher with a MAC of its own, and no encrypt-then-MAC: libssh2 before 1.11, Twisted's Conch, and
/// dropbear where it was built or told to do without ChaCha20. What they say of themselves is part of what the host key
/// signs, so nobody in between can say it for another.
fn without_etm(client: &[u8]) -> bool {
    ["libssh2_", "dropbear", "Twisted"].iter().any(|name| {
        client.strip_prefix(b"SSH-2.0-").is_some_and(|software| software.starts_with(name.as_bytes()))
    })
}

/// A host key whose private part stays with the monitor, which signs: russh wants one, and never uses
/// it then (`Door::sign_exchange_hash`).
fn public_only(line: &str) -> Result<PrivateKey> {
    let public = PublicKey::from_openssh(line).context("host key")?;
    let keypair = match public.key_data() {
        KeyData::Ed25519(key) => {
            let private = Ed25519PrivateKey::from_bytes(&[0; Ed25519PrivateKey::BYTE_SIZE]);
            Ed25519Keypair { public: *key, private }.into()
        }
        KeyData::Rsa(key) => {
            let one = || Mpint::from_positive_bytes(&[1]);
            let private = RsaPrivateKey::new(one(), one(), one(), one()).context("host key")?;
            RsaKeypair::new(key.clone(), private).context("host key")?.into()
        }
        _ => bail!("a host key of another kind"),
    };
    PrivateKey::new(keypair, "").context("host key")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(passwords: bool) -> Config {
        config(&[hostile::HOST_KEY.to_string()], None, passwords, (1 << 20, 60)).unwrap()
    }

    #[test]
    fn nobody_is_cut_off_for_being_idle_and_no_box_in_between_forgets_the_line() {
        let config = of(false);
        assert_eq!(config.inactivity_timeout, None);
        let interval = config.keepalive_interval.expect("signs of life");
        // RFC 5382, REQ-5 grants an idle connection two hours; what is sold forgets it after five minutes.
        assert!((1..300).contains(&interval.as_secs()), "{interval:?}");
        assert_eq!(config.keepalive_max, 0, "in russh: none that stays unanswered ends the connection");
    }

    #[test]
    fn a_key_that_is_rejected_costs_no_time_and_an_agent_may_offer_all_it_has() {
        let config = of(false);
        assert_eq!(config.auth_rejection_time, Duration::ZERO);
        assert_eq!(config.auth_rejection_time_initial, Some(Duration::ZERO));
        assert!(config.max_auth_attempts >= 30, "{}", config.max_auth_attempts);
    }

    #[test]
    fn only_what_may_open_the_door_is_offered_and_new_keys_come_as_was_said() {
        assert_eq!(of(false).methods, MethodSet::from(&[MethodKind::PublicKey][..]));
        assert_eq!(of(true).methods, MethodSet::from(&[MethodKind::PublicKey, MethodKind::Password][..]));
        let limits = of(false).limits;
        assert_eq!((limits.rekey_write_limit, limits.rekey_read_limit), (1 << 20, 1 << 20));
        assert_eq!(limits.rekey_time_limit, Duration::from_secs(60));
    }
}
