//! Starting, signalling and reaping processes.

use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, WaitStatus};
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// A child to start. It gets a session of its own, default signals with none blocked, and no
/// descriptor but those named here.
#[derive(Debug)]
pub struct Spawn<'a> {
    pub argv: &'a [&'a OsStr],
    /// What the program is told as its name, when that is not its path: a login shell's `-bash`.
    pub arg0: Option<&'a OsStr>,
    pub directory: &'a Path,
    /// The whole environment: nothing is inherited.
    pub environment: &'a [(OsString, OsString)],
    pub stdin: Option<File>,
    pub stdout: Option<File>,
    pub stderr: Option<File>,
    /// Becomes [`contract::event::DESCRIPTOR`] in the child.
    pub events: Option<OwnedFd>,
    /// -1000 (never killed by the kernel) to 1000; written to /proc/self/oom_score_adj.
    pub oom_score: i16,
    /// 0 to 19.
    pub nice: i32,
    /// Make stdin the controlling terminal of the new session.
    pub terminal: bool,
    /// What is executed where the kernel refuses the program.
    pub instead: Option<Instead<'a>>,
}

/// By the same child: where one fails that has a terminal, the kernel hangs that up for all who have it open.
#[derive(Debug)]
pub struct Instead<'a> {
    pub argv: &'a [&'a OsStr],
    pub arg0: Option<&'a OsStr>,
    pub environment: &'a [(OsString, OsString)],
    /// The line that goes to stderr before it, if any: of the program that was refused, and why.
    pub notice: Option<fn(&Path, &io::Error) -> String>,
}

impl<'a> Spawn<'a> {
    pub fn new(argv: &'a [&'a OsStr], environment: &'a [(OsString, OsString)]) -> Spawn<'a> {
        Spawn {
            argv,
            arg0: None,
            directory: Path::new("/"),
            environment,
            stdin: None,
            stdout: None,
            stderr: None,
            events: None,
            oom_score: 0,
            nice: 0,
            terminal: false,
            instead: None,
        }
    }
}

/// The arguments of execve(2), made before the fork.
struct Program {
    path: CString,
    argv: Vec<CString>,
    environment: Vec<CString>,
}

impl Program {
    fn new(
        argv: &[&OsStr],
        arg0: Option<&OsStr>,
        environment: &[(OsString, OsString)],
    ) -> io::Result<Program> {
        let [program, arguments @ ..] = argv else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "empty argv"));
        };
        let string = |word: &OsStr| CString::new(word.as_bytes());
        let variable = |(name, value): &(OsString, OsString)| {
            CString::new([name.as_bytes(), b"=", value.as_bytes()].concat())
        };
        let arg0 = arg0.unwrap_or(program);
        Ok(Program {
            path: string(program)?,
            argv: std::iter::once(arg0)
                .chain(arguments.iter().copied())
                .map(string)
                .collect::<Result<_, _>>()?,
            environment: environment.iter().map(variable).collect::<Result<_, _>>()?,
        })
    }

    /// Returns only when the kernel refused. execvp(3), which std calls, makes a success of ENOEXEC: it gives what the
    /// kernel does not recognise to /bin/sh, as a script.
    fn execute(&self) -> io::Error {
        let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
            strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
        };
        let (argv, environment) = (pointers(&self.argv), pointers(&self.environment));
        // SAFETY: strings that end in NUL, and arrays of them that end in null, which live until this returns.
        unsafe { libc::execve(self.path.as_ptr(), argv.as_ptr(), environment.as_ptr()) };
        io::Error::last_os_error()
    }

    fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(self.path.as_bytes()))
    }
}

/// Keeps descriptor 3 taken in this process for good, so that the descriptor over which `spawn`
/// learns of a failed exec is never the one that the child's event stream is put on. To be called
/// before this process opens anything it keeps; needs nothing mounted.
pub fn reserve_event_descriptor() -> io::Result<()> {
    loop {
        let root = rustix::fs::open("/", rustix::fs::OFlags::PATH, rustix::fs::Mode::empty())?;
        // The lowest free number each time; those below 3 are free only without a console.
        if root.into_raw_fd() >= contract::event::DESCRIPTOR {
            return Ok(());
        }
    }
}

