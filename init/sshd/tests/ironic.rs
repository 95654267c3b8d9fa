//! Ironic's rescue: against Ironic itself, which `make interop` brings (where it is missing that test says SKIPPED aloud, and with
//! INTEROP set fails), and against a stand-in for its API, for what the real one does not do.

mod harness;

use harness::{BY_PASSWORD, Done, Server, authorize, listen_by, make_key, run, until, write};
use rustix::net::{AddressFamily, SocketType};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const UUID: &str = "1be26c0b-03f2-4d2e-ae87-c02d7f33c123";
const TOKEN: &str = "LLPWWCBvVvTo5GTPx7JqxBsO-OYNr0GEMHqc2mHPzFo";
const MAC: &str = "02:00:00:00:00:07";
/// Of `Hello world!`: a test vector of Drepper's SHA-crypt.txt.
const HASH: &str =
    "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1";

/// A machine with one wired NIC that Ironic booted. Nobody reads a part of it.
fn booted(dir: &Path, url: &str) {
    write(dir, "proc/cmdline", &format!("BOOTIF={MAC} ipa-api-url={url} text selinux=0"));
    // By a name that no NIC of this machine has, whose kernel is asked as well.
    write(dir, "sys/class/net/nic-of-test/address", &format!("{MAC}\n"));
    fs::create_dir_all(dir.join("sys/class/net/nic-of-test/device")).unwrap();
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
}

fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        harness::skip("not root");
    }
    is_root
}

/// What stands for Ironic's API: each kind of question gets the answers in turn, the last one for ever, and all that was asked is kept.
struct Api {
    port: u16,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Api {
    fn start(lookups: Vec<(u16, Value)>, heartbeats: Vec<u16>) -> Api {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let kept = asked.clone();
        std::thread::spawn(move || {
            let (mut lookup, mut heartbeat) = (0, 0);
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let head: Vec<String> = reader
                    .by_ref()
                    .lines()
                    .map_while(Result::ok)
                    .take_while(|line| !line.is_empty())
                    .map(|line| line.to_ascii_lowercase())
                    .collect();
                let length = head.iter().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
                let mut body = vec![0; length.unwrap_or(0)];
                reader.read_exact(&mut body).unwrap();
                assert!(head.iter().any(|line| line == "x-openstack-ironic-api-version: 1.68"), "{head:?}");
                let (status, answer) = if head[0].contains("/v1/lookup") {
                    lookup += 1;
                    lookups[(lookup - 1).min(lookups.len() - 1)].clone()
                } else {
                    heartbeat += 1;
                    (heartbeats[(heartbeat - 1).min(heartbeats.len() - 1)], json!({}))
                };
                let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
                kept.lock().unwrap().push((head[0].clone(), body));
                let text = answer.to_string();
                let head = format!(
                    "HTTP/1.1 {status} x\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    text.len()
                );
                // A client that has enough goes away.
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(text.as_bytes()));
            }
        });
        Api { port, asked }
    }

    fn asked(&self, what: &str) -> Vec<(String, Value)> {
        self.asked.lock().unwrap().iter().filter(|(line, _)| line.contains(what)).cloned().collect()
    }
}

fn found() -> (u16, Value) {
    let config = json!({ "heartbeat_timeout": 2, "agent_token": TOKEN, "agent_token_required": true });
    (200, json!({ "node": { "uuid": UUID, "properties": {} }, "config": config }))
}

/// A conductor that was handed this certificate.
fn conductor(dir: &Path, heartbeat: &Value, path: &str, body: &str) -> (u16, Value) {
    write(dir, "agent.crt", heartbeat["agent_verify_ca"].as_str().unwrap());
    let url = format!("{}{path}", heartbeat["callback_url"].as_str().unwrap());
    let mut curl = Command::new("curl");
    curl.args(["--disable", "-sS", "--max-time", "30", "-w", "\n%{http_code}", "--cacert"])
        .arg(dir.join("agent.crt"));
    curl.args(["-H", "Content-Type: application/json"]);
    if !body.is_empty() {
        curl.args(["--data-binary", "@-"]);
    }
    let done = run(curl.arg(&url), body.as_bytes()).succeeds().text();
    let (text, status) = done.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), serde_json::from_str(text).unwrap_or(Value::Null))
}

