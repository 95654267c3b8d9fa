//! Bytes between the session and a descriptor that does not block.

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::io::unix::AsyncFd;

/// As much as a pipe to or from a program holds: crate::PIPE.
const READ: usize = crate::PIPE;
/// How long whoever reads may take for what the client sent before it closed the channel.
pub const DRAIN: Duration = Duration::from_secs(10);

pub type Descriptor = AsyncFd<OwnedFd>;

/// For reading and writing without blocking. tokio's other way is unsafe, for the sake of types whose
/// descriptor may change; an `OwnedFd`'s does not.
#[expect(deprecated)]
pub fn watch(descriptor: OwnedFd) -> io::Result<Descriptor> {
    AsyncFd::new(descriptor)
}

/// The next bytes; `None` at the end. EIO is how a terminal says that all have closed it.
pub async fn read(from: &Descriptor) -> Option<Bytes> {
    loop {
        let mut ready = from.readable().await.ok()?;
        let mut buffer = Vec::with_capacity(READ);
        let result = ready.try_io(|from| Ok(rustix::io::read(from, spare_capacity(&mut buffer))?));
        match result {
            Ok(Ok(0)) => return None,
            Ok(Ok(_)) => return Some(Bytes::from(buffer)),
            Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(Err(_)) => return None,
            // Not ready after all.
            Err(_) => {}
        }
    }
}

pub async fn write_all(to: &Descriptor, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let mut ready = to.writable().await?;
        match ready.try_io(|to| Ok(rustix::io::write(to, bytes)?)) {
            Ok(Ok(length)) => bytes = &bytes[length..],
            Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(Err(error)) => return Err(error),
            Err(_) => {}
        }
    }
    Ok(())
}
