//! `blkid` against util-linux's own, on images that the real makers of file systems write into sparse files.

use crate::crafted::crafted;
use crate::{peers, rescue};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Output};

const MIB: u64 = 1 << 20;

const FORMED: &[&str] = &[
    "ext4",
    "ext4 with an odd label",
    "FAT16",
    "GPT",
    "nothing",
    "Joliet",
    "two file systems",
    "FAT with a label of code page 850",
];

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
    ("FAT12", 2, &["mkfs.vfat -F 12 -n TWELVE IMG"]),
    ("FAT12 of a floppy", 1, &["mkfs.vfat IMG"]),
    ("FAT16", 32, &["mkfs.vfat -F 16 -n SIXTEEN -i 1234abcd IMG"]),
    ("FAT32", 64, &["mkfs.vfat -F 32 -n EFI IMG"]),
    ("FAT32 without a label", 64, &["mkfs.vfat -F 32 IMG"]),
    ("FAT32 of 4 KiB sectors", 512, &["mkfs.vfat -F 32 -S 4096 IMG"]),
    ("exFAT", 32, &["mkfs.exfat -q -L Schlüssel IMG"]),
    ("exFAT without a label", 32, &["mkfs.exfat -q IMG"]),
    ("NTFS", 32, &["mkntfs -q -F -f -L Fenster IMG"]),
    ("NTFS of 64 KiB clusters", 64, &["mkntfs -q -F -f -c 65536 IMG"]),
    ("ISO 9660", 0, &["xorrisofs -quiet -R -V DISC -publisher me -o IMG DIR"]),
    ("Joliet", 0, &["xorrisofs -quiet -J -V [A long label of a disc] -o IMG DIR"]),
    (
        "a disc that boots from a disk",
        0,
        &["xorrisofs -quiet -J -V HYBRID --protective-msdos-label -partition_offset 16 -o IMG DIR"],
    ),
    ("UDF", 32, &["mkudffs -l Scheibe --media-type=hd IMG"]),
    ("UDF of 2 KiB", 32, &["mkudffs -l [a b] -b 2048 --media-type=dvdram -r 2.01 IMG"]),
    ("LUKS 1", 16, &["cryptsetup luksFormat -q --type luks1 --pbkdf-force-iterations 1000 IMG KEY"]),
    (
        "LUKS 2",
        32,
        &[
            "cryptsetup luksFormat -q --type luks2 --label vault --subsystem sub --pbkdf pbkdf2 --pbkdf-force-iterations 1000 IMG KEY",
        ],
    ),
    (
        "LUKS over ext4",
        64,
        &[
            "cryptsetup luksFormat -q --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 IMG KEY",
            "mkfs.ext4 -q -F -E offset=1048576 IMG 20M",
        ],
    ),
    ("JFS", 32, &["mkfs.jfs -q -L journal IMG"]),
    ("NILFS2", 160, &["mkfs.nilfs2 -q -L snapshots IMG"]),
    ("bcache's backing device", 64, &["make-bcache -B IMG"]),
    ("bcache's cache", 64, &["make-bcache -C IMG"]),
    ("verity", 8, &["veritysetup format DIR/file IMG"]),
    ("two that are a swap and a FAT", 64, &["mkfs.vfat -F 32 IMG", "mkswap -q IMG"]),
    ("MBR", 8, &["parted -s IMG mklabel msdos mkpart primary ext4 1MiB 4MiB"]),
    ("two file systems", 64, &["mkfs.ext4 -q IMG", "mkswap -q IMG"]),
    ("nothing", 8, &[]),
    ("Minix 1", 8, &["mkfs.minix -1 IMG"]),
    ("Minix 2", 8, &["mkfs.minix -2 -n 14 IMG"]),
    ("Minix 3", 8, &["mkfs.minix -3 IMG"]),
    ("cramfs", 0, &["mkfs.cramfs -n packed DIR IMG"]),
    ("cramfs, big-endian", 0, &["mkfs.cramfs -N big -n packed DIR IMG"]),
    ("BFS by its maker", 8, &["mkfs.bfs -V vol IMG"]),
    ("GPT", 8, &["sgdisk -n 1:2048:4095 -t 1:ef00 -c 1:boot IMG"]),
];

