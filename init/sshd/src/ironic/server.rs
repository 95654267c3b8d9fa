//! The agent's server: TLS, a few connections at once, each with one request, a few seconds and a few kilobytes. A crowd sends
//! itself away, and no conductor, by the rules that the SSH service has for its own (`limits`).

use super::http::{self, Progress};
use crate::limits::{Network, Place, Waiting};
use anyhow::{Context as _, Result};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustls::{ServerConfig, ServerConnection};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Connections at once, of all and of one address or IPv6 network, and how long each may take.
const MOST: usize = 32;
const MOST_OF_ONE: usize = 8;
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the last one may take to fetch its answer.
const FAREWELL: Duration = Duration::from_secs(2);
/// Reads of one connection before the others have their turn.
const READS: usize = 16;

pub struct Server {
    pub listener: TcpListener,
    pub tls: Arc<ServerConfig>,
}

/// Why the server ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// By an answer after which there is nothing to say.
    Finished,
    /// Whoever started this process is gone.
    Orphaned,
}

/// What a request is answered with, and whether that was the last one. `None` while more of it has to come.
pub type Answer<'a> = dyn FnMut(Progress) -> Option<(Vec<u8>, bool)> + 'a;

impl Server {
    /// Serves until the last answer, or until the peer of `parent` is gone.
    pub fn run(&self, parent: BorrowedFd<'_>, answer: &mut Answer<'_>) -> Result<End> {
        self.listener.set_nonblocking(true).context("set non-blocking")?;
        let mut connections: Vec<Connection> = Vec::new();
        let mut crowd = Crowd::default();
        loop {
            let wanted = |connection: &Connection| {
                if connection.tls.wants_write() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN }
            };
            let accepting = if crowd.held.is_some() { PollFlags::empty() } else { PollFlags::IN };
            // The peer says nothing that is not asked for: what comes is its end.
            let first =
                [PollFd::from_borrowed_fd(parent, PollFlags::IN), PollFd::new(&self.listener, accepting)];
            let others =
                connections.iter().map(|connection| PollFd::new(&connection.stream, wanted(connection)));
            let mut fds: Vec<PollFd<'_>> = first.into_iter().chain(others).collect();
            // The first is the oldest.
            let oldest = connections.first().map(|oldest| oldest.since + PATIENCE);
            let due = oldest.into_iter().chain(crowd.held.as_ref().map(|(_, _, due)| *due)).min();
            let left = due.map(|due| due.saturating_duration_since(Instant::now()));
            let timeout = left.and_then(|left| Timespec::try_from(left).ok());
            match rustix::event::poll(&mut fds, timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("poll"),
            }
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            drop(fds);
            if ready[0] {
                return Ok(End::Orphaned);
            }
            let mut turn = ready[2..].iter();
            let now = Instant::now();
            connections.retain_mut(|connection| {
                let is_ready = turn.next() == Some(&true);
                // Who breaks off is as good as who has his answer.
                let stays = !is_ready || connection.step(answer).unwrap_or(false);
                if !connection.tls.is_handshaking() {
                    crowd.waiting.talks(connection.id);
                }
                let stays = connection.is_last || stays && now < connection.since + PATIENCE;
                if !stays {
                    crowd.waiting.leave(connection.id);
                }
                stays
            });
            if let Some(last) = connections.iter().position(|connection| connection.is_last) {
                connections.swap_remove(last).farewell();
                return Ok(End::Finished);
            }
            match crowd.held.take() {
                Some((stream, peer, due)) if due <= now => {
                    self.begin(stream, peer, &mut connections, &mut crowd);
                }
                held => crowd.held = held,
            }
            if ready[1] {
                self.accept(&mut connections, &mut crowd);
            }
        }
    }

    fn accept(&self, connections: &mut Vec<Connection>, crowd: &mut Crowd) {
        match self.listener.accept() {
            Ok((stream, peer)) => self.begin(stream, peer, connections, crowd),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionAborted) => {}
            Err(error) => {
                // Out of descriptors or memory, which others give back.
                host::log!("ironic: accept: {error}");
                std::thread::sleep(Duration::from_secs(1));
            }
        }
    }

    /// Somebody comes, for whom another may have to go.
    fn begin(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        connections: &mut Vec<Connection>,
        crowd: &mut Crowd,
    ) {
        let (network, now) = (Network::from(peer.ip()), Instant::now());
        match crowd.waiting.place(network, now, MOST, MOST_OF_ONE) {
            Place::Free => {}
            Place::InsteadOf(victim) => {
                crowd.waiting.leave(victim);
                connections.retain(|connection| connection.id != victim);
            }
            Place::NotBefore(due) => {
                crowd.held = Some((stream, peer, due));
                return;
            }
        }
        let begun = stream
            .set_nonblocking(true)
            .and_then(|()| ServerConnection::new(self.tls.clone()).map_err(io::Error::other));
        match begun {
            Ok(tls) => {
                crowd.waiting.enter(crowd.next, network, now);
                connections.push(Connection::new(crowd.next, stream, tls));
                crowd.next += 1;
            }
            Err(error) => host::log!("ironic: begin a connection: {error}"),
        }
    }
}

