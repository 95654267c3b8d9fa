//! What authorized_keys and certificates say beside the key, as the stock client sees it.

mod harness;

use harness::{Done, Server, authorize, make_key, noise, run, until};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;

/// One key, with options before it in authorized_keys.
struct Keyed {
    server: Server,
    line: String,
}

impl Keyed {
    fn new() -> Keyed {
        let server = Server::with_key();
        let line = fs::read_to_string(server.path("key.pub")).unwrap();
        Keyed { server, line }
    }

    /// From the next login on.
    fn options(&self, options: &str) -> &Keyed {
        authorize(self.server.dir.path(), &format!("{options} {}", self.line));
        self
    }

    fn run(&self, extra: &[&str], command: &str) -> Done {
        run(self.server.ssh(extra).arg(command), b"")
    }
}

#[test]
fn a_key_is_good_where_and_while_its_line_says() {
    need_client!();
    let keyed = Keyed::new();
    for options in ["from=\"127.0.0.0/8\"", "from=\"*,!10.0.0.0/8\"", "expiry-time=\"20990101\""] {
        assert_eq!(keyed.options(options).run(&[], "echo in").succeeds().text(), "in\n", "{options}");
    }
    for (options, why) in
        [("from=\"10.0.0.0/8\"", "not valid from this address"), ("expiry-time=\"20200101\"", "has expired")]
    {
        keyed.options(options).run(&[], "echo in").is_refused();
        // For whoever looks at the console.
        keyed.server.log.wait_for(why);
    }
    keyed.options("frobnicate").run(&[], "echo in").is_refused();
}

#[test]
fn a_forced_command_runs_whatever_is_asked_for() {
    need_client!();
    let keyed = Keyed::new();
    keyed.options(
        r#"command="echo \"forced: $SSH_ORIGINAL_COMMAND\"",environment="LANG=xx",environment="PATH=x""#,
    );
    assert_eq!(keyed.run(&[], "rm -rf /").succeeds().text(), "forced: rm -rf /\n");
    let shell = run(&mut keyed.server.ssh(&["-T"]), b"").succeeds();
    assert_eq!(shell.text(), "forced: \n");
    keyed.options(r#"environment="LANG=xx",environment="LD_PRELOAD=x""#);
    assert_eq!(keyed.run(&[], "echo $LANG $LD_PRELOAD").succeeds().text(), "xx\n");
}

#[test]
fn what_a_key_may_not_do_is_refused_and_the_rest_works() {
    need_client!();
    let keyed = Keyed::new();
    let echo = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = echo.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in echo.incoming() {
            let mut stream = stream.unwrap();
            let mut bytes = Vec::new();
            let _ = stream.read_to_end(&mut bytes);
            let _ = stream.write_all(&bytes);
        }
    });
    let target = format!("127.0.0.1:{port}");
    let reaches = |options: &str| {
        let bytes = noise(1000);
        let done = run(&mut keyed.options(options).server.ssh(&["-W", &target]), &bytes);
        assert!(
            done.stdout == bytes || done.stderr.contains("administratively prohibited"),
            "{}",
            done.stderr
        );
        done.stdout == bytes
    };
    assert!(reaches("no-pty") && reaches(&format!("permitopen=\"{target}\"")));
    assert!(reaches("restrict,port-forwarding"));
    assert!(!reaches("restrict") && !reaches("no-port-forwarding") && !reaches("permitopen=\"127.0.0.1:1\""));
    let listens = |options: &str, place: &str| {
        let forward = format!("{place}:{target}");
        let fails = ["-R", &forward, "-o", "ExitOnForwardFailure=yes"];
        keyed.options(options).run(&fails, "true").status.success()
    };
    assert!(listens("no-pty", "0") && listens("permitlisten=\"localhost:*\"", "0"));
    assert!(!listens("restrict", "0") && !listens("permitlisten=\"localhost:1\"", "0"));
    let terminal = |options: &str| {
        let done = keyed.options(options).run(&["-tt"], "tty; echo in");
        assert!(done.text().contains("in") || done.stderr.contains("PTY allocation request failed"));
        done.text().contains("/dev/pts/")
    };
    assert!(terminal("restrict,pty") && !terminal("no-pty"));
    let agent = keyed.options("no-agent-forwarding").run(&["-A"], "echo agent=$SSH_AUTH_SOCK");
    assert_eq!(agent.succeeds().text(), "agent=\n");
}

