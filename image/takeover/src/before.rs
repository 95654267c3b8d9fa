//! What the running system is, read from its files: nothing is written. Plain paths and no `Root`, which asks for
//! openat2(2): the running kernel may be older than Linux 5.6.

use crate::load;
use crate::login::{self, Told};
use crate::service;
use crate::settings::Beside;
use contract::host_keys::{Kind, Served};
use network::Mac;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// More name servers than a resolver asks.
const MOST_NAMESERVERS: usize = 6;

/// Processes looked through, from this one up.
const DEEPEST: usize = 64;

/// A running system, at `/` or, in tests, in a directory.
pub struct System(pub PathBuf);

/// Somebody whose keys are handed on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Person {
    pub name: String,
    /// `None` where nobody knows it.
    pub home: Option<String>,
    pub groups: Vec<String>,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct People {
    /// root first.
    pub all: Vec<Person>,
    /// Who logged in, where that is not root. The files of the others hold keys that may be anybody's.
    pub owner: Option<String>,
}

/// What a program of this system says, as [`says`] has it.
pub type Says<'a> = &'a dyn Fn(&str, &[&str]) -> Option<String>;

/// What goes into the archive: a name in it, and the content.
pub type Files = Vec<(String, Vec<u8>)>;

#[derive(Debug, Default)]
pub struct Login {
    pub files: Files,
    /// Lines of authorized_keys.
    pub keys: Vec<String>,
    /// Files that they are from.
    pub from: Vec<String>,
    /// How many of them surely let their owner in.
    pub ways: usize,
    /// The name of who logged in, where that is not root, and how many of them are his: of his own files, and of those that
    /// were named. Nothing as well where his files are not known, which is a danger by itself.
    pub own: Option<(String, usize)>,
    /// What the machine is known by: files.
    pub known_by: Vec<String>,
    pub notes: Vec<String>,
    /// Why the person might not get back in.
    pub dangers: Vec<String>,
}

impl System {
    fn text(&self, path: &str) -> Option<String> {
        fs::read(self.place(path)).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    fn line(&self, path: &str) -> Option<String> {
        self.text(path).map(|text| text.trim().to_string())
    }

    fn place(&self, path: &str) -> PathBuf {
        self.0.join(path.trim_start_matches('/'))
    }

    fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.place(path)).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// What netlink does not tell of the network. `connection` is sshd's SSH_CONNECTION.
    pub fn beside(&self, connection: Option<&str>) -> Beside {
        let links = self.names("/sys/class/net");
        let has = |name: &str, what: &str| self.place(&format!("/sys/class/net/{name}/{what}")).exists();
        let is_wireless = |name: &str| has(name, "wireless") || has(name, "phy80211");
        let bonds: BTreeMap<String, BTreeMap<String, String>> = links
            .iter()
            .filter(|name| has(name, "bonding"))
            .map(|name| {
                let directory = format!("/sys/class/net/{name}/bonding");
                let options = self.names(&directory).into_iter().filter_map(|option| {
                    let value = self.line(&format!("{directory}/{option}"))?;
                    Some((option, value))
                });
                (name.clone(), options.collect())
            })
            .collect();
        let burnt_in = bonds
            .keys()
            .filter_map(|name| self.text(&format!("/proc/net/bonding/{name}")))
            .flat_map(|text| burnt_in(&text))
            .collect();
        Beside {
            nics: links.iter().filter(|name| has(name, "device") && !is_wireless(name)).cloned().collect(),
            wireless: links.iter().filter(|name| is_wireless(name)).cloned().collect(),
            spanning: links
                .iter()
                .filter(|name| {
                    let path = format!("/sys/class/net/{name}/bridge/stp_state");
                    self.line(&path).is_some_and(|state| state != "0")
                })
                .cloned()
                .collect(),
            bonds,
            burnt_in,
            nameservers: self.nameservers(),
            hostname: self.line("/proc/sys/kernel/hostname").unwrap_or_default(),
            entrance: connection.and_then(|words| end(words, 2)),
            peer: connection.and_then(|words| end(words, 0)),
            movers: self.running(service::MOVERS),
            with: Vec::new(),
            without: Vec::new(),
        }
    }

    /// Those of these programs that run.
    fn running(&self, programs: &[&str]) -> BTreeSet<String> {
        let processes = self.names("/proc").into_iter().filter(|name| name.parse::<u32>().is_ok());
        let names = processes.filter_map(|process| self.line(&format!("/proc/{process}/comm")));
        names.filter(|name| programs.contains(&name.as_str())).collect()
    }

    /// sshd's SSH_CONNECTION of a process or of what it stands below: sudo(8) and su(1) drop it for what they start.
    pub fn connection(&self, process: u32) -> Option<String> {
        self.above(process).iter().find_map(|process| self.connection_of(*process))
    }

    /// root, who logged in, and who typed sudo. The one that logged in is the owner of the outermost process that sshd told its
    /// connection, which is still he, whatever `su -` has made of what it started; where there is none, who typed sudo. Of
    /// users that /etc/passwd does not have (LDAP, SSSD) the system's own programs tell.
    pub fn people(&self, process: u32, sudo: Option<String>, says: Says) -> People {
        let passwd = self.text("/etc/passwd").unwrap_or_default();
        let known = |user: &str| says("getent", &["passwd", user]);
        let mut outermost = self.above(process).into_iter().rev();
        let session = outermost.find(|process| self.connection_of(*process).is_some()).and_then(|session| {
            let owner = self.status(session, "Uid:")?;
            let number = owner.split_ascii_whitespace().next()?.to_string();
            let here = login::name(&passwd, &number);
            let name = here.or_else(|| login::name(&known(&number)?, &number));
            // As sshd put it there.
            let name = name.or_else(|| self.variable(session, "USER"));
            Some((name.unwrap_or_else(|| number.clone()), number == "0", self.variable(session, "HOME")))
        });
        let person = |name: String, of_session: Option<String>| {
            let home = login::home(&passwd, &name);
            let home = home.or(of_session.filter(|home| home.starts_with('/')));
            let home = home.or_else(|| login::home(&known(&name)?, &name));
            let of_system = says("id", &["-Gn", &name]).unwrap_or_default();
            let of_system = of_system.split_ascii_whitespace().map(str::to_string);
            let groups = self.groups(&name, &passwd).into_iter().chain(of_system).collect();
            Person { home, groups: without_doubles(groups), name }
        };
        let owner = match &session {
            Some((name, is_root, _)) => Some(name.clone()).filter(|_| !is_root),
            None => sudo.clone().filter(|user| user != "root"),
        };
        let mut all = vec![person("root".into(), Some("/root".into()))];
        let logged_in = session.filter(|(_, is_root, _)| !is_root).map(|(name, _, home)| (name, home));
        for (name, home) in logged_in.into_iter().chain(sudo.map(|user| (user, None))) {
            if !all.iter().any(|known| known.name == name) {
                all.push(person(name, home));
            }
        }
        People { all, owner }
    }

