//! A pool of workers: processes that touch block devices and so may never return. A worker that
//! misses its deadline is abandoned with its disk, which is recorded below /run/lifeboat/hung and
//! not touched again while that process lives. One good disk is never held up by a bad one.

use crate::sys::process;
use crate::{Root, proc};
use contract::paths;
use contract::wire::{MAX_REPORT, MAX_WORKERS, Reply, WorkerRequest};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, VecDeque};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What is run as a worker, unless a test says otherwise.
pub const PROGRAM: &[&str] = &["/lifeboat/bin/rescue", "worker"];

/// This very program, for one that has the verb `worker`.
pub const SELF: &[&str] = &["/proc/self/exe", "worker"];

/// Workers are started as they are needed, since to start one takes as long as looking at a dozen disks that
/// answer at once: the first, one more for so many requests that wait, as long as there are processors, ...
const EACH: usize = 64;
/// ... and twice as many whenever none has answered for so long.
const SLOW: Duration = Duration::from_millis(20);

/// Room for a message before its length is known: memory that is touched costs more than a second call.
const LIKELY: usize = 4 << 10;

/// One request about one device.
#[derive(Clone, Debug)]
pub struct Job {
    /// Of the whole disk, where it has one: what is remembered as hung.
    pub diskseq: Option<u64>,
    /// For a person.
    pub path: String,
    pub request: WorkerRequest,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Outcome<T> {
    Done(T),
    /// The worker answered, and said why not.
    Failed(String),
    /// No worker could be started to ask it: nothing is known of it, and a later try may do.
    NotStarted(String),
    /// It did not answer in time, now or before.
    Hung(String),
}

/// How a worker comes to be.
#[derive(Clone, Debug)]
enum Start {
    Program(Vec<String>),
    /// A copy of this process, which costs less than starting a program.
    Copy(fn()),
}

pub struct Pool {
    start: Start,
    root: Root,
    idle: Vec<Worker>,
    /// Abandoned ones, to be reaped when the kernel lets them go.
    abandoned: Vec<i32>,
    /// Disks that are noted below /run/lifeboat/hung.
    noted: BTreeSet<u64>,
}

struct Worker {
    pid: i32,
    socket: UnixStream,
}

/// A worker with a request.
struct Busy {
    worker: Worker,
    job: usize,
    deadline: Instant,
    received: Vec<u8>,
}

impl Pool {
    pub fn new(root: Root) -> Pool {
        Pool::of(root, PROGRAM)
    }

    pub fn of(root: Root, argv: &[&str]) -> Pool {
        Pool::started(root, Start::Program(argv.iter().map(|word| word.to_string()).collect()))
    }

    /// Of copies of this process that do `work`, which serves on descriptor 0 as [`serve`] does; for as long as it has
    /// no second thread, which a copy would lack: then [`SELF`] is started.
    pub fn of_copies(root: Root, work: fn()) -> Pool {
        Pool::started(root, Start::Copy(work))
    }

    fn started(root: Root, start: Start) -> Pool {
        Pool { start, root, idle: Vec::new(), abandoned: Vec::new(), noted: BTreeSet::new() }
    }

    /// Runs all jobs, at most [`MAX_WORKERS`] at once, each with the same time from when it begins.
    /// The outcomes are in the jobs' order.
    pub fn run<T: DeserializeOwned>(&mut self, jobs: &[Job], time: Duration) -> Vec<Outcome<T>> {
        let mut outcomes: Vec<Option<Outcome<T>>> = jobs.iter().map(|_| None).collect();
        self.run_each(jobs, time, |job, outcome| outcomes[job] = Some(outcome));
        // Every index was filled above.
        outcomes
            .into_iter()
            .map(|outcome| outcome.unwrap_or_else(|| Outcome::Failed("not asked".to_string())))
            .collect()
    }

