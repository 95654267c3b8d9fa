//! A file system that does not answer: of a connection, what asks it hangs, and nothing else.

mod harness;

use contract::state;
use harness::{Server, authorize, make_key, run, skip, until, write};
use host::sys::mount;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::mount::{MountFlags, UnmountFlags};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// A FUSE file system that is asked and never answers.
struct Dead {
    fuse: File,
    path: PathBuf,
}

impl Dead {
    /// `None`: it cannot be had here.
    fn mount(path: PathBuf) -> Option<Dead> {
        fs::create_dir_all(&path).unwrap();
        let fuse = File::options().read(true).write(true).open("/dev/fuse").ok()?;
        let data = format!("fd={},rootmode=40000,user_id=0,group_id=0", fuse.as_raw_fd());
        mount::mount("dead", &path, "fuse", MountFlags::NODEV | MountFlags::NOSUID, &data).ok()?;
        let dead = Dead { fuse, path };
        let (FUSE_INIT, _, unique) = dead.request() else { panic!("another request") };
        // fuse_out_header and fuse_init_out of <linux/fuse.h>, version 7.31, with no flags.
        let mut answer = [0; 80];
        answer[..4].copy_from_slice(&80u32.to_ne_bytes());
        answer[8..16].copy_from_slice(&unique.to_ne_bytes());
        answer[16..20].copy_from_slice(&7u32.to_ne_bytes());
        answer[20..24].copy_from_slice(&31u32.to_ne_bytes());
        answer[36..40].copy_from_slice(&4096u32.to_ne_bytes()); // max_write
        (&dead.fuse).write_all(&answer).unwrap();
        Some(dead)
    }

    /// The next one: opcode, process and number.
    fn request(&self) -> (u32, u32, u64) {
        let mut fds = [PollFd::new(&self.fuse, PollFlags::IN)];
        let deadline = Timespec::try_from(harness::DEADLINE).unwrap();
        assert_eq!(rustix::event::poll(&mut fds, Some(&deadline)).unwrap(), 1, "nobody asks for a file");
        // FUSE_MIN_READ_BUFFER
        let mut request = [0; 8192];
        assert!((&self.fuse).read(&mut request).unwrap() >= 40, "a header");
        let word = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().unwrap());
        (word(4), word(32), u64::from_ne_bytes(request[8..16].try_into().unwrap()))
    }

    /// Waits for a process that looks for a file, which hangs from now on. Gives its command line.
    fn hangs(&self) -> String {
        let (FUSE_LOOKUP, pid, _) = self.request() else { panic!("another request") };
        String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cmdline")).unwrap()).replace('\0', " ")
    }

    fn at(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }
}

const FUSE_LOOKUP: u32 = 1;
const FUSE_INIT: u32 = 26;

impl Drop for Dead {
    fn drop(&mut self) {
        // Whoever hangs gets an error by it, as the connection ends with the last descriptor.
        self.fuse = File::open("/dev/null").unwrap();
        let _ = mount::umount(&self.path, UnmountFlags::DETACH);
    }
}

struct Client(Child);

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_file_system_that_does_not_answer_stops_only_the_program_that_asks_it() {
    need_client!();
    let server = Server::start(
        |dir| {
            authorize(dir, &make_key(dir, "key", &["-t", "ed25519"]));
            // Layers are coming: programs are looked for before they are started.
            let service = state::Service {
                name: "layers".to_string(),
                state: "running".to_string(),
                ..state::Service::default()
            };
            let init = state::Init { services: vec![service], ..state::Init::default() };
            write(dir, "run/lifeboat/state/init.json", &serde_json::to_string(&init).unwrap());
        },
        &[],
    );
    let place = |name: &str| Dead::mount(server.path(name));
    // One each, since whoever makes a file keeps others from looking into the same directory.
    let (Some(program), Some(near), Some(far)) = (place("program"), place("near"), place("far")) else {
        return skip("no FUSE without root");
    };
    let path = format!("ControlPath={}", server.path("master").display());
    let over = |arguments: &[&str]| server.ssh(&[&["-o", path.as_str()], arguments].concat());
    let start = |mut command: Command| {
        Client(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    };
    let _master = start(over(&["-N", "-o", "ControlMaster=yes"]));
    assert!(until(|| server.path("master").exists()));
    let lives = |after: &str| {
        let done = run(over(&[]).arg("echo in; exit 3"), b"");
        assert_eq!((done.text().as_str(), done.code()), ("in\n", Some(3)), "after {after}: {}", done.stderr);
    };

    let mut command = over(&[]);
    command.arg(program.at("bin/x"));
    let _program = start(command);
    let asks = program.hangs();
    assert!(!asks.contains(" monitor "), "{asks}");
    lives("a program that is there");

    let local = server.path("local");
    let forward = format!("{}:{}", local.display(), near.at("socket"));
    run(&mut over(&["-O", "forward", "-L", &forward]), b"").succeeds();
    let _stream = UnixStream::connect(&local).unwrap();
    near.hangs();
    lives("a connection to a socket that is there");

    let forward = format!("{}:{}", far.at("socket"), local.display());
    let begun = Instant::now();
    let done = run(&mut over(&["-O", "forward", "-R", &forward]), b"");
    assert!(!done.status.success(), "it was granted");
    far.hangs();
    lives("a place to listen at that is there");
    assert!(begun.elapsed() < harness::DEADLINE / 2, "it took {:?}", begun.elapsed());
}

#[test]
fn a_place_to_listen_at_that_is_taken_is_refused_and_stays() {
    need_client!();
    let server = Server::with_key();
    let taken = server.path("taken");
    fs::write(&taken, "another's").unwrap();
    let forward = format!("{}:{}", taken.display(), "/nowhere");
    let options = ["-N", "-o", "ExitOnForwardFailure=yes", "-R", &forward];
    let done = run(&mut server.ssh(&options), b"");
    assert!(done.stderr.contains("forwarding failed"), "{}", done.stderr);
    assert_eq!(fs::read_to_string(&taken).unwrap(), "another's");
}