    /// What the sshd that it stands below was told on its command line.
    pub fn sshd(&self, process: u32) -> Told {
        let mut lines = self.above(process).into_iter().filter_map(|process| {
            let line = fs::read(self.place(&format!("/proc/{process}/cmdline"))).ok()?;
            login::command_line(&String::from_utf8_lossy(&line))
        });
        lines.next().unwrap_or_default()
    }

    /// A process and those that it stands below, from it up.
    fn above(&self, process: u32) -> Vec<u32> {
        let parent =
            |process: &u32| self.status(*process, "PPid:")?.parse().ok().filter(|parent| *parent > 1);
        std::iter::successors(Some(process), parent).take(DEEPEST).collect()
    }

    fn connection_of(&self, process: u32) -> Option<String> {
        self.variable(process, "SSH_CONNECTION")
    }

    /// What a process was started with.
    fn variable(&self, process: u32, name: &str) -> Option<String> {
        let environment = fs::read(self.place(&format!("/proc/{process}/environ"))).ok()?;
        let mut variables = environment.split(|byte| *byte == 0);
        let value =
            variables.find_map(|variable| variable.strip_prefix(name.as_bytes())?.strip_prefix(b"="))?;
        Some(String::from_utf8_lossy(value).into_owned())
    }

    /// A field of proc_pid_status(5).
    fn status(&self, process: u32, name: &str) -> Option<String> {
        let status = self.text(&format!("/proc/{process}/status"))?;
        status.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_string())
    }

    /// Those that answer others than this system: where its own file names a resolver of its own, that one's.
    fn nameservers(&self) -> Vec<IpAddr> {
        let files = [
            "/etc/resolv.conf",
            "/run/systemd/resolve/resolv.conf",
            "/run/NetworkManager/no-stub-resolv.conf",
            "/run/resolvconf/resolv.conf",
        ];
        let read = |path: &&str| {
            let text = self.text(path).unwrap_or_default();
            let servers: Vec<IpAddr> = text
                .lines()
                .filter_map(|line| line.trim().strip_prefix("nameserver")?.trim().parse::<IpAddr>().ok())
                .filter(|server| !server.is_loopback() && !server.is_unspecified())
                .take(MOST_NAMESERVERS)
                .collect();
            (!servers.is_empty()).then_some(servers)
        };
        files.iter().find_map(read).unwrap_or_default()
    }

    /// Words of the running kernel's command line that are about the machine's consoles.
    pub fn console_words(&self) -> Vec<String> {
        let line = self.text("/proc/cmdline").unwrap_or_default();
        let words = line.split_ascii_whitespace();
        let kept = |word: &&str| {
            let name = word.split('=').next().unwrap_or_default();
            matches!(name, "console" | "earlycon" | "nomodeset" | "vga" | "video" | "pci" | "acpi" | "iommu")
        };
        words.filter(kept).map(str::to_string).collect()
    }

    /// Asks sshd itself what it makes of its configuration for each of these users, by the connection of the person. One that
    /// does not answer in time leaves it to what is read here.
    pub fn ask(&self, told: &mut Told, people: &People, connection: Option<&str>) {
        let Some(program) = program(&["sshd"]) else { return };
        let end =
            |at| connection.and_then(|words| end(words, at)).map(|ip| ip.to_string()).unwrap_or_default();
        for person in &people.all {
            let arguments = told.asking(&person.name, &end(0), &end(2));
            told.effective.extend(answer(&program, &arguments).map(|answer| (person.name.clone(), answer)));
        }
    }

    /// Its own are the user's first, then those that it is a member of.
    fn groups(&self, user: &str, passwd: &str) -> Vec<String> {
        let line = passwd.lines().find(|line| line.split(':').next() == Some(user));
        let own = line.and_then(|line| line.split(':').nth(3)).unwrap_or_default();
        let text = self.text("/etc/group").unwrap_or_default();
        let of_user = text.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let (name, number, members) = (fields.next()?, fields.nth(1)?, fields.next()?);
            (number == own || members.split(',').any(|member| member.trim() == user))
                .then(|| name.to_string())
        });
        of_user.collect()
    }

    /// Keys of root, of these people, and of files that were named; and the host's own.
    pub fn login(&self, people: &People, told: &Told, more: &[PathBuf]) -> Login {
        let mut found = Login::default();
        let mut given = 0;
        for path in more {
            match fs::read_to_string(path) {
                Ok(text) => given += ways(&login::keys(&text)),
                Err(error) => found.dangers.push(format!("{} cannot be read: {error}", path.display())),
            }
        }
        let mut files = Vec::new();
        for Person { name: user, home, groups } in &people.all {
            let is_owner = people.owner.as_ref() == Some(user);
            let Some(home) = home else {
                let line = format!("the home of {user} is not known, and so not the keys there: --keys FILE");
                if given == 0 {
                    found.dangers.push(line)
                } else {
                    found.notes.push(line)
                }
                continue;
            };
            let config = self.ssh_config(told, user);
            let mut of_user = login::key_files(&config, user, home);
            let of_file = |path: &String| login::keys(&self.text(path).unwrap_or_default());
            // Somebody may have left one there that opens nothing by now.
            if let Some(keyword) = login::refusal(&config, user, groups) {
                if of_user.iter().any(|path| !of_file(path).is_empty()) {
                    found.notes.push(format!(
                        "{user}'s own keys are not handed on, as sshd takes none of them ({keyword}): --keys FILE"
                    ));
                }
                of_user.clear();
            }
            if is_owner {
                let own: usize = of_user.iter().map(|path| ways(&of_file(path))).sum();
                found.own = Some((user.clone(), own + given));
            }
            files.extend(of_user);
            if let Some(methods) = login::more_than_a_key(&config) {
                found.notes.push(format!(
                    "sshd asks {user} for more than a key (AuthenticationMethods {methods}); in Lifeboat a key alone lets in"
                ));
            }
        }
        let config = self.ssh_config(told, "root");
        // Lifeboat takes over from Lifeboat, too.
        files.push(contract::paths::HANDED_KEYS.into());
        let named = more.iter().map(|path| (path.display().to_string(), fs::read_to_string(path).ok()));
        for (path, text) in files.into_iter().map(|path| (path.clone(), self.text(&path))).chain(named) {
            let keys = login::keys(&text.unwrap_or_default());
            if !keys.is_empty() && !found.from.contains(&path) {
                found.from.push(path);
                found.keys.extend(keys);
            }
        }
        let mut seen = BTreeSet::new();
        found.keys.retain(|key| seen.insert(key.clone()));
        found.ways = ways(&found.keys);
        if people.owner.is_none() && found.ways > 0 {
            let names: Vec<String> = found.keys.iter().filter_map(|key| login::shown(key)).collect();
            found.notes.push(format!(
                "how you logged in as root is not known; these keys will let in, and nothing else: {}",
                names.join(", ")
            ));
        }
        if self.has_other_ways(told, people) && given == 0 {
            found.dangers.push("the way you log in by may be one that is not handed on (sshd_config: TrustedUserCAKeys, AuthorizedKeysCommand, Match, Include): --keys FILE".into());
        }
        if !found.keys.is_empty() {
            found
                .files
                .push((contract::paths::HANDED_KEYS.into(), (found.keys.join("\n") + "\n").into_bytes()));
        }
        self.host_keys(&config, &mut found);
        if !login::ports(&config).contains(&22) {
            found.notes.push(format!(
                "ssh listens on port 22 there, and not on {}",
                login::ports(&config).iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
            ));
        }
        found
    }

    /// As sshd says itself, else each file by itself: a Match ends with it.
    fn has_other_ways(&self, told: &Told, people: &People) -> bool {
        let said: Option<Vec<&String>> =
            people.all.iter().map(|person| told.effective.get(&person.name)).collect();
        if let Some(said) = said {
            return said.into_iter().any(|config| login::has_other_ways(config));
        }
        let beside = self.beside_config(told).into_iter();
        let mut files = beside.chain([told.file()]).filter_map(|path| self.text(&path));
        login::has_other_ways(&told.config) || files.any(|text| login::has_other_ways(&text))
    }

    /// What counts for this user, as sshd says itself; else what it was told on its command line, then the files of
    /// sshd_config.d, then its own: what comes first counts.
    fn ssh_config(&self, told: &Told, user: &str) -> String {
        if let Some(said) = told.effective.get(user) {
            return said.clone();
        }
        let mut text = told.config.clone();
        for path in self.beside_config(told) {
            // A Match ends with its file.
            for line in self.text(&path).unwrap_or_default().lines().take_while(|line| !starts_match(line)) {
                text += &format!("{line}\n");
            }
        }
        text.push_str(&self.text(&told.file()).unwrap_or_default());
        text
    }

    /// The files of sshd_config.d, which a file of another name has to name itself.
    fn beside_config(&self, told: &Told) -> Vec<String> {
        const BESIDE: &str = "/etc/ssh/sshd_config.d";
        let is_usual = told.file.is_none();
        let names_it = || {
            let text = self.text(&told.file()).unwrap_or_default();
            text.lines().any(|line| {
                line.trim_start().to_ascii_lowercase().starts_with("include")
                    && line.contains("sshd_config.d/")
            })
        };
        if !is_usual && !names_it() {
            return Vec::new();
        }
        let names = self.names(BESIDE).into_iter().filter(|name| name.ends_with(".conf"));
        names.map(|name| format!("{BESIDE}/{name}")).collect()
    }

    fn host_keys(&self, config: &str, found: &mut Login) {
        let mut ed25519 = None;
        for path in without_doubles(login::host_key_files(config)) {
            let private = match fs::read(self.place(&path)) {
                Ok(private) => private,
                // Where the public part lies alone, an agent has the other (HostKeyAgent).
                Err(error)
                    if error.kind() == ErrorKind::NotFound
                        && !self.place(&format!("{path}.pub")).exists() =>
                {
                    continue;
                }
                Err(error) => {
                    found.notes.push(format!("{path} cannot be read: {error}"));
                    continue;
                }
            };
            match login::host_key(&private) {
                Ok(key) => {
                    let place = login::place(key.kind);
                    if found.files.iter().any(|(name, _)| name == place) {
                        found.notes.push(format!("{path} is not kept: there is room for one key of its type"));
                        continue;
                    }
                    found.files.push((place.into(), private));
                    found.known_by.push(path.clone());
                    if key.kind == Kind::Ed25519 {
                        ed25519 = Some((path, key));
                    }
                }
                Err(reason) => found.notes.push(format!(
                    "{path} {reason}: it is not kept, and a client that knows this host by it alone will not know it"
                )),
            }
        }
        if found.known_by.is_empty() {
            found.notes.push("no host key is handed on: clients will see a new one".into());
        }
        self.certificates(config, ed25519, found);
    }

    /// The certificate of the ed25519 key, wherever it lies, and all others by name. `ed25519` is that key, and where it is from.
    fn certificates(&self, config: &str, ed25519: Option<(String, Served)>, found: &mut Login) {
        let place = format!("{}-cert.pub", login::place(Kind::Ed25519));
        let of_key = |text: &[u8]| match &ed25519 {
            Some((_, key)) => login::certificate(text, key),
            None => Err("is not of the ed25519 key, which alone has one in Lifeboat".to_string()),
        };
        let said = without_doubles(login::certificate_files(config));
        if said.is_empty() {
            // Lifeboat's sshd, which has no configuration, offers the one beside its key.
            let beside = ed25519.iter().map(|(path, _)| format!("{path}-cert.pub"));
            if let Some((path, line)) = beside
                .into_iter()
                .find_map(|path| Some((path.clone(), of_key(&fs::read(self.place(&path)).ok()?).ok()?)))
            {
                found.files.push((place, line.into_bytes()));
                found.known_by.push(path);
            }
            return;
        }
        let keys = self.public_keys(config);
        let mut lost = Vec::new();
        let mut is_kept = false;
        for path in said {
            // As OpenSSH's own reader looks for one (authfile.c, sshkey_load_public).
            let read = fs::read(self.place(&path)).or_else(|error| {
                fs::read(self.place(&format!("{path}.pub"))).map_err(|_| format!("cannot be read: {error}"))
            });
            match read.as_deref().map_err(String::clone).and_then(of_key) {
                Ok(line) if !is_kept => {
                    found.files.push((place.clone(), line.into_bytes()));
                    found.known_by.push(path);
                    is_kept = true;
                }
                Ok(_) => lost.push(format!("{path} is one more of the same key")),
                Err(reason) if read.is_ok_and(|text| is_offered(&text, &keys)) => {
                    lost.push(format!("{path} {reason}"));
                }
                Err(reason) => found.notes.push(format!("{path} {reason}: sshd does not offer it either")),
            }
        }
        let lost = lost.into_iter().map(|line| format!("a certificate of this host is not kept: {line}"));
        if is_kept {
            found.notes.extend(lost);
        } else {
            let unknown =
                "a client that knows this host by its authority alone (@cert-authority) will not know it";
            found.dangers.extend(lost.map(|line| format!("{line}; {unknown}")));
        }
    }

    /// Of all keys that sshd serves; `None` for one that is there and cannot be told.
    fn public_keys(&self, config: &str) -> Vec<Option<Vec<u8>>> {
        let of_file = |path: String| {
            let private = fs::read(self.place(&path));
            let beside = fs::read(self.place(&format!("{path}.pub")));
            let is_gone = |read: &io::Result<Vec<u8>>| {
                read.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound)
            };
            if is_gone(&private) && is_gone(&beside) {
                return None;
            }
            Some(login::public(private.ok().as_deref(), beside.ok().as_deref()))
        };
        without_doubles(login::all_host_key_files(config)).into_iter().filter_map(of_file).collect()
    }

    /// root's hash, or why there is none to hand on.
    pub fn password(&self) -> Result<String, &'static str> {
        login::password(&self.text("/etc/shadow").unwrap_or_default())
    }

    /// A number of /proc/meminfo, in bytes.
    pub fn memory(&self, name: &str) -> Option<u64> {
        let text = self.text("/proc/meminfo")?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_ascii_whitespace().next()?.parse::<u64>().ok().map(|kibibytes| kibibytes << 10)
    }

    /// Why the kernel may refuse to load another one.
    pub fn is_loading_disabled(&self) -> bool {
        self.line("/proc/sys/kernel/kexec_load_disabled").is_some_and(|state| state == "1")
    }

    pub fn is_locked_down(&self) -> bool {
        self.text("/sys/kernel/security/lockdown").is_some_and(|text| !text.contains("[none]"))
    }

    pub fn has_systemd(&self) -> bool {
        self.place("/run/systemd/system").is_dir()
    }
}

