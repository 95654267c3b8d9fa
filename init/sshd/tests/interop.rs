//! Other clients than OpenSSH's, each where it is installed; what is not says SKIPPED aloud. `make
//! interop` brings them; with INTEROP set a skip is a failure.

mod harness;

use harness::{Server, authorize, make_key, noise, run, until};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

/// The program, if it is on the PATH.
fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|directory| directory.join(program).is_file());
    if !found {
        eprintln!("SKIPPED: no {program}");
        assert!(std::env::var_os("INTEROP").is_none(), "no {program}");
    }
    found
}

/// With a key in OpenSSH's format, and OpenSSH's sftp-server.
fn server(kind: &[&str]) -> Option<Server> {
    let Some(sftp) = harness::sftp_server() else {
        assert!(std::env::var_os("INTEROP").is_none(), "no sftp-server");
        return None;
    };
    Some(Server::start(|dir| authorize(dir, &make_key(dir, "key", kind)), &["--sftp-server", &sftp]))
}

fn fingerprint(server: &Server) -> String {
    server.state()["fingerprint"].as_str().unwrap().to_string()
}

#[test]
fn paramiko() {
    if !has("python3") || !Command::new("python3").args(["-c", "import paramiko"]).status().unwrap().success()
    {
        eprintln!("SKIPPED: no paramiko");
        assert!(std::env::var_os("INTEROP").is_none(), "no paramiko");
        return;
    }
    let Some(server) = server(&["-t", "ed25519"]) else { return };
    let content = server.path("content");
    fs::write(&content, noise(3 << 20)).unwrap();
    let script = "
import base64, paramiko, sys
port, key, line, content, target = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4], sys.argv[5]
client = paramiko.SSHClient()
host = paramiko.Ed25519Key(data=base64.b64decode(line.split()[1]))
client.get_host_keys().add('[127.0.0.1]:%d' % port, 'ssh-ed25519', host)
client.connect('127.0.0.1', port, 'root', key_filename=key, allow_agent=False, look_for_keys=False)
stdin, stdout, stderr = client.exec_command('cat; echo err >&2; exit 3')
data = open(content, 'rb').read()
stdin.write(data); stdin.channel.shutdown_write()
assert stdout.read() == data and stderr.read() == b'err\\n'
assert stdout.channel.recv_exit_status() == 3
shell = client.invoke_shell(width=91, height=17)
shell.send(b'stty size; exit\\n')
seen = b''
while True:
    more = shell.recv(4096)
    if not more: break
    seen += more
assert b'17 91' in seen, seen
def breaks(channel):
    message = paramiko.Message()
    message.add_byte(paramiko.common.cMSG_CHANNEL_REQUEST)
    message.add_int(channel.remote_chanid)
    message.add_string('break')
    message.add_boolean(True)
    message.add_int(500)
    channel._event_pending()
    channel.transport._send_user_message(message)
    channel._wait_for_event()
shell = client.invoke_shell()
breaks(shell)
shell.send(b'echo after $((40 + 2)); exit\\n')
seen = b''
while b'after 42' not in seen:
    more = shell.recv(4096)
    assert more, seen
    seen += more
try:
    breaks(client.get_transport().open_session())
    raise SystemExit('a break is taken where there is no terminal')
except paramiko.SSHException:
    pass
sftp = client.open_sftp()
sftp.put(content, target)
assert sftp.open(target, 'rb').read() == data
assert sftp.stat(target).st_size == len(data)
sftp.posix_rename(target, target + '.moved')
transport, refused = client.get_transport(), []
table, failure = transport._handler_table, paramiko.common.MSG_CHANNEL_OPEN_FAILURE
parse = table[failure]
table[failure] = lambda message: refused.append(1) or parse(message)
try:
    transport.open_channel('tun@openssh.com')
    raise SystemExit('opened')
except paramiko.ChannelException as error:
    assert error.code == 3, error