/// One address that connects without end, until it is over; how often.
fn crowd(from: [u8; 4], at: SocketAddr, is_over: &AtomicBool) -> usize {
    let (mut here, mut came) = (Vec::new(), 0);
    while !is_over.load(Ordering::Relaxed) {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&socket, &SocketAddr::from((from, 0))).unwrap();
        rustix::net::connect(&socket, &at).unwrap();
        here.push(socket);
        came += 1;
        if here.len() == 64 {
            here.drain(..32); // descriptors are not without end
        }
    }
    came
}

fn finalize(password: &str, hashed: bool) -> String {
    json!({ "name": "rescue.finalize_rescue", "params": { "rescue_password": password, "hashed": hashed } })
        .to_string()
}

#[test]
fn a_conductor_with_the_token_sets_a_password_and_nobody_else_does() {
    need_client!();
    if !is_root() {
        return;
    }
    let api = Api::start(vec![(503, json!({})), (409, json!({})), found()], vec![409, 202]);
    let url = format!("http://127.0.0.1:{}", api.port);
    let server = Server::start(|dir| booted(dir, &url), &["--agent-port", "0"]);
    assert!(server.path("run/lifeboat/sshd/password").exists(), "until then there is a one-time password");
    // It is retried after a conflict.
    assert!(until(|| api.asked("/v1/heartbeat").len() >= 2), "{:?}", api.asked.lock().unwrap());
    let lookups = api.asked("/v1/lookup");
    assert_eq!(lookups.len(), 3, "{lookups:?}");
    assert!(lookups[0].0.starts_with(&format!("get /v1/lookup?addresses={MAC} ")), "{lookups:?}");
    let (line, heartbeat) = api.asked("/v1/heartbeat").remove(0);
    assert!(line.starts_with(&format!("post /v1/heartbeat/{UUID} ")), "{line}");
    assert_eq!(heartbeat["agent_token"], TOKEN);
    let at = heartbeat["callback_url"].as_str().unwrap().strip_prefix("https://").unwrap().to_string();

    // A crowd that says nothing, and goes on coming, is in nobody's way but its own.
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (at, is_over) = (at.parse().unwrap(), &is_over);
        let came = [2, 3, 4].map(|last| scope.spawn(move || crowd([127, 0, 0, last], at, is_over)));
        for _ in 0..3 {
            let (status, body) = conductor(server.dir.path(), &heartbeat, "/v1/status", "");
            assert!(status == 200 && body["version"].is_string(), "{body}");
        }
        is_over.store(true, Ordering::Relaxed);
        let came: usize = came.into_iter().map(|crowd| crowd.join().unwrap()).sum();
        assert!(came > 100, "{came} are no crowd");
    });
    let ask = |path: &str, body: &str| conductor(server.dir.path(), &heartbeat, path, body);
    let with = format!("?wait=true&agent_token={TOKEN}");
    for query in ["", "?agent_token=", "?agent_token=x", &with[..with.len() - 1]] {
        let (status, body) = ask(&format!("/v1/commands/{query}"), &finalize(HASH, true));
        assert_eq!((status, &body["faultcode"]), (401, &json!("Client")), "{query}: {body}");
        assert_eq!(ask(&format!("/v1/commands/{query}"), "").0, 401, "{query}");
    }
    let commands = format!("/v1/commands/{with}");
    for (label, body, why) in [
        ("clear", finalize("Hello world!", false), "not hashed"),
        ("no hash", finalize("Hello world!", true), "not a hash of a known kind"),
        (
            "another",
            "{\"name\":\"clean.get_clean_steps\",\"params\":{}}".to_string(),
            "clean.get_clean_steps",
        ),
    ] {
        let (status, body) = ask(&commands, &body);
        assert_eq!((status, &body["command_status"]), (200, &json!("FAILED")), "{label}: {body}");
        assert!(body["command_error"]["details"].as_str().unwrap().contains(why), "{label}: {body}");
    }
    server.by_password("root", "Hello world!").is_refused();
    assert_eq!(ask(&commands, "{").0, 400);

    let (status, body) = ask(&commands, &finalize(HASH, true));
    assert_eq!((status, &body["command_status"]), (200, &json!("SUCCEEDED")), "{body}");
    assert_eq!(server.by_password("root", "Hello world!").succeeds().text(), "in\n");
    server.by_password("root", "Hello world").is_refused();
    assert!(until(|| TcpStream::connect(&at).is_err()), "nothing listens any more");
    assert!(!server.path("run/lifeboat/sshd/password").exists(), "the one-time password is gone");
    assert!(until(|| server.state()["keys"] == json!([format!("password from Ironic, for node {UUID}")])));
    server.log.wait_for(&format!("password of root set by Ironic, for node {UUID}"));
    // No heartbeat after it, though one a second was due.
    let count = api.asked("/v1/heartbeat").len();
    assert!(!still_happens(|| api.asked("/v1/heartbeat").len() > count));
    for (place, text) in [("log", server.log.text()), ("state", server.state().to_string())] {
        assert!(!text.contains("svn8UoSV") && !text.contains(TOKEN), "{place}: {text}");
    }
}

