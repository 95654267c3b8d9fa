//! Forwarded streams: channels that end in a socket instead of a program. The monitor decides and
//! opens; here sockets that listen are accepted from, and bytes are moved. Each direction of each
//! channel has its own brake: a socket that takes nothing leaves the channel's window closed (our
//! patch of russh reopens it as data is taken), and a client that takes nothing stops our reading.

use super::control::Control;
use super::stream::{self, DRAIN, Descriptor};
use crate::wire::{self, Dialled, Place, Want};
use anyhow::{Context, Result, bail};
use russh::server::{ChannelOpenHandle, Handle, Msg};
use russh::{Channel, ChannelId, ChannelMsg, ChannelOpenFailure, ChannelReadHalf, ChannelWriteHalf};
use rustix::net::{Shutdown, SocketFlags};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::unix::AsyncFdReadyGuard;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Forwarded streams at once. A browser on a SOCKS proxy wants some hundreds.
const MAX_STREAMS: usize = 512;
/// When descriptors have run out, others need a moment to give some back.
const RETRY: Duration = Duration::from_millis(100);

/// All that a connection forwards.
pub struct Forwarding {
    control: Arc<Control>,
    slots: Arc<Semaphore>,
    open: Arc<Open>,
    listeners: HashMap<Place, Listener>,
}

/// Channels that are open, each with whom to tell when the client closes it.
#[derive(Default)]
struct Open(Mutex<HashMap<ChannelId, oneshot::Sender<()>>>);

struct Listener {
    number: u32,
    tasks: Vec<JoinHandle<()>>,
}

/// What a channel to the client is opened as when somebody connects.
#[derive(Clone)]
pub enum Kind {
    Tcp { host: String, port: u16 },
    Unix(String),
    Agent,
}

impl Forwarding {
    pub fn new(control: Arc<Control>) -> Forwarding {
        Forwarding {
            control,
            slots: Arc::new(Semaphore::new(MAX_STREAMS)),
            open: Arc::default(),
            listeners: HashMap::new(),
        }
    }

    /// The client closed a channel.
    pub fn closed(&self, id: ChannelId) {
        // Dropped, it tells.
        self.open.forget(id);
    }

    /// The client wants a channel to somewhere.
    pub fn connect(&self, place: Place, channel: Channel<Msg>, reply: ChannelOpenHandle) {
        let (control, open, slots) = (self.control.clone(), self.open.clone(), self.slots.clone());
        tokio::spawn(async move {
            let Ok(_slot) = slots.try_acquire_owned() else {
                reply.reject(ChannelOpenFailure::ResourceShortage).await;
                return;
            };
            match connect(&control, place).await {
                Ok(Ok(socket)) => {
                    let closed = open.register(channel.id());
                    reply.accept().await;
                    join(channel, socket, closed, &open).await;
                }
                Ok(Err(why)) => reply.reject(why).await,
                // The end of the connection.
                Err(_) => {}
            }
        });
    }

    /// The client wants channels for whoever connects there. Gives the port.
    pub async fn listen(&mut self, place: Place, handle: &Handle) -> Result<Option<u16>> {
        let Ok(granted) = self.control.request(Want::Listen(place.clone())).await? else {
            return Ok(None);
        };
        let kind = match place {
            Place::Tcp { host, .. } => Kind::Tcp { host, port: granted.port },
            Place::Unix(path) => Kind::Unix(path),
        };
        let key = match &kind {
            Kind::Tcp { host, port } => Place::Tcp { host: host.clone(), port: *port },
            Kind::Unix(path) => Place::Unix(path.clone()),
            Kind::Agent => bail!("an agent is no place"),
        };
        let tasks = granted.descriptors.into_iter().map(|socket| self.accept(socket, kind.clone(), handle));
        let tasks = tasks.collect::<Result<Vec<_>>>()?;
        self.listeners.insert(key, Listener { number: granted.number, tasks });
        Ok(Some(granted.port))
    }

