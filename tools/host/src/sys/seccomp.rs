//! System calls that a process gives up for good (seccomp(2), include/uapi/linux/seccomp.h and
//! filter.h). An allow list: what is not on it fails with EPERM. Not with a signal, for a call that a
//! new libc makes in some corner must not end a session; whoever took the process over gains nothing
//! from either.

use libc::sock_filter;
use std::io;

/// What a call's arguments must be. Only their low halves are looked at, so this is for arguments that
/// the kernel takes as 32 bits, and for masks.
#[derive(Clone, Copy, Debug)]
pub enum Arguments<'a> {
    Any,
    /// The argument of this number is one of these.
    OneOf(u8, &'a [u32]),
    /// The argument of this number has none of these bits.
    Without(u8, u32),
}

/// A system call's number, as `libc::SYS_*`, with what it may be called with.
pub type Allowed<'a> = (libc::c_long, Arguments<'a>);

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xC000_003E; // AUDIT_ARCH_X86_64
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xC000_00B7; // AUDIT_ARCH_AARCH64

// struct seccomp_data
const NUMBER_OFFSET: u32 = 0;
const ARCHITECTURE_OFFSET: u32 = 4;
const ARGUMENTS_OFFSET: u32 = 16;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const BITS: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// Confines this thread, and those that it starts, to these calls. No new privileges must be set.
pub fn allow_only(allowed: &[Allowed<'_>]) -> io::Result<()> {
    let program = program(allowed)?;
    let length = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let filter = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel copies the program, which lives until the call is over, and changes nothing.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const filter) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn program(allowed: &[Allowed<'_>]) -> io::Result<Vec<sock_filter>> {
    let refuse = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
    let mut program = vec![
        step(LOAD, ARCHITECTURE_OFFSET, 0, 0),
        step(EQUAL, ARCHITECTURE, 1, 0),
        step(RETURN, libc::SECCOMP_RET_KILL_PROCESS, 0, 0),
        step(LOAD, NUMBER_OFFSET, 0, 0),
    ];
    for (number, arguments) in allowed {
        let number = u32::try_from(*number).map_err(|_| io::ErrorKind::InvalidInput)?;
        let check = check(*arguments, refuse);
        let skip = u8::try_from(check.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        program.push(step(EQUAL, number, 0, skip));
        program.extend(check);
    }
    program.push(step(RETURN, refuse, 0, 0));
    Ok(program)
}

/// What follows a number that matched. Always ends in a return.
fn check(arguments: Arguments<'_>, refuse: u32) -> Vec<sock_filter> {
    let load = |argument: u8| step(LOAD, ARGUMENTS_OFFSET + 8 * u32::from(argument), 0, 0);
    let (allow, refuse) = (step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0), step(RETURN, refuse, 0, 0));
    match arguments {
        Arguments::Any => vec![allow],
        Arguments::OneOf(argument, values) => {
            let mut steps = vec![load(argument)];
            for value in values {
                steps.extend([step(EQUAL, *value, 0, 1), allow]);
            }
            steps.push(refuse);
            steps
        }
        Arguments::Without(argument, mask) => vec![load(argument), step(BITS, mask, 0, 1), refuse, allow],
    }
}

/// `jt` and `jf` are how many steps are passed over when a comparison holds, and when it does not.
fn step(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn what_is_not_allowed_fails_and_the_rest_works() {
        // A thread has a filter of its own, and it ends with the thread.
        std::thread::spawn(|| {
            rustix::thread::set_no_new_privs(true).unwrap();
            let (reader, writer) = std::io::pipe().unwrap();
            let (prot, map) = (libc::PROT_EXEC.cast_unsigned(), libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            let mut allowed: Vec<Allowed<'_>> = [
                libc::SYS_write,
                libc::SYS_read,
                libc::SYS_close,
                libc::SYS_munmap,
                libc::SYS_futex,
                libc::SYS_brk,
                libc::SYS_madvise,
                libc::SYS_rt_sigprocmask,
                libc::SYS_sigaltstack,
                libc::SYS_exit,
                libc::SYS_mprotect,
            ]
            .map(|number| (number, Arguments::Any))
            .to_vec();
            allowed.push((libc::SYS_mmap, Arguments::Without(2, prot)));
            allowed.push((libc::SYS_ioctl, Arguments::OneOf(1, &[libc::FIONREAD as u32, 0x5421])));
            allow_only(&allowed).unwrap();
            rustix::io::write(&writer, b"x").unwrap();
            assert_eq!(rustix::io::ioctl_fionread(&reader).unwrap(), 1);
            let refused = |result: rustix::io::Result<()>| assert_eq!(result, Err(rustix::io::Errno::PERM));
            refused(rustix::io::dup(&reader).map(drop));
            refused(rustix::termios::tcgetattr(&reader).map(drop));
            let map = |prot| {
                // SAFETY: a mapping of its own, which nobody uses.
                let at = unsafe { libc::mmap(std::ptr::null_mut(), 4096, prot, map, -1, 0) };
                at != libc::MAP_FAILED
            };
            assert!(map(libc::PROT_READ) && !map(libc::PROT_READ | libc::PROT_EXEC));
            assert!(reader.as_raw_fd() > 0);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_step_is_what_the_kernel_reads() {
        assert_eq!((size_of::<sock_filter>(), LOAD, EQUAL, BITS, RETURN), (8, 0x20, 0x15, 0x45, 0x06));
    }
}
