//! Targets of the SSH service: everything that is read before somebody has logged in.

use sshd::hostile::{self, packet, string};

pub const WORDS: &[&[u8]] = &[
    b"ssh-userauth",
    b"ssh-connection",
    b"publickey",
    b"password",
    b"keyboard-interactive",
    b"hostbased",
    b"rsa-sha2-512",
    b"ssh-ed25519-cert-v01@openssh.com",
    b"ext-info-c",
    b"kex-strict-c-v00@openssh.com",
    b"mlkem768x25519-sha256",
    b"diffie-hellman-group14-sha256",
    b"SSH-2.0-",
    b"\r\n",
    &[0, 0, 0, 4],
];

pub fn connection(input: &[u8]) {
    let _ = hostile::connection(input); // any answer is one
}

pub const KEY_WORDS: &[&[u8]] = &[
    b"ssh-ed25519 ",
    b"cert-authority,",
    b"command=\"",
    b"from=\"10.0.0.0/8,!::1\"",
    b"expiry-time=\"20300101Z\"",
    b"permitopen=\"[::1]:22\"",
    b"environment=\"A=b\"",
    b"restrict,pty",
    b"\\\"",
    b"\n",
];

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHmDG8O1bWYxNZGdJOEEVLrFJbSCn3bQdQ1QwWh6MTpn me";

pub fn keys(input: &[u8]) {
    hostile::authorized_keys(&String::from_utf8_lossy(input));
}

pub fn key_files() -> Vec<Vec<u8>> {
    [
        format!("# mine\n{KEY}\n"),
        format!("from=\"192.0.2.0/24,!192.0.2.9\",command=\"echo \\\"hi\\\"\",no-pty {KEY}\n"),
        format!("cert-authority,principals=\"root,admin\",expiry-time=\"20300101\" {KEY}\n"),
        format!("restrict,permitopen=\"db:5432\",permitlisten=\"2222\",environment=\"LANG=C\" {KEY}\n"),
        KEY.replace(' ', ","),
    ]
    .map(String::into_bytes)
    .into()
}

pub fn certificate(input: &[u8]) {
    hostile::certificate(input);
}

/// PROTOCOL.certkeys of OpenSSH; the signature is wrong, which is found out last.
pub fn certificates() -> Vec<Vec<u8>> {
    let key = [string(b"ssh-ed25519"), string(&[9; 32])].concat();
    let option = |name: &[u8], value: &[u8]| [string(name), string(&string(value))].concat();
    [
        (Vec::new(), string(b"root")),
        (
            [option(b"force-command", b"ls"), option(b"source-address", b"192.0.2.0/24")].concat(),
            [string(b"root"), string(b"admin")].concat(),
        ),
    ]
    .map(|(critical, principals)| {
        let extensions = [string(b"permit-pty"), string(b"")].concat();
        [
            string(b"ssh-ed25519-cert-v01@openssh.com"),
            string(&[1; 32]),
            string(&[9; 32]),
            7u64.to_be_bytes().to_vec(),
            1u32.to_be_bytes().to_vec(),
            string(b"id"),
            string(&principals),
            0u64.to_be_bytes().to_vec(),
            u64::MAX.to_be_bytes().to_vec(),
            string(&critical),
            string(&extensions),
            string(b""),
            string(&key),
            string(&[string(b"ssh-ed25519"), string(&[0; 64])].concat()),
        ]
        .concat()
    })
    .into()
}

/// The signature is what the first byte counts from the end.
pub fn proof(input: &[u8]) {
    let (first, rest) = input.split_first().map_or((0, input), |(first, rest)| (*first, rest));
    let (signed, signature) = rest.split_at(rest.len().saturating_sub(first.into()));
    hostile::proof(SESSION, &[&string(SESSION)[..], signed].concat(), signature);
    hostile::proof(SESSION, signed, signature);
}

const SESSION: &[u8] = &[5; 32];

pub fn proofs() -> Vec<Vec<u8>> {
    let key = [string(b"ssh-ed25519"), string(&[9; 32])].concat();
    let signature = [string(b"ssh-ed25519"), string(&[0; 64])].concat();
    let request = [
        vec![50],
        string(b"root"),
        string(b"ssh-connection"),
        string(b"publickey"),
        vec![1],
        string(b"ssh-ed25519"),
        string(&key),
    ];
    vec![[vec![signature.len() as u8], request.concat(), signature].concat()]
}

