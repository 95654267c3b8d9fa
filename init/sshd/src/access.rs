//! Who may enter, read anew at each login: root alone, by any key that was given or a certificate of a
//! key that was given as an authority, else by password.

use crate::cloud;
use crate::credentials;
use crate::fetch;
use crate::ironic;
use crate::keys::{self, Authorized, Found};
use crate::metadata;
use crate::options::{Grant, Options};
use crate::password::Hash;
use crate::proof::Offer;
use crate::settings::Settings;
use contract::{cmdline, paths};
use host::Root;
use russh::keys::Certificate;
use russh::keys::ssh_key::{Algorithm, HashAlg};
use std::io;
use std::net::IpAddr;

/// Where a key came from that lifeboat-kexec.sh brought, for a person.
const HANDED: &str = "the system before,";
pub const AUTHORIZED_KEYS: &str = "/root/.ssh/authorized_keys";

#[derive(Debug, PartialEq)]
pub struct Access {
    pub keys: Vec<Authorized>,
    pub password: Password,
    /// What was given and not taken, one line each.
    pub problems: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Password {
    /// A key was given.
    Off,
    /// With where it is from, for a person: `rescue.password_hash=`, or Ironic.
    Hash(Hash, String),
    /// The random one of this boot, in [`paths::PASSWORD`].
    OneTime,
}

impl Access {
    pub fn read(root: &Root) -> Access {
        let words = host::params::read(root);
        // In the order of precedence: whoever builds or serves the image, then the boot loader, then
        // whom the boot loader names, then the hypervisor, then whoever may plug in a disk, then the cloud.
        let mut found = match root.read_text(AUTHORIZED_KEYS) {
            Ok(text) => keys::file(AUTHORIZED_KEYS, &text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Found::default(),
            Err(error) => Found { problems: vec![format!("{AUTHORIZED_KEYS}: {error}")], ..Found::default() },
        };
        // Not the file above, which an appended archive may hold as well: the kernel keeps the last one alone.
        match root.read_text(paths::HANDED_KEYS) {
            Ok(text) => found.append(keys::file(HANDED, &text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => found.problems.push(format!("{}: {error}", paths::HANDED_KEYS)),
        }
        let values = || cmdline::all(&words, "ssh_key").map(str::trim);
        found.append(keys::parameters(values().filter(|value| !contract::url::is_url(value))));
        let urls: Vec<&str> = values().filter(|value| contract::url::is_url(value)).collect();
        if let Some(url) = urls.get(fetch::MAX_URLS) {
            found.problems.push(format!(
                "boot parameter ssh_key: {} and later URLs are not fetched, only the first {}: put more keys into one of their files",
                contract::url::shown(url),
                fetch::MAX_URLS
            ));
        }
        for url in urls.into_iter().take(fetch::MAX_URLS) {
            if url.starts_with("http:") {
                found.problems.push(format!(
                    "boot parameter ssh_key: {} is not encrypted: whoever sits on the line can let himself in",
                    contract::url::shown(url)
                ));
            }
            if let Some(text) = fetch::text(root, url) {
                found.append(keys::file(&contract::url::shown(url), &text));
            }
        }
        for credential in credentials::read(root) {
            match credential.text {
                Ok(text) => found.append(keys::file(&credential.source, &text)),
                Err(reason) => found.problems.push(format!("{}: {reason}", credential.source)),
            }
        }
        let wish = metadata::wish(&words);
        found.problems.extend(wish.problems);
        let volumes = wish.volumes.then_some(fetch::Place::Volumes);
        for place in volumes.into_iter().chain(wish.services.into_iter().map(fetch::Place::Service)) {
            for (source, of_place) in cloud::sections(&fetch::text(root, &place.id()).unwrap_or_default()) {
                let problems = of_place.problems.iter().map(|problem| format!("{source}: {problem}"));
                found.problems.extend(problems);
                found.append(keys::list(&source, &of_place.keys));
            }
        }
        let hash = match cmdline::last(&words, "rescue.password_hash").map(Hash::parse) {
            None => None,
            Some(Ok(hash)) => Some((hash, "boot parameter rescue.password_hash".to_string())),
            Some(Err(reason)) => {
                found.problems.push(format!("boot parameter rescue.password_hash: {reason}"));
                None
            }
        };
        if host::params::is_public(root, "rescue.password_hash") {
            found.problems.push(
                "boot parameter rescue.password_hash: every user of this machine can read it on the command line; \
                 put it into /etc/lifeboat/params"
                    .to_string(),
            );
        }
        found.problems.extend(ironic::wish(&words).problems);
        let by_ironic = ironic::password(root);
        // Ironic takes it for set. A person is told that it opens nothing.
        let instead = if found.keys.is_empty() {
            hash.as_ref().map(|_| "rescue.password_hash=")
        } else {
            Some("a key")
        };
        if let (Some((_, source)), Some(instead)) = (&by_ironic, instead) {
            found.problems.push(format!("the password from {source} does not count: {instead} was given"));
        }
        let password = match hash.or(by_ironic) {
            _ if !found.keys.is_empty() => Password::Off,
            Some((hash, source)) => Password::Hash(hash, source),
            None => Password::OneTime,
        };
        Access { keys: found.keys, password, problems: found.problems }
    }

    /// Whether this offer opens the door, and what is behind it. Every line of the key is tried, as in
    /// OpenSSH. The errors say why each known one did not; a key that is not known has none.
    pub fn admit(&self, visit: &Visit<'_>, offer: &Offer) -> Result<Admission, Vec<String>> {
        let mut reasons = Vec::new();
        for known in self.keys.iter().filter(|_| visit.user == "root") {
            let options = match offer {
                Offer::Key(key) if !known.options.authority && known.key.key_data() == key.key_data() => {
                    Ok(known.options.clone())
                }
                Offer::Certificate(certificate)
                    if known.options.authority && known.key.key_data() == certificate.signature_key() =>
                {
                    signed(certificate, visit.now)
                        .and_then(|()| known.options.certified(certificate, visit.user, visit.peer))
                }
                Offer::Key(_) | Offer::Certificate(_) => continue,
            };
            match options.and_then(|options| fits(options, visit)) {
                Ok(options) => return Ok(Admission { with: with(known, offer), grant: options.grant }),
                Err(reason) => reasons.push(format!("{}: {reason}", with(known, offer))),
            }
        }
        Err(reasons)
    }

    /// Whether a password of this user opens the door. A wrong user costs the same time.
    pub fn password(&self, settings: &Settings, user: &str, typed: &str) -> bool {
        let right = match &self.password {
            Password::Off => false,
            Password::Hash(hash, _) => hash.matches(typed),
            Password::OneTime => std::fs::read_to_string(settings.path(paths::PASSWORD))
                .is_ok_and(|expected| contract::password::matches_one_time(typed, &expected)),
        };
        right && user == "root"
    }
}

/// Who comes, from where and when.
pub struct Visit<'a> {
    pub user: &'a str,
    pub peer: IpAddr,
    /// Unix time.
    pub now: u64,
    /// What a key in hardware says about its holder, once it has signed.
    pub flags: Option<u8>,
}

#[derive(Debug)]
pub struct Admission {
    /// For the log and the login event.
    pub with: String,
    pub grant: Grant,
}

/// Flags of PROTOCOL.u2f.
const PRESENT: u8 = 0x01;
const VERIFIED: u8 = 0x04;

pub fn fits(options: Options, visit: &Visit<'_>) -> Result<Options, String> {
    if options.from.as_ref().is_some_and(|from| !from.contain(visit.peer)) {
        return Err("is not valid from this address".to_string());
    }
    if options.expiry.is_some_and(|expiry| visit.now >= expiry) {
        return Err("has expired, by the clock of this machine".to_string());
    }
    if let Some(flags) = visit.flags {
        if options.touch.present && flags & PRESENT == 0 {
            return Err("was not touched".to_string());
        }
        if options.touch.verified && flags & VERIFIED == 0 {
            return Err("did not verify its holder by a PIN or otherwise".to_string());
        }
    }
    Ok(options)
}

/// Whether the authority signed it, for this time.
pub fn signed(certificate: &Certificate, now: u64) -> Result<(), String> {
    if now < certificate.valid_after() || now >= certificate.valid_before() {
        return Err("is not valid now, by the clock of this machine".to_string());
    }
    if matches!(certificate.signature().algorithm(), Algorithm::Rsa { hash: None }) {
        return Err("is signed with SHA-1".to_string());
    }
    certificate.verify_signature().map_err(|_| "has a wrong signature".to_string())
}

fn with(known: &Authorized, offer: &Offer) -> String {
    match offer {
        Offer::Key(_) => known.to_string(),
        Offer::Certificate(certificate) => {
            let id: String = certificate.key_id().chars().take(64).collect();
            format!(
                "certificate \"{}\" serial {} for key {}, {known}",
                id.escape_debug(),
                certificate.serial(),
                certificate.public_key().fingerprint(HashAlg::Sha256)
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHmDG8O1bWYxNZGdJOEEVLrFJbSCn3bQdQ1QwWh6MTpn";
    const HASH: &str = "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1";

    fn access(command_line: &str, authorized_keys: Option<&str>) -> Access {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in
            [("proc/cmdline", Some(command_line)), ("root/.ssh/authorized_keys", authorized_keys)]
        {
            if let Some(text) = text {
                let path = dir.path().join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
        }
        Access::read(&Root::at(dir.path()).unwrap())
    }

    #[test]
    fn keys_of_the_system_before_let_in_beside_an_archive_s_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("etc/lifeboat/handed/authorized_keys");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, format!("# mine\n{KEY} me\n")).unwrap();
        let access = Access::read(&Root::at(dir.path()).unwrap());
        assert_eq!(access.password, Password::Off);
        assert!(
            access.keys[0].to_string().ends_with("(me) from the system before, line 2"),
            "{}",
            access.keys[0]
        );
    }

    #[test]
    fn passwords_are_off_as_soon_as_a_valid_key_is_given() {
        let quoted = format!("quiet ssh_key=\"{KEY} me\" rescue.password_hash={HASH}");
        let commas = format!("ssh_key={}", KEY.replace(' ', ","));
        for (label, line, file) in [
            ("quoted, with a hash", quoted.as_str(), None),
            ("commas", commas.as_str(), None),
            ("file", "quiet", Some(KEY)),
            ("a bad one beside it", commas.as_str(), Some("garbage")),
        ] {
            assert_eq!(access(line, file).password, Password::Off, "{label}");
        }
    }

    #[test]
    fn without_a_valid_key_there_is_a_password() {
        let hash = format!("rescue.password_hash={HASH}");
        assert_eq!(access("quiet", None).password, Password::OneTime);
        assert_eq!(
            access(&hash, None).password,
            Password::Hash(Hash::parse(HASH).unwrap(), "boot parameter rescue.password_hash".into())
        );
        assert_eq!(access("ssh_key=garbage rescue.password_hash=x", None).password, Password::OneTime);
    }

    #[test]
    fn a_password_that_ironic_set_counts_after_a_key_and_a_hash_of_the_boot() {
        let key = format!("ssh_key={}", KEY.replace(' ', ","));
        let hash = format!("rescue.password_hash={HASH}");
        for (line, want, instead) in [
            ("quiet", Some("Ironic, for node n"), None),
            (&key, None, Some("a key was given")),
            (&hash, Some("boot parameter rescue.password_hash"), Some("rescue.password_hash= was given")),
        ] {
            let dir = tempfile::tempdir().unwrap();
            for (path, text) in [
                ("proc/cmdline", line.to_string()),
                ("run/lifeboat/sshd/ironic", format!("{{\"node\":\"n\",\"hash\":\"{HASH}\"}}")),
            ] {
                let path = dir.path().join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            let access = Access::read(&Root::at(dir.path()).unwrap());
            let from = match &access.password {
                Password::Hash(_, source) => Some(source.as_str()),
                Password::Off => None,
                Password::OneTime => Some("the consoles"),
            };
            assert_eq!(from, want, "{line}");
            let said = access.problems.iter().find(|problem| problem.contains("does not count"));
            assert_eq!(said.is_some(), instead.is_some(), "{line}: {:?}", access.problems);
            assert!(said.is_none_or(|said| said.contains(instead.unwrap_or_default())), "{said:?}");
        }
    }

    #[test]
    fn what_was_not_taken_is_named() {
        let access = access("ssh_key= rescue.password_hash=hunter2", Some("restrict ssh-ed25519 AAAA me"));
        assert_eq!(
            access.problems,
            [
                "/root/.ssh/authorized_keys line 1: is not a public key",
                "boot parameter ssh_key: is empty: give a public key, such as ssh_key=ssh-ed25519,AAAA...,me",
                "boot parameter rescue.password_hash: is not a hash of a known kind: it begins with $6$ or $y$",
                "boot parameter rescue.password_hash: every user of this machine can read it on the command line; put it into /etc/lifeboat/params",
            ]
        );
    }

    #[test]
    fn a_url_more_than_are_fetched_is_named() {
        let urls = |count| -> String { (1..=count).map(|n| format!("ssh_key=https://h/{n} ")).collect() };
        assert_eq!(access(&urls(16), None).problems, [""; 0]);
        assert_eq!(
            access(&urls(18), None).problems,
            [
                "boot parameter ssh_key: https://h/17 and later URLs are not fetched, only the first 16: put more keys into one of their files"
            ]
        );
    }

    fn visit(user: &str) -> Visit<'_> {
        Visit { user, peer: "192.0.2.1".parse().unwrap(), now: 1_800_000_000, flags: None }
    }

    #[test]
    fn a_key_is_root_s_alone() {
        let access = access("", Some(KEY));
        let offer = Offer::Key(access.keys[0].key.clone());
        assert_eq!(access.admit(&visit("root"), &offer).unwrap().grant, Grant::default());
        for user in ["nobody", "", "ROOT"] {
            assert_eq!(access.admit(&visit(user), &offer).unwrap_err(), [""; 0]);
        }
    }

    #[test]
    fn a_key_counts_where_and_while_its_options_say_and_other_lines_of_it_too() {
        let file =
            |options: &[&str]| options.iter().map(|options| format!("{options} {KEY}\n")).collect::<String>();
        let cases: &[(&[&str], Result<bool, &str>)] = &[
            (&["from=\"192.0.2.0/24\""], Ok(true)),
            (&["from=\"10.0.0.0/8\""], Err("not valid from this address")),
            (&["from=\"10.0.0.0/8\"", "no-pty"], Ok(false)),
            (&["expiry-time=\"20991231\""], Ok(true)),
            (&["expiry-time=\"20200101\""], Err("has expired")),
        ];
        for (options, want) in cases {
            let access = access("", Some(&file(options)));
            let offer = Offer::Key(access.keys[0].key.clone());
            match (access.admit(&visit("root"), &offer), want) {
                (Ok(admission), Ok(pty)) => assert_eq!(admission.grant.pty, *pty, "{options:?}"),
                (Err(reasons), Err(why)) => assert!(reasons[0].contains(why), "{reasons:?}"),
                (got, _) => panic!("{options:?}: {got:?}"),
            }
        }
    }

    #[test]
    fn the_key_of_an_authority_opens_nothing_itself() {
        let access = access("", Some(&format!("cert-authority {KEY}")));
        let offer = Offer::Key(access.keys[0].key.clone());
        assert!(access.admit(&visit("root"), &offer).is_err());
        assert_eq!(access.password, Password::Off, "but it was given");
    }

    #[test]
    fn a_key_in_hardware_wants_to_be_touched() {
        let fits = |options: &str, flags| {
            let visit = Visit { flags: Some(flags), ..visit("root") };
            super::fits(Options::parse(options).unwrap(), &visit).is_ok()
        };
        assert!(fits("pty", PRESENT) && !fits("pty", 0));
        assert!(fits("no-touch-required", 0));
        assert!(fits("verify-required", PRESENT | VERIFIED) && !fits("verify-required", PRESENT));
    }

    #[test]
    fn an_earlier_place_decides_about_its_keys_alone() {
        let commas = KEY.replace(' ', ",");
        let access =
            access(&format!("ssh_key={commas}"), Some(&format!("no-pty {KEY}\nno-agent-forwarding {KEY}")));
        let grants: Vec<_> =
            access.keys.iter().map(|k| (k.options.grant.pty, k.options.grant.agent)).collect();
        assert_eq!(grants, [(false, true), (true, false)], "the parameter gives nothing more");
        let refused = format!("from=\"10.0.0.1\",frobnicate {KEY}");
        let access = self::access(&format!("ssh_key={commas}"), Some(&refused));
        assert_eq!((access.keys, access.password), (vec![], Password::OneTime), "it was refused there");
    }
}