/// Reads as empty and takes everything.
pub fn null() -> io::Result<File> {
    File::options().read(true).write(true).open("/dev/null")
}

/// fork(2): a copy of this process that does `work` and ends. Of its descriptors it has `socket` as 0, /dev/null as 1 and
/// 2, and no other: whatever it waits for, it holds nothing of ours open. `None`: there is, or may be, a second thread,
/// which a copy would lack (proc_pid_task(5)).
pub fn copy(socket: &OwnedFd, work: fn()) -> io::Result<Option<i32>> {
    copy_with([Some(socket), None, None], None, work)
}

/// The same with these as 0, 1 and 2, /dev/null where there is none, and with `keep`.
pub fn copy_with(
    stdio: [Option<&OwnedFd>; 3],
    keep: Option<BorrowedFd<'_>>,
    work: impl FnOnce(),
) -> io::Result<Option<i32>> {
    if !has_one_thread() {
        return Ok(None);
    }
    let null = null()?;
    // SAFETY: there is no other thread that could hold a lock, so the copy may do what this process may.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let numbers = stdio.map(|fd| fd.map_or(null.as_raw_fd(), |fd| fd.as_raw_fd()));
            let close = |first: u32, last: u32| {
                // SAFETY: what this process knows of other descriptors than `keep` is never used again in the copy,
                // which returns to nobody.
                first > last || unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } == 0
            };
            let kept = keep.map_or(2, |keep| keep.as_raw_fd().cast_unsigned());
            let is_set = (0..)
                .zip(numbers)
                // SAFETY: the numbers are those of open descriptors.
                .all(|(target, number)| unsafe { libc::dup2(number, target) } == target)
                && close(3, kept.saturating_sub(1))
                && close(kept.max(2) + 1, u32::MAX);
            let done = is_set && std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_ok();
            // SAFETY: ends the process, and nothing of it runs before: what is buffered is the original's to write.
            // That it takes a thread with it which hangs may last, so nothing is held open until then.
            unsafe {
                libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0);
                libc::_exit(i32::from(!done))
            }
        }
        pid => Ok(Some(pid)),
    }
}

fn has_one_thread() -> bool {
    unsafe extern "C" {
        /// <sys/single_threaded.h>, glibc 2.32: that there is no other thread; it may be 0 when there is none either.
        static __libc_single_threaded: libc::c_char;
    }
    // SAFETY: only a thread that is there can change it, by making a second one.
    let is_known = unsafe { __libc_single_threaded } != 0;
    is_known || std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1)
}

/// Whether a child has ended, without waiting for it; it is reaped then. One that is no child (any more) has.
pub fn has_ended(pid: i32) -> bool {
    let Some(pid) = rustix::process::Pid::from_raw(pid) else { return true };
    !matches!(rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::NOHANG), Ok(None))
}