/// Who is there, and who has to go.
#[derive(Default)]
struct Crowd {
    waiting: Waiting,
    /// For whom there is no place before then.
    held: Option<(TcpStream, SocketAddr, Instant)>,
    next: u64,
}

struct Connection {
    id: u64,
    stream: TcpStream,
    tls: ServerConnection,
    since: Instant,
    request: Vec<u8>,
    is_answered: bool,
    is_last: bool,
}

impl Connection {
    fn new(id: u64, stream: TcpStream, tls: ServerConnection) -> Connection {
        let since = Instant::now();
        Connection { id, stream, tls, since, request: Vec::new(), is_answered: false, is_last: false }
    }

    /// Takes and gives what it can without waiting. Whether there is more to do.
    fn step(&mut self, answer: &mut Answer<'_>) -> io::Result<bool> {
        for _ in 0..READS {
            if self.is_answered || !self.take(answer)? {
                break;
            }
        }
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.stream) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
        }
        if self.is_answered {
            self.stream.shutdown(Shutdown::Write)?;
        }
        Ok(!self.is_answered)
    }

    /// Reads once, and answers where that was the end of a request. Whether something came.
    fn take(&mut self, answer: &mut Answer<'_>) -> io::Result<bool> {
        match self.tls.read_tls(&mut self.stream) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
        if let Err(error) = self.tls.process_new_packets() {
            // What is wrong is said to the peer, as far as it listens.
            let _ = self.tls.write_tls(&mut self.stream);
            return Err(io::Error::other(error));
        }
        let mut room = [0; 4096];
        loop {
            match self.tls.reader().read(&mut room) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(length) => self.request.extend_from_slice(&room[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
            // At the latest when it is longer than a request may be.
            if let Some((bytes, is_last)) = answer(http::read(&self.request)) {
                self.tls.writer().write_all(&bytes)?;
                self.tls.send_close_notify();
                (self.is_answered, self.is_last) = (true, is_last);
                return Ok(true);
            }
        }
    }

    /// The last answer goes out before this process ends: with bytes unread behind it the kernel would take it back.
    fn farewell(mut self) {
        let until = Instant::now() + FAREWELL;
        let result = (|| {
            self.stream.set_nonblocking(false)?;
            self.stream.set_write_timeout(Some(FAREWELL))?;
            while self.tls.wants_write() {
                self.tls.write_tls(&mut self.stream)?;
            }
            self.stream.shutdown(Shutdown::Write)?;
            self.stream.set_read_timeout(Some(FAREWELL))?;
            let mut room = [0; 4096];
            while Instant::now() < until && self.stream.read(&mut room)? > 0 {}
            Ok(())
        })();
        if let Err(error) = result {
            let error: io::Error = error;
            host::log!("ironic: last answer: {error}");
        }
    }
}