pub fn credentials(input: &[u8]) {
    hostile::smbios(input);
}

pub fn tables() -> Vec<Vec<u8>> {
    let text = format!("io.systemd.credential:ssh.authorized_keys.root={KEY}");
    let binary = "io.systemd.credential.binary:ssh.authorized_keys.root=c3NoLWVkMjU1MTkgQUFBQQo=";
    let structure = |kind: u8, strings: &[&str]| {
        let mut bytes = vec![kind, 5, 0, 1, strings.len() as u8];
        for string in strings {
            bytes.extend_from_slice(string.as_bytes());
            bytes.push(0);
        }
        bytes.push(0);
        bytes
    };
    vec![
        [structure(0, &["BIOS"]), structure(11, &["vendor", &text, binary]), structure(127, &["x"])].concat(),
    ]
}

pub const CLOUD_WORDS: &[&[u8]] = &[
    b"#cloud-config\n",
    b"ssh_authorized_keys:\n",
    b"users:\n",
    b"- name: root\n",
    b"public-keys",
    b"\"public_keys\":{",
    b"  - ",
    b": [",
    b"\"",
    b"'",
    b"|\n",
];

pub fn cloud(input: &[u8]) {
    hostile::cloud(input);
}

pub fn clouds() -> Vec<Vec<u8>> {
    [
        "\0#cloud-config\nusers:\n  - default\n  - name: root\n    ssh_authorized_keys:\n      - ssh-rsa AAAA me\n\
         ssh_authorized_keys: [\"a b\", 'c d', e]\nwrite_files:\n- content: |\n    x\n",
        "\0{\"ssh_authorized_keys\":[\"a b\"],\"users\":[{\"name\":\"root\",\"ssh_authorized_keys\":[\"c\"]}]}",
        "\u{1}instance-id: i\npublic-keys:\n  mine: \"ssh-rsa AAAA\"\n",
        "\u{2}{\"uuid\":\"u\",\"public_keys\":{\"mine\":\"ssh-rsa AAAA me\\n\"}}",
        "\u{3}{\"public-keys\":\"ssh-rsa AAAA\\nssh-rsa BBBB\"}",
        "\u{4}{\"ssh_public_keys\":[{\"key\":\"ssh-rsa AAAA\"}]}",
        "\u{5}[\"ssh-rsa AAAA\"]",
        "\u{5}- ssh-rsa AAAA\n- 'ssh-rsa BBBB'\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

pub const REQUEST_WORDS: &[&[u8]] = &[
    b"POST ",
    b"GET ",
    b"/v1/commands/",
    b"?wait=true&agent_token=tttttttttttttttttttttttttttttttt",
    b"%74",
    b" HTTP/1.1\r\n",
    b"Content-Length: ",
    b"Transfer-Encoding: chunked\r\n",
    b"\r\n\r\n",
    b"{\"name\":\"rescue.finalize_rescue\",\"params\":{",
    b"\"rescue_password\":\"$5$a$b\"",
    b"\"hashed\":true",
];

pub fn ironic(input: &[u8]) {
    hostile::ironic(input);
}

pub fn requests() -> Vec<Vec<u8>> {
    let token = "t".repeat(32);
    let body =
        "{\"name\":\"rescue.finalize_rescue\",\"params\":{\"rescue_password\":\"$5$a$b\",\"hashed\":true}}";
    [
        format!(
            "POST /v1/commands/?wait=false&agent_token={token} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ),
        format!("GET /v1/commands/?agent_token={token} HTTP/1.1\r\n\r\n"),
        "GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n".to_string(),
        format!(
            "{{\"node\":{{\"uuid\":\"1be26c0b-03f2-4d2e-ae87-c02d7f33c123\"}},\
             \"config\":{{\"heartbeat_timeout\":300,\"agent_token\":\"{token}\"}}}}"
        ),
    ]
    .map(String::into_bytes)
    .into()
}

/// One more than the service's own: a rekey that a client asks for before it has logged in.
pub fn connections() -> Vec<Vec<u8>> {
    let mut seeds = hostile::connections();
    seeds.push([&[4][..], &packet(&[20]), &packet(&[30]), &packet(&[21])].concat());
    seeds
}
