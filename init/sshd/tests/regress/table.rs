//! Which tests of the suite are run, how, and which are not and why.

/// What our server has, of what `ssh -Q` lists.
pub const OFFERED: &[&str] = &[
    "aes128-ctr",
    "aes192-ctr",
    "aes256-ctr",
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "curve25519-sha256",
    "diffie-hellman-group16-sha512",
    "hmac-sha2-256-etm@openssh.com",
    "hmac-sha2-512-etm@openssh.com",
    "mlkem768x25519-sha256",
];

use Edit::{Replace, Until, Without};

pub struct Test {
    pub name: &'static str,
    /// Where the test has to be changed to reach us, with the reason beside the row.
    pub edits: &'static [Edit],
    pub environment: &'static [(&'static str, &'static str)],
}

#[derive(Debug)]
pub enum Edit {
    /// The first text by the second.
    Replace(&'static str, &'static str),
    /// From the first text, up to where the second begins.
    Without(&'static str, &'static str),
    /// From the text to the end.
    Until(&'static str),
}

impl Edit {
    /// `None` where there is no such text.
    pub fn apply(&self, text: &str) -> Option<String> {
        match self {
            Edit::Replace(old, new) => text.contains(old).then(|| text.replace(old, new)),
            Edit::Without(from, to) => {
                let start = text.find(from)?;
                let end = start + text[start..].find(to)?;
                Some(format!("{}{}", &text[..start], &text[end..]))
            }
            Edit::Until(from) => Some(text[..text.find(from)?].to_string()),
        }
    }
}

const fn test(name: &'static str) -> Test {
    Test { name, edits: &[], environment: &[] }
}

const fn edited(name: &'static str, edits: &'static [Edit]) -> Test {
    Test { name, edits, environment: &[] }
}

/// Sorted. What is cut is what asks for a configuration that ours does not have.
pub const TESTS: &[Test] = &[
    test("agent"),
    test("broken-pipe"),
    test("brokenkeys"),
    test("cert-file"),
    // A certificate of an ed25519 key is the one that is served.
    Test { environment: &[("KEYS", "ssh-ed25519")], ..test("cert-hostkey") },
    edited(
        "cert-userkey",
        &[
            Without("\t# Setup for AuthorizedPrincipalsFile\n", "\t# Setup for principals= key option\n"),
            Without("\t\t# Revoked keys\n", "\tdone\n\n\t# Revoked CA\n"),
            Without("\t# Revoked CA\n", "\tverbose \"$tid: $auth CA does not authenticate\"\n"),
            Without("basic_tests TrustedUserCAKeys\n", "\ntest_one()"),
            // RSA keys sign by SHA-2 alone.
            Replace("s/^rsa/ssh-rsa/", "s/^rsa/rsa-sha2-512/"),
            Replace("auth_choice=\"authorized_keys TrustedUserCAKeys\"", "auth_choice=authorized_keys"),
            Without("test_one \"empty principals\"\tfailure", "# principals= key option\n"),
        ],
    ),
    test("connect"),
    test("connect-privsep"),
    test("connect-uri"),
    test("dynamic-forward"),
    edited("envpass", &[Until("trace \"server setenv wins\"")]),
    test("exit-status"),
    test("exit-status-signal"),
    edited("forcecommand", &[Until("authorized_keys false\n")]),
    edited(
        "forward-control",
        &[
            Without("\t# PermitOpen via sshd_config that doesn't match\n", "\t# permitopen keys option.\n"),
            Until("lperm_tests   local"),
        ],
    ),
    test("forwarding"),
    test("host-expand"),
    test("integrity"),
    test("kextype"),
    edited("key-options", &[Without("# Test environment=\n", "# Test from= restriction\n")]),
    Test { environment: &[("KEYS", "ssh-ed25519 ssh-rsa")], ..test("keyscan") },
    // Each kind of user's key with each kind of host key that is served.
    edited("keytype", &[Replace("htypes=\"$ut\"", "htypes=\"ed25519-512 rsa-3072\"")]),
    test("knownhosts"),
    Test { environment: &[("KEYS", "ssh-ed25519 ssh-rsa")], ..test("knownhosts-command") },
    test("localcommand"),
    // No telnet on most machines; the suite's own netcat does the same.
    edited("login-timeout", &[Replace("telnet 127.0.0.1", "$NC 127.0.0.1")]),
    // What sshd says to somebody who does not speak SSH; ours says its version and no more.
    edited("multiplex", &[Replace("grep \"Invalid SSH identification string\"", "grep SSH-2.0")]),
    test("percent"),
    test("portnum"),
    test("proto-mismatch"),
    test("proto-version"),
    // The connection is one, where sshd's was a pipe.
    edited(
        "proxy-connect",
        &[
            Replace(
                "[ \"$SSH_CONNECTION\" != \"UNKNOWN 65535 UNKNOWN 65535\" ]",
                "[ -z \"$SSH_CONNECTION\" ]",
            ),
            Until("verbose \"username with style\""),
        ],
    ),
    // Ours looks at the limit when all that is queued was sent: the end of the channel is not held back for new keys. So there is more than one packet.
    edited("rekey", &[Replace("bs=$s count=1", "bs=$s count=256")]),
    test("scp"),
    test("scp-uri"),
    test("scp3"),
    test("sftp"),
    test("sftp-badcmds"),
    test("sftp-batch"),
    test("sftp-cmds"),
    test("sftp-glob"),
    test("sftp-resume"),
    // The server's start in `/`.
    edited("sftp-uri", &[Replace("start_sshd -oForceCommand=\"internal-sftp -d /\"", "start_sshd")]),
    test("stderr-after-eof"),
    test("stderr-data"),
    test("transfer"),
    test("try-ciphers"),
    test("yes-head"),
];

/// Names apart by blanks.
pub const LEFT_OUT: &[(&str, &str)] = &[
    (
        "addrmatch allow-deny-users cfgmatch cfgmatchlisten cfgparse match-subsystem reconfigure reexec servcfginclude",
        "they test sshd_config, which ours does not have",
    ),
    ("banner", "no banner before a login: it tells a stranger nothing that he may know"),
    (
        "channel-timeout connection-timeout",
        "nothing idle is ended: somebody may watch a disk being copied for a day",
    ),
    ("authinfo agent-restrict", "SSH_USER_AUTH (ExposeAuthInfo) is not written"),
    (
        "limit-keytype multipubkey",
        "PubkeyAcceptedAlgorithms and AuthenticationMethods, by user: one key is enough, of any kind taken",
    ),
    ("keys-command principals-command", "no program is asked who may enter"),
    ("krl", "ssh-keygen's own; lists of revoked keys are not read by ours"),
    (
        "hostkey-rotate",
        "the host's other keys are not told unasked: a client would forget those of the installed system",
    ),
    ("hostkey-agent", "host keys are not kept by an agent"),
    ("hostbased", "no other host is believed"),
    (
        "penalty penalty-expire",
        "PerSourcePenalties lock an address out; ours slows it down (docs/security.md), and has tests of that",
    ),
    ("sftp-perm", "options of sftp-server, which nobody can give it through ours"),
    ("sftp-chroot", "root alone logs in, and is not locked up"),
    ("dhgex", "no Diffie-Hellman by groups of the server's choice is offered"),
    ("sshfp-connect", "it needs a resolver's answer for sshtest.uk from outside"),
    (
        "agent-getpeereid agent-pkcs11 agent-pkcs11-cert agent-pkcs11-restrict",
        "ssh-agent's own: no server takes part",
    ),
    ("agent-ptrace agent-subprocess agent-timeout", "ssh-agent's own as well"),
    (
        "keygen-change keygen-comment keygen-convert keygen-knownhosts keygen-moduli keygen-sshfp sshsig",
        "of ssh-keygen alone: no server takes part",
    ),
    ("cfginclude sshcfgparse", "of the client alone"),
    (
        "conch-ciphers dropbear-ciphers dropbear-kex putty-ciphers putty-kex putty-transfer",
        "other clients: the first half of `make interop` has PuTTY and dropbear; Twisted's conch is not among them",
    ),
];
