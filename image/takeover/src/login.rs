//! Who may log in, and what the machine is known by: the running system's keys, in the places that Lifeboat reads
//! (OpenSSH's own). Text in, text out; the caller reads the files.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use contract::authorized_keys::{self, TYPES};
use contract::host_keys::{self, Kind, Served};
use contract::password;
use contract::text::Untrusted;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// What a running sshd was told on its command line (sshd(8)).
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// `-f`.
    pub file: Option<String>,
    /// The rest, as lines of a configuration. In OpenSSH, too, the first of a keyword counts, or all of them do.
    pub config: String,
    /// What it makes of it all for each user, with every `Match` and `Include`, as it says itself (`sshd -T -C`).
    pub effective: BTreeMap<String, String>,
}

impl Told {
    /// Arguments by which sshd says what it makes of its configuration for a user's login by this connection: `peer` and `own`
    /// are its two ends, or nothing where they are not known.
    pub fn asking(&self, user: &str, peer: &str, own: &str) -> Vec<String> {
        let file = self.file.iter().flat_map(|file| ["-f".to_string(), file.clone()]);
        let options = self.config.lines().flat_map(|line| ["-o".to_string(), line.to_string()]);
        let whole = match (peer, own) {
            ("", _) | (_, "") => format!("user={user}"),
            _ => format!("user={user},host={peer},addr={peer},laddr={own}"),
        };
        ["-T".to_string()].into_iter().chain(file).chain(options).chain(["-C".to_string(), whole]).collect()
    }

    /// Its configuration.
    pub fn file(&self) -> String {
        self.file.clone().unwrap_or_else(|| "/etc/ssh/sshd_config".into())
    }
}

/// Options of sshd's that take a value.
const VALUED: &str = "CcEfghopu";

/// A line of /proc/PID/cmdline, where it is that of an sshd that listens: as it was typed, or as it titles itself
/// (`sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups`).
pub fn command_line(line: &str) -> Option<Told> {
    let line = line.replace('\0', " ");
    let typed = match line.strip_prefix("sshd: ") {
        Some(title) => title.split_once(" [listener]")?.0,
        None => line.trim(),
    };
    let mut words = typed.split_ascii_whitespace().peekable();
    words.next().filter(|program| program.rsplit('/').next() == Some("sshd"))?;
    // OpenSSH's has neither operands nor long options: this is another of the same name, such as Lifeboat's.
    if words.peek().is_some_and(|word| !word.starts_with('-'))
        || words.clone().any(|word| word.starts_with("--"))
    {
        return None;
    }
    let mut told = Told::default();
    while let Some(word) = words.next() {
        let Some(letters) = word.strip_prefix('-') else { continue };
        let Some(at) = letters.find(|letter| VALUED.contains(letter)) else { continue };
        let attached = &letters[at + 1..];
        let value = if attached.is_empty() { words.next().unwrap_or_default() } else { attached };
        match &letters[at..=at] {
            _ if value.is_empty() => {}
            "c" => told.config += &format!("HostCertificate {value}\n"),
            "f" => told.file = Some(value.to_string()),
            "h" => told.config += &format!("HostKey {value}\n"),
            "p" => told.config += &format!("Port {value}\n"),
            // A title has lost the quotes of `-o "Port 2222"`.
            "o" if !value.contains('=') => {
                let rest = words.next_if(|word| !word.starts_with('-')).unwrap_or_default();
                told.config += &format!("{value} {rest}\n");
            }
            "o" => told.config += &format!("{}\n", value.replacen('=', " ", 1)),
            _ => {}
        }
    }
    Some(told)
}

/// `HostKey` of the global part of sshd_config: the files in their order, OpenSSH's own where none is said.
pub fn host_key_files(config: &str) -> Vec<String> {
    let said: Vec<String> = settings(config, "hostkey");
    if said.is_empty() {
        ["ed25519", "rsa"].map(|kind| format!("/etc/ssh/ssh_host_{kind}_key")).into()
    } else {
        said
    }
}

/// The same with ECDSA's, which OpenSSH serves and Lifeboat does not.
pub fn all_host_key_files(config: &str) -> Vec<String> {
    let mut files = host_key_files(config);
    if settings(config, "hostkey").is_empty() {
        files.push("/etc/ssh/ssh_host_ecdsa_key".into());
    }
    files
}

/// `HostCertificate` of the same. OpenSSH offers no other, whatever lies beside a key.
pub fn certificate_files(config: &str) -> Vec<String> {
    settings(config, "hostcertificate")
}

