//! The transport's end of the socket to its monitor: questions out, answers and ends back to whoever
//! waits for them.

use super::stream::{self, Descriptor};
use crate::wire::{self, Ask, Blob, Ended, Refusal, Sha, Tell, Want};
use anyhow::{Context, Result, bail};
use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use tokio::sync::oneshot;

pub struct Control {
    socket: Descriptor,
    /// Of the next request.
    number: AtomicU32,
    waiting: Mutex<Waiting>,
}

/// Who waits for what.
#[derive(Default)]
struct Waiting {
    verdicts: VecDeque<oneshot::Sender<Verdict>>,
    signatures: VecDeque<oneshot::Sender<Vec<u8>>>,
    requests: HashMap<u32, oneshot::Sender<Result<Granted, Refusal>>>,
    /// Of programs.
    ends: HashMap<u32, oneshot::Sender<Ended>>,
}

#[derive(Clone, Copy)]
pub struct Verdict {
    pub accepted: bool,
    pub passwords: bool,
    pub terminals: bool,
}

/// What the monitor gave, as [`Want`] says.
pub struct Granted {
    pub number: u32,
    /// Of a listener.
    pub port: u16,
    pub descriptors: Vec<OwnedFd>,
}

impl Control {
    pub fn new(socket: OwnedFd) -> Result<Control> {
        rustix::io::ioctl_fionbio(&socket, true).context("set non-blocking")?;
        let socket = stream::watch(socket).context("control socket")?;
        Ok(Control { socket, number: AtomicU32::new(0), waiting: Mutex::default() })
    }

    /// The next message; `None` when the monitor ended.
    pub async fn receive(&self) -> Result<Option<(Tell, Vec<OwnedFd>)>> {
        loop {
            let mut ready = self.socket.readable().await.context("control socket")?;
            if let Ok(received) = ready.try_io(wire::receive) {
                return received.context("control socket");
            }
        }
    }

    async fn send(&self, ask: &Ask) -> Result<()> {
        loop {
            let mut ready = self.socket.writable().await.context("control socket")?;
            if let Ok(sent) = ready.try_io(|socket| wire::send(socket, ask, &[])) {
                return sent.context("control socket");
            }
        }
    }

    /// Hands on what comes until the monitor ends.
    pub async fn listen(&self) -> Result<()> {
        while let Some((tell, descriptors)) = self.receive().await? {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            // Whoever asked may have gone; then nobody misses the answer.
            match tell {
                Tell::Welcome { .. } => bail!("the monitor said welcome twice"),
                Tell::Signature(Blob(signature)) => {
                    let _ = waiting.signatures.pop_front().map(|sender| sender.send(signature));
                }
                Tell::Verdict { accepted, passwords, terminals } => {
                    let verdict = Verdict { accepted, passwords, terminals };
                    let _ = waiting.verdicts.pop_front().map(|sender| sender.send(verdict));
                }
                Tell::Granted { number, port } => {
                    let granted = Granted { number, port, descriptors };
                    let _ = waiting.requests.remove(&number).map(|sender| sender.send(Ok(granted)));
                }
                Tell::Refused { number, why } => {
                    waiting.ends.remove(&number);
                    let _ = waiting.requests.remove(&number).map(|sender| sender.send(Err(why)));
                }
                Tell::Ended { number, how } => {
                    let _ = waiting.ends.remove(&number).map(|sender| sender.send(how));
                }
            }
        }
        Ok(())
    }

    pub async fn verdict(&self, ask: &Ask) -> Result<Verdict> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).verdicts.push_back(sender);
        self.send(ask).await?;
        receiver.await.context("the monitor ended")
    }

    /// The host key's, under an exchange hash.
    pub async fn sign(&self, key: Vec<u8>, sha: Sha, hash: &[u8]) -> Result<Vec<u8>> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).signatures.push_back(sender);
        self.send(&Ask::Sign { key: Blob(key), sha, hash: Blob(hash.to_vec()) }).await?;
        receiver.await.context("the monitor ended")
    }

    /// The inner error is for the client.
    pub async fn request(&self, want: Want) -> Result<Result<Granted, Refusal>> {
        self.send_request(self.number(), want).await
    }

    /// For a program that will be started.
    pub fn number(&self) -> u32 {
        self.number.fetch_add(1, Ordering::Relaxed)
    }

    /// As [`Control::request`], for a program, with its end. It may have to wait for the layers.
    pub async fn start(
        &self,
        number: u32,
        want: Want,
    ) -> Result<Result<(Granted, oneshot::Receiver<Ended>), Refusal>> {
        let (sender, ended) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).ends.insert(number, sender);
        Ok(self.send_request(number, want).await?.map(|granted| (granted, ended)))
    }

    async fn send_request(&self, number: u32, want: Want) -> Result<Result<Granted, Refusal>> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).requests.insert(number, sender);
        if let Err(error) = self.send(&Ask::Request { number, want }).await {
            // As when command and variables are too much for one message together.
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.requests.remove(&number);
            waiting.ends.remove(&number);
            return Err(error);
        }
        receiver.await.context("the monitor ended")
    }

    pub async fn signal(&self, number: u32, signal: String) -> Result<()> {
        self.send(&Ask::Signal { number, signal }).await
    }

    pub async fn withdraw(&self, number: u32) -> Result<()> {
        self.send(&Ask::Withdraw { number }).await
    }

    pub async fn close(&self, number: u32) -> Result<()> {
        self.send(&Ask::Close { number }).await
    }
}
