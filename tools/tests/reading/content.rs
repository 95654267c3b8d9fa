//! `blkid` against util-linux's own, on images that the real makers of file systems write into sparse files.

use crate::{peers, rescue};
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Output};

const MIB: u64 = 1 << 20;

/// A size in MiB, and the commands that fill an image of it: `IMG` is the image, `DIR` a directory
/// with a file in it, `KEY` a file with a passphrase.
type Recipe = (&'static str, u64, &'static [&'static str]);

const RECIPES: &[Recipe] = &[
    ("ext2", 16, &["mkfs.ext2 -q -L second IMG"]),
    ("ext2 of 2 KiB", 16, &["mkfs.ext2 -q -b 2048 IMG"]),
    ("ext3", 64, &["mkfs.ext3 -q -L third IMG"]),
    ("ext4", 64, &["mkfs.ext4 -q -L root -U 0c0ffee0-1111-2222-3333-444455556666 IMG"]),
    ("ext4 of 4 KiB", 600, &["mkfs.ext4 -q -b 4096 -m 0 IMG"]),
    ("ext4 without checksums", 64, &["mkfs.ext4 -q -O ^metadata_csum,^64bit IMG"]),
    ("an ext journal", 16, &["mkfs.ext4 -q -b 4096 -O journal_dev -L log IMG"]),
    ("ext4 with an odd label", 16, &["mkfs.ext4 -q -L [$a`\"b'\\c>ü] IMG"]),
    ("xfs", 320, &["mkfs.xfs -q -L data IMG"]),
    ("xfs of 4 KiB sectors", 320, &["mkfs.xfs -q -s size=4096 -b size=4096 IMG"]),
    ("xfs of version 4", 320, &["mkfs.xfs -q -m crc=0 IMG"]),
    ("btrfs", 128, &["mkfs.btrfs -q -L pool IMG"]),
    ("btrfs xxhash", 128, &["mkfs.btrfs -q --csum xxhash IMG"]),
    ("btrfs sha256", 128, &["mkfs.btrfs -q --csum sha256 IMG"]),
    ("btrfs blake2", 128, &["mkfs.btrfs -q --csum blake2 IMG"]),
    ("swap", 16, &["mkswap -q -L swap IMG"]),
    ("swap of 64 KiB pages", 16, &["mkswap -q -p 65536 IMG"]),
    ("swap of big-endian machines", 16, &["mkswap -q -e big IMG"]),
    ("f2fs", 64, &["mkfs.f2fs -q -l flash IMG"]),
    ("squashfs", 0, &["mksquashfs DIR IMG -quiet -no-progress"]),
    ("erofs", 0, &["mkfs.erofs -L layer IMG DIR"]),
    ("two file systems", 64, &["mkfs.ext4 -q IMG", "mkswap -q IMG"]),
    ("nothing", 8, &[]),
    ("GPT", 8, &["sgdisk -n 1:2048:4095 -t 1:ef00 -c 1:boot IMG"]),
];

/// Of whatever the peer makes, the exit status too.
const OPTIONS: &[&str] = &[
    "",
    "-o export",
    "-o value",
    "-o device",
    "-o json",
    "-s UUID -s TYPE",
    "-s NOTHING",
    "-t TYPE=ext4",
    "-t LABEL=root -o device",
    "-d",
    "-p",
    "-p -o export",
    "-p -o value",
    "-p -o full -D",
    "-p -s VERSION -o value",
    "-p -s NOTHING",
];

/// `None` where a maker is not there. Words are split at blanks, except between brackets, where `[` and `]` are dropped.
fn image(recipe: &Recipe, directory: &Path) -> Option<std::path::PathBuf> {
    let (name, size, commands) = recipe;
    let path = directory.join(name.replace(' ', "-"));
    let input = directory.join("input");
    fs::create_dir_all(&input).unwrap();
    fs::write(input.join("file"), "content\n".repeat(1000)).unwrap();
    fs::write(directory.join("key"), "passphrase").unwrap();
    if *size != 0 {
        File::create(&path).unwrap().set_len(size * MIB).unwrap();
    }
    for command in *commands {
        let mut words = command.split(' ');
        let mut program = peers::peer(words.next().unwrap())?;
        let mut quoted = String::new();
        for word in words {
            let word = if word.starts_with('[') || !quoted.is_empty() {
                if !quoted.is_empty() {
                    quoted.push(' ');
                }
                quoted.push_str(word);
                if !word.ends_with(']') {
                    continue;
                }
                let whole = quoted.trim_matches(['[', ']']).to_string();
                quoted.clear();
                whole
            } else {
                word.to_string()
            };
            let file = |name: &str, path: &Path| word.replace(name, path.to_str().unwrap());
            program.arg(match word.as_str() {
                w if w.contains("IMG") => file("IMG", &path),
                w if w.contains("DIR") => file("DIR", &input),
                w if w.contains("KEY") => file("KEY", &directory.join("key")),
                _ => word.clone(),
            });
        }
        peers::done(&mut program);
    }
    Some(path)
}

fn theirs(options: &str, path: &Path) -> Option<Output> {
    let mut blkid: Command = peers::peer("blkid")?;
    if !options.contains("-p") {
        blkid.args(["-c", "/dev/null"]);
    }
    Some(blkid.args(options.split_whitespace()).arg(path).output().unwrap())
}

fn compare(options: &str, path: &Path, label: &str) -> Option<()> {
    let theirs = theirs(options, path)?;
    let mut arguments = vec!["blkid"];
    arguments.extend(options.split_whitespace());
    arguments.push(path.to_str().unwrap());
    let ours = rescue(&arguments, "C");
    assert_eq!(
        (String::from_utf8_lossy(&ours.stdout), ours.status.code()),
        (String::from_utf8_lossy(&theirs.stdout), theirs.status.code()),
        "{label}: blkid {options}"
    );
    let told = String::from_utf8_lossy(&ours.stderr);
    let ambivalent = ours.status.code() == Some(8) || label == "two file systems";
    assert!(told.is_empty() || ambivalent, "{label}: blkid {options}: {told}");
    Some(())
}

#[test]
fn blkid_prints_what_util_linux_prints_for_every_format() {
    let directory = tempfile::tempdir().unwrap();
    let mut compared = 0;
    for recipe in RECIPES {
        let Some(path) = image(recipe, directory.path()) else { continue };
        for options in OPTIONS {
            compared += usize::from(compare(options, &path, recipe.0).is_some());
        }
        fs::remove_file(path).unwrap();
    }
    if compared == 0 {
        eprintln!("skipped: no peers");
    }
}