/// `Port` of the same; 22 where none is said.
pub fn ports(config: &str) -> Vec<u16> {
    let said: Vec<u16> = settings(config, "port").iter().filter_map(|port| port.parse().ok()).collect();
    if said.is_empty() { vec![22] } else { said }
}

/// `AuthorizedKeysFile` of the same, for a user with this home.
pub fn key_files(config: &str, user: &str, home: &str) -> Vec<String> {
    let said = settings(config, "authorizedkeysfile");
    let words: Vec<&str> =
        said.first().map_or(vec![".ssh/authorized_keys", ".ssh/authorized_keys2"], |line| {
            line.split_ascii_whitespace().collect()
        });
    let files = words.into_iter().filter(|word| *word != "none").map(|word| {
        let word = word.replace("%h", home).replace("%u", user).replace("%%", "%");
        if word.starts_with('/') { word } else { format!("{home}/{word}") }
    });
    files.collect()
}

/// A line's keyword and its value, without quotes around it; `None` for a comment.
fn setting(line: &str) -> Option<(&str, &str)> {
    let line = Some(line.trim()).filter(|line| !line.starts_with('#'))?;
    let (name, value) = line.split_once(|c: char| c.is_ascii_whitespace() || c == '=').unwrap_or((line, ""));
    Some((
        name,
        without_comment(value).trim_matches(|c: char| c.is_ascii_whitespace() || c == '=' || c == '"'),
    ))
}

/// What stands before a comment at the end of a line: one begins at a blank, and not between quotes.
fn without_comment(value: &str) -> &str {
    let (mut is_quoted, mut before) = (false, ' ');
    for (at, c) in value.char_indices() {
        match c {
            '"' => is_quoted = !is_quoted,
            '#' if !is_quoted && before.is_ascii_whitespace() => return &value[..at],
            _ => {}
        }
        before = c;
    }
    value
}

/// The keyword by which no key of a user's opens a shell, if there is one. `groups` are the user's.
pub fn refusal(config: &str, user: &str, groups: &[String]) -> Option<&'static str> {
    let first = |keyword| settings(config, keyword).first().map(|value| value.to_ascii_lowercase());
    let all = |keyword| {
        let lines = settings(config, keyword);
        lines.iter().flat_map(|line| line.split_ascii_whitespace()).map(str::to_string).collect::<Vec<_>>()
    };
    // `USER@HOST`: where from is not asked here, so such a line may allow and does not deny.
    let names_user = |pattern: &String, counts_host: bool| match pattern.split_once('@') {
        Some((name, _)) => counts_host && network::glob(name, user),
        None => network::glob(pattern, user),
    };
    let names_group = |pattern: &String| groups.iter().any(|group| network::glob(pattern, group));
    let (users, in_groups) = (all("allowusers"), all("allowgroups"));
    let of_root =
        || first("permitrootlogin").is_some_and(|value| value == "no" || value == "forced-commands-only");
    let refusals = [
        ("PubkeyAuthentication", first("pubkeyauthentication").is_some_and(|value| value == "no")),
        ("PermitRootLogin", user == "root" && of_root()),
        ("DenyUsers", all("denyusers").iter().any(|pattern| names_user(pattern, false))),
        ("AllowUsers", !users.is_empty() && !users.iter().any(|pattern| names_user(pattern, true))),
        ("DenyGroups", all("denygroups").iter().any(names_group)),
        ("AllowGroups", !in_groups.is_empty() && !in_groups.iter().any(names_group)),
    ];
    refusals.into_iter().find(|(_, refuses)| *refuses).map(|(keyword, _)| keyword)
}

/// `AuthenticationMethods`, where a key alone does not do.
pub fn more_than_a_key(config: &str) -> Option<String> {
    let said = settings(config, "authenticationmethods").into_iter().next()?;
    let does = |way: &str| way == "any" || way == "publickey";
    (!said.split_ascii_whitespace().any(does)).then_some(said)
}

/// Values of a keyword, in the order of the file, as far as the first Match (sshd_config(5)).
fn settings(config: &str, keyword: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (name, value) in config.lines().filter_map(setting) {
        if name.eq_ignore_ascii_case("match") {
            break;
        }
        if name.eq_ignore_ascii_case(keyword) && !value.is_empty() {
            found.push(value.to_string());
        }
    }
    found
}

/// The lines that hold a key, with what stands before it. Cloud images put a key into root's file whose only use is to say
/// that somebody else should log in (`command="echo 'Please login as ...'"`): that word is not for the rescue, whose only
/// user is root, and the key is the administrator's own.
pub fn keys(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| without_referral(line).to_string()).collect()
}

