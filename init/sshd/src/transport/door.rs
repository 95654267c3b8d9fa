//! What a client asks for, as russh hands it over: each request becomes a question to the monitor, or
//! a refusal. X11 is refused (russh's default): there is no xauth and no display in a rescue.

use super::channel::{self, Running};
use super::control::Control;
use super::forward::Forwarding;
use crate::program;
use crate::wire::{Ask, Blob, MAX_COMMAND, Place, Program, Sha, Size, Terminal};
use anyhow::Context;
use russh::keys::Certificate;
use russh::keys::ssh_key::{Algorithm, HashAlg, PublicKey};
use russh::server::{
    Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Session, SignedRequest, VerifiedPublicKey,
};
use russh::{Channel, ChannelId, ChannelOpenFailure, Disconnect, MethodKind, MethodSet, Preferred, Pty, Sig};
use std::collections::HashMap;
use std::sync::Arc;

/// Channels at once; each takes a window's worth of memory at most.
const MAX_CHANNELS: usize = 100;
/// Longest name of a host or of a Unix socket; a host's has 253 characters, a socket's path 107.
const MAX_HOST: usize = 255;

pub struct Door {
    control: Arc<Control>,
    channels: HashMap<ChannelId, State>,
    forwarding: Forwarding,
    /// The client has lent its agent; `None` when it was not asked to.
    agent: Option<bool>,
    /// Whether terminals are given. The monitor sees to it; but a program without one is better than
    /// none.
    terminals: bool,
    /// What the client signed last, until it is decided upon.
    proof: Option<Ask>,
    /// The client has said that it will open no session any more.
    no_more_sessions: bool,
}

enum State {
    /// No program was asked for yet.
    Fresh(Box<Fresh>),
    Running(Running),
}

pub struct Fresh {
    pub channel: Channel<Msg>,
    pub terminal: Option<Terminal>,
    pub environment: Vec<(String, String)>,
    /// The client lends its agent to it.
    pub agent: bool,
}

impl Door {
    pub fn new(control: Arc<Control>) -> Door {
        let forwarding = Forwarding::new(control.clone());
        Door {
            control,
            channels: HashMap::new(),
            forwarding,
            agent: None,
            terminals: false,
            proof: None,
            no_more_sessions: false,
        }
    }

    async fn ask(&mut self, ask: &Ask) -> Result<Auth, Failure> {
        let verdict = self.control.verdict(ask).await?;
        if verdict.accepted {
            self.terminals = verdict.terminals;
            return Ok(Auth::Accept);
        }
        // russh would take a method that failed once off the list.
        let both = [MethodKind::PublicKey, MethodKind::Password];
        let methods = if verdict.passwords { &both[..] } else { &both[..1] };
        Ok(Auth::Reject { proceed_with_methods: Some(MethodSet::from(methods)), partial_success: false })
    }

    /// Sends what the client has just signed; the monitor reads everything else out of it.
    async fn prove(&mut self) -> Result<Auth, Failure> {
        match self.proof.take() {
            Some(proof) => self.ask(&proof).await,
            None => Ok(Auth::reject()),
        }
    }

    /// Starts a program on a channel that has none.
    fn start(&mut self, id: ChannelId, program: Program, session: &mut Session) -> Result<(), Failure> {
        match self.channels.remove(&id) {
            Some(State::Fresh(fresh)) => {
                let running = channel::start(*fresh, program, self.control.clone(), session.handle());
                self.channels.insert(id, State::Running(running));
                Ok(())
            }
            other => {
                other.map(|state| self.channels.insert(id, state));
                Ok(session.channel_failure(id)?)
            }
        }
    }

    fn fresh(&mut self, id: ChannelId) -> Option<&mut Fresh> {
        match self.channels.get_mut(&id) {
            Some(State::Fresh(fresh)) => Some(fresh),
            _ => None,
        }
    }
}

/// Ends the connection.
#[derive(Debug)]
pub enum Failure {
    Ssh(russh::Error),
    Monitor(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        Failure::Monitor(error)
    }
}

impl From<russh::Error> for Failure {
    fn from(error: russh::Error) -> Failure {
        Failure::Ssh(error)
    }
}

impl Handler for Door {
    type Error = Failure;

    fn preferred(&mut self, client: &[u8]) -> Option<Preferred> {
        super::without_etm(client).then(|| super::algorithms(super::PLAIN_MACS))
    }