/// For what Ironic does, which takes its time where others want the processor, and a look costs it a request.
fn eventually(mut condition: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + Duration::from_secs(300);
    while Instant::now() < until {
        if condition() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    false
}

/// Whether it happens within three seconds, where it should not.
fn still_happens(happens: impl Fn() -> bool) -> bool {
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        if happens() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    false
}

#[test]
fn an_ironic_that_hangs_or_lies_keeps_nobody_out_who_has_a_key() {
    need_client!();
    if !is_root() {
        return;
    }
    // One takes the question and says nothing; one answers with noise; one is not there.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let noise = TcpListener::bind("127.0.0.1:0").unwrap();
    let urls = [&silent, &noise].map(|listener| format!("http://{}", listener.local_addr().unwrap()));
    std::thread::spawn(move || {
        for stream in noise.incoming() {
            let _ = stream.unwrap().write_all(&harness::noise(1 << 20));
        }
    });
    let absent = "http://127.0.0.1:1".to_string();
    for url in [&urls[0], &urls[1], &absent, &"mdns".to_string()] {
        let server = Server::start(
            |dir| {
                booted(dir, url);
                authorize(dir, &make_key(dir, "key", &["-t", "ed25519"]));
            },
            &["--agent-port", "0"],
        );
        assert_eq!(server.run("echo in").succeeds().text(), "in\n", "{url}");
        assert_eq!(server.state()["password"], false, "{url}");
    }
}

#[test]
fn the_agent_ends_with_the_listener_and_the_next_one_says_that_the_token_is_gone() {
    need_client!();
    if !is_root() {
        return;
    }
    let mut gone = found();
    gone.1["config"]["agent_token"] = json!("******");
    let api = Api::start(vec![found(), gone], vec![202]);
    let url = format!("http://127.0.0.1:{}", api.port);
    let mut server = Server::start(|dir| booted(dir, &url), &["--agent-port", "0"]);
    assert!(until(|| !api.asked("/v1/heartbeat").is_empty()));
    let heartbeat = api.asked("/v1/heartbeat").remove(0).1;
    let at = heartbeat["callback_url"].as_str().unwrap().strip_prefix("https://").unwrap().to_string();
    TcpStream::connect(&at).unwrap();
    server.crash_and_restart();
    assert!(until(|| TcpStream::connect(&at).is_err()), "the first agent has ended");
    let problems = || server.state()["problems"].to_string();
    assert!(
        until(|| problems().contains("has given the token of this node to somebody else")),
        "{}",
        problems()
    );
}

/// Two network namespaces with a cable between them: Ironic and the owner are in `far`, the machine is in `near`.
struct Networks {
    far: String,
    near: String,
}

const FAR: &str = "192.0.2.1";
const NEAR: &str = "192.0.2.5";

impl Networks {
    fn new() -> Networks {
        let networks = Networks {
            far: format!("ironic-far-{}", std::process::id()),
            near: format!("ironic-near-{}", std::process::id()),
        };
        let Networks { far, near } = &networks;
        let line = format!(
            "set -e; ip netns add {far}; ip netns add {near}
             ip -n {far} link add wire type veth peer name eth0 address {MAC} netns {near}
             ip -n {far} address add {FAR}/24 dev wire; ip -n {near} address add {NEAR}/24 dev eth0
             for link in lo wire; do ip -n {far} link set $link up; done
             for link in lo eth0; do ip -n {near} link set $link up; done"
        );
        run(Command::new("sh").args(["-c", &line]), b"").succeeds();
        networks
    }

    fn within(network: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", network, program]);
        command
    }
}

impl Drop for Networks {
    fn drop(&mut self) {
        for name in [&self.far, &self.near] {
            let _ = Command::new("ip").args(["netns", "delete", name]).status();
        }
    }
}

/// Ironic's API and conductor in one process, with hardware that is not there.
struct Ironic<'a> {
    networks: &'a Networks,
    dir: tempfile::TempDir,
    child: Child,
}