fn without_referral(line: &str) -> &str {
    let says_so =
        line.contains("command=\"echo ") && line.to_lowercase().contains("please login as the user");
    let key = ["ssh-", "ecdsa-", "sk-"].iter().filter_map(|kind| line.find(&format!("\" {kind}"))).min();
    match key.filter(|_| says_so) {
        Some(end) => line[end + 1..].trim(),
        None => line,
    }
}

/// Whether a line of authorized_keys surely lets its owner in, to a shell of Lifeboat's.
pub fn lets_in(line: &str) -> bool {
    authorized_keys::lets_in(line, &decode)
}

fn decode(base64: &str) -> Option<Vec<u8>> {
    STANDARD.decode(base64).ok()
}

/// A line of a key that lets in, for a person: `SHA256:...` as `ssh-add -l` has it, and what stands behind it.
pub fn shown(line: &str) -> Option<String> {
    let is_key = |text: &str| text.split([' ', '\t']).next().is_some_and(|kind| TYPES.contains(&kind));
    let key = if is_key(line) { line } else { authorized_keys::after_options(line)?.1 };
    let mut words = key.split_whitespace().skip(1);
    let sum = Sha256::digest(words.next().and_then(decode).filter(|_| lets_in(line))?);
    let comment = words.collect::<Vec<_>>().join(" ");
    let name = match comment.is_empty() {
        true => String::new(),
        false => format!(" ({})", Untrusted(&comment)),
    };
    Some(format!("SHA256:{}{name}", STANDARD_NO_PAD.encode(sum)))
}

/// Whether sshd may let in by more than the files of keys that are read here: a certificate's authority, a command that
/// is asked for keys, files for some users or of an included file. Matches count as well.
pub fn has_other_ways(config: &str) -> bool {
    let mut is_within_match = false;
    for (name, value) in config.lines().filter_map(setting) {
        let is_other = match name.to_ascii_lowercase().as_str() {
            "trustedusercakeys" | "authorizedkeyscommand" => !value.eq_ignore_ascii_case("none"),
            "authorizedkeysfile" => is_within_match,
            "include" => value != "/etc/ssh/sshd_config.d/*.conf" && value != "sshd_config.d/*.conf",
            "match" => {
                is_within_match = true;
                false
            }
            _ => false,
        };
        if is_other {
            return true;
        }
    }
    false
}

/// root's hash in /etc/shadow; the error says why Lifeboat's sshd would not compare with it.
pub fn password(shadow: &str) -> Result<String, &'static str> {
    let line = shadow.lines().find_map(|line| line.strip_prefix("root:")).unwrap_or_default();
    let hash = line.split(':').next().unwrap_or_default();
    if !hash.starts_with('$') {
        return Err("root has no password to go on with");
    }
    password::opens(hash).map(|()| hash.to_string()).map_err(|_| {
        "root's password does not go on: Lifeboat compares with hashes of $5$, $6$ and $y$ that are whole and of a usual cost"
    })
}

/// A user by his number, in /etc/passwd or a line of it.
pub fn name(passwd: &str, number: &str) -> Option<String> {
    let line = passwd.lines().find(|line| line.split(':').nth(2) == Some(number))?;
    line.split(':').next().map(str::to_string)
}

/// Home directory of a user in /etc/passwd.
pub fn home(passwd: &str, user: &str) -> Option<String> {
    let line = passwd.lines().find(|line| line.split(':').next() == Some(user))?;
    line.split(':').nth(5).filter(|home| home.starts_with('/')).map(str::to_string)
}

/// What Lifeboat serves of a host's private key. The error completes "PATH ".
pub fn host_key(private: &[u8]) -> Result<Served, String> {
    host_keys::served(&String::from_utf8_lossy(private), &decode)
}

/// The line of a host's certificate that Lifeboat offers with this key. The error completes "PATH ".
pub fn certificate(text: &[u8], key: &Served) -> Result<String, String> {
    let text = String::from_utf8_lossy(text);
    host_keys::certificate(&text, &key.public, &decode).map(|line| format!("{line}\n"))
}

/// The public key that a host's certificate is of; none where OpenSSH's sshd would not take it for a certificate.
pub fn certified(text: &[u8]) -> Option<Vec<u8>> {
    host_keys::certified(&String::from_utf8_lossy(text), &decode)
}

