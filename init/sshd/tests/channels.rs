//! Programs: what they are given, what comes back, how they end.

mod harness;

use harness::{Log, Server, authorize, bytes, make_key, noise, run, sftp_server, until, wait, write};
use host::sys::process::{self, Spawn};
use host::sys::tty;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};

#[test]
fn streams_and_status_come_back_apart() {
    need_client!();
    let server = Server::with_key();
    let done = server.run("echo out; echo err >&2; exit 7");
    assert_eq!((done.text().as_str(), done.code()), ("out\n", Some(7)));
    // Before it, bash may complain that this user cannot read root's start-up files.
    assert!(done.stderr.ends_with("err\n"), "{}", done.stderr);
    assert_eq!(server.run("true").code(), Some(0));
    let missing = server.run("/nonexistent");
    assert_eq!(missing.code(), Some(127), "{}", missing.stderr);
}

#[test]
fn a_signal_that_ends_a_program_is_told() {
    need_client!();
    let server = Server::with_key();
    let done = run(server.ssh(&["-v"]).arg("kill -TERM $$"), b"");
    assert_eq!(done.code(), Some(255));
    assert!(done.stderr.contains("rtype exit-signal"), "{}", done.stderr);
}

#[test]
fn input_ends_where_it_ends() {
    need_client!();
    let server = Server::with_key();
    let done = run(server.ssh(&[]).arg("cat; echo end"), b"in\n").succeeds();
    assert_eq!(done.text(), "in\nend\n");
    // A program that stops reading is no reason to hang or to fail.
    let done = run(server.ssh(&[]).arg("head -c 1"), &noise(3 << 20)).succeeds();
    assert_eq!(done.stdout.len(), 1);
}

#[test]
fn bytes_of_a_command_and_of_the_environment_need_not_be_utf8() {
    need_client!();
    let server = Server::with_key();
    let done = run(server.ssh(&[]).arg(bytes(b"printf '\xff\xfe' | od -An -tx1")), b"").succeeds();
    assert_eq!(done.text().trim(), "ff fe");
    let mut command = server.ssh(&["-o", "SendEnv=LANG LC_* COLORTERM LD_PRELOAD"]);
    command
        .env("LC_NAME", bytes(b"\xff"))
        .env("LANG", "de_DE.UTF-8")
        .env("LC_ALL", "C")
        .env("COLORTERM", "24bit");
    let done = run(command.arg("echo $LANG,$LC_ALL,$COLORTERM,$LC_NAME,$LD_PRELOAD"), b"").succeeds();
    assert_eq!(done.text(), "de_DE.UTF-8,C,24bit,,\n");
}

#[test]
fn a_program_starts_clean() {
    need_client!();
    let server = Server::with_key();
    let script = "ls /proc/self/fd | wc -l; cat /proc/self/oom_score_adj;
        [ $(cut -d' ' -f6 /proc/$$/stat) = $$ ] && echo own session; echo $USER $HOME ${SSH_CONNECTION%% *}
        grep SigIgn /proc/self/status | cut -f2";
    let done = server.run(script).succeeds();
    let text = done.text();
    let (rest, ignored) = text.trim().rsplit_once('\n').unwrap();
    // 0, 1, 2 and the one that ls reads the directory through.
    assert_eq!(rest, "4\n0\nown session\nroot /root 127.0.0.1");
    // Signals 32 and 33 are libc's own: whoever runs this test may have left them ignored.
    assert_eq!(u64::from_str_radix(ignored, 16).unwrap() & !0x1_8000_0000, 0, "{ignored}");
}

#[test]
fn a_terminal_has_its_size_and_follows_it() {
    need_client!();
    let server = Server::with_key();
    let pty = tty::open().unwrap();
    tty::resize(&pty.master, 80, 24, 0, 0).unwrap();
    let script = "stty size; trap 'stty size; exit 5' WINCH; echo ready on $SSH_TTY as $TERM; while :; do sleep 1 & wait; done";
    let command = server.ssh(&["-tt"]);
    let mut argv: Vec<OsString> = vec!["/usr/bin/ssh".into()];
    argv.extend(command.get_args().map(OsStr::to_os_string));
    argv.push(script.into());
    let argv: Vec<&OsStr> = argv.iter().map(OsString::as_os_str).collect();
    let environment = [("TERM".into(), "no-such-terminal".into())];
    let mut child = Spawn::new(&argv, &environment);
    let terminal = File::from(pty.terminal);
    child.stdin = Some(terminal.try_clone().unwrap());
    child.stdout = Some(terminal.try_clone().unwrap());
    child.stderr = Some(terminal);
    child.terminal = true;
    let pid = process::spawn(child).unwrap();
    let master = File::from(pty.master);
    // Only the server's side needs one that does not block.
    rustix::io::ioctl_fionbio(&master, false).unwrap();
    let seen = Log::of(master.try_clone().unwrap());
    seen.wait_for("24 80");
    seen.wait_for("ready on /dev/pts/");
    seen.wait_for("as xterm-256color");
    tty::resize(&master, 132, 43, 0, 0).unwrap();
    seen.wait_for("43 132");
    assert_eq!(process::wait_for(pid).unwrap(), process::Ended::Status(5));
}