impl Drop for Ironic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().filter(|line| !line.contains("GET /v1/nodes")).collect();
            eprintln!("Ironic's log:\n{}", lines[lines.len().saturating_sub(60)..].join("\n"));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ironic<'_> {
    fn start(networks: &Networks) -> Ironic<'_> {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().display();
        // What it has by default is left: it asks for TLS, and makes the hash of a password by SHA-256. Of the hardware
        // that is not there it cannot manage the boot.
        let enabled = [
            ("hardware_types", "fake-hardware"),
            ("bios_interfaces", "no-bios"),
            ("boot_interfaces", "fake"),
            ("console_interfaces", "no-console"),
            ("deploy_interfaces", "direct"),
            ("firmware_interfaces", "no-firmware"),
            ("inspect_interfaces", "no-inspect"),
            ("management_interfaces", "fake"),
            ("network_interfaces", "noop"),
            ("power_interfaces", "fake"),
            ("raid_interfaces", "no-raid"),
            ("rescue_interfaces", "agent"),
            ("storage_interfaces", "noop"),
            ("vendor_interfaces", "no-vendor"),
        ]
        .map(|(kind, name)| format!("enabled_{kind} = {name}\n"))
        .concat();
        let configuration = format!(
            "[DEFAULT]\nauth_strategy = noauth\nrpc_transport = none\nhost = far\nstate_path = {path}\nlog_file = {path}/log\n\
             {enabled}[api]\nhost_ip = {FAR}\nport = 6385\nramdisk_heartbeat_timeout = 10\n\
             [conductor]\nautomated_clean = false\n[database]\nconnection = sqlite:///{path}/ironic.sqlite\n\
             [agent]\ncertificates_path = {path}/certificates\nmanage_agent_boot = false\n[oslo_concurrency]\nlock_path = {path}\n"
        );
        write(dir.path(), "ironic.conf", &configuration);
        let with = |program: &str| {
            let mut command = Networks::within(&networks.far, program);
            command.arg("--config-file").arg(dir.path().join("ironic.conf"));
            command
        };
        let made =
            with("ironic-dbsync").arg("create_schema").stdin(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut made = made.unwrap();
        assert!(
            eventually(|| made.try_wait().unwrap().is_some_and(|status| status.success())),
            "no database"
        );
        let child =
            with("ironic").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let ironic = Ironic { networks, dir, child };
        assert!(eventually(|| ironic.ask("GET", "/v1/conductors", None)["conductors"][0]["alive"] == true));
        ironic
    }

    fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let mut curl = Networks::within(&self.networks.far, "curl");
        curl.args([
            "--disable",
            "-s",
            "--max-time",
            "30",
            "-X",
            method,
            "-H",
            "X-OpenStack-Ironic-API-Version: 1.81",
        ]);
        curl.args(["-H", "Content-Type: application/json", &format!("http://{FAR}:6385{path}")]);
        if body.is_some() {
            curl.args(["--data-binary", "@-"]);
        }
        let text = body.map(|body| body.to_string()).unwrap_or_default();
        serde_json::from_slice(&run(&mut curl, text.as_bytes()).stdout).unwrap_or(Value::Null)
    }

    /// Asks for a state and waits for the one that comes of it.
    fn provision(&self, node: &str, target: Value, want: &str) {
        let path = format!("/v1/nodes/{node}");
        let answer = self.ask("PUT", &format!("{path}/states/provision"), Some(target.clone()));
        assert_eq!(answer, Value::Null, "{target}");
        let mut seen = Value::Null;
        let came = eventually(|| {
            seen = self.ask("GET", &path, None);
            seen["provision_state"] == want
                || seen["provision_state"].as_str().is_some_and(|s| s.ends_with("failed"))
        });
        assert!(
            came && seen["provision_state"] == want,
            "{target}: {}, {}",
            seen["provision_state"],
            seen["last_error"]
        );
    }
}