/// The public key of a host's private key, of whatever type, or else of the text beside it.
pub fn public(private: Option<&[u8]>, beside: Option<&[u8]>) -> Option<Vec<u8>> {
    let of_private = private.and_then(|text| host_keys::public(&String::from_utf8_lossy(text), &decode).ok());
    of_private.or_else(|| decode(String::from_utf8_lossy(beside?).split_ascii_whitespace().nth(1)?))
}

/// Where Lifeboat looks for it.
pub fn place(kind: Kind) -> &'static str {
    match kind {
        Kind::Ed25519 => "etc/ssh/ssh_host_ed25519_key",
        Kind::Rsa => "etc/ssh/ssh_host_rsa_key",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sshd_config_is_read_as_far_as_the_first_match() {
        let config = "# HostKey /no\nhostkey /etc/a\nHostKey=\"/etc/b\"\nPort 2222\n\
                      AuthorizedKeysFile /etc/keys/%u .ssh/k\nMatch User x\nHostKey /etc/c\nPort 1\n";
        assert_eq!(host_key_files(config), ["/etc/a", "/etc/b"]);
        assert_eq!(ports(config), [2222]);
        assert_eq!(key_files(config, "root", "/root"), ["/etc/keys/root", "/root/.ssh/k"]);
        assert_eq!(host_key_files("")[0], "/etc/ssh/ssh_host_ed25519_key");
        assert_eq!((ports(""), key_files("", "bob", "/home/bob").len()), (vec![22], 2));
    }

    #[test]
    fn who_is_refused_by_name_by_group_or_with_any_key_is_seen() {
        let groups = ["root".to_string(), "wheel".to_string()];
        for (config, user, wanted) in [
            ("", "root", None),
            ("PermitRootLogin no", "root", Some("PermitRootLogin")),
            ("PermitRootLogin no", "bob", None),
            ("permitrootlogin forced-commands-only\nPermitRootLogin yes", "root", Some("PermitRootLogin")),
            ("PermitRootLogin prohibit-password", "root", None),
            ("PubkeyAuthentication no", "bob", Some("PubkeyAuthentication")),
            ("AllowUsers alice bob", "root", Some("AllowUsers")),
            ("AllowUsers alice\nallowusers ro*t@192.0.2.0/24", "root", None),
            ("DenyUsers root@192.0.2.9", "root", None),
            ("DenyUsers b?b", "bob", Some("DenyUsers")),
            ("AllowGroups admins", "bob", Some("AllowGroups")),
            ("AllowGroups admins whe*", "bob", None),
            ("DenyGroups wheel", "bob", Some("DenyGroups")),
        ] {
            assert_eq!(refusal(config, user, &groups), wanted, "{config} {user}");
        }
        for (config, wanted) in [
            ("", None),
            ("AuthenticationMethods any", None),
            ("AuthenticationMethods publickey,password publickey", None),
            ("authenticationmethods publickey,keyboard-interactive", Some("publickey,keyboard-interactive")),
        ] {
            assert_eq!(more_than_a_key(config).as_deref(), wanted, "{config}");
        }
    }

    #[test]
    fn sshd_is_asked_as_it_was_started() {
        let told = Told { file: Some("/a b".into()), config: "Port 2222\n".into(), ..Told::default() };
        assert_eq!(
            told.asking("root", "192.0.2.9", "192.0.2.5").join("|"),
            "-T|-f|/a b|-o|Port 2222|-C|user=root,host=192.0.2.9,addr=192.0.2.9,laddr=192.0.2.5"
        );
        assert_eq!(Told::default().asking("bob", "", "").join("|"), "-T|-C|user=bob");
    }

    #[test]
    fn a_command_line_of_sshd_is_read_as_sshd_does() {
        let told = |line: &str| command_line(line).map(|told| (told.file(), told.config));
        let usual = "/etc/ssh/sshd_config".to_string();
        assert_eq!(
            told("/usr/sbin/sshd\0-Dep\0\x32222\0-f\0/a\0-oHostKey=/b\0-c/c\0"),
            Some(("/a".into(), "Port 2222\nHostKey /b\nHostCertificate /c\n".into()))
        );
        assert_eq!(
            told("sshd: /usr/sbin/sshd -D -h /c -o Port 23 -E /log -4 [listener] 0 of 10-100 startups"),
            Some((usual.clone(), "HostKey /c\nPort 23\n".into()))
        );
        assert_eq!(told("sshd: /usr/sbin/sshd -f [listener] 0"), Some((usual, String::new())));
        for other in [
            "sshd: root@pts/0",
            "sshd-session: root [priv]",
            "bash",
            "",
            "sshd: ",
            "sshd monitor --prefix /",
            "sshd -D --host x",
        ] {
            assert_eq!(told(other), None, "{other}");
        }
    }

    #[test]
    fn a_key_that_refers_to_another_user_lets_in() {
        let referral = "no-port-forwarding,command=\"echo 'Please login as the user \\\"debian\\\" rather than the user \
                        \\\"root\\\".';echo;sleep 10;exit 142\" ssh-ed25519 AAAA me";
        let forced = "command=\"rrsync /srv\" ssh-ed25519 AAAA backup";
        assert_eq!(keys(&format!("# x\n\n{referral}\n{forced}\n")), ["ssh-ed25519 AAAA me", forced]);
    }

    #[test]
    fn a_key_counts_where_its_owner_surely_gets_in() {
        /// `ssh-keygen -t rsa -b 1024`, OpenSSH 9.2
        const RSA_1024: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC4b/rQ5Aknrwas5c/NgPIS1Mo0YyZzCx/yjErrspCOPSjVi0fDcZFC2wjrgvhpUomleTQvZFsosyRl480vcG4wNvd3VyBupfkFkvPJqmcaxJS0UXa9I83I6UzFckNFryW+oLJDrY2n2P6H7LAWR3thtWNTZmNCs/1sBmTi6RI5pw==";
        const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHmDG8O1bWYxNZGdJOEEVLrFJbSCn3bQdQ1QwWh6MTpn";
        let with = |options: &str| format!("{options}{KEY} me");
        let cases = [
            (with(""), true),
            (with("no-pty,environment=\"A=from= x\" "), true),
            (with("no-pty,from=\"192.0.2.0/24\" "), false),
            (with("Command=\"rrsync \\\"/srv\\\" x\" "), false),
            (with("expiry-time=\"20200101\" "), false),
            (with("x y "), false),
            (with("no-pty,frobnicate "), false),
            (with("cert-authority "), false),
            (with("permitopen=\"db:1\" "), true),
            (with("permitopen=\"db\" "), false),
            (RSA_1024.into(), false),
            (KEY[..50].into(), false),
            (KEY.replace("ssh-ed25519 ", "ssh-rsa "), false),
            ("ssh-ed25519 AAAAroot r".into(), false),
            ("ssh-ed25519".into(), false),
            (String::new(), false),
        ];
        for (line, wanted) in cases {
            assert_eq!(lets_in(&line), wanted, "{line}");
        }
    }

    #[test]
    fn other_ways_in_than_files_of_keys_are_seen() {
        let usual = "Include /etc/ssh/sshd_config.d/*.conf\n#TrustedUserCAKeys /x\nAuthorizedKeysFile .ssh/k\n\
                     AuthorizedKeysCommand none\nMatch User x\nForceCommand y\n";
        assert!(!has_other_ways(usual) && !has_other_ways(""));
        assert!(!has_other_ways("AuthorizedKeysCommand none  # of the directory\n"));
        for more in [
            "TrustedUserCAKeys /etc/ca",
            "authorizedkeyscommand=/bin/x",
            "Match all\nAuthorizedKeysFile /k",
            "Include /srv/*",
        ] {
            assert!(has_other_ways(&format!("{usual}{more}\n")), "{more}");
        }
    }

    #[test]
    fn a_password_is_a_hash_and_not_a_lock() {
        assert_eq!(password("daemon:*:1\nroot:$y$j9T$x$y:19000:0\n").as_deref(), Ok("$y$j9T$x$y"));
        for locked in ["root:!$y$j9T$x$y:1\n", "root:*:1\n", ""] {
            assert_eq!(password(locked), Err("root has no password to go on with"), "{locked}");
        }
        // Those of other methods are in many a /etc/shadow.
        for hash in [
            "$1$salt$hash",
            "$2a$05$x",
            "$2b$05$x",
            "$2y$05$x",
            "$gy$j9T$x$y",
            "$7$x$y",
            "$6$cut",
            "$y$jDT$x$y",
        ] {
            let said = password(&format!("root:{hash}:1\n")).unwrap_err();
            assert!(said.contains("does not go on"), "{hash}: {said}");
        }
    }

    #[test]
    fn homes_are_found() {
        assert_eq!(home("root:x:0:0:root:/root:/bin/sh\n", "root").as_deref(), Some("/root"));
        assert_eq!(home("bob:x:1::relative:", "bob"), None);
    }
}