    /// Whether there was one.
    pub async fn stop_listening(&mut self, place: &Place) -> Result<bool> {
        let Some(Listener { number, tasks }) = self.listeners.remove(place) else { return Ok(false) };
        tasks.iter().for_each(JoinHandle::abort);
        self.control.close(number).await?;
        Ok(true)
    }

    /// The client lends its agent. Whether it may.
    pub async fn lend_agent(&self, handle: &Handle) -> Result<bool> {
        let Ok(granted) = self.control.request(Want::Agent).await? else { return Ok(false) };
        for socket in granted.descriptors {
            self.accept(socket, Kind::Agent, handle)?;
        }
        Ok(true)
    }

    fn accept(&self, socket: OwnedFd, kind: Kind, handle: &Handle) -> Result<JoinHandle<()>> {
        let socket = stream::watch(socket).context("watch a listener")?;
        let (open, slots, handle) = (self.open.clone(), self.slots.clone(), handle.clone());
        let serve = move |slot: OwnedSemaphorePermit, stream: OwnedFd, peer| {
            let (open, kind, handle) = (open.clone(), kind.clone(), handle.clone());
            // On its own, since russh ends the connection when nobody waits for a refusal.
            tokio::spawn(async move {
                let _slot = slot;
                if let (Ok(stream), Ok(channel)) =
                    (stream::watch(stream), ask_client(&handle, kind, peer).await)
                {
                    let closed = open.register(channel.id());
                    join(channel, stream, closed, &open).await;
                }
            });
        };
        Ok(tokio::spawn(accept_all(socket, slots, serve)))
    }
}

impl Open {
    fn register(&self, id: ChannelId) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id, sender);
        receiver
    }

    fn forget(&self, id: ChannelId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }
}

/// The inner error is for the client.
async fn connect(control: &Control, place: Place) -> Result<Result<Descriptor, ChannelOpenFailure>> {
    let granted = match control.request(Want::Connect(place)).await? {
        Ok(granted) => granted,
        Err(wire::Refusal::Forbidden) => return Ok(Err(ChannelOpenFailure::AdministrativelyProhibited)),
        Err(wire::Refusal::Failed) => return Ok(Err(ChannelOpenFailure::ConnectFailed)),
    };
    let Some(socket) = granted.descriptors.into_iter().next() else { bail!("granted without a socket") };
    let socket = stream::watch(socket).context("watch a socket")?;
    let answer = loop {
        let mut ready = socket.readable().await.context("dialler")?;
        if let Ok(received) = ready.try_io(wire::receive::<Dialled>) {
            break received;
        }
    };
    match answer {
        Ok(Some((Dialled { error: None }, sockets))) if sockets.len() == 1 => {
            let socket = sockets.into_iter().next().context("no socket")?;
            Ok(Ok(stream::watch(socket).context("watch a socket")?))
        }
        // It said why, or it died.
        Ok(_) | Err(_) => Ok(Err(ChannelOpenFailure::ConnectFailed)),
    }
}

async fn ask_client(
    handle: &Handle,
    kind: Kind,
    peer: Option<SocketAddr>,
) -> Result<Channel<Msg>, russh::Error> {
    match kind {
        Kind::Tcp { host, port } => {
            let (address, from) = peer
                .map_or_else(Default::default, |peer| (peer.ip().to_canonical().to_string(), peer.port()));
            handle.channel_open_forwarded_tcpip(host, port.into(), address, from.into()).await
        }
        Kind::Unix(path) => handle.channel_open_forwarded_streamlocal(path).await,
        Kind::Agent => handle.channel_open_agent().await,
    }
}