/// Starts a child; it is reaped by [`reap`]. The program is a path: it is looked for nowhere.
///
/// Errors: what fork or execve said.
pub fn spawn(spawn: Spawn<'_>) -> io::Result<i32> {
    let program = Program::new(spawn.argv, spawn.arg0, spawn.environment)?;
    let instead = match spawn.instead {
        Some(Instead { argv, arg0, environment, notice }) => {
            Some((Program::new(argv, arg0, environment)?, notice))
        }
        None => None,
    };
    let stdio = |file: Option<File>| file.map_or_else(Stdio::null, Stdio::from);
    let mut command = Command::new(spawn.argv[0]); // in its place, `prepare` executes it
    command
        .current_dir(spawn.directory)
        .stdin(stdio(spawn.stdin))
        .stdout(stdio(spawn.stdout))
        .stderr(stdio(spawn.stderr));
    let events = spawn.events;
    let oom_score = spawn.oom_score.to_string();
    let (nice, terminal) = (spawn.nice, spawn.terminal);
    let prepare = move || -> io::Result<()> {
        rustix::process::setsid()?;
        if terminal {
            rustix::process::ioctl_tiocsctty(super::inherited(0))?;
        }
        // Whatever fails from here on leaves a service that runs all the same.
        let _ = std::fs::write("/proc/self/oom_score_adj", &oom_score);
        if nice > 0 {
            let _ = rustix::process::setpriority_process(None, nice);
        }
        default_signals();
        if let Some(events) = &events {
            // SAFETY: in the child, between fork and exec, nobody else uses the number 3.
            if unsafe { libc::dup2(events.as_raw_fd(), contract::event::DESCRIPTOR) } == -1 {
                return Err(io::Error::last_os_error());
            }
        }
        // CLOEXEC rather than closed: the descriptor that reports a failed exec is among them.
        let first = contract::event::DESCRIPTOR + if events.is_some() { 1 } else { 0 };
        // SAFETY: marks descriptors; closes none before execve.
        unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
        let error = program.execute();
        let Some((second, notice)) = &instead else { return Err(error) };
        // Shorter than the room of a pipe or terminal. Where it cannot be shown, the program is there all the same.
        if let Some(notice) = notice {
            let line = format!("{}\n", notice(program.path(), &error));
            let _ = rustix::io::write(super::inherited(2), line.as_bytes());
        }
        second.execute();
        // Why the first one failed is the cause.
        Err(error)
    };
    // SAFETY: the caller is single-threaded (PID 1, console), so the child may allocate.
    unsafe { command.pre_exec(prepare) };
    let child = command.spawn()?;
    Ok(child.id().cast_signed())
}

/// Runs a program that owns the terminal until it ends. As system(3) has it, Ctrl-C and Ctrl-\ are the
/// program's meanwhile, and this process, in the same foreground group, takes no notice of them. It reads `input`, where
/// that is given, instead of the terminal.
pub fn foreground(program: &OsStr, arguments: &[&OsStr], input: Option<&[u8]>) -> io::Result<Ended> {
    let input = input.map(in_memory).transpose()?;
    // SAFETY: sets on the stack, given by pointer; a zeroed sigset_t is valid for sigemptyset.
    let (ours, before) = unsafe {
        let (mut ours, mut before) = (std::mem::zeroed::<libc::sigset_t>(), std::mem::zeroed());
        libc::sigemptyset(&mut ours);
        libc::sigaddset(&mut ours, libc::SIGINT);
        libc::sigaddset(&mut ours, libc::SIGQUIT);
        libc::pthread_sigmask(libc::SIG_BLOCK, &ours, &mut before);
        (ours, before)
    };
    let mut command = Command::new(program);
    command.args(arguments);
    if let Some(input) = input {
        command.stdin(input);
    }
    // SAFETY: pthread_sigmask is safe between fork and execve.
    unsafe {
        command.pre_exec(move || {
            libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
            Ok(())
        });
    }
    let ended = command.status();
    // SAFETY: as above; what came meanwhile is taken, so that it does not come afterwards.
    unsafe {
        let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        while libc::sigtimedwait(&ours, std::ptr::null_mut(), &now) > 0 {}
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
    }
    let ended = ended?;
    Ok(match (ended.code(), std::os::unix::process::ExitStatusExt::signal(&ended)) {
        (Some(status), _) => Ended::Status(status),
        (None, signal) => Ended::Signal(signal.unwrap_or(0)),
    })
}

