//! Several reads under way at once: io_submit(2), the kernel's own interface for it (linux/aio_abi.h). A disk that turns
//! serves them in one sweep, one that does not side by side, and the process waits once.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Most at once.
pub const MOST: usize = 32;

/// One read. `done` is how many bytes came, or why none.
#[derive(Debug)]
pub struct Read<'a> {
    pub offset: u64,
    pub buffer: &'a mut [u8],
    pub done: io::Result<usize>,
}

/// struct iocb on machines with the low byte first.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Request {
    data: u64,
    key: u32,
    flags: i32,
    opcode: u16,
    priority: i16,
    descriptor: u32,
    buffer: u64,
    length: u64,
    offset: i64,
    reserved: u64,
    more_flags: u32,
    event_descriptor: u32,
}

/// struct io_event
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Event {
    data: u64,
    request: u64,
    result: i64,
    second: i64,
}

/// IOCB_CMD_PREAD
const PREAD: u16 = 0;

thread_local! {
    /// aio_context_t, and the process that it is of: a copy has not got it.
    static CONTEXT: Cell<Option<(u32, libc::c_ulong)>> = const { Cell::new(None) };
}

fn context() -> io::Result<libc::c_ulong> {
    let own = std::process::id();
    if let Some((_, context)) = CONTEXT.get().filter(|(process, _)| *process == own) {
        return Ok(context);
    }
    let mut context: libc::c_ulong = 0;
    // SAFETY: the kernel writes one word to the pointer, which lives over the call.
    if unsafe { libc::syscall(libc::SYS_io_setup, MOST as libc::c_uint, &raw mut context) } != 0 {
        return Err(io::Error::last_os_error());
    }
    CONTEXT.set(Some((own, context)));
    Ok(context)
}

/// Reads all of them, [`MOST`] at most; returns when each is done or has failed.
///
/// Errors: nothing was read.
pub fn read(file: BorrowedFd<'_>, reads: &mut [Read<'_>]) -> io::Result<()> {
    if reads.len() > MOST {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let context = context()?;
    let mut requests = [Request::default(); MOST];
    let mut pointers = [std::ptr::null_mut::<Request>(); MOST];
    for (index, read) in reads.iter_mut().enumerate() {
        read.done = Err(io::ErrorKind::WouldBlock.into());
        requests[index] = Request {
            data: index as u64,
            opcode: PREAD,
            descriptor: file.as_raw_fd().cast_unsigned(),
            buffer: read.buffer.as_mut_ptr() as u64,
            length: read.buffer.len() as u64,
            offset: i64::try_from(read.offset).map_err(io::Error::other)?,
            ..Request::default()
        };
    }
    for (pointer, request) in pointers.iter_mut().zip(&mut requests) {
        *pointer = request;
    }
    let count = reads.len() as libc::c_long;
    // SAFETY: pointers to `count` requests, whose buffers are borrowed until all that were begun are done, below.
    let begun = unsafe { libc::syscall(libc::SYS_io_submit, context, count, pointers.as_mut_ptr()) };
    if begun < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut events = [Event::default(); MOST];
    let mut left = begun;
    while left > 0 {
        let forever = std::ptr::null_mut::<libc::timespec>();
        // SAFETY: room for `left` events, which is at most MOST.
        let done = unsafe {
            libc::syscall(libc::SYS_io_getevents, context, left, left, events.as_mut_ptr(), forever)
        };
        if done < 0 {
            if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted {
                continue;
            }
            // The kernel may still write to the buffers, which are not to be given back then.
            std::process::abort();
        }
        for event in events.iter().take(usize::try_from(done).unwrap_or(0)) {
            let Some(read) = reads.get_mut(event.data as usize) else { continue };
            read.done = usize::try_from(event.result)
                .map_err(|_| io::Error::from_raw_os_error(i32::try_from(-event.result).unwrap_or(libc::EIO)));
        }
        left -= done;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn the_layouts_are_the_kernels() {
        assert_eq!((size_of::<Request>(), size_of::<Event>()), (64, 32));
        assert_eq!(std::mem::offset_of!(Request, opcode), 16);
        assert_eq!(std::mem::offset_of!(Request, buffer), 24);
        assert_eq!(std::mem::offset_of!(Request, offset), 40);
    }

    #[test]
    fn each_read_has_its_own_bytes_or_error() {
        let bytes: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &bytes).unwrap();
        let (mut first, mut second, mut short, mut none) = ([0; 512], [0; 5000], [0; 100], [0; 8]);
        fn read(offset: u64, buffer: &mut [u8]) -> Read<'_> {
            Read { offset, buffer, done: Ok(0) }
        }
        let mut reads = [
            read(70_000, &mut first[..]),
            read(3, &mut second[..]),
            read(99_990, &mut short[..]),
            read(200_000, &mut none[..]),
        ];
        super::read(file.as_file().as_fd(), &mut reads).unwrap();
        let done: Vec<usize> = reads.iter().map(|read| *read.done.as_ref().unwrap()).collect();
        assert_eq!(done, [512, 5000, 10, 0]);
        assert_eq!((&first[..], &second[..]), (&bytes[70_000..70_512], &bytes[3..5003]));
        let closed = std::fs::File::create(file.path()).unwrap();
        let mut reads = [read(0, &mut first)];
        // Not open for reading.
        let refused = super::read(closed.as_fd(), &mut reads).is_err() || reads[0].done.is_err();
        assert!(refused, "{reads:?}");
    }
}