#[test]
fn a_shell_is_a_login_shell() {
    need_client!();
    let server = Server::with_key();
    let done = run(&mut server.ssh(&["-T"]), b"echo $0; exit 4\n");
    assert_eq!(done.code(), Some(4), "{}", done.stderr);
    assert!(["-bash\n", "-sh\n"].iter().any(|name| done.text().ends_with(name)), "{}", done.text());
    // On a terminal as well, with the last words of a program that ends at once.
    let done = run(server.ssh(&["-tt"]).arg("tty; exit 3"), b"");
    assert_eq!(done.code(), Some(3), "{}", done.stderr);
    assert!(done.text().contains("/dev/pts/"), "{}", done.text());
}

#[test]
fn where_bash_cannot_be_started_there_is_another_shell_and_a_line_that_says_so() {
    need_client!();
    let cases = [
        ("/nonexistent/bash", "/nonexistent/bash is not there: is its layer mounted?"),
        ("/etc/passwd", "Permission denied"),
    ];
    for (bash, reason) in cases {
        let prepare = |dir: &Path| authorize(dir, &make_key(dir, "key", &["-t", "ed25519"]));
        let server = Server::start(prepare, &["--bash", bash, "--busybox", "/bin/sh"]);
        let line = format!("bash cannot be started ({reason}): this is busybox sh");
        let done = server.run("echo $0 $SHELL; exit 7");
        assert_eq!((done.text().as_str(), done.code()), ("sh /bin/sh\n", Some(7)), "{bash}");
        assert_eq!(done.stderr, format!("{line}\n"), "{bash}: once, and not among what the command says");
        // On a terminal, which a child that fails to start would have hung up.
        let done = run(&mut server.ssh(&["-tt"]), b"echo this is $0 on $(tty); exit 4\n");
        assert_eq!(done.code(), Some(4), "{bash}: {}", done.text());
        assert!(done.text().starts_with(&format!("{line}\r\n")), "{bash}: {}", done.text());
        assert!(done.text().contains("this is -sh on /dev/pts/"), "{bash}: {}", done.text());
    }
}

#[test]
fn a_line_that_drops_ends_what_ran_on_it() {
    need_client!();
    let server = Server::with_key();
    let mut client = server
        .ssh(&[])
        .arg("echo $$; exec sleep 1000")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let seen = Log::of(client.stdout.take().unwrap());
    seen.wait_for("\n");
    let program = format!("/proc/{}", seen.text().trim());
    assert!(Path::new(&program).exists());
    client.kill().unwrap();
    wait(&mut client, "ssh");
    assert!(until(|| !Path::new(&program).exists()), "{program} is still there");
}

#[test]
fn a_program_that_nobody_hears_any_more_is_told_and_the_client_ends() {
    need_client!();
    let server = Server::with_key();
    // As in `ssh host yes | head -n 1`: the client stays until the channel is closed.
    let mut client = server.ssh(&[]).arg("yes; echo ended >&2").stdout(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 2];
    client.stdout.take().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(&first, b"y\n");
    assert_eq!(wait(&mut client, "ssh host yes").code(), Some(0), "the shell goes on after yes");
}

#[test]
fn what_is_too_much_for_one_request_is_refused_and_not_left_waiting() {
    need_client!();
    let server = Server::with_key();
    let mut command = server.ssh(&["-o", "SendEnv=LC_*"]);
    for number in 0..60 {
        command.env(format!("LC_X{number}"), "x".repeat(4000));
    }
    let done = run(command.arg("echo in"), b"");
    assert_eq!(done.code(), Some(255), "{}", done.text());
    server.log.wait_for("ask for a program: control socket: message is too long");
}

#[test]
fn a_channel_that_is_closed_ends_its_program_and_no_other() {
    need_client!();
    let server = Server::with_key();
    let path = format!("ControlPath={}", server.path("master").display());
    let mut master = server.ssh(&["-N", "-o", "ControlMaster=yes", "-o", &path]).spawn().unwrap();
    assert!(until(|| server.path("master").exists()));
    let start = || {
        let mut session = server.ssh(&["-o", &path]);
        let mut session = session.arg("echo $$; exec sleep 1000").stdout(Stdio::piped()).spawn().unwrap();
        let seen = Log::of(session.stdout.take().unwrap());
        seen.wait_for("\n");
        (session, format!("/proc/{}", seen.text().trim()))
    };
    let ((mut closed, program), (mut kept, other)) = (start(), start());
    closed.kill().unwrap();
    wait(&mut closed, "ssh");
    assert!(until(|| !Path::new(&program).exists()), "{program} is still there");
    assert!(Path::new(&other).exists());
    for child in [&mut kept, &mut master] {
        child.kill().unwrap();
        wait(child, "ssh");
    }
}