    async fn auth_succeeded(&mut self, _session: &mut Session) -> Result<(), Failure> {
        Ok(super::sandbox::widen()?)
    }

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, Failure> {
        self.ask(&Ask::Password { user: user.to_string(), password: password.to_string() }).await
    }

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Failure> {
        // The same key may sign with SHA-1, which proves nothing any more.
        if matches!(offer.algorithm, Algorithm::Rsa { hash: None }) {
            return Ok(Auth::reject());
        }
        let (algorithm, key) = match offer.certificate {
            Some(certificate) => (certificate.algorithm().to_certificate_type(), certificate.to_bytes()),
            None => (offer.algorithm.to_string(), offer.public_key.to_bytes()),
        };
        let key = Blob(key.context("encode the client's key")?);
        self.ask(&Ask::Offer { user: user.to_string(), algorithm, key }).await
    }

    async fn auth_openssh_certificate_refused(
        &mut self,
        user: &str,
        certificate: &Certificate,
    ) -> Result<(), Failure> {
        // The monitor comes to the same verdict, and its log says why.
        let key = Blob(certificate.to_bytes().context("encode the client's certificate")?);
        let algorithm = certificate.algorithm().to_certificate_type();
        self.ask(&Ask::Offer { user: user.to_string(), algorithm, key }).await.map(drop)
    }

    async fn auth_signature(&mut self, request: SignedRequest<'_>) -> Result<(), Failure> {
        let signature = Vec::try_from(request.signature.clone()).context("encode a signature")?;
        self.proof = Some(Ask::Proof { signed: Blob(request.signed.to_vec()), signature: Blob(signature) });
        Ok(())
    }

    async fn auth_publickey(&mut self, _user: &str, _key: VerifiedPublicKey<'_>) -> Result<Auth, Failure> {
        self.prove().await
    }

    async fn auth_openssh_certificate(
        &mut self,
        _user: &str,
        _certificate: &Certificate,
    ) -> Result<Auth, Failure> {
        self.prove().await
    }

