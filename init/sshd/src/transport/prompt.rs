//! The client's connection, with its first packets acknowledged at once. Clients send a login's small
//! packets by Nagle's algorithm, each when the one before is acknowledged, and the kernel waits up to 40
//! ms for something to send along with that: a login would take twice as long as it does.

use rustix::net::sockopt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Reads of a login, generously. Later the kernel knows best.
const READS: u32 = 32;

pub struct Prompt {
    stream: TcpStream,
    reads: u32,
}

impl Prompt {
    pub fn new(stream: TcpStream) -> Prompt {
        Prompt { stream, reads: READS }
    }
}

impl AsyncRead for Prompt {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if self.reads > 0 {
            self.reads -= 1;
            // The kernel takes it back by itself (tcp(7), TCP_QUICKACK); without it, it is only slower.
            let _ = sockopt::set_tcp_quickack(&self.stream, true);
        }
        result
    }
}

impl AsyncWrite for Prompt {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
