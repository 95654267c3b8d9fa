//! What the transport gives up before the first byte of a stranger, for its whole life: root, every
//! system call but those that move bytes between descriptors it is passed, and memory beyond what a
//! login needs, until somebody logged in. It opens no file and no socket, starts
//! nothing, signals nobody, and maps nothing executable.

use anyhow::{Context, Result};
use host::sys::process;
use host::sys::seccomp::{self, Allowed, Arguments};
use russh::keys::key::safe_rng;
use russh::keys::ssh_key::private::Ed25519PrivateKey;
use rustix::process::{Resource, Rlimit, Signal};

/// Address space before login: russh holds a packet of 256 KiB or two then.
const MEMORY: u64 = 192 << 20;
/// Address space afterwards: a window of 2 MiB for each of a hundred programs and each of 512
/// forwarded streams, though they are never all full, and what waits to be sent.
const MEMORY_LOGGED_IN: u64 = 2 << 30;
/// A hundred programs have three each, as many streams as may be have one.
const DESCRIPTORS: u64 = 1024;

/// To be called once, after the runtime has made what it needs.
pub fn enter() -> Result<()> {
    for (resource, most) in [(Resource::Nofile, DESCRIPTORS), (Resource::Nproc, 0), (Resource::Core, 0)] {
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        rustix::process::setrlimit(resource, limit).context("set a limit")?;
    }
    limit_memory(MEMORY)?;
    // The first use of the generator of random numbers, in a static program, opens /dev/urandom and
    // keeps it.
    Ed25519PrivateKey::random(&mut safe_rng());
    process::drop_privileges(crate::NOBODY).context("give up root")?;
    // However its monitor ends: when its time to log in is over, or when another has to have its place, which are meant for
    // a transport that is taken over, too. After root, whose end takes it back (PR_SET_PDEATHSIG(2const)); that the monitor
    // has ended already is told by its socket, and no stranger has said anything yet.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).context("end with the monitor")?;
    // A kernel of somebody else's may lack it. Root is given up all the same, and the owner gets in.
    if let Err(error) = seccomp::allow_only(&calls()) {
        host::log!("transport: seccomp: {error}");
    }
    Ok(())
}

/// Somebody logged in.
pub fn widen() -> Result<()> {
    limit_memory(MEMORY_LOGGED_IN)
}

/// The larger one is for ever. By whom? By this process, since a monitor without CAP_SYS_RESOURCE, as in
/// a container, may not; against faults in what a stranger sends that is as good.
fn limit_memory(most: u64) -> Result<()> {
    let limit = Rlimit { current: Some(most), maximum: Some(MEMORY_LOGGED_IN) };
    rustix::process::setrlimit(Resource::As, limit).context("limit memory")
}

fn calls() -> Vec<Allowed<'static>> {
    let plain = [
        // Bytes and descriptors.
        libc::SYS_read,
        libc::SYS_write,
        libc::SYS_readv,
        libc::SYS_writev,
        libc::SYS_recvfrom,
        libc::SYS_sendto,
        libc::SYS_recvmsg,
        libc::SYS_sendmsg,
        libc::SYS_accept4,
        libc::SYS_shutdown,
        libc::SYS_close,
        libc::SYS_fcntl,
        libc::SYS_getsockopt,
        libc::SYS_getsockname,
        libc::SYS_getpeername,
        // Waiting.
        libc::SYS_epoll_ctl,
        libc::SYS_epoll_pwait,
        libc::SYS_ppoll,
        libc::SYS_futex,
        libc::SYS_clock_gettime,
        libc::SYS_clock_nanosleep,
        libc::SYS_nanosleep,
        libc::SYS_restart_syscall,
        libc::SYS_sched_yield,
        // Memory.
        libc::SYS_brk,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_madvise,
        // russh keeps keys out of swap.
        libc::SYS_mlock,
        libc::SYS_munlock,
        // Keys.
        libc::SYS_getrandom,
        // A panic, and the end.
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sigaltstack,
        libc::SYS_getpid,
        libc::SYS_gettid,
        libc::SYS_exit,
        libc::SYS_exit_group,
    ];
    #[cfg(target_arch = "x86_64")]
    let old = [libc::SYS_epoll_wait, libc::SYS_poll];
    #[cfg(not(target_arch = "x86_64"))]
    let old = [];
    let executable = libc::PROT_EXEC.cast_unsigned();
    plain
        .into_iter()
        .chain(old)
        .map(|number| (number, Arguments::Any))
        .chain([
            (libc::SYS_mmap, Arguments::Without(2, executable)),
            (libc::SYS_mprotect, Arguments::Without(2, executable)),
            // Not TIOCSTI, which types into a terminal.
            (libc::SYS_ioctl, Arguments::OneOf(1, &[FIONBIO, TIOCSWINSZ])),
            (libc::SYS_prlimit64, Arguments::OneOf(0, &[0])),
            (libc::SYS_setrlimit, Arguments::OneOf(0, &[libc::RLIMIT_AS])),
            (libc::SYS_setsockopt, Arguments::OneOf(2, &[TCP_NODELAY, TCP_QUICKACK])),
        ])
        .collect()
}

// As in the kernel's headers, where libc has other types for them.
const FIONBIO: u32 = 0x5421;
const TIOCSWINSZ: u32 = 0x5414;
const TCP_NODELAY: u32 = 1;
const TCP_QUICKACK: u32 = 12;