/// A file without a name that has these bytes, to be read from its beginning: unlike a pipe it takes as many as there are,
/// and nobody waits for its reader.
fn in_memory(bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(rustix::fs::memfd_create("input", rustix::fs::MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

/// Empties this process's environment. To be called while there is one thread.
pub fn clear_environment() {
    // SAFETY: PID 1 is single-threaded and holds no pointer into the environment.
    unsafe { libc::clearenv() };
}

/// Every signal to its default and none blocked, as a program expects to be started.
fn default_signals() {
    for signal in 1..=64 {
        // SAFETY: resets dispositions of this process only; fails harmlessly for KILL, STOP and
        // the two that libc keeps for itself.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: an empty set on the stack, given to sigprocmask by pointer.
    unsafe {
        let mut none = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
}

/// Blocks the signals and gives a descriptor that is readable when one came: signalfd(2).
pub fn signal_fd(signals: &[Signal]) -> io::Result<OwnedFd> {
    // SAFETY: a zeroed sigset_t is valid for sigemptyset; the descriptor is new and owned here.
    unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&mut set);
        for signal in signals {
            libc::sigaddset(&mut set, signal.as_raw());
        }
        if libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) == -1 {
            return Err(io::Error::last_os_error());
        }
        match libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}

/// The next signal number waiting, if any.
pub fn next_signal(fd: &OwnedFd) -> Option<i32> {
    let mut info = [0u8; size_of::<libc::signalfd_siginfo>()];
    match rustix::io::read(fd, &mut info) {
        // ssi_signo is the first field, a u32.
        Ok(n) if n == info.len() => Some(i32::from_ne_bytes([info[0], info[1], info[2], info[3]])),
        _ => None,
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Status(i32),
    Signal(i32),
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Ended::Status(status) => write!(f, "exit status {status}"),
            Ended::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// The next child that ended, of any, without waiting.
pub fn reap() -> Option<(i32, Ended)> {
    let (pid, status) = rustix::process::wait(WaitOptions::NOHANG).ok()??;
    Some((pid.as_raw_nonzero().get(), ended(status)))
}

/// Waits for one child. Not for PID 1, which waits for none in particular.
pub fn wait_for(pid: i32) -> io::Result<Ended> {
    let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
    loop {
        match rustix::process::waitpid(Some(pid), WaitOptions::empty()) {
            Ok(Some((_, status))) => return Ok(ended(status)),
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn ended(status: WaitStatus) -> Ended {
    match status.terminating_signal() {
        Some(signal) => Ended::Signal(signal),
        None => Ended::Status(status.exit_status().unwrap_or(0)),
    }
}

/// Signals one process through a pidfd, so never one that took over the number.
pub fn signal(pid: i32, signal: Signal) -> io::Result<()> {
    let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    Ok(rustix::process::pidfd_send_signal(&pidfd, signal)?)
}

/// Whether there is such a process, ended or not, that was not reaped.
pub fn is_there(pid: i32) -> bool {
    Pid::from_raw(pid).is_some_and(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()).is_ok())
}

/// For a service, whose parent is init; nothing is done for one that was started by hand.
pub fn tell_init(word: Signal) -> io::Result<()> {
    match rustix::process::getppid() {
        Some(init) if init.is_init() => signal(init.as_raw_nonzero().get(), word),
        _ => Ok(()),
    }
}

/// Signals the process group that a [`spawn`]ed child leads. Only for a child not yet reaped.
pub fn signal_group(pid: i32, signal: Signal) -> io::Result<()> {
    let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(rustix::process::kill_process_group(pid, signal)?)
}

/// Gives up root for good: no group but `id`'s, no capability (setuid(2) takes them), and none to be
/// had back by an exec. For a process with one thread. Does nothing for a user who is not root.
pub fn drop_privileges(id: u32) -> io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let (user, group) = (rustix::process::Uid::from_raw(id), rustix::process::Gid::from_raw(id));
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_res_gid(group, group, group)?;
    rustix::thread::set_thread_res_uid(user, user, user)?;
    Ok(())
}

/// Signals every process but this one and PID 1: kill(-1).
pub fn signal_all(signal: Signal) {
    // SAFETY: kill with -1 has no memory effects. No process to signal is not an error here.
    unsafe { libc::kill(-1, signal.as_raw()) };
}

/// Ends the machine's run. Returns only when the kernel refused.
pub fn reboot(command: rustix::system::RebootCommand) -> io::Error {
    match rustix::system::reboot(command) {
        Ok(()) => io::Error::other("reboot(2) returned"),
        Err(error) => error.into(),
    }
}

/// A file to be executed. Another process writes it, since this one's writing end would stay open in a child that another
/// thread has between fork and execve, and the kernel executes no file that is open for writing.
#[cfg(test)]
pub fn put_program(path: &Path, content: &[u8], mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    let source = path.with_extension("source");
    std::fs::write(&source, content).unwrap();
    assert!(Command::new("cp").arg(&source).arg(path).status().unwrap().success());
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_child_gets_what_is_named_and_nothing_else() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let (mut events, events_writer) = std::io::pipe().unwrap();
        let argv = ["/bin/sh", "-c", "echo $A; ls /proc/self/fd | wc -l; echo told >&3"].map(OsStr::new);
        let environment = [("A".into(), "one".into()), ("PATH".into(), "/usr/bin:/bin".into())];
        let mut child = Spawn::new(&argv, &environment);
        child.stdout = Some(File::from(OwnedFd::from(writer)));
        child.events = Some(events_writer.into());
        spawn(child).unwrap();
        let (mut said, mut told) = (String::new(), String::new());
        reader.read_to_string(&mut said).unwrap();
        events.read_to_string(&mut told).unwrap();
        // 0, 1, 2, 3 and the one that ls reads the directory through.
        assert_eq!(said, "one\n5\n");
        assert_eq!(told, "told\n");
    }

    #[test]
    fn a_foreground_program_reads_what_it_is_given_instead_of_the_terminal() {
        // More than a pipe holds.
        let input = vec![b'x'; 200_000];
        let count = ["-c", "test $(wc -c) = 200000"].map(OsStr::new);
        assert_eq!(foreground(OsStr::new("sh"), &count, Some(&input)).unwrap(), Ended::Status(0));
    }

    #[test]
    fn an_interrupt_is_the_foreground_programs_and_not_ours() {
        // SAFETY: no handler. A shell's background jobs begin with it ignored, and what they start would too.
        unsafe { libc::signal(libc::SIGINT, libc::SIG_DFL) };
        let sh = |script: &str| foreground(OsStr::new("sh"), &["-c", script].map(OsStr::new), None).unwrap();
        assert_eq!(sh("exit 5"), Ended::Status(5));
        assert_eq!(sh("kill -INT $$; exit 5"), Ended::Signal(libc::SIGINT));
        // SAFETY: a signal to this thread alone, which has to be there still when it is blocked again.
        let raised = std::thread::spawn(|| unsafe {
            let mut set = std::mem::zeroed::<libc::sigset_t>();
            libc::sigemptyset(&mut set);
            libc::sigaddset(&mut set, libc::SIGINT);
            libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
            libc::raise(libc::SIGINT);
            foreground(OsStr::new("true"), &[], None).unwrap();
            libc::sigpending(&mut set);
            libc::sigismember(&set, libc::SIGINT)
        });
        assert_eq!(raised.join().unwrap(), 0);
    }

    #[test]
    fn a_program_that_the_kernel_refuses_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, mode: u32, content: &str| {
            let path = dir.path().join(name);
            put_program(&path, content.as_bytes(), mode);
            path.into_os_string()
        };
        let cases = [
            ("not there", dir.path().join("missing").into_os_string(), libc::ENOENT),
            ("no interpreter", file("script", 0o755, "#!/nonexistent\n"), libc::ENOENT),
            ("for nobody to run", file("plain", 0o644, "#!/bin/sh\n"), libc::EACCES),
            ("empty", file("empty", 0o755, ""), libc::ENOEXEC),
            ("no program", file("text", 0o755, "exit 0\n"), libc::ENOEXEC),
        ];
        for (label, program, want) in cases {
            let argv = [program.as_os_str()];
            assert_eq!(spawn(Spawn::new(&argv, &[])).unwrap_err().raw_os_error(), Some(want), "{label}");
        }
    }
}
