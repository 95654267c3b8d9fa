//! Sessions that begin before the layers are mounted: who waits, who does not, and for how long.

mod harness;

use contract::state;
use harness::{DEADLINE, Log, Server, authorize, make_key, run, until, wait};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A server whose bash, sftp-server and `program` are in a layer that is coming.
struct Early {
    server: Server,
    layer: TempDir,
}

impl Early {
    fn start(extra: &[&str]) -> Early {
        Early::with(extra, "")
    }

    /// With these boot parameters.
    fn with(extra: &[&str], words: &str) -> Early {
        let layer = TempDir::new().unwrap();
        let place = |name: &str| layer.path().join(name).display().to_string();
        let (bash, sftp) = (place("bash"), place("sftp-server"));
        let usr = layer.path().display().to_string();
        let arguments = ["--usr", &usr, "--bash", &bash, "--busybox", "/bin/sh", "--sftp-server", &sftp];
        let prepare = |dir: &std::path::Path| {
            authorize(dir, &make_key(dir, "key", &["-t", "ed25519"]));
            harness::write(dir, "etc/lifeboat/params", words);
        };
        let early = Early { server: Server::start(prepare, &[&arguments[..], extra].concat()), layer };
        early.layers_are("running");
        early
    }

    fn publish<T: serde::Serialize>(&self, name: &str, state: &T) {
        let path = self.server.path(&format!("run/lifeboat/state/{name}.json"));
        host::statefile::replace(&path, &serde_json::to_vec(state).unwrap(), 0o600).unwrap();
    }

    /// As init says of their service.
    fn layers_are(&self, state: &str) {
        let service =
            state::Service { name: "layers".to_string(), state: state.to_string(), ..Default::default() };
        self.publish("init", &state::Init { services: vec![service], ..Default::default() });
    }