    /// The same, for who waits for none longer than for that one: `tell` gets each outcome as it comes, one at a time, with
    /// its job's index, each index once.
    pub fn run_each<T: DeserializeOwned>(
        &mut self,
        jobs: &[Job],
        time: Duration,
        mut tell: impl FnMut(usize, Outcome<T>),
    ) {
        self.abandoned.retain(|pid| !process::has_ended(*pid));
        self.noted = noted(&self.root);
        let mut waiting: VecDeque<usize> = (0..jobs.len()).collect();
        let mut busy: Vec<Busy> = Vec::new();
        let mut wanted = (jobs.len() / EACH).clamp(1, MAX_WORKERS);
        if wanted > 1 {
            wanted = wanted.min(std::thread::available_parallelism().map_or(1, usize::from));
        }
        while !waiting.is_empty() || !busy.is_empty() {
            while busy.len() < wanted
                && let Some(job) = waiting.pop_front()
            {
                let diskseq = jobs[job].diskseq;
                let hangs = busy.iter().any(|other| diskseq.is_some() && jobs[other.job].diskseq == diskseq);
                if let Some(why) = self.remembered(diskseq) {
                    tell(job, Outcome::Hung(why));
                } else if hangs && waiting.iter().any(|other| jobs[*other].diskseq != diskseq) {
                    // One request to one disk at a time, while others wait: a hung disk costs one worker.
                    waiting.push_back(job);
                    break;
                } else {
                    let why = |error| format!("start a worker for {}: {error}", jobs[job].path);
                    match self.idle.pop().map_or_else(|| self.spawn(), Ok) {
                        Ok(worker) => match begin(worker, &jobs[job], job, time) {
                            Ok(started) => busy.push(started),
                            Err(error) => tell(job, Outcome::Failed(why(error))),
                        },
                        Err(error) => tell(job, Outcome::NotStarted(why(error))),
                    }
                }
            }
            let may_grow = !waiting.is_empty() && wanted < MAX_WORKERS;
            let done = await_some(&mut busy, may_grow.then_some(SLOW));
            if done.is_empty() && may_grow {
                wanted = (wanted * 2).min(MAX_WORKERS);
            }
            for (done, result) in done {
                let job = &jobs[done.job];
                let outcome = match result {
                    Ok(reply) => {
                        self.idle.push(done.worker);
                        outcome(&reply)
                    }
                    Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                        let why = format!("{} did not answer within {} s", job.path, time.as_secs());
                        self.remember(job, done.worker.pid);
                        self.abandoned.push(done.worker.pid);
                        Outcome::Hung(why)
                    }
                    Err(error) => {
                        self.abandoned.push(done.worker.pid);
                        Outcome::Failed(format!("the worker for {} ended: {error}", job.path))
                    }
                };
                tell(done.job, outcome);
            }
        }
    }

    fn spawn(&self) -> io::Result<Worker> {
        let (near, far) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        if let Start::Copy(work) = &self.start
            && let Some(pid) = process::copy(&far, *work)?
        {
            return Ok(Worker { pid, socket: near.into() });
        }
        let argv: Vec<&str> = match &self.start {
            // A call that hangs (host::call) has left a thread behind.
            Start::Copy(_) => SELF.to_vec(),
            Start::Program(argv) => argv.iter().map(String::as_str).collect(),
        };
        let [program, arguments @ ..] = &argv[..] else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let child = Command::new(program)
            .args(arguments)
            .env_clear()
            .stdin(Stdio::from(far))
            .stdout(Stdio::null())
            // One that is abandoned would keep a session open whose pipe it holds.
            .stderr(Stdio::null())
            .spawn()?;
        let pid = child.id().cast_signed();
        Ok(Worker { pid, socket: near.into() })
    }

    fn remembered(&self, diskseq: Option<u64>) -> Option<String> {
        let why = hung(&self.root, diskseq.filter(|seq| self.noted.contains(seq))?);
        if why.is_none() {
            // It came back after all, or never hung.
            let _ = std::fs::remove_file(format!("{}/{}", paths::HUNG, diskseq?));
        }
        why
    }

    fn remember(&mut self, job: &Job, pid: i32) {
        let Some(diskseq) = job.diskseq else { return };
        self.noted.insert(diskseq);
        let path = format!("{}/{diskseq}", paths::HUNG);
        if let Err(error) = std::fs::write(&path, format!("{pid} {}\n", job.path)) {
            crate::log!("write {path}: {error}");
        }
    }
}

impl Drop for Pool {
    /// Idle workers end when their socket does; none is waited for.
    fn drop(&mut self) {
        for Worker { pid, socket } in self.idle.drain(..) {
            drop(socket);
            // At once or never: it holds no disk.
            let _ = process::wait_for(pid);
        }
    }
}

fn begin(mut worker: Worker, job: &Job, index: usize, time: Duration) -> io::Result<Busy> {
    let request = serde_json::to_vec(&job.request)?;
    send(&mut worker.socket, &request)?;
    Ok(Busy { worker, job: index, deadline: Instant::now() + time, received: Vec::new() })
}