/// A word of SSH_CONNECTION, which is four: an address and a port of the client, and of the server.
fn end(connection: &str, at: usize) -> Option<IpAddr> {
    let word = connection.split_ascii_whitespace().nth(at)?;
    word.split('%').next()?.parse().ok()
}

/// Whether sshd, which serves these keys, offers a certificate of this text. OpenSSH names each other one in its log, and goes on
/// (sshd.c, "Could not load host certificate", "No matching private key for certificate").
fn is_offered(text: &[u8], keys: &[Option<Vec<u8>>]) -> bool {
    let is_of = |of: &[u8]| keys.iter().any(|key| key.as_deref().is_none_or(|key| key == of));
    login::certified(text).is_some_and(|of| is_of(&of))
}

/// How many of these lines surely let in.
fn ways(keys: &[String]) -> usize {
    keys.iter().filter(|key| login::lets_in(key)).count()
}

/// How long a program is waited for that only says something.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a program says that lies where programs do.
pub fn says(name: &str, arguments: &[&str]) -> Option<String> {
    answer(&program(&[name])?, &arguments.iter().map(|word| word.to_string()).collect::<Vec<_>>())
}

/// What it says, where it ends well, in time.
fn answer(program: &Path, arguments: &[String]) -> Option<String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let child = command.spawn().ok()?;
    let ended = load::bounded(PATIENCE, move || child.wait_with_output())?;
    let said = ended.ok().filter(|said| said.status.success())?;
    Some(String::from_utf8_lossy(&said.stdout).into_owned())
}

