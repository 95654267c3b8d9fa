//! `make serve` as whoever typed it: packages, image and cache stay that person's, and what listens alone is root's. The same
//! program starts itself again by sudo, or by su where there is no sudo; the cache is named, since root's HOME is another.

use crate::home;
use anyhow::{Context as _, Result};
use model::plan::word;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

/// What sudo takes out of the environment, and this program reads. (TMPDIR may be a place that nobody else enters, and the
/// servers are nobody.)
const VARIABLES: &[&str] = &["KERNEL"];

/// Becomes this program with the same arguments, as root. Returns only where it cannot.
pub fn again(cache: &Path) -> Result<()> {
    let program = std::env::current_exe().context("find this program")?;
    let variables = VARIABLES.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)));
    let words = words(cache, variables, &program, home::arguments());
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let has_sudo = std::env::split_paths(&paths).any(|directory| directory.join("sudo").is_file());
    let error = if has_sudo { sudo(words) } else { su(&words) }.exec();
    Err(error).context("become root by sudo or su, for the ports of DHCP and TFTP")
}

/// `env CACHE=... NAME=VALUE... PROGRAM ARGUMENTS...`
fn words<'a>(
    cache: &Path,
    variables: impl Iterator<Item = (&'a str, OsString)>,
    program: &Path,
    arguments: impl Iterator<Item = OsString>,
) -> Vec<OsString> {
    let mut words = vec![OsString::from("env")];
    for (name, value) in [("CACHE", cache.into())].into_iter().chain(variables) {
        let mut word = OsString::from(format!("{name}="));
        word.push(value);
        words.push(word);
    }
    words.push(program.into());
    words.extend(arguments);
    words
}

fn sudo(words: Vec<OsString>) -> Command {
    let mut command = Command::new("sudo");
    command.arg("--").args(words);
    command
}

fn su(words: &[OsString]) -> Command {
    let line: Vec<String> = words.iter().map(|text| word(&text.to_string_lossy())).collect();
    let mut command = Command::new("su");
    command.args(["root", "-c"]).arg(line.join(" "));
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    fn said(command: &Command) -> Vec<String> {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        words.map(|word| word.to_string_lossy().into_owned()).collect()
    }

    /// What `make serve` would do for this user, with what sudo leaves in the environment.
    fn make_serve(user: &str, sudo_uid: Option<&str>) -> (bool, String) {
        let programs = tempfile::tempdir().unwrap();
        let id = programs.path().join("id");
        fs::write(&id, format!("#!/bin/sh\necho {user}\n")).unwrap();
        fs::set_permissions(&id, fs::Permissions::from_mode(0o755)).unwrap();
        let path = std::env::var("PATH").unwrap();
        let mut make = Command::new("make");
        make.args(["-n", "serve", "IFACE=eth0"]).current_dir(vm::programs::source());
        make.env("PATH", format!("{}:{path}", programs.path().display()));
        // Of the make that runs the tests.
        for name in ["MAKEFLAGS", "MFLAGS", "MAKELEVEL", "SUDO_UID"] {
            make.env_remove(name);
        }
        make.envs(sudo_uid.map(|uid| ("SUDO_UID", uid)));
        let output = make.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    #[test]
    fn under_sudo_nothing_is_built_as_root() {
        for (user, sudo_uid) in [("1000", None), ("0", None), ("0", Some("0"))] {
            let (goes_on, said) = make_serve(user, sudo_uid);
            assert!(goes_on && said.contains("serve --interface 'eth0'"), "{user} {sudo_uid:?}: {said}");
        }
        let (goes_on, said) = make_serve("0", Some("1000"));
        assert!(!goes_on && said.contains("type it without sudo") && !said.contains("cargo"), "{said}");
    }

    #[test]
    fn root_serves_from_the_cache_of_who_asked() {
        let variables = [("KERNEL", OsString::from("debian"))].into_iter();
        let arguments = ["serve", "--append", "a b"].into_iter().map(OsString::from);
        let words =
            words(Path::new("/home/me/.cache/lifeboat"), variables, Path::new("/src/image"), arguments);
        let wanted = ["env", "CACHE=/home/me/.cache/lifeboat", "KERNEL=debian", "/src/image", "serve"];
        assert_eq!(said(&su(&words))[..3], ["su", "root", "-c"]);
        assert_eq!(said(&su(&words))[3], format!("{} --append 'a b'", wanted.join(" ")));
        let by_sudo = said(&sudo(words));
        assert_eq!(by_sudo[..2], ["sudo", "--"]);
        assert_eq!(by_sudo[2..7], wanted);
        assert_eq!(by_sudo[7..], ["--append", "a b"]);
    }
}