/// Disks of which somebody noted that they hang.
fn noted(root: &Root) -> BTreeSet<u64> {
    let names = root.list(paths::HUNG).unwrap_or_default();
    names.iter().filter_map(|name| name.to_str()?.parse().ok()).collect()
}

/// Why a disk is not to be touched: an abandoned worker of it still lives.
pub fn hung(root: &Root, diskseq: u64) -> Option<String> {
    let text = root.line(format!("{}/{diskseq}", paths::HUNG))?;
    let (pid, path) = text.split_once(' ')?;
    let alive = proc::stat(root, pid.parse().ok()?).is_some_and(|stat| !stat.has_ended());
    alive.then(|| format!("{path} hangs: process {pid} has been waiting for it"))
}

/// [`Reply`] as it is read here: straight into what was asked for, without a tree of JSON in between.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Answer<T> {
    answer: Kind,
    #[serde(default = "Option::default")]
    value: Option<T>,
    #[serde(default)]
    error: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Done,
    Failed,
    Value,
}

/// The same as it is written.
#[derive(Serialize)]
struct Value<'a, T> {
    answer: &'static str,
    value: &'a T,
}

/// A worker's reply with a value.
pub fn value<T: Serialize>(value: &T) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&Value { answer: "value", value })
}

fn outcome<T: DeserializeOwned>(reply: &[u8]) -> Outcome<T> {
    let answer = match serde_json::from_slice::<Answer<T>>(reply) {
        Ok(answer) => answer,
        Err(error) => return Outcome::Failed(format!("a worker's answer is not understood: {error}")),
    };
    match answer.answer {
        Kind::Failed => Outcome::Failed(answer.error),
        // Of a request that has no value to answer with.
        Kind::Done | Kind::Value => match answer.value.map_or_else(|| serde_json::from_str("null"), Ok) {
            Ok(value) => Outcome::Done(value),
            Err(error) => Outcome::Failed(format!("a worker's answer is not understood: {error}")),
        },
    }
}

/// Waits until at least one of the busy ones has answered, ended or missed its deadline; no longer than `most`.
fn await_some(busy: &mut Vec<Busy>, most: Option<Duration>) -> Vec<(Busy, io::Result<Vec<u8>>)> {
    let Some(first) = busy.iter().map(|one| one.deadline).min() else { return Vec::new() };
    let left = first.saturating_duration_since(Instant::now());
    let left = most.map_or(left, |most| most.min(left));
    let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
    let mut fds: Vec<PollFd<'_>> =
        busy.iter().map(|one| PollFd::new(&one.worker.socket, PollFlags::IN)).collect();
    // An interrupted wait is a short one.
    let _ = poll(&mut fds, Some(&timeout));
    let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
    let mut done = Vec::new();
    for index in (0..busy.len()).rev() {
        let result = if ready[index] {
            advance(&mut busy[index]).transpose()
        } else if busy[index].deadline <= Instant::now() {
            Some(Err(io::ErrorKind::TimedOut.into()))
        } else {
            None
        };
        if let Some(result) = result {
            done.push((busy.swap_remove(index), result));
        }
    }
    done
}

/// Reads what is there; the whole reply once it is complete.
fn advance(busy: &mut Busy) -> io::Result<Option<Vec<u8>>> {
    make_room(&mut busy.received);
    if rustix::io::read(&busy.worker.socket, rustix::buffer::spare_capacity(&mut busy.received))? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    message(&mut busy.received)
}

/// Sends one message: its length in four bytes, then its bytes.
pub fn send(mut socket: impl Write, message: &[u8]) -> io::Result<()> {
    let length = u32::try_from(message.len()).ok().filter(|length| *length as usize <= MAX_REPORT);
    let length = length.ok_or(io::Error::new(io::ErrorKind::InvalidData, "a message above the limit"))?;
    socket.write_all(&[&length.to_le_bytes(), message].concat())
}