fn starts_match(line: &str) -> bool {
    line.trim_start().get(..5).is_some_and(|word| word.eq_ignore_ascii_case("match"))
}

/// /proc/net/bonding/NAME: each port and its own MAC.
fn burnt_in(text: &str) -> Vec<(String, Mac)> {
    let mut found = Vec::new();
    let mut port = None;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("Slave Interface: ") {
            port = Some(name.trim().to_string());
        } else if let Some(mac) = line.strip_prefix("Permanent HW addr: ") {
            found.extend(port.take().zip(Mac::parse(mac.trim())));
        }
    }
    found
}

/// Where a program lies; a rescue is run with whatever PATH there is.
pub fn program(names: &[&str]) -> Option<PathBuf> {
    let places = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"];
    let found = names.iter().flat_map(|name| places.iter().map(move |place| Path::new(place).join(name)));
    found.into_iter().find(|path| path.exists())
}

/// Everything twice is once.
pub fn without_doubles(words: Vec<String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    words.into_iter().filter(|word| seen.insert(word.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system(files: &[(&str, &str)]) -> (tempfile::TempDir, System) {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let system = System(directory.path().into());
        (directory, system)
    }

    /// Made by ssh-keygen, with the public part beside it.
    fn host_key(path: &Path, arguments: &[&str]) {
        let mut keygen = Command::new("ssh-keygen");
        if !arguments.contains(&"-N") {
            keygen.args(["-N", ""]);
        }
        assert!(keygen.arg("-q").args(arguments).arg("-f").arg(path).status().unwrap().success());
    }

    #[test]
    fn a_host_key_that_an_agent_has_is_named_as_lost_and_one_that_nobody_has_is_not() {
        for (files, named) in [(&[][..], false), (&[("etc/ssh/key.pub", "ssh-ed25519 AAAA")], true)] {
            let config = ("etc/ssh/sshd_config", "HostKey /etc/ssh/key\n");
            let (_directory, system) = system(&[&[config], files].concat());
            let notes = system.login(&people(&system, None), &Told::default(), &[]).notes;
            assert_eq!(notes.iter().any(|note| note.contains("/etc/ssh/key")), named, "{notes:?}");
        }
    }

    /// KEY-cert.pub of an authority beside it.
    fn certify(key: &Path, arguments: &[&str]) {
        let authority = key.with_file_name("authority");
        if !authority.exists() {
            host_key(&authority, &["-t", "ed25519"]);
        }
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-I", "db1", "-n", "db1.example.com"]).args(arguments).arg("-s").arg(authority);
        assert!(keygen.arg(key.with_extension("pub")).status().unwrap().success());
    }

    #[test]
    fn a_certificate_is_kept_wherever_it_lies_and_named_where_it_is_not() {
        let (directory, system) = system(&[("etc/ssh/garbage", "ssh-ed25519-cert-v01@openssh.com AAAA\n")]);
        let place = |name: &str| directory.path().join("etc/ssh").join(name);
        for (name, arguments) in [
            ("ssh_host_ed25519_key", &["-t", "ed25519"][..]),
            ("ssh_host_rsa_key", &["-t", "rsa", "-b", "2048"]),
            ("other", &["-t", "ed25519"]),
        ] {
            host_key(&place(name), arguments);
        }
        for name in ["ssh_host_ed25519_key", "ssh_host_rsa_key", "other"] {
            certify(&place(name), &["-h"]);
        }
        fs::create_dir_all(directory.path().join("srv")).unwrap();
        let own = fs::read(place("ssh_host_ed25519_key-cert.pub")).unwrap();
        fs::copy(place("ssh_host_ed25519_key-cert.pub"), directory.path().join("srv/signed")).unwrap();
        certify(&place("ssh_host_ed25519_key"), &["-V", "-1h:+1h"]);
        fs::rename(place("ssh_host_ed25519_key-cert.pub"), place("of-a-user")).unwrap();
        let keys = "HostKey /etc/ssh/ssh_host_ed25519_key\nHostKey /etc/ssh/ssh_host_rsa_key\n";
        let check = |label: &str, config: &str, known: usize, notes: &[&str], dangers: &[&str]| {
            fs::write(place("sshd_config"), format!("{config}{keys}")).unwrap();
            let login = system.login(&people(&system, None), &Told::default(), &[]);
            let handed = login.files.iter().find(|(name, _)| name.ends_with("-cert.pub"));
            if let Some((name, text)) = handed {
                assert_eq!((name.as_str(), text), ("etc/ssh/ssh_host_ed25519_key-cert.pub", &own), "{label}");
            }
            assert_eq!((usize::from(handed.is_some()) + 2, login.known_by.len()), (known, known), "{label}");
            for (found, wanted) in [(&login.notes, notes), (&login.dangers, dangers)] {
                assert_eq!(found.len(), wanted.len(), "{label}: {found:?}");
                assert!(
                    found.iter().zip(wanted).all(|(line, part)| line.contains(part)),
                    "{label}: {found:?}"
                );
            }
        };
        let (signed, rsa) =
            ("HostCertificate /srv/signed\n", "HostCertificate /etc/ssh/ssh_host_rsa_key-cert.pub\n");
        check("none", "", 2, &[], &[]);
        check("of a name of its own", signed, 3, &[], &[]);
        check("RSA's alone", rsa, 2, &[], &["ssh-rsa-cert-v01@openssh.com"]);
        check("both", &format!("{rsa}{signed}"), 3, &["ssh_host_rsa_key-cert.pub"], &[]);
        check("twice", &format!("{signed}{signed}{keys}"), 3, &[], &[]);
        check(
            "of a user, by sshd's own key",
            "HostCertificate /etc/ssh/of-a-user\n",
            2,
            &[],
            &["not the certificate of a host"],
        );
        check(
            "both of what is lost",
            &format!("HostCertificate /etc/ssh/nowhere\n{rsa}"),
            2,
            &["cannot be read"],
            &["ssh-rsa-cert"],
        );
        check(
            "named without its suffix",
            "HostCertificate /etc/ssh/ssh_host_rsa_key-cert\n",
            2,
            &[],
            &["ssh-rsa-cert"],
        );
        // Those that sshd names in its log and does not offer: a key that was made anew, a host that was never signed.
        for (name, why) in [
            ("other-cert.pub", "of another key"),
            ("garbage", "not a certificate"),
            ("ssh_host_rsa_key.pub", "not a certificate"),
            ("nowhere", "cannot be read"),
        ] {
            check(name, &format!("HostCertificate /etc/ssh/{name}\n"), 2, &[why], &[]);
        }
        // Lifeboat itself has it beside the key, and no word about it.
        fs::rename(directory.path().join("srv/signed"), place("ssh_host_ed25519_key-cert.pub")).unwrap();
        check("beside the key", "", 3, &[], &[]);
        fs::rename(place("other-cert.pub"), place("ssh_host_ed25519_key-cert.pub")).unwrap();
        check("of another key, beside it", "", 2, &[], &[]);
    }

    #[test]
    fn a_certificate_that_sshd_offers_and_lifeboat_cannot_is_a_danger_of_the_keys_that_sshd_serves() {
        let key = |name: &str| format!("HostKey /etc/ssh/{name}\n");
        let (ecdsa, other) = ("ssh_host_ecdsa_key", "other");
        for (label, keys, without, is_danger) in [
            ("ECDSA's, where nothing is said", "".to_string(), &[][..], true),
            ("ECDSA's, named", key(ecdsa), &[], true),
            ("ECDSA's, whose public part is in the key alone", key(ecdsa), &["ssh_host_ecdsa_key.pub"], true),
            ("ECDSA's, which an agent has", key(ecdsa), &["ssh_host_ecdsa_key"], true),
            ("of a key that sshd does not serve", key(other), &[], false),
            ("of a key that is gone", key(ecdsa), &["ssh_host_ecdsa_key", "ssh_host_ecdsa_key.pub"], false),
            ("PEM, which it may be of", key("pem"), &["pem.pub"], true),
            ("PEM, which it is not of", key("pem"), &[], false),
        ] {
            let certificate = "HostCertificate /etc/ssh/ssh_host_ecdsa_key-cert.pub\n";
            let config = format!("{keys}{certificate}");
            let (directory, system) = system(&[("etc/ssh/sshd_config", config.as_str())]);
            let place = |name: &str| directory.path().join("etc/ssh").join(name);
            for (name, arguments) in [
                (ecdsa, &["-t", "ecdsa"][..]),
                (other, &["-t", "ecdsa"]),
                ("pem", &["-t", "ecdsa", "-m", "PEM"]),
            ] {
                host_key(&place(name), arguments);
            }
            certify(&place(ecdsa), &["-h"]);
            for name in without {
                fs::remove_file(place(name)).unwrap();
            }
            let login = system.login(&people(&system, None), &Told::default(), &[]);
            let named =
                |lines: &[String]| lines.iter().any(|line| line.contains("ssh_host_ecdsa_key-cert.pub"));
            assert_eq!(
                (named(&login.dangers), named(&login.notes)),
                (is_danger, !is_danger),
                "{label}: {login:?}"
            );
        }
    }

    #[test]
    fn a_host_key_that_lifeboat_does_not_serve_is_named_as_lost() {
        for (label, arguments, kept) in [
            ("ed25519", &["-t", "ed25519"][..], true),
            ("rsa, PEM", &["-t", "rsa", "-b", "2048", "-m", "PEM"], true),
            ("rsa, PKCS#8", &["-t", "rsa", "-b", "2048", "-m", "PKCS8"], true),
            ("rsa of 1024", &["-t", "rsa", "-b", "1024"], false),
            ("rsa of 1024, PEM", &["-t", "rsa", "-b", "1024", "-m", "PEM"], false),
            ("rsa of 1024, PKCS#8", &["-t", "rsa", "-b", "1024", "-m", "PKCS8"], false),
            ("with a passphrase", &["-t", "ed25519", "-N", "secret"], false),
            ("with a passphrase, PEM", &["-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "secret"], false),
            ("with a passphrase, PKCS#8", &["-t", "rsa", "-b", "2048", "-m", "PKCS8", "-N", "secret"], false),
            ("ecdsa", &["-t", "ecdsa"], false),
        ] {
            let (directory, system) = system(&[("etc/ssh/sshd_config", "HostKey /etc/ssh/key\n")]);
            host_key(&directory.path().join("etc/ssh/key"), arguments);
            // Its public part beside it, and without.
            for _ in 0..2 {
                let login = system.login(&people(&system, None), &Told::default(), &[]);
                let named = login.notes.iter().any(|note| note.contains("/etc/ssh/key"));
                assert_eq!(
                    (login.known_by.len(), login.files.len(), named),
                    (usize::from(kept), usize::from(kept), !kept),
                    "{label}: {:?}",
                    login.notes
                );
                fs::remove_file(directory.path().join("etc/ssh/key.pub")).ok();
            }
        }
    }

    /// As they are where nobody is logged in over SSH.
    fn people(system: &System, sudo: Option<&str>) -> People {
        system.people(1, sudo.map(str::to_string), &|_, _| None)
    }

    #[test]
    fn keys_of_root_and_of_who_typed_sudo_are_handed_on_with_the_host_s_own() {
        let (directory, system) = system(&[
            ("etc/passwd", "root:x:0:0::/root:/bin/sh\nbob:x:1000:1000::/home/bob:/bin/sh\n"),
            ("root/.ssh/authorized_keys", "ssh-ed25519 AAAAroot r\n"),
            ("home/bob/.ssh/authorized_keys", "ssh-rsa AAAAbob b\n"),
            ("etc/ssh/sshd_config", "Port 2222\n"),
        ]);
        for (name, arguments) in [("ed25519", &["-t", "ed25519"][..]), ("rsa", &["-t", "rsa", "-b", "2048"])]
        {
            host_key(&directory.path().join(format!("etc/ssh/ssh_host_{name}_key")), arguments);
        }
        certify(&directory.path().join("etc/ssh/ssh_host_ed25519_key"), &["-h"]);
        let bob = people(&system, Some("bob"));
        let login = system.login(&bob, &Told::default(), &[]);
        assert_eq!(login.keys, ["ssh-ed25519 AAAAroot r", "ssh-rsa AAAAbob b"]);
        let names: Vec<&str> = login.files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "/etc/lifeboat/handed/authorized_keys",
                "etc/ssh/ssh_host_ed25519_key",
                "etc/ssh/ssh_host_rsa_key",
                "etc/ssh/ssh_host_ed25519_key-cert.pub"
            ]
        );
        assert!(login.notes[0].contains("2222"), "{:?}", login.notes);
        assert_eq!((login.ways, login.dangers.len()), (0, 0), "no whole key is among them");
        assert_eq!(system.login(&people(&system, None), &Told::default(), &[]).keys.len(), 1);
        for (config, kept) in [
            ("PermitRootLogin no\n", false),
            ("permitrootlogin forced-commands-only\nPermitRootLogin yes\n", false),
            ("PermitRootLogin no  # hardened\n", false),
            ("PermitRootLogin \"no\" # hardened\n", false),
            ("PermitRootLogin prohibit-password\n", true),
        ] {
            fs::write(directory.path().join("etc/ssh/sshd_config"), config).unwrap();
            let login = system.login(&bob, &Told::default(), &[]);
            assert_eq!(login.keys.contains(&"ssh-ed25519 AAAAroot r".to_string()), kept, "{config}");
            assert!(login.keys.contains(&"ssh-rsa AAAAbob b".to_string()), "{config}");
            assert_eq!(login.notes.iter().any(|note| note.contains("root's own keys")), !kept, "{config}");
        }
    }

    #[test]
    fn what_sshd_says_itself_counts_before_what_is_read_here() {
        let (_directory, system) = system(&[
            ("etc/passwd", "root:x:0:0::/root:/bin/sh\nbob:x:1000:7::/home/bob:/bin/sh\n"),
            ("etc/group", "admins:x:7:\nwheel:x:10:alice,bob\n"),
            ("etc/ssh/sshd_config", "Include /srv/*\nMatch User bob\nAuthorizedKeysFile /etc/no\n"),
            ("etc/keys/bob", "ssh-ed25519 AAAAbob b\n"),
            ("root/.ssh/authorized_keys", "ssh-ed25519 AAAAroot r\n"),
        ]);
        let bob = people(&system, Some("bob"));
        let said = |user: &str, config: &str| (user.to_string(), config.to_string());
        let of_bob = "allowgroups wheel\nauthorizedkeysfile /etc/keys/%u\nauthenticationmethods publickey,password\n\
                      trustedusercakeys none\nauthorizedkeyscommand none\n";
        let effective = [said("bob", of_bob), said("root", "allowgroups wheel\n")].into();
        let login = system.login(&bob, &Told { effective, ..Told::default() }, &[]);
        assert_eq!(login.keys, ["ssh-ed25519 AAAAbob b"]);
        assert_eq!(login.dangers, [""; 0]);
        assert!(login.notes[0].contains("root's own keys") && login.notes[0].contains("AllowGroups"));
        assert!(login.notes[1].contains("publickey,password"), "{:?}", login.notes);
        // One that did not answer for all.
        let effective = [said("root", "permitrootlogin yes\n")].into();
        let login = system.login(&bob, &Told { effective, ..Told::default() }, &[]);
        assert_eq!((login.keys.len(), login.dangers.len()), (1, 1), "{:?}", login.keys);
    }

    #[test]
    fn a_program_that_fails_or_is_not_there_says_nothing() {
        let said = |program: &str, arguments: &[&str]| {
            answer(Path::new(program), &arguments.iter().map(|word| word.to_string()).collect::<Vec<_>>())
        };
        assert_eq!(said("/bin/echo", &["port", "22"]).as_deref(), Some("port 22\n"));
        assert_eq!((said("/bin/false", &[]), said("/nowhere", &[])), (None, None));
    }

    #[test]
    fn what_sshd_was_told_on_its_command_line_counts_before_its_files() {
        let (directory, system) = system(&[
            ("etc/passwd", "root:x:0:0::/root:/bin/sh\n"),
            ("etc/ssh/sshd_config", "AuthorizedKeysFile /etc/no\n"),
            ("etc/ssh/sshd_config.d/x.conf", "AuthorizedKeysFile /etc/neither\n"),
            ("srv/sshd.conf", "AuthorizedKeysFile /etc/nor\n"),
            ("etc/keys/root", "ssh-ed25519 AAAAroot r\n"),
            ("proc/9/cmdline", "sh\0"),
            ("proc/9/status", "PPid:\t8\n"),
            ("proc/8/cmdline", "sshd-session: root@pts/0"),
            ("proc/8/status", "PPid:\t7\n"),
            (
                "proc/7/cmdline",
                "sshd: /usr/sbin/sshd -D -f /srv/sshd.conf -h /srv/host_key -oAuthorizedKeysFile=/etc/keys/%u -p2222 \
                 [listener] 1 of 10-100 startups\0",
            ),
        ]);
        host_key(&directory.path().join("srv/host_key"), &["-t", "ed25519"]);
        let login = system.login(&people(&system, None), &system.sshd(9), &[]);
        assert_eq!(
            (login.from, login.known_by),
            (vec!["/etc/keys/root".into()], vec!["/srv/host_key".into()])
        );
        assert!(login.notes[0].contains("2222"), "{:?}", login.notes);
        assert_eq!(system.sshd(8).file(), "/srv/sshd.conf");
    }

    #[test]
    fn a_resolver_of_the_machine_itself_is_no_name_server_of_another_system() {
        let (_directory, system) = system(&[
            ("etc/resolv.conf", "nameserver 127.0.0.53\noptions edns0\n"),
            ("sys/class/net/eth0/device", ""),
            ("sys/class/net/wlan0/device", ""),
            ("sys/class/net/wlan0/phy80211/name", "phy0\n"),
            ("sys/class/net/docker0/mtu", "1500\n"),
            ("run/systemd/resolve/resolv.conf", "nameserver 192.0.2.53\nnameserver 2001:db8::53\n"),
            ("proc/7/comm", "keepalived\n"),
            ("proc/8/comm", "sh\n"),
            ("proc/sys/comm", "ucarp\n"),
        ]);
        let beside = system.beside(Some("203.0.113.9 50000 192.0.2.5 22"));
        assert_eq!(beside.nameservers.len(), 2);
        assert_eq!((beside.nics, beside.wireless), (["eth0".into()].into(), ["wlan0".into()].into()));
        assert_eq!(beside.entrance, "192.0.2.5".parse().ok());
        assert_eq!(beside.peer, "203.0.113.9".parse().ok());
        assert_eq!(beside.movers, ["keepalived".to_string()].into());
        assert_eq!(end("fe80::9%eth0 1 fe80::5%eth0 22", 2), "fe80::5".parse().ok());
        assert_eq!(end("UNKNOWN 65535 UNKNOWN 65535", 2), None);
    }

    #[test]
    fn the_connection_is_found_above_what_sudo_started() {
        let (_directory, system) = system(&[
            ("proc/40/environ", "HOME=/root\0"),
            ("proc/40/status", "Name:\tsh\nPPid:\t30\n"),
            ("proc/30/environ", ""),
            ("proc/30/status", "PPid:\t20\n"),
            ("proc/20/environ", "A=SSH_CONNECTION=x\0SSH_CONNECTION=203.0.113.9 5 192.0.2.5 22\0B=1\0"),
            ("proc/9/environ", "TERM=linux\0"),
            ("proc/9/status", "PPid:\t1\n"),
            ("proc/8/status", "PPid:\t8\n"),
        ]);
        assert_eq!(system.connection(40).as_deref(), Some("203.0.113.9 5 192.0.2.5 22"));
        assert_eq!([9, 8, 7].map(|process| system.connection(process)), [None, None, None]);
    }

    #[test]
    fn who_logged_in_is_known_below_su() {
        let bob = "SSH_CONNECTION=203.0.113.9 5 192.0.2.5 22\0USER=alice\0";
        let (_directory, system) = system(&[
            ("etc/passwd", "root:x:0:0::/root:/bin/sh\nbob:x:1000:1000::/home/bob:/bin/sh\n"),
            ("proc/40/environ", "USER=root\0"),
            ("proc/40/status", "PPid:\t30\nUid:\t0\t0\t0\t0\n"),
            ("proc/30/environ", bob),
            ("proc/30/status", "PPid:\t20\nUid:\t0\t0\t0\t0\n"),
            ("proc/20/environ", bob),
            ("proc/20/status", "PPid:\t10\nUid:\t1000\t1000\t1000\t1000\n"),
            ("proc/10/environ", ""),
            ("proc/10/status", "PPid:\t1\nUid:\t1000\t1000\t1000\t1000\n"),
        ]);
        let owner = |process| system.people(process, None, &|_, _| None).owner;
        assert_eq!(owner(40).as_deref(), Some("bob"));
        assert_eq!(owner(10), None);
    }

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHmDG8O1bWYxNZGdJOEEVLrFJbSCn3bQdQ1QwWh6MTpn";

    #[test]
    fn another_s_key_is_no_way_in_for_who_logged_in() {
        let roots = format!("{KEY} backup\n");
        let (directory, system) = system(&[
            ("etc/passwd", "root:x:0:0::/root:/bin/sh\nbob:x:1000:7::/home/bob:/bin/sh\n"),
            ("root/.ssh/authorized_keys", roots.as_str()),
        ]);
        let given = directory.path().join("given");
        fs::write(&given, format!("{KEY} bob\n")).unwrap();
        let own = |sudo, more: &[PathBuf]| {
            let login = system.login(&people(&system, sudo), &Told::default(), more);
            (login.ways, login.own, login.notes.iter().any(|note| note.contains("(backup)")))
        };
        let bob = |ways| Some(("bob".to_string(), ways));
        assert_eq!(own(Some("bob"), &[]), (1, bob(0), false));
        assert_eq!(own(Some("bob"), &[given]), (2, bob(1), false));
        // Nobody knows whether root came by a key: which will do is said.
        assert_eq!(own(Some("root"), &[]), (1, None, true));
        assert_eq!(own(None, &[]), (1, None, true));
        let files = [
            ("home/bob/.ssh/authorized_keys", format!("from=\"192.0.2.1\" {KEY} bob\n"), 0),
            ("home/bob/.ssh/authorized_keys", format!("{KEY} bob\n"), 1),
            ("etc/ssh/sshd_config", "PubkeyAuthentication no\n".into(), 0),
            // One file for all users.
            ("etc/ssh/sshd_config", "AuthorizedKeysFile /root/.ssh/authorized_keys\n".into(), 1),
        ];
        for (name, text, wanted) in files {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, &text).unwrap();
            assert_eq!(own(Some("bob"), &[]).1, bob(wanted), "{text}");
        }
    }

    #[test]
    fn the_keys_of_a_user_of_a_directory_are_found_by_his_session_or_asked_for() {
        let of_bob = format!("{KEY} bob\n");
        let (_directory, system) = system(&[
            ("etc/passwd", "root:x:0:0::/root:/bin/sh\n"),
            ("etc/ssh/sshd_config", "AllowGroups wheel\n"),
            ("home/ad/bob/.ssh/authorized_keys", of_bob.as_str()),
            ("proc/40/environ", "USER=root\0HOME=/root\0"),
            ("proc/40/status", "PPid:\t20\nUid:\t0\t0\t0\t0\n"),
            (
                "proc/20/environ",
                "USER=bob\0HOMEX=/no\0HOME=/home/ad/bob\0SSH_CONNECTION=203.0.113.9 5 192.0.2.5 22\0",
            ),
            ("proc/20/status", "PPid:\t1\nUid:\t70001\t70001\t70001\t70001\n"),
        ]);
        let asked = |program: &str, arguments: &[&str]| match (program, arguments) {
            ("getent", ["passwd", "bob" | "70001"]) => {
                Some("bob:*:70001:70001::/home/ad/bob:/bin/sh\n".to_string())
            }
            ("id", ["-Gn", "bob"]) => Some("users wheel\n".to_string()),
            _ => None,
        };
        let wheel = |_: &str, arguments: &[&str]| (arguments[0] == "-Gn").then(|| "wheel\n".to_string());
        let nobody = |_: &str, _: &[&str]| None;
        let sudo = || Some("bob".to_string());
        // By its session, asked, or both.
        let cases: [(&str, u32, Option<String>, Says); 4] = [
            ("session, and nobody answers for its home", 40, None, &wheel),
            ("session, and all answer", 40, None, &asked),
            ("sudo in a session", 40, sudo(), &asked),
            ("sudo without a session", 1, sudo(), &asked),
        ];
        for (label, process, sudo, says) in cases {
            let people = system.people(process, sudo, says);
            assert_eq!(people.owner.as_deref(), Some("bob"), "{label}: {people:?}");
            let login = system.login(&people, &Told::default(), &[]);
            assert_eq!(login.keys, [of_bob.trim()], "{label}");
            assert_eq!((login.own, login.dangers), (Some(("bob".into(), 1)), vec![]), "{label}");
        }
        // Not without a word.
        let people = system.people(1, sudo(), &nobody);
        let login = system.login(&people, &Told::default(), &[]);
        assert_eq!((login.own, login.dangers.len()), (None, 1), "{:?}", login.dangers);
        assert!(login.dangers[0].contains("the home of bob"), "{:?}", login.dangers);
    }

    #[test]
    fn ports_of_a_bond_are_known_by_what_was_burnt_in() {
        let text = "Bonding Mode: x\n\nSlave Interface: eth0\nMII Status: up\nPermanent HW addr: 52:54:00:00:00:01\n\
                    Slave queue ID: 0\n\nSlave Interface: eth1\nPermanent HW addr: 52:54:00:00:00:02\n";
        let found = burnt_in(text);
        assert_eq!(found.len(), 2);
        assert_eq!((found[1].0.as_str(), found[1].1.to_string().as_str()), ("eth1", "52:54:00:00:00:02"));
    }

    #[test]
    fn consoles_are_kept_and_the_installed_root_is_not() {
        let (_directory, system) = system(&[
            (
                "proc/cmdline",
                "BOOT_IMAGE=/vmlinuz root=UUID=1 ro quiet console=tty0 console=ttyS1,115200n8 nomodeset\n",
            ),
            ("proc/meminfo", "MemTotal:       1000 kB\nMemAvailable: 12 kB\n"),
        ]);
        assert_eq!(system.console_words(), ["console=tty0", "console=ttyS1,115200n8", "nomodeset"]);
        assert_eq!((system.memory("MemTotal"), system.memory("MemFree")), (Some(1_024_000), None));
    }
}
