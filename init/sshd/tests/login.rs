//! Who gets in, and who knows whom.

mod harness;

use harness::{DEADLINE, Server, authorize, make_key, run, until, write};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

#[test]
fn a_key_that_was_given_logs_in_and_the_host_is_known_before() {
    need_client!();
    let server = Server::with_key();
    // StrictHostKeyChecking=yes with the line of sshd.json and nothing else.
    assert_eq!(server.run("echo in").succeeds().text(), "in\n");
    server.log.wait_for("\"kind\":\"login\",\"from\":\"127.0.0.1\",\"with\":\"key SHA256:");
}

#[test]
fn another_host_is_not_taken_for_this_one() {
    need_client!();
    let server = Server::with_key();
    let options = server.options();
    let other = make_key(server.dir.path(), "other", &["-t", "ed25519"]);
    let line = format!("{} {other}", server.state()["alias"].as_str().unwrap());
    fs::write(server.path("known_hosts"), line).unwrap();
    let done = run(std::process::Command::new("ssh").args(options).args(["root@127.0.0.1", "echo in"]), b"");
    assert_eq!((done.code(), done.text().as_str()), (Some(255), ""));
    assert!(done.stderr.contains("Host key verification failed"), "{}", done.stderr);
}

#[test]
fn a_wrong_key_another_user_and_nothing_at_all_are_refused() {
    need_client!();
    let server = Server::with_key();
    make_key(server.dir.path(), "wrong", &["-t", "ed25519"]);
    let wrong = format!("IdentityFile={}", server.path("wrong").display());
    let key = format!("IdentityFile={}", server.path("key").display());
    let none = format!("IdentityFile={}", server.path("none").display());
    for extra in [
        &["-o", wrong.as_str()][..],
        &["-o", "PubkeyAuthentication=no"],
        &["-o", none.as_str(), "-o", "PreferredAuthentications=none,password,keyboard-interactive"],
    ] {
        // Given twice, IdentityFile adds up; the right key must not be among them.
        let mut options = server.options();
        if let Some(at) = options.iter().position(|option| *option == key) {
            options.drain(at - 1..=at);
        }
        let mut command = std::process::Command::new("ssh");
        run(command.args(extra).args(options).args(["root@127.0.0.1", "echo in"]), b"").is_refused();
    }
    run(server.ssh(&["-l", "nobody"]).arg("echo in"), b"").is_refused();
    run(server.ssh(&["-l", ""]).arg("echo in"), b"").is_refused();
}

#[test]
fn every_kind_of_key_that_is_worth_it_logs_in_and_sha1_does_not() {
    need_client!();
    let server = Server::start(|_| {}, &[]);
    let dir = server.dir.path();
    for (name, kind, algorithm) in [
        ("ecdsa", &["-t", "ecdsa", "-b", "256"][..], "ecdsa-sha2-nistp256"),
        ("ecdsa521", &["-t", "ecdsa", "-b", "521"], "ecdsa-sha2-nistp521"),
        ("rsa512", &["-t", "rsa", "-b", "2048"], "rsa-sha2-512"),
        ("rsa256", &["-t", "rsa", "-b", "2048"], "rsa-sha2-256"),
    ] {
        authorize(dir, &make_key(dir, name, kind));
        let identity = format!("IdentityFile={}", server.path(name).display());
        let algorithms = format!("PubkeyAcceptedAlgorithms={algorithm}");
        let done = run(server.ssh(&["-o", &identity, "-o", &algorithms]).arg("echo in"), b"");
        assert_eq!(done.text(), "in\n", "{algorithm}: {}", done.stderr);
    }
    // The last RSA key is still the authorised one.
    let identity = format!("IdentityFile={}", server.path("rsa256").display());
    let sha1 = ["-o", &identity, "-o", "PubkeyAcceptedAlgorithms=ssh-rsa"];
    run(server.ssh(&sha1).arg("echo in"), b"").is_refused();
}