#[test]
fn ironic_rescues_a_node_with_it() {
    need_client!();
    let has = |program: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
    };
    for program in ["ironic", "ip", "curl"] {
        if !has(program) {
            eprintln!("SKIPPED: no {program}");
            assert!(std::env::var_os("INTEROP").is_none(), "no {program}");
            return;
        }
    }
    if !is_root() {
        return;
    }
    println!("Ironic {}", run(Command::new("ironic-dbsync").arg("--version"), b"").text().trim());
    let networks = Networks::new();
    let ironic = Ironic::start(&networks);
    let node = ironic.ask(
        "POST",
        "/v1/nodes",
        Some(json!({ "driver": "fake-hardware", "name": "web7", "deploy_interface": "direct" })),
    );
    let uuid = node["uuid"].as_str().unwrap_or_else(|| panic!("{node}")).to_string();
    assert_eq!(node["rescue_interface"], "agent");
    let port = ironic.ask("POST", "/v1/ports", Some(json!({ "node_uuid": uuid, "address": MAC })));
    assert_eq!(port["address"], MAC, "{port}");
    // As a machine that is in use already: nothing is deployed.
    for (target, want) in [("manage", "manageable"), ("adopt", "active")] {
        ironic.provision(&uuid, json!({ "target": target }), want);
    }

    // Without a key, and then with the owner's.
    for with_key in [false, true] {
        let dir = tempfile::TempDir::new().unwrap();
        booted(dir.path(), &format!("http://{FAR}:6385"));
        let key = make_key(dir.path(), "key", &["-t", "ed25519"]);
        if with_key {
            authorize(dir.path(), &key);
        }
        let sshd = Networks::within(&networks.near, env!("CARGO_BIN_EXE_sshd"));
        let listening = listen_by(sshd, dir.path(), 0, &[]);
        let server = Server::of(dir, listening);
        let login = |options: &[&str], password: &str| -> Done {
            let mut ssh = Networks::within(&networks.far, "ssh");
            ssh.args(options).args(server.options()).args([&format!("root@{NEAR}"), "echo in"]);
            run(server.types(&mut ssh, password).env_remove("SSH_AUTH_SOCK"), b"")
        };
        let password = "correct horse battery";
        ironic.provision(&uuid, json!({ "target": "rescue", "rescue_password": password }), "rescue");
        assert!(until(|| server
            .log
            .text()
            .contains(&format!("password of root set by Ironic, for node {uuid}"))));
        let typed = login(&BY_PASSWORD, password);
        if with_key {
            typed.is_refused();
            assert_eq!(login(&[], "").succeeds().text(), "in\n");
            let problems = || server.state()["problems"].to_string();
            assert!(until(|| problems().contains("does not count: a key was given")), "{}", problems());
        } else {
            assert_eq!(typed.succeeds().text(), "in\n");
            login(&BY_PASSWORD, "wrong").is_refused();
        }
        let mut curl = Networks::within(&networks.far, "curl");
        let closed =
            || run(curl.args(["-sk", &format!("https://{NEAR}:9999/v1/status")]), b"").code() == Some(7);
        assert!(until(closed), "nothing listens any more");
        assert!(!server.log.text().contains("$5$") && !server.state().to_string().contains("$5$"));
        ironic.provision(&uuid, json!({ "target": "unrescue" }), "active");
    }
}
