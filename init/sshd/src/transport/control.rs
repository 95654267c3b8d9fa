//! The transport's end of the socket to its monitor: questions out, answers and ends back to whoever
//! waits for them.

use crate::wire::{self, Ask, Ended, Program, Tell, Terminal};
use anyhow::{Context, Result, bail};
use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

pub struct Control {
    socket: AsyncFd<OwnedFd>,
    waiting: Mutex<Waiting>,
}

/// Who waits for what.
#[derive(Default)]
struct Waiting {
    verdicts: VecDeque<oneshot::Sender<Verdict>>,
    programs: HashMap<u32, oneshot::Sender<Result<Started, String>>>,
    ends: HashMap<u32, oneshot::Sender<Ended>>,
}

#[derive(Clone, Copy)]
pub struct Verdict {
    pub accepted: bool,
    pub passwords: bool,
}

/// A program that runs.
pub struct Started {
    /// Its terminal's master, or its stdin, stdout and stderr.
    pub descriptors: Vec<OwnedFd>,
    pub ended: oneshot::Receiver<Ended>,
}

impl Control {
    pub fn new(socket: OwnedFd) -> Result<Control> {
        rustix::io::ioctl_fionbio(&socket, true).context("set non-blocking")?;
        let socket = super::watch(socket).context("control socket")?;
        Ok(Control { socket, waiting: Mutex::default() })
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
                Tell::Verdict { accepted, passwords } => {
                    let verdict = Verdict { accepted, passwords };
                    let _ = waiting.verdicts.pop_front().map(|sender| sender.send(verdict));
                }
                Tell::Opened { channel } => {
                    let (sender, ended) = oneshot::channel();
                    waiting.ends.insert(channel, sender);
                    let started = Started { descriptors, ended };
                    let _ = waiting.programs.remove(&channel).map(|sender| sender.send(Ok(started)));
                }
                Tell::Refused { channel, error } => {
                    let _ = waiting.programs.remove(&channel).map(|sender| sender.send(Err(error)));
                }
                Tell::Ended { channel, how } => {
                    let _ = waiting.ends.remove(&channel).map(|sender| sender.send(how));
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

    /// Starts a program. The inner error is for the client.
    pub async fn open(
        &self,
        channel: u32,
        program: Program,
        terminal: Option<Terminal>,
        environment: Vec<(String, String)>,
    ) -> Result<Result<Started, String>> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).programs.insert(channel, sender);
        self.send(&Ask::Open { channel, program, terminal, environment }).await?;
        receiver.await.context("the monitor ended")
    }

    pub async fn signal(&self, channel: u32, signal: String) -> Result<()> {
        self.send(&Ask::Signal { channel, signal }).await
    }

    pub async fn close(&self, channel: u32) -> Result<()> {
        self.send(&Ask::Close { channel }).await
    }
}