/// Receives one message; `None` at the end of the peer. `received` is what came of it, and of the next, so far.
fn receive(socket: impl AsFd, received: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    loop {
        if let Some(message) = message(received)? {
            return Ok(Some(message));
        }
        make_room(received);
        match rustix::io::read(&socket, rustix::buffer::spare_capacity(received)) {
            Ok(0) if received.is_empty() => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// For what comes next: of a message of which the length is known all that is missing, since a list that grows is twice as
/// long in the end, for each worker that answers.
fn make_room(received: &mut Vec<u8>) {
    let length = received.first_chunk::<4>().map_or(0, |prefix| u32::from_le_bytes(*prefix) as usize);
    let missing = (length.min(MAX_REPORT) + 4).saturating_sub(received.len());
    received.reserve_exact(missing.max(LIKELY));
}

/// The first message of those, once it is whole.
fn message(received: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    let Some((prefix, rest)) = received.split_first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_le_bytes(*prefix) as usize;
    if length > MAX_REPORT {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message above the limit"));
    }
    if rest.len() < length {
        return Ok(None);
    }
    let next = rest[length..].to_vec();
    received.truncate(4 + length);
    received.drain(..4);
    Ok(Some(std::mem::replace(received, next)))
}

/// The worker's end: answers every request until the pool closes the socket, which is stdin.
/// The replies are those of [`value`], or a [`Reply`] as JSON.
pub fn serve(mut answer: impl FnMut(WorkerRequest) -> io::Result<Vec<u8>>) -> io::Result<()> {
    let stdin: OwnedFd = crate::sys::inherited(0).try_clone_to_owned()?;
    let socket = UnixStream::from(stdin);
    let mut received = Vec::new();
    while let Some(message) = receive(&socket, &mut received)? {
        let mut bytes = match serde_json::from_slice(&message) {
            Ok(request) => answer(request)?,
            Err(error) => {
                serde_json::to_vec(&Reply::Failed { error: format!("request not understood: {error}") })?
            }
        };
        if bytes.len() > MAX_REPORT {
            bytes =
                serde_json::to_vec(&Reply::Failed { error: "the report is above the limit".to_string() })?;
        }
        send(&socket, &bytes)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A worker in shell: answers every request with its own script.
    fn pool(script: &str) -> (Pool, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        (Pool::of(Root::at(directory.path()).unwrap(), &["/bin/sh", "-c", script]), directory)
    }

    fn job(path: &str) -> Job {
        let request = WorkerRequest::SetReadOnly { path: path.to_string(), read_only: true };
        Job { diskseq: None, path: path.to_string(), request }
    }

    /// `{"answer":"value","value":5}` with its length in front, once.
    const FIVE: &str =
        r#"head -c 4 >/dev/null; printf '\034\000\000\000{"answer":"value","value":5}' >&0; cat >/dev/null"#;

    #[test]
    fn every_job_gets_its_answer() {
        let (mut pool, _directory) = pool(FIVE);
        let outcomes = pool.run::<u32>(&[job("a")], Duration::from_secs(30));
        assert_eq!(outcomes, [Outcome::Done(5)]);
    }

    #[test]
    fn a_report_is_taken_up_to_its_limit_and_not_beyond() {
        // Its length in front, of four bytes; 29 of it are not the text's.
        let reply = |length: usize| {
            let prefix: String = u32::try_from(length)
                .unwrap()
                .to_le_bytes()
                .iter()
                .map(|byte| format!("\\{byte:03o}"))
                .collect();
            format!(
                r#"head -c 4 >/dev/null; {{ printf '{prefix}{{"answer":"value","value":"'; head -c {} /dev/zero |
                tr '\000' a; printf '"}}'; }} >&0; cat >/dev/null"#,
                length - 29
            )
        };
        for (length, is_taken) in [(3 << 20, true), (MAX_REPORT, true), (MAX_REPORT + 1, false)] {
            let (mut pool, _directory) = pool(&reply(length));
            let outcomes = pool.run::<String>(&[job("a")], Duration::from_secs(60));
            let taken = matches!(&outcomes[0], Outcome::Done(text) if text.len() == length - 29);
            assert_eq!(taken, is_taken, "{length}");
        }
    }

    #[test]
    fn workers_are_started_as_they_are_needed() {
        let directory = tempfile::tempdir().unwrap();
        let started = |body: &str, jobs: usize| {
            let log = directory.path().join("log");
            std::fs::write(&log, "").unwrap();
            let script = format!("echo >> {}; {body}", log.display());
            let root = Root::at(directory.path()).unwrap();
            let jobs: Vec<Job> = (0..jobs).map(|number| job(&number.to_string())).collect();
            let outcomes =
                Pool::of(root, &["/bin/sh", "-c", &script]).run::<u32>(&jobs, Duration::from_secs(60));
            assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Done(5)), "{outcomes:?}");
            std::fs::read_to_string(log).unwrap().lines().count()
        };
        // The request's length is its first byte, since it is short.
        let length = r"$(head -c 4 | od -An -tu1 | { read -r a b; echo $a; })";
        let reply = r#"printf '\034\000\000\000{"answer":"value","value":5}' >&0"#;
        let answer = format!("n={length}; [ $n ] || exit; head -c $n > /dev/null");
        assert_eq!(started(&format!("while :; do {answer}; {reply}; done"), 1), 1);
        // Every one takes its time, so that one worker after the other would take eight times as long.
        assert!(started(&format!("while :; do {answer}; sleep 0.3; {reply}; done"), 8) > 3);
    }

    #[test]
    fn a_reply_is_read_as_what_was_asked_for() {
        let done = serde_json::to_vec(&Reply::Done).unwrap();
        let failed = serde_json::to_vec(&Reply::Failed { error: "no".to_string() }).unwrap();
        let generic = serde_json::to_vec(&Reply::Value { value: serde_json::json!([1, 2]) }).unwrap();
        assert_eq!(outcome::<()>(&done), Outcome::Done(()));
        assert_eq!(outcome::<()>(&failed), Outcome::Failed("no".to_string()));
        assert_eq!(outcome::<Vec<u8>>(&value(&[1, 2]).unwrap()), Outcome::Done(vec![1, 2]));
        assert_eq!(outcome::<Vec<u8>>(&generic), Outcome::Done(vec![1, 2]));
        assert!(matches!(outcome::<Vec<u8>>(&done), Outcome::Failed(_)));
        assert!(matches!(outcome::<Vec<u8>>(b"{}"), Outcome::Failed(_)));
    }

    #[test]
    fn a_worker_that_never_answers_is_abandoned_and_the_others_go_on() {
        let (mut pool, _directory) = pool("exec sleep 1000");
        let began = Instant::now();
        let outcomes = pool.run::<u32>(&[job("/dev/sda"), job("/dev/sdb")], Duration::from_millis(300));
        assert!(began.elapsed() < Duration::from_secs(20));
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Hung(_))), "{outcomes:?}");
        for pid in &pool.abandoned {
            process::signal(*pid, rustix::process::Signal::KILL).unwrap();
        }
    }

    #[test]
    fn an_answer_is_told_while_another_device_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let lock = directory.path().join("sdb-answers");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, &lock, mode).unwrap();
        // The worker for sdb waits until somebody opens the pipe for writing.
        let script = format!(
            r#"n=$(head -c 4 | od -An -tu1 | {{ read -r a b; echo $a; }})
            case $(head -c $n) in *sdb*) read -r word < {}; esac
            printf '\034\000\000\000{{"answer":"value","value":5}}' >&0; cat > /dev/null"#,
            lock.display()
        );
        let mut pool = Pool::of(Root::at(directory.path()).unwrap(), &["/bin/sh", "-c", &script]);
        let mut told = Vec::new();
        pool.run_each::<u32>(&[job("/dev/sdb"), job("/dev/sda")], Duration::from_secs(60), |job, outcome| {
            if job == 1 {
                std::fs::write(&lock, "go\n").unwrap();
            }
            told.push((job, outcome));
        });
        assert_eq!(told, [(1, Outcome::Done(5)), (0, Outcome::Done(5))]);
    }

    #[test]
    fn a_worker_that_could_not_be_started_is_told_from_one_that_failed() {
        let directory = tempfile::tempdir().unwrap();
        let mut pool = Pool::of(Root::at(directory.path()).unwrap(), &["/nonexistent/worker"]);
        let outcomes = pool.run::<u32>(&[job("/dev/sda")], Duration::from_secs(30));
        assert!(
            matches!(&outcomes[..], [Outcome::NotStarted(why)] if why.contains("/dev/sda")),
            "{outcomes:?}"
        );
    }

    #[test]
    fn a_worker_that_dies_is_an_error_of_its_device_alone() {
        let (mut pool, _directory) = pool("exit 3");
        let outcomes = pool.run::<u32>(&[job("/dev/sda")], Duration::from_secs(30));
        assert!(matches!(&outcomes[..], [Outcome::Failed(why)] if why.contains("/dev/sda")), "{outcomes:?}");
    }
}
