//! Who may enter, read anew at each login: root alone, by any key that was given, else by password.

use crate::keys::{self, Authorized};
use crate::password::{self, Hash};
use crate::settings::Settings;
use contract::{cmdline, paths};
use host::Root;
use russh::keys::ssh_key::PublicKey;
use std::io;

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
    /// `rescue.password_hash=`
    Hash(Hash),
    /// The random one of this boot, in [`paths::PASSWORD`].
    OneTime,
}

impl Access {
    pub fn read(root: &Root) -> Access {
        let words = host::params::read(root);
        let mut found = keys::parameters(cmdline::all(&words, "ssh_key"));
        match root.read_text(AUTHORIZED_KEYS) {
            Ok(text) => found.append(keys::file(AUTHORIZED_KEYS, &text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => found.problems.push(format!("{AUTHORIZED_KEYS}: {error}")),
        }
        let hash = match cmdline::last(&words, "rescue.password_hash").map(Hash::parse) {
            None => None,
            Some(Ok(hash)) => Some(hash),
            Some(Err(reason)) => {
                found.problems.push(format!("boot parameter rescue.password_hash: {reason}"));
                None
            }
        };
        let password = match hash {
            _ if !found.keys.is_empty() => Password::Off,
            Some(hash) => Password::Hash(hash),
            None => Password::OneTime,
        };
        Access { keys: found.keys, password, problems: found.problems }
    }

    /// How a key of this user is known, if it may log in.
    pub fn key(&self, user: &str, key: &PublicKey) -> Option<&Authorized> {
        self.keys.iter().find(|known| user == "root" && known.key.key_data() == key.key_data())
    }

    /// Whether a password of this user opens the door. A wrong user costs the same time.
    pub fn password(&self, settings: &Settings, user: &str, typed: &str) -> bool {
        let right = match &self.password {
            Password::Off => false,
            Password::Hash(hash) => hash.matches(typed),
            Password::OneTime => std::fs::read_to_string(settings.path(paths::PASSWORD))
                .is_ok_and(|expected| password::matches_one_time(typed, &expected)),
        };
        right && user == "root"
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
        assert_eq!(access(&hash, None).password, Password::Hash(Hash::parse(HASH).unwrap()));
        assert_eq!(access("ssh_key=garbage rescue.password_hash=x", None).password, Password::OneTime);
    }

    #[test]
    fn what_was_not_taken_is_named() {
        let access = access("ssh_key= rescue.password_hash=hunter2", Some("restrict ssh-ed25519 AAAA me"));
        assert_eq!(
            access.problems,
            [
                "boot parameter ssh_key: is empty: give a public key, such as ssh_key=ssh-ed25519,AAAA...,me",
                "/root/.ssh/authorized_keys line 1: has options, which are not supported yet: the key is refused",
                "boot parameter rescue.password_hash: is not a hash of a known kind: it begins with $6$ or $y$",
            ]
        );
    }

    #[test]
    fn a_key_is_root_s_alone() {
        let access = access("", Some(KEY));
        let key = access.keys[0].key.clone();
        assert!(access.key("root", &key).is_some());
        assert!(access.key("nobody", &key).is_none());
        assert!(access.key("", &key).is_none());
    }
}