assert client.exec_command('echo after')[1].read() == b'after\\n'
assert len(refused) == 1, refused
client.close()
";
    let line = server.state()["host_key"].as_str().unwrap().to_string();
    let mut python = Command::new("python3");
    python.args(["-c", script, &server.port.to_string()]).arg(server.path("key")).arg(line);
    run(python.arg(&content).arg(server.path("target")), b"").succeeds();
    assert!(fs::read(server.path("target.moved")).unwrap() == fs::read(content).unwrap());
}

#[test]
fn putty() {
    if !has("plink") || !has("psftp") || !has("puttygen") {
        return;
    }
    let Some(server) = server(&["-t", "ed25519"]) else { return };
    let key = server.path("key.ppk");
    run(Command::new("puttygen").arg(server.path("key")).args(["-O", "private", "-o"]).arg(&key), b"")
        .succeeds();
    let options = |program: &str| {
        let mut command = Command::new(program);
        command.args([
            "-batch",
            "-P",
            &server.port.to_string(),
            "-l",
            "root",
            "-hostkey",
            &fingerprint(&server),
            "-i",
        ]);
        command.arg(&key).env("HOME", server.dir.path());
        command
    };
    for extra in [&[][..], &["-C"]] {
        let input = noise(3 << 20);
        let done = run(options("plink").args(extra).args(["127.0.0.1", "cat; exit 5"]), &input);
        assert_eq!(done.code(), Some(5), "{}", done.stderr);
        assert!(done.stdout == input, "{extra:?}");
    }
    fs::write(server.path("content"), noise(1 << 20)).unwrap();
    let batch =
        format!("put {0}/content {0}/target\nget {0}/target {0}/back\nls {0}\n", server.dir.path().display());
    let done = run(options("psftp").args(["127.0.0.1", "-b", "-"]), batch.as_bytes());
    let done =
        if done.status.success() { done } else { run(options("psftp").arg("127.0.0.1"), batch.as_bytes()) };
    assert!(done.status.success(), "{}", done.stderr);
    assert!(fs::read(server.path("back")).unwrap() == fs::read(server.path("content")).unwrap());
}

#[test]
fn dropbear() {
    if !has("dbclient") || !has("dropbearconvert") {
        return;
    }
    let Some(server) = server(&["-t", "ed25519"]) else { return };
    let key = server.path("key.db");
    let mut convert = Command::new("dropbearconvert");
    run(convert.args(["openssh", "dropbear"]).arg(server.path("key")).arg(&key), b"").succeeds();
    let line = server.state()["host_key"].as_str().unwrap().to_string();
    harness::write(server.dir.path(), ".ssh/known_hosts", &format!("[127.0.0.1]:{} {line}\n", server.port));
    let mut client = Command::new("dbclient");
    client.env("HOME", server.dir.path()).args(["-y", "-p", &server.port.to_string(), "-i"]).arg(&key);
    let input = noise(1 << 20);
    let done = run(client.args(["root@127.0.0.1", "cat; exit 6"]), &input);
    assert_eq!(done.code(), Some(6), "{}", done.stderr);
    assert!(done.stdout == input);
}

#[test]
fn libssh2_by_curl() {
    let curl = || Command::new("curl");
    if !has("curl") || !String::from_utf8_lossy(&curl().arg("-V").output().unwrap().stdout).contains("sftp") {
        eprintln!("SKIPPED: no curl with sftp");
        assert!(std::env::var_os("INTEROP").is_none(), "no curl with sftp");
        return;
    }
    // Not RSA: before 1.11 it signs with SHA-1 only.
    let Some(server) = server(&["-t", "ed25519"]) else { return };
    fs::write(server.path("content"), noise(3 << 20)).unwrap();
    let url = |name: &str| format!("sftp://root@127.0.0.1:{}{}", server.port, server.path(name).display());
    let print = fingerprint(&server);
    let with = || {
        let mut command = curl();
        command.args(["--disable", "-sS", "--hostpubsha256", print.trim_start_matches("SHA256:"), "--key"]);
        command.arg(server.path("key")).arg("--pubkey").arg(server.path("key.pub"));
        command
    };
    run(with().arg("-T").arg(server.path("content")).arg(url("target")), b"").succeeds();
    let done = run(with().arg(url("target")), b"").succeeds();
    assert!(done.stdout == fs::read(server.path("content")).unwrap());
}