/// What OpenSSH 7.4 (2016) has for each, in its order (its `myproposal.h`, for a client).
const OF_7_4: &[(&str, &str)] = &[
    (
        "KexAlgorithms",
        "curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256,ecdh-sha2-nistp384,ecdh-sha2-nistp521,\
         diffie-hellman-group-exchange-sha256,diffie-hellman-group16-sha512,diffie-hellman-group18-sha512,\
         diffie-hellman-group-exchange-sha1,diffie-hellman-group14-sha256,diffie-hellman-group14-sha1",
    ),
    (
        "Ciphers",
        "chacha20-poly1305@openssh.com,aes128-ctr,aes192-ctr,aes256-ctr,aes128-gcm@openssh.com,aes256-gcm@openssh.com,\
         aes128-cbc,aes192-cbc,aes256-cbc",
    ),
    (
        "MACs",
        "umac-64-etm@openssh.com,umac-128-etm@openssh.com,hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com,\
         hmac-sha1-etm@openssh.com,umac-64@openssh.com,umac-128@openssh.com,hmac-sha2-256,hmac-sha2-512,hmac-sha1",
    ),
];
/// Of host keys, and of the client's own.
const KEYS_OF_7_4: &str = "ecdsa-sha2-nistp256-cert-v01@openssh.com,ecdsa-sha2-nistp384-cert-v01@openssh.com,\
    ecdsa-sha2-nistp521-cert-v01@openssh.com,ssh-ed25519-cert-v01@openssh.com,ssh-rsa-cert-v01@openssh.com,\
    ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,ssh-ed25519,rsa-sha2-512,rsa-sha2-256,ssh-rsa";

