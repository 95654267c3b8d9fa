//! A tool's whole work in a copy of its process. The copy touches devices and may never return; this process touches
//! none, watches it, and passes on what it prints. Where every disk answers, which is nearly always, that is all there
//! is to do: nothing is asked from process to process and nothing encoded. A copy that does not get on is given up with
//! all that it said, and the caller does the work once more with workers ([`crate::workers`]), which find out which
//! disk it is while the others go on.

use crate::sys::{self, process};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How often it is looked whether the copy gets on, ...
const TICK: Duration = Duration::from_millis(50);
/// ... and how many devices it has to begin with in that time: with fewer, workers that read all at once are quicker.
const FEW: u32 = 5;
/// Passed on at once.
const PIECE: usize = 16 << 10;

/// What the copy tells: how many devices it has begun with, and how far it is. In memory of both processes.
#[derive(Clone, Copy, Debug)]
pub struct Beat {
    begun: &'static AtomicU32,
    state: &'static AtomicU32,
}

/// Of `state`: at work; the answer is there and no device is needed any more; from here on, done with an exit status.
const AT_WORK: u32 = 0;
const ANSWERED: u32 = 1;
const DONE: u32 = 2;

impl Beat {
    fn new() -> io::Result<Beat> {
        let [begun, state, ..] = sys::memory::shared()?;
        Ok(Beat { begun, state })
    }

    /// Before a device is touched.
    pub fn begin(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    /// Whoever reads from now on watches over the devices itself.
    pub fn rest(&self) {
        self.begun.store(0, Ordering::Relaxed);
    }

    /// No device is touched any more, and what is printed from now on counts.
    pub fn answered(&self) {
        self.state.store(ANSWERED, Ordering::Release);
    }
}

/// Does `work` in a copy that has `keep` and no other descriptor of this process open, and passes on what it prints
/// once it has said that it has its answer. `work` gives the exit status, or `None` for what cannot be done there.
/// `None`: it was not done, and nothing of it was printed.
///
/// Errors: of writing to standard output.
pub fn run(keep: BorrowedFd<'_>, work: impl FnOnce(Beat) -> Option<i32>) -> io::Result<Option<i32>> {
    let Ok(Some((beat, pid, out, err))) = begin(keep, work) else { return Ok(None) };
    if !is_answered(beat, &out) {
        // It ends now, or once its disk answers; nobody waits for it.
        if let Err(error) = process::signal(pid, rustix::process::Signal::KILL) {
            crate::log!("end the copy {pid}: {error}");
        }
        return Ok(None);
    }
    pass_on(out, err)?;
    match beat.state.load(Ordering::Acquire) {
        AT_WORK | ANSWERED => Err(io::Error::other("the process that reads ended early")),
        done => Ok(Some((done - DONE).cast_signed())),
    }
}

fn begin(
    keep: BorrowedFd<'_>,
    work: impl FnOnce(Beat) -> Option<i32>,
) -> io::Result<Option<(Beat, i32, OwnedFd, OwnedFd)>> {
    let beat = Beat::new()?;
    let flags = rustix::pipe::PipeFlags::CLOEXEC;
    let ((out, out_end), (err, err_end)) = (rustix::pipe::pipe_with(flags)?, rustix::pipe::pipe_with(flags)?);
    let work = || {
        if let Some(status) = work(beat) {
            beat.state.store(DONE.saturating_add(status.cast_unsigned()), Ordering::Release);
        }
    };
    let pid = process::copy_with([None, Some(&out_end), Some(&err_end)], Some(keep), work)?;
    Ok(pid.map(|pid| (beat, pid, out, err)))
}

/// Waits until the copy has its answer, has ended or does not get on.
fn is_answered(beat: Beat, out: &OwnedFd) -> bool {
    let tick = Timespec { tv_sec: 0, tv_nsec: TICK.subsec_nanos().into() };
    let mut before = 0;
    loop {
        let mut fds = [PollFd::new(out, PollFlags::IN)];
        let woken = poll(&mut fds, Some(&tick));
        if beat.state.load(Ordering::Acquire) != AT_WORK {
            return true;
        }
        let begun = beat.begun.load(Ordering::Relaxed);
        match woken {
            // Its end of the pipe is closed.
            Ok(1..) => return false,
            Ok(0) if begun != 0 && begun.saturating_sub(before) < FEW => return false,
            Ok(0) | Err(_) => before = begun,
        }
    }
}

/// Until the copy has closed both. What goes to standard error is passed on first, as it was said first.
fn pass_on(out: OwnedFd, err: OwnedFd) -> io::Result<()> {
    let (mut out, mut err) = (Some(out), Some(err));
    let mut piece = Vec::with_capacity(PIECE);
    while out.is_some() || err.is_some() {
        let ready = {
            let mut fds: Vec<PollFd<'_>> =
                [&err, &out].into_iter().flatten().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
            match poll(&mut fds, None) {
                Err(Errno::INTR) => continue,
                other => other?,
            };
            let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
            [&err, &out].map(|fd| fd.is_some() && ready.next() == Some(true))
        };
        for (is_ready, from, to) in [(ready[0], &mut err, 2), (ready[1], &mut out, 1)] {
            let Some(fd) = from.as_ref().filter(|_| is_ready) else { continue };
            piece.clear();
            let length = match rustix::io::read(fd, rustix::buffer::spare_capacity(&mut piece)) {
                Err(Errno::INTR) => continue,
                other => other?,
            };
            match write_all(to, &piece) {
                Ok(()) if length > 0 => {}
                // A reader that has seen enough; nobody is left to tell when stderr is gone.
                Ok(()) | Err(Errno::PIPE) => *from = None,
                Err(_) if to == 2 => *from = None,
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

fn write_all(to: i32, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(sys::inherited(to).as_fd(), bytes) {
            Ok(length) => bytes = &bytes[length..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