    async fn sign_exchange_hash(
        &mut self,
        key: &PublicKey,
        hash_alg: Option<HashAlg>,
        hash: &[u8],
    ) -> Result<Option<Vec<u8>>, Failure> {
        let sha = match hash_alg {
            None => Sha::None,
            Some(HashAlg::Sha256) => Sha::Sha256,
            Some(HashAlg::Sha512) => Sha::Sha512,
            Some(_) => return Err(anyhow::anyhow!("a hash that is not known").into()),
        };
        let key = key.to_bytes().context("encode a host key")?;
        Ok(Some(self.control.sign(key, sha, hash).await?))
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Failure> {
        if self.no_more_sessions {
            host::log!("transport: a session is asked for by a client that wanted no more: disconnected");
            reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
            session.disconnect(Disconnect::ProtocolError, "no more sessions were to be opened", "")?;
            return Ok(());
        }
        self.channels.retain(|_, state| !matches!(state, State::Running(running) if running.is_finished()));
        if self.channels.len() >= MAX_CHANNELS {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        let fresh = Fresh { channel, terminal: None, environment: Vec::new(), agent: false };
        self.channels.insert(fresh.channel.id(), State::Fresh(Box::new(fresh)));
        reply.accept().await;
        Ok(())
    }

    /// As OpenSSH's server does, so that whoever takes over a client that runs gets no shell of its own by it.
    async fn no_more_sessions(&mut self, _session: &mut Session) -> Result<bool, Failure> {
        self.no_more_sessions = true;
        Ok(true)
    }

    async fn pty_request(
        &mut self,
        id: ChannelId,
        term: &str,
        columns: u32,
        rows: u32,
        width: u32,
        height: u32,
        modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Failure> {
        let allowed = self.terminals;
        let Some(fresh) = self.fresh(id).filter(|_| allowed) else {
            return Ok(session.channel_failure(id)?);
        };
        fresh.terminal = Some(Terminal {
            name: term.to_string(),
            size: size(columns, rows, width, height),
            modes: modes.iter().map(|(code, value)| (*code as u8, *value)).collect(),
        });
        Ok(session.channel_success(id)?)
    }

    async fn env_request(
        &mut self,
        id: ChannelId,
        name: &str,
        value: &str,
        session: &mut Session,
    ) -> Result<(), Failure> {
        match self.fresh(id) {
            Some(fresh)
                if program::is_accepted(name)
                    && value.len() <= program::MAX_VALUE
                    && fresh.environment.len() < program::MAX_VARIABLES =>
            {
                fresh.environment.retain(|(known, _)| known != name);
                fresh.environment.push((name.to_string(), value.to_string()));
                Ok(session.channel_success(id)?)
            }
            _ => Ok(session.channel_failure(id)?),
        }
    }

    async fn shell_request(&mut self, id: ChannelId, session: &mut Session) -> Result<(), Failure> {
        self.start(id, Program::Shell, session)
    }

    async fn exec_request(
        &mut self,
        id: ChannelId,
        data: &[u8],
        session: &mut Session,
    ) -> Result<(), Failure> {
        if data.len() > MAX_COMMAND {
            return Ok(session.channel_failure(id)?);
        }
        self.start(id, Program::Exec(Blob(data.to_vec())), session)
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), Failure> {
        self.start(id, Program::Subsystem(name.chars().take(64).collect()), session)
    }

    async fn window_change_request(
        &mut self,
        id: ChannelId,
        columns: u32,
        rows: u32,
        width: u32,
        height: u32,
        _session: &mut Session,
    ) -> Result<(), Failure> {
        let size = size(columns, rows, width, height);
        match self.channels.get_mut(&id) {
            Some(State::Fresh(fresh)) => {
                if let Some(terminal) = &mut fresh.terminal {
                    terminal.size = size;
                }
            }
            Some(State::Running(running)) => running.resize(size),
            None => {}
        }
        Ok(())
    }

    async fn signal(&mut self, id: ChannelId, signal: Sig, _session: &mut Session) -> Result<(), Failure> {
        match self.channels.get(&id) {
            Some(State::Running(running)) => match running.number() {
                Some(number) => Ok(self.control.signal(number, name_of(signal)).await?),
                None => Ok(()),
            },
            Some(State::Fresh(_)) | None => Ok(()),
        }
    }

    /// On Linux a pseudo-terminal takes a break and does nothing with it; the answer is OpenSSH's.
    async fn break_request(
        &mut self,
        id: ChannelId,
        _length: u32,
        _session: &mut Session,
    ) -> Result<bool, Failure> {
        Ok(match self.channels.get(&id) {
            Some(State::Fresh(fresh)) => fresh.terminal.is_some(),
            Some(State::Running(running)) => running.on_terminal,
            None => false,
        })
    }

    async fn end_of_write(&mut self, id: ChannelId, _session: &mut Session) -> Result<(), Failure> {
        if let Some(State::Running(running)) = self.channels.get_mut(&id) {
            running.unheard();
        }
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _session: &mut Session) -> Result<(), Failure> {
        // Dropping it lets the channel's task know.
        self.channels.remove(&id);
        self.forwarding.closed(id);
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _originator: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Failure> {
        match tcp(host, port) {
            Some(place) => self.forwarding.connect(place, channel, reply),
            None => reply.reject(ChannelOpenFailure::ConnectFailed).await,
        }
        Ok(())
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        path: &str,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Failure> {
        self.forwarding.connect(Place::Unix(path.chars().take(MAX_HOST).collect()), channel, reply);
        Ok(())
    }

    async fn tcpip_forward(
        &mut self,
        host: &str,
        port: &mut u32,
        session: &mut Session,
    ) -> Result<bool, Failure> {
        let Some(place) = tcp(host, *port) else { return Ok(false) };
        match self.forwarding.listen(place, &session.handle()).await? {
            Some(bound) => {
                *port = bound.into();
                Ok(true)
            }
            None => Ok(false),
        }
    }

    async fn cancel_tcpip_forward(
        &mut self,
        host: &str,
        port: u32,
        _session: &mut Session,
    ) -> Result<bool, Failure> {
        let Some(place) = tcp(host, port) else { return Ok(false) };
        Ok(self.forwarding.stop_listening(&place).await?)
    }

    async fn streamlocal_forward(&mut self, path: &str, session: &mut Session) -> Result<bool, Failure> {
        let place = Place::Unix(path.chars().take(MAX_HOST).collect());
        Ok(self.forwarding.listen(place, &session.handle()).await?.is_some())
    }

    async fn cancel_streamlocal_forward(
        &mut self,
        path: &str,
        _session: &mut Session,
    ) -> Result<bool, Failure> {
        Ok(self.forwarding.stop_listening(&Place::Unix(path.to_string())).await?)
    }

    async fn agent_request(&mut self, id: ChannelId, session: &mut Session) -> Result<bool, Failure> {
        if self.fresh(id).is_none() {
            return Ok(false);
        }
        // One socket for the whole connection.
        let lent = match self.agent {
            Some(lent) => lent,
            None => self.forwarding.lend_agent(&session.handle()).await?,
        };
        self.agent = Some(lent);
        if let Some(fresh) = self.fresh(id) {
            fresh.agent = lent;
        }
        Ok(lent)
    }
}

fn tcp(host: &str, port: u32) -> Option<Place> {
    let port = u16::try_from(port).ok()?;
    (host.len() <= MAX_HOST).then(|| Place::Tcp { host: host.to_string(), port })
}

fn size(columns: u32, rows: u32, width: u32, height: u32) -> Size {
    let small = |value: u32| u16::try_from(value).unwrap_or(u16::MAX);
    Size { columns: small(columns), rows: small(rows), width: small(width), height: small(height) }
}

fn name_of(signal: Sig) -> String {
    match signal {
        Sig::Custom(name) => name.chars().take(64).collect(),
        // Named as the variant is: `INT`.
        other => format!("{other:?}"),
    }
}