#[test]
fn one_connection_serves_many_sessions_one_after_the_other() {
    need_client!();
    // A program without a shell, for the shell's start-up files of this host may take their time.
    let server = Server::start(
        |dir| harness::authorize(dir, &harness::make_key(dir, "key", &["-t", "ed25519"])),
        &["--sftp-server", "/bin/hostname"],
    );
    let path = format!("ControlPath={}", server.path("master").display());
    let mut master = server.ssh(&["-N", "-o", "ControlMaster=yes", "-o", &path]).spawn().unwrap();
    assert!(until(|| server.path("master").exists()));
    // More than a connection may have at once.
    for number in 0..120 {
        let done = run(server.ssh(&["-s", "-o", &path]).arg("sftp"), b"").succeeds();
        assert!(!done.stdout.is_empty(), "session {number}");
    }
    master.kill().unwrap();
    wait(&mut master, "ssh");
}

#[test]
fn a_subsystem_that_is_not_there_is_refused() {
    need_client!();
    let server = Server::with_key();
    let done = run(server.ssh(&["-s"]).arg("netconf"), b"");
    assert!(done.stderr.contains("subsystem request failed"), "{}", done.stderr);
    server.log.wait_for("no subsystem netconf");
}

#[test]
fn files_survive_the_way_there_and_back() {
    need_client!();
    let Some(sftp) = sftp_server() else { return };
    let server = Server::start(
        |dir| harness::authorize(dir, &harness::make_key(dir, "key", &["-t", "ed25519"])),
        &["--sftp-server", &sftp],
    );
    let content = noise(20 << 20);
    let there = server.path("there");
    fs::create_dir(&there).unwrap();
    // Latin-1: what russh-sftp would mangle.
    let name = there.join(OsStr::from_bytes(b"caf\xe9"));
    fs::write(server.path("file"), &content).unwrap();
    let target = |path: &Path| {
        let mut target = OsString::from("root@127.0.0.1:");
        target.push(path);
        target
    };
    for (program, mode) in [("scp over sftp", "-s"), ("scp of old", "-O")] {
        let _ = fs::remove_file(&name);
        let mut up = Command::new("scp");
        up.args([mode, "-q"]).args(server.options()).arg(server.path("file")).arg(target(&name));
        run(&mut up, b"").succeeds();
        assert!(fs::read(&name).unwrap() == content, "{program}: up");
        let mut down = Command::new("scp");
        down.args([mode, "-q"]).args(server.options()).arg(target(&name)).arg(server.path("back"));
        run(&mut down, b"").succeeds();
        assert!(fs::read(server.path("back")).unwrap() == content, "{program}: down");
        fs::remove_file(server.path("back")).unwrap();
    }
    write(server.dir.path(), "there/plain", "x");
    let batch = format!("cd {0}\nrename plain moved\nmkdir sub\nls -1\n", there.display());
    let mut sftp = Command::new("sftp");
    sftp.args(["-q", "-b", "-"]).args(server.options()).arg("root@127.0.0.1");
    let listing = run(&mut sftp, batch.as_bytes()).succeeds();
    assert!(listing.text().contains("moved") && listing.text().contains("sub"), "{}", listing.text());
}

#[test]
fn what_openssh_adds_to_sftp_works() {
    need_client!();
    let Some(sftp) = sftp_server() else { return };
    let server = Server::start(
        |dir| harness::authorize(dir, &harness::make_key(dir, "key", &["-t", "ed25519"])),
        &["--sftp-server", &sftp],
    );
    let content = noise(300_000);
    fs::write(server.path("content"), &content).unwrap();
    let batch = format!(
        "cd {0}\nput -f {0}/content put\ncp put copied\nln put linked\nrename linked renamed\ndf\n",
        server.dir.path().display()
    );
    let mut sftp = Command::new("sftp");
    sftp.args(["-vvv", "-b", "-"]).args(server.options()).arg("root@127.0.0.1");
    let done = run(&mut sftp, batch.as_bytes()).succeeds();
    // By hand, since the client does without what is not offered, and says nothing.
    for sent in [
        "Received limits reply",
        "Sent message fsync@openssh.com",
        "Sent message copy-data",
        "Sent message hardlink@openssh.com",
        "Sent message posix-rename@openssh.com",
        "Received statvfs reply",
    ] {
        assert!(done.stderr.contains(sent), "no {sent:?} in {}", done.stderr);
    }
    assert!(done.text().contains("%Capacity"), "{}", done.text());
    for name in ["put", "copied", "renamed"] {
        assert!(fs::read(server.path(name)).unwrap() == content, "{name}");
    }
    let same = |name: &str| std::os::unix::fs::MetadataExt::ino(&fs::metadata(server.path(name)).unwrap());
    assert_eq!(same("put"), same("renamed"), "a hard link");
}
