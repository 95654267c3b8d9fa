//! One channel with its program: bytes in both directions, each with its own brake. A program that
//! does not read stops its own channel's window (our patch of russh reopens it as data is taken), and
//! a client that does not read stops our reading of the program.

use super::control::Control;
use super::door::Fresh;
use super::stream::{self, DRAIN, Descriptor, read, write_all};
use crate::signals;
use crate::wire::{Ended, Program, Size, Want};
use anyhow::Result;
use host::sys::tty;
use russh::server::{Handle, Msg};
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// The kernel hands a terminal's output over from a work queue: what a program wrote last may come
/// this much after its end. There need be no end of it, since a background job may hold the terminal.
const LAST_WORDS: Duration = Duration::from_millis(100);
/// SSH_EXTENDED_DATA_STDERR
const STDERR: u32 = 1;

type Writer = ChannelWriteHalf<Msg>;
/// Before the monitor has started the program.
const NONE: u32 = u32::MAX;

/// A channel on which a program was asked for.
pub struct Running {
    task: JoinHandle<()>,
    pub on_terminal: bool,
    size: watch::Sender<Option<Size>>,
    /// The program's, for the monitor.
    number: Arc<AtomicU32>,
    /// Dropped when the client takes no more of the program's output.
    heard: Option<oneshot::Sender<()>>,
    /// Dropped, with all of this, when the client closed the channel.
    _open: oneshot::Sender<()>,
}

impl Running {
    pub fn resize(&self, size: Size) {
        self.size.send_replace(Some(size));
    }

    /// The program's, once it runs.
    pub fn number(&self) -> Option<u32> {
        Some(self.number.load(Ordering::Relaxed)).filter(|number| *number != NONE)
    }

    /// The client takes no more of what the program writes: whoever read it has gone, as in `ssh host yes | head`.
    pub fn unheard(&mut self) {
        self.heard = None;
    }

    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }
}

/// Answers the client's request, and moves the bytes until the program or the channel ends.
pub fn start(fresh: Fresh, program: Program, control: Arc<Control>, handle: Handle) -> Running {
    let on_terminal = fresh.terminal.is_some();
    let (size, sizes) = watch::channel(None);
    let (open, closed) = oneshot::channel();
    let (heard, unheard) = oneshot::channel();
    let number = Arc::new(AtomicU32::new(NONE));
    let known = number.clone();
    let task = tokio::spawn(async move {
        let Fresh { channel, terminal, environment, agent } = fresh;
        let (reader, writer) = channel.split();
        let session = Session { writer, handle, control, number };
        let want = Want::Program { program, terminal, environment, agent };
        // An error is the end of the connection, and so of this task's reason.
        let _ = session.run(reader, want, sizes, unheard, closed).await;
    });
    Running { task, on_terminal, size, number: known, heard: Some(heard), _open: open }
}

struct Session {
    writer: Writer,
    handle: Handle,
    control: Arc<Control>,
    number: Arc<AtomicU32>,
}

impl Session {
    async fn run(
        &self,
        reader: ChannelReadHalf,
        want: Want,
        sizes: watch::Receiver<Option<Size>>,
        unheard: oneshot::Receiver<()>,
        mut closed: oneshot::Receiver<()>,
    ) -> Result<()> {
        let id = self.writer.id();
        let number = self.control.number();
        let started = {
            let start = self.control.start(number, want);
            tokio::pin!(start);
            tokio::select! {
                biased;
                started = &mut start => started,
                _ = &mut closed => {
                    // It has told once, and would not again.
                    closed = oneshot::channel().1;
                    self.control.withdraw(number).await.ok();
                    start.await
                }
            }
        };
        let (granted, ended) = match started {
            Ok(Ok(started)) => started,
            refused => {
                // Else the monitor has logged why.
                if let Err(error) = refused {
                    host::log!("transport: ask for a program: {error:#}");
                }
                self.handle.channel_failure(id).await.ok();
                return Ok(());
            }
        };
        self.number.store(granted.number, Ordering::Relaxed);
        let mut streams = granted.descriptors.into_iter().map(stream::watch);
        let streams = (streams.next(), streams.next(), streams.next());
        self.handle.channel_success(id).await.ok();
        match streams {
            (Some(master), None, None) => {
                let master = Arc::new(master?);
                let input = copy_in(reader, Sink::Terminal(master.clone()));
                let work = async {
                    let how = self.terminal_output(&master, ended).await;
                    self.report(how).await;
                };
                tokio::select! {
                    () = self.until_end(input, work, closed) => {}
                    () = follow_size(&master, sizes) => {}
                }
            }
            (Some(stdin), Some(stdout), Some(stderr)) => {
                let (stdout, stderr) = (stdout?, stderr?);
                let input = copy_in(reader, Sink::Pipe(stdin?));
                // Closed when nobody hears it any more, so that the program is told by SIGPIPE.
                let heard = async move {
                    tokio::select! {
                        () = self.copy_out(&stdout, None) => {}
                        _ = unheard => {}
                    }
                };
                let work = async {
                    tokio::join!(heard, self.copy_out(&stderr, Some(STDERR)), async {
                        self.report(ended.await.ok()).await
                    },);
                };
                self.until_end(input, work, closed).await;
            }
            _ => {}
        }
        Ok(())
    }

