//! Keys on a volume that was made for this machine (`host::volumes`). A process of its own, after the disks are named and
//! the layers are there; it takes small files from the volume, and is nobody before it parses a byte of them.

use crate::cloud::{self, Found};
use anyhow::{Context, Result};
use host::sys::{inherited, process};
use host::volumes::{AGAIN, Kind, Volume};
use host::{Root, rescue};
use std::fs::File;
use std::io::Write as _;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A hung disk keeps devd from being done; then nothing is looked for any more.
const PATIENCE: Duration = Duration::from_secs(600);
const LOOK: Duration = Duration::from_millis(250);
/// Most bytes of one file; user-data has 16 KiB at most on most clouds.
const MAX_FILE: usize = 256 << 10;

type Parse = fn(&str) -> Found;

fn files(kind: Kind) -> &'static [(&'static str, Parse)] {
    match kind {
        Kind::NoCloud => &[("user-data", cloud::user_data), ("meta-data", cloud::meta_data)],
        Kind::ConfigDrive => &[("openstack/latest/meta_data.json", cloud::openstack)],
    }
}

type Content = Result<Vec<(&'static str, Vec<u8>)>, String>;

/// The role: what was found goes to stdout, in the form of [`cloud::sections`].
pub fn run() -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !rescue::is_ready() {
        if Instant::now() > deadline {
            return Ok(());
        }
        sleep(LOOK);
    }
    let root = Root::live().context("open /")?;
    let mut is_alone = false;
    let round = || {
        let found = host::volumes::find(&root);
        if !found.is_empty() && !is_alone {
            rescue::alone()?;
            is_alone = true;
        }
        let read = |volume: Volume| {
            let names: Vec<&str> = files(volume.kind).iter().map(|(name, _)| *name).collect();
            let content = volume.read(&names);
            (volume, content)
        };
        Ok(found.into_iter().map(read).collect())
    };
    let volumes = look(round, sleep)?;
    if volumes.is_empty() {
        return Ok(());
    }
    process::drop_privileges(super::NOBODY).context("give up root")?;
    let text: String = volumes.iter().map(|(volume, content)| told(volume, content)).collect();
    let mut stdout = File::from(inherited(1).try_clone_to_owned().context("stdout")?);
    stdout.write_all(text.as_bytes()).context("answer")
}

/// The volumes of the first look that finds one that can be read, else those of the last: one of the machine's own disks, which
/// is not believed, must not hide a CD that comes a moment later.
fn look(
    mut round: impl FnMut() -> Result<Vec<(Volume, Content)>>,
    mut rest: impl FnMut(Duration),
) -> Result<Vec<(Volume, Content)>> {
    let mut found = round()?;
    for seconds in AGAIN {
        if found.iter().any(|(_, content)| content.is_ok()) {
            break;
        }
        rest(Duration::from_secs(seconds));
        found = round()?;
    }
    Ok(found)
}

fn told(volume: &Volume, content: &Content) -> String {
    let mut all = Found::default();
    let content = content.as_ref().map_or_else(
        |problem| {
            all.problems.push(problem.clone());
            &[][..]
        },
        Vec::as_slice,
    );
    for (name, bytes) in content {
        let parse = files(volume.kind).iter().find(|(known, _)| known == name).map(|(_, parse)| parse);
        let found = match (std::str::from_utf8(bytes), parse) {
            _ if bytes.len() > MAX_FILE => Err("is too long"),
            (Ok(text), Some(parse)) => Ok(parse(text)),
            (Ok(_), None) => continue,
            (Err(_), _) => Err("is no text"),
        };
        match found {
            Ok(found) => {
                all.keys.extend(found.keys);
                all.problems.extend(found.problems.into_iter().map(|problem| format!("{name}: {problem}")));
            }
            Err(why) => all.problems.push(format!("{name} {why}")),
        }
    }
    cloud::section(&volume.source(), &all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drive_that_comes_late_is_found_whatever_there_is_before_and_none_is_not_waited_for_without_end() {
        let volume = |path: &str| Volume {
            kind: Kind::NoCloud,
            path: path.into(),
            fstype: "vfat".into(),
            refusal: None,
        };
        let looked = |before: &[(Volume, Content)], comes_at: u64| {
            let now = std::cell::Cell::new(0);
            let round = || {
                let late = (now.get() >= comes_at).then(|| (volume("/dev/sr0"), Ok(vec![])));
                Ok(before.iter().cloned().chain(late).collect())
            };
            let found = look(round, |rest| now.set(now.get() + rest.as_secs())).unwrap();
            (found.len(), now.get())
        };
        let refused = (volume("/dev/sda2"), Err("is not read".to_string()));
        let torn = (volume("/dev/sr1"), Err("could not be read".to_string()));
        for (before, comes_at, wanted) in [
            (&[][..], 0, (1, 0)),
            (&[], 5, (1, 7)),
            (&[], u64::MAX, (0, 30)),
            (std::slice::from_ref(&refused), 0, (2, 0)),
            (std::slice::from_ref(&refused), 5, (2, 7)),
            (std::slice::from_ref(&torn), 9, (2, 15)),
            (&[refused.clone(), torn.clone()], u64::MAX, (2, 30)),
        ] {
            assert_eq!(looked(before, comes_at), wanted, "{before:?} {comes_at}");
        }
    }

    #[test]
    fn keys_and_problems_of_every_file_are_told_under_the_volume() {
        let volume =
            Volume { kind: Kind::NoCloud, path: "/dev/sr0".into(), fstype: "vfat".into(), refusal: None };
        let content = |meta_data: Vec<u8>| -> Content {
            let user_data = b"#cloud-config\nssh_authorized_keys: [a b]\n".to_vec();
            Ok(vec![("user-data", user_data), ("meta-data", meta_data)])
        };
        let sections = cloud::sections(&told(&volume, &content(b"public-keys: *x\n".to_vec())));
        assert_eq!(sections[0].0, "NoCloud volume /dev/sr0");
        assert_eq!(sections[0].1.keys, ["a b"]);
        assert!(sections[0].1.problems[0].starts_with("meta-data: line 1"), "{:?}", sections[0].1.problems);
        let sections = cloud::sections(&told(&volume, &content(vec![b' '; MAX_FILE + 1])));
        assert_eq!(sections[0].1.problems, ["meta-data is too long"]);
        let sections = cloud::sections(&told(&volume, &Err("could not be read: x".into())));
        assert_eq!(sections[0].1.problems, ["could not be read: x"]);
    }
}