/// Gives whoever connects to `serve`, with a slot. It is taken once somebody is there: a listener that nobody connects to
/// keeps none from the streams.
async fn accept_all(
    listener: Descriptor,
    slots: Arc<Semaphore>,
    mut serve: impl FnMut(OwnedSemaphorePermit, OwnedFd, Option<SocketAddr>),
) {
    while let Ok(mut ready) = listener.readable().await {
        // Nobody closes the semaphore.
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        match accept(&mut ready) {
            Ok(Some((stream, peer))) => serve(slot, stream, peer),
            Ok(None) => {}
            Err(_) => {
                drop(slot);
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// `None` where nobody is there any more.
fn accept(
    ready: &mut AsyncFdReadyGuard<'_, OwnedFd>,
) -> std::io::Result<Option<(OwnedFd, Option<SocketAddr>)>> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    match ready.try_io(|listener| Ok(rustix::net::acceptfrom_with(listener, flags)?)) {
        Ok(Ok((stream, peer))) => {
            let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
            if peer.is_some() {
                // As OpenSSH does for whatever it forwards; without it it is only slower.
                let _ = rustix::net::sockopt::set_tcp_nodelay(&stream, true);
            }
            Ok(Some((stream, peer)))
        }
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionAborted => Ok(None),
        Ok(Err(error)) => Err(error),
        Err(_) => Ok(None),
    }
}

/// Moves bytes both ways until both ends have said all, or the client closed the channel: also before that was listened
/// for (`closed`), when all that it said comes at once.
async fn join(channel: Channel<Msg>, socket: Descriptor, closed: oneshot::Receiver<()>, open: &Open) {
    let (reader, writer) = channel.split();
    let (says, said_all) = oneshot::channel();
    let inward = inward(reader, &socket, says);
    tokio::pin!(inward);
    tokio::select! {
        // Dropped, it tells.
        (_, ()) = async { tokio::join!(said_all, outward(&socket, &writer)) } => {}
        () = &mut inward => {}
        // What the client sent before is still the socket's, if it takes it.
        _ = closed => drop(timeout(DRAIN, inward).await),
    }
    // After the client closed it there is nothing left to close.
    writer.close().await.ok();
    open.forget(writer.id());
}

/// From the client to the socket, until the client closes the channel. `says` is dropped once it has said all, or the
/// socket takes no more: what comes then is thrown away, as OpenSSH does.
async fn inward(mut reader: ChannelReadHalf, socket: &Descriptor, says: oneshot::Sender<()>) {
    let mut says = Some(says);
    while let Some(message) = reader.wait().await {
        match message {
            ChannelMsg::Data { data }
                if says.is_some() && stream::write_all(socket, &data).await.is_err() =>
            {
                says = None;
            }
            ChannelMsg::Eof => {
                // It may be gone altogether.
                let _ = rustix::net::shutdown(socket, Shutdown::Write);
                says = None;
            }
            ChannelMsg::Close => return,
            _ => {}
        }
    }
}

async fn outward(socket: &Descriptor, writer: &ChannelWriteHalf<Msg>) {
    while let Some(chunk) = stream::read(socket).await {
        if writer.data_bytes(chunk).await.is_err() {
            return;
        }
    }
    writer.eof().await.ok();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_listener_that_nobody_connects_to_holds_no_slot() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let slots = Arc::new(Semaphore::new(1));
            let (sender, mut served) = tokio::sync::mpsc::unbounded_channel();
            let (mut ports, mut tasks) = (Vec::new(), Vec::new());
            for _ in 0..2 {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                listener.set_nonblocking(true).unwrap();
                ports.push(listener.local_addr().unwrap().port());
                let sender = sender.clone();
                let serve = move |slot, stream, _| sender.send((slot, stream)).unwrap();
                let listener = stream::watch(listener.into()).unwrap();
                tasks.push(tokio::spawn(accept_all(listener, slots.clone(), serve)));
            }
            // Each is served in its turn, with the only slot there is.
            for port in ports.iter().rev().chain(&ports) {
                let _stream = TcpStream::connect(("127.0.0.1", *port)).unwrap();
                let next = timeout(DRAIN, served.recv()).await;
                assert!(next.is_ok(), "port {port} of {ports:?}");
                assert_eq!(slots.available_permits(), 0);
            }
        });
    }
}