    /// What is in them is there, and they say that they are.
    fn layers_come(&self) {
        symlink("/bin/sh", self.layer.path().join("bash")).unwrap();
        for (name, script) in
            [("program", "#!/bin/sh\necho ran $1\n"), ("sftp-server", "#!/bin/sh\necho sftp\n")]
        {
            fs::write(self.program(name), script).unwrap();
            fs::set_permissions(self.program(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        self.publish("layers", &state::Layers { done: true, ..Default::default() });
    }

    fn program(&self, name: &str) -> PathBuf {
        self.layer.path().join(name)
    }

    /// Begins a session that is not to end before the layers come; what it says.
    fn begin(&self, arguments: &[&str], command: &str) -> (Child, Log, Log) {
        let mut ssh = self.server.ssh(arguments);
        if !command.is_empty() {
            ssh.arg(command);
        }
        let mut child =
            ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (stdout, stderr) = (Log::of(child.stdout.take().unwrap()), Log::of(child.stderr.take().unwrap()));
        (child, stdout, stderr)
    }

    /// So many sessions have been told to wait.
    fn until_waiting(&self, count: usize) {
        let waiting = || self.server.log.text().matches("its program waits for the layers").count();
        assert!(until(|| waiting() == count), "{} of {count} wait", waiting());
    }
}

fn type_and_end(child: &mut Child, text: &str) -> Option<i32> {
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    wait(child, "ssh").code()
}

#[test]
fn a_shell_waits_for_its_bash_and_a_command_for_its_program() {
    need_client!();
    let early = Early::start(&[]);
    let program = early.program("program").display().to_string();
    let (mut shell, shell_says, shell_errors) = early.begin(&["-T"], "");
    let (mut terminal, terminal_says, _) = early.begin(&["-tt"], "");
    let (mut command, command_says, command_errors) = early.begin(&[], &format!("{program} it"));
    let (mut sftp, sftp_says, _) = early.begin(&["-s"], "sftp");
    early.until_waiting(4);
    early.layers_come();
    assert_eq!(type_and_end(&mut shell, "echo $0; exit 4\n"), Some(4));
    assert_eq!(type_and_end(&mut terminal, "echo this is $0; exit 5\n"), Some(5));
    assert_eq!((type_and_end(&mut command, ""), type_and_end(&mut sftp, "")), (Some(0), Some(0)));
    shell_says.wait_for("-bash\n");
    terminal_says.wait_for("this is -bash");
    command_says.wait_for("ran it\n");
    sftp_says.wait_for("sftp\n");
    for errors in [shell_errors, command_errors] {
        assert!(!errors.text().contains("busybox"), "{}", errors.text());
    }
}

#[test]
fn what_the_nucleus_has_goes_on_at_once_and_says_nothing() {
    need_client!();
    let early = Early::start(&[]);
    for (command, want) in [("true", ""), ("cd / && pwd | cat", "/\n")] {
        let done = run(early.server.ssh(&[]).arg(command), b"");
        assert_eq!(
            (done.code(), done.text().as_str(), done.stderr.as_str()),
            (Some(0), want, ""),
            "{command}"
        );
    }
    assert!(!early.server.log.text().contains("waits for the layers"));
    // Where nothing more comes, it is worth a line.
    early.layers_are("failed");
    let done = early.server.run("true").succeeds();
    assert!(done.stderr.contains("this is busybox sh"), "{}", done.stderr);
}

#[test]
fn layers_that_fail_or_never_come_are_not_waited_for_longer_than_it_helps() {
    need_client!();
    let early = Early::start(&[]);
    let (mut shell, says, errors) = early.begin(&["-T"], "");
    early.until_waiting(1);
    early.layers_are("failed");
    assert_eq!(type_and_end(&mut shell, "echo $0; exit 4\n"), Some(4));
    says.wait_for("-sh\n");
    errors.wait_for("this is busybox sh");

    let early = Early::start(&["--patience", "1"]);
    let began = Instant::now();
    let done = early.server.run("no-such-program");
    assert_eq!(done.code(), Some(127), "{}", done.stderr);
    assert!(done.stderr.contains("this is busybox sh"), "{}", done.stderr);
    assert!(began.elapsed() >= Duration::from_secs(1) && began.elapsed() < DEADLINE);
}

#[test]
fn a_command_waits_longer_than_a_shell_while_a_layer_gets_on() {
    need_client!();
    let early = Early::start(&["--patience", "2"]);
    let program = early.program("program").display().to_string();
    let (mut command, says, _) = early.begin(&[], &format!("{program} late"));
    let (mut subsystem, files, _) = early.begin(&["-s"], "sftp");
    early.until_waiting(2);
    // A line that is slow, and longer than the patience.
    for got in 1..=8 {
        let began = Instant::now();
        assert!(until(|| began.elapsed() >= Duration::from_millis(500)));
        let coming = vec![state::Coming { name: "10-userland".into(), bytes: 9, got, ..Default::default() }];
        early.publish("layers", &state::Layers { coming, ..Default::default() });
    }
    early.layers_come();
    says.wait_for("ran late\n");
    files.wait_for("sftp\n");
    assert_eq!(wait(&mut command, "ssh").code(), Some(0));
    assert_eq!(wait(&mut subsystem, "ssh").code(), Some(0));
}

#[test]
fn one_that_waits_stops_no_other_and_is_not_started_once_its_client_is_gone() {
    need_client!();
    let early = Early::start(&[]);
    let server = &early.server;
    let path = format!("ControlPath={}", server.path("master").display());
    let mut master = server.ssh(&["-N", "-o", "ControlMaster=yes", "-o", &path]).spawn().unwrap();
    assert!(until(|| server.path("master").exists()));
    let mark = server.path("mark");
    let (program, marks) = (early.program("program"), format!("echo x > {}", mark.display()));
    let (mut gone, _, _) = early.begin(&["-o", &path], &format!("{marks}; {}", program.display()));
    early.until_waiting(1);
    let done = run(server.ssh(&["-o", &path]).arg("echo meanwhile"), b"").succeeds();
    assert_eq!(done.text(), "meanwhile\n");
    gone.kill().unwrap();
    wait(&mut gone, "ssh");
    // The master of OpenSSH 9.2 closes the channel when something else wakes it.
    run(server.ssh(&["-o", &path]).arg("true"), b"").succeeds();
    server.log.wait_for("its client waits no longer");
    early.layers_come();
    // By the same monitor, after whatever waited.
    let done = run(server.ssh(&["-o", &path]).arg(format!("{} now", program.display())), b"").succeeds();
    assert_eq!(done.text(), "ran now\n");
    assert!(!mark.exists());
    master.kill().unwrap();
    wait(&mut master, "ssh");
}

#[test]
fn a_connection_whose_program_waited_costs_nothing_afterwards() {
    need_client!();
    let early = Early::start(&[]);
    let (mut shell, says, _) = early.begin(&["-T"], "");
    early.until_waiting(1);
    early.layers_come();
    let mut input = shell.stdin.take().unwrap();
    input.write_all(b"echo begun\n").unwrap();
    says.wait_for("begun\n");
    let children = format!("/proc/{0}/task/{0}/children", early.server.child.id());
    let monitor = fs::read_to_string(children).unwrap().split_ascii_whitespace().next().unwrap().to_string();
    // What any service does, for the rest of the boot.
    early.layers_are("done");
    let before = ticks(&monitor);
    std::thread::sleep(Duration::from_secs(1));
    let used = ticks(&monitor) - before;
    assert!(used < 20, "{used} hundredths of a second of a processor in one second");
    drop(input);
    wait(&mut shell, "ssh");
}

/// Processor time of a process, in hundredths of a second: proc_pid_stat(5), fields 14 and 15.
fn ticks(pid: &str) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_ascii_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn a_kept_session_waits_for_no_more_than_a_shell() {
    need_client!();
    let early = Early::with(&[], "rescue.session=keep\n");
    let (mut waits, says, _) = early.begin(&["-tt"], "");
    early.until_waiting(1);
    symlink("/bin/sh", early.layer.path().join("bash")).unwrap();
    // One layer is there, and another is still fetched.
    let coming = vec![state::Coming { name: "30-firmware".into(), bytes: 9, got: 1, ..Default::default() }];
    early.publish("layers", &state::Layers { done: true, coming, ..Default::default() });
    let (mut second, second_says, _) = early.begin(&["-tt"], "");
    assert_eq!(type_and_end(&mut second, "echo this is $0; exit 5\n"), Some(5));
    second_says.wait_for("this is ");
    early.until_waiting(1);
    early.publish("layers", &state::Layers { done: true, ..Default::default() });
    assert_eq!(type_and_end(&mut waits, "echo this is $0; exit 4\n"), Some(4));
    says.wait_for("this is ");
}
