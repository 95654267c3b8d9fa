//! The role `password`: one password that somebody types at a console is looked at as one that comes over SSH would be. The
//! console is a process of its own, which knows no hash and cannot compare with one. It is nobody's command but a console's,
//! which lets its person wait after a wrong one. The password comes by a pipe: a command line and an environment can be read.

use crate::access::{Access, Password};
use crate::password;
use crate::settings::Settings;
use anyhow::{Context, Result};
use contract::password::{LONGEST, Opens, RIGHT, WRONG};
use std::io::{Read, Write};

pub fn run(settings: &Settings) -> Result<()> {
    serve(settings, std::io::stdin().lock(), std::io::stdout().lock())
}

fn serve(settings: &Settings, typed: impl Read, mut says: impl Write) -> Result<()> {
    let root = settings.root()?;
    let opens = opens(&Access::read(&root));
    writeln!(says, "{}", opens.word()).and_then(|()| says.flush()).context("tell the console")?;
    if opens != Opens::Hash {
        return Ok(());
    }
    let mut password = Vec::new();
    typed.take(u64::try_from(LONGEST)?).read_to_end(&mut password).context("read what was typed")?;
    let password = String::from_utf8_lossy(&password);
    // Until it is compared. Without the lock it is compared all the same: a console is the last door.
    let alone = password::alone(settings).map_err(|error| host::log!("lock of hashes: {error}"));
    // As it is now: a key may have come while somebody typed, and then no password opens.
    let access = Access::read(&root);
    let right = opens == self::opens(&access) && access.password(settings, "root", &password);
    drop(alone);
    writeln!(says, "{}", if right { RIGHT } else { WRONG })
        .and_then(|()| says.flush())
        .context("tell the console")
}

fn opens(access: &Access) -> Opens {
    match access.password {
        Password::Off => Opens::Nothing,
        Password::OneTime => Opens::OneTime,
        Password::Hash(..) => Opens::Hash,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHmDG8O1bWYxNZGdJOEEVLrFJbSCn3bQdQ1QwWh6MTpn";
    const HASH: &str = "rescue.password_hash=$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5\n";
    const IRONIC: &str = "{\"node\":\"1be26c0b-03f2-4d2e-ae87-c02d7f33c123\",\
                          \"hash\":\"$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5\"}";

    fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Settings) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let settings = Settings { prefix: dir.path().to_path_buf(), ..Settings::default() };
        (dir, settings)
    }

    #[test]
    fn at_a_console_the_password_of_the_boot_s_hash_or_of_ironic_s_opens_and_no_other() {
        let params = ("etc/lifeboat/params", HASH);
        let ironic = ("run/lifeboat/sshd/ironic", IRONIC);
        let key = ("root/.ssh/authorized_keys", KEY);
        let one_time = ("run/lifeboat/sshd/password", "lusab-babad-gutih-tugad-babab\n");
        for (label, files, typed, want) in [
            ("boot", &[params][..], "Hello world!", "hash\nright\n"),
            ("wrong", &[params], "hello world!", "hash\nwrong\n"),
            ("a line more", &[params], "Hello world!\n", "hash\nwrong\n"),
            ("nothing", &[params], "", "hash\nwrong\n"),
            ("ironic", &[ironic], "Hello world!", "hash\nright\n"),
            ("a key", &[params, ironic, key], "Hello world!", "nothing\n"),
            ("neither", &[one_time], "lusab-babad-gutih-tugad-babab", "one-time\n"),
        ] {
            let (_dir, settings) = machine(files);
            let mut said = Vec::new();
            serve(&settings, typed.as_bytes(), &mut said).unwrap();
            assert_eq!(String::from_utf8(said).unwrap(), want, "{label}");
        }
    }

    /// Lays a key beside the hash before it says what was typed.
    struct Late<'a>(&'a Settings, &'a [u8]);

    impl Read for Late<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let path = self.0.path("/root/.ssh/authorized_keys");
            std::fs::create_dir_all(path.parent().unwrap())?;
            std::fs::write(path, KEY)?;
            self.1.read(buffer)
        }
    }

    #[test]
    fn a_key_that_comes_while_somebody_types_shuts_the_door() {
        let (_dir, settings) = machine(&[("etc/lifeboat/params", HASH)]);
        let mut said = Vec::new();
        serve(&settings, Late(&settings, b"Hello world!"), &mut said).unwrap();
        assert_eq!(String::from_utf8(said).unwrap(), "hash\nwrong\n");
    }
}