/// `ssh-keygen -s CA OPTIONS key.pub`
fn certify(server: &Server, authority: &str, options: &[&str]) {
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-s"]).arg(server.path(authority)).args(["-I", "the id"]).args(options);
    run(command.arg(server.path("key.pub")), b"").succeeds();
}

#[test]
fn a_certificate_opens_as_far_as_it_and_its_authority_say() {
    need_client!();
    let server = Server::with_key();
    let dir = server.dir.path();
    let authority = make_key(dir, "ca", &["-t", "ed25519"]);
    make_key(dir, "other", &["-t", "ecdsa"]);
    authorize(dir, &format!("cert-authority {authority}"));
    let enter = |options: &[&str], command: &str| {
        certify(&server, "ca", options);
        server.run(command)
    };
    // The key alone is not known any more, nor is the authority's own.
    server.run("echo in").is_refused();
    let own = format!("IdentityFile={}", server.path("ca").display());
    run(server.ssh(&["-o", &own]).arg("echo in"), b"").is_refused();
    assert_eq!(enter(&["-n", "root"], "echo in").succeeds().text(), "in\n");
    server.log.wait_for("certificate \\\"the id\\\" serial 0 for key SHA256:");
    assert_eq!(enter(&["-n", "someone,root", "-V", "-1d:+1d"], "echo in").succeeds().text(), "in\n");
    assert_eq!(enter(&[], "echo in").succeeds().text(), "in\n");
    for (number, (options, why)) in [
        (&["-n", "someone"][..], "is for other principals"),
        (&["-n", "root", "-V", "-2d:-1d"], "is not valid now, by the clock of this machine"),
        (&["-n", "root", "-V", "+1d:+2d"], "is not valid now, by the clock of this machine"),
        (&["-n", "root", "-O", "source-address=10.0.0.0/8"], "is not valid from this address"),
        (&["-n", "root", "-O", "critical:x@example.com=1"], "has a critical option that is not known"),
        // The client keeps it to itself.
        (&["-h", "-n", "root"], ""),
    ]
    .into_iter()
    .enumerate()
    {
        let serial = number.to_string();
        enter(&[options, &["-z", &serial]].concat(), "echo in").is_refused();
        // For whoever looks at the console.
        let told = |line: &str| line.contains(&format!("serial {serial} ")) && line.ends_with(why);
        assert!(
            why.is_empty() || until(|| server.log.text().lines().any(told)),
            "{why}:\n{}",
            server.log.text()
        );
    }
    let source = ["-n", "root", "-O", "source-address=127.0.0.0/8", "-O", "force-command=echo forced"];
    assert_eq!(enter(&source, "echo in").succeeds().text(), "forced\n");
    assert_eq!(enter(&["-n", "root", "-O", "extension:x@example.com"], "echo in").succeeds().text(), "in\n");
    // Without its permission there is no terminal.
    certify(&server, "ca", &["-n", "root", "-O", "no-pty"]);
    assert!(!run(server.ssh(&["-tt"]).arg("tty"), b"").text().contains("/dev/pts"));
    // Another authority's, and other principals than the line's.
    certify(&server, "other", &["-n", "root"]);
    server.run("echo in").is_refused();
    authorize(dir, &format!("cert-authority,principals=\"admin\" {authority}"));
    enter(&["-n", "root"], "echo in").is_refused();
    assert_eq!(enter(&["-n", "admin"], "echo in").succeeds().text(), "in\n");
    enter(&[], "echo in").is_refused();
}

#[test]
fn certificates_for_every_kind_of_key_and_authority() {
    need_client!();
    let server = Server::with_key();
    let dir = server.dir.path();
    for (name, kind) in [("rsa", &["-t", "rsa", "-b", "2048"][..]), ("ecdsa", &["-t", "ecdsa"])] {
        let authority = make_key(dir, &format!("{name}-ca"), kind);
        authorize(dir, &format!("cert-authority {authority}"));
        let _ = (fs::remove_file(server.path("key")), fs::remove_file(server.path("key.pub")));
        make_key(dir, "key", kind);
        certify(&server, &format!("{name}-ca"), &["-n", "root"]);
        assert_eq!(server.run("echo in").succeeds().text(), "in\n", "{name}");
    }
    // An authority that signs with SHA-1 vouches for nothing.
    certify(&server, "rsa-ca", &["-n", "root", "-t", "ssh-rsa"]);
    let line = fs::read_to_string(server.path("rsa-ca.pub")).unwrap();
    authorize(dir, &format!("cert-authority {line}"));
    server.run("echo in").is_refused();
}