    /// Until the program has ended and said all, or the client has closed the channel.
    async fn until_end(
        &self,
        input: impl Future<Output = ()>,
        work: impl Future<Output = ()>,
        closed: oneshot::Receiver<()>,
    ) {
        tokio::pin!(input, work);
        tokio::select! {
            () = &mut work => {
                self.writer.eof().await.ok();
                self.writer.close().await.ok();
                return;
            }
            () = &mut input => {}
            _ = closed => {
                // What the client sent before is still the program's, if it takes it.
                let _ = timeout(DRAIN, &mut input).await;
            }
        }
        self.control.close(self.number.load(Ordering::Relaxed)).await.ok();
    }

    /// What the terminal shows, to the end of the program and its last words.
    async fn terminal_output(
        &self,
        master: &Descriptor,
        mut ended: oneshot::Receiver<Ended>,
    ) -> Option<Ended> {
        let mut how = None;
        loop {
            let chunk = match how {
                None => tokio::select! {
                    biased;
                    chunk = read(master) => chunk,
                    end = &mut ended => {
                        how = Some(end.ok());
                        continue;
                    }
                },
                Some(_) => timeout(LAST_WORDS, read(master)).await.unwrap_or(None),
            };
            let Some(chunk) = chunk else { break };
            if self.writer.data_bytes(chunk).await.is_err() {
                break;
            }
        }
        match how {
            Some(how) => how,
            // All have closed the terminal, but the program still runs.
            None => ended.await.ok(),
        }
    }

    /// One stream of the program to its end.
    async fn copy_out(&self, from: &Descriptor, extended: Option<u32>) {
        while let Some(chunk) = read(from).await {
            let sent = match extended {
                None => self.writer.data_bytes(chunk).await,
                Some(code) => self.writer.extended_data_bytes(code, chunk).await,
            };
            if sent.is_err() {
                return;
            }
        }
    }

    async fn report(&self, how: Option<Ended>) {
        let id = self.writer.id();
        match how {
            Some(Ended::Status(status)) => {
                self.handle.exit_status_request(id, status.cast_unsigned()).await.ok();
            }
            Some(Ended::Signal(number)) => {
                let name = Sig::Custom(signals::name(number).to_string());
                self.handle.exit_signal_request(id, name, false, String::new(), String::new()).await.ok();
            }
            // The monitor ended first; the connection follows.
            None => {}
        }
    }
}

/// Where the client's data goes.
enum Sink {
    /// Closed at the client's EOF.
    Pipe(Descriptor),
    /// Stays open: EOF on a terminal is a character.
    Terminal(Arc<Descriptor>),
}

impl Sink {
    fn descriptor(&self) -> &Descriptor {
        match self {
            Sink::Pipe(descriptor) => descriptor,
            Sink::Terminal(descriptor) => descriptor,
        }
    }
}

/// What the client sends, until it closes the channel. Data for a program that does not read any more
/// is thrown away, as a shell's pipe would refuse it.
async fn copy_in(mut reader: ChannelReadHalf, sink: Sink) {
    let mut sink = Some(sink);
    while let Some(message) = reader.wait().await {
        match message {
            ChannelMsg::Data { data } => {
                let Some(to) = &sink else { continue };
                let refused = write_all(to.descriptor(), &data).await.is_err();
                if refused {
                    sink = None;
                }
            }
            ChannelMsg::Eof if matches!(sink, Some(Sink::Pipe(_))) => sink = None,
            ChannelMsg::Close => return,
            _ => {}
        }
    }
}

/// Never returns.
async fn follow_size(master: &Descriptor, mut sizes: watch::Receiver<Option<Size>>) {
    while sizes.changed().await.is_ok() {
        if let Some(Size { columns, rows, width, height }) = *sizes.borrow_and_update() {
            // Fails when the program has ended; then nobody looks.
            let _ = tty::resize(master, columns, rows, width, height);
        }
    }
    std::future::pending().await
}