/// Today's client, held to the lists of the oldest that is promised; not that client itself.
#[test]
fn a_client_with_the_algorithms_of_openssh_7_4_is_let_in() {
    need_client!();
    let server = Server::with_key();
    let dir = server.dir.path();
    let ed25519 = fs::read_to_string(server.path("key.pub")).unwrap();
    authorize(dir, &format!("{ed25519}{}", make_key(dir, "rsa", &["-t", "rsa", "-b", "2048"])));
    let rsa_host = || server.state()["more_host_keys"][0].as_str().map(str::to_string);
    assert!(until(|| rsa_host().is_some()), "{}", server.state());
    let known = |line: &str| {
        let alias = server.state()["alias"].as_str().unwrap().to_string();
        write(dir, "known", &format!("{alias} {line}\n"));
    };
    let (whole, rsa) = (KEYS_OF_7_4, "rsa-sha2-256");
    let ed25519_host = server.state()["host_key"].as_str().unwrap().to_string();
    // The key, its algorithms, those of host keys, the host's line; more options; what ssh says of the exchange.
    type Case<'a> = (&'a str, &'a str, &'a str, &'a str, &'a [&'a str], &'a [&'a str]);
    let cases: &[Case<'_>] = &[
        (
            "key",
            whole,
            whole,
            &ed25519_host,
            &[],
            &[
                "algorithm: curve25519-sha256\n",
                "key algorithm: ssh-ed25519\n",
                "cipher: chacha20-poly1305@openssh.com MAC: <implicit>",
            ],
        ),
        (
            "rsa",
            whole,
            whole,
            &ed25519_host,
            &["Ciphers=aes128-ctr"],
            &["MAC: hmac-sha2-256-etm@openssh.com"],
        ),
        (
            "rsa",
            rsa,
            rsa,
            &rsa_host().unwrap(),
            &["Ciphers=aes256-gcm@openssh.com"],
            &["key algorithm: rsa-sha2-256\n", "aes256-gcm"],
        ),
        ("key", whole, whole, &ed25519_host, &["KexAlgorithms=diffie-hellman-group16-sha512"], &["group16"]),
    ];
    for (key, keys, host_keys, host, more, want) in cases {
        known(host);
        let lists = OF_7_4.iter().map(|(name, list)| format!("{name}={list}"));
        let files = [
            format!("UserKnownHostsFile={}", server.path("known").display()),
            format!("IdentityFile={}", server.path(key).display()),
            format!("PubkeyAcceptedAlgorithms={keys}"),
            format!("HostKeyAlgorithms={host_keys}"),
        ];
        // The first of each counts.
        let options: Vec<String> =
            more.iter().map(|option| option.to_string()).chain(lists).chain(files).collect();
        let words: Vec<&str> =
            std::iter::once("-v").chain(options.iter().flat_map(|option| ["-o", option.as_str()])).collect();
        let done = run(server.ssh(&words).arg("echo in"), b"");
        assert_eq!(done.text(), "in\n", "{key}, {more:?}: {}", done.stderr);
        let said = done.stderr.replace('\r', "");
        for part in *want {
            assert!(said.contains(part), "{key}, {more:?}: no {part:?} in {said}");
        }
    }
}

#[test]
fn without_a_key_the_password_of_the_console_opens_and_no_other() {
    need_client!();
    let server = Server::start(|_| {}, &[]);
    let password = fs::read_to_string(server.path("run/lifeboat/sshd/password")).unwrap();
    assert_eq!(server.state()["password"], true);
    assert_eq!(server.by_password("root", password.trim()).succeeds().text(), "in\n");
    assert_eq!(server.by_password("root", &password.replace('-', " ")).succeeds().text(), "in\n");
    for (user, typed) in [("root", "wrong"), ("root", ""), ("nobody", password.trim())] {
        server.by_password(user, typed).is_refused();
    }
    assert!(!server.log.text().contains(password.trim()), "a secret is in the log");
    let state = fs::read_to_string(server.path("run/lifeboat/state/sshd.json")).unwrap();
    assert!(!state.contains(password.trim()), "a secret is in the state file");
}

#[test]
fn a_password_hash_takes_the_place_of_the_random_password() {
    need_client!();
    // `openssl passwd -6 -salt lifeboat hunter2`, OpenSSL 3.0
    let hash =
        "$6$lifeboat$g/MlI1yMcitGmRwN99Gch0pLc/O9v6g2ElYtfA96uFBvQLUVhz2ZGw3X.RsAdLscutLw58La5Gxam812VGzNq.";
    let server =
        Server::start(|dir| write(dir, "proc/cmdline", &format!("quiet rescue.password_hash={hash}")), &[]);
    assert!(!server.path("run/lifeboat/sshd/password").exists());
    assert_eq!(server.by_password("root", "hunter2").succeeds().text(), "in\n");
    server.by_password("root", "hunter3").is_refused();
}

#[test]
fn a_key_turns_passwords_off_also_one_that_comes_later() {
    need_client!();
    let server = Server::start(|_| {}, &[]);
    let path = server.path("run/lifeboat/sshd/password");
    let password = fs::read_to_string(&path).unwrap();
    authorize(server.dir.path(), &make_key(server.dir.path(), "key", &["-t", "ed25519"]));
    assert_eq!(server.run("echo in").succeeds().text(), "in\n");
    let done = server.by_password("root", password.trim());
    done.is_refused();
    assert!(done.stderr.contains("(publickey)"), "a password was offered: {}", done.stderr);
    assert!(until(|| server.state()["password"] == false), "{}", server.state());
    assert!(until(|| !path.exists()), "the password is still there for the consoles to show");
}

/// Half a minute after the start nobody looks at the keys of his own accord.
#[test]
fn when_the_last_key_goes_a_password_is_made_for_whoever_tries_one() {
    need_client!();
    let server = Server::with_key();
    let path = server.path("run/lifeboat/sshd/password");
    std::thread::sleep(std::time::Duration::from_secs(33));
    assert_eq!(server.run("echo in").succeeds().text(), "in\n");
    // The look that a login is worth.
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert!(!path.exists());
    fs::write(server.path("root/.ssh/authorized_keys"), "ssh-ed25519 AAAA").unwrap();
    server.by_password("root", "whatever").is_refused();
    assert!(until(|| path.exists()), "no password for the consoles to show");
    let password = fs::read_to_string(&path).unwrap();
    assert_eq!(server.by_password("root", password.trim()).succeeds().text(), "in\n");
}

#[test]
fn what_was_given_and_not_taken_is_named_and_the_boot_goes_on() {
    need_client!();
    let server = Server::start(
        |dir| {
            write(dir, "proc/cmdline", "quiet ssh_key= ssh_key=garbage rescue.password_hash=hunter2\n");
            authorize(dir, "from=\"10.0.0.1\" ssh-ed25519 AAAA me\n");
        },
        &[],
    );
    let problems = server.state()["problems"].to_string();
    for wanted in
        ["ssh_key: is empty", "ssh_key: is not a public key", "authorized_keys line 1", "password_hash"]
    {
        assert!(problems.contains(wanted), "no {wanted:?} in {problems}");
        assert!(server.log.text().contains(wanted), "no event of {wanted:?}");
    }
    assert!(!server.log.text().contains("hunter2"), "a secret is in the log");
    let password = fs::read_to_string(server.path("run/lifeboat/sshd/password")).unwrap();
    server.by_password("root", password.trim()).succeeds();
}

#[test]
fn an_injected_host_key_is_the_identity_and_modes_are_tightened() {
    need_client!();
    use std::os::unix::fs::PermissionsExt;
    let server = Server::start(
        |dir| {
            fs::create_dir_all(dir.join("etc/ssh")).unwrap();
            make_key(dir, "etc/ssh/ssh_host_ed25519_key", &["-t", "ed25519"]);
            authorize(dir, &make_key(dir, "key", &["-t", "ed25519"]));
            for path in ["etc/ssh/ssh_host_ed25519_key", "root/.ssh/authorized_keys"] {
                fs::set_permissions(dir.join(path), fs::Permissions::from_mode(0o644)).unwrap();
            }
        },
        &[],
    );
    let line = fs::read_to_string(server.path("etc/ssh/ssh_host_ed25519_key.pub")).unwrap();
    let told = server.state()["host_key"].as_str().unwrap().to_string();
    assert!(line.starts_with(&told), "{line} is not {told}");
    assert_eq!(server.run("echo in").succeeds().text(), "in\n");
    for path in
        ["etc/ssh/ssh_host_ed25519_key", "root/.ssh/authorized_keys", "run/lifeboat/sshd/host_ed25519"]
    {
        let mode = fs::metadata(server.path(path)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{path}");
    }
}

#[test]
fn the_algorithms_offered_are_those_of_today() {
    need_client!();
    let server = Server::with_key();
    let done = run(server.ssh(&["-vv"]).arg("echo in"), b"").succeeds();
    let offer = done.stderr.split("peer server KEXINIT proposal").nth(1).unwrap();
    let line = |name: &str| {
        let line = offer.lines().find(|line| line.contains(name)).unwrap();
        line.split(": ").last().unwrap().to_string()
    };
    let kex = line("KEX algorithms");
    assert!(kex.starts_with("mlkem768x25519-sha256,curve25519-sha256,"), "{kex}");
    assert!(kex.contains("kex-strict-s-v00@openssh.com"), "{kex}");
    assert!(!kex.contains("nistp") && !kex.contains("sha1"), "{kex}");
    // RSA follows when its key is made.
    let keys = line("host key algorithms");
    assert!(["ssh-ed25519", "ssh-ed25519,rsa-sha2-512,rsa-sha2-256"].contains(&keys.as_str()), "{keys}");
    assert_eq!(line("compression stoc"), "none,zlib@openssh.com");
    assert!(!line("ciphers stoc").contains("cbc"));
    assert_eq!(line("MACs stoc"), "hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com");
    let signatures = done.stderr.lines().find(|line| line.contains("server-sig-algs=")).unwrap();
    assert!(!signatures.contains("ssh-rsa") && signatures.contains("rsa-sha2-512"), "{signatures}");
}

#[test]
fn clients_that_have_nothing_better_are_offered_a_plain_mac_and_no_others_are() {
    let server = Server::start(|_| {}, &[]);
    let offered = |client: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.write_all(format!("{client}\r\n").as_bytes()).unwrap();
        let mut seen = Vec::new();
        let mut bytes = [0; 4096];
        // The last but two of what is offered.
        while !String::from_utf8_lossy(&seen).contains("zlib@openssh.com") {
            let length = stream.read(&mut bytes).unwrap();
            assert_ne!(length, 0, "{client}: {:?}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&bytes[..length]);
        }
        let text = String::from_utf8_lossy(&seen).into_owned();
        assert!(text.contains("hmac-sha2-256-etm@openssh.com"), "{client}: {text:?}");
        text.contains("hmac-sha2-256,")
    };
    for (client, want) in [
        ("SSH-2.0-libssh2_1.10.0", true),
        ("SSH-2.0-dropbear_2022.83", true),
        ("SSH-2.0-Twisted_24.3.0", true),
        ("SSH-2.0-OpenSSH_7.4", false),
        ("SSH-2.0-PuTTY_Release_0.78", false),
        ("SSH-2.0-paramiko_5.1.0", false),
        ("SSH-2.0-x libssh2_1.10.0", false),
    ] {
        assert_eq!(offered(client), want, "{client}");
    }
}