#[test]
fn rsync() {
    if !has("rsync") {
        return;
    }
    let Some(server) = server(&["-t", "ed25519"]) else { return };
    let tree = server.path("tree");
    fs::create_dir_all(tree.join("sub")).unwrap();
    for number in 0..50 {
        fs::write(tree.join(format!("sub/{number}")), noise(number * 1000)).unwrap();
    }
    fs::write(tree.join("big"), noise(5 << 20)).unwrap();
    fs::set_permissions(tree.join("big"), fs::Permissions::from_mode(0o640)).unwrap();
    let shell = format!("ssh {}", server.options().join(" "));
    let sync = |from: String, to: String| {
        let mut command = Command::new("rsync");
        // The far side starts the same program.
        let far = std::env::split_paths(&std::env::var_os("PATH").unwrap())
            .map(|directory| directory.join("rsync"))
            .find(|path| path.is_file())
            .unwrap();
        let libraries = std::env::var("LD_LIBRARY_PATH").unwrap_or_default();
        let far = format!("env LD_LIBRARY_PATH={libraries} {}", far.display());
        run(command.args(["-a", "-e", &shell, "--rsync-path", &far, &from, &to]), b"").succeeds();
    };
    let there = server.path("there").display().to_string();
    sync(format!("{}/", tree.display()), format!("root@127.0.0.1:{there}/"));
    sync(format!("root@127.0.0.1:{there}/"), format!("{}/", server.path("back").display()));
    run(Command::new("diff").arg("-r").arg(&tree).arg(server.path("back")), b"").succeeds();
    let mode = fs::metadata(server.path("back/big")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
}

#[test]
fn ansible() {
    if !has("ansible") {
        return;
    }
    let Some(server) = server(&["-t", "ed25519"]) else { return };
    let options = server.options().join(" ");
    let home = server.path("home");
    fs::create_dir(&home).unwrap();
    fs::write(server.path("script"), "#!/bin/sh\necho from a script $1\n").unwrap();
    let with = |module: &str, arguments: String| {
        let mut command = Command::new("ansible");
        command.env("HOME", &home).env("ANSIBLE_LOCAL_TEMP", home.join("tmp")).env("LC_ALL", "C.UTF-8");
        command.env("ANSIBLE_SSH_CONTROL_PATH_DIR", home.join("cp"));
        command.args(["-i", "127.0.0.1,", "all", "-u", "root", "-e"]);
        command.arg(format!("ansible_ssh_common_args='{options}'"));
        run(command.args(["-m", module, "-a", &arguments]), b"")
    };
    let done = with("raw", "echo in".to_string());
    assert!(done.status.success() && done.text().contains("in"), "{}{}", done.text(), done.stderr);
    let done = with("script", format!("{} argument", server.path("script").display()));
    assert!(done.text().contains("from a script argument"), "{}{}", done.text(), done.stderr);
}

/// The client of Debian 12 is the one of the other test files, on a host of Debian 12; this one is of Debian 13, wherever it runs.
#[test]
fn openssh_of_debian_13() {
    let Some(bin) = std::env::var_os("PEERS").map(PathBuf::from).filter(|bin| bin.join("ssh").exists())
    else {
        eprintln!("SKIPPED: no OpenSSH of Debian 13 (make peers)");
        assert!(std::env::var_os("INTEROP").is_none(), "no OpenSSH of Debian 13");
        return;
    };
    let Some(server) = server(&["-t", "ed25519"]) else { return };
    let with = |program: &str, extra: &[&str]| {
        let mut command = Command::new(bin.join(program));
        command.args(extra).args(server.options()).env_remove("SSH_AUTH_SOCK");
        command
    };
    let version = run(Command::new(bin.join("ssh")).arg("-V"), b"").stderr;
    assert!(version.starts_with("OpenSSH_10."), "{version}");

    let input = noise(3 << 20);
    let done = run(with("ssh", &["-vvv"]).args(["root@127.0.0.1", "cat; exit 7"]), &input);
    assert!(done.code() == Some(7) && done.stdout == input, "{}", done.stderr);
    let kex = done.stderr.lines().find(|line| line.contains("kex: algorithm:")).unwrap_or_default();
    println!("{}: {}", version.trim(), kex.trim());
    assert!(kex.contains("mlkem768x25519-sha256"), "{kex}");
    assert!(done.stderr.contains("will use strict KEX ordering"));

    let path = |name: &str| server.path(name).display().to_string();
    fs::write(server.path("content"), &input).unwrap();
    let ssh = bin.join("ssh").display().to_string();
    // The sftp protocol, and scp's own of old.
    for mode in [&["-S", &ssh][..], &["-O", "-S", &ssh]] {
        let far = format!("root@127.0.0.1:{}", path("far"));
        run(with("scp", mode).args([&path("content"), &far]), b"").succeeds();
        run(with("scp", mode).args([&far, &path("back")]), b"").succeeds();
        assert!(fs::read(server.path("back")).unwrap() == input, "{mode:?}");
        fs::remove_file(server.path("far")).unwrap();
    }
    let batch = format!(
        "put {0}/content {0}/far\nrename {0}/far {0}/moved\nln {0}/moved {0}/linked\ndf -h {0}\n",
        path("")
    );
    run(with("sftp", &["-S", &ssh, "-b", "-"]).arg("root@127.0.0.1"), batch.as_bytes()).succeeds();
    assert!(fs::read(server.path("linked")).unwrap() == input);

    // Many sessions on one connection.
    let control = format!("ControlPath={}", path("control"));
    let mut master = with("ssh", &["-M", "-N", "-o", &control]).arg("root@127.0.0.1").spawn().unwrap();
    assert!(until(|| server.path("control").exists()));
    let said = run(with("ssh", &["-o", &control]).args(["root@127.0.0.1", "echo over it"]), b"").succeeds();
    assert_eq!(said.text(), "over it\n");
    run(with("ssh", &["-o", &control, "-O", "exit"]).arg("root@127.0.0.1"), b"").succeeds();
    harness::wait(&mut master, "the master");
}

/// By the token without a device that OpenSSH's own tests have: it says that it was touched when it was asked to be.
#[test]
fn keys_in_hardware_as_far_as_they_were_touched() {
    let place = std::env::var_os("PEERS").map(PathBuf::from).and_then(|bin| {
        let tree = fs::canonicalize(&bin).ok()?.parent()?.to_path_buf();
        let token = tree.join("usr/lib/openssh/regress/misc/sk-dummy/sk-dummy.so");
        token.exists().then_some((bin, token))
    });
    let Some((bin, token)) = place else {
        eprintln!("SKIPPED: no token of OpenSSH's tests (make peers)");
        assert!(std::env::var_os("INTEROP").is_none(), "no token");
        return;
    };
    let Some(server) = server(&["-t", "ed25519"]) else { return };
    let dir = server.dir.path();
    let generate = || {
        let mut command = Command::new(bin.join("ssh-keygen"));
        command.env("SSH_SK_HELPER", bin.join("ssh-sk-helper")).env("SSH_SK_PROVIDER", &token).args(["-q"]);
        command
    };
    let make = |name: &str, kind: &str, options: &[&str]| {
        let path = server.path(name);
        run(generate().args(["-N", "", "-t", kind, "-f"]).arg(&path).args(options), b"").succeeds();
        fs::read_to_string(path.with_extension("pub")).unwrap()
    };
    let enters = |name: &str| {
        let mut command = Command::new(bin.join("ssh"));
        let identity = format!("IdentityFile={}", server.path(name).display());
        let provider = format!("SecurityKeyProvider={}", token.display());
        command.args(["-o", &identity, "-o", &provider]).args(server.options());
        command.env("SSH_SK_HELPER", bin.join("ssh-sk-helper")).env_remove("SSH_AUTH_SOCK");
        let done = run(command.args(["root@127.0.0.1", "echo in"]), b"");
        assert!(
            done.status.success() || done.stderr.contains("Permission denied"),
            "{name}: {}",
            done.stderr
        );
        done.status.success()
    };
    let certify = |authority: &str, name: &str, options: &[&str]| {
        let certificate = server.path(&format!("{name}-cert.pub"));
        let _ = fs::remove_file(certificate);
        let mut sign = generate();
        sign.arg("-s").arg(server.path(authority)).args(["-I", "x", "-n", "root"]).args(options);
        run(sign.arg(server.path(&format!("{name}.pub"))), b"").succeeds();
    };
    let authority = make_key(dir, "authority", &["-t", "ed25519"]);
    for kind in ["ed25519-sk", "ecdsa-sk"] {
        let touched = make(kind, kind, &[]);
        let name = format!("{kind}-untouched");
        let untouched = make(&name, kind, &["-O", "no-touch-required"]);
        for (line, key, want) in [
            (touched.clone(), kind, true),
            (format!("verify-required {touched}"), kind, false),
            (untouched.clone(), &name, false),
            (format!("no-touch-required {untouched}"), &name, true),
        ] {
            authorize(dir, &line);
            assert_eq!(enters(key), want, "{line}");
        }
        // The line of the authority and the certificate have to waive it together.
        let waives = ["-O", "no-touch-required"];
        for (options, certificate, want) in [
            ("", &waives[..], false),
            ("no-touch-required,", &[], false),
            ("no-touch-required,", &waives, true),
        ] {
            authorize(dir, &format!("{options}cert-authority {authority}"));
            certify("authority", &name, certificate);
            assert_eq!(enters(&name), want, "{options}, {certificate:?}");
        }
        // Such a key as an authority.
        authorize(dir, &format!("cert-authority {touched}"));
        certify(kind, "key", &[]);
        assert!(enters("key"), "{kind} as an authority");
        fs::remove_file(server.path("key-cert.pub")).unwrap();
    }
}

#[test]
fn ssh_audit() {
    if !has("ssh-audit") {
        return;
    }
    let Some(server) = server(&["-t", "ed25519"]) else { return };
    // With the RSA key, too.
    assert!(until(|| server.state()["more_host_keys"].as_array().is_some_and(|keys| !keys.is_empty())));
    let done = run(Command::new("ssh-audit").args(["-n", "-p", &server.port.to_string(), "127.0.0.1"]), b"");
    let text = done.text();
    assert!(!text.contains("[fail]"), "{text}");
    // What docs/ssh.md says of each: whoever has no key exchange of today's.
    let warned: Vec<&str> = text.lines().filter(|line| line.contains("[warn]")).collect();
    let of = ["curve25519-sha256 ", "curve25519-sha256@libssh.org ", "diffie-hellman-group16-sha512 "];
    assert_eq!(warned.len(), of.len(), "{warned:#?}");
    for (line, algorithm) in warned.iter().zip(of) {
        assert!(line.starts_with(&format!("(kex) {algorithm}")), "{line}");
        assert!(line.ends_with("does not provide protection against post-quantum attacks"), "{line}");
    }
    assert!(text.contains("mlkem768x25519-sha256"), "{text}");
}
