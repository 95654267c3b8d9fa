//! Captured machines: one text file each, laid out as a directory tree for `--sysroot`.

use crate::{peers, rescue, tests, text};
use std::fs;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;

/// Makes the tree of `machines/NAME.machine`.
pub fn lay_out(name: &str, root: &Path) {
    lay_out_text(&fs::read_to_string(tests().join(format!("machines/{name}.machine"))).unwrap(), root);
}

/// One entry a line: `dir PATH`, `link PATH TARGET`, `file PATH CONTENT`, `hex PATH BYTES`, `zeros PATH SIZE`,
/// `window PATH OFFSET BYTES` (into what `zeros` made); `rescue capture --text` prints it.
pub fn lay_out_text(list: &str, root: &Path) {
    for line in list.lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.splitn(3, ' ');
        let (kind, path, rest) =
            (words.next().unwrap(), words.next().unwrap(), words.next().unwrap_or_default());
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match kind {
            "dir" => fs::create_dir_all(path).unwrap(),
            "link" => symlink(rest, path).unwrap(),
            "file" => fs::write(path, unescaped(rest)).unwrap(),
            "zeros" => fs::File::create(path).unwrap().set_len(rest.parse().unwrap()).unwrap(),
            "hex" => fs::write(path, bytes(rest)).unwrap(),
            "window" => {
                let (offset, digits) = rest.split_once(' ').unwrap();
                let file = fs::OpenOptions::new().write(true).open(path).unwrap();
                file.write_all_at(&bytes(digits), offset.parse().unwrap()).unwrap();
            }
            _ => panic!("{line}"),
        }
    }
}

fn bytes(digits: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(byte).collect()
}

fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match (c, c == '\\') {
            (_, false) => out.push(c),
            (_, true) => match characters.next() {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                other => out.extend(other),
            },
        }
    }
    out
}

/// Options of lsblk, and the file below expected/mixed that holds what util-linux 2.41.5 printed for them on
/// 2026-11-24: `lsblk --sysroot DIR OPTIONS`.
const LSBLK: &[(&str, &str, &str)] = &[
    ("", "C", "lsblk.txt"),
    ("", "C.UTF-8", "lsblk-utf8.txt"),
    ("-a", "C", "lsblk-a.txt"),
    ("-l", "C", "lsblk-l.txt"),
    ("-J", "C", "lsblk-J.txt"),
    ("-P", "C", "lsblk-P.txt"),
    ("-r", "C", "lsblk-r.txt"),
    ("-S", "C", "lsblk-S.txt"),
    ("-p -o NAME,KNAME,PKNAME,PATH,TYPE,MOUNTPOINT,START", "C", "lsblk-p-o.txt"),
    ("-dnb -o NAME,SIZE,MODEL,VENDOR,STATE,TRAN,HCTL", "C", "lsblk-dnb-o.txt"),
];

#[test]
fn lsblk_prints_what_util_linux_printed() {
    let directory = tempfile::tempdir().unwrap();
    lay_out("mixed", directory.path());
    for (options, locale, expected) in LSBLK {
        let mut arguments = vec!["lsblk", "--sysroot", directory.path().to_str().unwrap()];
        arguments.extend(options.split_whitespace());
        let ours = rescue(&arguments, locale);
        let expected = fs::read_to_string(tests().join("expected/mixed").join(expected)).unwrap();
        assert_eq!(text(&ours), expected, "lsblk {options}");
        assert_eq!(ours.status.code(), Some(0), "lsblk {options}");
    }
}

#[test]
fn lsblk_prints_what_util_linux_prints_today() {
    let directory = tempfile::tempdir().unwrap();
    lay_out("mixed", directory.path());
    let sysroot = directory.path().to_str().unwrap();
    for options in
        ["", "-l", "-J", "-P", "-r", "-d", "-n", "-b -J", "-p", "-i", "-o NAME,SIZE -n", "-dno NAME"]
    {
        let Some(mut lsblk) = peers::peer("lsblk") else { return };
        let theirs = peers::done(lsblk.args(["--sysroot", sysroot]).args(options.split_whitespace()));
        let arguments: Vec<&str> =
            ["lsblk", "--sysroot", sysroot].into_iter().chain(options.split_whitespace()).collect();
        assert_eq!(text(&rescue(&arguments, "C")), text(&theirs), "lsblk {options}");
    }
}

#[test]
fn status_shows_every_drive_and_volume_and_ends_with_the_next_command() {
    let directory = tempfile::tempdir().unwrap();
    lay_out("mixed", directory.path());
    let status = text(&rescue(&["status", "--sysroot", directory.path().to_str().unwrap()], "C"));
    for name in ["sda", "|-sda1", "`-sdb3", "nvme0n1", "md0", "vg-root", "crypt"] {
        assert!(status.lines().any(|line| line.starts_with(&format!("{name} "))), "{name} in\n{status}");
    }
    assert!(status.starts_with("4 disks, guarded"), "{status}");
    assert!(status.lines().last().unwrap().starts_with("Next: "), "{status}");
    assert!(!status.contains("loop0"), "the image's own layer in\n{status}");
}

#[test]
fn a_disk_without_an_answer_is_named_and_what_stands_on_it_is_not_touched() {
    let directory = tempfile::tempdir().unwrap();
    lay_out("mixed", directory.path());
    let hung = directory.path().join("run/lifeboat/hung");
    fs::create_dir_all(&hung).unwrap();
    // sda has diskseq 1; process 42 lives.
    fs::write(hung.join("1"), "42 /dev/sda\n").unwrap();
    fs::create_dir_all(directory.path().join("proc/42")).unwrap();
    fs::write(directory.path().join("proc/42/stat"), "42 (rescue) D 1 42\n").unwrap();
    let status = text(&rescue(&["status", "--sysroot", directory.path().to_str().unwrap()], "C"));
    let problem =
        "  ! /dev/sda hangs: process 42 has been waiting for it; this disk is not touched until it answers";
    assert!(status.lines().any(|line| line == problem), "{status}");
    let md0 = status.lines().find(|line| line.starts_with("md0 ")).unwrap();
    assert!(md0.contains("it stands on /dev/sda1, which hangs"), "{status}");
    fs::write(directory.path().join("proc/42/stat"), "42 (rescue) Z 1 42\n").unwrap();
    let status = text(&rescue(&["status", "--sysroot", directory.path().to_str().unwrap()], "C"));
    assert!(!status.contains("hangs"), "{status}");
}