/// Of those that are crafted: what util-linux came to know after 2.41.
const NEWER: &[&str] = &["scoutfs's metadata", "scoutfs's data"];

/// Of every image.
const OPTIONS: &[&str] = &["", "-p", "-p -o export"];

/// Of those that have something to say about the form.
const FORMS: &[&str] = &[
    "-o export",
    "-o value",
    "-o device",
    "-o json",
    "-s UUID -s TYPE",
    "-s NOTHING",
    "-t TYPE=ext4",
    "-t LABEL=root -o device",
    "-d",
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
        let mut program = peers::maker(words.next().unwrap())?;
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
        peers::done(program.env("LC_ALL", "C.UTF-8"));
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

fn options(label: &str) -> impl Iterator<Item = &'static &'static str> {
    let forms = FORMS.iter().filter(move |_| FORMED.contains(&label));
    OPTIONS.iter().chain(forms)
}

/// Bytes that are no text come out of ours as `\x9a`, since nothing but text is let onto a terminal.
fn escaped(output: &Output, options: &str) -> (String, Option<i32>) {
    let mut text = String::new();
    for chunk in output.stdout.utf8_chunks() {
        text += chunk.valid();
        let slash = if options.contains("json") { r"\\" } else { r"\" };
        text.extend(chunk.invalid().iter().map(|byte| format!("{slash}x{byte:02x}")));
    }
    (text, output.status.code())
}

/// Differences, one text each.
fn compare(options: &str, path: &Path, label: &str) -> Option<Vec<String>> {
    let theirs = theirs(options, path)?;
    let mut arguments = vec!["blkid"];
    arguments.extend(options.split_whitespace());
    arguments.push(path.to_str().unwrap());
    let ours = rescue(&arguments, "C");
    let mut differences = Vec::new();
    let (ours_text, theirs_text) = (escaped(&ours, options), escaped(&theirs, options));
    if ours_text != theirs_text {
        differences.push(format!("{label}: blkid {options}\n  {ours_text:?}\n  {theirs_text:?}"));
    }
    // A maker's fresh work is neither damaged nor ambiguous; what is crafted has its leftovers.
    let told = String::from_utf8_lossy(&ours.stderr);
    let ambivalent = ours.status.code() == Some(8)
        || ["two ", "LUKS over", "ZFS's last"].iter().any(|start| label.starts_with(start));
    if !told.is_empty() && !ambivalent {
        differences.push(format!("{label}: blkid {options}: {told}"));
    }
    Some(differences)
}

#[test]
fn blkid_prints_what_util_linux_prints_for_every_format() {
    let directory = tempfile::tempdir().unwrap();
    let mut differences = Vec::new();
    for recipe in RECIPES {
        let Some(path) = image(recipe, directory.path()) else { continue };
        for options in options(recipe.0) {
            differences.extend(compare(options, &path, recipe.0).unwrap_or_default());
        }
        fs::remove_file(path).unwrap();
    }
    for (label, size, pieces) in crafted(&<[u8]>::to_vec).into_iter().filter(|one| !NEWER.contains(&one.0)) {
        let path = directory.path().join("crafted");
        let file = File::create(&path).unwrap();
        file.set_len(size * MIB).unwrap();
        for (offset, bytes) in pieces {
            let place = u64::try_from(offset).unwrap_or_else(|_| size * MIB - offset.unsigned_abs());
            file.write_all_at(&bytes, place).unwrap();
        }
        for options in options(label) {
            differences.extend(compare(options, &path, label).unwrap_or_default());
        }
    }
    assert!(differences.is_empty(), "ours, then theirs:\n{}", differences.join("\n"));
}
